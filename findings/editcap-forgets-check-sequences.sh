#!/usr/bin/env bash
# editcap turns the frame check sequences that a capture declares into bytes of its frames.
#
# One would guess that a program which copies a capture, or writes it in the other format, keeps
# what the file says of its frames: that each ends with 4 bytes of frame check sequence, in the
# upper bits of the link type (pcap), or in if_fcslen of the interface (pcapng).
# What happens: those bytes are copied, and the statement is not, neither from pcap to pcap or
# pcapng nor from pcapng to pcap; nothing is said. Only from pcapng to pcapng is it kept. tcpdump
# -r -w keeps it. From then on the check sequence is payload of every frame: 4 bytes more to place
# and to count, and headers that seem whole where the capture cut them.
# Whom it hurts: whoever converts a capture for a program that reads only one format, and measures
# or replays the copy. Cleave takes declared sequences off in both formats, so that its figures are
# of frames; a copy made by editcap is replayed with 4 bytes too many, which no reader can know.
#
# Seen with Wireshark 4.0.17 of Debian 12 (wiretap keeps the length as a property of each packet as
# it is read; libpcap_dump_write_file_header writes a bare link type). Needs editcap and tcpdump,
# from the packages wireshark-common and tcpdump; what is not installed is unpacked in a temporary
# folder.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

if ! command -v editcap >/dev/null || ! command -v tcpdump >/dev/null; then
    mkdir packages unpacked
    apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks \
        --no-replaces --no-enhances wireshark-common tcpdump | grep -E '^[a-z]' | sort -u |
        grep -vE '^(libc6|libgcc-s1|gcc-.*-base|debconf.*|dpkg|perl.*|libqt.*|libgl.*|qt.*)$' \
            >wanted
    (cd packages && xargs apt-get download -qq <../wanted 2>/dev/null) || true
    for package in packages/*.deb; do dpkg -x "$package" unpacked; done
    export PATH=$PWD/unpacked/usr/bin:$PATH
    export LD_LIBRARY_PATH=$PWD/unpacked/usr/lib/x86_64-linux-gnu:$PWD/unpacked/lib/x86_64-linux-gnu
fi
version=$(editcap --version 2>/dev/null | sed -n '1s/^Editcap (Wireshark) \([0-9.]*\).*/\1/p')

# A frame of 60 bytes and its check sequence, in a file that declares 2 words of 2 bytes.
words() {
    for word in "$@"; do printf "\\x${word:6:2}\\x${word:4:2}\\x${word:2:2}\\x${word:0:2}"; done
}
{
    words a1b2c3d4 00040002 00000000 00000000 00040000 24000001
    words 65000000 00000000 00000040 00000040
    head -c 60 /dev/zero | tr '\0' '\2'
    words 12345678
} >declared.pcap
# The upper half of the link type, and the length of the packet.
pcap() { od -A n -t x2 -j 22 -N 2 "$1" | tr -d ' '; }
length() { od -A n -t u4 -j 32 -N 4 "$1" | tr -d ' '; }

tcpdump -r declared.pcap -w tcpdump.pcap 2>/dev/null
editcap -F pcap declared.pcap editcap.pcap
editcap -F pcapng declared.pcap editcap.pcapng
# Option 13 of an interface, of 1 byte.
option=$(od -A n -t x1 -v editcap.pcapng | tr -d ' \n' | grep -c 0d000100 || true)
before="$(pcap declared.pcap) $(length declared.pcap)"
kept="$(pcap tcpdump.pcap) $(length tcpdump.pcap)"
lost="$(pcap editcap.pcap) $(length editcap.pcap)"
echo "Wireshark $version: declared $before bytes; tcpdump writes $kept; editcap writes $lost," \
    "and if_fcslen $option times"
if [ "$before $kept" = '2400 64 2400 64' ] && [ "$lost" = '0000 64' ] && [ "$option" -eq 0 ]; then
    echo 'as described'
else
    echo 'this has changed' >&2
    exit 1
fi
