defmodule NetRunner.AwaitOutputTest do
  # Waiting for a pattern in a command's output, from pipes and terminals: found wherever the chunks are cut, and
  # never at the cost of a byte.
  use NetRunner.Test.Case

  alias NetRunner.Process, as: P

  @moduletag :capture_log
  @mib 1_048_576

  defp start!(exe, args, opts) do
    {:ok, p} = P.start(exe, args, opts)
    on_exit(fn -> P.stop(p) end)
    p
  end

  defp read_all(p, got \\ []) do
    case P.read(p, 262_144, 10_000) do
      {:ok, bytes} -> read_all(p, [got | bytes])
      :eof -> IO.iodata_to_binary(got)
    end
  end

  # Into cat's output, for who reads later.
  defp bring(p, bytes) do
    {:ok, os_pid} = P.os_pid(p)
    before = written(os_pid)
    :ok = P.write(p, bytes)
    eventually("cat has written it", fn -> written(os_pid) >= before + byte_size(bytes) end)
  end

  # Past somebody who is reading: each piece is a chunk of its own.
  defp feed(p, pieces) do
    {last, pieces} = List.pop_at(pieces, -1)

    Enum.reduce(pieces, 0, fn piece, fed ->
      :ok = P.write(p, piece)
      fed = fed + byte_size(piece)
      eventually("it was read", fn -> match?({:ok, %{stdout: %{bytes: ^fed}}}, P.stats(p)) end)
      fed
    end)

    :ok = P.write(p, last)
  end

  defp cut(bytes, size) when byte_size(bytes) <= size, do: [bytes]

  defp cut(bytes, size) do
    <<piece::binary-size(size), rest::binary>> = bytes
    [piece | cut(rest, size)]
  end

  describe "a match" do
    on_backends "gives what was before it, and leaves what is behind it to whoever reads next" do
      p = start!("printf", ["before:match:behind"], backend: backend)
      assert P.await_output(p, ":match:", 5_000) == {:ok, {"before", ":match:"}}
      assert P.read(p, 3) == {:ok, "beh"}
      assert P.read_any(p, 2) == {:ok, {:stdout, "in"}}
      assert P.read(p) == {:ok, "d"}
      assert P.read(p) == :eof
    end

    on_backends "is the first one, and the next one the next time" do
      p = start!("printf", ["a1b22c333"], backend: backend)
      assert P.await_output(p, ~r/\d+/) == {:ok, {"a", "1"}}
      assert P.await_output(p, "2") == {:ok, {"b", "2"}}
      assert P.await_output(p, ~r/\A2c/) == {:ok, {"", "2c"}}
      assert P.await_output(p, ~r/3+\z/) == {:ok, {"", "333"}}
      assert P.await_output(p, "3") == {:error, :no_match}
    end

    on_backends "is found over the borders of chunks" do
      text = "the needle"

      for size <- [1, 2, 3, 7], pattern <- [text, ~r/the needle/] do
        p = start!("cat", [], backend: backend)
        task = Task.async(fn -> P.await_output(p, pattern, 10_000) end)
        feed(p, cut("the need the needl" <> text, size))
        assert Task.await(task, 15_000) == {:ok, {"the need the needl", text}}
        :ok = P.write(p, "s")
        :ok = P.close_stdin(p)
        assert read_all(p) == "s"
        :ok = P.stop(p)
      end
    end

    on_backends "of a text that begins anew in itself is found" do
      p = start!("cat", [], backend: backend)
      task = Task.async(fn -> P.await_output(p, "aab", 10_000) end)
      feed(p, ["a", "a", "a", "a", "bb"])
      assert Task.await(task, 15_000) == {:ok, {"aa", "aab"}}
      assert P.read(p) == {:ok, "b"}
    end

    on_backends "of a prompt is there as soon as nothing follows it" do
      script = "printf 'price: 3$ each\\n$ '; read x; printf 'you said %s\\n$ ' $x; read x"
      p = start!("sh", ["-c", script], backend: backend)
      assert P.await_output(p, ~r/\$ $/, 5_000) == {:ok, {"price: 3$ each\n", "$ "}}
      :ok = P.write(p, "this\n")
      assert P.await_output(p, ~r/\$ $/, 5_000) == {:ok, {"you said this\n", "$ "}}
    end

    on_backends "may be of bytes that are no text" do
      p = start!("printf", [~S(\377\000\376end)], backend: backend)
      assert P.await_output(p, <<0, 254>>) == {:ok, {<<255>>, <<0, 254>>}}
      assert P.read(p) == {:ok, "end"}
    end

    on_backends "of a regular expression for Unicode is not hindered by half a character, nor by garbage" do
      p = start!("cat", [], backend: backend)
      task = Task.async(fn -> P.await_output(p, ~r/größe: ./u, 10_000) end)
      bytes = "x\xFFy größe: ß!"
      # The last of the character that is asked for, and what follows it, come together.
      feed(
        p,
        cut(binary_part(bytes, 0, byte_size(bytes) - 2), 1) ++
          [binary_part(bytes, byte_size(bytes), -2)]
      )

      assert Task.await(task, 15_000) == {:ok, {"x\xFFy ", "größe: ß"}}
      assert P.read(p) == {:ok, "!"}
    end

    on_backends "in a large output is found, and read on from, exactly" do
      seq = Enum.map_join(1..300_000, "\n", &Integer.to_string/1) <> "\n"
      p = start!("seq", ["300000"], backend: backend)

      for {n, pattern} <- [{99_999, "\n99999\n"}, {200_000, ~r/\n200000\n/}] do
        {:ok, {before, match}} = P.await_output(p, pattern, 30_000)
        assert match == "\n#{n}\n"
        assert String.ends_with?(before, "\n#{n - 1}")
      end

      assert read_all(p) == seq |> String.split("\n200000\n") |> List.last()
    end
  end

  describe "no match" do
    on_backends "at the end of the output is an error, and all of it is there still" do
      for pattern <- ["never", ~r/never/] do
        p = start!("printf", ["some output"], backend: backend)
        assert P.await_output(p, pattern, 5_000) == {:error, :no_match}
        assert P.await_output(p, pattern, 5_000) == {:error, :no_match}
        assert P.await_output(p, "put", 5_000) == {:ok, {"some out", "put"}}
        assert P.await_output(p, pattern, 5_000) == {:error, :no_match}
        assert P.read(p) == :eof
        :ok = P.stop(p)
      end
    end

    on_backends "in time is an error, and nothing is lost, nor any wait left behind" do
      p = start!("cat", [], backend: backend)
      assert P.await_output(p, "x", 0) == {:error, :timeout}
      bring(p, "first ")
      assert P.await_output(p, "never", 50) == {:error, :timeout}
      bring(p, "second ")
      assert P.await_output(p, ~r/never/, 50) == {:error, :timeout}
      assert P.await_output(p, "second", 0) == {:ok, {"first ", "second"}}
      assert P.read(p) == {:ok, " "}
      assert Process.info(self(), :messages) == {:messages, []}
    end

    on_backends "while an endless output never makes it wait is a time-out, too" do
      for pattern <- ["never", ~r/never/] do
        p = start!("yes", [], backend: backend)
        {us, answer} = :timer.tc(fn -> P.await_output(p, pattern, 50) end)
        # 16 MiB may be there first.
        assert answer in [{:error, :timeout}, {:error, :no_match}]
        assert us < 10_000_000
        assert {:ok, "y\ny\n" <> _} = P.read(p)
        :ok = P.stop(p)
      end
    end

    on_backends "in 16 MiB is an error, all of them are there still, and then the rest" do
      p =
        start!("sh", ["-c", "head -c #{17 * @mib} /dev/zero | tr '\\0' a; printf end"],
          backend: backend
        )

      {us, answer} = :timer.tc(fn -> P.await_output(p, "end", 60_000) end)
      assert answer == {:error, :no_match}
      assert us < 30_000_000
      assert P.await_output(p, ~r/end/, 60_000) == {:error, :no_match}
      output = read_all(p)
      assert byte_size(output) == 17 * @mib + 3
      assert output == String.duplicate("a", 17 * @mib) <> "end"
    end
  end

  describe "reading" do
    on_backends "counts each byte once, however often it was looked at" do
      p = start!("printf", ["12345"], backend: backend)
      assert P.await_output(p, "x") == {:error, :no_match}
      assert {:ok, %{stdout: %{bytes: 0}}} = P.stats(p)
      assert P.await_output(p, "3") == {:ok, {"12", "3"}}
      assert {:ok, %{stdout: %{bytes: 3}}} = P.stats(p)
      assert read_all(p) == "45"
      assert {:ok, %{stdout: %{bytes: 5}}} = P.stats(p)
    end

    on_backends "belongs to one at a time" do
      p = start!("cat", [], backend: backend)
      task = Task.async(fn -> P.await_output(p, "!", 10_000) end)
      eventually("somebody waits", fn -> waits?(task.pid) end)
      assert P.await_output(p, "x", 100) == {:error, :busy}
      :ok = P.write(p, "now!")
      assert Task.await(task) == {:ok, {"now", "!"}}
    end

    on_backends "goes on for somebody who had begun to wait when bytes were given back" do
      p = start!("cat", [], backend: backend)
      {:ok, stdout} = P.handle(p, :stdout)
      task = Task.async(fn -> P.read(p, 100, 10_000) end)
      eventually("somebody waits", fn -> waits?(task.pid) end)
      assert NetRunner.Nif.unread(stdout, "given back") == :ok
      assert Task.await(task) == {:ok, "given back"}
      :ok = P.write(p, "more")
      assert P.read(p) == {:ok, "more"}
    end

    on_backends "is of what was given back last, first" do
      p = start!("printf", ["56"], backend: backend)
      {:ok, stdout} = P.handle(p, :stdout)
      assert NetRunner.Nif.unread(stdout, "34") == :ok
      assert P.read(p, 1) == {:ok, "3"}
      assert NetRunner.Nif.unread(stdout, "12" <> "3") == :ok
      assert read_all(p) == "123456"
      :ok = P.stop(p)
      assert NetRunner.Nif.unread(stdout, "late") == {:error, :closed}
      assert P.await_output(p, "late") == {:error, :closed}
    end

    on_backends "leaves nothing behind, also of what was never read again" do
      back_at_baseline(fn ->
        {:ok, p} = P.start("printf", ["abc"], backend: backend)
        assert P.await_output(p, "x") == {:error, :no_match}
        :ok = P.stop(p)
      end)
    end

    test "of no stdout is an error" do
      p = start!("cat", [], stdout: :discard)
      assert P.await_output(p, "x", 100) == {:error, :closed}
    end

    test "of stderr beside it is not touched" do
      p = start!("sh", ["-c", "echo err >&2; echo out; read x"], stderr: :pipe)
      assert P.await_output(p, "out\n", 5_000) == {:ok, {"", "out\n"}}
      assert P.read_stderr(p) == {:ok, "err\n"}
    end

    test "from a terminal is the same" do
      p = start!("sh", ["-c", "printf 'name? '; read x; echo hello $x"], pty: [echo: false])
      assert P.await_output(p, ~r/\? $/, 5_000) == {:ok, {"name", "? "}}
      :ok = P.write(p, "you\n")
      assert P.await_output(p, "you", 5_000) == {:ok, {"hello ", "you"}}
      assert P.await_output(p, "more", 5_000) == {:error, :no_match}
      assert P.read(p) == {:ok, "\r\n"}
      assert P.read(p) == :eof
    end
  end

  test "a pattern is a binary that is not empty, or a regular expression" do
    p = start!("cat", [], [])

    for wrong <- ["", nil, :x, ~c"x", ["x"], 1, <<1::3>>] do
      assert_raise ArgumentError, ~r/regular expression/, fn -> P.await_output(p, wrong, 10) end
    end
  end

  # A pattern near the end of many chunks: looking through all of it again for each would take minutes.
  test "a text is looked for once in each byte" do
    p = start!("cat", [], [])

    stdin =
      spawn_link(fn ->
        for(_ <- 1..16_000, do: P.write(p, String.duplicate("a", 1000)))
        P.write(p, "b")
      end)

    ref = Process.monitor(stdin)
    {us, {:ok, {before, "b"}}} = :timer.tc(fn -> P.await_output(p, "b", 60_000) end)
    assert byte_size(before) == 16_000_000
    assert us < 20_000_000
    assert_receive {:DOWN, ^ref, :process, _, _}, 5_000
  end
end
