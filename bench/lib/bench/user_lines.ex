defmodule Bench.UserLines do
  @moduledoc """
  Lines as one writes them who uses a library that has chunks and no lines.
  """

  @doc "Of a stream of chunks: the usual few lines, `String.split/2` and a rest that is kept."
  @spec of_chunks(Enumerable.t()) :: Enumerable.t()
  def of_chunks(chunks) do
    Stream.transform(chunks, "", fn chunk, rest ->
      {lines, [rest]} = (rest <> chunk) |> String.split("\n") |> Enum.split(-1)
      {lines, rest}
    end)
  end

  @doc "Of a whole output."
  @spec of_output(binary) :: [binary]
  def of_output(output), do: String.split(output, "\n", trim: true)
end
