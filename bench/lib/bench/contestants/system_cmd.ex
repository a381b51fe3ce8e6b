defmodule Bench.Contestants.SystemCmd do
  @moduledoc false

  @behaviour Bench.Contestant

  defmodule Fold do
    @moduledoc false
    # A Collectable that folds.
    defstruct [:acc, :fun]

    defimpl Collectable do
      def into(%{acc: acc, fun: fun}) do
        {acc,
         fn
           acc, {:cont, chunk} -> fun.(chunk, acc)
           acc, :done -> acc
           _acc, :halt -> :ok
         end}
      end
    end
  end

  @impl true
  def title, do: "System.cmd"

  @impl true
  def version, do: "#{Bench.Versions.elixir()}, #{Bench.Versions.otp()}"

  @impl true
  def columns, do: [{"System.cmd", nil}]

  @impl true
  def lacks do
    input = "nothing can be written to the command"
    %{feed: input, echo: input, put: input, open: "it returns when the command has ended"}
  end

  @impl true
  def run(nil, [exe | args]), do: System.cmd(exe, args)

  @impl true
  def fold(nil, [exe | args], acc, fun) do
    {acc, 0} = System.cmd(exe, args, into: %Fold{acc: acc, fun: fun})
    acc
  end

  @impl true
  def lines(nil, cmd, acc, fun) do
    {output, 0} = run(nil, cmd)
    output |> Bench.UserLines.of_output() |> Enum.reduce(acc, fun)
  end
end
