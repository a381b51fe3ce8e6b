defmodule NetRunner.TeeTest do
  # A tee: what passes is also written to a file, or to a command beside the stream. (The program that does it has its
  # own tests, test/c/test_tee.c.)
  use NetRunner.Test.Case

  import NetRunner, only: [exec: 2, pipeline: 1, run: 1, run: 2, run!: 2, stream!: 2]

  alias NetRunner.Command

  @bytes :crypto.strong_rand_bytes(3_000_001)

  describe "to a file" do
    on_backends "the stream and the copy are both whole" do
      path = tmp_path("copy")

      assert run(pipeline([["cat"], {:tee, path}, ["cat"]]), input: @bytes, backend: backend) ==
               {@bytes, 0}

      assert File.read!(path) == @bytes

      assert run(pipeline([["cat"], {:tee, path}]), input: @bytes, backend: backend) ==
               {@bytes, 0}

      assert File.read!(path) == @bytes
    end

    on_backends "is an option of stdout:, for one command and for a pipeline" do
      path = tmp_path("copy")
      opts = [input: @bytes, stdout: {:tee, path}, backend: backend]
      assert run(["cat"], opts) == {@bytes, 0}
      assert File.read!(path) == @bytes
      assert ["cat"] |> stream!(opts) |> Enum.join() == @bytes
      assert run(pipeline([["cat"], ["gzip"], ["gunzip"]]), opts) == {@bytes, 0}
      assert File.read!(path) == @bytes

      assert run(Command.new("seq", ["3"], stdout: {:tee, path}), lines: true) ==
               {["1", "2", "3"], 0}

      assert File.read!(path) == "1\n2\n3\n"
    end

    test "may append, and has the mode that is asked for" do
      path = tmp_path("copy")
      opts = [:append, mode: 0o600]

      for _ <- 1..2,
          do: assert(run(["echo", "x"], stdout: {:tee, path, opts}, umask: 0) == {"x\n", 0})

      assert File.read!(path) == "x\nx\n"
      assert Bitwise.band(File.stat!(path).mode, 0o777) == 0o600
      assert run(pipeline([["echo", "y"], {:tee, path, opts}, ["wc", "-c"]])) == {"2\n", 0}
      assert File.read!(path) == "x\nx\ny\n"
    end

    test "takes merged words along" do
      path = tmp_path("copy")
      opts = [stdout: {:tee, path}, stderr: :merge]
      assert run(["sh", "-c", "echo out; echo err >&2"], opts) == {"out\nerr\n", 0}
      assert File.read!(path) == "out\nerr\n"
    end

    test "is a stage of its own in the result, and the command still says how it ended" do
      path = tmp_path("copy")
      {:ok, result} = exec(["sh", "-c", "echo x; exit 3"], stdout: {:tee, path})

      assert {result.stdout, result.exit, result.cmd} ==
               {"x\n", {:exited, 3}, ["sh", "-c", "echo x; exit 3"]}

      assert result.stderr == ""
      {:ok, result} = exec(["sh", "-c", "echo x; echo warn >&2"], stdout: {:tee, path})
      assert {result.cmd, result.stderr} == {["sh", "-c", "echo x; echo warn >&2"], "warn\n"}
      assert run!(["grep", "x", "/dev/null"], ok: [0, 1], stdout: {:tee, path}) == {"", 1}
      {:ok, result} = exec(["sh", "-c", "echo x; exit 3"], stdout: {:tee, path})

      assert Enum.map(result.stages, &{hd(&1.cmd), &1.exit}) == [
               {"sh", {:exited, 3}},
               {"tee", {:exited, 0}}
             ]
    end

    test "has none of the command's limits and environment" do
      path = tmp_path("copy")
      # The command itself writes into a pipe.
      opts = [stdout: {:tee, path}, rlimits: [fsize: 1_000], cd: "/tmp", env: [A: "1"]]
      numbers = ["seq", "100000"]
      assert {output, 0} = run(numbers, opts)
      assert File.read!(path) == output
      task = Task.async(fn -> run(["sleep", "60"], opts ++ [timeout: 20_000]) end)
      mine = fn -> Enum.filter(NetRunner.list(), &(&1.owner == task.pid)) end
      [_sleep, tee] = eventually("both run", fn -> length(mine.()) == 2 and mine.() end)
      assert environ(tee.os_pid) == []
      assert File.read_link!("/proc/#{tee.os_pid}/cwd") == File.cwd!()
      Task.shutdown(task, :brutal_kill)
    end

    on_backends "that somebody kills is who is named" do
      back_at_baseline(fn ->
        path = tmp_path("copy")
        stages = pipeline([["yes"], {:tee, path}, ["cat"]])
        opts = [stdout: :discard, backend: backend]

        task =
          Task.async(fn -> assert_raise(NetRunner.ExitError, fn -> run!(stages, opts) end) end)

        tee? = &(&1.owner == task.pid and Path.basename(hd(&1.cmd)) == "tee")

        [tee] =
          eventually("it runs", fn -> with [] <- Enum.filter(NetRunner.list(), tee?), do: nil end)

        eventually("it is fed", fn -> match?({:ok, %{size: n}} when n > 0, File.stat(path)) end)
        {_, 0} = System.cmd("kill", ["-KILL", "#{tee.os_pid}"])
        assert Exception.message(Task.await(task)) =~ ~r/^tee .*copy.* was ended by SIGKILL/
      end)
    end

    on_backends "that cannot be opened keeps all from running" do
      path = "/no-such-directory/copy"

      assert run(["yes"], stdout: {:tee, path}, backend: backend) ==
               {:error, {:file, path, :enoent}}
    end

    on_backends "that cannot be written to is an error, and never looks whole; the stream is" do
      back_at_baseline(fn ->
        numbers = ["seq", "100000"]
        opts = [stdout: {:tee, "/dev/full"}, backend: backend]
        full = {:file, "/dev/full", :enospc}
        {:ok, result} = exec(numbers, opts)
        assert {result.cause, result.error} == {:io_error, full}
        assert result.stdout == numbers |> run() |> elem(0)
        assert run(numbers, opts) == {:error, full}
        assert_raise NetRunner.Error, ~r/full.*no space left/, fn -> run!(numbers, opts) end

        assert_raise NetRunner.Error, ~r/full.*no space left/, fn ->
          assert numbers |> stream!(opts) |> Enum.each(&send(self(), {:chunk, &1}))
        end

        assert_received {:chunk, "1\n2\n" <> _}
      end)
    end

    on_backends "whose stdout cannot be written to says that, and not the copy's name" do
      back_at_baseline(fn ->
        copy = tmp_path("copy")
        numbers = ["seq", "100000"]
        opts = [stdout: {:file, "/dev/full", [:append]}, backend: backend]
        full = {:file, "/dev/full", :enospc}

        for tee <- [{:tee, copy}, {:tee, ["cat"]}] do
          {:ok, result} = exec(pipeline([numbers, tee]), opts)
          assert {result.cause, result.error} == {:io_error, full}
          assert run(pipeline([numbers, tee]), opts) == {:error, full}
        end
      end)
    end

    @tag :slow
    on_backends "has all that was read of it, when the stream is halted or ends by a limit" do
      path = tmp_path("copy")
      opts = [stdout: {:tee, path}, backend: backend]

      back_at_baseline(fn ->
        for _ <- 1..20 do
          read = ["yes"] |> stream!(opts) |> Enum.take(3) |> Enum.join()
          assert String.starts_with?(File.read!(path), read)
          {:ok, result} = exec(["yes"], [max_output_size: 300_000] ++ opts)
          assert String.starts_with?(File.read!(path), result.stdout)
        end
      end)
    end

    @tag :slow
    on_backends "has the last words of a command that is stopped, and so has its reader" do
      path = tmp_path("copy")
      bye = ["sh", "-c", "trap 'echo bye; exit 7' TERM; echo x; sleep 60 & wait"]
      {:ok, result} = exec(bye, stdout: {:tee, path}, timeout: 1_500, backend: backend)
      assert {result.stdout, result.cause, result.cmd} == {"x\nbye\n", :timeout, bye}
      assert File.read!(path) == "x\nbye\n"
      idle = bye |> stream!(stdout: {:tee, path}, idle_timeout: 300, backend: backend)
      assert_raise NetRunner.Error, ~r/^sh -c .*timed out/, fn -> Stream.run(idle) end
    end

    @tag :slow
    on_backends "has the last words of a command that was given a longer grace of its own" do
      path = tmp_path("copy")
      script = "trap 'sleep 0.5; echo bye; exit' TERM; echo x; sleep 60 & wait"
      bye = Command.new("sh", ["-c", script], kill_timeout: 10_000)
      opts = [timeout: 1_500, kill_timeout: 100, backend: backend]

      # The tee reads on behind a command that has gone, too.
      for {stages, tee} <- [
            {[bye, {:tee, path}], []},
            {[["true"], bye], [stdout: {:tee, path}]},
            {[bye, {:tee, ["cat"]}, {:tee, path}], []}
          ] do
        {:ok, result} = exec(pipeline(stages), tee ++ opts)
        assert {result.stdout, result.cause} == {"x\nbye\n", :timeout}
        assert File.read!(path) == "x\nbye\n"
      end
    end

    @tag :slow
    on_backends "ends with its owner at once, whoever does not read" do
      back_at_baseline(fn ->
        me = self()
        path = tmp_path("copy")

        {owner, monitor} =
          spawn_monitor(fn ->
            ["yes"]
            |> stream!(stdout: {:tee, path}, backend: backend)
            |> Enum.each(fn _chunk -> send(me, :read) && receive(do: (:never -> :ok)) end)
          end)

        assert_receive :read
        mine = fn -> Enum.filter(NetRunner.list(), &(&1.owner == owner)) end
        assert length(mine.()) == 2
        Process.exit(owner, :kill)
        assert_receive {:DOWN, ^monitor, :process, ^owner, :killed}
        # The grace is five seconds.
        eventually("both are gone", 3_000, fn -> mine.() == [] end)

        # A collectable that raises, as well.
        began = System.monotonic_time(:millisecond)
        breaks = %{File.stream!("/no-such-directory/file") | raw: false}

        assert_raise File.Error, fn ->
          run(["yes"], stdout: {:tee, path}, into: breaks, backend: backend)
        end

        assert System.monotonic_time(:millisecond) - began < 3_000
      end)
    end

    test "is opened as files are, by whoever runs the command" do
      path = tmp_path("copy")

      root? = System.cmd("id", ["-u"]) == {"0\n", 0}

      case run(["id", "-un"], user: "nobody", cd: "/", stdout: {:tee, path}) do
        {"nobody\n", 0} -> assert File.stat!(path).uid == 0
        # The portable build has no users to give.
        {:error, {:user, :enosys}} -> assert NetRunner.Nif.build() == :portable
        {:error, {:user, :eperm}} -> refute root?
      end
    end

    @tag :slow
    test "is held up by its reader, and holds up the writer" do
      path = tmp_path("copy")
      me = self()

      task =
        Task.async(fn ->
          ["yes"]
          |> stream!(stdout: {:tee, path})
          |> Enum.each(fn _chunk ->
            send(me, :one)
            receive do: (:go_on -> :ok)
          end)
        end)

      assert_receive :one
      # Pipes full, nothing moves: the file stays as it is.
      held = eventually("the copy stands still", 10_000, fn -> still(path) end)
      # The two pipes, what was read, and what the tee has in its hands: not more.
      assert held < 8 * 1024 * 1024
      Task.shutdown(task, :brutal_kill)
    end
  end

  # Its size, if it is the same half a second later.
  defp still(path) do
    size = File.stat!(path).size

    receive do
    after
      500 -> if File.stat!(path).size == size, do: size
    end
  end

  describe "to a command" do
    on_backends "both get all of it" do
      sum = tmp_path("sum")
      beside = Command.new("sha256sum", [], stdout: {:file, sum})

      assert run(pipeline([["cat"], {:tee, beside}, ["cat"]]), input: @bytes, backend: backend) ==
               {@bytes, 0}

      expected = Base.encode16(:crypto.hash(:sha256, @bytes), case: :lower)
      assert File.read!(sum) == expected <> "  -\n"
    end

    on_backends "that takes no more is left behind" do
      back_at_baseline(fn ->
        stages = pipeline([["cat"], {:tee, ["head", "-c", "1"]}, ["cat"]])
        assert run(stages, input: @bytes, backend: backend) == {@bytes, 0}
      end)
    end

    test "several times, and to files as well" do
      [a, b, c] = for name <- ~w(a b c), do: tmp_path(name)
      to = &Command.new("cat", [], stdout: {:file, &1})
      stages = [["cat"], {:tee, to.(a)}, {:tee, b}, ["cat"], {:tee, to.(c)}]
      assert run(pipeline(stages), input: @bytes) == {@bytes, 0}
      for path <- [a, b, c], do: assert(File.read!(path) == @bytes)
    end

    on_backends "that fails is a failure of the pipeline" do
      stages =
        pipeline([
          ["cat"],
          {:tee, ["sh", "-c", "cat >/dev/null; echo no >&2; exit 4"]},
          ["wc", "-c"]
        ])

      {:ok, result} = exec(stages, input: "abc", backend: backend)
      assert {result.stdout, result.exit, result.stderr} == {"3\n", {:exited, 4}, "no\n"}
      assert Enum.map(result.stages, &hd(&1.cmd)) == ["cat", "tee", "sh", "wc"]

      assert_raise NetRunner.ExitError, ~r/exited with status 4/, fn ->
        run!(stages, input: "abc")
      end

      ok = Command.new("sh", ["-c", "cat >/dev/null; exit 4"], ok: [0, 4])
      assert run!(pipeline([["cat"], {:tee, ok}, ["cat"]]), input: "abc") == {"abc", 0}
    end

    @tag :slow
    on_backends "that is slow holds up the stream" do
      back_at_baseline(fn ->
        # It reads nothing: the stream gets what its pipe and the tee's hold, and no more.
        stages = pipeline([["yes"], {:tee, ["sleep", "60"]}, ["cat"]])
        {:ok, result} = exec(stages, timeout: 2_000, backend: backend)
        assert result.cause == :timeout
        assert byte_size(result.stdout) in 1..(8 * 1024 * 1024)
      end)
    end

    test "ends with all the others" do
      back_at_baseline(fn ->
        {tag, env} = tag()
        stages = pipeline([["yes"], {:tee, ["cat"]}, ["cat"]])
        # What runs are yes, cat and cat: the tee's environment is empty.
        assert [_] = stages |> stream!(env: env) |> Enum.take(1)
        assert_gone(tag)
      end)
    end
  end

  test "what cannot be is said" do
    assert_raise ArgumentError, ~r/stdout of a command behind a tee/, fn ->
      run(pipeline([["cat"], {:tee, Command.new("cat", [], stdout: :pipe)}]))
    end

    assert_raise ArgumentError, ~r/a tee is \{:tee, path\}/, fn ->
      run(pipeline([["cat"], {:tee, "x", [:bad]}]))
    end

    assert_raise ArgumentError, ~r/:stdout/, fn -> run(["cat"], stdout: {:tee, :bad}) end

    assert_raise ArgumentError, ~r/stage 2 .*:input, only the first one/, fn ->
      run(pipeline([["cat"], {:tee, Command.new("cat", [], input: "x")}]))
    end

    assert {:error, {:invalid_cmd, "a pipeline begins with a command" <> _}} =
             run(pipeline([{:tee, "x"}]))

    assert {:error, {:invalid_cmd, "stage 2: the path is empty"}} =
             run(pipeline([["cat"], {:tee, ""}]))

    assert {:error, {:invalid, :stdout, _}} = run(["cat"], stdout: {:tee, "x"}, pty: true)

    assert_raise ArgumentError, ~r/:stdout/, fn ->
      NetRunner.Process.start("cat", [], stdout: {:tee, "x"})
    end
  end
end
