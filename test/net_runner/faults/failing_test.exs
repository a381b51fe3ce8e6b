defmodule NetRunner.Faults.FailingTest do
  # The fault matrix (docs/reliability.md) where a call of the NIF fails: the n-th of its kind, of the
  # system, of liburing or of ERTS, for every n that a command's life reaches.
  use NetRunner.Test.FaultCase

  alias NetRunner.Test.Failing

  # A guardian that cannot be heard is let go of, and ends its family: its pipes end with it. A terminal's size
  # is `:closed` then, where the server has heard of it already.
  @lost [:guardian_lost, :shepherd_lost, :eof, :no_match, :epipe, :not_running, :closed]

  # {call, errno, the reasons that a caller may see}
  @everywhere [
    {"enif_alloc_binary", 12, [:enomem]},
    {"enif_realloc_binary", 12, []},
    {"enif_alloc_env", 12, [:enomem]},
    {"enif_alloc_resource", 12, [:enomem]},
    {"enif_monitor_process", 12, [:enomem]},
    {"enif_mutex_create", 12, [:enomem]},
    {"enif_select", 12, @lost},
    {"close", 4, []},
    # The search in PATH goes on, and remembers.
    {"faccessat", 13, [:eacces]},
    {"fcntl", 22, [:einval, {:pty, :einval}]},
    # More room is tried.
    {"getgrouplist", 0, []},
    {"getgrnam_r", 4, []},
    {"getgrnam_r", 5, :looked_up},
    {"getgroups", 1, :looked_up},
    {"getpwnam_r", 4, []},
    {"getpwnam_r", 5, :looked_up},
    {"getpwuid_r", 34, []},
    {"getpwuid_r", 24, :looked_up},
    {"malloc", 12, [:enomem]},
    {"memfd_create", 12, [:enomem]},
    {"memfd_create", 23, [:enfile]},
    {"grantpt", 13, [{:pty, :eacces}]},
    # The slave can be opened by its name, too; the size can not be had then.
    {"ioctl", 25, [{:pty, :enotty}, :enotty]},
    {"ioctl,ptsname_r", 25, [{:pty, :enotty}, :enotty]},
    {"open", 24, [:emfile]},
    {"open", 23, [:enfile]},
    {"pipe2", 24, [:emfile]},
    {"pipe2", 23, [:enfile]},
    {"poll", 4, []},
    {"posix_openpt", 28, [{:pty, :enospc}]},
    {"posix_openpt", 23, [{:pty, :enfile}]},
    {"read", 4, []},
    # For a terminal that is the end.
    {"read", 5, [:eio, :no_match]},
    {"realloc", 12, :looked_up},
    {"recv", 4, []},
    {"recv", 12, @lost},
    {"sendmsg", 4, []},
    {"sendmsg", 11, []},
    {"sendmsg", 105, [:enobufs]},
    {"sendmsg", 12, [:enomem]},
    # A socket that is to be closed, and will be.
    {"shutdown", 107, []},
    {"socketpair", 24, [:emfile]},
    {"socketpair", 23, [:enfile]},
    {"stat", 13, [:eacces]},
    {"tcgetattr", 12, [{:pty, :enomem}, :enomem]},
    {"tcsetattr", 12, [{:pty, :enomem}]},
    {"unlockpt", 12, [{:pty, :enomem}]},
    {"write", 4, []},
    {"write", 12, [:enomem]},
    {"writev", 4, []},
    {"writev", 5, [:eio]}
  ]

  @on_poll [{"enif_select_x", 12, [:enomem]}]

  @on_rings [
    {"eventfd_read", 11, []},
    {"io_uring_submit", 11, []}
  ]

  @moduletag :failing
  @moduletag timeout: 1_000_000

  describe "the n-th call of the NIF fails (18)" do
    # Thousands of lives, most of the time waiting: the backends at the same time.
    test "an error or the right result, and all is as before, on each backend" do
      beams =
        for backend <- NetRunner.Test.Backends.expected() do
          faults = @everywhere ++ if backend == :poll, do: @on_poll, else: @on_rings

          beam =
            Failing.other_beam("""
            NetRunner.Test.Failing.each_until_clean!(#{inspect(faults, limit: :infinity)}, #{inspect(backend)})
            IO.puts("clean")
            Process.sleep(:infinity)
            """)

          {beam, faults}
        end

      for {beam, faults} <- beams do
        for {call, errno, _reasons} <- faults do
          assert reached(beam, "#{call} #{errno}: ") > 0, "#{call} was never called"
        end

        OtherBeam.await_line(beam, "clean", 30_000)
      end
    end
  end

  # {call, errno} of which the start of NetRunner makes at least one. All of them fail. The last three are
  # the zygote's; rings are made without them, and only once.
  @of_the_start [
    {"calloc", 12},
    {"enif_alloc_resource", 12},
    {"eventfd", 24},
    {"fcntl", 22},
    {"io_uring_get_events", 5},
    {"io_uring_queue_init_params", 12},
    {"io_uring_register_eventfd", 12},
    {"io_uring_submit", 5},
    {"madvise", 12},
    {"mmap", 12},
    {"pipe2", 24},
    {"poll", 12},
    {"posix_spawn", 11},
    {"posix_spawn_file_actions_adddup2", 12},
    {"posix_spawn_file_actions_init", 12},
    {"posix_spawnattr_init", 12},
    {"pthread_mutex_init", 12},
    {"read", 5},
    {"enif_monitor_process", 12},
    {"enif_mutex_create", 12},
    {"socketpair", 24}
  ]

  # Armed by tests of their own, below.
  @elsewhere ["enif_init_resource_type", "io_uring_register_buffers"]

  # What no test lets fail, and why.
  @exempt [
    {~w(memchr memcmp memcpy memmove memset snprintf strerrorname_np strlen strtol cfmakeraw bcmp),
     "they ask nobody for anything"},
    {~w(sigemptyset sigfillset posix_spawnattr_setflags posix_spawnattr_setsigdefault
        posix_spawnattr_setsigmask posix_spawn_file_actions_destroy posix_spawnattr_destroy),
     "they write what is on our stack"},
    {~w(getegid getpid free pthread_mutex_destroy pthread_mutex_lock pthread_mutex_unlock),
     "they cannot fail"},
    {~w(clock_gettime), "the monotonic clock is always there"},
    {~w(munmap io_uring_queue_exit io_uring_unregister_buffers io_uring_unregister_eventfd),
     "the end of a ring: there would be nothing to do about it, and a BEAM's rings live as long as it does"},
    {~w(io_uring_ring_dontfork),
     "madvise(2) of what was mapped a moment ago, which needs nothing"},
    {~w(eventfd_write), "it fails only where the eventfd is full, and so readable already"},
    {~w(__io_uring_get_cqe), "it looks at memory; what it may call is io_uring_get_events"},
    {~w(reallocarray), "the table of a ring grows once for many lives: test_ring.c lets it fail"},
    {~w(sched_getaffinity sched_getcpu sched_setaffinity),
     "a crowd's, whose schedulers happen to share a processor: test_processors.c and test_spread.c let them fail, " <>
       "spread_test.exs refuses them to a whole BEAM"},
    {~w(waitpid), "with WNOHANG, and for a child of ours, it cannot"},
    {~w(waitid), "the same, and ECHILD is an answer: the child has ended"},
    {~w(syscall),
     "pidfd_open and pidfd_send_signal of nr_os_kill_peer: a life in which a guardian is frozen takes " <>
       "seconds; leg fallbacks of ci/test refuses pidfd_open to a whole BEAM"}
  ]

  # Of ERTS: types are asked, terms are built (without memory ERTS itself ends), locks and counts; a monitor that is given up is there, or
  # has been told.
  @exempt_of_erts ~r/^enif_(clear|compare|consume|demonitor|free|get|inspect|is|keep|make|monotonic|mutex_(destroy|lock|unlock)|release|self|send|thread)/

  test "each call that the NIF makes fails in a test here, or says why it cannot (18)" do
    nif = Application.app_dir(:net_runner, ["priv", "net_runner.so"])
    # Of binutils, which gcc brings.
    {symbols, 0} = System.cmd("nm", ["-D", "-u", nif])

    made =
      for line <- String.split(symbols, "\n", trim: true),
          ["U", symbol] <- [String.split(line)],
          do: symbol |> String.split("@") |> hd()

    faults = @everywhere ++ @on_poll ++ @on_rings ++ @of_the_start
    armed = Enum.flat_map(faults, &String.split(elem(&1, 0), ",")) ++ @elsewhere
    exempt = Enum.flat_map(@exempt, &elem(&1, 0))

    # The compiler's own, a sanitizer's among them, but for liburing's.
    ours = Enum.reject(made, &(&1 =~ ~r/^_(?!_io_uring)/ or &1 =~ @exempt_of_erts))
    assert Enum.uniq(ours -- (armed ++ exempt)) -- armed -- exempt == []
    assert Enum.filter(exempt, &(&1 in armed)) == []
    assert length(ours) > 50
  end

  describe "calls fail while NetRunner starts (18)" do
    @tag :io_uring
    test "it starts all the same, on poll, and has a zygote once there can be one" do
      {launcher, ebin, page} = Failing.app()
      # No ring must be made before the first fault: they are made once.
      Failing.arm(page, "calloc", 1, 0xFFFF_FFFF, 12)

      beam =
        OtherBeam.start(
          """
          NetRunner.Test.Failing.each_at_the_start!(#{inspect(@of_the_start)})
          IO.puts("up")
          Process.sleep(:infinity)
          """,
          launcher,
          ebin,
          120_000
        )

      for {call, errno} <- @of_the_start do
        assert reached(beam, "#{call} #{errno}: ") > 0, "#{call} was never called"
      end
    end

    for {name, errno} <- [{"EPERM", 1}, {"ENOMEM", 12}] do
      @tag :io_uring
      test "where buffers cannot be registered (#{name}), rings work unregistered, and it says so (33)" do
        {launcher, ebin, page} = Failing.app()
        Failing.arm(page, "io_uring_register_buffers", 1, 0xFFFF_FFFF, unquote(errno))

        beam =
          OtherBeam.start(
            """
            IO.inspect(NetRunner.backend() |> Map.take([:data, :registered_buffers]) |> Enum.sort())
            for backend <- [:io_uring, :auto], do: :ok = NetRunner.Test.WholePath.check!(backend)
            IO.puts("up")
            Process.sleep(:infinity)
            """,
            launcher,
            ebin
          )

        assert OtherBeam.read_line(beam) == "[data: :io_uring, registered_buffers: false]"
        assert Failing.failed(page) > 0
      end
    end

    @tag :io_uring
    test "where only one ring can be made, all schedulers share it" do
      {launcher, ebin, page} = Failing.app()
      Failing.arm(page, "io_uring_queue_init_params", 2, 0xFFFF_FFFF, 12)

      beam =
        OtherBeam.start(
          """
          NetRunner.Test.Failing.disarm(NetRunner.Test.Failing.page())
          IO.puts("rings \#{NetRunner.Nif.rings_info().rings}")
          :ok = NetRunner.Test.WholePath.check!(:io_uring)
          IO.puts("up")
          Process.sleep(:infinity)
          """,
          launcher,
          ebin,
          60_000
        )

      assert OtherBeam.read_line(beam) == "rings 1"
    end

    for n <- 1..3 do
      test "without its resource type no. #{n} the library is not loaded, and says so" do
        {[exe | args], ebin, page} = Failing.app()
        Failing.arm(page, "enif_init_resource_type", unquote(n), unquote(n), 12)
        elixir = [System.find_executable("elixir") | OtherBeam.elixir_args("", ebin)]

        {output, status} =
          System.cmd(exe, args ++ elixir, env: OtherBeam.preload(), stderr_to_stdout: true)

        assert status == 1
        assert output =~ "{:nif, \"Library load-call unsuccessful"
        assert Failing.failed(page) == 1
      end
    end
  end

  # Lines of the log come between.
  defp reached(beam, name) do
    line = OtherBeam.read_line(beam, 250_000)

    if String.starts_with?(line, name),
      do: line |> String.replace_prefix(name, "") |> String.to_integer(),
      else: reached(beam, name)
  end
end
