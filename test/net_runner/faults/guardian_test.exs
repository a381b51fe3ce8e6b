defmodule NetRunner.Faults.GuardianTest do
  # The fault matrix (docs/reliability.md) where a guardian is hit.
  use NetRunner.Test.FaultCase

  @tag :subreaper
  on_backends "the guardian is killed: the family is gone, the caller is told (10)" do
    {tag, env} = tag()
    lock = tmp_path("lock")

    back_at_baseline(fn ->
      {:ok, p} =
        NetRunner.Process.start(fixture("daemonize"), [lock, "stay"],
          backend: backend,
          env: env,
          owner: self()
        )

      {:ok, "ready\n"} = NetRunner.Process.read(p)
      {:ok, other} = NetRunner.Process.start("cat", [], backend: backend)
      waiter = Task.async(fn -> NetRunner.Process.await_exit(p) end)
      reader = Task.async(fn -> NetRunner.Process.read(p) end)
      guardian = :sys.get_state(p).guardian_pid
      {_, 0} = System.cmd("kill", ["-KILL", to_string(guardian)])
      assert Task.await(waiter, d()) == {:error, :guardian_lost}
      assert Task.await(reader, k()) == :eof
      await_free(lock, k())
      eventually("the leader is gone", k(), fn -> tagged(tag) == [] end)
      assert NetRunner.Process.kill(p) == {:error, :not_running}
      NetRunner.Process.stop(p)
      assert NetRunner.run(["echo", "on"], backend: backend) == {"on\n", 0}
      assert NetRunner.Process.write(other, "still here") == :ok
      assert NetRunner.Process.read(other) == {:ok, "still here"}
      NetRunner.Process.stop(other)
    end)
  end

  @tag :root
  @tag :run_as
  @tag :subreaper
  test "the guardian of 64 chains of forks at full speed is killed: the family is gone (10)" do
    {program, args, lock, opts} = chains_at_full_speed("lock")
    {:ok, p} = NetRunner.Process.start(program, args, opts)
    {:ok, "ready\n"} = NetRunner.Process.read(p)
    await_forks(1_000)
    {_, 0} = System.cmd("kill", ["-KILL", to_string(:sys.get_state(p).guardian_pid)])
    assert await_free(lock, 8_000) < k()
    NetRunner.Process.stop(p)
  end

  describe "a guardian is stopped with SIGSTOP" do
    @describetag :slow
    setup do
      lock = tmp_path("lock")
      {tag, env} = tag()
      opts = [kill_timeout: 100, env: env]
      {:ok, p} = NetRunner.Process.start(fixture("daemonize"), [lock, "stay"], opts)
      {:ok, "ready\n"} = NetRunner.Process.read(p)
      {:ok, lock: lock, tag: tag, p: p, guardian: :sys.get_state(p).guardian_pid}
    end

    @tag :subreaper
    test "and kill/3 is called: a time-out, then the zygote ends it and its family (12)",
         context do
      freeze(context.guardian)
      assert NetRunner.Process.kill(context.p) == {:error, :timeout}
      assert NetRunner.Process.await_exit(context.p, 2_000) == {:error, :guardian_lost}
      await_free(context.lock, 2_000)
      NetRunner.Process.stop(context.p)
    end

    @tag :subreaper
    test "and stop/1 is called: it ends nevertheless", context do
      freeze(context.guardian)
      stop = Task.async(fn -> NetRunner.Process.stop(context.p) end)
      assert Task.yield(stop, 20_000) == {:ok, :ok}
      await_free(context.lock, 2_000)
    end

    @tag :subreaper
    test "and the command's own server is killed: nobody else would notice, the zygote ends it",
         context do
      freeze(context.guardian)
      Process.exit(context.p, :kill)
      await_free(context.lock, 100 + 4_000 + k())
      eventually("the guardian is gone", k(), fn -> not running?(context.guardian) end)
      assert NetRunner.run(["echo", "on"]) == {"on\n", 0}
    end

    @tag :subreaper
    test "and its BEAM is killed: the zygote ends it and its family (11)" do
      lock = tmp_path("lock")
      beam = other_beam("daemonize", [lock, "stay"], kill_timeout: 200)
      {zygote, guardian} = shepherds(beam)
      freeze(guardian)
      OtherBeam.kill(beam)
      assert await_free(lock, 8_000) < d() + 200 + s() + 1_000

      eventually("guardian and zygote are gone", fn ->
        not running?(guardian) and not running?(zygote)
      end)
    end

    @tag :subreaper
    @tag :pidfd
    test "after its zygote was replaced: the BEAM ends it", context do
      kill_zygote()
      eventually("the next start works", 1_000, fn -> NetRunner.run(["true"]) == {"", 0} end)
      freeze(context.guardian)
      assert NetRunner.Process.kill(context.p) == {:error, :timeout}
      assert NetRunner.Process.await_exit(context.p, 2_000) == {:error, :guardian_lost}
      NetRunner.Process.stop(context.p)

      # With zygote and guardian both killed nobody sweeps (docs/limits.md): the daemon is ours to end.
      eventually("the guardian is gone", fn -> not running?(context.guardian) end)
      for pid <- tagged(context.tag), do: System.cmd("kill", ["-KILL", to_string(pid)])
      await_free(context.lock, 2_000)
    end
  end

  @tag :subreaper
  test "a guardian is stopped before it could say that the command runs: the start times out, nobody is left" do
    # With a directory it is no start that the guardian waits for.
    held_in_execve([cd: "/"], &freeze/1)
  end

  @tag :subreaper
  test "a guardian waits for a command that hangs in execve: the start times out, nobody is left" do
    held_in_execve([], fn _guardian -> :ok end)
  end

  # A start whose child is in execve, for a lease of its executable, as `harm` leaves its guardian.
  defp held_in_execve(opts, harm) do
    program = tmp_path("program")
    File.cp!("/bin/sleep", program)
    {:ok, lease} = NetRunner.Process.start(fixture("hold_lease"), [program])
    {:ok, "ready\n"} = NetRunner.Process.read(lease)
    zygote = NetRunner.Shepherd.info().os_pid
    others = children(zygote)
    opts = [spawn_timeout: 500] ++ opts

    start = Task.async(fn -> NetRunner.Process.start(program, ["60"], opts) end)

    [guardian] = eventually("there is a guardian", fn -> some(children(zygote) -- others) end)
    [command] = eventually("there is a child", fn -> some(children(guardian)) end)
    harm.(guardian)

    assert Task.await(start, 10_000) == {:error, :spawn_timeout}
    eventually("the guardian is gone", k(), fn -> not running?(guardian) end)
    eventually("its child is gone", k(), fn -> not running?(command) end)
    NetRunner.Process.stop(lease)
  end

  defp some(list), do: if(list != [], do: list)
end
