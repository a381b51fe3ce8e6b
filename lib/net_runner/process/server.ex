defmodule NetRunner.Process.Server do
  @moduledoc false
  # One command's server: starts it, keeps its lifecycle, signals, exit status and a consumed stderr, and
  # tells whoever asks (NetRunner.Process is its face). Data does not pass through it, and it never waits for
  # the command: what the guardian says comes by message. It ends with its owner, by `stop`, or once it
  # was asked to conclude; ending, it waits for the stop ladder.

  use GenServer, restart: :temporary
  require Logger

  alias NetRunner.{Cgroup, Gate, Input, Log, Nif, Pipe, Protocol, Quote, Result}
  alias NetRunner.{Shepherd, Signal, Stats, Telemetry, Terminal}
  alias NetRunner.Pipeline.Group

  # How long a guardian may take to answer a signal request before the caller gets :timeout.
  @answer_timeout 5_000
  # After the grace: one second for SIGKILL to work and two to sweep (docs/reliability.md: K + S).
  @after_grace 3_000
  # How long an input whose command has ended may be on its way to its next write.
  @feeder_grace 1_000
  # A guardian that said nothing by then, ladder and sweep over, is taken for frozen.
  @overdue @after_grace + 1_000
  # When all of us were paused together (docker pause), our timers are over before it had a turn.
  @turn 250
  # When the control socket is full, or the system has no room for a message.
  @full_retry 20
  @u32_max 0xFFFF_FFFF
  # Most commands end before this is over and have written nothing to stderr: waiting for it from the start costs them
  # an `enif_select` and a message. It holds nobody up: a pipe's worth can be written meanwhile.
  @stderr_after 2
  # Reads of stderr between two looks into the mailbox.
  @stderr_burst 16
  # Reads that empty any pipe, should somebody outside the family go on writing into it.
  @stderr_last 64

  defstruct [
    :cmd,
    :start,
    :control,
    :stdin,
    :stdout,
    :stderr,
    :os_pid,
    :guardian_pid,
    :containment,
    :cgroup,
    :cgroup_id,
    :usage,
    :owner,
    :owner_monitor,
    :options,
    :span,
    :feeder,
    :fed,
    :started_at,
    :exit,
    :cause,
    :result,
    :exit_info,
    :stderr_ref,
    stderr_tail: "",
    unkillable: nil,
    leaving?: false,
    awaiting: [],
    outbox: :queue.new(),
    retry?: false,
    kills: %{},
    next_kill: 1
  ]

  @doc "How long the end may take once the grace of the ladder is over, in milliseconds."
  @spec after_grace :: pos_integer
  def after_grace, do: @after_grace

  @impl true
  def init({cmd, {id, request}, mode, options, [caller | _] = callers, link?}) do
    Process.flag(:trap_exit, true)
    Process.put(:"$callers", callers)
    deadline = Pipe.deadline(options.spawn_timeout)
    owner_monitor = Process.monitor(options.owner)
    how = %{mode: mode, pty: options.pty, joints: joints(options)}

    with :ok <- Gate.runs(options.gates.places, deadline),
         {:ok, start} <- Shepherd.spawn(id, request, how, Pipe.left(deadline)),
         {control, stdin, stdout, stderr} = start.handles,
         {:started, os_pid, guardian_pid, containment} <-
           control |> await_start(deadline, owner_monitor, options) |> settle(start, options) do
      cgroup = options.cgroup |> Cgroup.order(id) |> Cgroup.path()

      state = %__MODULE__{
        cmd: cmd,
        start: start,
        control: control,
        stdin: stdin,
        stdout: stdout,
        stderr: stderr,
        os_pid: os_pid,
        guardian_pid: guardian_pid,
        containment: containment,
        cgroup: cgroup,
        cgroup_id: Cgroup.id(cgroup),
        owner: options.owner,
        owner_monitor: owner_monitor,
        options: options,
        started_at: System.monotonic_time(:millisecond)
      }

      known = Map.merge(pipes(state), Stats.about(state))
      {:ok, _registry} = Registry.register(NetRunner.Registry, self(), known)
      Log.belongs_to(cmd, os_pid)
      state = %{state | span: Telemetry.started(state)}
      if link?, do: Process.link(caller)
      if consumes?(state), do: Process.send_after(self(), :drain_stderr, @stderr_after)
      {:ok, state |> feed(callers) |> receive_frames()}
    else
      {:error, reason} -> {:stop, {:shutdown, reason}}
    end
  end

  # Of a command in a pipeline: what is passed on in the place of a pipe of ours.
  defp joints(%{input: stdin, stdout: stdout, stderr: stderr}) do
    case {joint(stdin), joint(stdout), joint(stderr)} do
      {nil, nil, nil} -> nil
      joints -> joints
    end
  end

  defp joint({:joint, joint}), do: joint
  defp joint(_other), do: nil

  # In a pipeline, those who would take its end for the end of the data.
  defp broke(%{options: %{pipeline: member}}), do: fn -> Group.broke(member) end

  defp broke(_alone), do: fn -> :ok end

  # What others may use is theirs alone: an input that we feed has no other writer, and a stderr that we
  # consume no other reader. All of them are counted.
  defp pipes(%{options: options} = state) do
    %{
      stdin: if(options.input == :pipe, do: state.stdin),
      stdout: state.stdout,
      stderr: if(options.stderr != :consume, do: state.stderr),
      counted: Map.take(state, [:stdin, :stdout, :stderr]),
      os_pid: state.os_pid,
      containment: state.containment,
      frames: options[:packet] && {options.packet, options.max_frame_size},
      pipeline: options[:pipeline]
    }
  end

  # Only STARTED, FAILED or the hang-up decide a start (docs/shepherd.md). One that nobody waits for any more is called
  # off: a FIFO may never be opened.
  defp await_start(control, deadline, owner_monitor, options) do
    with :again <- first_word(control, options) do
      receive do
        {:select, ^control, _ref, :ready_input} ->
          await_start(control, deadline, owner_monitor, options)

        {:DOWN, ^owner_monitor, :process, _owner, _reason} = down ->
          # Where it was started meanwhile, it has its grace like every other.
          case first_word(control, options) do
            :again ->
              {:error, :closed}

            word ->
              send(self(), down)
              word
          end
      after
        Pipe.left(deadline) ->
          # Where this BEAM was stopped for a while, the time is over before ERTS looked at the socket.
          with :again <- first_word(control, options), do: {:error, :spawn_timeout}
      end
    end
  end

  defp first_word(control, options) do
    case Nif.control_recv(control) do
      {:ok, frame} ->
        case Protocol.decode(frame) do
          {:ok, {:started, _, _, _} = started} -> started
          {:ok, {:failed, stage, posix}} -> {:error, failed(stage, posix, options)}
          # Not a word of our guardian's: as good as none.
          _other -> :hang_up
        end

      :again ->
        :again

      _hang_up ->
        :hang_up
    end
  end

  defp failed(:cd, posix, _options), do: {:cd, posix}
  defp failed(:stdin_file, posix, options), do: {:file, Terminal.path(options.input), posix}
  defp failed(:stdout_file, posix, options), do: {:file, Terminal.path(options.stdout), posix}
  defp failed(:stderr_file, posix, options), do: {:file, Terminal.path(options.stderr), posix}
  defp failed({:rlimit, name}, posix, _options), do: {:rlimit, name, posix}

  defp failed(option, posix, _options)
       when option in [:pty, :user, :nice, :oom_score_adj, :no_new_privs],
       do: {option, posix}

  defp failed({:cgroup, step}, posix, options),
    do: {:cgroup, Cgroup.step(step, options.cgroup), posix}

  defp failed(_stage, posix, _options), do: posix

  defp settle(:hang_up, start, _options), do: Shepherd.verdict(start.ticket)

  # A guardian with kept orphans has every right to be there when we have gone.
  defp settle({:started, _, _, _} = started, start, %{orphans: :kill} = options) do
    Shepherd.runs(start, options.kill_timeout)
    started
  end

  # Too late, or without an owner. A guardian that is only late ends its family at a word, so that nothing of the
  # start is left when its caller hears of it. One that was stopped does not, and after us nobody is left who knows of it.
  defp settle({:error, reason} = called_off, start, _options)
       when reason in [:spawn_timeout, :closed] do
    control = elem(start.handles, 0)
    _ = Nif.control_send(control, Protocol.stop(0))

    unless called_off?(control, Pipe.deadline(@turn)) do
      Shepherd.escalate(start)
      _ = called_off?(control, Pipe.deadline(@turn))
    end

    Nif.control_close(control)
    Shepherd.arrived(start.ticket)
    called_off
  end

  defp settle(answer, start, _options) do
    Shepherd.arrived(start.ticket)
    answer
  end

  defp called_off?(control, deadline) do
    case Nif.control_recv(control) do
      {:ok, frame} ->
        rests?(Protocol.decode(frame)) or called_off?(control, deadline)

      :again ->
        receive do
          {:select, ^control, _ref, :ready_input} -> called_off?(control, deadline)
        after
          Pipe.left(deadline) -> false
        end

      # Where the socket cannot be read, nobody knows.
      ended ->
        ended == :eof
    end
  end

  # It had ended by itself, with nobody left, before it heard of that: then its guardian waits for the hang-up.
  defp rests?({:ok, {:exited, _exit, %{rests: rests?}}}), do: rests?
  defp rests?(_too_late), do: false

  defp feed(%{stdin: nil} = state, _callers), do: state
  defp feed(%{options: %{input: :pipe}} = state, _callers), do: state

  # Not before all commands of its pipeline run. Until then it is in this state, as a function: nobody sees what is in it.
  defp feed(%{options: %{pipeline: _member, input: {:later, _input}}} = state, _callers),
    do: state

  defp feed(%{options: %{pipeline: _member, input: input} = options} = state, _callers),
    do: %{state | options: %{options | input: {:later, fn -> input end}}}

  defp feed(%{options: %{input: input}} = state, callers), do: feed(state, input, callers)

  # The input itself is the feeder's alone: it may be large, and this server lives longer.
  defp feed(%{options: options} = state, input, callers) do
    # Not every call has them.
    how = %{buffer: Map.get(options, :input_buffer, 0), packet: options[:packet]}
    # In raw mode nothing that is typed ends an input.
    close = if match?(%{raw: true}, options.pty), do: &Nif.close/1, else: &Terminal.end_input/1
    broke = broke(state)
    whose = {callers, options.gates.askers}
    feeder = Input.start_link(state.stdin, input, how, whose, close, broke)
    %{state | feeder: feeder, options: %{options | input: nil}}
  end

  @impl true
  def handle_call({:kill, _signal, _scope}, _from, %{exit: exit} = state) when exit != nil,
    do: {:reply, {:error, :not_running}, state}

  def handle_call({:kill, signal, scope}, from, state) do
    id = state.next_kill
    state = %{state | next_kill: id + 1, kills: Map.put(state.kills, id, from)}
    {:noreply, state |> say({:kill, id}, Protocol.kill(id, signal, scope), @answer_timeout)}
  end

  def handle_call({what, :now}, _from, %{exit: nil} = state) when what in [:await, :result],
    do: {:reply, {:error, :timeout}, state}

  def handle_call({:await, :now}, _from, state), do: {:reply, outcome(state), state}
  def handle_call({:result, :now}, _from, state), do: {:reply, {:ok, result_now(state)}, state}

  def handle_call({what, ref}, from, state) when what in [:await, :result, :end],
    do: {:noreply, await(state, {{what, ref}, from})}

  def handle_call(:conclude, from, state) do
    state |> await({:conclude, from}) |> continue()
  end

  def handle_call(:stop, _from, %{exit: exit} = state) when exit != nil,
    do: {:stop, :normal, :ended, state}

  def handle_call(:stop, from, state) do
    {:noreply, state |> begin_stop(:stopped) |> hang_up() |> await({:stop, from})}
  end

  def handle_call({:shutdown, grace}, _from, state),
    do: {:reply, :ok, begin_stop(state, :stopped, grace)}

  # Its guardian was lost while the others were started: those have not heard of it.
  def handle_call(:feed, _from, %{exit: {:error, _lost}} = state) do
    spawn(broke(state))
    {:reply, :ok, state}
  end

  def handle_call(:feed, _from, %{options: %{input: {:later, input}}} = state),
    do: {:reply, :ok, feed(state, input.(), Process.get(:"$callers"))}

  def handle_call(:feed, _from, state), do: {:reply, :ok, state}

  def handle_call({:stop_for, cause}, _from, state), do: {:reply, :ok, begin_stop(state, cause)}

  def handle_call(:cut_input, _from, %{feeder: nil} = state), do: {:reply, :ok, state}

  def handle_call(:cut_input, _from, %{feeder: feeder} = state) do
    Process.unlink(feeder)
    Process.exit(feeder, :kill)
    {:reply, :ok, %{state | feeder: nil}}
  end

  def handle_call({:set_owner, owner}, _from, state) do
    Process.demonitor(state.owner_monitor, [:flush])
    Stats.owned_by(owner)
    {:reply, :ok, %{state | owner: owner, owner_monitor: Process.monitor(owner)}}
  end

  def handle_call(:os_pid, _from, state), do: {:reply, {:ok, state.os_pid}, state}

  def handle_call(:cgroup, _from, %{cgroup: nil} = state),
    do: {:reply, {:error, {:cgroup, :none, :enoent}}, state}

  def handle_call(:cgroup, _from, %{exit: exit} = state) when exit != nil,
    do: {:reply, {:error, :not_running}, state}

  def handle_call(:cgroup, _from, state), do: {:reply, {:ok, state.cgroup}, state}
  def handle_call(:alive?, _from, state), do: {:reply, {:ok, state.exit == nil}, state}

  def handle_call(:stderr_tail, _from, state) do
    state = read_stderr_now(state)
    {:reply, {:ok, tail(state)}, state}
  end

  # Whoever polls with short time-outs must not leave a list of waits behind.
  @impl true
  def handle_cast({:forget, ref}, state) do
    awaiting = Enum.reject(state.awaiting, &match?({{_what, ^ref}, _from}, &1))
    {:noreply, %{state | awaiting: awaiting}}
  end

  @impl true
  def handle_info({:select, control, _ref, :ready_input}, %{control: control} = state),
    do: state |> receive_frames() |> continue()

  def handle_info({ref, :ready}, %{stderr_ref: ref} = state) when ref != nil,
    do: {:noreply, drain_stderr(%{state | stderr_ref: nil})}

  def handle_info(:drain_stderr, state), do: {:noreply, drain_stderr(state)}

  # How it ended is known, and told whoever concludes before its feeder has done with the others of the pipeline.
  def handle_info({:breaks, feeder, outcome}, %{feeder: feeder} = state),
    do: {:noreply, %{state | fed: outcome}}

  def handle_info({:fed, feeder, outcome}, %{feeder: feeder} = state) do
    # Input that broke off in the middle must not look like its end.
    if Input.broken?(outcome),
      do: {:noreply, broke_off(state, outcome)},
      else: {:noreply, %{state | feeder: nil, fed: outcome}}
  end

  # A guardian that does not answer is frozen. Its family ends with it (docs/shepherd.md). But the answer
  # may lie in the socket: after a pause of this BEAM, time runs ahead of the message that says so.
  def handle_info({:overdue, what, look}, state) do
    state = receive_frames(state)

    cond do
      not pending?(what, state) ->
        continue(state)

      look == :first ->
        Process.send_after(self(), {:overdue, what, :last}, @turn)
        {:noreply, state}

      true ->
        {:noreply, state |> give_up(what) |> escalate()}
    end
  end

  def handle_info(:flush, state), do: {:noreply, flush(%{state | retry?: false})}

  def handle_info({:DOWN, monitor, :process, _pid, _reason}, %{owner_monitor: monitor} = state) do
    state = state |> begin_stop(:owner_down) |> hang_up()
    continue(%{state | leaving?: true})
  end

  def handle_info({:EXIT, feeder, reason}, %{feeder: feeder} = state) when feeder != nil do
    # It was killed. Servers do not wait for each other.
    spawn(broke(state))
    {:noreply, broke_off(state, state.fed || {:raised, :exit, reason, []})}
  end

  # Feeders that ended, and processes that were linked without our doing.
  def handle_info({:EXIT, _pid, :normal}, state), do: {:noreply, state}
  def handle_info({:EXIT, _parent, reason}, state), do: {:stop, reason, state}
  def handle_info(_other, state), do: {:noreply, state}

  @impl true
  def terminate(_reason, state) do
    end_feeder(state)
    state = state |> begin_stop(:stopped) |> hang_up()
    state = wait_for_end(state, Pipe.deadline(state.options.kill_timeout + @after_grace))
    if state.exit == nil and state.unkillable == nil, do: escalate(state)
    state = tell_end(state)
    if state.options.orphans == :keep, do: hand_over(state)
    for end_name <- [:stdin, :stdout, :stderr], do: close(Map.fetch!(state, end_name))
    if state.control, do: Nif.control_close(state.control)
  end

  defp end_feeder(%{feeder: nil}), do: :ok
  defp end_feeder(%{exit: nil, feeder: feeder}), do: Process.exit(feeder, :kill)

  # The command reads no more: the input is left at its next write, and cleans up. One that broke off may be stopping those
  # behind it, and has the grace of one.
  defp end_feeder(%{feeder: feeder, stdin: stdin} = state) do
    close(stdin)

    grace =
      if Input.broken?(state.fed),
        do: state.options.kill_timeout + @after_grace,
        else: @feeder_grace

    if not left?(feeder, Pipe.deadline(grace), 0), do: Process.exit(feeder, :kill)
  end

  # One that waits for something else will not come to a write, or nobody knows when.
  defp left?(_feeder, _deadline, 2), do: false

  defp left?(feeder, deadline, elsewhere) do
    receive do
      {:fed, ^feeder, _outcome} -> true
      {:EXIT, ^feeder, _reason} -> true
    after
      5 ->
        elsewhere = if Input.waits?(feeder), do: elsewhere + 1, else: 0
        not Pipe.over?(deadline) and left?(feeder, deadline, elsewhere)
    end
  end

  # Whoever was kept still writes: with the last reading end it would lose its life to SIGPIPE. A guardian
  # that has nobody to keep is gone.
  defp hand_over(state) do
    handles = for end_name <- [:stdout, :stderr], handle = Map.fetch!(state, end_name), do: handle
    _ = Nif.control_send(state.control, Protocol.hold(), handles)
  end

  defp close(nil), do: :ok
  defp close(handle), do: Nif.close(handle)

  defp wait_for_end(%{exit: nil, control: control} = state, deadline) do
    receive do
      {:select, ^control, _ref, :ready_input} ->
        state |> receive_frames() |> wait_for_end(deadline)

      :flush ->
        %{state | retry?: false} |> flush() |> wait_for_end(deadline)
    after
      Pipe.left(deadline) -> receive_frames(state)
    end
  end

  defp wait_for_end(state, _deadline), do: state

  defp continue(%{leaving?: true, exit: exit} = state) when exit != nil,
    do: {:stop, :normal, state}

  defp continue(state), do: {:noreply, state}

  # Who concludes raises it again. Of the others nobody would hear of it.
  defp broke_off(state, outcome) do
    unless state.options.concludes? do
      Logger.error(
        "NetRunner stops #{Quote.word(hd(state.cmd))} (pid #{state.os_pid}), whose input broke off: " <>
          Input.banner(outcome),
        Log.metadata()
      )
    end

    begin_stop(%{state | feeder: nil, fed: outcome}, :stopped)
  end

  defp begin_stop(state, cause), do: begin_stop(state, cause, state.options.kill_timeout)

  # Whoever was first is the cause; a later, shorter grace counts all the same.
  defp begin_stop(%{exit: nil} = state, cause, grace) do
    Stats.now(:stopping)
    say(%{state | cause: state.cause || cause}, :stop, Protocol.stop(grace), grace + @overdue)
  end

  defp begin_stop(state, _cause, _grace), do: state

  # Nobody reads what it still has to say. A terminal that is closed is SIGHUP to who lives in it, as when the
  # BEAM dies; an interactive shell heeds nothing else. A tee, too, ends when nobody reads it, and heeds no stop signal. What
  # its end has left to be read is not touched.
  defp hang_up(%{exit: nil, options: %{pty: %{}}} = state) do
    close(state.stdin)
    close(state.stdout)
    state
  end

  defp hang_up(%{exit: nil, options: %{pipeline: {_group, _place, :tee}}} = state) do
    close(state.stdout)
    state
  end

  defp hang_up(state), do: state

  ## Frames to the guardian: in order, and looked for an answer after a while

  defp say(state, what, frame, overdue) do
    Process.send_after(self(), {:overdue, what, :first}, min(overdue, @u32_max))
    flush(%{state | outbox: :queue.in({what, frame}, state.outbox)})
  end

  defp flush(%{exit: nil, retry?: false} = state) do
    with {:value, {what, frame}} <- :queue.peek(state.outbox) do
      case (what == :stop or pending?(what, state)) && Nif.control_send(state.control, frame) do
        # Hundreds are unread. That may be a frozen guardian, or one that had no turn yet.
        {:error, :eagain} ->
          flush_later(state)

        # The system has no room for a message. A stop must not be lost for that.
        {:error, reason} when reason in [:enobufs, :enomem] and what == :stop ->
          flush_later(state)

        {:error, reason} when reason in [:enobufs, :enomem] ->
          state |> sent() |> answer_kill(what, {:error, reason}) |> flush()

        # Sent, or nobody waits for it any more; or the guardian is gone, and its hang-up will say so.
        _done ->
          state |> sent() |> flush()
      end
    else
      :empty -> state
    end
  end

  defp flush(state), do: state

  defp sent(state), do: %{state | outbox: :queue.drop(state.outbox)}

  defp flush_later(state) do
    Process.send_after(self(), :flush, @full_retry)
    %{state | retry?: true}
  end

  defp pending?({:kill, id}, state), do: is_map_key(state.kills, id)
  defp pending?(:stop, state), do: state.exit == nil and state.unkillable == nil

  defp give_up(state, {:kill, _id} = kill), do: answer_kill(state, kill, {:error, :timeout})
  defp give_up(state, :stop), do: state

  defp answer_kill(state, {:kill, id}, answer) do
    {from, kills} = Map.pop(state.kills, id)
    if from, do: GenServer.reply(from, answer)
    %{state | kills: kills}
  end

  defp escalate(state) do
    with :gone <- Shepherd.escalate(state.start),
         do: Nif.control_kill(state.control, state.guardian_pid)

    state
  end

  ## Frames from the guardian

  defp receive_frames(%{exit: nil} = state) do
    case Nif.control_recv(state.control) do
      :again -> state
      {:ok, frame} -> frame |> Protocol.decode() |> handle_frame(state) |> receive_frames()
      hang_up -> guardian_lost(state, hang_up)
    end
  end

  defp receive_frames(state), do: state

  # Only somebody's SIGKILL does this. It has no other witness: say whose it was.
  defp guardian_lost(state, hang_up) do
    Logger.warning(
      "NetRunner lost guardian #{state.guardian_pid} of #{Quote.word(hd(state.cmd))} " <>
        "(pid #{state.os_pid}): #{inspect(hang_up)}",
      Log.metadata()
    )

    # Should it live (the socket cannot be read, or not be watched), this is what ends it and its family.
    Nif.control_close(state.control)
    Cgroup.settle(state.cgroup, state.cgroup_id)

    # In a pipeline: the others may wait for what it does not say, and where its command lives on (the portable build), for ever.
    spawn(broke(state))
    ended(state, {:error, :guardian_lost}, nil)
  end

  defp handle_frame({:ok, {:exited, exit, info}}, state), do: ended(state, named(exit), info)

  # Comes right before EXITED.
  defp handle_frame({:ok, {:usage, usage}}, state), do: %{state | usage: usage}

  defp handle_frame({:ok, {:killed, id, answer}}, state),
    do: answer_kill(state, {:kill, id}, no_such_process(answer))

  defp handle_frame({:ok, {:unkillable, _count, pids}}, state) do
    for waiting <- state.awaiting, do: answer(waiting, {:error, {:unkillable, pids}}, state)

    %{
      state
      | awaiting: [],
        unkillable: pids,
        leaving?: state.leaving? or leave?(state.awaiting)
    }
  end

  # Both halves are of one build: cannot be, and must not end the server.
  defp handle_frame(_other, state), do: state

  defp named({:signaled, number}), do: {:signaled, Signal.name(number)}
  defp named(exited), do: exited

  defp no_such_process({:error, :esrch}), do: {:error, :not_running}
  defp no_such_process(answer), do: answer

  defp ended(state, exit, info) do
    for {_id, from} <- state.kills, do: GenServer.reply(from, {:error, :not_running})
    # Whoever still holds the other end is not the command: readers get what is there, then :eof.
    if state.stdout, do: Nif.finish(state.stdout)
    if state.stderr, do: Nif.finish(state.stderr)
    state = let_rest(%{state | exit: exit, exit_info: info, kills: %{}})
    state = read_stderr_now(state)
    Stats.now(:ended)
    state = %{state | span: Telemetry.over(state.span), result: report(state)}
    state = if state.awaiting == [] and state.options.concludes?, do: state, else: tell_end(state)
    for waiting <- Enum.reverse(state.awaiting), do: answer(waiting, outcome(state), state)
    %{state | awaiting: [], leaving?: state.leaving? or leave?(state.awaiting)}
  end

  # Before anybody hears of the end: who starts commands one after the other has the same guardian for all of them.
  defp let_rest(%{exit_info: %{rests: true}} = state) do
    Shepherd.rests(state.start, state.options.kill_timeout)
    %{state | control: nil}
  end

  defp let_rest(state), do: state

  defp await(%{exit: nil, unkillable: nil} = state, waiting),
    do: %{state | awaiting: [waiting | state.awaiting]}

  defp await(state, waiting) do
    state = tell_end(state)
    answer(waiting, outcome(state), state)
    %{state | leaving?: state.leaving? or leave?([waiting])}
  end

  # Whoever concludes has read everything: then all bytes are counted.
  defp tell_end(state),
    do: %{state | span: Telemetry.ended(state.span, state.exit, state.exit_info, state)}

  defp leave?(awaiting), do: Enum.any?(awaiting, fn {what, _from} -> is_atom(what) end)

  # Survivors of SIGKILL were reported: nobody is kept waiting for them.
  defp outcome(%{exit: nil, unkillable: pids}), do: {:error, {:unkillable, pids}}
  defp outcome(%{exit: {:error, reason}}), do: {:error, reason}
  defp outcome(%{exit: exit}), do: {:ok, exit}

  # Counters go on until the last byte is read: whoever asks for the result gets those of that moment.
  defp report(%{exit_info: info} = state) do
    %Result{
      cmd: state.cmd,
      stderr: tail(state),
      exit: if(info == nil, do: nil, else: state.exit),
      cause: cause(state, info),
      os_pid: state.os_pid,
      containment: state.containment,
      duration_ms: System.monotonic_time(:millisecond) - state.started_at,
      rusage: info && info.rusage,
      cgroup: info && state.usage,
      truncated?: consumes?(state) and stderr_bytes(state) > tail_bytes(state),
      orphans_killed: if(info == nil, do: 0, else: info.orphans_killed)
    }
  end

  defp stderr_bytes(state), do: Nif.handle_info(state.stderr).bytes
  defp tail_bytes(state), do: state.options.stderr_tail_bytes

  defp result_now(state), do: %{state.result | stats: Stats.counters(state)}

  # A ladder that began after the leader's own end has not caused it.
  defp cause(_state, nil), do: :guardian_lost
  defp cause(%{cause: cause}, %{stopped: true}) when cause != nil, do: cause

  # The kernel's SIGKILL, not ours; whoever else was taken for want of memory need not have ended the command.
  defp cause(%{exit: {:signaled, :sigkill}, usage: %{oom_kills: kills}}, %{stopped: false})
       when is_integer(kills) and kills > 0,
       do: :oom

  defp cause(%{exit: {how, _value}}, _info), do: how

  defp answer({what, from}, {:error, {:unkillable, _pids}} = error, _state)
       when what == :stop or elem(what, 0) == :result,
       do: GenServer.reply(from, error)

  defp answer({{:result, _ref}, from}, _outcome, state),
    do: GenServer.reply(from, {:ok, result_now(state)})

  defp answer({:conclude, from}, {:error, {:unkillable, pids}}, state),
    do: GenServer.reply(from, {:unkillable, %{pids: pids, fed: state.fed}})

  defp answer({:conclude, from}, _outcome, state),
    do: GenServer.reply(from, {:ok, %{result: result_now(state), fed: state.fed}})

  defp answer({:stop, from}, _result, _state), do: GenServer.reply(from, :ended)
  defp answer({{:end, _ref}, from}, result, state), do: GenServer.reply(from, {result, state.fed})
  defp answer({_what, from}, result, _state), do: GenServer.reply(from, result)

  ## A consumed stderr

  # A terminal's is none of its own.
  defp consumes?(state), do: state.options.stderr == :consume and state.stderr != nil

  defp drain_stderr(%{stderr_ref: nil} = state),
    do: if(consumes?(state), do: drain_stderr(state, @stderr_burst), else: state)

  defp drain_stderr(state), do: state

  defp drain_stderr(state, 0) do
    send(self(), :drain_stderr)
    state
  end

  defp drain_stderr(state, left) do
    ref = make_ref()

    case Nif.read(state.stderr, 65_536, ref) do
      {:ok, bytes} -> drain_stderr(keep_tail(state, bytes), left - 1)
      :again -> %{state | stderr_ref: ref}
      _eof_or_closed -> %{state | stderr_ref: :ended}
    end
  end

  # What says that stderr is ready may still be on its way (through a ring's reaper), or nobody waits for it yet: but
  # what was written belongs to the end, and to who asks for the tail.
  defp read_stderr_now(%{stderr_ref: ref} = state) do
    if consumes?(state) and ref != :ended do
      if ref != nil, do: Pipe.cancel(state.stderr, ref)
      drain_stderr(%{state | stderr_ref: nil}, @stderr_last)
    else
      state
    end
  end

  # At most twice the tail is held, so that small pieces are not copied again and again.
  defp keep_tail(state, bytes) do
    max = state.options.stderr_tail_bytes
    tail = state.stderr_tail <> bytes
    tail = if byte_size(tail) > 2 * max, do: last(tail, max), else: tail
    %{state | stderr_tail: tail}
  end

  defp tail(state), do: last(state.stderr_tail, state.options.stderr_tail_bytes)

  defp last(bytes, max) when byte_size(bytes) <= max, do: bytes
  defp last(bytes, max), do: bytes |> binary_part(byte_size(bytes), -max) |> :binary.copy()
end
