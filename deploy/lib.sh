# What deploy/up and tests/run share: words to a person, processes, and installing what is missing.
# Sourced, not run, at the top of the checkout, with the name to speak under.
# shellcheck shell=bash

program=$1
exit_usage=64
quiet=no

# Everything that this machine keeps for the checkout; never in git, readable by its owner alone.
state=${TROLI_STATE:-.local}
logs=$state/log
# The whole story of installing and building.
step_log=$logs/${program//\//-}.log

# Of a cargo that has started this, by way of a test: build scripts that look at these would be run anew.
unset CARGO_MANIFEST_DIR CARGO_MANIFEST_PATH "${!CARGO_PKG_@}"
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}
wasm_target=wasm32-unknown-unknown
# What builds for the WASM target; another one where rustup cannot install that target.
wasm_build=(cargo build)

# shellcheck source=deploy/servers/find.sh
. deploy/servers/find.sh

# Words.

say() {
    [[ $quiet == yes ]] || printf '%s\n' "$*"
}

fail() {
    printf '%s: %s\n' "$program" "$1" >&2
    exit "${2:-1}"
}

usage_error() {
    fail "$1; see $program --help" "$exit_usage"
}

# Processes.

# From now on a signal to stop is obeyed at the next pause, and nothing that was spawned is left behind.
# Not in the trap itself: bash 5.2 may crash when it exits from a trap that has interrupted `read -t`.
obey_signals() {
    trap stop_all EXIT
    trap 'stop=129' HUP
    trap 'stop=130' INT
    trap 'stop=143' TERM
}

# Starts a command in a process group of its own, so that all of it can be stopped, and leaves its process
# id in $spawned. It is told to stop when this shell is killed, and does not inherit the lock (9).
spawn() {
    setsid setpriv --pdeathsig TERM -- "$@" </dev/null 9>&- &
    spawned=$!
}

# The process ids of what the others need until they have ended.
needed_last=()

# Stops all that was spawned, and waits for it, in less than 5 seconds.
stop_all() {
    trap '' INT TERM HUP
    stop=
    local pid others=()
    while read -r pid; do
        [[ " ${needed_last[*]} " == *" $pid "* ]] || others+=("$pid")
    done < <(jobs -p)
    stop_within 3.3 "${others[@]}"
    stop_within 1.5 "${needed_last[@]}"
}

