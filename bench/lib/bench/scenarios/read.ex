defmodule Bench.Scenarios.Read do
  @moduledoc false
  # What the scenarios of reading one stream share: a command's output comes in as fast as it can, and
  # every chunk is checked as it comes (Bench.Stamp). Held against a C read loop over a 1 MiB pipe.

  # What is left to each of them: its question, its sizes, and the command.
  defmacro __using__(_options) do
    quote do
      use Bench.Scenario, like: unquote(__MODULE__)

      @impl true
      def references(sizes), do: unquote(__MODULE__).references(command(sizes), sizes)

      @impl true
      def measure(contestant, sizes),
        do: unquote(__MODULE__).measure(contestant, command(sizes), sizes)
    end
  end

  import Bench.Bar, only: [bar: 5, no_enters: 0]
  import Bench.Metric

  def needs, do: :fold

  def references(command, sizes) do
    for {name, pipe} <- [{"C", 1_048_576}, {"C, 64 KiB pipe", 65_536}] do
      {name, ["read", "#{pipe}", "#{sizes.block}", "#{bytes(sizes)}" | command]}
    end
  end

  def measure(%{module: module, arg: arg} = contestant, command, sizes) do
    {{bytes, _wrong} = seen, counts} =
      Bench.Counters.during(contestant, fn ->
        module.fold(arg, command, {0, 0}, &Bench.Stamp.check/2)
      end)

    %{work: bytes, wrong: Bench.Stamp.verdict(seen, bytes(sizes)), counts: counts}
  end

  def metrics, do: [mib_per_s(), own_per_gib(), other_per_gib(), enters()]

  def bars do
    [
      bar("auto", "MiB/s", :at_least, 0.85, "C"),
      bar("auto", "MiB/s", :at_least, 1.5, "Exile"),
      bar("auto", "own CPU s/GiB", :at_most, 0.5, "Exile"),
      no_enters()
    ]
  end

  def bytes(sizes), do: sizes.mib * 1024 * 1024

  @doc "bench_producer, which writes so many bytes in blocks."
  def producer(sizes),
    do: [Bench.Native.path(:producer), "stream", "#{bytes(sizes)}", "#{sizes.block}"]
end

defmodule Bench.Scenarios.Read64k do
  # How fast does a command's output come in that writes blocks of 64 KiB?

  use Bench.Scenarios.Read

  @impl true
  def question, do: "How fast does output come in, in blocks of 64 KiB?"

  @impl true
  def sizes(:full), do: %{mib: 1024, block: 65_536}
  def sizes(:quick), do: %{mib: 32, block: 65_536}

  defp command(sizes), do: Bench.Scenarios.Read.producer(sizes)
end

defmodule Bench.Scenarios.Read1m do
  # The same with a command that writes 1 MiB at once: what do larger blocks change?

  use Bench.Scenarios.Read

  @impl true
  def question, do: "How fast does output come in, in blocks of 1 MiB?"

  @impl true
  def sizes(:full), do: %{mib: 1024, block: 1_048_576}
  def sizes(:quick), do: %{mib: 32, block: 1_048_576}

  defp command(sizes), do: Bench.Scenarios.Read.producer(sizes)
end

defmodule Bench.Scenarios.ReadCat do
  # The same with a command that everybody has: cat of a file which is in the page cache. The first
  # round, which is not counted, writes the file.

  use Bench.Scenarios.Read

  @impl true
  def question, do: "How fast does a cached file come in through cat?"

  # cat's own blocks are 128 KiB. The file is larger than a processor's cache.
  @impl true
  def sizes(:full), do: %{mib: 1024, file_mib: 64, block: 131_072}
  def sizes(:quick), do: %{mib: 32, file_mib: 32, block: 131_072}

  defp command(sizes) do
    file = Bench.Stamp.file(sizes.file_mib * 1024 * 1024)
    ["cat" | List.duplicate(file, div(sizes.mib, sizes.file_mib))]
  end
end
