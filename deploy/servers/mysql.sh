# What the scripts of every MySQL share. Sourced, not run, with the name to speak under.
# shellcheck shell=bash

program=$1

# shellcheck source=deploy/servers/find.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/find.sh"

# The passwords of a server; a copy of its data needs a copy of them.
passwords=(password root-password replication-password)
# The one of replication may have no more than 32 characters.
replication_password_bytes=16
# What a server says that is being copied by somebody else.
busy_with_a_copy='Clone Donor Error: 3634'

complain() {
    printf 'deploy/servers/%s: %s\n' "$program" "$1" >&2
    exit "$2"
}

# Finds MySQL, and leaves where everything of this server is in $directory.
prepare() {
    find_mysql || complain 'there is no MySQL 8.4 or newer; deploy/up --stack servers and tests/run install it' 69
    umask 077
    mkdir -p "$1"
    directory=$(cd -P -- "$1" && pwd)
    # A file of its own, and empty: the system's settings are for other servers. With --no-defaults, what was persisted
    # in the data (SET PERSIST) would not count either, and a primary that was fenced would take writes again.
    [[ -e $directory/my.cnf ]] || : >"$directory/my.cnf"
    mysqld=("${mysqld[@]/#--no-defaults/--defaults-file=$directory/my.cnf}")
    mysqld+=(
        # In the data directory; a longer path may be too long for a socket.
        --socket=mysqld.sock --pid-file=mysqld.pid --mysqlx=OFF --secure-file-priv=NULL
    )
    # It runs as root only when it is told to.
    ((EUID != 0)) || mysqld+=(--user=root)
}

# Makes the data directory beside its place, with its accounts, so that half of one is never taken for a whole.
# None of it is in the binary log: what follows this server was made in the same way, or is a copy of it.
initialise() {
    local partial=$directory/data.partial
    rm -rf "$partial"
    make_password "$directory/password"
    make_password "$directory/root-password"
    make_password "$directory/replication-password" "$replication_password_bytes"
    initialise_empty "$partial"
    { accounts && replication_account "$(<"$directory/replication-password")"; } | run_statements "$partial"
    mv "$partial" "$directory/data"
}

initialise_empty() {
    setpriv --pdeathsig KILL -- "${mysqld[@]}" --performance-schema=OFF --datadir="$1" --skip-log-bin \
        --initialize-insecure
}

# Runs statements on data that nobody serves. While there are no passwords there is no network either.
run_statements() {
    local file=$directory/accounts.sql.partial
    { cat && echo 'SHUTDOWN;'; } >"$file"
    # It ends by the last statement; after a mistake in one before it would not end at all.
    setpriv --pdeathsig KILL -- timeout --signal=KILL 120 \
        "${mysqld[@]}" --performance-schema=OFF --datadir="$1" --skip-log-bin --skip-networking \
        --init-file="$file" ||
        complain 'the accounts could not be made; above is why' 1
    rm "$file"
}

accounts() {
    local password root_password
    password=$(<"$directory/password")
    root_password=$(<"$directory/root-password")
    cat <<SQL
CREATE DATABASE troli CHARACTER SET utf8mb4;
CREATE USER troli@localhost IDENTIFIED BY '$password', troli@'127.0.0.1' IDENTIFIED BY '$password';
GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, DROP, INDEX, REFERENCES
    ON troli.* TO troli@localhost, troli@'127.0.0.1';
ALTER USER root@localhost IDENTIFIED BY '$root_password';
CREATE USER root@'127.0.0.1' IDENTIFIED BY '$root_password';
GRANT ALL ON *.* TO root@'127.0.0.1' WITH GRANT OPTION;
SQL
}

# Who copies this server and follows it: a replica, or another member of its group. A replica of a group asks the
# performance schema who is in it. With this password.
replication_account() {
    cat <<SQL
CREATE USER replication@'127.0.0.1' IDENTIFIED BY '$1';
GRANT REPLICATION SLAVE, BACKUP_ADMIN, CONNECTION_ADMIN, GROUP_REPLICATION_STREAM
    ON *.* TO replication@'127.0.0.1';
GRANT SELECT ON performance_schema.* TO replication@'127.0.0.1';
SQL
}

# Makes the data directory a copy of that of the server that listens at a port. Its accounts are copied too, so their
# passwords have to be here already.
clone() {
    local source=$1 scratch=$directory/scratch.partial partial=$directory/data.partial server
    rm -rf "$scratch" "$partial"
    # A server has to be there to ask for the copy; it has nothing in it, and goes afterwards.
    initialise_empty "$scratch"
    setpriv --pdeathsig KILL -- "${mysqld[@]}" --performance-schema=OFF --datadir="$scratch" --skip-log-bin \
        --skip-networking --plugin-load-add=mysql_clone.so &
    server=$!
    until [[ -S $scratch/mysqld.sock ]]; do
        kill -0 "$server" 2>/dev/null || complain 'MySQL does not start; above is why' 1
        sleep 0.1
    done
    until copy_by "$scratch" "$source" "$partial" 2>"$directory/clone.partial"; do
        # One copy at a time is what a server gives.
        grep -q "$busy_with_a_copy" "$directory/clone.partial" || {
            cat "$directory/clone.partial" >&2
            complain "the data of the server at port $source could not be copied; above is why" 1
        }
        sleep 0.2
    done
    rm "$directory/clone.partial"
    kill "$server"
    wait "$server" || true
    rm -rf "$scratch"
    mv "$partial" "$directory/data"
}

# Lets the server that has this data directory copy another one.
copy_by() {
    # On its standard input, because everybody can read a command line.
    (cd "$1" && "${mysql[@]}" --no-defaults --socket=mysqld.sock --user=root) <<SQL
SET GLOBAL clone_valid_donor_list = '127.0.0.1:$2';
CLONE INSTANCE FROM replication@'127.0.0.1':$2 IDENTIFIED BY '$(<"$directory/replication-password")'
    DATA DIRECTORY = '$3';
SQL
}

# MySQL takes connections before it serves them; then it speaks first.
greets() {
    (exec 3<>"/dev/tcp/127.0.0.1/$1" && IFS= read -r -t 1 -n 1 -u 3) 2>/dev/null
}

# What every server is told, whatever it is to the others; it may say something else afterwards.
leave_options() {
    # Of one that was killed: its number may be that of another process by now, and then this one would not start. Two
    # servers on one directory are kept apart by the lock on the data itself.
    rm -f "$directory/data/mysqld.sock.lock"
    options=(
        --datadir="$directory/data" --bind-address=127.0.0.1 --port="$1" --skip-name-resolve --max-connections=200
        --character-set-server=utf8mb4 --innodb-buffer-pool-size="${TROLI_MYSQL_BUFFER_POOL:-128M}"
        --innodb-fast-shutdown=1 --log-bin=binlog --binlog-expire-logs-seconds=86400 --binlog-row-image=minimal
        --gtid-mode=ON --enforce-gtid-consistency=ON --plugin-load-add=mysql_clone.so
        # A name of their own, or they are lost when the machine gets another.
        --relay-log=relay --skip-replica-start=ON
    )
}
