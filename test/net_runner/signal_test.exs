defmodule NetRunner.SignalTest do
  use ExUnit.Case, async: true
  doctest NetRunner.Signal

  alias NetRunner.Signal

  test "knows the names that the shell knows, with the kernel's numbers" do
    for {name, number} <- Signal.all() do
      "sig" <> short = Atom.to_string(name)
      {output, 0} = System.cmd("kill", ["-l", "#{number}"])
      known = output |> String.trim() |> String.downcase()
      # Two numbers have two names each: POLL is IO, and CLD is CHLD.
      assert known in [short, %{"io" => "poll", "chld" => "cld"}[short]]
      assert Signal.resolve(name) == number
      assert Signal.name(number) == name
    end
  end

  test "takes every number in 1..64; the real-time ones have no name" do
    for number <- 1..64 do
      assert Signal.resolve(number) == number
      assert Signal.fetch(number) == {:ok, number}
    end

    for number <- 32..64, do: assert(Signal.name(number) == number)
    assert Enum.sort(for {_name, number} <- Signal.all(), do: number) == Enum.to_list(1..31)
  end

  test "refuses everything else by an ArgumentError that shows it" do
    for bad <- [
          0,
          -1,
          65,
          1.0,
          15.0,
          :term,
          :SIGTERM,
          :sigfoo,
          "sigterm",
          ~c"sigterm",
          nil,
          true,
          {},
          [15]
        ] do
      assert Signal.fetch(bad) == :error
      error = assert_raise ArgumentError, fn -> Signal.resolve(bad) end
      assert error.message =~ "unknown signal #{inspect(bad)}"
    end
  end
end
