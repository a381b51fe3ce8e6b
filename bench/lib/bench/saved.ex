defmodule Bench.Saved do
  @moduledoc """
  A run on disk: a folder with two files per scenario, `NAME.md` for people and `NAME.term` for programs, an
  Erlang term (`file:consult/1`) with all that `t:Bench.Runner.result/0` says, each round's figures included.
  """

  alias Bench.Report

  @doc "Writes both files, in place of an earlier run's; the path of the table."
  @spec write(Bench.Runner.result(), Path.t()) :: Path.t()
  def write(result, folder) do
    File.mkdir_p!(folder)
    table = Path.join(folder, result.name <> ".md")
    File.write!(table, text(result))
    File.write!(Path.join(folder, result.name <> ".term"), term(result))
    table
  end

  defp text(result) do
    absent =
      if result.absent == [], do: "", else: "\n\nNot measured: #{Enum.join(result.absent, ", ")}."

    "# #{result.name}\n\n#{result.machine}\n\n#{Report.text(result)}#{absent}\n\n#{Report.versions(result.versions)}\n"
  end

  defp term(result) do
    "%% -*- coding: utf-8 -*-~n~tp.~n" |> :io_lib.format([result]) |> IO.chardata_to_string()
  end

  @doc "The results in a folder, in the order they were measured."
  @spec read(Path.t()) :: [Bench.Runner.result()]
  def read(folder) do
    folder
    |> Path.join("*.term")
    |> Path.wildcard()
    |> Enum.map(&read_one/1)
    |> Enum.sort_by(& &1.at)
  end

  defp read_one(path) do
    case :file.consult(path) do
      # Earlier runs did not keep the versions.
      {:ok, [%{name: _, at: _} = result]} -> Map.put_new(result, :versions, [])
      other -> raise "#{path} holds no result of mix bench: #{inspect(other, limit: 5)}"
    end
  end
end
