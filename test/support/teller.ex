defmodule NetRunner.Test.Teller do
  @moduledoc """
  A collectable that tells each element to a process as `{:element, element}`, and then `:done`, or
  `{:halt, elements}`: what its accumulator has by then. With `hold?: true` each element is held until `:go_on` comes.
  The element `"raise\\n"` makes it raise, or `"raise"` among lines.
  """

  @enforce_keys [:to]
  defstruct [:to, hold?: false]

  defimpl Collectable do
    def into(%{to: to, hold?: hold?}) do
      {[],
       fn
         _elements, {:cont, raise}
         when raise in ["raise\n", "raise"] or elem(raise, 1) == "raise\n" ->
           raise "the collectable's own"

         elements, {:cont, element} ->
           send(to, {:element, element})
           if hold?, do: receive(do: (:go_on -> :ok))
           [element | elements]

         elements, :done ->
           send(to, :done)
           Enum.reverse(elements)

         elements, :halt ->
           send(to, {:halt, Enum.reverse(elements)})
       end}
    end
  end
end
