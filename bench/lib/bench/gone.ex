defmodule Bench.Gone do
  @moduledoc """
  How long does a command's family live on after the BEAM, or its guardian, was killed?

  `c/gone.c` kills, and waits for the lock that the family holds and for the pidfds of its members: ends wake
  it, it does not look. Then nobody may carry the family's tag any more. BEAMs are booted a few at a time and killed one
  by one while the others sleep.

  "Itself" is how long the killed process took to be dead, "after it" what the family took from there on.
  """

  alias Bench.{Native, Stats}

  @grace_ms 50

  # {column, fixture, arguments after the lock, options}
  @families [
    {"plain", :hold_lock, [], []},
    {"setsid", :daemonize, ["stay"], []},
    {"chains", :fork_chain, [], [kill_timeout: @grace_ms]}
  ]
  @chains 8

  @type row :: %{
          killed: String.t(),
          family: String.t(),
          count: non_neg_integer,
          dead_us: [number],
          gone_us: [number],
          wrong: [String.t()]
        }

  @doc "Measures all: `kills` of each family, the BEAM's with `batch` BEAMs booted at once."
  @spec measure(pos_integer, pos_integer) :: [row]
  def measure(kills, batch) do
    dir = Path.join(System.tmp_dir!(), "net_runner_gone_#{System.pid()}")
    File.mkdir_p!(dir)
    watch = Port.open({:spawn_executable, Native.path(:gone)}, [:binary, {:line, 200}])

    try do
      for {killed, victims} <- [{"BEAM", &beams/4}, {"guardian", &guardians/4}],
          family <- @families do
        samples = kill_all(family, kills, batch, victims, watch, dir)
        row(killed, family, samples)
      end
    after
      Port.close(watch)
      File.rm_rf!(dir)
    end
  end

  defp kill_all(_family, 0, _batch, _victims, _watch, _dir), do: []

  defp kill_all(family, left, batch, victims, watch, dir) do
    now = min(batch, left)
    killed = for victim <- victims.(family, now, left, dir), do: kill(victim, watch)
    killed ++ kill_all(family, left - now, batch, victims, watch, dir)
  end

  defp kill(%{os_pid: os_pid, lock: lock, tag: tag} = victim, watch) do
    Port.command(watch, Enum.join([os_pid, lock | tagged(tag)], " ") <> "\n")

    answer =
      receive do
        {^watch, {:data, {:eol, answer}}} -> answer
      end

    left = tagged(tag)
    victim.close.()

    case {String.split(answer), left} do
      {[dead, gone], []} -> {:ok, String.to_integer(dead) / 1000, String.to_integer(gone) / 1000}
      {["held"], _left} -> {:wrong, "the lock was not held before, or was still held after"}
      {_times, left} -> {:wrong, "the lock was free, but there were still #{inspect(left)}"}
    end
  end

  defp row(killed, {family, _fixture, _args, _opts}, samples) do
    %{
      killed: killed,
      family: family,
      count: length(samples),
      dead_us: for({:ok, dead, _gone} <- samples, do: dead),
      gone_us: for({:ok, _dead, gone} <- samples, do: gone),
      wrong: for({:wrong, why} <- samples, do: why)
    }
  end

  ## Who is killed: `%{os_pid, lock, tag, close}`, each with its family running

  defp guardians(family, count, left, dir) do
    for n <- 1..count do
      {lock, tag, cmd, opts} = command(family, "#{left}_#{n}", dir)
      [exe | args] = cmd
      {:ok, process} = NetRunner.Process.start(exe, args, opts)
      {:ok, "ready\n"} = NetRunner.Process.read(process)
      {:ok, os_pid} = NetRunner.Process.os_pid(process)
      close = fn -> NetRunner.Process.stop(process) end
      %{os_pid: parent(os_pid), lock: lock, tag: tag, close: close}
    end
  end

  defp beams(family, count, left, dir) do
    booted = for n <- 1..count, do: boot(command(family, "#{left}_#{n}", dir))
    for beam <- booted, do: await_up(beam)
  end

  defp boot({lock, tag, [exe | args], opts}) do
    paths = Enum.flat_map(:code.get_path(), &["-pa", to_string(&1)])

    code = """
    Logger.configure(level: :error)
    {:ok, _} = Application.ensure_all_started(:net_runner)
    {:ok, p} = NetRunner.Process.start(#{inspect(exe)}, #{inspect(args)}, #{inspect(opts)})
    {:ok, "ready\\n"} = NetRunner.Process.read(p)
    IO.puts("up")
    Process.sleep(:infinity)
    """

    port =
      Port.open({:spawn_executable, System.find_executable("elixir")}, [
        :binary,
        {:line, 200},
        :exit_status,
        args: paths ++ ["-e", code]
      ])

    {:os_pid, os_pid} = Port.info(port, :os_pid)
    %{os_pid: os_pid, lock: lock, tag: tag, port: port}
  end

  # The others may still boot; who is killed first must not pay for that.
  defp await_up(%{port: port} = beam) do
    receive do
      {^port, {:data, {:eol, "up"}}} -> Map.put(beam, :close, fn -> await_exit(port) end)
    after
      60_000 -> exit("a BEAM did not come up within a minute")
    end
  end

  defp await_exit(port) do
    receive do
      {^port, {:exit_status, _status}} -> :ok
    end
  end

  defp command({family, fixture, args, opts}, name, dir) do
    lock = Path.join(dir, "#{family}_#{name}_#{System.unique_integer([:positive])}")
    tag = "gone_#{Path.basename(lock)}_#{System.pid()}"
    args = if fixture == :fork_chain, do: ["#{@chains}", lock], else: [lock | args]
    {lock, tag, [Native.path(fixture) | args], [env: [{"NET_RUNNER_TAG", tag}]] ++ opts}
  end

  ## What the system says

  defp parent(os_pid) do
    [_, ppid] = Regex.run(~r/^PPid:\t(\d+)$/m, File.read!("/proc/#{os_pid}/status"))
    String.to_integer(ppid)
  end

  # A zombie has no environment any more.
  defp tagged(tag) do
    for file <- Path.wildcard("/proc/[0-9]*/environ"),
        {:ok, environ} <- [File.read(file)],
        "NET_RUNNER_TAG=#{tag}" in String.split(environ, <<0>>),
        do: file |> Path.dirname() |> Path.basename()
  end

  ## The table

  @spec text([row]) :: String.t()
  def text(rows) do
    head = [
      "| killed | family | kills | gone p50 ms | p99 | max | itself p50 ms | p99 | after it p50 ms | p99 | wrong |",
      "|---|---|---|---|---|---|---|---|---|---|---|"
    ]

    notes =
      "\nchains: #{@chains} of them, TERM ignored, so that the grace (#{@grace_ms} ms) is in the BEAM's times; " <>
        "plain and setsid obey TERM."

    wrong = for row <- rows, why <- row.wrong, do: "#{row.killed}, #{row.family}: #{why}"
    Enum.join(head ++ Enum.map(rows, &line/1) ++ [notes | wrong], "\n")
  end

  defp line(row) do
    cells =
      [row.killed, row.family, "#{row.count}"] ++
        times(row.gone_us, [50, 99, 100]) ++
        times(row.dead_us, [50, 99]) ++
        times(Enum.zip_with(row.gone_us, row.dead_us, &(&1 - &2)), [50, 99]) ++
        ["#{length(row.wrong)}"]

    "| #{Enum.join(cells, " | ")} |"
  end

  defp times([], percents), do: Enum.map(percents, fn _ -> "-" end)

  defp times(samples, percents) do
    for percent <- percents do
      ms = Stats.percentile(samples, percent) / 1000
      :erlang.float_to_binary(ms, decimals: 1)
    end
  end
end
