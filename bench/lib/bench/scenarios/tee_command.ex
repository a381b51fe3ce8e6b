defmodule Bench.Scenarios.TeeCommand do
  # What does a stream cost of which another command gets a copy, beside the stream without one? Both readers take all
  # they can, and the slower one sets the pace. The commands are a producer, cat, from which the stream is read, and for the
  # copy a C program that checks what it gets and says so; that word is looked at when the clocks have stopped.

  use Bench.Scenario

  import Bench.Scenarios.Pipeline, only: [quoted: 1]

  alias Bench.Contestants.NetRunner, as: Contestant
  alias Bench.Scenarios.{Pipeline, Read, Tee}
  alias Bench.Versions

  @impl true
  def question, do: "How fast is a stream with a copy to another command?"

  @impl true
  def sizes(:full), do: %{mib: 512, block: 65_536}
  def sizes(:quick), do: %{mib: 16, block: 65_536}

  @impl true
  def needs, do: :tee_command

  @impl true
  defdelegate baseline, to: Tee

  @impl true
  defdelegate metrics, to: Tee

  @impl true
  defdelegate bars, to: Tee

  # All of them are read as `auto` reads: the copy is what they differ in.
  @impl true
  def references(sizes) do
    alone = NetRunner.pipeline([Read.producer(sizes), ["cat"]])
    shell = "#{Versions.program("sh")}, #{Versions.program("tee")}"

    [
      {"no copy", {fn -> Tee.stream(sizes, &fold(alone, &1, &2)) end, Contestant.version()}},
      {"sh", {fn -> copied(sizes, &fold(shell(sizes, &1), &2, &3)) end, shell}}
    ]
  end

  # Unlike `tee >(command)`, which not every shell has, this waits for the command that gets the copy.
  defp shell(sizes, said) do
    tee = "#{quoted(Read.producer(sizes))} | tee /dev/fd/3 | cat >&4"
    ["sh", "-c", "{ { #{tee}; } 3>&1 | #{quoted(consumer(sizes))} > '#{said}'; } 4>&1"]
  end

  defp fold(cmd, acc, fun), do: Contestant.fold(:auto, cmd, acc, fun)

  @impl true
  def measure(%{module: module, arg: arg}, sizes) do
    cmd = Read.producer(sizes)
    copied(sizes, &module.tee_command(arg, cmd, consumer(sizes), &1, &2, &3))
  end

  defp copied(sizes, run) do
    said = Pipeline.in_memory("tee")

    try do
      measurement = Tee.stream(sizes, &run.(said, &1, &2))
      wrong = wrong(File.read!(said), "#{Read.bytes(sizes)} 0\n")
      %{measurement | wrong: measurement.wrong || wrong}
    after
      File.rm(said)
    end
  end

  defp wrong(right, right), do: nil
  defp wrong(said, _right), do: "who got the copy said #{inspect(said)}"

  defp consumer(sizes), do: [Bench.Native.path(:consumer), "#{Read.bytes(sizes)}"]
end
