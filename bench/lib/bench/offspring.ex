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
  def list, do: Enum.flat_map(Cpu.helpers(), &Cpu.below/1)

  @spec count :: non_neg_integer
  def count, do: length(list())

  @doc "Returns once no more than so many are left; dies if that takes too long."
  @spec await(non_neg_integer) :: :ok
  def await(count) do
    until(fn ->
      left = count() - count
      if left > 0, do: "#{left} processes are left"
    end)
  end

  @doc "Returns once a function of what there is gives nil; dies with the last word it gave if that takes too long."
  @spec until((() -> nil | String.t())) :: :ok
  def until(fun), do: until(fun, System.monotonic_time(:millisecond) + @end_ms)

  defp until(fun, deadline) do
    said = fun.()

    cond do
      said == nil ->
        :ok

      System.monotonic_time(:millisecond) > deadline ->
        exit(said)

      true ->
        Process.sleep(@look_ms)
        until(fun, deadline)
    end
  end
end
