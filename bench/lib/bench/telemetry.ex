defmodule Bench.Telemetry do
  @moduledoc """
  What do telemetry events cost: where the library is absent, where it is there and nobody listens, and with
  one handler that does nothing?

  Asked twice: of the calls that a command's life makes, alone and many times, and of whole runs of /bin/true, one after
  the other, where they are one part of a thousand others. Rounds are interleaved and rotated as in
  `Bench.Runner`, and each is divided by the same round without the library. The library is used if it can be loaded
  (`ERL_LIBS`); otherwise the first column is all there is.
  """

  alias Bench.Stats
  alias NetRunner.Telemetry

  @events for what <- [:start, :stop, :exception], do: [:net_runner, :command, what]
  @key {Telemetry, :on?}

  @type row :: %{column: String.t(), calls_ns: [number], run_us: [number]}

  @doc "`rounds` of `calls` lives of no command and of `runs` runs each."
  @spec measure(pos_integer, pos_integer, pos_integer) :: [row]
  def measure(rounds, calls, runs) do
    {:ok, process} = NetRunner.Process.start("cat")
    server = :sys.get_state(process)

    try do
      # The first round warms up.
      [_warm | measured] =
        for round <- 0..rounds do
          columns() |> rotate(round) |> Map.new(&{&1, one(&1, server, calls, runs)})
        end

      for column <- columns() do
        {ns, us} = measured |> Enum.map(& &1[column]) |> Enum.unzip()
        %{column: column, calls_ns: ns, run_us: us}
      end
    after
      NetRunner.Process.stop(process)
      Telemetry.refresh()
    end
  end

  defp columns do
    case Application.ensure_all_started(:telemetry) do
      {:ok, _started} -> ["absent", "nobody listens", "one handler"]
      {:error, _absent} -> ["absent"]
    end
  end

  defp rotate(columns, by) do
    {front, back} = Enum.split(columns, rem(by, length(columns)))
    back ++ front
  end

  defp one(column, server, calls, runs) do
    set_up(column)
    empty = time(fn -> repeat(calls, fn -> server end) end)
    full = time(fn -> repeat(calls, fn -> life(server) end) end)
    samples = for _ <- 1..runs, do: time(fn -> {"", 0} = NetRunner.run(["/bin/true"]) end) / 1000
    if column == "one handler", do: apply(:telemetry, :detach, [__MODULE__])
    {(full - empty) / calls, Stats.median(samples)}
  end

  # As NetRunner.Telemetry.refresh/0 would have it without the library.
  defp set_up("absent"), do: :persistent_term.put(@key, false)
  defp set_up("nobody listens"), do: true = Telemetry.refresh()

  defp set_up("one handler") do
    true = Telemetry.refresh()
    :ok = apply(:telemetry, :attach_many, [__MODULE__, @events, &__MODULE__.ignore/4, nil])
  end

  @doc false
  def ignore(_event, _measurements, _metadata, _config), do: :ok

  # What NetRunner.Process does in the course of one command.
  defp life(server) do
    _began = Telemetry.clock()
    span = server |> Telemetry.started() |> Telemetry.over()
    Telemetry.ended(span, {:exited, 0}, info(), server)
  end

  defp info do
    %{
      orphans_killed: 0,
      stopped: false,
      rusage: %{
        user_us: 0,
        system_us: 0,
        max_rss_kb: 0,
        minflt: 0,
        majflt: 0,
        nvcsw: 0,
        nivcsw: 0
      }
    }
  end

  defp repeat(0, _fun), do: :ok

  defp repeat(n, fun) do
    fun.()
    repeat(n - 1, fun)
  end

  defp time(fun) do
    begin = System.monotonic_time(:nanosecond)
    fun.()
    System.monotonic_time(:nanosecond) - begin
  end

  @doc "The table."
  @spec text([row]) :: String.t()
  def text([absent | _] = rows) do
    head =
      "| library | its calls, ns per command | run /bin/true, p50 us | to absent |\n|---|---|---|---|\n"

    lines =
      for row <- rows do
        "| #{row.column} | #{number(row.calls_ns)} | #{number(row.run_us)} | #{ratio(row, absent)} |\n"
      end

    missing = if length(rows) == 1, do: "\nThe :telemetry library is not loaded.\n", else: ""
    Enum.join([head | lines]) <> missing
  end

  defp number(values), do: :erlang.float_to_binary(Stats.median(values), decimals: 0)

  defp ratio(row, row), do: "1"

  defp ratio(row, absent) do
    ratios = for {mine, base} <- Enum.zip(row.run_us, absent.run_us), do: mine / base
    {low, high, _confidence} = Stats.interval(ratios)

    [median, low, high] =
      for x <- [Stats.median(ratios), low, high], do: :erlang.float_to_binary(x, decimals: 3)

    "#{median} [#{low}, #{high}]"
  end
end
