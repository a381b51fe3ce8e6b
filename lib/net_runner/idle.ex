defmodule NetRunner.Idle do
  @moduledoc false
  # `idle_timeout:` for who reads a command's output: how long nothing may come. A consumed stderr is read by
  # the command's server, which is busy enough: what came there is looked up a few times while nothing else
  # comes, so a silence is seen late by at most one of these times.

  alias NetRunner.{Nif, Pipe}

  # Looks at a consumed stderr in the time that a silence may last.
  @looks 8

  @enforce_keys [:ms, :until]
  defstruct [:ms, :until, consumed: [], heard: 0]

  @type t :: %__MODULE__{
          ms: timeout,
          until: Pipe.deadline(),
          consumed: [Pipe.handle()],
          heard: non_neg_integer
        }

  @doc "Of a time-out, and the stderrs that are consumed elsewhere. The silence begins now."
  @spec new(timeout, [Pipe.handle()]) :: t
  def new(ms, consumed),
    do: heard(%__MODULE__{ms: ms, until: :infinity, consumed: consumed})

  @doc "None that ever ends."
  @spec never :: t
  def never, do: %__MODULE__{ms: :infinity, until: :infinity}

  @doc "Something came, or is waited for again: a silence begins now."
  @spec heard(t) :: t
  def heard(%{ms: :infinity} = idle), do: idle
  def heard(%{ms: ms} = idle), do: %{idle | until: Pipe.deadline(ms)}

  @doc "When to ask `over/1`."
  @spec deadline(t) :: Pipe.deadline()
  def deadline(%{consumed: [], until: until}), do: until
  def deadline(%{until: :infinity}), do: :infinity

  def deadline(%{ms: ms, until: until}),
    do: Pipe.earlier(until, Pipe.deadline(div(ms, @looks) + 1))

  @doc "Waits for the end of a command whose output has ended, or does not come here."
  @spec await_exit(pid, Pipe.deadline(), t) :: :ended | :timeout | :idle_timeout
  def await_exit(process, deadline, idle) do
    first = Pipe.earlier(deadline, deadline(idle))

    case NetRunner.Process.await_exit(process, Pipe.left(first)) do
      {:error, :timeout} ->
        if Pipe.over?(deadline),
          do: :timeout,
          else: with({:waiting, idle} <- over(idle), do: await_exit(process, deadline, idle))

      _ended ->
        :ended
    end
  end

  @doc "The deadline has come: `:idle_timeout`, or `{:waiting, idle}` for the next one."
  @spec over(t) :: :idle_timeout | {:waiting, t}
  def over(%{consumed: []}), do: :idle_timeout

  def over(%{consumed: consumed, heard: heard} = idle) do
    case consumed |> Enum.map(&Nif.handle_info(&1).bytes) |> Enum.sum() do
      ^heard -> if Pipe.over?(idle.until), do: :idle_timeout, else: {:waiting, idle}
      bytes -> {:waiting, heard(%{idle | heard: bytes})}
    end
  end
end
