defmodule NetRunner.Daemon.Reader do
  @moduledoc false
  # The process that starts a daemon's command and reads its output, both pipes by itself, from the first
  # byte to the last. It cuts it into lines, looks in them for what says that the command is ready,
  # counts them, and hands them to the consumer. Nothing of it passes through the server, which is
  # told three things: `{:launched, pid, {:ok, process, os_pid} | {:error, reason}}`, `{:ready, pid}`, and by its
  # normal end that the output is over.
  #
  # With `overflow: :block` it waits for the consumer, and the command for it. Only while it looks for what
  # says that the command is ready does it read on, as far as the queue has room: on_output may have to wait
  # for somebody who waits for start_link/1. With `:drop` it waits for nothing but the pipes, so it never calls
  # user code or Logger.

  alias NetRunner.{Lines, Options, Pipe, Tagged}
  alias NetRunner.Daemon.{Consumer, Counters, Log, Ready}

  # What one read may bring: the most that is held beside the queue.
  @read_max 65_536
  @queue_bytes 4_194_304
  # Dropping is over when nothing was dropped for this long.
  @calm_ms 1_000

  @spec start_link([binary, ...], Options.t(), Counters.t(), Log.t(), Consumer.t() | nil, [pid]) ::
          pid
  def start_link(cmd, options, counters, log, consumer, callers) do
    server = self()

    :proc_lib.spawn_link(fn ->
      Process.put(:"$callers", [server | callers])

      case launch(cmd, options, server) do
        {:ok, process, os_pid} ->
          send(server, {:launched, self(), {:ok, process, os_pid}})
          if consumer, do: Consumer.begin(consumer, os_pid)

          read(%{
            server: server,
            handles: handles(process),
            armed: %{},
            framers: framers(options),
            form: if(is_function(options.on_output, 3), do: :timestamps, else: :tags),
            stamp: nil,
            says_ready?: Ready.matcher(options.ready),
            counters: counters,
            consumer: consumer,
            overflow: options.overflow,
            max_queue: options.max_queue,
            dropping: nil,
            log: %{log | os_pid: os_pid}
          })

        error ->
          send(server, {:launched, self(), error})
      end
    end)
  end

  # It is the server whose death stops the command.
  defp launch(cmd, options, server) do
    look_in = Map.take(options, [:look_in])
    options = options |> Options.take(:process) |> Map.merge(look_in) |> Map.put(:owner, server)

    with {:ok, process} <- NetRunner.Process.start_checked(cmd, options, false),
         {:ok, os_pid} <- NetRunner.Process.os_pid(process),
         do: {:ok, process, os_pid}
  end

  # Where an output goes elsewhere there is nothing to read.
  defp handles(process) do
    for stream <- [:stdout, :stderr],
        {:ok, handle} <- [NetRunner.Process.handle(process, stream)],
        do: {stream, handle}
  end

  defp framers(options) do
    for stream <- [:stdout, :stderr],
        into: %{},
        do: {stream, Lines.new(options.lines, options.max_line_length)}
  end

  defp read(%{handles: []} = state), do: over(state)

  defp read(state) do
    armed = Pipe.heard(state.armed)

    case Pipe.read_either(state.handles, @read_max, calm_at(state), armed) do
      {stream, {:ok, chunk}, armed} ->
        Counters.add(state.counters, stream, :bytes, byte_size(chunk))

        %{state | armed: armed, handles: Pipe.turn(state.handles, stream)}
        |> stamp()
        |> feed(stream, chunk)
        |> read()

      # Closed is what a pipe is when the command's server was killed.
      {stream, over, armed} when over in [:eof, {:error, :closed}] ->
        %{state | armed: armed, handles: List.keydelete(state.handles, stream, 0)}
        |> stamp()
        |> finish(stream)
        |> read()

      {stream, {:error, reason}, _armed} ->
        give_up(state, {:output, {stream, reason}})

      {:timeout, armed} ->
        read(calm(%{state | armed: armed}))
    end
  end

  # The time of whatever lines this read brings to their end.
  defp stamp(state), do: %{state | stamp: Tagged.stamp(state.form)}

  defp feed(state, stream, chunk) do
    case Lines.feed(state.framers[stream], chunk) do
      {lines, framer} ->
        take(%{state | framers: %{state.framers | stream => framer}}, stream, lines)

      {:error, {:line_too_long, limit}, lines} ->
        state |> take(stream, lines) |> give_up({:line_too_long, stream, limit})
    end
  end

  defp finish(state, stream) do
    case Lines.finish(state.framers[stream]) do
      lines when is_list(lines) -> take(state, stream, lines)
      {:error, {:line_too_long, limit}, _none} -> give_up(state, {:line_too_long, stream, limit})
    end
  end

  defp over(state) do
    state = calm(state)
    if state.consumer, do: Consumer.over(state.consumer)
    :ok
  end

  # No crash to be reported. What came before has been handed over, and is still delivered.
  @spec give_up(map, term) :: no_return
  defp give_up(state, reason) do
    over(state)
    exit({:shutdown, reason})
  end

  defp take(state, _stream, []), do: state

  defp take(state, stream, lines) do
    Counters.add(state.counters, stream, :lines, length(lines))
    state |> look_for_ready(lines) |> hand_over(stream, lines)
  end

  # Before they are handed over, which may take as long as it likes.
  defp look_for_ready(%{says_ready?: nil} = state, _lines), do: state

  defp look_for_ready(state, lines) do
    if Enum.any?(lines, state.says_ready?) do
      send(state.server, {:ready, self()})
      %{state | says_ready?: nil}
    else
      state
    end
  end

  defp hand_over(%{consumer: nil} = state, _stream, _lines), do: state

  defp hand_over(%{overflow: :block, says_ready?: nil} = state, stream, lines) do
    Consumer.hand_over(state.consumer, {stream, state.stamp}, Enum.map(lines, &own/1))
    state
  end

  defp hand_over(state, stream, lines) do
    {queued, bytes} = Counters.queued(state.counters)

    case fit(lines, state.max_queue - queued, @queue_bytes - bytes, queued == 0, []) do
      {lines, []} ->
        enqueue(state, stream, lines)
        calm_if_long(state)

      {fit, left} when state.overflow == :drop ->
        enqueue(state, stream, fit)
        drop(state, stream, length(left))

      {_fit, _left} ->
        hand_over(%{state | says_ready?: nil}, stream, lines)
        state
    end
  end

  defp enqueue(_state, _stream, []), do: :ok

  defp enqueue(state, stream, lines) do
    size = lines |> Enum.map(&byte_size/1) |> Enum.sum()
    Counters.enqueue(state.counters, length(lines), size)
    Consumer.enqueue(state.consumer, {stream, state.stamp}, Enum.map(lines, &own/1))
  end

  # A line that is larger than any room may wait alone.
  defp fit([line | rest], room, bytes, empty?, fit)
       when room > 0 and (byte_size(line) <= bytes or empty?),
       do: fit(rest, room - 1, bytes - byte_size(line), false, [line | fit])

  defp fit(rest, _room, _bytes, _empty?, fit), do: {Enum.reverse(fit), rest}

  # A line that is kept must not keep the whole chunk that it came in.
  defp own(line) do
    if :binary.referenced_byte_size(line) > 2 * byte_size(line),
      do: :binary.copy(line),
      else: line
  end

  ## Dropping: told when it begins and when it is over, not line by line

  defp drop(state, stream, n) do
    Counters.add(state.counters, stream, :dropped, n)
    now = System.monotonic_time(:millisecond)

    case state.dropping do
      nil ->
        Log.aside(
          state.log,
          :warning,
          "drops lines of its command: on_output is slower, #{state.max_queue} lines may wait"
        )

        %{state | dropping: %{since: now, last: now, count: n}}

      dropping ->
        %{state | dropping: %{dropping | last: now, count: dropping.count + n}}
    end
  end

  defp calm_at(%{dropping: nil}), do: :infinity
  defp calm_at(%{dropping: dropping}), do: dropping.last + @calm_ms

  defp calm_if_long(%{dropping: nil} = state), do: state

  defp calm_if_long(state),
    do: if(Pipe.over?(calm_at(state)), do: calm(state), else: state)

  defp calm(%{dropping: nil} = state), do: state

  defp calm(%{dropping: dropping} = state) do
    Log.aside(
      state.log,
      :warning,
      "drops no more lines: #{dropping.count} were dropped within #{dropping.last - dropping.since} ms"
    )

    %{state | dropping: nil}
  end
end
