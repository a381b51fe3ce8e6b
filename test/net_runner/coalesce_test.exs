defmodule NetRunner.CoalesceTest do
  # Pieces of a fast stream come together for a millisecond before they are read. When, is tested in test/c/test_coalesce.c.
  use NetRunner.Test.Case

  # On a machine that is busy it takes a while until a program and its reader run side by side for 8 ms.
  @moduletag timeout: 300_000

  alias NetRunner.{Nif, Pipe}
  alias NetRunner.Process, as: P

  # Through stdio, and all the same whether somebody reads: 4 KiB, dozens of times in a millisecond.
  @counts "BEGIN { for (i = 1; i <= last; i++) print i }"

  defp awk(last), do: ["awk", "-v", "last=#{last}", @counts]

  defp counting(backend) do
    ["awk" | args] = awk(1_000_000_000)
    {:ok, p} = P.start("awk", args, backend: backend, input: :null)
    p
  end

  defp handle(p) do
    {:ok, handle} = P.handle(p, :stdout)
    handle
  end

  # As NetRunner.Pipe reads, by the NIF itself: {bytes, how often it was told to come later}.
  defp read(read, handle, laters \\ 0) do
    ref = make_ref()

    case read.(handle, 65_536, ref) do
      {:ok, bytes} ->
        {bytes, laters}

      {:later, ms} when ms in 1..2 ->
        refute_received {^ref, :ready}
        # The pause itself, of which nothing tells.
        Process.sleep(ms)
        read(read, handle, laters + 1)

      :soon ->
        :erlang.yield()
        read(read, handle, laters)

      _waits ->
        assert_receive {^ref, :ready}, 10_000
        read(read, handle, laters)
    end
  end

  defp until_later(read, handle) do
    case read(read, handle) do
      {_bytes, 0} -> until_later(read, handle)
      # A program that has no processor for a while is silent in some.
      {_bytes, laters} -> assert laters <= 4
    end
  end

  on_backends "who reads a fast stream is told to come later" do
    for read <- [&Nif.read_patiently/3, &Nif.read_coalescing/3] do
      p = counting(backend)
      until_later(read, handle(p))
      P.stop(p)
    end
  end

  on_backends "one who only looks is told to wait" do
    p = counting(backend)
    until_later(&Nif.read_patiently/3, handle(p))
    for _ <- 1..2_000, do: assert({_bytes, 0} = read(&Nif.read/3, handle(p)))
    P.stop(p)
  end

  # 2^3 windows of 8 ms before the first try, two rounds each, twice as long after each.
  on_backends "a program that is asked again and again is hardly ever kept waiting" do
    {:ok, p} = P.start("cat", [], backend: backend)
    begin = System.monotonic_time(:millisecond)

    laters =
      for n <- 1..20_000, reduce: 0 do
        laters ->
          :ok = P.write(p, <<n::64>>)
          {<<^n::64>>, more} = read(&Nif.read_patiently/3, handle(p))
          laters + more
      end

    took = System.monotonic_time(:millisecond) - begin
    assert laters <= 6 * (1 + :math.log2(1 + took / 64))
    P.stop(p)
  end

  # So long at least it is only looked at. Several, as a busy machine may make one slow.
  on_backends "a program with a stdin of ours is not tried in its first answers" do
    for _ <- 1..5 do
      {:ok, p} = P.start("cat", [], backend: backend)
      assert ask(p, handle(p), System.monotonic_time(:millisecond) + 60) == 0
      P.stop(p)
    end
  end

  defp ask(p, handle, until, laters \\ 0) do
    :ok = P.write(p, "how far?")
    {"how far?", more} = read(&Nif.read_patiently/3, handle)

    if System.monotonic_time(:millisecond) < until,
      do: ask(p, handle, until, laters + more),
      else: laters
  end

  on_backends "the pipe has room for what comes in a pause" do
    lines = "BEGIN { while (1) print \"#{String.duplicate("x", 60)}\" }"
    {:ok, p} = P.start("awk", [lines], backend: backend, input: :null)
    until_large(p)
    P.stop(p)
  end

  defp until_large(p) do
    {:ok, _bytes} = P.read(p)
    {:ok, %{stdout: %{pipe_bytes: bytes}}} = P.stats(p)
    if bytes <= 65_536, do: until_large(p)
  end

  on_backends "a run reads a fast stream by the millisecond" do
    called = {Nif, :read_coalescing, 3}
    :erlang.trace_pattern(called, [{:_, [], [{:return_trace}]}], [:local])
    on_exit(fn -> :erlang.trace_pattern(called, false, [:local]) end)
    cmd = awk(1_000_000_000)

    runner =
      spawn(fn ->
        receive do:
                  (:go ->
                     NetRunner.run(cmd,
                       backend: backend,
                       max_output_size: 1_000_000,
                       overflow: :tail
                     ))
      end)

    :erlang.trace(runner, true, [:call])
    send(runner, :go)
    assert_receive {:trace, ^runner, :return_from, ^called, {:later, _ms}}, 20_000
    Process.exit(runner, :kill)
  end

  on_backends "time-outs are kept where a stream that was fast says nothing, and nothing of it is lost" do
    p = counting(backend)
    until_later(&Nif.read_patiently/3, handle(p))
    :ok = P.kill(p, :sigstop)
    assert drain(p) == {:error, :timeout}
    assert P.read(p, 65_536, 0) == {:error, :timeout}
    :ok = P.kill(p, :sigcont)
    assert {:ok, _bytes} = P.read(p, 65_536, 10_000)
    P.stop(p)
  end

  defp drain(p) do
    with {:ok, _bytes} <- P.read(p, 65_536, 20), do: drain(p)
  end

  # A line on stderr for every few pieces on stdout.
  @both "BEGIN { for (i = 1;; i++) { print i; if (i % 2000 == 0) print i > \"/dev/stderr\" } }"

  on_backends "of two pipes that speak the fast one is read later, the other at once, and the deadline holds" do
    {:ok, p} = P.start("awk", [@both], backend: backend, input: :null, stderr: :pipe)
    {:ok, stderr} = P.handle(p, :stderr)
    handles = [{:stdout, handle(p)}, {:stderr, stderr}]
    armed = until_large_pieces(handles, %{}, 0)
    :ok = P.kill(p, :sigstop)
    {took, armed} = drain_either(handles, armed)
    assert took >= 20
    Pipe.disarm(armed)
    P.stop(p)
  end

  # Eight in a row that no single write gave.
  defp until_large_pieces(_handles, armed, 8), do: armed

  defp until_large_pieces(handles, armed, large) do
    case Pipe.read_either(handles, 65_536, :infinity, armed, :coalescing) do
      {:stdout, {:ok, bytes}, armed} when byte_size(bytes) > 8_192 ->
        until_large_pieces(handles, armed, large + 1)

      {:stdout, {:ok, _piece}, armed} ->
        until_large_pieces(handles, armed, 0)

      {:stderr, {:ok, _line}, armed} ->
        until_large_pieces(handles, armed, large)
    end
  end

  defp drain_either(handles, armed) do
    begin = System.monotonic_time(:millisecond)

    case Pipe.read_either(handles, 65_536, begin + 20, armed, :coalescing) do
      {_tag, {:ok, _bytes}, armed} -> drain_either(handles, armed)
      {:timeout, armed} -> {System.monotonic_time(:millisecond) - begin, armed}
    end
  end

  on_backends "all of it comes, in its order, by a stream and by a run" do
    last = 400_000
    expected = Enum.map_join(1..last, &"#{&1}\n")
    assert {^expected, 0} = NetRunner.run(awk(last), backend: backend)
    assert awk(last) |> NetRunner.stream!(backend: backend) |> Enum.join() == expected

    lines = awk(last) |> NetRunner.stream!(backend: backend, lines: true)

    assert Enum.reduce(lines, 0, fn line, n when is_binary(line) ->
             String.to_integer(line) - 1 == n && n + 1
           end) == last

    twice = ["sh", "-c", "awk -v last=#{last} '#{@counts}' | tee /dev/stderr"]

    assert {:ok, %{stdout: ^expected, stderr: said}} =
             NetRunner.exec(twice, backend: backend, stderr: :capture)

    assert said == expected
  end
end
