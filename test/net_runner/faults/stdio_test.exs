defmodule NetRunner.Faults.StdioTest do
  # The fault matrix (docs/reliability.md) where an end of a pipe is closed or flooded.
  use NetRunner.Test.FaultCase

  describe "a child that closes its ends" do
    on_backends "stdin, while 100 MiB are being written (37)" do
      data = :binary.copy("x", 100 * 1024 * 1024)

      back_at_baseline(fn ->
        assert NetRunner.run([fixture("close_stdin")], input: data, backend: backend) ==
                 {"closed\nend\n", 3}

        {:ok, p} = NetRunner.Process.start(fixture("close_stdin"), ["60000"], backend: backend)
        assert NetRunner.Process.write(p, data) == {:error, :epipe}
        assert NetRunner.Process.read(p) == {:ok, "closed\n"}
        NetRunner.Process.stop(p)
      end)
    end

    on_backends "stdout, and runs on: eof now, the exit later (52)" do
      back_at_baseline(fn ->
        {:ok, p} = NetRunner.Process.start(fixture("close_stdout"), ["300"], backend: backend)
        assert NetRunner.Process.read(p) == {:ok, "before\n"}
        assert NetRunner.Process.read(p) == :eof
        assert NetRunner.Process.alive?(p)
        assert NetRunner.Process.await_exit(p) == {:ok, 7}
        NetRunner.Process.stop(p)
        assert NetRunner.run([fixture("close_stdout"), "50"], backend: backend) == {"before\n", 7}
      end)
    end

    on_backends "a flood on stderr that nobody reads blocks nothing (52)" do
      bytes = 64 * 1024 * 1024

      back_at_baseline(fn ->
        for stderr <- [:consume, :discard] do
          assert NetRunner.run([fixture("flood_stderr"), "#{bytes}"],
                   backend: backend,
                   stderr: stderr
                 ) == {"done\n", 0}
        end

        {:ok, p} =
          NetRunner.Process.start(fixture("flood_stderr"), ["#{bytes}"], backend: backend)

        assert NetRunner.Process.await_exit(p) == {:ok, 0}
        assert NetRunner.Process.stderr_tail(p) == {:ok, String.duplicate("e", 8192)}
        NetRunner.Process.stop(p)

        {"done\n", 0, stderr} =
          NetRunner.run([fixture("flood_stderr"), "#{bytes}"], backend: backend, stderr: :capture)

        assert byte_size(stderr) == bytes
      end)
    end
  end
end
