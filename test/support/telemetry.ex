defmodule NetRunner.Test.Telemetry do
  @moduledoc """
  A stand-in for the `:telemetry` library, which this project cannot have: no Hex here. It does what the
  documentation of version 1.x says of `attach/4`, `attach_many/4`, `detach/1`, `list_handlers/1` and `execute/2,3`:
  handlers run in the process that executes; one that fails is detached, logged, and told to
  `[:telemetry, :handler, :failure]`; without its application started, executing logs a warning and does nothing.

  The module is compiled when a test asks for it and gone afterwards: everybody else runs without the library.
  """

  @library (quote do
              defmodule :telemetry do
                @moduledoc false
                require Logger

                def attach(id, event, fun, config), do: attach_many(id, [event], fun, config)

                def attach_many(id, events, fun, config) when is_function(fun, 4) do
                  for event <- events, do: true = event != [] and Enum.all?(event, &is_atom/1)

                  Agent.get_and_update(:telemetry_handler_table, fn handlers ->
                    if Enum.any?(handlers, &(&1.id == id)) do
                      {{:error, :already_exists}, handlers}
                    else
                      new =
                        for e <- events,
                            do: %{id: id, event_name: e, function: fun, config: config}

                      {:ok, handlers ++ new}
                    end
                  end)
                end

                def detach(id) do
                  Agent.get_and_update(:telemetry_handler_table, fn handlers ->
                    case Enum.split_with(handlers, &(&1.id == id)) do
                      {[], _others} -> {{:error, :not_found}, handlers}
                      {_its, others} -> {:ok, others}
                    end
                  end)
                end

                def list_handlers(prefix),
                  do: Enum.filter(handlers(), &List.starts_with?(&1.event_name, prefix))

                def execute(event, measurements), do: execute(event, measurements, %{})

                def execute([_ | _] = event, measurements, metadata)
                    when is_map(measurements) and is_map(metadata) do
                  for handler <- handlers(), handler.event_name == event do
                    try do
                      handler.function.(event, measurements, metadata, handler.config)
                    catch
                      kind, reason -> failed(handler, event, kind, reason, __STACKTRACE__)
                    end
                  end

                  :ok
                end

                defp failed(handler, event, kind, reason, stacktrace) do
                  detach(handler.id)

                  execute(
                    [:telemetry, :handler, :failure],
                    %{
                      monotonic_time: System.monotonic_time(),
                      system_time: System.system_time()
                    },
                    %{
                      event_name: event,
                      handler_id: handler.id,
                      handler_config: handler.config,
                      kind: kind,
                      reason: reason,
                      stacktrace: stacktrace
                    }
                  )

                  Logger.error("Handler #{inspect(handler.id)} has failed and has been detached")
                end

                defp handlers do
                  if Process.whereis(:telemetry_handler_table) do
                    Agent.get(:telemetry_handler_table, & &1)
                  else
                    Logger.warning("Failed to lookup telemetry handlers")
                    []
                  end
                end
              end
            end)

  @doc "Loads the library, as a dependency does, and removes it again with the test."
  def load do
    [{:telemetry, _beam}] = Code.compile_quoted(@library)

    :ok =
      :application.load(
        {:application, :telemetry,
         vsn: ~c"0", modules: [:telemetry], registered: [], applications: [:kernel, :stdlib]}
      )

    ExUnit.Callbacks.on_exit(&unload/0)
  end

  @doc "Starts its application."
  def start do
    {:ok, _pid} =
      ExUnit.Callbacks.start_supervised(%{
        id: :telemetry,
        start: {Agent, :start_link, [fn -> [] end, [name: :telemetry_handler_table]]}
      })

    :ok = Application.start(:telemetry)
  end

  @doc "The code is gone, and nobody was told."
  def lose do
    :code.purge(:telemetry)
    true = :code.delete(:telemetry)
    :code.purge(:telemetry)
  end

  defp unload do
    _ = Application.stop(:telemetry)
    :ok = Application.unload(:telemetry)
    if :code.is_loaded(:telemetry), do: lose()
    false = NetRunner.Telemetry.refresh()
  end
end
