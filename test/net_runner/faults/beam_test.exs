defmodule NetRunner.Faults.BeamTest do
  # The fault matrix (docs/reliability.md) where the BEAM is hit: killed, ended, stopped.
  use NetRunner.Test.FaultCase

  describe "the BEAM is killed" do
    @tag :subreaper
    on_backends "with a plain child (1)" do
      {tag, env} = tag()
      lock = tmp_path("lock")
      opts = [env: env, kill_timeout: 300, backend: backend]
      beam = other_beam("daemonize", [lock, "stay"], opts)
      assert length(tagged(tag)) == 2
      OtherBeam.kill(beam)
      assert await_free(lock, 4_000) < d() + 300 + k()
      eventually("nobody of the family lives", k(), fn -> tagged(tag) == [] end)
    end

    @tag :subreaper
    on_backends "with a daemon that did setsid and forked twice, its leader gone (2)" do
      {tag, env} = tag()
      lock = tmp_path("lock")
      opts = [env: env, kill_timeout: 300, drain_timeout: 60_000, backend: backend]
      beam = other_beam("daemonize", [lock, "exit"], opts)
      eventually("only the daemon is left", fn -> length(tagged(tag)) == 1 end)
      OtherBeam.kill(beam)
      assert await_free(lock, 4_000) < d() + 300 + k()
      assert tagged(tag) == []
    end

    on_backends "when the leader dies of TERM and a member ignores it (3)" do
      {tag, env} = tag()
      lock = tmp_path("lock")

      beam =
        other_beam("term_ignoring_member", [lock], env: env, kill_timeout: 300, backend: backend)

      assert length(tagged(tag)) == 2
      OtherBeam.kill(beam)
      assert await_free(lock, 4_000) < d() + 300 + k()
      eventually("nobody of the family lives", k(), fn -> tagged(tag) == [] end)
    end

    @tag :subreaper
    test "and its zygote ends too, with every guardian" do
      lock = tmp_path("lock")

      beam =
        OtherBeam.start("""
        {:ok, p} = NetRunner.Process.start(#{inspect(fixture("daemonize"))}, [#{inspect(lock)}, "stay"], kill_timeout: 100);
        {:ok, "ready\\n"} = NetRunner.Process.read(p);
        IO.puts(NetRunner.Shepherd.info().os_pid);
        IO.puts("up");
        Process.sleep(:infinity)
        """)

      zygote =
        receive do
          {_port, {:data, {:eol, line}}} -> String.to_integer(line)
        end

      assert running?(zygote)
      OtherBeam.kill(beam)
      await_free(lock, 4_000)
      eventually("the zygote is gone", 2_000, fn -> not running?(zygote) end)
    end
  end
end
