defmodule NetRunner.ExecTest do
  # exec, exec! and run!: what a Result tells, for every cause, and when the bang forms raise.
  use NetRunner.Test.Case
  doctest NetRunner.Result
  doctest NetRunner.ExitError

  alias NetRunner.{ExitError, Output, Result}
  alias NetRunner.Test.Teller

  defp exec(script, opts), do: NetRunner.exec(["sh", "-c", script], opts)

  describe "a Result" do
    on_backends "of a command that went well tells all of it" do
      assert {:ok, %Result{} = result} =
               exec("cat; echo err >&2", input: "0123456789", backend: backend)

      assert %{stdout: "0123456789", stderr: "err\n", exit: {:exited, 0}, cause: :exited} = result
      assert result.cmd == ["sh", "-c", "cat; echo err >&2"]
      assert %{truncated?: false, orphans_killed: 0} = result
      assert is_integer(result.os_pid) and result.os_pid > 1
      assert %{stdin: %{bytes: 10}, stdout: %{bytes: 10}, stderr: %{bytes: 4}} = result.stats

      assert Enum.sort(Map.keys(result.rusage)) ==
               [:majflt, :max_rss_kb, :minflt, :nivcsw, :nvcsw, :system_us, :user_us]

      assert Enum.all?(Map.values(result.rusage), &(is_integer(&1) and &1 >= 0))
      # It waited for cat, and touched pages.
      assert %{max_rss_kb: rss, minflt: faults, nvcsw: waits} = result.rusage
      assert rss > 100 and faults > 0 and waits > 0
      assert Result.status(result) == 0
      assert Result.ok?(result)
    end

    on_backends "of a command that failed or was killed by somebody" do
      assert {:ok, %{exit: {:exited, 3}, cause: :exited} = result} =
               exec("exit 3", backend: backend)

      assert {Result.status(result), Result.ok?(result), Result.ok?(result, [1, 3])} ==
               {3, false, true}

      assert {:ok, %{exit: {:signaled, :sigkill}, cause: :signaled} = result} =
               exec("kill -KILL $$", backend: backend)

      assert {Result.status(result), Result.ok?(result, [137])} == {137, false}

      # Two ends with the same status, which a shell could not tell apart.
      for {script, exit} <- [
            {"exit 143", {:exited, 143}},
            {"kill -TERM $$", {:signaled, :sigterm}}
          ] do
        assert {:ok, %{exit: ^exit} = result} = exec(script, backend: backend)
        assert Result.status(result) == 143
      end
    end

    test "says how much processor time and memory the command took" do
      script = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done"
      {:ok, busy} = exec(script, [])
      {:ok, idle} = exec("sleep 0.3", [])
      assert busy.rusage.user_us + busy.rusage.system_us > 5_000
      assert busy.rusage.user_us > 2 * idle.rusage.user_us
      assert idle.duration_ms >= 200
    end

    on_backends "of a command that took too long has what it wrote, its last words included" do
      script = "trap 'echo bye; exit 7' TERM; echo hello; while :; do sleep 0.01; done"
      began = System.monotonic_time(:millisecond)

      assert {:ok, %{stdout: "hello\nbye\n", exit: {:exited, 7}, cause: :timeout} = result} =
               exec(script, timeout: 1_000, backend: backend)

      # The start is part of the time that it may take.
      assert System.monotonic_time(:millisecond) - began >= 1_000
      refute Result.ok?(result, [7])
    end

    on_backends "of a command that ignores the stop signal: SIGKILL, after the grace" do
      assert {:ok, %{exit: {:signaled, :sigkill}, cause: :timeout, stdout: "ready\n"}} =
               NetRunner.exec([fixture("ignore_term"), tmp_path("lock")],
                 timeout: 1_000,
                 kill_timeout: 50,
                 backend: backend
               )
    end

    on_backends "of one that went silent, however much it wrote before" do
      script = "for i in 1 2 3 4; do echo $i; sleep 0.1; done; sleep 60"

      assert {:ok, %{stdout: "1\n2\n3\n4\n", cause: :idle_timeout, exit: {:signaled, :sigterm}}} =
               exec(script, idle_timeout: 400, backend: backend)
    end

    on_backends "of one that closed its output and went silent" do
      opts = [idle_timeout: 100, backend: backend]
      assert {:ok, %{cause: :idle_timeout}} = exec("exec >&- 2>&-; exec sleep 60", opts)
      assert {:ok, %{cause: :exited, stdout: "x"}} = exec("printf x; exec >&-", opts)
    end

    @tag :slow
    on_backends "of one that talks on a consumed stderr: that is not silent" do
      script = "for i in 1 2 3 4 5 6 7 8; do echo $i >&2; sleep 0.1; done; echo done"
      opts = [idle_timeout: 1_000, backend: backend]
      stream = &Enum.join(NetRunner.stream!(["sh", "-c", &1], opts))

      at_once([
        fn -> assert {:ok, %{cause: :exited, stdout: "done\n"}} = exec(script, opts) end,
        fn -> assert {:ok, %{cause: :exited}} = exec("exec >&-; " <> script, opts) end,
        fn -> assert {:ok, %{cause: :idle_timeout}} = exec("echo x >&2; exec sleep 60", opts) end,
        fn -> assert stream.(script) == "done\n" end,
        fn -> assert_raise NetRunner.Error, fn -> stream.("exec >&-; exec sleep 60") end end
      ])
    end

    @tag :slow
    on_backends "of one whose stdout goes elsewhere, and whose stderr says whether it is silent" do
      script = "for i in 1 2 3 4 5 6 7 8; do echo $i >&2; sleep 0.2; done"

      opts = [stdout: :discard, idle_timeout: 1_000, backend: backend]

      at_once(
        for stderr <- [:capture, :consume],
            {script, cause, said} <- [
              {script, :exited, "1\n2\n3\n4\n5\n6\n7\n8\n"},
              {"echo 1 >&2; exec sleep 60", :idle_timeout, "1\n"}
            ] do
          fn ->
            assert {:ok, %{cause: ^cause, stderr: ^said}} = exec(script, [stderr: stderr] ++ opts)
          end
        end
      )
    end

    @tag :slow
    on_backends "of one that was silent after a word on a consumed stderr: soon after its time" do
      # Looked at only when the time is over, it would have as much again.
      script = "sleep 0.1; echo x >&2; exec sleep 60"
      # Twice its time leaves a slow start three seconds.
      opts = [idle_timeout: 4_000, backend: backend]
      stream = NetRunner.stream!(["sh", "-c", "exec >&-; " <> script], opts)
      streamed = Task.async(fn -> :timer.tc(fn -> catch_error(Enum.to_list(stream)) end) end)
      {us, {:ok, result}} = :timer.tc(fn -> exec(script, opts) end)
      assert result.cause == :idle_timeout
      assert us in 4_100_000..7_900_000
      {us, error} = Task.await(streamed, 60_000)
      assert %NetRunner.Error{reason: :timeout} = error
      assert us in 4_100_000..7_900_000
    end

    on_backends "of one that writes without an end within its time" do
      assert {:ok, %{cause: :timeout, stdout: stdout, truncated?: true}} =
               NetRunner.exec(["yes"],
                 timeout: 1_000,
                 idle_timeout: 60_000,
                 max_output_size: 1000,
                 overflow: :tail,
                 backend: backend
               )

      assert stdout == String.duplicate("y\n", 500)
    end

    on_backends "of one that wrote more than it may" do
      assert {:ok, %{cause: :output_limit, stdout: "yyyyy", truncated?: true} = result} =
               exec("yes y | tr -d '\\n'", max_output_size: 5, backend: backend)

      refute Result.ok?(result)
    end

    on_backends "of one that wrote more than it may, and had ended before that was seen" do
      me = self()

      input = fn sink ->
        send(me, {:feeder, self()})
        receive(do: (:go -> Enum.into(["\n"], sink)))
      end

      opts = [input: input, into: %Teller{to: me}, max_output_size: 50, backend: backend]
      task = Task.async(fn -> exec("echo $$; read x; printf %100s", opts) end)
      assert_receive {:feeder, feeder}, 5_000
      assert_receive {:element, os_pid}, 5_000

      # Who reads sleeps through it.
      :erlang.suspend_process(task.pid)
      send(feeder, :go)
      gone? = fn -> not running?(os_pid |> String.trim() |> String.to_integer()) end
      eventually("the command has ended", 5_000, gone?)
      :erlang.resume_process(task.pid)

      assert {:ok, %{cause: :output_limit, exit: {:exited, 0}, stdout: [^os_pid, rest]}} =
               Task.await(task)

      assert byte_size(os_pid <> rest) == 50
    end

    @tag :slow
    test "of one that closed its output and runs on, within its time" do
      assert {:ok, %{cause: :timeout, stdout: "x"}} =
               exec("printf x; exec >&-; sleep 60", timeout: 1_000)

      assert {:ok, %{cause: :exited}} = exec("exec >&-; sleep 0.1", timeout: 60_000)
    end

    @tag :subreaper
    test "counts the background processes that had to be killed" do
      assert {:ok, %{orphans_killed: 2, exit: {:exited, 0}, stdout: "x"}} =
               exec("sleep 60 & sleep 60 & printf x", drain_timeout: 50)
    end

    on_backends "of a command whose guardian was killed has what was read" do
      me = self()

      into = %Teller{to: me}
      task = Task.async(fn -> exec("echo $PPID; exec sleep 60", into: into, backend: backend) end)
      assert_receive {:element, ppid}, 5_000
      {_, 0} = System.cmd("kill", ["-KILL", String.trim(ppid)])

      assert {:ok, %{cause: :guardian_lost, exit: nil, rusage: nil, stdout: [^ppid]} = result} =
               Task.await(task)

      assert Result.status(result) == nil
      refute Result.ok?(result)
    end

    on_backends "of a command whose guardian was killed there is none for run, run! and streams" do
      me = self()
      cmd = ["sh", "-c", "echo words >&2; echo $PPID; exec sleep 60"]
      kill = &({_, 0} = System.cmd("kill", ["-KILL", String.trim(&1)]))

      # Calls, in a process of its own, what is given the first piece of output before its guardian is killed.
      lose = fn call ->
        task = Task.async(fn -> call.(into: %Teller{to: me}, backend: backend) end)
        assert_receive {:element, ppid}, 5_000
        kill.(ppid)
        {ppid, Task.await(task)}
      end

      assert {_ppid, {:error, :guardian_lost}} = lose.(&NetRunner.run(cmd, &1))

      for call <- [&NetRunner.run!/2, &NetRunner.exec!/2] do
        {ppid, error} = lose.(&assert_raise(ExitError, fn -> call.(cmd, &1) end))
        assert %{cause: :guardian_lost, exit: nil, status: nil, stderr: "words\n"} = error
        assert %Result{cause: :guardian_lost, stdout: [^ppid]} = error.result
        assert Exception.message(error) =~ "its guardian was lost"
      end

      for opts <- [[], [exit: :ignore], [exit: :element], [ok: [0, 137]]],
          stream = [backend: backend] ++ opts,
          enum <- [NetRunner.stream!(cmd, stream), elem(NetRunner.stream(cmd, stream), 1)] do
        error = assert_raise NetRunner.Error, fn -> Enum.each(enum, kill) end
        assert %{reason: :guardian_lost, cmd: ^cmd, stderr: "words\n"} = error
      end
    end

    test "is an error only where nothing ran" do
      assert NetRunner.exec(["no-such-program"]) == {:error, :enoent}
      assert NetRunner.exec(["true"], cd: "/no/such") == {:error, {:cd, :enoent}}
      assert {:error, {:invalid_cmd, _}} = NetRunner.exec([])
      assert {:error, {:invalid, :lines, _}} = NetRunner.exec(["true"], lines: "")
    end

    # A pipe whose handle is closed, or used by another, fails as one does that the kernel has trouble with.
    on_backends "has what was read of a command whose output could not be read to its end" do
      into = %Teller{to: self()}

      for call <- [&NetRunner.exec/2, &NetRunner.run/2, &NetRunner.exec!/2, &NetRunner.run!/2] do
        back_at_baseline(fn ->
          task =
            told(call, "echo why >&2; echo half; exec sleep 60", into: into, backend: backend)

          assert_receive {:element, "half\n"}, 5_000
          NetRunner.Nif.close(server_of(task).counted.stdout)

          case Task.await(task) do
            {:ok, result} ->
              assert %{stdout: ["half\n"], stderr: "why\n", cause: :io_error, error: :closed} =
                       result

              assert {:signaled, :sigterm} = result.exit
              refute Result.ok?(result)
              assert_received :done

            {:raised, error} ->
              assert %NetRunner.Error{reason: :closed, cmd: ["sh" | _], stderr: "why\n"} = error

            plain ->
              assert plain == {:error, :closed}
          end
        end)
      end
    end

    on_backends "has what was read of a command whose input could not be written" do
      me = self()

      input = fn sink ->
        send(me, {:feeder, self()})
        receive(do: (:go -> Enum.into(["too late\n"], sink)))
      end

      for {call, answer} <- [{&NetRunner.exec/2, :result}, {&NetRunner.run/2, {:error, :busy}}] do
        opts = [input: input, into: %Teller{to: me}, backend: backend]

        back_at_baseline(fn ->
          task = told(call, "echo half; exec sleep 60", opts)
          assert_receive {:feeder, feeder}, 5_000
          assert_receive {:element, "half\n"}, 5_000
          stdin = server_of(task).counted.stdin

          assert {:error, {:timeout, _}} =
                   NetRunner.Pipe.write(stdin, blob(), NetRunner.Pipe.deadline(50))

          # The pipe is full, and another waits for room in it.
          ref = make_ref()
          assert :again = NetRunner.Nif.write(stdin, ["x"], ref)
          send(feeder, :go)

          case Task.await(task) do
            {:ok, result} -> assert %{stdout: ["half\n"], cause: :io_error, error: :busy} = result
            plain -> assert plain == answer
          end

          NetRunner.Pipe.cancel(stdin, ref)
        end)
      end
    end

    on_backends "has what was read of a command whose server was killed" do
      for call <- [&NetRunner.exec/2, &NetRunner.run/2] do
        back_at_baseline(fn ->
          task =
            told(call, "echo half; exec sleep 60", into: %Teller{to: self()}, backend: backend)

          assert_receive {:element, "half\n"}, 5_000
          %{pid: server, os_pid: os_pid} = server_of(task)
          Process.exit(server, :kill)

          case Task.await(task) do
            {:ok, result} ->
              assert %{stdout: ["half\n"], cause: :guardian_lost, error: :closed, exit: nil} =
                       result

              assert %{os_pid: ^os_pid, cmd: ["sh" | _], rusage: nil} = result
              assert result.stats.stdout.bytes == 5

            plain ->
              assert plain == {:error, :closed}
          end
        end)
      end
    end

    @tag :slow
    on_backends "has what was read of a command that nobody can kill" do
      calls = [
        {&NetRunner.exec/2, [], :unkillable},
        {&NetRunner.exec/2, [timeout: 1_000], :timeout},
        {&NetRunner.run/2, [], nil},
        {&NetRunner.exec!/2, [], nil}
      ]

      back_at_baseline(fn ->
        at_once(
          for {call, given, cause} <- calls, do: fn -> outlive(call, given, cause, backend) end
        )
      end)
    end

    # As root nothing here survives SIGKILL: the report is put into the server (process_test.exs).
    defp outlive(call, given, cause, backend) do
      opts = [into: %Teller{to: self()}, kill_timeout: 100, backend: backend] ++ given
      task = told(call, "echo why >&2; echo half; exec sleep 60", opts)
      assert_receive {:element, "half\n"}, 5_000
      %{pid: server, os_pid: os_pid, counted: counted} = server_of(task)

      eventually("stderr has come", fn ->
        NetRunner.Process.stderr_tail(server) == {:ok, "why\n"}
      end)

      guardian = :sys.get_state(server).guardian_pid
      {_, 0} = System.cmd("kill", ["-STOP", to_string(guardian)])
      :sys.replace_state(server, &%{&1 | unkillable: [os_pid]})
      if given == [], do: NetRunner.Nif.finish(counted.stdout)

      case Task.await(task, 15_000) do
        {:ok, result} ->
          assert %{stdout: ["half\n"], stderr: "why\n", exit: nil, rusage: nil} = result
          assert %{cause: ^cause, error: {:unkillable, [^os_pid]}, os_pid: ^os_pid} = result
          assert result.stats.stdout.bytes == 5
          refute Result.ok?(result)

        {:raised, error} ->
          assert %NetRunner.Error{reason: {:unkillable, [^os_pid]}, stderr: "why\n"} = error

        plain ->
          assert plain == {:error, {:unkillable, [os_pid]}}
      end

      {_, 0} = System.cmd("kill", ["-CONT", to_string(guardian)])
    end

    on_backends "is none, but the exception of its input, also of a command that nobody can kill" do
      me = self()

      input = fn _sink ->
        send(me, {:feeder, self()})
        receive(do: (:go -> raise "the input's own"))
      end

      stream = fn cmd, opts -> cmd |> NetRunner.stream!(opts) |> Enum.to_list() end

      for call <- [&NetRunner.exec/2, &NetRunner.run/2, stream] do
        back_at_baseline(fn ->
          opts = [input: input, kill_timeout: 60_000, backend: backend]
          task = told(call, "exec sleep 60", opts)
          assert_receive {:feeder, feeder}, 5_000
          %{pid: server, os_pid: os_pid, counted: counted} = server_of(task)
          guardian = to_string(:sys.get_state(server).guardian_pid)
          {_, 0} = System.cmd("kill", ["-STOP", guardian])
          send(feeder, :go)

          eventually("it has raised", fn ->
            match?({:raised, _, _, _}, :sys.get_state(server).fed)
          end)

          :sys.replace_state(server, &%{&1 | unkillable: [os_pid]})
          NetRunner.Nif.finish(counted.stdout)
          assert {:raised, %RuntimeError{message: "the input's own"}} = Task.await(task, 15_000)
          {_, 0} = System.cmd("kill", ["-CONT", guardian])
        end)
      end
    end

    # Runs a script in a task, which gives what is raised as well.
    defp told(call, script, opts) do
      Task.async(fn ->
        try do
          call.(["sh", "-c", script], opts)
        rescue
          error -> {:raised, error}
        end
      end)
    end

    # What is known of the command that this task runs.
    defp server_of(%{pid: task}) do
      [%{pid: server}] = Enum.filter(NetRunner.list(), &(&1.owner == task))
      {:ok, pipes} = NetRunner.Process.pipes(server)
      Map.put(pipes, :pid, server)
    end

    defp blob, do: :binary.copy("x", 2_000_000)

    on_backends "stderr is what the option says" do
      exec = &exec(&1, [backend: backend] ++ &2)
      script = "printf 0123456789 >&2"
      assert {:ok, %{stderr: "0123456789", truncated?: false}} = exec.(script, stderr: :capture)
      assert {:ok, %{stderr: "789", truncated?: true}} = exec.(script, stderr_tail_bytes: 3)

      assert {:ok, %{stderr: "0123456789", truncated?: false}} =
               exec.(script, stderr_tail_bytes: 10)

      assert {:ok, %{stderr: "", stdout: "0123456789"}} = exec.(script, stderr: :merge)
      assert {:ok, %{stderr: ""}} = exec.(script, stderr: :discard)

      assert {:ok, %{stderr: "0123", truncated?: true, cause: :output_limit}} =
               exec.(script, stderr: :capture, max_output_size: 4)

      assert {:ok, %{stderr: "6789", truncated?: true, cause: :exited}} =
               exec.(script, stderr: :capture, max_output_size: 4, overflow: :tail)
    end
  end

  describe "into:" do
    on_backends "any collectable, and the chunks as they came" do
      cmd = ["printf", "a\\nb\\n"]
      assert NetRunner.run(cmd, into: "", backend: backend) == {"a\nb\n", 0}
      assert NetRunner.run(cmd, into: "before ", backend: backend) == {"before a\nb\n", 0}
      assert NetRunner.run(cmd, into: [], lines: true, backend: backend) == {["a", "b"], 0}
      assert NetRunner.run(cmd, lines: true, backend: backend) == {["a", "b"], 0}
      assert NetRunner.run(cmd, into: "", lines: true, backend: backend) == {"ab", 0}

      assert NetRunner.run(cmd, into: MapSet.new(), lines: true, backend: backend) ==
               {MapSet.new(["a", "b"]), 0}

      {chunks, 0} = NetRunner.run(["seq", "100000"], into: :iodata, backend: backend)
      assert length(chunks) > 1
      assert IO.iodata_to_binary(chunks) == Enum.map_join(1..100_000, &"#{&1}\n")
      assert NetRunner.run(["true"], into: :iodata, backend: backend) == {[], 0}
    end

    on_backends "a file, nothing of it in memory at once" do
      path = tmp_path("out")
      opts = [into: File.stream!(path), backend: backend]
      assert {%File.Stream{}, 0} = NetRunner.run(["seq", "1000"], opts)
      assert File.read!(path) == Enum.map_join(1..1000, &"#{&1}\n")
    end

    on_backends "a collectable is done once, or halted once if the run is left by an exception" do
      opts = [into: %Teller{to: self()}, backend: backend]
      assert {["a\n"], 0} = NetRunner.run(["echo", "a"], opts)
      assert_received :done
      refute_received {:halt, _elements}

      back_at_baseline(fn ->
        assert_raise RuntimeError, "the collectable's own", fn ->
          # Each comes as an element of its own, "raise\n" as well.
          NetRunner.run(["printf", "a\\n-b\\n-raise\\n-c\\n"], [lines: "-"] ++ opts)
        end
      end)

      assert_received {:halt, ["a\n", "b\n"]}
      refute_received {:halt, _again}
      refute_received :done
    end

    on_backends "a collectable is halted with what it has, if the input raises or there is no result" do
      me = self()

      back_at_baseline(fn ->
        run =
          Task.async(fn ->
            input =
              Stream.map(1..2, fn
                1 -> "a\n"
                2 -> send(me, {:feeder, self()}) && receive(do: (:go -> raise "the input's own"))
              end)

            opts = [into: %Teller{to: me}, input: input, backend: backend]
            catch_error(NetRunner.run(["cat"], opts))
          end)

        assert_receive {:feeder, feeder}, 5_000
        assert_receive {:element, "a\n"}, 5_000
        send(feeder, :go)
        assert %RuntimeError{message: "the input's own"} = Task.await(run)
      end)

      assert_received {:halt, ["a\n"]}
      refute_received {:halt, _again}
      refute_received :done

      output = Output.new(%Teller{to: me}, %{stdout: nil}, :plain, :infinity, :kill)
      {:ok, output} = Output.add(output, :stdout, "a\n")

      assert Output.or_halt(output, fn -> {:ok, :fine} end) == {:ok, :fine}
      refute_received {:halt, _elements}
      assert_raise RuntimeError, fn -> Output.or_halt(output, fn -> raise "the end" end) end
      assert_received {:halt, ["a\n"]}
    end
  end

  describe "overflow:" do
    on_backends ":head and :tail keep exactly that end, and the command finishes" do
      all = Enum.map_join(1..200_000, &"#{&1}\n")
      size = byte_size(all)
      cmd = ["sh", "-c", "seq 200000; exit 3"]

      for limit <- [0, 1, 4095, 65_536, 65_537, 300_001, size - 1] do
        opts = [max_output_size: limit, backend: backend]
        assert NetRunner.run(cmd, [overflow: :head] ++ opts) == {binary_part(all, 0, limit), 3}

        assert NetRunner.run(cmd, [overflow: :tail] ++ opts) ==
                 {binary_part(all, size, -limit), 3}
      end

      for limit <- [size, size + 1, :infinity], overflow <- [:head, :tail, :kill] do
        opts = [max_output_size: limit, overflow: overflow, backend: backend]
        assert {:ok, %{stdout: ^all, truncated?: false}} = NetRunner.exec(cmd, opts)
      end
    end

    test "a kept tail does not hold the whole output" do
      binary_memory = fn -> :erlang.memory(:binary) end
      before = binary_memory.()
      test = self()

      watcher =
        Task.async(fn ->
          Enum.reduce_while(Stream.cycle([:ok]), 0, fn :ok, most ->
            receive do
              :enough -> {:halt, most}
            after
              5 -> {:cont, max(most, binary_memory.() - before)}
            end
          end)
        end)

      cmd = ["head", "-c", "200000000", "/dev/zero"]
      {tail, 0} = NetRunner.run(cmd, max_output_size: 1000, overflow: :tail)
      send(watcher.pid, :enough)
      assert tail == :binary.copy(<<0>>, 1000)
      # Chunks that wait for the garbage collector are a few dozen; the output would be 200 MB.
      assert Task.await(watcher) < 60_000_000
      assert Process.alive?(test)
    end

    on_backends "cuts lines where it cuts bytes" do
      opts = [lines: true, max_output_size: 3, backend: backend]
      run = &NetRunner.run(["seq", "3"], opts ++ &1)
      assert run.(overflow: :head) == {["1", "2"], 0}
      assert run.(overflow: :tail) == {["", "3"], 0}
      assert run.([]) == {:error, {:max_output_exceeded, ["1", "2"]}}
    end
  end

  describe "lines:" do
    on_backends "of run and exec, with any separator, whatever the chunks are" do
      numbers = Enum.map(1..50_000, &to_string/1)
      run = &NetRunner.run(["cat"], [input: &1, backend: backend] ++ &2)

      for separator <- ["\n", "\r", "\r\n", <<0>>, "--", <<255, 254>>] do
        given = Enum.join(numbers, separator)
        assert run.(given, lines: separator) == {numbers, 0}
        assert run.(given <> separator, lines: separator) == {numbers, 0}
      end

      assert run.("", lines: true) == {[], 0}
      assert run.("\n", lines: true) == {[""], 0}
    end

    on_backends "that are too long, by each policy" do
      run = &NetRunner.run(["printf", "a\\nlong line\\nb"], [lines: true, backend: backend] ++ &1)
      assert run.(max_line_length: {4, :split}) == {["a", "long", " lin", "e", "b"], 0}
      assert run.(max_line_length: {4, :truncate}) == {["a", "long", "b"], 0}
      assert run.(max_line_length: {9, :error}) == {["a", "long line", "b"], 0}
      assert run.(max_line_length: {8, :error}) == {:error, {:line_too_long, 8}}
    end

    on_backends "an endless line ends the command" do
      cmd = ["sh", "-c", "echo first; tr '\\0' x < /dev/zero"]
      opts = [lines: true, max_line_length: {100_000, :error}, backend: backend]

      back_at_baseline(fn ->
        assert NetRunner.run(cmd, opts) == {:error, {:line_too_long, 100_000}}
        assert {:ok, %{stdout: ["first"], cause: :output_limit}} = NetRunner.exec(cmd, opts)
      end)
    end

    on_backends "whether lines were cut is told" do
      opts = [lines: true, backend: backend]
      cmd = ["printf", "12345\\n123"]
      exec = &NetRunner.exec(cmd, [max_line_length: {&1, &2}] ++ opts)
      assert {:ok, %{truncated?: true, stdout: ["1234", "123"]}} = exec.(4, :truncate)
      assert {:ok, %{truncated?: false, stdout: ["12345", "123"]}} = exec.(5, :truncate)
      assert {:ok, %{truncated?: false}} = exec.(4, :split)
    end
  end

  describe "run! and exec!" do
    on_backends "give what the plain forms give where it went well" do
      assert NetRunner.run!(["echo", "x"], backend: backend) == {"x\n", 0}
      both = ["sh", "-c", "echo x; echo y >&2"]
      assert NetRunner.run!(both, stderr: :capture, backend: backend) == {"x\n", 0, "y\n"}

      assert %Result{stdout: "x\n", cause: :exited} =
               NetRunner.exec!(["echo", "x"], backend: backend)

      assert NetRunner.run!(["sh", "-c", "exit 3"], ok: [3, 4], backend: backend) == {"", 3}
      assert %{exit: {:exited, 4}} = NetRunner.exec!(["sh", "-c", "exit 4"], ok: [3, 4])
    end

    for {name, call} <- [run!: &NetRunner.run!/2, exec!: &NetRunner.exec!/2] do
      @call call
      test "#{name} raises an ExitError for every other end, with the whole result" do
        fails = fn script, opts ->
          assert_raise ExitError, fn -> @call.(["sh", "-c", script], opts) end
        end

        error = fails.("echo out; echo err >&2; exit 3", [])
        assert %{exit: {:exited, 3}, status: 3, cause: :exited, stderr: "err\n"} = error
        assert %Result{stdout: "out\n", exit: {:exited, 3}} = error.result
        assert %{exit: {:exited, 0}, status: 0} = fails.("exit 0", ok: [])
        assert %{exit: {:signaled, :sigkill}, status: 137} = fails.("kill -9 $$", [])
        assert %{cause: :idle_timeout} = fails.("exec sleep 60", idle_timeout: 50)
        error = fails.("printf 1234", max_output_size: 2)
        assert %{cause: :output_limit, result: %{stdout: "12"}} = error

        for_a_second = [timeout: 1_000]

        at_once([
          fn ->
            assert %{cause: :timeout, status: 143} = fails.("exec sleep 60", for_a_second)
          end,
          # An exit code that is fine does not make a command fine that was stopped.
          fn ->
            assert %{cause: :timeout} =
                     fails.("trap 'exit 0' TERM; sleep 60 & wait", for_a_second)
          end
        ])
      end

      test "#{name} raises an Error for what did not run" do
        for {cmd, opts, reason} <- [
              {["no-such-program"], [], :enoent},
              {["true"], [cd: "/no/such"], {:cd, :enoent}},
              {["cat"], [input: {:file, "/no/such"}], {:file, "/no/such", :enoent}}
            ] do
          error = assert_raise NetRunner.Error, fn -> @call.(cmd, opts) end
          assert %{reason: ^reason, cmd: ^cmd} = error
        end

        assert_raise NetRunner.Error, ~r/invalid command/, fn -> @call.([], []) end
      end
    end

    test "an exception of the input is the caller's own" do
      for call <- [&NetRunner.run!/2, &NetRunner.exec!/2, &NetRunner.exec/2] do
        assert_raise RuntimeError, "mine", fn ->
          call.(["cat"], input: Stream.map(1..2, fn _ -> raise "mine" end))
        end
      end
    end
  end
end
