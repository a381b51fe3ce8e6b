# The work of ci/negative: mutants are read, applied to a copy of the tree, built, tested, judged.

defmodule Negative.Mutant do
  @moduledoc """
  One file of test/negative: what is removed, why it is there, which tests must turn red, and the
  change itself as text to find and text to put in its place.

      One line: what is removed.
      Then as many as it takes: why the line is there.

      red: c test_pidref a_stranger_is_refused
      red: elixir test/net_runner/faults_test.exs "test the child's state (26) is clean [poll]"
      hangs: c test_channel a_full_socket_is_a_wait
      --- shepherd/pidref.c
          if (pid <= 1)
              return -EINVAL;
      +++
          (what stands there instead; nothing is fine)

  All the tests that are named must turn red. `hangs:` says that a test that ends by a time-out is
  red, too; elsewhere it is not, for a machine that is too slow looks the same. `crashes:` says the same of
  a test's program that is ended by a signal. A file may have several changes, each from its `---` on. The
  text between `---` and `+++` must be found exactly once. A line `later: why` stands for tests and change of what the product does not have yet.
  """

  defstruct [:name, :what, :later, :tests, :changes]

  def read(path) do
    name = Path.basename(path, ".mutant")
    [header | changes] = path |> File.read!() |> String.split(~r/^--- /m)
    [what | rest] = String.split(header, "\n", trim: true)
    later = for "later: " <> why <- rest, do: why
    tests = for line <- rest, test = test(line), do: test
    changes = Enum.map(changes, &change(name, &1))

    if later == [] and (tests == [] or changes == []),
      do: raise("#{name}: a mutant names a test and has a change")

    %__MODULE__{name: name, what: what, later: List.first(later), tests: tests, changes: changes}
  end

  defp test(line) do
    case Regex.run(~r/^(red|hangs|crashes): (?:(c) (\w+) (\w+)|(elixir) (\S+) "(.+)")$/, line) do
      [_, manner, "c", program, name] -> {manner, {:c, program, name}}
      [_, manner, _, _, _, "elixir", file, name] -> {manner, {:elixir, file, name}}
      nil -> if line =~ ~r/^(red|hangs|crashes):/, do: raise("not understood: #{line}")
    end
  end

  defp change(name, text) do
    [file, rest] = String.split(text, "\n", parts: 2)

    case String.split(rest, ~r/^\+\+\+\n/m) do
      [old, new] -> {file, old, new}
      _other -> raise "#{name}: a change is --- FILE, the old text, +++, the new text"
    end
  end

  @doc "The changed files of a tree: `{:ok, %{path => content}}` or `{:error, why}`."
  def apply_to(mutant, tree) do
    Enum.reduce_while(mutant.changes, {:ok, %{}}, fn {file, old, new}, {:ok, files} ->
      with {:ok, content} <- content(files, tree, file),
           [before, behind] <- String.split(content, old) do
        {:cont, {:ok, Map.put(files, file, before <> new <> behind)}}
      else
        {:error, reason} -> {:halt, {:error, "#{file}: #{:file.format_error(reason)}"}}
        parts -> {:halt, {:error, "#{file} has its text #{length(parts) - 1} times, not once"}}
      end
    end)
  end

  defp content(files, tree, file) do
    with :error <- Map.fetch(files, file), do: File.read(Path.join(tree, file))
  end
end

