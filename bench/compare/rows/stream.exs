defmodule Compare.Rows.Stream do
  @moduledoc false
  @behaviour Compare.Row
  import Compare.Row
  alias Compare.World
  @compile {:no_warn_undefined, [Exile, ExCmd]}

  def question, do: "Is there a lazy stream, and is an endless command gone when it is halted?"

  def ask(:net_runner, context), do: halt(&NetRunner.stream!/1, context)
  def ask(:exile, context), do: halt(&Exile.stream!(&1, ignore_epipe: true), context)
  def ask(:ex_cmd, context), do: halt(&ExCmd.stream!(&1, ignore_epipe: true), context)
  def ask(_lib, _context), do: none()

  defp halt(stream, %{tag: tag}) do
    since = World.now()
    pieces = ["yes"] |> World.tagged(tag) |> stream.() |> Enum.take(1)
    took = World.now() - since
    {left, gone} = World.left(tag, 2_000)

    yes?(
      length(pieces) == 1 and left == [],
      "Enum.take(1) of `yes` came back after #{took} ms, " <>
        if(left == [],
          do: "the command was gone #{gone} ms later",
          else: "the command was still there 2 s later"
        )
    )
  end
end
