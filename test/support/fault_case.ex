defmodule NetRunner.Test.FaultCase do
  @moduledoc """
  The case template of test/net_runner/faults/: the rows of the fault matrix (docs/reliability.md), one
  file for each who may be hit.

  Not async: the budgets are times, and several tests count what the whole node holds.

  After each test everything is as before it (`World.baseline/0`), whoever was hit. A test that cannot say
  so is tagged `off_baseline: "why"`.

  Tests tagged `:subreaper` need a guardian that is one; the portable build leaves them out.
  """

  use ExUnit.CaseTemplate

  alias NetRunner.Test.{OtherBeam, World}

  using do
    quote do
      use NetRunner.Test.Case
      import NetRunner.Test.FaultCase
      alias NetRunner.Test.OtherBeam

      # Elixir itself starts slowly on a busy machine.
      @moduletag timeout: 120_000
    end
  end

  # The first that is set up, so its end comes after what else a test does at its exit.
  setup context do
    unless context[:off_baseline] do
      before = World.settled_baseline()
      # The test's own process, and the one that takes its log, do not see that end.
      {:links, links} = Process.info(self(), :links)
      ours = 1 + Enum.count(links, &is_pid/1) - muted_handlers()
      before = %{before | erlang_processes: before.erlang_processes - ours}
      ExUnit.Callbacks.on_exit(fn -> await_before(before) end)
    end

    :ok
  end

  # Since Elixir 1.15 the handler that writes to the console, a process, is gone while a log is taken.
  defp muted_handlers do
    if match?({:ok, _}, :logger.get_handler_config(ExUnit.CaptureServer)), do: 1, else: 0
  end

  # This process is one more. A ladder of 5 s may have to end first.
  defp await_before(before) do
    World.await_baseline(Map.update!(before, :erlang_processes, &(&1 + 1)), 10_000)
  end

  @doc "D, the budget to notice something, in milliseconds."
  def d, do: 250

  @doc "K, the budget from SIGKILL to the end."
  def k, do: 1_000

  @doc "S, the budget of a sweep."
  def s, do: 2_000

  @doc """
  Another BEAM with one command in it, which has said that it is ready. `then` is what the BEAM does
  after that.
  """
  def other_beam(fixture, args, opts, launcher \\ [], then \\ "Process.sleep(:infinity)") do
    OtherBeam.start(
      """
      {:ok, p} = NetRunner.Process.start(#{inspect(program(fixture))}, #{inspect(args)}, #{inspect(opts)});
      {:ok, "ready\\n"} = NetRunner.Process.read(p);
      IO.puts("pids \#{NetRunner.Shepherd.info().os_pid} \#{:sys.get_state(p).guardian_pid}");
      IO.puts("up");
      #{then}
      """,
      launcher
    )
  end

  defp program("/" <> _ = path), do: path
  defp program(fixture), do: World.fixture(fixture)

  @doc """
  64 chains of forks at full speed, as a command and its options: they are a user of their own that may have 1,000
  processes, zombies counted, or they would fill the machine's table of pids. Needs root.
  """
  def chains_at_full_speed(lock_name) do
    chains = World.public_copy("fork_chain", 0o1777)
    lock = Path.join(Path.dirname(chains), lock_name)
    uid = World.unused_uid()
    who = [user: uid, group: uid, groups: [], cd: "/", rlimits: [nproc: 1_000]]
    {chains, ["64", lock, "15000"], lock, who ++ [env: [{"NR_CHAIN_PAUSE_US", "0"}]]}
  end

  @doc "Waits until so many processes were made, whoever made them."
  def await_forks(count) do
    first = last_pid()
    World.eventually("#{count} processes", fn -> abs(last_pid() - first) >= count end)
  end

  defp last_pid do
    File.read!("/proc/loadavg") |> String.split() |> List.last() |> String.to_integer()
  end

  @doc "The pids of its zygote and of its command's guardian; once."
  def shepherds(beam) do
    ["pids", zygote, guardian] = beam |> OtherBeam.read_line() |> String.split()
    {String.to_integer(zygote), String.to_integer(guardian)}
  end

  @doc "Stops a process with SIGSTOP, and waits until it is stopped."
  def freeze(os_pid) do
    {_, 0} = System.cmd("kill", ["-STOP", to_string(os_pid)])
    World.eventually("#{os_pid} is stopped", fn -> World.proc_state(os_pid) == "T" end)
  end

  @doc """
  Kills the zygote and gives its pid. Waits until it is dead: a request that a dying one still took is
  :shepherd_lost, rightly (14). A zygote that had not lived for a second would be replaced later only.
  """
  def kill_zygote do
    zygote = await_healthy_zygote()
    {_, 0} = System.cmd("kill", ["-KILL", to_string(zygote)])
    World.eventually("the zygote is dead", fn -> not World.running?(zygote) end)
    zygote
  end

  @doc "Waits until there is a zygote that has lived for a second, and gives its pid."
  def await_healthy_zygote do
    World.eventually("a zygote that is a second old", 10_000, fn ->
      zygote = NetRunner.Shepherd.info().os_pid
      zygote != nil and World.age_ms(zygote) > 1_100 and zygote
    end)
  end
end
