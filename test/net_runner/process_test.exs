defmodule NetRunner.ProcessTest do
  # One command under one's hands: every call, before and after the end, and who outlives whom.
  use NetRunner.Test.Case
  doctest NetRunner.Process

  alias NetRunner.Process, as: P

  @moduletag :capture_log

  defp start!(exe, args \\ [], opts) do
    {:ok, p} = P.start(exe, args, opts)
    on_exit(fn -> P.stop(p) end)
    p
  end

  defp read_all(p, read \\ &P.read/1, got \\ "") do
    case read.(p) do
      {:ok, bytes} -> read_all(p, read, got <> bytes)
      :eof -> got
    end
  end

  defp read_until(p, text, got \\ "") do
    if String.contains?(got, text) do
      got
    else
      {:ok, more} = P.read(p, 1000, 5_000)
      read_until(p, text, got <> more)
    end
  end

  on_backends "a conversation: write, read, close, exit, stop" do
    back_at_baseline(fn ->
      {:ok, p} = P.start("cat", [], backend: backend)
      assert P.alive?(p)
      assert P.write(p, "hello") == :ok
      assert P.read(p) == {:ok, "hello"}
      assert P.write(p, [["io", ?d], "ata" | "!"]) == :ok
      assert P.read(p) == {:ok, "iodata!"}
      assert P.write(p, "") == :ok
      assert P.write(p, []) == :ok
      assert P.close_stdin(p) == :ok
      assert P.close_stdin(p) == :ok
      assert P.write(p, "late") == {:error, :closed}
      assert P.read(p) == :eof
      assert P.read(p) == :eof
      assert P.await_exit(p) == {:ok, 0}
      refute P.alive?(p)
      assert P.stop(p) == :ok
      refute Process.alive?(p)
    end)
  end

  describe "read" do
    on_backends "gives at least one and at most max bytes, and the rest later" do
      p = start!("printf", ["123456789"], backend: backend)
      assert P.read(p, 4) == {:ok, "1234"}
      assert P.read(p, 1) == {:ok, "5"}
      assert P.read(p, 1000) == {:ok, "6789"}
      assert P.read(p, 1) == :eof
    end

    on_backends "gives what came within its time-out, else {:error, :timeout}" do
      p = start!("cat", [], backend: backend)
      assert P.read(p, 10, 0) == {:error, :timeout}
      {us, result} = :timer.tc(fn -> P.read(p, 10, 50) end)
      assert result == {:error, :timeout}
      assert us >= 50_000
      P.write(p, "x")
      assert P.read(p, 10, 5_000) == {:ok, "x"}
      P.write(p, "y")
      # However long: longer than a receive can wait.
      assert P.read(p, 10, 10_000_000_000) == {:ok, "y"}
    end

    on_backends "gives what was written before the end, also long after it" do
      p = start!("sh", ["-c", "echo out; echo err >&2; exit 3"], stderr: :pipe, backend: backend)
      assert P.await_exit(p) == {:ok, 3}
      assert P.read(p) == {:ok, "out\n"}
      assert P.read(p) == :eof
      assert P.read_stderr(p) == {:ok, "err\n"}
      assert P.read_stderr(p) == :eof
    end

    on_backends "takes turns with other processes" do
      p = start!("cat", [], backend: backend)
      P.write(p, "ab")
      assert Task.await(Task.async(fn -> P.read(p, 1) end)) == {:ok, "a"}
      assert P.read(p, 1) == {:ok, "b"}
    end

    test "is not for a max of nothing" do
      p = start!("cat", [])
      assert_raise FunctionClauseError, fn -> P.read(p, 0) end
      assert_raise FunctionClauseError, fn -> P.read(p, -1) end
      assert_raise FunctionClauseError, fn -> P.read(p, 1, 1.5) end
      assert P.alive?(p)
    end
  end

  describe "read_stderr" do
    on_backends "reads it apart with :pipe and with :capture" do
      for stderr <- [:pipe, :capture] do
        p =
          start!("sh", ["-c", "printf out; printf err >&2; cat >&2"],
            stderr: stderr,
            backend: backend
          )

        assert P.read(p) == {:ok, "out"}
        assert P.read_stderr(p, 2) == {:ok, "er"}
        assert P.read_stderr(p) == {:ok, "r"}
        assert P.read_stderr(p, 10, 10) == {:error, :timeout}
        P.write(p, "more")
        assert P.read_stderr(p) == {:ok, "more"}
        P.close_stdin(p)
        assert P.read_stderr(p) == :eof
      end
    end

    on_backends "is closed where stderr goes elsewhere" do
      for stderr <- [:consume, :merge, :discard] do
        p = start!("cat", [], stderr: stderr, backend: backend)
        assert P.read_stderr(p) == {:error, :closed}
      end
    end
  end

  on_backends "stderr: :merge comes by read, :discard does not come" do
    args = ["-c", "echo a; echo b >&2; echo c"]
    assert read_all(start!("sh", args, stderr: :merge, backend: backend)) == "a\nb\nc\n"
    assert read_all(start!("sh", args, stderr: :discard, backend: backend)) == "a\nc\n"
  end

  on_backends "stderr_tail gives the last bytes of a consumed stderr, while it runs and after" do
    p =
      start!("sh", ["-c", "seq 1 3000 >&2; echo up; read x; echo last >&2"],
        stderr_tail_bytes: 20,
        backend: backend
      )

    assert P.read(p) == {:ok, "up\n"}

    eventually("stderr was read", fn ->
      P.stderr_tail(p) == {:ok, "2997\n2998\n2999\n3000\n"}
    end)

    P.write(p, "\n")
    assert P.await_exit(p) == {:ok, 0}
    assert P.stderr_tail(p) == {:ok, "2998\n2999\n3000\nlast\n" |> binary_part(0, 20)}
  end

  on_backends "input: is written and closed, or there is none" do
    assert read_all(start!("cat", [], input: ["a", "b"], backend: backend)) == "ab"
    p = start!("cat", [], input: :null, backend: backend)
    assert P.write(p, "x") == {:error, :closed}
    assert P.close_stdin(p) == {:error, :closed}
    assert P.read(p) == :eof
  end

  on_backends "input: that is given has no other writer, and nobody else ends it" do
    input = Stream.map(1..3, fn n -> receive(do: (:never -> n), after: (20 -> to_string(n))) end)
    p = start!("cat", input: input, backend: backend)
    assert P.write(p, "X") == {:error, :closed}
    assert P.close_stdin(p) == {:error, :closed}
    assert P.await_exit(p) == {:ok, 0}
    assert P.read(p) == {:ok, "123"}
    assert {:ok, %{stdin: %{bytes: 3}, stderr: %{bytes: 0}}} = P.stats(p)
  end

  on_backends "write to a command that reads no more is {:error, :epipe}" do
    p = start!(fixture("close_stdin"), ["60000"], backend: backend)
    P.write(p, "x")
    assert P.read(p) == {:ok, "closed\n"}
    assert P.write(p, "y") == {:error, :epipe}
    assert P.alive?(p)
  end

  describe "read_any" do
    on_backends "gives whichever has something, and :eof when both have ended" do
      p =
        start!("sh", ["-c", "echo err >&2; read x; echo out; exec >&-; read x; echo more >&2"],
          stderr: :pipe,
          backend: backend
        )

      assert P.read_any(p) == {:ok, {:stderr, "err\n"}}
      assert P.read_any(p, 10, 20) == {:error, :timeout}
      assert P.write(p, "\n") == :ok
      assert P.read_any(p, 3) == {:ok, {:stdout, "out"}}
      assert P.read_any(p) == {:ok, {:stdout, "\n"}}
      assert P.write(p, "\n") == :ok
      assert P.read_any(p) == {:ok, {:stderr, "more\n"}}
      assert P.read_any(p) == :eof
      assert P.read_any(p) == :eof
      assert Process.info(self(), :messages) == {:messages, []}
    end

    on_backends "is one reader of each pipe: others are busy meanwhile, and free again" do
      p = start!("cat", [], stderr: :pipe, backend: backend)
      reader = Task.async(fn -> P.read_any(p) end)
      eventually("it waits", fn -> waits?(reader.pid) end)
      assert P.read(p, 1, 0) == {:error, :busy}
      assert P.read_stderr(p, 1, 0) == {:error, :busy}
      P.write(p, "x")
      assert Task.await(reader) == {:ok, {:stdout, "x"}}
      assert P.read_stderr(p, 1, 0) == {:error, :timeout}
    end

    on_backends "reads what is a pipe" do
      p =
        start!("sh", ["-c", "echo x; echo y >&2"],
          stdout: :discard,
          stderr: :pipe,
          backend: backend
        )

      assert P.read_any(p) == {:ok, {:stderr, "y\n"}}
      assert P.read_any(p) == :eof
    end
  end

  describe "result" do
    on_backends "waits for the end and tells all of it, more than once" do
      p = start!("sh", ["-c", "echo out; echo err >&2; read x; exit 3"], backend: backend)
      assert P.result(p, 0) == {:error, :timeout}
      waiting = Task.async(fn -> P.result(p) end)
      P.write(p, "\n")
      assert {:ok, %NetRunner.Result{} = result} = Task.await(waiting)
      assert %{exit: {:exited, 3}, cause: :exited, stdout: nil, stderr: "err\n"} = result
      assert {:ok, result.os_pid} == P.os_pid(p)
      assert %{stdin: %{bytes: 1}} = result.stats
      assert P.result(p) == {:ok, result}
      assert P.read(p) == {:ok, "out\n"}
    end

    on_backends "says why the command was stopped" do
      p = start!("sleep", ["60"], backend: backend)
      assert P.shutdown(p, 1_000, 1_000) == {:ok, 143}
      assert {:ok, %{cause: :stopped, exit: {:signaled, :sigterm}}} = P.result(p)

      # Somebody's signal is no stop, nor is a stop after the end.
      p = start!("sleep", ["60"], backend: backend)
      :ok = P.kill(p, :sigterm)
      assert {:ok, 143} = P.await_exit(p)
      assert {:ok, 143} = P.shutdown(p, 0, 1_000)
      assert {:ok, %{cause: :signaled}} = P.result(p)
    end

    on_backends "of a command that lost its owner is told to who waits for it" do
      me = self()

      {owner, _monitor} =
        spawn_monitor(fn ->
          {:ok, p} = P.start("sleep", ["60"], backend: backend)
          send(me, {:started, p})
          receive do: (:end -> :ok)
        end)

      assert_receive {:started, p}, 5_000
      results = for _ <- 1..3, do: Task.async(fn -> P.result(p) end)
      exits = for _ <- 1..3, do: Task.async(fn -> P.await_exit(p) end)
      eventually("all wait", 5_000, fn -> length(:sys.get_state(p).awaiting) == 6 end)
      send(owner, :end)

      for result <- Task.await_many(results) do
        assert {:ok, %{cause: :owner_down, exit: {:signaled, :sigterm}, cmd: ["sleep", "60"]}} =
                 result
      end

      assert Task.await_many(exits) == List.duplicate({:ok, 143}, 3)
    end

    on_backends "of a command that is stopped by another is told to who waits for it" do
      p = start!("sleep", ["60"], backend: backend)
      waiting = Task.async(fn -> P.result(p) end)
      eventually("it waits", 5_000, fn -> length(:sys.get_state(p).awaiting) == 1 end)
      assert P.stop(p) == :ok
      assert {:ok, %{cause: :stopped, exit: {:signaled, :sigterm}}} = Task.await(waiting)
    end

    test "of a lost guardian has what is known" do
      p = start!("sleep", ["60"], [])
      {_, 0} = System.cmd("kill", ["-KILL", to_string(:sys.get_state(p).guardian_pid)])
      assert {:ok, %{cause: :guardian_lost, exit: nil, rusage: nil, os_pid: os_pid}} = P.result(p)
      assert is_integer(os_pid)
    end

    test "of nobody is closed" do
      p = start!("true", [])
      P.stop(p)
      assert P.result(p) == {:error, :closed}
    end
  end

  describe "set_owner" do
    on_backends "gives the command to another process, whose death stops it" do
      {tag, env} = tag()
      new = spawn(fn -> Process.sleep(:infinity) end)
      me = self()

      old =
        spawn(fn ->
          {:ok, p} = P.start("sleep", ["60"], env: env, backend: backend)
          :ok = P.set_owner(p, new)
          send(me, {:started, p})
        end)

      monitor = Process.monitor(old)
      assert_receive {:started, p}, 5_000
      assert_receive {:DOWN, ^monitor, :process, ^old, _}, 5_000
      assert P.alive?(p)
      assert [%{owner: ^new}] = Enum.filter(NetRunner.list(), &(&1.pid == p))
      monitor = Process.monitor(p)
      # It has the monitor: between signals to several processes there is no order.
      assert P.alive?(p)
      Process.exit(new, :kill)
      assert_receive {:DOWN, ^monitor, :process, ^p, :normal}, 5_000
      assert_gone(tag)
    end

    test "to a process that has ended stops it at once" do
      dead = spawn(fn -> :ok end)
      p = start!("sleep", ["60"], [])
      monitor = Process.monitor(p)
      assert P.set_owner(p, dead) == :ok
      assert_receive {:DOWN, ^monitor, :process, ^p, :normal}, 5_000
      assert P.set_owner(p, self()) == {:error, :closed}
    end

    test "to what is no local process raises and leaves the command alone" do
      p = start!("cat", [])
      assert_raise FunctionClauseError, fn -> P.set_owner(p, :name) end
      assert P.alive?(p)
    end
  end

  describe "kill" do
    on_backends "sends any signal, by name or number" do
      for {signal, number} <- [{:sigterm, 15}, {:sigkill, 9}, {10, 10}, {:sigusr2, 12}, {64, 64}] do
        p = start!("sleep", ["60"], backend: backend)
        assert P.kill(p, signal) == :ok
        assert P.await_exit(p, 5_000) == {:ok, 128 + number}
      end

      p = start!("sleep", ["60"], backend: backend)
      assert P.kill(p) == :ok
      assert P.await_exit(p, 5_000) == {:ok, 143}
    end

    on_backends "reaches the whole group, or the command itself only" do
      script = ~S"""
      trap 'echo got' USR1
      sleep 60 &
      echo "$! up"
      wait $!; wait $!; wait $!
      cat
      """

      p = start!("sh", ["-c", script], backend: backend)
      [member, _up] = p |> read_until("up\n") |> String.split()
      member = String.to_integer(member)
      # Until it is sleep it is the shell, trap included.
      eventually("it is sleep", fn -> File.read!("/proc/#{member}/comm") == "sleep\n" end)

      assert P.kill(p, :sigusr1, :leader) == :ok
      read_until(p, "got\n")
      assert running?(member)

      assert P.kill(p, :sigusr1, :group) == :ok
      read_until(p, "got\n")
      eventually("the member is gone", fn -> not running?(member) end)
      assert P.alive?(p)
    end

    test "a thousand at once all arrive, and harm nobody" do
      p = start!("cat", [])

      kills = for _ <- 1..1_000, do: Task.async(fn -> P.kill(p, :sigwinch) end)
      assert Enum.all?(Task.await_many(kills, 30_000), &(&1 == :ok))
      assert P.alive?(p)
      assert P.write(p, "x") == :ok
      assert P.read(p) == {:ok, "x"}
    end

    on_backends "stops and continues" do
      p = start!("cat", [], backend: backend)
      {:ok, os_pid} = P.os_pid(p)
      assert P.kill(p, :sigstop) == :ok
      eventually("it stopped", fn -> proc_state(os_pid) == "T" end)
      P.write(p, "x")
      assert P.read(p, 1, 20) == {:error, :timeout}
      assert P.kill(p, :sigcont) == :ok
      assert P.read(p, 1, 5_000) == {:ok, "x"}
    end

    on_backends "is :not_running after the end" do
      p = start!("true", [], backend: backend)
      assert P.await_exit(p) == {:ok, 0}

      for scope <- [:group, :leader],
          do: assert(P.kill(p, :sigkill, scope) == {:error, :not_running})

      P.stop(p)
      assert P.kill(p) == {:error, :not_running}
    end

    test "of what is no signal, or no scope, raises and leaves the command alone" do
      p = start!("cat", [])

      for bad <- [0, 65, -9, :term, :SIGTERM, "sigterm", nil, 1.0] do
        assert_raise ArgumentError, ~r/unknown signal/, fn -> P.kill(p, bad) end
      end

      assert_raise FunctionClauseError, fn -> P.kill(p, :sigterm, :everybody) end
      assert P.alive?(p)
      assert P.write(p, "x") == :ok
    end
  end

  describe "await_exit" do
    on_backends "waits as long as it was told to" do
      p = start!("cat", [], backend: backend)
      assert P.await_exit(p, 0) == {:error, :timeout}
      assert P.await_exit(p, 30) == {:error, :timeout}
      P.close_stdin(p)
      # However long: longer than a receive can wait.
      assert P.await_exit(p, 10_000_000_000) == {:ok, 0}
      for timeout <- [0, 1_000, :infinity], do: assert(P.await_exit(p, timeout) == {:ok, 0})
    end

    on_backends "answers everybody who waits" do
      p = start!("cat", [], backend: backend)
      waiters = for _ <- 1..20, do: Task.async(fn -> P.await_exit(p) end)
      for _ <- 1..20, do: assert(P.await_exit(p, 1) == {:error, :timeout})
      P.close_stdin(p)
      assert Task.await_many(waiters) == List.duplicate({:ok, 0}, 20)
    end

    test "leaves nothing behind in the server when it timed out" do
      p = start!("cat", [])
      for _ <- 1..20, do: assert(P.await_exit(p, 1) == {:error, :timeout})
      assert :sys.get_state(p).awaiting == []
    end
  end

  describe "shutdown" do
    on_backends "gives the status of a command that went at the first signal" do
      p = start!("sleep", ["60"], backend: backend)
      assert P.shutdown(p, 5_000, 5_000) == {:ok, 143}
      refute P.alive?(p)
      # The server is still there, and asked again says the same.
      assert P.shutdown(p, 0, 0) == {:ok, 143}
      assert P.await_exit(p) == {:ok, 143}
    end

    on_backends "kills after its own grace what ignores the signal" do
      p = start!(fixture("ignore_term"), [], kill_timeout: 60_000, backend: backend)
      assert P.read(p) == {:ok, "ready\n"}
      {us, result} = :timer.tc(fn -> P.shutdown(p, 100, 10_000) end)
      assert result == {:ok, 137}
      assert us >= 100_000
    end

    on_backends "sends stop_signal: first" do
      script = "trap 'echo bye; exit 5' INT; echo up; while :; do sleep 0.01; done"
      p = start!("sh", ["-c", script], stop_signal: :sigint, backend: backend)
      read_until(p, "up\n")
      assert P.shutdown(p, 5_000, 5_000) == {:ok, 5}
      assert read_all(p) == "bye\n"
    end

    on_backends "wakes a stopped command for it (21)" do
      p = start!(fixture("stop_itself"), [], backend: backend)
      {:ok, os_pid} = P.os_pid(p)
      eventually("it stopped", fn -> proc_state(os_pid) == "T" end)
      assert P.shutdown(p, 5_000, 5_000) == {:ok, 143}
    end

    on_backends "again, with a shorter grace, shortens it" do
      p = start!(fixture("ignore_term"), [], backend: backend)
      assert P.read(p) == {:ok, "ready\n"}
      waiting = Task.async(fn -> P.shutdown(p, 60_000, 5_000) end)
      assert Task.yield(waiting, 50) == nil
      assert P.shutdown(p, 0, 5_000) == {:ok, 137}
      assert Task.await(waiting) == {:ok, 137}
    end

    test "with what is no number of milliseconds raises and leaves the command alone" do
      p = start!("cat", [])

      for {grace, wait} <- [{-1, 0}, {:infinity, 0}, {1.5, 0}, {0, -1}, {0, :infinity}] do
        assert_raise FunctionClauseError, fn -> P.shutdown(p, grace, wait) end
      end

      assert P.alive?(p)
    end
  end

  describe "stop" do
    on_backends "returns when command and server are gone" do
      {tag, env} = tag()

      back_at_baseline(fn ->
        for exe <- ["cat", "yes", "true", fixture("ignore_term")], _ <- 1..5 do
          {:ok, p} = P.start(exe, [], kill_timeout: 20, env: env, backend: backend)
          assert P.stop(p) == :ok
          refute Process.alive?(p)
          assert_gone(tag)
          assert P.stop(p) == :ok
        end
      end)
    end

    on_backends "may be called by many at once" do
      p = start!(fixture("ignore_term"), [], kill_timeout: 50, backend: backend)
      {:ok, _ready} = P.read(p)
      stops = for _ <- 1..10, do: Task.async(fn -> {P.stop(p), Process.alive?(p)} end)
      assert Task.await_many(stops) == List.duplicate({:ok, false}, 10)
    end

    on_backends "answers those who wait for the end" do
      p = start!("sleep", ["60"], backend: backend)
      waiter = Task.async(fn -> P.await_exit(p) end)
      reader = Task.async(fn -> P.read(p) end)

      eventually("they wait", fn ->
        Enum.all?([waiter, reader], &(Process.info(&1.pid, :status) == {:status, :waiting}))
      end)

      P.stop(p)
      assert Task.await(waiter) == {:ok, 143}
      assert Task.await(reader) in [:eof, {:error, :closed}]
    end
  end

  on_backends "os_pid is the command's own, also after its end" do
    p = start!("sh", ["-c", "echo $$; read x"], backend: backend)
    {:ok, os_pid} = P.os_pid(p)
    assert P.read(p) == {:ok, "#{os_pid}\n"}
    assert running?(os_pid)
    P.close_stdin(p)
    assert {:ok, 1} = P.await_exit(p)
    assert P.os_pid(p) == {:ok, os_pid}
    refute running?(os_pid)
  end

  on_backends "stats count the bytes of each pipe, also after the end" do
    p = start!("sh", ["-c", "cat; printf err >&2"], stderr: :pipe, backend: backend)
    P.write(p, "12345")
    P.close_stdin(p)
    assert read_all(p) == "12345"
    assert read_all(p, &P.read_stderr/1) == "err"
    assert P.await_exit(p) == {:ok, 0}
    assert {:ok, %{stdin: %{bytes: 5}, stdout: %{bytes: 5}, stderr: %{bytes: 3}}} = P.stats(p)

    {:ok, %{stdout: stats}} = P.stats(p)

    for key <-
          [:bytes, :ops, :waits_poll, :waits_io_uring, :fixed, :unfixed, :moves, :pipe_bytes] ++
            [:pipe_refused, :moves_back],
        do: assert(is_integer(stats[key]))

    p = start!("cat", [], input: :null, backend: backend)
    assert {:ok, %{stdin: nil, stdout: %{}, stderr: %{bytes: 0}}} = P.stats(p)
  end

  describe "a server that is not there" do
    # Stopped; gone before; never a server of ours.
    defp absent do
      {:ok, stopped} = P.start("cat")
      P.stop(stopped)
      {:ok, killed} = P.start("cat")
      monitor = Process.monitor(killed)
      Process.exit(killed, :kill)
      assert_receive {:DOWN, ^monitor, :process, _, _}, 5_000
      eventually("its pipes are closed", fn -> P.write(killed, "x") == {:error, :closed} end)
      {dead, monitor} = spawn_monitor(fn -> :ok end)
      assert_receive {:DOWN, ^monitor, :process, _, _}
      [stopped, killed, dead, :no_such_name]
    end

    test "gives an error to every call, exits nobody and sends nothing" do
      for p <- absent() do
        assert P.read(p) == {:error, :closed}
        assert P.read(p, 1, 0) == {:error, :closed}
        assert P.read_stderr(p) == {:error, :closed}
        assert P.write(p, "x") == {:error, :closed}
        assert P.close_stdin(p) == {:error, :closed}
        assert P.kill(p) == {:error, :not_running}
        assert P.kill(p, :sigkill, :leader) == {:error, :not_running}
        assert P.await_exit(p) == {:error, :closed}
        assert P.await_exit(p, 0) == {:error, :closed}
        assert P.await_exit(p, 10) == {:error, :closed}
        assert P.shutdown(p, 0, 0) == {:error, :closed}
        assert P.os_pid(p) == {:error, :closed}
        assert P.alive?(p) == false
        assert P.stats(p) == {:error, :closed}
        assert P.stderr_tail(p) == {:error, :closed}
        assert P.stop(p) == :ok
      end

      assert Process.info(self(), :messages) == {:messages, []}
    end

    on_backends "goes away under a call without exiting the caller" do
      for call <- [&P.await_exit/1, &P.read/1, &P.stop/1] do
        {:ok, p} = P.start(fixture("ignore_term"), [], kill_timeout: 60_000, backend: backend)
        {:ok, "ready\n"} = P.read(p)
        {:ok, os_pid} = P.os_pid(p)
        caller = Task.async(fn -> call.(p) end)

        eventually("it waits", fn ->
          Process.info(caller.pid, :status) == {:status, :waiting}
        end)

        Process.exit(p, :kill)
        # Whoever asked to stop has what was asked for.
        assert Task.await(caller) in [{:error, :closed}, :eof, :ok]
        System.cmd("kill", ["-KILL", "#{os_pid}"])
        eventually("the command is gone", fn -> not running?(os_pid) end)
      end
    end
  end

  describe "the owner" do
    on_backends "is the caller: the command ends with it, however it ends" do
      {tag, env} = tag()

      back_at_baseline(fn ->
        for how <- [:normal, :shutdown, :kill, :crash] do
          me = self()

          {owner, monitor} =
            spawn_monitor(fn ->
              {:ok, p} = P.start("sleep", ["60"], env: env, backend: backend)
              send(me, {:started, p})
              receive do: ({:end, reason} -> exit(reason))
            end)

          assert_receive {:started, p}, 5_000
          server = Process.monitor(p)
          assert P.alive?(p)
          if how == :kill, do: Process.exit(owner, :kill), else: send(owner, {:end, how})
          assert_receive {:DOWN, ^monitor, :process, ^owner, _}
          assert_receive {:DOWN, ^server, :process, ^p, :normal}, 5_000
          assert_gone(tag)
        end
      end)
    end

    on_backends "may be another: owner:" do
      {owner, monitor} = spawn_monitor(fn -> receive do: (:end -> :ok) end)

      p =
        Task.await(
          Task.async(fn ->
            {:ok, p} = P.start("cat", [], owner: owner, backend: backend)
            p
          end)
        )

      # The task that started it has gone.
      assert P.write(p, "x") == :ok
      assert P.read(p) == {:ok, "x"}
      server = Process.monitor(p)
      send(owner, :end)
      assert_receive {:DOWN, ^monitor, :process, _, _}
      assert_receive {:DOWN, ^server, :process, ^p, :normal}, 5_000
    end

    on_backends "that is dead already leaves nothing running" do
      {tag, env} = tag()
      {dead, monitor} = spawn_monitor(fn -> :ok end)
      assert_receive {:DOWN, ^monitor, :process, _, _}

      back_at_baseline(fn ->
        P.start("sleep", ["60"], owner: dead, env: env, backend: backend)
        eventually("nothing runs", fn -> tagged(tag) == [] end)
      end)
    end

    on_backends "that dies after the command's end takes the server with it" do
      me = self()

      {owner, _monitor} =
        spawn_monitor(fn ->
          {:ok, p} = P.start("true", [], backend: backend)
          {:ok, 0} = P.await_exit(p)
          send(me, {:ended, p})
          receive do: (:end -> :ok)
        end)

      assert_receive {:ended, p}, 5_000
      server = Process.monitor(p)
      assert P.await_exit(p) == {:ok, 0}
      send(owner, :end)
      assert_receive {:DOWN, ^server, :process, ^p, :normal}, 5_000
    end
  end

  describe "start_link" do
    test "links the caller: a crash of the server reaches it, a normal stop does not" do
      Process.flag(:trap_exit, true)
      {:ok, p} = P.start_link("sleep", ["60"])
      Process.exit(p, :kill)
      assert_receive {:EXIT, ^p, :killed}, 5_000
      {:ok, p} = P.start_link("sleep", ["60"])
      P.stop(p)
      assert_receive {:EXIT, ^p, :normal}, 5_000
    end

    test "start does not" do
      Process.flag(:trap_exit, true)
      {:ok, p} = P.start("sleep", ["60"])
      refute p in elem(Process.info(self(), :links), 1)
      Process.exit(p, :kill)
      eventually("it is gone", fn -> not Process.alive?(p) end)
      refute_received {:EXIT, _, _}
    end

    test "that fails gives the error, links nothing and kills nobody" do
      {:links, links} = Process.info(self(), :links)

      for {exe, opts, reason} <- [
            {"no-such-program", [], :enoent},
            {"/etc/passwd", [], :eacces},
            {"true", [cd: "/no/such/directory"], {:cd, :enoent}}
          ] do
        assert P.start_link(exe, [], opts) == {:error, reason}
        assert P.start(exe, [], opts) == {:error, reason}
      end

      assert {:error, {:invalid_args, _}} = P.start_link("true", [<<0>>])
      assert Process.info(self(), :links) == {:links, links}
      assert Process.info(self(), :messages) == {:messages, []}
    end

    test "that fails is no crash: nothing is logged" do
      :ok = :logger.add_handler(__MODULE__, __MODULE__, %{config: self()})
      assert P.start("true", [], cd: "/no/such/directory") == {:error, {:cd, :enoent}}
      assert NetRunner.run(["true"], cd: "/no/such/directory") == {:error, {:cd, :enoent}}
      :ok = :logger.remove_handler(__MODULE__)
      refute_received {:logged, _event}
    end
  end

  # A handler of :logger, which sees crash reports that Logger leaves out.
  def log(event, %{config: pid}), do: send(pid, {:logged, event})

  describe "under a supervisor" do
    test "the child specification allows for the whole stop ladder" do
      assert %{start: {P, :start_link, ["cat", ["-u"], opts]}, restart: :temporary} =
               spec = P.child_spec({"cat", ["-u"], [kill_timeout: 1_000]})

      assert opts == [kill_timeout: 1_000]
      assert spec.shutdown > 1_000
      assert P.child_spec({"cat", [], []}).shutdown > 5_000
      assert P.child_spec({"cat", [], [kill_timeout: 4_294_967_295]}).shutdown <= 4_294_967_295
      assert P.child_spec({"a", [], []}).id != P.child_spec({"b", [], []}).id

      # What is of the wrong type is told here, what cannot be by the start.
      for opts <- [[kill_timeout: "x"], [nonsense: 1], :nonsense] do
        assert_raise ArgumentError, fn -> P.child_spec({"cat", [], opts}) end
      end

      assert %{start: {P, :start_link, args}} = P.child_spec({"cat", [], [cd: ""]})
      assert {:error, {:invalid, :cd, _}} = apply(P, :start_link, args)
    end

    on_backends "its stop is the command's end" do
      {tag, env} = tag()
      opts = [env: env, kill_timeout: 100, backend: backend]

      back_at_baseline(fn ->
        {:ok, supervisor} =
          Supervisor.start_link(
            [{P, {"sleep", ["60"], opts}}, {P, {fixture("ignore_term"), [], opts}}],
            strategy: :one_for_one
          )

        pids = for {_id, p, _type, _modules} <- Supervisor.which_children(supervisor), do: p
        assert Enum.all?(pids, &P.alive?/1)
        # Their environment is to be read a moment after their execve.
        eventually("both run", fn -> length(tagged(tag)) == 2 end)
        Supervisor.stop(supervisor)
        assert_gone(tag)
      end)
    end

    on_backends "a child can be terminated alone, whatever its kill_timeout" do
      {tag, env} = tag()

      back_at_baseline(fn ->
        {:ok, supervisor} = Supervisor.start_link([], strategy: :one_for_one)
        opts = [env: env, kill_timeout: 4_294_967_295, backend: backend]
        {:ok, p} = Supervisor.start_child(supervisor, {P, {"sleep", ["60"], opts}})
        assert P.alive?(p)
        assert Supervisor.terminate_child(supervisor, {P, "sleep"}) == :ok
        assert_gone(tag)
        Supervisor.stop(supervisor)
      end)
    end

    test "a child that cannot start is the supervisor's start error" do
      {:ok, supervisor} = Supervisor.start_link([], strategy: :one_for_one)

      assert {:error, reason} =
               Supervisor.start_child(supervisor, {P, {"no-such-program", [], []}})

      assert inspect(reason) =~ "enoent"
      assert Supervisor.which_children(supervisor) == []
    end
  end

  test "no report of a supervisor shows an environment or input, of a start or of one that failed" do
    Process.flag(:trap_exit, true)
    secret = "hunter2"
    opts = [env: [TOKEN: secret], input: secret]

    supervise = fn child ->
      spec = Supervisor.child_spec({P, child}, restart: :permanent)
      Supervisor.start_link([spec], strategy: :one_for_one, max_restarts: 0)
    end

    log =
      sasl_log(fn ->
        {:ok, supervisor} = supervise.({"sh", ["-c", "cat; echo $TOKEN"], opts})
        [{_id, p, :worker, _modules}] = Supervisor.which_children(supervisor)
        assert P.await_exit(p) == {:ok, 0}
        assert P.read(p) == {:ok, secret <> secret <> "\n"}
        Process.exit(p, :kill)
        assert_receive {:EXIT, ^supervisor, :shutdown}, 5_000

        for child <- [
              {"no-such-program", [], opts},
              NetRunner.Command.new("no-such-program-either", [], opts),
              {"true", opts, []}
            ] do
          assert {:error, _reason} = supervise.(child)
        end
      end)

    assert log =~ ~r/"sh"} of Supervisor .* started/
    assert log =~ ~r/"sh"} of Supervisor .* terminated/
    assert log =~ ~r/"no-such-program"} of Supervisor .* failed to start/
    assert log =~ ~r/"no-such-program-either"} of Supervisor .* failed to start/
    assert log =~ ~r/"true"} of Supervisor .* failed to start/
    assert log =~ "env: [TOKEN]"
    refute log =~ secret
  end

  test "what is told of a server's state, or logged of its crash, has no values of the environment" do
    p = start!("cat", [], env: [TOKEN: "hunter2"])
    refute inspect(:sys.get_status(p), limit: :infinity, printable_limit: :infinity) =~ "hunter2"

    log =
      ExUnit.CaptureLog.capture_log(fn ->
        monitor = Process.monitor(p)
        Process.unlink(p)
        catch_exit(GenServer.call(p, :nonsense))
        assert_receive {:DOWN, ^monitor, :process, ^p, _reason}, 10_000
      end)

    assert log =~ "terminating"
    refute log =~ "hunter2"
  end

  on_backends "input that raises is logged, with where it did, and stops the command" do
    {p, log} =
      ExUnit.CaptureLog.with_log(fn ->
        input = Stream.map(1..3, fn _ -> raise "boom" end)
        p = start!("cat", [], input: input, backend: backend)
        assert {:ok, %{cause: :stopped}} = P.result(p)
        p
      end)

    assert {:ok, os_pid} = P.os_pid(p)

    assert log =~
             "NetRunner stops cat (pid #{os_pid}), whose input broke off: ** (RuntimeError) boom"

    assert log =~ Path.basename(__ENV__.file)
  end

  test "input of a call that raises it itself is not logged as well" do
    log =
      ExUnit.CaptureLog.capture_log(fn ->
        input = Stream.map(1..3, fn _ -> raise "boom" end)
        assert_raise RuntimeError, "boom", fn -> NetRunner.run(["cat"], input: input) end
      end)

    refute log =~ "boom"
  end

  test "what is told of NetRunner.Shepherd, or logged of its crash, has nothing of a request" do
    secret = "hunter2"
    # A request is no text: seen as one, it is found if it is there.
    shown = &inspect(&1, limit: :infinity, printable_limit: :infinity, binaries: :as_strings)
    request = fn -> P.start("sleep", ["60"], env: [TOKEN: secret], spawn_timeout: 30_000) end
    assert shown.({<<0, 255, secret::binary>>, nil, 0}) =~ secret

    starts =
      with_frozen_zygote(fn ->
        start = fn -> with {:ok, p} <- request.(), do: P.stop(p) end
        starts = for _ <- 1..100, do: Task.async(start)
        eventually("requests wait", fn -> NetRunner.Shepherd.info().queued > 10 end)
        refute shown.(:sys.get_status(NetRunner.Shepherd)) =~ secret
        starts
      end)

    assert Enum.uniq(Task.await_many(starts, 60_000)) == [:ok]

    :ok = :logger.add_handler(__MODULE__, __MODULE__, %{config: self()})
    on_exit(fn -> :logger.remove_handler(__MODULE__) end)

    ExUnit.CaptureLog.capture_log(fn ->
      :sys.replace_state(NetRunner.Shepherd, &%{&1 | queued: :no_number})
      assert request.() == {:error, :shepherd_lost}
      assert_receive {:logged, %{meta: %{error_logger: %{tag: :error}}, msg: message} = event}
      refute shown.(event) =~ secret

      # Since Elixir 1.15 a report is a text before it comes to a handler.
      case message do
        {:report, %{label: {:gen_server, :terminate}} = report} ->
          assert {:spawn, _id, _request, _mode} = report.last_message

        {:string, text} ->
          text = IO.chardata_to_string(text)
          assert text =~ ~r/^Last message .*: \{:spawn, /m
          refute text =~ secret
      end

      eventually("there is another", fn -> NetRunner.run(["echo"]) == {"\n", 0} end)
    end)
  end

  test "messages from strangers change nothing" do
    p = start!("cat", [])

    for message <- [
          :garbage,
          {:EXIT, self(), :normal},
          {:DOWN, make_ref(), :process, self(), :normal},
          {:fed, self(), :ok},
          {:breaks, self(), {:broken, :eio}},
          {make_ref(), :ready},
          {:select, make_ref(), :undefined, :ready_input}
        ],
        do: send(p, message)

    assert P.write(p, "x") == :ok
    assert P.read(p) == {:ok, "x"}
    assert P.alive?(p)
  end

  test "once survivors of SIGKILL are reported, nobody is kept waiting for them (20)" do
    # As root nothing here survives SIGKILL: the report is put into the server, and its guardian is
    # stopped so that it cannot bring better news.
    {:ok, p} = NetRunner.Process.start("sleep", ["60"])
    {:ok, pid} = NetRunner.Process.os_pid(p)
    guardian = :sys.get_state(p).guardian_pid
    {_, 0} = System.cmd("kill", ["-STOP", to_string(guardian)])
    :sys.replace_state(p, &%{&1 | unkillable: [pid]})
    assert NetRunner.Process.await_exit(p) == {:error, {:unkillable, [pid]}}
    assert NetRunner.Process.stop(p) == {:error, {:unkillable, [pid]}}
    assert NetRunner.Process.alive?(p)
    # The server stays for the end, and leaves with it.
    monitor = Process.monitor(p)
    {_, 0} = System.cmd("kill", ["-CONT", to_string(guardian)])
    assert_receive {:DOWN, ^monitor, :process, ^p, :normal}, 10_000
  end

  describe "stdin/2" do
    on_backends "collects, waits where the command does not read, and closes where it is asked to" do
      {:ok, p} = NetRunner.Process.start("sha256sum", [], backend: backend)
      bytes = :crypto.strong_rand_bytes(3_000_000)
      chunks = for <<chunk::binary-size(1000) <- bytes>>, do: [chunk]
      stdin = NetRunner.Process.stdin(p, close: true)
      assert Enum.into(chunks, stdin) == stdin
      hash = Base.encode16(:crypto.hash(:sha256, bytes), case: :lower)
      assert NetRunner.Process.read(p) == {:ok, hash <> "  -\n"}
      NetRunner.Process.stop(p)
    end

    on_backends "goes on after the last element, unless it is closed" do
      {:ok, p} = NetRunner.Process.start("cat", [], backend: backend)
      for word <- ["a", "b"], do: Enum.into([word], NetRunner.Process.stdin(p))
      assert NetRunner.Process.write(p, "c") == :ok
      assert NetRunner.Process.await_output(p, "abc") == {:ok, {"", "abc"}}
      # Broken off, it is left open: an end would look like all there was.
      breaks = Stream.map(1..3, &if(&1 == 2, do: raise("boom"), else: "#{&1}"))

      assert_raise RuntimeError, fn ->
        Enum.into(breaks, NetRunner.Process.stdin(p, close: true))
      end

      assert NetRunner.Process.await_output(p, "1") == {:ok, {"", "1"}}
      assert NetRunner.Process.write(p, "d") == :ok
      NetRunner.Process.stop(p)
    end

    test "of one that is gone is an error that says so, and whose it was where that was known" do
      {:ok, p} = NetRunner.Process.start("cat")
      before = NetRunner.Process.stdin(p)
      :ok = NetRunner.Process.stop(p)
      gone = "there is no such pipe, or no such process, any more"

      for {stdin, said} <- [{before, "cat: #{gone}"}, {NetRunner.Process.stdin(p), gone}] do
        error = assert_raise NetRunner.Error, fn -> Enum.into(["x"], stdin) end
        assert {error.reason, Exception.message(error)} == {:closed, said}
      end
    end

    on_backends "raises what write/3 says" do
      {:ok, p} = NetRunner.Process.start("true", [], backend: backend)
      assert {:ok, 0} = NetRunner.Process.await_exit(p)
      error = assert_raise NetRunner.Error, fn -> Enum.into(["x"], NetRunner.Process.stdin(p)) end
      assert error.reason == :epipe
      NetRunner.Process.stop(p)
      error = assert_raise NetRunner.Error, fn -> Enum.into(["x"], NetRunner.Process.stdin(p)) end
      assert error.reason == :closed
      {:ok, p} = NetRunner.Process.start("sleep", ["60"], backend: backend)
      endless = Stream.repeatedly(fn -> String.duplicate("x", 65_536) end)

      error =
        assert_raise NetRunner.Error, fn ->
          Enum.into(endless, NetRunner.Process.stdin(p, timeout: 100))
        end

      assert {:timeout, _bytes} = error.reason

      assert_raise ArgumentError, ~r/not iodata: :a/, fn ->
        Enum.into([:a], NetRunner.Process.stdin(p))
      end

      NetRunner.Process.stop(p)

      for {opts, message} <- [
            {[close: 1], ~r/close of NetRunner.Process.stdin\/2 must be a boolean/},
            {[timeout: :never], ~r/timeout of .* must be milliseconds/},
            {[bad: 1], ~r/unknown option :bad/},
            {:bad, ~r/keyword list/}
          ],
          do: assert_raise(ArgumentError, message, fn -> NetRunner.Process.stdin(p, opts) end)
    end
  end
end
