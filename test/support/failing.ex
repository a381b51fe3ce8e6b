defmodule NetRunner.Test.Failing do
  @moduledoc """
  The NIF whose calls fail (test/failing): in another BEAM, whose NetRunner is `app/0`'s. The page that it
  shares with the library is a file; its layout is struct failing of test/failing/failing.h.

  A life of commands is lived again and again, the n-th call of one kind failing, for n = 1, 2, 3, ...
  until none is reached any more.
  """

  alias NetRunner.Test.{OtherBeam, WholePath, World}

  # Lives that call more often have lost their way.
  @calls_max 400
  @all 0xFFFF_FFFF

  @doc "The launcher and the ebin of a BEAM whose NIF is the failing one."
  def app do
    app = World.tmp_path("net_runner")
    File.mkdir_p!(Path.join(app, "priv"))
    File.ln_s!(Application.app_dir(:net_runner, "ebin"), Path.join(app, "ebin"))

    for file <- ["shepherd", "ring_probe", "tee", "replay"] do
      File.ln_s!(Application.app_dir(:net_runner, ["priv", file]), Path.join([app, "priv", file]))
    end

    nif = Application.app_dir(:net_runner, ["cmake", "failing", "net_runner.so"])
    File.ln_s!(nif, Path.join([app, "priv", "net_runner.so"]))
    page = Path.join(Path.dirname(app), "page")
    File.write!(page, :binary.copy(<<0>>, 72))
    {["env", "NR_FAILING=#{page}"], Path.join(app, "ebin"), page}
  end

  @doc "Another BEAM with it."
  def other_beam(code) do
    {launcher, ebin, _page} = app()
    OtherBeam.start(~s[IO.puts("up"); ] <> code, launcher, ebin)
  end

  def page, do: System.fetch_env!("NR_FAILING")

  def arm(page, call, first, last, error) do
    disarm(page)
    pad = fn text, size -> text <> :binary.copy(<<0>>, size - byte_size(text)) end

    write(page, 4, [
      <<last::little-32, error::little-32, 0::32, 0::32, 0::32>>,
      pad.("nif", 16),
      pad.(call, 32)
    ])

    write(page, 0, <<first::little-32>>)
  end

  def disarm(page), do: write(page, 0, <<0::32>>)

  @doc "How many calls failed since it was armed."
  def failed(page) do
    {:ok, file} = :file.open(page, [:read, :raw, :binary])
    {:ok, <<failed::little-32>>} = :file.pread(file, 16, 4)
    :file.close(file)
    failed
  end

  defp write(page, offset, bytes) do
    {:ok, file} = :file.open(page, [:read, :write, :raw, :binary])
    :ok = :file.pwrite(file, offset, bytes)
    :ok = :file.close(file)
  end

  @doc """
  Each life with the n-th call of each fault failing, until it is not reached any more. A fault is
  `{call, errno, reasons}`: what comes out is right, or an error of one of these reasons; then the
  baseline is as before and all works. Prints how often each was reached.
  """
  def each_until_clean!(faults, backend) do
    page = page()
    WholePath.run!(backend)
    before = World.settled_baseline()

    for {call, errno, _reasons} = fault <- faults do
      reached =
        for life <- lives(call, errno),
            do: live_until_clean(page, fault, life, backend, before, 1)

      WholePath.run!(backend)
      IO.puts("#{call} #{errno}: #{Enum.sum(reached)}")
    end
  end

  @doc """
  NetRunner starts with each of these calls failing, all of them: without rings, perhaps without a
  zygote, until it is disarmed. Prints how often each was reached.
  """
  def each_at_the_start!(faults) do
    page = page()

    for {call, errno} <- faults do
      :ok = Application.stop(:net_runner)
      arm(page, call, 1, @all, errno)
      {:ok, _} = Application.ensure_all_started(:net_runner)
      reached = failed(page)
      disarm(page)
      # The next try for a zygote may be a second away.
      WholePath.run!(:auto)
      WholePath.check!(:auto)
      IO.puts("#{call} #{errno}: #{reached}")
    end
  end

  defp live_until_clean(page, {call, errno, reasons} = fault, {name, life}, backend, before, n)
       when n < @calls_max do
    what = "#{name}, #{call} no. #{n} with #{errno}"

    task =
      Task.async(fn ->
        # Several calls: the second is made where the first has failed, and fails, too.
        arm(page, call, n, n + length(String.split(call, ",")) - 1, errno)
        result = life.(backend)
        disarm(page)
        result
      end)

    result = Task.yield(task, 20_000) || hangs!(what, task)
    judge!(what, result, reasons)
    World.await_baseline(before)

    if failed(page) == 0,
      do: n - 1,
      else: live_until_clean(page, fault, {name, life}, backend, before, n + 1)
  end

  defp hangs!(what, task) do
    disarm(page())

    raise "#{what}: hangs in\n" <>
            Exception.format_stacktrace(elem(Process.info(task.pid, :current_stacktrace), 1))
  end

  defp judge!(_what, {:ok, :right}, _reasons), do: :ok

  # A user or a group that could not be looked up: the option's error, with the reason in words.
  defp judge!(what, {:ok, {:error, {:invalid, option, words}}}, :looked_up) do
    unless option in [:user, :group, :groups] and
             words =~ ~r/cannot be (looked up|read): [a-z]+$/,
           do: raise("#{what}: #{option}: #{words}")
  end

  defp judge!(what, {:ok, {:error, reason}}, reasons) do
    if reason not in reasons,
      do: raise("#{what}: #{inspect(reason)} is not of #{inspect(reasons)}")
  end

  defp judge!(what, result, _reasons), do: raise("#{what}: #{inspect(result)}")

  # ---- the lives --------------------------------------------------------------------------------

  @calls_of_a_terminal ~w(grantpt ioctl,ptsname_r malloc posix_openpt tcgetattr tcsetattr unlockpt)
  @calls_of_somebody ~w(getgrnam_r getgrouplist getgroups getpwnam_r getpwuid_r)
  @calls_of_any_start ~w(faccessat stat)
  @enfile 23

  # Only those lives that show something: there are thousands of them as it is.
  defp lives(call, _errno) when call in @calls_of_a_terminal, do: lives(["terminal"])
  defp lives(call, _errno) when call in @calls_of_somebody, do: lives(["somebody"])
  defp lives(call, _errno) when call in @calls_of_any_start, do: lives(["run"])
  # A guardian that may rest keeps its socket, and is dismissed once the life is over.
  defp lives("shutdown", _errno), do: lives(["many strings"])
  defp lives("close", _errno), do: lives(["stream", "terminal"])
  # Everywhere the same as EMFILE, which all lives meet.
  defp lives(_call, @enfile), do: lives(["many strings", "terminal"])
  defp lives("realloc", _errno), do: lives()
  defp lives(_call, _errno), do: List.keydelete(lives(), "somebody", 0)

  defp lives(names), do: Enum.map(names, &List.keyfind(lives(), &1, 0))

  defp lives do
    [
      {"run", &run/1},
      {"run again", &run_again/1},
      {"many strings", &many_strings/1},
      {"stream", &stream/1},
      {"late answers", &late_answers/1},
      {"full pipe", &full_pipe/1},
      {"terminal", &terminal/1},
      {"somebody", &somebody/1},
      {"killed", &killed/1}
    ]
  end

  # More than one pipe's worth, so that both ends wait; small blocks last, which a ring writes itself.
  defp run(backend) do
    input = Enum.to_list(World.blocks(6, 50_000)) ++ ["the ", "end"]
    opts = [input: input, backend: backend, stderr: :consume]

    expected(
      NetRunner.run(["sh", "-c", "sleep 0.02; exec cat"], opts),
      {IO.iodata_to_binary(input), 0}
    )
  rescue
    error in NetRunner.Error -> {:error, error.reason}
  end

  # By the guardian of the first.
  defp run_again(backend) do
    with {"", 0} <- NetRunner.run(["true"], backend: backend),
         do: expected(NetRunner.run(["cat"], input: "on", backend: backend), {"on", 0})
  rescue
    error in NetRunner.Error -> {:error, error.reason}
  end

  defp many_strings(backend) do
    args = Enum.map(1..9_000, &"argument #{&1}")
    expected(NetRunner.run(["sh", "-c", "echo $#", "sh" | args], backend: backend), {"9000\n", 0})
  rescue
    error in NetRunner.Error -> {:error, error.reason}
  end

  defp stream(backend) do
    input = Enum.to_list(World.blocks(6, 50_000))
    output = Enum.to_list(NetRunner.stream!(["cat"], input: input, backend: backend))
    expected(IO.iodata_to_binary(output), IO.iodata_to_binary(input))
  rescue
    error in NetRunner.Error -> {:error, error.reason}
  end

  defp late_answers(backend) do
    with {:ok, p} <- NetRunner.Process.start("cat", [], backend: backend) do
      result =
        Enum.reduce_while(1..3, :right, fn n, :right ->
          with reader = Task.async(fn -> NetRunner.Process.read(p) end),
               :ok <- NetRunner.Process.write(p, "#{n}"),
               {:ok, text} <- Task.await(reader, 15_000) do
            {:cont, expected(text, "#{n}")}
          else
            {:error, reason} -> {:halt, {:error, reason}}
            :eof -> {:halt, {:error, :eof}}
          end
        end)

      NetRunner.Process.stop(p)
      result
    end
  end

  # A small rest is what a ring writes itself. The command reads once it is waited for.
  defp full_pipe(backend) do
    args = ["-c", "kill -STOP $$; exec wc -c"]

    with {:ok, p} <- NetRunner.Process.start("sh", args, backend: backend) do
      result =
        with :ok <- NetRunner.Process.write(p, :binary.copy("x", 65_536)),
             writer = Task.async(fn -> NetRunner.Process.write(p, "rest") end),
             :ok <- stands_still(p, writer),
             :ok <- NetRunner.Process.kill(p, :sigcont),
             :ok <- Task.await(writer, 15_000),
             :ok <- NetRunner.Process.close_stdin(p),
             {:ok, text} <- NetRunner.Process.read(p) do
          expected(String.trim(text), "65540")
        else
          :eof -> {:error, :eof}
          {:error, reason} -> {:error, reason}
        end

      NetRunner.Process.stop(p)
      result
    end
  end

  # The command is stopped, the writer waits (or has failed).
  defp stands_still(p, writer) do
    with {:ok, os_pid} <- NetRunner.Process.os_pid(p) do
      World.eventually("the writer waits for a command that is stopped", 15_000, fn ->
        World.proc_state(os_pid) in ["T", nil] and
          (not Process.alive?(writer.pid) or waits(NetRunner.Process.stats(p)) > 0)
      end)

      :ok
    end
  end

  defp waits({:ok, %{stdin: stdin}}), do: stdin.waits_poll + stdin.waits_io_uring
  defp waits({:error, _gone}), do: 1

  # A terminal waits by poll whatever happens.
  defp terminal(_backend) do
    opts = [pty: [echo: false], stderr: :capture, input: :pipe]

    with {:ok, p} <- NetRunner.Process.start("sh", ["-c", "cat; stty size"], opts) do
      result =
        with :ok <- NetRunner.Process.write(p, "line\nhalf a"),
             {:ok, {"l", "in"}} <- NetRunner.Process.await_output(p, "in", 15_000),
             :ok <- NetRunner.Process.set_window_size(p, 3, 4),
             :ok <- NetRunner.Process.close_stdin(p),
             {:ok, {before, "\r\n"}} <-
               NetRunner.Process.await_output(p, ~r/(?<=3 4)\r\n/, 15_000) do
          expected(before, "e\r\nhalf a3 4")
        end

      NetRunner.Process.stop(p)
      result
    end
  end

  # A user by name, one by number, a group that brings the BEAM's own groups.
  defp somebody(backend) do
    {user, uid, group} = who()

    [{[user: user], uid}, {[user: uid], uid}, {[group: group], our_uid()}]
    |> Enum.reduce_while(:right, fn {who, uid}, :right ->
      result = NetRunner.run(["id", "-u"], [cd: "/", backend: backend] ++ who)
      result = expected(result, {"#{uid}\n", 0})
      {if(result == :right, do: :cont, else: :halt), result}
    end)
  rescue
    error in NetRunner.Error -> {:error, error.reason}
  end

  # Who is not root can be himself only.
  defp who do
    case our_uid() do
      0 -> {"nobody", 65_534, "nogroup"}
      uid -> {id("-un"), uid, id("-gn")}
    end
  end

  defp our_uid, do: File.stat!("/proc/self").uid

  # By a port of the BEAM's: its calls are no calls of the NIF.
  defp id(flag), do: System.cmd("id", [flag]) |> elem(0) |> String.trim()

  defp killed(backend) do
    with {:ok, p} <- NetRunner.Process.start("sleep", ["1000"], backend: backend) do
      result =
        with :ok <- NetRunner.Process.kill(p, :sigkill),
             {:ok, 137} <- NetRunner.Process.await_exit(p, 15_000),
             do: :right

      NetRunner.Process.stop(p)
      result
    end
  end

  defp expected(same, same), do: :right
  defp expected({:error, reason}, _expected), do: {:error, reason}

  defp expected(other, _expected),
    do: {:wrong, if(is_binary(other), do: byte_size(other), else: other)}
end
