defmodule NetRunner.Compat.Exile.Pipes do
  @moduledoc false
  # The keeper of a NetRunner.Compat.Exile.Process: knows whose each pipe is, closes those whose owner has ended, and
  # stops the command when the owner of the whole has. Linked to that owner and to the command's server. It reads and
  # writes nothing.

  use GenServer, restart: :temporary

  alias NetRunner.{Compat, Nif}

  @no_pipe {:error, :pipe_closed_or_invalid_caller}

  @doc "Starts a command and its keeper, linked to the caller, whom a failing start sends no exit signal."
  @spec start_link([binary, ...], keyword) ::
          {:ok, pid, NetRunner.Process.t()} | {:error, NetRunner.Error.reason()}
  def start_link(cmd, options) do
    case GenServer.start(__MODULE__, {self(), cmd, options}) do
      {:ok, keeper} ->
        {:ok, keeper, GenServer.call(keeper, :attach)}

      {:error, {:shutdown, reason}} ->
        {:error, reason}
    end
  end

  @doc "Those of the pipes that are open and the caller's."
  @spec owned(pid, [atom]) :: [atom]
  def owned(keeper, pipes), do: call(keeper, {:owned, pipes}, [])

  @doc "Closes one of the caller's."
  def close(keeper, pipe), do: call(keeper, {:close, pipe}, @no_pipe)

  @doc "Closes all of the caller's."
  def close_all(keeper), do: call(keeper, :close_all, :ok)

  @doc "Makes another process the owner of a pipe."
  def give(keeper, pipe, owner), do: call(keeper, {:give, pipe, owner}, {:error, :closed})

  @doc "Ends the keeper, and the command with it."
  def stop(keeper) do
    GenServer.stop(keeper)
  catch
    :exit, _gone -> :ok
  end

  defp call(keeper, request, otherwise) do
    GenServer.call(keeper, request, :infinity)
  catch
    :exit, _gone -> otherwise
  end

  @impl true
  def init({owner, cmd, options}) do
    case Compat.start(cmd, options, true) do
      {:ok, process} ->
        names = [:stdin, :stdout] ++ if(options[:stderr] == :pipe, do: [:stderr], else: [])
        pipes = Map.new(names, &{&1, {owner, Process.monitor(owner)}})
        {:ok, %{owner: owner, monitor: Process.monitor(owner), process: process, pipes: pipes}}

      {:error, reason} ->
        {:stop, {:shutdown, reason}}
    end
  end

  @impl true
  def handle_call(:attach, {owner, _tag}, %{owner: owner} = state) do
    Process.link(owner)
    {:reply, state.process, state}
  end

  def handle_call({:owned, names}, {caller, _tag}, state),
    do: {:reply, Enum.filter(names, &(owner(state, &1) == caller)), state}

  def handle_call({:close, name}, {caller, _tag}, state) do
    if owner(state, name) == caller,
      do: {:reply, :ok, close_pipe(name, state)},
      else: {:reply, @no_pipe, state}
  end

  def handle_call(:close_all, {caller, _tag}, state),
    do: {:reply, :ok, close_those(state, &(&1 == caller))}

  def handle_call({:give, name, owner}, _from, state) do
    case state.pipes do
      %{^name => {_owner, monitor}} ->
        Process.demonitor(monitor, [:flush])
        pipes = Map.put(state.pipes, name, {owner, Process.monitor(owner)})
        {:reply, :ok, %{state | pipes: pipes}}

      _closed ->
        {:reply, {:error, :closed}, state}
    end
  end

  @impl true
  def handle_info({:DOWN, monitor, :process, _pid, _reason}, %{monitor: monitor} = state),
    do: {:stop, :normal, state}

  def handle_info({:DOWN, _monitor, :process, pid, _reason}, state),
    do: {:noreply, close_those(state, &(&1 == pid))}

  def handle_info(_other, state), do: {:noreply, state}

  @impl true
  def terminate(_reason, state), do: NetRunner.Process.stop(state.process)

  defp owner(state, name) do
    with {owner, _monitor} <- state.pipes[name], do: owner
  end

  defp close_those(state, theirs?) do
    for {name, {owner, _monitor}} <- state.pipes, theirs?.(owner), reduce: state do
      state -> close_pipe(name, state)
    end
  end

  defp close_pipe(name, state) do
    {{_owner, monitor}, pipes} = Map.pop!(state.pipes, name)
    Process.demonitor(monitor, [:flush])
    close_end(name, state.process)
    %{state | pipes: pipes}
  end

  @doc "Closes a pipe, whoever's it is. Of stdout and stderr NetRunner.Process closes none before its end."
  def close_end(:stdin, process), do: NetRunner.Process.close_stdin(process)

  def close_end(name, process) do
    with {:ok, handle} <- NetRunner.Process.handle(process, name), do: Nif.close(handle)
  end
end
