defmodule NetRunner.Daemon do
  # {type, meaning}: what may go wrong while it is started as well as later, and what only at the start. The types and
  # the documentation come from these lists.
  @goes_wrong [
    {quote(do: :guardian_lost), "somebody killed the command's guardian, see `NetRunner.Error`"},
    {quote(do: {:unkillable, pids :: [pos_integer]}),
     "the command ended, and SIGKILL does not end these processes of it"},
    {quote(do: {:down, reason :: term}), "the command's own server was killed"},
    {quote(do: {:input, reason :: term}),
     "what `input:` is raised: `reason` is `{exception, stacktrace}`, and the command was stopped, because what it " <>
       "had read was not all; or it could not be written"},
    {quote(do: {:output, reason :: term}),
     "a process that deals with the output was killed, or a pipe cannot be read"},
    {quote(do: {:line_too_long, stream, max_bytes :: pos_integer}),
     "with `max_line_length: {bytes, :error}`; the lines before that one have come, within `flush_timeout:`"}
  ]
  @never_starts [
    {quote(do: {:exit, exit_reason}), "the command ended before it was ready"},
    {quote(do: :wait_timeout), "`wait_for:` did not return in time"},
    {quote(do: {:wait_for, reason :: term}),
     "`wait_for:` failed: `{exception, stacktrace}`, or what else a process would have ended with"},
    {quote(do: {:ready, reason :: term}),
     "the process in which the function of `ready:` runs was killed"},
    {quote(do: {:already_started, pid}), "there is one of that name"},
    {quote(do: :shutdown), "it was stopped meanwhile"},
    {quote(do: {:stopped, reason :: term}),
     "it was ended from outside meanwhile, with another reason than `:normal` or `:shutdown`"}
  ]

  list = fn rows ->
    Enum.map_join(rows, "\n", fn {type, meaning} ->
      "  * `#{NetRunner.Reason.text_of(type)}` - #{meaning}"
    end)
  end

  @moduledoc """
  A long-running command under a supervisor: a database, a web server, a tunnel, a watcher. It starts
  with your application, what it writes comes to you line by line, it is restarted when it crashes, and
  gone when your application is.

  <!-- only compiled: it needs redis-server; daemon_servers_test.exs runs one -->

      children = [
        {NetRunner.Daemon,
         name: MyApp.Redis,
         cmd: ["redis-server", "--port", "6399", "--save", "", "--daemonize", "no"],
         ready: {:tcp, 6399},
         on_output: :log,
         log: [level: :debug, stderr_level: :warning]}
      ]

      {:ok, supervisor} = Supervisor.start_link(children, strategy: :one_for_one)

  The next child is started when Redis accepts connections, and what Redis says goes to `Logger`. If it
  ends, for whatever reason, the supervisor starts another. When the supervisor stops, Redis is told to
  stop, given time to save its data, and killed if it does not. The same happens when the whole BEAM is
  killed.

  **The command must stay in the foreground.** One that puts itself into the background (a classic Unix
  daemon) looks like one that ended: what it left running is given `drain_timeout` and then killed. Most
  servers have an option: `redis-server --daemonize no`, `nginx -g "daemon off;"`, `sshd -D`,
  `postgres` instead of `pg_ctl start`.

  ## Output

  The command's output is cut into lines, stdout and stderr apart, and each line goes to `on_output:`.

  <!-- no code: these are five ways to write one option -->

      on_output: :discard                      # read away and counted, the default
      on_output: :log                          # into Logger
      on_output: fn line -> ... end
      on_output: fn :stdout, line -> ...       # or :stderr
                    :stderr, line -> ... end
      on_output: fn tag, line, time -> ... end # and System.monotonic_time/0 of when its end was read

  A line comes without its newline (another separator: `lines:`), as the bytes that the command
  wrote: it need not be valid UTF-8. A line longer than 64 KiB comes in pieces (another limit or
  policy: `max_line_length:`). The last line needs no newline: it comes when its output has ended.

  **In which order.** The lines of one output come in the order in which the command wrote them, whatever `overflow:` says (a dropped
  one leaves a gap). Between the two outputs the order is that in which the ends of the lines were read, by one process:

    * What the command wrote after what it wrote before had been read comes behind it, whichever output it took. A command that
      pauses between the two, for long enough to be read, is told in its own order.
    * What lay unread in both at once can come in either order. After each read, of 64 KiB at most, the other output is looked at
      before more of the same. With `overflow: :block` reading waits for a slow function, and more lies there; with `:drop` it does not.

  The `time` of `fn tag, line, time` is taken after each read, so it never goes back from one line to the next, and lines of one
  read have the same. It puts the lines of several daemons, kept anywhere, into one order afterwards, and says how far apart two lines
  were read; what lay in both outputs at once it cannot order either. Where that matters, `stderr: :merge` makes them one stream, `:stdout`.

  With `:log`, bytes that are no UTF-8 are written as `\\xHH`, and each line carries the Logger metadata
  `daemon` (its name, or pid), `command`, `os_pid` and `stream`. `log: [level:, stderr_level:, prefix:,
  metadata:]` changes the rest; the prefix is the command's name and a colon unless you say otherwise.

  A function runs in a process of its own, one line after the other. **If it raises**, exits or throws,
  that is logged as an error together with the line and its stream, counted (`raised` in `stats/1`), and
  the next line follows: a bad line does not end your server. If that process is killed, the daemon ends,
  and the command with it.

  **If it is slow**, the command is slowed down: once the pipe between them is full, the command's next
  write waits. Nothing piles up in memory. That is `overflow: :block`. Where the command must never wait
  for you, say `overflow: :drop`: up to `max_queue:` lines wait for the function, and what comes on top is
  dropped, counted (`dropped` in `stats/1`), and reported once when it begins and once, with the number,
  when it has been over for a second.

  Nothing of this ever keeps the daemon itself from answering: `os_pid/1`, `alive?/1`, `stats/1`, `signal/2`
  and `stop/1` work while your function is stuck.

  ## Ready

  Without `ready:`, `start_link/1` returns as soon as the command has been executed, which is before it can do
  anything. With it, what comes after in your supervision tree finds a server that works:

  <!-- no code: these are four ways to write one option -->

      ready: {:output, "ready to accept"}      # a line contains it, or matches a regex
      ready: {:tcp, 6399}                      # somebody accepts on 127.0.0.1
      ready: {:tcp, {10, 0, 0, 1}, 6399}       # or there
      ready: fn -> MyApp.Redis.ping() == :pong end   # asked until it is true

  If the command ends before it is ready, `start_link/1` gives `{:error, {:exit, exit}}` at once. If it is not
  ready within `ready_timeout:` (5 s unless you say otherwise) it is stopped, and `{:error, :timeout}` comes
  once it is gone. `{:tcp, _}` cannot tell who accepts: a server that an earlier run left on that
  port is taken for yours.

  `wait_for:` is the other direction: a function that is called before the command is started, and
  returns when what the command needs is there.

  <!-- no code: it is a part of a call -->

      wait_for: fn -> MyApp.Network.await_up() end

  Both run in processes of their own, so that `wait_timeout:` and `ready_timeout:` hold whatever they do.
  Meanwhile the supervisor waits, as it does for any child that is being started.

  ## Ends and restarts

  When the command ends by itself, the daemon delivers what is left of its output (for up to
  `flush_timeout:`), and ends with a reason that a supervisor understands:

  | the command's end | reason | `:permanent` | `:transient` | `:temporary` |
  |---|---|---|---|---|
  | `{:exited, 0}` | `:normal` | restarted | | |
  | `{:exited, 3}` | `{:exit, {:exited, 3}}` | restarted | restarted | |
  | `{:signaled, :sigsegv}` | `{:exit, {:signaled, :sigsegv}}` | restarted | restarted | |

  `exit_reason:` decides otherwise. For a command whose status 3 means that there is nothing to do:

      exit_reason = fn
        {:exited, 3} -> {:shutdown, :nothing_to_do}
        {:exited, 0} -> :normal
        exit -> {:exit, exit}
      end

      Process.flag(:trap_exit, true)
      {:ok, daemon} = NetRunner.Daemon.start_link(cmd: ["sh", "-c", "exit 3"], exit_reason: exit_reason)
      receive do {:EXIT, ^daemon, reason} -> reason end
      #=> {:shutdown, :nothing_to_do}

  How often a supervisor restarts is the supervisor's `max_restarts:`. The other reasons:

  #{list.(@goes_wrong)}

  ## Stopping

  `stop/1`, the supervisor's shutdown, the death of the daemon or of the BEAM: the ladder is always the same,
  `stop_signal:` to the command's process group, `kill_timeout:` of grace, SIGKILL, and then whatever else it left
  behind. `child_spec/1` gives the supervisor a `shutdown:` that is longer than that, so that the ladder ends
  within it. A server that needs more time to save its data needs a longer `kill_timeout:`, and nothing else.

  The ladder is also climbed when the daemon's own process is killed (`Process.exit(pid, :kill)`). But then
  nobody is there to wait for it: the supervisor's next start may find the port still taken, fail, and be
  tried again.

  ## Coming from MuonTrap.Daemon or erlexec

  | there | here |
  |---|---|
  | `{MuonTrap.Daemon, ["cmd", ["arg"], opts]}` | `{NetRunner.Daemon, [cmd: ["cmd", "arg"]] ++ opts}` |
  | `log_output: :info`, `log_prefix:`, `logger_metadata:` | `on_output: :log`, `log: [level: :info, prefix:, metadata:]` |
  | `log_transform:`, `logger_fun:` | `on_output: fn stream, line -> ... end` |
  | `stderr_to_stdout: true` | `stderr: :merge` |
  | `delay_to_sigkill:` | `kill_timeout:` |
  | `exit_status_to_reason:` | `exit_reason:`, which is given signals as well |
  | `wait_for:` | `wait_for:`, bounded by `wait_timeout:` |
  | `:exec.run_link/2` | `start_link/1` |
  | `{:stdout, fun}`, `{:stderr, fun}` | `on_output: fn stream, line -> ... end` |
  | `:stdin` and `:exec.send/2` | `input: :pipe` and `write/2` |
  | `:exec.kill/2`, `:exec.stop/1` | `signal/2`, `stop/1` |
  """

  alias NetRunner.{Command, Executable, Options, Pipe, Signal}
  alias NetRunner.Daemon.Server

  @u32_max 0xFFFF_FFFF
  # After the grace of the ladder: SIGKILL and the sweep (three seconds, see NetRunner.Process), and a
  # moment for whoever has to be told.
  @after_grace 4_000

  @typedoc "A daemon: its pid, or the name that it was given."
  @type t :: GenServer.server()

  @type stream :: :stdout | :stderr
  @type exit_reason :: {:exited, 0..255} | {:signaled, atom | 32..64}

  @typedoc "Why there is no daemon: the closed list of `start_link/1`."
  @type start_error ::
          NetRunner.Error.reason()
          | unquote(
              (@never_starts ++ @goes_wrong)
              |> Enum.map(&elem(&1, 0))
              |> NetRunner.Reason.union()
            )

  @doc """
  A child specification. Its id is the daemon's name, or `{NetRunner.Daemon, cmd}`; its restart that of
  `restart:`; its shutdown longer than the stop ladder. `Supervisor.child_spec/2` overrides any of it. `env:` and
  `input:` stand in it within a `NetRunner.Command`: a supervisor's reports do not show them.

      iex> spec = NetRunner.Daemon.child_spec(cmd: ["sleep", "60"], kill_timeout: 1000)
      iex> {spec.id, spec.restart, spec.shutdown}
      {{NetRunner.Daemon, ["sleep", "60"]}, :permanent, 6000}
      iex> Supervisor.child_spec({NetRunner.Daemon, cmd: ["sleep", "60"]}, id: :sleeper).id
      :sleeper
  """
  @spec child_spec(keyword) :: Supervisor.child_spec()
  def child_spec(opts) do
    opts = with_command(opts)

    # A wrong type raises here. A value that cannot be is start_link's to tell.
    options =
      case Options.validate(opts, :daemon) do
        {:ok, options} ->
          options

        {:error, _reason} ->
          {:ok, defaults} = Options.validate([], :daemon)
          Map.merge(defaults, Map.new(Keyword.take(opts, [:name, :cmd])))
      end

    %{
      id: options.name || {__MODULE__, options.cmd},
      start: {__MODULE__, :start_link, [conceal(opts)]},
      restart: options.restart,
      shutdown: min(options.kill_timeout + options.flush_timeout + @after_grace, @u32_max)
    }
  end

  # A supervisor's reports show the arguments of a start.
  defp conceal(opts) do
    case opts[:cmd] do
      [_exe | _args] = cmd ->
        {cmd, open} = Command.conceal(cmd, Keyword.delete(opts, :cmd))
        [{:cmd, cmd} | open]

      # Which start_link refuses.
      _no_command ->
        Keyword.drop(opts, [:env, :input])
    end
  end

  @doc false
  # Both lists, for the test that holds them against the code.
  @spec reasons :: [{Macro.t(), String.t()}]
  def reasons, do: unquote(Macro.escape(@never_starts ++ @goes_wrong))

  @doc """
  Starts a daemon, linked to the caller, once its command is ready.

      iex> {:ok, daemon} =
      ...>   NetRunner.Daemon.start_link(
      ...>     cmd: ["sh", "-c", "echo up; exec sleep 60"],
      ...>     ready: {:output, "up"}
      ...>   )
      iex> NetRunner.Daemon.alive?(daemon)
      true
      iex> NetRunner.Daemon.stop(daemon)
      :ok
      iex> NetRunner.Daemon.start_link(cmd: ["sh", "-c", "exit 3"], ready: {:output, "up"})
      {:error, {:exit, {:exited, 3}}}
      iex> NetRunner.Daemon.start_link(cmd: ["no-such-program"])
      {:error, :enoent}

  `{:error, reason}` if nothing runs, and then nothing is left: a reason of `NetRunner.Error` (`:timeout`: it was not
  ready in time), or one of these. The caller is never sent an exit signal for it.

  #{list.(@never_starts ++ @goes_wrong)}

  ## Options

  #{Options.docs(:daemon)}
  """
  @spec start_link(keyword) :: {:ok, pid} | {:error, start_error}
  def start_link(opts) do
    opts = with_command(opts)

    with {:ok, options} <- Options.validate(opts, :daemon),
         {:ok, cmd} <- Executable.check_cmd(options.cmd) do
      Server.start_link(cmd, options)
    end
  end

  # A NetRunner.Command in the place of a list, with options of its own.
  defp with_command(opts) do
    case is_list(opts) and List.keyfind(opts, :cmd, 0) do
      {:cmd, %Command{} = command} ->
        command = Command.for_call(command, :daemon)
        {cmd, opts} = Command.resolve(command, List.keydelete(opts, :cmd, 0))
        Keyword.put(opts, :cmd, cmd)

      _no_command ->
        opts
    end
  end

  @doc "The command's pid in the operating system."
  @spec os_pid(t) :: {:ok, pos_integer} | {:error, :not_running | :timeout}
  def os_pid(daemon), do: call(daemon, :os_pid)

  @doc "Whether the command runs: it has been started and has not ended."
  @spec alive?(t) :: boolean
  def alive?(daemon), do: call(daemon, :alive?) == true

  @doc ~S"""
  Writes to the command's stdin; for `input: :pipe`. Waits until the pipe has taken everything, in the calling
  process: see `NetRunner.Process.write/3`.

      iex> me = self()
      iex> {:ok, daemon} =
      ...>   NetRunner.Daemon.start_link(
      ...>     cmd: ["sed", "-u", "s/^/got /"],
      ...>     input: :pipe,
      ...>     on_output: fn line -> send(me, {:line, line}) end
      ...>   )
      iex> :ok = NetRunner.Daemon.write(daemon, "something\n")
      iex> receive do
      ...>   {:line, line} -> line
      ...> end
      "got something"
      iex> NetRunner.Daemon.stop(daemon)
      :ok
  """
  @spec write(t, iodata, timeout) ::
          :ok
          | {:error,
             {:timeout, non_neg_integer}
             | :epipe
             | :busy
             | :closed
             | :not_running
             | NetRunner.Error.posix()}
  def write(daemon, iodata, timeout \\ :infinity) do
    with {:ok, process} <- call(daemon, :process),
         do: NetRunner.Process.write(process, iodata, timeout)
  end

  @doc """
  Sends a signal, to the command's process group or to the command itself (`:leader`). A command that ends
  of it has ended by itself: the daemon ends as under "Ends and restarts".
  """
  @spec signal(t, Signal.t(), :group | :leader) ::
          :ok | {:error, :not_running | :timeout | NetRunner.Error.posix()}
  def signal(daemon, signal, scope \\ :group) when scope in [:group, :leader] do
    signal = Signal.resolve(signal)

    with {:ok, process} <- call(daemon, :process),
         do: NetRunner.Process.kill(process, signal, scope)
  end

  @doc "Has the command read its configuration again: SIGHUP to the command itself."
  @spec reload(t) :: :ok | {:error, :not_running | :timeout | NetRunner.Error.posix()}
  def reload(daemon), do: signal(daemon, :sighup, :leader)

  @doc """
  Stops the command by the ladder, and the daemon, with reason `:normal`. Returns when both are gone;
  `{:error, :timeout}` if that took longer than `timeout` milliseconds (it goes on all the same). Processes that
  SIGKILL does not end keep nobody waiting: they are left to the guardian, which ends them as soon as that works.

  A supervisor starts a `:permanent` daemon again. To have it stay away, ask the supervisor:
  `Supervisor.terminate_child/2`.
  """
  @spec stop(t, timeout) :: :ok | {:error, :timeout}
  def stop(daemon, timeout \\ :infinity) do
    deadline = Pipe.deadline(timeout)

    case GenServer.whereis(daemon) do
      nil ->
        :ok

      server ->
        monitor = Process.monitor(server)
        _ = call(server, :stop)

        receive do
          {:DOWN, ^monitor, :process, _pid, _reason} -> :ok
        after
          Pipe.left(deadline) ->
            Process.demonitor(monitor, [:flush])
            {:error, :timeout}
        end
    end
  end

  @doc """
  What it has done so far:

    * `lines`, `bytes`, `dropped` of both streams together, and apart in `stdout` and `stderr`: lines and bytes that
      came from the command, and how many of the lines were dropped (`overflow: :drop`);
    * `queued`, the lines that wait for `on_output:`, and how often it `raised`;
    * `os_pid` and `uptime_ms`, since the command was started;
    * `pipes`: the counters of `NetRunner.Process.stats/1`.

  All of this run: after a restart it begins anew.
  """
  @spec stats(t) :: {:ok, map} | {:error, :not_running | :timeout}
  def stats(daemon), do: call(daemon, :stats)

  defp call(daemon, request) do
    GenServer.call(daemon, request)
  catch
    :exit, {:timeout, _call} -> {:error, :timeout}
    :exit, _gone -> {:error, :not_running}
  end
end
