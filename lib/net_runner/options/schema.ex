defmodule NetRunner.Options.Schema do
  @moduledoc false
  # The one table of options: which calls have them, their defaults, types and documentation. A default or a
  # type that differs between calls is `{:per_call, %{call => special}, general}`.

  @to_the_end [:run, :run!, :exec, :exec!]
  @read_for_you @to_the_end ++ [:stream]
  @calls @read_for_you ++ [:process, :daemon]
  @u32_max 0xFFFF_FFFF
  @stderr [:consume, :merge, :tagged, {:tagged, :timestamps}, :discard, :inherit]

  # {name, calls, default, type, doc}
  @schema [
    {:cmd, [:daemon], nil, :cmd,
     "The command: the executable and its arguments, or a `NetRunner.Command`. It must stay in the " <>
       "foreground. Required."},
    {:name, [:daemon], nil, :name,
     "The name that the daemon is registered under: an atom, `{:global, term}` or " <>
       "`{:via, module, term}`. Default: none."},
    {:on_output, [:daemon], :discard, :on_output,
     "What becomes of each line: `:discard`, `:log` (into `Logger`, see `log:`), a function of the line, of " <>
       "`:stdout` or `:stderr` and the line, or of these two and the time at which its end was read, as with `{:tagged, " <>
       ":timestamps}` in `NetRunner.stream!/2`. Default: `:discard`."},
    {:log, [:daemon], [], :log,
     "For `on_output: :log`, a keyword list of `level:` (`:info`), `stderr_level:` (that of `level:`), " <>
       "`prefix:` (the command's name and a colon) and `metadata:` (a keyword list, added to the daemon's)."},
    {:overflow, [:daemon], :block, {:one_of, [:block, :drop]},
     "What happens while `on_output:` is slower than the command: `:block` (the command waits) or `:drop` (it " <>
       "never does; lines that find the queue full are dropped and counted). Default: `:block`."},
    {:max_queue, [:daemon], 1024, {:integer, 1, 1_000_000},
     "How many lines may wait for `on_output:` with `overflow: :drop` (with `:block` only until a line has said " <>
       "that the command is ready). There may also be no more than 4 MiB of them, unless it is a single " <>
       "one. Default: 1024."},
    {:lines, [:daemon], "\n", :line_separator,
     "What stands between two lines: a binary that is not empty, or `true` for `\"\\n\"`. Default: `\"\\n\"`."},
    {:max_line_length, [:daemon], {65_536, :split}, :line_limit,
     "`{bytes, policy}` or `:infinity`. What a longer line becomes: `:split` (lines of that many bytes), " <>
       "`:truncate` (its first bytes) or `:error` (the daemon stops with `{:line_too_long, stream, bytes}`). " <>
       "Default: `{65_536, :split}`."},
    {:ready, [:daemon], nil, :ready,
     "What must be so before `start_link/1` returns: `{:output, text_or_regex}` (a line has it), `{:tcp, " <>
       "port}` or `{:tcp, ip, port}` (somebody accepts there; an address as a tuple or as text, by default " <>
       "127.0.0.1), or a function without arguments that is asked again and again until it returns true. " <>
       "Default: nothing, the command runs."},
    {:ready_timeout, [:daemon], 5000, {:integer, 0, @u32_max},
     "Milliseconds from the start of the command until it must be ready. Default: 5000."},
    {:wait_for, [:daemon], nil, {:function, 0},
     "A function without arguments that is called before the command is started, which waits for its return."},
    {:wait_timeout, [:daemon], 30_000, {:integer, 0, @u32_max},
     "Milliseconds that `wait_for:` may take. Default: 30000."},
    {:exit_reason, [:daemon], nil, {:function, 1},
     "A function of the command's exit (`{:exited, code}` or `{:signaled, signal}`): the reason with which the " <>
       "daemon ends then. Default: `:normal` for `{:exited, 0}`, else `{:exit, exit}`."},
    {:flush_timeout, [:daemon], 1000, {:integer, 0, @u32_max},
     "Milliseconds after the command's end in which `on_output:` may deal with the lines that are left. " <>
       "Default: 1000."},
    {:restart, [:daemon], :permanent, {:one_of, [:permanent, :transient, :temporary]},
     "When a supervisor starts it again, for `child_spec/1`. Default: `:permanent`."},
    {:input, @calls, {:per_call, %{process: :pipe}, :null},
     {:per_call, %{process: :input_or_pipe, daemon: :input_or_pipe}, :input},
     "What the command reads on stdin: a binary, iodata, any enumerable of iodata, a function of a sink " <>
       "(a `Collectable` that writes: `fn sink -> Enum.into(pieces, sink) end`), `{:file, path}` (the command " <>
       "reads the file itself; a relative path starts at the BEAM's directory, not at `cd:`), `:null` (/dev/null), or `:pipe` (only `NetRunner.Process` and `NetRunner.Daemon`: you write). " <>
       "Enumerables and functions run in a process of their own (`$callers` names yours), which is ended with " <>
       "the command. Default: `:null`, for `NetRunner.Process` `:pipe`."},
    {:input_buffer, @calls -- [:process], 0, {:integer, 0, 16_777_216},
     "Elements of a lazy `input:` are put together to writes of up to this many bytes; an element waits " <>
       "until there are enough, or the end. Default: 0, each as it comes."},
    {:stdout, @calls, :pipe,
     {:per_call, %{process: {:stdio, [:pipe, :discard]}, daemon: {:stdio, [:pipe, :discard]}},
      {:stdio_or_tee, [:pipe, :discard]}},
     "`:pipe` (read by you), `:discard` (/dev/null), `{:file, path}` or `{:file, path, [:append, mode: " <>
       "0o644]}`: the command writes into the file itself, nothing of it passes through the BEAM. A relative path " <>
       "starts at the BEAM's directory, not at `cd:`. The file is " <>
       "truncated unless `:append` is given, and made with `mode` (default 0o666) less the umask. As in a " <>
       "shell, a FIFO is waited for: the start takes until its other end is opened, `spawn_timeout` at most. " <>
       "`{:tee, path}` or `{:tee, path, opts}` (not `NetRunner.Process` and `NetRunner.Daemon`): read by you, and a copy of it " <>
       "in a file, see `NetRunner.Pipeline`. Default: `:pipe`."},
    {:stderr, @calls, {:per_call, %{daemon: :pipe}, :consume},
     {:per_call,
      %{
        process: {:stdio, [:consume, :capture, :merge, :discard, :inherit, :pipe]},
        daemon: {:stdio, [:consume, :capture, :merge, :discard, :inherit, :pipe]},
        stream: {:stdio, @stderr ++ [:capture]}
      }, {:stdio, @stderr ++ [:capture]}},
     "`:consume` (read away, the last bytes kept for messages), `:capture` (all of it, in the result), " <>
       "`:merge` (into stdout, wherever that goes, order kept), `:tagged` (elements are " <>
       "`{:stdout, bytes}` and `{:stderr, bytes}`; not for `NetRunner.Process` and `NetRunner.Daemon`), `{:tagged, :timestamps}` (they are `{:stdout, bytes, time}` and " <>
       "`{:stderr, bytes, time}`, see `NetRunner.stream!/2`), `:discard` (/dev/null), `:inherit` (the BEAM's own), " <>
       "`{:file, path}` or `{:file, path, opts}` as for `stdout:`, `:pipe` (only `NetRunner.Process`: read it " <>
       "with `read_stderr/3`; and `NetRunner.Daemon`: its lines go to `on_output:`). Default: `:consume`, for " <>
       "`NetRunner.Daemon` `:pipe`."},
    {:stderr_tail_bytes, @calls, 8192, {:integer, 0, 1_048_576},
     "How many last bytes of a consumed stderr are kept. Default: 8192."},
    {:lines, @read_for_you, nil, :separator,
     "`true`, or a separator (any binary; `<<0>>` for what `find -print0` and `git -z` write): elements are lines without it, " <>
       "the last, partial one included. A captured stderr stays one binary. " <>
       "Default: false, bytes as they come."},
    {:max_line_length, @read_for_you, :infinity, :line_limit,
     "`{bytes, policy}` for lines that are longer: `:error`, `:split` (into pieces of that many bytes) or " <>
       "`:truncate` (the rest is thrown away). Default: none."},
    {:packet, @calls -- [:daemon], nil, :packet,
     "Frames instead of bytes, as ports have them: 1, 2 or 4 is the size of the header before each, its length as a big-endian " <>
       "number. Elements of the output are frames without it. A binary as `input:` is one frame, of " <>
       "anything else that is fed each element is one (iodata; a list is always a list of frames). An output that ends within a frame is an " <>
       "error, `{:frame_truncated, missing_bytes}`. `NetRunner.Process` has `read_frame/2` and `write_frame/3` then. stderr is bytes, as ever. " <>
       "Not with `lines:`, `pty:` and `stderr: :merge`. Default: none, bytes as they come."},
    {:max_frame_size, @calls -- [:daemon], 67_108_864, {:integer, 1, @u32_max},
     "With `packet:`, the most bytes that a frame of the output may have: what announces a longer one " <>
       "is stopped (by `NetRunner.Process` only told), `{:frame_too_large, bytes}`, before any of it is read. Default: 67108864, 64 MiB."},
    {:into, @to_the_end, nil, :collectable,
     "What stdout is collected into: any `Collectable`, or `:iodata` (the chunks in a list, not put together). " <>
       "Default: `\"\"`; with `lines:`, `packet:` or a tagged stderr `[]`."},
    {:timeout, @to_the_end, :infinity, :timeout,
     "Milliseconds, from the call on (but for looking names up, see docs/limits.md), after which the command is " <>
       "stopped: `{:error, :timeout}` from `run/2`, the " <>
       "cause `:timeout` from `exec/2`. Where it had not even started (see `spawn_timeout:`), both give " <>
       "`{:error, :timeout}`. Default: none."},
    {:idle_timeout, @read_for_you, :infinity, :timeout,
     "Milliseconds without any output after which the command is stopped, as by `timeout:` (the cause is " <>
       "`:idle_timeout`; a stream raises a `NetRunner.Error` with `:timeout`). Output on a consumed stderr is " <>
       "output too, but looked at only now and then: a silence may last an eighth longer. Time in which " <>
       "you do not ask for output does not count. Only where stdout or stderr comes here (`:pipe`; `:consume`, `:capture`, " <>
       "`:tagged`). Default: none."},
    {:max_output_size, @to_the_end, :infinity, :limit,
     "Bytes of stdout, and of captured stderr (of both together, where they are tagged), after which `overflow:` says what happens. Default: none."},
    {:overflow, @to_the_end, :kill, {:one_of, [:kill, :head, :tail]},
     "Beyond `max_output_size:`, `:kill` stops the command: `{:error, {:max_output_exceeded, partial}}`, cut to " <>
       "exactly the limit, from `run/2`, the cause `:output_limit` from `exec/2`. `:head` and `:tail` keep " <>
       "that many bytes of the beginning or of the end and let the command finish. Default: `:kill`."},
    {:progress, @read_for_you, nil, :progress,
     "Tells on stderr how far it is: `true`; a bar where that is a terminal (one at a time: two would draw over each other), " <>
       "elsewhere a line every five seconds. Or a function that is given a `t:NetRunner.progress/0` every 250 ms, in a process of its own (`$callers` names yours): " <>
       "while it is busy it is not called, and if it raises, that is logged and it is called no more. In both ways a " <>
       "last time when the call is over, which waits for that, a second at most (a function that is still busy two seconds later " <>
       "is ended). Not for a start that failed. Default: false."},
    {:max_chunk_size, [:stream], 262_144, {:integer, 1, 268_435_456},
     "Upper bound of a stream's element in bytes, but not of a line: with `lines:` that is " <>
       "`max_line_length:`. Default: 262144; one read gives at most 64 KiB."},
    {:exit, [:stream], :raise, {:one_of, [:raise, :element, :ignore]},
     "What a stream does at the command's end: `:raise` a `NetRunner.ExitError` after the last element " <>
       "unless the exit code is in `ok:`, give a last element `{:exit, exit}`, or `:ignore` it. Halting " <>
       "early never raises. Default: `:raise`."},
    {:ok, [:run!, :exec!, :stream], [0], :exit_codes,
     "Exit codes that are no failure. Default: `[0]`."},
    {:drain_timeout, @calls, 1000, {:integer, 0, @u32_max},
     "Milliseconds that background processes may live on after the command itself ended. Default: 1000."},
    {:orphans, @calls, :kill, {:one_of, [:kill, :keep]},
     "What happens to background processes after `drain_timeout`: `:kill`, or `:keep`: they are not waited " <>
       "for and live on, their output read away once nobody reads it, until they end or the BEAM does; " <>
       "where the command is stopped they end with it all the same. Default: `:kill`."},
    {:stop_signal, @calls, NetRunner.Signal.resolve(:sigterm), :signal,
     "The first signal of every stop: time-out, `stop/1`, owner death, BEAM death. Default: `:sigterm`."},
    {:kill_timeout, @calls, 5000, {:integer, 0, @u32_max},
     "Milliseconds between `stop_signal` and SIGKILL. Default: 5000."},
    {:cd, @calls, nil, :path,
     "The command's working directory. A relative executable, and relative paths in `input:`, `stdout:` and " <>
       "`stderr:`, start at the BEAM's all the same. Default: the BEAM's at that moment."},
    {:env, @calls, [], :env,
     "A map or list of `{name, value}` added to the BEAM's environment of that moment; a nil value " <>
       "unsets; `{:replace, env}` is the whole environment."},
    {:pty, @calls, false, :pty,
     "Whether the command gets a terminal: `true`, or a keyword list of `rows:` (24), `cols:` (80), `echo:` (true: " <>
       "what is written to it comes back in its output) and `raw:` (false; true: bytes pass as they are, " <>
       "no echo, no line editing, no Ctrl-C). It is the command's controlling terminal, its stdin (unless `input:` is `:null`, " <>
       "which still is the default, or a file), its stdout (unless that is `:discard` or a file) and its stderr (with `:consume` " <>
       "and `:merge`; with the others that is apart). You read and write it as stdout and stdin. Lines " <>
       "end with `\"\\r\\n\"` there (with `lines: true` each keeps its `\"\\r\"`), unless `raw: true`. A fed `input:` ends with the terminal's end-of-file " <>
       "character, unless `raw: true`. Its waits are by poll. Default: false."},
    {:arg0, @calls, nil, :arg0,
     "What the command is told its own name is (`argv[0]`); the executable is looked up as ever. A script does " <>
       "not see it. Default: the executable as it was given."},
    {:umask, @calls, nil, :umask,
     "The permission bits, 0..0o777, that files made by the command do not get. The files of `stdout:` and " <>
       "`stderr:` are made under the BEAM's. Default: the BEAM's."},
    {:nice, @calls, nil, {:integer, -20, 19},
     "The command's niceness itself, -20 (first served) to 19 (last), not a difference. Below the BEAM's needs a " <>
       "privilege: `{:error, {:nice, posix}}`. Default: the BEAM's."},
    {:oom_score_adj, @calls, nil, {:integer, -1000, 1000},
     "What the out-of-memory killer adds to the command's badness, -1000 (never it) to 1000 (it first), see " <>
       "proc(5). Below the BEAM's needs a privilege: `{:error, {:oom_score_adj, posix}}`. Linux only. Default: the " <>
       "BEAM's."},
    {:rlimits, @calls, %{}, :rlimits,
     "Resource limits, see setrlimit(2): a map or keyword list of `name: limit` or `name: {soft, hard}`, a limit " <>
       "being an integer from 0 on or `:infinity`; one limit is both. Names: " <>
       "#{Enum.map_join(NetRunner.Protocol.rlimits(), ", ", &"`:#{&1}`")}. They hold for each process of the " <>
       "command by itself (`:nproc` for all of its user). A hard limit above the BEAM's needs a privilege: " <>
       "`{:error, {:rlimit, name, posix}}`. Default: the BEAM's."},
    {:user, @calls, nil, :user,
     "The user that the command runs as: a name, or a uid, neither of them root's. It gets that user's group and " <>
       "groups (a uid without a name needs `group:`), in all ids, and no capability and no keyring of the BEAM; that is " <>
       "verified, and anything else is `{:error, {:user, posix}}` with nothing run. The BEAM must be root, or have " <>
       "CAP_SETUID, CAP_SETGID and CAP_KILL; or it names itself. The environment stays: give `env:` a `HOME`, " <>
       "or `{:replace, env}` where it has secrets. `cd:` is entered and the executable executed as that user; " <>
       "the executable is looked up, and files of `input:`, `stdout:` and `stderr:` are opened, as the BEAM's. Linux only. " <>
       "Default: the BEAM's user."},
    {:group, @calls, nil, :group,
     "The command's primary group: a name, or a gid. The supplementary groups stay those of `user:`, or the " <>
       "BEAM's. Default: that of `user:`, or the BEAM's."},
    {:groups, @calls, nil, :groups,
     "The command's supplementary groups, exactly: a list of names and gids, at most 1000, or `[]`. Default: " <>
       "those of `user:`, or the BEAM's."},
    {:no_new_privs, @calls, false, {:one_of, [true, false]},
     "Whether no program that the command executes gains privileges by it: set-user-ID, set-group-ID and file " <>
       "capabilities have no effect. Where that cannot be had: `{:error, {:no_new_privs, posix}}`. Linux only. Default: false."},
    {:cgroup, @calls, nil, :cgroup,
     "A cgroup (version 2) of the command's own: a map or keyword list of `parent:` (required), limits like " <>
       "`memory_max:`, `pids_max:`, `cpu_max:`, and `name:`; see `NetRunner.Cgroup`. The command is in it before it is executed, " <>
       "or does not run. Default: none, it lives where the BEAM does."},
    {:owner, [:process], {:caller}, :pid,
     "The process whose death stops the command. Default: the caller."},
    {:backend, @calls, :auto, {:one_of, [:auto, :poll, :io_uring]},
     "How pipes are waited for. `:io_uring` is a demand: `{:error, {:backend, why}}` where it is refused. " <>
       "Default: `:auto`."},
    {:spawn_timeout, @calls, 5000, {:integer, 1, @u32_max},
     "Milliseconds that a start may take. One that takes longer is ended first, then `{:error, :spawn_timeout}` is " <>
       "given: at most half a second later, unless the zygote is stopped, too. A shorter `timeout:` bounds it, too. Default: 5000."},
    {:gate, @read_for_you, nil, :gate,
     "A `NetRunner.Gate`, its name or its pid: the call waits there for a place before anything is started, and has it until the " <>
       "command is gone. `timeout:` includes that, `spawn_timeout:` and `idle_timeout:` do not. Where too many wait already, " <>
       "`{:error, :queue_full}`. A pipeline is one. Default: none, it starts at once."},
    {:name, [:gate], nil, :name,
     "The name that the gate is registered under: an atom, `{:global, term}` or `{:via, module, term}`. Default: none."},
    {:limit, [:gate], nil, {:integer, 0, @u32_max},
     "How many places it has. Default: as many as there are schedulers (`System.schedulers_online/0`)."},
    {:max_queue, [:gate], 10_000, {:integer, 0, @u32_max},
     "How many may wait for one. Default: 10000."},
    {:iterations, [:top], :infinity, :count,
     "How many tables are written. Default: `:infinity`, until Enter is pressed."},
    {:interval, [:top], 1000, {:integer, 100, @u32_max},
     "Milliseconds between two tables. Default: 1000."},
    {:sort, [:top], :output, {:one_of, [:output, :input, :cpu, :memory, :uptime]},
     "Which commands come first: those that write or read most, that use most CPU or memory, that " <>
       "run longest. Default: `:output`."},
    {:keep_stdin, [:record], 4096, {:integer, 0, @u32_max},
     "Pieces of stdin of up to this many bytes are kept as they are; of longer ones size and CRC-32. Default: 4096."},
    {:timeout, [:record], :infinity, :timeout,
     "Milliseconds after which the command is stopped. It is recorded as one that would have gone on: its replay does, until it is " <>
       "stopped. Default: none."},
    {:match, [:cassette], nil, {:double, :match},
     "Which commands it is played for, as the first argument of `fake/2`. Default: the command that was recorded, with exactly its " <>
       "arguments."},
    {:times, [:cassette, :redirect], 1, {:double, :times},
     "How often it is played: a number, or `:any`. Default: 1."},
    {:times, [:fake], :any, {:double, :times},
     "How often it is played: a number, or `:any`. Default: `:any`."},
    {:speed, [:cassette, :redirect], :instant, {:double, :speed},
     "`:instant` (all in order, without waiting), `:real` (as it was), or how many times as fast. Default: `:instant`."},
    {:stdin, [:cassette, :redirect], :read, {:one_of, [:read, :check, :ignore]},
     "What becomes of stdin where the recording had some: `:read` (waited for where it was then, whatever it is), `:check` (it must be " <>
       "what it was, or the replay ends with 125 and says so on stderr), `:ignore`. Default: `:read`."},
    {:stdin, [:fake], nil, {:double, :fake_stdin},
     "`:read` (its end is waited for first), or iodata: stdin must be that, or it ends with 125. Default: stdin is not touched."},
    {:delay, [:fake], 0, {:integer, 0, @u32_max}, "Milliseconds before it writes. Default: 0."},
    {:stdout, [:fake], "", {:double, :iodata},
     "What it writes on stdout, iodata. Default: nothing."},
    {:stderr, [:fake], "", {:double, :iodata},
     "What it writes on stderr, behind that. Default: nothing."},
    {:exit, [:fake], {:exited, 0}, {:double, :fake_exit},
     "How it ends: an exit code, `{:exited, code}`, `{:signaled, signal}`, or `:stays`: it runs until it is stopped. Default: 0."},
    {:steps, [:fake], nil, {:double, :steps},
     "Instead of `stdin:`, `delay:`, `stdout:` and `stderr:`, a list of all that it does: `{:stdout, iodata}`, `{:stderr, iodata}`, " <>
       "`{:wait, ms}`, `{:stdin, iodata}` (exactly that must come) and `:stdin_end`. Default: none."},
    {:otherwise, [:redirect], :error, {:double, :otherwise},
     "What becomes of a command that nothing matches: `:error`, `:run` (the program itself is run), or a list of the names of those " <>
       "that may run. Default: `:error`."},
    {:unused, [:redirect], :ignore, {:one_of, [:ignore, :raise]},
     "Whether it is an error in the end if something with a number of times was not played as often. Default: `:ignore`."},
    {:global, [:redirect], false, {:one_of, [true, false]},
     "Whether it is for all processes that have nothing of their own, not only for this one and those that belong to it. For tests " <>
       "that are not `async`. Default: false."},
    {:others, [:replays], :run, {:one_of, [:run, :refuse]},
     "What becomes of the commands of processes that nothing is redirected for: `:run`, or `:refuse` (`{:error, {:not_recorded, " <>
       "message}}`). Default: `:run`."}
  ]

  @doc "`{name, calls, default, type, doc}` of each."
  @spec all :: [{atom, [atom], term, term, String.t()}]
  def all, do: @schema

  @doc "The calls whose own options mean nothing to a command."
  @spec not_of_commands :: [atom]
  def not_of_commands, do: [:top, :gate, :record, :cassette, :fake, :redirect, :replays]

  @doc "The calls that run a command to its end and collect what it says."
  @spec to_the_end :: [atom]
  def to_the_end, do: @to_the_end
end
