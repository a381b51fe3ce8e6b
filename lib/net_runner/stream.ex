defmodule NetRunner.Stream do
  @moduledoc false
  # A command as a lazy enumerable: started when enumeration starts, in the process that enumerates,
  # read one element at a time (that is the back-pressure), stopped and gone when enumeration ends,
  # whichever way it ends. It can be enumerated again: each time is a new run.

  alias NetRunner.{ExitError, Pipe}

  @spec new([binary, ...], NetRunner.Options.t()) :: Enumerable.t()
  def new(cmd, options) do
    Stream.resource(
      fn -> start(cmd, options) end,
      &next/1,
      &close/1
    )
  end

  defp start(cmd, options) do
    with {:ok, process} <- NetRunner.Process.start_checked(cmd, options, false),
         {:ok, stdout} <- NetRunner.Process.handle(process, :stdout) do
      %{cmd: cmd, options: options, process: process, stdout: stdout, status: :running}
    else
      {:error, reason} -> raise NetRunner.Error, reason: reason, cmd: cmd
    end
  end

  defp next(%{status: :over} = state), do: {:halt, state}

  defp next(state) do
    case Pipe.read(state.stdout, state.options.max_chunk_size, :infinity) do
      {:ok, chunk} -> {[chunk], state}
      :eof -> finish(state)
      {:error, reason} -> raise NetRunner.Error, reason: reason, cmd: state.cmd
    end
  end

  defp finish(state) do
    with {:ok, conclusion} <- NetRunner.Process.conclude(state.process, :infinity),
         :ok <- NetRunner.fed(conclusion) do
      ended(state.options.exit, conclusion, %{state | status: :over})
    else
      {:error, reason} ->
        raise NetRunner.Error, reason: reason, cmd: state.cmd
    end
  end

  defp ended(:ignore, _conclusion, state), do: {:halt, state}
  defp ended(:element, conclusion, state), do: {[{:exit, conclusion.exit}], state}

  defp ended(:raise, %{exit: exit} = conclusion, state) do
    if success?(exit, state.options.ok) do
      {:halt, state}
    else
      raise ExitError,
        cmd: state.cmd,
        exit: exit,
        status: NetRunner.Process.status(exit),
        stderr: conclusion.stderr_tail
    end
  end

  defp success?({:exited, code}, ok), do: code in ok
  defp success?({:signaled, _signal}, _ok), do: false

  defp close(%{status: :over}), do: :ok

  # Halted early, or the consumer raised: nobody reads the rest.
  defp close(state) do
    NetRunner.Nif.close(state.stdout)
    NetRunner.Process.stop(state.process)
  end
end
