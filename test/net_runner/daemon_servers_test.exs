defmodule NetRunner.DaemonServersTest do
  # Real servers under NetRunner.Daemon: Redis and nginx as Debian has them (ci/setup installs both), on a
  # free port of 127.0.0.1, with all their files in a folder of the test. Not async: it counts what the
  # whole node holds.
  use NetRunner.Test.Case

  alias NetRunner.Daemon, as: D
  alias NetRunner.Test.World

  @moduletag :capture_log

  # Both take some milliseconds; this is for machines that are busy.
  @soon 10_000

  setup do
    Process.flag(:trap_exit, true)
    folder = tmp_path("server")
    File.mkdir_p!(folder)
    %{port: free_port(), folder: folder}
  end

  defp supervise(child, opts \\ []) do
    {:ok, supervisor} = Supervisor.start_link([child], [strategy: :one_for_one] ++ opts)
    on_exit(fn -> stop(supervisor) end)
    supervisor
  end

  defp stop(supervisor) do
    Supervisor.stop(supervisor)
  catch
    :exit, _gone -> :ok
  end

  # Stops it as an application's end does, and looks at what is left.
  defp stop_and_look(supervisor, context) do
    [{_id, d, :worker, [D]}] = Supervisor.which_children(supervisor)
    monitor = Process.monitor(d)
    {us, :ok} = :timer.tc(fn -> Supervisor.stop(supervisor) end)
    # Not :killed: it was done within its budget. And not by SIGKILL: within the grace.
    assert_received {:DOWN, ^monitor, :process, ^d, :shutdown}
    assert us < 4_000_000
    assert living_in(context.folder) == []
    assert free?(context.port)
  end

  # Servers write their titles over their environment, so no tag finds them. Where they are does.
  defp living_in(folder) do
    for dir <- Path.wildcard("/proc/[0-9]*"),
        File.read_link(dir <> "/cwd") == {:ok, folder},
        pid = String.to_integer(Path.basename(dir)),
        running?(pid),
        do: pid
  end

  defp free?(port) do
    with {:ok, socket} <- :gen_tcp.listen(port, ip: {127, 0, 0, 1}, reuseaddr: true),
         do: :gen_tcp.close(socket) == :ok
  end

  defp kill!(os_pid), do: {_, 0} = System.cmd("kill", ["-KILL", "#{os_pid}"])

  # The pid of the one that runs after `old`.
  defp await_another(name, old) do
    eventually("another one runs", @soon, fn ->
      case D.os_pid(name) do
        {:ok, ^old} -> nil
        {:ok, os_pid} -> D.alive?(name) && os_pid
        _restarting -> nil
      end
    end)
  end

  # Says something on a connection of its own, and gives all that comes back.
  defp talk(port, request) do
    case :gen_tcp.connect({127, 0, 0, 1}, port, [:binary, active: false], 1_000) do
      {:ok, socket} ->
        :ok = :gen_tcp.send(socket, request)
        answer = receive_all(socket, "")
        :gen_tcp.close(socket)
        answer

      {:error, reason} ->
        {:error, reason}
    end
  end

  defp receive_all(socket, got) do
    case :gen_tcp.recv(socket, 0, 1_000) do
      {:ok, more} -> receive_all(socket, got <> more)
      {:error, _closed} -> got
    end
  end

  describe "redis-server" do
    @describetag :redis

    defp redis(context, opts) do
      cmd =
        [
          World.server("redis-server"),
          "--port",
          "#{context.port}",
          "--bind",
          "127.0.0.1",
          "--dir",
          context.folder,
          "--daemonize",
          "no"
        ] ++ Keyword.get(opts, :args, ["--save", ""])

      {D, [cmd: cmd, name: __MODULE__.Redis, cd: context.folder] ++ Keyword.delete(opts, :args)}
    end

    # Without a closing QUIT it would keep the connection.
    defp ask(context, command), do: talk(context.port, command <> "\r\nQUIT\r\n")

    on_backends "is ready when it says so or when it accepts, and answers at once", context do
      back_at_baseline(fn ->
        for ready <- [{:output, "Ready to accept connections"}, {:tcp, context.port}] do
          supervisor = supervise(redis(context, ready: ready, backend: backend))
          assert ask(context, "PING") == "+PONG\r\n+OK\r\n"
          {:ok, os_pid} = D.os_pid(__MODULE__.Redis)
          assert living_in(context.folder) == [os_pid]
          stop_and_look(supervisor, context)
        end
      end)
    end

    on_backends "killed, is restarted by its supervisor: another pid, and it answers again",
                context do
      back_at_baseline(fn ->
        ready = {:output, "Ready to accept"}
        supervisor = supervise(redis(context, ready: ready, backend: backend))
        {:ok, first} = D.os_pid(__MODULE__.Redis)
        kill!(first)
        second = await_another(__MODULE__.Redis, first)
        # The supervisor answers when it is ready.
        assert Supervisor.count_children(supervisor).active == 1
        assert ask(context, "PING") == "+PONG\r\n+OK\r\n"
        assert living_in(context.folder) == [second]
        stop_and_look(supervisor, context)
      end)
    end

    on_backends "told to stop, saves what it was given, and has it again", context do
      opts = [ready: {:tcp, context.port}, args: ["--save", "3600 1"], backend: backend]
      supervisor = supervise(redis(context, opts))
      assert ask(context, "SET key value") == "+OK\r\n+OK\r\n"
      stop_and_look(supervisor, context)

      supervisor = supervise(redis(context, opts))
      assert ask(context, "GET key") == "$5\r\nvalue\r\n+OK\r\n"
      stop_and_look(supervisor, context)
    end

    on_backends "that cannot have its port is no start, and says why", context do
      {:ok, taken} = :gen_tcp.listen(context.port, ip: {127, 0, 0, 1})
      me = self()

      back_at_baseline(fn ->
        {D, opts} = redis(context, ready: {:output, "Ready to accept"}, backend: backend)
        opts = opts ++ [on_output: fn line -> send(me, {:line, line}) end]
        assert {:error, {:exit, {:exited, 1}}} = D.start_link(opts)
        said = said()
        assert said =~ "bind: Address already in use"
        assert said =~ "aborting"
        assert living_in(context.folder) == []
      end)

      :gen_tcp.close(taken)
    end

    defp said(text \\ "") do
      receive do
        {:line, line} -> said(text <> line <> "\n")
      after
        0 -> text
      end
    end

    test "the example of the documentation runs, and what it says is logged", context do
      {:docs_v1, _, _, _, %{"en" => text}, _, _} = Code.fetch_docs(D)
      [example] = Regex.run(~r/^    children = \[.*?^    \{:ok, supervisor\} = .*?$/ms, text)
      example = String.replace(example, "6399", "#{context.port}")

      log =
        ExUnit.CaptureLog.capture_log(fn ->
          File.cd!(context.folder, fn ->
            {{:ok, supervisor}, _binding} = Code.eval_string(example)
            on_exit(fn -> stop(supervisor) end)
            assert ask(context, "PING") == "+PONG\r\n+OK\r\n"
            {:ok, os_pid} = D.os_pid(MyApp.Redis)
            assert Supervisor.stop(supervisor) == :ok
            refute running?(os_pid)
          end)
        end)

      assert log =~ ~r/\[debug\] redis-server: .*Ready to accept connections/
      assert log =~ ~r/\[debug\] redis-server: .*bye bye/
      assert free?(context.port)
    end
  end

  describe "nginx" do
    @describetag :nginx

    defp nginx(context, opts) do
      configure(context, "one")

      cmd = [
        World.server("nginx"),
        "-c",
        Path.join(context.folder, "nginx.conf"),
        "-p",
        context.folder,
        "-e",
        "stderr",
        "-g",
        "daemon off;"
      ]

      {D, [cmd: cmd, name: __MODULE__.Nginx, cd: context.folder] ++ opts}
    end

    defp configure(context, answer) do
      temporary =
        for name <- ~w(client_body proxy fastcgi uwsgi scgi),
            do: "  #{name}_temp_path #{context.folder}/#{name};\n"

      # As root it would make itself a user who may not enter the test's folder.
      user = if System.cmd("id", ["-u"]) == {"0\n", 0}, do: "user root;\n", else: ""

      File.write!(Path.join(context.folder, "nginx.conf"), """
      #{user}worker_processes 2;
      pid #{context.folder}/nginx.pid;
      error_log stderr notice;
      events { worker_connections 64; }
      http {
        access_log off;
      #{temporary}
        server {
          listen 127.0.0.1:#{context.port};
          location / { return 200 "#{answer}"; }
        }
      }
      """)
    end

    defp get(context) do
      with text when is_binary(text) <- talk(context.port, "GET / HTTP/1.0\r\n\r\n"),
           ["HTTP/1.1 200 OK" <> _, body] <- String.split(text, "\r\n\r\n", parts: 2),
           do: body
    end

    # It puts new workers into place one after the other.
    defp workers(master) do
      eventually("two workers", @soon, fn ->
        workers = children(master)
        length(workers) == 2 && Enum.sort(workers)
      end)
    end

    on_backends "is ready when it says so or when it accepts, and answers at once", context do
      back_at_baseline(fn ->
        for ready <- [{:output, ~r/start worker process \d+/}, {:tcp, "127.0.0.1", context.port}] do
          supervisor = supervise(nginx(context, ready: ready, backend: backend))
          assert get(context) == "one"
          {:ok, master} = D.os_pid(__MODULE__.Nginx)
          assert length(workers(master)) == 2
          assert length(living_in(context.folder)) == 3
          stop_and_look(supervisor, context)
        end
      end)
    end

    on_backends "reloaded, has new workers with the new configuration, and is the same",
                context do
      back_at_baseline(fn ->
        opts = [ready: {:tcp, context.port}, on_output: :log, backend: backend]
        supervisor = supervise(nginx(context, opts))
        {:ok, master} = D.os_pid(__MODULE__.Nginx)
        before = workers(master)
        assert get(context) == "one"

        configure(context, "two")
        assert D.reload(__MODULE__.Nginx) == :ok
        eventually("it answers anew", @soon, fn -> get(context) == "two" end)
        eventually("the old ones are gone", @soon, fn -> not Enum.any?(before, &running?/1) end)
        assert D.os_pid(__MODULE__.Nginx) == {:ok, master}
        assert Enum.all?(workers(master), &(&1 not in before))
        stop_and_look(supervisor, context)
      end)
    end

    on_backends "its master killed, is restarted once the old workers are gone, too", context do
      back_at_baseline(fn ->
        opts = [ready: {:output, "start worker process "}, drain_timeout: 100, backend: backend]
        supervisor = supervise(nginx(context, opts))
        {:ok, first} = D.os_pid(__MODULE__.Nginx)
        before = workers(first)
        kill!(first)
        second = await_another(__MODULE__.Nginx, first)
        # The supervisor answers when it is ready.
        assert Supervisor.count_children(supervisor).active == 1
        refute Enum.any?(before, &running?/1)
        assert get(context) == "one"
        after_it = workers(second)
        assert Enum.sort(living_in(context.folder)) == Enum.sort([second | after_it])
        stop_and_look(supervisor, context)
      end)
    end

    # The bytes that a connection's end has sent and not seen taken, and those that it has not read (proc_net_tcp(5)).
    defp queues(port, peer) do
      ends =
        ~r/: [0-9A-F]{8}:#{hex(port)} [0-9A-F]{8}:#{hex(peer)} 01 ([0-9A-F]{8}):([0-9A-F]{8})/

      with [_, sent, unread] <- Regex.run(ends, File.read!("/proc/net/tcp")),
           do: {String.to_integer(sent, 16), String.to_integer(unread, 16)}
    end

    defp hex(port), do: port |> Integer.to_string(16) |> String.pad_leading(4, "0")

    on_backends "stopped by SIGQUIT, finishes the request that it is at", context do
      supervisor =
        supervise(
          nginx(context, ready: {:tcp, context.port}, stop_signal: :sigquit, backend: backend)
        )

      {:ok, socket} =
        :gen_tcp.connect({127, 0, 0, 1}, context.port, [:binary, active: false], 1_000)

      # The request has begun, the worker has read it: leaving in good order, it waits for the rest.
      :ok = :gen_tcp.send(socket, "GET / HTTP/1.0\r\n")
      {:ok, port} = :inet.port(socket)

      eventually("its beginning was read", fn ->
        queues(port, context.port) == {0, 0} and queues(context.port, port) == {0, 0}
      end)

      task = Task.async(fn -> Supervisor.stop(supervisor) end)
      eventually("it accepts no more", @soon, fn -> match?({:error, _}, get(context)) end)
      :ok = :gen_tcp.send(socket, "\r\n")
      assert receive_all(socket, "") =~ "one"
      :gen_tcp.close(socket)
      assert Task.await(task) == :ok
      assert living_in(context.folder) == []
      assert free?(context.port)
    end

    # A portable guardian does not find a server that made itself a session of its own.
    @tag :subreaper
    on_backends "in the background is taken for one that ended, and is gone", context do
      {D, opts} = nginx(context, drain_timeout: 100, backend: backend)
      cmd = List.replace_at(opts[:cmd], -1, "daemon on;")

      back_at_baseline(fn ->
        {:ok, d} = D.start_link(Keyword.put(opts, :cmd, cmd))
        assert_receive {:EXIT, ^d, :normal}, @soon
        assert living_in(context.folder) == []
        assert free?(context.port)
      end)
    end
  end
end
