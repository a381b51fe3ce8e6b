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
    * `cd` - where it ran: `cd:`, or the BEAM's working directory (of when the exception was made).
    * `env` - the names of the environment variables that were set by `env:`, and `unset` of those that were unset; never
      their values.
    * `limit` - what a command with the cause `:output_limit` passed: `:max_output_exceeded`, `{:line_too_long, bytes}` or
      `{:frame_too_large, bytes}`.
    * `result` - the whole `NetRunner.Result`, nil for streams.
    * `pipeline` - where it was a stage of one (`NetRunner.pipeline/1`), all of that, as `to_string/1` says it; else nil.

  The message reads like a shell's report:

      iex> try do
      ...>   NetRunner.run!(["sh", "-c", "echo oops >&2; exit 3"], cd: "/tmp", env: [A: "secret", B: nil])
      ...> rescue
      ...>   error -> error |> Exception.message() |> String.replace(~r/\\d+ ms/, "7 ms") |> String.split("\\n")
      ...> end
      ["sh -c 'echo oops >&2; exit 3' exited with status 3 after 7 ms",
       "in /tmp, with A set, B unset",
       "stderr ended with:",
       "oops"]

  What the command wrote or was given may be anything, and of any length. The message has the last 8 KiB of stderr and the
  beginning of a long command, with `...` where something was cut; `stderr` and `cmd` have all of it. In the message, bytes that are no UTF-8 and control
  characters are shown as `\\xHH`; newlines and tabs of stderr stay what they are.
  """

  alias NetRunner.{Quote, Reason, Text}

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
          unset: [binary],
          limit:
            :max_output_exceeded
            | {:line_too_long, pos_integer}
            | {:frame_too_large, pos_integer}
            | nil,
          result: NetRunner.Result.t() | nil,
          pipeline: binary | nil
        }

  defexception [
    :cmd,
    :exit,
    :status,
    :cause,
    :os_pid,
    :duration_ms,
    :cd,
    :limit,
    :result,
    :pipeline,
    env: [],
    unset: [],
    stderr: ""
  ]

  @doc false
  # Of what was run, and ended so.
  @spec of(NetRunner.Running.ended()) :: t
  def of(%{result: result, options: options, pipeline: pipeline}) do
    {env, unset} = names(options.env)

    %__MODULE__{
      cmd: result.cmd,
      exit: result.exit,
      status: NetRunner.Result.status(result),
      cause: result.cause,
      stderr: result.stderr,
      os_pid: result.os_pid,
      duration_ms: result.duration_ms,
      pipeline: pipeline,
      cd: options.cd || cwd(),
      env: env,
      unset: unset
    }
  end

  # Of a name that was given more than once, the last counts.
  defp names({:replace, env}), do: names(env)

  defp names(env) do
    last = Map.new(env)
    for({name, _value} <- env, uniq: true, do: name) |> Enum.split_with(&(last[&1] != nil))
  end

  # It may have been removed under the BEAM.
  defp cwd do
    case File.cwd() do
      {:ok, cwd} -> cwd
      {:error, _reason} -> nil
    end
  end

  @impl true
  def message(error) do
    [
      Text.visible("#{Quote.excerpt(error.cmd)} #{how(error)}#{duration(error)}"),
      Text.visible(pipeline(error.pipeline)),
      Text.visible(surroundings(error))
      | Text.ending(error.stderr)
    ]
    |> Enum.reject(&(&1 == ""))
    |> Enum.join("\n")
  end

  defp how(%{cause: :timeout} = error), do: "timed out and #{ending(error.exit)}"

  defp how(%{cause: :idle_timeout} = error),
    do: "wrote nothing for too long and #{ending(error.exit)}"

  defp how(%{cause: :output_limit} = error),
    do: "#{passed(error.limit)} and #{ending(error.exit)}"

  defp how(%{cause: :oom} = error), do: "ran out of memory and #{ending(error.exit)}"
  defp how(%{cause: :stopped} = error), do: "was stopped and #{ending(error.exit)}"
  defp how(%{cause: :owner_down} = error), do: "lost its owner and #{ending(error.exit)}"
  defp how(%{cause: :io_error} = error), do: "had a pipe that failed and #{ending(error.exit)}"
  defp how(%{cause: :unkillable}), do: "cannot be killed"
  defp how(%{exit: exit}), do: ending(exit)

  defp passed(nil), do: "wrote too much"
  defp passed(:max_output_exceeded), do: Reason.text({:max_output_exceeded, ""})
  defp passed({:line_too_long, bytes}), do: "wrote a line of more than #{bytes} bytes"

  defp passed({:frame_too_large, bytes}),
    do: "wrote a frame of #{bytes} bytes (more than max_frame_size:)"

  defp ending({:exited, code}), do: "exited with status #{code}"
  defp ending({:signaled, signal}), do: "was ended by #{signal_name(signal)}"
  defp ending(nil), do: "ended unseen: its guardian was lost"

  defp signal_name(signal) when is_atom(signal), do: signal |> to_string() |> String.upcase()
  defp signal_name(number), do: "signal #{number}"

  defp duration(%{duration_ms: nil}), do: ""
  defp duration(%{duration_ms: ms}) when ms < 10_000, do: " after #{ms} ms"
  defp duration(%{duration_ms: ms}), do: " after #{Float.round(ms / 1000, 1)} s"

  defp pipeline(nil), do: ""
  defp pipeline(line), do: "in the pipeline #{line}"

  # "in /tmp, with A, B set, C unset", as far as there is something of it.
  defp surroundings(error) do
    place = for cd <- List.wrap(error.cd), do: "in #{Quote.list([cd])}"

    changes =
      for {names, what} <- [{error.env, "set"}, {error.unset, "unset"}],
          names != [],
          do: "#{Quote.list(names)} #{what}"

    with_them = if changes == [], do: [], else: ["with #{Enum.join(changes, ", ")}"]
    Enum.join(place ++ with_them, ", ")
  end
end
