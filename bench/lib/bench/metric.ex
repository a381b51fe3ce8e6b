defmodule Bench.Metric do
  @moduledoc """
  What is computed from a measurement, and the metrics that several scenarios share.

  A metric's kind says all else about it: whether more or less is better, whether its ratio to the
  baseline is given, round by round, and what `:auto` is held to (`Bench.Bar.of_auto/1`).

  | kind | better | ratio | for example |
  |---|---|---|---|
  | `:throughput` | more | yes | MiB/s |
  | `:latency` | less | yes | a p50 |
  | `:cpu` | less | yes | CPU time per GiB |
  | `:cost` | less | yes | a p99, system calls per message |
  | `:amount` | less | no | KiB |
  | `:detail` | neither | no | what explains the others; no chart shows it |

  "Own" CPU time is that of the BEAM, or of the C program in its place; "other" that of everything it
  started, helpers included.
  """

  @type kind :: :throughput | :latency | :cpu | :cost | :amount | :detail
  @type t :: %{
          name: String.t(),
          kind: kind,
          of: (Bench.Scenario.measurement() -> number | nil)
        }

  @mib 1024 * 1024
  @gib 1024 * @mib

  @spec metric(String.t(), kind, (Bench.Scenario.measurement() -> number | nil)) :: t
  def metric(name, kind, of), do: %{name: name, kind: kind, of: of}

  @spec better(kind) :: :more | :less | nil
  def better(:throughput), do: :more
  def better(:detail), do: nil
  def better(_kind), do: :less

  @spec paired?(kind) :: boolean
  def paired?(kind), do: kind not in [:amount, :detail]

  def mib_per_s, do: metric("MiB/s", :throughput, &(&1.work / @mib / (&1.wall_us / 1.0e6)))
  def per_s(unit), do: metric("#{unit}/s", :throughput, &(&1.work / (&1.wall_us / 1.0e6)))

  def p50(name \\ "p50 us"), do: metric(name, :latency, &percentile(&1, 50))
  def p99(name \\ "p99 us"), do: metric(name, :cost, &percentile(&1, 99))

  def own_per_gib, do: metric("own CPU s/GiB", :cpu, &(&1.own_us / 1.0e6 / (&1.work / @gib)))

  def other_per_gib,
    do: metric("other CPU s/GiB", :detail, &(&1.other_us / 1.0e6 / (&1.work / @gib)))

  def own_us_per(unit), do: metric("own CPU us/#{unit}", :cpu, &(&1.own_us / &1.work))
  def other_us_per(unit), do: metric("other CPU us/#{unit}", :detail, &(&1.other_us / &1.work))

  @doc "Calls of `io_uring_enter`, of measurements with `counts` (`Bench.Counters`)."
  def enters, do: metric("enters", :detail, &(&1[:counts] && &1.counts.enters))

  defp percentile(%{samples: samples}, percent), do: Bench.Stats.percentile(samples, percent)
  defp percentile(_measurement, _percent), do: nil
end
