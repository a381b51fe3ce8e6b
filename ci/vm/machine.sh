# Sourced by ci/cgroup-vm and ci/aarch64: a machine of qemu's, without network and without disks, that runs one command
# in the checkout's folder. All it has is an initramfs: what the script puts there, at the paths that things have here.
# The script names a folder of its own to keep the kernel in, in $vm.
# shellcheck shell=bash
# shellcheck disable=SC2154 # root, vm: the script's

limit=300
work=$(mktemp -d)
init_cc=("${CC:-cc}")
qemu=
clean_up() {
    # timeout(1) hands it on.
    [ -z "$qemu" ] || { kill "$qemu" && wait "$qemu"; } 2>/dev/null
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 1' HUP INT TERM

# options "$@": -t SECONDS. The caller shifts by OPTIND - 1.
options() {
    while getopts t: option; do
        case $option in
            t) limit=$OPTARG ;;
            *) exit 2 ;;
        esac
    done
    [[ $limit =~ ^[1-9][0-9]*$ ]] || {
        echo "ci/${0##*/}: -t wants seconds, not $limit" >&2
        exit 2
    }
}

# The package that this one depends on, which is always the newest.
kernel_package() {
    LC_ALL=C apt-cache depends "$1" 2>/dev/null | sed -n 's/^ *Depends: //p;T;q'
}

# kernel_unpacked PACKAGE: into $kernel. The cloud kernel is the smaller one, and has in it all that this machine
# needs: no modules.
kernel_unpacked() {
    local package
    kernel=$(find "$vm/kernel" -name 'vmlinuz-*' 2>/dev/null | head -n 1)
    [ -z "$kernel" ] || return 0
    package=$(kernel_package "$1")
    [ -n "$package" ] || { apt update && package=$(kernel_package "$1"); }
    [ -n "$package" ] || skip "apt knows no $1"
    echo "Fetching from Debian: $package"
    (cd "$work" && apt_or_update download "$package") || {
        tail -n 20 "$work/apt"
        skip "$package cannot be fetched"
    }
    mkdir -p "$work/kernel" "$vm/kernel"
    dpkg-deb -x "$work/$package"_*.deb "$work/kernel" || exit 1
    mv "$work/kernel/boot"/vmlinuz-* "$vm/kernel/" || exit 1
    kernel=$(find "$vm/kernel" -name 'vmlinuz-*' | head -n 1)
}

# Each folder must come before what is in it.
with_folders() {
    awk -F/ '{ path = ""; for (i = 2; i < NF; i++) { path = path "/" $i; print path } print }' | sort -u
}

# The name of each file as the archive wants it: relative to /.
archive() {
    sed 's,^/,,' | grep -v '^$' | (cd / && cpio --quiet -o -H newc)
}

# What is the machine's own.
made() {
    local made="$work/made"
    mkdir -p "$made"/{dev,proc,sys,run,tmp,var,root}
    chmod 1777 "$made/tmp"
    "${init_cc[@]}" -static -O2 -Wall -Wextra -Werror -o "$made/init" ci/vm/init.c || return 1
    {
        echo '#!/bin/bash'
        echo 'ulimit -n 8192'
        # Schedulers that spin for more work spin on the processor that emulates the other.
        echo 'export ERL_FLAGS="+sbwt none +sbwtdcpu none +sbwtdio none"'
        printf 'export LC_ALL=C.UTF-8 HOME=%q MIX_HOME=%q MIX_ENV=test TERM=dumb\n' "$HOME" "$MIX_HOME"
        [ -z "${MIX_BUILD_PATH:-}" ] || printf 'export MIX_BUILD_PATH=%q\n' "$MIX_BUILD_PATH"
        printf 'cd %q && exec </dev/null' "$root"
        printf ' %q' "$@"
        echo
    } >"$made/command"
    chmod 755 "$made/command"
    (cd "$made" && find . -mindepth 1 -printf '%P\n' | sort | cpio --quiet -o -H newc -R 0:0)
}

# initramfs FUNCTION COMMAND...: what FUNCTION writes, as an archive, and what makes it run the command.
initramfs() {
    local begin=$SECONDS function=$1
    shift
    { "$function" && made "$@"; } >"$work/initramfs" || exit 1
    printf 'Booting %s (initramfs of %s MiB made in %s s)\n' "${kernel##*/vmlinuz-}" \
        "$(($(stat -c %s "$work/initramfs") >> 20))" $((SECONDS - begin))
}

# boot QEMU [OPTION...]: its options, but for what all of them have. The second serial line goes to $work/status.
boot() {
    local qemu_system=$1 answer begin=$SECONDS
    shift
    : >"$work/status"
    timeout -k 5 "$limit" "$qemu_system" -smp 2 -no-user-config -nodefaults -display none -no-reboot \
        -serial stdio -kernel "$kernel" -initrd "$work/initramfs" "$@" </dev/null &
    qemu=$!
    wait "$qemu"
    answer=$?
    qemu=
    if [ "$answer" -eq 124 ] || [ "$answer" -eq 137 ]; then
        printf '\nci/%s: the machine was still running after %s s, and was stopped\n' "${0##*/}" "$limit"
        exit 1
    fi
    printf '\nThe machine ran for %s s.\n' $((SECONDS - begin))
}

# The first process writes "exit 0", or why it could not come to that.
verdict() {
    local what status
    read -r what status <"$work/status"
    [ "$what" = exit ] && return "$status"
    echo "ci/${0##*/}: the machine ended without an exit status, and said: ${what:-nothing} $status"
    return 1
}

