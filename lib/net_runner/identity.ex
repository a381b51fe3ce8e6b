defmodule NetRunner.Identity do
  @moduledoc false
  # Who a command runs as: the options user:, group: and groups: become numbers, here in the BEAM, before
  # anything starts (NetRunner.Settings asks). The shepherd knows numbers only, and NSS must not run between fork
  # and exec. What cannot be resolved is an error: never another identity than was asked for.

  alias NetRunner.{Nif, Protocol}

  # -1 means "leave it as it is" to the calls that change ids.
  @id_max 0xFFFF_FFFE
  # With all other settings, fewer than NR_SETTINGS_MAX.
  @groups_max 1000

  @type error :: {:error, {:invalid, :user | :group | :groups, String.t()}}

  @doc "The settings that change who the command is; none without one of these options."
  @spec resolve(NetRunner.Options.t()) :: {:ok, [Protocol.setting()]} | error
  def resolve(%{user: nil, group: nil, groups: nil}), do: {:ok, []}

  def resolve(%{user: user, group: group, groups: groups}) do
    with {:ok, found} <- user(user),
         {:ok, gid} <- given(group, &gid(:group, &1)),
         {:ok, members} <- given(groups, &gids/1),
         {:ok, gid} <- primary(gid, found, user),
         {:ok, members} <- few_enough(members || found.groups) do
      uid = if found.uid, do: [{:user, found.uid}], else: []
      {:ok, uid ++ [{:group, gid} | Enum.map(members, &{:member, &1})]}
    end
  end

  # What a user brings: uid, primary group, groups. Nobody's is what the BEAM has.
  defp user(nil) do
    case Nif.own_groups() do
      {:ok, {gid, groups}} -> {:ok, %{uid: nil, gid: gid, groups: groups}}
      {:error, posix} -> invalid(:groups, "the BEAM's own cannot be read: #{posix}")
    end
  end

  defp user(uid) when is_integer(uid) and uid not in 1..@id_max, do: bad_uid(uid)

  defp user(user) do
    case look_up(:user, user, &Nif.user/1) do
      {:ok, {uid, _gid, _groups}} when uid not in 1..@id_max ->
        bad_uid(uid)

      {:ok, {uid, gid, groups}} ->
        {:ok, %{uid: uid, gid: gid, groups: groups}}

      nil when is_integer(user) ->
        {:ok, %{uid: user, gid: nil, groups: []}}

      nil ->
        invalid(:user, "there is no user #{shown(user)}")

      error ->
        error
    end
  end

  defp bad_uid(0), do: invalid(:user, "is user 0: leave user: out to stay root")
  defp bad_uid(uid), do: invalid(:user, "#{uid} is no user id: they are 1..#{@id_max}")

  defp primary(nil, %{gid: nil}, user),
    do: invalid(:user, "user #{user} is in no database, which would tell its group: give group:")

  defp primary(nil, %{gid: gid}, _user) when gid > @id_max,
    do: invalid(:user, "its group #{gid} is no group id")

  defp primary(nil, %{gid: gid}, _user), do: {:ok, gid}
  defp primary(gid, _found, _user), do: {:ok, gid}

  defp gids(groups) do
    Enum.reduce_while(groups, {:ok, []}, fn group, {:ok, gids} ->
      case gid(:groups, group) do
        {:ok, gid} -> {:cont, {:ok, [gid | gids]}}
        error -> {:halt, error}
      end
    end)
  end

  defp gid(_option, gid) when is_integer(gid) and gid in 0..@id_max, do: {:ok, gid}

  defp gid(option, gid) when is_integer(gid),
    do: invalid(option, "#{gid} is no group id: they are 0..#{@id_max}")

  defp gid(option, name) do
    case look_up(option, name, &Nif.group/1) do
      {:ok, gid} when gid in 0..@id_max -> {:ok, gid}
      {:ok, gid} -> invalid(option, "#{gid} is no group id: they are 0..#{@id_max}")
      nil -> invalid(option, "there is no group #{shown(name)}")
      error -> error
    end
  end

  defp few_enough(gids) do
    gids = gids |> Enum.uniq() |> Enum.sort()

    if length(gids) <= @groups_max,
      do: {:ok, gids},
      else: invalid(:groups, "#{length(gids)} groups, and there can be #{@groups_max}")
  end

  defp given(nil, _resolve), do: {:ok, nil}
  defp given(value, resolve), do: resolve.(value)

  # A name longer than any is nobody's.
  defp look_up(option, name, ask) do
    cond do
      is_binary(name) and String.contains?(name, <<0>>) ->
        invalid(option, "NUL in the name #{shown(name)}")

      is_binary(name) and byte_size(name) >= 1024 ->
        nil

      true ->
        with {:error, posix} <- ask.(name),
             do: invalid(option, "#{shown(name)} cannot be looked up: #{posix}")
    end
  end

  defp shown(name), do: inspect(name, printable_limit: 100)

  defp invalid(option, message), do: {:error, {:invalid, option, message}}
end
