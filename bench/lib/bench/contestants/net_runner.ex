defmodule Bench.Contestants.NetRunner do
  @moduledoc false
  # The public calls, once per backend.

  @behaviour Bench.Contestant

  @impl true
  def title, do: "NetRunner"

  @impl true
  def version, do: Bench.Versions.library(:net_runner)

  @impl true
  def columns do
    ring = if NetRunner.backend().data == :io_uring, do: [{"io_uring", :io_uring}], else: []
    [{"auto", :auto}, {"poll", :poll}] ++ ring
  end

  @impl true
  def run(backend, cmd), do: NetRunner.run(cmd, backend: backend)

  @impl true
  def fold(backend, cmd, acc, fun),
    do: cmd |> NetRunner.stream!(backend: backend) |> Enum.reduce(acc, fun)

  @impl true
  def lines(backend, cmd, acc, fun),
    do: cmd |> NetRunner.stream!(lines: true, backend: backend) |> Enum.reduce(acc, fun)

  @impl true
  def feed(backend, cmd, blocks), do: NetRunner.run(cmd, input: blocks, backend: backend)

  @impl true
  def echo(backend, cmd, blocks, _bytes, acc, fun),
    do: cmd |> NetRunner.stream!(input: blocks, backend: backend) |> Enum.reduce(acc, fun)

  @impl true
  def join(backend, cmds, files) do
    input = if files[:from], do: {:file, files[:from]}, else: :null
    stdout = if files[:to], do: {:file, files[:to]}, else: :pipe
    NetRunner.run(NetRunner.pipeline(cmds), input: input, stdout: stdout, backend: backend)
  end

  @impl true
  def tee(backend, cmd, path, acc, fun) do
    cmd |> NetRunner.stream!(stdout: {:tee, path}, backend: backend) |> Enum.reduce(acc, fun)
  end

  # The commands of a pipeline are joined by the kernel, and its last one is a command.
  @impl true
  def tee_command(backend, cmd, [exe | args], said, acc, fun) do
    copy = NetRunner.Command.new(exe, args, stdout: {:file, said})

    NetRunner.pipeline([cmd, {:tee, copy}, ["cat"]])
    |> NetRunner.stream!(backend: backend)
    |> Enum.reduce(acc, fun)
  end

  @impl true
  def open(backend, [exe | args]) do
    {:ok, process} = NetRunner.Process.start(exe, args, backend: backend)
    process
  end

  @impl true
  def put(process, data), do: NetRunner.Process.write(process, data)

  @impl true
  def get(process) do
    case NetRunner.Process.read(process) do
      {:ok, chunk} -> chunk
      :eof -> :eof
    end
  end

  @impl true
  def close(process), do: NetRunner.Process.stop(process)

  @impl true
  def counters do
    processes = for %{pid: pid} <- NetRunner.list(), do: pid

    fn ->
      stats =
        for pid <- processes, {:ok, stats} <- [NetRunner.Process.stats(pid)], do: stats.stdout

      rings = NetRunner.Nif.rings_info()

      %{
        reads: sum(stats, & &1.ops),
        selects: sum(stats, & &1.waits_poll),
        ring_waits: sum(stats, & &1.waits_io_uring),
        enters: rings.enters,
        harvests: rings.harvests
      }
    end
  end

  defp sum(stats, of), do: stats |> Enum.map(of) |> Enum.sum()
end
