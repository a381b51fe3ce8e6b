defmodule NetRunner.Process do
  @moduledoc """
  One command under your hands: start it, read and write its pipes when you like, signal it, wait for
  its end.

      {:ok, p} = NetRunner.Process.start("cat")
      :ok = NetRunner.Process.write(p, "hello")
      {:ok, "hello"} = NetRunner.Process.read(p)
      :ok = NetRunner.Process.close_stdin(p)
      :eof = NetRunner.Process.read(p)
      {:ok, 0} = NetRunner.Process.await_exit(p)
      :ok = NetRunner.Process.stop(p)

  `read/3` and `write/3` work on the pipe itself, from the calling process: data does not pass through
  this server. A full pipe makes the writer wait and an empty one the reader: that is the
  back-pressure. One reader and one writer at a time per pipe, a second gets `{:error, :busy}`.

  The server lives until `stop/1` or its owner's death, so results can be asked for after the exit.
  Nothing here ever exits the caller.

  ## Terminals

  With `pty:` the command lives in a terminal: an interactive shell, an editor, a program that asks for a password. It is read as
  stdout and written as stdin; `await_output/3` waits for a prompt, `set_window_size/3` changes its size, `close_stdin/1` types
  its end-of-file character. `stop/1` and the death of the owner close it (SIGHUP) as well as going down the ladder;
  `shutdown/3` leaves it open for what the command still says.

  ## The end of a command

  However a command's end is brought about (`stop/1`, `shutdown/3`, a time-out, the death of its owner,
  of this server, or of the whole BEAM) the ladder is the same: `stop_signal` to its process group, a
  SIGCONT, `kill_timeout` of grace, SIGKILL, and then whatever else it left behind, daemons included.
  """

  # Elixir's Process is meant wherever `Process` stands in this file.

  import NetRunner.Tagged, only: [is_tagged: 1]

  alias NetRunner.{Cgroup, Command, Environment, Executable, Gate, Input, Nif, Options, Pipe}
  alias NetRunner.{Protocol, Replay, Result, Search, Settings, Signal, Stats, Telemetry, Terminal}
  alias NetRunner.Process.{Frames, Server}

  @read_max 262_144

  # Words. A server comes to that anyhow, by four collections, in its first millisecond.
  @server_heap 987
  # How long the server may take to answer: it never waits.
  @answer_timeout 5_000
  @u32_max 0xFFFF_FFFF

  @type t :: pid
  @type status :: 0..255
  @type exit_reason :: Result.exit_reason()
  @type reason :: NetRunner.Error.reason()
  ## Starting

  @doc """
  Starts a command, not linked to the caller. `{:error, reason}` if nothing runs: the reasons are those
  of `NetRunner.Error`. If an `input:` raises, that is logged, and the command is stopped. In place of an executable a `NetRunner.Command` may stand, which `args` are appended
  to.

  ## Options

  #{Options.docs(:process)}
  """
  @spec start(binary | Command.t(), [binary], keyword) :: {:ok, t} | {:error, reason}
  def start(exe, args \\ [], opts \\ []), do: do_start(exe, args, opts, false)

  @doc "As `start/3`, linked to the caller, as a supervisor wants it."
  @spec start_link(binary | Command.t(), [binary], keyword) :: {:ok, t} | {:error, reason}
  def start_link(exe, args \\ [], opts \\ []), do: do_start(exe, args, opts, true)

  @doc """
  A child specification from `{exe, args, opts}` or a `NetRunner.Command`; its shutdown is longer than the
  stop ladder. `env:` and `input:` stand in it within a `NetRunner.Command`: a supervisor's reports do not show them.
  """
  def child_spec(%Command{} = command), do: child_spec({command, [], []})

  def child_spec({exe, args, opts}) do
    {[name | _args] = cmd, opts} = resolve(exe, args, opts)

    # A wrong type raises here. A value that cannot be is start_link's to tell.
    options =
      with {:error, _reason} <- Options.validate(opts, :process),
           do: Options.validate([], :process)

    {:ok, %{kill_timeout: kill_timeout}} = options

    %{
      id: {__MODULE__, name},
      start: {__MODULE__, :start_link, start_args(Command.conceal(cmd, opts))},
      restart: :temporary,
      shutdown: min(kill_timeout + Server.after_grace(), @u32_max)
    }
  end

  defp start_args({[exe | args], opts}), do: [exe, args, opts]
  defp start_args({%Command{} = command, opts}), do: [command, [], opts]

  defp resolve(%Command{} = command, args, opts),
    do: command |> Command.for_call(:process) |> Command.resolve(args, opts)

  defp resolve(exe, args, opts), do: Command.resolve([exe | args], opts)

  defp do_start(exe, args, opts, link?) do
    {cmd, opts} = resolve(exe, args, opts)

    with {:ok, options} <- Options.validate(opts, :process),
         {:ok, cmd} <- Executable.check_cmd(cmd) do
      start_checked(cmd, options, link?)
    end
  end

  @doc false
  # For the calls whose options were validated already (run, stream).
  @spec start_checked([binary, ...], Options.t(), boolean) :: {:ok, t} | {:error, reason}
  def start_checked(cmd, options, link?) do
    began = Telemetry.clock()

    with {:error, reason} <- start_server(cmd, options, link?) do
      Telemetry.failed(began, shown(cmd, options), reason)
      {:error, reason}
    end
  end

  defp start_server(cmd, options, link?) do
    # Who cannot name an owner reads to the end itself, and concludes.
    options = Map.put(options, :concludes?, not is_map_key(options, :owner))
    options = Map.put_new_lazy(options, :owner, &self/0)

    with {:ok, program, options} <- Replay.program(cmd, options),
         {:ok, program} <- Executable.found(program, options),
         {:ok, mode} <- Terminal.mode(options),
         {:ok, path} <- Executable.resolve(hd(program), Environment.path(options.env)),
         {:ok, settings} <- Settings.resolve(options),
         {_id, spawn} = request = request(program, path, settings, options),
         {:fits, true} <- {:fits, Protocol.fits?(spawn)} do
      callers = [self() | Process.get(:"$callers", [])]

      # Its values are in the request. In the server's state they would be in the report of any crash.
      options = Map.delete(options, :env)
      options = Map.put(options, :gates, Gate.about())

      args = {shown(cmd, options), request, mode, options, callers, link?}

      case GenServer.start(Server, args, spawn_opt: [min_heap_size: @server_heap]) do
        # :shutdown keeps a start that failed from being logged as a crash.
        {:error, {:shutdown, reason}} -> {:error, reason}
        result -> result
      end
    else
      {:fits, false} -> {:error, :e2big}
      error -> error
    end
  end

  # A tee is not known by its program, but by what its copy is.
  defp shown(cmd, options), do: Map.get(options, :shown, cmd)

  defp request([exe | args], path, settings, options) do
    id = System.unique_integer([:positive])

    spawn = %{
      exe: path,
      cd: options.cd || "",
      argv: [options.arg0 || exe | args],
      env: Environment.block(options.env),
      stop_signal: options.stop_signal,
      kill_timeout: options.kill_timeout,
      drain_timeout: options.drain_timeout,
      stdin: child_stdin(options.input),
      stdout: child_stdout(options.stdout),
      stderr: child_stderr(options.stderr),
      orphans: options.orphans,
      pty: options.pty != false,
      settings: settings,
      cgroup: Cgroup.order(options.cgroup, id)
    }

    {id, Protocol.spawn(id, Terminal.stdio(spawn, options))}
  end

  defp child_stdin(:null), do: :null
  defp child_stdin({:file, _path} = file), do: file
  defp child_stdin({:joint, _joint} = joint), do: joint
  defp child_stdin(_written_by_us), do: :pipe

  defp child_stdout(:discard), do: :null
  defp child_stdout(pipe_or_file), do: pipe_or_file

  defp child_stderr(:discard), do: :null
  defp child_stderr(read_by_us) when read_by_us in [:consume, :capture, :pipe], do: :pipe
  defp child_stderr(tagged) when is_tagged(tagged), do: :pipe
  defp child_stderr(merge_inherit_or_file), do: merge_inherit_or_file

  ## Reading and writing

  @doc """
  Reads from stdout: at least one byte, at most `max` (and at most 64 KiB). Waits until there is
  something. `:eof` when no process of the command can write any more.
  """
  @spec read(t, pos_integer, timeout) ::
          {:ok, binary} | :eof | {:error, :timeout | :busy | :closed | NetRunner.Error.posix()}
  def read(p, max \\ @read_max, timeout \\ :infinity), do: read_from(p, :stdout, max, timeout)

  @doc "As `read/3`, from stderr; for a command started with `stderr: :pipe` (or `:capture`)."
  @spec read_stderr(t, pos_integer, timeout) ::
          {:ok, binary} | :eof | {:error, :timeout | :busy | :closed | NetRunner.Error.posix()}
  def read_stderr(p, max \\ @read_max, timeout \\ :infinity),
    do: read_from(p, :stderr, max, timeout)

  @doc """
  Reads from stdout or stderr, whichever has something first; for a command started with `stderr: :pipe`.
  `:eof` when both have ended.
  """
  @spec read_any(t, pos_integer, timeout) ::
          {:ok, {:stdout | :stderr, binary}}
          | :eof
          | {:error, :timeout | :busy | :closed | NetRunner.Error.posix()}
  def read_any(p, max \\ @read_max, timeout \\ :infinity) when is_integer(max) and max > 0 do
    with {:ok, pipes} <- lookup(p) do
      handles = for name <- [:stdout, :stderr], handle = pipes[name], do: {name, handle}

      case Pipe.read_any(handles, max, Pipe.deadline(timeout)) do
        {name, {:ok, bytes}} -> {:ok, {name, bytes}}
        eof_or_error -> eof_or_error
      end
    end
  end

  defp read_from(p, end_name, max, timeout) when is_integer(max) and max > 0 do
    case handle(p, end_name) do
      {:ok, handle} -> Pipe.read(handle, max, Pipe.deadline(timeout))
      error -> error
    end
  end

  @doc ~S"""
  Reads from stdout until `pattern` is there, a binary that is not empty or a regular expression: `{:ok, {before,
  match}}`, where `before` is all that was not read yet and stood before the match. What follows it is left for
  the next `read/3`, `read_any/3` or `await_output/3`.

      iex> {:ok, p} = NetRunner.Process.start("sh", ["-c", "printf 'ready\n$ '; read word; echo got $word"])
      iex> NetRunner.Process.await_output(p, "$ ")
      {:ok, {"ready\n", "$ "}}
      iex> NetRunner.Process.write(p, "it\n")
      :ok
      iex> NetRunner.Process.await_output(p, ~r/got \w+/)
      {:ok, {"", "got it"}}
      iex> NetRunner.Process.read(p)
      {:ok, "\n"}
      iex> NetRunner.Process.await_output(p, "more")
      {:error, :no_match}
      iex> NetRunner.Process.stop(p)
      :ok

  `{:error, :no_match}` when the output ends without it, or 16 MiB have come that have none; `{:error, :timeout}`
  when it has not come in time. In both cases nothing is lost: the next read gets all of it.

  A regular expression is tried on what has come so far, so `~r/\$ $/` matches a prompt that nothing follows yet, and
  may match less than it would a moment later: `~r/\d+/` may see a part of a number. It is tried again on all of it
  when more has come; in long outputs a binary is quicker.
  """
  @spec await_output(t, binary | Regex.t(), timeout) ::
          {:ok, {before :: binary, match :: binary}}
          | {:error, :no_match | :timeout | :busy | :closed | NetRunner.Error.posix()}
  def await_output(p, pattern, timeout \\ :infinity) do
    unless is_struct(pattern, Regex) or (is_binary(pattern) and pattern != "") do
      raise ArgumentError,
            "expected a binary that is not empty, or a regular expression, got: #{inspect(pattern)}"
    end

    with {:ok, handle} <- handle(p, :stdout),
         do: Search.await(handle, pattern, Pipe.deadline(timeout))
  end

  @doc """
  Writes to stdin, of a command with `input: :pipe`. Waits until the pipe has taken everything: `{:error, {:timeout, bytes_taken}}` if it
  did not in time, `{:error, :epipe}` if the command reads no more.
  """
  @spec write(t, iodata, timeout) ::
          :ok
          | {:error,
             {:timeout, non_neg_integer} | :epipe | :busy | :closed | NetRunner.Error.posix()}
  def write(p, iodata, timeout \\ :infinity) do
    case handle(p, :stdin) do
      {:ok, handle} -> Pipe.write(handle, iodata, Pipe.deadline(timeout))
      error -> error
    end
  end

  @doc ~S"""
  Reads a frame from stdout, of a command started with `packet:`: all of it, without its header. Waits until it is complete. `:eof` when
  the output has ended behind the last one.

      iex> {:ok, p} = NetRunner.Process.start("cat", [], packet: 4)
      iex> NetRunner.Process.write_frame(p, :erlang.term_to_binary({:square, 12}))
      :ok
      iex> {:ok, frame} = NetRunner.Process.read_frame(p)
      iex> :erlang.binary_to_term(frame)
      {:square, 12}
      iex> NetRunner.Process.stop(p)
      :ok

  What comes behind it is not asked for: the command waits while nobody reads the next. `{:error, {:frame_too_large,
  bytes}}` where more than `max_frame_size:` is announced, before any of it is read; `{:error, {:frame_truncated, missing_bytes}}` where the output
  ends within a frame; `{:error, :timeout}` when it is not complete in time. In all three nothing is lost: the next read gets
  what has come, from the header on. `read/3` and `await_output/3` read bytes as ever, of a greeting before the first frame, say.
  """
  @spec read_frame(t, timeout) ::
          {:ok, binary}
          | :eof
          | {:error,
             {:frame_too_large, pos_integer}
             | {:frame_truncated, pos_integer}
             | {:invalid, :packet, String.t()}
             | :timeout
             | :busy
             | :closed
             | NetRunner.Error.posix()}
  def read_frame(p, timeout \\ :infinity) do
    with {:ok, handle, framing} <- framed(p, :stdout),
         do: Frames.read(handle, framing, Pipe.deadline(timeout))
  end

  @doc """
  Writes a frame to stdin, of a command started with `packet:` (and `input: :pipe`): its header and all of it, as `write/3`
  does. `{:error, {:frame_too_large, bytes}}` where the header cannot say so many: then nothing was written. Behind `{:error, {:timeout,
  bytes_taken}}`, which counts the header, the command has a part of a frame; if that is not 0, all that is left is to stop it.
  """
  @spec write_frame(t, iodata, timeout) ::
          :ok
          | {:error,
             {:frame_too_large, pos_integer}
             | {:invalid, :packet, String.t()}
             | {:timeout, non_neg_integer}
             | :epipe
             | :busy
             | :closed
             | NetRunner.Error.posix()}
  def write_frame(p, iodata, timeout \\ :infinity) do
    with {:ok, handle, framing} <- framed(p, :stdin),
         do: Frames.write(handle, framing, iodata, Pipe.deadline(timeout))
  end

  @doc false
  # An element of stdin/2: a frame, where the command has such.
  @spec write_element(t, iodata, timeout) :: :ok | {:error, reason}
  def write_element(p, iodata, timeout) do
    with {:error, {:invalid, :packet, _none}} <- write_frame(p, iodata, timeout),
         do: write(p, iodata, timeout)
  end

  defp framed(p, end_name) do
    case lookup(p) do
      {:ok, %{frames: nil}} -> {:error, {:invalid, :packet, "was not given to its start"}}
      {:ok, %{^end_name => handle, frames: framing}} when handle != nil -> {:ok, handle, framing}
      _none -> {:error, :closed}
    end
  end

  @doc """
  stdin as a `Collectable`, of a command with `input: :pipe`: each element, iodata, is one `write/3` (with `packet:`, one
  `write_frame/3`), so a full pipe makes the
  collecting process wait. What `write/3` gives as an error is raised as a `NetRunner.Error`.

      iex> {:ok, p} = NetRunner.Process.start("sort")
      iex> Enum.into(["b\\n", "a\\n"], NetRunner.Process.stdin(p))
      iex> 1..2 |> Stream.map(&"\#{&1}\\n") |> Enum.into(NetRunner.Process.stdin(p, close: true))
      iex> NetRunner.Process.read(p)
      {:ok, "1\\n2\\na\\nb\\n"}
      iex> NetRunner.Process.stop(p)
      :ok

  With `close: true` it is closed (`close_stdin/2`) behind the last element, but not where collecting was broken off: an end
  would look like all there was. `timeout:` is that of each write, `:infinity` if it is not given.
  """
  @spec stdin(t, close: boolean, timeout: timeout) :: __MODULE__.Stdin.t()
  def stdin(p, opts \\ []), do: __MODULE__.Stdin.new(p, opts)

  @doc """
  Closes stdin, of a command with `input: :pipe`: it sees the end of its input. Also fine the second time.

  A terminal (`pty:`) stays open: what is written is its end-of-file character (VEOF, Ctrl-D unless the command
  changed it), as somebody would type it. The command may go on reading, and you may go on writing. Behind
  a line that was begun it is written twice, because the first one only hands that over. It waits as `write/3` does
  until the terminal takes it, which one whose output nobody reads may never do: `{:error, {:timeout, bytes_taken}}`.
  """
  @spec close_stdin(t, timeout) ::
          :ok | {:error, {:timeout, non_neg_integer} | :closed | :busy | NetRunner.Error.posix()}
  def close_stdin(p, timeout \\ :infinity) do
    with {:ok, %{stdin: stdin}} when stdin != nil <- pipes(p) do
      Terminal.end_input(stdin, Pipe.deadline(timeout))
    else
      _none -> {:error, :closed}
    end
  end

  @doc """
  Changes the size of the terminal of a command with `pty:`, which is told by SIGWINCH. 1..65535 rows and columns.
  `{:error, :enotty}` for a command without a terminal, `{:error, :closed}` after its end.

      iex> {:ok, p} = NetRunner.Process.start("bash", ["-c", "read; stty size"], pty: [echo: false])
      iex> NetRunner.Process.set_window_size(p, 50, 132)
      :ok
      iex> NetRunner.Process.write(p, "\\n")
      :ok
      iex> NetRunner.Process.read(p)
      {:ok, "50 132\\r\\n"}
      iex> NetRunner.Process.stop(p)
      :ok
  """
  @spec set_window_size(t, 1..65_535, 1..65_535) ::
          :ok | {:error, :enotty | :closed | NetRunner.Error.posix()}
  def set_window_size(p, rows, cols) do
    for {name, number} <- [rows: rows, cols: cols],
        not (is_integer(number) and number in 1..65_535),
        do: raise(ArgumentError, "#{name} must be in 1..65535, got: #{inspect(number)}")

    case pipes(p) do
      {:ok, %{state: {:ended, _at}}} -> {:error, :closed}
      {:ok, %{stdout: nil}} -> {:error, :enotty}
      {:ok, %{stdout: stdout}} -> Nif.terminal_resize(stdout, rows, cols)
      error -> error
    end
  end

  @doc false
  @spec handle(t, :stdin | :stdout | :stderr) :: {:ok, Pipe.handle()} | {:error, :closed}
  def handle(p, end_name) do
    case lookup(p) do
      {:ok, %{^end_name => handle}} when handle != nil -> {:ok, handle}
      _none -> {:error, :closed}
    end
  end

  defp lookup(p) do
    case Registry.lookup(NetRunner.Registry, p) do
      [{_pid, pipes}] -> {:ok, pipes}
      [] -> {:error, :closed}
    end
  end

  ## Living and dying

  @doc """
  Sends one signal, to the whole process group or to the command itself (`:leader`).
  `{:error, :not_running}` after the end, also when the pid has been given to somebody else.
  """
  @spec kill(t, Signal.t(), :group | :leader) ::
          :ok | {:error, :not_running | :timeout | NetRunner.Error.posix()}
  def kill(p, signal \\ :sigterm, scope \\ :group) when scope in [:group, :leader] do
    case call(p, {:kill, Signal.resolve(signal), scope}, :infinity) do
      {:error, :closed} -> {:error, :not_running}
      answer -> answer
    end
  end

  @doc """
  Waits for the command's end: its exit code, or 128 plus the signal's number. It comes after every
  process of the command is gone (or was given `drain_timeout` and then killed).
  """
  @spec await_exit(t, timeout) ::
          {:ok, non_neg_integer}
          | {:error, :timeout | :guardian_lost | {:unkillable, [pos_integer]} | :closed}
  def await_exit(p, timeout \\ :infinity) do
    with {:ok, exit} <- await_end(p, :await, timeout), do: {:ok, status(exit)}
  end

  # Looking without waiting must work however busy everybody is.
  defp await_end(p, what, timeout) when is_integer(timeout) and timeout <= 0,
    do: call(p, {what, :now}, @answer_timeout)

  # One call: a server that was told to leave is gone once it has answered.
  defp await_end(p, what, timeout) do
    ref = make_ref()

    with {:error, :timeout} <- call(p, {what, ref}, timeout) do
      GenServer.cast(p, {:forget, ref})
      {:error, :timeout}
    end
  end

  @doc """
  The stop ladder with a grace of its own, then waits for the end: `{:error, :timeout}` when it did not
  come within `grace_ms + kill_wait_ms`.
  """
  @spec shutdown(t, non_neg_integer, non_neg_integer) ::
          {:ok, non_neg_integer}
          | {:error, :timeout | :guardian_lost | {:unkillable, [pos_integer]} | :closed}
  def shutdown(p, grace_ms, kill_wait_ms)
      when is_integer(grace_ms) and grace_ms in 0..@u32_max and
             is_integer(kill_wait_ms) and kill_wait_ms >= 0 do
    case call(p, {:shutdown, grace_ms}, @answer_timeout) do
      :ok -> await_exit(p, grace_ms + kill_wait_ms)
      error -> error
    end
  end

  @doc """
  Stops the command by the ladder, if it still runs, and this server. Returns when both are gone, or `{:error, {:unkillable,
  pids}}` when SIGKILL has not ended these: then the server stays until they end, and leaves with them.
  """
  @spec stop(t) :: :ok | {:error, {:unkillable, [pos_integer]}}
  def stop(p) do
    monitor = Process.monitor(p)

    case call(p, :stop, :infinity) do
      :ended ->
        receive do
          {:DOWN, ^monitor, :process, _pid, _reason} -> :ok
        end

      {:error, {:unkillable, _pids}} = error ->
        Process.demonitor(monitor, [:flush])
        error

      # It was gone already.
      {:error, :closed} ->
        Process.demonitor(monitor, [:flush])
        :ok
    end
  end

  @doc """
  Waits for the command's end like `await_exit/2` and tells all of it: a `NetRunner.Result`, without
  stdout, which you read yourself.
  """
  @spec result(t, timeout) ::
          {:ok, Result.t()} | {:error, :timeout | {:unkillable, [pos_integer]} | :closed}
  def result(p, timeout \\ :infinity), do: await_end(p, :result, timeout)

  @doc "Makes another process the owner, whose death stops the command; at once if it has ended already."
  @spec set_owner(t, pid) :: :ok | {:error, :timeout | :closed}
  def set_owner(p, owner) when is_pid(owner) and node(owner) == node(),
    do: call(p, {:set_owner, owner}, @answer_timeout)

  @doc "The command's pid in the operating system, also after its end."
  @spec os_pid(t) :: {:ok, pos_integer} | {:error, :timeout | :closed}
  def os_pid(p), do: call(p, :os_pid, @answer_timeout)

  @doc "Whether the command has not ended yet."
  @spec alive?(t) :: boolean
  def alive?(p), do: call(p, :alive?, @answer_timeout) == {:ok, true}

  @doc """
  Counters of the pipes: `%{stdin: map | nil, stdout: map | nil, stderr: map | nil}`, nil where there is no pipe
  of ours (`/dev/null`, a file, `:merge`). Each map has `bytes`, `ops`
  (reads and writes that moved bytes), `waits_poll`, `waits_io_uring` (waits served by
  each mechanism), `poll` (whether the next wait would be by poll), `fixed` and `unfixed` (moves through
  registered and other slots), `moves` and `moves_back` (to the ring by `:auto`, and away from it),
  `pipe_bytes` (capacity; 0 for a terminal, which is both stdin and stdout) and `pipe_refused`.

      iex> {:ok, p} = NetRunner.Process.start("cat", [], stdout: :discard)
      iex> :ok = NetRunner.Process.write(p, "hello")
      iex> {:ok, stats} = NetRunner.Process.stats(p)
      iex> {stats.stdin.bytes, stats.stdout, stats.stderr.bytes}
      {5, nil, 0}
      iex> NetRunner.Process.stop(p)
      :ok
  """
  @spec stats(t) :: {:ok, map} | {:error, :closed}
  def stats(p) do
    with {:ok, pipes} <- pipes(p), do: {:ok, Stats.counters(pipes.counted)}
  end

  @doc false
  # The registry forgets a server a moment after its end. read and write need not ask: their handles
  # are closed by then.
  @spec pipes(t) :: {:ok, map} | {:error, :closed}
  def pipes(p) do
    with {:ok, pipes} <- lookup(p),
         do: if(Process.alive?(p), do: {:ok, pipes}, else: {:error, :closed})
  end

  @doc """
  What the command's cgroup is and uses now, of a command with `cgroup:`; see `t:NetRunner.Cgroup.info/0`.
  """
  @spec cgroup(t) ::
          {:ok, Cgroup.info()}
          | {:error, :not_running | :timeout | :closed | {:cgroup, atom, NetRunner.Error.posix()}}
  def cgroup(p) do
    with {:ok, path} <- call(p, :cgroup, @answer_timeout), do: Cgroup.read(path)
  end

  @doc """
  Changes limits of the command's cgroup while it runs, one after the other: those of the option `cgroup:`, as a map or
  keyword list. The first that cannot be changed ends it: `{:error, {:cgroup, key, posix}}`. A limit of an unknown
  name or a wrong type raises an `ArgumentError`.

  <!-- only compiled: few machines have the controllers to give -->

      {:ok, p} = NetRunner.Process.start("worker", [], cgroup: [parent: jobs, cpu_weight: 100])
      :ok = NetRunner.Process.set_cgroup(p, cpu_weight: 10, pids_max: 50)
  """
  @spec set_cgroup(t, Cgroup.limits()) ::
          :ok
          | {:error,
             :not_running
             | :timeout
             | :closed
             | {:cgroup, atom, NetRunner.Error.posix()}
             | {:invalid, :cgroup, String.t()}}
  def set_cgroup(p, limits) do
    with {:ok, limits} <- Options.cgroup_limits(limits),
         {:ok, path} <- call(p, :cgroup, @answer_timeout),
         do: Cgroup.write(path, limits)
  end

  @doc "The last bytes of a consumed stderr (`stderr_tail_bytes`)."
  @spec stderr_tail(t) :: {:ok, binary} | {:error, :timeout | :closed}
  def stderr_tail(p), do: call(p, :stderr_tail, @answer_timeout)

  @doc false
  # For who tells of a failure: the same, or nothing where nobody can say.
  @spec last_words(t) :: binary
  def last_words(p) do
    case stderr_tail(p) do
      {:ok, tail} -> tail
      {:error, _closed_or_busy} -> ""
    end
  end

  @doc false
  # Waits for the end like await_exit, and ends the server: what run and stream need, in one call.
  @spec conclude(t, timeout) ::
          {:ok, %{result: Result.t(), fed: Input.outcome() | nil}}
          | {:unkillable, %{pids: [pos_integer], fed: Input.outcome() | nil}}
          | {:error, :timeout | :closed}
  def conclude(p, timeout), do: call(p, :conclude, timeout)

  @doc false
  # Sets off the stop ladder; `cause` is what the result says, should it be what ends the command.
  @spec stop_for(t, Result.cause()) :: :ok | {:error, :timeout | :closed}
  def stop_for(p, cause), do: call(p, {:stop_for, cause}, @answer_timeout)

  @doc false
  # All commands of its pipeline run: its input may be read.
  @spec feed(t) :: :ok | {:error, :timeout | :closed}
  def feed(p), do: call(p, :feed, @answer_timeout)

  @doc false
  # For a server that must not wait: an input that is not over is ended where it is.
  @spec cut_input(t) :: :ok | {:error, :timeout | :closed}
  def cut_input(p), do: call(p, :cut_input, @answer_timeout)

  @doc false
  @spec status(exit_reason) :: non_neg_integer
  def status({:exited, code}), do: code
  def status({:signaled, signal}), do: 128 + Signal.resolve(signal)

  @doc false
  # For a server that must not wait. What `:end` gives comes as a message, for
  # :gen_server.check_response/2: `{:ok, exit_reason}` or the errors of `await_exit/2`, and how its input
  # went, as far as that is over (an `t:Input.outcome/0`).
  @spec request(t, :end | {:shutdown, non_neg_integer}) :: :gen_server.request_id()
  def request(p, :end), do: :gen_server.send_request(p, {:end, make_ref()})
  def request(p, {:shutdown, _grace_ms} = shutdown), do: :gen_server.send_request(p, shutdown)

  defp call(p, request, timeout) do
    GenServer.call(
      p,
      request,
      if(timeout == :infinity, do: timeout, else: min(timeout, @u32_max))
    )
  catch
    :exit, {:timeout, _call} -> {:error, :timeout}
    :exit, _gone -> {:error, :closed}
  end
end
