defmodule NetRunner.Faults.RefusedTest do
  # The fault matrix (docs/reliability.md) where io_uring is refused to a BEAM: by an errno, by a signal,
  # whole or in part. (kernel.io_uring_disabled answers EPERM from io_uring_setup; it is the whole
  # machine's, so a filter says it here.)
  use NetRunner.Test.FaultCase

  @moduletag :io_uring

  @refusals [
    {"with EPERM, as by kernel.io_uring_disabled", "1", "io_uring_setup", "EPERM"},
    {"with ENOSYS, as by an old kernel", "38", "io_uring_setup", "ENOSYS"},
    {"with ENOMEM", "12", "io_uring_setup", "ENOMEM"},
    {"with EPERM for io_uring_register", "1", "io_uring_register", "EPERM"},
    {"with EPERM for io_uring_enter", "1", "io_uring_enter", "EPERM"},
    {"by a signal that kills", "kill", "io_uring_setup", "kills"},
    {"by a signal that kills who registers", "kill", "io_uring_register", "kills"}
  ]

  describe "io_uring is refused (32)" do
    for {how, answer, call, why} <- @refusals do
      test "#{how}: the same results on poll, and one log line" do
        launcher = ["env", "NR_REFUSE_ERRNO=#{unquote(answer)}", fixture("refuse_calls")]

        beam =
          OtherBeam.start(
            """
            # Once more, with the log on the screen.
            Application.stop(:net_runner)
            Logger.configure(level: :info)
            {:ok, _} = Application.ensure_all_started(:net_runner)
            :ok = NetRunner.Test.WholePath.check!(:auto)
            {:error, {:backend, _}} = NetRunner.Process.start("cat", [], backend: :io_uring)
            Logger.flush()
            Logger.configure(level: :error)
            IO.puts(inspect(NetRunner.backend().data))
            IO.puts(NetRunner.backend().why)
            IO.puts("up")
            Process.sleep(:infinity)
            """,
            launcher ++ [unquote(call)]
          )

        lines = all_lines(beam)
        [log] = for line <- lines, line =~ "NetRunner", do: line
        [data, why] = lines |> Enum.reject(&(&1 == "" or &1 == log)) |> Enum.take(-2)
        assert data == ":poll"
        assert why =~ unquote(why)
        assert log =~ why
      end
    end
  end

  defp all_lines(beam, ms \\ 0) do
    receive do
      {port, {:data, {:eol, line}}} when port == beam.port -> [line | all_lines(beam)]
    after
      ms -> []
    end
  end
end
