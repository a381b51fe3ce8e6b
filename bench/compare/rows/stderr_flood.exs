defmodule Compare.Rows.StderrFlood do
  @moduledoc false
  @behaviour Compare.Row
  alias Compare.Rows.BackPressure

  def question,
    do:
      "Is stderr bounded: does a reader of it that sleeps 2 s stop the command that writes there?"

  def ask(:net_runner, context), do: flood(:net_runner, [stderr: :tagged], context)
  def ask(:exile, context), do: flood(:exile, [stderr: :consume], context)
  def ask(:muontrap, context), do: flood(:muontrap, [capture_stderr_only: true], context)
  def ask(:erlexec, context), do: flood(:erlexec, [outputs: [:stderr]], context)
  def ask(:ex_cmd, context), do: flood(:ex_cmd, [stderr: :redirect_to_stdout], context)
  def ask(:system_cmd, context), do: flood(:system_cmd, [stderr_to_stdout: true], context)
  def ask(:port, context), do: flood(:port, [:stderr_to_stdout], context)

  defp flood(lib, opts, context), do: BackPressure.flood(lib, opts, "/dev/stderr", context)
end
