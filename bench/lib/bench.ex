defmodule Bench do
  @moduledoc """
  The benchmarks' front door: which scenarios there are, and running them one after the other.

  How things are measured is in `Bench.Runner`, what is measured in `Bench.Scenario` and the files in
  `scenarios/`, who takes part in `Bench.Contestant` and the files in `contestants/`.
  """

  alias Bench.{Contestant, Machine, Native, Report, Runner}

  @scenarios [
    {"read_64k", Bench.Scenarios.Read64k},
    {"read_1m", Bench.Scenarios.Read1m},
    {"write_64k", Bench.Scenarios.Write64k},
    {"echo_cat", Bench.Scenarios.EchoCat},
    {"lines", Bench.Scenarios.Lines},
    {"spawn_true", Bench.Scenarios.SpawnTrue},
    {"spawn_parallel", Bench.Scenarios.SpawnParallel},
    {"ping_64b", Bench.Scenarios.Ping64b},
    {"many_streams_100", Bench.Scenarios.ManyStreams100},
    {"many_streams_1000", Bench.Scenarios.ManyStreams1000},
    {"paced_1000", Bench.Scenarios.Paced1000},
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
        do: IO.puts("#{String.pad_trailing(name, 18)}#{module.question()}")

    :ok
  end

  @doc "Runs the named scenarios, all if none is named."
  @spec run([String.t()], keyword) :: :ok | {:error, String.t()}
  def run(names, options) do
    known = Map.new(scenarios())

    case Enum.reject(names, &is_map_key(known, &1)) do
      [] ->
        Native.build!()
        chosen = if names == [], do: scenarios(), else: Enum.map(names, &{&1, known[&1]})
        IO.puts(Machine.describe())
        absent = Contestant.absent()
        unless absent == [], do: IO.puts("not measured, not loaded: #{Enum.join(absent, ", ")}")
        verdict(Enum.flat_map(chosen, &run_one(&1, options)))

      unknown ->
        {:error, "no such scenario: #{Enum.join(unknown, ", ")} (mix bench --list)"}
    end
  end

  defp run_one({name, module}, options) do
    result = Runner.run(name, module, options)
    text = Report.text(result)
    IO.puts("\n" <> text)
    if options[:save], do: Report.save(result, text)
    for {column, why} <- result.failures, do: "#{name}, #{column}: #{why}"
  end

  defp verdict([]), do: :ok
  defp verdict(failures), do: {:error, "FAILED:\n" <> Enum.join(failures, "\n")}
end
