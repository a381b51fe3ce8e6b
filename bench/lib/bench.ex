defmodule Bench do
  @moduledoc """
  The benchmarks' front door: which scenarios there are, and running them one after the other.

  How things are measured is in `Bench.Runner`, what is measured in `Bench.Scenario` and the files in
  `scenarios/`, who takes part in `Bench.Contestant` and the files in `contestants/`.
  """

  alias Bench.{Contestant, Machine, Native, Protocols, Report, Runner, Saved}

  @scenarios [
    {"read_64k", Bench.Scenarios.Read64k},
    {"read_1m", Bench.Scenarios.Read1m},
    {"read_cat", Bench.Scenarios.ReadCat},
    {"zcat", Bench.Scenarios.Zcat},
    {"stdio_sed", Bench.Scenarios.StdioSed},
    {"stdio_sed_slow", Bench.Scenarios.StdioSedSlow},
    {"write_64k", Bench.Scenarios.Write64k},
    {"write_1m", Bench.Scenarios.Write1m},
    {"echo_cat", Bench.Scenarios.EchoCat},
    {"lines_count", Bench.Scenarios.LinesCount},
    {"lines_match", Bench.Scenarios.LinesMatch},
    {"ping_64b", Bench.Scenarios.Ping64b},
    {"spawn_true", Bench.Scenarios.SpawnTrue},
    {"spawn_parallel", Bench.Scenarios.SpawnParallel},
    {"pipeline_3", Bench.Scenarios.Pipeline3},
    {"pipeline_file", Bench.Scenarios.PipelineFile},
    {"pipeline_true", Bench.Scenarios.PipelineTrue},
    {"tee_file", Bench.Scenarios.TeeFile},
    {"zcat_tee", Bench.Scenarios.ZcatTee},
    {"tee_command", Bench.Scenarios.TeeCommand},
    {"full_speed_100", Bench.Scenarios.FullSpeed100},
    {"full_speed_1000", Bench.Scenarios.FullSpeed1000},
    {"full_speed_1000_long", Bench.Scenarios.FullSpeed1000Long},
    {"ping_beside_1000", Bench.Scenarios.PingBeside1000},
    {"many_streams_100", Bench.Scenarios.ManyStreams100},
    {"many_streams_1000", Bench.Scenarios.ManyStreams1000},
    {"paced_1000", Bench.Scenarios.Paced1000},
    {"unpaced_1000", Bench.Scenarios.Unpaced1000},
    {"timer_jitter", Bench.Scenarios.TimerJitter},
    {"timer_storm", Bench.Scenarios.TimerStorm},
    {"memory_idle", Bench.Scenarios.MemoryIdle}
  ]

  @doc "Every scenario by its name on the command line, in the order they run."
  @spec scenarios :: [{String.t(), module}]
  def scenarios, do: @scenarios

  @spec list :: :ok
  def list do
    for {name, module} <- scenarios(),
        do: IO.puts("#{String.pad_trailing(name, 22)}#{module.question()}")

    :ok
  end

  @doc "Runs the named scenarios, all if none is named."
  @spec run([String.t()], keyword) :: :ok | {:error, String.t()}
  def run(names, options) do
    case choose(names) do
      {chosen, []} ->
        prepare()
        results = measure(chosen, folder(options), options)
        IO.puts("\n" <> Report.summary(results))
        results |> Enum.flat_map(&failures/1) |> verdict()

      {_chosen, unknown} ->
        {:error, "no such scenario: #{Enum.join(unknown, ", ")} (mix bench --list)"}
    end
  end

  defp choose([]), do: {scenarios(), []}

  defp choose(names) do
    known = Map.new(scenarios())
    {found, unknown} = Enum.split_with(names, &is_map_key(known, &1))
    {Enum.map(found, &{&1, known[&1]}), unknown}
  end

  defp prepare do
    Native.build!()
    Protocols.consolidate()
    # Other libraries say much when their owners are killed; who fails is told with the reason.
    Logger.configure(level: :emergency)
    IO.puts("#{Machine.describe()}; load #{Machine.load()}")
    absent = Contestant.absent()
    unless absent == [], do: IO.puts("not measured, not loaded: #{Enum.join(absent, ", ")}")
  end

  # One folder for a run, which may well go on past midnight.
  defp folder(options),
    do: options[:into] || if(options[:save], do: Path.join("results", "#{Date.utc_today()}"))

  defp measure(chosen, folder, options) do
    for {name, module} <- chosen do
      result = Runner.run(name, module, options)
      IO.puts("\n" <> Report.text(result))
      if folder, do: IO.puts("\nsaved #{Saved.write(result, folder)}")
      result
    end
  end

  defp failures(result),
    do: for({column, why} <- result.failures, do: "#{result.name}, #{column}: #{why}")

  defp verdict([]), do: :ok
  defp verdict(failures), do: {:error, "FAILED:\n" <> Enum.join(failures, "\n")}
end
