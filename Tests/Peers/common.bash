# shellcheck shell=bash
# What the scripts of this folder share: their command line, the program under test, processes that
# never outlive them, and guests. Each script sources it, then calls `begin` with its arguments.
# Results: exit 0 passed, 1 failed, 77 skipped; the last line of output says which, and why.

set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top=$(cd "$here/../.." && pwd)
script=$(basename "$0")
program=
keep=no
options=()
scratch=

# The head of the script, without its first line, is its manual.
usage() { # the only argument: the exit status
    awk 'NR > 1 { if (!/^#/) exit; sub(/^# ?/, ""); print }' "$0"
    exit "${1:-0}"
}

skip() {
    echo "$script: skipped: $1"
    exit 77
}

fail() {
    echo "$script: FAILED: $1" >&2
    exit 1
}

failures=0
checks=0
# One line for each check: `check NAME COMMAND...` runs the command, whose status decides.
check() {
    local name=$1 start=$SECONDS
    shift
    checks=$((checks + 1))
    if "$@" >"$scratch/check.log" 2>&1; then
        printf '  ok    %s (%d s)\n' "$name" $((SECONDS - start))
        return 0
    fi
    failures=$((failures + 1))
    # What bash says of processes that were killed on purpose is not the reason.
    sed -i '/: line [0-9]*: *[0-9]* \(Killed\|Terminated\|Interrupt\)/d' "$scratch/check.log"
    printf '  FAIL  %s: %s\n' "$name" "$(tail -n 1 "$scratch/check.log")"
    sed 's/^/        | /' "$scratch/check.log" | tail -n 12
    return 1
}

# omit NAME REASON: a check that cannot be made here. The last line names it: it did not pass.
omitted=()
omit() {
    omitted+=("$1: $2")
    printf '  skip  %s: %s\n' "$1" "$2"
}

