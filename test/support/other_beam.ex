defmodule NetRunner.Test.OtherBeam do
  @moduledoc """
  Another BEAM with NetRunner in it, to be killed. It is a port's child, not a NetRunner command: our
  own guardian would clean up behind it and prove nothing.
  """

  import ExUnit.Assertions

  alias NetRunner.Test.World

  @enforce_keys [:port, :os_pid, :started]
  defstruct @enforce_keys

  @doc """
  Starts one that runs `code` with NetRunner started, and waits for it to print "up". `launcher` is a
  command that it is started through, arguments appended; `ebin` where its NetRunner is.
  """
  def start(
        code,
        launcher \\ [],
        ebin \\ Application.app_dir(:net_runner, "ebin"),
        timeout \\ 60_000
      ) do
    [exe | args] = launcher ++ [System.find_executable("elixir") | elixir_args(code, ebin)]

    port =
      Port.open({:spawn_executable, System.find_executable(exe)}, [
        :binary,
        {:line, 1024},
        :exit_status,
        args: args,
        env: for({name, value} <- preload(), do: {to_charlist(name), to_charlist(value)})
      ])

    {:os_pid, os_pid} = Port.info(port, :os_pid)
    beam = %__MODULE__{port: port, os_pid: os_pid, started: World.start_time(os_pid)}
    ExUnit.Callbacks.on_exit(fn -> kill(beam) end)
    await_line(beam, "up", timeout)
    beam
  end

  @doc "A copy of NetRunner, to be changed or given away; its ebin."
  def copy_of_net_runner do
    app = World.tmp_path("net_runner")

    for folder <- ["ebin", "priv"] do
      File.mkdir_p!(Path.join(app, folder))
      File.cp_r!(Application.app_dir(:net_runner, folder), Path.join(app, folder))
    end

    Path.join(app, "ebin")
  end

  @doc """
  The launcher of a BEAM that belongs to an unprivileged user of its own, with all its processes and locked
  memory and nobody else's, and the ebin of a copy of NetRunner for it: the build folder may be closed to
  others. Needs root.
  """
  def as_somebody do
    ebin = copy_of_net_runner()
    home = ebin |> Path.dirname() |> Path.dirname()
    {_, 0} = System.cmd("chmod", ["-R", "a+rX", home])
    uid = World.unused_uid()
    who = ["--reuid=#{uid}", "--regid=#{uid}", "--clear-groups", "env", "HOME=" <> home]
    {["setpriv" | who], ebin}
  end

  @doc "The arguments of `elixir` that run `code` with NetRunner started."
  def elixir_args(code, ebin \\ Application.app_dir(:net_runner, "ebin")) do
    ours = Application.app_dir(:net_runner, "ebin")

    # In a checkout that is called net_runner, "." would be the application's folder, where it comes first (OTP 27).
    folders = [ebin | Enum.map(:code.get_path(), &to_string/1) -- [ours, "."]]
    paths = Enum.flat_map(folders, &["-pa", &1])

    paths ++
      [
        "-e",
        # What it prints is read by tests: the line that says why poll is used is not for them.
        ~s|Logger.configure(level: :error); System.delete_env("LD_PRELOAD"); {:ok, _} = Application.ensure_all_started(:net_runner); | <>
          code
      ]
  end

  @doc """
  What another BEAM's environment must have, as `{name, value}`. Under a sanitizer this BEAM's own
  commands must not inherit the preload, other BEAMs must.
  """
  def preload do
    case System.get_env("NET_RUNNER_TEST_PRELOAD") do
      nil -> []
      preload -> [{"LD_PRELOAD", preload}]
    end
  end

  @doc "Waits for a line that it prints."
  def await_line(%{port: port, os_pid: os_pid}, line, ms \\ 5_000) do
    receive do
      {^port, {:data, {:eol, ^line}}} -> :ok
      {^port, {:exit_status, status}} -> flunk("the other BEAM ended with #{status}")
    after
      ms ->
        flunk("""
        the other BEAM did not print #{inspect(line)} within #{ms} ms
        It had printed: #{inspect(lines(port))}
        Its processes: #{Enum.map_join(tree(os_pid), "\n", & &1)}
        """)
    end
  end

  defp lines(port) do
    receive do
      {^port, {:data, {_eol, line}}} -> [line | lines(port)]
    after
      0 -> []
    end
  end

  defp text(file) do
    case File.read(file) do
      {:ok, text} -> text
      {:error, _gone} -> ""
    end
  end

  # Name, state, and what it waits for in the kernel: where a BEAM hangs, they say with whom.
  defp tree(pid) do
    about = for file <- ["comm", "wchan"], do: "/proc/#{pid}/#{file}" |> text() |> String.trim()
    children = "/proc/#{pid}/task/#{pid}/children" |> text() |> String.split()

    [
      "#{pid} #{World.proc_state(pid)} #{Enum.join(about, " ")}"
      | Enum.flat_map(children, &tree/1)
    ]
  end

  @doc "The next line that it printed, other than those that were awaited."
  def read_line(%{port: port}, ms \\ 5_000) do
    receive do
      {^port, {:data, {:eol, line}}} -> line
      {^port, {:exit_status, status}} -> flunk("the other BEAM ended with #{status}")
    after
      ms -> flunk("the other BEAM printed no line within #{ms} ms")
    end
  end

  @doc "The line that another BEAM prints for the value of an expression. It stays until its port closes."
  def inspected(expression, ms, launcher \\ []) do
    # It sleeps until it is killed: where it ended by itself, its end could overtake the line.
    code =
      "IO.puts(:up); IO.puts(inspect(#{expression}, limit: :infinity)); Process.sleep(:infinity)"

    code |> start(launcher) |> read_line(ms)
  end

  @doc "Gives it a line to read."
  def tell(%{port: port}, line \\ ""), do: Port.command(port, [line, ?\n])

  @doc "Waits for its end and gives the status."
  def await_exit(%{port: port}, ms) do
    receive do
      {^port, {:exit_status, status}} -> status
    after
      ms -> flunk("the other BEAM did not end within #{ms} ms")
    end
  end

  @doc """
  Sends it a signal, SIGKILL by default; nothing once it has gone. A pid alone would not do: on a busy
  machine it is somebody else's after seconds.
  """
  def kill(%{os_pid: os_pid, started: started}, signal \\ "KILL") do
    if World.start_time(os_pid) == started,
      do: System.cmd("kill", ["-#{signal}", to_string(os_pid)], stderr_to_stdout: true)

    :ok
  end
end
