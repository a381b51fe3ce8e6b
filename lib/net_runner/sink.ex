defmodule NetRunner.Sink do
  @moduledoc """
  A command's stdin as a `Collectable`: what a function given as `input:` is called with.

      iex> NetRunner.run(["cat"], input: fn sink -> Enum.into(["a", [?b, "c"]], sink) end)
      {"abc", 0}
      iex> letters = fn sink -> 1..3 |> Stream.map(&<<&1 + ?a>>) |> Stream.into(sink) |> Stream.run() end
      iex> NetRunner.run(["cat"], input: letters)
      {"bcd", 0}

  Elements are iodata. A full pipe makes the function wait. When the command reads no more, the function
  is left by a throw at its next write: clean up in `after`. One that waits for something else then is ended where it
  waits, and so is one whose command is stopped. When it returns, stdin is closed. It is used in the process that it was
  given to, and only while the function runs.
  """

  @enforce_keys [:ref]
  defstruct [:ref]

  @opaque t :: %__MODULE__{ref: reference}

  @doc false
  # Runs `fun` with a sink. `write.(held, element)` gives {:ok, held}, or an error that ends it;
  # `flush.(held)` is called at the end. What `fun` returns is its own business.
  def run(fun, write, flush) do
    ref = make_ref()
    key = {__MODULE__, ref}
    Process.put(key, {write, NetRunner.Input.nothing()})

    try do
      _ = fun.(%__MODULE__{ref: ref})
      {_write, held} = Process.get(key)
      flush.(held)
    catch
      :throw, {^ref, error} -> error
      kind, reason -> {:raised, kind, reason, __STACKTRACE__}
    after
      Process.delete(key)
    end
  end

  @doc false
  def put(%__MODULE__{ref: ref}, element) do
    case Process.get({__MODULE__, ref}) do
      nil ->
        raise ArgumentError,
              "a sink is for the process and the time of the function it was given to"

      {write, held} ->
        case write.(held, element) do
          {:ok, held} -> Process.put({__MODULE__, ref}, {write, held})
          error -> throw({ref, error})
        end
    end

    :ok
  end

  defimpl Collectable do
    def into(sink) do
      collect = fn
        sink, {:cont, element} ->
          NetRunner.Sink.put(sink, element)
          sink

        sink, :done ->
          sink

        _sink, :halt ->
          :ok
      end

      {sink, collect}
    end
  end
end
