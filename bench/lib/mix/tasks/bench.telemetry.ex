defmodule Mix.Tasks.Bench.Telemetry do
  @shortdoc "Measures what telemetry events cost with and without the library"

  @moduledoc """
  What `NetRunner.Telemetry` costs a command: where `:telemetry` is absent, where nobody listens, and with a
  handler that does nothing.

      mix bench.telemetry                 15 rounds, half a minute
      mix bench.telemetry --rounds 3      a look

  Put the library into `ERL_LIBS`; without it only its absence is measured.
  """

  use Mix.Task

  alias Bench.{Machine, Telemetry}

  @calls 20_000
  @runs 200

  @requirements ["app.start"]

  @impl true
  def run(argv) do
    {options, []} = OptionParser.parse!(argv, strict: [rounds: :integer])
    IO.puts(Machine.describe())
    rows = Telemetry.measure(Keyword.get(options, :rounds, 15), @calls, @runs)
    IO.puts("\n" <> Telemetry.text(rows))
    IO.puts("load #{Machine.load()} at the end")
  end
end
