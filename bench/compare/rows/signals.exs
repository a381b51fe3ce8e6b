defmodule Compare.Rows.Signals do
  @moduledoc false
  @behaviour Compare.Row
  import Bitwise
  import Compare.Row
  alias Compare.{Library, World}

  # Those that are seen: ERTS ignores both, and what is ignored stays so when a program is executed.
  @names %{8 => "SIGFPE", 13 => "SIGPIPE"}

  def question, do: "Does the command start with no signal ignored or blocked?"

  def ask(lib, %{tag: tag}) do
    {output, _status} = Library.run(lib, World.tagged(["cat", "/proc/self/status"], tag))

    [blocked, ignored] =
      for name <- ["SigBlk", "SigIgn"] do
        [_all, mask] = Regex.run(~r/^#{name}:\s*([0-9a-f]+)$/m, output)
        String.to_integer(mask, 16)
      end

    yes?({blocked, ignored} == {0, 0}, "blocked: #{names(blocked)}; ignored: #{names(ignored)}")
  end

  defp names(0), do: "none"

  defp names(mask) do
    for number <- 1..64, (mask >>> (number - 1) &&& 1) == 1, into: "" do
      "#{Map.get(@names, number, number)} "
    end
    |> String.trim()
  end
end
