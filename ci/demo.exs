# The demo's log job; ci/demo runs it.

defmodule Demo.Screen do
  @moduledoc "Live progress: a line written over itself on a terminal, a few plain lines elsewhere."

  @doc "Runs `fun` while what `line` returns is shown again and again; gives back fun's result and ms."
  def watch(line, fun) do
    terminal? = System.get_env("NET_RUNNER_DEMO_TERMINAL") == "1"
    {ticker, ref} = spawn_monitor(fn -> tick(line, terminal?) end)
    begin = System.monotonic_time()

    try do
      result = fun.()

      {result,
       max(System.convert_time_unit(System.monotonic_time() - begin, :native, :millisecond), 1)}
    after
      send(ticker, :stop)

      receive do
        {:DOWN, ^ref, _, _, _} -> :ok
      end
    end
  end

  # Looks ten times a second, so that a `line` which also keeps a maximum misses little.
  defp tick(line, terminal?, ticks \\ 1) do
    receive do
      :stop -> if terminal?, do: IO.write("\r\e[2K")
    after
      100 ->
        text = line.()

        cond do
          terminal? -> IO.write("\r\e[2K   #{text}")
          rem(ticks, 20) == 0 -> IO.puts("   #{text}")
          true -> :ok
        end

        tick(line, terminal?, ticks + 1)
    end
  end

  def title(text), do: IO.puts("\n#{text}")
  def say(text), do: IO.puts("   #{text}")

  @doc "Rows of columns; the first column is text, the others are numbers."
  def table([head | _] = rows) do
    widths =
      for i <- 0..(length(head) - 1),
          do: rows |> Enum.map(&String.length(Enum.at(&1, i))) |> Enum.max()

    for [text | numbers] <- rows do
      [width | number_widths] = widths
      numbers = Enum.zip_with(numbers, number_widths, &String.pad_leading/2)
      say(Enum.join([String.pad_trailing(text, width) | numbers], "  "))
    end
  end

  def bytes(n) when n >= 1024 * 1024 * 1024, do: "#{Float.round(n / 1024 / 1024 / 1024, 1)} GiB"
  def bytes(n) when n >= 1024 * 1024, do: "#{Float.round(n / 1024 / 1024, 1)} MiB"
  def bytes(n), do: "#{div(n, 1024)} KiB"

  def rate(bytes, ms), do: "#{round(bytes / 1024 / 1024 * 1000 / ms)} MiB/s"
  def seconds(ms), do: "#{Float.round(ms / 1000, 1)} s"

  def count(n) do
    n
    |> Integer.to_string()
    |> String.reverse()
    |> String.replace(~r/(\d{3})(?=\d)/, "\\1,")
    |> String.reverse()
  end
end

defmodule Demo.Traces do
  @moduledoc "Counts the processes that carry the demo's mark in their environment."

  @doc "The environment that every command of the demo gets on top of the BEAM's."
  def env, do: [{"NET_RUNNER_DEMO_COMMAND", mark()}]

  def count do
    mark = "NET_RUNNER_DEMO_COMMAND=" <> mark()

    "/proc/[0-9]*/environ"
    |> Path.wildcard()
    |> Enum.count(fn path ->
      # A process may end, or be somebody else's, between the two looks.
      case File.read(path) do
        {:ok, environment} -> String.contains?(environment, mark)
        {:error, _} -> false
      end
    end)
  end

  defp mark, do: System.fetch_env!("NET_RUNNER_DEMO_TAG")
end

