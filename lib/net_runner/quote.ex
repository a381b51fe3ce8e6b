defmodule NetRunner.Quote do
  @moduledoc false
  # Commands, paths and names in messages, quoted as a POSIX shell would need them.

  # What a shell takes for its own where a command's name stands: POSIX's words and bash's. (The others of them have
  # characters that are quoted anywhere.)
  @reserved ~w(case coproc do done elif else esac fi for function if in select then time until while)

  # A command may have two million bytes, which nobody reads and a log has to keep.
  @words 50
  @bytes 4096

  @doc """
  A command as a line for a shell.

      iex> NetRunner.Quote.cmd(["make", "CC=gcc", "if"])
      "make CC=gcc if"
      iex> NetRunner.Quote.cmd(["CC=gcc", "make"])
      "'CC=gcc' make"
      iex> NetRunner.Quote.cmd(["if"])
      "'if'"
  """
  @spec cmd([binary]) :: binary
  def cmd([]), do: ""
  def cmd([exe | args]), do: Enum.join([name(exe) | Enum.map(args, &word/1)], " ")

  @doc ~S"""
  As `cmd/1`, for messages: of words without number, or without an end, the first, and `...` for the rest.

      iex> NetRunner.Quote.excerpt(["echo", "a b"])
      "echo 'a b'"
      iex> ["echo" | List.duplicate("x", 49)] |> NetRunner.Quote.excerpt() |> String.ends_with?("x x")
      true
      iex> ["echo" | List.duplicate("x", 50)] |> NetRunner.Quote.excerpt() |> String.ends_with?("x x ...")
      true
      iex> NetRunner.Quote.excerpt(["echo", String.duplicate("x", 5000)]) |> byte_size()
      4100
  """
  @spec excerpt([binary]) :: binary
  def excerpt(cmd), do: cmd |> fit(&name/1, @words, @bytes) |> Enum.join(" ")

  @doc """
  What is no command, for messages, cut as by `excerpt/1`.

      iex> NetRunner.Quote.list(["A", "b c"])
      "A, 'b c'"
  """
  @spec list([binary]) :: binary
  def list(words), do: words |> fit(&word/1, @words, @bytes) |> Enum.join(", ")

  @doc """
      iex> NetRunner.Quote.word("plain-word_1.txt")
      "plain-word_1.txt"
      iex> NetRunner.Quote.word("it's")
      ~S('it'\\''s')
  """
  @spec word(binary) :: binary
  def word(""), do: "''"

  def word(word) do
    cond do
      not String.valid?(word) -> inspect(word)
      word =~ ~r/\A[\w@%+=:,.\/-]+\z/ -> word
      true -> quoted(word)
    end
  end

  # In the first place, these would be the shell's own, or an assignment, and what follows the command.
  defp name(exe) do
    if exe in @reserved or exe =~ ~r/\A[A-Za-z_]\w*\+?=[\w@%+=:,.\/-]*\z/,
      do: quoted(exe),
      else: word(exe)
  end

  defp quoted(word), do: "'" <> String.replace(word, "'", ~S('\'')) <> "'"

  defp fit([], _quote, _words, _bytes), do: []
  defp fit(_rest, _quote, words, bytes) when words == 0 or bytes <= 0, do: ["..."]

  defp fit([word | rest], quote, words, bytes) when byte_size(word) <= bytes,
    do: [quote.(word) | fit(rest, &word/1, words - 1, bytes - byte_size(word))]

  defp fit([word | _rest], _quote, _words, bytes), do: [word(start(word, bytes)) <> "..."]

  # Not with half a character at its end, or all of it would be shown as bytes.
  defp start(word, bytes) do
    start = binary_part(word, 0, bytes)
    if String.valid?(word), do: valid(start), else: start
  end

  defp valid(start) do
    if String.valid?(start), do: start, else: valid(binary_part(start, 0, byte_size(start) - 1))
  end
end