defmodule Negative.Tree do
  @moduledoc """
  The copies in which everything happens, one for each that works at the same time (most tests wait most of
  the time). They stay, so that the next run builds little.
  """

  @folder Path.expand("_build/negative")
  @cmake "_build/test/lib/net_runner/cmake"

  def paths(count), do: for(n <- 1..count, do: Path.join(@folder, "tree#{n}"))
  def log(name), do: Path.join([@folder, "log", name <> ".log"])

  @doc "Makes a copy the same as the checkout, its uncommitted changes included."
  def renew(tree) do
    File.mkdir_p!(Path.dirname(log("")))
    File.mkdir_p!(Path.join(tree, "_build/tmp"))
    {listed, 0} = System.cmd("git", ~w(ls-files -z --cached --others --exclude-standard))
    files = for file <- String.split(listed, <<0>>, trim: true), File.regular?(file), do: file

    for old <- Path.wildcard(Path.join(tree, "**"), match_dot: true),
        relative = Path.relative_to(old, tree),
        not String.starts_with?(relative, "_build/"),
        File.regular?(old) and relative not in files,
        do: File.rm!(old)

    for file <- files do
      put(tree, file, File.read!(file))
      File.chmod!(Path.join(tree, file), File.stat!(file).mode)
    end
  end

  @doc """
  Writes a file of a copy unless it is the same. The time of the change lies ahead, because Mix
  compares whole seconds.
  """
  def put(tree, file, content) do
    path = Path.join(tree, file)

    if File.read(path) != {:ok, content} do
      File.mkdir_p!(Path.dirname(path))
      File.write!(path, content)
      if Path.extname(file) == ".ex", do: File.touch!(path, System.os_time(:second) + 2)
    end
  end

  @doc "The shell's words for building what a test needs."
  def build({:c, program, _name}), do: cmake([program, "shepherd"])

  def build({:elixir, _file, _name}),
    do: cmake(["net_runner", "shepherd"]) <> " && mix compile.elixir"

  defp cmake(targets),
    do: "cmake --build #{@cmake} --parallel 2 --target #{Enum.join(targets, " ")}"

  @doc "The shell's words for running tests of one kind."
  def run([{:c, program, name}]),
    do: "CK_VERBOSITY=verbose NET_RUNNER_TEST=#{name} #{@cmake}/test/#{program}"

  def run([{:elixir, _, _} | _] = tests) do
    files = for {:elixir, file, _} <- tests, uniq: true, do: quoted(file)
    only = for {:elixir, _, name} <- tests, do: "--only " <> quoted("test:" <> name)
    Enum.join(["mix test --no-compile --seed 0" | only ++ files], " ")
  end

  defp quoted(word), do: "'" <> String.replace(word, "'", "'\\''") <> "'"
end

defmodule Negative.Cage do
  @moduledoc """
  Runs shell commands in a tree, in a pid namespace with a /proc of its own. What they leave alive ends with
  it, a signal to everybody reaches nobody outside, and a limit ends it all. Temporary files have names made
  of pids, which are the same in every namespace: each tree has a folder for its own.
  """

  @doc "`{exit status, what was said}`; status 137 is the limit."
  def run(tree, script, log, limit_s) do
    # The first process of a namespace must be one that reaps orphans: a shell is.
    {_, status} =
      System.cmd(
        "timeout",
        ["-s", "KILL", "#{limit_s}", "unshare"] ++
          user() ++
          ["--pid", "--fork", "--mount-proc", "--kill-child", "setsid", "bash", "-c"] ++
          ["{ #{script}\n} >\"$0\" 2>&1", log],
        cd: tree,
        env: [{"MIX_ENV", "test"}, {"TMPDIR", Path.join(tree, "_build/tmp")}],
        stderr_to_stdout: true
      )

    {status, File.read!(log)}
  end

  def usable? do
    match?(
      {_, 0},
      System.cmd("unshare", user() ++ ~w(--pid --fork --mount-proc true), stderr_to_stdout: true)
    )
  end

  # Whoever is not root needs a user namespace to make the others.
  defp user do
    {id, 0} = System.cmd("id", ["-u"])
    if String.trim(id) == "0", do: [], else: ["--user", "--map-current-user"]
  end
end

