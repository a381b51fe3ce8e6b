defmodule NetRunner.OrphansTest do
  use NetRunner.Test.Case, async: false

  alias NetRunner.Process, as: Command
  alias NetRunner.Test.OtherBeam

  # A background job that goes on writing when its leader has ended and nobody reads any more.
  @late_writer "(while [ ! -e go ]; do sleep 0.01; done; head -c 1000000 /dev/zero; echo $? > wrote) & echo leader"

  describe "orphans: :keep" do
    @describetag :subreaper

    on_backends "gives the leader's output and status at once, whatever it left behind (22)" do
      {tag, env} = tag()
      lock = tmp_path("lock")
      opts = [orphans: :keep, drain_timeout: 60_000, timeout: 10_000, env: env, backend: backend]

      {us, result} =
        :timer.tc(fn -> NetRunner.run([fixture("background_stdout"), lock], opts) end)

      assert result == {"leader\n", 0}
      assert us < 5_000_000
      assert locked?(lock)
      assert [job] = tagged(tag)
      System.cmd("kill", ["-KILL", to_string(job)])
      await_free(lock, 2_000)
    end

    on_backends "a job that writes on meets neither SIGPIPE nor a full pipe" do
      dir = Path.dirname(tmp_path("here"))
      opts = [orphans: :keep, cd: dir, stderr: :capture, backend: backend]

      back_at_baseline(fn ->
        assert {"leader\n", 0, ""} = NetRunner.run(["/bin/sh", "-c", @late_writer], opts)
        File.touch!(Path.join(dir, "go"))

        eventually("the job wrote a megabyte to nobody", 10_000, fn ->
          File.read(Path.join(dir, "wrote")) == {:ok, "0\n"}
        end)
      end)
    end

    on_backends "a stream that is halted early ends the job with the command" do
      {tag, env} = tag()
      lock = tmp_path("lock")
      opts = [orphans: :keep, env: env, backend: backend, kill_timeout: 100]
      cmd = [fixture("term_ignoring_member"), lock]

      back_at_baseline(fn -> assert [_ready] = cmd |> NetRunner.stream!(opts) |> Enum.take(1) end)
      assert_gone(tag)
    end

    on_backends "a time-out ends everybody" do
      {tag, env} = tag()
      cmd = ["/bin/sh", "-c", "sleep 100 & echo both; exec sleep 100"]
      to_me = %NetRunner.Test.Teller{to: self()}
      opts = [orphans: :keep, env: env, timeout: 2_000, into: to_me, backend: backend]
      back_at_baseline(fn -> assert NetRunner.run(cmd, opts) == {:error, :timeout} end)
      # A time-out bounds the start as well.
      assert_received {:element, "both\n"}
      assert_gone(tag)
    end

    on_backends "who reads slowly still gets every byte, after the exit too" do
      cmd = "head -c 60000 /dev/zero; sleep 100 &"
      {tag, env} = tag()
      opts = [orphans: :keep, env: env, backend: backend]

      back_at_baseline(fn ->
        {:ok, p} = Command.start("/bin/sh", ["-c", cmd], opts)
        assert Command.await_exit(p) == {:ok, 0}
        assert 60_000 == read_slowly(p, 0)
        assert Command.kill(p) == {:error, :not_running}
        assert Command.stop(p) == :ok
        # Nobody waited for its exec, in which a process has no environment for a moment.
        job = eventually("the job is there", fn -> List.first(tagged(tag)) end)
        System.cmd("kill", ["-KILL", to_string(job)])
        eventually("the job is gone", fn -> tagged(tag) == [] end)
      end)
    end

    test "the BEAM's death ends those who were kept (22)" do
      lock = tmp_path("lock")

      beam =
        OtherBeam.start("""
        {"leader\\n", 0} = NetRunner.run(["#{fixture("background_stdout")}", "#{lock}"], orphans: :keep)
        IO.puts("up")
        Process.sleep(:infinity)
        """)

      assert locked?(lock)
      OtherBeam.kill(beam)
      await_free(lock, 5_000)
    end

    test "neither does a zygote's death, but the BEAM's does" do
      lock = tmp_path("lock")

      beam =
        OtherBeam.start("""
        {"leader\\n", 0} = NetRunner.run(["#{fixture("background_stdout")}", "#{lock}"], orphans: :keep)
        zygote = NetRunner.Shepherd.info().os_pid
        System.cmd("kill", ["-KILL", to_string(zygote)])
        # A start that was sent to the zygote that died is lost.
        true = Enum.any?(1..1_000, fn _ -> NetRunner.run(["true"]) == {"", 0} end)
        IO.puts("up")
        Process.sleep(:infinity)
        """)

      assert locked?(lock)
      OtherBeam.kill(beam)
      await_free(lock, 5_000)
    end
  end

  @tag :subreaper
  on_backends "orphans: :kill, the default: bytes written before the sweep outlive their writers" do
    cmd = "(head -c 60000 /dev/zero; sleep 100) & exit 3"

    back_at_baseline(fn ->
      {:ok, p} = Command.start("/bin/sh", ["-c", cmd], drain_timeout: 500, backend: backend)
      assert Command.await_exit(p) == {:ok, 3}
      assert 60_000 == read_slowly(p, 0)
      assert Command.stop(p) == :ok
    end)
  end

  defp read_slowly(p, got) do
    case Command.read(p, 7_919) do
      {:ok, bytes} -> read_slowly(p, got + byte_size(bytes))
      :eof -> got
    end
  end
end
