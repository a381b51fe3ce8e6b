defmodule NetRunner.Pipeline.Link do
  @moduledoc false
  # The stages of a pipeline as a user gives them become links here, each looked at by itself: a command with its own
  # options (whose values nobody has looked at yet), a function, or a tee. What the options come to, NetRunner.Plan knows.

  alias NetRunner.{Command, Executable}
  alias NetRunner.Options.Type

  @typedoc """
  A function between two commands, how what it reads is cut for it, and how many bytes of what it gives are put together to a
  write. A nil was not given.
  """
  @type via :: %{
          number: pos_integer,
          fun: (Enumerable.t() -> Enumerable.t()),
          lines: nil | binary,
          max_line_length: term,
          max_chunk_size: nil | pos_integer,
          buffer: nil | non_neg_integer
        }

  @type file :: {:file, binary, :truncate | :append, non_neg_integer}
  @type command :: {:command, [binary, ...], own :: keyword}
  @type t :: command | {:via, via} | {:tee, file | command}

  @via %{
    lines: :separator,
    max_line_length: :line_limit,
    max_chunk_size: {:integer, 1, 268_435_456},
    buffer: {:integer, 0, 16_777_216}
  }

  @nothing_asked %{lines: nil, max_line_length: :infinity, max_chunk_size: nil, buffer: nil}

  @doc "All of them: the first is a command, the last one is no function."
  @spec all([term]) :: {:ok, [t, ...]} | {:error, NetRunner.Error.reason()}
  def all(stages) do
    stages
    |> Enum.with_index(1)
    |> Enum.reduce_while([], fn {stage, number}, links ->
      case one(stage, number) do
        {:ok, link} -> {:cont, [link | links]}
        {:error, reason} -> {:halt, {:error, of_stage(reason, number)}}
      end
    end)
    |> case do
      {:error, reason} -> {:error, reason}
      links -> links |> Enum.reverse() |> check_ends(List.first(links))
    end
  end

  @doc "What is wrong, with the number of the stage where it is."
  @spec of_stage(tuple, pos_integer) :: NetRunner.Error.reason()
  def of_stage({kind, what}, number), do: {kind, "stage #{number}: #{what}"}

  def of_stage({:invalid, option, what}, number),
    do: {:invalid, option, "stage #{number}: #{what}"}

  @doc "The same of what is of a wrong type, which is raised."
  @spec in_stage(pos_integer) :: String.t()
  def in_stage(number), do: "stage #{number} of the pipeline: "

  @spec wrong!(pos_integer, String.t()) :: no_return
  def wrong!(number, what), do: raise(ArgumentError, in_stage(number) <> what)

  defp check_ends([], nil), do: invalid("a pipeline without a stage")

  defp check_ends(_links, {:via, _via}),
    do:
      invalid("a pipeline that ends with a function: make a stream of it, and call the function")

  defp check_ends([{:command, _cmd, _own} | _] = links, _last), do: {:ok, links}

  defp check_ends(_links, _last),
    do: invalid("a pipeline begins with a command: what it reads is given as input:")

  defp invalid(what), do: {:error, {:invalid_cmd, what}}

  defp one(fun, number) when is_function(fun, 1), do: one({fun, []}, number)

  defp one({fun, opts}, number) when is_function(fun, 1) do
    unless Keyword.keyword?(opts),
      do: wrong!(number, "the options of a function must be a keyword list")

    via(opts, Map.merge(@nothing_asked, %{fun: fun, number: number}))
  end

  defp one({:tee, path}, number) when is_binary(path), do: one({:tee, path, []}, number)

  defp one({:tee, _path, _opts} = tee, number) do
    case Type.check({:stdio_or_tee, []}, tee) do
      {:ok, tee} -> {:ok, tee}
      {:invalid, what} -> invalid(what)
      {:wrong, expected} -> wrong!(number, "a tee is #{expected}")
    end
  end

  defp one({:tee, command}, number) do
    with {:ok, command} <- command(command, number), do: {:ok, {:tee, command}}
  end

  defp one(command, number), do: command(command, number)

  defp command(command, number) do
    {cmd, own} = Command.resolve(command, [])

    unless Keyword.keyword?(own), do: wrong!(number, "options must be a keyword list")

    with {:ok, cmd} <- Executable.check_cmd(cmd), do: {:ok, {:command, cmd, own}}
  end

  defp via([], %{lines: nil, max_line_length: {_, _}}),
    do: {:error, {:invalid, :max_line_length, "there are no lines without lines:"}}

  defp via([], via), do: {:ok, {:via, via}}

  defp via([{name, value} | rest], %{number: number} = via) do
    unless is_map_key(@via, name),
      do: wrong!(number, "unknown option #{inspect(name)} for a function")

    case Type.check(@via[name], value) do
      :ok ->
        via(rest, %{via | name => value})

      {:ok, value} ->
        via(rest, %{via | name => value})

      {:invalid, what} ->
        {:error, {:invalid, name, what}}

      {:wrong, expected} ->
        wrong!(number, "#{name} of a function must be #{expected}")
    end
  end
end
