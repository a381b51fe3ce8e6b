defmodule NetRunner do
  @moduledoc """
  Runs OS processes from Elixir: gigabytes stream through them with back-pressure, nothing that was
  started is left behind, and one command costs no more than the built-in way.

      {output, 0} = NetRunner.run(["ls", "-l"])

      NetRunner.stream!(["zcat", "huge.log.gz"])
      |> Stream.map(&byte_size/1)
      |> Enum.sum()

  A command is a list: the executable, looked up in the PATH that the command itself will see, and its
  arguments. There is no shell unless you start one.

    * `run/2` runs a command to its end and gives what it wrote and its status; `run!/2` raises unless
      it went well.
    * `exec/2` and `exec!/2` do the same and tell all about it: a `NetRunner.Result`.
    * `stream!/2` and `stream/2` make a lazy enumerable of what it writes.
    * `NetRunner.Process` is one command under your hands.
    * `NetRunner.Daemon` is a long-running command under a supervisor.
  """

  alias NetRunner.{Backend, Collector, Executable, Options, Result}

  @type cmd :: [binary, ...]

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
  As `run/2`, for commands that must not fail: raises `NetRunner.ExitError` unless the exit code is in
  `ok:`, and `NetRunner.Error` for what `run/2` gives as `{:error, reason}`.

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
    result = ok!(outcome, cmd, options)
    answer({:ok, result, nil}, options)
  end

  @doc """
  Runs a command to its end and tells all about it: output, exit, cause, time and resources used, in a
  `NetRunner.Result`. Also a command that fails, is stopped by `timeout:` or passes a limit is `{:ok, result}`,
  with what it wrote until then. `{:error, reason}` only if nothing ran, if it cannot be
  killed (`{:unkillable, pids}`), or if its input broke off.

      iex> {:ok, result} = NetRunner.exec(["sh", "-c", "echo half; echo oops >&2; sleep 60"], timeout: 100)
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
      {{:ok, result, _broke_off}, _options} -> {:ok, result}
      {{:error, reason}, _options} -> {:error, reason}
    end
  end

  @doc """
  As `exec/2`, but raises `NetRunner.ExitError` unless the command ended by itself with an exit code that
  is in `ok:`, and `NetRunner.Error` if nothing ran.

      iex> NetRunner.exec!(["echo", "hello"]).stdout
      "hello\\n"

  ## Options

  #{Options.docs(:exec!)}
  """
  @spec exec!(cmd, keyword) :: Result.t()
  def exec!(cmd, opts \\ []) do
    {outcome, options} = execute(cmd, opts, :exec!)
    ok!(outcome, cmd, options)
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
      iex> NetRunner.stream!(["printf", "a,b,c"], lines: ",") |> Enum.to_list()
      ["a", "b", "c"]
      iex> NetRunner.stream!(["sh", "-c", "echo out; echo err >&2"], stderr: :tagged) |> Enum.sort()
      [stderr: "err\\n", stdout: "out\\n"]

  Raises at once only for what can be seen at once to be wrong with the command and the options.

  ## Options

  #{Options.docs(:stream)}
  """
  @spec stream!(cmd, keyword) :: Enumerable.t()
  def stream!(cmd, opts \\ []) do
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
    with {:ok, options} <- Options.validate(opts, :stream),
         {:ok, cmd} <- Executable.check_cmd(cmd),
         {:ok, _mode} <- Backend.mode(options.backend),
         {:ok, _path} <- Executable.check(hd(cmd), Executable.env(options.env)) do
      {:ok, NetRunner.Stream.new(cmd, options)}
    end
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

  ## What the calls have in common

  # Whatever is wrong with options and command is told before anything starts.
  defp execute(cmd, opts, call) do
    with {:ok, options} <- Options.validate(opts, call),
         {:ok, cmd} <- Executable.check_cmd(cmd) do
      {Collector.run(cmd, options), options}
    else
      {:error, reason} -> {{:error, reason}, nil}
    end
  end

  defp answer({:ok, %Result{cause: :guardian_lost}, _broke_off}, _options),
    do: {:error, :guardian_lost}

  defp answer({:ok, result, :max_output_exceeded}, _options),
    do: {:error, {:max_output_exceeded, result.stdout}}

  defp answer({:ok, _result, broke_off}, _options) when broke_off != nil, do: {:error, broke_off}

  defp answer({:ok, result, nil}, %{stderr: :capture}),
    do: {result.stdout, Result.status(result), result.stderr}

  defp answer({:ok, result, nil}, _options), do: {result.stdout, Result.status(result)}
  defp answer({:error, reason}, _options), do: {:error, reason}

  defp ok!({:error, reason}, cmd, _options),
    do: raise(NetRunner.Error, reason: reason, cmd: printable(cmd))

  defp ok!({:ok, result, _broke_off}, _cmd, options) do
    if Result.ok?(result, options.ok),
      do: result,
      else: raise(%{NetRunner.ExitError.of(result, options) | result: result})
  end

  defp printable(cmd) do
    if is_list(cmd) and not List.improper?(cmd) and Enum.all?(cmd, &is_binary/1), do: cmd
  end
end
