defmodule Bench.Bar do
  @moduledoc """
  What a scenario's figures are held to: a limit for a column's metric, either for the figure itself or
  for its ratio to another column's, paired within rounds.

  A bar is met if the median reaches the limit. It is missed only if not even the better end of the
  interval does, of an interval of at least 95 %: else it is open, nothing was shown. Where one of the columns
  was not measured it is not judged, and says so.
  """

  alias Bench.{Figures, Metric}

  @typedoc """
  Against what:

    * `nil`: the figure itself is held to the limit
    * a column's name
    * `{:best, columns}`: the best of these by its median, if all of them took part
    * `:best_peer`: the best of other libraries and of what is built in; `{:best_peer, metric}` the one
      that is best in that metric
  """
  @type against ::
          nil | String.t() | {:best, [String.t()]} | :best_peer | {:best_peer, String.t()}

  @type t :: %{
          column: String.t(),
          metric: String.t(),
          direction: :at_least | :at_most,
          limit: number,
          against: against
        }

  @type verdict :: :met | :open | :missed | :not_judged
  @type judged :: %{
          column: String.t(),
          metric: String.t(),
          direction: :at_least | :at_most,
          limit: number,
          against: against,
          other: String.t() | nil,
          seen: Figures.estimate() | nil,
          verdict: verdict,
          why: String.t() | nil
        }

  # As intervals are from six rounds on.
  @confidence 0.95

  # What `:auto` may lose against the better of what it chooses from.
  @auto_throughput 0.95
  @auto_cost 1.05

  @doc "A requirement, for a scenario's `bars/0`."
  @spec bar(String.t(), String.t(), :at_least | :at_most, number, against) :: t
  def bar(column, metric, direction, limit, against \\ nil) do
    %{column: column, metric: metric, direction: direction, limit: limit, against: against}
  end

  @doc "What `:auto` is held to in every scenario: to choose no worse than by hand."
  @spec of_auto([Metric.t()]) :: [t]
  def of_auto(metrics) do
    for %{name: name, kind: kind} <- metrics, kind in [:throughput, :latency, :cpu] do
      {direction, limit} =
        if kind == :throughput, do: {:at_least, @auto_throughput}, else: {:at_most, @auto_cost}

      bar("auto", name, direction, limit, {:best, ["poll", "io_uring"]})
    end
  end

  @doc "What `:auto` is held to where a stream is alone: it has nothing to share a call of the ring with."
  @spec no_enters :: t
  def no_enters, do: bar("auto", "enters", :at_most, 0)

  @spec judge(t, [Figures.row()], [Metric.t()]) :: judged
  def judge(bar, rows, metrics) do
    open = Map.merge(bar, %{other: nil, seen: nil, verdict: :not_judged, why: nil})

    with {:ok, cell} <- cell(rows, metrics, bar.column, bar.metric),
         {:ok, other, seen} <- hold(bar, cell, rows, metrics) do
      %{open | other: other, seen: seen, verdict: verdict(bar, seen)}
    else
      {:error, why} -> %{open | why: why}
    end
  end

  defp verdict(%{direction: direction, limit: limit}, seen) do
    better_end = if direction == :at_least, do: seen.high, else: seen.low

    cond do
      reaches?(seen.median, direction, limit) -> :met
      reaches?(better_end, direction, limit) or seen.confidence < @confidence -> :open
      true -> :missed
    end
  end

  defp reaches?(value, :at_least, limit), do: value >= limit
  defp reaches?(value, :at_most, limit), do: value <= limit

  defp hold(%{against: nil}, cell, _rows, _metrics),
    do: {:ok, nil, Map.take(cell, [:median, :low, :high, :confidence])}

  defp hold(bar, cell, rows, metrics) do
    with {:ok, other} <- other(bar.against, bar.metric, rows, metrics),
         {:ok, base} <- cell(rows, metrics, other, bar.metric) do
      case Figures.ratio(cell.values, base.values) do
        nil -> {:error, "#{other} has no figure to divide by"}
        seen -> {:ok, other, seen}
      end
    end
  end

  defp other(column, _metric, _rows, _metrics) when is_binary(column), do: {:ok, column}
  # The better of two is not known of one.
  defp other({:best, columns}, metric, rows, metrics) do
    case for(column <- columns, {:error, why} <- [cell(rows, metrics, column, metric)], do: why) do
      [] -> best(columns, metric, rows, metrics)
      [why | _] -> {:error, why}
    end
  end

  defp other(:best_peer, metric, rows, metrics), do: best(peers(rows), metric, rows, metrics)
  defp other({:best_peer, by}, _metric, rows, metrics), do: best(peers(rows), by, rows, metrics)

  defp peers(rows), do: for(%{role: :peer, column: column} <- rows, do: column)

  defp best(columns, metric, rows, metrics) do
    %{kind: kind} = Enum.find(metrics, &(&1.name == metric))

    measured =
      for column <- columns,
          {:ok, %{median: median}} <- [cell(rows, metrics, column, metric)],
          do: {median, column}

    case {measured, Metric.better(kind)} do
      {[], _better} -> {:error, "nobody to compare with was measured"}
      {_some, :more} -> {:ok, measured |> Enum.max() |> elem(1)}
      {_some, :less} -> {:ok, measured |> Enum.min() |> elem(1)}
    end
  end

  # Who failed is out of the race, whatever it measured before.
  defp cell(rows, metrics, column, metric) do
    index = Enum.find_index(metrics, &(&1.name == metric))

    case Enum.find(rows, &(&1.column == column)) do
      %{state: "ok", cells: cells} ->
        case Enum.at(cells, index) do
          nil -> {:error, "#{column} has no such figure"}
          cell -> {:ok, cell}
        end

      %{state: "no: " <> why} ->
        {:error, "#{column} cannot (#{why})"}

      %{state: _failed} ->
        {:error, "#{column} failed"}

      nil ->
        {:error, "#{column} was not measured"}
    end
  end

  @doc "The requirement in words."
  @spec requirement(judged) :: String.t()
  def requirement(bar) do
    direction = if bar.direction == :at_least, do: "at least", else: "at most"
    "#{bar.metric} of #{bar.column} #{direction} #{bar.limit}#{of(bar.against, bar.other)}"
  end

  defp of(nil, _other), do: ""
  defp of(column, _other) when is_binary(column), do: " of #{column}'s"

  defp of({:best, columns}, other),
    do: " of the better of #{Enum.join(columns, " and ")}#{named(other)}"

  defp of(:best_peer, other), do: " of the best peer's#{named(other)}"
  defp of({:best_peer, by}, other), do: " of the peer's that is best in #{by}#{named(other)}"

  defp named(nil), do: ""
  defp named(other), do: " (#{other})"

  @spec verdict(judged) :: String.t()
  def verdict(%{verdict: :met}), do: "met"
  def verdict(%{verdict: :open}), do: "open"
  def verdict(%{verdict: :missed}), do: "MISSED"
  def verdict(%{verdict: :not_judged, why: why}), do: "not judged: #{why}"
end
