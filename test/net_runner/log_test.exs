defmodule NetRunner.LogTest do
  # What NetRunner itself writes into Logger, and the metadata of its lines.
  use NetRunner.Test.Case
  doctest NetRunner.Log

  alias NetRunner.Process, as: P

  @moduletag :capture_log

  # A handler of :logger.
  def log(event, %{config: pid}), do: send(pid, {:logged, event})

  setup do
    :ok = :logger.add_handler(__MODULE__, __MODULE__, %{config: self()})
    on_exit(fn -> :logger.remove_handler(__MODULE__) end)
  end

  defp await_line(pattern) do
    assert_receive {:logged, %{msg: {:string, text}} = event}, 5_000
    text = IO.chardata_to_string(text)
    if text =~ pattern, do: {text, event.meta}, else: await_line(pattern)
  end

  defp kill_guardian(p) do
    {_, 0} = System.cmd("kill", ["-KILL", "#{:sys.get_state(p).guardian_pid}"])
    assert P.await_exit(p) == {:error, :guardian_lost}
    P.stop(p)
  end

  test "a lost guardian: the command's name and pid" do
    {:ok, p} = P.start("/bin/sleep", ["60"])
    {:ok, os_pid} = P.os_pid(p)
    kill_guardian(p)
    {text, meta} = await_line("lost guardian")
    assert text =~ "of /bin/sleep (pid #{os_pid})"
    assert %{domain: [:elixir, :net_runner], command: "sleep", os_pid: ^os_pid, pid: ^p} = meta
  end

  test "a command whose name is no text is shown as Elixir shows it" do
    path = tmp_path("x" <> <<255>>)
    File.cp!(System.find_executable("sleep"), path)
    {:ok, p} = P.start(path, ["60"])
    kill_guardian(p)
    {text, meta} = await_line("lost guardian")
    assert String.valid?(text)
    assert meta.command == "<<120, 255>>"
  end

  test "a zygote that ended: its pid" do
    zygote = NetRunner.Shepherd.info().os_pid
    {_, 0} = System.cmd("kill", ["-KILL", "#{zygote}"])
    {_text, meta} = await_line("zygote ended")
    assert %{domain: [:elixir, :net_runner], os_pid: ^zygote} = meta
    refute Map.has_key?(meta, :command)
    assert NetRunner.run(["echo", "x"]) == {"x\n", 0}
  end

  test "a ring that broke: no process" do
    # The line is written by whoever finds out; what it finds is put back.
    info = NetRunner.backend() |> Map.delete(:containment)
    {:ok, auto} = NetRunner.Backend.mode(:auto)

    on_exit(fn ->
      :persistent_term.put({NetRunner.Backend, :info}, info)
      :persistent_term.put({NetRunner.Backend, :auto}, auto)
    end)

    NetRunner.Backend.ring_broke(:eperm)
    {_text, meta} = await_line("poll for pipe I/O from now on")
    assert %{domain: [:elixir, :net_runner]} = meta
    refute Map.has_key?(meta, :os_pid)
  end

  test "a command's server has its own, which OTP's report of a crash has, too" do
    {:ok, p} = P.start("cat")
    {:ok, os_pid} = P.os_pid(p)
    GenServer.cast(p, :nonsense)
    assert_receive {:logged, %{level: :error, meta: %{pid: ^p} = meta}}, 10_000
    assert %{command: "cat", os_pid: ^os_pid} = meta
  end

  test "a command's server sets it for itself only" do
    {:ok, p} = P.start("cat")
    {:ok, os_pid} = P.os_pid(p)
    {:dictionary, dictionary} = Process.info(p, :dictionary)

    assert dictionary[:"$logger_metadata$"] ==
             %{command: "cat", os_pid: os_pid}

    P.stop(p)
    assert Logger.metadata() == []
  end
end
