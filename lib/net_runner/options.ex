defmodule NetRunner.Options do
  @moduledoc false
  # Options are checked here, against the one schema of them (NetRunner.Options.Schema), by their types
  # (NetRunner.Options.Type).
  #
  # An unknown option or a value of the wrong type raises ArgumentError naming the key. A value of
  # the right type that cannot be (a NUL in a path, a bad environment key) gives
  # {:error, {:invalid, option, message}}.

  import NetRunner.Tagged, only: [is_tagged: 1]

  alias NetRunner.Frames
  alias NetRunner.Options.{Schema, Type}

  @schema Schema.all()
  @to_the_end Schema.to_the_end()
  @not_of_commands Schema.not_of_commands()
  @type call ::
          :run
          | :run!
          | :exec
          | :exec!
          | :stream
          | :process
          | :daemon
          | :gate
          | :top
          | :record
          | :cassette
          | :fake
          | :redirect
          | :replays

  @judging for {:ok, calls, _, _, _} <- @schema, call <- calls, do: call

  @aliases %{cwd: :cd}

  @type t :: map

  @doc "The schema as markdown, for the options of one call."
  @spec docs(call) :: String.t()
  def docs(call) do
    Enum.map_join(@schema, "\n", fn {name, calls, _default, _type, doc} ->
      if call in calls, do: "  * `:#{name}` - #{doc}", else: ""
    end)
    |> String.replace(~r/\n+/, "\n")
  end

  @doc "Whether any call that takes a command has this option."
  @spec known?(atom) :: boolean
  def known?(name) do
    name = Map.get(@aliases, name, name)

    Enum.any?(@schema, fn {known, calls, _, _, _} ->
      known == name and calls -- @not_of_commands != []
    end)
  end

  @doc "The options of a call, by their first names (`:cd`, not `:cwd`)."
  @spec names(call) :: [atom]
  def names(call), do: for({name, calls, _, _, _} <- @schema, call in calls, do: name)

  @doc "A keyword list with first names alone, its values as they are."
  @spec named(keyword) :: keyword
  def named(given), do: for({name, value} <- given, do: {Map.get(@aliases, name, name), value})

  @doc """
  Whether a command's own option means nothing to a call: `ok:`, which says what is a failure, to those that tell
  the exit code and do not raise for it. Any other that a call lacks would be missed.
  """
  @spec ignored?(atom, call) :: boolean
  def ignored?(name, call), do: name == :ok and call not in @judging

  @doc """
  `{:ok, options}` with every option of the call present; see the module's first lines. What is raised for a wrong type
  begins with `whose`.
  """
  @spec validate(keyword, call, String.t()) ::
          {:ok, t} | {:error, {:invalid, atom, String.t()}}
  def validate(given, call, whose \\ "") do
    # What else it is, is not shown: there may be an environment in it.
    unless Keyword.keyword?(given), do: raise(ArgumentError, "options must be a keyword list")

    Enum.reduce_while(given, {:ok, defaults(call)}, fn {given_name, value}, {:ok, options} ->
      name = Map.get(@aliases, given_name, given_name)

      case Type.check(type!(name, given_name, call), value) do
        :ok -> {:cont, {:ok, Map.put(options, name, value)}}
        {:ok, value} -> {:cont, {:ok, Map.put(options, name, value)}}
        {:invalid, message} -> {:halt, {:error, {:invalid, given_name, message}}}
        {:wrong, expected} -> wrong!(given_name, expected, value, whose)
      end
    end)
    |> cross_check(call)
  end

  @doc "The limits of a cgroup alone, checked as the option `cgroup:`."
  @spec cgroup_limits(term) :: {:ok, [{atom, term}]} | {:error, {:invalid, :cgroup, String.t()}}
  def cgroup_limits(given) do
    case NetRunner.Cgroup.check_limits(given) do
      {:ok, limits} -> {:ok, limits}
      {:invalid, message} -> {:error, {:invalid, :cgroup, message}}
      {:wrong, expected} -> wrong!(:cgroup, expected, given)
    end
  end

  # For who sees only later that both were given.
  @doc "What is wrong with `idle_timeout:` where no output comes here."
  @spec unseen_idle :: String.t()
  def unseen_idle, do: "nobody sees whether an output that goes elsewhere is idle"

  @doc "What is wrong with `packet:` and a stderr that is merged."
  @spec merged_frames :: String.t()
  def merged_frames, do: "merged into stdout it would be in the midst of frames"

  @doc "Those of one call's validated options that another call has, too."
  @spec take(t, :run | :stream | :process | :daemon) :: t
  def take(options, call), do: Map.take(options, Map.keys(defaults(call)))

  defp cross_check({:ok, %{stderr: :capture}}, :stream) do
    {:error,
     {:invalid, :stderr,
      "a stream cannot give a captured stderr: use :tagged, :consume, :merge or :discard"}}
  end

  defp cross_check({:ok, %{stdout: {:tee, _file}, pty: pty}}, _call) when pty != false,
    do: {:error, {:invalid, :stdout, "a terminal's output cannot go through a tee"}}

  # A terminal's stderr goes to the terminal, unless it is kept apart.
  defp cross_check({:ok, %{idle_timeout: ms, stdout: elsewhere, stderr: stderr, pty: pty}}, _call)
       when ms != :infinity and elsewhere != :pipe and
              not (is_tuple(elsewhere) and elem(elsewhere, 0) == :tee) and
              stderr != :capture and not is_tagged(stderr) and
              (stderr != :consume or pty != false) do
    {:error, {:invalid, :idle_timeout, unseen_idle()}}
  end

  defp cross_check({:ok, %{lines: nil, max_line_length: {_, _}}}, _call),
    do: {:error, {:invalid, :max_line_length, "there are no lines without lines:"}}

  # A binary is made of bytes.
  defp cross_check({:ok, %{stderr: stderr, into: into}}, _call)
       when is_tagged(stderr) and into in ["", :iodata],
       do:
         {:error,
          {:invalid, :into, "tagged elements are no bytes: use [], or another collectable"}}

  defp cross_check({:ok, %{packet: header, lines: separator}}, _call)
       when header != nil and separator != nil,
       do: {:error, {:invalid, :packet, "an output is frames or lines, not both"}}

  defp cross_check({:ok, %{packet: header, pty: pty}}, _call) when header != nil and pty != false,
    do: {:error, {:invalid, :packet, "a terminal is for text: it changes bytes on their way"}}

  defp cross_check({:ok, %{packet: header, stderr: :merge}}, _call) when header != nil,
    do: {:error, {:invalid, :stderr, merged_frames()}}

  defp cross_check({:ok, %{packet: header, overflow: :tail}}, _call) when header != nil,
    do: {:error, {:invalid, :overflow, "the last bytes of an output do not begin with a frame"}}

  defp cross_check({:ok, %{packet: header, input: input} = options}, _call)
       when header != nil and is_binary(input) do
    if byte_size(input) > Frames.most(header),
      do: {:error, {:invalid, :input, Frames.too_large(header, byte_size(input))}},
      else: {:ok, options}
  end

  defp cross_check({:ok, %{on_output: on_output, log: [_ | _]}}, :daemon)
       when on_output != :log,
       do: {:error, {:invalid, :log, "is for on_output: :log only"}}

  defp cross_check({:ok, %{ready: {:output, _text}, stdout: stdout, stderr: stderr}}, :daemon)
       when stdout != :pipe and stderr not in [:pipe, :capture],
       do: {:error, {:invalid, :ready, "{:output, _} needs an output: stdout: or stderr: :pipe"}}

  defp cross_check(result, _call), do: result

  # What the schema says of an option may differ between calls.
  for_call = fn
    {:per_call, special, general}, call -> Map.get(special, call, general)
    same_for_all, _call -> same_for_all
  end

  for call <- @schema |> Enum.flat_map(&elem(&1, 1)) |> Enum.uniq() do
    defaults =
      for {name, calls, default, _, _} <- @schema,
          call in calls,
          do: {name, for_call.(default, call)}

    {whose, fixed} = Enum.split_with(defaults, &match?({_name, {:caller}}, &1))

    defp defaults(unquote(call)) do
      callers = Map.new(unquote(Keyword.keys(whose)), &{&1, self()})
      Map.merge(unquote(Macro.escape(Map.new(fixed))), callers)
    end
  end

  for {name, calls, _default, type, _doc} <- @schema, call <- calls do
    defp type!(unquote(name), _given, unquote(call)),
      do: unquote(Macro.escape(for_call.(type, call)))
  end

  defp type!(_name, given, call) do
    raise ArgumentError, "unknown option #{inspect(given)} for #{call_name(call)}"
  end

  @doc "What a call is called, for messages."
  @spec call_name(call) :: String.t()
  def call_name(call) when call in @to_the_end, do: "NetRunner.#{call}/2"
  def call_name(:stream), do: "NetRunner.stream/2"
  def call_name(:process), do: "NetRunner.Process.start/3"
  def call_name(:daemon), do: "NetRunner.Daemon.start_link/1"
  def call_name(:gate), do: "NetRunner.Gate.start_link/1"
  def call_name(:top), do: "NetRunner.top/1"
  def call_name(:record), do: "NetRunner.Test.record/3"
  def call_name(:cassette), do: "NetRunner.Test.cassette/2"
  def call_name(:fake), do: "NetRunner.Test.fake/3"
  def call_name(:redirect), do: "NetRunner.Test.with_cassettes/3"
  def call_name(:replays), do: "NetRunner.Test.start/1"

  @spec wrong!(atom, String.t(), term, String.t()) :: no_return
  defp wrong!(name, expected, value, whose \\ "") do
    raise ArgumentError,
          "#{whose}invalid value for #{inspect(name)}: expected #{expected}, got: #{shown(name, value)}"
  end

  @doc "What may be shown of a variable's name: nothing after a `=`, which would be a value."
  @spec shown_name(term) :: term
  def shown_name(name) when is_binary(name), do: name |> String.split(["=", <<0>>]) |> hd()

  def shown_name(name) when is_atom(name) do
    text = Atom.to_string(name)
    if shown_name(text) == text, do: name, else: shown_name(text)
  end

  def shown_name(name), do: name

  # Secrets travel in environments: names may be shown, values never.
  defp shown(:env, {:replace, env}), do: "{:replace, #{shown(:env, env)}}"

  defp shown(:env, env) when is_map(env) and not is_struct(env), do: shown(:env, Map.to_list(env))

  defp shown(:env, env) when is_list(env) do
    if List.improper?(env),
      do: "an improper list",
      else:
        Enum.map_join(env, ", ", fn
          {name, _value} -> "#{inspect(shown_name(name), printable_limit: 100)} => ..."
          _no_pair -> "something that is no pair"
        end)
  end

  defp shown(:env, _value), do: "something else"
  defp shown(_name, value), do: inspect(value, limit: 10, printable_limit: 100)
end
