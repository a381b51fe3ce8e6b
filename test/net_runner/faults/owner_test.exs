defmodule NetRunner.Faults.OwnerTest do
  # The fault matrix (docs/reliability.md) where an Erlang process is hit that a command depends on.
  use NetRunner.Test.FaultCase

  describe "an Erlang process dies (9)" do
    @tag :subreaper
    on_backends "the owner, killed" do
      lock = tmp_path("lock")
      me = self()

      back_at_baseline(fn ->
        {owner, monitor} =
          spawn_monitor(fn ->
            {:ok, p} =
              NetRunner.Process.start(fixture("daemonize"), [lock],
                backend: backend,
                kill_timeout: 300
              )

            {:ok, "ready\n"} = NetRunner.Process.read(p)
            send(me, {:up, p})
            Process.sleep(:infinity)
          end)

        assert_receive {:up, p}, 5_000
        server = Process.monitor(p)
        Process.exit(owner, :kill)
        assert_receive {:DOWN, ^monitor, :process, _, :killed}
        assert await_free(lock, 4_000) < d() + 300 + k()
        assert_receive {:DOWN, ^server, :process, _, :normal}, k()
      end)
    end

    on_backends "the owner, killed while its start waits for the other end of a FIFO" do
      fifo = tmp_path("fifo")
      {_, 0} = System.cmd("mkfifo", [fifo])
      before = settled_baseline()
      opts = [input: {:file, fifo}, backend: backend, spawn_timeout: 60_000]
      {owner, monitor} = spawn_monitor(fn -> NetRunner.run(["cat"], opts) end)
      eventually("a guardian is there", fn -> baseline().guardians == before.guardians + 1 end)
      Process.exit(owner, :kill)
      assert_receive {:DOWN, ^monitor, :process, _, :killed}
      await_baseline(before, d() + k())
    end

    # A crowd, whose readers take turns: some are killed or closed while they read, some while they wait for their pipe, some in the queue.
    on_backends "the owners of 100 streams at full speed, killed, while 100 others close theirs" do
      me = self()

      back_at_baseline(fn ->
        owners =
          for index <- 1..200 do
            spawn_monitor(fn ->
              {:ok, p} = NetRunner.Process.start("cat", ["/dev/zero"], backend: backend)
              {:ok, _bytes} = NetRunner.Process.read(p)
              send(me, {:reads, index})
              read_until_told(p)
            end)
          end

        for index <- 1..200, do: assert_receive({:reads, ^index}, 60_000)

        for {{owner, monitor}, index} <- Enum.with_index(owners) do
          reason = if rem(index, 2) == 0, do: :killed, else: :normal
          if reason == :killed, do: Process.exit(owner, :kill), else: send(owner, :close)
          assert_receive {:DOWN, ^monitor, :process, _, ^reason}, 60_000
        end
      end)
    end

    @tag :subreaper
    on_backends "the command's own server, killed brutally" do
      lock = tmp_path("lock")

      back_at_baseline(fn ->
        {:ok, p} =
          NetRunner.Process.start(fixture("daemonize"), [lock],
            backend: backend,
            kill_timeout: 300
          )

        {:ok, "ready\n"} = NetRunner.Process.read(p)
        Process.exit(p, :kill)
        assert await_free(lock, 4_000) < d() + 300 + k()
        assert NetRunner.Process.read(p) == {:error, :closed}
        assert {:error, :closed} = NetRunner.Process.await_exit(p)
      end)
    end

    @tag :subreaper
    on_backends "its supervisor, in good order" do
      lock = tmp_path("lock")

      back_at_baseline(fn ->
        opts = [backend: backend, kill_timeout: 300]

        {:ok, supervisor} =
          Supervisor.start_link(
            [{NetRunner.Process, {fixture("daemonize"), [lock], opts}}],
            strategy: :one_for_one
          )

        [{_id, p, _type, _modules}] = Supervisor.which_children(supervisor)
        {:ok, "ready\n"} = NetRunner.Process.read(p)
        {us, :ok} = :timer.tc(fn -> Supervisor.stop(supervisor) end)
        assert us < (d() + 300 + k()) * 1_000
        # A supervisor's stop means that it is gone, not that it will be.
        refute locked?(lock)
      end)
    end
  end

  defp read_until_told(p) do
    receive do
      :close -> :ok = NetRunner.Process.stop(p)
    after
      0 ->
        {:ok, _bytes} = NetRunner.Process.read(p)
        read_until_told(p)
    end
  end
end
