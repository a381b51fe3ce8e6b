defmodule Bench.Page do
  @moduledoc """
  A saved run as one page of Markdown with a chart for each scenario: what `bench/report` makes.
  """

  alias Bench.{Bar, Chart, Report, Saved}

  @page "README.md"

  @doc "`bench/report FOLDER`, given the command line and the folder that relative names may start at."
  @spec main([String.t()], Path.t()) :: :ok | {:error, String.t()}
  def main([folder], base) do
    found = Enum.find([folder, Path.join(base, folder)], &File.dir?/1)

    if found, do: make(found), else: {:error, "no such folder: #{folder}"}
  end

  def main(_args, _base),
    do: {:error, "usage: bench/report FOLDER, as `mix bench --save` made it"}

  @doc "Writes the page and its charts into the folder of the run."
  @spec make(Path.t()) :: :ok | {:error, String.t()}
  def make(folder) do
    case Saved.read(folder) do
      [] ->
        {:error, "#{folder} holds no results (*.term): mix bench --save"}

      results ->
        with :ok <- Chart.check(), :ok <- draw_all(results, folder) do
          page = Path.join(folder, @page)
          File.write!(page, text(results))
          IO.puts("wrote #{page} and #{Enum.count(results, &Chart.drawable?/1)} charts")
        end
    end
  end

  defp draw_all(results, folder) do
    results
    |> Enum.filter(&Chart.drawable?/1)
    |> Enum.reduce_while(:ok, fn result, :ok ->
      case Chart.draw(result, Path.join(folder, chart(result))) do
        :ok -> {:cont, :ok}
        {:error, why} -> {:halt, {:error, "#{result.name}: #{why}"}}
      end
    end)
  end

  defp chart(result), do: result.name <> ".png"

  @doc "The page itself."
  @spec text([Bench.Runner.result()]) :: String.t()
  def text([first | _] = results) do
    paragraphs =
      ["# Benchmarks of #{String.slice(first.at, 0, 10)}"] ++
        conditions(results) ++
        [how_to_read()] ++
        contestants(results) ++
        ["## Bars", bars(results)] ++
        Enum.flat_map(results, &scenario/1)

    Enum.join(paragraphs, "\n\n") <> "\n"
  end

  # Scenarios of one page may be of several runs: at another commit, with other libraries loaded. Each is named with its own.
  defp conditions(results) do
    groups = results |> Enum.map(&{&1.machine, &1.absent}) |> Enum.uniq()

    quick =
      if Enum.any?(results, & &1.quick),
        do: ["**Some were made with --quick: those figures mean nothing.**"],
        else: []

    Enum.map(groups, &of_group(&1, results, length(groups) > 1)) ++ quick
  end

  defp of_group({machine, absent} = group, results, several?) do
    names = for result <- results, {result.machine, result.absent} == group, do: result.name
    where = if several?, do: Enum.map_join(names, ", ", &"[#{&1}](##{&1})") <> ": ", else: ""

    missing =
      if absent == [], do: [], else: ["Not loaded, so not measured: #{Enum.join(absent, ", ")}."]

    Enum.join([where <> machine | missing], ". ")
  end

  defp contestants(results) do
    case results |> Enum.flat_map(& &1.versions) |> Report.versions() do
      "" -> []
      table -> ["## Contestants", table]
    end
  end

  defp how_to_read do
    """
    Medians of the rounds. Whiskers and brackets are the interval that holds the median by the sign test; ratios are
    taken within each round. Where an interval of ratios holds 1, no difference was shown. A whisker that ends at the
    frame goes on beyond it. "Own" CPU time is that of the BEAM, or of the C program in its place. A library that is in a table of one
    scenario and not of another cannot do what that one asks for, or was left out of it (`--columns`). How it is measured:
    [bench/README.md](../../README.md).\
    """
  end

  defp bars(results) do
    rows = for result <- results, bar <- result.bars, do: bar_row(result, bar)

    if rows == [],
      do: "None were judged.",
      else: Enum.join(["| scenario | asked | seen | |", "|---|---|---|---|" | rows], "\n")
  end

  defp bar_row(result, bar) do
    verdict = if bar.verdict == :missed, do: "**missed**", else: Bar.verdict(bar)

    "| [#{result.name}](##{result.name}) | #{Bar.requirement(bar)} | #{Report.seen(bar)} | #{verdict} |"
  end

  defp picture(result) do
    if Chart.drawable?(result),
      do: "![#{result.name}](#{chart(result)})",
      else: "Nobody could be measured."
  end

  defp scenario(result) do
    [
      "## #{result.name}",
      result.question,
      picture(result),
      Report.table(result),
      Report.conditions(result)
    ] ++ Report.failures(result)
  end
end
