defmodule Bench.Contestants.Exile do
  @moduledoc false

  use Bench.Contestants.Streaming, Exile

  @impl true
  def title, do: "Exile"

  @impl true
  def version, do: Bench.Versions.library(:exile)

  @impl true
  def columns do
    if Code.ensure_loaded?(Exile) and match?({:ok, _}, Application.ensure_all_started(:exile)),
      do: [{"Exile", nil}],
      else: []
  end
end
