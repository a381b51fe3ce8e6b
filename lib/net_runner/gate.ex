defmodule NetRunner.Gate do
  @moduledoc ~S"""
  How many commands run at once: a gate has a number of places, and a call with `gate:` waits for one before anything of it
  is started. A child of your supervisor:

  <!-- only compiled: it is a part of an application -->

      children = [{NetRunner.Gate, name: MyApp.Gate, limit: 4, max_queue: 10_000}]
      {:ok, supervisor} = Supervisor.start_link(children, strategy: :one_for_one)

      NetRunner.run(["gzip", "huge.log"], gate: MyApp.Gate)

  From as many processes as you like, the limit is never passed:

      iex> {:ok, gate} = NetRunner.Gate.start_link(limit: 2)
      iex> 1..6
      ...> |> Task.async_stream(&NetRunner.run(["echo", to_string(&1)], gate: gate), max_concurrency: 6)
      ...> |> Enum.map(fn {:ok, {said, 0}} -> said end)
      ["1\n", "2\n", "3\n", "4\n", "5\n", "6\n"]
      iex> NetRunner.Gate.info(gate)
      %{limit: 2, running: 0, waiting: 0}

  `gate:`, a name or a pid of this node, is an option of `NetRunner.run/2`, `exec/2`, their bang forms, and streams. A pipeline
  is one, as a whole. A stream waits when its enumeration starts. For anything else, and for several commands in one place, there is
  `with_place/3`.

    * **Who comes first goes first.** A waiting call that times out or whose process dies leaves the queue at once, and nobody behind
      it is skipped.
    * **The queue is bounded.** Where `max_queue:` calls wait already, the next is `{:error, :queue_full}` at once. The bang forms and
      streams raise a `NetRunner.Error`.
    * **`timeout:` includes the queue**: `{:error, :timeout}`, and nothing ran. `spawn_timeout:` and `idle_timeout:` begin behind
      it; so a stream waits for as long as it takes.
    * **A place is given back when the command is gone**, however the call ends: also when it raises, is stopped by a limit, when the stream is
      halted. If the process that holds a place is killed, its commands are stopped, and the place is free once they are gone.
      Only what a call cannot wait for itself is not waited for: a command that SIGKILL does not end, one whose own server was
      killed, background processes with `orphans: :keep`.
    * **A process has one place of a gate at most.** With a second one, a few such processes could wait for each other for ever. To ask
      for another, also from the `input:` of a call that has one, raises `ArgumentError`. (A task that is started and awaited by
      whoever has a place should not ask for one either: nobody sees that it is waited for.)
    * **If the gate ends**, those who wait get `{:error, :no_gate}`, as does who comes while there is none, and commands that run go on.
      The next gate of that name knows nothing of them: until they have ended there may be more than its limit.
  """

  use GenServer

  alias NetRunner.Gate.Queue
  alias NetRunner.{Options, Pipe}

  @enforce_keys [:queue]
  defstruct [:queue, places: %{}, of: %{}]

  @typedoc "Its name, or its pid."
  @type t :: pid | atom | {:global, term} | {:via, module, term}

  @typep place :: nil | {pid, reference}

  @doc """
  A child specification. Its id is the gate's name, or `NetRunner.Gate`.

      iex> NetRunner.Gate.child_spec(name: MyApp.Gate).id
      MyApp.Gate
  """
  @spec child_spec(keyword) :: Supervisor.child_spec()
  def child_spec(opts) do
    {:ok, options} = Options.validate(opts, :gate)
    %{id: options.name || __MODULE__, start: {__MODULE__, :start_link, [opts]}}
  end

  @doc """
  Starts a gate.

  ## Options

  #{Options.docs(:gate)}
  """
  @spec start_link(keyword) :: GenServer.on_start()
  def start_link(opts \\ []) do
    {:ok, options} = Options.validate(opts, :gate)
    limit = options.limit || System.schedulers_online()
    name = if options.name, do: [name: options.name], else: []
    GenServer.start_link(__MODULE__, Queue.new(limit, options.max_queue), name)
  end

  @doc """
  Calls `fun` while this process has a place of the gate, and gives `{:ok, what_it_returns}`; or, where no place could be had within
  `timeout` milliseconds, `{:error, :timeout}`, `{:error, :queue_full}` or `{:error, :no_gate}`. What runs in it has no
  `gate:` of its own.

  A `timeout` of 0 takes a place that is free, and never queues: `{:error, :timeout}` where there is none.

      iex> {:ok, gate} = NetRunner.Gate.start_link(limit: 1)
      iex> NetRunner.Gate.with_place(gate, fn ->
      ...>   {"one\\n", 0} = NetRunner.run(["echo", "one"])
      ...>   NetRunner.run(["echo", "two"])
      ...> end)
      {:ok, {"two\\n", 0}}
      iex> NetRunner.Gate.with_place(gate, 0, fn -> NetRunner.run(["echo", "free"]) end)
      {:ok, {"free\\n", 0}}
      iex> NetRunner.Gate.set_limit(gate, 0)
      iex> NetRunner.Gate.with_place(gate, 10, fn -> :never end)
      {:error, :timeout}
  """
  @spec with_place(t, timeout, (() -> value)) ::
          {:ok, value} | {:error, :timeout | :queue_full | :no_gate}
        when value: term
  def with_place(gate, timeout \\ :infinity, fun)
      when gate != nil and is_function(fun, 0) and
             (timeout == :infinity or (is_integer(timeout) and timeout >= 0)) do
    with {:ok, place} <- enter(gate, if(timeout == 0, do: :now, else: Pipe.deadline(timeout))) do
      try do
        {:ok, starting(place, fun)}
      after
        leave(place)
      end
    end
  end

  @doc """
  Its limit, how many have a place, and how many wait for one; `{:error, :no_gate}` where there is none.

      iex> {:ok, gate} = NetRunner.Gate.start_link(limit: 3)
      iex> {:ok, info} = NetRunner.Gate.with_place(gate, fn -> NetRunner.Gate.info(gate) end)
      iex> info
      %{limit: 3, running: 1, waiting: 0}
  """
  @spec info(t) ::
          %{limit: non_neg_integer, running: non_neg_integer, waiting: non_neg_integer}
          | {:error, :no_gate}
  def info(gate), do: call(gate, :info)

  @doc """
  Sets the limit. With a higher one, those who waited longest go at once; with a lower one, those who have a place keep it, and
  nobody else comes in until there are fewer. 0 lets nobody in. `{:error, :no_gate}` where there is none.

      iex> {:ok, gate} = NetRunner.Gate.start_link(limit: 3)
      iex> NetRunner.Gate.set_limit(gate, 1)
      :ok
      iex> NetRunner.Gate.info(gate).limit
      1
  """
  @spec set_limit(t, non_neg_integer) :: :ok | {:error, :no_gate}
  def set_limit(gate, limit) when is_integer(limit) and limit >= 0,
    do: call(gate, {:set_limit, limit})

  # Unlike GenServer.call/3 it exits nobody.
  defp call(gate, request) do
    with server when server != nil <- GenServer.whereis(gate),
         :ok <- another!(server, gate),
         request = :gen_server.send_request(server, request),
         {:reply, answer} <- :gen_server.receive_response(request, :infinity) do
      answer
    else
      _none_or_down -> {:error, :no_gate}
    end
  end

  # It would wait for an answer of its own, with the question in its mailbox.
  defp another!(pid, gate) when pid == self() do
    raise ArgumentError,
          "#{inspect(gate)} is the calling process itself, and no gate: start one by NetRunner.Gate.start_link/1"
  end

  defp another!(_server, _gate), do: :ok

  ## For the calls with `gate:`

  # How long who only tries waits for a gate that is stuck: any other answers in microseconds.
  @stuck 1_000

  # In the dictionary of whoever starts commands in a place: its places.
  @places {__MODULE__, :places}
  # In that of a feeder: who waits for it.
  @feeds {__MODULE__, :feeds}

  @doc false
  # Waits for a place, which this process has then until somebody gives it back, or it dies. `:now` takes one or does not: the
  # gate says which, as nobody can wait 0 ms for an answer.
  @spec enter(t | nil, Pipe.deadline() | :now) ::
          {:ok, place} | {:error, :timeout | :queue_full | :no_gate}
  def enter(nil, _deadline), do: {:ok, nil}

  def enter(gate, deadline) do
    case GenServer.whereis(gate) do
      pid when is_pid(pid) and node(pid) == node() ->
        another!(pid, gate)
        ask(pid, gate, deadline)

      _none_here ->
        {:error, :no_gate}
    end
  end

  # The place has its name from here, so that one which nobody waits for any more can be given back, whether it was given
  # or not. An answer that is late has nowhere to go to (an alias).
  defp ask(pid, gate, deadline) do
    place = {pid, make_ref()}
    {waits?, ms} = if deadline == :now, do: {false, @stuck}, else: {true, Pipe.left(deadline)}
    request = :gen_server.send_request(pid, {:enter, elem(place, 1), askers(), waits?})

    case :gen_server.receive_response(request, ms) do
      {:reply, :go} ->
        {:ok, place}

      {:reply, :full} ->
        {:error, :queue_full}

      {:reply, :taken} ->
        {:error, :timeout}

      {:reply, :nested} ->
        raise ArgumentError,
              "this process, or one that waits for it, has a place of #{inspect(gate)} already: without gate:, " <>
                "several commands run in the one place of NetRunner.Gate.with_place/3"

      :timeout ->
        leave(place)
        {:error, :timeout}

      {:error, _down} ->
        {:error, :no_gate}
    end
  end

  @doc false
  # Any process may do it, and twice is fine. It waits for nobody.
  @spec leave(place) :: :ok
  def leave(nil), do: :ok
  def leave({pid, ref}), do: GenServer.cast(pid, {:leave, ref})

  @doc false
  # The commands that `fun` starts in this process are in the place, and are waited for should this process die.
  @spec starting(place, (() -> value)) :: value when value: term
  def starting(nil, fun), do: fun.()

  def starting(place, fun) do
    before = Process.put(@places, [place | Process.get(@places, [])])

    try do
      fun.()
    after
      if before, do: Process.put(@places, before), else: Process.delete(@places)
    end
  end

  @doc false
  # The places that this process starts commands in, for `runs/1`; and who would wait for ever if it did.
  @spec about :: %{places: [place], askers: [pid]}
  def about, do: %{places: Process.get(@places, []), askers: askers()}

  @doc false
  # This process, a command's server, is about to start it, and may if the places are still there: whoever has them may have
  # been killed before this process came to ask, and another be in already.
  @spec runs([place], Pipe.deadline()) :: :ok | {:error, :closed | :spawn_timeout}
  def runs([], _deadline), do: :ok

  def runs([{pid, ref} | places], deadline) do
    request = :gen_server.send_request(pid, {:runs, ref})

    case :gen_server.receive_response(request, Pipe.left(deadline)) do
      {:reply, :given_back} -> {:error, :closed}
      :timeout -> {:error, :spawn_timeout}
      # A gate that has ended keeps nobody from going on.
      _there_or_down -> runs(places, deadline)
    end
  end

  @doc false
  # This process makes the input of a command that these have started, who wait for it.
  @spec feeds([pid]) :: :ok
  def feeds(askers) do
    Process.put(@feeds, askers)
    :ok
  end

  defp askers, do: [self() | Process.get(@feeds, [])]

  ## The gate. Its messages are few and short, and it waits for nobody.

  # Of each place: who has it or waits for it, nil if that has died; its monitor; how to tell that it may go; and monitors of the
  # servers of its commands. `of` has the place of each process.
  @impl true
  def init(queue), do: {:ok, %__MODULE__{queue: queue}}

  @impl true
  def handle_call({:enter, ref, askers, waits?}, {pid, _tag} = from, state) do
    if Enum.any?(askers, &is_map_key(state.of, &1)) do
      {:reply, :nested, state}
    else
      case Queue.enter(state.queue, ref, waits?) do
        {:full, _queue} -> {:reply, :full, state}
        {:taken, _queue} -> {:reply, :taken, state}
        {:go, queue} -> {:reply, :go, known(%{state | queue: queue}, ref, pid, from)}
        {:wait, queue} -> {:noreply, known(%{state | queue: queue}, ref, pid, from)}
      end
    end
  end

  def handle_call({:runs, ref}, {server, _tag}, state) when is_map_key(state.places, ref) do
    state =
      update(state, ref, fn place ->
        monitor = :erlang.monitor(:process, server, tag: {:command, ref})
        %{place | commands: Map.put(place.commands, monitor, true)}
      end)

    {:reply, :ok, state}
  end

  def handle_call({:runs, _ref}, _from, state), do: {:reply, :given_back, state}
  def handle_call(:info, _from, state), do: {:reply, Queue.info(state.queue), state}

  def handle_call({:set_limit, limit}, _from, state) do
    {go, queue} = Queue.set_limit(state.queue, limit)
    {:reply, :ok, tell(%{state | queue: queue}, go)}
  end

  @impl true
  def handle_cast({:leave, ref}, state), do: {:noreply, forget(state, ref)}

  @impl true
  def handle_info({{:holder, ref}, _monitor, :process, pid, _reason}, state) do
    state = %{state | of: Map.delete(state.of, pid)}
    {:noreply, state |> update(ref, &%{&1 | pid: nil}) |> forget_if_over(ref)}
  end

  def handle_info({{:command, ref}, monitor, :process, _pid, _reason}, state) do
    state = update(state, ref, &%{&1 | commands: Map.delete(&1.commands, monitor)})
    {:noreply, forget_if_over(state, ref)}
  end

  def handle_info(_stray, state), do: {:noreply, state}

  defp known(state, ref, pid, from) do
    monitor = :erlang.monitor(:process, pid, tag: {:holder, ref})
    place = %{pid: pid, monitor: monitor, from: from, commands: %{}}
    %{state | places: Map.put(state.places, ref, place), of: Map.put(state.of, pid, ref)}
  end

  defp update(%{places: places} = state, ref, fun) when is_map_key(places, ref),
    do: %{state | places: Map.update!(places, ref, fun)}

  defp update(state, _ref, _fun), do: state

  # Nobody is left to give it back.
  defp forget_if_over(state, ref) do
    case state.places do
      %{^ref => %{pid: nil, commands: left}} when map_size(left) == 0 -> forget(state, ref)
      _there_is_somebody -> state
    end
  end

  defp forget(state, ref) do
    case Map.pop(state.places, ref) do
      {nil, _places} ->
        state

      {place, places} ->
        for monitor <- [place.monitor | Map.keys(place.commands)],
            do: Process.demonitor(monitor, [:flush])

        {go, queue} = Queue.leave(state.queue, ref)
        tell(%{state | queue: queue, places: places, of: Map.delete(state.of, place.pid)}, go)
    end
  end

  defp tell(state, go) do
    for ref <- go, do: GenServer.reply(state.places[ref].from, :go)
    state
  end
end
