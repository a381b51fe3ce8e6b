defmodule NetRunner.FilesTest do
  # stdin, stdout and stderr that are files, /dev/null or the BEAM's own: nothing of them passes through
  # the BEAM.
  use NetRunner.Test.Case

  alias NetRunner.Test.OtherBeam

  defp file(name, content) do
    path = tmp_path(name)
    File.write!(path, content)
    path
  end

  describe "a file as stdin" do
    test "is read by the command itself" do
      path = file("in", "from the file")
      assert NetRunner.run(["cat"], input: {:file, path}) == {"from the file", 0}
      assert {:ok, %{stats: %{stdin: nil}}} = NetRunner.exec(["cat"], input: {:file, path})
      assert Enum.join(NetRunner.stream!(["cat"], input: {:file, path})) == "from the file"

      assert NetRunner.run(["stat", "-L", "-c", "%n", "/dev/stdin"], input: {:file, path}) ==
               {"/dev/stdin\n", 0}

      assert NetRunner.run(["readlink", "/proc/self/fd/0"], input: {:file, path}) ==
               {path <> "\n", 0}
    end

    test "is relative to the BEAM's directory, not to cd:" do
      path = file("in", "here")

      File.cd!(Path.dirname(path), fn ->
        assert NetRunner.run(["cat"], input: {:file, "in"}, cd: "/") == {"here", 0}
      end)
    end

    test "cannot be written to by the process" do
      {:ok, p} = NetRunner.Process.start("cat", [], input: {:file, file("in", "x")})
      assert NetRunner.Process.write(p, "y") == {:error, :closed}
      assert NetRunner.Process.close_stdin(p) == {:error, :closed}
      assert NetRunner.Process.read(p) == {:ok, "x"}
      NetRunner.Process.stop(p)
    end
  end

  describe "a file as stdout" do
    test "is written by the command itself: truncated, or appended to" do
      path = file("out", "what was there before")
      assert NetRunner.run(["echo", "1"], stdout: {:file, path}) == {"", 0}
      assert File.read!(path) == "1\n"
      assert NetRunner.run(["echo", "2"], stdout: {:file, path, [:append]}) == {"", 0}
      assert File.read!(path) == "1\n2\n"

      assert {:ok, %{stdout: "", stats: %{stdout: nil}}} =
               NetRunner.exec(["echo", "3"], stdout: {:file, path})

      assert NetRunner.run(["echo"], stdout: {:file, path}, into: [], lines: true) == {[], 0}
      assert Enum.to_list(NetRunner.stream!(["echo", "4"], stdout: {:file, path})) == []
      assert File.read!(path) == "4\n"
    end

    test "is made with the mode that was given" do
      path = tmp_path("out")
      assert NetRunner.run(["true"], stdout: {:file, path, mode: 0o640}) == {"", 0}
      assert Bitwise.band(File.stat!(path).mode, 0o7777) == 0o640
    end

    test "with a merged stderr has both, in order" do
      path = tmp_path("out")
      script = ["sh", "-c", "echo 1; echo 2 >&2; echo 3"]
      assert NetRunner.run(script, stdout: {:file, path}, stderr: :merge) == {"", 0}
      assert File.read!(path) == "1\n2\n3\n"
    end

    test "as large as it likes, with little memory and no bytes through the BEAM" do
      path = tmp_path("out")
      {before, _} = :erlang.statistics(:io)
      cmd = ["head", "-c", "300000000", "/dev/zero"]
      assert NetRunner.run(cmd, stdout: {:file, path}) == {"", 0}
      assert File.stat!(path).size == 300_000_000
      assert {^before, _} = :erlang.statistics(:io)
    end
  end

  describe "a file as stderr" do
    test "is apart from stdout" do
      path = tmp_path("err")
      script = ["sh", "-c", "echo out; echo err >&2; exit 3"]
      assert NetRunner.run(script, stderr: {:file, path}) == {"out\n", 3}
      assert NetRunner.run(script, stderr: {:file, path, [:append]}) == {"out\n", 3}
      assert File.read!(path) == "err\nerr\n"

      error =
        assert_raise NetRunner.ExitError, fn -> NetRunner.run!(script, stderr: {:file, path}) end

      assert error.stderr == ""
    end
  end

  describe "a file that cannot be opened" do
    test "is an error of the start that names it" do
      missing = tmp_path("missing/deeper")
      dir = Path.dirname(Path.dirname(missing))

      for {opts, path, posix} <- [
            {[input: {:file, missing}], missing, :enoent},
            {[stdout: {:file, missing}], missing, :enoent},
            {[stderr: {:file, missing, [:append]}], missing, :enoent},
            {[stdout: {:file, dir}], dir, :eisdir},
            {[input: {:file, "/" <> String.duplicate("x", 300)}],
             "/" <> String.duplicate("x", 300), :enametoolong}
          ] do
        expected = {:error, {:file, path, posix}}
        assert NetRunner.run(["cat"], opts) == expected
        assert NetRunner.exec(["cat"], opts) == expected
        assert NetRunner.Process.start("cat", [], opts) == expected

        error =
          assert_raise NetRunner.Error, fn -> Enum.to_list(NetRunner.stream!(["cat"], opts)) end

        assert error.reason == elem(expected, 1)
        assert Exception.message(error) =~ "cat: cannot open #{path}: "
      end
    end

    test "leaves what it was asked to truncate alone if an earlier one fails" do
      path = file("out", "precious")

      assert {:error, {:file, _, :enoent}} =
               NetRunner.run(["cat"], input: {:file, "/no/such"}, stdout: {:file, path})

      assert File.read!(path) == "precious"
    end
  end

  describe "a FIFO" do
    setup do
      path = tmp_path("fifo")
      {_, 0} = System.cmd("mkfifo", [path])
      {:ok, fifo: path}
    end

    test "is waited for by its own start, and by nobody else", %{fifo: fifo} do
      started = Task.async(fn -> NetRunner.run(["cat"], input: {:file, fifo}) end)
      assert NetRunner.run(["echo", "another"]) == {"another\n", 0}
      assert Task.yield(started, 0) == nil
      # The shell opens the other end: a File.write! here would hold up a thread of this BEAM.
      {_, 0} = System.cmd("sh", ["-c", ~S(echo through >"$1"), "sh", fifo])
      assert Task.await(started) == {"through\n", 0}
    end

    test "does not hold up a storm of other starts", %{fifo: fifo} do
      waiting =
        for _ <- 1..(2 * System.schedulers_online()),
            do: Task.async(fn -> NetRunner.run(["cat"], input: {:file, fifo}) end)

      eventually("they are on their way", fn ->
        NetRunner.Shepherd.info().in_flight == length(waiting)
      end)

      storm = for _ <- 1..300, do: Task.async(fn -> NetRunner.run(["true"]) end)
      assert Enum.all?(Task.await_many(storm, 10_000), &(&1 == {"", 0}))
      {_, 0} = System.cmd("sh", ["-c", ~S(exec 3>"$1"), "sh", fifo])
      for start <- waiting, do: assert({"", 0} = Task.await(start))
    end

    test "that nobody opens is a start that took too long, with nothing left", %{fifo: fifo} do
      back_at_baseline(fn ->
        for opts <- [[input: {:file, fifo}], [stdout: {:file, fifo}], [stderr: {:file, fifo}]] do
          assert NetRunner.run(["cat"], [spawn_timeout: 200] ++ opts) == {:error, :spawn_timeout}
          # Whoever still waited for a writer would be a reader.
          assert {"", 1, no_reader} =
                   NetRunner.run(["dd", "if=/dev/null", "of=" <> fifo, "oflag=nonblock"],
                     env: [LC_ALL: "C"],
                     stderr: :capture
                   )

          assert no_reader =~ "No such device or address"
        end
      end)
    end

    test "that nobody opens is waited for no longer than timeout:", %{fifo: fifo} do
      back_at_baseline(fn ->
        opts = [input: {:file, fifo}, timeout: 200, spawn_timeout: 60_000]
        {us, answer} = :timer.tc(fn -> NetRunner.run(["cat"], opts) end)
        assert answer == {:error, :timeout}
        assert us in 200_000..30_000_000
        # Nothing ran that a result could tell of.
        assert NetRunner.exec(["cat"], opts) == {:error, :timeout}
        assert %NetRunner.Error{reason: :timeout} = catch_error(NetRunner.exec!(["cat"], opts))

        # The shorter of the two is the one that was met.
        opts = [input: {:file, fifo}, timeout: 60_000, spawn_timeout: 200]
        assert NetRunner.run(["cat"], opts) == {:error, :spawn_timeout}
      end)
    end

    test "waited for by many starts at once keeps no thread of the VM", %{fifo: fifo} do
      count = System.schedulers() + :erlang.system_info(:dirty_io_schedulers) + 10

      waiting =
        for _ <- 1..min(count, 40),
            do:
              Task.async(fn ->
                NetRunner.run(["cat"], input: {:file, fifo}, spawn_timeout: 1_000)
              end)

      # A file is read on a dirty I/O scheduler: one must be free.
      assert {:ok, _} = File.read("/proc/self/status")
      assert NetRunner.run(["echo", "free"]) == {"free\n", 0}
      assert Enum.all?(Task.await_many(waiting), &(&1 == {:error, :spawn_timeout}))
    end
  end

  describe "/dev/null" do
    test "takes all and gives nothing" do
      assert NetRunner.run(["yes"], stdout: :discard, timeout: 100) == {:error, :timeout}

      assert NetRunner.run(["sh", "-c", "echo x; echo y >&2"], stdout: :discard, stderr: :capture) ==
               {"", 0, "y\n"}

      {:ok, p} = NetRunner.Process.start("echo", ["x"], stdout: :discard)
      assert NetRunner.Process.read(p) == {:error, :closed}
      assert NetRunner.Process.await_exit(p) == {:ok, 0}
      assert {:ok, %{stdout: nil}} = NetRunner.Process.stats(p)
      NetRunner.Process.stop(p)
    end
  end

  describe "stderr: :inherit" do
    test "is the BEAM's own stderr, which is written to directly" do
      path = tmp_path("stderr")

      OtherBeam.start(
        """
        script = ["sh", "-c", "readlink /proc/self/fd/2 >&2; echo to stderr >&2; echo to stdout"]
        {"to stdout\\n", 0} = NetRunner.run(script, stderr: :inherit)
        ["to stdout\\n"] = Enum.to_list(NetRunner.stream!(script, stderr: :inherit))
        {:ok, p} = NetRunner.Process.start("sh", tl(script), stderr: :inherit)
        {:ok, 0} = NetRunner.Process.await_exit(p)
        {:error, :closed} = NetRunner.Process.read_stderr(p)
        IO.puts("up")
        Process.sleep(:infinity)
        """,
        ["sh", "-c", ~s(exec "$@" 2>>"#{path}"), "sh"]
      )

      assert File.read!(path) == String.duplicate("#{path}\nto stderr\n", 3)
    end

    test "of a BEAM that has none is an error of the start" do
      beam =
        OtherBeam.start(
          """
          IO.puts(inspect(NetRunner.run(["true"], stderr: :inherit)))
          IO.puts(inspect(NetRunner.run(["true"])))
          IO.puts("up")
          Process.sleep(:infinity)
          """,
          ["sh", "-c", ~s(exec "$@" 2>&-), "sh"]
        )

      answer = OtherBeam.read_line(beam)
      # ERTS may have put something else in its place, which is then what is inherited.
      assert answer in ["{:error, :ebadf}", ~s({"", 0})]
      assert OtherBeam.read_line(beam) == ~s({"", 0})
    end
  end
end
