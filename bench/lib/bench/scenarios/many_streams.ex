defmodule Bench.Scenarios.ManyStreams do
  @moduledoc false
  # What the scenarios of many paced streams share. N commands write a message every so often, each at
  # its own moment, and one process per command reads. After all of them run, the clocks are read
  # around a window of time: what is measured is CPU time and system calls per message, not starting.

  # What is left to each of them: its question, its sizes, and how often.
  defmacro __using__(_options) do
    quote do
      use Bench.Scenario

      @impl true
      def needs, do: :get

      @impl true
      def baseline, do: "poll"

      @impl true
      defdelegate measure(contestant, sizes), to: unquote(__MODULE__)

      @impl true
      defdelegate metrics, to: unquote(__MODULE__)
    end
  end

  # Tasks that start and read; the scenario's process only counts.
  @settle_ms 500

  def measure(%{module: module, arg: arg}, sizes) do
    received = :counters.new(1, [:write_concurrency])
    helpers = length(offspring())
    caller = self()

    readers =
      for _ <- 1..sizes.streams do
        spawn_link(fn ->
          process = module.open(arg, producer(sizes))
          send(caller, {:opened, self(), process})
          read(module, process, received)
        end)
      end

    processes =
      for reader <- readers do
        receive do
          {:opened, ^reader, process} -> process
        end
      end

    Process.sleep(@settle_ms)
    before = look(module, processes, received)
    Process.sleep(sizes.window_ms)
    later = look(module, processes, received)

    for reader <- readers do
      Process.unlink(reader)
      Process.exit(reader, :kill)
    end

    wait_for_end(helpers, 1000)
    summary(before, later, sizes)
  end

  defp producer(sizes),
    do: [Bench.Native.path(:producer), "paced", "#{sizes.message}", "#{sizes.every_us}"]

  defp read(module, process, received) do
    chunk = module.get(process)
    :counters.add(received, 1, byte_size(chunk))
    read(module, process, received)
  end

  defp look(module, processes, received) do
    stats =
      if function_exported?(module, :stats, 1) do
        for process <- processes, reduce: %{} do
          sum ->
            counters = module.stats(process)
            Map.merge(sum, Map.take(counters, [:ops, :waits_poll, :waits_io_uring]), &add/3)
        end
      end

    %{
      bytes: :counters.get(received, 1),
      cpu: Bench.Cpu.now(),
      at: System.monotonic_time(:microsecond),
      stats: stats,
      ring: if(stats, do: NetRunner.Nif.rings_info())
    }
  end

  defp add(_key, one, other), do: one + other

  defp summary(before, later, sizes) do
    messages = (later.bytes - before.bytes) / sizes.message
    elapsed = later.at - before.at
    offered = sizes.streams * elapsed / sizes.every_us
    share = messages / offered

    %{
      work: messages,
      # The commands themselves are late on a busy machine; only a stall is wrong.
      wrong: if(share < 0.1, do: "#{round(share * 100)} % of the messages came"),
      share: share,
      wall_us: elapsed,
      own_us: later.cpu.own - before.cpu.own,
      counts: later.stats && counts(before, later)
    }
  end

  defp counts(before, later) do
    %{
      reads: later.stats.ops - before.stats.ops,
      selects: later.stats.waits_poll - before.stats.waits_poll,
      ring_waits: later.stats.waits_io_uring - before.stats.waits_io_uring,
      enters: later.ring.enters - before.ring.enters,
      harvests: later.ring.harvests - before.ring.harvests
    }
  end

  def metrics do
    [Bench.Metric.own_us_per("message")] ++
      for {name, key} <- [
            {"reads", :reads},
            {"enif_select", :selects},
            {"ring waits", :ring_waits},
            {"enters", :enters},
            {"harvests", :harvests}
          ] do
        Bench.Metric.metric("#{name}/message", fn m -> m.counts && m.counts[key] / m.work end)
      end ++ [Bench.Metric.metric("came/offered", & &1.share)]
  end

  # What our helpers have started and what those have.
  defp offspring, do: Enum.flat_map(Bench.Cpu.helpers(), &Bench.Cpu.children/1)

  defp wait_for_end(_helpers, 0), do: exit("commands are left")

  defp wait_for_end(helpers, tries) do
    if length(offspring()) > helpers do
      Process.sleep(10)
      wait_for_end(helpers, tries - 1)
    end
  end
end

defmodule Bench.Scenarios.ManyStreams100 do
  # What does a message cost when 100 commands write small ones at their own pace?

  use Bench.Scenarios.ManyStreams

  @impl true
  def question, do: "What does a message cost, of 100 paced streams?"

  @impl true
  def sizes(:full), do: %{streams: 100, message: 1024, every_us: 100_000, window_ms: 2000}
  def sizes(:quick), do: %{streams: 20, message: 1024, every_us: 100_000, window_ms: 300}
end

defmodule Bench.Scenarios.ManyStreams1000 do
  # What does a message cost when 1,000 commands write small ones at their own pace? Here a ring that
  # registers once is to be ahead of a poll set that is armed again for each message.

  use Bench.Scenarios.ManyStreams

  @impl true
  def question, do: "What does a message cost, of 1,000 paced streams?"

  @impl true
  def sizes(:full), do: %{streams: 1000, message: 1024, every_us: 100_000, window_ms: 2000}
  def sizes(:quick), do: %{streams: 50, message: 1024, every_us: 100_000, window_ms: 300}

  @impl true
  def rounds, do: 5
end

defmodule Bench.Scenarios.Paced1000 do
  # What does a message cost when 1,000 commands write 4 KiB every 10 ms, which is more than two cores
  # can serve?

  use Bench.Scenarios.ManyStreams

  @impl true
  def question, do: "What does a message cost, of 1,000 streams that are paced fast?"

  @impl true
  def sizes(:full), do: %{streams: 1000, message: 4096, every_us: 10_000, window_ms: 2000}
  def sizes(:quick), do: %{streams: 50, message: 4096, every_us: 10_000, window_ms: 300}

  @impl true
  def rounds, do: 5
end
