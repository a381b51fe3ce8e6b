defmodule NetRunner.PipefailTest do
  # Which of a pipeline's commands says how it ended: a table, and the same with real ones.
  use NetRunner.Test.Case, async: true

  alias NetRunner.{Pipefail, Result}

  defp stage(exit, opts \\ []) do
    cause = opts[:cause] || elem(exit, 0)

    %{
      result: %Result{
        cmd: [inspect(exit)],
        exit: exit,
        cause: cause,
        error: opts[:error],
        os_pid: 7,
        containment: :subreaper,
        duration_ms: 1,
        orphans_killed: 1,
        rusage: %{user_us: 5, max_rss_kb: opts[:rss] || 10}
      },
      ok: opts[:ok] || [0],
      branch?: opts[:branch?] || false
    }
  end

  @ok {:exited, 0}
  @one {:exited, 1}
  @two {:exited, 2}
  @pipe {:signaled, :sigpipe}

  test "the last that failed decides, else the last" do
    for {exits, decides} <- [
          {[@ok, @ok], @ok},
          {[@one, @ok], @one},
          {[@one, @two, @ok], @two},
          {[@one, @two], @two},
          {[{:signaled, :sigkill}, @ok], {:signaled, :sigkill}},
          # Not read to its end: no failure, if its reader has not failed either.
          {[@pipe, @ok], @ok},
          {[{:exited, 141}, @ok], @ok},
          {[@pipe, @pipe, @ok], @ok},
          {[@pipe, @one], @one},
          {[@one, @pipe, @ok], @one},
          {[@pipe, @one, @ok], @one},
          # It says nothing of the one behind its reader.
          {[@pipe, @pipe, @one, @ok], @one},
          # Nobody but us reads the last one.
          {[@ok, @pipe], @pipe},
          {[@ok, {:exited, 141}], {:exited, 141}}
        ] do
      assert exits |> Enum.map(&stage/1) |> Pipefail.result(1) |> Map.fetch!(:exit) == decides
    end
  end

  test "a writer whose reader has failed has failed by SIGPIPE, but the reader decides" do
    result = Pipefail.result([stage(@pipe), stage(@one)], 1)
    assert result.exit == @one
  end

  test "a command's own ok: says what is a failure" do
    assert Pipefail.result([stage(@one, ok: [0, 1]), stage(@ok)], 1).exit == @ok
    assert Pipefail.result([stage(@two, ok: [0, 1]), stage(@ok)], 1).exit == @two
    assert Pipefail.result([stage(@pipe), stage(@one, ok: [0, 1])], 1).exit == @one
  end

  test "a stop is one, whatever the signal was" do
    assert Pipefail.result([stage(@pipe, cause: :timeout), stage(@ok)], 1).cause == :timeout
  end

  test "what went wrong around a command counts first" do
    lost = stage(nil, cause: :guardian_lost, error: :closed)
    assert Pipefail.result([lost, stage(@one)], 1).error == :closed

    assert Pipefail.result([stage(nil, cause: :guardian_lost), stage(@ok)], 1).cause ==
             :guardian_lost
  end

  test "one behind a tee is one more, which nobody reads" do
    tee = [stage(@ok), stage(@one, branch?: true), stage(@ok)]
    assert Pipefail.result(tee, 1).exit == @one
    tee = [stage(@pipe), stage(@pipe, branch?: true), stage(@ok)]
    assert Pipefail.result(tee, 1).exit == @pipe
    # Last in the list, it is still not the last of the pipeline.
    assert Pipefail.result([stage(@two, ok: [2]), stage(@ok, branch?: true)], 1).exit == @two
  end

  test "what was used is the sum, the largest memory that of one" do
    result = Pipefail.result([stage(@ok, rss: 30), stage(@ok, rss: 20)], 99)
    assert result.rusage == %{user_us: 10, max_rss_kb: 30}
    assert {result.duration_ms, result.orphans_killed, length(result.stages)} == {99, 2, 2}
    unknown = put_in(stage(@ok).result.rusage, nil)
    assert Pipefail.result([stage(@ok), unknown], 1).rusage == nil
  end
end
