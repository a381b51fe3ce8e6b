defmodule NetRunner.Cut do
  @moduledoc false
  # How the bytes of a pipe become elements: as lines (`lines:`), as frames (`packet:`), or as they come (nil). Called by
  # whoever reads for a user: streams, collections, functions in a pipeline. Which of them it is, only this
  # module asks.

  alias NetRunner.{Frames, Lines}

  @type t :: nil | Lines.t() | Frames.t()
  @type too_long :: {:line_too_long, pos_integer} | Frames.too_large()

  @doc "As options say: those of a call, or of a function between two commands."
  @spec new(map) :: t
  def new(%{lines: separator} = options) when separator != nil,
    do: Lines.new(separator, options.max_line_length)

  def new(%{packet: header} = options) when header != nil,
    do: Frames.new(header, options.max_frame_size)

  def new(_as_they_come), do: nil

  @doc """
  That of each pipe, by its name. Frames are for stdout alone: what is said on stderr is no part of a protocol.
  """
  @spec for_each([name], map) :: %{name => t} when name: :stdout | {:stderr, non_neg_integer}
  def for_each(names, options), do: Map.new(names, &{&1, for_one(&1, new(options))})

  defp for_one({:stderr, _index}, %Frames{}), do: nil
  defp for_one(_name, cut), do: cut

  @doc "The elements that this chunk brought to their end. After an error there is nothing to go on with."
  @spec feed(t, binary) :: {[binary], t} | {:error, too_long, before :: [binary]}
  def feed(nil, chunk), do: {[chunk], nil}
  def feed(%Lines{} = lines, chunk), do: Lines.feed(lines, chunk)
  def feed(%Frames{} = frames, chunk), do: Frames.feed(frames, chunk)

  @doc "The end of the bytes: a last, partial line, or what is wrong with it or with the last frame."
  @spec finish(t) :: [binary] | {:error, too_long | Frames.truncated(), []}
  def finish(nil), do: []
  def finish(%Lines{} = lines), do: Lines.finish(lines)
  def finish(%Frames{} = frames), do: Frames.finish(frames)

  @doc "Whether anything was thrown away, finish/1 included."
  @spec truncated?(t) :: boolean
  def truncated?(%Lines{} = lines), do: Lines.truncated?(lines)
  def truncated?(_others), do: false
end
