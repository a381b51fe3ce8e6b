defmodule NetRunner.Collector do
  @moduledoc false
  # A command run to its end by the calling process, for run and exec: starts it, reads its pipes into
  # Outputs, sets off the stop ladder for time-outs and limits, and gives its Result. The command is gone
  # when this returns, however it returns: but for one that cannot be killed, and one whose server was, which
  # the guardian ends.

  alias NetRunner.{Idle, Lines, Output, Pipe, Result, Stats}

  @read_max 262_144
  # After the grace of a time-out's ladder: when SIGKILL has not ended all of them by then, the guardian says
  # so, and whoever still holds the pipe is not read any more (docs/reliability.md: S).
  @after_grace 2_000

  @typedoc """
  Why the reading ended before the output did, as `run/2` says it; nil if it did not.
  """
  @type broke_off ::
          nil | :timeout | :max_output_exceeded | {:line_too_long, pos_integer}

  @doc """
  `{:ok, result, broke_off}`, or `{:error, reason}` if nothing ran. What went wrong with a command that did run is its
  result's `error`. An exception of the input or of the collectable is raised here.
  """
  @spec run([binary, ...], NetRunner.Options.t()) ::
          {:ok, Result.t(), broke_off} | {:error, NetRunner.Error.reason()}
  def run(cmd, options) do
    deadline = Pipe.deadline(options.timeout)

    with {:ok, process} <- start(cmd, options, deadline) do
      try do
        collect(process, cmd, options, deadline)
      after
        NetRunner.Process.stop(process)
      end
    end
  end

  # A start may wait, for its turn or for the other end of a FIFO: in the command's own time.
  defp start(cmd, %{spawn_timeout: spawn_timeout} = options, deadline) do
    case Pipe.left(deadline) do
      0 ->
        {:error, :timeout}

      left when left < spawn_timeout ->
        with {:error, :spawn_timeout} <- start_within(left, cmd, options), do: {:error, :timeout}

      _longer ->
        start_within(spawn_timeout, cmd, options)
    end
  end

  defp start_within(ms, cmd, options),
    do: NetRunner.Process.start_checked(cmd, %{options | spawn_timeout: ms}, false)

  defp collect(process, cmd, options, deadline) do
    wanted = if options.stderr == :capture, do: [:stdout, :stderr], else: [:stdout]

    # Its server was killed before anything of the command was known here.
    with {:ok, pipes} <- NetRunner.Process.pipes(process) do
      # A stdout that is a file has no handle.
      handles = for name <- wanted, handle = pipes[name], do: {name, handle}
      run = %{process: process, cmd: cmd, options: options, pipes: pipes, began: now()}

      read_and_conclude(run, {deadline, Idle.new(options, pipes)}, handles, %{
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

  defp read_and_conclude(run, {deadline, idle}, handles, outputs) do
    case read_all(handles, deadline, idle, outputs) do
      {:eof, outputs} ->
        await(run, deadline, Idle.heard(idle), outputs)

      {why, handles, outputs} when why in [:timeout, :idle_timeout] ->
        NetRunner.Process.stop_for(run.process, why)
        # What it says while it is being stopped is part of its output.
        ladder = Pipe.deadline(run.options.kill_timeout + @after_grace)
        {outputs, failed} = handles |> read_all(ladder, Idle.never(), outputs) |> last_words()
        conclude(run, outputs, {why, :timeout}, failed)

      {:output_limit, outputs, what} ->
        NetRunner.Process.stop_for(run.process, :output_limit)
        conclude(run, outputs, {:output_limit, what}, nil)

      # Nobody sees what it goes on to say.
      {:failed, outputs, reason} ->
        NetRunner.Process.stop_for(run.process, :io_error)
        conclude(run, outputs, nil, {:io_error, reason})
    end
  end

  defp last_words({:eof, outputs}), do: {outputs, nil}
  defp last_words({:failed, outputs, reason}), do: {outputs, {:io_error, reason}}
  defp last_words({:output_limit, outputs, _what}), do: {outputs, nil}
  defp last_words({_why, _handles, outputs}), do: {outputs, nil}

  # Its output is closed, or does not come here; it may run on, within its time.
  defp await(run, deadline, idle, outputs) do
    case Idle.await_exit(run.process, deadline, idle) do
      :ended ->
        conclude(run, outputs, nil, nil)

      why ->
        NetRunner.Process.stop_for(run.process, why)
        conclude(run, outputs, {why, :timeout}, nil)
    end
  end

  # `limit` is what was met, with what run/2 says of it, and `failed` what went wrong with its pipes.
  defp conclude(run, outputs, limit, failed) do
    {result, unseen} = Output.or_halt(outputs.stdout, fn -> ending(run) end)
    {stdout, cut?, too_long} = Output.finish(outputs.stdout)
    {captured, captured_cut?, nil} = Output.finish(outputs.stderr)

    {stderr, stderr_cut?} =
      if run.options.stderr == :capture,
        do: {captured, captured_cut?},
        else: {result.stderr, result.truncated?}

    result = %{result | stdout: stdout, stderr: stderr, truncated?: cut? or stderr_cut?}
    limit = limit || (too_long && {:output_limit, too_long})
    {:ok, result |> because(unseen || failed) |> because(limit), limit && elem(limit, 1)}
  end

  # Whether the command was quicker than the ladder is chance.
  defp because(result, nil), do: result

  defp because(result, {cause, _said}) when cause in [:timeout, :idle_timeout, :output_limit],
    do: %{result | cause: cause}

  defp because(result, {cause, reason}), do: %{result | cause: cause, error: reason}

  defp ending(run) do
    case NetRunner.Process.conclude(run.process, :infinity) do
      {:ok, conclusion} ->
        case fed(conclusion) do
          :ok -> {conclusion.result, nil}
          {:error, reason} -> {conclusion.result, {:io_error, reason}}
        end

      {:unkillable, %{pids: pids} = conclusion} ->
        # What broke the input otherwise is less than that they live.
        _ = fed(conclusion)
        {so_far(run, :unkillable), {:unkillable, {:unkillable, pids}}}

      # Its server was killed, and took what it knew with it. The guardian ends the command.
      {:error, reason} ->
        {so_far(run, :guardian_lost), {:guardian_lost, reason}}
    end
  end

  # What is known of a command whose end nobody tells.
  defp so_far(%{pipes: pipes} = run, cause) do
    stats = Stats.counters(pipes.counted)
    tail = NetRunner.Process.last_words(run.process)

    %Result{
      cmd: run.cmd,
      cause: cause,
      os_pid: pipes.os_pid,
      containment: pipes.containment,
      duration_ms: now() - run.began,
      stderr: tail,
      truncated?: run.options.stderr == :consume and bytes(stats.stderr) > byte_size(tail),
      stats: stats
    }
  end

  # That of a terminal is none of its own.
  defp bytes(nil), do: 0
  defp bytes(%{bytes: bytes}), do: bytes

  defp now, do: System.monotonic_time(:millisecond)

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
