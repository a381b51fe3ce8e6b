defmodule Bench.Stats do
  @moduledoc false
  # Medians, percentiles, and the interval of a median by the sign test: no assumption about how the
  # values are spread but that rounds are independent, and the same figures give the same interval.

  @spec median([number]) :: float
  def median(values) do
    sorted = Enum.sort(values)
    count = length(sorted)
    half = div(count, 2)

    if rem(count, 2) == 1,
      do: Enum.at(sorted, half) / 1,
      else: (Enum.at(sorted, half - 1) + Enum.at(sorted, half)) / 2
  end

  @doc "The nearest-rank percentile."
  @spec percentile([number], number) :: number
  def percentile(values, percent) do
    rank = ceil(percent / 100 * length(values))
    values |> Enum.sort() |> Enum.at(max(rank, 1) - 1)
  end

  @doc """
  `{low, high, confidence}`: the narrowest pair of order statistics that holds the true median with at
  least 95 %, or the lowest and the highest value and what they are good for.
  """
  @spec interval([number]) :: {number, number, float}
  def interval(values) do
    sorted = Enum.sort(values)
    count = length(sorted)
    cut = Enum.find(div(count - 1, 2)..0//-1, 0, &(confidence(count, &1) >= 0.95))
    {Enum.at(sorted, cut), Enum.at(sorted, count - 1 - cut), confidence(count, cut)}
  end

  # The chance that the median lies between the values after leaving out `cut` at each side.
  defp confidence(count, cut) do
    tail = Enum.sum(for k <- 0..cut, do: choose(count, k)) / :math.pow(2, count)
    max(1 - 2 * tail, 0.0)
  end

  defp choose(_n, 0), do: 1
  defp choose(n, k), do: div(choose(n, k - 1) * (n - k + 1), k)
end
