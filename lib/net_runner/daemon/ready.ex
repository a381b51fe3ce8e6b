defmodule NetRunner.Daemon.Ready do
  @moduledoc false
  # How a daemon learns that its command is ready. By output: the reader tries each line with
  # `matcher/1`, nobody polls. By a port or a function: `probe/2` is run by NetRunner.Daemon.UserCode and
  # asks again and again, for neither sends an event; the server ends it when the time is over.

  alias NetRunner.Daemon.UserCode
  alias NetRunner.Text

  @poll_ms 20
  # A port behind a firewall that says nothing is asked again, too.
  @connect_ms 1_000

  @type t ::
          nil
          | {:output, binary | Regex.t()}
          | {:tcp, :inet.ip_address(), :inet.port_number()}
          | (() -> boolean)

  @doc "Whether a line says so; nil where lines do not matter."
  @spec matcher(t) :: (binary -> boolean) | nil
  def matcher({:output, text}) when is_binary(text),
    do: fn line -> :binary.match(line, text) != :nomatch end

  def matcher({:output, regex}), do: fn line -> matches?(regex, line) end
  def matcher(_other), do: nil

  defp matches?(regex, line) do
    Regex.match?(regex, line)
  rescue
    # A regex for Unicode does not look at what is no UTF-8.
    ArgumentError -> Regex.match?(regex, Text.text(line))
  end

  @doc """
  A function that returns true once it is so; nil where there is nothing to ask. What the user's function
  raises is told to the server as `{:not_ready, pid, reason}`: it may be why it will never be ready.
  """
  @spec probe(t, pid) :: (() -> true) | nil
  def probe({:tcp, ip, port}, _server), do: fn -> until(fn -> accepts?(ip, port) end) end
  def probe(fun, server) when is_function(fun, 0), do: fn -> until(fn -> ask(fun, server) end) end
  def probe(_other, _server), do: nil

  defp until(fun) do
    if fun.() == true do
      true
    else
      receive do
      after
        @poll_ms -> until(fun)
      end
    end
  end

  defp accepts?(ip, port) do
    case :gen_tcp.connect(ip, port, [family(ip)], @connect_ms) do
      {:ok, socket} -> :gen_tcp.close(socket) == :ok
      {:error, _not_yet} -> false
    end
  end

  defp family(ip) when tuple_size(ip) == 4, do: :inet
  defp family(_ip), do: :inet6

  defp ask(fun, server) do
    fun.()
  catch
    kind, reason ->
      raised = {:raised, kind, reason, __STACKTRACE__}
      send(server, {:not_ready, self(), UserCode.reason(raised)})
      false
  end
end
