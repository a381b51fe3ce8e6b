defmodule NetRunner.Error do
  @moduledoc """
  A command could not be started, or its pipes failed. `reason` is from one closed list.

  #{NetRunner.Reason.docs()}

  A `posix` is one of the system's errors (errno(3)) in small letters: `:enoent`, `:eacces`, `:enoexec`, `:e2big`, `:eagain`,
  `:emfile`, `:enfile`, `:enomem`, `:epipe` (writes), `:enotty` (`NetRunner.Process.set_window_size/3`), ..., or `:eunknown` for
  one without a name.

  `stderr` are the last bytes of a consumed stderr, where a stream broke off (a time-out, a line that is too
  long) or a run failed: often they say why.
  """

  alias NetRunner.Reason

  @typedoc "An error of the system, see errno(3)."
  @type posix :: unquote(Reason.union(Reason.posix()))

  @typedoc "The closed list: see the table above."
  @type reason :: unquote(Reason.type())

  @type t :: %__MODULE__{reason: reason, cmd: [binary] | nil, stderr: binary}

  defexception [:reason, :cmd, stderr: ""]

  @impl true
  def message(%{reason: reason, cmd: nil}), do: NetRunner.Text.visible(Reason.text(reason))

  def message(%{reason: reason, cmd: cmd, stderr: stderr}) do
    said = NetRunner.Text.visible("#{NetRunner.Quote.excerpt(cmd)}: #{Reason.text(reason)}")
    Enum.join([said | NetRunner.Text.ending(stderr)], "\n")
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

  What the command wrote or was given may be anything, and of any length. The message has the last 8 KiB of stderr and the
  beginning of a long command, with `...` where something was cut; `stderr` and `cmd` have all of it. In the message, bytes that are no UTF-8 and control
  characters are shown as `\\xHH`; newlines and tabs of stderr stay what they are.
  """

  alias NetRunner.{Quote, Text}

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
      Text.visible("#{Quote.excerpt(error.cmd)} #{how(error)}#{duration(error)}"),
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
  defp how(%{cause: :io_error} = error), do: "had a pipe that failed and #{ending(error.exit)}"
  defp how(%{cause: :unkillable}), do: "cannot be killed"
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
  defp surroundings(%{cd: cd, env: []}), do: "in #{Quote.excerpt([cd])}"
  defp surroundings(%{cd: nil, env: env}), do: "with #{set(env)}"
  defp surroundings(%{cd: cd, env: env}), do: "in #{Quote.excerpt([cd])}, with #{set(env)}"

  defp set(env), do: "#{Quote.excerpt(env, ", ")} set"
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

  # A command may have two million bytes, which nobody reads and a log has to keep.
  @words 50
  @bytes 4096

  @doc ~S"""
  As `cmd/1`, for messages: of words without number, or without an end, the first, and `...` for the rest.

      iex> NetRunner.Quote.excerpt(["echo", "a b"])
      "echo 'a b'"
      iex> ["echo" | List.duplicate("x", 49)] |> NetRunner.Quote.excerpt() |> String.ends_with?("x x")
      true
      iex> ["echo" | List.duplicate("x", 50)] |> NetRunner.Quote.excerpt() |> String.ends_with?("x x ...")
      true
      iex> NetRunner.Quote.excerpt(["echo", String.duplicate("x", 5000)]) |> byte_size()
      4100
  """
  @spec excerpt([binary], binary) :: binary
  def excerpt(words, joiner \\ " "), do: words |> fit(@words, @bytes) |> Enum.join(joiner)

  defp fit([], _words, _bytes), do: []
  defp fit(_rest, words, bytes) when words == 0 or bytes <= 0, do: ["..."]

  defp fit([word | rest], words, bytes) when byte_size(word) <= bytes,
    do: [word(word) | fit(rest, words - 1, bytes - byte_size(word))]

  defp fit([word | _rest], _words, bytes), do: [word(start(word, bytes)) <> "..."]

  # Not with half a character at its end, or all of it would be shown as bytes.
  defp start(word, bytes) do
    start = binary_part(word, 0, bytes)
    if String.valid?(word), do: valid(start), else: start
  end

  defp valid(start) do
    if String.valid?(start), do: start, else: valid(binary_part(start, 0, byte_size(start) - 1))
  end
end
