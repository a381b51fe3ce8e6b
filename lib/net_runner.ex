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

    * `run/2` runs a command to its end and gives what it wrote and its status; `run!/2` raises unless
      it went well.
    * `exec/2` and `exec!/2` do the same and tell all about it: a `NetRunner.Result`.
    * `stream!/2` and `stream/2` make a lazy enumerable of what it writes.
    * `NetRunner.Process` is one command under your hands.
    * `NetRunner.Daemon` is a long-running command under a supervisor.
    * `NetRunner.Command` is a command as a value, with its options: it may stand wherever a list may.
    * `pipeline/1` joins commands by the kernel's pipes, to be run as one; `through/2` makes one a filter.
    * `NetRunner.Gate` says how many run at once.
    * `list/0` and `top/1` show what is running.
    * `NetRunner.Telemetry` has the events.

  ## What NetRunner logs

  Little: that the process which kept a command was killed, that a function given as `progress:` failed, that NetRunner's own
  helper ended and another is started, that io_uring cannot be used. Each line has the Logger metadata `domain: [:elixir, :net_runner]`
  (`[:net_runner]` is what was added to Elixir's own), and, where it is about one
  process of the operating system, `os_pid`; where that is a command, also `command`, the program's name. These
  two are the own metadata of a command's server, so what OTP reports of it has them, too.

  <!-- only compiled: it is a part of config.exs -->

      config :logger, :console, metadata: [:command, :os_pid]
  """

  alias NetRunner.{Backend, Collector, Command, Options, Pipeline, Plan, Result, Stats, Top}

  @type cmd :: [binary, ...] | Command.t() | Pipeline.t()

  @typedoc """
  What a function given as `progress:` is told, of a pipeline as a whole:

    * `state` - `:running`; `:finished` the last time, however the call ended
    * `elapsed_ms` - the time since the start
    * `bytes_in` - written to the stdin of the first command; nil where that is a file or `/dev/null`
    * `bytes_out` - read from the stdout of the last command; nil where that is a file or `/dev/null`
    * `total` - the size of the input, if it is a binary, iodata, or a file as it was at the start; else nil
    * `done` - how many of these bytes have been consumed: written to stdin, of which the pipe may still hold some, or the
      command's place in the file, as it was last seen while the command ran; once it went well, all of the file, if a third of it had been
      seen. nil without a `total`, where the place cannot be seen (no `/proc`, a command of another user, one that has
      closed its stdin at once), and where the run is over before the first look (some milliseconds)
    * `rate` - bytes each second, smoothed over the last seconds: of the input, while there is some left of a known
      `total`; else of the end where more comes through. At the end, the average of the whole. nil where neither end comes here
    * `eta_ms` - the time that the rest of the input takes at this rate; nil where that is not known
  """
  @type progress :: %{
          state: :running | :finished,
          elapsed_ms: non_neg_integer,
          bytes_in: non_neg_integer | nil,
          bytes_out: non_neg_integer | nil,
          total: non_neg_integer | nil,
          done: non_neg_integer | nil,
          rate: non_neg_integer | nil,
          eta_ms: non_neg_integer | nil
        }

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
      iex> NetRunner.run(["printf", "one\\ntwo"], lines: true)
      {["one", "two"], 0}
      iex> NetRunner.run(["no-such-program"])
      {:error, :enoent}

  stdin is /dev/null unless `input:` is given. If `input:` raises, the command is stopped and the
  exception is raised here.

  Relative paths, that of the executable and those of files in `input:`, `stdout:` and `stderr:`, start at the BEAM's
  directory, whatever `cd:` says.

  ## Options

  #{Options.docs(:run)}
  """
  @spec run(cmd, keyword) ::
          {collected :: term, non_neg_integer}
          | {collected :: term, non_neg_integer, binary}
          | {:error, NetRunner.Error.reason()}
  def run(cmd, opts \\ []) do
    {outcome, options} = execute(cmd, opts, :run)
    answer(outcome, options)
  end

  @doc """
  As `run/2`, for commands that must not fail: raises `NetRunner.ExitError` unless the command ended by itself
  with an exit code that is in `ok:`. One that was stopped by a time-out or a limit, or whose guardian was lost,
  raises it, too, with that `cause`. `NetRunner.Error` is raised where nothing ran, and for the `error` of a
  `NetRunner.Result`: nobody can kill it, or its pipes failed.

      iex> NetRunner.run!(["echo", "hello"])
      {"hello\\n", 0}
      iex> NetRunner.run!(["grep", "x", "/dev/null"], ok: [0, 1])
      {"", 1}
      iex> NetRunner.run!(["no-such-program"])
      ** (NetRunner.Error) no-such-program: no such file or directory (enoent)

  ## Options

  #{Options.docs(:run!)}
  """
  @spec run!(cmd, keyword) ::
          {collected :: term, non_neg_integer} | {collected :: term, non_neg_integer, binary}
  def run!(cmd, opts \\ []) do
    {outcome, options} = execute(cmd, opts, :run!)
    answer({:ok, ok!(outcome), nil}, options)
  end

  @doc """
  Runs a command to its end and tells all about it: output, exit, cause, time and resources used, in a
  `NetRunner.Result`. Also a command that fails, is stopped by `timeout:` or passes a limit is `{:ok, result}`,
  with what it wrote until then, and so is one that cannot be killed or whose pipes fail (then the result has an
  `error`). `{:error, reason}` only if nothing ran.

      iex> {:ok, result} = NetRunner.exec(["sh", "-c", "echo half; echo oops >&2; sleep 60"], timeout: 2_000)
      iex> {result.stdout, result.stderr, result.exit, result.cause}
      {"half\\n", "oops\\n", {:signaled, :sigterm}, :timeout}
      iex> {:ok, result} = NetRunner.exec(["seq", "100000"], max_output_size: 4, overflow: :tail)
      iex> {result.stdout, result.exit, result.truncated?}
      {"000\\n", {:exited, 0}, true}

  ## Options

  #{Options.docs(:exec)}
  """
  @spec exec(cmd, keyword) :: {:ok, Result.t()} | {:error, NetRunner.Error.reason()}
  def exec(cmd, opts \\ []) do
    case execute(cmd, opts, :exec) do
      {{:ok, %{result: result}, _broke_off}, _options} -> {:ok, result}
      {{:error, reason, _cmd}, _options} -> {:error, reason}
    end
  end

  @doc """
  As `exec/2`, but raises `NetRunner.ExitError` unless the command ended by itself with an exit code that
  is in `ok:`, and `NetRunner.Error` for what `exec/2` gives as `{:error, reason}` or as a result with an `error`.

      iex> NetRunner.exec!(["echo", "hello"]).stdout
      "hello\\n"

  ## Options

  #{Options.docs(:exec!)}
  """
  @spec exec!(cmd, keyword) :: Result.t()
  def exec!(cmd, opts \\ []) do
    {outcome, _options} = execute(cmd, opts, :exec!)
    ok!(outcome).result
  end

  @doc """
  A lazy enumerable of the command's output: binaries of at most `max_chunk_size` bytes, as they come; lines
  with `lines:`, which are as long as they are (see `max_line_length:`). A line keeps the chunk that it lay in, up to 64 KiB,
  for as long as it is kept: copy the few that you keep (`:binary.copy/1`).

  The command starts when enumeration starts, waits while the consumer is busy, and is stopped and gone
  when enumeration ends, also when it is halted early. It belongs to the process that starts the enumeration: where
  another goes on with a suspended one, the death of the first is a `NetRunner.Error` with `:closed`. Each
  enumeration is a new run. A failing start
  raises `NetRunner.Error` then, a failing command raises `NetRunner.ExitError` after its last element
  (see `exit:` and `ok:`).

      iex> NetRunner.stream!(["printf", "a b c"]) |> Enum.join()
      "a b c"
      iex> NetRunner.stream!(["yes"]) |> Enum.take(1) |> hd() |> binary_part(0, 4)
      "y\\ny\\n"
      iex> NetRunner.stream!(["cat"], input: Stream.map(1..3, &"\#{&1};")) |> Enum.join()
      "1;2;3;"
      iex> NetRunner.stream!(["printf", "a,b,c"], lines: ",") |> Enum.to_list()
      ["a", "b", "c"]
      iex> NetRunner.stream!(["sh", "-c", "echo out; echo err >&2"], stderr: :tagged) |> Enum.sort()
      [stderr: "err\\n", stdout: "out\\n"]

  Raises at once only for what can be seen at once to be wrong with the command and the options.

  ## Frames

  With `packet:` the elements are frames, as of a port with `{:packet, n}`, and so is what the command is fed:

      iex> NetRunner.stream!(["cat"], input: ["one", "", "three"], packet: 4) |> Enum.to_list()
      ["one", "", "three"]

  Records between NULs (`find -print0`, `git -z`) are `lines: <<0>>`.

  ## Both outputs, with times

  `stderr: :tagged` and `{:tagged, :timestamps}` give stdout and stderr as one sequence of elements. Here stdin ends 20 ms after the start, and
  only then something is said on stderr:

      iex> script = "echo out; read seen; echo err >&2"
      iex> [{:stdout, "out", first}, {:stderr, "err", second}] =
      ...>   NetRunner.stream!(["sh", "-c", script], input: fn _sink -> Process.sleep(20) end, stderr: {:tagged, :timestamps}, lines: true)
      ...>   |> Enum.to_list()
      iex> System.convert_time_unit(second - first, :native, :millisecond) >= 10
      true

  The time is `System.monotonic_time/0`, in its native unit, taken right after the element's last byte was read; plus
  `System.time_offset/0` it is a time of the day. It never goes back from one element to the next. A last line without its separator
  has the time at which its output ended. What lay in a pipe before it was read (while you were busy with the element before) has no
  earlier time than that.

  Two pipes have no common order in the kernel. What can be had, and is:

    * Bytes that the command wrote after what it wrote before had been read come behind it, whichever pipe they took. A command that waits
      for an answer to each thing it says is told in exactly its order.
    * While you wait for the next element, the output that has something first is read first. After each read the other output is looked at
      before more of the same.
    * What was written to both before either was looked at can come in either order: a read takes all that a pipe has, up to
      `max_chunk_size` and 64 KiB.

  Where the true order matters, let the command write into one pipe: `stderr: :merge`, or the terminal of `pty:`. Nobody can tell
  the two apart then.

  ## Options

  #{Options.docs(:stream)}
  """
  @spec stream!(cmd, keyword) :: Enumerable.t()
  def stream!(cmd, opts \\ []) do
    case Plan.new(cmd, opts, :stream) do
      {:ok, plan} -> NetRunner.Stream.new(plan)
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
    with {:ok, plan} <- Plan.new(cmd, opts, :stream),
         :ok <- Plan.check(plan) do
      {:ok, NetRunner.Stream.new(plan)}
    else
      {:error, reason, _cmd} -> {:error, reason}
      {:error, reason} -> {:error, reason}
    end
  end

  @doc """
  Commands that are joined by the kernel's pipes, to be run as one: `NetRunner.Pipeline` says what may stand in the list, which
  options go where, and how such a thing ends. It may stand wherever these calls take a command.

      iex> NetRunner.run(NetRunner.pipeline([["printf", "b a c"], ["tr", " ", "\\n"], ["sort"]]))
      {"a\\nb\\nc\\n", 0}
      iex> words = NetRunner.pipeline([["tr", " ", "\\n"], ["sort"]])
      iex> NetRunner.stream!(words, input: ["b a", " c"], lines: true) |> Enum.to_list()
      ["a", "b", "c"]
  """
  @spec pipeline([Pipeline.stage(), ...]) :: Pipeline.t()
  def pipeline(stages), do: Pipeline.new(stages)

  @doc """
  A command, or a pipeline, as a filter in a chain of `Enum` and `Stream`: `enumerable` is its `input:`, what it writes is the
  stream, lazy on both sides.

      iex> ["b", "a", "c"] |> Stream.map(&[&1, "\\n"]) |> NetRunner.through(["sort"], lines: true) |> Enum.to_list()
      ["a", "b", "c"]

  The options are those of `stream!/2`, without `input:`. The enumerable is evaluated in a process of its own while the stream is;
  if it raises, so does the stream.
  """
  @spec through(Enumerable.t(), cmd, keyword) :: Enumerable.t()
  def through(enumerable, cmd, opts \\ []) do
    if Keyword.keyword?(opts) and Keyword.has_key?(opts, :input),
      do: raise(ArgumentError, "what goes through a command is its input: :input cannot be given")

    # What else they are, stream!/2 says.
    stream!(cmd, if(Keyword.keyword?(opts), do: [input: enumerable] ++ opts, else: opts))
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

  <!-- no code: it is what top writes -->

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
  `:subreaper` all of them, `:group` (the portable build, no `/proc`) those in its process group. Whether a cgroup
  can be had depends on its parent, so it is not known before a command asks for one (`cgroup:`): that command runs in it, or
  not at all, and its `NetRunner.Result` has `containment: :cgroup`.
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

  ## What the calls have in common

  # Whatever is wrong with options and command is told before anything starts.
  defp execute(cmd, opts, call) do
    case Plan.new(cmd, opts, call) do
      {:ok, plan} -> {Collector.run(plan), plan.options}
      {:error, reason} -> {{:error, reason, printable(cmd)}, nil}
    end
  end

  defp answer({:ok, %{result: result}, broke_off}, options),
    do: answer(result, broke_off, options)

  defp answer({:error, reason, _cmd}, _options), do: {:error, reason}

  defp answer(%Result{error: reason}, _broke_off, _options) when reason != nil,
    do: {:error, reason}

  defp answer(%Result{cause: :guardian_lost}, _broke_off, _options), do: {:error, :guardian_lost}

  defp answer(result, :max_output_exceeded, _options),
    do: {:error, {:max_output_exceeded, result.stdout}}

  defp answer(_result, broke_off, _options) when broke_off != nil, do: {:error, broke_off}

  defp answer(result, nil, %{stderr: :capture}),
    do: {result.stdout, Result.status(result), result.stderr}

  defp answer(result, nil, _options), do: {result.stdout, Result.status(result)}

  defp ok!({:error, reason, cmd}), do: raise(NetRunner.Error, reason: reason, cmd: cmd)

  defp ok!({:ok, %{result: %{error: reason} = result}, _broke_off}) when reason != nil,
    do: raise(NetRunner.Error, reason: reason, cmd: result.cmd, stderr: result.stderr)

  defp ok!({:ok, %{ok?: true} = ended, _broke_off}), do: ended

  defp ok!({:ok, %{result: result} = ended, broke_off}) do
    limit = if result.cause == :output_limit, do: broke_off
    raise %{NetRunner.ExitError.of(ended) | result: result, limit: limit}
  end

  # A pipeline that was not begun is none of its commands.
  defp printable(%Pipeline{}), do: nil
  defp printable(%Command{} = command), do: printable([command.exe | command.args])

  defp printable(cmd) do
    if is_list(cmd) and not List.improper?(cmd) and Enum.all?(cmd, &is_binary/1), do: cmd
  end
end
