defmodule Bench.Counters do
  @moduledoc """
  What is counted rather than timed: NetRunner's own counters, of its running commands and of its rings,
  and the BEAM's system calls.

  The kernel counts calls of `read` and `write` and their like for everybody (`/proc/self/io`): of pipes,
  eventfds, ERTS's timers and wake-ups. What it does not count is known of NetRunner (`csrc/backend_*.c`):

    * a wait on `enif_select` is one `epoll_ctl`;
    * `io_uring_enter` is counted where it is called;
    * a harvest is one `epoll_ctl`, for the eventfd; none if somebody harvested in passing, so this is the most
      that it can be.

  Nobody knows how often `epoll_wait` was called (once per wait at most); it is left out. Tracepoints would know
  all of it, but not every kernel has them, and who is traced with ptrace behaves differently. At a rate that
  strace does not disturb (100 streams, 1,000 messages/s, 8 s) `strace -c` saw the same within 2 %, but for the
  harvests' `epoll_ctl`: 3,900 of the 5,500 that are counted here, where all calls are 41,000.
  """

  @type t :: %{
          reads: non_neg_integer,
          selects: non_neg_integer,
          ring_waits: non_neg_integer,
          enters: non_neg_integer,
          harvests: non_neg_integer
        }

  @doc "A function that looks at the counters of the commands that run now; nil for who has none."
  @spec of(Bench.Contestant.t()) :: (() -> t | nil)
  def of(%{module: module} = contestant) do
    if Bench.Contestant.can?(contestant, :counters), do: module.counters(), else: fn -> nil end
  end

  @doc "What a function gives, and what was counted while it ran."
  @spec during(Bench.Contestant.t(), (() -> result)) :: {result, t | nil} when result: term
  def during(contestant, fun) do
    counters = of(contestant)
    before = counters.()
    result = fun.()
    {result, between(before, counters.())}
  end

  @doc "What was counted between two looks."
  @spec between(t | nil, t | nil) :: t | nil
  def between(nil, nil), do: nil
  def between(before, later), do: Map.merge(later, before, fn _key, one, other -> one - other end)

  @doc "The BEAM's calls of `read`, `write` and their like so far; nil where the kernel does not count them."
  @spec reads_and_writes :: non_neg_integer | nil
  def reads_and_writes do
    with {:ok, text} <- :prim_file.read_file("/proc/self/io"),
         [_, reads] <- Regex.run(~r/^syscr: (\d+)/m, text),
         [_, writes] <- Regex.run(~r/^syscw: (\d+)/m, text) do
      String.to_integer(reads) + String.to_integer(writes)
    else
      _not_counted -> nil
    end
  end

  @doc "All system calls that are known of; nil if it cannot be told."
  @spec system_calls(non_neg_integer | nil, t | nil) :: non_neg_integer | nil
  def system_calls(nil, _counts), do: nil
  def system_calls(_reads_and_writes, nil), do: nil

  def system_calls(reads_and_writes, counts),
    do: reads_and_writes + counts.selects + counts.enters + counts.harvests
end
