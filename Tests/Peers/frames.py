#!/usr/bin/env python3
"""Frames for the tests with real peers: makes captures, and compares what came out of them.

  frames.py make FILE COUNT SEED FIRST-LAST SOURCE DESTINATION LARGEST
      COUNT frames from one MAC address to another, 60 to LARGEST bytes, of the flows FIRST-LAST:
      IPv4 and IPv6, TCP and UDP, with and without VLAN tags, ARP, and bytes that no one can parse.
  frames.py compare ordered|flows SENT... -- RECEIVED...
      ordered: byte for byte, in order. flows: every frame once, in order within its flow; the
      captures of several queues are taken together.

Exit status 0 if they agree; 1 and one line that says where not. No modules beyond the library.
"""
import random
import struct
import sys

MARK = b"CLVE"


def checksum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def transport(rng, protocol, flow, payload, pseudo):
    """A TCP or UDP header with the ports of the flow and a checksum that holds."""
    ports = struct.pack("!HH", 10000 + flow, 20000 + flow)
    if protocol == 6:
        options = bytes([1, 1, 8, 10]) + rng.randbytes(8) if rng.random() < 0.5 else b""
        words = (20 + len(options)) // 4
        head = ports + rng.randbytes(8) + struct.pack("!BBHHH", words << 4, 0x18, 8192, 0, 0)
        head += options
        at = 16
    else:
        head = ports + struct.pack("!HH", 8 + len(payload), 0)
        at = 6
    length = len(head) + len(payload)
    value = checksum(pseudo(length, protocol) + head + payload)
    if protocol == 17 and value == 0:
        value = 0xFFFF
    return head[:at] + struct.pack("!H", value) + head[at + 2 :] + payload


def ipv4(rng, protocol, flow, room):
    source, target = bytes([10, 1, 0, flow + 1]), bytes([10, 2, 0, flow + 1])
    top = 20 if protocol == 6 else 8
    extra = 12 if protocol == 6 else 0
    payload = room(20 + top + extra)
    body = transport(
        rng, protocol, flow, payload,
        lambda length, number: source + target + struct.pack("!BBH", 0, number, length))
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), rng.getrandbits(16), 0x4000, 64,
                       protocol, 0) + source + target
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + body


def ipv6(rng, protocol, flow, room):
    source = bytes.fromhex("fd00" + "00" * 13) + bytes([flow + 1])
    target = bytes.fromhex("fd01" + "00" * 13) + bytes([flow + 1])
    top = 20 if protocol == 6 else 8
    extra = 12 if protocol == 6 else 0
    payload = room(40 + top + extra)
    body = transport(
        rng, protocol, flow, payload,
        lambda length, number: source + target + struct.pack("!IxxxB", length, number))
    return struct.pack("!IHBB", 6 << 28, len(body), protocol, 64) + source + target + body


def frame(rng, index, flow, source, target, largest):
    """One frame. Its flow and its place in it are in the last 12 bytes, behind the mark."""
    sizes = [60, 61, 63, 64, 65, 127, 128, 129, 511, 512, 513, 1024, 1499, 1500, 1513, largest]
    size = rng.choice(sizes) if rng.random() < 0.6 else rng.randint(60, largest)
    size = min(size, largest)
    tag = b""
    if rng.random() < 0.25:
        tag = struct.pack("!HH", 0x8100, rng.randint(1, 4094))
        if rng.random() < 0.2:
            tag = struct.pack("!HH", 0x88A8, rng.randint(1, 4094)) + tag
    front = target + source + tag
    end = MARK + struct.pack("!II", flow, index)

    def room(headers):
        # A small frame gets as much payload as the end needs, and so is longer than was drawn.
        length = max(size - len(front) - 2 - headers, len(end))
        return rng.randbytes(length - len(end)) + end

    kind = rng.random()
    if kind < 0.35:
        return front + b"\x08\x00" + ipv4(rng, rng.choice((6, 17)), flow, room)
    if kind < 0.7:
        return front + b"\x86\xdd" + ipv6(rng, rng.choice((6, 17)), flow, room)
    if kind < 0.8:
        return front + b"\x08\x06" + struct.pack("!HHBBH", 1, 0x0800, 6, 4, 2) + room(8)
    if kind < 0.9:
        # The experimental type of IEEE 802: no headers that anyone knows.
        return front + b"\x88\xb5" + room(0)
    # IPv4 that lies about its length, as a switch has to pass it all the same.
    return front + b"\x08\x00" + b"\x4f\x00\xff\xff" + room(4)


