defmodule NetRunner.Progress.Screen do
  @moduledoc false
  # Progress on stderr: on a terminal one line that is drawn again and again in its place, elsewhere a line now and then.
  #
  # It speaks the I/O protocol itself and waits for no answer, because a terminal may be stopped (Ctrl-S) and a pipe full.
  # There is one request on its way at a time, but for the last one, which need not wait: each is a whole line or nothing, and
  # they come out in their order.

  alias NetRunner.{Pipe, Progress.Bar}

  @device :standard_error
  # Between two lines where there is no terminal.
  @line_every 5_000
  # Of a terminal that does not know (a pty that nobody gave a size).
  @columns 80

  @enforce_keys [:name, :line_at]
  defstruct [:name, :line_at, :asked, :sent, :stats, columns: :unknown, drawn: 0, last?: false]

  @typedoc """
  `asked` and `sent` are the requests on their way: for the width, with the `stats` to be drawn then, and what was drawn.
  `columns` is nil where there is no terminal. `drawn` is the width of the line that is there.
  """
  @type t :: %__MODULE__{}

  @spec new(%{name: String.t()}) :: t
  def new(%{name: name}), do: %__MODULE__{name: name, line_at: Pipe.deadline(@line_every)}

  @spec tell(t, NetRunner.progress()) :: t
  def tell(%{asked: asked, sent: sent} = screen, _stats) when asked != nil or sent != nil,
    do: screen

  def tell(%{columns: nil} = screen, stats), do: draw(screen, stats)
  # It may have another width by now.
  def tell(screen, stats), do: ask(screen, stats)

  @doc "As `tell/2`, the last time."
  @spec last(t, NetRunner.progress()) :: t
  def last(%{columns: :unknown, asked: nil} = screen, stats),
    do: ask(%{screen | last?: true}, stats)

  def last(%{columns: :unknown} = screen, stats), do: %{screen | last?: true, stats: stats}
  def last(screen, stats), do: draw(%{screen | last?: true, asked: nil}, stats)

  @doc "A message that has come to the calling process."
  @spec heard(t, term) :: {:ok, t}
  def heard(%{asked: asked} = screen, {:io_reply, asked, answer}) do
    Process.demonitor(asked, [:flush])
    {:ok, draw(%{screen | asked: nil, stats: nil, columns: columns(answer)}, screen.stats)}
  end

  def heard(%{sent: sent} = screen, {:io_reply, sent, _answer}) do
    Process.demonitor(sent, [:flush])
    {:ok, %{screen | sent: nil}}
  end

  # The device has ended, as that of a test does.
  def heard(screen, {:DOWN, monitor, :process, _pid, _reason}) do
    {:ok,
     %{
       screen
       | asked: if(screen.asked != monitor, do: screen.asked),
         sent: if(screen.sent != monitor, do: screen.sent)
     }}
  end

  def heard(screen, _other), do: {:ok, screen}

  @doc "Whether the last line is there."
  @spec said?(t) :: boolean
  def said?(screen), do: screen.asked == nil and screen.sent == nil

  @spec leave(t) :: :ok
  def leave(_screen), do: :ok

  ## Drawing

  defp columns(0), do: @columns
  defp columns(columns) when is_integer(columns), do: columns
  defp columns(_no_terminal), do: nil

  defp ask(screen, stats),
    do: %{screen | asked: request({:get_geometry, :columns}), stats: stats}

  defp draw(%{columns: nil} = screen, stats) do
    if screen.last? or Pipe.over?(screen.line_at) do
      line = [screen.name, ": ", Bar.line(stats), ?\n]
      %{screen | sent: put(line), line_at: Pipe.deadline(@line_every)}
    else
      screen
    end
  end

  defp draw(screen, stats) do
    line = Bar.bar(stats, screen.columns)
    width = byte_size(line)

    # What is left of a longer line is written over; what erases a line is not the same on all terminals.
    rest = max(min(screen.drawn, Bar.width(screen.columns)) - width, 0)
    ending = if screen.last?, do: "\n", else: ""
    chars = ["\r", line, List.duplicate(?\s, rest), ending]
    %{screen | sent: put(chars), drawn: width}
  end

  defp put(chars), do: request({:put_chars, :unicode, chars})

  defp request(request) do
    if device = Process.whereis(@device) do
      ref = Process.monitor(device)
      send(device, {:io_request, self(), ref, request})
      ref
    end
  end
end
