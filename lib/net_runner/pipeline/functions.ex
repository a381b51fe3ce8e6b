defmodule NetRunner.Pipeline.Functions do
  @moduledoc false
  # The functions between two commands: what each is given of what the one before it gave, what goes on to be written, and what
  # is said where one gives something else than it must. Called by NetRunner.Running, in the feeder of the second command. It knows
  # of no command and no pipe.

  alias NetRunner.{Cut, Input}
  alias NetRunner.Pipeline.Link

  @doc "Has them work on what the first one reads: each element of the last one's is given to `write`, as it is to be written."
  @spec each([Link.via(), ...], Enumerable.t(), ([binary] -> term)) :: :ok
  def each([first | behind], read, write) do
    {elements, last} =
      Enum.reduce(behind, {call(first, read), first}, fn via, {elements, before} ->
        {call(via, cut(elements, before, via)), via}
      end)

    Enum.each(elements, &write.(Input.check!(&1, said_of(last))))
  end

  defp call(via, elements) do
    given = via.fun.(elements)

    unless enumerable?(given) do
      raise ArgumentError,
            said_of(via) <>
              "the function must give an enumerable of iodata, and gave #{kind(given)}"
    end

    given
  end

  defp said_of(via), do: Link.in_stage(via.number)

  # What one asks for that reads another one's elements. Only where there is something to cut do they have to be iodata.
  defp cut(elements, before, via) do
    case Cut.new(via) do
      nil ->
        elements

      cut ->
        Stream.transform(
          elements,
          fn -> cut end,
          &split(Input.check!(&1, said_of(before)), &2),
          &finish/1,
          fn _cut -> :ok end
        )
    end
  end

  # Not at the next element, which may never come.
  defp split(element, cut) do
    case Cut.feed(cut, IO.iodata_to_binary(element)) do
      {found, cut} -> {found, cut}
      {:error, too_long, found} -> {Stream.concat(found, Stream.map([too_long], &fail/1)), cut}
    end
  end

  defp finish(cut) do
    case Cut.finish(cut) do
      {:error, too_long, []} -> fail(too_long)
      found -> {found, cut}
    end
  end

  @spec fail(Cut.too_long()) :: no_return
  defp fail(too_long), do: raise(NetRunner.Error, reason: too_long)

  defp enumerable?(given) when is_list(given), do: not List.improper?(given)
  defp enumerable?(given) when is_function(given), do: is_function(given, 2)
  defp enumerable?(given), do: Enumerable.impl_for(given) != nil

  # Not the value itself: it may be all of the data.
  defp kind(nil), do: "nil"
  defp kind(given) when is_binary(given), do: "a binary"
  defp kind(given) when is_atom(given), do: "an atom"
  defp kind(given) when is_number(given), do: "a number"
  defp kind(given) when is_tuple(given), do: "a tuple"
  defp kind(given) when is_list(given), do: "an improper list"
  defp kind(%module{}), do: "a struct of #{inspect(module)}"

  defp kind(given) when is_function(given) do
    {:arity, arity} = Function.info(given, :arity)
    "a function of #{arity} #{if arity == 1, do: "argument", else: "arguments"}"
  end

  defp kind(_given), do: "something else"
end
