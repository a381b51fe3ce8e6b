defmodule NetRunner.Daemon.Server do
  @moduledoc false
  # The server of one daemon: from start_link/1 through the life of its command to the reason it ends
  # with. It is the command's owner. It must never wait: the command is started and read by
  # NetRunner.Daemon.Reader, on_output runs in NetRunner.Daemon.Consumer, every other function of the user's in
  # NetRunner.Daemon.UserCode, and the command's server is asked by requests whose answers are messages.
  # So it answers at once, whatever the others are busy with.
  #
  #   :idle ── start ──► :waiting ──► :launching ──► :readying ──► :up       (phase)
  #                       wait_for     the reader     ready
  #
  # From anywhere it may be told to leave (`leaving`, the reason), which lets the command be stopped; from
  # :launching on the command may end (`exit`). Both are facts beside the phase, and next/1 is the one place
  # that says what follows from all of them.
  #
  # Not linked to who starts it before the command is ready: a start that fails is an answer, and never
  # an exit signal.

  use GenServer

  alias NetRunner.Daemon.{Consumer, Counters, Log, Reader, Ready, UserCode}

  # A reason is wanted for the end of a command, not for ever.
  @exit_reason_ms 5_000

  defstruct [
    :cmd,
    :options,
    :callers,
    :counters,
    :log,
    :parent,
    :parent_monitor,
    :starter,
    :reader,
    :process,
    :os_pid,
    :launched_at,
    :end_request,
    # A function of the user's that runs: {pid, :wait_for | :ready | :exit_reason}.
    :asked,
    # What it may take, and what the rest of the output may take.
    :deadline,
    :flush,
    :not_ready,
    :exit,
    :leaving,
    phase: :idle,
    stopping?: false,
    # Whether the reason came from outside.
    outside?: false,
    # The reader and the consumer, for as long as they are not done.
    output: []
  ]

  @spec start_link([binary, ...], NetRunner.Options.t()) :: {:ok, pid} | {:error, term}
  def start_link(cmd, options) do
    callers = [self() | Process.get(:"$callers", [])]
    name = if options.name, do: [name: options.name], else: []

    with {:ok, pid} <- GenServer.start(__MODULE__, {cmd, options, callers}, name) do
      monitor = Process.monitor(pid)
      answer = start(pid)

      # Its name is free again before an error is told, or the next start would find it taken.
      if answer != :ok do
        receive do
          {:DOWN, ^monitor, :process, _pid, _reason} -> :ok
        end
      end

      Process.demonitor(monitor, [:flush])
      if answer == :ok, do: {:ok, pid}, else: answer
    end
  end

  defp start(pid) do
    GenServer.call(pid, :start, :infinity)
  catch
    # Stopped by somebody who knew its name before it could begin.
    :exit, {reason, _call} when reason in [:normal, :shutdown, :noproc] -> {:error, :shutdown}
    :exit, {reason, _call} -> {:error, {:stopped, reason}}
  end

  @impl true
  def init({cmd, options, [parent | _] = callers}) do
    Process.flag(:trap_exit, true)
    Process.put(:"$callers", callers)

    {:ok,
     %__MODULE__{
       cmd: cmd,
       options: options,
       callers: callers,
       counters: Counters.new(),
       log: Log.new(options.log, options.name || self(), cmd),
       parent: parent,
       parent_monitor: Process.monitor(parent)
     }}
  end

  ## What it is asked

  @impl true
  def handle_call(:start, from, %{phase: :idle} = state),
    do: %{state | starter: from} |> begin() |> next()

  def handle_call(:stop, from, state) do
    GenServer.reply(from, :ok)
    state |> stopped(:normal) |> next()
  end

  def handle_call(:alive?, _from, state),
    do: {:reply, state.process != nil and state.exit == nil, state}

  def handle_call(:stats, _from, state), do: {:reply, {:ok, stats(state)}, state}

  def handle_call(what, _from, %{process: nil} = state) when what in [:process, :os_pid],
    do: {:reply, {:error, :not_running}, state}

  def handle_call(:process, _from, state), do: {:reply, {:ok, state.process}, state}
  def handle_call(:os_pid, _from, state), do: {:reply, {:ok, state.os_pid}, state}

  defp stats(state) do
    state.counters
    |> Counters.snapshot()
    |> Map.merge(%{os_pid: state.os_pid, uptime_ms: uptime(state), pipes: pipes(state)})
  end

  defp uptime(%{launched_at: nil}), do: 0
  defp uptime(state), do: now() - state.launched_at

  defp pipes(%{process: nil}), do: nil

  defp pipes(state) do
    case NetRunner.Process.stats(state.process) do
      {:ok, pipes} -> pipes
      {:error, :closed} -> nil
    end
  end

  ## What happens

  @impl true
  def handle_info({:launched, reader, result}, %{reader: reader, phase: :launching} = state),
    do: result |> launched(state) |> next()

  def handle_info(
        {:ready, reader},
        %{reader: reader, phase: :readying, exit: nil, leaving: nil} = state
      ),
      do: state |> disarm() |> up() |> next()

  def handle_info({:answer, pid, answer}, %{asked: {pid, what}} = state) do
    drop_link(pid)
    what |> answered(answer, disarm(%{state | asked: nil})) |> next()
  end

  def handle_info({:not_ready, pid, why}, %{asked: {pid, :ready}} = state),
    do: {:noreply, %{state | not_ready: why}}

  def handle_info({:timeout, timer, what}, %{deadline: timer} = state) do
    what |> too_late(forget_asked(%{state | deadline: nil})) |> next()
  end

  def handle_info({:timeout, timer, :flush}, %{flush: timer, output: [_ | _]} = state) do
    Log.aside(
      state.log,
      :warning,
      "is done before its output is: flush_timeout is over, what was left of it is lost"
    )

    state |> drop_output() |> next()
  end

  def handle_info({:DOWN, monitor, :process, _pid, reason}, %{parent_monitor: monitor} = state),
    do: state |> stopped({:shutdown, reason}) |> next()

  def handle_info({:EXIT, pid, reason}, state), do: pid |> ended(reason, state) |> next()

  def handle_info(message, %{end_request: request} = state) when request != nil do
    case :gen_server.check_response(message, request) do
      {:reply, result} ->
        result |> command_ended(state) |> next()

      {:error, {reason, _server}} ->
        {{:error, {:down, reason}}, nil} |> command_ended(state) |> next()

      :no_reply ->
        {:noreply, state}
    end
  end

  def handle_info(_other, state), do: {:noreply, state}

  defp begin(%{options: %{wait_for: nil}} = state), do: launch(state)

  defp begin(state) do
    %{state | phase: :waiting}
    |> ask(:wait_for, state.options.wait_for)
    |> arm(:wait_for, state.options.wait_timeout)
  end

  defp launch(%{options: options} = state) do
    consumer =
      if options.on_output != :discard,
        do: Consumer.start_link(options, state.counters, state.log, state.callers)

    reader =
      Reader.start_link(
        state.cmd,
        options,
        state.counters,
        state.log,
        consumer,
        state.callers
      )

    output = if consumer, do: [reader, elem(consumer, 0)], else: [reader]
    %{state | phase: :launching, reader: reader, output: output}
  end

  defp launched({:ok, process, os_pid}, state) do
    state = %{
      state
      | phase: :readying,
        process: process,
        os_pid: os_pid,
        log: %{state.log | os_pid: os_pid},
        launched_at: now(),
        end_request: NetRunner.Process.request(process, :end),
        # Secrets travel in these; nobody needs them any more.
        options: without_secrets(state.options)
    }

    if state.leaving, do: stop_command(state), else: await_ready(state)
  end

  defp launched({:error, reason}, state) do
    state = %{state | phase: :idle}
    if state.leaving, do: state, else: leave(state, {:shutdown, reason})
  end

  defp await_ready(%{options: %{ready: nil}} = state), do: up(state)

  defp await_ready(%{options: %{ready: ready, ready_timeout: ms}} = state) do
    state = arm(state, :ready, ms)

    case Ready.probe(ready, self()) do
      nil -> state
      probe -> ask(state, :ready, probe)
    end
  end

  defp up(state) do
    # From here on the supervisor has it.
    Process.link(state.parent)
    Process.demonitor(state.parent_monitor, [:flush])
    GenServer.reply(state.starter, :ok)
    %{state | phase: :up, starter: nil, parent_monitor: nil, not_ready: nil}
  end

  defp answered(:wait_for, {:ok, _whatever}, state), do: launch(state)

  defp answered(:wait_for, raised, state),
    do: leave(state, {:shutdown, {:wait_for, UserCode.reason(raised)}})

  defp answered(:ready, {:ok, true}, state), do: up(state)

  # The probe itself was killed, by the function that it called.
  defp answered(:ready, raised, state),
    do: leave(state, {:shutdown, {:ready, UserCode.reason(raised)}})

  defp answered(:exit_reason, {:ok, reason}, state), do: leave(state, reason)
  defp answered(:exit_reason, raised, state), do: leave(state, UserCode.reason(raised))

  defp too_late(:wait_for, state), do: leave(state, {:shutdown, :wait_timeout})

  defp too_late(:ready, state) do
    why = if state.not_ready, do: "; ready: raised #{Exception.format_exit(state.not_ready)}"
    ms = state.options.ready_timeout
    Log.aside(state.log, :warning, "was not ready within #{ms} ms#{why}")
    leave(state, {:shutdown, :timeout})
  end

  defp too_late(:exit_reason, state) do
    Log.aside(state.log, :warning, "waited in vain for the reason that exit_reason: was to give")
    {:ok, exit} = state.exit
    leave(state, default_reason(exit))
  end

  defp command_ended({result, fed}, state) do
    state = %{state | exit: input_reason(fed) || result, end_request: nil}
    state = if state.phase == :readying, do: state |> forget_asked() |> disarm(), else: state

    if state.output == [],
      do: state,
      else: %{state | flush: :erlang.start_timer(state.options.flush_timeout, self(), :flush)}
  end

  # Broken input is what ended the command, whatever that made of it.
  defp input_reason({:broken, reason}), do: {:error, {:input, reason}}
  defp input_reason({:raised, _, _, _} = raised), do: {:error, {:input, UserCode.reason(raised)}}
  defp input_reason(_all_or_as_much_as_it_wanted), do: nil

  # One of the processes that are linked to this one.
  defp ended(pid, reason, %{parent: pid} = state), do: stopped(state, reason)

  defp ended(pid, reason, %{asked: {pid, what}} = state),
    do: answered(what, {:raised, :exit, reason, []}, disarm(%{state | asked: nil}))

  # The reader is done first, then the consumer, or it would not get the rest: but what is told of it need not come in
  # that order.
  defp ended(pid, :normal, %{reader: pid} = state), do: output_done(pid, state)

  # It found what ends the daemon. What came before that is delivered, as at any end.
  defp ended(pid, {:shutdown, reason}, %{reader: pid, phase: phase} = state)
       when phase != :launching,
       do: pid |> output_done(state) |> leave(reason)

  defp ended(pid, reason, %{output: [_ | _] = output} = state) do
    cond do
      pid not in output -> ended_stranger(reason, state)
      pid != state.reader and Consumer.over?(reason) -> output_done(pid, state)
      true -> output_lost(reason, output_done(pid, state))
    end
  end

  defp ended(_stranger, reason, state), do: ended_stranger(reason, state)

  defp output_done(pid, state), do: %{state | output: List.delete(state.output, pid)}

  # Of others a link is no more than what it is everywhere.
  defp ended_stranger(:normal, state), do: state
  defp ended_stranger(reason, state), do: stopped(state, reason)

  defp output_lost(reason, state) do
    state = drop_output(state)
    phase = if state.phase == :launching, do: :idle, else: state.phase
    leave(%{state | phase: phase}, {:output, reason})
  end

  ## What follows

  # Launching, running, being stopped: somebody will tell.
  defp next(%{phase: :launching} = state), do: {:noreply, state}
  defp next(%{process: nil, leaving: nil} = state), do: {:noreply, state}
  defp next(%{process: nil} = state), do: finish(state)
  defp next(%{exit: nil} = state), do: {:noreply, state}
  # Its last words come before its end.
  defp next(%{output: [_ | _]} = state), do: {:noreply, state}
  defp next(%{leaving: reason} = state) when reason != nil, do: finish(state)
  defp next(%{exit: {:error, reason}} = state), do: finish(%{state | leaving: reason})

  defp next(%{phase: :readying, exit: {:ok, exit}} = state),
    do: finish(%{state | leaving: {:shutdown, {:exit, exit}}})

  defp next(%{asked: {_pid, :exit_reason}} = state), do: {:noreply, state}

  defp next(%{options: %{exit_reason: nil}, exit: {:ok, exit}} = state),
    do: finish(%{state | leaving: default_reason(exit)})

  defp next(%{options: %{exit_reason: exit_reason}, exit: {:ok, exit}} = state) do
    {:noreply,
     state
     |> ask(:exit_reason, fn -> exit_reason.(exit) end)
     |> arm(:exit_reason, @exit_reason_ms)}
  end

  defp default_reason({:exited, 0}), do: :normal
  defp default_reason(exit), do: {:exit, exit}

  # While the command is being stopped from outside, what it still says or who dies of it is no reason any more.
  defp leave(%{outside?: true} = state, _reason), do: state

  defp leave(state, reason),
    do: stop_command(%{(state |> forget_asked() |> disarm()) | leaving: reason})

  # Of these the later counts: a supervisor's shutdown overtakes a stop.
  defp stopped(state, reason),
    do: %{leave(%{state | outside?: false}, reason) | outside?: true}

  defp stop_command(%{process: process, exit: nil, stopping?: false} = state)
       when process != nil do
    _answer = NetRunner.Process.request(process, {:shutdown, state.options.kill_timeout})
    %{state | stopping?: true}
  end

  defp stop_command(state), do: state

  defp finish(state) do
    state = drop_output(state)

    # It has ended (or cannot be killed, and then its server stays until it does): this does not wait, not even for its input.
    if state.process do
      NetRunner.Process.cut_input(state.process)
      NetRunner.Process.stop(state.process)
    end

    if state.starter, do: GenServer.reply(state.starter, {:error, start_error(state)})
    {:stop, state.leaving, %{state | phase: :over, starter: nil}}
  end

  # Of NetRunner.Daemon.start_link/1's closed list.
  defp start_error(%{outside?: true, leaving: reason}) when reason in [:normal, :shutdown],
    do: :shutdown

  defp start_error(%{outside?: true, leaving: reason}), do: {:stopped, reason}
  defp start_error(%{leaving: {:shutdown, reason}}), do: reason
  defp start_error(%{leaving: reason}), do: reason

  # Somebody else than next/1 ends this server (GenServer.stop/1, an error in here): the same way, but
  # now it may wait. Each step has its time-out, so that this ends.
  @impl true
  def terminate(_reason, %{phase: :over}), do: :ok
  def terminate(reason, state), do: state |> stopped(reason) |> next() |> run_down()

  defp run_down({:stop, _reason, _state}), do: :ok

  defp run_down({:noreply, state}) do
    receive do
      message -> message |> handle_info(state) |> run_down()
    end
  end

  ## Helpers

  defp ask(state, what, fun),
    do: %{state | asked: {UserCode.start_link(fun, state.callers), what}}

  defp forget_asked(%{asked: nil} = state), do: state

  defp forget_asked(%{asked: {pid, _what}} = state) do
    drop_link(pid)
    %{state | asked: nil}
  end

  defp arm(state, what, ms), do: %{state | deadline: :erlang.start_timer(ms, self(), what)}

  defp disarm(%{deadline: nil} = state), do: state

  # One that has fired meanwhile is not `deadline` any more, and means nothing.
  defp disarm(state) do
    :erlang.cancel_timer(state.deadline)
    %{state | deadline: nil}
  end

  defp drop_output(state) do
    Enum.each(state.output, &drop_link/1)
    %{state | output: []}
  end

  # Ends a process of ours without hearing of it.
  defp drop_link(pid) do
    Process.unlink(pid)
    Process.exit(pid, :kill)

    receive do
      {:EXIT, ^pid, _reason} -> :ok
    after
      0 -> :ok
    end
  end

  defp now, do: System.monotonic_time(:millisecond)

  # Values of the environment are nobody's business, and input may be anything. What a crash is logged
  # with is what its reader asks first.
  @impl true
  def format_status(:terminate, [_dictionary, state]),
    do: Map.take(state, [:cmd, :os_pid, :phase, :exit])

  def format_status(_normal, [_dictionary, state]),
    do: [data: [{~c"State", %{state | options: without_secrets(state.options)}}]]

  defp without_secrets(options), do: Map.drop(options, [:env, :input])
end
