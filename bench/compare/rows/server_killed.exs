defmodule Compare.Rows.ServerKilled do
  @moduledoc false
  @behaviour Compare.Row
  import Compare.Row
  alias Compare.Library

  def question,
    do: "Is everything gone when the library's own Erlang process for the command is killed?"

  def cgroup?, do: true

  def ask(lib, _context) when lib in [:system_cmd, :port], do: none("it has no such process")

  def ask(lib, %{quick?: quick?}) do
    Process.flag(:trap_exit, true)

    started =
      Library.start_families(fn cmd ->
        {:ok, server} = Library.serve(lib, cmd)
        server
      end)

    for {server, _tag, _family} <- started, do: Process.exit(server, :kill)
    Library.left_of(started, quick?)
  end
end
