defmodule NetRunner.DescriptorsTest do
  # What a command costs in descriptors of the BEAM, and what the sockets among them do.
  use NetRunner.Test.Case

  alias NetRunner.{Nif, Shepherd}

  # open(2), as /proc/<pid>/fdinfo/<fd> writes it
  @nonblock 0o4000
  @cloexec 0o2000000

  defp descriptors do
    for fd <- File.ls!("/proc/self/fd"),
        {:ok, target} <- [File.read_link("/proc/self/fd/#{fd}")],
        into: %{},
        do: {{fd, target}, flags(fd)}
  end

  defp flags(fd) do
    with {:ok, info} <- File.read("/proc/self/fdinfo/#{fd}"),
         [_, octal] <- Regex.run(~r/^flags:\s+([0-7]+)$/m, info),
         do: String.to_integer(octal, 8)
  end

  on_backends "a socket and three pipes, closed on exec; the pipes never block" do
    # Of a guardian that rests, the socket is there.
    Shepherd.dismiss()
    before = descriptors()
    {:ok, p} = NetRunner.Process.start("cat", [], stderr: :pipe, backend: backend)
    # The folder that was listed is gone again.
    made =
      for {fd, flags} when is_integer(flags) <- descriptors(), before[fd] == nil, do: {fd, flags}

    assert length(made) == 4

    for {{_fd, target}, flags} <- made do
      assert Bitwise.band(flags, @cloexec) != 0, "#{target} reaches children"

      if target =~ "pipe",
        do: assert(Bitwise.band(flags, @nonblock) != 0, "#{target} would hold a scheduler")
    end

    NetRunner.Process.stop(p)
  end

  test "no more than 64 starts are on their way at once" do
    # Small requests: 64 of them fit into the socket.
    opts = [env: {:replace, []}, spawn_timeout: 30_000]

    starts =
      with_frozen_zygote(fn ->
        starts = for _ <- 1..80, do: Task.async(fn -> NetRunner.run(["/bin/true"], opts) end)
        eventually("16 wait", fn -> match?(%{in_flight: 64, queued: 16}, Shepherd.info()) end)
        starts
      end)

    assert Enum.all?(Task.await_many(starts, 30_000), &(&1 == {"", 0}))
  end

  test "in a storm of starts few are on their way, and more again if they hang" do
    opts = [env: {:replace, []}, spawn_timeout: 30_000]
    few = System.schedulers_online()
    tell_windows(self())

    starts =
      with_frozen_zygote(fn ->
        starts = for _ <- 1..200, do: Task.async(fn -> NetRunner.run(["/bin/true"], opts) end)
        assert_receive {:window, ^few, %{in_flight: 64, queued: queued}} when queued > 64, 30_000
        assert_receive {:window, 63, _state}, 30_000
        starts
      end)

    assert Enum.all?(Task.await_many(starts, 30_000), &(&1 == {"", 0}))
    eventually("the weather is fine again", fn -> Shepherd.info().in_flight == 0 end)
    assert %{window: 64, queued: 0} = Shepherd.info()
  end

  # Each window that the shepherd opens, however short it stays open.
  defp tell_windows(test) do
    tell = fn
      window, {:noreply, %{window: window}}, _name ->
        window

      _other, {:noreply, %{window: window} = state}, _name ->
        send(
          test,
          {:window, window, %{in_flight: map_size(state.in_flight), queued: state.queued}}
        )

        window

      window, _event, _name ->
        window
    end

    :ok = :sys.install(Shepherd, {tell, Shepherd.info().window})
    on_exit(fn -> :sys.remove(Shepherd, tell) end)
  end

  test "a start whose server is killed makes room for another" do
    with_frozen_zygote(fn ->
      caller = spawn(fn -> NetRunner.run(["/bin/true"]) end)
      eventually("it is on its way", fn -> Shepherd.info().in_flight == 1 end)
      {:monitors, [process: server]} = Process.info(Process.whereis(Shepherd), :monitors)
      assert server != caller
      Process.exit(server, :kill)
      eventually("nobody is", fn -> Shepherd.info().in_flight == 0 end)
    end)

    assert NetRunner.run(["/bin/true"]) == {"", 0}
  end

  test "a control socket's last words are read although our own were not (31a)" do
    {:ok, control, os_pid} = Nif.zygote_start(fixture("leave_unread"), self())
    :ok = Nif.control_send(control, "unread")
    eventually("it has ended", fn -> not running?(os_pid) end)
    assert {:ok, "last words"} = Nif.control_recv(control)
    assert :eof = Nif.control_recv(control)
    :ok = Nif.control_close(control)
    Nif.zygote_reap(os_pid)
  end
end
