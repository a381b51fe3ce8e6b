defmodule NetRunner.Progress.Meter do
  @moduledoc false
  # How far the commands of a call are: the figures of NetRunner.progress/0, from the counters of the pipes at both ends of them and,
  # where the first command reads a file itself, from its place in that file (Linux). Who has nothing to do with the
  # pipes' bytes looks, as often as it likes.

  alias NetRunner.{Nif, Pipe, Stats}

  # A change of speed is in the rate for the most part after this time.
  @memory_ms 2_000

  @enforce_keys [:began, :at]
  defstruct [
    :began,
    :at,
    :stdin,
    :stdout,
    :os_pid,
    :total,
    :file,
    :rate,
    :seen,
    well?: false,
    counts: %{bytes_in: nil, bytes_out: nil, done: nil}
  ]

  @typedoc "`seen` is the last place that was seen; `well?` whether the call is over, and went well."
  @type t :: %__MODULE__{}
  @type size :: nil | non_neg_integer | {:file, binary}
  @type counts :: %{
          bytes_in: non_neg_integer | nil,
          bytes_out: non_neg_integer | nil,
          done: non_neg_integer | nil
        }

  @doc """
  How large an input is, or who knows it.

      iex> Enum.map(["abc", ["a", ?b, "c"], [], [:no, :iodata], 1..3, {:file, "x"}], &NetRunner.Progress.Meter.size/1)
      [3, 3, 0, nil, nil, {:file, "x"}]
  """
  @spec size(term) :: size
  def size(input) when is_binary(input), do: byte_size(input)

  def size(input) when is_list(input) do
    IO.iodata_length(input)
  rescue
    # An enumerable, of which something may be iodata, and whose end nobody knows.
    ArgumentError -> nil
  end

  def size({:file, path}), do: {:file, path}
  def size(_lazy_or_none), do: nil

  @doc "Of the ends of what was started at a time (monotonic milliseconds)."
  @spec new(
          %{stdin: Pipe.handle() | nil, stdout: Pipe.handle() | nil, os_pid: pos_integer},
          integer,
          size
        ) :: t
  def new(ends, began, size),
    do: struct!(%__MODULE__{began: began, at: began, total: size}, ends)

  @doc "Finds the size of a file, which may take its time."
  @spec open(t) :: t
  def open(%{total: {:file, path}} = meter) do
    case file(path) do
      {:ok, size, id} -> %{meter | total: size, file: id}
      # A FIFO, a device: they have no end.
      _no_file -> %{meter | total: nil}
    end
  end

  def open(meter), do: meter

  @doc """
  The place in a file is seen between two looks, too: a run may be over before the first. (At its beginning it says nothing: the command may
  be about to take another stdin.)
  """
  @spec glance(t) :: t
  def glance(%{file: nil} = meter), do: meter

  def glance(meter) do
    place = place(meter)
    if place in [nil, 0], do: meter, else: %{meter | seen: place}
  end

  @doc "All of it ended well: what was to be read has been read, unless that cannot be."
  @spec went_well(t) :: t
  def went_well(meter), do: %{meter | well?: true}

  @doc "The figures of now, and the meter for the next look."
  @spec look(t, :running | :finished) :: {NetRunner.progress(), t}
  def look(meter, state),
    do: figures(meter, counts(meter), System.monotonic_time(:millisecond), state)

  ## Counting

  defp counts(meter) do
    bytes_in = bytes(meter.stdin)
    done = if meter.file, do: place(meter), else: if(meter.total, do: bytes_in)
    %{bytes_in: bytes_in, bytes_out: bytes(meter.stdout), done: done}
  end

  defp bytes(nil), do: nil
  defp bytes(handle), do: Nif.handle_info(handle).bytes

  # The command may have made something else its stdin, and after its end the pid may be somebody else's: only a
  # place in our file means anything.
  defp place(%{os_pid: os_pid, file: id}) do
    with {:ok, _size, ^id} <- file("/proc/#{os_pid}/fd/0"),
         {:ok, fdinfo} <- Stats.read("/proc/#{os_pid}/fdinfo/0"),
         [_, place] <- Regex.run(~r/^pos:\s*(\d+)$/m, fdinfo) do
      String.to_integer(place)
    else
      _not_to_be_had -> nil
    end
  end

  # File.stat/1 asks the file server, which may be busy for somebody else.
  defp file(path) do
    with {:ok, info} <- :file.read_file_info(path, [:raw]),
         %File.Stat{type: :regular} = stat <- File.Stat.from_record(info) do
      {:ok, stat.size, {stat.major_device, stat.inode}}
    end
  end

  ## Figures: pure

  @doc "The figures of what was counted at a time (monotonic milliseconds)."
  @spec figures(t, counts, integer, :running | :finished) :: {NetRunner.progress(), t}
  def figures(meter, counts, now, state) do
    meter = %{meter | seen: counts.done || meter.seen}
    counts = %{counts | done: done(meter, state)}
    elapsed = now - meter.began
    rate = rate(meter, counts, now - meter.at)

    stats = %{
      state: state,
      elapsed_ms: elapsed,
      bytes_in: counts.bytes_in,
      bytes_out: counts.bytes_out,
      total: meter.total,
      done: counts.done,
      rate: rounded(if state == :finished, do: average(counts, elapsed), else: rate),
      eta_ms: if(state == :running, do: eta(meter.total, counts.done, rate))
    }

    {stats, %{meter | at: now, rate: rate, counts: counts}}
  end

  # What was known once stays: a command that has ended has no place in its file any more. Behind the end may be what
  # a file has grown by, or what ends an input on a terminal.
  defp done(%{total: nil}, _state), do: nil
  defp done(%{seen: nil}, _state), do: nil

  # Nobody sees the end of a file being read. Who reads at one speed was seen behind the first half of it, as the looks
  # come; a third is for those who do not.
  defp done(%{file: file, total: total, seen: seen, well?: true}, :finished)
       when file != nil and 3 * seen >= total,
       do: total

  defp done(%{total: total, seen: seen}, _state), do: min(seen, total)

  defp rate(meter, counts, ms) do
    case moved(meter, counts) do
      nil -> nil
      bytes -> smooth(meter.rate, bytes * 1000 / max(ms, 1), ms)
    end
  end

  defp smooth(nil, rate, _ms), do: rate
  defp smooth(before, rate, ms), do: before + (1 - :math.exp(-ms / @memory_ms)) * (rate - before)

  # The input is what there is an end of; else, and once it is all in, the end where more comes through.
  defp moved(%{counts: before, total: total}, counts) do
    ends =
      if counts.done != nil and (before.done || 0) < total,
        do: [:done],
        else: [:bytes_in, :bytes_out]

    Enum.max(for(key <- ends, counts[key] != nil, do: counts[key] - (before[key] || 0)), fn ->
      nil
    end)
  end

  defp average(counts, elapsed) do
    moved = counts.done || Enum.max([counts.bytes_in || -1, counts.bytes_out || -1])
    if moved >= 0, do: moved * 1000 / max(elapsed, 1)
  end

  defp eta(total, done, rate) when done != nil and done < total and rate > 0,
    do: round((total - done) * 1000 / rate)

  defp eta(_total, _done, _rate), do: nil

  defp rounded(nil), do: nil
  defp rounded(rate), do: round(rate)
end
