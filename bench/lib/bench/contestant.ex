defmodule Bench.Contestant do
  @moduledoc """
  Who takes part: one module per library in `contestants/`, which says what it can do by defining the
  callbacks below. `arg` tells its columns apart (NetRunner has one per backend).

  Other libraries are used when they can be loaded (put them into `ERL_LIBS`); nothing here fetches or
  builds them, and they are named when they are absent.
  """

  @type t :: %{name: String.t(), module: module, arg: term}
  @type cmd :: [String.t(), ...]

  @doc "Its columns, as `{name, arg}`; none if it cannot run here."
  @callback columns :: [{String.t(), term}]

  @doc "The library, in words, for the list of those that are absent."
  @callback title :: String.t()

  @doc "Of what version it is, with its name: \"exile 0.14.0\". Asked only if it has columns."
  @callback version :: String.t()

  @doc "Which of the calls below it has not, and why; `lack/2` knows of those that only NetRunner has."
  @callback lacks :: %{atom => String.t()}

  @doc "Runs a command to its end."
  @callback run(arg :: term, cmd) :: {output :: binary, status :: non_neg_integer}

  @doc "Folds a function over the chunks of a command's output, up to its end."
  @callback fold(arg :: term, cmd, acc, (binary, acc -> acc)) :: acc when acc: term

  @doc """
  Folds a function over the lines of a command's output, without their newlines, as who uses it would
  do that: with what it has for lines, or else `Bench.UserLines`.
  """
  @callback lines(arg :: term, cmd, acc, (binary, acc -> acc)) :: acc when acc: term

  @doc "Writes blocks to a command that ends once it has them all; what it said."
  @callback feed(arg :: term, cmd, blocks :: Enumerable.t()) ::
              {output :: binary, status :: non_neg_integer}

  @doc "Writes blocks and folds over what comes back: as many bytes as were written."
  @callback echo(arg :: term, cmd, blocks :: Enumerable.t(), bytes :: pos_integer, acc, fun) ::
              acc
            when acc: term, fun: (binary, acc -> acc)

  @doc "Runs commands that are joined by pipes, from a file into a file where `files` has `from:` and `to:`."
  @callback join(arg :: term, [cmd], files :: keyword) ::
              {output :: binary, status :: non_neg_integer}

  @doc "As `c:fold/4`, with a copy of it all in a file."
  @callback tee(arg :: term, cmd, path :: Path.t(), acc, (binary, acc -> acc)) :: acc
            when acc: term

  @doc """
  As `c:fold/4` of what came through `cat`, with a copy of what went in on the stdin of another command, whose output goes
  to a file.
  """
  @callback tee_command(arg :: term, cmd, copy :: cmd, said :: Path.t(), acc, fun) :: acc
            when acc: term, fun: (binary, acc -> acc)

  @doc "A command under the caller's hands, which ends with the caller, as those of the calls above do."
  @callback open(arg :: term, cmd) :: term
  @callback put(process :: term, binary) :: :ok
  @callback get(process :: term) :: binary | :eof
  @callback close(process :: term) :: term

  @doc "Looks at the counters of the commands that run now, each time it is called: `Bench.Counters`."
  @callback counters :: (() -> Bench.Counters.t())

  @optional_callbacks lacks: 0,
                      run: 2,
                      fold: 4,
                      lines: 4,
                      feed: 3,
                      echo: 6,
                      join: 3,
                      tee: 5,
                      tee_command: 6,
                      open: 2,
                      put: 2,
                      get: 1,
                      close: 1,
                      counters: 0

  @modules [
    Bench.Contestants.NetRunner,
    Bench.Contestants.SystemCmd,
    Bench.Contestants.Port,
    Bench.Contestants.Exile,
    Bench.Contestants.NetRunnerHex,
    Bench.Contestants.MuonTrap,
    Bench.Contestants.Erlexec,
    Bench.Contestants.ExCmd
  ]

  # Of all others; a shell's are rows of their own.
  @only_ours %{
    join: "it has no pipelines",
    tee: "it makes no copies",
    tee_command: "it makes no copies"
  }

  @spec present :: [t]
  def present do
    for module <- @modules, {name, arg} <- module.columns() do
      Code.ensure_loaded!(module)
      %{name: name, module: module, arg: arg}
    end
  end

  @spec absent :: [String.t()]
  def absent, do: for(module <- @modules, module.columns() == [], do: module.title())

  @doc "NetRunner's columns are ours, all others are peers."
  @spec role(t) :: :ours | :peer
  def role(%{module: Bench.Contestants.NetRunner}), do: :ours
  def role(_contestant), do: :peer

  @spec can?(t, atom) :: boolean
  def can?(%{module: module}, function) do
    Enum.any?(module.__info__(:functions), fn {name, _arity} -> name == function end)
  end

  @doc "Why it cannot, of those that cannot."
  @spec lack(t, atom) :: String.t()
  def lack(%{module: module} = contestant, function) do
    own = if can?(contestant, :lacks), do: module.lacks(), else: %{}
    Map.get_lazy(own, function, fn -> Map.fetch!(@only_ours, function) end)
  end
end
