defmodule Bench.Native do
  @moduledoc false
  # The C programs of bench/c: built by CMake into our build folder, called by name.

  @source Path.expand("../../c", __DIR__)

  @spec build! :: :ok
  def build! do
    cmake!(["-S", @source, "-B", folder(), "-DCMAKE_BUILD_TYPE=RelWithDebInfo"])
    cmake!(["--build", folder()])
  end

  @doc "The path of bench_NAME."
  @spec path(atom) :: String.t()
  def path(name), do: Path.join([folder(), "bench", "bench_#{name}"])

  @doc "Runs bench_reference: the measurement that it prints."
  @spec reference([String.t()]) :: Bench.Scenario.measurement()
  def reference(args) do
    {output, status} = System.cmd(path(:reference), args)
    [summary | samples] = String.split(output, "\n", trim: true)
    [work, wrong, wall, own, other] = summary |> String.split() |> Enum.map(&String.to_integer/1)

    %{
      work: work,
      wrong: if(wrong > 0 or status != 0, do: "#{wrong} wrong, status #{status}"),
      wall_us: wall / 1000,
      own_us: own / 1000,
      other_us: other / 1000,
      samples: Enum.map(samples, &(String.to_integer(&1) / 1000))
    }
  end

  @doc "The compiler that built them, as it calls itself, and how."
  @spec compiler :: String.t()
  def compiler do
    cache = File.read!(Path.join(folder(), "CMakeCache.txt"))
    {said, 0} = System.cmd(cached(cache, "CMAKE_C_COMPILER"), ["--version"])
    [name | _] = String.split(said, "\n")
    "#{name}, #{cached(cache, "CMAKE_BUILD_TYPE")}"
  end

  defp cached(cache, name) do
    [_, value] = Regex.run(~r/^#{name}:\w+=(.*)$/m, cache)
    value
  end

  defp folder, do: Path.join(Mix.Project.build_path(), "c")

  defp cmake!(args) do
    case System.cmd("cmake", args, stderr_to_stdout: true) do
      {_output, 0} -> :ok
      {output, _status} -> Mix.raise("the C programs of bench/c did not build:\n" <> output)
    end
  end
end
