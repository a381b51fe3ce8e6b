defmodule NetRunner.Environment do
  @moduledoc false
  # The environment of a command: the BEAM's of the moment of its start, changed by the option `env:` (as
  # NetRunner.Options.Type leaves it). Later pairs win over earlier ones.
  #
  # Most commands get the BEAM's as it is. That way is short: some dozens of variables, converted one by one, took 47 us, and
  # 75 with cold caches; in one piece 17.

  @raw {__MODULE__, :raw}

  @type option :: [{binary, binary | nil}] | {:replace, [{binary, binary | nil}]}

  @typedoc "How many variables there are, and all of them, each as `NAME=value` and a NUL."
  @type block :: {non_neg_integer, iodata}

  @doc "What execve gets."
  @spec block(option) :: block
  def block([]) do
    beam = :os.env()
    whole = for {name, value} <- beam, do: [name, ?=, value, 0]

    case ascii(whole) do
      {:ok, bytes} -> {length(beam), bytes}
      :error -> beam |> one_by_one() |> join()
    end
  end

  def block({:replace, pairs}), do: %{} |> change(pairs) |> join()
  def block(pairs), do: :os.env() |> one_by_one() |> change(pairs) |> join()

  @doc "The value of PATH in it, nil without one."
  @spec path(option) :: binary | nil
  def path({:replace, pairs}), do: path_in(pairs, fn -> nil end)
  def path(pairs), do: path_in(pairs, &beam_path/0)

  defp path_in(pairs, otherwise) do
    case List.keyfind(Enum.reverse(pairs), "PATH", 0) do
      {"PATH", value} -> value
      nil -> otherwise.()
    end
  end

  defp beam_path do
    with path when path != false <- :os.getenv(~c"PATH"),
         do: value("PATH", path, :file.native_name_encoding()),
         else: (false -> nil)
  end

  defp join(env) do
    {map_size(env), for({name, value} <- env, do: [name, ?=, value, 0])}
  end

  defp change(env, pairs) do
    Enum.reduce(pairs, env, fn
      {name, nil}, env -> Map.delete(env, name)
      {name, value}, env -> Map.put(env, name, value)
    end)
  end

  # The same in every encoding.
  defp ascii(chars) do
    bytes = :unicode.characters_to_binary(chars)

    if is_binary(bytes) and byte_size(bytes) == :erlang.iolist_size(chars),
      do: {:ok, bytes},
      else: :error
  rescue
    # A character that is no byte.
    ArgumentError -> :error
  end

  defp one_by_one(beam) do
    encoding = :file.native_name_encoding()

    for {name, chars} <- beam, name = bytes(name, encoding), into: %{} do
      {name, value(name, chars, encoding)}
    end
  end

  # OTP gives a value that is no UTF-8 as if it were Latin-1, so that it could as well be the text of those characters.
  defp value(name, chars, encoding) do
    case :persistent_term.get(@raw, %{}) do
      %{^name => {^chars, value}} -> value
      _text -> bytes(chars, encoding)
    end
  end

  @doc """
  Remembers the values that are no UTF-8 and what OTP makes of them. They were there when the BEAM was started: it
  cannot set any. At the application's start.
  """
  @spec remember_raw :: :ok
  def remember_raw do
    with :utf8 <- :file.native_name_encoding(),
         {:ok, environ} <- File.read("/proc/self/environ") do
      raw =
        for variable <- String.split(environ, <<0>>),
            [name, value] <- [String.split(variable, "=", parts: 2)],
            not String.valid?(value),
            into: %{},
            do: {name, {:erlang.binary_to_list(value), value}}

      :persistent_term.put(@raw, raw)
    end

    :ok
  end

  # OTP gives characters, or the raw bytes where they are not valid in the node's encoding.
  @doc "What OTP gives of a name of the system's, as bytes."
  @spec bytes(binary | charlist, :utf8 | :latin1) :: binary
  def bytes(raw, _encoding) when is_binary(raw), do: raw
  def bytes(chars, :latin1), do: :erlang.list_to_binary(chars)

  def bytes(chars, :utf8) do
    case :unicode.characters_to_binary(chars) do
      binary when is_binary(binary) -> binary
      _not_unicode -> :erlang.list_to_binary(chars)
    end
  end
end
