defmodule NetRunner.Progress.Listener do
  @moduledoc false
  # A user's function that is told of progress. It runs in a process of its own, so that it may take as long as it likes: who
  # is not back yet is not told, but for the last time. If it raises, that is logged, and was the last time.

  require Logger
  alias NetRunner.Log

  @enforce_keys [:process, :about]
  defstruct [:process, :about, :last, busy?: false]

  @type t :: %__MODULE__{}

  @spec new((NetRunner.progress() -> term), map) :: t
  def new(fun, about) do
    keeper = self()

    process =
      spawn_link(fn ->
        Process.put(:"$callers", about.callers)
        call(fun, about, keeper)
      end)

    %__MODULE__{process: process, about: about}
  end

  # What else the function lets come to its mailbox stays there.
  defp call(fun, about, keeper) do
    receive do
      {^keeper, :tell, stats} ->
        try do
          fun.(stats)
        catch
          kind, reason -> failed(about, kind, reason, __STACKTRACE__)
        else
          _any ->
            send(keeper, {self(), :told})
            call(fun, about, keeper)
        end
    end
  end

  @spec tell(t, NetRunner.progress()) :: t
  def tell(%{busy?: true} = listener, _stats), do: listener

  def tell(listener, stats) do
    send(listener.process, {self(), :tell, stats})
    %{listener | busy?: true}
  end

  @doc "As `tell/2`, the last time: if it is busy, as soon as it is not."
  @spec last(t, NetRunner.progress()) :: t
  def last(%{busy?: true} = listener, stats), do: %{listener | last: stats}
  def last(listener, stats), do: tell(listener, stats)

  @doc "A message that has come to the calling process. `:over` when nothing can be told any more."
  @spec heard(t, term) :: {:ok, t} | :over
  def heard(%{process: process} = listener, {process, :told}) do
    case listener do
      %{last: nil} -> {:ok, %{listener | busy?: false}}
      %{last: stats} -> {:ok, tell(%{listener | busy?: false, last: nil}, stats)}
    end
  end

  def heard(%{process: process, about: about}, {:EXIT, process, reason}) do
    # It has said why itself, unless it was killed.
    if reason != :normal, do: failed(about, :exit, reason, [])
    :over
  end

  def heard(listener, _other), do: {:ok, listener}

  @doc "Whether it is back from the last time."
  @spec said?(t) :: boolean
  def said?(listener), do: not listener.busy?

  @doc "It is not told any more, and where it still is, ended."
  @spec leave(t) :: :ok
  def leave(listener) do
    Process.exit(listener.process, :kill)
    :ok
  end

  defp failed(about, kind, reason, stacktrace) do
    Logger.error(
      "NetRunner tells no more progress of #{about.name}, the function for it failed:\n" <>
        Exception.format(kind, reason, stacktrace),
      Log.metadata(
        command: about.name,
        os_pid: about.os_pid,
        crash_reason: {Exception.normalize(kind, reason, stacktrace), stacktrace}
      )
    )
  end
end
