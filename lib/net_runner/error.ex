defmodule NetRunner.Error do
  @moduledoc """
  A command could not be started, or its pipes failed. `reason` is from one closed list.

  From the arguments: `{:invalid_cmd, message}`, `{:invalid_args, message}`,
  `{:invalid, option, message}`.

  From starting: a POSIX atom (`:enoent`, `:eacces`, `:enoexec`, `:e2big`, `:eagain`, `:emfile`,
  `:enfile`, `:enomem`, ...), `{:cd, posix}`, `{:file, path, posix}`, `{:cgroup, step, posix}` (the steps: `NetRunner.Cgroup`), `:spawn_timeout`, `:shepherd_lost`,
  `{:backend, why}`.

  Later: `:timeout`, `{:timeout, bytes_taken}` (writes), `{:max_output_exceeded, partial}`,
  `{:line_too_long, max_bytes}` (`max_line_length:`), `:guardian_lost`, `{:unkillable, pids}`,
  `:not_running` (signals after the end), `:closed`, `:epipe` (writes), `:busy`.

  `stderr` are the last bytes of a consumed stderr, where a stream broke off (a time-out, a line that is too
  long): often they say why.
  """

  @type posix :: atom

  @type reason ::
          {:invalid_cmd, String.t()}
          | {:invalid_args, String.t()}
          | {:invalid, atom, String.t()}
          | posix
          | {:cd, posix}
          | {:file, Path.t(), posix}
          | {:cgroup, step :: atom, posix}
          | :spawn_timeout
          | :shepherd_lost
          | {:backend, String.t()}
          | :timeout
          | {:timeout, non_neg_integer}
          | {:max_output_exceeded, partial :: term}
          | {:line_too_long, pos_integer}
          | :guardian_lost
          | {:unkillable, [pos_integer]}
          | :not_running
          | :closed
          | :epipe
          | :busy

  @type t :: %__MODULE__{reason: reason, cmd: [binary] | nil, stderr: binary}

  defexception [:reason, :cmd, stderr: ""]

  @impl true
  def message(%{reason: reason, cmd: nil}), do: NetRunner.Text.visible(text(reason))

  def message(%{reason: reason, cmd: cmd, stderr: stderr}) do
    said = NetRunner.Text.visible("#{NetRunner.Quote.cmd(cmd)}: #{text(reason)}")
    Enum.join([said | NetRunner.Text.ending(stderr)], "\n")
  end

  defp text({:invalid_cmd, message}), do: "invalid command: #{message}"
  defp text({:invalid_args, message}), do: "invalid arguments: #{message}"
  defp text({:invalid, option, message}), do: "invalid #{inspect(option)}: #{message}"
  defp text({:cd, posix}), do: "cannot change directory: #{posix_text(posix)}"

  defp text({:file, path, posix}),
    do: "cannot open #{NetRunner.Quote.word(path)}: #{posix_text(posix)}"

  defp text({:cgroup, step, posix}), do: NetRunner.Cgroup.text(step, posix_text(posix))
  defp text(:spawn_timeout), do: "was not started in time"
  defp text(:shepherd_lost), do: "the shepherd ended before it could start the command"
  defp text({:backend, why}), do: "the :io_uring backend cannot be used: #{why}"
  defp text(:timeout), do: "timed out"
  defp text({:timeout, bytes}), do: "writing timed out after #{bytes} bytes"

  defp text({:max_output_exceeded, _partial}), do: "wrote more than max_output_size: allows"

  defp text({:line_too_long, max}), do: "wrote a line of more than #{max} bytes"
  defp text(:guardian_lost), do: "its guardian was lost, the exit status is not known"

  defp text({:unkillable, pids}),
    do: "cannot be killed: #{Enum.map_join(pids, ", ", &"pid #{&1}")}"

  defp text(:not_running), do: "is not running"
  defp text(:closed), do: "is closed"
  defp text(:busy), do: "another process uses this end already"
  defp text(posix) when is_atom(posix), do: posix_text(posix)

  defp posix_text(posix) do
    case :file.format_error(posix) do
      ~c"unknown POSIX error" ++ _ -> to_string(posix)
      text -> "#{text} (#{posix})"
    end
  end
end

