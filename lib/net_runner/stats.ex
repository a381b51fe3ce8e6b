defmodule NetRunner.Stats do
  @moduledoc false
  # What can be said of every command without asking anybody: NetRunner.list/0 and top/1 call it, and a
  # server that is stuck, or busy, must not keep them waiting. So a server puts what it knows into the
  # registry; counters are read from the pipes' handles, and what a leader uses from /proc.

  alias NetRunner.Nif

  @pipes [:stdin, :stdout, :stderr]
  @sizes {__MODULE__, :sizes}

  @typedoc "A command as NetRunner.list/0 shows it."
  @type command :: %{
          pid: pid,
          os_pid: pos_integer,
          cmd: [binary, ...],
          owner: pid,
          started_at: DateTime.t(),
          uptime_ms: non_neg_integer,
          state: :running | :stopping | :ended,
          stats: %{stdin: map | nil, stdout: map | nil, stderr: map | nil},
          cpu_ms: non_neg_integer | nil,
          rss_kb: non_neg_integer | nil
        }

  ## What a server says of itself

  @doc """
  What goes into the registry beside the pipes. Each read and write looks up its handle there and gets a
  copy of all of it, so what may be long is one binary, which is not copied.
  """
  @spec about(%{cmd: [binary], owner: pid, guardian_pid: pos_integer}) :: map
  def about(server) do
    began = {System.system_time(:millisecond), System.monotonic_time(:millisecond)}

    %{
      owner: server.owner,
      state: :running,
      about: :erlang.term_to_binary({server.cmd, server.guardian_pid, began})
    }
  end

  @doc "The command of a server, as it registered it; nil once that is gone."
  @spec cmd(pid) :: [binary, ...] | nil
  def cmd(server) do
    case Registry.lookup(NetRunner.Registry, server) do
      [{_pid, known}] -> known.about |> :erlang.binary_to_term() |> elem(0)
      [] -> nil
    end
  end

  @doc "The calling server's state has changed."
  @spec now(:stopping | :ended) :: :ok
  def now(:stopping), do: put_state(:stopping)
  def now(:ended), do: put_state({:ended, System.monotonic_time(:millisecond)})

  @doc "The calling server has another owner."
  @spec owned_by(pid) :: :ok
  def owned_by(owner), do: put(:owner, owner)

  defp put_state(state), do: put(:state, state)

  defp put(key, value) do
    _ = Registry.update_value(NetRunner.Registry, self(), &%{&1 | key => value})
    :ok
  end

  ## What others see of it

  @doc "Every command whose server lives, the oldest first."
  @spec list :: [command]
  # Each look at /proc goes to another scheduler and back. Behind a thousand busy readers each way back is half a second
  # for a process of their priority, and there are three to each command.
  def list do
    priority = Process.flag(:priority, :high)

    try do
      look_at_all()
    after
      Process.flag(:priority, priority)
    end
  end

  defp look_at_all do
    NetRunner.Registry
    |> Registry.select([{{:"$1", :_, :"$2"}, [], [{{:"$1", :"$2"}}]}])
    # The registry forgets a server a moment after its end.
    |> Enum.filter(fn {pid, _known} -> Process.alive?(pid) end)
    |> Enum.map(fn {pid, known} -> {pid, known, :erlang.binary_to_term(known.about)} end)
    # The wall clock may have been set in between.
    |> Enum.sort_by(fn {pid, _known, {_cmd, _guardian, {_at, began}}} -> {began, pid} end)
    |> Enum.map(fn {pid, known, about} -> command(pid, known, about) end)
  end

  defp command(pid, known, {cmd, guardian_pid, {began_at, began}}) do
    {state, until} = state(known.state)

    Map.merge(leader(state, known.os_pid, guardian_pid), %{
      pid: pid,
      os_pid: known.os_pid,
      cmd: cmd,
      owner: known.owner,
      started_at: DateTime.from_unix!(began_at, :millisecond),
      uptime_ms: until - began,
      state: state,
      stats: counters(known.counted)
    })
  end

  defp state({:ended, at}), do: {:ended, at}
  defp state(state), do: {state, System.monotonic_time(:millisecond)}

  @doc "The counters of a command's pipes, nil for those that it does not have."
  @spec counters(%{stdin: term, stdout: term, stderr: term}) :: map
  def counters(handles) do
    for name <- @pipes, into: %{} do
      handle = Map.fetch!(handles, name)
      {name, handle && Nif.handle_info(handle)}
    end
  end

  ## /proc

  @unknown %{cpu_ms: nil, rss_kb: nil}

  # After the end the pid may be somebody else's.
  defp leader(:ended, _os_pid, _guardian_pid), do: @unknown

  defp leader(_state, os_pid, guardian_pid) do
    with {tick_hz, page_bytes} <- sizes(),
         {:ok, stat} <- read("/proc/#{os_pid}/stat"),
         %{parent: ^guardian_pid} = used <- parse(stat) do
      %{
        cpu_ms: div(used.ticks * 1000, tick_hz),
        rss_kb: div(used.pages * page_bytes, 1024)
      }
    else
      _not_to_be_had -> @unknown
    end
  end

  @doc """
  The fields of proc(5)'s stat that are looked at: `ticks` of CPU time, `pages` in memory, and the
  `parent`. That the parent is our guardian makes sure that the pid still means our command.

      iex> NetRunner.Stats.parse("7 (a) b) S 3 7 7 0 -1 0 0 0 0 0 12 30 0 0 20 0 1 0 5 4096 250 0")
      %{parent: 3, ticks: 42, pages: 250}
      iex> NetRunner.Stats.parse("7 (a")
      :error
  """
  @spec parse(binary) ::
          %{parent: integer, ticks: integer, pages: integer} | :error
  def parse(stat) do
    # The command's name, the second field, may hold anything.
    with [_ | _] = ends <- :binary.matches(stat, ")"),
         {at, 1} = List.last(ends),
         fields = stat |> binary_part(at + 1, byte_size(stat) - at - 1) |> String.split(),
         [_state, parent | _] when length(fields) >= 22 <- fields,
         [utime, stime] = Enum.slice(fields, 11, 2),
         {parent, ""} <- Integer.parse(parent),
         {utime, ""} <- Integer.parse(utime),
         {stime, ""} <- Integer.parse(stime),
         {pages, ""} <- Integer.parse(Enum.at(fields, 21)) do
      %{parent: parent, ticks: utime + stime, pages: pages}
    else
      _no_stat -> :error
    end
  end

  # How long a tick and how large a page is, told by the kernel to each program it starts. nil where
  # there is no such thing.
  defp sizes do
    with nil <- :persistent_term.get(@sizes, nil) do
      found =
        case read("/proc/self/auxv") do
          {:ok, auxv} -> sizes(auxv, :erlang.system_info(:wordsize) * 8, %{})
          _none -> nil
        end

      :persistent_term.put(@sizes, found || :none)
      found
    end
  end

  @at_pagesz 6
  @at_clktck 17

  defp sizes(auxv, bits, found) do
    case auxv do
      <<key::native-size(bits), value::native-size(bits), rest::binary>> ->
        sizes(rest, bits, Map.put(found, key, value))

      _end ->
        with %{@at_clktck => hz, @at_pagesz => bytes} when hz > 0 <- found,
             do: {hz, bytes},
             else: (_ -> nil)
    end
  end

  @doc "The beginning of a file of /proc. (File.read/1 asks the file server, which may be busy for somebody else.)"
  @spec read(binary) :: {:ok, binary} | :eof | {:error, atom}
  def read(path) do
    with {:ok, file} <- :file.open(path, [:raw, :binary, :read]) do
      result = :file.read(file, 4096)
      :ok = :file.close(file)
      result
    end
  end
end
