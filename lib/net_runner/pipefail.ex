defmodule NetRunner.Pipefail do
  @moduledoc false
  # How a pipeline ended, from how each of its commands did: pure. One decides, and the result of the whole is that
  # command's: the first that something went wrong around (nobody can kill it, its pipes failed), else the last that
  # has failed, as a shell with `pipefail` says it, else the last.

  alias NetRunner.Result

  # How a shell tells that SIGPIPE ended something.
  @sigpipe [{:signaled, :sigpipe}, {:exited, 141}]

  @typedoc "One command's result, its exit codes that are no failure, and whether it is behind a tee."
  @type stage :: %{result: Result.t(), ok: [0..255], branch?: boolean}

  @doc "The result of the whole, without stdout."
  @spec result([stage, ...], duration_ms :: non_neg_integer) :: Result.t()
  def result(stages, duration_ms) do
    results = Enum.map(stages, & &1.result)
    main = for %{branch?: false, result: result} <- stages, do: result

    %{
      decisive(stages)
      | stages: results,
        duration_ms: duration_ms,
        rusage: rusage(results),
        stats: %{
          stdin: hd(main).stats[:stdin],
          stdout: List.last(main).stats[:stdout],
          stderr: nil
        },
        truncated?: Enum.any?(results, & &1.truncated?),
        orphans_killed: results |> Enum.map(& &1.orphans_killed) |> Enum.sum()
    }
  end

  defp decisive(stages) do
    Enum.find_value(stages, &(&1.result.error && &1.result)) || last_failed(stages)
  end

  # From the right: whether what is written to has failed is known before the writer is judged.
  defp last_failed(stages) do
    {last, _reader_failed?} =
      stages
      |> Enum.reverse()
      |> Enum.reduce({nil, true}, fn stage, {last, reader_failed?} ->
        failed? = failed?(stage, reader_failed?)
        last = last || (failed? && stage.result) || nil
        # Nobody writes to what is behind a tee but the tee, which goes on without it.
        {last, if(stage.branch?, do: reader_failed?, else: failed?)}
      end)

    last || Enum.find_value(Enum.reverse(stages), &(not &1.branch? && &1.result))
  end

  # Nobody reads the last one's output but us: to it, SIGPIPE is a failure.
  defp failed?(%{branch?: false, result: %{cause: cause, exit: exit}}, false)
       when cause in [:exited, :signaled] and exit in @sigpipe,
       do: false

  defp failed?(%{result: result, ok: ok}, _reader_failed?), do: not Result.ok?(result, ok)

  # None where one is not known: a sum of the others would look like all.
  defp rusage(results) do
    used = Enum.map(results, & &1.rusage)

    unless nil in used do
      Enum.reduce(used, fn one, all ->
        Map.merge(all, one, fn
          :max_rss_kb, a, b -> max(a, b)
          _count, a, b -> a + b
        end)
      end)
    end
  end
end
