defmodule TeeTest do
  # Do the scenarios of copies see what is wrong with a copy, and is nothing left of them?

  use ExUnit.Case

  alias Bench.{Native, Offspring}
  alias Bench.Contestants.NetRunner
  alias Bench.Scenarios.{Pipeline, TeeFile, ZcatTee}

  @sizes %{mib: 1, block: 65_536}

  setup_all do: Native.build!()

  setup do
    Offspring.await(0)

    on_exit(fn ->
      Offspring.await(0)
      refute File.exists?(Pipeline.in_memory("tee"))
    end)
  end

  defmodule Careless do
    # A copy that is not what was read, of a stream that is.
    def tee(spoil, cmd, to, acc, fun) do
      {data, 0} = System.cmd(hd(cmd), tl(cmd))
      File.write!(to, spoil.(data))
      fun.(data, acc)
    end
  end

  describe "a copy in a file" do
    test "is whole, on each backend" do
      for {_name, backend} <- NetRunner.columns(), scenario <- [TeeFile, ZcatTee] do
        contestant = %{module: NetRunner, arg: backend}
        assert %{wrong: nil, work: 1_048_576} = scenario.measure(contestant, @sizes)
      end
    end

    test "that lost bytes or has others is seen, though the stream is whole" do
      swap = fn <<a::binary-size(4096), b::binary-size(4096), rest::binary>> -> b <> a <> rest end

      assert wrong(& &1) == nil
      assert wrong(&binary_part(&1, 0, 1_044_480)) =~ "the copy: 1044480 of 1048576 bytes"
      assert wrong(swap) =~ "the copy: 1048576 of 1048576 bytes, 1 chunks wrong"
    end

    test "is removed where its scenario fails" do
      broken = fn _data ->
        File.write!(Pipeline.in_memory("tee"), "half of it")
        raise "no copy"
      end

      assert_raise RuntimeError, "no copy", fn -> wrong(broken) end
    end

    defp wrong(spoil), do: TeeFile.measure(%{module: Careless, arg: spoil}, @sizes).wrong

    test "of the shell's tee is whole, and the stream without one has its bytes" do
      for scenario <- [TeeFile, ZcatTee], {name, {run, version}} <- scenario.references(@sizes) do
        assert %{wrong: nil, work: 1_048_576} = run.(), name
        assert version =~ ~r/\w/
      end
    end
  end
end
