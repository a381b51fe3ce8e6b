defmodule NetRunner.Stream do
  @moduledoc false
  # A command as a lazy enumerable: started when enumeration starts, in the process that enumerates,
  # read one element at a time (that is the back-pressure), stopped and gone when enumeration ends,
  # whichever way it ends. It can be enumerated again: each time is a new run. Between two elements no
  # wait is placed, so nothing strays into the mailbox of whoever enumerates.

  alias NetRunner.{Cut, ExitError, Gate, Idle, Pipe, Plan, Progress, Result, Running, Tagged}

  @spec new(Plan.t()) :: Enumerable.t()
  def new(plan) do
    Stream.resource(
      fn -> start(plan) end,
      &next/1,
      &close/1
    )
  end

  defp start(plan) do
    case Gate.enter(plan.options.gate, :infinity) do
      {:ok, place} ->
        try do
          start(plan, place)
        catch
          kind, reason ->
            Gate.leave(place)
            :erlang.raise(kind, reason, __STACKTRACE__)
        end

      {:error, reason} ->
        raise NetRunner.Error, reason: reason, cmd: hd(plan.stages).shown
    end
  end

  # `handles` are the pipes that have not ended, the next to be read first; `cuts` says how each becomes elements.
  defp start(%{options: options} = plan, place) do
    case Gate.starting(place, fn -> Running.start(plan, options.spawn_timeout) end) do
      {:ok, running} ->
        form = Tagged.form(options.stderr)
        handles = Running.handles(running, form != :plain)

        %{
          plan: plan,
          options: options,
          running: running,
          place: place,
          progress: Progress.start(plan, running),
          handles: handles,
          idle: Idle.new(options.idle_timeout, Running.consumed(running)),
          form: form,
          cuts: handles |> Enum.map(&elem(&1, 0)) |> Cut.for_each(options),
          status: :running
        }

      {:error, reason, cmd} ->
        raise NetRunner.Error, reason: reason, cmd: cmd
    end
  end

  defp next(%{status: :over} = state), do: {:halt, state}
  defp next(%{status: {:failed, reason}} = state), do: fail(reason, state)
  defp next(%{handles: []} = state), do: finish(state)

  # Time in which nobody asked does not count.
  defp next(state), do: read(%{state | idle: Idle.heard(state.idle)})

  defp read(state) do
    deadline = Idle.deadline(state.idle)

    case Pipe.read_one(state.handles, state.options.max_chunk_size, deadline) do
      {name, {:ok, chunk}} ->
        stamp = Tagged.stamp(state.form)
        split(name, chunk, stamp, %{state | handles: Pipe.turn(state.handles, name)})

      {name, :eof} ->
        stamp = Tagged.stamp(state.form)
        last(name, stamp, %{state | handles: List.keydelete(state.handles, name, 0)})

      {:error, :timeout} ->
        case Idle.over(state.idle) do
          {:waiting, idle} -> read(%{state | idle: idle})
          :idle_timeout -> time_out(state)
        end

      {:error, reason} ->
        fail(reason, state)
    end
  end

  defp split(name, chunk, stamp, state) do
    case Cut.feed(Map.fetch!(state.cuts, name), chunk) do
      {found, nil} ->
        {elements(found, name, stamp, state), state}

      {found, cut} ->
        {elements(found, name, stamp, state), %{state | cuts: %{state.cuts | name => cut}}}

      {:error, too_long, before} ->
        {elements(before, name, stamp, state), %{state | status: {:failed, too_long}}}
    end
  end

  # A last, partial line ends with the output: it has the time of that.
  defp last(name, stamp, state) do
    case state.cuts |> Map.fetch!(name) |> Cut.finish() do
      {:error, reason, []} -> fail(reason, state)
      found -> {elements(found, name, stamp, state), state}
    end
  end

  defp elements(found, name, stamp, state), do: Tagged.elements(found, state.form, name, stamp)

  defp time_out(state) do
    Running.stop_for(state.running, :idle_timeout)
    fail(:timeout, state)
  end

  # What was said on stderr until then is often why.
  defp fail(reason, state), do: fail(reason, Running.last_words(state.running), state)

  defp fail(reason, %Result{cmd: cmd, stderr: tail}, _state),
    do: raise(NetRunner.Error, reason: reason, cmd: cmd, stderr: tail)

  defp fail(reason, tail, state) do
    cmd = Plan.last(state.plan).shown
    raise NetRunner.Error, reason: reason, cmd: cmd, stderr: tail
  end

  defp finish(state) do
    with :ended <- Running.await_exit(state.running, :infinity, Idle.heard(state.idle)),
         # The servers are gone.
         %{trouble: nil} = ended <- Running.conclude(state.running) do
      if ended.ok?, do: Progress.went_well(state.progress)
      ended(state.options.exit, ended, %{state | status: :over})
    else
      :idle_timeout -> time_out(state)
      %{result: result, trouble: {_cause, reason}} -> fail(reason, result, state)
    end
  end

  defp ended(_exit, %{result: %{cause: :guardian_lost} = result}, state),
    do: fail(:guardian_lost, result, state)

  # Whoever started the enumeration has died, and another goes on with it: this is a cut, not an end.
  defp ended(_exit, %{result: %{cause: :owner_down} = result}, state),
    do: fail(:closed, result, state)

  defp ended(:ignore, _ended, state), do: {:halt, state}
  defp ended(:element, %{result: result}, state), do: {[{:exit, result.exit}], state}
  defp ended(:raise, %{ok?: true}, state), do: {:halt, state}
  defp ended(:raise, ended, _state), do: raise(ExitError.of(ended))

  defp close(state) do
    # Halted early, or the consumer raised: nobody reads the rest.
    if state.status != :over, do: Running.close(state.running)
    # At its end, too: a server may be on its way out, and an input with it.
    Running.stop(state.running)
    Progress.finish(state.progress)
  after
    Gate.leave(state.place)
  end
end
