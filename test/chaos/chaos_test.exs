defmodule NetRunner.ChaosTest do
  # What makes a chaos run (ci/chaos) worth its result: the same seed draws the same run, nothing is
  # drawn that is not promised, and a wrong outcome is told from one that harm explains.
  use ExUnit.Case, async: true

  alias NetRunner.Test.Chaos
  alias NetRunner.Test.Chaos.{Commands, Plan, Totals, Worker}

  defp drawn(seed, count) do
    :rand.seed(:exsss, seed)

    for n <- 1..count,
        do: Commands.draw("1.1.1.#{n}", 1, %{dir: "/tmp", backends: [:io_uring, :poll]})
  end

  test "the same seed draws the same plan and commands, another seed others" do
    assert Plan.of(7, 3) == Plan.of(7, 3)
    assert Plan.of(7, 3) != Plan.of(7, 4)
    assert Plan.of(7, 3) != Plan.of(8, 3)
    assert drawn(1, 20) == drawn(1, 20)
    assert drawn(1, 20) != drawn(2, 20)
  end

  test "no zygote is killed once guardians are, in any epoch" do
    for number <- 1..300, epoch <- Plan.of(1, number).epochs do
      harms = Enum.map(epoch.harms, & &1.what)
      guardians_on = Enum.drop_while(harms, &(not (to_string(&1) =~ "guardian")))
      refute Enum.any?(guardians_on, &(&1 in [:zygote_kill, :zygote_stop_kill]))
    end
  end

  test "every kind of command, call and harm, 2 to 64 at once and both endings are drawn" do
    commands = drawn(1, 100)
    kinds = commands |> Enum.map(& &1.kind) |> Enum.uniq()
    assert length(kinds) == 13

    assert commands |> Enum.map(& &1.call) |> Enum.uniq() |> Enum.sort() == [
             :process,
             :run,
             :stream
           ]

    plans = for number <- 1..300, do: Plan.of(1, number)
    epochs = Enum.flat_map(plans, & &1.epochs)
    assert epochs |> Enum.map(& &1.at_once) |> Enum.min_max() == {2, 64}
    assert epochs |> Enum.flat_map(& &1.harms) |> Enum.uniq_by(& &1.what) |> length() == 8
    assert Enum.any?(plans, &(&1.ending == :peace))
    assert Enum.any?(plans, &match?(%{ending: {:killed, _at}}, &1))
  end

  test "a fork chain that nobody ends is still there when survivors are counted" do
    # An epoch's commands may be as old as the epoch when its settling begins; the driver looks last.
    longest = 1..300 |> Enum.flat_map(&Plan.of(1, &1).epochs) |> Enum.map(& &1.ms) |> Enum.max()
    assert Commands.chain_ms() > longest + 2 * Worker.settle_ms() + Chaos.gone_ms()
  end

  describe "an outcome" do
    setup do
      {:ok, command: Enum.find(drawn(1, 20), &(&1.kind == :instant))}
    end

    test "that was expected is right, whoever was harmed", %{command: c} do
      assert Commands.judge(c, c.expected, [], false) == :right
      assert Commands.judge(c, c.expected, [:guardian_kill], true) == :right
    end

    test "of other bytes, or another status, is wrong, whoever was harmed", %{command: c} do
      {bytes, status} = c.expected
      assert Commands.judge(c, {bytes <> "x", status}, [:guardian_kill], true) == :wrong
      assert Commands.judge(c, {bytes, status + 1}, [:server_kill], true) == :wrong
    end

    test "of a pipeline that is short, and says nothing of who was hit, is wrong" do
      commands = drawn(1, 100)

      for kind <- [:two, :three, :function] do
        c = Enum.find(commands, &(&1.kind == kind))
        assert Commands.judge(c, c.expected, [:guardian_kill], false) == :right
        assert Commands.judge(c, {:error, :guardian_lost}, [:guardian_kill], false) == :right
        assert Commands.judge(c, {:error, :closed}, [:server_kill], false) == :right
        assert Commands.judge(c, {"", elem(c.expected, 1)}, [:guardian_kill], true) == :wrong
      end
    end

    test "that the harm explains is right, and else it is not", %{command: c} do
      lost = {:error, :guardian_lost}
      assert Commands.judge(c, lost, [:guardian_kill], false) == :right
      assert Commands.judge(c, lost, [], true) == {:anonymous, :guardian_lost}
      assert Commands.judge(c, {:error, :shepherd_lost}, [], true) == :right

      assert Commands.judge(c, {:error, :shepherd_lost}, [], false) ==
               {:anonymous, :shepherd_lost}

      assert Commands.judge(c, {:error, :closed}, [:server_kill], false) == :right
      assert Commands.judge(c, {:error, :closed}, [], true) == :wrong
      assert Commands.judge(c, {:error, :spawn_timeout}, [:guardian_kill], true) == :wrong
      assert Commands.judge(c, {:error, :timeout}, [:guardian_stop], true) == :wrong
    end
  end

  test "totals add up, and are said in words" do
    Totals.open()
    Totals.add(:commands, 1200)
    line = Totals.line()
    Totals.add_line(line)
    assert Totals.sentence() =~ "0 epochs, 2,400 commands, 0 guardians killed, "
    assert Totals.sentence() =~ ", 0 survivors, 0 wrong results"
  end
end
