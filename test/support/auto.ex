defmodule NetRunner.Test.Auto do
  @moduledoc """
  What `backend: :auto` does with pipes that become ready together. For another BEAM: a ring that did not pay rests, for longer
  and longer, and so an earlier test would decide.
  """

  alias NetRunner.Nif
  alias NetRunner.Process, as: P

  @doc """
  How often the pipes of 24 commands that answer at the same time were moved to the ring, all together: until some were, or for
  long. (On a slow processor it takes its time until three of them wait within 256 us.)
  """
  def busy, do: Enum.find_value(1..20, 0, fn _pass -> moved(answer_together()) end)

  defp moved(0), do: nil
  defp moved(moves), do: moves

  defp answer_together do
    1..24
    |> Task.async_stream(
      fn _n ->
        {:ok, p} = P.start("cat")
        for n <- 1..300, do: answer!(p, "#{n}")
        {:ok, stats} = P.stats(p)
        P.stop(p)
        stats.stdout.moves
      end,
      max_concurrency: 24,
      timeout: 60_000
    )
    |> Enum.reduce(0, fn {:ok, moves}, sum -> sum + moves end)
  end

  @doc "The counters of a command's output that nothing else becomes ready with."
  def lone do
    {:ok, p} = P.start("cat")
    for n <- 1..300, do: answer!(p, "#{n}")
    {:ok, stats} = P.stats(p)
    P.stop(p)
    stats.stdout
  end

  defp answer!(p, text) do
    :ok = P.write(p, text)
    {:ok, ^text} = P.read(p)
  end

  @doc """
  The counters of three commands' outputs, which become ready together, until one of them was moved back, or for very long:
  three are never the four that a wake of the ring must find to pay. Each byte comes as it was written.
  """
  def thin do
    commands = for _ <- 1..3, do: elem(P.start("cat"), 1)
    handles = for p <- commands, do: elem(P.handle(p, :stdout), 1)
    rounds(commands, handles, 1)
    counts = Enum.map(handles, &Nif.handle_info/1)
    for p <- commands, do: P.stop(p)
    counts
  end

  defp rounds(_commands, _handles, 20_000), do: :ok

  defp rounds(commands, handles, n) do
    waits = for handle <- handles, do: {handle, make_ref()}
    for {handle, ref} <- waits, do: :again = Nif.read(handle, 100, ref)
    for p <- commands, do: :ok = P.write(p, "<#{n}>")
    for {handle, ref} <- waits, do: {:ok, "<" <> _} = ready(handle, ref)

    if Enum.any?(handles, &(Nif.handle_info(&1).moves_back > 0)),
      do: :ok,
      else: rounds(commands, handles, n + 1)
  end

  # A wait may end without bytes: then it is placed anew.
  defp ready(handle, ref) do
    receive do
      {^ref, :ready} -> with :again <- Nif.read(handle, 100, ref), do: ready(handle, ref)
    end
  end
end
