defmodule NetRunner.Pipeline.Group do
  @moduledoc false
  # The commands of one pipeline, as one whose input breaks off, or whose guardian is lost, knows the others: by a reference that
  # their servers registered. Those behind it are stopped before its own command ends, for they would take that for the end of the
  # data. Called by the feeder, before it says so to its server; inputs are not read before all commands run (NetRunner.Running).
  # A lost guardian is nobody's plan: its server says so at once, and once more when all of them run.

  alias NetRunner.Process

  @typedoc "What each command's server is given: whose it is, its place, and whether it is a tee or behind one."
  @type member :: {reference, non_neg_integer, :command | :tee | :branch}

  @doc """
  Of this member the input has broken off, or the guardian is lost. Those behind it are stopped one after the other, from the last on: each is
  gone before the one that it reads is asked to go. A command behind a tee goes first, as the tee ends when nobody reads on. Those before
  it are only told; its own stop is its server's.
  """
  @spec broke(member) :: :ok
  def broke({group, place, kind}) do
    mine = order({place, kind, self()})

    {behind, before} =
      NetRunner.Registry
      |> Registry.select(members(group))
      |> Enum.reject(&(order(&1) == mine))
      |> Enum.sort_by(&order/1, :desc)
      |> Enum.split_while(&(order(&1) > mine))

    Enum.each(behind, &stop/1)
    for {_place, _kind, pid} <- before, do: Process.stop_for(pid, :stopped)
    :ok
  end

  defp order({place, kind, _pid}), do: {kind == :branch, place}

  defp members(group),
    do: [{{:"$1", :_, %{pipeline: {group, :"$2", :"$3"}}}, [], [{{:"$2", :"$3", :"$1"}}]}]

  # A tee heeds no stop signal.
  defp stop({_place, :tee, pid}), do: Process.shutdown(pid, 0, 5_000)

  defp stop({_place, _command, pid}) do
    Process.stop_for(pid, :stopped)
    Process.await_exit(pid)
  end
end
