defmodule NetRunner.CgroupTest do
  # Commands in cgroups of their own. What a controller must do for is tagged with it: few machines have
  # them to give (ci/cgroup-vm does).
  use NetRunner.Test.Case, async: true

  import Bitwise, only: [<<<: 2]

  alias NetRunner.{Cgroup, Result}

  @mib 1_048_576

  describe "the option" do
    @parent "/sys/fs/cgroup/jobs"

    test "is nil, or a map or keyword list with a parent; limits are in the kernel's order" do
      assert Cgroup.check(nil) == {:ok, nil}

      given = [
        oom_group: true,
        cpu_max: {:infinity, 100_000},
        io_weight: 10_000,
        memory_max: @mib,
        parent: @parent,
        name: "job",
        cpu_weight: 1,
        pids_max: 0,
        memory_swap_max: :infinity,
        memory_high: 0
      ]

      for given <- [given, Map.new(given)] do
        {:ok, cgroup} = Cgroup.check(given)

        assert Cgroup.order(cgroup, 7) ==
                 {@parent, "job",
                  [
                    {"memory.max", "1048576"},
                    {"memory.high", "0"},
                    {"memory.swap.max", "max"},
                    {"pids.max", "0"},
                    {"cpu.max", "max 100000"},
                    {"cpu.weight", "1"},
                    {"io.weight", "10000"},
                    {"memory.oom.group", "1"}
                  ]}

        assert Cgroup.step(3, cgroup) == :pids_max
        assert Cgroup.step(:join, cgroup) == :join
      end
    end

    test "without a name the leaf is this BEAM's and this command's" do
      {:ok, cgroup} = Cgroup.check(parent: @parent)
      leaf = "net_runner-#{System.pid()}-7"
      assert Cgroup.order(cgroup, 7) == {@parent, leaf, []}
      assert cgroup |> Cgroup.order(7) |> Cgroup.path() == "#{@parent}/#{leaf}"
    end

    test "of a wrong type raises, and says which of it" do
      for {given, said} <- [
            {:here, "a map or a keyword list"},
            {@parent, "a map or a keyword list"},
            {[], "parent: with a path"},
            {[parent: :here], "parent: with a path"},
            {[parent: @parent, memory: 1], ":memory"},
            {%{:parent => @parent, "name" => "a"}, "\"name\""},
            {[parent: @parent, memory_max: "1G"], "memory_max: a number or :infinity"},
            {[parent: @parent, pids_max: 1.5], "pids_max: a number"},
            {[parent: @parent, cpu_max: 5], "cpu_max: {quota, period}"},
            {[parent: @parent, cpu_max: {5, :infinity}], "cpu_max: {quota, period}"},
            {[parent: @parent, cpu_weight: :infinity], "cpu_weight: a number in 1..10000"},
            {[parent: @parent, oom_group: 1], "oom_group: true or false"},
            {[parent: @parent, name: :job], "name: as a binary"}
          ] do
        error = assert_raise ArgumentError, fn -> NetRunner.run(["true"], cgroup: given) end
        assert error.message =~ "invalid value for :cgroup"
        assert error.message =~ said
      end
    end

    test "of a right type that cannot be is an error before anything starts" do
      for {given, said} <- [
            {[parent: "jobs"], "not absolute"},
            {[parent: ""], "not absolute"},
            {[parent: "/sys/fs/cgroup/../cgroup"], ". or .."},
            {[parent: "/sys/fs/./cgroup"], ". or .."},
            {[parent: "/sys/\0"], "NUL"},
            {[parent: @parent, name: ""], "1 to 255"},
            {[parent: @parent, name: String.duplicate("a", 256)], "1 to 255"},
            {[parent: @parent, name: "a/b"], "name: has a /"},
            {[parent: @parent, name: "a\n"], "newline"},
            {[parent: @parent, name: ".."], "begins with a dot"},
            {[parent: @parent, memory_max: -1], "memory_max: must be"},
            {[parent: @parent, memory_max: 1 <<< 63], "memory_max: must be"},
            {[parent: @parent, cpu_weight: 0], "cpu_weight: must be 1..10000"},
            {[parent: @parent, io_weight: 10_001], "io_weight: must be 1..10000"},
            {[parent: @parent, cpu_max: {999, 1_000}], "the quota must be"},
            {[parent: @parent, cpu_max: {1_000, 999}], "the period must be"},
            {[parent: @parent, cpu_max: {1_000, 1_000_001}], "the period must be"}
          ] do
        assert {:error, {:invalid, :cgroup, message}} = NetRunner.run(["true"], cgroup: given)
        assert message =~ said
      end
    end

    test "an error of it says in words what could not be done" do
      for {step, said} <- [
            parent: "cannot open the cgroup's parent: no such file or directory (enoent)",
            leaf: "cannot make its cgroup: ",
            join: "cannot be put into its cgroup: ",
            none: "has no cgroup of its own",
            memory_max: "cannot set memory.max: "
          ] do
        error = %NetRunner.Error{reason: {:cgroup, step, :enoent}, cmd: ["job"]}
        assert Exception.message(error) =~ "job: " <> said
      end
    end
  end

  describe "a command" do
    @describetag :cgroup

    on_backends "is in its cgroup before it is executed, with all that it starts" do
      parent = cgroup_parent()

      script =
        ~s(cat /proc/self/cgroup; sh -c 'cat /proc/self/cgroup'; setsid sh -c "cat /proc/self/cgroup")

      {:ok, result} =
        NetRunner.exec(["sh", "-c", script],
          cgroup: [parent: parent, name: "job"],
          backend: backend
        )

      homes = for "0::" <> path <- String.split(result.stdout, "\n"), do: Path.basename(path)
      assert homes == ["job", "job", "job"]
      assert result.containment == :cgroup
      assert cgroups_below(parent) == []
    end

    test "that was given none has neither a leaf nor figures of one" do
      {:ok, result} = NetRunner.exec(["true"])
      assert result.cgroup == nil
      assert result.containment == :subreaper
      {:ok, p} = NetRunner.Process.start("cat")
      assert NetRunner.Process.cgroup(p) == {:error, {:cgroup, :none, :enoent}}
      assert NetRunner.Process.set_cgroup(p, pids_max: 1) == {:error, {:cgroup, :none, :enoent}}
      :ok = NetRunner.Process.stop(p)
      assert NetRunner.Process.cgroup(p) == {:error, :closed}
    end

    test "gets a leaf of its own by every call" do
      parent = cgroup_parent()
      opts = [cgroup: %{parent: parent}]
      cat = ["sh", "-c", "cat /proc/self/cgroup"]
      leaf = ~r"0::.*/net_runner-#{System.pid()}-\d+\n"
      assert {text, 0} = NetRunner.run(cat, opts)
      assert text =~ leaf
      assert cat |> NetRunner.stream!(opts) |> Enum.join() =~ leaf
      assert NetRunner.Command.new("sh", tl(cat), opts) |> NetRunner.run!() |> elem(0) =~ leaf
      test = self()

      {:ok, daemon} =
        NetRunner.Daemon.start_link(
          [cmd: ["sh", "-c", "cat /proc/self/cgroup; exec sleep 100"]] ++
            [on_output: &send(test, {:line, &1})] ++ opts
        )

      assert_receive {:line, "0::" <> path}, 5_000
      assert path =~ ~r"/net_runner-\d+-\d+$"
      [leaf] = cgroups_below(parent)
      assert {:ok, os_pid} = NetRunner.Daemon.os_pid(daemon)
      assert cgroup_of(os_pid) == leaf
      GenServer.stop(daemon)
      assert cgroups_below(parent) == []
    end

    test "leaves its guardian where it was" do
      parent = cgroup_parent()
      {:ok, p} = NetRunner.Process.start("cat", [], cgroup: [parent: parent])
      [leaf] = cgroups_below(parent)
      assert cgroup_of(:sys.get_state(p).os_pid) == leaf
      assert cgroup_of(:sys.get_state(p).guardian_pid) == cgroup_of(System.pid())
      :ok = NetRunner.Process.stop(p)
    end

    test "takes with it whoever is in its cgroup, daemons and cgroups of its own included" do
      parent = cgroup_parent()
      lock = tmp_path("lock")

      {:ok, p} =
        NetRunner.Process.start(fixture("daemonize"), [lock],
          cgroup: [parent: parent, name: "job"]
        )

      {:ok, "ready\n"} = NetRunner.Process.read(p)
      below = Path.join([parent, "job", "below"])
      File.mkdir_p!(Path.join(below, "deeper"))
      {:ok, other} = NetRunner.Process.start(fixture("ignore_term"), [lock <> "2"])
      {:ok, "ready\n"} = NetRunner.Process.read(other)
      {:ok, moved} = NetRunner.Process.os_pid(other)
      move_into(Path.join(below, "deeper"), moved)

      :ok = NetRunner.Process.stop(p)
      assert cgroups_below(parent) == []
      await_free(lock, 0)
      assert {:ok, 137} = NetRunner.Process.await_exit(other)
      :ok = NetRunner.Process.stop(other)
    end

    test "whose leaf's name is taken does not run, and the taken one is left alone" do
      parent = cgroup_parent()
      foreign = Path.join(parent, "job")
      File.mkdir!(foreign)
      {:ok, p} = NetRunner.Process.start("cat")
      {:ok, stranger} = NetRunner.Process.os_pid(p)
      move_into(foreign, stranger)

      assert NetRunner.run(["true"], cgroup: [parent: parent, name: "job"]) ==
               {:error, {:cgroup, :leaf, :eexist}}

      assert cgroup_of(stranger) == foreign
      :ok = NetRunner.Process.write(p, "hello")
      assert {:ok, "hello"} = NetRunner.Process.read(p)
      :ok = NetRunner.Process.stop(p)
      File.rmdir!(foreign)
    end

    test "that cannot be executed leaves no leaf" do
      parent = cgroup_parent()
      script = tmp_path("script")
      File.write!(script, "no program")
      File.chmod!(script, 0o755)
      cgroup = [parent: parent]
      assert NetRunner.run([script], cgroup: cgroup) == {:error, :enoexec}
      assert NetRunner.run(["true"], cgroup: cgroup, cd: "/nix") == {:error, {:cd, :enoent}}
      assert cgroups_below(parent) == []
    end

    test "with a limit whose file is not there does not run, and that limit is named" do
      parent = cgroup_parent()

      for key <- [:memory_max, :memory_high, :pids_max, :io_weight, :oom_group] do
        value = if key == :oom_group, do: true, else: 100
        cgroup = [{:parent, parent}, {key, value}]
        assert NetRunner.run(["true"], cgroup: cgroup) == {:error, {:cgroup, key, :enoent}}
      end

      assert cgroups_below(parent) == []
    end

    test "tells what it has used: CPU time here, and nothing where there is no controller" do
      parent = cgroup_parent()
      busy = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done"

      {:ok, %Result{cgroup: used, rusage: rusage}} =
        NetRunner.exec(["sh", "-c", "(#{busy}) & (#{busy}) & wait"], cgroup: [parent: parent])

      assert %{memory_peak: nil, oom_kills: nil, pids_peak: nil, read_bytes: nil} = used
      # The kernel's two ways of counting differ by some ticks.
      assert used.user_us + used.system_us > div(rusage.user_us + rusage.system_us, 2)
      assert used.user_us + used.system_us > 20_000
    end

    test "that is kept has told what it used until its own end; the cgroup goes with the last" do
      parent = cgroup_parent()
      lock = tmp_path("lock")

      {:ok, result} =
        NetRunner.exec([fixture("daemonize"), lock, "exit"],
          cgroup: [parent: parent, name: "job"],
          orphans: :keep
        )

      assert %{user_us: us} = result.cgroup
      assert is_integer(us)
      leaf = Path.join(parent, "job")
      assert locked?(lock)
      [kept] = leaf |> Path.join("cgroup.procs") |> File.read!() |> String.split()
      {_, 0} = System.cmd("kill", [kept])
      eventually("the cgroup is removed", fn -> not File.exists?(leaf) end)
    end

    test "killed by somebody's SIGKILL is signaled, not :oom" do
      parent = cgroup_parent()
      {:ok, result} = NetRunner.exec(["sh", "-c", "kill -9 $$"], cgroup: [parent: parent])
      assert {result.cause, result.exit} == {:signaled, {:signaled, :sigkill}}
    end

    test "200 at once each have a leaf, and leave none" do
      parent = cgroup_parent()

      1..200
      |> Task.async_stream(
        fn n ->
          # A command that is born in a cgroup waits for all processors to pass by (an RCU grace period).
          opts = [cgroup: [parent: parent], spawn_timeout: 60_000]
          {n, NetRunner.run(["sh", "-c", "exit #{n}"], opts)}
        end,
        max_concurrency: 50,
        timeout: 60_000
      )
      |> Enum.each(fn {:ok, {n, answer}} -> assert answer == {"", n} end)

      assert cgroups_below(parent) == []
    end
  end

  describe "a cgroup that is lived in" do
    @describetag :cgroup

    test "can be read: its path, figures, and pressure" do
      parent = cgroup_parent()
      {:ok, p} = NetRunner.Process.start("cat", [], cgroup: [parent: parent, name: "job"])
      {:ok, info} = NetRunner.Process.cgroup(p)
      assert info.path == Path.join(parent, "job")
      assert %{"usage_usec" => usage, "user_usec" => _, "system_usec" => _} = info.cpu_stat
      assert is_integer(usage)
      assert %{memory_current: nil, memory_events: nil, pids_current: nil, io_stat: nil} = info

      # CONFIG_PSI may be off.
      with pressure when pressure != nil <- info.memory_pressure do
        assert %{some: %{avg10: avg, total: total}} = pressure
        assert is_float(avg) and is_integer(total)
      end

      :ok = NetRunner.Process.close_stdin(p)
      {:ok, 0} = NetRunner.Process.await_exit(p)
      assert NetRunner.Process.cgroup(p) == {:error, :not_running}
      assert NetRunner.Process.set_cgroup(p, []) == {:error, :not_running}
      :ok = NetRunner.Process.stop(p)
    end

    test "can be changed, as far as there are controllers; limits are checked as the option's" do
      parent = cgroup_parent()
      {:ok, p} = NetRunner.Process.start("cat", [], cgroup: [parent: parent])
      assert NetRunner.Process.set_cgroup(p, []) == :ok

      assert NetRunner.Process.set_cgroup(p, memory_max: @mib) ==
               {:error, {:cgroup, :memory_max, :enoent}}

      assert {:error, {:invalid, :cgroup, _}} = NetRunner.Process.set_cgroup(p, cpu_weight: 0)
      assert_raise ArgumentError, fn -> NetRunner.Process.set_cgroup(p, parent: "/") end
      assert_raise ArgumentError, fn -> NetRunner.Process.set_cgroup(p, pids_max: "many") end
      :ok = NetRunner.Process.stop(p)
    end
  end

  describe "the memory controller" do
    @describetag :cgroup_memory
    @describetag timeout: 120_000

    # tail keeps the last line, which never ends.
    @glutton ["tail", "/dev/zero"]

    setup do
      {:ok,
       cgroup: [parent: cgroup_parent(["memory"]), memory_max: 32 * @mib, memory_swap_max: 0]}
    end

    test "a command that takes too much ends with the cause :oom (19)", %{cgroup: cgroup} do
      {:ok, result} = NetRunner.exec(@glutton, cgroup: cgroup)
      assert {result.cause, result.exit} == {:oom, {:signaled, :sigkill}}
      assert result.cgroup.oom_kills >= 1
      refute Result.ok?(result)
      assert NetRunner.run(@glutton, cgroup: cgroup) == {"", 137}

      error = assert_raise NetRunner.ExitError, fn -> NetRunner.run!(@glutton, cgroup: cgroup) end

      assert error.cause == :oom
      assert Exception.message(error) =~ "ran out of memory and was ended by SIGKILL"
      assert cgroups_below(cgroup[:parent]) == []
    end

    test "a command that survives the end of its glutton has its own cause", %{cgroup: cgroup} do
      {:ok, result} = NetRunner.exec(["sh", "-c", "tail /dev/zero; exit 3"], cgroup: cgroup)
      assert {result.cause, result.exit} == {:exited, {:exited, 3}}
      assert result.cgroup.oom_kills == 1
    end

    test "with oom_group: all of it is killed with the glutton", %{cgroup: cgroup} do
      {:ok, result} =
        NetRunner.exec(["sh", "-c", "tail /dev/zero; exit 3"], cgroup: [oom_group: true] ++ cgroup)

      assert {result.cause, result.exit} == {:oom, {:signaled, :sigkill}}
    end

    test "who is stopped while memory is short was stopped, and is no case of :oom",
         %{cgroup: cgroup} do
      {:ok, p} =
        NetRunner.Process.start("sh", ["-c", "trap '' TERM; tail /dev/zero; echo over; cat"],
          cgroup: cgroup,
          kill_timeout: 100
        )

      {:ok, "over\n"} = NetRunner.Process.read(p)
      assert {:ok, 137} = NetRunner.Process.shutdown(p, 100, 10_000)
      {:ok, result} = NetRunner.Process.result(p)
      assert result.cause == :stopped
      assert result.cgroup.oom_kills == 1
      :ok = NetRunner.Process.stop(p)
    end

    test "the peak is told, and what is used now can be read", %{cgroup: cgroup} do
      script = "x=$(head -c 8000000 /dev/zero | tr '\\0' a); echo ready; cat; echo ${#x}"
      {:ok, p} = NetRunner.Process.start("sh", ["-c", script], cgroup: cgroup)
      {:ok, "ready\n"} = NetRunner.Process.read(p)
      {:ok, info} = NetRunner.Process.cgroup(p)
      assert info.memory_current > 8_000_000
      assert %{"oom_kill" => 0} = info.memory_events
      :ok = NetRunner.Process.close_stdin(p)
      {:ok, 0} = NetRunner.Process.await_exit(p, 60_000)
      {:ok, result} = NetRunner.Process.result(p)

      # memory.peak came with Linux 5.19.
      if info.memory_peak != nil do
        assert info.memory_peak >= info.memory_current
        assert result.cgroup.memory_peak in 8_000_000..(32 * @mib)
      end

      :ok = NetRunner.Process.stop(p)
    end

    test "a limit can be changed while the command runs", %{cgroup: cgroup} do
      {:ok, p} = NetRunner.Process.start("cat", [], cgroup: cgroup)
      {:ok, %{path: path}} = NetRunner.Process.cgroup(p)
      file = Path.join(path, "memory.max")
      assert File.read!(file) == "#{32 * @mib}\n"

      :ok =
        NetRunner.Process.set_cgroup(p,
          memory_max: :infinity,
          memory_high: 64 * @mib,
          oom_group: true
        )

      assert File.read!(file) == "max\n"
      assert File.read!(Path.join(path, "memory.high")) == "#{64 * @mib}\n"
      assert File.read!(Path.join(path, "memory.oom.group")) == "1\n"
      :ok = NetRunner.Process.stop(p)
    end
  end

  describe "the pids controller" do
    @describetag :cgroup_pids
    @describetag timeout: 120_000

    test "a command cannot have more processes than pids_max:" do
      parent = cgroup_parent(["pids"])
      script = "for i in 1 2 3 4 5; do sleep 100 & done; echo all"

      {:ok, result} =
        NetRunner.exec(["sh", "-c", script],
          cgroup: [parent: parent, pids_max: 3],
          stderr: :capture,
          drain_timeout: 0
        )

      assert result.stdout == ""
      assert result.stderr =~ ~r/fork/i
      assert {:exited, code} = result.exit
      assert code != 0
      if peak = result.cgroup.pids_peak, do: assert(peak <= 3)

      assert {"all\n", 0} =
               NetRunner.run(["sh", "-c", script],
                 cgroup: [parent: parent, pids_max: 6],
                 drain_timeout: 0
               )
    end

    test "a command that has no room itself does not run" do
      parent = cgroup_parent(["pids"])
      assert NetRunner.run(["true"], cgroup: [parent: parent, pids_max: 0]) == {:error, :eagain}
      assert cgroups_below(parent) == []
    end

    test "how many there are can be read, and the limit changed" do
      parent = cgroup_parent(["pids"])
      {:ok, p} = NetRunner.Process.start("cat", [], cgroup: [parent: parent, pids_max: 5])
      {:ok, %{pids_current: 1, path: path}} = NetRunner.Process.cgroup(p)
      :ok = NetRunner.Process.set_cgroup(p, %{pids_max: 7})
      assert File.read!(Path.join(path, "pids.max")) == "7\n"
      :ok = NetRunner.Process.stop(p)
    end
  end

  describe "the cpu controller" do
    @describetag :cgroup_cpu
    @describetag timeout: 120_000

    test "a command gets no more CPU than cpu_max:, is said to be throttled, and can be given more" do
      parent = cgroup_parent(["cpu"])

      {:ok, p} =
        NetRunner.Process.start("sh", ["-c", "while :; do :; done"],
          cgroup: [parent: parent, cpu_max: {10_000, 100_000}, cpu_weight: 50]
        )

      {:ok, %{path: path}} = NetRunner.Process.cgroup(p)
      assert File.read!(Path.join(path, "cpu.max")) == "10000 100000\n"
      assert File.read!(Path.join(path, "cpu.weight")) == "50\n"

      eventually("it is throttled", 60_000, fn ->
        {:ok, %{cpu_stat: stat}} = NetRunner.Process.cgroup(p)
        stat["nr_throttled"] >= 5
      end)

      :ok = NetRunner.Process.set_cgroup(p, cpu_max: {:infinity, 100_000})
      assert File.read!(Path.join(path, "cpu.max")) == "max 100000\n"
      {:ok, 143} = NetRunner.Process.shutdown(p, 5_000, 5_000)
      {:ok, result} = NetRunner.Process.result(p)
      assert result.cgroup.throttled_us > 0
      :ok = NetRunner.Process.stop(p)
    end
  end
end
