# shellcheck shell=bash
# What the scripts of this folder share: kernels that Debian's archive has, the driver built for
# each of them, and checks of what it says about itself. Everything that is fetched or built stays
# in .build-guest and nothing is installed.
source "$(dirname "${BASH_SOURCE[0]}")/../Peers/common.bash"
source "$here/guests.bash"

driver_source=$top/Drivers/Linux/virtio_net_hq
cache=$top/.build-guest
jobs=$(nproc)

# quietly WHAT COMMAND...: its output is wanted only if it fails, and then the test cannot run.
quietly() {
    local what=$1
    shift
    nice "$@" >"$scratch/build.log" 2>&1 </dev/null ||
        skip "$what: $(tail -n 1 "$scratch/build.log")"
}

# fetch FOLDER PACKAGE...: downloads into a folder, with the options of apt in `apt_options`.
apt_options=()
fetch() {
    local folder=$1
    shift
    rm -rf "$folder"
    mkdir -p "$folder"
    # shellcheck disable=SC2016
    quietly "cannot fetch $*" sh -c 'cd "$0" && exec apt-get -q "$@"' "$folder" \
        "${apt_options[@]}" download "$@"
}

# kernel_source PACKAGE[=VERSION] FOLDER: without what is never built here.
kernel_source() {
    local package=$1 folder=$2 archive=$cache/source leave=() each
    if [ -e "$folder/Makefile" ]; then return; fi
    fetch "$archive" "$package"
    for each in drivers/gpu drivers/net/ethernet drivers/net/wireless drivers/media \
        drivers/staging drivers/infiniband drivers/scsi drivers/iio sound; do
        leave+=(--exclude="*/$each/*.[ch]")
    done
    quietly "cannot unpack $package" sh -c 'dpkg-deb -x "$0"/*.deb "$0"' "$archive"
    rm -rf "$folder.part"
    mkdir -p "$folder.part"
    quietly "cannot unpack $package" tar xJf "$archive"/usr/src/linux-source-*.tar.xz \
        -C "$folder.part" --strip-components=1 "${leave[@]}" --exclude='*/Documentation/*.rst' \
        --exclude='*/Documentation/*.yaml' --exclude='*/tools/testing/*' \
        --exclude='*/tools/perf/*' --exclude='*.dts' --exclude='*.dtsi'
    rm -rf "$archive"
    mv "$folder.part" "$folder"
}

# build_driver FOLDER ARCH ARGUMENT...: for the kernel that was built in FOLDER, with arguments for
# make; the result is in the scratch directory, whose name in a guest of User-Mode Linux is /tmp. Of
# Debian's kernel as it is not all symbols are known, which the module loader checks anyway.
build_driver() {
    rm -rf "$scratch/driver"
    cp -r "$driver_source" "$scratch/driver"
    make -C "$scratch/driver" KDIR="$1" ARCH="$2" KBUILD_MODPOST_WARN=1 "${@:3}" \
        >"$scratch/build.log" 2>&1 ||
        fail "the driver does not build: $(grep -m 1 'error' "$scratch/build.log")"
    if grep -m 1 -E '(main|memory)\.c.*warning|hq\.h.*warning' "$scratch/build.log"; then
        fail 'the compiler warns of the driver'
    fi
    cp "$scratch/driver/virtio_net_hq.ko" "$scratch/"
}

