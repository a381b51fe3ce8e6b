defmodule BarTest do
  # What bars make of figures: paired ratios, the better end of the interval, and against whom.

  use ExUnit.Case, async: true

  import Bench.Bar, only: [bar: 4, bar: 5]
  import Bench.Metric, only: [metric: 3]

  alias Bench.{Bar, Figures}

  describe "the verdict" do
    test "is met if the median reaches the limit, whatever the interval" do
      assert %{verdict: :met, seen: %{median: 0.9}} =
               against_c([0.1, 0.9, 0.9, 0.9, 2.0, 2.0, 0.2], 0.85)
    end

    test "is open if only the better end of the interval does" do
      assert %{verdict: :open} = against_c([0.5, 0.5, 0.5, 0.5, 0.9, 0.9], 0.85)
    end

    test "is missed if not even the better end does" do
      assert %{verdict: :missed} = against_c([0.5, 0.5, 0.5, 0.5, 0.6, 0.84], 0.85)
    end

    test "is never missed by too few rounds" do
      assert %{verdict: :open} = against_c([0.1, 0.1, 0.1, 0.1, 0.1], 0.85)
    end

    test "is turned round where less is asked for" do
      rows =
        rows(%{"auto" => [1, 1, 1, 1, 1, 1], "C" => [1, 1, 1, 1, 1, 1]},
          cpu: %{"auto" => [2, 2, 3, 3, 4, 4], "C" => [1, 1, 1, 1, 1, 1]}
        )

      for {limit, verdict} <- [{3, :met}, {2.5, :open}, {1.9, :missed}] do
        assert %{verdict: ^verdict} = judge(bar("auto", "CPU", :at_most, limit, "C"), rows)
      end
    end
  end

  test "ratios are paired: a slow minute that hits both in a round says nothing" do
    rows = rows(%{"auto" => [100, 10, 1], "C" => [100, 10, 1]})

    assert %{seen: %{median: 1.0, low: 1.0, high: 1.0}} =
             judge(bar("auto", "MiB/s", :at_least, 1, "C"), rows)
  end

  test "without another column the figure itself is held to the limit" do
    rows = rows(%{"auto" => [1, 1, 1]}, kib: %{"auto" => [90, 95, 110]})

    assert %{verdict: :met, other: nil, seen: %{median: 95.0, low: 90, high: 110}} =
             judge(bar("auto", "KiB", :at_most, 100), rows)

    assert %{verdict: :open} = judge(bar("auto", "KiB", :at_most, 92), rows)
  end

  describe "the best peer" do
    test "is the one with the best median, and no column of ours or of C" do
      rows =
        rows(%{
          "auto" => [6, 6, 6],
          "poll" => [9, 9, 9],
          "C" => [9, 9, 9],
          "Port" => [1, 9, 1],
          "Exile" => [3, 3, 3]
        })

      assert %{other: "Exile", seen: %{median: 2.0}} =
               judge(bar("auto", "MiB/s", :at_least, 1.2, :best_peer), rows)
    end

    test "is the one with the lowest median where less is better" do
      rows =
        rows(%{"auto" => [1], "Port" => [1], "Exile" => [1]},
          cpu: %{"auto" => [6], "Port" => [2], "Exile" => [3]}
        )

      assert %{other: "Port", seen: %{median: 3.0}} =
               judge(bar("auto", "CPU", :at_most, 1, :best_peer), rows)
    end

    test "can be best in one metric and be held against in another" do
      rows =
        rows(%{"auto" => [1], "Port" => [5], "Exile" => [9]},
          cpu: %{"auto" => [6], "Port" => [2], "Exile" => [3]}
        )

      bar = bar("auto", "CPU", :at_most, 1, {:best_peer, "MiB/s"})
      assert %{other: "Exile", seen: %{median: 2.0}} = judge(bar, rows)
    end

    test "is nobody who failed" do
      rows =
        rows(%{"auto" => [6], "Port" => [1], "Exile" => [9]}, failures: [{"Exile", "lost bytes"}])

      assert %{other: "Port"} = judge(bar("auto", "MiB/s", :at_least, 1, :best_peer), rows)
    end
  end

  describe "not judged, and why" do
    test "is what was held against who was not measured" do
      rows = rows(%{"auto" => [1]})

      assert %{verdict: :not_judged, why: "Exile was not measured"} =
               judge(bar("auto", "MiB/s", :at_least, 2, "Exile"), rows)

      assert %{verdict: :not_judged, why: "nobody to compare with" <> _} =
               judge(bar("auto", "MiB/s", :at_least, 2, :best_peer), rows)
    end

    test "is a column that failed" do
      rows = rows(%{"auto" => [1], "C" => [1]}, failures: [{"auto", "hung"}])

      assert %{verdict: :not_judged, why: "auto failed"} =
               judge(bar("auto", "MiB/s", :at_least, 1, "C"), rows)
    end

    test "is a figure that cannot be divided by" do
      rows = rows(%{"auto" => [1], "poll" => [0]})

      assert %{verdict: :not_judged, why: "poll has no figure to divide by"} =
               judge(bar("auto", "MiB/s", :at_least, 1, "poll"), rows)
    end
  end

  test "auto is held to the better of poll and io_uring in throughput, CPU time and p50" do
    assert [
             %{metric: "MiB/s", direction: :at_least, limit: 0.95},
             %{metric: "CPU", direction: :at_most, limit: 1.05}
           ] = bars = Bar.of_auto(metrics())

    rows =
      %{"auto" => 9, "poll" => 5, "io_uring" => 10}
      |> Map.new(fn {k, v} -> {k, List.duplicate(v, 6)} end)
      |> rows()

    assert %{other: "io_uring", seen: %{median: 0.9}, verdict: :missed} = judge(hd(bars), rows)
  end

  test "auto is not held to one of the two, as if that were the better" do
    [bar | _] = Bar.of_auto(metrics())
    both = %{"auto" => [9], "poll" => [10], "io_uring" => [8]}

    assert %{why: "io_uring was not measured"} = judge(bar, rows(Map.delete(both, "io_uring")))
    assert %{why: "poll failed"} = judge(bar, rows(both, failures: [{"poll", "hung"}]))
  end

  test "every scenario's bars name metrics that it has and columns that there can be" do
    known = ~w(auto poll io_uring C System.cmd Port Exile sh) ++ ["in memory", "no copy"]

    for {name, module} <- Bench.scenarios(), bar <- module.bars() do
      metrics = Enum.map(module.metrics(), & &1.name)
      assert bar.metric in metrics, "#{name}: no metric #{bar.metric}"
      assert bar.column in known

      case bar.against do
        {:best_peer, by} -> assert by in metrics
        {:best, columns} -> assert columns -- known == []
        column when is_binary(column) -> assert column in known
        other -> assert other in [nil, :best_peer]
      end
    end
  end

  test "a bar in words says what was asked, of whom, and what came of it" do
    rows = rows(%{"auto" => [6, 6, 6], "Port" => [2, 2, 2]})
    judged = judge(bar("auto", "MiB/s", :at_least, 1.2, :best_peer), rows)

    assert Bench.Report.bar(judged) ==
             "MiB/s of auto at least 1.2 of the best peer's (Port): 3.00 [3.00, 3.00] (75 %) met"
  end

  defp judge(bar, rows), do: Bar.judge(bar, rows, metrics())

  defp against_c(ratios, limit) do
    rows =
      rows(%{"auto" => Enum.map(ratios, &(&1 * 10)), "C" => Enum.map(ratios, fn _ -> 10 end)})

    judge(bar("auto", "MiB/s", :at_least, limit, "C"), rows)
  end

  defp metrics do
    [
      metric("MiB/s", :throughput, & &1.speed),
      metric("CPU", :cpu, & &1[:cpu]),
      metric("KiB", :amount, & &1[:kib])
    ]
  end

  # A table of columns with their speed, and other metrics, round by round.
  defp rows(speeds, options \\ []) do
    measured =
      for {column, values} <- speeds, into: %{} do
        {column,
         for {speed, round} <- Enum.with_index(values) do
           for key <- [:cpu, :kib],
               list = options[key][column],
               into: %{speed: speed},
               do: {key, Enum.at(list, round)}
         end}
      end

    columns = for {name, _values} <- speeds, do: %{name: name, role: role(name)}
    Figures.table(columns, measured, Keyword.get(options, :failures, []), metrics(), "C")
  end

  defp role("C"), do: :reference
  defp role(name) when name in ["auto", "poll", "io_uring"], do: :ours
  defp role(_name), do: :peer
end
