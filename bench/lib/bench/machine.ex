defmodule Bench.Machine do
  @moduledoc false
  # What a figure needs beside it.

  alias Bench.Versions

  @spec describe :: String.t()
  def describe do
    "#{cpu()}, #{System.schedulers_online()} cores, #{memory()} GiB; Linux #{kernel()}; " <>
      "#{Versions.otp()}, #{Versions.elixir()}, #{:erlang.system_info(:emu_flavor)}#{flags()}; " <>
      "net_runner #{commit()}, #{NetRunner.backend().why}"
  end

  @spec load :: String.t()
  def load, do: "/proc/loadavg" |> read() |> String.split() |> Enum.take(3) |> Enum.join(" ")

  defp flags do
    case System.get_env("ERL_FLAGS", "") do
      "" -> ""
      flags -> ", ERL_FLAGS=#{flags}"
    end
  end

  defp cpu do
    case Regex.run(~r/^model name\s*:\s*(.*)$/m, read("/proc/cpuinfo")) do
      [_, model] -> model
      nil -> to_string(:erlang.system_info(:system_architecture))
    end
  end

  defp memory do
    [_, kib] = Regex.run(~r/^MemTotal:\s*(\d+)/m, read("/proc/meminfo"))
    round(String.to_integer(kib) / 1024 / 1024)
  end

  defp kernel, do: "/proc/sys/kernel/osrelease" |> read() |> String.trim()

  # With a mark when the tree differs from the commit in what is measured.
  defp commit do
    with {hash, 0} <- System.cmd("git", ~w(rev-parse --short HEAD), stderr_to_stdout: true),
         {changes, 0} <- System.cmd("git", ~w(status --porcelain -- ../lib ../csrc ../shepherd)) do
      String.trim(hash) <> if(String.trim(changes) == "", do: "", else: "+changes")
    else
      _no_git -> "(no git)"
    end
  end

  defp read(path) do
    case File.read(path) do
      {:ok, text} -> text
      {:error, reason} -> "(#{path}: #{reason})"
    end
  end
end
