defmodule Bench.Scenarios.Read64k do
  # How fast does a command's output come in, against a C read loop over a 1 MiB pipe?
  # A C program writes 64 KiB blocks; every chunk is checked as it comes (Bench.Stamp).

  use Bench.Scenario

  @impl true
  def question, do: "How fast does output come in, in blocks of 64 KiB?"

  @impl true
  def sizes(:full), do: %{mib: 1024, block: 65_536}
  def sizes(:quick), do: %{mib: 32, block: 65_536}

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

  @impl true
  def bars, do: [{"auto", "MiB/s", :at_least, 0.5}]

  defp bytes(sizes), do: sizes.mib * 1024 * 1024

  defp producer(sizes),
    do: [Bench.Native.path(:producer), "stream", "#{bytes(sizes)}", "#{sizes.block}"]
end
