defmodule NetRunner.Faults.MountsTest do
  # The fault matrix (docs/reliability.md) where the file system lacks something: /proc, /tmp, the right
  # to execute or to write. Other BEAMs, in mount namespaces of their own.
  use NetRunner.Test.FaultCase

  @moduletag :mount_namespace
  @moduletag :subreaper

  describe "/proc (46)" do
    @describetag :slow
    test "is not there: containment is :group, which backend/0 says; the rest works" do
      lock = tmp_path("lock")
      {tag, env} = tag()

      beam =
        OtherBeam.start(
          """
          alias NetRunner.Test.WholePath
          false = File.exists?("/proc/self")
          IO.puts(inspect(NetRunner.backend().containment))
          for backend <- Enum.uniq([:poll, NetRunner.backend().data]) do
            WholePath.run!(backend)
            WholePath.stream!(backend)
            WholePath.together!(backend)
            WholePath.start_error!(backend)
          end
          # The baseline is read from /proc, but for this.
          held = fn ->
            %{slots_in_use: slots, streams: streams} = NetRunner.Nif.rings_info()
            %{in_flight: in_flight, queued: queued} = NetRunner.Shepherd.info()
            {slots, streams, in_flight, queued, Registry.count(NetRunner.Registry)}
          end
          NetRunner.Test.World.eventually("nothing is held", fn -> held.() == {0, 0, 0, 0, 0} end)
          {:ok, p} = NetRunner.Process.start("cat")
          [%{cpu_ms: nil, rss_kb: nil, state: :running}] = NetRunner.list()
          :ok = NetRunner.Process.stop(p)
          IO.puts("up")
          for fixture <- ["term_ignoring_member", "daemonize"] do
            {:ok, p} = NetRunner.Process.start(Path.join(#{inspect(Path.dirname(fixture("daemonize")))}, "fixture_" <> fixture), [#{inspect(lock)} <> "_" <> fixture], kill_timeout: 100, env: #{inspect(env)})
            {:ok, "ready\n"} = NetRunner.Process.read(p)
            IO.puts("ready")
            IO.gets("")
            monitor = Process.monitor(p)
            IO.puts(inspect(NetRunner.Process.stop(p)))
            IO.puts(inspect(NetRunner.Process.await_exit(p)))
            receive do: ({:DOWN, ^monitor, :process, _, reason} -> IO.puts(reason))
            NetRunner.Test.World.eventually("nothing is held", fn -> held.() == {0, 0, 0, 0, 0} end)
          end
          IO.puts("clean")
          Process.sleep(:infinity)
          """,
          mount_namespace(["umount -l /proc"])
        )

      assert OtherBeam.read_line(beam) == ":group"

      # The group is found, whatever it ignores.
      assert OtherBeam.read_line(beam) == "ready"
      OtherBeam.tell(beam)
      assert OtherBeam.read_line(beam) == ":ok"
      assert OtherBeam.read_line(beam) == "{:error, :closed}"
      assert OtherBeam.read_line(beam) == "normal"
      await_free(lock <> "_term_ignoring_member", k())

      # Who has left it is not, and that is said until it has ended.
      assert OtherBeam.read_line(beam) == "ready"
      OtherBeam.tell(beam)

      for _ <- [:stop, :await_exit],
          do: assert(OtherBeam.read_line(beam) == "{:error, {:unkillable, []}}")

      assert locked?(lock <> "_daemonize")
      for os_pid <- tagged(tag), do: System.cmd("kill", ["-KILL", to_string(os_pid)])
      assert OtherBeam.read_line(beam) == "normal"
      await_free(lock <> "_daemonize", k())
      assert OtherBeam.read_line(beam) == "clean"
    end

    @tag :root
    test "shows a user its own processes only (hidepid): all works" do
      {launcher, ebin} = OtherBeam.as_somebody()

      beam =
        OtherBeam.start(
          """
          false = File.exists?("/proc/1")
          :ok = NetRunner.Test.WholePath.check!(:auto)
          IO.puts(inspect(NetRunner.backend().containment))
          IO.puts("up")
          Process.sleep(:infinity)
          """,
          mount_namespace(["mount -t proc -o hidepid=2 proc /proc"]) ++ launcher,
          ebin
        )

      assert OtherBeam.read_line(beam) == ":subreaper"
    end
  end

  describe "the file system (47)" do
    test "is read-only: all works" do
      ebin = Application.app_dir(:net_runner, "ebin")
      all_works(["mount -o remount,bind,ro /", "! touch /etc/net_runner 2>&-"], ebin)
    end

    test "has no /tmp: all works" do
      # The build folder may be in it.
      all_works(
        [
          "mount -t tmpfs tmpfs /mnt",
          "mkdir /mnt/net_runner",
          "mount --bind #{Application.app_dir(:net_runner)} /mnt/net_runner",
          "mount -t tmpfs -o ro,size=4k tmpfs /tmp",
          "! touch /tmp/net_runner 2>&-"
        ],
        "/mnt/net_runner/ebin"
      )
    end

    test "may not execute the NIF: NetRunner does not start, and says why" do
      {app, ebin} = copy()

      {output, 1} =
        System.cmd(
          "unshare",
          tl(mount_namespace(noexec(app))) ++ elixir(ebin, ""),
          env: OtherBeam.preload(),
          stderr_to_stdout: true
        )

      assert output =~ "{:nif, \"Failed to load NIF library"
      assert output =~ "failed to map segment"
    end

    @tag :slow
    test "may not execute the shepherd: that is logged once, starts time out, and go on when it may" do
      {app, ebin} = copy()
      shepherd = Path.join(app, "priv/shepherd")
      File.chmod!(shepherd, 0o644)

      beam =
        OtherBeam.start(
          """
          IO.puts("up")
          {:error, :spawn_timeout} = NetRunner.Process.start("true", [], spawn_timeout: 1_500)
          IO.puts("refused")
          IO.gets("")
          {"", 0} = NetRunner.run(["true"], spawn_timeout: 20_000)
          IO.puts("works")
          Process.sleep(:infinity)
          """,
          [],
          ebin
        )

      lines = lines_until(beam, "refused")
      assert [line] = Enum.filter(lines, &(&1 =~ "NetRunner cannot start"))
      assert line =~ "#{shepherd}: eacces"
      File.chmod!(shepherd, 0o755)
      OtherBeam.tell(beam)
      assert lines_until(beam, "works") == []
    end

    test "may not execute the probe of io_uring: all works on poll, which backend/0 says" do
      {app, ebin} = copy()
      File.chmod!(Path.join(app, "priv/ring_probe"), 0o644)

      beam =
        OtherBeam.start(
          """
          :ok = NetRunner.Test.WholePath.check!(:auto)
          IO.puts(NetRunner.backend().why)
          IO.puts("up")
          Process.sleep(:infinity)
          """,
          [],
          ebin
        )

      assert OtherBeam.read_line(beam) == "io_uring cannot be set up: eacces"
    end
  end

  defp all_works(commands, ebin) do
    OtherBeam.start(
      """
      :ok = NetRunner.Test.WholePath.check!(:auto)
      IO.puts("up")
      Process.sleep(:infinity)
      """,
      mount_namespace(commands),
      ebin
    )
  end

  defp elixir(ebin, code),
    do: [System.find_executable("elixir") | OtherBeam.elixir_args(code, ebin)]

  # A NetRunner of its own, whose files may be changed.
  defp copy do
    {_setpriv, ebin} = OtherBeam.as_somebody()
    {Path.dirname(ebin), ebin}
  end

  defp noexec(app), do: ["mount --bind #{app} #{app}", "mount -o remount,bind,noexec #{app}"]

  defp lines_until(beam, last) do
    case OtherBeam.read_line(beam, 30_000) do
      ^last -> []
      line -> [line | lines_until(beam, last)]
    end
  end
end
