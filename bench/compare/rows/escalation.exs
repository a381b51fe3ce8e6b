defmodule Compare.Rows.Escalation do
  @moduledoc false
  # The command ignores SIGTERM. Asked with a grace of 1 s and of 2 s (erlexec knows whole seconds only).
  @behaviour Compare.Row
  import Compare.Row
  alias Compare.{Library, World}
  @compile {:no_warn_undefined, [Exile.Process, ExCmd.Process, MuonTrap.Daemon, :exec]}

  def question, do: "Does SIGKILL follow SIGTERM, after a time that one can set?"

  def ask(lib, _context) when lib in [:system_cmd, :port], do: none()

  def ask(lib, _context) do
    Process.flag(:trap_exit, true)
    [one, two] = for grace <- [1_000, 2_000], do: time(lib, grace)

    seen = "asked for 1000 and 2000 ms, gone after #{one} and #{two} ms"

    cond do
      not (is_integer(one) and is_integer(two)) -> {:no, seen}
      one in 900..1_700 and two in 1_900..2_700 -> {:yes, seen}
      # It came sooner, and later when more was asked for.
      one < 1_700 and two in (one + 300)..2_700 -> {:part, seen}
      true -> {:no, seen}
    end
  end

  defp time(lib, grace) do
    tag = World.new_tag()
    end_it = start(lib, World.tagged(["sh", "-c", "trap '' TERM; exec sleep 300"], tag), grace)
    World.started!(tag, 1)
    World.await(5_000, fn -> Enum.map(World.living(tag), &World.name/1) == ["sleep"] end)
    # Some of these calls come back when it is over, others at once.
    since = World.now()
    spawn(end_it)
    World.await(8_000, fn -> World.living(tag) == [] end) || throw(:never)
    World.now() - since
  catch
    :never -> "more than 8000"
  end

  defp start(:net_runner, [exe | args], grace) do
    {:ok, p} = NetRunner.Process.start(exe, args, kill_timeout: grace)
    fn -> NetRunner.Process.stop(p) end
  end

  # Only who started it may wait for it.
  defp start(:exile, cmd, grace), do: awaiting(Exile.Process, cmd, grace)
  defp start(:ex_cmd, cmd, grace), do: awaiting(ExCmd.Process, cmd, grace)

  defp start(:muontrap, [exe | args], grace) do
    {:ok, pid} = MuonTrap.Daemon.start_link(exe, args, delay_to_sigkill: grace)
    fn -> GenServer.stop(pid) end
  end

  defp start(:erlexec, cmd, grace) do
    {:ok, pid, _os_pid} = :exec.run_link(Library.argv(cmd), kill_timeout: div(grace, 1_000))
    fn -> :exec.stop(pid) end
  end

  defp awaiting(module, cmd, grace) do
    owner =
      spawn(fn ->
        {:ok, p} = module.start_link(cmd)

        receive do
          :end_it -> module.await_exit(p, grace)
        end
      end)

    fn -> send(owner, :end_it) end
  end
end
