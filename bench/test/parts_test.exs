defmodule PartsTest do
  # What scenarios are made of: crowds of commands, who is left of them, counters, lines.

  use ExUnit.Case

  alias Bench.{Counters, Crowd, Gate, Gzipped, Native, Offspring, Protocols, Stamp, UserLines}

  setup_all do
    Native.build!()
    # Crowds die here as they should; what the dead say comes when it comes.
    level = Logger.level()
    Logger.configure(level: :emergency)
    on_exit(fn -> Logger.configure(level: level) end)
  end

  @auto %{name: "auto", module: Bench.Contestants.NetRunner, arg: :auto}

  describe "a crowd" do
    # Of a test before, whose crowd died, somebody may still be on his way out.
    setup do: Offspring.await(0)

    test "is there as a whole while it is looked at, and gone afterwards" do
      others = Offspring.count()

      window =
        Crowd.run(
          @auto,
          [Native.path(:producer), "stream", "1099511627776", "65536"],
          5,
          &Stamp.check/2,
          fn ->
            Process.sleep(50)
            await_all_go_on(5)
            Offspring.count() - others
          end
        )

      # A guardian and a command each.
      assert window.result == 10
      assert length(window.each) == 5 and Enum.all?(window.each, &(&1 > 0))
      assert window.wall_us >= 50_000 and window.own_us > 0
      assert window.counts.reads > 0
      assert Offspring.count() <= others
    end

    # On a busy machine one of them may have to wait for longer than a window lasts. Whoever has written more than pipes
    # hold was read from.
    defp await_all_go_on(count) do
      before = for os_pid <- Offspring.list(), do: {os_pid, written(os_pid)}

      Offspring.until(fn ->
        go_on = Enum.count(before, fn {os_pid, bytes} -> written(os_pid) > bytes + 4_194_304 end)
        if go_on < count, do: "#{go_on} of #{count} commands go on"
      end)
    end

    defp written(os_pid) do
      [_, bytes] = Regex.run(~r/^wchar: (\d+)$/m, File.read!("/proc/#{os_pid}/io"))
      String.to_integer(bytes)
    end

    test "ends a measurement with who ends early" do
      count = fn chunk, {bytes, wrong} -> {bytes + byte_size(chunk), wrong} end

      assert exit_of(fn ->
               Crowd.run(@auto, ["echo", "hello"], 2, count, fn -> Process.sleep(:infinity) end)
             end) == :output_ended
    end

    test "ends a measurement with wrong bytes" do
      wrong = fn chunk, {bytes, wrong} -> {bytes + byte_size(chunk), wrong + 1} end
      producer = [Native.path(:producer), "stream", "1099511627776", "65536"]

      assert {{:badmatch, {_bytes, 1}}, _stack} =
               exit_of(fn -> Crowd.run(@auto, producer, 2, wrong, fn -> :ok end) end)
    end

    defp exit_of(fun) do
      {_pid, monitor} = spawn_monitor(fun)
      assert_receive {:DOWN, ^monitor, :process, _pid, reason}, 10_000
      reason
    end
  end

  test "a gate holds whoever waits at it, all of them, until it is opened" do
    gate = Gate.shut()
    parent = self()

    for _ <- 1..3 do
      Task.async(fn ->
        {output, 0} = System.cmd(Native.path(:producer), ["stream", "65536", "4096", gate.path])
        send(parent, {:through, byte_size(output)})
      end)
    end

    refute_receive {:through, _bytes}, 300
    Gate.open(gate)
    for _ <- 1..3, do: assert_receive({:through, 65_536}, 10_000)
    refute File.exists?(gate.path)
  end

  test "a gate is gone with who shut it" do
    parent = self()
    owner = spawn(fn -> send(parent, Gate.shut()) && Process.sleep(:infinity) end)
    assert_receive %{path: path}, 10_000
    assert File.exists?(path)
    Process.exit(owner, :kill)
    Offspring.await(0)
    refute File.exists?(path)
  end

  describe "counters" do
    test "tell what NetRunner's commands did between two looks, and nothing of others" do
      {:ok, process} = NetRunner.Process.start("cat")
      counters = Counters.of(@auto)
      before = counters.()
      :ok = NetRunner.Process.write(process, "x")
      {:ok, "x"} = NetRunner.Process.read(process)
      assert %{reads: 1} = Counters.between(before, counters.())
      NetRunner.Process.stop(process)

      assert Counters.of(%{name: "Port", module: Bench.Contestants.Port, arg: nil}).() == nil
      assert Counters.between(nil, nil) == nil
    end

    test "are looked at before and after a function" do
      {:ok, process} = NetRunner.Process.start("cat", [], backend: :poll)

      assert {{:ok, "x"}, %{reads: 1, enters: 0}} =
               Counters.during(@auto, fn ->
                 :ok = NetRunner.Process.write(process, "x")
                 NetRunner.Process.read(process)
               end)

      NetRunner.Process.stop(process)
      assert Counters.during(%{@auto | module: Bench.Contestants.Port}, fn -> 1 end) == {1, nil}
    end

    test "count the BEAM's own reads and writes" do
      before = Counters.reads_and_writes()
      for _ <- 1..100, do: File.read!("/proc/self/comm")
      assert Counters.reads_and_writes() - before >= 100
    end

    test "make system calls of what is known, and none of what is not" do
      counts = %{reads: 10, selects: 3, ring_waits: 4, enters: 5, harvests: 6}
      assert Counters.system_calls(100, counts) == 114
      assert Counters.system_calls(nil, counts) == nil
      assert Counters.system_calls(100, nil) == nil
    end
  end

  describe "lines as users write them" do
    test "are the same however the stream is cut" do
      text = "one\ntwo\n\nthree\n"

      for size <- 1..16,
          do:
            assert(
              text |> cut(size) |> UserLines.of_chunks() |> Enum.to_list() == [
                "one",
                "two",
                "",
                "three"
              ]
            )

      assert UserLines.of_output("one\ntwo\n") == ["one", "two"]
    end

    defp cut(text, size),
      do: for(<<piece::binary-size(size) <- text>>, do: piece) ++ [tail(text, size)]

    defp tail(text, size), do: binary_part(text, byte_size(text), -rem(byte_size(text), size))
  end

  test "every contestant has the call that a scenario needs, or says why not" do
    for {_name, scenario} <- Bench.scenarios(),
        contestant <- Bench.Contestant.present(),
        not Bench.Contestant.can?(contestant, scenario.needs()),
        do: assert(Bench.Contestant.lack(contestant, scenario.needs()) =~ ~r/\w+ \w+/)

    lacks = &Bench.Contestant.lack(%{name: "", module: &1, arg: nil}, &2)
    assert lacks.(Bench.Contestants.SystemCmd, :feed) =~ "nothing can be written"
    assert lacks.(Bench.Contestants.Port, :join) == "it has no pipelines"
    assert_raise KeyError, fn -> lacks.(Bench.Contestants.Port, :fly) end
  end

  test "CPU time is also that of who lives below a helper, as one that serves all commands does" do
    worker =
      ~S|while read _; do i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; echo done; done|

    others = Offspring.count()
    port = Port.open({:spawn_executable, "/bin/sh"}, [:binary, args: ["-c", worker]])
    before = Bench.Cpu.now()
    Port.command(port, "\n")
    assert_receive {^port, {:data, "done\n"}}, 30_000
    assert Bench.Cpu.between(before, Bench.Cpu.now()).other >= 20_000
    Port.close(port)
    Offspring.await(others)
  end

  test "every contestant that has lines has the producer's" do
    for %{module: module, arg: arg, name: name} = contestant <- Bench.Contestant.present(),
        Bench.Contestant.can?(contestant, :lines) do
      lines = module.lines(arg, [Native.path(:producer), "lines", "1"], [], &[&1 | &2])
      assert length(lines) == 1024, name
      assert Enum.all?(lines, &(byte_size(&1) == 99)), name
      assert Enum.count(lines, &(&1 =~ "needle")) == 32, name
    end
  end

  test "a stamped file is made once and is what the C programs take for it" do
    path = Stamp.file(2 * 1024 * 1024)
    on_exit(fn -> File.rm!(path) end)

    assert path |> File.stream!([], 100_000) |> Enum.reduce({0, 0}, &Stamp.check/2) ==
             {2 * 1024 * 1024, 0}

    before = File.stat!(path)
    assert Stamp.file(2 * 1024 * 1024) == path
    assert File.stat!(path) == before
  end

  test "a gzip'd log is made once, is a log, and comes out of zcat stamped" do
    path = Gzipped.file(2)
    assert {log, 0} = NetRunner.run(["zcat", path])
    pages = for <<page::binary-size(4096) <- log>>, do: page
    assert Enum.reduce(pages, {0, 0}, &Stamp.check/2) == {2 * 1024 * 1024, 0}
    assert length(:binary.matches(log, "HTTP/1.1\" 200 ")) > 15_000
    smaller = byte_size(log) / File.stat!(path).size
    assert smaller > 5 and smaller < 20
    before = File.stat!(path)
    assert Gzipped.file(2) == path
    assert File.stat!(path) == before

    unpacked = Gzipped.log(2)
    on_exit(fn -> File.rm!(unpacked) end)
    assert File.read!(unpacked) == log
    before = File.stat!(unpacked)
    assert Gzipped.log(2) == unpacked
    assert File.stat!(unpacked) == before
  end

  test "an implementation of a protocol that came after Mix's consolidation is found" do
    folder =
      Path.join(System.tmp_dir!(), "net_runner_bench-#{System.unique_integer([:positive])}")

    File.mkdir_p!(folder)
    on_exit(fn -> File.rm_rf!(folder) end)

    ExUnit.CaptureIO.capture_io(:stderr, fn ->
      for {module, code} <-
            Code.compile_string("""
            defmodule PartsTest.Late do
              defstruct []
              defimpl Enumerable do
                def reduce(_late, acc, fun), do: Enumerable.List.reduce([1, 2], acc, fun)
                def count(_late), do: {:error, __MODULE__}
                def member?(_late, _value), do: {:error, __MODULE__}
                def slice(_late), do: {:error, __MODULE__}
              end
            end
            """) do
        File.write!(Path.join(folder, "#{module}.beam"), code)
      end
    end)

    :code.add_path(to_charlist(folder))
    on_exit(fn -> :code.del_path(to_charlist(folder)) end)
    late = struct!(PartsTest.Late)
    assert_raise Protocol.UndefinedError, fn -> Enum.to_list(late) end
    Protocols.consolidate()
    assert Enum.to_list(late) == [1, 2]
  end
end
