defmodule NetRunner.TopTest do
  # What is running: list/0, which asks nobody, and the table that top/1 makes of it.
  use NetRunner.Test.Case
  import ExUnit.CaptureIO

  doctest NetRunner.Stats
  doctest NetRunner.Top

  alias NetRunner.Process, as: P
  alias NetRunner.Test.OtherBeam
  alias NetRunner.Top

  defp start!(exe, args \\ [], opts) do
    {:ok, p} = P.start(exe, args, opts)
    on_exit(fn -> P.stop(p) end)
    p
  end

  defp listed(p), do: Enum.find(NetRunner.list(), &(&1.pid == p))

  describe "list/0" do
    on_backends "has each command once, with what is known of it" do
      before = DateTime.utc_now()
      p = start!("cat", ["-u"], backend: backend, stderr: :pipe)
      :ok = P.write(p, "hello")
      {:ok, "hello"} = P.read(p)
      {:ok, os_pid} = P.os_pid(p)
      me = self()

      assert [%{os_pid: ^os_pid, cmd: ["cat", "-u"], owner: ^me, state: :running} = it] =
               Enum.filter(NetRunner.list(), &(&1.pid == p))

      assert {:ok, it.stats} == P.stats(p)
      assert %{stdin: %{bytes: 5}, stdout: %{bytes: 5}, stderr: %{bytes: 0}} = it.stats
      assert DateTime.compare(it.started_at, DateTime.truncate(before, :millisecond)) != :lt
      assert DateTime.compare(it.started_at, DateTime.utc_now()) != :gt
      assert it.uptime_ms in 0..60_000
      assert it.started_at.time_zone == "Etc/UTC"
    end

    test "goes before busy processes at each command, and its caller's priority is what it was" do
      ps = for _ <- 1..20, do: start!("cat", [])
      me = self()

      watch = fn watch ->
        case Process.info(me, :priority) do
          {:priority, :normal} -> watch.(watch)
          other -> other
        end
      end

      watcher = Task.async(fn -> watch.(watch) end)

      # It looks again and again, at one call of ours or the next.
      eventually("a call of high priority was seen", fn ->
        list = NetRunner.list()
        assert Enum.count(list, &(&1.pid in ps and is_integer(&1.rss_kb))) == 20
        assert Process.info(self(), :priority) == {:priority, :normal}
        not Process.alive?(watcher.pid)
      end)

      assert Task.await(watcher) == {:priority, :high}
    end

    test "has those of run/2 and of streams, too, the oldest first" do
      back_at_baseline(fn ->
        first = start!("cat", [])
        task = Task.async(fn -> NetRunner.run(["sleep", "60"], kill_timeout: 100) end)

        second =
          eventually("run's is there", fn ->
            Enum.find(NetRunner.list(), &(&1.owner == task.pid))
          end)

        assert second.cmd == ["sleep", "60"]

        ["yes"]
        |> NetRunner.stream!()
        |> Stream.map(fn _ -> Enum.map(NetRunner.list(), & &1.cmd) end)
        |> Enum.take(1)
        |> then(&assert(&1 == [[["cat"], ["sleep", "60"], ["yes"]]]))

        Task.shutdown(task, :brutal_kill)
        P.stop(first)
        eventually("nothing is left", fn -> NetRunner.list() == [] end)
      end)
    end

    test "tells a stop that has begun, and an end whose server lives on; uptime ends with it" do
      p = start!(fixture("ignore_term"), [])
      assert P.read(p) == {:ok, "ready\n"}
      assert %{state: :running} = listed(p)
      stopping = Task.async(fn -> P.shutdown(p, 60_000, 5_000) end)
      eventually("it is being stopped", fn -> listed(p).state == :stopping end)
      :ok = P.kill(p, :sigkill)
      assert Task.await(stopping) == {:ok, 137}
      assert %{state: :ended, uptime_ms: uptime} = ended = listed(p)

      eventually("time goes by", fn ->
        DateTime.diff(DateTime.utc_now(), ended.started_at, :millisecond) > uptime + 10
      end)

      assert listed(p) == ended
      P.stop(p)
      assert listed(p) == nil
    end

    test "asks no server: one that is stuck keeps nobody waiting" do
      p = start!("cat", [])
      :ok = P.write(p, "x")
      :sys.suspend(p)
      assert %{state: :running, stats: %{stdin: %{bytes: 1}}} = listed(p)
      :sys.resume(p)
    end

    test "has CPU time and memory of the command while it runs" do
      p = start!("sh", ["-c", "while :; do :; done"], kill_timeout: 100)
      {:ok, os_pid} = P.os_pid(p)
      eventually("it has used CPU time", 10_000, fn -> listed(p).cpu_ms >= 50 end)
      assert_in_delta listed(p).rss_kb, rss_kb(os_pid), 1024
      assert listed(p).cpu_ms <= listed(p).uptime_ms + 20
      {:ok, _} = P.shutdown(p, 0, 5_000)
      assert %{state: :ended, cpu_ms: nil, rss_kb: nil} = listed(p)
    end

    test "takes nobody for the command whose parent is not its guardian" do
      # A pid that somebody else was given after the command's end: this BEAM's own.
      p = start!("cat", [])
      [{^p, known}] = Registry.lookup(NetRunner.Registry, p)
      stranger = %{known | os_pid: String.to_integer(System.pid())}
      {:ok, _} = Registry.register(NetRunner.Registry, self(), stranger)
      assert %{cpu_ms: nil, rss_kb: nil} = listed(self())
      assert %{cpu_ms: 0} = listed(p)
      Registry.unregister(NetRunner.Registry, self())
    end

    test "a long command does not slow down reads: what they look up stays small" do
      args = List.duplicate("a longer argument", 50_000)
      p = start!("true", args, [])
      [{^p, known}] = Registry.lookup(NetRunner.Registry, p)
      assert :erts_debug.flat_size(known) < 100
      assert listed(p).cmd == ["true" | args]
    end
  end

  describe "the table" do
    @screen %{columns: 200, rows: 50, ansi?: false}

    defp command(fields) do
      bytes = Keyword.get(fields, :bytes, {0, 0})

      Map.merge(
        %{
          pid: self(),
          os_pid: 4711,
          cmd: ["cat"],
          owner: self(),
          started_at: ~U[2026-01-01 00:00:00Z],
          uptime_ms: 61_000,
          state: :running,
          stats: %{stdin: %{bytes: elem(bytes, 0)}, stdout: %{bytes: elem(bytes, 1)}, stderr: nil},
          cpu_ms: 100,
          rss_kb: 2048
        },
        fields |> Keyword.delete(:bytes) |> Map.new()
      )
    end

    defp pid(n), do: :erlang.list_to_pid(~c"<0.#{n}.9>")

    defp lines(now, before, opts \\ []) do
      screen = Map.merge(@screen, Map.new(Keyword.take(opts, [:columns, :rows, :ansi?])))

      now
      |> Top.table(before, screen, Keyword.get(opts, :sort, :output), false)
      |> Enum.map(&IO.iodata_to_binary/1)
    end

    defp shown(lines),
      do: for([_, cmd] <- Enum.map(lines, &(Regex.run(~r/(cmd\d)/, &1) || [])), do: cmd)

    test "has rates of the time since the look before, of a new command since its start" do
      before = %{at: 1_000, commands: [command(bytes: {1_000, 50_000}, cpu_ms: 100)]}

      now = %{
        at: 3_000,
        commands: [
          command(bytes: {3_000, 2_098_000}, cpu_ms: 1_100),
          command(pid: pid(1), cmd: ["new"], uptime_ms: 500, bytes: {0, 512}, cpu_ms: 50)
        ]
      }

      [heading, titles, first, second] = lines(now, before)
      assert heading == "NetRunner: 2 running, in 1.0K/s, out 1.0M/s"
      assert titles =~ ~r/^OS PID +STATE +UPTIME +CPU% +RSS +IN\/S +OUT\/S +OWNER +COMMAND$/
      assert first =~ ~r/^4711 +running +1m01s +50.0 +2.0M +1.0K +1.0M .* cat$/
      assert second =~ ~r/^4711 +running +0s +10.0 +2.0M +0 +1.0K .* new$/
    end

    test "has no rates the first time, and none that are not known" do
      now = %{at: 0, commands: [command(cpu_ms: nil, rss_kb: nil)]}
      assert ["NetRunner: 1 running", _, row] = lines(now, nil)
      assert row =~ ~r/^4711 +running +1m01s +- +- +- +- /
      assert [_, _, row] = lines(%{now | at: 1000}, now)
      assert row =~ ~r/^4711 +running +1m01s +- +- +0 +0 /
    end

    test "is sorted as asked, of equals the ended last and the older first" do
      before = %{
        at: 0,
        commands: for(n <- 1..4, do: command(pid: pid(n), cmd: ["cmd#{n}"], cpu_ms: 0))
      }

      now = %{
        at: 1000,
        commands: [
          command(
            pid: pid(1),
            cmd: ["cmd1"],
            bytes: {0, 10},
            cpu_ms: 30,
            rss_kb: 1,
            uptime_ms: 9
          ),
          command(
            pid: pid(2),
            cmd: ["cmd2"],
            bytes: {5, 20},
            cpu_ms: 20,
            rss_kb: 3,
            uptime_ms: 8
          ),
          command(
            pid: pid(3),
            cmd: ["cmd3"],
            state: :ended,
            cpu_ms: nil,
            rss_kb: nil,
            uptime_ms: 7
          ),
          command(pid: pid(4), cmd: ["cmd4"], bytes: {9, 0}, cpu_ms: 10, rss_kb: 2, uptime_ms: 5)
        ]
      }

      for {sort, order} <- [
            output: ~w(cmd2 cmd1 cmd4 cmd3),
            input: ~w(cmd4 cmd2 cmd1 cmd3),
            cpu: ~w(cmd1 cmd2 cmd4 cmd3),
            memory: ~w(cmd2 cmd4 cmd1 cmd3),
            uptime: ~w(cmd1 cmd2 cmd3 cmd4)
          ] do
        assert now |> lines(before, sort: sort) |> shown() == order
        # An ended command is not running.
        assert hd(lines(now, before, sort: sort)) =~ "3 running"
      end
    end

    test "keeps to the screen's width and height" do
      commands =
        for n <- 1..30,
            do: command(pid: pid(n), cmd: ["cmd#{n}", "漢字" | List.duplicate("żółć", 100_000)])

      for columns <- [20, 60, 80, 99, 100, 150], rows <- [4, 5, 24, 40] do
        lines = lines(%{at: 0, commands: commands}, nil, columns: columns, rows: rows)
        # The cursor stands in a line of its own.
        assert length(lines) <= rows - 1

        for line <- lines, graphemes = String.graphemes(line) do
          width = Enum.sum(for g <- graphemes, do: if(byte_size(g) == 1, do: 1, else: 2))
          assert width <= columns
        end

        hidden = 30 - (length(lines) - 2)
        if rows < 33, do: assert(List.last(lines) == "and #{hidden + 1} more")
      end
    end

    test "names owners that have a name, where there is room" do
      Process.register(self(), :net_runner_top_test)
      look = %{at: 0, commands: [command(owner: self()), command(owner: pid(7))]}
      [_, _, named, other] = lines(look, nil, columns: 100, sort: :cpu)
      assert named <> other =~ ":net_runner_top_test"
      assert named <> other =~ inspect(pid(7))
      refute look |> lines(nil, columns: 99) |> Enum.join() =~ ":net_runner_top_test"
    end

    test "lets nothing of a command through that a terminal would obey" do
      evil = [
        "a\e[2Jb",
        "\r\n\t\a\b",
        <<0, 1, 127>>,
        "\u009b2J",
        "x\u202Ey",
        <<255, "\e">>,
        "ok ż"
      ]

      [_, _, row] = lines(%{at: 0, commands: [command(cmd: evil)]}, nil)
      assert row =~ ~S('a\e[2Jb' '\r\n\t\a\b' '\0\x01\d' '\x9B2J')
      assert row =~ "'ok ż'"
      assert row |> String.to_charlist() |> Enum.all?(&(&1 in ?\s..?~ or &1 == ?ż))
    end
  end

  # A terminal, as the I/O protocol shows it: what is written comes as messages, a line is waited for until it is
  # given.
  defmodule Terminal do
    def start(test, geometry), do: spawn_link(fn -> loop(test, geometry, nil) end)
    def enter(terminal, line \\ "\n"), do: send(terminal, {:enter, line})

    defp loop(test, geometry, waiting) do
      receive do
        {:enter, line} ->
          {from, ref} = waiting
          send(from, {:io_reply, ref, line})
          loop(test, geometry, nil)

        {:io_request, from, ref, {:get_line, :unicode, _prompt}} ->
          send(test, {:reads, from})
          loop(test, geometry, {from, ref})

        {:io_request, from, ref, {:get_geometry, what}} ->
          send(from, {:io_reply, ref, Map.get(geometry, what, {:error, :enotsup})})
          loop(test, geometry, waiting)

        {:io_request, from, ref, {:put_chars, :unicode, chars}} ->
          send(test, {:wrote, IO.chardata_to_string(chars)})
          send(from, {:io_reply, ref, :ok})
          loop(test, geometry, waiting)
      end
    end
  end

  defp on_terminal(geometry, fun) do
    terminal = Terminal.start(self(), geometry)

    task =
      Task.async(fn ->
        Process.group_leader(self(), terminal)
        fun.()
      end)

    {terminal, task}
  end

  describe "top/1" do
    test "writes as many tables as asked for, the later with rates, and reads nothing" do
      p = start!("cat", ["-", "marked"], [])
      {_terminal, task} = on_terminal(%{}, fn -> NetRunner.top(iterations: 2, interval: 100) end)
      assert_receive {:wrote, first}, 5_000
      assert_receive {:wrote, second}, 5_000
      assert Task.await(task) == :ok
      refute_received {:wrote, _}
      refute_received {:reads, _}
      {:ok, os_pid} = P.os_pid(p)
      assert first =~ ~r/^#{os_pid} +running .* - +- .* cat - marked$/m
      assert second =~ ~r/^#{os_pid} +running .* 0 +0 .* cat - marked$/m
      refute first =~ "\e"
      assert String.starts_with?(second, "\nNetRunner: ")
    end

    test "waits for the interval between two tables" do
      {us, text} =
        :timer.tc(fn -> capture_io(fn -> NetRunner.top(iterations: 3, interval: 200) end) end)

      assert us >= 400_000
      assert text |> String.split("OS PID") |> length() == 4
    end

    test "ends by Enter, whatever was typed, and leaves nothing behind" do
      Process.flag(:trap_exit, true)
      me = self()

      {terminal, task} =
        on_terminal(%{}, fn ->
          Process.flag(:trap_exit, true)
          send(self(), :mine)
          result = NetRunner.top(interval: 100)
          send(me, {:links, Process.info(self(), [:links, :monitors])})
          {result, Process.info(self(), :messages)}
        end)

      assert_receive {:reads, reader}, 5_000
      assert_receive {:wrote, text}, 5_000
      assert text =~ "Enter ends this."
      assert_receive {:wrote, _again}, 5_000
      Terminal.enter(terminal, "something else\n")
      assert Task.await(task) == {:ok, {:messages, [:mine]}}
      assert_receive {:links, [links: links, monitors: []]}
      assert links == [me]
      refute Process.alive?(reader)
    end

    test "ends where there is nothing to read" do
      assert capture_io("", fn -> assert NetRunner.top() == :ok end) =~ "NetRunner: "
    end

    test "does not leave the waiting process behind when its caller is killed" do
      {_terminal, task} = on_terminal(%{}, fn -> NetRunner.top() end)
      assert_receive {:reads, reader}, 5_000
      monitor = Process.monitor(reader)
      Task.shutdown(task, :brutal_kill)
      assert_receive {:DOWN, ^monitor, :process, ^reader, :normal}, 5_000
    end

    test "writes over the last table in a terminal, and keeps to its size" do
      enabled = Application.get_env(:elixir, :ansi_enabled)
      on_exit(fn -> Application.put_env(:elixir, :ansi_enabled, enabled) end)
      Application.put_env(:elixir, :ansi_enabled, true)
      for _ <- 1..5, do: start!("cat", [String.duplicate("x", 500)], [])

      {_terminal, task} =
        on_terminal(%{columns: 70, rows: 6}, fn -> NetRunner.top(iterations: 2, interval: 100) end)

      assert_receive {:wrote, first}, 5_000
      assert_receive {:wrote, second}, 5_000
      Task.await(task)
      assert String.starts_with?(first, IO.ANSI.clear() <> IO.ANSI.home())
      assert String.starts_with?(second, IO.ANSI.home() <> "NetRunner: ")
      assert String.ends_with?(second, "\e[K\n\e[J")

      lines =
        second |> String.replace(~r/\e\[[0-9]*[a-zA-Z]/, "") |> String.split("\n", trim: true)

      assert length(lines) == 5
      assert List.last(lines) =~ ~r/^and \d+ more$/
      assert Enum.all?(lines, &(String.length(&1) <= 70))
    end

    @tag timeout: 120_000
    test "lives in iex: redrawn in its place on a real terminal, ended by Enter, and iex goes on" do
      commands = """
      for n <- 1..10 do
        {:ok, _} = NetRunner.Process.start("sleep", ["100\#{n}"], owner: Process.whereis(:init))
      end
      """

      args = OtherBeam.elixir_args(commands)
      env = [{"TERM", "xterm"} | OtherBeam.preload()]
      # What it leaves is only killed: an iex does not end by a signal of the terminal.
      p = start!("iex", args, pty: [rows: 8, cols: 70], env: env, kill_timeout: 0)
      prompt = ~r/iex\(\d+\)> /
      assert {:ok, _} = P.await_output(p, prompt, 60_000)
      :ok = P.write(p, "NetRunner.top(interval: 100)\r")
      assert {:ok, {_typed, _}} = P.await_output(p, "\e[2J", 30_000)

      assert {:ok, _} = P.await_output(p, "\e[H", 30_000)

      for _ <- 1..3 do
        # What was there is written over, not pushed up: the next screen begins at the top.
        assert {:ok, {screen, _}} = P.await_output(p, "\e[H", 30_000)
        lines = screen |> String.replace(~r/\e\[[0-9;]*[a-zA-Z]/, "") |> String.split("\r\n")
        assert ["NetRunner: 10 running" <> heading, titles | rows] = lines
        assert heading =~ "Enter ends this."
        assert titles =~ ~r/^OS PID .* COMMAND$/
        assert {rows, ["and 6 more", rest]} = Enum.split(rows, 4)
        # The driver of OTP 25 moves over its own echo.
        assert rest in ["", " \b"]
        for row <- rows, do: assert(row =~ ~r/^\d+ +running .* sleep 100\d+$/)
        # With the line that the cursor stands in, it is as high as the terminal.
        assert length(lines) == 8
        for line <- lines, do: assert(String.length(line) <= 70)
      end

      :ok = P.write(p, "\r")
      assert {:ok, {last, _}} = P.await_output(p, prompt, 30_000)
      assert last =~ ":ok"
      :ok = P.write(p, "20 + 22\r")
      assert {:ok, _} = P.await_output(p, "42", 30_000)
      P.stop(p)
    end

    test "raises for options that it does not have, or of the wrong type, and names them" do
      for {opts, name} <- [
            {[interval: 99], ":interval"},
            {[iterations: 0], ":iterations"},
            {[sort: :pid], ":sort"},
            {[timeout: 1], ":timeout for NetRunner.top/1"}
          ] do
        assert_raise ArgumentError, ~r/#{name}/, fn -> NetRunner.top(opts) end
      end
    end
  end
end
