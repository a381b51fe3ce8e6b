defmodule NetRunner.Test.Properties do
  @moduledoc """
  PropEr's properties within ExUnit's tests.

      test "a list reversed twice is the list" do
        forall list <- list(byte()), tests: 500 do
          assert Enum.reverse(Enum.reverse(list)) == list
        end
      end

  `use NetRunner.Test.Properties` brings `forall/3` and PropEr's types (`:proper_types`, `let/2`,
  `such_that/2`). A value is wrong if the body raises, exits, throws or gives `false` for it, or
  does not end. Wrong ones are shrunk; the smallest that was found is shown with the failure itself, the
  seed and how to repeat it.

  Each value has the body in a process of its own, the owner of whatever the body starts: its mailbox is
  empty at first, and its death is nobody else's.

  `NET_RUNNER_PROPERTY_SEED` repeats a run (otherwise it is ExUnit's seed), `NET_RUNNER_PROPERTY_TESTS` is how
  many values are tried, instead of what the tests say.
  """

  import ExUnit.Assertions, only: [flunk: 1]

  @failure {__MODULE__, :failure}
  @value_timeout 20_000
  @shrinking 15_000

  @type options :: [
          tests: pos_integer,
          max_size: pos_integer,
          timeout: timeout,
          show: (term -> String.t())
        ]

  defmacro __using__(_opts) do
    quote do
      import NetRunner.Test.Properties

      import :proper_types,
        only: [
          binary: 0,
          binary: 1,
          boolean: 0,
          byte: 0,
          elements: 1,
          exactly: 1,
          frequency: 1,
          integer: 2,
          list: 1,
          non_empty: 1,
          oneof: 1,
          resize: 2,
          sized: 1,
          vector: 2
        ]
    end
  end

  @doc """
  The body holds for every value of the type. Options: `tests` (100), `max_size` (42: how large the values
  get), `timeout` (20 s, for the body) and `show` (how a value is printed).
  """
  defmacro forall({:<-, _meta, [pattern, type]}, opts \\ [], do: body) do
    quote do
      NetRunner.Test.Properties.check!(
        unquote(type),
        fn unquote(pattern) -> unquote(body) end,
        unquote(opts)
      )
    end
  end

  @doc "The type of what `fun` makes (a type again, or a value) of a value of `type`."
  def let(type, fun), do: :proper_types.bind(type, fun, false)

  @doc "Those values of the type for which `fun` is true."
  def such_that(type, fun), do: :proper_types.add_constraint(type, fun, true)

  @doc false
  @spec check!(term, (term -> term), options) :: :ok
  def check!(type, fun, opts) do
    seed = from_env("NET_RUNNER_PROPERTY_SEED", ExUnit.configuration()[:seed] || 0)
    tests = from_env("NET_RUNNER_PROPERTY_TESTS", Keyword.get(opts, :tests, 100))
    timeout = Keyword.get(opts, :timeout, @value_timeout)

    # In a process of its own: PropEr keeps things in the process dictionary, the state of its draws
    # among them.
    Task.async(fn ->
      # PropEr has no option for the seed, but draws from a generator that is there already.
      :rand.seed(:exsss, {seed, seed, seed})

      type
      |> :proper.forall(&holds?(&1, fun, timeout))
      |> :proper.quickcheck([:quiet, numtests: tests, max_size: Keyword.get(opts, :max_size, 42)])
      |> then(&{&1, Process.get(@failure)})
    end)
    |> Task.await(:infinity)
    |> case do
      {true, _none} -> :ok
      {false, failure} -> fail!(failure, seed, tests, opts)
      {{:error, reason}, _none} -> flunk("PropEr cannot try it: #{inspect(reason)}")
    end
  end

  defp from_env(name, default) do
    case System.get_env(name) do
      nil -> default
      number -> String.to_integer(number)
    end
  end

  # PropEr tries smaller and smaller values for as long as they fail: the last failure is the smallest.
  # Where each takes its time it must come to an end before ExUnit's patience does.
  defp holds?(value, fun, timeout) do
    failure = Process.get(@failure)

    if failure && System.monotonic_time(:millisecond) > failure.shrink_until do
      true
    else
      case apart(fn -> fun.(value) end, timeout) do
        :holds ->
          true

        how ->
          shrink_until =
            if failure,
              do: failure.shrink_until,
              else: System.monotonic_time(:millisecond) + @shrinking

          Process.put(@failure, %{value: value, how: how, shrink_until: shrink_until})
          false
      end
    end
  end

  defp apart(fun, timeout) do
    parent = self()
    callers = Process.get(:"$callers", [])
    ref = make_ref()

    {pid, monitor} =
      spawn_monitor(fn ->
        Process.put(:"$callers", [parent | callers])
        send(parent, {ref, outcome(fun)})
      end)

    receive do
      # Its end is awaited, so that whatever it owns has been told of it before the next value.
      {^ref, outcome} ->
        receive do: ({:DOWN, ^monitor, :process, ^pid, _reason} -> outcome)

      {:DOWN, ^monitor, :process, ^pid, reason} ->
        {:exit, reason, []}
    after
      timeout ->
        where = Process.info(pid, :current_stacktrace)
        Process.exit(pid, :kill)
        receive do: ({:DOWN, ^monitor, :process, ^pid, _reason} -> :ok)
        receive do: ({^ref, _too_late} -> :ok), after: (0 -> :ok)
        {:exit, {:not_within_ms, timeout}, if(where, do: elem(where, 1), else: [])}
    end
  end

  defp outcome(fun) do
    if fun.() == false, do: {:error, %RuntimeError{message: "gave false"}, []}, else: :holds
  catch
    kind, reason -> {kind, reason, __STACKTRACE__}
  end

  defp fail!(%{value: value, how: {kind, reason, stacktrace}}, seed, tests, opts) do
    show = Keyword.get(opts, :show, &inspect(&1, pretty: true, limit: 200, printable_limit: 4096))

    message = """
    does not hold for

    #{indent(show.(value))}

    #{Exception.format_banner(kind, reason, stacktrace)}

    to repeat it: NET_RUNNER_PROPERTY_SEED=#{seed} NET_RUNNER_PROPERTY_TESTS=#{tests} mix test ...
    """

    reraise ExUnit.AssertionError, [message: message], stacktrace
  end

  defp indent(text), do: text |> String.split("\n") |> Enum.map_join("\n", &("    " <> &1))
end
