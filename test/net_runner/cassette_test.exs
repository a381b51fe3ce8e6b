defmodule NetRunner.CassetteTest do
  # The text that a recording is kept as: what is written is what is read, by Elixir and by priv/replay, people can read
  # it, and both say of what is no cassette in which line.
  use NetRunner.Test.Case, async: true
  use NetRunner.Test.Properties

  alias NetRunner.Replay.{Cassette, Recording}

  @first ~s(net_runner cassette 1\ncommand "x"\n)

  defp text(cassette), do: cassette |> Cassette.encode() |> IO.iodata_to_binary()

  defp cassette(events),
    do: text(%Cassette{cmd: ["x"], events: events ++ [{0, {:exit, 0}}]})

  test "it reads as what it is" do
    cassette = %Cassette{
      cmd: ["git", "log", "it's \"1\"", <<"sch", 246, "n">>],
      cd: "/a b",
      env: ["A", "LANG"],
      unset: ["C"],
      events: [
        {0, {:stdin, "yes\n"}},
        {1, {:stdin, 70_000, 0x0C291CA3}},
        {2, :stdin_end},
        {812, {:stdout, "Größe:\t1\n\e[1mbold\e[0m\nno end"}},
        {900, {:stderr, <<0, 255, 10>>}},
        {1234, {:stopped, {:signal, 15}}}
      ]
    }

    text = """
    net_runner cassette 1
    command "git" "log" "it's \\"1\\"" "sch\\xF6n"
    cd "/a b"
    env "A" "LANG"
    unset "C"
    at 0 stdin
      "yes\\n"
    at 1 stdin 70000 crc32 0c291ca3
    at 2 stdin end
    at 812 stdout
      "Größe:\\t1\\n"
      "\\e[1mbold\\e[0m\\n"
      "no end"
    at 900 stderr
      base64 AP8K
    at 1234 stopped signal 15 (sigterm)
    """

    assert text(cassette) == text
    assert Cassette.parse(text) == {:ok, cassette}

    edited = String.replace(text, "at 812", "\n# a word on it\nat 812")
    assert Cassette.parse(edited) == {:ok, cassette}
  end

  test "whatever the bytes are, they come back, and out of the program" do
    forall pieces <- list(binary()), tests: 50 do
      bytes = IO.iodata_to_binary(pieces)
      lines = Enum.intersperse(pieces, "\n") |> IO.iodata_to_binary()
      text = cassette([{0, {:stdout, bytes}}, {1, {:stderr, lines}}, {2, {:stdout, "é\n"}}])

      assert {:ok, %{events: [{0, {:stdout, ^bytes}}, {1, {:stderr, ^lines}} | _]}} =
               Cassette.parse(text)

      replay = [Recording.exe(), "read", "0", "-", text]

      assert NetRunner.run(replay, stderr: :capture) == {bytes <> "é\n", 0, lines}
    end
  end

  test "long binary rows are wrapped, and text is not" do
    bytes = :binary.copy(<<0, 1, 2, 255>>, 100)
    line = String.duplicate("long ", 1000)
    text = cassette([{0, {:stdout, bytes}}, {0, {:stdout, line}}])
    rows = for "  base64 " <> digits <- String.split(text, "\n"), do: byte_size(digits)
    assert Enum.max(rows) == 76
    assert text =~ line

    assert {:ok, %{events: [{0, {:stdout, ^bytes}}, {0, {:stdout, ^line}}, _]}} =
             Cassette.parse(text)
  end

  # {line, text}
  @wrong [
    {1, ""},
    {1, "\x7FELF\n"},
    {1, "net_runner cassette 2\nat 0 exit 0\n"},
    {3, @first},
    {5, @first <> ~s(at 0 stdout\n  "x"\n)},
    {3, @first <> "at 0 exit 0"},
    {4, @first <> ~s(at 0 stdout\n  "x)},
    {3, @first <> "nonsense\n"},
    {4, @first <> "\nnonsense\n"},
    {3, @first <> "at x exit 0\n"},
    {3, @first <> "at -1 exit 0\n"},
    {3, @first <> "at +1 exit 0\n"},
    {3, @first <> "at 0 stdup\n"},
    {3, @first <> "at 0 stdin 5\n"},
    {3, @first <> "at 0 stdin 5 crc32 1234567\n"},
    {3, @first <> "at 0 stopped stdout\n"},
    {3, @first <> "at 0 stopped stopped exit 0\n"},
    {3, @first <> "at 0 exit 256\n"},
    {3, @first <> "at 0 exit 0 x\n"},
    {3, @first <> "at 0 signal 0\n"},
    {3, @first <> "at 0 signal 65 (x)\n"},
    {3, @first <> "at 0 signal 9 (x\n"},
    {4, @first <> "at 0 stdout\n  x\n"},
    {4, @first <> "at 0 stdout\n  \"x\n"},
    {4, @first <> "at 0 stdout\n  \"x\" \n"},
    {4, @first <> "at 0 stdout\n  \"\\q\"\n"},
    {4, @first <> "at 0 stdout\n  \"\\x4\"\n"},
    {4, @first <> "at 0 stdout\n  \"\\\n"},
    {4, @first <> "at 0 stdout\n  base64 AQ=\n"},
    {4, @first <> "at 0 stdout\n  base64 \n"},
    {6, @first <> "at 0 stdout\n  \"x\"\n\n  \"x\nat 0 exit 0\n"}
  ]

  test "what is no cassette is told of with its line, in Elixir and by the program" do
    for {line, text} <- @wrong do
      assert {:error, {^line, why}} = Cassette.parse(text)
      assert is_binary(why)
      path = tmp_path("x.cassette")
      File.write!(path, text)
      {"", 125, said} = NetRunner.run([Recording.exe(), "read", "0", path], stderr: :capture)
      assert said =~ "#{path}:#{line}: #{why}", "#{inspect(text)}: #{said}"
    end
  end

  test "one without a command, with two directories or with more behind its end cannot be redirected" do
    for {line, text} <- [
          {2, "net_runner cassette 1\nat 0 exit 0\n"},
          {3, @first <> ~s(cd "a" "b"\nat 0 exit 0\n)},
          {3, @first <> ~s(env A\nat 0 exit 0\n)},
          {4, @first <> "at 0 exit 0\nat 1 exit 0\n"}
        ],
        do: assert({:error, {^line, _why}} = Cassette.parse(text))
  end
end
