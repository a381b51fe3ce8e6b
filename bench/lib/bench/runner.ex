defmodule Bench.Runner do
  @moduledoc """
  Measures one scenario.

  Rounds are interleaved and rotated: every round measures every column once, and each begins with
  another column (A B C, B C A, C A B), so that a slow minute of the machine hits all of them alike.
  The first round warms up and is not counted. What is compared are ratios within a round.

  Each measurement runs in a process of its own, which is given up after a time limit: a contestant
  that fails, hangs or loses bytes is reported, and leaves the scenario.
  """

  alias Bench.{Bar, Contestant, Cpu, Figures, Machine, Native}

  @time_limit 120_000
  @calm_cores 0.1

  @type result :: %{
          name: String.t(),
          question: String.t(),
          at: String.t(),
          machine: String.t(),
          absent: [String.t()],
          versions: [{String.t(), String.t()}],
          sizes: map,
          rounds: pos_integer,
          quick: boolean,
          baseline: String.t(),
          metrics: [%{name: String.t(), kind: Bench.Metric.kind()}],
          rows: [Figures.row()],
          bars: [Bar.judged()],
          failures: [{String.t(), String.t()}],
          load: {String.t(), String.t()},
          strangers: float
        }

  @spec run(String.t(), module, keyword) :: result
  def run(name, scenario, options) do
    quick = Keyword.get(options, :quick, false)
    sizes = scenario.sizes(if quick, do: :quick, else: :full)
    rounds = options[:rounds] || if(quick, do: 2, else: scenario.rounds())
    columns = scenario |> columns(sizes) |> choose(options[:columns], scenario.baseline())
    unable = choose(unable(scenario), options[:columns], scenario.baseline())
    metrics = scenario.metrics()
    at = DateTime.to_iso8601(DateTime.utc_now())
    load_before = Machine.load()
    {measured, failures} = rounds(columns, rounds, options[:calm])
    rows = Figures.table(columns, measured, failures, metrics, scenario.baseline())
    rows = rows ++ Enum.map(unable, &Figures.unable(&1, metrics))

    %{
      name: name,
      question: scenario.question(),
      at: at,
      machine: Machine.describe(),
      absent: Contestant.absent(),
      versions:
        for(%{name: column, version: version} <- columns ++ unable, do: {column, version}),
      sizes: sizes,
      rounds: rounds,
      quick: quick,
      baseline: scenario.baseline(),
      metrics: Enum.map(metrics, &Map.take(&1, [:name, :kind])),
      rows: rows,
      bars: if(quick, do: [], else: bars(scenario, rows, metrics)),
      failures: failures,
      load: {load_before, Machine.load()},
      strangers: strangers(measured)
    }
  end

  defp columns(scenario, sizes) do
    references =
      for {column, how} <- scenario.references(sizes),
          do: Map.merge(%{name: column, role: :reference}, reference(how))

    contestants =
      for contestant <- Contestant.present(),
          Contestant.can?(contestant, scenario.needs()),
          scenario.contestant?(contestant),
          do: %{
            name: contestant.name,
            role: Contestant.role(contestant),
            version: contestant.module.version(),
            run: fn -> scenario.measure(contestant, sizes) end
          }

    references ++ contestants
  end

  # They have a row too, which says why it is empty.
  defp unable(scenario) do
    for contestant <- Contestant.present(),
        not Contestant.can?(contestant, scenario.needs()),
        scenario.contestant?(contestant),
        do: %{
          name: contestant.name,
          role: Contestant.role(contestant),
          version: contestant.module.version(),
          why: Contestant.lack(contestant, scenario.needs())
        }
  end

  defp reference(args) when is_list(args),
    do: %{run: fn -> Native.reference(args) end, version: Native.compiler()}

  defp reference({fun, version}) when is_function(fun, 0), do: %{run: fun, version: version}

  defp choose(columns, nil, _baseline), do: columns

  defp choose(columns, names, baseline),
    do: Enum.filter(columns, &(&1.name == baseline or &1.name in names))

  # What holds for `:auto` everywhere is judged wherever it takes part; beside what it chooses from, or it says that it is not.
  defp bars(scenario, rows, metrics) do
    of_auto = if Enum.any?(rows, &(&1.column == "auto")), do: Bar.of_auto(metrics), else: []
    Enum.map(scenario.bars() ++ of_auto, &Bar.judge(&1, rows, metrics))
  end

  ## Rounds

  defp rounds(columns, rounds, calm) do
    for round <- 0..rounds, reduce: {%{}, []} do
      {measured, failures} ->
        await_calm(calm)
        failed = Enum.map(failures, &elem(&1, 0))

        columns
        |> Enum.reject(&(&1.name in failed))
        |> rotate(round)
        |> Enum.reduce({measured, failures}, &measure_one(&1, &2, round))
    end
  end

  defp rotate([], _by), do: []

  defp rotate(list, by) do
    {front, back} = Enum.split(list, rem(by, length(list)))
    back ++ front
  end

  defp measure_one(%{name: column, run: run}, {measured, failures}, round) do
    case measure(run) do
      {:ok, %{wrong: nil}} when round == 0 -> {measured, failures}
      {:ok, %{wrong: nil} = m} -> {Map.update(measured, column, [m], &(&1 ++ [m])), failures}
      {:ok, %{wrong: wrong}} -> {measured, failures ++ [{column, wrong}]}
      {:error, why} -> {measured, failures ++ [{column, why}]}
    end
  end

  defp measure(run) do
    :erlang.garbage_collect()

    {pid, monitor} =
      spawn_monitor(fn ->
        {measurement, clocks} = Cpu.timed(run)
        clocks = Map.put(clocks, :whole_us, clocks.wall_us)
        exit({:measured, Map.merge(clocks, measurement)})
      end)

    receive do
      {:DOWN, ^monitor, :process, _pid, {:measured, measurement}} ->
        {:ok, measurement}

      {:DOWN, ^monitor, :process, _pid, reason} ->
        {:error,
         reason |> Exception.format_exit() |> String.replace(~r/\s+/, " ") |> String.slice(0, 200)}
    after
      @time_limit ->
        Process.exit(pid, :kill)
        Process.demonitor(monitor, [:flush])
        {:error, "still not done after #{div(@time_limit, 1000)} s"}
    end
  end

  # Cores that neither we nor what we started used, on average over all measurements.
  defp strangers(measured) do
    all = measured |> Map.values() |> List.flatten()
    sum(all, :strangers_us) / max(sum(all, :whole_us), 1)
  end

  defp sum(measurements, key), do: measurements |> Enum.map(& &1[key]) |> Enum.sum()

  # Waits, up to `seconds` per round, until others use next to nothing for half a second.
  defp await_calm(nil), do: :ok

  defp await_calm(seconds) do
    deadline = System.monotonic_time(:millisecond) + seconds * 1000
    until_calm(deadline)
  end

  defp until_calm(deadline) do
    before = Cpu.now()
    Process.sleep(500)
    strangers = Cpu.between(before, Cpu.now()).strangers / 500_000

    if strangers > @calm_cores and System.monotonic_time(:millisecond) < deadline,
      do: until_calm(deadline),
      else: :ok
  end
end
