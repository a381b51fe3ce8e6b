defmodule Bench.Metric do
  @moduledoc """
  The metrics that several scenarios share. "Own" CPU time is that of the BEAM, or of the C program in
  its place; "other" that of everything it started, helpers included.
  """

  @mib 1024 * 1024
  @gib 1024 * @mib

  def mib_per_s,
    do: metric("MiB/s", fn m -> m.work / @mib / (m.wall_us / 1.0e6) end, true)

  def own_per_gib,
    do: metric("own CPU s/GiB", fn m -> m.own_us / 1.0e6 / (m.work / @gib) end, true)

  def other_per_gib,
    do: metric("other CPU s/GiB", fn m -> m.other_us / 1.0e6 / (m.work / @gib) end)

  def per_s(name), do: metric(name, fn m -> m.work / (m.wall_us / 1.0e6) end, true)
  def own_us_per(unit), do: metric("own CPU us/#{unit}", fn m -> m.own_us / m.work end, true)
  def other_us_per(unit), do: metric("other CPU us/#{unit}", fn m -> m.other_us / m.work end)

  def p50(paired \\ true), do: metric("p50 us", &percentile(&1, 50), paired)
  def p99(paired \\ true), do: metric("p99 us", &percentile(&1, 99), paired)

  defp percentile(%{samples: samples}, percent), do: Bench.Stats.percentile(samples, percent)
  defp percentile(_measurement, _percent), do: nil

  def metric(name, of, paired \\ false), do: %{name: name, of: of, paired: paired}
end
