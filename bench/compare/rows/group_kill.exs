defmodule Compare.Rows.GroupKill do
  @moduledoc false
  @behaviour Compare.Row
  import Compare.Row
  alias Compare.{Library, World}
  @compile {:no_warn_undefined, [Exile.Process, :exec]}

  def question, do: "Is there a call that ends the command and its background job?"
  def cgroup?, do: true

  def ask(lib, %{tag: tag}) do
    Process.flag(:trap_exit, true)
    cmd = World.tagged(["sh", "-c", "sleep 300 & wait"], tag)

    case start(lib, cmd) do
      {call, end_it} when is_function(end_it) ->
        World.started!(tag, 2)
        # Whoever watches has had the time to begin with it, which no library tells.
        Process.sleep(200)
        end_it.()
        {left, took} = World.left(tag, 3_000)
        yes?(left == [], "#{call}: #{length(left)} of 2 processes left after #{took} ms")

      answer ->
        answer
    end
  end

  defp start(:net_runner, [exe | args]) do
    {:ok, p} = NetRunner.Process.start(exe, args, drain_timeout: 60_000)
    {"Process.kill(p, :sigkill)", fn -> NetRunner.Process.kill(p, :sigkill) end}
  end

  defp start(:exile, cmd) do
    {:ok, p} = Exile.Process.start_link(cmd)
    {"Process.kill(p, :sigkill)", fn -> Exile.Process.kill(p, :sigkill) end}
  end

  defp start(:erlexec, cmd) do
    {:ok, pid, _os_pid} = :exec.run_link(Library.argv(cmd), [:kill_group, group: 0])
    {"stop(pid) with [{:group, 0}, :kill_group]", fn -> :exec.stop(pid) end}
  end

  defp start(lib, cmd) when lib in [:muontrap, :muontrap_cgroup] do
    {:ok, pid} = Library.serve(lib, cmd)
    {"GenServer.stop(daemon)", fn -> GenServer.stop(pid) end}
  end

  defp start(:ex_cmd, _cmd), do: none("it sends no signals")
  defp start(_built_in, _cmd), do: none()
end