# need_uml_kernel 6.1|6.12: a kernel of User-Mode Linux, the driver, and the modules of virtio_net,
# all in the scratch directory: `plain_modules` and `driver_modules` are lists for boot_uml.
need_uml_kernel() {
    need apt-get dpkg-deb make gcc flex bison bc xz nice
    mkdir -p "$cache"
    need_uml
    local each names=()
    case $1 in
    6.1)
        # Debian's own, for which only modules are built, against the source that it was built of.
        local version package config=/usr/share/doc/user-mode-linux/config.gz
        version=$(find /usr/lib/uml/modules -maxdepth 1 -name '[0-9]*' -printf '%f\n' | tail -n 1)
        package=$(apt-cache madison linux-source-6.1 2>/dev/null |
            awk -v version="$version" 'index($3, version "-") == 1 { print $3; exit }')
        [ -e "$config" ] || skip "there is no $config"
        if [ ! -e "$cache/uml-$version/ready" ]; then
            [ -n "$package" ] ||
                skip "apt has no linux-source-6.1 of version $version; try KERNEL=6.12"
            kernel_source "linux-source-6.1=$package" "$cache/uml-$version"
            zcat "$config" >"$cache/uml-$version/.config"
            quietly 'the kernel cannot be prepared' \
                make -C "$cache/uml-$version" ARCH=um olddefconfig modules_prepare
            touch "$cache/uml-$version/ready"
        fi
        build_driver "$cache/uml-$version" um
        for each in ${modules//,/ }; do
            names+=("${each##*/}")
            cp "$each" "$scratch/"
        done
        ;;
    6.12)
        local build=$cache/uml-6.12-build
        if ! cmp -s "$top/Tests/Guest/uml-6.12.config" "$build/ready"; then
            kernel_source linux-source-6.12 "$cache/uml-6.12"
            quietly 'the kernel cannot be configured' make -C "$cache/uml-6.12" ARCH=um \
                O="$build" KCONFIG_ALLCONFIG="$top/Tests/Guest/uml-6.12.config" allnoconfig
            echo "$script: building a kernel, once: some minutes"
            quietly 'the kernel cannot be built' \
                make -C "$cache/uml-6.12" ARCH=um O="$build" "-j$jobs" linux modules
            cp "$top/Tests/Guest/uml-6.12.config" "$build/ready"
        fi
        uml_kernel=$build/linux
        build_driver "$build" um
        for each in net/core/failover drivers/net/net_failover drivers/net/virtio_net; do
            if [ -e "$build/$each.ko" ]; then
                names+=("${each##*/}.ko")
                cp "$build/$each.ko" "$scratch/"
            fi
        done
        ;;
    *) fail "there is no kernel $1; kernels: 6.1 6.12" ;;
    esac
    # The driver first: what it does not take, virtio_net does.
    plain_modules='' driver_modules=/tmp/virtio_net_hq.ko,
    for each in "${names[@]}"; do plain_modules+=/tmp/$each,; done
    driver_modules+=$plain_modules
}

# keep SIDE...: a keeper between each guest's socket, SIDE.sock, and the program's, SIDE.back.
keep() {
    local side
    for side in "$@"; do
        start "keeper-$side" 800 python3 "$top/Tests/Guest/keeper.py" "$side.sock" "$side.back"
    done
    for side in "$@"; do
        within 10 [ -S "$scratch/$side.sock" ] ||
            { echo "no keeper: $(tail -n 1 "$scratch/keeper-$side.log")"; return 1; }
    done
}

# ---- What the driver says ----

# driven GUEST DRIVER: by which driver the card is driven, and 58 is negotiated with one alone.
driven() {
    guest "$1" 10 "
        driver=\$(basename \$(readlink -f /sys/class/net/\$DEV/device/driver))
        bit=\$(busybox cut -c 59 /sys/class/net/\$DEV/device/features)
        echo \"\$driver, feature 58: \$bit\"
        [ \$driver = $2 ] && [ \$bit = $([ "$2" = virtio_net_hq ] && echo 1 || echo 0) ]"
}

# splitting GUEST on|off
splitting() {
    guest "$1" 10 'ethtool -g $DEV' | grep -E '^TCP data split:' | tail -n 1 | tee /dev/stderr |
        grep -qw "$2"
}

