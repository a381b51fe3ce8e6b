defmodule NetRunner.Log do
  @moduledoc false
  # The metadata of what NetRunner itself writes into Logger (documented in NetRunner): who logs takes it
  # from here, so that a filter or a formatter finds the same fields in every line.

  @doc "Of a line, beside what its process has of its own."
  @spec metadata(keyword) :: keyword
  def metadata(more \\ []), do: [domain: [:net_runner]] ++ more

  @doc """
  Makes the calling process, a command's server, one whose lines belong to that command. The domain cannot
  be a process's: Elixir's own would win.
  """
  @spec belongs_to([binary, ...], pos_integer) :: :ok
  def belongs_to([exe | _args], os_pid), do: Logger.metadata(command: name(exe), os_pid: os_pid)

  @doc """
  An executable's name, as text whatever it is: formatters take nothing else.

      iex> NetRunner.Log.name("/usr/bin/env")
      "env"
      iex> NetRunner.Log.name(<<"x", 255>>)
      "<<120, 255>>"
  """
  @spec name(binary) :: String.t()
  def name(exe) do
    name = exe |> String.split("/") |> List.last()
    if String.printable?(name), do: name, else: inspect(name)
  end
end
