defmodule NetRunner.Frames do
  @moduledoc false
  # Bytes that come in chunks, cut into frames as ports have them with `{:packet, n}`: a header of 1, 2 or 4 bytes, the length
  # of what follows as a big-endian number, then that. Pure, one chunk at a time; called wherever `packet:` is asked for, in
  # the process that reads or writes. It must never make room for a frame before its bytes have come, hold more
  # than one frame, copy what it holds again for each chunk, or let the frames depend on where the chunks were cut.
  #
  # A frame that makes up more than half of its chunk is a part of it (a sub-binary). A smaller one is copied:
  # whoever keeps it does not keep the chunk.

  @enforce_keys [:header, :max]
  defstruct [:header, :max, head: "", missing: nil, pieces: []]

  @type header :: 1 | 2 | 4
  @type max :: pos_integer

  @opaque t :: %__MODULE__{
            header: header,
            max: max,
            # The first bytes of a header that is not complete.
            head: binary,
            # What is to come of the frame that has begun, else nil; and what has come of it, the last piece first.
            missing: pos_integer | nil,
            pieces: [binary]
          }

  @type too_large :: {:frame_too_large, pos_integer}
  @type truncated :: {:frame_truncated, pos_integer}

  # Pieces smaller than this grow in place (the runtime makes room for twice the size): one byte at a time, a list of
  # them would be forty times the bytes.
  @piece 65_536

  @spec new(header, max) :: t
  def new(header, max) when header in [1, 2, 4], do: %__MODULE__{header: header, max: max}

  @doc """
  The frames, without their headers, that this chunk brought to their end. After an error there is nothing to go on with.
  """
  @spec feed(t, binary) :: {[binary], t} | {:error, too_large, before :: [binary]}
  def feed(t, ""), do: {[], t}

  def feed(%{missing: nil, head: ""} = t, chunk), do: cut(t.header, chunk, chunk, t, [])

  def feed(%{missing: nil, head: head} = t, chunk) do
    case t.header - byte_size(head) do
      more when more > byte_size(chunk) ->
        {[], %{t | head: head <> chunk}}

      more ->
        <<rest_of_head::binary-size(more), rest::binary>> = chunk
        header(head <> rest_of_head, rest, chunk, t)
    end
  end

  def feed(%{missing: missing} = t, chunk) when byte_size(chunk) < missing,
    do: {[], %{t | missing: missing - byte_size(chunk), pieces: hold(chunk, t.pieces)}}

  def feed(%{missing: missing, pieces: pieces} = t, chunk) do
    <<last::binary-size(missing), rest::binary>> = chunk
    frame = [last | pieces] |> Enum.reverse() |> IO.iodata_to_binary()
    cut(t.header, rest, chunk, %{t | missing: nil, pieces: []}, [frame])
  end

  # A header that lay across chunks is in no chunk with its frame.
  defp header(head, rest, chunk, t) do
    t = %{t | head: ""}

    case :binary.decode_unsigned(head) do
      n when n > t.max -> {:error, {:frame_too_large, n}, []}
      0 -> cut(t.header, rest, chunk, t, [""])
      n -> feed(%{t | missing: n}, rest)
    end
  end

  # With the size written out, a frame takes a third of the time.
  for header <- [1, 2, 4] do
    defp cut(
           unquote(header),
           <<n::unquote(header * 8), _rest::binary>>,
           _chunk,
           %{max: max},
           found
         )
         when n > max,
         do: {:error, {:frame_too_large, n}, Enum.reverse(found)}

    defp cut(
           unquote(header),
           <<n::unquote(header * 8), frame::binary-size(n), rest::binary>>,
           chunk,
           t,
           found
         ),
         do: cut(unquote(header), rest, chunk, t, [own(frame, chunk) | found])

    defp cut(unquote(header), <<n::unquote(header * 8), begun::binary>>, chunk, t, found) do
      pieces = if begun == "", do: [], else: [own(begun, chunk)]
      {Enum.reverse(found), %{t | missing: n - byte_size(begun), pieces: pieces}}
    end
  end

  defp cut(_header, head, _chunk, t, found),
    do: {Enum.reverse(found), %{t | head: :binary.copy(head)}}

  defp own(part, chunk) when 2 * byte_size(part) > byte_size(chunk), do: part
  defp own(part, _chunk), do: :binary.copy(part)

  defp hold(piece, [last | before]) when byte_size(last) < @piece,
    do: [<<last::binary, piece::binary>> | before]

  defp hold(piece, pieces), do: [piece | pieces]

  @doc "The end of the bytes: there is no last frame without its last byte. How many are missing, at least."
  @spec finish(t) :: [] | {:error, truncated, []}
  def finish(%{missing: nil, head: ""}), do: []

  def finish(%{missing: nil} = t),
    do: {:error, {:frame_truncated, t.header - byte_size(t.head)}, []}

  def finish(%{missing: missing}), do: {:error, {:frame_truncated, missing}, []}

  @doc """
  The most that a frame with such a header can have.

      iex> Enum.map([1, 2, 4], &NetRunner.Frames.most/1)
      [255, 65_535, 4_294_967_295]
  """
  @spec most(header) :: pos_integer
  def most(header), do: Bitwise.bsl(1, 8 * header) - 1

  @doc "What is wrong with so many bytes for such a header."
  @spec too_large(header, pos_integer) :: String.t()
  def too_large(header, size),
    do: "#{size} bytes are no frame: a header of #{header} can say #{most(header)} at most"

  @doc """
  Iodata with its header before it, as one iovec; or its size, where that is more than the header can say.

      iex> NetRunner.Frames.pack(2, ["ab", ?c])
      {:ok, [<<0, 3>>, "abc"]}
      iex> NetRunner.Frames.pack(1, String.duplicate("x", 256))
      {:error, {:frame_too_large, 256}}
  """
  @spec pack(header, iodata) :: {:ok, [binary, ...]} | {:error, too_large}
  def pack(header, iodata) do
    iovec = :erlang.iolist_to_iovec(iodata)
    size = IO.iodata_length(iovec)

    if size > most(header),
      do: {:error, {:frame_too_large, size}},
      else: {:ok, [<<size::size(header)-unit(8)>> | iovec]}
  end
end
