defmodule NetRunner.Idle do
  @moduledoc false
  # `idle_timeout:` for who reads a command's output: how long nothing may come. A consumed stderr is read by
  # the command's server, so what came there is looked up when the time is over: then a silence may last
  # up to twice as long before it is one.

  alias NetRunner.{Nif, Pipe}

  @enforce_keys [:ms]
  defstruct [:ms, :stderr, heard: 0]

  @type t :: %__MODULE__{ms: timeout, stderr: Pipe.handle() | nil, heard: non_neg_integer}

  @doc "From a call's options and the pipes of its command (`NetRunner.Process.pipes/1`)."
  @spec new(NetRunner.Options.t(), map) :: t
  def new(%{idle_timeout: ms, stderr: :consume}, pipes),
    do: %__MODULE__{ms: ms, stderr: pipes.counted.stderr}

  def new(%{idle_timeout: ms}, _pipes), do: %__MODULE__{ms: ms}

  @doc "None that ever ends."
  @spec never :: t
  def never, do: %__MODULE__{ms: :infinity}

  @doc "When a silence that begins now has lasted too long."
  @spec deadline(t) :: Pipe.deadline()
  def deadline(%{ms: ms}), do: Pipe.deadline(ms)

  @doc "Waits for the end of a command whose output has ended, or does not come here."
  @spec await_exit(pid, Pipe.deadline(), t) :: :ended | :timeout | :idle_timeout
  # Whoever concludes waits for the end anyhow.
  def await_exit(_process, :infinity, %{ms: :infinity}), do: :ended

  def await_exit(process, deadline, idle) do
    first = Pipe.earlier(deadline, deadline(idle))

    case NetRunner.Process.await_exit(process, Pipe.left(first)) do
      {:error, :timeout} ->
        if Pipe.over?(deadline),
          do: :timeout,
          else: with({:heard, idle} <- over(idle), do: await_exit(process, deadline, idle))

      _ended ->
        :ended
    end
  end

  @doc "The deadline has come: `:idle_timeout`, or `{:heard, idle}` for the next one."
  @spec over(t) :: :idle_timeout | {:heard, t}
  def over(%{stderr: nil}), do: :idle_timeout

  def over(%{stderr: stderr, heard: heard} = idle) do
    case Nif.handle_info(stderr) do
      %{bytes: ^heard} -> :idle_timeout
      %{bytes: bytes} -> {:heard, %{idle | heard: bytes}}
    end
  end
end