defmodule Negative.Verdict do
  @moduledoc """
  What a test's output says of it: `:green`, `{:red, first words}`, `:hung`, `:skipped`, `:crashed`, or `{:lost, why}`
  when it was not even run to its end.
  """

  @unbuilt 99
  @counts ~r/^(?:(\d+) doctests?, )?(\d+) tests?, \d+ failures?(?:, (\d+) excluded)?\s*$/m

  def unbuilt, do: @unbuilt

  def of(_test, 137, _said), do: :hung
  def of(_test, @unbuilt, _said), do: {:lost, "it does not build"}
  def of({:c, _program, _name}, 77, _said), do: :skipped

  def of({:c, _program, name}, status, said) do
    lines = Regex.scan(~r/:([PFE]):[^\n]*:#{name}:\d+: ([^\n]*)/, said, capture: :all_but_first)
    failed = for [how, words] <- lines, how != "P", do: words

    cond do
      Enum.any?(failed, &(&1 =~ "timeout expired")) -> :hung
      failed != [] -> {:red, hd(failed)}
      said =~ ~r/^SKIP #{name}(_fn)?: /m -> :skipped
      lines != [] -> :green
      true -> ended(status)
    end
  end

  def of({:elixir, _file, _name}, status, said) do
    cond do
      said =~ "ExUnit.TimeoutError" -> :hung
      said =~ ~r/^ +1\) test /m -> {:red, words(said)}
      status == 0 and executed(said) == 1 -> :green
      true -> ended(status)
    end
  end

  # A shell adds 128 to the number of the signal.
  defp ended(status) when status > 128, do: :crashed
  defp ended(status), do: {:lost, "no verdict, exit #{status}"}

  @doc "How many tests ExUnit ran, of those it says it found."
  def executed(said) do
    with [_all | counts] <- Regex.run(@counts, said) do
      [doctests, tests, excluded] = for n <- 0..2, do: number(Enum.at(counts, n))
      doctests + tests - excluded
    else
      nil -> 0
    end
  end

  defp number(none) when none in [nil, ""], do: 0
  defp number(digits), do: String.to_integer(digits)

  # The line behind the failed test's place.
  defp words(said) do
    case Regex.run(~r/^ +1\) test .*\n.*\n +(.*)$/m, said) do
      [_, words] -> words
      nil -> ""
    end
  end
end

