defmodule Bench.Protocols do
  @moduledoc false
  # Mix consolidates protocols when it compiles, without the libraries that `ERL_LIBS` adds: their
  # streams would not be enumerable. Not to consolidate would make everybody's calls of a protocol slow.

  @doc "Consolidates anew, with everything that can be loaded now."
  @spec consolidate :: :ok
  def consolidate do
    paths = Enum.reject(:code.get_path(), &(Path.basename(to_string(&1)) == "consolidated"))
    for protocol <- Protocol.extract_protocols(paths), do: consolidate(protocol, paths)
    :ok
  end

  defp consolidate(protocol, paths) do
    file = :code.which(protocol)
    {:ok, code} = Protocol.consolidate(protocol, Protocol.extract_impls(protocol, paths))
    :code.purge(protocol)
    {:module, ^protocol} = :code.load_binary(protocol, file, code)
  end
end
