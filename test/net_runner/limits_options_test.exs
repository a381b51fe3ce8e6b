defmodule NetRunner.LimitsOptionsTest do
  # What a command's process may use and how it is treated: umask:, nice:, oom_score_adj:, rlimits:, arg0:.
  use NetRunner.Test.Case, async: true

  # As proc(5) names them, and in which unit.
  @limits %{
    cpu: "Max cpu time",
    fsize: "Max file size",
    data: "Max data size",
    stack: "Max stack size",
    core: "Max core file size",
    rss: "Max resident set",
    nproc: "Max processes",
    nofile: "Max open files",
    memlock: "Max locked memory",
    as: "Max address space",
    locks: "Max file locks",
    sigpending: "Max pending signals",
    msgqueue: "Max msgqueue size",
    nice: "Max nice priority",
    rtprio: "Max realtime priority",
    rttime: "Max realtime timeout"
  }
  @posix [:cpu, :fsize, :data, :stack, :core, :nofile, :as]

  defp limits(opts) do
    {text, 0} = NetRunner.run(["cat", "/proc/self/limits"], opts)
    parse(text)
  end

  defp parse(text) do
    for {name, title} <- @limits, into: %{} do
      [soft, hard] = Regex.run(~r/^#{title} +(\w+) +(\w+)/m, text, capture: :all_but_first)
      {name, {limit(soft), limit(hard)}}
    end
  end

  defp limit("unlimited"), do: :infinity
  defp limit(number), do: String.to_integer(number)

  describe "rlimits:" do
    setup do
      names = if NetRunner.Nif.build() == :portable, do: @posix, else: Map.keys(@limits)
      {:ok, names: names, ours: parse(File.read!("/proc/self/limits"))}
    end

    test "all names are those of the protocol" do
      assert Enum.sort(Map.keys(@limits)) == Enum.sort(NetRunner.Protocol.rlimits())
    end

    on_backends "each is exact, soft and hard, and the others stay", %{names: names, ours: ours} do
      for name <- names do
        {_soft, hard} = ours[name]
        soft = if hard == :infinity, do: 1_000_000_000, else: div(hard, 2)
        limits = limits(rlimits: [{name, {soft, hard}}], backend: backend)
        assert limits == %{ours | name => {soft, hard}}
      end
    end

    test "all at once, as a map", %{names: names, ours: ours} do
      wanted = for name <- names, {_soft, hard} = ours[name], into: %{}, do: {name, {hard, hard}}
      assert limits(rlimits: wanted) == Map.merge(ours, wanted)
    end

    test "one value is both; the last of two wins" do
      assert limits(rlimits: [core: 5])[:core] == {5, 5}
      assert limits(rlimits: [core: 5, nofile: 100, core: {1, 2}])[:core] == {1, 2}
    end

    test "none is none", %{ours: ours} do
      assert limits(rlimits: []) == ours
      assert limits(rlimits: %{}) == ours
    end

    test "they are inherited: a background process has them, too" do
      assert NetRunner.run(["sh", "-c", "sh -c 'ulimit -n'"], rlimits: [nofile: 77]) ==
               {"77\n", 0}
    end

    test "of few descriptors the start itself needs none" do
      for n <- 0..10 do
        assert {:ok, result} = NetRunner.exec(["true"], rlimits: [nofile: n])

        # Below four, the dynamic loader has no descriptor to load the C library with, and says so.
        if n >= 4,
          do: assert(result.exit == {:exited, 0}),
          else: assert({result.exit, result.stderr =~ "shared"} == {{:exited, 127}, true})
      end
    end

    test "a file that grows too large ends its writer" do
      path = tmp_path("large")
      cmd = ["dd", "if=/dev/zero", "of=" <> path, "bs=1k", "count=100"]
      assert {:ok, result} = NetRunner.exec(cmd, rlimits: [fsize: 10_240])
      assert result.exit == {:signaled, :sigxfsz}
      assert File.stat!(path).size == 10_240
    end

    test "more than anybody may have is an error that names it" do
      assert NetRunner.run(["true"], rlimits: [nofile: :infinity]) ==
               {:error, {:rlimit, :nofile, :eperm}}
    end

    test "what cannot be is {:error, {:invalid, :rlimits, message}}" do
      for {limits, words} <- [
            {[nofile: {11, 10}], "nofile: the soft limit is above"},
            {%{core: {:infinity, 10}}, "core: the soft limit is above"},
            {[as: 0xFFFF_FFFF_FFFF_FFFF], "as: 18446744073709551615 is more"},
            {[as: {0, 0x1_0000_0000_0000_0000}], "as: 18446744073709551616 is more"}
          ] do
        assert {:error, {:invalid, :rlimits, message}} = NetRunner.run(["true"], rlimits: limits)
        assert message =~ words
      end
    end

    test "what is none raises" do
      for limits <-
            [nil, 5, [5], [nofile: -1], [nofile: 1.0], [nofile: nil], [nofiles: 5]] ++
              [%{"nofile" => 5}, [nofile: {1}], [nofile: {1, 2, 3}], [{:nofile, 1} | 2], 1..2] do
        assert_raise ArgumentError, ~r/invalid value for :rlimits/, fn ->
          NetRunner.run(["true"], rlimits: limits)
        end
      end
    end
  end

  describe "umask:" do
    test "is the command's, and not that of its own stdout's file" do
      folder = Path.dirname(tmp_path("x"))
      [made, out] = for name <- ["made", "out"], do: Path.join(folder, name)
      opts = [umask: 0o077, stdout: {:file, out, mode: 0o644}]

      assert {:ok, %{exit: {:exited, 0}}} =
               NetRunner.exec(["sh", "-c", "umask; : >" <> made], opts)

      assert File.read!(out) == "0077\n"
      assert Bitwise.band(File.stat!(made).mode, 0o777) == 0o600
      assert Bitwise.band(File.stat!(out).mode, 0o777) == 0o644
    end

    test "0 is one" do
      assert NetRunner.run(["sh", "-c", "umask"], umask: 0) == {"0000\n", 0}
    end

    test "what is none raises" do
      for value <- [nil, -1, 0o1000, "022"] do
        assert_raise ArgumentError, ~r/:umask: expected permission bits/, fn ->
          NetRunner.run(["true"], umask: value)
        end
      end
    end
  end

  describe "nice:" do
    test "is the niceness itself, not a difference" do
      assert NetRunner.run(["nice"], nice: 19) == {"19\n", 0}
      {ours, 0} = NetRunner.run(["nice"])

      assert NetRunner.run(["nice"], nice: ours |> String.trim() |> String.to_integer()) ==
               {ours, 0}
    end

    @tag :root
    test "root may go before others" do
      assert NetRunner.run(["nice"], nice: -3) == {"-3\n", 0}
    end

    test "what is none raises" do
      for value <- [nil, -21, 20, 1.0] do
        assert_raise ArgumentError, ~r/:nice: expected an integer in -20..19/, fn ->
          NetRunner.run(["true"], nice: value)
        end
      end
    end
  end

  describe "oom_score_adj:" do
    @describetag :privileges

    test "is the command's" do
      for value <- [1000, 999] do
        assert NetRunner.run(["cat", "/proc/self/oom_score_adj"], oom_score_adj: value) ==
                 {"#{value}\n", 0}
      end
    end

    # CAP_SYS_RESOURCE, which root in a container need not have.
    test "to spare a command needs a privilege" do
      [mask] =
        Regex.run(~r/^CapEff:\s+(\w+)/m, File.read!("/proc/self/status"), capture: :all_but_first)

      capable? = mask |> String.to_integer(16) |> Bitwise.>>>(24) |> Bitwise.band(1) == 1

      assert NetRunner.run(["cat", "/proc/self/oom_score_adj"], oom_score_adj: -500) ==
               if(capable?, do: {"-500\n", 0}, else: {:error, {:oom_score_adj, :eacces}})
    end

    test "what is none raises" do
      for value <- [nil, -1001, 1001, "0"] do
        assert_raise ArgumentError, ~r/:oom_score_adj: expected an integer in -1000..1000/, fn ->
          NetRunner.run(["true"], oom_score_adj: value)
        end
      end
    end
  end

  describe "arg0:" do
    test "is what the program is told its name is; the executable stays" do
      show = [fixture("show_exec"), "an argument"]
      opts = [arg0: "another name", env: {:replace, []}]
      assert NetRunner.run(show, opts) == {"argc 2\n12:another name\n11:an argument\nenvc 0\n", 0}
      assert NetRunner.run(["sh", "-c", "echo $0"], arg0: "-sh") == {"-sh\n", 0}
    end

    test "may be empty" do
      assert NetRunner.run([fixture("show_exec")], arg0: "", env: {:replace, []}) ==
               {"argc 1\n0:\nenvc 0\n", 0}
    end

    test "messages and results name the command as it was given" do
      assert {:ok, %{cmd: ["sh", "-c", "exit 3"]}} =
               NetRunner.exec(["sh", "-c", "exit 3"], arg0: "x")
    end

    test "what cannot be is an error, what is none raises" do
      assert {:error, {:invalid, :arg0, nul}} = NetRunner.run(["true"], arg0: "a\0b")
      assert nul =~ "NUL"

      assert {:error, {:invalid, :arg0, long}} =
               NetRunner.run(["true"], arg0: String.duplicate("a", 131_072))

      assert long =~ "131072 bytes"

      for value <- [nil, :sh, ~c"sh"] do
        assert_raise ArgumentError, ~r/:arg0: expected a binary/, fn ->
          NetRunner.run(["true"], arg0: value)
        end
      end
    end
  end
end
