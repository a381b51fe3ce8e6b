defmodule NetRunner.Test.World do
  @moduledoc """
  What tests see of the world outside: processes, descriptors, locks, fixtures.
  """

  import ExUnit.Assertions

  @doc "The path of a fixture program (test/fixtures/NAME.c)."
  def fixture(name) do
    path = Application.app_dir(:net_runner, ["cmake", "fixtures", "fixture_#{name}"])
    unless File.exists?(path), do: flunk("no fixture #{name}: expected #{path}")
    path
  end

  @doc """
  Waits until `fun` gives something true, looking again every few milliseconds, and more seldom with time: a look may
  keep those busy that it waits for. Flunks with `what` after `ms`. Only for facts of the operating system that send no
  event.
  """
  def eventually(what, ms \\ 2_000, fun) do
    eventually_since(what, System.monotonic_time(:millisecond), ms, fun)
  end

  defp eventually_since(what, began, ms, fun) do
    result = fun.()
    waited = System.monotonic_time(:millisecond) - began

    cond do
      result ->
        result

      waited > ms ->
        flunk("not within #{ms} ms: #{what}")

      true ->
        receive do
        after
          waited |> div(10) |> max(2) |> min(50) -> eventually_since(what, began, ms, fun)
        end
    end
  end

  @doc """
  What these functions give, in their order, each called in a process of its own: for calls that only wait, so that
  a test waits once.
  """
  def at_once(functions), do: functions |> Enum.map(&Task.async/1) |> Task.await_many(100_000)

  @doc """
  What NetRunner.Lines or NetRunner.Frames makes of chunks, one after the other: the elements, and the error if there was
  one.
  """
  def cut(chunks, module, t, found \\ [])

  def cut([], module, t, found) do
    case module.finish(t) do
      {:error, reason, []} -> {found, reason}
      last -> found ++ last
    end
  end

  def cut([chunk | rest], module, t, found) do
    case module.feed(t, chunk) do
      {:error, reason, before} -> {found ++ before, reason}
      {more, t} -> cut(rest, module, t, found ++ more)
    end
  end

  @doc "The smallest start that `NetRunner.Protocol.spawn/2` takes: /bin/true, with nothing."
  def minimal_start do
    %{
      exe: "/bin/true",
      cd: "",
      argv: ["true"],
      env: {0, []},
      stop_signal: 9,
      kill_timeout: 0,
      drain_timeout: 0,
      stdin: :null,
      stdout: :null,
      stderr: :null,
      orphans: :kill,
      pty: false,
      settings: [],
      cgroup: nil
    }
  end

  @doc "Runs a function while the zygote is stopped; whatever happens in it, the zygote goes on."
  def with_frozen_zygote(fun) do
    NetRunner.Shepherd.dismiss()
    zygote = to_string(NetRunner.Shepherd.info().os_pid)
    {_, 0} = System.cmd("kill", ["-STOP", zygote])

    try do
      fun.()
    after
      {_, 0} = System.cmd("kill", ["-CONT", zygote])
    end
  end

  @doc "The path of a server program, nil without it. Debian keeps some where only root looks."
  def server(name) do
    in_sbin = Path.join("/usr/sbin", name)
    System.find_executable(name) || if File.exists?(in_sbin), do: in_sbin
  end

  @doc "A port of 127.0.0.1 that nobody listens on."
  def free_port do
    {:ok, socket} = :gen_tcp.listen(0, ip: {127, 0, 0, 1}, reuseaddr: true)
    {:ok, port} = :inet.port(socket)
    :ok = :gen_tcp.close(socket)
    port
  end

  @doc "A user id without a name and without a process. The user namespace of a container may end at 65,535."
  def unused_uid do
    uid = Enum.random(20_000..60_000)

    used? = Enum.any?(pids(), &match?({:ok, %{uid: ^uid}}, File.stat("/proc/#{&1}")))

    if used?, do: unused_uid(), else: uid
  end

  @doc "A path in a fresh directory that is removed with the test."
  def tmp_path(name) do
    dir =
      Path.join(
        System.tmp_dir!(),
        "net_runner_test_#{System.unique_integer([:positive])}_#{System.pid()}"
      )

    File.mkdir_p!(dir)
    ExUnit.Callbacks.on_exit(fn -> File.rm_rf!(dir) end)
    Path.join(dir, name)
  end

  @doc """
  A copy of a fixture program where everybody may execute it, as the build folder may be closed to others; and
  may write beside it, with `folder_mode` 0o1777.
  """
  def public_copy(name, folder_mode \\ 0o755) do
    path = tmp_path(name)
    File.chmod!(Path.dirname(path), folder_mode)
    File.cp!(fixture(name), path)
    File.chmod!(path, 0o755)
    path
  end

  @doc "Whether a process exists and is no zombie."
  def running?(os_pid), do: proc_state(os_pid) not in [nil, "Z", "X"]

  @doc "The state letter of proc(5), nil without such a process."
  def proc_state(os_pid), do: proc_stat(os_pid, 3)

  @doc "When a process began, in clock ticks since boot; with the pid it is a name for ever."
  def start_time(os_pid), do: proc_stat(os_pid, 22)

  defp proc_stat(os_pid, field) do
    # The command's name, the second field, stands in parentheses and may hold anything.
    os_pid
    |> of_proc("stat")
    |> String.split(")")
    |> List.last()
    |> String.split()
    |> Enum.at(field - 3)
  end

  @doc "For how long it has been there. A clock tick is 10 ms everywhere."
  def age_ms(os_pid) do
    [uptime | _] = String.split(File.read!("/proc/uptime"))
    round(String.to_float(uptime) * 1000) - String.to_integer(start_time(os_pid) || "0") * 10
  end

  @doc "A process's environment as it was executed, `NAME=value` each; empty if it cannot be read."
  def environ(os_pid), do: String.split(of_proc(os_pid, "environ"), <<0>>, trim: true)

  @doc "The pids whose environment has this NAME=value, zombies not counted."
  def tagged(tag) do
    for pid <- pids(), has_tag?(of_proc(pid, "environ"), tag), running?(pid), do: pid
  end

  # Most environments do not have it anywhere, and need not be taken apart.
  defp has_tag?(environ, tag),
    do: String.contains?(environ, tag) and tag in String.split(environ, <<0>>)

  @doc "The pids of all processes that can be seen."
  def pids do
    for name <- File.ls!("/proc"), {pid, ""} <- [Integer.parse(name)], do: pid
  end

  # A file of a process in proc(5), "" where it cannot be read. A look at everybody is hundreds of these, several
  # times in each test: File.read/1 would ask the one file server of the node for each.
  defp of_proc(os_pid, name) do
    case :prim_file.read_file("/proc/#{os_pid}/#{name}") do
      {:ok, text} -> text
      {:error, _gone_or_closed_to_us} -> ""
    end
  end

  @doc "A tag for `tagged/1` and the env option that sets it."
  def tag do
    value = "#{System.unique_integer([:positive])}_#{System.pid()}_#{System.os_time()}"
    {"NET_RUNNER_TAG=#{value}", [{"NET_RUNNER_TAG", value}]}
  end

  @doc """
  That nobody of this tag is left, when a call has returned. Where there are no subreapers (the portable build), whoever
  was killed with its group is nobody's child, and may take a moment more.
  """
  def assert_gone(tag) do
    if NetRunner.backend().containment == :group,
      do: eventually("nobody of #{tag} is left", fn -> tagged(tag) == [] end),
      else: assert(tagged(tag) == [])
  end

  @doc """
  Waits until nobody who inherited the lock on this file lives: the proof of death that no pid can
  give. Gives the milliseconds it took.
  """
  def await_free(path, ms) do
    {us, {said, _status}} =
      :timer.tc(fn -> System.cmd(fixture("await_lock"), [path, to_string(ms)]) end)

    if said != "free\n", do: flunk("after #{ms} ms #{path} is still locked")
    div(us, 1000)
  end

  @doc "Whether somebody holds the lock now."
  def locked?(path), do: match?({"held\n", _}, System.cmd(fixture("await_lock"), [path, "0"]))

  @doc "Those of the files that somebody holds a lock on now, from proc(5)'s locks."
  def locks_held(paths) do
    held =
      for [_, inode] <- Regex.scan(~r/:(\d+) \d+ EOF$/m, File.read!("/proc/locks")),
          do: String.to_integer(inode)

    for path <- paths, {:ok, %{inode: inode}} <- [File.stat(path)], inode in held, do: path
  end

  @doc "The zygotes and guardians of a BEAM, also those of zygotes that were killed. They carry no tag."
  def shepherds_of(beam_pid) do
    title = "shepherd\0#{beam_pid}\0"
    for pid <- pids(), of_proc(pid, "cmdline") == title, running?(pid), do: pid
  end

  @doc "The children of a process, from proc(5)."
  def children(os_pid) do
    case File.ls("/proc/#{os_pid}/task") do
      {:ok, threads} ->
        for thread <- threads,
            pid <- String.split(of_proc(os_pid, "task/#{thread}/children")),
            do: String.to_integer(pid)

      {:error, _gone} ->
        []
    end
  end

  @doc """
  Puts a process into uninterruptible sleep (state D), and gives the function that lets go of it. Needs
  the freezer of cgroup version 1: it is the one that not even SIGKILL gets through.
  """
  def freeze_hard(os_pid) do
    group = Path.join(freezer(), "net_runner_test_#{os_pid}")
    File.mkdir!(group)
    File.write!(Path.join(group, "cgroup.procs"), to_string(os_pid))
    File.write!(Path.join(group, "freezer.state"), "FROZEN")
    thaw = fn -> File.write(Path.join(group, "freezer.state"), "THAWED") end

    ExUnit.Callbacks.on_exit(fn ->
      thaw.()
      eventually("the frozen group is empty", fn -> File.rmdir(group) != {:error, :ebusy} end)
    end)

    eventually("#{os_pid} sleeps", fn -> proc_state(os_pid) == "D" end)
    thaw
  end

  @doc "The folder of cgroup version 1's freezer."
  def freezer, do: "/sys/fs/cgroup/freezer"

  @doc "Where cgroup version 2 is mounted and ours to write to; nil where it is not."
  def cgroup_mount do
    mounts = for line <- File.stream!("/proc/mounts"), do: String.split(line, " ")

    Enum.find_value(mounts, fn [_device, path, kind | _] ->
      # Root writes what a read-only mount refuses: ask the kernel.
      if kind == "cgroup2" and match?({_, 0}, System.cmd("test", ["-w", path])), do: path
    end)
  end

  @doc "Whether leaves below a parent of `cgroup_parent/1` can have this controller."
  def cgroup_controller?(name) do
    mount = cgroup_mount()

    mount != nil and name in String.split(File.read!(Path.join(mount, "cgroup.controllers"))) and
      File.write(Path.join(mount, "cgroup.subtree_control"), "+" <> name) == :ok
  end

  @doc "A cgroup for leaves, with these controllers for them. It is removed with the test."
  def cgroup_parent(controllers \\ []) do
    parent = Path.join(cgroup_mount(), "#{cgroup_parents()}#{System.unique_integer([:positive])}")

    File.mkdir!(parent)

    # Whatever a test that failed has left must not stay.
    ExUnit.Callbacks.on_exit(fn ->
      File.write(Path.join(parent, "cgroup.kill"), "1")

      System.cmd("find", [parent, "-depth", "-type", "d", "-exec", "rmdir", "{}", ";"],
        stderr_to_stdout: true
      )

      File.rmdir(parent)
    end)

    ExUnit.Callbacks.on_exit(fn ->
      eventually("#{parent} is empty", 5_000, fn -> cgroups_below(parent) == [] end)
    end)

    for name <- controllers,
        do: File.write!(Path.join(parent, "cgroup.subtree_control"), "+" <> name)

    parent
  end

  defp cgroup_parents, do: "net_runner_test_#{System.pid()}_"

  @doc "The cgroups below a cgroup."
  def cgroups_below(parent) do
    for name <- File.ls!(parent), path = Path.join(parent, name), File.dir?(path), do: path
  end

  @doc "In which cgroup of version 2 a process lives, as a path; nil once it has ended."
  def cgroup_of(os_pid) do
    with {:ok, text} <- File.read("/proc/#{os_pid}/cgroup"),
         [_, below] <- Regex.run(~r/^0::(.*)$/m, text) do
      # Of who has ended and is not reaped, and of a cgroup that is gone, there is a " (deleted)".
      Path.join(cgroup_mount(), below)
    else
      _gone -> nil
    end
  end

  @doc "Puts a process into a cgroup."
  def move_into(cgroup, os_pid),
    do: File.write!(Path.join(cgroup, "cgroup.procs"), to_string(os_pid))

  @doc """
  The launcher of whatever shall be PID 1 of a pid namespace of its own, which ends with it: all of
  it, and at once.
  """
  def pid_namespace do
    become_root =
      if System.cmd("id", ["-u"]) == {"0\n", 0}, do: [], else: ~w(--user --map-root-user)

    ~w(unshare --pid --fork --kill-child --mount-proc) ++ become_root ++ ["--"]
  end

  @doc """
  The launcher of whatever shall have a mount namespace of its own, in which these commands of the shell
  were run before. Needs root.
  """
  def mount_namespace(commands \\ []) do
    script = Enum.map_join(commands, &(&1 <> " && ")) <> ~S(exec "$@")
    ["unshare", "--mount", "sh", "-c", script, "sh"]
  end

  @doc "The pids of all zombies that can be seen."
  def zombies do
    for pid <- pids(), proc_state(pid) == "Z", do: pid
  end

  @doc "The pids of the processes with this name (comm) that run."
  def named(name) do
    for pid <- pids(), of_proc(pid, "comm") == name <> "\n", running?(pid), do: pid
  end

  @doc """
  Starts `sleep` as the process `wanted`, a pid that is free: a stranger who was given the pid of somebody
  who ended. Only in a pid namespace of its own.
  """
  def stranger(wanted) do
    eventually("a stranger has pid #{wanted}", 10_000, fn ->
      File.write!("/proc/sys/kernel/ns_last_pid", to_string(wanted - 1))
      port = Port.open({:spawn_executable, System.find_executable("sleep")}, args: ["60"])
      # Any new thread or process may have been faster.
      {:os_pid, given} = Port.info(port, :os_pid)
      if given == wanted, do: port, else: end_stranger(given)
    end)
  end

  @doc "Ends what `stranger/1` has started."
  def end_stranger(os_pid) do
    {_, 0} = System.cmd("kill", ["-KILL", to_string(os_pid)])
    nil
  end

  @doc "How many bytes a process has written so far."
  def written(os_pid), do: number(~r/wchar: (\d+)/, "/proc/#{os_pid}/io")

  @doc "How many bytes a process has read and written so far, by whatever system call."
  def transferred(os_pid), do: number(~r/rchar: (\d+)/, "/proc/#{os_pid}/io") + written(os_pid)

  @doc "How much memory of a process is resident, in KiB."
  def rss_kb(os_pid), do: number(~r/VmRSS:\s+(\d+) kB/, "/proc/#{os_pid}/status")

  @doc "How much it was at most, since its start or since a 5 was written to its clear_refs."
  def rss_peak_kb(os_pid), do: number(~r/VmHWM:\s+(\d+) kB/, "/proc/#{os_pid}/status")

  defp number(pattern, file) do
    [_, number] = Regex.run(pattern, File.read!(file))
    String.to_integer(number)
  end

  @doc "How many descriptors this BEAM may have."
  def descriptors_max do
    [_, soft] = Regex.run(~r/Max open files +(\d+)/, File.read!("/proc/self/limits"))
    String.to_integer(soft)
  end

  @doc "How many descriptors a process has open."
  def fd_count(os_pid), do: length(File.ls!("/proc/#{os_pid}/fd"))

  @doc """
  What must be the same before and after anything a test does: descriptors and memfds of the BEAM and of the
  zygote, guardians (also those of zygotes that were killed), zombies, cgroups, registered slots in use, streams on
  rings, servers, Erlang processes, ports, requests in flight. nil while there is no zygote.
  """
  def baseline do
    if own = own_baseline(), do: with_shepherds(own)
  end

  # What is seen without a look at everybody's processes.
  defp own_baseline do
    NetRunner.Shepherd.dismiss()
    shepherd = NetRunner.Shepherd.info()
    if shepherd.os_pid, do: own_baseline(shepherd)
  rescue
    _file_of_a_zygote_that_has_just_ended in File.Error -> nil
  end

  defp with_shepherds(own),
    do: Map.put(own, :shepherds, length(shepherds_of(String.to_integer(System.pid()))))

  defp own_baseline(shepherd) do
    rings = NetRunner.Nif.rings_info()
    beam = String.to_integer(System.pid())
    {guardians, beam_children} = {children(shepherd.os_pid), children(beam)}

    %{
      beam_fds: fd_count(beam),
      zygote_fds: fd_count(shepherd.os_pid),
      memfds: memfds(beam) + memfds(shepherd.os_pid),
      guardians: length(guardians),
      beam_children: length(beam_children),
      zombies: Enum.count(guardians ++ beam_children, &(proc_state(&1) == "Z")),
      erlang_processes: :erlang.system_info(:process_count),
      ports: :erlang.system_info(:port_count),
      slots_in_use: rings.slots_in_use,
      streams: rings.streams,
      cgroups: leaves(),
      servers: Registry.count(NetRunner.Registry),
      in_flight: shepherd.in_flight,
      queued: shepherd.queued
    }
  end

  # Below the parents that our tests have made. No test mounts anything over this BEAM, so that it need not be asked
  # each time, by a process of its own, where that is.
  defp leaves do
    case known(:cgroup_mount, &cgroup_mount/0) do
      nil -> 0
      mount -> length(Path.wildcard("#{mount}/#{cgroup_parents()}*/*/cgroup.procs"))
    end
  end

  defp known(what, ask) do
    key = {__MODULE__, what}

    with :unknown <- :persistent_term.get(key, :unknown) do
      answer = ask.()
      :persistent_term.put(key, answer)
      answer
    end
  end

  defp memfds(os_pid) do
    Enum.count(
      File.ls!("/proc/#{os_pid}/fd"),
      &match?({:ok, "/memfd:" <> _}, File.read_link("/proc/#{os_pid}/fd/#{&1}"))
    )
  end

  @doc "Runs `fun` and asserts that the baseline is reached again."
  def back_at_baseline(fun) do
    before = settled_baseline()
    result = fun.()
    await_baseline(before)
    result
  end

  @doc "Whether a process waits in one of NetRunner's own functions, as a reader does for bytes."
  def waits?(pid) do
    case Process.info(pid, [:status, :current_function]) do
      [status: :waiting, current_function: {module, _, _}] ->
        match?("Elixir.NetRunner." <> _, Atom.to_string(module))

      _ ->
        false
    end
  end

  @doc """
  The baseline once what an earlier test left to finish (a descriptor that ERTS closes later, a guardian on its
  way out) is over.
  """
  def settled_baseline do
    began = System.monotonic_time(:millisecond)

    eventually("a settled baseline", 30_000, fn ->
      one = steady(&own_baseline/0)
      waited = System.monotonic_time(:millisecond) - began
      if one != nil and at_rest?(one, waited), do: with_steady_shepherds(one)
    end)
  end

  defp steady(look) do
    one = look.()

    receive do
    after
      20 -> if one != nil and look.() == one, do: one
    end
  end

  # Where there are more than a zygote and its guardians, those may be on their way out.
  defp with_steady_shepherds(one) do
    all = with_shepherds(one)
    if all.shepherds == all.guardians + 1, do: all, else: steady(&baseline/0)
  end

  # Commands of the test before end with it, a moment later. Who stays after a second is this test's own; whose guardian has no server, and
  # stays after ten, is somebody's who was told so.
  defp at_rest?(%{guardians: 0, servers: 0}, _waited), do: true
  defp at_rest?(%{guardians: same, servers: same}, waited), do: waited > 1_000
  defp at_rest?(_one, waited), do: waited > 10_000

  @doc "Waits until the baseline is this one again."
  def await_baseline(before, ms \\ 30_000),
    do: assert_baseline(before, System.monotonic_time(:millisecond) + ms, 5)

  # A look may keep those busy that it waits for: more seldom with time, and all of /proc only where the rest is as before.
  defp assert_baseline(before, deadline, pause) do
    own = own_baseline()

    cond do
      own == Map.delete(before, :shepherds) and with_shepherds(own) == before ->
        :ok

      System.monotonic_time(:millisecond) > deadline ->
        assert baseline() == before

      true ->
        receive do
        after
          pause -> assert_baseline(before, deadline, min(2 * pause, 80))
        end
    end
  end

  @doc "Starts NetRunner anew."
  def restart_net_runner! do
    Application.stop(:net_runner)
    {:ok, _} = Application.ensure_all_started(:net_runner)
  end

  @doc "The same with this in its configuration, or why it does not start. See `keep_config/1`."
  def restart_net_runner(key, value) do
    Application.stop(:net_runner)
    Application.put_env(:net_runner, key, value)
    Application.ensure_all_started(:net_runner)
  end

  @doc "After the test, what it is configured with is what it was, and it runs with that."
  def keep_config(key) do
    configured = Application.fetch_env(:net_runner, key)

    ExUnit.Callbacks.on_exit(fn ->
      case configured do
        {:ok, value} -> Application.put_env(:net_runner, key, value)
        :error -> Application.delete_env(:net_runner, key)
      end

      restart_net_runner!()
    end)
  end

  @doc "Of this BEAM's schedulers: thread => the processors that it may run on, as the kernel lists them."
  def scheduler_affinity do
    for status <- Path.wildcard("/proc/self/task/*/status"),
        # Other threads may end meanwhile.
        {:ok, text} <- [File.read(status)],
        text =~ ~r/^Name:\s(\d+_scheduler|erts_sched_\d+)$/m,
        into: %{} do
      [_, list] = Regex.run(~r/^Cpus_allowed_list:\s*(\S+)$/m, text)
      {status |> Path.dirname() |> Path.basename(), list}
    end
  end

  @doc "What is logged meanwhile, supervisors' reports included, as with `handle_sasl_reports: true`."
  def sasl_log(fun) do
    undo = let_sasl_reports_through()
    ExUnit.Callbacks.on_exit(undo)
    log = ExUnit.CaptureLog.capture_log(fun)
    undo.()
    log
  end

  # Logger's handler keeps them back, or, since Elixir 1.15, its translator, which is a filter of everybody's.
  defp let_sasl_reports_through do
    case :logger.get_handler_config(Logger) do
      {:ok, %{config: config}} ->
        :ok = :logger.update_handler_config(Logger, :config, %{config | sasl: true})
        fn -> :logger.update_handler_config(Logger, :config, config) end

      {:error, {:not_found, Logger}} ->
        %{filters: filters} = :logger.get_primary_config()
        {{translate, options}, rest} = Keyword.pop!(filters, :logger_translator)
        open = [{:logger_translator, {translate, %{options | sasl: true}}} | rest]
        :ok = :logger.set_primary_config(:filters, open)
        fn -> :logger.set_primary_config(:filters, filters) end
    end
  end

  @doc "An endless lazy enumerable of `bytes`-sized binaries, the n-th one different from the others."
  def blocks(count, bytes) do
    block = :binary.copy("0123456789abcdef", div(bytes, 16) + 1)

    Stream.map(1..count, fn n ->
      <<n::64, binary_part(block, rem(n, 16), bytes - 8)::binary>>
    end)
  end

  def sha(enumerable) do
    enumerable
    |> Enum.reduce(:crypto.hash_init(:sha256), &:crypto.hash_update(&2, &1))
    |> :crypto.hash_final()
  end
end
