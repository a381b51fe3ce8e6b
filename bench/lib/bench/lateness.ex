defmodule Bench.Lateness do
  @moduledoc """
  How late 1 ms timers come, in microseconds: what everybody else on the BEAM feels of a benchmark.
  """

  @doc "One sample after the other until this System.monotonic_time(:microsecond)."
  def until(time), do: sample(fn -> System.monotonic_time(:microsecond) >= time end, [])

  @doc "One sample after the other while `fun` runs in another process: its result and the samples."
  def during(fun) do
    task = Task.async(fun)
    samples = sample(fn -> not Process.alive?(task.pid) end, [])
    {Task.await(task), samples}
  end

  defp sample(over?, samples) do
    if over?.() do
      samples
    else
      begin = System.monotonic_time(:microsecond)

      # A timer of 1 ms fires 1 to 2 ms later: its wheel turns once per millisecond.
      receive do
      after
        1 -> sample(over?, [System.monotonic_time(:microsecond) - begin - 1000 | samples])
      end
    end
  end
end