defmodule Demo.Files do
  @moduledoc "Finds the logs of this machine, and makes more where there are few."

  @most_of_a_kind 600
  @most_bytes 32 * 1024 * 1024
  @wanted 400
  @made_bytes 96 * 1024 * 1024

  @doc "The machine's own files, as `{kind, path}`."
  def found do
    Enum.concat([
      some(:changelog, "/usr/share/doc/*/*.gz"),
      some(:log, "/var/log/*{.log,.log.1,.gz}"),
      some(:log, "/var/log/*/*{.log,.log.1,.gz}"),
      some(:packages, "/var/lib/dpkg/status"),
      some(:package, "/var/lib/dpkg/info/*.list")
    ])
  end

  defp some(kind, wildcard) do
    wildcard
    |> Path.wildcard()
    |> Enum.filter(fn path ->
      match?(
        {:ok, %{type: :regular, access: access, size: size}}
        when access in [:read, :read_write] and size in 1..@most_bytes,
        File.stat(path)
      )
    end)
    |> Enum.take(@most_of_a_kind)
    |> Enum.map(&{kind, &1})
  end

  @doc """
  Web server logs, compressed by one `gzip` each, in `folder`: enough of them that with the `found`
  ones the demo has hundreds of files, and always the same ones.
  """
  def make(folder, found, written) do
    files = max(16, @wanted - found)
    lines = div(@made_bytes, files * 90)

    1..files
    |> Task.async_stream(
      fn number ->
        path = Path.join(folder, "web-#{number}.log.gz")
        File.open!(path, [:write, :raw], &compress(&1, number, lines, written))
        {:web, path}
      end,
      max_concurrency: System.schedulers_online(),
      ordered: false,
      timeout: :infinity
    )
    |> Enum.map(fn {:ok, file} -> file end)
  end

  defp compress(file, number, lines, written) do
    text =
      lines
      |> log(number)
      |> Stream.each(&:counters.add(written, 1, IO.iodata_length(&1)))

    ["gzip", "-1", "-c"]
    |> NetRunner.stream!(input: text, env: Demo.Traces.env())
    |> Enum.each(&(:ok = :file.write(file, &1)))
  end

  # Lazy: a few hundred lines at a time, made when gzip takes them.
  defp log(lines, seed) do
    Stream.unfold({lines, :rand.seed_s(:exsss, seed)}, fn
      {0, _} ->
        nil

      {left, random} ->
        n = min(left, 500)
        {text, random} = Enum.map_reduce(1..n, random, &line/2)
        {text, {left - n, random}}
    end)
  end

  @paths {"/", "/index.html", "/login", "/search", "/cart", "/api/orders", "/api/items",
          "/robots.txt"}
  @statuses {"200", "200", "200", "200", "200", "301", "304", "404", "500", "200"}

  defp line(_, random) do
    {r, random} = :rand.uniform_s(1_000_000_000, random)
    # Small numbers more often than big ones: a ranking has to have an order.
    path = elem(@paths, min(rem(r, 8), rem(div(r, 8), 8)))
    status = elem(@statuses, rem(div(r, 64), 10))
    <<a, b, c, _::binary>> = <<r::32>>

    text =
      "10.#{a}.#{b}.#{c} - - [23/Nov/2026:03:#{10 + rem(r, 50)}:#{10 + rem(div(r, 50), 50)} +0000] " <>
        "\"GET #{path} HTTP/1.1\" #{status} #{rem(r, 100_000)}\n"

    {text, random}
  end
end

