defmodule NetRunner.Progress do
  @moduledoc false
  # `progress:` of run, exec and stream: tells how far the commands of one call are, every quarter of a second and once at the
  # end. NetRunner.Collector and NetRunner.Stream start it behind the commands and finish it when they are gone.
  #
  # It is a process of its own, linked to nobody, which watches the calling process: however a call ends, it ends, with
  # a last word. It looks at counters that the pipes have anyhow, so nobody who moves bytes knows of it; and it waits
  # for nobody itself: who is told (NetRunner.Progress.Screen, .Listener) may be stuck, then it is told less. Only the end of
  # a call waits for the last word, so that what the caller prints next comes behind it, and not for long.

  alias NetRunner.{Log, Pipe, Plan, Running, Top}
  alias NetRunner.Progress.{Listener, Meter, Screen}

  @tick 250
  # When a file is first glanced at, for short runs; each later glance takes twice as long to come, so that one was in the
  # second half of a run.
  @glance 5
  # How long the end of a call waits for the last word at most,
  @last_wait 1_000
  # and for how long after it that may still be on its way.
  @last_words 2_000
  # Of what the commands are called.
  @name_max 40

  @type t :: pid | nil

  @doc "From now on, if it is asked for: to be called by the process that has started the commands."
  @spec start(Plan.t(), Running.t()) :: t
  def start(%Plan{options: %{progress: nil}}, _running), do: nil

  def start(%Plan{options: %{progress: progress} = options, stages: stages}, running) do
    callers = [self() | Process.get(:"$callers", [])]
    # The input itself may be large, and stays here.
    {size, ends, began} = {size(options), Running.ends(running), running.began}
    about = %{name: name(stages), os_pid: ends.os_pid, callers: callers}
    spawn(fn -> init(progress, about, Meter.new(ends, began, size)) end)
  end

  # With the header, where it is one frame; where it is several, nobody has counted them.
  defp size(%{input: input, packet: header}) when header != nil and is_binary(input),
    do: Meter.size(input) + header

  defp size(%{input: input, packet: header}) when header != nil and is_list(input), do: nil
  defp size(%{input: input}), do: Meter.size(input)

  defp name(stages) do
    stages
    |> Enum.map_join(" | ", &(&1.shown |> hd() |> Log.name() |> Top.printable()))
    |> Top.cut(@name_max)
  end

  @doc "The call is over. Any process may say so, also of one that has ended long ago."
  @spec finish(t) :: :ok
  def finish(nil), do: :ok

  def finish(progress) do
    monitor = Process.monitor(progress)
    send(progress, :finish)

    receive do
      {:DOWN, ^monitor, :process, _pid, _reason} -> :ok
    after
      @last_wait ->
        Process.demonitor(monitor, [:flush])
        :ok
    end
  end

  @doc "What ended went well: to be said before `finish/1`."
  @spec went_well(t) :: :ok
  def went_well(nil), do: :ok

  def went_well(progress) do
    send(progress, :went_well)
    :ok
  end

  ## The process

  defp init(progress, %{callers: [caller | _]} = about, meter) do
    # A listener's end is heard of, whoever caused it.
    Process.flag(:trap_exit, true)
    caller = Process.monitor(caller)
    {module, told} = told(progress, about)
    state = %{caller: caller, meter: Meter.open(meter), module: module, told: told}
    loop(state, Pipe.deadline(@tick), @glance)
  end

  defp told(true, about), do: {Screen, Screen.new(about)}
  defp told(fun, about), do: {Listener, Listener.new(fun, about)}

  # `next` is the next look, of which somebody is told; `glance` how long to wait for a glance before it.
  defp loop(%{caller: caller, module: module, meter: meter} = state, next, glance) do
    left = Pipe.left(next)

    receive do
      :went_well ->
        loop(%{state | meter: Meter.went_well(meter)}, next, glance)

      :finish ->
        finish_with(state)

      {:DOWN, ^caller, :process, _pid, _reason} ->
        finish_with(state)

      message ->
        with {:ok, told} <- module.heard(state.told, message),
             do: loop(%{state | told: told}, next, glance)
    after
      min(left, glance) ->
        if glance < left do
          loop(%{state | meter: Meter.glance(meter)}, next, 2 * glance)
        else
          {stats, meter} = Meter.look(meter, :running)
          told = module.tell(state.told, stats)
          loop(%{state | meter: meter, told: told}, Pipe.deadline(@tick), @tick)
        end
    end
  end

  defp finish_with(%{module: module} = state) do
    {stats, _meter} = Meter.look(state.meter, :finished)
    last_words(module, module.last(state.told, stats), Pipe.deadline(@last_words))
  end

  defp last_words(module, told, deadline) do
    if module.said?(told) do
      module.leave(told)
    else
      receive do
        message ->
          with {:ok, told} <- module.heard(told, message),
               do: last_words(module, told, deadline)
      after
        Pipe.left(deadline) -> module.leave(told)
      end
    end
  end
end
