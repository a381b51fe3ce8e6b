defmodule NetRunner.Faults.CgroupTest do
  # The fault matrix (docs/reliability.md) of cgroups: parents that cannot be used, leaves that are busy or
  # somebody else's, and the death of whoever would have removed one.
  use NetRunner.Test.FaultCase

  @moduletag :cgroup

  describe "a parent that cannot be used (44)" do
    test "is absent, no cgroup2, a symlink or reached by one: an error, and nothing runs" do
      parent = cgroup_parent()
      ran = tmp_path("ran")
      link = tmp_path("link")
      File.ln_s!(parent, link)
      to_mount = tmp_path("to_mount")
      File.ln_s!(cgroup_mount(), to_mount)

      for {where, posix} <- [
            {Path.join(parent, "nothing"), :enoent},
            {Path.join(parent, "cgroup.procs"), :enotdir},
            {System.tmp_dir!(), :eopnotsupp},
            {"/proc", :eopnotsupp},
            {link, :eloop},
            {Path.join(to_mount, Path.basename(parent)), :eloop}
          ] do
        assert NetRunner.run(["touch", ran], cgroup: [parent: where]) ==
                 {:error, {:cgroup, :parent, posix}}
      end

      assert {:error, {:invalid, :cgroup, _}} =
               NetRunner.run(["touch", ran], cgroup: [parent: parent <> "/../"])

      refute File.exists?(ran)
      assert cgroups_below(parent) == []
    end

    @tag :freezer
    test "is of version 1: an error, and nothing runs" do
      ran = tmp_path("ran")

      assert NetRunner.run(["touch", ran], cgroup: [parent: freezer()]) ==
               {:error, {:cgroup, :parent, :eopnotsupp}}

      refute File.exists?(ran)
    end

    @tag :mount_namespace
    @tag :root
    test "is read-only: an error, and nothing runs" do
      parent = cgroup_parent()
      mount = cgroup_mount()

      assert_refused(
        mount_namespace(["mount --bind #{mount} #{mount}", "mount -o remount,bind,ro #{mount}"]),
        parent,
        {:cgroup, :leaf, :erofs}
      )
    end

    @tag :mount_namespace
    @tag :root
    test "is not there, for no cgroup2 is mounted: an error, and nothing runs" do
      parent = cgroup_parent()

      assert_refused(
        mount_namespace(["umount -l #{cgroup_mount()}"]),
        parent,
        {:cgroup, :parent, :enoent}
      )
    end

    @tag :root
    test "is not delegated to the user: an error, and nothing runs" do
      parent = cgroup_parent()
      {launcher, ebin} = OtherBeam.as_somebody()
      assert_refused(launcher, parent, {:cgroup, :leaf, :eacces}, ebin)
    end

    @tag :root
    test "is delegated, but the BEAM lives outside: an error, and nothing runs" do
      parent = cgroup_parent()
      {launcher, ebin} = OtherBeam.as_somebody()
      delegate(parent, launcher)
      assert_refused(launcher, parent, {:cgroup, :join, :eacces}, ebin)
    end

    @tag :root
    test "is delegated, and the BEAM lives below it: a user's commands have their leaves" do
      parent = cgroup_parent()
      {launcher, ebin} = OtherBeam.as_somebody()
      delegate(parent, launcher)
      home = Path.join(parent, "beam")
      File.mkdir!(home)
      delegate(home, launcher)

      beam =
        OtherBeam.start(
          """
          {:ok, result} = NetRunner.exec(["cat", "/proc/self/cgroup"], cgroup: [parent: #{inspect(parent)}, name: "job"])
          IO.puts(Regex.run(~r/^0::.*$/m, result.stdout))
          IO.puts(result.containment)
          IO.puts("up")
          Process.sleep(:infinity)
          """,
          ["sh", "-c", "echo $$ > #{home}/cgroup.procs; exec \"$@\"", "sh"] ++ launcher,
          ebin
        )

      assert Path.basename(OtherBeam.read_line(beam)) == "job"
      assert OtherBeam.read_line(beam) == "cgroup"
      assert cgroups_below(parent) == [home]
      OtherBeam.kill(beam)
      eventually("nobody lives in #{home}", 10_000, fn -> File.rmdir(home) == :ok end)
    end
  end

  describe "a leaf (45)" do
    test "that somebody was moved into is busy: he is waited for, then killed; it is removed" do
      parent = cgroup_parent()
      {:ok, other} = NetRunner.Process.start("sleep", ["100"])
      {:ok, moved} = NetRunner.Process.os_pid(other)

      {:ok, p} =
        NetRunner.Process.start("cat", [],
          cgroup: [parent: parent, name: "job"],
          drain_timeout: 100
        )

      move_into(Path.join(parent, "job"), moved)
      :ok = NetRunner.Process.close_stdin(p)
      {us, {:ok, 0}} = :timer.tc(fn -> NetRunner.Process.await_exit(p) end)
      assert div(us, 1000) in 100..(100 + s())
      assert cgroups_below(parent) == []
      assert {:ok, 137} = NetRunner.Process.await_exit(other)
      for p <- [p, other], do: :ok = NetRunner.Process.stop(p)
    end

    @tag :freezer
    test "with somebody who cannot be killed is reported within S, and removed once he has ended" do
      parent = cgroup_parent()
      {:ok, other} = NetRunner.Process.start("sleep", ["100"])
      {:ok, moved} = NetRunner.Process.os_pid(other)
      cgroup = [parent: parent, name: "job"]
      {:ok, p} = NetRunner.Process.start("cat", [], cgroup: cgroup, kill_timeout: 100)
      move_into(Path.join(parent, "job"), moved)
      thaw = freeze_hard(moved)

      {us, answer} = :timer.tc(fn -> NetRunner.Process.shutdown(p, 100, 10_000) end)
      assert answer == {:error, {:unkillable, [moved]}}
      assert div(us, 1000) in s()..(100 + s() + 1_000)
      assert cgroups_below(parent) == [Path.join(parent, "job")]

      thaw.()
      assert {:ok, 137} = NetRunner.Process.await_exit(other)
      eventually("the leaf is removed", 3_000, fn -> cgroups_below(parent) == [] end)
      # Which comes right before its guardian says that all is over.
      eventually("its end is told", fn -> NetRunner.Process.await_exit(p) == {:ok, 143} end)
      for p <- [p, other], do: :ok = NetRunner.Process.stop(p)
    end

    test "of the same name that is somebody else's is not touched, whoever is killed meanwhile" do
      parent = cgroup_parent()
      foreign = Path.join(parent, "job")
      File.mkdir!(foreign)
      {:ok, other} = NetRunner.Process.start("sleep", ["100"])
      {:ok, stranger} = NetRunner.Process.os_pid(other)
      move_into(foreign, stranger)

      for _ <- 1..20 do
        assert NetRunner.run(["true"], cgroup: [parent: parent, name: "job"]) ==
                 {:error, {:cgroup, :leaf, :eexist}}
      end

      kill_zygote()
      assert NetRunner.run(["true"]) == {"", 0}
      assert running?(stranger)
      assert cgroup_of(stranger) == foreign
      :ok = NetRunner.Process.stop(other)
      File.rmdir!(foreign)
    end
  end

  describe "the end of who keeps a leaf" do
    test "its guardian is killed: the zygote ends who lives there, and removes it (10)" do
      parent = cgroup_parent()
      {p, lock} = daemon(parent)
      %{guardian_pid: guardian} = :sys.get_state(p)
      File.mkdir!(Path.join([parent, "job", "below"]))
      {_, 0} = System.cmd("kill", ["-KILL", to_string(guardian)])
      await_free(lock, k())
      assert NetRunner.Process.await_exit(p, d()) == {:error, :guardian_lost}
      eventually("the leaf is removed", fn -> cgroups_below(parent) == [] end)
      {:ok, result} = NetRunner.Process.result(p)
      assert {result.cause, result.cgroup} == {:guardian_lost, nil}
      :ok = NetRunner.Process.stop(p)
    end

    @tag :slow
    test "its guardian is killed: whoever has its name next is not taken for it" do
      parent = cgroup_parent()
      opts = [cgroup: [parent: parent, name: "job"]]

      # Many members keep the leaf for a while; the next start waits for the name only.
      many = "for i in $(seq 60); do setsid sleep 100 & done; echo ready; wait"

      for _ <- 1..2 do
        {:ok, p} = NetRunner.Process.start("sh", ["-c", many], opts)
        {:ok, _} = NetRunner.Process.await_output(p, "ready\n", 10_000)
        %{guardian_pid: guardian} = :sys.get_state(p)
        {_, 0} = System.cmd("kill", ["-KILL", to_string(guardian)])

        next =
          eventually("the name is free", 10_000, fn ->
            case NetRunner.Process.start("sleep", ["100"], opts) do
              {:ok, next} -> next
              {:error, {:cgroup, :leaf, :eexist}} -> nil
            end
          end)

        # For as long as the BEAM ends what the guardian left.
        assert NetRunner.Process.await_exit(next, 2_200) == {:error, :timeout}
        for p <- [p, next], do: :ok = NetRunner.Process.stop(p)
      end
    end

    test "zygote and guardian are killed: the BEAM ends who lives there, and removes it" do
      parent = cgroup_parent()
      {p, lock} = daemon(parent)
      %{guardian_pid: guardian} = :sys.get_state(p)
      File.mkdir_p!(Path.join([parent, "job", "below", "deeper"]))
      zygote = await_healthy_zygote()
      {_, 0} = System.cmd("kill", ["-KILL", to_string(zygote), to_string(guardian)])
      assert NetRunner.Process.await_exit(p, 1_000) == {:error, :guardian_lost}
      await_free(lock, k())
      eventually("the leaf is removed", fn -> cgroups_below(parent) == [] end)
      :ok = NetRunner.Process.stop(p)
    end

    test "the BEAM is killed: the guardian removes it (2)" do
      parent = cgroup_parent()
      lock = tmp_path("lock")
      beam = in_other_beam(parent, lock)
      OtherBeam.kill(beam)
      await_free(lock, d() + 100 + k())
      eventually("the leaf is removed", fn -> cgroups_below(parent) == [] end)
    end

    test "BEAM and guardian are killed: the zygote removes it, and leaves" do
      parent = cgroup_parent()
      lock = tmp_path("lock")
      beam = in_other_beam(parent, lock)
      {zygote, guardian} = shepherds(beam)
      {_, 0} = System.cmd("kill", ["-KILL", to_string(guardian), to_string(beam.os_pid)])
      await_free(lock, d() + k())
      eventually("the leaf is removed", fn -> cgroups_below(parent) == [] end)
      eventually("the zygote leaves", fn -> not running?(zygote) end)
    end

    test "a start's guardian is killed at any moment: no leaf stays" do
      parent = cgroup_parent()

      for _ <- 1..30 do
        task = Task.async(fn -> NetRunner.run(["sleep", "100"], cgroup: [parent: parent]) end)

        {:ok, {:error, reason}} =
          eventually("its guardian is found and killed", fn ->
            for pid <- children(NetRunner.Shepherd.info().os_pid),
                do: System.cmd("kill", ["-KILL", to_string(pid)], stderr_to_stdout: true)

            Task.yield(task, 0)
          end)

        assert reason in [:guardian_lost, :shepherd_lost]
      end

      eventually("no leaf is left", fn -> cgroups_below(parent) == [] end)
    end
  end

  defp daemon(parent) do
    lock = tmp_path("lock")

    {:ok, p} =
      NetRunner.Process.start(fixture("daemonize"), [lock], cgroup: [parent: parent, name: "job"])

    {:ok, "ready\n"} = NetRunner.Process.read(p)
    {p, lock}
  end

  defp in_other_beam(parent, lock) do
    opts = [cgroup: [parent: parent, name: "job"], kill_timeout: 100]
    beam = other_beam("daemonize", [lock], opts)
    assert cgroups_below(parent) == [Path.join(parent, "job")]
    beam
  end

  # What a user must own to have a cgroup delegated (cgroup-v2.rst, "Delegation").
  defp delegate(cgroup, ["setpriv", "--reuid=" <> uid | _]) do
    for name <- ["", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"],
        do: File.chown!(Path.join(cgroup, name), String.to_integer(uid))
  end

  defp assert_refused(
         launcher,
         parent,
         reason,
         ebin \\ Application.app_dir(:net_runner, "ebin")
       ) do
    beam =
      OtherBeam.start(
        """
        IO.puts(inspect(NetRunner.run(["echo", "ran"], cgroup: [parent: #{inspect(parent)}])))
        {"works", 0} = NetRunner.run(["printf", "works"])
        IO.puts("up")
        Process.sleep(:infinity)
        """,
        launcher,
        ebin
      )

    assert OtherBeam.read_line(beam) == inspect({:error, reason})
    assert cgroups_below(parent) == []
  end
end
