defmodule NetRunner.Input do
  @moduledoc false
  # The feeder: a process of the command's server that writes `input:` into stdin and closes it. It
  # is a process of its own because an enumerable may block for as long as it likes while output has
  # to be read and time-outs have to fire.

  alias NetRunner.Pipe

  @type outcome ::
          :ok
          | {:error, :epipe | :closed}
          | {:broken, atom}
          | {:raised, :error | :exit | :throw, term, Exception.stacktrace()}

  @doc """
  Starts the feeder, linked to the calling server, which gets `{:fed, pid, outcome}`. `callers` are the
  processes on whose behalf it evaluates the enumerable.
  """
  @spec start_link(Pipe.handle(), term, [pid]) :: pid
  def start_link(stdin, input, callers) do
    server = self()

    spawn_link(fn ->
      Process.put(:"$callers", callers)
      outcome = stdin |> feed(input) |> judge()
      # Broken off, stdin stays open until the server has begun to stop the command: an end of
      # input would tell it that what it read was all.
      unless broken?(outcome), do: NetRunner.Nif.close(stdin)
      send(server, {:fed, self(), outcome})
    end)
  end

  @doc "Whether the command got less than it was to get, and not because it wanted no more."
  @spec broken?(outcome) :: boolean
  def broken?(outcome), do: match?({:broken, _}, outcome) or match?({:raised, _, _, _}, outcome)

  # A command that does not want the rest is no error of the caller's.
  defp judge({:error, reason}) when reason not in [:epipe, :closed], do: {:broken, reason}
  defp judge(outcome), do: outcome

  defp feed(stdin, input) when is_binary(input), do: Pipe.write(stdin, input, :infinity)

  defp feed(stdin, input) when is_list(input) do
    case iovec(input) do
      {:ok, iovec} -> Pipe.write(stdin, iovec, :infinity)
      :error -> feed_each(stdin, input)
    end
  end

  defp feed(stdin, input), do: feed_each(stdin, input)

  # A list may be iodata as a whole or an enumerable whose elements are checked one by one.
  defp iovec(list) do
    {:ok, :erlang.iolist_to_iovec(list)}
  rescue
    ArgumentError -> :error
  end

  defp feed_each(stdin, enumerable) do
    if is_list(enumerable) and List.improper?(enumerable), do: check!(enumerable)

    Enum.reduce_while(enumerable, :ok, fn element, :ok ->
      case Pipe.write(stdin, check!(element), :infinity) do
        :ok -> {:cont, :ok}
        error -> {:halt, error}
      end
    end)
  catch
    kind, reason -> {:raised, kind, reason, __STACKTRACE__}
  end

  defp check!(element) do
    :erlang.iolist_to_iovec(element)
  rescue
    ArgumentError ->
      reraise ArgumentError,
              [
                message:
                  "invalid value for :input: an element is not iodata: " <>
                    inspect(element, limit: 5, printable_limit: 100)
              ],
              __STACKTRACE__
  end
end
