defmodule NetRunner.Settings do
  @moduledoc false
  # What a command's process makes of itself before it executes: from options to the settings of its order.
  # shepherd/settings.c applies them, in an order of its own.

  alias NetRunner.{Identity, Protocol}

  @doc "The settings of one start; names of users and groups are looked up, which may take a while."
  @spec resolve(NetRunner.Options.t()) :: {:ok, [Protocol.setting()]} | Identity.error()
  def resolve(options) do
    with {:ok, identity} <- Identity.resolve(options) do
      numbers = for name <- [:umask, :nice, :oom_score_adj], n = options[name], do: {name, n}
      rlimits = for {name, {soft, hard}} <- options.rlimits, do: {:rlimit, name, soft, hard}
      no_new_privs = if options.no_new_privs, do: [:no_new_privs], else: []
      {:ok, numbers ++ rlimits ++ identity ++ no_new_privs}
    end
  end
end
