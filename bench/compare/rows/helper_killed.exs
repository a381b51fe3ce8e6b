defmodule Compare.Rows.HelperKilled do
  @moduledoc false
  # The helper is the command's parent. Whose commands are children of the BEAM's own erl_child_setup has none: without that one
  # the BEAM ends.
  @behaviour Compare.Row
  import Compare.Row
  alias Compare.{Library, World}

  def question,
    do:
      "Somebody kills the library's helper of one command: is that command gone, and does another one run on?"

  def cgroup?, do: true

  def ask(lib, _context) when lib in [:system_cmd, :port], do: none("it has no helper")

  def ask(lib, %{quick?: quick?}) do
    Process.flag(:trap_exit, true)
    {one, other} = {World.new_tag(), World.new_tag()}
    {:ok, _} = Library.serve(lib, World.tagged(["sh", "-c", "sleep 300 & wait"], one))
    {:ok, _} = Library.serve(lib, World.tagged(["sleep", "300"], other))
    World.started!(one, 2)
    World.started!(other, 1)
    leader = Enum.find(World.living(one), &(World.name(&1) == "sh"))
    helper = World.parent(leader)

    if World.name(helper) == "erl_child_setup" do
      none("it has no helper")
    else
      name = World.name(helper)
      shared? = other |> World.living() |> hd() |> World.parent() == helper
      World.kill(helper)
      {left, took} = World.left(one, if(quick?, do: 1_500, else: 7_000))
      runs? = World.living(other) != []

      yes?(
        left == [] and runs? and not shared?,
        "#{name} killed: #{length(left)} of 2 processes left after #{took} ms, " <>
          "the other command #{if runs?, do: "runs on", else: "is gone, too"}" <>
          if(shared?, do: ", without the helper that was its own, too", else: "")
      )
    end
  end
end
