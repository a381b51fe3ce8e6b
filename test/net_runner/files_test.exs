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
    on_backends "is read by the command itself" do
      path = file("in", "from the file")
      opts = [input: {:file, path}, backend: backend]
      assert NetRunner.run(["cat"], opts) == {"from the file", 0}
      assert {:ok, %{stats: %{stdin: nil}}} = NetRunner.exec(["cat"], opts)
      assert Enum.join(NetRunner.stream!(["cat"], opts)) == "from the file"
      assert NetRunner.run(["readlink", "/proc/self/fd/0"], opts) == {path <> "\n", 0}
    end

    on_backends "is relative to the BEAM's directory, not to cd:" do
      path = file("in", "here")

      File.cd!(Path.dirname(path), fn ->
        assert NetRunner.run(["cat"], input: {:file, "in"}, cd: "/", backend: backend) ==
                 {"here", 0}
      end)
    end

    on_backends "cannot be written to by the process" do
      opts = [input: {:file, file("in", "x")}, backend: backend]
      {:ok, p} = NetRunner.Process.start("cat", [], opts)
      assert NetRunner.Process.write(p, "y") == {:error, :closed}
      assert NetRunner.Process.close_stdin(p) == {:error, :closed}
      assert NetRunner.Process.read(p) == {:ok, "x"}
      NetRunner.Process.stop(p)
    end
  end

  describe "a file as stdout" do
    on_backends "is written by the command itself: truncated, or appended to" do
      path = file("out", "what was there before")
      opts = [stdout: {:file, path}, backend: backend]
      assert NetRunner.run(["echo", "1"], opts) == {"", 0}
      assert File.read!(path) == "1\n"
      append = [stdout: {:file, path, [:append]}, backend: backend]
      assert NetRunner.run(["echo", "2"], append) == {"", 0}
      assert File.read!(path) == "1\n2\n"
      assert {:ok, %{stdout: "", stats: %{stdout: nil}}} = NetRunner.exec(["echo", "3"], opts)
      assert NetRunner.run(["echo"], opts ++ [into: [], lines: true]) == {[], 0}
      assert Enum.to_list(NetRunner.stream!(["echo", "4"], opts)) == []
      assert File.read!(path) == "4\n"
    end

    test "is made with the mode that was given" do
      path = tmp_path("out")
      assert NetRunner.run(["true"], stdout: {:file, path, mode: 0o640}) == {"", 0}
      assert Bitwise.band(File.stat!(path).mode, 0o7777) == 0o640
    end

    on_backends "with a merged stderr has both, in order" do
      path = tmp_path("out")
      script = ["sh", "-c", "echo 1; echo 2 >&2; echo 3"]
      opts = [stdout: {:file, path}, stderr: :merge, backend: backend]
      assert NetRunner.run(script, opts) == {"", 0}
      assert File.read!(path) == "1\n2\n3\n"
    end
  end

  describe "a file as stderr" do
    on_backends "is apart from stdout" do
      path = tmp_path("err")
      script = ["sh", "-c", "echo out; echo err >&2; exit 3"]
      opts = [stderr: {:file, path}, backend: backend]
      assert NetRunner.run(script, opts) == {"out\n", 3}
      append = [stderr: {:file, path, [:append]}, backend: backend]
      assert NetRunner.run(script, append) == {"out\n", 3}
      assert File.read!(path) == "err\nerr\n"
      assert Enum.join(NetRunner.stream!(script, [exit: :ignore] ++ opts)) == "out\n"
      assert File.read!(path) == "err\n"
      error = assert_raise NetRunner.ExitError, fn -> NetRunner.run!(script, opts) end
      assert error.stderr == ""
    end
  end

  describe "a file as stdin, stdout and stderr" do
    # The bytes that this BEAM read and wrote while `fun` ran, and by how many KiB it was larger than before.
    # (`:erlang.statistics(:io)` is of ports only, and knows nothing of what our NIF does. The kernel in turn does not count
    # what a ring has moved: poll is exact, and with io_uring the pipes that are not there have to say the rest.)
    defp cost(fun) do
      beam = System.pid()
      :erlang.garbage_collect()
      # VmHWM begins anew.
      File.write!("/proc/#{beam}/clear_refs", "5")
      {bytes, kb} = {transferred(beam), rss_kb(beam)}
      fun.()
      {transferred(beam) - bytes, rss_peak_kb(beam) - kb}
    end

    on_backends "as large as it likes, with little memory and no bytes through the BEAM" do
      {input, output, errors, links} =
        {tmp_path("in"), tmp_path("out"), tmp_path("err"), tmp_path("links")}

      {_, 0} = System.cmd("truncate", ["-s", "300000000", input])

      script = """
      readlink /proc/$$/fd/0 /proc/$$/fd/1 /proc/$$/fd/2 | cat >"$1"
      head -c 100000000
      exec cat >&2
      """

      # The file that is appended to has something already.
      for {stdout, stderr, sizes} <- [
            {[], [:append], {100_000_000, 200_000_001}},
            {[:append], [], {100_000_001, 200_000_000}}
          ] do
        for path <- [output, errors], do: File.write!(path, "x")

        opts = [
          input: {:file, input},
          stdout: {:file, output, stdout},
          stderr: {:file, errors, stderr}
        ]

        {bytes, kb} =
          cost(fn ->
            cmd = ["sh", "-c", script, "sh", links]
            assert {:ok, result} = NetRunner.exec(cmd, [backend: backend] ++ opts)
            assert %{stdout: "", stderr: "", exit: {:exited, 0}, stats: stats} = result
            send(self(), {:pipes, stats})
          end)

        assert {File.stat!(output).size, File.stat!(errors).size} == sizes
        assert bytes < 1_000_000
        assert kb < 32_000
        assert_received {:pipes, %{stdin: nil, stdout: nil, stderr: nil}}
        assert File.read!(links) == "#{input}\n#{output}\n#{errors}\n"
      end
    end

    test "of a pipe's bytes the same measure tells" do
      opts = [max_output_size: 0, overflow: :head, backend: :poll]

      {bytes, _kb} =
        cost(fn -> {"", 0} = NetRunner.run(["head", "-c", "30000000", "/dev/zero"], opts) end)

      assert bytes >= 30_000_000

      opts = [
        input: List.duplicate(:binary.copy("x", 1_000_000), 30),
        stdout: :discard,
        backend: :poll
      ]

      {bytes, _kb} = cost(fn -> {"", 0} = NetRunner.run(["cat"], opts) end)
      assert bytes >= 30_000_000
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
        assert Exception.message(error) =~ "cat: cannot open or write #{path}: "
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

    on_backends "is waited for by its own start, and by nobody else", %{fifo: fifo} do
      opts = [input: {:file, fifo}, backend: backend]
      started = Task.async(fn -> NetRunner.run(["cat"], opts) end)
      on_their_way(1)
      assert NetRunner.run(["echo", "another"], backend: backend) == {"another\n", 0}
      assert Task.yield(started, 0) == nil
      # The shell opens the other end: a File.write! here would hold up a thread of this BEAM.
      {_, 0} = System.cmd("sh", ["-c", ~S(echo through >"$1"), "sh", fifo])
      assert Task.await(started) == {"through\n", 0}
    end

    on_backends "as stdout or stderr is waited for as well, and written to once somebody reads",
                %{fifo: fifo} do
      for {stream, script, opts, output} <- [
            {:stdout, "echo through; echo err >&2", [stderr: :capture], {"", 0, "err\n"}},
            {:stderr, "echo out; echo through >&2", [], {"out\n", 0}},
            {:stdout, "echo through >&2", [stderr: :merge], {"", 0}}
          ],
          file <- [{:file, fifo}, {:file, fifo, [:append]}] do
        opts = [{stream, file}, {:backend, backend} | opts]
        started = Task.async(fn -> NetRunner.run(["sh", "-c", script], opts) end)
        on_their_way(1)
        assert Task.yield(started, 0) == nil
        assert System.cmd("cat", [fifo]) == {"through\n", 0}
        assert Task.await(started) == output
      end
    end

    # Each start that waits for a FIFO is one, as long as the zygote has not said how it went.
    defp on_their_way(count) do
      eventually("#{count} are on their way", 10_000, fn ->
        %{in_flight: sent, queued: queued} = NetRunner.Shepherd.info()
        sent + queued == count
      end)
    end

    # Who comes to open(2) after the other end was closed again would wait for another. By a port: no start of ours.
    defp open_until_all_have(fifo) do
      sh = System.find_executable("sh")
      script = ~S(exec 3>"$1"; read closed)
      port = Port.open({:spawn_executable, sh}, args: ["-c", script, "sh", fifo])
      on_their_way(0)
      Port.close(port)
    end

    test "does not hold up a storm of other starts", %{fifo: fifo} do
      waiting =
        for _ <- 1..(2 * System.schedulers_online()),
            do: Task.async(fn -> NetRunner.run(["cat"], input: {:file, fifo}) end)

      on_their_way(length(waiting))
      storm = for _ <- 1..300, do: Task.async(fn -> NetRunner.run(["true"]) end)
      assert Enum.all?(Task.await_many(storm, 10_000), &(&1 == {"", 0}))
      open_until_all_have(fifo)
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
      count = min(System.schedulers() + :erlang.system_info(:dirty_io_schedulers) + 10, 40)

      waiting =
        for _ <- 1..count, do: Task.async(fn -> NetRunner.run(["cat"], input: {:file, fifo}) end)

      on_their_way(count)
      # A file is read on a dirty I/O scheduler: one must be free.
      assert {:ok, _} = File.read("/proc/self/status")
      assert NetRunner.run(["echo", "free"]) == {"free\n", 0}
      assert Enum.all?(waiting, &(Task.yield(&1, 0) == nil))
      open_until_all_have(fifo)
      assert Enum.all?(Task.await_many(waiting, 10_000), &(&1 == {"", 0}))
    end
  end

  describe "/dev/null" do
    on_backends "is what a stream is that goes nowhere, and no pipe that somebody reads away" do
      # The command's own look at it, told by a stream that is a pipe.
      for {fd, end_name, given, told_by} <- [
            {0, :stdin, [], :stdout},
            {0, :stdin, [input: :null], :stdout},
            {1, :stdout, [stdout: :discard, stderr: :capture], :stderr},
            {2, :stderr, [stderr: :discard], :stdout}
          ] do
        to = if told_by == :stderr, do: 2, else: 1
        script = ["sh", "-c", "readlink /proc/$$/fd/#{fd} | cat >&#{to}"]
        assert {:ok, told} = NetRunner.exec(script, [backend: backend] ++ given)
        assert {fd, Map.fetch!(told, told_by)} == {fd, "/dev/null\n"}
        assert told.stats[end_name] == nil
      end
    end

    on_backends "takes all and gives nothing" do
      opts = [stdout: :discard, backend: backend]
      assert NetRunner.run(["yes"], opts ++ [timeout: 100]) == {:error, :timeout}
      script = ["sh", "-c", "echo x; echo y >&2"]
      assert NetRunner.run(script, opts ++ [stderr: :capture]) == {"", 0, "y\n"}
      {:ok, p} = NetRunner.Process.start("echo", ["x"], opts)
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

    # ERTS may have put something in its place, /dev/null mostly. That is then what is inherited.
    test "of a BEAM that was started without one is what is there now, and an error if that is nothing" do
      beam =
        OtherBeam.start(
          """
          script = "readlink /proc/$$/fd/2 | cat"
          IO.puts(inspect(File.read_link("/proc/\#{System.pid()}/fd/2")))
          IO.puts(inspect(NetRunner.run(["sh", "-c", script], stderr: :inherit)))
          IO.puts(inspect(NetRunner.run(["true"])))
          IO.puts("up")
          Process.sleep(:infinity)
          """,
          ["sh", "-c", ~s(exec "$@" 2>&-), "sh"]
        )

      expected =
        case beam |> OtherBeam.read_line() |> Code.eval_string() do
          {{:ok, link}, _} -> {link <> "\n", 0}
          {{:error, :enoent}, _} -> {:error, :ebadf}
        end

      assert OtherBeam.read_line(beam) == inspect(expected)
      assert OtherBeam.read_line(beam) == ~s({"", 0})
    end
  end
end
