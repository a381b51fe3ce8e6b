defmodule NetRunner.Collector do
  @moduledoc false
  # A command run to its end by the calling process, for run and exec: starts it, reads its pipes into
  # Outputs, sets off the stop ladder for time-outs and limits, and gives its Result. The command is gone
  # when this returns, however it returns: but for one that cannot be killed, and one whose server was, which
  # the guardian ends.

  import NetRunner.Tagged, only: [is_tagged: 1]

  alias NetRunner.{Cut, Gate, Idle, Output, Pipe, Plan, Progress, Running, Tagged}

  @read_max 262_144
  # After the grace of a time-out's ladder: when SIGKILL has not ended all of them by then, the guardian says
  # so, and whoever still holds the pipe is not read any more (docs/reliability.md: S).
  @after_grace 2_000

  @typedoc """
  Why the reading ended before the output did, as `run/2` says it; nil if it did not.
  """
  @type broke_off ::
          nil | :timeout | :max_output_exceeded | Cut.too_long()

  @doc """
  `{:ok, ended, broke_off}`, or `{:error, reason, cmd}` if nothing ran, with the command that could not be started. What
  went wrong with a command that did run is its result's `error`. An exception of the input or of the collectable is
  raised here.
  """
  @spec run(Plan.t()) ::
          {:ok, Running.ended(), broke_off} | {:error, NetRunner.Error.reason(), [binary]}
  def run(%Plan{options: options} = plan) do
    deadline = Pipe.deadline(options.timeout)

    case Gate.enter(options.gate, deadline) do
      {:ok, place} ->
        try do
          run(plan, deadline, place)
        after
          Gate.leave(place)
        end

      {:error, reason} ->
        {:error, reason, hd(plan.stages).shown}
    end
  end

  defp run(plan, deadline, place) do
    with {:ok, running} <- Gate.starting(place, fn -> start(plan, deadline) end) do
      progress = Progress.start(plan, running)

      try do
        with {:ok, %{ok?: ok?}, _broke_off} = ended <- collect(running, plan, deadline) do
          if ok?, do: Progress.went_well(progress)
          ended
        end
      after
        Running.stop(running)
        Progress.finish(progress)
      end
    end
  end

  # A start may wait, for its turn or for the other end of a FIFO: in the command's own time.
  defp start(%{options: %{spawn_timeout: spawn_timeout}} = plan, deadline) do
    case Pipe.left(deadline) do
      0 ->
        {:error, :timeout, hd(plan.stages).shown}

      left when left < spawn_timeout ->
        with {:error, :spawn_timeout, cmd} <- Running.start(plan, left),
             do: {:error, :timeout, cmd}

      _longer ->
        Running.start(plan, spawn_timeout)
    end
  end

  defp collect(running, %{options: options} = plan, deadline) do
    tagged? = is_tagged(options.stderr)
    handles = Running.handles(running, tagged? or options.stderr == :capture)
    outputs = handles |> Enum.map(&elem(&1, 0)) |> outputs(tagged?, options)
    idle = Idle.new(options.idle_timeout, Running.consumed(running))

    read_and_conclude(
      %{running: running, plan: plan},
      {deadline, idle},
      handles,
      outputs
    )
  end

  # One for each pipe, or one for all of them. A stdout that is a file has no handle.
  defp outputs(names, true, options), do: %{stdout: stdout([:stdout | names], options)}

  defp outputs(names, false, options) do
    captured =
      for {:stderr, _index} = name <- names, into: %{} do
        {name, Output.new("", %{name => nil}, :plain, options.max_output_size, options.overflow)}
      end

    Map.put(captured, :stdout, stdout([:stdout], options))
  end

  defp stdout(names, options) do
    form = Tagged.form(options.stderr)
    whole? = options.lines == nil and options.packet == nil and form == :plain
    into = if options.into == nil, do: if(whole?, do: "", else: []), else: options.into
    cuts = Cut.for_each(names, options)
    Output.new(into, cuts, form, options.max_output_size, options.overflow)
  end

  # Which of them has what was read.
  defp output(outputs, name) when is_map_key(outputs, name), do: name
  defp output(_outputs, _tagged), do: :stdout

  defp read_and_conclude(run, {deadline, idle}, handles, outputs) do
    case read_all(handles, deadline, idle, outputs) do
      {:eof, outputs} ->
        await(run, deadline, Idle.heard(idle), outputs)

      {why, handles, outputs} when why in [:timeout, :idle_timeout] ->
        Running.stop_for(run.running, why)
        # What it says while it is being stopped is part of its output.
        ladder = Pipe.deadline(Plan.grace(run.plan) + @after_grace)
        {outputs, failed} = handles |> read_all(ladder, Idle.never(), outputs) |> last_words()
        conclude(run, outputs, {why, :timeout}, failed)

      {:output_limit, outputs, what} ->
        Running.abandon(run.running, :output_limit)
        conclude(run, outputs, {:output_limit, what}, nil)

      # Nobody sees what it goes on to say.
      {:failed, outputs, reason} ->
        Running.abandon(run.running, :io_error)
        conclude(run, outputs, nil, {:io_error, reason})
    end
  end

  defp last_words({:eof, outputs}), do: {outputs, nil}
  defp last_words({:failed, outputs, reason}), do: {outputs, {:io_error, reason}}
  defp last_words({:output_limit, outputs, _what}), do: {outputs, nil}
  defp last_words({_why, _handles, outputs}), do: {outputs, nil}

  # Its output is closed, or does not come here; it may run on, within its time.
  defp await(run, deadline, idle, outputs) do
    case Running.await_exit(run.running, deadline, idle) do
      :ended ->
        conclude(run, outputs, nil, nil)

      why ->
        Running.stop_for(run.running, why)
        conclude(run, outputs, {why, :timeout}, nil)
    end
  end

  # `limit` is what was met, with what run/2 says of it, and `failed` what went wrong with its pipes.
  defp conclude(run, outputs, limit, failed) do
    ended = Output.or_halt(outputs.stdout, fn -> Running.conclude(run.running) end)
    {stdout, cut?, wrong} = Output.finish(outputs.stdout)
    result = captured(ended.result, Map.delete(outputs, :stdout))
    result = %{result | stdout: stdout, truncated?: cut? or result.truncated?}
    limit = limit || too_long(wrong)
    result = result |> because(ended.trouble || failed) |> because(limit) |> truncated(wrong)
    ok? = ended.ok? and limit == nil and failed == nil and wrong == nil
    {:ok, %{ended | result: result, ok?: ok?}, limit && elem(limit, 1)}
  end

  defp too_long(none) when none == nil or elem(none, 0) == :frame_truncated, do: nil
  defp too_long(too_long), do: {:output_limit, too_long}

  # That a frame is not whole is no news where it is known why.
  defp truncated(%{error: nil, cause: cause} = result, {:frame_truncated, _missing} = reason)
       when cause not in [:timeout, :idle_timeout, :output_limit, :guardian_lost],
       do: %{result | error: reason}

  defp truncated(result, _wrong), do: result

  # Each stderr goes to whose it is, and all of them to the whole, in the order of the commands.
  defp captured(result, outputs) when map_size(outputs) == 0, do: result

  defp captured(result, outputs) do
    finished =
      for {{:stderr, index}, output} <- Enum.sort(outputs) do
        {bytes, cut?, nil} = Output.finish(output)
        {index, bytes, cut?}
      end

    stages = result.stages && Enum.reduce(finished, result.stages, &put_stderr/2)
    bytes = for {_index, bytes, _cut?} <- finished, do: bytes
    cut? = Enum.any?(finished, fn {_index, _bytes, cut?} -> cut? end)

    %{
      result
      | stages: stages,
        stderr: IO.iodata_to_binary(bytes),
        truncated?: cut? or result.truncated?
    }
  end

  defp put_stderr({index, bytes, cut?}, stages),
    do: List.update_at(stages, index, &%{&1 | stderr: bytes, truncated?: cut?})

  # Whether the command was quicker than the ladder is chance.
  defp because(result, nil), do: result

  defp because(result, {cause, _said}) when cause in [:timeout, :idle_timeout, :output_limit],
    do: %{result | cause: cause}

  defp because(result, {cause, reason}), do: %{result | cause: cause, error: reason}

  ## Reading

  defp read_all(handles, deadline, idle, outputs) do
    read_all(handles, deadline, idle, %{}, outputs)
  end

  defp read_all([], _deadline, _idle, _armed, outputs), do: {:eof, outputs}

  defp read_all(handles, deadline, idle, armed, outputs) do
    first = Pipe.earlier(deadline, Idle.deadline(idle))
    tagged? = Output.tagged?(outputs.stdout)
    how = if tagged?, do: :at_once, else: :coalescing

    case Pipe.read_either(handles, @read_max, first, armed, how) do
      {tag, {:ok, chunk}, armed} ->
        name = output(outputs, tag)
        added = mind(armed, fn -> Output.add(outputs[name], tag, chunk) end)
        {handles, armed} = turn(tagged?, tag, handles, armed)
        took(added, name, handles, deadline, idle, armed, outputs)

      {tag, :eof, armed} ->
        name = output(outputs, tag)
        handles = List.keydelete(handles, tag, 0)

        case mind(armed, fn -> Output.ended(outputs[name], tag) end) do
          {:ok, output} ->
            read_all(handles, deadline, idle, armed, %{outputs | name => output})

          error ->
            took(error, name, handles, deadline, idle, armed, outputs)
        end

      {_tag, {:error, reason}, armed} ->
        Pipe.disarm(armed)
        {:failed, outputs, reason}

      {:timeout, armed} ->
        with false <- Pipe.over?(deadline),
             {:waiting, idle} <- Idle.over(idle) do
          read_all(handles, deadline, idle, armed, outputs)
        else
          why ->
            Pipe.disarm(armed)
            {if(why == true, do: :timeout, else: :idle_timeout), handles, outputs}
        end
    end
  end

  # Where the order of the pipes matters, the one that was just read is the last to be looked at, and the others are looked at
  # although waits for them were placed.
  defp turn(false, _tag, handles, armed), do: {handles, armed}

  defp turn(true, tag, handles, armed) do
    Pipe.disarm(armed)
    {Pipe.turn(handles, tag), %{}}
  end

  # A collectable that raises is the caller's, whose mailbox the other pipes must not write to.
  defp mind(armed, add) do
    add.()
  catch
    kind, reason ->
      Pipe.disarm(armed)
      :erlang.raise(kind, reason, __STACKTRACE__)
  end

  defp took({:ok, output}, tag, handles, deadline, idle, armed, outputs) do
    outputs = %{outputs | tag => output}
    idle = Idle.heard(idle)

    # A command that never lets us wait has its time-out all the same.
    if Pipe.over?(deadline) do
      Pipe.disarm(armed)
      {:timeout, handles, outputs}
    else
      read_all(handles, deadline, idle, armed, outputs)
    end
  end

  defp took({:over, output}, tag, _handles, _deadline, _idle, armed, outputs) do
    Pipe.disarm(armed)
    {:output_limit, %{outputs | tag => output}, :max_output_exceeded}
  end

  defp took({:error, too_long, output}, tag, _handles, _deadline, _idle, armed, outputs) do
    Pipe.disarm(armed)
    {:output_limit, %{outputs | tag => output}, too_long}
  end
end
