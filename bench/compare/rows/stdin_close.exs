defmodule Compare.Rows.StdinClose do
  @moduledoc false
  @behaviour Compare.Row
  import Compare.Row
  alias Compare.{Library, World}
  @compile {:no_warn_undefined, [Exile.Process, ExCmd.Process, :exec]}

  def question, do: "Can stdin be closed, and does what the command writes after that arrive?"

  def ask(lib, %{tag: tag}),
    do: say(lib, World.tagged(["sh", "-c", "cat >/dev/null; echo after"], tag))

  defp say(:net_runner, [exe | args]) do
    {:ok, p} = NetRunner.Process.start(exe, args)
    :ok = NetRunner.Process.write(p, "input")
    :ok = NetRunner.Process.close_stdin(p)
    seen(NetRunner.Process.read(p))
  end

  defp say(:exile, cmd), do: say(Exile.Process, cmd)
  defp say(:ex_cmd, cmd), do: say(ExCmd.Process, cmd)

  defp say(module, cmd) when module in [Exile.Process, ExCmd.Process] do
    {:ok, p} = module.start_link(cmd)
    :ok = module.write(p, "input")
    :ok = module.close_stdin(p)
    seen(module.read(p))
  end

  defp say(:erlexec, cmd) do
    {:ok, _pid, os_pid} = :exec.run_link(Library.argv(cmd), [:stdin, :stdout])
    :ok = :exec.send(os_pid, "input")
    :ok = :exec.send(os_pid, :eof)

    receive do
      {:stdout, ^os_pid, data} -> seen({:ok, data})
    after
      2_000 -> seen(:nothing)
    end
  end

  # A port has one end only: closing it closes both.
  defp say(:port, cmd) do
    port = Library.open(cmd, [])
    true = Port.command(port, "input")
    true = Port.close(port)

    receive do
      {^port, {:data, data}} -> seen({:ok, data})
    after
      1_000 -> seen(:nothing)
    end
  end

  defp say(:muontrap, _cmd), do: none("cmd/3 and Daemon give the command no input")
  defp say(:system_cmd, _cmd), do: none("cmd/3 gives the command no input")

  defp seen(got), do: yes?(got == {:ok, "after\n"}, "read after the close: #{short(got)}")
end
