# shellcheck shell=bash
# Linux guests that run commands. `boot_uml NAME ADDRESS SOCKET...` and `boot_qemu` start one, and
# `boot_netns` takes the host's kernel for one; then `guest NAME SECONDS COMMAND` runs a command in
# it, prints what that prints, and has its status.

# Of common.bash.
: "${here:?}" "${top:?}"
scratch=${scratch-}
: "${enter[@]}"

declare -A kinds=() addresses=()

# User-Mode Linux: a kernel that is a process. Its network devices are its own front-ends.
uml_kernel=$(command -v linux.uml || true)
uml_modules() {
    local folder wanted name
    folder=$(dirname "$(find /usr/lib/uml/modules -name modules.dep 2>/dev/null | sort -V | tail -n 1)")
    for wanted in "$@"; do
        # Dependencies are listed with the nearest first: load them from the end.
        awk -v wanted="/$wanted.ko:" 'index($1, wanted) {
            for (field = NF; field > 1; field--) print $field
            print substr($1, 1, length($1) - 1)
        }' "$folder/modules.dep"
    done | awk '!seen[$0]++' | while read -r name; do printf '%s,' "$folder/$name"; done
}

need_uml() {
    need busybox setpriv setsid timeout ip ethtool
    [ -n "$uml_kernel" ] || skip 'there is no linux.uml; install user-mode-linux'
    modules=$(uml_modules virtio_net 8021q ipv6)
    [[ $modules == *virtio_net.ko* ]] || skip 'the modules of User-Mode Linux are not there'
    preload=
    if grep -qw amx_tile /proc/cpuinfo; then
        need cc
        cc -shared -fPIC -O2 -o "$scratch/uml-xstate.so" "$here/uml-xstate.c" ||
            skip 'uml-xstate.c cannot be compiled, and this processor has AMX'
        preload=$scratch/uml-xstate.so
    fi
    # What transfers send.
    head -c 100000000 /dev/urandom >"$scratch/data"
}

boot_uml() {
    local name=$1 address=$2 device=() socket
    shift 2
    for socket in "$@"; do device+=("virtio_uml.device=$scratch/$socket:1"); done
    rm -rf "${scratch:?}/$name"
    mkdir "$scratch/$name"
    echo 0 >"$scratch/$name/number"
    kinds[$name]=uml addresses[$name]=$address
    # HOME: the kernel keeps a folder there. TMPDIR: its memory is a file there.
    start "$name" "${guest_limit:-600}" env HOME="$scratch/$name" TMPDIR="$scratch" \
        LD_PRELOAD="$preload" "$uml_kernel" mem=192M root=/dev/root rootfstype=hostfs \
        rootflags=/ ro quiet init="$here/uml-init" \
        con=null con0=null,fd:1 "${device[@]}" \
        peers_dir="$scratch" peers_name="$name" peers_modules="$modules"
    if ! within 30 [ -e "$scratch/$name/up" ]; then
        echo "guest $name does not boot: $(tail -n 2 "$scratch/$name.log" | tr '\n' ' ')"
        return 1
    fi
    guest "$name" 15 'test -n "$DEV"' ||
        { echo "guest $name has no device: $(grep virtio_net "$scratch/$name.log")"; return 1; }
    configure "$name"
}

# boot_netns NAME ADDRESS DEVICE: a network namespace of the host's kernel in place of a guest. The
# device is moved there from where the program runs.
need_netns() {
    need ip busybox unshare nsenter setpriv setsid timeout ethtool
    unshare --net --mount true 2>/dev/null || skip 'namespaces may not be made here'
}
boot_netns() {
    local name=$1 address=$2 device=$3
    rm -rf "${scratch:?}/$name"
    mkdir "$scratch/$name"
    echo 0 >"$scratch/$name/number"
    kinds[$name]=netns addresses[$name]=$address
    start "$name" "${guest_limit:-600}" unshare --net --mount --propagation private \
        "$here/netns-init" "$scratch" "$name" "$device"
    if ! within 10 [ -e "$scratch/$name/up" ]; then
        echo "namespace $name does not begin: $(tail -n 2 "$scratch/$name.log" | tr '\n' ' ')"
        return 1
    fi
    "${enter[@]}" ip link set "$device" netns "$(process "$name")" && configure "$name"
}

