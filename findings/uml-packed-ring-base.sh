#!/usr/bin/env bash
# User-Mode Linux starts packed rings over vhost-user with a base that is not where they start.
#
# One would guess that a front-end says of a new packed ring what the ring is: offset 0 and wrap
# counter 1, so SET_VRING_BASE 0x8000, or 0x80008000 with both positions; QEMU and DPDK do so.
# What happens: virtio_uml sends 0 for every ring, split or packed. For a packed ring that is offset
# 0 with wrap counter 0. The guest's driver begins with counter 1 all the same: its first available
# descriptor has AVAIL set and USED clear. A back-end that believes the base waits for the opposite
# flags, so the device probes, comes up, and not one packet ever passes.
# Whom it hurts: every vhost-user back-end that offers RING_PACKED to User-Mode Linux. Cleave takes a
# packed ring at base 0 as new if its first descriptor was never used; on a ring that has been
# round an odd number of times, for which base 0 is right, it was.
#
# Seen with user-mode-linux 6.1um4+b13 of Debian 12 (kernel 6.1.176, arch/um/drivers/virtio_uml.c).
# Needs apt, dpkg, gcc, python3; the packages are unpacked in a temporary folder.
set -euo pipefail
version=6.1um4+b13
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
apt-get download -qq "user-mode-linux=$version" busybox-static 2>/dev/null || {
    echo "skipped: user-mode-linux $version cannot be had" >&2
    exit 77
}
for package in *.deb; do dpkg -x "$package" unpacked; done
kernel=$folder/unpacked/usr/bin/linux.uml
modules=$(echo "$folder"/unpacked/usr/lib/uml/modules/*/kernel)

# On processors whose register state is larger than this kernel knows, setting it has to be completed.
cat >whole.c <<'C'
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static unsigned char state[1 << 16];

long ptrace(enum __ptrace_request request, ...)
{
    va_list list;
    va_start(list, request);
    const pid_t process = va_arg(list, pid_t);
    void *address = va_arg(list, void *), *data = va_arg(list, void *);
    va_end(list);
    if (request == PTRACE_SETREGSET && (unsigned long)address == NT_X86_XSTATE) {
        const struct iovec *part = data;
        struct iovec whole = {state, sizeof state};
        if (syscall(SYS_ptrace, PTRACE_GETREGSET, process, address, &whole) == 0) {
            memcpy(state, part->iov_base, part->iov_len);
            return syscall(SYS_ptrace, request, process, address, &whole);
        }
    }
    long word = 0;
    const int peeks = request == PTRACE_PEEKTEXT || request == PTRACE_PEEKDATA ||
        request == PTRACE_PEEKUSER;
    const long result = syscall(SYS_ptrace, request, process, address, peeks ? &word : data);
    if (peeks && result == 0) {
        errno = 0;
        return word;
    }
    return result;
}
C
preload=
if grep -qw amx_tile /proc/cpuinfo; then
    gcc -O1 -shared -fPIC whole.c -o whole.so
    preload=$folder/whole.so
fi

cat >init <<INIT
#!$folder/unpacked/bin/busybox sh
b=$folder/unpacked/bin/busybox
for module in net/core/failover drivers/net/net_failover drivers/net/virtio_net; do
    \$b insmod $modules/\$module.ko
done
\$b sleep 1
\$b mount -t sysfs sys /sys
for device in /sys/class/net/eth*; do \$b ip link set \${device##*/} up; done
\$b sleep 2
\$b poweroff -f
INIT
chmod +x init

cat >back-end.py <<'PYTHON'
import mmap, socket, struct, sys

PACKED = 1 << 34
server = socket.socket(socket.AF_UNIX)
server.bind("net.sock")
server.listen()
print("listening", flush=True)
server.settimeout(60)
peer, _ = server.accept()
bases, areas, sizes, regions, agreed = {}, {}, {}, [], 0
while True:
    try:
        header, descriptors, _, _ = socket.recv_fds(peer, 12, 8)
    except ConnectionResetError:
        break
    if len(header) < 12:
        break
    request, flags, size = struct.unpack("III", header)
    payload = peer.recv(size, socket.MSG_WAITALL) if size else b""
    answer = None
    if request == 1:
        answer = struct.pack("Q", PACKED | 1 << 32 | 1 << 30)
    elif request == 2:
        agreed = struct.unpack("Q", payload)[0]
    elif request == 15:
        answer = struct.pack("Q", 1 << 5)
    elif request == 5:
        count = struct.unpack_from("I", payload)[0]
        regions = []
        for index in range(count):
            guest, length, user, offset = struct.unpack_from("QQQQ", payload, 8 + 32 * index)
            regions.append((user, length, mmap.mmap(descriptors[index], offset + length), offset))
    elif request == 8:
        index, number = struct.unpack("II", payload)
        sizes[index] = number
    elif request == 10:
        index, number = struct.unpack("II", payload)
        bases.setdefault(index, number)
    elif request == 9:
        index, _, ring = struct.unpack_from("IIQ", payload)
        areas[index] = ring
    elif request == 18 and struct.unpack("II", payload) == (0, 0):
        # The receive ring is stopped: what has the driver written there?
        for user, length, memory, offset in regions:
            if user <= areas[0] < user + length:
                place = areas[0] - user + offset
                first = struct.unpack_from("H", memory, place + 14)[0]
                print("features 0x%x" % agreed)
                print("bases", *("0x%x" % bases[ring] for ring in sorted(bases)))
                print("first descriptor's flags 0x%04x" % first, flush=True)
    elif request == 11:
        answer = payload
    if answer is not None:
        peer.sendall(struct.pack("III", request, 5, len(answer)) + answer)
PYTHON
python3 back-end.py >seen &
back_end=$!
trap 'kill $back_end 2>/dev/null || true; rm -rf "$folder"' EXIT
for _ in $(seq 50); do grep -q listening seen && break; sleep 0.1; done
LD_PRELOAD=$preload timeout -k 2 60 "$kernel" mem=128M root=/dev/root rootfstype=hostfs \
    rootflags=/ ro quiet "init=$folder/init" con=null con0=null,fd:1 \
    "virtio_uml.device=$folder/net.sock:1" </dev/null >console 2>&1 || true
sleep 0.5
cat seen
echo "user-mode-linux $version: the descriptor has AVAIL (0x0080) and not USED (0x8000): counter 1"
if grep -qx 'features 0x540000000' seen && grep -qx 'bases 0x0 0x0' seen &&
    grep -qx "first descriptor's flags 0x0082" seen; then
    echo 'as described'
else
    tail -n 5 console >&2
    echo 'this has changed' >&2
    exit 1
fi
