defmodule MyApp.Metrics do
  # What the example of NetRunner.Telemetry attaches.
  def command_stopped(event, measurements, metadata, nil),
    do: send(__MODULE__, {event, measurements, metadata})
end

defmodule NetRunner.DocsTest do
  # The examples of README.md and docs/: each ```elixir block is run, in the order of its file, in a
  # directory of its own, and must give what stands behind `#=>` (a pattern).
  #
  # `<!-- given: COMMAND -->` is run there before by a shell. A block behind `<!-- only compiled: WHY -->` is
  # parsed, not run; what is a part of mix.exs, of config.exs or of a module is evaluated as such. One behind `<!-- needs TAG
  # TAG: WHY -->` is run where tests with these tags are. What one behind `<!-- says REGEX -->` writes on stderr must match.
  #
  # The indented blocks of the public modules' documentation are run in the same way, but those with `iex>`: a
  # doctest runs these, and each module that has some is found in one. Behind `<!-- no code: WHY -->` a block
  # is left alone.
  use NetRunner.Test.Case

  import ExUnit.CaptureIO, only: [with_io: 2]

  alias NetRunner.Test.Telemetry, as: Library

  @root Path.expand("..", __DIR__)
  @files [
           @root |> Path.join("README.md")
           | Path.wildcard(Path.join(@root, "docs/**/*.{md,livemd}"))
         ]
         |> Enum.map(&Path.relative_to(&1, @root))
         |> Enum.filter(&(File.read!(Path.join(@root, &1)) =~ "```elixir"))

  for file <- @files do
    @external_resource Path.join(@root, file)
    @tag timeout: 120_000
    test file do
      text = File.read!(Path.join(@root, unquote(file)))
      dir = Path.dirname(tmp_path("here"))

      back_at_baseline(fn ->
        File.cd!(dir, fn ->
          for command <- given(text), do: {_, 0} = System.cmd("sh", ["-ec", command])
          run_blocks(blocks(text), unquote(file))
        end)
      end)
    end
  end

  # What the examples of the modules find there.
  @given_for_modules "seq 1 1000 > huge.log; gzip -k huge.log"

  @tag timeout: 120_000
  test "the documentation of the public modules" do
    dir = Path.dirname(tmp_path("here"))
    {_, 0} = System.cmd("sh", ["-ec", @given_for_modules], cd: dir)

    run =
      for module <- modules(),
          public?(module),
          module != NetRunner.Telemetry,
          {name, text} <- docs(module) do
        blocks = indented(text)

        if blocks != [],
          do: back_at_baseline(fn -> File.cd!(dir, fn -> run_blocks(blocks, name) end) end)

        if blocks != [], do: name
      end

    for module <- [NetRunner, NetRunner.Command, NetRunner.Daemon, NetRunner.Process],
        do: assert(inspect(module) in run)
  end

  test "the documentation of NetRunner.Telemetry, where that library is" do
    Library.load()
    Library.start()
    assert NetRunner.Telemetry.refresh()
    Process.register(self(), MyApp.Metrics)
    [{name, text} | _functions] = docs(NetRunner.Telemetry)
    run_blocks(indented(text), name)
    assert {"", 3} = NetRunner.run(["sh", "-c", "exit 3"])

    assert_received {[:net_runner, :command, :stop], %{duration: duration}, metadata}
    assert is_integer(duration)
    assert %{cmd: ["sh", "-c", "exit 3"], exit: {:exited, 3}} = metadata
  end

  test "a module with doctests is in a test that runs them" do
    tests =
      Path.join(@root, "test/**/*_test.exs") |> Path.wildcard() |> Enum.map_join(&File.read!/1)

    with_examples =
      for module <- modules(),
          Enum.any?(docs(module), fn {_name, text} -> text =~ ~r/^\s*iex> /m end),
          do: inspect(module)

    assert "NetRunner.Text" in with_examples

    for name <- with_examples,
        do: assert(tests =~ ~r/^  doctest #{Regex.escape(name)}$/m, "no test has doctest #{name}")
  end

  test "an indented block is found, unless it is marked or for a doctest" do
    text = """
    Text

        1 + 1
        #=> 2

        :more

      * a list
        goes on

    <!-- only compiled: it is an example -->

        x +
          y

    <!-- no code: it is a table -->

        COMMAND  PID

        iex> 3

      * a list

        | a | table |
    """

    assert [{nil, "1 + 1\n#=> 2\n\n:more"}, {"only compiled: it is an example", "x +\n  y"}] =
             for({_line, why, code} <- indented(text), do: {why, code})
  end

  test "every document with examples is among them" do
    assert "README.md" in @files
    assert "docs/cookbook.md" in @files
  end

  test "an example that is wrong fails" do
    run = &run_blocks(blocks("```elixir\n#{&1}\n```\n"), "here")
    run.("1 + 1\n#=> 2")
    run.("x = 1\ny = 2\n#=> 2\n{x, y}\n#=> {1, _}")

    assert_raise ExUnit.AssertionError, ~r/here:3: expected 3, got: 2/, fn ->
      run.("1 + 1\n#=> 3")
    end

    assert_raise ArithmeticError, fn -> run.("1 + :x") end

    says = fn code ->
      run_blocks(blocks("<!-- says ^o+$ -->\n```elixir\n#{code}\n```\n"), "here")
    end

    says.("IO.write(:stderr, :oo)")

    assert_raise ExUnit.AssertionError, ~r/here:3: expected on stderr \^o\+\$, got: o!/, fn ->
      says.("IO.write(:stderr, :o!)")
    end

    for {where, wrong} <- [{"mix.exs", "defp deps, do: []"}, {"config.exs", "import Config"}] do
      assert_raise ExUnit.AssertionError, fn ->
        text = "<!-- only compiled: it is a part of #{where} -->\n```elixir\n#{wrong}\n```\n"
        run_blocks(blocks(text), "here")
      end
    end
  end

  defp given(text),
    do: for([_, command] <- Regex.scan(~r/^<!-- given: (.*) -->$/m, text), do: command)

  # {line of its first line, why it is not run or nil, code}
  defp blocks(text) do
    Regex.scan(
      ~r/^(?:<!-- ((?:only compiled:|needs [a-z_ ]+:|says) [^\n]*) -->\n+)?```elixir\n(.*?)^```$/ms,
      text,
      return: :index
    )
    |> Enum.map(fn [_all, why, {at, size}] ->
      line = text |> binary_part(0, at) |> String.split("\n") |> length()
      {line, marked(text, why), binary_part(text, at, size)}
    end)
  end

  defp marked(_text, {_at, 0}), do: nil
  defp marked(_text, {-1, _}), do: nil
  defp marked(text, {at, size}), do: binary_part(text, at, size)

  defp modules do
    lib = Path.join(@root, "lib") <> "/"

    # Of those of test/support, which are compiled with them, nobody reads documentation.
    Application.spec(:net_runner, :modules)
    |> Enum.filter(&String.starts_with?(to_string(&1.module_info(:compile)[:source]), lib))
    |> Enum.sort()
  end

  defp public?(module), do: match?({:docs_v1, _, _, _, %{}, _, _}, Code.fetch_docs(module))

  # Of a module, and of all in it: {where it stands, text}
  defp docs(module) do
    {:docs_v1, _, _, _, moduledoc, _, docs} = Code.fetch_docs(module)

    for {name, %{"en" => text}} <- [
          {inspect(module), moduledoc}
          | for(
              {{_kind, name, arity}, _, _, doc, _} <- docs,
              do: {"#{inspect(module)}.#{name}/#{arity}", doc}
            )
        ],
        do: {name, text}
  end

  # As blocks/1, of what is indented by four behind an empty line.
  defp indented(text) do
    Regex.scan(
      ~r/(?:^<!-- ((?:only compiled|no code): .*) -->\n)?(?<=\n)\n((?: {4}.*\n|\n(?= {4}))+)/m,
      text <> "\n",
      return: :index
    )
    |> Enum.map(fn [_all, mark, {at, size}] ->
      mark = marked(text, mark)
      line = text |> binary_part(0, at) |> String.split("\n") |> length()
      code = binary_part(text <> "\n", at, size) |> String.replace(~r/^ {4}/m, "")
      {line, mark, String.trim_trailing(code)}
    end)
    # A table may be part of a list.
    |> Enum.reject(fn {_line, mark, code} ->
      String.starts_with?(mark || "", "no code") or String.starts_with?(code, "|") or
        code =~ ~r/^\s*iex> /m
    end)
  end

  defp run_blocks(blocks, file) do
    assert blocks != []

    Enum.reduce(blocks, [], fn
      {line, nil, code}, binding ->
        run(steps(code, line), file, binding)

      {line, "needs " <> tags, code}, binding ->
        if can?(tags), do: run(steps(code, line), file, binding), else: parse(code, file, line)
        binding

      {line, "says " <> regex, code}, binding ->
        {binding, said} = with_io(:stderr, fn -> run(steps(code, line), file, binding) end)

        assert said =~ Regex.compile!(regex),
               "#{file}:#{line}: expected on stderr #{regex}, got: #{said}"

        binding

      {line, why, code}, binding ->
        parse(code, file, line)
        if why =~ ~r/ mix\.exs$/, do: part_of_mix_exs(code)
        if why =~ ~r/ config\.exs$/, do: part_of_config_exs(code, file)
        if why =~ ~r/ module that uses NetRunner\.Command$/, do: part_of_module(code)
        binding
    end)
  end

  defp parse(code, file, line), do: Code.string_to_quoted!(code, file: file, line: line)

  defp can?(tags) do
    # Besides tags that are left out there are single tests: `{:test, name}`.
    left_out = for tag <- ExUnit.configuration()[:exclude], is_atom(tag), do: to_string(tag)
    tags |> String.split(":") |> hd() |> String.split() |> Enum.all?(&(&1 not in left_out))
  end

  # The dependency that ci/check-build builds a project with, but for the folder.
  defp part_of_mix_exs(code) do
    deps = in_module(code <> "\ndef all, do: deps()", & &1.all())
    assert [{:net_runner, path: "../net_runner"}] = deps
    assert Mix.Project.config()[:app] == :net_runner
    built = File.read!(Path.join(@root, "ci/check-build"))
    assert built =~ ~s(deps: [{:net_runner, path: "../net runner"}])
  end

  defp part_of_module(code) do
    functions = in_module("use NetRunner.Command\n" <> code, & &1.__info__(:functions))
    assert functions != []
  end

  defp in_module(code, fun) do
    [{module, _beam}] = Code.compile_string("defmodule NetRunner.DocsTest.Part do\n#{code}\nend")
    result = fun.(module)
    :code.purge(module)
    :code.delete(module)
    result
  end

  defp part_of_config_exs(code, file) do
    assert [{app, [_ | _]}] = Config.Reader.eval!(file, "import Config\n" <> code)
    assert app in [:logger, :net_runner]
  end

  # A block is code, then what it gives, then more code...: {code, line, pattern or nil}
  defp steps(code, line) do
    code
    |> String.split("\n")
    |> Enum.with_index(line)
    |> Enum.chunk_by(fn {text, _line} -> comment?(text) end)
    |> pair()
  end

  defp comment?(text), do: text =~ ~r/^#(=>|   )/

  defp pair([]), do: []

  defp pair([[{_, line} | _] = code, [{"#=>" <> _, _} | _] = expected | rest]) do
    pattern =
      Enum.map_join(expected, "\n", fn {text, _} -> String.replace(text, ~r/^#(=>)?/, "") end)

    [{text(code), line, pattern} | pair(rest)]
  end

  defp pair([[{_, line} | _] = code | rest]), do: [{text(code), line, nil} | pair(rest)]

  defp text(lines), do: Enum.map_join(lines, "\n", &elem(&1, 0))

  defp run(steps, file, binding) do
    Enum.reduce(steps, binding, fn {code, line, pattern}, binding ->
      {value, binding} = Code.eval_string(code, binding, file: file, line: line)
      if pattern, do: expect(value, pattern, file, line + length(String.split(code, "\n")))
      binding
    end)
  end

  defp expect(value, pattern, file, line) do
    {matches?, _} = Code.eval_string("match?(#{pattern}, value)", value: value)

    assert matches?, "#{file}:#{line}: expected#{pattern}, got: #{inspect(value, limit: 20)}"
  end
end
