defmodule NetRunner.SchedulersTest do
  # Streams where there is one scheduler only, and where schedulers go offline and come back: a ring belongs to a
  # scheduler's thread, and what waits on it must not wait for that thread.
  use NetRunner.Test.Case

  alias NetRunner.Test.OtherBeam

  # Some at full speed, some that pause between lines.
  @commands List.duplicate(["seq", "400000"], 6) ++
              List.duplicate(
                ["sh", "-c", "for i in $(seq 20); do echo $i; sleep 0.005; done"],
                10
              )

  defp expected(["seq", last]), do: Enum.map_join(1..String.to_integer(last), &"#{&1}\n")
  defp expected(["sh" | _script]), do: Enum.map_join(1..20, &"#{&1}\n")

  on_backends "schedulers may go offline and come back while streams run" do
    online = System.schedulers_online()
    on_exit(fn -> :erlang.system_flag(:schedulers_online, online) end)

    tasks =
      for cmd <- @commands, into: %{} do
        {Task.async(fn -> cmd |> NetRunner.stream!(backend: backend) |> Enum.join() end), cmd}
      end

    read = wave(Map.keys(tasks), [1, online, max(online - 1, 1), online])
    for {task, output} <- read, do: assert(output == expected(tasks[task]), inspect(tasks[task]))
    assert length(read) == length(@commands)
  end

  # Changes how many are online until all tasks have ended; what each gave.
  defp wave([], _online), do: []

  defp wave(tasks, [next | rest]) do
    :erlang.system_flag(:schedulers_online, next)
    answers = Task.yield_many(tasks, 5)
    ended = for {task, {:ok, output}} <- answers, do: {task, output}
    ended ++ wave(for({task, nil} <- answers, do: task), rest ++ [next])
  end

  on_backends "one scheduler is enough" do
    assert read_with(backend, 1) == inspect(sizes(), limit: :infinity)
  end

  # With io_uring as many rings, on however many processors there are.
  on_backends "four schedulers, and a ring for each, read the same" do
    assert read_with(backend, 4) == inspect(sizes(), limit: :infinity)
  end

  defp sizes, do: Enum.map(@commands, &byte_size(expected(&1)))

  # Bytes that each of the commands gave to another BEAM, with so many schedulers.
  defp read_with(backend, schedulers) do
    rings = if backend == :io_uring, do: schedulers, else: "_any"

    expression = """
    (
      :ok = NetRunner.Test.WholePath.check!(:#{backend})
      {#{schedulers}, %{rings: #{rings}}} = {System.schedulers(), NetRunner.Nif.rings_info()}
      #{inspect(@commands, limit: :infinity)} |> Enum.map(fn cmd -> Task.async(fn ->
        cmd |> NetRunner.stream!(backend: :#{backend}) |> Enum.reduce(0, &(&2 + byte_size(&1)))
      end) end) |> Task.await_many(60_000)
    )\
    """

    launcher = ["env", "ERL_FLAGS=+S #{schedulers}:#{schedulers}"]
    OtherBeam.inspected(expression, 120_000, launcher)
  end
end
