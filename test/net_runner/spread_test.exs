defmodule NetRunner.SpreadTest do
  # Schedulers that share a processor while another has none of them are moved apart (csrc/spread.h); test/c/test_spread.c has
  # when, test/c/test_processors.c how. Not async: it moves this BEAM's schedulers, and starts the application anew.
  use NetRunner.Test.Case

  alias NetRunner.{Nif, Turns}
  alias NetRunner.Test.OtherBeam

  defp bind(affinity) do
    for {thread, list} <- affinity,
        do: {_, 0} = System.cmd("taskset", ["-pc", list, thread], stderr_to_stdout: true)
  end

  defp first_processor(list), do: list |> Integer.parse() |> elem(0) |> to_string()

  # They are all put on one processor, and may then run where they did before. There the kernel leaves them for a while, or not.
  defp crowd_on_one_processor(before) do
    bind(Map.new(before, fn {thread, list} -> {thread, first_processor(list)} end))
    bind(before)

    receive do
    after
      20 -> :ok
    end
  end

  # While more streams at full speed are read than there are places at once (NetRunner.Turns).
  defp beside_streams(backend, fun) do
    me = self()

    readers =
      for _ <- 1..(64 * System.schedulers_online()) do
        spawn_link(fn ->
          ["cat", "/dev/zero"]
          |> NetRunner.stream!(backend: backend)
          |> Stream.with_index()
          |> Enum.each(fn {_bytes, index} -> if index == 0, do: send(me, :reads) end)
        end)
      end

    for _ <- readers, do: assert_receive(:reads, 60_000)
    eventually("there is a crowd", fn -> match?(%{readers: {n, _}} when n > 0, watch()) end)
    fun.()

    for pid <- readers do
      Process.unlink(pid)
      Process.exit(pid, :kill)
    end

    eventually("it is over", 10_000, fn -> watch().timer == nil end)
  end

  defp watch, do: :sys.get_state(Turns)

  # Where there are two schedulers and more, and two processors and more that they may run on.
  defp may_part?(affinity) do
    Nif.build() != :portable and map_size(affinity) > 1 and
      Enum.all?(affinity, fn {_, list} -> list =~ ~r/[-,]/ end)
  end

  on_backends "schedulers that share a processor are moved apart, and may run where they might before" do
    before = scheduler_affinity()
    on_exit(fn -> bind(before) end)
    assert map_size(before) == System.schedulers()
    moves = Nif.turns_moves()

    beside_streams(backend, fn ->
      if may_part?(before) do
        eventually("one of them was moved", 20_000, fn ->
          crowd_on_one_processor(before)
          Nif.turns_moves() > moves
        end)
      else
        for _ <- 1..10, do: crowd_on_one_processor(before)
        assert Nif.turns_moves() == moves
      end
    end)

    assert scheduler_affinity() == before
  end

  describe "with configuration," do
    setup do: keep_config(:spread_schedulers)

    test "spread_schedulers: false leaves it to the kernel" do
      {:ok, _} = restart_net_runner(:spread_schedulers, false)
      before = scheduler_affinity()
      on_exit(fn -> bind(before) end)
      moves = Nif.turns_moves()
      beside_streams(:poll, fn -> for _ <- 1..10, do: crowd_on_one_processor(before) end)
      assert Nif.turns_moves() == moves
    end

    @tag :capture_log
    test "anything else keeps the application from starting, and the reason names the key" do
      assert {:error, {:net_runner, reason}} = restart_net_runner(:spread_schedulers, :yes)
      assert inspect(reason) =~ "config :net_runner, spread_schedulers:"
    end
  end

  # Sums of what 128 streams gave, how many schedulers there were, how often one was moved, where they may run, and whether they may
  # be moved at all.
  @beam """
  (
    1..128 |> Enum.map(fn _ -> Task.async(fn ->
      ["head", "-c", "20000000", "/dev/zero"] |> NetRunner.stream!() |> Enum.reduce(0, &(&2 + byte_size(&1)))
    end) end) |> Task.await_many(60_000) |> Enum.uniq() |> then(&{&1, System.schedulers_online(), NetRunner.Nif.turns_moves(),
      NetRunner.Test.World.scheduler_affinity() |> Map.values() |> Enum.uniq(),
      :sys.get_state(NetRunner.Turns).spread?})
  )\
  """

  defp other_beam(launcher),
    do: OtherBeam.inspected(@beam, 120_000, ["env", "ERL_FLAGS=+S 2:2"] ++ launcher)

  test "schedulers that are bound to a processor stay there" do
    processor = scheduler_affinity() |> Map.values() |> hd() |> first_processor()
    seen = other_beam(["taskset", "-c", processor])
    assert seen == inspect({[20_000_000], 2, 0, [processor], Nif.build() != :portable})
  end

  for answer <- ["1", "kill"] do
    test "where a thread must not be moved, nobody is (#{answer})" do
      [list] = scheduler_affinity() |> Map.values() |> Enum.uniq()

      seen =
        other_beam([
          "env",
          "NR_REFUSE_ERRNO=#{unquote(answer)}",
          fixture("refuse_calls"),
          "sched_setaffinity"
        ])

      assert seen == inspect({[20_000_000], 2, 0, [list], false})
    end
  end
end
