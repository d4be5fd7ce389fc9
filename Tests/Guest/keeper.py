#!/usr/bin/env python3
"""Stands between a front-end of vhost-user and a back-end, and outlives the back-end.

  keeper.py FRONT BACK

Listens on FRONT, connects to BACK and passes messages on. When the back-end dies it waits for the
next one and tells it all that the front-end had said, as QEMU's network front-end does when it
connects again: the rings go on at their used index. Neither User-Mode Linux nor QEMU 11's
vhost-user-test-device can do that themselves. Split rings only.
"""
import array
import mmap
import os
import select
import socket
import struct
import sys
import time

GET_FEATURES, SET_FEATURES, SET_OWNER, SET_MEM_TABLE = 1, 2, 3, 5
SET_VRING_NUM, SET_VRING_ADDR, SET_VRING_BASE, GET_VRING_BASE = 8, 9, 10, 11
SET_VRING_KICK, SET_VRING_CALL, SET_VRING_ERR = 12, 13, 14
GET_PROTOCOL_FEATURES, SET_PROTOCOL_FEATURES, GET_QUEUE_NUM, SET_VRING_ENABLE = 15, 16, 17, 18
SET_BACKEND_REQ_FD, GET_CONFIG, RESET_DEVICE = 21, 24, 34
GET_MAX_MEM_SLOTS, ADD_MEM_REG, REM_MEM_REG = 36, 37, 38
# What is answered in any case; everything else only if the front-end asks for it.
ANSWERED = {GET_FEATURES, GET_PROTOCOL_FEATURES, GET_QUEUE_NUM, GET_VRING_BASE, GET_CONFIG,
            GET_MAX_MEM_SLOTS}
NEED_REPLY = 1 << 3


class Gone(Exception):
    """The other side closed the connection."""


def receive(peer):
    """One message: request, flags, payload, file descriptors."""
    try:
        return receive_message(peer)
    except OSError as error:
        raise Gone from error


def receive_message(peer):
    fds, data = array.array("i"), b""
    while len(data) < 12:
        part, extra, _, _ = peer.recvmsg(12 - len(data), socket.CMSG_SPACE(16 * 4))
        if not part:
            raise Gone
        for level, kind, value in extra:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(value[:len(value) - len(value) % 4])
        data += part
    request, flags, size = struct.unpack("<III", data)
    payload = b""
    while len(payload) < size:
        part = peer.recv(size - len(payload))
        if not part:
            raise Gone
        payload += part
    return request, flags, payload, list(fds)


def send(peer, request, flags, payload, fds):
    data = struct.pack("<III", request, flags, len(payload)) + payload
    extra = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    try:
        sent = peer.sendmsg([data], extra)
        peer.sendall(data[sent:])
    except OSError as error:
        raise Gone from error


