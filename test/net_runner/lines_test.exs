defmodule NetRunner.LinesTest do
  # Bytes cut into lines: wherever the chunks are cut, the lines are those of the whole.
  use ExUnit.Case, async: true
  use NetRunner.Test.Properties

  alias NetRunner.Lines
  alias NetRunner.Test.World

  # What comes of the chunks: the lines, and the error if there was one.
  defp lines(chunks, separator, limit \\ :infinity),
    do: World.cut(chunks, Lines, Lines.new(separator, limit))

  describe "a line" do
    test "is what stands before a separator, without it" do
      assert lines(["a\nbc\n"], "\n") == ["a", "bc"]
      assert lines(["a\0b\0"], <<0>>) == ["a", "b"]
      assert lines(["a\r\nb\nc\r\n"], "\r\n") == ["a", "b\nc"]
      assert lines(["one, two, three"], ", ") == ["one", "two", "three"]
    end

    test "is there without a separator behind it, too, if it is the last; but an empty one is not" do
      assert lines(["a\nb"], "\n") == ["a", "b"]
      assert lines(["a"], "\n") == ["a"]
      assert lines(["a\n", ""], "\n") == ["a"]
      assert lines([], "\n") == []
      assert lines([""], "\n") == []
    end

    test "may be empty" do
      assert lines(["\n\na\n\n"], "\n") == ["", "", "a", ""]
    end

    test "may hold any bytes" do
      assert lines([<<255, 0, 10, 128>>], "\n") == [<<255, 0>>, <<128>>]
    end

    test "may come in any number of chunks, and its separator too" do
      assert lines(["a", "b", "\nc", "\n", "d"], "\n") == ["ab", "c", "d"]
      assert lines(["a\r", "\nb", "\r", "\n", "c\r"], "\r\n") == ["a", "b", "c\r"]
      assert lines(["a-", "-", "-", "-b-", "-", "c"], "----") == ["a", "b--c"]
    end

    test "is given by the chunk that ends it, not later" do
      assert {["a"], t} = Lines.feed(Lines.new("\n", :infinity), "a\nb")
      assert {[], t} = Lines.feed(t, "c")
      assert {["bc", "d"], t} = Lines.feed(t, "\nd\n")
      assert Lines.finish(t) == []
    end

    test "is a part of its chunk if it lay within one: not copied" do
      chunk = String.duplicate("x", 1_000) <> "\n" <> String.duplicate("y", 1_000) <> "\n"
      {[x, y], _t} = Lines.feed(Lines.new("\n", :infinity), chunk)
      whole = :binary.referenced_byte_size(chunk)
      assert whole >= byte_size(chunk)
      assert :binary.referenced_byte_size(x) == whole
      assert :binary.referenced_byte_size(y) == whole
    end
  end

  test "whether :truncate threw anything away is told" do
    cut? = fn chunks, limit ->
      {_lines, t} =
        Enum.reduce(chunks, {[], Lines.new("--", limit)}, fn chunk, {_, t} ->
          Lines.feed(t, chunk)
        end)

      _ = Lines.finish(t)
      Lines.truncated?(t)
    end

    assert cut?.(["abcd--"], {3, :truncate})
    assert cut?.(["ab", "cd--", "x"], {3, :truncate})
    assert cut?.(["abcd"], {3, :truncate})
    assert cut?.(["abc-"], {3, :truncate})
    refute cut?.(["abc--abc"], {3, :truncate})
    refute cut?.(["abc--ab-"], {3, :truncate})
    refute cut?.(["abcd--"], {3, :split})
    refute cut?.(["abcd--"], :infinity)
  end

  describe "a separator" do
    test "is found from the left, and none overlaps another" do
      for chunks <- [["aaa"], ["a", "aa"], ["aa", "a"], ["a", "a", "a"]],
          do: assert(lines(chunks, "aa") == ["", "a"])

      for chunks <- [["aabaabaab"], ["aabaab", "aab"], ["aabaa", "baab"]],
          do: assert(lines(chunks, "aabaab") == ["", "aab"])
    end

    test "may be a carriage return alone, as progress bars write it" do
      assert lines(["10%\r20%", "\r", "\r\n30%\r"], "\r") == ["10%", "20%", "", "\n30%"]
      assert lines(["10%\r\n20"], "\r", {2, :split}) == ["10", "%", "\n2", "0"]
    end

    test "that breaks off was none: what was held back belongs to the line" do
      assert lines(["a\r", "b\r\n"], "\r\n") == ["a\rb"]
      assert lines(["xaab", "aac"], "aabaab") == ["xaabaac"]
      # It breaks off in one place, and may begin in another that was held back too.
      assert lines(["aba", "bac!"], "abac") == ["ab", "!"]
      assert lines(["aab", "aa", "b!"], "abaab") == ["a", "!"]
    end

    test "must be a binary with something in it" do
      for bad <- ["", nil, :lf, ~c"\n", <<1::1>>],
          do: assert_raise(FunctionClauseError, fn -> Lines.new(bad, :infinity) end)
    end
  end

  describe "a limit" do
    test "is a number of bytes, and what to do" do
      for bad <- [
            nil,
            10,
            {0, :split},
            {-1, :split},
            {1.0, :split},
            {10, :cut},
            {:infinity, :error}
          ],
          do: assert_raise(FunctionClauseError, fn -> Lines.new("\n", bad) end)
    end

    test "is kept by a line of exactly that many bytes, separators not counted" do
      for policy <- [:error, :split, :truncate],
          chunks <- [["abc\r\nabc"], ["abc", "\r\nabc"], ["abc\r", "\nab", "c"]] do
        assert lines(chunks, "\r\n", {3, policy}) == ["abc", "abc"]
      end
    end

    test ":error gives the lines before the one that is too long" do
      assert lines(["a\nb\nabcd\nc\n"], "\n", {3, :error}) == {["a", "b"], {:line_too_long, 3}}
      assert lines(["a\n", "b\nab", "cd"], "\n", {3, :error}) == {["a", "b"], {:line_too_long, 3}}

      assert {:error, {:line_too_long, 3}, ["a"]} =
               Lines.feed(Lines.new("\n", {3, :error}), "a\nabcd")
    end

    test ":error comes as soon as the line must become too long, and not before" do
      {[], t} = Lines.feed(Lines.new("\r\n", {3, :error}), "abc\r")
      assert {["abc"], _t} = Lines.feed(t, "\n")
      assert {:error, {:line_too_long, 3}, []} = Lines.feed(t, "\r")
      assert {:error, {:line_too_long, 3}, []} = Lines.feed(t, "x")
      # Nothing comes: the carriage return was the line's fourth byte.
      assert Lines.finish(t) == {:error, {:line_too_long, 3}, []}
    end

    test ":split gives pieces of exactly the limit, the rest as the last, and no empty one" do
      assert lines(["abcdefgh\nab\n"], "\n", {3, :split}) == ["abc", "def", "gh", "ab"]
      assert lines(["abcdef\n\nabcdef"], "\n", {3, :split}) == ["abc", "def", "", "abc", "def"]
      assert lines(["a", "b", "c", "d\n"], "\n", {3, :split}) == ["abc", "d"]
      assert lines(["abc\r"], "\r\n", {3, :split}) == ["abc", "\r"]
      assert lines(["a--", "-"], "----", {1, :split}) == ["a", "-", "-", "-"]
    end

    test ":truncate gives the first bytes, and goes on with the next line" do
      assert lines(["abcdefgh\nab\n"], "\n", {3, :truncate}) == ["abc", "ab"]
      assert lines(["ab", "cd", "ef\nab"], "\n", {3, :truncate}) == ["abc", "ab"]
      assert lines(["abcd", "ef"], "\n", {3, :truncate}) == ["abc"]
      assert lines(["abc\r"], "\r\n", {3, :truncate}) == ["abc"]
    end
  end

  describe "whatever the chunks, separator and limit" do
    # So few letters that separators overlap themselves and each other.
    defp text, do: let(list(elements(~c"aaab\n")), &:erlang.list_to_binary/1)

    defp separator do
      let(integer(1, 4), fn size ->
        let(vector(size, elements(~c"aab")), &:erlang.list_to_binary/1)
      end)
    end

    defp bytes, do: oneof([text(), binary()])

    defp separator_of_any_byte,
      do: let(integer(1, 4), fn size -> binary(size) end)

    defp limit, do: oneof([:infinity, {integer(1, 8), elements([:error, :split, :truncate])}])

    test "the lines are those of the whole" do
      forall {chunks, separator, limit} <-
               {list(bytes()), oneof([separator(), separator_of_any_byte()]), limit()},
             tests: 1_500 do
        whole = IO.iodata_to_binary(chunks)
        assert lines(chunks, separator, limit) == expected(whole, separator, limit)
      end
    end

    test "a byte at a time gives what the whole at once gives" do
      forall {whole, separator, limit} <- {resize(100, text()), separator(), limit()},
             tests: 500 do
        bytes = for <<byte <- whole>>, do: <<byte>>
        assert lines(bytes, separator, limit) == lines([whole], separator, limit)
      end
    end

    test "lines without separators in them come back as they were joined" do
      forall {lines, separator} <- {list(binary()), separator_of_any_byte()}, tests: 300 do
        lines = Enum.reject(lines, &overlaps?(&1, separator))
        whole = Enum.map_join(lines, &(&1 <> separator))
        assert lines([whole], separator) == lines
      end
    end

    # Joined to its separator, the line would have one before its end.
    defp overlaps?(line, separator) do
      [first | _] = :binary.split(line <> separator, separator)
      first != line
    end

    test "no more is kept than the limit and a separator" do
      forall {chunks, separator, size, policy} <-
               {list(bytes()), separator(), integer(1, 8), elements([:split, :truncate])},
             tests: 500 do
        Enum.reduce(chunks, Lines.new(separator, {size, policy}), fn chunk, t ->
          {_lines, t} = Lines.feed(t, chunk)
          assert byte_size(t.partial) <= size
          assert byte_size(t.held) < byte_size(separator)
          t
        end)
      end
    end

    # The whole at once, byte by byte.
    defp expected(whole, separator, limit) do
      whole |> split(separator, "") |> Enum.reduce_while([], &limited(&1, limit, &2)) |> flat()
    end

    defp split("", _separator, ""), do: []
    defp split("", _separator, line), do: [line]

    defp split(bytes, separator, line) do
      if String.starts_with?(bytes, separator) do
        size = byte_size(separator)
        rest = binary_part(bytes, size, byte_size(bytes) - size)
        [line | split(rest, separator, "")]
      else
        <<byte, rest::binary>> = bytes
        split(rest, separator, <<line::binary, byte>>)
      end
    end

    defp limited(line, {size, policy}, lines) when byte_size(line) > size do
      case policy do
        :error -> {:halt, {Enum.reverse(lines), {:line_too_long, size}}}
        :truncate -> {:cont, [binary_part(line, 0, size) | lines]}
        :split -> {:cont, Enum.reverse(pieces(line, size)) ++ lines}
      end
    end

    defp limited(line, _limit, lines), do: {:cont, [line | lines]}

    defp pieces(line, size) when byte_size(line) <= size, do: [line]

    defp pieces(line, size),
      do: [
        binary_part(line, 0, size) | pieces(binary_part(line, size, byte_size(line) - size), size)
      ]

    defp flat({_before, _reason} = error), do: error
    defp flat(lines), do: Enum.reverse(lines)
  end

  describe "a long line" do
    @mib 1_048_576

    # Seconds of CPU time where each byte costs a constant, minutes and hours where the line is copied for each chunk.
    defp assert_soon(fun) do
      {before, _} = :erlang.statistics(:runtime)
      fun.()
      {later, _} = :erlang.statistics(:runtime)
      assert later - before < 20_000
    end

    defp assert_one_line(chunk, count, between \\ fn -> :ok end) do
      t =
        Enum.reduce(1..count, Lines.new("\r\n", :infinity), fn _n, t ->
          {[], t} = Lines.feed(t, chunk)
          between.()
          t
        end)

      assert {[line], _t} = Lines.feed(t, "\r\n")
      assert line == :binary.copy(chunk, count)
    end

    test "costs no more than its bytes: 64 MiB in pieces of 4 KiB" do
      assert_soon(fn -> assert_one_line(:binary.copy("x", 4096), 64 * 256) end)
    end

    test "costs no more than its bytes: 2 MiB, byte by byte" do
      assert_soon(fn -> assert_one_line("x", 2 * @mib) end)
    end

    test "costs no more than its bytes in a process that collects its garbage all the time" do
      collect = fn -> for _ <- 1..3, do: :erlang.garbage_collect() end
      assert_soon(fn -> assert_one_line(:binary.copy("x", 16_384), 64 * 64, collect) end)
    end

    test "is kept in about as many bytes as it has, however small the pieces" do
      t =
        Enum.reduce(1..@mib, Lines.new("\n", {@mib, :truncate}), fn _n, t ->
          {[], t} = Lines.feed(t, "x")
          t
        end)

      :erlang.garbage_collect()
      {:memory, heap} = Process.info(self(), :memory)
      {:binary, binaries} = Process.info(self(), :binary)
      outside = binaries |> Enum.uniq_by(&elem(&1, 0)) |> Enum.map(&elem(&1, 1)) |> Enum.sum()
      assert heap + outside < 3 * @mib
      assert byte_size(hd(Lines.finish(t))) == @mib
    end

    test "does not keep the chunk that it began in, nor does a separator that has begun" do
      chunk = :binary.copy("x", 100_000) <> "\r\nline\r"
      {[_xs], t} = Lines.feed(Lines.new("\r\n", :infinity), chunk)
      assert :binary.referenced_byte_size(t.partial) < 1_000
      assert :binary.referenced_byte_size(t.held) < 1_000
    end
  end
end