defmodule NetRunner.ExitError do
  @moduledoc """
  A command ended in a way that its caller did not declare as success: raised by `NetRunner.run!/2`,
  `NetRunner.exec!/2` and by streams with `exit: :raise`.

    * `cmd`, `exit`, `cause`, `os_pid`, `duration_ms`, `stderr` as in `NetRunner.Result`.
    * `status` - the shell's number for the end (the code, or 128 + signal), nil if it is not known.
    * `cd` - the command's working directory if one was given, else nil.
    * `env` - the names of the environment variables that were given; never their values.
    * `result` - the whole `NetRunner.Result`, nil for streams.

  The message reads like a shell's report:

      iex> try do
      ...>   NetRunner.run!(["sh", "-c", "echo oops >&2; exit 3"], cd: "/tmp", env: [A: "secret"])
      ...> rescue
      ...>   error -> error |> Exception.message() |> String.replace(~r/\\d+ ms/, "7 ms") |> String.split("\\n")
      ...> end
      ["sh -c 'echo oops >&2; exit 3' exited with status 3 after 7 ms",
       "in /tmp, with A set",
       "stderr ended with:",
       "oops"]

  What the command wrote or was given may be anything. In the message, bytes that are no UTF-8 and control
  characters are shown as `\\xHH`; newlines and tabs of stderr stay what they are.
  """

  alias NetRunner.Text

  @type t :: %__MODULE__{
          cmd: [binary],
          exit: NetRunner.Result.exit_reason() | nil,
          status: 0..255 | nil,
          cause: NetRunner.Result.cause() | nil,
          stderr: binary,
          os_pid: pos_integer | nil,
          duration_ms: non_neg_integer | nil,
          cd: binary | nil,
          env: [binary],
          result: NetRunner.Result.t() | nil
        }

  defexception [
    :cmd,
    :exit,
    :status,
    :cause,
    :os_pid,
    :duration_ms,
    :cd,
    :result,
    env: [],
    stderr: ""
  ]

  @doc false
  # From a result and the options it was run with.
  @spec of(NetRunner.Result.t(), NetRunner.Options.t()) :: t
  def of(result, options) do
    %__MODULE__{
      cmd: result.cmd,
      exit: result.exit,
      status: NetRunner.Result.status(result),
      cause: result.cause,
      stderr: result.stderr,
      os_pid: result.os_pid,
      duration_ms: result.duration_ms,
      cd: options.cd,
      env: names(options.env)
    }
  end

  defp names({:replace, env}), do: names(env)
  defp names(env), do: for({name, _value} <- env, uniq: true, do: name)

  @impl true
  def message(error) do
    [
      Text.visible("#{NetRunner.Quote.cmd(error.cmd)} #{how(error)}#{duration(error)}"),
      Text.visible(surroundings(error))
      | Text.ending(error.stderr)
    ]
    |> Enum.reject(&(&1 == ""))
    |> Enum.join("\n")
  end

  defp how(%{cause: :timeout} = error), do: "timed out and #{ending(error.exit)}"

  defp how(%{cause: :idle_timeout} = error),
    do: "wrote nothing for too long and #{ending(error.exit)}"

  defp how(%{cause: :output_limit} = error), do: "wrote too much and #{ending(error.exit)}"
  defp how(%{cause: :oom} = error), do: "ran out of memory and #{ending(error.exit)}"
  defp how(%{cause: :stopped} = error), do: "was stopped and #{ending(error.exit)}"
  defp how(%{cause: :owner_down} = error), do: "lost its owner and #{ending(error.exit)}"
  defp how(%{exit: exit}), do: ending(exit)

  defp ending({:exited, code}), do: "exited with status #{code}"
  defp ending({:signaled, signal}), do: "was ended by #{signal_name(signal)}"
  defp ending(nil), do: "ended unseen: its guardian was lost"

  defp signal_name(signal) when is_atom(signal), do: signal |> to_string() |> String.upcase()
  defp signal_name(number), do: "signal #{number}"

  defp duration(%{duration_ms: nil}), do: ""
  defp duration(%{duration_ms: ms}) when ms < 10_000, do: " after #{ms} ms"
  defp duration(%{duration_ms: ms}), do: " after #{Float.round(ms / 1000, 1)} s"

  defp surroundings(%{cd: nil, env: []}), do: ""
  defp surroundings(%{cd: cd, env: []}), do: "in #{NetRunner.Quote.word(cd)}"
  defp surroundings(%{cd: nil, env: env}), do: "with #{set(env)}"
  defp surroundings(%{cd: cd, env: env}), do: "in #{NetRunner.Quote.word(cd)}, with #{set(env)}"

  defp set(env), do: "#{Enum.map_join(env, ", ", &NetRunner.Quote.word/1)} set"
end

defmodule NetRunner.Quote do
  @moduledoc false
  # Commands in messages, quoted as a POSIX shell would need them.

  @spec cmd([binary]) :: binary
  def cmd(words), do: Enum.map_join(words, " ", &word/1)

  @doc """
      iex> NetRunner.Quote.word("plain-word_1.txt")
      "plain-word_1.txt"
      iex> NetRunner.Quote.word("it's")
      ~S('it'\\''s')
  """
  @spec word(binary) :: binary
  def word(""), do: "''"

  def word(word) do
    cond do
      not String.valid?(word) -> inspect(word)
      word =~ ~r/\A[\w@%+=:,.\/-]+\z/ -> word
      true -> "'" <> String.replace(word, "'", ~S('\'')) <> "'"
    end
  end
end
