defmodule NetRunner.Replay.Cassette do
  @moduledoc false
  # How one command went, and the text that it is kept as: written by NetRunner.Replay.Recorder, and for doubles by
  # NetRunner.Replay.Recording; checked here before anything is redirected; played by priv/replay. csrc/cassette.h has
  # the whole format; cassette_test.exs holds both sides to it.
  #
  # The text is for people: a line of output is a line, and what is no UTF-8 is base64.

  @first "net_runner cassette 1"

  @enforce_keys [:cmd, :events]
  defstruct [:cmd, :events, cd: nil, env: [], unset: []]

  @typedoc "Microseconds since the start, and what was. The last one, and only that, is an end."
  @type event :: {non_neg_integer, what}
  @type what ::
          {:stdin, binary}
          | {:stdin, size :: non_neg_integer, crc32 :: non_neg_integer}
          | :stdin_end
          | {:stdout | :stderr, binary}
          | ending
          | {:stopped, ending}
  @type ending :: {:exit, 0..255} | {:signal, 1..64}

  @typedoc "`env` and `unset` are names: no value of an environment is in a cassette."
  @type t :: %__MODULE__{
          cmd: [binary, ...],
          events: [event, ...],
          cd: binary | nil,
          env: [binary],
          unset: [binary]
        }

  ## Writing

  @doc "The text of a cassette; a short one, for those that nobody reads, has all bytes as base64."
  @spec encode(t, :readable | :short) :: iodata
  def encode(cassette, how \\ :readable) do
    [
      [@first, "\ncommand ", words(cassette.cmd), ?\n],
      if(cassette.cd, do: ["cd ", words([cassette.cd]), ?\n], else: []),
      if(cassette.env != [], do: ["env ", words(cassette.env), ?\n], else: []),
      if(cassette.unset != [], do: ["unset ", words(cassette.unset), ?\n], else: []),
      Enum.map(cassette.events, fn {at, what} -> ["at ", to_string(at), " ", event(what, how)] end)
    ]
  end

  defp event({stream, bytes}, :short) when is_binary(bytes) and bytes != "",
    do: [to_string(stream), "\n  base64 ", Base.encode64(bytes), ?\n]

  defp event(event, _how), do: event(event)

  defp event({:stdin, size, crc}) do
    digits = crc |> Integer.to_string(16) |> String.downcase() |> String.pad_leading(8, "0")
    ["stdin ", to_string(size), " crc32 ", digits, ?\n]
  end

  defp event(:stdin_end), do: "stdin end\n"
  defp event({:exit, code}), do: ["exit ", to_string(code), ?\n]
  defp event({:stopped, ending}), do: ["stopped ", event(ending)]

  defp event({:signal, number}) do
    case NetRunner.Signal.name(number) do
      ^number -> ["signal ", to_string(number), ?\n]
      name -> ["signal ", to_string(number), " (", to_string(name), ")\n"]
    end
  end

  defp event({stream, bytes}), do: [to_string(stream), ?\n | data(bytes)]

  defp words(words), do: Enum.map_intersperse(words, " ", &quoted/1)

  # 57 bytes are 76 digits.
  defp data(bytes) do
    bytes
    |> lines()
    |> Enum.map(&{text?(&1), &1})
    |> Enum.chunk_by(&elem(&1, 0))
    |> Enum.map(fn
      [{true, _line} | _] = lines -> for {true, line} <- lines, do: ["  ", quoted(line), ?\n]
      lines -> for({false, line} <- lines, into: "", do: line) |> base64()
    end)
  end

  # Each with its end. There may be millions of them.
  defp lines(bytes), do: lines(bytes, 0, :binary.matches(bytes, "\n"))

  defp lines(bytes, from, [{at, 1} | ends]),
    do: [binary_part(bytes, from, at + 1 - from) | lines(bytes, at + 1, ends)]

  defp lines(bytes, from, []) when from == byte_size(bytes), do: []
  defp lines(bytes, from, []), do: [binary_part(bytes, from, byte_size(bytes) - from)]

  defp base64(bytes), do: bytes |> Base.encode64() |> rows()

  defp rows(<<row::binary-size(76), rest::binary>>) when rest != "",
    do: ["  base64 ", row, ?\n | rows(rest)]

  defp rows(row), do: ["  base64 ", row, ?\n]

  # A line of which most are control characters is none for people either.
  defp text?(line) do
    controls = controls(line, 0)
    controls != nil and controls * 3 <= byte_size(line) + 3
  end

  defp controls("", found), do: found

  defp controls(<<char::utf8, rest::binary>>, found),
    do: controls(rest, if(control?(char), do: found + 1, else: found))

  defp controls(_no_text, _found), do: nil

  defp control?(char), do: char < 0x20 or char in 0x7F..0x9F

  defp quoted(bytes), do: [?", escape(bytes, bytes, 0), ?"]

  # What needs no escape stays in one piece: `size` bytes from the beginning of `piece`.
  defp escape("", piece, size), do: [binary_part(piece, 0, size)]

  defp escape(<<char, rest::binary>>, piece, size)
       when char in 0x20..0x7E and char != ?" and char != ?\\,
       do: escape(rest, piece, size + 1)

  defp escape(<<char::utf8, rest::binary>>, piece, size) when char > 0x9F,
    do: escape(rest, piece, size + byte_size(<<char::utf8>>))

  defp escape(<<char::utf8, rest::binary>>, piece, size),
    do: [binary_part(piece, 0, size), sequence(char) | escape(rest, rest, 0)]

  defp escape(<<byte, rest::binary>>, piece, size),
    do: [binary_part(piece, 0, size), hex(<<byte>>) | escape(rest, rest, 0)]

  defp sequence(?\n), do: "\\n"
  defp sequence(?\r), do: "\\r"
  defp sequence(?\t), do: "\\t"
  defp sequence(?\e), do: "\\e"
  defp sequence(?"), do: "\\\""
  defp sequence(?\\), do: "\\\\"
  defp sequence(control), do: hex(<<control::utf8>>)

  defp hex(bytes), do: for(<<byte <- bytes>>, do: ["\\x", Base.encode16(<<byte>>)])

  ## Reading

  @doc "The cassette that a text is, or the number of the line that is none, and why."
  @spec parse(binary) :: {:ok, t} | {:error, {line :: pos_integer, String.t()}}
  def parse(text) do
    lines = String.split(text, "\n")

    case List.pop_at(lines, -1) do
      {"", [@first | lines]} -> header(numbered(lines), %{env: [], unset: []})
      {_cut, [@first | _] = whole} -> wrong(length(whole) + 1, "the line has no end")
      _foreign -> wrong(1, "its first line is not: #{@first}")
    end
  catch
    {:wrong, line, why} -> {:error, {line, why}}
  end

  # With what stands behind the last one.
  defp numbered(lines), do: Enum.with_index(lines ++ [:over], 2)

  @spec wrong(pos_integer, String.t()) :: no_return
  defp wrong(line, why), do: throw({:wrong, line, why})

  defp nothing?(line), do: line == "" or begins?(line, "#")
  defp begins?(line, how), do: line != :over and String.starts_with?(line, how)

  defp header([{:over, number}], _found), do: wrong(number, "it has no end")

  defp header([{line, number} | rest] = lines, found) do
    cond do
      nothing?(line) -> header(rest, found)
      begins?(line, "at ") -> events(lines, found)
      true -> header(rest, Map.merge(found, named(line, number)))
    end
  end

  defp named("command " <> words, number), do: %{cmd: words!(words, number)}
  defp named("env " <> words, number), do: %{env: words!(words, number)}
  defp named("unset " <> words, number), do: %{unset: words!(words, number)}

  defp named("cd " <> words, number) do
    case words!(words, number) do
      [cd] -> %{cd: cd}
      _more -> wrong(number, "more than one directory")
    end
  end

  defp named(_line, number), do: wrong(number, "no such line")

  defp events([{_line, number} | _], found) when not is_map_key(found, :cmd),
    do: wrong(number, "no command is named before the first event")

  defp events(lines, found), do: {:ok, struct!(__MODULE__, Map.put(found, :events, each(lines)))}

  # Up to the end, behind which there is nothing.
  defp each(lines) do
    case next(lines) do
      {:over, number, []} ->
        wrong(number, "it has no end")

      {"at " <> event, number, rest} ->
        {at, what} = time(event, number)
        {what, rest} = read(what, number, rest)
        if ending?(what), do: [{at, alone(what, rest)}], else: [{at, what} | each(rest)]

      {_line, number, _rest} ->
        wrong(number, "no such line")
    end
  end

  defp next([{line, number} | rest]),
    do: if(nothing?(line), do: next(rest), else: {line, number, rest})

  defp ending?({kind, _}), do: kind in [:exit, :signal, :stopped]
  defp ending?(_what), do: false

  defp alone(what, rest) do
    case next(rest) do
      {:over, _number, []} -> what
      {_line, number, _rest} -> wrong(number, "something behind the end")
    end
  end

  defp time(event, number) do
    with {at, " " <> what} <- Integer.parse(event), true <- at >= 0 and event =~ ~r/\A\d/ do
      {at, what}
    else
      _none -> wrong(number, "no such time")
    end
  end

  defp read("stdout", _number, lines), do: bytes(:stdout, lines)
  defp read("stderr", _number, lines), do: bytes(:stderr, lines)
  defp read("stdin", _number, lines), do: bytes(:stdin, lines)
  defp read("stdin end", _number, lines), do: {:stdin_end, lines}

  defp read("stdin " <> summed, number, lines) do
    case Regex.run(~r/\A(\d+) crc32 (.*)\z/, summed) do
      [_, size, crc] -> {{:stdin, String.to_integer(size), crc!(crc, number)}, lines}
      nil -> wrong(number, "no such event")
    end
  end

  defp read("stopped " <> ending, number, lines) do
    case read(ending, number, lines) do
      {{kind, _} = ending, lines} when kind in [:exit, :signal] -> {{:stopped, ending}, lines}
      _other -> wrong(number, "no such event")
    end
  end

  defp read("exit " <> code, number, lines), do: {{:exit, number!(code, 0..255, number)}, lines}

  defp read("signal " <> signal, number, lines),
    do: {{:signal, number!(signal, 1..64, number)}, lines}

  defp read(_other, number, _lines), do: wrong(number, "no such event")

  defp crc!(digits, line) do
    if digits =~ ~r/\A[0-9a-fA-F]{8}\z/,
      do: String.to_integer(digits, 16),
      else: wrong(line, "crc32 needs eight digits")
  end

  defp number!(text, range, line) do
    with [_, digits, name] <- Regex.run(~r/\A(\d+)(.*)\z/, text),
         value = String.to_integer(digits),
         true <- value in range do
      if name =~ ~r/\A( \([^)]*\))?\z/, do: value, else: wrong(line, "something behind the end")
    else
      _none -> wrong(line, "no such exit code or signal")
    end
  end

  defp bytes(stream, lines) do
    {data, rest} = Enum.split_while(lines, fn {line, _} -> nothing?(line) or data?(line) end)

    bytes =
      for {line, number} <- data,
          data?(line),
          into: "",
          do: line |> binary_part(2, byte_size(line) - 2) |> decode(number)

    {{stream, bytes}, rest}
  end

  defp data?(line), do: begins?(line, "  ")

  defp decode("base64 " <> digits, number) do
    case Base.decode64(digits) do
      {:ok, bytes} when bytes != "" -> bytes
      _none -> wrong(number, "no base64")
    end
  end

  defp decode("\"" <> text, number) do
    case text(text, number, []) do
      {bytes, ""} -> bytes
      _more -> wrong(number, "something behind a text")
    end
  end

  defp decode(_other, number), do: wrong(number, "neither a text nor base64")

  defp words!("\"" <> text, number) do
    case text(text, number, []) do
      {word, ""} -> [word]
      {word, " " <> rest} -> [word | words!(rest, number)]
      _other -> wrong(number, "something behind a text")
    end
  end

  defp words!(_other, number), do: wrong(number, "no text in \"\"")

  defp text("\"" <> rest, _number, done),
    do: {done |> Enum.reverse() |> IO.iodata_to_binary(), rest}

  defp text("\\" <> escape, number, done) do
    {byte, rest} = escaped(escape, number)
    text(rest, number, [byte | done])
  end

  defp text(<<byte, rest::binary>>, number, done), do: text(rest, number, [byte | done])
  defp text("", number, _done), do: wrong(number, "a text without its \"")

  defp escaped("n" <> rest, _number), do: {?\n, rest}
  defp escaped("r" <> rest, _number), do: {?\r, rest}
  defp escaped("t" <> rest, _number), do: {?\t, rest}
  defp escaped("e" <> rest, _number), do: {?\e, rest}
  defp escaped("\"" <> rest, _number), do: {?", rest}
  defp escaped("\\" <> rest, _number), do: {?\\, rest}

  defp escaped(<<?x, digits::binary-size(2), rest::binary>>, number) do
    case Base.decode16(digits, case: :mixed) do
      {:ok, <<byte>>} -> {byte, rest}
      :error -> wrong(number, "no such escape")
    end
  end

  defp escaped(_other, number), do: wrong(number, "no such escape")
end
