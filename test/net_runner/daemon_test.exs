defmodule NetRunner.DaemonTest do
  # NetRunner.Daemon: lines, back-pressure and dropping, readiness, ends and restarts, stopping, calls. Not
  # async: it counts what the whole node holds.
  use NetRunner.Test.Case
  doctest NetRunner.Daemon

  import ExUnit.CaptureLog

  alias NetRunner.Daemon, as: D

  # Far above what is measured, far below the time-outs that would be waited for otherwise.
  @soon 3_000

  defmodule LogTo do
    # A handler of Erlang's logger that sends each event to the test.
    def log(event, %{config: %{to: to}}), do: send(to, {:log, event})
  end

  # Runs after what the tests themselves have for their end.
  setup do
    on_exit(fn -> eventually("no process of a daemon is left", fn -> processes() == [] end) end)
  end

  # The servers, readers, consumers and helpers of all daemons.
  defp processes do
    for pid <- Process.list(),
        {:dictionary, dictionary} <- [Process.info(pid, :dictionary)],
        {module, _function, _arity} <- [dictionary[:"$initial_call"]],
        String.starts_with?(to_string(module), "Elixir.NetRunner.Daemon."),
        do: pid
  end

  defmodule StopAtOnce do
    # A registry of names that has whoever registers be asked to stop, before anything else is asked.
    def register_name(to, pid) do
      send(pid, {:"$gen_call", {to, make_ref()}, :stop})
      :yes
    end

    def unregister_name(_to), do: :ok
    def whereis_name(_to), do: :undefined
  end

  defp sh(script), do: ["sh", "-c", script]

  # Sleeps, and writes nothing.
  @sleep ["sleep", "1000"]

  defp start!(opts) do
    {:ok, d} = D.start_link(opts)
    on_exit(fn -> D.stop(d, 10_000) end)
    d
  end

  # Started without a link to the test, for daemons that end with a reason of their own.
  defp start_apart(opts) do
    Process.flag(:trap_exit, true)
    {:ok, d} = D.start_link(opts)
    on_exit(fn -> D.stop(d, 10_000) end)
    d
  end

  defp reason_of(d) do
    assert_receive {:EXIT, ^d, reason}, 5_000
    reason
  end

  # An on_output that tells the test.
  defp tell do
    me = self()
    fn stream, line -> send(me, {stream, line}) end
  end

  # An on_output that tells the test and goes on when it is told to.
  defp tell_and_wait do
    me = self()

    fn stream, line ->
      send(me, {:line, self(), stream, line})

      receive do
        :go_on -> :ok
      end
    end
  end

  defp lines(n, stream \\ :stdout) do
    for _ <- 1..n//1 do
      assert_receive {^stream, line}, 5_000
      line
    end
  end

  defp os_pid!(d) do
    {:ok, os_pid} = D.os_pid(d)
    os_pid
  end

  defp quick(fun) do
    {us, result} = :timer.tc(fun)
    assert us < 500_000
    result
  end

  # How often a script was started, that says so in a file first of all.
  defp counted(path, script), do: sh("echo x >> #{path}; #{script}")
  defp starts(path), do: path |> File.read!() |> String.split() |> length()

  # The events of the logger that are ours, while fun runs. `wanted` says when there are enough.
  defp log_events(fun) do
    id = :"#{__MODULE__}#{System.unique_integer([:positive])}"
    :ok = :logger.add_handler(id, LogTo, %{level: :all, config: %{to: self()}})

    try do
      fun.()
    after
      :logger.remove_handler(id)
    end
  end

  # Those before it stay: two pipes have no order.
  defp await_event(match, ms \\ 5_000, others \\ []) do
    receive do
      {:log, event} ->
        if match.(event) do
          for other <- Enum.reverse(others), do: send(self(), {:log, other})
          event
        else
          await_event(match, ms, [event | others])
        end
    after
      ms -> flunk("no such event in the log")
    end
  end

  defp events(found \\ []) do
    receive do
      {:log, event} -> events([event | found])
    after
      0 -> Enum.reverse(found)
    end
  end

  defp text(%{msg: {:string, text}}), do: IO.chardata_to_string(text)
  defp text(_report), do: ""

  describe "lines" do
    on_backends "come with their stream, each stream in order, the last line without a newline, too" do
      back_at_baseline(fn ->
        d =
          start_apart(
            cmd:
              sh(
                "for i in 1 2 3; do echo out$i; echo err$i >&2; done; printf end; printf fin >&2"
              ),
            on_output: tell(),
            backend: backend
          )

        assert lines(4, :stdout) == ["out1", "out2", "out3", "end"]
        assert lines(4, :stderr) == ["err1", "err2", "err3", "fin"]
        assert reason_of(d) == :normal
        refute_received {_stream, _line}
      end)
    end

    on_backends "come alone where on_output: has one argument" do
      me = self()

      start!(
        cmd: sh("echo a; exec sleep 60"),
        on_output: &send(me, {:only, &1}),
        backend: backend
      )

      assert_receive {:only, "a"}, @soon
    end

    on_backends "are the bytes that were written, however they came through the pipe" do
      me = self()
      count = 200_000

      d =
        start_apart(
          cmd: ["seq", "1", "#{count}"],
          on_output: fn line ->
            {hash, n} = Process.get(:seen, {:crypto.hash_init(:sha256), 0})
            seen = {:crypto.hash_update(hash, [line, ?\n]), n + 1}
            Process.put(:seen, seen)
            if elem(seen, 1) == count, do: send(me, {:hash, :crypto.hash_final(elem(seen, 0))})
          end,
          flush_timeout: 60_000,
          backend: backend
        )

      expected = 1..count |> Stream.map(&"#{&1}\n") |> sha()
      assert_receive {:hash, ^expected}, 60_000
      assert reason_of(d) == :normal
    end

    on_backends "end at another separator" do
      d =
        start_apart(
          cmd: ["printf", "a\\0b\\nc\\0"],
          lines: <<0>>,
          on_output: tell(),
          backend: backend
        )

      assert lines(2) == ["a", "b\nc"]
      assert reason_of(d) == :normal
      refute_received {:stdout, _}
    end

    on_backends "that are too long are split, truncated, or the daemon's end" do
      long = "head -c 100000 /dev/zero | tr '\\0' x; echo; echo short"

      run = fn opts ->
        start_apart([cmd: sh(long), on_output: tell(), backend: backend] ++ opts)
      end

      d = run.([])
      assert Enum.map(lines(3), &byte_size/1) == [65_536, 100_000 - 65_536, 5]
      assert reason_of(d) == :normal

      d = run.(max_line_length: {10, :truncate})
      assert lines(2) == ["xxxxxxxxxx", "short"]
      assert reason_of(d) == :normal

      d = run.(max_line_length: :infinity)
      assert Enum.map(lines(2), &byte_size/1) == [100_000, 5]
      assert reason_of(d) == :normal

      {tag, env} = tag()

      back_at_baseline(fn ->
        d =
          start_apart(
            cmd: sh("echo before; echo 0123456789a; exec sleep 1000"),
            on_output: tell(),
            max_line_length: {10, :error},
            env: env,
            backend: backend
          )

        assert reason_of(d) == {:line_too_long, :stdout, 10}
        assert_received {:stdout, "before"}
        assert_gone(tag)
      end)
    end

    on_backends "before one that ends the daemon come, however far behind on_output is" do
      {tag, env} = tag()

      for overflow <- [:block, :drop] do
        back_at_baseline(fn ->
          d =
            start_apart(
              cmd: sh("echo first; read x; echo before; echo 0123456789a; exec sleep 1000"),
              input: :pipe,
              on_output: tell_and_wait(),
              overflow: overflow,
              max_line_length: {10, :error},
              flush_timeout: 60_000,
              env: env,
              backend: backend
            )

          assert_receive {:line, consumer, :stdout, "first"}, 5_000
          reader = Process.monitor(:sys.get_state(d).reader)
          assert D.write(d, "\n") == :ok

          # With :drop it waits for nobody: the daemon hears of the line while "first" is still dealt with.
          long = {:shutdown, {:line_too_long, :stdout, 10}}
          if overflow == :drop, do: assert_receive({:DOWN, ^reader, _, _, ^long}, 5_000)
          assert {:ok, _} = D.stats(d)
          send(consumer, :go_on)
          assert_receive {:line, ^consumer, :stdout, "before"}, 5_000
          send(consumer, :go_on)
          assert reason_of(d) == {:line_too_long, :stdout, 10}
          refute_received {:line, _, _, _}
        end)

        assert_gone(tag)
      end
    end

    on_backends "before one that is too long come also while it is waited for the one that says ready" do
      opts = [
        cmd: sh("echo before; echo 0123456789a; exec sleep 1000"),
        on_output: tell(),
        backend: backend
      ]

      opts = [ready: {:output, "never"}, max_line_length: {10, :error}] ++ opts
      assert D.start_link(opts) == {:error, {:line_too_long, :stdout, 10}}
      assert_received {:stdout, "before"}
    end

    on_backends "of a stderr that goes elsewhere do not come; merged they come in order" do
      both = sh("echo a; echo b >&2; echo c")

      for {stderr, expected} <- [
            merge: [stdout: "a", stdout: "b", stdout: "c"],
            discard: [stdout: "a", stdout: "c"],
            consume: [stdout: "a", stdout: "c"]
          ] do
        d = start_apart(cmd: both, stderr: stderr, on_output: tell(), backend: backend)
        assert reason_of(d) == :normal
        for event <- expected, do: assert_received(^event)
        refute_received {_stream, _line}
      end
    end

    on_backends "are over, whoever of the two that deal with them is heard of first" do
      wait = tell_and_wait()
      cmd = sh("echo a; read x; echo b; read x")
      opts = [input: :pipe, overflow: :drop, on_output: wait, backend: backend]
      d = start_apart([cmd: cmd] ++ opts)
      assert_receive {:line, consumer, :stdout, "a"}, 5_000

      assert D.write(d, "\n") == :ok

      # It is told that there are no more lines, as if its reader slept between that and its own end.
      ref = eventually("b has come", fn -> b_in(consumer) end)
      send(consumer, {ref, :over})
      monitor = Process.monitor(consumer)
      send(consumer, :go_on)
      assert_receive {:line, ^consumer, :stdout, "b"}, 5_000
      send(consumer, :go_on)
      assert_receive {:DOWN, ^monitor, :process, ^consumer, {:shutdown, :over}}, 5_000
      assert D.alive?(d)
      assert D.write(d, "\n") == :ok
      assert reason_of(d) == :normal
    end

    defp b_in(consumer) do
      {:messages, messages} = Process.info(consumer, :messages)

      Enum.find_value(messages, fn message ->
        match?({_ref, {:lines, {:stdout, nil}, ["b"], nil}}, message) && elem(message, 0)
      end)
    end

    on_backends "of one stream come while the other never runs dry" do
      me = self()

      for {cmd, quiet} <- [
            {sh("yes & sleep 0.1; echo wanted >&2; wait"), :stderr},
            {sh("yes >&2 & sleep 0.1; echo wanted; wait"), :stdout}
          ] do
        # Slower than yes: whenever its pipe is read there is more.
        on_output = fn
          ^quiet, line -> send(me, {quiet, line})
          _loud, _line -> for _ <- 1..50, do: :erlang.unique_integer()
        end

        d = start!(cmd: cmd, on_output: on_output, backend: backend)
        assert lines(1, quiet) == ["wanted"]
        assert D.stop(d) == :ok
      end
    end

    on_backends "that are kept do not keep all that came with them" do
      line = String.duplicate("k", 100)

      start!(
        cmd: sh("yes #{line} | head -n 500; exec sleep 60"),
        on_output: tell(),
        backend: backend
      )

      for line <- lines(500), do: assert(:binary.referenced_byte_size(line) <= 200)
    end

    test "are read away and counted with on_output: :discard, the default" do
      d = start!(cmd: sh("seq 1 100000; echo e >&2; exec sleep 60"), ready: {:output, "100000"})

      eventually("all was read", fn ->
        match?({:ok, %{lines: 100_001, stderr: %{lines: 1, bytes: 2}}}, D.stats(d))
      end)
    end
  end

  describe "overflow: :block, a slow on_output" do
    on_backends "stops the command, in bounded memory, and goes on where it was" do
      d = start!(cmd: ["yes"], on_output: tell_and_wait(), backend: backend)
      assert_receive {:line, consumer, :stdout, "y"}, @soon

      written =
        eventually("yes waits", 10_000, fn ->
          one = written(os_pid!(d))

          receive do
          after
            100 -> if one > 0 and one == written(os_pid!(d)), do: one
          end
        end)

      # The pipe, which may have grown to 1 MiB, and what was read at once.
      assert written <= 2_097_152
      {:ok, stats} = D.stats(d)
      assert stats.bytes <= written
      assert stats.dropped == 0

      # With nobody in its way it writes on.
      pump = fn pump ->
        send(consumer, :go_on)

        receive do
          {:line, ^consumer, :stdout, "y"} ->
            if written(os_pid!(d)) > written, do: :ok, else: pump.(pump)
        after
          5_000 -> flunk("no next line")
        end
      end

      assert pump.(pump) == :ok
    end

    on_backends "keeps nobody from an answer, nor the command from its end" do
      back_at_baseline(fn ->
        d = start!(cmd: ["yes"], on_output: tell_and_wait(), backend: backend)
        assert_receive {:line, _consumer, :stdout, "y"}, @soon
        {:ok, os_pid} = quick(fn -> D.os_pid(d) end)
        assert quick(fn -> D.alive?(d) end)
        assert {:ok, %{dropped: 0}} = quick(fn -> D.stats(d) end)
        assert quick(fn -> D.signal(d, :sigcont) end) == :ok
        # It is told at once; on_output has flush_timeout: to come back.
        assert quick(fn -> D.stop(d, 0) end) == {:error, :timeout}
        eventually("the command is gone", 1_000, fn -> not running?(os_pid) end)
        assert {:ok, ^os_pid} = quick(fn -> D.os_pid(d) end)
        eventually("it says so", fn -> not quick(fn -> D.alive?(d) end) end)
        assert {:error, :not_running} = quick(fn -> D.signal(d, :sigterm) end)

        log_events(fn ->
          assert D.stop(d, 2_000) == :ok
          await_event(&(text(&1) =~ "flush_timeout is over"))
        end)

        assert D.os_pid(d) == {:error, :not_running}
      end)
    end

    on_backends "is waited for at the end, up to flush_timeout:" do
      me = self()

      # Slower than the command writes: that is what is tested.
      slow = fn line ->
        Process.sleep(20)
        send(me, {:stdout, line})
      end

      opts = [on_output: slow, flush_timeout: 60_000, backend: backend]
      d = start_apart([cmd: ["seq", "1", "10"]] ++ opts)
      assert reason_of(d) == :normal
      assert lines(10) == Enum.map(1..10, &"#{&1}")

      stuck = tell_and_wait()
      opts = [cmd: ["seq", "1", "10"], on_output: stuck, flush_timeout: 50, backend: backend]

      log_events(fn ->
        d = start_apart(opts)
        assert quick(fn -> reason_of(d) end) == :normal
        await_event(&(text(&1) =~ "what was left of it is lost"))
      end)
    end
  end

  describe "overflow: :drop, a stuck on_output" do
    on_backends "never stops the command; what finds the queue full is counted, and told twice" do
      done = tmp_path("done")
      count = 100_000

      log_events(fn ->
        d =
          start!(
            cmd: sh("seq 1 #{count}; seq 1 100 >&2; touch #{done}; exec sleep 60"),
            on_output: tell_and_wait(),
            overflow: :drop,
            max_queue: 100,
            backend: backend
          )

        eventually("the command has gone on", 10_000, fn -> File.exists?(done) end)

        eventually("all was read", fn ->
          match?({:ok, %{lines: lines}} when lines == count + 100, D.stats(d))
        end)

        begun = await_event(&(text(&1) =~ "drops lines"))
        assert begun.level == :warning
        assert begun.meta.os_pid == os_pid!(d)

        {:ok, stats} = D.stats(d)
        assert stats.queued == 100
        assert stats.dropped == count
        %{output: [_reader, consumer]} = :sys.get_state(d)
        {:message_queue_len, waiting} = Process.info(consumer, :message_queue_len)
        assert waiting < 100
        # How the two streams came together is not known.
        assert stats.stdout.dropped + stats.stderr.dropped == stats.dropped
        assert stats.stdout.lines == count
        assert stats.stderr.lines == 100
        assert stats.stderr.dropped <= 100

        ended = await_event(&(text(&1) =~ "drops no more lines"))
        assert text(ended) =~ "#{count} were dropped"
        assert Enum.filter(events(), &(text(&1) =~ "drop")) == []

        # What had room comes, the first lines of all.
        assert_receive {:line, consumer, _stream, first}, @soon
        send(consumer, :go_on)

        rest =
          for _ <- 2..100 do
            assert_receive {:line, ^consumer, _stream, line}, @soon
            send(consumer, :go_on)
            line
          end

        assert length(Enum.uniq([first | rest])) > 50
        eventually("the queue is empty", fn -> match?({:ok, %{queued: 0}}, D.stats(d)) end)
      end)
    end

    on_backends "holds no more bytes than it may, though a single line may be larger" do
      # 6 lines of a MiB each, then one of 5 MiB, into a queue of 4 MiB.
      mib = "head -c 1048575 /dev/zero | tr '\\0' x; echo"

      d =
        start!(
          cmd: sh("for i in 1 2 3 4 5 6; do #{mib}; done; exec sleep 60"),
          on_output: tell_and_wait(),
          overflow: :drop,
          max_line_length: :infinity,
          backend: backend
        )

      eventually("all was read", 20_000, fn -> match?({:ok, %{lines: 6}}, D.stats(d)) end)
      assert {:ok, %{queued: 4, dropped: 2}} = D.stats(d)

      d =
        start!(
          cmd:
            sh(
              "for i in 1 2 3 4 5; do #{String.replace(mib, "; echo", "")}; done; echo; exec sleep 60"
            ),
          on_output: tell_and_wait(),
          overflow: :drop,
          max_line_length: :infinity,
          backend: backend
        )

      eventually("all was read", 20_000, fn -> match?({:ok, %{lines: 1}}, D.stats(d)) end)
      assert {:ok, %{queued: 1, dropped: 0}} = D.stats(d)
    end

    on_backends "that is quick enough gets everything, in order" do
      d =
        start_apart(
          cmd: sh("for i in $(seq 1 500); do echo $i; done"),
          on_output: tell(),
          overflow: :drop,
          max_queue: 500,
          backend: backend
        )

      assert lines(500) == Enum.map(1..500, &"#{&1}")
      assert reason_of(d) == :normal
    end
  end

  describe "an on_output that fails" do
    on_backends "is logged with the line and its stream, and goes on with the next line" do
      me = self()

      fail = fn stream, line ->
        case line do
          "raise" -> raise "of on_output"
          "exit" -> exit(:of_on_output)
          "throw" -> throw(:of_on_output)
          line -> send(me, {stream, line})
        end
      end

      log_events(fn ->
        d =
          start!(
            cmd:
              sh("echo raise >&2; echo exit >&2; echo throw >&2; echo fine >&2; exec sleep 60"),
            on_output: fail,
            backend: backend
          )

        assert lines(1, :stderr) == ["fine"]

        for line <- ["raise", "exit", "throw"] do
          event = await_event(&(text(&1) =~ inspect(line)))
          assert event.level == :error
          assert event.meta.stream == :stderr
          assert {_what, [_ | _]} = event.meta.crash_reason
          assert text(event) =~ "on_output failed on a line of stderr"
        end

        assert {:ok, %{raised: 3, lines: 4}} = D.stats(d)
      end)
    end

    on_backends "for good, when its process is killed, ends the daemon and the command" do
      {tag, env} = tag()

      for {kill, expected} <- [kill: :killed, normal: :normal, other: :other],
          overflow <- [:block, :drop] do
        back_at_baseline(fn ->
          capture_log(fn ->
            d =
              start_apart(
                cmd: sh("echo x; exec sleep 1000"),
                on_output: fn _line -> Process.exit(self(), kill) end,
                overflow: overflow,
                env: env,
                backend: backend
              )

            assert reason_of(d) == {:output, expected}
          end)

          assert_gone(tag)
        end)
      end
    end

    on_backends "or the reader's death does the same" do
      {tag, env} = tag()

      back_at_baseline(fn ->
        capture_log(fn ->
          d = start_apart(cmd: @sleep, on_output: tell(), env: env, backend: backend)
          Process.exit(:sys.get_state(d).reader, :kill)
          assert reason_of(d) == {:output, :killed}
        end)

        assert_gone(tag)
      end)
    end
  end

  describe "on_output: :log" do
    on_backends "writes each line with its level, prefix and metadata" do
      log_events(fn ->
        d =
          start!(
            cmd: sh("echo out; echo err >&2; exec sleep 60"),
            name: __MODULE__.Logged,
            on_output: :log,
            log: [level: :notice, stderr_level: :error, prefix: "db| ", metadata: [tenant: 7]],
            backend: backend
          )

        out = await_event(&(text(&1) == "db| out"))
        err = await_event(&(text(&1) == "db| err"))
        assert {out.level, err.level} == {:notice, :error}
        assert {out.meta.stream, err.meta.stream} == {:stdout, :stderr}

        for event <- [out, err] do
          assert event.meta.os_pid == os_pid!(d)
          assert event.meta.command == "sh"
          assert event.meta.daemon == __MODULE__.Logged
          assert event.meta.tenant == 7
        end
      end)
    end

    test "has defaults: info, the command's name" do
      log_events(fn ->
        d =
          start!(cmd: ["/bin/sh", "-c", "echo out; echo err >&2; exec sleep 60"], on_output: :log)

        out = await_event(&(text(&1) == "sh: out"))
        err = await_event(&(text(&1) == "sh: err"))
        assert {out.level, err.level} == {:info, :info}
        assert out.meta.daemon == d
      end)
    end

    test "escapes what is no UTF-8, in lines and in names" do
      odd = tmp_path(<<"odd", 255>>)
      File.ln_s!(System.find_executable("sh"), odd)

      log =
        capture_log(fn ->
          d =
            start_apart(
              cmd: [odd, "-c", "printf 'a\\377\\200b \\303\\244 \\303\\n'"],
              on_output: :log
            )

          assert reason_of(d) == :normal
        end)

      assert log =~ ~S(odd\xFF: a\xFF\x80b ä \xC3)
    end

    test "escapes in what it says of a failing on_output, too" do
      log =
        capture_log(fn ->
          cmd = sh("printf '\\377\\n'; exec sleep 60")
          d = start!(cmd: cmd, on_output: fn _line -> raise "no" end)
          eventually("it raised", fn -> match?({:ok, %{raised: 1}}, D.stats(d)) end)
        end)

      assert log =~ ~S(\\xFF)
      assert log =~ "(RuntimeError) no"
    end
  end

  describe "ready: {:output, _}" do
    on_backends "returns when a line says so, of either stream" do
      back_at_baseline(fn ->
        go = tmp_path("go")
        me = self()

        for {ready, stream} <- [
              {"is up", ""},
              {~r/is \w+ now/, ">&2"},
              {~r/\Ait is up now\z/u, ""}
            ] do
          File.rm(go)

          task =
            Task.async(fn ->
              cmd =
                sh(
                  "echo not yet; until [ -e #{go} ]; do sleep 0.01; done; " <>
                    "printf '\\377\\n' #{stream}; echo it is up now #{stream}; exec sleep 60"
                )

              tell = fn line -> send(me, {:stdout, line}) end

              {:ok, d} =
                D.start_link(
                  cmd: cmd,
                  ready: {:output, ready},
                  on_output: tell,
                  backend: backend
                )

              Process.unlink(d)
              d
            end)

          assert lines(1) == ["not yet"]
          assert Task.yield(task, 0) == nil
          File.touch!(go)
          # The daemon of a task that has ended goes on: nobody was linked to it any more.
          d = Task.await(task)
          assert D.alive?(d)
          assert D.stop(d) == :ok
          assert lines(2) == [<<255>>, "it is up now"]
        end
      end)
    end

    on_backends "is seen while on_output is stuck, which then gets every line in order" do
      go = tmp_path("go")
      me = self()

      for overflow <- [:block, :drop] do
        File.rm(go)

        on_output = fn line ->
          send(me, {:line, self(), line})

          if line == "first" do
            receive do
              :go_on -> :ok
            end
          end
        end

        task =
          Task.async(fn ->
            {:ok, d} =
              D.start_link(
                cmd:
                  sh(
                    "echo first; until [ -e #{go} ]; do sleep 0.01; done; " <>
                      "echo second; echo up; echo last; exec sleep 60"
                  ),
                ready: {:output, "up"},
                on_output: on_output,
                overflow: overflow,
                backend: backend
              )

            Process.unlink(d)
            d
          end)

        assert_receive {:line, consumer, "first"}, 5_000
        File.touch!(go)
        d = Task.await(task, 10_000)
        refute_received {:line, ^consumer, _line}
        send(consumer, :go_on)
        for line <- ["second", "up", "last"], do: assert_receive({:line, ^consumer, ^line}, 5_000)
        assert {:ok, %{dropped: 0}} = D.stats(d)
        eventually("the queue is empty", fn -> match?({:ok, %{queued: 0}}, D.stats(d)) end)
        assert D.stop(d) == :ok
      end
    end

    on_backends "is looked for no further than the queue has room" do
      opts = [
        cmd: ["yes"],
        ready: {:output, "never"},
        ready_timeout: 60_000,
        on_output: tell_and_wait(),
        max_queue: 10,
        name: __MODULE__.Far,
        flush_timeout: 50,
        backend: backend
      ]

      task = Task.async(fn -> D.start_link(opts) end)
      assert_receive {:line, _consumer, :stdout, "y"}, @soon

      written =
        eventually("yes waits", fn ->
          {:ok, %{os_pid: os_pid}} = D.stats(__MODULE__.Far)
          one = written(os_pid)

          receive do
          after
            50 -> if one > 0 and one == written(os_pid), do: one
          end
        end)

      # A machine that is busy may have kept it from writing: then there is no end to what waits here.
      assert {:ok, %{queued: queued}} = D.stats(__MODULE__.Far)
      assert queued <= 10

      assert written <= 2_097_152
      assert D.stop(__MODULE__.Far) == :ok
      assert Task.await(task) == {:error, :shutdown}
    end
  end

  describe "ready: {:tcp, _}" do
    for {ip, form} <- [
          {{127, 0, 0, 1}, :port},
          {{127, 0, 0, 1}, :ip},
          {{0, 0, 0, 0, 0, 0, 0, 1}, :ip}
        ] do
      test "returns when somebody accepts on #{form} #{inspect(ip)}" do
        ip = unquote(Macro.escape(ip))
        family = if tuple_size(ip) == 4, do: :inet, else: :inet6
        # A port that is free now, and refuses until it is listened on.
        {:ok, socket} = :gen_tcp.listen(0, [family, ip: ip, reuseaddr: true])
        {:ok, port} = :inet.port(socket)
        :ok = :gen_tcp.close(socket)
        ready = if unquote(form) == :port, do: {:tcp, port}, else: {:tcp, ip, port}

        task =
          Task.async(fn ->
            {:ok, d} = D.start_link(cmd: @sleep, name: __MODULE__.Tcp, ready: ready)
            Process.unlink(d)
            d
          end)

        eventually("the command runs", fn -> D.alive?(__MODULE__.Tcp) end)
        assert Task.yield(task, 60) == nil
        {:ok, _socket} = :gen_tcp.listen(port, [family, ip: ip, reuseaddr: true])
        d = Task.await(task)
        assert D.alive?(d)
        assert D.stop(d) == :ok
      end
    end
  end

  describe "ready: a function" do
    test "is asked again until it is true, and nothing else" do
      {:ok, answers} = Agent.start_link(fn -> [nil, false, :ok, 1, true] end)
      next = fn -> Agent.get_and_update(answers, fn [head | tail] -> {head, tail} end) end
      d = start!(cmd: @sleep, ready: next)
      assert D.alive?(d)
      assert Agent.get(answers, & &1) == []
    end

    test "may raise, and is asked again; a time-out says what it raised" do
      {:ok, answers} = Agent.start_link(fn -> [:raise, :exit, :throw, true] end)

      next = fn ->
        case Agent.get_and_update(answers, fn [head | tail] -> {head, tail} end) do
          :raise -> raise "not yet"
          :exit -> exit(:not_yet)
          :throw -> throw(:not_yet)
          answer -> answer
        end
      end

      assert D.alive?(start!(cmd: @sleep, ready: next))

      log_events(fn ->
        opts = [cmd: @sleep, ready: fn -> raise "never ever" end, ready_timeout: 100]
        assert D.start_link(opts) == {:error, :timeout}
        event = await_event(&(text(&1) =~ "was not ready within 100 ms"))
        assert event.level == :warning
        assert text(event) =~ "never ever"
      end)
    end

    test "may be killed: that is an error, and nothing is left" do
      {tag, env} = tag()

      back_at_baseline(fn ->
        assert D.start_link(cmd: @sleep, env: env, ready: fn -> Process.exit(self(), :kill) end) ==
                 {:error, {:ready, :killed}}

        assert_gone(tag)
      end)
    end
  end

  describe "a start that fails" do
    on_backends "because the command ends first says so at once, after its last words" do
      for ready <- [{:output, "up"}, {:tcp, 1}, fn -> false end] do
        back_at_baseline(fn ->
          opts = [
            cmd: sh("echo why >&2; exit 3"),
            name: __MODULE__.Fails,
            ready: ready,
            ready_timeout: 60_000,
            on_output: tell(),
            backend: backend
          ]

          assert quick(fn -> D.start_link(opts) end) == {:error, {:exit, {:exited, 3}}}
          assert lines(1, :stderr) == ["why"]
          # The name is free, and no signal of an exit came.
          assert GenServer.whereis(__MODULE__.Fails) == nil

          signaled = Keyword.put(opts, :cmd, sh("kill -SEGV $$"))
          assert D.start_link(signaled) == {:error, {:exit, {:signaled, :sigsegv}}}
        end)
      end
    end

    on_backends "because it is not ready in time stops the command first" do
      {tag, env} = tag()

      for cmd <- [@sleep, [fixture("ignore_term")]],
          ready <- [{:output, "never"}, {:tcp, 1}, fn -> Process.sleep(:infinity) end] do
        back_at_baseline(fn ->
          opts = [
            cmd: cmd,
            env: env,
            ready: ready,
            ready_timeout: 100,
            kill_timeout: 50,
            backend: backend
          ]

          assert quick(fn -> D.start_link(opts) end) == {:error, :timeout}
          assert_gone(tag)
        end)
      end
    end

    test "because the command cannot be started has the system's reason" do
      back_at_baseline(fn ->
        for {opts, reason} <- [
              {[cmd: ["no-such-program"]], :enoent},
              {[cmd: ["/etc/passwd"]], :eacces},
              {[cmd: ["true"], cd: "/no/such"], {:cd, :enoent}}
            ] do
          assert D.start_link([name: __MODULE__.Fails] ++ opts) == {:error, reason}
          assert GenServer.whereis(__MODULE__.Fails) == nil
        end

        assert {:error, {:invalid_cmd, _}} = D.start_link([])
        assert {:error, {:invalid_cmd, _}} = D.start_link(cmd: "redis-server")
        assert {:error, {:invalid_args, _}} = D.start_link(cmd: ["a", <<0>>])
        assert {:error, {:invalid, :cd, _}} = D.start_link(cmd: ["a"], cd: "")

        assert_raise ArgumentError, ~r/:nonsense/, fn ->
          D.start_link(cmd: @sleep, nonsense: 1)
        end

        assert_raise ArgumentError, ~r/:owner/, fn -> D.start_link(cmd: @sleep, owner: self()) end
      end)
    end

    test "because the name is taken leaves the other one alone" do
      d = start!(cmd: @sleep, name: __MODULE__.Taken)
      assert D.start_link(cmd: @sleep, name: __MODULE__.Taken) == {:error, {:already_started, d}}
      assert D.alive?(d)
    end

    on_backends "because it was not ready stays so, whatever the command says while it is stopped" do
      script = "trap 'echo up; exit' TERM; while :; do sleep 0.05; done"

      opts = [
        cmd: ["sh", "-c", script],
        ready: {:output, "up"},
        ready_timeout: 300,
        backend: backend
      ]

      assert D.start_link(opts) == {:error, :timeout}
      refute_received {:EXIT, _daemon, _reason}
    end

    test "does not end a caller that traps no exits, and leaves nothing in its mailbox" do
      {pid, monitor} =
        spawn_monitor(fn ->
          {:error, :enoent} = D.start_link(cmd: ["no-such-program"])
          {:error, {:exit, _}} = D.start_link(cmd: ["true"], ready: {:output, "x"})
          {:error, :timeout} = D.start_link(cmd: @sleep, ready: {:output, "x"}, ready_timeout: 10)
          {:error, :wait_timeout} = D.start_link(cmd: @sleep, wait_for: &park/0, wait_timeout: 10)
          exit({:mailbox, Process.info(self(), :messages), Process.info(self(), :links)})
        end)

      assert_receive {:DOWN, ^monitor, :process, ^pid, reason}, 5_000
      assert reason == {:mailbox, {:messages, []}, {:links, []}}
    end

    on_backends "because its caller died, in whatever phase, leaves nothing" do
      {tag, env} = tag()
      me = self()

      for phase <- [:wait_for, :ready] do
        back_at_baseline(fn ->
          reached = fn ->
            send(me, :reached)
            park()
          end

          {pid, monitor} =
            spawn_monitor(fn ->
              D.start_link([
                {phase, reached},
                cmd: @sleep,
                name: __MODULE__.Orphan,
                env: env,
                backend: backend
              ])
            end)

          assert_receive :reached, @soon
          server = GenServer.whereis(__MODULE__.Orphan)
          gone = Process.monitor(server)
          Process.exit(pid, :kill)
          assert_receive {:DOWN, ^monitor, :process, ^pid, :killed}
          assert_receive {:DOWN, ^gone, :process, ^server, {:shutdown, :killed}}, @soon
          assert_gone(tag)
        end)
      end
    end

    on_backends "because it was stopped says so, whatever the command still says or breaks" do
      {tag, env} = tag()
      name = __MODULE__.LastWords
      # The line of its TERM handler is too long, or the last that on_output gets.
      cmd = sh("trap 'echo 0123456789a; exit' TERM; echo up; while :; do sleep 0.1; done")
      me = self()

      dies = fn
        "up" -> send(me, :up)
        _last -> Process.exit(self(), :kill)
      end

      for opts <- [[max_line_length: {10, :error}], []],
          {stop, ready} <- [
            {&D.stop/1, :normal},
            {&GenServer.stop(&1, :shutdown), :shutdown},
            {&D.stop/1, :never}
          ] do
        back_at_baseline(fn ->
          pattern = if ready == :never, do: "never", else: "up"
          opts = [cmd: cmd, name: name, ready: {:output, pattern}, on_output: dies] ++ opts

          starter =
            Task.async(fn ->
              start = D.start_link([ready_timeout: 60_000, env: env, backend: backend] ++ opts)
              with {:ok, d} <- start, do: Process.unlink(d)
              start
            end)

          assert_receive :up, @soon
          if ready != :never, do: assert({:ok, _} = Task.await(starter, @soon))
          monitor = Process.monitor(name)
          assert stop.(GenServer.whereis(name)) == :ok
          assert_receive {:DOWN, ^monitor, :process, _, reason}, @soon
          assert reason == if(ready == :shutdown, do: :shutdown, else: :normal)
          if ready == :never, do: assert(Task.await(starter, @soon) == {:error, :shutdown})
          assert_gone(tag)
        end)
      end
    end

    on_backends "because somebody ended who reads, before the command ran, is an answer" do
      {tag, env} = tag()
      name = __MODULE__.Unread
      fifo = tmp_path("fifo")
      {_, 0} = System.cmd("mkfifo", [fifo])

      back_at_baseline(fn ->
        opts = [cmd: ["cat"], input: {:file, fifo}, name: name, env: env, backend: backend]
        starter = Task.async(fn -> D.start_link([kill_timeout: 100] ++ opts) end)

        reader =
          eventually("it is being started", fn ->
            daemon = GenServer.whereis(name)
            daemon && :sys.get_state(daemon).reader
          end)

        Process.exit(reader, {:shutdown, :enough})
        assert Task.await(starter, @soon) == {:error, {:output, {:shutdown, :enough}}}
      end)

      # What waited for the other end went with it: there is no reader, and this does not wait for one.
      {_, 1} =
        System.cmd("dd", ["if=/dev/null", "of=" <> fifo, "oflag=nonblock"], stderr_to_stdout: true)

      assert_gone(tag)
    end

    on_backends "because it was stopped meanwhile says :shutdown; until then calls are answered" do
      {tag, env} = tag()
      me = self()

      for {phase, running?} <- [wait_for: false, ready: true] do
        back_at_baseline(fn ->
          reached = fn ->
            send(me, :reached)
            park()
          end

          task =
            Task.async(fn ->
              D.start_link([
                {phase, reached},
                cmd: @sleep,
                name: __MODULE__.Stopped,
                env: env,
                backend: backend
              ])
            end)

          assert_receive :reached, @soon
          assert quick(fn -> D.alive?(__MODULE__.Stopped) end) == running?
          assert {:ok, %{os_pid: os_pid}} = quick(fn -> D.stats(__MODULE__.Stopped) end)
          assert is_integer(os_pid) == running?
          expected = if running?, do: {:ok, os_pid}, else: {:error, :not_running}
          assert quick(fn -> D.os_pid(__MODULE__.Stopped) end) == expected
          assert D.stop(__MODULE__.Stopped) == :ok
          assert Task.await(task) == {:error, :shutdown}
          assert_gone(tag)
        end)
      end
    end
  end

  describe "the list of what may go wrong" do
    test "is what the type of start_link says, and both documentations have" do
      {:ok, types} = Code.Typespec.fetch_types(D)
      [{:type, _, :union, members}] = for {:type, {:start_error, type, []}} <- types, do: type
      # All of NetRunner.Error's are one of them.
      assert [{:remote_type, _, [{:atom, _, NetRunner.Error}, {:atom, _, :reason}, []]}] =
               Enum.filter(members, &match?({:remote_type, _, _}, &1))

      assert length(members) == 1 + length(D.reasons())
      refute Enum.any?(members, &match?({:type, _, :term, _}, &1))

      {:docs_v1, _, _, _, %{"en" => moduledoc}, _, docs} = Code.fetch_docs(D)
      [start_link] = for {{:function, :start_link, 1}, _, _, %{"en" => doc}, _} <- docs, do: doc

      for {type, meaning} <- D.reasons() do
        row = "* `#{NetRunner.Reason.text_of(type)}` - #{meaning}"
        assert start_link =~ row
        # What may come later, too, stands with the ends of a daemon.
        tag = with {:{}, _, [tag | _]} <- type, do: tag
        tag = with {tag, _} <- tag, do: tag

        if tag in ~w(guardian_lost unkillable down input output line_too_long)a,
          do: assert(moduledoc =~ row)
      end
    end

    # Whose guardian is killed, and nobody finds without one.
    @tag :subreaper
    on_backends "has what a start says when something is killed, or cannot be" do
      {tag, env} = tag()

      for {harm, expected} <- [
            {fn %{command: command} -> Process.exit(command, :kill) end, {:down, :killed}},
            {fn %{command: command} -> unkillable(command) end, {:unkillable, [1]}},
            {fn %{state: state} -> Process.exit(state.reader, :kill) end, {:output, :killed}},
            {fn %{guardian: guardian} -> System.cmd("kill", ["-KILL", guardian]) end,
             :guardian_lost},
            {fn %{daemon: daemon} -> GenServer.stop(daemon, :shutdown) end, :shutdown},
            {fn %{daemon: daemon} -> GenServer.stop(daemon, :why_not) end, {:stopped, :why_not}},
            {fn %{daemon: daemon} -> Process.exit(daemon, {:shutdown, :enoent}) end,
             {:stopped, {:shutdown, :enoent}}},
            {fn %{daemon: daemon} -> Process.exit(daemon, :kill) end, {:stopped, :killed}}
          ] do
        back_at_baseline(fn ->
          capture_log(fn ->
            name = __MODULE__.Harmed
            opts = [cmd: @sleep, ready: {:output, "never"}, name: name, env: env]

            task =
              Task.async(fn -> D.start_link(opts ++ [ready_timeout: 60_000, backend: backend]) end)

            daemon = eventually("it is registered", fn -> GenServer.whereis(name) end)
            eventually("it runs", fn -> D.alive?(daemon) end)
            %{process: command} = state = :sys.get_state(daemon)
            guardian = to_string(:sys.get_state(command).guardian_pid)
            harm.(%{daemon: daemon, command: command, state: state, guardian: guardian})
            assert Task.await(task, 10_000) == {:error, expected}
          end)
        end)
      end

      assert_gone(tag)
    end

    on_backends "has the same for one that was up" do
      {tag, env} = tag()

      for {harm, expected} <- [
            {fn command -> Process.exit(command, :kill) end, {:down, :killed}},
            {&unkillable/1, {:unkillable, [1]}}
          ] do
        back_at_baseline(fn ->
          d = start_apart(cmd: @sleep, env: env, backend: backend)
          harm.(:sys.get_state(d).process)
          assert reason_of(d) == expected
        end)
      end

      assert_gone(tag)
    end

    # As root nothing here survives SIGKILL: the command's server says so all the same. Its guardian gets no better
    # news, and ends the command once it is told to.
    defp unkillable(command) do
      :sys.replace_state(command, fn state ->
        for {{:end, _ref}, from} <- state.awaiting,
            do: GenServer.reply(from, {{:error, {:unkillable, [1]}}, state.fed})

        %{state | awaiting: [], unkillable: [1]}
      end)
    end
  end

  test "a start that is stopped before it could begin says :shutdown, and runs nothing" do
    path = tmp_path("never")
    nobody = spawn(fn -> :ok end)
    opts = [cmd: ["touch", path], name: {:via, StopAtOnce, nobody}]
    assert D.start_link(opts) == {:error, :shutdown}
    refute File.exists?(path)
    assert Process.info(self(), :messages) == {:messages, []}
  end

  defp park, do: Process.sleep(:infinity)

  describe "wait_for:" do
    test "runs before the command does, which waits for its return" do
      path = tmp_path("order")

      d =
        start!(
          cmd: counted(path, "cat #{path}; exec sleep 60"),
          wait_for: fn -> File.write!(path, "waited ") end,
          on_output: tell()
        )

      assert lines(1) == ["waited x"]
      assert D.alive?(d)
    end

    test "is bounded by wait_timeout:, and its command never runs" do
      path = tmp_path("never")

      back_at_baseline(fn ->
        opts = [cmd: ["touch", path], wait_for: &park/0, wait_timeout: 50]
        assert quick(fn -> D.start_link(opts) end) == {:error, :wait_timeout}
        refute File.exists?(path)
      end)
    end

    test "that fails is the start's failure" do
      start = fn wait_for -> D.start_link(cmd: @sleep, wait_for: wait_for) end

      back_at_baseline(fn ->
        failed = fn wait_for ->
          {:error, {:wait_for, reason}} = start.(wait_for)
          reason
        end

        assert {%RuntimeError{message: "no"}, [_ | _]} = failed.(fn -> raise "no" end)
        assert :no = failed.(fn -> exit(:no) end)
        assert {{:nocatch, :no}, [_ | _]} = failed.(fn -> throw(:no) end)
        assert :killed = failed.(fn -> Process.exit(self(), :kill) end)
        assert :normal = failed.(fn -> Process.exit(self(), :normal) end)
      end)
    end
  end

  describe "the reason it ends with" do
    on_backends "is :normal for 0, else {:exit, exit}" do
      for {script, reason} <- [
            {"exit 0", :normal},
            {"exit 3", {:exit, {:exited, 3}}},
            {"kill -TERM $$", {:exit, {:signaled, :sigterm}}}
          ] do
        capture_log(fn ->
          assert reason_of(
                   start_apart(cmd: sh("read x; #{script}"), input: "\n", backend: backend)
                 ) ==
                   reason
        end)
      end
    end

    test "is what exit_reason: makes of it" do
      me = self()

      exit_reason = fn exit ->
        send(me, {:asked, exit})
        {:shutdown, exit}
      end

      d = start_apart(cmd: sh("read x; exit 3"), input: "\n", exit_reason: exit_reason)
      assert reason_of(d) == {:shutdown, {:exited, 3}}
      assert_received {:asked, {:exited, 3}}

      # It is not for an end that was asked for.
      d = start_apart(cmd: @sleep, exit_reason: exit_reason)
      assert D.stop(d) == :ok
      assert reason_of(d) == :normal
      refute_received {:asked, _}

      capture_log(fn ->
        d = start_apart(cmd: sh("read x"), input: "\n", exit_reason: fn _ -> raise "no" end)
        assert {%RuntimeError{message: "no"}, [_ | _]} = reason_of(d)
      end)
    end

    test "can be had by a stop while exit_reason: thinks" do
      me = self()

      think = fn _exit ->
        send(me, :thinking)
        park()
      end

      back_at_baseline(fn ->
        d = start_apart(cmd: sh("read x"), input: "\n", exit_reason: think)
        assert_receive :thinking, @soon
        refute quick(fn -> D.alive?(d) end)
        assert quick(fn -> D.stop(d) end) == :ok
        assert reason_of(d) == :normal
      end)
    end

    @tag :long
    test "is the default where exit_reason: gives none for five seconds" do
      capture_log(fn ->
        d = start_apart(cmd: sh("read x; exit 3"), input: "\n", exit_reason: fn _ -> park() end)
        assert_receive {:EXIT, ^d, {:exit, {:exited, 3}}}, 10_000
      end)
    end

    @tag :subreaper
    on_backends "is :guardian_lost when somebody killed the guardian" do
      {tag, env} = tag()

      capture_log(fn ->
        d = start_apart(cmd: @sleep, env: env, backend: backend)
        guardian = :sys.get_state(:sys.get_state(d).process).guardian_pid
        {_, 0} = System.cmd("kill", ["-KILL", "#{guardian}"])
        assert reason_of(d) == :guardian_lost
        eventually("the command is gone", fn -> tagged(tag) == [] end)
      end)
    end

    @tag :subreaper
    test "comes after what a command left behind was given its drain_timeout" do
      {tag, env} = tag()

      d = start_apart(cmd: sh("sleep 1000 & exit 0"), env: env, drain_timeout: 50)
      assert reason_of(d) == :normal
      assert_gone(tag)
    end
  end

  describe "under a supervisor" do
    setup do
      Process.flag(:trap_exit, true)
      %{path: tmp_path("starts")}
    end

    defp supervise(children, opts \\ []) do
      opts = Keyword.merge([strategy: :one_for_one, max_restarts: 3, max_seconds: 60], opts)
      {:ok, supervisor} = Supervisor.start_link(List.wrap(children), opts)

      on_exit(fn ->
        try do
          Supervisor.stop(supervisor)
        catch
          :exit, _gone -> :ok
        end
      end)

      supervisor
    end

    # How often it is started when the supervisor allows three restarts.
    for {restart, script, starts} <- [
          {:permanent, "exit 0", 4},
          {:permanent, "exit 3", 4},
          {:permanent, "kill -KILL $$", 4},
          {:transient, "exit 0", 1},
          {:transient, "exit 3", 4},
          {:transient, "kill -KILL $$", 4},
          {:temporary, "exit 0", 1},
          {:temporary, "exit 3", 1},
          {:temporary, "kill -KILL $$", 1}
        ] do
      test "#{restart} is started #{starts} times when its command does #{script}", %{path: path} do
        {restart, script, starts} = unquote({:{}, [], [restart, script, starts]})

        capture_log(fn ->
          back_at_baseline(fn ->
            # A command that is slower than the supervisor's start: all restarts are restarts.
            cmd = counted(path, "sleep 0.05; #{script}")
            supervisor = supervise({D, cmd: cmd, restart: restart, id: 1} |> without_id())

            if starts == 4 do
              assert_receive {:EXIT, ^supervisor, :shutdown}, 10_000
            else
              eventually("the child is done", 5_000, fn ->
                Supervisor.count_children(supervisor).active == 0
              end)

              assert Supervisor.stop(supervisor) == :ok
            end

            assert starts(path) == starts
          end)
        end)
      end
    end

    defp without_id({module, opts}), do: {module, Keyword.delete(opts, :id)}

    test "transient is not restarted where exit_reason: gives {:shutdown, _}", %{path: path} do
      cmd = counted(path, "sleep 0.05; exit 3")
      supervisor = supervise({D, cmd: cmd, restart: :transient, exit_reason: &{:shutdown, &1}})

      eventually("the child is done", 5_000, fn ->
        Supervisor.count_children(supervisor).active == 0
      end)

      assert starts(path) == 1
    end

    on_backends "a crash is a new command: new pid, same name", %{path: path} do
      capture_log(fn ->
        cmd = counted(path, "echo up; exec sleep 1000")
        name = __MODULE__.Phoenix

        supervisor =
          supervise({D, cmd: cmd, name: name, ready: {:output, "up"}, backend: backend})

        first = os_pid!(__MODULE__.Phoenix)
        assert D.signal(__MODULE__.Phoenix, :sigkill) == :ok

        second =
          eventually("another one runs", 5_000, fn ->
            with {:ok, pid} when pid != first <- D.os_pid(__MODULE__.Phoenix),
                 do: pid,
                 else: (_ -> nil)
          end)

        refute running?(first)
        assert running?(second)
        # Its start has written that before it is ready, and only then the supervisor answers.
        assert Supervisor.count_children(supervisor).active == 1
        assert starts(path) == 2
      end)
    end

    test "what is started next finds it ready; what cannot be ready fails the supervisor's start" do
      me = self()

      supervise([
        {D,
         cmd: sh("sleep 0.1; echo up; exec sleep 60"),
         name: __MODULE__.First,
         ready: {:output, "up"}},
        {Task, fn -> send(me, {:next, D.alive?(__MODULE__.First)}) end}
      ])

      assert_receive {:next, true}, @soon

      capture_log(fn ->
        back_at_baseline(fn ->
          child = {D, cmd: @sleep, ready: {:output, "up"}, ready_timeout: 50}

          assert {:error, {:shutdown, {:failed_to_start_child, {D, @sleep}, :timeout}}} =
                   Supervisor.start_link([child], strategy: :one_for_one)
        end)
      end)
    end

    @tag :subreaper
    on_backends "its shutdown ends all of the command inside the budget, daemons of its own included" do
      lock = tmp_path("lock")

      back_at_baseline(fn ->
        cmd = [fixture("daemonize"), lock]

        supervisor =
          supervise(
            {D,
             cmd: cmd,
             ready: {:output, "ready"},
             kill_timeout: 300,
             drain_timeout: 60_000,
             backend: backend}
          )

        assert locked?(lock)
        {us, :ok} = :timer.tc(fn -> Supervisor.stop(supervisor) end)
        refute locked?(lock)
        assert us < 3_300_000
      end)
    end

    on_backends "a command that ignores its stop is killed after kill_timeout:, not after the budget" do
      {tag, env} = tag()

      back_at_baseline(fn ->
        cmd = [fixture("ignore_term")]
        opts = [cmd: cmd, env: env, ready: {:output, "ready"}, kill_timeout: 200]
        supervisor = supervise({D, opts ++ [backend: backend]})
        [{_id, d, :worker, [D]}] = Supervisor.which_children(supervisor)
        monitor = Process.monitor(d)
        {us, :ok} = :timer.tc(fn -> Supervisor.stop(supervisor) end)
        assert_received {:DOWN, ^monitor, :process, ^d, :shutdown}
        assert us in 200_000..3_200_000
        assert_gone(tag)
      end)
    end

    @tag :subreaper
    on_backends "its shutdown is inside the budget at its worst: TERM ignored, a daemon left, on_output stuck" do
      {lock, daemon_lock} = {tmp_path("lock"), tmp_path("daemon_lock")}
      {kill_timeout, flush_timeout} = {300, 400}
      me = self()

      stuck = fn line ->
        send(me, {:stuck, line})
        Process.sleep(:infinity)
      end

      # Each says that it is ready: two lines, one for the function and one that waits for it.
      script = ~S("$1" "$2" exit; exec "$3" "$4")

      back_at_baseline(fn ->
        cmd = [
          "sh",
          "-c",
          script,
          "sh",
          fixture("daemonize"),
          daemon_lock,
          fixture("ignore_term"),
          lock
        ]

        opts = [
          cmd: cmd,
          on_output: stuck,
          kill_timeout: kill_timeout,
          flush_timeout: flush_timeout
        ]

        opts = opts ++ [drain_timeout: 60_000, ready: {:output, "ready"}, backend: backend]
        supervisor = supervise({D, opts})
        [{_id, d, :worker, [D]}] = Supervisor.which_children(supervisor)
        assert_receive {:stuck, _first}, 5_000

        eventually("both hold their locks", 5_000, fn ->
          locked?(lock) and locked?(daemon_lock)
        end)

        monitor = Process.monitor(d)
        {us, :ok} = :timer.tc(fn -> Supervisor.stop(supervisor) end)
        # The supervisor has not had to kill it.
        assert_received {:DOWN, ^monitor, :process, ^d, :shutdown}
        assert us in (kill_timeout * 1_000)..((kill_timeout + flush_timeout + 4_000) * 1_000)
        refute locked?(lock) or locked?(daemon_lock)
        refute_received {:stuck, _another}
      end)
    end

    test "a storm of restarts of twenty at once ends with nothing left", %{path: path} do
      {tag, env} = tag()

      capture_log(fn ->
        back_at_baseline(fn ->
          supervisors =
            for n <- 1..20 do
              cmd = counted("#{path}#{n}", "echo x; exit 1")

              {:ok, supervisor} =
                Supervisor.start_link([{D, cmd: cmd, env: env, on_output: :log}],
                  strategy: :one_for_one,
                  max_restarts: 10,
                  max_seconds: 60
                )

              supervisor
            end

          for supervisor <- supervisors,
              do: assert_receive({:EXIT, ^supervisor, :shutdown}, 60_000)

          for n <- 1..20, do: assert(starts("#{path}#{n}") == 11)
          assert_gone(tag)
        end)
      end)
    end

    on_backends "fifty at once start, run, and stop" do
      {tag, env} = tag()

      back_at_baseline(fn ->
        supervisor =
          supervise(
            for n <- 1..50 do
              {D,
               cmd: sh("echo up #{n}; exec cat"),
               name: :"#{__MODULE__}#{n}",
               input: :pipe,
               ready: {:output, "up #{n}"},
               on_output: tell(),
               env: env,
               backend: backend}
            end
          )

        # One that is just executing something has no environment for a moment.
        eventually("fifty run", fn -> length(tagged(tag)) == 50 end)
        for n <- 1..50, do: assert(D.write(:"#{__MODULE__}#{n}", "hello #{n}\n") == :ok)

        for n <- 1..50 do
          hello = "hello #{n}"
          assert_receive {:stdout, ^hello}, @soon
        end

        assert Supervisor.stop(supervisor) == :ok
        assert_gone(tag)
      end)
    end
  end

  describe "stop" do
    on_backends "ends command and daemon, and is fine when there is none" do
      {tag, env} = tag()

      back_at_baseline(fn ->
        d = start_apart(cmd: @sleep, env: env, on_output: tell(), backend: backend)
        # Its environment is to be read a moment after its execve.
        eventually("it runs", fn -> length(tagged(tag)) == 1 end)
        assert Enum.sort(processes()) == Enum.sort([d | :sys.get_state(d).output])
        assert D.stop(d) == :ok
        assert_gone(tag)
        assert processes() == []
        assert reason_of(d) == :normal
        assert D.stop(d) == :ok
        assert D.stop(__MODULE__.Nobody) == :ok
      end)
    end

    on_backends "with a time-out gives up waiting, not stopping" do
      {tag, env} = tag()

      back_at_baseline(fn ->
        d =
          start_apart(
            cmd: [fixture("ignore_term")],
            ready: {:output, "ready"},
            env: env,
            kill_timeout: 300,
            backend: backend
          )

        assert quick(fn -> D.stop(d, 0) end) == {:error, :timeout}
        assert quick(fn -> D.stop(d, 10) end) == {:error, :timeout}
        assert D.alive?(d)
        assert D.stop(d, 10_000_000_000) == :ok
        assert_gone(tag)
        assert Process.info(self(), :messages) == {:messages, [{:EXIT, d, :normal}]}
      end)
    end

    on_backends "delivers the command's last words" do
      d =
        start!(
          cmd: sh("trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.01; done"),
          ready: {:output, "up"},
          on_output: tell(),
          backend: backend
        )

      assert D.stop(d) == :ok
      assert lines(2) == ["up", "bye"]
    end

    on_backends "by GenServer.stop/3 is the same" do
      {tag, env} = tag()

      back_at_baseline(fn ->
        d =
          start_apart(
            cmd: sh("trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.01; done"),
            ready: {:output, "up"},
            on_output: tell(),
            env: env,
            backend: backend
          )

        assert GenServer.stop(d, :shutdown) == :ok
        assert reason_of(d) == :shutdown
        assert lines(2) == ["up", "bye"]
        assert_gone(tag)
      end)
    end

    on_backends "from within on_output works" do
      me = self()

      d =
        start_apart(
          cmd: sh("echo fatal; exec sleep 1000"),
          name: __MODULE__.FromWithin,
          on_output: fn "fatal" -> send(me, D.stop(__MODULE__.FromWithin, 0)) end,
          backend: backend
        )

      assert reason_of(d) == :normal
      assert_received {:error, :timeout}
    end

    on_backends "is not needed when the daemon is killed: the command ends by the ladder" do
      {tag, env} = tag()

      for cmd <- [sh("echo ready; exec sleep 1000"), [fixture("ignore_term")]] do
        back_at_baseline(fn ->
          d =
            start_apart(
              cmd: cmd,
              env: env,
              ready: {:output, "ready"},
              kill_timeout: 200,
              on_output: tell(),
              backend: backend
            )

          %{output: [reader, consumer]} = :sys.get_state(d)
          Process.exit(d, :kill)
          assert reason_of(d) == :killed
          eventually("the command is gone", 4_000, fn -> tagged(tag) == [] end)
          refute Process.alive?(reader)
          refute Process.alive?(consumer)
        end)
      end
    end

    on_backends "comes when a process dies that is linked to it" do
      {tag, env} = tag()

      back_at_baseline(fn ->
        {pid, monitor} =
          spawn_monitor(fn ->
            {:ok, d} = D.start_link(cmd: @sleep, env: env, backend: backend)
            exit({:daemon, d})
          end)

        assert_receive {:DOWN, ^monitor, :process, ^pid, {:daemon, d}}, @soon
        gone = Process.monitor(d)
        assert_receive {:DOWN, ^gone, :process, ^d, _reason}, @soon
        assert_gone(tag)
      end)
    end
  end

  describe "calls" do
    test "take the pid and every form of a name" do
      start_supervised!({Registry, keys: :unique, name: __MODULE__.Names})

      for name <- [
            __MODULE__.Named,
            {:global, {__MODULE__, :named}},
            {:via, Registry, {__MODULE__.Names, "named"}}
          ] do
        {:ok, d} = D.start_link(cmd: ["cat"], input: :pipe, on_output: tell(), name: name)

        for who <- [d, name] do
          assert {:ok, os_pid} = D.os_pid(who)
          assert running?(os_pid)
          assert D.alive?(who)
          assert {:ok, %{os_pid: ^os_pid}} = D.stats(who)
          assert D.write(who, "x\n") == :ok
          assert lines(1) == ["x"]
          assert D.signal(who, :sigcont) == :ok
        end

        assert D.stop(name) == :ok
        refute Process.alive?(d)
      end
    end

    test "to nobody are errors" do
      {:ok, gone} = D.start_link(cmd: @sleep)
      D.stop(gone)

      for nobody <- [gone, __MODULE__.Nobody, {:global, :nobody_at_all}] do
        assert D.os_pid(nobody) == {:error, :not_running}
        assert D.stats(nobody) == {:error, :not_running}
        assert D.write(nobody, "x") == {:error, :not_running}
        assert D.signal(nobody, :sigterm) == {:error, :not_running}
        assert D.reload(nobody) == {:error, :not_running}
        refute D.alive?(nobody)
      end
    end

    on_backends "write takes what stdin takes, and stdin is closed unless input: is :pipe" do
      d = start!(cmd: ["cat"], input: :pipe, on_output: tell(), backend: backend)
      assert D.write(d, ["a", ?b, ["c\n"]]) == :ok
      assert lines(1) == ["abc"]

      d = start!(cmd: @sleep, input: :pipe, backend: backend)
      assert {:error, {:timeout, taken}} = D.write(d, String.duplicate("x", 4_194_304), 50)
      assert taken > 0
      # The writer waits in its own process.
      assert quick(fn -> D.alive?(d) end)

      d = start!(cmd: @sleep, backend: backend)
      assert D.write(d, "x") == {:error, :closed}
    end

    on_backends "input: is written, as everywhere, on behalf of who started it" do
      me = self()

      input =
        Stream.map(1..3, fn n ->
          if me in Process.get(:"$callers"), do: "#{n}\n", else: "nobody's\n"
        end)

      d =
        start_apart(
          cmd: ["cat"],
          input: input,
          on_output: tell(),
          backend: backend
        )

      assert reason_of(d) == :normal
      assert lines(3) == ["1", "2", "3"]
    end

    on_backends "reload is a HUP to the command alone, signal/2 goes to the group" do
      script = ~S"""
      trap 'echo hup' HUP
      trap 'echo usr1' USR1
      sh -c 'trap "echo member hup" HUP; trap "echo member usr1" USR1; echo member up; while :; do sleep 0.01; done' &
      while :; do wait; done
      """

      d =
        start!(
          cmd: sh(script),
          ready: {:output, "member up"},
          on_output: tell(),
          backend: backend
        )

      assert lines(1) == ["member up"]
      assert D.reload(d) == :ok
      assert lines(1) == ["hup"]
      assert D.signal(d, :sigusr1) == :ok
      assert Enum.sort(lines(2)) == ["member usr1", "usr1"]
      assert D.signal(d, 10, :leader) == :ok
      assert lines(1) == ["usr1"]
      refute_received {:stdout, _}
      assert_raise ArgumentError, ~r/:sigfoo/, fn -> D.signal(d, :sigfoo) end
    end

    on_backends "stats counts lines, bytes, pipes and time" do
      d =
        start!(
          cmd: sh("echo one; echo two; echo three >&2; exec cat"),
          input: :pipe,
          ready: {:output, "two"},
          on_output: tell(),
          backend: backend
        )

      assert lines(2) == ["one", "two"]
      assert lines(1, :stderr) == ["three"]
      assert D.write(d, "four\n") == :ok
      assert lines(1) == ["four"]
      {:ok, stats} = D.stats(d)
      assert stats.lines == 4
      assert stats.bytes == 19
      assert stats.stdout == %{lines: 3, bytes: 13, dropped: 0}
      assert stats.stderr == %{lines: 1, bytes: 6, dropped: 0}
      assert {stats.dropped, stats.queued, stats.raised} == {0, 0, 0}
      assert stats.os_pid == os_pid!(d)
      assert stats.uptime_ms in 0..60_000
      assert stats.pipes.stdin.bytes == 5
      assert stats.pipes.stdout.bytes == 13
      assert stats.pipes.stderr.bytes == 6
      # Time itself is what is counted here.
      Process.sleep(20)
      assert {:ok, %{uptime_ms: later}} = D.stats(d)
      assert later >= stats.uptime_ms + 20
    end

    test "options of NetRunner.Process reach the command" do
      dir = tmp_path("dir")
      File.mkdir_p!(dir)

      d =
        start_apart(
          cmd: sh("pwd; echo $GREETING; kill -TERM $$"),
          cd: dir,
          env: [GREETING: "hello"],
          on_output: tell()
        )

      capture_log(fn -> assert reason_of(d) == {:exit, {:signaled, :sigterm}} end)
      assert lines(2) == [dir, "hello"]

      d =
        start!(
          cmd: sh("trap 'echo int; exit 0' INT; echo up; while :; do sleep 0.01; done"),
          ready: {:output, "up"},
          stop_signal: :sigint,
          on_output: tell()
        )

      assert D.stop(d) == :ok
      assert lines(2) == ["up", "int"]
    end
  end

  test "a NetRunner.Command may be its command: the daemon's own options win" do
    command =
      NetRunner.Command.new("sh", ["-c", "echo $A $B; exec sleep 1000"], env: [A: "1", B: "2"])

    d = start!(cmd: command, on_output: tell())
    assert lines(1) == ["1 2"]
    assert %{id: {D, ["sh", "-c", _]}} = D.child_spec(cmd: command)
    D.stop(d)
    start!(cmd: command, env: [B: "3"], on_output: tell())
    assert lines(1) == ["3"]
  end

  test "what goes into a file does not come as lines, the other stream does" do
    path = tmp_path("out")

    start!(
      cmd: sh("echo out; echo err >&2; exec sleep 1000"),
      stdout: {:file, path},
      on_output: tell()
    )

    assert lines(1, :stderr) == ["err"]
    assert File.read!(path) == "out\n"
    refute_received {:stdout, _line}
  end

  describe "input that raises" do
    test "is the reason, and is logged" do
      log =
        capture_log(fn ->
          d = start_apart(cmd: ["cat"], input: File.stream!("/nonexistent"))
          assert {:input, {%File.Error{path: "/nonexistent"}, [_ | _]}} = reason_of(d)
        end)

      assert log =~ "whose input broke off: ** (File.Error) could not stream \"/nonexistent\""
    end

    test "whatever the command makes of its stop, and exit_reason: is not asked" do
      me = self()

      capture_log(fn ->
        d =
          start_apart(
            cmd: sh("trap 'exit 0' TERM; echo up; while :; do sleep 0.01; done"),
            ready: {:output, "up"},
            input: fn _sink ->
              send(me, {:feeder, self()})
              receive do: (:go_on -> throw(:ball))
            end,
            exit_reason: fn exit -> send(me, {:asked, exit}) end
          )

        assert_receive {:feeder, feeder}, @soon
        send(feeder, :go_on)
        assert {:input, {{:nocatch, :ball}, _stacktrace}} = reason_of(d)
        refute_received {:asked, _exit}
      end)
    end

    test "before the daemon is ready is the start's error" do
      capture_log(fn ->
        Process.flag(:trap_exit, true)

        assert {:error, {:input, {%RuntimeError{message: "boom"}, _stacktrace}}} =
                 D.start_link(
                   cmd: ["cat"],
                   ready: {:output, "never"},
                   input: Stream.map([1], fn _ -> raise "boom" end)
                 )
      end)
    end

    test "is not the reason of a daemon that was stopped" do
      d = start_apart(cmd: ["cat"], input: Stream.repeatedly(fn -> "x" end))
      assert D.stop(d) == :ok
      assert reason_of(d) == :normal
    end
  end

  describe "child_spec/1" do
    test "has an id from the name or the command, and restart: as given" do
      assert %{id: :db, restart: :permanent} = D.child_spec(cmd: @sleep, name: :db)

      assert %{id: {D, @sleep}, restart: :transient} =
               D.child_spec(cmd: @sleep, restart: :transient)

      assert %{id: {:global, 1}} = D.child_spec(cmd: @sleep, name: {:global, 1})
      assert %{start: {D, :start_link, [[cmd: @sleep]]}} = D.child_spec(cmd: @sleep)
    end

    test "has a shutdown that is longer than the ladder" do
      assert D.child_spec(cmd: @sleep).shutdown > 5_000 + 3_000 + 1_000 - 1
      assert D.child_spec(cmd: @sleep, kill_timeout: 60_000).shutdown > 63_000
      assert D.child_spec(cmd: @sleep, kill_timeout: 0xFFFF_FFFF).shutdown == 0xFFFF_FFFF
    end

    test "raises for what is of the wrong type, and leaves the rest to start_link" do
      assert_raise ArgumentError, ~r/:kill_timeout/, fn ->
        D.child_spec(cmd: @sleep, kill_timeout: "5")
      end

      assert_raise ArgumentError, ~r/:restart/, fn ->
        D.child_spec(cmd: @sleep, restart: :always)
      end

      spec = D.child_spec(cmd: @sleep, name: :db, cd: "")
      assert spec.id == :db
      {module, function, args} = spec.start
      assert {:error, {:invalid, :cd, _}} = apply(module, function, args)
    end
  end

  describe "who runs a user's function" do
    test "is a descendant of the daemon, on behalf of who started it" do
      me = self()

      family = fn what ->
        send(me, {what, self(), Process.get(:"$ancestors"), Process.get(:"$callers")})
        true
      end

      d =
        start_apart(
          cmd: sh("echo x; read x"),
          input: :pipe,
          wait_for: fn -> family.(:wait_for) end,
          ready: fn -> family.(:ready) end,
          on_output: fn _line -> family.(:on_output) end,
          exit_reason: fn _exit -> family.(:exit_reason) && :normal end
        )

      assert_receive {:on_output, _pid, _ancestors, _callers}, @soon
      D.write(d, "\n")
      assert reason_of(d) == :normal

      for what <- [:wait_for, :ready, :exit_reason] do
        assert_received {^what, pid, [^d, ^me | _], [^d, ^me | _]}
        assert pid not in [d, me]
      end
    end

    test "has the name of a daemon among its ancestors, as OTP has it" do
      me = self()

      start!(
        cmd: sh("echo x; exec sleep 60"),
        name: __MODULE__.Ancestor,
        on_output: fn _line ->
          send(me, {:family, Process.get(:"$ancestors"), Process.get(:"$callers")})
        end
      )

      assert_receive {:family, [__MODULE__.Ancestor, ^me | _], [d, ^me | _]}, @soon
      assert GenServer.whereis(__MODULE__.Ancestor) == d
    end
  end

  describe "secrets" do
    @secret "hunter2"

    test "of the environment are never shown: not in the state, not when it crashes, not while it waits" do
      me = self()

      wait = fn ->
        send(me, {:waiting, self()})

        receive do
          :go_on -> :ok
        end
      end

      opts = [
        cmd: sh("read x; exit 3"),
        name: __MODULE__.Secret,
        input: :pipe,
        env: [{"TOKEN", @secret}],
        wait_for: wait
      ]

      Process.flag(:trap_exit, true)
      task = Task.async(fn -> D.start_link(opts) end)
      assert_receive {:waiting, waiting}, @soon
      assert status(__MODULE__.Secret) =~ "waiting"
      refute status(__MODULE__.Secret) =~ @secret
      send(waiting, :go_on)

      # A link of its own, for the task's is gone with it.
      assert {:ok, d} = Task.await(task)
      assert_receive {:EXIT, _task, :normal}
      gone = Process.monitor(d)
      assert_receive {:DOWN, ^gone, :process, ^d, _reason}, @soon

      log =
        capture_log(fn ->
          d = start_apart(Keyword.delete(opts, :wait_for))
          refute status(d) =~ @secret
          refute inspect(:sys.get_state(d), limit: :infinity) =~ @secret
          D.write(d, "\n")
          assert reason_of(d) == {:exit, {:exited, 3}}
        end)

      assert log =~ "{:exit, {:exited, 3}}"
      refute log =~ @secret
    end

    test "are in no report of a supervisor: not of a start, not of one that fails, not of an end" do
      Process.flag(:trap_exit, true)
      command = NetRunner.Command.new("sh", ["-c", "exit 4"], env: [TOKEN: @secret])

      log =
        sasl_log(fn ->
          for {id, opts} <- [
                a: [cmd: sh("read x; exit 3"), env: [TOKEN: @secret], input: [@secret, "\n"]],
                b: [cmd: command]
              ] do
            {:ok, supervisor} = supervise_once(id, opts)
            assert_receive {:EXIT, ^supervisor, :shutdown}, @soon
          end

          for {id, opts} <- [
                c: [cmd: ["no-such-program"], env: %{"TOKEN" => @secret}, input: @secret],
                d: [cmd: :none, env: [TOKEN: @secret]],
                e: [cmd: ["true", env: [TOKEN: @secret]]]
              ] do
            assert {:error, _reason} = supervise_once(id, opts)
          end
        end)

      # The reports are there, with the environment's name in them.
      for id <- ~w(a b), do: assert(log =~ ~r/Child :#{id} of Supervisor .* started/)
      for id <- ~w(a b), do: assert(log =~ ~r/Child :#{id} of Supervisor .* terminated/)
      for id <- ~w(c d e), do: assert(log =~ ~r/Child :#{id} of Supervisor .* failed to start/)
      assert log =~ "env: [TOKEN]"
      refute log =~ @secret
    end

    test "reach the command from a child specification all the same" do
      me = self()
      opts = [cmd: sh("read x; echo $x $TOKEN; exec sleep 60"), env: [TOKEN: "t"], input: "x\n"]
      spec = D.child_spec(opts ++ [on_output: fn line -> send(me, {:line, line}) end])
      assert %{id: {D, ["sh", "-c", _script]}, start: {D, :start_link, [[_ | _] = given]}} = spec
      {:ok, d} = D.start_link(given)
      on_exit(fn -> D.stop(d, 10_000) end)
      assert_receive {:line, "x t"}, @soon
    end

    # One that gives up when its child ends.
    defp supervise_once(id, opts) do
      spec = Supervisor.child_spec({D, opts}, id: id)
      Supervisor.start_link([spec], strategy: :one_for_one, max_restarts: 0)
    end

    defp status(d), do: inspect(:sys.get_status(d), limit: :infinity, printable_limit: :infinity)
  end
end
