defmodule NetRunner.Reaper do
  @moduledoc false
  # One per ring. ERTS tells it through the ring's eventfd that completions wait, and it harvests:
  # ready streams are read into registered slots and their waiting processes are told. It must do
  # nothing else: every wait on its ring passes through here.

  use GenServer

  # Where many events come of those who have time, it comes by the clock, and nothing wakes it.
  @tick_ms 1

  # Where ERTS cannot tell it (no memory, no room for one more watch), it looks by itself this often.
  @unwatched_ms 10

  def start_link(ring), do: GenServer.start_link(__MODULE__, ring)

  @impl true
  def init(ring) do
    # Others wait for this process; it never computes.
    Process.flag(:priority, :high)
    harvest(ring)
    {:ok, ring}
  end

  @impl true
  def handle_info({:select, ring, _ref, :ready_input}, ring) do
    harvest(ring)
    {:noreply, ring}
  end

  def handle_info(:harvest, ring) do
    harvest(ring)
    {:noreply, ring}
  end

  defp harvest(ring) do
    case NetRunner.Nif.ring_harvest(ring) do
      :ok -> :ok
      :more -> send(self(), :harvest)
      :soon -> Process.send_after(self(), :harvest, @tick_ms)
      :again -> Process.send_after(self(), :harvest, @unwatched_ms)
      # The kernel refuses this ring for good; its streams wait by poll already.
      {:error, reason} -> NetRunner.Backend.ring_broke(reason)
    end
  end
end
