defmodule NetRunner.Progress.Bar do
  @moduledoc false
  # Progress as text: the line that is drawn in its place on a terminal, and the one that stands for itself elsewhere. Pure, and
  # ASCII alone, so that a byte is a column.

  import NetRunner.Top, only: [cut: 2, size: 1, uptime: 1]

  # A bar that is shorter says less than its percentage.
  @cells_min 8

  @doc """
  The line for a terminal of so many columns, in which there is a bar where it is known how much of the input is done.

      iex> stats = %{state: :running, elapsed_ms: 3_000, bytes_in: 300_000, bytes_out: 10, total: 1_000_000,
      ...>   done: 300_000, rate: 100_000, eta_ms: 7_000}
      iex> NetRunner.Progress.Bar.bar(stats, 64)
      " 30% [=====>              ]  293.0K of 976.6K   97.7K/s  ETA 7s"
      iex> NetRunner.Progress.Bar.bar(stats, 20)
      " 30%  ETA 7s"
      iex> NetRunner.Progress.Bar.bar(%{stats | total: nil, done: nil, eta_ms: nil}, 64)
      "in 293.0K  out     10   97.7K/s  3s"
  """
  @spec bar(NetRunner.progress(), non_neg_integer) :: String.t()
  def bar(stats, columns) do
    width = width(columns)
    figures = stats |> figures(&String.pad_leading(&1, 6)) |> fit(width)
    room = width - byte_size(joined(figures)) - 1

    case figures do
      [{:percent, percent} | rest] when room >= @cells_min + 2 ->
        percent <> " " <> drawn(stats, room - 2) <> joined([{0, ""} | rest])

      _no_bar ->
        figures |> joined() |> cut(width)
    end
  end

  @doc "How many columns of a terminal are used: the cursor stands in the last."
  @spec width(non_neg_integer) :: non_neg_integer
  def width(columns), do: max(columns - 1, 0)

  @doc """
  The line where there is no terminal.

      iex> NetRunner.Progress.Bar.line(%{state: :finished, elapsed_ms: 61_000, bytes_in: nil, bytes_out: 2048, total: nil,
      ...>   done: nil, rate: 34, eta_ms: nil})
      "out 2.0K, 34/s, after 1m01s"
  """
  @spec line(NetRunner.progress()) :: String.t()
  def line(stats) do
    stats |> figures(& &1) |> Enum.map_join(", ", fn {_rank, text} -> String.trim(text) end)
  end

  ## What there is to say, each with its rank: where there is no room, the highest goes first, and the percentage never

  # Of a file, what was seen last is some time ago by now: who ended well would seem not to have read it to its end.
  defp figures(%{state: :finished, bytes_in: nil, done: done, total: total} = stats, pad)
       when done < total,
       do: figures(%{stats | done: nil, total: nil}, pad)

  defp figures(%{done: done} = stats, pad) when done != nil do
    percent = "#{percent(stats)}%"

    [
      {:percent, String.pad_leading(percent, 4)},
      {2, "#{pad.(size(done))} of #{size(stats.total)}"},
      {3, rate(stats, pad)},
      {1, time(stats)}
    ]
  end

  defp figures(stats, pad) do
    ends =
      for {name, bytes} <- [in: stats.bytes_in, out: stats.bytes_out],
          bytes != nil,
          do: {2, "#{name} #{pad.(size(bytes))}"}

    if ends == [],
      do: [{0, alone(stats)}],
      else: ends ++ [{3, rate(stats, pad)}, {1, time(stats)}]
  end

  defp rate(stats, pad), do: pad.(size(stats.rate || 0)) <> "/s"

  defp time(%{eta_ms: nil, state: :running} = stats), do: uptime(stats.elapsed_ms)
  defp time(%{state: :running} = stats), do: "ETA " <> uptime(stats.eta_ms)
  defp time(stats), do: "after " <> uptime(stats.elapsed_ms)

  # Nothing of it comes here.
  defp alone(%{state: :running} = stats), do: "running for " <> uptime(stats.elapsed_ms)
  defp alone(stats), do: "ended " <> time(stats)

  defp fit([_last] = figures, _width), do: figures

  defp fit(figures, width) do
    if byte_size(joined(figures)) <= width do
      figures
    else
      {highest, _text} = figures |> List.keydelete(:percent, 0) |> Enum.max_by(&elem(&1, 0))
      figures |> List.keydelete(highest, 0) |> fit(width)
    end
  end

  defp joined(figures), do: Enum.map_join(figures, "  ", &elem(&1, 1))

  defp percent(%{total: 0}), do: 100
  defp percent(%{total: total, done: done}), do: div(done * 100, total)

  defp drawn(stats, cells) do
    full = div(percent(stats) * cells, 100)

    line =
      if full in 1..(cells - 1),
        do: String.duplicate("=", full - 1) <> ">",
        else: String.duplicate("=", full)

    "[" <> String.pad_trailing(line, cells) <> "]"
  end
end
