defmodule NetRunner.Daemon.UserCode do
  @moduledoc false
  # Runs a function that a user gave (`wait_for:`, `ready:`, `exit_reason:`) in a process of its own,
  # linked to the daemon's server: it may block for ever or kill itself, and the server goes on
  # answering. The server gets `{:answer, pid, answer}`, or the EXIT of a process that was killed.

  @type answer ::
          {:ok, term} | {:raised, :error | :exit | :throw, term, Exception.stacktrace()}

  @spec start_link((() -> term), [pid]) :: pid
  def start_link(fun, callers) do
    server = self()

    :proc_lib.spawn_link(fn ->
      Process.put(:"$callers", [server | callers])
      send(server, {:answer, self(), run(fun)})
    end)
  end

  defp run(fun) do
    {:ok, fun.()}
  catch
    kind, reason -> {:raised, kind, reason, __STACKTRACE__}
  end

  @doc "The exit reason that a process would have had in which this happened."
  @spec reason(answer) :: term
  def reason({:raised, :error, reason, stacktrace}),
    do: {Exception.normalize(:error, reason, stacktrace), stacktrace}

  def reason({:raised, :throw, value, stacktrace}), do: {{:nocatch, value}, stacktrace}
  def reason({:raised, :exit, reason, _stacktrace}), do: reason
end
