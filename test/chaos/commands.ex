defmodule NetRunner.Test.Chaos.Commands do
  @moduledoc """
  What chaos runs. A command is drawn (`draw/3`), performed by the process that will own it
  (`perform/1`), and its outcome is held against what it must be (`judge/4`): exact bytes and status,
  unless harm was done to this very command, and then one of the few reasons that this harm explains.
  """

  import NetRunner.Test.World, only: [fixture: 1]
  import NetRunner.Test.Chaos.Plan, only: [uniform: 1, weighted: 1]

  alias NetRunner.Process, as: Command

  @kinds [
    {30, :instant},
    {8, :cat},
    {8, :head},
    {5, :halted},
    {8, :daemon},
    {8, :ignore_term},
    {6, :stopped},
    {6, :unread},
    {6, :two},
    {6, :three},
    {6, :function},
    {4, :two_ignore}
  ]
  # At full number they would be the whole machine's load: two slots of an epoch may run them.
  @chains {6, :chain}
  @chain_slots 2
  # A chain that nobody can end any more does so itself: the machine is lent. But not before worker and
  # driver have counted who is left.
  @chain_ms 120_000

  @calls %{
    instant: [:run, :stream, :process],
    cat: [:run, :stream, :process],
    head: [:run, :stream, :process],
    halted: [:stream],
    daemon: [:run, :stream, :process],
    chain: [:run, :stream, :process],
    ignore_term: [:run, :stream, :process],
    stopped: [:run, :stream, :process],
    unread: [:run, :process],
    two: [:run, :stream],
    three: [:run, :stream],
    function: [:run, :stream],
    two_ignore: [:run, :stream]
  }

  @mib 1_048_576
  # 16,384 of them are 1 MiB.
  @line String.duplicate("x", 64)
  # For ends that nobody prevents: only a machine that stands still takes so long.
  @long 30_000

  @doc "After how many milliseconds a fork chain ends by itself."
  @spec chain_ms() :: pos_integer
  def chain_ms, do: @chain_ms

  @type t :: map
  @type outcome :: {binary, 0..255 | :halted} | {:error, term}

  @doc "Draws slot `slot`'s next command, from the calling process's :rand state."
  @spec draw(String.t(), pos_integer, %{dir: Path.t(), backends: [atom]}) :: t
  def draw(id, slot, %{dir: dir, backends: backends}) do
    kind = weighted(if slot <= @chain_slots, do: [@chains | @kinds], else: @kinds)
    calls = @calls[kind]

    fill(%{
      id: id,
      kind: kind,
      call: Enum.at(calls, uniform(1..length(calls)) - 1),
      backend: Enum.at(backends, uniform(1..length(backends)) - 1),
      stderr: Enum.at([:consume, :merge, :discard], uniform(1..3) - 1),
      # Whoever ignores TERM lives that long: also what a stop by an owner's death costs.
      grace: uniform(20..200),
      hold: uniform(0..300),
      number: uniform(0..255),
      lock: Path.join(dir, id),
      input: nil,
      opts: []
    })
  end

  defp fill(%{kind: :instant, id: id} = c) do
    # Every sixteenth dies of a signal.
    if rem(c.number, 16) == 15,
      do: expect(c, [fixture("exit_with"), "signal 15", id], {id, 143}),
      else: expect(c, [fixture("exit_with"), "#{c.number}", id], {id, c.number})
  end

  defp fill(%{kind: :cat, id: id} = c) do
    bytes = filling(id)
    expect(%{c | input: bytes}, ["cat"], {bytes, 0})
  end

  defp fill(%{kind: :head, id: id} = c) do
    bytes = 1 + c.number * 1024
    expect(c, ["sh", "-c", "yes #{id} | head -c #{bytes}"], {lines(id, bytes), 0})
  end

  defp fill(%{kind: :halted, id: id} = c), do: expect(c, ["yes", id], {id <> "\n", :halted})

  defp fill(%{kind: :daemon, call: :process} = c),
    do: expect(c, [fixture("daemonize"), c.lock, "stay"], {"ready\n", 143})

  defp fill(%{kind: :daemon} = c) do
    c = %{c | opts: [drain_timeout: c.hold]}
    expect(c, [fixture("daemonize"), c.lock, "exit"], {"ready\n", 0})
  end

  defp fill(%{kind: :chain} = c) do
    chains = 1 + rem(c.number, 3)
    hostile(c, [fixture("fork_chain"), "#{chains}", c.lock, "#{@chain_ms}"], 137)
  end

  defp fill(%{kind: :ignore_term} = c), do: hostile(c, [fixture("ignore_term"), c.lock], 137)

  # It hears TERM once it is continued; only a KILL in the grace's stead would be another status.
  defp fill(%{kind: :stopped} = c),
    do: hostile(%{c | grace: 5_000}, [fixture("stop_itself"), c.lock], 143)

  defp fill(%{kind: :unread} = c),
    do: hostile(%{c | input: String.duplicate(@line, 4 * 16_384)}, ["sleep", "60"], 143)

  # Pipelines. Their members have one id, so that what is done to any of them is done to the whole. Only the first one fails by
  # itself: of several that have failed the last says how, and that is to be the one that was hit.
  defp fill(%{kind: :two} = c) do
    bytes = filling(c.id)

    # With 141 a shell says that it was told nobody reads on: no failure where the reader has none.
    status = if c.number == 141, do: 0, else: c.number
    stages = [["sh", "-c", "cat; exit #{c.number}"], ["cat"]]
    expect(%{c | input: bytes}, NetRunner.pipeline(stages), {bytes, status})
  end

  defp fill(%{kind: :three, id: id} = c) do
    bytes = 1 + c.number * 1024
    stages = [["yes", id], ["head", "-c", "#{bytes}"], ["cat"]]
    expect(c, NetRunner.pipeline(stages), {lines(id, bytes), 0})
  end

  defp fill(%{kind: :function} = c) do
    bytes = filling(c.id)
    flip = fn chunks -> Stream.map(chunks, &flipped/1) end
    pipeline = NetRunner.pipeline([["cat"], flip, ["cat"]])
    expect(%{c | input: bytes}, pipeline, {flipped(bytes), 0})
  end

  defp fill(%{kind: :two_ignore} = c),
    do: hostile(c, NetRunner.pipeline([[fixture("ignore_term"), c.lock], ["cat"]]), 137)

  # 1 MiB.
  defp filling(id), do: :binary.copy(String.pad_trailing(id, 64, "."), div(@mib, 64))

  defp lines(id, bytes) do
    line = id <> "\n"
    binary_part(:binary.copy(line, div(bytes, byte_size(line)) + 1), 0, bytes)
  end

  # In one call, whatever the size of the chunk.
  defp flipped(bytes), do: :crypto.exor(bytes, :binary.copy(<<1>>, byte_size(bytes)))

  defp hostile(%{call: :run} = c, cmd, _status),
    do: expect(%{c | opts: [timeout: 100 + c.hold]}, cmd, {:error, :timeout})

  defp hostile(%{call: :stream} = c, cmd, _status), do: expect(c, cmd, {"ready\n", :halted})
  defp hostile(%{kind: :unread} = c, cmd, status), do: expect(c, cmd, {"", status})
  defp hostile(c, cmd, status), do: expect(c, cmd, {"ready\n", status})

  defp expect(c, cmd, {bytes, status}) when is_binary(bytes),
    do: Map.merge(c, %{cmd: cmd, expected: {digest(bytes), status}})

  defp expect(c, cmd, error), do: Map.merge(c, %{cmd: cmd, expected: error})

  ## Performing

  @doc "Runs it and gives the outcome. The calling process is the command's owner."
  @spec perform(t) :: outcome
  def perform(%{call: :run} = c) do
    case NetRunner.run(c.cmd, input(c) ++ opts(c)) do
      {:error, reason} -> {:error, reason}
      {output, status} -> {digest(output), status}
    end
  rescue
    # What a function between two commands reads of one that was hit.
    error in NetRunner.Error -> {:error, error.reason}
  end

  def perform(%{call: :stream, expected: {said, :halted}} = c) do
    first = c.cmd |> NetRunner.stream!(opts(c)) |> Enum.take(1) |> Enum.join()
    {binary_part(first, 0, min(byte_size(first), byte_size(said))), :halted}
  rescue
    error in NetRunner.Error -> {:error, error.reason}
  end

  def perform(%{call: :stream} = c) do
    {chunks, [{:exit, exit}]} =
      c.cmd
      |> NetRunner.stream!([exit: :element] ++ input(c) ++ opts(c))
      |> Enum.split_while(&is_binary/1)

    {chunks |> IO.iodata_to_binary() |> digest(), Command.status(exit)}
  rescue
    error in NetRunner.Error -> {:error, error.reason}
  end

  def perform(%{call: :process} = c) do
    [exe | args] = c.cmd

    with {:ok, p} <- Command.start(exe, args, opts(c)) do
      try do
        case by_hand(c, p) do
          {_said, {:error, reason}} -> {:error, reason}
          {said, {:ok, status}} -> {digest(said), status}
        end
      after
        Command.stop(p)
      end
    end
  end

  defp opts(c) do
    [
      backend: c.backend,
      stderr: c.stderr,
      kill_timeout: c.grace,
      env: [{"NET_RUNNER_CHAOS", c.id}]
    ] ++ c.opts
  end

  defp input(%{input: nil}), do: []
  defp input(%{input: bytes}), do: [input: bytes]

  defp by_hand(%{kind: kind} = c, p) when kind in [:instant, :cat, :head] do
    writer = c.input && spawn_link(fn -> write_all(p, c.input) end)
    unless writer, do: Command.close_stdin(p)
    {p |> read_all() |> IO.iodata_to_binary(), Command.await_exit(p, @long)}
  end

  # A write that does not time out has already met whoever was harmed: the end says how.
  defp by_hand(%{kind: :unread} = c, p) do
    case Command.write(p, c.input, 50 + c.hold) do
      {:error, {:timeout, taken}} when taken in 1..(4 * @mib - 1)//1 ->
        {"", Command.shutdown(p, @long, @long)}

      other ->
        {"the write gave #{inspect(other)}", Command.await_exit(p, @long)}
    end
  end

  defp by_hand(c, p) do
    said = read_some(p)

    receive do
    after
      c.hold -> {said, Command.shutdown(p, c.grace, @long)}
    end
  end

  defp write_all(p, bytes) do
    _ok_or_epipe = Command.write(p, bytes)
    Command.close_stdin(p)
  end

  defp read_all(p) do
    case Command.read(p) do
      {:ok, bytes} -> [bytes | read_all(p)]
      _eof_or_closed -> []
    end
  end

  defp read_some(p) do
    case Command.read(p) do
      {:ok, bytes} -> bytes
      _eof_or_closed -> ""
    end
  end

  # What is long is compared, and shown, by its hash.
  defp digest(bytes) when byte_size(bytes) <= 64, do: bytes

  defp digest(bytes),
    do: "#{byte_size(bytes)} bytes, #{Base.encode16(:crypto.hash(:sha256, bytes))}"

  ## Judging

  @doc """
  Whether the outcome is right. `harm` is what was done to this command, `zygote_harmed?` whether a zygote
  was being killed while it ran. `:anonymous` means: right only if somebody whose command could not
  be told was the guardian that was killed.
  """
  @spec judge(t, outcome, [atom], boolean) :: :right | :wrong | {:anonymous, atom}
  def judge(%{expected: expected}, expected, _harm, _zygote_harmed?), do: :right

  def judge(_c, {:error, reason}, harm, zygote_harmed?) do
    cond do
      reason in reasons(harm) -> :right
      reason == :shepherd_lost and zygote_harmed? -> :right
      reason in reasons([:guardian_kill]) -> {:anonymous, reason}
      true -> :wrong
    end
  end

  def judge(_c, _outcome, _harm, _zygote_harmed?), do: :wrong

  # A guardian that is killed before it said STARTED cannot be told from a zygote that lost the request.
  defp reasons(harm) do
    Enum.flat_map(harm, fn
      :guardian_kill -> [:guardian_lost, :shepherd_lost]
      :server_kill -> [:closed]
      _stopped_for_a_while -> []
    end)
  end

  @doc "The command in words, for reports."
  @spec describe(t) :: String.t()
  def describe(c), do: "#{c.id} #{c.kind} by #{c.call} on #{c.backend}"
end
