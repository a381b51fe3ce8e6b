defmodule NetRunner.Faults.ZygoteTest do
  # The fault matrix (docs/reliability.md) where the zygote is hit.
  use NetRunner.Test.FaultCase

  test "the zygote is killed: running commands go on, the next start works (13, in small)" do
    {:ok, p} = NetRunner.Process.start("cat")
    zygote = kill_zygote()
    next = fn -> NetRunner.run(["echo", "next"]) == {"next\n", 0} end
    eventually("the next start works", 1_000, next)
    assert NetRunner.Shepherd.info().os_pid != zygote
    assert NetRunner.Process.write(p, "still here") == :ok
    assert NetRunner.Process.read(p) == {:ok, "still here"}
    NetRunner.Process.close_stdin(p)
    assert NetRunner.Process.await_exit(p) == {:ok, 0}
    NetRunner.Process.stop(p)
  end
end
