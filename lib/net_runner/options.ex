defmodule NetRunner.Options do
  @moduledoc false
  # The one schema of options: defaults, validation and documentation come from it.
  #
  # An unknown option or a value of the wrong type raises ArgumentError naming the key. A value of
  # the right type that cannot be (a NUL in a path, a bad environment key) gives
  # {:error, {:invalid, option, message}}.

  @to_the_end [:run, :run!, :exec, :exec!]
  @read_for_you @to_the_end ++ [:stream]
  @calls @read_for_you ++ [:process, :daemon]
  @u32_max 0xFFFF_FFFF
  @log_levels [:emergency, :alert, :critical, :error, :warning, :notice, :info, :debug]

  @type call :: :run | :run! | :exec | :exec! | :stream | :process | :daemon

  # {name, calls, default, type, doc}
  @schema [
    {:cmd, [:daemon], nil, :cmd,
     "The command: the executable and its arguments, or a `NetRunner.Command`. It must stay in the " <>
       "foreground. Required."},
    {:name, [:daemon], nil, :name,
     "The name that the daemon is registered under: an atom, `{:global, term}` or " <>
       "`{:via, module, term}`. Default: none."},
    {:on_output, [:daemon], :discard, :on_output,
     "What becomes of each line: `:discard`, `:log` (into `Logger`, see `log:`), a function of the line, or " <>
       "a function of `:stdout` or `:stderr` and the line. Default: `:discard`."},
    {:log, [:daemon], [], :log,
     "For `on_output: :log`, a keyword list of `level:` (`:info`), `stderr_level:` (that of `level:`), " <>
       "`prefix:` (the command's name and a colon) and `metadata:` (a keyword list, added to the daemon's)."},
    {:overflow, [:daemon], :block, {:one_of, [:block, :drop]},
     "What happens while `on_output:` is slower than the command: `:block` (the command waits) or `:drop` (it " <>
       "never does; lines that find the queue full are dropped and counted). Default: `:block`."},
    {:max_queue, [:daemon], 1024, {:integer, 1, 1_000_000},
     "How many lines may wait for `on_output:` with `overflow: :drop` (with `:block` only until a line has said " <>
       "that the command is ready). There may also be no more than 4 MiB of them, unless it is a single " <>
       "one. Default: 1024."},
    {:lines, [:daemon], "\n", :line_separator,
     "What stands between two lines: a binary that is not empty, or `true` for `\"\\n\"`. Default: `\"\\n\"`."},
    {:max_line_length, [:daemon], {65_536, :split}, :line_limit,
     "`{bytes, policy}` or `:infinity`. What a longer line becomes: `:split` (lines of that many bytes), " <>
       "`:truncate` (its first bytes) or `:error` (the daemon stops with `{:line_too_long, stream, bytes}`). " <>
       "Default: `{65_536, :split}`."},
    {:ready, [:daemon], nil, :ready,
     "What must be so before `start_link/1` returns: `{:output, text_or_regex}` (a line has it), `{:tcp, " <>
       "port}` or `{:tcp, ip, port}` (somebody accepts there; an address as a tuple or as text, by default " <>
       "127.0.0.1), or a function without arguments that is asked again and again until it returns true. " <>
       "Default: nothing, the command runs."},
    {:ready_timeout, [:daemon], 5000, {:integer, 0, @u32_max},
     "Milliseconds from the start of the command until it must be ready. Default: 5000."},
    {:wait_for, [:daemon], nil, {:function, 0},
     "A function without arguments that is called before the command is started, which waits for its return."},
    {:wait_timeout, [:daemon], 30_000, {:integer, 0, @u32_max},
     "Milliseconds that `wait_for:` may take. Default: 30000."},
    {:exit_reason, [:daemon], nil, {:function, 1},
     "A function of the command's exit (`{:exited, code}` or `{:signaled, signal}`): the reason with which the " <>
       "daemon ends then. Default: `:normal` for `{:exited, 0}`, else `{:exit, exit}`."},
    {:flush_timeout, [:daemon], 1000, {:integer, 0, @u32_max},
     "Milliseconds after the command's end in which `on_output:` may deal with the lines that are left. " <>
       "Default: 1000."},
    {:restart, [:daemon], :permanent, {:one_of, [:permanent, :transient, :temporary]},
     "When a supervisor starts it again, for `child_spec/1`. Default: `:permanent`."},
    {:input, @calls, {:per_call, %{process: :pipe}, :null},
     {:per_call, %{process: :input_or_pipe, daemon: :input_or_pipe}, :input},
     "What the command reads on stdin: a binary, iodata, any enumerable of iodata, a function of a sink " <>
       "(a `Collectable` that writes: `fn sink -> Enum.into(pieces, sink) end`), `{:file, path}` (the command " <>
       "reads the file itself; a relative path starts at the BEAM's directory, not at `cd:`), `:null` (/dev/null), or `:pipe` (only `NetRunner.Process` and `NetRunner.Daemon`: you write). " <>
       "Enumerables and functions run in a process of their own (`$callers` names yours), which is ended with " <>
       "the command. Default: `:null`, for `NetRunner.Process` `:pipe`."},
    {:input_buffer, @calls -- [:process], 0, {:integer, 0, 16_777_216},
     "Elements of a lazy `input:` are put together to writes of up to this many bytes; an element waits " <>
       "until there are enough, or the end. Default: 0, each as it comes."},
    {:stdout, @calls, :pipe, {:stdio, [:pipe, :discard]},
     "`:pipe` (read by you), `:discard` (/dev/null), `{:file, path}` or `{:file, path, [:append, mode: " <>
       "0o644]}`: the command writes into the file itself, nothing of it passes through the BEAM. A relative path " <>
       "starts at the BEAM's directory, not at `cd:`. The file is " <>
       "truncated unless `:append` is given, and made with `mode` (default 0o666) less the umask. As in a " <>
       "shell, a FIFO is waited for: the start takes until its other end is opened, `spawn_timeout` at most. " <>
       "Default: `:pipe`."},
    {:stderr, @calls, {:per_call, %{daemon: :pipe}, :consume},
     {:per_call,
      %{
        process: {:stdio, [:consume, :capture, :merge, :discard, :inherit, :pipe]},
        daemon: {:stdio, [:consume, :capture, :merge, :discard, :inherit, :pipe]},
        stream: {:stdio, [:consume, :merge, :tagged, :discard, :inherit, :capture]}
      }, {:stdio, [:consume, :capture, :merge, :discard, :inherit]}},
     "`:consume` (read away, the last bytes kept for messages), `:capture` (all of it, in the result), " <>
       "`:merge` (into stdout, wherever that goes, order kept), `:tagged` (only streams: elements are " <>
       "`{:stdout, bytes}` and `{:stderr, bytes}`), `:discard` (/dev/null), `:inherit` (the BEAM's own), " <>
       "`{:file, path}` or `{:file, path, opts}` as for `stdout:`, `:pipe` (only `NetRunner.Process`: read it " <>
       "with `read_stderr/3`; and `NetRunner.Daemon`: its lines go to `on_output:`). Default: `:consume`, for " <>
       "`NetRunner.Daemon` `:pipe`."},
    {:stderr_tail_bytes, @calls, 8192, {:integer, 0, 1_048_576},
     "How many last bytes of a consumed stderr are kept. Default: 8192."},
    {:lines, @read_for_you, nil, :separator,
     "`true`, or a separator (any binary): elements are lines without it, the last, partial one included. A " <>
       "captured stderr stays one binary. " <>
       "Default: false, bytes as they come."},
    {:max_line_length, @read_for_you, :infinity, :line_limit,
     "`{bytes, policy}` for lines that are longer: `:error`, `:split` (into pieces of that many bytes) or " <>
       "`:truncate` (the rest is thrown away). Default: none."},
    {:into, @to_the_end, nil, :collectable,
     "What stdout is collected into: any `Collectable`, or `:iodata` (the chunks in a list, not put together). " <>
       "Default: `\"\"`, with `lines:` `[]`."},
    {:timeout, @to_the_end, :infinity, :timeout,
     "Milliseconds after which the command is stopped: `{:error, :timeout}` from `run/2`, the cause " <>
       "`:timeout` from `exec/2`. Default: none."},
    {:idle_timeout, @read_for_you, :infinity, :timeout,
     "Milliseconds without any output after which the command is stopped, as by `timeout:` (the cause is " <>
       "`:idle_timeout`; a stream raises a `NetRunner.Error` with `:timeout`). Output on a consumed stderr is " <>
       "output too, but looked at only when the time is over: a silence may last twice as long. Time in which " <>
       "you do not ask for output does not count. Only with `stdout: :pipe`. Default: none."},
    {:max_output_size, @to_the_end, :infinity, :limit,
     "Bytes of stdout, and of captured stderr, after which `overflow:` says what happens. Default: none."},
    {:overflow, @to_the_end, :kill, {:one_of, [:kill, :head, :tail]},
     "Beyond `max_output_size:`, `:kill` stops the command: `{:error, {:max_output_exceeded, partial}}`, cut to " <>
       "exactly the limit, from `run/2`, the cause `:output_limit` from `exec/2`. `:head` and `:tail` keep " <>
       "that many bytes of the beginning or of the end and let the command finish. Default: `:kill`."},
    {:max_chunk_size, [:stream], 262_144, {:integer, 1, 268_435_456},
     "Upper bound of a stream's element in bytes, but not of a line: with `lines:` that is " <>
       "`max_line_length:`. Default: 262144, which is also the most that one read gives."},
    {:exit, [:stream], :raise, {:one_of, [:raise, :element, :ignore]},
     "What a stream does at the command's end: `:raise` a `NetRunner.ExitError` after the last element " <>
       "unless the exit code is in `ok:`, give a last element `{:exit, exit}`, or `:ignore` it. Halting " <>
       "early never raises. Default: `:raise`."},
    {:ok, [:run!, :exec!, :stream], [0], :exit_codes,
     "Exit codes that are no failure. Default: `[0]`."},
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
     "The command's working directory. A relative executable, and relative paths in `input:`, `stdout:` and " <>
       "`stderr:`, start at the BEAM's all the same. Default: the BEAM's at that moment."},
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
  @spec docs(call) :: String.t()
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

  @doc """
  Whether an option means nothing to a call, but something to its like: `ok:` to those that give an exit
  code and do not raise for it.
  """
  @spec idle?(atom, call) :: boolean
  def idle?(name, call) when call in @to_the_end do
    calls = for {^name, calls, _, _, _} <- @schema, call <- calls, do: call
    call not in calls and Enum.any?(@to_the_end, &(&1 in calls))
  end

  def idle?(_name, _call), do: false

  @doc "`{:ok, options}` with every option of the call present; see the module's first lines."
  @spec validate(keyword, call) ::
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

  @doc "Those of one call's validated options that another call has, too."
  @spec take(t, :run | :stream | :process | :daemon) :: t
  def take(options, call), do: Map.take(options, Map.keys(defaults(call)))

  defp cross_check({:ok, %{stderr: :capture}}, :stream) do
    {:error,
     {:invalid, :stderr,
      "a stream cannot give a captured stderr: use :tagged, :consume, :merge or :discard"}}
  end

  defp cross_check({:ok, %{idle_timeout: ms, stdout: elsewhere}}, _call)
       when ms != :infinity and elsewhere != :pipe do
    {:error,
     {:invalid, :idle_timeout, "nobody sees whether a stdout that goes elsewhere is idle"}}
  end

  defp cross_check({:ok, %{lines: nil, max_line_length: {_, _}}}, _call),
    do: {:error, {:invalid, :max_line_length, "there are no lines without lines:"}}

  defp cross_check({:ok, %{on_output: on_output, log: [_ | _]}}, :daemon)
       when on_output != :log,
       do: {:error, {:invalid, :log, "is for on_output: :log only"}}

  defp cross_check({:ok, %{ready: {:output, _text}, stdout: stdout, stderr: stderr}}, :daemon)
       when stdout != :pipe and stderr not in [:pipe, :capture],
       do: {:error, {:invalid, :ready, "{:output, _} needs an output: stdout: or stderr: :pipe"}}

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

  defp call_name(call) when call in @to_the_end, do: "NetRunner.#{call}/2"
  defp call_name(:stream), do: "NetRunner.stream/2"
  defp call_name(:process), do: "NetRunner.Process.start/3"
  defp call_name(:daemon), do: "NetRunner.Daemon.start_link/1"
  defp call_name(:top), do: "NetRunner.top/1"

  @spec wrong!(atom, String.t(), term) :: no_return
  defp wrong!(name, expected, value) do
    raise ArgumentError,
          "invalid value for #{inspect(name)}: expected #{expected}, got: #{shown(name, value)}"
  end

  @doc "What may be shown of a variable's name: nothing after a `=`, which would be a value."
  @spec shown_name(term) :: term
  def shown_name(name) when is_binary(name), do: name |> String.split(["=", <<0>>]) |> hd()

  def shown_name(name) when is_atom(name) do
    text = Atom.to_string(name)
    if shown_name(text) == text, do: name, else: shown_name(text)
  end

  def shown_name(name), do: name

  # Secrets travel in environments: names may be shown, values never.
  defp shown(:env, {:replace, env}), do: "{:replace, #{shown(:env, env)}}"

  defp shown(:env, env) when is_map(env) and not is_struct(env), do: shown(:env, Map.to_list(env))

  defp shown(:env, env) when is_list(env) do
    if List.improper?(env),
      do: "an improper list",
      else:
        Enum.map_join(env, ", ", fn
          {name, _value} -> "#{inspect(shown_name(name), printable_limit: 100)} => ..."
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

  defp check({:stdio, values}, value) do
    cond do
      value in values ->
        :ok

      is_tuple(value) and elem_0(value) == :file ->
        check_file(value)

      true ->
        {:wrong,
         "one of #{Enum.map_join(values, ", ", &inspect/1)}, {:file, path} or {:file, path, opts}"}
    end
  end

  defp check(:separator, true), do: {:ok, "\n"}
  defp check(:separator, none) when none in [false, nil], do: {:ok, nil}
  defp check(:separator, ""), do: {:invalid, "the separator is empty"}
  defp check(:separator, separator) when is_binary(separator), do: :ok
  defp check(:separator, _value), do: {:wrong, "true, false or a separator as a binary"}

  defp check(:line_limit, :infinity), do: :ok

  defp check(:line_limit, {bytes, policy})
       when is_integer(bytes) and bytes > 0 and policy in [:error, :split, :truncate],
       do: :ok

  defp check(:line_limit, _value),
    do: {:wrong, "{bytes, :error | :split | :truncate} or :infinity"}

  defp check(:collectable, value) when value in [nil, :iodata], do: :ok

  defp check(:collectable, value) do
    if Collectable.impl_for(value) != nil and (is_binary(value) or not is_bitstring(value)),
      do: :ok,
      else: {:wrong, "a Collectable or :iodata"}
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
  defp check(:path, value), do: check_path(value, "a path as a binary")

  defp check(:input_or_pipe, :pipe), do: :ok

  defp check(:input_or_pipe, value) do
    with {:wrong, expected} <- check(:input, value), do: {:wrong, expected <> " or :pipe"}
  end

  defp check(:input, {:file, path}) do
    with :ok <- check_path(path, "{:file, path} with the path as a binary"),
         do: {:ok, {:file, path}}
  end

  defp check(:input, :null), do: :ok
  defp check(:input, value) when is_binary(value) or is_list(value), do: :ok

  defp check(:input, value) do
    # A function of arity 1 is given a sink; of the others only those of arity 2 are enumerable.
    if Enumerable.impl_for(value) != nil and
         (not is_function(value) or is_function(value, 1) or is_function(value, 2)),
       do: :ok,
       else:
         {:wrong,
          "a binary, iodata, an enumerable of iodata, a function of a sink, {:file, path}, :null"}
  end

  # What a command must look like, NetRunner.Executable says.
  defp check(:cmd, _value), do: :ok

  defp check(:name, nil), do: :ok
  defp check(:name, value) when is_atom(value) and not is_boolean(value), do: :ok
  defp check(:name, {:global, _name}), do: :ok
  defp check(:name, {:via, module, _name}) when is_atom(module), do: :ok

  defp check(:name, _value),
    do: {:wrong, "an atom, {:global, term} or {:via, module, term}"}

  defp check(:on_output, value) when value in [:discard, :log], do: :ok
  defp check(:on_output, value) when is_function(value, 1) or is_function(value, 2), do: :ok

  defp check(:on_output, _value),
    do: {:wrong, ":discard, :log, or a function of one or two arguments"}

  defp check(:log, value) do
    if Keyword.keyword?(value) and Enum.all?(value, &log_option?/1),
      do: :ok,
      else:
        {:wrong,
         "a keyword list of level:, stderr_level:, prefix: (text) and metadata: (a keyword list)"}
  end

  defp check(:line_separator, true), do: {:ok, "\n"}
  defp check(:line_separator, ""), do: {:invalid, "the separator is empty"}
  defp check(:line_separator, value) when is_binary(value), do: :ok

  defp check(:line_separator, _value),
    do: {:wrong, "true or a separator as a binary (a daemon's output always comes in lines)"}

  defp check(:ready, nil), do: :ok
  defp check(:ready, fun) when is_function(fun, 0), do: :ok
  defp check(:ready, {:output, %Regex{}}), do: :ok
  defp check(:ready, {:output, ""}), do: {:invalid, "an empty text is in every line"}
  defp check(:ready, {:output, text}) when is_binary(text), do: :ok
  defp check(:ready, {:tcp, port}), do: check(:ready, {:tcp, {127, 0, 0, 1}, port})

  defp check(:ready, {:tcp, ip, port}) when is_integer(port) and port in 1..65_535 do
    case ip(ip) do
      {:ok, ip} -> {:ok, {:tcp, ip, port}}
      :error when is_binary(ip) -> {:invalid, "no IP address: " <> inspect(ip)}
      :error -> wrong_ready()
    end
  end

  defp check(:ready, _value), do: wrong_ready()

  defp check({:function, _arity}, nil), do: :ok
  defp check({:function, arity}, value) when is_function(value, arity), do: :ok
  defp check({:function, arity}, _value), do: {:wrong, "a function of #{arity} arguments"}

  defp check(:env, {:replace, env}) do
    with {:ok, pairs} <- check_env(env), do: {:ok, {:replace, pairs}}
  end

  defp check(:env, env), do: check_env(env)

  defp check_path(path, expected) do
    cond do
      not is_binary(path) -> {:wrong, expected}
      path == "" -> {:invalid, "the path is empty"}
      String.contains?(path, <<0>>) -> {:invalid, "the path contains a NUL byte"}
      true -> :ok
    end
  end

  # What is written in the end: {:file, path, :truncate | :append, mode}.
  defp check_file({:file, path}), do: check_file({:file, path, []})

  defp check_file({:file, path, opts}) when is_list(opts) do
    with :ok <- check_path(path, "{:file, path} with the path as a binary"),
         {:ok, how, mode} <- file_opts(opts, :truncate, 0o666),
         do: {:ok, {:file, path, how, mode}}
  end

  defp check_file(_other), do: wrong_file()

  defp file_opts([], how, mode), do: {:ok, how, mode}
  defp file_opts([:append | rest], _how, mode), do: file_opts(rest, :append, mode)

  defp file_opts([{:mode, mode} | rest], how, _mode) when is_integer(mode) and mode in 0..0o7777,
    do: file_opts(rest, how, mode)

  defp file_opts(_other, _how, _mode), do: wrong_file()

  defp wrong_file,
    do: {:wrong, "{:file, path} or {:file, path, opts} with :append and mode: 0..0o7777"}

  defp elem_0({}), do: nil
  defp elem_0(tuple), do: elem(tuple, 0)

  defp log_option?({level, value}) when level in [:level, :stderr_level], do: value in @log_levels
  defp log_option?({:prefix, value}), do: is_binary(value) and String.valid?(value)
  defp log_option?({:metadata, value}), do: Keyword.keyword?(value)
  defp log_option?(_other), do: false

  defp wrong_ready do
    {:wrong,
     "{:output, text or regex}, {:tcp, port}, {:tcp, ip, port} or a function without arguments"}
  end

  defp ip(text) when is_binary(text) do
    # Erlang's parser takes a NUL for the end and raises at what is no text.
    case String.printable?(text) and :inet.parse_strict_address(String.to_charlist(text)) do
      {:ok, ip} -> {:ok, ip}
      _no_address -> :error
    end
  end

  defp ip(ip), do: if(:inet.is_ip_address(ip), do: {:ok, ip}, else: :error)

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
      String.contains?(name, ["=", <<0>>]) -> {:invalid, bad_name(name)}
      value != nil and String.contains?(value, <<0>>) -> {:invalid, "NUL in the value of #{name}"}
      true -> {:ok, {name, value}}
    end
  end

  defp env_pair(_other), do: {:wrong, "pairs of a binary name and a binary or nil value"}

  # Whoever wrote "TOKEN=secret" there had a value in mind.
  defp bad_name(name), do: "bad name, = or NUL after #{inspect(shown_name(name))}"
end
