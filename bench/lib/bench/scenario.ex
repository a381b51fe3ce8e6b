defmodule Bench.Scenario do
  @moduledoc """
  One question, asked of every contestant that can answer it.

  `measure/2` does the work once, for one contestant, and returns a `t:measurement/0`; the runner
  times it, reads the CPU clocks around it and repeats it. Where a contestant needs time to get ready
  that must not count, the scenario reads the clocks itself (`Bench.Cpu`) and returns them.
  """

  @typedoc """
    * `work`: what was done, in the scenario's unit (bytes, messages, runs)
    * `wrong`: nil, or what was wrong with the data
    * `samples`: microseconds of single operations, for the percentiles
    * `wall_us`, `own_us`, `other_us`: set by the scenario, or else by the runner
    * anything else that its metrics look at
  """
  @type measurement :: %{
          required(:work) => number,
          required(:wrong) => nil | String.t(),
          optional(atom) => term
        }

  @doc "What it answers, in one sentence."
  @callback question :: String.t()

  @doc "Its parameters; `:quick` only shows that everything works."
  @callback sizes(:full | :quick) :: map

  @doc "The function of `Bench.Contestant` that it calls: who lacks it does not take part."
  @callback needs :: atom

  @doc """
  Columns that are nobody's: `{name, arguments of bench_reference}` where a C program measures, or `{name,
  {fun, version}}`, a function of the scenario's own, and of what version it is that this measures.
  """
  @callback references(map) :: [
              {String.t(), [String.t()] | {(() -> measurement), version :: String.t()}}
            ]

  @callback measure(Bench.Contestant.t(), map) :: measurement

  @callback metrics :: [Bench.Metric.t()]

  @doc "The column that the others are held against."
  @callback baseline :: String.t()

  @doc "Timed rounds unless the command line says otherwise."
  @callback rounds :: pos_integer

  @doc "What it is held to; `Bench.Bar.of_auto/1` comes on top of it."
  @callback bars :: [Bench.Bar.t()]

  @doc "Which of the contestants take part, of those that can."
  @callback contestant?(Bench.Contestant.t()) :: boolean

  # What several scenarios can have from a module of theirs.
  @shared [
    needs: [],
    baseline: [],
    references: [:sizes],
    measure: [:contestant, :sizes],
    metrics: [],
    bars: []
  ]

  @doc """
  `like: module` takes from a module what it has of a scenario's functions: what scenarios share that differ in
  their question and their sizes. Whoever differs in more defines that itself.
  """
  defmacro __using__(options) do
    quote do
      @behaviour Bench.Scenario
      import Bench.Bar, only: [bar: 4, bar: 5, no_enters: 0]
      import Bench.Metric

      def rounds, do: 15
      def bars, do: []
      def references(_sizes), do: []
      def baseline, do: "C"
      def contestant?(_contestant), do: true
      defoverridable rounds: 0, bars: 0, references: 1, baseline: 0, contestant?: 1

      unquote(options |> Keyword.get(:like) |> Macro.expand(__CALLER__) |> delegates())
    end
  end

  defp delegates(nil), do: nil

  defp delegates(module) do
    Code.ensure_compiled!(module)

    for {name, arguments} <- @shared, function_exported?(module, name, length(arguments)) do
      arguments = Enum.map(arguments, &Macro.var(&1, __MODULE__))

      quote do
        @impl true
        defdelegate unquote(name)(unquote_splicing(arguments)), to: unquote(module)
        defoverridable [{unquote(name), unquote(length(arguments))}]
      end
    end
  end
end
