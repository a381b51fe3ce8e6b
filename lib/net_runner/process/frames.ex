defmodule NetRunner.Process.Frames do
  @moduledoc false
  # A frame at a time on the pipes of a live command, for NetRunner.Process.read_frame/2 and write_frame/3. Of the pipe no
  # more is asked than the frame: what comes behind it waits there, and its writer with it. What was read of a frame that is not
  # given goes back into the handle, whose next read gets it first.

  alias NetRunner.{Frames, Nif, Pipe}

  @type framing :: {Frames.header(), max :: pos_integer}

  @spec read(Pipe.handle(), framing, Pipe.deadline()) ::
          {:ok, binary}
          | :eof
          | {:error, Frames.too_large() | Frames.truncated() | :timeout | :busy | :closed | atom}
  def read(handle, {header, max}, deadline) do
    with {:ok, head} <- exactly(handle, header, deadline, []) do
      case :binary.decode_unsigned(head) do
        0 -> {:ok, ""}
        size when size > max -> give_back(handle, [head], {:error, {:frame_too_large, size}})
        size -> payload(handle, size, deadline, head)
      end
    end
  end

  # One read more, and what it gives is the frame.
  defp payload(handle, size, deadline, head) do
    case exactly(handle, size, deadline, []) do
      {:ok, frame} -> {:ok, frame}
      :eof -> give_back(handle, [head], {:error, {:frame_truncated, size}})
      error -> give_back(handle, [head], error)
    end
  end

  # `read` is what has come so far, the last piece first.
  defp exactly(handle, missing, deadline, read) do
    case Pipe.read(handle, missing, deadline) do
      {:ok, bytes} when byte_size(bytes) < missing ->
        exactly(handle, missing - byte_size(bytes), deadline, [bytes | read])

      {:ok, bytes} when read == [] ->
        {:ok, bytes}

      {:ok, bytes} ->
        {:ok, whole([bytes | read])}

      :eof when read == [] ->
        :eof

      :eof ->
        give_back(handle, read, {:error, {:frame_truncated, missing}})

      {:error, reason} ->
        give_back(handle, read, {:error, reason})
    end
  end

  defp whole(read), do: read |> Enum.reverse() |> IO.iodata_to_binary()

  defp give_back(_handle, [], answer), do: answer

  # Where that cannot be, there is no such pipe any more.
  defp give_back(handle, read, answer),
    do: with(:ok <- Nif.unread(handle, whole(read)), do: answer)

  @spec write(Pipe.handle(), framing, iodata, Pipe.deadline()) ::
          :ok
          | {:error,
             Frames.too_large() | {:timeout, non_neg_integer} | :epipe | :busy | :closed | atom}
  def write(handle, {header, _max}, iodata, deadline) do
    with {:ok, frame} <- Frames.pack(header, iodata), do: Pipe.write(handle, frame, deadline)
  end
end
