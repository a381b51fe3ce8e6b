defmodule NetRunner.Faults.IdentityTest do
  # The fault matrix (docs/reliability.md) where a command shall be somebody else, or have limits.
  use NetRunner.Test.FaultCase

  # What the calls give, one after the other, in a BEAM that is started so.
  defp results(launcher, ebin, calls) do
    beam =
      OtherBeam.start(
        """
        for {cmd, opts} <- #{inspect(calls, limit: :infinity)},
            do: NetRunner.run(cmd, opts) |> :erlang.term_to_binary() |> Base.encode64() |> IO.puts()
        IO.puts("up")
        Process.sleep(:infinity)
        """,
        launcher,
        ebin
      )

    for _ <- calls,
        do: beam |> OtherBeam.read_line() |> Base.decode64!() |> :erlang.binary_to_term()
  end

  defp status(text) do
    for line <- String.split(text, "\n", trim: true), into: %{} do
      [name, value] = String.split(line, ":", parts: 2)
      {name, String.split(value)}
    end
  end

  defp launcher_uid(launcher) do
    ["--reuid=" <> uid] = Enum.filter(launcher, &String.starts_with?(&1, "--reuid="))
    String.to_integer(uid)
  end

  describe "cd, after the change of user (28)" do
    @describetag :root
    @describetag :run_as

    on_backends "a directory that its user may not enter is {:cd, :eacces}, and nothing runs" do
      folder = Path.dirname(tmp_path("made"))
      File.chmod!(folder, 0o700)
      cmd = ["touch", "made"]
      assert NetRunner.run(cmd, cd: folder, backend: backend) == {"", 0}
      File.rm!(Path.join(folder, "made"))
      opts = [cd: folder, user: "nobody", backend: backend]
      assert NetRunner.run(cmd, opts) == {:error, {:cd, :eacces}}
      assert File.ls!(folder) == []
      [uid] = System.cmd("id", ["-u", "nobody"]) |> elem(0) |> String.split()
      File.chown!(folder, String.to_integer(uid))
      assert NetRunner.run(cmd, opts) == {"", 0}
    end

    test "so is the BEAM's own, unless an absolute cd: leads elsewhere" do
      folder = Path.dirname(tmp_path("x"))
      File.chmod!(folder, 0o700)

      File.cd!(folder, fn ->
        assert NetRunner.run(["true"], user: "nobody") == {:error, {:cd, :eacces}}

        assert NetRunner.run(["true"], user: "nobody", cd: ".") == {:error, {:cd, :eacces}}
        assert NetRunner.run(["pwd"], user: "nobody", cd: "/") == {"/\n", 0}
      end)
    end
  end

  describe "run-as (43)" do
    @describetag :root
    @describetag :run_as

    test "the BEAM's session keyring stays the BEAM's" do
      launcher = [fixture("session_key"), "run"]
      read = [public_copy("session_key", 0o1777), "read"]

      calls = [
        {read, []},
        {read, [user: "nobody", groups: [], cd: "/"]}
      ]

      assert results(launcher, Application.app_dir(:net_runner, "ebin"), calls) ==
               [{"secret\n", 0}, {"EACCES\n", 0}]
    end

    test "a BEAM without privileges may name itself; nobody else is to be had, and nothing runs" do
      {launcher, ebin} = OtherBeam.as_somebody()
      uid = launcher_uid(launcher)
      made = Path.join(Path.dirname(Path.dirname(ebin)), "made")
      File.chmod!(Path.dirname(made), 0o1777)
      touch = ["touch", made]
      id = ["sh", "-c", "id -u; id -g; id -G"]
      eperm = {:error, {:user, :eperm}}

      assert results(launcher, ebin, [
               {id, [user: uid, group: uid]},
               {id, [groups: []]},
               {touch, [user: "nobody"]},
               {touch, [user: uid + 1, group: uid]},
               {touch, [user: uid, group: uid + 1]},
               {touch, [user: uid, group: uid, groups: [uid]]},
               {touch, [groups: [uid]]},
               {touch, [group: "audio"]}
             ]) ==
               List.duplicate({"#{uid}\n#{uid}\n#{uid}\n", 0}, 2) ++ List.duplicate(eperm, 6)

      refute File.exists?(made)
      # It could have.
      assert [{"", 0}] = results(launcher, ebin, [{touch, []}])
      assert File.exists?(made)
    end

    test "a BEAM with ambient capabilities becomes others, and its command has none" do
      cmd = ["grep", "-E", "^(Uid|Gid|Groups|Cap...):", "/proc/self/status"]
      show = {cmd, [user: 61_071, group: 61_072, groups: [5]]}
      plain = {cmd, []}
      {launcher, ebin} = with_capabilities("+setuid,+setgid,+kill")
      [{text, 0}, {plain, 0}] = results(launcher, ebin, [show, plain])
      status = status(text)
      assert status["Uid"] == List.duplicate("61071", 4)
      assert status["Gid"] == List.duplicate("61072", 4)
      assert status["Groups"] == ["5"]

      for name <- ~w(CapInh CapPrm CapEff CapAmb),
          do: assert({name, status[name]} == {name, ["0000000000000000"]})

      # Without user: they stay, as everything does.
      assert status(plain)["CapAmb"] == ["00000000000000e0"]
    end

    test "not if it could not kill them" do
      {launcher, ebin} = with_capabilities("+setuid,+setgid")
      opts = [user: 61_071, group: 61_072]
      assert results(launcher, ebin, [{["true"], opts}]) == [{:error, {:user, :eperm}}]
    end

    defp with_capabilities(capabilities) do
      {["setpriv" | who], ebin} = OtherBeam.as_somebody()
      {["setpriv", "--inh-caps=" <> capabilities, "--ambient-caps=" <> capabilities | who], ebin}
    end

    for {how, grace} <- [{"obeys", 5_000}, {"ignores the first signal", 100}] do
      test "the BEAM is killed: a command of another user that #{how} ends with it" do
        fixture = unquote(if grace == 100, do: "ignore_term", else: "hold_lock")
        program = public_copy(fixture, 0o1777)
        lock = Path.join(Path.dirname(program), "lock")
        beam = beam_with(program, lock, user: "nobody", kill_timeout: unquote(grace))
        assert locked?(lock)
        OtherBeam.kill(beam)
        await_free(lock, d() + unquote(if grace == 100, do: 100, else: 0) + k() + s())
      end
    end

    test "guardian and zygote are killed: the kernel ends it" do
      program = public_copy("ignore_term", 0o1777)
      lock = Path.join(Path.dirname(program), "lock")
      beam = beam_with(program, lock, user: "nobody")
      {zygote, guardian} = shepherds(beam)
      {_, 0} = System.cmd("kill", ["-KILL", to_string(zygote), to_string(guardian)])
      await_free(lock, k())
      OtherBeam.kill(beam)
    end

    # With the command in it, which has said that it is ready.
    defp beam_with(program, lock, opts) do
      OtherBeam.start("""
      {:ok, p} = NetRunner.Process.start(#{inspect(program)}, [#{inspect(lock)}], #{inspect(opts)})
      {:ok, "ready\\n"} = NetRunner.Process.read(p)
      IO.puts("pids \#{NetRunner.Shepherd.info().os_pid} \#{:sys.get_state(p).guardian_pid}")
      IO.puts("up")
      Process.sleep(:infinity)
      """)
    end
  end

  describe "limits (44)" do
    on_backends "one that cannot be had is named, and nothing runs" do
      made = tmp_path("made")
      opts = [rlimits: [core: 0, nofile: :infinity], backend: backend]
      assert NetRunner.run(["touch", made], opts) == {:error, {:rlimit, :nofile, :eperm}}
      refute File.exists?(made)
    end

    @tag :root
    @tag :privileges
    test "a normal user has no more than the BEAM, and nothing runs" do
      {launcher, ebin} = OtherBeam.as_somebody()
      made = Path.join(Path.dirname(Path.dirname(ebin)), "made")
      File.chmod!(Path.dirname(made), 0o1777)
      touch = ["touch", made]

      assert results(["prlimit", "--nofile=2000:4000", "--" | launcher], ebin, [
               {["sh", "-c", "ulimit -n; ulimit -Hn"], [rlimits: [nofile: {10, 4000}]]},
               {touch, [rlimits: [nofile: {10, 4001}]]},
               {touch, [rlimits: [nofile: 10, core: 0, nofile: :infinity]]},
               {touch, [nice: -1]},
               {touch, [oom_score_adj: -1000]}
             ]) == [
               {"10\n4000\n", 0},
               {:error, {:rlimit, :nofile, :eperm}},
               {:error, {:rlimit, :nofile, :eperm}},
               {:error, {:nice, :eacces}},
               {:error, {:oom_score_adj, :eacces}}
             ]

      refute File.exists?(made)
    end
  end
end
