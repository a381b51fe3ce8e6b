defmodule NetRunner.Tagged do
  @moduledoc false
  # `stderr: :tagged` and `{:tagged, :timestamps}`: what is read from several pipes as one sequence of elements, each with the
  # name of where it is from, and when that was. Called by whoever reads for a user, in the process that reads. Which form it is,
  # only this module asks.
  #
  # The time is taken right after the read, by whoever reads, so it never goes back from one element to the next. What lay
  # unread in a pipe meanwhile has no time of its own: the kernel keeps none (docs/decisions/0012).

  @type form :: :plain | :tags | :timestamps
  @type stamp :: nil | integer
  @type name :: :stdout | {:stderr, non_neg_integer}

  @doc "Whether the option `stderr:` asks for one of these."
  defguard is_tagged(stderr) when stderr in [:tagged, {:tagged, :timestamps}]

  @doc "What the option `stderr:` asks for."
  @spec form(term) :: form
  def form(:tagged), do: :tags
  def form({:tagged, :timestamps}), do: :timestamps
  def form(_one_of_the_others), do: :plain

  @doc "The time of what was just read, where it is wanted."
  @spec stamp(form) :: stamp
  def stamp(:timestamps), do: System.monotonic_time()
  def stamp(_no_time), do: nil

  @doc """
  What was found in a pipe, as users get it.

      iex> NetRunner.Tagged.elements(["a", "b"], :timestamps, {:stderr, 0}, 17)
      [{:stderr, "a", 17}, {:stderr, "b", 17}]
  """
  @spec elements([binary], form, name, stamp) :: [
          binary | {:stdout | :stderr, binary} | {:stdout | :stderr, binary, integer}
        ]
  def elements(found, :plain, _name, nil), do: found

  def elements(found, :tags, name, nil) do
    tag = tag(name)
    Enum.map(found, &{tag, &1})
  end

  def elements(found, :timestamps, name, stamp) do
    tag = tag(name)
    Enum.map(found, &{tag, &1, stamp})
  end

  defp tag(:stdout), do: :stdout
  defp tag({:stderr, _index}), do: :stderr
end
