defmodule NetRunner.ErrorTest do
  # What people read: every reason of the closed list has a sentence, and commands are quoted as a
  # shell would need them.
  use ExUnit.Case, async: true
  doctest NetRunner.Quote
  doctest NetRunner.Text

  @reasons [
    {{:invalid_cmd, "expected a list"}, "invalid command: expected a list"},
    {{:invalid_args, "argument 1 contains a NUL byte"},
     "invalid arguments: argument 1 contains a NUL byte"},
    {{:invalid, :cd, "contains a NUL byte"}, "invalid :cd: contains a NUL byte"},
    {:enoent, "no such file or directory (enoent)"},
    {:eacces, "permission denied (eacces)"},
    {:enoexec, "exec format error (enoexec)"},
    {:e2big, "argument list too long (e2big)"},
    {:eagain, "resource temporarily unavailable (eagain)"},
    {:emfile, "too many open files (emfile)"},
    {:enfile, "file table overflow (enfile)"},
    {:enomem, "not enough memory (enomem)"},
    {:etxtbsy, "text file or pseudo-device busy (etxtbsy)"},
    {:epipe, "broken pipe (epipe)"},
    {:eunknown, "eunknown"},
    {{:cd, :enoent}, "cannot change directory: no such file or directory (enoent)"},
    {{:user, :eperm}, "cannot take on user and groups: not owner (eperm)"},
    {{:rlimit, :nofile, :eperm}, "cannot set the resource limit nofile: not owner (eperm)"},
    {{:nice, :eacces}, "cannot set nice: permission denied (eacces)"},
    {{:oom_score_adj, :eacces}, "cannot set oom_score_adj: permission denied (eacces)"},
    {{:no_new_privs, :enosys}, "cannot set no_new_privs: function not implemented (enosys)"},
    {:spawn_timeout, "was not started in time"},
    {:shepherd_lost, "the shepherd ended before it could start the command"},
    {{:backend, "refused: eperm"}, "the :io_uring backend cannot be used: refused: eperm"},
    {:timeout, "timed out"},
    {{:timeout, 17}, "writing timed out after 17 bytes"},
    {{:max_output_exceeded, "abc"}, "wrote more than max_output_size: allows"},
    {:guardian_lost, "its guardian was lost, the exit status is not known"},
    {{:line_too_long, 80}, "wrote a line of more than 80 bytes"},
    {{:file, "/a b", :enoent}, "cannot open '/a b': no such file or directory (enoent)"},
    {{:unkillable, [12]}, "cannot be killed: pid 12"},
    {{:unkillable, [12, 13]}, "cannot be killed: pid 12, pid 13"},
    {:not_running, "is not running"},
    {:closed, "is closed"},
    {:busy, "another process uses this end already"}
  ]

  test "every reason has a sentence" do
    for {reason, sentence} <- @reasons do
      assert Exception.message(%NetRunner.Error{reason: reason}) == sentence
    end
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

  test "what is no text is shown as Elixir shows it" do
    assert Exception.message(%NetRunner.Error{reason: :enoent, cmd: [<<"x", 255>>]}) =~
             ~s(<<120, 255>>)
  end

  describe "ExitError" do
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
      assert how.(cause: :timeout) == "gcc 'a b.c' timed out and was ended by SIGTERM"
      assert how.(cause: :idle_timeout) =~ "wrote nothing for too long and was ended by SIGTERM"
      assert how.(cause: :output_limit) =~ "wrote too much and was ended by SIGTERM"
      assert how.(cause: :stopped) =~ "was stopped and was ended by SIGTERM"
      assert how.(cause: :owner_down) =~ "lost its owner and was ended by SIGTERM"
      assert how.(cause: :signaled) == "gcc 'a b.c' was ended by SIGTERM"
      assert message(exit: nil, cause: :guardian_lost) =~ "ended unseen: its guardian was lost"
      assert how.(duration_ms: 9999) == "gcc 'a b.c' was ended by SIGTERM after 9999 ms"
      assert how.(duration_ms: 61_250) == "gcc 'a b.c' was ended by SIGTERM after 61.3 s"
      assert how.(cd: "/a b") == "gcc 'a b.c' was ended by SIGTERM\nin '/a b'"
      assert how.(env: ["A", "B"]) == "gcc 'a b.c' was ended by SIGTERM\nwith A, B set"
      assert how.(cd: "/", env: ["A"]) == "gcc 'a b.c' was ended by SIGTERM\nin /, with A set"
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
             "'#{shown}': cannot open '#{shown}': permission denied"
  end
end
