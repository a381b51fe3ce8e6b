defmodule NetRunner.Turns do
  @moduledoc false
  # How many readers of busy pipes may be runnable at once. A thousand streams at full speed are a thousand runnable
  # processes, each with a good part of a millisecond to do, and every other process of the node waits for all of them (a 1
  # ms timer: 115 ms at the 99th percentile). While the run queues are longer than is good, readers that have had their turn
  # wait for the next in csrc/turns.c, first come first served, and this process says how many are let in.
  #
  # It sleeps while nobody reads much. It is told when somebody does, once in @rest_ms, and looks at the run queues: that is
  # all a node with few streams pays. In a crowd it looks every tick. A reader that goes leaves its place to the next by itself: the
  # ticks only mend what that cannot see, readers that have ended, that wait for something else, that others are in front of.
  #
  # It must never block, and never leave somebody waiting: when it goes, whoever starts it again lets all of them go on.

  use GenServer

  alias NetRunner.Nif

  @tick_ms 1
  @rest_ms 20

  # Runnable processes per scheduler, with which a scheduler does not run dry before a reader has given its place on, and behind which
  # nobody waits long (docs/decisions/0013).
  @level 8

  # So many ticks without anybody waiting, with few readers or few others, and the crowd has gone. Who gives much in small pieces is known
  # after 128 (TICKS of csrc/turns.c, twice).
  @calm_ticks 160

  def start_link(_arg), do: GenServer.start_link(__MODULE__, nil, name: __MODULE__)

  @impl true
  def init(nil) do
    # For `terminate/2`.
    Process.flag(:trap_exit, true)
    # It decides how long the others wait, and never computes.
    Process.flag(:priority, :high)
    spread? = spread?()
    :ok = Nif.turns_spread(spread?)
    {:ok, listen(%{timer: nil, readers: {0, 0}, calm: 0, spread?: spread?})}
  end

  # One is on its way only while no timer runs; what comes nevertheless is of before (a watch that was killed).
  @impl true
  def handle_info(:much, %{timer: nil} = state) do
    if run_queue() > 2 * level(),
      do: {:noreply, tick(%{state | readers: Nif.turns_let_in(0, 0), calm: 0})},
      else: {:noreply, rest(state)}
  end

  def handle_info({:timeout, timer, what}, %{timer: timer} = state) do
    case what do
      :tick -> {:noreply, tick(state)}
      :listen -> {:noreply, listen(state)}
    end
  end

  def handle_info(_of_before, state), do: {:noreply, state}

  @impl true
  def terminate(_reason, _state), do: Nif.turns_rest()

  defp listen(state) do
    :ok = Nif.turns_watch(self())
    %{state | timer: nil}
  end

  defp rest(state) do
    :ok = Nif.turns_rest()
    %{state | timer: :erlang.start_timer(@rest_ms, self(), :listen)}
  end

  defp tick(state) do
    {run_queue, level} = {run_queue(), level()}
    {let_in, too_many} = change(run_queue, level, state.readers)
    {waiting, in_turn} = readers = Nif.turns_let_in(let_in, too_many)
    # Others may be many for as long as they like.
    calm = if waiting == 0 and min(run_queue, in_turn) <= level, do: state.calm + 1, else: 0
    state = %{state | readers: readers, calm: calm}

    if calm < @calm_ticks,
      do: %{state | timer: :erlang.start_timer(@tick_ms, self(), :tick)},
      else: rest(state)
  end

  @doc """
  How many readers are to be let in now, and how many of those that come by are to wait without letting another in.
  `run_queue`: how many processes are runnable, readers and others; `level`: how many are to be; `waiting` and `in_turn`: the readers that wait, and
  those that read, as of the last tick.

  Readers have the places that nobody else takes, and `level` of their own whatever else runs: few readers are never asked to wait, for they
  are not the crowd. Where those who were let in do something else for a while, and others take the rest, one is let in at each tick: nobody
  waits for ever.
  """
  @spec change(non_neg_integer, pos_integer, {non_neg_integer, non_neg_integer}) ::
          {non_neg_integer, non_neg_integer}
  def change(run_queue, level, {waiting, in_turn}) do
    least = min(waiting, 1)
    free = max(level - run_queue, level - in_turn)
    too_many = if waiting + in_turn > level, do: max(run_queue - level, 0), else: 0
    {max(least, free), too_many}
  end

  # `config :net_runner, spread_schedulers: false` leaves it to the kernel which scheduler runs on which processor (csrc/spread.h). So does a
  # system that does not let a thread be moved: a seccomp filter that kills for it kills priv/spread_probe.
  defp spread? do
    case Application.get_env(:net_runner, :spread_schedulers, true) do
      true ->
        Nif.probe(Application.app_dir(:net_runner, ["priv", "spread_probe"])) == {:ok, "ok"}

      false ->
        false

      other ->
        raise ArgumentError,
              "config :net_runner, spread_schedulers: expected a boolean, got: #{inspect(other)}"
    end
  end

  defp level, do: @level * System.schedulers_online()

  defp run_queue, do: :erlang.statistics(:total_run_queue_lengths)
end
