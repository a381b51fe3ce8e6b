defmodule NetRunner.TelemetryTest do
  # The events of :telemetry, where an application has that library. Not async: the library is there or not
  # for the whole node.
  use NetRunner.Test.Case

  alias NetRunner.Process, as: P
  alias NetRunner.Test.Telemetry, as: Library

  @moduletag :capture_log
  # It comes with Library.load/0.
  @compile {:no_warn_undefined, :telemetry}

  # A handler of :telemetry.
  def handle(event, measurements, metadata, test) do
    [:net_runner, :command, what] = event
    send(test, {what, measurements, metadata, self()})
  end

  def raise_always(_event, _measurements, _metadata, _config), do: raise("a handler that raises")

  # A handler of :logger.
  def log(event, %{config: pid}), do: send(pid, {:logged, event})

  defp listen(_context) do
    Library.load()
    Library.start()
    assert NetRunner.Telemetry.refresh()
    events = for what <- [:start, :stop, :exception], do: [:net_runner, :command, what]
    :ok = :telemetry.attach_many(__MODULE__, events, &__MODULE__.handle/4, self())
  end

  defp ms(native), do: System.convert_time_unit(native, :native, :millisecond)

  describe "with a listener" do
    setup :listen

    on_backends "a command has a start and a stop, with everything that is documented" do
      asked = System.monotonic_time()
      {:ok, p} = P.start("sh", ["-c", "cat; echo err >&2; exit 3"], backend: backend)
      # It was told before the call returned, in the command's own process.
      assert_received {:start, start, metadata, ^p}
      {:ok, os_pid} = P.os_pid(p)
      me = self()

      assert %{
               cmd: ["sh", "-c", "cat; echo err >&2; exit 3"],
               os_pid: ^os_pid,
               pid: ^p,
               owner: ^me,
               telemetry_span_context: context
             } = metadata

      assert Enum.sort(Map.keys(start)) == [:monotonic_time, :system_time]
      assert start.monotonic_time in asked..System.monotonic_time()
      assert abs(ms(start.system_time - System.system_time())) < 10_000

      :ok = P.write(p, "hello")
      {:ok, "hello"} = P.read(p)
      :ok = P.close_stdin(p)
      assert P.await_exit(p) == {:ok, 3}
      assert_received {:stop, stop, stop_metadata, ^p}
      assert stop.monotonic_time - stop.duration == start.monotonic_time
      assert stop.monotonic_time in start.monotonic_time..System.monotonic_time()
      assert %{bytes_in: 5, bytes_out: 5, bytes_err: 4, orphans_killed: 0} = stop
      assert stop.max_rss_kb > 100

      assert Map.take(stop_metadata, Map.keys(metadata)) == metadata
      assert stop_metadata.telemetry_span_context == context
      assert stop_metadata.exit == {:exited, 3}
      assert stop_metadata.cause == :exited

      assert Enum.sort(Map.keys(stop_metadata) -- Map.keys(metadata)) == [:cause, :exit, :rusage]

      assert Enum.sort(Map.keys(stop_metadata.rusage)) ==
               [:majflt, :max_rss_kb, :minflt, :nivcsw, :nvcsw, :system_us, :user_us]

      assert Map.take(stop_metadata.rusage, [:user_us, :system_us, :max_rss_kb]) ==
               Map.take(stop, [:user_us, :system_us, :max_rss_kb])

      # Once.
      P.stop(p)
      refute_received {_what, _measurements, _metadata, _pid}
    end

    test "the duration is that of the command, in native units" do
      {"", 0} = NetRunner.run(["sleep", "0.3"])
      assert_received {:stop, %{duration: duration}, _metadata, _pid}
      # It begins when its start is known, which a busy machine tells late.
      assert ms(duration) in 150..5_000
    end

    on_backends "run/2 and streams count all bytes, however fast the command ended" do
      for n <- 1..30 do
        {_output, 0} =
          NetRunner.run(["head", "-c", "#{n * 5_000}", "/dev/zero"], backend: backend)

        bytes = n * 5_000
        assert_received {:start, _, %{telemetry_span_context: context}, _}
        assert_received {:stop, %{bytes_out: ^bytes}, %{telemetry_span_context: ^context}, _}

        ["cat"]
        |> NetRunner.stream!(input: List.duplicate("12345", n), backend: backend)
        |> Stream.run()

        bytes = n * 5
        assert_received {:start, _, _, _}
        assert_received {:stop, %{bytes_in: ^bytes, bytes_out: ^bytes}, _, _}
      end

      refute_received {_what, _measurements, _metadata, _pid}
    end

    on_backends "an end by a signal, and one of a stream that is halted, are stops" do
      {_output, 137} = NetRunner.run(["sh", "-c", "kill -9 $$"], backend: backend)
      assert_received {:start, _, _, _}
      assert_received {:stop, _, %{exit: {:signaled, :sigkill}, cause: :signaled}, _}

      [_element] = ["yes"] |> NetRunner.stream!(backend: backend) |> Enum.take(1)
      assert_received {:start, _, %{cmd: ["yes"]}, _}
      assert_received {:stop, %{bytes_out: bytes}, metadata, _}
      assert %{cmd: ["yes"], exit: {:signaled, _}, cause: cause} = metadata
      # SIGPIPE, as nobody reads any more, may be quicker than the stop.
      assert cause in [:stopped, :signaled]
      assert bytes > 0
    end

    on_backends "the cause is that of the result" do
      for {cmd, opts, cause} <- [
            {["sleep", "60"], [timeout: 2_000], :timeout},
            {["sleep", "60"], [idle_timeout: 50], :idle_timeout},
            {["sh", "-c", "echo 123; exec sleep 60"], [max_output_size: 2], :output_limit},
            {["sh", "-c", "echo 123; exec sleep 60"], [lines: true, max_line_length: {2, :error}],
             :output_limit}
          ] do
        {:ok, %{cause: ^cause}} = NetRunner.exec(cmd, [backend: backend] ++ opts)
        assert_received {:stop, _, %{cmd: ^cmd, cause: ^cause, exit: {:signaled, _}}, _}
      end

      {:ok, p} = P.start("sleep", ["60"], backend: backend)
      P.stop(p)
      assert_received {:stop, _, %{pid: ^p, cause: :stopped}, _}
    end

    @tag :subreaper
    test "background processes that had to be killed are counted" do
      {"", 0} = NetRunner.run(["sh", "-c", "sleep 60 & sleep 60 &"], drain_timeout: 0)
      assert_received {:stop, %{orphans_killed: 2}, _, _}
    end

    test "a command whose owner dies, or whose supervisor shuts down, has its stop" do
      me = self()

      {owner, _monitor} =
        spawn_monitor(fn ->
          {:ok, p} = P.start("cat")
          send(me, {:started, p})
          receive do: (:end -> :ok)
        end)

      assert_receive {:started, p}, 5_000
      assert_received {:start, _, %{owner: ^owner}, ^p}
      send(owner, :end)
      assert_receive {:stop, _, %{owner: ^owner, cause: :owner_down}, ^p}, 5_000

      {:ok, supervisor} = Supervisor.start_link([{P, {"cat", [], []}}], strategy: :one_for_one)
      assert_received {:start, _, %{pid: p}, _}
      Supervisor.stop(supervisor)
      assert_received {:stop, _, %{pid: ^p, cause: :stopped}, ^p}
    end

    test "a start that fails is an exception alone, told by the caller" do
      for {cmd, opts, reason} <- [
            {["no-such-program", "x"], [], :enoent},
            {["/etc/passwd"], [], :eacces},
            {["true"], [cd: "/no/such/directory"], {:cd, :enoent}}
          ] do
        asked = System.monotonic_time()
        assert NetRunner.run(cmd, opts) == {:error, reason}
        me = self()
        assert_received {:exception, measurements, metadata, ^me}
        assert Enum.sort(Map.keys(measurements)) == [:duration, :monotonic_time]
        assert measurements.duration >= 0
        assert measurements.monotonic_time - measurements.duration >= asked
        assert %{cmd: ^cmd, kind: :error, reason: ^reason, stacktrace: []} = metadata
        assert is_reference(metadata.telemetry_span_context)
        refute_received {_what, _measurements, _metadata, _pid}
      end

      # Nothing was tried.
      assert {:error, {:invalid_args, _}} = NetRunner.run(["true", :x])
      assert_raise ArgumentError, fn -> NetRunner.run(["true"], nonsense: 1) end
      refute_received {_what, _measurements, _metadata, _pid}
    end

    on_backends "the loss of a guardian is an exception, with the metadata of the start" do
      {:ok, p} = P.start("sleep", ["60"], backend: backend)
      assert_received {:start, start, metadata, ^p}
      guardian = :sys.get_state(p).guardian_pid
      {_, 0} = System.cmd("kill", ["-KILL", "#{guardian}"])
      assert P.await_exit(p) == {:error, :guardian_lost}
      assert_received {:exception, measurements, lost, ^p}
      assert measurements.monotonic_time - measurements.duration == start.monotonic_time
      assert lost == Map.merge(metadata, %{kind: :error, reason: :guardian_lost, stacktrace: []})
      P.stop(p)
      refute_received {_what, _measurements, _metadata, _pid}
    end

    test "every field that comes is documented" do
      {"", 0} = NetRunner.run(["true"])
      {:error, :enoent} = NetRunner.run(["no-such-program"])
      {:docs_v1, _, _, _, %{"en" => doc}, _, _} = Code.fetch_docs(NetRunner.Telemetry)
      sections = doc |> String.split("### `") |> Map.new(&{&1 |> String.split("`") |> hd(), &1})

      for what <- [:start, :stop, :exception] do
        assert_received {^what, measurements, metadata, _pid}
        section = sections["[:net_runner, :command, #{inspect(what)}]"]

        for field <- Map.keys(measurements),
            do:
              assert(
                section =~ ~r/^\| .*`#{field}`.* \| (native|bytes|microseconds|KiB|count) \|/m
              )

        fields = Map.keys(metadata)
        fields = if what == :stop, do: [:exit, :cause, :rusage], else: fields
        for field <- fields, do: assert(section =~ "`#{field}`", "#{what}: #{field}")
      end
    end

    test "a handler that raises is the library's business: the command runs on" do
      :ok =
        :telemetry.attach(
          "raises",
          [:net_runner, :command, :start],
          &__MODULE__.raise_always/4,
          nil
        )

      assert NetRunner.run(["echo", "x"]) == {"x\n", 0}
      assert [_one] = :telemetry.list_handlers([:net_runner, :command, :start])
      assert_received {:stop, _, _, _}
    end

    test "a library that breaks costs no command its life; it is said once, and let alone from then on" do
      :ok = :logger.add_handler(__MODULE__, __MODULE__, %{config: self()})
      on_exit(fn -> :logger.remove_handler(__MODULE__) end)
      {:ok, p} = P.start("cat")
      assert_received {:start, _, _, ^p}
      Library.lose()
      assert NetRunner.run(["echo", "x"]) == {"x\n", 0}
      assert NetRunner.run(["no-such-program"]) == {:error, :enoent}
      assert P.stop(p) == :ok

      said =
        for {:logged, %{msg: {:string, text}}} <- elem(Process.info(self(), :messages), 1),
            line = IO.chardata_to_string(text),
            line =~ "telemetry",
            do: line

      assert [line] = said

      assert line =~
               ~r/^NetRunner gives no more telemetry events: .*:telemetry.execute\/3 is undefined/
    end

    test "it is told before stop/1 and the end of an enumeration" do
      {:ok, p} = P.start("cat")
      P.stop(p)
      assert_received {:stop, _, _, ^p}
      ["true"] |> NetRunner.stream!() |> Stream.run()
      assert_received {:stop, _, %{cmd: ["true"]}, _}
    end
  end

  describe "without one" do
    test "and without the library, nothing is different" do
      refute Code.ensure_loaded?(:telemetry)
      refute NetRunner.Telemetry.refresh()
      assert NetRunner.run(["echo", "x"]) == {"x\n", 0}
      assert NetRunner.run(["no-such-program"]) == {:error, :enoent}
    end

    test "a library that is started later is used from the next start on, and never before" do
      :ok = :logger.add_handler(__MODULE__, __MODULE__, %{config: self()})
      on_exit(fn -> :logger.remove_handler(__MODULE__) end)
      Library.load()
      # It came after NetRunner was started.
      refute NetRunner.Telemetry.refresh()
      {:ok, p} = P.start("cat")
      assert NetRunner.run(["true"]) == {"", 0}
      assert NetRunner.run(["no-such-program"]) == {:error, :enoent}
      # It would have warned.
      refute_received {:logged, _event}

      Library.start()
      events = for what <- [:start, :stop], do: [:net_runner, :command, what]
      :ok = :telemetry.attach_many(__MODULE__, events, &__MODULE__.handle/4, self())
      # What began without it ends without it.
      P.stop(p)
      refute_received {:stop, _, _, _}
      assert NetRunner.run(["true"]) == {"", 0}
      assert_received {:start, _, _, _}
      assert_received {:stop, _, _, _}
    end
  end
end
