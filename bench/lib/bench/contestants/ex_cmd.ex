defmodule Bench.Contestants.ExCmd do
  @moduledoc false

  @behaviour Bench.Contestant
  @compile {:no_warn_undefined, [ExCmd, ExCmd.Process]}

  @impl true
  def title, do: "ex_cmd"

  @impl true
  def columns do
    if Code.ensure_loaded?(ExCmd) and match?({:ok, _}, Application.ensure_all_started(:ex_cmd)),
      do: [{"ex_cmd", nil}],
      else: []
  end

  @impl true
  def run(nil, cmd), do: {cmd |> ExCmd.stream!() |> Enum.join(), 0}

  @impl true
  def fold(nil, cmd, acc, fun), do: cmd |> ExCmd.stream!() |> Enum.reduce(acc, fun)

  @impl true
  def lines(nil, cmd, acc, fun),
    do: cmd |> ExCmd.stream!() |> Bench.UserLines.of_chunks() |> Enum.reduce(acc, fun)

  @impl true
  def feed(nil, cmd, blocks), do: {cmd |> ExCmd.stream!(input: blocks) |> Enum.join(), 0}

  @impl true
  def echo(nil, cmd, blocks, _bytes, acc, fun),
    do: cmd |> ExCmd.stream!(input: blocks) |> Enum.reduce(acc, fun)

  @impl true
  def open(nil, cmd) do
    {:ok, process} = ExCmd.Process.start_link(cmd)
    process
  end

  @impl true
  def put(process, data), do: ExCmd.Process.write(process, data)

  @impl true
  def get(process) do
    case ExCmd.Process.read(process) do
      {:ok, chunk} -> chunk
      :eof -> :eof
    end
  end

  @impl true
  def close(process) do
    ExCmd.Process.close_stdin(process)
    ExCmd.Process.await_exit(process)
  end
end
