defmodule NetRunnerTest do
  # run/2 and everything that it is documented to give. Not async: several tests change the node's
  # directory or compare what the whole node holds.
  use NetRunner.Test.Case
  doctest NetRunner
  alias NetRunner.Test.Teller

  # Far above what is measured, far below the time-outs that would be waited for otherwise.
  @soon 3_000_000

  describe "the status" do
    on_backends "is the exit code" do
      for code <- [0, 1, 2, 126, 127, 128, 255] do
        assert NetRunner.run(["sh", "-c", "exit #{code}"], backend: backend) == {"", code}
      end
    end

    on_backends "is 128 plus the signal's number" do
      for {name, number} <- [TERM: 15, KILL: 9, USR1: 10, PIPE: 13, HUP: 1] do
        assert NetRunner.run(["sh", "-c", "echo x; kill -#{name} $$"], backend: backend) ==
                 {"x\n", 128 + number}
      end
    end

    on_backends "comes with all that was written, also without a newline or as no text" do
      assert NetRunner.run(["printf", "no newline"], backend: backend) == {"no newline", 0}

      assert NetRunner.run(["printf", "\\377\\000\\376"], backend: backend) ==
               {<<255, 0, 254>>, 0}

      assert NetRunner.run(["true"], backend: backend) == {"", 0}
    end
  end

  describe "stderr:" do
    @both "for i in $(seq 100); do echo out$i; echo err$i >&2; done; exit 3"
    @out Enum.map_join(1..100, &"out#{&1}\n")
    @err Enum.map_join(1..100, &"err#{&1}\n")

    on_backends ":capture gives it apart" do
      assert NetRunner.run(["sh", "-c", @both], stderr: :capture, backend: backend) ==
               {@out, 3, @err}
    end

    on_backends ":capture gives three elements also when there is none" do
      assert NetRunner.run(["echo", "x"], stderr: :capture, backend: backend) == {"x\n", 0, ""}
    end

    on_backends ":capture of two floods at once blocks neither" do
      script = "head -c 3000000 /dev/zero >&2 & head -c 3000000 /dev/zero; wait"

      assert {out, 0, err} =
               NetRunner.run(["sh", "-c", script], stderr: :capture, backend: backend)

      assert byte_size(out) == 3_000_000
      assert byte_size(err) == 3_000_000
    end

    on_backends ":merge keeps the order" do
      expected = Enum.map_join(1..100, &"out#{&1}\nerr#{&1}\n")

      assert NetRunner.run(["sh", "-c", @both], stderr: :merge, backend: backend) ==
               {expected, 3}
    end

    on_backends ":discard is /dev/null, :consume (the default) is not" do
      command = ["readlink", "/proc/self/fd/2"]
      assert NetRunner.run(command, stderr: :discard, backend: backend) == {"/dev/null\n", 0}
      assert {"pipe:" <> _, 0} = NetRunner.run(command, stderr: :consume, backend: backend)
      assert NetRunner.run(["sh", "-c", @both], stderr: :discard, backend: backend) == {@out, 3}
      assert NetRunner.run(["sh", "-c", @both], stderr: :consume, backend: backend) == {@out, 3}
      assert NetRunner.run(["sh", "-c", @both], backend: backend) == {@out, 3}
    end
  end

  describe "input:" do
    on_backends "a binary, iodata, a list, a lazy enumerable" do
      for {input, expected} <- [
            {"", ""},
            {"binary", "binary"},
            {<<0, 255, 0>>, <<0, 255, 0>>},
            {[], ""},
            {["io", [~c"da", ["t" | "a"]], ?!], "iodata!"},
            {["improper" | "tail"], "impropertail"},
            {[["one"], "two", [?3]], "onetwo3"},
            {Stream.map(1..5, &"#{&1}"), "12345"},
            {Stream.map(1..5, &["<", [Integer.to_string(&1) | ">"]]), "<1><2><3><4><5>"},
            {MapSet.new(["x"]), "x"},
            {Stream.map(1..3, fn _ -> "" end), ""}
          ] do
        assert NetRunner.run(["cat"], input: input, backend: backend) == {expected, 0}
      end
    end

    on_backends "is /dev/null unless given, so that a reader of stdin ends" do
      command = ["readlink", "/proc/self/fd/0"]
      assert NetRunner.run(command, backend: backend) == {"/dev/null\n", 0}
      assert NetRunner.run(command, input: :null, backend: backend) == {"/dev/null\n", 0}
      assert {"pipe:" <> _, 0} = NetRunner.run(command, input: "", backend: backend)
      assert NetRunner.run(["cat"], backend: backend) == {"", 0}
    end

    on_backends "that the command does not want is no error, however much there is" do
      back_at_baseline(fn ->
        endless = Stream.repeatedly(fn -> String.duplicate("x", 10_000) end)
        assert NetRunner.run(["head", "-c", "3"], input: endless, backend: backend) == {"xxx", 0}
        assert NetRunner.run(["true"], input: endless, backend: backend) == {"", 0}
      end)
    end

    on_backends "that never comes does not keep a command that ended" do
      back_at_baseline(fn ->
        assert NetRunner.run(["echo", "x"], input: never(), backend: backend) == {"x\n", 0}
      end)
    end

    on_backends "that raises, throws or exits does so in the caller, the command gone" do
      for {cmd, opts} <- [{["cat"], []}, {[fixture("ignore_term")], [kill_timeout: 50]}] do
        {tag, env} = tag()
        opts = [backend: backend, env: env] ++ opts

        back_at_baseline(fn ->
          error =
            assert_raise RuntimeError, "of the input", fn ->
              NetRunner.run(cmd, [input: breaking(fn -> raise "of the input" end)] ++ opts)
            end

          assert error == %RuntimeError{message: "of the input"}
          assert_gone(tag)

          assert catch_throw(
                   NetRunner.run(cmd, [input: breaking(fn -> throw(:ball) end)] ++ opts)
                 ) == :ball

          assert_gone(tag)

          assert catch_exit(
                   NetRunner.run(cmd, [input: breaking(fn -> exit(:enough) end)] ++ opts)
                 ) == :enough

          assert_gone(tag)
        end)
      end
    end

    on_backends "that raises does so with its own stack trace" do
      stacktrace =
        try do
          NetRunner.run(["cat"],
            input: breaking(fn -> raise "of the input" end),
            backend: backend
          )
        rescue
          RuntimeError -> __STACKTRACE__
        end

      assert Enum.any?(stacktrace, &match?({__MODULE__, _, _, _}, &1))
    end

    on_backends "with an element that is not iodata raises ArgumentError naming it" do
      for bad <- [["ok", :bad], Stream.map([1], & &1), [256], %{a: 1}, ["x" | :bad], [<<1::3>>]] do
        back_at_baseline(fn ->
          error =
            assert_raise ArgumentError, fn ->
              NetRunner.run(["cat"], input: bad, backend: backend)
            end

          assert error.message =~ ":input"
          assert error.message =~ "not iodata"
        end)
      end
    end

    # An enumerable whose third element is never given.
    defp breaking(fun) do
      Stream.map(1..3, fn
        3 -> fun.()
        n -> "#{n}"
      end)
    end

    defp never, do: Stream.repeatedly(fn -> Process.sleep(:infinity) end)
  end

  describe "timeout:" do
    # Long enough for a slow start, which counts: each test sees by a word of the command that it ran.
    @time 2_000

    on_backends "stops the command: {:error, :timeout}, and it is gone" do
      {tag, env} = tag()

      back_at_baseline(fn ->
        {us, result} =
          :timer.tc(fn ->
            NetRunner.run(["sh", "-c", "echo x; sleep 60"],
              timeout: @time,
              into: %Teller{to: self()},
              env: env,
              backend: backend
            )
          end)

        assert result == {:error, :timeout}
        assert_received {:element, "x\n"}
        assert us in (@time * 1_000)..(@time * 1_000 + @soon)
        assert_gone(tag)
      end)
    end

    @tag :slow
    on_backends "kills a command that ignores the stop signal, after kill_timeout" do
      {tag, env} = tag()

      back_at_baseline(fn ->
        {us, result} =
          :timer.tc(fn ->
            NetRunner.run([fixture("ignore_term")],
              timeout: @time,
              kill_timeout: 100,
              into: %Teller{to: self()},
              env: env,
              backend: backend
            )
          end)

        assert result == {:error, :timeout}
        assert_received {:element, "ready\n"}
        assert us in (@time * 1_000)..(@time * 1_000 + @soon)
        assert_gone(tag)
      end)
    end

    @tag :slow
    on_backends "kills at once with kill_timeout: 0" do
      {us, result} =
        :timer.tc(fn ->
          opts = [timeout: @time, kill_timeout: 0, into: %Teller{to: self()}, backend: backend]
          NetRunner.run([fixture("ignore_term")], opts)
        end)

      assert result == {:error, :timeout}
      assert_received {:element, "ready\n"}
      assert us < @time * 1_000 + @soon
    end

    @tag :slow
    on_backends "holds although the input never comes" do
      back_at_baseline(fn ->
        opts = [input: never(), timeout: @time, into: %Teller{to: self()}, backend: backend]
        assert NetRunner.run(["sh", "-c", "echo x; exec cat"], opts) == {:error, :timeout}
        assert_received {:element, "x\n"}
      end)
    end

    @tag :slow
    on_backends "holds although stdout was closed long ago" do
      back_at_baseline(fn ->
        opts = [timeout: @time, into: %Teller{to: self()}, backend: backend]
        assert NetRunner.run([fixture("close_stdout"), "60000"], opts) == {:error, :timeout}
        assert_received {:element, "before\n"}
      end)
    end

    @tag :slow
    on_backends "holds although there is always something to read" do
      back_at_baseline(fn ->
        opts = [timeout: @time, max_output_size: 1_000, overflow: :tail, backend: backend]

        at_once([
          fn ->
            assert {:ok, %{cause: :timeout, truncated?: true}} =
                     NetRunner.exec(["cat", "/dev/zero"], opts)
          end,
          fn -> assert NetRunner.run(["cat", "/dev/zero"], opts) == {:error, :timeout} end
        ])
      end)
    end

    on_backends "of 0 is over at once, :infinity and a long one never" do
      path = tmp_path("ran")
      assert NetRunner.run(["touch", path], timeout: 0, backend: backend) == {:error, :timeout}
      assert NetRunner.exec(["touch", path], timeout: 0, backend: backend) == {:error, :timeout}
      refute File.exists?(path)
      assert NetRunner.run(["echo"], timeout: :infinity, backend: backend) == {"\n", 0}
      assert NetRunner.run(["echo"], timeout: 4_294_967_295, backend: backend) == {"\n", 0}
    end
  end

  describe "idle_timeout:" do
    on_backends "stops a command that went silent: {:error, :timeout}, and it is gone" do
      {tag, env} = tag()

      back_at_baseline(fn ->
        for script <- ["echo x; exec sleep 60", "exec >&-; exec sleep 60", "exec sleep 60"] do
          opts = [idle_timeout: 100, env: env, backend: backend]
          assert NetRunner.run(["sh", "-c", script], opts) == {:error, :timeout}
          assert_gone(tag)
        end
      end)
    end

    on_backends "of 0 is over at once, :infinity and a long one never" do
      run = &NetRunner.run(&1, idle_timeout: &2, backend: backend)
      assert run.(["sleep", "60"], 0) == {:error, :timeout}
      assert run.(["sh", "-c", "sleep 0.05; echo"], :infinity) == {"\n", 0}
      assert run.(["sh", "-c", "sleep 0.05; echo"], 4_294_967_295) == {"\n", 0}
    end
  end

  describe "max_output_size:" do
    on_backends "lets through what fits and cuts to exactly the limit what does not" do
      run = &NetRunner.run(["printf", &1], max_output_size: &2, backend: backend)
      assert run.("12345", 6) == {"12345", 0}
      assert run.("12345", 5) == {"12345", 0}
      assert run.("12345", 4) == {:error, {:max_output_exceeded, "1234"}}
      assert run.("12345", 0) == {:error, {:max_output_exceeded, ""}}
      assert NetRunner.run(["true"], max_output_size: 0, backend: backend) == {"", 0}
    end

    on_backends "ends an endless command" do
      {tag, env} = tag()

      back_at_baseline(fn ->
        assert {:error, {:max_output_exceeded, partial}} =
                 NetRunner.run(["yes"], max_output_size: 1_000_001, env: env, backend: backend)

        assert partial == String.duplicate("y\n", 500_000) <> "y"
        assert_gone(tag)
      end)
    end

    on_backends "holds for each of stdout and a captured stderr" do
      run =
        &NetRunner.run(["sh", "-c", &1], max_output_size: 3, stderr: :capture, backend: backend)

      assert run.("printf abc; printf def >&2") == {"abc", 0, "def"}
      assert run.("printf abcd") == {:error, {:max_output_exceeded, "abc"}}
      assert run.("printf cdef >&2; sleep 60") == {:error, {:max_output_exceeded, ""}}
    end

    on_backends "is not about a stderr that nobody asked for" do
      assert NetRunner.run(["sh", "-c", "echo 12345 >&2"], max_output_size: 0, backend: backend) ==
               {"", 0}
    end
  end

  describe "cd:" do
    test "sets the directory, under both names, also with a name that is no text" do
      dir = tmp_path("sub")
      odd = Path.join(dir, <<"odd", 255>>)
      File.mkdir_p!(odd)
      assert NetRunner.run(["pwd"], cd: dir) == {dir <> "\n", 0}
      assert NetRunner.run(["pwd"], cwd: dir) == {dir <> "\n", 0}
      assert NetRunner.run(["pwd"], cd: odd) == {odd <> "\n", 0}
      assert NetRunner.run(["pwd"], cd: nil) == {File.cwd!() <> "\n", 0}
    end

    test "is relative to the BEAM's directory" do
      dir = tmp_path("sub")
      File.mkdir_p!(dir)

      File.cd!(Path.dirname(dir), fn ->
        assert NetRunner.run(["pwd"], cd: "sub") == {dir <> "\n", 0}
        assert NetRunner.run(["pwd"], cd: "./sub/..") == {Path.dirname(dir) <> "\n", 0}
      end)
    end

    test "that cannot be is an error of the start" do
      path = tmp_path("file")
      assert NetRunner.run(["pwd"], cd: path) == {:error, {:cd, :enoent}}
      File.write!(path, "")
      assert NetRunner.run(["pwd"], cd: path) == {:error, {:cd, :enotdir}}

      assert NetRunner.run(["pwd"], cd: "/" <> String.duplicate("x", 300)) ==
               {:error, {:cd, :enametoolong}}
    end

    test "is not needed when the BEAM's directory was removed" do
      gone = tmp_path("gone")
      File.mkdir_p!(gone)
      before = File.cwd!()
      File.cd!(gone)

      try do
        File.rmdir!(gone)
        assert NetRunner.run(["/bin/echo", "x"]) == {"x\n", 0}
        assert NetRunner.run(["./program"]) == {:error, :enoent}
        assert NetRunner.run(["pwd"], cd: "/") == {"/\n", 0}
      after
        File.cd!(before)
      end
    end
  end

  describe "env:" do
    test "adds to the BEAM's, as map, list or keyword list" do
      for env <- [%{"NR_A" => "1"}, [{"NR_A", "1"}], [NR_A: "1"], %{NR_A: "1"}] do
        {_args, seen} = seen_by_child([], env: env)
        assert "NR_A=1" in seen
        assert ("PATH=" <> System.fetch_env!("PATH")) in seen
      end
    end

    test "nil unsets, the last of duplicates wins" do
      System.put_env("NR_BEAM", "beam")
      on_exit(fn -> System.delete_env("NR_BEAM") end)
      assert named("NR_BEAM", []) == ["NR_BEAM=beam"]
      assert named("NR_BEAM", [{"NR_BEAM", nil}]) == []
      assert named("NR_BEAM", [{"NR_BEAM", "1"}, {"NR_BEAM", "2"}]) == ["NR_BEAM=2"]
      assert named("NR_BEAM", [{"NR_BEAM", "1"}, {"NR_BEAM", nil}]) == []
      assert named("NR_BEAM", [{"NR_BEAM", nil}, {"NR_BEAM", "3"}]) == ["NR_BEAM=3"]
      assert named("NR_NONE", [{"NR_NONE", nil}]) == []
    end

    test "{:replace, env} is the whole environment" do
      assert {_args, []} = seen_by_child([], env: {:replace, []})
      assert {_args, []} = seen_by_child([], env: {:replace, %{"A" => nil}})
      assert {_args, seen} = seen_by_child([], env: {:replace, %{"B" => "2", "A" => "1"}})
      assert Enum.sort(seen) == ["A=1", "B=2"]
    end

    test "takes empty values and names and values that are no text" do
      pairs = [
        {"NR_EMPTY", ""},
        {"NR_BYTES", <<255, 254, 1>>},
        {"NR_LINES", "a\nb=c"},
        {"nr é", "é"},
        {<<"NR_", 255>>, "odd"}
      ]

      {_args, seen} = seen_by_child([], env: pairs)
      for {name, value} <- pairs, do: assert((name <> "=" <> value) in seen)
    end

    test "leaves the BEAM's own of this moment as it is" do
      System.put_env("NR_UTF8", "zażółć")
      System.put_env("NR_EMPTY", "")

      on_exit(fn ->
        System.delete_env("NR_UTF8")
        System.delete_env("NR_EMPTY")
      end)

      {_args, seen} = seen_by_child([], [])
      assert "NR_UTF8=zażółć" in seen
      assert "NR_EMPTY=" in seen
    end

    defp named(name, env) do
      {_args, seen} = seen_by_child([], env: env)
      Enum.filter(seen, &String.starts_with?(&1, name <> "="))
    end
  end

  describe "arguments" do
    test "arrive byte for byte, argv[0] as it was called" do
      args = ["", " ", "*", "a\nb", "$HOME", "--", "-c", "é", <<255, 1>>, "'\"\\", "a=b"]
      {[argv0 | seen], _env} = seen_by_child(args, [])
      assert seen == args
      assert argv0 == fixture("show_exec")
    end

    on_backends "of 1.5 MiB in pieces of 100 KiB are exact (29)" do
      pieces =
        for n <- 1..15, do: "piece #{n}/" |> String.duplicate(13_000) |> binary_part(0, 102_400)

      back_at_baseline(fn ->
        assert NetRunner.run(["printf", "%s" | pieces], backend: backend) ==
                 {IO.iodata_to_binary(pieces), 0}
      end)
    end

    test "are exact when there are a hundred thousand (29)" do
      args = Enum.map(1..100_000, &"#{&1}")
      {[_argv0 | seen], _env} = seen_by_child(args, env: {:replace, []})
      assert seen == args
    end

    test "may have 131,071 bytes each, one more is refused by its place (29)" do
      largest = String.duplicate("x", 131_071)
      assert {[_argv0, ^largest], _env} = seen_by_child([largest], [])

      assert {:error, {:invalid_args, message}} = NetRunner.run(["true", "a", largest <> "x"])
      assert message =~ "argument 2"
      assert message =~ "131072"
    end

    test "above the kernel's limit are :e2big, also where the zygote would not take them (29)" do
      piece = String.duplicate("x", 100_000)
      zygote = NetRunner.Shepherd.info().os_pid

      back_at_baseline(fn ->
        for count <- [63, 150, 200] do
          assert NetRunner.run(["true" | List.duplicate(piece, count)]) == {:error, :e2big}
        end
      end)

      assert NetRunner.Shepherd.info().os_pid == zygote
      assert NetRunner.run(["echo", "on"]) == {"on\n", 0}
    end

    test "have an environment beside them that may be large, too; one value may not (29)" do
      env = for n <- 1..10, do: {"NR_#{n}", String.duplicate("#{rem(n, 10)}", 100_000)}
      {_args, seen} = seen_by_child([], env: {:replace, env})
      assert Enum.sort(seen) == Enum.sort(for {name, value} <- env, do: name <> "=" <> value)

      assert NetRunner.run(["true"], env: [{"A", String.duplicate("x", 200_000)}]) ==
               {:error, :e2big}
    end
  end

  # What the child's main got: {argv, environ}.
  defp seen_by_child(args, opts) do
    {output, 0} = NetRunner.run([fixture("show_exec") | args], opts)
    "argc " <> rest = output
    {argc, "\n" <> rest} = Integer.parse(rest)
    {argv, "envc " <> rest} = strings(rest, argc, [])
    {envc, "\n" <> rest} = Integer.parse(rest)
    {environ, ""} = strings(rest, envc, [])
    {argv, environ}
  end

  defp strings(rest, 0, strings), do: {Enum.reverse(strings), rest}

  defp strings(rest, count, strings) do
    {length, ":" <> rest} = Integer.parse(rest)
    <<string::binary-size(length), "\n", rest::binary>> = rest
    strings(rest, count - 1, [string | strings])
  end

  describe "the executable" do
    setup do
      dir = tmp_path("bin")
      File.mkdir_p!(dir)
      {:ok, dir: dir}
    end

    defp script(dir, name, says \\ "$0 $*") do
      path = Path.join(dir, name)
      File.mkdir_p!(Path.dirname(path))
      File.write!(path, "#!/bin/sh\necho \"#{says}\"\n")
      File.chmod!(path, 0o755)
      path
    end

    test "is looked up in the PATH that env: gives to the child", %{dir: dir} do
      path = script(dir, "nr-tool")
      assert NetRunner.run(["nr-tool"]) == {:error, :enoent}
      assert NetRunner.run(["nr-tool", "x"], env: [{"PATH", dir}]) == {"#{path} x\n", 0}
      assert NetRunner.run(["nr-tool"], env: {:replace, %{"PATH" => dir}}) == {"#{path} \n", 0}
      # And not in the BEAM's.
      assert NetRunner.run(["ls"], env: [{"PATH", dir}]) == {:error, :enoent}
    end

    test "is the first that can be executed", %{dir: dir} do
      [one, two, three] = for name <- ["one", "two", "three"], do: Path.join(dir, name)
      File.mkdir_p!(Path.join(one, "nr-tool"))
      File.mkdir_p!(two)
      File.write!(Path.join(two, "nr-tool"), "#!/bin/sh\n")
      script(three, "nr-tool", "three")
      path = Enum.join([dir <> "/none", one, two, three], ":")
      assert NetRunner.run(["nr-tool"], env: [{"PATH", path}]) == {"three\n", 0}
      assert NetRunner.run(["nr-tool"], env: [{"PATH", "#{one}:#{two}"}]) == {:error, :eacces}
    end

    test "is never looked up in the current directory: '.', empty and relative elements (30)",
         %{dir: dir} do
      script(dir, "nr-tool")

      File.cd!(Path.dirname(dir), fn ->
        for path <- ["bin", "./bin", "bin:.", "../#{Path.basename(Path.dirname(dir))}/bin"] do
          assert NetRunner.run(["nr-tool"], env: [{"PATH", path}]) == {:error, :enoent}
        end
      end)

      File.cd!(dir, fn ->
        for path <- [".", "", ":", "::", ".:", ":/nowhere:", "/nowhere:."] do
          assert NetRunner.run(["nr-tool"], env: [{"PATH", path}]) == {:error, :enoent}
          assert NetRunner.run(["nr-tool"], env: [{"PATH", path}], cd: dir) == {:error, :enoent}
        end
      end)
    end

    test "is found with PATH unset, in the system's directories (30)", %{dir: dir} do
      assert NetRunner.run(["echo", "x"], env: [{"PATH", nil}]) == {"x\n", 0}
      assert NetRunner.run(["echo", "x"], env: {:replace, []}) == {"x\n", 0}
      script(dir, "nr-tool")

      File.cd!(dir, fn ->
        assert NetRunner.run(["nr-tool"], env: [{"PATH", nil}]) == {:error, :enoent}
      end)
    end

    test "with a slash is relative to the BEAM's directory, whatever cd: says", %{dir: dir} do
      script(dir, "sub/nr-tool", "$(pwd) $*")

      File.cd!(dir, fn ->
        assert NetRunner.run(["sub/nr-tool", "x"]) == {"#{dir} x\n", 0}
        assert NetRunner.run(["./sub/nr-tool"], cd: "/") == {"/ \n", 0}
        assert NetRunner.run(["./nr-tool"], cd: "sub") == {:error, :enoent}
      end)
    end

    test "may have a name that looks like an option, or is no text (30)", %{dir: dir} do
      for name <- ["--pty", "-c", "--", "a b", "é", <<"odd", 255>>, "x=y"] do
        path = script(dir, name)

        assert NetRunner.run([name, "--stderr", "-x"], env: [{"PATH", dir}]) ==
                 {"#{path} --stderr -x\n", 0}
      end
    end

    test "that is a directory, or has too long a name, is an error of the start", %{dir: dir} do
      for directory <- [dir, "/", "./", "../"] do
        assert NetRunner.run([directory]) == {:error, :eacces}
      end

      long = String.duplicate("x", 5_000)
      assert NetRunner.run([long]) == {:error, :enametoolong}
      assert NetRunner.run(["/" <> long]) == {:error, :enametoolong}
      assert NetRunner.run(["./" <> long]) == {:error, :enametoolong}
    end
  end

  describe "what cannot be asked for" do
    setup :nothing_starts

    # With the shepherd asleep, whoever asks it for a start waits until spawn_timeout, and fails.
    defp nothing_starts(_context) do
      :sys.suspend(NetRunner.Shepherd)
      on_exit(fn -> :sys.resume(NetRunner.Shepherd) end)
    end

    test "is {:invalid_cmd, message}" do
      for cmd <- [
            [],
            nil,
            "ls",
            :ls,
            [:ls],
            [~c"ls"],
            ["ls" | "x"],
            [""],
            [<<"l", 0>>],
            [1],
            %{}
          ] do
        assert {:error, {:invalid_cmd, message}} = NetRunner.run(cmd)
        assert is_binary(message)
        assert {:error, {:invalid_cmd, ^message}} = NetRunner.stream(cmd)
        error = assert_raise NetRunner.Error, fn -> NetRunner.stream!(cmd) end
        assert error.reason == {:invalid_cmd, message}
        assert Exception.message(error) =~ message
      end
    end

    test "is {:invalid_args, message}, with the argument's place" do
      for bad <- [:x, 1, ~c"x", nil, "a" <> <<0>> <> "b", <<0>>, <<1::3>>] do
        assert {:error, {:invalid_args, message}} = NetRunner.run(["true", "x", bad])
        assert message =~ "argument 2"
        assert {:error, {:invalid_args, ^message}} = NetRunner.stream(["true", "x", bad])
        assert {:error, {:invalid_args, ^message}} = NetRunner.Process.start("true", ["x", bad])
      end
    end

    test "is {:invalid, option, message} (29)" do
      for {option, value} <- [
            cd: "a" <> <<0>>,
            cwd: <<0>>,
            cd: "",
            env: [{"A" <> <<0>>, "x"}],
            env: [{"A", "x" <> <<0>>}],
            env: [{"A=B", "x"}],
            env: %{"" => "x"},
            env: {:replace, [{"=", "x"}]}
          ] do
        assert {:error, {:invalid, ^option, message}} = NetRunner.run(["true"], [{option, value}])
        assert is_binary(message)

        assert NetRunner.stream(["true"], [{option, value}]) ==
                 {:error, {:invalid, option, message}}

        assert NetRunner.Process.start("true", [], [{option, value}]) ==
                 {:error, {:invalid, option, message}}
      end
    end
  end

  @tag :subreaper
  on_backends "drain_timeout: is how long a background job may live on" do
    {tag, env} = tag()
    opts = [env: env, backend: backend]

    back_at_baseline(fn ->
      {us, result} =
        :timer.tc(fn ->
          NetRunner.run(["sh", "-c", "sleep 60 & echo early"], [drain_timeout: 0] ++ opts)
        end)

      assert result == {"early\n", 0}
      assert us < @soon
      assert_gone(tag)

      script = "(sleep 0.2; echo late) & echo early; exit 5"

      assert NetRunner.run(["sh", "-c", script], [drain_timeout: 60_000] ++ opts) ==
               {"early\nlate\n", 5}
    end)
  end

  on_backends "backend: is a demand, and the only mechanism that is used" do
    assert NetRunner.run(["cat"], input: "x", backend: backend) == {"x", 0}
    {:ok, p} = NetRunner.Process.start("sh", ["-c", "sleep 0.1; echo x"], backend: backend)
    assert NetRunner.Process.read(p) == {:ok, "x\n"}
    {:ok, %{stdout: stats}} = NetRunner.Process.stats(p)
    NetRunner.Process.stop(p)

    assert {stats.waits_io_uring > 0, stats.waits_poll > 0} ==
             {backend == :io_uring, backend == :poll}
  end

  test "spawn_timeout: ends the wait for a zygote that does not answer; the late child is killed" do
    zygote = NetRunner.Shepherd.info().os_pid
    {tag, env} = tag()

    back_at_baseline(fn ->
      with_frozen_zygote(fn ->
        {us, result} =
          :timer.tc(fn -> NetRunner.run(["sleep", "60"], spawn_timeout: 100, env: env) end)

        assert result == {:error, :spawn_timeout}
        assert us in 100_000..@soon
      end)

      # Answers come in order: after this one the late child has had its chance.
      assert NetRunner.run(["echo", "on"]) == {"on\n", 0}
      eventually("the late child is gone", fn -> tagged(tag) == [] end)
    end)

    assert NetRunner.Shepherd.info().os_pid == zygote
  end

  describe "the caller's mailbox (53)" do
    # Looks like everything that the library itself could be waiting for.
    defp strangers do
      me = self()

      [
        {make_ref(), :ready},
        {make_ref(), {:ok, {:exited, 0}}},
        {:DOWN, make_ref(), :process, me, :normal},
        {:EXIT, me, :killed},
        {:select, make_ref(), :undefined, :ready_input},
        {:fed, me, :ok},
        {:breaks, me, {:broken, :eio}},
        {:"$gen_call", {me, make_ref()}, :await},
        :timeout,
        "text"
      ] ++ Enum.to_list(1..1000)
    end

    defp untouched(fun) do
      messages = strangers()
      Process.flag(:trap_exit, true)
      Enum.each(messages, &send(self(), &1))
      fun.()
      assert Process.info(self(), :messages) == {:messages, messages}
      assert Process.info(self(), :monitors) == {:monitors, []}
    end

    on_backends "is untouched and in order after run, whatever its end" do
      opts = [backend: backend]

      untouched(fn ->
        assert {"x\n", 0} = NetRunner.run(["sh", "-c", "sleep 0.02; echo x"], opts)

        assert {"x", 3, "y"} =
                 NetRunner.run(
                   ["sh", "-c", "sleep 0.02; printf x; printf y >&2; exit 3"],
                   [stderr: :capture] ++ opts
                 )

        assert {:error, :enoent} = NetRunner.run(["no-such-program"], opts)
        assert {:error, {:cd, :enoent}} = NetRunner.run(["true"], [cd: "/nowhere"] ++ opts)
        assert {:error, :timeout} = NetRunner.run(["sleep", "60"], [timeout: 20] ++ opts)

        assert {:error, {:max_output_exceeded, _}} =
                 NetRunner.run(["yes"], [max_output_size: 10, stderr: :capture] ++ opts)

        assert {"", 0} = NetRunner.run(["true"], [input: never()] ++ opts)
        catch_throw(NetRunner.run(["cat"], [input: breaking(fn -> throw(1) end)] ++ opts))
      end)
    end

    on_backends "is untouched when time-outs come about when the output does" do
      untouched(fn ->
        for ms <- 0..20 do
          result =
            NetRunner.run(["sh", "-c", "sleep 0.00#{rem(ms, 10)}; echo x"],
              timeout: ms,
              backend: backend
            )

          assert result in [{"x\n", 0}, {:error, :timeout}]
        end
      end)
    end

    on_backends "is untouched and in order after streams" do
      opts = [backend: backend]

      untouched(fn ->
        assert ["x\n"] = Enum.to_list(NetRunner.stream!(["sh", "-c", "sleep 0.02; echo x"], opts))
        assert [_one] = Enum.take(NetRunner.stream!(["yes"], opts), 1)

        assert_raise NetRunner.ExitError, fn ->
          Stream.run(NetRunner.stream!(["false"], opts))
        end

        assert_raise NetRunner.Error, fn -> Stream.run(NetRunner.stream!(["none-such"], opts)) end
        catch_throw(Enum.each(NetRunner.stream!(["yes"], opts), fn _ -> throw(:enough) end))
      end)
    end

    on_backends "is untouched and in order after a process" do
      untouched(fn ->
        {:ok, p} = NetRunner.Process.start("cat", [], backend: backend)
        assert NetRunner.Process.read(p, 1, 0) == {:error, :timeout}
        assert NetRunner.Process.read(p, 1, 20) == {:error, :timeout}
        assert NetRunner.Process.await_exit(p, 0) == {:error, :timeout}
        assert NetRunner.Process.await_exit(p, 20) == {:error, :timeout}
        assert NetRunner.Process.write(p, "x") == :ok
        assert NetRunner.Process.read(p) == {:ok, "x"}

        assert {:error, {:timeout, _}} =
                 NetRunner.Process.write(p, :binary.copy("x", 8_000_000), 20)

        assert NetRunner.Process.kill(p, :sigkill) == :ok
        assert NetRunner.Process.await_exit(p) == {:ok, 137}
        assert NetRunner.Process.kill(p) == {:error, :not_running}
        assert NetRunner.Process.stop(p) == :ok
        assert NetRunner.Process.stop(p) == :ok
        assert NetRunner.Process.await_exit(p) == {:error, :closed}
      end)
    end
  end

  test "backend/0 says what runs and why" do
    assert %{data: data, registered_buffers: registered, containment: containment, why: why} =
             NetRunner.backend()

    assert map_size(NetRunner.backend()) == 4
    assert data in [:io_uring, :poll]
    assert is_boolean(registered)
    assert containment == if(NetRunner.Nif.build() == :portable, do: :group, else: :subreaper)
    assert is_binary(why) and why != ""
    if data == :poll, do: refute(registered)
  end
end
