defmodule Bench.Scenarios.Lines do
  # How many lines per second does a stream give that Elixir code splits? Lines of 64 and 128 bytes;
  # every line is made a binary and its length summed. The C program only finds them.

  use Bench.Scenario

  # bench_producer's blocks.
  @lines 1024
  @bytes 96 * 1024

  @impl true
  def question, do: "How many lines per second, split by Elixir?"

  @impl true
  def sizes(:full), do: %{blocks: 3000}
  def sizes(:quick), do: %{blocks: 100}

  @impl true
  def needs, do: :fold

  @impl true
  def references(sizes),
    do: [{"C", ["lines", "1048576", "65536", "#{sizes.blocks * @bytes}" | producer(sizes)]}]

  @impl true
  def measure(%{module: module, arg: arg}, sizes) do
    newline = :binary.compile_pattern("\n")

    {rest, lines, bytes} =
      module.fold(arg, producer(sizes), {"", 0, 0}, fn chunk, {rest, lines, bytes} ->
        count(:binary.split(rest <> chunk, newline, [:global]), lines, bytes)
      end)

    expected = {"", sizes.blocks * @lines, sizes.blocks * (@bytes - @lines)}
    seen = {rest, lines, bytes}

    %{work: lines, wrong: if(seen != expected, do: "#{inspect(seen)}, not #{inspect(expected)}")}
  end

  @impl true
  def metrics, do: [per_s("lines/s"), own_us_per("line")]

  defp count([rest], lines, bytes), do: {rest, lines, bytes}

  defp count([line | others], lines, bytes),
    do: count(others, lines + 1, bytes + byte_size(line))

  defp producer(sizes), do: [Bench.Native.path(:producer), "lines", "#{sizes.blocks}"]
end
