defmodule NetRunner.Replay.Recording do
  @moduledoc false
  # What stands in for a command: which calls it is for, how often, and what is played then: a cassette, or a double
  # that somebody wrote. Made by NetRunner.Test, given out by NetRunner.Replay.

  alias NetRunner.{Options, Quote, Signal}
  alias NetRunner.Replay.Cassette

  @enforce_keys [:match, :source, :times, :shown]
  defstruct [:match, :source, :times, :shown, stdin: :read, speed: :instant]

  @type t :: %__MODULE__{
          match: match,
          source: {:file, binary} | {:text, binary} | {:fun, ([binary, ...] -> keyword)},
          times: pos_integer | :any,
          shown: String.t(),
          stdin: :read | :check | :ignore,
          speed: :instant | :real | number
        }

  @type match ::
          binary
          | [binary | Regex.t() | :_ | :*, ...]
          | Regex.t()
          | ([binary, ...] -> as_boolean(term))

  # The text of a double travels in arguments, of which the kernel takes two million bytes with the environment.
  @text_max 1_400_000
  @part 100_000

  ## Making them

  @doc "One that plays a cassette. Raises NetRunner.Test.Error, with file and line, where it is none."
  @spec cassette(binary, Options.t()) :: t
  def cassette(path, options) do
    path = Path.expand(path)
    cassette = load!(path)

    %__MODULE__{
      match: options.match || cassette.cmd,
      source: {:file, path},
      times: options.times,
      stdin: options.stdin,
      speed: options.speed,
      shown: "#{Quote.excerpt(cassette.cmd)} (#{Path.relative_to_cwd(path)})"
    }
  end

  defp load!(path) do
    with {:ok, text} <- File.read(path),
         {:ok, cassette} <- Cassette.parse(text) do
      cassette
    else
      {:error, {line, why}} -> raise NetRunner.Test.Error, "#{path}:#{line}: no cassette: #{why}"
      {:error, posix} -> raise NetRunner.Test.Error, "#{path}: #{:file.format_error(posix)}"
    end
  end

  @doc "A double: what it does is options of `NetRunner.Test.fake/2`, or a function of the command that gives them."
  @spec fake(match, keyword | ([binary, ...] -> keyword), pos_integer | :any) :: t
  def fake(match, does, times) do
    fake = %__MODULE__{match: match, source: nil, times: times, shown: "a fake of #{show(match)}"}
    if is_function(does, 1), do: %{fake | source: {:fun, does}}, else: put_double(fake, does)
  end

  defp put_double(fake, options) do
    {:ok, options} = Options.validate(options, :fake)
    events = events(options)
    exact? = Enum.any?(events, &match?({:stdin, _bytes}, &1))
    {events, _ms} = Enum.flat_map_reduce(events, 0, &at/2)
    cassette = %Cassette{cmd: ["fake"], events: events}
    text = cassette |> Cassette.encode(:short) |> IO.iodata_to_binary()

    %{
      fake
      | source: {:text, text},
        stdin: if(exact?, do: :check, else: :read),
        speed: :real
    }
  end

  defp at({:wait, ms}, now), do: {[], now + ms}
  defp at({stream, ""}, now) when stream in [:stdout, :stderr], do: {[], now}
  defp at(event, now), do: {[{now * 1000, event}], now}

  defp events(%{steps: nil} = options) do
    stdin =
      case options.stdin do
        nil -> []
        :read -> [:stdin_end]
        bytes -> [{:stdin, bytes}, :stdin_end]
      end

    stdin ++
      [
        {:wait, options.delay},
        {:stdout, options.stdout},
        {:stderr, options.stderr},
        ending(options.exit)
      ]
  end

  defp events(%{steps: steps} = options) do
    for(
      {option, default} <- [stdin: nil, delay: 0, stdout: "", stderr: ""],
      options[option] != default,
      do: raise(ArgumentError, "steps: say all that is done: #{inspect(option)} cannot be given")
    )

    steps ++ [ending(options.exit)]
  end

  defp ending(:stays), do: {:stopped, {:signal, Signal.resolve(:sigterm)}}
  defp ending({:exited, code}), do: {:exit, code}
  defp ending({:signaled, number}), do: {:signal, number}

  @doc "The same for an executable of this name, whatever it was recorded by."
  @spec named(t, binary) :: t
  def named(%__MODULE__{match: [_exe | args]} = recording, name),
    do: %{recording | match: [name | args], shown: "#{recording.shown}, called #{name}"}

  def named(%__MODULE__{match: any} = recording, name) when is_binary(any),
    do: %{recording | match: name, shown: "#{recording.shown}, called #{name}"}

  def named(recording, name) do
    match = fn [exe | _args] = cmd -> same_program?(name, exe) and matches!(recording, cmd) end
    %{recording | match: match, shown: "#{recording.shown}, called #{name}"}
  end

  defp matches!(recording, cmd) do
    with {:error, why} <- matches?(recording, cmd), do: raise(NetRunner.Test.Error, why)
  end

  ## Matching

  @doc "Whether it is for this command; or why a function that was to say so does not."
  @spec matches?(t, [binary, ...]) :: boolean | {:error, String.t()}
  def matches?(%__MODULE__{match: match}, cmd) when is_function(match) do
    match.(cmd) not in [false, nil]
  rescue
    # As in program/2.
    error -> {:error, "its match failed: #{Exception.message(error)}"}
  end

  def matches?(%__MODULE__{match: match}, cmd), do: fits?(match, cmd)

  defp fits?(name, [exe | _args]) when is_binary(name), do: same_program?(name, exe)
  defp fits?(%Regex{} = regex, cmd), do: Quote.cmd(cmd) =~ regex

  defp fits?([exe | args], [called | given]),
    do: same_program?(exe, called) and words?(args, given)

  # A bare name is that program, wherever it is called.
  defp same_program?(name, exe) when is_binary(name),
    do: name == exe or (not String.contains?(name, "/") and Path.basename(exe) == name)

  defp same_program?(pattern, exe), do: word?(pattern, exe)

  defp words?([:*], _any), do: true
  defp words?([], []), do: true

  defp words?([pattern | patterns], [arg | args]),
    do: word?(pattern, arg) and words?(patterns, args)

  defp words?(_patterns, _args), do: false

  defp word?(:_, _arg), do: true
  defp word?(%Regex{} = regex, arg), do: arg =~ regex
  defp word?(word, arg), do: word == arg

  defp show(name) when is_binary(name), do: Quote.word(name) <> " ..."
  defp show(%Regex{} = regex), do: inspect(regex)
  defp show(fun) when is_function(fun), do: "whatever #{inspect(fun)} says"

  defp show(list) do
    Enum.map_join(list, " ", fn
      :_ -> "_"
      :* -> "..."
      %Regex{} = regex -> inspect(regex)
      word -> Quote.word(word)
    end)
  end

  ## Playing

  @doc "The program that is executed in the command's place, with its arguments; or why there is none."
  @spec program(t, [binary, ...]) :: {:ok, [binary, ...]} | {:error, String.t()}
  def program(%__MODULE__{source: {:file, path}} = recording, _cmd),
    do: {:ok, [exe() | how(recording)] ++ [path]}

  def program(%__MODULE__{source: {:text, text}}, _cmd) when byte_size(text) > @text_max,
    do: {:error, "it is too long: a fake's output travels in arguments, a cassette's does not"}

  def program(%__MODULE__{source: {:text, text}} = recording, _cmd),
    do: {:ok, [exe() | how(recording)] ++ ["-" | parts(text)]}

  def program(%__MODULE__{source: {:fun, fun}} = recording, cmd) do
    recording |> put_double(fun.(cmd)) |> program(cmd)
  rescue
    # Whoever starts several commands has to stop the others.
    error -> {:error, "its function failed: #{Exception.message(error)}"}
  end

  @doc "The program itself: csrc/replay.c."
  @spec exe :: binary
  def exe, do: Application.app_dir(:net_runner, ["priv", "replay"])

  defp how(recording), do: [to_string(recording.stdin), speed(recording.speed)]

  defp speed(:instant), do: "0"
  defp speed(:real), do: "1000"
  defp speed(factor), do: (factor * 1000) |> round() |> max(1) |> to_string()

  defp parts(<<part::binary-size(@part), rest::binary>>) when rest != "",
    do: [part | parts(rest)]

  defp parts(part), do: [part]
end
