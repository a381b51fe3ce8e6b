defmodule NetRunner.Compat.Exile.Options do
  @moduledoc false
  # Exile's options in NetRunner's words, for streams and for Process.

  alias NetRunner.Compat

  @doc "NetRunner's options, and those that `own` takes first: see `Compat.take!/5`."
  @spec take!(keyword, String.t(), ({atom, term} -> {:ok, term} | :none)) :: {keyword, keyword}
  def take!(opts, call, own) do
    unless Keyword.keyword?(opts), do: Compat.invalid_option!(opts, call)
    Compat.take!(opts, call, [stderr: :inherit], own, &option!/3)
  end

  # The grace of a command that did not end in time: SIGTERM, then SIGKILL.
  @grace 1_000
  # What SIGKILL and the sweep behind it may take.
  @kill_wait 5_000

  @doc "Waits for the end of a command, and brings it about when it has not come in time."
  @spec await_exit(NetRunner.Process.t(), timeout) :: {:ok, non_neg_integer} | {:error, term}
  def await_exit(process, timeout) do
    with {:error, :timeout} <- NetRunner.Process.await_exit(process, timeout),
         do: NetRunner.Process.shutdown(process, @grace, @kill_wait)
  end

  defp option!(:cd, cd, _call) when is_binary(cd), do: [cd: cd]
  defp option!(:env, env, call), do: [env: Compat.env!(env, call)]
  defp option!(:stderr, :console, _call), do: [stderr: :inherit]
  defp option!(:stderr, :redirect_to_stdout, _call), do: [stderr: :merge]
  defp option!(:stderr, :disable, _call), do: [stderr: :discard]
  defp option!(:stderr, :consume, _call), do: [stderr: :pipe]
  defp option!(name, value, call), do: Compat.invalid_option!({name, value}, call)
end
