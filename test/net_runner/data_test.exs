defmodule NetRunner.DataTest do
  # Bytes through pipes: exact, in order, with back-pressure, on each backend. Not async: the large
  # cases measure the memory of the whole node.
  use NetRunner.Test.Case

  alias NetRunner.Test.OtherBeam

  @gib 1024 * 1024 * 1024

  defp binary_memory do
    :erlang.garbage_collect()
    :erlang.memory(:binary)
  end

  on_backends "1 GiB through cat both ways is byte-exact and memory stays flat" do
    block = 256 * 1024
    count = div(@gib, block)
    expected = sha(blocks(count, block))

    back_at_baseline(fn ->
      before = binary_memory()

      {hash, bytes, peak} =
        NetRunner.stream!(["cat"], input: blocks(count, block), backend: backend)
        |> Enum.reduce({:crypto.hash_init(:sha256), 0, 0}, fn chunk, {hash, bytes, peak} ->
          peak =
            if rem(bytes, 64 * 1024 * 1024) < 300_000, do: max(peak, binary_memory()), else: peak

          {:crypto.hash_update(hash, chunk), bytes + byte_size(chunk), peak}
        end)

      assert bytes == @gib
      assert :crypto.hash_final(hash) == expected
      # The feeder, the pipes and the reader hold a few blocks each; nothing piles up.
      assert peak - before < 48 * 1024 * 1024
    end)
  end

  on_backends "4 MiB through cat both ways does not deadlock, by run and by stream" do
    data = :crypto.strong_rand_bytes(4 * 1024 * 1024)
    assert NetRunner.run(["cat"], input: data, backend: backend) == {data, 0}

    assert NetRunner.stream!(["cat"], input: [data], backend: backend) |> Enum.join() == data
  end

  on_backends "a lazy enumerable is pulled only as fast as the command reads" do
    me = self()

    input =
      Stream.map(1..1000, fn n ->
        send(me, {:pulled, n})
        :binary.copy(<<n>>, 64 * 1024)
      end)

    {:ok, p} = NetRunner.Process.start("cat", [], input: input, backend: backend)
    {:ok, _first} = NetRunner.Process.read(p, 1)
    {:ok, pid} = NetRunner.Process.os_pid(p)
    eventually("cat waits for a reader", fn -> blocked?(pid) end)
    NetRunner.Process.stop(p)
    # Two pipes of at most 1 MiB, one chunk in cat, one in the feeder.
    assert pulled(0) <= 34
  end

  defp pulled(count) do
    receive do
      {:pulled, _n} -> pulled(count + 1)
    after
      0 -> count
    end
  end

  on_backends "a consumer that sleeps stops the producer" do
    {:ok, p} = NetRunner.Process.start("yes", [], backend: backend)
    {:ok, _some} = NetRunner.Process.read(p)
    stopped_while_nobody_reads(p)
  end

  on_backends "a consumer of stderr that sleeps stops the producer, too" do
    opts = [stderr: :pipe, backend: backend]
    {:ok, p} = NetRunner.Process.start("sh", ["-c", "exec yes >&2"], opts)
    {:ok, _some} = NetRunner.Process.read_stderr(p)
    stopped_while_nobody_reads(p)
  end

  defp stopped_while_nobody_reads(p) do
    {:ok, pid} = NetRunner.Process.os_pid(p)
    eventually("yes is blocked", fn -> blocked?(pid) end)
    written = written(pid)

    receive do
    after
      300 -> :ok
    end

    assert written(pid) == written
    assert written <= 3 * 1024 * 1024
    NetRunner.Process.stop(p)
  end

  # Asleep twice with nothing written between: not on its way, but waiting for room.
  defp blocked?(pid) do
    before = written(pid)

    receive do
    after
      20 -> proc_state(pid) == "S" and written(pid) == before
    end
  end

  on_backends "an endless command is halted by Enum.take, at once and for good (51)" do
    {tag, env} = tag()

    back_at_baseline(fn ->
      {us, [chunk]} =
        :timer.tc(fn -> NetRunner.stream!(["yes"], backend: backend, env: env) |> Enum.take(1) end)

      assert String.starts_with?(chunk, "y\n")
      assert us < 200_000
      assert_gone(tag)
    end)
  end

  on_backends "every chunk size gives the same bytes" do
    data = :crypto.strong_rand_bytes(300_000)

    for size <- [1000, 4096, 65_536, 65_537, 262_144, 10_000_000] do
      chunks =
        NetRunner.stream!(["cat"], input: data, max_chunk_size: size, backend: backend)
        |> Enum.to_list()

      assert IO.iodata_to_binary(chunks) == data
      assert Enum.all?(chunks, &(byte_size(&1) in 1..min(size, 262_144)))
    end
  end

  @tag :nowait_pipes
  on_backends "small pieces, slowly, one at a time" do
    {:ok, p} = NetRunner.Process.start("cat", [], backend: backend)

    # The one that is waited for, however quick the command is.
    {:ok, stdout} = NetRunner.Process.handle(p, :stdout)
    ref = make_ref()
    assert NetRunner.Nif.read(stdout, 100, ref) == :again
    assert NetRunner.Process.write(p, "first") == :ok
    assert_receive {^ref, :ready}, 5_000
    assert read_exactly(p, 5) == "first"

    for n <- 1..500 do
      piece = "piece #{n}\n"
      assert NetRunner.Process.write(p, piece) == :ok
      assert read_exactly(p, byte_size(piece)) == piece
    end

    {:ok, stats} = NetRunner.Process.stats(p)

    case backend do
      :io_uring ->
        assert stats.stdout.waits_io_uring > 0
        assert stats.stdout.waits_poll == 0
        assert stats.stdout.fixed > 0

      :poll ->
        assert stats.stdout.waits_poll > 0
        assert stats.stdout.waits_io_uring == 0
        assert stats.stdout.fixed == 0
    end

    NetRunner.Process.stop(p)
  end

  defp read_exactly(p, bytes, got \\ "")
  defp read_exactly(_p, bytes, got) when byte_size(got) == bytes, do: got

  defp read_exactly(p, bytes, got) do
    {:ok, more} = NetRunner.Process.read(p, bytes - byte_size(got))
    read_exactly(p, bytes, got <> more)
  end

  on_backends "many streams at once keep their bytes apart" do
    back_at_baseline(fn ->
      1..64
      |> Task.async_stream(
        fn n ->
          line = String.duplicate("#{n} ", 50) <> "\n"

          hash =
            NetRunner.stream!(["sh", "-c", "for i in $(seq 200); do echo '#{line}'; done"],
              backend: backend
            )
            |> sha()

          assert hash == sha([String.duplicate(line <> "\n", 200)])
        end,
        max_concurrency: 64,
        timeout: 60_000
      )
      |> Enum.each(&assert {:ok, true} = &1)
    end)
  end

  # In another BEAM: rings have a past.
  defp auto(what) do
    line = OtherBeam.inspected("NetRunner.Test.Auto.#{what}()", 60_000)
    {counts, []} = Code.eval_string(line)
    counts
  end

  # Its pipe fills again while it is read, which nobody waits for.
  @tag :io_uring
  test "who reads without waiting keeps no ring busy, and is told when it waits again" do
    {:ok, p} = NetRunner.Process.start("cat", [], backend: :io_uring, stderr: :discard)
    {:ok, os_pid} = NetRunner.Process.os_pid(p)
    waits = fn -> elem(NetRunner.Process.stats(p), 1).stdout.waits_io_uring end

    told = fn text ->
      before = waits.()
      reader = Task.async(fn -> NetRunner.Process.read(p) end)
      eventually("it waits", fn -> waits.() > before end)
      :ok = NetRunner.Process.write(p, text)
      assert Task.await(reader) == {:ok, text}
    end

    read_at_once = fn ->
      passed_on = written(os_pid) + 1
      :ok = NetRunner.Process.write(p, "x")
      eventually("it lies in the pipe", fn -> written(os_pid) >= passed_on end)
      assert NetRunner.Process.read(p) == {:ok, "x"}
    end

    # So many in a row without one harvest, of at most `left`.
    quiet = fn
      _quiet, 20, _left ->
        :ok

      _quiet, in_a_row, 0 ->
        flunk("#{in_a_row} reads without a harvest at most")

      quiet, in_a_row, left ->
        %{harvests: before} = NetRunner.Nif.rings_info()
        read_at_once.()
        busy? = NetRunner.Nif.rings_info().harvests > before
        quiet.(quiet, if(busy?, do: 0, else: in_a_row + 1), left - 1)
    end

    for round <- 1..3 do
      told.("round #{round}")
      quiet.(quiet, 0, 1000)
    end

    told.("at last")
    NetRunner.Process.stop(p)
  end

  @tag :io_uring
  test ":auto moves busy streams to the ring" do
    assert auto(:busy) > 0
  end

  test ":auto keeps a lone stream on poll" do
    assert %{moves: 0, waits_io_uring: 0, poll: true} = NetRunner.Test.Auto.lone()
  end

  @tag :io_uring
  test ":auto moves streams back to poll from a ring that does not pay, and they lose nothing" do
    assert [%{moves: 1, poll: true, waits_io_uring: on_ring} | _] =
             Enum.filter(auto(:thin), &(&1.moves_back > 0))

    assert on_ring > 0
  end

  # Their commands read from one FIFO, whose only writer goes.
  on_backends "an end that comes to 300 waiting readers at once is told to each" do
    fifo = tmp_path("fifo")
    {_, 0} = System.cmd("mkfifo", [fifo])
    me = self()

    readers =
      for n <- 1..300 do
        Task.async(fn ->
          {:ok, p} = NetRunner.Process.start("cat", [fifo], backend: backend, input: :null)
          send(me, {n, p})
          {NetRunner.Process.read(p), NetRunner.Process.await_exit(p)}
        end)
      end

    commands = for n <- 1..300, do: receive(do: ({^n, p} -> p))
    script = ["-c", "exec > \"$0\"; read line", fifo]
    {:ok, writer} = NetRunner.Process.start("sh", script, backend: backend)

    for p <- commands do
      {:ok, os_pid} = NetRunner.Process.os_pid(p)
      opened? = fn -> File.read_link("/proc/#{os_pid}/fd/3") == {:ok, fifo} end
      eventually("cat has opened it", 30_000, opened?)

      eventually("its reader waits", 30_000, fn ->
        {:ok, %{stdout: stdout}} = NetRunner.Process.stats(p)
        stdout.waits_poll + stdout.waits_io_uring > 0
      end)
    end

    :ok = NetRunner.Process.close_stdin(writer)
    assert readers |> Task.await_many(60_000) |> Enum.uniq() == [{:eof, {:ok, 0}}]
  end

  @tag :nowait_pipes
  on_backends "a small rest that waits for room is written, once" do
    {:ok, p} = NetRunner.Process.start("sh", ["-c", "read line; cat"], backend: backend)
    :ok = NetRunner.Process.write(p, "go\n")
    # Fill the pipe: the command reads byte by byte until its line is whole, then cat takes over.
    {:ok, q} = NetRunner.Process.start("sh", ["-c", "kill -STOP $$; cat"], backend: backend)
    {:ok, pid} = NetRunner.Process.os_pid(q)
    eventually("it stopped itself", fn -> proc_state(pid) == "T" end)

    data = :crypto.strong_rand_bytes(1_100_000)

    writer =
      Task.async(fn ->
        for <<piece::binary-size(1000) <- data>>, do: :ok = NetRunner.Process.write(q, piece)
      end)

    assert Task.yield(writer, 200) == nil
    NetRunner.Process.kill(q, :sigcont)

    reader =
      Task.async(fn ->
        Stream.repeatedly(fn -> NetRunner.Process.read(q) end)
        |> Enum.reduce_while("", fn
          {:ok, chunk}, all -> {:cont, all <> chunk}
          :eof, all -> {:halt, all}
        end)
      end)

    Task.await(writer)
    NetRunner.Process.close_stdin(q)
    assert Task.await(reader) == data
    {:ok, stats} = NetRunner.Process.stats(q)
    if backend == :io_uring, do: assert(stats.stdin.fixed > 0)
    for p <- [p, q], do: NetRunner.Process.stop(p)
  end

  # A wait may be placed without a look where the last look took less than was asked for: of packets that says nothing.
  on_backends "packets, of which one look takes one, are all read, also by who waits for them" do
    {:ok, p} = NetRunner.Process.start(fixture("packets"), ["3"], backend: backend)
    {:ok, os_pid} = NetRunner.Process.os_pid(p)
    before = written(os_pid)
    readers = for _ <- 1..4, do: Task.async(fn -> receive(do: (:go -> read_exactly(p, 6))) end)

    for {reader, n} <- Enum.with_index(readers) do
      if rem(n, 2) == 0, do: send(reader.pid, :go)
      if rem(n, 2) == 0, do: eventually("it waits", fn -> waits?(reader.pid) end)
      :ok = NetRunner.Process.write(p, "\n")
      eventually("all is written", fn -> written(os_pid) == before + 6 * (n + 1) end)
      send(reader.pid, :go)
      assert Task.await(reader, 30_000) == "1 2 3 "
    end

    NetRunner.Process.stop(p)
  end

  on_backends "a read that has no time gets what is there, also where the last one left nothing" do
    {:ok, p} = NetRunner.Process.start("cat", [], backend: backend)
    {:ok, os_pid} = NetRunner.Process.os_pid(p)

    before = written(os_pid)

    for n <- 1..50 do
      :ok = NetRunner.Process.write(p, <<n::32>>)
      eventually("it is there", fn -> written(os_pid) == before + 4 * n end)
      assert NetRunner.Process.read(p, 100, 0) == {:ok, <<n::32>>}
      if rem(n, 5) == 0, do: assert(NetRunner.Process.read(p, 100, 0) == {:error, :timeout})
    end

    NetRunner.Process.stop(p)
  end

  on_backends "a read that times out loses nothing: late bytes go to the next reader (35)" do
    back_at_baseline(fn ->
      {:ok, p} = NetRunner.Process.start("cat", [], backend: backend)

      for n <- 1..200 do
        piece = <<n::32>>

        case rem(n, 3) do
          0 ->
            assert NetRunner.Process.read(p, 100, 0) == {:error, :timeout}

          1 ->
            assert NetRunner.Process.read(p, 100, 1) == {:error, :timeout}

          2 ->
            {pid, monitor} = spawn_monitor(fn -> NetRunner.Process.read(p, 100) end)

            eventually("the reader waits", fn ->
              Process.info(pid, :status) == {:status, :waiting}
            end)

            Process.exit(pid, :kill)
            assert_receive {:DOWN, ^monitor, :process, ^pid, _}
        end

        :ok = NetRunner.Process.write(p, piece)
        assert read_exactly(p, 4) == piece
      end

      NetRunner.Process.stop(p)
      assert Process.info(self(), :messages) == {:messages, []}
    end)
  end

  on_backends "a writer killed while it waits costs the next writer nothing (35)" do
    back_at_baseline(fn ->
      {:ok, p} = NetRunner.Process.start("sh", ["-c", "kill -STOP $$; cat"], backend: backend)
      {:ok, os_pid} = NetRunner.Process.os_pid(p)
      eventually("it stopped itself", fn -> proc_state(os_pid) == "T" end)
      # Fill the pipe to the last byte, then let a small rest wait.
      assert {:error, {:timeout, taken}} =
               NetRunner.Process.write(p, :binary.copy("f", 4_000_000), 20)

      {writer, monitor} = spawn_monitor(fn -> NetRunner.Process.write(p, "dead writer") end)
      eventually("it waits", fn -> Process.info(writer, :status) == {:status, :waiting} end)
      Process.exit(writer, :kill)
      assert_receive {:DOWN, ^monitor, :process, ^writer, :killed}

      next = Task.async(fn -> NetRunner.Process.write(p, "next writer") end)
      NetRunner.Process.kill(p, :sigcont)
      written = read_until(p, "next writer", "")
      assert Task.await(next) == :ok
      rest = binary_part(written, taken, byte_size(written) - taken)
      # What the dead one had handed over may have gone out; nothing of the next one is lost.
      assert rest in ["next writer", "dead writernext writer"]
      NetRunner.Process.stop(p)
    end)
  end

  defp read_until(p, suffix, got) do
    if String.ends_with?(got, suffix) do
      got
    else
      {:ok, more} = NetRunner.Process.read(p, 262_144, 5_000)
      read_until(p, suffix, got <> more)
    end
  end

  on_backends "a second reader gets :busy, also a second writer" do
    {:ok, p} = NetRunner.Process.start("sleep", ["60"], backend: backend)
    reader = Task.async(fn -> NetRunner.Process.read(p) end)
    writer = Task.async(fn -> NetRunner.Process.write(p, :binary.copy("x", 4_000_000)) end)

    eventually("both wait", fn -> waits?(reader.pid) and waits?(writer.pid) end)
    assert NetRunner.Process.read(p, 1, 0) == {:error, :busy}
    assert NetRunner.Process.write(p, "x", 0) == {:error, :busy}

    NetRunner.Process.stop(p)
    assert Task.await(reader) in [:eof, {:error, :closed}]
    assert {:error, reason} = Task.await(writer)
    assert reason in [:epipe, :closed]
  end

  on_backends "a wait that is taken back too late leaves no message" do
    {:ok, p} = NetRunner.Process.start("cat", [], backend: backend)
    {:ok, stdout} = NetRunner.Process.handle(p, :stdout)
    ref = make_ref()
    assert :again = NetRunner.Nif.read(stdout, 10, ref)
    :ok = NetRunner.Process.write(p, "x")

    assert_receive {^ref, :ready} = message, 5_000
    # Back to where it was: nobody has looked yet.
    send(self(), message)

    assert NetRunner.Pipe.cancel(stdout, ref) == :ok
    refute_received {^ref, :ready}
    assert NetRunner.Process.read(p) == {:ok, "x"}
    NetRunner.Process.stop(p)
  end

  # With :io_uring it is written by a ring, while nobody calls.
  @tag :nowait_pipes
  on_backends "what was written for a writer that had given up is counted, and only once" do
    {:ok, p} =
      NetRunner.Process.start("sh", ["-c", "kill -STOP $$; exec wc -c"], backend: backend)

    {:ok, pid} = NetRunner.Process.os_pid(p)
    eventually("it stopped itself", fn -> proc_state(pid) == "T" end)
    {:ok, stdin} = NetRunner.Process.handle(p, :stdin)
    {:error, {:timeout, taken}} = NetRunner.Process.write(p, :binary.copy("x", 4_000_000), 50)

    ref = make_ref()
    assert :again = NetRunner.Nif.write(stdin, [:binary.copy("y", 5_000)], ref)
    :ok = NetRunner.Process.kill(p, :sigcont)
    assert_receive {^ref, :ready}, 5_000
    assert :pending = NetRunner.Nif.cancel(stdin)
    more = NetRunner.Nif.take_written(stdin)
    assert more == if(backend == :io_uring, do: 5_000, else: 0)
    assert NetRunner.Nif.take_written(stdin) == 0

    :ok = NetRunner.Process.close_stdin(p)
    assert {:ok, count} = NetRunner.Process.read(p)
    assert String.trim(count) == to_string(taken + more)
    NetRunner.Process.stop(p)
  end

  on_backends "whoever waits on an end that is closed is told" do
    {:ok, p} = NetRunner.Process.start("sleep", ["60"], backend: backend)
    writer = Task.async(fn -> NetRunner.Process.write(p, :binary.copy("x", 4_000_000)) end)
    eventually("it waits", fn -> waits?(writer.pid) end)
    :ok = NetRunner.Process.close_stdin(p)
    assert Task.await(writer) == {:error, :closed}
    NetRunner.Process.stop(p)
  end

  on_backends "a write that times out says how much was taken" do
    {:ok, p} = NetRunner.Process.start("sleep", ["60"], backend: backend)

    assert {:error, {:timeout, taken}} =
             NetRunner.Process.write(p, :binary.copy("x", 4_000_000), 50)

    assert taken in 65_536..1_048_576
    # The pipe is full now: nothing more goes in.
    assert {:error, {:timeout, 0}} = NetRunner.Process.write(p, :binary.copy("x", 4096), 10)
    NetRunner.Process.stop(p)
  end
end
