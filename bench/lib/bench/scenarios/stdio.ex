defmodule Bench.Scenarios.Stdio do
  @moduledoc false
  # What the scenarios of a command share that writes through stdio, as most do: 4 KiB at a time (st_blksize of a pipe), so that its
  # reader may be woken for each. sed, whose edit never applies, so that a log comes out as it went in.

  defmacro __using__(_options) do
    quote do
      use Bench.Scenarios.Read

      # As of zcat, and nobody is to pay more for it.
      @impl true
      def bars do
        [
          bar("auto", "MiB/s", :at_least, 0.85, "C"),
          bar("auto", "MiB/s", :at_least, 0.95, :best_peer),
          bar("auto", "own CPU s/GiB", :at_most, 1, :best_peer),
          no_enters()
        ]
      end
    end
  end

  def command(edit, sizes), do: ["env", "LC_ALL=C", "sed", edit, Bench.Gzipped.log(sizes.mib)]
end

defmodule Bench.Scenarios.StdioSed do
  # How fast does output come in, in pieces of 4 KiB, from a command that is fast?

  use Bench.Scenarios.Stdio

  @impl true
  def question, do: "How fast does the output of sed come in, 4 KiB at a time?"

  @impl true
  def sizes(:full), do: %{mib: 256, block: 65_536}
  def sizes(:quick), do: %{mib: 16, block: 65_536}

  defp command(sizes), do: Bench.Scenarios.Stdio.command("s/zzzz/y/", sizes)
end

defmodule Bench.Scenarios.StdioSedSlow do
  # And from one that has more to do for every line, so that each of its pieces may be waited for?

  use Bench.Scenarios.Stdio

  @impl true
  def question, do: "How fast does it come in where sed has much to do?"

  @impl true
  def sizes(:full), do: %{mib: 64, block: 65_536}
  def sizes(:quick), do: %{mib: 4, block: 65_536}

  defp command(sizes),
    do: Bench.Scenarios.Stdio.command("s/\\(GET\\|POST\\) \\/zz.*$/y/", sizes)
end
