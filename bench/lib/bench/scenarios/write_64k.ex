defmodule Bench.Scenarios.Write64k do
  # How fast does a lazy enumerable of 64 KiB binaries reach a command's stdin? The command is a C
  # program that checks what it gets and says so; that word is part of the timed work.

  use Bench.Scenario

  @impl true
  def question, do: "How fast does input go out, in blocks of 64 KiB?"

  @impl true
  def sizes(:full), do: %{mib: 1024, block: 65_536}
  def sizes(:quick), do: %{mib: 32, block: 65_536}

  @impl true
  def needs, do: :feed

  @impl true
  def references(sizes) do
    for {name, pipe} <- [{"C", 1_048_576}, {"C, 64 KiB pipe", 65_536}] do
      {name, ["write", "#{pipe}", "#{sizes.block}", "#{bytes(sizes)}" | consumer(sizes)]}
    end
  end

  @impl true
  def measure(%{module: module, arg: arg}, sizes) do
    blocks = Bench.Stamp.stream(bytes(sizes), sizes.block)
    answer = module.feed(arg, consumer(sizes), blocks)
    wrong = if answer != {"#{bytes(sizes)} 0\n", 0}, do: "the consumer said #{inspect(answer)}"
    %{work: bytes(sizes), wrong: wrong}
  end

  @impl true
  def metrics, do: [mib_per_s(), own_per_gib(), other_per_gib()]

  defp bytes(sizes), do: sizes.mib * 1024 * 1024
  defp consumer(sizes), do: [Bench.Native.path(:consumer), "#{bytes(sizes)}"]
end
