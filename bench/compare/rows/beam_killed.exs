defmodule Compare.Rows.BeamKilled do
  @moduledoc false
  @behaviour Compare.Row
  alias Compare.{Library, World}

  def question, do: "Is everything gone when the BEAM is killed (kill -9)?"
  def cgroup?, do: true

  def ask(lib, %{quick?: quick?}) do
    beam = World.boot(lib)

    try do
      started = Library.start_families(&World.tell(beam, &1))
      World.kill(beam.os_pid)
      World.await_end(beam)
      Library.left_of(started, quick?)
    after
      World.kill(beam.os_pid)
    end
  end
end
