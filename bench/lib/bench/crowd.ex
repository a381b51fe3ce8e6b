defmodule Bench.Crowd do
  @moduledoc """
  Many commands at once, each read by a process of its own, for scenarios that look at a window of time
  in which all of them run: that they start and end is not measured.
  """

  alias Bench.{Counters, Gate, Offspring}

  # A storm of starts is another scenario, and some libraries have time limits for a start.
  @starting 50

  # Pipes grow, and pages are touched for the first time, before the window begins.
  @settle_ms 500

  @type window :: %{
          result: term,
          each: [non_neg_integer],
          wall_us: non_neg_integer,
          own_us: float,
          reads_and_writes: non_neg_integer | nil,
          counts: Counters.t() | nil
        }

  @doc """
  Starts `count` commands, which are given a gate as their last argument (`c/producer.c`), lets them go once each
  of them has delivered something, and looks at bytes and clocks before and after `during`; then it ends
  them all. `check` is folded over each one's chunks from `{0, 0}` on: bytes, wrong chunks.

  It dies if a command's output ends, if bytes are wrong, or if commands are left.
  """
  @spec run(Bench.Contestant.t(), [String.t()], pos_integer, function, (() -> term)) :: window
  def run(contestant, cmd, count, check, during) do
    others = Offspring.count()
    received = :counters.new(count, [:write_concurrency])
    gate = Gate.shut()

    readers =
      1..count
      |> Enum.chunk_every(@starting)
      |> Enum.flat_map(&start_some(&1, contestant, cmd ++ [gate.path], check, received))

    # Who they are is asked while they are quiet: beside a thousand that read, it takes minutes.
    counters = Counters.of(contestant)
    Gate.open(gate)
    Process.sleep(@settle_ms)
    window = window(counters, {received, count}, during)
    promptly(fn -> stop(readers) end)
    Offspring.await(others)
    window
  end

  defp start_some(indexes, contestant, cmd, check, received) do
    readers = Enum.map(indexes, &start(contestant, cmd, check, {received, &1}))
    Enum.each(readers, &await_delivery/1)
    readers
  end

  defp start(%{module: module, arg: arg}, cmd, check, {received, index}) do
    crowd = self()

    spawn_link(fn ->
      module.fold(arg, cmd, {0, 0}, fn chunk, {position, _wrong} = seen ->
        if position == 0, do: send(crowd, {:delivers, self()})
        :counters.add(received, index, byte_size(chunk))
        {_bytes, 0} = check.(chunk, seen)
      end)

      exit(:output_ended)
    end)
  end

  defp await_delivery(reader) do
    receive do
      {:delivers, ^reader} -> :ok
    end
  end

  # All are killed before one is waited for: each dies at its next turn, and these are a thousand turns apart.
  defp stop(readers) do
    monitors = for reader <- readers, do: kill(reader)

    for monitor <- monitors do
      receive do
        {:DOWN, ^monitor, :process, _pid, _reason} -> :ok
      end
    end
  end

  defp kill(reader) do
    monitor = Process.monitor(reader)
    Process.unlink(reader)
    Process.exit(reader, :kill)
    monitor
  end

  defp window(counters, received, during) do
    {counted, before} = promptly(fn -> {counters.(), look(received)} end)
    result = during.()
    {later, counts} = promptly(fn -> {look(received), counters.()} end)

    %{
      result: result,
      each: Enum.zip_with(later.each, before.each, &(&1 - &2)),
      wall_us: later.at - before.at,
      own_us: later.own_us - before.own_us,
      reads_and_writes: later.calls && later.calls - before.calls,
      counts: Counters.between(counted, counts)
    }
  end

  # Beside so many others that want to run, what is looked at must not lie a turn of all of them apart.
  defp promptly(fun) do
    priority = Process.flag(:priority, :high)
    result = fun.()
    Process.flag(:priority, priority)
    result
  end

  defp look({received, count}) do
    %{
      own_us: Bench.Cpu.own(),
      at: System.monotonic_time(:microsecond),
      calls: Counters.reads_and_writes(),
      each: Enum.map(1..count, &:counters.get(received, &1))
    }
  end
end
