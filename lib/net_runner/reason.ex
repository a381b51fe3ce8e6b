defmodule NetRunner.Reason do
  @moduledoc false
  # The closed list of reasons: why there is no command, or why something could not be done with one. Whatever is known of a
  # reason comes from here: the type and the documentation of NetRunner.Error, and its sentence. A new reason is a
  # row, a clause of text/1, and a change of what users may rely on.

  # Every error that the system has a name for, as strerrorname_np(3) writes it, and what stands for all others.
  @posix ~w(
    eperm enoent esrch eintr eio enxio e2big enoexec ebadf echild eagain enomem eacces efault enotblk ebusy eexist exdev
    enodev enotdir eisdir einval enfile emfile enotty etxtbsy efbig enospc espipe erofs emlink epipe edom erange edeadlk
    enametoolong enolck enosys enotempty eloop enomsg eidrm echrng el2nsync el3hlt el3rst elnrng eunatch enocsi el2hlt
    ebade ebadr exfull enoano ebadrqc ebadslt ebfont enostr enodata etime enosr enonet enopkg eremote enolink eadv
    esrmnt ecomm eproto emultihop edotdot ebadmsg eoverflow enotuniq ebadfd eremchg elibacc elibbad elibscn elibmax
    elibexec eilseq erestart estrpipe eusers enotsock edestaddrreq emsgsize eprototype enoprotoopt eprotonosupport
    esocktnosupport eopnotsupp epfnosupport eafnosupport eaddrinuse eaddrnotavail enetdown enetunreach enetreset
    econnaborted econnreset enobufs eisconn enotconn eshutdown etoomanyrefs etimedout econnrefused ehostdown
    ehostunreach ealready einprogress estale euclean enotnam enavail eisnam eremoteio edquot enomedium emediumtype
    ecanceled enokey ekeyexpired ekeyrevoked ekeyrejected eownerdead enotrecoverable erfkill ehwpoison eunknown
  )a

  # {its type, when it comes, an example, the sentence of the example}
  @reasons [
    {quote(do: {:invalid_cmd, message :: String.t()}), "the command is no list of binaries, ...",
     {:invalid_cmd, "expected a list"}, "invalid command: expected a list"},
    {quote(do: {:invalid_args, message :: String.t()}),
     "an argument is no binary, has a NUL byte, ...",
     {:invalid_args, "argument 1 contains a NUL byte"},
     "invalid arguments: argument 1 contains a NUL byte"},
    {quote(do: {:invalid, option :: atom, message :: String.t()}),
     "an option's value has the right type, and cannot be",
     {:invalid, :cd, "contains a NUL byte"}, "invalid :cd: contains a NUL byte"},
    {quote(do: posix), "starting, reading, writing or a signal failed: the system's own reason",
     :enoent, "no such file or directory (enoent)"},
    {quote(do: {:cd, posix}), "start: `cd:`", {:cd, :enoent},
     "cannot change directory: no such file or directory (enoent)"},
    {quote(do: {:file, Path.t(), posix}),
     "start: a file of `input:`, `stdout:` or `stderr:`; later: a tee could not write its copy, or its stdout",
     {:file, "/a b", :enoent}, "cannot open or write '/a b': no such file or directory (enoent)"},
    {quote(do: {:pty, posix}), "start: `pty:`", {:pty, :enospc},
     "cannot have a terminal: no space left on device (enospc)"},
    {quote(do: {:user, posix}), "start: `user:`, `group:` or `groups:`", {:user, :eperm},
     "cannot take on user and groups: not owner (eperm)"},
    {quote(do: {:rlimit, name :: atom, posix}), "start: `rlimits:`", {:rlimit, :nofile, :eperm},
     "cannot set the resource limit nofile: not owner (eperm)"},
    {quote(do: {:nice, posix}), "start: `nice:`", {:nice, :eacces},
     "cannot set nice: permission denied (eacces)"},
    {quote(do: {:oom_score_adj, posix}), "start: `oom_score_adj:`", {:oom_score_adj, :eacces},
     "cannot set oom_score_adj: permission denied (eacces)"},
    {quote(do: {:no_new_privs, posix}), "start: `no_new_privs:`", {:no_new_privs, :enosys},
     "cannot set no_new_privs: function not implemented (enosys)"},
    {quote(do: {:cgroup, step :: atom, posix}),
     "start, and the calls about a cgroup: the steps of `NetRunner.Cgroup`",
     {:cgroup, :memory_max, :eacces}, "cannot set memory.max: permission denied (eacces)"},
    {quote(do: :spawn_timeout), "start: `spawn_timeout:` was over", :spawn_timeout,
     "was not started in time"},
    {quote(do: :queue_full),
     "start: as many wait for a place of `gate:` as may (`NetRunner.Gate`)", :queue_full,
     "was not started: the queue of its gate is full"},
    {quote(do: :no_gate), "start: the gate of `gate:` is not running, or ended meanwhile",
     :no_gate, "was not started: its gate is not running"},
    {quote(do: {:not_recorded, message :: String.t()}),
     "start: in a test, `NetRunner.Test` stands in for commands, and has nothing for this one",
     {:not_recorded, "NetRunner.Test has nothing for it. There is: git log"},
     "was not started: NetRunner.Test has nothing for it. There is: git log"},
    {quote(do: :shepherd_lost), "start: the process that starts commands was killed",
     :shepherd_lost, "the shepherd ended before it could start the command"},
    {quote(do: {:backend, why :: String.t()}), "start: `backend: :io_uring`",
     {:backend, "refused: eperm"}, "the :io_uring backend cannot be used: refused: eperm"},
    {quote(do: :timeout), "a time was over: `timeout:`, `idle_timeout:`, or the call's own",
     :timeout, "timed out"},
    {quote(do: {:timeout, bytes_taken :: non_neg_integer}), "the time of a write was over",
     {:timeout, 17}, "writing timed out after 17 bytes"},
    {quote(do: {:max_output_exceeded, partial :: term}),
     "`max_output_size:`, and what came before", {:max_output_exceeded, "abc"},
     "wrote more than max_output_size: allows"},
    {quote(do: {:line_too_long, max_bytes :: pos_integer}), "`max_line_length:`",
     {:line_too_long, 80}, "a line has more than 80 bytes"},
    {quote(do: {:frame_too_large, bytes :: pos_integer}),
     "`packet:`: more than `max_frame_size:` was announced, or more was to be written than a header can say",
     {:frame_too_large, 1_000_000_000}, "a frame of 1000000000 bytes is too large"},
    {quote(do: {:frame_truncated, missing_bytes :: pos_integer}),
     "`packet:`: the output ended within a frame, of which at least that much is missing",
     {:frame_truncated, 3}, "its output ended within a frame: 3 bytes or more are missing"},
    {quote(do: :guardian_lost), "somebody killed the command's guardian", :guardian_lost,
     "its guardian was lost, the exit status is not known"},
    {quote(do: {:unkillable, pids :: [pos_integer]}), "SIGKILL does not end these processes",
     {:unkillable, [12, 13]}, "cannot be killed: pid 12, pid 13"},
    {quote(do: :not_running), "a signal after the end", :not_running, "is not running"},
    {quote(do: :closed), "there is no such pipe, or no such `NetRunner.Process`, any more",
     :closed, "there is no such pipe, or no such process, any more"},
    {quote(do: :busy), "another process reads, or writes, this pipe", :busy,
     "another process uses this end already"},
    {quote(do: :no_match), "`NetRunner.Process.await_output/3`", :no_match,
     "the output ended without what was awaited"}
  ]

  @doc "`{type, when it comes, an example, its sentence}` of each."
  @spec all :: [{Macro.t(), String.t(), term, String.t()}]
  def all, do: @reasons

  @doc "The names of the system's errors."
  @spec posix :: [atom]
  def posix, do: @posix

  @doc "The union of the types, for a `@type`; `posix` is one of them."
  @spec type :: Macro.t()
  def type, do: @reasons |> Enum.map(&elem(&1, 0)) |> union()

  @doc "The type of one of these atoms or other types."
  @spec union([Macro.t()]) :: Macro.t()
  def union(types) do
    [last | before] = Enum.reverse(types)
    Enum.reduce(before, last, &{:|, [], [&1, &2]})
  end

  @doc "The list as a table in markdown."
  @spec docs :: String.t()
  def docs do
    rows =
      for {type, whence, _, sentence} <- @reasons,
          do: "| `#{text_of(type)}` | #{whence} | #{sentence} |"

    Enum.join(["| reason | when | as a message, for example |", "|---|---|---|" | rows], "\n")
  end

  @doc "A type as documentation writes it."
  @spec text_of(Macro.t()) :: String.t()
  def text_of(type), do: Macro.to_string(type)

  @doc "The sentence of a reason."
  @spec text(term) :: String.t()
  def text({:invalid_cmd, message}), do: "invalid command: #{message}"
  def text({:invalid_args, message}), do: "invalid arguments: #{message}"
  def text({:invalid, option, message}), do: "invalid #{inspect(option)}: #{message}"
  def text({:cd, posix}), do: "cannot change directory: #{posix_text(posix)}"

  def text({:file, path, posix}),
    do: "cannot open or write #{NetRunner.Quote.list([path])}: #{posix_text(posix)}"

  def text({:pty, posix}), do: "cannot have a terminal: #{posix_text(posix)}"
  def text({:user, posix}), do: "cannot take on user and groups: #{posix_text(posix)}"

  def text({:rlimit, name, posix}),
    do: "cannot set the resource limit #{name}: #{posix_text(posix)}"

  def text({option, posix}) when option in [:nice, :oom_score_adj, :no_new_privs],
    do: "cannot set #{option}: #{posix_text(posix)}"

  def text({:cgroup, step, posix}), do: NetRunner.Cgroup.text(step, posix_text(posix))
  def text(:spawn_timeout), do: "was not started in time"
  def text(:queue_full), do: "was not started: the queue of its gate is full"
  def text(:no_gate), do: "was not started: its gate is not running"
  def text({:not_recorded, message}), do: "was not started: #{message}"
  def text(:shepherd_lost), do: "the shepherd ended before it could start the command"
  def text({:backend, why}), do: "the :io_uring backend cannot be used: #{why}"
  def text(:timeout), do: "timed out"
  def text({:timeout, bytes}), do: "writing timed out after #{bytes} bytes"
  def text({:max_output_exceeded, _partial}), do: "wrote more than max_output_size: allows"
  def text({:line_too_long, max}), do: "a line has more than #{max} bytes"

  def text({:frame_too_large, bytes}), do: "a frame of #{bytes} bytes is too large"

  def text({:frame_truncated, missing}),
    do: "its output ended within a frame: #{missing} bytes or more are missing"

  def text(:guardian_lost), do: "its guardian was lost, the exit status is not known"

  def text({:unkillable, pids}),
    do: "cannot be killed: #{Enum.map_join(pids, ", ", &"pid #{&1}")}"

  def text(:not_running), do: "is not running"
  def text(:closed), do: "there is no such pipe, or no such process, any more"
  def text(:busy), do: "another process uses this end already"
  def text(:no_match), do: "the output ended without what was awaited"
  def text(posix) when posix in @posix, do: posix_text(posix)
  # None of ours. A message must not fail for it.
  def text(other), do: inspect(other)

  defp posix_text(posix) do
    case :file.format_error(posix) do
      ~c"unknown POSIX error" ++ _ -> to_string(posix)
      text -> "#{text} (#{posix})"
    end
  end
end
