defmodule NetRunner.Options.DoubleType do
  @moduledoc false
  # What values options of NetRunner.Test may have that no command has: asked by NetRunner.Options.Type, and answering as
  # it does.

  alias NetRunner.Signal

  @u32_max 0xFFFF_FFFF

  @spec check(atom, term) :: :ok | {:ok, term} | {:wrong, String.t()}
  def check(:match, nil), do: :ok

  def check(:match, value) do
    if pattern?(value),
      do: :ok,
      else:
        {:wrong,
         "an executable's name, [executable | arguments] of binaries, regexes, :_ and a last :*, a regex, or a function of " <>
           "one argument"}
  end

  def check(:times, value) do
    if value == :any or (is_integer(value) and value in 1..@u32_max),
      do: :ok,
      else: {:wrong, "a number above 0 or :any"}
  end

  def check(:speed, value) do
    if value in [:instant, :real] or (is_number(value) and value > 0 and value <= 1_000_000),
      do: :ok,
      else: {:wrong, ":instant, :real or a number above 0, 1000000 at most"}
  end

  def check(:fake_stdin, value) when value in [nil, :read], do: :ok

  def check(:fake_stdin, value),
    do: with({:wrong, expected} <- check(:iodata, value), do: {:wrong, ":read or #{expected}"})

  def check(:iodata, value) do
    case bytes(value) do
      {:ok, bytes} -> {:ok, bytes}
      :error -> {:wrong, "iodata"}
    end
  end

  def check(:fake_exit, :stays), do: :ok
  def check(:fake_exit, {:exited, code}) when code in 0..255, do: :ok
  def check(:fake_exit, code) when code in 0..255, do: {:ok, {:exited, code}}

  def check(:fake_exit, value) do
    with {:signaled, signal} <- value,
         {:ok, number} <- Signal.fetch(signal) do
      {:ok, {:signaled, number}}
    else
      _other -> {:wrong, "0..255, {:exited, code}, {:signaled, signal} or :stays"}
    end
  end

  def check(:steps, nil), do: :ok

  def check(:steps, value) do
    with true <- is_list(value) and not List.improper?(value),
         steps = Enum.map(value, &step/1),
         true <- :error not in steps do
      {:ok, steps}
    else
      false ->
        {:wrong,
         "a list of {:stdout, iodata}, {:stderr, iodata}, {:stdin, iodata}, :stdin_end and {:wait, ms}"}
    end
  end

  def check(:otherwise, value) do
    if value in [:error, :run] or names?(value),
      do: :ok,
      else: {:wrong, ":error, :run or a list of names"}
  end

  defp step(:stdin_end), do: :stdin_end
  defp step({:wait, ms} = wait) when is_integer(ms) and ms in 0..@u32_max, do: wait

  defp step({stream, value}) when stream in [:stdin, :stdout, :stderr],
    do: with({:ok, bytes} <- bytes(value), do: {stream, bytes})

  defp step(_other), do: :error

  defp bytes(value) do
    {:ok, IO.iodata_to_binary(value)}
  rescue
    ArgumentError -> :error
  end

  defp names?(value),
    do: is_list(value) and not List.improper?(value) and Enum.all?(value, &is_binary/1)

  defp pattern?(name) when is_binary(name), do: name != ""
  defp pattern?(%Regex{}), do: true
  defp pattern?(fun) when is_function(fun), do: is_function(fun, 1)

  defp pattern?([exe | args]) do
    is_list(args) and not List.improper?(args) and word?(exe) and
      args |> Enum.reverse() |> Enum.drop_while(&(&1 == :*)) |> Enum.all?(&word?/1) and
      Enum.count(args, &(&1 == :*)) <= 1
  end

  defp pattern?(_other), do: false

  defp word?(word), do: is_binary(word) or is_struct(word, Regex) or word == :_
end
