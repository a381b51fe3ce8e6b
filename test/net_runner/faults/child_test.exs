defmodule NetRunner.Faults.ChildTest do
  # The fault matrix (docs/reliability.md) where the child is the one who misbehaves, or is made wrongly.
  use NetRunner.Test.FaultCase

  alias NetRunner.Test.CarelessOpens

  @tag :subreaper
  on_backends "the leader exits, a background job keeps stdout: nothing waits longer than the drain (22, 23)" do
    lock = tmp_path("lock")

    back_at_baseline(fn ->
      opts = [backend: backend, drain_timeout: 200]

      {us, result} =
        :timer.tc(fn -> NetRunner.run([fixture("background_stdout"), lock], opts) end)

      assert result == {"leader\n", 0}
      assert us < 1_500_000
      refute locked?(lock)
    end)

    {:ok, p} = NetRunner.Process.start(fixture("background_stdout"), [lock], backend: backend)
    assert NetRunner.Process.read(p) == {:ok, "leader\n"}
    assert locked?(lock)
    assert NetRunner.Process.await_exit(p, 3_000) == {:ok, 0}
    refute locked?(lock)
    assert NetRunner.Process.read(p) == :eof
    NetRunner.Process.stop(p)
  end

  @tag :subreaper
  on_backends "what a background job still wrote within the drain is delivered (23)" do
    script = "(i=0; while [ $i -lt 200 ]; do echo $i; i=$((i+1)); done) & exit 4"
    expected = Enum.map_join(0..199, &"#{&1}\n")
    assert NetRunner.run(["sh", "-c", script], backend: backend) == {expected, 4}
  end

  describe "the child's state (26)" do
    on_backends "is clean in 1,000 parallel spawns: nothing ignored, nothing blocked, 0 1 2 open" do
      for state <- thousand_states(backend), do: assert_clean(state)
    end

    defp thousand_states(backend) do
      1..1000
      |> Task.async_stream(
        fn _n -> NetRunner.run([fixture("show_state")], backend: backend, input: "") end,
        max_concurrency: 32,
        timeout: 60_000
      )
      |> Enum.map(fn {:ok, {state, 0}} -> state end)
    end

    on_backends "is clean while a thread of the BEAM opens descriptors without O_CLOEXEC, and the zygote is replaced" do
      :ok = CarelessOpens.begin()
      on_exit(fn -> CarelessOpens.finish() end)
      kill_zygote()
      # The next one is forked from a BEAM with such descriptors open.
      eventually("there is a zygote", 10_000, fn -> NetRunner.run(["true"]) == {"", 0} end)
      for state <- thousand_states(backend), do: assert_clean(state)
      assert CarelessOpens.finish() > 10_000
    end

    test "is clean although the BEAM was started with descriptors and signals of its launcher" do
      beam =
        OtherBeam.start(
          """
          {state, 0} = NetRunner.run([#{inspect(fixture("show_state"))}]);
          state |> String.split("\\n", trim: true) |> Enum.each(&IO.puts/1);
          IO.puts("up");
          Process.sleep(:infinity)
          """,
          ["sh", "-c", ~S[trap '' HUP USR1; exec 9</dev/null 8>/dev/null; exec "$@"], "sh"]
        )

      assert_clean(Enum.join(lines(beam.port), "\n"))
      OtherBeam.kill(beam)
    end

    defp lines(port) do
      receive do
        {^port, {:data, {:eol, line}}} -> [line | lines(port)]
      after
        0 -> []
      end
    end

    # POSIX's sigaction(2) cannot name the two signals that glibc keeps for itself: if whoever started
    # the BEAM had them ignored, the portable build leaves them so.
    defp reachable do
      case NetRunner.Nif.build() do
        :portable -> Bitwise.bnot(0x1_8000_0000)
        :io_uring -> -1
      end
    end

    defp assert_clean(state) do
      facts =
        for line <- String.split(state, "\n", trim: true),
            do: List.to_tuple(String.split(line, " ", parts: 2))

      facts = for {name, value} <- facts, into: %{}, do: {name, String.trim(value)}
      assert Integer.parse(facts["SigIgn"], 16) |> elem(0) |> Bitwise.band(reachable()) == 0
      assert facts["SigBlk"] =~ ~r/^0+$/
      assert facts["fds"] == "0 1 2"
      assert facts["sid"] == facts["pid"]
      assert facts["pgid"] == facts["pid"]
    end
  end

  @tag :pid_namespace
  @tag :pidfd
  test "pids of the command and its guardian that were given to strangers are never signalled (24)" do
    beam =
      OtherBeam.start(
        """
        import NetRunner.Test.World
        {"", 0} = NetRunner.run(["true"])
        before = settled_baseline()
        # So that its guardian does not rest.
        {:ok, p} = NetRunner.Process.start("cat", [], kill_timeout: 100, orphans: :keep)
        {:ok, os_pid} = NetRunner.Process.os_pid(p)
        %{control: control, guardian_pid: guardian, start: start} = :sys.get_state(p)
        NetRunner.Process.close_stdin(p)
        {:ok, 0} = NetRunner.Process.await_exit(p)
        eventually("the guardian is gone", fn -> proc_state(guardian) == nil end)
        strangers = for pid <- [os_pid, guardian], do: stranger(pid)
        for scope <- [:group, :leader], do: IO.inspect(NetRunner.Process.kill(p, :sigkill, scope))
        IO.inspect(NetRunner.Nif.control_kill(control, guardian))
        IO.inspect(NetRunner.Shepherd.escalate(start))
        IO.inspect(NetRunner.Process.shutdown(p, 0, 1_000))
        IO.inspect(NetRunner.Process.stop(p))
        # The zygote does what it is told in order: this one came after the escalation.
        {"", 0} = NetRunner.run(["true"])
        pids = for port <- strangers, do: elem(Port.info(port, :os_pid), 1)
        IO.inspect(for pid <- pids, do: running?(pid))
        Enum.each(pids, &end_stranger/1)
        await_baseline(before)
        IO.puts("up")
        Process.sleep(:infinity)
        """,
        pid_namespace()
      )

    assert OtherBeam.read_line(beam) == "{:error, :not_running}"
    assert OtherBeam.read_line(beam) == "{:error, :not_running}"
    assert OtherBeam.read_line(beam) == "{:error, :esrch}"
    assert OtherBeam.read_line(beam) == ":ok"
    assert OtherBeam.read_line(beam) == "{:ok, 0}"
    assert OtherBeam.read_line(beam) == ":ok"
    assert OtherBeam.read_line(beam) == "[true, true]"
  end

  describe "a child that SIGKILL does not end (20)" do
    @describetag :slow
    @tag :freezer
    test "in uninterruptible sleep: named after G + S, nobody is kept waiting, gone once it wakes" do
      lock = tmp_path("lock")
      run_lock = tmp_path("run_lock")

      back_at_baseline(fn ->
        # The time-out of a run meets one at the same time as the stop of a command.
        {tag, env} = tag()
        opts = [timeout: 1_000, kill_timeout: 100, env: env]
        cmd = [fixture("ignore_term"), run_lock]
        run = Task.async(fn -> :timer.tc(fn -> NetRunner.run(cmd, opts) end) end)
        [run_pid] = eventually("it runs", fn -> locked?(run_lock) and tagged(tag) end)
        thaw_run = freeze_hard(run_pid)

        {:ok, p} = NetRunner.Process.start(fixture("ignore_term"), [lock], kill_timeout: 100)
        {:ok, "ready\n"} = NetRunner.Process.read(p)
        {:ok, os_pid} = NetRunner.Process.os_pid(p)
        server = Process.monitor(p)
        waiter = Task.async(fn -> NetRunner.Process.await_exit(p) end)
        thaw = freeze_hard(os_pid)

        {us, stopped} = :timer.tc(fn -> NetRunner.Process.stop(p) end)
        assert stopped == {:error, {:unkillable, [os_pid]}}
        assert us in in_ms(100 + s(), 100 + s() + k())
        assert Task.await(waiter) == {:error, {:unkillable, [os_pid]}}
        assert NetRunner.Process.await_exit(p) == {:error, {:unkillable, [os_pid]}}

        {us, result} = Task.await(run, 10_000)
        assert result == {:error, {:unkillable, [run_pid]}}
        assert us in in_ms(1_000 + 100 + s(), 1_000 + 100 + s() + k())

        assert locked?(lock) and locked?(run_lock)
        thaw.()
        thaw_run.()
        await_free(lock, k())
        await_free(run_lock, k())
        assert_receive {:DOWN, ^server, :process, _pid, :normal}, 5_000
      end)
    end

    @tag :root
    @tag :set_uid
    test "of another user: named after G + S, tried again, gone once it can be killed" do
      {launcher, ebin} = OtherBeam.as_somebody()
      become_root = Path.join(Path.dirname(ebin), "become_root")
      File.cp!(fixture("become_root"), become_root)
      File.chmod!(become_root, 0o4755)

      beam =
        OtherBeam.start(
          """
          {:ok, p} = NetRunner.Process.start(#{inspect(become_root)}, ["4000"], kill_timeout: 100)
          IO.write(elem(NetRunner.Process.read(p), 1))
          {:ok, pid} = NetRunner.Process.os_pid(p)
          monitor = Process.monitor(p)
          {us, {:error, {:unkillable, [^pid]}}} = :timer.tc(fn -> NetRunner.Process.stop(p) end)
          IO.puts(div(us, 1000))
          IO.puts(NetRunner.Process.await_exit(p) == {:error, {:unkillable, [pid]}})
          IO.puts("up")
          receive do: ({:DOWN, ^monitor, :process, _, reason} -> IO.puts(reason))
          Process.sleep(:infinity)
          """,
          launcher,
          ebin
        )

      # "plain": the folder for temporary files is mounted without set-uid programs.
      assert OtherBeam.read_line(beam) == "ready"
      ms = beam |> OtherBeam.read_line() |> String.to_integer()
      assert ms in (100 + s())..(100 + s() + k())
      assert OtherBeam.read_line(beam) == "true"
      # It is tried once a second.
      assert OtherBeam.read_line(beam, 4_000 + 1_000 + k()) == "normal"
    end

    defp in_ms(from, to), do: (from * 1000)..(to * 1000)
  end
end
