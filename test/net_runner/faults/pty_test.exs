defmodule NetRunner.Faults.PtyTest do
  # The fault matrix (docs/reliability.md) where the command lives in a terminal.
  use NetRunner.Test.FaultCase

  alias NetRunner.Process, as: P

  # A terminal always waits by poll.
  defp on(:io_uring), do: [pty: [raw: true], backend: :auto]
  defp on(:poll), do: [pty: [raw: true], backend: :poll]

  defp ready!(exe, args, opts) do
    {:ok, p} = P.start(exe, args, opts)
    {:ok, {"", "ready\n"}} = P.await_output(p, "ready\n", 10_000)
    p
  end

  defp read_all(p, got \\ "") do
    case P.read(p, 262_144, 5_000) do
      {:ok, bytes} -> read_all(p, got <> bytes)
      :eof -> got
    end
  end

  describe "the output of a fast exit (41)" do
    on_backends "is all there, each time" do
      bytes = 100 * 1024

      for _ <- 1..100 do
        {output, 3} =
          NetRunner.run(["sh", "-c", "head -c #{bytes} /dev/zero; exit 3"], on(backend))

        assert byte_size(output) == bytes
      end
    end

    on_backends "is there for who reads long after the end" do
      for _ <- 1..20 do
        {:ok, p} = P.start("printf", ["%2000s|end", ""], on(backend))
        assert P.await_exit(p) == {:ok, 0}
        # The kernel passes it on in pieces, and one may be on its way still.
        assert read_all(p) == String.duplicate(" ", 2000) <> "|end"
        assert P.read(p) == :eof
        :ok = P.stop(p)
      end
    end

    on_backends "ends with an end, not with an error, on every way to read" do
      opts = on(backend)
      assert NetRunner.run(["echo", "x"], opts) == {"x\n", 0}
      assert NetRunner.stream!(["echo", "x"], opts) |> Enum.join() == "x\n"
      {:ok, p} = P.start("echo", ["x"], [stderr: :pipe] ++ opts)
      assert P.read_any(p) == {:ok, {:stdout, "x\n"}}
      assert P.read_any(p) == :eof
      :ok = P.stop(p)
    end
  end

  describe "a child in a session of its own keeps the terminal open (41)" do
    @tag :subreaper
    on_backends "it is swept after the drain, and then comes the end" do
      lock = tmp_path("lock")

      # Not before it is in its session: the terminal's own SIGHUP at the leader's end would take it.
      script = ~s(setsid #{fixture("hold_lock")} #{lock} & read x; exit 7)
      p = ready!("sh", ["-c", script], [drain_timeout: 300] ++ on(backend))
      began = System.monotonic_time(:millisecond)
      :ok = P.write(p, "\n")
      assert P.read(p, 100, 5_000) == :eof
      took = System.monotonic_time(:millisecond) - began
      assert took in 300..(300 + d() + s())
      refute locked?(lock)
      assert P.await_exit(p) == {:ok, 7}
      assert {:ok, %{orphans_killed: 1}} = P.result(p)
      :ok = P.stop(p)
    end

    @tag :subreaper
    on_backends "with orphans: :keep it lives on, its output read away, and ends with the BEAM's stop" do
      lock = tmp_path("lock")
      {tag, env} = tag()

      go = tmp_path("go")

      chatty =
        "#{fixture("hold_lock")} #{lock} & until [ -e #{go} ]; do sleep 0.01; done; exec yes"

      script = ~s(setsid sh -c '#{chatty}' & read x; exit 7)
      {:ok, p} = P.start("sh", ["-c", script], [orphans: :keep, env: env] ++ on(backend))
      {:ok, _} = P.await_output(p, "ready\n", 10_000)
      File.touch!(go)
      {:ok, _} = P.await_output(p, "y\n", 10_000)
      :ok = P.write(p, "\n")
      assert P.await_exit(p, 5_000) == {:ok, 7}
      :ok = P.stop(p)
      [yes] = for pid <- tagged(tag), File.read!("/proc/#{pid}/comm") == "yes\n", do: pid
      before = written(yes)
      eventually("what it writes goes somewhere", fn -> written(yes) > before + 1_000_000 end)
      assert locked?(lock)
      for pid <- tagged(tag), do: System.cmd("kill", ["-KILL", "#{pid}"])
      await_free(lock, k())
    end
  end

  describe "the terminal is closed (41)" do
    # TERM is ignored: it is SIGHUP that ends it, long before the grace is over.
    @grace 20_000
    @deaf_to_term ["-c", ~S(trap '' TERM; echo ready; exec "$@"), "sh"]

    on_backends "by stop/1" do
      lock = tmp_path("lock")
      args = @deaf_to_term ++ [fixture("hold_lock"), lock]
      p = ready!("sh", args, [kill_timeout: @grace] ++ on(backend))
      eventually("the lock is held", fn -> locked?(lock) end)
      {us, :ok} = :timer.tc(fn -> P.stop(p) end)
      assert us < 1000 * (d() + k())
      refute locked?(lock)
    end

    on_backends "by the death of the owner, and of the command's own server" do
      for who <- [:owner, :server] do
        lock = tmp_path("lock")
        owner = spawn(fn -> Process.sleep(:infinity) end)
        args = @deaf_to_term ++ [fixture("hold_lock"), lock]
        p = ready!("sh", args, [kill_timeout: @grace, owner: owner] ++ on(backend))
        eventually("the lock is held", fn -> locked?(lock) end)
        Process.exit(if(who == :owner, do: owner, else: p), :kill)
        assert await_free(lock, 5_000) < d() + k()
        Process.exit(owner, :kill)
      end
    end

    on_backends "by the death of the BEAM" do
      lock = tmp_path("lock")

      beam =
        OtherBeam.start("""
        {:ok, p} = NetRunner.Process.start("sh", #{inspect(@deaf_to_term ++ [fixture("hold_lock"), lock])}, #{inspect([kill_timeout: @grace] ++ on(backend))});
        {:ok, {_, _}} = NetRunner.Process.await_output(p, ~r/ready.*ready/s);
        IO.puts("up");
        Process.sleep(:infinity)
        """)

      assert locked?(lock)
      OtherBeam.kill(beam)
      assert await_free(lock, 5_000) < d() + k()
    end

    @tag :subreaper
    on_backends "and SIGHUP is ignored, too: the ladder ends it" do
      for how <- [:stop, :owner] do
        lock = tmp_path("lock")
        owner = spawn(fn -> Process.sleep(:infinity) end)

        args = [
          "-c",
          ~S(trap '' TERM HUP; echo ready; exec "$@"),
          "sh",
          fixture("hold_lock"),
          lock
        ]

        p = ready!("sh", args, [kill_timeout: 300, owner: owner] ++ on(backend))
        eventually("the lock is held", fn -> locked?(lock) end)
        {:ok, os_pid} = P.os_pid(p)
        began = System.monotonic_time(:millisecond)
        if how == :stop, do: :ok = P.stop(p), else: Process.exit(owner, :kill)
        await_free(lock, 5_000)
        took = System.monotonic_time(:millisecond) - began
        assert took in 300..(300 + d() + k())
        # A process lets go of its locks before it is dead.
        eventually("it is dead", k(), fn -> not running?(os_pid) end)
        Process.exit(owner, :kill)
      end
    end

    on_backends "under a waiting reader and a waiting writer: both are told" do
      # It lives until the terminal is closed: who dies of the stop may be quicker, and the output has ended then.
      {:ok, p} = P.start("sleep", ["1000"], [stop_signal: :sigurg] ++ on(backend))
      reader = Task.async(fn -> P.await_output(p, "never") end)
      writer = Task.async(fn -> P.write(p, :binary.copy("x", 1_000_000)) end)

      eventually("both wait", fn -> waits?(reader.pid) and waits?(writer.pid) end)

      :ok = P.stop(p)
      assert Task.await(reader) == {:error, :closed}
      assert Task.await(writer) in [{:error, :closed}, {:error, :epipe}]
    end
  end

  describe "the BEAM" do
    test "that leads a session without a terminal does not get its command's" do
      beam =
        OtherBeam.start(
          """
          {"24 80\\r\\n", 0} = NetRunner.run(["stty", "size"], pty: true, input: "")
          {:ok, p} = NetRunner.Process.start("cat", [], pty: true)
          [_, rest] = String.split(File.read!("/proc/self/stat"), ") ")
          [_state, _parent, _group, session, tty | _] = String.split(rest)
          IO.puts("up")
          IO.puts(inspect({session == System.pid(), tty}))
          NetRunner.Process.stop(p)
          System.halt(0)
          """,
          # Whoever leads a group is forked by setsid(1).
          ["sh", "-c", ~S(setsid "$@" & wait), "sh"]
        )

      assert OtherBeam.read_line(beam) == ~S({true, "0"})
    end

    @tag :io_uring
    test "that waits on rings wherever it can waits for terminals by poll" do
      beam =
        OtherBeam.start("""
        :ok = Application.stop(:net_runner)
        Application.put_env(:net_runner, :backend, :io_uring)
        {:ok, _} = Application.ensure_all_started(:net_runner)
        {:ok, p} = NetRunner.Process.start("cat", [], pty: true, stderr: :pipe)
        {:error, :timeout} = NetRunner.Process.read(p, 10, 20)
        {:error, :timeout} = NetRunner.Process.read_stderr(p, 10, 20)
        :ok = NetRunner.Process.write(p, "x\\n")
        {:ok, _} = NetRunner.Process.await_output(p, "x\\r\\nx\\r\\n", 5_000)
        {:ok, stats} = NetRunner.Process.stats(p)
        :ok = NetRunner.Process.stop(p)
        IO.puts("up")
        IO.puts(inspect({stats.stdin.waits_io_uring, stats.stdout.waits_io_uring, stats.stderr.waits_io_uring}))
        System.halt(0)
        """)

      assert OtherBeam.read_line(beam) == "{0, 0, 1}"
    end
  end

  @tag :mount_namespace
  @tag :subreaper
  test "no terminals are to be had: {:pty, posix}, and commands without one run" do
    beam =
      OtherBeam.start(
        """
        IO.puts("up")
        IO.puts(inspect(NetRunner.run(["true"], pty: true)))
        IO.puts(inspect(NetRunner.run(["true"])))
        Process.sleep(:infinity)
        """,
        mount_namespace([
          "mount -t tmpfs tmpfs /dev/pts",
          "{ mount --bind /dev/null /dev/ptmx || true; }"
        ])
      )

    assert OtherBeam.read_line(beam) =~ ~r/\A{:error, {:pty, :e[a-z]+}}\z/
    assert OtherBeam.read_line(beam) == ~S({"", 0})
  end
end
