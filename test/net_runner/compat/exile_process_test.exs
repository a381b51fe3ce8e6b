defmodule NetRunner.Compat.Exile.ProcessTest do
  # The documentation of Exile.Process 0.14.0, sentence by sentence: its examples, and what it says of owners, pipes and
  # ends.
  use NetRunner.Test.Case

  # Thin over what other tests run on every build: twice is enough (the legs one and other).
  @moduletag :slow
  doctest NetRunner.Compat.Exile.Process

  alias NetRunner.Compat.Exile.Process, as: P

  @not_mine {:error, :pipe_closed_or_invalid_caller}

  defp sh(script), do: ["sh", "-c", script]

  defp start!(cmd, opts \\ []) do
    {:ok, p} = P.start_link(cmd, opts)
    p
  end

  describe "the examples" do
    test "read till we get :eof" do
      p = start!(~w(echo hello))
      assert P.read(p, 100) == {:ok, "hello\n"}
      assert P.read(p, 100) == :eof
      assert P.await_exit(p) == {:ok, 0}
    end

    test "run a command without any input or output" do
      assert P.await_exit(start!(sh("exit 1"))) == {:ok, 1}
    end

    test "single process reading and writing to the command" do
      p = start!(sh(~S[while read a; do eval "echo \$(($a))"; done]))
      assert P.write(p, "1 + 1\n") == :ok
      assert P.read(p) == {:ok, "2\n"}
      assert P.write(p, ["2 * 10", " + 1\n"]) == :ok
      assert P.read(p) == {:ok, "21\n"}
      assert P.await_exit(p) == {:ok, 0}
    end

    test "running a command which flush the output on stdin close" do
      p = start!(~w(base64))
      assert P.write(p, "abcdef") == :ok
      assert P.close_stdin(p) == :ok
      assert P.read(p) == {:ok, "YWJjZGVm\n"}
      assert P.read(p) == :eof
      assert P.await_exit(p) == {:ok, 0}
    end

    test "read and write to pipes in separate processes" do
      p = start!(~w(cat))
      me = self()

      # No need to close the pipe explicitly here: it is closed when its owner ends.
      writer =
        Task.async(fn ->
          :ok = P.change_pipe_owner(p, :stdin, self())
          send(me, :changed)
          P.write(p, "Hello World")
        end)

      reader =
        Task.async(fn ->
          :ok = P.change_pipe_owner(p, :stdout, self())
          send(me, :changed)
          P.read(p)
        end)

      assert_receive :changed, 5_000
      assert_receive :changed, 5_000
      assert P.await_exit(p, :infinity) == {:ok, 0}
      assert Task.await(writer) == :ok
      assert Task.await(reader) == {:ok, "Hello World"}
    end

    test "reading from stderr using `read_stderr`, using `read_any`" do
      p = start!(sh("echo Hello; sleep 0.1; echo World >&2"), stderr: :consume)
      assert P.read(p, 100) == {:ok, "Hello\n"}
      assert P.read_stderr(p, 100) == {:ok, "World\n"}
      assert P.await_exit(p) == {:ok, 0}

      p = start!(sh("echo Hello; sleep 0.1; echo World >&2"), stderr: :consume)
      assert P.read_any(p) == {:ok, {:stdout, "Hello\n"}}
      assert P.read_any(p) == {:ok, {:stderr, "World\n"}}
      assert P.read_any(p) == :eof
      assert P.await_exit(p) == {:ok, 0}
    end

    test "143 is the exit status when command exit due to SIGTERM" do
      p = start!(~w(sleep 100000000))
      {us, answer} = :timer.tc(fn -> P.await_exit(p, 100) end)
      assert answer == {:ok, 143}
      assert div(us, 1000) in 100..2_000
    end
  end

  describe "options" do
    test "`cd`, `env`" do
      p = start!(sh("pwd; echo $NR_A"), cd: "/", env: [{"NR_A", "1"}])
      assert read_all(p, "") == "/\n1\n"
    end

    test "`stderr` - `:redirect_to_stdout`, `:disable`, `:console`" do
      script = "echo out; echo err >&2"
      all = fn p -> read_all(p, "") end
      assert all.(start!(sh(script), stderr: :redirect_to_stdout)) == "out\nerr\n"
      assert all.(start!(sh(script), stderr: :disable)) == "out\n"
      {:ok, here} = File.read_link("/proc/self/fd/2")
      assert all.(start!(sh("readlink /proc/$$/fd/2"))) == here <> "\n"
    end

    defp read_all(p, read) do
      case P.read(p) do
        {:ok, bytes} -> read_all(p, read <> bytes)
        :eof -> with {:ok, 0} <- P.await_exit(p), do: read
      end
    end

    test "`stderr` - pipe must be enabled with `stderr: :consume` to read the data" do
      p = start!(~w(cat))
      assert P.read_stderr(p) == @not_mine
      assert P.close_stderr(p) == @not_mine
      assert P.await_exit(p) == {:ok, 0}
    end

    test "that are unknown, or of a wrong type, raise and are named; a command that is not there is an error" do
      for opts <- [[foo: 1], [cd: 1], [stderr: :elsewhere], [input: ["x"]]] do
        error = assert_raise ArgumentError, fn -> P.start_link(["true"], opts) end
        assert error.message =~ inspect(hd(Keyword.keys(opts)))
      end

      assert P.start_link(["no-such-program"]) == {:error, :enoent}
      # The caller is linked to nothing, and has no message.
      assert Process.info(self(), :messages) == {:messages, []}
    end
  end

  describe "owner" do
    test "linked: when the process dies abnormally the owner will be killed too" do
      Process.flag(:trap_exit, true)
      %P{pid: pid} = p = start!(~w(sleep 60))
      os_pid = P.os_pid(p)
      Process.exit(pid, :kill)
      assert_receive {:EXIT, ^pid, :killed}, 5_000
      eventually("its command is gone", 10_000, fn -> not running?(os_pid) end)
    end

    test "when owner dies (normally or abnormally) the process is always terminated" do
      for reason <- [:normal, :oops] do
        {tag, env} = tag()
        me = self()

        back_at_baseline(fn ->
          {owner, monitor} =
            spawn_monitor(fn ->
              p = start!(sh("sleep 60 & wait"), env: env)
              send(me, {:os_pid, P.os_pid(p)})
              receive do: (:go -> exit(reason))
            end)

          assert_receive {:os_pid, _os_pid}, 5_000
          eventually("it runs", fn -> length(tagged(tag)) == 2 end)
          send(owner, :go)
          assert_receive {:DOWN, ^monitor, :process, ^owner, ^reason}
          eventually("it is gone", 10_000, fn -> tagged(tag) == [] end)
        end)
      end
    end

    test "only owner can get the exit status of the command" do
      p = start!(~w(true))

      assert_raise ArgumentError, fn ->
        Task.await(Task.async(fn -> catch_it(p) end)) |> raise()
      end

      assert P.await_exit(p) == {:ok, 0}
    end

    defp catch_it(p) do
      P.await_exit(p)
    rescue
      error in ArgumentError -> error
    end
  end

  describe "pipes" do
    test "each has an owner and only that process can write, read or close" do
      p = start!(~w(cat))

      others = fn ->
        [P.write(p, "x"), P.read(p), P.read_any(p), P.close_stdin(p), P.close_stdout(p)]
      end

      assert Task.await(Task.async(others)) == List.duplicate(@not_mine, 5)
      assert P.write(p, "mine") == :ok
      assert P.read(p) == {:ok, "mine"}
      assert P.await_exit(p) == {:ok, 0}
    end

    test "any process can change the pipe owner; the one before is none any more" do
      p = start!(~w(cat))
      me = self()
      other = spawn_link(fn -> receive do: (:end -> :ok) end)
      assert Task.await(Task.async(fn -> P.change_pipe_owner(p, :stdin, other) end)) == :ok
      assert P.write(p, "x") == @not_mine
      assert Task.await(Task.async(fn -> P.change_pipe_owner(p, :stdin, me) end)) == :ok
      assert P.write(p, "x") == :ok
      send(other, :end)
      assert P.read(p) == {:ok, "x"}
      assert P.await_exit(p) == {:ok, 0}
    end

    test "are closed automatically when the pipe owner exit" do
      p = start!(~w(cat))
      Task.await(Task.async(fn -> P.change_pipe_owner(p, :stdin, self()) end))
      assert P.read(p) == :eof
      assert P.change_pipe_owner(p, :stdin, self()) == {:error, :closed}
      assert P.await_exit(p, :infinity) == {:ok, 0}
    end

    test "that are closed early are seen by the command" do
      p = start!(sh("trap '' PIPE; read x; echo y 2>/dev/null || exit 7"))
      assert P.close_stdout(p) == :ok
      assert P.read(p) == @not_mine
      assert P.write(p, "go\n") == :ok
      assert P.await_exit(p, :infinity) == {:ok, 7}
    end

    test "of stderr can be closed, and stdout read on" do
      p = start!(sh("read x; echo out"), stderr: :consume)
      assert P.close_stderr(p) == :ok
      assert P.close_stderr(p) == @not_mine
      assert P.write(p, "go\n") == :ok
      assert P.read_any(p) == {:ok, {:stdout, "out\n"}}
      assert P.read_any(p) == :eof
      assert P.await_exit(p) == {:ok, 0}
    end

    test "block the caller as a mechanism to put back-pressure" do
      p = start!(~w(cat))

      writer =
        Task.async(fn ->
          P.change_pipe_owner(p, :stdin, self()) && P.write(p, :binary.copy("x", 2_000_000))
        end)

      assert Task.yield(writer, 200) == nil
      assert read_some(p, 2_000_000) == :ok
      assert Task.await(writer) == :ok
      assert P.await_exit(p) == {:ok, 0}
    end

    defp read_some(_p, 0), do: :ok

    defp read_some(p, left) do
      {:ok, bytes} = P.read(p)
      read_some(p, left - byte_size(bytes))
    end
  end

  describe "`await_exit/2`" do
    test "closes all of the caller owned pipes: most programs terminate then" do
      for cmd <- [~w(cat), ~w(yes)], do: assert({:ok, _} = P.await_exit(start!(cmd), :infinity))
    end

    test "if the program fails to terminate within the timeout then it will be killed by `SIGTERM`, `SIGKILL` in sequence" do
      p = start!([fixture("ignore_term")])
      assert {:ok, _ready} = P.read(p)
      assert P.await_exit(p, 50) == {:ok, 137}
    end

    test "with `timeout` as `:infinity` does not attempt to forcefully stop the external command" do
      assert P.await_exit(start!(sh("sleep 0.3; exit 5")), :infinity) == {:ok, 5}
    end

    test "if the process already terminated then call returns immediately with exit status" do
      p = start!(sh("exit 3"))
      assert P.read(p) == :eof
      Process.sleep(50)
      assert P.await_exit(p, 0) == {:ok, 3}
    end

    test "leaves nothing behind" do
      back_at_baseline(fn ->
        p = start!(~w(cat), stderr: :consume)
        :ok = P.write(p, "x")
        assert P.read(p) == {:ok, "x"}
        assert P.await_exit(p) == {:ok, 0}
        refute Process.alive?(p.pid)
        assert Process.info(self(), :messages) == {:messages, []}
      end)
    end
  end

  test "`kill/2` - sends a system signal to external program" do
    for {signal, status} <- [sigterm: 143, sigkill: 137] do
      p = start!(~w(sleep 60))
      assert P.kill(p, signal) == :ok
      assert P.await_exit(p) == {:ok, status}
    end
  end

  test "`os_pid/1` - OS pid of the command" do
    p = start!(sh("echo $$; cat"))
    {:ok, text} = P.read(p)
    assert P.os_pid(p) == String.to_integer(String.trim(text))
    assert P.await_exit(p) == {:ok, 0}
  end
end
