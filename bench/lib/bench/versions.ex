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

  @spec otp :: String.t()
  def otp, do: "OTP #{System.otp_release()} (erts #{:erlang.system_info(:version)})"

  @spec elixir :: String.t()
  def elixir, do: "Elixir #{System.version()}"
end
