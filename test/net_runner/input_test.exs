defmodule NetRunner.InputTest do
  # The feeder: writes what input: gives, whatever it is made of, and closes; seen through commands.
  use NetRunner.Test.Case

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

      assert tagged(tag) == []
    end)
  end

  on_backends "for a process under one's hands only stops it: its end says how" do
    input = Stream.map([1], fn _ -> raise "broken" end)
    {:ok, p} = NetRunner.Process.start("cat", [], input: input, backend: backend)
    assert NetRunner.Process.await_exit(p, 5_000) == {:ok, 143}
    NetRunner.Process.stop(p)
  end
end
