defmodule NetRunner.Search do
  @moduledoc false
  # Looks for a pattern in what a pipe or a terminal brings, for NetRunner.Process.await_output/3. What was read and
  # is not part of the answer goes back into the handle, whose next read gets it first.
  #
  # A text is looked for once in each byte that comes, and in as much before it as it may have begun in. A regular
  # expression may begin anywhere, so each look goes through all that has come: it is made when nothing more is
  # there to read, and, before a pipe that never runs dry, whenever that has doubled.

  alias NetRunner.{Nif, Pipe}

  @max 16 * 1_048_576
  @read_max 262_144

  @type pattern :: binary | Regex.t()

  @doc "`{:ok, {before, match}}`, or why not: then all that was read has gone back."
  @spec await(Pipe.handle(), pattern, Pipe.deadline()) ::
          {:ok, {binary, binary}} | {:error, :no_match | :timeout | :busy | :closed | atom}
  def await(handle, pattern, deadline) do
    next(%{
      handle: handle,
      pattern: compile(pattern),
      deadline: deadline,
      # Newest first.
      chunks: [],
      size: 0,
      # What of it was looked through.
      seen: 0,
      # The last bytes in which a text may have begun.
      tail: ""
    })
  end

  defp compile(text) when is_binary(text), do: {:binary.compile_pattern(text), byte_size(text)}
  defp compile(%Regex{} = regex), do: regex

  defp next(%{size: @max} = search), do: last_look(search, {:error, :no_match})

  defp next(search) do
    ref = make_ref()

    case Nif.read(search.handle, min(@read_max, @max - search.size), ref) do
      {:ok, chunk} -> search |> add(chunk) |> took(chunk)
      :again -> wait(search, ref)
      :eof -> last_look(search, {:error, :no_match})
      {:error, reason} -> last_look(search, {:error, reason})
    end
  end

  defp add(search, chunk),
    do: %{search | chunks: [chunk | search.chunks], size: search.size + byte_size(chunk)}

  defp took(%{pattern: {text, length}, tail: tail} = search, chunk) do
    fresh = tail <> chunk

    case :binary.match(fresh, text) do
      {at, length} ->
        found(search, {search.size - byte_size(fresh) + at, length})

      :nomatch ->
        keep = min(length - 1, byte_size(fresh))
        tail = fresh |> binary_part(byte_size(fresh), -keep) |> :binary.copy()
        go_on(%{search | tail: tail, seen: search.size})
    end
  end

  defp took(search, _chunk) do
    if search.size >= 2 * search.seen,
      do: look(search, &go_on/1),
      else: go_on(search)
  end

  # Whoever never lets us wait has its time-out all the same.
  defp go_on(search) do
    if Pipe.over?(search.deadline),
      do: last_look(search, {:error, :timeout}),
      else: next(search)
  end

  # The wait is placed already: nothing that comes while we look is missed.
  defp wait(search, ref) do
    case look(search) do
      {:found, place} ->
        Pipe.cancel(search.handle, ref)
        found(search, place)

      search ->
        receive do
          {^ref, :ready} -> next(search)
        after
          Pipe.left(search.deadline) ->
            Pipe.cancel(search.handle, ref)
            give_back(search, {:error, :timeout})
        end
    end
  end

  defp last_look(search, otherwise), do: look(search, &give_back(&1, otherwise))

  defp look(search, otherwise) do
    case look(search) do
      {:found, place} -> found(search, place)
      search -> otherwise.(search)
    end
  end

  defp look(%{size: size, seen: size} = search), do: search

  defp look(search) do
    search = %{search | chunks: [whole(search)], seen: search.size}

    case run(search.pattern, hd(search.chunks)) do
      [place | _groups] -> {:found, place}
      nil -> search
    end
  end

  defp run(regex, text) do
    Regex.run(regex, text, return: :index)
  rescue
    # With the modifier u, and what came is no UTF-8, or not yet.
    ArgumentError -> Regex.run(regex, readable(text, []), return: :index)
  end

  # As long as it was, but for a last character of which a part has not come yet.
  defp readable(text, before) do
    case :unicode.characters_to_binary(text) do
      {:error, good, <<_bad, rest::binary>>} -> readable(rest, [before, good, 0x1A])
      {:incomplete, good, _rest} -> IO.iodata_to_binary([before, good])
      good -> IO.iodata_to_binary([before, good])
    end
  end

  defp whole(%{chunks: [whole]}), do: whole
  defp whole(%{chunks: chunks}), do: chunks |> Enum.reverse() |> IO.iodata_to_binary()

  defp found(search, {at, length}) do
    whole = whole(search)
    over = at + length
    rest = part(whole, over, byte_size(whole) - over)

    with :ok <- unread(search.handle, rest),
         do: {:ok, {part(whole, 0, at), part(whole, at, length)}}
  end

  # A small part must not keep the whole in memory.
  defp part(whole, at, length) do
    part = binary_part(whole, at, length)
    if 2 * length < byte_size(whole), do: :binary.copy(part), else: part
  end

  defp give_back(search, answer),
    do: with(:ok <- unread(search.handle, whole(search)), do: answer)

  defp unread(_handle, ""), do: :ok
  defp unread(handle, bytes), do: Nif.unread(handle, bytes)
end
