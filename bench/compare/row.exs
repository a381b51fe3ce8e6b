defmodule Compare.Row do
  @moduledoc false
  # Asks, and prints one line for each answer. What a library started is ended by pid, whatever it made of it.

  alias Compare.{Library, World}

  @type verdict :: :yes | :part | :no | :none | :cannot
  @type answer :: {verdict, String.t()}

  @doc "The question, as a heading."
  @callback question :: String.t()

  @doc "Asks a library, with all commands tagged (`World.tagged/2`). `quick?`: what is repeated, less often."
  @callback ask(library :: atom, context :: %{tag: String.t(), quick?: boolean}) ::
              answer | [answer]

  @doc "Whether a cgroup makes a difference: then MuonTrap is asked with one, too."
  @callback cgroup? :: boolean
  @optional_callbacks cgroup?: 0

  @limit_ms 180_000

  @said %{yes: "yes", part: "in part", no: "no", none: "no such call", cannot: "not here"}

  def none(why \\ ""), do: {:none, why}

  @doc "Yes if it is so; in any case what was seen."
  def yes?(so?, seen), do: {if(so?, do: :yes, else: :no), seen}

  def main(args) do
    {opts, names} =
      OptionParser.parse!(args, strict: [only: :string, list: :boolean, quick: :boolean])

    Logger.configure(level: :none)
    rows = load()

    wanted =
      if names == [], do: rows, else: Enum.map(names, &List.keyfind(rows, &1, 0, {&1, nil}))

    only = if opts[:only], do: String.split(opts[:only], ",", trim: true)
    libraries = for id <- Library.loaded(), only == nil or to_string(id) in only, do: id

    cond do
      unknown = List.keyfind(wanted, nil, 1) ->
        IO.puts(:stderr, "no such row: #{elem(unknown, 0)}")
        System.halt(1)

      opts[:list] ->
        for {name, module} <- wanted, do: IO.puts(line([name], [18]) <> module.question())

      true ->
        IO.puts(heading(libraries))
        run(wanted, libraries, opts[:quick] || false, &IO.puts/1)
        # MuonTrap's and ours were made beneath it, and are gone.
        File.rmdir(Path.join("/sys/fs/cgroup", Library.cgroup_base()))
    end
  end

  @doc "All rows: `{name, module}`. The name is that of its file."
  def load do
    for file <- Path.wildcard(Path.join([__DIR__, "rows", "*.exs"])) do
      name = Path.basename(file, ".exs")
      module = Module.concat(Compare.Rows, Macro.camelize(name))
      Code.ensure_loaded?(module) || Code.require_file(file)
      {name, module}
    end
  end

  @doc "Asks: `{row, library, [answer]}`, each printed when it is known."
  def run(rows, libraries, quick?, print) do
    for {name, module} <- rows do
      print.("\n#{name}: #{module.question()}")

      for library <- libraries,
          library != :muontrap_cgroup or function_exported?(module, :cgroup?, 0) do
        answers = ask(module, library, quick?)

        for {verdict, seen} <- answers,
            do: print.(line(["  #{Library.name(library)}", @said[verdict]], [20, 14]) <> seen)

        {name, library, answers}
      end
    end
    |> Enum.concat()
  end

  # In a process of its own, which may be killed; messages that come late die with it.
  defp ask(module, library, quick?) do
    tag = World.new_tag()
    caller = self()

    {pid, monitor} =
      spawn_monitor(fn ->
        :ok = Library.start(library)
        send(caller, {self(), List.wrap(module.ask(library, %{tag: tag, quick?: quick?}))})
      end)

    receive do
      {^pid, answers} -> answers
      {:DOWN, ^monitor, :process, ^pid, reason} -> [{:no, "ended: #{short(reason)}"}]
    after
      @limit_ms ->
        Process.exit(pid, :kill)
        [{:no, "no answer within #{@limit_ms} ms"}]
    end
  after
    World.kill(started())
  end

  # Each tag begins with our pid: also what a row tagged by itself.
  defp started, do: World.living_of(System.pid())

  def short(term), do: term |> inspect(limit: 8, printable_limit: 120) |> String.slice(0, 160)

  defp line(texts, widths) do
    texts
    |> Enum.zip(widths)
    |> Enum.map_join(fn {text, width} -> String.pad_trailing(text, width) end)
  end

  defp heading(libraries) do
    versions = for id <- libraries, do: "#{Library.name(id)} #{Library.version(id)}"
    {system, 0} = System.cmd("uname", ["-srm"])
    {load, _} = File.read!("/proc/loadavg") |> String.split_at(4)

    "#{Enum.join(versions, ", ")}\n#{Date.utc_today()}, #{String.trim(system)}, " <>
      "#{System.schedulers_online()} cores, load #{load}, OTP #{System.otp_release()}"
  end
end
