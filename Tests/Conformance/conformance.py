#!/usr/bin/env python3
"""Random runs of the header queue's protocol against a device, from its page alone.

    conformance.py [--runs N] [--seed S] [--program PATH] [--verbose]

The page is Sources/CleaveEngine/Cleave.docc/HeaderQueueProtocol.md. Each run starts cleave-vhost
with two vhost-user ports on a wire. This program is the driver at both: port `a` has the header
queue and receives, port `b` sends. Run k of `--seed S` has the seed S + k; a run that fails prints
its seed, and `--seed THAT --runs 1` repeats it. Exit status: 0 passed, 1 failed, 2 called wrongly,
77 skipped, with the reason.

What is checked
===============

Of each packet: all bytes against what was sent; in order per flow and RQ; nothing twice, nothing
lost but what the device counts as dropped while an RQ was stopped; split or not as its kind asks,
the boundary exactly behind the last header that is understood.

Clauses of "Conformance: the device", and where a driver sees them:

   1  the feature comes with VERSION_1, MRG_RXBUF and CTRL_VQ (`connect_receiver`), and is not used
      without them (`feature_alone`)
   2  `wrong_requests`: each reason of the table, by both ways of setting up
   3  the request is not given back while the queue is used; refused ones are, with used length 0
      (driver.py)
   4  no split on RQs outside the mask, none while the queue is stopped, unlinked, reset
      (driver.py, `may_split`)
   5  no packet is lost while slots lack (`traffic`), what came whole is the whole frame, and none
      does for which there is a slot (`enough`)
   6  a slot is reported only if it was given and not reported since (`take_report`); it keeps its
      bytes until it is given back (`Held`); slots that were never claimed keep the canary
      (`check_untouched`)
   7  length of the headers against the frame's builder; kinds that cannot be split
   8  hdr_len against headerLength (netHeader) and against the builder (usedLength)
   9  used lengths are the bytes in the data buffers alone, num_buffers is the number of used
      entries
  10  bit 31 in the first used entry alone, WRITE in it (driver.py)
  11  the split report in every packet of a linked RQ (driver.py: else nothing would parse)
  12  every data buffer but the last is full (driver.py)
  13  one used entry for each buffer, with IN_ORDER too (driver.py: each entry ends one chain)
  14  the bytes of headers and payload; all used entries of a packet are visible together
      (driver.py)
  15  16  not visible for a driver on its own; canaries and the account find what a breach would
      cause
  17  18  `lie`: status 1, packets whole, other RQs go on, a later tail repairs nothing, reset does;
      an early entry breaks nothing
  19  `head` at each stop against what was reported, and which slots those are (`check_account`)
  20  21  `stop_and_resume`, `disable_headerq`, `reconnect`, `ended`, `reset_device`: exact head,
      status 3, no access after; `killed`: reason 9; `first_cursor`: a device goes on at any `head`,
      over 2^32 too
  22  canary behind the headers (`check_padding`)
  23  not visible

Clauses of "Conformance: the driver" are the duties of driver.py. Where a run breaks one on purpose,
the answer of the device is checked:

   1  `feature_alone`: bit 58 without MRG_RXBUF or VERSION_1: the feature is not used
   2  `killed`, `broken_stop`: words that are not zeroed: reason 9, status 1
   3, 4  `wrong_requests`: each reason of the table; `second_request`: a second chain waits
   12, 14  `lie` by the tail, forward and back: broken
   12, 15  `lie` by the ring: broken; `early`: counts once the slot was reported; `withhold`: a
      position that is left out for a while
   16 `forget_rq`: the slots are lost until the queue is reset, and none else
"""

from __future__ import annotations

import argparse
import collections
import os
import random
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Sequence

sys.dont_write_bytecode = True  # the checkout stays clean
sys.path.insert(0, str(Path(__file__).resolve().parent))
from driver import *

PAIRS = 4  # queue pairs of both ports
# Packets wait this long for a receiver: with one switch thread a stall loses nothing.
HOLD_MICROSECONDS = 1_000_000
READY_SECONDS = 15
EXIT_PASSED, EXIT_FAILED, EXIT_SKIPPED = 0, 1, 77

# ------------------------------------------------------------------------------------------
# Frames.

ETHERNET_HEADER = 14
ETHERTYPE_IPV4, ETHERTYPE_ARP, ETHERTYPE_IPV6 = 0x0800, 0x0806, 0x86DD
ETHERTYPE_VLAN, ETHERTYPE_QINQ, ETHERTYPE_OLDER_QINQ = 0x8100, 0x88A8, 0x9100
ETHERTYPE_MPLS = 0x8847
PROTOCOL_HOP_BY_HOP, PROTOCOL_ICMP, PROTOCOL_IPIP, PROTOCOL_TCP, PROTOCOL_UDP = 0, 1, 4, 6, 17
PROTOCOL_ROUTING, PROTOCOL_FRAGMENT, PROTOCOL_GRE = 43, 44, 47
PROTOCOL_AUTHENTICATION, PROTOCOL_ICMPV6, PROTOCOL_DESTINATION = 51, 58, 60
PROTOCOL_MOBILITY, PROTOCOL_UDP_LITE = 135, 136
EXTENSION_LIMIT = 8
VXLAN_PORT = 4789


def checksum(data: bytes) -> int:
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def ipv4(
    protocol: int,
    body_length: int,
    flow: int,
    options: int = 0,
    fragment: int = 0,
    header_words: Optional[int] = None,
    total_length: Optional[int] = None,
) -> bytes:
    words = 5 + options if header_words is None else header_words
    total = 20 + 4 * options + body_length if total_length is None else total_length
    header = struct.pack(
        ">BBHHHBBH4s4s",
        0x40 | words,
        0,
        total & 0xFFFF,
        flow,
        fragment,
        64,
        protocol,
        0,
        bytes([10, 0, 1, flow]),
        bytes([10, 0, 2, flow]),
    ) + b"\x01" * (4 * options)
    return header[:10] + struct.pack(">H", checksum(header)) + header[12:]


def ipv6(next_header: int, body_length: int, flow: int) -> bytes:
    return struct.pack(
        ">IHBB16s16s",
        0x60000000,
        body_length & 0xFFFF,
        next_header,
        64,
        bytes.fromhex("fd00") + bytes(13) + bytes([flow]),
        bytes.fromhex("fd01") + bytes(13) + bytes([flow]),
    )


def tcp(flow: int, sequence: int, options: int = 0, words: Optional[int] = None) -> bytes:
    words = 5 + options if words is None else words
    header = struct.pack(">HHIIBBHHH", 10000 + flow, 80, sequence, 1, words << 4, 0x10, 1000, 0, 0)
    return header + b"\x01" * (4 * options)


def udp(flow: int, length: int, port: int = 5000) -> bytes:
    return struct.pack(">HHHH", 10000 + flow, port, (8 + length) & 0xFFFF, 0)


def extensions(numbers: Sequence[int]) -> bytes:
    """IPv6 extension headers of 8 bytes each, the first of which has `numbers[0]`, before UDP."""
    return b"".join(bytes([following, 0]) + bytes(6) for following in [*numbers[1:], PROTOCOL_UDP])


@dataclass
class Flow:
    """All packets of a flow have the same kind and the same addresses, so one RQ gets them."""

    number: int
    kind: str
    tags: int  # VLAN tags
    ip_options: int  # words of 4 bytes
    tcp_options: int
    sequence: int = 0


# Kinds whose packets can be split, and the ones that cannot be: the table under "Fallback".
SPLITTABLE = [
    "tcp4",
    "udp4",
    "tcp6",
    "udp6",
    "tcp6-options",
    "udp6-options",
    "udp6-extensions",
    "udp6-lengths",
    "vxlan",
    "padded",
]
WHOLE = [
    "arp",
    "icmp4",
    "icmp6",
    "fragment4-first",
    "fragment4-later",
    "fragment6",
    "llc",
    "ipip",
    "gre",
    "mpls",
    "udp-lite",
    "total-zero",
    "total-short",
    "total-long",
    "three-tags",
    "hop-later6",
    "extensions6",
    "authentication6",
    "mobility6",
    "short-tcp4",
    "short-udp6",
    "short-ip4",
    "short-words",
    "tcp-words",
]


@dataclass
class Frame:
    ident: int
    flow: Flow
    data: bytes
    header_length: Optional[int]  # None: not splittable


