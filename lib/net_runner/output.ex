defmodule NetRunner.Output do
  @moduledoc false
  # What becomes of the bytes of a pipe, or of several whose bytes are tagged, when a command is run to its end: cut to a limit,
  # made into elements, put into a collectable. Pure but for the collectable, whose functions are the user's, and for the clock: whoever
  # makes an Output ends it by finish/1 or halt/1; one whose collectable raises has halted it already.

  alias NetRunner.{Cut, Frames, Tagged}

  defstruct [:into, :cuts, :form, :limit, :overflow, size: 0, truncated?: false, kept: nil]

  @opaque t :: %__MODULE__{}

  @doc """
  `into` is a collectable or :iodata; `cuts` says how the bytes of each pipe become elements, `form` how these are tagged;
  `overflow` is what happens beyond `limit` bytes: `:kill`, `:head` or `:tail`.
  """
  @spec new(
          term,
          %{Tagged.name() => Cut.t()},
          Tagged.form(),
          non_neg_integer | :infinity,
          :kill | :head | :tail
        ) :: t
  def new(into, cuts, form, limit, overflow) do
    kept = if overflow == :tail and limit != :infinity, do: {:queue.new(), 0}
    output = %__MODULE__{cuts: cuts, form: form, limit: limit, overflow: overflow, kept: kept}
    %{output | into: open(into)}
  end

  @doc "Whether the bytes of several pipes come to it, in an order that matters."
  @spec tagged?(t) :: boolean
  def tagged?(output), do: output.form != :plain

  @doc """
  Takes what was just read from a pipe. `{:over, output}` when the limit was passed and the command is to be stopped for it,
  `{:error, reason, output}` for a line or a frame that is longer than allowed.
  """
  @spec add(t, Tagged.name(), binary) :: {:ok, t} | {:over, t} | {:error, Cut.too_long(), t}
  def add(%{form: form} = output, name, chunk), do: add(output, name, Tagged.stamp(form), chunk)

  defp add(%{limit: :infinity} = output, name, stamp, chunk),
    do: split(output, name, stamp, chunk)

  defp add(%{overflow: :tail} = output, name, stamp, chunk),
    do: {:ok, keep(output, {name, stamp, chunk}, byte_size(chunk))}

  # What is beyond the limit of :head comes and goes.
  defp add(%{limit: limit, size: limit, overflow: :head} = output, _name, _stamp, _chunk),
    do: {:ok, %{output | truncated?: true}}

  defp add(%{limit: limit, size: size} = output, name, stamp, chunk) do
    if size + byte_size(chunk) <= limit do
      split(%{output | size: size + byte_size(chunk)}, name, stamp, chunk)
    else
      output = %{output | size: limit, truncated?: true}

      case split(output, name, stamp, binary_part(chunk, 0, limit - size)) do
        {:ok, output} -> {if(output.overflow == :kill, do: :over, else: :ok), output}
        error -> error
      end
    end
  end

  @doc """
  One of its pipes has ended. A last, partial line is found now and not at the end of all, where others are tagged with it.
  """
  @spec ended(t, Tagged.name()) :: {:ok, t} | {:error, Cut.too_long(), t}
  def ended(%{form: :plain} = output, _name), do: {:ok, output}

  def ended(%{kept: {_queue, _size}, form: form} = output, name),
    do: {:ok, keep(output, {name, Tagged.stamp(form), :eof}, 0)}

  def ended(%{form: form} = output, name), do: last(output, name, Tagged.stamp(form))

  @doc """
  What was collected, and whether bytes were thrown away; the third is what is wrong with the last line or frame, if
  something is.
  """
  @spec finish(t) :: {term, boolean, nil | Cut.too_long() | Frames.truncated()}
  def finish(%{kept: {_queue, _size}} = output) do
    {output, tail} = take_kept(output)

    # There is no limit to be passed any more, but a line may be too long all the same.
    case split_kept(tail, output) do
      {:ok, output} -> finish(output)
      {:error, too_long, output} -> close(output, too_long)
    end
  end

  # One after the other: a line that is too long is told of once.
  def finish(%{cuts: cuts} = output) do
    case cuts |> Map.keys() |> Enum.sort() do
      [] ->
        close(output, nil)

      [name | _others] ->
        case last(output, name, Tagged.stamp(output.form)) do
          {:ok, output} -> finish(output)
          {:error, reason, output} -> close(output, reason)
        end
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

  defp keep(%{kept: {queue, size}, limit: limit} = output, read, bytes),
    do: drop(%{output | kept: {:queue.in(read, queue), size + bytes}}, limit)

  defp drop(%{kept: {queue, size}} = output, limit) do
    with true <- size > limit,
         {{:value, first}, rest} = :queue.out(queue),
         true <- size - bytes(first) >= limit do
      drop(%{output | kept: {rest, size - bytes(first)}, truncated?: true}, limit)
    else
      _needed -> output
    end
  end

  defp bytes({_name, _stamp, :eof}), do: 0
  defp bytes({_name, _stamp, chunk}), do: byte_size(chunk)

  # The first of them is still whole.
  defp take_kept(%{kept: {queue, size}, limit: limit} = output) do
    over = max(size - limit, 0)
    output = %{output | kept: nil, truncated?: output.truncated? or over > 0}
    {output, queue |> :queue.to_list() |> behind(over)}
  end

  defp behind(kept, 0), do: kept

  defp behind([{name, stamp, chunk} | rest], over) when is_binary(chunk),
    do: [{name, stamp, binary_part(chunk, over, byte_size(chunk) - over)} | rest]

  defp behind([eof | rest], over), do: [eof | behind(rest, over)]

  defp split_kept(kept, output) do
    Enum.reduce_while(kept, {:ok, output}, fn {name, stamp, read}, {:ok, output} ->
      case if(read == :eof, do: last(output, name, stamp), else: split(output, name, stamp, read)) do
        {:ok, output} -> {:cont, {:ok, output}}
        error -> {:halt, error}
      end
    end)
  end

  ## Elements

  defp split(output, _name, _stamp, ""), do: {:ok, output}

  defp split(%{cuts: cuts} = output, name, stamp, chunk) do
    case Cut.feed(Map.fetch!(cuts, name), chunk) do
      {found, nil} ->
        {:ok, put_all(found, name, stamp, output)}

      {found, cut} ->
        {:ok, put_all(found, name, stamp, %{output | cuts: %{cuts | name => cut}})}

      {:error, reason, before} ->
        output = %{output | cuts: %{}, truncated?: true}
        {:error, reason, put_all(before, name, stamp, output)}
    end
  end

  defp last(%{cuts: cuts} = output, name, stamp) do
    {cut, cuts} = Map.pop!(cuts, name)
    output = %{output | cuts: cuts}

    case Cut.finish(cut) do
      # Of a frame that was cut off by the limit, that is told.
      {:error, {:frame_truncated, _missing}, []} when output.truncated? ->
        {:ok, output}

      {:error, reason, []} ->
        {:error, reason, %{output | truncated?: true}}

      found ->
        truncated? = output.truncated? or Cut.truncated?(cut)
        {:ok, put_all(found, name, stamp, %{output | truncated?: truncated?})}
    end
  end

  defp put_all(found, name, stamp, output) do
    elements = Tagged.elements(found, output.form, name, stamp)
    %{output | into: Enum.reduce(elements, output.into, &put/2)}
  end

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
