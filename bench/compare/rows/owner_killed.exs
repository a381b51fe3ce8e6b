defmodule Compare.Rows.OwnerKilled do
  @moduledoc false
  @behaviour Compare.Row
  alias Compare.Library

  def question, do: "Is everything gone when the Erlang process that started it is killed?"
  def cgroup?, do: true

  def ask(lib, %{quick?: quick?}) do
    started = Library.start_families(fn cmd -> spawn(fn -> Library.hold(lib, cmd) end) end)
    for {owner, _tag, _family} <- started, do: Process.exit(owner, :kill)
    Library.left_of(started, quick?)
  end
end
