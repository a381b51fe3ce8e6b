defmodule NetRunner.Compat.Exile do
  @moduledoc """
  `Exile.stream!/2` and `Exile.stream/2` of Exile 0.14.0, run by NetRunner:

      alias NetRunner.Compat.Exile

      "Hello World" = Exile.stream!(["cat"], input: ["Hello", " ", "World"]) |> Enum.into("")

  `NetRunner.Compat.Exile.Process` is its `Process`, and `NetRunner.Compat.Exile.Stream.AbnormalExit` what `stream!/2` raises.

  ## What is the same

  The options below, the elements (binaries, or `{:stdout, binary}` and `{:stderr, binary}` with `stderr: :consume`), the last
  element of `stream/2`, what raises and when, and the back-pressure.

  ## What differs

  | | Exile | here |
  |---|---|---|
  | processes that the command has started | may live on | end with it, also when the BEAM is killed |
  | background processes that hold the output open | keep the stream waiting | are given a second, and then ended |
  | a command that is not there | a `MatchError` at the first element | a `NetRunner.Error` there |
  | an unknown option | an error at the first element | raises `ArgumentError` at once |
  | `exit_timeout:` by default | documented as `:infinity`, 5 seconds in fact | `:infinity`; but one that was halted early is given 5 seconds at most |
  | a command that does not read all of its input, and closes its output by itself | documented as `:epipe`, its exit status in fact | its exit status |
  | a command that writes where nobody reads any more | is told by EPIPE | is ended by SIGPIPE (status 141), as from a shell |
  | a consumer that raises | may be hidden by an `AbnormalExit` | its exception |
  | an `input:` that raises | ends the caller by an exit signal | is logged, ends the command, and is raised in the caller |
  | an element | at most `max_chunk_size` bytes | and at most 64 KiB |
  | what is returned | an `Exile.Stream` | an enumerable without a name |

  To leave this module for `NetRunner.stream!/2`: `docs/migration/exile.md`.
  """

  alias NetRunner.Compat
  alias NetRunner.Compat.Exile.{Options, Stream}

  @defaults %{input: :none, exit_timeout: :infinity, max_chunk_size: 65_535, ignore_epipe: false}

  @type collectable_func :: (Collectable.t() -> any)

  @doc ~S"""
  A lazy enumerable of what a command writes. Raises a `NetRunner.Compat.Exile.Stream.AbnormalExit` after the last
  element if its exit status is not 0. Where it is halted early and not `ignore_epipe: true`, it raises if the command then ends
  with another status (SIGPIPE is 141), or has left input over (`:epipe`).

      iex> NetRunner.Compat.Exile.stream!(~w(echo Hello)) |> Enum.into("")
      "Hello\n"
      iex> input = Stream.map(1..10, fn num -> "#{num} " end)
      iex> NetRunner.Compat.Exile.stream!(~w(cat), input: input) |> Enum.into("")
      "1 2 3 4 5 6 7 8 9 10 "
      iex> NetRunner.Compat.Exile.stream!(["sh", "-c", "echo 'foo' && exit 10"]) |> Enum.to_list()
      ** (NetRunner.Compat.Exile.Stream.AbnormalExit) program exited with exit status: 10

  ## Options

    * `:input` - an enumerable of iodata, or a function that is given a collectable. Default: none.
    * `:exit_timeout` - milliseconds that the command may take to end after its output did; then it is stopped. Default: `:infinity`.
    * `:max_chunk_size` - upper bound of an element, in bytes. Default: 65535.
    * `:stderr` - `:console` (the BEAM's own), `:redirect_to_stdout`, `:disable` or `:consume`. Default: `:console`.
    * `:ignore_epipe` - whether it is fine that you do not read to the end. Default: false.
    * `:cd`, `:env` - as in `NetRunner.Compat.Exile.Process.start_link/2`.
  """
  @spec stream!([binary, ...], keyword) :: Enumerable.t()
  def stream!([_exe | _args] = cmd, opts \\ []), do: new(cmd, opts, :raise, "stream!/2")

  @doc ~S"""
  As `stream!/2`, but the exit status is the last element: `{:exit, {:status, status}}`.

      iex> NetRunner.Compat.Exile.stream(["sh", "-c", "echo 'foo' && exit 10"]) |> Enum.to_list()
      ["foo\n", {:exit, {:status, 10}}]
  """
  @spec stream([binary, ...], keyword) :: Enumerable.t()
  def stream([_exe | _args] = cmd, opts \\ []), do: new(cmd, opts, :element, "stream/2")

  defp new(cmd, opts, exit, name) do
    call = "NetRunner.Compat.Exile.#{name}"
    {own, options} = Options.take!(opts, call, &own/1)
    Compat.check_words!(cmd, call)
    Stream.new(cmd, options, @defaults |> Map.merge(Map.new(own)) |> Map.put(:exit, exit))
  end

  defp own({:input, fun}) when is_function(fun, 1), do: {:ok, fun}
  defp own({:exit_timeout, :infinity}), do: {:ok, :infinity}
  defp own({:exit_timeout, ms}) when is_integer(ms) and ms >= 0, do: {:ok, ms}
  defp own({:max_chunk_size, size}) when is_integer(size) and size > 0, do: {:ok, size}
  defp own({:ignore_epipe, ignore?}) when is_boolean(ignore?), do: {:ok, ignore?}

  # Of functions only those of two arguments are enumerable.
  defp own({:input, input}) when not is_function(input) or is_function(input, 2),
    do: if(Enumerable.impl_for(input), do: {:ok, input}, else: :none)

  defp own(_other), do: :none
end
