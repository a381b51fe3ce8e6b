defmodule NetRunner.FramesTest do
  # Bytes cut into frames, and frames made of bytes: as a port with {:packet, n} does it, wherever the chunks are cut.
  use NetRunner.Test.Case, async: true
  use NetRunner.Test.Properties

  alias NetRunner.Frames

  doctest NetRunner.Frames

  @max 67_108_864

  # What comes of the chunks: the frames, and the error if there was one.
  defp frames(chunks, header, max \\ @max),
    do: cut(chunks, Frames, Frames.new(header, max))

  defp packed(payloads, header) do
    for payload <- payloads, into: "" do
      {:ok, frame} = Frames.pack(header, payload)
      IO.iodata_to_binary(frame)
    end
  end

  describe "a frame" do
    test "is what follows its header, as long as that says" do
      assert frames([<<3, "abc", 1, "d">>], 1) == ["abc", "d"]
      assert frames([<<0, 3, "abc", 0, 1, "d">>], 2) == ["abc", "d"]
      assert frames([<<0, 0, 0, 3, "abc", 0, 0, 0, 1, "d">>], 4) == ["abc", "d"]
      assert frames([<<1, 0>> <> String.duplicate("x", 256)], 2) == [String.duplicate("x", 256)]
    end

    test "may be empty, and may hold any bytes" do
      for header <- [1, 2, 4], payloads = ["", <<0, 255, 10>>, "", ""] do
        assert frames([packed(payloads, header)], header) == payloads
      end
    end

    test "may come in any number of chunks, and its header too" do
      for header <- [1, 2, 4], payloads = ["abc", "", "defgh"] do
        bytes = packed(payloads, header)
        assert frames(for(<<byte <- bytes>>, do: <<byte>>), header) == payloads
        assert frames(["", bytes, ""], header) == payloads
      end
    end

    test "is given by the chunk that ends it, not later" do
      assert {["a"], t} = Frames.feed(Frames.new(2, 9), <<0, 1, "a", 0>>)
      assert {[], t} = Frames.feed(t, <<3, "bc">>)
      assert {["bcd", ""], t} = Frames.feed(t, <<"d", 0, 0>>)
      assert Frames.finish(t) == []
    end

    test "that is kept keeps no more than twice its size: small ones are copied, large ones are a part of their chunk" do
      small = String.duplicate("s", 1_000)
      large = String.duplicate("l", 200_000)
      chunk = packed([small, large, small], 4)
      assert {[first, second, last], _t} = Frames.feed(Frames.new(4, @max), chunk)
      assert {first, second, last} == {small, large, small}
      for frame <- [first, last], do: assert(:binary.referenced_byte_size(frame) == 1_000)
      assert :binary.referenced_byte_size(second) == :binary.referenced_byte_size(chunk)
    end

    test "that is waited for keeps nothing of its chunk but its own bytes" do
      begun = String.duplicate("b", 1_000)
      chunk = packed([String.duplicate("x", 200_000)], 4) <> <<2_000::32, begun::binary>>
      {[_whole], t} = Frames.feed(Frames.new(4, @max), chunk)
      assert [^begun = piece] = t.pieces
      assert :binary.referenced_byte_size(piece) == 1_000
      {[_whole], t} = Frames.feed(Frames.new(4, @max), binary_part(chunk, 0, 200_004) <> <<0, 0>>)
      assert t.head == <<0, 0>>
      assert :binary.referenced_byte_size(t.head) < 1_000
    end

    test "of any size takes time in proportion, in chunks of any size" do
      # With a copy for each chunk it would be 8 TB.
      size = 8_000_000
      t = Frames.new(4, @max)
      {[], t} = Frames.feed(t, <<size::32>>)
      t = Enum.reduce(2..div(size, 4), t, fn _i, t -> t |> Frames.feed("four") |> elem(1) end)
      assert length(t.pieces) < 200
      assert {[frame], t} = Frames.feed(t, "over")
      assert byte_size(frame) == size
      assert Frames.finish(t) == []
    end
  end

  describe "a limit" do
    test "is kept by a frame of exactly that many bytes" do
      assert frames([<<0, 3, "abc">>], 2, 3) == ["abc"]
      assert frames([<<0>>, <<3>>, "abc"], 2, 3) == ["abc"]
    end

    test "is passed by a header, and nothing of what it announces is waited for" do
      assert frames([<<1, "a", 4>>], 1, 3) == {["a"], {:frame_too_large, 4}}
      assert frames([<<1, "a", 4, "bcde", 1, "f">>], 1, 3) == {["a"], {:frame_too_large, 4}}
      assert frames([<<255, 255>>, <<255, 255>>], 4) == {[], {:frame_too_large, 4_294_967_295}}
      assert frames([<<255, 255, 255, 255>>], 4) == {[], {:frame_too_large, 4_294_967_295}}
    end
  end

  describe "an end" do
    test "behind a frame is an end" do
      for header <- [1, 2, 4], do: assert(frames([], header) == [])
      assert frames([<<1, "a">>], 1) == ["a"]
    end

    test "within a frame, or within its header, says how much is missing at least" do
      assert frames([<<3, "ab">>], 1) == {[], {:frame_truncated, 1}}
      assert frames([<<1, "a", 3>>], 1) == {["a"], {:frame_truncated, 3}}
      assert frames([<<0>>], 2) == {[], {:frame_truncated, 1}}
      assert frames([<<0>>, <<0>>], 4) == {[], {:frame_truncated, 2}}
    end
  end

  test "a header says no more than it can" do
    assert {:error, {:frame_too_large, 256}} = Frames.pack(1, [List.duplicate(?x, 256)])
    assert {:ok, [<<255>> | _]} = Frames.pack(1, [List.duplicate(?x, 255)])
    assert {:error, {:frame_too_large, 65_536}} = Frames.pack(2, String.duplicate("x", 65_536))
    assert {:ok, [<<255, 255>> | _]} = Frames.pack(2, String.duplicate("x", 65_535))
    # Parts that are all the same binary: 4 GiB that are not there.
    part = :binary.copy("x", 16_777_216)

    assert {:error, {:frame_too_large, 4_294_967_296}} = Frames.pack(4, List.duplicate(part, 256))
  end

  describe "properties" do
    # Some frames, and any bytes behind them; but a port makes room for what a header says, which should not be gigabytes.
    defp bytes_of(header) do
      let({list(binary()), binary()}, fn {payloads, rest} ->
        packed(payloads, header) <> if(header == 4 and rest != "", do: <<0, 0>>, else: "") <> rest
      end)
    end

    defp chunked(bytes) do
      let(list(integer(1, 12)), fn sizes -> cut(bytes, sizes) end)
    end

    defp cut("", _sizes), do: []

    defp cut(bytes, [size | sizes]) when size < byte_size(bytes) do
      <<chunk::binary-size(size), rest::binary>> = bytes
      [chunk | cut(rest, sizes)]
    end

    defp cut(bytes, _sizes), do: [bytes]

    test "the same bytes are the same frames, wherever they are cut" do
      for header <- [1, 2, 4] do
        forall chunks <- let(bytes_of(header), &chunked/1), tests: 300 do
          assert frames(chunks, header) == frames([Enum.join(chunks)], header)
        end
      end
    end

    test "the same bytes give the same messages from a port" do
      path = tmp_path("bytes")

      for header <- [1, 2, 4] do
        forall bytes <- bytes_of(header), tests: 60 do
          File.write!(path, bytes)
          ours = with {whole, _truncated_or_too_large} <- frames([bytes], header), do: whole
          assert ours == of_port(["cat", path], header)
        end
      end
    end

    test "a port writes what we write" do
      path = tmp_path("written")

      for header <- [1, 2, 4] do
        forall payloads <- list(list(oneof([byte(), binary()]))), tests: 40 do
          payloads = Enum.filter(payloads, &(IO.iodata_length(&1) <= Frames.most(header)))
          ours = packed(payloads, header)
          script = "head -c #{byte_size(ours)} > '#{path}'"
          [] = of_port(["sh", "-c", script], header, payloads)
          assert File.read!(path) == ours
        end
      end
    end

    # The messages of a port, to the end of its program.
    defp of_port([exe | args], header, payloads \\ []) do
      path = System.find_executable(exe)
      opts = [{:packet, header}, :binary, :exit_status, args: args]
      port = Port.open({:spawn_executable, path}, opts)
      for payload <- payloads, do: send(port, {self(), {:command, payload}})
      messages(port)
    end

    defp messages(port) do
      receive do
        {^port, {:data, data}} -> [data | messages(port)]
        {^port, {:exit_status, 0}} -> []
      end
    end
  end
end
