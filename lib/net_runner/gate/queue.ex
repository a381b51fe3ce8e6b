defmodule NetRunner.Gate.Queue do
  @moduledoc false
  # Who is in and who waits, in the order of their coming: what NetRunner.Gate knows, without processes. A place is any term, and
  # is entered once. Nobody waits while there is room.

  @enforce_keys [:limit, :max]
  defstruct [:limit, :max, in: %{}, numbers: %{}, waiting: :gb_trees.empty(), next: 0]

  @type place :: term
  @type t :: %__MODULE__{
          limit: non_neg_integer,
          max: non_neg_integer,
          in: %{place => true},
          numbers: %{place => non_neg_integer},
          waiting: :gb_trees.tree(non_neg_integer, place),
          next: non_neg_integer
        }

  @doc "`limit` places, and as many as `max` may wait for one."
  @spec new(non_neg_integer, non_neg_integer) :: t
  def new(limit, max), do: %__MODULE__{limit: limit, max: max}

  @doc "One that does not wait is in, or it is not: `:taken`."
  @spec enter(t, place, waits? :: boolean) :: {:go | :wait | :full | :taken, t}
  def enter(%{in: in_it, limit: limit} = queue, place, _waits?) when map_size(in_it) < limit,
    do: {:go, %{queue | in: Map.put(in_it, place, true)}}

  def enter(queue, _place, false), do: {:taken, queue}

  def enter(%{numbers: numbers, max: max} = queue, _place, true) when map_size(numbers) >= max,
    do: {:full, queue}

  def enter(%{next: number} = queue, place, true) do
    waiting = :gb_trees.insert(number, place, queue.waiting)
    numbers = Map.put(queue.numbers, place, number)
    {:wait, %{queue | waiting: waiting, numbers: numbers, next: number + 1}}
  end

  @doc "It is in no more, or waits no more: who may go now, the first first."
  @spec leave(t, place) :: {[place], t}
  def leave(%{in: in_it} = queue, place) when is_map_key(in_it, place),
    do: admit(%{queue | in: Map.delete(in_it, place)}, [])

  def leave(queue, place) do
    case Map.pop(queue.numbers, place) do
      {nil, _numbers} ->
        {[], queue}

      {number, numbers} ->
        {[], %{queue | numbers: numbers, waiting: :gb_trees.delete(number, queue.waiting)}}
    end
  end

  @doc "Who may go now. Those who are in stay in."
  @spec set_limit(t, non_neg_integer) :: {[place], t}
  def set_limit(queue, limit), do: admit(%{queue | limit: limit}, [])

  @spec info(t) :: %{limit: non_neg_integer, running: non_neg_integer, waiting: non_neg_integer}
  def info(queue),
    do: %{limit: queue.limit, running: map_size(queue.in), waiting: map_size(queue.numbers)}

  defp admit(%{in: in_it, numbers: numbers, limit: limit} = queue, go)
       when map_size(in_it) < limit and map_size(numbers) > 0 do
    {_number, place, waiting} = :gb_trees.take_smallest(queue.waiting)

    admit(
      %{
        queue
        | in: Map.put(in_it, place, true),
          numbers: Map.delete(numbers, place),
          waiting: waiting
      },
      [place | go]
    )
  end

  defp admit(queue, go), do: {Enum.reverse(go), queue}
end
