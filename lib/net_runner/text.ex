defmodule NetRunner.Text do
  @moduledoc false
  # Bytes that somebody else wrote (a command's output, its arguments) as text that people can be shown: in log
  # lines and messages. Nothing here is for a program to read again.

  @doc ~S"""
  Bytes as text: what is no UTF-8 becomes `\xHH`.

      iex> NetRunner.Text.text("schön")
      "schön"
      iex> NetRunner.Text.text(<<"sch", 246, "n">>)
      ~S(sch\xF6n)
  """
  @spec text(binary) :: String.t()
  def text(bytes) do
    if String.valid?(bytes), do: bytes, else: escape(bytes, &(&1 < 0), [])
  end

  @doc ~S"""
  As `text/1`, for what may come to a terminal: control characters become `\xHH`, too, but those in `keep`.

      iex> NetRunner.Text.visible("a\e[2J\tb\n", ~c"\n")
      "a\\x1B[2J\\x09b\n"
      iex> NetRunner.Text.visible(<<"sch", 246, "n ", 0x9B::utf8, "2J">>)
      ~S(sch\xF6n \xC2\x9B2J)
  """
  @spec visible(binary, [char]) :: String.t()
  def visible(bytes, keep \\ []),
    do: escape(bytes, &((&1 < 0x20 or &1 in 0x7F..0x9F) and &1 not in keep), [])

  @doc """
  The last bytes of a text, without what is left of a character that was cut at their beginning.

      iex> NetRunner.Text.whole(<<0x82, 0xAC, "uro">>)
      "uro"
      iex> NetRunner.Text.whole("€uro")
      "€uro"
  """
  @spec whole(binary) :: binary
  def whole(bytes), do: whole(bytes, bytes, 3)

  defp whole(<<0b10::2, _::6, rest::binary>>, bytes, left) when left > 0,
    do: whole(rest, bytes, left - 1)

  # Four of them are no part of a character.
  defp whole(<<0b10::2, _::6, _rest::binary>>, bytes, 0), do: bytes
  defp whole(rest, _bytes, _left), do: rest

  # What is told of a stderr in a message. All of it may be gigabytes, and a message goes into logs.
  @ending_bytes 8192

  @doc """
  What a message says of a stderr: nothing, or one paragraph with its last 8 KiB. `...` stands where something
  was cut.

      iex> NetRunner.Text.ending("no such host\\n")
      ["stderr ended with:\\nno such host"]
      iex> NetRunner.Text.ending("")
      []
  """
  @spec ending(binary) :: [String.t()]
  def ending(""), do: []

  def ending(bytes) do
    {cut, bytes} = last(bytes, @ending_bytes)
    text = bytes |> whole() |> visible(~c"\n\t") |> String.trim_trailing()
    ["stderr ended with:\n#{cut}#{text}"]
  end

  defp last(bytes, max) when byte_size(bytes) <= max, do: {"", bytes}
  defp last(bytes, max), do: {"...", binary_part(bytes, byte_size(bytes), -max)}

  defp escape(<<char::utf8, rest::binary>>, hidden?, done) do
    shown = if hidden?.(char), do: hex(<<char::utf8>>), else: <<char::utf8>>
    escape(rest, hidden?, [done, shown])
  end

  defp escape(<<byte, rest::binary>>, hidden?, done),
    do: escape(rest, hidden?, [done, hex(<<byte>>)])

  defp escape("", _hidden?, done), do: IO.iodata_to_binary(done)

  defp hex(bytes), do: for(<<byte <- bytes>>, do: ["\\x", Base.encode16(<<byte>>)])
end
