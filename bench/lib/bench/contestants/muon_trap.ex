defmodule Bench.Contestants.MuonTrap do
  @moduledoc false
  # With its own window of 10 KB it loses the end of what a command wrote (docs/comparison.md); one that holds all of
  # the pipe hides that, and it is faster with it.

  @behaviour Bench.Contestant
  @compile {:no_warn_undefined, [MuonTrap, MuonTrap.Daemon]}

  @impl true
  def title, do: "MuonTrap"

  @impl true
  def version, do: Bench.Versions.library(:muontrap)

  @impl true
  def columns do
    if Code.ensure_loaded?(MuonTrap) and
         match?({:ok, _}, Application.ensure_all_started(:muontrap)),
       do: [{"MuonTrap", []}, {"MuonTrap 1 MiB", [stdio_window: 1_048_576]}],
       else: []
  end

  @impl true
  def lacks do
    input = "nothing can be written to the command"
    %{feed: input, echo: input, put: input}
  end

  @impl true
  def run(options, [exe | args]), do: MuonTrap.cmd(exe, args, options)

  @impl true
  def fold(options, [exe | args], acc, fun) do
    into = %Bench.Contestants.SystemCmd.Fold{acc: acc, fun: fun}
    {acc, 0} = MuonTrap.cmd(exe, args, [into: into] ++ options)
    acc
  end

  @impl true
  def lines(options, cmd, acc, fun) do
    {output, 0} = run(options, cmd)
    output |> Bench.UserLines.of_output() |> Enum.reduce(acc, fun)
  end

  @impl true
  def open(options, [exe | args]) do
    {:ok, daemon} = MuonTrap.Daemon.start_link(exe, args, options)
    daemon
  end

  @impl true
  def close(daemon), do: GenServer.stop(daemon)
end
