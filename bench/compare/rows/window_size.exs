defmodule Compare.Rows.WindowSize do
  @moduledoc false
  @behaviour Compare.Row
  import Compare.Row
  alias Compare.{Library, World}
  @compile {:no_warn_undefined, :exec}

  def question, do: "Can the terminal's size be changed while the command runs?"

  def ask(:net_runner, %{tag: tag}) do
    [exe | args] = command(tag)
    {:ok, p} = NetRunner.Process.start(exe, args, pty: [rows: 24, cols: 80, echo: false])
    {:ok, "ready" <> _} = NetRunner.Process.read(p)
    :ok = NetRunner.Process.set_window_size(p, 50, 132)
    :ok = NetRunner.Process.write(p, "\n")
    seen(NetRunner.Process.read(p))
  end

  def ask(:erlexec, %{tag: tag}) do
    options = [:stdin, :stdout, :pty, winsz: {24, 80}]
    {:ok, _pid, os_pid} = :exec.run_link(Library.argv(command(tag)), options)
    {:ok, "ready" <> _} = read(os_pid)
    :exec.winsz(os_pid, 50, 132)
    :ok = :exec.send(os_pid, "\n")
    seen(read(os_pid))
  end

  def ask(_lib, _context), do: none()

  defp command(tag), do: World.tagged(["sh", "-c", "echo ready; read x; stty size"], tag)

  defp read(os_pid) do
    receive do
      {:stdout, ^os_pid, data} -> {:ok, data}
    after
      2_000 -> :nothing
    end
  end

  defp seen(got) do
    so? = match?({:ok, _}, got) and elem(got, 1) =~ "50 132"
    yes?(so?, "set to 50 132, `stty size` says #{short(got)}")
  end
end
