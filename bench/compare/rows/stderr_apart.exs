defmodule Compare.Rows.StderrApart do
  @moduledoc false
  @behaviour Compare.Row
  import Compare.Row
  alias Compare.{Library, World}
  @compile {:no_warn_undefined, [Exile, :exec]}

  def question, do: "Can stdout and stderr both be had, told apart?"

  def ask(lib, %{tag: tag}),
    do: say(lib, World.tagged(["sh", "-c", "echo out; echo err >&2"], tag))

  defp say(:net_runner, cmd) do
    got = NetRunner.run(cmd, stderr: :capture)
    yes?(got == {"out\n", 0, "err\n"}, short(got))
  end

  defp say(:exile, cmd) do
    got = cmd |> Exile.stream!(stderr: :consume) |> Enum.to_list()
    yes?(Enum.sort(got) == [stderr: "err\n", stdout: "out\n"], short(got))
  end

  defp say(:erlexec, cmd) do
    {:ok, got} = :exec.run(Library.argv(cmd), [:sync, :stdout, :stderr])
    yes?(Enum.sort(got) == [stderr: ["err\n"], stdout: ["out\n"]], short(got))
  end

  defp say(:muontrap, cmd),
    do: either(:muontrap, cmd, [stderr_to_stdout: true], capture_stderr_only: true)

  defp say(:system_cmd, cmd), do: one(:system_cmd, cmd, stderr_to_stdout: true)
  defp say(:port, cmd), do: one(:port, cmd, [:stderr_to_stdout])
  defp say(:ex_cmd, cmd), do: one(:ex_cmd, cmd, stderr: :redirect_to_stdout)

  defp either(lib, cmd, merge, only) do
    {merged, 0} = Library.run(lib, cmd, merge)
    {alone, 0} = Library.run(lib, cmd, only)
    {:no, "#{short(merge)}: #{short(merged)}; #{short(only)}: #{short(alone)}; never both apart"}
  end

  defp one(lib, cmd, merge) do
    {merged, _status} = Library.run(lib, cmd, merge)
    {:no, "#{short(merge)}: #{short(merged)}; never both apart"}
  end
end
