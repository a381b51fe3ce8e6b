defmodule NetRunner.MixProject do
  use Mix.Project

  @version "0.1.0"

  def project do
    [
      app: :net_runner,
      version: @version,
      elixir: "~> 1.14",
      elixirc_paths: elixirc_paths(Mix.env()),
      compilers: [:net_runner_native] ++ Mix.compilers(),
      start_permanent: Mix.env() == :prod,
      description: "Runs OS processes, streams gigabytes through them, leaves nothing behind.",
      package: package(),
      docs: docs(),
      deps: []
    ]
  end

  def application do
    [mod: {NetRunner.Application, []}, extra_applications: applications(Mix.env())]
  end

  # The tests hash what they read, and PropEr draws what they try.
  defp applications(:test), do: [:logger, :crypto, :proper]
  defp applications(_env), do: [:logger]

  defp elixirc_paths(:test), do: ["lib", "test/support", "test/chaos"]
  defp elixirc_paths(_env), do: ["lib"]

  # `mix hex.build` and `mix docs` find what they need here, where Hex and ex_doc are installed. Nothing of this project
  # needs either.
  # Tests and benchmarks stay in the repository: the pages that link to them say so.
  defp package do
    [
      licenses: ["Apache-2.0"],
      links: %{},
      files: ~w(lib csrc shepherd docs CMakeLists.txt mix.exs .formatter.exs
                README.md ARCHITECTURE.md CHANGELOG.md CONTRIBUTING.md LICENSE)
    ]
  end

  defp docs do
    [
      main: "readme",
      extras:
        ["README.md", "docs/tour.livemd", "docs/cookbook.md"] ++
          Path.wildcard("docs/migration/*.md") ++
          [
            "docs/comparison.md",
            "docs/isolation.md",
            "docs/limits.md",
            "docs/reliability.md",
            "docs/performance.md"
          ] ++
          ["ARCHITECTURE.md", "docs/shepherd.md"] ++
          Path.wildcard("docs/decisions/0*.md") ++ ["CONTRIBUTING.md", "CHANGELOG.md", "LICENSE"],
      groups_for_extras: [
        "Coming from elsewhere": ~r"docs/migration/",
        "What to expect": ~r"docs/(comparison|isolation|limits|reliability|performance)",
        "How it is made": ~r"(ARCHITECTURE|docs/shepherd|docs/decisions)"
      ],
      groups_for_modules: [
        "Running commands":
          ~r"^NetRunner(\.(Process|Process\.Stdin|Daemon|Command|Pipeline|Gate|Sink))?$",
        "What comes back": ~r"^NetRunner\.(Result|Error|ExitError|Signal|Cgroup|Telemetry)$",
        "In your tests": ~r"^NetRunner\.Test(\.Error)?$",
        "Coming from elsewhere": ~r"^NetRunner\.Compat"
      ]
    ]
  end
end

