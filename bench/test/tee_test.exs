defmodule TeeTest do
  # Do the scenarios of copies see what is wrong with a copy, and is nothing left of them?

  use ExUnit.Case

  alias Bench.{Gate, Native, Offspring, Stamp}
  alias Bench.Contestants.NetRunner
  alias Bench.Scenarios.{Pipeline, TeeCommand, TeeFile, ZcatTee}

  @sizes %{mib: 1, block: 65_536}

  setup_all do: Native.build!()

  setup do
    Offspring.await(0)

    on_exit(fn ->
      Offspring.await(0)
      refute File.exists?(Pipeline.in_memory("tee"))
    end)
  end

  defmodule Careless do
    # A copy that is not what was read, of a stream that is.
    def tee(spoil, cmd, to, acc, fun) do
      {data, 0} = System.cmd(hd(cmd), tl(cmd))
      File.write!(to, spoil.(data))
      fun.(data, acc)
    end

    def tee_command(spoil, cmd, [copy | args], said, acc, fun) do
      {data, 0} = System.cmd(hd(cmd), tl(cmd))
      {words, _status} = Elixir.NetRunner.run([copy | args], input: spoil.(data))
      File.write!(said, words)
      fun.(data, acc)
    end
  end

  describe "a copy in a file" do
    test "is whole, on each backend" do
      for {_name, backend} <- NetRunner.columns(), scenario <- [TeeFile, ZcatTee] do
        contestant = %{module: NetRunner, arg: backend}
        assert %{wrong: nil, work: 1_048_576} = scenario.measure(contestant, @sizes)
      end
    end

    test "that lost bytes or has others is seen, though the stream is whole" do
      swap = fn <<a::binary-size(4096), b::binary-size(4096), rest::binary>> -> b <> a <> rest end

      assert wrong(& &1) == nil
      assert wrong(&binary_part(&1, 0, 1_044_480)) =~ "the copy: 1044480 of 1048576 bytes"
      assert wrong(swap) =~ "the copy: 1048576 of 1048576 bytes, 1 chunks wrong"
    end

    test "is removed where its scenario fails" do
      broken = fn _data ->
        File.write!(Pipeline.in_memory("tee"), "half of it")
        raise "no copy"
      end

      assert_raise RuntimeError, "no copy", fn -> wrong(broken) end
    end

    defp wrong(spoil), do: TeeFile.measure(%{module: Careless, arg: spoil}, @sizes).wrong

    test "of the shell's tee is whole, and the stream without one has its bytes" do
      for scenario <- [TeeFile, ZcatTee], {name, {run, version}} <- scenario.references(@sizes) do
        assert %{wrong: nil, work: 1_048_576} = run.(), name
        assert version =~ ~r/\w/
      end
    end
  end

  describe "a copy to a command" do
    test "is whole, on each backend and with the shell's tee" do
      for {_name, backend} <- NetRunner.columns() do
        contestant = %{module: NetRunner, arg: backend}
        assert %{wrong: nil, work: 1_048_576} = TeeCommand.measure(contestant, @sizes)
      end

      for {name, {run, _version}} <- TeeCommand.references(@sizes),
          do: assert(%{wrong: nil, work: 1_048_576} = run.(), name)
    end

    test "that lost bytes is seen, though the stream is whole" do
      assert spoilt(& &1) == nil
      assert spoilt(&binary_part(&1, 0, 1_044_480)) =~ "who got the copy said \"1044480 0\\n\""
    end

    defp spoilt(spoil),
      do: TeeCommand.measure(%{module: Careless, arg: spoil}, @sizes).wrong
  end

  # Sixteen MiB: more than the pipes on the way hold.
  describe "back-pressure of a tee to a command" do
    setup do
      said = Pipeline.in_memory("tee")
      on_exit(fn -> File.rm(said) end)
      bytes = 16 * 1024 * 1024
      producer = [Native.path(:producer), "stream", "#{bytes}", "65536"]
      consumer = [Native.path(:consumer), "#{bytes}"]
      %{bytes: bytes, said: said, producer: producer, consumer: consumer}
    end

    test "comes from who reads the stream", %{bytes: bytes, said: said} = streamed do
      read = fn chunk, {position, _wrong} = seen ->
        if position == 0, do: refute_copied_within(300, said)
        Stamp.check(chunk, seen)
      end

      assert NetRunner.tee_command(
               :auto,
               streamed.producer,
               streamed.consumer,
               said,
               {0, 0},
               read
             ) ==
               {bytes, 0}

      assert File.read!(said) == "#{bytes} 0\n"
    end

    test "comes from who gets the copy", %{bytes: bytes, said: said} = streamed do
      gate = Gate.shut()
      slow = ["sh", "-c", "read _ < '#{gate.path}'; exec \"$@\"", "sh" | streamed.consumer]
      parent = self()

      stream =
        Task.async(fn ->
          count = fn chunk, seen ->
            send(parent, :came)
            Stamp.check(chunk, seen)
          end

          NetRunner.tee_command(:auto, streamed.producer, slow, said, {0, 0}, count)
        end)

      assert_receive :came, 10_000
      assert Task.yield(stream, 300) == nil
      Gate.open(gate)
      assert Task.await(stream, 10_000) == {bytes, 0}
      assert File.read!(said) == "#{bytes} 0\n"
    end

    # Looks again and again, so that one that is there after a moment does not wait for the end.
    defp refute_copied_within(ms, said) do
      assert File.read(said) in [{:ok, ""}, {:error, :enoent}]
      if ms > 0, do: Process.sleep(20) && refute_copied_within(ms - 20, said)
    end
  end
end
