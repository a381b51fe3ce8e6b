defmodule Compare.Rows.Timers do
  @moduledoc false
  # A look only, on a machine that may be busy; bench/lib/bench/scenarios has the measurements.
  @behaviour Compare.Row
  import Compare.Row
  alias Compare.{Library, World}

  @commands 50

  def question,
    do: "50 commands are read at full speed: does a 1 ms timer beside them come within 50 ms?"

  def ask(lib, %{tag: tag, quick?: quick?}) do
    {mib, rounds} = if quick?, do: {1, 1}, else: {10, 5}
    # Whatever is loaded or started for the first time is not what is asked for.
    round(lib, tag, 1)
    late = for _ <- 1..rounds, do: round(lib, tag, mib)
    all = for {p99, _most, _bytes, _ms} <- late, do: p99
    {p99, most, bytes, ms} = late |> Enum.sort() |> Enum.at(div(rounds, 2))

    yes?(
      p99 < 50,
      "late by p99 #{p99}, at most #{most} ms, while #{div(bytes, 1_048_576)} of #{@commands * mib} MiB came in #{ms} ms " <>
        "(the median of #{rounds} rounds, p99: #{all |> Enum.sort() |> Enum.join(", ")})"
    )
  end

  defp round(lib, tag, mib) do
    cmd = World.tagged(["dd", "if=/dev/zero", "bs=64k", "count=#{16 * mib}", "status=none"], tag)
    timer = Task.async(fn -> tick([]) end)
    since = World.now()

    readers =
      for _ <- 1..@commands do
        Task.async(fn ->
          counter = :counters.new(1, [])
          Library.each(lib, cmd, &:counters.add(counter, 1, IO.iodata_length(&1)))
          :counters.get(counter, 1)
        end)
      end

    bytes = readers |> Task.await_many(30_000) |> Enum.sum()
    took = World.now() - since
    send(timer.pid, :enough)
    late = timer |> Task.await() |> Enum.sort()
    {late_at(late, 0.99), late_at(late, 1), bytes, took}
  end

  defp late_at(late, share),
    do: Float.round(Enum.at(late, trunc(share * (length(late) - 1))) / 1000, 1)

  defp tick(late) do
    due = System.monotonic_time(:microsecond) + 1_000

    receive do
      :enough -> late
    after
      1 -> tick([max(0, System.monotonic_time(:microsecond) - due) | late])
    end
  end
end
