defmodule Bench.Scenarios.SpawnParallel do
  # How many commands per second when 64 processes start them at once? A zygote that serves one after
  # the other, or a lock around starting, would show here.

  use Bench.Scenario

  @impl true
  def question, do: "How many runs of /bin/true per second, 64 at once?"

  @impl true
  def sizes(:full), do: %{at_once: 64, runs: 512}
  def sizes(:quick), do: %{at_once: 64, runs: 64}

  @impl true
  def needs, do: :run

  @impl true
  def baseline, do: "System.cmd"

  @impl true
  def references(sizes),
    do: [{"C", ["spawn", "#{sizes.at_once}", "#{sizes.runs}", "/bin/true"]}]

  @impl true
  def measure(%{module: module, arg: arg}, sizes) do
    each = div(sizes.runs, sizes.at_once)

    wrong =
      1..sizes.at_once
      |> Enum.map(fn _ ->
        Task.async(fn ->
          Enum.count(1..each, fn _ -> module.run(arg, ["/bin/true"]) != {"", 0} end)
        end)
      end)
      |> Task.await_many(60_000)
      |> Enum.sum()

    %{
      work: sizes.runs,
      wrong: if(wrong > 0, do: "#{wrong} of #{sizes.runs} runs went wrong")
    }
  end

  @impl true
  def metrics, do: [per_s("runs"), own_us_per("run"), other_us_per("run")]

  @impl true
  def bars, do: [bar("auto", "runs/s", :at_least, 1, "System.cmd")]
end
