defmodule NetRunner.PtyTest do
  # A command with a terminal: what it finds there, what is typed into it, its size, and real programs that want one.
  # A terminal waits by poll whatever happens; `backend:` decides about a stderr of its own.
  use NetRunner.Test.Case

  alias NetRunner.Process, as: P

  @moduletag :capture_log

  defp mode(:io_uring), do: :auto
  defp mode(:poll), do: :poll

  defp sh(script, opts),
    do: NetRunner.run(["sh", "-c", script], Keyword.put_new(opts, :pty, true))

  defp start!(exe, args, opts) do
    {:ok, p} = P.start(exe, args, Keyword.put_new(opts, :pty, true))
    on_exit(fn -> P.stop(p) end)
    p
  end

  defp bash!(opts \\ []) do
    env = [PS1: "$ ", TERM: "dumb", INPUTRC: "/dev/null", HISTFILE: nil, PROMPT_COMMAND: nil]
    p = start!("bash", ["--norc", "-i"], Keyword.merge([env: env], opts))
    prompt(p)
    p
  end

  # What came before the prompt that nothing follows.
  defp prompt(p) do
    {:ok, {before, "$ "}} = P.await_output(p, ~r/\$ \z/, 10_000)
    before
  end

  defp type(p, line) do
    :ok = P.write(p, line <> "\n")
    {:ok, {"", _echo}} = P.await_output(p, line <> "\r\n", 10_000)
    :ok
  end

  defp stat(os_pid) do
    [_pid_and_comm, rest] = String.split(File.read!("/proc/#{os_pid}/stat"), ") ")
    [_state, _parent, group, session, tty, foreground | _] = String.split(rest)
    {group, session, tty, foreground} = {group, session, tty, foreground}
    Enum.map([group, session, tty, foreground], &String.to_integer/1)
  end

  # The name of who is in the foreground of the terminal in which this process lives.
  defp foreground(os_pid) do
    [_group, _session, _tty, foreground] = stat(os_pid)
    with {:ok, name} <- File.read("/proc/#{foreground}/comm"), do: String.trim(name)
  end

  describe "a terminal" do
    on_backends "is stdin, stdout and stderr, and can be opened by its name" do
      script =
        "test -t 0 && test -t 1 && test -t 2 && : </dev/tty && tty && tty </dev/tty && echo so >/dev/tty"

      back_at_baseline(fn ->
        {output, 0} = sh(script, input: "", backend: mode(backend))
        assert ["/dev/pts/" <> _, "/dev/tty", "so"] = String.split(output, "\r\n", trim: true)
      end)
    end

    on_backends "is the controlling one of the command's session, the command in its foreground" do
      p = start!("cat", [], backend: mode(backend))
      {:ok, os_pid} = P.os_pid(p)
      assert [^os_pid, ^os_pid, tty, ^os_pid] = stat(os_pid)
      assert tty != 0
    end

    test "comes without any other descriptor" do
      assert {output, 0} = NetRunner.run([fixture("show_state")], pty: true, input: "")
      assert output =~ ~r/^fds 0 1 2\r$/m
    end

    test "is none of ours: neither end is left with the BEAM, the zygote or the guardian" do
      p = start!("cat", [], [])
      {:ok, os_pid} = P.os_pid(p)
      {:ok, slave} = File.read_link("/proc/#{os_pid}/fd/0")
      assert "/dev/pts/" <> _ = slave

      for pid <- [System.pid() | shepherds_of(String.to_integer(System.pid()))],
          fd <- Path.wildcard("/proc/#{pid}/fd/*"),
          {:ok, path} <- [File.read_link(fd)] do
        assert path != slave
        # Masters are the BEAM's.
        assert path not in ["/dev/ptmx", "/dev/pts/ptmx"] or "#{pid}" == System.pid()
      end

      assert stat(System.pid()) |> Enum.at(2) != stat(os_pid) |> Enum.at(2)
    end

    on_backends "has the size that was asked for, 24 x 80 otherwise" do
      assert sh("stty size", input: "", backend: mode(backend)) == {"24 80\r\n", 0}

      for {rows, cols} <- [{1, 1}, {50, 132}, {65_535, 65_535}] do
        assert sh("stty size", input: "", backend: mode(backend), pty: [rows: rows, cols: cols]) ==
                 {"#{rows} #{cols}\r\n", 0}
      end
    end

    on_backends "gives back what is typed, unless echo is false" do
      assert NetRunner.run(["cat"], pty: true, input: "hello\n", backend: mode(backend)) ==
               {"hello\r\nhello\r\n", 0}

      assert NetRunner.run(["cat"], pty: [echo: false], input: "hello\n", backend: mode(backend)) ==
               {"hello\r\n", 0}
    end

    on_backends "passes every byte unchanged when it is raw" do
      bytes = :binary.list_to_bin(Enum.to_list(0..255))
      p = start!("cat", [], pty: [raw: true], backend: mode(backend))
      assert P.write(p, bytes) == :ok
      assert P.await_output(p, bytes, 5_000) == {:ok, {"", bytes}}
      # Control characters are bytes like any other.
      assert P.write(p, <<3, 4, 26, 28>>) == :ok
      assert P.await_output(p, <<3, 4, 26, 28>>, 5_000) == {:ok, {"", <<3, 4, 26, 28>>}}
      assert P.alive?(p)
    end

    test "is set up before the command runs" do
      for {pty, modes} <- [
            {true, ["icanon", "isig", "echo", "opost", "onlcr", "icrnl", "iutf8"]},
            {[echo: false], ["icanon", "isig", "-echo", "opost"]},
            {[raw: true], ["-icanon", "-isig", "-echo", "-opost", "-icrnl", "-ixon"]},
            {[raw: true, echo: true], ["-icanon", "-echo"]},
            {[raw: true, raw: false], ["icanon", "echo"]}
          ] do
        {output, 0} = sh("stty -a", input: "", pty: pty)
        assert modes -- String.split(output) == []
      end
    end

    test "is not there unless it was asked for, in the way that is documented" do
      assert NetRunner.run(["tty"], input: "") == {"not a tty\n", 1}
      assert NetRunner.run(["tty"], pty: false, input: "") == {"not a tty\n", 1}
      assert sh("stty size", input: "", pty: []) == {"24 80\r\n", 0}

      assert_raise ArgumentError, ~r/invalid value for :pty: expected .*rows: and cols:/, fn ->
        NetRunner.run(["tty"], pty: [columns: 80])
      end
    end

    test "is never waited for on a ring: demanding that is an error" do
      opts = [pty: true, backend: :io_uring]
      assert {:error, {:backend, why}} = NetRunner.run(["true"], opts)
      # At once, not when it is enumerated.
      assert NetRunner.stream(["true"], opts) == {:error, {:backend, why}}
      assert why =~ "poll"
      assert Exception.message(%NetRunner.Error{reason: {:backend, why}}) =~ "poll"
    end

    test "that cannot be had has an error of its own" do
      error = %NetRunner.Error{reason: {:pty, :enospc}, cmd: ["vim"]}
      assert Exception.message(error) =~ ~r/vim: cannot have a terminal: .*enospc/
    end

    on_backends "shows in the counters like a pipe that has no size" do
      p = start!("cat", [], pty: [echo: false], backend: mode(backend))
      :ok = P.write(p, "hello\n")
      assert {:ok, {_, _}} = P.await_output(p, "hello\r\n", 5_000)
      assert {:ok, %{stdin: stdin, stdout: stdout, stderr: nil}} = P.stats(p)
      assert %{bytes: 6, ops: 1, pipe_bytes: 0, pipe_refused: 0, waits_io_uring: 0} = stdin
      assert %{bytes: 7, pipe_bytes: 0, pipe_refused: 0, waits_io_uring: 0, poll: true} = stdout

      assert %{state: :running, stats: %{stdout: %{bytes: 7}}} =
               Enum.find(NetRunner.list(), &(&1.pid == p))

      table = ExUnit.CaptureIO.capture_io(fn -> NetRunner.top(iterations: 1) end)
      assert table =~ "cat"
      :ok = P.close_stdin(p)
      assert {:ok, %{exit: {:exited, 0}, stderr: "", truncated?: false}} = P.result(p)
    end

    test "with many at once, each is its own" do
      back_at_baseline(fn ->
        1..40
        |> Task.async_stream(
          fn n ->
            {output, 0} =
              sh("tty; echo #{n}; read x; echo $x", input: "in #{n}\n", pty: [echo: false])

            [tty, said, read] = String.split(output, "\r\n", trim: true)
            assert {said, read} == {"#{n}", "in #{n}"}
            tty
          end,
          max_concurrency: 40,
          timeout: 60_000
        )
        |> Enum.each(fn {:ok, "/dev/pts/" <> _} -> :ok end)
      end)
    end
  end

  describe "stdin" do
    test "is /dev/null where nothing is to be read, and a file where one was given" do
      script = "test -t 0; echo $?; readlink /proc/self/fd/0; cat"
      assert sh(script, []) == {"1\r\n/dev/null\r\n", 0}
      assert sh(script, input: :null) == {"1\r\n/dev/null\r\n", 0}

      path = tmp_path("in")
      File.write!(path, "from the file\n")
      assert sh(script, input: {:file, path}) == {"1\r\n#{path}\r\nfrom the file\r\n", 0}
      assert sh(script, input: {:file, path <> "x"}) == {:error, {:file, path <> "x", :enoent}}
    end

    on_backends "ends where its input does, in the middle of a line too, and once" do
      # A second end would end the second cat before it has read its line.
      script = "cat; echo -; cat"

      for {input, first} <- [
            {"a line\n", "a line\r\n"},
            {"no line", "no line"},
            {["a", "b\n", "c"], "ab\r\nc"},
            {fn sink -> Enum.into(["by ", "a sink"], sink) end, "by a sink"},
            {"", ""},
            {[], ""},
            # Ctrl-U throws away what was typed.
            {"gone\x15", ""},
            # A carriage return is a newline there.
            {"a line\r", "a line\r\n"}
          ] do
        {:ok, p} =
          P.start("sh", ["-c", script], pty: [echo: false], input: input, backend: mode(backend))

        assert P.await_output(p, "-\r\n", 5_000) == {:ok, {first, "-\r\n"}}
        assert P.read(p, 10, 50) == {:error, :timeout}
        assert P.alive?(p)
        :ok = P.stop(p)
      end
    end

    on_backends "ends by close_stdin, and goes on: another program may read" do
      p =
        start!("sh", ["-c", "cat; echo first; cat; echo second; cat"],
          pty: [echo: false],
          backend: mode(backend)
        )

      :ok = P.write(p, "one\n")
      assert P.close_stdin(p) == :ok
      assert P.await_output(p, "first\r\n", 5_000) == {:ok, {"one\r\n", "first\r\n"}}
      :ok = P.write(p, "two")
      assert P.close_stdin(p) == :ok
      assert P.await_output(p, "second\r\n", 5_000) == {:ok, {"two", "second\r\n"}}
      # Not behind a line any more: one is enough.
      assert P.close_stdin(p) == :ok
      assert P.await_exit(p, 5_000) == {:ok, 0}
      assert P.close_stdin(p) == :ok
      assert P.write(p, "late") == {:error, :epipe}
      :ok = P.stop(p)
      assert P.close_stdin(p) == {:error, :closed}
    end

    test "ends by the character that the terminal has for it now" do
      p = start!("sh", ["-c", "stty eof ^X; echo set; cat; echo over"], pty: [echo: false])
      {:ok, _} = P.await_output(p, "set\r\n", 5_000)
      :ok = P.write(p, "a\x04b")
      assert P.close_stdin(p) == :ok
      assert P.await_output(p, "over\r\n", 5_000) == {:ok, {"a\x04b", "over\r\n"}}
    end

    test "ends a shell that edits its line itself" do
      p = bash!()
      assert P.close_stdin(p) == :ok
      assert P.await_exit(p, 5_000) == {:ok, 0}
    end

    test "in raw mode is what was given and nothing more" do
      script = "echo ready; dd bs=1 count=5 2>/dev/null | od -An -tx1; echo over; cat"
      {:ok, p} = P.start("sh", ["-c", script], pty: [raw: true], input: <<1, 3, 4, 10, 255>>)
      assert P.await_output(p, "over\n", 5_000) == {:ok, {"ready\n 01 03 04 0a ff\n", "over\n"}}
      assert P.read(p, 10, 50) == {:error, :timeout}
      :ok = P.stop(p)
    end

    # The line discipline holds 4 KiB, what is on the way to it 64 KiB.
    on_backends "takes a mebibyte of lines without loss, echoed or not" do
      lines = for n <- 1..20_000, into: "", do: "line #{n} of a longer text, to be counted\n"
      sum = :crypto.hash(:sha256, lines) |> Base.encode16(case: :lower)

      back_at_baseline(fn ->
        assert {output, 0} =
                 NetRunner.run(["sha256sum"],
                   pty: [echo: false],
                   input: lines,
                   backend: mode(backend),
                   timeout: 60_000
                 )

        assert output == "#{sum}  -\r\n"

        {output, 0} =
          NetRunner.run(["sha256sum"],
            pty: true,
            input: lines,
            backend: mode(backend),
            timeout: 60_000
          )

        assert String.ends_with?(output, "#{sum}  -\r\n")
      end)
    end

    on_backends "makes a writer wait for a program that does not read, and loses nothing" do
      p =
        start!("sh", ["-c", "read x; echo ready; exec cksum"],
          pty: [echo: false],
          backend: mode(backend)
        )

      :ok = P.write(p, "\n")
      {:ok, _} = P.await_output(p, "ready\r\n", 5_000)
      {:ok, os_pid} = P.os_pid(p)
      {_, 0} = System.cmd("kill", ["-STOP", "#{os_pid}"])
      line = String.duplicate("x", 99) <> "\n"
      text = String.duplicate(line, 5_000)
      assert {:error, {:timeout, taken}} = P.write(p, text, 100)
      assert taken > 4096 and taken < byte_size(text)
      {_, 0} = System.cmd("kill", ["-CONT", "#{os_pid}"])
      :ok = P.write(p, binary_part(text, taken, byte_size(text) - taken), 10_000)
      :ok = P.close_stdin(p)
      {expected, 0} = NetRunner.run(["cksum"], input: text)
      assert P.await_output(p, "\r\n", 10_000) == {:ok, {String.trim(expected), "\r\n"}}
    end

    test "has a limit on a line, which is the kernel's: 4095 bytes (docs/limits.md)" do
      input = String.duplicate("a", 5000) <> "\n"
      assert {output, 0} = NetRunner.run(["wc", "-c"], pty: [echo: false], input: input)
      assert String.trim(output) == "4096"
    end
  end

  describe "the end of stdin" do
    test "waits as long as it may for a terminal whose output nobody reads" do
      {:ok, p} = P.start("cat", [], pty: true)
      {:ok, os_pid} = P.os_pid(p)

      # And cat waits for its reader, and not for a processor.
      full? = fn _ ->
        P.write(p, String.duplicate("\n", 1_000), 50) == {:error, {:timeout, 0}} and
          proc_state(os_pid) == "S"
      end

      assert Enum.any?(1..1_000, full?)
      assert {:error, {:timeout, _}} = P.close_stdin(p, 100)
      :ok = P.stop(p)
    end
  end

  describe "stdout and stderr" do
    on_backends "are the terminal, in order, where stderr is not to be told apart" do
      for stderr <- [:consume, :merge] do
        assert sh("echo a; echo b >&2; echo c", stderr: stderr, backend: mode(backend)) ==
                 {"a\r\nb\r\nc\r\n", 0}
      end
    end

    on_backends "are apart where stderr is captured: a pipe, the rest a terminal" do
      script = "test -t 2; echo $?; test -t 1; echo $?; echo err >&2"

      back_at_baseline(fn ->
        assert sh(script, stderr: :capture, backend: mode(backend)) == {"1\r\n0\r\n", 0, "err\n"}
      end)

      tagged =
        NetRunner.stream!(["sh", "-c", script], pty: true, stderr: :tagged, backend: mode(backend))
        |> Enum.group_by(&elem(&1, 0), &elem(&1, 1))

      assert IO.iodata_to_binary(tagged.stdout) == "1\r\n0\r\n"
      assert IO.iodata_to_binary(tagged.stderr) == "err\n"

      p = start!("sh", ["-c", script], stderr: :pipe, backend: mode(backend))
      assert P.read_stderr(p, 100, 5_000) == {:ok, "err\n"}
      assert P.await_output(p, "0\r\n", 5_000) == {:ok, {"1\r\n", "0\r\n"}}
    end

    test "go where they are sent; the terminal is read all the same" do
      path = tmp_path("out")
      script = "echo out; echo err >&2; echo tty >/dev/tty"

      assert sh(script, stdout: {:file, path}, input: "") == {"err\r\ntty\r\n", 0}
      assert File.read!(path) == "out\n"
      assert sh(script, stdout: {:file, path}, stderr: :merge, input: "") == {"tty\r\n", 0}
      assert File.read!(path) == "out\nerr\n"
      assert sh(script, stdout: :discard, input: "") == {"err\r\ntty\r\n", 0}
      assert sh(script, stderr: :discard, input: "") == {"out\r\ntty\r\n", 0}
      assert sh(script, stderr: {:file, path}, input: "") == {"out\r\ntty\r\n", 0}
      assert File.read!(path) == "err\n"

      assert sh("x=$(readlink /proc/$$/fd/1); echo $x >&2", stdout: :discard) ==
               {"/dev/null\r\n", 0}
    end

    test "of a stream are lines by the terminal's ends of them" do
      assert NetRunner.stream!(["printf", ~S(a\nb\n)], pty: true, lines: "\r\n") |> Enum.to_list() ==
               ["a", "b"]
    end

    test "of a daemon, of a NetRunner.Command, of exec and of run! are so, too" do
      assert {"/dev/pts/" <> _, 0} =
               NetRunner.run!(NetRunner.Command.new("tty", [], pty: true, input: ""))

      assert {:ok, %{stdout: "/dev/pts/" <> _, stderr: ""}} =
               NetRunner.exec(["tty"], pty: true, input: "")

      me = self()

      {:ok, d} =
        NetRunner.Daemon.start_link(
          cmd: [
            "sh",
            "-c",
            "test -t 1 && echo a terminal; test -t 2 || echo apart >&2; read x; echo got $x; cat"
          ],
          pty: [echo: false],
          input: :pipe,
          lines: "\n",
          on_output: fn stream, line -> send(me, {stream, line}) end
        )

      assert_receive {:stdout, "a terminal\r"}, 5_000
      assert_receive {:stderr, "apart"}, 5_000
      :ok = NetRunner.Daemon.write(d, "this\n")
      assert_receive {:stdout, "got this\r"}, 5_000
      :ok = GenServer.stop(d)
    end
  end

  describe "the window's size" do
    on_backends "changes while the program runs, which is told by SIGWINCH" do
      p =
        start!(
          "bash",
          [
            "-c",
            ~S[trap 'echo winch; stty size' WINCH; stty size; echo ready; while :; do read -t 0.1 x && echo went $x; done]
          ],
          backend: mode(backend)
        )

      assert {:ok, {"24 80\r\n", _}} = P.await_output(p, "ready\r\n", 5_000)
      assert P.set_window_size(p, 50, 132) == :ok
      assert P.await_output(p, "50 132\r\n", 5_000) == {:ok, {"winch\r\n", "50 132\r\n"}}
      # Its trap is over.
      :ok = P.write(p, "on\n")
      assert {:ok, _} = P.await_output(p, "went on\r\n", 5_000)
      assert P.set_window_size(p, 1, 65_535) == :ok
      assert P.await_output(p, "1 65535\r\n", 5_000) == {:ok, {"winch\r\n", "1 65535\r\n"}}
    end

    test "is a terminal's only, in its range, until the end" do
      {:ok, p} = P.start("cat")
      assert P.set_window_size(p, 24, 80) == {:error, :enotty}
      :ok = P.stop(p)
      {:ok, p} = P.start("cat", [], stdout: :discard)
      assert P.set_window_size(p, 24, 80) == {:error, :enotty}
      :ok = P.stop(p)
      assert P.set_window_size(p, 24, 80) == {:error, :closed}

      p = start!("true", [], [])
      assert P.await_exit(p) == {:ok, 0}
      assert P.set_window_size(p, 24, 80) == {:error, :closed}

      for {rows, cols} <- [{0, 1}, {1, 0}, {65_536, 1}, {1, 65_536}, {1.0, 1}, {nil, 1}] do
        assert_raise ArgumentError, fn -> P.set_window_size(p, rows, cols) end
      end
    end

    test "can be set where stdout is not the terminal" do
      path = tmp_path("out")
      p = start!("sh", ["-c", "read x; stty size"], stdout: {:file, path}, pty: [echo: false])
      assert P.set_window_size(p, 3, 4) == :ok
      :ok = P.write(p, "\n")
      assert P.await_exit(p, 5_000) == {:ok, 0}
      assert File.read!(path) == "3 4\n"
    end
  end

  describe "an interactive shell" do
    on_backends "runs jobs: Ctrl-Z, jobs, fg, Ctrl-C, and its own exit status" do
      {tag, env} = tag()

      back_at_baseline(fn ->
        p =
          bash!(
            backend: mode(backend),
            env: [PS1: "$ ", TERM: "dumb", INPUTRC: "/dev/null"] ++ env
          )

        {:ok, os_pid} = P.os_pid(p)
        :ok = type(p, "sleep 1000")
        eventually("sleep is in the foreground", fn -> foreground(os_pid) == "sleep" end)
        :ok = P.write(p, <<26>>)
        assert prompt(p) =~ ~r/\A\^Z\r\n\[1\]\+ +Stopped +sleep 1000\r\n\z/
        assert foreground(os_pid) == "bash"
        [_group, _session, tty, _foreground] = stat(os_pid)
        assert tty != 0
        :ok = type(p, "jobs")
        assert prompt(p) =~ ~r/\A\[1\]\+ +Stopped +sleep 1000\r\n\z/
        :ok = type(p, "fg")
        assert {:ok, {"", _}} = P.await_output(p, "sleep 1000\r\n", 5_000)
        eventually("sleep is in the foreground again", fn -> foreground(os_pid) == "sleep" end)
        :ok = P.write(p, <<3>>)
        assert prompt(p) =~ ~r/\A\^C\r\n\z/
        :ok = type(p, "echo $?")
        assert prompt(p) == "130\r\n"
        :ok = type(p, "sleep 1001")
        eventually("sleep is in the foreground", fn -> foreground(os_pid) == "sleep" end)
        :ok = P.write(p, <<28>>)
        assert prompt(p) =~ ~r/\A\^\\Quit.*\r\n\z/
        :ok = type(p, "exit 3")
        assert P.await_exit(p, 5_000) == {:ok, 3}
        assert P.read(p) == {:ok, "exit\r\n"}
        assert P.read(p) == :eof
        assert {:ok, %{cause: :exited}} = P.result(p)
        :ok = P.stop(p)
      end)

      assert_gone(tag)
    end

    @tag :subreaper
    on_backends "takes with it what it left in the background, stopped or running" do
      {tag, env} = tag()

      back_at_baseline(fn ->
        p =
          bash!(
            backend: mode(backend),
            env: [PS1: "$ ", TERM: "dumb", INPUTRC: "/dev/null"] ++ env
          )

        :ok = type(p, "sleep 1000 &")
        assert prompt(p) =~ ~r/\A\[1\] \d+\r\n\z/
        :ok = type(p, "sh -c 'kill -STOP $$'")
        assert prompt(p) =~ ~r/Stopped/
        :ok = P.write(p, "exit\nexit\n")
        assert {:ok, _status} = P.await_exit(p, 5_000)
        assert_gone(tag)
        :ok = P.stop(p)
      end)
    end

    on_backends "sees the size before and after it changes" do
      p = bash!(backend: mode(backend))
      :ok = type(p, "stty size")
      assert prompt(p) == "24 80\r\n"
      :ok = P.set_window_size(p, 40, 123)
      :ok = P.write(p, "stty size; trap 'echo w''inch' WINCH\n")
      assert {:ok, _} = P.await_output(p, "40 123\r\n", 5_000)
      prompt(p)
      :ok = P.set_window_size(p, 41, 123)
      :ok = P.write(p, "\n")
      assert {:ok, _} = P.await_output(p, "winch\r\n", 5_000)
    end

    test "that ignores SIGTERM is ended by stop at once: its terminal is closed" do
      back_at_baseline(fn ->
        {:ok, p} = P.start("bash", ["--norc", "-i"], pty: true, kill_timeout: 20_000)
        {:ok, _} = P.await_output(p, ~r/[$#] \z/, 5_000)
        {us, :ok} = :timer.tc(fn -> P.stop(p) end)
        assert us < 10_000_000
      end)
    end
  end

  describe "an editor" do
    @describetag :vim
    on_backends "changes a file by the keys it is given" do
      path = tmp_path("text")
      File.write!(path, "first line\nsecond line\n")
      vim = System.find_executable("vim.tiny") || System.find_executable("vim")
      args = ["-u", "NONE", "-i", "NONE", "-n", "--noplugin", path]

      back_at_baseline(fn ->
        {:ok, p} =
          P.start(vim, args,
            pty: [rows: 10, cols: 120],
            env: [TERM: "xterm"],
            backend: mode(backend)
          )

        assert {:ok, _} = P.await_output(p, "second line", 10_000)

        # The screen has as many rows as was said: tildes below the text, and the last for messages.
        :ok = P.write(p, "Goa third one\e")
        assert {:ok, _} = P.await_output(p, "a third one", 10_000)
        :ok = P.set_window_size(p, 20, 120)
        assert {:ok, _} = P.await_output(p, "\e[19;1H~", 10_000)
        :ok = P.write(p, ":set lines?\r")
        assert {:ok, _} = P.await_output(p, "lines=20", 10_000)
        :ok = P.write(p, ":1s/first/1st/\r:wq\r")
        assert P.await_exit(p, 10_000) == {:ok, 0}
        :ok = P.stop(p)
      end)

      assert File.read!(path) == "1st line\nsecond line\na third one\n"
    end
  end
end
