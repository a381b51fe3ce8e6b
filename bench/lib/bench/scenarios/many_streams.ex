defmodule Bench.Scenarios.ManyStreams do
  @moduledoc false
  # What the scenarios of many small messages share: N commands write one every so often, each at its
  # own moment, or without a pause. What is measured is CPU time and system calls per message. A message
  # is what a command wrote at once; one read may bring many.
  # Left to each of them are its question, its sizes, its bars, and how often.

  import Bench.Bar, only: [bar: 5]
  import Bench.Metric
  alias Bench.{Counters, Crowd}

  def needs, do: :fold
  def baseline, do: "poll"

  def measure(contestant, sizes) do
    producer = [Bench.Native.path(:producer), "paced", "#{sizes.message}", "#{sizes.every_us}"]

    window =
      Crowd.run(contestant, producer, sizes.streams, &count/2, fn ->
        Process.sleep(sizes.window_ms)
      end)

    messages = Enum.sum(window.each) / sizes.message
    share = share(messages, window.wall_us, sizes)

    %{
      work: messages,
      # The commands themselves are late on a busy machine; only a stall is wrong.
      wrong: if(share < 0.1, do: "#{round(share * 100)} % of the messages came"),
      share: share,
      wall_us: window.wall_us,
      own_us: window.own_us,
      calls: Counters.system_calls(window.reads_and_writes, window.counts),
      reads_and_writes: window.reads_and_writes,
      counts: window.counts
    }
  end

  # Messages carry no stamps.
  defp count(chunk, {bytes, wrong}), do: {bytes + byte_size(chunk), wrong}

  # Of the messages that were offered; of those without a pause, whether any came.
  defp share(messages, _wall_us, %{every_us: 0}), do: min(messages, 1.0)
  defp share(messages, wall_us, sizes), do: messages / (sizes.streams * wall_us / sizes.every_us)

  def metrics do
    [
      per_s("messages"),
      own_us_per("message"),
      metric("system calls/message", :cost, &(&1.calls && &1.calls / &1.work)),
      metric(
        "read+write/message",
        :detail,
        &(&1.reads_and_writes && &1.reads_and_writes / &1.work)
      ),
      counted("reads", :reads),
      counted("enif_select", :selects),
      counted("ring waits", :ring_waits),
      counted("enters", :enters),
      counted("harvests", :harvests),
      metric("came/offered", :detail, & &1.share)
    ]
  end

  defp counted(name, key),
    do: metric("#{name}/message", :detail, &(&1.counts && &1.counts[key] / &1.work))

  @doc "What a ring is to save where there are many streams."
  def bars_of_ring do
    for column <- ["io_uring", "auto"],
        {metric, limit} <- [{"own CPU us/message", 0.85}, {"system calls/message", 0.4}],
        do: bar(column, metric, :at_most, limit, "poll")
  end
end

defmodule Bench.Scenarios.ManyStreams100 do
  # What does a message cost when 100 commands write small ones at their own pace?

  use Bench.Scenario, like: Bench.Scenarios.ManyStreams

  @impl true
  def question, do: "What does a message cost, of 100 paced streams?"

  @impl true
  def sizes(:full), do: %{streams: 100, message: 1024, every_us: 100_000, window_ms: 2000}
  def sizes(:quick), do: %{streams: 20, message: 1024, every_us: 100_000, window_ms: 300}
end

defmodule Bench.Scenarios.ManyStreams1000 do
  # What does a message cost when 1,000 commands write small ones at their own pace? Here a ring that
  # registers once is to be ahead of a poll set that is armed again for each message.

  use Bench.Scenario, like: Bench.Scenarios.ManyStreams

  @impl true
  def question, do: "What does a message cost, of 1,000 paced streams?"

  @impl true
  def sizes(:full), do: %{streams: 1000, message: 1024, every_us: 100_000, window_ms: 2000}
  def sizes(:quick), do: %{streams: 50, message: 1024, every_us: 100_000, window_ms: 300}

  @impl true
  def bars, do: Bench.Scenarios.ManyStreams.bars_of_ring()
end

defmodule Bench.Scenarios.Paced1000 do
  # What does a message cost when 1,000 commands write 4 KiB every 10 ms, which is more than two cores
  # can serve?

  use Bench.Scenario, like: Bench.Scenarios.ManyStreams

  @impl true
  def question, do: "What does a message cost, of 1,000 streams that are paced fast?"

  @impl true
  def sizes(:full), do: %{streams: 1000, message: 4096, every_us: 10_000, window_ms: 2000}
  def sizes(:quick), do: %{streams: 50, message: 4096, every_us: 10_000, window_ms: 300}

  @impl true
  def bars do
    [
      bar("auto", "messages/s", :at_least, 1, :best_peer),
      bar("auto", "own CPU us/message", :at_most, 0.8, {:best_peer, "messages/s"})
      | Bench.Scenarios.ManyStreams.bars_of_ring()
    ]
  end
end

defmodule Bench.Scenarios.Unpaced1000 do
  # What does a message cost when 1,000 commands write small ones without a pause? Each fills its pipe
  # whenever it has a processor, so that a read brings many messages.

  use Bench.Scenario, like: Bench.Scenarios.ManyStreams

  @impl true
  def question, do: "What does a message cost, of 1,000 streams of small ones without a pause?"

  @impl true
  def sizes(:full), do: %{streams: 1000, message: 1024, every_us: 0, window_ms: 2000}
  def sizes(:quick), do: %{streams: 50, message: 1024, every_us: 0, window_ms: 300}

  @impl true
  def bars, do: Bench.Scenarios.ManyStreams.bars_of_ring()
end