defmodule Mix.Tasks.Compile.NetRunnerNative do
  @shortdoc "Builds NetRunner's C parts with CMake"

  @moduledoc """
  Builds the NIF, the shepherd, `tee`, `replay` and two probes into the application's `priv` in the build path.

  It lives in `mix.exs` because a compiler must be there before anything is compiled, also when
  NetRunner is a dependency of another project. It needs no Hex package.

  CMake is configured when the build folder is new or when one of its inputs changed; otherwise only
  `cmake --build` runs, and that is all `mix compile` adds. The inputs are the variables below, `CC`,
  `CFLAGS`, `LDFLAGS`, the Erlang version and the liburing that pkg-config sees.

    * `NET_RUNNER_PORTABLE=1`: the poll-only, POSIX-only variant.
    * `NET_RUNNER_SANITIZE=address,undefined`: sanitizers in the NIF and the shepherd.
    * `NET_RUNNER_CMAKE_ARGS`: more arguments for CMake, split as a shell would.

  In this project's own `MIX_ENV=test` the Check tests and the fixtures are built too, and warnings
  are errors.
  """

  use Mix.Task.Compiler

  @root __DIR__

  @impl true
  def run(argv) do
    # Mix compiles the artefacts' users next: a build folder that was moved, or made for other
    # options, is thrown away rather than mended. CMake keeps absolute paths and old -D values.
    tools = find_tools!()
    args = configure_args()
    inputs = inspect({args, tools, environment()}, limit: :infinity, printable_limit: :infinity)
    before = artefacts()

    if File.read(stamp()) != {:ok, inputs} do
      clean()
      File.mkdir_p!(build())
      File.mkdir_p!(priv())
      probe_compiler!(tools.cc)
      Mix.shell().info("Compiling the C parts of net_runner (CMake)")
      configure!(tools.cmake, args)
      File.write!(stamp(), inputs)
    end

    build!(tools.cmake, argv)
    if artefacts() == before, do: {:noop, []}, else: {:ok, []}
  end

  @impl true
  def manifests, do: [stamp()]

  @impl true
  def clean do
    File.rm_rf!(build())
    File.rm_rf!(priv())
    :ok
  end

  defp build, do: Path.join(Mix.Project.app_path(), "cmake")
  defp priv, do: Path.join(Mix.Project.app_path(), "priv")
  defp stamp, do: Path.join(build(), "net_runner.inputs")

  defp artefacts do
    for file <- Path.wildcard(Path.join(priv(), "*")), do: {file, File.stat!(file).mtime}
  end

  defp configure_args do
    [
      "-S#{@root}",
      "-B#{build()}",
      "-GUnix Makefiles",
      # Quiet, so that what is printed is what a compiler had to say.
      "-DCMAKE_RULE_MESSAGES=OFF",
      "-DCMAKE_TARGET_MESSAGES=OFF",
      "-DNET_RUNNER_PRIV=#{priv()}",
      "-DERTS_INCLUDE_DIR=#{erts_include!()}",
      "-DNET_RUNNER_PORTABLE=#{on_off(System.get_env("NET_RUNNER_PORTABLE") in ~w(1 ON on true))}",
      "-DNET_RUNNER_SANITIZE=#{System.get_env("NET_RUNNER_SANITIZE", "")}",
      "-DNET_RUNNER_TESTS=#{on_off(own_tests?())}",
      "-DNET_RUNNER_WERROR=#{on_off(own_tests?())}"
    ] ++ OptionParser.split(System.get_env("NET_RUNNER_CMAKE_ARGS", ""))
  end

  defp on_off(true), do: "ON"
  defp on_off(false), do: "OFF"

  # Mix sets :build_path when it compiles a project as somebody's dependency; this project never does.
  defp own_tests?, do: Mix.env() == :test and Mix.Project.config()[:build_path] == nil

  # What CMake looks at besides its arguments.
  defp environment do
    {System.get_env("CFLAGS"), System.get_env("CPPFLAGS"), System.get_env("LDFLAGS"),
     System.get_env("PKG_CONFIG_PATH"), :erlang.system_info(:version), liburing_version()}
  end

  # Somebody who installs liburing-dev later gets the io_uring backend at the next compile.
  defp liburing_version do
    with pkg_config when is_binary(pkg_config) <- System.find_executable("pkg-config"),
         {version, 0} <- System.cmd(pkg_config, ~w(--modversion liburing), stderr_to_stdout: true) do
      String.trim(version)
    else
      _ -> nil
    end
  end

  defp find_tools! do
    [cc | _] = OptionParser.split(System.get_env("CC", "cc")) ++ ["cc"]

    %{
      cmake: find!("cmake", "CMake", "cmake"),
      make: find!("make", "make", "make"),
      cc: find!(cc, "a C compiler (#{cc})", "gcc")
    }
  end

  defp find!(executable, name, package) do
    System.find_executable(executable) || missing!(name, package)
  end

  defp erts_include! do
    root = List.to_string(:code.root_dir())

    candidates = [
      Path.join(root, "usr/include"),
      Path.join(root, "erts-#{:erlang.system_info(:version)}/include")
    ]

    Enum.find(candidates, &File.exists?(Path.join(&1, "erl_nif.h"))) ||
      missing!("the header erl_nif.h of Erlang", "erlang-dev")
  end

  # Debian's gcc only recommends the C library's headers.
  defp probe_compiler!(cc) do
    source = Path.join(build(), "probe.c")
    File.write!(source, "#include <stdio.h>\nint main(void) { return puts(\"\") < 0; }\n")

    case System.cmd(cc, ["-o", Path.join(build(), "probe"), source], stderr_to_stdout: true) do
      {_, 0} -> :ok
      _ -> missing!("a C library to compile against", "libc6-dev")
    end
  end

  @spec missing!(String.t(), String.t()) :: no_return
  defp missing!(what, package) do
    Mix.raise(
      "net_runner needs #{what} to build its C parts; on Debian, run: apt-get install #{package}"
    )
  end

  defp configure!(cmake, args) do
    case System.cmd(cmake, args, stderr_to_stdout: true) do
      {output, 0} ->
        for "-- liburing not found" <> _ = line <- String.split(output, "\n") do
          Mix.shell().info(String.trim_leading(line, "- "))
        end

      {output, status} ->
        IO.write(:stderr, output)
        Mix.raise("net_runner: CMake could not configure the C parts (exit #{status}), see above")
    end
  end

  defp build!(cmake, argv) do
    args = ["--build", build(), "--parallel", "#{System.schedulers_online()}"]
    args = if "--force" in argv, do: args ++ ["--clean-first"], else: args

    {output, status} = System.cmd(cmake, args, stderr_to_stdout: true)

    # Lines with dashes are CMake's own, when a CMakeLists.txt changed.
    output
    |> String.split("\n", trim: true)
    |> Enum.reject(&String.starts_with?(&1, "-- "))
    |> Enum.each(&Mix.shell().info/1)

    if status != 0, do: Mix.raise("net_runner: the C parts did not compile (exit #{status})")
  end
end
