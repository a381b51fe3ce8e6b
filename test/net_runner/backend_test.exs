defmodule NetRunner.BackendTest do
  # config :net_runner, backend: is a wish, a call's backend: a demand. Not async: the application is
  # started anew with other configuration.
  use NetRunner.Test.Case

  @moduletag :capture_log

  setup do: keep_config(:backend)

  defp restart(backend), do: restart_net_runner(:backend, backend)

  test "backend: :poll uses no ring, says so, and refuses the demand for one" do
    {:ok, _} = restart(:poll)
    assert %{data: :poll, registered_buffers: false, why: why} = NetRunner.backend()
    assert why =~ "config :net_runner, backend: :poll"

    for opts <- [[], [backend: :auto], [backend: :poll]],
        do: assert(NetRunner.run(["cat"], [input: "x"] ++ opts) == {"x", 0})

    assert NetRunner.run(["true"], backend: :io_uring) == {:error, {:backend, why}}
    assert NetRunner.stream(["true"], backend: :io_uring) == {:error, {:backend, why}}
    assert NetRunner.Process.start("true", [], backend: :io_uring) == {:error, {:backend, why}}

    error =
      assert_raise NetRunner.Error, fn ->
        Stream.run(NetRunner.stream!(["true"], backend: :io_uring))
      end

    assert error.reason == {:backend, why}
  end

  test "backend: :auto and :io_uring use rings where they work, poll where not" do
    for configured <- [:auto, :io_uring] do
      {:ok, _} = restart(configured)
      assert %{data: data, why: why} = NetRunner.backend()

      assert data ==
               if(:io_uring in NetRunner.Test.Backends.expected(), do: :io_uring, else: :poll)

      assert why != ""
      assert NetRunner.run(["cat"], input: "x") == {"x", 0}
      # From the very first call on, not only once the zygote has said hello.
      assert NetRunner.backend().containment != nil
    end
  end

  test "backend: :io_uring in the config sends every wait of a plain call to a ring" do
    {:ok, _} = restart(:io_uring)
    {:ok, p} = NetRunner.Process.start("cat")
    reader = Task.async(fn -> NetRunner.Process.read(p) end)
    eventually("it waits", fn -> waits?(reader.pid) end)
    NetRunner.Process.write(p, "x")
    assert Task.await(reader) == {:ok, "x"}
    {:ok, %{stdout: stats}} = NetRunner.Process.stats(p)
    NetRunner.Process.stop(p)

    if :io_uring in NetRunner.Test.Backends.expected(),
      do: assert(stats.waits_poll == 0 and stats.waits_io_uring > 0),
      else: assert(stats.waits_poll > 0 and stats.waits_io_uring == 0)
  end

  test "anything else keeps the application from starting, and the reason names the key" do
    assert {:error, {:net_runner, reason}} = restart(:epoll)
    assert inspect(reason) =~ "config :net_runner, backend:"
    Application.put_env(:net_runner, :backend, :auto)
    {:ok, _} = Application.ensure_all_started(:net_runner)
    assert NetRunner.run(["echo", "x"]) == {"x\n", 0}
  end

  test "a new start has a new zygote; the old one leaves" do
    before = NetRunner.Shepherd.info().os_pid
    restart_net_runner!()
    refute NetRunner.Shepherd.info().os_pid == before
    eventually("the old zygote is gone", fn -> not running?(before) end)

    for backend <- NetRunner.Test.Backends.expected(),
        do: assert(NetRunner.run(["cat"], input: "x", backend: backend) == {"x", 0})
  end

  test "calls while the application is stopped are errors, and exit nobody" do
    Application.stop(:net_runner)
    assert NetRunner.run(["echo", "x"]) == {:error, :shepherd_lost}
    assert NetRunner.Process.start("cat") == {:error, :shepherd_lost}
    assert Process.info(self(), :messages) == {:messages, []}
  end
end
