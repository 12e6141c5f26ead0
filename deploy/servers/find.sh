# Where the real servers are on this machine. Sourced, not run.
# shellcheck shell=bash

# A MySQL that was unpacked because the system has none to install: what is /usr elsewhere. All checkouts of a
# user share it. One that an older checkout has unpacked has no client, and another name.
mysql_unpacked=${XDG_CACHE_HOME:-~/.cache}/troli/mysql-9

# Leaves the command that is MySQL, 8.4 or newer, in $mysqld, and that of its client in $mysql. MariaDB, which often
# goes by the same names, is none.
find_mysql() {
    local place
    mysql=(mysql)
    for place in mysqld /usr/sbin/mysqld /usr/libexec/mysqld; do
        mysqld=("$place" --no-defaults)
        ! is_mysql || return 0
    done
    # Outside its own system it runs by that system's loader and libraries.
    local loader=("$mysql_unpacked"/lib/*-linux-gnu/ld-linux-*.so.*)
    local by_loader=("${loader[0]}" --library-path "${loader[0]%/*}:$mysql_unpacked/lib/mysql/private")
    mysql=("${by_loader[@]}" "$mysql_unpacked/bin/mysql")
    mysqld=(
        "${by_loader[@]}" "$mysql_unpacked/sbin/mysqld" --no-defaults --basedir="$mysql_unpacked"
        --lc-messages-dir="$mysql_unpacked/share/mysql" --character-sets-dir="$mysql_unpacked/share/mysql/charsets"
        --plugin-dir="$mysql_unpacked/lib/mysql/plugin"
    )
    is_mysql
}

is_mysql() {
    is_of_mysql "${mysqld[@]}" && is_of_mysql "${mysql[@]}"
}

is_of_mysql() {
    local version
    version=$("$@" --version 2>/dev/null) && [[ $version != *MariaDB* && $version == *' Ver '* ]] &&
        is_recent_mysql "${version##* Ver }"
}

is_recent_mysql() {
    [[ $1 =~ ^([0-9]+)\.([0-9]+)\. ]] && ((BASH_REMATCH[1] * 100 + BASH_REMATCH[2] >= 804))
}

# Leaves the file that is Redis, 7 or newer, in $redis_server. One program is the server and its tools, by the name it is
# called by, so Debian's redis-tools has the server too.
find_redis() {
    for redis_server in redis-server redis-check-rdb; do
        ! is_redis || return 0
    done
    return 1
}

is_redis() {
    local version
    redis_server=$(type -P "$redis_server") &&
        version=$(exec -a redis-server "$redis_server" --version 2>/dev/null) &&
        [[ $version =~ ' v='([0-9]+)\. ]] && ((BASH_REMATCH[1] >= 7))
}

# Makes a password, once, that only this user can read; of this many random bytes.
make_password() {
    [[ ! -s $1 ]] || return 0
    (umask 077 && head -c "${2:-32}" /dev/urandom | od -An -v -tx1 | tr -d ' \n' >"$1.partial")
    mv "$1.partial" "$1"
}