def write_capture(path, frames):
    with open(path, "wb") as out:
        out.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
        for index, data in enumerate(frames):
            out.write(struct.pack("<IIII", index // 1000, index % 1000, len(data), len(data)))
            out.write(data)


def read_capture(path):
    with open(path, "rb") as source:
        data = source.read()
    if len(data) < 24:
        raise SystemExit("%s: no capture (%d bytes)" % (path, len(data)))
    magic = struct.unpack_from("<I", data)[0]
    if magic not in (0xA1B2C3D4, 0xA1B23C4D):
        raise SystemExit("%s: no capture of this byte order" % path)
    frames, at = [], 24
    while at < len(data):
        if at + 16 > len(data):
            raise SystemExit("%s: ends within a record" % path)
        length, whole = struct.unpack_from("<II", data, at + 8)
        at += 16
        if length != whole or at + length > len(data):
            raise SystemExit("%s: record %d is cut" % (path, len(frames)))
        frames.append(data[at : at + length])
        at += length
    return frames


def make(path, count, seed, flows, source, target, largest):
    rng = random.Random(int(seed))
    source = bytes.fromhex(source.replace(":", ""))
    target = bytes.fromhex(target.replace(":", ""))
    first, last = map(int, flows.split("-"))
    frames, places = [], [0] * (last + 1)
    for _ in range(int(count)):
        flow = rng.randint(first, last)
        frames.append(frame(rng, places[flow], flow, source, target, int(largest)))
        places[flow] += 1
    write_capture(path, frames)


def difference(sent, received):
    if sent == received:
        return None
    if len(sent) != len(received):
        return "%d bytes sent, %d received" % (len(sent), len(received))
    at = next(i for i in range(len(sent)) if sent[i] != received[i])
    return "byte %d of %d is %02x, was %02x" % (at, len(sent), received[at], sent[at])


def identity(data):
    """The flow and the place in it, or nothing for a frame that is not ours."""
    if data[-12:-8] != MARK:
        return None
    return struct.unpack("!II", data[-8:])


def compare_ordered(sent, received):
    for index, (first, second) in enumerate(zip(sent, received)):
        what = difference(first, second)
        if what:
            return "frame %d: %s (sent as %s, came as %s)" % (
                index, what, identity(first), identity(second))
    if len(sent) != len(received):
        return "%d frames sent, %d received" % (len(sent), len(received))
    return None


def compare_flows(sent, queues):
    wanted = {}
    for data in sent:
        wanted[identity(data)] = data
    seen = set()
    for queue, received in enumerate(queues):
        last = {}
        for index, data in enumerate(received):
            name = identity(data)
            if name not in wanted:
                return "queue %d, frame %d: nobody sent it" % (queue, index)
            if name in seen:
                return "flow %d, frame %d came twice" % name
            seen.add(name)
            what = difference(wanted[name], data)
            if what:
                return "flow %d, frame %d: %s" % (name + (what,))
            flow, place = name
            if flow in last and place < last[flow]:
                return "queue %d, flow %d: frame %d after frame %d" % (
                    queue, flow, place, last[flow])
            last[flow] = place
    if len(seen) != len(wanted):
        return "%d frames sent, %d received" % (len(wanted), len(seen))
    return None


def compare(mode, names):
    middle = names.index("--")
    sent = [read_capture(name) for name in names[:middle]]
    received = [read_capture(name) for name in names[middle + 1 :]]
    if not any(sent):
        raise SystemExit("nothing was sent")
    if mode == "ordered":
        what = compare_ordered(sum(sent, []), sum(received, []))
    else:
        what = compare_flows(sum(sent, []), received)
    if what:
        raise SystemExit(what)
    print("%d frames, %d bytes" % (
        sum(map(len, sent)), sum(len(data) for file in sent for data in file)))


def main():
    arguments = sys.argv[1:]
    if len(arguments) == 8 and arguments[0] == "make":
        make(*arguments[1:])
    elif len(arguments) > 3 and arguments[0] == "compare" and "--" in arguments:
        if arguments[1] not in ("ordered", "flows"):
            raise SystemExit("compare: ordered or flows, not " + arguments[1])
        compare(arguments[1], arguments[2:])
    else:
        print(__doc__, file=sys.stderr)
        raise SystemExit(2)


main()
