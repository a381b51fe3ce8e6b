defmodule NetRunner.Process.Stdin do
  @moduledoc """
  The stdin of a live command as a `Collectable`: from `NetRunner.Process.stdin/2`.
  """

  @enforce_keys [:process]
  defstruct [:process, :cmd, close: false, timeout: :infinity]

  # Nobody tells the command of a process that has ended.
  @opaque t :: %__MODULE__{
            process: pid,
            cmd: [binary, ...] | nil,
            close: boolean,
            timeout: timeout
          }

  @doc false
  @spec new(pid, keyword) :: t
  def new(process, opts) do
    unless Keyword.keyword?(opts), do: raise(ArgumentError, "options must be a keyword list")

    stdin = %__MODULE__{process: process, cmd: NetRunner.Stats.cmd(process)}

    Enum.reduce(opts, stdin, fn
      {:close, close}, stdin when is_boolean(close) ->
        %{stdin | close: close}

      {:timeout, timeout}, stdin
      when timeout == :infinity or (is_integer(timeout) and timeout >= 0) ->
        %{stdin | timeout: timeout}

      {name, _value}, _stdin when name in [:close, :timeout] ->
        raise ArgumentError,
              "#{name} of NetRunner.Process.stdin/2 must be " <>
                if(name == :close, do: "a boolean", else: "milliseconds or :infinity")

      {name, _value}, _stdin ->
        raise ArgumentError, "unknown option #{inspect(name)} for NetRunner.Process.stdin/2"
    end)
  end

  @doc false
  @spec write(t, iodata) :: t
  def write(stdin, element) do
    # A write that went wrong halfway would look like one of the pipe's.
    iovec = NetRunner.Input.check!(element, "")

    case NetRunner.Process.write_element(stdin.process, iovec, stdin.timeout) do
      :ok -> stdin
      {:error, reason} -> fail(reason, stdin)
    end
  end

  @spec fail(NetRunner.Error.reason(), t) :: no_return
  defp fail(reason, stdin), do: raise(NetRunner.Error, reason: reason, cmd: stdin.cmd)

  @doc false
  @spec done(t) :: t
  def done(%{close: false} = stdin), do: stdin

  def done(stdin) do
    case NetRunner.Process.close_stdin(stdin.process, stdin.timeout) do
      :ok -> stdin
      # So it is, if its command is gone.
      {:error, :closed} -> stdin
      {:error, reason} -> fail(reason, stdin)
    end
  end

  defimpl Collectable do
    alias NetRunner.Process.Stdin

    def into(stdin) do
      collect = fn
        stdin, {:cont, element} -> Stdin.write(stdin, element)
        stdin, :done -> Stdin.done(stdin)
        _stdin, :halt -> :ok
      end

      {stdin, collect}
    end
  end
end
