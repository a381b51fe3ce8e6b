defmodule NetRunner.Options.Type do
  @moduledoc false
  # What values an option of each type may have.

  @u32_max 0xFFFF_FFFF
  @terminal %{rows: 24, cols: 80, echo: true, raw: false}
  # Its largest number is RLIM_INFINITY.
  @rlimit_max 0xFFFF_FFFF_FFFF_FFFE
  @rlimits NetRunner.Protocol.rlimits()
  @log_levels [:emergency, :alert, :critical, :error, :warning, :notice, :info, :debug]

  @doc """
  `:ok`, or `{:ok, value}` in the form that it is used in; `{:wrong, expected}` for a value of another type,
  `{:invalid, message}` for one of the right type that cannot be. Messages show no value of an environment.
  """
  @spec check(term, term) :: :ok | {:ok, term} | {:wrong, String.t()} | {:invalid, String.t()}
  def check({:one_of, values}, value) do
    if value in values,
      do: :ok,
      else: {:wrong, "one of #{Enum.map_join(values, ", ", &inspect/1)}"}
  end

  def check({:integer, min, max}, value) do
    if is_integer(value) and value in min..max,
      do: :ok,
      else: {:wrong, "an integer in #{min}..#{max}"}
  end

  def check(:timeout, value) do
    if value == :infinity or (is_integer(value) and value in 0..@u32_max),
      do: :ok,
      else: {:wrong, "milliseconds or :infinity"}
  end

  def check({:double, type}, value), do: NetRunner.Options.DoubleType.check(type, value)

  def check(:count, value) do
    if value == :infinity or (is_integer(value) and value > 0),
      do: :ok,
      else: {:wrong, "a number above 0 or :infinity"}
  end

  def check(:limit, value) do
    if value == :infinity or (is_integer(value) and value >= 0),
      do: :ok,
      else: {:wrong, "bytes or :infinity"}
  end

  def check(:signal, value) do
    case NetRunner.Signal.fetch(value) do
      {:ok, number} -> {:ok, number}
      :error -> {:wrong, "a signal name like :sigterm, or 1..64"}
    end
  end

  def check({:stdio, values}, value) do
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

  def check({:stdio_or_tee, values}, {:tee, path}),
    do: check({:stdio_or_tee, values}, {:tee, path, []})

  def check({:stdio_or_tee, _values}, {:tee, path, opts}) do
    case check_file({:file, path, opts}) do
      {:ok, file} ->
        {:ok, {:tee, file}}

      {:wrong, _expected} ->
        {:wrong, "{:tee, path} or {:tee, path, opts} with :append and mode: 0..0o7777"}

      invalid ->
        invalid
    end
  end

  def check({:stdio_or_tee, values}, value) do
    with {:wrong, expected} <- check({:stdio, values}, value),
         do: {:wrong, expected <> ", or the same with :tee in the place of :file"}
  end

  def check(:separator, true), do: {:ok, "\n"}
  def check(:separator, none) when none in [false, nil], do: {:ok, nil}
  def check(:separator, ""), do: {:invalid, "the separator is empty"}
  def check(:separator, separator) when is_binary(separator), do: :ok
  def check(:separator, _value), do: {:wrong, "true, false or a separator as a binary"}

  def check(:packet, header) when header in [1, 2, 4], do: :ok
  def check(:packet, none) when none in [false, nil], do: {:ok, nil}
  def check(:packet, _value), do: {:wrong, "1, 2 or 4 (the bytes of a header), or nil"}

  def check(:line_limit, :infinity), do: :ok

  def check(:line_limit, {bytes, policy})
      when is_integer(bytes) and bytes > 0 and policy in [:error, :split, :truncate],
      do: :ok

  def check(:line_limit, _value),
    do: {:wrong, "{bytes, :error | :split | :truncate} or :infinity"}

  def check(:collectable, value) when value in [nil, :iodata], do: :ok

  def check(:collectable, value) do
    if Collectable.impl_for(value) != nil and (is_binary(value) or not is_bitstring(value)),
      do: :ok,
      else: {:wrong, "a Collectable or :iodata"}
  end

  def check(:pid, value),
    do: if(is_pid(value) and node(value) == node(), do: :ok, else: {:wrong, "a local pid"})

  def check(:exit_codes, value) do
    if is_list(value) and not List.improper?(value) and
         Enum.all?(value, &(is_integer(&1) and &1 in 0..255)),
       do: :ok,
       else: {:wrong, "a list of exit codes in 0..255"}
  end

  def check(:path, nil), do: :ok
  def check(:path, value), do: check_path(value, "a path as a binary")

  def check(:input_or_pipe, :pipe), do: :ok

  def check(:input_or_pipe, value) do
    with {:wrong, expected} <- check(:input, value), do: {:wrong, expected <> " or :pipe"}
  end

  def check(:input, {:file, path}) do
    with :ok <- check_path(path, "{:file, path} with the path as a binary"),
         do: {:ok, {:file, path}}
  end

  def check(:input, :null), do: :ok
  def check(:input, value) when is_binary(value) or is_list(value), do: :ok

  def check(:input, value) do
    # A function of arity 1 is given a sink; of the others only those of arity 2 are enumerable.
    if Enumerable.impl_for(value) != nil and
         (not is_function(value) or is_function(value, 1) or is_function(value, 2)),
       do: :ok,
       else:
         {:wrong,
          "a binary, iodata, an enumerable of iodata, a function of a sink, {:file, path}, :null"}
  end

  def check(:umask, value) do
    if is_integer(value) and value in 0..0o777,
      do: :ok,
      else: {:wrong, "permission bits in 0..0o777"}
  end

  # nil is no way to say "nobody": a name that was not found somewhere must not become the BEAM's own user.
  def check(type, value) when type in [:user, :group] do
    if is_binary(value) or is_integer(value), do: :ok, else: {:wrong, "a name or a number"}
  end

  def check(:groups, value) do
    if is_list(value) and not List.improper?(value) and
         Enum.all?(value, &(is_binary(&1) or is_integer(&1))),
       do: :ok,
       else: {:wrong, "a list of names and numbers"}
  end

  def check(:rlimits, limits) when is_map(limits) and not is_struct(limits),
    do: check(:rlimits, Map.to_list(limits))

  def check(:rlimits, limits) do
    if is_list(limits) and not List.improper?(limits),
      do: check_rlimits(limits, %{}),
      else: wrong_rlimits()
  end

  def check(:arg0, value) when is_binary(value) do
    with {:error, what} <- NetRunner.Executable.check_arg(value), do: {:invalid, "it " <> what}
  end

  def check(:arg0, _value), do: {:wrong, "a binary"}

  def check(:cgroup, value), do: NetRunner.Cgroup.check(value)

  # What a command must look like, NetRunner.Executable says.
  def check(:cmd, _value), do: :ok

  def check(:gate, value) when is_pid(value), do: check(:pid, value)

  def check(:gate, value) do
    with {:wrong, expected} <- check(:name, value), do: {:wrong, "a local pid, or " <> expected}
  end

  def check(:name, nil), do: :ok
  def check(:name, value) when is_atom(value) and not is_boolean(value), do: :ok
  def check(:name, {:global, _name}), do: :ok
  def check(:name, {:via, module, _name}) when is_atom(module), do: :ok

  def check(:name, _value),
    do: {:wrong, "an atom, {:global, term} or {:via, module, term}"}

  def check(:on_output, value) when value in [:discard, :log], do: :ok

  def check(:on_output, value)
      when is_function(value, 1) or is_function(value, 2) or is_function(value, 3),
      do: :ok

  def check(:on_output, _value),
    do: {:wrong, ":discard, :log, or a function of one, two or three arguments"}

  def check(:log, value) do
    if Keyword.keyword?(value) and Enum.all?(value, &log_option?/1),
      do: :ok,
      else:
        {:wrong,
         "a keyword list of level:, stderr_level:, prefix: (text) and metadata: (a keyword list)"}
  end

  def check(:line_separator, true), do: {:ok, "\n"}
  def check(:line_separator, ""), do: {:invalid, "the separator is empty"}
  def check(:line_separator, value) when is_binary(value), do: :ok

  def check(:line_separator, _value),
    do: {:wrong, "true or a separator as a binary (a daemon's output always comes in lines)"}

  def check(:ready, nil), do: :ok
  def check(:ready, fun) when is_function(fun, 0), do: :ok
  def check(:ready, {:output, %Regex{}}), do: :ok
  def check(:ready, {:output, ""}), do: {:invalid, "an empty text is in every line"}
  def check(:ready, {:output, text}) when is_binary(text), do: :ok
  def check(:ready, {:tcp, port}), do: check(:ready, {:tcp, {127, 0, 0, 1}, port})

  def check(:ready, {:tcp, ip, port}) when is_integer(port) and port in 1..65_535 do
    case ip(ip) do
      {:ok, ip} -> {:ok, {:tcp, ip, port}}
      :error when is_binary(ip) -> {:invalid, "no IP address: " <> inspect(ip)}
      :error -> wrong_ready()
    end
  end

  def check(:ready, _value), do: wrong_ready()

  def check({:function, _arity}, nil), do: :ok
  def check({:function, arity}, value) when is_function(value, arity), do: :ok
  def check({:function, arity}, _value), do: {:wrong, "a function of #{arity} arguments"}

  def check(:progress, true), do: :ok
  def check(:progress, none) when none in [false, nil], do: {:ok, nil}
  def check(:progress, value) when is_function(value, 1), do: :ok
  def check(:progress, _value), do: {:wrong, "true, false or a function of one argument"}

  def check(:pty, false), do: :ok
  def check(:pty, true), do: {:ok, @terminal}

  def check(:pty, value) do
    if Keyword.keyword?(value) and Enum.all?(value, &terminal_option?/1),
      do: {:ok, Enum.into(value, @terminal)},
      else:
        {:wrong,
         "true, false or a keyword list of rows: and cols: (1..65535), echo: and raw: (booleans)"}
  end

  def check(:env, {:replace, env}) do
    with {:ok, pairs} <- check_env(env), do: {:ok, {:replace, pairs}}
  end

  def check(:env, env), do: check_env(env)

  defp check_rlimits([], checked), do: {:ok, checked}

  defp check_rlimits([{name, limit} | rest], checked) when name in @rlimits do
    case check_rlimit(limit) do
      {:ok, limit} -> check_rlimits(rest, Map.put(checked, name, limit))
      {:invalid, what} -> {:invalid, "#{name}: #{what}"}
      :wrong -> wrong_rlimits()
    end
  end

  defp check_rlimits(_other, _checked), do: wrong_rlimits()

  defp check_rlimit({soft, hard}) do
    cond do
      not limit?(soft) or not limit?(hard) -> :wrong
      # In Erlang's order every number is less than an atom.
      soft > hard -> {:invalid, "the soft limit is above the hard one"}
      is_integer(soft) and soft > @rlimit_max -> {:invalid, "#{soft} is more than any limit"}
      is_integer(hard) and hard > @rlimit_max -> {:invalid, "#{hard} is more than any limit"}
      true -> {:ok, {soft, hard}}
    end
  end

  defp check_rlimit(both), do: check_rlimit({both, both})

  defp limit?(limit), do: limit == :infinity or (is_integer(limit) and limit >= 0)

  defp wrong_rlimits do
    {:wrong,
     "a map or keyword list of limit or {soft, hard}, each an integer from 0 on or :infinity; names are " <>
       Enum.map_join(@rlimits, ", ", &inspect/1)}
  end

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

  defp terminal_option?({size, n}) when size in [:rows, :cols],
    do: is_integer(n) and n in 1..65_535

  defp terminal_option?({mode, on?}) when mode in [:echo, :raw], do: is_boolean(on?)
  defp terminal_option?(_other), do: false

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
  defp bad_name(name),
    do: "bad name, = or NUL after #{inspect(NetRunner.Options.shown_name(name))}"
end
