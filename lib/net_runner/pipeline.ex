defmodule NetRunner.Pipeline do
  @moduledoc """
  Commands that are joined by the kernel's pipes, as a value: made by `NetRunner.pipeline/1`, given to `NetRunner.run/2`,
  `NetRunner.exec/2`, `NetRunner.stream!/2` and their kin wherever a command may stand.

      iex> sorted = NetRunner.pipeline([["printf", "b\\na\\nb\\n"], ["sort"], ["uniq", "-c"]])
      iex> {output, 0} = NetRunner.run(sorted)
      iex> String.split(output)
      ["1", "a", "2", "b"]
      iex> to_string(sorted)
      "printf 'b\\na\\nb\\n' | sort | uniq -c"

  What goes from one command to the next never comes into the BEAM, and the kernel lets a writer wait for its reader. Each
  command has its own guardian, so that nothing of any of them is left behind. A stop, a time-out, the death of the owner and
  that of the BEAM end all of them, at the same time.

  ## Stages

  | stage | what it is |
  |---|---|
  | `["sort", "-u"]`, a `NetRunner.Command` | a command |
  | `fn enum -> enum end`, `{fun, opts}` | Elixir between two commands, see below |
  | `{:tee, path}`, `{:tee, path, opts}` | a file that gets a copy of all that passes; `opts` as in `stdout: {:file, path, opts}` |
  | `{:tee, command}` | a command that gets a copy on its stdin |
  | a `NetRunner.Pipeline` | its stages |

  The first is a command, the last a command or a tee, whose stream is the output then. With one stage it is a command like any other, but that its own options win ("Options", below).

  **A function** is given a lazy enumerable of what the command before it writes, in binaries as they come, and returns an
  enumerable of iodata for the next. `{fun, lines: true}` gives it lines without their ends instead (with `max_line_length:` as
  for streams); what it returns is written as it is, each element by itself or, with `buffer: bytes`, put together as by
  `input_buffer:` of the call. It runs in a process of its own (`$callers` names yours). An
  exception there, or in an `input:`, is raised where the pipeline was called; all commands are stopped before any of them sees
  an end of its input. When it has enough, or the next
  command takes no more, the command before it gets SIGPIPE.

  Of functions in a row, the second reads the elements that the first one gives, whatever they are; with `lines:` they must be
  iodata, and what they make together is cut into lines, wherever an element ends. `max_chunk_size:` is the first one's alone,
  as it reads a pipe, and `buffer:` the last one's.

      iex> twice = fn lines -> Stream.map(lines, &[&1, &1, "\\n"]) end
      iex> NetRunner.run(NetRunner.pipeline([["seq", "3"], {twice, lines: true}, ["tac"]]))
      {"33\\n22\\n11\\n", 0}

  **A tee** passes on what it reads and writes a copy of it, within the kernel (tee(2), splice(2)) where that can be; the slower
  of the two readers sets the pace. A command behind a tee has its stdout thrown away, unless it has `stdout: {:file, path}`
  of its own. If it takes no more before the end, the stream goes on without it; so it does without the reader of a FIFO that
  has left, which is no failure either. If the copy cannot be written (a full disk), the stream goes on and is whole, and the pipeline
  has failed with `{:file, path, posix}`. If its stdout cannot be written, all ends there, with the same of that file.

  **A copy is no longer than the stream was read.** A tee ends as any command does when nobody reads what it passes on: where a
  later stage has enough (`head`), or you halt the stream, the copy is a part, a command behind the tee sees an end after that part,
  and the pipeline has not failed. Who needs all of it lets the last stage read to the end, or gives the tee the last place.

      iex> path = Path.join(System.tmp_dir!(), "net_runner_tee_\#{System.unique_integer([:positive])}")
      iex> {count, 0} = NetRunner.run(NetRunner.pipeline([["seq", "1000"], {:tee, path}, ["wc", "-l"]]))
      iex> {String.trim(count), byte_size(File.read!(path))}
      {"1000", 3893}
      iex> File.rm!(path)
      :ok

  ## Options

  The first command takes every form of `input:`, the last one every form of `stdout:`, both of the call or of their own; those of the
  call win. What concerns the run as a whole (`timeout:`, `lines:`, `into:`, `ok:`, ...) is given to the call. All other options of the call
  (`cd:`, `env:`, `user:`, `kill_timeout:`, ...) are those of each command that has none of its own: here a command's own
  options win, also where it is the only one (elsewhere the call's do: `NetRunner.Command`). `pty:` and `arg0:` of the
  call are for one alone.

  `stderr:` of the call is that of each command: `:consume` keeps the last bytes of each, `:capture` gives each its own in
  `NetRunner.Result` (`stages`) and all of them, one after the other, in `stderr`. `:merge` is only about the last command; a
  command of its own with `stderr: :merge` sends its stderr to the next stage, as `|&` of a shell. A file that all write needs
  `:append`.

  ## How it ends

  As in a shell with `pipefail`, it has failed if any of its commands has: the last of those says how, else the last
  command. A command's own `ok:` says which of its exit codes are no failure (`grep` gives 1 where it finds nothing); that of the call is the
  last one's.
  A command that was ended by SIGPIPE (or that exited with 141, as shells tell it) has not failed if the one that it
  wrote to has not: it was just not read to its end. All commands are waited for. If the guardian of one is lost, the others are
  stopped, and how it ended is `:guardian_lost`.

      iex> NetRunner.run(NetRunner.pipeline([["yes"], ["head", "-n", "1"]]))
      {"y\\n", 0}
      iex> NetRunner.run(NetRunner.pipeline([["sh", "-c", "echo half; exit 3"], ["cat"]]))
      {"half\\n", 3}
      iex> {:ok, result} = NetRunner.exec(NetRunner.pipeline([["seq", "9"], ["grep", "x"], ["cat"]]))
      iex> {result.exit, result.cmd, Enum.map(result.stages, & &1.exit)}
      {{:exited, 1}, ["grep", "x"], [exited: 0, exited: 1, exited: 0]}
  """

  alias NetRunner.{Command, Quote}

  @enforce_keys [:stages]
  defstruct [:stages]

  @type fun_opts :: [
          lines: boolean | binary,
          max_line_length: term,
          max_chunk_size: pos_integer,
          buffer: non_neg_integer
        ]
  @type stage ::
          [binary, ...]
          | Command.t()
          | (Enumerable.t() -> Enumerable.t())
          | {(Enumerable.t() -> Enumerable.t()), fun_opts}
          | {:tee, Path.t() | [binary, ...] | Command.t()}
          | {:tee, Path.t(), list}
          | t

  @type t :: %__MODULE__{stages: [stage]}

  @doc false
  # Stages are looked at by the call, as commands are.
  @spec new([stage, ...]) :: t
  def new(stages) when is_list(stages) do
    if List.improper?(stages), do: raise(ArgumentError, "a pipeline is made of a proper list")

    %__MODULE__{
      stages:
        Enum.flat_map(stages, fn
          %__MODULE__{stages: stages} -> stages
          stage -> [stage]
        end)
    }
  end

  def new(_other), do: raise(ArgumentError, "a pipeline is made of a list of stages")

  @doc false
  # One stage, for messages: what a shell would be given where there is such a thing.
  @spec show(stage) :: binary
  def show(%Command{} = command), do: to_string(command)
  def show({:tee, path, _opts}), do: show({:tee, path})
  def show({:tee, path}) when is_binary(path), do: Quote.cmd(["tee", path])
  def show({:tee, command}), do: "tee >(#{show(command)})"

  def show(cmd) when is_list(cmd) do
    if not List.improper?(cmd) and Enum.all?(cmd, &is_binary/1),
      do: Quote.excerpt(cmd),
      else: "(invalid)"
  end

  def show({fun, _opts}) when is_function(fun), do: show(fun)
  def show(fun) when is_function(fun), do: "(function)"
  def show(_other), do: "(invalid)"
end

defimpl String.Chars, for: NetRunner.Pipeline do
  def to_string(pipeline), do: Enum.map_join(pipeline.stages, " | ", &NetRunner.Pipeline.show/1)
end

defimpl Inspect, for: NetRunner.Pipeline do
  # Options are not shown: there may be an environment in them.
  def inspect(pipeline, _opts), do: "#NetRunner.Pipeline<#{pipeline}>"
end
