defmodule NetRunner.Compat.Exile.Process do
  @moduledoc """
  `Exile.Process` of Exile 0.14.0, run by NetRunner: a command whose pipes are read and written by the processes that
  own them.

      alias NetRunner.Compat.Exile

      {:ok, p} = Exile.Process.start_link(["cat"])
      :ok = Exile.Process.write(p, "hello")
      {:ok, "hello"} = Exile.Process.read(p)
      {:ok, 0} = Exile.Process.await_exit(p)

  ## What is the same

  The caller of `start_link/2` is the owner of the command and, to begin with, of its pipes. Owner and command are linked; when the owner
  ends, however it does, the command is stopped. Only the owner of a pipe may read, write or close it; a pipe is closed when
  its owner ends; `change_pipe_owner/3` gives it to another. `await_exit/2` is for the owner: it closes the pipes that the owner has,
  waits, stops the command when it has waited long enough (SIGTERM, then SIGKILL), and ends the whole.

  ## What differs

  | | Exile | here |
  |---|---|---|
  | processes that the command has started | may live on | end with it, also when the BEAM is killed |
  | a command that is not there | `{:error, text}` | `{:error, :enoent}`, as other reasons of `NetRunner.Error` |
  | an unknown option | `{:error, text}` | raises `ArgumentError` |
  | SIGTERM of `await_exit/2` | at a quarter of the time-out, and SIGKILL at its end (its documentation says more and less) | when the time-out is over, and SIGKILL a second later |
  | a command that writes where nobody reads | is told by EPIPE | is ended by SIGPIPE (status 141), as from a shell |
  | the fields of `t:t/0` | its own | others; they were private |
  | a message to the owner when the command ends | comes | does not |
  | a read | gives up to `max_size` bytes | and at most 64 KiB |
  | two processes that read one pipe at once | - | the second gets `{:error, :busy}` |

  To leave this module for `NetRunner.Process`, where pipes have no owners and nothing is linked: `docs/migration/exile.md`.
  """

  alias NetRunner.Compat
  alias NetRunner.Compat.Exile.{Options, Pipes}

  @enforce_keys [:pid, :process, :owner]
  defstruct [:pid, :process, :owner]

  @type t :: %__MODULE__{pid: pid, process: NetRunner.Process.t(), owner: pid}
  @type pipe_name :: :stdin | :stdout | :stderr

  @max_chunk_size 65_535

  @doc """
  Starts a command, linked to the caller.

      iex> alias NetRunner.Compat.Exile.Process
      iex> {:ok, p} = Process.start_link(["sh", "-c", "echo Hello; echo World >&2"], stderr: :consume)
      iex> {Process.read(p, 100), Process.read_stderr(p, 100), Process.await_exit(p)}
      {{:ok, "Hello\\n"}, {:ok, "World\\n"}, {:ok, 0}}

  ## Options

    * `:cd` - the directory to run in.
    * `:env` - a list of `{name, value}`.
    * `:stderr` - `:console` (the BEAM's own), `:redirect_to_stdout`, `:disable` or `:consume` (read it with `read_stderr/2` or
      `read_any/2`, or the command waits). Default: `:console`.
  """
  @spec start_link([binary, ...], keyword) :: {:ok, t} | {:error, NetRunner.Error.reason()}
  def start_link([_exe | _args] = cmd, opts \\ []) do
    call = "NetRunner.Compat.Exile.Process.start_link/2"
    {_none, options} = Options.take!(opts, call, fn _option -> :none end)
    Compat.check_words!(cmd, call)

    with {:ok, pid, process} <- Pipes.start_link(cmd, options),
         do: {:ok, %__MODULE__{pid: pid, process: process, owner: self()}}
  end

  @doc "At least one byte and at most `max_size` of stdout, or `:eof`. Waits until there is something."
  @spec read(t, pos_integer) :: {:ok, binary} | :eof | {:error, term}
  def read(p, max_size \\ @max_chunk_size),
    do: owned(p, [:stdout], fn _all -> NetRunner.Process.read(p.process, max_size) end)

  @doc "As `read/2`, of stderr, with `stderr: :consume`."
  @spec read_stderr(t, pos_integer) :: {:ok, binary} | :eof | {:error, term}
  def read_stderr(p, max_size \\ @max_chunk_size),
    do: owned(p, [:stderr], fn _all -> NetRunner.Process.read_stderr(p.process, max_size) end)

  @doc "As `read/2`, of stdout or stderr, whichever has something first: `{:ok, {:stdout | :stderr, binary}}`."
  @spec read_any(t, pos_integer) :: {:ok, {:stdout | :stderr, binary}} | :eof | {:error, term}
  def read_any(p, max_size \\ @max_chunk_size) do
    owned(p, [:stdout, :stderr], fn
      [:stdout, :stderr] -> NetRunner.Process.read_any(p.process, max_size)
      [:stdout] -> tag(:stdout, NetRunner.Process.read(p.process, max_size))
      [:stderr] -> tag(:stderr, NetRunner.Process.read_stderr(p.process, max_size))
    end)
  end

  defp tag(name, {:ok, bytes}), do: {:ok, {name, bytes}}
  defp tag(_name, eof_or_error), do: eof_or_error

  @doc "Writes to stdin, and waits until all of it is taken."
  @spec write(t, iodata) :: :ok | {:error, term}
  def write(p, data),
    do: owned(p, [:stdin], fn _all -> NetRunner.Process.write(p.process, data) end)

  # The bytes pass between the pipe and the caller; the keeper of the pipes is only asked whose they are.
  defp owned(p, pipes, fun) do
    case Pipes.owned(p.pid, pipes) do
      [] -> {:error, :pipe_closed_or_invalid_caller}
      some -> with {:error, :closed} <- fun.(some), do: {:error, :pipe_closed_or_invalid_caller}
    end
  end

  @doc "Closes stdin: the command sees the end of its input. For the owner of that pipe."
  @spec close_stdin(t) :: :ok | {:error, :pipe_closed_or_invalid_caller | term}
  def close_stdin(p), do: Pipes.close(p.pid, :stdin)

  @doc "Closes stdout: the command's next write to it is SIGPIPE to it. For the owner of that pipe."
  @spec close_stdout(t) :: :ok | {:error, :pipe_closed_or_invalid_caller | term}
  def close_stdout(p), do: Pipes.close(p.pid, :stdout)

  @doc "Closes stderr, as `close_stdout/1`."
  @spec close_stderr(t) :: :ok | {:error, :pipe_closed_or_invalid_caller | term}
  def close_stderr(p), do: Pipes.close(p.pid, :stderr)

  @doc """
  Makes another process the owner of a pipe. Any process may.

      iex> alias NetRunner.Compat.Exile.Process
      iex> {:ok, p} = Process.start_link(["cat"])
      iex> writer = Task.async(fn ->
      ...>   :ok = Process.change_pipe_owner(p, :stdin, self())
      ...>   Process.write(p, "Hello World")
      ...> end)
      iex> {Task.await(writer), Process.read(p, 100), Process.await_exit(p)}
      {:ok, {:ok, "Hello World"}, {:ok, 0}}
  """
  @spec change_pipe_owner(t, pipe_name, pid) :: :ok | {:error, :closed}
  def change_pipe_owner(p, pipe, owner) when pipe in [:stdin, :stdout, :stderr] and is_pid(owner),
    do: Pipes.give(p.pid, pipe, owner)

  @doc "Sends SIGTERM or SIGKILL to the command."
  @spec kill(t, :sigkill | :sigterm) :: :ok | {:error, term}
  def kill(p, signal) when signal in [:sigkill, :sigterm],
    do:
      with(
        {:error, :not_running} <- NetRunner.Process.kill(p.process, signal, :leader),
        do: {:error, :process_not_alive}
      )

  @doc """
  Closes the caller's pipes and waits for the command's end: its exit status, or 128 plus the number of the signal that ended
  it. One that has not ended within `timeout` is stopped. For the owner, who calls it once.

      iex> alias NetRunner.Compat.Exile.Process
      iex> {:ok, p} = Process.start_link(~w(sleep 100000000))
      iex> Process.await_exit(p, 100)
      {:ok, 143}
  """
  @spec await_exit(t, timeout) :: {:ok, non_neg_integer} | {:error, term}
  def await_exit(p, timeout \\ 5_000) do
    unless p.owner == self(),
      do:
        raise(
          ArgumentError,
          "await_exit is for the owner #{inspect(p.owner)}, not #{inspect(self())}"
        )

    Pipes.close_all(p.pid)
    answer = Options.await_exit(p.process, timeout)
    Pipes.stop(p.pid)
    answer
  end

  @doc "The command's pid in the operating system."
  @spec os_pid(t) :: pos_integer
  def os_pid(p) do
    {:ok, os_pid} = NetRunner.Process.os_pid(p.process)
    os_pid
  end
end
