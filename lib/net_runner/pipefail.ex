defmodule NetRunner.Pipefail do
  @moduledoc false
  # How a pipeline ended, from how each of its commands did: pure. One decides, and the result of the whole is that
  # command's: the first that something went wrong around (nobody can kill it, its pipes failed, its guardian was lost), else the last that
  # has failed, as a shell with `pipefail` says it, else the last. A tee, which nobody asked for as a command, only if nobody else has
  # failed but by SIGPIPE: where the tee has, that is what it did to those before it.

  alias NetRunner.Result

  # How a shell tells that SIGPIPE ended something.
  @sigpipe [{:signaled, :sigpipe}, {:exited, 141}]

  @typedoc "One command's result, its exit codes that are no failure, whether it is behind a tee, or one."
  @type stage :: %{result: Result.t(), ok: [0..255], branch?: boolean, tee?: boolean}

  @doc "The result of the whole, without stdout; the place of the command that decides; whether it has failed."
  @spec result([stage, ...], duration_ms :: non_neg_integer) ::
          {Result.t(), non_neg_integer, failed? :: boolean}
  def result(stages, duration_ms) do
    results = Enum.map(stages, & &1.result)
    main = for %{branch?: false, result: result} <- stages, do: result
    {index, failed?} = decisive(stages)

    result = %{
      Enum.at(results, index)
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

    {result, index, failed?}
  end

  defp decisive(stages) do
    failed = failed(stages)

    error =
      Enum.find(Enum.reverse(failed), fn {stage, _index, _unread?} ->
        wrong_around?(stage.result)
      end)

    # Who was not read by one that has failed is not why: the other is in the list, too.
    read = Enum.reject(failed, fn {_stage, _index, unread?} -> unread? end)

    case error || Enum.find(read, List.first(read), fn {stage, _, _} -> not stage.tee? end) do
      nil -> {last_command(stages), false}
      {_stage, index, _unread?} -> {index, true}
    end
  end

  # Others were stopped for it.
  defp wrong_around?(%{error: error, cause: cause}), do: error != nil or cause == :guardian_lost

  # Those that have, the last one first, each with whether it ended by SIGPIPE as its reader had. From the right: whether
  # what is written to has failed is known before its writer is judged.
  defp failed(stages) do
    {failed, _reader_failed?} =
      stages
      |> Enum.with_index()
      |> Enum.reverse()
      |> Enum.flat_map_reduce(:we_read, fn {stage, index}, reader_failed? ->
        failed? = failed?(stage, reader_failed?)
        unread? = reader_failed? == true and sigpipe?(stage)
        # Nobody writes to what is behind a tee but the tee, which goes on without it.
        {if(failed?, do: [{stage, index, unread?}], else: []),
         if(stage.branch?, do: reader_failed?, else: failed?)}
      end)

    failed
  end

  defp last_command(stages) do
    {_stage, index} =
      stages
      |> Enum.with_index()
      |> Enum.reverse()
      |> Enum.find(fn {stage, _index} -> not stage.branch? and not stage.tee? end)

    index
  end

  # Nobody reads the last one's output but us: to it, SIGPIPE is a failure.
  defp failed?(%{result: result, ok: ok} = stage, reader_failed?),
    do: not (reader_failed? == false and sigpipe?(stage)) and not Result.ok?(result, ok)

  defp sigpipe?(%{branch?: branch?, result: %{cause: cause, exit: exit}}),
    do: not branch? and cause in [:exited, :signaled] and exit in @sigpipe

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
