defmodule Compare.Each do
  @moduledoc false
  # A Collectable that gives each element to a function.
  defstruct [:fun]

  defimpl Collectable do
    def into(%{fun: fun}) do
      {nil,
       fn
         _, {:cont, chunk} -> fun.(chunk)
         _, _done -> nil
       end}
    end
  end
end

defmodule Compare.Library do
  @moduledoc false
  # The libraries, and the few calls of them that more than one row needs. What only one row asks stands in its file.

  alias Compare.World

  @compile {:no_warn_undefined,
            [Exile, Exile.Process, ExCmd, ExCmd.Process, MuonTrap, MuonTrap.Daemon, :exec]}

  # stderr as with the others; about one run of 1,500 ends with :epipe otherwise, when its helper has ended before it is told to.
  @ex_cmd [ignore_epipe: true, stderr: :console, exit_timeout: 30_000]

  @cgroup [cgroup_base: "net_runner_compare", cgroup: %{pids_max: 1_000}]

  # {id, name, its application, a module of it}. The second MuonTrap gives each command a cgroup.
  @all [
    {:net_runner, "NetRunner", :net_runner, NetRunner},
    {:exile, "Exile", :exile, Exile},
    {:muontrap, "MuonTrap", :muontrap, MuonTrap},
    {:muontrap_cgroup, "MuonTrap, cgroup", :muontrap, MuonTrap},
    {:erlexec, "erlexec", :erlexec, :exec},
    {:ex_cmd, "ex_cmd", :ex_cmd, ExCmd},
    {:system_cmd, "System.cmd", :elixir, System},
    {:port, "Port", :erts, Port}
  ]

  def loaded do
    for {id, _name, _app, module} <- @all,
        Code.ensure_loaded?(module),
        id != :muontrap_cgroup or pids_controller?(),
        do: id
  end

  # MuonTrap makes no cgroup without a controller that it knows.
  defp pids_controller? do
    case File.read("/sys/fs/cgroup/cgroup.controllers") do
      {:ok, controllers} -> "pids" in String.split(controllers)
      {:error, _} -> false
    end
  end

  def name(id), do: id |> entry() |> elem(1)

  def version(:port), do: "OTP #{System.otp_release()}"

  def version(id) do
    app = id |> entry() |> elem(2)
    _ = Application.load(app)
    to_string(Application.spec(app, :vsn))
  end

  defp entry(id), do: List.keyfind(@all, id, 0)

  def start(:port), do: :ok

  def start(id) do
    # It insists on a SHELL, and on being told so when it runs as root.
    if id == :erlexec do
      if System.get_env("SHELL") == nil, do: System.put_env("SHELL", "/bin/sh")
      root = System.get_env("USER") in [nil, "root"]

      if root,
        do: Application.put_all_env(erlexec: [root: true, user: "root", limit_users: ["root"]])
    end

    if id == :muontrap_cgroup, do: File.mkdir_p!(Path.join("/sys/fs/cgroup", cgroup_base()))
    {:ok, _started} = id |> entry() |> elem(2) |> Application.ensure_all_started()
    :ok
  end

  @doc "The parent of the cgroups that MuonTrap is asked to make."
  def cgroup_base, do: @cgroup[:cgroup_base]

  @doc "Runs the command to its end: `{output, status}`, or what the library says in place of that."
  def run(lib, cmd, opts \\ [])
  def run(:net_runner, cmd, opts), do: NetRunner.run(cmd, opts)
  def run(:exile, cmd, opts), do: cmd |> Exile.stream(opts) |> gathered()

  # Not with ignore_epipe: then a command that was killed has status 0.
  def run(:ex_cmd, cmd, opts),
    do: cmd |> ExCmd.stream(opts ++ Keyword.delete(@ex_cmd, :ignore_epipe)) |> gathered()

  def run(:muontrap_cgroup, cmd, opts), do: run(:muontrap, cmd, @cgroup ++ opts)
  def run(:muontrap, [exe | args], opts), do: MuonTrap.cmd(exe, args, opts)
  def run(:system_cmd, [exe | args], opts), do: System.cmd(exe, args, opts)

  def run(:erlexec, cmd, opts) do
    case :exec.run(argv(cmd), [:sync, :stdout] ++ opts) do
      {:ok, result} -> {joined(result), 0}
      {:error, [_ | _] = result} -> {joined(result), :exec.status(result[:exit_status] || 0)}
      error -> error
    end
  end

  def run(:port, cmd, opts), do: cmd |> open(opts) |> collect([])

  defp gathered(elements) do
    {output, [last]} = elements |> Enum.to_list() |> Enum.split(-1)
    {IO.iodata_to_binary(output), with({:exit, exit} <- last, do: exit)}
  end

  defp joined(result), do: result |> Keyword.get(:stdout, []) |> IO.iodata_to_binary()

  defp collect(port, chunks) do
    receive do
      {^port, {:data, chunk}} -> collect(port, [chunks, chunk])
      {^port, {:exit_status, status}} -> {IO.iodata_to_binary(chunks), status}
    end
  end

  @doc "Gives each piece of the command's stdout to the function, as it comes."
  def each(lib, cmd, fun, opts \\ [])
  def each(:net_runner, cmd, fun, opts), do: cmd |> NetRunner.stream!(opts) |> Enum.each(fun)
  def each(:exile, cmd, fun, opts), do: cmd |> Exile.stream!(opts) |> Enum.each(fun)

  def each(:ex_cmd, cmd, fun, opts),
    do: cmd |> ExCmd.stream!(opts ++ @ex_cmd) |> Enum.each(fun)

  def each(lib, [exe | args], fun, opts) when lib in [:system_cmd, :muontrap] do
    module = if lib == :muontrap, do: MuonTrap, else: System
    module.cmd(exe, args, [into: %Compare.Each{fun: fun}] ++ opts)
  end

  def each(:erlexec, cmd, fun, opts) do
    {:ok, _pid, os_pid} =
      :exec.run(argv(cmd), [:monitor | Keyword.get(opts, :outputs, [:stdout])])

    each_message(os_pid, fun)
  end

  def each(:port, cmd, fun, opts), do: cmd |> open(opts) |> each_data(fun)

  defp each_message(os_pid, fun) do
    receive do
      {stream, ^os_pid, chunk} when stream in [:stdout, :stderr] ->
        fun.(chunk)
        each_message(os_pid, fun)

      {:DOWN, ^os_pid, :process, _pid, _reason} ->
        :ok
    end
  end

  defp each_data(port, fun) do
    receive do
      {^port, {:data, chunk}} ->
        fun.(chunk)
        each_data(port, fun)

      {^port, {:exit_status, _status}} ->
        :ok
    end
  end

  @doc "Starts the command as the library is meant to, and stays for ever: the caller is its owner."
  def hold(lib, cmd) do
    case lib do
      :system_cmd -> run(lib, cmd)
      :muontrap -> run(lib, cmd)
      :muontrap_cgroup -> run(lib, cmd)
      :port -> open(cmd, [])
      _server -> {:ok, _} = serve(lib, cmd)
    end

    # Until it is killed: that is what the row does to it.
    Process.sleep(:infinity)
  end

  @doc "Starts the command: `{:ok, the Erlang process that the library has for it}`, or nil if it has none."
  def serve(lib, cmd, opts \\ [])

  def serve(:net_runner, [exe | args], opts), do: NetRunner.Process.start(exe, args, opts)

  def serve(:exile, cmd, opts) do
    with {:ok, process} <- Exile.Process.start_link(cmd, opts), do: {:ok, process.pid}
  end

  def serve(:ex_cmd, cmd, opts) do
    with {:ok, process} <- ExCmd.Process.start_link(cmd, opts), do: {:ok, process.pid}
  end

  def serve(:muontrap, [exe | args], opts), do: MuonTrap.Daemon.start_link(exe, args, opts)

  def serve(:muontrap_cgroup, cmd, opts),
    do: serve(:muontrap, cmd, @cgroup ++ opts)

  def serve(:erlexec, cmd, opts) do
    # Without these two it leaves a background job, whatever ends the command.
    group = [:kill_group, group: 0]
    with {:ok, pid, _os_pid} <- :exec.run_link(argv(cmd), group ++ opts), do: {:ok, pid}
  end

  def serve(_built_in, _cmd, _opts), do: nil

  @doc "A port as `System.cmd/3` opens one."
  def open([exe | args], opts) do
    path = if Path.type(exe) == :absolute, do: exe, else: System.find_executable(exe)
    Port.open({:spawn_executable, path}, [:binary, :exit_status, :hide, args: args] ++ opts)
  end

  @doc "erlexec's form of a command, which is looked for in the PATH here."
  def argv([exe | args]),
    do: Enum.map([System.find_executable(exe) || exe | args], &String.to_charlist/1)

  @doc "Commands that leave more and more behind: `{name, command, how many processes}`."
  def families do
    [
      {"a command that does not look at its stdin", ["sleep", "300"], 1},
      {"its background job", ["sh", "-c", "sleep 300 & wait"], 2},
      {"its daemon (setsid)", ["sh", "-c", "setsid sleep 300 </dev/null >/dev/null 2>&1 & wait"],
       2}
    ]
  end

  @doc "Starts each family by the function: `{what that gave, tag, family}`, when all of their processes run."
  def start_families(start) do
    started =
      for {_name, cmd, _count} = family <- families() do
        tag = World.new_tag()
        {start.(World.tagged(cmd, tag)), tag, family}
      end

    for {_given, tag, {_name, _cmd, count}} <- started, do: World.started!(tag, count)
    # Whoever watches has had the time to begin with it, which no library tells.
    Process.sleep(300)
    started
  end

  @doc "What is left of each family, seven seconds from now (erlexec takes five to begin with SIGKILL), as answers."
  def left_of(started, quick?) do
    ms = if quick?, do: 1_500, else: 7_000
    since = World.now()

    started
    |> Enum.map(fn {_given, tag, family} ->
      Task.async(fn -> left_of(tag, family, ms, since) end)
    end)
    |> Task.await_many(:infinity)
  end

  defp left_of(tag, {name, _cmd, count}, ms, since) do
    World.await(ms, fn -> World.living(tag) == [] end)

    case World.living(tag) do
      [] -> {:yes, "#{name}: gone after #{World.now() - since} ms"}
      left -> {:no, "#{name}: #{length(left)} of #{count} processes left after #{ms} ms"}
    end
  end
end
