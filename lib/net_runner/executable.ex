defmodule NetRunner.Executable do
  @moduledoc false
  # From what a user calls a command to what execve gets: checks argv, and finds the
  # executable in the PATH of the command's own environment. Everything here happens in the BEAM, before any request.

  alias NetRunner.{Environment, Nif}

  # execvp's own default when PATH is unset has the current directory in old C libraries; ours never.
  @default_path "/usr/local/bin:/usr/bin:/bin"

  # One argument string with its NUL: MAX_ARG_STRLEN, 32 pages (execve(2)).
  @arg_max 131_072

  @doc "`{:ok, [exe | args]}`, or what is wrong with it."
  @spec check_cmd(term) ::
          {:ok, [binary, ...]} | {:error, {:invalid_cmd | :invalid_args, String.t()}}
  def check_cmd([exe | args]) when is_binary(exe) do
    cond do
      not is_list(args) or List.improper?(args) ->
        {:error, {:invalid_cmd, "must be a proper list"}}

      exe == "" ->
        {:error, {:invalid_cmd, "the executable's name is empty"}}

      String.contains?(exe, <<0>>) ->
        {:error, {:invalid_cmd, "NUL in the executable's name"}}

      true ->
        check_args([exe | args], args, 1)
    end
  end

  # It is several processes of the system.
  def check_cmd([%NetRunner.Pipeline{} = pipeline | _args]), do: check_cmd(pipeline)

  def check_cmd(%NetRunner.Pipeline{}) do
    {:error,
     {:invalid_cmd, "a pipeline can only be run by run/2, exec/2, stream!/2 and their kin"}}
  end

  def check_cmd(other) do
    {:error, {:invalid_cmd, "expected [executable | arguments] of binaries, got#{got(other)}"}}
  end

  # Options may have been meant, and there may be an environment in them: what they are is not shown.
  defp got({_cmd, _opts}), do: " a tuple: options are the call's, or a NetRunner.Command's"
  defp got([{_name, _value} | _rest]), do: " options"
  defp got([[_ | _] | _rest]), do: " a list in the executable's place"
  defp got(other), do: ": " <> inspect(other, limit: 5, printable_limit: 100)

  defp check_args(cmd, [], _index), do: {:ok, cmd}

  defp check_args(cmd, [arg | rest], index) do
    case check_arg(arg) do
      :ok -> check_args(cmd, rest, index + 1)
      {:error, what} -> {:error, {:invalid_args, "argument #{index} #{what}"}}
    end
  end

  @doc "`:ok`, or what is wrong with one argument, to be said after its name."
  @spec check_arg(term) :: :ok | {:error, String.t()}
  def check_arg(arg) when is_binary(arg) do
    cond do
      String.contains?(arg, <<0>>) ->
        {:error, "contains a NUL byte"}

      byte_size(arg) >= @arg_max ->
        {:error, "has #{byte_size(arg)} bytes, the kernel takes #{@arg_max - 1}"}

      true ->
        :ok
    end
  end

  # Options in the place of arguments, which may be an environment: its values are nobody's business.
  def check_arg({name, _value}) when is_atom(name),
    do: {:error, "is not a binary but the option #{inspect(name)}, and options come last"}

  def check_arg(arg),
    do: {:error, "is not a binary: #{inspect(arg, limit: 5, printable_limit: 100)}"}

  @doc """
  The absolute path that the child executes. Only a bare name is looked for here; what a path is worth,
  execve says.
  """
  @spec resolve(binary, path :: binary | nil) :: {:ok, binary} | {:error, atom}
  def resolve(exe, path) do
    cond do
      String.starts_with?(exe, "/") -> {:ok, exe}
      String.contains?(exe, "/") -> resolve_relative(exe)
      true -> Nif.which(exe, path || @default_path)
    end
  end

  @doc """
  What is executed. A name is the command's own affair (`resolve/2`), but for who serves another library's users
  (NetRunner.Compat): there it is looked for in the BEAM's PATH, whatever `env:` says, and what was found is what the
  command is told its name is. Not before it is known whether something else stands in for it.
  """
  @spec found([binary, ...], map) :: {:ok, [binary, ...]} | {:error, :enoent}
  def found([exe | args], %{look_in: :beam}) do
    case if(Path.type(exe) == :absolute, do: exe, else: System.find_executable(exe)) do
      nil -> {:error, :enoent}
      path -> {:ok, [path | args]}
    end
  end

  def found(cmd, _options), do: {:ok, cmd}

  @doc "As `resolve/2`, and makes sure that it can be executed, as far as that can be seen."
  @spec check(binary, path :: binary | nil) :: {:ok, binary} | {:error, atom}
  def check(exe, path) do
    with {:ok, absolute} <- resolve(exe, path), do: Nif.which(absolute, "")
  end

  defp resolve_relative(exe) do
    # The directory may have been removed, or have a name that is no text.
    case :file.get_cwd() do
      {:ok, cwd} -> {:ok, Path.join(Environment.bytes(cwd, :file.native_name_encoding()), exe)}
      {:error, {:no_translation, cwd}} -> {:ok, Path.join(cwd, exe)}
      {:error, reason} -> {:error, reason}
    end
  end
end
