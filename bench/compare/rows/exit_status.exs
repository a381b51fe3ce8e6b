defmodule Compare.Rows.ExitStatus do
  @moduledoc false
  @behaviour Compare.Row
  import Compare.Row
  alias Compare.{Library, World}

  def question, do: "Are statuses exact, and death by SIGTERM told apart from `exit 143`?"

  def ask(lib, %{tag: tag}) do
    [seven, killed, same_number] =
      for script <- ["exit 7", "kill -TERM $$", "exit 143"],
          do: status(lib, World.tagged(["sh", "-c", script], tag))

    yes?(
      short(seven) =~ ~r/\b7\b/ and killed not in [same_number, {:status, 0}],
      "exit 7: #{short(seven)}; SIGTERM: #{short(killed)}; exit 143: #{short(same_number)}"
    )
  end

  defp status(:net_runner, cmd) do
    {:ok, result} = NetRunner.exec(cmd)
    result.exit
  end

  defp status(lib, cmd) do
    {_output, status} = Library.run(lib, cmd)
    status
  end
end
