defmodule Bench.Contestants.ExCmd do
  @moduledoc false

  # stderr as with the others; about one run of 1,500 ends with :epipe otherwise, when its helper has ended before it
  # is told to.
  use Bench.Contestants.Streaming, {ExCmd, [stderr: :console, ignore_epipe: true]}

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
