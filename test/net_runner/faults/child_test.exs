defmodule NetRunner.Faults.ChildTest do
  # The fault matrix (docs/reliability.md) where the child is the one who misbehaves, or is made wrongly.
  use NetRunner.Test.FaultCase

  @tag :subreaper
  on_backends "the leader exits, a background job keeps stdout: nothing waits longer than the drain (22, 23)" do
    lock = tmp_path("lock")

    back_at_baseline(fn ->
      opts = [backend: backend, drain_timeout: 200]

      {us, result} =
        :timer.tc(fn -> NetRunner.run([fixture("background_stdout"), lock], opts) end)

      assert result == {"leader\n", 0}
      assert us < 1_500_000
      refute locked?(lock)
    end)

    {:ok, p} = NetRunner.Process.start(fixture("background_stdout"), [lock], backend: backend)
    assert NetRunner.Process.read(p) == {:ok, "leader\n"}
    assert locked?(lock)
    assert NetRunner.Process.await_exit(p, 3_000) == {:ok, 0}
    refute locked?(lock)
    assert NetRunner.Process.read(p) == :eof
    NetRunner.Process.stop(p)
  end

  @tag :subreaper
  on_backends "what a background job still wrote within the drain is delivered (23)" do
    script = "(i=0; while [ $i -lt 200 ]; do echo $i; i=$((i+1)); done) & exit 4"
    expected = Enum.map_join(0..199, &"#{&1}\n")
    assert NetRunner.run(["sh", "-c", script], backend: backend) == {expected, 4}
  end

  describe "the child's state (26)" do
    on_backends "is clean in 1,000 parallel spawns: nothing ignored, nothing blocked, 0 1 2 open" do
      1..1000
      |> Task.async_stream(
        fn _n -> NetRunner.run([fixture("show_state")], backend: backend, input: "") end,
        max_concurrency: 32,
        timeout: 60_000
      )
      |> Enum.each(fn {:ok, {state, 0}} -> assert_clean(state) end)
    end

    test "is clean although the BEAM was started with descriptors and signals of its launcher" do
      beam =
        OtherBeam.start(
          """
          {state, 0} = NetRunner.run([#{inspect(fixture("show_state"))}]);
          state |> String.split("\\n", trim: true) |> Enum.each(&IO.puts/1);
          IO.puts("up");
          Process.sleep(:infinity)
          """,
          ["sh", "-c", ~S[trap '' HUP USR1; exec 9</dev/null 8>/dev/null; exec "$@"], "sh"]
        )

      assert_clean(Enum.join(lines(beam.port), "\n"))
      OtherBeam.kill(beam)
    end

    defp lines(port) do
      receive do
        {^port, {:data, {:eol, line}}} -> [line | lines(port)]
      after
        0 -> []
      end
    end

    # POSIX's sigaction(2) cannot name the two signals that glibc keeps for itself: if whoever started
    # the BEAM had them ignored, the portable build leaves them so.
    defp reachable do
      case NetRunner.Nif.build() do
        :portable -> Bitwise.bnot(0x1_8000_0000)
        :io_uring -> -1
      end
    end

    defp assert_clean(state) do
      facts =
        for line <- String.split(state, "\n", trim: true),
            do: List.to_tuple(String.split(line, " ", parts: 2))

      facts = for {name, value} <- facts, into: %{}, do: {name, String.trim(value)}
      assert Integer.parse(facts["SigIgn"], 16) |> elem(0) |> Bitwise.band(reachable()) == 0
      assert facts["SigBlk"] =~ ~r/^0+$/
      assert facts["fds"] == "0 1 2"
      assert facts["sid"] == facts["pid"]
      assert facts["pgid"] == facts["pid"]
    end
  end
end
