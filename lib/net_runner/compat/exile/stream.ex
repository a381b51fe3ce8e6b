defmodule NetRunner.Compat.Exile.Stream do
  @moduledoc false
  # The enumerable of NetRunner.Compat.Exile: one command under our hands, for Exile tells what NetRunner.stream!/2 does
  # not: how a command ended whose output nobody wanted to the end, and whether it refused input then. Started when
  # enumeration starts, gone when it ends.

  alias NetRunner.{Compat, Error, Sink}
  alias NetRunner.Compat.Exile.Options

  defmodule AbnormalExit do
    @moduledoc """
    Raised by `NetRunner.Compat.Exile.stream!/2`: the command ended with an exit status that is not 0
    (`exit_status`); and by both streams when they were halted early, `exit_status: :epipe` where input was left over.
    """

    @type t :: %__MODULE__{message: String.t(), exit_status: non_neg_integer | :epipe}

    defexception [:message, :exit_status]

    @impl true
    def exception(:epipe),
      do: %__MODULE__{message: "program exited due to :epipe error", exit_status: :epipe}

    def exception(status) when is_integer(status),
      do: %__MODULE__{message: "program exited with exit status: #{status}", exit_status: status}
  end

  # What a command is given to end by itself when nobody reads any more.
  @halted_ms 5_000

  @spec new([binary, ...], keyword, map) :: Enumerable.t()
  def new(cmd, options, own) do
    fn acc, fun ->
      # An exception of the consumer's must not be hidden behind what it made of the command.
      raised = :counters.new(1, [])

      Stream.resource(fn -> start(cmd, options, own) end, &next/1, fn state ->
        close(state, :counters.get(raised, 1) > 0)
      end)
      |> Enumerable.reduce(acc, fn element, acc ->
        try do
          fun.(element, acc)
        catch
          kind, reason ->
            :counters.add(raised, 1, 1)
            :erlang.raise(kind, reason, __STACKTRACE__)
        end
      end)
    end
  end

  defp start(cmd, options, own) do
    # What became of the input: in a table of its own, for messages could be taken for the consumer's.
    notes = :ets.new(__MODULE__, [:public])
    options = Keyword.put(options, :input, input(own.input, notes))

    case Compat.start(cmd, options, false) do
      {:ok, process} ->
        %{
          cmd: cmd,
          own: own,
          process: process,
          notes: notes,
          read:
            if(options[:stderr] == :pipe,
              do: &NetRunner.Process.read_any/2,
              else: &NetRunner.Process.read/2
            )
        }

      {:error, reason} ->
        :ets.delete(notes)
        raise Error, reason: reason, cmd: cmd
    end
  end

  defp input(:none, _notes), do: :null

  defp input(given, notes) do
    fn %Sink{ref: ref} = sink ->
      try do
        if is_function(given, 1), do: given.(sink), else: Enum.into(given, sink)
      catch
        # How the sink is left when the command takes no more.
        :throw, {^ref, _error} = refused ->
          :ets.insert(notes, {:input, :epipe})
          throw(refused)

        kind, reason ->
          :ets.insert(notes, {:input, {:raised, kind, reason, __STACKTRACE__}})
          :erlang.raise(kind, reason, __STACKTRACE__)
      end
    end
  end

  defp next(:over), do: {:halt, :over}

  defp next(state) do
    case state.read.(state.process, state.own.max_chunk_size) do
      {:ok, element} -> {[element], state}
      :eof -> ended(state)
      {:error, reason} -> fail(reason, state)
    end
  end

  # Its output has ended: what is left of its input is its own business.
  defp ended(state) do
    {status, _refused?} = finish(state, state.own.exit_timeout)

    case state.own.exit do
      :element -> {[{:exit, {:status, status}}], :over}
      :raise when status == 0 -> {:halt, :over}
      :raise -> raise AbnormalExit, status
    end
  end

  defp close(:over, _raised?), do: :ok
  defp close(state, true), do: leave(state)

  # Halted early, or over in an exception of ours, of which nothing is left.
  defp close(state, false) do
    if Process.alive?(state.process) do
      for name <- [:stdout, :stderr],
          do: NetRunner.Compat.Exile.Pipes.close_end(name, state.process)

      {status, refused?} = finish(state, min(state.own.exit_timeout, @halted_ms))

      cond do
        state.own.ignore_epipe -> :ok
        refused? -> raise AbnormalExit, :epipe
        status != 0 -> raise AbnormalExit, status
        true -> :ok
      end
    end
  end

  # The exit status, and whether a piece of the input was refused. Once its server is gone, nobody writes it any more.
  defp finish(state, exit_timeout) do
    case Options.await_exit(state.process, exit_timeout) do
      {:ok, status} ->
        case leave(state) do
          [input: {:raised, kind, reason, stacktrace}] -> :erlang.raise(kind, reason, stacktrace)
          noted -> {status, noted == [input: :epipe]}
        end

      {:error, reason} ->
        fail(reason, state)
    end
  end

  @spec fail(Error.reason(), map) :: no_return
  defp fail(reason, state) do
    leave(state)
    raise Error, reason: reason, cmd: state.cmd
  end

  defp leave(state) do
    _ = NetRunner.Process.stop(state.process)
    noted = :ets.lookup(state.notes, :input)
    :ets.delete(state.notes)
    noted
  end
end
