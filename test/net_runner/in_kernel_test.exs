if :io_uring in NetRunner.Test.Backends.expected() do
  defmodule NetRunner.InKernelTest do
    # What happens to readers and writers while a ring's own read or write is inside the kernel: a
    # window of microseconds, which a seccomp supervisor opens for as long as a test wants. And what
    # happens when the kernel takes io_uring away from a node that uses it.
    use NetRunner.Test.Case

    alias NetRunner.Test.OtherBeam

    # Runs `code` in a BEAM whose every io_uring_enter obeys the file `orders`.
    defp supervised(code) do
      orders = tmp_path("orders")

      prelude = """
      alias NetRunner.Process, as: P
      orders = fn text -> File.write!(#{inspect(orders)}, text) end
      waits = fn p -> {:ok, %{stdout: stats}} = P.stats(p); stats.waits_io_uring + stats.waits_poll end
      armed = fn p, n -> fn -> waits.(p) >= n end end
      wait = fn wait, fun -> if fun.(), do: :ok, else: (receive do after 5 -> wait.(wait, fun) end) end
      # Whether one of some tries, each on a scheduler of its own, gives true.
      any = fn try -> Enum.any?(1..16, fn n ->
        me = self()
        {_pid, monitor} = :erlang.spawn_opt(fn -> send(me, {n, try.(n)}) end, [:monitor, {:scheduler, rem(n, 8) + 1}])
        receive do
          {^n, result} -> result
          {:DOWN, ^monitor, _, _, reason} -> exit(reason)
        end
      end) end
      _ = {orders, armed, wait, any}
      """

      # Schedulers to spare: some will be held in the kernel.
      launcher = ["env", "ERL_AFLAGS=+S 8:8", fixture("supervise_io_uring"), orders]
      OtherBeam.start(prelude <> code, launcher)
    end

    # The harvest holds its scheduler. If that is the one with our timer, the window is over before we
    # act: no byte may be lost then either, and it is tried again from another scheduler.
    @tag :nowait_pipes
    test "a reader killed meanwhile: the bytes are the next reader's (35)" do
      supervised("""
      # Of two pipes: who reads one alone waits for the ring's word without a look, whoever read before.
      {:ok, p} = P.start("cat", [], backend: :io_uring, stderr: :pipe)
      {:ok, handle} = P.handle(p, :stdout)
      true = any.(fn n ->
        orders.("go")
        before = waits.(p)
        # One that waits and never comes for its bytes, whether it dies before or after they do.
        reader = spawn(fn ->
          :again = NetRunner.Nif.read(handle, 100, make_ref())
          Process.sleep(:infinity)
        end)
        wait.(wait, armed.(p, before + 1))
        orders.("delay 200")
        :ok = P.write(p, "late\#{n}")
        receive do after 50 -> :ok end
        monitor = Process.monitor(reader)
        Process.exit(reader, :kill)
        receive do {:DOWN, ^monitor, _, _, _} -> :ok end
        {us, {:ok, {:stdout, "late" <> _}}} = :timer.tc(fn -> P.read_any(p, 100, 10_000) end)
        us > 20_000
      end)
      orders.("go")
      :ok = P.stop(p)
      wait.(wait, fn -> match?(%{slots_in_use: 0, streams: 0}, NetRunner.Nif.rings_info()) end)
      IO.puts("up")
      """)
    end

    @tag :nowait_pipes
    test "a read that times out meanwhile: the bytes are the next reader's (35)" do
      supervised("""
      # Of two pipes: who reads one alone looks once more when its time is over, and has the bytes.
      {:ok, p} = P.start("cat", [], backend: :io_uring, stderr: :pipe)
      true = any.(fn n ->
        orders.("go")
        before = waits.(p)
        reader = Task.async(fn ->
          case P.read_any(p, 100, 150) do
            {:error, :timeout} -> {:late, P.read(p, 100, 10_000)}
            {:ok, {:stdout, bytes}} -> {:ok, bytes}
          end
        end)
        wait.(wait, armed.(p, before + 1))
        orders.("delay 300")
        receive do after 50 -> :ok end
        :ok = P.write(p, "late\#{n}")
        result = Task.await(reader)
        true = result in [{:late, {:ok, "late\#{n}"}}, {:ok, "late\#{n}"}]
        match?({:late, _}, result)
      end)
      orders.("go")
      :ok = P.stop(p)
      wait.(wait, fn -> match?(%{slots_in_use: 0, streams: 0}, NetRunner.Nif.rings_info()) end)
      IO.puts("up")
      """)
    end

    test "a write that times out meanwhile: says exactly what was taken" do
      supervised("""
      {:ok, p} = P.start("/bin/sh", ["-c", "read go; sleep 0.3; exec wc -c"], backend: :io_uring)
      :ok = P.write(p, "go\\n")
      big = String.duplicate("x", 2_000_000)
      {:error, {:timeout, taken}} = P.write(p, big, 100)
      # The pipe is full. A small rest is the ring's own to write once there is room.
      orders.("delay 500")
      small = String.duplicate("y", 5_000)
      more = case P.write(p, small, 600) do
        :ok -> 5_000
        {:error, {:timeout, n}} -> n
      end
      orders.("go")
      :ok = P.close_stdin(p)
      {:ok, count} = P.read(p, 100, 10_000)
      true = String.to_integer(String.trim(count)) == taken + more
      :ok = P.stop(p)
      IO.puts("up")
      """)
    end

    test "closing meanwhile: the descriptor goes once, when the kernel has let go" do
      supervised("""
      fds = fn -> length(File.ls!("/proc/self/fd")) end
      {:ok, warm} = P.start("true", [], backend: :io_uring)
      :ok = P.stop(warm)
      before = fds.()
      {:ok, p} = P.start("cat", [], backend: :io_uring)
      reader = Task.async(fn -> P.read(p) end)
      wait.(wait, armed.(p, 1))
      orders.("delay 300")
      :ok = P.write(p, "late")
      receive do after 100 -> :ok end
      :ok = P.stop(p)
      true = Task.await(reader) in [{:ok, "late"}, :eof, {:error, :closed}]
      orders.("go")
      wait.(wait, fn -> fds.() <= before and NetRunner.Nif.rings_info().streams == 0 end)
      %{slots_in_use: 0} = NetRunner.Nif.rings_info()
      IO.puts("up")
      """)
    end

    @tag :nowait_pipes
    test "io_uring refused to a node that uses it: what waits goes on by poll, and backend/0 says so" do
      supervised("""
      many = for _ <- 1..20 do
        {:ok, p} = P.start("cat", [], backend: :io_uring)
        {p, Task.async(fn -> {P.read(p), P.read(p)} end)}
      end
      for {p, _task} <- many, do: wait.(wait, armed.(p, 1))
      %{data: :io_uring} = NetRunner.backend()
      orders.("refuse 1")
      # A stream is woken when its ring breaks and waits again: by poll, once its own bytes were read.
      for {p, _task} <- many, do: :ok = P.write(p, "one")
      for {p, _task} <- many, do: wait.(wait, fn ->
        {:ok, %{stdout: stats}} = P.stats(p)
        stats.ops == 1 and stats.poll
      end)
      for {p, _task} <- many, do: :ok = P.write(p, "two")
      for {_p, task} <- many, do: {{:ok, "one"}, {:ok, "two"}} = Task.await(task)
      for {p, _task} <- many, do: :ok = P.stop(p)
      {"x", 0} = NetRunner.run(["cat"], input: "x")
      # A ring on which nobody has waited since does not know yet.
      demand = fn -> NetRunner.run(["cat"], input: "x", backend: :io_uring) end
      wait.(wait, fn -> match?({:error, {:backend, _}}, demand.()) end)
      %{data: :poll, why: why} = NetRunner.backend()
      true = why =~ "eperm"
      {:error, {:backend, ^why}} = NetRunner.run(["cat"], input: "x", backend: :io_uring)
      %{slots_in_use: 0} = NetRunner.Nif.rings_info()
      IO.puts("up")
      """)
    end
  end
end
