defmodule NetRunner.Test.Chaos.Totals do
  @moduledoc "What a chaos run counts: in a worker by counters, between worker and driver as text."

  @names [
    :epochs,
    :commands,
    :guardians_killed,
    :guardians_stopped,
    :zygotes_killed,
    :zygotes_stopped,
    :owners_killed,
    :servers_killed,
    :beams_killed,
    :beams_stopped,
    :survivors,
    :wrong
  ]
  @index @names |> Enum.with_index(1) |> Map.new()

  @doc "Begins to count in this BEAM."
  def open, do: :persistent_term.put(__MODULE__, :counters.new(length(@names), [:atomics]))

  def add(name, n \\ 1), do: :counters.add(counters(), Map.fetch!(@index, name), n)
  def get(name), do: :counters.get(counters(), Map.fetch!(@index, name))

  @doc "All counts as one line of numbers, and back into this BEAM's counts."
  def line, do: Enum.map_join(@names, " ", &get/1)

  def add_line(line) do
    numbers = line |> String.split() |> Enum.map(&String.to_integer/1)
    for {name, n} <- Enum.zip(@names, numbers), do: add(name, n)
  end

  @doc "All counts in words."
  def sentence do
    """
    #{count(:epochs)} epochs, #{count(:commands)} commands, #{count(:guardians_killed)} guardians killed, \
    #{count(:guardians_stopped)} stopped, #{count(:zygotes_killed)} zygotes killed, \
    #{count(:zygotes_stopped)} stopped, #{count(:owners_killed)} owners killed, \
    #{count(:servers_killed)} servers killed, #{count(:beams_killed)} BEAMs killed, \
    #{count(:beams_stopped)} stopped, #{count(:survivors)} survivors, #{count(:wrong)} wrong results\
    """
  end

  defp count(name) do
    name
    |> get()
    |> Integer.to_charlist()
    |> Enum.reverse()
    |> Enum.chunk_every(3)
    |> Enum.join(",")
    |> String.reverse()
  end

  defp counters, do: :persistent_term.get(__MODULE__)
end
