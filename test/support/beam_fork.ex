defmodule NetRunner.Test.BeamFork do
  @moduledoc """
  Forks the BEAM it is called in, as a careless NIF would: test/fixtures/beam_fork.c.
  """

  @on_load :load

  def load do
    path = Application.app_dir(:net_runner, ["cmake", "fixtures", "beam_fork"])
    :erlang.load_nif(to_charlist(path), 0)
  end

  @doc "The pid of a copy of this BEAM that holds all its descriptors for a minute."
  @spec fork :: integer
  def fork, do: :erlang.nif_error(:not_loaded)
end
