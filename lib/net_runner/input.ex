defmodule NetRunner.Input do
  @moduledoc false
  # The feeder: a process of the command's server that writes `input:` into stdin and closes it. It
  # is a process of its own because an enumerable may block for as long as it likes while output has
  # to be read and time-outs have to fire.

  alias NetRunner.{Frames, Gate, Pipe, Sink}

  # In a feeder's dictionary: nothing more is asked of the input. Its command has taken no more, or it has broken off.
  @over {__MODULE__, :over}

  @type outcome ::
          :ok
          | {:error, :epipe | :closed}
          | {:broken, atom}
          | {:raised, :error | :exit | :throw, term, Exception.stacktrace()}

  @doc """
  Starts the feeder, linked to the calling server, which gets `{:fed, pid, outcome}`, and `{:breaks, pid, outcome}` before that, and before `broke`,
  where it breaks off. Elements of an
  enumerable are put together to writes of up to `buffer` bytes, each with a header before it if there is a `packet`. `whose` are the processes on whose
  behalf it evaluates the input, and those who wait for it (NetRunner.Gate). `close` says to the command that this was all, and `broke` to others that it was not.
  """
  @spec start_link(
          Pipe.handle(),
          term,
          %{buffer: non_neg_integer, packet: nil | Frames.header()},
          {callers :: [pid], askers :: [pid]},
          close :: (Pipe.handle() -> term),
          broke :: (() -> term)
        ) :: pid
  def start_link(stdin, input, how, {callers, askers}, close, broke) do
    server = self()

    spawn_link(fn ->
      Process.put(:"$callers", callers)
      Gate.feeds(askers)
      outcome = stdin |> feed(input, how) |> judge()
      # Broken off, stdin stays open until the server has begun to stop the command: an end of
      # input would tell it that what it read was all.
      if broken?(outcome), do: break_off(server, outcome, broke), else: close.(stdin)
      send(server, {:fed, self(), outcome})
    end)
  end

  # The command may end while others are told: nobody reads what it writes any more.
  defp break_off(server, outcome, broke) do
    Process.put(@over, true)
    send(server, {:breaks, self(), outcome})
    broke.()
  end

  @doc "Whether the command got less than it was to get, and not because it wanted no more."
  @spec broken?(outcome) :: boolean
  def broken?(outcome), do: match?({:broken, _}, outcome) or match?({:raised, _, _, _}, outcome)

  @doc "Whether a feeder waits for something else than its command, and is not cleaning up behind it."
  @spec waits?(pid) :: boolean
  def waits?(feeder) do
    case Process.info(feeder, [:status, :current_function, :dictionary]) do
      [status: :waiting, current_function: {module, name, _arity}, dictionary: dictionary] ->
        {module, name} != {Pipe, :write} and not List.keymember?(dictionary, @over, 0)

      _ ->
        false
    end
  end

  # A command that takes no more is the end of the input: what it does from then on is to clean up.
  defp write(stdin, bytes) do
    with {:error, _reason} = error <- Pipe.write(stdin, bytes, :infinity) do
      Process.put(@over, true)
      error
    end
  end

  @doc "What broke it, for a line in a log: as an exception is shown, with its stacktrace."
  @spec banner(outcome) :: String.t()
  def banner({:broken, reason}), do: inspect(reason)
  def banner({:raised, kind, reason, stacktrace}), do: Exception.format(kind, reason, stacktrace)

  # A command that does not want the rest is no error of the caller's.
  defp judge({:error, reason}) when reason not in [:epipe, :closed], do: {:broken, reason}
  defp judge(outcome), do: outcome

  defp feed(stdin, input, %{packet: packet}) when is_binary(input),
    do: Pipe.write(stdin, element!(input, packet), :infinity)

  # A list may be iodata as a whole or an enumerable whose elements are checked one by one. Where there are frames it is always the second.
  defp feed(stdin, input, %{packet: nil} = how) when is_list(input) do
    case iovec(input) do
      {:ok, iovec} -> Pipe.write(stdin, iovec, :infinity)
      :error -> feed_each(stdin, input, how)
    end
  end

  defp feed(stdin, fun, how) when is_function(fun, 1),
    do:
      Sink.run(
        fun,
        &write_buffered(stdin, &1, element!(&2, how.packet), how.buffer),
        &flush(stdin, &1)
      )

  defp feed(stdin, input, how), do: feed_each(stdin, input, how)

  defp iovec(list) do
    {:ok, :erlang.iolist_to_iovec(list)}
  rescue
    ArgumentError -> :error
  end

  defp feed_each(stdin, enumerable, how) do
    if is_list(enumerable) and List.improper?(enumerable), do: check!(enumerable)

    enumerable
    |> Enum.reduce_while({:ok, nothing()}, fn element, {:ok, held} ->
      case write_buffered(stdin, held, element!(element, how.packet), how.buffer) do
        {:ok, held} -> {:cont, {:ok, held}}
        error -> {:halt, error}
      end
    end)
    |> then(fn
      {:ok, held} -> flush(stdin, held)
      error -> error
    end)
  catch
    kind, reason -> {:raised, kind, reason, __STACKTRACE__}
  end

  ## Elements on their way: {iovecs, reversed; bytes}

  @doc "What is held before the first element."
  @spec nothing :: {[], 0}
  def nothing, do: {[], 0}

  # An element that does not fit beside what is held is written after it, never in pieces.
  defp write_buffered(stdin, {[], 0}, element, 0) do
    with :ok <- write(stdin, element), do: {:ok, nothing()}
  end

  defp write_buffered(stdin, {held, size}, element, buffer) do
    more = IO.iodata_length(element)

    cond do
      size + more < buffer ->
        {:ok, {[element | held], size + more}}

      size + more == buffer or size == 0 ->
        with :ok <- flush(stdin, {[element | held], size + more}), do: {:ok, nothing()}

      true ->
        with :ok <- flush(stdin, {held, size}),
             do: write_buffered(stdin, nothing(), element, buffer)
    end
  end

  defp flush(_stdin, {[], 0}), do: :ok
  defp flush(stdin, {held, _size}), do: write(stdin, Enum.reverse(held))

  @doc "An element as it is written: with its header, if it is to have one."
  @spec element!(term, nil | Frames.header()) :: [binary]
  def element!(element, nil), do: check!(element)

  def element!(element, packet) do
    case Frames.pack(packet, check!(element)) do
      {:ok, frame} ->
        frame

      {:error, {:frame_too_large, size}} ->
        raise ArgumentError, "invalid value for :input: " <> Frames.too_large(packet, size)
    end
  end

  @doc "An element as it is written. What is no iodata is told behind `where`."
  @spec check!(term, String.t()) :: [binary]
  def check!(element, where \\ "invalid value for :input: ") do
    :erlang.iolist_to_iovec(element)
  rescue
    ArgumentError ->
      reraise ArgumentError,
              [
                message:
                  where <>
                    "an element is not iodata: " <>
                    inspect(element, limit: 5, printable_limit: 100)
              ],
              __STACKTRACE__
  end
end
