defmodule NetRunner.Daemon.Consumer do
  @moduledoc false
  # The process in which a daemon's on_output runs, and nothing else: whatever it does there (blocks,
  # raises, receives what is not its own) touches neither the pipes nor the server.
  #
  # The reader hands it lines, many in one message. Either it waits for `{ref, :taken}`, or it has
  # entered them into the queue (NetRunner.Daemon.Counters), out of which each line is taken once on_output has
  # returned from it. The queue is this process's mailbox.
  #
  # Linked to the server, which ends it when the rest of the output took too long.

  alias NetRunner.Daemon.{Counters, Log}
  alias NetRunner.Tagged

  @type t :: {pid, reference}

  @typedoc "Where lines are from, and when they were read, if on_output wants to know."
  @type from :: {Counters.stream(), Tagged.stamp()}

  @over {:shutdown, :over}

  @doc "Whether one ended like that because it was told that the output is over."
  @spec over?(term) :: boolean
  def over?(reason), do: reason == @over

  @spec start_link(NetRunner.Options.t(), Counters.t(), Log.t(), [pid]) :: t
  def start_link(options, counters, log, callers) do
    server = self()
    ref = make_ref()

    pid =
      :proc_lib.spawn_link(fn ->
        Process.put(:"$callers", [server | callers])

        receive do
          {^ref, {:begin, os_pid}} ->
            log = %{log | os_pid: os_pid}

            take(%{ref: ref, counters: counters, log: log, sink: sink(options.on_output, log)})
        end
      end)

    {pid, ref}
  end

  @doc "The command runs: its lines will follow."
  @spec begin(t, pos_integer) :: :ok
  def begin({pid, ref}, os_pid), do: tell(pid, ref, {:begin, os_pid})

  @doc "Hands lines over and waits until on_output has returned from each."
  @spec hand_over(t, from, [binary]) :: :ok
  def hand_over({pid, ref}, from, lines) do
    tell(pid, ref, {:lines, from, lines, self()})

    # Linked to the same server: if the consumer dies, the server ends whoever waits here.
    receive do
      {^ref, :taken} -> :ok
    end
  end

  @doc "Hands lines over that have been entered into the queue."
  @spec enqueue(t, from, [binary]) :: :ok
  def enqueue({pid, ref}, from, lines), do: tell(pid, ref, {:lines, from, lines, nil})

  @doc "No more lines will come: it ends after the last."
  @spec over(t) :: :ok
  def over({pid, ref}), do: tell(pid, ref, :over)

  defp tell(pid, ref, what) do
    send(pid, {ref, what})
    :ok
  end

  defp take(%{ref: ref} = state) do
    receive do
      {^ref, {:lines, from, lines, nil}} ->
        Enum.each(lines, fn line ->
          give(state, from, line)
          Counters.enqueue(state.counters, -1, -byte_size(line))
        end)

        take(state)

      {^ref, {:lines, from, lines, reader}} ->
        Enum.each(lines, &give(state, from, &1))
        send(reader, {ref, :taken})
        take(state)

      # Its end may be heard of before that of the reader, and must not look like that of a process that
      # somebody ended.
      {^ref, :over} ->
        exit(@over)
    end
  end

  defp give(state, {stream, stamp}, line) do
    state.sink.(stream, line, stamp)
  catch
    kind, reason ->
      Log.raised(state.log, stream, line, kind, reason, __STACKTRACE__)
      Counters.raised(state.counters)
  end

  defp sink(:log, log), do: log |> Log.sink() |> sink(log)
  defp sink(fun, _log) when is_function(fun, 1), do: fn _stream, line, _stamp -> fun.(line) end

  defp sink(fun, _log) when is_function(fun, 2),
    do: fn stream, line, _stamp -> fun.(stream, line) end

  defp sink(fun, _log), do: fun
end
