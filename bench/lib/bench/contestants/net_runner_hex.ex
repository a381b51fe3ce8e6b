defmodule Bench.Contestants.NetRunnerHex do
  @moduledoc false
  # The library of this name on Hex. Its modules have our modules' names, so it takes part under others:
  # bench/README.md says how.

  use Bench.Contestants.Streaming, NetRunnerHex

  @impl true
  def title, do: "net_runner of Hex"

  @impl true
  def version, do: Bench.Versions.library(:net_runner_hex)

  @impl true
  def columns do
    if Code.ensure_loaded?(NetRunnerHex) and
         match?({:ok, _}, Application.ensure_all_started(:net_runner_hex)),
       do: [{"net_runner (Hex)", nil}],
       else: []
  end

  @impl true
  def run(nil, cmd), do: NetRunnerHex.run(cmd)

  @impl true
  def feed(nil, cmd, blocks), do: NetRunnerHex.run(cmd, input: blocks)

  @impl true
  def open(nil, [exe | args]) do
    {:ok, process} = NetRunnerHex.Process.start(exe, args)
    process
  end
end
