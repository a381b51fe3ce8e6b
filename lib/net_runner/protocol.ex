defmodule NetRunner.Protocol do
  @moduledoc false
  # The Elixir side of the wire format: pure functions between terms and frames. The source of the
  # format is shepherd/protocol.h; the golden frames in test/wire/ hold both sides to it.
  #
  # Towards the BEAM: hello, rejected, started, failed, usage, exited, unkillable, killed (decode/1).
  # From the BEAM: spawn, escalate, kill, stop, hold.

  import Bitwise

  @magic 0x524E
  @version 3

  @hello 1
  @spawn 2
  @rejected 3
  @escalate 4
  @started 5
  @failed 6
  @exited 7
  @unkillable 8
  @kill 9
  @killed 10
  @stop 11
  @hold 12
  @usage 13

  @stdin 0x01
  @stdout 0x02
  @stderr 0x04
  @cwd 0x08
  @strings 0x10
  @merge 0x20
  @keep 0x40
  @stdin_file 0x80
  @stdout_file 0x100
  @stderr_file 0x200
  @stdout_append 0x400
  @stderr_append 0x800
  @pty 0x1000
  @cgroup 0x2000
  @rest 0x4000

  # NR_LAUNCH_STDERR_OURS, for the NIF only.
  @stderr_ours 0x8000_0000
  # NR_LAUNCH_RESTS, likewise.
  @rests 0x4000_0000

  # NR_WIRE_INLINE_MAX
  @inline_max 64 * 1024

  # NR_WIRE_STRINGS_MAX, above what any kernel takes for argv and env.
  @strings_max 16 * 1024 * 1024

  @features subreaper: 1, pidfd: 2, children: 4

  @type start :: %{
          required(:exe) => binary,
          required(:cd) => binary,
          required(:argv) => [binary, ...],
          required(:env) => NetRunner.Environment.block(),
          required(:stop_signal) => 1..64,
          required(:kill_timeout) => non_neg_integer,
          required(:drain_timeout) => non_neg_integer,
          required(:stdin) => :null | :pipe | joint | {:file, path :: binary},
          required(:stdout) => :null | :pipe | joint | file,
          required(:stderr) => :null | :pipe | :merge | :inherit | joint | file,
          required(:orphans) => :kill | :keep,
          required(:pty) => boolean,
          required(:settings) => [setting],
          required(:cgroup) =>
            nil | {parent :: binary, leaf :: binary, [{file :: binary, content :: iodata}]}
        }

  @typedoc """
  What the child makes of itself before it executes the command. With a terminal (`pty`), `:null` is the terminal:
  `/dev/null` is a file like any other then. A user goes with a group; a group replaces the supplementary groups by
  the members that are given.
  """
  @type setting ::
          {:umask, 0..0o777}
          | {:nice, -20..19}
          | {:oom_score_adj, -1000..1000}
          | {:rlimit, atom, soft :: limit, hard :: limit}
          | {:user, pos_integer}
          | {:group, non_neg_integer}
          | {:member, non_neg_integer}
          | :no_new_privs

  @type limit :: non_neg_integer | :infinity

  @typedoc "A file to be written: opened by the child, relative to the BEAM's directory."
  @type file :: {:file, path :: binary, :truncate | :append, mode :: 0..0o7777}

  @typedoc "A pipe to or from another command (csrc/joint.h), which is passed on like one of ours."
  @type joint :: {:joint, reference}

  @type frame ::
          {:hello, pos_integer, [atom]}
          | {:rejected, non_neg_integer, atom}
          | {:started, pos_integer, pos_integer, :group | :subreaper | :cgroup}
          | {:failed,
             atom | {:rlimit, atom} | {:cgroup, :parent | :leaf | :join | non_neg_integer}, atom}
          | {:usage, map}
          | {:exited, {:exited, 0..255} | {:signaled, 1..64}, map}
          | {:unkillable, non_neg_integer, [pos_integer]}
          | {:killed, non_neg_integer, :ok | {:error, atom}}

  @doc """
  The SPAWN frame of one start: `{frame, strings, flags}`. `strings` is nil, or the binary that has to
  travel in a memfd because it is above 64 KiB. `flags` are the NIF's.
  """
  @spec spawn(non_neg_integer, start) :: {binary, binary | nil, non_neg_integer}
  def spawn(id, start) do
    {count, variables} = start.env

    strings =
      IO.iodata_to_binary([
        start.exe,
        0,
        start.cd,
        0,
        Enum.map(files(start), &[elem(&1, 1), 0]),
        cgroup(start.cgroup),
        Enum.map(start.argv, &[&1, 0]),
        variables
      ])

    size = byte_size(strings)
    apart? = size > @inline_max
    flags = flags(start) ||| if(apart?, do: @strings, else: rest(start))
    ours = if start.stderr == :inherit, do: @stderr_ours, else: 0

    fixed =
      <<flags::little-32, start.stop_signal::little-32, start.kill_timeout::little-32,
        start.drain_timeout::little-32, length(start.argv)::little-32, count::little-32,
        size::little-32, mode(start.stdout)::little-16, mode(start.stderr)::little-16,
        length(start.settings)::little-16, cgroup_files(start.cgroup)::little-16>>

    fixed = [fixed | Enum.map(start.settings, &setting/1)]

    if apart?,
      do: {frame(@spawn, id, fixed), strings, flags ||| ours},
      else: {frame(@spawn, id, [fixed, strings]), nil, flags ||| ours}
  end

  @doc """
  The grace that a guardian that rests must have for this request, which is the one that its zygote knows of; `nil` where only
  a new guardian will do: the zygote has to know the cgroup, too.
  """
  @spec grace({binary, binary | nil, non_neg_integer}) :: non_neg_integer | nil
  def grace({_frame, _apart, flags}) when (flags &&& @cgroup) != 0, do: nil

  def grace({<<_header::binary-size(16), _::64, grace::little-32, _::binary>>, _apart, _flags}),
    do: grace

  @doc "The same request, to such a guardian."
  @spec to_resting({binary, binary | nil, non_neg_integer}) ::
          {binary, binary | nil, non_neg_integer}
  def to_resting({frame, apart, flags}), do: {frame, apart, flags ||| @rests}

  defp cgroup(nil), do: []

  defp cgroup({parent, leaf, files}) do
    [parent, 0, leaf, 0 | Enum.map(files, fn {file, content} -> [file, ?=, content, 0] end)]
  end

  defp cgroup_files(nil), do: 0
  defp cgroup_files({_parent, _leaf, files}), do: length(files)

  defp setting({:umask, mask}), do: setting(1, 0, mask, 0)
  defp setting({:nice, value}), do: setting(2, 0, value, 0)
  defp setting({:oom_score_adj, value}), do: setting(3, 0, value, 0)

  defp setting({:rlimit, name, soft, hard}),
    do: setting(4, rlimit_number(name), limit(soft), limit(hard))

  defp setting({:user, uid}), do: setting(5, 0, uid, 0)
  defp setting({:group, gid}), do: setting(6, 0, gid, 0)
  defp setting({:member, gid}), do: setting(7, 0, gid, 0)
  defp setting(:no_new_privs), do: setting(8, 0, 0, 0)

  defp setting(what, which, value, hard),
    do: <<what::little-32, which::little-32, value::little-64, hard::little-64>>

  defp limit(:infinity), do: 0xFFFF_FFFF_FFFF_FFFF
  defp limit(number), do: number

  # asm-generic/resource.h, in its order.
  @rlimits [:cpu, :fsize, :data, :stack, :core, :rss, :nproc, :nofile, :memlock, :as, :locks] ++
             [:sigpending, :msgqueue, :nice, :rtprio, :rttime]

  @doc "The names of the resource limits, as in setrlimit(2) without `RLIMIT_`."
  @spec rlimits :: [atom]
  def rlimits, do: @rlimits

  for {name, number} <- Enum.with_index(@rlimits),
      do: defp(rlimit_number(unquote(name)), do: unquote(number))

  @doc "The files of a start, in the order of their descriptors."
  @spec files(start) :: [{:file, binary} | file]
  def files(start) do
    for given <- [start.stdin, start.stdout, start.stderr],
        is_tuple(given) and elem(given, 0) == :file,
        do: given
  end

  defp mode({:file, _path, _how, mode}), do: mode
  defp mode(_no_file), do: 0

  @doc "Whether a SPAWN's strings are few enough for the zygote (and for every execve)."
  @spec fits?({binary, binary | nil, non_neg_integer}) :: boolean
  def fits?({_frame, strings, _flags}), do: strings == nil or byte_size(strings) <= @strings_max

  defp flags(start) do
    case start.stdin do
      :pipe -> @stdin
      {:joint, _joint} -> @stdin
      :null -> 0
      {:file, _path} -> @stdin_file
    end |||
      case start.stdout do
        :pipe -> @stdout
        {:joint, _joint} -> @stdout
        :null -> 0
        {:file, _path, :truncate, _mode} -> @stdout_file
        {:file, _path, :append, _mode} -> @stdout_file ||| @stdout_append
      end |||
      case start.stderr do
        given when given in [:pipe, :inherit] -> @stderr
        {:joint, _joint} -> @stderr
        :merge -> @merge
        :null -> 0
        {:file, _path, :truncate, _mode} -> @stderr_file
        {:file, _path, :append, _mode} -> @stderr_file ||| @stderr_append
      end |||
      if(start.orphans == :keep, do: @keep, else: 0) |||
      if(start.pty, do: @pty, else: 0) |||
      if(start.cgroup, do: @cgroup, else: 0) |||
      @cwd
  end

  # Of a guardian that has more to do than that, nothing is kept.
  defp rest(%{orphans: :kill, cgroup: nil}), do: @rest
  defp rest(_start), do: 0

  @spec escalate(non_neg_integer) :: binary
  def escalate(id), do: frame(@escalate, id, "")

  @spec kill(non_neg_integer, 1..64, :leader | :group) :: binary
  def kill(id, signal, scope) do
    frame(@kill, id, <<signal::little-32, if(scope == :group, do: 1, else: 0)::little-32>>)
  end

  @spec stop(non_neg_integer) :: binary
  def stop(grace_ms), do: frame(@stop, 0, <<grace_ms::little-32>>)

  @doc "HOLD: reading ends for the guardian to keep open and to empty; they travel beside the frame."
  @spec hold :: binary
  def hold, do: frame(@hold, 0, "")

  defp frame(type, id, payload) do
    payload = IO.iodata_to_binary(payload)

    <<@magic::little-16, @version, type, byte_size(payload)::little-32, id::little-64,
      payload::binary>>
  end

  @doc "Reads one frame from the zygote or a guardian; `:error` for anything that is none."
  @spec decode(binary) :: {:ok, frame} | :error
  def decode(
        <<@magic::little-16, @version, type, length::little-32, id::little-64,
          payload::binary-size(length)>>
      ),
      do: payload(type, id, payload)

  def decode(_other), do: :error

  defp payload(@hello, _id, <<pid::little-32, features::little-32>>) do
    {:ok, {:hello, pid, for({name, bit} <- @features, (features &&& bit) != 0, do: name)}}
  end

  defp payload(@rejected, id, <<error::little-32>>), do: {:ok, {:rejected, id, posix(error)}}

  defp payload(@started, _id, <<pid::little-32, guardian::little-32, containment::little-32>>)
       when containment in 0..2,
       do: {:ok, {:started, pid, guardian, elem({:group, :subreaper, :cgroup}, containment)}}

  defp payload(@failed, _id, <<stage::little-32, error::little-32, detail::little-32>>) do
    with {:ok, stage} <- stage(stage, detail), do: {:ok, {:failed, stage, posix(error)}}
  end

  defp payload(@usage, _id, usage) when byte_size(usage) == 64 do
    names = [:memory_peak, :oom_kills, :user_us, :system_us, :throttled_us, :pids_peak]
    numbers = for <<n::little-64 <- usage>>, do: if(n != limit(:infinity), do: n)
    {:ok, {:usage, (names ++ [:read_bytes, :written_bytes]) |> Enum.zip(numbers) |> Map.new()}}
  end

  defp payload(
         @exited,
         _id,
         <<how::little-32, value::little-32, orphans::little-32, flags::little-32,
           user_us::little-64, system_us::little-64, max_rss_kb::little-64, minflt::little-64,
           majflt::little-64, nvcsw::little-64, nivcsw::little-64>>
       ) do
    with {:ok, exit} <- how(how, value) do
      {:ok,
       {:exited, exit,
        %{
          orphans_killed: orphans,
          stopped: (flags &&& 1) != 0,
          rests: (flags &&& 2) != 0,
          rusage: %{
            user_us: user_us,
            system_us: system_us,
            max_rss_kb: max_rss_kb,
            minflt: minflt,
            majflt: majflt,
            nvcsw: nvcsw,
            nivcsw: nivcsw
          }
        }}}
    end
  end

  defp payload(@unkillable, _id, <<count::little-32, pids::binary-size(64)>>) do
    named = for <<pid::little-32 <- pids>>, pid != 0, do: pid
    {:ok, {:unkillable, count, Enum.take(named, count)}}
  end

  defp payload(@killed, id, <<0::little-32>>), do: {:ok, {:killed, id, :ok}}

  defp payload(@killed, id, <<error::little-32>>),
    do: {:ok, {:killed, id, {:error, posix(error)}}}

  defp payload(_type, _id, _payload), do: :error

  defp how(1, code) when code in 0..255, do: {:ok, {:exited, code}}
  defp how(2, signal) when signal in 1..64, do: {:ok, {:signaled, signal}}
  defp how(_how, _value), do: :error

  for {number, name} <- [
        {1, :request},
        {2, :fork},
        {3, :setup},
        {4, :stdio},
        {5, :cd},
        {6, :exec},
        {7, :stdin_file},
        {8, :stdout_file},
        {9, :stderr_file},
        {10, :pty},
        {11, :nice},
        {12, :oom_score_adj},
        {14, :user},
        {15, :no_new_privs}
      ] do
    defp stage(unquote(number), 0), do: {:ok, unquote(name)}
  end

  for {name, number} <- Enum.with_index(@rlimits),
      do: defp(stage(13, unquote(number)), do: {:ok, {:rlimit, unquote(name)}})

  defp stage(16, 1), do: {:ok, {:cgroup, :parent}}
  defp stage(16, 2), do: {:ok, {:cgroup, :leaf}}
  defp stage(16, 3), do: {:ok, {:cgroup, :join}}
  # The place of a file in the order.
  defp stage(16, step) when step in 16..31, do: {:ok, {:cgroup, step - 16}}
  defp stage(_number, _detail), do: :error

  # asm-generic/errno{-base,}.h: the numbers that the shepherd's system calls can give.
  @posix %{
    1 => :eperm,
    2 => :enoent,
    3 => :esrch,
    4 => :eintr,
    5 => :eio,
    6 => :enxio,
    7 => :e2big,
    8 => :enoexec,
    9 => :ebadf,
    10 => :echild,
    11 => :eagain,
    12 => :enomem,
    13 => :eacces,
    14 => :efault,
    16 => :ebusy,
    17 => :eexist,
    19 => :enodev,
    20 => :enotdir,
    21 => :eisdir,
    22 => :einval,
    23 => :enfile,
    24 => :emfile,
    26 => :etxtbsy,
    27 => :efbig,
    28 => :enospc,
    30 => :erofs,
    32 => :epipe,
    36 => :enametoolong,
    38 => :enosys,
    40 => :eloop,
    71 => :eproto,
    74 => :ebadmsg,
    75 => :eoverflow,
    80 => :elibbad,
    90 => :emsgsize,
    95 => :eopnotsupp,
    104 => :econnreset,
    105 => :enobufs,
    109 => :etoomanyrefs,
    110 => :etimedout,
    116 => :estale,
    122 => :edquot,
    125 => :ecanceled
  }

  @doc "The POSIX atom of an errno of this system, `:eunknown` for one without a name here."
  @spec posix(non_neg_integer) :: atom
  def posix(number), do: Map.get(@posix, number, :eunknown)
end
