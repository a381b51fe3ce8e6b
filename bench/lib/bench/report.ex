defmodule Bench.Report do
  @moduledoc false
  # A result as text: a table that reads well in a terminal and as markdown. Pure: bench/report, which
  # has only a saved run, uses it too.

  alias Bench.Bar

  @doc "All of one scenario."
  @spec text(Bench.Runner.result()) :: String.t()
  def text(result) do
    head = "#{result.name}: #{result.question}\n#{conditions(result)}"
    bars = for bar <- result.bars, do: "bar: " <> bar(bar)
    Enum.join([head, table(result)] ++ failures(result) ++ bars, "\n\n")
  end

  @doc "The sizes, the rounds, and what else went on meanwhile."
  @spec conditions(Bench.Runner.result()) :: String.t()
  def conditions(result) do
    {before, later} = result.load

    "#{sizes(result.sizes)}; #{rounds(result)}; load #{before} before, #{later} after; " <>
      "others used #{figure(result.strangers)} cores"
  end

  defp sizes(sizes) do
    Enum.map_join(sizes, ", ", fn {name, value} ->
      "#{name} #{value |> List.wrap() |> Enum.join(" ")}"
    end)
  end

  defp rounds(%{quick: true, rounds: rounds}),
    do: "#{rounds} rounds, quick: the figures mean nothing"

  defp rounds(%{rounds: rounds}), do: "#{rounds} rounds, medians"

  @doc "Who is of what version, a line for all columns of one and the same; empty if nobody kept it."
  @spec versions([{String.t(), String.t()}]) :: String.t()
  def versions([]), do: ""

  def versions(versions) do
    rows =
      for version <- versions |> Enum.map(&elem(&1, 1)) |> Enum.uniq() do
        columns = for {column, ^version} <- versions, uniq: true, do: column
        "| #{Enum.join(columns, "; ")} | #{version} |"
      end

    Enum.join(["| column | version |", "|---|---|" | rows], "\n")
  end

  @doc "Why who failed did."
  @spec failures(Bench.Runner.result()) :: [String.t()]
  def failures(result), do: for({column, why} <- result.failures, do: "#{column} FAILED: #{why}")

  @doc "A bar in one line: what was asked, what was seen, what that means."
  @spec bar(Bar.judged()) :: String.t()
  def bar(bar) do
    [Bar.requirement(bar) <> ":", seen(bar), Bar.verdict(bar)]
    |> Enum.reject(&(&1 == ""))
    |> Enum.join(" ")
  end

  @doc "What was seen of what a bar asks for; empty if it could not be judged."
  @spec seen(Bar.judged()) :: String.t()
  def seen(%{seen: nil}), do: ""

  def seen(%{seen: seen, against: against}) do
    number = if against == nil, do: &figure/1, else: &ratio/1
    "#{interval(seen, number)} (#{round(seen.confidence * 100)} %)"
  end

  @doc "How many bars of a whole run were met, and which were missed."
  @spec summary([Bench.Runner.result()]) :: String.t()
  def summary(results) do
    judged = for result <- results, bar <- result.bars, do: {result.name, bar}
    count = Enum.frequencies_by(judged, fn {_name, bar} -> bar.verdict end)

    counted =
      Enum.map_join([:met, :open, :missed, :not_judged], ", ", fn verdict ->
        "#{Map.get(count, verdict, 0)} #{verdict |> to_string() |> String.replace("_", " ")}"
      end)

    missed = for {name, %{verdict: :missed} = bar} <- judged, do: "\n#{name}: #{bar(bar)}"
    "bars: #{counted}#{missed}"
  end

  ## The table

  @spec table(Bench.Runner.result()) :: String.t()
  def table(result) do
    paired = paired(result)
    names = Enum.map(result.metrics, & &1.name)
    head = ["column" | Enum.flat_map(Enum.zip(names, paired), &head(&1, result))] ++ ["data"]
    rows = Enum.map(result.rows, &row(&1, paired))

    widths =
      for column <- Enum.zip([head | rows]),
          do: column |> Tuple.to_list() |> Enum.map(&String.length/1) |> Enum.max()

    [line(head, widths), rule(widths) | Enum.map(rows, &line(&1, widths))] |> Enum.join("\n")
  end

  # Which metrics have ratios in any row.
  defp paired(result) do
    for index <- 0..(length(result.metrics) - 1) do
      Enum.any?(result.rows, fn row -> match?(%{ratio: %{}}, Enum.at(row.cells, index)) end)
    end
  end

  defp head({name, true}, result), do: [name, "/ #{result.baseline} [interval]"]
  defp head({name, false}, _result), do: [name]

  defp row(row, paired) do
    [row.column | Enum.flat_map(Enum.zip(row.cells, paired), &cell/1)] ++ [state(row.state)]
  end

  # Why one failed may be long, and is told below the table.
  defp state("FAILED: " <> _why), do: "FAILED"
  defp state(ok_or_no), do: ok_or_no

  defp cell({nil, true}), do: ["-", ""]
  defp cell({nil, false}), do: ["-"]
  defp cell({cell, false}), do: [figure(cell.median)]

  defp cell({%{ratio: %{} = ratio} = cell, true}),
    do: [figure(cell.median), interval(ratio, &ratio/1)]

  defp cell({cell, true}), do: [figure(cell.median), "1"]

  defp line(cells, widths) do
    padded = for {cell, width} <- Enum.zip(cells, widths), do: String.pad_trailing(cell, width)
    "| " <> Enum.join(padded, " | ") <> " |"
  end

  defp rule(widths), do: "|" <> Enum.map_join(widths, "|", &String.duplicate("-", &1 + 2)) <> "|"

  ## Numbers

  defp interval(%{median: median, low: low, high: high}, number),
    do: "#{number.(median)} [#{number.(low)}, #{number.(high)}]"

  @doc "A ratio, always with two digits behind the point."
  @spec ratio(number) :: String.t()
  def ratio(value), do: decimals(value, 2)

  @doc "A number with as many digits as say something."
  @spec figure(number) :: String.t()
  def figure(value) when value >= 100, do: value |> round() |> Integer.to_string()
  def figure(value) when value >= 10, do: decimals(value, 1)
  def figure(value) when value >= 0.1, do: decimals(value, 2)
  def figure(value) when value >= 0.01, do: decimals(value, 3)
  def figure(value) when value > 0, do: decimals(value, 5)
  def figure(value) when value < 0, do: "-" <> figure(-value)
  def figure(_zero), do: "0"

  defp decimals(value, count), do: :erlang.float_to_binary(value / 1, decimals: count)
end
