defmodule NetRunner.Application do
  @moduledoc false
  # The supervision tree:
  #
  #   NetRunner.Backend   finds out what the data plane can use, makes the rings; supervises
  #                       one NetRunner.Reaper per ring
  #   NetRunner.Turns     how many readers of busy pipes may be runnable at once
  #   NetRunner.Registry  pid of a NetRunner.Process -> its pipe handles, and what NetRunner.Stats tells
  #   NetRunner.Shepherd  owns the zygote and the request socket
  #
  # Commands are not children of it: a NetRunner.Process belongs to whoever starts it.

  use Application

  @impl true
  def start(_type, _args) do
    case Code.ensure_loaded(NetRunner.Nif) do
      {:module, _nif} ->
        NetRunner.Telemetry.refresh()
        NetRunner.Environment.remember_raw()
        start_supervisor()

      {:error, reason} ->
        {:error, {:nif, :persistent_term.get({NetRunner.Nif, :failure}, reason)}}
    end
  end

  defp start_supervisor do
    children = [
      NetRunner.Backend,
      NetRunner.Turns,
      {Registry, keys: :unique, name: NetRunner.Registry, partitions: System.schedulers_online()},
      NetRunner.Shepherd
    ]

    Supervisor.start_link(children, strategy: :one_for_one, name: NetRunner.Supervisor)
  end
end
