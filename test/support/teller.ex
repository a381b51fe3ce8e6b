defmodule NetRunner.Test.Teller do
  @moduledoc """
  A collectable that tells each element to a process as `{:element, element}`, and then `:done` or `:halt`.
  The element `"raise\\n"` makes it raise.
  """

  @enforce_keys [:to]
  defstruct [:to]

  defimpl Collectable do
    def into(%{to: to}) do
      {[],
       fn
         _elements, {:cont, "raise\n"} ->
           raise "the collectable's own"

         elements, {:cont, element} ->
           send(to, {:element, element})
           [element | elements]

         elements, :done ->
           send(to, :done)
           Enum.reverse(elements)

         _elements, :halt ->
           send(to, :halt)
       end}
    end
  end
end
