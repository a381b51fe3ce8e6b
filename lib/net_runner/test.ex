defmodule NetRunner.Test do
  @moduledoc ~S"""
  For your tests: code that runs commands is tested without them. A real command is recorded once, into a file that people can
  read, and replayed wherever the code under test starts it; or a fake says what the command would do.

  <!-- only compiled: it is a part of test_helper.exs -->

      # test/test_helper.exs
      NetRunner.Test.start()
      ExUnit.start()

  <!-- only compiled: it is a test of somebody's -->

      defmodule MyApp.ReleaseTest do
        use ExUnit.Case, async: true
        use NetRunner.Test, redirect: "test/cassettes"

        test "the changelog names the last tag" do
          assert MyApp.Release.changelog() =~ "v1.2.0"
        end
      end

  What is replayed is no mock of these calls. In the command's place a small program is started that writes what the command wrote,
  in that order, reads what it read, and ends as it did, by a signal, too. So `NetRunner.run/2`, `exec/2`, streams, pipelines,
  `NetRunner.Process`, `NetRunner.Daemon` and `NetRunner.Compat` do what they always do: back-pressure, `stderr:`, `lines:`, limits, time-outs, the
  ladder of stops.

      iex> {:ok, %{exit: {:exited, 2}}} = NetRunner.Test.record("ls.cassette", ["ls", "/no such folder"], env: [LC_ALL: "C"])
      iex> NetRunner.Test.with_cassettes("ls.cassette", fn ->
      ...>   NetRunner.run(["ls", "/no such folder"], stderr: :capture)
      ...> end)
      {"", 2, "ls: cannot access '/no such folder': No such file or directory\n"}
      iex> [_first, ~S(command "ls" "/no such folder") | _events] = "ls.cassette" |> File.read!() |> String.split("\n")
      iex> git = NetRunner.Test.fake(["git", "push", :*], stderr: "rejected\n", exit: 1)
      iex> NetRunner.Test.with_cassettes(git, fn ->
      ...>   NetRunner.run(["git", "push", "origin"], stderr: :capture)
      ...> end)
      {"", 1, "rejected\n"}

  ## Which processes are redirected

  The one that calls `with_cassettes/3` or `redirect/2`, and each whose `$callers` or `$ancestors` (of the process dictionary) have it:
  tasks (`Task`), what `start_supervised/1` starts, servers that it starts by `start_link`, a daemon of theirs, the functions given as `input:`. What is
  nearest counts, and in one process what was redirected last. Not a process made by a plain `spawn`, and not a server that was there before: those need
  `allow/2`, or `global: true` in a test that is not `async`.

  It ends with the function, the test or the process: a task that is still at work then is redirected no more.

  In a process that is redirected, no command is run by accident: one that nothing matches is `{:error, {:not_recorded, message}}`, which names it and
  what there is, and `NetRunner.Test.Error` is raised in the end, even where the code under test took that error for any other. `otherwise:` lets some
  run. With `start(others: :refuse)` no other process runs a command either.

  ## What is not the true program's

  A replay runs as the BEAM does: `user:`, `group:`, `groups:`, `cgroup:`, `nice:`, `oom_score_adj:` and `rlimits:` are checked and not
  applied, for they need privileges. Everything else is: a `cd:` that is not there is an error. It writes files only by `stdout:` and `stderr:`, and
  ends by signals as any program that does nothing about them. Its CPU time and memory are its own.

  ## Cassettes

  A cassette is text: one line for each line of output, with the time in microseconds since the start; base64 for what is no
  UTF-8. It may be edited. A recording has the command and its arguments, what was written and read, `cd:`, and the names of the variables
  that were set or unset, never their values. What the program itself writes, or is given in its arguments or on stdin (see
  `keep_stdin:`), is in it: look at it before you commit it.

  ## When it is off

  Nothing of this does anything unless `start/1` was called: a start of a command then reads one `:persistent_term`, some ten nanoseconds of
  some hundred thousand, and no configuration or environment variable turns it on.
  """

  alias NetRunner.{Options, Replay}
  alias NetRunner.Replay.{Recorder, Recording, Server}

  @typedoc "What stands in for a command: from `cassette/2` or `fake/2`."
  @opaque recording :: Recording.t()

  @typedoc """
  What is redirected: recordings, paths of cassettes, or folders, whose `*.cassette` are taken in the order of their names; or a
  map or keyword list from an executable's name to those that are for it, whatever name they were recorded by.
  """
  @type what :: recording | Path.t() | [what] | %{(binary | atom) => what} | keyword(what)

  @typedoc """
  Which commands: the name of an executable, with any arguments; `[executable | arguments]`, of binaries, regexes, `:_` for any
  and a last `:*` for any number of them; a regex, of the command as a shell would be given it; or a function of `[executable | arguments]`.
  A name without a slash is that of an executable anywhere.
  """
  @type pattern ::
          binary
          | [binary | Regex.t() | :_ | :*, ...]
          | Regex.t()
          | ([binary, ...] -> as_boolean(term))

  @typedoc "What was redirected together, until it is verified."
  @type scope :: reference

  @doc false
  defmacro __using__(opts) do
    quote do
      setup do
        scope = NetRunner.Test.__using_redirect__(unquote(opts))
        on_exit(fn -> NetRunner.Test.verify!(scope) end)
        :ok
      end
    end
  end

  @doc false
  def __using_redirect__(opts) do
    {what, opts} = Keyword.pop(opts, :redirect, [])
    redirect(what, opts)
  end

  ## On and off

  @doc """
  Lets commands be redirected, from now on: in `test_helper.exs`. A second time changes nothing but `others:`.

  ## Options

  #{Options.docs(:replays)}
  """
  @spec start(keyword) :: :ok
  def start(opts \\ []) do
    {:ok, %{others: others}} = Options.validate(opts, :replays)

    case Supervisor.start_child(NetRunner.Supervisor, {Server, others}) do
      {:ok, _pid} -> :ok
      {:error, _there_is_one} -> Server.others(others)
    end
  catch
    :exit, {:noproc, _call} ->
      raise NetRunner.Test.Error, "the application net_runner is not started"
  end

  @doc "Ends it: every command is itself again."
  @spec stop :: :ok
  def stop do
    _ = Supervisor.terminate_child(NetRunner.Supervisor, Server)
    Server.switch_off()
  end

  ## Recordings

  @doc """
  Runs the real command to its end and writes what it does into a file, which is replaced if it is there; its folder is made. Gives the
  `NetRunner.Result`, with stdout and stderr. Where nothing ran, or the end is not known, `{:error, reason}`, and no file is written.

  A pipeline is no command, and `{:error, {:invalid_cmd, message}}`; each of its commands can be recorded.

  The order of stdout and stderr is that in which they came here: what is written into both within microseconds may be taken in the other one.

  ## Options

  Those of `NetRunner.Process.start/3`, without `stdout:`, `stderr:`, `pty:` and `owner:`; `input:` is `:null` unless it is given,
  and may not be `:pipe` or a function of a sink. With `packet:` each element of it is a frame; what is recorded, and given as stdout, are
  the bytes with their headers. And these:

  #{Options.docs(:record)}
  """
  @spec record(Path.t(), [binary, ...] | NetRunner.Command.t(), keyword) ::
          {:ok, NetRunner.Result.t()} | {:error, NetRunner.Error.reason()}
  def record(path, cmd, opts \\ []), do: Recorder.record(path, cmd, opts)

  @doc """
  A cassette to be replayed. Raises `NetRunner.Test.Error`, with file and line, where the file is none.

  ## Options

  #{Options.docs(:cassette)}
  """
  @spec cassette(Path.t(), keyword) :: recording
  def cassette(path, opts \\ []) do
    {:ok, options} = Options.validate(opts, :cassette)
    Recording.cassette(path, options)
  end

  @doc """
  What a command would do, written by hand. `does` are options, or a function of `[executable | arguments]` that gives them,
  called in the process that starts the command.

      iex> date = NetRunner.Test.fake(["date", "+%Y"], stdout: "1999\\n")
      iex> wc = NetRunner.Test.fake("wc", fn ["wc" | files] -> [stdout: "\#{length(files)} files\\n"] end)
      iex> ask = NetRunner.Test.fake("ask", steps: [stdout: "Name? ", stdin: "Ada\\n", stdout: "Hello\\n"], exit: 3)
      iex> NetRunner.Test.with_cassettes([date, wc, ask], fn ->
      ...>   {NetRunner.run(["date", "+%Y"]), NetRunner.run(["wc", "a", "b"]), NetRunner.run(["ask"], input: "Ada\\n")}
      ...> end)
      {{"1999\\n", 0}, {"2 files\\n", 0}, {"Name? Hello\\n", 3}}

  ## Options

  #{Options.docs(:fake)}
  """
  @spec fake(pattern, keyword | ([binary, ...] -> keyword), keyword) :: recording
  def fake(pattern, does \\ [], opts \\ []) do
    case Options.Type.check({:double, :match}, pattern) do
      :ok when pattern != nil -> :ok
      _wrong -> raise ArgumentError, "no pattern of a command: #{inspect(pattern, limit: 5)}"
    end

    unless is_function(does, 1) or Keyword.keyword?(does) do
      raise ArgumentError, "what a fake does is a keyword list, or a function of one argument"
    end

    does = if is_function(does, 1), do: does, else: Keyword.merge(does, opts)
    times = if is_function(does, 1), do: opts, else: Keyword.take(does, [:times])
    {:ok, %{times: times}} = Options.validate(times, :fake)
    Recording.fake(pattern, does, times)
  end

  ## Redirecting

  @doc """
  Calls `fun` while the commands of this process, and of those that belong to it, are redirected; gives what it returns. Raises
  `NetRunner.Test.Error` afterwards as `verify!/1` does.

  Recordings are looked through in their order, and the first that matches and may still be played is taken: two cassettes of the same
  command are its first and its second call.

      iex> once = &NetRunner.Test.fake("up", stdout: &1, times: 1)
      iex> NetRunner.Test.with_cassettes([once.("no"), once.("yes")], fn ->
      ...>   for _ <- 1..2, do: NetRunner.run(["up"])
      ...> end)
      [{"no", 0}, {"yes", 0}]
      iex> NetRunner.Test.with_cassettes(once.("no"), [otherwise: ["echo"]], fn ->
      ...>   NetRunner.run(["echo", "hello"])
      ...> end)
      {"hello\\n", 0}

  ## Options

  Those of `cassette/2` that stand here, too, are for what is given as a path.

  #{Options.docs(:redirect)}
  """
  @spec with_cassettes(what, keyword, (() -> value)) :: value when value: term
  def with_cassettes(what, opts \\ [], fun) when is_function(fun, 0) do
    scope = redirect(what, opts)

    try do
      fun.()
    catch
      kind, reason ->
        Server.forget(scope)
        :erlang.raise(kind, reason, __STACKTRACE__)
    else
      value ->
        verify!(scope)
        value
    end
  end

  @doc """
  As `with_cassettes/3`, for a `setup`: from now on, until `verify!/1` or this process's end. What was called can be verified after that,
  too, by whoever started the process, as ExUnit does for `on_exit/1`, until that has ended. `use NetRunner.Test, redirect: what` (and
  options) behind `use ExUnit.Case` is a `setup` with this, and with `verify!/1` when the test is over.

      iex> scope = NetRunner.Test.redirect(NetRunner.Test.fake("git", stdout: "clean"))
      iex> NetRunner.run(["git", "status"])
      {"clean", 0}
      iex> NetRunner.Test.calls(scope)
      [["git", "status"]]
      iex> NetRunner.Test.verify!(scope)
      :ok
  """
  @spec redirect(what, keyword) :: scope
  def redirect(what, opts \\ []) do
    {:ok, options} = Options.validate(opts, :redirect)
    defaults = options |> Map.take([:times, :stdin, :speed]) |> Map.to_list()
    Server.open(self(), recordings(what, defaults), options)
  end

  @doc """
  Redirects one more process, a server that was there before for example, as the one that calls this is.

      iex> NetRunner.Test.with_cassettes(NetRunner.Test.fake("date", stdout: "today"), fn ->
      ...>   me = self()
      ...>   pid = spawn(fn -> receive do: (:go -> send(me, NetRunner.run(["date"]))) end)
      ...>   NetRunner.Test.allow(pid)
      ...>   send(pid, :go)
      ...>   receive do: (answer -> answer)
      ...> end)
      {"today", 0}
  """
  @spec allow(pid | atom, pid) :: :ok
  def allow(pid, owner \\ self()) do
    case Server.allow(owner, whereis(pid)) do
      :ok -> :ok
      :nothing -> raise NetRunner.Test.Error, "#{inspect(owner)} has redirected nothing"
    end
  end

  defp whereis(pid) when is_pid(pid), do: pid

  defp whereis(name) when is_atom(name) do
    Process.whereis(name) ||
      raise NetRunner.Test.Error, "no process has the name #{inspect(name)}"
  end

  @doc """
  The commands that were called in a scope, in their order: also those that nothing matched, but not those that were let run.
  """
  @spec calls(scope) :: [[binary, ...]]
  def calls(scope), do: for({cmd, _played} <- Replay.calls(scope), do: cmd)

  @doc """
  Ends a scope, and raises `NetRunner.Test.Error` where a command was called that nothing matched, or that a fake was for which could not be
  played (its function raised, say: the message has why); with `unused: :raise`, also where something is left that was to be played.
  """
  @spec verify!(scope) :: :ok
  def verify!(scope) do
    Server.close(scope)
    options = Replay.options(scope)
    calls = Replay.calls(scope)
    missed = for {cmd, :nothing} <- calls, do: Replay.shown(cmd)
    failed = for {cmd, {:error, why}} <- calls, do: "#{Replay.shown(cmd)} (#{why})"
    left = if options[:unused] == :raise, do: Replay.unused(scope), else: []
    Server.forget(scope)

    complaints =
      for {what, [_ | _] = list} <- [
            {"called, and nothing stood in for it", missed},
            {"called, and what was to stand in for it could not", failed},
            {"not played as often as it was to be", left}
          ],
          do: "#{what}: #{Enum.join(list, "; ")}"

    if complaints != [], do: raise(NetRunner.Test.Error, Enum.join(complaints, "\n"))
    :ok
  end

  ## What may be redirected

  defp recordings(%Recording{} = recording, _defaults), do: [recording]

  defp recordings(path, defaults) when is_binary(path) do
    if File.dir?(path),
      do: of_folder(path, defaults),
      else: [cassette(path, defaults)]
  end

  defp recordings(%{} = map, defaults) when not is_struct(map),
    do: map |> Enum.sort() |> Enum.flat_map(&named(&1, defaults))

  defp recordings([{name, _what} | _] = list, defaults) when is_atom(name) or is_binary(name),
    do: Enum.flat_map(list, &named(&1, defaults))

  defp recordings(list, defaults) when is_list(list),
    do: Enum.flat_map(list, &recordings(&1, defaults))

  defp recordings(other, _defaults) do
    raise ArgumentError,
          "what is redirected are recordings, paths, or a map of them, got: #{inspect(other, limit: 5)}"
  end

  defp of_folder(path, defaults) do
    case path |> Path.join("*.cassette") |> Path.wildcard() |> Enum.sort() do
      [] -> raise NetRunner.Test.Error, "#{path}: there is no *.cassette in it"
      paths -> Enum.map(paths, &cassette(&1, defaults))
    end
  end

  # Of a cassette the arguments are what was recorded; of others, the pattern says.
  defp named({name, what}, defaults) do
    name = to_string(name)
    for recording <- recordings(what, defaults), do: Recording.named(recording, name)
  end
end
