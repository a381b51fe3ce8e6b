# Sourced by ci/test and ci/long: runs legs and says at the end how each of them went. A script defines
# `all`, which calls `leg` for each, and ends with `run_legs "$@"`. Legs run one after the other; a function
# that calls `leg` is a lane, which may run `beside` the legs after it, or be shared out among several, until `join`.
# shellcheck shell=bash

exec </dev/null
work="$root/_build/ci"
results="$work/results_${0##*/}" # ci/long calls ci/test
taken="$work/taken_${0##*/}"
test_build="$root/_build/test/lib/net_runner"
wanted=() lanes=() lane_pids=()

# A thousand commands at once need more descriptors than most machines give by default.
[ "$(ulimit -n)" -ge 8192 ] || ulimit -n 8192 || true

is_wanted() {
    [ ${#wanted[@]} -eq 0 ] || [[ " ${wanted[*]} " == *" $1 "* ]]
}

# leg NAME DOES FUNCTION: runs FUNCTION with `set -e`, keeps what it prints, notes how it ended. A leg is run once:
# in a lane that is shared, by whoever comes to it first.
leg() {
    local name=$1 does=$2 function=$3 begin=$SECONDS status
    is_wanted "$name" && mkdir "$taken/$name" 2>/dev/null || return 0
    printf '\n=== %s: %s\n\n' "$name" "$does"
    (
        trap 'times >"$work/$name.times"' EXIT # in a pipe it would be of another shell
        set -e
        "$function"
    ) 2>&1 | tee "$work/$name.log"
    status=${PIPESTATUS[0]}
    [ "$status" -eq 0 ] || printf '\n=== %s FAILED (exit %s)\n' "$name" "$status"
    printf '%s %s %s %s\n' "$name" "$status" "$((SECONDS - begin))" "$(cpu_seconds "$work/$name.times")" >>"$results"
}

# cpu_seconds FILE: what `times` wrote there of a shell and its children, added up.
cpu_seconds() {
    awk '{ for (i = 1; i <= 2; i++) { split($i, part, /[ms]/); sum += 60 * part[1] + part[2] } } END { printf "%.0f", sum }' "$1"
}

# beside LANE [NUMBER]: runs it in the background; what it prints is shown by `join`.
beside() {
    "$1" >"$work/lane_$1${2:-}.log" 2>&1 &
    lanes+=("$1${2:-}")
    lane_pids+=($!)
}

# shared LANE COUNT: as many of its legs at once, one of them here. Whoever has done with a leg takes the next, so
# that all end at about the same time, however long a leg takes on this machine: the longest should come first.
shared() {
    local number
    for ((number = 2; number <= $2; number++)); do beside "$1" "$number"; done
    "$1"
}

# For a lane that computes while legs beside it mostly wait.
at_lowest_priority() {
    renice -n 19 -p "$BASHPID" >/dev/null
}

# Waits for all lanes, and shows what they printed.
join() {
    local i
    for i in "${!lanes[@]}"; do
        wait "${lane_pids[$i]}" || true
        cat "$work/lane_${lanes[$i]}.log"
    done
    lanes=() lane_pids=()
}

# The tools' own last words about how much they ran.
said() {
    grep -aoE '^([0-9]+ doctests?, )?([0-9]+ propert(y|ies), )?[0-9]+ tests?, [0-9]+ failures?.*|[0-9]+% tests passed, [0-9]+ tests? failed out of [0-9]+|^[0-9]+%: Checks: [0-9]+, Failures: [0-9]+, Errors: [0-9]+|^[0-9]+ passed, [0-9]+ failed.*|^chaos: seed .*' \
        "$1" | paste -sd ';' | sed 's/;/; /g'
}

# Docker's default seccomp profile refuses io_uring, and so do some kernels' settings. The tests
# themselves fail where a backend is missing that they were told to expect.
expected_backends() {
    local probe="$test_build/priv/ring_probe" answer
    if [ -n "$backends" ]; then
        echo "$backends"
    elif [ ! -x "$probe" ] || answer=$("$probe"); then
        echo io_uring,poll
    else
        echo "0 passed, 0 failed on io_uring: this machine refuses it (${answer:-the probe was killed})" >&2
        echo poll
    fi
}

# --- suites ------------------------------------------------------------------------------------

# The legs `one` and `other` run ten thousand commands in a row, and the properties with as many values as their
# tests say; the other legs need not.
few_spawns() {
    export NET_RUNNER_TEST_SPAWNS=1000 NET_RUNNER_PROPERTY_TESTS=10
}

# may_leave_out TAG...: what `mix test` may leave out in this leg, besides what this machine cannot do. What
# can be known of the machine without NetRunner is looked at here, so that it is no excuse for NetRunner.
may_leave_out() {
    local tags=(long "$@" "${left_out:-}") user=()
    if [ "$(id -u)" -ne 0 ]; then
        tags+=(root redis nginx script vim) # and nobody could install what is missing
        user=(--user --map-root-user)
    fi
    [ "$(ulimit -n)" -ge 5000 ] || tags+=(descriptors)
    [ -w /sys/fs/cgroup/freezer ] || tags+=(freezer)
    mapfile -t -O "${#tags[@]}" tags < <(cgroup_tags)
    ! grep -qE '^NoNewPrivs:\s*1$' /proc/self/status || tags+=(set_uid)
    unshare --pid --fork --kill-child --mount-proc "${user[@]}" true 2>/dev/null || tags+=(pid_namespace)
    unshare --mount mount -t tmpfs tmpfs /tmp 2>/dev/null || tags+=(mount_namespace)
    [[ ",$NET_RUNNER_TEST_BACKENDS," == *,io_uring,* ]] || tags+=(io_uring)
    printf '%s\n' 6.5 "$(uname -r)" | sort -VC || tags+=(nowait_pipes)
    export NET_RUNNER_TEST_LEFT_OUT="${tags[*]}"
}

# The tags of the tests that need what this machine's cgroup (version 2) does not have.
cgroup_tags() {
    local mount controller
    mount=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)
    [ -n "$mount" ] && [ -w "$mount" ] || echo cgroup
    for controller in memory pids cpu; do
        [ -n "$mount" ] && [ -w "$mount/cgroup.subtree_control" ] &&
            grep -qw "$controller" "$mount/cgroup.controllers" || echo "cgroup_$controller"
    done
}

# limited COMMAND [ARG...]: a suite that hangs must not hang the whole run, and one that leaves temporary files behind has
# failed. Its folder for them is open to others, whom some tests become. Newer Mix keeps its locks there for good.
limited() {
    local status=0 folder left
    folder=$(mktemp -d)
    chmod 1777 "$folder"
    TMPDIR=$folder timeout -k 10 1200 "$@" || status=$?
    left=$(find "$folder" -mindepth 1 -maxdepth 1 ! -name 'mix_*' -printf '%f ')
    rm -rf "$folder"
    [ -z "$left" ] || {
        echo "FAILED: left behind in TMPDIR: $left"
        [ "$status" -ne 0 ] || status=1
    }
    return $status
}

# c_tests_in FOLDER [CTEST_OPTION...]: of CMake's.
c_tests_in() {
    local folder=$1
    shift
    limited ctest --timeout 120 --parallel 2 --test-dir "$folder" --output-on-failure --no-tests=error "$@"
}

# c_tests_of BUILD_PATH: of Mix's.
c_tests_of() {
    c_tests_in "$1/lib/net_runner/cmake"
}

# --- the end -----------------------------------------------------------------------------------

# What a leg says of its failures, once more: logs are long, and cut in the middle where they are kept.
failures() {
    local found
    found=$(grep -aE -A 30 '^ +[0-9]+\) |^ *[0-9]+/[0-9]+ Test .*\*\*\*|^[^ ]+:[0-9]+:[EF]:|(error|warning|ERROR): |not ok|FAILED' \
        "$work/$1.log" | head -n 300)
    printf '\n=== %s FAILED, and said:\n\n%s\n' "$1" "${found:-$(tail -n 60 "$work/$1.log")}"
}

summary() {
    local name status seconds cpu failed=0 legs=0
    while read -r name status seconds cpu; do
        [ "$status" -eq 0 ] || failures "$name"
    done <"$results"
    printf '\n%-10s %-7s %5s %5s  %s\n' leg result s "CPU s" "what it said"
    while read -r name status seconds cpu; do
        legs=$((legs + 1))
        if [ "$status" -eq 0 ]; then status=passed; else status=FAILED failed=$((failed + 1)); fi
        printf '%-10s %-7s %5s %5s  %s\n' "$name" "$status" "$seconds" "$cpu" "$(said "$work/$name.log")"
    done <"$results"
    printf '\n%s legs passed, %s failed, %s s\n' $((legs - failed)) "$failed" "$SECONDS"
    [ "$failed" -eq 0 ] && [ "$legs" -gt 0 ]
}

# run_legs [-l | LEG...]: lists the legs, or runs all or these.
run_legs() {
    if [ "${1:-}" = -l ]; then
        sed -nE 's/^    leg ([a-z0-9]*) "(.*)" .*/\1: \2/p' "$0"
        return
    fi
    wanted=("$@")
    rm -rf "$taken"
    mkdir -p "$work" "$taken"
    : >"$results"
    all
    summary
}
