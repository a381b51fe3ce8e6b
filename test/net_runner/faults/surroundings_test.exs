defmodule NetRunner.Faults.SurroundingsTest do
  # The fault matrix (docs/reliability.md) where what is around the BEAM matters: who started it, its
  # directory, its environment.
  use NetRunner.Test.FaultCase

  on_backends "a script whose output is captured by a shell ends when the BEAM ends (50a)" do
    code =
      ~s|{"x\\n", 0} = NetRunner.run(["echo", "x"], backend: #{inspect(backend)}); IO.puts("done")|

    {us, {output, 0}} =
      :timer.tc(fn ->
        System.cmd(
          "sh",
          ["-c", ~S[x=$("$@"); echo "got $x"], "sh", System.find_executable("elixir")] ++
            OtherBeam.elixir_args(code),
          env: OtherBeam.preload()
        )
      end)

    assert output == "got done\n"
    assert us < 20_000_000
  end

  on_backends "the child sees the BEAM's directory and environment of that moment (50b)" do
    dir = Path.dirname(tmp_path("file"))

    real =
      dir
      |> String.to_charlist()
      |> :file.read_link_all()
      |> case do
        {:ok, target} -> to_string(target)
        _not_a_link -> dir
      end

    assert File.cd!(dir, fn -> NetRunner.run(["pwd", "-P"], backend: backend) end) ==
             {real <> "\n", 0}

    name = "NET_RUNNER_TEST_#{System.unique_integer([:positive])}"
    System.put_env(name, "now")
    assert NetRunner.run(["printenv", name], backend: backend) == {"now\n", 0}
    System.delete_env(name)
    assert NetRunner.run(["printenv", name], backend: backend) == {"", 1}
  end
end
