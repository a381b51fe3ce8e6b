defmodule NetRunner.ProtocolTest do
  # The golden frames of test/wire, which the C side reads too: byte for byte in both directions.
  use ExUnit.Case, async: true

  alias NetRunner.Protocol

  @wire Path.expand("../wire", __DIR__)

  defp golden(name), do: File.read!(Path.join(@wire, name <> ".bin"))

  @minimal NetRunner.Test.World.minimal_start()

  # The golden minimal frame sends no directory descriptor; the NIF always does, so the encoder
  # always sets its flag (8).
  @flags_at 16
  defp without_cwd(<<head::binary-size(@flags_at), flags::little-32, rest::binary>>),
    do: <<head::binary, flags - 8::little-32, rest::binary>>

  describe "SPAWN" do
    test "inline" do
      start = %{
        @minimal
        | exe: "/bin/sh",
          cd: "/tmp",
          argv: ["sh", "-c", "exit 3"],
          env: {3, ["PATH=/bin", 0, "EMPTY=", 0, "UTF8=é", 0]},
          stop_signal: 15,
          kill_timeout: 5000,
          drain_timeout: 1000,
          stdin: :pipe,
          stdout: :pipe,
          stderr: :pipe
      }

      assert Protocol.spawn(0x1122334455667788, start) == {golden("spawn_inline"), nil, 0x400F}
    end

    test "minimal" do
      assert {frame, nil, 0x4008} = Protocol.spawn(1, @minimal)
      assert without_cwd(frame) == golden("spawn_minimal")
    end

    test "with stderr merged and orphans kept" do
      start = %{
        @minimal
        | stop_signal: 2,
          kill_timeout: 250,
          drain_timeout: 4_294_967_295,
          stdout: :pipe,
          stderr: :merge,
          orphans: :keep
      }

      assert Protocol.spawn(2, start) == {golden("spawn_merge_keep"), nil, 0x6A}
    end

    test "with files for all three" do
      start = %{
        @minimal
        | exe: "/bin/cat",
          argv: ["cat"],
          stop_signal: 15,
          kill_timeout: 5000,
          drain_timeout: 1000,
          stdin: {:file, "in"},
          stdout: {:file, "/tmp/out", :append, 0o644},
          stderr: {:file, "err", :truncate, 0o600}
      }

      assert Protocol.spawn(4, start) == {golden("spawn_files"), nil, 0x4788}
    end

    test "with settings, a terminal and a cgroup" do
      start = %{
        @minimal
        | exe: "/bin/id",
          argv: ["id"],
          stop_signal: 1,
          kill_timeout: 5000,
          drain_timeout: 1000,
          pty: true,
          settings: [
            {:umask, 0o027},
            {:nice, -5},
            {:rlimit, :nofile, 1024, :infinity},
            {:user, 1000},
            {:group, 100},
            {:member, 27},
            :no_new_privs
          ],
          cgroup: {"/sys/fs/cgroup/a", "leaf", [{"pids.max", "9"}]}
      }

      assert Protocol.spawn(5, start) == {golden("spawn_settings"), nil, 0x3008}
    end

    test "with each resource limit by the number that the C headers give it" do
      header = File.read!("/usr/include/asm-generic/resource.h")
      named = Regex.scan(~r/^#\s*define RLIMIT_(\w+)\s+(\d+)/m, header)
      assert length(named) == length(Protocol.rlimits())

      for [_, name, number] <- named do
        limit = {:rlimit, name |> String.downcase() |> String.to_existing_atom(), 1, 2}
        {frame, nil, 0x4008} = Protocol.spawn(1, %{@minimal | settings: [limit]})
        <<_::binary-size(16 + 36), 4::little-32, which::little-32, _::binary>> = frame
        assert which == String.to_integer(number)
      end
    end

    test "with the BEAM's own stderr, which the NIF is told and the wire is not" do
      assert {frame, nil, 0x8000_400C} = Protocol.spawn(1, %{@minimal | stderr: :inherit})
      assert {^frame, nil, 0x400C} = Protocol.spawn(1, %{@minimal | stderr: :pipe})
    end

    test "with the strings apart, above 64 KiB" do
      start = %{
        @minimal
        | stop_signal: 15,
          kill_timeout: 5000,
          drain_timeout: 1000,
          stdin: :pipe,
          stdout: :pipe,
          env: {1, ["A=", String.duplicate("x", 10), 0]}
      }

      # "/bin/true" 0 "" 0 "true" 0 padding 0 "A=xxxxxxxxxx" 0
      padding = 70_000 - (10 + 1 + 5 + 1 + 13)
      start = %{start | argv: ["true", String.duplicate("p", padding)]}
      assert {frame, strings, 0x1B} = Protocol.spawn(3, start)
      assert frame == golden("spawn_memfd")
      assert byte_size(strings) == 70_000

      assert ["/bin/true", "", "true", _padding, "A=xxxxxxxxxx", ""] =
               String.split(strings, <<0>>)
    end

    test "goes apart at one byte more than 64 KiB, and fits up to 16 MiB" do
      with_strings = fn size ->
        Protocol.spawn(1, %{@minimal | argv: [String.duplicate("x", size - 12)]})
      end

      assert {frame, nil, 0x4008} = with_strings.(65_536)
      assert byte_size(frame) == 16 + 36 + 65_536
      assert {frame, strings, 0x18} = with_strings.(65_537)
      assert {byte_size(frame), byte_size(strings)} == {16 + 36, 65_537}

      assert Protocol.fits?(with_strings.(65_536))
      assert Protocol.fits?(with_strings.(16 * 1024 * 1024))
      refute Protocol.fits?(with_strings.(16 * 1024 * 1024 + 1))
    end
  end

  test "ESCALATE, KILL, STOP and HOLD" do
    assert Protocol.escalate(0x1122334455667788) == golden("escalate")
    assert Protocol.kill(42, 10, :leader) == golden("kill_leader")
    assert Protocol.kill(43, 64, :group) == golden("kill_group")
    assert Protocol.stop(5000) == golden("stop")
    assert Protocol.stop(0) == golden("stop_now")
    assert Protocol.hold() == golden("hold")
  end

  test "what comes from the zygote" do
    assert Protocol.decode(golden("hello")) ==
             {:ok, {:hello, 4711, [:subreaper, :pidfd, :children]}}

    assert Protocol.decode(golden("hello_portable")) == {:ok, {:hello, 4711, []}}
    assert Protocol.decode(golden("rejected")) == {:ok, {:rejected, 9, :ebadmsg}}
    assert Protocol.decode(golden("rejected_unreadable")) == {:ok, {:rejected, 0, :ebadmsg}}
  end

  test "what comes from a guardian" do
    assert Protocol.decode(golden("started")) == {:ok, {:started, 4713, 4712, :subreaper}}

    assert Protocol.decode(golden("started_cgroup")) ==
             {:ok, {:started, 4713, 4712, :cgroup}}

    assert Protocol.decode(golden("failed_exec")) == {:ok, {:failed, :exec, :enoent}}
    assert Protocol.decode(golden("failed_cd")) == {:ok, {:failed, :cd, :eacces}}
    assert Protocol.decode(golden("failed_fork")) == {:ok, {:failed, :fork, :eagain}}
    assert Protocol.decode(golden("failed_stopped")) == {:ok, {:failed, :setup, :ecanceled}}

    assert Protocol.decode(golden("failed_rlimit")) ==
             {:ok, {:failed, {:rlimit, :nofile}, :eperm}}

    assert Protocol.decode(golden("failed_cgroup")) == {:ok, {:failed, {:cgroup, 1}, :enoent}}

    assert Protocol.decode(golden("usage")) ==
             {:ok,
              {:usage,
               %{
                 memory_peak: 1_048_576,
                 oom_kills: 1,
                 user_us: 1500,
                 system_us: 250,
                 throttled_us: 0,
                 pids_peak: nil,
                 read_bytes: 4096,
                 written_bytes: 8192
               }}}

    assert Protocol.decode(golden("killed_ok")) == {:ok, {:killed, 42, :ok}}
    assert Protocol.decode(golden("killed_esrch")) == {:ok, {:killed, 43, {:error, :esrch}}}
    assert Protocol.decode(golden("unkillable")) == {:ok, {:unkillable, 2, [4713, 4720]}}

    assert Protocol.decode(golden("unkillable_many")) ==
             {:ok, {:unkillable, 40, Enum.to_list(101..116)}}
  end

  test "EXITED, with the resources used" do
    assert Protocol.decode(golden("exited_code")) ==
             {:ok,
              {:exited, {:exited, 3},
               %{
                 orphans_killed: 0,
                 stopped: false,
                 rests: true,
                 rusage: %{
                   user_us: 1_500_000,
                   system_us: 250_000,
                   max_rss_kb: 4096,
                   minflt: 100,
                   majflt: 1,
                   nvcsw: 7,
                   nivcsw: 5
                 }
               }}}

    assert {:ok, {:exited, {:signaled, 15}, info}} = Protocol.decode(golden("exited_signal"))

    assert %{orphans_killed: 2, stopped: true, rests: false, rusage: %{user_us: 4_294_967_296}} =
             info
  end

  describe "decode/1 gives :error" do
    test "for every malformed frame of a type that it reads, and for those that it only writes" do
      bad = Path.wildcard(Path.join(@wire, "bad/*.bin"))
      assert length(bad) > 10
      for path <- bad, do: assert(Protocol.decode(File.read!(path)) == :error, path)

      for name <-
            ~w(spawn_inline spawn_minimal spawn_memfd spawn_settings escalate kill_leader stop hold),
          do: assert(Protocol.decode(golden(name)) == :error, name)
    end

    test "for every frame that was cut or grown" do
      for name <- incoming() do
        frame = golden(name)

        for length <- 0..(byte_size(frame) - 1),
            do: assert(Protocol.decode(binary_part(frame, 0, length)) == :error)

        assert Protocol.decode(frame <> <<0>>) == :error
      end
    end

    test "or a frame, but never raises, whatever byte is changed" do
      for name <- incoming(), frame = golden(name), at <- 0..(byte_size(frame) - 1) do
        for value <- [0, 1, 127, 128, 255] do
          <<head::binary-size(at), _byte, rest::binary>> = frame

          case Protocol.decode(<<head::binary, value, rest::binary>>) do
            {:ok, decoded} -> assert is_tuple(decoded)
            :error -> :ok
          end
        end
      end
    end

    test "for impossible exits, stages and random bytes" do
      exited = golden("exited_code")
      how = fn how, value -> patch(patch(exited, 16, how), 20, value) end

      for {h, v} <- [{0, 0}, {3, 0}, {1, 256}, {2, 0}, {2, 65}, {1, 0xFFFFFFFF}] do
        assert Protocol.decode(how.(h, v)) == :error
      end

      for stage <- [0, 16, 17, 255],
          do: assert(Protocol.decode(patch(golden("failed_cd"), 16, stage)) == :error)

      for n <- 0..300, do: assert(Protocol.decode(:crypto.strong_rand_bytes(n)) == :error)
    end

    test "for a count of survivors that is more than are named, only those that are" do
      assert {:ok, {:unkillable, 0xFFFFFFFF, [4713, 4720]}} =
               Protocol.decode(patch(golden("unkillable"), 16, 0xFFFFFFFF))
    end
  end

  defp incoming do
    ~w(hello hello_portable rejected started failed_exec failed_cd failed_rlimit failed_cgroup usage exited_code exited_signal
       unkillable unkillable_many killed_ok killed_esrch)
  end

  defp patch(frame, at, value) do
    <<head::binary-size(at), _old::32, rest::binary>> = frame
    <<head::binary, value::little-32, rest::binary>>
  end

  test "errno's names are those of the C headers" do
    numbers =
      for file <- ["errno-base.h", "errno.h"],
          [_, name, number] <-
            Regex.scan(
              ~r/^#define\s+(E\w+)\s+(\d+)/m,
              File.read!("/usr/include/asm-generic/#{file}")
            ),
          into: %{},
          do: {String.to_integer(number), name}

    named = for number <- 1..133, Protocol.posix(number) != :eunknown, do: number
    assert length(named) > 30

    for number <- named do
      assert Protocol.posix(number) |> to_string() |> String.upcase() == numbers[number]
    end

    assert Protocol.posix(9999) == :eunknown
  end
end
