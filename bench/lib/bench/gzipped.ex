defmodule Bench.Gzipped do
  @moduledoc false
  # A gzip'd file for those who read logs: lines as a web server writes them, which gzip makes ten times smaller, and
  # at every 4096th byte the stamp of Bench.Stamp. The same MiB again and again, each a member of its own: gzip sees no
  # further back than 32 KiB, and a file of many members is one to zcat.

  alias Bench.Stamp

  @mib 1024 * 1024
  @page 4096
  @paths ~w(/ /index.html /login /cart /api/v1/orders /api/v1/users /img/logo.png /search?q=pipes)
  @agents ["Mozilla/5.0 (X11; Linux x86_64)", "curl/8.5.0", "Mozilla/5.0 (iPhone)", "bot/2.1"]

  @doc "A file which is so many MiB when it is unpacked, made unless it is there."
  @spec file(pos_integer) :: Path.t()
  def file(mib) do
    key = {__MODULE__, mib}

    # It is asked for while clocks run, and to look whether it is the right one takes a gzip.
    with nil <- :persistent_term.get(key, nil) do
      path = Path.join(Mix.Project.build_path(), "stamped-log-#{mib}.gz")
      make(path, mib)
      :persistent_term.put(key, path)
      path
    end
  end

  @doc "The same unpacked, made unless it is there."
  @spec log(pos_integer) :: Path.t()
  def log(mib) do
    path = Path.join(Mix.Project.build_path(), "stamped-log-#{mib}")
    Stamp.made(path, mib * @mib, &File.write!(&1, List.duplicate(block(), mib)))
  end

  defp make(path, mib) do
    member = :zlib.gzip(block())
    size = mib * byte_size(member)
    Stamp.made(path, size, &File.write!(&1, List.duplicate(member, mib)))
  end

  # Always of the same numbers.
  defp block do
    text = lines(:rand.seed_s(:exsss, {1, 2, 3}), @mib, [])
    for at <- 0..(@mib - 1)//@page, into: <<>>, do: page(text, at)
  end

  defp page(text, at), do: <<at::little-64, binary_part(text, at, @page - 8)::binary>>

  defp lines(_random, left, lines) when left <= 0, do: IO.iodata_to_binary(lines)

  defp lines(random, left, lines) do
    {line, random} = line(random)
    lines(random, left - byte_size(line), [lines | line])
  end

  defp line(random) do
    {address, random} = :rand.uniform_s(250, random)
    {second, random} = :rand.uniform_s(60, random)
    {path, random} = :rand.uniform_s(length(@paths), random)
    {bytes, random} = :rand.uniform_s(50_000, random)
    {agent, random} = :rand.uniform_s(length(@agents), random)

    line =
      "10.0.7.#{address} - - [27/Nov/2026:07:21:#{second - 1} +0000] " <>
        "\"GET #{Enum.at(@paths, path - 1)} HTTP/1.1\" 200 #{bytes} \"-\" \"#{Enum.at(@agents, agent - 1)}\"\n"

    {line, random}
  end
end
