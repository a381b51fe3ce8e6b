defmodule NetRunner.GateTest do
  # gate: and NetRunner.Gate: never more at once than its limit, who comes first goes first, and whatever becomes of those who
  # hold a place or wait for one, no place is lost or given twice.
  use NetRunner.Test.Case
  use NetRunner.Test.Properties

  alias NetRunner.{Command, Gate}
  alias NetRunner.Test.Telemetry, as: Library

  doctest NetRunner.Gate

  # It comes with Library.load/0.
  @compile {:no_warn_undefined, :telemetry}

  # Sanitized processes fork twenty times slower; those legs of ci/test ask for fewer.
  @spawns String.to_integer(System.get_env("NET_RUNNER_TEST_SPAWNS", "10000"))

  defp gate(opts), do: start_supervised!({Gate, opts}, id: make_ref(), restart: :temporary)

  # A process that has a place until it is let go, and says when it is in: {:in, pid}, and what came of it: {:out, pid, answer}.
  defp come(gate, timeout \\ :infinity) do
    me = self()

    spawn(fn ->
      answer =
        Gate.with_place(gate, timeout, fn ->
          send(me, {:in, self()})
          receive do: (:go -> :done)
        end)

      send(me, {:out, self(), answer})
    end)
  end

  defp inside(gate) do
    pid = come(gate)
    assert_receive {:in, ^pid}, 5_000
    pid
  end

  # The n-th to wait.
  defp waits(gate, n), do: gate |> come() |> tap(fn _pid -> queued(gate, n) end)

  defp queued(gate, n),
    do: eventually("#{n} wait", 5_000, fn -> Gate.info(gate).waiting == n end)

  defp go(pid) do
    send(pid, :go)
    assert_receive {:out, ^pid, {:ok, :done}}, 5_000
  end

  defp end_it(pid) do
    monitor = Process.monitor(pid)
    Process.exit(pid, :kill)
    assert_receive {:DOWN, ^monitor, :process, ^pid, _reason}
  end

  # How many starts were asked for meanwhile.
  defp starts(fun) do
    shepherd = Process.whereis(NetRunner.Shepherd)
    :erlang.trace(shepherd, true, [:receive])
    fun.()
    # Behind all that came before.
    _ = NetRunner.Shepherd.info()
    assert_receive {:trace, ^shepherd, :receive, {:"$gen_call", _from, :info}}, 5_000
    :erlang.trace(shepherd, false, [:receive])
    delivered = :erlang.trace_delivered(shepherd)
    assert_receive {:trace_delivered, ^shepherd, ^delivered}, 5_000
    heard(shepherd, 0)
  end

  defp heard(shepherd, starts) do
    receive do
      {:trace, ^shepherd, :receive, {:"$gen_call", _, request}} when elem(request, 0) == :spawn ->
        heard(shepherd, starts + 1)

      {:trace, ^shepherd, :receive, _other} ->
        heard(shepherd, starts)
    after
      0 -> starts
    end
  end

  defp idle?(gate), do: match?(%{running: 0, waiting: 0}, Gate.info(gate))
  defp empty?, do: Process.info(self(), :messages) == {:messages, []}

  describe "the limit" do
    on_backends "is never passed by commands" do
      gate = gate(limit: 3)
      dir = Path.dirname(tmp_path("here"))
      # Each of them sees the marks of all that run with it.
      script = ~S(: > "$0/$$"; ls "$0" | wc -l; sleep 0.02; ls "$0" | wc -l; rm "$0/$$")

      seen =
        1..30
        |> Task.async_stream(
          fn _n ->
            NetRunner.run(["sh", "-c", script, dir], gate: gate, lines: true, backend: backend)
          end,
          max_concurrency: 30,
          timeout: 30_000
        )
        |> Enum.flat_map(fn {:ok, {counts, 0}} -> Enum.map(counts, &String.to_integer/1) end)

      assert length(seen) == 60
      assert Enum.all?(seen, &(&1 in 1..3))
      assert idle?(gate)
    end

    test "is reached" do
      gate = gate(limit: 3)
      three = for _ <- 1..3, do: inside(gate)
      fourth = waits(gate, 1)
      assert Gate.info(gate) == %{limit: 3, running: 3, waiting: 1}
      refute_received {:in, ^fourth}
      for pid <- three, do: go(pid)
      assert_receive {:in, ^fourth}
      go(fourth)
      assert idle?(gate)
    end

    test "raised lets in who waited longest, lowered it takes nobody's place" do
      gate = gate(limit: 1)
      first = inside(gate)
      [second, third, fourth] = for n <- 1..3, do: waits(gate, n)
      assert Gate.set_limit(gate, 3) == :ok
      assert_receive {:in, ^second}
      assert_receive {:in, ^third}
      assert Gate.info(gate) == %{limit: 3, running: 3, waiting: 1}

      assert Gate.set_limit(gate, 1) == :ok
      go(first)
      go(second)
      assert Gate.info(gate) == %{limit: 1, running: 1, waiting: 1}
      refute_received {:in, ^fourth}
      go(third)
      assert_receive {:in, ^fourth}
      go(fourth)
    end

    test "of 0 lets nobody in until there is another" do
      gate = gate(limit: 0)
      assert NetRunner.run(["true"], gate: gate, timeout: 10) == {:error, :timeout}
      first = waits(gate, 1)
      Gate.set_limit(gate, 1)
      assert_receive {:in, ^first}
      go(first)
    end

    test "is as many as there are schedulers, unless it is given" do
      assert Gate.info(gate([])).limit == System.schedulers_online()
      assert_raise ArgumentError, ~r/:limit/, fn -> Gate.start_link(limit: -1) end
      assert_raise ArgumentError, ~r/:nonsense/, fn -> Gate.child_spec(nonsense: 1) end
    end

    # However many processes come: 10,000 here.
    @tag :slow
    @tag timeout: 600_000
    on_backends "holds in a storm of commands, all of which run, and nothing is left" do
      Library.load()
      Library.start()
      assert NetRunner.Telemetry.refresh()
      # How many run, how many there were at once, how many ended.
      counts = :counters.new(3, [:atomics])
      events = for what <- [:start, :stop], do: [:net_runner, :command, what]
      :ok = :telemetry.attach_many({__MODULE__, backend}, events, &__MODULE__.count/4, counts)
      gate = gate(limit: 8)

      statuses =
        back_at_baseline(fn ->
          1..@spawns
          |> Task.async_stream(
            fn _n -> NetRunner.run(["/bin/true"], gate: gate, backend: backend) end,
            max_concurrency: @spawns,
            ordered: false,
            timeout: :infinity
          )
          |> Enum.frequencies()
        end)

      assert statuses == %{{:ok, {"", 0}} => @spawns}
      assert :counters.get(counts, 1) == 0
      assert :counters.get(counts, 2) == 0
      assert :counters.get(counts, 3) == @spawns
      assert idle?(gate)
    end

    # A handler of :telemetry, called by each command's server.
    def count([_, _, :start], _measurements, _metadata, counts) do
      :counters.add(counts, 1, 1)
      if :counters.get(counts, 1) > 8, do: :counters.add(counts, 2, 1)
    end

    def count([_, _, :stop], _measurements, _metadata, counts) do
      :counters.sub(counts, 1, 1)
      :counters.add(counts, 3, 1)
    end
  end

  describe "the queue" do
    test "goes by the order of coming, and nobody is skipped for those who left it" do
      gate = gate(limit: 1)
      first = inside(gate)
      waiting = for n <- 1..12, do: waits(gate, n)

      {leave, stay} =
        Enum.split_with(waiting, &(rem(Enum.find_index(waiting, fn p -> p == &1 end), 3) == 0))

      for pid <- leave, do: end_it(pid)
      queued(gate, 8)

      last =
        Enum.reduce(stay, first, fn next, before ->
          go(before)
          assert_receive {:in, ^next}
          refute_received {:in, _another}
          next
        end)

      go(last)
      assert idle?(gate)
    end

    test "is bounded: past it the answer comes at once" do
      gate = gate(limit: 1, max_queue: 1)
      first = inside(gate)
      second = waits(gate, 1)
      never = tmp_path("never")
      touch = ["touch", never]

      assert NetRunner.run(touch, gate: gate) == {:error, :queue_full}
      assert NetRunner.exec(touch, gate: gate) == {:error, :queue_full}
      assert Gate.with_place(gate, fn -> :never end) == {:error, :queue_full}

      for call <- [
            &NetRunner.run!/2,
            &NetRunner.exec!/2,
            &Enum.to_list(NetRunner.stream!(&1, &2))
          ] do
        error = assert_raise NetRunner.Error, fn -> call.(touch, gate: gate) end
        assert %{reason: :queue_full, cmd: ^touch} = error
        assert Exception.message(error) =~ "the queue of its gate is full"
      end

      refute File.exists?(never)
      assert Gate.info(gate) == %{limit: 1, running: 1, waiting: 1}
      end_it(second)
      queued(gate, 0)
      third = waits(gate, 1)
      go(first)
      assert_receive {:in, ^third}
      go(third)
      assert empty?()
    end

    test "of none has nobody wait" do
      gate = gate(limit: 1, max_queue: 0)
      assert NetRunner.run(["echo", "in"], gate: gate) == {"in\n", 0}
      first = inside(gate)
      assert NetRunner.run(["true"], gate: gate) == {:error, :queue_full}
      go(first)
    end

    test "is left by a call whose time is over: nothing ran, nothing comes later" do
      gate = gate(limit: 1)
      first = inside(gate)
      never = tmp_path("never")

      for call <- [&NetRunner.run/2, &NetRunner.exec/2] do
        assert call.(["touch", never], gate: gate, timeout: 20) == {:error, :timeout}
        assert Gate.info(gate) == %{limit: 1, running: 1, waiting: 0}
      end

      assert Gate.with_place(gate, 20, fn -> File.touch!(never) end) == {:error, :timeout}
      error = catch_error(NetRunner.run!(["touch", never], gate: gate, timeout: 20))
      assert %NetRunner.Error{reason: :timeout} = error
      go(first)
      assert idle?(gate)
      assert empty?()
      refute File.exists?(never)
      assert NetRunner.run(["echo", "in"], gate: gate, timeout: 5_000) == {"in\n", 0}
    end

    test "is nobody's who only tries: with 0 ms there is a place, or there is none" do
      gate = gate(limit: 2, max_queue: 1)
      try_it = fn -> Gate.with_place(gate, 0, fn -> Gate.info(gate).running end) end
      # Each of them: an answer that comes in time only now and then is none.
      for _ <- 1..1_000, do: assert(try_it.() == {:ok, 1})
      [first, second] = [inside(gate), inside(gate)]
      assert try_it.() == {:error, :timeout}
      third = waits(gate, 1)
      assert try_it.() == {:error, :timeout}
      assert Gate.info(gate) == %{limit: 2, running: 2, waiting: 1}
      go(first)
      assert_receive {:in, ^third}
      go(second)
      assert try_it.() == {:ok, 2}
      go(third)
      assert idle?(gate)

      assert Gate.with_place(gate, 0, fn ->
               assert_raise ArgumentError, ~r/already/, fn -> try_it.() end
             end)

      # A call has no time for its command either.
      never = tmp_path("never")
      assert NetRunner.run(["touch", never], gate: gate, timeout: 0) == {:error, :timeout}
      assert NetRunner.run(["touch", never], timeout: 0) == {:error, :timeout}
      refute File.exists?(never)
      assert idle?(gate)
      assert empty?()
    end

    test "is not waited in for more than the time of the call, which goes on with the command" do
      gate = gate(limit: 1)
      first = inside(gate)
      call = Task.async(fn -> NetRunner.exec(["sleep", "60"], gate: gate, timeout: 1_000) end)
      queued(gate, 1)
      go(first)
      assert {:ok, %{cause: :timeout}} = Task.await(call)
      assert idle?(gate)
    end
  end

  describe "a place is given back" do
    on_backends "however the call ends" do
      gate = gate(limit: 1)
      opts = [gate: gate, backend: backend]
      sh = &["sh", "-c", &1]

      calls = [
        ended: fn -> NetRunner.run(["true"], opts) end,
        failed: fn -> NetRunner.run!(sh.("exit 3"), opts) end,
        told: fn -> NetRunner.exec!(sh.("exit 3"), opts) end,
        not_there: fn -> NetRunner.run(["no-such-program"], opts) end,
        no_directory: fn ->
          NetRunner.stream!(["true"], [cd: "/none"] ++ opts) |> Enum.to_list()
        end,
        invalid: fn -> NetRunner.run(["true"], [cd: ""] ++ opts) end,
        timed_out: fn -> NetRunner.run(["sleep", "60"], [timeout: 50] ++ opts) end,
        too_much: fn -> NetRunner.run(["yes"], [max_output_size: 9] ++ opts) end,
        input: fn ->
          NetRunner.run(["cat"], [input: Stream.map([1], fn _ -> raise "no" end)] ++ opts)
        end,
        into: fn -> NetRunner.run(["yes"], [into: %{}] ++ opts) end,
        read: fn -> NetRunner.stream!(["echo", "x"], opts) |> Enum.to_list() end,
        status: fn -> NetRunner.stream!(sh.("exit 3"), opts) |> Enum.to_list() end,
        halted: fn -> NetRunner.stream!(["yes"], opts) |> Enum.take(1) end,
        consumer: fn ->
          NetRunner.stream!(["yes"], opts) |> Enum.each(fn _ -> throw(:enough) end)
        end,
        silent: fn ->
          NetRunner.stream!(["sleep", "60"], [idle_timeout: 20] ++ opts) |> Enum.to_list()
        end,
        piped: fn -> NetRunner.run(NetRunner.pipeline([["yes"], ["head", "-1"]]), opts) end,
        exited: fn -> Gate.with_place(gate, fn -> exit(:enough) end) end,
        thrown: fn -> Gate.with_place(gate, fn -> throw(:enough) end) end
      ]

      for {name, call} <- calls do
        try do
          call.()
        catch
          _kind, _reason -> :ok
        end

        assert {name, idle?(gate)} == {name, true}
      end

      assert empty?()
    end

    test "by a process that is killed, and by a task that is shut down" do
      gate = gate(limit: 1)
      first = inside(gate)
      second = waits(gate, 1)
      end_it(first)
      assert_receive {:in, ^second}
      task = Task.async(fn -> NetRunner.run(["true"], gate: gate) end)
      queued(gate, 1)
      Task.shutdown(task)
      queued(gate, 0)
      go(second)
      assert idle?(gate)
    end

    # Else there would be more than the limit, for as long as the ladder takes.
    test "by a process that is killed once its command is gone, not before" do
      gate = gate(limit: 1)
      script = ~S(trap '' TERM; echo $$ > "$0.new"; mv "$0.new" "$0"; while :; do sleep 0.1; done)

      for how <- [
            &NetRunner.run(&1, gate: gate, kill_timeout: 300),
            &Enum.to_list(NetRunner.stream!(&1, gate: gate, kill_timeout: 300)),
            &NetRunner.run(NetRunner.pipeline([["true"], &1]), gate: gate, kill_timeout: 300),
            &Gate.with_place(gate, fn -> NetRunner.run(&1, kill_timeout: 300) end)
          ] do
        file = tmp_path("pid")
        caller = spawn(fn -> how.(["sh", "-c", script, file]) end)

        os_pid =
          eventually("it runs", 5_000, fn ->
            match?({:ok, _}, File.read(file)) and File.read!(file)
          end)

        os_pid = os_pid |> String.trim() |> String.to_integer()
        end_it(caller)
        assert {:ok, false} = Gate.with_place(gate, 10_000, fn -> running?(os_pid) end)
      end

      assert idle?(gate)
    end

    # A start asks its gates one after the other: the first, which is stuck, holds it until the second knows of the death.
    test "by a process that is killed before its start was known, and nothing is started" do
      [stuck, other] = [gate(limit: 1), gate(limit: 1)]
      me = self()

      within = fn ->
        send(me, :in)
        receive do: (:go -> NetRunner.run(["true"]))
      end

      caller = spawn(fn -> Gate.with_place(other, fn -> Gate.with_place(stuck, within) end) end)

      assert_receive :in, 5_000

      started =
        starts(fn ->
          :sys.suspend(stuck)
          send(caller, :go)

          eventually("the start asks", 5_000, fn ->
            Process.info(stuck, :message_queue_len) == {:message_queue_len, 1}
          end)

          end_it(caller)
          eventually("the place is free", 5_000, fn -> idle?(other) end)
          :sys.resume(stuck)
          eventually("the start has ended", 5_000, fn -> idle?(stuck) end)
        end)

      assert started == 0
    end

    test "by whoever ends a stream, also where another began it" do
      gate = gate(limit: 1)
      me = self()

      other =
        spawn(fn ->
          suspend = fn element, _acc -> {:suspend, element} end

          reduced =
            Enumerable.reduce(NetRunner.stream!(["yes"], gate: gate), {:cont, nil}, suspend)

          send(me, reduced)
          receive do: (:go -> :ok)
        end)

      assert_receive {:suspended, "y\n" <> _, continue}, 5_000
      assert Gate.info(gate).running == 1
      assert {:halted, :over} = continue.({:halt, :over})
      assert idle?(gate)
      end_it(other)
    end
  end

  describe "what counts" do
    test "is a pipeline as one" do
      gate = gate(limit: 1)

      seen = fn lines ->
        Stream.map(lines, fn line -> [line, " ", inspect(Gate.info(gate).running)] end)
      end

      pipeline = NetRunner.pipeline([["echo", "here"], {seen, lines: true}, ["cat"]])
      assert NetRunner.run(pipeline, gate: gate) == {"here 1", 0}
      assert pipeline |> NetRunner.stream!(gate: gate) |> Enum.join() == "here 1"

      stage = Command.new("cat", [], gate: gate)

      assert_raise ArgumentError, ~r/:gate, only the call/, fn ->
        NetRunner.run(NetRunner.pipeline([["true"], stage]))
      end

      assert NetRunner.run(stage) == {"", 0}
      assert_raise ArgumentError, ~r/:gate/, fn -> NetRunner.Process.start(stage) end
    end

    test "is each enumeration of a stream, while it lasts" do
      gate = gate(limit: 1)
      stream = NetRunner.stream!(["echo", "x"], gate: gate)
      {:ok, checked} = NetRunner.stream(["echo", "x"], gate: gate)
      assert idle?(gate)

      for stream <- [stream, stream, checked] do
        assert Enum.map(stream, &{&1, Gate.info(gate).running}) == [{"x\n", 1}]
        assert idle?(gate)
      end
    end

    test "is with_place/3 as one, whatever runs in it" do
      gate = gate(limit: 1)

      assert {:ok, ["a\n", "b\n"]} =
               Gate.with_place(gate, fn ->
                 for word <- ["a", "b"], do: elem(NetRunner.run(["echo", word]), 0)
               end)

      assert idle?(gate)
      # Its mark is gone: this one is none of it.
      assert Process.get_keys() |> Enum.filter(&match?({Gate, _}, &1)) == []
    end

    test "is not a second place of one process, which would wait for itself" do
      [gate, other] = [gate(limit: 2), gate(limit: 1)]
      again = ~r/has a place of .* already/

      Gate.with_place(gate, fn ->
        assert_raise ArgumentError, again, fn -> NetRunner.run(["true"], gate: gate) end
        assert_raise ArgumentError, again, fn -> Gate.with_place(gate, fn -> :never end) end
        # Another gate is another matter.
        assert NetRunner.run(["true"], gate: other) == {"", 0}
        assert Gate.info(gate) == %{limit: 2, running: 1, waiting: 0}
      end)

      numbers = NetRunner.stream!(["seq", "3"], gate: gate)

      assert_raise ArgumentError, again, fn ->
        Enum.each(numbers, fn _ -> NetRunner.run(["true"], gate: gate) end)
      end

      # Who makes a command's input is waited for by whoever runs the command, however long the chain is.
      assert_raise ArgumentError, again, fn ->
        numbers |> NetRunner.through(["cat"], gate: gate) |> Enum.to_list()
      end

      assert_raise ArgumentError, again, fn ->
        numbers
        |> NetRunner.through(["cat"])
        |> NetRunner.through(["cat"], gate: gate)
        |> Enum.to_list()
      end

      assert numbers |> NetRunner.through(["cat"]) |> Enum.join() == "1\n2\n3\n"
      assert {idle?(gate), idle?(other)} == {true, true}
    end
  end

  describe "a gate" do
    test "that is not there is an error" do
      for gate <- [
            __MODULE__.None,
            {:via, Registry, {NetRunner.Registry, :none}},
            {:global, :none}
          ] do
        assert NetRunner.run(["true"], gate: gate) == {:error, :no_gate}
        assert Gate.with_place(gate, fn -> :never end) == {:error, :no_gate}
        assert Gate.with_place(gate, 0, fn -> :never end) == {:error, :no_gate}
        assert Gate.info(gate) == {:error, :no_gate}
        assert Gate.set_limit(gate, 1) == {:error, :no_gate}
        stream = NetRunner.stream!(["true"], gate: gate)
        assert %{reason: :no_gate} = catch_error(Enum.to_list(stream))
      end

      dead = gate([])
      end_it(dead)
      assert NetRunner.exec(["true"], gate: dead) == {:error, :no_gate}
      assert Gate.with_place(dead, 0, fn -> :never end) == {:error, :no_gate}
      assert Gate.info(dead) == {:error, :no_gate}
      assert Gate.set_limit(dead, 1) == {:error, :no_gate}
      assert empty?()
      assert NetRunner.run(["true"], gate: nil) == {"", 0}
    end

    test "is never who asks: that is an error at once, and nothing is left in its mailbox" do
      me = self()
      name = __MODULE__.Asker
      true = Process.register(me, name)

      for gate <- [me, name],
          ask <- [
            &NetRunner.run(["true"], gate: &1, timeout: 100),
            &NetRunner.exec(NetRunner.pipeline([["true"], ["cat"]]), gate: &1, timeout: 100),
            &Enum.to_list(NetRunner.stream!(["true"], gate: &1)),
            &Gate.with_place(&1, 100, fn -> :never end),
            &Gate.info/1,
            &Gate.set_limit(&1, 1)
          ] do
        error = assert_raise ArgumentError, fn -> ask.(gate) end
        assert error.message =~ "#{inspect(gate)} is the calling process itself, and no gate"
        assert Process.info(me, :messages) == {:messages, []}
      end
    end

    test "that ends takes nobody with it: those inside go on, those who wait are told" do
      start_supervised!({Gate, name: __MODULE__.Gate, limit: 1})
      first = inside(__MODULE__.Gate)
      waiting = for n <- 1..3, do: waits(__MODULE__.Gate, n)
      run = Task.async(fn -> NetRunner.run(["true"], gate: __MODULE__.Gate) end)
      queued(__MODULE__.Gate, 4)
      gate = Process.whereis(__MODULE__.Gate)
      end_it(gate)
      for pid <- waiting, do: assert_receive({:out, ^pid, {:error, :no_gate}}, 5_000)
      assert Task.await(run) == {:error, :no_gate}

      # The next one is its supervisor's, and not of the places of the one before.
      eventually("another gate", 5_000, fn ->
        Process.whereis(__MODULE__.Gate) not in [nil, gate]
      end)

      assert NetRunner.run(["echo", "in"], gate: __MODULE__.Gate) == {"in\n", 0}
      go(first)
      assert idle?(__MODULE__.Gate)
    end

    test "keeps nobody waiting who gives a place back, also while it is stuck" do
      gate = gate(limit: 1)
      first = inside(gate)
      :sys.suspend(gate)
      go(first)

      for ms <- [0, 20],
          do: assert(Gate.with_place(gate, ms, fn -> :never end) == {:error, :timeout})

      assert NetRunner.run(["true"], gate: gate, timeout: 20) == {:error, :timeout}
      :sys.resume(gate)
      # It gives places to those who have gone, and has them back.
      assert idle?(gate)
      assert empty?()
      assert NetRunner.run(["true"], gate: gate) == {"", 0}
    end

    test "holds up a start while it is stuck, no longer than spawn_timeout, and not once it has ended" do
      gate = gate(limit: 1)
      run = fn ms -> NetRunner.run(["echo", "in"], spawn_timeout: ms) end

      Gate.with_place(gate, fn ->
        :sys.suspend(gate)
        assert starts(fn -> assert run.(20) == {:error, :spawn_timeout} end) == 0
        end_it(gate)
        assert starts(fn -> assert run.(30_000) == {"in\n", 0} end) == 1
      end)

      assert empty?()
    end

    test "keeps nothing of those who have gone" do
      gate = gate(limit: 2)
      for _ <- 1..20, do: NetRunner.run(["true"], gate: gate)
      for _ <- 1..20, do: gate |> inside() |> end_it()
      eventually("nobody is in", fn -> idle?(gate) end)
      assert %{places: places, of: of} = :sys.get_state(gate)
      assert {places, of} == {%{}, %{}}
      assert Process.info(gate, :monitors) == {:monitors, []}
      assert Process.info(gate, :message_queue_len) == {:message_queue_len, 0}
    end
  end

  describe "whatever is done in any order" do
    # A number is one of those who come, stay and go.
    defp step do
      frequency([
        {6, {:come, integer(1, 8)}},
        {4, {:go, integer(1, 8)}},
        {3, {:die, integer(1, 8)}},
        {2, {:try, integer(0, 1)}},
        {1, {:limit, integer(0, 4)}}
      ])
    end

    test "is answered as a list of those inside and a list of those who wait say" do
      forall {limit, max, steps} <- {integer(0, 3), integer(0, 4), list(step())},
             tests: 150,
             max_size: 60 do
        {:ok, gate} = Gate.start_link(limit: limit, max_queue: max)
        model = %{gate: gate, limit: limit, max: max, in: [], waiting: [], pids: %{}}
        model = Enum.reduce(steps, model, &take(&2, &1))
        for n <- model.waiting, do: end_it(model.pids[n])
        queued(gate, 0)
        for n <- model.in, do: end_it(model.pids[n])
        eventually("nobody is left", fn -> idle?(gate) end)
        GenServer.stop(gate)
        assert empty?()
      end
    end

    defp take(model, {:come, n}) do
      cond do
        n in model.in or n in model.waiting ->
          model

        length(model.in) >= model.limit and length(model.waiting) >= model.max ->
          pid = come(model.gate)
          assert_receive {:out, ^pid, {:error, :queue_full}}, 5_000
          agree(model)

        true ->
          pid = come(model.gate)
          admit(%{model | waiting: model.waiting ++ [n], pids: Map.put(model.pids, n, pid)})
      end
    end

    defp take(model, {:go, n}) do
      if n in model.in do
        go(model.pids[n])
        admit(%{model | in: List.delete(model.in, n)})
      else
        model
      end
    end

    defp take(model, {:die, n}) do
      if n in model.in or n in model.waiting do
        end_it(model.pids[n])
        admit(%{model | in: List.delete(model.in, n), waiting: List.delete(model.waiting, n)})
      else
        model
      end
    end

    # What is free is had at once, or not at all.
    defp take(model, {:try, 0}) do
      answer = Gate.with_place(model.gate, 0, fn -> :in end)
      free? = length(model.in) < model.limit
      assert answer == if(free?, do: {:ok, :in}, else: {:error, :timeout})
      agree(model)
    end

    # It may get a place that is free, or may have given up just then.
    defp take(model, {:try, ms}) do
      case Gate.with_place(model.gate, ms, fn -> :in end) do
        {:ok, :in} -> assert length(model.in) < model.limit
        {:error, :queue_full} -> assert length(model.waiting) >= model.max
        {:error, :timeout} -> :ok
      end

      agree(model)
    end

    defp take(model, {:limit, limit}) do
      Gate.set_limit(model.gate, limit)
      admit(%{model | limit: limit})
    end

    defp admit(%{waiting: [n | waiting]} = model) when length(model.in) < model.limit do
      pid = model.pids[n]
      assert_receive {:in, ^pid}, 5_000
      admit(%{model | in: model.in ++ [n], waiting: waiting})
    end

    defp admit(model), do: agree(model)

    defp agree(model) do
      expected = %{
        limit: model.limit,
        running: length(model.in),
        waiting: length(model.waiting)
      }

      eventually("the gate agrees", fn -> Gate.info(model.gate) == expected end)
      refute_received {:in, _another}
      model
    end
  end
end
