defmodule NetRunner.Test.PropertiesTest do
  # A property that does not hold must be told, with the smallest value, however it fails; and a run can be
  # repeated. Not async: it changes the environment.
  use ExUnit.Case
  use NetRunner.Test.Properties

  setup do
    names = ["NET_RUNNER_PROPERTY_SEED", "NET_RUNNER_PROPERTY_TESTS"]
    before = Map.new(names, &{&1, System.get_env(&1)})
    for name <- names, do: System.delete_env(name)

    on_exit(fn ->
      for {name, value} <- before,
          do: if(value, do: System.put_env(name, value), else: System.delete_env(name))
    end)
  end

  defp failure(fun), do: assert_raise(ExUnit.AssertionError, fun).message

  # The values that a property is tried with.
  defp tried(opts \\ []) do
    me = self()
    ref = make_ref()
    forall(value <- list(byte()), opts, do: send(me, {ref, value}))
    received(ref)
  end

  defp received(ref) do
    receive do
      {^ref, value} -> [value | received(ref)]
    after
      0 -> []
    end
  end

  test "the smallest value for which it does not hold is shown, with what went wrong and how to repeat it" do
    System.put_env("NET_RUNNER_PROPERTY_SEED", "12345")

    message =
      failure(fn ->
        forall numbers <- list(integer(0, 1000)), tests: 200 do
          assert Enum.all?(numbers, &(&1 < 17)), "one is too large"
        end
      end)

    assert message =~ "does not hold for\n\n    [17]\n"
    assert message =~ "one is too large"
    assert message =~ "NET_RUNNER_PROPERTY_SEED=12345 NET_RUNNER_PROPERTY_TESTS=200"
  end

  test "it does not hold where the body raises, throws, exits, gives false, or dies of somebody else" do
    bodies = [
      {~r/ArithmeticError/, fn -> 1 / zero() end},
      {~r/\(throw\) :ball/, fn -> throw(:ball) end},
      {~r/\(exit\) :gone/, fn -> exit(:gone) end},
      {~r/gave false/, fn -> false end},
      {~r/\(exit\) :crash/, fn -> spawn_link(fn -> exit(:crash) end) |> await_down() end}
    ]

    for {expected, body} <- bodies do
      assert failure(fn -> forall(_ <- byte(), do: body.()) end) =~ expected
    end
  end

  defp zero, do: byte_size("")

  defp await_down(pid) do
    monitor = Process.monitor(pid)
    receive do: ({:DOWN, ^monitor, :process, ^pid, _reason} -> Process.sleep(:infinity))
  end

  test "it does not hold where the body does not end; it is ended then" do
    me = self()

    message =
      failure(fn ->
        forall _ <- byte(), timeout: 20, tests: 1 do
          send(me, {:body, self()})
          Process.sleep(:infinity)
        end
      end)

    assert message =~ "not_within_ms, 20"
    assert_received {:body, body}
    refute Process.alive?(body)
  end

  test "each value has an empty mailbox and a process of its own" do
    me = self()

    forall _ <- byte(), tests: 20 do
      refute self() == me
      assert Process.info(self(), :messages) == {:messages, []}
      send(self(), :left_over)
    end
  end

  test "a value that cannot be drawn is no success" do
    message = failure(fn -> forall(_ <- such_that(byte(), fn _ -> false end), do: :never) end)

    assert message =~ "cant_generate"
  end

  test "the seed repeats the values, another one draws others; their number can be set" do
    System.put_env("NET_RUNNER_PROPERTY_SEED", "1")
    first = tried(tests: 30)
    assert length(first) == 30
    assert tried(tests: 30) == first
    System.put_env("NET_RUNNER_PROPERTY_SEED", "2")
    assert tried(tests: 30) != first
    System.put_env("NET_RUNNER_PROPERTY_TESTS", "7")
    assert length(tried(tests: 30)) == 7
  end

  test "without a seed it is ExUnit's" do
    first = tried()
    System.put_env("NET_RUNNER_PROPERTY_SEED", to_string(ExUnit.configuration()[:seed]))
    assert tried() == first
  end
end
