defmodule NetRunner.Faults.RestTest do
  # Guardians that rest between two commands (docs/shepherd.md, "Rest"), and whoever is hit meanwhile.
  use NetRunner.Test.FaultCase

  @moduletag :subreaper

  # A busy machine may take longer between two lines of a test than a guardian rests: here they rest until they are dismissed, but
  # where that is what is tested.
  setup context do
    unless context[:they_leave] do
      hold(true)
      on_exit(fn -> hold(false) end)
    end

    :ok
  end

  defp hold(hold?) do
    NetRunner.Shepherd.dismiss()

    :sys.replace_state(NetRunner.Shepherd, fn state ->
      if is_reference(state.tick), do: Process.cancel_timer(state.tick)

      receive do
        :tick -> :ok
      after
        0 -> :ok
      end

      %{state | tick: if(hold?, do: :held)}
    end)
  end

  # Whose guardian it was.
  defp guardian(opts \\ []) do
    {line, 0} = NetRunner.run(["sh", "-c", "echo $PPID"], opts)
    String.to_integer(String.trim(line))
  end

  defp resting, do: NetRunner.Shepherd.info().resting

  defp signal(os_pid, name), do: {_, 0} = System.cmd("kill", ["-" <> name, to_string(os_pid)])

  on_backends "the next command has the same guardian, and its own everything" do
    dir = tmp_path("dir")
    File.mkdir!(dir)
    show = ["sh", "-c", "pwd; umask; ulimit -n; echo ${ONLY-unset}; ls /proc/self/fd | wc -l"]
    plain = NetRunner.run(show, backend: backend)
    first = guardian(backend: backend)

    changed = [
      backend: backend,
      cd: dir,
      umask: 0o77,
      rlimits: [nofile: 32],
      env: [ONLY: "here"],
      stdout: {:file, Path.join(dir, "out")}
    ]

    assert NetRunner.run(["sh", "-c", "echo $PPID"], changed) == {"", 0}
    assert File.read!(Path.join(dir, "out")) == "#{first}\n"
    assert NetRunner.run(show, backend: backend) == plain
    assert guardian(backend: backend) == first
  end

  test "a hundred commands of every kind, and it holds as many descriptors as before" do
    beam = String.to_integer(System.pid())
    ours = fd_count(beam)
    first = guardian()
    fds = fd_count(first)

    for _ <- 1..20 do
      assert NetRunner.run(["cat"], input: "x") == {"x", 0}
      assert NetRunner.run(["sh", "-c", "echo e >&2"], stderr: :merge) == {"e\n", 0}
      assert NetRunner.run(["true"], pty: true) == {"", 0}
      assert NetRunner.run(["sh", "-c", "kill -9 $$"]) == {"", 137}
      assert guardian() == first
    end

    assert fd_count(first) == fds
    assert resting() == 1
    NetRunner.Shepherd.dismiss()
    # Those that ERTS lets go of a little later.
    eventually("our descriptors", fn -> fd_count(beam) == ours end)
  end

  @tag :they_leave
  test "nobody orders anything: it leaves within a second" do
    first = guardian()
    assert running?(first)
    eventually("it has left", 1_000, fn -> not running?(first) end)
    assert resting() == 0
  end

  test "sixteen rest at most" do
    1..40 |> Enum.map(fn _ -> fn -> NetRunner.run(["sleep", "0.2"]) end end) |> at_once()
    assert resting() in 2..16
    zygote = NetRunner.Shepherd.info().os_pid
    eventually("the others have left", fn -> length(children(zygote)) <= 16 end)
    assert length(children(zygote)) >= 2
  end

  test "it is for one with the same grace, which is what the zygote knows of it" do
    first = guardian(kill_timeout: 1_000)
    other = guardian(kill_timeout: 2_000)
    assert other != first
    assert guardian(kill_timeout: 1_000) == first
    assert guardian(kill_timeout: 2_000) == other
  end

  test "who left an orphan behind, was stopped or did not start takes its guardian with it" do
    for {cmd, opts} <- [
          {["sh", "-c", "sleep 1000 & echo $PPID"], [drain_timeout: 0]},
          {["sh", "-c", "echo $PPID; exec sleep 1000"], [timeout: 200]},
          {["sh", "-c", "echo $PPID; exec sleep 1000"], [max_output_size: 2]}
        ] do
      NetRunner.Shepherd.dismiss()
      _ = NetRunner.run(cmd, opts)
      assert resting() == 0
    end

    _ = guardian()
    assert resting() == 1
    assert {:error, {:cd, :enoent}} = NetRunner.run(["true"], cd: "/nowhere")
    assert resting() == 0
  end

  test "one whose orphans are kept, or whose arguments are large, does not begin to rest" do
    NetRunner.Shepherd.dismiss()
    assert NetRunner.run(["true"], orphans: :keep) == {"", 0}
    assert NetRunner.run(["true", String.duplicate("a", 100_000)]) == {"", 0}
    assert resting() == 0
  end

  on_backends "it is killed while it rests: the next command has another" do
    first = guardian(backend: backend)
    signal(first, "KILL")
    eventually("it is dead", fn -> not running?(first) end)
    other = guardian(backend: backend)
    assert other != first
  end

  test "it is killed at the same moment as it is ordered: the start succeeds, or says that it was lost" do
    for _ <- 1..50 do
      first = guardian()
      killer = Task.async(fn -> signal(first, "KILL") end)
      answer = NetRunner.run(["echo", "on"])
      Task.await(killer)
      assert answer in [{"on\n", 0}, {:error, :shepherd_lost}, {:error, :guardian_lost}]
      # One that is dying still takes an order.
      eventually("it is dead", fn -> not running?(first) end)
    end

    assert NetRunner.run(["echo", "on"]) == {"on\n", 0}
  end

  test "it is stopped while it rests, and dismissed: the zygote ends it" do
    first = guardian()
    freeze(first)
    NetRunner.Shepherd.dismiss()
    eventually("it is dead", 4_000 + k(), fn -> not running?(first) end)
  end

  test "it is stopped while it rests: the start is called off in its time, and the next has another" do
    first = guardian()
    freeze(first)
    {us, answer} = :timer.tc(fn -> NetRunner.run(["true"], spawn_timeout: 300) end)
    assert answer == {:error, :spawn_timeout}
    assert us < 1_000 * (300 + 2 * d() + k())
    eventually("the zygote has killed it", k(), fn -> not running?(first) end)
    assert guardian() != first
  end

  test "the server of its command is killed: it ends its command, and does not rest" do
    first = guardian()
    {:ok, p} = NetRunner.Process.start("sleep", ["1000"], owner: self())
    assert :sys.get_state(p).guardian_pid == first
    {:ok, os_pid} = NetRunner.Process.os_pid(p)
    Process.exit(p, :kill)
    eventually("the command has ended", k(), fn -> not running?(os_pid) end)
    eventually("it has left", k(), fn -> not running?(first) end)
    assert resting() == 0
  end

  test "whoever gave it up is killed before he could say so: it leaves" do
    test = self()

    server =
      spawn(fn ->
        request = NetRunner.Protocol.spawn(1_234_567, %{minimal_start() | kill_timeout: 5_000})
        how = %{mode: 1, pty: false, joints: nil}
        {:ok, start} = NetRunner.Shepherd.spawn(1_234_567, request, how, 5_000)
        control = elem(start.handles, 0)
        {:started, _os_pid, guardian, _how} = frame(control)
        NetRunner.Shepherd.runs(start, 5_000)
        {:exited, {:exited, 0}, %{rests: true}} = frame(control)
        :ok = NetRunner.Nif.control_give(control, Process.whereis(NetRunner.Shepherd))
        send(test, {:guardian, guardian})
        # Until it is killed.
        Process.sleep(:infinity)
      end)

    assert_receive {:guardian, guardian}, 5_000
    assert running?(guardian)
    Process.exit(server, :kill)
    eventually("it has left", k(), fn -> not running?(guardian) end)
  end

  defp frame(control) do
    case NetRunner.Nif.control_recv(control) do
      {:ok, frame} ->
        {:ok, frame} = NetRunner.Protocol.decode(frame)
        frame

      :again ->
        receive do
          {:select, ^control, _ref, :ready_input} -> frame(control)
        end
    end
  end

  test "the zygote is killed: those of its guardians that rest leave, and the next has another's" do
    first = guardian()
    kill_zygote()
    other = guardian()
    assert other != first
    eventually("it has left", k(), fn -> not running?(first) end)
  end

  test "the BEAM is killed while one rests: it leaves" do
    beam =
      OtherBeam.start("""
      {:ok, p} = NetRunner.Process.start("cat", []);
      guardian = :sys.get_state(p).guardian_pid;
      Process.flag(:trap_exit, true);
      :sys.suspend(Process.whereis(NetRunner.Shepherd));
      :ok = NetRunner.Process.close_stdin(p);
      {:ok, 0} = NetRunner.Process.await_exit(p);
      IO.puts("guardian \#{guardian}");
      IO.puts("up");
      # Until it is killed.
      Process.sleep(:infinity)
      """)

    "guardian " <> pid = OtherBeam.read_line(beam)
    guardian = String.to_integer(pid)
    assert running?(guardian)
    OtherBeam.kill(beam)
    eventually("it has left", d() + k(), fn -> not running?(guardian) end)
  end

  test "NetRunner is stopped while one rests: it leaves" do
    beam =
      OtherBeam.start("""
      {line, 0} = NetRunner.run(["sh", "-c", "echo $PPID"]);
      :sys.replace_state(NetRunner.Shepherd, fn state -> Process.cancel_timer(state.tick); state end);
      Application.stop(:net_runner);
      IO.write("guardian " <> line);
      IO.puts("up");
      # Until it is killed.
      Process.sleep(:infinity)
      """)

    "guardian " <> pid = OtherBeam.read_line(beam)
    eventually("it has left", k(), fn -> not running?(String.to_integer(pid)) end)
    OtherBeam.kill(beam)
  end

  test "one gone in a storm of short ones is none too many: all succeed, by few guardians" do
    before = NetRunner.Shepherd.info().starts

    answers =
      1..600
      |> Task.async_stream(fn n -> NetRunner.run(["sh", "-c", "echo $PPID #{n}"]) end,
        max_concurrency: 8,
        timeout: 60_000
      )
      |> Enum.map(fn {:ok, {line, 0}} -> line |> String.split() |> hd() end)

    assert length(answers) == 600
    assert answers |> Enum.uniq() |> length() < 300
    assert NetRunner.Shepherd.info().starts == before
  end
end
