defmodule NetRunner.Pipe do
  @moduledoc false
  # Reading and writing pipe handles from the calling process, with deadlines. The NIF moves what it
  # can at once; only an empty (or full) pipe makes the caller wait, for {ref, :ready} with a
  # reference of this very wait, or come back later. A wait that is given up is cancelled first, so nothing strays into the
  # caller's mailbox.
  #
  # A deadline is a System.monotonic_time(:millisecond), or :infinity.

  alias NetRunner.Nif

  @type handle :: reference
  @type deadline :: integer | :infinity

  # The most that `receive ... after` takes: 49 days.
  @wait_max 0xFFFF_FFFF

  # After a wait for a ring's word without a look first: then we look. Long, as it is for the one pipe in a million that
  # gives packets.
  @unsure_ms 1_000

  # After a wait for a turn that does not come, should nobody be there who lets in (NetRunner.Turns): far more than a turn of any crowd.
  @turn_ms 10_000

  @spec deadline(timeout) :: deadline
  def deadline(:infinity), do: :infinity
  def deadline(ms) when is_integer(ms), do: System.monotonic_time(:millisecond) + ms

  @doc "Milliseconds left, for `receive ... after`."
  @spec left(deadline) :: timeout
  def left(:infinity), do: :infinity

  def left(deadline),
    do: (deadline - System.monotonic_time(:millisecond)) |> max(0) |> min(@wait_max)

  @doc "Whichever deadline comes first."
  @spec earlier(deadline, deadline) :: deadline
  # Every integer is smaller than every atom.
  def earlier(one, other), do: min(one, other)

  @doc "Whether a deadline is over: to be asked between moves, for a pipe may never make us wait."
  @spec over?(deadline) :: boolean
  def over?(deadline), do: left(deadline) == 0

  @spec read(handle, pos_integer, deadline) ::
          {:ok, binary} | :eof | {:error, :timeout | :busy | :closed | atom}
  def read(handle, max, deadline) do
    ref = make_ref()

    case Nif.read_patiently(handle, max, ref) do
      # It is empty, but not for long. Others go first.
      :soon ->
        :erlang.yield()
        read(handle, max, deadline)

      # It is empty, and fills fast: what comes meanwhile is read at once.
      {:later, ms} ->
        if over?(deadline) do
          look(handle, max, deadline)
        else
          pause(ms, deadline)
          read(handle, max, deadline)
        end

      # It was empty when it was last looked at.
      :unseen ->
        if told?(handle, ref, left(deadline)),
          do: read(handle, max, deadline),
          else: look(handle, max, deadline)

      :unsure ->
        if told?(handle, ref, min(left(deadline), @unsure_ms)),
          do: read(handle, max, deadline),
          else: look(handle, max, deadline)

      # So many read that whoever else wants to run would wait long. There may be something, whenever this ends.
      :turn ->
        if told?(handle, ref, min(left(deadline), @turn_ms)),
          do: read(handle, max, deadline),
          else: look(handle, max, deadline)

      :again ->
        await(handle, max, deadline, ref)

      result ->
        result
    end
  end

  defp pause(ms, deadline) do
    ref = make_ref()
    _timer = start_pause(ms, deadline, ref)

    receive do
      {^ref, :ready} -> :ok
    end
  end

  # It ends with a millisecond of the clock's, as ERTS's timers do. `receive ... after 1`, of which one has to be over, takes
  # two, where it begins at the end of another.
  defp start_pause(ms, deadline, ref) do
    ends = min(System.monotonic_time(:millisecond) + ms, deadline)
    :erlang.send_after(ends, self(), {ref, :ready}, abs: true)
  end

  defp look(handle, max, deadline) do
    ref = make_ref()

    case Nif.read(handle, max, ref) do
      :again -> await(handle, max, deadline, ref)
      result -> result
    end
  end

  defp await(handle, max, deadline, ref) do
    if told?(handle, ref, left(deadline)),
      do: read(handle, max, deadline),
      else: {:error, :timeout}
  end

  # Or the wait is taken back.
  defp told?(handle, ref, ms) do
    receive do
      {^ref, :ready} -> true
    after
      ms ->
        cancel(handle, ref)
        false
    end
  end

  @doc """
  Writes all of it, or says why not: `{:error, {:timeout, bytes_taken}}` when the deadline came first,
  `{:error, :epipe}` when nobody can read it any more.
  """
  @spec write(handle, iodata, deadline) ::
          :ok | {:error, {:timeout, non_neg_integer} | :epipe | :busy | :closed | atom}
  def write(handle, iodata, deadline),
    do: write(handle, :erlang.iolist_to_iovec(iodata), deadline, 0)

  defp write(_handle, [], _deadline, _taken), do: :ok

  defp write(handle, iovec, deadline, taken) do
    ref = make_ref()

    case Nif.write(handle, iovec, ref) do
      {:ok, n} ->
        case drop(iovec, n) do
          [] -> :ok
          rest -> write_rest(handle, rest, deadline, taken + n)
        end

      :again ->
        receive do
          {^ref, :ready} -> write(handle, iovec, deadline, taken)
        after
          left(deadline) ->
            cancel(handle, ref)
            {:error, {:timeout, taken + Nif.take_written(handle)}}
        end

      error ->
        error
    end
  end

  defp write_rest(handle, rest, deadline, taken) do
    if over?(deadline),
      do: {:error, {:timeout, taken}},
      else: write(handle, rest, deadline, taken)
  end

  @doc """
  Reads from whichever of two handles has something first. `armed` is what the last call gave back
  (start with `%{}`): it remembers the waits that are still placed. Give it to `disarm/1` when done.

  `:coalescing`: the pieces of one that fills fast are let come together, so that they are read up to two milliseconds after those of
  the other.
  """
  @spec read_either([{tag, handle}], pos_integer, deadline, map, :at_once | :coalescing) ::
          {tag, {:ok, binary} | :eof | {:error, atom}, map} | {:timeout, map}
        when tag: atom
  def read_either(handles, max, deadline, armed, how \\ :at_once) do
    case try_each(handles, max, armed, how, nil) do
      {:waiting, armed, nil} -> await_either(handles, max, deadline, armed, how)
      {:waiting, armed, ms} -> pause_or_look(handles, max, deadline, armed, ms)
      found -> found
    end
  end

  defp try_each([], _max, armed, _how, ms), do: {:waiting, armed, ms}

  defp try_each([{tag, _} | rest], max, armed, how, ms) when is_map_key(armed, tag),
    do: try_each(rest, max, armed, how, ms)

  defp try_each([{tag, handle} | rest], max, armed, how, ms) do
    ref = make_ref()

    case try_one(how, handle, max, ref) do
      :again -> try_each(rest, max, Map.put(armed, tag, {handle, ref}), how, ms)
      # Every integer is smaller than every atom, nil too.
      {:later, its} -> try_each(rest, max, armed, how, min(ms, its))
      result -> {tag, result, armed}
    end
  end

  defp try_one(:at_once, handle, max, ref), do: Nif.read(handle, max, ref)
  defp try_one(:coalescing, handle, max, ref), do: Nif.read_coalescing(handle, max, ref)

  defp await_either(handles, max, deadline, armed, how) do
    refs = refs(armed)

    receive do
      {ref, :ready} when is_map_key(refs, ref) ->
        {handles, armed} = spoke(Map.fetch!(refs, ref), handles, armed)
        read_either(handles, max, deadline, armed, how)
    after
      left(deadline) -> {:timeout, armed}
    end
  end

  defp pause_or_look(handles, max, deadline, armed, ms) do
    if over?(deadline),
      do: read_either(handles, max, deadline, armed, :at_once),
      else: pause_either(handles, max, deadline, armed, ms)
  end

  # As a wait for one more, which says nothing: the pause's end.
  defp pause_either(handles, max, deadline, armed, ms) do
    ended = make_ref()
    timer = start_pause(ms, deadline, ended)
    refs = refs(armed)

    receive do
      {^ended, :ready} ->
        read_either(handles, max, deadline, armed, :coalescing)

      {ref, :ready} when is_map_key(refs, ref) ->
        cancel_pause(timer, ended)
        {handles, armed} = spoke(Map.fetch!(refs, ref), handles, armed)
        read_either(handles, max, deadline, armed, :coalescing)
    end
  end

  defp cancel_pause(timer, ended) do
    with false <- :erlang.cancel_timer(timer) do
      receive do
        {^ended, :ready} -> :ok
      end
    end
  end

  defp refs(armed), do: for({tag, {_handle, ref}} <- armed, into: %{}, do: {ref, tag})

  # The one that spoke goes first, the other's wait stays placed.
  defp spoke(tag, handles, armed) do
    {spoke, others} = Enum.split_with(handles, fn {t, _handle} -> t == tag end)
    {spoke ++ others, Map.delete(armed, tag)}
  end

  @doc """
  Reads from whichever of the handles (at least one) has something first, and leaves no wait behind: `{tag,
  {:ok, bytes}}`, `{tag, :eof}` or `{:error, reason}`.
  """
  @spec read_one([{tag, handle}, ...], pos_integer, deadline) ::
          {tag, {:ok, binary} | :eof} | {:error, :timeout | :busy | :closed | atom}
        when tag: atom
  def read_one([{tag, handle}], max, deadline), do: tagged(tag, read(handle, max, deadline))

  def read_one(handles, max, deadline) do
    case read_either(handles, max, deadline, %{}) do
      {:timeout, armed} ->
        disarm(armed)
        {:error, :timeout}

      {tag, result, armed} ->
        disarm(armed)
        tagged(tag, result)
    end
  end

  defp tagged(_tag, {:error, reason}), do: {:error, reason}
  defp tagged(tag, result), do: {tag, result}

  @doc "As `read_one/3`, past the handles that have ended: `:eof` when all have."
  @spec read_any([{tag, handle}], pos_integer, deadline) ::
          {tag, {:ok, binary}} | :eof | {:error, :timeout | :busy | :closed | atom}
        when tag: atom
  def read_any([], _max, _deadline), do: :eof

  def read_any(handles, max, deadline) do
    with {tag, :eof} <- read_one(handles, max, deadline),
         do: handles |> List.keydelete(tag, 0) |> read_any(max, deadline)
  end

  @doc """
  The handles in the order in which to look at them next, where one was read: it comes last. Whoever floods one pipe does not
  keep the others waiting; and where two brought something at the same time, that of the other is looked at before more of the same.
  """
  @spec turn([{tag, handle}], tag) :: [{tag, handle}] when tag: term
  def turn([{name, _handle}] = handles, name), do: handles

  def turn(handles, name) do
    {read, others} = Enum.split_with(handles, fn {other, _handle} -> other == name end)
    others ++ read
  end

  @doc """
  What is still to be waited for of `armed`. `read_either/4` looks only at handles without a wait, so one that
  never runs dry keeps it from hearing of the other: whoever reads such, asks in between. Looks
  through the caller's mailbox.
  """
  @spec heard(map) :: map
  def heard(armed) when map_size(armed) == 0, do: armed

  def heard(armed) do
    refs = refs(armed)

    receive do
      {ref, :ready} when is_map_key(refs, ref) -> Map.delete(armed, Map.fetch!(refs, ref))
    after
      0 -> armed
    end
  end

  @spec disarm(map) :: :ok
  def disarm(armed) do
    Enum.each(armed, fn {_tag, {handle, ref}} -> cancel(handle, ref) end)
  end

  @doc "Takes a wait back; a message that is on its way is received here."
  @spec cancel(handle, reference) :: :ok
  def cancel(handle, ref) do
    case Nif.cancel(handle) do
      :cancelled ->
        :ok

      :pending ->
        receive do
          {^ref, :ready} -> :ok
        end
    end
  end

  defp drop(iovec, 0), do: iovec

  defp drop([head | rest], n) when byte_size(head) <= n, do: drop(rest, n - byte_size(head))

  defp drop([head | rest], n) do
    <<_taken::binary-size(n), left::binary>> = head
    [left | rest]
  end
end
