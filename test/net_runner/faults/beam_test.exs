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

    defp no_dumps,
      do: ["sh", "-c", ~S(ulimit -c 0; ERL_CRASH_DUMP_SECONDS=0 exec "$@" 2>/dev/null), "sh"]
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
