NetRunner.Test.Backends.check!()

alias NetRunner.Test.World

pid_namespaces? =
  match?(
    {_, 0},
    System.cmd("sh", ["-c", ~S(exec "$@" 2>/dev/null), "sh"] ++ World.pid_namespace() ++ ["true"])
  )

# What this build or this machine cannot do is left out by its tag, and what takes minutes is left to
# `mix test --only long` (ci/long). The run says how much that was, and why.
portable? = NetRunner.Nif.build() == :portable

left_out =
  for {tag, true, why} <- [
        {:long, true, "only when asked for"},
        {:subreaper, portable?, "the portable build has none"},
        {:pidfd, portable?, "the portable build has none"},
        {:pid_namespace, not pid_namespaces?, "unshare(1) may not make one here"},
        {:script, System.find_executable("script") == nil, "script(1) is not installed"},
        {:descriptors, World.descriptors_max() < 5_000, "ulimit -n allows too few"},
        {:root, System.cmd("id", ["-u"]) != {"0\n", 0}, "these tests run as root only"},
        {:freezer, not match?({:ok, %{access: :read_write}}, File.stat(World.freezer())),
         "#{World.freezer()} is not there, or not ours"}
      ],
      do: {tag, why}

ExUnit.after_suite(fn %{excluded: excluded} ->
  IO.puts("\nLeft out: #{excluded}")
  for {tag, why} <- left_out, do: IO.puts("  #{tag}: #{why}")
end)

ExUnit.start(capture_log: true, exclude: Keyword.keys(left_out))
