defmodule NetRunner.DocsTest do
  # The examples of README.md and docs/: each ```elixir block is run, in the order of its file, in a
  # directory of its own, and must give what stands behind `#=>` (a pattern).
  #
  # `<!-- given: COMMAND -->` is run there before by a shell. A block behind `<!-- only compiled: WHY -->` is
  # parsed, not run.
  use NetRunner.Test.Case

  @root Path.expand("..", __DIR__)
  @files [@root |> Path.join("README.md") | Path.wildcard(Path.join(@root, "docs/**/*.md"))]
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
  end

  defp given(text),
    do: for([_, command] <- Regex.scan(~r/^<!-- given: (.*) -->$/m, text), do: command)

  # {line of its first line, why it is not run or nil, code}
  defp blocks(text) do
    Regex.scan(
      ~r/^(?:<!-- only compiled: (.*) -->\n+)?```elixir\n(.*?)^```$/ms,
      text,
      return: :index
    )
    |> Enum.map(fn [_all, why, {at, size}] ->
      line = text |> binary_part(0, at) |> String.split("\n") |> length()
      {line, if(match?({_, n} when n > 0, why), do: why), binary_part(text, at, size)}
    end)
  end

  defp run_blocks(blocks, file) do
    assert blocks != []

    Enum.reduce(blocks, [], fn
      {line, nil, code}, binding ->
        run(steps(code, line), file, binding)

      {line, _why, code}, binding ->
        Code.string_to_quoted!(code, file: file, line: line)
        binding
    end)
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
