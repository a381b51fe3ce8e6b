defmodule NetRunner.Pipeline.Group do
  @moduledoc false
  # The commands of one pipeline, as one whose input breaks off knows the others: by a reference that their servers
  # registered. Those behind it are stopped before its own command ends, for they would take that for the end of the data. Called by
  # the feeder, before it says so to its server; inputs are not read before all commands run (NetRunner.Running).

  alias NetRunner.Process

  @typedoc "What each command's server is given: whose it is, its place, and whether it is a tee or behind one."
  @type member :: {reference, non_neg_integer, :command | :tee | :branch}

  @doc """
  The input of `server`'s command has broken off. Those behind it are stopped one after the other, from the last on: each is
  gone before the one that it reads is asked to go. A command behind a tee goes first, as the tee ends when nobody reads on. Those before
  it are only told; its own stop is its server's.
  """
  @spec broke(reference, pid) :: :ok
  def broke(group, server) do
    others =
      NetRunner.Registry
      |> Registry.select(members(group))
      |> Enum.sort_by(fn {place, kind, _pid} -> {kind == :branch, place} end, :desc)

    {behind, before} = Enum.split_while(others, fn {_place, _kind, pid} -> pid != server end)
    Enum.each(behind, &stop/1)
    for {_place, _kind, pid} <- before, pid != server, do: Process.stop_for(pid, :stopped)
    :ok
  end

  defp members(group),
    do: [{{:"$1", :_, %{pipeline: {group, :"$2", :"$3"}}}, [], [{{:"$2", :"$3", :"$1"}}]}]

  # A tee heeds no stop signal.
  defp stop({_place, :tee, pid}), do: Process.shutdown(pid, 0, 5_000)

  defp stop({_place, _command, pid}) do
    Process.stop_for(pid, :stopped)
    Process.await_exit(pid)
  end
end