def build(flow: Flow, ident: int, payload: bytes) -> Frame:
    """The identity of a frame is in its source address: with a wire no address is looked at."""
    f = flow.number
    flow.sequence += 1
    ethernet = bytes.fromhex("020000000001") + struct.pack(">BBI", 2, f, ident)
    outer = ETHERTYPE_OLDER_QINQ if f % 2 else ETHERTYPE_QINQ
    for i in range(3 if flow.kind == "three-tags" else flow.tags):
        ethernet += struct.pack(">HH", outer if flow.tags - i > 1 else ETHERTYPE_VLAN, 100 + i)
    kind, n = flow.kind, len(payload)
    four, six = struct.pack(">H", ETHERTYPE_IPV4), struct.pack(">H", ETHERTYPE_IPV6)
    headers: bytes
    split = True
    if kind in ("tcp4", "padded"):
        segment = tcp(f, flow.sequence, flow.tcp_options)
        padding = 0
        if kind == "padded":  # without data, filled up to Ethernet's shortest frame
            payload = b""
            padding = max(0, 60 - len(ethernet) - 2 - 20 - 4 * flow.ip_options - len(segment))
        headers = (
            ethernet
            + four
            + ipv4(PROTOCOL_TCP, len(segment) + len(payload), f, flow.ip_options)
            + segment
        )
        payload += bytes(padding)
    elif kind == "udp4":
        headers = ethernet + four + ipv4(PROTOCOL_UDP, 8 + n, f, flow.ip_options) + udp(f, n)
    elif kind == "tcp6":
        segment = tcp(f, flow.sequence, flow.tcp_options)
        headers = ethernet + six + ipv6(PROTOCOL_TCP, len(segment) + n, f) + segment
    elif kind == "udp6":
        headers = ethernet + six + ipv6(PROTOCOL_UDP, 8 + n, f) + udp(f, n)
    elif kind in ("tcp6-options", "udp6-options"):
        protocol = PROTOCOL_TCP if kind == "tcp6-options" else PROTOCOL_UDP
        last = tcp(f, flow.sequence, flow.tcp_options) if protocol == PROTOCOL_TCP else udp(f, n)
        hop = bytes([PROTOCOL_DESTINATION, 0, 1, 4, 0, 0, 0, 0])
        destination = bytes([protocol, 1, 1, 12]) + bytes(12)
        headers = (
            ethernet
            + six
            + ipv6(PROTOCOL_HOP_BY_HOP, 24 + len(last) + n, f)
            + hop
            + destination
            + last
        )
    elif kind == "udp6-extensions":
        chain = extensions([PROTOCOL_ROUTING, PROTOCOL_DESTINATION] * (EXTENSION_LIMIT // 2))
        headers = ethernet + six + ipv6(PROTOCOL_ROUTING, len(chain) + 8 + n, f) + chain + udp(f, n)
    elif kind == "udp6-lengths":  # no length is looked at but IPv4's
        headers = ethernet + six + ipv6(PROTOCOL_UDP, f, f) + udp(f, f - 8)
    elif kind == "vxlan":  # a tunnel over UDP: split after the outer UDP header
        inner = (
            bytes.fromhex("0800000000000100")
            + ethernet[:12]
            + four
            + ipv4(PROTOCOL_UDP, 8 + n, f)
            + udp(f, n)
        )
        headers = (
            ethernet
            + four
            + ipv4(PROTOCOL_UDP, 8 + len(inner) + n, f)
            + udp(f, len(inner) + n, VXLAN_PORT)
        )
        payload = inner + payload
    else:
        split = False
        if kind == "arp":
            headers = (
                ethernet
                + struct.pack(">HHHBBH", ETHERTYPE_ARP, 1, ETHERTYPE_IPV4, 6, 4, 1)
                + bytes(20)
            )
        elif kind == "icmp4":
            echo = bytes.fromhex("0800000000010001")
            headers = ethernet + four + ipv4(PROTOCOL_ICMP, 8 + n, f, flow.ip_options) + echo
        elif kind == "icmp6":
            headers = (
                ethernet + six + ipv6(PROTOCOL_ICMPV6, 8 + n, f) + bytes.fromhex("8000000000010001")
            )
        elif kind == "fragment4-first":
            headers = (
                ethernet + four + ipv4(PROTOCOL_UDP, 8 + n, f, fragment=0x2000) + udp(f, n + 1000)
            )
        elif kind == "fragment4-later":
            headers = ethernet + four + ipv4(PROTOCOL_UDP, n, f, fragment=100)
        elif kind == "fragment6":
            fragment = struct.pack(">BBHI", PROTOCOL_UDP, 0, 1, 7)
            headers = (
                ethernet + six + ipv6(PROTOCOL_FRAGMENT, 16 + n, f) + fragment + udp(f, n + 1000)
            )
        elif kind == "llc":
            headers = ethernet + struct.pack(">H", min(n + 3, 1500)) + b"\x42\x42\x03"
        elif kind == "ipip":
            inner = ipv4(PROTOCOL_UDP, 8 + n, f) + udp(f, n)
            headers = ethernet + four + ipv4(PROTOCOL_IPIP, len(inner) + n, f) + inner
        elif kind == "gre":
            inner = struct.pack(">HH", 0, ETHERTYPE_IPV4) + ipv4(PROTOCOL_UDP, 8 + n, f) + udp(f, n)
            headers = ethernet + four + ipv4(PROTOCOL_GRE, len(inner) + n, f) + inner
        elif kind == "mpls":
            label = struct.pack(">HI", ETHERTYPE_MPLS, 0x1140)
            headers = ethernet + label + ipv4(PROTOCOL_UDP, 8 + n, f) + udp(f, n)
        elif kind == "udp-lite":
            headers = ethernet + four + ipv4(PROTOCOL_UDP_LITE, 8 + n, f) + udp(f, 0)
        elif kind in ("total-zero", "total-short", "total-long"):
            total = {"total-zero": 0, "total-short": 27, "total-long": 29 + n}[kind]
            headers = ethernet + four + ipv4(PROTOCOL_UDP, 8 + n, f, total_length=total) + udp(f, n)
        elif kind == "three-tags":
            headers = ethernet + four + ipv4(PROTOCOL_UDP, 8 + n, f) + udp(f, n)
        elif kind in ("hop-later6", "extensions6", "authentication6", "mobility6"):
            numbers = {
                "hop-later6": [PROTOCOL_DESTINATION, PROTOCOL_HOP_BY_HOP],
                "extensions6": [PROTOCOL_DESTINATION] * (EXTENSION_LIMIT + 1),
                "authentication6": [PROTOCOL_AUTHENTICATION],
                "mobility6": [PROTOCOL_MOBILITY],
            }[kind]
            chain = extensions(numbers)
            headers = ethernet + six + ipv6(numbers[0], len(chain) + 8 + n, f) + chain + udp(f, n)
        elif kind == "short-tcp4":  # the frame ends within the TCP header
            headers = ethernet + four + ipv4(PROTOCOL_TCP, 13, f) + tcp(f, 0)[:13]
            payload = b""
        elif kind == "short-udp6":
            headers = ethernet + six + ipv6(PROTOCOL_UDP, 5, f) + udp(f, 0)[:5]
            payload = b""
        elif kind == "short-ip4":
            headers = ethernet + four + ipv4(PROTOCOL_UDP, 8, f)[:19]
            payload = b""
        elif kind == "short-words":  # an IPv4 header of less than 5 words
            headers = ethernet + four + ipv4(PROTOCOL_UDP, 8 + n, f, header_words=4) + udp(f, n)
        elif kind == "tcp-words":  # a TCP header of less than 5 words
            headers = (
                ethernet + four + ipv4(PROTOCOL_TCP, 20 + n, f) + tcp(f, flow.sequence, words=4)
            )
        else:
            raise AssertionError(kind)
    return Frame(ident, flow, headers + payload, len(headers) if split else None)


# ------------------------------------------------------------------------------------------
# The program.


class Program:
    def __init__(self, path: Path, folder: Path, cpus: Sequence[int] = ()):
        self.path = path
        self.cpus = cpus
        self.folder = folder
        self.log = open(folder / "log", "ab+")
        self.process: Optional[subprocess.Popen] = None
        self.start()

    def socket(self, port: str) -> str:
        return str(self.folder / port)

    def start(self) -> None:
        for port in "ab":
            (self.folder / port).unlink(missing_ok=True)
        port = "type=vhost-user,path={path},name={name},queues={queues}"
        command = [
            str(self.path),
            "--port",
            port.format(path=self.socket("a"), name="a", queues=PAIRS) + ",header-queue=on",
            "--port",
            port.format(path=self.socket("b"), name="b", queues=PAIRS),
            "--wire",
            "a,b",
            "--idle",
            "park",
            "--hold",
            str(HOLD_MICROSECONDS),
        ]
        if self.cpus:
            command += ["--cpus", ",".join(map(str, self.cpus))]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log)
        output = self.process.stdout
        line = output.readline() if select.select([output], [], [], READY_SECONDS)[0] else b""
        if line != b"ready\n":
            raise Violation(
                "program", f"the program said {line!r}, expected 'ready': {self.text()[-300:]}"
            )

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        try:
            code = self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise Violation("program", "the program did not end within 5 s of SIGTERM")
        finally:
            self.process.stdout.close()
        if number == signal.SIGTERM:
            require(
                code == 0,
                "program",
                f"the program ended with {code}, expected 0: {self.text()[-800:]}",
            )
        self.process = None
        return code

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process.stdout.close()
            self.process = None

    def dropped(self, port: str) -> int:
        """Packets that should have gone out of a port and were dropped, by its own count."""
        before = len(self.text())
        self.process.send_signal(signal.SIGUSR1)
        threads = max(1, len(self.cpus))
        # The lines of the switch threads are the last ones.
        wait_for(
            lambda: self.text()[before:].count(" times\n") >= threads,
            DEFAULT_TIMEOUT,
            "program",
            "counters after SIGUSR1",
        )
        rows = [line.split() for line in self.text()[before:].splitlines()]
        counts = [row for row in rows if len(row) == 7 and row[0] == port and row[6].isdigit()]
        require(len(counts) == 1, "program", f"no counters of port {port}: {rows}")
        return int(counts[0][6])

    def text(self) -> str:
        self.log.seek(0)
        return self.log.read().decode(errors="replace")


# ------------------------------------------------------------------------------------------
# What a run draws.


@dataclass
class Plan:
    seed: int
    by_headerq: bool
    packed: bool
    report: int
    slot_return: int
    slot_size: int
    slot_count: int
    rqs: int
    multiqueue: bool  # MQ is negotiated
    mask: int
    mergeable: bool
    indirect: bool
    in_order: bool
    event_idx: bool
    ring_size: int
    shape: str
    max_frame: int
    group: int
    late: str  # when slots go back
    first_cursor: int  # 0, or near the end of 2^32: words as after a clean stop
    post_before: bool
    frames: int
    actions: list[str]
    senders: int
    threads: int  # switch threads of the device: with two of them RQs claim at the same time
    first_index: int  # of the RQs' rings, near the end of 2^16 for split rings
    feature_alone: bool = False  # bit 58 without a feature that it needs

    def describe(self) -> str:
        parts = [
            "headerq" if self.by_headerq else "messages",
            (
                f"{'packed' if self.packed else 'split'} ring of {self.ring_size} from"
                f" {self.first_index}"
            ),
        ]
        parts += [
            name
            for name, wanted in (
                ("mergeable", self.mergeable),
                ("indirect", self.indirect),
                ("IN_ORDER", self.in_order),
                ("EVENT_IDX", self.event_idx),
                ("MQ", self.multiqueue),
            )
            if wanted
        ]
        parts += [
            "netHeader" if self.report == REPORT_NET_HEADER else "usedLength",
            "ring" if self.slot_return == RETURN_RING else f"tail by {self.group}",
            f"{self.slot_count} x {self.slot_size} bytes from {self.first_cursor:#x}",
            f"{self.rqs} RQs",
            f"mask {self.mask:#x}",
            f"buffers {self.shape}",
            f"frames to {self.max_frame}",
            f"slots back {self.late}",
            f"{self.senders} senders",
            f"{self.threads} threads",
            f"{self.frames} frames",
        ]
        what = "feature 58 alone" if self.feature_alone else " ".join(self.actions) or "no actions"
        return ", ".join(parts) + "; " + what


# What a run may do between its traffic; the others only with the return ring, or by one of the two
# ways in which a queue is set up.
ACTIONS = [
    "restart_rq",
    "reset_rq",
    "stop_and_resume",
    "lie",
    "reset_device",
    "reconnect",
    "killed",
    "new_memory",
    "wrong_requests",
    "slow_rq",
    "exhaust",
    "ended",
    "forget_rq",
    "broken_stop",
    "idle_reset_word",
]
RING_ACTIONS = ["early", "withhold"]
MESSAGE_ACTIONS = ["reset_whole", "disable_rq"]
HEADERQ_ACTIONS = ["disable_headerq", "second_request"]

# What so many runs have to have checked, or they passed for want of it: about a fifth of what is
# seen, and of what is drawn seldom one in many runs.
LEAST = {
    100: {name: 1 for name in ACTIONS}
    | {
        "broken by a lie": 5,
        "lost while stopped, and counted": 1,
        "split": 3000,
        "whole": 5000,
        "whole, and why was checked": 1000,
    },
    400: {name: 1 for name in RING_ACTIONS + MESSAGE_ACTIONS + HEADERQ_ACTIONS}
    | {"feature_alone": 1, "early read": 1},
}


def draw(seed: int) -> Plan:
    r = random.Random(seed)
    by_headerq = r.random() < 0.5
    report = r.choice([REPORT_NET_HEADER, REPORT_USED_LENGTH, REPORT_USED_LENGTH])
    slot_return = r.choice([RETURN_TAIL, RETURN_RING])
    packed = r.random() < 0.5
    rqs = r.choice([1, 1, 2, 3, 4])
    multiqueue = rqs > 1 if by_headerq else (rqs > 1 and r.random() < 0.5)
    if by_headerq and rqs == 1 and r.random() < 0.3:
        multiqueue = True
    mask = bit(rqs) - 1
    if rqs > 1 and r.random() < 0.3:
        mask = r.randrange(1, bit(rqs))
    mergeable = by_headerq or r.random() < 0.6
    ring_size = r.choice([16, 32, 64, 128]) if not packed else r.choice([16, 24, 33, 64, 100, 128])
    slot_size = r.choice([64, 128, 128, 128, 256, 256, 512, 1024])
    slot_count = (
        SLOT_COUNT_MAX
        if r.random() < 0.03
        else r.choice([1, 2, 4, 8, 16, 32, 64, 64, 128, 128, 256, 256, 512, 512, 1024])
    )
    if slot_count == SLOT_COUNT_MAX:
        slot_size = min(slot_size, 128)
    shapes = ["one", "random", "random", "large", "tiny"] if mergeable else ["large"]
    shapes += ["aligned"] if report == REPORT_NET_HEADER else ["pieces"]
    shape = r.choice(shapes)
    max_frame = r.choice([200, 1514, 1514, 4000, 1514, 20000])
    pool = ACTIONS + (RING_ACTIONS if slot_return == RETURN_RING else ["lie"])
    pool = pool + (HEADERQ_ACTIONS if by_headerq else MESSAGE_ACTIONS)
    threads = r.choice([1, 1, 2])
    if threads > 1:
        shape = "large"
    feature_alone = by_headerq and r.random() < 0.06
    return Plan(
        seed=seed,
        by_headerq=by_headerq,
        packed=packed,
        report=report,
        slot_return=slot_return,
        slot_size=slot_size,
        slot_count=slot_count,
        rqs=rqs,
        multiqueue=multiqueue,
        mask=mask,
        mergeable=mergeable,
        indirect=r.random() < 0.3,
        in_order=r.random() < 0.3,
        event_idx=r.random() < 0.3,
        ring_size=ring_size,
        shape=shape,
        max_frame=max_frame,
        group=r.choice([1, 1, max(1, min(32, slot_count // 4)) if slot_count < 128 else 32]),
        late=r.choice(["at once", "at once", "in order, later", "out of order, later"]),
        first_cursor=0 if r.random() < 0.6 else -r.randrange(1, 200) & CURSOR_MASK,
        post_before=report == REPORT_USED_LENGTH and r.random() < 0.5,
        frames=r.choice([100, 200, 400, 600]),
        actions=[r.choice(pool) for _ in range(r.choice([0, 1, 2, 3, 4]))],
        senders=r.choice([1, 1, 2, 4]),
        threads=threads,
        first_index=0 if r.random() < 0.7 else r.randrange(65536 - 300, 65536),
        feature_alone=feature_alone,
    )


# ------------------------------------------------------------------------------------------
# One run.


@dataclass
class Held:
    """A slot that the driver reads for a while, and what was in it at first."""

    slot: int
    cursor: int
    content: bytes


class Run:
    def __init__(self, plan: Plan, program_path: Path, folder: Path, verbose: bool = False):
        self.plan = plan
        self.random = random.Random(plan.seed ^ 0x5EED)
        self.verbose = verbose
        self.program: Optional[Program] = None
        self.program_path = program_path
        self.folder = folder
        self.receiver: Optional[Device] = None
        self.sender: Optional[Device] = None
        self.memory: Optional[GuestMemory] = None
        self.sender_memory: Optional[GuestMemory] = None
        self.rqs: list[ReceiveQueue] = []
        self.held: list[Held] = []
        self.kept: list[Held] = []  # slots in whose place the driver lied
        self.ident = 0
        self.outstanding: dict[int, Frame] = {}
        self.strangers: dict[int, Frame] = (
            {}
        )  # they were on their way during a reset: may come, or not
        self.recent_strangers = 0
        self.stalled: dict[int, int] = {}  # RQ -> iterations that it does not harvest
        self.last_of_flow: dict[tuple[int, int], int] = {}
        self.counts = collections.Counter()
        self.linked = False  # the header queue is set up, and RQs of the mask are linked
        self.enough = True  # slots sufficed for all frames on their way, ever since the phase began
        self.may_be_whole = (
            False  # a reason other than slots: the queue was stopped or broken in between
        )
        kinds = list(SPLITTABLE) * 6 + WHOLE
        self.flows = [
            Flow(
                i,
                self.random.choice(kinds),
                self.random.choice([0, 0, 0, 1, 2]),
                self.random.choice([0, 0, 0, 1, 10]),
                self.random.choice([0, 0, 3, 10]),
            )
            for i in range(self.random.choice([1, 4, 12, 24]))
        ]

    def note(self, text: str) -> None:
        if self.verbose:
            print(f"    {text}", flush=True)

    # Setting up.

    def start(self) -> None:
        plan = self.plan
        cpus = sorted(os.sched_getaffinity(0))
        # On one CPU all threads share it, and the device lets the kernel choose.
        several = plan.threads > 1 and len(cpus) > 1
        self.program = Program(
            self.program_path, self.folder, cpus[: plan.threads] if several else ()
        )
        self.strict = not several
        self.memory = GuestMemory([64 << 20, 32 << 20])  # only what is touched takes room
        self.sender_memory = GuestMemory([32 << 20])
        self.connect_receiver()
        self.make_queues()
        self.header_queue = HeaderQueue(
            self.memory,
            plan.slot_size,
            plan.slot_count,
            plan.slot_return,
            plan.report,
            NET_HEADER_SIZE,
            region=1,
        )
        self.start_queues()
        self.connect_sender()
        if plan.post_before:
            self.post_all()
        self.set_up_first()
        self.post_all()

    def wanted_features(self) -> int:
        plan = self.plan
        features = bit(VIRTIO_F_VERSION_1)
        for number, wanted in (
            (VIRTIO_NET_F_MRG_RXBUF, plan.mergeable),
            (VIRTIO_NET_F_CTRL_VQ, plan.by_headerq),
            (VIRTIO_NET_F_HEADER_QUEUE, plan.by_headerq),
            (VIRTIO_F_RING_PACKED, plan.packed),
            (VIRTIO_NET_F_MQ, plan.multiqueue),
            (VIRTIO_F_INDIRECT_DESC, plan.indirect),
            (VIRTIO_F_IN_ORDER, plan.in_order),
            (VIRTIO_F_EVENT_IDX, plan.event_idx),
        ):
            if wanted:
                features |= bit(number)
        return features

    PROTOCOL = (
        bit(PROTOCOL_F_MQ)
        | bit(PROTOCOL_F_REPLY_ACK)
        | bit(PROTOCOL_F_RESET_DEVICE)
        | bit(PROTOCOL_F_STATUS)
        | bit(PROTOCOL_F_CONFIG)
        | bit(PROTOCOL_F_HEADER_QUEUE)
    )

    def connect_receiver(self) -> None:
        self.receiver = Device(self.program.socket("a"), self.memory)
        features = self.wanted_features()
        self.receiver.negotiate(features, self.PROTOCOL, features)
        for number in (VIRTIO_F_VERSION_1, VIRTIO_NET_F_MRG_RXBUF, VIRTIO_NET_F_CTRL_VQ):
            if self.receiver.offered & bit(VIRTIO_NET_F_HEADER_QUEUE):
                require(
                    bool(self.receiver.offered & bit(number)),
                    "device 1",
                    f"VIRTIO_NET_F_HEADER_QUEUE is offered without feature {number}",
                )
        if not self.receiver.has_protocol(PROTOCOL_F_HEADER_QUEUE):
            raise Violation("Set-up over vhost-user", "protocol feature 48 is not offered")
        self.receiver.set_memory()

    def new_queue(self, size: int, region: int = 0) -> Virtqueue:
        kind = PackedVirtqueue if self.plan.packed else SplitVirtqueue
        return kind(self.memory, size, region, self.plan.indirect)

    def make_queues(self) -> None:
        plan = self.plan
        region = self.random.choice([0, 0, 1])
        self.rqs = []
        for i in range(plan.rqs):
            queue = self.new_queue(plan.ring_size, region)
            queue.begin_at(plan.first_index)
            self.rqs.append(
                ReceiveQueue(
                    i,
                    queue,
                    self.memory,
                    NET_HEADER_SIZE,
                    plan.mergeable,
                    self.shape,
                    self.largest_buffer(),
                )
            )
        self.transmit = [self.new_queue(8) for _ in range(plan.rqs)]
        if plan.by_headerq:
            self.control_queue = ControlQueue(self.new_queue(8), self.memory)
            self.headerq = HeaderqTransport(self.new_queue(16), self.memory)

    @property
    def control_index(self) -> int:
        return 2 * PAIRS if self.plan.multiqueue else 2

    @property
    def prefix(self) -> int:
        return NET_HEADER_SIZE + (SPLIT_REPORT_SIZE if self.plan.report == REPORT_NET_HEADER else 0)

    def largest_buffer(self) -> int:
        return self.plan.max_frame + 512

    def smallest_buffer(self) -> int:
        """Frames have to fit the buffers of one ring, with room for those that wait."""
        return -(-(self.plan.max_frame + 600) // max(1, self.plan.ring_size // 4))

    def shape(self) -> list[int]:
        """The descriptors of one receive buffer."""
        r, kind, largest = self.random, self.plan.shape, self.largest_buffer()
        if kind == "large":
            return [largest]
        if kind == "aligned":  # payload begins where the second descriptor does
            return [self.prefix, largest - self.prefix]
        if kind == "pieces":
            first = r.randrange(1, 200)
            return [first, 60, largest - first - 60]
        smallest = max(self.smallest_buffer(), 64)
        if kind == "tiny" and r.random() < 0.25:  # some are too small for what precedes a packet
            return [r.randrange(1, 60)]
        if kind == "one":
            return [min(largest, smallest + 64)]
        return [r.randrange(smallest, min(largest, smallest + 2000) + 1)]

    def start_queues(self) -> None:
        plan, dev = self.plan, self.receiver
        queues = []
        for i, rq in enumerate(self.rqs):
            queues += [(2 * i, rq.queue), (2 * i + 1, self.transmit[i])]
        if plan.by_headerq:
            queues += [
                (self.control_index, self.control_queue.queue),
                (self.control_index + 1, self.headerq.queue),
            ]
        self.random.shuffle(queues)
        for index, queue in queues:
            dev.start_queue(index, queue)
        dev.driver_ok()
        if plan.by_headerq and plan.multiqueue:
            ack = self.control_queue.set_pairs(plan.rqs)
            require(ack == 0, "virtio", f"VQ_PAIRS_SET of {plan.rqs} pairs was answered by {ack}")

    def connect_sender(self) -> None:
        self.sender = Device(self.program.socket("b"), self.sender_memory)
        self.sender.negotiate(
            bit(VIRTIO_F_VERSION_1) | bit(VIRTIO_NET_F_MRG_RXBUF),
            bit(PROTOCOL_F_MQ) | bit(PROTOCOL_F_REPLY_ACK),
        )
        self.sender_memory.regions[0].next_free = 0
        self.sender.set_memory()
        self.senders = []
        for i in range(self.plan.senders):
            self.sender.start_queue(2 * i, SplitVirtqueue(self.sender_memory, 8))
            queue = TransmitQueue(
                SplitVirtqueue(self.sender_memory, 64),
                self.sender_memory,
                max_frame=self.plan.max_frame + 256,
            )
            self.sender.start_queue(2 * i + 1, queue.queue)
            self.senders.append(queue)
        self.sender.driver_ok()

    def set_up_first(self) -> None:
        hq = self.header_queue
        hq.zero()
        if self.plan.first_cursor:
            # Words as a device leaves them that stopped cleanly: the next one goes on at `head`.
            hq.begin(self.plan.first_cursor)
            hq.set_word(CONTROL_HEAD, self.plan.first_cursor)
            hq.set_word(CONTROL_TAKEN, 1)
            hq.set_word(CONTROL_STATUS, STATUS_STOPPED)
            hq.give_all()
            self.ask(before=STATUS_STOPPED)
        else:
            self.set_up_anew()

    def set_up_anew(self) -> None:
        """Zeroed words, all slots given. No slot may be held any more."""
        assert not self.held
        hq = self.header_queue
        hq.zero()
        hq.give_all()
        hq.set_word(CONTROL_STATUS, STATUS_ASKED)
        self.ask(before=STATUS_ASKED)

    def ask(self, before: int) -> None:
        """Sets the queue up over the words as they are, and links the RQs."""
        plan, hq = self.plan, self.header_queue
        if plan.by_headerq:
            pieces = self.random.choice([(32,), (32,), (16, 16), (4, 28)])
            self.headerq.post(hq.request(plan.mask), hq.areas(), pieces=pieces)
            self.wait_status(before)
        else:
            reason = self.receiver.set_header_queue(
                hq.request(plan.mask),
                hq.control,
                hq.slots,
                hq.ring,
                need_reply=self.random.random() < 0.5,
            )
            require(reason == 0, "device 2", f"SET_HEADER_QUEUE was refused for reason {reason}")
        self.check_in_use()

    def wait_status(self, before: int) -> None:
        hq = self.header_queue
        wait_for(
            lambda: hq.status != before,
            DEFAULT_TIMEOUT,
            "device 2",
            f"status to be other than {before}",
        )

    def check_in_use(self) -> None:
        hq = self.header_queue
        require(
            hq.status == STATUS_IN_USE,
            "device 2",
            f"status is {hq.status}, reason {hq.word(CONTROL_REASON)}; expected 0 for a right"
            " request",
        )
        require(
            hq.word(CONTROL_TAKEN) == 1,
            "Memory",
            f"`taken` is {hq.word(CONTROL_TAKEN)}, expected 1",
        )
        if self.plan.by_headerq:
            require(
                not self.headerq.collect(),
                "device 3",
                "the request came back although the queue is in use",
            )
        self.link_rqs()

    def link_rqs(self) -> None:
        self.linked = True
        for rq in self.rqs:
            rq.link(self.header_queue if self.plan.mask & bit(rq.number) else None)

    def unlink_rqs(self, report_stays: bool = False) -> None:
        """Packets that arrive from now on are whole; the driver knows that none is on its way."""
        self.linked = False
        for rq in self.rqs:
            if report_stays and rq.header_queue is not None:
                rq.may_split = False
            else:
                rq.link(None)

    def post_all(self) -> None:
        for rq in self.rqs:
            rq.post()

    # Traffic.

    def frame(self) -> Frame:
        r = self.random
        flow = r.choice(self.flows)
        most = self.plan.max_frame - 200
        size = (
            0
            if most <= 0
            else r.choice([0, 1, r.randrange(64), r.randrange(most + 1), r.randrange(most + 1)])
        )
        start = r.randrange(256)
        payload = (PATTERN * (size // 256 + 2))[start : start + size]
        self.ident += 1
        return build(flow, self.ident, payload)

    def send(self, frame: Frame) -> bool:
        queue = self.senders[frame.flow.number % len(self.senders)]
        # Between two switch threads few packets wait for a receiver, and what is more is dropped at
        # once: there is always room then. It has nothing to do with the header queue.
        if self.plan.threads > 1 and len(self.outstanding) >= self.plan.ring_size // 2:
            return False
        if not queue.post(frame.data):
            return False
        queue.queue.kick()
        self.outstanding[frame.ident] = frame
        self.counts["sent"] += 1
        return True

    def weigh(self) -> None:
        """Whether each frame on its way is sure to find a slot."""
        # Several workers may take a slot from each other eight times, and one may hold the
        # refill's lock.
        need = len(self.outstanding) + self.recent_strangers
        if not self.strict or (self.linked and len(self.header_queue.at_device) < need):
            self.enough = False

    def harvest(self, rq: ReceiveQueue) -> int:
        packets = rq.harvest()
        for packet in packets:
            self.check_packet(rq, packet)
        return len(packets)

    def check_packet(self, rq: ReceiveQueue, packet: Packet) -> None:
        data = packet.frame
        what = f"RQ {rq.number}"
        require(
            len(data) >= ETHERNET_HEADER,
            "traffic",
            f"{what}: a packet of {len(data)} bytes: {data.hex()}",
        )
        ident = struct.unpack_from(">I", data, 8)[0]
        frame = self.outstanding.pop(ident, None) or self.strangers.pop(ident, None)
        if frame is None:
            raise Violation(
                "traffic",
                f"{what}: frame {ident} was not sent, or came twice; begins {data[:64].hex()}",
            )
        what += f", frame {ident} of kind {frame.flow.kind}, {len(frame.data)} bytes"
        if data != frame.data:
            at = next(
                (i for i in range(min(len(data), len(frame.data))) if data[i] != frame.data[i]),
                min(len(data), len(frame.data)),
            )
            raise Violation(
                "device 14",
                f"{what}: {len(data)} bytes came, first difference at {at}; "
                f"headers {len(packet.headers)}; expected {frame.data[at:at+16].hex()},"
                f" saw {data[at:at+16].hex()}",
            )
        key = (frame.flow.number, rq.number)
        require(
            ident > self.last_of_flow.get(key, 0),
            "order",
            f"{what}: after frame {self.last_of_flow.get(key)} of the same flow",
        )
        self.last_of_flow[key] = ident
        hq = self.header_queue
        room = hq.slot_size - (NET_HEADER_SIZE if hq.report == REPORT_USED_LENGTH else 0)
        if packet.split:
            self.counts["split"] += 1
            require(
                frame.header_length is not None,
                "device 7",
                f"{what}: was split after {len(packet.headers)} bytes",
            )
            require(
                len(packet.headers) == frame.header_length,
                "device 7",
                f"{what}: split after {len(packet.headers)} bytes, expected {frame.header_length}",
            )
            if packet.slot not in hq.at_device:  # it was given early
                content = self.memory.read(hq.slots + packet.slot * hq.slot_size, hq.slot_size)
                self.held.append(Held(packet.slot, packet.cursor, content))
        else:
            self.counts["whole"] += 1
            could = frame.header_length is not None and frame.header_length <= room
            if could:
                self.counts["whole for want of slots or link"] += 1
            if self.linked and self.enough and not self.may_be_whole:
                self.counts["whole, and why was checked"] += 1
            if (
                rq.header_queue is not None
                and self.linked
                and could
                and self.enough
                and not self.may_be_whole
            ):
                raise Violation(
                    "device 5",
                    f"{what}: came whole, though {len(hq.at_device)} slots were free"
                    f" and {len(self.outstanding)} frames on their way",
                )

    def return_slots(self, everything: bool = False) -> None:
        """By the plan: at once, later in order, later out of order."""
        if not self.held:
            return
        if everything or self.plan.late == "at once":
            chosen, self.held = self.held, []
        else:
            if self.random.random() < 0.7:
                return
            count = self.random.randrange(len(self.held) + 1)
            if self.plan.late.startswith("out"):
                self.random.shuffle(self.held)
            chosen, self.held = self.held[:count], self.held[count:]
        self.give_back(chosen)

    def give_back(self, chosen: list[Held]) -> None:
        hq = self.header_queue
        for held in chosen:
            now = self.memory.read(hq.slots + held.slot * hq.slot_size, hq.slot_size)
            require(
                now == held.content, "device 6", f"slot {held.slot} changed after it was reported"
            )
        order = self.random.shuffle if self.plan.late.startswith("out") else None
        hq.retire([h.slot for h in chosen], order, self.plan.group)

    def drop_held(self) -> None:
        """All slots are given anew, or the queue is gone: nothing is given back."""
        self.held.clear()
        self.kept.clear()

    def step(self) -> bool:
        """One look at all RQs; whether anything came."""
        progress = False
        for rq in self.rqs:
            left = self.stalled.get(rq.number, 0)
            if left > 0:
                self.stalled[rq.number] = left - 1
                continue
            if self.harvest(rq):
                progress = True
        self.return_slots()
        for rq in self.rqs:
            if not self.stalled.get(rq.number, 0):
                rq.post()
        return progress

    def traffic(self, count: int, burst: int = 24, stalls: bool = True) -> None:
        """Sends frames and receives them, until all have come."""
        r = self.random
        self.enough = True
        waiting = collections.deque()
        left = count
        end = time.monotonic() + DEFAULT_TIMEOUT
        seen = -1
        while left or waiting or self.outstanding:
            for _ in range(r.randrange(1, burst + 1)):
                if not waiting and left:
                    waiting.append(self.frame())
                    left -= 1
                if not waiting or not self.send(waiting[0]):
                    break
                waiting.popleft()
            self.weigh()
            if stalls and r.random() < 0.03:
                self.stalled[r.randrange(self.plan.rqs)] = r.randrange(2, 20)
            if not self.step():
                time.sleep(0.0002)
            state = (left, len(waiting), len(self.outstanding))
            if state != seen:
                seen, end = state, time.monotonic() + DEFAULT_TIMEOUT
            elif time.monotonic() > end:
                lost = list(self.outstanding.values())[:5]
                raise Violation(
                    "device 5",
                    f"{len(self.outstanding)} frames did not come within {DEFAULT_TIMEOUT} s: "
                    + ", ".join(f"{f.ident} {f.flow.kind} {len(f.data)}" for f in lost)
                    + f"; free slots {len(self.header_queue.at_device)}, status"
                    f" {self.header_queue.status}",
                )
        self.stalled.clear()
        self.recent_strangers = 0

    def spread(self, count: int) -> None:
        """Sends without harvesting, so that an action meets traffic on its way."""
        for _ in range(count):
            frame = self.frame()
            if not self.send(frame):
                self.ident -= 1
                break
        time.sleep(0.002)

    def take_what_comes(self, seconds: float) -> None:
        """Harvests until all has come, or nothing has for a while."""
        end = time.monotonic() + seconds
        while self.outstanding and time.monotonic() < end:
            if self.step():
                end = time.monotonic() + seconds
            else:
                time.sleep(0.0005)

    def drain(self, seconds: float = 0.05) -> None:
        """After an action that may lose packets: takes what still comes, and forgets the rest."""
        self.take_what_comes(seconds)
        self.abandon()

    def abandon(self) -> None:
        """What is on its way may come later, or never: a ring or the device was reset."""
        self.counts["abandoned"] += len(self.outstanding)
        self.recent_strangers = len(self.outstanding)
        self.strangers.update(self.outstanding)
        self.outstanding.clear()

    def settle(self) -> None:
        """Traffic right after an action: packets may be whole for reasons other than slots."""
        self.may_be_whole = True
        self.traffic(10)

    # Stops.

    def check_stopped(self) -> None:
        """The queue was stopped: what was reported is harvested, and the account is exact."""
        hq = self.header_queue
        require(
            hq.status == STATUS_STOPPED,
            "device 20",
            f"status is {hq.status} after a stop, expected 3",
        )
        for rq in self.rqs:
            self.harvest(rq)
        self.check_account()

    def check_account(self) -> None:
        hq = self.header_queue
        hq.check_account(exact=True)
        hq.check_untouched("device 6")

    def stop_queue_of_headers(self) -> Optional[int]:
        """STOP_HEADER_QUEUE, or the stop of headerq."""
        if self.plan.by_headerq:
            return self.receiver.stop_queue(self.control_index + 1)
        answer = self.receiver.stop_header_queue()
        require(
            answer == 0, "vhost-user", f"STOP_HEADER_QUEUE was answered by {answer}, expected 0"
        )
        return None

    # Actions. Each begins and ends with the queue in use and nothing on its way.

    def act(self, name: str) -> None:
        self.note(f"action {name}")
        self.counts[name] += 1
        self.may_be_whole = True
        getattr(self, "act_" + name)()
        self.may_be_whole = False

    @property
    def can_meet_traffic(self) -> bool:
        """With netHeader the driver cannot tell packets before a link from those after it."""
        return self.plan.report == REPORT_USED_LENGTH

    def act_stop_and_resume(self) -> None:
        hq = self.header_queue
        if self.can_meet_traffic and self.random.random() < 0.7:
            self.spread(20)
        base = self.stop_queue_of_headers()
        self.check_stopped()
        words = self.memory.read(hq.control, CONTROL_SIZE)
        self.unlink_rqs()
        if not self.can_meet_traffic:
            assert not self.outstanding
        # What was on its way may be harvested only now, but nothing of it may be split.
        self.may_be_whole = True
        self.traffic(30)
        require(
            self.memory.read(hq.control, CONTROL_SIZE)[CONTROL_HEAD:] == words[CONTROL_HEAD:],
            "device 20",
            "control words changed after the stop",
        )
        hq.check_untouched("device 20")
        if self.can_meet_traffic and self.random.random() < 0.5:
            self.spread(10)
        if self.plan.by_headerq:
            self.link_rqs()  # a packet may be split from the start of the ring on
            self.receiver.start_queue(self.control_index + 1, self.headerq.queue, base)
            self.wait_status(STATUS_STOPPED)
            self.check_in_use()
        else:
            self.link_rqs()
            self.ask(before=STATUS_STOPPED)
        if self.outstanding:
            self.traffic(0)

    def act_disable_headerq(self) -> None:
        index = self.control_index + 1
        self.receiver.enable_queue(index, False)
        self.check_stopped()
        self.unlink_rqs()
        self.traffic(20)
        self.receiver.enable_queue(index, True)
        self.wait_status(STATUS_STOPPED)
        self.check_in_use()

    def act_restart_rq(self) -> None:
        """GET_VRING_BASE of an RQ and a start at that base."""
        rq = self.random.choice(self.rqs)
        dropped = self.program.dropped("a")
        self.spread(20)
        base = self.receiver.stop_queue(2 * rq.number)
        self.harvest(rq)
        time.sleep(0.005)
        again = rq.queue.collect()
        require(
            not again, "Reset", f"RQ {rq.number} got {len(again)} used entries after it was stopped"
        )
        self.return_slots()
        self.receiver.start_queue(2 * rq.number, rq.queue, base)
        self.may_be_whole = True
        self.finish_after_gap(dropped)

    def finish_after_gap(self, dropped: int) -> None:
        """Frames for a queue that did not run may have been dropped, and no others: the device counts
        each. `dropped` is its count before."""
        self.take_what_comes(0.02)
        end = time.monotonic() + DEFAULT_TIMEOUT
        while self.outstanding:
            count = self.program.dropped("a") - dropped
            self.take_what_comes(0.02)
            if len(self.outstanding) <= count:
                break
            require(
                time.monotonic() < end,
                "device 5",
                f"{len(self.outstanding)} frames did not come after a stop and a start of their RQ,"
                f" and the device counts {count} as dropped",
            )
        self.counts["lost while stopped, and counted"] += len(self.outstanding)
        self.abandon()

    def act_reset_rq(self) -> None:
        """The ring is given up, with harvest up to used.idx (driver 16), and begun anew."""
        rq = self.random.choice(self.rqs)
        dropped = self.program.dropped("a")
        self.spread(20)
        self.receiver.stop_queue(2 * rq.number)
        self.harvest(rq)
        rq.forget()
        self.return_slots()
        self.receiver.start_queue(2 * rq.number, rq.queue)
        rq.post()
        self.may_be_whole = True
        self.finish_after_gap(dropped)

    def act_disable_rq(self) -> None:
        rq = self.random.choice(self.rqs)
        self.receiver.enable_queue(2 * rq.number, False)
        self.harvest(rq)
        self.receiver.enable_queue(2 * rq.number, True)

    def act_slow_rq(self) -> None:
        self.stalled[self.random.randrange(self.plan.rqs)] = 100
        self.traffic(80, stalls=False)

    def act_exhaust(self) -> None:
        """Slots do not come back for a while: packets come whole, and none is lost."""
        hq = self.header_queue
        late, self.plan.late = self.plan.late, "in order, later"
        returning, self.return_slots = self.return_slots, lambda everything=False: None
        try:
            self.traffic(min(2 * self.plan.slot_count, 150) + 20, stalls=False)
        finally:
            self.plan.late, self.return_slots = late, returning
        hq.check_account(exact=False)
        self.return_slots(everything=True)

    def act_withhold(self) -> None:
        """Positions that were taken and not written hold up the later ones, but nobody waits."""
        chosen, self.held = self.held, []
        count = min(len(chosen), 2)
        self.header_queue.withhold([h.slot for h in chosen[:count]])
        self.give_back(chosen[count:])
        self.may_be_whole = True
        self.traffic(50)
        self.header_queue.release()

    def act_new_memory(self) -> None:
        """A new memory table does not stop the queue."""
        if self.can_meet_traffic:
            self.spread(10)
        self.receiver.set_memory()
        self.traffic(20)
        require(
            self.header_queue.status == STATUS_IN_USE,
            "Set-up over vhost-user",
            f"status is {self.header_queue.status} after SET_MEM_TABLE, expected 0",
        )

    def act_early(self) -> None:
        """A slot that the device has is posted once more, in the place of one that the driver
        keeps: the entry counts once the slot has been reported, and the queue goes on. The one that
        was kept stays so until the queue is reset: given as well, its entry could be a lap ahead of
        one that was not read, and overwrite it.

        One packet at a time, so that the driver has read the slot before it is written again. A
        burst that takes both entries skips the second: which of the two it was cannot be told from
        outside, so the queue is reset if the entry was not read."""
        hq = self.header_queue
        self.may_be_whole = True
        self.return_slots(everything=True)
        if not 8 <= self.plan.slot_count <= 128 or not self.keep_one_slot():
            return
        newest = (hq.next_position - 1) & CURSOR_MASK
        slots = [slot for slot, position in hq.at_device.items() if position == newest]
        if not slots:
            return
        position = hq.take_position()
        hq.write_entry(position, slots[0])
        hq.early[slots[0]] = position
        self.counts["early"] += 1
        late, self.plan.late = self.plan.late, "at once"
        for _ in range(6 * self.plan.slot_count + 50):
            self.traffic(1, burst=1, stalls=False)
            if (hq.head - position - 1) & CURSOR_MASK < bit(31):  # entries that were taken
                self.counts["early read"] += 1
                break
        else:
            self.reset_queue(broken=False)
        self.plan.late = late
        if self.random.random() < 0.5:
            self.act_stop_and_resume()

    def keep_one_slot(self) -> bool:
        """Traffic until the driver holds a slot; False if none of its flows gets one."""
        returning, self.return_slots = self.return_slots, lambda everything=False: None
        try:
            for _ in range(10):
                if self.held:
                    break
                self.traffic(4, burst=1, stalls=False)
        finally:
            self.return_slots = returning
        if not self.held:
            return False
        kept = self.held.pop(self.random.randrange(len(self.held)))
        self.kept.append(kept)
        return True

    def break_queue(self) -> None:
        hq, r = self.header_queue, self.random
        if hq.by_ring:
            index = r.choice(
                [self.plan.slot_count, 0xFFFF, r.randrange(self.plan.slot_count, 0x10000)]
            )
            hq.write_entry(hq.take_position(), index)
        else:
            lie = r.choice(
                [
                    hq.next_position + self.plan.slot_count + 1,
                    hq.next_position + bit(31),
                    hq.next_position - 2 * self.plan.slot_count - 1,
                    r.randrange(bit(32)),
                ]
            )
            low = (hq.next_position - self.plan.slot_count - len(self.outstanding)) & CURSOR_MASK
            if (lie - low) & CURSOR_MASK <= 3 * self.plan.slot_count:
                lie = hq.next_position + bit(30)
            hq.set_word(CONTROL_TAIL, lie)

    def make_broken(self) -> bool:
        """Lies, and sends until the device has found out. False if no packet made it look."""
        hq = self.header_queue
        self.may_be_whole = True
        self.return_slots(everything=True)
        # By the ring a false entry needs a position of its own, or it would overwrite one that the
        # device has not read: it stands for a slot that the driver keeps.
        if hq.by_ring and not self.keep_one_slot():
            return False
        self.break_queue()
        # The device looks when it needs slots.
        end = time.monotonic() + 2
        split = self.counts["split"]
        while hq.status != STATUS_BROKEN:
            self.traffic(10, stalls=False)
            require(
                self.counts["split"] - split <= 2 * self.plan.slot_count,
                "device 17",
                f"status is {hq.status} after a lie and {self.counts['split'] - split} splits,"
                " expected 1",
            )
            if not self.someone_splits() or time.monotonic() > end:  # nothing made the device look
                self.counts["lie not seen"] += 1
                return False
        self.counts["broken by a lie"] += 1
        return True

    def act_lie(self) -> None:
        hq = self.header_queue
        if hq.by_ring and not self.someone_splits():
            return
        noticed = self.make_broken()
        if noticed:
            split = self.counts["split"]
            self.traffic(40)
            require(
                self.counts["split"] == split,
                "device 18",
                f"{self.counts['split'] - split} packets were split while the queue was broken",
            )
            require(
                not self.plan.by_headerq or not self.headerq.collect(),
                "device 3",
                "the request came back when the queue broke",
            )
            if not hq.by_ring:
                hq.set_word(
                    CONTROL_TAIL, hq.next_position
                )  # "a later tail never repairs the queue"
                self.traffic(10)
                require(
                    self.counts["split"] == split and hq.status == STATUS_BROKEN,
                    "device 18",
                    "a later tail repaired the queue",
                )
                if (
                    self.random.random() < 0.5
                ):  # "the head moves to the tail, which may have any value"
                    near_end = -self.random.randrange(1, 4 * self.plan.slot_count + 2)
                    anywhere = self.random.choice([near_end, self.random.randrange(bit(32))])
                    hq.set_word(CONTROL_TAIL, anywhere & ~(self.plan.group - 1))
        self.reset_queue(noticed)

    def someone_splits(self) -> bool:
        """Whether a flow reaches a linked RQ with packets that fit a slot."""
        hq = self.header_queue
        return any(
            f.header_length is not None and f.header_length + NET_HEADER_SIZE <= hq.slot_size
            for f in self.frames_sample()
        )

    def frames_sample(self) -> list[Frame]:
        sample = []
        for flow in self.flows:
            sequence = flow.sequence
            sample.append(build(flow, 0, b""))
            flow.sequence = sequence
        # A flow may only reach RQs that are not linked; then nobody looks at the words.
        linked = {rq.number for rq in self.rqs if rq.header_queue is not None}
        reached = {flow for flow, rq in self.last_of_flow if rq in linked}
        return [f for f in sample if f.flow.number in reached]

    def reset_queue(self, broken: bool) -> None:
        """Reset of a header queue, steps 1 to 4 of the page."""
        hq = self.header_queue
        # 1: stop retiring; the ring is zeroed, the tail stays.
        if hq.by_ring:
            self.memory.fill(hq.ring, 4 * self.plan.slot_count, 0)
        if not broken and not hq.by_ring and hq.word(CONTROL_TAIL) != hq.next_position:
            # Not noticed yet: the lie is taken back, so far that the tail gives nothing.
            lowest = hq.next_position - len(hq.at_device)
            hq.set_word(CONTROL_TAIL, lowest)
        # 2: the device.
        if self.plan.by_headerq:
            if not broken:
                return self.stop_and_set_up_anew()
            hq.set_word(CONTROL_RESET, 1)
            wait_for(
                lambda: hq.status == STATUS_IN_USE,
                1.0,
                "Reset",
                "status 0 after `reset` 1; the device looks every 100 ms",
            )
            hq.set_word(CONTROL_RESET, 0)
        else:
            if broken and self.random.random() < 0.3:
                hq.set_word(CONTROL_RESET, 1)  # "the word `reset` is looked at as well"
                wait_for(
                    lambda: hq.status == STATUS_IN_USE, 1.0, "Reset", "status 0 after `reset` 1"
                )
                hq.set_word(CONTROL_RESET, 0)
            else:
                answer = self.receiver.reset_header_queue()
                require(answer == 0, "vhost-user", f"RESET_HEADER_QUEUE was answered by {answer}")
                require(
                    hq.status == STATUS_IN_USE,
                    "Reset",
                    f"status is {hq.status} after RESET_HEADER_QUEUE, expected 0",
                )
        # Between 2 and 4 there are no slots, and the driver gives none back.
        if self.random.random() < 0.7:
            for rq in self.rqs:
                self.harvest(rq)
            split = self.counts["split"]
            returning, self.return_slots = self.return_slots, lambda everything=False: None
            self.traffic(15)
            self.return_slots = returning
            require(
                self.counts["split"] == split,
                "Reset",
                "packets were split after the reset, before slots were given",
            )
        # 3: harvest, finish without retiring.
        for rq in self.rqs:
            self.harvest(rq)
        self.drop_held()
        # 4: positions anew, all slots.
        hq.begin(0 if hq.by_ring else hq.word(CONTROL_TAIL))
        hq.give_all()

    def stop_and_set_up_anew(self) -> None:
        index = self.control_index + 1
        self.receiver.stop_queue(index)
        for rq in self.rqs:
            self.harvest(rq)
        self.drop_held()
        self.unlink_rqs()
        self.headerq.queue.clear()
        self.receiver.start_queue(index, self.headerq.queue)
        self.set_up_anew()

    def act_reset_whole(self) -> None:
        """A reset of a queue that is not broken, by the message."""
        if self.can_meet_traffic:
            self.spread(10)
        self.may_be_whole = True
        self.reset_queue(broken=False)
        self.traffic(10)

    def act_forget_rq(self) -> None:
        """The ring of an RQ is given up without a last harvest: its slots are lost until the queue
        is reset (driver 16), and no others are, but by the tail those behind them wait."""
        rq = self.random.choice(self.rqs)
        self.spread(20)
        self.receiver.stop_queue(2 * rq.number)
        rq.forget()
        self.receiver.start_queue(2 * rq.number, rq.queue)
        rq.post()
        self.may_be_whole = True
        self.drain(0.02)
        self.traffic(20)
        self.reset_queue(broken=False)
        self.traffic(10)

    def act_idle_reset_word(self) -> None:
        """The device looks at `reset` only while the queue is broken."""
        hq = self.header_queue
        hq.set_word(CONTROL_RESET, 1)
        if self.random.random() < 0.2:
            time.sleep(0.15)
        head, tail = hq.head, hq.word(CONTROL_TAIL)
        require(
            hq.status == STATUS_IN_USE
            and (hq.by_ring or (tail - head) & CURSOR_MASK <= hq.slot_count),
            "Reset",
            f"`reset` 1 of a queue that is not broken: status {hq.status}, head {head:#x}, tail"
            f" {tail:#x}",
        )
        self.traffic(20)
        hq.set_word(CONTROL_RESET, 0)

    def act_broken_stop(self) -> None:
        """A broken queue is stopped: `status` stays 1, and who asks next is refused."""
        hq = self.header_queue
        if not self.make_broken():
            return self.reset_queue(broken=False)
        self.stop_queue_of_headers()
        require(
            hq.status == STATUS_BROKEN,
            "device 20",
            f"status is {hq.status} after the stop of a broken queue, expected 1",
        )
        for rq in self.rqs:
            self.harvest(rq)
        self.drop_held()
        self.unlink_rqs()
        self.traffic(10)
        if self.plan.by_headerq:
            index = self.control_index + 1
            self.headerq.queue.clear()
            self.receiver.start_queue(index, self.headerq.queue)
        self.refused(hq.request(self.plan.mask), hq.areas(), REASON_IN_USE, STATUS_BROKEN)
        self.set_up_anew()

    def act_second_request(self) -> None:
        """A second chain waits until the first has been given back, that is here for ever."""
        self.headerq.post(
            self.header_queue.request(self.plan.mask), self.header_queue.areas(), token="second"
        )
        self.traffic(20)
        require(
            not self.headerq.collect(), "device 3", "a chain came back while the first is in use"
        )
        self.stop_and_set_up_anew()

    def forget_everything(self) -> None:
        self.drop_held()
        self.stalled.clear()
        self.unlink_rqs()
        for rq in self.rqs:
            rq.forget()
        for queue in self.transmit:
            queue.clear()
        if self.plan.by_headerq:
            self.control_queue.queue.clear()
            self.headerq.queue.clear()

    def act_reset_device(self) -> None:
        hq = self.header_queue
        # RQs stop before they are unlinked: what is in their rings has its report.
        self.spread(20)
        self.receiver.reset_device()
        for rq in self.rqs:
            self.harvest(rq)
        # After it the device touches neither slots nor words.
        hq.check_untouched("Reset of the device")
        if not self.plan.by_headerq:
            require(
                hq.status == STATUS_STOPPED,
                "Set-up over vhost-user",
                f"status is {hq.status} after RESET_DEVICE, expected 3",
            )
            hq.check_account(exact=True)
        before = self.memory.read(hq.control, CONTROL_SIZE)
        time.sleep(0.003)
        require(
            self.memory.read(hq.control, CONTROL_SIZE) == before,
            "Reset of the device",
            "control words changed afterwards",
        )
        self.forget_everything()
        self.receiver.set_features()
        self.receiver.set_memory()
        self.start_queues()
        self.begin_again()

    def begin_again(self) -> None:
        self.abandon()
        if self.plan.post_before:
            self.post_all()
        self.set_up_anew()
        self.post_all()
        self.settle()

    def act_reconnect(self) -> None:
        """The connection ends and a new one goes on with the same words: the queue was stopped."""
        hq = self.header_queue
        if self.can_meet_traffic and self.random.random() < 0.5:
            self.spread(10)
        self.receiver.front_end.close()
        wait_for(
            lambda: hq.status == STATUS_STOPPED,
            DEFAULT_TIMEOUT,
            "device 20",
            "status 3 after the end of the connection",
        )
        self.resume_over_new_connection()

    def act_ended(self) -> None:
        """The program ends by SIGTERM, and another one goes on."""
        self.sender.close()
        self.program.end()
        self.abandon()
        require(
            self.header_queue.status == STATUS_STOPPED,
            "device 20",
            f"status is {self.header_queue.status} after the program's end, expected 3",
        )
        self.program.start()
        self.resume_over_new_connection(sender=True)

    def resume_over_new_connection(self, sender: bool = False) -> None:
        self.check_stopped()
        self.return_slots()
        self.drain(0.0)
        queues = self.receiver.queues
        bases = {}
        for index, queue in queues.items():
            bases[index] = self.base_of(queue)
        self.receiver.front_end.close()
        self.connect_receiver()
        dev = self.receiver
        self.unlink_rqs()
        for index in sorted(queues):
            is_headerq = self.plan.by_headerq and index == self.control_index + 1
            if not is_headerq:
                dev.start_queue(index, queues[index], bases[index])
        if self.plan.by_headerq:
            # Its request is still in the ring.
            dev.start_queue(
                self.control_index + 1,
                queues[self.control_index + 1],
                bases[self.control_index + 1],
            )
        dev.driver_ok()
        if self.plan.by_headerq:
            self.link_rqs()
            if self.plan.multiqueue:
                self.control_queue.set_pairs(self.plan.rqs)
            self.wait_status(STATUS_STOPPED)
            self.check_in_use()
        else:
            self.link_rqs()
            self.ask(before=STATUS_STOPPED)
        if sender:
            self.connect_sender()
        self.settle()

    def base_of(self, queue: Virtqueue) -> int:
        """Where a device goes on that knows nothing: at the driver's place, all chains anew."""
        if queue.packed:
            used = queue.next_used | queue.used_wrap << 15
            return used | used << 16
        return queue.used_index

    def act_killed(self) -> None:
        """The device is killed; nobody knows what it had claimed (reason 9)."""
        hq = self.header_queue
        if self.can_meet_traffic:
            self.spread(10)
        self.sender.close()
        self.program.end(signal.SIGKILL)
        for rq in self.rqs:
            self.harvest(rq)
        self.drop_held()
        self.abandon()
        self.program.start()
        self.receiver.front_end.close()
        self.connect_receiver()
        self.forget_everything()
        self.start_queues()
        self.connect_sender()
        self.refused(hq.request(self.plan.mask), hq.areas(), REASON_IN_USE, STATUS_BROKEN)
        self.begin_again()

    # Requests that are wrong.

    def refused(
        self,
        request: bytes,
        areas: list[Descriptor],
        reason: int,
        status: int,
        pieces: Sequence[int] = (REQUEST_SIZE,),
    ) -> None:
        """Asks, and expects the reason: in the words (headerq) or as the answer (messages)."""
        if self.plan.by_headerq:
            before = len(self.headerq.returned)
            self.headerq.post(request, areas, token="wrong", pieces=pieces)
            wait_for(
                lambda: self.headerq.collect(),
                DEFAULT_TIMEOUT,
                "device 3",
                f"a wrong request (reason {reason}) to come back",
            )
            require(
                len(self.headerq.returned) == before + 1,
                "device 3",
                "more than one chain came back",
            )
            words = self.header_queue
            require(
                words.status == status and words.word(CONTROL_REASON) == reason,
                "device 2",
                f"status {words.status} and reason {words.word(CONTROL_REASON)},"
                f" expected {status} and {reason}",
            )
        else:
            addresses = [a for a, _ in areas] + [0] * (3 - len(areas))
            answer = self.receiver.set_header_queue(request, *addresses[:3])
            require(
                answer == reason,
                "device 2",
                f"SET_HEADER_QUEUE was answered by {answer}, expected reason {reason}",
            )

    def act_wrong_requests(self) -> None:
        plan, r = self.plan, self.random
        # The queue must not be in use: it is set down first.
        if plan.by_headerq:
            self.receiver.stop_queue(self.control_index + 1)
            for rq in self.rqs:
                self.harvest(rq)
            self.check_stopped()
            self.drop_held()
            self.unlink_rqs()
            self.headerq.queue.clear()
            self.receiver.start_queue(self.control_index + 1, self.headerq.queue)
        else:
            self.stop_queue_of_headers()
            self.check_stopped()
            self.drop_held()
            self.unlink_rqs()
        hq = self.header_queue
        areas = hq.areas()
        ring = [(hq.ring, 4 * plan.slot_count)] if hq.by_ring else []

        def words(**change) -> bytes:
            values = dict(
                slot_size=plan.slot_size,
                slot_count=plan.slot_count,
                slot_return=plan.slot_return,
                report=plan.report,
                mask=plan.mask,
                reserved=0,
            )
            values.update(change)
            return request_bytes(**values)

        good = words()
        last = self.memory.regions[-1]
        beyond = last.guest_address + last.size
        across = self.memory.regions[0].guest_address + self.memory.regions[0].size - 64
        cases = [
            (REASON_GEOMETRY, words(slot_size=r.choice([0, 1, 32, 96, 127, 2048, 1 << 31])), areas),
            (REASON_GEOMETRY, words(slot_count=r.choice([0, 3, 5, 65536, 100, 1 << 31])), areas),
            (REASON_GEOMETRY, words(reserved=r.choice([1, 0x8000_0000])), areas),
            (
                REASON_GEOMETRY,
                words(slot_return=2, reserved=r.choice([0, 3, 1 << 31, 2 * plan.slot_count])),
                areas,
            ),
            (REASON_SLOT_RETURN, words(slot_return=r.choice([3, 255, 0x8000])), areas),
            (REASON_REPORT, words(report=r.choice([0, 3, 0xFFFF])), areas),
            (REASON_MASK, words(mask=0), areas),
            (REASON_MASK, words(mask=plan.mask | bit(PAIRS)), areas),
            (REASON_MASK, words(mask=plan.mask | bit(r.choice([63, 64, 127]))), areas),
            (REASON_ALIGNMENT, good, [areas[0], (areas[1][0] + 32, areas[1][1])] + ring),
        ]
        if hq.by_ring:
            cases.append((REASON_ALIGNMENT, good, areas[:2] + [(hq.ring + 4, 4 * plan.slot_count)]))
        if not plan.by_headerq:
            # By headerq such a descriptor breaks the virtqueue instead.
            cases.append((REASON_REGION, good, [areas[0], (beyond, areas[1][1])] + ring))
            if areas[1][1] > 64:
                cases.append((REASON_REGION, good, [areas[0], (across, areas[1][1])] + ring))
            if hq.by_ring:
                cases.append((REASON_REGION, good, areas[:2] + [(beyond, 4 * plan.slot_count)]))
        if plan.by_headerq:
            cases += [
                (REASON_CHAIN, good[:31], areas),
                (REASON_CHAIN, good + b"\0", areas),
                (REASON_CHAIN, good, [areas[0], (areas[1][0], areas[1][1] - 1)] + ring),
                (REASON_CHAIN, good, areas + [(hq.slots, 64)]),
                (REASON_CHAIN, good, areas[:-1]),
            ]
        for case in r.sample([c for c in cases if c], 5):
            reason, request, where = case
            self.note(f"wrong request, reason {reason}: {request.hex()} {where}")
            hq.zero()
            hq.give_all()
            hq.set_word(CONTROL_STATUS, STATUS_ASKED)
            self.refused(request, where, reason, STATUS_REFUSED, pieces=(len(request),))
            self.traffic(5)
            hq.check_untouched("device 3")
        if plan.by_headerq:
            # Two chains at once: the second is served when the first has been given back.
            other = HeaderQueue(
                self.memory, 64, 2, RETURN_TAIL, plan.report, NET_HEADER_SIZE, region=1
            )
            other.set_word(CONTROL_STATUS, STATUS_ASKED)
            self.headerq.post(other.request(0), other.areas(), token="wrong")
            hq.zero()
            hq.give_all()
            hq.set_word(CONTROL_STATUS, STATUS_ASKED)
            self.headerq.post(hq.request(plan.mask), hq.areas())
            self.wait_status(STATUS_ASKED)
            require(
                self.headerq.collect() == ["wrong"],
                "device 3",
                "the wrong request did not come back before the right one was served",
            )
            require(
                (other.status, other.word(CONTROL_REASON)) == (STATUS_REFUSED, REASON_MASK),
                "device 2",
                f"status {other.status}, reason {other.word(CONTROL_REASON)} of an empty mask,"
                " expected 2 and 4",
            )
            self.check_in_use()
        else:
            self.set_up_anew()
        self.may_be_whole = True

    # The whole.

    def go_feature_alone(self) -> None:
        """Device 1: without one of the features that it needs, the feature is not used."""
        # Without CTRL_VQ there is no place at which headerq could be looked for.
        lacking = self.random.choice([VIRTIO_F_VERSION_1, VIRTIO_NET_F_MRG_RXBUF])
        self.plan.mergeable = lacking != VIRTIO_NET_F_MRG_RXBUF
        if not self.plan.mergeable:
            self.plan.shape = "large"  # a frame has one buffer
        wanted = self.wanted_features
        self.wanted_features = lambda: wanted() & ~bit(lacking)
        self.set_up_first = lambda: None
        try:
            self.start()
        except (ConnectionResetError, BrokenPipeError):
            self.program.end()  # it refuses such a driver altogether, and lives
            return
        hq = self.header_queue
        self.unlink_rqs()
        hq.give_all()
        hq.set_word(CONTROL_STATUS, STATUS_ASKED)
        self.headerq.post(hq.request(self.plan.mask), hq.areas())
        time.sleep(0.05)
        require(
            hq.word(CONTROL_TAKEN) == 0 and hq.status != STATUS_IN_USE,
            "device 1",
            f"feature 58 without feature {lacking}: the device uses the queue"
            f" (status {hq.status}, taken {hq.word(CONTROL_TAKEN)})",
        )
        if lacking != VIRTIO_F_VERSION_1:  # else the virtio-net header is the older, shorter one
            self.traffic(20)
        hq.check_untouched("device 1")
        self.program.end()
        self.counts["feature_alone"] += 1

    def go(self) -> None:
        plan = self.plan
        if plan.feature_alone:
            return self.go_feature_alone()
        self.start()
        parts = len(plan.actions) + 1
        for i in range(parts):
            self.traffic(plan.frames // parts)
            if i < len(plan.actions):
                self.act(plan.actions[i])
        self.finish()
        received = self.counts["split"] + self.counts["whole"] + self.counts["abandoned"]
        require(
            received >= plan.frames // parts * parts,
            "traffic",
            f"{received} frames were checked, of {plan.frames}",
        )

    def finish(self) -> None:
        hq = self.header_queue
        self.traffic(10)
        self.return_slots(everything=True)
        if self.plan.by_headerq:
            answer = self.receiver.stop_header_queue()
            require(answer == 1, "vhost-user", f"STOP of a queue of headerq: {answer}, expected 1")
        require(
            hq.status == STATUS_IN_USE, "status", f"status is {hq.status} at the end, expected 0"
        )
        self.stop_queue_of_headers()
        self.check_stopped()
        answers = self.receiver.reset_header_queue(), self.receiver.stop_header_queue()
        require(
            answers == (1, 1),
            "vhost-user",
            f"RESET and STOP without a queue: {answers}, expected 1",
        )
        self.sender.close()
        self.receiver.close()
        self.program.end()

    def clean_up(self) -> None:
        if self.program is not None:
            self.program.kill()
            self.program.log.close()
        for device in (self.receiver, self.sender):
            if device is not None:
                device.close()
        for memory in (self.memory, self.sender_memory):
            if memory is not None:
                memory.close()


PATTERN = bytes(range(256))


# ------------------------------------------------------------------------------------------


def default_program() -> Path:
    """The release build of this checkout, or the debug one if that alone exists."""
    builds = Path(__file__).resolve().parents[2] / ".build"
    release, debug = builds / "release" / "cleave-vhost", builds / "debug" / "cleave-vhost"
    return debug if debug.exists() and not release.exists() else release


def one_run(plan: Plan, program: Path, verbose: bool) -> tuple[Optional[str], collections.Counter]:
    """None, or what went wrong."""
    folder = Path(tempfile.mkdtemp(prefix="header-queue-"))
    run = Run(plan, program, folder, verbose)
    try:
        run.go()
        return None, run.counts
    except Violation as violation:
        log = run.program.text() if run.program else ""
        return f"{violation}" + (f"\n      the program said:\n{log}" if verbose else ""), run.counts
    except Exception:
        log = run.program.text()[-1500:] if run.program else ""
        return traceback.format_exc() + log, run.counts
    finally:
        run.clean_up()
        shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Random runs of the header queue's protocol against cleave-vhost."
    )
    parser.add_argument("--runs", type=int, default=100, help="how many; 100")
    parser.add_argument("--seed", type=int, default=1, help="of the first run; 1")
    parser.add_argument(
        "--program",
        type=Path,
        default=default_program(),
        help="cleave-vhost; by default %(default)s",
    )
    parser.add_argument("--verbose", action="store_true", help="each run's plan, actions and log")
    options = parser.parse_args()
    # What a run started ends with it, in its `finally`.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    program = options.program
    if options.runs < 1:
        parser.error(f"--runs {options.runs}: at least one run is needed")
    if not os.access(program, os.X_OK):
        parser.error(f"there is no program {program}: `make build` makes it, or name another one")
    if not SUPPORTED:
        print("skipped: the driver needs Linux on x86-64, for its memory order, and Python 3.10")
        return EXIT_SKIPPED
    began = time.monotonic()
    failed = []
    total = collections.Counter()
    for seed in range(options.seed, options.seed + options.runs):
        plan = draw(seed)
        if options.verbose:
            print(f"run {seed}: {plan.describe()}", flush=True)
        at = time.monotonic()
        error, counts = one_run(plan, program, options.verbose)
        total += counts
        if error:
            failed.append(seed)
            print(f"FAILED: --seed {seed} --runs 1\n    {plan.describe()}\n    {error}", flush=True)
        elif options.verbose:
            print(f"    {time.monotonic() - at:.2f} s, {dict(counts)}")
    print(
        f"{options.runs - len(failed)} of {options.runs} runs passed in"
        f" {time.monotonic() - began:.1f} s; "
        + ", ".join(f"{k} {v}" for k, v in sorted(total.items()))
    )
    if failed:
        print("failed seeds: " + " ".join(map(str, failed)))
    lacking = [
        f"{name} {total[name]} of {count}"
        for runs, counts in LEAST.items()
        if options.runs >= runs
        for name, count in counts.items()
        if total[name] < count
    ]
    if lacking:
        print("FAILED: too little was checked: " + ", ".join(lacking))
    return EXIT_FAILED if failed or lacking else EXIT_PASSED


if __name__ == "__main__":
    sys.exit(main())
