defmodule CompareTest do
  # Does each question of compare/ still run, for NetRunner and System.cmd alone? What other libraries answer is
  # looked at by hand (docs/comparison.md).

  use ExUnit.Case

  @compare Path.expand("../compare", __DIR__)

  # Where it depends on the machine.
  @may_differ ["cgroup", "timers"]

  @tag :long
  @tag timeout: 300_000
  test "each row is asked, and NetRunner's answer is yes" do
    {output, 0} = run(["--quick", "--only", "net_runner,system_cmd"])
    [_heading | parts] = String.split(output, "\n\n")
    assert Enum.map(parts, &(&1 |> String.split(":") |> hd())) == rows()

    for part <- parts, row = part |> String.split(":") |> hd() do
      answers = for line <- String.split(part, "\n"), line =~ "  NetRunner  ", do: line
      assert answers != [], part
      assert part =~ "  System.cmd  "
      refute part =~ "ended: "
      refute part =~ "no answer"

      if row not in @may_differ,
        do: assert(Enum.all?(answers, &(&1 =~ ~r/^  NetRunner +yes /)), part)
    end
  end

  test "--list has each row with its question, and an unknown row is an error that names it" do
    {list, 0} = run(["--list"])

    assert for(line <- String.split(list, "\n", trim: true), do: line |> String.split() |> hd()) ==
             rows()

    assert {"no such row: nothing\n", 1} = run(["nothing"])
  end

  test "docs/comparison.md links each row, and no other" do
    page = File.read!(Path.expand("../../docs/comparison.md", __DIR__))
    linked = for [_all, row] <- Regex.scan(~r/\]\[(\w+)\]/, page), uniq: true, do: row
    assert Enum.sort(linked) == rows()

    for row <- rows(),
        do: assert(page =~ ~r"^\[#{row}\]: \.\./bench/compare/rows/#{row}\.exs$"m, row)
  end

  defp rows do
    for file <- Path.wildcard(Path.join(@compare, "rows/*.exs")), do: Path.basename(file, ".exs")
  end

  defp run(args),
    do:
      System.cmd(Path.join(@compare, "run"), args,
        env: [{"ERL_LIBS", nil}],
        stderr_to_stdout: true
      )
end
