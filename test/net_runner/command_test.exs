defmodule NetRunner.CommandTest do
  # A command as a value: made, changed, shown, and given to every call that takes a list; and the
  # functions that defcommand makes.
  use NetRunner.Test.Case
  doctest NetRunner.Command

  alias NetRunner.Command
  alias NetRunner.Process, as: P

  defmodule Tools do
    use NetRunner.Command

    @verbose ["-v", "--colour=never"]

    defcommand :gzip, "gzip", args: ["-c", :file]
    defcommand :nothing, "true"
    defcommand :both, "printf", args: ["%s-%s-%s-%s\n", :a, :b, "it's", :a]
    defcommand :from_an_attribute, "x", args: @verbose ++ [:what]

    defcommand :with_options, "sh",
      args: ["-c", :script],
      env: [NR_MOMENT: System.get_env("NR_MOMENT", "none")],
      kill_timeout: 100

    @doc "Mine."
    defcommand :documented, "x"

    @doc false
    defcommand :hidden, "x"

    for n <- [:one, :two] do
      defcommand n, "echo", args: [Atom.to_string(n)]
    end
  end

  defp sh(script, opts \\ []), do: Command.new("sh", ["-c", script], opts)

  describe "new/3" do
    test "keeps what it is given" do
      assert Command.new("ls") == %Command{exe: "ls", args: [], opts: []}

      assert Command.new("/bin/ls", ["-l", <<255>>, ""], cd: "/", cwd: "/tmp") ==
               %Command{exe: "/bin/ls", args: ["-l", <<255>>, ""], opts: [cd: "/", cwd: "/tmp"]}
    end

    test "names what is wrong with executable and arguments" do
      for {exe, args, part} <- [
            {"", [], "the executable's name is empty"},
            {"a" <> <<0>>, [], "NUL in the executable's name"},
            {:ls, [], "expected [executable | arguments] of binaries"},
            {nil, [], "expected [executable | arguments] of binaries"},
            {"ls", "-l", "must be a proper list"},
            {"ls", ["-l" | "x"], "must be a proper list"},
            {"ls", ["-l", :x], "argument 2 is not a binary: :x"},
            {"ls", [~c"-l"], "argument 1 is not a binary: "},
            {"ls", ["a" <> <<0>>], "argument 1 contains a NUL byte"},
            {"ls", [String.duplicate("x", 131_072)], "argument 1 has 131072 bytes"}
          ] do
        error = assert_raise ArgumentError, fn -> Command.new(exe, args) end
        assert error.message =~ part
        assert byte_size(error.message) < 300
      end
    end

    test "names an option that no call has, and wants a keyword list" do
      error = assert_raise ArgumentError, fn -> Command.new("ls", [], timout: 1) end
      assert error.message =~ "unknown option :timout"
      # It belongs to the table, not to a command.
      assert_raise ArgumentError, ~r/:iterations/, fn -> Command.new("ls", [], iterations: 1) end

      for bad <- [nil, %{env: [A: "hunter2"]}, [{:env, [A: "hunter2"]}, 1], [{"env", "hunter2"}]] do
        error = assert_raise ArgumentError, fn -> Command.new("ls", [], bad) end
        assert error.message =~ "keyword list"
        refute error.message =~ "hunter2"
      end
    end

    test "takes options in the place of arguments for what they are, and shows none of them" do
      error = assert_raise ArgumentError, fn -> Command.new("ls", env: [TOKEN: "hunter2"]) end

      assert error.message ==
               "invalid arguments: argument 1 is not a binary but the option :env, and options come last"
    end
  end

  describe "append/2 and put_opts/2" do
    test "change a copy" do
      command = Command.new("ls", ["-l"], cd: "/", kill_timeout: 1)
      assert Command.append(command, ["a", "b"]).args == ["-l", "a", "b"]
      assert Command.append(command, []) == command

      assert Command.put_opts(command, kill_timeout: 2, orphans: :keep).opts == [
               cd: "/",
               kill_timeout: 2,
               orphans: :keep
             ]

      assert Command.put_opts(command, []) == command
      assert command == Command.new("ls", ["-l"], cd: "/", kill_timeout: 1)
    end

    test "name what is wrong" do
      command = Command.new("ls")

      assert_raise ArgumentError, ~r/argument 2 is not/, fn ->
        Command.append(command, ["a", 1])
      end

      assert_raise ArgumentError, ~r/proper list/, fn -> Command.append(command, "a") end
      assert_raise ArgumentError, ~r/:nonsense/, fn -> Command.put_opts(command, nonsense: 1) end
      assert_raise ArgumentError, ~r/keyword/, fn -> Command.put_opts(command, %{}) end
    end
  end

  describe "every call takes one" do
    on_backends "run/2, stream/2, stream!/2 and Process.start/3" do
      back_at_baseline(fn ->
        command = Command.new("printf", ["%s", "a b"], backend: backend)
        assert NetRunner.run(command) == {"a b", 0}
        assert {:ok, stream} = NetRunner.stream(command)
        assert Enum.join(stream) == "a b"
        assert command |> NetRunner.stream!() |> Enum.join() == "a b"
        {:ok, p} = P.start(command)
        assert P.read(p) == {:ok, "a b"}
        assert P.stop(p) == :ok
      end)
    end

    test "with its options, over which the call's win" do
      command = sh("pwd; echo $A$B", cd: "/tmp", env: [A: "a", B: "b"])
      assert NetRunner.run(command) == {"/tmp\nab\n", 0}
      assert NetRunner.run(command, cd: "/") == {"/\nab\n", 0}
      # By whatever name.
      assert NetRunner.run(command, cwd: "/") == {"/\nab\n", 0}
      assert NetRunner.run(sh("pwd", cwd: "/tmp"), cd: "/") == {"/\n", 0}
      # As a whole.
      assert NetRunner.run(command, env: [B: "c"]) == {"/tmp\nc\n", 0}
      assert NetRunner.run(command, stderr: :capture) == {"/tmp\nab\n", 0, ""}
      assert NetRunner.run(sh("echo x >&2", stderr: :capture)) == {"", 0, "x\n"}
      assert NetRunner.run(sh("echo x >&2", stderr: :capture), stderr: :merge) == {"x\n", 0}
      assert command |> NetRunner.stream!(cd: "/") |> Enum.join() == "/\nab\n"
    end

    test "and refuses an option of the command that it does not have, by name" do
      for call <- [&NetRunner.stream/1, &NetRunner.stream!/1, &P.start/1, &P.start_link/1] do
        error = assert_raise ArgumentError, fn -> call.(sh("true", timeout: 1)) end
        assert error.message =~ "unknown option :timeout for NetRunner."
      end

      assert_raise ArgumentError, ~r/:owner for NetRunner.run/, fn ->
        NetRunner.run(sh("true", owner: self()))
      end

      assert {:error, {:invalid, :stderr, _}} = NetRunner.stream(sh("true", stderr: :capture))
    end

    test "but ok: of the command means nothing to those that do not raise; of the call it is an error" do
      command = sh("exit 1", ok: [0, 1])
      assert NetRunner.run(command) == {"", 1}
      assert {:ok, %{exit: {:exited, 1}}} = NetRunner.exec(command)
      assert NetRunner.run!(command) == {"", 1}
      assert %{exit: {:exited, 1}} = NetRunner.exec!(command)
      assert command |> NetRunner.stream!() |> Enum.to_list() == []

      for call <- [&NetRunner.run/2, &NetRunner.exec/2] do
        assert_raise ArgumentError, ~r/:ok for/, fn -> call.(command, ok: [0]) end
        assert_raise ArgumentError, ~r/:ok for/, fn -> call.(["true"], ok: [0]) end
        assert_raise ArgumentError, ~r/:owner/, fn -> call.(sh("true", owner: self()), []) end
        assert_raise ArgumentError, ~r/keyword/, fn -> call.(%Command{exe: "a", opts: 1}, []) end
      end

      for start <- [&P.start/3, &P.start_link/3] do
        {:ok, p} = start.(command, [], [])
        assert P.await_exit(p) == {:ok, 1}
        assert P.stop(p) == :ok
        assert_raise ArgumentError, ~r/:ok for/, fn -> start.(command, [], ok: [0]) end
      end

      assert %{id: {P, "sh"}} = P.child_spec(command)
      Process.flag(:trap_exit, true)
      {:ok, d} = NetRunner.Daemon.start_link(cmd: command)
      assert_receive {:EXIT, ^d, {:exit, {:exited, 1}}}, 5_000
      assert %{restart: :permanent} = NetRunner.Daemon.child_spec(cmd: command)
      start = fn -> NetRunner.Daemon.start_link(cmd: command, ok: [0]) end
      assert_raise ArgumentError, ~r/:ok for/, start
    end

    test "and looks at the values of its options as at its own" do
      assert NetRunner.run(sh("true", cd: "")) |> elem(1) |> elem(1) == :cd

      assert_raise ArgumentError, ~r/:kill_timeout/, fn ->
        NetRunner.run(sh("true", kill_timeout: :x))
      end

      assert_raise ArgumentError, ~r/keyword/, fn -> NetRunner.run(sh("true"), :nonsense) end
      assert NetRunner.run(Command.new("no-such-program")) == {:error, :enoent}

      assert_raise NetRunner.Error, ~r/^no-such-program 'a b': no such file/, fn ->
        Command.new("no-such-program", ["a b"]) |> NetRunner.stream!() |> Enum.to_list()
      end
    end

    test "also one that nobody has checked: the errors are those of a list" do
      assert {:error, {:invalid_cmd, _}} = NetRunner.run(%Command{exe: nil})
      assert {:error, {:invalid_cmd, _}} = NetRunner.run(%Command{exe: "ls", args: :x})
      assert {:error, {:invalid_args, _}} = NetRunner.run(%Command{exe: "ls", args: [:x]})
      assert {:error, {:invalid_cmd, _}} = P.start(%Command{exe: "ls", args: ["a" | "b"]}, ["c"])

      assert_raise ArgumentError, ~r/keyword/, fn ->
        NetRunner.run(%Command{exe: "ls", opts: 1})
      end
    end

    test "resolve/3 gives a list and options, and leaves lists alone" do
      assert Command.resolve(["a", "b"], cd: "/") == {["a", "b"], [cd: "/"]}
      assert Command.resolve(:anything, :at_all) == {:anything, :at_all}
      command = Command.new("a", ["b"], cd: "/", kill_timeout: 1)
      assert Command.resolve(command, cd: "/tmp") == {["a", "b"], [kill_timeout: 1, cd: "/tmp"]}
      assert Command.resolve(command, ["c"], []) == {["a", "b", "c"], [cd: "/", kill_timeout: 1]}
    end
  end

  describe "Process.start/3" do
    test "appends its arguments, and names them by their place in the whole" do
      {:ok, p} = P.start(Command.new("printf", ["%s.%s", "a"]), ["b"])
      assert P.read(p) == {:ok, "a.b"}
      P.stop(p)

      assert {:error, {:invalid_args, "argument 2 " <> _}} =
               P.start(Command.new("ls", ["a"]), [1])

      assert {:error, {:invalid_cmd, _}} = P.start(Command.new("ls", ["a"]), "b")
    end

    test "lets the call's options win" do
      {:ok, p} = P.start(sh("pwd", cd: "/tmp", input: :null), [], cd: "/")
      assert P.read(p) == {:ok, "/\n"}
      assert P.write(p, "x") == {:error, :closed}
      P.stop(p)
    end

    test "takes options after the arguments only, and shows none of them" do
      assert {:error, {:invalid_args, message}} =
               P.start(Command.new("ls"), env: [TOKEN: "hunter2"])

      assert message =~ ":env"
      refute message =~ "hunter2"
    end

    test "under a supervisor: the shutdown allows for the command's own kill_timeout" do
      command = Command.new("sleep", ["60"], kill_timeout: 60_000)
      assert %{id: {P, "sleep"}, shutdown: shutdown} = P.child_spec(command)
      assert shutdown > 60_000
      assert P.child_spec({command, [], [kill_timeout: 10]}).shutdown < 60_000

      back_at_baseline(fn ->
        {:ok, supervisor} = Supervisor.start_link([{P, command}], strategy: :one_for_one)
        assert [{_id, p, :worker, _}] = Supervisor.which_children(supervisor)
        assert P.alive?(p)
        Supervisor.stop(supervisor)
      end)
    end
  end

  describe "shown" do
    test "as text it is the line of a shell" do
      command = Command.new("my tool", ["-x", "it's", "", "$HOME"])
      assert to_string(command) == ~S('my tool' -x 'it'\''s' '' '$HOME')

      words = ["a b", "\n", "é", "*", "~"]
      {output, 0} = System.cmd("sh", ["-c", to_string(Command.new("printf", ["%s\\0" | words]))])
      assert String.split(output, <<0>>) == words ++ [""]
    end

    test "inspected it has its options, but no value of an environment and nothing of its input" do
      for {env, shown} <- [
            {[TOKEN: "hunter2", B: nil], "env: [TOKEN, B]"},
            {[{"my token", "hunter2"}], "env: ['my token']"},
            {%{"TOKEN" => "hunter2"}, "env: [TOKEN]"},
            {{:replace, %{"TOKEN" => "hunter2"}}, "env: {:replace, [TOKEN]}"},
            {[{"TOKEN", "hunter2"} | "hunter2"], "env: ..."},
            {["TOKEN=hunter2"], "env: [...]"},
            {[{"TOKEN=hunter2", "x"}], "env: [TOKEN]"},
            {["TOKEN=hunter2": "x"], "env: [TOKEN]"},
            {"TOKEN=hunter2", "env: ..."}
          ] do
        text = inspect(Command.new("ls", [], env: env, kill_timeout: 1))
        assert text == "#NetRunner.Command<ls, #{shown}, kill_timeout: 1>"
      end

      for input <- [
            "hunter2",
            ["hunter2"],
            Stream.map(["hunter2"], & &1),
            MapSet.new(["hunter2"])
          ],
          do:
            assert(
              inspect(Command.new("ls", [], input: input)) == "#NetRunner.Command<ls, input: ...>"
            )

      assert inspect(Command.new("ls", [], input: :null)) ==
               "#NetRunner.Command<ls, input: :null>"
    end

    test "inspected it is shown whatever it is, and never as the bare struct" do
      for opts <- [[env: [TOKEN: "hunter2"]], [{:env, [TOKEN: "hunter2"]}, 1], %{env: "hunter2"}],
          {exe, args} <- [{"ls", []}, {nil, :x}, {"ls", ["a" | "b"]}, {"ls", [env: "hunter2"]}] do
        text = inspect(%Command{exe: exe, args: args, opts: opts})
        assert text =~ "#NetRunner.Command<"
        refute text =~ "hunter2"
      end
    end

    test "inspected it keeps to the limit" do
      command = Command.new("ls", List.duplicate("x", 100_000))
      assert byte_size(inspect(command)) < 200
      assert inspect(command, limit: 3) == "#NetRunner.Command<ls x x ...>"
      assert byte_size(inspect(command, limit: :infinity)) > 200_000
    end
  end

  describe "defcommand" do
    test "makes a function of its parameters and options" do
      assert Tools.gzip("a b") == Command.new("gzip", ["-c", "a b"])
      assert Tools.gzip("x", cd: "/") == Command.new("gzip", ["-c", "x"], cd: "/")
      assert Tools.nothing() == Command.new("true")
      assert Tools.nothing(cd: "/").opts == [cd: "/"]
      assert Tools.from_an_attribute("x").args == ["-v", "--colour=never", "x"]
      assert NetRunner.run(Tools.one()) == {"one\n", 0}
      assert NetRunner.run(Tools.two()) == {"two\n", 0}
    end

    on_backends "what it makes can be run" do
      path = tmp_path("a file")
      File.write!(path, "some text")
      zipped = path |> Tools.gzip(backend: backend) |> NetRunner.stream!() |> Enum.join()
      assert NetRunner.run(["gzip", "-dc"], input: zipped, backend: backend) == {"some text", 0}
    end

    test "takes parameters in the order of their first appearance, the same one once" do
      assert NetRunner.run(Tools.both("1", "2")) == {"1-2-it's-1\n", 0}
      assert function_exported?(Tools, :both, 3)
      refute function_exported?(Tools, :both, 4)
    end

    test "splices a list, and takes a binary for one argument whatever is in it" do
      assert Tools.gzip(["a", "b c"]).args == ["-c", "a", "b c"]
      assert Tools.gzip([]).args == ["-c"]
      assert Tools.gzip("").args == ["-c", ""]
      assert Tools.gzip("$(reboot); -rf").args == ["-c", "$(reboot); -rf"]
      assert Tools.gzip(<<255>>).args == ["-c", <<255>>]
    end

    test "names the parameter that is given something else" do
      for {value, what} <- [
            {nil, "must be a binary or a list of binaries, got: nil"},
            {:x, "must be a binary or a list of binaries, got: :x"},
            {1, "must be a binary or a list of binaries, got: 1"},
            {%{}, "must be a binary or a list of binaries, got: %{}"},
            {["a" | "b"], "must be a binary or a list of binaries, got: "},
            {~c"abc", "is not a binary: 97"},
            {["a", nil], "is not a binary: nil"},
            {"a" <> <<0>>, "contains a NUL byte"},
            {["a", <<0>>], "contains a NUL byte"},
            {[file: "x"], "is not a binary but the option :file"}
          ] do
        error = assert_raise ArgumentError, fn -> Tools.gzip(value) end
        assert error.message =~ "file of gzip/2 #{what}"
      end

      error = assert_raise ArgumentError, fn -> Tools.both("a", 2) end
      assert error.message =~ "b of both/3 "
      assert_raise ArgumentError, ~r/:nonsense/, fn -> Tools.gzip("a", nonsense: 1) end
      assert_raise ArgumentError, ~r/keyword/, fn -> Tools.gzip("a", "b") end
    end

    test "evaluates its options at each call; those of the call win" do
      on_exit(fn -> System.delete_env("NR_MOMENT") end)
      System.put_env("NR_MOMENT", "now")
      assert NetRunner.run(Tools.with_options("echo $NR_MOMENT")) == {"now\n", 0}
      System.put_env("NR_MOMENT", "later")
      assert NetRunner.run(Tools.with_options("echo $NR_MOMENT")) == {"later\n", 0}
      assert Tools.with_options("x").opts == [env: [NR_MOMENT: "later"], kill_timeout: 100]

      assert Tools.with_options("x", env: [], cd: "/").opts == [
               kill_timeout: 100,
               env: [],
               cd: "/"
             ]
    end

    test "documents and specifies what it makes, unless you do" do
      # `mix test` of a newer Elixir keeps neither of what tests compile.
      for option <- [:docs, :debug_info] do
        before = Code.get_compiler_option(option)
        on_exit(fn -> Code.put_compiler_option(option, before) end)
        Code.put_compiler_option(option, true)
      end

      {{:module, module, beam, _}, _} =
        Code.eval_string("""
        defmodule NetRunner.CommandTest.Documented do
          use NetRunner.Command
          defcommand :convert, "my tool", args: ["-i", :from, "it's", :to], cd: "/", env: [A: "hunter2"]
          @doc "Mine."
          defcommand :mine, "x"
          @doc false
          defcommand :hidden, "x"
          defcommand :bare, "x"
        end
        """)

      path = tmp_path("#{module}.beam")
      File.write!(path, beam)
      {:docs_v1, _, _, _, _, _, docs} = Code.fetch_docs(path)

      doc =
        for {{:function, name, arity}, _, _, doc, _} <- docs, into: %{}, do: {{name, arity}, doc}

      assert %{"en" => text} = doc[{:convert, 3}]
      assert text =~ ~S(    'my tool' -i <from> 'it'\''s' <to>)
      assert text =~ "`from`, `to`: a binary, or a list of binaries"
      assert text =~ "`:cd`, `:env`"
      refute text =~ "hunter2"
      assert doc[{:mine, 1}] == %{"en" => "Mine."}
      assert doc[{:hidden, 1}] == :hidden
      assert %{"en" => "Makes the command\n\n    x\n" <> _} = doc[{:bare, 1}]

      {:ok, specs} = Code.Typespec.fetch_specs(beam)

      assert specs |> Enum.map(&elem(&1, 0)) |> Enum.sort() ==
               [bare: 0, bare: 1, convert: 2, convert: 3, hidden: 0, hidden: 1, mine: 0, mine: 1]

      {{:convert, 3}, [spec]} = List.keyfind(specs, {:convert, 3}, 0)

      assert :convert |> Code.Typespec.spec_to_quoted(spec) |> Macro.to_string() ==
               "convert(binary() | [binary()], binary() | [binary()], keyword()) :: NetRunner.Command.t()"
    end

    test "an error of the template is one of the compiler, which names the place and the part" do
      for {code, what} <- [
            {~S|:x, "x", args: ["a", 1]|, "args: element 2 is neither a binary nor an atom: 1"},
            {~S|:x, "x", args: ["a", ["b"]]|, "args: element 2 is neither a binary nor an atom"},
            {~S|:x, "x", args: ["a" <> <<0>>]|, "args: element 1 contains a NUL byte"},
            {~S|:x, "x", args: [:File]|, "args: element 1 cannot be a parameter: :File"},
            {~S|:x, "x", args: [:_file]|, "args: element 1 cannot be a parameter: :_file"},
            {~S|:x, "x", args: [nil]|, "args: element 1 cannot be a parameter: nil"},
            {~S|:x, "x", args: [:end]|, "args: element 1 cannot be a parameter: :end"},
            {~S|:x, "x", args: [:"a b"]|, "args: element 1 cannot be a parameter: :\"a b\""},
            {~S|:x, "x", args: [:opts]|, "args: element 1 cannot be :opts"},
            {~S|:x, "x", args: "a"|, "args: must be a list of binaries and atoms"},
            {~S{:x, "x", args: ["a" | "b"]}, "args: must be a list of binaries and atoms"},
            {~S|:x, ""|, "the executable's name is empty"},
            {~S|:x, :x|, "the executable must be a binary, got: :x"},
            {~S|"x", "x"|, "the name must be an atom that can name a function"},
            {~S|:"x y", "x"|, "the name must be an atom that can name a function"},
            {~S|:x, "x", arg: ["a"]|, "unknown option :arg"},
            {~S|:x, "x", ["a"]|, "args: and options must be written out as a keyword list"}
          ] do
        module = "NetRunner.CommandTest.Bad#{System.unique_integer([:positive])}"
        source = "defmodule #{module} do\n  use NetRunner.Command\n  defcommand #{code}\nend"

        error =
          assert_raise CompileError, fn -> Code.eval_string(source, [], file: "tools.ex") end

        assert Exception.message(error) =~ ~r/^tools.ex:3: defcommand .*: #{Regex.escape(what)}/
      end
    end
  end
end
