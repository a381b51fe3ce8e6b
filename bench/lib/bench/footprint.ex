defmodule Bench.Footprint do
  @moduledoc """
  What commands cost the machine while they only wait: memory and descriptors of zygote, guardians and
  BEAM, with few and many of them. PSS, so that shared pages are counted once; the command itself is
  not counted.
  """

  @type row :: %{
          commands: pos_integer,
          zygote_kib: number,
          guardian_kib: number,
          beam_fds: number,
          zygote_fds: number,
          guardian_fds: number
        }

  @doc "Measures with so many commands at once (`sleep`, stdin, stdout and stderr piped)."
  @spec measure([pos_integer]) :: [row]
  def measure(counts), do: Enum.map(counts, &measure_one/1)

  defp measure_one(count) do
    # The zygote starts with the first command, and both keep what the first one made.
    {"", 0} = NetRunner.run(["true"])
    zygote = NetRunner.Shepherd.info().os_pid
    before = %{beam: fds("self"), zygote: fds(zygote)}

    commands =
      for _ <- 1..count do
        {:ok, process} = NetRunner.Process.start("sleep", ["60"])
        process
      end

    guardians = Bench.Cpu.children(zygote)

    row = %{
      commands: count,
      zygote_kib: pss(zygote),
      guardian_kib: mean(Enum.map(guardians, &pss/1)),
      beam_fds: (fds("self") - before.beam) / count,
      zygote_fds: (fds(zygote) - before.zygote) / count,
      guardian_fds: mean(Enum.map(guardians, &fds/1))
    }

    Enum.each(commands, &NetRunner.Process.stop/1)
    row
  end

  defp mean(values), do: Enum.sum(values) / length(values)
  defp fds(os_pid), do: length(File.ls!("/proc/#{os_pid}/fd"))

  defp pss(os_pid) do
    [_, kib] = Regex.run(~r/^Pss:\s*(\d+)/m, File.read!("/proc/#{os_pid}/smaps_rollup"))
    String.to_integer(kib)
  end

  @spec text([row]) :: String.t()
  def text(rows) do
    head = [
      "| commands | zygote PSS KiB | guardian PSS KiB | fds per command: BEAM | zygote | fds of a guardian |",
      "|---|---|---|---|---|---|"
    ]

    lines =
      for row <- rows do
        figures =
          for key <- [:zygote_kib, :guardian_kib, :beam_fds, :zygote_fds, :guardian_fds],
              do: :erlang.float_to_binary(row[key] / 1, decimals: 1)

        "| #{Enum.join([row.commands | figures], " | ")} |"
      end

    Enum.join(head ++ lines, "\n")
  end
end
