defmodule NetRunner.OptionsTest do
  # Every option of the schema: what it takes, what it refuses, and that it is documented. A wrong type
  # raises naming the key; a value that cannot be is {:error, {:invalid, option, message}}.
  use ExUnit.Case, async: true

  alias NetRunner.Options

  @common [
    :input,
    :stderr,
    :stderr_tail_bytes,
    :drain_timeout,
    :orphans,
    :stop_signal,
    :kill_timeout,
    :cd,
    :env,
    :backend,
    :spawn_timeout
  ]

  @calls [
    run: @common ++ [:timeout, :max_output_size],
    stream: @common ++ [:max_chunk_size, :exit, :ok],
    process: @common ++ [:owner],
    top: [:iterations, :interval, :sort]
  ]

  @u32 4_294_967_295
  @not_a_number [nil, "1", 1.0, :none, -1, [], {1}, ~c"1", :"1", true]

  # {option, [{given, taken}], [wrong], [invalid]}
  defp values do
    me = self()

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
         &Enumerable.reduce([], &1, &2)
       ]),
       [
         nil,
         1,
         :stdin,
         {:file, "x"},
         1.0,
         make_ref(),
         fn -> "x" end,
         fn _ -> "x" end,
         ~D[2020-01-01],
         <<1::3>>
       ], []},
      {:stderr, same([:consume, :merge, :discard]),
       [nil, :stdout, "consume", true, 2, :inherit, :tagged, {:file, "x"}], []},
      {:stderr_tail_bytes, same([0, 1, 8192, 1_048_576]), [1_048_577, :infinity | @not_a_number],
       []},
      {:timeout, same([0, 1, @u32, :infinity]), [@u32 + 1 | @not_a_number], []},
      {:max_output_size, same([0, 1, 1_000_000_000_000_000, :infinity]), @not_a_number, []},
      {:max_chunk_size, same([1, 262_144, 268_435_456]),
       [0, 268_435_457, :infinity | @not_a_number], []},
      {:exit, same([:raise, :element, :ignore]), [nil, true, "raise", :return, 0], []},
      {:ok, same([[], [0], [0, 255, 3], [1, 1]]),
       [nil, 0, :any, [256], [-1], [nil], ["0"], [0 | 1], [1.0], 0..3, %{}, "0"], []},
      {:drain_timeout, same([0, 1, @u32]), [@u32 + 1, :infinity | @not_a_number], []},
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
      {:iterations, same([1, 1_000_000, :infinity]), [0 | @not_a_number], []},
      {:interval, same([100, 1000, @u32]), [99, @u32 + 1, :infinity | @not_a_number], []},
      {:sort, same([:output, :input, :cpu, :memory, :uptime]), [nil, "cpu", :pid, [:cpu]], []}
    ]
  end

  defp same(values), do: Enum.map(values, &{&1, &1})

  defp each_value(fun) do
    for {option, good, wrong, invalid} <- values(),
        {call, options} <- @calls,
        option in options,
        do: fun.(call, option, good, wrong, invalid)
  end

  test "this table has every option of every call, and only those" do
    named = for {option, _good, _wrong, _invalid} <- values(), do: option

    for {call, options} <- @calls do
      assert {:ok, validated} = Options.validate([], call)
      assert validated |> Map.keys() |> Enum.sort() == Enum.sort(options)
      assert options -- named == []
    end
  end

  test "the defaults are those that are documented" do
    expected = %{
      input: :null,
      stderr: :consume,
      stderr_tail_bytes: 8192,
      timeout: :infinity,
      max_output_size: :infinity,
      max_chunk_size: 262_144,
      exit: :raise,
      ok: [0],
      drain_timeout: 1000,
      orphans: :kill,
      stop_signal: 15,
      kill_timeout: 5000,
      cd: nil,
      env: [],
      owner: self(),
      backend: :auto,
      spawn_timeout: 5000,
      iterations: :infinity,
      interval: 1000,
      sort: :output
    }

    for {call, options} <- @calls do
      {:ok, validated} = Options.validate([], call)
      expected = if call == :process, do: %{expected | input: :pipe}, else: expected
      assert validated == Map.take(expected, options)
    end
  end

  test "good values are taken" do
    each_value(fn call, option, good, _wrong, _invalid ->
      for {given, taken} <- good do
        assert {:ok, %{^option => ^taken}} = Options.validate([{option, given}], call)
      end
    end)
  end

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
          stream: "NetRunner.stream/2",
          process: "NetRunner.Process.start/3",
          top: "NetRunner.top/1"
        ],
        unknown <- [:nonsense, :into, :Timeout, :stdout, nil] do
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
    for {call, options} <- @calls,
        option <- options,
        do: assert(Options.known?(option) == (call != :top))

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

  test ":pipe is for processes only, a captured stderr for run and processes" do
    assert {:ok, %{input: :pipe}} = Options.validate([input: :pipe], :process)
    assert {:ok, %{stderr: :pipe}} = Options.validate([stderr: :pipe], :process)
    assert {:ok, %{stderr: :capture}} = Options.validate([stderr: :capture], :process)
    assert {:ok, %{stderr: :capture}} = Options.validate([stderr: :capture], :run)
    assert {:error, {:invalid, :stderr, _}} = Options.validate([stderr: :capture], :stream)

    for call <- [:run, :stream] do
      assert_raise ArgumentError, ~r/:input.*:pipe/, fn ->
        Options.validate([input: :pipe], call)
      end

      assert_raise ArgumentError, ~r/:stderr.*:pipe/, fn ->
        Options.validate([stderr: :pipe], call)
      end
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
    assert_raise ArgumentError, ~r/:nonsense/, fn -> NetRunner.stream(["true"], nonsense: 1) end
    assert_raise ArgumentError, ~r/:nonsense/, fn -> NetRunner.stream!(["true"], nonsense: 1) end

    for start <- [&NetRunner.Process.start/3, &NetRunner.Process.start_link/3],
        do: assert_raise(ArgumentError, ~r/:nonsense/, fn -> start.("true", [], nonsense: 1) end)
  end

  test "the documentation of each call has each of its options, and no others" do
    all = @calls |> Keyword.values() |> List.flatten() |> Enum.uniq()

    for {call, module, function} <- [
          {:run, NetRunner, {:run, 2}},
          {:stream, NetRunner, {:stream!, 2}},
          {:process, NetRunner.Process, {:start, 3}},
          {:top, NetRunner, {:top, 1}}
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