# counter GUEST NAME: the sum of a counter of all queues.
counter() {
    guest "$1" 10 "ethtool -S \$DEV" | awk -v name="$2" '
        { sub(/:$/, "", $1) }
        $1 == name || (index($1, name "_") == 1 && substr($1, length(name) + 2) ~ /^[0-9]+$/) {
            sum += $2; found = 1
        }
        END { if (!found) exit 1; print sum }'
}

# accounted GUEST: nothing that the driver refuses has come, the queue works, and each slot that
# came with a packet went back; the device has not taken more than there were.
accounted() {
    guest "$1" 10 'ethtool -S $DEV' | awk '
        { sub(/:$/, "", $1); value[$1] = $2 }
        $1 ~ /^rx_(bad|buffers|no)_/ && $2 > 0 { print "refused:", $1, $2; bad = 1 }
        $1 ~ /^rx_split_/ { came += $2 }
        $1 ~ /^rx_slots_returned_/ { returned += $2 }
        END {
            slots = value["header_slots"]
            given = value["header_slots_given"]
            taken = value["header_slots_taken"]
            printf "%d slots, %d split, %d returned, %d given, %d taken, status %d\n",
                slots, came, returned, given, taken, value["header_status"]
            if (value["header_status"] != 0) { print "the header queue does not work"; bad = 1 }
            if (came == 0) { print "no packet was split"; bad = 1 }
            if (came != returned) { print "slots were not returned"; bad = 1 }
            if (taken > given) { print "slots were taken that were not given"; bad = 1 }
            exit bad
        }'
}

# every_packet_split GUEST OTHER ADDRESS: after all that came before, each packet of some short
# connections still finds a slot. A slot that is lost in a lap would be missed here.
every_packet_split() {
    local split whole
    pings "$2" "$3" 56
    split=$(counter "$1" rx_split) whole=$(counter "$1" rx_whole)
    for _ in 1 2 3; do transfer "$2" "$1" "$3" 400000 || return 1; done
    split=$(($(counter "$1" rx_split) - split)) whole=$(($(counter "$1" rx_whole) - whole))
    echo "$split split, $whole whole"
    # ARP and neighbour discovery.
    [ "$split" -gt 12 ] && [ "$whole" -le 6 ]
}

# late_answer GUEST: the back-end answers a command that was given up. What that changed is undone,
# and the next command works: the checks that follow see both.
late_answer() {
    local status
    kill -STOP "$(process program)"
    guest "$1" 20 'ethtool -L $DEV combined 1'
    status=$?
    kill -CONT "$(process program)"
    [ $status -ne 0 ] || { echo 'a command that nobody answered worked'; return 1; }
}

# ---- Zero copy ----

mtu() { guest a 5 "ip link set \$DEV mtu $1" && guest b 5 "ip link set \$DEV mtu $1"; }

# The measuring program, and its path in the guests.
bench='' bench_there=''
need_bench() {
    bench=$(dirname "$program")/cleave-bench
    bench_there=$bench
    [ -x "$bench" ] || skip "there is no program $bench; build cleave-bench"
}

# zero_copy FROM TO ARGUMENT...: TCP received by copy and by mapping, compared and then measured.
zero_copy() {
    local from=$1 to=$2
    local kind=${kinds[$to]}
    shift 2
    # Words of these commands are separated by blanks, which the path of this folder may have.
    (cd "$top" && exec "$bench" zerocopy --through "$kind" --there "$bench_there" \
        --receiver "Tests/Guest/in-guest $scratch $to $kind" \
        --sender "Tests/Guest/in-guest $scratch $from $kind" \
        --address "10.9.0.${addresses[$to]}" "$@")
}

