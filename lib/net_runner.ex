defmodule NetRunner do
  @moduledoc """
  Runs OS processes from Elixir: gigabytes stream through them with back-pressure, nothing that was
  started is left behind, and one command costs no more than the built-in way.

      {output, 0} = NetRunner.run(["ls", "-l"])

      NetRunner.stream!(["zcat", "huge.log.gz"])
      |> Stream.map(&byte_size/1)
      |> Enum.sum()

  A command is a list: the executable, looked up in the PATH that the command itself will see, and its
  arguments; or a `NetRunner.Command`. There is no shell unless you start one.

    * `run/2` runs a command to its end and gives what it wrote.
    * `stream!/2` and `stream/2` make a lazy enumerable of what it writes.
    * `NetRunner.Process` is one command under your hands.
    * `NetRunner.Command` is a command as a value, with its options: it may stand wherever a list may.
    * `list/0` and `top/1` show what is running.
    * `NetRunner.Telemetry` has the events.

  ## What NetRunner logs

  Little: that the process which kept a command was killed, that NetRunner's own helper ended and another is
  started, that io_uring cannot be used. Each line has the Logger metadata `domain: [:elixir, :net_runner]`
  (`[:net_runner]` is what was added to Elixir's own), and, where it is about one
  process of the operating system, `os_pid`; where that is a command, also `command`, the program's name. These
  two are the own metadata of a command's server, so what OTP reports of it has them, too.

      config :logger, :console, metadata: [:command, :os_pid]
  """

  alias NetRunner.{Backend, Command, Executable, Options, Pipe, Stats, Top}

  @type cmd :: [binary, ...] | Command.t()
  @read_max 262_144

  @doc """
  Runs a command to its end: `{stdout, status}`, or `{stdout, status, stderr}` with
  `stderr: :capture`. The status is the exit code, or 128 plus the number of the signal that ended it.
  `{:error, reason}` otherwise, with a reason of `NetRunner.Error`.

      iex> NetRunner.run(["echo", "hello"])
      {"hello\\n", 0}
      iex> NetRunner.run(["tr", "a-z", "A-Z"], input: ["back", "-", "pressure"])
      {"BACK-PRESSURE", 0}
      iex> NetRunner.run(["sh", "-c", "echo oops >&2; exit 3"], stderr: :capture)
      {"", 3, "oops\\n"}
      iex> NetRunner.run(["no-such-program"])
      {:error, :enoent}

  stdin is /dev/null unless `input:` is given. If `input:` raises, the command is stopped and the
  exception is raised here.

  ## Options

  #{Options.docs(:run)}
  """
  @spec run(cmd, keyword) ::
          {binary, non_neg_integer}
          | {binary, non_neg_integer, binary}
          | {:error, NetRunner.Error.reason()}
  def run(cmd, opts \\ []) do
    {cmd, opts} = Command.resolve(cmd, opts)

    with {:ok, options} <- Options.validate(opts, :run),
         {:ok, cmd} <- Executable.check_cmd(cmd),
         deadline = Pipe.deadline(options.timeout),
         {:ok, process} <- NetRunner.Process.start_checked(cmd, options, false) do
      try do
        collect(process, options, deadline)
      after
        NetRunner.Process.stop(process)
      end
    end
  end

  @doc """
  A lazy enumerable of the command's output: binaries of at most `max_chunk_size` bytes, as they come.

  The command starts when enumeration starts, waits while the consumer is busy, and is stopped and gone
  when enumeration ends, also when it is halted early. Each enumeration is a new run. A failing start
  raises `NetRunner.Error` then, a failing command raises `NetRunner.ExitError` after its last element
  (see `exit:` and `ok:`).

      iex> NetRunner.stream!(["printf", "a b c"]) |> Enum.join()
      "a b c"
      iex> NetRunner.stream!(["yes"]) |> Enum.take(1) |> hd() |> binary_part(0, 4)
      "y\\ny\\n"
      iex> NetRunner.stream!(["cat"], input: Stream.map(1..3, &"\#{&1};")) |> Enum.join()
      "1;2;3;"

  Raises at once only for what can be seen at once to be wrong with the command and the options.

  ## Options

  #{Options.docs(:stream)}
  """
  @spec stream!(cmd, keyword) :: Enumerable.t()
  def stream!(cmd, opts \\ []) do
    {cmd, opts} = Command.resolve(cmd, opts)

    with {:ok, options} <- Options.validate(opts, :stream),
         {:ok, cmd} <- Executable.check_cmd(cmd) do
      NetRunner.Stream.new(cmd, options)
    else
      {:error, reason} -> raise NetRunner.Error, reason: reason, cmd: printable(cmd)
    end
  end

  @doc """
  As `stream!/2`, but options, command and executable are checked at once: `{:ok, enumerable}` or
  `{:error, reason}`.

      iex> NetRunner.stream(["no-such-program"])
      {:error, :enoent}
  """
  @spec stream(cmd, keyword) :: {:ok, Enumerable.t()} | {:error, NetRunner.Error.reason()}
  def stream(cmd, opts \\ []) do
    {cmd, opts} = Command.resolve(cmd, opts)

    with {:ok, options} <- Options.validate(opts, :stream),
         {:ok, cmd} <- Executable.check_cmd(cmd),
         {:ok, _mode} <- Backend.mode(options.backend),
         {:ok, _path} <- Executable.check(hd(cmd), Executable.env(options.env)) do
      {:ok, NetRunner.Stream.new(cmd, options)}
    end
  end

  @doc ~S"""
  Every command of this node, the oldest first, however it was started: a map each.

    * `pid` - its server, `owner` - the process whose death stops it
    * `os_pid`, `cmd` - its pid in the operating system, and `[exe | args]`
    * `started_at` - a `DateTime` in UTC; `uptime_ms` - for how long it has run, by a clock that does not leap
    * `state` - `:running`, `:stopping` (the stop ladder has begun), or `:ended` (its server lives until it is
      stopped, see `NetRunner.Process`)
    * `stats` - the counters of its pipes, as `NetRunner.Process.stats/1`
    * `cpu_ms`, `rss_kb` - CPU time and resident memory of the command itself, without its children; nil where
      there is no `/proc`, and after the end

  Nobody is asked for it, so a command or a server that is stuck keeps nobody waiting.

      iex> {:ok, p} = NetRunner.Process.start("cat")
      iex> [%{pid: ^p, cmd: ["cat"], state: :running}] = Enum.filter(NetRunner.list(), & &1.pid == p)
      iex> NetRunner.Process.stop(p)
      iex> Enum.filter(NetRunner.list(), & &1.pid == p)
      []
  """
  @spec list :: [Stats.command()]
  def list, do: Stats.list()

  @doc """
  A table of the running commands, written anew each second until you press Enter: for iex.

      OS PID   STATE    UPTIME   CPU%    RSS    IN/S   OUT/S COMMAND
      4711     running   3m12s   12.0   2.1M       0   48.3M zcat huge.log.gz

  `IN/S` and `OUT/S` are the bytes that went into its stdin and that came out of its stdout and stderr each
  second since the table before, K, M and G are powers of 1024, `CPU%` and `RSS` are those of the command itself, without
  its children. What is not known is `-`. A terminal's width and height are kept to; where there is no
  terminal, the tables come one below the other. With `iterations:` it ends by itself and reads nothing.

  ## Options

  #{Options.docs(:top)}
  """
  @spec top(keyword) :: :ok
  def top(opts \\ []) do
    {:ok, options} = Options.validate(opts, :top)
    Top.run(options)
  end

  @doc """
  What the library runs on here, and why: `data` is how pipes can be waited for, `registered_buffers`
  whether the rings' buffers are registered, `containment` what finds a command's descendants:
  `:subreaper` all of them, `:group` (the portable build, no `/proc`) those in its process group.
  """
  @spec backend :: %{
          data: :io_uring | :poll,
          registered_buffers: boolean,
          containment: :subreaper | :group,
          why: String.t()
        }
  def backend do
    # Orphans that come to their guardian must also be found there.
    missing = [:subreaper, :children] -- NetRunner.Shepherd.info().features
    containment = if missing == [], do: :subreaper, else: :group
    Map.put(Backend.info(), :containment, containment)
  end

  ## Collecting

  defp collect(process, options, deadline) do
    ends = if options.stderr == :capture, do: [:stdout, :stderr], else: [:stdout]
    nothing = %{stdout: {[], 0}, stderr: {[], 0}}

    with {:ok, handles} <- handles(process, ends),
         {:ok, output} <- read_all(handles, options.max_output_size, deadline, %{}, nothing) do
      conclude(process, options, deadline, output)
    end
  end

  defp handles(_process, []), do: {:ok, []}

  defp handles(process, [name | rest]) do
    with {:ok, handle} <- NetRunner.Process.handle(process, name),
         {:ok, handles} <- handles(process, rest),
         do: {:ok, [{name, handle} | handles]}
  end

  defp read_all([], _limit, _deadline, _armed, output) do
    {:ok, Map.new(output, fn {tag, {chunks, _size}} -> {tag, binary(chunks)} end)}
  end

  defp read_all(handles, limit, deadline, armed, output) do
    case Pipe.read_either(handles, @read_max, deadline, armed) do
      {tag, {:ok, chunk}, armed} ->
        {chunks, size} = output[tag]
        size = size + byte_size(chunk)
        output = %{output | tag => {[chunk | chunks], size}}

        cond do
          size > limit ->
            Pipe.disarm(armed)
            partial = binary(elem(output.stdout, 0))

            {:error,
             {:max_output_exceeded, binary_part(partial, 0, min(byte_size(partial), limit))}}

          Pipe.over?(deadline) ->
            Pipe.disarm(armed)
            {:error, :timeout}

          true ->
            read_all(handles, limit, deadline, armed, output)
        end

      {tag, :eof, armed} ->
        read_all(Keyword.delete(handles, tag), limit, deadline, armed, output)

      {_tag, {:error, reason}, armed} ->
        Pipe.disarm(armed)
        {:error, reason}

      {:timeout, armed} ->
        Pipe.disarm(armed)
        {:error, :timeout}
    end
  end

  defp binary([chunk]), do: chunk
  defp binary(chunks), do: chunks |> Enum.reverse() |> IO.iodata_to_binary()

  defp conclude(process, options, deadline, output) do
    with {:ok, conclusion} <- NetRunner.Process.conclude(process, Pipe.left(deadline)),
         :ok <- fed(conclusion) do
      status = NetRunner.Process.status(conclusion.exit)

      if options.stderr == :capture,
        do: {output.stdout, status, output.stderr},
        else: {output.stdout, status}
    end
  end

  @doc false
  # How the input went. An exception of the enumerable given as `input:` belongs to the caller.
  def fed(%{fed: {:raised, kind, reason, stacktrace}}),
    do: :erlang.raise(kind, reason, stacktrace)

  def fed(%{fed: {:broken, reason}}), do: {:error, reason}
  def fed(_conclusion), do: :ok

  defp printable(cmd) do
    if is_list(cmd) and not List.improper?(cmd) and Enum.all?(cmd, &is_binary/1), do: cmd
  end
end
