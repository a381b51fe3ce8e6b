defmodule NetRunner.Test.Chaos.Worker do
  @moduledoc """
  One BEAM under chaos. Runs its plan's epochs, one after the other: so many slots, each performing one
  command after the other, while `Harm` hits guardians, zygotes, owners and servers; the driver hits this BEAM
  itself. At an epoch's end everything must be exactly as it was at its beginning.

  It talks to the driver by lines: `epoch N` at an epoch's begin, `totals ...` five times a second, `note
  ...` for the reader, `wrong ...` for each thing that must not be. Any other line is wrong, too.
  """

  import NetRunner.Test.World

  alias NetRunner.Test.Backends
  alias NetRunner.Test.Chaos.{Commands, Hand, Harm, Plan, Totals}

  # A command that nobody harmed cannot take so long; one of a frozen guardian takes 4 s.
  @stuck_ms 60_000
  # For everything to be as before: a server whose guardian was frozen waits 4 s for it, the machine is
  # loaded, and what does not settle is no longer settling.
  @settle_ms 30_000

  # The last epoch of a run is cut short, but not to nothing.
  @least_ms 1_000

  @doc "How many milliseconds everything has to be as before, at an epoch's end."
  @spec settle_ms() :: pos_integer
  def settle_ms, do: @settle_ms

  @doc """
  What the driver starts. The environment says what to do: NET_RUNNER_CHAOS_WORKER="SEED WORKER FOLDER
  UNTIL", UNTIL in milliseconds of the system's time: no epoch begins later.
  """
  def main do
    [seed, number, dir, until] =
      "NET_RUNNER_CHAOS_WORKER" |> System.fetch_env!() |> String.split()

    Totals.open()
    {:ok, _hand} = Hand.start_link()
    plan = Plan.of(String.to_integer(seed), String.to_integer(number))
    for backend <- Backends.expected(), do: warm_up(backend)
    spawn_link(&tell/0)

    for {epoch, index} <- Enum.with_index(plan.epochs, 1),
        left = String.to_integer(until) - System.os_time(:millisecond),
        left > 0 do
      folder = Path.join(dir, "#{index}")
      File.mkdir_p!(folder)
      run(Plan.cut(epoch, max(left, @least_ms)), "#{number}.#{index}", folder)
      File.rm_rf!(folder)
    end

    IO.puts("totals " <> Totals.line())
    System.halt(0)
  end

  # What a backend makes at its first use belongs to the baseline.
  defp warm_up(backend) do
    {"", 0} = NetRunner.run(["true"], backend: backend, input: "x")
  end

  defp tell do
    IO.puts("totals " <> Totals.line())

    receive do
    after
      200 -> tell()
    end
  end

  defp wrong(text) do
    Totals.add(:wrong)
    IO.puts("wrong " <> String.replace(text, "\n", " "))
  end

  ## An epoch

  defp run(epoch, name, dir) do
    before = settled(name)
    book = Harm.open()
    context = %{book: book, dir: dir, backends: Backends.expected(), name: name}
    IO.puts("epoch #{name}")
    over = System.monotonic_time(:millisecond) + epoch.ms

    slots =
      for {seed, slot} <- Enum.with_index(epoch.slots, 1),
          do: Task.async(fn -> slot(context, slot, seed, over) end)

    harm = Task.async(fn -> Harm.carry_out(epoch.harms, book) end)
    unexplained = slots |> Task.await_many(:infinity) |> List.flatten()
    frozen = Task.await(harm, :infinity)
    answer_for(unexplained, Harm.count(book.anonymous))
    release(frozen, book)
    begin = System.monotonic_time(:millisecond)
    settle(before, name, dir, begin + @settle_ms)
    ms = System.monotonic_time(:millisecond) - begin
    Harm.close(book)
    Totals.add(:epochs)

    IO.puts(
      "note epoch #{name}: #{epoch.at_once} at once for #{epoch.ms} ms, settled in #{ms} ms"
    )
  end

  # So many guardians were killed whose command could not be told.
  defp answer_for(unexplained, anonymous) do
    if length(unexplained) > anonymous,
      do: for(text <- unexplained, do: wrong("#{text} (#{anonymous} guardians killed untold)"))
  end

  # A frozen guardian whose server has gone had reported the end before: it has no family any more.
  defp release(frozen, book) do
    await_servers(System.monotonic_time(:millisecond) + @settle_ms)

    for {{os_pid, _start} = guardian, id} <- frozen, not Hand.gone?(guardian) do
      family = Enum.filter(children(os_pid), &running?/1)

      if family != [] do
        harm = inspect(Harm.harm(book, id))
        wrong("#{id}: frozen guardian #{os_pid} was left with #{inspect(family)}, harm #{harm}")
      end

      Hand.signal(guardian, :cont)
    end
  end

  # Also of starts that were given up: their server has not been entered anywhere yet.
  defp await_servers(deadline) do
    shepherd = NetRunner.Shepherd.info()
    left = Registry.count(NetRunner.Registry) + shepherd.in_flight + shepherd.queued

    if left > 0 and System.monotonic_time(:millisecond) < deadline do
      receive do
      after
        10 -> await_servers(deadline)
      end
    end
  end

  ## A slot: one command after the other

  defp slot(context, slot, seed, over) do
    :rand.seed(:exsss, seed)
    next(context, slot, 1, over, [])
  end

  defp next(context, slot, n, over, unexplained) do
    if System.monotonic_time(:millisecond) >= over do
      unexplained
    else
      command = Commands.draw("#{context.name}.#{slot}.#{n}", slot, context)
      next(context, slot, n + 1, over, one(command, context) ++ unexplained)
    end
  end

  # The owner is a process of its own, which may be killed.
  defp one(command, %{book: book} = context) do
    mark = Harm.mark(book)
    {owner, monitor} = spawn_monitor(fn -> exit({:outcome, Commands.perform(command)}) end)
    :ets.insert(book.running, {command.id, owner})

    reason =
      receive do
        {:DOWN, ^monitor, :process, _pid, reason} -> reason
      after
        @stuck_ms -> {:stuck, Process.info(owner, [:current_stacktrace, :messages, :dictionary])}
      end

    :ets.delete(book.running, command.id)
    Totals.add(:commands)
    ended(reason, command, context, mark)
  end

  defp ended({:outcome, outcome}, command, %{book: book}, mark) do
    harm = Harm.harm(book, command.id)

    case Commands.judge(command, outcome, harm, Harm.zygote_harmed?(book, mark)) do
      :right ->
        if outcome == command.expected and harm == [] and not Harm.anonymous?(book, mark),
          do: gone(command)

        []

      {:anonymous, _reason} ->
        [report(command, outcome, harm)]

      :wrong ->
        wrong(report(command, outcome, harm))
        []
    end
  end

  defp ended(:killed, command, context, _mark) do
    harm = Harm.harm(context.book, command.id)
    unless :owner_kill in harm, do: wrong("#{Commands.describe(command)}: its owner was killed")
    []
  end

  defp ended(reason, command, context, _mark) do
    wrong(report(command, reason, Harm.harm(context.book, command.id)))
    []
  end

  # Every call returns when the whole family has gone, not earlier.
  defp gone(command) do
    if locks_held([command.lock]) != [],
      do: wrong("#{Commands.describe(command)}: returned before its family had gone")
  end

  defp report(command, outcome, harm) do
    "#{Commands.describe(command)}: #{inspect(outcome, limit: 40, printable_limit: 300)} " <>
      "instead of #{inspect(command.expected)}, harm #{inspect(harm)}"
  end

  ## The baseline

  defp settled(name) do
    eventually("a settled baseline", @settle_ms, fn ->
      one = everything()

      receive do
      after
        20 -> if one != nil and everything() == one, do: one
      end
    end)
  rescue
    error ->
      wrong("epoch #{name}: #{Exception.message(error)}")
      everything()
  end

  defp settle(before, name, dir, deadline) do
    now = everything()
    locked = locks_held(Path.wildcard(dir <> "/*"))

    cond do
      now == before and locked == [] ->
        :ok

      System.monotonic_time(:millisecond) < deadline ->
        receive do
        after
          10 -> settle(before, name, dir, deadline)
        end

      true ->
        for {what, value} <- now || %{}, before[what] != value do
          wrong("epoch #{name}: #{what} #{inspect(before[what])} before, #{inspect(value)} after")
        end

        if now == nil, do: wrong("epoch #{name}: no zygote after #{@settle_ms} ms")
        if locked != [], do: wrong("epoch #{name}: locks held: #{inspect(locked)}")
    end
  end

  # nil while there is no zygote.
  defp everything do
    with %{} = baseline <- baseline(),
         do:
           Map.put(
             baseline,
             :tagged,
             names("NET_RUNNER_TAG=" <> System.fetch_env!("NET_RUNNER_TAG"))
           )
  end

  # Pids change when a zygote is killed, names do not.
  defp names(tag) do
    for(
      os_pid <- tagged(tag),
      {:ok, name} <- [File.read("/proc/#{os_pid}/comm")],
      do: String.trim(name)
    )
    |> Enum.sort()
  end
end
