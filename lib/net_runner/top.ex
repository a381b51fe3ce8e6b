defmodule NetRunner.Top do
  @moduledoc false
  # The live table of NetRunner.top/1. The calling process looks and writes; another one waits for Enter,
  # so that a line which comes too late is not left in the caller's mailbox. What a command is called is
  # somebody else's text: nothing of it may reach the terminal but what can be printed.

  alias NetRunner.{Quote, Stats}

  # Without a terminal.
  @columns 120
  @rows 1_000
  # From here on there is room for owners.
  @wide 100
  # Lines above the first command, and the one that the cursor stands in.
  @around 3
  # More of a command line, or of one word, is in no terminal.
  @words_max 500
  @word_max 1_000

  @type screen :: %{columns: pos_integer, rows: pos_integer, ansi?: boolean}
  @typedoc "What was seen, and when (monotonic milliseconds)."
  @type look :: %{at: integer, commands: [Stats.command()]}

  @spec run(NetRunner.Options.t()) :: :ok
  def run(options) do
    enter = if options.iterations == :infinity, do: await_enter()

    try do
      refresh(options, nil, options.iterations, enter)
    after
      forget(enter)
    end
  end

  defp refresh(options, before, left, enter) do
    now = %{at: System.monotonic_time(:millisecond), commands: Stats.list()}
    screen = screen()
    lines = table(now, before, screen, options.sort, enter != nil)
    IO.write(page(lines, screen, before == nil))

    if left != 1 and wait(now.at + options.interval, enter) == :over,
      do: refresh(options, now, if(left == :infinity, do: left, else: left - 1), enter),
      else: :ok
  end

  ## Waiting

  # Speaks the I/O protocol itself: a process in IO.gets/1 would not notice that its caller died.
  defp await_enter do
    caller = self()
    leader = Process.group_leader()

    spawn_monitor(fn ->
      monitors = for pid <- [caller, leader], do: Process.monitor(pid)
      ref = make_ref()
      send(leader, {:io_request, self(), ref, {:get_line, :unicode, ""}})

      receive do
        {:io_reply, ^ref, _line_or_eof} -> :ok
        {:DOWN, monitor, :process, _pid, _reason} -> true = monitor in monitors
      end
    end)
  end

  defp wait(until, nil) do
    receive do
    after
      left(until) -> :over
    end
  end

  defp wait(until, {_pid, monitor}) do
    receive do
      {:DOWN, ^monitor, :process, _pid, _reason} -> :enter
    after
      left(until) -> :over
    end
  end

  defp left(until), do: max(until - System.monotonic_time(:millisecond), 0)

  defp forget(nil), do: :ok

  defp forget({pid, monitor}) do
    Process.demonitor(monitor, [:flush])
    Process.exit(pid, :kill)
  end

  ## The screen

  defp screen do
    with {:ok, columns} <- :io.columns(),
         {:ok, rows} <- :io.rows() do
      %{columns: columns, rows: rows, ansi?: IO.ANSI.enabled?()}
    else
      {:error, _no_terminal} -> %{columns: @columns, rows: @rows, ansi?: false}
    end
  end

  # Written over line by line: a screen that is cleared first flickers.
  defp page(lines, %{ansi?: true}, first?) do
    clear = if first?, do: IO.ANSI.clear(), else: ""
    [clear, IO.ANSI.home(), Enum.map(lines, &[&1, "\e[K\n"]), "\e[J"]
  end

  defp page(lines, _screen, first?) do
    [if(first?, do: "", else: "\n"), Enum.map(lines, &[&1, "\n"])]
  end

  ## The table

  @doc "The lines of one table: `before` is the look before this one, nil for the first."
  @spec table(look, look | nil, screen, atom, boolean) :: [iodata]
  def table(now, before, screen, sort, enter?) do
    commands = now |> rated(before) |> Enum.sort_by(&order(&1, sort))
    {shown, hidden} = Enum.split(commands, max(screen.rows - @around, 1))

    # The last line says how many there was no room for.
    {shown, hidden} =
      if hidden == [], do: {shown, []}, else: {Enum.drop(shown, -1), [List.last(shown) | hidden]}

    columns = columns(screen)

    [cut(heading(commands, enter?), screen.columns), titles(columns, screen)] ++
      Enum.map(shown, &row(&1, columns, screen)) ++ more(hidden)
  end

  defp more([]), do: []
  defp more(hidden), do: ["and #{length(hidden)} more"]

  defp heading(commands, enter?) do
    running = Enum.count(commands, &(&1.state != :ended))
    rates = {sum(commands, :in_rate), sum(commands, :out_rate)}

    "NetRunner: #{running} running" <>
      rates(rates) <> if(enter?, do: ". Enter ends this.", else: "")
  end

  defp rates({nil, nil}), do: ""
  defp rates({in_rate, out_rate}), do: ", in #{rate(in_rate)}/s, out #{rate(out_rate)}/s"

  defp sum(commands, key) do
    case for(%{^key => rate} when rate != nil <- commands, do: rate) do
      [] -> nil
      rates -> Enum.sum(rates)
    end
  end

  defp columns(screen) do
    owner = if screen.columns >= @wide, do: [{"OWNER", 20, :left, & &1.owner_name}], else: []

    [
      {"OS PID", 8, :left, &Integer.to_string(&1.os_pid)},
      {"STATE", 8, :left, &Atom.to_string(&1.state)},
      {"UPTIME", 6, :right, &uptime(&1.uptime_ms)},
      {"CPU%", 6, :right, &percent(&1.cpu)},
      {"RSS", 6, :right, &rss(&1.rss_kb)},
      {"IN/S", 7, :right, &rate(&1.in_rate)},
      {"OUT/S", 7, :right, &rate(&1.out_rate)}
    ] ++ owner
  end

  defp titles(columns, screen) do
    line = line(columns, fn {title, _width, _side, _text} -> title end, "COMMAND", screen)
    if screen.ansi?, do: [IO.ANSI.reverse(), line, IO.ANSI.reset()], else: line
  end

  defp row(command, columns, screen) do
    line(columns, fn {_, _, _, text} -> text.(command) end, words(command.cmd), screen)
  end

  defp line(columns, text, last, screen) do
    columns
    |> Enum.map(fn {_, width, side, _} = column -> [pad(text.(column), width, side), " "] end)
    |> then(&IO.iodata_to_binary([&1, last]))
    |> cut(screen.columns)
  end

  defp pad(text, width, :left), do: text |> cut(width) |> String.pad_trailing(width)
  defp pad(text, width, :right), do: String.pad_leading(text, width)

  defp words(cmd) do
    cmd
    |> Enum.take(@words_max)
    |> Enum.map_join(" ", &(&1 |> first() |> Quote.word()))
    |> printable()
  end

  defp first(word) when byte_size(word) <= @word_max, do: word

  # Between two characters, if there are any.
  defp first(word) do
    part = binary_part(word, 0, @word_max)

    case :unicode.characters_to_binary(part) do
      {:incomplete, text, _rest} -> text <> "..."
      _whole_or_no_text -> part <> "..."
    end
  end

  @doc ~S"""
  Text that does nothing to a terminal.

      iex> NetRunner.Top.printable("a\e[2Jb\n")
      "a\\e[2Jb\\n"
  """
  @spec printable(String.t()) :: String.t()
  def printable(text), do: for(<<char::utf8 <- text>>, into: "", do: visible(char))

  # Among what String.printable?/1 lets through are the controls of ASCII, and what turns the direction of
  # the text around.
  defp visible(char) when char in ?\s..?~, do: <<char>>

  defp visible(char) do
    if String.printable?(<<char::utf8>>) and char > 0x9F and
         char not in 0x200B..0x200F and char not in 0x2028..0x202E and char not in 0x2060..0x206F,
       do: <<char::utf8>>,
       else: escaped(char)
  end

  defp escaped(char) when char > 0x9F, do: "\\u{#{Integer.to_string(char, 16)}}"

  defp escaped(char),
    do: <<char::utf8>> |> inspect(binaries: :as_strings) |> String.slice(1..-2//1)

  @doc """
  At most so many columns of a text. What is not ASCII may be two columns wide, and is taken to be.

      iex> NetRunner.Top.cut("command", 4)
      "comm"
      iex> NetRunner.Top.cut("zażółć", 4)
      "zaż"
  """
  @spec cut(String.t(), non_neg_integer) :: String.t()
  def cut(text, columns), do: cut(text, columns, [])

  defp cut(text, columns, kept) do
    case String.next_grapheme(text) do
      {grapheme, rest} ->
        columns = columns - if(byte_size(grapheme) == 1, do: 1, else: 2)
        if columns < 0, do: binary(kept), else: cut(rest, columns, [grapheme | kept])

      nil ->
        binary(kept)
    end
  end

  defp binary(kept), do: kept |> Enum.reverse() |> IO.iodata_to_binary()

  ## Figures

  defp rated(now, before) do
    names = owner_names()
    seen = if before, do: Map.new(before.commands, &{&1.pid, &1})

    for command <- now.commands do
      elapsed = if before, do: now.at - before.at
      previous = seen && Map.get(seen, command.pid)

      Map.merge(command, %{
        in_rate: per_second(command, previous, elapsed, &bytes(&1, [:stdin])),
        out_rate: per_second(command, previous, elapsed, &bytes(&1, [:stdout, :stderr])),
        cpu: cpu(command, previous, elapsed),
        owner_name: Map.get_lazy(names, command.owner, fn -> inspect(command.owner) end)
      })
    end
  end

  # Process.info/2 waits for a process that does not answer.
  defp owner_names do
    for name <- Process.registered(), pid = Process.whereis(name), is_pid(pid), into: %{} do
      {pid, inspect(name)}
    end
  end

  defp bytes(command, pipes) do
    for pipe <- pipes, counters = command.stats[pipe], reduce: 0 do
      sum -> sum + counters.bytes
    end
  end

  # In the first table there is nothing to compare with. A command that is new since has all its life.
  defp per_second(_command, _previous, nil, _of), do: nil
  defp per_second(command, nil, _elapsed, of), do: of.(command) * 1000 / max(command.uptime_ms, 1)

  defp per_second(command, previous, elapsed, of),
    do: (of.(command) - of.(previous)) * 1000 / max(elapsed, 1)

  defp cpu(%{cpu_ms: nil}, _previous, _elapsed), do: nil
  defp cpu(_command, %{cpu_ms: nil}, _elapsed), do: nil

  defp cpu(command, previous, elapsed) do
    with per_second when per_second != nil <-
           per_second(command, previous, elapsed, & &1.cpu_ms),
         do: per_second / 10
  end

  # Of equals the ended come last, and the older first.
  defp order(command, sort) do
    value =
      case sort do
        :output -> command.out_rate || bytes(command, [:stdout, :stderr])
        :input -> command.in_rate || bytes(command, [:stdin])
        :cpu -> command.cpu || -1
        :memory -> command.rss_kb || -1
        :uptime -> command.uptime_ms
      end

    {-value, command.state == :ended, -command.uptime_ms, command.os_pid}
  end

  defp percent(nil), do: "-"
  defp percent(cpu), do: :erlang.float_to_binary(cpu / 1, decimals: 1)

  defp rss(nil), do: "-"
  defp rss(kb), do: size(kb * 1024)

  defp rate(nil), do: "-"
  defp rate(bytes), do: size(bytes)

  @doc """
  A number of bytes in at most six columns.

      iex> Enum.map([0, 999, 1024, 1_600_000, 5.5e9, 2.0e15], &NetRunner.Top.size/1)
      ["0", "999", "1.0K", "1.5M", "5.1G", "1819.0T"]
  """
  @spec size(number) :: String.t()
  def size(bytes) when bytes < 1000, do: bytes |> round() |> Integer.to_string()
  def size(bytes), do: scaled(bytes / 1024, ["K", "M", "G", "T"])

  defp scaled(value, [unit | rest]) when value < 1000 or rest == [],
    do: :erlang.float_to_binary(value, decimals: 1) <> unit

  defp scaled(value, [_unit | rest]), do: scaled(value / 1024, rest)

  @doc """
  Milliseconds in at most six columns.

      iex> Enum.map([0, 59_999, 60_000, 3_600_000, 90_000_000, 999 * 86_400_000], &NetRunner.Top.uptime/1)
      ["0s", "59s", "1m00s", "1h00m", "1d01h", "999d00h"]
  """
  @spec uptime(non_neg_integer) :: String.t()
  def uptime(ms) do
    seconds = div(ms, 1000)

    cond do
      seconds < 60 -> "#{seconds}s"
      seconds < 3600 -> two(seconds, 60, "m", 1, "s")
      seconds < 86_400 -> two(seconds, 3600, "h", 60, "m")
      true -> two(seconds, 86_400, "d", 3600, "h")
    end
  end

  defp two(seconds, large, large_name, small, small_name) do
    rest =
      seconds |> rem(large) |> div(small) |> Integer.to_string() |> String.pad_leading(2, "0")

    "#{div(seconds, large)}#{large_name}#{rest}#{small_name}"
  end
end
