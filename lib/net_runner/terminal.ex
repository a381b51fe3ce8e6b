defmodule NetRunner.Terminal do
  @moduledoc false
  # What `pty:` makes of a command's other options, and the end of an input that is typed. The terminal
  # itself is made by the NIF (csrc/pty.c) and taken by the child (shepherd/exec.c).

  alias NetRunner.{Backend, Nif, Pipe, Protocol}

  @null "/dev/null"

  @doc "The NIF's number of how its pipes are waited for: `NetRunner.Backend.mode/1`, where that can be."
  @spec mode(NetRunner.Options.t()) :: {:ok, 0..2} | {:error, {:backend, String.t()}}
  def mode(%{backend: :io_uring, pty: %{}}),
    do: {:error, {:backend, "a terminal (pty:) is always waited for by poll"}}

  def mode(%{backend: backend}), do: Backend.mode(backend)

  @doc """
  What a SPAWN says of stdin, stdout and stderr in the place of what it would say without a terminal: `:null`
  is the terminal there, and `/dev/null` a file.
  """
  @spec stdio(Protocol.start(), NetRunner.Options.t()) :: Protocol.start()
  def stdio(start, %{pty: false}), do: start

  def stdio(start, options) do
    %{
      start
      | stdin: stdin(start.stdin),
        stdout: output(start.stdout),
        # They cannot be told apart there.
        stderr: if(options.stderr == :consume, do: :null, else: stderr(start.stderr))
    }
  end

  defp stdin(:pipe), do: :null
  defp stdin(:null), do: {:file, @null}
  defp stdin(file), do: file

  defp output(:pipe), do: :null
  defp output(:null), do: {:file, @null, :append, 0o666}
  defp output(file), do: file

  defp stderr(:null), do: output(:null)
  defp stderr(apart_or_merged), do: apart_or_merged

  @doc "The path of a file that could not be opened, from the option that led to it."
  @spec path(:null | :discard | tuple) :: binary
  def path(file) when is_tuple(file), do: elem(file, 1)
  def path(_null), do: @null

  @doc """
  Ends what is written to a command: types the terminal's VEOF, after which more may be written, or closes
  the pipe.
  """
  @spec end_input(Pipe.handle(), Pipe.deadline()) ::
          :ok | {:error, {:timeout, non_neg_integer} | :closed | :busy | atom}
  def end_input(stdin, deadline \\ :infinity) do
    case Nif.terminal_eof(stdin) do
      {:ok, eof} -> stdin |> Pipe.write(eof, deadline) |> nobody_left()
      {:error, :enotty} -> Nif.close(stdin)
      error -> error
    end
  end

  # As for a pipe: who reads no more needs no end.
  defp nobody_left({:error, :epipe}), do: :ok
  defp nobody_left(result), do: result
end
