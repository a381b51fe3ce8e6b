defmodule Bench.Scenarios.Read1m do
  # The same as read_64k with a command that writes 1 MiB at once: what do larger blocks change?

  use Bench.Scenario

  @impl true
  def question, do: "How fast does output come in, in blocks of 1 MiB?"

  @impl true
  def sizes(:full), do: %{mib: 1024, block: 1_048_576}
  def sizes(:quick), do: %{mib: 32, block: 1_048_576}

  @impl true
  def needs, do: :fold

  @impl true
  def references(sizes) do
    for {name, pipe} <- [{"C", 1_048_576}, {"C, 64 KiB pipe", 65_536}] do
      {name, ["read", "#{pipe}", "#{sizes.block}", "#{bytes(sizes)}" | producer(sizes)]}
    end
  end

  @impl true
  def measure(%{module: module, arg: arg}, sizes) do
    {bytes, _wrong} = seen = module.fold(arg, producer(sizes), {0, 0}, &Bench.Stamp.check/2)
    %{work: bytes, wrong: Bench.Stamp.verdict(seen, bytes(sizes))}
  end

  @impl true
  def metrics, do: [mib_per_s(), own_per_gib(), other_per_gib()]

  defp bytes(sizes), do: sizes.mib * 1024 * 1024

  defp producer(sizes),
    do: [Bench.Native.path(:producer), "stream", "#{bytes(sizes)}", "#{sizes.block}"]
end