# Gives the device its addresses; again after the driver was bound anew.
configure() {
    guest "$1" 15 "busybox sysctl -w net.ipv6.conf.\$DEV.accept_dad=0 \
            net.core.rmem_max=8388608 net.core.rmem_default=8388608 >/run/sysctl 2>&1
        ip addr add 10.9.0.${addresses[$1]}/24 dev \$DEV &&
        ip link set \$DEV up && ip -6 addr add fd09::${addresses[$1]}/64 dev \$DEV"
}

guest() {
    local name=$1 seconds=$2 command=$3
    ask "$name" "$command"
    answer "$name" "$seconds"
}

# ask starts a command, answer waits for the one that was asked last. Commands are counted in a
# file, since these functions also run in subshells.
ask() {
    local number
    number=$(($(cat "$scratch/$1/number") + 1))
    echo $number >"$scratch/$1/number"
    if [ "${kinds[$1]}" != qemu ]; then
        printf '%s\n' "$2" >"$scratch/$1/part"
        mv "$scratch/$1/part" "$scratch/$1/$number.run"
    else
        printf '%s %s\n' $number "$(base64 -w 0 <<<"$2")" >"$scratch/$1/serial.in"
    fi
}

answer() {
    local at
    at=$scratch/$1/$(cat "$scratch/$1/number")
    if [ "${kinds[$1]}" = qemu ]; then
        within "$2" listen "$1" "$at"
    fi
    if ! within "$2" [ -e "$at.status" ]; then
        cat "$at.out" 2>/dev/null
        echo "guest $1 did not finish within $2 s"
        return 1
    fi
    cat "$at.out"
    return "$(cat "$at.status")"
}

