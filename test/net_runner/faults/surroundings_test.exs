defmodule NetRunner.Faults.SurroundingsTest do
  # The fault matrix (docs/reliability.md) where what is around the BEAM matters: who started it, its
  # directory, its environment.
  use NetRunner.Test.FaultCase

  alias NetRunner.Test.Backends

  on_backends "a script whose output is captured by a shell ends when the BEAM ends (50a)" do
    code =
      ~s|{"x\\n", 0} = NetRunner.run(["echo", "x"], backend: #{inspect(backend)}); IO.puts("done")|

    {us, {output, 0}} =
      :timer.tc(fn ->
        System.cmd(
          "sh",
          ["-c", ~S[x=$("$@"); echo "got $x"], "sh", System.find_executable("elixir")] ++
            OtherBeam.elixir_args(code),
          env: OtherBeam.preload()
        )
      end)

    assert output == "got done\n"
    assert us < 20_000_000
  end

  on_backends "the child sees the BEAM's directory and environment of that moment (50b)" do
    dir = Path.dirname(tmp_path("file"))

    real =
      dir
      |> String.to_charlist()
      |> :file.read_link_all()
      |> case do
        {:ok, target} -> to_string(target)
        _not_a_link -> dir
      end

    assert File.cd!(dir, fn -> NetRunner.run(["pwd", "-P"], backend: backend) end) ==
             {real <> "\n", 0}

    name = "NET_RUNNER_TEST_#{System.unique_integer([:positive])}"
    System.put_env(name, "now")
    assert NetRunner.run(["printenv", name], backend: backend) == {"now\n", 0}
    System.delete_env(name)
    assert NetRunner.run(["printenv", name], backend: backend) == {"", 1}
  end

  # A BEAM with its own idea of who its terminal is: script(1) gives it one.
  @tag :script
  test "a child of a BEAM that has a terminal has none: ENXIO, and no TIOCSTI (42)" do
    show_tty = fixture("show_tty")

    code =
      "IO.write(elem(NetRunner.run([#{inspect(show_tty)}], stderr: :merge), 0)); IO.puts(:up)"

    elixir = [System.find_executable("elixir") | OtherBeam.elixir_args(code)]
    # What the BEAM's place would give the child; then what NetRunner gives it.
    command = "#{show_tty}; exec " <> Enum.map_join(elixir, " ", &"'#{&1}'")

    {output, 0} = System.cmd("script", ["-qec", command, "/dev/null"], env: OtherBeam.preload())

    {before, [_up]} = output |> String.split(~r/\r*\n/, trim: true) |> Enum.split(-1)
    assert ["tty ok", _, _, _, "tty 6 " <> _, "0 25 " <> _, "1 25 " <> _, "2 25 " <> _] = before
  end

  describe "the clock is set a day forward and back, again and again (40)" do
    @describetag :slow
    test "time-outs of run, read and await_exit, and the grace of a stop are unaffected" do
      beam =
        with_leaping_clock("""
        # One that talks, so that what is left of a time-out is looked at again and again.
        loop = fn what -> ["-c", "trap '' TERM; echo ready; while :; do \#{what} sleep 0.03; done"] end
        opts = [backend: backend, kill_timeout: 300]
        said.("run", 600 + 300, fn -> NetRunner.run(["sh" | loop.("echo;")], [timeout: 600] ++ opts) end)

        {:ok, p} = NetRunner.Process.start("sh", loop.(""), opts)
        {:ok, "ready\\n"} = NetRunner.Process.read(p)
        said.("read", 400, fn -> NetRunner.Process.read(p, 1, 400) end)
        said.("await_exit", 400, fn -> NetRunner.Process.await_exit(p, 400) end)
        said.("stop", 300, fn -> NetRunner.Process.stop(p) end)
        """)

      for _backend <- Backends.expected() do
        assert_took(beam, "run", "{:error, :timeout}")
        assert_took(beam, "read", "{:error, :timeout}")
        assert_took(beam, "await_exit", "{:error, :timeout}")
        assert_took(beam, "stop", ":ok")
      end
    end

    @tag :subreaper
    test "the drain is unaffected" do
      beam =
        with_leaping_clock("""
        drain = [backend: backend, drain_timeout: 400]
        said.("drain", 400, fn -> NetRunner.run(["sh", "-c", "sleep 60 & exit 3"], drain) end)
        """)

      for _backend <- Backends.expected(), do: assert_took(beam, "drain", ~s({"", 3}))
    end
  end

  # Runs `code` for each `backend`; `said` says how long something took and what it gave. The machine's own
  # clock is nobody's to set: the BEAM gets another clock_gettime(2), and so does its shepherd. What is
  # measured is measured by the monotonic clock, which both leave alone.
  defp with_leaping_clock(code) do
    fixtures = Application.app_dir(:net_runner, ["cmake", "fixtures"])
    ebin = OtherBeam.copy_of_net_runner()
    shepherd = ebin |> Path.dirname() |> Path.join("priv/shepherd")
    File.cp!(Path.join(fixtures, "shepherd_leaping_clock"), shepherd)
    preloads = for {_, preload} <- OtherBeam.preload(), do: preload
    preload = Enum.join(preloads ++ [Path.join(fixtures, "leaping_clock.so")], ":")

    beam =
      OtherBeam.start(
        """
        said = fn what, least, fun ->
          before = :os.perf_counter(:millisecond)
          result = fun.()
          IO.puts("\#{what} \#{least} \#{:os.perf_counter(:millisecond) - before} \#{inspect(result)}")
        end

        clock = for _ <- 1..30, do: (Process.sleep(20); System.os_time(:second))
        IO.puts(Enum.max(clock) - Enum.min(clock))

        for backend <- #{inspect(Backends.expected())} do
          {"", 0} = NetRunner.run(["true"], backend: backend)
          NetRunner.Test.World.back_at_baseline(fn ->
            #{code}
          end)
        end

        IO.puts("up")
        Process.sleep(:infinity)
        """,
        ["env", "LD_PRELOAD=" <> preload],
        ebin
      )

    assert beam |> OtherBeam.read_line() |> String.to_integer() > 86_400
    beam
  end

  # Erlang's clock follows the wall clock by one percent at most.
  defp assert_took(beam, what, result) do
    assert [^what, least, ms, ^result] =
             beam |> OtherBeam.read_line() |> String.split(" ", parts: 4)

    {least, ms} = {String.to_integer(least), String.to_integer(ms)}
    assert ms >= least * 0.98, "#{what} took #{ms} ms, not #{least}"
    assert ms < least + k(), "#{what} took #{ms} ms, not #{least}"
  end

  describe "in a pid namespace (48)" do
    @tag :pid_namespace
    @tag :subreaper
    test "the BEAM as PID 1: no zombie after 1,000 commands, none after a zygote was killed" do
      beam = OtherBeam.start(thousand_commands(0), pid_namespace())
      assert OtherBeam.read_line(beam) == "1"
    end

    @tag :pid_namespace
    @tag :subreaper
    test "an init that never reaps: after a zygote was killed, at most the guardians that outlived it" do
      launcher = pid_namespace() ++ [fixture("init_never_reaps")]
      beam = OtherBeam.start(thousand_commands(5), launcher)
      assert OtherBeam.read_line(beam) != "1"
    end

    # Sanitized guardians are slow to fork; that leg of ci/test asks for fewer.
    defp thousand,
      do: div(String.to_integer(System.get_env("NET_RUNNER_TEST_SPAWNS", "10000")), 10)

    # Daemons among them. Then five that outlive their zygote, of whom so many zombies are left.
    defp thousand_commands(left) do
      """
      import NetRunner.Test.World
      IO.puts(System.pid())
      # Erlang's own inet_gethost is one sooner or later.
      ours = fn -> Enum.count(zombies(), &(File.read("/proc/\#{&1}/comm") != {:ok, "inet_gethost\\n"})) end
      daemonize = #{inspect(fixture("daemonize"))}
      lock = #{inspect(tmp_path("lock"))}
      {"", 0} = NetRunner.run(["true"])
      before = settled_baseline()
      1..#{thousand()}
      |> Task.async_stream(fn
        n when rem(n, 100) == 0 -> {"ready\n", 0} = NetRunner.run([daemonize, "\#{lock}_\#{n}", "exit"], drain_timeout: 0)
        _ -> {"", 0} = NetRunner.run(["true"])
      end, max_concurrency: 8, timeout: 60_000)
      |> Stream.run()
      # The last guardians are on their way out.
      eventually("no zombies", fn -> named("nr_guardian") == [] and ours.() == 0 end)
      await_baseline(before)

      cats = for _ <- 1..5, do: elem(NetRunner.Process.start("cat"), 1)
      NetRunner.Test.FaultCase.kill_zygote()
      for p <- cats, do: NetRunner.Process.stop(p)
      {"", 0} = NetRunner.run(["true"])
      eventually("#{left} zombies", fn -> named("nr_guardian") == [] and ours.() == #{left} end)
      await_baseline(before)
      IO.puts("up")
      Process.sleep(:infinity)
      """
    end
  end
end
