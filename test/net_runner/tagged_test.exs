defmodule NetRunner.TaggedTest do
  # stdout and stderr as one sequence: which of them each element is from, when it was read, and in which order they come. Streams with
  # stderr: :tagged have more tests in stream_test.exs.
  use NetRunner.Test.Case

  alias NetRunner.Test.Teller

  doctest NetRunner.Tagged

  defp sh(script), do: ["sh", "-c", script]

  # Each line goes to the one or the other, and none before somebody has said that he has seen the one before.
  @turns 40
  @ping_pong """
  i=0
  while [ $i -lt #{@turns} ]; do
    if [ $((i % 2)) = 0 ]; then echo "out $i"; else echo "err $i" >&2; fi
    read seen
    i=$((i + 1))
  done
  """
  # Twice the same one after the other, too.
  @out_of_turn String.replace(@ping_pong, "i % 2", "i / 2 % 2")

  # The input that says so: whenever its process is told to.
  defp acknowledging(to) do
    fn sink ->
      send(to, {:feeder, self()})
      Enum.into(Stream.repeatedly(fn -> receive(do: (:seen -> "\n")) end), sink)
    end
  end

  defp feeder do
    receive do
      {:feeder, feeder} -> feeder
    after
      10_000 -> flunk("nobody feeds")
    end
  end

  defp expected(fun) do
    for i <- 0..(@turns - 1),
        do: if(fun.(i) == 0, do: {:stdout, "out #{i}"}, else: {:stderr, "err #{i}"})
  end

  defp scripts do
    [{@ping_pong, expected(&rem(&1, 2))}, {@out_of_turn, expected(&rem(div(&1, 2), 2))}]
  end

  describe "what was seen before the next was written comes before it," do
    on_backends "in a stream, and its times lie between" do
      for {script, expected} <- scripts() do
        opts = [stderr: {:tagged, :timestamps}, lines: true, backend: backend]
        began = System.monotonic_time()

        {elements, last} =
          sh(script)
          |> NetRunner.stream!([input: acknowledging(self())] ++ opts)
          |> Enum.map_reduce({nil, began}, fn {tag, line, time}, {feeder, seen} ->
            feeder = feeder || feeder()
            now = System.monotonic_time()
            # It was read after the one before was acknowledged, and before this one is.
            assert seen <= time and time <= now
            send(feeder, :seen)
            {{tag, line}, {feeder, now}}
          end)

        assert elements == expected
        assert elem(last, 1) > began
      end
    end

    on_backends "in what is collected" do
      for {script, expected} <- scripts(), stderr <- [:tagged, {:tagged, :timestamps}] do
        me = self()

        task =
          Task.async(fn ->
            opts = [input: acknowledging(me), stderr: stderr, lines: true, backend: backend]
            {NetRunner.run(sh(script), [into: %Teller{to: me}] ++ opts), System.monotonic_time()}
          end)

        feeder = feeder()

        seen =
          for _ <- 1..@turns do
            assert_receive {:element, element}, 10_000
            now = System.monotonic_time()
            send(feeder, :seen)
            {element, now}
          end

        assert {{collected, 0}, over} = Task.await(task)
        assert collected == Enum.map(seen, &elem(&1, 0))
        assert Enum.map(collected, &{elem(&1, 0), elem(&1, 1)}) == expected

        if stderr != :tagged do
          times = Enum.flat_map(seen, fn {{_tag, _line, time}, now} -> [time, now] end)
          assert times == Enum.sort(times)
          assert List.last(times) <= over
        end
      end
    end

    on_backends "in what a daemon hands over" do
      for {script, expected} <- scripts() do
        me = self()
        seen = fn tag, line, time -> send(me, {tag, line, time}) end

        {:ok, daemon} =
          NetRunner.Daemon.start_link(
            cmd: sh(script),
            input: :pipe,
            on_output: seen,
            backend: backend
          )

        lines =
          for _ <- 1..@turns do
            assert_receive {tag, line, time} when tag in [:stdout, :stderr], 10_000
            now = System.monotonic_time()
            _ = NetRunner.Daemon.write(daemon, "\n")
            {{tag, line}, [time, now]}
          end

        assert Enum.map(lines, &elem(&1, 0)) == expected
        times = Enum.flat_map(lines, &elem(&1, 1))
        assert times == Enum.sort(times)
        eventually("it has ended", fn -> not Process.alive?(daemon) end)
      end
    end
  end

  describe "what lies in both outputs" do
    # The first byte is read when the others have not been written.
    @both "printf 1; read seen; printf abc; printf xyz >&2; : > \"$1\"; read seen"

    on_backends "is taken in turn by a stream, the one that was not just read first" do
      written = tmp_path("written")

      {elements, _feeder} =
        ["sh", "-c", @both, "sh", written]
        |> NetRunner.stream!(
          input: acknowledging(self()),
          stderr: :tagged,
          max_chunk_size: 1,
          backend: backend
        )
        |> Enum.map_reduce(nil, fn element, feeder ->
          feeder = feeder || feeder()
          if element == {:stdout, "1"}, do: send(feeder, :seen)
          eventually("all is written", fn -> File.exists?(written) end)
          if element == {:stdout, "c"}, do: send(feeder, :seen)
          {element, feeder}
        end)

      assert elements ==
               [stdout: "1", stderr: "x", stdout: "a", stderr: "y", stdout: "b"] ++
                 [stderr: "z", stdout: "c"]
    end

    on_backends "is collected so, too" do
      written = tmp_path("written")
      me = self()

      task =
        Task.async(fn ->
          NetRunner.run(["sh", "-c", @both, "sh", written],
            input: acknowledging(me),
            stderr: :tagged,
            into: %Teller{to: me, hold?: true},
            backend: backend
          )
        end)

      feeder = feeder()
      assert_receive {:element, {:stdout, "1"}}, 10_000
      send(feeder, :seen)
      eventually("all is written", fn -> File.exists?(written) end)
      for _ <- 1..3, do: send(task.pid, :go_on)
      send(feeder, :seen)
      assert Task.await(task) == {[stdout: "1", stderr: "xyz", stdout: "abc"], 0}
    end
  end

  describe "the times" do
    on_backends "never go back, whoever floods what" do
      script = "seq 20000 & seq 20000 >&2; wait; printf end; printf end >&2"

      for more <- [[], [lines: true]] do
        opts = [stderr: {:tagged, :timestamps}, backend: backend] ++ more
        began = System.monotonic_time()

        for elements <- [
              Enum.to_list(NetRunner.stream!(sh(script), opts)),
              sh(script) |> NetRunner.run(opts) |> elem(0),
              NetRunner.exec!(sh(script), opts).stdout
            ] do
          times = Enum.map(elements, &elem(&1, 2))
          assert times == Enum.sort(times)
          assert hd(times) >= began and List.last(times) <= System.monotonic_time()

          lines = Enum.map(1..20_000, &to_string/1) ++ ["end"]
          separator = if more == [], do: "", else: "\n"

          for tag <- [:stdout, :stderr] do
            of_tag = for {^tag, bytes, _time} <- elements, do: bytes
            assert Enum.join(of_tag, separator) == Enum.join(lines, "\n")
          end
        end
      end
    end

    on_backends "of lines are when their last byte was read; of a last, partial one, when the output ended" do
      me = self()

      # The first half of a line, and of another that never ends, lie there for a while.
      script =
        "printf 'a\\nbeg'; read x; printf 'un\\nrest'; read x; echo e >&2; read x; exec >&-; read x"

      task =
        Task.async(fn ->
          NetRunner.run(sh(script),
            stderr: {:tagged, :timestamps},
            lines: true,
            input: acknowledging(me),
            into: %Teller{to: me},
            backend: backend
          )
        end)

      feeder = feeder()
      go_on = fn -> {System.monotonic_time(), send(feeder, :seen)} |> elem(0) end
      assert_receive {:element, {:stdout, "a", first}}, 10_000
      before_second = go_on.()
      assert_receive {:element, {:stdout, "begun", second}}, 10_000
      before_third = go_on.()
      assert_receive {:element, {:stderr, "e", third}}, 10_000
      before_last = go_on.()
      assert_receive {:element, {:stdout, "rest", last}}, 10_000
      go_on.()

      assert first <= before_second and before_second <= second
      assert second <= before_third and before_third <= third
      assert third <= before_last and before_last <= last
      assert {[_, _, _, _], 0} = Task.await(task)
    end
  end

  describe "what is collected" do
    on_backends "is a list, if nothing else is asked for, with nothing in a captured stderr" do
      cmd = sh("echo out; read x; echo err >&2; exit 3")
      opts = [stderr: :tagged, backend: backend]
      assert {elements, 3} = NetRunner.run(cmd, opts)
      assert Enum.sort(elements) == [stderr: "err\n", stdout: "out\n"]

      assert {:ok, result} = NetRunner.exec(cmd, opts)
      assert {Enum.sort(result.stdout), result.stderr} == {Enum.sort(elements), ""}

      assert NetRunner.run!(cmd, [ok: [3]] ++ opts) |> elem(0) |> Enum.sort() ==
               Enum.sort(elements)

      assert {%MapSet{} = set, 3} = NetRunner.run(cmd, [into: MapSet.new()] ++ opts)
      assert set == MapSet.new(elements)
    end

    on_backends "has what a command says while it is stopped" do
      script = "trap 'echo bye >&2; exit 1' TERM; echo hello; read x"
      opts = [stderr: :tagged, idle_timeout: 300, input: acknowledging(self()), backend: backend]
      assert {:ok, %{cause: :idle_timeout} = result} = NetRunner.exec(sh(script), opts)
      assert result.stdout == [stdout: "hello\n", stderr: "bye\n"]
    end

    on_backends "is cut to max_output_size: of both together" do
      # The kernel says in which order.
      script = "printf 123; read x; printf 456 >&2; read x; printf 789"

      run = fn opts ->
        me = self()

        task =
          Task.async(fn ->
            opts = [stderr: :tagged, input: acknowledging(me), backend: backend] ++ opts
            NetRunner.run(sh(script), opts)
          end)

        feeder = feeder()
        # One at a time: each is written when the one before was read.
        eventually("the first was read", fn -> bytes_read(task.pid) >= 3 end)
        send(feeder, :seen)
        eventually("the second was read", fn -> bytes_read(task.pid) >= 6 end)
        send(feeder, :seen)
        Task.await(task)
      end

      assert run.([]) == {[stdout: "123", stderr: "456", stdout: "789"], 0}

      assert run.(max_output_size: 7, overflow: :head) ==
               {[stdout: "123", stderr: "456", stdout: "7"], 0}

      assert run.(max_output_size: 7, overflow: :tail) ==
               {[stdout: "3", stderr: "456", stdout: "789"], 0}

      assert run.(max_output_size: 8) ==
               {:error, {:max_output_exceeded, [stdout: "123", stderr: "456", stdout: "78"]}}

      # What was a line of one is no line of the other.
      assert {[{:stderr, "4"} | last], 0} = run.(max_output_size: 7, overflow: :tail, lines: "5")

      assert Enum.sort(last) == [stderr: "6", stdout: "3789"]
    end

    # 9 once it has ended.
    defp bytes_read(owner) do
      case Enum.filter(NetRunner.list(), &(&1.owner == owner)) do
        [%{stats: %{stdout: %{bytes: out}, stderr: %{bytes: err}}}] -> out + err
        [] -> 9
      end
    end

    on_backends "by a pipeline has the stderr of each of its commands" do
      stages = for name <- ["a", "b"], do: sh("echo #{name} >&2; cat")

      assert {elements, 0} =
               NetRunner.run(NetRunner.pipeline(stages),
                 input: "out\n",
                 stderr: {:tagged, :timestamps},
                 lines: true,
                 backend: backend
               )

      assert elements |> Enum.map(&{elem(&1, 0), elem(&1, 1)}) |> Enum.sort() ==
               [stderr: "a", stderr: "b", stdout: "out"]
    end

    # It tells nobody.
    defp raises, do: %Teller{to: spawn(fn -> :over end)}

    on_backends "leaves nothing in the mailbox, also where the collectable raises" do
      script = "yes >&2 & echo raise; wait"

      back_at_baseline(fn ->
        assert_raise RuntimeError, "the collectable's own", fn ->
          NetRunner.run(sh(script), stderr: :tagged, into: raises(), backend: backend)
        end
      end)

      assert Process.info(self(), :messages) == {:messages, []}
    end

    on_backends "has something of both, whoever floods one of them" do
      # Both are waited for before one of them never runs dry.
      script = "sleep 0.1; yes & sleep 0.02; echo raise >&2; wait"
      opts = [stderr: :tagged, into: raises(), timeout: 5_000, backend: backend]

      assert_raise RuntimeError, "the collectable's own", fn ->
        NetRunner.run(sh(script), opts)
      end
    end
  end
end
