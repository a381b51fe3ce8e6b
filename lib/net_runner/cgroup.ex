defmodule NetRunner.Cgroup do
  @moduledoc """
  Commands in cgroups of their own: the option `cgroup:`, and what can be read and changed while they run
  (`NetRunner.Process.cgroup/1`, `NetRunner.Process.set_cgroup/2`).

  <!-- only compiled: few machines have the controllers to give -->

      NetRunner.exec(["make", "-j8"],
        cgroup: %{
          parent: "/sys/fs/cgroup/system.slice/my_app.service/jobs",
          memory_max: 512 * 1024 * 1024,
          pids_max: 200
        }
      )

  A cgroup of version 2 (a *leaf*) is made below `parent:`, the limits are written, and the command is in it from its
  first instruction on, with all that it will ever start. It ends with the command: whoever is still in it is
  killed with it, it is removed, and `NetRunner.Result` tells what it has used. If any of it cannot be
  had, nothing runs: `{:error, {:cgroup, step, posix}}`.

  ## Limits

    * `parent:` - the path of a cgroup that is delegated to the user of the BEAM. Absolute, without `.` and `..`; no symlink is
      followed on the way. Required.
    * `name:` - the leaf's name; not for what a supervisor restarts, which may come before the old leaf is gone. Default: `net_runner-`, the BEAM's pid, when it started, and a number. A cgroup of that name that is
      there already is an error.
    * `memory_max:`, `memory_high:`, `memory_swap_max:` - bytes or `:infinity`.
    * `pids_max:` - how many processes and threads there may be at once, or `:infinity`.
    * `cpu_max:` - `{quota, period}` in microseconds: CPU time in each period; the quota may be `:infinity`.
    * `cpu_weight:`, `io_weight:` - 1..10000; the kernel's default is 100.
    * `oom_group:` - whether all of the leaf is killed when one of it must be for want of memory.

  What each of them does is the kernel's: `Documentation/admin-guide/cgroup-v2.rst`. Each needs its controller
  (memory, pids, cpu, io) enabled in the parent's `cgroup.subtree_control`; else its file is not there:
  `{:error, {:cgroup, :memory_max, :enoent}}`.

  ## Errors

  `{:cgroup, step, posix}` with these steps:

  | step | what could not be done | often |
  |---|---|---|
  | `:parent` | opening the parent | `:enoent`; `:eopnotsupp`: it is no cgroup of version 2; `:eloop`: a symlink; `:enametoolong`; `:enosys`: not in this build |
  | `:leaf` | making the leaf | `:eacces`: not delegated; `:erofs`; `:eexist`: the name is taken; `:eagain`: the parent's `cgroup.max.descendants` is reached |
  | a limit's name | writing that limit | `:enoent`: its controller is not enabled; `:einval` |
  | `:join` | putting the command into it | `:eacces`: the BEAM lives outside what was delegated; `:eopnotsupp`: the parent is threaded |
  | `:none` | (later) finding the cgroup of a command that has none | `:enoent` |

  Where there is no room for one more process (`pids_max:` of the leaf or of a cgroup above it, as the limits of the user),
  the kernel says no more than that: `{:error, :eagain}`.
  """

  alias NetRunner.Quote

  @typedoc "Bytes, or a number, or no limit."
  @type limit :: non_neg_integer | :infinity

  @typedoc "What can be limited."
  @type key ::
          :memory_max
          | :memory_high
          | :memory_swap_max
          | :pids_max
          | :cpu_max
          | :cpu_weight
          | :io_weight
          | :oom_group

  @typedoc "The value of the option `cgroup:`; a keyword list does as well."
  @type t :: %{
          required(:parent) => binary,
          optional(:name) => binary,
          optional(:memory_max) => limit,
          optional(:memory_high) => limit,
          optional(:memory_swap_max) => limit,
          optional(:pids_max) => limit,
          optional(:cpu_max) => {quota_us :: pos_integer | :infinity, period_us :: pos_integer},
          optional(:cpu_weight) => 1..10_000,
          optional(:io_weight) => 1..10_000,
          optional(:oom_group) => boolean
        }

  @typedoc "Limits alone, for `NetRunner.Process.set_cgroup/2`."
  @type limits :: %{optional(key) => term} | [{key, term}]

  @typedoc "What a command's cgroup has used, all in all; nil where its controller, or a newer kernel, would be needed."
  @type usage :: %{
          memory_peak: non_neg_integer | nil,
          oom_kills: non_neg_integer | nil,
          user_us: non_neg_integer | nil,
          system_us: non_neg_integer | nil,
          throttled_us: non_neg_integer | nil,
          pids_peak: non_neg_integer | nil,
          read_bytes: non_neg_integer | nil,
          written_bytes: non_neg_integer | nil
        }

  @type pressure :: %{
          optional(:some | :full) => %{
            avg10: float,
            avg60: float,
            avg300: float,
            total: non_neg_integer
          }
        }

  @typedoc """
  What a cgroup is and uses now: bytes, microseconds, numbers. nil where the file is not there, which its
  controller, or a newer kernel, would bring.
  """
  @type info :: %{
          path: binary,
          memory_current: non_neg_integer | nil,
          memory_peak: non_neg_integer | nil,
          memory_events: %{optional(binary) => non_neg_integer} | nil,
          pids_current: non_neg_integer | nil,
          pids_peak: non_neg_integer | nil,
          cpu_stat: %{optional(binary) => non_neg_integer} | nil,
          io_stat: %{optional(device :: binary) => %{optional(binary) => non_neg_integer}} | nil,
          memory_pressure: pressure | nil,
          cpu_pressure: pressure | nil,
          io_pressure: pressure | nil
        }

  # {key, file, type}, in the order they are written in.
  @limits [
    {:memory_max, "memory.max", :number},
    {:memory_high, "memory.high", :number},
    {:memory_swap_max, "memory.swap.max", :number},
    {:pids_max, "pids.max", :number},
    {:cpu_max, "cpu.max", :bandwidth},
    {:cpu_weight, "cpu.weight", :weight},
    {:io_weight, "io.weight", :weight},
    {:oom_group, "memory.oom.group", :boolean}
  ]

  @keys for {key, _file, _type} <- @limits, do: key
  # The kernel's bounds of both (kernel/sched/core.c).
  @cpu_us_min 1_000
  @cpu_period_max 1_000_000
  @number_max 0x7FFF_FFFF_FFFF_FFFF

  ## The option

  @doc false
  # The option's value in the form it is used in: %{parent, name (or nil), limits: [{key, value}]}, for
  # NetRunner.Options.Type.check/2.
  @spec check(term) ::
          {:ok, map | nil} | {:wrong, String.t()} | {:invalid, String.t()}
  def check(nil), do: {:ok, nil}

  def check(given) do
    with {:ok, given} <- to_map(given),
         :ok <- known(given, [:parent, :name | @keys]),
         {:ok, parent} <- parent(given),
         {:ok, name} <- name(Map.get(given, :name)),
         {:ok, limits} <- limits(given) do
      {:ok, %{parent: parent, name: name, limits: limits}}
    end
  end

  @doc false
  # The same for limits alone.
  @spec check_limits(term) ::
          {:ok, [{key, term}]} | {:wrong, String.t()} | {:invalid, String.t()}
  def check_limits(given) do
    with {:ok, given} <- to_map(given),
         :ok <- known(given, @keys),
         do: limits(given)
  end

  defp to_map(given) when is_map(given) and not is_struct(given), do: {:ok, given}

  defp to_map(given) do
    if Keyword.keyword?(given),
      do: {:ok, Map.new(given)},
      else: {:wrong, "a map or a keyword list of parent: and limits"}
  end

  defp known(given, keys) do
    case Map.keys(given) -- keys do
      [] -> :ok
      [key | _] -> {:wrong, "only #{Enum.join(keys, ", ")} in it, not #{inspect(key)}"}
    end
  end

  defp parent(%{parent: parent}) when is_binary(parent) do
    components = String.split(parent, "/", trim: true)

    cond do
      not String.starts_with?(parent, "/") ->
        {:invalid, "parent: the path is not absolute"}

      String.contains?(parent, <<0>>) ->
        {:invalid, "parent: the path contains a NUL byte"}

      "." in components or ".." in components ->
        {:invalid, "parent: the path has a . or .. in it"}

      true ->
        {:ok, parent}
    end
  end

  defp parent(_given), do: {:wrong, "parent: with a path as a binary"}

  defp name(nil), do: {:ok, nil}

  defp name(name) when is_binary(name) do
    cond do
      name == "" or byte_size(name) > 255 ->
        {:invalid, "name: must have 1 to 255 bytes"}

      String.contains?(name, ["/", "\n", <<0>>]) ->
        {:invalid, "name: has a /, NUL or newline in it"}

      String.starts_with?(name, ".") ->
        {:invalid, "name: begins with a dot"}

      true ->
        {:ok, name}
    end
  end

  defp name(_other), do: {:wrong, "name: as a binary"}

  # In the order of the table, whatever the order they were given in.
  defp limits(given) do
    Enum.reduce_while(@limits, {:ok, []}, fn {key, _file, type}, {:ok, limits} ->
      with {:ok, value} <- Map.fetch(given, key),
           :ok <- value(type, key, value) do
        {:cont, {:ok, limits ++ [{key, value}]}}
      else
        :error -> {:cont, {:ok, limits}}
        wrong_or_invalid -> {:halt, wrong_or_invalid}
      end
    end)
  end

  defp value(:number, _key, :infinity), do: :ok
  defp value(:number, _key, value) when is_integer(value) and value in 0..@number_max, do: :ok

  defp value(:number, key, value) when is_integer(value),
    do: {:invalid, "#{key}: must be 0..#{@number_max} or :infinity"}

  defp value(:number, key, _value), do: {:wrong, "#{key}: a number or :infinity"}

  defp value(:weight, _key, value) when is_integer(value) and value in 1..10_000, do: :ok

  defp value(:weight, key, value) when is_integer(value),
    do: {:invalid, "#{key}: must be 1..10000"}

  defp value(:weight, key, _value), do: {:wrong, "#{key}: a number in 1..10000"}

  defp value(:boolean, _key, value) when is_boolean(value), do: :ok
  defp value(:boolean, key, _value), do: {:wrong, "#{key}: true or false"}

  defp value(:bandwidth, key, {quota, period})
       when is_integer(period) and (is_integer(quota) or quota == :infinity) do
    cond do
      period not in @cpu_us_min..@cpu_period_max ->
        {:invalid, "#{key}: the period must be #{@cpu_us_min}..#{@cpu_period_max} microseconds"}

      quota != :infinity and quota not in @cpu_us_min..@number_max ->
        {:invalid, "#{key}: the quota must be at least #{@cpu_us_min} microseconds"}

      true ->
        :ok
    end
  end

  defp value(:bandwidth, key, _value),
    do: {:wrong, "#{key}: {quota, period} in microseconds, the quota a number or :infinity"}

  ## The wire

  @doc false
  # What NetRunner.Protocol.spawn/2 wants of it.
  @spec order(map | nil, non_neg_integer) :: nil | {binary, binary, [{binary, binary}]}
  def order(nil, _id), do: nil

  def order(%{parent: parent, name: name, limits: limits}, id) do
    leaf = name || "net_runner-#{System.pid()}-#{started()}-#{id}"
    {parent, leaf, Enum.map(limits, fn {key, value} -> {file(key), content(value)} end)}
  end

  # In a container each BEAM may have the same pid, and an earlier one may have left a leaf (docs/limits.md).
  defp started do
    (:erlang.system_info(:start_time) + :erlang.time_offset())
    |> System.convert_time_unit(:native, :millisecond)
    |> Integer.to_string(36)
    |> String.downcase()
  end

  @doc false
  # The directory that an order makes.
  @spec path(nil | {binary, binary, list}) :: binary | nil
  def path(nil), do: nil
  def path({parent, leaf, _files}), do: Path.join(parent, leaf)

  @doc false
  # The step's name in an error: files are counted on the wire.
  @spec step(atom | non_neg_integer, map) :: atom
  def step(place, %{limits: limits}) when is_integer(place),
    do: limits |> Enum.at(place) |> elem(0)

  def step(step, _cgroup), do: step

  for {key, file, _type} <- @limits, do: defp(file(unquote(key)), do: unquote(file))

  defp content(:infinity), do: "max"
  defp content(true), do: "1"
  defp content(false), do: "0"
  defp content({quota, period}), do: "#{content(quota)} #{period}"
  defp content(number), do: Integer.to_string(number)

  ## Living cgroups

  @doc false
  @spec read(binary) :: {:ok, info} | {:error, {:cgroup, :leaf, atom}}
  def read(path) do
    case File.lstat(path) do
      {:ok, %{type: :directory}} ->
        {:ok,
         %{
           path: path,
           memory_current: number(path, "memory.current"),
           memory_peak: number(path, "memory.peak"),
           memory_events: flat(path, "memory.events"),
           pids_current: number(path, "pids.current"),
           pids_peak: number(path, "pids.peak"),
           cpu_stat: flat(path, "cpu.stat"),
           io_stat: nested(path, "io.stat"),
           memory_pressure: pressure(path, "memory.pressure"),
           cpu_pressure: pressure(path, "cpu.pressure"),
           io_pressure: pressure(path, "io.pressure")
         }}

      {:ok, _other} ->
        {:error, {:cgroup, :leaf, :enotdir}}

      {:error, posix} ->
        {:error, {:cgroup, :leaf, posix}}
    end
  end

  @doc false
  @spec write(binary, [{key, term}]) :: :ok | {:error, {:cgroup, key, atom}}
  def write(path, limits) do
    Enum.reduce_while(limits, :ok, fn {key, value}, :ok ->
      case write_file(path, file(key), content(value)) do
        :ok -> {:cont, :ok}
        {:error, posix} -> {:halt, {:error, {:cgroup, key, posix}}}
      end
    end)
  end

  # File.write/2 would make the file, and cgroupfs then says :eacces.
  defp write_file(path, name, content) do
    file = Path.join(path, name)
    with {:ok, _stat} <- File.lstat(file), do: File.write(file, content, [:raw])
  end

  defp lines(path, name) do
    case File.read(Path.join(path, name)) do
      {:ok, text} -> String.split(text, "\n", trim: true)
      {:error, _not_there} -> nil
    end
  end

  defp number(path, name) do
    with [text] <- lines(path, name), {number, ""} <- Integer.parse(text) do
      number
    else
      _not_there -> nil
    end
  end

  # "low 0\nhigh 0\n"
  defp flat(path, name) do
    if lines = lines(path, name), do: numbers(lines, " ")
  end

  # "8:0 rbytes=1 wbytes=2\n"
  defp nested(path, name) do
    if lines = lines(path, name) do
      for line <- lines, [device | pairs] = String.split(line, " "), into: %{} do
        {device, numbers(pairs, "=")}
      end
    end
  end

  defp numbers(pairs, separator) do
    for pair <- pairs,
        [key, value] <- [String.split(pair, separator)],
        {number, ""} <- [Integer.parse(value)],
        into: %{},
        do: {key, number}
  end

  # "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"
  @pressure ~r/^(some|full) avg10=([\d.]+) avg60=([\d.]+) avg300=([\d.]+) total=(\d+)$/

  defp pressure(path, name) do
    if lines = lines(path, name) do
      for line <- lines,
          [_, which, avg10, avg60, avg300, total] <- [Regex.run(@pressure, line)],
          into: %{} do
        {if(which == "some", do: :some, else: :full),
         %{
           avg10: String.to_float(avg10),
           avg60: String.to_float(avg60),
           avg300: String.to_float(avg300),
           total: String.to_integer(total)
         }}
      end
    end
  end

  ## When nobody else is left to do it

  # As long as the shepherd gives a sweep.
  @settle_ms 2_000
  @settle_tick 50
  @depth_max 32

  @doc false
  # Ends and removes the cgroup of a command whose guardian was lost, beside this process: a zygote that lives does the
  # same, and one that was killed, too, cannot.
  @spec settle(binary | nil, id | nil) :: :ok
  def settle(path, id) when path == nil or id == nil, do: :ok

  def settle(path, id) do
    until = System.monotonic_time(:millisecond) + @settle_ms
    {:ok, _pid} = Task.start(fn -> settle_until(path, id, until) end)
    :ok
  end

  @typep id :: {inode :: non_neg_integer, device :: non_neg_integer}

  @doc false
  # Which directory that is: one of the same name that somebody makes later is another.
  @spec id(binary | nil) :: id | nil
  def id(nil), do: nil

  def id(path) do
    with {:ok, stat} <- File.lstat(path), do: {stat.inode, stat.major_device}, else: (_ -> nil)
  end

  defp settle_until(path, id, until) do
    kill(path, id)

    if id(path) == id and remove(path, @depth_max) == {:error, :ebusy} and
         System.monotonic_time(:millisecond) < until do
      receive do
      after
        @settle_tick -> settle_until(path, id, until)
      end
    end
  end

  # First opened, then looked at: what was opened is then not a later one's.
  defp kill(path, id) do
    with {:ok, file} <- :file.open(Path.join(path, "cgroup.kill"), [:write, :raw]) do
      if id(path) == id, do: :file.write(file, "1")
      :file.close(file)
    end
  end

  # File.rmdir/1 says :eexist of some directories that are not empty; in cgroupfs all files go with theirs.
  defp remove(_path, 0), do: :ok

  defp remove(path, depth) do
    with {:ok, names} <- File.ls(path) do
      for name <- names,
          below = Path.join(path, name),
          match?({:ok, %{type: :directory}}, File.lstat(below)),
          do: remove(below, depth - 1)
    end

    case File.rmdir(path) do
      {:error, reason} when reason in [:ebusy, :eexist] -> {:error, :ebusy}
      _done_or_hopeless -> :ok
    end
  end

  @doc false
  @spec text(atom, String.t()) :: String.t()
  def text(:parent, posix), do: "cannot open the cgroup's parent: #{posix}"
  def text(:leaf, posix), do: "cannot make its cgroup: #{posix}"
  def text(:join, posix), do: "cannot be put into its cgroup: #{posix}"
  def text(:none, _posix), do: "has no cgroup of its own"
  def text(key, posix) when key in @keys, do: "cannot set #{Quote.word(file(key))}: #{posix}"
end
