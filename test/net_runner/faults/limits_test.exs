defmodule NetRunner.Faults.LimitsTest do
  # The fault matrix (docs/reliability.md) where a BEAM or its zygote may have no more processes,
  # descriptors or locked memory. The limits are those of a user nobody else is, in another BEAM.
  use NetRunner.Test.FaultCase

  alias NetRunner.Test.WholePath

  # WholePath looks for daemons, too.
  @moduletag :subreaper

  describe "no more processes (16)" do
    @tag :root
    test "a start is :eagain, nobody is signalled, later starts work" do
      beam =
        as_somebody(
          [],
          """
          #{start_and_count()}
          alias NetRunner.Test.WholePath
          :ok = WholePath.check!(:auto)
          {:ok, bystander} = NetRunner.Process.start("sleep", ["1000"])
          zygote = NetRunner.Shepherd.info().os_pid
          # From no process at all to the one that the command itself needs.
          fails = fn limit ->
            System.cmd("prlimit", ["--pid", "\#{zygote}", "--nproc=\#{limit}:"])
            start.(:auto) == {:error, :eagain}
          end
          limits = Enum.take_while(1..2000, fails)
          IO.puts("refused \#{length(limits)}")
          System.cmd("prlimit", ["--pid", "\#{zygote}", "--nproc=4096:"])
          ^zygote = NetRunner.Shepherd.info().os_pid
          :ok = NetRunner.Process.kill(bystander, :sigterm)
          {:ok, 143} = NetRunner.Process.await_exit(bystander)
          :ok = NetRunner.Process.stop(bystander)
          :ok = WholePath.check!(:auto)
          """
        )

      # The guardian's own place, at least, and the command's.
      assert "refused " <> refused = OtherBeam.read_line(beam, 30_000)
      assert String.to_integer(refused) >= 2
      OtherBeam.await_line(beam, "whole", 30_000)
    end

    @tag :root
    test "a zygote that cannot be replaced is tried again: starts wait for it" do
      beam =
        as_somebody(
          [],
          """
          alias NetRunner.Test.WholePath
          :ok = WholePath.check!(:auto)
          zygote = NetRunner.Shepherd.info().os_pid
          prlimit = fn limit -> System.cmd("prlimit", ["--pid", System.pid(), "--nproc=\#{limit}:"]) end
          kill = System.find_executable("kill")
          {:ok, p} = NetRunner.Process.start("sh", ["-c", "read x; kill -KILL \#{zygote}; read x; exec prlimit --pid \#{System.pid()} --nproc=4096:"])
          prlimit.(1)
          :ok = NetRunner.Process.write(p, "\\n")
          NetRunner.Test.World.eventually("it is dead", fn -> not NetRunner.Test.World.running?(zygote) end)
          {:error, :spawn_timeout} = NetRunner.Process.start("true", [], spawn_timeout: 300)
          %{os_pid: nil} = NetRunner.Shepherd.info()
          :ok = NetRunner.Process.write(p, "\\n")
          {"", 0} = NetRunner.run(["true"], spawn_timeout: 20_000)
          :ok = NetRunner.Process.stop(p)
          :ok = WholePath.check!(:auto)
          """
        )

      OtherBeam.await_line(beam, "whole", 60_000)
    end
  end

  describe "no more descriptors (17)" do
    on_backends "in the BEAM: :emfile, none leaks, and it lives on" do
      beam =
        OtherBeam.start(
          """
          #{start_and_count()}
          import NetRunner.Test.World
          alias NetRunner.Test.WholePath
          :ok = WholePath.check!(#{inspect(backend)})
          hoard = fn hoard, files ->
            case :file.open("/dev/null", [:read, :raw]) do
              {:ok, file} -> hoard.(hoard, [file | files])
              {:error, :emfile} -> files
            end
          end
          #{inspect(backend)} |> start.()
          results =
            Enum.reduce_while(0..40, [], fn free, results ->
              result =
                back_at_baseline(fn ->
                  files = hoard.(hoard, [])
                  {given, kept} = Enum.split(files, free)
                  Enum.each(given, &:file.close/1)
                  result = start.(#{inspect(backend)})
                  Enum.each(kept, &:file.close/1)
                  result
                end)
              {if(result == :ok, do: :halt, else: :cont), [result | results]}
            end)
          IO.puts("refused \#{inspect(results)}")
          :ok = WholePath.check!(#{inspect(backend)})
          IO.puts("whole")
          IO.puts("up")
          Process.sleep(:infinity)
          """,
          ["prlimit", "--nofile=128"]
        )

      assert "refused [:ok" <> refused = OtherBeam.read_line(beam, 30_000)
      # Three pipes, a control socket pair, the directory.
      assert length(String.split(refused, "{:error, :emfile}")) > 8
      refute refused =~ ~r/error, :(?!emfile)/
      OtherBeam.await_line(beam, "whole", 60_000)
    end

    on_backends "in the zygote and its guardians: :emfile, and they live on" do
      {"", 0} = NetRunner.run(["true"], backend: backend)

      back_at_baseline(fn ->
        zygote = NetRunner.Shepherd.info().os_pid
        held = fd_count(zygote)

        results =
          Enum.map(0..40, fn room ->
            {_, 0} = System.cmd("prlimit", ["--pid", "#{zygote}", "--nofile=#{held + room}:"])
            NetRunner.Process.start("true", [], backend: backend)
          end)

        {_, 0} = System.cmd("prlimit", ["--pid", "#{zygote}", "--nofile=4096:"])
        {refused, started} = Enum.split_while(results, &match?({:error, _}, &1))
        assert Enum.uniq(refused) == [{:error, :emfile}]
        assert length(refused) > 5
        assert started != []

        for {:ok, p} <- started do
          assert NetRunner.Process.await_exit(p) == {:ok, 0}
          NetRunner.Process.stop(p)
        end

        assert NetRunner.Shepherd.info().os_pid == zygote
      end)

      WholePath.check!(backend)
    end
  end

  describe "little locked memory (33)" do
    # Nothing at all; the queues of some rings (kernels that count them); some slots; all of it.
    for kib <- [0, 16, 64, 256, 1024, 8192] do
      @tag :root
      @tag :io_uring
      test "#{kib} KiB: all works, on unregistered slots or on poll, and it says so" do
        beam =
          as_somebody(
            ["prlimit", "--memlock=#{unquote(kib * 1024)}"],
            """
            %{data: data, registered_buffers: registered, why: why} = NetRunner.backend()
            :ok = NetRunner.Test.WholePath.check!(:auto)
            if data == :io_uring, do: NetRunner.Test.WholePath.check!(:io_uring)
            IO.puts("found \#{data} \#{registered} \#{why}")
            """
          )

        assert "found " <> found = OtherBeam.read_line(beam, 60_000)
        OtherBeam.await_line(beam, "whole", 60_000)

        case found do
          "poll false " <> why -> assert why =~ ~r/(ENOMEM|enomem).*RLIMIT_MEMLOCK/
          "io_uring false " <> why -> assert why =~ "RLIMIT_MEMLOCK"
          "io_uring true " <> _why -> assert unquote(kib) >= 1024
        end

        if unquote(kib) == 8192, do: assert("io_uring " <> _ = found)
      end
    end
  end

  describe "a normal user's pipe pages (pipe-user-pages-soft)" do
    # In a user namespace somebody is root, and is none to the kernel.
    for {who, launcher} <- [
          {"a user", []},
          {"root in a user namespace", ~w(unshare --user --map-root-user)}
        ] do
      @tag :root
      @tag :slow
      test "300 streams of #{who} at full speed grow their pipes, and leave every new pipe its whole size" do
        {setpriv, ebin} = OtherBeam.as_somebody()
        then = "IO.puts(:whole); IO.puts(:up); Process.sleep(:infinity)"
        beam = OtherBeam.start(streams() <> then, setpriv ++ unquote(launcher), ebin)
        assert "pipes " <> sizes = OtherBeam.read_line(beam, 120_000)

        assert [smallest, largest, new] =
                 sizes |> String.split() |> Enum.map(&String.to_integer/1)

        assert {smallest, largest, new} == {65_536, 1_048_576, 65_536}
        OtherBeam.await_line(beam, "whole", 30_000)
      end
    end

    defp streams do
      """
      caller = self()
      stream = fn p ->
        {:ok, %{stdout: stats}} = NetRunner.Process.stats(p)
        if stats.bytes < 4_194_304 do
          {:ok, bytes} = NetRunner.Process.read(p)
          true = bytes == :binary.copy(<<0>>, byte_size(bytes))
          :more
        else
          stats.pipe_bytes
        end
      end
      again = fn again, p -> with :more <- stream.(p), do: again.(again, p) end
      for _ <- 1..300 do
        spawn_link(fn ->
          {:ok, p} = NetRunner.Process.start("cat", ["/dev/zero"], input: :null, spawn_timeout: 60_000)
          send(caller, {:pipe, again.(again, p)})
          Process.sleep(:infinity)
        end)
      end
      pipes = for _ <- 1..300, do: (receive do {:pipe, bytes} -> bytes end)
      {:ok, p} = NetRunner.Process.start("sleep", ["60"], input: :pipe)
      {:ok, %{stdin: %{pipe_bytes: new}}} = NetRunner.Process.stats(p)
      IO.puts("pipes \#{Enum.min(pipes)} \#{Enum.max(pipes)} \#{new}")
      """
    end
  end

  defp as_somebody(launcher, code) do
    {setpriv, ebin} = OtherBeam.as_somebody()
    then = "IO.puts(:whole); IO.puts(:up); Process.sleep(:infinity)"
    OtherBeam.start(code <> then, launcher ++ setpriv, ebin)
  end

  # start.(): one command that ends at once, and what became of it.
  defp start_and_count do
    """
    start = fn
      {:error, reason} -> {:error, reason}
      {:ok, p} ->
        {:ok, 0} = NetRunner.Process.await_exit(p)
        NetRunner.Process.stop(p)
    end
    start = fn backend -> start.(NetRunner.Process.start("true", [], backend: backend)) end
    """
  end
end
