defmodule Compare.Rows.Cgroup do
  @moduledoc false
  @behaviour Compare.Row
  import Compare.Row
  alias Compare.{Library, World}

  @mount "/sys/fs/cgroup"

  def question, do: "Can a command have a cgroup (version 2) of its own?"
  def cgroup?, do: true

  def ask(lib, %{tag: tag}) when lib in [:net_runner, :muontrap_cgroup] do
    parent = Path.join(@mount, Library.cgroup_base())
    cmd = World.tagged(["cat", "/proc/self/cgroup"], tag)

    cond do
      not File.exists?(Path.join(@mount, "cgroup.controllers")) ->
        {:cannot, "no cgroup 2 at #{@mount}"}

      File.mkdir_p(parent) != :ok ->
        {:cannot, "#{parent} cannot be made"}

      lib == :net_runner ->
        seen(NetRunner.run(cmd, cgroup: %{parent: parent}))

      true ->
        seen(Library.run(lib, cmd))
    end
  end

  def ask(_lib, _context), do: none()

  defp seen({output, 0}) do
    line = output |> String.split("\n") |> Enum.find("none", &String.starts_with?(&1, "0::"))
    yes?(line =~ "/#{Library.cgroup_base()}/", line)
  end

  defp seen(other), do: {:no, short(other)}
end
