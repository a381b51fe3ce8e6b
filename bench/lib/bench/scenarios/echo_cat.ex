defmodule Bench.Scenarios.EchoCat do
  # How fast do bytes go through a command, in and out at the same time? The filter of most pipelines
  # costs more than cat, so this is the upper bound of a stream through a command.

  use Bench.Scenario

  @impl true
  def question, do: "How fast do bytes go through cat, both ways at once?"

  @impl true
  def sizes(:full), do: %{mib: 512, block: 65_536}
  def sizes(:quick), do: %{mib: 32, block: 65_536}

  @impl true
  def needs, do: :echo

  @impl true
  def references(sizes) do
    for {name, pipe} <- [{"C", 1_048_576}, {"C, 64 KiB pipe", 65_536}],
        do: {name, ["echo", "#{pipe}", "#{sizes.block}", "#{bytes(sizes)}", "cat"]}
  end

  @impl true
  def measure(%{module: module, arg: arg} = contestant, sizes) do
    blocks = Bench.Stamp.stream(bytes(sizes), sizes.block)
    check = &Bench.Stamp.check/2

    {{bytes, _wrong} = seen, counts} =
      Bench.Counters.during(contestant, fn ->
        module.echo(arg, ["cat"], blocks, bytes(sizes), {0, 0}, check)
      end)

    %{work: bytes, wrong: Bench.Stamp.verdict(seen, bytes(sizes)), counts: counts}
  end

  @impl true
  def metrics, do: [mib_per_s(), own_per_gib(), other_per_gib(), enters()]

  @impl true
  def bars do
    [
      bar("auto", "MiB/s", :at_least, 0.6, "C"),
      bar("auto", "MiB/s", :at_least, 1.5, "Exile"),
      no_enters()
    ]
  end

  defp bytes(sizes), do: sizes.mib * 1024 * 1024
end
