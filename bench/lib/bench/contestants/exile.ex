defmodule Bench.Contestants.Exile do
  @moduledoc false

  @behaviour Bench.Contestant
  @compile {:no_warn_undefined, [Exile, Exile.Process]}

  @impl true
  def title, do: "Exile"

  @impl true
  def columns do
    if Code.ensure_loaded?(Exile) and match?({:ok, _}, Application.ensure_all_started(:exile)),
      do: [{"Exile", nil}],
      else: []
  end

  @impl true
  def run(nil, cmd), do: {cmd |> Exile.stream!() |> Enum.join(), 0}

  @impl true
  def fold(nil, cmd, acc, fun), do: cmd |> Exile.stream!() |> Enum.reduce(acc, fun)

  @impl true
  def lines(nil, cmd, acc, fun),
    do: cmd |> Exile.stream!() |> Bench.UserLines.of_chunks() |> Enum.reduce(acc, fun)

  @impl true
  def feed(nil, cmd, blocks), do: {cmd |> Exile.stream!(input: blocks) |> Enum.join(), 0}

  @impl true
  def echo(nil, cmd, blocks, _bytes, acc, fun),
    do: cmd |> Exile.stream!(input: blocks) |> Enum.reduce(acc, fun)

  @impl true
  def open(nil, cmd) do
    {:ok, process} = Exile.Process.start_link(cmd)
    process
  end

  @impl true
  def put(process, data), do: Exile.Process.write(process, data)

  @impl true
  def get(process) do
    case Exile.Process.read(process) do
      {:ok, chunk} -> chunk
      :eof -> :eof
    end
  end

  @impl true
  def close(process) do
    Exile.Process.close_stdin(process)
    Exile.Process.await_exit(process)
  end
end
