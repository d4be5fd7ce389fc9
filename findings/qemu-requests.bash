# For the findings on what QEMU's network device asks of a vhost-user back-end; sourced by them, no
# finding by itself. It unpacks QEMU, starts a back-end that writes requests down, and runs QEMU.
version=1:7.2+dfsg-7+deb12u18+b3
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

if [ "$(dpkg-query -W -f '${Version}' qemu-system-x86 2>/dev/null)" = "$version" ] &&
    [ -n "$(command -v qemu-system-x86_64)" ]; then
    qemu=(qemu-system-x86_64)
else
    # The package, its firmware, and the libraries that it needs beside the system's own.
    apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks \
        --no-replaces --no-enhances "qemu-system-x86=$version" ipxe-qemu | grep -E '^[a-z]' |
        grep -vE '^(libc6|libgcc-s1|gcc-12-base|debconf|dpkg|perl|sed|tar|install-info)' |
        grep -E '^(lib|qemu-system|seabios|ipxe)' | sort -u >wanted
    mkdir packages unpacked
    (cd packages && apt-get download -qq "qemu-system-x86=$version" 2>/dev/null &&
        xargs -n 1 apt-get download -qq <../wanted 2>/dev/null) || true
    for package in packages/*.deb; do [ ! -e "$package" ] || dpkg -x "$package" unpacked; done
    [ -x unpacked/usr/bin/qemu-system-x86_64 ] ||
        { echo "skipped: qemu-system-x86 $version cannot be had" >&2; exit 77; }
    export LD_LIBRARY_PATH=$folder/unpacked/usr/lib/x86_64-linux-gnu
    qemu=(unpacked/usr/bin/qemu-system-x86_64)
    for data in share/qemu share/seabios lib/ipxe/qemu; do qemu+=(-L "unpacked/usr/$data"); done
fi

# A back-end of requests alone: it answers what has to be answered, touches no memory, and writes
# down what comes.
cat >backend.py <<'PYTHON'
import os, socket, struct, sys

NAMES = {
    2: "SET_FEATURES", 10: "SET_VRING_BASE", 11: "GET_VRING_BASE", 12: "SET_VRING_KICK",
    16: "SET_PROTOCOL_FEATURES", 31: "GET_INFLIGHT_FD", 32: "SET_INFLIGHT_FD", 39: "SET_STATUS",
}
FEATURES = 1 << 32 | 1 << 30 | 1 << 15  # VERSION_1, protocol features, MRG_RXBUF
PROTOCOL = 1 << 16 | 1 << 12 | 1 << 3 | 1  # STATUS, INFLIGHT_SHMFD, REPLY_ACK, MQ
listener = socket.socket(socket.AF_UNIX)
listener.bind("socket")
listener.listen(1)
peer, _ = listener.accept()
status = 0


def receive(count):
    data = b""
    while len(data) < count:
        part, descriptors, _, _ = socket.recv_fds(peer, count - len(data), 8)
        for descriptor in descriptors:
            os.close(descriptor)
        if not part:
            sys.exit(0)
        data += part
    return data


while True:
    number, flags, size = struct.unpack("<III", receive(12))
    payload = receive(size)
    value = struct.unpack("<Q", payload[:8])[0] if size >= 8 else 0
    print(NAMES.get(number, number), hex(value), flush=True)
    if number == 39:
        status = value
    answers = {1: FEATURES, 15: PROTOCOL, 17: 1, 40: status, 11: value & 0xFFFFFFFF}
    if number in answers or flags & 8:
        answer = struct.pack("<Q", answers.get(number, 0))
        peer.sendall(struct.pack("<III", number, 5, len(answer)) + answer)
PYTHON
python3 backend.py >requests &
for _ in $(seq 50); do [ -S socket ] || sleep 0.1; done

# No system is needed in the guest: the card's own boot program (iPXE) drives it.
within() { # SECONDS PATTERN
    for _ in $(seq $((10 * $1))); do
        if grep -q "$2" requests; then return 0; fi
        sleep 0.1
    done
    return 1
}

# Runs the guest; its monitor takes commands from standard input.
run_qemu() {
    timeout -k 2 120 "${qemu[@]}" -nodefaults -display none -m 64 -accel tcg -monitor stdio \
            -object memory-backend-memfd,id=m0,size=64M,share=on -numa node,memdev=m0 \
            -chardev socket,id=c0,path=socket -netdev vhost-user,id=n0,chardev=c0 \
            -device virtio-net-pci,netdev=n0,bootindex=0 >log 2>&1 ||
        { tail -n 3 log >&2; exit 1; }
}
