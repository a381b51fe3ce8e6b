defmodule NetRunner.Collector do
  @moduledoc false
  # A command run to its end by the calling process, for run and exec: starts it, reads its pipes into
  # Outputs, sets off the stop ladder for time-outs and limits, and gives its Result. The command is gone
  # when this returns, however it returns.

  alias NetRunner.{Idle, Lines, Output, Pipe, Result}

  @read_max 262_144
  # After the grace of a time-out's ladder: when SIGKILL has not ended all of them by then, the guardian says
  # so, and whoever still holds the pipe is not read any more (docs/reliability.md: S).
  @after_grace 2_000

  @typedoc """
  Why the reading ended before the output did, with what `run/2` says of it; nil if it did not.
  """
  @type broke_off ::
          nil | :timeout | :max_output_exceeded | {:line_too_long, pos_integer}

  @doc """
  `{:ok, result, broke_off}`, or `{:error, reason}` if nothing ran or its end cannot be told (nobody can
  kill it, its input broke off). An exception of the input or of the collectable is raised here.
  """
  @spec run([binary, ...], NetRunner.Options.t()) ::
          {:ok, Result.t(), broke_off} | {:error, NetRunner.Error.reason()}
  def run(cmd, options) do
    deadline = Pipe.deadline(options.timeout)

    with {:ok, process} <- NetRunner.Process.start_checked(cmd, options, false) do
      try do
        collect(process, options, deadline)
      after
        NetRunner.Process.stop(process)
      end
    end
  end

  defp collect(process, options, deadline) do
    wanted = if options.stderr == :capture, do: [:stdout, :stderr], else: [:stdout]

    with {:ok, pipes} <- NetRunner.Process.pipes(process) do
      # A stdout that is a file has no handle.
      handles = for name <- wanted, handle = pipes[name], do: {name, handle}
      within = {deadline, Idle.new(options, pipes)}

      read_and_conclude(process, options, within, handles, %{
        stdout: stdout(options),
        stderr: Output.new("", nil, options.max_output_size, options.overflow)
      })
    end
  end

  defp stdout(options) do
    lines = options.lines && Lines.new(options.lines, options.max_line_length)
    into = if options.into == nil, do: if(lines, do: [], else: ""), else: options.into
    Output.new(into, lines, options.max_output_size, options.overflow)
  end

  defp read_and_conclude(process, options, {deadline, idle}, handles, outputs) do
    case read_all(handles, deadline, idle, outputs) do
      {:eof, outputs} ->
        await(process, options, deadline, idle, outputs)

      {why, handles, outputs} when why in [:timeout, :idle_timeout] ->
        NetRunner.Process.stop_for(process, why)
        # What it says while it is being stopped is part of its output.
        ladder = Pipe.deadline(options.kill_timeout + @after_grace)

        case read_all(handles, ladder, Idle.never(), outputs) do
          {:error, reason} -> {:error, reason}
          read -> conclude(process, options, outputs(read), {why, :timeout})
        end

      {:output_limit, outputs, what} ->
        NetRunner.Process.stop_for(process, :output_limit)
        conclude(process, options, outputs, {:output_limit, what})

      {:error, reason} ->
        {:error, reason}
    end
  end

  defp outputs({:eof, outputs}), do: outputs
  defp outputs({_why, _handles, outputs}) when is_map(outputs), do: outputs
  defp outputs({:output_limit, outputs, _what}), do: outputs

  # Its output is closed, or does not come here; it may run on, within its time.
  defp await(process, options, deadline, idle, outputs) do
    case Idle.await_exit(process, deadline, idle) do
      :ended ->
        conclude(process, options, outputs, nil)

      why ->
        NetRunner.Process.stop_for(process, why)
        conclude(process, options, outputs, {why, :timeout})
    end
  end

  defp conclude(process, options, outputs, broke_off) do
    with {:ok, conclusion} <- Output.or_halt(outputs.stdout, fn -> conclusion(process) end) do
      {stdout, cut?, too_long} = Output.finish(outputs.stdout)
      {captured, captured_cut?, nil} = Output.finish(outputs.stderr)
      result = conclusion.result

      {stderr, stderr_cut?} =
        if options.stderr == :capture,
          do: {captured, captured_cut?},
          else: {result.stderr, result.truncated?}

      result = %{result | stdout: stdout, stderr: stderr, truncated?: cut? or stderr_cut?}

      # Whether the command was quicker than the ladder is chance.
      case broke_off || (too_long && {:output_limit, too_long}) do
        nil -> {:ok, result, nil}
        {cause, reason} -> {:ok, %{result | cause: cause}, reason}
      end
    end
  end

  defp conclusion(process) do
    with {:ok, conclusion} <- NetRunner.Process.conclude(process, :infinity),
         :ok <- fed(conclusion),
         do: {:ok, conclusion}
  end

  @doc "How the input went. An exception of what was given as `input:` belongs to the caller."
  @spec fed(map) :: :ok | {:error, atom}
  def fed(%{fed: {:raised, kind, reason, stacktrace}}),
    do: :erlang.raise(kind, reason, stacktrace)

  def fed(%{fed: {:broken, reason}}), do: {:error, reason}
  def fed(_conclusion), do: :ok

  ## Reading

  defp read_all(handles, deadline, idle, outputs) do
    read_all(handles, deadline, idle, %{}, outputs)
  end

  defp read_all([], _deadline, _idle, _armed, outputs), do: {:eof, outputs}

  defp read_all(handles, deadline, idle, armed, outputs) do
    first = Pipe.earlier(deadline, Idle.deadline(idle))

    case Pipe.read_either(handles, @read_max, first, armed) do
      {tag, {:ok, chunk}, armed} ->
        took(Output.add(outputs[tag], chunk), tag, handles, deadline, idle, armed, outputs)

      {tag, :eof, armed} ->
        read_all(Keyword.delete(handles, tag), deadline, idle, armed, outputs)

      {_tag, {:error, reason}, armed} ->
        Pipe.disarm(armed)
        Output.halt(outputs.stdout)
        {:error, reason}

      {:timeout, armed} ->
        with false <- Pipe.over?(deadline),
             {:heard, idle} <- Idle.over(idle) do
          read_all(handles, deadline, idle, armed, outputs)
        else
          why ->
            Pipe.disarm(armed)
            {if(why == true, do: :timeout, else: :idle_timeout), handles, outputs}
        end
    end
  end

  defp took({:ok, output}, tag, handles, deadline, idle, armed, outputs) do
    outputs = %{outputs | tag => output}

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
