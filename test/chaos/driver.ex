defmodule NetRunner.Test.Chaos do
  @moduledoc """
  The chaos run (`ci/chaos [seconds] [seed]`): worker BEAMs run a mix of commands, two workers side by
  side, while a seed says who is hit. Workers hit guardians, zygotes, owners and servers
  themselves (`Harm`); this driver stops and kills the workers, and when one has ended, killed or in
  peace, looks whether anything of it is left: a process with its tag, a lock that its commands held.

  Everything that is drawn comes from the seed (`Plan`): the same seed draws the same commands and
  the same harm at the same times. How the machine schedules them it cannot repeat.

  Never harmed are zygote and guardian of the same family, see `Plan`. A zygote that was stopped when its
  BEAM is killed is told to go on by the driver: nothing else can end a stopped zygote but SIGKILL.
  """

  import NetRunner.Test.World

  alias NetRunner.Test.Chaos.{Hand, Plan, Totals}
  alias NetRunner.Test.OtherBeam

  @lanes 2
  # A stopped guardian is killed by its zygote after kill_timeout (here 5 s at most) + 2.5 s; the rest is room
  # for a loaded machine.
  @gone_ms 15_000
  # No plan takes so long: three epochs with three settlings.
  @worker_ms 180_000
  @up_ms 60_000

  @doc "How many milliseconds a worker's family has to be gone after it."
  @spec gone_ms() :: pos_integer
  def gone_ms, do: @gone_ms

  @doc "Runs for so many seconds; true if nothing was wrong."
  @spec main(pos_integer, integer) :: boolean
  def main(seconds, seed) do
    # Ended by a signal, a BEAM says 0: as if all had gone well.
    :os.set_signal(:sigterm, :default)
    Totals.open()
    {:ok, _hand} = Hand.start_link()
    begin = System.monotonic_time(:millisecond)
    numbers = :counters.new(1, [])

    context = %{
      seed: seed,
      until: begin + seconds * 1000,
      numbers: numbers,
      dir: Path.join(System.tmp_dir!(), "net_runner_chaos_#{System.pid()}")
    }

    say("seed #{seed}, #{seconds} s (to repeat: ci/chaos #{seconds} #{seed})")
    lanes = for _ <- 1..@lanes, do: Task.async(fn -> lane(context, 0) end)
    slowest = lanes |> Task.await_many(:infinity) |> Enum.max()
    File.rm_rf!(context.dir)
    took = div(System.monotonic_time(:millisecond) - begin, 1000)
    say("the slowest worker's family had gone #{slowest} ms after it")
    IO.puts("chaos: seed #{seed}, #{took} s, #{Totals.sentence()}")
    Totals.get(:survivors) + Totals.get(:wrong) == 0 and Totals.get(:epochs) > 0
  end

  defp say(text), do: IO.puts("chaos: " <> text)

  defp wrong(text) do
    Totals.add(:wrong)
    say("WRONG: " <> text)
  end

  # One worker after the other; gives the longest that anybody of them took to be gone.
  defp lane(context, slowest) do
    if System.monotonic_time(:millisecond) >= context.until do
      slowest
    else
      number = next_number(context.numbers)
      lane(context, max(slowest, worker(context, number)))
    end
  end

  # Atomic, so that no two lanes get the same one.
  defp next_number(numbers) do
    :global.trans({numbers, self()}, fn ->
      :counters.add(numbers, 1, 1)
      :counters.get(numbers, 1)
    end)
  end

  ## One worker

  defp worker(context, number) do
    plan = Plan.of(context.seed, number)
    dir = Path.join(context.dir, "#{number}")
    File.mkdir_p!(dir)
    tag = "chaos_#{context.seed}_#{number}_#{System.pid()}"
    worker = start(context, number, dir, tag)

    worker
    |> Map.merge(%{plan: plan, epoch: 0, harmed: false, totals: nil, number: number})
    |> follow()

    {beam, _start} = worker.beam
    ms = await_gone(%{number: number, tag: "NET_RUNNER_TAG=" <> tag, dir: dir, beam: beam})
    File.rm_rf!(dir)
    ms
  end

  defp start(context, number, dir, tag) do
    until = System.os_time(:millisecond) + context.until - System.monotonic_time(:millisecond)

    [exe | args] = [
      System.find_executable("elixir")
      | OtherBeam.elixir_args("NetRunner.Test.Chaos.Worker.main()")
    ]

    port =
      Port.open({:spawn_executable, exe}, [
        :binary,
        :exit_status,
        :stderr_to_stdout,
        {:line, 16_384},
        args: args,
        env: [
          {~c"NET_RUNNER_TAG", to_charlist(tag)},
          {~c"NET_RUNNER_CHAOS_WORKER", ~c"#{context.seed} #{number} #{dir} #{until}"}
        ]
      ])

    {:os_pid, os_pid} = Port.info(port, :os_pid)
    Process.send_after(self(), {:overdue, port}, @up_ms + @worker_ms)
    %{port: port, beam: Hand.target(os_pid)}
  end

  # What the worker says, until it has ended; and what its plan does to it.
  defp follow(%{port: port} = worker) do
    receive do
      {^port, {:data, {_eol, line}}} -> line |> heard(worker) |> follow()
      {^port, {:exit_status, status}} -> ended(status, worker)
      {:beam, ^port, what} -> what |> hit(worker) |> follow()
      {:overdue, ^port} -> overdue(worker) |> follow()
      # Of a worker before.
      {_what, old} when old != port -> follow(worker)
      {:beam, old, _what} when old != port -> follow(worker)
    end
  end

  defp heard("epoch " <> _name, worker) do
    worker = %{worker | epoch: worker.epoch + 1}
    epoch = Enum.at(worker.plan.epochs, worker.epoch - 1)
    for stop <- epoch.beam_stops, do: later(worker, stop.at, {:stop, stop.for})

    with {:killed, at} <- worker.plan.ending,
         true <- worker.epoch == length(worker.plan.epochs),
         do: later(worker, at, :kill)

    worker
  end

  defp heard("totals " <> totals, worker), do: %{worker | totals: totals}

  defp heard("note " <> text, worker) do
    say("worker #{worker.number}: #{text}")
    worker
  end

  # It counts these itself.
  defp heard("wrong " <> text, worker) do
    say("WRONG: worker #{worker.number}: #{text}")
    worker
  end

  defp heard(other, worker) do
    wrong("worker #{worker.number} said: #{other}")
    worker
  end

  defp later(worker, ms, what), do: Process.send_after(self(), {:beam, worker.port, what}, ms)

  defp hit({:stop, ms}, worker) do
    if Hand.signal(worker.beam, :stop) do
      Totals.add(:beams_stopped)
      later(worker, ms, :go_on)
    end

    worker
  end

  defp hit(:go_on, worker) do
    Hand.signal(worker.beam, :cont)
    worker
  end

  defp hit(:kill, worker) do
    killed? = Hand.signal(worker.beam, :kill)
    if killed?, do: Totals.add(:beams_killed)
    %{worker | harmed: killed?}
  end

  defp overdue(worker) do
    wrong("worker #{worker.number} is still there after #{@worker_ms} ms")
    hit(:kill, worker)
  end

  defp ended(status, worker) do
    if worker.totals, do: Totals.add_line(worker.totals)
    expected = if worker.harmed, do: 137, else: 0
    if status != expected, do: wrong("worker #{worker.number} ended with #{status}")
  end

  ## What is left of it

  defp await_gone(left) do
    begin = System.monotonic_time(:millisecond)
    await_gone(left, begin, begin + @gone_ms)
  end

  defp await_gone(left, begin, deadline) do
    os_pids = os_pids(left)
    locked = locks_held(Path.wildcard(left.dir <> "/*/*"))
    Enum.each(os_pids, &wake_zygote/1)

    cond do
      os_pids == [] and locked == [] ->
        System.monotonic_time(:millisecond) - begin

      System.monotonic_time(:millisecond) < deadline ->
        receive do
        after
          20 -> await_gone(left, begin, deadline)
        end

      true ->
        Totals.add(:survivors, max(length(os_pids), length(locked)))
        for path <- locked, do: say("SURVIVOR of worker #{left.number}: holds #{path}")
        for os_pid <- os_pids, do: say("SURVIVOR of worker #{left.number}: #{describe(os_pid)}")
        sweep(left, 100)
        @gone_ms
    end
  end

  defp os_pids(left), do: Enum.uniq(tagged(left.tag) ++ shepherds_of(left.beam))

  defp wake_zygote(os_pid) do
    if File.read("/proc/#{os_pid}/comm") == {:ok, "nr_zygote\n"} and proc_state(os_pid) == "T",
      do: Hand.signal(Hand.target(os_pid), :cont)
  end

  defp describe(os_pid) do
    id = Enum.find(environ(os_pid), &String.starts_with?(&1, "NET_RUNNER_CHAOS="))

    words =
      for line <- String.split(read("/proc/#{os_pid}/status"), "\n"),
          line =~ ~r/^(Name|State|PPid|NSsid|SigIgn|SigBlk|SigPnd|ShdPnd):/,
          do: String.replace(line, "\t", " ")

    command = os_pid |> then(&read("/proc/#{&1}/cmdline")) |> String.replace(<<0>>, " ")

    "pid #{os_pid}, #{id}, #{command}, #{Enum.join(words, ", ")}, in #{read("/proc/#{os_pid}/wchan")}"
  end

  defp read(path) do
    case File.read(path) do
      {:ok, text} -> text
      {:error, reason} -> "(#{reason})"
    end
  end

  # They were counted; the machine is lent. Chains run on while they are looked for: again and again.
  defp sweep(_left, 0), do: :ok

  defp sweep(left, rounds) do
    case os_pids(left) do
      [] ->
        :ok

      os_pids ->
        for os_pid <- os_pids, do: os_pid |> Hand.target() |> Hand.signal(:kill)
        sweep(left, rounds - 1)
    end
  end
end
