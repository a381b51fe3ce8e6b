defmodule Compare.Rows.Pipelines do
  @moduledoc false
  # A shell can do it under any of them (`sh -c 'a | b'`); asked is for the library's own.
  @behaviour Compare.Row
  import Compare.Row
  alias Compare.World
  @compile {:no_warn_undefined, [Exile, ExCmd]}

  def question,
    do: "Does the library join commands, by the kernel's pipes, with each one's status?"

  def ask(:net_runner, %{tag: tag}) do
    {:ok, result} = tag |> commands() |> NetRunner.pipeline() |> NetRunner.exec()
    exits = for stage <- result.stages, do: stage.exit

    yes?(
      result.stdout == "a\nb\n" and exits == [{:exited, 3}, {:exited, 0}],
      "output #{short(result.stdout)}, exits #{short(exits)}, as a whole #{short(result.exit)}"
    )
  end

  def ask(:exile, context), do: streams(&Exile.stream!/2, context)
  def ask(:ex_cmd, context), do: streams(&ExCmd.stream!/2, context)
  def ask(_lib, _context), do: none("only a shell's")

  defp streams(stream, %{tag: tag}) do
    [from, to] = commands(tag)

    # The caller may be linked to what raises.
    Process.flag(:trap_exit, true)

    got =
      try do
        to |> stream.(input: stream.(from, [])) |> Enum.join()
      rescue
        error -> {:raised, error}
      catch
        :exit, reason -> {:exit, reason}
      end

    {:part,
     "by a stream as input, through the BEAM: the first one's status 3 became #{short(got)}"}
  end

  defp commands(tag) do
    for cmd <- [["sh", "-c", "echo b; echo a; exit 3"], ["sort"]], do: World.tagged(cmd, tag)
  end
end
