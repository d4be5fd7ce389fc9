"""A driver of the header queue, in pure Python, written from HeaderQueueProtocol.md alone.

It is a vhost-user front-end that owns its guest memory (memfd) and plays the driver itself: split
and packed virtqueues, receive and transmit queues, and the header queue in both ways of setting it
up (a request on `headerq`, feature bit 58; or vhost-user messages, protocol feature 48).

Nothing here draws random numbers or decides what to test; `conformance.py` does. What the driver
can see of the page's MUST clauses while it does its work is checked here, and a breach raises
`Violation` with the number of the clause: `device 10` is clause 10 of "Conformance: the device".

Memory order. Python has no fences, and needs none on x86-64: loads are not reordered with loads,
nor stores with stores, and CPython executes the accesses in program order. A control word is read
and written by one access of 32 bits, since `memoryview.cast("I")` copies items of constant size.
The one place where virtio wants a full barrier (between `avail` and the suppression of
notifications) is avoided: the driver always kicks, and looks at the used rings by time, not only
when it is called.
"""

from __future__ import annotations

import array
import collections
import mmap
import os
import platform
import socket
import struct
import sys
import time
from dataclasses import dataclass, field
from typing import Callable, Iterable, Optional, Sequence

# ------------------------------------------------------------------------------------------
# Numbers of virtio.

VIRTIO_NET_F_MRG_RXBUF = 15
VIRTIO_NET_F_CTRL_VQ = 17
VIRTIO_NET_F_MQ = 22
VIRTIO_F_INDIRECT_DESC = 28
VIRTIO_F_EVENT_IDX = 29
VHOST_USER_F_PROTOCOL_FEATURES = 30
VIRTIO_F_VERSION_1 = 32
VIRTIO_F_RING_PACKED = 34
VIRTIO_F_IN_ORDER = 35
VIRTIO_NET_F_HEADER_QUEUE = 58

VIRTQ_DESC_F_NEXT = 1
VIRTQ_DESC_F_WRITE = 2
VIRTQ_DESC_F_INDIRECT = 4
PACKED_DESC_F_AVAIL = 1 << 7
PACKED_DESC_F_USED = 1 << 15

DRIVER_OK_STATUS = 0x0F  # ACKNOWLEDGE, DRIVER, DRIVER_OK, FEATURES_OK

NET_HEADER_SIZE = 12

# ------------------------------------------------------------------------------------------
# Numbers of vhost-user.

GET_FEATURES = 1
SET_FEATURES = 2
SET_OWNER = 3
SET_MEM_TABLE = 5
SET_VRING_NUM = 8
SET_VRING_ADDR = 9
SET_VRING_BASE = 10
GET_VRING_BASE = 11
SET_VRING_KICK = 12
SET_VRING_CALL = 13
GET_PROTOCOL_FEATURES = 15
SET_PROTOCOL_FEATURES = 16
SET_VRING_ENABLE = 18
RESET_DEVICE = 34
SET_STATUS = 39
SET_HEADER_QUEUE = 0x1000
RESET_HEADER_QUEUE = 0x1001
STOP_HEADER_QUEUE = 0x1002

MESSAGE_VERSION = 1
MESSAGE_REPLY = 1 << 2
MESSAGE_NEED_REPLY = 1 << 3

PROTOCOL_F_MQ = 0
PROTOCOL_F_REPLY_ACK = 3
PROTOCOL_F_CONFIG = 9
PROTOCOL_F_RESET_DEVICE = 13
PROTOCOL_F_STATUS = 16
PROTOCOL_F_HEADER_QUEUE = 48

# ------------------------------------------------------------------------------------------
# Numbers of the page.

SLOT_COUNT_MAX = 32768
SLOT_ALIGNMENT = 64

CONTROL_SIZE = 256
CONTROL_ALIGNMENT = 128
CONTROL_TAIL = 0
CONTROL_RESET = 4
CONTROL_HEAD = 128
CONTROL_STATUS = 132
CONTROL_REASON = 136
CONTROL_TAKEN = 140

STATUS_IN_USE = 0
STATUS_BROKEN = 1
STATUS_REFUSED = 2
STATUS_STOPPED = 3
STATUS_ASKED = 4  # stored by the driver alone, before it asks

REASON_GEOMETRY = 1
REASON_SLOT_RETURN = 2
REASON_REPORT = 3
REASON_MASK = 4
REASON_CHAIN = 5
REASON_REGION = 6
REASON_ALIGNMENT = 8
REASON_IN_USE = 9

RETURN_TAIL = 0
RETURN_RING = 1
REPORT_NET_HEADER = 1
REPORT_USED_LENGTH = 2

REQUEST_SIZE = 32
SPLIT_REPORT_SIZE = 8
USED_LENGTH_SPLIT = 1 << 31
USED_LENGTH_SLOT_SHIFT = 16
USED_LENGTH_SLOT_MASK = 0x7FFF
USED_LENGTH_BYTES_MASK = 0xFFFF
LAP_VALID = 1 << 15

CURSOR_MASK = 0xFFFF_FFFF
PAD_BOUNDARY = 64  # device 22: the device writes no byte of a slot beyond it

SLOT_CANARY = 0xA5
DEFAULT_TIMEOUT = 5.0


class Violation(Exception):
    """The device did what the page forbids, or did not do what the page asks for."""

    def __init__(self, clause: str, message: str):
        super().__init__(f"[{clause}] {message}")
        self.clause = clause


def require(condition: bool, clause: str, message: str) -> None:
    if not condition:
        raise Violation(clause, message)


def bit(number: int) -> int:
    return 1 << number


# ------------------------------------------------------------------------------------------
# Guest memory.


