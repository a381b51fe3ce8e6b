defmodule NetRunner.Compat.SystemTest.Both do
  # `both "a sentence" do ... end` makes a test for each, in which `cmd` is one of the two.
  defmacro both(sentence, do: block) do
    for module <- [System, NetRunner.Compat.System] do
      quote do
        test unquote("#{sentence} [#{inspect(module)}]") do
          var!(cmd) = &unquote(module).cmd/3
          unquote(block)
        end
      end
    end
  end
end

defmodule NetRunner.Compat.SystemTest do
  # The documentation of System.cmd/3 (Elixir 1.14 to 1.18), sentence by sentence: each test is run with Elixir's own
  # and with ours. What is ours alone stands at the end.
  use NetRunner.Test.Case

  # Thin over what other tests run on every build: twice is enough (the legs one and other).
  @moduletag :slow
  doctest NetRunner.Compat.System

  import NetRunner.Compat.SystemTest.Both

  # Elixir's own knows these options from a version on, ours always.
  defp knows?(option, cmd) do
    since = %{lines: "1.15.0", use_stdio: "1.17.0"}[option]
    cmd == (&NetRunner.Compat.System.cmd/3) or Version.match?(System.version(), ">= #{since}")
  end

  defp executable(mode) do
    path = tmp_path("compat_program")
    File.write!(path, "#!/bin/sh\necho run by \"$0\"\n")
    File.chmod!(path, mode)
    path
  end

  describe "\"Executes the given command with args\"" do
    both "`command` is expected to be an executable available in PATH" do
      assert cmd.("echo", ["hello"], []) == {"hello\n", 0}
    end

    both "unless an absolute path is given" do
      path = executable(0o755)
      assert cmd.(path, [], []) == {"run by #{path}\n", 0}
    end

    both "the PATH is that of the BEAM, not that of :env" do
      path = executable(0o755)
      env = [{"PATH", Path.dirname(path)}]
      assert_raise ErlangError, ~r/:enoent/, fn -> cmd.(Path.basename(path), [], env: env) end
      assert {_version, 0} = cmd.("sh", ["-c", ":"], env: env)
    end

    both "environment variables will not be interpolated" do
      assert cmd.("echo", ["$HOME ${HOME}"], []) == {"$HOME ${HOME}\n", 0}
    end

    both "wildcard expansion will not happen" do
      assert cmd.("echo", ["*", "/*", "~"], []) == {"* /* ~\n", 0}
    end

    both "arguments do not need to be escaped or quoted for shell safety" do
      args = ["a b", "; exit 3", "`id`", "it's", "\"", "\\", "", "\n", "ü"]
      assert cmd.("printf", ["[%s]" | args], []) == {Enum.map_join(args, &"[#{&1}]"), 0}
    end
  end

  describe "\"This function returns a tuple containing the collected result and the command exit status\"" do
    both "whatever that is" do
      for status <- [0, 1, 3, 127, 255],
          do: assert(cmd.("sh", ["-c", "echo x; exit #{status}"], []) == {"x\n", status})
    end

    # Not documented: what there is to be compared with.
    both "which is 128 plus the number of the signal that ended it" do
      for {name, number} <- [KILL: 9, TERM: 15, SEGV: 11, USR1: 10],
          do:
            assert(cmd.("sh", ["-c", "ulimit -c 0; kill -#{name} $$"], []) == {"", 128 + number})
    end

    both "with all of the output, however large" do
      {zeros, 0} = cmd.("head", ["-c", "3000000", "/dev/zero"], [])
      assert zeros == :binary.copy(<<0>>, 3_000_000)
    end

    both "and nothing else: the caller has no message from it" do
      assert cmd.("echo", ["hello"], []) == {"hello\n", 0}
      assert Process.info(self(), :messages) == {:messages, []}
    end
  end

  describe "`:into`" do
    both "injects the result into the given collectable" do
      {pieces, 0} = cmd.("printf", ["a\nb"], into: [])
      assert Enum.join(pieces) == "a\nb"
      assert cmd.("echo", ["hello"], into: "so ") == {"so hello\n", 0}

      {:ok, device} = StringIO.open("")
      assert {%IO.Stream{}, 0} = cmd.("echo", ["hello"], into: IO.stream(device, :line))
      assert StringIO.contents(device) == {"", "hello\n"}
    end

    both "defaults to \"\"" do
      assert cmd.("true", [], []) == {"", 0}
    end

    both "is halted when it raises, and the exception is the caller's" do
      teller = %NetRunner.Test.Teller{to: self()}

      back_at_baseline(fn ->
        assert_raise RuntimeError, "the collectable's own", fn ->
          cmd.("sh", ["-c", "echo a; sleep 0.2; echo raise; exec sleep 0.2"], into: teller)
        end
      end)

      # With what it had by then, or, as Elixir's own does, with what it had at first.
      assert_receive {:halt, _elements}
    end
  end

  describe "`:lines`" do
    both "reads the output by lines instead of in bytes" do
      if knows?(:lines, cmd) do
        assert cmd.("echo", ["hello\nworld"], into: [], lines: 1024) == {["hello", "world"], 0}
        assert cmd.("printf", ["\na\n\nb"], into: [], lines: 1024) == {["", "a", "", "b"], 0}
        assert cmd.("printf", ["a\r\nb\r\n"], into: [], lines: 1024) == {["a", "b"], 0}

        assert cmd.("printf", ["\r\n\ra\rb\r\r\n"], into: [], lines: 1024) ==
                 {["", "\ra\rb\r"], 0}

        assert cmd.("printf", ["a\nb\n"], lines: 1024) == {"ab", 0}
      else
        assert_raise ArgumentError, fn -> cmd.("true", [], lines: 1024) end
      end
    end

    # Elixir's own asks a port for them.
    test "are those of a port, with \"\\r\" wherever it may stand" do
      for bytes <- [
            "a\\r",
            "\\r",
            "a\\r\\r",
            "a\\n\\r",
            "a\\r\\nb\\r",
            "\\r\\r\\n",
            "a\\rb",
            "\\n\\r\\n",
            ""
          ],
          max <- [1, 2, 10] do
        ours = NetRunner.Compat.System.cmd("printf", [bytes], into: [], lines: max)
        assert {bytes, max, ours} == {bytes, max, {lines_of_port("printf", [bytes], max), 0}}
      end
    end

    # It may say last what stands behind the last line, and its exit status before that.
    defp lines_of_port(exe, args, max) do
      exe = {:spawn_executable, System.find_executable(exe)}
      port = Port.open(exe, [:binary, :exit_status, :hide, :eof, line: max, args: args])
      lines_of_port(port, "", [], [])
    end

    defp lines_of_port(_port, "", lines, [_eof, _exit_status]), do: Enum.reverse(lines)

    defp lines_of_port(_port, begun, lines, [_eof, _exit_status]),
      do: Enum.reverse(lines, [begun])

    defp lines_of_port(port, begun, lines, over) do
      receive do
        {^port, {:data, {:noeol, bytes}}} -> lines_of_port(port, begun <> bytes, lines, over)
        {^port, {:data, {:eol, bytes}}} -> lines_of_port(port, "", [begun <> bytes | lines], over)
        {^port, over_or_status} -> lines_of_port(port, begun, lines, [over_or_status | over])
      after
        5_000 -> flunk("the port does not end")
      end
    end

    test "the last of which raises are a collectable that is halted, once" do
      teller = %NetRunner.Test.Teller{to: self()}

      assert_raise RuntimeError, "the collectable's own", fn ->
        NetRunner.Compat.System.cmd("printf", ["a\nraise"], into: teller, lines: 1024)
      end

      assert_receive {:halt, _elements}
      refute_received {:halt, _elements}
    end

    both "the collectable will be called with each finished line (regardless of buffer size)" do
      if knows?(:lines, cmd) do
        line = :binary.copy("x", 10_000)
        assert cmd.("echo", ["#{line}\n#{line}"], into: [], lines: 3) == {[line, line], 0}
      end
    end
  end

  describe "`:cd`" do
    both "the directory to run the command in" do
      assert cmd.("pwd", [], cd: "/") == {"/\n", 0}
      dir = Path.dirname(tmp_path("x"))
      assert cmd.("pwd", [], cd: dir) == {dir <> "\n", 0}
    end
  end

  describe "`:env`" do
    both "an enumerable of tuples containing environment key-value as binary" do
      for env <- [
            [{"NR_A", "1"}, {"NR_B", "ü"}],
            %{"NR_A" => "1", "NR_B" => "ü"},
            Stream.map([{"NR_A", "1"}, {"NR_B", "ü"}], & &1)
          ],
          do: assert(cmd.("sh", ["-c", "echo $NR_A$NR_B"], env: env) == {"1ü\n", 0})
    end

    both "the child process inherits all environment variables from its parent process, except those overwritten or cleared" do
      System.put_env("NR_COMPAT", "from the BEAM")
      on_exit(fn -> System.delete_env("NR_COMPAT") end)
      echo = ["-c", "echo ${NR_COMPAT-unset}"]
      assert cmd.("sh", echo, env: [{"NR_OTHER", "x"}]) == {"from the BEAM\n", 0}
      assert cmd.("sh", echo, env: [{"NR_COMPAT", "mine"}]) == {"mine\n", 0}
      assert cmd.("sh", echo, env: [{"NR_COMPAT", nil}]) == {"unset\n", 0}
    end
  end

  both "`:arg0` sets the command arg0" do
    assert cmd.("sh", ["-c", "echo $0"], arg0: "me") == {"me\n", 0}
    assert cmd.("sh", ["-c", "echo $0"], []) == {System.find_executable("sh") <> "\n", 0}
  end

  describe "`:stderr_to_stdout`" do
    both "redirects stderr to stdout when `true`" do
      script = "echo 1; echo 2 >&2; echo 3; echo 4 >&2"
      assert cmd.("sh", ["-c", script], stderr_to_stdout: true) == {"1\n2\n3\n4\n", 0}
    end

    both "leaves it where the BEAM's goes when it is not" do
      {:ok, here} = File.read_link("/proc/self/fd/2")
      where = ["-c", "readlink /proc/$$/fd/2"]
      assert cmd.("sh", where, []) == {here <> "\n", 0}
      assert cmd.("sh", where, stderr_to_stdout: false) == {here <> "\n", 0}
    end
  end

  both "`:use_stdio` - `true` by default" do
    if knows?(:use_stdio, cmd),
      do: assert(cmd.("echo", ["hello"], use_stdio: true) == {"hello\n", 0}),
      else: assert_raise(ArgumentError, fn -> cmd.("echo", [], use_stdio: true) end)
  end

  both "`:parallelism` - `true` or `false`" do
    for on? <- [true, false],
        do: assert(cmd.("echo", ["hello"], parallelism: on?) == {"hello\n", 0})
  end

  describe "\"Error reasons\"" do
    both "if invalid arguments are given, `ArgumentError` is raised" do
      assert_raise ArgumentError, fn -> cmd.("echo", [:hello], []) end
      assert_raise ArgumentError, fn -> cmd.("echo", [~c"hello"], []) end
      assert_raise ArgumentError, fn -> cmd.("ec\0ho", [], []) end
      assert_raise FunctionClauseError, fn -> cmd.(:echo, [], []) end
      assert_raise FunctionClauseError, fn -> cmd.("echo", "hello", []) end
    end

    both "also expects a strict set of options and will raise if unknown or invalid options are given" do
      for opts <- [
            [foo: 1],
            [cd: :here],
            [arg0: :me],
            [stderr_to_stdout: 1],
            [parallelism: 1],
            [lines: 0],
            [lines: true]
          ],
          do: assert_raise(ArgumentError, fn -> cmd.("true", [], opts) end)
    end

    both "`:eacces` - the command does not point to an executable file" do
      path = executable(0o644)
      error = assert_raise ErlangError, fn -> cmd.(path, [], []) end
      assert error.original == :eacces
    end

    both "`:enoent` - the command does not point to an existing file" do
      for name <- ["no-such-program", "/no/such/program", "./no-such-program"] do
        error = assert_raise ErlangError, fn -> cmd.(name, [], []) end
        assert error.original == :enoent
      end
    end
  end

  both "stdin is a pipe that nobody writes, and that stays open" do
    assert {"pipe:" <> _, 0} = cmd.("sh", ["-c", "readlink /proc/$$/fd/0"], [])
    assert cmd.("timeout", ["0.3", "cat"], []) == {"", 124}
  end

  describe "ours alone" do
    test "an unknown option is named, and what is in an environment is not shown" do
      error =
        assert_raise ArgumentError, fn -> NetRunner.Compat.System.cmd("true", [], timeout: 1) end

      assert error.message =~ ":timeout"

      for opts <- [[:stderr_to_stdout], :none, [use_stdio: 1]],
          do: assert_raise(ArgumentError, fn -> NetRunner.Compat.System.cmd("true", [], opts) end)

      # Elixir's own hands the part before it over.
      assert_raise ArgumentError, fn -> NetRunner.Compat.System.cmd("echo", ["a\0b"]) end

      for name <- [:cd, :arg0] do
        assert_raise ArgumentError, fn ->
          NetRunner.Compat.System.cmd("echo", ["a"], [{name, "/\0b"}])
        end
      end

      for env <- [
            "TOKEN=secret",
            [{"TO=KEN", "secret"}],
            [{"TOKEN", :secret}],
            [{"A", "secret\0"}]
          ] do
        error =
          assert_raise ArgumentError, fn -> NetRunner.Compat.System.cmd("true", [], env: env) end

        assert error.message =~ ":env"
        refute error.message =~ "secret"
      end
    end

    test "use_stdio: false is refused, with what there is instead" do
      error =
        assert_raise ArgumentError, fn ->
          NetRunner.Compat.System.cmd("true", [], use_stdio: false)
        end

      assert error.message =~ ":use_stdio"
      assert error.message =~ "pty:"
    end

    test "a command ends with the process that runs it, and so does what it has started" do
      {tag, env} = tag()

      back_at_baseline(fn ->
        caller =
          spawn(fn -> NetRunner.Compat.System.cmd("sh", ["-c", "sleep 60 & wait"], env: env) end)

        eventually("it runs", fn -> length(tagged(tag)) == 2 end)
        Process.exit(caller, :kill)
        eventually("it is gone", 10_000, fn -> tagged(tag) == [] end)
      end)
    end

    test "background processes are given a second and then ended, and what they say in it is collected" do
      {tag, env} = tag()
      script = "(sleep 0.2; echo late; exec sleep 60) & echo early"

      back_at_baseline(fn ->
        assert NetRunner.Compat.System.cmd("sh", ["-c", script], env: env) == {"early\nlate\n", 0}
        assert tagged(tag) == []
      end)
    end

    test "what System.cmd/3 tells by an exit status only is an error: no program, a directory, no directory" do
      path = tmp_path("script")
      File.write!(path, "echo without a first line\n")
      File.chmod!(path, 0o755)

      for {exe, opts, errno, posix} <- [
            {path, [], 8, :enoexec},
            {Path.dirname(path), [], 13, :eacces},
            {"pwd", [cd: "/no-such-directory"], 2, :enoent}
          ] do
        assert System.cmd(exe, [], [stderr_to_stdout: true] ++ opts) |> elem(1) == errno
        error = assert_raise ErlangError, fn -> NetRunner.Compat.System.cmd(exe, [], opts) end
        assert error.original == posix
      end
    end
  end
end
