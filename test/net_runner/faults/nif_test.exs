defmodule NetRunner.Faults.NifTest do
  # The fault matrix (docs/reliability.md) where the NIF's module is hit: loaded again, deleted, purged. In
  # another BEAM, for if this goes wrong it is gone.
  use NetRunner.Test.FaultCase

  alias NetRunner.Test.Backends

  # Streams on each backend that check their bytes; `task_results` waits for them.
  @load """
  task = fn backend ->
    Task.async(fn ->
      data = :binary.copy("0123456789abcdef", 64 * 1024)
      for _ <- 1..20 do
        true = data == NetRunner.stream!(["cat"], input: data, backend: backend) |> Enum.join()
        {"x\\n", 3} = NetRunner.run(["sh", "-c", "echo x; exit 3"], backend: backend)
      end
      :ok
    end)
  end
  tasks = for backend <- backends, _ <- 1..3, do: task.(backend)
  """

  defp run_in_other_beam(code) do
    OtherBeam.start("""
    backends = #{inspect(Backends.expected())}
    for backend <- backends, do: NetRunner.Test.WholePath.run!(backend)
    before = NetRunner.Test.World.settled_baseline()
    #{code}
    # Descriptors, slots, handles, processes.
    NetRunner.Test.World.await_baseline(before)
    IO.puts("up")
    Process.sleep(:infinity)
    """)
  end

  test "the module is loaded again and again under load: streams and waiting readers go on (39)" do
    beam =
      run_in_other_beam("""
      cats = for backend <- backends, do: elem(NetRunner.Process.start("cat", [], backend: backend), 1)
      readers = for cat <- cats, do: Task.async(fn -> NetRunner.Process.read(cat) end)
      #{@load}
      # code:purge/1 kills whoever is preempted within the old module; a soft purge waits for them.
      soft = fn soft -> :code.soft_purge(NetRunner.Nif) || (Process.sleep(1); soft.(soft)) end
      reload = fn
        0 -> soft.(soft) && :c.l(NetRunner.Nif)
        1 -> soft.(soft) && :code.load_file(NetRunner.Nif)
      end
      IO.inspect(Enum.uniq(for n <- 1..40, do: (Process.sleep(5); reload.(rem(n, 2)))))
      IO.inspect(Enum.uniq(Task.await_many(tasks, 60_000)))
      # Their waits were placed before the first reload.
      for cat <- cats, do: :ok = NetRunner.Process.write(cat, "late")
      IO.inspect(Enum.uniq(Task.await_many(readers)))
      for cat <- cats, do: NetRunner.Process.stop(cat)
      """)

    assert OtherBeam.read_line(beam) == "[module: NetRunner.Nif]"
    assert OtherBeam.read_line(beam) == "[:ok]"
    assert OtherBeam.read_line(beam) == ~s([ok: "late"])
  end

  test "another copy of the library is refused under load, and everything goes on (39)" do
    # Where the module will look for it: in the priv folder of the newer path.
    ebin = OtherBeam.copy_of_net_runner()
    priv = ebin |> Path.dirname() |> Path.join("priv")

    beam =
      run_in_other_beam("""
      #{@load}
      true = :code.replace_path(:net_runner, #{inspect(to_charlist(ebin))})
      IO.inspect(:code.priv_dir(:net_runner) == #{inspect(to_charlist(priv))})
      IO.inspect(for _ <- 1..2, do: (:code.purge(NetRunner.Nif); :code.load_file(NetRunner.Nif)))
      IO.inspect(Enum.uniq(Task.await_many(tasks, 60_000)))
      """)

    assert OtherBeam.read_line(beam) == "true"
    assert OtherBeam.read_line(beam) == "[error: :on_load_failure, error: :on_load_failure]"
    assert OtherBeam.read_line(beam) == "[:ok]"
  end

  # As a call loads it: OTP 25's code_server forgets an explicit load (code:load_file/1) that comes while somebody
  # else's call runs the module's on_load, and its caller waits for ever (finish_on_load keeps the list of before).
  test "the module is deleted and purged while readers wait: errors for them, new commands work (39)" do
    {tag, env} = tag()

    beam =
      run_in_other_beam("""
      import NetRunner.Test.World
      # The servers that owned sockets of before end with an error: theirs are not the lines to read.
      Logger.configure(level: :emergency)
      cats = for backend <- backends, do: elem(NetRunner.Process.start("cat", [], backend: backend, env: #{inspect(env)}), 1)
      readers = for cat <- cats, do: spawn_monitor(fn -> exit(NetRunner.Process.read(cat)) end)
      for {pid, _} <- readers, do: eventually("it waits", fn -> waits?(pid) end)

      :code.purge(NetRunner.Nif)
      true = :code.delete(NetRunner.Nif)
      :code.purge(NetRunner.Nif)
      IO.inspect(:code.ensure_loaded(NetRunner.Nif))

      for backend <- backends do
        eventually("commands work", 10_000, fn ->
          NetRunner.run(["cat"], input: "as before", backend: backend) == {"as before", 0}
        end)
      end
      # Their handles are none any more: to stop them is to end their servers.
      for cat <- cats, do: Process.exit(cat, :kill)
      for {_, monitor} <- readers do
        receive do: ({:DOWN, ^monitor, :process, _, {:badarg, _}} -> IO.puts("told"))
      end
      """)

    assert OtherBeam.read_line(beam) == "{:module, NetRunner.Nif}"
    for _ <- Backends.expected(), do: assert(OtherBeam.read_line(beam) == "told")
    eventually("the commands of before are gone", d() + 5_000 + k(), fn -> tagged(tag) == [] end)
    assert running?(beam.os_pid)
  end
end
