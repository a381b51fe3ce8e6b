defmodule Compare.Rows.Daemon do
  @moduledoc false
  # What a library does not offer as a child is put under the supervisor as well as its calls allow.
  @behaviour Compare.Row
  import Compare.Row
  alias Compare.{Library, World}
  @compile {:no_warn_undefined, [Exile.Process, ExCmd.Process, MuonTrap.Daemon, :exec]}

  def question,
    do:
      "Under a supervisor: is a killed command started again, and is it gone with the supervisor?"

  def ask(lib, %{tag: tag}) do
    Process.flag(:trap_exit, true)

    case Supervisor.start_link([child(lib, World.tagged(["sleep", "300"], tag))],
           strategy: :one_for_one
         ) do
      {:ok, supervisor} -> watch(supervisor, tag)
      {:error, reason} -> {:no, "start: #{short(reason)}"}
    end
  end

  defp watch(supervisor, tag) do
    World.started!(tag, 1)
    [first] = World.living(tag)
    World.kill(first)
    again? = World.await(3_000, fn -> World.living(tag) not in [[], [first]] end)
    Process.alive?(supervisor) && Supervisor.stop(supervisor)
    {left, took} = World.left(tag, 3_000)

    yes?(
      again? != nil and left == [],
      "killed: #{if again?, do: "started again", else: "not started again within 3 s"}; the supervisor stopped: " <>
        if(left == [], do: "gone after #{took} ms", else: "still there 3 s later")
    )
  end

  defp child(:net_runner, cmd), do: {NetRunner.Daemon, cmd: cmd}
  defp child(:muontrap, [exe | args]), do: {MuonTrap.Daemon, [exe, args]}
  defp child(:exile, cmd), do: %{id: :it, start: {Exile.Process, :start_link, [cmd]}}
  defp child(:ex_cmd, cmd), do: %{id: :it, start: {ExCmd.Process, :start_link, [cmd]}}
  defp child(:erlexec, cmd), do: %{id: :it, start: {:exec, :run_link, [Library.argv(cmd), []]}}

  defp child(built_in, cmd),
    do: Supervisor.child_spec({Task, fn -> Library.run(built_in, cmd) end}, restart: :permanent)
end
