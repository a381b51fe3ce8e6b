defmodule NetRunner.Test.Chaos.Plan do
  @moduledoc """
  Everything that chaos draws for one worker BEAM, from the seed and the worker's number alone: how many
  epochs it lives, how each is filled and harmed, and how it ends. The driver and the worker both
  ask for it and get the same answer.

  Three pairs of harm are never done to the same family, because nobody would be left to end it soon:

    * zygote and guardian both harmed for good (docs/limits.md, "Hostile commands of the same user"). So
      an epoch has two parts. In the first zygotes are killed; in the second the guardians of the zygote
      that is then in office are killed and frozen, and this zygote is not killed any more before
      everything has settled.
    * a guardian frozen for good and its command's server killed: only the server would have noticed soon.
      (`NetRunner.Shepherd` does after grace + 4 s, unless the zygote is another by then.) `Harm` leaves out what would be the second of the two.
    * a guardian frozen for good before it has answered its start, and its zygote killed before the start times
      out: nobody else knows its pid. `Harm` freezes only those whose commands have started.
  """

  # Few, so that half a minute sees several BEAMs killed.
  @epochs [{5, 1}, {3, 2}, {2, 3}]
  @epoch_ms 2_000..8_000
  @most_at_once 64

  # Mean milliseconds between two harms.
  @harm_every 150
  @anytime [{6, :owner_kill}, {2, :server_kill}, {1, :zygote_stop}]
  @first_part [{3, :zygote_kill}, {1, :zygote_stop_kill} | @anytime]
  @second_part [{8, :guardian_kill}, {4, :guardian_stop}, {2, :guardian_freeze} | @anytime]

  @type harm :: %{at: non_neg_integer, what: atom, pick: float, for: non_neg_integer}
  @type epoch :: %{
          ms: pos_integer,
          at_once: pos_integer,
          slots: [integer],
          harms: [harm],
          beam_stops: [%{at: non_neg_integer, for: pos_integer}]
        }
  @type t :: %{epochs: [epoch, ...], ending: :peace | {:killed, at :: non_neg_integer}}

  @doc "The plan of a worker."
  @spec of(integer, pos_integer) :: t
  def of(seed, worker) do
    :rand.seed(:exsss, {seed, worker, 0})
    epochs = for _ <- 1..weighted(@epochs), do: epoch()
    %{epochs: epochs, ending: ending(List.last(epochs).ms)}
  end

  defp epoch do
    ms = uniform(@epoch_ms)
    # As often 2 to 4 as 32 to 64.
    at_once = min(@most_at_once, round(:math.pow(2, 1 + 5 * :rand.uniform())))
    turn = uniform(0..ms)
    harms = for _ <- 1..div(ms, @harm_every), do: harm(uniform(0..ms), turn)

    %{
      ms: ms,
      at_once: at_once,
      slots: for(_ <- 1..at_once, do: uniform(1..1_000_000_000)),
      harms: Enum.sort_by(harms, & &1.at),
      beam_stops: for(_ <- 1..3, chance?(0.2), do: %{at: uniform(0..ms), for: uniform(20..800)})
    }
  end

  defp harm(at, turn) do
    what = weighted(if at < turn, do: @first_part, else: @second_part)
    %{at: at, what: what, pick: :rand.uniform(), for: uniform(20..600)}
  end

  defp ending(ms), do: if(chance?(0.5), do: {:killed, uniform(0..ms)}, else: :peace)

  @doc "The epoch's beginning, for a run that is about to be over."
  @spec cut(epoch, pos_integer) :: epoch
  def cut(epoch, ms) do
    %{epoch | ms: min(epoch.ms, ms), harms: Enum.filter(epoch.harms, &(&1.at < ms))}
  end

  @doc "One of `{weight, value}`, from the calling process's :rand state."
  @spec weighted([{pos_integer, value}, ...]) :: value when value: term
  def weighted(choices) do
    total = choices |> Enum.map(&elem(&1, 0)) |> Enum.sum()
    pick(choices, :rand.uniform(total))
  end

  defp pick([{weight, value} | _rest], n) when n <= weight, do: value
  defp pick([{weight, _value} | rest], n), do: pick(rest, n - weight)

  @doc "One number of a range, from the calling process's :rand state."
  @spec uniform(Range.t()) :: integer
  def uniform(first..last//1), do: first - 1 + :rand.uniform(last - first + 1)

  defp chance?(p), do: :rand.uniform() < p
end
