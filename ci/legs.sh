# Sourced by ci/test and ci/long: runs legs one after the other and says at the end how each of them went.
# A script defines `all`, which calls `leg` for each, and ends with `run_legs "$@"`.
# shellcheck shell=bash

exec </dev/null
work="$root/_build/ci"
test_build="$root/_build/test/lib/net_runner"
names=() results=() seconds=() notes=() wanted=()

# leg NAME DOES FUNCTION: runs FUNCTION with `set -e`, keeps what it prints, notes how it ended.
leg() {
    local name=$1 does=$2 function=$3 log="$work/$1.log" begin=$SECONDS status
    if [ ${#wanted[@]} -gt 0 ] && [[ " ${wanted[*]} " != *" $name "* ]]; then
        return
    fi
    printf '\n=== %s: %s\n\n' "$name" "$does"
    (
        set -e
        "$function"
    ) 2>&1 | tee "$log"
    status=${PIPESTATUS[0]}
    names+=("$name")
    seconds+=($((SECONDS - begin)))
    notes+=("$(said "$log")")
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
        sed -n 's/^    leg \([a-z]*\) "\(.*\)" .*/\1: \2/p' "$0"
        return
    fi
    wanted=("$@")
    mkdir -p "$work"
    all
    summary
}
