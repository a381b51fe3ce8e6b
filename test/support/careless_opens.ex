defmodule NetRunner.Test.CarelessOpens do
  @moduledoc """
  A thread in this BEAM that opens and closes descriptors without O_CLOEXEC all the time, as a careless
  library would: test/fixtures/careless_opens.c.
  """

  @on_load :load

  def load do
    path = Application.app_dir(:net_runner, ["cmake", "fixtures", "careless_opens"])
    :erlang.load_nif(to_charlist(path), 0)
  end

  @spec begin :: :ok
  def begin, do: :erlang.nif_error(:not_loaded)

  @doc "Ends the thread, if it runs, and says how many descriptors it opened."
  @spec finish :: non_neg_integer
  def finish, do: :erlang.nif_error(:not_loaded)
end
