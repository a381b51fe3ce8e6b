defmodule Bench.Scenarios.TimerStorm do
  # Does starting and ending many commands hold up the rest of the BEAM? A thousand are asked for at
  # once, and all of them live at the same time for a while; the samples are how late 1 ms timers came
  # from the first request to the last end. Row 50 of docs/reliability.md.

  use Bench.Scenario

  @impl true
  def question, do: "How late is a 1 ms timer while 1,000 commands start, live and end at once?"

  @impl true
  def sizes(:full), do: %{commands: 1000, cmd: ["/bin/sleep", "1"]}
  def sizes(:quick), do: %{commands: 50, cmd: ["/bin/sleep", "0.1"]}

  @impl true
  def needs, do: :run

  @impl true
  def baseline, do: "Port"

  @impl true
  def measure(%{module: module, arg: arg}, sizes) do
    {wrong, samples} = Bench.Lateness.during(fn -> run_all(module, arg, sizes) end)

    %{
      work: sizes.commands,
      wrong: if(wrong > 0, do: "#{wrong} of #{sizes.commands} commands went wrong"),
      samples: samples
    }
  end

  defp run_all(module, arg, sizes) do
    1..sizes.commands
    |> Enum.map(fn _ -> Task.async(fn -> module.run(arg, sizes.cmd) end) end)
    |> Task.await_many(120_000)
    |> Enum.count(&(&1 != {"", 0}))
  end

  @impl true
  def metrics, do: [p50("timer p50 us"), p99("timer p99 us"), per_s("commands")]

  @impl true
  def bars, do: [bar("auto", "timer p99 us", :at_most, 0.5, "Port")]
end