class Keeper:
    def __init__(self, front, path):
        self.front, self.path, self.back = front, path, None
        self.said = {}      # request -> (payload, fds), of requests that are about the device
        self.regions = {}   # guest address -> (region of 32 bytes, fd, memory)
        self.table = False  # the regions came as one table
        self.queues = {}    # ring -> {request: (payload, fds)}

    def remember(self, request, payload, fds):
        if request in (SET_OWNER, SET_FEATURES, SET_PROTOCOL_FEATURES, SET_BACKEND_REQ_FD):
            self.said[request] = (payload, fds)
        elif request == SET_MEM_TABLE:
            self.table = True
            self.regions = {}
            for i, fd in enumerate(fds):
                self.add_region(payload[8 + 32 * i:40 + 32 * i], fd)
        elif request == ADD_MEM_REG and fds:
            self.add_region(payload[8:40], fds[0])
        elif request == REM_MEM_REG:
            self.regions.pop(struct.unpack_from("<Q", payload, 8)[0], None)
        elif request in (SET_VRING_NUM, SET_VRING_ADDR, SET_VRING_BASE, SET_VRING_KICK,
                         SET_VRING_CALL, SET_VRING_ERR, SET_VRING_ENABLE):
            index = payload[0]  # also of the requests that carry descriptors: bits 7..0
            self.queues.setdefault(index, {})[request] = (payload, fds)
        elif request == GET_VRING_BASE:
            self.queues.get(payload[0], {}).pop(SET_VRING_KICK, None)
        elif request == RESET_DEVICE:
            self.queues = {}

    def add_region(self, region, fd):
        guest, size, _, offset = struct.unpack("<QQQQ", region)
        self.regions[guest] = (region, fd, mmap.mmap(fd, size + offset))

    def used_index(self, address):
        """Of the ring whose used ring the front-end has at that address."""
        for region, _, memory in self.regions.values():
            _, size, user, offset = struct.unpack("<QQQQ", region)
            if user <= address < user + size:
                return struct.unpack_from("<H", memory, address - user + offset + 2)[0]
        raise SystemExit("a ring is in no region")

    def ask(self, request):
        send(self.back, request, 1, b"", [])
        receive(self.back)

    def connect(self):
        """To the next back-end that lives long enough to be told everything."""
        while True:
            try:
                self.connect_once()
                return
            except Gone:
                self.back.close()

    def connect_once(self):
        end = time.monotonic() + 60
        while True:
            self.back = socket.socket(socket.AF_UNIX)
            try:
                self.back.connect(self.path)
                break
            except OSError:
                if time.monotonic() > end:
                    raise SystemExit("no back-end comes")
                time.sleep(0.02)
        if not self.said:
            return
        self.ask(GET_FEATURES)
        self.ask(GET_PROTOCOL_FEATURES)
        for request in (SET_PROTOCOL_FEATURES, SET_OWNER, SET_BACKEND_REQ_FD, SET_FEATURES):
            if request in self.said:
                send(self.back, request, 1, *self.said[request])
        regions = list(self.regions.values())
        if regions and self.table:
            send(self.back, SET_MEM_TABLE, 1, struct.pack("<II", len(regions), 0)
                 + b"".join(region for region, _, _ in regions), [fd for _, fd, _ in regions])
        elif regions:
            for region, fd, _ in regions:
                send(self.back, ADD_MEM_REG, 1, bytes(8) + region, [fd])
        for index, queue in sorted(self.queues.items()):
            enable = queue.get(SET_VRING_ENABLE)
            if SET_VRING_KICK not in queue or SET_VRING_ADDR not in queue or \
                    (enable and enable[0][4] == 0):
                continue
            used = struct.unpack_from("<Q", queue[SET_VRING_ADDR][0], 16)[0]
            queue[SET_VRING_BASE] = (struct.pack("<II", index, self.used_index(used)), [])
            for request in (SET_VRING_NUM, SET_VRING_BASE, SET_VRING_ADDR, SET_VRING_CALL,
                            SET_VRING_ERR, SET_VRING_KICK, SET_VRING_ENABLE):
                if request in queue:
                    send(self.back, request, 1, *queue[request])
        print("told %d rings" % len(self.queues), flush=True)

    def pass_on(self):
        request, flags, payload, fds = receive(self.front)
        while True:
            try:
                send(self.back, request, flags, payload, fds)
                if request in ANSWERED or flags & NEED_REPLY:
                    send(self.front, *receive(self.back))
                break
            except Gone:
                self.connect()
        self.remember(request, payload, fds)

    def run(self):
        self.connect()
        while True:
            ready, _, _ = select.select([self.front, self.back], [], [])
            if self.front in ready:
                self.pass_on()
            elif self.back in ready:
                # It says nothing of its own accord: this is its end.
                self.back.close()
                self.connect()


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(sys.argv[1])
    listener.listen(1)
    front, _ = listener.accept()
    os.unlink(sys.argv[1])
    try:
        Keeper(front, sys.argv[2]).run()
    except Gone:
        pass


if __name__ == "__main__":
    main()