defmodule Demo.LogJob do
  @moduledoc "One command for each file; its output is cut into lines, the lines are filtered and counted."

  @doc "Reads all the files; gives back the counts and the files whose command did not end well."
  def run(files, concurrency, bytes, done) do
    patterns = %{newline: :binary.compile_pattern("\n"), cve: :binary.compile_pattern("CVE-")}

    files
    |> Task.async_stream(
      fn {kind, path} ->
        result = read(kind, path, patterns, bytes)
        :counters.add(done, 1, 1)
        result
      end,
      max_concurrency: concurrency,
      ordered: false,
      timeout: :infinity
    )
    |> Enum.reduce({%{}, []}, fn
      {:ok, {:ok, counts}}, {all, bad} -> {merge(all, counts), bad}
      {:ok, {:error, why}}, {all, bad} -> {all, [why | bad]}
    end)
  end

  defp merge(a, b), do: Map.merge(a, b, fn _, x, y -> x + y end)

  defp read(kind, path, patterns, bytes) do
    command = if String.ends_with?(path, ".gz"), do: ["gzip", "-dc", path], else: ["cat", path]

    {counts, rest, exit} =
      command
      |> NetRunner.stream!(exit: :element, env: Demo.Traces.env())
      |> Enum.reduce({%{}, "", nil}, fn
        {:exit, exit}, {counts, rest, _} ->
          {counts, rest, exit}

        chunk, {counts, rest, _} ->
          :counters.add(bytes, 1, byte_size(chunk))
          {lines, rest} = lines(rest <> chunk, patterns.newline)
          {Enum.reduce(lines, counts, &note(kind, &1, patterns, &2)), rest, nil}
      end)

    counts = if rest == "", do: counts, else: note(kind, rest, patterns, counts)

    case {exit, kind} do
      {{:exited, 0}, :package} ->
        {:ok,
         %{
           {:files, Path.basename(path, ".list")} => counts[:lines] || 0,
           :lines => counts[:lines] || 0
         }}

      {{:exited, 0}, _} ->
        {:ok, counts}

      {other, _} ->
        {:error, "#{Enum.join(command, " ")}: #{inspect(other)}"}
    end
  end

  # The lines that are complete, and what comes after the last newline.
  defp lines(text, newline) do
    {complete, [rest]} = text |> :binary.split(newline, [:global]) |> Enum.split(-1)
    {complete, rest}
  end

  defp note(kind, line, patterns, counts) do
    counts = add(counts, :lines)

    case {kind, line} do
      {:web, _} -> web(line, counts)
      {:changelog, " -- " <> signature} -> add(counts, {:maintainer, name(signature)})
      {:changelog, _} -> cve(line, patterns.cve, counts)
      _ -> counts
    end
  end

  # 10.1.2.3 - - [time zone] "GET /path HTTP/1.1" status size
  defp web(line, counts) do
    case :binary.split(line, " ", [:global]) do
      [_, _, _, _, _, _, path, _, status, _] ->
        counts |> add({:path, path}) |> add({:status, status})

      _ ->
        counts
    end
  end

  defp name(signature) do
    [name | _] = :binary.split(signature, " <")
    if String.valid?(name), do: String.trim(name), else: "(not UTF-8)"
  end

  defp cve(line, pattern, counts) do
    case :binary.match(line, pattern) do
      {at, 4} when byte_size(line) >= at + 8 -> add(counts, {:cve, binary_part(line, at + 4, 4)})
      _ -> counts
    end
  end

  defp add(counts, key), do: Map.update(counts, key, 1, &(&1 + 1))
end

