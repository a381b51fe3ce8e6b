defmodule Bench.Scenarios.Lines do
  @moduledoc false
  # What the scenarios of lines share: a command writes lines of 100 bytes (bench/c/lines.h), and a function is
  # folded over them. NetRunner is asked for `lines: true`, the others for what their users write.

  # As in bench/c/lines.h.
  @lines_per_block 1024
  @line_bytes 100
  @needle_every 32

  def lines(sizes), do: sizes.blocks * @lines_per_block
  def bytes(sizes), do: lines(sizes) * @line_bytes
  def needles(sizes), do: div(lines(sizes), @needle_every)
  def command(sizes), do: [Bench.Native.path(:producer), "lines", "#{sizes.blocks}"]

  @doc "The arguments of bench_reference for one of its modes."
  def reference(mode, sizes), do: [mode, "1048576", "65536", "#{bytes(sizes)}" | command(sizes)]

  @doc "Folds a function over a contestant's lines."
  def measure(%{module: module, arg: arg} = contestant, sizes, acc, fun, expected) do
    {seen, counts} =
      Bench.Counters.during(contestant, fn -> module.lines(arg, command(sizes), acc, fun) end)

    sizes |> measured(seen, expected) |> Map.put(:counts, counts)
  end

  @doc "What a measurement says of a fold that gave `seen`."
  def measured(sizes, seen, expected) do
    wrong = if seen != expected, do: "#{inspect(seen)}, not #{inspect(expected)}"
    %{work: lines(sizes), wrong: wrong}
  end
end

defmodule Bench.Scenarios.LinesCount do
  # What does it cost to have lines at all? They are counted, and their bytes; the C program only
  # counts, with memchr(3).

  use Bench.Scenario

  alias Bench.Scenarios.Lines

  @impl true
  def question, do: "How many lines per second can be counted?"

  @impl true
  def sizes(:full), do: %{blocks: 3000}
  def sizes(:quick), do: %{blocks: 100}

  @impl true
  def needs, do: :lines

  @impl true
  def references(sizes), do: [{"C", Lines.reference("lines", sizes)}]

  @impl true
  def measure(contestant, sizes) do
    expected = {Lines.lines(sizes), Lines.bytes(sizes) - Lines.lines(sizes)}
    Lines.measure(contestant, sizes, {0, 0}, &count/2, expected)
  end

  defp count(line, {lines, bytes}), do: {lines + 1, bytes + byte_size(line)}

  @impl true
  def metrics, do: [per_s("lines"), own_us_per("line"), enters()]

  @impl true
  def bars do
    [
      bar("auto", "lines/s", :at_least, 0.5, "C"),
      bar("auto", "lines/s", :at_least, 4, "Exile"),
      no_enters()
    ]
  end
end

defmodule Bench.Scenarios.LinesMatch do
  # What do lines cost beside what is done with them? A regular expression is looked for in each, and the
  # same code runs over the same lines where they are in memory already, and over some of them again and again. The C program
  # uses memmem(3).

  use Bench.Scenario

  alias Bench.Scenarios.Lines

  @impl true
  def question, do: "How many lines per second, with a regular expression looked for in each?"

  @impl true
  def sizes(:full), do: %{blocks: 1000}
  def sizes(:quick), do: %{blocks: 50}

  @impl true
  def needs, do: :lines

  @impl true
  def baseline, do: "in memory"

  @impl true
  def references(sizes) do
    [
      {"C", Lines.reference("matches", sizes)},
      {"in memory", {fn -> in_memory(sizes, sizes.blocks) end, Bench.Versions.elixir()}},
      {"one block", {fn -> in_memory(sizes, 1) end, Bench.Versions.elixir()}}
    ]
  end

  @impl true
  def measure(contestant, sizes),
    do: Lines.measure(contestant, sizes, 0, &match/2, Lines.needles(sizes))

  # The lines of so many blocks, as often as it takes; that they are made is not measured. All of them are what a user has who
  # collects the output first; one block's stay in the processor's caches. In a process of its own, whose heap is theirs.
  defp in_memory(sizes, blocks) do
    Task.async(fn ->
      {output, 0} = System.cmd(hd(Lines.command(sizes)), ["lines", "#{blocks}"])
      lines = Bench.UserLines.of_output(output)
      times = div(sizes.blocks, blocks)
      # The second moves them to the old heap: what is timed does not.
      :erlang.garbage_collect()
      :erlang.garbage_collect(self(), type: :minor)

      {found, clocks} =
        Bench.Cpu.timed(fn ->
          Enum.reduce(1..times, 0, fn _, found -> Enum.reduce(lines, found, &match/2) end)
        end)

      sizes
      |> Lines.measured(found, Lines.needles(sizes))
      |> Map.merge(Map.take(clocks, [:wall_us, :own_us]))
    end)
    |> Task.await(:infinity)
  end

  defp match(line, found), do: if(line =~ ~r/needle/, do: found + 1, else: found)

  @impl true
  def metrics, do: [per_s("lines"), own_us_per("line"), enters()]

  @impl true
  def bars, do: [bar("auto", "lines/s", :at_least, 0.95, "in memory"), no_enters()]
end
