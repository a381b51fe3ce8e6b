defmodule Bench.Contestants.NetRunnerHex do
  @moduledoc false
  # The library of this name on Hex. Its modules have our modules' names, so it takes part under others:
  # bench/README.md says how.

  @behaviour Bench.Contestant
  @compile {:no_warn_undefined, [NetRunnerHex, NetRunnerHex.Process]}

  @impl true
  def title, do: "net_runner of Hex"

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
  def fold(nil, cmd, acc, fun), do: cmd |> NetRunnerHex.stream!() |> Enum.reduce(acc, fun)

  @impl true
  def lines(nil, cmd, acc, fun),
    do: cmd |> NetRunnerHex.stream!() |> Bench.UserLines.of_chunks() |> Enum.reduce(acc, fun)

  @impl true
  def feed(nil, cmd, blocks), do: NetRunnerHex.run(cmd, input: blocks)

  @impl true
  def echo(nil, cmd, blocks, _bytes, acc, fun),
    do: cmd |> NetRunnerHex.stream!(input: blocks) |> Enum.reduce(acc, fun)

  @impl true
  def open(nil, [exe | args]) do
    {:ok, process} = NetRunnerHex.Process.start(exe, args)
    process
  end

  @impl true
  def put(process, data), do: NetRunnerHex.Process.write(process, data)

  @impl true
  def get(process) do
    case NetRunnerHex.Process.read(process) do
      {:ok, chunk} -> chunk
      :eof -> :eof
    end
  end

  @impl true
  def close(process) do
    NetRunnerHex.Process.close_stdin(process)
    NetRunnerHex.Process.await_exit(process)
  end
end
