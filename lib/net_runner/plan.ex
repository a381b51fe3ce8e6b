defmodule NetRunner.Plan do
  @moduledoc false
  # What a call of run, exec or stream is to run, all of it checked: one command, or the stages of a pipeline, each with
  # the options that it is started with. Nothing has been started; NetRunner.Running does that.

  import NetRunner.Tagged, only: [is_tagged: 1]

  alias NetRunner.{Command, Environment, Executable, Options, Pipeline, Quote, Replay, Settings}
  alias NetRunner.Terminal
  alias NetRunner.Options.Type
  alias NetRunner.Pipeline.Link

  @enforce_keys [:stages, :options]
  defstruct [:stages, :options]

  @typedoc """
  One command. `own` are the options that it has as a stage of a pipeline, and which stage it is; `shown` is what results and messages call it, `ok` its exit codes that are no failure, `vias` the functions
  between the command before it and this one. `copy` makes it a tee: where its stderr, the copy, goes.
  """
  @type stage :: %{
          cmd: [binary, ...],
          own: {[atom], pos_integer} | nil,
          shown: [binary, ...],
          options: Options.t(),
          ok: [0..255],
          vias: [Link.via()],
          copy: nil | Link.file() | stage
        }

  @typedoc "`options` are those of the call as a whole."
  @type t :: %__MODULE__{stages: [stage, ...], options: Options.t()}

  # What a call gives to the commands of a pipeline that have none of their own: all that a process has, but for how
  # stages are joined, and what only one of them could have.
  @shared Options.names(:process) --
            [:input, :stdout, :stderr, :owner, :pty, :arg0, :packet, :max_frame_size]
  @own [:stderr, :arg0, :ok | @shared -- [:spawn_timeout]]

  # Of stderr: it comes to the caller, and in the form that the whole has.
  defguardp is_apart(stderr) when stderr == :capture or is_tagged(stderr)

  @spec new(term, keyword, Options.call()) :: {:ok, t} | {:error, NetRunner.Error.reason()}
  # One stage is a command like any other, but for whose options win: a list of stages that is made at run time means the same
  # at each length.
  def new(%Pipeline{stages: [%Command{} = command]}, opts, call) do
    %{opts: own} = command = Command.for_call(command, call)
    {cmd, opts} = Command.resolve(command, opts)

    with {:ok, whole} <- Options.validate(opts, call),
         {:ok, options} <- Options.validate(opts ++ wins(own), call),
         {:ok, cmd} <- Executable.check_cmd(cmd),
         do: {:ok, tee_stdout([stage(cmd, options, Map.get(options, :ok, [0]))], whole)}
  end

  def new(%Pipeline{stages: [[_ | _] = cmd]}, opts, call), do: new(cmd, opts, call)

  def new(%Pipeline{stages: stages}, opts, call) do
    unless Keyword.keyword?(opts), do: raise(ArgumentError, "options must be a keyword list")
    opts = Options.named(opts)

    with {:ok, links} <- Link.all(stages),
         {:ok, whole} <- whole(links, opts, call),
         {:ok, stages} <- stages(links, {Keyword.take(opts, @shared), whole, call}),
         %__MODULE__{} = plan <- tee_stdout(stages, whole),
         :ok <- check_idle(plan),
         do: {:ok, plan}
  end

  def new(cmd, opts, call) do
    {cmd, opts} = cmd |> Command.for_call(call) |> Command.resolve(opts)

    with {:ok, options} <- Options.validate(opts, call),
         {:ok, cmd} <- Executable.check_cmd(cmd),
         do: {:ok, tee_stdout([stage(cmd, options, Map.get(options, :ok, [0]))], options)}
  end

  # What it could have for itself in any pipeline.
  defp wins(own) do
    for {name, value} = option <- Options.named(own),
        name in @own and not (name == :stderr and is_apart(value)),
        do: option
  end

  @doc "How long the ladder of its commands may take, in milliseconds."
  @spec grace(t) :: non_neg_integer
  def grace(plan), do: plan |> commands() |> Enum.map(& &1.options.kill_timeout) |> Enum.max()

  @doc "The command that wrote what is read here, for messages: that before a tee."
  @spec last(t) :: stage
  def last(%__MODULE__{stages: stages}),
    do: stages |> Enum.reverse() |> Enum.find(&(&1.copy == nil))

  @doc "The commands of a plan, in the order of their results: one behind a tee follows it."
  @spec commands(t) :: [stage, ...]
  def commands(%__MODULE__{stages: stages}) do
    Enum.flat_map(stages, fn
      %{copy: %{} = branch} = tee -> [tee, branch]
      stage -> [stage]
    end)
  end

  @doc "What can be seen to be wrong with its commands before one is started, and with which."
  @spec check(t) :: :ok | {:error, NetRunner.Error.reason(), [binary]}
  def check(plan) do
    plan
    |> commands()
    |> Enum.find_value(:ok, fn stage ->
      with {:ok, [exe | _args], options} <- program(stage),
           {:ok, _mode} <- Terminal.mode(options),
           {:ok, _path} <- Executable.check(exe, Environment.path(options.env)),
           {:ok, _settings} <- Settings.resolve(options) do
        nil
      else
        {:error, reason} -> {:error, whose(reason, stage.own), stage.shown}
      end
    end)
  end

  defp whose({:invalid, option, _what} = reason, {own, number}),
    do: if(option in own, do: Link.of_stage(reason, number), else: reason)

  defp whose(reason, _own), do: reason

  defp program(%{copy: nil} = stage), do: Replay.peek(stage.cmd, stage.options)
  defp program(tee), do: {:ok, tee.cmd, tee.options}

  defp stage(cmd, options, ok, own \\ nil),
    do: %{cmd: cmd, own: own, shown: cmd, options: options, ok: ok, vias: [], copy: nil}

  ## The options of a pipeline as a whole

  # Its ends may have been given to the commands there.
  defp whole([{:command, _cmd, first} | _] = links, opts, call) do
    last = with {:command, _cmd, own} <- List.last(links), do: own, else: (_tee -> [])
    input = Keyword.take(first, [:input, :input_buffer])
    stdout = Keyword.take(last, [:stdout])

    with :ok <- check_end(input, 1, call),
         :ok <- check_end(stdout, length(links), call),
         {:ok, options} <- validate_ends(input, stdout, opts, length(links), call),
         do: check_whole(links, options)
  end

  # What is wrong with one of them beside the call's other options is the stage's, too.
  defp validate_ends(input, stdout, opts, last, call) do
    with {:error, reason} <- Options.validate(input ++ stdout ++ opts, call) do
      own = &(Keyword.keys(&1) -- Keyword.keys(opts))
      {:error, reason |> whose({own.(input), 1}) |> whose({own.(stdout), last})}
    end
  end

  defp check_end(own, number, call) do
    case Options.validate(own, call, Link.in_stage(number)) do
      {:ok, _options} -> :ok
      {:error, reason} -> {:error, Link.of_stage(reason, number)}
    end
  end

  defp check_whole(_links, %{pty: pty}) when pty != false,
    do: invalid(:pty, "a pipeline has no terminal")

  defp check_whole(_links, %{arg0: arg0}) when arg0 != nil,
    do: invalid(:arg0, "is one command's: give it to that stage")

  defp check_whole(links, %{stderr: {:file, _path, :truncate, _mode}} = options) do
    if Enum.count(links, &command?/1) == 1,
      do: {:ok, options},
      else:
        invalid(:stderr, "the commands of a pipeline would overwrite each other's: use :append")
  end

  defp check_whole(_links, options), do: {:ok, options}

  # What the call says of stderr may be said otherwise by each of its commands.
  defp check_idle(%{options: %{idle_timeout: ms, stdout: stdout}} = plan)
       when ms != :infinity and stdout != :pipe do
    if Enum.any?(commands(plan), &(&1.copy == nil and comes_here?(&1.options.stderr))),
      do: :ok,
      else: invalid(:idle_timeout, Options.unseen_idle())
  end

  defp check_idle(_plan), do: :ok

  defp comes_here?(stderr), do: stderr == :consume or is_apart(stderr)

  defp command?({:command, _cmd, _own}), do: true
  defp command?({:tee, target}), do: command?(target)
  defp command?(_no_command), do: false

  defp invalid(option, what), do: {:error, {:invalid, option, what}}

  ## The options of each of its stages

  # `of_call` are the options that the call shares out, its options as a whole, and which it is.
  defp stages(links, of_call) do
    last = length(links)
    # What is behind it are tees.
    final = last - Enum.find_index(Enum.reverse(links), &match?({:command, _, _}, &1))

    links
    |> Enum.with_index(1)
    |> Enum.reduce_while({:ok, [], []}, fn
      {{:via, via}, _number}, {:ok, stages, vias} ->
        case in_a_row(List.last(vias), via) do
          :ok -> {:cont, {:ok, stages, vias ++ [via]}}
          error -> {:halt, error}
        end

      {link, number}, {:ok, stages, vias} ->
        place = %{
          number: number,
          first?: number == 1,
          last?: number == last,
          final?: number == final
        }

        case place(link, place, of_call) do
          {:ok, stage} ->
            stage = stage |> reads(vias) |> as_patient(stages)
            {:cont, {:ok, [stage | stages], []}}

          error ->
            {:halt, error}
        end
    end)
    |> then(fn
      {:ok, stages, []} -> {:ok, Enum.reverse(stages)}
      error -> error
    end)
  end

  # Of functions in a row only the first reads a pipe, and only what the last gives is written into one.
  defp in_a_row(nil, _via), do: :ok

  defp in_a_row(%{buffer: bytes, number: number}, _via) when bytes != nil,
    do: refuse(:buffer, "what it gives is read by the next function, and not written", number)

  defp in_a_row(_before, %{max_chunk_size: bytes, number: number}) when bytes != nil,
    do:
      refuse(
        :max_chunk_size,
        "a function behind another one reads its elements, and no chunks",
        number
      )

  defp in_a_row(_before, _via), do: :ok

  defp refuse(option, what, number),
    do: {:error, Link.of_stage({:invalid, option, what}, number)}

  defp reads(stage, []), do: stage

  defp reads(stage, vias) do
    buffer = List.last(vias).buffer || 0
    %{stage | vias: vias, options: Map.put(stage.options, :input_buffer, buffer)}
  end

  defp place({:command, cmd, own}, place, {_shared, whole, _call} = of_call) do
    at_ends =
      if(place.first?, do: [:input, :input_buffer], else: []) ++
        if(place.last?, do: [:stdout], else: [])

    with {:ok, options, ok} <- own(own, @own ++ at_ends, place, of_call),
         do: {:ok, stage(cmd, ends(options, place, whole), ok, named(own, place))}
  end

  defp place({:tee, {:file, _path, _how, _mode} = file}, place, {shared, whole, call}) do
    with {:ok, options} <- Options.validate(shared, call),
         do: {:ok, tee(file, ends(options, place, whole))}
  end

  defp place({:tee, {:command, cmd, own}}, place, {shared, whole, call} = of_call) do
    stdout = Keyword.get(own, :stdout, :discard)

    with {:ok, options} <- Options.validate(shared, call),
         {:ok, stdout} <- branch_stdout(stdout, place.number),
         {:ok, branch, ok} <- own(own, [:stdout | @own], place, of_call) do
      branch = stage(cmd, %{branch | stdout: stdout}, ok, named(own, place))
      {:ok, tee(branch, ends(options, place, whole))}
    end
  end

  defp named(own, place), do: {own |> Options.named() |> Keyword.keys(), place.number}

  defp branch_stdout(stdout, number) do
    case Type.check({:stdio, [:discard]}, stdout) do
      :ok ->
        {:ok, stdout}

      {:ok, file} ->
        {:ok, file}

      {:invalid, what} ->
        refuse(:stdout, what, number)

      {:wrong, expected} ->
        Link.wrong!(number, "stdout of a command behind a tee must be #{expected}")
    end
  end

  # What a stage was given itself wins over what the call gives to all.
  defp own(own, names, place, {shared, whole, call}) do
    # Of one that is given twice, the later counts.
    own = own |> Options.named() |> Map.new() |> Map.to_list()

    for {name, _value} <- own, name not in names do
      raise ArgumentError,
            "stage #{place.number} of the pipeline cannot have the option #{inspect(name)}#{why(name, call)}"
    end

    {ok, own} =
      Keyword.pop_lazy(own, :ok, fn -> if place.final?, do: whole[:ok] || [0], else: [0] end)

    given = Keyword.drop(own, [:input, :input_buffer, :stdout])

    with :ok <- check_stderr(own[:stderr]),
         :ok <- check_merge(own[:stderr], place, whole),
         {:ok, options} <- Options.validate(shared ++ given, call, Link.in_stage(place.number)) do
      stderr =
        if Keyword.has_key?(own, :stderr), do: options.stderr, else: stderr(whole.stderr, place)

      {:ok, %{options | stderr: stderr}, check_ok(ok, place.number)}
    else
      # The call's options have been looked at.
      {:error, reason} -> {:error, Link.of_stage(reason, place.number)}
    end
  end

  defp why(name, _call) when name in [:input, :input_buffer], do: ", only the first one"
  defp why(:stdout, _call), do: ", only the last one"
  defp why(:pty, _call), do: ": a pipeline has no terminal"
  defp why(:owner, _call), do: ": a pipeline's is the process that runs it"

  defp why(name, call) do
    if name in Options.names(call),
      do: ", only the call",
      else: ", and #{Options.call_name(call)} has none"
  end

  # Nobody would read it.
  defp check_stderr(apart) when is_apart(apart),
    do: invalid(:stderr, "#{inspect(apart)} is for all commands, give it to the call")

  defp check_stderr(_other), do: :ok

  # `packet:` is the whole's: that the last one says something between its frames can only be seen here.
  defp check_merge(:merge, %{final?: true}, %{packet: header}) when header != nil,
    do: invalid(:stderr, Options.merged_frames())

  defp check_merge(_stderr, _place, _whole), do: :ok

  defp stderr(:merge, %{final?: false}), do: :consume
  defp stderr(stderr, _place), do: stderr

  defp check_ok(ok, number) do
    case Type.check(:exit_codes, ok) do
      :ok -> ok
      {:wrong, expected} -> Link.wrong!(number, "ok must be #{expected}")
    end
  end

  defp ends(options, place, whole) do
    first = if place.first?, do: Map.take(whole, [:input, :input_buffer, :packet]), else: %{}
    last = if place.last?, do: Map.take(whole, [:stdout]), else: %{}
    options |> Map.merge(first) |> Map.merge(last)
  end

  ## Tees

  # The program of every tee: csrc/tee.c.
  defp tee_exe, do: Application.app_dir(:net_runner, ["priv", "tee"])

  # It has nothing of the command's: NetRunner's own program, which opens its file as those of other redirections are
  # opened, as the BEAM's. It ends by itself, at the end of what it reads or when nobody reads what it writes; a stop that it heeded would
  # leave the copy behind what was read, so its stop signal is one that does nothing. SIGKILL comes after the grace, as for all.
  @no_tees %{
    env: {:replace, []},
    cd: nil,
    arg0: nil,
    user: nil,
    group: nil,
    groups: nil,
    cgroup: nil,
    rlimits: %{},
    orphans: :kill,
    stop_signal: NetRunner.Signal.resolve(:sigurg)
  }

  defp tee(copy, options) do
    options = Map.merge(options, @no_tees)
    %{stage([tee_exe()], options, [0]) | shown: tee_shown(copy), copy: copy}
  end

  # Last words come through it: it is given the time of whoever may have some.
  defp as_patient(%{copy: nil} = stage, _before), do: stage

  defp as_patient(%{options: options} = tee, before) do
    graces = for stage <- [tee | before], do: stage.options.kill_timeout
    %{tee | options: %{options | kill_timeout: Enum.max(graces)}}
  end

  defp tee_shown({:file, path, _how, _mode}), do: ["tee", path]
  defp tee_shown(%{cmd: cmd}), do: ["tee", ">(#{Quote.excerpt(cmd)})"]

  # `stdout: {:tee, path}` is one more stage. What the command itself is given is what its tee is.
  defp tee_stdout(stages, %{stdout: {:tee, file}} = whole) do
    whole = %{whole | stdout: :pipe}
    {before, [last]} = Enum.split(stages, -1)
    last = %{last | options: %{last.options | stdout: :pipe}}
    tee = file |> tee(%{last.options | input: :null, stderr: :consume}) |> as_patient(before)
    %__MODULE__{stages: before ++ [last, tee], options: whole}
  end

  defp tee_stdout(stages, whole), do: %__MODULE__{stages: stages, options: whole}
end
