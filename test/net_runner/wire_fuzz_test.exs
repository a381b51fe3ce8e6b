defmodule NetRunner.WireFuzzTest do
  # Both halves of the wire format judge the same frames: golden ones, the fuzzers' corpus, and
  # mutations of those. The C half is test/wire/verdict.c. For a second here, for as long as
  # NET_RUNNER_FUZZ_SECONDS says in `ci/fuzz`; NET_RUNNER_FUZZ_SEED repeats a run.
  use ExUnit.Case, async: true

  import Bitwise

  alias NetRunner.Protocol

  @test_folder Path.expand("..", __DIR__)
  @batch 500

  setup_all do
    seed =
      String.to_integer(
        System.get_env("NET_RUNNER_FUZZ_SEED") || "#{:rand.uniform(1_000_000_000)}"
      )

    seconds = String.to_integer(System.get_env("NET_RUNNER_FUZZ_SECONDS", "1"))
    {:ok, seed: seed, seconds: seconds}
  end

  setup context do
    :rand.seed(:exsss, {context.seed, 0, 0})
    tool = Application.app_dir(:net_runner, ["cmake", "test", "wire_verdict"])
    {:ok, port: Port.open({:spawn_executable, tool}, [:binary, packet: 4])}
  end

  @tag timeout: :infinity
  test "C and Elixir give the same verdict on every frame, and Elixir's decoder never raises",
       context do
    frames = known_frames()
    assert length(frames) > 40
    judge_all(context.port, frames, context.seed)

    judged =
      rounds(context.seconds, fn ->
        judge_all(context.port, for(_ <- 1..@batch, do: mutated(frames)), context.seed)
      end)

    told(context, "#{judged + length(frames)} frames judged by both sides, seed #{context.seed}")
  end

  @tag timeout: :infinity
  test "what Elixir writes, C reads as it was meant", context do
    meant =
      rounds(min(context.seconds, 10), fn ->
        orders = for _ <- 1..@batch, do: random_order()
        verdicts = verdicts(context.port, for({frame, _meant} <- orders, do: frame))

        for {{frame, meant}, verdict} <- Enum.zip(orders, verdicts),
            do: assert(verdict == meant, failure(frame, context.seed))

        @batch
      end)

    assert meant > 0
  end

  # ---- judging ----

  defp rounds(seconds, round) do
    rounds(System.monotonic_time(:millisecond) + seconds * 1000, 0, round)
  end

  defp rounds(until, done, round) do
    done = done + round.()
    if System.monotonic_time(:millisecond) < until, do: rounds(until, done, round), else: done
  end

  defp judge_all(port, frames, seed) do
    for {frame, verdict} <- Enum.zip(frames, verdicts(port, frames)) do
      decoded =
        try do
          Protocol.decode(frame)
        rescue
          error -> flunk("raised #{inspect(error)}: #{failure(frame, seed)}")
        end

      assert decoded == meaning(verdict), failure(frame, seed)
    end

    length(frames)
  end

  defp failure(frame, seed), do: "frame #{Base.encode16(frame)}, seed #{seed}"

  defp verdicts(port, frames) do
    for frame <- frames, do: Port.command(port, frame)

    for _ <- frames do
      receive do
        {^port, {:data, verdict}} -> verdict
      after
        60_000 -> flunk("wire_verdict does not answer")
      end
    end
  end

  # What the BEAM must make of what C read: the frames that it only writes are none for it, and a stage
  # or an end that cannot be is refused here, where it is used.
  defp meaning("unreadable"), do: :error
  defp meaning("malformed"), do: :error

  defp meaning(verdict) do
    [type | numbers] = verdict |> String.split(" ") |> Enum.take(21) |> Enum.map(&number/1)
    term(type, numbers)
  end

  # Hexadecimal strings are nobody's number; only a SPAWN has them.
  defp number(text) do
    case Integer.parse(text) do
      {number, ""} -> number
      _other -> text
    end
  end

  defp term(1, [_id, pid, features]) do
    known = [subreaper: 1, pidfd: 2, children: 4]
    {:ok, {:hello, pid, for({name, bit} <- known, (features &&& bit) != 0, do: name)}}
  end

  defp term(3, [id, error]), do: {:ok, {:rejected, id, Protocol.posix(error)}}

  defp term(5, [_id, pid, guardian, containment]) when containment in 0..2 do
    {:ok, {:started, pid, guardian, Enum.at([:group, :subreaper, :cgroup], containment)}}
  end

  defp term(6, [_id, 13, error, which]) when which in 0..15 do
    {:ok, {:failed, {:rlimit, Enum.at(Protocol.rlimits(), which)}, Protocol.posix(error)}}
  end

  defp term(6, [_id, 16, error, step]) when step in 1..3 do
    {:ok, {:failed, {:cgroup, Enum.at(~w(parent leaf join)a, step - 1)}, Protocol.posix(error)}}
  end

  defp term(6, [_id, 16, error, step]) when step in 16..31,
    do: {:ok, {:failed, {:cgroup, step - 16}, Protocol.posix(error)}}

  defp term(6, [_id, stage, error, 0]) when stage in 1..12 or stage in 14..15 do
    stages =
      ~w(request fork setup stdio cd exec stdin_file stdout_file stderr_file pty nice oom_score_adj)a ++
        ~w(rlimit user no_new_privs)a

    {:ok, {:failed, Enum.at(stages, stage - 1), Protocol.posix(error)}}
  end

  defp term(7, [_id, how, value, orphans, flags | usage])
       when (how == 1 and value in 0..255) or (how == 2 and value in 1..64) do
    names = ~w(user_us system_us max_rss_kb minflt majflt nvcsw nivcsw)a
    exit = if how == 1, do: {:exited, value}, else: {:signaled, value}
    rusage = names |> Enum.zip(usage) |> Map.new()
    {stopped, rests} = {(flags &&& 1) != 0, (flags &&& 2) != 0}

    {:ok,
     {:exited, exit, %{orphans_killed: orphans, stopped: stopped, rests: rests, rusage: rusage}}}
  end

  defp term(8, [_id, count | pids]),
    do: {:ok, {:unkillable, count, pids |> Enum.reject(&(&1 == 0)) |> Enum.take(count)}}

  defp term(10, [id, 0]), do: {:ok, {:killed, id, :ok}}
  defp term(10, [id, error]), do: {:ok, {:killed, id, {:error, Protocol.posix(error)}}}

  defp term(13, [_id | numbers]) do
    names = ~w(memory_peak oom_kills user_us system_us throttled_us pids_peak read_bytes)a
    known = Enum.map(numbers, &if(&1 != 0xFFFF_FFFF_FFFF_FFFF, do: &1))
    {:ok, {:usage, (names ++ [:written_bytes]) |> Enum.zip(known) |> Map.new()}}
  end

  defp term(type, _numbers) when type in [2, 4, 5, 6, 7, 9, 11, 12], do: :error

  # ---- frames ----

  defp known_frames do
    found = System.get_env("NET_RUNNER_FUZZ_FRAMES")

    folders =
      ["wire/*.bin", "wire/bad/*.bin", "fuzz/corpus/codec/*"]
      |> Enum.map(&Path.join(@test_folder, &1))
      |> then(&if found, do: &1 ++ [Path.join(found, "codec/*")], else: &1)

    folders |> Enum.flat_map(&Path.wildcard/1) |> Enum.map(&File.read!/1)
  end

  defp mutated(frames) do
    frame =
      Enum.reduce(1..:rand.uniform(4), Enum.random(frames), fn _, f -> mutate(f, frames) end)

    if :rand.uniform(2) == 1, do: mended(frame), else: frame
  end

  defp mutate(<<>>, _frames), do: :rand.bytes(:rand.uniform(40))

  defp mutate(frame, frames) do
    size = byte_size(frame)
    at = :rand.uniform(size) - 1
    <<head::binary-size(at), byte, rest::binary>> = frame

    case :rand.uniform(8) do
      1 -> <<head::binary, bxor(byte, 1 <<< (:rand.uniform(8) - 1)), rest::binary>>
      2 -> <<head::binary, Enum.random([0, 1, 2, 9, 64, 65, 127, 128, 255]), rest::binary>>
      3 -> <<head::binary, rest::binary>>
      4 -> <<head::binary, byte, :rand.bytes(:rand.uniform(8))::binary, rest::binary>>
      5 -> head
      6 -> head <> Enum.random(frames)
      7 -> number_in(frame, size)
      8 -> type_of(frame)
    end
  end

  defp number_in(frame, size) when size >= 20 do
    at = 4 * (:rand.uniform(div(size, 4)) - 1)
    <<head::binary-size(at), _old::32, rest::binary>> = frame
    number = Enum.random([0, 1, 2, 6, 7, 64, 65, 255, 256, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
    <<head::binary, number::little-32, rest::binary>>
  end

  defp number_in(frame, _size), do: frame

  defp type_of(<<head::binary-size(3), _type, rest::binary>>),
    do: <<head::binary, :rand.uniform(14), rest::binary>>

  defp type_of(frame), do: frame

  # A header that promises what follows: else hardly any mutation gets past it.
  defp mended(<<_::binary-size(3), type, _length::32, id::64, payload::binary>>),
    do: <<0x524E::little-16, 2, type, byte_size(payload)::little-32, id::64, payload::binary>>

  defp mended(frame), do: frame

  # ---- what Elixir writes: {frame, what C must say} ----

  defp random_order do
    id = :rand.uniform(1 <<< 64) - 1

    case :rand.uniform(6) do
      1 ->
        {Protocol.escalate(id), "4 #{id}"}

      2 ->
        signal = :rand.uniform(64)
        scope = Enum.random([:leader, :group])

        {Protocol.kill(id, signal, scope),
         "9 #{id} #{signal} #{if scope == :group, do: 1, else: 0}"}

      3 ->
        grace = random_u32()
        {Protocol.stop(grace), "11 0 #{grace}"}

      4 ->
        {Protocol.hold(), "12 0"}

      _spawn ->
        random_spawn(id, random_start())
    end
  end

  defp random_spawn(id, start) do
    variables = {length(start.env), Enum.map(start.env, &[&1, 0])}
    {frame, apart, flags} = Protocol.spawn(id, %{start | env: variables})
    files = for {:file, path, _rest} <- files(start), do: path
    all = [start.exe, start.cd] ++ files ++ cgroup(start.cgroup) ++ start.argv ++ start.env
    strings = for s <- all, into: "", do: s <> <<0>>
    assert apart == if(byte_size(strings) > 65_536, do: strings)
    inline = if apart, do: "", else: Base.encode16(strings, case: :lower)

    modes = for name <- [:stdout, :stderr], do: mode(start[name])

    numbers =
      [band(flags, 0x7FFF_FFFF), start.stop_signal, start.kill_timeout, start.drain_timeout] ++
        [length(start.argv), length(start.env), byte_size(strings)] ++ modes

    cgroup_files = if start.cgroup, do: length(elem(start.cgroup, 2)), else: 0
    numbers = numbers ++ [length(start.settings), cgroup_files]
    settings = for setting <- start.settings, do: setting_numbers(setting) <> " "
    {frame, "2 #{id} #{Enum.join(numbers, " ")} #{settings}#{inline}"}
  end

  defp random_start do
    long = if :rand.uniform(50) == 1, do: 40_000, else: 30

    %{
      exe: "/" <> random_string(long),
      cd: random_string(30),
      argv: for(_ <- 1..:rand.uniform(4), do: random_string(long)),
      env: for(n <- 1..:rand.uniform(4), n > 1, do: "V#{n}=" <> random_string(long)),
      stop_signal: :rand.uniform(64),
      kill_timeout: random_u32(),
      drain_timeout: random_u32(),
      stdin: Enum.random([:null, :pipe, {:file, random_string(long)}]),
      stdout: Enum.random([:null, :pipe, random_file()]),
      stderr: Enum.random([:null, :pipe, :merge, :inherit, random_file()]),
      orphans: Enum.random([:kill, :keep]),
      pty: Enum.random([true, false]),
      settings: random_settings(),
      cgroup: Enum.random([nil, {"/" <> random_string(30), "leaf", random_cgroup_files()}])
    }
  end

  # Each by a chance of its own; a user and members not without a group.
  defp random_settings do
    names = Enum.take_random(Protocol.rlimits(), :rand.uniform(17) - 1)
    limits = for name <- names, hard = random_u32(), do: {:rlimit, name, div(hard, 2), hard}

    one =
      Enum.take_random(
        [
          {:umask, :rand.uniform(0o1000) - 1},
          {:nice, :rand.uniform(40) - 21},
          {:oom_score_adj, :rand.uniform(2001) - 1001},
          {:rlimit, :nofile, :infinity, :infinity},
          :no_new_privs
        ],
        :rand.uniform(6) - 1
      )

    members = for _ <- 1..:rand.uniform(40), do: {:member, :rand.uniform(0xFFFF_FFFE)}
    identity = [{:user, :rand.uniform(0xFFFF_FFFE)}, {:group, 0} | members]

    (limits ++ one ++ Enum.random([[], [{:group, 5}], identity]))
    |> Enum.uniq_by(&if(elem_0(&1) == :rlimit, do: elem(&1, 1), else: &1))
    |> Enum.shuffle()
  end

  defp elem_0(setting), do: if(is_tuple(setting), do: elem(setting, 0), else: setting)

  defp random_cgroup_files do
    for n <- 1..:rand.uniform(17), n > 1, do: {"file.#{n}", random_string(20)}
  end

  defp cgroup(nil), do: []

  defp cgroup({parent, leaf, files}),
    do: [parent, leaf] ++ for({file, content} <- files, do: file <> "=" <> content)

  defp setting_numbers(:no_new_privs), do: "8:0:0:0"

  defp setting_numbers({:rlimit, name, soft, hard}) do
    which = Enum.find_index(Protocol.rlimits(), &(&1 == name))
    "4:#{which}:#{unsigned(soft)}:#{unsigned(hard)}"
  end

  defp setting_numbers({name, value}) do
    what = %{umask: 1, nice: 2, oom_score_adj: 3, user: 5, group: 6, member: 7}[name]
    "#{what}:0:#{unsigned(value)}:0"
  end

  defp unsigned(:infinity), do: 0xFFFF_FFFF_FFFF_FFFF
  defp unsigned(number), do: band(number, 0xFFFF_FFFF_FFFF_FFFF)

  defp random_file do
    {:file, random_string(30), Enum.random([:truncate, :append]), :rand.uniform(0o10000) - 1}
  end

  defp files(start) do
    for given <- [start.stdin, start.stdout, start.stderr], is_tuple(given) do
      {:file, elem(given, 1), given}
    end
  end

  defp mode({:file, _path, _how, mode}), do: mode
  defp mode(_no_file), do: 0

  # Any bytes but NUL.
  defp random_string(most) do
    bytes = :rand.bytes(:rand.uniform(most + 1) - 1)
    for <<b <- bytes>>, b != 0, into: "", do: <<b>>
  end

  defp random_u32, do: :rand.uniform(1 <<< Enum.random([1, 8, 16, 32])) - 1

  defp told(%{seconds: seconds}, line), do: if(seconds > 1, do: IO.puts("\n" <> line))
end
