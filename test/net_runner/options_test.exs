defmodule NetRunner.OptionsTest do
  # Every option of the schema: what it takes, what it refuses, and that it is documented. A wrong type
  # raises naming the key; a value that cannot be is {:error, {:invalid, option, message}}.
  use NetRunner.Test.Case, async: true

  alias NetRunner.Options
  alias NetRunner.Test.Backends

  @common [
    :input,
    :stdout,
    :stderr,
    :stderr_tail_bytes,
    :cgroup,
    :drain_timeout,
    :orphans,
    :pty,
    :stop_signal,
    :kill_timeout,
    :cd,
    :env,
    :arg0,
    :umask,
    :nice,
    :oom_score_adj,
    :rlimits,
    :user,
    :group,
    :groups,
    :no_new_privs,
    :backend,
    :spawn_timeout
  ]

  @frames [:packet, :max_frame_size]
  @read_for_you [:input_buffer, :lines, :max_line_length, :idle_timeout, :progress, :gate] ++
                  @frames
  @to_the_end @common ++ @read_for_you ++ [:into, :timeout, :max_output_size, :overflow]

  @calls [
    run: @to_the_end,
    run!: @to_the_end ++ [:ok],
    exec: @to_the_end,
    exec!: @to_the_end ++ [:ok],
    stream: @common ++ @read_for_you ++ [:max_chunk_size, :exit, :ok],
    process: @common ++ @frames ++ [:owner],
    daemon:
      @common ++
        [
          :input_buffer,
          :cmd,
          :name,
          :on_output,
          :log,
          :overflow,
          :max_queue,
          :lines,
          :max_line_length,
          :ready,
          :ready_timeout,
          :wait_for,
          :wait_timeout,
          :exit_reason,
          :flush_timeout,
          :restart
        ],
    gate: [:name, :limit, :max_queue],
    top: [:iterations, :interval, :sort],
    record: [:keep_stdin, :timeout],
    cassette: [:match, :times, :speed, :stdin],
    fake: [:times, :stdin, :delay, :stdout, :stderr, :exit, :steps],
    redirect: [:times, :speed, :stdin, :otherwise, :unused, :global],
    replays: [:others]
  ]

  # Of no command that is given options.
  @about_no_command [:gate, :top, :record, :cassette, :fake, :redirect, :replays]

  @u32 4_294_967_295
  @not_a_number [nil, "1", 1.0, :none, -1, [], {1}, ~c"1", :"1", true]

  @files [
    {{:file, "x"}, {:file, "x", :truncate, 0o666}},
    {{:file, "/a/b", []}, {:file, "/a/b", :truncate, 0o666}},
    {{:file, <<255>>, [:append]}, {:file, <<255>>, :append, 0o666}},
    {{:file, "x", [:append, mode: 0o4755]}, {:file, "x", :append, 0o4755}},
    {{:file, "x", mode: 0}, {:file, "x", :truncate, 0}}
  ]

  @no_stdio [
    nil,
    "pipe",
    true,
    2,
    {},
    {:file},
    {:file, :x},
    {:file, ~c"x"},
    {:file, "x", :append},
    {:file, "x", [:appendix]},
    {:file, "x", [mode: -1]},
    {:file, "x", [mode: 0o10000]},
    {:file, "x", [mode: "644"]},
    {:file, "x", [:append | :mode]},
    {:file, "x", [], []},
    {:path, "x"}
  ]

  @bad_files [{:file, ""}, {:file, "a" <> <<0>>}, {:file, <<0>>, [:append]}]

  # {option, [{given, taken}], [wrong], [invalid]}
  defp values do
    me = self()
    terminal = %{rows: 24, cols: 80, echo: true, raw: false}

    [
      {:input,
       same([
         "",
         "x",
         [],
         ["x" | "y"],
         :null,
         %{},
         1..2,
         MapSet.new(),
         {:file, "/a/path"},
         &Enumerable.reduce([], &1, &2),
         &Enum.into([], &1)
       ]),
       [
         nil,
         1,
         :stdin,
         {:file, ~c"x"},
         {:file, "x", []},
         {:file},
         {},
         1.0,
         make_ref(),
         fn -> "x" end,
         fn _, _, _ -> "x" end,
         ~D[2020-01-01],
         <<1::3>>
       ], [{:file, ""}, {:file, "a" <> <<0>>}]},
      {:input_buffer, same([0, 1, 16_777_216]), [16_777_217, :infinity | @not_a_number], []},
      {:stdout, same([:pipe, :discard]) ++ @files,
       [:inherit, :consume, :capture, :merge | @no_stdio], @bad_files},
      {:stderr, same([:consume, :merge, :discard, :inherit]) ++ @files, [:stdout | @no_stdio],
       @bad_files},
      {:lines,
       [{true, "\n"}, {false, nil}, {nil, nil}] ++
         same(["\n", "\r", "\r\n", <<0>>, "é", <<255>>]),
       [1, :lines, ~c"\n", ["\n"], ~r/x/, {"\n"}, <<1::3>>], [""]},
      {:packet, [{false, nil} | same([nil, 1, 2, 4])], [0, 3, 8, true | @not_a_number -- [nil]],
       []},
      {:max_frame_size, same([1, 67_108_864, @u32]), [0, @u32 + 1, :infinity | @not_a_number],
       []},
      # What it needs beside it has a test of its own.
      {:max_line_length, same([:infinity]),
       [
         {0, :split},
         {-1, :split},
         {1, :drop},
         {1.0, :split},
         {1, :split, 1},
         [1, :split] | List.delete(@not_a_number, :infinity)
       ], []},
      {:into, same([nil, "", [], :iodata, %{}, MapSet.new(), ["x"], IO.stream()]),
       [:binary, 1, {1}, 1..2, fn -> 1 end, fn _ -> 1 end, <<1::3>>, ~D[2020-01-01]], []},
      {:idle_timeout, same([0, 1, @u32, :infinity]), [@u32 + 1 | @not_a_number], []},
      {:progress, [{nil, nil}, {false, nil} | same([true, &is_map/1])],
       ["true", 1, :bar, [], &self/0, &max/2, {:fun, []}], []},
      {:gate, same([nil, me, :name, __MODULE__, {:global, "n"}, {:via, Registry, {:r, 1}}]),
       [true, false, "name", 1, {me, node()}, {:local, :name}, make_ref(), [limit: 1]], []},
      {:limit, same([0, 1, @u32]), [@u32 + 1, :infinity | @not_a_number], []},
      {{:max_queue, :gate}, same([0, 10_000, @u32]), [@u32 + 1, :infinity | @not_a_number], []},
      {:overflow, same([:kill, :head, :tail]), [nil, true, "kill", :drop, [:kill]], []},
      {:stderr_tail_bytes, same([0, 1, 8192, 1_048_576]), [1_048_577, :infinity | @not_a_number],
       []},
      {:timeout, same([0, 1, @u32, :infinity]), [@u32 + 1 | @not_a_number], []},
      {:max_output_size, same([0, 1, 1_000_000_000_000_000, :infinity]), @not_a_number, []},
      {:max_chunk_size, same([1, 262_144, 268_435_456]),
       [0, 268_435_457, :infinity | @not_a_number], []},
      {:exit, same([:raise, :element, :ignore]), [nil, true, "raise", :return, 0], []},
      {:ok, same([[], [0], [0, 255, 3], [1, 1]]),
       [nil, 0, :any, [256], [-1], [nil], ["0"], [0 | 1], [1.0], 0..3, %{}, "0"], []},
      # What may be in it has tests of its own (cgroup_test.exs).
      {:cgroup,
       [
         {nil, nil},
         {[parent: "/a"], %{parent: "/a", name: nil, limits: []}},
         {%{parent: "/a", pids_max: 1}, %{parent: "/a", name: nil, limits: [pids_max: 1]}}
       ],
       [1, "/a", [], [:parent], [{"parent", "/a"}], [parent: 1], %{parent: nil}, ~D[2020-01-01]],
       [[parent: ""], [parent: "a"], [parent: "/" <> <<0>>], [parent: "/..", pids_max: 1]]},
      {:drain_timeout, same([0, 1, @u32]), [@u32 + 1, :infinity | @not_a_number], []},
      {:pty,
       [
         {true, terminal},
         {[], terminal},
         {[rows: 1, cols: 65_535], %{terminal | rows: 1, cols: 65_535}},
         {[echo: false, raw: true], %{terminal | echo: false, raw: true}},
         {[raw: true, raw: false], terminal}
         | same([false])
       ],
       [
         nil,
         :yes,
         1,
         {24, 80},
         %{rows: 24},
         [rows: 0],
         [rows: 65_536],
         [cols: -1],
         [cols: "80"],
         [cols: 80.0],
         [echo: nil],
         [raw: 1],
         [columns: 80],
         [:raw],
         [{"rows", 24}]
       ], []},
      {:orphans, same([:kill, :keep]), [nil, true, "kill", :leave, [:kill]], []},
      {:stop_signal, [{:sigterm, 15}, {:sigkill, 9}, {1, 1}, {64, 64}, {9, 9}],
       [nil, 0, 65, -1, :term, "sigterm", :SIGTERM, 1.0, [15]], []},
      {:kill_timeout, same([0, 1, @u32]), [@u32 + 1, :infinity | @not_a_number], []},
      {:cd, same([nil, "/", "relative", <<"odd", 255>>, " "]),
       [:home, ~c"/tmp", 1, ["/"], <<1::3>>], ["", <<0>>, "a" <> <<0>> <> "b"]},
      {:env,
       [
         {[], []},
         {%{}, []},
         {%{"A" => "1"}, [{"A", "1"}]},
         {[{"A", "1"}, {"A", nil}], [{"A", "1"}, {"A", nil}]},
         {[A: ""], [{"A", ""}]},
         {[{<<255>>, <<254>>}], [{<<255>>, <<254>>}]},
         {{:replace, %{A: "1"}}, {:replace, [{"A", "1"}]}},
         {{:replace, []}, {:replace, []}}
       ],
       [
         nil,
         "A=1",
         :clear,
         ["A=1"],
         [{"A", 1}],
         [{"A", ~c"x"}],
         [{1, "x"}],
         [{nil, "x"}],
         [{"A", "x", "y"}],
         [{"A", "x"} | :tail],
         %{"A" => :x},
         {:replace, nil},
         {:replace, {:replace, []}},
         {:merge, []},
         ~D[2020-01-01],
         MapSet.new([{"A", "x"}]),
         [{"A", <<1::3>>}]
       ],
       [
         [{"", "x"}],
         [{"A=B", "x"}],
         [{"A" <> <<0>>, "x"}],
         [{"A", "x" <> <<0>>}],
         %{"=" => nil},
         [{:"", "x"}],
         {:replace, [{"A=", "x"}]}
       ]},
      {:owner, same([me]), [nil, :name, "pid", {self(), node()}, make_ref(), :self], []},
      {:backend, same([:auto, :poll, :io_uring]), [nil, :epoll, "poll", true, [:poll]], []},
      {:spawn_timeout, same([1, 5000, @u32]), [0, @u32 + 1, :infinity | @not_a_number], []},
      # What a command must be, NetRunner.Executable says.
      {:cmd, same([nil, ["true"]]), [], []},
      {:name, same([nil, :name, __MODULE__, {:global, "n"}, {:via, Registry, {:r, 1}}]),
       [true, false, "name", 1, self(), {:global}, {:local, :name}, {:via, "Registry", 1}], []},
      {:on_output, same([:discard, :log, &is_binary/1, &max/2, &Map.new([{&1, {&2, &3}}])]),
       [nil, true, :print, "log", [], &self/0, &Map.update/4], []},
      # With content only where it has a use: below.
      {:log, same([[]]),
       [
         nil,
         :info,
         %{},
         [level: :loud],
         [level: "info"],
         [stderr_level: nil],
         [prefix: 1],
         [prefix: <<255>>],
         [metadata: %{}],
         [metadata: [1]],
         [colour: :red],
         [{"level", :info}]
       ], []},
      {{:overflow, :daemon}, same([:block, :drop]), [nil, true, "drop", :kill, :head], []},
      {:max_queue, same([1, 1024, 1_000_000]), [0, 1_000_001, :infinity | @not_a_number], []},
      {{:lines, :daemon}, [{true, "\n"} | same(["\n", "\r", "\r\n", <<0>>, <<255>>])],
       [nil, false, :lines, ~c"\n", 10, <<1::3>>], [""]},
      {{:max_line_length, :daemon},
       same([:infinity, {1, :split}, {65_536, :truncate}, {9, :error}]),
       [
         nil,
         0,
         80,
         {0, :split},
         {-1, :split},
         {1, :cut},
         {"1", :split},
         {1, :split, 1},
         {1.0, :error}
       ], []},
      {:ready,
       same([nil, &self/0, {:output, "x"}, {:output, ~r/x/u}]) ++
         [
           {{:tcp, 1}, {:tcp, {127, 0, 0, 1}, 1}},
           {{:tcp, {10, 0, 0, 1}, 65_535}, {:tcp, {10, 0, 0, 1}, 65_535}},
           {{:tcp, "10.0.0.1", 80}, {:tcp, {10, 0, 0, 1}, 80}},
           {{:tcp, "::1", 80}, {:tcp, {0, 0, 0, 0, 0, 0, 0, 1}, 80}}
         ],
       [
         true,
         :tcp,
         "x",
         ~r/x/,
         {:output, ~c"x"},
         {:output, <<1::3>>},
         {:output, nil},
         {:tcp, 0},
         {:tcp, 65_536},
         {:tcp, "80"},
         {:tcp, :any, 80},
         {:tcp, {1, 2, 3}, 80},
         {:tcp, ~c"::1", 80},
         {:udp, 80},
         &is_binary/1
       ],
       [
         {:output, ""},
         {:tcp, "", 80},
         {:tcp, "localhost", 80},
         {:tcp, "127.1", 80},
         {:tcp, "127.0.0.1" <> <<0>>, 80},
         {:tcp, <<255>>, 80}
       ]},
      {:ready_timeout, same([0, 1, @u32]), [@u32 + 1, :infinity | @not_a_number], []},
      {:wait_for, same([nil, &self/0]), [true, :f, 1, &is_binary/1, {:f, []}], []},
      {:wait_timeout, same([0, 1, @u32]), [@u32 + 1, :infinity | @not_a_number], []},
      {:exit_reason, same([nil, &is_tuple/1]), [true, :normal, &self/0, &max/2], []},
      {:flush_timeout, same([0, 1, @u32]), [@u32 + 1, :infinity | @not_a_number], []},
      {:restart, same([:permanent, :transient, :temporary]), [nil, true, "permanent", :always],
       []},
      {:arg0, same(["", "a b", <<255>>, String.duplicate("a", 131_071)]),
       [nil, :a, ~c"a", <<1::3>>], ["a" <> <<0>>, String.duplicate("a", 131_072)]},
      {:umask, same([0, 0o22, 0o777]), [0o1000 | @not_a_number], []},
      {:nice, same([-20, -1, 0, 19]), [-21, 20 | @not_a_number -- [-1]], []},
      {:oom_score_adj, same([-1000, -1, 0, 1000]), [-1001, 1001 | @not_a_number -- [-1]], []},
      {:rlimits,
       [
         {[], %{}},
         {%{}, %{}},
         {[nofile: 5], %{nofile: {5, 5}}},
         {%{core: :infinity}, %{core: {:infinity, :infinity}}},
         {[as: {0, :infinity}, cpu: 1, as: 2], %{as: {2, 2}, cpu: {1, 1}}},
         {[rttime: {1, 0xFFFF_FFFF_FFFF_FFFE}], %{rttime: {1, 0xFFFF_FFFF_FFFF_FFFE}}}
       ],
       [
         nil,
         1,
         [1],
         ["nofile"],
         :nofile,
         [nofile: -1],
         [nofile: nil],
         [nofile: 1.0],
         [nofile: {1}],
         [nofile: {1, 2, 3}],
         [nofile: {-1, 2}],
         [nofile: {1, :none}],
         [files: 1],
         %{"nofile" => 1},
         [{:nofile, 1} | 2],
         1..2
       ],
       [
         [nofile: {2, 1}],
         [nofile: {:infinity, 1}],
         [as: 0xFFFF_FFFF_FFFF_FFFF],
         [as: {1, 0x1_0000_0000_0000_0000}]
       ]},
      # Which of them there are is not for this table to say.
      {:user, same(["nobody", "", 0, -1, 65_534]), [nil, true, :nobody, 1.0, ["a"], {}, ~c"a"],
       []},
      {:group, same(["audio", "", 0, -1, 29]), [nil, true, :audio, 1.0, ["a"], {}, ~c"a" ++ [:b]],
       []},
      {:groups, same([[], ["audio", 29], [0], ~c"a"]),
       [nil, true, "audio", 29, [nil], [:audio], [["a"]], ["a" | 1], %{}, 1..2], []},
      {:no_new_privs, same([true, false]), [nil, 1, "true", :yes], []},
      {:iterations, same([1, 1_000_000, :infinity]), [0 | @not_a_number], []},
      {:interval, same([100, 1000, @u32]), [99, @u32 + 1, :infinity | @not_a_number], []},
      {:sort, same([:output, :input, :cpu, :memory, :uptime]), [nil, "cpu", :pid, [:cpu]], []},
      {:keep_stdin, same([0, 4096, @u32]), [@u32 + 1, :infinity | @not_a_number], []},
      {:match, same([nil, "git", ["git"], ["git", :_, ~r/x/, :*], [~r/git/], ~r/x/, &is_list/1]),
       [:git, "", [], ["git" | "x"], [1], ["git", :*, "x"], ["git", :*, :*], [:*], &max/2, {}],
       []},
      {:times, same([1, @u32, :any]), [0, @u32 + 1, :infinity | @not_a_number], []},
      {:speed, same([:instant, :real, 1, 0.5, 1_000_000]),
       [nil, 0, -1, 0.0, 1_000_001, "1", :slow, [1]], []},
      {:stdin, same([:read, :check, :ignore]), [nil, true, "x", :any], []},
      {{:stdin, :fake}, [{"x", "x"}, {["x" | "y"], "xy"}, {[], ""} | same([nil, :read])],
       [:check, 1, [:x], [256], <<1::3>>], []},
      {{:delay, :fake}, same([0, 1, @u32]), [@u32 + 1, :infinity | @not_a_number], []},
      {{:stdout, :fake}, [{"x", "x"}, {["x" | "y"], "xy"}, {[], ""}],
       [nil, :pipe, 1, [256], <<1::3>>], []},
      {{:stderr, :fake}, [{<<255>>, <<255>>}, {[[?x], "y"], "xy"}],
       [nil, :merge, 1, [256], <<1::3>>], []},
      {{:exit, :fake},
       [
         {0, {:exited, 0}},
         {255, {:exited, 255}},
         {{:signaled, :sigkill}, {:signaled, 9}},
         {{:signaled, 64}, {:signaled, 64}}
         | same([:stays, {:exited, 3}])
       ], [nil, -1, 256, :sigkill, {:exited, 256}, {:signaled, 0}, {:signaled, :kill}, "0"], []},
      {:steps,
       [
         {nil, nil},
         {[], []},
         {[stdout: ["a" | "b"], stderr: "c", stdin: "d", wait: 0],
          [stdout: "ab", stderr: "c", stdin: "d", wait: 0]},
         {[:stdin_end], [:stdin_end]}
       ],
       [
         "x",
         [:stdout],
         [stdout: 1],
         [wait: -1],
         [wait: :infinity],
         [sleep: 1],
         [{:stdout, "a"} | "b"],
         %{}
       ], []},
      {:otherwise, same([:error, :run, [], ["git", "/bin/ls"]]),
       [nil, true, "git", [:git], ["git" | "x"]], []},
      {:unused, same([:ignore, :raise]), [nil, true, "raise"], []},
      {:global, same([true, false]), [nil, 1, "true"], []},
      {:others, same([:run, :refuse]), [nil, true, "run", :error], []}
    ]
  end

  defp same(values), do: Enum.map(values, &{&1, &1})

  defp each_value(fun) do
    values = values()

    for {call, options} <- @calls, option <- options do
      {_option, good, wrong, invalid} = values_of(values, option, call)
      fun.(call, option, good, wrong, invalid)
    end
  end

  # An option that is another one for this call stands in the table with it.
  defp values_of(values, option, call),
    do: List.keyfind(values, {option, call}, 0) || List.keyfind(values, option, 0)

  test "this table has every option of every call, and only those" do
    values = values()

    for {call, options} <- @calls do
      assert {:ok, validated} = Options.validate([], call)
      assert validated |> Map.keys() |> Enum.sort() == Enum.sort(options)
      for option <- options, do: assert(values_of(values, option, call))
    end
  end

  test "the defaults are those that are documented" do
    expected = %{
      input: :null,
      input_buffer: 0,
      stdout: :pipe,
      lines: nil,
      max_line_length: :infinity,
      packet: nil,
      max_frame_size: 67_108_864,
      into: nil,
      idle_timeout: :infinity,
      progress: nil,
      overflow: :kill,
      stderr: :consume,
      stderr_tail_bytes: 8192,
      timeout: :infinity,
      max_output_size: :infinity,
      max_chunk_size: 262_144,
      exit: :raise,
      ok: [0],
      cgroup: nil,
      drain_timeout: 1000,
      orphans: :kill,
      pty: false,
      stop_signal: 15,
      kill_timeout: 5000,
      cd: nil,
      env: [],
      arg0: nil,
      umask: nil,
      nice: nil,
      oom_score_adj: nil,
      rlimits: %{},
      user: nil,
      group: nil,
      groups: nil,
      no_new_privs: false,
      owner: self(),
      backend: :auto,
      spawn_timeout: 5000,
      cmd: nil,
      name: nil,
      on_output: :discard,
      log: [],
      max_queue: 1024,
      ready: nil,
      ready_timeout: 5000,
      wait_for: nil,
      wait_timeout: 30_000,
      exit_reason: nil,
      flush_timeout: 1000,
      restart: :permanent,
      iterations: :infinity,
      interval: 1000,
      sort: :output,
      gate: nil,
      limit: nil,
      keep_stdin: 4096,
      match: nil,
      times: 1,
      speed: :instant,
      stdin: :read,
      delay: 0,
      steps: nil,
      otherwise: :error,
      unused: :ignore,
      global: false,
      others: :run
    }

    special = %{
      process: %{input: :pipe},
      gate: %{max_queue: 10_000},
      fake: %{times: :any, stdin: nil, stdout: "", stderr: "", exit: {:exited, 0}},
      daemon: %{
        stderr: :pipe,
        overflow: :block,
        lines: "\n",
        max_line_length: {65_536, :split}
      }
    }

    for {call, options} <- @calls do
      {:ok, validated} = Options.validate([], call)
      assert validated == expected |> Map.take(options) |> Map.merge(special[call] || %{})
    end
  end

  test "good values are taken" do
    each_value(fn call, option, good, _wrong, _invalid ->
      for {given, taken} <- good do
        assert {:ok, %{^option => ^taken}} = Options.validate([{option, given}], call)
      end
    end)
  end

  # What `cat` is given to read, unless that is what is tried.
  @given "x\n"

  # Each of them would need something that not every machine has, or is about no command.
  defp left_out?(:cgroup, value, _backend), do: value != nil
  defp left_out?(option, _value, _backend) when option in [:user, :group, :groups, :cmd], do: true
  # Two bytes of address space.
  defp left_out?(:rlimits, [{:as, _} | _], _backend), do: true
  # An enumerable, but of nothing that can be written.
  defp left_out?(:input, %Range{}, _backend), do: true
  # None of them is there.
  defp left_out?(:gate, value, _backend), do: value != nil
  # It would be drawn among what the tests say: progress_test.exs looks at it.
  defp left_out?(:progress, true, _backend), do: true
  # Elixir warns of it.
  defp left_out?(:into, ["x"], _backend), do: true
  # Somebody would have to listen there; and a pid is never true.
  defp left_out?(:ready, ready, _backend),
    do: is_function(ready) or match?({:tcp, _, _}, ready) or match?({:tcp, _}, ready)

  defp left_out?(:pty, value, backend), do: value != false and backend == :io_uring
  defp left_out?(:backend, :io_uring, _backend), do: :io_uring not in Backends.expected()
  defp left_out?(_option, _value, _backend), do: false

  on_backends "each good value makes a call that goes well, or ends as that value says" do
    start_supervised!({Registry, keys: :unique, name: :r})
    dir = Path.dirname(tmp_path("here"))
    values = values()

    calls =
      for {call, options} <- @calls,
          call not in @about_no_command,
          option <- options,
          {value, _taken} <- values |> values_of(option, call) |> elem(1),
          not left_out?(option, value, backend),
          do: {call, option, value}

    assert length(calls) > 700

    calls
    |> Task.async_stream(
      fn {call, option, value} ->
        value = in_dir(option, value, dir)
        {command, opts} = command(option, value, backend)
        {{call, option, value}, outcome(call, command, opts), expected(call, option, value)}
      end,
      max_concurrency: 8,
      timeout: 60_000,
      ordered: false
    )
    |> Enum.each(fn {:ok, {tried, outcome, expected}} ->
      assert outcome in expected,
             "#{inspect(tried, limit: 10, printable_limit: 100)}: #{inspect(outcome)}, not of #{inspect(expected)}"

      written?(tried)
    end)
  end

  test "each good value of top's options makes a table" do
    for {option, [_ | _] = values} <- [
          iterations: [1],
          interval:
            for({value, _} <- values() |> values_of(:interval, :top) |> elem(1), do: value),
          sort: for({value, _} <- values() |> values_of(:sort, :top) |> elem(1), do: value)
        ],
        value <- values do
      opts = Keyword.merge([iterations: 1], [{option, value}])
      assert ExUnit.CaptureIO.capture_io(fn -> :ok = NetRunner.top(opts) end) =~ "OS PID"
    end
  end

  # Paths that are there, each file another one.
  defp in_dir(:cd, path, dir) when is_binary(path) do
    path = Path.expand(path, dir)
    File.mkdir_p!(path)
    path
  end

  defp in_dir(option, file, dir) when option in [:stdout, :stderr] and elem(file, 0) == :file do
    name = "#{System.unique_integer([:positive])}" <> Path.basename(elem(file, 1))
    put_elem(file, 1, Path.join(dir, name))
  end

  defp in_dir(:input, {:file, path}, dir) do
    path = Path.join(dir, Path.basename(path))
    File.write!(path, @given)
    {:file, path}
  end

  defp in_dir(_option, value, _dir), do: value

  # The options that the value needs beside it. The last one wins.
  defp command(option, value, backend) do
    opts = [input: @given, backend: backend]

    case {option, value} do
      {:pty, pty} when pty != false ->
        {["true"], [input: :null, backend: backend, pty: pty]}

      # Nothing that comes may be put into it, or it would be printed.
      {:into, %MapSet{} = set} ->
        {["cat"], opts ++ [into: set]}

      {:into, %{} = into} ->
        {["cat"], opts ++ [input: "", into: into]}

      # One that lives until it is stopped: its end might overtake its readiness.
      {:ready, ready} when ready != nil ->
        {["sh", "-c", "echo x; exec cat"], opts ++ [input: :pipe, ready: ready]}

      {:ready_timeout, ms} ->
        {["sh", "-c", "echo x; exec cat"],
         opts ++ [input: :pipe, ready: {:output, "x"}, ready_timeout: ms]}

      {:wait_timeout, ms} ->
        {["cat"], opts ++ [wait_for: fn -> :ok end, wait_timeout: ms]}

      _other ->
        {["cat"], opts ++ [{option, value}]}
    end
  end

  # {:ok, output}, {:failed, cause} of a command that was run, {:error, reason}
  defp outcome(:run, command, opts) do
    with {output, 0} <- NetRunner.run(command, opts), do: {:ok, output}
  end

  defp outcome(:exec, command, opts) do
    with {:ok, result} <- NetRunner.exec(command, opts), do: told(result)
  end

  defp outcome(:process, command, opts) do
    with {:ok, p} <- NetRunner.Process.start(hd(command), [], opts) do
      output = read(p, "")
      {:ok, 0} = NetRunner.Process.await_exit(p)
      :ok = NetRunner.Process.stop(p)
      {:ok, output}
    end
  end

  defp outcome(:daemon, command, opts) do
    Process.flag(:trap_exit, true)
    me = self()
    ours = [cmd: command, on_output: &send(me, {:line, &1})]

    with {:ok, daemon} <- NetRunner.Daemon.start_link(ours ++ opts) do
      if opts[:ready], do: NetRunner.Daemon.stop(daemon)
      reason = if opts[:exit_reason], do: true, else: :normal
      assert_receive {:EXIT, ^daemon, ^reason}, 10_000
      {:ok, lines()}
    end
  end

  defp outcome(call, command, opts) do
    case call do
      :run! ->
        command |> NetRunner.run!(opts) |> then(fn {output, 0} -> {:ok, output} end)

      :exec! ->
        command |> NetRunner.exec!(opts) |> told()

      :stream ->
        {:ok,
         command
         |> NetRunner.stream!(opts)
         |> Enum.map_join(&with({:exit, exit} <- &1, do: inspect(exit)))}
    end
  rescue
    error in NetRunner.ExitError -> {:failed, error.cause}
    error in NetRunner.Error -> {:error, error.reason}
  end

  defp told(%{exit: {:exited, 0}, cause: :exited, stdout: output}), do: {:ok, output}
  defp told(%{cause: cause}), do: {:failed, cause}

  defp read(p, bytes) do
    case NetRunner.Process.read(p) do
      {:ok, more} -> read(p, bytes <> more)
      # Its stdout is no pipe.
      end_of_it when end_of_it in [:eof, {:error, :closed}] -> bytes
    end
  end

  defp lines do
    receive do
      {:line, line} -> [line | lines()]
    after
      0 -> []
    end
  end

  # All that may come out of it.
  defp expected(call, option, value) do
    all = {:ok, output(call, option, value)}

    case {option, value} do
      # Who is quicker is chance.
      {stop, ms} when stop in [:timeout, :idle_timeout] and ms in [0, 1] ->
        # One that is over before the command runs is no result.
        [all | if(call in [:run, :stream], do: [{:error, :timeout}], else: [{:failed, stop}])] ++
          if(stop == :timeout, do: [{:error, :timeout}], else: [])

      {:spawn_timeout, 1} ->
        [all, {:error, :spawn_timeout}]

      {:ready_timeout, ms} when ms in [0, 1] ->
        [all, {:error, :timeout}]

      {:wait_timeout, ms} when ms in [0, 1] ->
        [all, {:error, :wait_timeout}]

      {:flush_timeout, ms} when ms in [0, 1] ->
        [all, {:ok, []}]

      {:max_output_size, size} when size in [0, 1] and call == :run ->
        [{:error, {:max_output_exceeded, binary_part(@given, 0, size)}}]

      {:max_output_size, size} when size in [0, 1] ->
        [{:failed, :output_limit}]

      {:ok, codes} ->
        if(0 in codes, do: [all], else: [{:failed, :exited}])

      # Only root may, or this build cannot.
      {:rlimits, limits} ->
        unknown = for {name, _limit} <- limits, do: not_in_this_build({:rlimit, name})
        [all, {:error, {:rlimit, :core, :eperm}} | List.flatten(unknown)]

      {setting, _number} when setting in [:nice, :oom_score_adj] ->
        [all | for(posix <- [:eperm, :eacces], do: {:error, {setting, posix}})] ++
          not_in_this_build(setting)

      {:no_new_privs, true} ->
        [all | not_in_this_build(:no_new_privs)]

      _other ->
        [all]
    end
  end

  defp not_in_this_build(setting) do
    case {NetRunner.Nif.build(), setting} do
      {:portable, {:rlimit, name}} -> [{:error, {:rlimit, name, :enosys}}]
      {:portable, setting} -> [{:error, {setting, :enosys}}]
      _linux -> []
    end
  end

  defp output(:daemon, :pty, pty) when pty != false, do: []
  defp output(_call, :pty, pty) when pty != false, do: ""

  defp output(:daemon, option, value)
       when option == :on_output or (option == :stdout and value != :pipe),
       do: []

  defp output(:daemon, :lines, separator) when separator not in [true, "\n"], do: [@given]
  defp output(:daemon, :input, input), do: input |> content() |> String.split("\n", trim: true)
  defp output(:daemon, _option, _value), do: ["x"]
  # Frames, in a process the bytes of one.
  defp output(:process, :packet, header) when is_integer(header),
    do: <<byte_size(@given)::size(header)-unit(8), @given>>

  defp output(call, :packet, header) when is_integer(header) and call != :stream, do: [@given]
  defp output(_call, :input, input), do: content(input)
  defp output(_call, :stdout, stdout) when stdout != :pipe, do: ""
  defp output(:stream, :lines, separator) when separator in [true, "\n"], do: "x"
  defp output(:stream, :exit, :element), do: @given <> "{:exited, 0}"

  defp output(call, :lines, separator) when call != :stream and separator in [true, "\n"],
    do: ["x"]

  defp output(call, :lines, separator) when call != :stream and is_binary(separator), do: [@given]
  defp output(_call, :into, into) when into in [[], :iodata], do: [@given]
  defp output(_call, :into, %MapSet{}), do: MapSet.new([@given])
  defp output(_call, :into, %{} = into), do: into
  defp output(_call, _option, _value), do: @given

  defp content(input) when is_binary(input), do: input
  defp content(["x" | "y"]), do: "xy"
  defp content({:file, _path}), do: @given
  defp content(_nothing), do: ""

  defp written?({_call, :stdout, file}) when elem(file, 0) == :file,
    do: assert(File.stat!(elem(file, 1)).size == byte_size(@given))

  defp written?({_call, :stderr, file}) when elem(file, 0) == :file,
    do: assert(File.stat!(elem(file, 1)).size == 0)

  defp written?(_tried), do: :ok

  test "a value of the wrong type raises, naming the key" do
    each_value(fn call, option, _good, wrong, _invalid ->
      for value <- wrong do
        error = assert_raise ArgumentError, fn -> Options.validate([{option, value}], call) end
        assert error.message =~ "invalid value for #{inspect(option)}: expected "
      end
    end)
  end

  test "a value that cannot be is an error, naming the key" do
    each_value(fn call, option, _good, _wrong, invalid ->
      for value <- invalid do
        assert {:error, {:invalid, ^option, message}} = Options.validate([{option, value}], call)
        assert is_binary(message)
      end
    end)
  end

  test "an unknown option raises, naming the key and the call" do
    for {call, name} <- [
          run: "NetRunner.run/2",
          run!: "NetRunner.run!/2",
          exec: "NetRunner.exec/2",
          exec!: "NetRunner.exec!/2",
          stream: "NetRunner.stream/2",
          process: "NetRunner.Process.start/3",
          daemon: "NetRunner.Daemon.start_link/1",
          top: "NetRunner.top/1"
        ],
        unknown <- [:nonsense, :output, :Timeout, :stdin, nil] do
      error = assert_raise ArgumentError, fn -> Options.validate([{unknown, 1}], call) end
      assert error.message == "unknown option #{inspect(unknown)} for #{name}"
    end
  end

  test "an option of another call is unknown here" do
    all = @calls |> Keyword.values() |> List.flatten() |> Enum.uniq()

    for {call, options} <- @calls, other <- all -- options do
      assert_raise ArgumentError, ~r/unknown option #{inspect(other)}/, fn ->
        Options.validate([{other, nil}], call)
      end
    end
  end

  test "options that are no keyword list raise" do
    for bad <- [nil, %{}, [1], [{"timeout", 1}], :timeout, [{:cd, nil} | :x], [{:cd, nil, 1}]] do
      assert_raise ArgumentError, ~r/keyword list/, fn -> Options.validate(bad, :run) end
      assert_raise ArgumentError, ~r/keyword list/, fn -> NetRunner.run(["true"], bad) end
      assert_raise ArgumentError, ~r/keyword list/, fn -> NetRunner.stream!(["true"], bad) end

      assert_raise ArgumentError, ~r/keyword list/, fn ->
        NetRunner.Process.start("true", [], bad)
      end
    end
  end

  test "options that are no keyword list are not repeated: there may be an environment in them" do
    for bad <- [%{env: [A: "hunter2"]}, [{:env, [A: "hunter2"]}, 1], [{"env", "hunter2"}]] do
      error = assert_raise ArgumentError, fn -> Options.validate(bad, :run) end
      refute error.message =~ "hunter2"
    end
  end

  test "known?/1 says what a command may carry: options of calls that take one, by any name" do
    {about_none, of_commands} = Enum.split_with(@calls, &(elem(&1, 0) in @about_no_command))
    known = of_commands |> Keyword.values() |> List.flatten()
    for option <- known, do: assert(Options.known?(option))

    for {_call, options} <- about_none,
        option <- options -- known,
        do: refute(Options.known?(option))

    assert Options.known?(:cwd)
    for unknown <- [:nonsense, :CD, nil], do: refute(Options.known?(unknown))
  end

  test "the last of options given twice wins, cwd: is cd:" do
    assert {:ok, %{timeout: 2}} = Options.validate([timeout: 1, timeout: 2], :run)
    assert {:ok, %{cd: "/b"}} = Options.validate([cd: "/a", cwd: "/b"], :run)
    assert {:ok, %{cd: "/a"}} = Options.validate([cwd: "/b", cd: "/a"], :run)
    assert {:error, {:invalid, :cwd, _}} = Options.validate([cwd: ""], :run)
    assert_raise ArgumentError, ~r/:cwd/, fn -> Options.validate([cwd: 1], :run) end
  end

  test "a limit of lines needs lines, in whichever order they are given" do
    for call <- [:run, :exec!, :stream], policy <- [:error, :split, :truncate] do
      limit = {80, policy}

      assert {:ok, %{max_line_length: ^limit}} =
               Options.validate([max_line_length: limit, lines: true], call)

      assert {:error, {:invalid, :max_line_length, _}} =
               Options.validate([lines: false, max_line_length: limit], call)
    end
  end

  test "an idle time-out needs an output that is read" do
    for call <- [:run, :exec!, :stream], stdout <- [:discard, {:file, "x"}] do
      given = [idle_timeout: 1, stdout: stdout]

      for more <- [[stderr: :merge], [stderr: :discard], [stderr: {:file, "y"}], [pty: true]] do
        assert {:error, {:invalid, :idle_timeout, _}} = Options.validate(given ++ more, call)
      end

      # A stderr that comes here will do.
      apart = if call == :stream, do: :tagged, else: :capture

      for more <- [[], [stderr: apart], [stderr: apart, pty: true]],
          do: assert({:ok, %{idle_timeout: 1}} = Options.validate(given ++ more, call))

      # And what else is wrong is found all the same.
      long = [max_line_length: {1, :split}]
      assert {:error, {:invalid, :max_line_length, _}} = Options.validate(given ++ long, call)
    end
  end

  test "a tagged stderr is for calls that read both, and for what can have its elements" do
    for tagged <- [:tagged, {:tagged, :timestamps}] do
      for call <- [:run, :run!, :exec, :exec!] do
        assert {:ok, %{stderr: ^tagged}} = Options.validate([stderr: tagged], call)
        assert {:ok, _} = Options.validate([stderr: tagged, into: MapSet.new()], call)

        for bytes <- ["", :iodata] do
          assert {:error, {:invalid, :into, _}} =
                   Options.validate([stderr: tagged, into: bytes], call)
        end
      end

      assert {:ok, %{stderr: ^tagged}} = Options.validate([stderr: tagged], :stream)

      for call <- [:process, :daemon],
          do: assert_raise(ArgumentError, ~r/:stderr/, wrong(call, tagged))
    end

    for wrong <- [{:tagged, :times}, {:tagged}, {:tagged, true}, {:tagged, :timestamps, :native}],
        call <- [:run, :stream],
        do: assert_raise(ArgumentError, ~r/:stderr/, wrong(call, wrong))
  end

  defp wrong(call, stderr), do: fn -> Options.validate([stderr: stderr], call) end

  test "frames are not for what would break them" do
    for call <- [:run, :exec!, :stream] do
      check = &Options.validate([packet: 2] ++ &1, call)
      assert {:error, {:invalid, :packet, _}} = check.(lines: true)
      assert {:error, {:invalid, :packet, _}} = check.(pty: [raw: true])
      assert {:error, {:invalid, :stderr, _}} = check.(stderr: :merge)
      assert {:error, {:invalid, :input, what}} = check.(input: String.duplicate("x", 65_536))
      assert what =~ "65536 bytes" and what =~ "65535 at most"
      assert {:ok, _} = check.(input: String.duplicate("x", 65_535))
      assert {:ok, _} = check.(lines: false, stderr: :tagged)
    end

    assert {:error, {:invalid, :overflow, _}} =
             Options.validate([packet: 4, overflow: :tail], :run)

    assert {:ok, _} = Options.validate([packet: 4, overflow: :head], :run)
    assert {:error, {:invalid, :packet, _}} = Options.validate([packet: 4, pty: true], :process)
  end

  test ":pipe is for processes and daemons only, a captured stderr for all but streams" do
    for call <- [:process, :daemon] do
      assert {:ok, %{input: :pipe}} = Options.validate([input: :pipe], call)
      assert {:ok, %{stderr: :pipe}} = Options.validate([stderr: :pipe], call)
      assert {:ok, %{stderr: :capture}} = Options.validate([stderr: :capture], call)
    end

    assert {:ok, %{stderr: :capture}} = Options.validate([stderr: :capture], :run)
    assert {:error, {:invalid, :stderr, _}} = Options.validate([stderr: :capture], :stream)

    for call <- [:run, :run!, :exec, :exec!, :stream] do
      assert_raise ArgumentError, ~r/:input.*:pipe/, fn ->
        Options.validate([input: :pipe], call)
      end

      assert_raise ArgumentError, ~r/:stderr.*:pipe/, fn ->
        Options.validate([stderr: :pipe], call)
      end
    end
  end

  test "log: is for on_output: :log" do
    log = [level: :debug, stderr_level: :error, prefix: "", metadata: [a: 1]]
    assert {:ok, %{log: ^log}} = Options.validate([on_output: :log, log: log], :daemon)
    assert {:ok, %{log: ^log}} = Options.validate([log: log, on_output: :log], :daemon)

    for on_output <- [:discard, &is_binary/1] do
      assert {:error, {:invalid, :log, message}} =
               Options.validate([on_output: on_output, log: log], :daemon)

      assert message =~ "on_output: :log"
      assert {:ok, _} = Options.validate([on_output: on_output, log: []], :daemon)
    end
  end

  test "a message shows the names of an environment, never its values" do
    for env <- [
          [{"TOKEN", "hunter2"}, {"OTHER", 1}],
          %{"TOKEN" => "hunter2", "OTHER" => 1},
          {:replace, [{"TOKEN", "hunter2"}, {"OTHER", 1}]},
          [{"TOKEN", ~c"hunter2"}],
          [{"TOKEN", "hunter2"} | "hunter2"]
        ] do
      error = assert_raise ArgumentError, fn -> Options.validate([env: env], :run) end
      refute error.message =~ "hunter2"
      refute error.message =~ inspect(~c"hunter2")
    end

    error = assert_raise ArgumentError, fn -> Options.validate([env: [{"TOKEN", 1}]], :run) end
    assert error.message =~ "TOKEN"

    assert {:error, {:invalid, :env, message}} =
             Options.validate([env: [{"TOKEN", "hunter2" <> <<0>>}]], :run)

    assert message =~ "TOKEN"
    refute message =~ "hunter2"

    # A value in the place of a name.
    for name <- ["TOKEN=hunter2", <<"TOKEN", 0, "hunter2">>, :"TOKEN=hunter2"] do
      assert {:error, {:invalid, :env, message}} = Options.validate([env: [{name, "x"}]], :run)
      assert message =~ ~s("TOKEN")
      refute message =~ "hunter2"
      error = assert_raise ArgumentError, fn -> Options.validate([env: [{name, 1}]], :run) end
      assert error.message =~ "TOKEN"
      refute error.message =~ "hunter2"
    end
  end

  test "a daemon's output always comes in lines" do
    assert {:ok, %{lines: "\n"}} = Options.validate([lines: true], :daemon)

    for none <- [false, nil] do
      error = assert_raise ArgumentError, fn -> Options.validate([lines: none], :daemon) end
      assert error.message =~ ":lines"
      assert error.message =~ "always comes in lines"
    end
  end

  test "a daemon that is ready by a line of its output has an output" do
    ready = [ready: {:output, "up"}]
    file = {:file, "/dev/null"}

    for stdout <- [:discard, file], stderr <- [:merge, :discard, :consume, :inherit, file] do
      assert {:error, {:invalid, :ready, message}} =
               Options.validate([stdout: stdout, stderr: stderr] ++ ready, :daemon)

      assert message =~ "stdout:"
      assert {:ok, _} = Options.validate([stdout: stdout, stderr: stderr], :daemon)
      assert {:ok, _} = Options.validate([stderr: stderr] ++ ready, :daemon)
    end

    for stderr <- [:pipe, :capture],
        do: assert({:ok, _} = Options.validate([stdout: file, stderr: stderr] ++ ready, :daemon))

    assert {:ok, _} = Options.validate([stdout: file] ++ ready, :daemon)
  end

  test "a message does not repeat a huge value" do
    huge = Enum.to_list(1..100_000)

    for {option, value} <- [ok: [:x | huge], cd: huge, stderr: huge, timeout: huge] do
      call = if option == :ok, do: :stream, else: :run
      error = assert_raise ArgumentError, fn -> Options.validate([{option, value}], call) end
      assert byte_size(error.message) < 500
    end
  end

  test "wrong options raise before anything is looked at, from every call" do
    assert_raise ArgumentError, ~r/:nonsense/, fn -> NetRunner.run(["true"], nonsense: 1) end
    assert_raise ArgumentError, ~r/:nonsense/, fn -> NetRunner.run([], nonsense: 1) end
    assert_raise ArgumentError, ~r/:nonsense/, fn -> NetRunner.run!(["true"], nonsense: 1) end
    assert_raise ArgumentError, ~r/:nonsense/, fn -> NetRunner.exec(["true"], nonsense: 1) end
    assert_raise ArgumentError, ~r/:nonsense/, fn -> NetRunner.exec!(["true"], nonsense: 1) end
    assert_raise ArgumentError, ~r/:nonsense/, fn -> NetRunner.stream(["true"], nonsense: 1) end
    assert_raise ArgumentError, ~r/:nonsense/, fn -> NetRunner.stream!(["true"], nonsense: 1) end

    for start <- [&NetRunner.Process.start/3, &NetRunner.Process.start_link/3],
        do: assert_raise(ArgumentError, ~r/:nonsense/, fn -> start.("true", [], nonsense: 1) end)
  end

  test "the documentation of each call has each of its options, and no others" do
    all = @calls |> Keyword.values() |> List.flatten() |> Enum.uniq()

    for {call, module, function} <- [
          {:run, NetRunner, {:run, 2}},
          {:run!, NetRunner, {:run!, 2}},
          {:exec, NetRunner, {:exec, 2}},
          {:exec!, NetRunner, {:exec!, 2}},
          {:stream, NetRunner, {:stream!, 2}},
          {:process, NetRunner.Process, {:start, 3}},
          {:daemon, NetRunner.Daemon, {:start_link, 1}},
          {:gate, NetRunner.Gate, {:start_link, 1}},
          {:top, NetRunner, {:top, 1}},
          {:record, NetRunner.Test, {:record, 3}},
          {:cassette, NetRunner.Test, {:cassette, 2}},
          {:fake, NetRunner.Test, {:fake, 3}},
          {:redirect, NetRunner.Test, {:with_cassettes, 3}},
          {:replays, NetRunner.Test, {:start, 1}}
        ] do
      {:docs_v1, _, _, _, _, _, docs} = Code.fetch_docs(module)

      {_, _, _, %{"en" => text}, _} =
        Enum.find(docs, fn {{kind, name, arity}, _, _, _, _} ->
          {kind, {name, arity}} == {:function, function}
        end)

      for option <- all do
        assert text =~ "* `:#{option}` - " == option in @calls[call], "#{call}: #{option}"
      end
    end
  end
end
