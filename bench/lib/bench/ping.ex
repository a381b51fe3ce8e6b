defmodule Bench.Ping do
  @moduledoc """
  One message to a command that says what it hears, and its answer: for scenarios that ask how long that takes.
  """

  @size 64

  @doc "Of a message, in bytes."
  @spec size :: pos_integer
  def size, do: @size

  @doc "Whether the answer was right, and how many microseconds it took."
  @spec exchange(Bench.Contestant.t(), term, non_neg_integer) :: {boolean, float}
  def exchange(%{module: module}, process, number) do
    message = <<number::size(@size)-unit(8)>>
    begin = System.monotonic_time(:nanosecond)
    :ok = module.put(process, message)
    answer = get(module, process, @size, "")
    {answer == message, (System.monotonic_time(:nanosecond) - begin) / 1000}
  end

  @doc "What is wrong with so many exchanges; nil if nothing is."
  @spec wrong([{boolean, float}]) :: nil | String.t()
  def wrong(exchanges) do
    wrong = Enum.count(exchanges, fn {right?, _us} -> not right? end)
    if wrong > 0, do: "#{wrong} of #{length(exchanges)} answers were wrong"
  end

  defp get(_module, _process, left, got) when left <= 0, do: got

  defp get(module, process, left, got) do
    case module.get(process) do
      :eof -> got
      chunk -> get(module, process, left - byte_size(chunk), got <> chunk)
    end
  end
end
