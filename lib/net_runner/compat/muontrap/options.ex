defmodule NetRunner.Compat.MuonTrap.Options do
  @moduledoc false
  # MuonTrap's options in NetRunner's words, for cmd/3 and for Daemon.

  alias NetRunner.{Cgroup, Compat}

  @mount "/sys/fs/cgroup"
  # The most milliseconds that NetRunner's kill_timeout: takes.
  @u32_max 0xFFFF_FFFF

  # {MuonTrap's key, its file, NetRunner's key, its controller}: what both have.
  @cgroup [
    {:memory_max, "memory.max", :memory_max, "memory"},
    {:memory_high, "memory.high", :memory_high, "memory"},
    {:memory_swap_max, "memory.swap.max", :memory_swap_max, "memory"},
    {:memory_oom_group, "memory.oom.group", :oom_group, "memory"},
    {:pids_max, "pids.max", :pids_max, "pids"},
    {:cpu_max, "cpu.max", :cpu_max, "cpu"},
    {:cpu_weight, "cpu.weight", :cpu_weight, "cpu"},
    {:io_weight, "io.weight", :io_weight, "io"}
  ]
  @only_theirs [:cpu_idle, :memory_min, :memory_low, :cpuset_cpus, :cpuset_mems]

  @defaults [stderr: :inherit, kill_timeout: 500]

  @doc "NetRunner's options, and those that `own` takes first: see `Compat.take!/5`."
  @spec take!(keyword, String.t(), ({atom, term} -> {:ok, term} | :none)) :: {keyword, keyword}
  def take!(opts, call, own) do
    unless Keyword.keyword?(opts), do: Compat.invalid_option!(opts, call)
    {cgroup, opts} = Keyword.split(opts, [:cgroup, :cgroup_base, :cgroup_path])
    {kept, options} = Compat.take!(opts, call, @defaults, own, &option!/3)
    {kept, options ++ cgroup!(cgroup, call)}
  end

  defp option!(:cd, cd, _call) when is_binary(cd), do: [cd: cd]
  defp option!(:env, env, call), do: [env: Compat.env!(env, call)]
  defp option!(:arg0, arg0, _call) when is_binary(arg0), do: [arg0: arg0]
  defp option!(:stderr_to_stdout, true, _call), do: [stderr: :merge]
  defp option!(:capture_stderr_only, true, _call), do: [stdout: :discard]

  defp option!(name, on?, _call)
       when (name in [:stderr_to_stdout, :capture_stderr_only] and on? == false) or
              (name == :parallelism and is_boolean(on?)),
       do: []

  defp option!(:delay_to_sigkill, ms, call), do: [kill_timeout: delay!(ms, call)]

  defp option!(:uid, uid, _call) when is_integer(uid) or is_binary(uid), do: [user: uid]
  defp option!(:gid, gid, _call) when is_integer(gid) or is_binary(gid), do: [group: gid]
  defp option!(:groups, groups, _call) when is_list(groups), do: [groups: groups]

  defp option!(:stdio_window, _bytes, call) do
    Compat.not_served!(
      :stdio_window,
      call,
      "leave it out, a command whose output nobody reads waits when its pipe is full (64 KiB)"
    )
  end

  defp option!(name, _value, call) when name in [:cgroup_controllers, :cgroup_sets] do
    Compat.not_served!(
      name,
      call,
      "cgroups are of version 2, say cgroup: %{memory_max: ...} as MuonTrap 2 does"
    )
  end

  defp option!(name, value, call), do: Compat.invalid_option!({name, value}, call)

  @doc "The value of `:delay_to_sigkill`, if it is one."
  @spec delay!(term, String.t()) :: 0..0xFFFF_FFFF
  def delay!(ms, _call) when is_integer(ms) and ms in 0..@u32_max, do: ms
  def delay!(other, call), do: Compat.invalid_option!({:delay_to_sigkill, other}, call)

  ## Cgroups

  defp cgroup!([], _call), do: []

  defp cgroup!(given, call) do
    limits = given |> Keyword.get(:cgroup, %{}) |> limits!(call)

    {option, where} =
      case {given[:cgroup_base], given[:cgroup_path]} do
        {base, nil} when is_binary(base) ->
          {:cgroup_base, [parent: absolute(base)]}

        {nil, path} when is_binary(path) ->
          {:cgroup_path,
           [parent: path |> absolute() |> Path.dirname(), name: Path.basename(path)]}

        {nil, nil} ->
          raise ArgumentError, "#{call}: cgroup: needs a cgroup_base: (or a cgroup_path:)"

        _both_or_wrong ->
          raise ArgumentError, "#{call}: one of cgroup_base: and cgroup_path:, a path as a binary"
      end

    case Cgroup.check(where) do
      {:ok, _checked} ->
        [cgroup: where ++ limits]

      {:invalid, what} ->
        raise ArgumentError, "invalid option #{inspect(option)} of #{call}: #{what}"
    end
  end

  # A path that begins with / stays what it is.
  defp absolute(path), do: Path.expand(path, @mount)

  defp limits!(limits, call) when is_map(limits) do
    for {key, value} <- limits do
      case List.keyfind(@cgroup, key, 0) do
        {_key, _file, ours, _controller} ->
          {ours, checked!(key, ours, limit(ours, value), call)}

        nil when key in @only_theirs ->
          Compat.not_served!(
            :cgroup,
            call,
            "NetRunner does not set #{inspect(key)}, write it into the parent cgroup"
          )

        nil ->
          raise ArgumentError, "invalid key #{inspect(key)} in option :cgroup of #{call}"
      end
    end
  end

  defp limits!(limits, call), do: Compat.invalid_option!({:cgroup, limits}, call)

  # In the words that a limit has there.
  defp checked!(key, ours, value, call) do
    case Cgroup.check_limits([{ours, value}]) do
      {:ok, _checked} ->
        value

      {_wrong_or_invalid, what} ->
        what =
          what
          |> String.replace_prefix("#{ours}", "#{key}")
          |> String.replace(":infinity", ":max")

        raise ArgumentError, "invalid option :cgroup of #{call}: #{what}"
    end
  end

  # The kernel's own period.
  defp limit(:cpu_max, :max), do: {:infinity, 100_000}
  defp limit(:cpu_max, {:max, period}), do: {:infinity, period}
  defp limit(_key, :max), do: :infinity
  defp limit(_key, value), do: value

  @doc """
  Enables the controllers that these options need, for the leaves below their parent. Where that cannot be, the start says
  which limit it was that could not be had.
  """
  @spec enable_controllers(keyword) :: :ok
  def enable_controllers(options) do
    cgroup = Keyword.get(options, :cgroup, [])

    for(
      {_key, _file, ours, controller} <- @cgroup,
      Keyword.has_key?(cgroup, ours),
      do: controller
    )
    |> Enum.uniq()
    |> Enum.each(&File.write(Path.join(cgroup[:parent], "cgroup.subtree_control"), "+" <> &1))
  end

  @doc "What `cgroup_config/1` gives of the cgroup at this path."
  @spec cgroup_config(binary) :: map
  def cgroup_config(path) do
    for {key, file, ours, _controller} <- @cgroup,
        {:ok, text} <- [File.read(Path.join(path, file))],
        into: %{},
        do: {key, text |> String.trim() |> setting(ours)}
  end

  defp setting(text, :oom_group), do: text == "1"

  defp setting(text, :cpu_max) do
    case String.split(text) do
      ["max", _period] -> :max
      [quota, period] -> {String.to_integer(quota), String.to_integer(period)}
    end
  end

  defp setting("default " <> weight, :io_weight), do: String.to_integer(hd(String.split(weight)))
  defp setting("max", _key), do: :max
  defp setting(number, _key), do: String.to_integer(number)

  @doc "The path as MuonTrap says it, relative to where cgroups are mounted."
  @spec relative(binary) :: binary
  def relative(path), do: Path.relative_to(path, @mount)
end
