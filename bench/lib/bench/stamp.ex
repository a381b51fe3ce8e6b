defmodule Bench.Stamp do
  @moduledoc false
  # Stamped data, see bench/c/stamp.h: every 4096 bytes, eight bytes say where they lie. One look per
  # chunk finds lost, doubled and swapped bytes.

  @every 4096
  @wrap 1024 * 1024

  @doc "A folding function over chunks; its accumulator starts with `{0, 0}`: bytes, wrong chunks."
  def check(chunk, {position, wrong}) do
    skip = rem(@every - rem(position, @every), @every)

    wrong =
      case chunk do
        <<_::binary-size(skip), stamp::little-64, _::binary>> ->
          if stamp == rem(position + skip, @wrap), do: wrong, else: wrong + 1

        _short ->
          wrong
      end

    {position + byte_size(chunk), wrong}
  end

  @doc "What a scenario says about a finished fold."
  @spec verdict({non_neg_integer, non_neg_integer}, pos_integer) :: nil | String.t()
  def verdict({bytes, 0}, bytes), do: nil
  def verdict({got, wrong}, bytes), do: "#{got} of #{bytes} bytes, #{wrong} chunks wrong"

  @doc "`bytes` of stamped data as a lazy enumerable of blocks, the same binaries again and again."
  @spec stream(pos_integer, pos_integer) :: Enumerable.t()
  def stream(bytes, block) when rem(bytes, block) == 0 do
    blocks = blocks(block)

    Stream.map(0..(div(bytes, block) - 1), fn index ->
      elem(blocks, rem(index, tuple_size(blocks)))
    end)
  end

  @doc "A file of so many bytes of it, made unless it is there; for whoever reads it again and again."
  @spec file(pos_integer) :: Path.t()
  def file(bytes) do
    path = Path.join(Mix.Project.build_path(), "stamped-#{bytes}")

    made(path, bytes, &Enum.into(stream(bytes, @wrap), File.stream!(&1)))
  end

  @doc "The path of a file of so many bytes, which `write` is given to write unless it is there."
  @spec made(Path.t(), pos_integer, (Path.t() -> term)) :: Path.t()
  def made(path, bytes, write) do
    unless match?({:ok, %{size: ^bytes}}, File.stat(path)), do: write.(path)
    path
  end

  # Made once: a benchmark of writing is not one of making data.
  defp blocks(block) when rem(@wrap, block) == 0 do
    key = {__MODULE__, block}

    with nil <- :persistent_term.get(key, nil) do
      blocks = 0..(div(@wrap, block) - 1) |> Enum.map(&make(&1 * block, block)) |> List.to_tuple()
      :persistent_term.put(key, blocks)
      blocks
    end
  end

  defp make(position, block) do
    for at <- 0..(block - 1)//@every, into: <<>> do
      <<position + at::little-64, :binary.copy("x", @every - 8)::binary>>
    end
  end
end
