defmodule Bench.Scenarios.SpawnTrue do
  # What does it cost to run a command that does nothing, one after the other? /bin/true, started,
  # read to the end of its output and waited for. The C program uses posix_spawn and a pipe.

  use Bench.Scenario

  @impl true
  def question, do: "How long does run([\"/bin/true\"]) take?"

  @impl true
  def sizes(:full), do: %{runs: 200}
  def sizes(:quick), do: %{runs: 20}

  @impl true
  def needs, do: :run

  @impl true
  def baseline, do: "System.cmd"

  @impl true
  def references(sizes), do: [{"C", ["spawn", "1", "#{sizes.runs}", "/bin/true"]}]

  @impl true
  def measure(%{module: module, arg: arg}, sizes) do
    results =
      for _ <- 1..sizes.runs do
        begin = System.monotonic_time(:nanosecond)
        result = module.run(arg, ["/bin/true"])
        {result, (System.monotonic_time(:nanosecond) - begin) / 1000}
      end

    wrong = Enum.count(results, fn {result, _us} -> result != {"", 0} end)

    %{
      work: sizes.runs,
      wrong: if(wrong > 0, do: "#{wrong} of #{sizes.runs} runs went wrong"),
      samples: Enum.map(results, &elem(&1, 1))
    }
  end

  @impl true
  def metrics, do: [p50(), p99(), own_us_per("run"), other_us_per("run")]

  @impl true
  def bars do
    [
      bar("auto", "p50 us", :at_most, 1, "System.cmd"),
      bar("auto", "p50 us", :at_most, 1.5, "C")
    ]
  end
end
