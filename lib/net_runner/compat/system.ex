defmodule NetRunner.Compat.System do
  @moduledoc """
  `System.cmd/3` of Elixir 1.14 to 1.18, run by NetRunner. `alias NetRunner.Compat.System` would hide all of
  `System`, so name it in full, or

      alias NetRunner.Compat.System, as: Commands

      {"hello\\n", 0} = Commands.cmd("echo", ["hello"])

  ## What is the same

  Arguments, options (`:lines` and `:use_stdio` also where Elixir is older than they are), what is raised and for what,
  the exit status (128 plus the signal's number for a command that a signal ended), `:into` and what happens when it raises, stderr going
  to the BEAM's own, and stdin: a pipe that nobody writes and that stays open until the command ends.

  ## What differs

  | | `System.cmd/3` | here |
  |---|---|---|
  | the caller is killed, or the BEAM | the command lives on | it is ended, with all that it has started |
  | background processes that hold its output open | are waited for | are given a second, and then ended |
  | others that it leaves | live on | are given a second, and then ended; `orphans: :keep` of `NetRunner.run/2` keeps them |
  | `use_stdio: false` | the command has the BEAM's terminal | raises `ArgumentError`: give it a terminal of its own by `pty:` of `NetRunner.Process`, or stay with `System.cmd/3` |
  | `parallelism:` | tunes the port | is checked, and means nothing: there is no port |
  | what is there and cannot be executed (a directory, no `#!`, an argument that is too long), a `cd:` that is not there | the number of the error, as an exit status | raises: `ErlangError` with its name, `ArgumentError` for the argument |
  | `env:` with values that are no UTF-8 | raises | passed on |
  | `env:` with an empty value, `{"A", ""}` | unset (seen with Elixir 1.14 and OTP 25) | empty |
  | a NUL in an argument, in `cd:` or `arg0:` | what is before it counts | raises `ArgumentError` |
  | NetRunner's own helper was killed meanwhile | - | raises `NetRunner.Error` |

  Windows is not served. To leave this module for `NetRunner.run/2`: `docs/migration/system_cmd.md`.
  """

  alias NetRunner.Compat

  @read_max 262_144

  defmodule AnyLines do
    @moduledoc false
    # A collectable of bytes that gives another one lines: those of a port, which may end with "\r\n", too. What ends
    # with "\r" and nothing behind it is a last line that has not ended.

    @enforce_keys [:into]
    defstruct [:into]

    defimpl Collectable do
      alias NetRunner.Lines

      def into(%{into: into}) do
        {acc, fun} = Collectable.into(into)
        {{acc, Lines.new("\n", :infinity)}, &collect(&1, &2, fun)}
      end

      defp collect({acc, lines}, {:cont, bytes}, fun) do
        {found, lines} = Lines.feed(lines, bytes)

        acc = Enum.reduce(found, acc, &fun.(&2, {:cont, String.replace_suffix(&1, "\r", "")}))

        {acc, lines}
      end

      defp collect({acc, lines}, :done, fun) do
        lines |> Lines.finish() |> Enum.reduce(acc, &last(&2, &1, fun)) |> fun.(:done)
      end

      defp collect({acc, _lines}, :halt, fun), do: fun.(acc, :halt)

      # Whoever collects halts what raises in :cont, and this is :done for him.
      defp last(acc, line, fun) do
        fun.(acc, {:cont, line})
      catch
        kind, reason ->
          _ = fun.(acc, :halt)
          :erlang.raise(kind, reason, __STACKTRACE__)
      end
    end
  end

  @call "NetRunner.Compat.System.cmd/3"

  @doc ~S"""
  Runs a command to its end: `{collected, exit_status}`.

      iex> NetRunner.Compat.System.cmd("echo", ["hello"])
      {"hello\n", 0}
      iex> NetRunner.Compat.System.cmd("sh", ["-c", "echo $MIX_ENV"], env: [{"MIX_ENV", "test"}])
      {"test\n", 0}
      iex> NetRunner.Compat.System.cmd("echo", ["hello\nworld"], into: [], lines: 1024)
      {["hello", "world"], 0}
      iex> NetRunner.Compat.System.cmd("no-such-program", [])
      ** (ErlangError) Erlang error: :enoent

  ## Options

    * `:into` - a collectable. Default: `""`.
    * `:lines` - gives the collectable lines without their `"\n"` or `"\r\n"`; a last one without either is as it came. The number of bytes is
      checked and not needed.
    * `:cd` - the directory to run in.
    * `:env` - an enumerable of `{name, value}`; a nil value unsets.
    * `:arg0` - what the command is told its name is.
    * `:stderr_to_stdout` - whether stderr goes to stdout. Default: false, it goes to the BEAM's stderr.
    * `:use_stdio` - only true.
    * `:parallelism` - true or false, which makes no difference.
  """
  @spec cmd(binary, [binary], keyword) :: {Collectable.t(), exit_status :: non_neg_integer}
  def cmd(command, args, opts \\ []) when is_binary(command) and is_list(args) do
    cmd = [command | args]
    Compat.check_words!(cmd, @call)
    unless Keyword.keyword?(opts), do: Compat.invalid_option!(opts, @call)

    asked = {%{into: "", lines?: false}, [stderr: :inherit]}
    {asked, options} = Enum.reduce(opts, asked, &option/2)

    into = if asked.lines?, do: %AnyLines{into: asked.into}, else: asked.into
    read = &NetRunner.Process.read(&1, @read_max, &2)
    Compat.run!(cmd, options, into, read, :infinity)
  end

  defp option({:into, into}, {asked, options}), do: {%{asked | into: into}, options}

  defp option({:lines, max}, {asked, options}) when is_integer(max) and max > 0,
    do: {%{asked | lines?: true}, options}

  defp option({:env, env}, taken), do: put(taken, :env, Compat.env!(env, @call))
  defp option({:cd, cd}, taken) when is_binary(cd), do: put(taken, :cd, cd)
  defp option({:arg0, arg0}, taken) when is_binary(arg0), do: put(taken, :arg0, arg0)
  defp option({:stderr_to_stdout, true}, taken), do: put(taken, :stderr, :merge)
  defp option({:stderr_to_stdout, false}, taken), do: put(taken, :stderr, :inherit)
  defp option({:use_stdio, true}, taken), do: taken

  defp option({:use_stdio, false}, _taken) do
    Compat.not_served!(
      :use_stdio,
      @call,
      "a terminal of its own is pty: of NetRunner.Process.start/3, the BEAM's is Elixir's System.cmd/3"
    )
  end

  defp option({:parallelism, on?}, taken) when is_boolean(on?), do: taken
  defp option(other, _taken), do: Compat.invalid_option!(other, @call)

  defp put({asked, options}, name, value), do: {asked, Keyword.put(options, name, value)}
end
