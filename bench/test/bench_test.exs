defmodule BenchTest do
  # Does the harness work, and do its checks see what they are there for? Figures are not looked at.

  use ExUnit.Case
  import ExUnit.CaptureIO

  alias Bench.{Footprint, Gone, Native, Report, Runner, Stamp, Stats, Telemetry, Versions}

  setup_all do: Native.build!()

  describe "every scenario, quickly" do
    for {name, module} <- Bench.scenarios() do
      @tag timeout: 120_000
      test name do
        result = Runner.run(unquote(name), unquote(module), quick: true, rounds: 1)
        assert result.failures == []
        assert Enum.any?(result.rows, &(&1.column == "auto"))
        {unable, able} = Enum.split_with(result.rows, &(&1.state =~ ~r/^no: /))
        assert Enum.all?(able, fn row -> Enum.any?(row.cells) end)
        refute Enum.any?(unable, fn row -> row.role == :ours or Enum.any?(row.cells) end)
        assert Report.text(result) =~ unquote(name)
        assert Enum.map(result.versions, &elem(&1, 0)) == Enum.map(result.rows, & &1.column)
        assert Enum.all?(result.versions, fn {_column, version} -> version =~ ~r/\w/ end)
      end
    end
  end

  describe "mix bench.gone" do
    @tag timeout: 120_000, capture_log: true
    test "times each family's end, and finds nobody left" do
      rows = Gone.measure(2, 2)
      assert length(rows) == 6

      for row <- rows do
        assert %{count: 2, wrong: [], dead_us: [_, _], gone_us: gone} = row
        assert Enum.all?(Enum.zip(row.dead_us, gone), fn {dead, gone} -> dead <= gone end)
      end

      assert Gone.text(rows) =~ "| guardian | setsid | 2 |"
    end

    test "measures what waiting commands cost" do
      assert [%{commands: 2, guardian_fds: fds, guardian_kib: kib}] =
               rows = Footprint.measure([2])

      assert fds > 0 and kib > 0
      assert Footprint.text(rows) =~ "| 2 | "
    end
  end

  test "mix bench.telemetry measures the calls and whole runs, and says that the library is absent" do
    assert [%{column: "absent", calls_ns: [_, _], run_us: [us, _]}] =
             rows = Telemetry.measure(2, 100, 3)

    assert us > 0
    assert Telemetry.text(rows) =~ ~r/^\| absent \| -?\d+ \| \d+ \| 1 \|$/m
    assert Telemetry.text(rows) =~ "not loaded"
  end

  test "an unknown scenario is an error that names it" do
    assert {:error, "no such scenario: nothing" <> _} = Bench.run(["nothing"], [])
  end

  test "--list prints each scenario with its question" do
    printed = capture_io(fn -> Mix.Tasks.Bench.run(["--list"]) end)
    for {name, _module} <- Bench.scenarios(), do: assert(printed =~ name <> " ")
    for {_name, module} <- Bench.scenarios(), do: assert(printed =~ module.question())
  end

  defmodule Liar do
    # Says that bytes were lost, in every second measurement.
    use Bench.Scenario
    def question, do: "Is a contestant that loses bytes reported?"
    def sizes(_size), do: %{}
    def needs, do: :run
    def contestant?(contestant), do: contestant.name in ["auto", "poll"]
    def measure(%{name: "auto"}, _sizes), do: %{work: 1, wrong: "1 of 2 bytes"}
    def measure(%{name: "poll"}, _sizes), do: exit(:boom)
    def metrics, do: [mib_per_s()]
  end

  test "a contestant that loses bytes or dies is reported and leaves" do
    result = Runner.run("liar", Liar, rounds: 2)
    assert [{"auto", "1 of 2 bytes"}, {"poll", ":boom"}] = result.failures
    assert Report.text(result) =~ "FAILED: 1 of 2 bytes"
  end

  describe "versions" do
    test "are those of the applications, loaded or not" do
      Application.unload(:eex)
      assert "eex " <> vsn = Versions.library(:eex)
      assert vsn == to_string(Application.spec(:eex, :vsn))
      assert Versions.library(:nothing) == "nothing of no known version"
    end

    test "of every contestant and of the C compiler can be told" do
      for %{module: module} <- Bench.Contestant.present(), do: assert(module.version() =~ ~r/\d/)
      assert Native.compiler() =~ ~r/\d+\.\d+.*, RelWithDebInfo$/
    end
  end

  describe "stamps" do
    test "the C producer and Elixir agree, however the stream is cut" do
      bytes = 3 * 1024 * 1024
      {data, 0} = NetRunner.run([Native.path(:producer), "stream", "#{bytes}", "65536"])
      assert data |> binary_part(0, 1024 * 1024) |> cut(5000) |> check() == {1024 * 1024, 0}
      assert data |> cut(70_001) |> check() == {bytes, 0}
      assert bytes |> Stamp.stream(65_536) |> check() == {bytes, 0}
    end

    test "lost, doubled and swapped pieces are seen" do
      [a, b, c | rest] = 1_048_576 |> Stamp.stream(65_536) |> Enum.to_list()

      for blocks <- [[a, c | rest], [a, a, b, c | rest], [b, a, c | rest]] do
        assert {bytes, wrong} = check(blocks)
        assert wrong > 0
        assert Stamp.verdict({bytes, wrong}, 1_048_576) =~ "wrong"
      end
    end

    test "the C consumer sees them too" do
      good = 1_048_576 |> Stamp.stream(65_536) |> Enum.to_list()
      [a, b | rest] = good
      consumer = [Native.path(:consumer), "1048576"]
      assert NetRunner.run(consumer, input: good) == {"1048576 0\n", 0}
      assert {"1048576 " <> _, 1} = NetRunner.run(consumer, input: [b, a | rest])
      assert {"983040 " <> _, 1} = NetRunner.run(consumer, input: [a | rest])
    end

    defp check(blocks), do: Enum.reduce(blocks, {0, 0}, &Stamp.check/2)

    defp cut(data, size) when byte_size(data) <= size, do: [data]

    defp cut(data, size) do
      <<piece::binary-size(size), rest::binary>> = data
      [piece | cut(rest, size)]
    end
  end

  describe "statistics" do
    test "the median, and percentiles by nearest rank" do
      assert Stats.median([3, 1, 2]) == 2.0
      assert Stats.median([4, 1, 2, 3]) == 2.5
      assert Stats.percentile(Enum.to_list(1..100), 99) == 99
      assert Stats.percentile([7], 99) == 7
    end

    test "the interval leaves out what 95 % allow" do
      # Binomial(9, 1/2): P(0 or 1 below) = 10/512 at each side.
      assert {2, 8, confidence} = Stats.interval(Enum.to_list(1..9))
      assert_in_delta confidence, 1 - 2 * 10 / 512, 1.0e-9
      assert {1, 6, _} = Stats.interval(Enum.to_list(1..6))
      assert {1, 2, 0.5} = Stats.interval([1, 2])
    end
  end
end
