NetRunner.Test.Backends.check!()

alias NetRunner.Test.World

works? = fn launcher ->
  match?(
    {_, 0},
    System.cmd("sh", ["-c", ~S(exec "$@" 2>/dev/null), "sh"] ++ launcher ++ ["true"])
  )
end

pid_namespaces? = works?.(World.pid_namespace())
mount_namespaces? = works?.(World.mount_namespace(["mount -t tmpfs tmpfs /tmp"]))

# What this build or this machine cannot do is left out by its tag, and what takes minutes is left to
# `mix test --only long` (ci/long). The run says how much that was, and why.
portable? = NetRunner.Nif.build() == :portable
# The zygote says what it was given: wait until there is one.
{_, 0} = NetRunner.run(["true"])
features = NetRunner.Shepherd.info().features
nowait_pipes? = match?(%{nowait_pipes: true}, NetRunner.Nif.rings_info())
no_new_privs? = File.read!("/proc/self/status") =~ ~r/^NoNewPrivs:\s*1$/m

left_out =
  for {tag, true, why} <- [
        {:long, true, "only when asked for"},
        {:subreaper, portable?, "the portable build has none"},
        {:run_as, portable?, "the portable build cannot drop capabilities, and so refuses user:"},
        {:privileges, portable?, "the portable build knows no no_new_privs and no oom_score_adj"},
        {:pidfd, :pidfd not in features, "pidfd_open(2) is refused here, or not in this build"},
        {:pid_namespace, not pid_namespaces?, "unshare(1) may not make one here"},
        {:mount_namespace, not mount_namespaces?, "unshare(1) or mount(8) may not make one here"},
        {:script, System.find_executable("script") == nil, "script(1) is not installed"},
        {:perl, System.find_executable("perl") == nil, "perl is not installed"},
        {:redis, World.server("redis-server") == nil, "redis-server is not installed (ci/setup)"},
        {:nginx, World.server("nginx") == nil, "nginx is not installed (ci/setup)"},
        {:vim, System.find_executable("vim.tiny") == nil and System.find_executable("vim") == nil,
         "vim is not installed (ci/setup)"},
        {:descriptors, World.descriptors_max() < 5_000, "ulimit -n allows too few"},
        {:io_uring, NetRunner.backend().data != :io_uring, "it is not to be had here anyhow"},
        {:nowait_pipes, NetRunner.backend().data == :io_uring and not nowait_pipes?,
         "rings move no bytes: pipes refuse RWF_NOWAIT before Linux 6.5"},
        {:failing, portable? or System.get_env("NET_RUNNER_TEST_SPAWNS") != nil,
         "the leg failing of ci/test lets calls fail, the other legs need not"},
        {:set_uid, no_new_privs?, "no_new_privs: set-uid programs have no effect"},
        {:root, System.cmd("id", ["-u"]) != {"0\n", 0}, "these tests run as root only"},
        {:cgroup, portable? or World.cgroup_mount() == nil,
         "no cgroup of version 2 that we may write to, or not in this build"},
        {:cgroup_memory, portable? or not World.cgroup_controller?("memory"),
         "version 2's memory controller is not to be had"},
        {:cgroup_pids, portable? or not World.cgroup_controller?("pids"),
         "version 2's pids controller is not to be had"},
        {:cgroup_cpu, portable? or not World.cgroup_controller?("cpu"),
         "version 2's cpu controller is not to be had"},
        {:freezer, not match?({:ok, %{access: :read_write}}, File.stat(World.freezer())),
         "#{World.freezer()} is not there, or not ours"}
      ],
      do: {tag, why}

# ci/test says what it expects to be left out. Anything else would be a skip that nobody sees.
with expected when expected != nil <- System.get_env("NET_RUNNER_TEST_LEFT_OUT"),
     unexpected =
       Enum.reject(left_out, fn {tag, _why} -> to_string(tag) in String.split(expected) end),
     true <- unexpected != [] do
  for {tag, why} <- unexpected,
      do: IO.puts(:stderr, "Nobody expected #{tag} to be left out here: #{why}")

  IO.puts(:stderr, "Where that is right, say so in NET_RUNNER_TEST_LEFT_OUT (CONTRIBUTING.md).")
  System.halt(1)
end

ExUnit.after_suite(fn %{excluded: excluded} ->
  IO.puts("\nLeft out: #{excluded}")
  for {tag, why} <- left_out, do: IO.puts("  #{tag}: #{why}")
end)

# What comes takes as long as a busy machine makes it take; how quickly it has to come, a test says itself.
ExUnit.start(
  capture_log: true,
  assert_receive_timeout: 5_000,
  exclude: Keyword.keys(left_out)
)
