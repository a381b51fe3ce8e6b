defmodule NetRunner.PipelineTest do
  # pipeline/1: commands that the kernel joins, run as one. What it passes on, what each stage is given, how it ends, and that
  # nothing of any of them is left. (Which result decides is pipefail_test.exs's.)
  use NetRunner.Test.Case

  import NetRunner,
    only: [
      exec: 1,
      exec: 2,
      exec!: 2,
      pipeline: 1,
      run: 1,
      run: 2,
      run!: 1,
      run!: 2,
      stream: 1,
      stream!: 1,
      stream!: 2
    ]

  alias NetRunner.{Command, Executable, Pipeline}

  doctest NetRunner.Pipeline

  defp sh(script), do: ["sh", "-c", script]
  defp exits(result), do: Enum.map(result.stages, & &1.exit)

  describe "what goes through" do
    on_backends "comes out whole, in order, of any length" do
      bytes = :crypto.strong_rand_bytes(3_000_001)
      cats = pipeline([["cat"], ["cat"], ["cat"]])
      assert run(cats, input: bytes, backend: backend) == {bytes, 0}
      assert cats |> stream!(input: bytes, backend: backend) |> Enum.join() == bytes
    end

    on_backends "waits for its reader: an endless writer is held by whoever reads slowly" do
      endless = pipeline([["yes"], ["cat"], ["head", "-c", "10000000"]])
      assert {output, 0} = run(endless, backend: backend)
      assert byte_size(output) == 10_000_000

      [first | _] = endless |> stream!(backend: backend) |> Enum.take(1)
      assert "y\ny\n" <> _ = first
    end

    test "never comes into the BEAM" do
      {:ok, result} =
        exec(pipeline([["head", "-c", "5000000", "/dev/zero"], ["cat"], ["wc", "-c"]]))

      assert result.stdout == "5000000\n"
      assert [first, second, _last] = result.stages
      assert {first.stats.stdout, second.stats.stdin, second.stats.stdout} == {nil, nil, nil}
    end

    test "from file to file, nothing at all does" do
      [from, to] = [tmp_path("from"), tmp_path("to")]
      bytes = :crypto.strong_rand_bytes(1_000_000)
      File.write!(from, bytes)

      {:ok, result} =
        exec(pipeline([["cat"], ["gzip"], ["gunzip"]]), input: {:file, from}, stdout: {:file, to})

      assert File.read!(to) == bytes
      assert result.stats == %{stdin: nil, stdout: nil, stderr: nil}

      for %{stats: %{stderr: stderr} = stats} <- result.stages do
        assert stderr.bytes == 0
        assert %{stats | stderr: nil} == %{stdin: nil, stdout: nil, stderr: nil}
      end
    end

    @tag :slow
    test "goes through pipes of a megabyte, however many there were before" do
      # More than there is room for at the same time.
      for _ <- 1..300, do: assert(run(pipeline([["true"], ["true"]])) == {"", 0})
      {said, 0} = run(pipeline([["true"], [fixture("pipe_size")]]))
      assert said in ["1048576\n", "262144\n", "65536\n"]

      # A normal user's may be full for what others do, and the portable build's are as they were made.
      if System.cmd("id", ["-u"]) == {"0\n", 0} and NetRunner.Nif.build() == :io_uring,
        do: assert(said == "1048576\n")
    end
  end

  describe "each command" do
    test "has 0, 1 and 2 and no other descriptor" do
      {listed, 0} =
        run(
          pipeline([
            sh("ls /proc/self/fd"),
            sh("cat; ls /proc/self/fd"),
            sh("cat; ls /proc/self/fd")
          ])
        )

      # 3 is the directory that ls reads.
      assert listed == String.duplicate("0\n1\n2\n3\n", 3)
    end

    test "has a session and a guardian of its own" do
      ids = sh("cat; ps -o sid=,ppid= -p $$")

      # The first waits for an input, too, which comes when all of them run: one that has ended leaves its guardian to the next.
      {said, 0} = run(pipeline([ids, ids, ids]), input: ["\n"])
      [a, b, c, d, e, f] = said |> String.split() |> Enum.map(&String.to_integer/1)
      assert length(Enum.uniq([a, b, c, d, e, f])) == 6
    end

    test "has the call's options, unless it has its own" do
      show = fn opts ->
        Command.new("sh", ["-c", "cat; echo $A in $PWD, umask $(umask)"], opts)
      end

      stages = pipeline([show.([]), show.(env: [A: "own"]), show.(cwd: "/", umask: 0o77)])

      assert run(stages, env: [A: "given"], cd: "/tmp", umask: 0o27) ==
               {"given in /tmp, umask 0027\nown in /tmp, umask 0027\ngiven in /, umask 0077\n", 0}
    end

    on_backends "has its own options rather than the call's, however many there are" do
      show = ["-c", "cat; echo $A in $PWD; echo err >&2; exit 3"]
      own = [env: [A: "own"], cwd: "/", stderr: :merge, ok: [3], input: "its own,"]
      command = Command.new("sh", show, own)
      opts = [env: [A: "given"], cd: "/tmp", stderr: :discard, ok: [0], backend: backend]

      for stages <- [[command], [command, ["cat"]]] do
        assert {"its own,own in /\nerr\n", _status} = run!(pipeline(stages), opts)

        # What it reads and writes at the ends is the whole's: there the call's win.
        assert {"the call's,own in /\nerr\n", _status} =
                 run!(pipeline(stages), [input: "the call's,"] ++ opts)
      end

      # A plain command's are the defaults of the call's.
      assert {"its own,given in /tmp\n", 3} = run(command, Keyword.delete(opts, :ok))
    end

    test "alone in a pipeline leaves the whole its form" do
      quiet = Command.new("sh", ["-c", "echo out; echo err >&2"], stderr: :discard)
      both = fn opts -> for more <- [[], [["cat"]]], do: run(pipeline([quiet | more]), opts) end
      assert both.(stderr: :capture) == [{"out\n", 0, ""}, {"out\n", 0, ""}]
      assert both.(stderr: :tagged) == [{[stdout: "out\n"], 0}, {[stdout: "out\n"], 0}]

      # What comes here is the whole's, and so the call's to say.
      apart = Command.put_opts(quiet, stderr: :capture, timeout: 20_000)
      assert run(pipeline([apart])) == {"out\n", 0, "err\n"}
      assert run(pipeline([apart]), stderr: :merge, timeout: 10_000) == {"out\nerr\n", 0}
    end

    test "may be a template's, and pipelines may stand in pipelines" do
      inner = pipeline([Command.new("sort", ["-n"]), ["uniq"]])
      assert %Pipeline{stages: [_, _, _, _]} = whole = pipeline([["cat"], inner, ["tac"]])
      assert run(whole, input: "2\n10\n2\n") == {"10\n2\n", 0}
      assert run(pipeline([inner]), input: "2\n10\n2\n") == {"2\n10\n", 0}
    end

    test "is in list/0 while it runs" do
      task = Task.async(fn -> run(pipeline([["sleep", "60"], ["cat"]]), timeout: 10_000) end)
      mine = fn -> Enum.filter(NetRunner.list(), &(&1.owner == task.pid)) end
      eventually("both are listed", fn -> length(mine.()) == 2 end)
      assert Enum.map(mine.(), & &1.cmd) == [["sleep", "60"], ["cat"]]
      Task.shutdown(task, :brutal_kill)
    end

    test "that is a tee is known in list/0 by what its copy is" do
      copy = tmp_path("copy")
      stages = [["sleep", "60"], {:tee, copy}, {:tee, ["cat", "-u"]}]
      task = Task.async(fn -> run(pipeline(stages), timeout: 10_000) end)
      mine = fn -> Enum.filter(NetRunner.list(), &(&1.owner == task.pid)) end
      eventually("all are listed", fn -> length(mine.()) == 4 end)

      assert mine.() |> Enum.map(& &1.cmd) |> Enum.sort() ==
               [["cat", "-u"], ["sleep", "60"], ["tee", copy], ["tee", ">(cat -u)"]]

      Task.shutdown(task, :brutal_kill)
    end
  end

  describe "its ends" do
    on_backends "take every form of input:" do
      path = tmp_path("input")
      File.write!(path, "from a file")
      through = pipeline([["cat"], ["cat"]])

      for {input, output} <- [
            {"bytes", "bytes"},
            {["io", [?d, "ata"]], "iodata"},
            {Stream.map(1..3, &to_string/1), "123"},
            {fn sink -> Enum.into(["a", "sink"], sink) end, "asink"},
            {{:file, path}, "from a file"},
            {:null, ""}
          ] do
        assert run(through, input: input, backend: backend) == {output, 0}
      end
    end

    test "may be given to the commands that have them" do
      to = tmp_path("to")
      first = Command.new("cat", [], input: "its own", input_buffer: 10)
      last = Command.new("cat", [], stdout: {:file, to})
      assert run(pipeline([first, ["cat"], last]), timeout: 10_000) == {"", 0}
      assert File.read!(to) == "its own"

      assert run(pipeline([first, ["cat"], last]), input: "the call's", stdout: :pipe) ==
               {"the call's", 0}
    end

    on_backends "give lines, limits, collectables and chunks as those of one command do" do
      numbers = pipeline([["seq", "5"], ["cat"]])
      opts = [backend: backend]
      assert run(numbers, [lines: true] ++ opts) == {~w(1 2 3 4 5), 0}

      assert run(numbers, [lines: true, into: MapSet.new()] ++ opts) ==
               {MapSet.new(~w(1 2 3 4 5)), 0}

      assert run(numbers, [max_output_size: 3] ++ opts) ==
               {:error, {:max_output_exceeded, "1\n2"}}

      assert run(numbers, [max_output_size: 3, overflow: :tail] ++ opts) == {"\n5\n", 0}
      assert numbers |> stream!([max_chunk_size: 3] ++ opts) |> Enum.all?(&(byte_size(&1) <= 3))

      assert numbers |> stream!([exit: :element, lines: true] ++ opts) |> Enum.at(-1) ==
               {:exit, {:exited, 0}}
    end

    on_backends "make a filter of it, with through/2" do
      words = ["b a", " c"]
      split = pipeline([["tr", " ", "\n"], ["sort"]])
      opts = [lines: true, backend: backend]
      assert words |> NetRunner.through(split, opts) |> Enum.to_list() == ["a", "b", "c"]
      # Lazy on both sides.
      endless = Stream.repeatedly(fn -> "y\n" end) |> NetRunner.through(["cat"], opts)
      assert Enum.take(endless, 2) == ["y", "y"]

      assert_raise RuntimeError, "boom", fn ->
        Stream.map(["a"], fn _ -> raise "boom" end)
        |> NetRunner.through(split, opts)
        |> Stream.run()
      end

      assert_raise ArgumentError, ~r/:input cannot be given/, fn ->
        NetRunner.through(words, ["cat"], input: "x")
      end
    end
  end

  # A feeder that has raised, until the server of its command leaves.
  defp hold_while_it_stops_others(held) do
    receive do
      {:feeder, feeder} ->
        {:links, [server]} = Process.info(feeder, :links)
        asks = {:current_function, {:gen, :do_call, 4}}

        eventually("it asks others to stop", fn ->
          Process.info(feeder, :current_function) == asks
        end)

        :erlang.suspend_process(feeder)
        File.write!(held, "go\n")
        leaves = {:current_function, {NetRunner.Process.Server, :left?, 3}}

        eventually("its server leaves", 5_000, fn ->
          Process.info(server, :current_function) in [leaves, nil]
        end)

        if Process.alive?(feeder), do: :erlang.resume_process(feeder)
    end
  end

  describe "a function between two commands" do
    on_backends "reads what the one writes, and writes what the other reads" do
      stages = [
        ["seq", "100000"],
        {fn lines ->
           lines |> Stream.filter(&String.ends_with?(&1, "7")) |> Stream.map(&[&1, ?\n])
         end, lines: true},
        ["wc", "-l"]
      ]

      assert {counted, 0} = run(pipeline(stages), backend: backend)
      assert String.trim(counted) == "10000"
      bytes = :crypto.strong_rand_bytes(2_000_000)
      assert run(pipeline([["cat"], & &1, ["cat"]]), input: bytes, backend: backend) == {bytes, 0}
    end

    test "may follow another one" do
      shout = fn chunks -> Stream.map(chunks, &String.upcase/1) end
      twice = fn chunks -> Stream.flat_map(chunks, &[&1, &1]) end
      assert run(pipeline([["printf", "a"], shout, twice, ["cat"]])) == {"AA", 0}
    end

    test "that follows another one reads its elements as they are, or cut as it asks for" do
      up = fn lines -> Stream.map(lines, &[String.upcase(&1), "!\n"]) end
      letters = ["printf", "a\\nb\\n"]
      assert run(pipeline([letters, & &1, {up, lines: true}, ["cat"]])) == {"A!\nB!\n", 0}

      # Wherever the first one's elements begin and end, and whatever iodata they are.
      odd = fn _chunks -> [[?o, ["n"]], "e\ntw", [], ~c"o\nthr", "ee"] end
      seen = fn elements -> Stream.map(elements, &[inspect(&1), ";"]) end
      assert run(pipeline([letters, odd, seen, ["cat"]])) |> elem(0) =~ ~s([111, ["n"]];)

      assert run(pipeline([letters, odd, {seen, lines: true}, ["cat"]])) ==
               {~s("one";"two";"three";), 0}

      split = {seen, lines: true, max_line_length: {2, :split}}

      assert run(pipeline([letters, odd, split, ["cat"]])) ==
               {~s("on";"e";"tw";"o";"th";"re";"e";), 0}

      # And so may a third one.
      assert run(
               pipeline([
                 letters,
                 {up, lines: true},
                 &Enum.reverse/1,
                 {seen, lines: true},
                 ["cat"]
               ])
             ) ==
               {~s("B!";"A!";), 0}
    end

    on_backends "that follows another one is lazy: it may stop both, and gets lines as they come" do
      back_at_baseline(fn ->
        bytes = fn chunks -> Stream.flat_map(chunks, &for(<<byte <- &1>>, do: <<byte>>)) end
        first = {fn lines -> lines |> Stream.take(2) |> Stream.map(&[&1, ?\n]) end, lines: true}

        {:ok, result} = exec(pipeline([["yes"], bytes, first, ["cat"]]), backend: backend)
        assert {result.stdout, exits(result)} == {"y\ny\n", [signaled: :sigpipe, exited: 0]}
      end)
    end

    test "that follows another one is told of its lines that are too long, behind those before" do
      me = self()
      see = fn lines -> Stream.each(lines, &send(me, {:line, &1})) end

      for last <- ["long\nc\n", "long"] do
        first = fn _chunks -> ["a\nb", ["\n", last]] end
        stages = [["true"], first, {see, lines: true, max_line_length: {3, :error}}, ["cat"]]
        error = assert_raise NetRunner.Error, fn -> run(pipeline(stages)) end
        assert error.reason == {:line_too_long, 3}
        assert_received {:line, "a"}
        assert_received {:line, "b"}
        refute_received {:line, _more}
      end
    end

    on_backends "may have its elements put together to larger writes by buffer:" do
      writes = fn opts ->
        numbers = fn _chunks -> Stream.map(1..5000, &"#{&1}\n") end
        {:ok, result} = exec(pipeline([["true"], {numbers, opts}, ["cat"]]), backend: backend)
        assert result.stdout == Enum.map_join(1..5000, &"#{&1}\n")
        List.last(result.stages).stats.stdin.ops
      end

      assert writes.([]) >= 5000
      assert writes.(buffer: 65_536) < 50
      for size <- [0, 1, 7, 4096], do: writes.(buffer: size)

      # That of the last one: it is what is written.
      same = pipeline([["seq", "5000"], & &1, {& &1, lines: true, buffer: 65_536}, ["wc", "-c"]])
      {:ok, result} = exec(same, backend: backend)
      assert List.last(result.stages).stats.stdin.ops < 50
    end

    test "runs on behalf of the caller, in another process" do
      me = self()

      who = fn chunks ->
        send(me, {:who, self(), Process.get(:"$callers")})
        chunks
      end

      assert run(pipeline([["true"], who, ["cat"]])) == {"", 0}
      assert_receive {:who, pid, [^me | _]} when pid != me
    end

    on_backends "that has enough ends the command before it, as SIGPIPE does" do
      back_at_baseline(fn ->
        {:ok, result} =
          exec(pipeline([["yes"], &Enum.take(&1, 1), ["head", "-c", "2"]]), backend: backend)

        assert {result.stdout, exits(result)} == {"y\n", [signaled: :sigpipe, exited: 0]}
        assert result.exit == {:exited, 0}
        # It need not even look.
        assert {"x", 0} = run(pipeline([["yes"], fn _ -> ["x"] end, ["cat"]]), backend: backend)
      end)
    end

    test "that has enough ends the command before it at once, not when the one behind it ends" do
      stages = pipeline([["yes"], &Enum.take(&1, 1), sh("cat >/dev/null; exec sleep 60")])
      task = Task.async(fn -> run(stages, timeout: 20_000) end)

      eventually("yes has ended, and the shell runs", fn ->
        mine = Enum.filter(NetRunner.list(), &(&1.owner == task.pid))
        Enum.map(mine, &{hd(&1.cmd), &1.state}) == [{"yes", :ended}, {"sh", :running}]
      end)

      Task.shutdown(task, :brutal_kill)
    end

    test "that waits for something else is left with its command" do
      back_at_baseline(fn ->
        # It passes one chunk on, and does not come back with the next.
        once = fn chunk ->
          if Process.put(:passed, true), do: receive(do: (:never -> "")), else: chunk
        end

        stages = pipeline([["yes"], &Stream.map(&1, once), ["head", "-c", "2"]])
        assert run(stages, timeout: 10_000) == {"y\n", 0}
      end)
    end

    @tag :slow
    on_backends "that waits for the command before it is left with the one behind it, without a word" do
      back_at_baseline(fn ->
        slow = ["sh", "-c", "echo x; trap 'exit 5' TERM; sleep 60 & wait"]
        stages = pipeline([slow, & &1, ["head", "-n", "1"]])
        # It is silent, so nothing but the time-out ends it.
        opts = [stderr: :discard, backend: backend]
        assert run(stages, [timeout: 500] ++ opts) == {:error, :timeout}
        quiet = pipeline([["sh", "-c", "echo x; exec sleep 0.3"], & &1, ["head", "-n", "1"]])
        assert run(quiet, [timeout: 10_000] ++ opts) == {"x\n", 0}
        assert quiet |> stream!([idle_timeout: 10_000] ++ opts) |> Enum.join() == "x\n"
      end)
    end

    on_backends "whose command takes no more is left, and the one before it ends" do
      back_at_baseline(fn ->
        assert {"y\n", 0} = run(pipeline([["yes"], & &1, ["head", "-n", "1"]]), backend: backend)
      end)
    end

    on_backends "that raises ends all of it, and the exception is the caller's" do
      back_at_baseline(fn ->
        for before <- [["sleep", "60"], ["yes"], ["true"]] do
          raises = fn _chunks -> raise "boom" end

          assert_raise RuntimeError, "boom", fn ->
            run(pipeline([before, raises, ["cat"]]), backend: backend)
          end

          assert_raise RuntimeError, "boom", fn ->
            pipeline([before, raises, ["cat"]]) |> stream!(backend: backend) |> Stream.run()
          end
        end

        assert catch_throw(run(pipeline([["yes"], fn _ -> throw(:it) end, ["cat"]]))) == :it
      end)
    end

    on_backends "or an input that raises is heard of also if its own command ends while the others are stopped" do
      fifo = tmp_path("stopped")
      {_, 0} = System.cmd("mkfifo", [fifo])
      first = sh("read line; read stopped <#{fifo}")
      ready = tmp_path("ready")
      held = tmp_path("held")
      {_, 0} = System.cmd("mkfifo", [held])

      # It ends once its feeder is held.
      last =
        sh(
          "trap 'echo >#{fifo}; read go <#{held}; exit' TERM; : >#{ready}; while :; do sleep 0.01; done"
        )

      back_at_baseline(fn ->
        stops = Task.async(fn -> hold_while_it_stops_others(held) end)

        breaks =
          Stream.map(1..2, fn
            1 ->
              "1\n"

            2 ->
              eventually("the last one heeds TERM", fn -> File.exists?(ready) end)
              send(stops.pid, {:feeder, self()})
              raise "boom"
          end)

        assert_raise RuntimeError, "boom", fn ->
          run(pipeline([first, last]), input: breaks, backend: backend)
        end

        Task.await(stops)
      end)
    end

    @tag :slow
    on_backends "or an input that raises stops all before any sees an end, and nobody waits" do
      back_at_baseline(fn ->
        path = tmp_path("committed")
        commit = sh("cat >#{path}.tmp && echo done >#{path}")
        breaks = Stream.map(1..3, &if(&1 == 3, do: raise("boom"), else: "#{&1}\n"))
        opts = [backend: backend]

        for {stages, input} <- [
              {[["cat"], ["cat"], commit], breaks},
              {[
                 ["cat"],
                 fn chunks -> Stream.map(chunks, fn _ -> raise "boom" end) end,
                 ["cat"],
                 commit
               ], "x"},
              {[["cat"], ["cat"], {:tee, commit}, ["cat"]], breaks}
            ] do
          assert_raise RuntimeError, "boom", fn ->
            run(pipeline(stages), [input: input] ++ opts)
          end

          refute File.exists?(path)
        end

        began = System.monotonic_time(:millisecond)
        lasts = pipeline([["cat"], sh("cat; exec sleep 60")])
        assert_raise RuntimeError, "boom", fn -> run(lasts, [input: breaks] ++ opts) end

        assert_raise RuntimeError, "boom", fn ->
          lasts |> stream!([input: breaks] ++ opts) |> Stream.run()
        end

        assert System.monotonic_time(:millisecond) - began < 20_000
      end)
    end

    test "that gives something else than iodata says so, and which stage it is" do
      atom = fn _chunks -> [:atom] end
      message = ~r/^stage 2 of the pipeline: an element is not iodata: :atom$/
      lines = {& &1, lines: true}

      for rest <- [[["cat"]], [lines, ["cat"]], [["cat"], & &1, ["cat"]]] do
        assert_raise ArgumentError, message, fn -> run(pipeline([["true"], atom | rest])) end
      end

      # What the last of them gives is written, and the last one's.
      assert_raise ArgumentError, ~r/^stage 3 of the pipeline: .* not iodata: :atom$/, fn ->
        run(pipeline([["true"], & &1, atom, ["cat"]]))
      end

      assert_raise ArgumentError, ~r/^invalid value for :input: an element is not iodata/, fn ->
        run(pipeline([["cat"], & &1, ["cat"]]), input: [:atom])
      end
    end

    test "that gives no enumerable says so, and which stage it is, and not what it gave" do
      for {gives, kind} <- [
            {"secret", "a binary"},
            {:secret, "an atom"},
            {nil, "nil"},
            {17, "a number"},
            {{:secret, 1}, "a tuple"},
            {["secret" | "more"], "an improper list"},
            {URI.parse("http://secret"), "a struct of URI"},
            {&String.length/1, "a function of 1 argument"},
            {self(), "something else"}
          ],
          rest <- [[["cat"]], [& &1, ["cat"]], [{& &1, lines: true}, ["cat"]]] do
        message =
          "stage 2 of the pipeline: the function must give an enumerable of iodata, and gave #{kind}"

        stages = [["true"], fn _chunks -> gives end | rest]
        assert_raise ArgumentError, message, fn -> run(pipeline(stages)) end
      end

      assert_raise ArgumentError, ~r/^stage 3 of the pipeline: .* a binary$/, fn ->
        run(pipeline([["echo", "x"], & &1, &Enum.join/1, ["cat"]]))
      end

      # Functions of two arguments are enumerables.
      given = &Enumerable.reduce(["x"], &1, &2)
      assert run(pipeline([["true"], fn _chunks -> given end, ["cat"]])) == {"x", 0}
    end

    test "is given the lines before the one that is too long" do
      me = self()

      seen =
        {&Stream.each(&1, fn line -> send(me, {:line, line}) end),
         lines: true, max_line_length: {3, :error}}

      error =
        assert_raise NetRunner.Error, fn ->
          run(pipeline([["printf", "a\\nb\\nlong\\nc\\n"], seen, ["cat"]]))
        end

      assert error.reason == {:line_too_long, 3}
      assert Exception.message(error) =~ ~r/^printf .*: a line has more than 3 bytes$/
      assert_received {:line, "a"}
      assert_received {:line, "b"}
      refute_received {:line, _more}
    end

    test "is told of lines that are too long" do
      long = {& &1, lines: true, max_line_length: {3, :error}}

      error =
        assert_raise NetRunner.Error, fn -> run(pipeline([["echo", "long"], long, ["cat"]])) end

      assert Exception.message(error) == "echo long: a line has more than 3 bytes"

      split =
        {&Stream.map(&1, fn line -> [line, ";"] end), lines: true, max_line_length: {3, :split}}

      assert run(pipeline([["echo", "long"], split, ["cat"]])) == {"lon;g;", 0}
    end
  end

  describe "stderr" do
    test "is kept of each, and the whole has that of who decides" do
      say = &sh("cat; echo #{&1} >&2; exit #{&2}")
      {:ok, result} = exec(pipeline([say.("one", 0), say.("two", 3), say.("three", 0)]))
      assert Enum.map(result.stages, & &1.stderr) == ["one\n", "two\n", "three\n"]
      assert {result.stderr, result.exit} == {"two\n", {:exited, 3}}
      assert exits(result) == [exited: 0, exited: 3, exited: 0]
    end

    on_backends "is captured of each, and of all" do
      say = &sh("cat; head -c #{&2} /dev/zero | tr '\\0' #{&1} >&2")
      stages = pipeline([say.("a", 200_000), say.("b", 100_000), say.("c", 1)])
      all = String.duplicate("a", 200_000) <> String.duplicate("b", 100_000) <> "c"
      assert run(stages, stderr: :capture, backend: backend) == {"", 0, all}
      {:ok, result} = exec(stages, stderr: :capture, backend: backend)
      assert Enum.map(result.stages, &byte_size(&1.stderr)) == [200_000, 100_000, 1]
    end

    on_backends "is tagged in a stream, whoever wrote it" do
      stages = pipeline([sh("echo one >&2"), sh("cat; echo out; echo two >&2")])

      assert stages |> stream!(stderr: :tagged, lines: true, backend: backend) |> Enum.sort() ==
               [stderr: "one", stderr: "two", stdout: "out"]
    end

    test "is merged into stdout by the last one, for the call, and by each that has it itself" do
      say = "cat; echo err >&2"
      assert run(pipeline([sh(say), sh(say)]), stderr: :merge) == {"err\n", 0}
      merging = Command.new("sh", ["-c", say], stderr: :merge)
      assert run(pipeline([merging, ["tr", "a-z", "A-Z"]])) == {"ERR\n", 0}
    end

    test "of all may be appended to one file" do
      path = tmp_path("errors")
      say = sh("cat; echo err >&2")
      assert run(pipeline([say, say]), stderr: {:file, path, [:append]}) == {"", 0}
      assert File.read!(path) == "err\nerr\n"

      assert {:error, {:invalid, :stderr, "the commands of a pipeline would overwrite" <> _}} =
               run(pipeline([say, say]), stderr: {:file, path})
    end
  end

  describe "the end" do
    on_backends "is waited for with all of them, and all is told" do
      {:ok, result} =
        exec(pipeline([sh("echo x; sleep 0.2"), ["cat"], ["wc", "-c"]]), backend: backend)

      assert result.stdout == "2\n"
      assert exits(result) == [exited: 0, exited: 0, exited: 0]
      assert result.duration_ms >= 200
      assert result.rusage.minflt == result.stages |> Enum.map(& &1.rusage.minflt) |> Enum.sum()
      assert Enum.all?(result.stages, &(&1.os_pid > 1 and &1.stdout == nil and &1.stages == nil))
      assert exec!(["true"], backend: backend).stages == nil
    end

    @tag :slow
    on_backends "by timeout: is that of all, at the same time" do
      back_at_baseline(fn ->
        stubborn = fixture("ignore_term")
        stages = pipeline([[stubborn], [stubborn], [stubborn]])
        began = System.monotonic_time(:millisecond)
        opts = [timeout: 300, kill_timeout: 1_500, backend: backend]
        assert run(stages, opts) == {:error, :timeout}
        # One grace, not three.
        assert System.monotonic_time(:millisecond) - began < 4_300

        {:ok, result} =
          exec(pipeline([["sleep", "60"], ["cat"]]), timeout: 1_500, backend: backend)

        assert result.cause == :timeout
        assert hd(result.stages).cause == :timeout
      end)
    end

    @tag :slow
    test "is heard of whoever has a longer grace of its own" do
      says_bye =
        Command.new(
          "sh",
          ["-c", "trap 'sleep 2.5; echo bye; exit' TERM; echo x; sleep 60 & wait"],
          kill_timeout: 10_000
        )

      {:ok, result} = exec(pipeline([["true"], says_bye]), timeout: 1_500, kill_timeout: 100)
      assert {result.stdout, result.cause} == {"x\nbye\n", :timeout}
    end

    @tag :slow
    on_backends "by idle_timeout: is that of all" do
      back_at_baseline(fn ->
        silent = pipeline([sh("echo x; exec sleep 60"), ["cat"]])
        {:ok, result} = exec(silent, idle_timeout: 200, backend: backend)
        assert {result.cause, result.stdout} == {:idle_timeout, "x\n"}
        # Words on anybody's stderr are words.
        chatty = pipeline([sh("for i in 1 2 3 4 5 6; do echo x >&2; sleep 0.1; done"), ["cat"]])
        assert {:ok, %{cause: :exited}} = exec(chatty, idle_timeout: 400, backend: backend)
      end)
    end

    on_backends "comes with that of its reader" do
      back_at_baseline(fn ->
        {tag, env} = tag()
        stages = pipeline([["yes"], ["cat"], & &1, ["cat"]])
        assert [_] = stages |> stream!(env: env, backend: backend) |> Enum.take(1)
        assert_gone(tag)

        assert_raise RuntimeError, fn ->
          stages |> stream!(env: env) |> Enum.each(fn _ -> raise "x" end)
        end

        assert_gone(tag)
      end)
    end

    @tag :slow
    test "comes with that of its reader, in one grace" do
      back_at_baseline(fn ->
        stubborn = [fixture("ignore_term")]
        stages = pipeline([stubborn, stubborn, stubborn, ["yes"]])
        began = System.monotonic_time(:millisecond)
        assert [_] = stages |> stream!(kill_timeout: 1_500) |> Enum.take(1)
        assert System.monotonic_time(:millisecond) - began < 4_000
      end)
    end

    on_backends "comes with that of its owner" do
      back_at_baseline(fn ->
        {tag, env} = tag()
        stages = pipeline([["yes"], ["cat"], ["sleep", "60"]])
        {owner, monitor} = spawn_monitor(fn -> run(stages, env: env, backend: backend) end)
        eventually("three of them run", fn -> length(tagged(tag)) == 3 end)
        Process.exit(owner, :kill)
        assert_receive {:DOWN, ^monitor, :process, ^owner, :killed}
        eventually("all are gone", fn -> tagged(tag) == [] end)
      end)
    end

    test "is told where one command's guardian was killed" do
      task = Task.async(fn -> exec(pipeline([["cat"], ["sleep", "60"]]), input: :null) end)

      mine = fn ->
        Enum.filter(NetRunner.list(), &(&1.owner == task.pid and &1.cmd == ["sleep", "60"]))
      end

      [%{os_pid: os_pid}] = eventually("it runs", fn -> mine.() != [] && mine.() end)
      {guardian, 0} = System.cmd("ps", ["-o", "ppid=", "-p", to_string(os_pid)])
      {_, 0} = System.cmd("kill", ["-KILL", String.trim(guardian)])
      assert {:ok, result} = Task.await(task)
      assert {result.cause, result.cmd} == {:guardian_lost, ["sleep", "60"]}
      assert hd(result.stages).exit == {:exited, 0}
    end

    on_backends "comes with the loss of one guardian, wherever it stands" do
      back_at_baseline(fn ->
        sleep = ["sleep", "60"]

        for {stages, opts, place} <- [
              {[sleep, sleep], [], 0},
              {[sleep, sleep], [], 1},
              {[sleep, sleep, ["cat"]], [stdout: :discard], 1},
              {[sleep, {:tee, sleep}, sleep], [], 2},
              {[sleep, {:tee, tmp_path("copy")}, sleep], [], 1},
              {[sleep, & &1, sleep], [], 0}
            ] do
          task = Task.async(fn -> exec(pipeline(stages), [backend: backend] ++ opts) end)
          tees = Enum.count(stages, &match?({:tee, [_ | _]}, &1))
          lost = lose(task.pid, length(Enum.reject(stages, &is_function/1)) + tees, place)
          {:ok, result} = Task.await(task)
          end_left(lost)
          assert {result.cause, result.exit, result.error} == {:guardian_lost, nil, nil}
          assert result.os_pid == lost.os_pid
          {[_lost], others} = Enum.split_with(result.stages, &(&1.cause == :guardian_lost))
          assert Enum.any?(others, &(&1.cause == :stopped))
        end

        for {call, answer} <- [
              {&run/1, {:error, :guardian_lost}},
              {&catch_error(run!(&1)).cause, :guardian_lost},
              {&catch_error(Stream.run(stream!(&1))).reason, :guardian_lost}
            ] do
          task = Task.async(fn -> call.(pipeline([sleep, sleep])) end)
          lost = lose(task.pid, 2, 0)
          assert Task.await(task) == answer
          end_left(lost)
        end
      end)
    end

    test "comes with a guardian that was lost while the others were started" do
      back_at_baseline(fn ->
        fifo = tmp_path("fifo")
        {_, 0} = System.cmd("mkfifo", [fifo])
        waits = Command.new("sleep", ["60"], stdout: {:file, fifo})
        task = Task.async(fn -> run(pipeline([["sleep", "60"], waits])) end)
        lost = lose(task.pid, 1, 0)
        {_, 0} = System.cmd("timeout", ["10", "sh", "-c", ": < #{fifo}"])
        assert Task.await(task) == {:error, :guardian_lost}
        end_left(lost)
      end)
    end

    # Kills the guardian of one of so many commands of this process, and sees that its server has heard of it.
    defp lose(owner, count, place) do
      mine = fn -> Enum.filter(NetRunner.list(), &(&1.owner == owner)) end
      eventually("all of them run", fn -> length(mine.()) == count end)
      %{pid: server} = lost = mine.() |> Enum.sort_by(& &1.os_pid) |> Enum.at(place)
      {_, 0} = System.cmd("kill", ["-KILL", to_string(:sys.get_state(server).guardian_pid)])

      eventually("it is lost", fn ->
        Enum.all?(mine.(), &(&1.pid != server or &1.state == :ended))
      end)

      lost
    end

    # In the portable build a command lives on without its guardian, and nobody knows of it.
    defp end_left(%{os_pid: os_pid}) do
      if File.read("/proc/#{os_pid}/cmdline") == {:ok, "sleep\0" <> "60\0"},
        do: System.cmd("kill", ["-KILL", to_string(os_pid)])
    end

    test "as an exception names the command and the pipeline" do
      error =
        assert_raise NetRunner.ExitError, fn -> run!(pipeline([["true"], ["false"], ["cat"]])) end

      assert error.cmd == ["false"]
      message = Exception.message(error)

      assert message =~
               ~r/^false exited with status 1 after \d+ ms\nin the pipeline true \| false \| cat\n/

      error =
        assert_raise NetRunner.ExitError, fn ->
          pipeline([["false"], ["cat"]]) |> stream!() |> Stream.run()
        end

      assert Exception.message(error) =~ "in the pipeline false | cat"

      # As it was written: with its functions, and what is behind a tee where it stands.
      whole = [sh("exit 3"), & &1, {& &1, lines: true}, {:tee, ["cat", "-u"]}]
      whole = pipeline(whole ++ [{:tee, tmp_path("a copy")}, Command.new("cat")])
      error = assert_raise NetRunner.ExitError, fn -> run!(whole) end
      assert Exception.message(error) =~ "\nin the pipeline #{whole}\n"
      assert {error.cmd, error.pipeline} == {sh("exit 3"), to_string(whole)}

      own = Command.new("sh", ["-c", "exit 3"], cd: "/", env: [OWN: "1"])

      error =
        assert_raise NetRunner.ExitError, fn ->
          run!(pipeline([own, ["cat"]]), cd: "/tmp", env: [CALL: "1"])
        end

      assert {error.cd, error.env} == {"/", ["CALL", "OWN"]} or
               {error.cd, error.env} == {"/", ["OWN"]}

      for {stages, opts} <- [
            {[["false"], Command.new("cat", [], ok: [0, 1])], []},
            {[sh("exit 2"), sh("cat; exit 1")], [ok: [0, 1]]}
          ] do
        assert_raise NetRunner.ExitError, fn -> run!(pipeline(stages), opts) end

        assert_raise NetRunner.ExitError, fn ->
          stages |> pipeline() |> stream!(opts) |> Stream.run()
        end
      end

      assert run!(pipeline([["echo", "x"], Command.new("grep", ["y"], ok: [0, 1]), ["cat"]])) ==
               {"", 0}

      assert run!(pipeline([["echo", "x"], ["grep", "y"]]), ok: [0, 1]) == {"", 1}
      assert run!(pipeline([["echo", "x"], Command.new("grep", ["y"], ok: [0, 1])])) == {"", 1}
    end
  end

  describe "a start that fails" do
    on_backends "leaves nothing running, and says whose it was" do
      back_at_baseline(fn ->
        {tag, env} = tag()
        opts = [env: env, backend: backend]
        assert run(pipeline([["sleep", "60"], ["no-such-program"]]), opts) == {:error, :enoent}
        # What only the child can find: the first one runs by then.
        fails = Command.new("cat", [], cd: "/no-such-directory")
        assert run(pipeline([["sleep", "60"], fails]), opts) == {:error, {:cd, :enoent}}

        error =
          assert_raise NetRunner.Error, fn -> run!(pipeline([["sleep", "60"], fails]), opts) end

        assert error.cmd == ["cat"]
        file = [stdout: {:file, "/no-such-directory/file"}]

        assert {:error, {:file, "/no-such-directory/file", :enoent}} =
                 run(pipeline([["yes"], ["cat"]]), opts ++ file)

        assert_gone(tag)
      end)
    end

    test "closes the pipes that were to join the others, at once" do
      descriptors = fn -> "/proc/self/fd" |> File.ls!() |> length() end
      fails = Command.new("cat", [], cd: "/no-such-directory")
      assert {:error, _} = run(pipeline([["cat"], fails, ["cat"]]), input: :null)
      before = descriptors.()
      # None of them waits for a garbage collection.
      for _ <- 1..20, do: {:error, _} = run(pipeline([["cat"], fails, ["cat"]]), input: :null)
      assert descriptors.() - before < 10
    end

    @tag :slow
    on_backends "is bounded by one spawn_timeout:" do
      [fifo, other] = for name <- ["fifo", "other"], do: tmp_path(name)
      {_, 0} = System.cmd("mkfifo", [fifo, other])
      stages = pipeline([["sleep", "60"], Command.new("cat", [], stdout: {:file, fifo})])

      back_at_baseline(fn ->
        assert run(stages, spawn_timeout: 200, backend: backend) == {:error, :spawn_timeout}
        # Two that wait, the second for somebody who never comes: their time is one.
        waits = for path <- [fifo, other], do: Command.new("cat", [], stderr: {:file, path})
        began = System.monotonic_time(:millisecond)
        # It opens the other end and leaves. A reader of our own might hang in open(2).
        reads = ["timeout", ["2", "sh", "-c", ": <#{fifo}"]]
        opener = Task.async(fn -> receive(do: (:open -> apply(System, :cmd, reads))) end)
        Process.send_after(opener.pid, :open, 2_000)

        assert run(pipeline(waits), spawn_timeout: 3_000, backend: backend, input: :null) ==
                 {:error, :spawn_timeout}

        assert System.monotonic_time(:millisecond) - began < 4_700
        Task.await(opener)
        assert run(stages, timeout: 200, backend: backend) == {:error, :timeout}
      end)
    end

    test "is seen by stream/1 before anything is started" do
      assert stream(pipeline([["yes"], ["no-such-program"]])) == {:error, :enoent}
      assert {:ok, _} = stream(pipeline([["yes"], ["cat"]]))
    end
  end

  describe "what cannot be" do
    test "is an error that names the stage" do
      for {stages, message} <- [
            {[], "a pipeline without a stage"},
            {[& &1, ["cat"]],
             "a pipeline begins with a command: what it reads is given as input:"},
            {[["cat"], & &1],
             "a pipeline that ends with a function: make a stream of it, and call the function"},
            {[["cat"], "cat"],
             "stage 2: expected [executable | arguments] of binaries, got: \"cat\""},
            {[["cat"], {["psql"], env: [TOKEN: "secret"]}],
             "stage 2: expected [executable | arguments] of binaries, got a tuple: options are the call's, or a NetRunner.Command's"},
            {[["cat"], {:tee, {["psql"], env: [TOKEN: "secret"]}}],
             "stage 2: expected [executable | arguments] of binaries, got a tuple: options are the call's, or a NetRunner.Command's"},
            {[["cat"], [["psql"], {:env, [TOKEN: "secret"]}]],
             "stage 2: expected [executable | arguments] of binaries, got a list in the executable's place"},
            {[["cat"], ["ca\0t"]], "stage 2: NUL in the executable's name"}
          ] do
        assert run(pipeline(stages)) == {:error, {:invalid_cmd, message}}
      end

      assert {:error, {:invalid_args, "stage 2: argument 1 contains a NUL byte"}} =
               run(pipeline([["cat"], ["cat", "a\0"]]))

      assert {:error, {:invalid, :pty, "a pipeline has no terminal"}} =
               run(pipeline([["cat"], ["cat"]]), pty: true)

      assert {:error, {:invalid, :arg0, _}} = run(pipeline([["cat"], ["cat"]]), arg0: "dog")
      # One stage is a command like any other.
      assert run(pipeline([["sh", "-c", "echo $0"]]), arg0: "dog") ==
               run(["sh", "-c", "echo $0"], arg0: "dog")

      assert {"/dev/pts/" <> _, 0} = run(pipeline([["tty"]]), pty: true, input: "")

      assert {:error, {:invalid, :cd, "stage 2: the path contains a NUL byte"}} =
               run(pipeline([["cat"], Command.new("cat", [], cd: "a\0b")]))

      assert {:error, {:invalid, :stderr, "stage 2: :capture is for all commands" <> _}} =
               run(pipeline([["cat"], Command.new("cat", [], stderr: :capture)]))

      # Of functions in a row, only the first reads a pipe, and only the last one's elements are written.
      assert run(pipeline([["cat"], & &1, {& &1, max_chunk_size: 3}, ["cat"]])) ==
               {:error,
                {:invalid, :max_chunk_size,
                 "stage 3: a function behind another one reads its elements, and no chunks"}}

      assert run(pipeline([["cat"], {& &1, buffer: 3}, & &1, ["cat"]])) ==
               {:error,
                {:invalid, :buffer,
                 "stage 2: what it gives is read by the next function, and not written"}}

      message = "a pipeline can only be run by run/2, exec/2, stream!/2 and their kin"
      whole = pipeline([["cat"], ["cat"]])
      assert NetRunner.Process.start(whole) == {:error, {:invalid_cmd, message}}
      assert Executable.check_cmd(whole) == {:error, {:invalid_cmd, message}}
    end

    test "names the stage whose own option it is, and none for what the call has given" do
      cat = &Command.new("cat", [], &1)
      nobody = "no-such-user-\n"

      for {stages, opts, option, what} <- [
            {[["cat"], cat.(user: nobody)], [], :user, "stage 2: there is no user"},
            {[["cat"], {:tee, cat.(user: nobody)}], [], :user, "stage 2: there is no user"},
            {[["cat"], cat.(group: nobody)], [user: 0], :user, "is user 0"},
            {[["cat"], ["cat"]], [user: nobody], :user, "there is no user"},
            {[cat.(input: {:file, "a\0"}), ["cat"]], [], :input, "stage 1: the path contains"},
            {[["cat"], ["cat"]], [input: {:file, "a\0"}], :input, "the path contains"},
            {[cat.(input: <<0::2048>>), ["cat"]], [packet: 1], :input, "stage 1: 256 bytes"},
            {[["cat"], ["cat"]], [packet: 1, input: <<0::2048>>], :input, "256 bytes"},
            {[["cat"], cat.(stdout: {:file, ""})], [], :stdout, "stage 2: the path is empty"},
            {[["cat"], {:tee, cat.(stdout: {:file, ""})}], [], :stdout,
             "stage 2: the path is empty"},
            {[["cat"], {& &1, lines: ""}, ["cat"]], [], :lines, "stage 2: the separator is empty"}
          ] do
        assert {:error, {:invalid, ^option, said}} = run(pipeline(stages), opts)
        assert String.starts_with?(said, what)
      end

      # Also what is raised, for its type is wrong.
      for {stages, place, what} <- [
            {[["cat"], cat.(kill_timeout: -1)], 2, "invalid value for :kill_timeout"},
            {[cat.(input: 5), ["cat"]], 1, "invalid value for :input"},
            {[["cat"], cat.(stdout: :x)], 2, "invalid value for :stdout"},
            {[["cat"], cat.(stderr: :pipe)], 2, "invalid value for :stderr"},
            {[["cat"], cat.(ok: 5)], 2, "ok must be"},
            {[["cat"], {:tee, cat.(stdout: :pipe)}], 2, "stdout of a command behind a tee must"},
            {[["cat"], {& &1, 5}, ["cat"]], 2, "the options of a function must be a keyword"},
            {[["cat"], %Command{exe: "cat", opts: 5}], 2, "options must be a keyword list"}
          ] do
        message = ~r/^stage #{place} of the pipeline: #{what}/
        assert_raise ArgumentError, message, fn -> run(pipeline(stages)) end
      end

      assert_raise ArgumentError, ~r/^invalid value for :kill_timeout/, fn ->
        run(pipeline([["cat"], ["cat"]]), kill_timeout: -1)
      end

      # One stage is a command like any other.
      for stages <- [[cat.(stderr: :pipe)], [cat.(kill_timeout: -1)]] do
        assert_raise ArgumentError, ~r/^invalid value for/, fn -> run(pipeline(stages)) end
      end

      env = [cat.(env: [{"A", :secret}]), ["cat"]]
      error = assert_raise ArgumentError, fn -> run(pipeline(env)) end
      refute Exception.message(error) =~ "secret"
    end

    test "is an idle time-out that sees no output, whoever sent that elsewhere" do
      quiet = Command.new("cat", [], stderr: :discard)

      for elsewhere <- [[stdout: :discard], [stdout: {:file, "/dev/null"}]],
          stages <- [[quiet, quiet], [quiet, {:tee, quiet}], [quiet, {:tee, "/dev/null"}]],
          opts = [idle_timeout: 10_000] ++ elsewhere do
        assert {:error, {:invalid, :idle_timeout, "nobody sees" <> _}} =
                 run(pipeline(stages), opts)

        assert {:error, {:invalid, :idle_timeout, _}} = NetRunner.stream(pipeline(stages), opts)
        # One that is heard will do.
        assert run(pipeline([["cat"] | stages]), opts) == {"", 0}
        assert run(pipeline(stages ++ [{:tee, ["cat"]}]), opts) == {"", 0}
      end

      for copied <- [[], [stdout: {:tee, "/dev/null"}]],
          do: assert(run(pipeline([quiet, quiet]), [idle_timeout: 10_000] ++ copied) == {"", 0})
    end

    test "raises where the type is wrong" do
      assert_raise ArgumentError, ~r/made of a list of stages/, fn -> pipeline("cat") end

      assert_raise ArgumentError, ~r/a proper list/, fn ->
        pipeline([["cat"] | ["cat"]] |> then(&[hd(&1) | :x]))
      end

      for {opts, place, why} <- [
            {[input: "x"], 2, ":input, only the first one"},
            {[stdout: :discard], 1, ":stdout, only the last one"},
            {[timeout: 1], 2, ":timeout, only the call"},
            {[spawn_timeout: 1], 2, ":spawn_timeout, only the call"},
            {[lines: true], 2, ":lines, only the call"},
            {[gate: :some], 1, ":gate, only the call"},
            {[pty: true], 1, ":pty: a pipeline has no terminal"},
            {[owner: self()], 1, ":owner: a pipeline's is the process that runs it"},
            {[exit: :ignore], 2, ":exit, and NetRunner.run/2 has none"},
            {[ready: {:tcp, 1}], 2, ":ready, and NetRunner.run/2 has none"},
            {[on_output: :log], 1, ":on_output, and NetRunner.run/2 has none"}
          ] do
        stages = List.replace_at([["cat"], ["cat"]], place - 1, Command.new("cat", [], opts))
        message = ~r/^stage #{place} of the pipeline cannot have the option #{why}$/
        assert_raise ArgumentError, message, fn -> run(pipeline(stages)) end
      end

      # The same of a stream, which has exit: and no timeout:.
      for {opts, why} <- [
            {[exit: :ignore], ", only the call"},
            {[timeout: 1], ", and NetRunner.stream/2 has none"}
          ] do
        stages = pipeline([["cat"], Command.new("cat", [], opts)])

        message =
          "stage 2 of the pipeline cannot have the option #{inspect(opts |> hd() |> elem(0))}#{why}"

        assert_raise ArgumentError, message, fn -> stream!(stages) end
      end

      assert_raise ArgumentError,
                   ~r/^stage 2 of the pipeline: unknown option :bad for a function$/,
                   fn ->
                     run(pipeline([["cat"], {& &1, bad: 1}, ["cat"]]))
                   end

      for bad <- [-1, 16_777_217, :infinity] do
        assert_raise ArgumentError,
                     ~r/^stage 2 of the pipeline: buffer of a function must be/,
                     fn ->
                       run(pipeline([["cat"], {& &1, buffer: bad}, ["cat"]]))
                     end
      end

      assert_raise ArgumentError, ~r/unknown option :bad for NetRunner.run/, fn ->
        run(pipeline([["cat"], ["cat"]]), bad: 1)
      end
    end
  end

  describe "as text" do
    test "it is what a shell would be given, without options" do
      stages = [
        ["zcat", "a b"],
        {& &1, lines: true},
        Command.new("sort", [], env: [TOKEN: "secret"])
      ]

      whole = pipeline(stages ++ [{:tee, "copy"}, {:tee, ["gzip", "-c"]}])
      line = "zcat 'a b' | (function) | sort | tee copy | tee >(gzip -c)"
      assert to_string(whole) == line
      assert inspect(whole) == "#NetRunner.Pipeline<#{line}>"
      assert inspect(pipeline([:bad, [1 | 2]])) == "#NetRunner.Pipeline<(invalid) | (invalid)>"
    end
  end
end
