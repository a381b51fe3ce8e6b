defmodule NetRunner.Test.Chaos.Hand do
  @moduledoc """
  Sends signals for chaos, through one `send_signal` (test/fixtures): quickly, and never to a process that
  only has the same pid.
  """

  use GenServer

  alias NetRunner.Test.World

  @numbers %{kill: 9, cont: 18, stop: 19}

  @typedoc "A process of the system: its pid and when it began."
  @type target :: {pos_integer, String.t()}

  def start_link, do: GenServer.start_link(__MODULE__, nil, name: __MODULE__)

  @doc "Who has this pid now; nil if nobody."
  @spec target(pos_integer) :: target | nil
  def target(os_pid) do
    case World.start_time(os_pid) do
      nil -> nil
      start -> {os_pid, start}
    end
  end

  @doc "Whether it has ended; a zombie has."
  @spec gone?(target) :: boolean
  def gone?({os_pid, _start} = target),
    do: target(os_pid) != target or not World.running?(os_pid)

  @doc "True if the signal was sent, false if the process is gone (nil: never was there)."
  @spec signal(target | nil, :kill | :cont | :stop) :: boolean
  def signal(nil, _signal), do: false
  def signal(target, signal), do: GenServer.call(__MODULE__, {target, signal}, :infinity)

  @impl true
  def init(nil) do
    {:ok, Port.open({:spawn_executable, World.fixture("send_signal")}, [:binary, {:line, 80}])}
  end

  @impl true
  def handle_call({{os_pid, start}, signal}, _from, port) do
    Port.command(port, "#{os_pid} #{start} #{Map.fetch!(@numbers, signal)}\n")

    receive do
      {^port, {:data, {:eol, answer}}} -> {:reply, answer == "sent", port}
    end
  end
end
