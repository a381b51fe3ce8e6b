defmodule NetRunner.Shepherd do
  @moduledoc false
  # Owns the zygote: starts it, starts another when it ends, and sends it the start requests.
  #
  # Requests are windowed: a user's in-flight descriptors and the socket's buffer are bounded, so at
  # most @window requests are between `sendmsg` and their answer (the answer itself goes from the
  # guardian to the command's own process). What does not fit waits here, in order. When very many wait,
  # the window is as small as the number of schedulers: a start is work for three processes, and what
  # runs at the same time takes the processors from the BEAM (docs/decisions/0004).
  #
  # The end of the zygote decides nothing about a command: its own control socket does.

  use GenServer
  require Logger

  alias NetRunner.{Log, Nif, Protocol}

  @window 64
  # More than this waiting is a storm, until nobody waits.
  @storm 64
  # A storm in which nothing moved for so long has starts on the way that hang: it gets a wider window.
  @stuck_ms 100
  @backoff_max 1_000
  # A zygote that lived this long was healthy: its end is answered at once.
  @healthy_ms 1_000
  # After its grace: a second for SIGKILL, two to sweep, one more. A guardian that is still there is frozen.
  @overdue 4_000
  @u32_max 0xFFFF_FFFF
  # How long the zygote may take to say why it refused a start whose control end is closed already.
  @verdict_wait 500
  # When the socket is full though nobody is on the way: somebody stopped the zygote.
  @full_retry 20
  # How many guardians may rest, and for how long (once to twice that).
  @resting_max 16
  @rest_ms 100

  def start_link(_arg), do: GenServer.start_link(__MODULE__, nil, name: __MODULE__)

  @typedoc """
  A start that was sent: whose it is is told by `ticket`, whom to ask to kill its guardian by `id` and
  `zygote`.
  """
  @type start :: %{
          ticket: reference,
          id: non_neg_integer,
          zygote: pos_integer,
          handles: {control :: reference, stdin :: term, stdout :: term, stderr :: term}
        }

  @doc """
  Sends one start request (a `Protocol.spawn/2` with its id) on behalf of the calling process, which
  becomes the owner of the handles. `how` is the mode of its pipes, its terminal (the option `pty:`), and its joints, as the NIF takes them. Call `arrived/1` with the ticket when the control socket has spoken,
  or `verdict/1` when it hung up without a word.
  `{:error, posix | {:pty, posix} | :spawn_timeout | :shepherd_lost}`.
  """
  @spec spawn(non_neg_integer, {binary, binary | nil, non_neg_integer}, how, timeout) ::
          {:ok, start} | {:error, term}
        when how: %{mode: 0..2, pty: false | map, joints: nil | tuple}
  def spawn(id, request, how, timeout) do
    # Environments are in it: as a function it is shown neither in the queue nor as the last message of a crash.
    GenServer.call(__MODULE__, {:spawn, id, fn -> request end, how}, timeout)
  catch
    :exit, {:timeout, _call} -> {:error, :spawn_timeout}
    :exit, _reason -> {:error, :shepherd_lost}
  end

  @doc "The answer to a start came (or will never): makes room for the next request."
  @spec arrived(reference) :: :ok
  def arrived(ticket), do: GenServer.cast(__MODULE__, {:arrived, ticket})

  @doc """
  As `arrived/1`, for a command that runs. Should the calling process be killed, nobody is left to notice
  that its guardian is frozen: then this server has it killed, when it is `grace` milliseconds and the
  time for SIGKILL and sweep late.
  """
  @spec runs(start, non_neg_integer) :: :ok
  def runs(start, grace) do
    control = elem(start.handles, 0)
    GenServer.cast(__MODULE__, {:runs, start.ticket, {start.id, start.zygote, grace, control}})
  end

  @doc """
  A command has ended, and its guardian, with the grace that it had, would take another: the calling process gives it
  up, its control socket included.
  """
  @spec rests(start, non_neg_integer) :: :ok
  def rests(%{ticket: ticket, id: id, zygote: zygote, handles: handles}, grace) do
    control = elem(handles, 0)

    with shepherd when is_pid(shepherd) <- Process.whereis(__MODULE__),
         :ok <- Nif.control_give(control, shepherd) do
      GenServer.cast(shepherd, {:rests, ticket, {grace, control, id, :new}, zygote})
    else
      _gone -> Nif.control_close(control)
    end
  end

  @doc """
  Why a start's control socket hung up without a word: the errno with which the zygote refused the
  request (`:emfile`, when it is out of descriptors), else `:shepherd_lost`. Includes `arrived/1`.
  """
  @spec verdict(reference) :: {:error, atom}
  def verdict(ticket) do
    GenServer.call(__MODULE__, {:verdict, ticket})
  catch
    :exit, _reason -> {:error, :shepherd_lost}
  end

  @doc """
  Kills the guardian of a start, which does not answer: the zygote that forked it does that, or, if it
  is gone, `:gone` says that the caller has to.
  """
  @spec escalate(start) :: :ok | :gone
  def escalate(start) do
    GenServer.call(__MODULE__, {:escalate, start.id, start.zygote})
  catch
    :exit, _reason -> :gone
  end

  @doc "Lets the guardians that rest leave, which they do by themselves a moment later."
  @spec dismiss :: :ok
  def dismiss do
    GenServer.call(__MODULE__, :dismiss)
  catch
    :exit, _reason -> :ok
  end

  @doc """
  What is known of the zygote: `%{os_pid:, features:, starts:, in_flight:, queued:, window:, resting:}`: how many starts may be
  on their way now, and how many guardians rest.
  """
  @spec info :: map
  def info do
    GenServer.call(__MODULE__, :info)
  catch
    :exit, _reason ->
      %{
        os_pid: nil,
        features: [],
        starts: 0,
        in_flight: 0,
        queued: 0,
        window: @window,
        resting: 0
      }
  end

  @impl true
  def init(nil) do
    state = %{
      request: nil,
      os_pid: nil,
      features: [],
      ready?: false,
      started_at: nil,
      backoff: 0,
      starts: 0,
      said: nil,
      asking: [],
      retry: nil,
      in_flight: %{},
      verdicts: %{},
      queue: :queue.new(),
      queued: 0,
      window: @window,
      watch: nil,
      answered: 0,
      running: %{},
      resting: [],
      tick: nil
    }

    {:ok, start_zygote(state)}
  end

  @impl true
  def handle_call({:spawn, id, request, mode}, {pid, _tag} = from, state) do
    entry = {Process.monitor(pid), from, id, request, mode}
    queue = :queue.in(entry, state.queue)
    {:noreply, pump(%{state | queue: queue, queued: state.queued + 1})}
  end

  # The zygote refuses before it closes the control end. But if that was lost on the way, for want of
  # descriptors, the kernel closed it, and the refusal comes later.
  def handle_call({:verdict, ticket}, from, state) do
    state = receive_frames(state)

    case state.in_flight do
      %{^ticket => id} when is_integer(id) and state.ready? ->
        Process.send_after(self(), {:no_word, ticket}, @verdict_wait)
        {:noreply, %{state | verdicts: Map.put(state.verdicts, ticket, from)}}

      _known ->
        {:noreply, state |> judge(ticket, from) |> pump()}
    end
  end

  def handle_call({:escalate, id, zygote}, _from, %{os_pid: zygote} = state) do
    case Nif.control_send(state.request, Protocol.escalate(id)) do
      :ok -> {:reply, :ok, state}
      {:error, _frozen_or_gone} -> {:reply, :gone, state}
    end
  end

  def handle_call({:escalate, _id, _zygote}, _from, state), do: {:reply, :gone, state}

  def handle_call(:dismiss, _from, state) do
    let_leave(state.resting, state)
    {:reply, :ok, %{state | resting: []}}
  end

  # Before HELLO there is nothing to tell; without a zygote there is nothing to wait for.
  def handle_call(:info, from, %{ready?: false, request: request} = state) when request != nil,
    do: {:noreply, %{state | asking: [from | state.asking]}}

  def handle_call(:info, _from, state), do: {:reply, answer(state), state}

  @impl true
  def handle_cast({:arrived, ticket}, state), do: {:noreply, state |> forget(ticket) |> pump()}

  # The ticket is the monitor of whom the start belongs to: it goes on.
  def handle_cast({:runs, ticket, guardian}, state) do
    running = Map.put(state.running, ticket, guardian)
    {:noreply, %{state | running: running} |> answered(ticket) |> pump()}
  end

  # Of a zygote that is gone: nobody could be asked to kill it.
  def handle_cast({:rests, ticket, guardian, zygote}, state) do
    Process.demonitor(ticket, [:flush])
    state = %{state | running: Map.delete(state.running, ticket)}

    if zygote == state.os_pid and length(state.resting) < @resting_max do
      {:noreply, tick(%{state | resting: [guardian | state.resting]})}
    else
      let_leave([guardian], state)
      {:noreply, state}
    end
  end

  @impl true
  def handle_info({:DOWN, ticket, :process, _pid, reason}, %{running: running} = state)
      when is_map_key(running, ticket) do
    {{id, zygote, grace, control}, running} = Map.pop!(running, ticket)

    # Killed after it gave the control socket to us, and before it said so (rests/2)? Else this has been done.
    Nif.control_close(control)

    # Who ends in good order has seen its guardian leave, or had it killed.
    if reason == :killed,
      do: Process.send_after(self(), {:overdue, id, zygote}, min(grace + @overdue, @u32_max))

    {:noreply, %{state | running: running}}
  end

  def handle_info({:DOWN, ticket, :process, _pid, _reason}, state) do
    # On its way, or (its caller gave up) still waiting here.
    queue = :queue.filter(fn entry -> elem(entry, 0) != ticket end, state.queue)
    state = %{state | queue: queue, queued: :queue.len(queue)}
    {:noreply, state |> forget(ticket) |> pump()}
  end

  def handle_info({:select, request, _ref, :ready_input}, %{request: request} = state) do
    {:noreply, state |> receive_frames() |> pump()}
  end

  # Of a zygote that was replaced.
  def handle_info({:select, _request, _ref, :ready_input}, state), do: {:noreply, state}

  # The zygote does not know the ids of guardians that have left.
  def handle_info({:overdue, id, zygote}, %{os_pid: zygote} = state) do
    _ = Nif.control_send(state.request, Protocol.escalate(id))
    {:noreply, state}
  end

  def handle_info({:no_word, ticket}, state) do
    {from, verdicts} = Map.pop(state.verdicts, ticket)
    state = %{state | verdicts: verdicts}
    {:noreply, if(from, do: state |> judge(ticket, from) |> pump(), else: state)}
  end

  def handle_info(:start_zygote, %{request: nil} = state),
    do: {:noreply, state |> start_zygote() |> pump()}

  def handle_info({:storm, watch, answered}, %{watch: watch} = state) do
    state = watch_storm(state)

    if state.answered == answered,
      do: {:noreply, pump(%{state | window: min(2 * state.window, @window - 1)})},
      else: {:noreply, state}
  end

  # Who was there at the last tick, too, has rested long enough.
  def handle_info(:tick, state) do
    {new, old} = Enum.split_with(state.resting, &(elem(&1, 3) == :new))
    let_leave(old, state)
    resting = Enum.map(new, &put_elem(&1, 3, :old))
    {:noreply, tick(%{state | resting: resting, tick: nil})}
  end

  def handle_info(:retry, state), do: {:noreply, pump(%{state | retry: nil})}
  def handle_info(_other, state), do: {:noreply, state}

  defp start_zygote(state) do
    path = Application.app_dir(:net_runner, ["priv", "shepherd"])

    case Nif.zygote_start(path, self()) do
      {:ok, request, os_pid} ->
        receive_frames(%{
          state
          | request: request,
            os_pid: os_pid,
            ready?: false,
            starts: state.starts + 1,
            said: nil,
            started_at: System.monotonic_time(:millisecond)
        })

      # It is tried again and again; once is enough to say why.
      {:error, reason} ->
        if reason != state.said,
          do: Logger.error("NetRunner cannot start #{path}: #{reason}", Log.metadata())

        restart_later(%{state | said: reason})
    end
  end

  defp receive_frames(%{request: nil} = state), do: state

  defp receive_frames(state) do
    case Nif.control_recv(state.request) do
      :again ->
        state

      {:ok, frame} ->
        receive_frames(handle_frame(Protocol.decode(frame), state))

      ended ->
        let_go(ended, state)
    end
  end

  defp let_go(ended, state) do
    Nif.control_close(state.request)
    if state.os_pid, do: Nif.zygote_reap(state.os_pid)
    lost(ended, state)
  end

  # Its socket has not hung up yet: a guardian that it had just forked has not come to close its copy. A request would be lost
  # in there. What the zygote said before is heard first.
  defp bury(%{os_pid: zygote} = state) do
    case receive_frames(%{state | ready?: false}) do
      %{os_pid: ^zygote} = state -> let_go(:killed, state)
      state -> state
    end
  end

  defp handle_frame({:ok, {:hello, os_pid, features}}, state),
    do: tell(%{state | ready?: true, os_pid: os_pid, features: features})

  # Whose request it was asks for it (verdict/1) once its control socket hangs up.
  defp handle_frame({:ok, {:rejected, id, reason}}, state) do
    in_flight =
      for {ticket, what} <- state.in_flight, into: %{} do
        {ticket, if(what == id, do: {:rejected, reason}, else: what)}
      end

    decide(%{state | in_flight: in_flight}, &match?({:rejected, _reason}, in_flight[&1]))
  end

  defp handle_frame(other, state) do
    Logger.error(
      "NetRunner's zygote sent something unexpected: #{inspect(other)}",
      Log.metadata(os_pid: state.os_pid)
    )

    state
  end

  defp lost(ended, state) do
    lived = System.monotonic_time(:millisecond) - state.started_at

    Logger.warning(
      "NetRunner's zygote ended (#{inspect(ended)}), starting another",
      Log.metadata(os_pid: state.os_pid)
    )

    let_leave(state.resting, %{os_pid: nil})
    state = tell(%{state | request: nil, os_pid: nil, ready?: false, resting: []})
    state = decide(state, fn _ticket -> true end)

    if lived >= @healthy_ms or state.backoff == 0,
      do: start_zygote(%{state | backoff: if(lived >= @healthy_ms, do: 0, else: 10)}),
      else: restart_later(state)
  end

  defp restart_later(state) do
    backoff = min(max(state.backoff, 10) * 2, @backoff_max)
    Process.send_after(self(), :start_zygote, backoff)
    %{state | backoff: backoff}
  end

  # Answers those who wait for a verdict and need not wait any longer.
  defp decide(state, known?) do
    {known, waiting} = Enum.split_with(state.verdicts, fn {ticket, _from} -> known?.(ticket) end)

    Enum.reduce(known, %{state | verdicts: Map.new(waiting)}, fn {ticket, from}, state ->
      judge(state, ticket, from)
    end)
  end

  defp judge(state, ticket, from) do
    reason =
      case state.in_flight do
        %{^ticket => {:rejected, reason}} -> reason
        _no_word -> :shepherd_lost
      end

    GenServer.reply(from, {:error, reason})
    forget(state, ticket)
  end

  defp answer(state) do
    %{
      os_pid: state.os_pid,
      features: state.features,
      starts: state.starts,
      in_flight: map_size(state.in_flight),
      queued: state.queued,
      window: state.window,
      resting: length(state.resting)
    }
  end

  defp tell(state) do
    for from <- state.asking, do: GenServer.reply(from, answer(state))
    %{state | asking: []}
  end

  defp forget(state, ticket) do
    Process.demonitor(ticket, [:flush])
    answered(state, ticket)
  end

  defp answered(state, ticket) do
    in_flight = Map.delete(state.in_flight, ticket)
    %{state | in_flight: in_flight, answered: state.answered + 1}
  end

  defp pump(%{ready?: false} = state), do: state

  defp pump(state) do
    state = weather(state)

    with true <- map_size(state.in_flight) < state.window,
         {{:value, entry}, queue} <- :queue.out(state.queue) do
      send_request(entry, %{state | queue: queue, queued: state.queued - 1})
    else
      _full_or_empty -> state
    end
  end

  defp weather(%{queued: 0} = state), do: %{state | window: @window, watch: nil}

  defp weather(%{queued: queued, watch: nil} = state) when queued > @storm,
    do: watch_storm(%{state | window: min(System.schedulers_online(), @window - 1)})

  defp weather(state), do: state

  defp watch_storm(state) do
    watch = make_ref()
    Process.send_after(self(), {:storm, watch, state.answered}, @stuck_ms)
    %{state | watch: watch}
  end

  # Nothing was sent.
  defp put_back(entry, state),
    do: %{state | queue: :queue.in_r(entry, state.queue), queued: state.queued + 1}

  defp tick(%{tick: nil, resting: [_ | _]} = state),
    do: %{state | tick: Process.send_after(self(), :tick, @rest_ms)}

  defp tick(state), do: state

  # One that was stopped does not leave: its zygote is asked to see to it, if there still is one.
  defp let_leave(resting, %{os_pid: zygote}) do
    for {_grace, control, id, _age} <- resting do
      Nif.control_close(control)
      if zygote, do: Process.send_after(self(), {:overdue, id, zygote}, @overdue)
    end
  end

  defp send_request({_ticket, _from, _id, request, _how} = entry, %{resting: [_ | _]} = state) do
    case List.keytake(state.resting, Protocol.grace(request.()), 0) do
      {guardian, resting} -> send_to_resting(guardian, entry, %{state | resting: resting})
      nil -> send_to_new(entry, state)
    end
  end

  defp send_request(entry, state), do: send_to_new(entry, state)

  # One that was killed meanwhile is passed over. Whatever else it is, with another one of them it would be the same.
  defp send_to_resting({_grace, control, id, _age}, entry, state) do
    {_ticket, {pid, _tag}, _id, request, how} = entry

    case nif_spawn(control, Protocol.to_resting(request.()), how, pid) do
      {:ok, handles} ->
        sent(entry, id, handles, state)

      {:error, reason} when reason in [:epipe, :econnreset, :enotconn] ->
        Nif.control_close(control)
        send_request(entry, state)

      {:error, _reason} ->
        Nif.control_close(control)
        send_to_new(entry, state)
    end
  end

  defp sent({ticket, from, _id, _request, _how}, guardian_id, handles, state) do
    start = %{ticket: ticket, id: guardian_id, zygote: state.os_pid, handles: handles}
    GenServer.reply(from, {:ok, start})
    pump(%{state | in_flight: Map.put(state.in_flight, ticket, guardian_id)})
  end

  defp send_to_new(entry, state) do
    if Nif.zygote_ended(state.os_pid),
      do: entry |> put_back(state) |> bury() |> pump(),
      else: send_to_zygote(entry, state)
  end

  defp send_to_zygote({ticket, {pid, _tag} = from, id, request, how} = entry, state) do
    case nif_spawn(state.request, request.(), how, pid) do
      {:ok, handles} ->
        sent(entry, id, handles, state)

      # Nothing was sent: wait for room, in order.
      {:error, reason} when reason in [:eagain, :etoomanyrefs, :enobufs] ->
        retry_later(put_back(entry, state))

      # The zygote is gone and we have not read its hang-up yet: the next one takes the request.
      {:error, reason} when reason in [:epipe, :enotconn, :econnreset] ->
        %{put_back(entry, state) | ready?: false} |> receive_frames() |> pump()

      {:error, reason} ->
        GenServer.reply(from, {:error, reason})
        state |> forget(ticket) |> pump()
    end
  end

  # Whoever is on the way makes room and comes back here; if nobody is, only time can tell.
  defp retry_later(%{retry: nil, in_flight: in_flight} = state) when map_size(in_flight) == 0,
    do: %{state | retry: Process.send_after(self(), :retry, @full_retry)}

  defp retry_later(state), do: state

  defp nif_spawn(socket, {frame, nil, flags}, how, pid),
    do: Nif.spawn(socket, frame, nil, flags, how.mode, pid, terminal(how.pty), how.joints)

  # The strings are written to a memfd: not on a normal scheduler.
  defp nif_spawn(socket, {frame, strings, flags}, how, pid) do
    Nif.spawn_large(
      socket,
      frame,
      strings,
      flags,
      how.mode,
      pid,
      terminal(how.pty),
      how.joints
    )
  end

  defp terminal(false), do: nil
  defp terminal(%{rows: rows, cols: cols, echo: echo, raw: raw}), do: {rows, cols, echo, raw}
end
