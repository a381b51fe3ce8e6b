defmodule Compare.Rows.Pty do
  @moduledoc false
  @behaviour Compare.Row
  import Compare.Row
  alias Compare.{Library, World}
  @compile {:no_warn_undefined, :exec}

  def question,
    do:
      "Can a command have a terminal, and is it the one that controls its session (Ctrl-C, job control)?"

  def ask(lib, %{tag: tag}) when lib in [:net_runner, :erlexec] do
    for {what, script} <- [{"a terminal", "test -t 1"}, {"its /dev/tty", ": >/dev/tty"}] do
      got =
        run(
          lib,
          World.tagged(["sh", "-c", "(#{script}) 2>/dev/null && echo so || echo not so"], tag)
        )

      yes?(got == "so\r\n", "#{what}: #{short(got)}")
    end
  end

  def ask(_lib, _context), do: none()

  defp run(:net_runner, cmd) do
    {output, 0} = NetRunner.run(cmd, pty: true)
    output
  end

  defp run(:erlexec, cmd) do
    {:ok, _pid, os_pid} = :exec.run_link(Library.argv(cmd), [:stdin, :stdout, :pty])

    receive do
      {:stdout, ^os_pid, data} -> data
    after
      2_000 -> :nothing
    end
  end
end
