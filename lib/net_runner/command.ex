defmodule NetRunner.Command do
  @moduledoc """
  A command as a value: what is executed, its arguments, and options that belong to it. It is made once,
  passed around, and given wherever a list `[exe | args]` is taken. Nothing runs until then.

      iex> sort = NetRunner.Command.new("sort", ["-u"], env: [LC_ALL: "C"])
      iex> NetRunner.run(sort, input: "b\\na\\nb\\n")
      {"a\\nb\\n", 0}
      iex> sort |> NetRunner.Command.append(["-r"]) |> NetRunner.run(input: "b\\na\\nb\\n")
      {"b\\na\\n", 0}

  ## Options

  A command may carry any option of the calls that take commands. Options given to the call win, each as a
  whole: an `env:` of the call replaces that of the command (in a pipeline it is the other way round: `NetRunner.Pipeline`). An option that the call does not have raises there, as if it
  had been given to the call: a command with a `timeout:` cannot be made a stream, which would run without one, and
  nobody would know. What is to be used in both ways is made without it, and gets it from the call, or from
  `put_opts/2`. Only a command's `ok:`, its exit codes that are no failure, is ignored by those that tell how it ended and do
  not raise for it: `run/2`, `exec/2`, `NetRunner.Process` and `NetRunner.Daemon`:

      iex> grep = NetRunner.Command.new("grep", ["x"], ok: [0, 1], input: "abc")
      iex> {NetRunner.run!(grep), NetRunner.run(grep)}
      {{"", 1}, {"", 1}}

  ## Templates

  `defcommand/3` makes functions that make commands:

      defmodule Tools do
        use NetRunner.Command

        defcommand :gzip, "gzip", args: ["-c", :file]
        defcommand :convert, "ffmpeg", args: ["-i", :from, :filters, :to], stderr: :discard
      end

      NetRunner.stream!(Tools.gzip("huge.log"))

  ## As text

  `to_string/1` gives the line that would start it in a shell, `inspect/1` shows its options as well,
  but neither what it is fed nor the values of its environment: only their names.

      iex> command = NetRunner.Command.new("grep", ["it's"], env: [TOKEN: "secret"], kill_timeout: 100)
      iex> to_string(command)
      ~S(grep 'it'\\''s')
      iex> inspect(command)
      ~S(#NetRunner.Command<grep 'it'\\''s', env: [TOKEN], kill_timeout: 100>)
  """

  alias NetRunner.{Executable, Options, Quote}

  @enforce_keys [:exe]
  defstruct [:exe, args: [], opts: []]

  @type t :: %__MODULE__{exe: binary, args: [binary], opts: keyword}

  @doc """
  Makes a command. Raises `ArgumentError` for an executable or arguments that are no binaries or contain a
  NUL byte, and for an option that no call knows. Values of options are looked at by the call.

      iex> NetRunner.Command.new("ls", ["-l", "a b"]).args
      ["-l", "a b"]
      iex> NetRunner.Command.new("ls", [:all])
      ** (ArgumentError) invalid arguments: argument 1 is not a binary: :all
  """
  @spec new(binary, [binary], keyword) :: t
  def new(exe, args \\ [], opts \\ []) do
    check_cmd!([exe | args])
    check_opts!(opts)
    %__MODULE__{exe: exe, args: args, opts: opts}
  end

  @doc """
  Puts more arguments behind those that are there.

      iex> NetRunner.Command.new("ls", ["-l"]) |> NetRunner.Command.append(["/tmp"]) |> to_string()
      "ls -l /tmp"
  """
  @spec append(t, [binary]) :: t
  def append(%__MODULE__{} = command, args) do
    check_cmd!([command.exe | args])
    %{command | args: command.args ++ args}
  end

  @doc """
  Sets options; those that are there already are replaced.

      iex> command = NetRunner.Command.new("ls", [], cd: "/tmp", kill_timeout: 100)
      iex> NetRunner.Command.put_opts(command, cd: "/").opts
      [kill_timeout: 100, cd: "/"]
  """
  @spec put_opts(t, keyword) :: t
  def put_opts(%__MODULE__{} = command, opts) do
    check_opts!(opts)
    %{command | opts: Keyword.merge(command.opts, opts)}
  end

  @doc false
  # What every call does first: `{[exe | args], opts}` from a list or a command, `more` arguments behind
  # it. Nothing is checked here: Executable.check_cmd and Options.validate say what is wrong with either,
  # also with a struct that was not made by new/3.
  @spec resolve(term, term, term) :: {term, term}
  def resolve(cmd, more \\ [], opts)

  def resolve(%__MODULE__{} = command, more, opts),
    do: {join([command.exe | command.args], more), merge(command.opts, opts)}

  def resolve(cmd, more, opts), do: {join(cmd, more), opts}

  @doc false
  # A command and its options for whoever shows them as they are, as a supervisor's reports do with the
  # arguments of a start: what may be secret goes into a struct, whose inspection hides it.
  @spec conceal(nonempty_maybe_improper_list, keyword) :: {list | t, keyword}
  def conceal([exe | args] = cmd, opts) do
    {secret, open} = Keyword.split(opts, [:env, :input])

    # Options in the place of arguments are an error, and show nothing either.
    if secret == [] and match?({:ok, _}, Executable.check_cmd(cmd)),
      do: {cmd, open},
      else: {%__MODULE__{exe: exe, args: args, opts: secret}, open}
  end

  @doc false
  # Without those of its options that mean nothing to this call.
  @spec for_call(term, Options.call()) :: term
  def for_call(%__MODULE__{opts: opts} = command, call) do
    if Keyword.keyword?(opts),
      do: %{
        command
        | opts: for({name, _} = opt <- opts, not Options.ignored?(name, call), do: opt)
      },
      else: command
  end

  def for_call(cmd, _call), do: cmd

  defp join(cmd, []), do: cmd
  defp join(cmd, more), do: if(proper?(cmd), do: cmd ++ more, else: cmd)

  # The later of options that mean the same wins (`cd:`, `cwd:`), so the call's stand behind.
  defp merge(own, given) do
    cond do
      not Keyword.keyword?(own) -> own
      not Keyword.keyword?(given) -> given
      true -> Keyword.merge(own, given)
    end
  end

  defp proper?(list), do: is_list(list) and not List.improper?(list)

  defp check_cmd!(cmd) do
    with {:error, reason} <- Executable.check_cmd(cmd),
         do: raise(ArgumentError, Exception.message(%NetRunner.Error{reason: reason}))
  end

  # Never shown: there may be an environment in it.
  defp check_opts!(opts) do
    unless Keyword.keyword?(opts), do: raise(ArgumentError, "options must be a keyword list")

    for {name, _value} <- opts, not Options.known?(name) do
      raise ArgumentError, "unknown option #{inspect(name)}: no call that takes a command has it"
    end
  end

  ## Templates

  @doc false
  defmacro __using__(_opts) do
    quote do
      import NetRunner.Command, only: [defcommand: 2, defcommand: 3]
    end
  end

  @doc """
  Defines a function that makes a command, with a `@doc` (unless you write one) and a `@spec`.

  <!-- only compiled: it stands in a module that uses NetRunner.Command -->

      defcommand :gzip, "gzip", args: ["-c", :file], kill_timeout: 100

  defines `gzip(file, opts \\\\ [])`. In `args:`, binaries stand for themselves and atoms for parameters of
  the function, in the order of their first appearance; the same atom twice is the same value twice. A
  parameter is given a binary, which is one argument whatever is in it, or a list of binaries, which
  are as many arguments (none, if it is empty). Anything else raises `ArgumentError` naming the parameter.

  There is no shell that could misread a value, but the program may: a file called `-rf` looks like
  switches to it. Most programs take what follows `--` for what it is: `args: ["--", :file]`.

  What else is given are options. Their values are evaluated when the function is called, not when it is
  compiled, so `env: [TOKEN: System.fetch_env!("TOKEN")]` does what it seems to do. The last argument of the
  function, `opts`, are options that win over them.
  """
  defmacro defcommand(name, exe, spec \\ []) do
    %{file: file, line: line} = __CALLER__

    unless Keyword.keyword?(spec) do
      bad!(name, "args: and options must be written out as a keyword list", file, line)
    end

    {args, opts} = Keyword.pop(spec, :args, [])

    for {option, _value} <- opts, not Options.known?(option) do
      bad!(name, "unknown option #{inspect(option)}", file, line)
    end

    # The options' values are code, put into the function as it stands.
    quote bind_quoted: [
            name: name,
            exe: exe,
            args: args,
            opts: Macro.escape(opts),
            names: Keyword.keys(opts),
            file: file,
            line: line
          ] do
      parameters = NetRunner.Command.__parameters__(name, exe, args, file, line)
      variables = Enum.map(parameters, &Macro.var(&1, NetRunner.Command))
      types = Enum.map(parameters, fn _parameter -> quote(do: binary | [binary]) end)

      unless Module.get_attribute(__MODULE__, :doc),
        do: @doc(NetRunner.Command.__doc__(exe, args, parameters, names))

      @spec unquote(name)(unquote_splicing(types)) :: NetRunner.Command.t()
      @spec unquote(name)(unquote_splicing(types), keyword) :: NetRunner.Command.t()
      def unquote(name)(unquote_splicing(variables), opts \\ []) do
        NetRunner.Command.__build__(
          unquote(name),
          unquote(exe),
          unquote(args),
          unquote(Enum.zip(parameters, variables)),
          unquote(opts),
          opts
        )
      end
    end
  end

  @doc false
  # The parameters of a template, all of which is checked here, while its module is compiled.
  def __parameters__(name, exe, args, file, line) do
    unless variable?(name),
      do: bad!(name, "the name must be an atom that can name a function", file, line)

    unless proper?(args),
      do: bad!(name, "args: must be a list of binaries and atoms", file, line)

    unless is_binary(exe),
      do: bad!(name, "the executable must be a binary, got: #{inspect(exe)}", file, line)

    with {:error, {:invalid_cmd, what}} <- Executable.check_cmd([exe]),
         do: bad!(name, what, file, line)

    for {arg, index} <- Enum.with_index(args, 1), what = wrong(arg) do
      bad!(name, "args: element #{index} #{what}", file, line)
    end

    args |> Enum.filter(&is_atom/1) |> Enum.uniq()
  end

  defp wrong(:opts), do: "cannot be :opts, that is the function's last argument"

  defp wrong(arg) when is_atom(arg) do
    unless variable?(arg), do: "cannot be a parameter: #{inspect(arg)} is no name of a variable"
  end

  defp wrong(arg) when is_binary(arg) do
    with {:error, what} <- Executable.check_arg(arg), do: what, else: (_ok -> nil)
  end

  defp wrong(arg), do: "is neither a binary nor an atom: #{inspect(arg, limit: 5)}"

  # What the compiler reads as a variable, and does not warn about.
  defp variable?(name) when is_atom(name) do
    text = Atom.to_string(name)

    not String.starts_with?(text, "_") and
      match?({:ok, {^name, _line, nil}}, Code.string_to_quoted(text))
  end

  defp variable?(_other), do: false

  @spec bad!(term, String.t(), String.t(), non_neg_integer) :: no_return
  defp bad!(name, what, file, line) do
    raise CompileError,
      file: file,
      line: line,
      description: "defcommand #{Macro.to_string(name)}: #{what}"
  end

  @doc false
  def __doc__(exe, args, parameters, options) do
    line = Enum.map_join([exe | args], " ", &if(is_atom(&1), do: "<#{&1}>", else: Quote.word(&1)))

    """
    Makes the command

        #{line}

    as a `NetRunner.Command`.#{given(parameters)} `opts` are options of the call that it is given to#{set(options)}.
    """
  end

  defp given([]), do: ""

  defp given(parameters) do
    " #{Enum.map_join(parameters, ", ", &"`#{&1}`")}: a binary, or a list of binaries for as many arguments."
  end

  defp set([]), do: ""

  defp set(options),
    do: "; they win over those set here: #{Enum.map_join(options, ", ", &"`#{inspect(&1)}`")}"

  @doc false
  def __build__(name, exe, args, values, opts, given) do
    args =
      Enum.flat_map(args, fn
        arg when is_binary(arg) -> [arg]
        parameter -> spliced(values[parameter], parameter, "#{name}/#{length(values) + 1}")
      end)

    exe |> new(args, opts) |> put_opts(given)
  end

  defp spliced(value, parameter, function) do
    unless is_binary(value) or proper?(value) do
      raise ArgumentError,
            "#{parameter} of #{function} must be a binary or a list of binaries, got: " <>
              inspect(value, limit: 5, printable_limit: 100)
    end

    for value <- List.wrap(value), {:error, what} <- [Executable.check_arg(value)] do
      raise ArgumentError, "#{parameter} of #{function} #{what}"
    end

    List.wrap(value)
  end
