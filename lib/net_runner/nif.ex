defmodule NetRunner.Nif do
  @moduledoc false
  # The door to csrc/nif.c: one function per NIF, no logic. Who calls what, on which thread and with
  # what result is written in csrc/io.h, control.h, launch.h, joint.h, users.h, turns.h and backend.h. Everything above this
  # module is Elixir; everything below speaks system calls.

  @on_load :load

  @failure {__MODULE__, :failure}

  # What keeps the library from being loaded is told by NetRunner.Application: whoever calls a module
  # whose on_load failed sees no more than that it is not there.
  def load do
    path = :filename.join(:code.priv_dir(:net_runner), ~c"net_runner")

    with {:error, {_kind, text}} = error <- :erlang.load_nif(path, 0) do
      :persistent_term.put(@failure, to_string(text))
      error
    end
  end

  def build, do: :erlang.nif_error(:not_loaded)

  def read(_handle, _max, _ref), do: :erlang.nif_error(:not_loaded)
  def read_coalescing(_handle, _max, _ref), do: :erlang.nif_error(:not_loaded)
  def read_patiently(_handle, _max, _ref), do: :erlang.nif_error(:not_loaded)
  def write(_handle, _iovec, _ref), do: :erlang.nif_error(:not_loaded)
  def cancel(_handle), do: :erlang.nif_error(:not_loaded)
  def take_written(_handle), do: :erlang.nif_error(:not_loaded)
  def unread(_handle, _bytes), do: :erlang.nif_error(:not_loaded)
  def close(_handle), do: :erlang.nif_error(:not_loaded)
  def finish(_handle), do: :erlang.nif_error(:not_loaded)
  def handle_info(_handle), do: :erlang.nif_error(:not_loaded)
  def terminal_eof(_handle), do: :erlang.nif_error(:not_loaded)
  def terminal_resize(_handle, _rows, _cols), do: :erlang.nif_error(:not_loaded)

  def control_recv(_control), do: :erlang.nif_error(:not_loaded)
  def control_send(control, frame), do: control_send(control, frame, [])
  def control_send(_control, _frame, _handles), do: :erlang.nif_error(:not_loaded)
  def control_kill(_control, _os_pid), do: :erlang.nif_error(:not_loaded)
  def control_give(_control, _owner), do: :erlang.nif_error(:not_loaded)
  def control_close(_control), do: :erlang.nif_error(:not_loaded)

  def zygote_start(_path, _owner), do: :erlang.nif_error(:not_loaded)
  def zygote_reap(_os_pid), do: :erlang.nif_error(:not_loaded)
  def zygote_ended(_os_pid), do: :erlang.nif_error(:not_loaded)

  def spawn(_request, _frame, _strings, _flags, _mode, _owner, _terminal, _joints),
    do: :erlang.nif_error(:not_loaded)

  def spawn_large(_request, _frame, _strings, _flags, _mode, _owner, _terminal, _joints),
    do: :erlang.nif_error(:not_loaded)

  def joint_open(_owner), do: :erlang.nif_error(:not_loaded)
  def joint_close(_joint), do: :erlang.nif_error(:not_loaded)

  def which(_exe, _path), do: :erlang.nif_error(:not_loaded)

  def user(_name_or_uid), do: :erlang.nif_error(:not_loaded)
  def group(_name), do: :erlang.nif_error(:not_loaded)
  def own_groups, do: :erlang.nif_error(:not_loaded)

  def probe(_path), do: :erlang.nif_error(:not_loaded)

  def turns_watch(_pid), do: :erlang.nif_error(:not_loaded)
  def turns_let_in(_n, _too_many), do: :erlang.nif_error(:not_loaded)
  def turns_rest, do: :erlang.nif_error(:not_loaded)
  def turns_spread(_allowed), do: :erlang.nif_error(:not_loaded)
  def turns_moves, do: :erlang.nif_error(:not_loaded)

  def rings_open(_count, _coop_taskrun), do: :erlang.nif_error(:not_loaded)
  def ring_harvest(_ring), do: :erlang.nif_error(:not_loaded)
  def rings_info, do: :erlang.nif_error(:not_loaded)
end
