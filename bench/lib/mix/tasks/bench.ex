defmodule Mix.Tasks.Bench do
  @shortdoc "Measures NetRunner against plain C, System.cmd, ports and other libraries"

  @moduledoc """
  Runs the benchmarks and prints a table for each.

      mix bench                           all scenarios, 15 rounds of each
      mix bench read_64k ping_64b         only these
      mix bench --list                    the scenarios, and the question that each answers

  ## Options

    * `--rounds N`: timed rounds (each scenario has a default). One more, untimed, goes first.
    * `--columns auto,poll,C`: only these contestants, and the baseline.
    * `--calm SECONDS`: before each round, wait up to so long for others to leave the machine alone.
    * `--save`: also writes `results/<date>/<scenario>.md` and `.term`, with the machine's facts;
      `bench/report results/<date>` makes a page with charts of them.
    * `--into FOLDER`: the same, into another folder.
    * `--quick`: small sizes and two rounds: does everything work? The figures mean nothing.

  The exit status is 1 if a contestant lost, doubled or swapped bytes, failed or hung.
  """

  use Mix.Task

  @requirements ["app.start"]
  @switches [
    rounds: :integer,
    columns: :string,
    calm: :integer,
    save: :boolean,
    into: :string,
    quick: :boolean,
    list: :boolean
  ]

  @impl true
  def run(argv) do
    {options, names} = OptionParser.parse!(argv, strict: @switches)

    if options[:list] do
      Bench.list()
    else
      columns = options[:columns] && String.split(options[:columns], ",", trim: true)

      case Bench.run(names, Keyword.put(options, :columns, columns)) do
        :ok -> :ok
        {:error, message} -> Mix.raise(message)
      end
    end
  end
end
