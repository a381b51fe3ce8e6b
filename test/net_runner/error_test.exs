defmodule NetRunner.ErrorTest do
  # What people read: every reason of the closed list has a sentence, and commands are quoted as a
  # shell would need them.
  use ExUnit.Case, async: true
  doctest NetRunner.Quote
  doctest NetRunner.Text

  alias NetRunner.Reason

  describe "the list of reasons" do
    test "has a sentence for each" do
      for {_type, _whence, reason, sentence} <- Reason.all() do
        assert Exception.message(%NetRunner.Error{reason: reason}) == sentence
      end

      for posix <- Reason.posix(),
          do: assert(Exception.message(%NetRunner.Error{reason: posix}) =~ to_string(posix))

      assert Exception.message(%NetRunner.Error{reason: {:unkillable, [12]}}) ==
               "cannot be killed: pid 12"

      # What is none of them must not make a message fail.
      assert Exception.message(%NetRunner.Error{reason: {:never, "heard"}}) ==
               ~S({:never, "heard"})
    end

    test "is what the type says and the documentation has" do
      {:ok, types} = Code.Typespec.fetch_types(NetRunner.Error)
      [reason] = for {:type, {:reason, type, []}} <- types, do: type
      [posix] = for {:type, {:posix, type, []}} <- types, do: type
      assert {:type, _, :union, members} = reason
      assert length(members) == length(Reason.all())
      assert {:type, _, :union, errors} = posix
      assert for({:atom, _, name} <- errors, do: name) == Reason.posix()

      {:docs_v1, _, _, _, %{"en" => text}, _, _} = Code.fetch_docs(NetRunner.Error)

      for {type, _whence, _example, sentence} <- Reason.all(),
          do:
            assert(
              text =~
                ~r/^\| `#{Regex.escape(Reason.text_of(type))}` .* #{Regex.escape(sentence)} \|$/m
            )
    end

    test "has each once, with an example of its type" do
      shapes = for {_type, _whence, example, _sentence} <- Reason.all(), do: shape(example)
      assert shapes == Enum.uniq(shapes)

      for {type, _whence, example, _sentence} <- Reason.all() do
        case type do
          {:posix, _, _} -> assert example in Reason.posix()
          {:{}, _, [tag | rest]} -> assert shape(example) == {tag, length(rest) + 1}
          {tag, _value} -> assert shape(example) == {tag, 2}
          atom -> assert example == atom
        end
      end
    end

    # What the calls answer, found by its shape, and so not what is passed on in a variable; the daemon's own reasons are in another list (daemon_test.exs).
    test "has whatever the code gives as an error, where that is written out" do
      tags =
        for {_type, _whence, example, _sentence} <- Reason.all(),
            is_tuple(example),
            do: elem(example, 0)

      atoms =
        for {_type, _whence, example, _sentence} <- Reason.all(), is_atom(example), do: example

      # The ring's probe; the NIF that is not there; OTP's own.
      internal = [:killed, :nif, :no_translation, :shutdown]

      for path <- Path.wildcard(Path.expand("../../lib/**/*.ex", __DIR__)),
          # The compat modules answer as those do whose names they have.
          not (path =~ ~r"daemon|/compat/"),
          [_, brace, name] <- Regex.scan(~r/\{:error, (\{?):(\w+)/, File.read!(path)),
          name = String.to_atom(name),
          name not in internal do
        known = if brace == "", do: atoms ++ Reason.posix(), else: tags
        assert name in known, "#{path}: #{inspect(name)}"
      end
    end

    test "has every name that the system's numbers are given" do
      for number <- 1..200, do: assert(NetRunner.Protocol.posix(number) in Reason.posix())
      source = File.read!(Path.expand("../../csrc/term.c", __DIR__))
      names = Regex.scan(~r/\{E[A-Z0-9]+, +"(\w+)"\}/, source)
      assert length(names) > 10
      for [_, name] <- names, do: assert(String.to_atom(name) in Reason.posix())
    end

    defp shape(reason) when is_tuple(reason), do: {elem(reason, 0), tuple_size(reason)}
    defp shape(reason), do: reason
  end

  test "the sentence follows the command, quoted" do
    error = %NetRunner.Error{reason: :enoent, cmd: ["my tool", "-x", "it's", "", "$HOME", "a=b"]}

    assert Exception.message(error) ==
             ~S"'my tool' -x 'it'\''s' '' '$HOME' a=b: no such file or directory (enoent)"
  end

  test "a quoted command is the same command to a shell" do
    words = [
      "a b",
      "it's",
      "$HOME",
      "`x`",
      "\\",
      "\"",
      "*",
      "é",
      "a\nb",
      "",
      "-n",
      "~",
      "#",
      "a;b"
    ]

    {output, 0} = System.cmd("sh", ["-c", "printf '%s\\0' " <> NetRunner.Quote.cmd(words)])
    assert String.split(output, <<0>>) == words ++ [""]
  end

  test "what would be the shell's own or an assignment is quoted where a command's name stands" do
    for name <- ~w(A=b a_1+=2 _= if while [[ { ! function time) do
      line = NetRunner.Quote.cmd([name, "x"])
      assert {_, 127} = System.cmd("bash", ["-c", line], stderr_to_stdout: true)
      # And nothing else is read in another way than it was.
      {shown, 0} = System.cmd("bash", ["-c", "printf %s " <> NetRunner.Quote.cmd([name])])
      assert shown == name
    end

    assert NetRunner.Quote.cmd(["make", "A=b", "if"]) == "make A=b if"
    assert to_string(NetRunner.Command.new("x=y", ["z"])) == "'x=y' z"
    assert message(cmd: ["x=y", "z"], exit: {:exited, 3}) == "'x=y' z exited with status 3"
    assert NetRunner.Quote.cmd(["--a=b", "1a=b", "./if"]) == "--a=b 1a=b ./if"
    assert NetRunner.Quote.cmd([]) == ""
  end

  test "what is no text is shown as Elixir shows it" do
    assert Exception.message(%NetRunner.Error{reason: :enoent, cmd: [<<"x", 255>>]}) =~
             ~s(<<120, 255>>)
  end

  describe "ExitError" do
    # All of those made here without cd: tell no place.
    defp message(fields) do
      fields
      |> Keyword.put_new(:cmd, ["gcc", "a b.c"])
      |> Keyword.put_new(:status, 0)
      |> then(&struct!(NetRunner.ExitError, &1))
      |> Exception.message()
    end

    test "says command and status" do
      assert message(exit: {:exited, 3}) == "gcc 'a b.c' exited with status 3"
    end

    test "says the signal's name, or its number where it has none" do
      assert message(exit: {:signaled, :sigkill}) == "gcc 'a b.c' was ended by SIGKILL"
      assert message(exit: {:signaled, 40}) == "gcc 'a b.c' was ended by signal 40"
    end

    test "says why it was stopped, for how long it ran, where, and with which variables" do
      how = &message([exit: {:signaled, :sigterm}] ++ &1)

      for cause <- NetRunner.Result.causes(),
          cause not in [:exited, :signaled, :guardian_lost],
          do: refute(how.(cause: cause) == how.([]), "no words for #{cause}")

      assert how.(cause: :oom) =~ "ran out of memory and was ended by SIGTERM"
      assert how.(cause: :io_error) =~ "had a pipe that failed and was ended by SIGTERM"
      assert message(exit: nil, cause: :unkillable) == "gcc 'a b.c' cannot be killed"
      assert how.(cause: :timeout) == "gcc 'a b.c' timed out and was ended by SIGTERM"
      assert how.(cause: :idle_timeout) =~ "wrote nothing for too long and was ended by SIGTERM"
      assert how.(cause: :output_limit) =~ "wrote too much and was ended by SIGTERM"

      assert how.(cause: :output_limit, limit: :max_output_exceeded) =~
               "wrote more than max_output_size: allows and was ended by SIGTERM"

      assert how.(cause: :output_limit, limit: {:line_too_long, 80}) =~
               "wrote a line of more than 80 bytes and was ended by SIGTERM"

      assert how.(cause: :output_limit, limit: {:frame_too_large, 80}) =~
               "wrote a frame of 80 bytes (more than max_frame_size:) and was ended by SIGTERM"

      assert how.(cause: :stopped) =~ "was stopped and was ended by SIGTERM"
      assert how.(cause: :owner_down) =~ "lost its owner and was ended by SIGTERM"
      assert how.(cause: :signaled) == "gcc 'a b.c' was ended by SIGTERM"
      assert message(exit: nil, cause: :guardian_lost) =~ "ended unseen: its guardian was lost"
      assert how.(duration_ms: 9999) == "gcc 'a b.c' was ended by SIGTERM after 9999 ms"
      assert how.(duration_ms: 61_250) == "gcc 'a b.c' was ended by SIGTERM after 61.3 s"
      assert how.(cd: "/a b") == "gcc 'a b.c' was ended by SIGTERM\nin '/a b'"
      assert how.(env: ["A", "B"]) == "gcc 'a b.c' was ended by SIGTERM\nwith A, B set"
      assert how.(cd: "/", env: ["A"]) == "gcc 'a b.c' was ended by SIGTERM\nin /, with A set"
      assert how.(unset: ["A", "B"]) == "gcc 'a b.c' was ended by SIGTERM\nwith A, B unset"

      assert how.(cd: "/", env: ["A"], unset: ["B"]) ==
               "gcc 'a b.c' was ended by SIGTERM\nin /, with A set, B unset"
    end

    test "says where it ran and what was changed, of runs and of streams" do
      raised = fn script, opts ->
        by_run = catch_error(NetRunner.run!(["sh", "-c", script], opts))
        by_stream = catch_error(["sh", "-c", script] |> NetRunner.stream!(opts) |> Enum.to_list())
        fields = &Map.take(&1, [:cd, :env, :unset])
        assert fields.(by_run) == fields.(by_stream)
        by_run
      end

      error = raised.("exit 3", [])
      assert %{cd: cd, env: [], unset: []} = error
      assert cd == File.cwd!()
      assert Exception.message(error) =~ ~r/after \d+ ms\nin #{Regex.escape(cd)}\z/
      assert raised.("exit 3", cd: "/tmp").cd == "/tmp"
      assert %{env: ["A"], unset: ["B"]} = raised.("exit 3", env: [A: "x", B: nil])
      # The last of the same name is the one that the command sees.
      env = [{"A", "x"}, {"B", nil}, {"A", nil}, {"B", "y"}]

      assert %{env: ["B"], unset: ["A"]} =
               raised.(~S([ "$B-${A-none}" = y-none ] && exit 3), env: env)

      env = {:replace, [{"A", "x"}, {"B", nil}]}
      assert %{env: ["A"], unset: ["B"], status: 3} = raised.("exit 3", env: env)
    end

    test "says which limit it was" do
      message = fn script, opts ->
        Exception.message(catch_error(NetRunner.exec!(["sh", "-c", script], opts)))
      end

      opts = [lines: true, max_line_length: {8, :error}]
      long = message.("echo 123456789; exec sleep 60", opts)
      assert long =~ "wrote a line of more than 8 bytes and was ended by SIGTERM"
      # One that is too long only at its end has ended by itself.
      assert message.("printf 123456789", opts) =~ "wrote a line of more than 8 bytes and "
      much = message.("echo 123456789; exec sleep 60", max_output_size: 4)
      assert much =~ "wrote more than max_output_size: allows and was ended by SIGTERM"
    end

    test "ends with the last of stderr, as text if it is" do
      assert message(exit: {:exited, 1}, stderr: "one\ntwo\n\n") ==
               "gcc 'a b.c' exited with status 1\nstderr ended with:\none\ntwo"

      stderr = &(message(exit: {:exited, 1}, stderr: &1) |> String.split("ended with:\n") |> tl())
      assert stderr.(<<"caf", 0xE9, ": no such file\n">>) == [~S(caf\xE9: no such file)]
    end

    test "has no half of a character that the limit of stderr cut" do
      message =
        catch_error(
          NetRunner.run!(["sh", "-c", "printf 'a\\342\\202\\254b' >&2; exit 1"],
            stderr_tail_bytes: 3
          )
        )
        |> Exception.message()

      assert [_, "b"] = String.split(message, "ended with:\n")
    end
  end

  describe "a message is short" do
    test "however much the command wrote on a captured stderr" do
      script = "head -c 5000000 /dev/zero | tr '\\0' x >&2; printf '\\nthe end\\n' >&2; exit 3"
      opts = [stderr: :capture]
      error = catch_error(NetRunner.run!(["sh", "-c", script], opts))
      assert %NetRunner.ExitError{stderr: stderr} = error
      assert byte_size(stderr) == 5_000_009
      message = Exception.message(error)
      assert byte_size(message) < 8_700
      assert message =~ ~r/exited with status 3.*\nstderr ended with:\n\.\.\.x+\nthe end\z/s
      assert :binary.referenced_byte_size(message) < 100_000
    end

    test "and is not cut in the middle of a character, nor marked where all is there" do
      ended = fn stderr ->
        message = message(exit: {:exited, 1}, stderr: stderr)
        [_how, ending] = String.split(message, "ended with:\n")
        ending
      end

      assert ended.(String.duplicate("x", 8192)) == String.duplicate("x", 8192)
      assert ended.(String.duplicate("x", 8193)) == "..." <> String.duplicate("x", 8192)
      # Three bytes each: the cut leaves two of one, which are not shown.
      assert ended.(String.duplicate("€", 10_000)) == "..." <> String.duplicate("€", 2730)

      error = %NetRunner.Error{reason: :timeout, cmd: ["x"], stderr: String.duplicate("x", 9000)}

      assert Exception.message(error) ==
               "x: timed out\nstderr ended with:\n..." <> String.duplicate("x", 8192)
    end

    test "however long the command, its directory and the names of its variables" do
      long = String.duplicate("'", 200_000)
      words = List.duplicate("word", 100_000)

      for cmd <- [["sh" | words], [long], ["a", long, "b"], ["sh", long <> <<255>>]] do
        for error <- [
              %NetRunner.ExitError{cmd: cmd, exit: {:exited, 1}, cd: long, env: cmd},
              %NetRunner.Error{cmd: cmd, reason: {:file, long, :enametoolong}}
            ] do
          message = Exception.message(error)
          assert byte_size(message) < 60_000
          assert message =~ "..."
          assert :binary.referenced_byte_size(message) < 200_000
        end
      end

      assert message(cmd: ["sh" | words], exit: {:exited, 3}) ==
               "sh #{Enum.map_join(1..49, " ", fn _ -> "word" end)} ... exited with status 3"

      # What is cut is a character, not a part of one.
      assert message(cmd: [String.duplicate("€", 2000)], exit: {:exited, 3}) ==
               "'#{String.duplicate("€", 1365)}'... exited with status 3"
    end

    test "where nothing could be started for its length, too" do
      long = String.duplicate("x", 100_000)

      for args <- [[long <> long], List.duplicate(long, 50)] do
        message = Exception.message(catch_error(NetRunner.run!(["true" | args])))
        assert message =~ ~r/\Atrue x+\.\.\.: \w/
        assert byte_size(message) < 5_000
      end
    end
  end

  test "the list of causes is what the type says and the documentation has" do
    {:ok, types} = Code.Typespec.fetch_types(NetRunner.Result)
    [{:type, _, :union, members}] = for {:type, {:cause, type, []}} <- types, do: type
    assert for({:atom, _, name} <- members, do: name) == NetRunner.Result.causes()
    {:docs_v1, _, _, _, %{"en" => text}, _, _} = Code.fetch_docs(NetRunner.Result)
    rows = Regex.scan(~r/^ *\| `:(\w+)` \| \w.+ \|$/m, text)
    assert for([_, name] <- rows, do: String.to_atom(name)) == NetRunner.Result.causes()
  end

  test "nothing that a command wrote or was given reaches a terminal as a control character" do
    evil = "a\e[2J\a\r\b\d" <> <<0x9B::utf8>>
    shown = ~S(a\x1B[2J\x07\x0D\x08\x7F\xC2\x9B)

    message =
      Exception.message(%NetRunner.ExitError{
        cmd: [evil, "new\nline"],
        exit: {:exited, 1},
        cd: evil,
        env: [evil],
        stderr: evil <> "\n\tb"
      })

    assert message == """
           '#{shown}' 'new\\x0Aline' exited with status 1
           in '#{shown}', with '#{shown}' set
           stderr ended with:
           #{shown}
           \tb\
           """

    assert Exception.message(%NetRunner.Error{reason: {:file, evil, :eacces}, cmd: [evil]}) =~
             "'#{shown}': cannot open or write '#{shown}': permission denied"
  end
end
