defmodule Bench.Contestants.MuonTrap do
  @moduledoc false

  @behaviour Bench.Contestant
  @compile {:no_warn_undefined, MuonTrap}

  @impl true
  def title, do: "MuonTrap"

  @impl true
  def version, do: Bench.Versions.library(:muontrap)

  @impl true
  def columns do
    if Code.ensure_loaded?(MuonTrap) and
         match?({:ok, _}, Application.ensure_all_started(:muontrap)),
       do: [{"MuonTrap", nil}],
       else: []
  end

  @impl true
  def run(nil, [exe | args]), do: MuonTrap.cmd(exe, args)

  @impl true
  def fold(nil, [exe | args], acc, fun) do
    {acc, 0} =
      MuonTrap.cmd(exe, args, into: %Bench.Contestants.SystemCmd.Fold{acc: acc, fun: fun})

    acc
  end

  @impl true
  def lines(nil, cmd, acc, fun) do
    {output, 0} = run(nil, cmd)
    output |> Bench.UserLines.of_output() |> Enum.reduce(acc, fun)
  end
end
