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
      branch?: opts[:branch?] || false,
      tee?: opts[:tee?] || false
    }
  end

  defp result(stages) do
    {result, index, _failed?} = Pipefail.result(stages, 99)
    assert result.exit == Enum.at(stages, index).result.exit
    result
  end

  # Which decides, and whether it is a failure.
  defp verdict(stages) do
    {_result, index, failed?} = Pipefail.result(stages, 99)
    {index, failed?}
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
      assert exits |> Enum.map(&stage/1) |> result() |> Map.fetch!(:exit) == decides
    end
  end

  test "a writer whose reader has failed has failed by SIGPIPE, but the reader decides" do
    assert verdict([stage(@pipe), stage(@one)]) == {1, true}
  end

  test "a command's own ok: says what is a failure, and excuses nobody else" do
    assert verdict([stage(@one, ok: [0, 1]), stage(@ok)]) == {1, false}
    assert verdict([stage(@two, ok: [0, 1]), stage(@ok)]) == {0, true}
    assert verdict([stage(@pipe), stage(@one, ok: [0, 1])]) == {1, false}
    assert verdict([stage(@one), stage(@ok, ok: [0, 1])]) == {0, true}
    assert verdict([stage(@two), stage(@one, ok: [0, 1])]) == {0, true}
  end

  test "a stop is one, whatever the signal was" do
    assert result([stage(@pipe, cause: :timeout), stage(@ok)]).cause == :timeout
  end

  test "what went wrong around a command counts first" do
    lost = stage(nil, cause: :guardian_lost, error: :closed)
    assert result([lost, stage(@one)]).error == :closed
    assert result([stage(nil, cause: :guardian_lost), stage(@ok)]).cause == :guardian_lost
    unwritten = stage(@one, cause: :io_error, error: {:file, "x", :enospc}, tee?: true)
    assert verdict([stage(@one), unwritten, stage(@two)]) == {1, true}
  end

  test "a tee is nobody's command: it decides only if nobody else has failed" do
    assert verdict([stage(@ok), stage(@ok, tee?: true)]) == {0, false}
    assert verdict([stage(@one), stage(@ok, tee?: true)]) == {0, true}
    assert verdict([stage(@ok), stage(@one, tee?: true)]) == {1, true}
    assert verdict([stage(@one), stage(@two, tee?: true)]) == {0, true}
    assert verdict([stage(@one, ok: [0, 1]), stage(@ok, tee?: true)]) == {0, false}

    assert verdict([stage({:signaled, :sigterm}, cause: :timeout), stage(@ok, tee?: true)]) ==
             {0, true}
  end

  test "a tee that was killed decides, and none of those that it then left unread" do
    killed = stage({:signaled, :sigkill}, tee?: true)
    assert verdict([stage(@pipe), killed, stage(@ok)]) == {1, true}
    assert verdict([stage(@pipe), stage({:exited, 141}), killed]) == {2, true}
    assert verdict([stage(@pipe), killed, stage(@ok, branch?: true), stage(@ok)]) == {1, true}
    # Who has failed otherwise is a command.
    assert verdict([stage(@one), stage(@pipe), killed, stage(@ok)]) == {0, true}
    assert verdict([stage(@pipe), killed, stage(@one)]) == {2, true}
    assert verdict([stage(@pipe), stage(@ok, tee?: true), stage(@pipe)]) == {2, true}
  end

  test "one behind a tee is one more, which nobody reads" do
    behind = &stage(&1, branch?: true)
    tee = &stage(&1, tee?: true)
    assert verdict([stage(@ok), tee.(@ok), behind.(@one), stage(@ok)]) == {2, true}
    # What it was not given to read it may miss; what it leaves is a failure of its own.
    assert verdict([stage(@ok), tee.(@ok), behind.(@pipe), stage(@ok)]) == {2, true}
    # The writer's reader is the tee.
    assert verdict([stage(@pipe), tee.(@pipe), behind.(@ok), stage(@ok)]) == {3, false}
    # Last in the list, it is still not the last of the pipeline.
    assert verdict([stage(@two, ok: [2]), tee.(@ok), behind.(@ok)]) == {0, false}
  end

  test "what was used is the sum, the largest memory that of one" do
    result = result([stage(@ok, rss: 30), stage(@ok, rss: 20)])
    assert result.rusage == %{user_us: 10, max_rss_kb: 30}
    assert {result.duration_ms, result.orphans_killed, length(result.stages)} == {99, 2, 2}
    unknown = put_in(stage(@ok).result.rusage, nil)
    assert result([stage(@ok), unknown]).rusage == nil
  end
end
