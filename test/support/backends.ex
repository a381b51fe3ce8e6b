defmodule NetRunner.Test.Backends do
  @moduledoc """
  Which data backends are under test. `NET_RUNNER_TEST_BACKENDS` says what this machine is expected to
  have (default: `io_uring,poll`): a missing one fails the run, it is never skipped in silence.
  """

  @spec expected :: [:io_uring | :poll]
  def expected do
    "NET_RUNNER_TEST_BACKENDS"
    |> System.get_env("io_uring,poll")
    |> String.split(",", trim: true)
    |> Enum.map(fn
      "io_uring" -> :io_uring
      "poll" -> :poll
    end)
  end

  @doc "Ends the run unless what is expected is there."
  def check! do
    found = NetRunner.backend()

    if :io_uring in expected() and found.data != :io_uring do
      IO.puts(:stderr, """
      io_uring was expected here and cannot be used: #{found.why}
      Where that is right (Docker), say so: NET_RUNNER_TEST_BACKENDS=poll mix test
      """)

      System.halt(1)
    end

    IO.puts(
      "Backends under test: #{Enum.join(expected(), ", ")} (found: #{found.data}, #{found.why})"
    )
  end
end
