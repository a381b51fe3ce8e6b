defmodule Bench.Report do
  @moduledoc false
  # A result as text: a table that reads well in a terminal and as markdown.

  alias Bench.Machine

  @spec text(Bench.Runner.result()) :: String.t()
  def text(result) do
    Enum.join(
      [
        "#{result.name}: #{result.question}",
        "#{sizes(result.sizes)}; #{rounds(result)}; load #{elem(result.load, 0)} before, " <>
          "#{elem(result.load, 1)} after; others used #{figure(result.strangers)} cores",
        "",
        table(result)
        | bars(result.bars)
      ],
      "\n"
    )
  end

  @doc "Writes results/<date>-<scenario>.md; the same day's next run replaces it."
  @spec save(Bench.Runner.result(), String.t()) :: :ok
  def save(result, text) do
    path = Path.join("results", "#{Date.utc_today()}-#{result.name}.md")
    File.mkdir_p!("results")
    absent = Bench.Contestant.absent()
    not_measured = if absent == [], do: "", else: "\n\nNot measured: #{Enum.join(absent, ", ")}."
    File.write!(path, "# #{result.name}\n\n#{Machine.describe()}\n\n#{text}#{not_measured}\n")
    IO.puts("saved #{path}")
  end

  defp sizes(sizes), do: Enum.map_join(sizes, ", ", fn {name, value} -> "#{name} #{value}" end)

  defp rounds(%{quick: true, rounds: rounds}),
    do: "#{rounds} rounds, quick: the figures mean nothing"

  defp rounds(%{rounds: rounds}), do: "#{rounds} rounds, medians"

  defp table(result) do
    head = ["column" | Enum.flat_map(Enum.zip(result.metrics, paired(result)), &head(&1, result))]
    head = head ++ ["data"]

    rows =
      for row <- result.rows do
        cells = Enum.flat_map(Enum.zip(row.cells, paired(result)), &cell/1)
        [row.column | cells] ++ [row.state]
      end

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

  defp cell({nil, true}), do: ["-", ""]
  defp cell({nil, false}), do: ["-"]
  defp cell({cell, false}), do: [figure(cell.median)]
  defp cell({%{ratio: %{} = ratio} = cell, true}), do: [figure(cell.median), interval(ratio)]
  defp cell({cell, true}), do: [figure(cell.median), "1"]

  defp interval(ratio), do: "#{ratio(ratio.median)} [#{ratio(ratio.low)}, #{ratio(ratio.high)}]"

  defp line(cells, widths) do
    padded = for {cell, width} <- Enum.zip(cells, widths), do: String.pad_trailing(cell, width)
    "| " <> Enum.join(padded, " | ") <> " |"
  end

  defp rule(widths), do: "|" <> Enum.map_join(widths, "|", &String.duplicate("-", &1 + 2)) <> "|"

  defp bars(bars) do
    for bar <- bars do
      verdict = if bar.met, do: "met", else: "NOT MET"
      direction = if bar.direction == :at_least, do: "at least", else: "at most"
      confidence = round(bar.ratio.confidence * 100)

      "\nbar: #{bar.metric} of #{bar.column} #{direction} #{bar.limit} of the baseline's: " <>
        "#{interval(bar.ratio)} (#{confidence} %), #{verdict}"
    end
  end

  defp ratio(value), do: :erlang.float_to_binary(value / 1, decimals: 2)

  defp figure(value) when value >= 100, do: value |> round() |> Integer.to_string()
  defp figure(value) when value >= 10, do: :erlang.float_to_binary(value / 1, decimals: 1)
  defp figure(value) when value >= 0.1, do: :erlang.float_to_binary(value / 1, decimals: 2)
  defp figure(value), do: :erlang.float_to_binary(value / 1, decimals: 3)
end
