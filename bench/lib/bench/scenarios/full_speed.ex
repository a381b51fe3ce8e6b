defmodule Bench.Scenarios.FullSpeed do
  @moduledoc false
  # What the scenarios of streams at full speed share: N commands write as fast as they are read while
  # a process sets 1 ms timers. How much comes, and how late the timers are, is of the same window: who
  # lets one take all of the BEAM has it at the price of the other. The samples are the lateness.
  # Left to each of them are its question, its sizes, its bars, and how often.

  import Bench.Metric
  alias Bench.{Crowd, Lateness, Stamp}

  # More than any of them reads.
  @endless 1_099_511_627_776

  def needs, do: :fold
  def baseline, do: "Port"

  def measure(contestant, %{streams: streams, block: block, window_ms: window_ms}) do
    producer = [Bench.Native.path(:producer), "stream", "#{@endless}", "#{block}"]

    window =
      Crowd.run(contestant, producer, streams, &Stamp.check/2, fn ->
        Lateness.until(System.monotonic_time(:microsecond) + window_ms * 1000)
      end)

    bytes = Enum.sum(window.each)

    %{
      work: bytes,
      wrong: if(bytes == 0, do: "nothing came"),
      samples: window.result,
      slowest: Enum.min(window.each) * streams / max(bytes, 1),
      wall_us: window.wall_us,
      own_us: window.own_us
    }
  end

  def metrics do
    [
      mib_per_s(),
      p50("timer p50 us"),
      p99("timer p99 us"),
      own_per_gib(),
      metric("slowest/mean", :detail, & &1.slowest)
    ]
  end
end

defmodule Bench.Scenarios.TimerJitter do
  # Do a few streams hold up the rest of the BEAM?

  use Bench.Scenario, like: Bench.Scenarios.FullSpeed

  @impl true
  def question, do: "How late is a 1 ms timer while four commands stream at full speed?"

  @impl true
  def sizes(:full), do: %{streams: 4, block: 65_536, window_ms: 1500}
  def sizes(:quick), do: %{streams: 4, block: 65_536, window_ms: 200}
end

defmodule Bench.Scenarios.FullSpeed100 do
  # Is there still room for others beside a hundred streams?

  use Bench.Scenario, like: Bench.Scenarios.FullSpeed

  @impl true
  def question, do: "How much do 100 streams at full speed bring, and how late is a 1 ms timer?"

  @impl true
  def sizes(:full), do: %{streams: 100, block: 65_536, window_ms: 3000}
  def sizes(:quick), do: %{streams: 20, block: 65_536, window_ms: 200}

  @impl true
  def bars, do: [bar("auto", "timer p99 us", :at_most, 10_000)]
end

defmodule Bench.Scenarios.FullSpeed1000 do
  # And beside a thousand?

  use Bench.Scenario, like: Bench.Scenarios.FullSpeed

  @impl true
  def question, do: "How much do 1,000 streams at full speed bring, and how late is a 1 ms timer?"

  @impl true
  def sizes(:full), do: %{streams: 1000, block: 65_536, window_ms: 3000}
  def sizes(:quick), do: %{streams: 40, block: 65_536, window_ms: 200}

  @impl true
  def bars do
    [
      bar("auto", "MiB/s", :at_least, 1.2, :best_peer),
      # Of the same one: who moves little has a timer that is hardly ever late.
      bar("auto", "timer p99 us", :at_most, 0.5, {:best_peer, "MiB/s"})
    ]
  end
end

defmodule Bench.Scenarios.FullSpeed1000Long do
  # And when they have run for a while? A thousand streams begin faster than they go on.

  use Bench.Scenario, like: Bench.Scenarios.FullSpeed1000

  @impl true
  def question, do: "And what are the same 1,000 in 20 seconds?"

  @impl true
  def sizes(:full), do: %{Bench.Scenarios.FullSpeed1000.sizes(:full) | window_ms: 20_000}
  def sizes(:quick), do: Bench.Scenarios.FullSpeed1000.sizes(:quick)
end
