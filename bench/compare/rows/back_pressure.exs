defmodule Compare.Rows.BackPressure do
  @moduledoc false
  # 200 MiB are offered. Whoever has taken the first piece sleeps: what has the command written after that?
  @behaviour Compare.Row
  import Compare.Row
  alias Compare.{Library, World}

  @offered_mib 200

  def question, do: "Does a reader that sleeps 2 s stop the command that writes?"

  def ask(:muontrap, context) do
    [
      flood(:muontrap, [], "/dev/stdout", context),
      flood(:muontrap, [stdio_window: 1_048_576], "/dev/stdout", context)
    ]
  end

  def ask(lib, context), do: flood(lib, [], "/dev/stdout", context)

  @doc "Also for stderr, see stderr_flood.exs."
  def flood(lib, opts, to, %{tag: tag, quick?: quick?}) do
    before = :erlang.memory(:total)
    me = self()
    dd = ["dd", "if=/dev/zero", "of=#{to}", "bs=64k", "count=#{16 * @offered_mib}", "status=none"]

    consumer =
      spawn(fn ->
        Library.each(
          lib,
          World.tagged(dd, tag),
          fn _piece ->
            send(me, :first)
            # The reader that sleeps is the question; it is killed below.
            Process.sleep(:infinity)
          end,
          opts
        )
      end)

    receive do
      :first -> :ok
    after
      10_000 -> raise "no piece came"
    end

    written = watch(tag, World.now() + if(quick?, do: 500, else: 2_000), 0)
    grown = div(:erlang.memory(:total) - before, 1_048_576)
    Process.exit(consumer, :kill)
    World.kill(World.living(tag))
    how = if opts == [], do: "", else: " (#{short(opts)})"

    yes?(
      written < 10 * 1_048_576,
      "written after 2 s: #{mib(written)} of #{@offered_mib} MiB, the BEAM's memory grew by #{max(grown, 0)} MiB#{how}"
    )
  end

  # Who has ended has written all of it. There is no event for what somebody else has written: it is looked at every 50 ms.
  defp watch(tag, until, seen) do
    writers = for pid <- World.living(tag), World.name(pid) == "dd", do: World.written(pid)

    cond do
      writers == [] or writers == [nil] -> @offered_mib * 1_048_576
      World.now() > until -> max(seen, hd(writers))
      true -> Process.sleep(50) && watch(tag, until, hd(writers))
    end
  end

  defp mib(bytes), do: Float.round(bytes / 1_048_576, 1)
end
