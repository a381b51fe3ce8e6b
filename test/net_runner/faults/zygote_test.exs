defmodule NetRunner.Faults.ZygoteTest do
  # The fault matrix (docs/reliability.md) where the zygote is hit, or the server that owns it.
  use NetRunner.Test.FaultCase

  alias NetRunner.Test.{Backends, World}

  # A command that leaves one line in `file` for each time it is started, and then is cat.
  defp start_cat(file, opts),
    do: NetRunner.Process.start("sh", ["-c", ~S(echo started >> "$0"; exec cat), file], opts)

  defp assert_goes_on(p) do
    assert NetRunner.Process.write(p, "still here") == :ok
    assert NetRunner.Process.read(p) == {:ok, "still here"}
    assert NetRunner.Process.close_stdin(p) == :ok
    assert NetRunner.Process.await_exit(p) == {:ok, 0}
    NetRunner.Process.stop(p)
  end

  # What a start gave must be all that happened: it runs, once, or it never did.
  defp assert_never_both({file, {:ok, p}}) do
    assert_goes_on(p)
    assert File.read!(file) == "started\n"
  end

  defp assert_never_both({file, lost}) do
    assert lost == {:error, :shepherd_lost}
    refute File.exists?(file)
  end

  test "is killed with 100 commands running: they go on, the next start works, nothing runs twice (13)" do
    dir = Path.dirname(tmp_path("file"))
    backends = Stream.cycle(Backends.expected())

    back_at_baseline(fn ->
      running =
        for {n, backend} <- Enum.zip(1..100, backends) do
          file = Path.join(dir, "running_#{n}")
          {:ok, p} = start_cat(file, backend: backend)
          {file, {:ok, p}}
        end

      me = self()

      starting =
        for {n, backend} <- Enum.zip(1..50, backends) do
          file = Path.join(dir, "starting_#{n}")
          Task.async(fn -> {file, start_cat(file, backend: backend, owner: me)} end)
        end

      zygote = kill_zygote()
      {us, next} = :timer.tc(fn -> NetRunner.run(["echo", "next"]) end)
      # It is dead and had lived for long: the next is there at once, nothing is lost any more.
      assert next == {"next\n", 0}
      assert us < 1_000_000
      assert NetRunner.Shepherd.info().os_pid != zygote

      for task <- starting, do: task |> Task.await(10_000) |> assert_never_both()
      for started <- running, do: assert_never_both(started)
    end)
  end

  test "is killed while a child of it still has its socket: the next start does not wait for that child, and is not lost (13)" do
    zygote = await_healthy_zygote()
    {:ok, holder} = NetRunner.Process.start(World.fixture("hold_sockets"), [to_string(zygote)])
    assert {:ok, held} = NetRunner.Process.read(holder)
    assert held |> String.trim() |> String.to_integer() > 0
    ^zygote = kill_zygote()
    assert NetRunner.run(["echo", "next"]) == {"next\n", 0}
    assert NetRunner.Shepherd.info().os_pid != zygote
    NetRunner.Process.close_stdin(holder)
    assert NetRunner.Process.await_exit(holder) == {:ok, 0}
    NetRunner.Process.stop(holder)
  end

  for {kills, tags} <- [{10, []}, {50, [long: true]}] do
    @tag tags
    @tag timeout: 300_000
    @tag :slow
    test "is killed #{kills} times in a row while commands start: each start is one or lost, never both (14)" do
      dir = Path.dirname(tmp_path("file"))
      await_healthy_zygote()

      back_at_baseline(fn ->
        me = self()
        stop = :atomics.new(1, [])

        starters =
          for n <- 1..4,
              do: Task.async(fn -> start_until(stop, Path.join(dir, "#{n}"), 1, me, []) end)

        {delays, _zygote} =
          Enum.map_reduce(1..unquote(kills), nil, fn _n, before -> kill_next_zygote(before) end)

        :atomics.put(stop, 1, 1)
        results = Enum.flat_map(starters, &Task.await(&1, 60_000))
        Enum.each(results, &assert_never_both/1)
        assert Enum.any?(results, &match?({_file, {:ok, _p}}, &1))

        # The first is replaced at once, the last had to wait out the longest back-off.
        [_initial, first | _] = delays
        assert first < 1_000
        assert List.last(delays) >= 900
        eventually("the next start works", 5_000, fn -> NetRunner.run(["true"]) == {"", 0} end)
      end)

      await_healthy_zygote()
    end
  end

  defp start_until(stop, path, n, owner, results) do
    if :atomics.get(stop, 1) == 1 do
      results
    else
      file = "#{path}_#{n}"
      result = start_cat(file, owner: owner)
      start_until(stop, path, n + 1, owner, [{file, result} | results])
    end
  end

  # Gives how long it took until there was one other than `before`.
  defp kill_next_zygote(before) do
    {us, zygote} =
      :timer.tc(fn ->
        eventually("another zygote", 5_000, fn ->
          zygote = NetRunner.Shepherd.info().os_pid
          zygote != before && zygote
        end)
      end)

    {_, 0} = System.cmd("kill", ["-KILL", to_string(zygote)])
    {div(us, 1000), zygote}
  end

  test "is left by a server that crashed: commands go on, it leaves after its last guardian (10a)" do
    back_at_baseline(fn ->
      commands =
        for backend <- Backends.expected() do
          {:ok, p} = NetRunner.Process.start("cat", [], backend: backend)
          p
        end

      old = NetRunner.Shepherd.info().os_pid
      server = Process.whereis(NetRunner.Shepherd)
      monitor = Process.monitor(server)
      Process.exit(server, :kill)
      assert_receive {:DOWN, ^monitor, :process, _pid, :killed}

      eventually("there is another zygote", fn ->
        NetRunner.Shepherd.info().os_pid not in [nil, old]
      end)

      assert NetRunner.run(["echo", "next"]) == {"next\n", 0}

      for p <- commands do
        assert running?(old)
        assert NetRunner.Process.kill(p, :sigcont) == :ok
        assert_goes_on(p)
      end

      # Gone, not even a zombie.
      eventually("the old zygote left", fn -> proc_state(old) == nil end)
    end)
  end
end