# The serial port's text as files, as the other guests write them.
listen() {
    local number=${2##*/}
    grep -qs "^@status $number " "$scratch/$1/serial" || return 1
    tr -d '\r' <"$scratch/$1/serial" | awk -v number="$number" '
        $1 == "@status" && $2 == number { exit }
        on { print }
        $1 == "@begin" && $2 == number { on = 1 }' >"$2.out"
    awk -v number="$number" '$1 == "@status" && $2 == number { print $3 + 0 }' \
        "$scratch/$1/serial" >"$2.status"
}

# QEMU with emulated CPUs: Debian's cloud kernel, busybox, and a card that the back-end serves.
need_qemu() {
    need qemu-system-x86_64 busybox cpio depmod setpriv setsid timeout ethtool base64
    local cache=$top/.build-peers package version
    mkdir -p "$cache"
    image() { find "$cache/kernel/boot" -name 'vmlinuz-*' 2>/dev/null | sort -V | tail -n 1; }
    if [ -z "$(image)" ]; then
        need apt-get apt-cache dpkg
        package=$(apt-cache depends linux-image-cloud-amd64 2>/dev/null |
            awk '$1 == "Depends:" && /linux-image-/ { print $2; exit }')
        [ -n "$package" ] || skip 'apt knows no linux-image-cloud-amd64'
        (cd "$cache" && rm -f linux-image-*.deb && apt-get -q download "$package" >apt.log 2>&1) ||
            skip "cannot fetch $package: $(tail -n 1 "$cache/apt.log")"
        dpkg -x "$cache"/linux-image-*.deb "$cache/kernel"
        rm -f "$cache"/linux-image-*.deb
    fi
    kernel=$(image)
    version=${kernel##*/vmlinuz-}
    [ -e "$cache/kernel/lib/modules/$version/modules.dep" ] ||
        depmod -b "$cache/kernel" "$version" || skip 'depmod fails on the kernel that was unpacked'

    # What virtio_net needs.
    qemu_initrd "$cache/kernel/lib/modules/$version" virtio_pci virtio_net 8021q
}

# qemu_initrd FOLDER MODULE...: the guests' file system, with modules of the kernel whose folder
# that is, in the order in which they are loaded. A name with a slash is a file by itself. Programs
# of the host that guests have, with the libraries that they need, are in `guest_programs`.
guest_programs=(ethtool)
qemu_initrd() {
    local folder=$1 root=$scratch/root wanted name count=100
    shift
    mkdir -p "$root"/{bin,proc,sys,dev,tmp,run,modules}
    cp "$(command -v busybox)" "$root/bin/busybox"
    cp "$here/qemu-init" "$root/init"
    for wanted in "${guest_programs[@]}"; do
        cp "$(command -v "$wanted")" "$root/bin/${wanted##*/}"
        ldd "$(command -v "$wanted")" | awk '/=> \// { print $3 } $1 ~ /^\// { print $1 }' |
            while read -r library; do
                mkdir -p "$root$(dirname "$library")"
                cp -L "$library" "$root$library"
            done
    done
    for wanted in "$@"; do
        if [[ $wanted == */* ]]; then
            echo "$wanted"
            continue
        fi
        awk -v wanted="/$wanted.ko:" -v folder="$folder/" 'index($1, wanted) {
            for (field = NF; field > 1; field--) print folder $field
            print folder substr($1, 1, length($1) - 1)
        }' "$folder/modules.dep"
    done | awk '!seen[$0]++' | while read -r name; do
        count=$((count + 1))
        cp "$name" "$root/modules/$count-${name##*/}"
    done
    (cd "$root" && find . | cpio --quiet -o -H newc) >"$scratch/initrd"
    rm -rf "$root"
}

# The machine that boot_qemu starts, and its card: qemu_card SOCKET ADDRESS split|packed QUEUES.
# vectors=0, INTx: what QEMU 7.2 needs without KVM. `qemu_socket` says who listens: the back-end, to
# which QEMU connects again and again, or with `server=on` QEMU.
qemu=(qemu-system-x86_64)
guest_mebibytes=256
qemu_socket=reconnect=1
qemu_card() {
    local packed=off
    if [ "$3" = packed ]; then packed=on; fi
    card=(-chardev "socket,id=c0,path=$1,$qemu_socket"
        -netdev "vhost-user,id=n0,chardev=c0,queues=$4"
        -device "virtio-net-pci,netdev=n0,mac=52:54:00:00:00:0$2,packed=$packed,mq=on,vectors=0,romfile=")
}

# boot_qemu NAME ADDRESS SOCKET split|packed QUEUES [ARGUMENT...]
boot_qemu() { start_qemu "$@" && await_qemu "$1"; }
await_qemu() {
    local name=$1
    if ! within 90 grep -qs '^@up' "$scratch/$name/serial"; then
        echo "guest $name does not boot: $(tail -n 1 "$scratch/$name.log" "$scratch/$name/console")"
        return 1
    fi
    guest "$name" 30 'test -n "$DEV"' || { echo "guest $name has no device"; return 1; }
    configure "$name"
}

# start_qemu: the same, without a look at the guest, which is await_qemu's.
start_qemu() {
    local name=$1 address=$2 socket=$3 card=()
    qemu_card "$socket" "$address" "$4" "$5"
    shift 5
    rm -rf "${scratch:?}/$name"
    mkdir "$scratch/$name"
    echo 0 >"$scratch/$name/number"
    kinds[$name]=qemu addresses[$name]=$address
    mkfifo "$scratch/$name/serial.in" "$scratch/$name/serial.out"
    start "$name-serial" "${guest_limit:-600}" sh -c 'exec cat <"$0" >"$1"' \
        "$name/serial.out" "$name/serial"
    start "$name" "${guest_limit:-600}" "${qemu[@]}" -nodefaults -no-user-config \
        -display none -no-reboot -machine pc,usb=off -accel tcg,thread=multi -cpu max,la57=off \
        -m "$guest_mebibytes" -smp 2 \
        -object "memory-backend-memfd,id=m0,size=${guest_mebibytes}M,share=on" \
        -numa node,memdev=m0 -kernel "$kernel" -initrd "$scratch/initrd" \
        -append "console=ttyS0 quiet nokaslr mitigations=off no_timer_check tsc=unstable panic=-1" \
        -serial "file:$name/console" -chardev "pipe,id=s1,path=$name/serial" -serial chardev:s1 \
        "${card[@]}" "$@"
}

# What the tests do with two guests; each is a command for `check`.
# pings FROM TO SIZE...: an echo of each size comes back; the kernels check their checksums.
pings() {
    local from=$1 to=$2
    shift 2
    guest "$from" 120 "for size in $*; do
        busybox ping -c 1 -W 3 -s \$size $to >/run/ping ||
            { echo \"no echo of \$size bytes from $to\"; exit 1; }
    done"
}

# transfer FROM TO ADDRESS BYTES: TCP; the receiver's sum has to be the sender's. The receiver's
# standard input never ends: busybox would close the connection with it.
transfer() {
    local from=$1 to=$2 address=$3 bytes=$4 wanted found
    wanted=$(guest "$from" 60 "head -c $bytes /tmp/data | sha256sum") || return 1
    ask "$to" '[ -p /run/hold ] || mkfifo /run/hold
        busybox timeout 100 busybox nc -l -p 5002 <>/run/hold | sha256sum'
    guest "$from" 100 "
        for try in \$(busybox seq 50); do
            head -c $bytes /tmp/data | busybox nc $address 5002 && exit 0
            busybox usleep 100000
        done
        echo 'no connection'; exit 1" || return 1
    found=$(answer "$to" 20) || { echo "$found"; return 1; }
    [ "$wanted" = "$found" ] || { echo "sums differ: sent $wanted, came $found"; return 1; }
}

# 200 datagrams a second, a rate at which a guest that has to wait for a CPU loses none.
udp() {
    local from=$1 to=$2 address=$3 size=$4 text server
    ask "$to" 'timeout -k 1 25 iperf3 -s -1 >/run/iperf; cat /run/iperf'
    text=$(guest "$from" 25 "
        for try in \$(busybox seq 50); do
            timeout -k 1 20 iperf3 -u -c $address -b $((size * 1600)) -l $size -t 2 \
                >/run/iperf && break
            busybox usleep 200000
        done
        cat /run/iperf")
    server=$(answer "$to" 10)
    if ! grep -q 'receiver' <<<"$text"; then
        echo "iperf3 has no result: $(tail -n 1 <<<"$text"); $(tail -n 1 <<<"$server")"
        return 1
    fi
    grep -q ' 0/[1-9][0-9]* (0%) *receiver' <<<"$text" ||
        { echo "datagrams were lost: $(grep receiver <<<"$text")"; return 1; }
}

# A tag is four bytes more than the MTU: the frame of a full packet has 1518 bytes.
vlan() {
    local side
    for side in a b; do
        guest "$side" 10 "ip link add link \$DEV name v5 type vlan id 5 &&
            ip addr add 10.5.0.${addresses[$side]}/24 dev v5 && ip link set v5 up" || return 1
    done
    pings a 10.5.0.2 0 18 46 1000 1472 && transfer b a 10.5.0.1 5000000 &&
        for side in a b; do guest "$side" 5 'ip link del v5' || return 1; done
}

# Without offloads the guest makes each packet itself, with them the back-end passes what is larger.
without_offloads() {
    local side status
    for side in a b; do
        guest "$side" 5 'ethtool -K $DEV tso off gso off gro off tx off' || return 1
    done
    transfer a b 10.9.0.2 20000000
    status=$?
    for side in a b; do guest "$side" 5 'ethtool -K $DEV tx on gso on gro on tso on'; done
    return "$status"
}

# rebind GUEST OTHER: a driver that is bound again begins with new rings.
rebind() {
    guest "$1" 10 'set -e
        name=$(basename "$(readlink /sys/class/net/$DEV/device)")
        driver=$(readlink -f /sys/class/net/$DEV/device/driver)
        echo $name >$driver/unbind
        echo $name >$driver/bind' &&
        configure "$1" && pings "$1" "10.9.0.${addresses[$2]}" 56 1472 &&
        pings "$2" "10.9.0.${addresses[$1]}" 56 1472
}

# Linux found nothing wrong with what the device did.
quiet_kernel() {
    local side found
    for side in a b; do
        found=$(guest "$side" 10 "dmesg |
            grep -E 'WARNING|BUG|out of range|not a head|hw csum' | tail -n 3")
        if [ -n "$found" ]; then
            echo "guest $side: $found"
            return 1
        fi
    done
}
