defmodule NetRunner.Stream do
  @moduledoc false
  # A command as a lazy enumerable: started when enumeration starts, in the process that enumerates,
  # read one element at a time (that is the back-pressure), stopped and gone when enumeration ends,
  # whichever way it ends. It can be enumerated again: each time is a new run. Between two elements no
  # wait is placed, so nothing strays into the mailbox of whoever enumerates.

  alias NetRunner.{Collector, ExitError, Idle, Lines, Pipe, Result}

  @spec new([binary, ...], NetRunner.Options.t()) :: Enumerable.t()
  def new(cmd, options) do
    Stream.resource(
      fn -> start(cmd, options) end,
      &next/1,
      &close/1
    )
  end

  # `handles` are the pipes that have not ended, the next to be read first; `lines` one splitter for each.
  defp start(cmd, options) do
    with {:ok, process} <- NetRunner.Process.start_checked(cmd, options, false),
         {:ok, pipes} <- NetRunner.Process.pipes(process) do
      wanted = if options.stderr == :tagged, do: [:stdout, :stderr], else: [:stdout]
      handles = for name <- wanted, handle = pipes[name], do: {name, handle}
      lines = options.lines && Lines.new(options.lines, options.max_line_length)

      %{
        cmd: cmd,
        options: options,
        process: process,
        handles: handles,
        idle: Idle.new(options, pipes),
        lines: if(lines, do: Map.new(handles, fn {name, _handle} -> {name, lines} end)),
        status: :running
      }
    else
      {:error, reason} -> raise NetRunner.Error, reason: reason, cmd: cmd
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
        split(name, chunk, turn(state))

      {name, :eof} ->
        last_line(name, %{state | handles: List.keydelete(state.handles, name, 0)})

      {:error, :timeout} ->
        case Idle.over(state.idle) do
          {:waiting, idle} -> read(%{state | idle: idle})
          :idle_timeout -> time_out(state)
        end

      {:error, reason} ->
        fail(reason, state)
    end
  end

  # Whoever floods one pipe must not keep the other waiting for ever.
  defp turn(%{handles: [first, second]} = state), do: %{state | handles: [second, first]}
  defp turn(state), do: state

  defp split(name, chunk, %{lines: nil} = state), do: {elements([chunk], name, state), state}

  defp split(name, chunk, state) do
    case Lines.feed(Map.fetch!(state.lines, name), chunk) do
      {found, lines} ->
        {elements(found, name, state), %{state | lines: %{state.lines | name => lines}}}

      {:error, too_long, before} ->
        {elements(before, name, state), %{state | status: {:failed, too_long}}}
    end
  end

  defp last_line(_name, %{lines: nil} = state), do: {[], state}

  defp last_line(name, state) do
    case state.lines |> Map.fetch!(name) |> Lines.finish() do
      {:error, too_long, []} -> fail(too_long, state)
      found -> {elements(found, name, state), state}
    end
  end

  defp elements(elements, name, %{options: %{stderr: :tagged}}),
    do: Enum.map(elements, &{name, &1})

  defp elements(elements, _name, _state), do: elements

  defp time_out(state) do
    NetRunner.Process.stop_for(state.process, :idle_timeout)
    fail(:timeout, state)
  end

  # What was said on stderr until then is often why.
  defp fail(reason, state),
    do: fail(reason, NetRunner.Process.last_words(state.process), state)

  defp fail(reason, tail, state),
    do: raise(NetRunner.Error, reason: reason, cmd: state.cmd, stderr: tail)

  defp finish(state) do
    with :ended <- Idle.await_exit(state.process, :infinity, Idle.heard(state.idle)),
         {:ok, %{result: result} = conclusion} <-
           NetRunner.Process.conclude(state.process, :infinity) do
      # The server is gone.
      case Collector.fed(conclusion) do
        :ok -> ended(state.options.exit, result, %{state | status: :over})
        {:error, reason} -> fail(reason, result.stderr, state)
      end
    else
      :idle_timeout ->
        time_out(state)

      {:unkillable, %{pids: pids} = conclusion} ->
        _ = Collector.fed(conclusion)
        fail({:unkillable, pids}, state)

      {:error, reason} ->
        fail(reason, state)
    end
  end

  defp ended(_exit, %{cause: :guardian_lost} = result, state),
    do: fail(:guardian_lost, result.stderr, state)

  # Whoever started the enumeration has died, and another goes on with it: this is a cut, not an end.
  defp ended(_exit, %{cause: :owner_down} = result, state),
    do: fail(:closed, result.stderr, state)

  defp ended(:ignore, _result, state), do: {:halt, state}
  defp ended(:element, result, state), do: {[{:exit, result.exit}], state}

  defp ended(:raise, result, state) do
    if Result.ok?(result, state.options.ok),
      do: {:halt, state},
      else: raise(ExitError.of(result, state.options))
  end

  # Its server may be on its way out, and an input with it.
  defp close(%{status: :over} = state), do: NetRunner.Process.stop(state.process)

  # Halted early, or the consumer raised: nobody reads the rest.
  defp close(state) do
    for {_name, handle} <- state.handles, do: NetRunner.Nif.close(handle)
    NetRunner.Process.stop(state.process)
  end
end
