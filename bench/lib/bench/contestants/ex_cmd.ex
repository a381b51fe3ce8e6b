defmodule Bench.Contestants.ExCmd do
  @moduledoc false

  use Bench.Contestants.Streaming, ExCmd

  @impl true
  def title, do: "ex_cmd"

  @impl true
  def version, do: Bench.Versions.library(:ex_cmd)

  @impl true
  def columns do
    if Code.ensure_loaded?(ExCmd) and match?({:ok, _}, Application.ensure_all_started(:ex_cmd)),
      do: [{"ex_cmd", nil}],
      else: []
  end
end
