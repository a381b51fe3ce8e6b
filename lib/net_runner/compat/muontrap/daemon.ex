defmodule NetRunner.Compat.MuonTrap.Daemon do
  @moduledoc """
  `MuonTrap.Daemon` of MuonTrap 1.8 and 2.0.0-rc.1, run by NetRunner: an OS process as a GenServer that can be
  supervised.

      alias NetRunner.Compat.MuonTrap

      children = [
        {MuonTrap.Daemon, ["sh", ["-c", "echo here; exec sleep 60"], [log_output: :debug]]}
      ]

      {:ok, supervisor} = Supervisor.start_link(children, strategy: :one_for_one)
      :ok = Supervisor.stop(supervisor)

  ## What is the same

  The child specification (its id is this module's name: give each of several an `:id` by `Supervisor.child_spec/2`), the options of
  `NetRunner.Compat.MuonTrap.cmd/3` but `:into` and `:timeout`, those below, and the calls. It ends `:normal` when the
  command's exit status is 0 and with another reason when it is not, so `:transient` restarts failures.

  ## What differs

  Besides the table of `NetRunner.Compat.MuonTrap`:

  | | MuonTrap | here |
  |---|---|---|
  | `os_pid/1` | the pid of MuonTrap's helper | the pid of the command |
  | output that is not logged | - | read away, so that the command does not wait |
  | a line longer than 64 KiB | comes as one | comes in pieces |
  | a logging function that raises | ends the daemon | is logged, and the next line follows |
  | `statistics/1`: `output_byte_count` | - | bytes of stdout, and of stderr where that is logged |
  | `cgroup_config/1` | all keys of its list | those that `cgroup:` takes here, so that it can be given to another daemon |
  | the child's `shutdown:` | the supervisor's default | longer than `:delay_to_sigkill` |

  To leave this module for `NetRunner.Daemon`, which also tells stdout from stderr and knows when its command is ready:
  `docs/migration/muontrap.md`.
  """

  use GenServer

  alias NetRunner.{Command, Compat, Text}
  alias NetRunner.Compat.MuonTrap.Options

  @call "NetRunner.Compat.MuonTrap.Daemon.start_link/3"
  @levels [:emergency, :alert, :critical, :error, :warning, :warn, :notice, :info, :debug]
  # After the inner daemon's own shutdown.
  @margin 500
  @u32_max 0xFFFF_FFFF

  defstruct [:cmd, :options, :exit_status_to_reason, :daemon, :waiting, :cgroup]

  @doc """
  A child specification from `[command, args]` or `[command, args, opts]`.

      iex> NetRunner.Compat.MuonTrap.Daemon.child_spec(["my_server", ["--options", "foo"], [cd: "/some_directory"]]).id
      NetRunner.Compat.MuonTrap.Daemon
  """
  @spec child_spec(list) :: Supervisor.child_spec()
  def child_spec([command, args]), do: child_spec([command, args, []])

  def child_spec([command, args, opts]) do
    kill_timeout = opts |> Keyword.get(:delay_to_sigkill, 500) |> Options.delay!(@call)
    daemon = NetRunner.Daemon.child_spec(cmd: ["true"], kill_timeout: kill_timeout)

    %{
      id: __MODULE__,
      start: {__MODULE__, :start_link, conceal(command, args, opts)},
      shutdown: min(daemon.shutdown + @margin, @u32_max)
    }
  end

  # A supervisor's reports show the arguments of a start.
  defp conceal(command, args, opts) do
    case Command.conceal([command | args], opts) do
      {%Command{} = command, open} -> [command, [], open]
      {_cmd, open} -> [command, args, open]
    end
  end

  @doc """
  Starts a daemon, linked to the caller. `{:error, reason}` if the command cannot be started: a reason of
  `NetRunner.Error`; an `ArgumentError` for options that are not right. (That there is no such user or group, the start
  finds: `{:error, {:invalid, :uid, message}}`.)

      iex> {:ok, daemon} = NetRunner.Compat.MuonTrap.Daemon.start_link("sleep", ["60"])
      iex> is_integer(NetRunner.Compat.MuonTrap.Daemon.os_pid(daemon))
      true
      iex> GenServer.stop(daemon)
      :ok

  ## Options

    * `:name` - a name for the daemon, as GenServers have.
    * `:log_output` - the level at which lines go to Logger. Default: they do not.
    * `:log_prefix` - what each of them begins with. Default: the command and a colon.
    * `:log_transform` - a function of a line that gives the line to be logged. Default: what is no UTF-8 is replaced.
    * `:logger_metadata` - a keyword list; `:muontrap_cmd` and `:muontrap_args` are added.
    * `:logger_fun` - a function of a line, or `{module, function, arguments}` that the line is put before; the other `log` options are ignored then.
    * `:stderr_to_stdout`, `:capture_stderr_only` - which output is logged. Default: stdout, and stderr goes to the BEAM's own.
    * `:exit_status_to_reason` - a function of the exit status that gives the reason the daemon stops with.
    * `:wait_for` - a function that is called before the command is started, in a process of its own that is linked: `start_link/3` does
      not wait for it.
  """
  @spec start_link(binary, [binary], keyword) :: GenServer.on_start()
  def start_link(command, args, opts \\ [])

  def start_link(%Command{exe: command, args: args, opts: concealed}, [], opts),
    do: start_link(command, args, concealed ++ opts)

  def start_link(command, args, opts) when is_binary(command) and is_list(args) do
    Compat.check_words!([command | args], @call)
    {own, options} = Options.take!(opts, @call, &own/1)
    logged = if options[:stdout] == :discard, do: [stderr: :pipe], else: []
    options = Keyword.merge(options, logged) ++ [on_output: on_output(own, command, args)]
    name = Keyword.take(own, [:name])

    # Before there is a server that would crash of them.
    with {:error, reason} <- NetRunner.Options.validate(options, :daemon),
         do: Compat.invalid!(reason)

    GenServer.start_link(__MODULE__, {[command | args], options, own}, name)
  end

  defp own({:name, name}), do: {:ok, name}
  defp own({:log_output, level}) when level in @levels, do: {:ok, level}
  defp own({:log_prefix, prefix}) when is_binary(prefix), do: {:ok, prefix}
  defp own({:log_transform, fun}) when is_function(fun, 1), do: {:ok, fun}
  defp own({:logger_fun, fun}) when is_function(fun, 1), do: {:ok, fun}

  defp own({:logger_fun, {module, name, args}})
       when is_atom(module) and is_atom(name) and is_list(args),
       do: {:ok, {module, name, args}}

  defp own({:logger_metadata, metadata}) when is_list(metadata), do: {:ok, metadata}
  defp own({:exit_status_to_reason, fun}) when is_function(fun, 1), do: {:ok, fun}
  defp own({:wait_for, fun}) when is_function(fun, 0), do: {:ok, fun}
  defp own(_other), do: :none

  defp on_output(own, command, args) do
    case {own[:logger_fun], own[:log_output]} do
      {nil, nil} ->
        :discard

      {nil, level} ->
        level = if level == :warn, do: :warning, else: level
        prefix = Keyword.get_lazy(own, :log_prefix, fn -> command <> ": " end)
        transform = Keyword.get(own, :log_transform, &valid/1)
        about = [muontrap_cmd: command, muontrap_args: Enum.join(args, " ")]
        metadata = Keyword.merge(Keyword.get(own, :logger_metadata, []), about)
        fn line -> Logger.bare_log(level, prefix <> transform.(line), metadata) end

      {{module, name, args}, _level} ->
        fn line -> apply(module, name, [line | args]) end

      {fun, _level} ->
        fun
    end
  end

  # Since Elixir 1.16.
  defp valid(line) do
    if function_exported?(String, :replace_invalid, 1),
      do: apply(String, :replace_invalid, [line]),
      else: Text.text(line)
  end

  @doc "The command's pid in the operating system; `:error` before it is started."
  @spec os_pid(GenServer.server()) :: non_neg_integer | :error
  def os_pid(server) do
    with daemon when daemon != nil <- GenServer.call(server, :daemon),
         {:ok, os_pid} <- NetRunner.Daemon.os_pid(daemon) do
      os_pid
    else
      _not_running -> :error
    end
  end

  @doc """
  How many bytes the command has written, and what its cgroup uses: a map of the numbers in the kernel's files, by
  their names, empty without a cgroup.
  """
  @spec statistics(GenServer.server()) :: %{
          output_byte_count: non_neg_integer,
          cgroup: %{optional(binary) => term}
        }
  def statistics(server) do
    bytes =
      with daemon when daemon != nil <- GenServer.call(server, :daemon),
           {:ok, stats} <- NetRunner.Daemon.stats(daemon) do
        stats.bytes
      else
        _not_running -> 0
      end

    cgroup = for path <- List.wrap(cgroup(server)), stat <- stats(path), into: %{}, do: stat
    %{output_byte_count: bytes, cgroup: cgroup}
  end

  @numbers ~w(memory.current memory.peak memory.swap.current pids.current pids.peak)
  @flat ~w(memory.events cpu.stat pids.events cgroup.stat)
  @pressure ~w(memory.pressure cpu.pressure io.pressure)

  defp stats(path) do
    for file <- @numbers ++ @flat ++ @pressure,
        {:ok, text} <- [File.read(Path.join(path, file))],
        do: {file, stat(file, String.split(text, "\n", trim: true))}
  end

  defp stat(file, [number]) when file in @numbers, do: String.to_integer(number)

  defp stat(file, lines) when file in @flat do
    for line <- lines, [key, value] = String.split(line), into: %{} do
      {key, String.to_integer(value)}
    end
  end

  # "some avg10=0.00 ... total=0"
  defp stat(_pressure, lines) do
    for line <- lines, [who | pairs] = String.split(line), into: %{} do
      {who,
       for pair <- pairs, [key, value] = String.split(pair, "="), into: %{} do
         {key, if(key == "total", do: String.to_integer(value), else: String.to_float(value))}
       end}
    end
  end

  @doc "The path of the daemon's cgroup, relative to `/sys/fs/cgroup`; nil without one."
  @spec cgroup_path(GenServer.server()) :: binary | nil
  def cgroup_path(server) do
    with path when path != nil <- cgroup(server), do: Options.relative(path)
  end

  @doc "The limits of its cgroup, as the option `:cgroup` takes them; empty without one."
  @spec cgroup_config(GenServer.server()) :: map
  def cgroup_config(server) do
    case cgroup(server) do
      nil -> %{}
      path -> Options.cgroup_config(path)
    end
  end

  @doc "Reads a file of its cgroup, like `\"memory.current\"`."
  @spec cgget(GenServer.server(), binary) :: {:ok, binary} | {:error, File.posix() | :no_cgroup}
  def cgget(server, file), do: in_cgroup(server, file, &File.read/1)

  @doc "Writes to a file of its cgroup, like `\"memory.max\"`."
  @spec cgset(GenServer.server(), binary, binary) :: :ok | {:error, File.posix() | :no_cgroup}
  def cgset(server, file, value), do: in_cgroup(server, file, &File.write(&1, value))

  defp in_cgroup(server, file, fun) do
    case cgroup(server) do
      nil -> {:error, :no_cgroup}
      path -> path |> Path.join(file) |> fun.()
    end
  end

  defp cgroup(server), do: GenServer.call(server, :cgroup)

  ## The server: a NetRunner.Daemon that can be waited for

  @impl true
  def init({cmd, options, own}) do
    Process.flag(:trap_exit, true)

    state = %__MODULE__{
      cmd: cmd,
      options: options,
      exit_status_to_reason: Keyword.get(own, :exit_status_to_reason, &reason/1)
    }

    case own[:wait_for] do
      nil -> launch(state)
      fun -> {:ok, %{state | waiting: Task.async(fun)}}
    end
  end

  defp reason(0), do: :normal
  defp reason(_failed), do: :error_exit_status

  defp launch(%{cmd: cmd, options: options} = state) do
    Options.enable_controllers(options)

    # How the command ended comes as an exit signal that nobody logs: this server is who tells of it.
    told = [cmd: cmd, input: :pipe, exit_reason: &{:shutdown, {__MODULE__, &1}}]

    with {:ok, options} <- NetRunner.Options.validate(told ++ options, :daemon),
         {:ok, cmd} <- NetRunner.Executable.check_cmd(cmd),
         {:ok, daemon} <- NetRunner.Daemon.Server.start_link(cmd, Compat.as_theirs(options)) do
      # Its environment is nobody's business any more.
      {:ok, %{state | daemon: daemon, options: [], cgroup: leaf(daemon, options)}}
    else
      {:error, reason} -> {:stop, Compat.in_their_words(reason)}
    end
  end

  # Whose name is NetRunner's, with :cgroup_base.
  defp leaf(daemon, options) do
    if options[:cgroup] do
      Enum.find_value(NetRunner.list(), fn %{pid: process, owner: owner} ->
        with true <- owner == daemon, {:ok, info} <- NetRunner.Process.cgroup(process) do
          info.path
        else
          _other -> nil
        end
      end)
    end
  end

  @impl true
  def handle_call(:daemon, _from, state), do: {:reply, state.daemon, state}
  def handle_call(:cgroup, _from, state), do: {:reply, state.cgroup, state}

  @impl true
  def handle_info({ref, _whatever}, %{waiting: %{ref: ref}} = state) do
    Process.demonitor(ref, [:flush])

    case launch(%{state | waiting: nil}) do
      {:ok, state} -> {:noreply, state}
      {:stop, reason} -> {:stop, reason, state}
    end
  end

  def handle_info({:EXIT, daemon, reason}, %{daemon: daemon} = state),
    do: {:stop, ended(reason, state), %{state | daemon: nil}}

  def handle_info({:EXIT, _task_or_stranger, :normal}, state), do: {:noreply, state}
  def handle_info({:EXIT, _task_or_stranger, reason}, state), do: {:stop, reason, state}
  def handle_info(_other, state), do: {:noreply, state}

  defp ended({:shutdown, {__MODULE__, exit}}, state),
    do: state.exit_status_to_reason.(NetRunner.Process.status(exit))

  defp ended(reason, _state), do: reason

  @impl true
  def terminate(_reason, %{daemon: nil}), do: :ok
  def terminate(_reason, %{daemon: daemon}), do: NetRunner.Daemon.stop(daemon)

  # There may be an environment in the options.
  @impl true
  def format_status(:terminate, [_dictionary, state]), do: %{state | options: []}

  def format_status(_normal, [_dictionary, state]),
    do: [data: [{~c"State", %{state | options: []}}]]
end
