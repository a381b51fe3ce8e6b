defmodule Compare.Rows.Missing do
  @moduledoc false
  @behaviour Compare.Row
  import Compare.Row
  alias Compare.Library

  def question, do: "Is a program that does not exist an error, and not an exit status?"

  # A port is given a path: there is nothing to be looked for.
  def ask(:port, _context),
    do: seen(fn -> Port.open({:spawn_executable, "/no/such/program"}, [:exit_status]) end)

  def ask(lib, _context), do: seen(fn -> Library.run(lib, ["no-such-program-at-all"]) end)

  defp seen(run) do
    got =
      try do
        run.()
      rescue
        error -> {:raised, error}
      catch
        :exit, reason -> {:exit, reason}
      end

    error? = match?({:error, reason} when is_atom(reason), got) or match?({:raised, _}, got)
    yes?(error?, short(got))
  end
end
