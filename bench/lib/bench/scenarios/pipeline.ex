defmodule Bench.Scenarios.Pipeline do
  @moduledoc false
  # What the scenarios of pipelines share: the shell that they are held against, which is started as System.cmd starts
  # one, and, those that move bytes, what is measured.

  import Bench.Bar, only: [bar: 5]
  import Bench.Metric

  def needs, do: :join
  def baseline, do: "sh"
  def metrics, do: [mib_per_s(), own_per_gib(), other_per_gib()]
  def bars, do: [bar("auto", "MiB/s", :at_least, 0.95, "sh")]

  @doc "The shell's own, from a file into a file where these are given."
  def sh(cmds, files \\ []) do
    from = if files[:from], do: " < '#{files[:from]}'", else: ""
    to = if files[:to], do: " > '#{files[:to]}'", else: ""
    [first | rest] = Enum.map(cmds, &quoted/1)
    System.cmd("sh", ["-c", Enum.join([first <> from | rest], " | ") <> to])
  end

  @doc "A command as a shell takes it; none of ours has a quote in it."
  def quoted(cmd), do: Enum.map_join(cmd, " ", &"'#{&1}'")

  @doc "A file of so many MiB in memory, made once, and a place for its copy."
  def files(mib) do
    from = in_memory("from-#{mib}")

    unless File.exists?(from) do
      File.write!(from, Bench.Stamp.stream(mib * 1024 * 1024, 65_536) |> Enum.to_list())
      System.at_exit(fn _status -> for name <- [from, from <> "-to"], do: File.rm(name) end)
    end

    [from: from, to: from <> "-to"]
  end

  @doc "A path of this run's own, in memory where there is such a place."
  def in_memory(name) do
    dir = if File.dir?("/dev/shm"), do: "/dev/shm", else: System.tmp_dir!()
    Path.join(dir, "bench-#{name}-#{System.pid()}")
  end

  @doc "Whether the copy is one."
  def copied(files) do
    case System.cmd("cmp", [files[:from], files[:to]], stderr_to_stdout: true) do
      {"", 0} -> nil
      {said, _status} -> said
    end
  end
end

defmodule Bench.Scenarios.Pipeline3 do
  # What do three commands bring that the kernel joins, beside a shell's? Nothing of it comes into the BEAM.

  use Bench.Scenario, like: Bench.Scenarios.Pipeline

  alias Bench.Scenarios.Pipeline

  @impl true
  def question, do: "How fast do bytes go through three commands?"

  @impl true
  def sizes(:full), do: %{mib: 2048}
  def sizes(:quick), do: %{mib: 64}

  @impl true
  def references(sizes),
    do: [{"sh", {fn -> seen(Pipeline.sh(cmds(sizes)), sizes) end, Bench.Versions.program("sh")}}]

  @impl true
  def measure(%{module: module, arg: arg}, sizes),
    do: seen(module.join(arg, cmds(sizes), []), sizes)

  defp cmds(sizes), do: [["head", "-c", "#{bytes(sizes)}", "/dev/zero"], ["cat"], ["wc", "-c"]]
  defp bytes(sizes), do: sizes.mib * 1024 * 1024

  defp seen({said, 0}, sizes) do
    wrong = if String.trim(said) != "#{bytes(sizes)}", do: "wc says #{said}"
    %{work: bytes(sizes), wrong: wrong}
  end
end

defmodule Bench.Scenarios.PipelineFile do
  # The same from a file into a file, both of them in memory: the first command reads, the last one writes by itself.

  use Bench.Scenario, like: Bench.Scenarios.Pipeline

  alias Bench.Scenarios.Pipeline

  @impl true
  def question, do: "How fast is a file copied through three commands?"

  @impl true
  def sizes(:full), do: %{mib: 512}
  def sizes(:quick), do: %{mib: 16}

  @impl true
  def references(sizes) do
    [{"sh", {fn -> seen(sizes, &Pipeline.sh(cmds(), &1)) end, Bench.Versions.program("sh")}}]
  end

  @impl true
  def measure(%{module: module, arg: arg}, sizes),
    do: seen(sizes, &module.join(arg, cmds(), &1))

  defp cmds, do: [["cat"], ["cat"], ["cat"]]

  # That the copy is one is looked at when the clocks have stopped.
  defp seen(sizes, run) do
    files = Pipeline.files(sizes.mib)
    {{"", 0}, clocks} = Bench.Cpu.timed(fn -> run.(files) end)
    measurement = %{work: sizes.mib * 1024 * 1024, wrong: Pipeline.copied(files)}
    File.rm!(files[:to])
    Map.merge(measurement, clocks)
  end
end

defmodule Bench.Scenarios.PipelineTrue do
  # What does a pipeline cost that does nothing?

  use Bench.Scenario

  alias Bench.Scenarios.Pipeline

  @true_ List.duplicate(["/bin/true"], 3)

  @impl true
  def question, do: "How long do three commands take that do nothing?"

  @impl true
  defdelegate needs, to: Pipeline

  @impl true
  defdelegate baseline, to: Pipeline

  @impl true
  def sizes(:full), do: %{runs: 100}
  def sizes(:quick), do: %{runs: 10}

  @impl true
  def references(sizes),
    do: [
      {"sh", {fn -> seen(sizes, fn -> Pipeline.sh(@true_) end) end, Bench.Versions.program("sh")}}
    ]

  @impl true
  def measure(%{module: module, arg: arg}, sizes),
    do: seen(sizes, fn -> module.join(arg, @true_, []) end)

  defp seen(sizes, run) do
    samples =
      for _ <- 1..sizes.runs do
        {us, {"", 0}} = :timer.tc(run)
        us
      end

    %{work: sizes.runs, wrong: nil, samples: samples}
  end

  @impl true
  def metrics, do: [p50(), p99(), own_us_per("run"), other_us_per("run")]

  @impl true
  def bars, do: [bar("auto", "p50 us", :at_most, 1.5, "sh")]
end
