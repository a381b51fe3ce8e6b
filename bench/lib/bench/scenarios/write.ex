defmodule Bench.Scenarios.Write do
  @moduledoc false
  # What the scenarios of writing one stream share: a lazy enumerable of binaries reaches a command's
  # stdin. The command is a C program that checks what it gets and says so; that word is part of the
  # timed work.
  # Left to each of them are its question and its sizes.

  import Bench.Bar, only: [bar: 5, no_enters: 0]
  import Bench.Metric

  def needs, do: :feed

  def references(sizes) do
    for {name, pipe} <- [{"C", 1_048_576}, {"C, 64 KiB pipe", 65_536}] do
      {name, ["write", "#{pipe}", "#{sizes.block}", "#{bytes(sizes)}" | consumer(sizes)]}
    end
  end

  def measure(%{module: module, arg: arg} = contestant, sizes) do
    blocks = Bench.Stamp.stream(bytes(sizes), sizes.block)

    {answer, counts} =
      Bench.Counters.during(contestant, fn -> module.feed(arg, consumer(sizes), blocks) end)

    wrong = if answer != {"#{bytes(sizes)} 0\n", 0}, do: "the consumer said #{inspect(answer)}"
    %{work: bytes(sizes), wrong: wrong, counts: counts}
  end

  def metrics, do: [mib_per_s(), own_per_gib(), other_per_gib(), enters()]

  def bars do
    [
      bar("auto", "MiB/s", :at_least, 0.75, "C"),
      bar("auto", "MiB/s", :at_least, 2, "Exile"),
      no_enters()
    ]
  end

  defp bytes(sizes), do: sizes.mib * 1024 * 1024
  defp consumer(sizes), do: [Bench.Native.path(:consumer), "#{bytes(sizes)}"]
end

defmodule Bench.Scenarios.Write64k do
  # How fast does input go out in pieces of 64 KiB, the size of the kernel's own pipes?

  use Bench.Scenario, like: Bench.Scenarios.Write

  @impl true
  def question, do: "How fast does input go out, in blocks of 64 KiB?"

  @impl true
  def sizes(:full), do: %{mib: 1024, block: 65_536}
  def sizes(:quick), do: %{mib: 32, block: 65_536}
end

defmodule Bench.Scenarios.Write1m do
  # The same in pieces of 1 MiB, none of which fits into such a pipe.

  use Bench.Scenario, like: Bench.Scenarios.Write

  @impl true
  def question, do: "How fast does input go out, in blocks of 1 MiB?"

  @impl true
  def sizes(:full), do: %{mib: 1024, block: 1_048_576}
  def sizes(:quick), do: %{mib: 32, block: 1_048_576}
end
