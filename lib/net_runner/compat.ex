defmodule NetRunner.Compat do
  @moduledoc """
  Other libraries' calls, run by NetRunner: change over by an alias, and to NetRunner's own calls when you have the time.

  | instead of | there is | guide |
  |---|---|---|
  | `System.cmd/3` (Elixir 1.14 to 1.18) | `NetRunner.Compat.System` | `docs/migration/system_cmd.md` |
  | `MuonTrap.cmd/3`, `MuonTrap.Daemon` (1.8 and 2.0.0-rc.1) | `NetRunner.Compat.MuonTrap`, `NetRunner.Compat.MuonTrap.Daemon` | `docs/migration/muontrap.md` |
  | `Exile.stream/2`, `Exile.stream!/2`, `Exile.Process` (0.14.0) | `NetRunner.Compat.Exile`, `NetRunner.Compat.Exile.Process` | `docs/migration/exile.md` |

  They follow what those libraries document. Each module's documentation has the table of what differs. An option that
  cannot be served raises an `ArgumentError` that names it and says what to use; none is ignored in silence.
  """

  # What the modules have in common.

  alias NetRunner.{Executable, Options, Output, Pipe}

  @doc false
  # Nobody's words but binaries without NUL; they are not shown, secrets may be in them.
  @spec check_words!(term, String.t()) :: :ok
  def check_words!(words, call) do
    unless is_list(words) and not List.improper?(words) and Enum.all?(words, &is_binary/1),
      do: raise(ArgumentError, "command and arguments of #{call} must be binaries")

    if Enum.any?(words, &String.contains?(&1, <<0>>)),
      do: raise(ArgumentError, "command and arguments of #{call} must not have NUL bytes")

    :ok
  end

  @doc false
  # As NetRunner.Process.start/3, of words that were checked.
  @spec start([binary, ...], keyword, boolean) ::
          {:ok, NetRunner.Process.t()} | {:error, NetRunner.Error.reason()}
  def start(cmd, options, link?) do
    with {:ok, options} <- Options.validate(options, :process),
         {:ok, cmd} <- Executable.check_cmd(cmd),
         do: NetRunner.Process.start_checked(cmd, as_theirs(options), link?)
  end

  @doc false
  # The options of a start that looks for a name where a port would: in the BEAM's PATH, whatever `env:` says.
  @spec as_theirs(Options.t()) :: Options.t()
  def as_theirs(options), do: Map.put(options, :look_in, :beam)

  @doc false
  # Any enumerable of pairs. What else it is, is not shown: there may be secrets in it.
  @spec env!(term, String.t()) :: list
  def env!(env, call) do
    if Enumerable.impl_for(env),
      do: Enum.to_list(env),
      else: raise(ArgumentError, "invalid option :env of #{call}: no enumerable of pairs")
  end

  @doc false
  @spec invalid_option!({term, term} | term, String.t()) :: no_return
  def invalid_option!({name, value}, call) when is_atom(name) and name not in [:env, :input] do
    raise ArgumentError,
          "invalid option #{inspect(name)} of #{call} with value " <>
            inspect(value, limit: 5, printable_limit: 100)
  end

  def invalid_option!({name, _secret}, call) when is_atom(name),
    do: raise(ArgumentError, "invalid option #{inspect(name)} of #{call}")

  def invalid_option!(_no_pair, call),
    do: raise(ArgumentError, "the options of #{call} must be a keyword list")

  @doc false
  # NetRunner's options, `defaults` and what `option` makes of a name and a value; and those that `own` takes first: a function of
  # an option, which gives `{:ok, value}` to be kept under its name, or `:none`. `option` raises for what is neither.
  @spec take!(
          keyword,
          String.t(),
          keyword,
          ({atom, term} -> {:ok, term} | :none),
          (atom, term, String.t() -> keyword)
        ) :: {keyword, keyword}
  def take!(opts, call, defaults, own, option) do
    Enum.reduce(opts, {[], defaults}, fn {name, value} = given, {kept, options} ->
      case own.(given) do
        {:ok, value} -> {Keyword.put(kept, name, value), options}
        :none -> {kept, Keyword.merge(options, option.(name, value, call))}
      end
    end)
  end

  @doc false
  @spec invalid!({:invalid, atom, String.t()}) :: no_return
  def invalid!(reason) do
    {:invalid, option, message} = in_their_words(reason)
    raise ArgumentError, "invalid option #{inspect(option)}: #{message}"
  end

  @doc false
  # As MuonTrap calls them.
  @spec in_their_words(NetRunner.Error.reason()) :: NetRunner.Error.reason()
  def in_their_words({:invalid, option, message}) when option in [:user, :group] do
    message =
      message
      |> String.replace("leave user: out", "leave uid: out")
      |> String.replace("give group:", "give gid:")

    {:invalid, if(option == :user, do: :uid, else: :gid), message}
  end

  def in_their_words(reason), do: reason

  @doc false
  @spec not_served!(atom, String.t(), String.t()) :: no_return
  def not_served!(option, call, instead),
    do: raise(ArgumentError, "#{call} does not serve #{inspect(option)}: #{instead}")

  @doc false
  # A command run to its end as a port would: `{collected, status}`, or `{collected, :timeout}`. Not by NetRunner.exec/2,
  # whose stdin is /dev/null: theirs is a pipe that nobody writes, and `esbuild --watch` and the like end when it ends.
  # `read` is a function of the process and milliseconds.
  @spec run!([binary, ...], keyword, Collectable.t(), function, timeout) ::
          {term, non_neg_integer | :timeout}
  def run!(cmd, options, into, read, timeout) do
    deadline = Pipe.deadline(timeout)

    case start(cmd, options, false) do
      {:ok, process} ->
        try do
          output = Output.new(into, %{stdout: nil}, :plain, :infinity, :kill)
          {output, status} = collect(process, cmd, read, deadline, output)
          {collected, _cut?, nil} = Output.finish(output)
          {collected, status}
        after
          NetRunner.Process.stop(process)
        end

      {:error, reason} ->
        failed!(reason, cmd)
    end
  end

  defp collect(process, cmd, read, deadline, output) do
    case read.(process, Pipe.left(deadline)) do
      {:ok, chunk} ->
        {:ok, output} = Output.add(output, :stdout, chunk)

        # One that never pauses has its time-out all the same.
        if Pipe.over?(deadline),
          do: {output, :timeout},
          else: collect(process, cmd, read, deadline, output)

      :eof ->
        {output, await_exit(process, cmd, deadline, output)}

      {:error, :timeout} ->
        {output, :timeout}

      {:error, reason} ->
        broken!(reason, cmd, output)
    end
  end

  defp await_exit(process, cmd, deadline, output) do
    case NetRunner.Process.await_exit(process, Pipe.left(deadline)) do
      {:ok, status} -> status
      {:error, :timeout} -> :timeout
      {:error, reason} -> broken!(reason, cmd, output)
    end
  end

  defp broken!(reason, cmd, output) do
    Output.halt(output)
    raise NetRunner.Error, reason: reason, cmd: cmd
  end

  # Why nothing ran, raised as System.cmd/3 does: an ErlangError with the POSIX reason, an ArgumentError for what
  # cannot be. A NetRunner.Error is left for what it does not know.
  @spec failed!(NetRunner.Error.reason(), [binary, ...]) :: no_return
  defp failed!({:invalid, _option, _message} = reason, _cmd), do: invalid!(reason)

  # Of words that were checked only an empty name is left to be refused.
  defp failed!({:invalid_cmd, _empty}, _cmd), do: :erlang.error(:enoent)

  defp failed!({:invalid_args, message}, _cmd), do: raise(ArgumentError, message)

  defp failed!({:cd, posix}, _cmd), do: :erlang.error(posix)

  @not_posix [:timeout, :spawn_timeout, :shepherd_lost, :guardian_lost, :closed, :busy]
  defp failed!(posix, _cmd) when is_atom(posix) and posix not in @not_posix,
    do: :erlang.error(posix)

  defp failed!(reason, cmd), do: raise(NetRunner.Error, reason: reason, cmd: cmd)
end
