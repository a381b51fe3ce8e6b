defmodule Bench.Scenarios.PingBeside1000 do
  # What does somebody wait for who asks one command something while a thousand others stream? 64 bytes through cat and
  # back, one at a time, for as long as the window lasts: the work is how many answers came. How much the thousand brought is told
  # beside it, for an answer is quick where nobody else gets anything.

  use Bench.Scenario
  alias Bench.{Crowd, Ping, Stamp}

  # More than any of them reads.
  @endless 1_099_511_627_776

  @impl true
  def question, do: "How long does 64 bytes' way to a command and back take beside 1,000 streams?"

  @impl true
  def sizes(:full), do: %{streams: 1000, block: 65_536, window_ms: 3000}
  def sizes(:quick), do: %{streams: 40, block: 65_536, window_ms: 200}

  @impl true
  def needs, do: :put

  # Of them are the streams, too.
  @impl true
  def contestant?(contestant), do: Bench.Contestant.can?(contestant, :fold)

  @impl true
  def baseline, do: "Port"

  @impl true
  def measure(%{module: module, arg: arg} = contestant, sizes) do
    producer = [Bench.Native.path(:producer), "stream", "#{@endless}", "#{sizes.block}"]
    process = module.open(arg, ["cat"])
    # It runs before the others are counted.
    {true, _us} = Ping.exchange(contestant, process, 0)

    window =
      Crowd.run(contestant, producer, sizes.streams, &Stamp.check/2, fn ->
        exchanges(contestant, process, now() + sizes.window_ms, 1, [])
      end)

    module.close(process)

    %{
      work: length(window.result),
      wrong: Ping.wrong(window.result),
      samples: Enum.map(window.result, &elem(&1, 1)),
      bytes: Enum.sum(window.each),
      wall_us: window.wall_us,
      own_us: window.own_us
    }
  end

  # One at least, which may have to wait for longer than the window lasts.
  defp exchanges(contestant, process, until, number, done) do
    done = [Ping.exchange(contestant, process, number) | done]
    if now() < until, do: exchanges(contestant, process, until, number + 1, done), else: done
  end

  defp now, do: System.monotonic_time(:millisecond)

  @impl true
  def metrics do
    [
      p50(),
      p99(),
      metric("MiB/s beside", :detail, &(&1.bytes / 1_048_576 / (&1.wall_us / 1_000_000))),
      metric("answers", :detail, & &1.work)
    ]
  end

  @impl true
  def bars, do: [bar("auto", "p50 us", :at_most, 1, :best_peer)]
end
