defmodule NetRunner.Test.WholePath do
  @moduledoc """
  All that a command can do, in small: for BEAMs that lack something (a system call, descriptors, /proc)
  and must do it all the same. Raises where something is wrong.
  """

  alias NetRunner.Test.World

  # More than a pipe holds, each byte in its place.
  @blocks 40
  @block 32_768

  @doc "Everything below, by `backend`, and back at the baseline."
  def check!(backend) do
    World.back_at_baseline(fn ->
      run!(backend)
      stream!(backend)
      together!(backend)
      start_error!(backend)
      stop!(backend)
      leftovers!(backend)
    end)

    :ok
  end

  def run!(backend) do
    input = Enum.to_list(World.blocks(@blocks, @block))
    {output, 0} = NetRunner.run(["cat"], input: input, backend: backend)
    true = output == IO.iodata_to_binary(input)
    {"out", 7} = NetRunner.run(["sh", "-c", "printf out; exit 7"], backend: backend)
  end

  def stream!(backend) do
    input = Enum.to_list(World.blocks(@blocks, @block))
    output = Enum.to_list(NetRunner.stream!(["cat"], input: input, backend: backend))
    true = World.sha(output) == World.sha(input)
  end

  # Enough at once that `:auto` and `:io_uring` have something to harvest together.
  def together!(backend) do
    1..16
    |> Task.async_stream(
      fn n ->
        text = String.duplicate("#{n} ", 10_000)
        {^text, 0} = NetRunner.run(["cat"], input: text, backend: backend)
      end,
      max_concurrency: 16,
      timeout: 60_000
    )
    |> Stream.run()
  end

  def start_error!(backend) do
    {:error, :enoent} = NetRunner.Process.start("/nonexistent/program", [], backend: backend)
  end

  def stop!(backend) do
    {:ok, p} = NetRunner.Process.start("sleep", ["1000"], backend: backend)
    {:ok, pid} = NetRunner.Process.os_pid(p)
    :ok = NetRunner.Process.kill(p, :sigusr1)
    {:ok, 138} = NetRunner.Process.await_exit(p, 10_000)
    World.eventually("#{pid} is gone", 10_000, fn -> not World.running?(pid) end)
    :ok = NetRunner.Process.stop(p)

    {:ok, p} = NetRunner.Process.start("sleep", ["1000"], backend: backend, kill_timeout: 5_000)
    :ok = NetRunner.Process.stop(p)
  end

  # A member of the group that ignores TERM, and one that left the session, where that can be found.
  def leftovers!(backend) do
    member = "trap '' TERM; (sleep 1000) & echo $!; wait"
    daemon = "setsid sleep 1000 & echo $!; sleep 1000"
    found = if NetRunner.backend().containment == :group, do: [member], else: [member, daemon]

    for script <- found do
      opts = [backend: backend, kill_timeout: 100]
      {:ok, p} = NetRunner.Process.start("sh", ["-c", script], opts)
      {:ok, line} = NetRunner.Process.read(p)
      member = line |> String.trim() |> String.to_integer()
      :ok = NetRunner.Process.stop(p)
      World.eventually("#{member} is gone", 10_000, fn -> not World.running?(member) end)
    end
  end
end
