defmodule NetRunner.Test.FrameModel do
  @moduledoc """
  What `NetRunner.Process.read_frame/2` must answer, for `NetRunner.Test.ProcessModel`: its commands are started with `packet: 1`
  and a `max_frame_size:` of `max/0`, and whatever bytes they have written are taken for frames.
  """

  @max 200

  @doc "The most that a frame may have."
  def max, do: @max

  @doc "Whether what a command has written has an answer in it, or nobody knows before more comes."
  def answers?(unread), do: match?({known, _} when known != :partial, first(unread))

  @doc "What is known of the command after the answer, or `:wrong`."
  def read(%{life: life} = c, answer) do
    over? = life in [:leaving, :ended]

    case {answer, first(c.unread)} do
      {{:ok, frame}, {:frame, {frame, rest}}} -> %{c | unread: rest}
      {{:error, {:frame_too_large, size}}, {:too_large, size}} -> c
      {{:error, :timeout}, {:partial, _missing}} when life == :running -> c
      {{:error, :timeout}, :none} when life == :running -> c
      {:eof, :none} when over? -> c
      {:eof, _lost} when over? and not c.whole? -> %{c | unread: ""}
      {{:error, {:frame_truncated, missing}}, {:partial, missing}} when over? -> c
      {{:error, {:frame_truncated, missing}}, _lost} when over? -> cut(c, missing)
      _other -> :wrong
    end
  end

  # It was killed before it had written the end of that.
  defp cut(%{whole?: false, unread: <<size, _rest::binary>>} = c, missing)
       when missing in 1..size//1 and 1 + size - missing <= byte_size(c.unread),
       do: %{c | unread: binary_part(c.unread, 0, 1 + size - missing)}

  defp cut(_command, _missing), do: :wrong

  defp first(""), do: :none
  defp first(<<size, _rest::binary>>) when size > @max, do: {:too_large, size}

  defp first(<<size, frame::binary-size(size), rest::binary>>), do: {:frame, {frame, rest}}
  defp first(<<size, part::binary>>), do: {:partial, size - byte_size(part)}
end
