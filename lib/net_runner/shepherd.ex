defmodule NetRunner.Shepherd do
  @moduledoc false
  # Owns the zygote: starts it, starts another when it ends, and sends it the start requests.
  #
  # Requests are windowed: a user's in-flight descriptors and the socket's buffer are bounded, so at
  # most @window requests are between `sendmsg` and their answer (the answer itself goes from the
  # guardian to the command's own process). What does not fit waits here, in order.
  #
  # The end of the zygote decides nothing about a command: its own control socket does.

  use GenServer
  require Logger

  alias NetRunner.{Nif, Protocol}

  @window 64
  @backoff_max 1_000
  # A zygote that lived this long was healthy: its end is answered at once.
  @healthy_ms 1_000
  # When the socket is full though nobody is on the way: somebody stopped the zygote.
  @full_retry 20

  def start_link(_arg), do: GenServer.start_link(__MODULE__, nil, name: __MODULE__)

  @doc """
  Sends one start request (a `Protocol.spawn/2`) on behalf of the calling process, which becomes the
  owner of what comes back: `{:ok, ticket, {control, stdin, stdout, stderr}}`. Call `arrived/1` with
  the ticket when the control socket has spoken. `{:error, posix | :spawn_timeout | :shepherd_lost}`.
  """
  @spec spawn({binary, binary | nil, non_neg_integer}, 0..2, timeout) ::
          {:ok, reference, tuple} | {:error, term}
  def spawn(request, mode, timeout) do
    GenServer.call(__MODULE__, {:spawn, request, mode}, timeout)
  catch
    :exit, {:timeout, _call} -> {:error, :spawn_timeout}
    :exit, _reason -> {:error, :shepherd_lost}
  end

  @doc "The answer to a start came (or will never): makes room for the next request."
  @spec arrived(reference) :: :ok
  def arrived(ticket), do: GenServer.cast(__MODULE__, {:arrived, ticket})

  @doc "What is known of the zygote: `%{os_pid:, features:, starts:, in_flight:, queued:}`."
  @spec info :: map
  def info, do: GenServer.call(__MODULE__, :info)

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
      in_flight: MapSet.new(),
      queue: :queue.new()
    }

    {:ok, start_zygote(state)}
  end

  @impl true
  def handle_call({:spawn, request, mode}, from, state) do
    {:noreply, pump(%{state | queue: :queue.in({from, request, mode}, state.queue)})}
  end

  def handle_call(:info, _from, state) do
    info = %{
      os_pid: state.os_pid,
      features: state.features,
      starts: state.starts,
      in_flight: MapSet.size(state.in_flight),
      queued: :queue.len(state.queue)
    }

    {:reply, info, state}
  end

  @impl true
  def handle_cast({:arrived, ticket}, state) do
    Process.demonitor(ticket, [:flush])
    {:noreply, pump(%{state | in_flight: MapSet.delete(state.in_flight, ticket)})}
  end

  @impl true
  def handle_info({:DOWN, ticket, :process, _pid, _reason}, state) do
    {:noreply, pump(%{state | in_flight: MapSet.delete(state.in_flight, ticket)})}
  end

  def handle_info({:select, request, _ref, :ready_input}, %{request: request} = state) do
    {:noreply, state |> receive_frames() |> pump()}
  end

  # Of a zygote that was replaced.
  def handle_info({:select, _request, _ref, :ready_input}, state), do: {:noreply, state}

  def handle_info(:start_zygote, %{request: nil} = state),
    do: {:noreply, state |> start_zygote() |> pump()}

  def handle_info(:pump, state), do: {:noreply, pump(state)}
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
            started_at: System.monotonic_time(:millisecond)
        })

      {:error, reason} ->
        Logger.error("NetRunner cannot start #{path}: #{reason}")
        restart_later(state)
    end
  end

  defp receive_frames(state) do
    case Nif.control_recv(state.request) do
      :again ->
        state

      {:ok, frame} ->
        receive_frames(handle_frame(Protocol.decode(frame), state))

      ended ->
        Nif.control_close(state.request)
        if state.os_pid, do: Nif.zygote_reap(state.os_pid)
        lost(ended, state)
    end
  end

  defp handle_frame({:ok, {:hello, os_pid, features}}, state),
    do: %{state | ready?: true, os_pid: os_pid, features: features}

  # Cannot happen between halves of one build; the control socket's hang-up tells the caller.
  defp handle_frame({:ok, {:rejected, id, reason}}, state) do
    Logger.error("NetRunner's zygote refused request #{id}: #{reason}")
    state
  end

  defp handle_frame(other, state) do
    Logger.error("NetRunner's zygote sent something unexpected: #{inspect(other)}")
    state
  end

  defp lost(ended, state) do
    lived = System.monotonic_time(:millisecond) - state.started_at
    Logger.warning("NetRunner's zygote ended (#{inspect(ended)}), starting another")
    state = %{state | request: nil, os_pid: nil, ready?: false}

    if lived >= @healthy_ms or state.backoff == 0,
      do: start_zygote(%{state | backoff: if(lived >= @healthy_ms, do: 0, else: 10)}),
      else: restart_later(state)
  end

  defp restart_later(state) do
    backoff = min(max(state.backoff, 10) * 2, @backoff_max)
    Process.send_after(self(), :start_zygote, backoff)
    %{state | backoff: backoff}
  end

  defp pump(%{ready?: false} = state), do: state

  defp pump(state) do
    with true <- MapSet.size(state.in_flight) < @window,
         {{:value, entry}, queue} <- :queue.out(state.queue) do
      send_request(entry, %{state | queue: queue})
    else
      _full_or_empty -> state
    end
  end

  defp send_request({{pid, _tag} = from, request, mode} = entry, state) do
    case nif_spawn(state.request, request, mode, pid) do
      {:ok, handles} ->
        ticket = Process.monitor(pid)
        GenServer.reply(from, {:ok, ticket, handles})
        pump(%{state | in_flight: MapSet.put(state.in_flight, ticket)})

      # Nothing was sent: wait for room, in order.
      {:error, reason} when reason in [:eagain, :etoomanyrefs, :enobufs] ->
        if MapSet.size(state.in_flight) == 0, do: Process.send_after(self(), :pump, @full_retry)
        %{state | queue: :queue.in_r(entry, state.queue)}

      # The zygote is gone and we have not read its hang-up yet: the next one takes the request.
      {:error, reason} when reason in [:epipe, :enotconn, :econnreset] ->
        receive_frames(%{state | queue: :queue.in_r(entry, state.queue), ready?: false})

      {:error, reason} ->
        GenServer.reply(from, {:error, reason})
        pump(state)
    end
  end

  defp nif_spawn(socket, {frame, nil, flags}, mode, pid),
    do: Nif.spawn(socket, frame, nil, flags, mode, pid)

  # The strings are written to a memfd: not on a normal scheduler.
  defp nif_spawn(socket, {frame, strings, flags}, mode, pid),
    do: Nif.spawn_large(socket, frame, strings, flags, mode, pid)
end