# Asks them first, and makes them when they take longer than this.
stop_within() {
    local seconds=$1 pid hurry
    shift
    (($# > 0)) || return 0
    signal_all TERM "$@"
    { pause "$seconds" && signal_all KILL "$@"; } &
    hurry=$!
    {
        wait "$@" || true
        # A group may outlive its first process.
        for pid in "$@"; do kill -KILL -- "-$pid" || true; done
        kill -KILL "$hurry" || true
        wait "$hurry" || true
    } 2>/dev/null
}

signal_all() {
    local signal=$1 pid
    shift
    for pid in "$@"; do
        # Just after its start it may not have its group yet.
        kill -"$signal" -- "-$pid" 2>/dev/null || kill -"$signal" "$pid" 2>/dev/null || true
    done
}

# Waits without a process to wait for: nothing ever comes through this pipe.
exec {never}<> <(:)
stop=
pause() {
    read -rt "$1" -u "$never" || true
    [[ -z $stop ]] || exit "$stop"
}

# Runs a command in sight.
attend() {
    spawn "$@"
    await "$spawned"
}

# Runs a command out of sight. A person at a terminal sees its last line meanwhile.
quietly() {
    say "$1"
    printf '\n== %s: %s\n' "$1" "${*:2}" >>"$step_log"
    spawn "${@:2}" >>"$step_log" 2>&1
    if [[ $quiet == yes || ! -t 1 ]]; then
        await "$spawned"
        return
    fi
    local status=0
    await "$spawned" show_last_line || status=$?
    printf '\e[K'
    return "$status"
}

show_last_line() {
    printf '\e[K  %s\r' "$(tail -n 1 "$step_log" | cut -c "1-$((${COLUMNS:-80} - 4))")"
}

# Waits for what was spawned, doing something meanwhile, and returns its status.
await() {
    while kill -0 "$1" 2>/dev/null; do
        "${2:-true}"
        pause 0.2
    done
    wait "$1"
}

# The same, and there is no going on without it.
step() {
    local status=0
    quietly "$@" || status=$?
    ((status == 0)) || {
        tail -n 40 "$step_log" >&2
        fail "$1: failed with status $status; the whole story is in $step_log"
    }
}

# What is missing.

make_state() {
    install -d -m 700 "$state" "$logs"
}

install_missing() {
    local packages=()
    if ! command -v cargo >/dev/null && [[ -x ${HOME:-}/.cargo/bin/cargo ]]; then PATH=$HOME/.cargo/bin:$PATH; fi
    command -v cargo >/dev/null || fail "cargo is missing: install Rust with rustup, https://rustup.rs"
    cargo --version >/dev/null || fail "cargo does not run: with rustup, try 'rustup default stable'"
    command -v cc >/dev/null || packages+=(gcc libc6-dev)
    command -v curl >/dev/null || packages+=(curl)
    command -v openssl >/dev/null || packages+=(openssl)
    install_packages "${packages[@]}"
    has_wasm_target || install_wasm_target
}

install_packages() {
    (($# > 0)) || return 0
    command -v apt-get >/dev/null || fail "missing, and this is not Debian or Ubuntu, so please install: $*"
    # shellcheck disable=SC2016  # the inner shell is to expand it
    as_root "installing $*" env DEBIAN_FRONTEND=noninteractive \
        sh -c 'apt-get update && apt-get install --yes --no-install-recommends "$@"' sh "$@"
}

# A step that only root can do.
as_root() {
    if ((EUID == 0)); then
        step "$@"
        return
    fi
    command -v sudo >/dev/null || fail "$1: only root can do that"
    say "$1"
    # In the foreground, because it may ask for a password.
    # shellcheck disable=SC2024  # the log is this user's
    sudo "${@:2}" >>"$step_log" 2>&1 9>&- || {
        tail -n 40 "$step_log" >&2
        fail "$1: failed; the whole story is in $step_log"
    }
}

# MySQL and Redis, to run as processes of this user; no service of the system is installed or started.
install_servers() {
    find_redis || {
        # Not redis-server, which starts a service: the program itself is in the tools.
        install_packages redis-tools
        find_redis || fail "there is no Redis 7 or newer to install here: please install redis-server yourself"
    }
    find_mysql || {
        install_mysql
        find_mysql || fail "MySQL does not run: please install MySQL 8.4 or newer yourself, and put mysqld in PATH"
    }
}

install_mysql() {
    command -v apt-get >/dev/null ||
        fail "missing, and this is not Debian or Ubuntu, so please install: MySQL 8.4 or newer, with mysqld in PATH"
    as_root "looking for MySQL" apt-get update
    local package
    package=$(mysql_package)
    if [[ -n $package ]]; then
        install_packages "$package" "${package/server/client}"
        return
    fi
    command -v debootstrap >/dev/null || install_packages debootstrap debian-archive-keyring
    mkdir -p "${mysql_unpacked%/*}"
    as_root "unpacking MySQL from Debian unstable" deploy/servers/unpack-mysql "$mysql_unpacked" "$EUID"
}

# The package of a MySQL that is new enough, without a service; nothing where there is none.
mysql_package() {
    local name version
    while read -r name; do
        version=$(apt-cache policy "$name" 2>/dev/null | awk '/Candidate:/ { print $2 }')
        if is_recent_mysql "${version#*:}"; then
            echo "$name"
            return
        fi
    done < <(apt-cache pkgnames mysql-server-core 2>/dev/null)
}

has_wasm_target() {
    [[ -d $(rustc --print sysroot)/lib/rustlib/$wasm_target/lib ]]
}

install_wasm_target() {
    if command -v rustup >/dev/null &&
        quietly "installing the $wasm_target target" timeout 300 rustup target add "$wasm_target"; then
        return
    fi
    use_debian_rust
}

# Debian's own compiler builds the standard library from source. It is older than the one that the workspace
# asks for: new enough for the rules, with one of sha2's features switched on by hand.
use_debian_rust() {
    local std=/usr/lib/rustlib/src/rust/library/std
    if ! [[ -x /usr/bin/rustc && -x /usr/bin/cargo && -e $std && -x /usr/bin/wasm-ld ]]; then
        install_packages rustc-web cargo-web rust-web-src lld
    fi
    wasm_build=(
        env RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER=wasm-ld
        /usr/bin/cargo build --ignore-rust-version -Z 'build-std=std,panic_abort' -Z profile-rustflags
        --config 'profile.guest.package.sha2.rustflags=["-Zcrate-attr=feature(slice_as_chunks)"]'
    )
}

# Building.

build_executables() {
    # The whole workspace, or cargo would build what it depends on once more with fewer features.
    step "building edge-host and region-router" cargo build --release --workspace --bins
}

# Builds crates of rules to core modules.
build_rules() {
    local crates=() crate
    for crate in "$@"; do crates+=(-p "$crate"); done
    # A directory of its own, so that this and a build for this machine do not wait for each other.
    step "building the rules $*" "${wasm_build[@]}" --profile guest --target "$wasm_target" \
        --target-dir "$CARGO_TARGET_DIR/rules" "${crates[@]}"
}

# Where the core module of a crate is then.
core_module() {
    echo "$CARGO_TARGET_DIR/rules/$wasm_target/guest/${1//-/_}.wasm"
}
