// Reads the packets that the device delivered, from the used ring up, and says what is wrong with
// them.
import CleaveTestSupport
import CleaveVirtioNet

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
    var bytes: [UInt8] = []
    /// The bytes in memory.
    var netHeader: [UInt8] = []
    var slot: Int?
    /// Headers that lie apart; 0 = not split.
    var headerLength = 0
    var hdrLen = 0
    /// Used lengths of its buffers.
    var lengths: [Int] = []
    /// Some buffers before the last are not full, which only B and C may do.
    var isRelaxed = false
}

/// The driver's knowledge of the queue that it reads.
struct ReaderLayout {
    let method: RxMethod
    let netHeaderByteCount: Int
    let mergeable: Bool
    let headers: EvilHeaderQueue?
    /// Slots are zeroed after the headers, up to the next multiple of 64.
    let zeroPads: Bool

    /// Net header, with the split report if the method has one.
    var prefixByteCount: Int {
        method == .whole || method.namesSlotsInUsedEntries
            ? netHeaderByteCount : netHeaderByteCount + 8
    }
}

/// Follows one queue's used ring; accounts for every byte the device may have written.
struct NaiveReader {
    let guest: EvilGuest
    let layout: ReaderLayout
    private(set) var tinyCount = 0
    private(set) var bufferCount = 0
    private var entries: [(used: UsedReport, buffer: PostedBuffer)] = []

    init(_ guest: EvilGuest, _ layout: ReaderLayout) {
        self.guest = guest
        self.layout = layout
    }

    /// Used entries pulled and not yet read.
    var lengths: [Int] { entries.map(\.used.length) }

    /// Takes new used entries, which must name the buffers in the order they were posted.
    mutating func pull(_ driver: inout NaiveDriver, _ image: EvilGuest.Image) throws {
        let found = try driver.takeUsed(since: bufferCount, image)
        for (used, buffer) in found {
            try check(used.id == buffer.id, "used \(used.id), posted \(buffer.id)")
            try check(used.length <= buffer.capacity, "\(used) over \(buffer)")
        }
        entries += found
        bufferCount += found.count
    }

    /// The next packet of those pulled.
    mutating func packet(_ image: EvilGuest.Image) throws -> ReadPacket {
        skipTiny()
        try check(!entries.isEmpty, "a delivered packet has no used entry")
        let first = entries[0]
        var packet = ReadPacket()
        var data = Self.cut(first.buffer.pieces, first.used.length)
        if layout.method.namesSlotsInUsedEntries, let slot = first.used.slot {
            try readSlot(slot, &packet, image)
        } else {
            try check(first.used.slot == nil, "a slot in the used entry: \(first.used)")
            try check(first.used.length >= layout.prefixByteCount, "no room for what leads")
            try readPrefix(first.buffer, &packet, image)
            if packet.headerLength > 0 && packet.slot == nil {
                data = try cutLead(first, packet.headerLength)
            }
            data = Self.drop(data, layout.prefixByteCount, image)
        }
        for part in data { image.accept(part.address, part.count) }
        packet.bytes += data.flatMap { guest.read($0.address, $0.count) }
        try readFurther(&packet, image)
        return packet
    }

    /// Net header and packet headers in a slot.
    private func readSlot(
        _ slot: Int, _ packet: inout ReadPacket, _ image: EvilGuest.Image
    ) throws {
        guard let headers = layout.headers else { throw Mismatch("a slot without a queue") }
        try check(slot < headers.layout.slotCount, "slot \(slot)")
        packet.slot = slot
        packet.netHeader = headers.slot(slot, layout.netHeaderByteCount)
        packet.hdrLen = Int(packet.netHeader[2]) | Int(packet.netHeader[3]) << 8
        packet.headerLength = packet.hdrLen
        packet.bytes = try takeSlot(
            slot, front: layout.netHeaderByteCount, count: packet.headerLength, image)
    }

