defmodule NetRunner.TurnsTest do
  # How many busy readers are runnable at once. In most of these tests NetRunner.Turns is held, and the test says who is let in.
  use NetRunner.Test.Case

  alias NetRunner.{Nif, Turns}
  alias NetRunner.Process, as: P

  @mib 1024 * 1024

  defp hold(_context) do
    :sys.suspend(Turns)
    :ok = Nif.turns_rest()

    on_exit(fn ->
      :ok = Nif.turns_rest()
      :sys.resume(Turns)
    end)
  end

  defp zeros(backend) do
    {:ok, p} = P.start("cat", ["/dev/zero"], backend: backend)
    p
  end

  # A reader that finds nothing waits for its pipe and for no turn: then the other one has nobody to let in, and goes on. cat
  # sleeps only where its pipe is full.
  defp full(p) do
    {:ok, os_pid} = P.os_pid(p)
    eventually("the pipe is full", 10_000, fn -> proc_state(os_pid) == "S" end)
  end

  # Its last read gave much: it is one of those that are asked to wait.
  defp read_much(p) do
    case P.read(p) do
      {:ok, bytes} when byte_size(bytes) >= 32 * 1024 -> p
      {:ok, _few} -> read_much(p)
    end
  end

  # The time by which it is judged who is busy.
  defp ticks(n), do: for(_ <- 1..n, do: Nif.turns_let_in(0, 0))

  # A cat whose pipe holds 64 KiB.
  defp cat_behind_64k(backend) do
    script = "head -c 65536 /dev/zero; exec cat"
    {:ok, p} = P.start("sh", ["-c", script], backend: backend)
    {:ok, os_pid} = P.os_pid(p)
    eventually("it is cat", fn -> File.read!("/proc/#{os_pid}/comm") == "cat\n" end)
    {p, os_pid}
  end

  # It lies in cat's pipe when this returns.
  defp give({p, os_pid}, bytes) do
    passed_on = written(os_pid) + byte_size(bytes)
    :ok = P.write(p, bytes)
    eventually("cat has passed it on", fn -> written(os_pid) >= passed_on end)
  end

  # How the pipe's reader is answered: with bytes, to come again soon, or to wait.
  defp look(p) do
    {:ok, handle} = P.handle(p, :stdout)
    ref = make_ref()
    answer = Nif.read_patiently(handle, 65_536, ref)
    if answer in [:again, :unseen, :unsure, :turn], do: NetRunner.Pipe.cancel(handle, ref)
    answer
  end

  # When it is told to look again no more.
  defp last_look(p) do
    case look(p) do
      :soon -> last_look(p)
      answer -> answer
    end
  end

  # It waits for its empty pipe, as who reads two pipes does.
  defp end_turn(p) do
    {:ok, handle} = P.handle(p, :stdout)
    ref = make_ref()
    assert Nif.read(handle, 65_536, ref) == :again
    NetRunner.Pipe.cancel(handle, ref)
  end

  # A process that has read much of a command of its own, and reads on when it is told to: what it got is sent here.
  defp reader(name, backend, read \\ &P.read/1) do
    me = self()

    {:ok, pid} =
      Task.start_link(fn ->
        p = backend |> zeros() |> read_much()
        send(me, {name, p})

        receive do
          :on -> send(me, {name, read.(p)})
        end

        receive do
          :never -> :ok
        end
      end)

    assert_receive {^name, p}, 10_000
    %{pid: pid, p: p, name: name}
  end

  # It comes by, and waits. Nobody goes on for it.
  defp wait(reader) do
    before = waiting()
    Nif.turns_let_in(0, 1)
    send(reader.pid, :on)

    eventually("#{reader.name} waits for its turn", fn ->
      match?({n, _in_turn} when n > before, Nif.turns_let_in(0, 1))
    end)

    Nif.turns_let_in(0, 0)
    reader
  end

  defp waiting do
    {waiting, _in_turn} = Nif.turns_let_in(0, 0)
    waiting
  end

  describe "with the watch held," do
    setup :hold

    on_backends "a reader that has had its turn waits until it is let in" do
      %{p: p} = wait(reader(:one, backend))
      refute_received {:one, _answer}
      assert {0, _in_turn} = Nif.turns_let_in(1, 0)
      assert_receive {:one, {:ok, bytes}}, 5_000
      assert byte_size(bytes) > 0
      # It does something else, and holds nobody's place.
      for _ <- 1..64, do: Nif.turns_let_in(0, 0)
      assert {0, 0} = Nif.turns_let_in(0, 0)
      P.stop(p)
    end

    on_backends "those that wait are let in first come first served" do
      names = [:one, :two, :three]
      readers = for name <- names, do: wait(reader(name, backend))

      for name <- names do
        Nif.turns_let_in(1, 0)
        assert_receive {^name, {:ok, _bytes}}, 5_000
        others = names -- [name]
        for other <- others, do: refute_received({^other, {:ok, _too_early}})
        send(self(), :next)
        assert_receive :next
      end

      for %{p: p} <- readers, do: P.stop(p)
    end

    on_backends "one that has had its turn lets the first in, and has its next after that" do
      me = self()
      Nif.turns_let_in(0, 1)

      for name <- [:one, :two] do
        spawn_link(fn ->
          p = zeros(backend)
          full(p)

          take(p, 16 * @mib, fn bytes ->
            send(me, {name, bytes})
            full(p)
          end)

          P.stop(p)
          send(me, {name, :done})
        end)
      end

      # The first to have read all of it leaves no one behind who would let the other in.
      assert [{_first, :done} | got] = until_done([])
      Nif.turns_rest()
      turns = got |> Enum.reverse() |> Enum.chunk_by(&elem(&1, 0)) |> Enum.map(&bytes/1)
      assert length(turns) > 10
      assert Enum.max(turns) <= @mib + 64 * 1024
      assert_receive {_other, :done}, 10_000
    end

    on_backends "one that gives much in small pieces takes turns, too" do
      p = zeros(backend)
      full(p)
      ticks(1)
      for _ <- 1..4, do: {:ok, <<_::binary-size(4096)>>} = P.read(p, 4096)
      Nif.turns_let_in(0, 1)
      assert {:ok, _at_once} = look(p)
      ticks(64)
      {:ok, _piece} = P.read(p, 4096)
      Nif.turns_let_in(0, 1)
      assert look(p) == :turn
      P.stop(p)
    end

    on_backends "one that gives small pieces all the time answers somebody, and takes none" do
      {p, _os_pid} = cat = cat_behind_64k(backend)
      take(p, 65_536, fn _bytes -> :ok end)
      piece = :binary.copy("x", 512)
      ticks(1)

      for _ <- 1..65 do
        give(cat, piece)
        assert P.read(p) == {:ok, piece}
      end

      ticks(64)
      give(cat, piece)
      assert P.read(p) == {:ok, piece}
      Nif.turns_let_in(0, 1)
      assert look(p) != :turn
      P.stop(p)
    end

    on_backends "one that gave much long ago takes none" do
      p = zeros(backend)
      read_much(p)
      full(p)
      ticks(128)
      Nif.turns_let_in(0, 1)
      assert look(p) != :turn
      P.stop(p)
    end

    on_backends "one that waited for its turn and has little to give then takes none after it" do
      {p, _os_pid} = cat = cat_behind_64k(backend)
      me = self()
      # All that its command says before it is asked again, for example.
      little = :binary.copy("x", 12 * 1024)

      reader =
        spawn_link(fn ->
          take(p, 65_536, fn _bytes -> :ok end)
          send(me, :taken)

          receive do
            :on -> send(me, {:little, P.read(p)})
          end
        end)

      assert_receive :taken, 5_000
      wait(%{pid: reader, name: :little})
      give(cat, little)
      refute_received {:little, _too_early}
      Nif.turns_let_in(1, 1)
      assert_receive {:little, {:ok, ^little}}, 5_000
      assert look(p) != :turn
      P.stop(p)
    end

    on_backends "an empty pipe is looked at again, unless that was in vain" do
      {p, _os_pid} = cat = cat_behind_64k(backend)
      ticks(1)
      take(p, 65_536, fn _bytes -> :ok end)
      assert [:soon, :soon, wait] = for(_ <- 1..3, do: look(p))
      assert wait in [:again, :unseen, :unsure]
      reader = Task.async(fn -> read_much(p) end)

      eventually("it waits for its pipe", fn ->
        Process.info(reader.pid, :status) == {:status, :waiting}
      end)

      # No quick answer, which has looks of its own (csrc/patience.h).
      Process.sleep(1)
      give(cat, :binary.copy("x", 32 * 1024))
      Task.await(reader)
      assert look(p) in [:again, :unseen, :unsure]
      P.stop(p)
    end

    on_backends "who is to look again is one of those in turn" do
      {p, _os_pid} = cat = cat_behind_64k(backend)
      ticks(1)
      take(p, 65_536, fn _bytes -> :ok end)
      assert look(p) == :soon
      assert {0, 1} = Nif.turns_let_in(0, 0)
      give(cat, "a few")
      assert P.read(p) == {:ok, "a few"}
      P.stop(p)
    end

    on_backends "one that got little in its turn waits, and nobody goes on for it" do
      {p, _os_pid} = cat = cat_behind_64k(backend)
      %{p: other} = wait(reader(:one, backend))
      take(p, 65_536, fn _bytes -> :ok end)
      end_turn(p)

      for {bytes, goes_on?} <- [{12 * 1024, false}, {16 * 1024, true}] do
        give(cat, :binary.copy("x", bytes))
        take(p, bytes, fn _bytes -> :ok end)
        assert last_look(p) == :turn
        assert waiting() == if(goes_on?, do: 0, else: 1)
      end

      assert_receive {:one, {:ok, _bytes}}, 5_000
      for p <- [p, other], do: P.stop(p)
    end

    on_backends "whose deadline comes before its turn reads what is there" do
      %{p: p} = wait(reader(:late, backend, &P.read(&1, 65_536, 200)))
      assert_receive {:late, {:ok, _bytes}}, 5_000
      assert waiting() == 0
      P.stop(p)
    end

    on_backends "a command that ends lets its reader go" do
      %{p: p} = wait(reader(:ended, backend, &read_to_end/1))
      P.kill(p, :sigkill)
      assert_receive {:ended, :eof}, 5_000
      P.stop(p)
    end

    on_backends "a command that is stopped lets its reader go" do
      %{p: p} = wait(reader(:stopped, backend))
      P.stop(p)
      assert_receive {:stopped, answer}, 5_000
      # It may have read what was there when it was told of the end.
      assert match?({:ok, _bytes}, answer) or answer in [{:error, :closed}, :eof]
      assert waiting() == 0
    end

    on_backends "a reader that is killed while it waits costs the next one nothing" do
      me = self()
      p = zeros(backend)

      {pid, monitor} =
        spawn_monitor(fn ->
          read_much(p)
          send(me, :read)

          receive do
            :on -> P.read(p)
          end
        end)

      assert_receive :read, 10_000
      wait(%{pid: pid, name: :killed})
      Process.exit(pid, :kill)
      assert_receive {:DOWN, ^monitor, _, _, :killed}
      assert {:ok, _bytes} = P.read(p)
      assert waiting() == 0
      P.stop(p)
    end

    on_backends "nobody else may read meanwhile" do
      %{p: p} = wait(reader(:one, backend))
      assert P.read(p) == {:error, :busy}
      Nif.turns_let_in(1, 0)
      assert_receive {:one, {:ok, _bytes}}, 5_000
      P.stop(p)
    end

    on_backends "a stream that waits for its turn is not silent" do
      cmd = ["head", "-c", "#{4 * @mib}", "/dev/zero"]
      stream = NetRunner.stream!(cmd, idle_timeout: 300, backend: backend)
      Nif.turns_let_in(0, 10_000)
      assert stream |> Stream.map(&byte_size/1) |> Enum.sum() == 4 * @mib
    end

    on_backends "whoever takes over the watch lets all go on" do
      readers = for name <- [:one, :two], do: wait(reader(name, backend))
      watch = Process.whereis(Turns)
      monitor = Process.monitor(watch)
      Process.exit(watch, :kill)
      assert_receive {:DOWN, ^monitor, _, _, :killed}
      assert_receive {:one, {:ok, _bytes}}, 5_000
      assert_receive {:two, {:ok, _bytes}}, 5_000
      eventually("a new one watches", fn -> Process.whereis(Turns) not in [nil, watch] end)
      :sys.suspend(Turns)
      for %{p: p} <- readers, do: P.stop(p)
    end

    on_backends "nothing is lost or out of order, whoever is let in and when" do
      tasks =
        for n <- 1..16 do
          Task.async(fn ->
            ["seq", "#{n}", "200000"] |> NetRunner.stream!(backend: backend) |> sha()
          end)
        end

      disturb(tasks)

      for {task, n} <- Enum.with_index(tasks, 1) do
        {expected, 0} = System.cmd("seq", ["#{n}", "200000"])
        assert Task.await(task, 30_000) == sha([expected])
      end
    end
  end

  on_backends "beside many streams at full speed, whoever wants to run does not wait for all of them" do
    leave_the_run_queue(backend, 65_536)
  end

  on_backends "beside many streams in small pieces, whoever wants to run does not wait for all of them" do
    leave_the_run_queue(backend, 4096)
  end

  describe "change/3" do
    test "lets in as many as the run queues lack" do
      assert Turns.change(5, 16, {900, 20}) == {11, 0}
    end

    test "asks those to wait who are too many" do
      assert Turns.change(1000, 16, {0, 80}) == {0, 984}
    end

    test "asks nobody to wait where others are the crowd" do
      assert Turns.change(1000, 16, {0, 5}) == {11, 0}
    end

    test "keeps places for readers, whatever else runs" do
      assert Turns.change(500, 16, {900, 4}) == {12, 484}
    end

    test "lets one in at a time where those in turn do something else, and others run" do
      assert Turns.change(500, 16, {900, 40}) == {1, 484}
    end

    test "has nothing to do where all is as it should be" do
      assert Turns.change(16, 16, {0, 16}) == {0, 0}
    end
  end

  defp leave_the_run_queue(backend, max) do
    me = self()
    schedulers = System.schedulers_online()

    back_at_baseline(fn ->
      hold(nil)

      readers =
        for _ <- 1..(64 * schedulers) do
          spawn_link(fn ->
            p = backend |> zeros() |> read_much()
            send(me, :ready)
            take(p, :all, fn _bytes -> :ok end, max)
          end)
        end

      for _ <- readers, do: assert_receive(:ready, 60_000)
      eventually("all of them are runnable", 10_000, fn -> run_queue() > 40 * schedulers end)
      :sys.resume(Turns)
      eventually("most of them wait", fn -> run_queue() <= 16 * schedulers end)
      lengths = for _ <- 1..200, do: run_queue()
      assert lengths |> Enum.sort() |> Enum.at(100) <= 16 * schedulers

      for pid <- readers do
        Process.unlink(pid)
        Process.exit(pid, :kill)
      end
    end)

    eventually("the watch sleeps", fn -> :sys.get_state(Turns).timer == nil end)
  end

  # What the scheduler would let somebody else wait for. In between others run.
  defp run_queue do
    receive do
    after
      1 -> :erlang.statistics(:total_run_queue_lengths)
    end
  end

  defp take(p, left, told, max \\ 65_536)

  defp take(_p, left, _told, _max) when is_integer(left) and left <= 0, do: :ok

  defp take(p, left, told, max) do
    {:ok, bytes} = P.read(p, max)
    told.(byte_size(bytes))
    take(p, if(left == :all, do: :all, else: left - byte_size(bytes)), told, max)
  end

  defp bytes(reads), do: reads |> Enum.map(&elem(&1, 1)) |> Enum.sum()

  defp until_done(got) do
    receive do
      {name, what} when name in [:one, :two] ->
        if what == :done, do: [{name, :done} | got], else: until_done([{name, what} | got])
    after
      10_000 -> flunk("nobody gets on after #{length(got)} reads")
    end
  end

  defp read_to_end(p) do
    case P.read(p) do
      {:ok, _bytes} -> read_to_end(p)
      answer -> answer
    end
  end

  # Until all have ended.
  defp disturb(tasks) do
    if Enum.any?(tasks, &Process.alive?(&1.pid)) do
      case :rand.uniform(8) do
        1 -> Nif.turns_rest()
        n -> Nif.turns_let_in(n - 1, :rand.uniform(12) - 1)
      end

      run_queue()
      disturb(tasks)
    else
      Nif.turns_rest()
    end
  end
end
