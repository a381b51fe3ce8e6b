defmodule NetRunner.Test.ProcessModel do
  @moduledoc """
  What `NetRunner.Process` must answer, whatever is called in whatever order: a model of commands, and
  sequences of calls (PropEr's `proper_statem` draws and shrinks them) that are made for real and judged.

      forall calls <- ProcessModel.calls(), show: &ProcessModel.show/1 do
        ProcessModel.run!(calls, backend)
      end

  Three commands stand for all: `:cat`, which gives back what it gets and ends with its input; `:deaf`,
  which ignores SIGTERM and reads nothing; `{:exits, code, text}`, which ends by itself.

  The model of one command is what is known of it:

    * `life`: it is `:running` for certain; it is `:leaving`, as its end was brought about and comes when it
      comes; it has `:ended`, which somebody was told; its server is `:gone`.
    * `ends`: the statuses that it may end with. More than one only where two ends race.
    * `unread`: what it has to write still. Where it was killed meanwhile (`whole?` is false), any part of that
      may be lost, but not the part before one that came.

  Each clause of `model/3` is an answer that is right, and what is known after it; all others are wrong.
  """

  use NetRunner.Test.Properties
  import ExUnit.Assertions

  alias NetRunner.Process, as: P
  alias NetRunner.Result
  alias NetRunner.Test.{FaultCase, FrameModel, World}

  # One page: what even a pipe that the system made small takes without waiting for a reader.
  @unread_max 4096
  @at_once 4
  # Long enough for what must come, short for what must not.
  @must_come 5_000
  @must_not_come 5
  @grace 20
  # A pipe holds a mebibyte at most; there are two, and what cat has in its hands.
  @flood 4 * 1_048_576
  @flood_ms 20

  ## Drawing calls. proper_statem calls these to draw and to shrink; the answers are judged by run!/2.

  @doc "The type of a sequence of calls."
  def calls, do: :proper_statem.commands(__MODULE__)

  @doc false
  def initial_state, do: %{commands: [], cats: [], written: %{}, zygote_killed?: false}

  @doc false
  def command(%{commands: []}), do: call(:start, [kind()])

  def command(%{commands: commands, cats: cats}) do
    p = elements(commands)

    frequency([
      {12, call(:start, [kind()])},
      {20, call(:write, [p, bytes()])},
      {20, call(:read, [p, oneof([integer(1, 10), 262_144])])},
      {10, call(:read_any, [p, oneof([integer(1, 10), 262_144])])},
      {10, call(:write_frame, [p, resize(300, binary())])},
      {20, call(:read_frame, [p])},
      {3, call(:read_stderr, [p, integer(1, 10)])},
      {10, call(:await_output, [p, oneof([binary(1), non_empty(binary())])])},
      {3, call(:set_window_size, [p, integer(1, 65_535), integer(1, 65_535)])},
      {8, call(:close_stdin, [p])},
      {12,
       call(:kill, [
         p,
         elements([:sigterm, :sigkill, :sigusr1, :sigcont]),
         elements([:group, :leader])
       ])},
      {14, call(:await_exit, [p, elements([:look, :wait])])},
      {8, call(:result, [p, elements([:look, :wait])])},
      {4, call(:shutdown, [p, elements([0, @grace])])},
      {5, call(:set_owner, [p])},
      {5, call(:stop, [p])},
      {5, call(:owner_exit, [p, elements([:normal, :kill])])},
      # It takes a second: a zygote killed younger is replaced later only.
      {1, call(:kill_zygote, [])}
      | for(cat <- cats, do: {2, call(:flood, [cat])})
    ])
  end

  defp call(name, args), do: {:call, __MODULE__, name, args}

  defp kind, do: oneof([:cat, :cat, :deaf, {:exits, integer(0, 255), text()}])
  defp bytes, do: oneof([non_empty(binary()), binary(1500)])

  # No NUL: it is an argument.
  defp text, do: let(list(integer(1, 255)), &:erlang.list_to_binary/1)

  @doc false
  def precondition(state, {:call, _model, :start, _args}), do: length(state.commands) < @at_once

  def precondition(state, {:call, _model, :write, [p, bytes]}),
    do: Map.fetch!(state.written, p) + byte_size(bytes) <= @unread_max

  def precondition(state, {:call, _model, :write_frame, [p, frame]}),
    do: Map.fetch!(state.written, p) + 1 + byte_size(frame) <= @unread_max

  def precondition(state, {:call, _model, :flood, [p]}), do: p in state.cats
  def precondition(state, {:call, _model, :kill_zygote, []}), do: not state.zygote_killed?
  def precondition(_state, _call), do: true

  @doc false
  def next_state(state, p, {:call, _model, :start, [kind]}) do
    cats = if kind == :cat, do: [p | state.cats], else: state.cats
    %{state | commands: [p | state.commands], cats: cats, written: Map.put(state.written, p, 0)}
  end

  def next_state(state, _answer, {:call, _model, :write, [p, bytes]}),
    do: update_in(state.written[p], &(&1 + byte_size(bytes)))

  def next_state(state, _answer, {:call, _model, :write_frame, [p, frame]}),
    do: update_in(state.written[p], &(&1 + 1 + byte_size(frame)))

  def next_state(state, _answer, {:call, _model, :kill_zygote, []}),
    do: %{state | zygote_killed?: true}

  # Cats that are there for certain.
  def next_state(state, _answer, {:call, _model, name, [p | _args]})
      when name in [:close_stdin, :kill, :shutdown, :stop, :owner_exit],
      do: %{state | cats: List.delete(state.cats, p)}

  def next_state(state, _answer, _call), do: state

  @doc "The calls as one would write them."
  def show(calls), do: Enum.map_join(calls, "\n", &show_call/1)

  defp show_call({:set, p, {:call, _model, :start, [kind]}}),
    do: "#{name(p)} = start(#{show_term(kind)})"

  defp show_call({:set, _answer, {:call, _model, name, args}}),
    do: "#{name}(#{Enum.map_join(args, ", ", &show_term/1)})"

  defp show_term({:var, _n} = p), do: name(p)
  defp show_term(term), do: inspect(term, printable_limit: 50, limit: 50)

  defp name({:var, n}), do: "p#{n}"

  ## Making calls

  @doc "Makes the calls, judges each answer, and ends everything: nothing may be left."
  def run!(calls, backend) do
    World.back_at_baseline(fn ->
      calls
      |> Enum.reduce(%{backend: backend, commands: %{}, told: []}, &step/2)
      |> finish()
    end)

    assert Process.info(self(), :messages) == {:messages, []}
  end

  defp step({:set, p, {:call, _model, :start, [kind]}} = call, world) do
    command = start(kind, world.backend)
    tell(put_in(world.commands[p], command), call, {:ok, command.os_pid})
  end

  defp step({:set, _answer, {:call, _model, :kill_zygote, []}} = call, world) do
    FaultCase.kill_zygote()
    assert NetRunner.run(["true"]) == {"", 0}
    tell(world, call, :ok)
  end

  defp step({:set, _answer, {:call, _model, name, [p | args]}} = call, world) do
    command = Map.fetch!(world.commands, p)
    request = List.to_tuple([name | args])
    answer = make(command, request)
    world = tell(world, call, answer)
    put_in(world.commands[p], judge(command, request, answer, world))
  end

  defp tell(world, call, answer),
    do: %{world | told: ["#{show_call(call)} -> #{show_term(answer)}" | world.told]}

  defp judge(command, request, answer, world) do
    with :wrong <- model(command, request, answer) do
      known = Map.take(command, [:kind, :life, :ends, :stdin, :unread, :whole?])

      flunk("""
      the last answer is wrong:

      #{world.told |> Enum.reverse() |> Enum.join("\n")}

      what was known of the command: #{inspect(known, printable_limit: 200)}
      """)
    end
  end

  # Whatever is left ends, as it must; and each command's end was told once, to everybody the same.
  defp finish(world) do
    for {p, %{life: life} = command} <- world.commands, life != :gone do
      calls = if life == :running, do: [{:stop}], else: [{:await_exit, :wait}, {:stop}]

      Enum.reduce(calls, {command, world}, fn request, {command, world} ->
        [name | args] = Tuple.to_list(request)
        answer = make(command, request)
        world = tell(world, {:set, nil, {:call, __MODULE__, name, [p | args]}}, answer)
        {judge(command, request, answer, world), world}
      end)
    end

    for {_p, %{owner: owner}} <- world.commands, do: send(owner, :end)
  end

  defp start(kind, backend) do
    {cmd, ready} = cmd(kind)
    owner = owner()
    frames = [packet: 1, max_frame_size: FrameModel.max()]
    opts = [owner: owner, kill_timeout: @grace, stderr: :pipe, backend: backend] ++ frames
    {:ok, p} = P.start(hd(cmd), tl(cmd), opts)
    if ready, do: assert(P.read(p, 100, @must_come) == {:ok, ready})
    {:ok, os_pid} = P.os_pid(p)

    known = %{
      kind: kind,
      p: p,
      cmd: cmd,
      os_pid: os_pid,
      owner: owner,
      monitor: Process.monitor(p),
      waiter: waiter(p),
      life: :running,
      ends: [],
      killed?: false,
      shut_down?: false,
      stdin: :open,
      unread: "",
      whole?: true
    }

    case kind do
      {:exits, code, text} -> %{known | life: :leaving, ends: [code], unread: text}
      _goes_on -> known
    end
  end

  defp cmd(:cat), do: {["cat"], nil}
  # It says so when it ignores SIGTERM.
  defp cmd(:deaf), do: {[World.fixture("ignore_term")], "ready\n"}

  defp cmd({:exits, code, text}),
    do: {[World.fixture("exit_with"), to_string(code), text], nil}

  # Ends when told to, or with whoever started it.
  defp owner do
    starter = self()

    spawn(fn ->
      monitor = Process.monitor(starter)

      receive do
        :end -> :ok
        {:DOWN, ^monitor, :process, ^starter, _reason} -> :ok
      end
    end)
  end

  # Somebody who waits for the end from the first moment on; or was told of it already.
  defp waiter(p) do
    waiter = Task.async(fn -> P.await_exit(p) end)

    World.eventually("somebody waits", fn ->
      :sys.get_state(p).awaiting != [] or not Process.alive?(waiter.pid)
    end)

    waiter
  end

  defp make(%{p: p}, {:write, bytes}), do: P.write(p, bytes, @must_come)

  defp make(%{p: p}, {:write_frame, frame}), do: P.write_frame(p, frame, @must_come)

  defp make(%{p: p, life: life, unread: unread}, {:read_frame}) do
    comes? = life != :running or FrameModel.answers?(unread)
    P.read_frame(p, if(comes?, do: @must_come, else: @must_not_come))
  end

  # More than all its pipes hold, and nobody reads before it is given up. What was taken comes back.
  defp make(%{p: p, unread: unread}, {:flood}) do
    bytes = :crypto.strong_rand_bytes(@flood)

    with {:error, {:timeout, taken}} <- P.write(p, bytes, @flood_ms) do
      expected = unread <> binary_part(bytes, 0, taken)
      {taken, if(read_exactly(p, byte_size(expected)) == expected, do: :came, else: :others_came)}
    end
  end

  defp make(%{p: p, life: life, unread: unread}, {:await_output, pattern}) do
    comes? = life != :running or :binary.match(unread, pattern) != :nomatch
    P.await_output(p, pattern, if(comes?, do: @must_come, else: @must_not_come))
  end

  defp make(%{p: p}, {:set_window_size, rows, cols}), do: P.set_window_size(p, rows, cols)
  defp make(%{p: p}, {:close_stdin}), do: P.close_stdin(p)
  defp make(%{p: p}, {:kill, signal, scope}), do: P.kill(p, signal, scope)
  defp make(%{p: p}, {:await_exit, :look}), do: P.await_exit(p, 0)

  defp make(%{p: p} = command, {:await_exit, :wait}), do: P.await_exit(p, wait_ms(command))

  # What the result must be apart from its end is looked at here.
  defp make(%{p: p, cmd: cmd, os_pid: os_pid} = command, {:result, how}) do
    ms = if how == :look, do: 0, else: wait_ms(command)

    with {:ok, result} <- P.result(p, ms) do
      assert %{cmd: ^cmd, os_pid: ^os_pid, stdout: nil, orphans_killed: 0} = result
      {:ok, Result.status(result), {elem(result.exit, 0), result.cause}}
    end
  end

  defp make(%{p: p}, {:shutdown, grace}), do: P.shutdown(p, grace, @must_come)

  # The former one dies, which must mean nothing from then on.
  defp make(%{p: p, owner: former}, {:set_owner}) do
    new = owner()
    answer = P.set_owner(p, new)
    send(if(answer == :ok, do: former, else: new), :end)
    {answer, new}
  end

  defp make(%{life: :running, unread: "", p: p}, {:read, max}), do: P.read(p, max, @must_not_come)
  defp make(%{p: p}, {:read, max}), do: P.read(p, max, @must_come)

  defp make(%{life: :running, unread: "", p: p}, {:read_any, max}),
    do: P.read_any(p, max, @must_not_come)

  defp make(%{p: p}, {:read_any, max}), do: P.read_any(p, max, @must_come)
  # Nobody writes there.
  defp make(%{p: p} = command, {:read_stderr, max}), do: P.read_stderr(p, max, wait_ms(command))

  defp make(%{p: p} = command, {:stop}), do: {P.stop(p), told(command)}

  defp make(%{owner: owner} = command, {:owner_exit, how}) do
    if how == :kill, do: Process.exit(owner, :kill), else: send(owner, :end)
    told(command)
  end

  # For its end.
  defp wait_ms(%{life: :running}), do: @must_not_come
  defp wait_ms(_leaving_or_later), do: @must_come

  defp read_exactly(p, size, come \\ "")
  defp read_exactly(_p, 0, come), do: come

  defp read_exactly(p, size, come) do
    with {:ok, bytes} <- P.read(p, size, @must_come),
         do: read_exactly(p, size - byte_size(bytes), come <> bytes)
  end

  # How the server went; what the one was told who had been waiting from the beginning; whether the command
  # is still there.
  defp told(%{life: :gone}), do: :nothing_new

  defp told(%{p: p, monitor: monitor, waiter: waiter, os_pid: os_pid}) do
    receive do
      {:DOWN, ^monitor, :process, ^p, reason} ->
        {reason, Task.await(waiter, @must_come), World.running?(os_pid)}
    after
      @must_come -> {:server_not_gone_within_ms, @must_come}
    end
  end

  ## The model: what is known, a call, its answer -> what is known then.

  # Its server has gone.
  defp model(%{life: :gone} = c, {:stop}, {:ok, :nothing_new}), do: c
  defp model(%{life: :gone} = c, {:owner_exit, _how}, :nothing_new), do: c
  defp model(%{life: :gone} = c, {:kill, _signal, _scope}, {:error, :not_running}), do: c

  defp model(%{life: :gone} = c, call, {:error, :closed})
       when elem(call, 0) in [
              :write,
              :write_frame,
              :read_frame,
              :read,
              :read_any,
              :read_stderr,
              :await_output,
              :set_window_size,
              :close_stdin,
              :await_exit,
              :result,
              :shutdown
            ],
       do: c

  defp model(%{life: :gone} = c, {:set_owner}, {{:error, :closed}, _owner}), do: c

  defp model(%{life: life} = c, {:set_owner}, {:ok, owner}) when life != :gone,
    do: %{c | owner: owner}

  # Frames: bytes, with a header before them.
  defp model(c, {:write_frame, frame}, {:error, {:frame_too_large, size}}),
    do: if(byte_size(frame) == size and size > 255, do: c, else: :wrong)

  defp model(%{life: life} = c, {:write_frame, frame}, answer)
       when life != :gone and byte_size(frame) <= 255,
       do: model(c, {:write, <<byte_size(frame), frame::binary>>}, answer)

  defp model(%{life: life} = c, {:read_frame}, answer) when life != :gone,
    do: FrameModel.read(c, answer)

  # Writing.
  defp model(%{life: life, stdin: :closed} = c, {:write, _bytes}, {:error, :closed})
       when life != :gone,
       do: c

  defp model(%{life: :running, stdin: :open} = c, {:write, bytes}, :ok), do: written(c, bytes)
  defp model(%{life: :ended, stdin: :open} = c, {:write, _bytes}, {:error, :epipe}), do: c

  # Whether its end came before the write is a race.
  defp model(%{life: :leaving, stdin: :open} = c, {:write, bytes}, :ok), do: written(c, bytes)
  defp model(%{life: :leaving, stdin: :open} = c, {:write, _bytes}, {:error, :epipe}), do: c

  defp model(%{kind: :cat, life: :running, stdin: :open} = c, {:flood}, {taken, :came})
       when taken in 1..(@flood - 1)//1,
       do: %{c | unread: ""}

  # Reading. All that comes is of stdout.
  defp model(%{life: life} = c, {:read_any, max}, {:ok, {:stdout, bytes}}) when life != :gone,
    do: model(c, {:read, max}, {:ok, bytes})

  defp model(%{life: life} = c, {:read_any, max}, none)
       when life != :gone and none in [:eof, {:error, :timeout}],
       do: model(c, {:read, max}, none)

  defp model(%{life: :running} = c, {:read_stderr, _max}, {:error, :timeout}), do: c
  defp model(%{life: life} = c, {:read_stderr, _max}, :eof) when life in [:leaving, :ended], do: c

  defp model(%{life: :running, unread: ""} = c, {:read, _max}, {:error, :timeout}), do: c

  defp model(%{life: life, unread: ""} = c, {:read, _max}, :eof) when life in [:leaving, :ended],
    do: c

  # It was killed before it had written that, or had not: a race.
  defp model(%{life: life, whole?: false} = c, {:read, _max}, :eof)
       when life in [:leaving, :ended],
       do: %{c | unread: ""}

  defp model(%{life: life} = c, {:read, max}, {:ok, bytes})
       when life != :gone and byte_size(bytes) in 1..max//1 and
              byte_size(bytes) <= byte_size(c.unread) and
              binary_part(c.unread, 0, byte_size(bytes)) == bytes do
    size = byte_size(bytes)
    %{c | unread: binary_part(c.unread, size, byte_size(c.unread) - size)}
  end

  # The first place where it stands; what is before it goes with it.
  defp model(%{life: life} = c, {:await_output, pattern}, {:ok, {before, pattern}})
       when life != :gone do
    with {at, length} when at == byte_size(before) <- :binary.match(c.unread, pattern),
         true <- binary_part(c.unread, 0, at) == before do
      over = at + length
      %{c | unread: binary_part(c.unread, over, byte_size(c.unread) - over)}
    else
      _other -> :wrong
    end
  end

  # Nothing is lost.
  defp model(%{life: :running} = c, {:await_output, pattern}, {:error, :timeout}),
    do: if(:binary.match(c.unread, pattern) == :nomatch, do: c, else: :wrong)

  defp model(%{life: life} = c, {:await_output, pattern}, {:error, :no_match})
       when life in [:leaving, :ended],
       do: if(:binary.match(c.unread, pattern) == :nomatch or not c.whole?, do: c, else: :wrong)

  # None of them has a terminal; whether its end came before is a race.
  defp model(%{life: :ended} = c, {:set_window_size, _rows, _cols}, {:error, :closed}), do: c

  defp model(%{life: :leaving} = c, {:set_window_size, _rows, _cols}, {:error, reason})
       when reason in [:closed, :enotty],
       do: c

  defp model(%{life: :running} = c, {:set_window_size, _rows, _cols}, {:error, :enotty}), do: c

  # The end of its input is cat's end.
  defp model(%{kind: :cat, life: :running} = c, {:close_stdin}, :ok),
    do: %{c | stdin: :closed, life: :leaving, ends: [0]}

  defp model(%{life: life} = c, {:close_stdin}, :ok) when life != :gone, do: %{c | stdin: :closed}

  # Signals.
  defp model(%{life: :ended} = c, {:kill, _signal, _scope}, {:error, :not_running}), do: c
  # Whether its end came before the signal is a race.
  defp model(%{life: :leaving} = c, {:kill, _signal, _scope}, {:error, :not_running}), do: c

  defp model(%{life: life} = c, {:kill, signal, _scope}, :ok) when life in [:running, :leaving] do
    if deadly?(c.kind, signal), do: killed(c, 128 + NetRunner.Signal.resolve(signal)), else: c
  end

  # Waiting for the end.
  defp model(%{life: :running} = c, {:await_exit, _how}, {:error, :timeout}), do: c
  # Whether it has ended by now is a race.
  defp model(%{life: :leaving} = c, {:await_exit, :look}, {:error, :timeout}), do: c

  defp model(%{life: life} = c, {:await_exit, _how}, {:ok, status})
       when life in [:leaving, :ended],
       do: ended(c, status)

  defp model(%{life: life} = c, {:result, how}, {:error, :timeout}) when life != :gone,
    do: model(c, {:await_exit, how}, {:error, :timeout})

  # That it was stopped is the cause only if that was what ended it.
  defp model(%{life: life} = c, {:result, _how}, {:ok, status, {exit, cause}})
       when life in [:leaving, :ended] and (cause == exit or (cause == :stopped and c.shut_down?)),
       do: ended(c, status)

  # The ladder, and its end: with no grace, SIGKILL may come first.
  defp model(%{life: life} = c, {:shutdown, grace}, {:ok, status}) when life != :gone do
    c = stopped(%{c | shut_down?: c.shut_down? or life != :ended})
    ended(if(grace == 0 and life != :ended, do: %{c | ends: [137 | c.ends]}, else: c), status)
  end

  # Stopping: command and server are gone, in good order.
  defp model(%{life: life} = c, {:stop}, {:ok, {:normal, {:ok, status}, false}})
       when life != :gone,
       do: gone(c, status)

  defp model(%{life: life} = c, {:owner_exit, _how}, {:normal, {:ok, status}, false})
       when life != :gone,
       do: gone(c, status)

  defp model(_command, _call, _answer), do: :wrong

  # What comes after the deadly signal may be lost. Nobody reads what the others are written.
  defp written(%{kind: :cat} = c, bytes),
    do: %{c | unread: c.unread <> bytes, whole?: c.whole? and not c.killed?}

  defp written(c, _bytes), do: c

  defp deadly?(_kind, :sigcont), do: false
  defp deadly?(:deaf, :sigterm), do: false
  defp deadly?(_kind, _signal), do: true

  # The first deadly signal decides. One that comes when the command is about to end by itself may come
  # too late.
  defp killed(%{killed?: true} = c, _status), do: c

  defp killed(c, status) do
    %{c | life: :leaving, ends: [status | c.ends], killed?: true, whole?: c.unread == ""}
  end

  # The stop ladder of whatever has not ended.
  defp stopped(%{life: :ended} = c), do: c
  defp stopped(%{kind: :deaf} = c), do: killed(c, 137)
  defp stopped(c), do: killed(c, 143)

  defp gone(c, status),
    do: with(%{} = c <- c |> stopped() |> ended(status), do: %{c | life: :gone})

  defp ended(%{ends: ends} = c, status),
    do: if(status in ends, do: %{c | life: :ended, ends: [status]}, else: :wrong)
end
