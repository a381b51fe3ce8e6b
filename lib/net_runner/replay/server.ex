defmodule NetRunner.Replay.Server do
  @moduledoc false
  # Owns the table of NetRunner.Replay, and changes who is covered by what: one at a time, so that no change is lost.
  # Started by NetRunner.Test.start/1 only, below NetRunner.Supervisor; while it is there commands are looked up. No start of a
  # command waits for it. Should it be killed, the switch stays on: then starts fail, and none runs by accident.
  #
  # A scope that nobody verified covers nobody any more when its owner has ended, but is known until the process has ended, too, that
  # started the owner: ExUnit calls on_exit/1 there when the test's own process is dead. (Before OTP 25 nobody knows which it is, and
  # such a scope stays until stop/0.)

  use GenServer, restart: :temporary

  alias NetRunner.Replay

  @spec start_link(:run | :refuse) :: GenServer.on_start()
  def start_link(others), do: GenServer.start_link(__MODULE__, others, name: __MODULE__)

  @doc "Covers a process, and those that it starts; with `global?` everybody that nothing else covers."
  @spec open(pid, [Replay.Recording.t()], NetRunner.Options.t()) :: Replay.scope()
  def open(owner, recordings, options), do: call({:open, owner, recordings, options})

  @doc "From now on nobody is covered by it. What was called is still known, until it is forgotten."
  @spec close(Replay.scope()) :: :ok
  def close(scope), do: call({:close, scope})

  @spec forget(Replay.scope()) :: :ok
  def forget(scope), do: call({:forget, scope})

  @doc "Covers one more process, by all that covers `owner`."
  @spec allow(pid, pid) :: :ok | :nothing
  def allow(owner, pid), do: call({:allow, owner, pid})

  @doc "What becomes of processes that nobody covers."
  @spec others(:run | :refuse) :: :ok
  def others(others), do: call({:others, others})

  @doc "For one that could not do it itself."
  @spec switch_off :: :ok
  def switch_off do
    :persistent_term.erase(Replay)
    :ok
  end

  defp call(request) do
    GenServer.call(__MODULE__, request, :infinity)
  catch
    :exit, {:noproc, _call} -> Replay.off!()
  end

  @impl true
  def init(others) do
    # So that terminate/2 is called.
    Process.flag(:trap_exit, true)
    table = :ets.new(Replay, [:public, read_concurrency: true])
    :ets.insert(table, [{:others, others}, {:global, []}])
    :persistent_term.put(Replay, table)

    # `ending` has the scopes that end with a process: its own, each with who started it, or nil where that is the process itself.
    {:ok, %{table: table, monitors: %{}, ending: %{}}}
  end

  @impl true
  def handle_call({:open, owner, recordings, options}, _from, %{table: table} = state) do
    scope = make_ref()
    indexed = Enum.with_index(recordings, &{&2, &1})
    :ets.insert(table, {{:scope, scope}, indexed, options})

    for {index, %{times: times}} when times != :any <- indexed,
        do: :ets.insert(table, {{:left, scope, index}, times})

    cover(table, if(options.global, do: :global, else: {:covered, owner}), [scope])
    {:reply, scope, ends_with(state, owner, [{scope, parent(owner)}])}
  end

  def handle_call({:others, others}, _from, %{table: table} = state) do
    :ets.insert(table, {:others, others})
    {:reply, :ok, state}
  end

  def handle_call({:close, scope}, _from, %{table: table} = state) do
    uncover(table, scope)
    {:reply, :ok, state}
  end

  def handle_call({:forget, scope}, _from, %{table: table} = state) do
    forget(table, scope)

    ending =
      for {pid, scopes} <- state.ending,
          rest = List.keydelete(scopes, scope, 0),
          rest != [],
          into: %{},
          do: {pid, rest}

    {:reply, :ok, %{state | ending: ending}}
  end

  def handle_call({:allow, owner, pid}, _from, %{table: table} = state) do
    case :ets.lookup(table, {:covered, owner}) do
      [{_key, [_ | _] = scopes}] ->
        cover(table, {:covered, pid}, scopes)
        {:reply, :ok, monitored(state, pid)}

      _none ->
        {:reply, :nothing, state}
    end
  end

  @impl true
  def handle_info({:DOWN, monitor, :process, pid, _reason}, state) do
    case Map.pop(state.monitors, pid) do
      {^monitor, monitors} ->
        :ets.delete(state.table, {:covered, pid})
        {scopes, ending} = Map.pop(state.ending, pid, [])
        state = %{state | monitors: monitors, ending: ending}
        {:noreply, Enum.reduce(scopes, state, &ended/2)}

      _other ->
        {:noreply, state}
    end
  end

  def handle_info(_stray, state), do: {:noreply, state}

  @impl true
  def terminate(_reason, _state) do
    switch_off()
  end

  defp cover(table, key, scopes) do
    before =
      case :ets.lookup(table, key) do
        [{_key, before}] -> before
        [] -> []
      end

    :ets.insert(table, {key, scopes ++ (before -- scopes)})
  end

  defp uncover(table, scope) do
    for {key, scopes} <-
          :ets.match_object(table, {{:covered, :_}, :_}) ++ :ets.lookup(table, :global),
        scope in scopes,
        do: :ets.insert(table, {key, List.delete(scopes, scope)})

    :ok
  end

  defp forget(table, scope) do
    uncover(table, scope)
    :ets.delete(table, {:scope, scope})
    :ets.match_delete(table, {{:left, scope, :_}, :_})
    :ets.match_delete(table, {{:call, scope, :_}, :_, :_})
  end

  defp ended({scope, nil}, state) do
    forget(state.table, scope)
    state
  end

  defp ended({scope, parent}, state) do
    # It may be everybody's.
    uncover(state.table, scope)
    if parent == :unknown, do: state, else: ends_with(state, parent, [{scope, nil}])
  end

  # One that has ended already is told of by its monitor.
  defp ends_with(state, pid, scopes) do
    state = monitored(state, pid)
    %{state | ending: Map.update(state.ending, pid, scopes, &(scopes ++ &1))}
  end

  defp parent(pid) do
    case Process.info(pid, :parent) do
      {:parent, parent} when is_pid(parent) -> parent
      {:parent, _none} -> :unknown
      # It was killed meanwhile: nobody knows of the scope.
      nil -> nil
    end
  rescue
    ArgumentError -> :unknown
  end

  defp monitored(%{monitors: monitors} = state, pid) when is_map_key(monitors, pid), do: state

  defp monitored(state, pid),
    do: %{state | monitors: Map.put(state.monitors, pid, Process.monitor(pid))}
end
