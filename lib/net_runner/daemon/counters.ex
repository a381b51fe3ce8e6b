defmodule NetRunner.Daemon.Counters do
  @moduledoc false
  # What a daemon counts, and how much waits for its on_output. The reader and the consumer write, the
  # server reads: atomics, so that nobody asks anybody and nobody can be kept waiting.
  #
  # Only the reader enters lines into the queue and only the consumer takes them out: a reader that
  # found room still has it when it enters them.

  @type t :: :counters.counters_ref()
  @type stream :: :stdout | :stderr
  @type what :: :lines | :bytes | :dropped

  @places %{
    {:stdout, :lines} => 1,
    {:stdout, :bytes} => 2,
    {:stdout, :dropped} => 3,
    {:stderr, :lines} => 4,
    {:stderr, :bytes} => 5,
    {:stderr, :dropped} => 6
  }
  @raised 7
  @queued_lines 8
  @queued_bytes 9

  @spec new :: t
  def new, do: :counters.new(9, [])

  @spec add(t, stream, what, non_neg_integer) :: :ok
  def add(counters, stream, what, n), do: :counters.add(counters, @places[{stream, what}], n)

  @spec raised(t) :: :ok
  def raised(counters), do: :counters.add(counters, @raised, 1)

  @doc "Lines and bytes that wait for on_output (with `overflow: :drop`)."
  @spec queued(t) :: {non_neg_integer, non_neg_integer}
  def queued(counters),
    do: {:counters.get(counters, @queued_lines), :counters.get(counters, @queued_bytes)}

  @doc "Enters lines into the queue; with negative numbers, takes them out."
  @spec enqueue(t, integer, integer) :: :ok
  def enqueue(counters, lines, bytes) do
    :counters.add(counters, @queued_lines, lines)
    :counters.add(counters, @queued_bytes, bytes)
  end

  @doc "All of it: each stream apart, and the sums."
  @spec snapshot(t) :: map
  def snapshot(counters) do
    stdout = of(counters, :stdout)
    stderr = of(counters, :stderr)
    {queued, _bytes} = queued(counters)

    stdout
    |> Map.merge(stderr, fn _what, one, other -> one + other end)
    |> Map.merge(%{
      stdout: stdout,
      stderr: stderr,
      queued: queued,
      raised: :counters.get(counters, @raised)
    })
  end

  defp of(counters, stream) do
    for what <- [:lines, :bytes, :dropped],
        into: %{},
        do: {what, :counters.get(counters, @places[{stream, what}])}
  end
end
