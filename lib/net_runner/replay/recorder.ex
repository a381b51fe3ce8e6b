defmodule NetRunner.Replay.Recorder do
  @moduledoc false
  # Runs a command and writes down how it goes: for NetRunner.Test.record/3. It reads both outputs as they come, in the
  # calling process; what the command is fed is written down by its feeder, when it is handed over. It never keeps a
  # value of an environment.

  alias NetRunner.{Command, Options, Pipe, Result, Signal}
  alias NetRunner.Replay.Cassette

  @read_max 65_536
  # Reads of one stream that follow each other so closely are one event, or no two recordings would be alike.
  @one_event_us 1_000

  # How it is read is for this module, and whose terminal it would be for nobody.
  @ours [:stdout, :stderr, :pty, :owner]

  @spec record(Path.t(), [binary, ...] | Command.t(), keyword) ::
          {:ok, Result.t()} | {:error, NetRunner.Error.reason()}
  def record(path, cmd, opts) do
    {cmd, opts} = cmd |> Command.for_call(:process) |> Command.resolve(opts)
    unless Keyword.keyword?(opts), do: raise(ArgumentError, "options must be a keyword list")

    theirs = Options.names(:process) -- @ours
    {own, opts} = Keyword.split(opts, Options.names(:record))

    # Before the schema does: it would name the call whose options these are.
    for {name, _value} <- Options.named(opts), name not in theirs do
      raise ArgumentError, "unknown option #{inspect(name)} for NetRunner.Test.record/3"
    end

    with {:ok, own} <- Options.validate(own, :record),
         # A pipe that nobody writes would keep a filter waiting.
         {:ok, options} <- Options.validate([input: :null] ++ opts, :process),
         {:ok, cmd} <- NetRunner.Executable.check_cmd(cmd),
         {:ok, input, packet} <- input(options.input, options.packet) do
      log = :ets.new(:stdin, [:public, :ordered_set])

      try do
        # The headers are put before the frames here, or they would not be in the log.
        tapped = tapped(input, packet, log)
        ours = %{stderr: :pipe, input: tapped, packet: nil, replay: false}
        run(path, cmd, Map.merge(options, ours), own, log)
      after
        :ets.delete(log)
      end
    end
  end

  defp run(path, cmd, options, own, log) do
    with {:ok, process} <- NetRunner.Process.start_checked(cmd, options, false) do
      try do
        began = now()
        deadline = Pipe.deadline(own.timeout)

        with {:ok, output} <- read(process, deadline, []),
             {:ok, result} <- result(process, deadline),
             {:ok, ending} <- ending(result) do
          ended = now()
          events = timed(pieces(log, own.keep_stdin) ++ joined(output), began, ended)
          write(path, cassette(cmd, options, events ++ [{ended - began, ending}]))
          {:ok, %{result | stdout: all(output, :stdout), stderr: all(output, :stderr)}}
        end
      after
        NetRunner.Process.stop(process)
      end
    end
  end

  # What was handed over before the start was known to have gone well was there from the beginning.
  defp timed(events, began, ended) do
    for({at, what} <- events, do: {(min(at, ended) - began) |> max(0), what})
    |> Enum.sort_by(&elem(&1, 0))
  end

  ## What it says

  defp read(process, deadline, output) do
    case NetRunner.Process.read_any(process, @read_max, Pipe.left(deadline)) do
      {:ok, chunk} ->
        output = [{now(), chunk} | output]

        # One that never pauses has its time-out all the same.
        if Pipe.over?(deadline),
          do: stop(process, output),
          else: read(process, deadline, output)

      :eof ->
        {:ok, Enum.reverse(output)}

      {:error, :timeout} ->
        stop(process, output)

      {:error, reason} ->
        {:error, reason}
    end
  end

  defp stop(process, output) do
    _ = NetRunner.Process.stop_for(process, :timeout)
    read(process, :infinity, output)
  end

  defp result(process, deadline) do
    with {:error, :timeout} <- NetRunner.Process.result(process, Pipe.left(deadline)) do
      _ = NetRunner.Process.stop_for(process, :timeout)
      NetRunner.Process.result(process, :infinity)
    end
  end

  defp ending(%Result{cause: :timeout, exit: {_, _} = exit}), do: {:ok, {:stopped, ended(exit)}}

  defp ending(%Result{cause: cause, exit: {_, _} = exit})
       when cause in [:exited, :signaled, :oom],
       do: {:ok, ended(exit)}

  defp ending(%Result{error: nil, exit: nil}), do: {:error, :guardian_lost}
  defp ending(%Result{error: nil}), do: {:error, :closed}
  defp ending(%Result{error: reason}), do: {:error, reason}

  defp ended({:exited, code}), do: {:exit, code}
  defp ended({:signaled, signal}), do: {:signal, Signal.resolve(signal)}

  # From the last one to the first, each with the time of its first byte.
  defp joined(output) do
    output
    |> Enum.reduce([], fn
      {at, {stream, bytes}}, [{first, last, stream, before} | rest]
      when at - last < @one_event_us ->
        [{first, at, stream, [before | bytes]} | rest]

      {at, {stream, bytes}}, events ->
        [{at, at, stream, bytes} | events]
    end)
    |> Enum.reverse()
    |> Enum.map(fn {at, _last, stream, bytes} -> {at, {stream, IO.iodata_to_binary(bytes)}} end)
  end

  defp all(output, stream),
    do: for({_at, {^stream, bytes}} <- output, into: "", do: bytes)

  ## What it is told

  # Its elements, and whether they are frames.
  defp input(:pipe, _packet), do: invalid("nobody would write it")

  defp input(fun, _packet) when is_function(fun, 1),
    do: invalid("a function of a sink cannot be recorded")

  defp input(:null, _packet), do: {:ok, :null, nil}
  defp input(binary, packet) when is_binary(binary), do: {:ok, [binary], packet}

  # It is fed, or nobody would know what the command took; and has its own headers, if any.
  defp input({:file, path}, _packet) do
    with {:ok, file} <- File.open(path, [:read, :raw, :binary]) do
      File.close(file)

      {:ok,
       Stream.resource(
         fn -> File.open!(path, [:read, :raw, :binary]) end,
         &next_of_file/1,
         &File.close/1
       ), nil}
    else
      {:error, posix} -> {:error, {:file, path, posix}}
    end
  end

  # Iodata as a whole, or an enumerable of it. Where there are frames it is always the second.
  defp input(list, nil) when is_list(list) do
    {:ok, [IO.iodata_to_binary(list)], nil}
  rescue
    ArgumentError -> {:ok, list, nil}
  end

  defp input(enumerable, packet), do: {:ok, enumerable, packet}

  defp invalid(why), do: {:error, {:invalid, :input, why}}

  defp next_of_file(file) do
    case IO.binread(file, @read_max) do
      :eof -> {:halt, file}
      bytes -> {[bytes], file}
    end
  end

  # The feeder takes an element when the one before it is written: it is in the log before the command can answer it.
  defp tapped(:null, _packet, _log), do: :null

  defp tapped(input, packet, log) do
    pieces =
      Stream.map(input, fn piece ->
        bytes = piece |> NetRunner.Input.element!(packet) |> IO.iodata_to_binary()
        note(log, bytes)
        bytes
      end)

    Stream.concat(
      pieces,
      Stream.flat_map([:end], fn :end ->
        note(log, :stdin_end)
        []
      end)
    )
  end

  defp note(log, what), do: :ets.insert(log, {{now(), System.unique_integer([:monotonic])}, what})

  defp pieces(log, keep) do
    for {{at, _number}, what} <- :ets.tab2list(log), what != "", do: {at, piece(what, keep)}
  end

  defp piece(:stdin_end, _keep), do: :stdin_end
  defp piece(bytes, keep) when byte_size(bytes) <= keep, do: {:stdin, bytes}
  defp piece(bytes, _keep), do: {:stdin, byte_size(bytes), :erlang.crc32(bytes)}

  ## What is kept

  defp cassette(cmd, options, events) do
    {env, unset} = names(options.env)
    %Cassette{cmd: cmd, cd: options.cd, env: env, unset: unset, events: events}
  end

  # Of a name that was given more than once, the last counts.
  defp names({:replace, env}), do: names(env)

  defp names(env) do
    last = Map.new(env)
    last |> Map.keys() |> Enum.sort() |> Enum.split_with(&(last[&1] != nil))
  end

  # Whole or not at all.
  defp write(path, cassette) do
    File.mkdir_p!(Path.dirname(path))
    begun = "#{path}.#{System.unique_integer([:positive])}"
    File.write!(begun, Cassette.encode(cassette))
    File.rename!(begun, path)
  end

  defp now, do: System.monotonic_time(:microsecond)
end