finish() {
    local left_out=''
    if [ ${#omitted[@]} -gt 0 ]; then left_out="; skipped: $(IFS=';'; echo "${omitted[*]}")"; fi
    if [ "$failures" -gt 0 ]; then fail "$failures of $checks checks$left_out"; fi
    if [ "$checks" -eq 0 ]; then
        [ ${#omitted[@]} -gt 0 ] || fail 'nothing was checked'
        skip "${omitted[0]}"
    fi
    echo "$script: passed, $checks checks$left_out"
    exit 0
}

# begin LIMIT ARGUMENT...: reads the command line, makes the scratch directory, and sees to it that
# the script ends within LIMIT seconds. Options of a script's own are left in `options`.
begin() {
    local limit=$1
    shift
    if [ -z "${CLEAVE_PEERS_LIMITED-}" ]; then
        CLEAVE_PEERS_LIMITED=$$ exec timeout -k 20 "${PEERS_LIMIT:-$limit}" bash "$0" "$@"
    fi
    unset CLEAVE_PEERS_LIMITED
    while [ $# -gt 0 ]; do
        case $1 in
        --program)
            program=${2-}
            shift
            ;;
        --keep) keep=yes ;;
        -h | --help) usage 0 ;;
        *) options+=("$1") ;;
        esac
        shift
    done
    if [ -z "$program" ]; then
        for program in "$top"/.build/{release,debug}/cleave-vhost; do
            if [ -x "$program" ]; then break; fi
        done
    fi
    [ -x "$program" ] || skip "there is no program $program; build cleave-vhost or say --program"
    program=$(readlink -f "$program")
    [ "$(uname -m)" = x86_64 ] || skip "these peers run on x86-64, this machine is $(uname -m)"
    # Short, since a socket's path has room for 107 bytes; in memory, since guests keep theirs here.
    local parent=/dev/shm
    [ -w $parent ] || parent=${TMPDIR:-/tmp}
    scratch=$(mktemp -d "$parent/peers.XXXXXX") || fail "cannot make a directory in $parent"
    trap leave EXIT
    trap 'exit 143' TERM
    trap 'exit 130' INT
    trap 'exit 129' HUP
}

# Everything started by `start` works in the scratch directory. What still does is ended here, also
# what it left behind: the processes of a killed guest are nobody's children any more.
leave() {
    local status=$? link pid round
    trap '' TERM INT HUP
    if [ $keep = yes ]; then echo "$script: logs are in $scratch" >&2; fi
    exec 2>/dev/null # bash would report each of them
    for round in 1 2 3; do
        for link in /proc/[0-9]*/cwd; do
            case $(readlink "$link" 2>/dev/null) in
            "$scratch" | "$scratch"/* | "$scratch (deleted)")
                pid=${link#/proc/}
                kill -KILL "${pid%/cwd}" 2>/dev/null
                ;;
            esac
        done
        [ "$round" = 3 ] || sleep 0.1
    done
    [ $keep = yes ] || rm -rf "$scratch"
    exit "$status"
}

# start NAME LIMIT COMMAND...: runs it in the background, in a session and process group of its
# own, for LIMIT seconds at most. Its output is NAME.log, its group is pids[NAME], and it dies with
# the script. Guests get a file and never a pipe: their helpers would keep a pipe open. `session` is
# what begins its session, such as what gives that a place in the scheduler.
declare -A pids=()
session=()
start() {
    local name=$1 limit=$2
    shift 2
    (
        cd "$scratch" || exit 1
        # What a process makes and leaves there goes with the directory.
        export TMPDIR=$scratch
        exec setsid "${session[@]}" setpriv --pdeathsig KILL timeout -k 2 "$limit" \
            setpriv --pdeathsig KILL "$@" </dev/null >"$scratch/$name.log" 2>&1
    ) &
    pids[$name]=$!
}

# The process itself, and not the `timeout` around it.
process() {
    local child
    child=$(cat "/proc/${pids[$1]}/task/${pids[$1]}/children" 2>/dev/null)
    echo "${child%% *}"
}

running() { [ -n "${pids[$1]-}" ] && kill -0 "${pids[$1]}" 2>/dev/null; }

# signal NAME SIGNAL: to the whole group, and to that which the process may have made: User-Mode
# Linux does, and what it leaves would hold its connections open.
signal() {
    local own
    own=$(process "$1")
    if [ -n "$own" ]; then kill "-$2" -- "-$own" 2>/dev/null; fi
    kill "-$2" -- "-${pids[$1]}" 2>/dev/null
}

# stop NAME SIGNAL [SECONDS]: signals and waits for the end; 1 if it goes on.
stop() {
    local name=$1 patience=${3:-5}
    if [ -n "${pids[$name]-}" ]; then
        signal "$name" "$2"
        if ! within "$patience" gone "$name"; then
            signal "$name" KILL
            return 1
        fi
        wait "${pids[$name]}" 2>/dev/null
        unset "pids[$name]"
    fi
}
gone() { ! running "$1"; }

# within SECONDS COMMAND...: tries until it succeeds.
within() {
    local end
    end=$(($(date +%s%N) + $1 * 1000000000))
    shift
    until "$@"; do
        if [ "$(date +%s%N)" -gt "$end" ]; then return 1; fi
        sleep 0.05
    done
}

# The program under test. `start_program LIMIT ARGUMENT...` waits for its line `ready`. What it
# prints is program.log, its errors and counters are program.err. Where there are several,
# `instance` names the one that is meant; `enter` is what it is started by, such as nsenter.
instance=program
enter=()
start_program() {
    local limit=$1
    shift
    # shellcheck disable=SC2016
    start "$instance" "$limit" "${enter[@]}" sh -c 'exec "$@" 2>"$0.err"' "$instance" \
        "$program" "$@"
    if ! within 15 grep -qsx ready "$scratch/$instance.log"; then
        echo "$(basename "$program") did not say ready: $(last_words)"
        return 1
    fi
}
last_words() { tail -qn 1 "$scratch/$instance".{log,err} 2>/dev/null | tail -n 1; }

# The program's counters, as it prints them. The line of its thread is the last one.
counters() {
    local first
    first=$(($(wc -l <"$scratch/$instance.err") + 1))
    kill -USR1 "$(process "$instance")"
    within 5 counters_end "$first" || { echo 'the program prints no counters' >&2; return 1; }
    tail -n "+$first" "$scratch/$instance.err"
}
counters_end() { tail -n "+$1" "$scratch/$instance.err" | grep '^switch thread.* times$' >/dev/null; }

# counted PORT COUNTER: the value of one, 0 if it is not among them.
counted() {
    counters | awk -v port="$1:" -v wanted="$2" '
        $1 == port {
            gsub(",", "")
            for (field = 2; field < NF; field++) if ($field == wanted) count += $(field + 1)
        }
        END { print count + 0 }'
}

# Packets that came in at one of `ports` (instance:port) or should have gone out there, and did not,
# by reason. `none_lost` finds those since `remember`.
ports=()
drops() {
    local each
    for each in "${ports[@]}"; do
        instance=${each%:*}
        counters | sed -n "s/^${each#*:}: dropped/$instance, &/p"
    done
}
remember() { drops >"$scratch/drops"; }
none_lost() { drops | diff "$scratch/drops" -; }

# netns NAME LIMIT: a network namespace that lasts as long as the process of that name.
# inside NAME COMMAND...: runs a command in it.
netns() {
    start "$1" "$2" unshare --net sleep "$2"
    within 5 separate "$1" || { echo "no namespace for $1"; return 1; }
}
separate() {
    local own
    own=$(process "$1")
    [ -n "$own" ] && [ "$(readlink "/proc/$own/ns/net")" != "$(readlink /proc/self/ns/net)" ]
}
inside() { nsenter --target "$(process "$1")" --net "${@:2}"; }

# It has to end by SIGTERM within two seconds, with status 0, and take its sockets along.
end_program() {
    local group=${pids[$instance]-} own status
    if [ -z "$group" ] || ! running "$instance"; then
        echo "the program is gone: $(last_words)"
        return 1
    fi
    own=$(process "$instance")
    kill -TERM "$own" 2>/dev/null
    if ! within 2 gone "$instance"; then
        kill -KILL -- "-$group"
        echo 'the program does not end within 2 s of SIGTERM'
        return 1
    fi
    wait "$group"
    status=$?
    unset "pids[$instance]"
    if [ $status -ne 0 ]; then
        echo "the program ended with status $status: $(last_words)"
        return 1
    fi
}

need() {
    local tool
    for tool in "$@"; do
        command -v "$tool" >/dev/null || skip "there is no $tool"
    done
}
