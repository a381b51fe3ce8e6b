defmodule NetRunner.Output do
  @moduledoc false
  # What becomes of one pipe's bytes when a command is run to its end: cut to a limit, split into lines,
  # put into a collectable. Pure but for the collectable, whose functions are the user's: whoever makes an
  # Output ends it by finish/1 or halt/1; one whose collectable raises has halted it already.

  alias NetRunner.Lines

  defstruct [:into, :lines, :limit, :overflow, size: 0, truncated?: false, kept: nil]

  @opaque t :: %__MODULE__{}

  @doc """
  `into` is a collectable or :iodata; `lines` nil or a `NetRunner.Lines`; `overflow` what happens beyond
  `limit` bytes: `:kill`, `:head` or `:tail`.
  """
  @spec new(term, Lines.t() | nil, non_neg_integer | :infinity, :kill | :head | :tail) :: t
  def new(into, lines, limit, overflow) do
    kept = if overflow == :tail and limit != :infinity, do: {:queue.new(), 0}
    %__MODULE__{into: open(into), lines: lines, limit: limit, overflow: overflow, kept: kept}
  end

  @doc """
  Takes a chunk. `{:over, output}` when the limit was passed and the command is to be stopped for it,
  `{:error, {:line_too_long, bytes}, output}` for a line that is longer than allowed.
  """
  @spec add(t, binary) ::
          {:ok, t} | {:over, t} | {:error, {:line_too_long, pos_integer}, t}
  def add(%{limit: :infinity} = output, chunk), do: split(output, chunk)

  def add(%{overflow: :tail} = output, chunk), do: {:ok, keep(output, chunk)}

  # What is beyond the limit of :head comes and goes.
  def add(%{limit: limit, size: limit, overflow: :head} = output, _chunk),
    do: {:ok, %{output | truncated?: true}}

  def add(%{limit: limit, size: size} = output, chunk) do
    if size + byte_size(chunk) <= limit do
      split(%{output | size: size + byte_size(chunk)}, chunk)
    else
      output = %{output | size: limit, truncated?: true}

      case split(output, binary_part(chunk, 0, limit - size)) do
        {:ok, output} -> {if(output.overflow == :kill, do: :over, else: :ok), output}
        error -> error
      end
    end
  end

  @doc """
  What was collected, and whether bytes were thrown away; the third is what is wrong with the last line, if
  something is.
  """
  @spec finish(t) :: {term, boolean, nil | {:line_too_long, pos_integer}}
  def finish(%{kept: {_queue, _size}} = output) do
    {output, tail} = take_kept(output)

    # There is no limit to be passed any more, but a line may be too long all the same.
    case split(output, tail) do
      {:ok, output} -> finish(output)
      {:error, too_long, output} -> close(output, too_long)
    end
  end

  def finish(%{lines: nil} = output), do: close(output, nil)

  def finish(%{lines: lines} = output) do
    case Lines.finish(lines) do
      {:error, too_long, []} -> close(%{output | truncated?: true}, too_long)
      found -> close(put_all(found, note_cut(output)), nil)
    end
  end

  defp close(output, too_long), do: {close(output.into), output.truncated?, too_long}

  @doc "What `fun` gives. If it raises, there will be no result: the collectable is let go of."
  @spec or_halt(t, (() -> answer)) :: answer when answer: term
  def or_halt(output, fun) do
    fun.()
  catch
    kind, reason ->
      halt(output)
      :erlang.raise(kind, reason, __STACKTRACE__)
  end

  @doc "Lets go of the collectable without a result."
  @spec halt(t) :: :ok
  def halt(%{into: {:collectable, acc, fun}}) do
    _ = fun.(acc, :halt)
    :ok
  end

  def halt(_output), do: :ok

  ## The end of the output: whole chunks, no more than needed

  defp keep(%{kept: {queue, size}, limit: limit} = output, chunk) do
    drop(%{output | kept: {:queue.in(chunk, queue), size + byte_size(chunk)}}, limit)
  end

  defp drop(%{kept: {queue, size}} = output, limit) do
    with true <- size > limit,
         {{:value, first}, rest} = :queue.out(queue),
         true <- size - byte_size(first) >= limit do
      drop(%{output | kept: {rest, size - byte_size(first)}, truncated?: true}, limit)
    else
      _needed -> output
    end
  end

  defp take_kept(%{kept: {queue, size}, limit: limit} = output) do
    bytes = queue |> :queue.to_list() |> IO.iodata_to_binary()
    over = max(size - limit, 0)
    output = %{output | kept: nil, truncated?: output.truncated? or over > 0}
    {output, binary_part(bytes, over, size - over)}
  end

  ## Lines

  defp split(output, ""), do: {:ok, output}
  defp split(%{lines: nil} = output, chunk), do: {:ok, %{output | into: put(chunk, output.into)}}

  defp split(%{lines: lines} = output, chunk) do
    case Lines.feed(lines, chunk) do
      {found, lines} ->
        {:ok, put_all(found, %{output | lines: lines})}

      {:error, reason, before} ->
        {:error, reason, put_all(before, %{output | lines: nil, truncated?: true})}
    end
  end

  defp put_all(lines, output), do: %{output | into: Enum.reduce(lines, output.into, &put/2)}

  defp note_cut(%{lines: lines} = output),
    do: %{output | truncated?: output.truncated? or Lines.truncated?(lines)}

  ## Collectables; binaries and lists are so common that they have a way of their own

  defp open(""), do: {:binary, []}
  defp open(into) when into in [[], :iodata], do: {:list, []}

  defp open(into) do
    {acc, fun} = Collectable.into(into)
    {:collectable, acc, fun}
  end

  # Only here is the accumulator known when it raises.
  defp put(element, {:collectable, acc, fun}) do
    {:collectable, fun.(acc, {:cont, element}), fun}
  catch
    kind, reason ->
      _ = fun.(acc, :halt)
      :erlang.raise(kind, reason, __STACKTRACE__)
  end

  defp put(element, {kind, elements}), do: {kind, [element | elements]}

  defp close({:binary, [chunk]}), do: chunk
  defp close({:binary, chunks}), do: chunks |> Enum.reverse() |> IO.iodata_to_binary()
  defp close({:list, elements}), do: Enum.reverse(elements)
  defp close({:collectable, acc, fun}), do: fun.(acc, :done)
end
