defmodule NetRunner.Faults.StdioTest do
  # The fault matrix (docs/reliability.md) where an end of a pipe is closed or flooded.
  use NetRunner.Test.FaultCase

  alias NetRunner.Test.Backends

  describe "a child that closes its ends" do
    on_backends "stdin, while 100 MiB are being written (37)" do
      data = :binary.copy("x", 100 * 1024 * 1024)

      back_at_baseline(fn ->
        assert NetRunner.run([fixture("close_stdin")], input: data, backend: backend) ==
                 {"closed\nend\n", 3}

        {:ok, p} = NetRunner.Process.start(fixture("close_stdin"), ["60000"], backend: backend)
        assert NetRunner.Process.write(p, data) == {:error, :epipe}
        assert NetRunner.Process.read(p) == {:ok, "closed\n"}
        NetRunner.Process.stop(p)
      end)
    end

    on_backends "stdout, and runs on: eof now, the exit later (52)" do
      back_at_baseline(fn ->
        {:ok, p} = NetRunner.Process.start(fixture("close_stdout"), ["300"], backend: backend)
        assert NetRunner.Process.read(p) == {:ok, "before\n"}
        assert NetRunner.Process.read(p) == :eof
        assert NetRunner.Process.alive?(p)
        assert NetRunner.Process.await_exit(p) == {:ok, 7}
        NetRunner.Process.stop(p)
        assert NetRunner.run([fixture("close_stdout"), "50"], backend: backend) == {"before\n", 7}
      end)
    end

    on_backends "a flood on stderr that nobody reads blocks nothing (52)" do
      bytes = 64 * 1024 * 1024

      back_at_baseline(fn ->
        for stderr <- [:consume, :discard] do
          assert NetRunner.run([fixture("flood_stderr"), "#{bytes}"],
                   backend: backend,
                   stderr: stderr
                 ) == {"done\n", 0}
        end

        {:ok, p} =
          NetRunner.Process.start(fixture("flood_stderr"), ["#{bytes}"], backend: backend)

        assert NetRunner.Process.await_exit(p) == {:ok, 0}
        assert NetRunner.Process.stderr_tail(p) == {:ok, String.duplicate("e", 8192)}
        NetRunner.Process.stop(p)

        {"done\n", 0, stderr} =
          NetRunner.run([fixture("flood_stderr"), "#{bytes}"], backend: backend, stderr: :capture)

        assert byte_size(stderr) == bytes
      end)
    end
  end

  # SIGSTOP and SIGCONT end every system call that waits, also those that no handler would interrupt.
  on_backends "24 pipes moved in pieces of any size by a BEAM that is stopped and continued: no byte lost, doubled or reordered (34)" do
    beam =
      OtherBeam.start("""
      IO.puts("up")
      IO.gets(:stdio, [])

      enough = :atomics.new(1, [])
      spawn_link(fn -> IO.gets(:stdio, []); :atomics.put(enough, 1, 1) end)

      # What a seed says, in pieces of a size that it says too, 60 at least and until it is enough; gives the hash.
      write = fn p, seed ->
        :rand.seed(:exsss, {seed, 1, 1})
        pieces = Stream.repeatedly(fn -> :rand.bytes(:rand.uniform(100_000)) end)
        hash =
          Enum.reduce_while(Stream.with_index(pieces), :crypto.hash_init(:sha256), fn {piece, n}, hash ->
            if n >= 60 and :atomics.get(enough, 1) == 1 do
              {:halt, hash}
            else
              :ok = NetRunner.Process.write(p, piece)
              {:cont, :crypto.hash_update(hash, piece)}
            end
          end)
        NetRunner.Process.close_stdin(p)
        :crypto.hash_final(hash)
      end

      read = fn p ->
        Stream.repeatedly(fn -> NetRunner.Process.read(p, :rand.uniform(70_000)) end)
        |> Stream.take_while(&(&1 != :eof))
        |> Enum.reduce(:crypto.hash_init(:sha256), fn {:ok, bytes}, hash -> :crypto.hash_update(hash, bytes) end)
        |> :crypto.hash_final()
      end

      1..24
      |> Task.async_stream(fn seed ->
        {:ok, p} = NetRunner.Process.start("cat", [], backend: #{inspect(backend)})
        writer = Task.async(fn -> write.(p, seed) end)
        hash = read.(p)
        ^hash = Task.await(writer, 60_000)
        {:ok, 0} = NetRunner.Process.await_exit(p)
        NetRunner.Process.stop(p)
      end, max_concurrency: 24, timeout: 60_000)
      |> Enum.each(fn {:ok, :ok} -> :ok end)

      System.halt(0)
      """)

    OtherBeam.tell(beam)
    for _ <- 1..20, do: stop_and_continue(beam)
    OtherBeam.tell(beam)
    assert stop_until_exit(beam) == 0
  end

  # Stopped for 5 ms, then 10 ms of work: each reads and writes many times meanwhile.
  defp stop_and_continue(beam) do
    OtherBeam.kill(beam, "STOP")

    receive do
    after
      5 -> OtherBeam.kill(beam, "CONT")
    end

    receive do
    after
      10 -> :ok
    end
  end

  # Gives its exit status.
  defp stop_until_exit(%{port: port} = beam) do
    stop_and_continue(beam)

    receive do
      {^port, {:exit_status, status}} -> status
    after
      0 -> stop_until_exit(beam)
    end
  end

  # The BEAM's own memory is what is looked at: another one, which does nothing else.
  for {seconds, tags} <- [{2, []}, {600, [long: true]}] do
    @tag tags
    @tag timeout: 900_000
    test "an endless flood into a consumer that is slower, for #{seconds} seconds: the BEAM's memory is flat (36)" do
      backends = Backends.expected()

      beam =
        OtherBeam.start("""
        for backend <- #{inspect(backends)} do
          spawn_link(fn ->
            {:ok, p} = NetRunner.Process.start("yes", [], backend: backend)
            IO.puts(elem(NetRunner.Process.os_pid(p), 1))
            Stream.repeatedly(fn -> NetRunner.Process.read(p) end)
            |> Enum.each(fn {:ok, <<_::binary>>} -> Process.sleep(2) end)
          end)
        end
        Process.sleep(1_500)
        IO.puts("up")
        Process.sleep(:infinity)
        """)

      floods = for _ <- backends, do: beam |> OtherBeam.read_line() |> String.to_integer()
      before = Enum.map(floods, &written/1)
      rss = rss_kb(beam.os_pid)
      until = System.monotonic_time(:millisecond) + unquote(seconds) * 1000
      peak = peak_rss_kb(beam.os_pid, until, rss)
      # It did flow: a megabyte a second at least.
      for {flood, before} <- Enum.zip(floods, before),
          do: assert(written(flood) - before > unquote(seconds) * 1024 * 1024)

      assert peak - rss < 8 * 1024
    end
  end

  defp peak_rss_kb(os_pid, until, peak) do
    if System.monotonic_time(:millisecond) > until do
      peak
    else
      receive do
      after
        50 -> peak_rss_kb(os_pid, until, max(peak, rss_kb(os_pid)))
      end
    end
  end
end
