defmodule NetRunner.Compat.MuonTrapTest do
  # The documentation of MuonTrap (1.8 and 2.0.0-rc.1), sentence by sentence: that of cmd/3, of Daemon, and what README.md
  # and CHANGELOG.md say of them.
  use NetRunner.Test.Case

  # Thin over what other tests run on every build: twice is enough (the legs one and other).
  @moduletag :slow
  doctest NetRunner.Compat.MuonTrap
  doctest NetRunner.Compat.MuonTrap.Daemon

  import ExUnit.CaptureLog

  alias NetRunner.Compat.MuonTrap
  alias NetRunner.Compat.MuonTrap.Daemon

  defp sh(script), do: ["-c", script]

  describe "cmd/3" do
    test "executes a command like `System.cmd/3`" do
      assert MuonTrap.cmd("echo", ["hello"]) == {"hello\n", 0}
      assert MuonTrap.cmd("sh", sh("echo x; exit 3")) == {"x\n", 3}
      assert_raise ErlangError, ~r/:enoent/, fn -> MuonTrap.cmd("no-such-program", []) end
      assert_raise ArgumentError, fn -> MuonTrap.cmd("echo", ["a\0b"]) end
      assert_raise ArgumentError, fn -> MuonTrap.cmd("echo", [:hello]) end
    end

    test "exit status of process killed by a signal reflects that: 128+signal (CHANGELOG, 0.5.0)" do
      assert MuonTrap.cmd("sh", sh("kill -KILL $$")) == {"", 137}
      assert MuonTrap.cmd("sh", sh("kill -TERM $$")) == {"", 143}
    end

    test "if the Erlang process that runs the command dies, then the OS processes will die as well" do
      {tag, env} = tag()

      back_at_baseline(fn ->
        caller = spawn(fn -> MuonTrap.cmd("sh", sh("sleep 60 & wait"), env: env) end)
        eventually("it runs", fn -> length(tagged(tag)) == 2 end)
        Process.exit(caller, :oops)
        eventually("it is gone", 5_000, fn -> tagged(tag) == [] end)
      end)
    end

    test "`:timeout` - the return value will contain the output up to that point and `:timeout` as the exit status" do
      script = "echo start && sleep 10 && echo end"
      assert MuonTrap.cmd("/bin/sh", sh(script), timeout: 200) == {"start\n", :timeout}
      assert MuonTrap.cmd("echo", ["in time"], timeout: 10_000) == {"in time\n", 0}
    end

    test "`:timeout` - the child process will be sent SIGTERM" do
      path = tmp_path("signals")
      script = "trap 'echo TERM > #{path}; exit' TERM; echo start; while :; do sleep 0.05; done"

      assert MuonTrap.cmd("sh", sh(script), timeout: 500, delay_to_sigkill: 5_000) ==
               {"start\n", :timeout}

      assert File.read!(path) == "TERM\n"
    end

    test "`:timeout` - of a command that never pauses, and of one that has closed its output" do
      {text, :timeout} = MuonTrap.cmd("yes", [], timeout: 200)
      assert "y\ny\n" <> _ = text
      assert MuonTrap.cmd("sh", sh("exec >&-; exec sleep 60"), timeout: 200) == {"", :timeout}
    end

    test "stdin is a pipe that nobody writes" do
      assert MuonTrap.cmd("cat", [], timeout: 200) == {"", :timeout}
    end

    test "`:delay_to_sigkill` - milliseconds before sending a SIGKILL (default 500 ms)" do
      for {opts, at_least, at_most} <- [{[], 500, 3_000}, {[delay_to_sigkill: 50], 50, 450}] do
        {us, result} =
          :timer.tc(fn -> MuonTrap.cmd(fixture("ignore_term"), [], [timeout: 100] ++ opts) end)

        assert {_ready, :timeout} = result
        assert div(us, 1000) in (100 + at_least)..(100 + at_most)
      end
    end

    test "`:delay_to_sigkill` - is named by that name where it cannot be, by the daemon and its child's specification, too" do
      for ms <- [-1, 0x1_0000_0000, 1.5, :infinity],
          call <- [
            &MuonTrap.cmd("true", [], &1),
            &Daemon.start_link("true", [], &1),
            &Daemon.child_spec(["true", [], &1])
          ] do
        error = assert_raise ArgumentError, fn -> call.(delay_to_sigkill: ms) end
        assert error.message =~ ~r/^invalid option :delay_to_sigkill of .*MuonTrap.* with value /
      end

      assert MuonTrap.cmd("true", [], delay_to_sigkill: 0xFFFF_FFFF) == {"", 0}
    end

    test "`:into` - injects the result into the given collectable, defaults to `\"\"`" do
      assert {["hello\n"], 0} = MuonTrap.cmd("echo", ["hello"], into: [])
      {:ok, device} = StringIO.open("")
      into = IO.stream(device, :line)
      assert {^into, 0} = MuonTrap.cmd("sh", sh("echo a >&2"), stderr_to_stdout: true, into: into)
      assert StringIO.contents(device) == {"", "a\n"}
    end

    test "`:cd`, `:env`, `:arg0`, `:parallelism` - as `System.cmd/3`" do
      assert MuonTrap.cmd("pwd", [], cd: "/") == {"/\n", 0}
      assert MuonTrap.cmd("sh", sh("echo $NR_A"), env: %{"NR_A" => "1"}) == {"1\n", 0}
      assert MuonTrap.cmd("sh", sh("echo $0"), arg0: "me") == {"me\n", 0}
      assert MuonTrap.cmd("true", [], parallelism: true) == {"", 0}
    end

    test "`:stderr_to_stdout` - redirects stderr to stdout when `true`" do
      script = "echo 1; echo 2 >&2; echo 3"
      assert MuonTrap.cmd("sh", sh(script), stderr_to_stdout: true) == {"1\n2\n3\n", 0}
      {:ok, here} = File.read_link("/proc/self/fd/2")
      assert MuonTrap.cmd("sh", sh("readlink /proc/$$/fd/2")) == {here <> "\n", 0}
    end

    test "`:capture_stderr_only` - captures only stderr and ignores stdout" do
      script = "echo out; echo err >&2; exit 2"
      assert MuonTrap.cmd("sh", sh(script), capture_stderr_only: true) == {"err\n", 2}
      assert MuonTrap.cmd("sh", sh(script), capture_stderr_only: true, into: []) == {["err\n"], 2}
    end

    @tag :root
    @tag :run_as
    test "`:uid`, `:gid` - run the command using the specified uid or username, gid or group" do
      opts = [uid: "nobody", cd: "/"]
      assert MuonTrap.cmd("id", ["-un"], opts) == {"nobody\n", 0}
      assert MuonTrap.cmd("id", ["-u"], uid: 65_534, cd: "/") == {"65534\n", 0}
      assert MuonTrap.cmd("id", ["-g"], opts ++ [gid: 12_345]) == {"12345\n", 0}
      error = assert_raise ArgumentError, fn -> MuonTrap.cmd("id", [], uid: "nobody-at-all") end
      assert error.message =~ ":uid"
    end

    @tag :root
    @tag :run_as
    test "`:groups` - pass `[]` to drop all supplementary groups" do
      opts = [uid: "nobody", gid: 12_345, cd: "/"]
      assert MuonTrap.cmd("id", ["-G"], [groups: []] ++ opts) == {"12345\n", 0}
      assert MuonTrap.cmd("id", ["-G"], [groups: [4242]] ++ opts) == {"12345 4242\n", 0}
    end

    test "an option that is not served, or unknown, raises and is named, with what there is instead" do
      for {opts, name, instead} <- [
            {[stdio_window: 100], ":stdio_window", "leave it out"},
            {[cgroup_controllers: ["memory"]], ":cgroup_controllers", "cgroup: %{"},
            {[cgroup_sets: [{"memory", "memory.max", "1"}]], ":cgroup_sets", "cgroup: %{"},
            {[cgroup_base: "x", cgroup: %{cpuset_cpus: "0"}], ":cpuset_cpus", "parent cgroup"},
            {[cgroup_base: "x", cgroup: %{memory: 1}], ":memory", ":cgroup"},
            {[cgroup: %{memory_max: 1}], "cgroup:", "cgroup_base:"},
            {[cgroup_base: "a", cgroup_path: "b"], "cgroup_base:", "cgroup_path:"},
            {[timeout: -1], ":timeout", "-1"},
            {[lines: 100], ":lines", "100"}
          ] do
        error = assert_raise ArgumentError, fn -> MuonTrap.cmd("true", [], opts) end
        assert error.message =~ name
        assert error.message =~ instead
      end
    end
  end

  describe "an option that cannot be" do
    test "raises in the caller, under the name and in the words that it has there" do
      Process.flag(:trap_exit, true)
      base = [cgroup_base: "x"]

      for {opts, said} <- [
            {[groups: [:a]], ~r/:groups/},
            {[env: [5]], ~r/:env/},
            {[env: [{"A", :secret}]], ~r/:env/},
            {[env: [{"A=", "secret"}]], ~r/:env/},
            {[cd: "a\0b"], ~r/:cd/},
            {base ++ [cgroup: %{memory_max: :foo}], ~r/:cgroup .*memory_max: a number or :max$/},
            {base ++ [cgroup: %{memory_max: -1}], ~r/:cgroup .*memory_max: .* or :max$/},
            {base ++ [cgroup: %{memory_oom_group: 5}], ~r/ memory_oom_group: true or false$/},
            {base ++ [cgroup: %{cpu_max: 5}], ~r/ cpu_max: .* or :max$/},
            {[cgroup_base: "a\0b"], ~r/:cgroup_base .*NUL/},
            {[cgroup_path: "a/.b"], ~r/:cgroup_path .* begins with a dot$/}
          ],
          call <- [&MuonTrap.cmd("true", [], &1), &Daemon.start_link("true", [], &1)] do
        error = assert_raise ArgumentError, fn -> call.(opts) end
        assert error.message =~ said
        refute error.message =~ "secret"
        refute_received {:EXIT, _server, _reason}
      end
    end

    test "and is seen when the system is asked is told under that name, too" do
      Process.flag(:trap_exit, true)

      for {opts, option, said} <- [
            {[uid: ""], :uid, "there is no user"},
            {[uid: 0], :uid, "is user 0: leave uid: out to stay root"},
            {[uid: 0x7FFF_FFF0], :uid, ~r/ give gid:$/},
            {[gid: ""], :gid, "there is no group"}
          ] do
        error = assert_raise ArgumentError, fn -> MuonTrap.cmd("true", [], opts) end
        assert error.message =~ "invalid option #{inspect(option)}: "
        assert error.message =~ said
        assert {:error, {:invalid, ^option, message}} = Daemon.start_link("true", [], opts)
        assert message =~ said
      end
    end
  end

  describe "cgroups" do
    @describetag :cgroup

    defp relative(parent), do: Path.relative_to(parent, "/sys/fs/cgroup")

    test "`:cgroup_base` - create a temporary path under the specified cgroup path" do
      parent = cgroup_parent()
      {text, 0} = MuonTrap.cmd("cat", ["/proc/self/cgroup"], cgroup_base: relative(parent))
      assert text =~ ~r/^0::.*#{Path.basename(parent)}\/.+$/m
      assert cgroups_below(parent) == []
    end

    test "`:cgroup_path` - explicitly specify a path to use" do
      parent = cgroup_parent()
      opts = [cgroup_path: relative(parent) <> "/mine"]
      {text, 0} = MuonTrap.cmd("cat", ["/proc/self/cgroup"], opts)
      assert text =~ ~r/^0::.*#{Path.basename(parent)}\/mine$/m
      assert cgroups_below(parent) == []
    end

    test "what cannot be had is an error, and nothing runs" do
      path = tmp_path("touched")

      error =
        assert_raise NetRunner.Error, fn ->
          MuonTrap.cmd("touch", [path], cgroup_base: "no/such/cgroup")
        end

      assert error.reason == {:cgroup, :parent, :enoent}
      refute File.exists?(path)
    end

    @tag :cgroup_pids
    test "controllers are enabled automatically based on which keys are present" do
      parent = cgroup_parent()

      {:ok, daemon} =
        Daemon.start_link("sleep", ["60"], cgroup_base: relative(parent), cgroup: %{pids_max: 7})

      assert Daemon.cgget(daemon, "pids.max") == {:ok, "7\n"}
      assert File.read!(Path.join(parent, "cgroup.subtree_control")) =~ "pids"
      assert Daemon.cgset(daemon, "pids.max", "9") == :ok
      assert %{pids_max: 9} = config = Daemon.cgroup_config(daemon)
      assert %{cgroup: %{"pids.current" => 1}} = Daemon.statistics(daemon)

      # "so you can read one daemon's settings and start another with the same configuration"
      {:ok, other} =
        Daemon.start_link("sleep", ["60"], cgroup_base: relative(parent), cgroup: config)

      assert Daemon.cgroup_config(other) == config
      for daemon <- [daemon, other], do: GenServer.stop(daemon)
    end

    test "a daemon's `cgroup_path/1` is relative to `/sys/fs/cgroup`, `cgget/2` reads a file there" do
      parent = cgroup_parent()
      {:ok, daemon} = Daemon.start_link("sleep", ["60"], cgroup_base: relative(parent))
      path = Daemon.cgroup_path(daemon)
      assert Path.dirname(path) == relative(parent)
      assert Daemon.cgget(daemon, "cgroup.procs") == {:ok, "#{Daemon.os_pid(daemon)}\n"}
      assert Daemon.cgget(daemon, "no.such.file") == {:error, :enoent}
      assert %{cgroup: %{"cgroup.stat" => %{"nr_descendants" => 0}}} = Daemon.statistics(daemon)
      GenServer.stop(daemon)
      assert cgroups_below(parent) == []
    end
  end

  describe "Daemon" do
    defp start!(command, args, opts \\ []) do
      {:ok, daemon} = Daemon.start_link(command, args, opts)
      # It is linked to the test, and may be on its way out.
      on_exit(fn ->
        eventually("the daemon is gone", 10_000, fn -> not Process.alive?(daemon) end)
      end)

      daemon
    end

    defp reason_of(command, args, opts) do
      Process.flag(:trap_exit, true)

      # A server that ends with a reason of its own is logged as one that crashed.
      with_log(fn ->
        {:ok, daemon} = Daemon.start_link(command, args, opts)
        assert_receive {:EXIT, ^daemon, reason}, 5_000
        reason
      end)
      |> elem(0)
    end

    defp tell do
      me = self()
      fn line -> send(me, {:line, line}) end
    end

    test "in your children list add MuonTrap.Daemon like this" do
      children = [{Daemon, ["sh", sh("pwd; exec sleep 60"), [cd: "/", logger_fun: tell()]]}]

      back_at_baseline(fn ->
        {:ok, supervisor} = Supervisor.start_link(children, strategy: :one_for_one)
        assert_receive {:line, "/"}, 5_000
        [{Daemon, daemon, :worker, [Daemon]}] = Supervisor.which_children(supervisor)
        os_pid = Daemon.os_pid(daemon)
        assert running?(os_pid)
        Supervisor.stop(supervisor)
        refute running?(os_pid)
      end)
    end

    test "they'll all need unique IDs: use `Supervisor.child_spec/2`" do
      children = [
        Supervisor.child_spec({Daemon, ["sleep", ["60"]]}, id: :server1),
        Supervisor.child_spec({Daemon, ["sleep", ["60"]]}, id: :server2)
      ]

      {:ok, supervisor} = Supervisor.start_link(children, strategy: :one_for_one)
      assert %{active: 2} = Supervisor.count_children(supervisor)
      Supervisor.stop(supervisor)
    end

    test "`:permanent` - always restart the command if it exits; `:transient` - not after exit status 0; `:temporary` - don't (README)" do
      for {restart, status, again?} <- [
            {:permanent, 0, true},
            {:permanent, 3, true},
            {:transient, 0, false},
            {:transient, 3, true},
            {:temporary, 3, false}
          ] do
        path = tmp_path("runs")
        script = "echo x >> #{path}; [ $(wc -l < #{path}) = 1 ] && exit #{status}; exec sleep 60"
        child = Supervisor.child_spec({Daemon, ["sh", sh(script)]}, restart: restart)

        capture_log(fn ->
          {:ok, supervisor} = Supervisor.start_link([child], strategy: :one_for_one)

          if again? do
            eventually("it is restarted", 5_000, fn -> File.read(path) == {:ok, "x\nx\n"} end)
          else
            eventually("it stays away", 5_000, fn ->
              Supervisor.count_children(supervisor).active == 0
            end)

            assert File.read!(path) == "x\n"
          end

          Supervisor.stop(supervisor)
        end)
      end
    end

    test "`:name` - register the specified name for the daemon GenServer" do
      daemon = start!("sleep", ["60"], name: __MODULE__.Named)
      assert Process.whereis(__MODULE__.Named) == daemon
      assert running?(Daemon.os_pid(__MODULE__.Named))

      assert {:error, {:already_started, ^daemon}} =
               Daemon.start_link("sleep", ["60"], name: __MODULE__.Named)
    end

    test "`:logger_fun` - a 1-arity function or `t:mfargs/0` tuple; the other log options are ignored" do
      log =
        capture_log(fn ->
          start!("sh", sh("echo a; echo b"), logger_fun: tell(), log_output: :error)
          assert_receive {:line, "a"}, 5_000
          assert_receive {:line, "b"}, 5_000
        end)

      refute log =~ "a\n"

      start!("sh", sh("echo c"), logger_fun: {__MODULE__, :tell_of, [self(), :d]})
      assert_receive {"c", :d}, 5_000
    end

    def tell_of(line, to, more), do: send(to, {line, more})

    test "`:log_output` - send output from the command to the Logger" do
      for level <- [:debug, :info, :notice, :warning, :error] do
        log =
          capture_log(fn ->
            reason_of("sh", sh("echo said; printf 'without newline'"), log_output: level)
          end)

        assert log =~ "[#{level}]"
        assert log =~ "said"
        assert log =~ "without newline"
      end

      refute capture_log(fn -> reason_of("echo", ["not logged"], []) end) =~ "not logged"
    end

    test "`:log_prefix` - prefix each log message with this string (defaults to the program's path)" do
      log = fn opts ->
        capture_log(fn -> reason_of("echo", ["x"], [log_output: :error] ++ opts) end)
      end

      assert log.(log_prefix: "mine> ") =~ "mine> x"
      assert log.([]) =~ "echo: x"
    end

    test "`:log_transform` - a function that takes a string and returns a string" do
      opts = [log_output: :error, log_transform: &String.upcase/1]
      assert capture_log(fn -> reason_of("echo", ["loud"], opts) end) =~ "LOUD"
    end

    test "`:log_transform` - non-UTF8 output does not crash the logger" do
      log = capture_log(fn -> reason_of("printf", ["a\\377b\\n"], log_output: :error) end)
      assert log =~ ~r/a(�|\\xFF)b/
    end

    test "`:logger_metadata` - merged; `:muontrap_cmd` and `:muontrap_args` are added and cannot be overridden" do
      me = self()

      handler = fn name ->
        :ok = :logger.add_handler(name, __MODULE__.Tell, %{config: %{to: me}})
        on_exit(fn -> :logger.remove_handler(name) end)
      end

      handler.(__MODULE__.Tell)
      opts = [log_output: :error, logger_metadata: [mine: 1, muontrap_cmd: "other"]]
      capture_log(fn -> reason_of("echo", ["a", "b"], opts) end)

      assert_receive {:log, %{meta: %{mine: 1, muontrap_cmd: "echo", muontrap_args: "a b"}}}
    end

    defmodule Tell do
      def log(event, %{config: %{to: to}}), do: send(to, {:log, event})
    end

    test "`:stderr_to_stdout`, `:capture_stderr_only` - which of them is logged" do
      script = sh("echo out; echo err >&2")
      reason_of("sh", script, logger_fun: tell(), stderr_to_stdout: true)
      assert_received {:line, "out"}
      assert_received {:line, "err"}

      reason_of("sh", script, logger_fun: tell(), capture_stderr_only: true)
      refute_received {:line, "out"}
      assert_received {:line, "err"}
    end

    test "successful exit codes exit `:normal` and failed exit codes do not (CHANGELOG, 0.5.0)" do
      assert reason_of("true", [], []) == :normal
      assert reason_of("false", [], []) not in [:normal, :shutdown]
      assert reason_of("sh", sh("kill -KILL $$"), []) not in [:normal, :shutdown]
    end

    test "`:exit_status_to_reason` - convert the exit status (a number) to stop reason" do
      opts = [exit_status_to_reason: &{:shutdown, {:status, &1}}]
      assert reason_of("sh", sh("exit 3"), opts) == {:shutdown, {:status, 3}}
      assert reason_of("true", [], opts) == {:shutdown, {:status, 0}}
      assert reason_of("sh", sh("kill -TERM $$"), opts) == {:shutdown, {:status, 143}}
    end

    test "`:wait_for` - runs before the OS process is launched, without holding up the supervisor" do
      me = self()

      wait = fn ->
        send(me, {:waits, self()})
        receive do: (:go -> :whatever)
      end

      daemon = start!("sh", sh("echo here; exec sleep 60"), wait_for: wait, logger_fun: tell())
      assert_receive {:waits, waiter}
      assert Daemon.os_pid(daemon) == :error
      assert Daemon.statistics(daemon).output_byte_count == 0
      send(waiter, :go)
      assert_receive {:line, "here"}, 5_000
      assert is_integer(Daemon.os_pid(daemon))
    end

    test "`:wait_for` - raise to abort the launch: the supervisor's restart policy applies" do
      path = tmp_path("touched")

      assert {%RuntimeError{message: "no"}, _} =
               reason_of("touch", [path], wait_for: fn -> raise "no" end)

      refute File.exists?(path)
    end

    test "stdin is a pipe that nobody writes" do
      daemon = start!("sh", sh("readlink /proc/$$/fd/0; cat; echo ended"), logger_fun: tell())
      assert_receive {:line, "pipe:" <> _}, 5_000
      refute_receive {:line, "ended"}, 200
      assert running?(Daemon.os_pid(daemon))
    end

    test "`os_pid/1` is that of a process, `statistics/1` counts its bytes" do
      daemon = start!("sh", sh("echo 12345; exec sleep 60"))
      eventually("its bytes", fn -> Daemon.statistics(daemon).output_byte_count == 6 end)
      assert Daemon.statistics(daemon) == %{output_byte_count: 6, cgroup: %{}}
      assert running?(Daemon.os_pid(daemon))
    end

    test "`cgget/2`, `cgset/3`, `cgroup_path/1`, `cgroup_config/1` without a cgroup" do
      daemon = start!("sleep", ["60"])
      assert Daemon.cgget(daemon, "memory.current") == {:error, :no_cgroup}
      assert Daemon.cgset(daemon, "memory.max", "1") == {:error, :no_cgroup}
      assert Daemon.cgroup_path(daemon) == nil
      assert Daemon.cgroup_config(daemon) == %{}
    end

    test "treat the process just like any other Elixir process: call `Process.exit/2` (README)" do
      Process.flag(:trap_exit, true)

      for reason <- [:shutdown, :kill] do
        {tag, env} = tag()
        {:ok, daemon} = Daemon.start_link("sh", sh("sleep 60 & wait"), env: env)
        eventually("it runs", fn -> length(tagged(tag)) == 2 end)
        Process.exit(daemon, reason)
        assert_receive {:EXIT, ^daemon, _reason}, 5_000
        eventually("it is gone", 5_000, fn -> tagged(tag) == [] end)
      end
    end

    test "the running program will eventually be blocked from writing when nobody reads (README, stdio flow control)" do
      me = self()

      wait = fn line ->
        send(me, {:line, self(), line})
        receive do: (:go -> :ok)
      end

      daemon = start!("yes", [], logger_fun: wait)
      assert_receive {:line, _consumer, "y"}, 5_000
      os_pid = Daemon.os_pid(daemon)
      eventually("it waits", fn -> proc_state(os_pid) == "S" end)
      before = written(os_pid)
      Process.sleep(100)
      assert written(os_pid) == before
    end

    test "an option that is not served, or unknown, raises, and a command that is not there is an error" do
      for opts <- [[stdio_window: 1], [log_output: :loud], [into: []], [timeout: 5], [foo: 1]] do
        name = inspect(hd(Keyword.keys(opts)))
        error = assert_raise ArgumentError, fn -> Daemon.start_link("true", [], opts) end
        assert error.message =~ name
      end

      Process.flag(:trap_exit, true)
      assert Daemon.start_link("no-such-program", []) == {:error, :enoent}
    end

    test "a supervisor's report shows no value of the environment" do
      spec = Daemon.child_spec(["sleep", ["60"], [env: [{"TOKEN", "secret"}], log_output: :info]])
      refute inspect(spec) =~ "secret"
      assert {:ok, daemon} = apply(Daemon, :start_link, elem(spec.start, 2))
      # Its environment can be looked at a moment after execve is known to have worked.
      eventually("it has it", fn -> "TOKEN=secret" in environ(Daemon.os_pid(daemon)) end)
      GenServer.stop(daemon)
    end
  end
end
