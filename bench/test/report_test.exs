defmodule ReportTest do
  # From a result to files, and from these to a page with charts. Numbers are made up.

  use ExUnit.Case

  import ExUnit.CaptureIO

  alias Bench.{Chart, Figures, Page, Saved}

  @report Path.expand("../report", __DIR__)

  setup do
    folder =
      Path.join(System.tmp_dir!(), "net_runner_bench-#{System.unique_integer([:positive])}")

    File.mkdir_p!(folder)
    on_exit(fn -> File.rm_rf!(folder) end)
    %{folder: folder}
  end

  describe "a saved run" do
    test "is read back as it was, in the order it was measured", %{folder: folder} do
      results = [
        result(name: "b", at: "2026-11-26T10:00:00Z"),
        result(name: "a", at: "2026-11-26T11:00:00Z")
      ]

      for result <- Enum.reverse(results), do: Saved.write(result, folder)
      assert Saved.read(folder) == results
      assert folder |> File.ls!() |> Enum.sort() == ~w(a.md a.term b.md b.term)
    end

    test "holds what was measured in each round", %{folder: folder} do
      Saved.write(result([]), folder)
      [%{rows: [%{column: "C", cells: [cell | _]} | _]}] = Saved.read(folder)
      assert cell.values == [1000, 1100, 900, 1000, 1100, 900]
    end

    test "keeps a table for people beside it", %{folder: folder} do
      path = Saved.write(result([]), folder)
      assert File.read!(path) =~ "| auto   | 500   | 0.50 [0.44, 0.55] |"
      assert File.read!(path) =~ "Not measured: MuonTrap."
      assert File.read!(path) =~ "| Exile | exile 0.14.0 |\n"
    end

    test "that did not keep the versions, as earlier ones, is read all the same", %{
      folder: folder
    } do
      old = Map.delete(result([]), :versions)
      File.write!(Path.join(folder, "read.term"), :io_lib.format("~tp.~n", [old]))
      assert [%{versions: []} = read] = Saved.read(folder)
      refute Page.text([read]) =~ "## Contestants"
    end

    test "of something else is refused by its name", %{folder: folder} do
      File.write!(Path.join(folder, "odd.term"), "nonsense.\n")
      assert_raise RuntimeError, ~r/odd.term holds no result/, fn -> Saved.read(folder) end
    end
  end

  describe "the page" do
    test "has the machine, all bars with their verdicts, and each scenario's chart and table" do
      page = Page.text([result([]), result(name: "other")])
      assert page =~ "# Benchmarks of 2026-11-26"
      assert page =~ "\n\na machine. Not loaded, so not measured: MuonTrap.\n\n"

      assert page =~
               "| [read](#read) | MiB/s of auto at least 0.85 of C's | 0.50 [0.44, 0.55] (97 %) | **missed** |"

      assert page =~ "## other\n\nHow fast?\n\n![other](other.png)\n\n| column "
      assert page =~ "Port FAILED: it's lost bytes"
      refute page =~ "--quick"
    end

    test "names the version of each contestant once, and both where they differ between scenarios" do
      other = [{"auto", "net_runner 0.1.0"}, {"poll", "net_runner 0.1.0"}, {"C", "cc 13"}]
      page = Page.text([result([]), result(name: "other", versions: other)])
      [_, table] = String.split(page, "## Contestants\n\n")
      [table | _] = String.split(table, "\n\n")

      assert table == """
             | column | version |
             |---|---|
             | C | cc 12 |
             | auto; poll | net_runner 0.1.0 |
             | Port | OTP 25 |
             | Exile | exile 0.14.0 |
             | C | cc 13 |\
             """
    end

    test "says of each scenario on which machine it was, and who was not loaded then" do
      page =
        Page.text([
          result(name: "a"),
          result(name: "b", absent: []),
          result(name: "c", machine: "another machine"),
          result(name: "d")
        ])

      assert page =~
               "\n\n[a](#a), [d](#d): a machine. Not loaded, so not measured: MuonTrap.\n\n" <>
                 "[b](#b): a machine\n\n" <>
                 "[c](#c): another machine. Not loaded, so not measured: MuonTrap.\n\n"
    end

    test "has no chart where everybody failed" do
      failed =
        Map.update!(result([]), :rows, fn rows ->
          for row <- rows, do: %{row | state: "FAILED: x"}
        end)

      refute Chart.drawable?(failed)
      assert Page.text([failed]) =~ "How fast?\n\nNobody could be measured.\n"
    end

    test "says of who has no such call why it has no figures; charts leave it out, bars do not judge" do
      metrics = result([]).metrics
      row = Figures.unable(%{name: "ex_cmd", role: :peer, why: "it has no ears"}, metrics)
      result = Map.update!(result([]), :rows, &(&1 ++ [row]))

      assert Page.text([result]) =~
               ~r/\| ex_cmd +\| - +\| +\| - +\| +\| - +\| no: it has no ears \|/

      refute Chart.script(result, "read.png") =~ "ex_cmd"

      for against <- ["ex_cmd", {:best, ["ex_cmd"]}] do
        bar = Bench.Bar.bar("auto", "MiB/s", :at_least, 1, against)
        assert %{verdict: :not_judged} = Bench.Bar.judge(bar, result.rows, metrics)
      end

      bar = Bench.Bar.bar("ex_cmd", "MiB/s", :at_least, 1)

      assert %{why: "ex_cmd cannot (it has no ears)"} = Bench.Bar.judge(bar, result.rows, metrics)
    end

    test "warns of figures that mean nothing" do
      assert Page.text([result(quick: true)]) =~ "those figures mean nothing"
    end
  end

  describe "what gnuplot is told" do
    test "has a panel for each metric, which says what is better, and none for a detail" do
      script = Chart.script(result([]), "read.png")
      assert script =~ "set label 'MiB/s (higher is better)'"
      assert script =~ "set label 'p50 us (lower is better)'"
      refute script =~ "enters"
    end

    test "has a bar per library and mode from 0 to its median, and its interval" do
      script = Chart.script(result([]), "read.png")
      assert script =~ "\n3 500.0 400 600 0x1f5fa8\n"
      assert script =~ "'NetRunner auto' 3"
    end

    test "has C's median as a line across, named" do
      script = Chart.script(result([]), "read.png")
      assert script =~ "set arrow from first 1.0e3, graph 0 to first 1.0e3, graph 1"
      assert script =~ "set label 'C: 1000' at first 1.0e3"
    end

    test "has no line where C was not measured" do
      script = Chart.script(result(without: "C"), "read.png")
      refute script =~ "arrow from"
    end

    test "says who failed in place of a figure" do
      script = Chart.script(result([]), "read.png")
      assert script =~ "set label 'FAILED' at screen"
      assert script =~ "2 NaN NaN NaN 0"
    end

    test "quotes what is quoted" do
      script = Chart.script(result(question: "Who's fast?"), "it's.png")
      assert script =~ "set label 'read: Who''s fast?'"
      assert script =~ "set output 'it''s.png'"
    end

    test "cuts off what one interval would make the others small with" do
      script = Chart.script(result(speeds: %{"Exile" => [10, 1000, 1_000_000]}), "read.png")
      assert [_, high] = Regex.run(~r/set xrange \[0.0:([\d.e]+)\]/, script)
      assert String.to_float(high) < 2700
    end
  end

  describe "bench/report" do
    @tag :gnuplot
    test "makes a page and charts of a run", %{folder: folder} do
      Saved.write(result([]), folder)
      assert {said, 0} = report([folder])
      assert said =~ "wrote #{folder}/README.md and 1 charts"
      assert File.read!(Path.join(folder, "README.md")) =~ "![read](read.png)"
      assert {1240, height} = size(Path.join(folder, "read.png"))
      assert height > 200
      assert folder |> File.ls!() |> Enum.sort() == ~w(README.md read.md read.png read.term)
    end

    @tag :gnuplot
    test "tells what gnuplot said if it fails", %{folder: folder} do
      png = Path.join([folder, "no such folder", "read.png"])
      File.mkdir_p!(Path.dirname(png))
      File.mkdir_p!(png)
      assert {:error, "gnuplot" <> _} = Chart.draw(result([]), png)
    end

    test "tells what to install where gnuplot is missing", %{folder: folder} do
      Saved.write(result([]), folder)
      path = System.fetch_env!("PATH")
      System.put_env("PATH", folder)
      on_exit(fn -> System.put_env("PATH", path) end)

      assert {:error, "gnuplot is missing. Debian: apt-get install gnuplot-nox"} =
               Page.main([folder], folder)
    end

    test "tells what is wrong with what it was given", %{folder: folder} do
      assert {"bench/report: usage: bench/report FOLDER" <> _, 1} = report([])
      assert {"bench/report: no such folder: nowhere\n", 1} = report(["nowhere"])
      assert {:error, why} = Page.main([Path.basename(folder)], Path.dirname(folder))
      assert why =~ "holds no results"
    end

    defp report(args),
      do: System.cmd(@report, args, stderr_to_stdout: true, env: [{"LC_ALL", "C.UTF-8"}])

    # PNG: eight bytes, a chunk's length and name, then width and height.
    defp size(png) do
      <<0x89, "PNG", _::binary-size(4), _::32, "IHDR", width::32, height::32, _::binary>> =
        File.read!(png)

      {width, height}
    end
  end

  test "mix bench --into saves where it is told", %{folder: folder} do
    capture_io(fn ->
      :ok = Bench.run(["memory_idle"], quick: true, rounds: 1, into: folder, columns: ["auto"])
    end)

    assert [%{name: "memory_idle", quick: true, versions: versions}] = Saved.read(folder)
    assert {"auto", "net_runner #{Application.spec(:net_runner, :vsn)}"} in versions

    assert {"Port", "OTP #{System.otp_release()} (erts #{:erlang.system_info(:version)})"} in versions
  end

  defp result(changes) do
    metrics = [
      Bench.Metric.metric("MiB/s", :throughput, & &1.speed),
      Bench.Metric.metric("p50 us", :latency, & &1.us),
      Bench.Metric.metric("enters", :detail, & &1.us)
    ]

    speeds = %{
      "C" => [1000, 1100, 900],
      "auto" => [500, 600, 400],
      "Port" => [1, 1, 1],
      "Exile" => [100, 110, 90]
    }

    # Twice the same three rounds: for an interval of 95 % it takes six.
    speeds = Map.new(speeds, fn {name, values} -> {name, values ++ values} end)
    speeds = Map.merge(speeds, Keyword.get(changes, :speeds, %{}))
    names = Enum.reject(["C", "auto", "Port", "Exile"], &(&1 == changes[:without]))

    columns =
      for name <- names, do: %{name: name, role: if(name == "C", do: :reference, else: :peer)}

    measured =
      Map.new(names, fn name ->
        {name, for(speed <- speeds[name], do: %{speed: speed, us: 1000 / speed})}
      end)

    failures = [{"Port", "it's lost bytes"}]
    rows = Figures.table(columns, measured, failures, metrics, "C")
    bar = Bench.Bar.bar("auto", "MiB/s", :at_least, 0.85, "C")

    Map.merge(
      %{
        name: "read",
        question: "How fast?",
        at: "2026-11-26T09:00:00Z",
        machine: "a machine",
        absent: ["MuonTrap"],
        versions: [
          {"C", "cc 12"},
          {"auto", "net_runner 0.1.0"},
          {"Port", "OTP 25"},
          {"Exile", "exile 0.14.0"}
        ],
        sizes: %{mib: 1, cmd: ["/bin/sleep", "1"]},
        rounds: 6,
        quick: false,
        baseline: "C",
        metrics: Enum.map(metrics, &Map.take(&1, [:name, :kind])),
        rows: rows,
        bars: [Bench.Bar.judge(bar, rows, metrics)],
        failures: failures,
        load: {"1 1 1", "2 2 2"},
        strangers: 0.5
      },
      Map.new(Keyword.drop(changes, [:speeds, :without]))
    )
  end
end
