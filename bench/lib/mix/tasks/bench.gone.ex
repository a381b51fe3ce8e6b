defmodule Mix.Tasks.Bench.Gone do
  @shortdoc "Measures how long a family lives on after its BEAM or guardian was killed"

  @moduledoc """
  The figures of docs/reliability.md: from SIGKILL to nobody left, and what commands cost the machine.

      mix bench.gone                300 kills of each kind
      mix bench.gone --kills 20     fewer

  The exit status is 1 if anybody was left over or a measurement failed.
  """

  use Mix.Task

  alias Bench.{Footprint, Gone, Machine, Native}

  # As many as boot side by side; the others sleep while one is killed.
  @batch 10

  @requirements ["app.start"]

  @impl true
  def run(argv) do
    {options, []} = OptionParser.parse!(argv, strict: [kills: :integer])
    kills = Keyword.get(options, :kills, 300)
    # Hundreds of guardians are lost on purpose.
    Logger.configure(level: :error)
    Native.build!()
    IO.puts(Machine.describe())
    begin = System.monotonic_time(:second)
    rows = Gone.measure(kills, @batch)
    IO.puts("\n" <> Gone.text(rows))
    IO.puts("\n" <> Footprint.text(Footprint.measure([1, 100])))
    took = System.monotonic_time(:second) - begin
    IO.puts("\n#{took} s; load #{Machine.load()} at the end")
    if Enum.any?(rows, &(&1.wrong != [])), do: Mix.raise("FAILED, see the table")
  end
end
