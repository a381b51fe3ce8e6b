defmodule Compare.Rows.Stats do
  @moduledoc false
  @behaviour Compare.Row
  import Compare.Row
  alias Compare.World
  @compile {:no_warn_undefined, MuonTrap.Daemon}

  def question, do: "Are there counters of one running command?"

  def ask(:net_runner, %{tag: tag}) do
    [exe | args] = command(tag)
    {:ok, p} = NetRunner.Process.start(exe, args)
    read(p, 0)
    {:ok, stats} = NetRunner.Process.stats(p)

    yes?(
      stats.stdout.bytes == 100_000,
      "stats/1: #{stats.stdout.bytes} of 100000 bytes on stdout; its keys: #{keys(stats)}, of stdout: #{keys(stats.stdout)}"
    )
  end

  def ask(:muontrap, %{tag: tag}) do
    [exe | args] = command(tag)
    {:ok, pid} = MuonTrap.Daemon.start_link(exe, args, log_output: :debug)
    World.await(3_000, fn -> MuonTrap.Daemon.statistics(pid).output_byte_count >= 100_000 end)
    %{output_byte_count: bytes} = stats = MuonTrap.Daemon.statistics(pid)

    yes?(
      bytes == 100_000,
      "Daemon.statistics/1: #{bytes} of 100000 bytes; its keys: #{keys(stats)}"
    )
  end

  def ask(_lib, _context), do: none()

  defp command(tag),
    do: World.tagged(["sh", "-c", "head -c 100000 /dev/zero; exec sleep 300"], tag)

  defp read(_p, 100_000), do: :ok

  defp read(p, bytes) do
    {:ok, piece} = NetRunner.Process.read(p)
    read(p, bytes + byte_size(piece))
  end

  defp keys(map),
    do: map |> Map.keys() |> Enum.reject(&(&1 == :__struct__)) |> Enum.sort() |> Enum.join(" ")
end
