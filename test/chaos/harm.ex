defmodule NetRunner.Test.Chaos.Harm do
  @moduledoc """
  Does the harm of one epoch, at the times of its plan, in a process of its own in the worker. Before it
  hits somebody it notes whom (`harm/2` tells), so that each outcome can be held against what was really
  done. Who cannot be told (a guardian whose child has not executed its program yet) is hit all the
  same and counted: so many outcomes may be unexplained, and not one more.
  """

  import NetRunner.Test.World

  alias NetRunner.Test.Chaos.{Hand, Totals}

  @doc "The tables that owners and harm share in one epoch."
  def open do
    %{
      # {id, owner}: what runs now.
      running: :ets.new(:running, [:public]),
      # {id, what}: who was hit.
      hits: :ets.new(:hits, [:public, :bag]),
      # How many zygotes were killed, and how many of them have a successor.
      killed: :counters.new(1, []),
      succeeded: :counters.new(1, []),
      anonymous: :counters.new(1, [])
    }
  end

  def close(book), do: for(table <- [book.running, book.hits], do: :ets.delete(table))

  @doc "What was done to a command."
  def harm(book, id), do: book.hits |> :ets.lookup(id) |> Enum.map(&elem(&1, 1))

  @doc "To be taken before something, for what may have happened meanwhile."
  def mark(book), do: {count(book.succeeded), count(book.anonymous)}

  @doc "Whether there was no zygote, or a dying one, at any time since the mark."
  def zygote_harmed?(book, {succeeded, _anonymous}), do: count(book.killed) != succeeded

  @doc "Whether a guardian of nobody knows whom was killed since the mark."
  def anonymous?(book, {_zygote, anonymous}), do: count(book.anonymous) != anonymous

  def count(counter), do: :counters.get(counter, 1)

  @doc """
  Carries the plan out, returns when all of it is done and who was stopped for a while goes on. Gives the
  guardians that were frozen for good.
  """
  @spec carry_out([NetRunner.Test.Chaos.Plan.harm()], map) :: [{Hand.target(), id :: String.t()}]
  def carry_out(harms, book) do
    for harm <- harms, do: Process.send_after(self(), {:harm, harm}, harm.at)
    turn(%{book: book, left: length(harms), frozen: [], condemned: nil, successions: []})
  end

  defp turn(%{left: 0} = state) do
    Task.await_many(state.successions, :infinity)
    state.frozen
  end

  defp turn(state) do
    receive do
      {:harm, harm} -> turn(do_harm(harm.what, harm, %{state | left: state.left - 1}))
      {:then, fun} -> turn(fun.(%{state | left: state.left - 1}))
    end
  end

  defp later(state, ms, fun) do
    Process.send_after(self(), {:then, fun}, ms)
    %{state | left: state.left + 1}
  end

  ## The zygote

  defp do_harm(:zygote_kill, _harm, state), do: kill_zygote(zygote(), state)

  defp do_harm(:zygote_stop_kill, harm, state) do
    zygote = zygote()
    if Hand.signal(zygote, :stop), do: Totals.add(:zygotes_stopped)
    later(%{state | condemned: zygote}, harm.for, &kill_zygote(zygote, &1))
  end

  defp do_harm(:zygote_stop, harm, state) do
    zygote = zygote()
    if Hand.signal(zygote, :stop), do: Totals.add(:zygotes_stopped)
    later(state, harm.for, &go_on(zygote, &1))
  end

  ## Guardians

  defp do_harm(:guardian_kill, harm, state) do
    with {target, id} <- guardian(harm.pick, state) do
      if id,
        do: note(state, id, :guardian_kill),
        else: :counters.add(state.book.anonymous, 1, 1)

      if Hand.signal(target, :kill), do: Totals.add(:guardians_killed)
    end

    state
  end

  defp do_harm(:guardian_stop, harm, state) do
    with {target, _id} <- guardian(harm.pick, state),
         true <- Hand.signal(target, :stop) do
      Totals.add(:guardians_stopped)
      later(state, harm.for, &go_on(target, &1))
    else
      _nobody -> state
    end
  end

  # For good: then the owner's death must end the family nevertheless. A guardian that had reported
  # the end before it was stopped is nobody's business any more: the worker looks at those. One that has not
  # answered its start yet is known to its zygote only, which may be killed (docs/limits.md).
  defp do_harm(:guardian_freeze, harm, state) do
    with {target, id} when id != nil <- guardian(harm.pick, state),
         false <- :server_kill in harm(state.book, id),
         true <- started?(target),
         note(state, id, :guardian_freeze),
         true <- Hand.signal(target, :stop) do
      Totals.add(:guardians_stopped)
      later(%{state | frozen: [{target, id} | state.frozen]}, harm.for, &kill_owner(id, &1))
    else
      _nobody -> state
    end
  end

  ## Erlang processes

  defp do_harm(:owner_kill, harm, state) do
    case pick(:ets.tab2list(state.book.running), harm.pick) do
      {id, _owner} -> kill_owner(id, state)
      nil -> state
    end
  end

  defp do_harm(:server_kill, harm, state) do
    with {server, %{os_pid: os_pid}} <- pick(servers(), harm.pick),
         id when id != nil <- command_id(os_pid),
         false <- :guardian_freeze in harm(state.book, id) do
      note(state, id, :server_kill)
      Process.exit(server, :kill)
      Totals.add(:servers_killed)
    end

    state
  end

  defp kill_owner(id, state) do
    case :ets.lookup(state.book.running, id) do
      [{id, owner}] ->
        note(state, id, :owner_kill)
        Process.exit(owner, :kill)
        Totals.add(:owners_killed)

      [] ->
        :ok
    end

    state
  end

  ## Who is there

  defp zygote do
    case NetRunner.Shepherd.info().os_pid do
      nil -> nil
      os_pid -> Hand.target(os_pid)
    end
  end

  # A request may still be lost until the BEAM has seen the hang-up: a guardian that was forked a moment
  # ago holds the request socket, too, until it has had a turn to close it.
  defp kill_zygote(zygote, state) do
    :counters.add(state.book.killed, 1, 1)
    sent? = Hand.signal(zygote, :kill)
    if sent?, do: Totals.add(:zygotes_killed)

    succession =
      Task.async(fn ->
        if sent?, do: eventually("a zygote's successor", 30_000, fn -> successor?(zygote) end)
        :counters.add(state.book.succeeded, 1, 1)
      end)

    %{state | condemned: zygote, successions: [succession | state.successions]}
  end

  defp successor?({os_pid, _start}), do: NetRunner.Shepherd.info().os_pid not in [nil, os_pid]

  defp go_on(target, state) do
    Hand.signal(target, :cont)
    state
  end

  # Only of the zygote in office, and only if it stays: who would sweep behind the guardians of a
  # dead one? What strays there is the zygote's business already.
  defp guardian(roll, state) do
    with {zygote, _start} = target when target != state.condemned <- zygote(),
         guardian when guardian != nil <- pick(guardians(zygote), roll),
         target when target != nil <- Hand.target(guardian),
         # Still it, so that the time belongs to the pid.
         true <- guardian in guardians(zygote) do
      {target, guardian |> children() |> Enum.find_value(&command_id/1)}
    else
      _nobody -> nil
    end
  end

  defp guardians(zygote) do
    for pid <- children(zygote), File.read("/proc/#{pid}/comm") == {:ok, "nr_guardian\n"}, do: pid
  end

  defp servers,
    do: Registry.select(NetRunner.Registry, [{{:"$1", :_, :"$2"}, [], [{{:"$1", :"$2"}}]}])

  # Of each member of a pipeline apart.
  defp started?({guardian, _start}) do
    Enum.any?(servers(), fn {_server, known} ->
      elem(:erlang.binary_to_term(known.about), 1) == guardian
    end)
  end

  defp command_id(os_pid) do
    Enum.find_value(environ(os_pid), fn
      "NET_RUNNER_CHAOS=" <> id -> id
      _other -> nil
    end)
  end

  defp note(state, id, what), do: :ets.insert(state.book.hits, {id, what})

  defp pick([], _roll), do: nil
  defp pick(list, roll), do: list |> Enum.sort() |> Enum.at(trunc(roll * length(list)))
end
