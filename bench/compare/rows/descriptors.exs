defmodule Compare.Rows.Descriptors do
  @moduledoc false
  @behaviour Compare.Row
  import Compare.Row
  alias Compare.{Library, World}

  def question, do: "Has the command 0, 1 and 2 open, and nothing else?"

  def ask(lib, %{tag: tag}) do
    {output, _status} = Library.run(lib, World.tagged(["ls", "-l", "/proc/self/fd"], tag))

    others =
      for line <- String.split(output, "\n", trim: true),
          [_all, fd, target] <- [Regex.run(~r/ (\d+) -> (.*)$/, line)],
          fd not in ["0", "1", "2"],
          # The folder that ls itself is reading.
          not (target =~ ~r"^/proc/\d+/fd$"),
          do: "#{fd} -> #{target}"

    yes?(
      others == [],
      "besides 0, 1 and 2: #{if others == [], do: "none", else: Enum.join(others, ", ")}"
    )
  end
end
