defmodule Bench.Scenarios.TimerJitter do
  # Does streaming hold up the rest of the BEAM? Four commands write as fast as they are read while a
  # process sets 1 ms timers; the samples are how late each one came. "idle" has no streams.

  use Bench.Scenario

  @impl true
  def question, do: "How late is a 1 ms timer while four commands stream at full speed?"

  @impl true
  def sizes(:full), do: %{streams: 4, block: 65_536, window_ms: 1500}
  def sizes(:quick), do: %{streams: 4, block: 65_536, window_ms: 200}

  @impl true
  def needs, do: :get

  @impl true
  def baseline, do: "poll"

  @impl true
  def measure(%{module: module, arg: arg}, sizes) do
    received = :counters.new(1, [:write_concurrency])
    producer = [Bench.Native.path(:producer), "stream", "#{1_099_511_627_776}", "#{sizes.block}"]

    readers =
      for _ <- 1..sizes.streams do
        spawn_link(fn -> arg |> module.open(producer) |> read(module, {0, 0}, received) end)
      end

    Process.sleep(200)
    before = :counters.get(received, 1)
    begin = System.monotonic_time(:microsecond)
    samples = Bench.Lateness.until(begin + sizes.window_ms * 1000)
    elapsed = System.monotonic_time(:microsecond) - begin
    bytes = :counters.get(received, 1) - before

    for reader <- readers do
      Process.unlink(reader)
      Process.exit(reader, :kill)
    end

    Process.sleep(100)

    %{
      work: bytes,
      wrong: if(bytes == 0, do: "nothing came"),
      samples: samples,
      wall_us: elapsed
    }
  end

  @impl true
  def metrics, do: [p50(), p99(), mib_per_s()]

  defp read(process, module, seen, received) do
    chunk = module.get(process)
    {_bytes, 0} = seen = Bench.Stamp.check(chunk, seen)
    :counters.add(received, 1, byte_size(chunk))
    read(process, module, seen, received)
  end
end
