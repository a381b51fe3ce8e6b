defmodule NetRunner.TicksTest do
  # A ring whose reaper comes by the clock: for many who have time, and for nobody who is in a hurry.
  use NetRunner.Test.Case

  alias NetRunner.Nif
  alias NetRunner.Process, as: P

  @moduletag :io_uring

  # Each ring is to have several events in a millisecond.
  @commands 64 * System.schedulers()
  @pause_ms 10

  defp ticking, do: Nif.rings_info().ticking

  defp stays_off? do
    receive do
    after
      2 -> ticking() == 0
    end
  end

  # Commands that are sent a byte every @pause_ms, and give it back; each has a reader, who counts what it reads.
  defp crowd(backend) do
    counter = :counters.new(1, [])

    commands =
      for _ <- 1..@commands do
        {:ok, p} = P.start("cat", [], backend: backend, stderr: :discard)
        reader = Task.async(fn -> read(p, counter, 0) end)
        {p, reader}
      end

    writer = Task.async(fn -> write(commands, 0) end)
    %{commands: commands, writer: writer, counter: counter}
  end

  defp write(commands, n) do
    for {p, _reader} <- commands, do: :ok = P.write(p, <<n>>)

    receive do
      :enough -> n + 1
    after
      @pause_ms -> write(commands, rem(n + 1, 256))
    end
  end

  # Each byte is the one after the last.
  defp read(p, counter, n) do
    case P.read(p) do
      {:ok, bytes} ->
        expected = for i <- n..(n + byte_size(bytes) - 1), into: <<>>, do: <<i>>
        ^expected = bytes
        :counters.add(counter, 1, byte_size(bytes))
        read(p, counter, n + byte_size(bytes))

      :eof ->
        n
    end
  end

  defp leave(crowd) do
    send(crowd.writer.pid, :enough)
    Task.await(crowd.writer)
    for {p, _reader} <- crowd.commands, do: :ok = P.close_stdin(p)
    given = for {_p, reader} <- crowd.commands, do: Task.await(reader, 30_000)
    for {p, _reader} <- crowd.commands, do: P.stop(p)
    given
  end

  test "rings tick while many who have time wait, and all they were sent comes; then they are told again" do
    back_at_baseline(fn ->
      crowd = crowd(:io_uring)
      eventually("rings tick", 10_000, fn -> ticking() > 0 end)
      before = :counters.get(crowd.counter, 1)

      eventually("bytes come", fn -> :counters.get(crowd.counter, 1) > before + 10 * @commands end)

      assert [given] = crowd |> leave() |> Enum.uniq()
      assert given > 10
    end)

    eventually("no ring ticks", fn -> ticking() == 0 end)
    assert NetRunner.run(["cat"], input: "told", backend: :io_uring) == {"told", 0}
  end

  test "no ring ticks that somebody in a hurry waits on" do
    crowd = crowd(:io_uring)
    eventually("rings tick", 10_000, fn -> ticking() > 0 end)
    # Wherever they run.
    hurried =
      for _ <- 1..(4 * System.schedulers()) do
        Task.async(fn ->
          {:ok, p} = P.start("cat", [], backend: :io_uring)
          converse(p)
        end)
      end

    eventually("no ring ticks", 10_000, fn -> Enum.all?(1..50, fn _look -> stays_off?() end) end)
    for task <- hurried, do: send(task.pid, :enough)
    for task <- hurried, do: assert(Task.await(task) > 0)
    eventually("rings tick again", 10_000, fn -> ticking() > 0 end)
    leave(crowd)
  end

  defp converse(p, n \\ 0) do
    :ok = P.write(p, "#{n}")
    text = "#{n}"
    {:ok, ^text} = P.read(p)

    receive do
      :enough ->
        P.stop(p)
        n
    after
      0 -> converse(p, n + 1)
    end
  end
end
