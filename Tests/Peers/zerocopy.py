#!/usr/bin/env python3
"""One end of a TCP connection whose receiver maps payload instead of copying it.

  zerocopy.py receive PORT BYTES     maps what it can by TCP_ZEROCOPY_RECEIVE, copies the rest
  zerocopy.py copy PORT BYTES        copies everything
  zerocopy.py send ADDRESS PORT BYTES

The receiver prints one line: bytes, bytes mapped, seconds, CPU seconds, and a checksum that the
sender prints as well. Every byte sent is 8 * (its place / 8) modulo 2^64, so that pages differ.
"""
import ctypes
import mmap
import select
import socket
import struct
import sys
import time
import zlib

CHUNK = 1 << 20
TCP_ZEROCOPY_RECEIVE = 35

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int,
                      ctypes.c_long]


def pattern(first, count):
    """The bytes from place `first` on, a multiple of 8."""
    return struct.pack("<%dQ" % (count // 8), *range(first, first + count, 8))


class Arguments(ctypes.Structure):
    """struct tcp_zerocopy_receive of include/uapi/linux/tcp.h."""
    _fields_ = [("address", ctypes.c_uint64), ("length", ctypes.c_uint32),
                ("skip", ctypes.c_uint32), ("waiting", ctypes.c_uint32), ("error", ctypes.c_int32),
                ("copy_address", ctypes.c_uint64), ("copy_length", ctypes.c_int32),
                ("flags", ctypes.c_uint32), ("control", ctypes.c_uint64),
                ("control_length", ctypes.c_uint64), ("control_flags", ctypes.c_uint32),
                ("reserved", ctypes.c_uint32)]


def receive(port, total, maps):
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind(("0.0.0.0", port))
    server.listen(1)
    print("listening", flush=True)
    peer, _ = server.accept()
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 64 << 10)
    address = None
    if maps:
        address = libc.mmap(None, CHUNK, mmap.PROT_READ, mmap.MAP_SHARED, peer.fileno(), 0)
        if address in (None, ctypes.c_void_p(-1).value):
            sys.exit("the socket cannot be mapped: errno %d" % ctypes.get_errno())
    came = mapped = check = 0
    buffer = bytearray(CHUNK)
    start, before = time.monotonic(), time.process_time()
    while came < total:
        select.select([peer], [], [], 5)
        want = CHUNK
        if maps:
            one = Arguments(address=address, length=CHUNK)
            size = ctypes.c_uint32(ctypes.sizeof(one))
            if libc.getsockopt(peer.fileno(), socket.IPPROTO_TCP, TCP_ZEROCOPY_RECEIVE,
                               ctypes.byref(one), ctypes.byref(size)) != 0:
                sys.exit("TCP_ZEROCOPY_RECEIVE: errno %d" % ctypes.get_errno())
            if one.length:
                check = zlib.crc32((ctypes.c_char * one.length).from_address(address), check)
                mapped += one.length
                came += one.length
            want = one.skip
            if not want and one.length:
                continue
            if not want:
                # Less than the low-water mark is left at the end.
                want = min(CHUNK, total - came)
        count = peer.recv_into(buffer, min(want, CHUNK))
        if count == 0:
            break
        check = zlib.crc32(memoryview(buffer)[:count], check)
        came += count
    print("came %d mapped %d seconds %.3f cpu %.3f crc %08x"
          % (came, mapped, time.monotonic() - start, time.process_time() - before, check))


def send(address, port, total):
    peer = socket.create_connection((address, port), timeout=10)
    check = place = 0
    while place < total:
        part = pattern(place, min(CHUNK, total - place))
        check = zlib.crc32(part, check)
        peer.sendall(part)
        place += len(part)
    peer.close()
    print("crc %08x" % check)


if __name__ == "__main__":
    if len(sys.argv) == 4 and sys.argv[1] in ("receive", "copy"):
        receive(int(sys.argv[2]), int(sys.argv[3]), sys.argv[1] == "receive")
    elif len(sys.argv) == 5 and sys.argv[1] == "send":
        send(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    else:
        sys.exit(__doc__)
