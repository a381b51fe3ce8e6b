defmodule NetRunner.Replay do
  @moduledoc false
  # Where a command is exchanged for the program that replays it: asked by NetRunner.Process and NetRunner.Plan
  # before each start, in the process that starts. Off, which it is unless somebody has called NetRunner.Test.start/1,
  # that is one read of a persistent term. On, it must never let a command of a process that is covered through to
  # the real program unless it was told so: whatever goes wrong here is an error.
  #
  # All is in one table, whose owner is NetRunner.Replay.Server:
  #
  #     {:others, :run | :refuse}                  what becomes of processes that nobody covers
  #     {:global, [scope]}                         which of them are everybody's
  #     {{:covered, pid}, [scope]}                 the latest first
  #     {{:scope, scope}, [{index, recording}], options}
  #     {{:left, scope, index}, times}             how often it may still be played; not of one for any times
  #     {{:call, scope, number}, cmd, played}      what was called, and what became of it

  alias NetRunner.{Quote, Options}
  alias NetRunner.Replay.Recording

  @on __MODULE__

  @typedoc "What was played for a command; that nothing matched it; or why what did could not be played."
  @type played :: {:ok, shown :: String.t()} | :nothing | {:error, String.t()}

  @typedoc "Names what was redirected together."
  @type scope :: reference

  @doc """
  What is executed for a command, and its options: the same where nothing is redirected. A play counts: one of the times
  that there are.
  """
  @spec program([binary, ...], Options.t()) ::
          {:ok, [binary, ...], Options.t()} | {:error, {:not_recorded, String.t()}}
  # What NetRunner itself starts between commands; and what is recorded.
  def program(cmd, %{pipeline: {_group, _place, :tee}} = options), do: {:ok, cmd, options}
  def program(cmd, %{replay: false} = options), do: {:ok, cmd, options}
  def program(cmd, options), do: exchange(cmd, options, &play/3)

  @doc "The same before anything is started: nothing is played for it yet."
  @spec peek([binary, ...], Options.t()) ::
          {:ok, [binary, ...], Options.t()} | {:error, {:not_recorded, String.t()}}
  def peek(cmd, options),
    do: exchange(cmd, options, fn _table, _found, _cmd -> {:ok, [Recording.exe()]} end)

  defp exchange(cmd, options, play) do
    case :persistent_term.get(@on, nil) do
      nil -> {:ok, cmd, options}
      table -> look(table, cmd, options, play)
    end
  end

  defp look(table, cmd, options, play) do
    case scopes(table) do
      [] -> uncovered(table, cmd, options)
      scopes -> redirect(table, scopes, cmd, options, play)
    end
  rescue
    # The table is gone, with its owner.
    error in ArgumentError ->
      if :ets.info(table) == :undefined,
        do:
          not_recorded(
            "the server of NetRunner.Test has ended, and nobody knows what stands in for it"
          ),
        else: reraise(error, __STACKTRACE__)
  end

  defp uncovered(table, cmd, options) do
    case :ets.lookup_element(table, :others, 2) do
      :run ->
        {:ok, cmd, options}

      :refuse ->
        not_recorded(
          "NetRunner.Test refuses the commands of processes that nothing is redirected for (others: :refuse), " <>
            "and neither #{inspect(self())} nor those who called it have anything"
        )
    end
  end

  # Of the nearest that has some: this process, those on whose behalf it works, those who started it.
  defp scopes(table) do
    relatives = Process.get(:"$callers", []) ++ Process.get(:"$ancestors", [])

    Enum.find_value([self() | relatives], fn who ->
      case :ets.lookup(table, {:covered, pid(who)}) do
        [{_key, [_ | _] = scopes}] -> scopes
        _none -> nil
      end
    end) || :ets.lookup_element(table, :global, 2)
  end

  defp pid(name) when is_atom(name), do: Process.whereis(name)
  defp pid(pid), do: pid

  defp redirect(table, scopes, cmd, options, play) do
    # One that is verified meanwhile is gone.
    scopes = for scope <- scopes, [entry] <- [:ets.lookup(table, {:scope, scope})], do: entry

    case Enum.find_value(scopes, &find(table, &1, cmd)) do
      nil -> unmatched(table, scopes, cmd, options)
      {:failed, why, found} -> played({:error, why}, found, table, scopes, cmd, options)
      found -> played(play.(table, found, cmd), found, table, scopes, cmd, options)
    end
  end

  defp played({:ok, program}, _found, _table, _scopes, cmd, options),
    do: {:ok, program, as_replay(options, cmd)}

  # Somebody else had the last of it.
  defp played(:used_up, _found, table, scopes, cmd, options),
    do: redirect(table, names(scopes), cmd, options, &play/3)

  defp played({:error, why}, {scope, _index, recording}, table, _scopes, cmd, _options) do
    why = "#{recording.shown}: #{why}"
    note(table, scope, cmd, {:error, why})
    not_recorded(why)
  end

  defp names(entries), do: for({{:scope, scope}, _recordings, _options} <- entries, do: scope)

  defp find(table, {{:scope, scope}, recordings, _options}, cmd) do
    Enum.find_value(recordings, fn {index, recording} ->
      if left(table, scope, index, recording) != 0 do
        case Recording.matches?(recording, cmd) do
          true -> {scope, index, recording}
          false -> nil
          {:error, why} -> {:failed, why, {scope, index, recording}}
        end
      end
    end)
  end

  defp left(_table, _scope, _index, %{times: :any}), do: :any

  defp left(table, scope, index, _recording) do
    case :ets.lookup(table, {:left, scope, index}) do
      [{_key, left}] -> left
      # Forgotten meanwhile.
      [] -> 0
    end
  end

  defp play(table, {scope, index, recording}, cmd) do
    if take?(table, scope, index, recording) do
      with {:ok, program} <- Recording.program(recording, cmd) do
        note(table, scope, cmd, {:ok, recording.shown})
        {:ok, program}
      end
    else
      :used_up
    end
  end

  # It may not become less than 0, whoever asks at the same time.
  defp take?(_table, _scope, _index, %{times: :any}), do: true

  defp take?(table, scope, index, _recording) do
    [before, _now] = :ets.update_counter(table, {:left, scope, index}, [{2, 0}, {2, -1, 0, 0}])
    before > 0
  rescue
    ArgumentError -> false
  end

  # What needs a privilege, or a machine that is set up for it, is the true program's.
  @not_the_replays %{
    user: nil,
    group: nil,
    groups: nil,
    cgroup: nil,
    nice: nil,
    oom_score_adj: nil,
    rlimits: %{}
  }

  defp as_replay(options, [exe | _args]),
    do: options |> Map.merge(@not_the_replays) |> Map.put(:arg0, options.arg0 || exe)

  defp unmatched(
         table,
         [{{:scope, scope}, _recordings, %{otherwise: otherwise}} | _] = scopes,
         cmd,
         options
       ) do
    if runs?(otherwise, cmd) do
      {:ok, cmd, options}
    else
      note(table, scope, cmd, :nothing)
      not_recorded("NetRunner.Test has nothing for it. #{there_is(table, scopes)}")
    end
  end

  # All of them were ended meanwhile.
  defp unmatched(table, [], cmd, options), do: uncovered(table, cmd, options)

  defp runs?(:run, _cmd), do: true
  defp runs?(:error, _cmd), do: false
  defp runs?(names, [exe | _args]), do: exe in names or Path.basename(exe) in names

  defp there_is(table, scopes) do
    all =
      for {{:scope, scope}, recordings, _options} <- scopes,
          {index, recording} <- recordings,
          do: recording.shown <> of_times(left(table, scope, index, recording), recording.times)

    if all == [], do: "There is nothing at all.", else: "There is: #{Enum.join(all, "; ")}"
  end

  defp of_times(:any, :any), do: ""
  defp of_times(left, times), do: ", played #{times - left} of #{times} times"

  defp note(table, scope, cmd, played) do
    number = :erlang.unique_integer([:monotonic])
    :ets.insert(table, {{:call, scope, number}, cmd, played})
  end

  defp not_recorded(text), do: {:error, {:not_recorded, text}}

  ## For NetRunner.Test

  @doc "The scopes of this process, the latest first."
  @spec mine :: [scope]
  def mine, do: scopes(table!())

  @doc "Its calls, in their order, each with what became of it."
  @spec calls(scope) :: [{[binary, ...], played}]
  def calls(scope) do
    table!()
    |> :ets.select([{{{:call, scope, :"$1"}, :"$2", :"$3"}, [], [{{:"$1", :"$2", :"$3"}}]}])
    |> Enum.sort()
    |> Enum.map(fn {_number, cmd, played} -> {cmd, played} end)
  end

  @doc "What may still be played, of those that were to be played a number of times."
  @spec unused(scope) :: [String.t()]
  def unused(scope) do
    table = table!()

    for {_key, recordings, _options} <- :ets.lookup(table, {:scope, scope}),
        {index, recording} <- recordings,
        left = left(table, scope, index, recording),
        left != :any and left > 0,
        do: recording.shown <> of_times(left, recording.times)
  end

  @doc "The options that a scope was made with, nil for one that is no more."
  @spec options(scope) :: Options.t() | nil
  def options(scope) do
    case :ets.lookup(table!(), {:scope, scope}) do
      [{_key, _recordings, options}] -> options
      [] -> nil
    end
  end

  @doc "As a message names a command."
  @spec shown([binary, ...]) :: String.t()
  def shown(cmd), do: Quote.excerpt(cmd)

  defp table!, do: :persistent_term.get(@on, nil) || off!()

  @doc "What to say to who wants something of it while it is off."
  @spec off! :: no_return
  def off!,
    do: raise(NetRunner.Test.Error, "call NetRunner.Test.start() first, in test_helper.exs")
end