# mapped FROM TO BYTES LEAST MOST: percents of the bytes that were mapped. What came is what was
# sent, mapped and copied.
mapped() {
    zero_copy "$1" "$2" --pairs 1 --bytes "$3" --quiet --json "$scratch/zerocopy.json" || return 1
    python3 - "$scratch/zerocopy.json" "$4" "$5" <<'END'
import json, sys
mapped = json.load(open(sys.argv[1]))["mapped"]
share, least, most = 100 * mapped["leastMappedShare"], float(sys.argv[2]), float(sys.argv[3])
print("%.2f %% of %d bytes mapped, wanted %g to %g" % (share, mapped["bytes"], least, most))
sys.exit(not least <= share <= most)
END
}

# measure_zero_copy ARGUMENT...: what `make bench-zerocopy` prints. Its own arguments come last.
measure_zero_copy() {
    local given=()
    read -r -a given <<<"${ZEROCOPY_ARGS-}"
    if check 'zerocopy: measured' measured_to "$scratch/report" "$@" "${given[@]}"; then
        echo
        cat "$scratch/report"
    fi
}
measured_to() {
    local file=$1
    shift
    zero_copy b a "$@" >"$file"
}

# ---- Back-ends that die: `start_switch` starts one, guests a and b are kept ----

heard() {
    guest a 20 'busybox ping -c 1 -W 1 10.9.0.2' && guest b 20 'busybox ping -c 1 -W 1 10.9.0.1'
}

# restart_in SECONDS: killed while a transfer is under way, which goes on.
restart_in() {
    local wanted found bytes=18000000
    wanted=$(guest a 60 "head -c $bytes /tmp/data | sha256sum") || return 1
    ask b '[ -p /run/hold ] || mkfifo /run/hold
        busybox timeout 90 busybox nc -l -p 5004 <>/run/hold | sha256sum'
    sleep 1
    ask a "for try in 1 2 3 4 5 6 7 8 9 10; do
            (head -c 5000000 /tmp/data; sleep 3
                head -c $bytes /tmp/data | tail -c +5000001) | busybox nc 10.9.0.2 5004 && exit 0
            busybox usleep 200000
        done
        exit 1"
    sleep "$1"
    stop program KILL
    start_switch || return 1
    answer a 90 || return 1
    found=$(answer b 30)
    [ "$wanted" = "$found" ] || { echo "sums differ: sent $wanted, came $found"; return 1; }
}

# Killed while packets come from both sides as fast as they can.
restart_in_burst() {
    ask a 'busybox timeout 6 sh -c "busybox nc 10.9.0.2 5009 </tmp/data" >/run/burst 2>&1; true'
    ask b 'busybox timeout 5 busybox nc -l -p 5009 | head -c 10000000000 >/run/burst; true'
    sleep 1.5
    stop program KILL
    start_switch || return 1
    answer a 30 && answer b 30 || return 1
    guest b 10 'rm -f /run/burst'
    within 30 heard || { echo 'the guests do not hear each other again'; return 1; }
}

# The slots that the dead back-end had are set up anew, and all of them are there.
splits_again() {
    local side
    for side in a b; do
        within 20 splitting "$side" on || { echo "guest $side splits no more"; return 1; }
        [ "$(counter "$side" header_set_ups)" -gt "$1" ] ||
            { echo "guest $side has not set up its slots again"; return 1; }
    done
    every_packet_split a b 10.9.0.1 && every_packet_split b a 10.9.0.2 &&
        accounted a && accounted b
}

check_restarts() {
    local round
    check 'restarts: TCP, 5 MB' transfer a b 10.9.0.2 5000000
    check 'restarts: killed in a transfer, which goes on' restart_in 2
    check 'restarts: packets are split again' splits_again 1
    check 'restarts: both queues of a guest are used again' flows a b
    for round in 1 2 3; do
        check "restarts: killed in a burst, $round" restart_in_burst
        check "restarts: packets are split again, $round" splits_again $((round + 1))
    done
    check 'restarts: TCP afterwards, a to b' transfer a b 10.9.0.2 5000000
    check 'restarts: TCP afterwards, b to a' transfer b a 10.9.0.1 5000000
    check 'restarts: no complaint of the kernels' quiet_kernel
}
