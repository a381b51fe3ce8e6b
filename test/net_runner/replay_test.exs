# What `use ExUnit.Case` brings, told of instead of run.
defmodule NetRunner.ReplayTest.Callbacks do
  defmacro setup(do: block), do: quote(do: def(setup_of_it, do: unquote(block)))
  def on_exit(fun), do: Process.put(:on_exit, fun)
end

defmodule NetRunner.ReplayTest.OfSomebody do
  import NetRunner.ReplayTest.Callbacks
  use NetRunner.Test, redirect: [NetRunner.Test.fake("a", stdout: "x")], otherwise: ["echo"]
end

defmodule NetRunner.ReplayTest do
  # NetRunner.Test: what a real command did is recorded, and comes back by every call as if it had been run; who is
  # redirected, by what, and that nobody else is, and nothing runs by accident.
  use NetRunner.Test.Case

  alias NetRunner.Replay
  alias NetRunner.Replay.Cassette
  alias NetRunner.ReplayTest.OfSomebody
  alias NetRunner.Test, as: Kit

  doctest NetRunner.Test

  setup do
    :ok = Kit.start()
    on_exit(&Kit.stop/0)
    # Doctests write where they are.
    dir = Path.dirname(tmp_path("here"))
    cwd = File.cwd!()
    File.cd!(dir)
    on_exit(fn -> File.cd!(cwd) end)
    {:ok, dir: dir}
  end

  # No program has this name: it can only be replayed.
  @missing "no-such-program"

  defp record(script, opts \\ []) do
    path = tmp_path("it.cassette")
    assert {:ok, result} = Kit.record(path, ["sh", "-c", script], opts)
    {Kit.cassette(path, match: [@missing, :*], times: :any), path, result}
  end

  defp fake(does), do: Kit.fake(@missing, does)

  defp events(path),
    do: path |> File.read!() |> String.split("\n") |> Enum.filter(&(&1 =~ ~r/^at /))

  defp whats(path),
    do: for(event <- events(path), do: event |> String.split(" ", parts: 3) |> List.last())

  describe "a recording" do
    test "of a program that fails has its words and its exit code, and is what comes back" do
      path = tmp_path("a/folder/ls.cassette")
      opts = [env: [LC_ALL: "C"]]
      assert {:ok, result} = Kit.record(path, ["ls", "/no such"], opts)
      said = "ls: cannot access '/no such': No such file or directory\n"
      assert {result.stdout, result.stderr, result.exit} == {"", said, {:exited, 2}}
      # ls writes it in several pieces.
      assert Enum.dedup(whats(path)) == ["stderr", "exit 2"]
      assert File.ls!(Path.dirname(path)) == ["ls.cassette"]

      Kit.with_cassettes(path, fn ->
        assert {:ok, replayed} = NetRunner.exec(["ls", "/no such"], stderr: :capture)
        assert {replayed.stdout, replayed.stderr, replayed.exit} == {"", said, {:exited, 2}}
        assert replayed.cmd == ["ls", "/no such"]
      end)
    end

    test "of both outputs, with pauses, has their order and the time" do
      path = tmp_path("both.cassette")
      cmd = ["sh", "-c", "echo a; read x; echo b >&2; read x; echo c; exit 3"]

      # Each answer is given when what came before it has been read, the second one after a pause.
      read? = fn stream ->
        Enum.any?(NetRunner.list(), &(&1.cmd == cmd and &1.stats[stream].bytes == 2))
      end

      answers =
        Stream.map([stdout: 0, stderr: 200], fn {stream, pause} ->
          eventually("2 bytes of #{stream} were read", 20_000, fn -> read?.(stream) end)
          # A pause is what is recorded: nothing happens in it.
          Process.sleep(pause)
          "\n"
        end)

      assert {:ok, result} = Kit.record(path, cmd, input: answers)
      assert {result.stdout, result.stderr, result.exit} == {"a\nc\n", "b\n", {:exited, 3}}
      events = for event <- events(path), do: event |> String.split(" ", parts: 3) |> tl()
      said = for [_at, what] <- events, not String.starts_with?(what, "stdin"), do: what
      assert said == ["stdout", "stderr", "stdout", "exit 3"]

      at = fn what -> for [at, ^what] <- events, do: String.to_integer(at) end
      assert List.last(at.("stdout")) - hd(at.("stdin")) >= 200_000
    end

    test "may be played in its time, or slower" do
      path = tmp_path("x.cassette")

      File.write!(path, """
      net_runner cassette 1
      command "x"
      at 0 stdout
        "a\\n"
      at 200000 stderr
        "b\\n"
      at 300000 stdout
        "c\\n"
      at 400000 exit 3
      """)

      for {speed, ms} <- [{:real, 400}, {2, 200}, {0.5, 800}] do
        Kit.with_cassettes(path, [speed: speed], fn ->
          began = System.monotonic_time(:millisecond)
          assert NetRunner.run(["x"], stderr: :merge) == {"a\nb\nc\n", 3}
          assert System.monotonic_time(:millisecond) - began >= ms
        end)
      end
    end

    test "without its time ends at once, however long it took" do
      path = tmp_path("slow.cassette")
      # Ten hours: who waited for them would find the time-out.
      File.write!(path, ~s(net_runner cassette 1\ncommand "x"\nat 36000000000 exit 4\n))

      Kit.with_cassettes(path, fn ->
        assert {:ok, %{exit: {:exited, 4}}} = NetRunner.exec(["x"], timeout: 60_000)
      end)
    end

    test "of one that a signal ended ends by it" do
      for {signal, number} <- [sigkill: 9, sigsegv: 11, sigusr1: 10] do
        {cassette, path, result} = record("echo x; kill -#{number} $$")
        assert {result.cause, result.exit} == {:signaled, {:signaled, signal}}
        assert List.last(whats(path)) == "signal #{number} (#{signal})"

        Kit.with_cassettes(cassette, fn ->
          assert {:ok, %{stdout: "x\n", cause: :signaled, exit: {:signaled, ^signal}}} =
                   NetRunner.exec([@missing])
        end)
      end
    end

    on_backends "of any bytes, more than a pipe holds, comes back byte by byte" do
      bytes = for n <- 1..100_000, into: "", do: <<n::24>>
      input = tmp_path("bytes")
      File.write!(input, bytes)
      path = tmp_path("cat.cassette")
      {:ok, %{stdout: ^bytes}} = Kit.record(path, ["cat", input])

      back_at_baseline(fn ->
        Kit.with_cassettes(path, [times: :any], fn ->
          cmd = ["cat", input]
          assert NetRunner.run(cmd, backend: backend) == {bytes, 0}
          assert cmd |> NetRunner.stream!(backend: backend) |> Enum.join() == bytes
          assert [first] = cmd |> NetRunner.stream!(backend: backend) |> Enum.take(1)
          assert String.starts_with?(bytes, first)
        end)
      end)
    end

    test "of a filter has its input, and the replay reads to the end what it is given" do
      path = tmp_path("sort.cassette")

      assert {:ok, %{stdout: "a\nb\n"}} =
               Kit.record(path, ["sort"], input: Stream.map(["b\n", "a\n"], & &1))

      assert ["stdin", "stdin", "stdin end", "stdout", "exit 0"] = whats(path)

      Kit.with_cassettes(path, [times: :any], fn ->
        # A pipe's worth and more would be refused by one that does not read.
        assert {:ok, result} = NetRunner.exec(["sort"], input: :binary.copy("x", 1_000_000))
        assert {result.stdout, result.exit} == {"a\nb\n", {:exited, 0}}
        assert result.stats.stdin.bytes == 1_000_000
      end)
    end

    test "of a filter may be played only for the input that it had" do
      path = tmp_path("sort.cassette")
      {:ok, _} = Kit.record(path, ["sort"], input: "b\na\n")

      Kit.with_cassettes(path, [times: :any, stdin: :check], fn ->
        assert NetRunner.run(["sort"], input: ["b\n", "a\n"]) == {"a\nb\n", 0}
        assert {"", 125, said} = NetRunner.run(["sort"], input: "b\nc\n", stderr: :capture)

        assert said =~
                 ~r/^replay: .*sort.cassette:3: stdin is not as it was recorded: .* byte 4$/m
      end)

      large = :binary.copy("0123456789", 10_000)
      {:ok, _} = Kit.record(path, ["wc", "-c"], input: large)
      assert File.stat!(path).size < 1_000

      Kit.with_cassettes(path, [times: :any, stdin: :check], fn ->
        assert NetRunner.run(["wc", "-c"], input: large) == {"100000\n", 0}
        assert {"", 125} = NetRunner.run(["wc", "-c"], input: large <> "!")
      end)
    end

    on_backends "of frames has their headers, and is what the same call finds again" do
      for packet <- [1, 2, 4] do
        path = tmp_path("cat.cassette")
        opts = [packet: packet, input: ["one", "", ["t", ?w, "o"]], backend: backend]
        assert {:ok, %{stdout: bytes}} = Kit.record(path, ["cat"], opts)
        size = 8 * packet
        assert bytes == <<3::size(size), "one", 0::size(size), 3::size(size), "two">>

        assert {:ok, %{events: events}} = path |> File.read!() |> Cassette.parse()
        assert bytes == for({_at, {:stdin, piece}} <- events, into: "", do: piece)

        Kit.with_cassettes(path, [times: :any, stdin: :check], fn ->
          assert NetRunner.run(["cat"], opts) == {["one", "", "two"], 0}
          assert {_, 125} = NetRunner.run(["cat"], Keyword.put(opts, :input, ["one", "other"]))
        end)

        for input <- ["all", Stream.map(["all"], & &1)] do
          {:ok, result} = Kit.record(path, ["cat"], packet: packet, input: input)
          assert result.stdout == <<3::size(size), "all">>
        end

        # A file is the command's own, headers and all.
        file = tmp_path("file")
        File.write!(file, bytes)
        opts = [packet: packet, input: {:file, file}]
        assert {:ok, %{stdout: ^bytes}} = Kit.record(path, ["cat"], opts)
      end
    end

    test "may be told what to keep of stdin" do
      path = tmp_path("x.cassette")
      {:ok, _} = Kit.record(path, ["cat"], input: "password", keep_stdin: 0)
      text = File.read!(path)
      assert text =~ "stdin 8 crc32 "
      refute text =~ ~r/stdin\n.*password/
    end

    test "of a file as input has what the file had" do
      file = tmp_path("file")
      File.write!(file, "one\ntwo\n")
      {_, path, %{stdout: "2\n"}} = record("wc -l", input: {:file, file})
      assert File.read!(path) =~ ~r/^at \d+ stdin\n  "one\\n"\n  "two\\n"\nat \d+ stdin end$/m
    end

    test "of one that would go on stays until it is stopped" do
      {cassette, path, result} = record("echo up; exec sleep 60", timeout: 2_000)
      assert {result.cause, result.exit} == {:timeout, {:signaled, :sigterm}}
      assert List.last(whats(path)) == "stopped signal 15 (sigterm)"

      Kit.with_cassettes(cassette, fn ->
        {:ok, p} = NetRunner.Process.start(@missing)
        assert NetRunner.Process.read(p) == {:ok, "up\n"}
        assert NetRunner.Process.await_exit(p, 50) == {:error, :timeout}
        assert NetRunner.Process.shutdown(p, 60_000, 1_000) == {:ok, 143}
        NetRunner.Process.stop(p)
      end)

      {cassette, _path, _} =
        record("trap 'exit 7' TERM; echo up; while :; do sleep 0.1; done", timeout: 2_000)

      Kit.with_cassettes(cassette, fn ->
        {:ok, p} = NetRunner.Process.start(@missing)
        assert NetRunner.Process.read(p) == {:ok, "up\n"}
        assert NetRunner.Process.shutdown(p, 60_000, 1_000) == {:ok, 7}
        NetRunner.Process.stop(p)
      end)
    end

    test "has names of an environment, and no value" do
      {_, path, _} =
        record("echo $SECRET | wc -c",
          env: [SECRET: "hunter2", PATH: System.get_env("PATH"), GONE: nil],
          cd: "/tmp"
        )

      text = File.read!(path)
      refute text =~ "hunter2"
      assert text =~ ~s(cd "/tmp"\nenv "PATH" "SECRET"\nunset "GONE"\n)
    end

    test "that cannot be made leaves no file" do
      path = tmp_path("x.cassette")
      assert Kit.record(path, [@missing]) == {:error, :enoent}
      assert {:error, {:invalid_cmd, _}} = Kit.record(path, [])

      mark = tmp_path("mark")
      pipeline = NetRunner.pipeline([["touch", mark], ["cat"]])
      assert {:error, {:invalid_cmd, "a pipeline" <> _}} = Kit.record(path, pipeline)
      refute File.exists?(mark)

      assert {:error, {:invalid, :input, _}} = Kit.record(path, ["cat"], input: :pipe)

      assert {:error, {:invalid, :input, _}} =
               Kit.record(path, ["cat"], input: &Enum.into(["x"], &1))

      assert {:error, {:file, _, :enoent}} = Kit.record(path, ["cat"], input: {:file, "/no such"})

      assert_raise ArgumentError, ~r/:keep_stdin/, fn ->
        Kit.record(path, ["true"], keep_stdin: -1)
      end

      # Those of other calls are named as this one's.
      for wrong <- [[stdout: :discard], [pty: true], [nonsense: 1], [gate: self()], [lines: true]] do
        [{name, _}] = wrong
        message = "unknown option #{inspect(name)} for NetRunner.Test.record/3"
        assert_raise ArgumentError, message, fn -> Kit.record(path, ["true"], wrong) end
      end

      assert_raise ArgumentError, fn -> Kit.record(path, ["true"], %{}) end
      refute File.exists?(path)
    end

    test "is of the real command also where that is redirected" do
      Kit.with_cassettes(Kit.fake("echo", stdout: "fake"), fn ->
        assert {:ok, %{stdout: "real\n"}} = Kit.record(tmp_path("x.cassette"), ["echo", "real"])
      end)
    end
  end

  describe "a replay" do
    test "is a process like any other: its stderr, lines, limits and time-outs are those of the call" do
      does = [stdout: "one\ntwo\nthree", stderr: "oops\n", exit: 1]

      Kit.with_cassettes([fake(does), Kit.fake("stays", exit: :stays, stdout: "up")], fn ->
        assert NetRunner.run([@missing], lines: true) == {["one", "two", "three"], 1}
        assert NetRunner.run([@missing], stderr: :capture) == {"one\ntwo\nthree", 1, "oops\n"}
        assert NetRunner.run([@missing], stderr: :merge) == {"one\ntwo\nthreeoops\n", 1}

        assert {:error, {:max_output_exceeded, "one\n"}} =
                 NetRunner.run([@missing], max_output_size: 4)

        assert {:ok, %{cause: :timeout, stdout: "up"}} = NetRunner.exec(["stays"], timeout: 200)

        error = assert_raise NetRunner.ExitError, fn -> NetRunner.run!([@missing, "a b"]) end

        assert Exception.message(error) =~
                 ~r/^no-such-program 'a b' exited with status 1 .*oops$/s

        elements =
          NetRunner.stream!([@missing], stderr: :tagged, exit: :element) |> Enum.to_list()

        assert Enum.sort(elements) == [
                 exit: {:exited, 1},
                 stderr: "oops\n",
                 stdout: "one\ntwo\nthree"
               ]

        file = tmp_path("out")
        assert NetRunner.run([@missing], stdout: {:file, file}) == {"", 1}
        assert File.read!(file) == "one\ntwo\nthree"
      end)
    end

    test "has the command's name among the processes of the system" do
      Kit.with_cassettes(fake(exit: :stays), fn ->
        {:ok, p} = NetRunner.Process.start(@missing, ["a"])
        {:ok, os_pid} = NetRunner.Process.os_pid(p)
        # The kernel has closed what says that execve worked before it sets that up.
        eventually("it has its name", fn -> File.read!("/proc/#{os_pid}/cmdline") != "" end)
        assert [@missing | _] = "/proc/#{os_pid}/cmdline" |> File.read!() |> String.split(<<0>>)
        assert [%{cmd: [@missing, "a"]}] = Enum.filter(NetRunner.list(), &(&1.pid == p))
        NetRunner.Process.stop(p)
      end)
    end

    test "by a Process answers as somebody types" do
      steps = [
        stdout: "name? ",
        stdin: "Ada\n",
        stdout: "age? ",
        stdin: "36\n",
        stderr: "saved\n"
      ]

      Kit.with_cassettes(fake(steps: steps), fn ->
        {:ok, p} = NetRunner.Process.start(@missing, [], stderr: :pipe)
        assert NetRunner.Process.await_output(p, "name? ") == {:ok, {"", "name? "}}
        :ok = NetRunner.Process.write(p, "Ada\n")
        assert NetRunner.Process.await_output(p, "age? ") == {:ok, {"", "age? "}}
        :ok = NetRunner.Process.write(p, "36\n")
        assert NetRunner.Process.read_stderr(p) == {:ok, "saved\n"}
        assert NetRunner.Process.await_exit(p) == {:ok, 0}
        NetRunner.Process.stop(p)
      end)
    end

    on_backends "may stand in every place of a pipeline, beside real commands" do
      Kit.with_cassettes(
        [
          Kit.fake("source", stdout: :binary.copy("b\na\n", 100_000)),
          Kit.fake(["filter", "-x"], stdin: :read, stdout: "c\n"),
          Kit.fake("fails", stdin: :read, exit: 4, stderr: "broken\n")
        ],
        [otherwise: ["sort", "head"]],
        fn ->
          opts = [backend: backend]
          run = fn stages -> NetRunner.run(NetRunner.pipeline(stages), opts) end
          assert run.([["source"], ["sort"], ["head", "-n1"]]) == {"a\n", 0}
          assert run.([["source"], ["filter", "-x"]]) == {"c\n", 0}

          assert run.([["source"], fn enum -> Stream.take(enum, 1) end, ["filter", "-x"]]) ==
                   {"c\n", 0}

          copy = tmp_path("copy")
          assert run.([["source"], {:tee, copy}, ["filter", "-x"]]) == {"c\n", 0}
          assert File.stat!(copy).size == 400_000

          {:ok, result} =
            NetRunner.exec(NetRunner.pipeline([["source"], ["fails"], ["sort"]]), opts)

          assert {result.cmd, result.exit, result.stderr} == {["fails"], {:exited, 4}, "broken\n"}
          assert ["a"] |> NetRunner.through(["filter", "-x"], opts) |> Enum.to_list() == ["c\n"]
          assert {:ok, stream} = NetRunner.stream(["filter", "-x"], opts)
          assert Enum.to_list(stream) == ["c\n"]
        end
      )
    end

    test "may be a daemon, its lines and its readiness included" do
      me = self()
      does = [steps: [stdout: "starting\n", wait: 20, stdout: "listening\n"], exit: :stays]

      Kit.with_cassettes(fake(does), fn ->
        spec =
          {NetRunner.Daemon,
           cmd: [@missing], on_output: &send(me, {:line, &1}), ready: {:output, "listening"}}

        daemon = start_supervised!(spec)
        assert_receive {:line, "starting"}, 5_000
        assert_receive {:line, "listening"}, 5_000
        assert NetRunner.Daemon.alive?(daemon)
        assert :ok = stop_supervised({NetRunner.Daemon, [@missing]})
      end)
    end

    test "serves NetRunner.Compat without the program, whose command is the one that was written" do
      alias NetRunner.Compat
      me = self()
      # Installed, too: it is not the path where it was found.
      for name <- [@missing, "ls"],
          pattern <- [name, [name, "-x"], ~r/^#{name} -x$/, &match?([^name, "-x"], &1)],
          {says, run} <- [
            {{"faked", 3}, fn -> Compat.System.cmd(name, ["-x"]) end},
            {{"faked", 3}, fn -> Compat.MuonTrap.cmd(name, ["-x"]) end},
            {["faked", {:exit, {:status, 3}}],
             fn -> Enum.to_list(Compat.Exile.stream([name, "-x"])) end},
            {{:ok, 3},
             fn ->
               {:ok, p} = Compat.Exile.Process.start_link([name, "-x"])
               {:ok, "faked"} = Compat.Exile.Process.read(p)
               Compat.Exile.Process.await_exit(p)
             end},
            {:ended,
             fn ->
               opts = [
                 logger_fun: &send(me, {:line, &1}),
                 exit_status_to_reason: fn 3 -> :normal end
               ]

               {:ok, daemon} = Compat.MuonTrap.Daemon.start_link(name, ["-x"], opts)
               monitor = Process.monitor(daemon)
               assert_receive {:line, "faked"}, 5_000
               assert_receive {:DOWN, ^monitor, :process, _pid, _reason}, 5_000
               :ended
             end}
          ] do
        scope = Kit.redirect(Kit.fake(pattern, stdout: "faked", exit: 3))
        assert run.() == says
        assert Kit.calls(scope) == [[name, "-x"]]
        Kit.verify!(scope)
      end

      # What nothing stands in for is an error here, too, and where it may run it is looked for as ever.
      for cmd <- [&Compat.System.cmd/2, &Compat.MuonTrap.cmd/2] do
        scope = Kit.redirect(fake([]))
        error = assert_raise NetRunner.Error, fn -> cmd.("ls", ["-x"]) end
        assert {{:not_recorded, _}, ["ls", "-x"]} = {error.reason, error.cmd}
        assert_raise Kit.Error, ~r/: ls -x$/, fn -> Kit.verify!(scope) end

        Kit.with_cassettes([], [otherwise: :run], fn ->
          assert_raise ErlangError, ~r/:enoent/, fn -> cmd.(@missing, []) end
          assert cmd.("echo", ["hi"]) == {"hi\n", 0}
        end)
      end
    end

    test "needs none of the privileges that the command would" do
      opts = [
        user: "root_is_not_needed",
        nice: -20,
        oom_score_adj: -1000,
        rlimits: [nofile: 0],
        group: "nobodys"
      ]

      Kit.with_cassettes(fake(stdout: "x"), fn ->
        assert NetRunner.run([@missing], opts) == {"x", 0}
        assert {:ok, _stream} = NetRunner.stream([@missing], opts)
        assert NetRunner.run([@missing], cd: "/no such") == {:error, {:cd, :enoent}}
      end)
    end

    test "leaves nothing behind, however it is broken off" do
      back_at_baseline(fn ->
        Kit.with_cassettes([fake(exit: :stays, stdout: :binary.copy("x", 500_000))], fn ->
          assert ["x" <> _] = NetRunner.stream!([@missing]) |> Enum.take(1)
          {:ok, p} = NetRunner.Process.start(@missing)
          NetRunner.Process.stop(p)
        end)
      end)
    end
  end

  describe "a fake" do
    test "is for what its pattern says" do
      for {pattern, yes, no} <- [
            {"git", [["git"], ["git", "log"], ["/usr/bin/git", "x"]], [["gitk"], ["hg", "git"]]},
            {"/usr/bin/git", [["/usr/bin/git"]], [["git"]]},
            {["git"], [["git"]], [["git", "log"]]},
            {["git", "log", :*], [["git", "log"], ["git", "log", "a", "b"]], [["git"]]},
            {["git", :_, ~r/^-\d+$/], [["git", "log", "-12"]],
             [["git", "log"], ["git", "log", "-x"]]},
            {[~r/git$/, :*], [["git"], ["/x/git", "a"]], [["gitk"]]},
            {~r/^git log .*'a b'/, [["git", "log", "a b"]], [["git", "log", "a"]]},
            {fn [_exe | args] -> length(args) == 2 end, [["x", "1", "2"]], [["x", "1"]]}
          ] do
        Kit.with_cassettes(Kit.fake(pattern, stdout: "fake"), [otherwise: :run], fn ->
          for cmd <- yes, do: assert({cmd, NetRunner.run(cmd)} == {cmd, {"fake", 0}})
          for cmd <- no, do: refute(match?({"fake", _}, NetRunner.run(cmd)))
        end)
      end
    end

    test "ends and waits as it is told" do
      for {exit, status} <- [
            {0, 0},
            {255, 255},
            {{:exited, 3}, 3},
            {{:signaled, :sigkill}, 137},
            {{:signaled, 15}, 143}
          ] do
        Kit.with_cassettes(fake(exit: exit), fn ->
          assert NetRunner.run([@missing]) == {"", status}
        end)
      end

      began = System.monotonic_time(:millisecond)

      Kit.with_cassettes(fake(delay: 200, stdout: "x"), fn ->
        assert NetRunner.run([@missing]) == {"x", 0}
      end)

      assert System.monotonic_time(:millisecond) - began >= 200
    end

    test "may be a function of the command, and may write as much as arguments carry" do
      does = fn [_exe | args] -> [stdout: args, exit: length(args)] end

      Kit.with_cassettes(Kit.fake(@missing, does), fn ->
        assert NetRunner.run([@missing, "a", "b"]) == {"ab", 2}
      end)

      large = :binary.copy("0123456789\n", 70_000)

      Kit.with_cassettes(fake(stdout: large), fn ->
        assert NetRunner.run([@missing]) == {large, 0}
      end)

      scope = Kit.redirect(fake(stdout: large <> large))
      assert {:error, {:not_recorded, why}} = NetRunner.run([@missing])
      assert why =~ "too long"
      assert_raise Kit.Error, fn -> Kit.verify!(scope) end
    end

    test "whose function fails is an error of the call, also within a pipeline, and of the test" do
      scope =
        Kit.redirect([Kit.fake("raises", fn _cmd -> raise "no idea" end), fake(exit: :stays)])

      assert {:error, {:not_recorded, why}} = NetRunner.run(["raises"])
      assert why =~ "no idea"

      back_at_baseline(fn ->
        assert {:error, {:not_recorded, _}} =
                 NetRunner.run(NetRunner.pipeline([[@missing], ["raises"]]))
      end)

      assert_raise Kit.Error, fn -> Kit.verify!(scope) end

      scope = Kit.redirect(Kit.fake(fn _cmd -> raise "who knows" end, []))
      assert {:error, {:not_recorded, why}} = NetRunner.run(["x"])
      assert why =~ "who knows"
      assert_raise Kit.Error, fn -> Kit.verify!(scope) end
    end

    test "that cannot be raises" do
      for pattern <- [nil, "", [], [1], ["git", :*, "x"], :git, fn -> true end, ["git" | "x"]],
          do: assert_raise(ArgumentError, fn -> Kit.fake(pattern, []) end)

      for does <- [
            [exit: 256],
            [exit: nil],
            [stdout: 1],
            [steps: [:x]],
            [steps: [], stdout: "x"],
            [times: 0],
            [nonsense: 1],
            :x
          ],
          do: assert_raise(ArgumentError, fn -> fake(does) end)
    end
  end

  describe "what is redirected" do
    test "is given out in its order, as often as it may be" do
      numbered = for n <- 1..3, do: fake(stdout: to_string(n), times: 1)

      Kit.with_cassettes(numbered ++ [fake(stdout: "rest")], fn ->
        said = for _ <- 1..5, do: elem(NetRunner.run([@missing]), 0)
        assert said == ["1", "2", "3", "rest", "rest"]
      end)
    end

    test "is given out once to each of many that ask at once" do
      numbered = for n <- 1..50, do: fake(stdout: to_string(n), times: 1)

      Kit.with_cassettes(numbered, [unused: :raise], fn ->
        said =
          1..50
          |> Task.async_stream(fn _n -> NetRunner.run([@missing]) end,
            max_concurrency: 25,
            timeout: 60_000
          )
          |> Enum.map(fn {:ok, {n, 0}} -> String.to_integer(n) end)

        assert Enum.sort(said) == Enum.to_list(1..50)
      end)
    end

    test "may be a folder, a map, a keyword list, and all of them mixed", %{dir: dir} do
      folder = Path.join(dir, "cassettes")

      for n <- [2, 1, 3],
          do: {:ok, _} = Kit.record("#{folder}/#{n}.cassette", ["echo", "same"], env: [N: "#{n}"])

      File.write!(
        "#{folder}/1.cassette",
        String.replace(File.read!("#{folder}/1.cassette"), ~S("same\n"), ~S("first\n"))
      )

      Kit.with_cassettes(folder, fn ->
        assert NetRunner.run(["echo", "same"]) == {"first\n", 0}
        assert NetRunner.run(["echo", "same"]) == {"same\n", 0}
      end)

      Kit.with_cassettes(%{"nope" => folder, no: fake(stdout: "x")}, fn ->
        assert NetRunner.run(["nope", "same"]) == {"first\n", 0}
        assert NetRunner.run(["no", "matter"]) == {"x", 0}
      end)

      Kit.with_cassettes([fake(stdout: "x"), [folder], Path.join(folder, "3.cassette")], fn ->
        assert for(_ <- 1..4, do: NetRunner.run(["echo", "same"]) |> elem(0)) == [
                 "first\n",
                 "same\n",
                 "same\n",
                 "same\n"
               ]
      end)
    end

    test "by a map is for that name, whatever else its pattern wants" do
      Kit.with_cassettes(
        [git: Kit.fake(~r/log/, stdout: "x"), ls: [Kit.fake([:_, "-l"], stdout: "y")]],
        fn ->
          assert NetRunner.run(["git", "log"]) == {"x", 0}
          assert NetRunner.run(["/bin/ls", "-l"]) == {"y", 0}
        end
      )
    end

    test "that is no cassette is told of with file and line", %{dir: dir} do
      path = Path.join(dir, "x.cassette")

      for {text, line} <- [
            {"", 1},
            {"<html>\n", 1},
            {~s(net_runner cassette 1\ncommand "x"\nat 0 stdout\n), 4}
          ] do
        File.write!(path, text)

        for what <- [path, dir, [path], %{"git" => path}] do
          error = assert_raise Kit.Error, fn -> Kit.redirect(what) end
          assert error.message =~ "#{path}:#{line}: no cassette: "
        end
      end

      File.rm!(path)
      assert_raise Kit.Error, ~r/no such file/, fn -> Kit.cassette(path) end
      assert_raise Kit.Error, ~r/there is no \*.cassette/, fn -> Kit.redirect(dir) end
      assert_raise ArgumentError, fn -> Kit.redirect(1) end
      assert_raise ArgumentError, ~r/:nonsense/, fn -> Kit.redirect([], nonsense: 1) end
    end
  end

  describe "a command that nothing matches" do
    test "is an error that names it and all there is, and is never run", %{dir: dir} do
      mark = Path.join(dir, "mark")
      path = tmp_path("true.cassette")
      {:ok, _} = Kit.record(path, ["true"])

      scope =
        Kit.redirect([
          Kit.cassette(path),
          Kit.fake(["git", "log", :*], []),
          Kit.fake(~r/x$/, times: 2)
        ])

      assert NetRunner.run(["true"]) == {"", 0}
      assert {:error, {:not_recorded, why}} = NetRunner.run(["touch", mark])

      assert why =~
               ~r/There is: true \(.*true.cassette\), played 1 of 1 times; a fake of git log ...; a fake of ~r\/x\$\/, played 0 of 2 times$/

      cmd = ["touch", mark]
      assert {:error, {:not_recorded, _}} = NetRunner.exec(cmd)
      assert {:error, {:not_recorded, _}} = NetRunner.stream(cmd)
      assert {:error, {:not_recorded, _}} = NetRunner.Process.start("touch", [mark])
      assert {:error, {:not_recorded, _}} = NetRunner.run(NetRunner.pipeline([["true"], cmd]))
      assert {:error, {:not_recorded, _}} = NetRunner.Process.start("true")
      error = assert_raise NetRunner.Error, fn -> NetRunner.run!(cmd) end

      assert Exception.message(error) =~
               ~r/^touch .*mark: was not started: NetRunner.Test has nothing for it. There is: /

      Process.flag(:trap_exit, true)
      assert {:error, {:not_recorded, _}} = NetRunner.Daemon.start_link(cmd: cmd)
      refute File.exists?(mark)
      error = assert_raise Kit.Error, fn -> Kit.verify!(scope) end
      assert error.message =~ "called, and nothing stood in for it: touch "
    end

    test "raises in the end, even where the error was taken for another" do
      assert_raise Kit.Error, ~r/nothing stood in for it: git push; git pull$/, fn ->
        Kit.with_cassettes([], fn ->
          for what <- ["push", "pull"], do: assert({:error, _} = NetRunner.run(["git", what]))
        end)
      end

      assert NetRunner.run(["echo", "real"]) == {"real\n", 0}
    end

    test "says in the end why what matched it could not stand in for it, where that was why" do
      whole = NetRunner.pipeline([["echo"], ["a", "b"]])

      for {double, why} <- [
            {Kit.fake("a", fn _cmd -> raise "my bug" end),
             "a fake of a ...: its function failed: my bug"},
            {Kit.fake("a", fn _cmd -> :x end),
             "its function failed: options must be a keyword list"},
            {Kit.fake(&raise(inspect(&1))), ~S(its match failed: ["a", "b"])},
            {Kit.fake("a", stdout: String.duplicate("x", 1_500_000)), "it is too long: a fake's"}
          ] do
        scope = Kit.redirect([Kit.fake("echo"), double])
        assert {:error, {:not_recorded, _}} = NetRunner.run(["a", "b"])
        error = assert_raise Kit.Error, fn -> Kit.verify!(scope) end
        assert error.message =~ "called, and what was to stand in for it could not: a b ("
        assert error.message =~ why
        refute error.message =~ "nothing stood in"

        assert_raise Kit.Error, ~r/#{Regex.escape(why)}/, fn ->
          Kit.with_cassettes([Kit.fake(["echo"]), double], fn -> NetRunner.run(whole) end)
        end
      end
    end

    test "may run itself, if it is told so" do
      Kit.with_cassettes(fake([]), [otherwise: :run], fn ->
        assert {"x\n", 0} = NetRunner.run(["echo", "x"])
      end)

      assert_raise Kit.Error, fn ->
        Kit.with_cassettes([], [otherwise: ["echo"]], fn ->
          assert {"x\n", 0} = NetRunner.run(["/bin/echo", "x"])
          assert {:error, {:not_recorded, _}} = NetRunner.run(["true"])
        end)
      end
    end

    test "what was raised in the function is raised, and what it was redirected by is over" do
      assert_raise RuntimeError, "mine", fn ->
        Kit.with_cassettes(Kit.fake("echo", []), fn ->
          {:error, _} = NetRunner.run(["x"])
          raise "mine"
        end)
      end

      assert NetRunner.run(["echo", "real"]) == {"real\n", 0}
    end

    test "one that was to be played and was not is told of if that is asked for" do
      assert_raise Kit.Error,
                   ~r/not played as often as it was to be: a fake of a ..., played 1 of 2 times$/,
                   fn ->
                     Kit.with_cassettes(
                       [Kit.fake("a", times: 2), Kit.fake("b", [])],
                       [unused: :raise],
                       fn ->
                         NetRunner.run(["a"])
                       end
                     )
                   end
    end
  end

  describe "who is redirected" do
    test "tests that run at the same time see their own cassettes only" do
      path = fn n ->
        path = tmp_path("#{n}.cassette")
        {:ok, _} = Kit.record(path, ["sh", "-c", "echo $N"], env: [N: to_string(n)])
        path
      end

      tests =
        for n <- 1..2, path = path.(n) do
          me = self()

          spawn_monitor(fn ->
            Kit.with_cassettes(path, [times: :any], fn ->
              # Both are redirected now.
              send(me, {:ready, n})
              receive do: (:go -> :ok)
              for _ <- 1..20, do: assert(NetRunner.run(["sh", "-c", "echo $N"]) == {"#{n}\n", 0})
              said = Task.await(Task.async(fn -> NetRunner.run(["sh", "-c", "echo $N"]) end))
              assert said == {"#{n}\n", 0}
            end)
          end)
        end

      for n <- 1..2, do: assert_receive({:ready, ^n}, 30_000)
      assert NetRunner.run(["sh", "-c", "echo $N"]) == {"\n", 0}
      for {pid, _monitor} <- tests, do: send(pid, :go)

      for {pid, monitor} <- tests,
          do: assert_receive({:DOWN, ^monitor, :process, ^pid, :normal}, 30_000)
    end

    test "tasks, servers and supervised daemons of the test are, and a plain process is not" do
      Kit.with_cassettes(Kit.fake("echo", stdout: "fake"), [otherwise: ["cat"]], fn ->
        cmd = ["echo", "real"]
        run = fn -> NetRunner.run(cmd) end
        input = fn sink -> Enum.into([elem(run.(), 0)], sink) end
        assert NetRunner.run(["cat"], input: input) == {"fake", 0}
        assert Task.await(Task.async(run)) == {"fake", 0}
        assert Task.await(Task.async(fn -> Task.await(Task.async(run)) end)) == {"fake", 0}
        assert [{:ok, {"fake", 0}}] = Task.async_stream([1], fn _ -> run.() end) |> Enum.to_list()

        agent = start_supervised!({Agent, fn -> :ok end})
        assert Agent.get(agent, fn :ok -> run.() end) == {"fake", 0}

        me = self()

        daemon =
          {NetRunner.Daemon, cmd: cmd, on_output: &send(me, {:line, &1}), restart: :temporary}

        start_supervised!(daemon)
        assert_receive {:line, "fake"}, 5_000

        spawn(fn -> send(me, {:spawned, run.()}) end)
        assert_receive {:spawned, {"real\n", 0}}, 5_000
      end)
    end

    test "may be any process, by allow/2, until it ends" do
      me = self()

      server =
        spawn_link(fn ->
          Enum.each(Stream.cycle([1]), fn _ ->
            receive do: (:run -> send(me, NetRunner.run(["echo", "real"])))
          end)
        end)

      Process.register(server, :a_server_of_the_application)

      Kit.with_cassettes(Kit.fake("echo", stdout: "fake"), fn ->
        send(server, :run)
        assert_receive {"real\n", 0}, 5_000
        Kit.allow(:a_server_of_the_application)
        send(server, :run)
        assert_receive {"fake", 0}, 5_000
      end)

      send(server, :run)
      assert_receive {"real\n", 0}, 5_000
      assert_raise Kit.Error, ~r/has redirected nothing/, fn -> Kit.allow(server) end

      assert_raise Kit.Error, ~r/no process has the name/, fn ->
        Kit.allow(:nobody_has_this_name)
      end
    end

    test "is everybody, if it is global, but whoever has something of his own" do
      me = self()
      tell = fn -> send(me, NetRunner.run(["echo", "real"])) end

      Kit.with_cassettes(Kit.fake("echo", stdout: "global"), [global: true], fn ->
        spawn(tell)
        assert_receive {"global", 0}, 5_000
        Kit.with_cassettes(Kit.fake("echo", stdout: "mine"), tell)
        assert_receive {"mine", 0}
      end)

      spawn(tell)
      assert_receive {"real\n", 0}, 5_000

      {pid, monitor} = spawn_monitor(fn -> Kit.redirect(Kit.fake("echo", []), global: true) end)
      assert_receive {:DOWN, ^monitor, :process, ^pid, :normal}, 5_000

      eventually("the global one ended with its owner", fn ->
        NetRunner.run(["echo", "x"]) == {"x\n", 0}
      end)
    end

    test "what was redirected last is looked at first, and the rest behind it" do
      Kit.with_cassettes([Kit.fake("a", stdout: "outer"), Kit.fake("b", stdout: "outer")], fn ->
        Kit.with_cassettes(Kit.fake("a", stdout: "inner"), fn ->
          assert {NetRunner.run(["a"]), NetRunner.run(["b"])} == {{"inner", 0}, {"outer", 0}}
        end)

        assert NetRunner.run(["a"]) == {"outer", 0}
      end)
    end

    test "others are refused, if that was asked for" do
      :ok = Kit.start(others: :refuse)
      assert {:error, {:not_recorded, why}} = NetRunner.run(["echo", "x"])
      assert why =~ "others: :refuse"
      assert {:error, {:not_recorded, _}} = NetRunner.stream(["echo", "x"])

      Kit.with_cassettes([], [otherwise: :run], fn ->
        assert NetRunner.run(["echo", "x"]) == {"x\n", 0}
      end)

      :ok = Kit.start()
      assert NetRunner.run(["echo", "x"]) == {"x\n", 0}
    end
  end

  describe "off" do
    test "nothing is looked up, and nothing can be redirected" do
      :ok = Kit.stop()
      assert :persistent_term.get(Replay, nil) == nil
      options = %{any: 1}
      assert Replay.program(["x"], options) == {:ok, ["x"], options}
      assert Replay.peek(["x"], options) == {:ok, ["x"], options}
      assert NetRunner.run(["echo", "x"]) == {"x\n", 0}

      for call <- [
            fn -> Kit.redirect([]) end,
            fn -> Kit.with_cassettes([], fn -> :never end) end,
            fn -> Kit.allow(self()) end
          ],
          do: assert_raise(Kit.Error, ~r/call NetRunner.Test.start\(\) first/, call)

      :ok = Kit.stop()
      :ok = Kit.start()
      :ok = Kit.start()
      Kit.with_cassettes(fake([]), fn -> assert NetRunner.run([@missing]) == {"", 0} end)
    end

    test "is not what it is when its server was killed: then nothing runs by accident" do
      server = Process.whereis(Replay.Server)
      monitor = Process.monitor(server)
      Process.exit(server, :kill)
      assert_receive {:DOWN, ^monitor, :process, ^server, :killed}, 5_000
      assert {:error, {:not_recorded, why}} = NetRunner.run(["echo", "x"])
      assert why =~ "has ended"
      :ok = Kit.start()
      assert NetRunner.run(["echo", "x"]) == {"x\n", 0}
    end
  end

  describe "use NetRunner.Test" do
    test "is a setup that redirects and a look back when the test is over" do
      assert OfSomebody.setup_of_it() == :ok
      assert NetRunner.run(["a"]) == {"x", 0}
      assert NetRunner.run(["echo", "x"]) == {"x\n", 0}
      # In a process of its own, as ExUnit does.
      assert Task.await(Task.async(Process.get(:on_exit))) == :ok

      OfSomebody.setup_of_it()
      assert {:error, {:not_recorded, _}} = NetRunner.run(["b"])
      assert_raise Kit.Error, ~r/nothing stood in for it: b$/, Process.get(:on_exit)
    end
  end

  test "what a process called that has ended since can still be verified, as by on_exit" do
    scope =
      Task.await(
        Task.async(fn ->
          scope = Kit.redirect(fake([]))
          {:error, {:not_recorded, _}} = NetRunner.run(["x"])
          scope
        end)
      )

    assert Kit.calls(scope) == [["x"]]
    assert_raise Kit.Error, ~r/nothing stood in for it: x$/, fn -> Kit.verify!(scope) end
    assert Kit.verify!(scope) == :ok
  end

  test "scopes that are over leave nothing in the table, those of processes that ended included" do
    table = :persistent_term.get(Replay)
    before = :ets.info(table, :size)

    for _ <- 1..3 do
      Task.await(
        Task.async(fn ->
          scope = Kit.redirect([fake(times: 2), fake([])])
          NetRunner.run([@missing])
          assert [[@missing]] = Kit.calls(scope)
          Kit.verify!(scope)
        end)
      )
    end

    eventually("they are gone", fn -> :ets.info(table, :size) == before end)
  end

  test "a scope that nobody verified ends with its process, and is forgotten when whoever started that has ended, too" do
    table = :persistent_term.get(Replay)
    before = :ets.info(table, :size)
    me = self()
    run = fn -> NetRunner.run(["echo", "real"]) end

    {server, of_server} =
      spawn_monitor(fn -> for _ <- 1..2, do: receive(do: (:run -> send(me, run.()))) end)

    # As ExUnit's runner and a test.
    {runner, of_runner} =
      spawn_monitor(fn ->
        {_test, monitor} =
          spawn_monitor(fn ->
            scope = Kit.redirect([Kit.fake("echo", stdout: "fake", times: 2), fake([])])
            Kit.redirect([], global: true)
            Kit.allow(server)
            assert {:error, {:not_recorded, _}} = NetRunner.run(["x"])
            send(server, :run)
            send(me, {:scope, scope, self()})
            receive do: (:end -> :ok)
          end)

        assert_receive {:DOWN, ^monitor, :process, _test, :normal}, 30_000
        send(me, :over)
        receive do: (:go -> :ok)
      end)

    assert_receive {:scope, scope, test}, 30_000
    assert_receive {"fake", 0}, 5_000
    send(test, :end)
    assert_receive :over, 5_000
    eventually("it covers nobody", fn -> :ets.lookup(table, {:covered, test}) == [] end)

    _ = :sys.get_state(Replay.Server)

    # The server is there, and redirected no more.
    send(server, :run)
    assert_receive {"real\n", 0}, 5_000
    assert_receive {:DOWN, ^of_server, :process, ^server, :normal}, 5_000

    assert Kit.calls(scope) == [["x"], ["echo", "real"]]
    send(runner, :go)
    assert_receive {:DOWN, ^of_runner, :process, ^runner, :normal}, 5_000
    eventually("it is forgotten", fn -> :ets.info(table, :size) == before end)
    assert %{ending: ending} = :sys.get_state(Replay.Server)
    assert ending == %{}
  end
end
