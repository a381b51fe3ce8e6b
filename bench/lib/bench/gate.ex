defmodule Bench.Gate do
  @moduledoc """
  What many commands wait at until all of them have started (`c/producer.c`): a FIFO that a shell holds
  open for writing, until it is told to end.
  """

  # It also ends, and clears up, if its owner dies, which closes its stdin and breaks its stdout.
  @script ~s(trap 'rm "$1"' EXIT; trap exit HUP INT TERM PIPE; mkfifo "$1"; exec 3<>"$1"; echo shut; read _)

  @type t :: %{path: Path.t(), holder: port}

  @spec shut :: t
  def shut do
    name = "bench-gate-#{System.pid()}-#{System.unique_integer([:positive])}"
    path = Path.join(System.tmp_dir!(), name)
    shell = {:spawn_executable, System.find_executable("sh")}
    holder = Port.open(shell, [:binary, :exit_status, args: ["-c", @script, "sh", path]])

    receive do
      {^holder, {:data, "shut\n"}} -> %{path: path, holder: holder}
    end
  end

  @doc "Lets all go who have it open."
  @spec open(t) :: :ok
  def open(%{holder: holder}) do
    Port.command(holder, "\n")

    receive do
      {^holder, {:exit_status, 0}} -> :ok
    end
  end
end
