defmodule NetRunner.Compat.ExileTest do
  # The documentation of Exile 0.14.0's streams, sentence by sentence: its examples, and what it says of the options.
  use NetRunner.Test.Case

  # Thin over what other tests run on every build: twice is enough (the legs one and other).
  @moduletag :slow
  doctest NetRunner.Compat.Exile

  alias NetRunner.Compat.Exile
  alias NetRunner.Compat.Exile.Stream.AbnormalExit

  defp sh(script), do: ["sh", "-c", script]

  describe "the examples" do
    test "run a command and read from stdout" do
      assert Exile.stream!(~w(echo Hello)) |> Enum.into("") == "Hello\n"
    end

    test "run a command with list of strings as input" do
      input = ["Hello", " ", "World"]
      assert Exile.stream!(~w(cat), input: input) |> Enum.into("") == "Hello World"
    end

    test "run a command with input as Stream" do
      input = Stream.map(1..10, fn num -> "#{num} " end)
      assert Exile.stream!(~w(cat), input: input) |> Enum.into("") == "1 2 3 4 5 6 7 8 9 10 "
    end

    test "run a command with input as infinite stream" do
      back_at_baseline(fn ->
        input = Stream.repeatedly(fn -> "A" end)

        binary =
          Exile.stream!(~w(cat), input: input, ignore_epipe: true)
          |> Stream.take(2)
          |> Enum.into("")

        assert "A" <> _ = binary
      end)
    end

    test "run a command with input Collectable" do
      input = fn sink ->
        Stream.map(1..10, fn num -> "#{num} " end) |> Stream.into(sink) |> Stream.run()
      end

      assert Exile.stream!(~w(cat), input: input) |> Stream.take(100) |> Enum.into("") ==
               "1 2 3 4 5 6 7 8 9 10 "
    end

    test "when the command wait for the input stream to close" do
      assert Exile.stream!(~w(base64), input: ["abcdef"]) |> Enum.into("") == "YWJjZGVm\n"
    end

    test "`stream!/2` raises non-zero exit as error" do
      assert_raise AbnormalExit, "program exited with exit status: 10", fn ->
        Exile.stream!(sh("echo 'foo' && exit 10")) |> Enum.to_list()
      end
    end

    test "`stream/2` variant returns exit status as last element" do
      assert Exile.stream(sh("echo 'foo' && exit 10")) |> Enum.to_list() ==
               ["foo\n", {:exit, {:status, 10}}]

      assert Exile.stream(~w(true)) |> Enum.to_list() == [{:exit, {:status, 0}}]
      assert Exile.stream(sh("kill -KILL $$")) |> Enum.to_list() == [{:exit, {:status, 137}}]
    end

    test "you can fetch exit_status from the error for `stream!/2`" do
      error = assert_raise AbnormalExit, fn -> Enum.to_list(Exile.stream!(sh("exit 10"))) end
      assert error.exit_status == 10
    end

    test "with `max_chunk_size` set" do
      data =
        Exile.stream!(~w(cat /dev/urandom), max_chunk_size: 100, ignore_epipe: true)
        |> Stream.take(5)
        |> Enum.into("")

      assert byte_size(data) == 500
    end

    test "when input and output run at different rate" do
      input = Stream.map(1..1000, fn num -> "X #{num} X\n" end)
      assert Exile.stream!(~w(grep 250), input: input) |> Enum.into("") == "X 250 X\n"
    end

    test "with stderr set to :redirect_to_stdout" do
      stream = Exile.stream!(sh("echo foo; echo bar >&2"), stderr: :redirect_to_stdout)
      assert Enum.into(stream, "") == "foo\nbar\n"
    end

    test "with stderr set to :consume" do
      stream = Exile.stream!(sh("echo foo; sleep 0.1; echo bar >&2"), stderr: :consume)
      assert Enum.to_list(stream) == [stdout: "foo\n", stderr: "bar\n"]
    end

    test "with stderr set to :disable" do
      stream = Exile.stream!(sh("echo foo; echo bar >&2"), stderr: :disable)
      assert Enum.to_list(stream) == ["foo\n"]
    end

    test "stderr output is redirected to console (Default)" do
      {:ok, here} = File.read_link("/proc/self/fd/2")
      where = sh("readlink /proc/$$/fd/2")
      assert Enum.into(Exile.stream!(where), "") == here <> "\n"
      assert Enum.into(Exile.stream!(where, stderr: :console), "") == here <> "\n"
    end
  end

  describe "the options" do
    test "`input` - by defaults no input is sent to the command" do
      assert Enum.to_list(Exile.stream!(~w(cat))) == []
    end

    test "`exit_timeout` - duration to wait for external program to exit after completion" do
      stream = Exile.stream(sh("exec >&-; exec sleep 60"), exit_timeout: 100)
      {us, elements} = :timer.tc(fn -> Enum.to_list(stream) end)
      assert elements == [{:exit, {:status, 143}}]
      assert div(us, 1000) in 100..2_000

      # "Defaults to :infinity"
      assert Enum.to_list(Exile.stream(sh("exec >&-; sleep 0.3; exit 3"))) ==
               [{:exit, {:status, 3}}]
    end

    test "`max_chunk_size` - defaults to `65_535`" do
      sizes = Exile.stream!(~w(head -c 300000 /dev/zero)) |> Enum.map(&byte_size/1)
      assert Enum.sum(sizes) == 300_000
      assert Enum.max(sizes) <= 65_535
    end

    test "`ignore_epipe` - when set to true, reader can exit early without raising error" do
      for cmd <- [~w(yes), sh("echo a; sleep 0.1; exit 3")] do
        assert [_one] = Enum.take(Exile.stream!(cmd, ignore_epipe: true), 1)
        assert [_one] = Enum.take(Exile.stream(cmd, ignore_epipe: true), 1)
      end
    end

    test "`ignore_epipe` - by default it raises, unless the program ends well all the same" do
      for {cmd, status} <- [{~w(yes), 141}, {sh("echo a; sleep 0.1; exit 3"), 3}],
          call <- [&Exile.stream!/1, &Exile.stream/1] do
        error = assert_raise AbnormalExit, fn -> Enum.take(call.(cmd), 1) end
        assert error.exit_status == status
      end

      assert Enum.take(Exile.stream!(sh("echo a; sleep 0.1")), 1) == ["a\n"]
    end

    test "`ignore_epipe` - EPIPE is the error raised when the reader finishes the reading before command completes" do
      input = Stream.repeatedly(fn -> "A" end)

      error =
        assert_raise AbnormalExit, fn -> Enum.take(Exile.stream!(~w(cat), input: input), 2) end

      assert error.exit_status == :epipe
      assert Exception.message(error) == "program exited due to :epipe error"
    end

    # What Exile does, though not what it says of writers.
    test "`ignore_epipe` - a program that ends its output by itself need not read all of its input" do
      input = Stream.map(1..1_000, fn _ -> :binary.copy("x", 65_536) end)
      assert Enum.to_list(Exile.stream!(~w(head -c 1), input: input)) == ["x"]

      assert Enum.to_list(Exile.stream(~w(head -c 1), input: input)) ==
               ["x", {:exit, {:status, 0}}]
    end

    test "a program that does not end when nobody reads is stopped" do
      back_at_baseline(fn ->
        stream = Exile.stream!(sh("echo a; exec sleep 60"), exit_timeout: 100)
        error = assert_raise AbnormalExit, fn -> Enum.take(stream, 1) end
        assert error.exit_status == 143
      end)
    end

    test "remaining options are passed to `Process.start_link/2`: `cd`, `env`" do
      assert Exile.stream!(~w(pwd), cd: "/") |> Enum.into("") == "/\n"
      assert Exile.stream!(sh("echo $NR_A"), env: [{"NR_A", "1"}]) |> Enum.into("") == "1\n"
    end

    test "that are unknown, or of a wrong type, raise at once and are named" do
      for opts <- [
            [foo: 1],
            [input: "a binary"],
            [input: fn -> :none end],
            [exit_timeout: :never],
            [max_chunk_size: 0],
            [stderr: :elsewhere],
            [ignore_epipe: 1],
            [cd: :here]
          ] do
        for call <- [&Exile.stream!/2, &Exile.stream/2] do
          error = assert_raise ArgumentError, fn -> call.(["true"], opts) end
          assert error.message =~ inspect(hd(Keyword.keys(opts)))
        end
      end

      assert_raise ArgumentError, fn -> Exile.stream!(["ec\0ho"]) end
      assert_raise ArgumentError, fn -> Exile.stream!(["echo", :hello]) end
    end
  end

  describe "the stream" do
    test "is lazy, and a new run each time" do
      path = tmp_path("runs")
      stream = Exile.stream!(sh("echo x >> #{path}; cat #{path}"))
      refute File.exists?(path)
      assert Enum.into(stream, "") == "x\n"
      assert Enum.into(stream, "") == "x\nx\n"
    end

    test "leaves nothing behind, however it ends" do
      {tag, env} = tag()

      back_at_baseline(fn ->
        Enum.take(Exile.stream!(~w(yes), env: env, ignore_epipe: true), 1)

        assert_raise RuntimeError, "mine", fn ->
          Enum.each(Exile.stream!(~w(yes), env: env), fn _ -> raise "mine" end)
        end

        reader = spawn(fn -> Enum.each(Exile.stream!(sh("sleep 60 & wait"), env: env), & &1) end)
        eventually("it runs", fn -> length(tagged(tag)) == 2 end)
        Process.exit(reader, :kill)
        eventually("it is gone", 10_000, fn -> tagged(tag) == [] end)
        assert Process.info(self(), :messages) == {:messages, []}
      end)
    end

    test "raises what its input raises" do
      import ExUnit.CaptureLog
      input = Stream.map(1..3, fn n -> if n == 3, do: raise("mine"), else: "#{n}" end)

      capture_log(fn ->
        back_at_baseline(fn ->
          assert_raise RuntimeError, "mine", fn ->
            Enum.to_list(Exile.stream!(~w(cat), input: input))
          end
        end)
      end)
    end
  end
end
