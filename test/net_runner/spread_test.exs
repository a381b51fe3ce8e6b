defmodule NetRunner.SpreadTest do
  # Schedulers that share a processor while another has none of them are moved apart (csrc/spread.h); test/c/test_spread.c has
  # when, test/c/test_processors.c how. Not async: it moves this BEAM's schedulers, and starts the application anew.
  use NetRunner.Test.Case

  alias NetRunner.Nif
  alias NetRunner.Test.OtherBeam

  # More than are read at once.
  @streams 64

  defp spread_schedulers(configured) do
    before = Application.fetch_env(:net_runner, :spread_schedulers)

    on_exit(fn ->
      with {:ok, value} <- before,
           do: Application.put_env(:net_runner, :spread_schedulers, value),
           else: (:error -> Application.delete_env(:net_runner, :spread_schedulers))

      Application.stop(:net_runner)
      {:ok, _} = Application.ensure_all_started(:net_runner)
    end)

    Application.stop(:net_runner)
    Application.put_env(:net_runner, :spread_schedulers, configured)
    Application.ensure_all_started(:net_runner)
  end

  # Thread -> the processors it may run on, as the kernel lists them.
  defp affinity do
    for comm <- Path.wildcard("/proc/self/task/*/comm"),
        File.read!(comm) =~ ~r/^(\d+_scheduler|erts_sched_\d+)$/m,
        thread = comm |> Path.dirname() |> Path.basename(),
        into: %{} do
      status = File.read!("/proc/self/task/#{thread}/status")
      [_, list] = Regex.run(~r/^Cpus_allowed_list:\s*(\S+)$/m, status)
      {thread, list}
    end
  end

  defp bind(affinity) do
    for {thread, list} <- affinity,
        do: {_, 0} = System.cmd("taskset", ["-pc", list, thread], stderr_to_stdout: true)
  end

  defp first_processor(affinity),
    do:
      Map.new(affinity, fn {thread, list} ->
        {thread, list |> Integer.parse() |> elem(0) |> to_string()}
      end)

  # They are all put on one processor, and may then run where they did before. There the kernel leaves them, or not.
  defp crowd_on_one_processor(before) do
    bind(first_processor(before))
    bind(before)
  end

  # While so many streams at full speed are read.
  defp beside_streams(backend, fun) do
    me = self()

    readers =
      for _ <- 1..@streams do
        spawn_link(fn ->
          ["cat", "/dev/zero"]
          |> NetRunner.stream!(backend: backend)
          |> Stream.with_index()
          |> Enum.each(fn {_bytes, index} -> if index == 0, do: send(me, :reads) end)
        end)
      end

    for _ <- readers, do: assert_receive(:reads, 60_000)
    eventually("there is a crowd", fn -> :sys.get_state(NetRunner.Turns).timer != nil end)
    result = fun.()

    for pid <- readers do
      Process.unlink(pid)
      Process.exit(pid, :kill)
    end

    result
  end

  on_backends "schedulers that share a processor are moved apart, and may run where they might before" do
    before = affinity()
    assert map_size(before) == System.schedulers()
    moves = Nif.turns_spread(true)

    beside_streams(backend, fn ->
      if free_processor?(before) do
        eventually("one of them was moved", 20_000, fn ->
          crowd_on_one_processor(before)

          receive do
          after
            20 -> :ok
          end

          Nif.turns_spread(true) > moves
        end)
      else
        # More schedulers than processors, and none to go to.
        crowd_on_one_processor(before)
      end
    end)

    assert affinity() == before
  end

  # Some processor may be left to them when they share one: there are two and more.
  defp free_processor?(affinity), do: Enum.any?(affinity, fn {_, list} -> list =~ ~r/[-,]/ end)

  test "spread_schedulers: false leaves it to the kernel" do
    {:ok, _} = spread_schedulers(false)
    before = affinity()
    moves = Nif.turns_spread(false)

    beside_streams(:poll, fn ->
      for _ <- 1..10 do
        crowd_on_one_processor(before)

        receive do
        after
          20 -> :ok
        end
      end
    end)

    assert Nif.turns_spread(false) == moves
  end

  @tag :capture_log
  test "anything else keeps the application from starting, and the reason names the key" do
    assert {:error, {:net_runner, reason}} = spread_schedulers(:yes)
    assert inspect(reason) =~ "config :net_runner, spread_schedulers:"
  end

  on_backends "schedulers that are bound to a processor stay there" do
    expression = """
    (
      #{@streams} |> Range.new(1, -1) |> Enum.map(fn _ -> Task.async(fn ->
        ["head", "-c", "20000000", "/dev/zero"]
        |> NetRunner.stream!(backend: :#{backend})
        |> Enum.reduce(0, &(&2 + byte_size(&1)))
      end) end) |> Task.await_many(60_000) |> Enum.uniq() |> then(&{&1, NetRunner.Nif.turns_spread(true)})
    )\
    """

    launcher = ["taskset", "-c", first_processor(affinity()) |> Map.values() |> hd()]
    assert OtherBeam.inspected(expression, 120_000, launcher) == "{[20000000], 0}"
  end
end
