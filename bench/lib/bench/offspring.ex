defmodule Bench.Offspring do
  @moduledoc """
  The OS processes below our helpers (NetRunner's zygote, ERTS's erl_child_setup, other libraries'
  programs): guardians, wrappers, and the commands themselves.
  """

  alias Bench.Cpu

  # How long they may take to be gone. None of them is a child of ours, so there is no event to wait for.
  @end_ms 30_000
  @look_ms 10

  @spec list :: [pos_integer]
  def list, do: Enum.flat_map(Cpu.helpers(), &below/1)

  defp below(os_pid), do: Enum.flat_map(Cpu.children(os_pid), &[&1 | below(&1)])

  @spec count :: non_neg_integer
  def count, do: length(list())

  @doc "Returns once no more than so many are left; dies if that takes too long."
  @spec await(non_neg_integer) :: :ok
  def await(count), do: await(count, System.monotonic_time(:millisecond) + @end_ms)

  defp await(count, deadline) do
    left = count() - count

    cond do
      left <= 0 ->
        :ok

      System.monotonic_time(:millisecond) > deadline ->
        exit("#{left} processes are left")

      true ->
        Process.sleep(@look_ms)
        await(count, deadline)
    end
  end
end
