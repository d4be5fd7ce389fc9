// Reads what the device delivered, from the used ring up, and says what is wrong with it.
import RxPath
import TestSupport

/// What is wrong, in words.
struct Mismatch: Error, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
}

func check(_ holds: Bool, _ otherwise: @autoclosure () -> String) throws {
    if !holds { throw Mismatch(otherwise()) }
}

/// One packet as a driver finds it.
struct ReadPacket {
    var bytes: [UInt8]
    var slot: Int?
    var headerLength: Int
}

/// Follows one queue's used ring; accounts for every byte the device may have written.
struct NaiveReader {
    let guest: EvilGuest
    let method: RxMethod
    let netHeaderByteCount: Int
    let mergeable: Bool
    let headers: EvilHeaderQueue?
    private(set) var nextUsed: UInt16
    private(set) var tinyCount = 0
    private(set) var bufferCount = 0
    private var entries: [(used: EvilRing.Used, buffer: PostedBuffer)] = []

    init(
        _ ring: EvilRing, method: RxMethod, netHeaderByteCount: Int, mergeable: Bool,
        headers: EvilHeaderQueue?
    ) {
        guest = ring.guest
        self.method = method
        self.netHeaderByteCount = netHeaderByteCount
        self.mergeable = mergeable
        self.headers = headers
        nextUsed = ring.firstIndex
    }

    /// Takes new used entries, which must name the buffers in the order they were posted.
    mutating func pull(_ driver: inout NaiveDriver, _ image: EvilGuest.Image) throws {
        let used = driver.ring.used(since: nextUsed)
        try check(used.count <= driver.outstanding.count, "\(used.count) used entries")
        image.accept(driver.ring.usedRing + 2, 2)
        for entry in used {
            let buffer = driver.takeBack()
            try check(entry.head == buffer.head, "used \(entry.head), posted \(buffer.head)")
            try check(Int(entry.length) <= buffer.capacity, "\(entry) over \(buffer)")
            let place = 4 + 8 * (Int(nextUsed) % driver.ring.size)
            image.accept(driver.ring.usedRing + UInt64(place), 8)
            for part in Self.cut(buffer.pieces, Int(entry.length)) {
                image.accept(part.address, part.count)
            }
            entries.append((entry, buffer))
            nextUsed &+= 1
        }
        bufferCount += used.count
    }

    /// The next packet of those pulled.
    mutating func packet(_ image: EvilGuest.Image) throws -> ReadPacket {
        skipTiny()
        try check(!entries.isEmpty, "a delivered packet has no used entry")
        let first = entries[0].used
        var data = bytes(0)
        var packet = ReadPacket(bytes: [], slot: nil, headerLength: 0)
        var netHeader: [UInt8]
        if case .headerQueue(.usedElement) = method, let slot = first.slot {
            guard let headers else { throw Mismatch("a slot without a header queue") }
            try check(slot < headers.layout.slotCount, "slot \(slot)")
            netHeader = headers.slot(slot, netHeaderByteCount)
            packet.headerLength = Int(netHeader[2]) | Int(netHeader[3]) << 8
            let place = headers.slotAddress(slot)
            packet.slot = slot
            packet.bytes = guest.read(
                place + UInt64(netHeaderByteCount), packet.headerLength)
            image.accept(place, netHeaderByteCount + packet.headerLength)
        } else {
            try check(first.slot == nil, "a slot in the used entry: \(first)")
            try check(data.count >= netHeaderByteCount, "no room for a net header")
            netHeader = Array(data.prefix(netHeaderByteCount))
            data.removeFirst(netHeaderByteCount)
            if method == .headerQueue(.netHeader) {
                try readTail(&data, &packet, image)
            }
        }
        try checkNetHeader(netHeader, packet.headerLength)
        packet.bytes += try body(data, Int(netHeader[10]) | Int(netHeader[11]) << 8)
        return packet
    }

    private func readTail(
        _ data: inout [UInt8], _ packet: inout ReadPacket, _ image: EvilGuest.Image
    ) throws {
        try check(data.count >= 8, "no room for a split tail")
        let tail = data.prefix(8).map { Int($0) }
        data.removeFirst(8)
        if tail[6] == 0 {
            try check(tail.allSatisfy { $0 == 0 }, "tail of an unsplit packet: \(tail)")
            return
        }
        guard let headers else { throw Mismatch("a slot without a header queue") }
        let slot = tail[0] | tail[1] << 8 | tail[2] << 16 | tail[3] << 24
        try check(slot < headers.layout.slotCount && tail[6] == 1 && tail[7] == 0, "\(tail)")
        packet.slot = slot
        packet.headerLength = tail[4] | tail[5] << 8
        packet.bytes = headers.slot(slot, packet.headerLength)
        image.accept(headers.slotAddress(slot), packet.headerLength)
    }

    private func checkNetHeader(_ header: [UInt8], _ headerLength: Int) throws {
        var rest = header
        let length = Int(header[2]) | Int(header[3]) << 8
        try check(length == headerLength, "hdr_len \(length), split at \(headerLength)")
        for index in [2, 3, 10, 11] { rest[index] = 0 }
        try check(rest.allSatisfy { $0 == 0 }, "net header \(header)")
    }

    /// `data` and the further buffers of the packet.
    private mutating func body(_ data: [UInt8], _ count: Int) throws -> [UInt8] {
        try check(count >= 1 && count <= entries.count, "num_buffers \(count)")
        try check(mergeable || count == 1, "num_buffers \(count) without the feature")
        var bytes = data
        for index in 0..<count {
            let entry = entries[index]
            if index + 1 < count {
                try check(Int(entry.used.length) == entry.buffer.capacity, "not full: \(entry)")
            }
            if index > 0 {
                try check(entry.used.slot == nil, "a slot in a further entry")
                bytes += self.bytes(index)
            }
        }
        if count > 1 { try check(entries[count - 1].used.length > 0, "an empty last buffer") }
        entries.removeFirst(count)
        return bytes
    }

    /// After the last packet nothing is left but buffers that were of no use.
    mutating func finish() throws {
        skipTiny()
        try check(entries.isEmpty, "\(entries.count) used entries of no packet")
    }

    private mutating func skipTiny() {
        while let entry = entries.first, entry.used.length == 0, entry.used.slot == nil {
            tinyCount += 1
            entries.removeFirst()
        }
    }

    private func bytes(_ index: Int) -> [UInt8] {
        Self.cut(entries[index].buffer.pieces, Int(entries[index].used.length))
            .flatMap { guest.read($0.address, $0.count) }
    }

    /// The first `count` bytes of `pieces`.
    private static func cut(
        _ pieces: [(address: UInt64, count: Int)], _ count: Int
    ) -> [(address: UInt64, count: Int)] {
        var left = count
        return pieces.map { piece in
            let part = min(left, piece.count)
            left -= part
            return (piece.address, part)
        }
    }
}
