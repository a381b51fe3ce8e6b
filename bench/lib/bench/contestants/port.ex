defmodule Bench.Contestants.Port do
  @moduledoc false
  # A bare port: no back-pressure on what it reads, stdin and stdout close together.

  @behaviour Bench.Contestant

  @impl true
  def title, do: "Port"

  @impl true
  def version, do: Bench.Versions.otp()

  @impl true
  def columns, do: [{"Port", nil}]

  @impl true
  def run(nil, cmd) do
    {chunks, status} = nil |> open(cmd) |> collect([], &[&1 | &2])
    {chunks |> Enum.reverse() |> IO.iodata_to_binary(), status}
  end

  @impl true
  def fold(nil, cmd, acc, fun) do
    {acc, 0} = nil |> open(cmd) |> collect(acc, fun)
    acc
  end

  # ERTS's own lines, up to a length that none of ours has.
  @impl true
  def lines(nil, cmd, acc, fun), do: cmd |> start(line: 4096) |> collect_lines(acc, fun)

  @impl true
  def feed(nil, cmd, blocks) do
    port = open(nil, cmd)
    Enum.each(blocks, &Port.command(port, &1))
    {chunks, status} = collect(port, [], &[&1 | &2])
    {chunks |> Enum.reverse() |> IO.iodata_to_binary(), status}
  end

  @impl true
  def echo(nil, cmd, blocks, bytes, acc, fun) do
    port = open(nil, cmd)
    writer = spawn_link(fn -> Enum.each(blocks, &Port.command(port, &1)) end)
    acc = collect_bytes(port, bytes, acc, fun)
    Process.unlink(writer)
    Port.close(port)
    acc
  end

  @impl true
  def open(nil, cmd), do: start(cmd, [])

  defp start([exe | args], options) do
    # As System.cmd does: only a name is looked for.
    path = if Path.type(exe) == :absolute, do: exe, else: System.find_executable(exe)
    Port.open({:spawn_executable, path}, [:binary, :exit_status, :hide, args: args] ++ options)
  end

  @impl true
  def put(port, data) do
    true = Port.command(port, data)
    :ok
  end

  @impl true
  def get(port) do
    receive do
      {^port, {:data, chunk}} -> chunk
      {^port, {:exit_status, _status}} -> :eof
    end
  end

  @impl true
  def close(port), do: Port.close(port)

  defp collect(port, acc, fun) do
    receive do
      {^port, {:data, chunk}} -> collect(port, fun.(chunk, acc), fun)
      {^port, {:exit_status, status}} -> {acc, status}
    end
  end

  defp collect_lines(port, acc, fun) do
    receive do
      {^port, {:data, {:eol, line}}} -> collect_lines(port, fun.(line, acc), fun)
      {^port, {:exit_status, 0}} -> acc
    end
  end

  defp collect_bytes(_port, left, acc, _fun) when left <= 0, do: acc

  defp collect_bytes(port, left, acc, fun) do
    receive do
      {^port, {:data, chunk}} ->
        collect_bytes(port, left - byte_size(chunk), fun.(chunk, acc), fun)
    end
  end
end
