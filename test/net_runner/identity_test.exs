defmodule NetRunner.IdentityTest do
  # Who a command runs as (user:, group:, groups:, no_new_privs:). What must hold whatever goes wrong is in
  # faults/identity_test.exs.
  use NetRunner.Test.Case, async: true

  alias NetRunner.Test.OtherBeam

  @no_capabilities ~w(CapInh CapPrm CapEff CapAmb)

  defp status(opts) do
    {text, 0} = NetRunner.run(["cat", "/proc/self/status"], opts)
    for line <- String.split(text, "\n", trim: true), into: %{}, do: field(line)
  end

  defp field(line) do
    [name, value] = String.split(line, ":", parts: 2)
    {name, String.split(value)}
  end

  defp four_times(id), do: List.duplicate(to_string(id), 4)
  defp id(args), do: "id" |> System.cmd(args) |> elem(0) |> String.split()

  defp assert_no_capability(status) do
    for name <- @no_capabilities, do: assert(status[name] == ["0000000000000000"], name)
  end

  describe "user:" do
    @describetag :root
    @describetag :run_as

    on_backends "a name: that user's ids, group and groups, all of them, and no capability" do
      status = status(user: "nobody", backend: backend)
      assert status["Uid"] == four_times(id(["-u", "nobody"]))
      assert status["Gid"] == four_times(id(["-g", "nobody"]))
      assert Enum.sort(status["Groups"]) == Enum.sort(id(["-G", "nobody"]))
      assert_no_capability(status)
    end

    test "a uid is the same as its name" do
      [uid] = id(["-u", "nobody"])
      by_name = status(user: "nobody")
      by_uid = status(user: String.to_integer(uid))
      for name <- ~w(Uid Gid Groups), do: assert(by_uid[name] == by_name[name])
    end

    test "its terminal is its own: it can be opened again by its name" do
      opts = [user: "nobody", cd: "/", pty: [raw: true]]
      script = ~S[tty=$(tty <&2) && stat -c %U "$tty" && echo so >"$tty" && echo so >/dev/tty]
      assert NetRunner.run(["sh", "-c", script], opts) == {"nobody\nso\nso\n", 0}
    end

    test "a uid without a name needs a group, and has no other" do
      uid = unused_uid()
      assert {:error, {:invalid, :user, message}} = NetRunner.run(["true"], user: uid)
      assert message =~ "group:"
      status = status(user: uid, group: 54_321)
      assert {status["Uid"], status["Gid"]} == {four_times(uid), four_times(54_321)}
      assert status["Groups"] == []
      assert_no_capability(status)
    end

    test "group: is another primary group, and the others stay the user's" do
      status = status(user: "nobody", group: 54_321)
      assert status["Gid"] == four_times(54_321)
      assert Enum.sort(status["Groups"]) == Enum.sort(id(["-G", "nobody"]))
    end

    test "groups: are the supplementary groups exactly, by name or number, in any order, twice or not at all" do
      [audio] =
        Regex.run(~r/^audio:[^:]*:(\d+):/m, File.read!("/etc/group"), capture: :all_but_first)

      assert status(user: "nobody", groups: [60_001, "audio", 7, 60_001])["Groups"] ==
               Enum.sort_by([audio, "7", "60001"], &String.to_integer/1)

      assert status(user: "nobody", groups: [])["Groups"] == []
      assert length(status(user: "nobody", groups: Enum.to_list(1..1000))["Groups"]) == 1000
    end

    test "the program cannot become root again" do
      program = public_copy("become_root")
      {:ok, p} = NetRunner.Process.start(program, [], user: "nobody", kill_timeout: 0)
      assert NetRunner.Process.read(p) == {:ok, "plain\n"}
      NetRunner.Process.stop(p)
    end

    test "the program is executed as the user, who may not be allowed to" do
      program = public_copy("become_root")
      File.chmod!(program, 0o700)
      assert NetRunner.run([program], user: "nobody") == {:error, :eacces}
    end

    test "the environment is the BEAM's, with what env: says" do
      script = ~S(echo "$HOME $MARK")
      home = System.get_env("HOME")

      assert NetRunner.run(["sh", "-c", script], user: "nobody", env: [MARK: "1"]) ==
               {"#{home} 1\n", 0}
    end

    test "signals and the stop ladder reach it" do
      {:ok, p} = NetRunner.Process.start("sleep", ["100"], user: "nobody")
      assert NetRunner.Process.kill(p, :sigusr1) == :ok
      assert NetRunner.Process.await_exit(p, 5_000) == {:ok, 128 + 10}
      assert NetRunner.Process.stop(p) == :ok

      program = public_copy("ignore_term")
      {:ok, p} = NetRunner.Process.start(program, [], user: "nobody", kill_timeout: 50)
      assert NetRunner.Process.read(p) == {:ok, "ready\n"}
      {:ok, os_pid} = NetRunner.Process.os_pid(p)
      assert NetRunner.Process.stop(p) == :ok
      refute running?(os_pid)
    end

    test "every call has it" do
      uid = hd(id(["-u", "nobody"])) <> "\n"
      cmd = ["id", "-u"]
      opts = [user: "nobody"]
      assert NetRunner.run(cmd, opts) == {uid, 0}
      assert {:ok, %{stdout: ^uid}} = NetRunner.exec(cmd, opts)
      assert cmd |> NetRunner.stream!(opts) |> Enum.join() == uid
      assert "id" |> NetRunner.Command.new(["-u"], opts) |> NetRunner.run() == {uid, 0}
      test = self()
      told = fn line -> send(test, {:line, line}) end

      start_supervised!(
        {NetRunner.Daemon, [cmd: ["sh", "-c", "id -u; exec sleep 100"], on_output: told] ++ opts}
      )

      assert_receive {:line, line}, 5_000
      assert line <> "\n" == uid
    end
  end

  describe "group: and groups: without user:" do
    @describetag :root

    test "the BEAM's user stays, with what it may do" do
      now = status([])
      status = status(group: 54_321)
      assert status["Gid"] == four_times(54_321)
      for name <- ["Uid", "Groups" | @no_capabilities], do: assert(status[name] == now[name])
    end

    test "groups: leaves the primary group" do
      now = status([])
      status = status(groups: [60_001])
      assert status["Groups"] == ["60001"]
      for name <- ["Uid", "Gid", "CapEff"], do: assert(status[name] == now[name])
      assert status(groups: [])["Groups"] == []
    end
  end

  describe "who cannot be is an error before anything starts" do
    setup do
      {:ok, made: tmp_path("made")}
    end

    for {option, value, words} <- [
          {:user, 0, "user 0"},
          {:user, "root", "user 0"},
          {:user, -1, "no user id"},
          {:user, 0xFFFF_FFFF, "no user id"},
          {:user, 0x1_0000_0000, "no user id"},
          {:user, "no such user", "no user \"no such user\""},
          {:user, "", "no user \"\""},
          {:user, "65534", "no user \"65534\""},
          {:user, "nobody\0", "NUL"},
          {:user, String.duplicate("n", 5000), "no user"},
          {:group, -1, "no group id"},
          {:group, 0xFFFF_FFFF, "no group id"},
          {:group, "no such group", "no group \"no such group\""},
          {:group, "audio\0x", "NUL"},
          {:groups, [1, 0xFFFF_FFFF], "no group id"},
          {:groups, ["no such group"], "no group"},
          {:groups, Enum.to_list(1..1001), "1001 groups"}
        ] do
      test "#{option}: #{inspect(value, limit: 3, printable_limit: 20)}", %{made: made} do
        opts = [{unquote(option), unquote(Macro.escape(value))}]

        assert {:error, {:invalid, unquote(option), message}} =
                 NetRunner.run(["touch", made], opts)

        assert message =~ unquote(words)
        refute File.exists?(made)

        # At once, not only when it is enumerated.
        assert {:error, {:invalid, unquote(option), ^message}} = NetRunner.stream(["true"], opts)
      end
    end
  end

  test "what cannot be nil, or of another type, is a mistake that is raised" do
    for {option, values} <- [
          user: [nil, :nobody, 1.0, ["nobody"]],
          group: [nil, :audio],
          groups: [nil, "audio", [:audio], [1 | 2], %{}],
          no_new_privs: [nil, 1]
        ],
        value <- values do
      assert_raise ArgumentError, ~r/invalid value for :#{option}/, fn ->
        NetRunner.run(["true"], [{option, value}])
      end
    end
  end

  @tag :root
  test "what the build cannot have fails: the portable one drops no capabilities" do
    portable? = NetRunner.Nif.build() == :portable

    for {option, value} <- [user: "nobody", no_new_privs: true, oom_score_adj: 500] do
      assert NetRunner.run(["true"], [{option, value}]) ==
               if(portable?, do: {:error, {option, :enosys}}, else: {"", 0})
    end
  end

  describe "no_new_privs:" do
    @describetag :privileges

    test "is the command's" do
      assert status(no_new_privs: true)["NoNewPrivs"] == ["1"]
    end

    @tag :set_uid
    @tag :root
    @tag :run_as
    test "a set-user-ID program gains nothing" do
      program = public_copy("become_root")
      File.chmod!(program, 0o4755)

      for {no_new_privs, says} <- [{false, "ready\n"}, {true, "plain\n"}] do
        opts = [user: "nobody", no_new_privs: no_new_privs, kill_timeout: 0]
        {:ok, p} = NetRunner.Process.start(program, [], opts)
        assert {no_new_privs, NetRunner.Process.read(p)} == {no_new_privs, {:ok, says}}
        NetRunner.Process.stop(p)
      end
    end
  end

  describe "in the databases of users and groups" do
    @describetag :root
    @describetag :run_as
    @describetag :mount_namespace

    setup do
      folder = Path.dirname(tmp_path("etc"))
      many = Enum.map_join(1..1100, fn n -> "many#{n}:x:#{30_000 + n}:popular\n" end)
      # One whose entry alone is larger than any first buffer.
      members = Enum.map_join(1..5000, ",", &"member#{&1}")

      File.write!(Path.join(folder, "passwd"), """
      root:x:0:0:root:/root:/bin/sh
      toor:x:0:0:another root:/root:/bin/sh
      minus:x:4294967295:7:nobody at all:/:/bin/sh
      somebody:x:61001:61002:some body:/:/bin/sh
      popular:x:61003:61003::/:/bin/sh
      """)

      File.write!(Path.join(folder, "group"), """
      root:x:0:
      first:x:61010:somebody
      second:x:61011:popular,somebody
      crowd:x:61012:#{members}
      #{many}
      """)

      {:ok, folder: folder}
    end

    # What each of these gives, in a BEAM that sees these files.
    defp results(folder, calls) do
      launcher =
        for(name <- ["passwd", "group"], do: "mount --bind #{folder}/#{name} /etc/#{name}")
        |> mount_namespace()

      beam =
        OtherBeam.start(
          """
          for {cmd, opts} <- #{inspect(calls, limit: :infinity)},
              do: NetRunner.run(cmd, opts) |> :erlang.term_to_binary() |> Base.encode64() |> IO.puts()
          IO.puts("up")
          Process.sleep(:infinity)
          """,
          launcher
        )

      for _ <- calls,
          do: beam |> OtherBeam.read_line() |> Base.decode64!() |> :erlang.binary_to_term()
    end

    test "a user brings its primary group and all that name it", %{folder: folder} do
      who = ["sh", "-c", "id -u; id -g; id -G"]

      assert [
               {"61001\n61002\n61002 61010 61011\n", 0},
               {"61001\n61010\n61010 61002 61011\n", 0},
               {"61001\n61012\n61012\n", 0},
               {:error, {:invalid, :user, toor}},
               {:error, {:invalid, :user, minus}},
               {:error, {:invalid, :groups, popular}},
               {"61003\n61003\n61003\n", 0}
             ] =
               results(folder, [
                 {who, [user: "somebody"]},
                 {who, [user: 61_001, group: "first"]},
                 {who, [user: "somebody", group: "crowd", groups: []]},
                 {who, [user: "toor"]},
                 {who, [user: "minus"]},
                 {who, [user: "popular"]},
                 {who, [user: "popular", groups: []]}
               ])

      assert toor =~ "user 0"
      assert minus =~ "4294967295"
      assert popular =~ "1102 groups"
    end
  end
end
