defmodule NetRunner.Error do
  @moduledoc """
  A command could not be started, or its pipes failed. `reason` is from one closed list.

  From the arguments: `{:invalid_cmd, message}`, `{:invalid_args, message}`,
  `{:invalid, option, message}`.

  From starting: a POSIX atom (`:enoent`, `:eacces`, `:enoexec`, `:e2big`, `:eagain`, `:emfile`,
  `:enfile`, `:enomem`, ...), `{:cd, posix}`, `:spawn_timeout`, `:shepherd_lost`, `{:backend, why}`.

  Later: `:timeout`, `{:timeout, bytes_taken}` (writes), `{:max_output_exceeded, partial}`,
  `:guardian_lost`, `{:unkillable, pids}`, `:not_running` (signals after the end), `:closed`, `:epipe`
  (writes), `:busy`.
  """

  @type posix :: atom

  @type reason ::
          {:invalid_cmd, String.t()}
          | {:invalid_args, String.t()}
          | {:invalid, atom, String.t()}
          | posix
          | {:cd, posix}
          | :spawn_timeout
          | :shepherd_lost
          | {:backend, String.t()}
          | :timeout
          | {:timeout, non_neg_integer}
          | {:max_output_exceeded, binary}
          | :guardian_lost
          | {:unkillable, [pos_integer]}
          | :not_running
          | :closed
          | :epipe
          | :busy

  @type t :: %__MODULE__{reason: reason, cmd: [binary] | nil}

  defexception [:reason, :cmd]

  @impl true
  def message(%{reason: reason, cmd: nil}), do: text(reason)
  def message(%{reason: reason, cmd: cmd}), do: "#{NetRunner.Quote.cmd(cmd)}: #{text(reason)}"

  defp text({:invalid_cmd, message}), do: "invalid command: #{message}"
  defp text({:invalid_args, message}), do: "invalid arguments: #{message}"
  defp text({:invalid, option, message}), do: "invalid #{inspect(option)}: #{message}"
  defp text({:cd, posix}), do: "cannot change directory: #{posix_text(posix)}"
  defp text(:spawn_timeout), do: "was not started in time"
  defp text(:shepherd_lost), do: "the shepherd ended before it could start the command"
  defp text({:backend, why}), do: "the :io_uring backend cannot be used: #{why}"
  defp text(:timeout), do: "timed out"
  defp text({:timeout, bytes}), do: "writing timed out after #{bytes} bytes"

  defp text({:max_output_exceeded, _partial}), do: "wrote more than max_output_size: allows"

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
  A command ended in a way that its caller did not declare as success: raised by streams with
  `exit: :raise`.

  `exit` is `{:exited, code}` or `{:signaled, signal}`, `status` the shell's number for it (the code, or
  128 + signal), `stderr` the last bytes of stderr where it was consumed.
  """

  @type exit_reason :: {:exited, 0..255} | {:signaled, atom | 32..64}
  @type t :: %__MODULE__{
          cmd: [binary],
          exit: exit_reason,
          status: non_neg_integer,
          stderr: binary
        }

  defexception [:cmd, :exit, :status, stderr: ""]

  @impl true
  def message(%{cmd: cmd, exit: exit, stderr: stderr}) do
    head = "#{NetRunner.Quote.cmd(cmd)} #{how(exit)}"
    if stderr == "", do: head, else: "#{head}; stderr ended with:\n#{printable(stderr)}"
  end

  defp how({:exited, code}), do: "exited with status #{code}"
  defp how({:signaled, signal}), do: "was ended by #{signal_name(signal)}"

  defp signal_name(signal) when is_atom(signal), do: signal |> to_string() |> String.upcase()
  defp signal_name(number), do: "signal #{number}"

  defp printable(text) do
    if String.valid?(text), do: String.trim_trailing(text), else: inspect(text)
  end
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
