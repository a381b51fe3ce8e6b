defmodule Compare.Rows.LostBytes do
  @moduledoc false
  @behaviour Compare.Row
  import Compare.Row
  alias Compare.{Library, World}

  @bytes 100_000

  def question, do: "A command writes 100,000 bytes and exits: do all of them arrive, each time?"

  def ask(:muontrap, context),
    do: [count(:muontrap, [], context), count(:muontrap, [stdio_window: 1_048_576], context)]

  def ask(lib, context), do: count(lib, [], context)

  defp count(lib, opts, %{tag: tag, quick?: quick?}) do
    runs = if quick?, do: 5, else: 200
    cmd = World.tagged(["head", "-c", "#{@bytes}", "/dev/zero"], tag)
    got = for _ <- 1..runs, do: Library.run(lib, cmd, opts)
    short = for {output, _status} <- got, byte_size(output) < @bytes, do: byte_size(output)
    good = for {_output, status} <- got, status in [0, {:status, 0}], do: status
    how = if opts == [], do: "", else: " (#{short(opts)})"
    worst = if short == [], do: "", else: ", the shortest had #{Enum.min(short)} bytes"

    yes?(
      short == [],
      "#{length(short)} of #{runs} runs came short#{worst}; #{length(good)} had status 0#{how}"
    )
  end
end
