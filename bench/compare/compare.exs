# Started by compare/run. One file in rows/ is one question, which is asked of every library that can be loaded: NetRunner, what
# Elixir and Erlang have built in, and Exile, MuonTrap, erlexec, ex_cmd where ERL_LIBS has the parents of their
# ebin folders. Nothing here fetches or builds them.
#
# A line is: the row, the library, the answer (yes, in part, no; "no such call" where the library has nothing to ask), and
# what was seen. Processes, descriptors, bytes and statuses are those of the system, not what a library says of them.
# `--quick` asks with fewer repetitions and shorter waits.

for file <- ["world.exs", "library.exs", "row.exs"], do: Code.require_file(file, __DIR__)

Compare.Row.main(System.argv())
