defmodule NetRunner.StreamTest do
  # stream!/2 and stream/2: lazy, repeatable, and gone with its enumeration, however that ends.
  use NetRunner.Test.Case

  import NetRunner, only: [stream: 1, stream: 2, stream!: 1, stream!: 2]

  defp sh(script), do: ["sh", "-c", script]

  # The elements that a suspended enumeration still gives.
  defp read_on(continue, read) do
    case continue.({:cont, nil}) do
      {:suspended, [element], continue} -> read_on(continue, [element | read])
      {over, _acc} when over in [:done, :halted] -> Enum.reverse(read)
    end
  end

  describe "the enumerable" do
    on_backends "starts nothing until it is enumerated" do
      path = tmp_path("touched")
      stream = stream!(["touch", path], backend: backend)
      {:ok, same} = stream(["touch", path], backend: backend)
      assert Enum.take(stream, 0) == []
      refute File.exists?(path)
      assert Enum.to_list(stream) == []
      assert File.exists?(path)
      File.rm!(path)
      assert Enum.to_list(same) == []
      assert File.exists?(path)
    end

    on_backends "can be enumerated again: each time is a new run" do
      path = tmp_path("runs")
      stream = stream!(sh("echo x >> #{path}; cat #{path}"), backend: backend)
      assert Enum.join(stream) == "x\n"
      assert Enum.join(stream) == "x\nx\n"
    end

    on_backends "feeds its input anew each time" do
      stream = stream!(["cat"], input: Stream.map(1..3, &"#{&1}"), backend: backend)
      assert Enum.join(stream) == "123"
      assert Enum.join(stream) == "123"
    end

    on_backends "of a command without output is empty" do
      assert Enum.to_list(stream!(["true"], backend: backend)) == []
    end

    on_backends "has the environment and directory of the moment of its enumeration" do
      dir = tmp_path("dir")
      File.mkdir_p!(dir)
      stream = stream!(["pwd"], backend: backend)
      File.cd!(dir, fn -> assert Enum.join(stream) == dir <> "\n" end)
    end

    on_backends "started in one process goes on in another" do
      numbers = Enum.map(1..20_000, &to_string/1)
      stream = stream!(["seq", "20000"], lines: true, backend: backend)
      take_one = fn line, _acc -> {:suspend, [line]} end

      back_at_baseline(fn ->
        {:suspended, ["1"], continue} = Enumerable.reduce(stream, {:cont, []}, take_one)

        rest =
          Task.async(fn ->
            rest = read_on(continue, [])
            assert Process.info(self(), :messages) == {:messages, []}
            rest
          end)

        assert ["1" | Task.await(rest)] == numbers
      end)
    end

    on_backends "is cut off, not ended, for its reader when the process that started it dies" do
      stream = stream!(["sh", "-c", "echo x; exec sleep 60"], exit: :ignore, backend: backend)
      me = self()

      back_at_baseline(fn ->
        starter =
          spawn(fn ->
            send(me, Enumerable.reduce(stream, {:cont, nil}, fn x, _acc -> {:suspend, x} end))
          end)

        monitor = Process.monitor(starter)
        assert_receive {:suspended, "x\n", continue}, 5_000
        assert_receive {:DOWN, ^monitor, :process, ^starter, _}, 5_000
        error = assert_raise NetRunner.Error, fn -> read_on(continue, []) end
        assert error.reason == :closed
      end)
    end

    on_backends "zips with another, each halted when the shorter ends" do
      {tag, env} = tag()
      opts = [backend: backend, env: env]

      back_at_baseline(fn ->
        assert [{<<"y\n", _::binary>>, 1}, {<<_::binary>>, 2}] =
                 Enum.zip(stream!(["yes"], opts), 1..2)

        assert [{<<"a\n", _::binary>>, <<"b\n", _::binary>>}] =
                 stream!(["yes", "a"], opts)
                 |> Stream.zip(stream!(["yes", "b"], opts))
                 |> Enum.take(1)

        assert_gone(tag)
      end)
    end

    on_backends "is gone when a suspended enumeration is given up" do
      {tag, env} = tag()

      back_at_baseline(fn ->
        suspend = fn element, _acc -> {:suspend, element} end

        {:suspended, "y\n" <> _, continue} =
          Enumerable.reduce(stream!(["yes"], env: env, backend: backend), {:cont, nil}, suspend)

        assert [_one] = tagged(tag)
        assert {:halted, :enough} = continue.({:halt, :enough})
        assert_gone(tag)
      end)
    end

    on_backends "is gone when it was halted early, also of a command that ignores TERM" do
      {tag, env} = tag()

      back_at_baseline(fn ->
        for cmd <- [["yes"], [fixture("ignore_term")]] do
          stream = stream!(cmd, env: env, kill_timeout: 50, backend: backend)
          assert [_one] = Enum.take(stream, 1)
          assert_gone(tag)
        end

        # A status other than 0 is no failure of somebody who did not wait for it.
        assert ["x\n"] = Enum.take(stream!(sh("echo x; read y; exit 9"), backend: backend), 1)
      end)
    end

    on_backends "is gone when its consumer raises, and the exception is the consumer's" do
      {tag, env} = tag()
      opts = [env: env, kill_timeout: 50, backend: backend]

      back_at_baseline(fn ->
        for cmd <- [["yes"], [fixture("ignore_term")]] do
          assert_raise KeyError, "mine", fn ->
            Enum.each(stream!(cmd, opts), fn _ -> raise KeyError, message: "mine" end)
          end

          assert catch_throw(Enum.each(stream!(cmd, opts), fn _ -> throw(:ball) end)) == :ball
          assert catch_exit(Enum.each(stream!(cmd, opts), fn _ -> exit(:enough) end)) == :enough
          assert_gone(tag)
        end
      end)
    end

    on_backends "is gone when its consumer is killed" do
      {tag, env} = tag()

      back_at_baseline(fn ->
        me = self()

        {pid, monitor} =
          spawn_monitor(fn ->
            Enum.each(stream!(["yes"], env: env, backend: backend), fn _ ->
              send(me, :started)
              Process.sleep(:infinity)
            end)
          end)

        assert_receive :started, 5_000
        Process.exit(pid, :kill)
        assert_receive {:DOWN, ^monitor, :process, ^pid, :killed}
        eventually("the command is gone", fn -> tagged(tag) == [] end)
      end)
    end
  end

  describe "exit:" do
    on_backends ":raise (the default) raises after the last element" do
      me = self()

      error =
        assert_raise NetRunner.ExitError, fn ->
          Enum.each(stream!(sh("echo a; echo oops >&2; exit 3"), backend: backend), &send(me, &1))
        end

      assert_received "a\n"
      assert error.exit == {:exited, 3}
      assert error.status == 3
      assert error.cmd == sh("echo a; echo oops >&2; exit 3")
      assert error.stderr == "oops\n"
      assert Exception.message(error) =~ "exited with status 3"
      assert Exception.message(error) =~ "oops"

      assert_raise NetRunner.ExitError, fn ->
        Stream.run(stream!(["false"], exit: :raise, backend: backend))
      end
    end

    on_backends ":raise names the signal" do
      error =
        assert_raise NetRunner.ExitError, ~r/SIGKILL/, fn ->
          Stream.run(stream!(sh("kill -KILL $$"), ok: [0, 137], backend: backend))
        end

      assert {error.exit, error.status} == {{:signaled, :sigkill}, 137}
    end

    on_backends ":element gives it last" do
      for {script, exit} <- [
            {"exit 0", {:exited, 0}},
            {"exit 3", {:exited, 3}},
            {"kill -TERM $$", {:signaled, :sigterm}}
          ] do
        stream = stream!(sh("echo a; " <> script), exit: :element, backend: backend)
        assert Enum.to_list(stream) == ["a\n", {:exit, exit}]
      end
    end

    on_backends ":ignore ends in silence" do
      for script <- ["exit 3", "kill -KILL $$"] do
        stream = stream!(sh("echo a; " <> script), exit: :ignore, backend: backend)
        assert Enum.to_list(stream) == ["a\n"]
      end
    end

    on_backends "comes after the end of the command, not of its output" do
      stream = stream!([fixture("close_stdout"), "50"], exit: :element, backend: backend)
      assert Enum.to_list(stream) == ["before\n", {:exit, {:exited, 7}}]
    end
  end

  on_backends "ok: says which exit codes are no failure" do
    run = fn code, ok -> Stream.run(stream!(sh("exit #{code}"), ok: ok, backend: backend)) end
    assert run.(0, [0]) == :ok
    assert run.(3, [0, 3]) == :ok
    assert run.(3, [3]) == :ok
    assert_raise NetRunner.ExitError, fn -> run.(0, [3]) end
    assert_raise NetRunner.ExitError, fn -> run.(0, []) end
    assert_raise NetRunner.ExitError, fn -> run.(1, [0, 3]) end
  end

  describe "the error's stderr" do
    @script "seq 1 5000 >&2; exit 1"
    @stderr Enum.map_join(1..5000, &"#{&1}\n")

    defp stderr_of(opts) do
      error = assert_raise NetRunner.ExitError, fn -> Stream.run(stream!(sh(@script), opts)) end
      error.stderr
    end

    @tag :slow
    test "is none where the server does not answer in time, and the error is what it was" do
      me = self()

      input = fn sink ->
        send(me, {:feeder, self()})
        receive(do: (:go -> Enum.into(["too long"], sink)))
      end

      stream = stream!(["cat"], input: input, lines: true, max_line_length: {3, :error})
      task = Task.async(fn -> catch_error(Enum.to_list(stream)) end)
      assert_receive {:feeder, feeder}, 5_000
      [%{pid: server}] = Enum.filter(NetRunner.list(), &(&1.owner == task.pid))
      :sys.suspend(server)
      send(feeder, :go)

      # It stops the command when it has given up asking.
      eventually("it has raised", 60_000, fn ->
        {:messages, messages} = Process.info(server, :messages)
        Enum.any?(messages, &match?({:"$gen_call", _from, :stop}, &1))
      end)

      :sys.resume(server)
      error = Task.await(task, 15_000)
      assert %NetRunner.Error{reason: {:line_too_long, 3}, stderr: ""} = error
    end

    on_backends "is the tail, of stderr_tail_bytes:" do
      assert stderr_of(backend: backend) == binary_part(@stderr, byte_size(@stderr), -8192)

      for bytes <- [0, 1, 100, 20_000] do
        assert stderr_of(stderr_tail_bytes: bytes, backend: backend) ==
                 binary_part(@stderr, byte_size(@stderr), -bytes)
      end

      assert stderr_of(stderr_tail_bytes: 1_048_576, backend: backend) == @stderr
    end

    on_backends "is empty where it went elsewhere" do
      assert stderr_of(stderr: :discard, backend: backend) == ""
      assert stderr_of(stderr: :merge, backend: backend) == ""
    end
  end

  on_backends "stderr: :merge is in the stream, in order" do
    stream = stream!(sh("echo a; echo b >&2; echo c"), stderr: :merge, backend: backend)
    assert Enum.join(stream) == "a\nb\nc\n"
  end

  describe "stderr: :tagged" do
    on_backends "tells the two apart, each in its order" do
      script = "for i in 1 2 3; do echo out$i; echo err$i >&2; done"
      elements = Enum.to_list(stream!(sh(script), stderr: :tagged, backend: backend))
      of = fn tag -> for {^tag, bytes} <- elements, into: "", do: bytes end
      assert of.(:stdout) == "out1\nout2\nout3\n"
      assert of.(:stderr) == "err1\nerr2\nerr3\n"
      assert Enum.all?(elements, &match?({tag, _} when tag in [:stdout, :stderr], &1))
    end

    on_backends "in lines, of each the last, partial one too" do
      script = "printf 'a\\nb'; printf 'c\\nd' >&2"
      elements = Enum.to_list(stream!(sh(script), stderr: :tagged, lines: true, backend: backend))
      assert for({:stdout, line} <- elements, do: line) == ["a", "b"]
      assert for({:stderr, line} <- elements, do: line) == ["c", "d"]
    end

    on_backends "a flood on one does not hide the other, and leaves nothing in the mailbox" do
      send(self(), :mine)
      stream = stream!(sh("yes >&2 & echo x; wait"), stderr: :tagged, backend: backend)

      back_at_baseline(fn ->
        assert Enum.find(stream, &match?({:stdout, _}, &1)) == {:stdout, "x\n"}

        # What is not asked for may be ready meanwhile: it must not say so to us.
        for _element <- Stream.take(stream, 50),
            do: assert(Process.info(self(), :messages) == {:messages, [:mine]})
      end)

      assert Process.info(self(), :messages) == {:messages, [:mine]}
    end

    on_backends "megabytes through both at once are exact" do
      numbers = Enum.map_join(1..200_000, &"#{&1}\n")

      elements =
        Enum.to_list(
          stream!(sh("seq 200000 & seq 200000 >&2; wait"), stderr: :tagged, backend: backend)
        )

      for tag <- [:stdout, :stderr],
          do: assert(for({^tag, bytes} <- elements, into: "", do: bytes) == numbers)
    end
  end

  describe "lines:" do
    on_backends "are elements, however they lie in the chunks" do
      numbers = Enum.map(1..100_000, &to_string/1)
      opts = [lines: true, backend: backend]
      assert Enum.to_list(stream!(["seq", "100000"], opts)) == numbers
      assert Enum.to_list(stream!(["seq", "100000"], [max_chunk_size: 3] ++ opts)) == numbers
      assert Enum.to_list(stream!(["printf", "a\\n\\nb"], opts)) == ["a", "", "b"]
      assert Enum.to_list(stream!(["true"], opts)) == []
      assert Enum.take(stream!(["yes"], opts), 3) == ["y", "y", "y"]
    end

    on_backends "come before the error of one that is too long" do
      stream =
        stream!(["printf", "a\\nb\\ntoo long\\nc"],
          lines: true,
          max_line_length: {3, :error},
          backend: backend
        )

      me = self()

      error = assert_raise NetRunner.Error, fn -> Enum.each(stream, &send(me, {:line, &1})) end

      assert error.reason == {:line_too_long, 3}
      assert_received {:line, "a"}
      assert_received {:line, "b"}
      refute_received {:line, _}
      assert Enum.take(stream, 2) == ["a", "b"]
    end

    on_backends "and what was said on stderr before a line that is too long is in the error, however soon" do
      stream =
        NetRunner.stream!(["sh", "-c", "echo why >&2; echo 0123456789a"],
          lines: true,
          max_line_length: {10, :error},
          backend: backend
        )

      for _ <- 1..100 do
        error = assert_raise NetRunner.Error, fn -> Stream.run(stream) end
        assert {error.reason, error.stderr} == {{:line_too_long, 10}, "why\n"}
      end
    end

    on_backends "by the other policies of length" do
      line = fn policy ->
        opts = [lines: ";", max_line_length: {2, policy}, backend: backend]
        Enum.to_list(stream!(["printf", "abcde;f"], opts))
      end

      assert line.(:split) == ["ab", "cd", "e", "f"]
      assert line.(:truncate) == ["ab", "f"]
    end
  end

  describe "idle_timeout:" do
    on_backends "stops a command that went silent, and raises" do
      {tag, env} = tag()
      me = self()
      script = "echo x; echo why >&2; sleep 60"
      stream = stream!(sh(script), idle_timeout: 150, env: env, backend: backend)

      back_at_baseline(fn ->
        error = assert_raise NetRunner.Error, fn -> Enum.each(stream, &send(me, &1)) end
        assert %{reason: :timeout, stderr: "why\n"} = error
        assert Exception.message(error) =~ ": timed out\nstderr ended with:\nwhy"
        assert_gone(tag)
      end)

      assert_received "x\n"
    end

    on_backends "does not count the time that the consumer takes" do
      stream =
        stream!(sh("echo a; echo b; sleep 0.05; echo c"),
          idle_timeout: 1_000,
          lines: true,
          backend: backend
        )

      assert Enum.map(stream, fn line ->
               # A consumer that is slower than the time-out: that is what is tested.
               if line == "a", do: Process.sleep(1_100)
               line
             end) == ["a", "b", "c"]
    end
  end

  describe "what goes wrong at the start" do
    test "stream/2 says at once" do
      assert stream(["no-such-program"]) == {:error, :enoent}
      assert stream(["/no/such/program"]) == {:error, :enoent}
      assert stream(["/etc/passwd"]) == {:error, :eacces}
      assert stream(["tool"], env: [{"PATH", ""}]) == {:error, :enoent}
      assert {:error, {:invalid_cmd, _}} = stream([])
      assert {:error, {:invalid_args, _}} = stream(["cat", <<0>>])
      assert {:error, {:invalid, :cd, _}} = stream(["cat"], cd: <<0>>)
      assert {:error, {:invalid, :stderr, _}} = stream(["cat"], stderr: :capture)
    end

    test "stream!/2 raises when it is enumerated, NetRunner.Error with reason and command" do
      for {cmd, opts, reason} <- [
            {["no-such-program", "a b"], [], :enoent},
            {["/etc/passwd"], [], :eacces},
            {["true"], [cd: "/no/such/directory"], {:cd, :enoent}}
          ] do
        stream = stream!(cmd, opts)
        error = assert_raise NetRunner.Error, fn -> Enum.to_list(stream) end
        assert error.reason == reason
        assert error.cmd == cmd
      end
    end

    test "what stream/2 could not see at once raises from its enumerable, too" do
      {:ok, stream} = stream(["true"], cd: "/no/such/directory")
      error = assert_raise NetRunner.Error, fn -> Enum.to_list(stream) end
      assert error.reason == {:cd, :enoent}
    end

    test "stream!/2 raises at once for what no command could be" do
      assert_raise NetRunner.Error, ~r/NUL/, fn -> stream!(["cat", <<0>>]) end
      assert_raise NetRunner.Error, ~r/:cd/, fn -> stream!(["cat"], cd: <<0>>) end
      assert_raise ArgumentError, ~r/:nonsense/, fn -> stream!(["cat"], nonsense: 1) end
      assert_raise ArgumentError, ~r/:timeout/, fn -> stream(["cat"], timeout: 1) end
    end
  end

  on_backends "max_chunk_size: bounds every element" do
    data = Enum.map_join(1..2000, &"#{&1} ")

    for size <- [1, 7, 1000, 1_000_000] do
      chunks = Enum.to_list(stream!(["cat"], input: data, max_chunk_size: size, backend: backend))

      assert IO.iodata_to_binary(chunks) == data
      assert Enum.all?(chunks, &(byte_size(&1) in 1..size))
    end
  end

  describe "input:" do
    on_backends "that raises does so from the stream, after what it had given, the command gone" do
      {tag, env} = tag()
      me = self()

      input =
        Stream.map(1..3, fn
          3 -> raise "of the input"
          n -> "#{n}"
        end)

      back_at_baseline(fn ->
        assert_raise RuntimeError, "of the input", fn ->
          Enum.each(stream!(["cat"], input: input, env: env, backend: backend), &send(me, &1))
        end

        assert_gone(tag)
      end)
    end

    on_backends "may be another stream, whose failure is then this one's" do
      opts = [backend: backend]

      back_at_baseline(fn ->
        inner = stream!(["seq", "1", "20000"], opts)
        upper = stream!(["tr", "0-9", "a-j"], [input: inner] ++ opts)
        outer = stream!(["tail", "-n", "2"], [input: upper] ++ opts)
        assert Enum.join(outer) == "bjjjj\ncaaaa\n"
        assert Enum.join(outer) == "bjjjj\ncaaaa\n"

        failing = stream!(sh("echo x; exit 3"), opts)

        error =
          assert_raise NetRunner.ExitError, fn ->
            Stream.run(stream!(["cat"], [input: failing] ++ opts))
          end

        assert error.status == 3
      end)
    end

    on_backends "of an endless chain is halted as a whole" do
      {tag, env} = tag()
      opts = [backend: backend, env: env]

      back_at_baseline(fn ->
        chain =
          stream!(
            ["cat"],
            [input: stream!(["cat"], [input: stream!(["yes"], opts)] ++ opts)] ++ opts
          )

        assert ["y\n" <> _] = Enum.take(chain, 1)
        eventually("all three are gone", fn -> tagged(tag) == [] end)
      end)
    end
  end

  on_backends "streams nest in Task.async_stream" do
    back_at_baseline(fn ->
      sums =
        stream!(["seq", "1", "20"], backend: backend)
        |> Enum.join()
        |> String.split()
        |> Task.async_stream(
          fn n ->
            stream!(["seq", "1", n], backend: backend)
            |> Enum.join()
            |> String.split()
            |> Enum.map(&String.to_integer/1)
            |> Enum.sum()
          end,
          max_concurrency: 20,
          timeout: 30_000
        )
        |> Enum.map(fn {:ok, sum} -> sum end)

      assert sums == Enum.map(1..20, &div(&1 * (&1 + 1), 2))
    end)
  end

  on_backends "a stream is enumerated by processes at once, each with a run of its own" do
    stream = stream!(["cat"], input: ["same"], backend: backend)

    1..10
    |> Task.async_stream(fn _ -> Enum.join(stream) end, max_concurrency: 10)
    |> Enum.each(&assert &1 == {:ok, "same"})
  end

  on_backends "the last words on stderr are in the error, whatever overtakes them" do
    cmd = ["sh", "-c", "exec 1>&-; echo oops >&2; exit 3"]

    for _ <- 1..300 do
      error =
        assert_raise NetRunner.ExitError, fn ->
          Stream.run(NetRunner.stream!(cmd, backend: backend))
        end

      assert error.stderr == "oops\n"
    end
  end
end
