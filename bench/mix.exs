defmodule Bench.MixProject do
  use Mix.Project

  # NetRunner's benchmarks: a project of their own, so that nothing of them reaches its users.
  def project do
    [
      app: :net_runner_bench,
      version: "0.1.0",
      elixir: "~> 1.14",
      deps: [{:net_runner, path: ".."}]
    ]
  end

  def application, do: [extra_applications: [:logger]]
end
