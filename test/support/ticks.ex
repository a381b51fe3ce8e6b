defmodule NetRunner.Test.Ticks do
  @moduledoc """
  A ring whose reaper comes by the clock, for another BEAM, which has one ring: nobody else waits on it, and everybody who
  waits, waits on it. What is not as it should be raises.
  """

  import NetRunner.Test.World, only: [eventually: 3]

  alias NetRunner.Nif
  alias NetRunner.Process, as: P

  # The ring is to have several events in a millisecond.
  @commands 96
  @pause_ms 10

  @doc "Many who have time: the ring ticks while they wait, and is told again when they have gone."
  def served do
    crowd = crowd(:io_uring)
    eventually("the ring ticks", 20_000, &ticks?/0)
    before = :counters.get(crowd.counter, 1)
    come = fn -> :counters.get(crowd.counter, 1) > before + 10 * @commands end
    eventually("bytes come", 20_000, come)
    [_all_that_was_sent] = crowd |> leave() |> Enum.uniq()
    eventually("the ring does not tick", 20_000, fn -> not ticks?() end)
    {"told", 0} = NetRunner.run(["cat"], input: "told", backend: :io_uring)
    :ok
  end

  @doc "Beside them, one who is in a hurry: the ring does not tick until it has gone."
  def hurried do
    crowd = crowd(:io_uring)
    eventually("the ring ticks", 20_000, &ticks?/0)
    {:ok, p} = P.start("cat", [], backend: :io_uring)
    hurried = Task.async(fn -> converse(p, 0) end)

    eventually("it ticks no more", 20_000, fn ->
      Enum.all?(1..50, fn _look -> stays_off?() end)
    end)

    send(hurried.pid, :enough)
    Task.await(hurried)
    eventually("it ticks again", 20_000, &ticks?/0)
    [_all_that_was_sent] = crowd |> leave() |> Enum.uniq()
    :ok
  end

  @doc "By `:auto` those who have time move to the ring, and who is in a hurry does not."
  def auto do
    crowd = crowd(:auto)
    on_ring = fn {p, _reader} -> not stdout(p).poll end

    eventually("most of them wait on a ring that ticks", 20_000, fn ->
      ticks?() and Enum.count(crowd.commands, on_ring) > div(@commands, 2)
    end)

    {:ok, p} = P.start("cat", [], backend: :auto)
    hurried = Task.async(fn -> converse(p, 0) end)
    eventually("it is answered", 20_000, fn -> stdout(p).ops > 500 end)
    true = stdout(p).poll
    eventually("the ring ticks all the same", 20_000, &ticks?/0)
    send(hurried.pid, :enough)
    Task.await(hurried)
    [_all_that_was_sent] = crowd |> leave() |> Enum.uniq()
    :ok
  end

  defp ticks?, do: Nif.rings_info().ticking == 1

  defp stays_off? do
    receive do
    after
      2 -> not ticks?()
    end
  end

  defp stdout(p) do
    {:ok, stats} = P.stats(p)
    stats.stdout
  end

  # Commands that are sent a byte every @pause_ms, and give it back; each has a reader, who counts what it reads.
  defp crowd(backend) do
    counter = :counters.new(1, [])

    commands =
      for _ <- 1..@commands do
        {:ok, p} = P.start("cat", [], backend: backend, stderr: :discard)
        {p, Task.async(fn -> read(p, counter, 0) end)}
      end

    %{commands: commands, writer: Task.async(fn -> write(commands, 0) end), counter: counter}
  end

  defp write(commands, n) do
    for {p, _reader} <- commands, do: :ok = P.write(p, <<n>>)

    receive do
      :enough -> :ok
    after
      @pause_ms -> write(commands, rem(n + 1, 256))
    end
  end

  # Each byte is the one after the last.
  defp read(p, counter, n) do
    case P.read(p) do
      {:ok, bytes} ->
        ^bytes = for i <- n..(n + byte_size(bytes) - 1), into: <<>>, do: <<i>>
        :counters.add(counter, 1, byte_size(bytes))
        read(p, counter, n + byte_size(bytes))

      :eof ->
        n
    end
  end

  defp leave(crowd) do
    send(crowd.writer.pid, :enough)
    Task.await(crowd.writer, 30_000)
    for {p, _reader} <- crowd.commands, do: :ok = P.close_stdin(p)
    given = for {_p, reader} <- crowd.commands, do: Task.await(reader, 30_000)
    for {p, _reader} <- crowd.commands, do: P.stop(p)
    given
  end

  defp converse(p, n) do
    text = "#{n}"
    :ok = P.write(p, text)
    {:ok, ^text} = P.read(p)

    receive do
      :enough -> P.stop(p)
    after
      0 -> converse(p, n + 1)
    end
  end
end