defmodule Demo do
  import Demo.Screen

  @both_ways 3 * 1024 * 1024 * 1024
  @give_up_ms 15_000

  def run do
    introduce()

    {rows, failures} = steps(System.fetch_env!("NET_RUNNER_DEMO_FOLDER"))
    finish(rows, failures)
  end

  defp introduce do
    title("NetRunner demo: a log job on this machine's own files")

    say(
      "NetRunner runs programs of the operating system from Elixir, moves data in and out of them, and"
    )

    say(
      "leaves none behind. This demo reads hundreds of log files through `gzip` and `cat`, ranks what is in"
    )

    say("them, and then pushes gigabytes through a single `cat`. It takes less than a minute.")

    backend = NetRunner.backend()
    say("")
    say("Data is moved by #{backend.data} (#{backend.why}).")
    say("A command's whole family is kept together by: #{backend.containment}.")
  end

  defp steps(folder) do
    {files, made} = gather(folder)
    {read, bad} = read(files)
    {through, wrong} = both_ways()
    asleep = sleeper()
    left = leftovers()

    {[made, read | through], bad ++ wrong ++ asleep ++ left}
  end

  defp gather(folder) do
    title("1. Looking for logs")
    found = Demo.Files.found()

    for {kind, files} <- Enum.group_by(found, &elem(&1, 0)),
        do: say("#{count(length(files))} #{kind(kind)}")

    written = :counters.new(1, [])
    progress = fn -> "writing web server logs: #{bytes(:counters.get(written, 1))}" end
    {made, ms} = watch(progress, fn -> Demo.Files.make(folder, length(found), written) end)
    total = :counters.get(written, 1)

    say(
      "#{count(length(made))} web server logs made up for this demo, each squeezed by its own `gzip`"
    )

    {found ++ made,
     ["write logs through gzip", count(length(made)), bytes(total), seconds(ms), rate(total, ms)]}
  end

  defp kind(:changelog), do: "compressed changelogs and other texts under /usr/share/doc"
  defp kind(:log), do: "logs under /var/log"
  defp kind(:packages), do: "list of the installed packages"
  defp kind(:package), do: "lists of the files of a package"

  defp read(files) do
    concurrency = 4 * System.schedulers_online()
    total = length(files)

    title(
      "2. Reading #{count(total)} files, each by a command of its own, #{concurrency} at a time"
    )

    [read, done] = for _ <- 1..2, do: :counters.new(1, [])
    most = :atomics.new(1, [])
    begin = System.monotonic_time(:millisecond)

    progress = fn ->
      :atomics.put(most, 1, max(:atomics.get(most, 1), Demo.Traces.count()))
      n = :counters.get(read, 1)
      ms = max(System.monotonic_time(:millisecond) - begin, 1)
      "#{count(:counters.get(done, 1))} of #{count(total)} files, #{bytes(n)}, #{rate(n, ms)}"
    end

    {{counts, bad}, ms} =
      watch(progress, fn -> Demo.LogJob.run(files, concurrency, read, done) end)

    n = :counters.get(read, 1)

    say(
      "#{count(counts[:lines] || 0)} lines in #{bytes(n)} of text, counted in Elixir as they came in"
    )

    rankings(counts)

    {["read logs through gzip, cat", count(total), bytes(n), seconds(ms), rate(n, ms)], bad}
  end

  defp rankings(counts) do
    rank(counts, :maintainer, "Who signed most changelog entries")
    rank(counts, :cve, "Security holes named in changelogs, by year")
    rank(counts, :files, "Packages with most files")
    rank(counts, :path, "Most wanted pages of the web server")
    rank(counts, :status, "Its answers")
  end

  defp rank(counts, kind, what) do
    rows =
      for({{^kind, name}, n} <- counts, do: {name, n})
      |> Enum.sort_by(fn {name, n} -> {-n, name} end)
      |> Enum.take(5)

    if rows != [] do
      say("")
      say("#{what}:")
      table(for {name, n} <- rows, do: ["  #{name}", count(n)])
    end
  end

  defp both_ways do
    title("3. #{bytes(@both_ways)} through one `cat`, in and out at the same time")

    say(
      "The input is a lazy stream, made as `cat` takes it; every byte that comes back is checked."
    )

    for {name, backend} <- ways(), reduce: {[], []} do
      {rows, wrong} ->
        {row, problems} = through_cat(name, backend)
        {rows ++ [row], wrong ++ problems}
    end
  end

  defp ways do
    case NetRunner.backend() do
      %{data: :io_uring} ->
        [{"cat", :auto}, {"cat, only by io_uring", :io_uring}, {"cat, only by poll", :poll}]

      _ ->
        [{"cat", :auto}]
    end
  end

  defp through_cat(name, backend) do
    size = if backend == :auto, do: @both_ways, else: div(@both_ways, 4)
    back = :counters.new(1, [])
    most = :atomics.new(1, [])
    begin = System.monotonic_time(:millisecond)

    progress = fn ->
      :atomics.put(most, 1, max(:atomics.get(most, 1), :erlang.memory(:total)))
      n = :counters.get(back, 1)
      ms = max(System.monotonic_time(:millisecond) - begin, 1)
      "#{name}: #{bytes(n)} of #{bytes(size)} went in and came back, #{rate(n, ms)} each way"
    end

    ref = make_ref()

    {sum, ms} =
      watch(progress, fn ->
        ["cat"]
        |> NetRunner.stream!(
          input: input(size, begin, self(), ref),
          backend: backend,
          env: Demo.Traces.env()
        )
        |> Enum.reduce(:erlang.crc32(""), fn chunk, sum ->
          :counters.add(back, 1, byte_size(chunk))
          :erlang.crc32(sum, chunk)
        end)
      end)

    {sent, sent_sum} =
      receive do
        {^ref, sent, sum} -> {sent, sum}
      end

    n = :counters.get(back, 1)
    right? = {n, sum} == {sent, sent_sum}

    say(
      "#{name}: #{bytes(n)} in #{seconds(ms)}, #{if right?, do: "every byte right", else: "WRONG"}, " <>
        "the BEAM never held more than #{bytes(:atomics.get(most, 1))}"
    )

    row = ["#{name}, both ways", "1", bytes(n), seconds(ms), rate(n, ms)]

    {row,
     if(right?, do: [], else: ["#{name}: sent #{sent} bytes (#{sent_sum}), got #{n} (#{sum})"])}
  end

  # Sixteen different blocks in turn, until there are `size` bytes (or the machine proves too slow).
  # The sum over all that was sent is put together from the blocks' sums, which costs nothing.
  defp input(size, begin, parent, ref) do
    blocks =
      for n <- 0..15 do
        {block, _} = :rand.bytes_s(256 * 1024, :rand.seed_s(:exsss, n))
        {block, :erlang.crc32(block)}
      end

    Stream.resource(
      fn -> {0, :erlang.crc32(""), blocks} end,
      fn
        {sent, sum, []} ->
          {[], {sent, sum, blocks}}

        {sent, sum, [{block, block_sum} | rest]} ->
          if sent >= size or System.monotonic_time(:millisecond) - begin > @give_up_ms do
            {:halt, {sent, sum, rest}}
          else
            length = byte_size(block)
            {[block], {sent + length, :erlang.crc32_combine(sum, block_sum, length), rest}}
          end
      end,
      fn {sent, sum, _} -> send(parent, {ref, sent, sum}) end
    )
  end

  defp sleeper do
    title("4. A reader that sleeps")

    say(
      "`cat /dev/zero` writes without end. The reader takes one piece and then sleeps for a second."
    )

    {:ok, command} = NetRunner.Process.start("cat", ["/dev/zero"], env: Demo.Traces.env())

    try do
      {:ok, _} = NetRunner.Process.read(command)
      {:ok, os_pid} = NetRunner.Process.os_pid(command)
      Process.sleep(200)

      with {:ok, before} <- written(os_pid),
           :ok <- Process.sleep(1000),
           {:ok, later} <- written(os_pid) do
        say(
          "It had written #{bytes(before)}; while the reader slept it wrote #{later - before} bytes more."
        )

        if later == before,
          do: [],
          else: ["cat wrote #{later - before} bytes that nobody had asked for"]
      else
        {:error, reason} ->
          say("(This system does not show how much a process has written: #{reason}.)")
          []
      end
    after
      NetRunner.Process.stop(command)
    end
  end

  defp written(os_pid) do
    with {:ok, io} <- File.read("/proc/#{os_pid}/io"),
         [_, n] <- Regex.run(~r/^wchar: (\d+)$/m, io) do
      {:ok, String.to_integer(n)}
    else
      {:error, reason} -> {:error, reason}
      nil -> {:error, :enoent}
    end
  end

  defp leftovers do
    title("5. A command that leaves things running")

    say(
      "A shell starts two background jobs of ten minutes, one in a session of its own, and ends."
    )

    script = "sleep 600 & setsid sleep 600 & echo started"
    counter = Task.async(fn -> Process.sleep(300) && Demo.Traces.count() end)

    {{result, status}, ms} =
      watch(fn -> "waiting for them" end, fn ->
        NetRunner.run(["sh", "-c", script], env: Demo.Traces.env())
      end)

    say(
      "The shell said #{inspect(result)}, its status is #{status}. A moment later #{Task.await(counter)} processes were running;"
    )

    say(
      "NetRunner gave them #{seconds(ms)} and ended them: now there are #{Demo.Traces.count()}."
    )

    []
  end

  defp finish(rows, failures) do
    title("Results")
    table([["step", "commands", "data", "time", "rate"] | rows])

    left = Demo.Traces.count()
    say("")
    say("Processes in /proc that carry this demo's mark: #{left}.")
    failures = if left == 0, do: failures, else: ["#{left} processes were left behind" | failures]

    for failure <- failures, do: say("PROBLEM: #{failure}")
    if failures != [], do: exit({:shutdown, 1})
  end
end

Demo.run()
