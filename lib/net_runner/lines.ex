defmodule NetRunner.Lines do
  @moduledoc false
  # Bytes that come in chunks, cut into lines: pure, one chunk at a time. Called wherever `lines:` is
  # asked for, in the process that reads. It must never hold more than one line, copy what it holds again
  # for each chunk, or let the lines depend on where the chunks were cut.
  #
  # A line is what stands between two separators, without them; the last one needs no separator behind
  # it, but an empty one is none. Separators are found from the left and do not overlap, wherever the
  # chunks are cut: a chunk's last bytes that may begin a separator are held back until the next chunk.
  #
  # A limit counts the bytes of one line, without its separator. What a longer line becomes:
  #
  #   :error     the lines before it, then the error. It comes as soon as the line cannot end in time any more.
  #   :split     pieces of exactly the limit, the rest as the last one.
  #   :truncate  its first bytes; the rest is thrown away as it comes.
  #
  # A line that lay within one chunk is a part of that chunk (a sub-binary): nothing was copied for it,
  # and for as long as the line is kept, the whole chunk is. Whoever keeps few lines of many (one in a
  # thousand of a log, say) holds up to a chunk, 64 KiB, for each; :binary.copy/1 lets go of the rest.
  # A line that lay across chunks is a binary of its own.

  @enforce_keys [:separator, :pattern, :limit]
  defstruct [:separator, :pattern, :limit, partial: "", held: "", cut?: false]

  @type policy :: :error | :split | :truncate
  @type limit :: :infinity | {pos_integer, policy}

  @opaque t :: %__MODULE__{
            separator: binary,
            pattern: :binary.cp(),
            limit: limit,
            # The line that has begun. Never a part of a chunk, or it would keep the chunk.
            partial: binary,
            # Its last bytes, for as long as they may begin a separator.
            held: binary,
            cut?: boolean
          }

  @type too_long(before) :: {:error, {:line_too_long, pos_integer}, before}

  @spec new(binary, limit) :: t
  def new(separator, limit) when is_binary(separator) and separator != "" do
    %__MODULE__{
      separator: separator,
      pattern: :binary.compile_pattern(separator),
      limit: check(limit)
    }
  end

  defp check(:infinity), do: :infinity

  defp check({bytes, policy} = limit)
       when is_integer(bytes) and bytes > 0 and policy in [:error, :split, :truncate],
       do: limit

  @doc "The lines that this chunk brought to their end. After an error there is nothing to go on with."
  @spec feed(t, binary) :: {[binary], t} | too_long([binary])
  def feed(t, ""), do: {[], t}

  def feed(t, chunk) do
    chunk = if t.held == "", do: chunk, else: IO.iodata_to_binary([t.held, chunk])
    chunk |> :binary.split(t.pattern, [:global]) |> parts(t)
  end

  # The parts of a chunk: the first goes on with the line that has begun, a separator stands between
  # each and the next, and the last begins a line.
  #
  # Without a limit there is nothing to look at between the first and the last: half the time per line.
  defp parts([first | [_ | _] = rest], %{limit: :infinity} = t) do
    [last | lines] = Enum.reverse(rest)
    {lines, later} = add([last], t, "", lines)
    {[join(t.partial, first) | lines], later}
  end

  defp parts(parts, t), do: add(parts, t, t.partial, [])

  @doc """
  The last line, if there is one behind the last separator: `[line]` or `[]`.

  What was held back turns out here to be no separator but the end of that line. If it makes the line
  too long, the policy has its last word: with `:split` these may be two or more pieces, and with
  `:error` it is the error. (Separators of one byte hold nothing back.)
  """
  @spec finish(t) :: [binary] | too_long([])
  def finish(t) do
    with {:ok, begun, rest, pieces} <- fit(t.limit, t.partial, t.held, []) do
      case join(begun, rest) do
        "" -> []
        line -> Enum.reverse(pieces, [line])
      end
    end
  end

  @doc "Whether `:truncate` has thrown anything away, finish/1 included."
  @spec truncated?(t) :: boolean
  def truncated?(%{limit: {limit, :truncate}} = t),
    do: t.cut? or byte_size(t.partial) + byte_size(t.held) > limit

  def truncated?(_t), do: false

  # `lines` is what was found so far, the last one first.
  defp add([last], t, partial, lines) do
    held = held(last, t.separator)
    text = binary_part(last, 0, byte_size(last) - byte_size(held))

    with {:ok, begun, rest, lines} <- fit(t.limit, partial, text, lines),
         do:
           {Enum.reverse(lines),
            note(%{t | partial: append(begun, rest), held: copy(held)}, text, rest)}
  end

  defp add([part | parts], t, partial, lines) do
    with {:ok, begun, rest, lines} <- fit(t.limit, partial, part, lines),
         do: add(parts, note(t, part, rest), "", [join(begun, rest) | lines])
  end

  defp note(%{limit: {_bytes, :truncate}} = t, part, rest) when byte_size(rest) < byte_size(part),
    do: %{t | cut?: true}

  defp note(t, _part, _rest), do: t

  # The line that has begun and what is to be added to it, made to fit.
  defp fit(:infinity, begun, part, lines), do: {:ok, begun, part, lines}

  defp fit({limit, _policy}, begun, part, lines)
       when byte_size(begun) + byte_size(part) <= limit,
       do: {:ok, begun, part, lines}

  defp fit({limit, :error}, _begun, _part, lines),
    do: {:error, {:line_too_long, limit}, Enum.reverse(lines)}

  defp fit({limit, :truncate}, begun, part, lines),
    do: {:ok, begun, binary_part(part, 0, limit - byte_size(begun)), lines}

  # A piece is given only when more of its line comes: an empty one is never left over.
  defp fit({limit, :split} = policy, begun, part, lines) do
    room = limit - byte_size(begun)
    <<piece::binary-size(room), rest::binary>> = part
    fit(policy, "", rest, [join(begun, piece) | lines])
  end

  defp join("", part), do: part
  defp join(begun, ""), do: begun
  defp join(begun, part), do: append(begun, part)

  # The runtime makes room for twice the size and appends in place, as nobody else has a hold of the
  # binary: a line of any length costs each of its bytes a constant, in chunks of any size. A list of
  # the pieces would do so too, but of a byte at a time keeps forty times the bytes.
  defp append(begun, ""), do: begun
  defp append(begun, part), do: <<begun::binary, part::binary>>

  # Waiting for the next chunk must not keep this one.
  defp copy(""), do: ""
  defp copy(held), do: :binary.copy(held)

  # The longest end of `last` that begins a separator. (A whole one is not in it.) Looked for size by
  # size, once per chunk: separators are short.
  defp held(last, separator),
    do: held(last, separator, min(byte_size(last), byte_size(separator) - 1))

  defp held(_last, _separator, 0), do: ""

  defp held(last, separator, size) do
    ending = binary_part(last, byte_size(last), -size)

    if ending == binary_part(separator, 0, size),
      do: ending,
      else: held(last, separator, size - 1)
  end
end
