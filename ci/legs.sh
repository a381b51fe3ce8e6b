# Sourced by ci/test and ci/long: runs legs and says at the end how each of them went. A script defines
# `all`, which calls `leg` for each, and ends with `run_legs "$@"`. Legs run one after the other; what
# computes while the next legs mostly wait may run `beside` them, at the lowest priority, until `join`.
# shellcheck shell=bash

exec </dev/null
work="$root/_build/ci"
test_build="$root/_build/test/lib/net_runner"
names=() results=() seconds=() notes=() wanted=()
beside_names=() beside_does=() beside_pids=() beside_begin=()

is_wanted() {
    [ ${#wanted[@]} -eq 0 ] || [[ " ${wanted[*]} " == *" $1 "* ]]
}

# leg NAME DOES FUNCTION: runs FUNCTION with `set -e`, keeps what it prints, notes how it ended.
leg() {
    local name=$1 does=$2 function=$3 log="$work/$1.log" begin=$SECONDS
    is_wanted "$name" || return 0
    printf '\n=== %s: %s\n\n' "$name" "$does"
    (
        set -e
        "$function"
    ) 2>&1 | tee "$log"
    note "$name" "${PIPESTATUS[0]}" "$begin"
}

# beside NAME DOES FUNCTION: as `leg`, while the legs after it run.
beside() {
    local name=$1 does=$2 function=$3
    is_wanted "$name" || return 0
    (
        set -e
        renice -n 19 -p "$BASHPID" >/dev/null
        "$function"
    ) >"$work/$name.log" 2>&1 &
    beside_names+=("$name")
    beside_does+=("$does")
    beside_pids+=($!)
    beside_begin+=("$SECONDS")
}

# Waits for all that runs beside, and shows what it printed.
join() {
    local i status
    for i in "${!beside_names[@]}"; do
        status=0
        wait "${beside_pids[$i]}" || status=$?
        printf '\n=== %s: %s (beside the legs before)\n\n' "${beside_names[$i]}" "${beside_does[$i]}"
        cat "$work/${beside_names[$i]}.log"
        note "${beside_names[$i]}" "$status" "${beside_begin[$i]}"
    done
    beside_names=() beside_does=() beside_pids=() beside_begin=()
}

note() {
    local name=$1 status=$2 begin=$3
    names+=("$name")
    seconds+=($((SECONDS - begin)))
    notes+=("$(said "$work/$name.log")")
    if [ "$status" -eq 0 ]; then
        results+=(passed)
    else
        results+=(FAILED)
        printf '\n=== %s FAILED (exit %s)\n' "$name" "$status"
    fi
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

summary() {
    local i failed=0
    printf '\n%-10s %-7s %5s  %s\n' leg result s "what it said"
    for i in "${!names[@]}"; do
        printf '%-10s %-7s %5s  %s\n' "${names[$i]}" "${results[$i]}" "${seconds[$i]}" "${notes[$i]}"
        [ "${results[$i]}" = passed ] || failed=$((failed + 1))
    done
    printf '\n%s legs passed, %s failed, %s s\n' $((${#names[@]} - failed)) "$failed" "$SECONDS"
    [ "$failed" -eq 0 ] && [ "${#names[@]}" -gt 0 ]
}

# run_legs [-l | LEG...]: lists the legs, or runs all or these.
run_legs() {
    if [ "${1:-}" = -l ]; then
        sed -nE 's/^    (leg|beside) ([a-z]*) "(.*)" .*/\2: \3/p' "$0"
        return
    fi
    wanted=("$@")
    mkdir -p "$work"
    all
    summary
}
