defmodule Bench.Versions do
  @moduledoc false
  # Of what version they are that are measured. Contestants are asked for theirs (`c:Bench.Contestant.version/0`) and most
  # answer by one of these; the C compiler's is `Bench.Native.compiler/0`.

  @doc "An application on the code path, whether it is started or not."
  @spec library(atom) :: String.t()
  def library(app) do
    # Without this a library that needs no start would have none.
    _ = Application.load(app)

    case Application.spec(app, :vsn) do
      nil -> "#{app} of no known version"
      vsn -> "#{app} #{vsn}"
    end
  end

  @doc "A program in the PATH by the first line of its `--version`; those that have none, as some shells, by their path."
  @spec program(String.t()) :: String.t()
  def program(name) do
    path = System.find_executable(name)

    case System.cmd(path, ["--version"], stderr_to_stdout: true) do
      {said, 0} -> said |> String.split("\n") |> hd()
      {_refused, _status} -> resolve(path)
    end
  end

  defp resolve(path) do
    case File.read_link(path) do
      {:ok, target} -> target |> Path.expand(Path.dirname(path)) |> resolve()
      {:error, _no_link} -> path
    end
  end

  @spec otp :: String.t()
  def otp, do: "OTP #{System.otp_release()} (erts #{:erlang.system_info(:version)})"

  @spec elixir :: String.t()
  def elixir, do: "Elixir #{System.version()}"
end
