defmodule NetRunner.Faults.BeamTest do
  # The fault matrix (docs/reliability.md) where the BEAM is hit: killed, ended, stopped.
  use NetRunner.Test.FaultCase

  describe "the BEAM is killed" do
    @tag :subreaper
    on_backends "with a plain child (1)" do
      {tag, env} = tag()
      lock = tmp_path("lock")
      opts = [env: env, kill_timeout: 300, backend: backend]
      beam = other_beam("daemonize", [lock, "stay"], opts)
      assert length(tagged(tag)) == 2
      OtherBeam.kill(beam)
      assert await_free(lock, 4_000) < d() + 300 + k()
      eventually("nobody of the family lives", k(), fn -> tagged(tag) == [] end)
    end

    @tag :subreaper
    on_backends "with a daemon that did setsid and forked twice, its leader gone (2)" do
      {tag, env} = tag()
      lock = tmp_path("lock")
      opts = [env: env, kill_timeout: 300, drain_timeout: 60_000, backend: backend]
      beam = other_beam("daemonize", [lock, "exit"], opts)
      eventually("only the daemon is left", fn -> length(tagged(tag)) == 1 end)
      OtherBeam.kill(beam)
      assert await_free(lock, 4_000) < d() + 300 + k()
      assert tagged(tag) == []
    end

    on_backends "when the leader dies of TERM and a member ignores it (3)" do
      {tag, env} = tag()
      lock = tmp_path("lock")

      beam =
        other_beam("term_ignoring_member", [lock], env: env, kill_timeout: 300, backend: backend)

      assert length(tagged(tag)) == 2
      OtherBeam.kill(beam)
      assert await_free(lock, 4_000) < d() + 300 + k()
      eventually("nobody of the family lives", k(), fn -> tagged(tag) == [] end)
    end

    @tag :subreaper
    on_backends "with 64 processes that fork, make sessions and exit for ever (4)" do
      lock = tmp_path("lock")
      beam = other_beam("fork_chain", ["64", lock], kill_timeout: 300, backend: backend)
      OtherBeam.kill(beam)
      assert await_free(lock, 8_000) < d() + 300 + s()
    end

    @tag :root
    @tag :run_as
    @tag :subreaper
    test "with 64 that do so at full speed, and may be a thousand (4)" do
      {program, args, lock, opts} = chains_at_full_speed("lock")
      beam = other_beam(program, args, [kill_timeout: 300] ++ opts)
      await_forks(1_000)
      OtherBeam.kill(beam)
      assert await_free(lock, 8_000) < d() + 300 + s()
    end

    @tag :subreaper
    test "and its zygote ends too, with every guardian" do
      lock = tmp_path("lock")
      beam = other_beam("daemonize", [lock, "stay"], kill_timeout: 100)
      {zygote, guardian} = shepherds(beam)
      assert running?(zygote)
      OtherBeam.kill(beam)
      await_free(lock, 4_000)

      eventually("zygote and guardian are gone", fn ->
        not running?(zygote) and not running?(guardian)
      end)
    end

    @tag :subreaper
    test "while a fork of it still holds every descriptor it had (7)" do
      lock = tmp_path("lock")
      fork = "IO.puts(NetRunner.Test.BeamFork.fork()); Process.sleep(:infinity)"
      beam = other_beam("daemonize", [lock, "stay"], [kill_timeout: 300], [], fork)
      {zygote, guardian} = shepherds(beam)
      fork = beam |> OtherBeam.read_line() |> String.to_integer()
      on_exit(fn -> System.cmd("kill", ["-KILL", to_string(fork)]) end)

      sockets = sockets(beam.os_pid)
      # The request socket and the control socket at least.
      assert length(sockets) >= 2
      OtherBeam.kill(beam)
      assert await_free(lock, 4_000) < d() + 300 + k()

      eventually("zygote and guardian are gone", fn ->
        not running?(zygote) and not running?(guardian)
      end)

      assert running?(fork)
      assert sockets -- sockets(fork) == []
    end

    defp sockets(os_pid) do
      for fd <- File.ls!("/proc/#{os_pid}/fd"),
          {:ok, "socket:" <> _ = socket} <- [File.read_link("/proc/#{os_pid}/fd/#{fd}")],
          do: socket
    end
  end

  describe "the BEAM ends by itself (6)" do
    @ends [
      {"it halts", "System.halt(3)", 3},
      {"it stops in good order", "System.stop(4)", 4},
      {"it aborts", ":erlang.halt(:abort)", 128 + 6},
      {"it crashes", ":erlang.halt('it crashes')", 1}
    ]

    for {sentence, code, status} <- @ends do
      test sentence do
        lock = tmp_path("lock")
        then = "IO.gets(:stdio, []); #{unquote(code)}; Process.sleep(:infinity)"
        beam = other_beam("ignore_term", [lock], [kill_timeout: 300], no_dumps(), then)
        OtherBeam.tell(beam)
        assert OtherBeam.await_exit(beam, 20_000) == unquote(status)
        assert await_free(lock, 4_000) < d() + 300 + k()
      end
    end

    test "it is sent SIGTERM" do
      lock = tmp_path("lock")
      beam = other_beam("ignore_term", [lock], [kill_timeout: 300], no_dumps())
      OtherBeam.kill(beam, "TERM")
      assert OtherBeam.await_exit(beam, 20_000) == 0
      assert await_free(lock, 4_000) < d() + 300 + k()
    end
  end

  defp no_dumps,
    do: ["sh", "-c", ~S(ulimit -c 0; ERL_CRASH_DUMP_SECONDS=0 exec "$@" 2>/dev/null), "sh"]

  # What was asked for is answered while the BEAM is stopped, and each time-out of ours is over before it
  # can look: that of a kill (5 s), of a stop (its grace and 4 s), of a start (3 s). Some guardians go on when
  # the BEAM does, not earlier, as after `docker pause`: their answers come after the time-out.
  @tag :slow
  on_backends "a BEAM that is stopped for five seconds and continued loses nothing (8)" do
    fifo = tmp_path("fifo")
    {_, 0} = System.cmd("mkfifo", [fifo])
    beam = OtherBeam.start(busy_beam(backend, fifo))
    pids = beam |> OtherBeam.read_line() |> String.split() |> Enum.map(&String.to_integer/1)
    [ending, short, long, zygote, guardian | paused] = pids
    for os_pid <- [zygote, guardian | paused], do: freeze(os_pid)
    OtherBeam.tell(beam)
    OtherBeam.await_line(beam, "under way", 20_000)
    freeze(beam.os_pid)
    stopped = System.monotonic_time(:millisecond)
    {_, 0} = System.cmd("kill", ["-CONT", to_string(zygote), to_string(guardian)])
    File.write!(fifo, "\n")
    eventually("these have ended", fn -> not running?(ending) and not running?(short) end)
    assert running?(long)

    receive do
    after
      5_500 - (System.monotonic_time(:millisecond) - stopped) -> :ok
    end

    {_, 0} = System.cmd("kill", ["-CONT" | Enum.map([beam.os_pid | paused], &to_string/1)])

    assert OtherBeam.read_line(beam) == ~s|kills [:ok]|
    assert OtherBeam.read_line(beam) == ~s|start {"started\\n", 0}|
    assert OtherBeam.read_line(beam) == ~s|short {{:ok, 137}, :ok}|
    assert OtherBeam.read_line(beam) == ~s|told {:ok, "winch\\n"}|
    assert OtherBeam.read_line(beam) == ~s|ending {"first\\nlast\\n", {:ok, 7}}|
    assert OtherBeam.read_line(beam) == ~s|cat {{:ok, "before"}, :ok, {:ok, "after"}}|
    assert OtherBeam.read_line(beam) == ~s|cat {:eof, {:ok, 0}}|
    assert OtherBeam.read_line(beam, 10_000) == ~s|long {{:ok, 137}, :ok}|
    "it took " <> ms = OtherBeam.read_line(beam)
    assert String.to_integer(ms) in 7_000..(7_000 + k())
    assert OtherBeam.read_line(beam) == "told {:ok, 143}"
  end

  # Says the pids of three commands, of its zygote and of those guardians that will be asked to kill. Told
  # to, it makes use of all its commands, says so, and then what came of it.
  defp busy_beam(backend, fifo) do
    """
    alias NetRunner.Process, as: Command
    import NetRunner.Test.World

    opts = [backend: #{inspect(backend)}]
    ready = fn exe, args, grace ->
      {:ok, p} = Command.start(exe, args, [kill_timeout: grace] ++ opts)
      {:ok, "ready\\n"} = Command.read(p)
      p
    end
    all = fn all, p, said ->
      case Command.read(p), do: ({:ok, more} -> all.(all, p, said <> more); :eof -> said)
    end
    said = fn what, value -> IO.puts("\#{what} \#{inspect(value)}") end

    {:ok, cat} = Command.start("cat", [], opts)
    :ok = Command.write(cat, "before")
    {:ok, ending} = Command.start("sh", ["-c", "echo first; read _ <#{fifo}; echo last; exit 7"], opts)
    winch = "trap 'echo winch' WINCH; trap 'exit 143' TERM; echo ready; while :; do sleep 0.05; done"
    told = ready.("sh", ["-c", winch], 5_000)
    signalled = [told | for(_ <- 1..8, do: elem(Command.start("cat", [], opts), 1))]
    short = ready.(#{inspect(fixture("ignore_term"))}, [], 1_000)
    long = ready.(#{inspect(fixture("ignore_term"))}, [], 7_000)
    pids = for p <- [ending, short, long], do: elem(Command.os_pid(p), 1)
    guardians = for p <- signalled, do: :sys.get_state(p).guardian_pid
    IO.puts(Enum.join(pids ++ [NetRunner.Shepherd.info().os_pid | guardians], " "))
    IO.puts("up")
    IO.gets(:stdio, [])

    began = System.monotonic_time(:millisecond)
    kills = for p <- signalled, do: Task.async(fn -> Command.kill(p, :sigwinch) end)
    start = Task.async(fn -> NetRunner.run(["echo", "started"], [spawn_timeout: 3_000] ++ opts) end)
    [short, long] =
      for p <- [short, long] do
        waiter = Task.async(fn -> Command.await_exit(p) end)
        eventually("it waits", fn -> :sys.get_state(p).awaiting != [] end)
        stop = Task.async(fn -> Command.stop(p) end)
        eventually("it stops", fn -> :sys.get_state(p).cause != nil end)
        fn -> {Task.await(waiter, :infinity), Task.await(stop, :infinity)} end
      end
    eventually("all is under way", fn ->
      Enum.all?(signalled, &(:sys.get_state(&1).kills != %{})) and NetRunner.Shepherd.info().in_flight == 1
    end)
    IO.puts("under way")

    said.("kills", kills |> Task.await_many(:infinity) |> Enum.uniq())
    said.("start", Task.await(start, :infinity))
    said.("short", short.())
    said.("told", Command.read(told))
    said.("ending", {all.(all, ending, ""), Command.await_exit(ending)})
    said.("cat", {Command.read(cat), Command.write(cat, "after"), Command.read(cat)})
    Command.close_stdin(cat)
    said.("cat", {Command.read(cat), Command.await_exit(cat)})
    said.("long", long.())
    IO.puts("it took \#{System.monotonic_time(:millisecond) - began}")
    said.("told", Command.shutdown(told, 5_000, 1_000))
    Process.sleep(:infinity)
    """
  end

  # What stops a container signals everybody in it: here the BEAM and all that descends from it.
  on_backends "SIGTERM to everybody at once: each command gets its own grace (10b)" do
    lock = tmp_path("lock")
    words = for n <- 1..3, do: tmp_path("words_#{n}")
    # What it runs then is not asked again: 300 ms are 300 ms.
    script =
      ~S(trap 'trap "" TERM; sleep 0.3; echo "last words" >"$1"; exit 0' TERM; echo ready; while :; do sleep 0.05; done)

    beam =
      OtherBeam.start(
        """
        start = fn exe, args, grace ->
          # A shell says on stderr that its sleep was killed: a pipe that nobody reads any more would end it.
          opts = [kill_timeout: grace, stderr: :discard, backend: #{inspect(backend)}]
          {:ok, p} = NetRunner.Process.start(exe, args, opts)
          {:ok, "ready\\n"} = NetRunner.Process.read(p)
        end
        for words <- #{inspect(words)}, do: start.("sh", ["-c", #{inspect(script)}, "sh", words], 5_000)
        start.(#{inspect(fixture("ignore_term"))}, [#{inspect(lock)}], 600)
        IO.puts("up")
        Process.sleep(:infinity)
        """,
        no_dumps()
      )

    everybody = [beam.os_pid | descendants(beam.os_pid)]
    # The BEAM, erl_child_setup, the zygote, and four commands with their guardians at least.
    assert length(everybody) >= 11
    began = System.monotonic_time(:millisecond)
    # A sleep may have ended by now.
    System.cmd("kill", ["-TERM" | Enum.map(everybody, &to_string/1)], stderr_to_stdout: true)
    OtherBeam.await_exit(beam, 20_000)
    await_free(lock, 4_000)
    assert System.monotonic_time(:millisecond) - began >= 600

    eventually("nobody is left", 5_000, fn -> not Enum.any?(everybody, &running?/1) end)
    for path <- words, do: assert(File.read(path) == {:ok, "last words\n"})
  end

  defp descendants(os_pid) do
    for child <- children(os_pid), one <- [child | descendants(child)], do: one
  end

  @tag :subreaper
  test "two BEAMs of one user: the end of one, of its commands and of its zygote is nothing to the other (49)" do
    lock = tmp_path("lock")
    their_lock = tmp_path("their_lock")
    beam = other_beam("ignore_term", [their_lock], kill_timeout: 60_000)
    {zygote, guardian} = shepherds(beam)

    back_at_baseline(fn ->
      {:ok, p} = NetRunner.Process.start(fixture("ignore_term"), [lock], kill_timeout: 0)
      {:ok, "ready\n"} = NetRunner.Process.read(p)
      NetRunner.Process.stop(p)
      assert NetRunner.run(["sh", "-c", "kill -KILL $$"]) == {"", 137}
    end)

    kill_zygote()
    assert NetRunner.run(["echo", "ours"]) == {"ours\n", 0}
    assert locked?(their_lock)
    assert running?(zygote) and running?(guardian)

    {:ok, p} = NetRunner.Process.start("cat")
    OtherBeam.kill(beam)
    System.cmd("kill", ["-KILL", to_string(guardian)])
    await_free(their_lock, 4_000)
    assert NetRunner.Process.write(p, "still here") == :ok
    assert NetRunner.Process.read(p) == {:ok, "still here"}
    NetRunner.Process.stop(p)
  end
end