end

defimpl String.Chars, for: NetRunner.Command do
  def to_string(command), do: NetRunner.Quote.cmd([command.exe | command.args])
end

defimpl Inspect, for: NetRunner.Command do
  # What somebody passed in secret must not come up in a log: environments show their names, input shows
  # that there is some. An error raised here would make Inspect show the bare struct.
  import Inspect.Algebra

  def inspect(command, opts) do
    shown = [argv(command, opts.limit) | options(command.opts)]
    container_doc("#NetRunner.Command<", shown, ">", opts, &element/2)
  end

  defp argv(%{exe: exe, args: args}, limit) do
    words = [exe | args]

    cond do
      List.improper?(words) or not Enum.all?(words, &is_binary/1) -> "invalid"
      limit == :infinity or length(words) <= limit -> NetRunner.Quote.cmd(words)
      true -> NetRunner.Quote.cmd(Enum.take(words, limit)) <> " ..."
    end
  end

  defp options(opts), do: if(Keyword.keyword?(opts), do: opts, else: ["invalid options"])

  defp element(text, _opts) when is_binary(text), do: text
  defp element({:env, env}, _opts), do: "env: " <> env(env)
  defp element({:input, input}, opts), do: concat("input: ", input(input, opts))
  defp element({name, value}, opts), do: concat("#{name}: ", to_doc(value, opts))

  defp input(input, opts) when is_atom(input), do: to_doc(input, opts)
  defp input({:file, path}, opts), do: to_doc({:file, path}, opts)
  defp input(_data, _opts), do: "..."

  defp env({:replace, env}), do: "{:replace, #{env(env)}}"
  defp env(%{} = env) when not is_struct(env), do: env |> Map.to_list() |> env()

  defp env(env) do
    if is_list(env) and not List.improper?(env),
      do: "[#{Enum.map_join(env, ", ", &name/1)}]",
      else: "..."
  end

  defp name({name, value}) when is_atom(name), do: name({Atom.to_string(name), value})

  defp name({name, _value}) when is_binary(name),
    do: name |> NetRunner.Options.shown_name() |> NetRunner.Quote.word()

  defp name(_no_pair), do: "..."
end
