defmodule NetRunner.ExitsTest do
  # Many commands: each exit exact and after its last byte, nothing left over.
  use NetRunner.Test.Case

  @moduletag timeout: 300_000

  # One instant exit: its status is exact, and comes after its last byte.
  defp exit_with(n, backend) do
    code = rem(n, 256)
    cmd = [fixture("exit_with"), to_string(code), "the last byte of #{n}"]
    assert NetRunner.run(cmd, backend: backend) == {"the last byte of #{n}", code}
  end

  on_backends "1,000 instant exits, sixteen at a time: each status exact, each after its last byte (25)" do
    back_at_baseline(fn ->
      1..1000
      |> Task.async_stream(&exit_with(&1, backend), max_concurrency: 16, timeout: 30_000)
      |> Enum.each(&assert {:ok, true} = &1)
    end)
  end

  test "an exit by signal is exact too, for every signal that ends a process" do
    for number <- Enum.to_list(1..64) -- [17, 18, 19, 20, 21, 22, 23, 28, 32, 33] do
      {:ok, p} = NetRunner.Process.start("cat")
      assert NetRunner.Process.kill(p, number) == :ok
      assert NetRunner.Process.await_exit(p, 5_000) == {:ok, 128 + number}
      NetRunner.Process.stop(p)
    end
  end

  # Sanitized processes fork twenty times slower, and each is large; those legs of ci/test ask for fewer.
  @spawns String.to_integer(System.get_env("NET_RUNNER_TEST_SPAWNS", "10000"))
  @at_once div(@spawns, 10)

  @tag :descriptors
  on_backends "1,000 commands at once all complete (50)" do
    me = self()

    back_at_baseline(fn ->
      processes =
        1..@at_once
        |> Task.async_stream(
          fn n ->
            {:ok, p} = NetRunner.Process.start("cat", [], backend: backend, owner: me)
            :ok = NetRunner.Process.write(p, "I am #{n}")
            {n, p}
          end,
          max_concurrency: 16,
          timeout: 60_000
        )
        |> Enum.map(fn {:ok, started} -> started end)

      for {n, p} <- processes, do: assert(NetRunner.Process.read(p) == {:ok, "I am #{n}"})
      for {_n, p} <- processes, do: NetRunner.Process.close_stdin(p)
      for {_n, p} <- processes, do: assert(NetRunner.Process.read(p) == :eof)
      for {_n, p} <- processes, do: assert(NetRunner.Process.await_exit(p) == {:ok, 0})
      for {_n, p} <- processes, do: NetRunner.Process.stop(p)
    end)
  end

  on_backends "10,000 instant exits in a row are exact (25) and end at the baseline, memory included" do
    # Code, atoms and allocators settle before anything is compared.
    for n <- 1..200, do: exit_with(n, backend)
    zygote = NetRunner.Shepherd.info().os_pid
    rss = rss_kb(zygote)
    memory = collected_memory()

    # A life is the same on each backend but for its last bytes: the first has all of them.
    spawns = if backend == hd(NetRunner.Test.Backends.expected()), do: @spawns, else: @at_once
    back_at_baseline(fn -> for n <- 1..spawns, do: exit_with(n, backend) end)

    assert NetRunner.Shepherd.info().os_pid == zygote
    assert rss_kb(zygote) <= rss + 256
    # 10,000 commands that leaked a kilobyte each would show as 10 MiB.
    assert collected_memory() - memory < 3 * 1024 * 1024
  end

  defp collected_memory do
    for pid <- Process.list(), do: :erlang.garbage_collect(pid)
    :erlang.memory(:total)
  end
end
