# Sourced by the scripts in ci/ that need more of Debian than ci/setup installs: they install it when they run, say
# so where it is not to be had, and exit with 77 then. The script has a folder of its own in $work.
# shellcheck shell=bash

skip() {
    printf '\nSKIPPED: %s: %s\n' "ci/${0##*/}" "$1"
    printf '0 passed, 0 failed, 1 skipped (%s)\n' "$1"
    exit 77
}

apt() {
    # shellcheck disable=SC2154 # the script's
    LC_ALL=C DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -q -y "$@" >>"$work/apt" 2>&1 </dev/null
}

# The lists of packages may be missing, or so old that the mirror has dropped what they name.
apt_or_update() {
    apt "$@" || { apt update && apt "$@"; }
}

# need PACKAGE...: installs those that are missing.
need() {
    local missing=() package
    for package in "$@"; do
        [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    [ "$(id -u)" -eq 0 ] || skip "not root, and ${missing[*]} must be installed"
    echo "Installing from Debian: ${missing[*]}"
    apt_or_update --no-install-recommends install "${missing[@]}" || {
        tail -n 20 "$work/apt"
        skip "${missing[*]} cannot be installed"
    }
}

# Where apt gets this machine's Debian from.
mirror() {
    local uri
    # shellcheck disable=SC2016 # apt's own variable
    uri=$(LC_ALL=C apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Label: Debian' 2>/dev/null | head -n 1)
    echo "${uri:-http://deb.debian.org/debian}"
}

# apt_apart FOLDER ARCHITECTURE deb|deb-src: from here on apt is one of its own, for this machine's Debian. It begins with an
# empty system, so it fetches everything that a package needs, and neither this machine's apt nor its dpkg hears of it.
apt_apart() {
    local folder=$1 suite
    # shellcheck source=/dev/null
    suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
    mkdir -p "$folder"/{state/lists/partial,cache/archives/partial}
    : >"$folder/state/status"
    echo "$3 [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $(mirror) $suite main" >"$folder/sources.list"
    cat >"$folder/apt.conf" <<EOF
#clear APT::Architectures;
APT::Architecture "$2";
APT::Architectures { "$2"; };
APT::Sandbox::User "root";
Acquire::Languages "none";
Dir::State "$folder/state";
Dir::State::status "$folder/state/status";
Dir::Cache "$folder/cache";
Dir::Etc::SourceList "$folder/sources.list";
Dir::Etc::SourceParts "$folder/none";
EOF
    export APT_CONFIG="$folder/apt.conf"
}
