defmodule Bench.Cpu do
  @moduledoc false
  # CPU clocks, from /proc. The BEAM's threads are summed from their schedstat, which counts
  # nanoseconds; everything the BEAM started is what is below it (NetRunner's zygote, ERTS's
  # erl_child_setup, other libraries' helpers) used and inherited, in ticks of 10 ms.

  @tick_us 10_000

  @type t :: %{own: number, other: number, machine: number}

  @doc "Microseconds so far: ours, our descendants', and the whole machine's."
  @spec now :: t
  def now, do: %{own: own(), other: other(), machine: machine()}

  @doc "Microseconds of the BEAM's threads so far."
  @spec own :: float
  def own do
    # Not by File, whose reads pass through a process that waits for its turn, and there may be thousands.
    {:ok, threads} = :prim_file.list_dir(~c"/proc/self/task")

    for thread <- threads,
        {:ok, text} <- [:prim_file.read_file("/proc/self/task/#{thread}/schedstat")],
        reduce: 0 do
      sum -> sum + (text |> String.split() |> hd() |> String.to_integer()) / 1000
    end
  end

  @doc "What was used between two looks; `strangers` is what neither we nor ours used."
  @spec between(t, t) :: %{own: number, other: number, strangers: number}
  def between(before, later) do
    own = later.own - before.own
    other = max(later.other - before.other, 0)
    %{own: own, other: other, strangers: max(later.machine - before.machine - own - other, 0)}
  end

  @doc "Runs a function: its result, and a measurement's clocks."
  @spec timed((() -> result)) :: {result, map} when result: term
  def timed(fun) do
    before = now()
    begin = System.monotonic_time(:nanosecond)
    result = fun.()
    wall = (System.monotonic_time(:nanosecond) - begin) / 1000
    used = between(before, now())

    clocks = %{
      wall_us: wall,
      own_us: used.own,
      other_us: used.other,
      strangers_us: used.strangers
    }

    {result, clocks}
  end

  @doc "Our children, the helpers: `[os_pid]`."
  @spec helpers :: [pos_integer]
  def helpers, do: children(System.pid())

  @doc "The children of a process, over all of its threads."
  @spec children(pos_integer | binary) :: [pos_integer]
  def children(os_pid) do
    for file <- Path.wildcard("/proc/#{os_pid}/task/*/children"),
        {:ok, text} <- [File.read(file)],
        child <- String.split(text),
        do: String.to_integer(child)
  end

  @doc "All below a process."
  @spec below(pos_integer) :: [pos_integer]
  def below(os_pid), do: Enum.flat_map(children(os_pid), &[&1 | below(&1)])

  # Who lives is asked himself: a helper below erl_child_setup that serves all commands (erlexec's) never passes on
  # what it used.
  defp other do
    for helper <- helpers(),
        os_pid <- [helper | below(helper)],
        {:ok, text} <- [File.read("/proc/#{os_pid}/stat")],
        reduce: 0 do
      sum ->
        # After the command's name in brackets: utime, stime, cutime, cstime are 14 to 17 (proc(5)).
        [_, rest] = Regex.run(~r/\) (.*)/s, text)
        ticks = rest |> String.split() |> Enum.slice(11, 4) |> Enum.map(&String.to_integer/1)
        sum + Enum.sum(ticks) * @tick_us
    end
  end

  # user, nice, system, irq, softirq of all processors.
  defp machine do
    [line | _] = "/proc/stat" |> File.read!() |> String.split("\n")

    ["cpu", user, nice, system, _idle, _iowait, irq, softirq | _] = String.split(line)

    [user, nice, system, irq, softirq]
    |> Enum.map(&(String.to_integer(&1) * @tick_us))
    |> Enum.sum()
  end
end
