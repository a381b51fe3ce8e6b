defmodule NetRunner.TicksTest do
  # A ring whose reaper comes by the clock: for many who have time, and for nobody who is in a hurry.
  use NetRunner.Test.Case

  alias NetRunner.Test.OtherBeam

  @moduletag :io_uring

  # With one scheduler, and so one ring.
  defp beam(what),
    do: OtherBeam.inspected("NetRunner.Test.Ticks.#{what}()", 90_000, ["env", "ERL_FLAGS=+S 1"])

  test "a ring ticks while many who have time wait, and all they were sent comes; then it is told again" do
    assert beam(:served) == ":ok"
  end

  test "a ring does not tick while somebody in a hurry waits on it" do
    assert beam(:hurried) == ":ok"
  end

  test ":auto moves those who have time to a ring that ticks, and nobody who is in a hurry" do
    assert beam(:auto) == ":ok"
  end
end
