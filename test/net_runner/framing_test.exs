defmodule NetRunner.FramingTest do
  # Records between NULs and frames with their length before them, by every call that reads or feeds; test/net_runner/frames_test.exs
  # has what frames are.
  use NetRunner.Test.Case

  alias NetRunner.Process, as: P

  # What a command writes, byte for byte.
  defp writes(bytes), do: ["printf", "%b", for(<<byte <- bytes>>, into: "", do: octal(byte))]
  defp octal(byte), do: "\\0" <> String.pad_leading(Integer.to_string(byte, 8), 3, "0")

  defp sh(script), do: ["sh", "-c", script]

  describe "records between NULs" do
    on_backends "are what find -print0 writes, whatever is in a name" do
      dir = tmp_path("names")
      File.mkdir_p!(dir)
      names = ["a b", "new\nline", "tab\t", <<"raw", 255>>, "-n", "'\""]
      for name <- names, do: File.write!(Path.join(dir, name), "")
      find = ["find", dir, "-type", "f", "-printf", "%f\\0"]

      assert {found, 0} = NetRunner.run(find, lines: <<0>>, backend: backend)
      assert Enum.sort(found) == Enum.sort(names)
      streamed = NetRunner.stream!(find, lines: <<0>>, backend: backend)
      assert Enum.sort(streamed) == Enum.sort(names)
    end

    on_backends "may be empty, between two NULs; an end behind the last NUL is none" do
      for {bytes, records} <- [
            {"a\0\0b\0", ["a", "", "b"]},
            {"\0", [""]},
            {"\0\0", ["", ""]},
            {"a\nb\0c", ["a\nb", "c"]},
            {"", []}
          ] do
        opts = [lines: <<0>>, backend: backend]
        assert NetRunner.run(writes(bytes), opts) == {records, 0}
        assert {:ok, %{stdout: ^records}} = NetRunner.exec(writes(bytes), opts)
        assert Enum.to_list(NetRunner.stream!(writes(bytes), opts)) == records
      end
    end

    on_backends "are what xargs -0 reads: each element with a NUL behind it" do
      names = ["a b", "new\nline", "", "'\""]
      show = ["xargs", "-0", "printf", "<%s>"]

      assert NetRunner.run(show, input: Stream.map(names, &[&1, 0]), backend: backend) ==
               {Enum.map_join(names, &"<#{&1}>"), 0}

      through =
        names
        |> Stream.map(&[&1, 0])
        |> NetRunner.through(["sort", "-z"], lines: <<0>>, backend: backend)

      assert Enum.to_list(through) == Enum.sort(names)
    end

    on_backends "may be longer than a pipe holds" do
      long = String.duplicate("x", 300_000)
      opts = [input: [long, 0, 0, long], lines: <<0>>, backend: backend]
      assert NetRunner.run(["cat"], opts) == {[long, "", long], 0}
    end
  end

  describe "frames" do
    @payloads ["one", "", <<0, 255, 10>>, String.duplicate("x", 200)]

    on_backends "go in one for each element, and come out one by one" do
      for header <- [1, 2, 4],
          input <- [
            @payloads,
            Stream.map(@payloads, &[&1]),
            fn sink -> Enum.into(@payloads, sink) end
          ] do
        opts = [packet: header, input: input, backend: backend]
        assert NetRunner.run(["cat"], opts) == {@payloads, 0}
        assert NetRunner.run(["cat"], [input_buffer: 100] ++ opts) == {@payloads, 0}
        assert {:ok, %{stdout: @payloads, error: nil}} = NetRunner.exec(["cat"], opts)
        assert Enum.to_list(NetRunner.stream!(["cat"], opts)) == @payloads
      end
    end

    on_backends "have a header of so many bytes, the largest first" do
      read = &NetRunner.run(["od", "-An", "-tu1", "-v"], [backend: backend] ++ &1)
      numbers = fn {text, 0} -> text |> String.split() |> Enum.map(&String.to_integer/1) end

      # What od writes is no frame.
      assert {:ok, p} = P.start("od", ["-An", "-tu1", "-v"], input: ["ab"], packet: 4)
      assert {:ok, text} = P.read(p)
      assert numbers.({text, 0}) == [0, 0, 0, 2, ?a, ?b]
      P.stop(p)
      assert numbers.(read.(input: "ab")) == [?a, ?b]

      assert NetRunner.run(writes(<<0, 0, 0, 2, "ab">>), packet: 4, backend: backend) ==
               {["ab"], 0}
    end

    on_backends "of a binary there is one" do
      assert NetRunner.run(["cat"], input: "one", packet: 2, backend: backend) == {["one"], 0}
      assert NetRunner.run(["cat"], input: "", packet: 2, backend: backend) == {[""], 0}
      assert NetRunner.run(["cat"], input: [], packet: 2, backend: backend) == {[], 0}
      # A list is a list of frames, also one that is text.
      assert_raise ArgumentError, ~r/not iodata: 111/, fn ->
        NetRunner.run(["cat"], input: ~c"one", packet: 2, backend: backend)
      end
    end

    on_backends "larger than all pipes on their way come out whole" do
      payloads = [
        :crypto.strong_rand_bytes(5_000_000),
        "small",
        :crypto.strong_rand_bytes(65_536)
      ]

      opts = [packet: 4, backend: backend]

      back_at_baseline(fn ->
        assert {^payloads, 0} = NetRunner.run(["cat"], [input: payloads] ++ opts)
        assert payloads |> NetRunner.through(["cat"], opts) |> Enum.to_list() == payloads
      end)
    end

    on_backends "are what a pipeline reads and what comes out of it; between its commands there are bytes" do
      assert NetRunner.run(NetRunner.pipeline([["cat"], ["cat"]]),
               input: @payloads,
               packet: 2,
               backend: backend
             ) == {@payloads, 0}

      # What a function returns is written as it is.
      shout = fn chunks -> Stream.map(chunks, &String.upcase/1) end

      assert NetRunner.run(NetRunner.pipeline([["cat"], shout, ["cat"]]),
               input: ["one", "two"],
               packet: 1,
               backend: backend
             ) == {["ONE", "TWO"], 0}

      copy = tmp_path("copy")

      assert NetRunner.run(["cat"],
               input: ["one"],
               packet: 1,
               stdout: {:tee, copy},
               backend: backend
             ) == {["one"], 0}

      assert File.read!(copy) == <<3, "one">>
    end

    on_backends "have nothing between them that the last command says on stderr, whoever merges it" do
      merges = NetRunner.Command.new("sh", ["-c", "echo oops >&2; exec cat"], stderr: :merge)
      opts = [packet: 4, input: ["one"], backend: backend]

      for stages <- [[["cat"], merges], [["cat"], merges, {:tee, "/dev/null"}]] do
        assert {:error, {:invalid, :stderr, "stage 2: merged into stdout" <> _}} =
                 NetRunner.run(NetRunner.pipeline(stages), opts)
      end

      # Of another command it is what the next one reads, as with `|&` of a shell.
      counts = ["sh", "-c", "printf '\\0\\0\\0\\1'; head -c 1"]
      assert NetRunner.run(NetRunner.pipeline([merges, counts]), opts) == {["o"], 0}
    end

    on_backends "are tagged beside a stderr that is bytes" do
      cmd = sh("printf '\\003one'; printf oops >&2; printf '\\001'; printf 2")
      opts = [packet: 1, stderr: :tagged, backend: backend]

      for elements <- [
            Enum.to_list(NetRunner.stream!(cmd, opts)),
            elem(NetRunner.run(cmd, opts), 0)
          ] do
        assert for({:stdout, frame} <- elements, do: frame) == ["one", "2"]
        assert for({:stderr, bytes} <- elements, into: "", do: bytes) == "oops"
      end
    end

    on_backends "that announce too much stop the command, before it is read" do
      # It would go on for ever.
      cmd = sh("printf '\\000\\000\\000\\001a\\377\\377\\377\\377'; cat /dev/zero")
      reason = {:frame_too_large, 4_294_967_295}
      opts = [packet: 4, backend: backend]

      back_at_baseline(fn ->
        assert NetRunner.run(cmd, opts) == {:error, reason}
        assert {:ok, result} = NetRunner.exec(cmd, opts)
        assert {result.stdout, result.cause, result.error} == {["a"], :output_limit, nil}

        error = assert_raise NetRunner.ExitError, fn -> NetRunner.run!(cmd, opts) end
        assert error.limit == reason
        assert Exception.message(error) =~ "wrote a frame of 4294967295 bytes"

        me = self()

        error =
          assert_raise NetRunner.Error, fn ->
            cmd |> NetRunner.stream!(opts) |> Enum.each(&send(me, {:frame, &1}))
          end

        assert error.reason == reason
        assert_received {:frame, "a"}
        assert Exception.message(error) =~ "a frame of 4294967295 bytes is too large"
      end)
    end

    on_backends "have a limit of their own" do
      run =
        &NetRunner.run(["cat"], input: ["abc"], packet: 2, max_frame_size: &1, backend: backend)

      assert run.(3) == {["abc"], 0}
      assert run.(2) == {:error, {:frame_too_large, 3}}
    end

    on_backends "that are not complete at the end of the output are an error, and which is told" do
      for {bytes, whole, missing} <- [
            {<<1, "a", 3, "bc">>, ["a"], 1},
            {<<1, "a", 3>>, ["a"], 3},
            {<<200>>, [], 200}
          ] do
        cmd = writes(bytes)
        opts = [packet: 1, backend: backend]
        reason = {:frame_truncated, missing}
        assert NetRunner.run(cmd, opts) == {:error, reason}

        # How the command itself ended is as it was.
        assert {:ok, result} = NetRunner.exec(cmd, opts)
        assert {result.stdout, result.error} == {whole, reason}
        assert {result.cause, result.exit, result.truncated?} == {:exited, {:exited, 0}, true}

        error = assert_raise NetRunner.Error, fn -> NetRunner.exec!(cmd, opts) end
        assert error.reason == reason

        assert Exception.message(error) =~
                 "ended within a frame: #{missing} bytes or more are missing"

        error = assert_raise NetRunner.Error, fn -> Enum.to_list(NetRunner.stream!(cmd, opts)) end
        assert error.reason == reason
      end

      assert NetRunner.run(writes(<<0>>), packet: 2, backend: backend) ==
               {:error, {:frame_truncated, 1}}
    end

    on_backends "that a stop or a limit has cut off are told as that" do
      cmd = sh("printf '\\003one\\003tw'; exec sleep 60")
      opts = [packet: 1, backend: backend]
      assert NetRunner.run(cmd, [idle_timeout: 200] ++ opts) == {:error, :timeout}

      assert {:ok, %{cause: :idle_timeout, stdout: ["one"], error: nil}} =
               NetRunner.exec(cmd, [idle_timeout: 200] ++ opts)

      cmd = ["printf", "\\003one\\003two"]

      assert NetRunner.run(cmd, [max_output_size: 6] ++ opts) ==
               {:error, {:max_output_exceeded, ["one"]}}

      assert NetRunner.run(cmd, [max_output_size: 6, overflow: :head] ++ opts) == {["one"], 0}

      assert {:ok, %{truncated?: true, error: nil}} =
               NetRunner.exec(cmd, [max_output_size: 6, overflow: :head] ++ opts)
    end

    on_backends "of an input that are too long for their header are refused before they are written" do
      large = String.duplicate("x", 256)
      opts = [packet: 1, backend: backend]

      back_at_baseline(fn ->
        assert {:error, {:invalid, :input, what}} = NetRunner.run(["cat"], [input: large] ++ opts)
        assert what =~ "256 bytes" and what =~ "255"

        for input <- [["a", large], Stream.map(["a", large], & &1), &Enum.into(["a", large], &1)] do
          error =
            assert_raise ArgumentError, fn -> NetRunner.run(["cat"], [input: input] ++ opts) end

          assert Exception.message(error) =~ ~r/invalid value for :input: 256 bytes.*255/
        end
      end)
    end

    on_backends "are counted with their headers by who tells how far it is" do
      me = self()
      opts = [packet: 4, progress: &send(me, {:progress, &1}), backend: backend]
      assert {["four"], 0} = NetRunner.run(["cat"], [input: "four"] ++ opts)
      assert_received {:progress, %{state: :finished, total: 8, done: 8, bytes_in: 8}}
      assert {["four"], 0} = NetRunner.run(["cat"], [input: ["four"]] ++ opts)
      assert_received {:progress, %{state: :finished, total: nil, bytes_in: 8}}
    end
  end

  describe "a live command with frames" do
    defp cat(backend, opts \\ []) do
      {:ok, p} = P.start("cat", [], [packet: 4, backend: backend] ++ opts)
      p
    end

    @tag :perl
    on_backends "answers a request with a frame, as long as you like" do
      # A real program of the kind, that squares: its own reading and writing of headers, in another language.
      program = """
      $| = 1; binmode STDIN; binmode STDOUT;
      while (read(STDIN, $head, 4) == 4) {
        read(STDIN, $n, unpack("N", $head));
        $square = $n * $n;
        print pack("N", length $square), $square;
      }
      """

      back_at_baseline(fn ->
        {:ok, p} = P.start("perl", ["-e", program], packet: 4, backend: backend)

        for n <- 1..500 do
          assert P.write_frame(p, to_string(n)) == :ok
          assert P.read_frame(p, 10_000) == {:ok, to_string(n * n)}
        end

        assert P.close_stdin(p) == :ok
        assert P.read_frame(p) == :eof
        assert P.await_exit(p) == {:ok, 0}
        P.stop(p)
      end)
    end

    on_backends "gives whole frames, of any size" do
      p = cat(backend)

      for payload <- ["", "x", :crypto.strong_rand_bytes(3_000_000), "y"] do
        writer = Task.async(fn -> P.write_frame(p, [payload]) end)
        assert P.read_frame(p) == {:ok, payload}
        assert Task.await(writer) == :ok
      end

      P.stop(p)
    end

    on_backends "gives nothing of a frame before all of it has come, and loses nothing of it" do
      p = cat(backend)
      :ok = P.write(p, <<0, 0, 0>>)
      assert P.read_frame(p, 50) == {:error, :timeout}
      :ok = P.write(p, <<5, "fi">>)
      assert P.read_frame(p, 50) == {:error, :timeout}
      assert P.read_frame(p, 0) == {:error, :timeout}
      :ok = P.write(p, <<"ve!", 0, 0, 0, 1, "x">>)
      assert P.read_frame(p, 10_000) == {:ok, "five!"}
      assert P.read_frame(p, 10_000) == {:ok, "x"}
      P.stop(p)
    end

    @tag :perl
    on_backends "is read no further than the frame: the rest is there as bytes, and the command waits" do
      p = cat(backend)
      :ok = P.write(p, <<"ready\n", 0, 0, 0, 1, "a", "tail">>)
      assert P.await_output(p, "ready\n", 10_000) == {:ok, {"", "ready\n"}}
      assert P.read_frame(p, 10_000) == {:ok, "a"}
      assert P.read(p, 100, 10_000) == {:ok, "tail"}

      P.stop(p)

      # What nobody asks for stays in the pipe, and then the command waits.
      {:ok, p} =
        P.start("perl", ["-e", "$| = 1; print qq(\\x01a) while 1"], packet: 1, backend: backend)

      for _ <- 1..3, do: assert(P.read_frame(p, 10_000) == {:ok, "a"})
      assert {:ok, %{stdout: %{bytes: 6}}} = P.stats(p)
      P.stop(p)
    end

    on_backends "says that a frame is too large, or cut off, and leaves it where it is" do
      {:ok, p} = P.start("cat", [], packet: 2, max_frame_size: 10, backend: backend)
      :ok = P.write(p, <<0, 11, "0123456789">>)
      for _ <- 1..2, do: assert(P.read_frame(p, 10_000) == {:error, {:frame_too_large, 11}})
      :ok = P.close_stdin(p)
      assert P.read(p, 2) == {:ok, <<0, 11>>}
      assert P.await_output(p, "9", 10_000) == {:ok, {"012345678", "9"}}
      assert P.read_frame(p) == :eof
      P.stop(p)

      for {bytes, missing} <- [{<<0>>, 1}, {<<0, 3>>, 3}, {<<0, 3, "ab">>, 1}] do
        {:ok, p} = P.start("cat", [], packet: 2, backend: backend)
        :ok = P.write(p, bytes)
        :ok = P.close_stdin(p)
        for _ <- 1..2, do: assert(P.read_frame(p) == {:error, {:frame_truncated, missing}})
        assert P.read(p) == {:ok, bytes}
        assert P.read_frame(p) == :eof
        P.stop(p)
      end
    end

    on_backends "is not written to where a frame has more than its header can say" do
      {:ok, p} = P.start("cat", [], packet: 1, backend: backend)
      assert P.write_frame(p, List.duplicate("xx", 128)) == {:error, {:frame_too_large, 256}}
      assert {:ok, %{stdin: %{bytes: 0}}} = P.stats(p)
      assert P.write_frame(p, "ok") == :ok
      assert P.read_frame(p, 10_000) == {:ok, "ok"}
      P.stop(p)
    end

    on_backends "tells how much of a frame was taken when the time was over" do
      {:ok, p} = P.start("sleep", ["60"], packet: 4, backend: backend)
      large = String.duplicate("x", 4_000_000)
      assert {:error, {:timeout, taken}} = P.write_frame(p, large, 100)
      assert taken > 4 and taken < 4_000_004
      P.stop(p)
    end

    on_backends "collects elements as frames" do
      p = cat(backend)
      Enum.into(["one", [?t, "wo"]], P.stdin(p, close: true))
      assert P.read_frame(p) == {:ok, "one"}
      assert P.read_frame(p) == {:ok, "two"}
      assert P.read_frame(p) == :eof
      P.stop(p)

      {:ok, p} = P.start("cat", [], packet: 1, input: ["fed", "too"], backend: backend)
      assert P.read_frame(p) == {:ok, "fed"}
      assert P.read_frame(p) == {:ok, "too"}
      assert P.write_frame(p, "x") == {:error, :closed}
      P.stop(p)
    end

    test "needs packet: for it" do
      {:ok, p} = P.start("cat")
      assert {:error, {:invalid, :packet, _}} = P.read_frame(p)
      assert {:error, {:invalid, :packet, _}} = P.write_frame(p, "x")
      P.stop(p)
      eventually("it is forgotten", fn -> P.read_frame(p) == {:error, :closed} end)
      assert P.write_frame(p, "x") == {:error, :closed}
    end
  end
end
