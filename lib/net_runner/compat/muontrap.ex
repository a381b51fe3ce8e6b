defmodule NetRunner.Compat.MuonTrap do
  @moduledoc """
  `MuonTrap.cmd/3` of MuonTrap 1.8 and 2.0.0-rc.1 (its cgroups are those of 2), run by NetRunner:

      alias NetRunner.Compat.MuonTrap

      {"hello\\n", 0} = MuonTrap.cmd("echo", ["hello"])

  `NetRunner.Compat.MuonTrap.Daemon` is its `Daemon`.

  ## What is the same

  The options below, what is raised and for what, `{output, :timeout}` of a command that took too long, 128 plus the
  signal's number for one that a signal ended, SIGTERM and then SIGKILL after `:delay_to_sigkill`, and that the command ends with
  the Erlang process that runs it.

  ## What differs

  | | MuonTrap | here |
  |---|---|---|
  | processes of the command that left its group | escape, without a cgroup | end with it |
  | background processes when the command has ended | - | are given a second, and then ended |
  | `timeout:` | returns at the time-out | returns when the command is gone |
  | `uid:` as a number | keeps the BEAM's supplementary groups | has that user's; a number without a name needs `gid:` |
  | `uid: 0`, `uid: "root"` | runs as root | raises `ArgumentError`; leave it out |
  | `cgroup_path:` | may be there already | must not; its parent must |
  | `cgroup:` with `:cpu_idle`, `:memory_min`, `:memory_low`, `:cpuset_cpus`, `:cpuset_mems` | set | raises `ArgumentError` |
  | a cgroup that cannot be had | an exit status, and a message on stderr | raises `NetRunner.Error` with the step and the system's reason |
  | `stdio_window:` | bytes on their way | raises `ArgumentError`: the pipe is the window, 64 KiB |
  | `cgroup_controllers:`, `cgroup_sets:` (1.x) | cgroups of version 1 | raise `ArgumentError`: say `cgroup:` |
  | `env:` with an empty value, `{"A", ""}` | unset, as by `System.cmd/3` | empty |
  | a NUL in an argument, in `cd:` or `arg0:` | what is before it counts | raises `ArgumentError` |
  | `parallelism:` | tunes the port | is checked, and means nothing: there is no port |
  | `MuonTrap.muontrap_path/0` | its helper | is not there |

  To leave this module for `NetRunner.exec/2`: `docs/migration/muontrap.md`.
  """

  alias NetRunner.Compat
  alias NetRunner.Compat.MuonTrap.Options

  @call "NetRunner.Compat.MuonTrap.cmd/3"
  @read_max 262_144

  @doc ~S"""
  Runs a command to its end: `{collected, exit_status}`, or `{collected, :timeout}`.

      iex> NetRunner.Compat.MuonTrap.cmd("echo", ["hello"])
      {"hello\n", 0}
      iex> NetRunner.Compat.MuonTrap.cmd("/bin/sh", ["-c", "echo start && sleep 10 && echo end"], timeout: 1000)
      {"start\n", :timeout}

  ## Options

    * `:into`, `:cd`, `:env`, `:arg0`, `:stderr_to_stdout`, `:parallelism` - as `NetRunner.Compat.System.cmd/3`.
    * `:capture_stderr_only` - whether stderr is collected, and stdout thrown away.
    * `:timeout` - milliseconds until the command is stopped.
    * `:delay_to_sigkill` - milliseconds between SIGTERM and SIGKILL. Default: 500.
    * `:uid`, `:gid`, `:groups` - as whom it runs: names or numbers. See `user:`, `group:` and `groups:` of `NetRunner.run/2`.
    * `:cgroup_base` - a cgroup that a new one is made in for this command, relative to `/sys/fs/cgroup`.
    * `:cgroup_path` - the path of the new one itself.
    * `:cgroup` - a map of its limits: `:memory_max`, `:memory_high`, `:memory_swap_max`, `:memory_oom_group`, `:pids_max`, `:cpu_max`,
      `:cpu_weight`, `:io_weight`. Their controllers are enabled in the base.
  """
  @spec cmd(binary, [binary], keyword) ::
          {Collectable.t(), exit_status :: non_neg_integer | :timeout}
  def cmd(command, args, opts \\ []) when is_binary(command) and is_list(args) do
    cmd = [command | args]
    Compat.check_words!(cmd, @call)
    {own, options} = Options.take!(opts, @call, &own/1)
    Options.enable_controllers(options)

    {options, read} =
      if options[:stdout] == :discard,
        do: {Keyword.put(options, :stderr, :pipe), &NetRunner.Process.read_stderr/3},
        else: {options, &NetRunner.Process.read/3}

    into = Keyword.get(own, :into, "")
    timeout = Keyword.get(own, :timeout, :infinity)
    Compat.run!(cmd, options, into, &read.(&1, @read_max, &2), timeout)
  end

  defp own({:into, into}), do: {:ok, into}
  defp own({:timeout, :infinity}), do: {:ok, :infinity}
  defp own({:timeout, ms}) when is_integer(ms) and ms >= 0, do: {:ok, ms}
  defp own(_other), do: :none
end
