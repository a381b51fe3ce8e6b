defmodule Bench.Contestants.Erlexec do
  @moduledoc false
  # No back-pressure, neither on what it reads nor on what it writes: it keeps what the command has not read yet.

  @behaviour Bench.Contestant
  @compile {:no_warn_undefined, :exec}

  @impl true
  def title, do: "erlexec"

  @impl true
  def version, do: Bench.Versions.library(:erlexec)

  @impl true
  def columns do
    # It insists on a SHELL, and on being told so when it runs as root.
    if System.get_env("SHELL") == nil, do: System.put_env("SHELL", "/bin/sh")
    Application.put_env(:erlexec, :root, true)
    Application.put_env(:erlexec, :user, "root")
    Application.put_env(:erlexec, :limit_users, ["root"])

    if Code.ensure_loaded?(:exec) and match?({:ok, _}, Application.ensure_all_started(:erlexec)),
      do: [{"erlexec", nil}],
      else: []
  end

  @impl true
  def run(nil, cmd) do
    {:ok, result} = :exec.run(argv(cmd), [:sync, :stdout])
    {result |> Keyword.get(:stdout, []) |> IO.iodata_to_binary(), 0}
  end

  @impl true
  def fold(nil, cmd, acc, fun) do
    {_pid, os_pid} = open(nil, cmd)
    {acc, 0} = collect(os_pid, acc, fun)
    acc
  end

  @impl true
  def lines(nil, cmd, acc, fun) do
    open(nil, cmd)
    |> Stream.unfold(fn process ->
      case get(process) do
        :eof -> nil
        chunk -> {chunk, process}
      end
    end)
    |> Bench.UserLines.of_chunks()
    |> Enum.reduce(acc, fun)
  end

  # The command is told no end, which it does not wait for: a write to one that has gone ends erlexec.
  @impl true
  def feed(nil, cmd, blocks) do
    {_pid, os_pid} = process = open(nil, cmd)
    Enum.each(blocks, &(:ok = put(process, &1)))
    {chunks, status} = collect(os_pid, [], &[&1 | &2])
    {chunks |> Enum.reverse() |> IO.iodata_to_binary(), status}
  end

  @impl true
  def echo(nil, cmd, blocks, _bytes, acc, fun) do
    {_pid, os_pid} = process = open(nil, cmd)

    spawn_link(fn ->
      Enum.each(blocks, &(:ok = put(process, &1)))
      :ok = put(process, :eof)
    end)

    {acc, 0} = collect(os_pid, acc, fun)
    acc
  end

  @impl true
  def open(nil, cmd) do
    {:ok, pid, os_pid} = :exec.run(argv(cmd), [:stdin, :stdout, :monitor])
    end_with(self(), os_pid)
    {pid, os_pid}
  end

  # Its own link would also end the caller with a command that failed.
  defp end_with(caller, os_pid) do
    spawn(fn ->
      monitor = Process.monitor(caller)

      receive do
        {:DOWN, ^monitor, :process, _pid, _reason} -> :exec.stop(os_pid)
      end
    end)
  end

  @impl true
  def put({_pid, os_pid}, data), do: :exec.send(os_pid, data)

  @impl true
  def get({_pid, os_pid}) do
    receive do
      {:stdout, ^os_pid, chunk} -> chunk
      {:DOWN, ^os_pid, :process, _pid, _reason} -> :eof
    end
  end

  @impl true
  def close({_pid, os_pid}), do: :exec.stop(os_pid)

  defp collect(os_pid, acc, fun) do
    receive do
      {:stdout, ^os_pid, chunk} -> collect(os_pid, fun.(chunk, acc), fun)
      {:DOWN, ^os_pid, :process, _pid, :normal} -> {acc, 0}
      {:DOWN, ^os_pid, :process, _pid, {:exit_status, status}} -> {acc, status}
    end
  end

  defp argv([exe | args]),
    do: Enum.map([System.find_executable(exe) | args], &String.to_charlist/1)
end
