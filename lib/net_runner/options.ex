defmodule NetRunner.Options do
  @moduledoc false
  # The one schema of options: defaults, validation and documentation come from it.
  #
  # An unknown option or a value of the wrong type raises ArgumentError naming the key. A value of
  # the right type that cannot be (a NUL in a path, a bad environment key) gives
  # {:error, {:invalid, option, message}}.

  @calls [:run, :stream, :process]
  @u32_max 0xFFFF_FFFF

  # {name, calls, default, type, doc}
  @schema [
    {:input, @calls, {:per_call, %{process: :pipe}, :null},
     {:per_call, %{process: :input_or_pipe}, :input},
     "What the command reads on stdin: a binary, iodata, any enumerable of iodata, `:null` (/dev/null), " <>
       "or `:pipe` (only `NetRunner.Process`: you write). An enumerable is pulled by a process of its own " <>
       "(`$callers` names yours), which is ended with the command. Default: `:null`, for " <>
       "`NetRunner.Process` `:pipe`."},
    {:stderr, @calls, :consume,
     {:per_call, %{process: {:one_of, [:consume, :capture, :merge, :discard, :pipe]}},
      {:one_of, [:consume, :capture, :merge, :discard]}},
     "`:consume` (read away, the last bytes kept for messages), `:capture` (all of it, in the result of " <>
       "`run/2`), `:merge` (into stdout, order kept), `:discard` (/dev/null), `:pipe` (only " <>
       "`NetRunner.Process`: read it with `read_stderr/3`). Default: `:consume`."},
    {:stderr_tail_bytes, @calls, 8192, {:integer, 0, 1_048_576},
     "How many last bytes of a consumed stderr are kept. Default: 8192."},
    {:timeout, [:run], :infinity, :timeout,
     "Milliseconds after which the command is stopped and `{:error, :timeout}` returned. Default: none."},
    {:max_output_size, [:run], :infinity, :limit,
     "Bytes of stdout (and of captured stderr) after which the command is stopped and " <>
       "`{:error, {:max_output_exceeded, partial}}` returned, cut to exactly the limit. Default: none."},
    {:max_chunk_size, [:stream], 262_144, {:integer, 1, 268_435_456},
     "Upper bound of a stream's element in bytes. Default: 262144, which is also the most that one " <>
       "read gives."},
    {:exit, [:stream], :raise, {:one_of, [:raise, :element, :ignore]},
     "What a stream does at the command's end: `:raise` a `NetRunner.ExitError` after the last element " <>
       "unless the exit code is in `ok:`, give a last element `{:exit, exit}`, or `:ignore` it. Halting " <>
       "early never raises. Default: `:raise`."},
    {:ok, [:stream], [0], :exit_codes, "Exit codes that are no failure. Default: `[0]`."},
    {:drain_timeout, @calls, 1000, {:integer, 0, @u32_max},
     "Milliseconds that background processes may live on after the command itself ended. Default: 1000."},
    {:orphans, @calls, :kill, {:one_of, [:kill, :keep]},
     "What happens to background processes after `drain_timeout`: `:kill`, or `:keep`: they are not waited " <>
       "for and live on, their output read away once nobody reads it, until they end or the BEAM does; " <>
       "where the command is stopped they end with it all the same. Default: `:kill`."},
    {:stop_signal, @calls, NetRunner.Signal.resolve(:sigterm), :signal,
     "The first signal of every stop: time-out, `stop/1`, owner death, BEAM death. Default: `:sigterm`."},
    {:kill_timeout, @calls, 5000, {:integer, 0, @u32_max},
     "Milliseconds between `stop_signal` and SIGKILL. Default: 5000."},
    {:cd, @calls, nil, :path,
     "The command's working directory. Default: the BEAM's at that moment."},
    {:env, @calls, [], :env,
     "A map or list of `{name, value}` added to the BEAM's environment of that moment; a nil value " <>
       "unsets; `{:replace, env}` is the whole environment."},
    {:owner, [:process], {:caller}, :pid,
     "The process whose death stops the command. Default: the caller."},
    {:backend, @calls, :auto, {:one_of, [:auto, :poll, :io_uring]},
     "How pipes are waited for. `:io_uring` is a demand: `{:error, {:backend, why}}` where it is refused. " <>
       "Default: `:auto`."},
    {:spawn_timeout, @calls, 5000, {:integer, 1, @u32_max},
     "Milliseconds that a start may take. Default: 5000."},
    {:iterations, [:top], :infinity, :count,
     "How many tables are written. Default: `:infinity`, until Enter is pressed."},
    {:interval, [:top], 1000, {:integer, 100, @u32_max},
     "Milliseconds between two tables. Default: 1000."},
    {:sort, [:top], :output, {:one_of, [:output, :input, :cpu, :memory, :uptime]},
     "Which commands come first: those that write or read most, that use most CPU or memory, that " <>
       "run longest. Default: `:output`."}
  ]

  @aliases %{cwd: :cd}

  @type t :: map

  @doc "The schema as markdown, for the options of one call."
  @spec docs(:run | :stream | :process | :top) :: String.t()
  def docs(call) do
    Enum.map_join(@schema, "\n", fn {name, calls, _default, _type, doc} ->
      if call in calls, do: "  * `:#{name}` - #{doc}", else: ""
    end)
    |> String.replace(~r/\n+/, "\n")
  end

  @doc "Whether any call that takes a command has this option."
  @spec known?(atom) :: boolean
  def known?(name) do
    name = Map.get(@aliases, name, name)
    Enum.any?(@schema, fn {known, calls, _, _, _} -> known == name and calls != [:top] end)
  end

  @doc "`{:ok, options}` with every option of the call present; see the module's first lines."
  @spec validate(keyword, :run | :stream | :process | :top) ::
          {:ok, t} | {:error, {:invalid, atom, String.t()}}
  def validate(given, call) do
    # What else it is, is not shown: there may be an environment in it.
    unless Keyword.keyword?(given), do: raise(ArgumentError, "options must be a keyword list")

    Enum.reduce_while(given, {:ok, defaults(call)}, fn {given_name, value}, {:ok, options} ->
      name = Map.get(@aliases, given_name, given_name)

      case check(type!(name, given_name, call), value) do
        :ok -> {:cont, {:ok, Map.put(options, name, value)}}
        {:ok, value} -> {:cont, {:ok, Map.put(options, name, value)}}
        {:invalid, message} -> {:halt, {:error, {:invalid, given_name, message}}}
        {:wrong, expected} -> wrong!(given_name, expected, value)
      end
    end)
    |> cross_check(call)
  end

  defp cross_check({:ok, %{stderr: :capture}}, :stream) do
    {:error,
     {:invalid, :stderr,
      "a stream cannot give a captured stderr: use :consume, :merge or :discard"}}
  end

  defp cross_check(result, _call), do: result

  defp defaults(call) do
    for {name, calls, default, _type, _doc} <- @schema, call in calls, into: %{} do
      case for_call(default, call) do
        {:caller} -> {name, self()}
        value -> {name, value}
      end
    end
  end

  # What the schema says of an option may differ between calls.
  defp for_call({:per_call, special, general}, call), do: Map.get(special, call, general)
  defp for_call(same_for_all, _call), do: same_for_all

  for {name, calls, _default, type, _doc} <- @schema, call <- calls do
    defp type!(unquote(name), _given, unquote(call)),
      do: for_call(unquote(Macro.escape(type)), unquote(call))
  end

  defp type!(_name, given, call) do
    raise ArgumentError, "unknown option #{inspect(given)} for #{call_name(call)}"
  end

  defp call_name(:run), do: "NetRunner.run/2"
  defp call_name(:stream), do: "NetRunner.stream/2"
  defp call_name(:process), do: "NetRunner.Process.start/3"
  defp call_name(:top), do: "NetRunner.top/1"

  @spec wrong!(atom, String.t(), term) :: no_return
  defp wrong!(name, expected, value) do
    raise ArgumentError,
          "invalid value for #{inspect(name)}: expected #{expected}, got: #{shown(name, value)}"
  end

  # Secrets travel in environments: names may be shown, values never.
  defp shown(:env, {:replace, env}), do: "{:replace, #{shown(:env, env)}}"

  defp shown(:env, env) when is_map(env) and not is_struct(env), do: shown(:env, Map.to_list(env))

  defp shown(:env, env) when is_list(env) do
    if List.improper?(env),
      do: "an improper list",
      else:
        Enum.map_join(env, ", ", fn
          {name, _value} -> "#{inspect(name, printable_limit: 100)} => ..."
          _no_pair -> "something that is no pair"
        end)
  end

  defp shown(:env, _value), do: "something else"
  defp shown(_name, value), do: inspect(value, limit: 10, printable_limit: 100)

  defp check({:one_of, values}, value) do
    if value in values,
      do: :ok,
      else: {:wrong, "one of #{Enum.map_join(values, ", ", &inspect/1)}"}
  end

  defp check({:integer, min, max}, value) do
    if is_integer(value) and value in min..max,
      do: :ok,
      else: {:wrong, "an integer in #{min}..#{max}"}
  end

  defp check(:timeout, value) do
    if value == :infinity or (is_integer(value) and value in 0..@u32_max),
      do: :ok,
      else: {:wrong, "milliseconds or :infinity"}
  end

  defp check(:count, value) do
    if value == :infinity or (is_integer(value) and value > 0),
      do: :ok,
      else: {:wrong, "a number above 0 or :infinity"}
  end

  defp check(:limit, value) do
    if value == :infinity or (is_integer(value) and value >= 0),
      do: :ok,
      else: {:wrong, "bytes or :infinity"}
  end

  defp check(:signal, value) do
    case NetRunner.Signal.fetch(value) do
      {:ok, number} -> {:ok, number}
      :error -> {:wrong, "a signal name like :sigterm, or 1..64"}
    end
  end

  defp check(:pid, value),
    do: if(is_pid(value) and node(value) == node(), do: :ok, else: {:wrong, "a local pid"})

  defp check(:exit_codes, value) do
    if is_list(value) and not List.improper?(value) and
         Enum.all?(value, &(is_integer(&1) and &1 in 0..255)),
       do: :ok,
       else: {:wrong, "a list of exit codes in 0..255"}
  end

  defp check(:path, nil), do: :ok

  defp check(:path, value) when is_binary(value) do
    cond do
      value == "" -> {:invalid, "must not be empty"}
      String.contains?(value, <<0>>) -> {:invalid, "contains a NUL byte"}
      true -> :ok
    end
  end

  defp check(:path, _value), do: {:wrong, "a path as a binary"}

  defp check(:input_or_pipe, :pipe), do: :ok

  defp check(:input_or_pipe, value) do
    with {:wrong, expected} <- check(:input, value), do: {:wrong, expected <> " or :pipe"}
  end

  defp check(:input, :null), do: :ok
  defp check(:input, value) when is_binary(value) or is_list(value), do: :ok

  defp check(:input, value) do
    # Of functions only those of arity 2 are enumerable.
    if Enumerable.impl_for(value) != nil and (not is_function(value) or is_function(value, 2)),
      do: :ok,
      else: {:wrong, "a binary, iodata, an enumerable of iodata, :null"}
  end

  defp check(:env, {:replace, env}) do
    with {:ok, pairs} <- check_env(env), do: {:ok, {:replace, pairs}}
  end

  defp check(:env, env), do: check_env(env)

  defp check_env(env) when is_map(env) and not is_struct(env), do: check_env(Map.to_list(env))

  defp check_env(env) when is_list(env) do
    if List.improper?(env), do: wrong_env(), else: check_pairs(env)
  end

  defp check_env(_other), do: wrong_env()

  defp wrong_env, do: {:wrong, "a map or list of {name, value}, or {:replace, env}"}

  defp check_pairs(env) do
    env
    |> Enum.reduce_while({:ok, []}, fn pair, {:ok, pairs} ->
      case env_pair(pair) do
        {:ok, pair} -> {:cont, {:ok, [pair | pairs]}}
        other -> {:halt, other}
      end
    end)
    |> case do
      {:ok, pairs} -> {:ok, Enum.reverse(pairs)}
      other -> other
    end
  end

  # Atom names as in `env: [LANG: "C"]`, which System.cmd/3 does not take but keyword lists invite.
  defp env_pair({name, value}) when is_atom(name) and name not in [nil, true, false],
    do: env_pair({Atom.to_string(name), value})

  defp env_pair({name, value}) when is_binary(name) and (is_binary(value) or is_nil(value)) do
    cond do
      name == "" -> {:invalid, "an empty name"}
      String.contains?(name, ["=", <<0>>]) -> {:invalid, "bad name #{inspect(name)}"}
      value != nil and String.contains?(value, <<0>>) -> {:invalid, "NUL in the value of #{name}"}
      true -> {:ok, {name, value}}
    end
  end

  defp env_pair(_other), do: {:wrong, "pairs of a binary name and a binary or nil value"}
end
