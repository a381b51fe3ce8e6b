defmodule NetRunner.Result do
  # {the cause, what it means}: the one list of them, which the type and the documentation come from.
  @causes [
    {:exited, "it ended by itself, with an exit code"},
    {:signaled, "it ended by a signal that NetRunner's stop ladder did not send"},
    {:timeout, "stopped, for it took longer than `timeout:`"},
    {:idle_timeout, "stopped, for nothing came from it for `idle_timeout:`"},
    {:output_limit, "stopped by `max_output_size:`, `max_line_length:` or `max_frame_size:`"},
    {:oom, "killed by the kernel, for its cgroup (`cgroup:`) had no more memory"},
    {:owner_down, "stopped, for its owner had ended"},
    {:stopped,
     "stopped by `stop/1`, `shutdown/3`, a supervisor, an `input:` that broke off, or in a pipeline for another's lost guardian"},
    {:guardian_lost,
     "somebody killed a process that kept it: its guardian, or its server in the BEAM"},
    {:io_error,
     "its output could not be read or its `input:` not be written, for which it was stopped; or the copy of a tee not"},
    {:unkillable, "it, or what it left behind, has not ended: SIGKILL does nothing"}
  ]

  @moduledoc """
  How a command ended and what it gave: from `NetRunner.exec/2` and `NetRunner.Process.result/2`.

    * `cmd` - the command, `[exe | args]`.
    * `stdout` - what was read, in the form that `into:` asked for. `NetRunner.Process.result/2` has nil:
      there you read yourself.
    * `stderr` - all of it with `stderr: :capture`, its last bytes with `:consume` (the default,
      `stderr_tail_bytes:`), else `""`.
    * `exit` - `{:exited, code}` or `{:signaled, signal}`; nil if nobody could tell (`:guardian_lost`, `:unkillable`).
    * `cause` - why it ended:

      | cause | meaning |
      |---|---|
      #{Enum.map_join(@causes, "\n      ", fn {cause, meaning} -> "| `#{inspect(cause)}` | #{meaning} |" end)}

      A time-out or a limit that was met is the cause, also where the command ended by itself at that
      moment. Other stops are it only if they came before the command's own end.
    * `error` - what went wrong around the command, a reason of `NetRunner.Error`, else nil: why its pipes failed (`:io_error`),
      `{:frame_truncated, missing_bytes}` where its output ended within a frame (`packet:`), `{:unkillable, pids}`, or `:closed` where its server was killed. `run/2` gives it as `{:error, reason}`, and the bang
      forms raise it as a `NetRunner.Error`.
    * `os_pid` - its pid in the operating system.
    * `containment` - what held its processes together, so that all of them could be ended: `:subreaper` (a guardian
      that orphans come to, however deep), `:cgroup` (that, and a cgroup of its own), or `:group` (where there is no better: only its process group).
    * `duration_ms` - from its start to its end, background processes included.
    * `rusage` - what it and the children it waited for used, getrusage(2): `user_us` and `system_us` in
      microseconds, `max_rss_kb` in KiB, `minflt`, `majflt`, `nvcsw`, `nivcsw`; nil with `:guardian_lost`.
    * `cgroup` - with `cgroup:`, what all of it used, a `t:NetRunner.Cgroup.usage/0` (with `orphans: :keep` until the command's
      own end); else nil.
    * `stats` - counters of its pipes, as `NetRunner.Process.stats/1`.
    * `truncated?` - whether output was thrown away: `max_output_size:`, `max_line_length:` with
      `:truncate`, or a stderr longer than its tail.
    * `orphans_killed` - how many background processes had to be killed at the end.
    * `stages` - of a pipeline (`NetRunner.pipeline/1`), the result of each command, without stdout, in the order of the stages: of
      a tee its own, and then that of the command behind it; nil where there was one command. `cmd`, `exit`, `cause`, `error`, `os_pid`, `containment`, `cgroup` and
      `stderr` are those of the command that says how the pipeline ended; `duration_ms` is that of the whole, `rusage` the sum,
      `stats` the first one's stdin and the last one's stdout.
  """

  @type exit_reason :: {:exited, 0..255} | {:signaled, atom | 32..64}

  @typedoc "The closed list: see the table above."
  @type cause :: unquote(@causes |> Enum.map(&elem(&1, 0)) |> NetRunner.Reason.union())

  @type rusage :: %{
          user_us: non_neg_integer,
          system_us: non_neg_integer,
          max_rss_kb: non_neg_integer,
          minflt: non_neg_integer,
          majflt: non_neg_integer,
          nvcsw: non_neg_integer,
          nivcsw: non_neg_integer
        }

  @type t :: %__MODULE__{
          cmd: [binary, ...],
          stdout: term,
          stderr: binary,
          exit: exit_reason | nil,
          cause: cause,
          error: NetRunner.Error.reason() | nil,
          os_pid: pos_integer,
          containment: :cgroup | :subreaper | :group,
          duration_ms: non_neg_integer,
          rusage: rusage | nil,
          cgroup: NetRunner.Cgroup.usage() | nil,
          stats: map,
          truncated?: boolean,
          orphans_killed: non_neg_integer,
          stages: [t, ...] | nil
        }

  @enforce_keys [:cmd, :cause, :os_pid, :containment, :duration_ms]
  defstruct [
    :cmd,
    :stdout,
    :exit,
    :cause,
    :error,
    :os_pid,
    :containment,
    :duration_ms,
    :rusage,
    :cgroup,
    :stages,
    stderr: "",
    stats: %{},
    truncated?: false,
    orphans_killed: 0
  ]

  @doc false
  @spec causes :: [cause]
  def causes, do: unquote(Enum.map(@causes, &elem(&1, 0)))

  @doc """
  The shell's number for the end: the exit code, or 128 plus the signal's; nil where the end is not
  known.

      iex> {:ok, result} = NetRunner.exec(["sh", "-c", "kill -9 $$"])
      iex> {result.exit, NetRunner.Result.status(result)}
      {{:signaled, :sigkill}, 137}
  """
  @spec status(t) :: 0..255 | nil
  def status(%__MODULE__{exit: nil}), do: nil
  def status(%__MODULE__{exit: exit}), do: NetRunner.Process.status(exit)

  @doc """
  Whether it ended by itself with an exit code that is in `ok`.

      iex> {:ok, result} = NetRunner.exec(["false"])
      iex> {NetRunner.Result.ok?(result), NetRunner.Result.ok?(result, [0, 1])}
      {false, true}
  """
  @spec ok?(t, [0..255]) :: boolean
  def ok?(result, ok \\ [0])
  def ok?(%__MODULE__{cause: :exited, exit: {:exited, code}}, ok), do: code in ok
  def ok?(%__MODULE__{}, _ok), do: false
end
