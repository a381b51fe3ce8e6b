defmodule NetRunner.ProgressTest do
  # progress: what is told of a run and of a stream while they go on, and once at their end, however they end.
  use NetRunner.Test.Case

  import ExUnit.CaptureIO
  import ExUnit.CaptureLog

  alias NetRunner.Pipe
  alias NetRunner.Process, as: P
  alias NetRunner.Progress.{Bar, Meter}
  alias NetRunner.Test.OtherBeam

  doctest NetRunner.Progress.Bar
  doctest NetRunner.Progress.Meter

  # Eight times what a pipe may hold.
  @large 8 * 1_048_576

  # A function for progress: that tells the test, and who calls it.
  defp teller do
    me = self()
    fn stats -> send(me, {:told, stats, self()}) end
  end

  # Waits for figures of which this is so.
  defp await_told(what, fun, deadline \\ Pipe.deadline(10_000)) do
    receive do
      {:told, stats, _pid} ->
        if fun.(stats) and not Pipe.over?(deadline),
          do: stats,
          else: await_told(what, fun, deadline)
    after
      Pipe.left(deadline) -> flunk("nothing was told of #{what}")
    end
  end

  defp finished, do: await_told("the end", &(&1.state == :finished))

  # Waits until who is told of progress could have been told so many times since the call.
  defp await_ticks(count) do
    {wait, open} = gate()
    run = run_aside(["sh", "-c", wait], progress: teller())
    for _ <- 1..count, do: assert_receive({:told, %{state: :running}, _pid}, 5_000)
    open.()
    Task.await(run)
    finished()
  end

  # A command that does nothing more until the gate is opened.
  defp gate do
    path = tmp_path("gate")
    {"until [ -e #{path} ]; do sleep 0.02; done", fn -> File.touch!(path) end}
  end

  # What the calling process has of it afterwards.
  defp mine, do: Process.info(self(), [:messages, :links, :monitors])

  defp run_aside(cmd, opts), do: Task.async(fn -> {NetRunner.run(cmd, opts), mine()} end)

  defp keepers do
    for pid <- Process.list(),
        {:current_function, {NetRunner.Progress, _, _}} <- [Process.info(pid, :current_function)],
        do: pid
  end

  defp await_gone(pid) do
    monitor = Process.monitor(pid)
    assert_receive {:DOWN, ^monitor, :process, ^pid, _reason}, 5_000
  end

  describe "a function" do
    on_backends "is told what goes in and comes out, again and again, and once at the end" do
      me = self()

      input =
        Stream.resource(
          fn -> 0 end,
          fn n ->
            send(me, {:asked, self()})

            receive do
              :more -> {["12345"], n + 1}
              :over -> {:halt, n}
            end
          end,
          fn _n -> :ok end
        )

      run = run_aside(["cat"], input: input, backend: backend, progress: teller())

      for n <- 1..2 do
        assert_receive {:asked, feeder}, 5_000
        send(feeder, :more)

        stats = await_told("#{5 * n} bytes", &(&1.bytes_in == 5 * n and &1.bytes_out == 5 * n))

        assert %{state: :running, total: nil, done: nil, eta_ms: nil} = stats
        assert stats.elapsed_ms >= 250 * n
        assert stats.rate > 0
      end

      assert_receive {:asked, feeder}, 5_000
      send(feeder, :over)
      assert {{"1234512345", 0}, info} = Task.await(run)
      assert info[:messages] == []
      assert info[:monitors] == []
      assert %{bytes_in: 10, bytes_out: 10} = stats = finished()
      assert_in_delta stats.rate, 10_000 / stats.elapsed_ms, 1
      refute_received {:told, _, _}
    end

    on_backends "is told how much of an input is done, where its size is known" do
      for input <- [
            String.duplicate("x", @large),
            List.duplicate(["abc", ?d], div(@large, 4))
          ] do
        {wait, open} = gate()
        script = "head -c 300000 > /dev/null; #{wait}; cat > /dev/null"
        run = run_aside(["sh", "-c", script], input: input, backend: backend, progress: teller())

        stats = await_told("a part", &(&1.state == :finished or (&1.done || 0) >= 300_000))

        if stats.state == :running do
          assert stats.done < @large
          assert stats.bytes_in == stats.done
          assert stats.rate > 0

          assert_in_delta stats.eta_ms,
                          (@large - stats.done) * 1000 / stats.rate,
                          stats.eta_ms / 50
        end

        open.()
        assert {{"", 0}, _} = Task.await(run)
        last = if stats.state == :finished, do: stats, else: finished()
        assert %{total: @large, done: @large, bytes_in: @large, bytes_out: 0, eta_ms: nil} = last
      end
    end

    on_backends "is told the place in a file that the command reads itself" do
      {wait, open} = gate()
      path = tmp_path("input")
      File.write!(path, String.duplicate("x", @large))
      script = "dd bs=1000 count=300 of=/dev/null; #{wait}; exec cat"
      opts = [input: {:file, path}, stdout: :discard, backend: backend, progress: teller()]
      run = run_aside(["sh", "-c", script], opts)
      stats = await_told("the place", &(&1.done == 300_000))
      assert %{total: @large, bytes_in: nil, bytes_out: nil} = stats
      open.()
      assert {{"", 0}, _} = Task.await(run)
      # Where it was after that, nobody has seen, or somebody has.
      assert %{total: @large, done: done} = finished()
      assert done in 300_000..@large
    end

    test "is told no place in a file that is none, or that is not the command's stdin any more" do
      path = tmp_path("input")
      File.write!(path, "12345")

      for {input, script, total} <- [
            {"/dev/zero", "head -c 10", nil},
            {path, "exec < /dev/null", 5},
            {path, "exec < $0", 5},
            {path, "exec <&-", 5}
          ] do
        {wait, open} = gate()
        opts = [input: {:file, input}, stdout: :discard, progress: teller()]
        run = run_aside(["sh", "-c", "#{script}; #{wait}", __ENV__.file], opts)
        assert_receive {:told, %{state: :running} = stats, _pid}, 5_000
        assert %{total: ^total, done: nil, rate: nil, eta_ms: nil} = stats
        open.()
        assert {{"", 0}, _} = Task.await(run)
        assert %{total: ^total, done: nil, rate: nil} = finished()
      end
    end

    test "is told of the time alone where nothing comes here" do
      {wait, open} = gate()
      run = run_aside(["sh", "-c", wait], stdout: :discard, progress: teller())
      stats = await_told("the time", &(&1.state == :running))
      nothing = %{bytes_in: nil, bytes_out: nil, total: nil, done: nil, rate: nil, eta_ms: nil}
      assert Map.drop(stats, [:state, :elapsed_ms]) == nothing
      open.()
      Task.await(run)
      assert Map.drop(finished(), [:state, :elapsed_ms]) == nothing
    end

    on_backends "is told of a pipeline as a whole: the first one's stdin, the last one's stdout" do
      pipeline =
        NetRunner.pipeline([["cat"], ["tr", "-d", "b"], &Stream.map(&1, fn x -> x end), ["cat"]])

      opts = [input: "abab", backend: backend, progress: teller()]
      assert NetRunner.run(pipeline, opts) == {"aa", 0}
      assert %{bytes_in: 4, bytes_out: 2, total: 4, done: 4} = finished()
      refute_received {:told, _, _}
    end

    test "belongs to the call: a command of its own has it there, one of a pipeline does not" do
      command = NetRunner.Command.new("cat", [], progress: teller())
      assert {"x", 0} = NetRunner.run(command, input: "x")
      assert %{bytes_out: 1} = finished()

      assert_raise ArgumentError, ~r/stage 1 .* :progress, only the call/, fn ->
        NetRunner.run(NetRunner.pipeline([command, ["cat"]]))
      end
    end

    test "runs aside, with the caller in its $callers" do
      me = self()
      progress = fn _ -> send(me, {:callers, self(), Process.get(:"$callers")}) end
      run = Task.async(fn -> NetRunner.run(["true"], progress: progress) end)
      assert {"", 0} = Task.await(run)
      assert_receive {:callers, told, [caller, ^me]}
      assert caller == run.pid
      assert told not in [me, caller]
    end

    on_backends "that is busy holds up nothing, and is ended after the call" do
      me = self()

      stuck = fn stats ->
        send(me, {:told, stats, self()})
        receive do: (:never -> :ok)
      end

      back_at_baseline(fn ->
        {wait, open} = gate()
        script = "echo; #{wait}; head -c #{@large}"
        opts = [input: blocks(1_000, 100_000), backend: backend, progress: stuck]

        run =
          Task.async(fn ->
            Process.flag(:trap_exit, true)
            send(self(), :mine)
            result = NetRunner.run(["sh", "-c", script], opts)
            send(me, {:over, self(), result})

            # What comes later is not wanted, either.
            receive do: (:go_on -> mine())
          end)

        assert_receive {:told, %{state: :running}, pid}, 5_000
        open.()
        assert_receive {:over, caller, {bytes, 0}}, 10_000
        assert byte_size(bytes) == @large + 1
        # It is still in there, and is told nothing more.
        assert Process.alive?(pid)
        refute_received {:told, _, _}
        await_gone(pid)
        eventually("who watched over it has gone", fn -> keepers() == [] end)
        send(caller, :go_on)
        assert Task.await(run) == [messages: [:mine], links: [me], monitors: []]
      end)
    end

    test "that raises, exits or is killed is told no more, which is logged once; the run goes on" do
      for {fail, logged} <- [
            {fn -> raise "mine" end, "(RuntimeError) mine"},
            {fn -> exit(:mine) end, "(exit) :mine"},
            {fn -> throw(:mine) end, "(throw) :mine"},
            {fn -> Process.exit(self(), :kill) end, "killed"}
          ] do
        tell = teller()
        {wait, open} = gate()

        progress = fn stats ->
          tell.(stats)
          fail.()
        end

        log =
          capture_log(fn ->
            run = run_aside(["sh", "-c", "#{wait}; echo done"], progress: progress)
            assert_receive {:told, %{state: :running}, pid}, 5_000
            await_gone(pid)
            open.()
            assert {{"done\n", 0}, _} = Task.await(run)
          end)

        refute_received {:told, _, _}
        assert [_, said] = String.split(log, "NetRunner tells no more progress of sh,")
        assert said =~ logged
      end
    end

    test "is told nothing where nothing ran" do
      assert {:error, :enoent} = NetRunner.run(["no-such-program"], progress: teller())

      assert_raise NetRunner.Error, fn ->
        Enum.to_list(NetRunner.stream!(["no-such-program"], progress: teller()))
      end

      refute_received {:told, _, _}
    end
  end

  describe "the end" do
    on_backends "is told, and nothing is left, after a time-out, an exception of the input, a failure" do
      back_at_baseline(fn ->
        opts = [backend: backend, kill_timeout: 100, progress: teller()]
        assert {:error, :timeout} = NetRunner.run(["sleep", "60"], [timeout: 500] ++ opts)
        assert %{state: :finished} = finished()

        assert_raise KeyError, fn ->
          NetRunner.run(["cat"], [input: Stream.map([1], fn _ -> raise KeyError end)] ++ opts)
        end

        assert %{state: :finished} = finished()
        assert_raise NetRunner.ExitError, fn -> NetRunner.exec!(["false"], opts) end
        assert %{state: :finished} = finished()
        assert_raise NetRunner.ExitError, fn -> NetRunner.run!(["false"], opts) end
        assert %{state: :finished} = finished()
        refute_received {:told, _, _}
      end)
    end

    on_backends "is told when a caller is killed" do
      back_at_baseline(fn ->
        opts = [backend: backend, kill_timeout: 100, progress: teller()]
        run = Task.async(fn -> NetRunner.run(["sleep", "60"], opts) end)
        assert_receive {:told, %{state: :running}, pid}, 5_000
        Task.shutdown(run, :brutal_kill)
        assert %{state: :finished} = finished()
        await_gone(pid)
      end)
    end

    on_backends "is told when a stream is over, halted early, or its consumer raises" do
      back_at_baseline(fn ->
        opts = [backend: backend, progress: teller()]
        assert Enum.join(NetRunner.stream!(["printf", "abc"], opts)) == "abc"
        assert %{bytes_out: 3} = finished()
        assert ["y"] = Enum.take(NetRunner.stream!(["yes"], [lines: true] ++ opts), 1)
        assert %{bytes_out: more} = finished()
        assert more > 2

        assert_raise KeyError, fn ->
          Enum.each(NetRunner.stream!(["yes"], opts), fn _ -> raise KeyError end)
        end

        finished()

        assert_raise NetRunner.ExitError, fn ->
          Enum.to_list(NetRunner.stream!(["false"], opts))
        end

        finished()
        refute_received {:told, _, _}
      end)

      assert mine()[:messages] == []
    end

    on_backends "is told when a stream that was started elsewhere is given up, or its starter dies" do
      suspend = fn element, _acc -> {:suspend, element} end
      me = self()

      back_at_baseline(fn ->
        stream = NetRunner.stream!(["yes"], backend: backend, progress: teller())
        {:suspended, _, continue} = Enumerable.reduce(stream, {:cont, nil}, suspend)
        Task.await(Task.async(fn -> continue.({:halt, :enough}) end))
        assert %{state: :finished} = finished()

        {_starter, monitor} =
          spawn_monitor(fn ->
            send(me, Enumerable.reduce(stream, {:cont, nil}, suspend))
          end)

        assert_receive {:suspended, _, continue}, 5_000
        assert_receive {:DOWN, ^monitor, :process, _, _}, 5_000
        assert %{state: :finished} = finished()
        assert {:halted, :enough} = continue.({:halt, :enough})
        refute_received {:told, _, _}
      end)

      assert mine()[:messages] == []
    end
  end

  describe "the figures" do
    defp meter(total \\ nil), do: Meter.new(%{stdin: nil, stdout: nil, os_pid: 1}, 0, total)

    defp counted(bytes_in, bytes_out, done),
      do: %{bytes_in: bytes_in, bytes_out: bytes_out, done: done}

    defp figures(meter, counts) do
      {told, _meter} =
        Enum.map_reduce(counts, meter, fn {at, counts}, meter ->
          Meter.figures(meter, counts, at, :running)
        end)

      told
    end

    test "have the rate of the busier end, and follow it in seconds" do
      looks = for n <- 1..40, do: {n * 250, counted(n * 10, n * 1_000, nil)}
      assert meter() |> figures(looks) |> Enum.map(& &1.rate) |> Enum.uniq() == [4_000]

      # Then only the input moves on.
      later = for n <- 41..80, do: {n * 250, counted(n * 10, 40_000, nil)}
      rates = meter() |> figures(looks ++ later) |> Enum.drop(40) |> Enum.map(& &1.rate)
      assert rates == Enum.sort(rates, :desc)
      assert Enum.at(rates, 0) in 3_000..3_999
      assert Enum.at(rates, 8) in 1_000..2_000
      assert List.last(rates) in 40..100
    end

    test "have the rate of the input and the time that is left, while there is some left" do
      [first, second, all, more] =
        figures(meter(1_000), [
          {500, counted(100, 5_000, 100)},
          {1_000, counted(200, 9_000, 200)},
          {1_500, counted(1_000, 9_000, 1_001)},
          {2_000, counted(1_000, 20_000, 1_001)}
        ])

      assert %{rate: 200, eta_ms: 4_500, done: 100} = first
      assert %{rate: 200, eta_ms: 4_000, done: 200} = second
      # What ends an input on a terminal is no part of it.
      assert %{eta_ms: nil, done: 1_000, total: 1_000} = all
      assert %{eta_ms: nil} = more
      assert more.rate > all.rate
    end

    test "have no time left where nothing moves, and keep the last place that was seen" do
      assert [%{rate: 0, eta_ms: nil, done: 0}] =
               figures(meter(10), [{250, counted(nil, nil, 0)}])

      assert [_, %{done: 4, rate: rate}] =
               figures(meter(10), [{250, counted(nil, nil, 4)}, {500, counted(nil, nil, nil)}])

      assert rate in 1..15
      assert {%{done: nil}, _} = Meter.figures(meter(), counted(1, 1, nil), 250, :running)
    end

    test "have the average of the whole at the end" do
      for {counts, rate} <- [
            {counted(10, 4_000, nil), 2_000},
            {counted(6_000, nil, nil), 3_000},
            {counted(1, 9_000, 8), 4},
            {counted(nil, nil, nil), nil}
          ] do
        meter = meter(counts.done && 10)
        {_, meter} = Meter.figures(meter, counts, 250, :running)
        assert {%{rate: ^rate, eta_ms: nil}, _} = Meter.figures(meter, counts, 2_000, :finished)
      end
    end
  end

  describe "the end of a file" do
    # A meter that saw these places at these times.
    defp seen(places, opts) do
      meter = struct!(%{meter(1_000) | file: {0, 1}}, opts)

      Enum.reduce(places, meter, fn {at, place}, meter ->
        {_stats, meter} = Meter.figures(meter, counted(nil, nil, place), at, :running)
        meter
      end)
    end

    defp last(meter, at) do
      {stats, _meter} = Meter.figures(meter, counted(nil, nil, nil), at, :finished)
      {stats.done, stats.rate}
    end

    test "is where a run that went well was, if it was on its way there" do
      places = [{250, 300}, {500, 600}, {750, 900}]
      assert last(seen(places, well?: true), 1_000) == {1_000, 1_000}
      # It may have left the rest.
      assert last(seen([{250, 10}, {500, 10}], well?: true), 1_000) == {10, 10}
      # What failed was where it was seen.
      assert last(seen(places, well?: false), 1_000) == {900, 900}
      # A glance is enough; none is not.
      assert last(seen([], well?: true, seen: 400), 50) == {1_000, 20_000}
      assert last(seen([], well?: true), 50) == {nil, nil}
      # What is written to stdin is counted.
      assert last(seen(places, well?: true, file: nil), 1_000) == {900, 900}
    end

    on_backends "is told with the rate of the whole, wherever the output goes" do
      path = tmp_path("input")
      File.write!(path, String.duplicate("x", @large))
      # Of what it reads behind the half, nobody may see anything.
      half = "dd bs=#{div(@large, 2)} count=1 status=none"

      for opts <- [[stdout: :discard], [stdout: {:file, tmp_path("output")}], []] do
        {wait, open} = gate()

        {script, opts} =
          {"#{half}; #{wait}; exec cat",
           [input: {:file, path}, backend: backend, progress: teller()] ++ opts}

        run = run_aside(["sh", "-c", script], opts)
        await_told("the half", &(&1.done == div(@large, 2)))
        open.()
        assert {{_output, 0}, _} = Task.await(run)
        assert %{done: @large, total: @large, rate: rate} = finished()
        assert rate > 0
      end
    end

    test "is told by a stream that was read to its end, and not by one that failed" do
      path = tmp_path("input")
      File.write!(path, String.duplicate("x", @large))
      half = div(@large, 2)

      for {rest, done} <- [{"cat", @large}, {"exit 3", half}] do
        {wait, open} = gate()
        tell = teller()

        progress = fn stats ->
          if stats.done == half, do: open.()
          tell.(stats)
        end

        ["sh", "-c", "dd bs=#{half} count=1 status=none of=/dev/null; #{wait}; #{rest}"]
        |> NetRunner.stream!(input: {:file, path}, exit: :ignore, progress: progress)
        |> Stream.run()

        assert %{done: ^done} = finished()
      end
    end
  end

  describe "the line" do
    @stats %{
      state: :running,
      elapsed_ms: 61_000,
      bytes_in: 512,
      bytes_out: 2_048,
      total: nil,
      done: nil,
      rate: 1_024,
      eta_ms: nil
    }

    @known %{@stats | total: 4_096, done: 1_024, eta_ms: 3_000}

    test "says what is known" do
      for {stats, line, bar} <- [
            {@stats, "in 512, out 2.0K, 1.0K/s, 1m01s", "in    512  out   2.0K    1.0K/s  1m01s"},
            {%{@stats | bytes_in: nil}, "out 2.0K, 1.0K/s, 1m01s", "out   2.0K    1.0K/s  1m01s"},
            {%{@stats | bytes_in: nil, bytes_out: nil, rate: nil}, "running for 1m01s",
             "running for 1m01s"},
            {%{@stats | state: :finished}, "in 512, out 2.0K, 1.0K/s, after 1m01s",
             "in    512  out   2.0K    1.0K/s  after 1m01s"},
            {%{@stats | state: :finished, bytes_in: nil, bytes_out: nil, rate: nil},
             "ended after 1m01s", "ended after 1m01s"},
            {@known, "25%, 1.0K of 4.0K, 1.0K/s, ETA 3s",
             " 25% [====>               ]    1.0K of 4.0K    1.0K/s  ETA 3s"},
            {%{@known | done: 4_096, eta_ms: nil}, "100%, 4.0K of 4.0K, 1.0K/s, 1m01s",
             "100% [====================]    4.0K of 4.0K    1.0K/s  1m01s"},
            {%{@known | done: 0, rate: 0, eta_ms: nil}, "0%, 0 of 4.0K, 0/s, 1m01s",
             "  0% [                    ]       0 of 4.0K       0/s  1m01s"},
            {%{@known | done: 0, total: 0, rate: 0, eta_ms: nil}, "100%, 0 of 0, 0/s, 1m01s",
             "100% [====================]       0 of 0       0/s  1m01s"},
            {%{@known | state: :finished, eta_ms: nil}, "25%, 1.0K of 4.0K, 1.0K/s, after 1m01s",
             " 25% [====>               ]    1.0K of 4.0K    1.0K/s  after 1m01s"},
            # A place in a file that was seen before the end.
            {%{@known | state: :finished, eta_ms: nil, bytes_in: nil},
             "out 2.0K, 1.0K/s, after 1m01s", "out   2.0K    1.0K/s  after 1m01s"},
            {%{@known | state: :finished, eta_ms: nil, bytes_in: nil, done: 4_096},
             "100%, 4.0K of 4.0K, 1.0K/s, after 1m01s",
             "100% [====================]    4.0K of 4.0K    1.0K/s  after 1m01s"},
            # A size that is known, and a place that is not.
            {%{@known | done: nil, eta_ms: nil, bytes_in: nil}, "out 2.0K, 1.0K/s, 1m01s",
             "out   2.0K    1.0K/s  1m01s"}
          ] do
        assert Bar.line(stats) == line
        fits = if bar =~ "[", do: byte_size(bar) + 1, else: 80
        assert Bar.bar(stats, fits) == bar
      end
    end

    test "is as wide as the terminal, less the cursor's column, where it has a bar" do
      for columns <- 60..200, do: assert(byte_size(Bar.bar(@known, columns)) == columns - 1)
    end

    test "is never wider than the terminal, and says the more important first" do
      numbers = [nil, 0, 1, 999, 1_048_576, 10 ** 15, 10 ** 30]
      :rand.seed(:exsss, {1, 2, 3})

      for _ <- 1..3_000 do
        total = Enum.random(numbers)
        done = total && Enum.random([nil, 0, total, div(total, 2), div(total, 3)])

        stats = %{
          state: Enum.random([:running, :finished]),
          elapsed_ms: Enum.random(tl(numbers)),
          bytes_in: Enum.random(numbers),
          bytes_out: Enum.random(numbers),
          total: total,
          done: done,
          rate: Enum.random(numbers),
          eta_ms: Enum.random(numbers)
        }

        columns = Enum.random(0..120)
        bar = Bar.bar(stats, columns)
        assert byte_size(bar) <= max(columns - 1, 0)
        assert bar =~ ~r/\A[ -~]*\z/
        # What was seen of a file is old at the end.
        old? = stats.state == :finished and stats.bytes_in == nil and done < total
        if done != nil and not old? and columns >= 5, do: assert(bar =~ ~r/\A *\d+%/)
        assert Bar.line(stats) =~ ~r/\A[!-~][ -~]*\z/
      end

      assert Bar.bar(@known, 14) == " 25%  ETA 3s"
      assert Bar.bar(@known, 12) == " 25%"
      assert Bar.bar(@known, 4) == " 25"
      assert Bar.bar(@stats, 24) == "out   2.0K  1m01s"
      assert Bar.bar(@stats, 17) == "1m01s"
    end
  end

  # stderr as the I/O protocol shows it: what is written comes as messages; with a width it is a terminal.
  defp with_stderr(device, fun) do
    real = Process.whereis(:standard_error)
    Process.unregister(:standard_error)
    if device, do: Process.register(device, :standard_error)

    try do
      fun.()
    after
      if Process.whereis(:standard_error), do: Process.unregister(:standard_error)
      Process.register(real, :standard_error)
    end
  end

  defp device(width) do
    me = self()
    spawn_link(fn -> device_loop(me, width) end)
  end

  defp device_loop(test, width) do
    receive do
      {:io_request, from, ref, {:get_geometry, :columns}} ->
        send(from, {:io_reply, ref, width})

      {:io_request, from, ref, {:put_chars, :unicode, chars}} ->
        send(test, {:wrote, IO.chardata_to_string(chars), from})
        send(from, {:io_reply, ref, :ok})
    end

    device_loop(test, width)
  end

  describe "stderr" do
    test "that is no terminal gets one line at the end of a short run" do
      said =
        capture_io(:stderr, fn ->
          assert NetRunner.run(["/bin/cat"], input: "12345", progress: true) == {"12345", 0}
        end)

      assert said =~ ~r"\Acat: 100%, 5 of 5, [\d.]+K?/s, after 0s\n\z"

      said =
        capture_io(:stderr, fn ->
          pipeline = NetRunner.pipeline([["printf", "ab"], ["cat"]])
          assert pipeline |> NetRunner.stream!(progress: true) |> Enum.join() == "ab"
        end)

      assert said =~ ~r"\Aprintf \| cat: out 2, [\d.]+K?/s, after 0s\n\z"
    end

    @tag :slow
    test "that is no terminal gets a line every five seconds, and one at the end" do
      {wait, open} = gate()
      began = System.monotonic_time(:millisecond)

      with_stderr(device({:error, :enotsup}), fn ->
        run = run_aside(["sh", "-c", wait], progress: true)
        assert_receive {:wrote, line, _from}, 10_000
        assert System.monotonic_time(:millisecond) - began >= 5_000
        assert line =~ ~r"\Ash: out 0, 0/s, [5-9]s\n\z"
        await_ticks(2)
        open.()
        Task.await(run)
        assert last_line() =~ ~r"\Ash: out 0, 0/s, after \d+s\n\z"
        refute_received {:wrote, _, _}
      end)
    end

    test "that is a terminal gets a line in its place, and a new line at the end" do
      {wait, open} = gate()
      opts = [input: "12345", progress: true]

      for width <- [60, 30] do
        with_stderr(device(width), fn ->
          run = run_aside(["sh", "-c", "cat; #{wait}"], opts)

          if width == 60 do
            for _ <- 1..2 do
              assert_receive {:wrote, "\r100% [====" <> _ = line, _from}, 5_000
              assert byte_size(line) == 60
              refute line =~ "\n"
            end
          end

          open.()
          assert {{"12345", 0}, info} = Task.await(run)
          assert info[:messages] == []
          assert last_line() =~ ~r/\A\r100% .*after \d+s *\n\z/
        end)
      end
    end

    defp last_line do
      assert_received {:wrote, line, _from}
      if line =~ "\n", do: line, else: last_line()
    end

    test "has its line ended when the caller is killed" do
      with_stderr(device(80), fn ->
        run = Task.async(fn -> NetRunner.run(["sleep", "60"], progress: true) end)
        assert_receive {:wrote, "\rout " <> _, from}, 5_000
        Task.shutdown(run, :brutal_kill)
        await_gone(from)
        assert last_line() =~ "after"
        refute_received {:wrote, _, _}
      end)
    end

    test "that is stuck, or ends, or is not there holds up nothing" do
      {wait, open} = gate()

      stuck =
        spawn_link(fn ->
          receive do: (:never -> :ok)
        end)

      back_at_baseline(fn ->
        with_stderr(stuck, fn ->
          run = run_aside(["sh", "-c", "#{wait}; head -c 1000000 /dev/zero"], progress: true)

          # It is asked, once, and says nothing, however often it could be asked again meanwhile.
          await_ticks(3)
          open.()
          assert {{zeros, 0}, info} = Task.await(run)
          assert byte_size(zeros) == 1_000_000
          assert info[:messages] == []
          assert Process.info(stuck, :message_queue_len) == {:message_queue_len, 1}
        end)
      end)

      device = spawn(fn -> receive do: ({:io_request, _, _, _} -> :gone) end)

      with_stderr(device, fn ->
        assert NetRunner.run(["printf", "x"], progress: true) == {"x", 0}
        await_gone(device)
      end)

      with_stderr(nil, fn -> assert NetRunner.run(["printf", "x"], progress: true) == {"x", 0} end)

      eventually("nobody waits for it", fn -> keepers() == [] end)
    end

    @tag timeout: 120_000
    test "on a real terminal: a bar that keeps to its width, drawn over itself" do
      code = """
      {out, 0} =
        NetRunner.run(["sh", "-c", "sleep 1.1; head -c 200000; cat > /dev/null"],
          input: String.duplicate("x", 8_000_000), progress: true)

      IO.puts(:stderr, "and \#{byte_size(out)}")
      """

      {:ok, p} =
        P.start("elixir", OtherBeam.elixir_args(code),
          pty: [cols: 57],
          env: [{"TERM", "dumb"} | OtherBeam.preload()]
        )

      on_exit(fn -> P.stop(p) end)
      assert {:ok, {said, _}} = P.await_output(p, ~r/and 200000\r\n/, 60_000)

      # The line that the program writes itself comes behind the bar's: on the same device, for between two ports there is no order.
      assert [said, ""] = String.split(said, ~r/ *\r+\n/)
      assert ["" | lines] = String.split(said, "\r")
      {drawn, [last]} = Enum.split(lines, -1)
      assert length(drawn) >= 2

      for line <- drawn,
          do: assert(line =~ ~r"^ *\d+% \[[=> ]+\]  +[\d.]+[KM]? of 7.6M +[\d.]+[KM]?/s  ")

      assert last =~ ~r"^100% \[=+\]    7.6M of 7.6M .*/s  after \d+s$"
      for line <- [last | drawn], do: assert(byte_size(line) <= 56)
    end

    @tag timeout: 120_000
    test "on a pipe: lines" do
      code = """
      NetRunner.run(["cat"], input: String.duplicate("x", 8_000_000), progress: true)
      """

      assert {"", 0, said} =
               NetRunner.run(["elixir" | OtherBeam.elixir_args(code)],
                 stderr: :capture,
                 env: OtherBeam.preload(),
                 timeout: 60_000
               )

      assert said =~ ~r"\Acat: 100%, 7.6M of 7.6M, [\d.]+[KMG]?/s, after \d+s\n\z"
    end
  end
end
