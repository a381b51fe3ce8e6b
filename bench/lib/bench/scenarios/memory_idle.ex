defmodule Bench.Scenarios.MemoryIdle do
  # What does a command cost that only waits? N times cat, started and left alone; what is counted is
  # the memory of the BEAM (what it says is in use: it keeps what it was given) and of the helpers, not
  # of cat. Helpers by PSS, so that shared pages count once.

  use Bench.Scenario

  @impl true
  def question, do: "How much memory does an idle command take, in the BEAM and in helpers?"

  @impl true
  def sizes(:full), do: %{commands: 200}
  def sizes(:quick), do: %{commands: 20}

  @impl true
  def needs, do: :open

  @impl true
  def baseline, do: "Port"

  # The backends differ in what waits cost, and nothing waits here.
  @impl true
  def contestant?(contestant), do: contestant.name not in ["poll", "io_uring"]

  @impl true
  def measure(%{module: module, arg: arg}, sizes) do
    others = Bench.Offspring.count()
    helpers = helpers()
    {beam, own} = {beam(), pss(helpers)}
    processes = for _ <- 1..sizes.commands, do: module.open(arg, ["cat"])
    # Some libraries say so before their command runs.
    Bench.Offspring.until(fn -> missing(sizes.commands) end)
    all = helpers()
    extra = pss(all) - own

    measurement = %{
      work: sizes.commands,
      wrong: nil,
      beam_kib: (beam() - beam) / sizes.commands,
      helper_kib: extra / sizes.commands,
      tables_kib: (tables(all) - tables(helpers)) / sizes.commands,
      helpers: (length(all) - length(helpers)) / sizes.commands
    }

    Enum.each(processes, &module.close/1)
    Bench.Offspring.await(others)
    measurement
  end

  @impl true
  def metrics do
    [
      metric("KiB in all", :amount, &(&1.beam_kib + &1.helper_kib)),
      metric("BEAM KiB", :amount, & &1.beam_kib),
      metric("helper KiB", :amount, & &1.helper_kib),
      metric("helper page tables KiB", :amount, & &1.tables_kib),
      metric("helpers", :detail, & &1.helpers)
    ]
  end

  @impl true
  def bars, do: [bar("auto", "KiB in all", :at_most, 100)]

  defp beam do
    :erlang.garbage_collect()
    :erlang.memory(:total) / 1024
  end

  defp missing(count) do
    cats = Enum.count(Bench.Offspring.list(), &(name(&1) == "cat"))
    if cats < count, do: "#{cats} of #{count} commands run"
  end

  # Everything below us but the commands themselves.
  defp helpers do
    Enum.reject(Bench.Cpu.helpers() ++ Bench.Offspring.list(), &(name(&1) == "cat"))
  end

  defp name(os_pid) do
    case File.read("/proc/#{os_pid}/comm") do
      {:ok, name} -> String.trim(name)
      {:error, _gone} -> ""
    end
  end

  defp pss(os_pids),
    do: os_pids |> Enum.map(&field("/proc/#{&1}/smaps_rollup", "Pss")) |> Enum.sum()

  defp tables(os_pids),
    do: os_pids |> Enum.map(&field("/proc/#{&1}/status", "VmPTE")) |> Enum.sum()

  defp field(path, name) do
    with {:ok, text} <- File.read(path),
         [_, kib] <- Regex.run(~r/^#{name}:\s*(\d+)/m, text) do
      String.to_integer(kib)
    else
      _absent -> 0
    end
  end
end
