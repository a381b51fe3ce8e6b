defmodule NetRunner.Daemon.Log do
  @moduledoc false
  # What a daemon writes into Logger: its command's lines (`on_output: :log`), and what it has to say of
  # itself. Whoever calls this may have to wait for Logger: the consumer may, the server and the
  # reader must not (aside/1).
  #
  # Lines are bytes that somebody else wrote. Logger takes text only.

  require Logger
  import NetRunner.Text, only: [text: 1]

  @enforce_keys [:name, :cmd, :options]
  defstruct [:name, :cmd, :options, :os_pid]

  @type t :: %__MODULE__{
          name: term,
          cmd: [binary, ...],
          # Those of `log:`.
          options: keyword,
          os_pid: pos_integer | nil
        }

  # How much of a line is repeated where something is said about it.
  @excerpt 200

  @spec new(keyword, term, [binary, ...]) :: t
  def new(options, name, cmd), do: %__MODULE__{name: name, cmd: cmd, options: options}

  @doc "The on_output of `:log`."
  @spec sink(t) :: (:stdout | :stderr, binary -> :ok)
  def sink(log) do
    level = Keyword.get(log.options, :level, :info)
    levels = %{stdout: level, stderr: Keyword.get(log.options, :stderr_level, level)}
    prefix = Keyword.get_lazy(log.options, :prefix, fn -> command(log) <> ": " end)
    given = Keyword.get(log.options, :metadata, [])

    metadata =
      for stream <- [:stdout, :stderr],
          into: %{},
          do: {stream, Keyword.merge(given, metadata(log, stream: stream))}

    fn stream, line ->
      Logger.bare_log(levels[stream], fn -> prefix <> text(line) end, metadata[stream])
    end
  end

  @doc "Says something about the daemon itself."
  @spec say(t, Logger.level(), String.t(), keyword) :: :ok
  def say(log, level, what, more \\ []),
    do: Logger.bare_log(level, fn -> "#{who(log)} #{what}" end, metadata(log, more))

  @doc "As `say/4`, for those who must not wait for Logger."
  @spec aside(t, Logger.level(), String.t()) :: :ok
  def aside(log, level, what) do
    :proc_lib.spawn(fn -> say(log, level, what) end)
    :ok
  end

  @doc "on_output raised, exited or threw."
  @spec raised(t, :stdout | :stderr, binary, Exception.kind(), term, Exception.stacktrace()) ::
          :ok
  def raised(log, stream, line, kind, reason, stacktrace) do
    say(
      log,
      :error,
      "goes on after its on_output failed on a line of #{stream}, #{excerpt(line)}:\n" <>
        Exception.format(kind, reason, stacktrace),
      stream: stream,
      crash_reason: {Exception.normalize(kind, reason, stacktrace), stacktrace}
    )
  end

  defp who(log), do: "NetRunner.Daemon #{inspect(log.name)} (#{command(log)})"

  defp command(log), do: log.cmd |> hd() |> Path.basename() |> text()

  defp metadata(log, more) do
    [daemon: log.name, command: command(log)] ++
      if(log.os_pid, do: [os_pid: log.os_pid], else: []) ++ more
  end

  defp excerpt(line) when byte_size(line) <= @excerpt, do: inspect(text(line))
  defp excerpt(line), do: inspect(text(binary_part(line, 0, @excerpt))) <> "..."
end
