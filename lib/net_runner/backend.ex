defmodule NetRunner.Backend do
  @moduledoc false
  # What the data plane runs on, found out once at start by doing it in a disposable process
  # (priv/ring_probe), never by a version number: a seccomp filter that kills would otherwise take
  # the node. Then the rings are made, one per scheduler, with a reaper each.
  #
  # Configuration: `config :net_runner, backend: :auto | :poll | :io_uring`. `:io_uring` where it is
  # refused falls back to poll with one log line; only a call's own `backend: :io_uring` is a demand.

  use Supervisor
  require Logger

  alias NetRunner.Log

  @key {__MODULE__, :info}
  # What a call's :auto means here: the NIF's number.
  @auto {__MODULE__, :auto}

  @type info :: %{
          data: :io_uring | :poll,
          registered_buffers: boolean,
          why: String.t()
        }

  def start_link(_arg), do: Supervisor.start_link(__MODULE__, nil, name: __MODULE__)

  @doc "What was found at start."
  @spec info :: info
  def info,
    do: :persistent_term.get(@key, %{data: :poll, registered_buffers: false, why: "not started"})

  @doc "The NIF's number for a `backend:` option, or why a demand cannot be met."
  @spec mode(:auto | :poll | :io_uring) :: {:ok, 0..2} | {:error, {:backend, String.t()}}
  def mode(:auto), do: {:ok, :persistent_term.get(@auto, 1)}
  def mode(:poll), do: {:ok, 1}

  def mode(:io_uring) do
    case info() do
      %{data: :io_uring} -> {:ok, 2}
      %{why: why} -> {:error, {:backend, why}}
    end
  end

  @doc "A ring that worked is refused now: what starts from here on waits by poll."
  @spec ring_broke(atom) :: :ok
  def ring_broke(reason) do
    info = poll("io_uring worked at first and was refused later: #{reason}")
    Logger.warning("NetRunner uses poll for pipe I/O from now on: #{info.why}", Log.metadata())
    :persistent_term.put(@key, info)
    :persistent_term.put(@auto, auto(info.data, :auto))
  end

  @impl true
  def init(_arg) do
    configured = Application.get_env(:net_runner, :backend, :auto)
    {info, rings} = discover(configured)
    :persistent_term.put(@key, info)
    :persistent_term.put(@auto, auto(info.data, configured))

    if info.data == :poll and configured != :poll do
      Logger.info("NetRunner uses poll for pipe I/O: #{info.why}", Log.metadata())
    end

    children =
      for {ring, index} <- Enum.with_index(rings) do
        Supervisor.child_spec({NetRunner.Reaper, ring}, id: index)
      end

    Supervisor.init(children, strategy: :one_for_one)
  end

  defp auto(:poll, _configured), do: 1
  defp auto(:io_uring, :io_uring), do: 2
  defp auto(:io_uring, :auto), do: 0

  defp discover(:poll), do: {poll("config :net_runner, backend: :poll"), []}

  defp discover(configured) when configured in [:auto, :io_uring] do
    with :io_uring <- NetRunner.Nif.build(),
         {:ok, "ok " <> _found} <- NetRunner.Nif.probe(probe_path()),
         {:ok, rings} <- NetRunner.Nif.rings_open(System.schedulers(), coop_taskrun?()) do
      info = NetRunner.Nif.rings_info()
      {%{data: :io_uring, registered_buffers: info.registered, why: why(info)}, rings}
    else
      :portable -> {poll("built without liburing"), []}
      {:ok, "error " <> what} -> {poll("io_uring refused: #{hint(what)}"), []}
      {:ok, other} -> {poll("the io_uring probe said #{inspect(other)}"), []}
      {:error, :killed} -> {poll("io_uring kills the process that tries it (seccomp)"), []}
      {:error, reason} -> {poll("io_uring cannot be set up: #{hint(reason)}"), []}
    end
  end

  defp discover(other) do
    raise ArgumentError,
          "config :net_runner, backend: expected :auto, :poll or :io_uring, got: #{inspect(other)}"
  end

  # design.md, "Ring": default task work wakes sooner beside CPU-bound Erlang, this one moves more.
  defp coop_taskrun?, do: Application.get_env(:net_runner, :coop_taskrun, false)

  defp poll(why), do: %{data: :poll, registered_buffers: false, why: why}

  # Rings count as the user's locked memory, and what other processes of that user lock does, too.
  defp hint(what) when what in [:enomem, "new ENOMEM"], do: "#{what} (RLIMIT_MEMLOCK?)"
  defp hint(what), do: what

  defp why(%{registered: true} = info),
    do: "io_uring works here: #{info.rings} rings, registered buffers"

  defp why(info),
    do:
      "io_uring works here: #{info.rings} rings; buffers could not be registered (RLIMIT_MEMLOCK)"

  defp probe_path, do: Application.app_dir(:net_runner, ["priv", "ring_probe"])
end
