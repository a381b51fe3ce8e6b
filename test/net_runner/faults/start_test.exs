defmodule NetRunner.Faults.StartTest do
  # The fault matrix (docs/reliability.md) where a command cannot be started.
  use NetRunner.Test.FaultCase

  describe "what cannot be executed is an error of start, within 100 ms (27)" do
    setup do
      path = tmp_path("program")
      {:ok, path: path}
    end

    # The best of three: another program's turn on the machine is not our time.
    defp assert_start_error(cmd, reason, opts) do
      times =
        for _ <- 1..3 do
          {us, result} = :timer.tc(fn -> NetRunner.run(cmd, opts) end)
          assert result == {:error, reason}
          us
        end

      assert Enum.min(times) < 100_000
      [exe | args] = cmd
      assert NetRunner.Process.start(exe, args, opts) == {:error, reason}
    end

    on_backends "ENOENT", %{path: path} do
      assert_start_error([path], :enoent, backend: backend)
      assert_start_error(["no-such-program-anywhere"], :enoent, backend: backend)
      File.write!(path, "#!/no/such/interpreter\n")
      File.chmod!(path, 0o755)
      assert_start_error([path], :enoent, backend: backend)
    end

    on_backends "EACCES", %{path: path} do
      File.write!(path, "#!/bin/sh\n")
      assert_start_error([path], :eacces, backend: backend)
      assert_start_error([Path.dirname(path)], :eacces, backend: backend)
    end

    on_backends "ENOEXEC", %{path: path} do
      File.write!(path, "neither ELF nor script")
      File.chmod!(path, 0o755)
      assert_start_error([path], :enoexec, backend: backend)
    end

    on_backends "E2BIG" do
      argument = String.duplicate("x", 131_000)
      assert_start_error(["true" | List.duplicate(argument, 64)], :e2big, backend: backend)
    end

    on_backends "ETXTBSY", %{path: path} do
      File.cp!("/bin/true", path)
      {:ok, open} = :file.open(path, [:raw, :append])
      assert_start_error([path], :etxtbsy, backend: backend)
      :file.close(open)
      assert NetRunner.run([path], backend: backend) == {"", 0}
    end

    on_backends "ELOOP", %{path: path} do
      File.ln_s!(path, path)
      assert_start_error([path], :eloop, backend: backend)
    end

    on_backends "ENOTDIR", %{path: path} do
      File.write!(path, "")
      assert_start_error([Path.join(path, "program")], :enotdir, backend: backend)
    end

    on_backends "a directory that cannot be entered (28)", %{path: path} do
      assert_start_error(["true"], {:cd, :enoent}, cd: path, backend: backend)
      File.write!(path, "")
      assert_start_error(["true"], {:cd, :enotdir}, cd: path, backend: backend)
    end
  end
end
