defmodule NetRunner.Telemetry do
  @moduledoc """
  Events for the [`:telemetry`](https://hexdocs.pm/telemetry) library, where an application uses it. NetRunner
  does not depend on it: whether it is there is looked up once, when NetRunner starts. If it is, but is started
  after NetRunner, the first command after that gives the first events. If it is not, nobody looks
  again: call `refresh/0` should you load it later. Without the library a command's events cost less than
  a tenth of a microsecond, with it and nobody listening some two (`mix bench.telemetry`).

      :telemetry.attach(
        "slow-commands",
        [:net_runner, :command, :stop],
        &MyApp.Metrics.command_stopped/4,
        nil
      )

  ## Events

  Each command that starts gives one `start`, and one `stop` or `exception` at its end. One that cannot be
  started gives an `exception` alone. A command whose server is killed (`Process.exit(pid, :kill)`), or leaves what
  nobody can kill, has no second event.

  The events of one command have the same `telemetry_span_context`. `start`, `stop` and the loss of a guardian
  come from the command's server, a failed start from the process that called. Handlers run there, and
  whoever waits for the start or the end waits for them, too.

  ### `[:net_runner, :command, :start]`

  The command runs: its program has been executed.

  | measurement | unit | |
  |---|---|---|
  | `monotonic_time` | native | `System.monotonic_time/0` of now |
  | `system_time` | native | `System.system_time/0` of now |

  | metadata | |
  |---|---|
  | `cmd` | the command, `[exe \\| args]` |
  | `os_pid` | its pid in the operating system |
  | `pid` | its server, the pid that `NetRunner.Process.start/3` gives |
  | `owner` | the process whose death stops it |
  | `telemetry_span_context` | a reference |

  ### `[:net_runner, :command, :stop]`

  The command has ended, and so has everything that it left behind. `NetRunner.run/2` and streams tell it when they
  have read all that it wrote.

  | measurement | unit | |
  |---|---|---|
  | `duration` | native | from the start event to the end |
  | `monotonic_time` | native | of the end |
  | `bytes_in` | bytes | written to its stdin; not what it reads from a file |
  | `bytes_out` | bytes | read from its stdout |
  | `bytes_err` | bytes | read from its stderr, by you or by NetRunner |
  | `user_us`, `system_us` | microseconds | CPU time, in its own code and in the kernel |
  | `max_rss_kb` | KiB | the most memory that was resident |
  | `orphans_killed` | count | background processes that had to be killed at the end |

  What you read from a `NetRunner.Process` after its end is not counted. CPU time and memory are those of the
  command and of the children that it waited for.

  Metadata: that of the start, `exit` (`{:exited, code}` or `{:signaled, signal}`), `cause` (why it ended, see
  `NetRunner.Result`, whose own is the time-out or limit also where that was met and the command was quicker to end by
  itself) and `rusage`: all of
  getrusage(2) that is known, as in the measurements, and `minflt`, `majflt`, `nvcsw`, `nivcsw` (counts).

  ### `[:net_runner, :command, :exception]`

  The command could not be started, or the process that kept it was killed and nobody knows how it ended.
  (A command that fails is no exception: it has stopped, and `exit` says how.)

  | measurement | unit | |
  |---|---|---|
  | `duration` | native | from the call, or from the start event, to the failure |
  | `monotonic_time` | native | of the failure |

  Metadata: `kind` (`:error`), `reason` (see `NetRunner.Error`; `:guardian_lost` is the second case; a start that
  `timeout:` cut is a `:spawn_timeout` here), `stacktrace`
  (`[]`), `cmd` and `telemetry_span_context`. With `:guardian_lost` also `os_pid`, `pid` and `owner`.
  """

  require Logger
  alias NetRunner.{Log, Stats}

  @key {__MODULE__, :on?}

  @typedoc false
  @opaque span :: %{began: integer, over: integer | nil, metadata: map} | nil

  @doc """
  Looks again whether the `:telemetry` library is there, and says whether it is used from now on: whether its
  application is started. A command that has been started before gives no events.
  """
  @spec refresh :: boolean
  def refresh do
    :persistent_term.put(@key, look())
    on?()
  end

  # true, :later (it is there, and executing would log warnings until it is started), or false.
  defp look do
    cond do
      not Code.ensure_loaded?(:telemetry) -> false
      started?() -> true
      true -> :later
    end
  end

  # Nobody waits for a node that is shutting down.
  defp started? do
    List.keymember?(Application.started_applications(100), :telemetry, 0)
  catch
    :exit, _busy -> false
  end

  @doc false
  # Before a start is tried: what failed/3 needs to know.
  @spec clock :: integer | nil
  def clock do
    case :persistent_term.get(@key, false) do
      false -> nil
      true -> System.monotonic_time()
      :later -> if refresh(), do: System.monotonic_time()
    end
  end

  @doc false
  @spec failed(integer | nil, [binary], term) :: :ok
  def failed(nil, _cmd, _reason), do: :ok

  def failed(began, cmd, reason) do
    metadata = %{cmd: cmd, telemetry_span_context: make_ref()}
    exception(began, System.monotonic_time(), reason, metadata)
  end

  @doc false
  # From the command's server, whose state has the fields of the metadata.
  @spec started(map) :: span
  def started(server) do
    if on?() do
      now = System.monotonic_time()

      metadata = %{
        cmd: server.cmd,
        os_pid: server.os_pid,
        pid: self(),
        owner: server.owner,
        telemetry_span_context: make_ref()
      }

      execute(:start, %{monotonic_time: now, system_time: System.system_time()}, metadata)
      %{began: now, over: nil, metadata: metadata}
    end
  end

  @doc false
  # The command is over now; when that is told is another matter.
  @spec over(span) :: span
  def over(nil), do: nil
  def over(span), do: %{span | over: System.monotonic_time()}

  @doc false
  # Tells the end, if there was one, and once: then there is no span any more.
  @spec ended(span, exit | nil, map | nil, map) :: span
        when exit: {:exited, 0..255} | {:signaled, term} | {:error, atom}
  def ended(nil, _exit, _info, _server), do: nil
  def ended(%{over: nil} = span, _exit, _info, _server), do: span

  def ended(span, exit, info, server) do
    tell(span, exit, info, server)
    nil
  end

  defp tell(span, {:error, reason}, _info, _server),
    do: exception(span.began, span.over, reason, span.metadata)

  defp tell(span, exit, %{rusage: rusage} = info, server) do
    pipes = Stats.counters(server)

    measurements = %{
      duration: span.over - span.began,
      monotonic_time: span.over,
      bytes_in: bytes(pipes.stdin),
      bytes_out: bytes(pipes.stdout),
      bytes_err: bytes(pipes.stderr),
      user_us: rusage.user_us,
      system_us: rusage.system_us,
      max_rss_kb: rusage.max_rss_kb,
      orphans_killed: info.orphans_killed
    }

    ending = %{exit: exit, cause: server.result.cause, rusage: rusage}
    execute(:stop, measurements, Map.merge(span.metadata, ending))
  end

  defp bytes(nil), do: 0
  defp bytes(%{bytes: bytes}), do: bytes

  defp exception(began, over, reason, metadata) do
    failure = %{kind: :error, reason: reason, stacktrace: []}

    execute(
      :exception,
      %{duration: over - began, monotonic_time: over},
      Map.merge(metadata, failure)
    )
  end

  # Handlers that fail are the library's business. A library that is not what it was when we looked must
  # not cost a command its life.
  defp execute(event, measurements, metadata) do
    # A span that began with it may end without it. A bare call would make Elixir's compiler warn: where the
    # library is, of one that is not declared; where it is not, of one that is not there.
    if on?(),
      do: apply(:telemetry, :execute, [[:net_runner, :command, event], measurements, metadata])

    :ok
  catch
    kind, reason ->
      :persistent_term.put(@key, false)

      Logger.warning(
        "NetRunner gives no more telemetry events: " <>
          Exception.format_banner(kind, reason, __STACKTRACE__),
        Log.metadata()
      )
  end

  defp on?, do: :persistent_term.get(@key, false) == true
end
