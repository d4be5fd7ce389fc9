#!/usr/bin/env bash
# DPDK's testpmd throws away the first packets of a capture that it is told to forward.
#
# One would guess that a capture file behind the net_pcap driver is forwarded from its first packet
# on: nothing arrives from a wire before forwarding starts, so nothing can be old.
# What happens: the command `start` first reads and drops what every port holds, up to some bursts
# a queue, so that stale packets do not disturb figures. A file counts as a port that holds packets,
# and reading it again does not begin at its front: of a capture of 256 packets none is forwarded.
# The option --no-flush-rx turns it off. No message says that packets were dropped.
# Whom it hurts: whoever compares what went into a switch with what came out, byte by byte, by two
# captures: short ones pass as "lost by the switch". Cleave's comparisons (Tests/Peers/testpmd-io)
# use --no-flush-rx and count both sides.
#
# Seen with DPDK 22.11.11 of Debian 12 (app/test-pmd/testpmd.c: flush_fwd_rx_queues). Needs apt,
# dpkg and python3; what is not installed is unpacked in a temporary folder.
set -euo pipefail
version=22.11.11-0+deb12u1
# DPDK loads no driver from below a folder that everybody may write to, such as /tmp.
folder=$(mktemp -d -p "${XDG_CACHE_HOME:-$HOME}")
trap 'rm -rf "$folder"' EXIT
cd "$folder"

if [ "$(dpkg-query -W -f '${Version}' dpdk-dev 2>/dev/null)" = "$version" ] &&
    [ -d /usr/lib/x86_64-linux-gnu/dpdk ]; then
    # Installed: its libraries would load their own drivers beside others of the same names.
    binary=/usr/bin/dpdk-testpmd
    plugins=()
else
    # The package, and what it needs that is not part of every Debian system.
    apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks \
        --no-replaces --no-enhances "dpdk-dev=$version" | grep -E '^[a-z]' | sort -u >names
    grep -E '^(dpdk-dev|librte-|libpcap0|libibverbs1|libmlx|ibverbs|libnl-|libbpf|libelf1)' \
        names >wanted
    grep -E '^(libfdt1|libjansson4|libbsd0|libmd0|libxdp|libarchive13|libisal2|libnuma1)' \
        names >>wanted
    mkdir packages unpacked
    (cd packages && xargs apt-get download -qq <../wanted 2>/dev/null) || true
    for package in packages/*.deb; do dpkg -x "$package" unpacked; done
    binary=$(find unpacked -name dpdk-testpmd -type f -print -quit)
    [ -n "$binary" ] || { echo "skipped: dpdk-dev $version cannot be had" >&2; exit 77; }
    export LD_LIBRARY_PATH=$folder/unpacked/usr/lib/x86_64-linux-gnu
    plugins=()
    for name in bus_vdev mempool_ring net_pcap; do
        plugins+=(-d "$folder/$(find unpacked -name "librte_$name.so.*" -print -quit)")
    done
fi

python3 - <<'PYTHON'
import struct
with open("in.pcap", "wb") as file:
    file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
    for number in range(256):
        frame = bytes.fromhex("0200000000020200000000 0188b5".replace(" ", ""))
        frame += struct.pack("<I", number) + bytes(42)
        file.write(struct.pack("<IIII", 0, number, len(frame), len(frame)) + frame)
PYTHON

# Packets in a capture: whole records behind the 24 bytes of the file's header.
count() { echo $((($(stat -c %s "$1") - 24) / 76)); }
forward() {
    local out=$1
    shift
    (echo start; sleep 2; echo stop; echo quit) | timeout -k 2 30 "$binary" "${plugins[@]}" \
        --lcores 0,1@0 --main-lcore 0 --no-huge -m 128 --no-pci --file-prefix="finding$$" \
        --no-telemetry --vdev net_pcap0,rx_pcap=in.pcap,tx_pcap=unused.pcap \
        --vdev "net_pcap1,rx_pcap=in.pcap,tx_pcap=$out" -- -i --nb-cores=1 \
        --total-num-mbufs=2048 "$@" >log 2>&1 || { head -n 8 log >&2; exit 1; }
}
forward default.pcap
forward noflush.pcap --no-flush-rx
default=$(count default.pcap) noflush=$(count noflush.pcap)
echo "dpdk-dev $version: of 256 packets $default were forwarded, with --no-flush-rx $noflush"
if [ "$default" -lt 256 ] && [ "$noflush" -eq 256 ] && ! grep -qi 'drop.*flush\|flush.*drop' log
then
    echo 'as described'
else
    echo 'this has changed' >&2
    exit 1
fi
