defmodule Bench.Scenarios.Zcat do
  # How fast does a compressed log come in? The command has work to do for every byte, so that it, and not the reader, sets the pace:
  # what a reader costs then shows in its CPU time.

  use Bench.Scenarios.Read

  @impl true
  def question, do: "How fast does a gzip'd log come in through zcat?"

  # zcat writes 32 KiB at once.
  @impl true
  def sizes(:full), do: %{mib: 256, block: 32_768}
  def sizes(:quick), do: %{mib: 16, block: 32_768}

  # Not those against Exile: nobody can be half as fast again as another here.
  @impl true
  def bars do
    [
      bar("auto", "MiB/s", :at_least, 0.85, "C"),
      bar("auto", "own CPU s/GiB", :at_most, 1, :best_peer),
      no_enters()
    ]
  end

  @doc "The command."
  def command(sizes), do: ["zcat", Bench.Gzipped.file(sizes.mib)]
end

defmodule Bench.Scenarios.ZcatTee do
  # And with a copy of what was unpacked in a file? Where the command is the slow one, there are processors left for a copy.

  use Bench.Scenarios.Tee

  @impl true
  def question, do: "How fast does a gzip'd log come in through zcat, with a copy in a file?"

  @impl true
  defdelegate sizes(size), to: Bench.Scenarios.Zcat

  defp command(sizes), do: Bench.Scenarios.Zcat.command(sizes)
end
