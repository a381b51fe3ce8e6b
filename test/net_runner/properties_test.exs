defmodule NetRunner.PropertiesTest do
  # What holds for any arguments, environment, output and order of calls: drawn, and shrunk where it does
  # not. test/support/properties.ex says how to repeat a run.
  use NetRunner.Test.Case
  use NetRunner.Test.Properties

  alias NetRunner.Process, as: P
  alias NetRunner.Test.ProcessModel

  @moduletag :capture_log
  # forall has a time-out of its own, and may be asked for any number of values.
  @moduletag timeout: :infinity

  describe "strings of any bytes but NUL" do
    # One string with its NUL: MAX_ARG_STRLEN.
    @string_max 131_071
    # Of ARG_MAX (2 MiB with the usual stack); the environment of the tests has its share.
    @all_max 1_500_000
    # Above 64 KiB all strings travel in a memfd.
    @inline_max 65_536

    defp string, do: let(binary(), &without(&1, [0]))

    defp long_string(most) do
      sizes = oneof([integer(@inline_max - 200, @inline_max), integer(1, most), exactly(most)])

      let({integer(1, 255), sizes}, fn {byte, size} -> :binary.copy(<<byte>>, size) end)
    end

    defp any_string(most \\ @string_max),
      do: frequency([{20, string()}, {1, long_string(most)}])

    defp name, do: such_that(let(binary(), &without(&1, [0, ?=])), &(&1 != ""))

    # Few names at times, so that some are there twice.
    defp variable do
      {oneof([name(), elements(["A", "PATH", "LANG"])]), any_string(100_000)}
    end

    defp without(bytes, these),
      do: for(<<byte <- bytes>>, byte not in these, into: "", do: <<byte>>)

    defp fits?(strings), do: IO.iodata_length(strings) < @all_max

    # {argv, environment} as the command saw them.
    defp seen(args, opts) do
      {output, 0} = NetRunner.run([fixture("show_exec") | args], opts)
      {argv, rest} = strings("argc", output)
      {env, ""} = strings("envc", rest)
      {argv, env}
    end

    defp strings(title, output) do
      [header, rest] = :binary.split(output, "\n")
      [^title, count] = String.split(header, " ")
      Enum.map_reduce(List.duplicate(nil, String.to_integer(count)), rest, &counted/2)
    end

    defp counted(nil, rest) do
      [size, rest] = :binary.split(rest, ":")
      size = String.to_integer(size)
      <<string::binary-size(size), "\n", rest::binary>> = rest
      {string, rest}
    end

    defp pairs(variables), do: for({name, value} <- variables, do: name <> "=" <> value)

    on_backends "arrive as arguments, in order" do
      forall args <- such_that(list(any_string()), &fits?/1), tests: 150 do
        {[_exe | seen], _env} = seen(args, backend: backend)
        assert seen == args
      end
    end

    on_backends "arrive as the whole environment, the last of a name" do
      forall variables <- such_that(list(variable()), &fits?(pairs(&1))), tests: 150 do
        {_argv, env} = seen([], env: {:replace, variables}, backend: backend)
        assert Enum.sort(env) == variables |> Map.new() |> pairs() |> Enum.sort()
      end
    end

    on_backends "are added to the environment there is, or take away from it" do
      {_argv, inherited} = seen([], backend: backend)
      inherited = Map.new(inherited, &(&1 |> :binary.split("=") |> List.to_tuple()))

      variable =
        frequency([{4, variable()}, {1, {elements(["A", "PATH" | Map.keys(inherited)]), nil}}])

      fits? = fn variables -> fits?(for({name, value} <- variables, value, do: [name, value])) end

      forall variables <- such_that(list(variable), fits?), tests: 100 do
        {_argv, env} = seen([], env: variables, backend: backend)

        expected =
          Enum.reduce(variables, inherited, fn
            {name, nil}, env -> Map.delete(env, name)
            {name, value}, env -> Map.put(env, name, value)
          end)

        assert Enum.sort(env) == expected |> pairs() |> Enum.sort()
      end
    end

    test "with one NUL are refused as what they are" do
      with_nul = let({binary(), binary()}, fn {one, other} -> one <> <<0>> <> other end)

      forall {before, bad, name} <- {list(string()), with_nul, name()}, tests: 100 do
        assert {:error, {:invalid_args, _}} = NetRunner.run(["true" | before ++ [bad]])
        assert {:error, {:invalid_cmd, _}} = NetRunner.run([bad | before])
        assert {:error, {:invalid, :env, _}} = NetRunner.run(["true"], env: [{name, bad}])
        assert {:error, {:invalid, :env, _}} = NetRunner.run(["true"], env: [{bad, name}])
        assert {:error, {:invalid, :cd, _}} = NetRunner.run(["true"], cd: bad)
      end
    end
  end

  describe "what is read of a command, in pieces of any size," do
    @file_size 400_000

    setup do
      path = tmp_path("bytes")
      bytes = :crypto.strong_rand_bytes(@file_size)
      File.write!(path, bytes)
      {:ok, path: path, bytes: bytes}
    end

    # {command, options, what it writes, how it ends}
    defp command(path, bytes) do
      oneof([
        let({string(), integer(0, 255)}, fn {text, code} ->
          {[fixture("exit_with"), "#{code}", text], [], text, code}
        end),
        let({list(binary()), integer(0, 255)}, fn {pieces, code} ->
          script = ["sh", "-c", "cat; exit $0", "#{code}"]
          {script, [input: pieces], IO.iodata_to_binary(pieces), code}
        end),
        let(integer(0, @file_size), fn size ->
          {["head", "-c", "#{size}", path], [input: :null], binary_part(bytes, 0, size), 0}
        end),
        let({integer(0, @file_size), integer(1, 15)}, fn {size, signal} ->
          script = ["sh", "-c", "head -c $0 $1; kill -$2 $$", "#{size}", path, "#{signal}"]
          {script, [], binary_part(bytes, 0, size), 128 + signal}
        end)
      ])
    end

    # {max, time-out} of each read, from the beginning again after the last.
    defp reads do
      read = {oneof([integer(1, 10), integer(1, 70_000), 300_000]), elements([0, 1, :infinity])}

      # One of them must bring it forward.
      let(list(read), &(&1 ++ [{50_000, :infinity}]))
    end

    on_backends "is always a prefix of what it writes, at the end it is all; then there is one exit",
                %{path: path, bytes: bytes} do
      forall {{[exe | args], opts, output, status}, reads} <- {command(path, bytes), reads()},
             tests: 150,
             show: &show_reads/1 do
        {:ok, p} = P.start(exe, args, [backend: backend] ++ opts)
        waiter = Task.async(fn -> P.await_exit(p) end)

        assert read_all(p, Stream.cycle(reads), output, 0) == byte_size(output)
        assert P.read(p) == :eof
        assert P.await_exit(p) == {:ok, status}
        assert P.await_exit(p, 0) == {:ok, status}
        assert Task.await(waiter) == {:ok, status}
        assert P.kill(p) == {:error, :not_running}
        assert P.read(p) == :eof
        assert P.stop(p) == :ok
        assert P.await_exit(p) == {:error, :closed}
        assert Process.info(self(), :messages) == {:messages, []}
      end
    end

    # How much came, each piece in its place.
    defp read_all(p, reads, output, come) do
      Enum.reduce_while(reads, come, fn {max, timeout}, come ->
        case P.read(p, max, timeout) do
          {:ok, piece} ->
            assert byte_size(piece) in 1..max
            assert byte_size(piece) <= byte_size(output) - come
            assert binary_part(output, come, byte_size(piece)) == piece
            {:cont, come + byte_size(piece)}

          {:error, :timeout} when timeout != :infinity ->
            {:cont, come}

          :eof ->
            {:halt, come}
        end
      end)
    end

    defp show_reads({{cmd, opts, output, status}, reads}) do
      inspect(cmd, printable_limit: 200) <>
        " #{inspect(opts, printable_limit: 200)}\n" <>
        "writes #{byte_size(output)} bytes, ends with #{status}\nreads #{inspect(reads)}"
    end
  end

  describe "what is written in pieces of any size, with any time-outs, to a slow reader," do
    # {bytes, milliseconds to take them}. The first fills all the pipes there are.
    defp writes do
      write = {oneof([integer(1, 100), integer(1, 20_000)]), elements([0, 1, 2])}

      let({integer(300_000, 600_000), non_empty(list(write))}, fn {first, rest} ->
        [{first, 5} | rest]
      end)
    end

    # {max, milliseconds that the reader does something else before it}, from the beginning again after the last.
    defp slow_reads do
      read = {oneof([integer(1, 5_000), 20_000]), elements([0, 0, 1])}
      # One of them must bring it forward.
      let(list(read), &(&1 ++ [{60_000, 1}]))
    end

    on_backends "arrives as far as the writer was told that it was taken, no byte more or less" do
      forall {writes, reads} <- {writes(), slow_reads()}, tests: 40 do
        {:ok, p} = P.start("cat", [], backend: backend)
        reader = Task.async(fn -> read_slowly(p, Stream.cycle(reads)) end)

        taken =
          for {size, timeout} <- writes do
            bytes = :crypto.strong_rand_bytes(size)

            case P.write(p, bytes, timeout) do
              :ok -> bytes
              {:error, {:timeout, taken}} -> binary_part(bytes, 0, taken)
            end
          end

        assert P.close_stdin(p) == :ok
        come = Task.await(reader, 15_000)
        taken = IO.iodata_to_binary(taken)
        # Not the bytes themselves: half a megabyte of them would be shown.
        assert {byte_size(come), come == taken} == {byte_size(taken), true}
        assert P.await_exit(p) == {:ok, 0}
        assert P.stop(p) == :ok
      end
    end

    defp read_slowly(p, reads) do
      reads
      |> Enum.reduce_while([], fn {max, pause}, come ->
        receive(do: (:never -> :ok), after: (pause -> :ok))

        case P.read(p, max, :infinity) do
          {:ok, bytes} -> {:cont, [come, bytes]}
          :eof -> {:halt, come}
        end
      end)
      |> IO.iodata_to_binary()
    end
  end

  describe "calls in any order" do
    on_backends "are answered as they must be: the model of a command" do
      forall calls <- ProcessModel.calls(),
             tests: 40,
             max_size: 60,
             show: &ProcessModel.show/1 do
        ProcessModel.run!(calls, backend)
      end
    end
  end
end