    /// Net header, and split report if there is one, from the start of a buffer.
    private func readPrefix(
        _ buffer: PostedBuffer, _ packet: inout ReadPacket, _ image: EvilGuest.Image
    ) throws {
        let prefix = Self.cut(buffer.pieces, layout.prefixByteCount)
            .flatMap { guest.read($0.address, $0.count) }
        packet.netHeader = Array(prefix.prefix(layout.netHeaderByteCount))
        packet.hdrLen = Int(packet.netHeader[2]) | Int(packet.netHeader[3]) << 8
        let tail = prefix.dropFirst(layout.netHeaderByteCount).map { Int($0) }
        if tail.isEmpty || tail[6] == 0 {
            try check(tail.allSatisfy { $0 == 0 }, "tail of an unsplit packet: \(tail)")
            return
        }
        let slot = tail[0] | tail[1] << 8 | tail[2] << 16 | tail[3] << 24
        packet.headerLength = tail[4] | tail[5] << 8
        try check(tail[6] == 1 && tail[7] == 0 && packet.headerLength > 0, "\(tail)")
        try check(packet.hdrLen == packet.headerLength, "hdr_len \(packet.hdrLen), \(tail)")
        guard case .headerQueue = layout.method, let headers = layout.headers else {
            try check(slot == 0, "a slot without a queue: \(tail)")
            return
        }
        try check(slot < headers.layout.slotCount, "\(tail)")
        packet.slot = slot
        packet.bytes = try takeSlot(slot, front: 0, count: packet.headerLength, image)
    }

    private func takeSlot(
        _ slot: Int, front: Int, count: Int, _ image: EvilGuest.Image
    ) throws -> [UInt8] {
        guard let headers = layout.headers else { return [] }
        let used = front + count
        try check(used <= headers.layout.slotSize, "\(used) bytes in a slot")
        let padded = layout.zeroPads ? (used + 63) / 64 * 64 : used
        let bytes = headers.slot(slot, padded)
        try check(bytes[used...].allSatisfy { $0 == 0 }, "padding of slot \(slot)")
        image.accept(headers.slotAddress(slot), padded)
        return Array(bytes[front..<used])
    }

    /// The written bytes of a buffer that begins with headers: up to the border, and after it.
    private func cutLead(
        _ entry: (used: UsedReport, buffer: PostedBuffer), _ headerLength: Int
    ) throws -> [(address: UInt64, count: Int)] {
        let lead = layout.prefixByteCount + headerLength
        guard layout.method == .headerDescriptor else {
            try check(entry.used.length == lead, "\(entry.used) leads with \(lead) bytes")
            return Self.cut(entry.buffer.pieces, lead)
        }
        let pieces = entry.buffer.pieces.filter { $0.count > 0 }
        try check(pieces[0].count >= lead, "headers pass the first descriptor: \(entry)")
        return [(pieces[0].address, lead)]
            + Self.cut(Array(pieces.dropFirst()), entry.used.length - lead)
    }

    /// The further buffers of the packet, by `num_buffers`.
    private mutating func readFurther(
        _ packet: inout ReadPacket, _ image: EvilGuest.Image
    ) throws {
        let count = Int(packet.netHeader[10]) | Int(packet.netHeader[11]) << 8
        try check(count >= 1 && count <= entries.count, "num_buffers \(count)")
        try check(layout.mergeable || count == 1, "num_buffers \(count) without the feature")
        for (index, entry) in entries.prefix(count).enumerated() {
            packet.lengths.append(entry.used.length)
            if index + 1 < count && entry.used.length != entry.buffer.capacity {
                packet.isRelaxed = true
            }
            if index == 0 { continue }
            try check(entry.used.slot == nil, "a slot in a further entry")
            for part in Self.cut(entry.buffer.pieces, entry.used.length) {
                image.accept(part.address, part.count)
                packet.bytes += guest.read(part.address, part.count)
            }
        }
        try check(count == 1 || entries[count - 1].used.length > 0, "an empty last buffer")
        entries.removeFirst(count)
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

    /// `pieces` without their first `count` bytes, which the device may have written too.
    private static func drop(
        _ pieces: [(address: UInt64, count: Int)], _ count: Int, _ image: EvilGuest.Image
    ) -> [(address: UInt64, count: Int)] {
        var left = count
        return pieces.map { piece in
            let part = min(left, piece.count)
            left -= part
            image.accept(piece.address, part)
            return (piece.address + UInt64(part), piece.count - part)
        }
    }
}
