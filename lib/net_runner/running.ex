defmodule NetRunner.Running do
  @moduledoc false
  # The commands of one call of run, exec or stream, from their start to their end: one, or those of a pipeline, which
  # are joined here. Whoever reads what the last of them says asks this module for everything else. It belongs to
  # the process that started it.

  alias NetRunner.{Cut, Idle, Nif, Pipe, Pipefail, Pipeline, Plan, Result, Sink, Stats}
  alias NetRunner.Pipeline.Functions

  @enforce_keys [:commands, :began]
  defstruct [:commands, :began, :group, joints: []]

  @typedoc """
  `commands` in the order of their results. `source` is the pipe that a function before a command reads. A `:branch` is
  behind a tee, so that nobody reads on behind it.
  """
  @type command :: %{
          process: pid,
          pipes: map,
          stage: Plan.stage(),
          source: nil | Pipe.handle(),
          kind: :command | :tee | :branch
        }

  @type t :: %__MODULE__{
          commands: [command, ...],
          began: integer,
          joints: [reference],
          group: nil | reference
        }

  @typedoc "What went wrong around a command: its result's cause, and the reason."
  @type trouble :: nil | {Result.cause(), NetRunner.Error.reason()}

  ## Starting

  @doc "Starts all of them, each within what is left of `spawn_timeout`, or none: then with the command that failed."
  @spec start(Plan.t(), timeout) :: {:ok, t} | {:error, NetRunner.Error.reason(), [binary]}
  def start(%Plan{stages: [%{copy: nil} = stage]}, spawn_timeout) do
    began = now()

    with {:ok, command} <- start_one(stage, :command, %{spawn_timeout: spawn_timeout}, nil),
         do: {:ok, %__MODULE__{commands: [command], began: began}}
  end

  def start(%Plan{stages: stages} = plan, spawn_timeout) do
    with :ok <- Plan.check(plan) do
      running = %__MODULE__{commands: [], began: now(), group: make_ref()}

      case start_each(stages, nil, Pipe.deadline(spawn_timeout), running) do
        {:ok, running} ->
          # No input is asked for anything before that.
          for command <- running.commands, do: NetRunner.Process.feed(command.process)
          {:ok, %{running | commands: Enum.reverse(running.commands)}}

        {:error, reason, cmd, running} ->
          stop(running)
          {:error, reason, cmd}
      end
    end
  end

  # `before` is what the next one reads: nil (its own input), a joint, or the pipe of the one before. An error comes with all
  # that was begun.
  defp start_each([], _before, _deadline, running), do: {:ok, running}

  defp start_each([stage | rest], before, deadline, running) do
    {stdin, source} = stdin(before, stage)
    kind = if stage.copy == nil, do: :command, else: :tee

    with {:ok, stdout, running} <- stdout(rest, stage, running),
         {:ok, stderr, running} <- stderr(stage, running),
         stdio = %{input: stdin, stdout: stdout, stderr: stderr},
         {:ok, command, running} <- add(stage, kind, stdio, source, deadline, running),
         {:ok, running} <- start_branch(stage, stderr, deadline, running),
         do: start_each(rest, after_it(stdout, command), deadline, running)
  end

  defp add(stage, kind, stdio, source, deadline, running) do
    member = {running.group, length(running.commands), kind}

    # A deadline that is over leaves it a moment, so that it fails as one that takes too long does.
    given = Map.merge(stdio, %{spawn_timeout: max(Pipe.left(deadline), 1), pipeline: member})

    case start_one(stage, kind, given, source) do
      {:ok, command} ->
        {:ok, command, %{running | commands: [command | running.commands]}}

      {:error, reason, cmd} ->
        {:error, reason, cmd, running}
    end
  end

  defp start_branch(%{copy: %{} = branch}, {:joint, _} = joint, deadline, running) do
    stdio = %{input: joint, stdout: branch.options.stdout, stderr: branch.options.stderr}

    with {:ok, _command, running} <- add(branch, :branch, stdio, nil, deadline, running),
         do: {:ok, running}
  end

  defp start_branch(_stage, _stderr, _deadline, running), do: {:ok, running}

  defp start_one(%{cmd: cmd} = stage, kind, given, source) do
    given = if kind == :tee, do: Map.put(given, :shown, stage.shown), else: given

    with {:ok, process} <-
           NetRunner.Process.start_checked(cmd, Map.merge(stage.options, given), false),
         # Its server may be killed before anything of the command is known here.
         {:ok, pipes} <- NetRunner.Process.pipes(process) do
      {:ok, %{process: process, pipes: pipes, stage: stage, source: source, kind: kind}}
    else
      {:error, reason} -> {:error, reason, stage.shown}
    end
  end

  defp stdin(nil, stage), do: {stage.options.input, nil}
  defp stdin({:joint, _} = joint, _stage), do: {joint, nil}

  defp stdin({:pipe, before}, %{vias: vias}),
    do: {&feed(&1, vias, before), before.pipes.stdout}

  defp stdout([], stage, running), do: {:ok, stage.options.stdout, running}
  defp stdout([%{vias: []} | _], stage, running), do: joint(stage, running)
  defp stdout(_function, _stage, running), do: {:ok, :pipe, running}

  defp stderr(%{copy: nil, options: %{stderr: stderr}}, running), do: {:ok, stderr, running}
  defp stderr(%{copy: {:file, _, _, _} = file}, running), do: {:ok, file, running}
  defp stderr(tee, running), do: joint(tee, running)

  defp joint(stage, running) do
    case Nif.joint_open(self()) do
      {:ok, joint} -> {:ok, {:joint, joint}, %{running | joints: [joint | running.joints]}}
      {:error, reason} -> {:error, reason, stage.shown, running}
    end
  end

  defp after_it({:joint, _} = joint, _command), do: joint
  defp after_it(:pipe, command), do: {:pipe, command}
  defp after_it(_elsewhere, _command), do: nil

  ## Functions between two commands: they are the input of the second

  @left {__MODULE__, :left}

  # Of a chunk, unless the function says otherwise.
  @read_max 262_144

  # However the functions end, the command before them is told that nobody reads on.
  defp feed(sink, [first | _] = vias, before) do
    Functions.each(vias, read(before, first), &Sink.put(sink, &1))
  catch
    :throw, @left -> :ok
  after
    Nif.close(before.pipes.stdout)
  end

  defp read(before, via) do
    Stream.resource(
      fn -> {:cut, Cut.new(via)} end,
      &read_next(before, via.max_chunk_size || @read_max, &1),
      fn _cut -> :ok end
    )
  end

  defp read_next(_before, _max, :over), do: {:halt, :over}

  defp read_next(before, _max, {:failed, reason}), do: fail(reason, before)

  defp read_next(before, max, {:cut, cut}) do
    case Pipe.read(before.pipes.stdout, max, :infinity) do
      {:ok, chunk} -> split(chunk, cut)
      :eof -> last_line(cut, before)
      {:error, reason} -> stop_reading(reason, before)
    end
  end

  # The command that is fed has ended, and let_go/1 has closed it: nobody wants the rest. Else it is a cut, not an end.
  defp stop_reading(reason, before) do
    if reason == :closed and Process.alive?(before.process),
      do: throw(@left),
      else: fail(reason, before)
  end

  @spec fail(NetRunner.Error.reason(), command) :: no_return
  defp fail(reason, before),
    do: raise(NetRunner.Error, reason: reason, cmd: before.stage.shown)

  defp split(chunk, cut) do
    case Cut.feed(cut, chunk) do
      {found, cut} -> {found, {:cut, cut}}
      {:error, too_long, found} -> {found, {:failed, too_long}}
    end
  end

  defp last_line(cut, before) do
    case Cut.finish(cut) do
      {:error, too_long, _found} -> fail(too_long, before)
      found -> {found, :over}
    end
  end

  ## While they run

  @doc "The last command's stdout and, if it is wanted, the stderr of each: what there is of them to be read."
  @spec handles(t, boolean) :: [{:stdout | {:stderr, non_neg_integer}, Pipe.handle()}]
  def handles(running, stderr?) do
    stdout = for handle <- [last(running).pipes.stdout], handle != nil, do: {:stdout, handle}
    if stderr?, do: stdout ++ stderrs(running), else: stdout
  end

  defp stderrs(running) do
    for {%{pipes: %{stderr: handle}}, index} <- Enum.with_index(running.commands),
        handle != nil,
        do: {{:stderr, index}, handle}
  end

  # What follows it in the list is behind a tee.
  defp last(%{commands: [command]}), do: command

  defp last(%{commands: commands}),
    do: commands |> Enum.reject(&(&1.kind == :branch)) |> List.last()

  @doc "Both ends of the whole, nil for what does not come here; and who has the first stdin, which may be a file."
  @spec ends(t) :: %{
          stdin: Pipe.handle() | nil,
          stdout: Pipe.handle() | nil,
          os_pid: pos_integer
        }
  def ends(running) do
    %{os_pid: os_pid, counted: counted} = hd(running.commands).pipes
    %{stdin: counted.stdin, stdout: last(running).pipes.counted.stdout, os_pid: os_pid}
  end

  @doc "The pipes whose bytes are output, too, but are read elsewhere: consumed stderrs."
  @spec consumed(t) :: [Pipe.handle()]
  def consumed(running) do
    for %{pipes: pipes, stage: %{options: %{stderr: :consume}}} <- running.commands,
        handle = pipes.counted.stderr,
        do: handle
  end

  @doc "Waits for the end of all, whose output has ended or does not come here."
  @spec await_exit(t, Pipe.deadline(), Idle.t()) :: :ended | :timeout | :idle_timeout
  # Whoever concludes waits for the end anyhow.
  def await_exit(_running, :infinity, %{ms: :infinity}), do: :ended

  def await_exit(running, deadline, idle) do
    running.commands
    |> Enum.reverse()
    |> Enum.find_value(:ended, fn command ->
      with :ended <- Idle.await_exit(command.process, deadline, idle), do: let_go(command)
    end)
  end

  @doc "Sets off the stop ladder of each, for a cause that their results say if it is what ends them."
  @spec stop_for(t, Result.cause()) :: :ok
  def stop_for(running, cause) do
    Enum.each(running.commands, &NetRunner.Process.stop_for(&1.process, cause))
  end

  @doc "As `stop_for/2`, where nobody reads on. A tee heeds no stop signal: it ends with its reader."
  @spec abandon(t, Result.cause()) :: :ok
  def abandon(running, cause) do
    stop_for(running, cause)
    %{kind: kind, pipes: pipes} = last(running)
    if kind == :tee and pipes.stdout != nil, do: Nif.close(pipes.stdout), else: :ok
  end

  @doc "The last words on stderr, of whoever said some: for who tells of a failure."
  @spec last_words(t) :: binary
  def last_words(running),
    do: Enum.map_join(running.commands, &NetRunner.Process.last_words(&1.process))

  @doc "Stops all of them, at the same time, and returns when they are gone. Twice is fine."
  @spec stop(t) :: :ok
  def stop(%{commands: [command], joints: []}) do
    # Who concluded has seen it leave.
    if Process.alive?(command.process), do: NetRunner.Process.stop(command.process)
    :ok
  end

  def stop(running) do
    Enum.each(running.commands, &let_go/1)
    stop_for(running, :stopped)
    for command <- running.commands, do: NetRunner.Process.stop(command.process)
    Enum.each(running.joints, &Nif.joint_close/1)
  end

  # What its function reads, nobody reads on: the one before it would write for ever.
  defp let_go(%{source: nil}), do: nil

  defp let_go(%{source: source}) do
    :ok = Nif.close(source)
    nil
  end

  ## The end

  @typedoc """
  How all of it ended: the result, without stdout; what went wrong around it; whether it went well, by each command's
  own exit codes; the options of the command that says so; and what a pipeline is, for messages.
  """
  @type ended :: %{
          result: Result.t(),
          trouble: trouble,
          ok?: boolean,
          options: NetRunner.Options.t(),
          pipeline: nil | binary
        }

  @doc """
  Waits for the end of each and tells of all. The servers are gone then. An exception of an input, or of a function
  between two commands, is raised here.
  """
  @spec conclude(t) :: ended
  def conclude(%{commands: [%{stage: stage} = command], joints: []} = running) do
    {result, trouble} = ending(command, running.began)
    ok? = trouble == nil and Result.ok?(result, stage.ok)
    %{result: result, trouble: trouble, ok?: ok?, options: stage.options, pipeline: nil}
  end

  def conclude(running) do
    endings = running.commands |> Enum.reverse() |> conclude_each(running, [])
    stages = Enum.zip_with(running.commands, endings, &told/2)
    {result, index, failed?} = Pipefail.result(stages, now() - running.began)

    %{
      result: result,
      trouble: result.error && {result.cause, result.error},
      ok?: not failed?,
      options: Enum.at(running.commands, index).stage.options,
      pipeline: shown(running.commands)
    }
  end

  # As it was written. What is behind a tee is shown with it.
  defp shown(commands) do
    commands
    |> Enum.reject(&(&1.kind == :branch))
    |> Enum.flat_map(&written(&1.stage))
    |> Enum.map_join(" | ", &Pipeline.show/1)
  end

  defp written(%{vias: vias} = stage), do: Enum.map(vias, & &1.fun) ++ [written_last(stage)]

  defp written_last(%{copy: nil, shown: cmd}), do: cmd
  defp written_last(%{copy: {:file, path, _how, _mode}}), do: {:tee, path}
  defp written_last(%{copy: %{shown: cmd}}), do: {:tee, cmd}

  # From the last on: one that reads by a function has to see all that the one before it wrote.
  defp conclude_each([], _running, endings), do: endings

  defp conclude_each([command | before], running, endings) do
    ending = ending(command, running.began)
    let_go(command)
    conclude_each(before, running, [ending | endings])
  end

  defp told(%{stage: stage, kind: kind}, {result, trouble}) do
    result = because(%{result | cmd: stage.shown}, trouble || tee_failed(stage, result))
    %{result: result, ok: stage.ok, branch?: kind == :branch, tee?: kind == :tee}
  end

  defp because(result, nil), do: result
  defp because(result, {cause, reason}), do: %{result | cause: cause, error: reason}

  # A tee's exit code says which of its outputs it could not write, and the errno (csrc/tee.c).
  @stream 133

  defp tee_failed(%{copy: copy, options: %{stdout: stdout}}, %{exit: {:exited, code}})
       when copy != nil and code != 0 do
    if code > @stream,
      do: {:io_error, not_written(stdout, code - @stream)},
      else: {:io_error, not_written(copy, code)}
  end

  defp tee_failed(_stage, _result), do: nil

  defp not_written({:file, path, _how, _mode}, errno),
    do: {:file, path, NetRunner.Protocol.posix(errno)}

  defp not_written(_pipe, errno), do: NetRunner.Protocol.posix(errno)

  defp ending(%{process: process} = command, began) do
    case NetRunner.Process.conclude(process, :infinity) do
      {:ok, conclusion} ->
        case fed(conclusion) do
          :ok -> {conclusion.result, nil}
          {:error, reason} -> {conclusion.result, {:io_error, reason}}
        end

      {:unkillable, %{pids: pids} = conclusion} ->
        # What broke the input otherwise is less than that they live.
        _ = fed(conclusion)
        {so_far(command, :unkillable, began), {:unkillable, {:unkillable, pids}}}

      # Its server was killed, and took what it knew with it. The guardian ends the command.
      {:error, reason} ->
        {so_far(command, :guardian_lost, began), {:guardian_lost, reason}}
    end
  end

  # An exception of what was given as `input:` belongs to the caller.
  defp fed(%{fed: {:raised, kind, reason, stacktrace}}),
    do: :erlang.raise(kind, reason, stacktrace)

  defp fed(%{fed: {:broken, reason}}), do: {:error, reason}
  defp fed(_conclusion), do: :ok

  # What is known of a command whose end nobody tells.
  defp so_far(%{pipes: pipes, stage: stage} = command, cause, began) do
    stats = Stats.counters(pipes.counted)
    tail = NetRunner.Process.last_words(command.process)

    %Result{
      cmd: stage.shown,
      cause: cause,
      os_pid: pipes.os_pid,
      containment: pipes.containment,
      duration_ms: now() - began,
      stderr: tail,
      truncated?: stage.options.stderr == :consume and bytes(stats.stderr) > byte_size(tail),
      stats: stats
    }
  end

  # That of a terminal is none of its own.
  defp bytes(nil), do: 0
  defp bytes(%{bytes: bytes}), do: bytes

  @doc "Closes the pipes that come here: nobody reads the rest."
  @spec close(t) :: :ok
  def close(running) do
    for {_tag, handle} <- handles(running, true), do: Nif.close(handle)
    :ok
  end

  defp now, do: System.monotonic_time(:millisecond)
end