defmodule Negative do
  @moduledoc "The run: the unmutated tree first, then each mutant, each with a line of the table."

  alias Negative.{Cage, Mutant, Tree, Verdict}

  # Builds included. The slowest test takes a tenth of it.
  @limit_s 150

  def main(["-l"]) do
    for mutant <- mutants(),
        do: IO.puts(String.pad_trailing(mutant.name, 26) <> mutant.what <> later(mutant))
  end

  # Code that moved away under a mutant is noticed at once, not when somebody runs them all.
  def main(["-n"]) do
    moved =
      for mutant <- mutants(), mutant.later == nil, why <- unfit(mutant) do
        IO.puts("#{mutant.name} #{why}")
        mutant.name
      end

    {moved, all} = {length(Enum.uniq(moved)), length(mutants())}
    IO.puts("#{all - moved} passed, #{moved} failed (mutants that apply, their tests exist)")
    if moved > 0, do: System.halt(1)
  end

  def main(names) do
    # Ended by a signal, a BEAM says 0: as if all had gone well.
    :os.set_signal(:sigterm, :default)
    mutants = chosen(mutants(), names)

    unless Cage.usable?(),
      do:
        stop("this machine makes no pid namespaces for us, and without that nothing is safe here")

    trees = Tree.paths(min(System.schedulers_online() + 1, length(mutants)))
    {:ok, pool} = Agent.start_link(fn -> trees end)
    spread(trees, pool, fn _any, tree -> build(tree) end) |> Stream.run()
    check_backends(hd(trees))
    sound = unmutated(mutants, pool)

    print("NAME", "what was removed", "test that turned red", "s")

    results =
      spread(mutants, pool, &judge(&1, &2, sound))
      |> Enum.flat_map(fn {:ok, rows} -> Enum.map(rows, &print/1) end)

    IO.puts("\n" <> summary(results))
    if :failed in results, do: System.halt(1)
  end

  defp unfit(mutant) do
    missing =
      for {_manner, test} <- mutant.tests,
          not there?(test),
          do: "names a test that is not there: #{title(test)}"

    case Mutant.apply_to(mutant, ".") do
      {:ok, _files} -> missing
      {:error, why} -> ["does not apply: " <> why | missing]
    end
  end

  defp there?({:c, program, name}),
    do:
      File.read!("test/c/#{program}.c") =~
        ~r/\b(?:(?:tcase_add|add_moving)_(?:loop_)?test|ADD_EACH)\(\w+, #{name}[,)]/

  # A name is "test", the sentence of its describe, its own and its backend; either may be put together.
  defp there?({:elixir, file, "test " <> name}) do
    name = String.replace(name, ~r/ \[\w+\]$/, "")
    source = File.read!(file)
    alone = sentences(source, "test|on_backends")
    described = for one <- sentences(source, "describe"), two <- alone, do: "#{one} #{two}"
    Enum.any?(alone ++ described, &(name =~ Regex.compile!("^#{&1}$", "s")))
  end

  defp sentences(source, macros) do
    for [sentence] <-
          Regex.scan(~r/^\s*(?:#{macros}) "((?:\\.|[^"\\])+)"/m, source, capture: :all_but_first) do
      sentence
      |> String.replace("\\\"", "\"")
      |> Regex.escape()
      |> String.replace(~r/\\\#\\{.*?\\}/, ".+")
    end
  end

  # Calls `fun` with each item and a tree that is its alone meanwhile.
  defp spread(items, pool, fun) do
    work = fn item ->
      tree = Agent.get_and_update(pool, fn [tree | free] -> {tree, free} end)
      result = fun.(item, tree)
      Agent.update(pool, &[tree | &1])
      result
    end

    count = length(Agent.get(pool, & &1))
    Task.async_stream(items, work, max_concurrency: count, timeout: :infinity)
  end

  defp mutants do
    for path <- Enum.sort(Path.wildcard("test/negative/*.mutant")), do: Mutant.read(path)
  end

  defp chosen(mutants, []), do: mutants

  defp chosen(mutants, names) do
    for name <- names do
      Enum.find(mutants, &(&1.name == name)) || stop("no mutant #{name}: see ci/negative -l")
    end
  end

  defp later(%{later: nil}), do: ""
  defp later(%{later: why}), do: " (later: #{why})"

  # Removed lines leave unused variables behind.
  defp build(tree) do
    Tree.renew(tree)
    script = "NET_RUNNER_CMAKE_ARGS='-DNET_RUNNER_WERROR=OFF -DCMAKE_C_FLAGS=-w' mix compile"
    {status, said} = Cage.run(tree, script, Tree.log("build_" <> Path.basename(tree)), 600)
    if status != 0, do: stop("the unmutated tree does not build:\n#{said}")
  end

  # The same answer as ci/test's: only a machine that refuses io_uring may do without it.
  defp check_backends(tree) do
    if System.get_env("NET_RUNNER_TEST_BACKENDS", "") == "" do
      probe = Path.join(tree, "_build/test/lib/net_runner/priv/ring_probe")
      {_, status} = System.cmd("sh", ["-c", "[ ! -x \"$0\" ] || exec \"$0\"", probe])

      System.put_env(
        "NET_RUNNER_TEST_BACKENDS",
        if(status == 0, do: "io_uring,poll", else: "poll")
      )
    end
  end

  defp backends, do: System.get_env("NET_RUNNER_TEST_BACKENDS")

  defp unavailable?({:elixir, _file, name}),
    do: name =~ "[io_uring]" and not (backends() =~ "io_uring")

  defp unavailable?(_test), do: false

  ## The unmutated tree

  # The verdict on each test that is named. Those in Elixir share a BEAM; each has its own only if that
  # did not come out green.
  defp unmutated(mutants, pool) do
    tests = for %{tests: tests} <- mutants, {_manner, test} <- tests, uniq: true, do: test
    {elixir, c} = Enum.split_with(tests, &(elem(&1, 0) == :elixir))
    {missing, elixir} = Enum.split_with(elixir, &unavailable?/1)
    together = if elixir == [], do: [], else: [elixir]
    begin = now()

    verdicts =
      spread(together ++ Enum.map(c, &[&1]), pool, &verdicts/2)
      |> Enum.flat_map(fn {:ok, verdicts} -> verdicts end)
      |> Map.new()
      |> Map.merge(Map.new(missing, &{&1, :skipped}))

    green = Enum.count(verdicts, &match?({_, :green}, &1))
    took = seconds(begin)
    IO.puts("Unmutated: #{green} of #{length(tests)} named tests are green (#{took} s)\n")
    verdicts
  end

  defp verdicts([test], tree), do: [{test, run(test, tree, "unmutated_" <> Path.basename(tree))}]

  defp verdicts(tests, tree) do
    script = "#{Tree.build(hd(tests))} && #{Tree.run(tests)}"
    {status, said} = Cage.run(tree, script, Tree.log("unmutated"), 600)

    if status == 0 and Verdict.executed(said) == length(tests),
      do: Enum.map(tests, &{&1, :green}),
      else: Enum.flat_map(tests, &verdicts([&1], tree))
  end

  ## One mutant

  # The rows of the table that it makes, one for each of its tests: {result, name, what, words, seconds}.
  defp judge(%{later: why} = mutant, _tree, _sound) when why != nil,
    do: [{:later, mutant.name, mutant.what, "later: #{why}", ""}]

  defp judge(mutant, tree, sound) do
    case Mutant.apply_to(mutant, tree) do
      {:ok, files} ->
        sane = for {file, _content} <- files, do: {file, File.read!(Path.join(tree, file))}
        for {file, content} <- files, do: Tree.put(tree, file, content)

        rows =
          for {manner, test} <- mutant.tests do
            begin = now()
            {result, words} = judge_test(manner, test, tree, mutant.name, sound[test])
            {result, mutant.name, mutant.what, words, seconds(begin)}
          end

        for {file, content} <- sane, do: Tree.put(tree, file, content)
        rows

      {:error, why} ->
        [{:failed, mutant.name, mutant.what, "DOES NOT APPLY: " <> why, ""}]
    end
  end

  defp judge_test(manner, test, tree, name, :green),
    do: meaning(manner, run(test, tree, name), title(test))

  defp judge_test(_manner, test, _tree, _name, :skipped),
    do: {:skipped, "SKIPPED, cannot run here: #{title(test)}"}

  defp judge_test(_manner, test, _tree, _name, verdict),
    do: {:failed, "RED WITHOUT IT, TOO (#{inspect(verdict)}): #{title(test)}"}

  defp meaning(_manner, {:red, _words}, title), do: {:red, title}
  defp meaning("hangs", :hung, title), do: {:red, title <> " (hangs)"}
  defp meaning("crashes", :crashed, title), do: {:red, title <> " (crashes)"}
  defp meaning(_manner, :green, title), do: {:failed, "SURVIVED " <> title}
  defp meaning(_manner, :hung, title), do: {:failed, "HUNG " <> title}
  defp meaning(_manner, :crashed, title), do: {:failed, "CRASHED " <> title}
  defp meaning(_manner, {:lost, why}, title), do: {:failed, "NOT JUDGED (#{why}) #{title}"}
  defp meaning(_manner, :skipped, title), do: {:failed, "NOT JUDGED (skips itself) #{title}"}

  defp run(test, tree, name) do
    script = "{ #{Tree.build(test)}; } || exit #{Verdict.unbuilt()}; #{Tree.run([test])}"
    {status, said} = Cage.run(tree, script, Tree.log(name), @limit_s)
    Verdict.of(test, status, said)
  end

  ## Words

  defp title({:c, program, name}), do: "#{program}.c #{name}"
  defp title({:elixir, file, name}), do: "#{Path.basename(file)} #{name}"

  defp print({result, name, what, test, seconds}) do
    print(name, what, test, seconds)
    result
  end

  defp print(name, what, test, seconds) do
    [{name, 24}, {what, 60}, {test, 70}]
    |> Enum.map_join(" ", fn {text, width} -> String.pad_trailing(text, width) end)
    |> Kernel.<>(String.pad_leading(seconds, 6))
    |> IO.puts()
  end

  defp summary(results) do
    count = fn what -> Enum.count(results, &(&1 == what)) end

    "#{count.(:red)} passed, #{count.(:failed)} failed (tests that turned red without their line), " <>
      "#{count.(:skipped)} skipped, #{count.(:later)} later"
  end

  defp now, do: System.monotonic_time(:millisecond)
  defp seconds(begin), do: :erlang.float_to_binary((now() - begin) / 1000, decimals: 1)

  @spec stop(String.t()) :: no_return
  defp stop(words) do
    IO.puts(:stderr, "ci/negative: " <> words)
    System.halt(1)
  end
end

Negative.main(System.argv())
