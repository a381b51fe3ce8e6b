defmodule NetRunner.InputTest do
  # The feeder: writes what input: gives, whatever it is made of, and closes; seen through commands.
  use NetRunner.Test.Case
  doctest NetRunner.Sink

  on_backends "many small pieces, nested, arrive in order" do
    pieces = Enum.map(1..20_000, &"#{&1} ")
    whole = Enum.join(pieces)

    for input <- [pieces, Enum.chunk_every(pieces, 7), Stream.map(pieces, & &1), [[[[pieces]]]]] do
      assert NetRunner.run(["cat"], input: input, backend: backend) == {whole, 0}
    end
  end

  on_backends "one large piece among small ones arrives in order" do
    large = :crypto.strong_rand_bytes(3_000_000)
    input = ["<", large, ">"]

    for input <- [input, Stream.map(input, & &1)] do
      assert NetRunner.run(["cat"], input: input, backend: backend) == {"<" <> large <> ">", 0}
    end
  end

  on_backends "files, ranges, functions and structs that are enumerable" do
    path = tmp_path("lines")
    File.write!(path, "a\nb\nc\n")
    run = &NetRunner.run(["cat"], input: &1, backend: backend)
    assert run.(File.stream!(path)) == {"a\nb\nc\n", 0}
    assert run.(File.stream!(path, [], 2)) == {"a\nb\nc\n", 0}
    assert run.(Stream.resource(fn -> 3 end, &count_down/1, fn _ -> :ok end)) == {"321", 0}
    # An arity of two is what Enumerable takes for functions.
    assert run.(&Enumerable.reduce(["x", "y"], &1, &2)) == {"xy", 0}
    assert_raise ArgumentError, ~r/not iodata/, fn -> run.(1..3) end
  end

  defp count_down(0), do: {:halt, 0}
  defp count_down(n), do: {["#{n}"], n - 1}

  on_backends "an enumerable's last words are heard before the end of input is seen" do
    me = self()

    input =
      Stream.resource(
        fn -> 2 end,
        &count_down/1,
        fn _ -> send(me, :closed) end
      )

    assert NetRunner.run(["cat"], input: input, backend: backend) == {"21", 0}
    assert_received :closed
  end

  on_backends "an input that breaks off never looks like its end" do
    marker = tmp_path("marker")

    input =
      Stream.map(1..2, fn
        1 -> "half"
        2 -> raise "broken"
      end)

    # Deaf to the stop signal, it has all its grace to take an end of input for the end.
    assert_raise RuntimeError, fn ->
      NetRunner.run(["sh", "-c", "trap '' TERM; cat; touch #{marker}"],
        input: input,
        kill_timeout: 300,
        backend: backend
      )
    end

    refute File.exists?(marker)
  end

  describe "a function of a sink" do
    on_backends "writes what it puts into it, in order, and then stdin is closed" do
      fun = fn sink ->
        Enum.into(["a", [?b, ["c"]]], sink)
        Enum.into(1..3, sink, &to_string/1)
        for x <- ["d", "e"], into: sink, do: x
        :whatever
      end

      assert NetRunner.run(["cat"], input: fun, backend: backend) == {"abc123de", 0}

      assert NetRunner.run(["cat"], input: fun, input_buffer: 4, backend: backend) ==
               {"abc123de", 0}

      assert NetRunner.run(["cat"], input: fn _sink -> nil end, backend: backend) == {"", 0}
    end

    on_backends "is left when the command reads no more, its after blocks run" do
      me = self()

      fun = fn sink ->
        try do
          Stream.repeatedly(fn -> "x" end) |> Stream.into(sink) |> Stream.run()
        after
          send(me, :cleaned_up)
        end
      end

      for _ <- 1..20 do
        assert NetRunner.run(["head", "-c", "3"], input: fun, backend: backend) == {"xxx", 0}
        assert_received :cleaned_up
      end
    end

    on_backends "that is busy when its command has ended is left at its next write, one that waits is ended there" do
      me = self()
      closed = tmp_path("closed")
      cmd = ["sh", "-c", "head -c 1; exec 0<&-; touch \"$0\"", closed]
      busy_until = fn done -> Stream.repeatedly(done) |> Enum.find(& &1) end

      {slow, waits} =
        {fn sink ->
           try do
             Enum.into(["x"], sink)
             busy_until.(fn -> File.exists?(closed) end)
             until = System.monotonic_time(:millisecond) + 100
             busy_until.(fn -> System.monotonic_time(:millisecond) > until end)
             Enum.into(["y"], sink)
             send(me, :wrote)
           after
             send(me, :cleaned_up)
           end
         end,
         fn sink ->
           Enum.into(["x"], sink)
           send(me, {:waits, self()})
           receive(do: (:never -> :ok))
         end}

      back_at_baseline(fn ->
        assert NetRunner.run(cmd, input: slow, backend: backend) == {"x", 0}
        assert_received :cleaned_up
        refute_received :wrote
        assert NetRunner.run(["head", "-c", "1"], input: waits, backend: backend) == {"x", 0}
        assert_received {:waits, feeder}
        refute Process.alive?(feeder)
      end)
    end

    on_backends "that raises, or puts in what is no iodata, ends the command" do
      for {fun, message} <- [
            {fn sink -> Enum.into(["x"], sink) && raise("mine") end, "mine"},
            {fn sink -> Enum.into([:x], sink) end, ~r/an element is not iodata: :x/}
          ] do
        assert_raise if(is_binary(message), do: RuntimeError, else: ArgumentError), message, fn ->
          NetRunner.run(["cat"], input: fun, backend: backend)
        end
      end

      assert catch_throw(NetRunner.run(["cat"], input: fn _ -> throw(:mine) end)) == :mine
    end

    test "keeps its sink to its own process and time" do
      me = self()

      NetRunner.run(["cat"],
        input: fn sink ->
          send(me, {:sink, sink})

          Task.async(fn -> catch_error(Enum.into(["x"], sink)) end)
          |> Task.await()
          |> then(&send(me, {:elsewhere, &1}))
        end
      )

      assert_receive {:elsewhere, %ArgumentError{}}
      assert_receive {:sink, sink}
      assert_raise ArgumentError, fn -> Enum.into(["x"], sink) end
    end
  end

  describe "input_buffer:" do
    on_backends "puts small elements together, and nothing out of order" do
      pieces = Enum.map(1..5_000, &"#{&1},")
      whole = Enum.join(pieces)

      writes = fn opts ->
        {:ok, result} =
          NetRunner.exec(["cat"], [input: Stream.map(pieces, & &1), backend: backend] ++ opts)

        assert result.stdout == whole
        result.stats.stdin.ops
      end

      assert writes.([]) >= 5_000
      assert writes.(input_buffer: 65_536) < 50
      for size <- [1, 2, 3, 7, 4096], do: writes.(input_buffer: size)
    end

    on_backends "leaves large elements whole" do
      large = :crypto.strong_rand_bytes(300_000)
      input = Stream.map(["<", large, "-", large, ">"], & &1)
      expected = "<" <> large <> "-" <> large <> ">"

      assert NetRunner.run(["cat"], input: input, input_buffer: 1000, backend: backend) ==
               {expected, 0}
    end
  end

  on_backends "is evaluated for the caller, and ends with the command" do
    me = self()

    input =
      Stream.repeatedly(fn ->
        send(me, {:callers, Process.get(:"$callers"), self()})
        "x"
      end)

    assert {"x", 0} = NetRunner.run(["head", "-c", "1"], input: input, backend: backend)
    assert_received {:callers, [^me], feeder}
    monitor = Process.monitor(feeder)
    assert_receive {:DOWN, ^monitor, :process, ^feeder, _}, 5_000
  end

  on_backends "is evaluated no longer than its command's server lives" do
    me = self()

    input =
      Stream.repeatedly(fn ->
        send(me, {:feeder, self()})
        Process.sleep(:infinity)
      end)

    for ending <- [&Process.exit(&1, :kill), &NetRunner.Process.stop/1] do
      {:ok, p} = NetRunner.Process.start("cat", [], input: input, backend: backend)
      assert_receive {:feeder, feeder}, 5_000
      monitor = Process.monitor(feeder)
      ending.(p)
      assert_receive {:DOWN, ^monitor, :process, ^feeder, _}, 5_000
    end
  end

  on_backends "that kills its own process is an exit of the caller, the command gone" do
    {tag, env} = tag()
    input = Stream.repeatedly(fn -> Process.exit(self(), :kill) end)

    back_at_baseline(fn ->
      assert catch_exit(NetRunner.run(["cat"], input: input, env: env, backend: backend)) ==
               :killed

      assert_gone(tag)
    end)
  end

  on_backends "for a process under one's hands only stops it: its end says how" do
    input = Stream.map([1], fn _ -> raise "broken" end)
    {:ok, p} = NetRunner.Process.start("cat", [], input: input, backend: backend)
    assert NetRunner.Process.await_exit(p, 5_000) == {:ok, 143}
    NetRunner.Process.stop(p)
  end
end
