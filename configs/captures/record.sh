#!/bin/sh
# Records linux-mtu1500.pcap and linux-mtu9000.pcapng: real TCP and UDP traffic of this kernel
# between two network namespaces. Nothing outside them is touched, and they are removed at the
# end. Needs root and: iproute2 iputils-ping ethtool iperf3 tcpdump wireshark-common.
#
# usage: record.sh [OUTPUT-DIRECTORY]      (default: the directory of this script)
set -eu

output=${1:-$(dirname "$0")}
client=cleave-client-$$
server=cleave-server-$$
scratch=$(mktemp -d)
background=

cleanup() {
    for process in $background; do kill "$process" 2>/dev/null || true; done
    ip netns del "$client" 2>/dev/null || true
    ip netns del "$server" 2>/dev/null || true
    rm -rf "$scratch"
}
trap cleanup EXIT
trap 'exit 1' INT TERM

in_client() { ip netns exec "$client" "$@"; }

# One end of the cable: NAMESPACE INTERFACE MAC HOST-NUMBER MTU. Without offloads each frame
# has the size and the checksums that a wire would carry.
end_of_cable() {
    ip netns exec "$1" sh -eu -c '
        ip link set lo up
        ip link set "$1" address "$2" mtu "$4"
        ethtool -K "$1" tso off gso off gro off tx off rx off >/dev/null
        ip addr add "192.0.2.$3/24" dev "$1"
        ip addr add "2001:db8::$3/64" dev "$1" nodad
        ip link set "$1" up' - "$2" "$3" "$4" "$5"
}

# A client that sends a set number of bytes: PORT iperf3-options...
send() {
    port=$1
    shift
    in_client timeout 30 iperf3 -p "$port" "$@" >"$scratch/client-$port.log" 2>&1
}

# MTU FILE: sizes of UDP payloads fill a frame (28 or 48 bytes of IP and UDP headers).
record() {
    mtu=$1
    file=$2
    ip netns add "$client"
    ip netns add "$server"
    ip link add cable0 netns "$client" type veth peer name cable1 netns "$server"
    end_of_cable "$client" cable0 02:00:00:00:00:01 1 "$mtu"
    end_of_cable "$server" cable1 02:00:00:00:00:02 2 "$mtu"

    # Started without a shell function, so that $! is the program and not a shell around it.
    ip netns exec "$client" tcpdump -i cable0 -Z root -s 0 --immediate-mode --time-stamp-precision=nano \
        -w "$file" 2>"$scratch/tcpdump.log" &
    tcpdump=$!
    background=$tcpdump
    until grep -q listening "$scratch/tcpdump.log"; do
        kill -0 "$tcpdump" 2>/dev/null || { cat "$scratch/tcpdump.log" >&2; exit 1; }
        sleep 0.1
    done
    for port in 5201 5202 5203 5204; do
        ip netns exec "$server" timeout 30 iperf3 -s -1 -p "$port" >/dev/null 2>&1 &
        background="$background $!"
    done
    sleep 1

    # Address resolution, echo, and one datagram in fragments.
    in_client ping -q -c 1 192.0.2.2 >/dev/null
    in_client ping -q -c 1 2001:db8::2 >/dev/null
    in_client ping -q -c 1 -s $((mtu + 100)) 192.0.2.2 >/dev/null

    # All four at once, so that their frames mix; the second TCP flow sends the other way.
    bulk="-l 16K -n $3"
    send 5201 -c 192.0.2.2 $bulk &
    one=$!
    send 5202 -c 2001:db8::2 -R $bulk &
    two=$!
    send 5203 -c 192.0.2.2 -u -b 40M -l $((mtu - 28)) -n "$4" &
    three=$!
    send 5204 -c 2001:db8::2 -u -b 40M -l $((mtu - 48)) -n "$4" &
    four=$!
    for process in $one $two $three $four; do
        wait "$process" || { cat "$scratch"/client-*.log >&2; exit 1; }
    done
    sleep 1
    # A shell without job control starts background programs deaf to SIGINT.
    kill -TERM "$tcpdump"
    wait "$tcpdump" || true
    background=
    ip netns del "$client"
    ip netns del "$server"
}

record 1500 "$scratch/linux-mtu1500.pcap" 160K 80K
record 9000 "$scratch/linux-mtu9000.pcap" 208K 144K
# Frames that two CPUs handle at once are recorded some microseconds out of order.
reordercap "$scratch/linux-mtu1500.pcap" "$output/linux-mtu1500.pcap"
reordercap "$scratch/linux-mtu9000.pcap" "$scratch/ordered.pcap"
editcap -F pcapng "$scratch/ordered.pcap" "$output/linux-mtu9000.pcapng"
ls -l "$output"/linux-mtu*
