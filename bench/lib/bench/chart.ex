defmodule Bench.Chart do
  @moduledoc """
  A scenario's result as a picture, drawn by gnuplot: a panel per metric, in it a bar per library and mode
  with the interval of its median, and C's median as a line across.
  """

  alias Bench.{Metric, Report}

  @package "gnuplot-nox"

  # Pixels.
  @panel 620
  @names 150
  @figures 120
  @row 24
  @above 62
  @below 34
  @header 40
  @footer 30

  # What lies further out is cut off, so that one interval does not make all bars short.
  @longest 2.5

  @ours %{"auto" => "#1f5fa8", "poll" => "#5b9bd5", "io_uring" => "#9cc3e6"}
  @colours Map.merge(@ours, %{
             "C" => "#3d3d3d",
             "System.cmd" => "#e08a1e",
             "Port" => "#f0bd6b",
             "Exile" => "#7b4ea3",
             "net_runner (Hex)" => "#2a9d8f",
             "MuonTrap" => "#3f9b57",
             "MuonTrap 1 MiB" => "#8cc79b",
             "erlexec" => "#c7475b",
             "ex_cmd" => "#8a6d4b"
           })
  @other_colour "#9a9a9a"

  @doc "Whether it can draw; if not, what to do."
  @spec check :: :ok | {:error, String.t()}
  def check do
    if System.find_executable("gnuplot") do
      :ok
    else
      {:error, "gnuplot is missing. Debian: apt-get install #{@package}"}
    end
  end

  @doc "Whether there is anything to draw: if everybody failed, there is not."
  @spec drawable?(Bench.Runner.result()) :: boolean
  def drawable?(result), do: panels(result) != []

  @doc "Draws a result into a PNG file; an error tells what gnuplot said."
  @spec draw(Bench.Runner.result(), Path.t()) :: :ok | {:error, String.t()}
  def draw(result, png) do
    script = Path.rootname(png) <> ".gnuplot"
    File.write!(script, script(result, png))

    try do
      case System.cmd("gnuplot", [script], stderr_to_stdout: true) do
        {"", 0} -> :ok
        {said, status} -> {:error, "gnuplot, status #{status}: #{said}"}
      end
    after
      File.rm!(script)
    end
  end

  @doc "What gnuplot is told."
  @spec script(Bench.Runner.result(), Path.t()) :: String.t()
  def script(result, png) do
    panels = panels(result)
    columns = min(length(panels), 2)
    lines = Enum.chunk_every(panels, columns)
    heights = for line <- lines, do: line |> Enum.map(&length(&1.rows)) |> Enum.max()
    size = {columns * @panel, @header + Enum.sum(Enum.map(heights, &height/1)) + @footer}

    IO.iodata_to_binary([
      head(result, png, size),
      for {{line, rows}, top} <- Enum.zip(Enum.zip(lines, heights), tops(heights)),
          {panel, index} <- Enum.with_index(line) do
        plot(panel, rows, {index * @panel, top}, size)
      end,
      "unset multiplot\n"
    ])
  end

  defp height(rows), do: @above + rows * @row + @below
  defp tops(heights), do: Enum.scan([@header | heights], &(&2 + height(&1)))

  ## What is shown

  # A panel for each metric of which one can say what is better. Who has no figure has no bar in it; who
  # failed says so.
  defp panels(result) do
    for {metric, index} <- Enum.with_index(result.metrics),
        better = Metric.better(metric.kind),
        rows = rows(result, index),
        Enum.any?(rows, & &1.cell) do
      %{
        title: "#{metric.name} (#{if better == :more, do: "higher", else: "lower"} is better)",
        rows: rows,
        baseline: if(Metric.paired?(metric.kind), do: result.baseline),
        c: Enum.find_value(rows, &(&1.column == "C" && &1.cell && &1.cell.median))
      }
    end
  end

  defp rows(result, index) do
    for row <- result.rows, failed?(row) or Enum.at(row.cells, index) != nil do
      %{column: row.column, cell: if(row.state == "ok", do: Enum.at(row.cells, index))}
    end
  end

  defp failed?(row), do: String.starts_with?(row.state, "FAILED")

  ## How it is written

  defp head(result, png, {width, height}) do
    """
    set terminal pngcairo noenhanced font 'DejaVu Sans,10' size #{width},#{height} background '#ffffff'
    set output #{literal(png)}
    set multiplot
    set label #{literal("#{result.name}: #{result.question}")} at screen 0.5, #{1 - 22 / height} \
    center font 'DejaVu Sans Bold,12'
    set label #{literal(legend(result))} at screen 0.5, #{14 / height} center tc rgb '#555555' font 'DejaVu Sans,9'
    set style fill solid noborder
    set border 1 lc rgb '#222222'
    set grid xtics lc rgb '#dddddd' lt 1
    set tics nomirror
    set xtics textcolor rgb '#555555'
    set ytics scale 0
    unset key
    """
  end

  defp legend(%{quick: true}), do: "made with --quick: the figures mean nothing"

  defp legend(result) do
    confidences =
      for %{state: "ok", cells: cells} <- result.rows, cell <- cells, cell, do: cell.confidence

    percent = confidences |> Enum.min() |> Kernel.*(100) |> round()

    "bars: medians of #{result.rounds} rounds; whiskers: the interval that holds the median " <>
      "(#{percent} %)#{ratio_legend(result)}"
  end

  defp ratio_legend(%{metrics: metrics, baseline: baseline}) do
    if Enum.any?(metrics, &Metric.paired?(&1.kind)), do: "; ratio: to #{baseline}, within a round"
  end

  defp plot(panel, rows, {left, top}, {width, height} = size) do
    {low, high} = range(panel)

    """
    $data << END
    #{Enum.map_join(numbered(panel.rows, rows), "\n", &data/1)}
    END
    set lmargin at screen #{(left + @names) / width}
    set rmargin at screen #{(left + @panel - @figures) / width}
    set tmargin at screen #{1 - (top + @above) / height}
    set bmargin at screen #{1 - (top + @above + rows * @row) / height}
    set xrange [#{low}:#{high}]
    set yrange [0.4:#{rows + 0.6}]
    set xtics (#{ticks(low, high)})
    set ytics (#{Enum.map_join(numbered(panel.rows, rows), ", ", &name/1)})
    #{labels(panel, rows, {left, top}, size)}
    #{line_of_c(panel, high)}
    plot $data using 2:1:(0):2:($1-0.36):($1+0.36):5 with boxxyerror lc rgb variable, \\
         $data using 2:1:3:4 with xerrorbars pt 0 lw 1.3 lc rgb '#111111'
    unset label
    unset arrow
    """
  end

  defp range(%{rows: rows, c: c}) do
    cells = for %{cell: %{} = cell} <- rows, do: cell
    longest = cells |> Enum.map(& &1.median) |> Enum.max()
    far = cells |> Enum.map(& &1.high) |> Enum.max() |> min(@longest * longest)
    high = Enum.max([far, longest, c || 0])
    low = cells |> Enum.map(& &1.median) |> Enum.min() |> min(0)
    if high > low, do: {low / 1, low + (high - low) * 1.04}, else: {low / 1, low + 1.0}
  end

  # Few enough that their numbers never touch, all of them in one unit.
  defp ticks(low, high) do
    step = step((high - low) / 5)

    Enum.map_join(ceil(low / step)..floor(high / step), ", ", fn n ->
      "#{literal(tick(n * step, high))} #{n * step}"
    end)
  end

  # The next of 1, 2, 5, 10, 20, 50 and so on. A step that is just short of it counts as it.
  defp step(at_least) do
    power = :math.pow(10, floor(:math.log10(at_least)))
    Enum.find([1, 2, 5, 10], &(&1 * power >= at_least * 0.999)) * power
  end

  defp tick(0.0, _high), do: "0"
  defp tick(value, high) when high >= 2.0e6, do: short_number(value / 1.0e6) <> " M"
  defp tick(value, high) when high >= 2.0e4, do: short_number(value / 1.0e3) <> " k"
  defp tick(value, _high), do: short_number(value)

  # Without the zeros that binary fractions leave behind.
  defp short_number(value) do
    if value == round(value),
      do: "#{round(value)}",
      else: :erlang.float_to_binary(value / 1, [:compact, decimals: 6])
  end

  # The first on top.
  defp numbered(panel_rows, rows),
    do: for({row, index} <- Enum.with_index(panel_rows), do: {row, rows - index})

  defp data({%{cell: nil}, place}), do: "#{place} NaN NaN NaN 0"

  defp data({%{column: column, cell: cell}, place}) do
    colour = @colours |> Map.get(column, @other_colour) |> String.replace("#", "0x")
    "#{place} #{cell.median} #{cell.low} #{cell.high} #{colour}"
  end

  defp name({%{column: column}, place}) when is_map_key(@ours, column),
    do: "#{literal("NetRunner #{column}")} #{place}"

  defp name({%{column: column}, place}), do: "#{literal(column)} #{place}"

  # At the right, as in a table: the median and its ratio.
  defp labels(panel, rows, {left, top}, {width, height}) do
    [median, ratio] = for at <- [58, 112], do: (left + @panel - @figures + at) / width
    over = 1 - (top + @above - 10) / height

    small = "right tc rgb '#555555' font 'DejaVu Sans,9'"

    """
    set label #{literal(panel.title)} at screen #{(left + @names) / width}, \
    #{1 - (top + 22) / height} left font 'DejaVu Sans Bold,10'
    set label 'median' at screen #{median}, #{over} #{small}
    set label '#{if panel.baseline, do: "ratio"}' at screen #{ratio}, #{over} #{small}
    """ <>
      for {row, place} <- numbered(panel.rows, rows), into: "" do
        figure(row, place, {median, ratio}, panel.baseline)
      end
  end

  defp figure(%{cell: nil}, place, {median, _ratio}, _baseline) do
    "set label 'FAILED' at screen #{median}, first #{place} right tc rgb '#c00000'\n"
  end

  defp figure(%{column: column, cell: cell}, place, {median, ratio}, baseline) do
    """
    set label #{literal(short(cell.median))} at screen #{median}, first #{place} right
    set label #{literal(ratio_text(column, cell, baseline))} at screen #{ratio}, first #{place} right
    """
  end

  defp ratio_text(_column, _cell, nil), do: ""
  defp ratio_text(baseline, _cell, baseline), do: "1"
  defp ratio_text(_column, %{ratio: nil}, _baseline), do: ""
  defp ratio_text(_column, %{ratio: ratio}, _baseline), do: Report.ratio(ratio.median)

  defp line_of_c(%{c: nil}, _high), do: ""

  defp line_of_c(%{c: c}, high) do
    side = if c > 0.85 * high, do: "right", else: "center"

    """
    set arrow from first #{c}, graph 0 to first #{c}, graph 1 nohead dt 2 lw 1.5 lc rgb '#3d3d3d' front
    set label #{literal("C: " <> short(c))} at first #{c}, graph 1 #{side} offset 0,0.6 font 'DejaVu Sans,9'
    """
  end

  @doc "A figure short enough to stand beside a bar."
  @spec short(number) :: String.t()
  def short(value) when value >= 1.0e6, do: Report.figure(value / 1.0e6) <> " M"
  def short(value) when value >= 1.0e5, do: Report.figure(value / 1.0e3) <> " k"
  def short(value), do: Report.figure(value)

  defp literal(text), do: "'" <> String.replace(text, "'", "''") <> "'"
end
