defmodule Compare.World do
  @moduledoc false
  # Looks at the system, not at what a library says of it. A command that is asked about carries a tag in its environment,
  # and so does all that it starts, however far it went away; /proc finds it.

  @variable "NET_RUNNER_COMPARE"

  def new_tag, do: "#{System.pid()}_#{System.unique_integer([:positive])}"

  @doc "The command, with the tag in its environment. `env` becomes the command: the pid is the same."
  def tagged(cmd, tag), do: [System.find_executable("env"), "#{@variable}=#{tag}" | cmd]

  @doc "The living processes of a tag, by pid. The dead that nobody has reaped have no environment any more."
  def living(tag), do: with_variable(&(&1 == "#{@variable}=#{tag}"))

  @doc "Those of all tags that a BEAM has made."
  def living_of(os_pid), do: with_variable(&String.starts_with?(&1, "#{@variable}=#{os_pid}_"))

  defp with_variable(is_it?) do
    for pid <- pids(),
        {:ok, environ} <- [File.read("/proc/#{pid}/environ")],
        environ |> String.split(<<0>>) |> Enum.any?(is_it?),
        do: pid
  end

  defp pids do
    for name <- File.ls!("/proc"), {pid, ""} <- [Integer.parse(name)], do: pid
  end

  def name(pid) do
    case File.read("/proc/#{pid}/comm") do
      {:ok, name} -> String.trim(name)
      {:error, _} -> nil
    end
  end

  def parent(pid) do
    [_all, parent] = Regex.run(~r/^PPid:\s*(\d+)$/m, File.read!("/proc/#{pid}/status"))
    String.to_integer(parent)
  end

  @doc "Bytes that a process has written, with whatever system call; nil if it is gone."
  def written(pid) do
    with {:ok, io} <- File.read("/proc/#{pid}/io"),
         [_all, bytes] <- Regex.run(~r/^wchar: (\d+)$/m, io) do
      String.to_integer(bytes)
    else
      _gone -> nil
    end
  end

  def kill(pids, signal \\ "KILL") do
    pids = Enum.map(List.wrap(pids), &to_string/1)
    if pids != [], do: System.cmd("kill", ["-#{signal}" | pids], stderr_to_stdout: true)
    :ok
  end

  @doc """
  Waits until the function gives something else than nil or false; that, or nil after `ms`. For facts of the operating system
  that send no event: it is asked every 20 ms.
  """
  def await(ms, fun, since \\ now()) do
    cond do
      value = fun.() -> value
      now() - since > ms -> nil
      true -> Process.sleep(20) && await(ms, fun, since)
    end
  end

  @doc "Waits until `count` processes carry the tag."
  def started!(tag, count) do
    await(60_000, fn -> length(living(tag)) == count end) ||
      raise "#{length(living(tag))} of #{count} processes started"
  end

  @doc "Waits up to `ms` for the end of all of them: `{those that are left, how long it took}`."
  def left(tag, ms) do
    since = now()
    await(ms, fn -> living(tag) == [] end)
    {living(tag), now() - since}
  end

  def now, do: System.monotonic_time(:millisecond)

  @doc "Another BEAM with the library, which starts what it is told (`tell/2`) by `Compare.Library.hold/2`."
  def boot(lib) do
    here = Path.dirname(__ENV__.file)
    paths = Enum.flat_map(:code.get_path(), &["-pa", to_string(&1)])

    required =
      for file <- ["world.exs", "library.exs"], arg <- ["-r", Path.join(here, file)], do: arg

    code = """
    Logger.configure(level: :none)
    :ok = Compare.Library.start(#{inspect(lib)})
    IO.puts("up")

    for line <- IO.stream(:stdio, :line) do
      {cmd, []} = Code.eval_string(line)
      spawn(fn -> Compare.Library.hold(#{inspect(lib)}, cmd) end)
    end
    """

    port =
      Port.open({:spawn_executable, System.find_executable("elixir")}, [
        :binary,
        :exit_status,
        args: paths ++ required ++ ["-e", code]
      ])

    {:os_pid, os_pid} = Port.info(port, :os_pid)
    await_up(port, "")
    %{port: port, os_pid: os_pid}
  end

  defp await_up(port, said) do
    receive do
      {^port, {:data, data}} -> if data =~ ~r/^up$/m, do: :ok, else: await_up(port, said <> data)
      {^port, {:exit_status, status}} -> raise "a BEAM ended with #{status} and said: #{said}"
    after
      120_000 -> raise "a BEAM did not come up, and said: #{said}"
    end
  end

  def tell(beam, cmd),
    do:
      Port.command(beam.port, inspect(cmd, limit: :infinity, printable_limit: :infinity) <> "\n")

  # Not its port's exit_status: a command that was left alone may have the BEAM's stdout.
  def await_end(%{os_pid: os_pid}),
    do: await(10_000, fn -> not File.exists?("/proc/#{os_pid}") end)
end
