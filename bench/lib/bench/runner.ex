defmodule Bench.Runner do
  @moduledoc """
  Measures one scenario.

  Rounds are interleaved and rotated: every round measures every column once, and each begins with
  another column (A B C, B C A, C A B), so that a slow minute of the machine hits all of them alike.
  The first round warms up and is not counted. What is compared are ratios within a round.

  Each measurement runs in a process of its own, which is given up after a time limit: a contestant
  that fails, hangs or loses bytes is reported, and leaves the scenario.
  """

  alias Bench.{Contestant, Cpu, Machine, Native, Stats}

  @time_limit 120_000
  @calm_cores 0.1

  @type result :: %{
          name: String.t(),
          question: String.t(),
          sizes: map,
          rounds: pos_integer,
          quick: boolean,
          baseline: String.t(),
          rows: [%{column: String.t(), cells: [map | nil], state: String.t()}],
          metrics: [String.t()],
          bars: [map],
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
    load_before = Machine.load()
    {measured, failures} = rounds(columns, rounds, options[:calm])
    rows = for {column, _run} <- columns, do: {column, Map.get(measured, column, [])}
    table = table(rows, scenario, failures)

    %{
      name: name,
      question: scenario.question(),
      sizes: sizes,
      rounds: rounds,
      quick: quick,
      baseline: scenario.baseline(),
      metrics: Enum.map(scenario.metrics(), & &1.name),
      rows: table,
      bars: if(quick, do: [], else: bars(scenario, table)),
      failures: failures,
      load: {load_before, Machine.load()},
      strangers: strangers(measured)
    }
  end

  defp columns(scenario, sizes) do
    references =
      for {column, args} <- scenario.references(sizes),
          do: {column, fn -> Native.reference(args) end}

    contestants =
      for contestant <- Contestant.present(),
          Contestant.can?(contestant, scenario.needs()),
          scenario.contestant?(contestant),
          do: {contestant.name, fn -> scenario.measure(contestant, sizes) end}

    references ++ contestants
  end

  defp choose(columns, nil, _baseline), do: columns

  defp choose(columns, names, baseline),
    do: Enum.filter(columns, fn {column, _run} -> column == baseline or column in names end)

  ## Rounds

  defp rounds(columns, rounds, calm) do
    for round <- 0..rounds, reduce: {%{}, []} do
      {measured, failures} ->
        await_calm(calm)
        failed = Enum.map(failures, &elem(&1, 0))

        columns
        |> Enum.reject(fn {column, _run} -> column in failed end)
        |> rotate(round)
        |> Enum.reduce({measured, failures}, &measure_one(&1, &2, round))
    end
  end

  defp rotate([], _by), do: []

  defp rotate(list, by) do
    {front, back} = Enum.split(list, rem(by, length(list)))
    back ++ front
  end

  defp measure_one({column, run}, {measured, failures}, round) do
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
        before = Cpu.now()
        begin = System.monotonic_time(:nanosecond)
        measurement = run.()
        wall = (System.monotonic_time(:nanosecond) - begin) / 1000
        used = Cpu.between(before, Cpu.now())

        clocks = %{
          wall_us: wall,
          own_us: used.own,
          other_us: used.other,
          strangers_us: used.strangers,
          whole_us: wall
        }

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

  ## Figures

  defp table(rows, scenario, failures) do
    {_, base} = List.keyfind(rows, scenario.baseline(), 0, {nil, []})

    for {column, measurements} <- rows do
      state =
        case List.keyfind(failures, column, 0) do
          {_, why} -> "FAILED: " <> why
          nil -> "ok"
        end

      cells = for metric <- scenario.metrics(), do: cell(metric, measurements, base)
      %{column: column, cells: cells, state: state}
    end
  end

  defp cell(metric, measurements, base) do
    values = for m <- measurements, value = metric.of.(m), do: value

    if values != [] do
      %{median: Stats.median(values), ratio: metric.paired && ratio(metric, measurements, base)}
    end
  end

  defp ratio(metric, measurements, base) do
    pairs =
      for {m, b} <- Enum.zip(measurements, base),
          value = metric.of.(m),
          against = metric.of.(b),
          against != 0,
          do: value / against

    if pairs != [] and measurements != base do
      {low, high, confidence} = Stats.interval(pairs)
      %{median: Stats.median(pairs), low: low, high: high, confidence: confidence}
    end
  end

  defp bars(scenario, table) do
    names = Enum.map(scenario.metrics(), & &1.name)

    for {column, metric, direction, limit} <- scenario.bars(),
        %{cells: cells} <- [Enum.find(table, &(&1.column == column))],
        %{ratio: %{} = ratio} <- [Enum.at(cells, Enum.find_index(names, &(&1 == metric)))] do
      met = if direction == :at_least, do: ratio.median >= limit, else: ratio.median <= limit

      %{
        column: column,
        metric: metric,
        direction: direction,
        limit: limit,
        ratio: ratio,
        met: met
      }
    end
  end
end
