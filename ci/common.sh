# Sourced by the scripts in ci/: finds the project's root, goes there and makes the surroundings the
# same for everybody. Nothing here reads the caller's HOME, locale or Mix settings.
# shellcheck shell=sh

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
cd "$root" || exit 1

# Elixir wants a UTF-8 locale, Erlang wants a HOME, Mix keeps its own folder there.
export LC_ALL=C.UTF-8
export HOME="$root/_build/ci/home"
export MIX_HOME="$HOME/.mix"
mkdir -p "$MIX_HOME"

unset MIX_ENV MIX_BUILD_PATH MIX_BUILD_ROOT MIX_DEPS_PATH MIX_TARGET MIX_EXS MIX_DEBUG
unset ERL_FLAGS ERL_AFLAGS ERL_ZFLAGS ERL_LIBS ELIXIR_ERL_OPTIONS
unset NET_RUNNER_PORTABLE NET_RUNNER_SANITIZE NET_RUNNER_CMAKE_ARGS NET_RUNNER_TEST_BACKENDS
unset NET_RUNNER_TEST_LEFT_OUT NET_RUNNER_TEST_EVERYTHING
unset NET_RUNNER_TEST_PRELOAD NET_RUNNER_TEST_SPAWNS NET_RUNNER_PROPERTY_SEED NET_RUNNER_PROPERTY_TESTS
unset MAKEFLAGS MFLAGS MAKELEVEL
