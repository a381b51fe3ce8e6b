defmodule Bench.Figures do
  @moduledoc false
  # From measurements, round by round, to what is shown of them: medians, their intervals, and the same
  # of the ratios within each round. The rounds' values stay with them, for whoever judges or saves.

  alias Bench.{Metric, Stats}

  @type estimate :: %{median: float, low: number, high: number, confidence: float}
  @type cell :: %{
          values: [number | nil],
          median: float,
          low: number,
          high: number,
          confidence: float,
          ratio: estimate | nil
        }
  @type role :: :reference | :ours | :peer
  # A row's state is "ok", "FAILED: why" or "no: why".
  @type row :: %{column: String.t(), role: role, cells: [cell | nil], state: String.t()}

  @doc "A row per column; what failed says why, and keeps what it had measured before."
  @spec table(
          [%{name: String.t(), role: role}],
          map,
          [{String.t(), String.t()}],
          [Metric.t()],
          String.t()
        ) ::
          [row]
  def table(columns, measured, failures, metrics, baseline) do
    base = Map.get(measured, baseline, [])

    for %{name: name, role: role} <- columns do
      measurements = Map.get(measured, name, [])
      against = if name != baseline, do: base, else: []

      %{
        column: name,
        role: role,
        cells: Enum.map(metrics, &cell(&1, measurements, against)),
        state: state(List.keyfind(failures, name, 0))
      }
    end
  end

  @doc "The row of who has no call for what is asked."
  @spec unable(%{name: String.t(), role: role, why: String.t()}, [Metric.t()]) :: row
  def unable(%{name: name, role: role, why: why}, metrics),
    do: %{
      column: name,
      role: role,
      cells: Enum.map(metrics, fn _ -> nil end),
      state: "no: " <> why
    }

  defp state(nil), do: "ok"
  defp state({_column, why}), do: "FAILED: " <> why

  defp cell(metric, measurements, base) do
    values = Enum.map(measurements, metric.of)

    if estimate = estimate(values) do
      against = if Metric.paired?(metric.kind), do: Enum.map(base, metric.of), else: []
      Map.merge(estimate, %{values: values, ratio: ratio(values, against)})
    end
  end

  @doc "The median of these values and the interval that holds it; nil if there are none."
  @spec estimate([number | nil]) :: estimate | nil
  def estimate(values) do
    case Enum.reject(values, &is_nil/1) do
      [] ->
        nil

      known ->
        {low, high, confidence} = Stats.interval(known)
        %{median: Stats.median(known), low: low, high: high, confidence: confidence}
    end
  end

  @doc "The same of the ratios within each round."
  @spec ratio([number | nil], [number | nil]) :: estimate | nil
  def ratio(values, against) do
    estimate(
      for {value, base} <- Enum.zip(values, against),
          value != nil and base not in [nil, 0, 0.0],
          do: value / base
    )
  end
end
