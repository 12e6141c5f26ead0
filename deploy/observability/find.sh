# Where Prometheus and Alertmanager are on this machine. Sourced, not run.
# shellcheck shell=bash

# Unpacked from Debian's packages, so that no service is installed. All checkouts of a user share them.
observers_unpacked=${XDG_CACHE_HOME:-~/.cache}/troli/observers

# Leaves the commands in $prometheus, $promtool, $alertmanager and $amtool.
find_observers() {
    local place
    for place in '' "$observers_unpacked/usr/bin/"; do
        prometheus=${place}prometheus promtool=${place}promtool amtool=${place}amtool
        # Debian's name, and everybody else's.
        for alertmanager in "${place}prometheus-alertmanager" "${place}alertmanager"; do
            ! are_there "$prometheus" "$promtool" "$amtool" "$alertmanager" || return 0
        done
    done
    return 1
}

are_there() {
    local command
    for command in "$@"; do type -P "$command" >/dev/null || return 1; done
}
