defmodule Bench.Scenarios.Ping64b do
  # How long does a small message take to a command and back? 64 bytes through cat, one at a time:
  # two wake-ups of processes, and the wait for the answer in between.

  use Bench.Scenario
  alias Bench.Ping

  @impl true
  def question, do: "How long does a 64 byte message take through cat and back?"

  @impl true
  def sizes(:full), do: %{messages: 2000}
  def sizes(:quick), do: %{messages: 50}

  @impl true
  def needs, do: :put

  @impl true
  def baseline, do: "Port"

  @impl true
  def references(sizes), do: [{"C", ["ping", "0", "#{Ping.size()}", "#{sizes.messages}", "cat"]}]

  @impl true
  def measure(%{module: module, arg: arg} = contestant, sizes) do
    process = module.open(arg, ["cat"])
    before = Bench.Cpu.now()

    {results, counts} =
      Bench.Counters.during(contestant, fn ->
        for number <- 1..sizes.messages, do: Ping.exchange(contestant, process, number)
      end)

    used = Bench.Cpu.between(before, Bench.Cpu.now())
    module.close(process)

    %{
      work: sizes.messages,
      wrong: Ping.wrong(results),
      samples: Enum.map(results, &elem(&1, 1)),
      own_us: used.own,
      counts: counts
    }
  end

  @impl true
  def metrics, do: [p50(), p99(), own_us_per("message"), enters()]

  @impl true
  def bars, do: [bar("auto", "p50 us", :at_most, 1, :best_peer), no_enters()]
end
