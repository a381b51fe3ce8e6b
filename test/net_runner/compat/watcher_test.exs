defmodule NetRunner.Compat.WatcherTest do
  # The watcher of docs/cookbook.md as Phoenix calls it: a module, a function and its arguments, in a task. That it is gone
  # with what it is supervised by, the cookbook itself shows.
  use NetRunner.Test.Case

  # Thin over what other tests run on every build: twice is enough (the legs one and other).
  @moduletag :slow

  import ExUnit.CaptureLog

  @cookbook Path.expand("../../../docs/cookbook.md", __DIR__)
  @external_resource @cookbook

  [_, watcher] =
    Regex.run(
      ~r/```elixir\ndefmodule MyApp\.Watcher do\n(.*?)\nend\n```/s,
      File.read!(@cookbook)
    )

  Code.eval_string("defmodule NetRunner.Compat.WatcherTest.Watcher do\n#{watcher}\nend")

  # Its reason, and what was logged.
  defp ends(args) do
    with_log(fn ->
      {:ok, task} = Task.start(NetRunner.Compat.WatcherTest.Watcher, :run, args)
      monitor = Process.monitor(task)
      assert_receive {:DOWN, ^monitor, :process, ^task, reason}, 10_000
      reason
    end)
  end

  defp quietly, do: [into: ""]

  test "a watcher that ends well is over" do
    assert {:normal, _log} = ends([["true"], quietly()])
  end

  test "one that cannot be started is told of, and is no failure of the endpoint's" do
    assert {:shutdown, log} = ends([["no-such-program"], quietly()])
    assert log =~ "watcher no-such-program did not start: :enoent"
    assert {:shutdown, log} = ends([["true"], [cd: "/no-such-directory"] ++ quietly()])
    assert log =~ "{:cd, :enoent}"
  end

  test "one that fails is started again, not more often than every two seconds" do
    {us, {reason, _log}} = :timer.tc(fn -> ends([["sh", "-c", "exit 3"], quietly()]) end)
    assert reason == {:watcher, "sh", 3}
    assert us > 2_000_000
  end

  test "one that ran and was lost is started again, too, and nobody says that it did not start" do
    {tag, env} = tag()
    cmd = ["sh", "-c", "sleep 600 & cat"]
    watcher = Task.async(fn -> ends([cmd, [env: env] ++ quietly()]) end)
    eventually("it runs", fn -> length(tagged(tag)) == 3 end)
    [%{pid: server}] = Enum.filter(NetRunner.list(), &(&1.cmd == cmd))
    {_, 0} = System.cmd("kill", ["-KILL", to_string(:sys.get_state(server).guardian_pid)])
    assert {{:watcher, "sh", :guardian_lost}, log} = Task.await(watcher, 10_000)
    refute log =~ "did not start"
    eventually("it is gone", 10_000, fn -> tagged(tag) == [] end)
  end

  test "a task that is ended takes its watcher along, children and all" do
    {tag, env} = tag()

    back_at_baseline(fn ->
      {:ok, task} =
        Task.start(NetRunner.Compat.WatcherTest.Watcher, :run, [
          ["sh", "-c", "sleep 600 & cat"],
          [env: env] ++ quietly()
        ])

      eventually("it runs", fn -> length(tagged(tag)) == 3 end)
      Process.exit(task, :shutdown)
      eventually("it is gone", 10_000, fn -> tagged(tag) == [] end)
    end)
  end
end