class Region:
    """One memfd, mapped here and by the device."""

    # The device gets the same distance between guest and user addresses for all regions. These are
    # no real addresses of this process, and need not be: vhost-user uses them to name memory only.
    USER_OFFSET = 0x7000_0000_0000

    def __init__(self, guest_address: int, size: int):
        self.guest_address = guest_address
        self.size = size
        self.fd = os.memfd_create("guest")
        os.ftruncate(self.fd, size)
        self.map = mmap.mmap(self.fd, size)
        self.bytes = memoryview(self.map)
        self.words16 = self.bytes.cast("H")
        self.words32 = self.bytes.cast("I")
        self.next_free = 0

    def close(self) -> None:
        os.close(self.fd)  # the mapping goes with the last view of it


class GuestMemory:
    """The driver's memory: one or more regions, and a bump allocator without a free."""

    def __init__(self, sizes: Sequence[int], first_address: int = 0x10_0000, gap: int = 0x20_0000):
        self.regions: list[Region] = []
        address = first_address
        for size in sizes:
            self.regions.append(Region(address, size))
            address += size + gap

    def close(self) -> None:
        for region in self.regions:
            region.close()

    def allocate(self, size: int, alignment: int = 16, region: int = 0) -> int:
        where = self.regions[region]
        start = -(-where.next_free // alignment) * alignment
        if start + size > where.size:
            raise MemoryError(f"region {region} of {where.size} bytes is full")
        where.next_free = start + size
        return where.guest_address + start

    def locate(self, address: int) -> tuple[Region, int]:
        for region in self.regions:
            offset = address - region.guest_address
            if 0 <= offset < region.size:
                return region, offset
        raise IndexError(f"{address:#x} is outside the guest's memory")

    def user_address(self, address: int) -> int:
        self.locate(address)
        return address + Region.USER_OFFSET

    def view(self, address: int, size: int) -> memoryview:
        region, offset = self.locate(address)
        if offset + size > region.size:
            raise IndexError(f"{size} bytes at {address:#x} leave their region")
        return region.bytes[offset : offset + size]

    def read(self, address: int, size: int) -> bytes:
        return bytes(self.view(address, size))

    def write(self, address: int, data: bytes) -> None:
        self.view(address, len(data))[:] = data

    def fill(self, address: int, size: int, byte: int) -> None:
        self.view(address, size)[:] = bytes([byte]) * size

    def load16(self, address: int) -> int:
        region, offset = self.locate(address)
        return region.words16[offset >> 1]

    def store16(self, address: int, value: int) -> None:
        region, offset = self.locate(address)
        region.words16[offset >> 1] = value

    def load32(self, address: int) -> int:
        region, offset = self.locate(address)
        return region.words32[offset >> 2]

    def store32(self, address: int, value: int) -> None:
        region, offset = self.locate(address)
        region.words32[offset >> 2] = value & CURSOR_MASK


# ------------------------------------------------------------------------------------------
# Virtqueues. A descriptor of the caller is (address, length); a chain has those that the device
# reads and then those that it writes.

Descriptor = tuple[int, int]


@dataclass
class Used:
    """One used entry, and the token that was given with its chain."""

    token: object
    length: int
    write_flag: bool = True  # packed ring only: flag WRITE of the used descriptor


class Virtqueue:
    """What split and packed rings have in common. Free descriptors go round in order of use, so
    that the rules of IN_ORDER are kept whether it is negotiated or not."""

    packed = False

    def __init__(self, memory: GuestMemory, size: int, region: int = 0, indirect: bool = False):
        self.memory = memory
        self.size = size
        self.indirect = indirect
        self.region = region
        self.kick_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.call_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.free = size
        self.harvested = 0
        self.first_index = 0
        self.tables: Optional[list[int]] = None
        if indirect:
            self.tables = [memory.allocate(16 * 16, 16, region) for _ in range(size)]

    def __del__(self) -> None:
        for fd in (self.kick_fd, self.call_fd):
            os.close(fd)

    def kick(self) -> None:
        os.eventfd_write(self.kick_fd, 1)

    def begin_at(self, index: int) -> None:
        """New rings begin here from now on (SET_VRING_BASE), so that wrap-around comes soon."""
        self.first_index = index
        self.clear()

    def descriptors_needed(self, count: int) -> int:
        return 1 if self.indirect else count

    def write_table(self, table: int, chain: Sequence[tuple[int, int, int]], linked: bool) -> None:
        """An indirect table; `linked`: with NEXT, as of a split ring; a packed ring's has none."""
        for i, (address, length, flags) in enumerate(chain):
            if linked:
                more = i + 1 < len(chain)
                entry = struct.pack(
                    "<QIHH",
                    address,
                    length,
                    flags | (VIRTQ_DESC_F_NEXT if more else 0),
                    i + 1 if more else 0,
                )
            else:
                entry = struct.pack("<QIHH", address, length, 0, flags)
            self.memory.write(table + 16 * i, entry)


class SplitVirtqueue(Virtqueue):
    def __init__(self, memory: GuestMemory, size: int, region: int = 0, indirect: bool = False):
        super().__init__(memory, size, region, indirect)
        self.desc = memory.allocate(16 * size, 16, region)
        self.avail = memory.allocate(6 + 2 * size, 2, region)
        self.used = memory.allocate(6 + 8 * size, 4, region)
        self.clear()

    def clear(self) -> None:
        """The state of a new ring: after a reset, or to start with."""
        self.memory.fill(self.desc, 16 * self.size, 0)
        self.memory.fill(self.avail, 6 + 2 * self.size, 0)
        self.memory.fill(self.used, 6 + 8 * self.size, 0)
        self.free_ids = collections.deque(range(self.size))
        self.free = self.size
        self.avail_index = self.used_index = self.first_index
        self.memory.store16(self.avail + 2, self.avail_index)
        self.memory.store16(self.avail + 4 + 2 * self.size, self.used_index)
        self.memory.store16(self.used + 2, self.used_index)
        self.chains: dict[int, tuple[object, list[int]]] = {}

    def addresses(self) -> tuple[int, int, int]:
        return self.desc, self.used, self.avail

    def initial_base(self) -> int:
        return self.first_index

    def post(
        self, readable: Sequence[Descriptor], writable: Sequence[Descriptor], token: object
    ) -> bool:
        chain = [(a, n, 0) for a, n in readable] + [(a, n, VIRTQ_DESC_F_WRITE) for a, n in writable]
        if self.free < self.descriptors_needed(len(chain)):
            return False
        if self.indirect:
            ids = [self.free_ids.popleft()]
            table = self.tables[ids[0]]
            self.write_table(table, chain, linked=True)
            self.memory.write(
                self.desc + 16 * ids[0],
                struct.pack("<QIHH", table, 16 * len(chain), VIRTQ_DESC_F_INDIRECT, 0),
            )
        else:
            ids = [self.free_ids.popleft() for _ in chain]
            for i, (address, length, flags) in enumerate(chain):
                more = i + 1 < len(chain)
                self.memory.write(
                    self.desc + 16 * ids[i],
                    struct.pack(
                        "<QIHH",
                        address,
                        length,
                        flags | (VIRTQ_DESC_F_NEXT if more else 0),
                        ids[i + 1] if more else 0,
                    ),
                )
        self.free -= len(ids)
        self.chains[ids[0]] = (token, ids)
        self.memory.store16(self.avail + 4 + 2 * (self.avail_index % self.size), ids[0])
        self.avail_index = (self.avail_index + 1) & 0xFFFF
        self.memory.store16(self.avail + 2, self.avail_index)
        return True

    def collect(self) -> list[Used]:
        """All used entries that one read of `used.idx` shows."""
        index = self.memory.load16(self.used + 2)
        count = (index - self.used_index) & 0xFFFF
        require(
            count <= len(self.chains),
            "virtio",
            f"used.idx advanced by {count}, but only {len(self.chains)} chains are posted",
        )
        entries = []
        for _ in range(count):
            at = self.used + 4 + 8 * (self.used_index % self.size)
            head, length = struct.unpack("<II", self.memory.view(at, 8))
            require(
                head in self.chains, "virtio", f"used entry with id {head}, which is not posted"
            )
            token, ids = self.chains.pop(head)
            self.free_ids.extend(ids)
            self.free += len(ids)
            self.used_index = (self.used_index + 1) & 0xFFFF
            self.harvested += 1
            entries.append(Used(token, length))
        # With EVENT_IDX the device calls again only beyond this index.
        self.memory.store16(self.avail + 4 + 2 * self.size, self.used_index)
        return entries


class PackedVirtqueue(Virtqueue):
    packed = True

    def __init__(self, memory: GuestMemory, size: int, region: int = 0, indirect: bool = False):
        super().__init__(memory, size, region, indirect)
        self.ring = memory.allocate(16 * size, 16, region)
        self.driver_event = memory.allocate(4, 4, region)
        self.device_event = memory.allocate(4, 4, region)
        self.clear()

    def clear(self) -> None:
        self.memory.fill(self.ring, 16 * self.size, 0)
        self.memory.fill(self.driver_event, 4, 0)
        self.memory.fill(self.device_event, 4, 0)
        self.free_ids = collections.deque(range(self.size))
        self.free = self.size
        self.next_avail = self.next_used = self.first_index % self.size
        self.avail_wrap = self.used_wrap = 1
        self.chains: dict[int, tuple[object, int]] = {}

    def addresses(self) -> tuple[int, int, int]:
        return self.ring, self.device_event, self.driver_event

    def initial_base(self) -> int:
        place = self.first_index % self.size | bit(15)  # the wrap counters begin at 1
        return place | place << 16

    def post(
        self, readable: Sequence[Descriptor], writable: Sequence[Descriptor], token: object
    ) -> bool:
        chain = [(a, n, 0) for a, n in readable] + [(a, n, VIRTQ_DESC_F_WRITE) for a, n in writable]
        if self.free < self.descriptors_needed(len(chain)):
            return False
        buffer_id = self.free_ids.popleft()
        if self.indirect:
            table = self.tables[buffer_id]
            self.write_table(table, chain, linked=False)
            chain = [(table, 16 * len(chain), VIRTQ_DESC_F_INDIRECT)]
        first_flags = None
        first_at = self.ring + 16 * self.next_avail
        for i, (address, length, flags) in enumerate(chain):
            at = self.ring + 16 * self.next_avail
            flags |= VIRTQ_DESC_F_NEXT if i + 1 < len(chain) else 0
            flags |= PACKED_DESC_F_AVAIL if self.avail_wrap else PACKED_DESC_F_USED
            self.memory.write(at, struct.pack("<QIH", address, length, buffer_id))
            if i == 0:
                first_flags = flags  # made available last, with all of its chain
            else:
                self.memory.store16(at + 14, flags)
            self.next_avail += 1
            if self.next_avail == self.size:
                self.next_avail = 0
                self.avail_wrap ^= 1
        self.free -= len(chain)
        self.chains[buffer_id] = (token, len(chain))
        self.memory.store16(first_at + 14, first_flags)
        return True

    def collect(self) -> list[Used]:
        """All used descriptors that are visible, in ring order."""
        entries = []
        while self.chains:
            at = self.ring + 16 * self.next_used
            flags = self.memory.load16(at + 14)
            is_avail = 1 if flags & PACKED_DESC_F_AVAIL else 0
            is_used = 1 if flags & PACKED_DESC_F_USED else 0
            if is_avail != is_used or is_used != self.used_wrap:
                break
            length, buffer_id = struct.unpack("<IH", self.memory.view(at + 8, 6))
            require(
                buffer_id in self.chains,
                "virtio",
                f"used descriptor with id {buffer_id}, which is not posted",
            )
            token, count = self.chains.pop(buffer_id)
            self.free_ids.append(buffer_id)
            self.free += count
            self.next_used += count
            if self.next_used >= self.size:
                self.next_used -= self.size
                self.used_wrap ^= 1
            self.harvested += 1
            entries.append(Used(token, length, bool(flags & VIRTQ_DESC_F_WRITE)))
        return entries


# ------------------------------------------------------------------------------------------
# vhost-user.


class FrontEnd:
    """The socket of one vhost-user port, and the messages."""

    def __init__(self, path: str, timeout: float = DEFAULT_TIMEOUT):
        self.timeout = timeout
        self.reply_ack = False
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(timeout)
        end = time.monotonic() + timeout
        while True:  # the program may still be about to listen
            try:
                self.socket.connect(path)
                break
            except (FileNotFoundError, ConnectionRefusedError):
                if time.monotonic() > end:
                    raise
                time.sleep(0.005)

    def close(self) -> None:
        self.socket.close()

    def send(
        self, request: int, payload: bytes = b"", fds: Sequence[int] = (), need_reply: bool = False
    ) -> None:
        flags = MESSAGE_VERSION | (MESSAGE_NEED_REPLY if need_reply else 0)
        data = struct.pack("=III", request, flags, len(payload)) + payload
        if fds:
            ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
            sent = self.socket.sendmsg([data], ancillary)
            self.socket.sendall(data[sent:])
        else:
            self.socket.sendall(data)

    def receive_bytes(self, count: int, what: str) -> bytes:
        data = b""
        while len(data) < count:
            try:
                more = self.socket.recv(count - len(data))
            except socket.timeout:
                raise Violation(
                    "vhost-user", f"no answer to message {what} within {self.timeout} s"
                )
            if not more:
                raise ConnectionResetError(f"the device closed the connection in message {what}")
            data += more
        return data

    def receive(self, request: int) -> bytes:
        what = f"{request:#x}"
        got, flags, size = struct.unpack("=III", self.receive_bytes(12, what))
        require(
            got == request and flags & MESSAGE_REPLY != 0,
            "vhost-user",
            f"expected an answer to {what}, saw message {got:#x} with flags {flags:#x}",
        )
        return self.receive_bytes(size, what)

    def ask(self, request: int, payload: bytes = b"") -> bytes:
        """A message that has an answer of its own."""
        self.send(request, payload)
        return self.receive(request)

    def ask64(self, request: int) -> int:
        return struct.unpack("=Q", self.ask(request))[0]

    def tell(self, request: int, payload: bytes = b"", fds: Sequence[int] = ()) -> int:
        """A message without an answer of its own; returns REPLY_ACK's value, 0 if there is none."""
        self.send(request, payload, fds, need_reply=self.reply_ack)
        if not self.reply_ack:
            return 0
        return struct.unpack("=Q", self.receive(request))[0]

    def must(self, request: int, payload: bytes = b"", fds: Sequence[int] = ()) -> None:
        value = self.tell(request, payload, fds)
        require(
            value == 0, "vhost-user", f"message {request:#x} was answered by {value}, expected 0"
        )


class Device:
    """One vhost-user device, as its driver sees it."""

    def __init__(self, path: str, memory: GuestMemory, timeout: float = DEFAULT_TIMEOUT):
        self.memory = memory
        self.front_end = FrontEnd(path, timeout)
        self.queues: dict[int, Virtqueue] = {}
        self.offered = 0
        self.features = 0
        self.offered_protocol = 0
        self.protocol = 0

    def close(self) -> None:
        self.front_end.close()

    def has_protocol(self, number: int) -> bool:
        return bool(self.protocol & bit(number))

    def negotiate(self, features: int, protocol: int, required: int = 0) -> None:
        """Accepts what is both wanted and offered; `required` must be offered."""
        front = self.front_end
        self.offered = front.ask64(GET_FEATURES)
        missing = required & ~self.offered
        if missing:
            names = [str(n) for n in range(64) if missing & bit(n)]
            raise Violation(
                "Negotiation", f"the program does not offer feature bits {', '.join(names)}"
            )
        self.features = features & self.offered
        if self.offered & bit(VHOST_USER_F_PROTOCOL_FEATURES):
            self.offered_protocol = front.ask64(GET_PROTOCOL_FEATURES)
            self.protocol = protocol & self.offered_protocol
            front.send(SET_PROTOCOL_FEATURES, struct.pack("=Q", self.protocol))
            front.reply_ack = self.has_protocol(PROTOCOL_F_REPLY_ACK)
        front.must(SET_OWNER)
        self.set_features()

    def set_features(self) -> None:
        value = self.features | (self.offered & bit(VHOST_USER_F_PROTOCOL_FEATURES))
        self.front_end.must(SET_FEATURES, struct.pack("=Q", value))

    def set_memory(self) -> None:
        regions = self.memory.regions
        payload = struct.pack("=II", len(regions), 0)
        for region in regions:
            payload += struct.pack(
                "=QQQQ",
                region.guest_address,
                region.size,
                region.guest_address + Region.USER_OFFSET,
                0,
            )
        self.front_end.must(SET_MEM_TABLE, payload, [region.fd for region in regions])

    def driver_ok(self) -> None:
        if self.has_protocol(PROTOCOL_F_STATUS):
            self.front_end.must(SET_STATUS, struct.pack("=Q", DRIVER_OK_STATUS))

    def start_queue(
        self, index: int, queue: Virtqueue, base: Optional[int] = None, enable: bool = True
    ) -> None:
        """Starts a ring: anew, or at the base that it was stopped at."""
        self.queues[index] = queue
        front = self.front_end
        front.must(SET_VRING_NUM, struct.pack("=II", index, queue.size))
        value = queue.initial_base() if base is None else base
        front.must(SET_VRING_BASE, struct.pack("=II", index, value))
        desc, used, avail = (self.memory.user_address(a) for a in queue.addresses())
        front.must(SET_VRING_ADDR, struct.pack("=IIQQQQ", index, 0, desc, used, avail, 0))
        front.must(SET_VRING_CALL, struct.pack("=Q", index), [queue.call_fd])
        front.must(SET_VRING_KICK, struct.pack("=Q", index), [queue.kick_fd])
        if enable:
            self.enable_queue(index, True)
        queue.kick()  # what is in the ring already

    def enable_queue(self, index: int, on: bool) -> None:
        self.front_end.must(SET_VRING_ENABLE, struct.pack("=II", index, 1 if on else 0))

    def stop_queue(self, index: int) -> int:
        answer = self.front_end.ask(GET_VRING_BASE, struct.pack("=II", index, 0))
        got, base = struct.unpack("=II", answer)
        require(got == index, "vhost-user", f"GET_VRING_BASE of queue {index} answered for {got}")
        return base

    def reset_device(self) -> None:
        self.front_end.must(RESET_DEVICE)

    # The messages of the page.

    def set_header_queue(
        self, request: bytes, control: int, slots: int, ring: int, need_reply: bool = False
    ) -> int:
        payload = request + struct.pack("=QQQ", control, slots, ring)
        # "Answer: always, u64". NEED_REPLY must not make it two answers.
        self.front_end.send(SET_HEADER_QUEUE, payload, need_reply=need_reply)
        answer = self.front_end.receive(SET_HEADER_QUEUE)
        require(
            len(answer) == 8,
            "vhost-user",
            f"SET_HEADER_QUEUE was answered by {len(answer)} bytes, expected a u64",
        )
        return struct.unpack("=Q", answer)[0]

    def reset_header_queue(self) -> int:
        return self.front_end.tell(RESET_HEADER_QUEUE)

    def stop_header_queue(self) -> int:
        return self.front_end.tell(STOP_HEADER_QUEUE)


# ------------------------------------------------------------------------------------------
# The header queue: the driver's end.


def request_bytes(
    slot_size: int, slot_count: int, slot_return: int, report: int, mask: int, reserved: int = 0
) -> bytes:
    """The 32 bytes of a request that the device reads."""
    return struct.pack(
        "<IIHHIQQ",
        slot_size,
        slot_count,
        slot_return,
        report,
        reserved,
        mask & (bit(64) - 1),
        mask >> 64,
    )


class HeaderQueue:
    """Memory, cursors and account of a header queue.

    The driver knows of each slot whether the device has it, and at which cursor (by the tail) or
    position (by the return ring) it gave it. `given - reported` slots are free at the device or
    claimed by it; the device shows at a stop, by its exact `head`, that it counts the same.
    """

    def __init__(
        self,
        memory: GuestMemory,
        slot_size: int,
        slot_count: int,
        slot_return: int,
        report: int,
        net_header_size: int,
        region: int = 0,
    ):
        self.memory = memory
        self.slot_size = slot_size
        self.slot_count = slot_count
        self.slot_return = slot_return
        self.report = report
        self.net_header_size = net_header_size
        self.control = memory.allocate(CONTROL_SIZE, CONTROL_ALIGNMENT, region)
        self.slots = memory.allocate(slot_size * slot_count, SLOT_ALIGNMENT, region)
        self.ring = memory.allocate(4 * slot_count, SLOT_ALIGNMENT, region) if self.by_ring else 0
        self.zero()

    @property
    def by_ring(self) -> bool:
        return self.slot_return == RETURN_RING

    def areas(self) -> list[Descriptor]:
        areas = [(self.control, CONTROL_SIZE), (self.slots, self.slot_size * self.slot_count)]
        if self.by_ring:
            areas.append((self.ring, 4 * self.slot_count))
        return areas

    def request(self, mask: int) -> bytes:
        return request_bytes(self.slot_size, self.slot_count, self.slot_return, self.report, mask)

    # Words.

    def word(self, offset: int) -> int:
        return self.memory.load32(self.control + offset)

    def set_word(self, offset: int, value: int) -> None:
        self.memory.store32(self.control + offset, value)

    @property
    def status(self) -> int:
        return self.word(CONTROL_STATUS)

    @property
    def head(self) -> int:
        return self.word(CONTROL_HEAD)

    # Giving slots.

    def zero(self) -> None:
        """Driver 2: control words and ring are zero before the request. Cursors begin at 0."""
        self.memory.fill(self.control, CONTROL_SIZE, 0)
        if self.by_ring:
            self.memory.fill(self.ring, 4 * self.slot_count, 0)
        self.begin(0)

    def begin(self, base: int) -> None:
        """No slot is the device's, and the next one that is given is at `base`."""
        self.base = base
        self.next_position = (
            base  # by the tail: the value of `tail`; by the ring: the next position
        )
        self.at_device: dict[int, int] = {}  # slot -> cursor or position at which it was given
        self.retired: set[int] = set()  # by the tail: slots that wait for older ones
        self.withheld: dict[int, int] = (
            {}
        )  # by the ring: positions that were taken, not yet written
        self.early: dict[int, int] = (
            {}
        )  # by the ring: slot that the device has -> position at which it was given once more
        self.unpainted: set[int] = set()  # slots that were given early: full of an older packet
        self.reported = 0  # since `base`

    def paint(self, slot: int) -> None:
        """What the device does not write stays visible (device 6, 22)."""
        self.memory.fill(self.slots + slot * self.slot_size, self.slot_size, SLOT_CANARY)
        self.unpainted.discard(slot)

    def give_all(self) -> None:
        """All slots, at first and after a reset (driver 12)."""
        if self.by_ring:
            for slot in range(self.slot_count):
                self.paint(slot)
            for slot in range(self.slot_count):
                self.write_position(self.take_position(), slot)
        else:
            for offset in range(self.slot_count):
                cursor = (self.base + offset) & CURSOR_MASK
                slot = cursor % self.slot_count
                self.paint(slot)
                self.at_device[slot] = cursor
            self.next_position = (self.base + self.slot_count) & CURSOR_MASK
            self.set_word(CONTROL_TAIL, self.next_position)

    def take_position(self) -> int:
        position = self.next_position
        self.next_position = (position + 1) & CURSOR_MASK
        return position

    def entry(self, position: int, index: int) -> int:
        lap = (position // self.slot_count) % bit(15) | LAP_VALID
        return lap << 16 | index

    def write_position(self, position: int, slot: int) -> None:
        self.at_device[slot] = position
        self.write_entry(position, slot)

    def write_entry(self, position: int, index: int) -> None:
        """The bare entry, for drivers that lie as well."""
        self.memory.store32(
            self.ring + 4 * (position % self.slot_count), self.entry(position, index)
        )

    def retire(
        self, slots: Iterable[int], order: Optional[Callable[[list], None]] = None, group: int = 1
    ) -> None:
        """Gives slots back. By the tail it moves in whole groups of `group` slots; by the ring the
        entries are written in the order that `order` makes of them."""
        slots = list(slots)
        for slot in slots:
            assert slot not in self.at_device, f"the driver gives slot {slot}, which is not its own"
            self.paint(slot)
        if self.by_ring:
            pairs = [(self.take_position(), slot) for slot in slots]
            if order:
                order(pairs)
            for position, slot in pairs:
                self.write_position(position, slot)
            return
        self.retired.update(slots)
        tail = self.next_position
        moved = []
        while True:
            step = [(tail + i) & CURSOR_MASK for i in range(group - tail % group)]
            if not all(c % self.slot_count in self.retired for c in step):
                break
            moved += step
            for cursor in step:
                self.retired.discard(cursor % self.slot_count)
            tail = (tail + len(step)) & CURSOR_MASK
        if moved:
            for cursor in moved:
                self.at_device[cursor % self.slot_count] = cursor
            self.next_position = tail
            self.set_word(CONTROL_TAIL, tail)

    def withhold(self, slots: Iterable[int]) -> None:
        """By the ring: takes positions for slots and does not write them yet (`release` does)."""
        for slot in slots:
            self.withheld[self.take_position()] = slot

    def release(self) -> None:
        for position, slot in self.withheld.items():
            self.paint(slot)
            self.write_position(position, slot)
        self.withheld.clear()

    # Reports.

    def take_report(self, slot: int, what: str) -> int:
        """A used entry has named the slot; returns the cursor or position at which it was given."""
        require(
            slot < self.slot_count, "driver 9", f"{what} names slot {slot} of {self.slot_count}"
        )
        if slot not in self.at_device:
            raise Violation("device 6", f"{what} names slot {slot}, which is not the device's")
        self.reported += 1
        cursor = self.at_device.pop(slot)
        if slot in self.early:
            self.at_device[slot] = self.early.pop(slot)
            self.unpainted.add(slot)
        return cursor

    def check_padding(self, slot: int, written: int, what: str) -> bool:
        """Device 22: zeroes or nothing up to the next 64-byte boundary, nothing beyond it. True if
        bytes were zeroed."""
        if slot in self.unpainted:
            return False
        at = self.slots + slot * self.slot_size
        boundary = min(self.slot_size, -(-written // PAD_BOUNDARY) * PAD_BOUNDARY)
        pad = self.memory.read(at + written, boundary - written)
        canary = bytes([SLOT_CANARY])
        require(
            pad == canary * len(pad) or pad == bytes(len(pad)),
            "device 22",
            f"{what}: bytes {written} to {boundary} of slot {slot} are neither untouched nor zero:"
            f" {pad.hex()}",
        )
        rest = self.memory.read(at + boundary, self.slot_size - boundary)
        require(
            rest == canary * len(rest),
            "device 22",
            f"{what}: the device wrote beyond byte {boundary} of slot {slot}: {rest.hex()}",
        )
        return bool(pad) and pad == bytes(len(pad))

    # What can be seen at a stop, when no slot is in a worker's burst.

    def check_untouched(self, clause: str = "device 6") -> None:
        """Slots that are free at the device were never claimed, so nothing was written to them."""
        want = bytes([SLOT_CANARY]) * self.slot_size
        for slot in self.at_device.keys() - self.unpainted:
            got = self.memory.read(self.slots + slot * self.slot_size, self.slot_size)
            require(
                got == want,
                clause,
                f"slot {slot} is free at the device, but was written: {got[:64].hex()}",
            )

    def check_reserved(self) -> None:
        for start, size in ((8, 120), (144, 112)):
            got = self.memory.read(self.control + start, size)
            require(
                not any(got),
                "Memory",
                f"reserved control bytes {start} on are {got.hex()}, expected zero",
            )

    def check_account(self, exact: bool) -> None:
        """Device 19 and 20. `exact`: the device has stopped, and `head` counts what was
        reported."""
        self.check_reserved()
        claimed = (self.head - self.base) & CURSOR_MASK
        given = (self.next_position - self.base) & CURSOR_MASK
        if not exact:
            if not self.by_ring:
                require(
                    claimed <= self.reported,
                    "Memory",
                    f"`head` shows {claimed} slots claimed, but {self.reported} were reported",
                )
            return
        require(
            claimed == self.reported,
            "device 20",
            f"`head` - base is {claimed}, but {self.reported} slots were reported"
            f" (base {self.base:#x}, given {given})",
        )
        for slot, cursor in self.at_device.items():
            require(
                (cursor - self.base) & CURSOR_MASK >= claimed,
                "device 19",
                f"slot {slot} at cursor {cursor:#x} is before `head` {self.head:#x}, but no used"
                " entry named it",
            )


# ------------------------------------------------------------------------------------------
# Receive and transmit queues.


@dataclass
class NetHeader:
    flags: int
    gso_type: int
    hdr_len: int
    gso_size: int
    csum_start: int
    csum_offset: int
    num_buffers: int

    @classmethod
    def parse(cls, data: bytes) -> "NetHeader":
        return cls(*struct.unpack_from("<BBHHHHH", data))


@dataclass
class Packet:
    rq: int
    split: bool
    net_header: NetHeader
    headers: bytes  # empty if the packet is whole
    payload: bytes  # the whole packet then
    slot: Optional[int] = None
    cursor: Optional[int] = None
    lengths: list[int] = field(default_factory=list)  # used lengths as they were, bit 31 included
    padded: bool = False

    @property
    def frame(self) -> bytes:
        return self.headers + self.payload


@dataclass
class Buffer:
    """One posted receive buffer: a chain of descriptors."""

    chain: list[Descriptor]
    place: int  # where in the pool

    @property
    def capacity(self) -> int:
        return sum(length for _, length in self.chain)


class ReceiveQueue:
    """Posts buffers, puts packets together, and knows nothing of how the header queue came."""

    def __init__(
        self,
        number: int,
        queue: Virtqueue,
        memory: GuestMemory,
        net_header_size: int,
        mergeable: bool,
        shape: Callable[[], list[int]],
        max_buffer: int,
        region: int = 0,
    ):
        self.number = number
        self.queue = queue
        self.memory = memory
        self.net_header_size = net_header_size
        self.mergeable = mergeable
        self.shape = shape
        self.place_size = -(-(max_buffer + 64) // 64) * 64
        self.pool = memory.allocate(self.place_size * queue.size, 64, region)
        self.places = list(range(queue.size))
        self.header_queue: Optional[HeaderQueue] = None
        self.may_split = False  # a packet may be split: the RQ is linked, or was until a moment ago

    def link(self, header_queue: Optional[HeaderQueue]) -> None:
        self.header_queue = header_queue
        self.may_split = header_queue is not None

    @property
    def net_header_report(self) -> bool:
        return self.header_queue is not None and self.header_queue.report == REPORT_NET_HEADER

    def post(self, limit: int = 1 << 30) -> int:
        posted = 0
        while posted < limit and self.places:
            lengths = self.shape()
            place = self.places[-1]
            address = self.pool + place * self.place_size
            chain = []
            for length in lengths:
                chain.append((address, length))
                address += length
            if not self.queue.post([], chain, Buffer(chain, place)):
                break
            self.places.pop()
            posted += 1
        if posted:
            self.queue.kick()
        return posted

    def forget(self) -> None:
        """After a reset of the ring all its buffers are the driver's."""
        self.places = list(range(self.queue.size))
        self.queue.clear()

    def gather(self, buffer: Buffer, start: int, end: int) -> bytes:
        """Bytes `start` to `end` of a buffer; its descriptors lie one after the other."""
        return self.memory.read(buffer.chain[0][0] + start, end - start)

    def harvest(self) -> list[Packet]:
        entries = self.queue.collect()
        packets = []
        at = 0
        try:
            while at < len(entries):
                packet, count = self.assemble(entries, at)
                if packet is not None:
                    packets.append(packet)
                at += count
        finally:
            for entry in entries:
                self.places.append(entry.token.place)
        return packets

    def assemble(self, entries: list[Used], at: int) -> tuple[Optional[Packet], int]:
        first = entries[at]
        buffer: Buffer = first.token
        hq = self.header_queue
        what = f"RQ {self.number}, used entry {self.queue.harvested - len(entries) + at}"
        # In a packed ring a length has a meaning only with WRITE (virtio), so a buffer of no packet
        # shows by the flag that is missing.
        if first.length == 0 or not first.write_flag:  # driver 19
            require(
                first.length == 0, "device 10", f"{what}: length {first.length:#x} without WRITE"
            )
            return None, 1
        if hq is not None and hq.report == REPORT_USED_LENGTH and first.length & USED_LENGTH_SPLIT:
            return self.assemble_used_length(entries, at, what)
        require(
            first.length & USED_LENGTH_SPLIT == 0,
            "device 4",
            f"{what}: bit 31 of length {first.length:#x} is set, but the RQ is not linked by"
            " usedLength",
        )
        prefix = self.net_header_size
        if self.net_header_report:
            prefix += SPLIT_REPORT_SIZE
        require(
            prefix <= first.length <= buffer.capacity,
            "driver 9",
            f"{what}: length {first.length}, expected {prefix} to {buffer.capacity}",
        )
        start = self.gather(buffer, 0, prefix)
        net_header = NetHeader.parse(start)
        slot = None
        headers = b""
        cursor = None
        padded = False
        if self.net_header_report:
            index, header_length, flags = struct.unpack_from("<IHH", start, self.net_header_size)
            require(flags & ~1 == 0, "device 11", f"{what}: flags of the report are {flags:#x}")
            if flags & 1:
                require(self.may_split, "device 4", f"{what}: split, but the RQ is not linked")
                cursor = hq.take_report(index, what)
                slot = index
                require(
                    1 <= header_length <= hq.slot_size,
                    "driver 9",
                    f"{what}: headerLength {header_length}, slots have {hq.slot_size}",
                )
                require(
                    net_header.hdr_len == header_length,
                    "device 8",
                    f"{what}: hdr_len {net_header.hdr_len}, headerLength {header_length}",
                )
                headers = self.memory.read(hq.slots + slot * hq.slot_size, header_length)
                padded = hq.check_padding(slot, header_length, what)
            else:
                require(
                    index == 0 and header_length == 0,
                    "device 11",
                    f"{what}: not split, but slot {index} and headerLength {header_length} are"
                    " not 0",
                )
        count = self.buffer_count(net_header, entries, at, what)
        payload = self.payload(entries, at, count, prefix, first.length, what)
        packet = Packet(
            self.number,
            slot is not None,
            net_header,
            headers,
            payload,
            slot,
            cursor,
            [e.length for e in entries[at : at + count]],
            padded,
        )
        return packet, count

    def assemble_used_length(self, entries: list[Used], at: int, what: str) -> tuple[Packet, int]:
        """Driver 7: bit 31 before anything else of the packet."""
        first = entries[at]
        hq = self.header_queue
        slot = first.length >> USED_LENGTH_SLOT_SHIFT & USED_LENGTH_SLOT_MASK
        length = first.length & USED_LENGTH_BYTES_MASK
        require(self.may_split, "device 4", f"{what}: split, but the RQ is not linked")
        require(
            length <= first.token.capacity,
            "driver 9",
            f"{what}: {length} bytes in a buffer of {first.token.capacity}",
        )
        if self.queue.packed:
            require(
                first.write_flag, "device 10", f"{what}: names slot {slot}, but WRITE is not set"
            )
        cursor = hq.take_report(slot, what)
        address = hq.slots + slot * hq.slot_size
        net_header = NetHeader.parse(self.memory.view(address, self.net_header_size))
        end = self.net_header_size + net_header.hdr_len
        require(
            net_header.hdr_len >= 1 and end <= hq.slot_size,
            "driver 9",
            f"{what}: hdr_len {net_header.hdr_len} with a virtio-net header of"
            f" {self.net_header_size} does not fit a slot of {hq.slot_size}",
        )
        headers = self.memory.read(address + self.net_header_size, net_header.hdr_len)
        padded = hq.check_padding(slot, end, what)
        count = self.buffer_count(net_header, entries, at, what)
        payload = self.payload(entries, at, count, 0, length, what)
        packet = Packet(
            self.number,
            True,
            net_header,
            headers,
            payload,
            slot,
            cursor,
            [e.length for e in entries[at : at + count]],
            padded,
        )
        return packet, count

    def buffer_count(self, net_header: NetHeader, entries: list[Used], at: int, what: str) -> int:
        count = net_header.num_buffers
        require(count != 0, "driver 9", f"{what}: num_buffers is 0")
        if not self.mergeable:
            require(count == 1, "virtio", f"{what}: num_buffers is {count} without MRG_RXBUF")
        require(
            at + count <= len(entries),
            "device 14",
            f"{what}: num_buffers is {count}, but only {len(entries) - at} used entries are"
            " visible",
        )
        return count

    def payload(
        self, entries: list[Used], at: int, count: int, prefix: int, first_length: int, what: str
    ) -> bytes:
        parts = []
        for i in range(count):
            buffer: Buffer = entries[at + i].token
            length = first_length if i == 0 else entries[at + i].length
            if i > 0:
                require(
                    length & USED_LENGTH_SPLIT == 0,
                    "device 10",
                    f"{what}: bit 31 is set in used entry {i} of the packet",
                )
                require(
                    0 < length <= buffer.capacity,
                    "device 12",
                    f"{what}: used entry {i} has {length} bytes of {buffer.capacity}",
                )
            if i + 1 < count:
                require(
                    length == buffer.capacity,
                    "device 12",
                    f"{what}: buffer {i} of {count} has {length} bytes, expected all"
                    f" {buffer.capacity}",
                )
            parts.append(self.gather(buffer, prefix if i == 0 else 0, length))
        return b"".join(parts)


class TransmitQueue:
    """Sends whole frames, each behind a virtio-net header without offloads."""

    def __init__(
        self,
        queue: Virtqueue,
        memory: GuestMemory,
        net_header_size: int = NET_HEADER_SIZE,
        max_frame: int = 16384,
        region: int = 0,
    ):
        self.queue = queue
        self.memory = memory
        self.net_header_size = net_header_size
        self.place_size = -(-(max_frame + net_header_size) // 64) * 64
        self.pool = memory.allocate(self.place_size * queue.size, 64, region)
        self.places = list(range(queue.size))

    def reclaim(self) -> int:
        entries = self.queue.collect()
        for entry in entries:
            self.places.append(entry.token)
        return len(entries)

    def post(self, frame: bytes, net_header: Optional[bytes] = None) -> bool:
        """False if the ring is full. The caller kicks."""
        if not self.places:
            self.reclaim()
        if not self.places or self.queue.free < 1:
            return False
        place = self.places.pop()
        address = self.pool + place * self.place_size
        data = (net_header or bytes(self.net_header_size)) + frame
        self.memory.write(address, data)
        if not self.queue.post([(address, len(data))], [], place):
            self.places.append(place)
            return False
        return True


class ControlQueue:
    """virtio-net's control virtqueue: the number of queue pairs is all that is needed."""

    CTRL_MQ = 4
    CTRL_MQ_VQ_PAIRS_SET = 0

    def __init__(self, queue: Virtqueue, memory: GuestMemory, region: int = 0):
        self.queue = queue
        self.memory = memory
        self.command = memory.allocate(8, 8, region)
        self.ack = memory.allocate(1, 8, region)

    def set_pairs(self, pairs: int, timeout: float = DEFAULT_TIMEOUT) -> int:
        self.memory.write(
            self.command, struct.pack("<BBH", self.CTRL_MQ, self.CTRL_MQ_VQ_PAIRS_SET, pairs)
        )
        self.memory.write(self.ack, b"\xff")
        self.queue.post([(self.command, 2), (self.command + 2, 2)], [(self.ack, 1)], "ctrl")
        self.queue.kick()
        wait_for(
            lambda: self.queue.collect(), timeout, "virtio", "an answer of the control virtqueue"
        )
        return self.memory.read(self.ack, 1)[0]


class HeaderqTransport:
    """The virtqueue headerq: posts requests, and sees them come back."""

    def __init__(self, queue: Virtqueue, memory: GuestMemory, region: int = 0):
        self.queue = queue
        self.memory = memory
        self.region = region
        self.returned: list[object] = []

    def post(
        self,
        request: bytes,
        areas: Sequence[Descriptor],
        token: object = "request",
        pieces: Sequence[int] = (REQUEST_SIZE,),
    ) -> None:
        """`pieces`: how the bytes that the device reads are cut into descriptors."""
        address = self.memory.allocate(max(len(request), 1), 8, self.region)
        self.memory.write(address, request)
        readable = []
        for size in pieces:
            readable.append((address, size))
            address += size
        posted = self.queue.post(readable, areas, token)
        assert posted, "headerq is full"
        self.queue.kick()

    def collect(self) -> list[object]:
        tokens = []
        for entry in self.queue.collect():
            require(
                entry.length == 0,
                "device 3",
                f"the request came back with used length {entry.length}, expected 0",
            )
            tokens.append(entry.token)
        self.returned += tokens
        return tokens


def wait_for(
    condition: Callable[[], object], timeout: float, clause: str, what: str, idle: float = 0.0002
) -> object:
    """Polls until the condition holds; a wait that ends in vain breaks `clause`."""
    end = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise Violation(clause, f"waited {timeout} s for {what}")
        time.sleep(idle)


# Fences are left out, and the machine's byte order is taken for the page's.
SUPPORTED = (
    sys.platform == "linux"
    and sys.byteorder == "little"
    and platform.machine() == "x86_64"
    and sys.version_info >= (3, 10)
)
