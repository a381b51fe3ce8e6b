defmodule Bench.Scenarios.Tee do
  @moduledoc false
  # What the scenarios of a stream with a copy in a file share: the stream without one, and a shell's tee, are both read as
  # the column `auto` reads, so that the copy is all they differ in. The file is in memory: no disk is measured. Stream and
  # copy are looked at byte by byte, the copy when the clocks have stopped.

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

  import Bench.Bar, only: [bar: 5]
  import Bench.Metric

  alias Bench.Contestants.NetRunner
  alias Bench.Scenarios.{Pipeline, Read}
  alias Bench.{Stamp, Versions}

  def needs, do: :tee
  def baseline, do: "no copy"
  def metrics, do: [mib_per_s(), own_per_gib(), other_per_gib()]
  def bars, do: [bar("auto", "MiB/s", :at_least, 0.8, "no copy")]

  def references(command, sizes) do
    alone = fn -> stream(sizes, &NetRunner.fold(:auto, command, &1, &2)) end
    shell = fn -> copied(sizes, &NetRunner.fold(:auto, shell(command, &1), &2, &3)) end
    version = "#{Versions.program("sh")}, #{Versions.program("tee")}"
    [{"no copy", {alone, NetRunner.version()}}, {"sh", {shell, version}}]
  end

  defp shell(command, to),
    do: ["sh", "-c", "#{Pipeline.quoted(command)} | #{Pipeline.quoted(["tee", to])}"]

  def measure(%{module: module, arg: arg}, command, sizes),
    do: copied(sizes, &module.tee(arg, command, &1, &2, &3))

  defp copied(sizes, run) do
    to = Pipeline.in_memory("tee")

    try do
      measurement = stream(sizes, &run.(to, &1, &2))
      copy = to |> File.stream!([], 1_048_576) |> Enum.reduce({0, 0}, &Stamp.check/2)
      wrong = Stamp.verdict(copy, Read.bytes(sizes))
      %{measurement | wrong: measurement.wrong || (wrong && "the copy: #{wrong}")}
    after
      File.rm(to)
    end
  end

  @doc "What a fold over stamped data comes to, by itself."
  def stream(sizes, run) do
    {{bytes, _wrong} = seen, clocks} = Bench.Cpu.timed(fn -> run.({0, 0}, &Stamp.check/2) end)

    Map.merge(clocks, %{work: bytes, wrong: Stamp.verdict(seen, Read.bytes(sizes))})
  end
end

defmodule Bench.Scenarios.TeeFile do
  # What does a copy of a stream cost, in a file in memory, beside the stream without one?

  use Bench.Scenarios.Tee

  @impl true
  def question, do: "How fast is a stream with a copy in a file?"

  @impl true
  def sizes(:full), do: %{mib: 512, block: 65_536}
  def sizes(:quick), do: %{mib: 16, block: 65_536}

  defp command(sizes), do: Bench.Scenarios.Read.producer(sizes)
end
