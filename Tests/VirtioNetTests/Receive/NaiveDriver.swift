// The driver's side of a receive queue in the simplest form: arrays, bytes, no shared code.
import CleaveTestSupport
import CleaveVirtioNet

/// One posted buffer: its name, and its writable pieces in order.
struct PostedBuffer {
    var id: Int
    /// Its descriptors in a split ring's table; in a packed ring, how many there are.
    var descriptors: [Int]
    /// Position where a packed ring's list begins.
    var place = 0
    var pieces: [(address: UInt64, count: Int)]
    var capacity: Int { pieces.reduce(0) { $0 + $1.count } }
}

/// A ring of either format.
enum EvilQueue {
    case split(EvilRing)
    case packed(PackedEvilRing)

    var addresses: VirtqueueAddresses {
        switch self {
        case .split(let ring): ring.addresses
        case .packed(let ring): ring.addresses
        }
    }

    var size: Int { addresses.size }
}

/// Posts buffers of random layout, at random places that do not overlap, and remembers them.
struct NaiveDriver {
    private(set) var queue: EvilQueue
    private let guest: EvilGuest
    let allowsIndirect: Bool
    let isInOrder: Bool
    /// Used buffers that had no entry of their own.
    private(set) var batchedCount = 0
    /// Typical bytes of the pieces of one buffer.
    let lengths: (inout SeededRandom) -> [Int]
    /// Range that buffers and indirect tables are allocated from; adjacent regions may meet inside
    /// it.
    let data: Range<UInt64>

    private(set) var outstanding: [PostedBuffer] = []
    /// Numbers of a split ring's descriptors, or a packed ring's ids.
    private var free: [Int]
    /// Descriptors of a packed ring that may be posted.
    private var room: Int
    private var cursor: UInt64

    init(
        _ queue: EvilQueue, _ guest: EvilGuest, allowsIndirect: Bool, isInOrder: Bool,
        data: Range<UInt64>, lengths: @escaping (inout SeededRandom) -> [Int]
    ) {
        self.queue = queue
        self.guest = guest
        self.allowsIndirect = allowsIndirect
        self.isInOrder = isInOrder
        self.lengths = lengths
        self.data = data
        free = Array(0..<queue.size)
        room = queue.size
        cursor = data.lowerBound
    }

    /// Posts up to `count` buffers while descriptors and memory last.
    mutating func post(_ count: Int, _ random: inout SeededRandom) {
        if outstanding.isEmpty {
            cursor = data.lowerBound
            free.shuffle(using: &random)
        }
        for _ in 0..<count {
            let lengths = lengths(&random)
            let need = lengths.reduce(0, +) + 64 * (lengths.count + 2) + 16 * lengths.count
            if cursor + UInt64(need) > data.upperBound || free.isEmpty || room == 0 { return }
            let pieces = lengths.map { length in
                (address: allocate(length, &random), count: length)
            }
            let direct = directCount(pieces.count, &random)
            // A table never has more entries than the ring.
            guard pieces.count - direct <= queue.size,
                let buffer = write(pieces, direct, &random)
            else { return }
            outstanding.append(buffer)
        }
    }

    private mutating func allocate(_ count: Int, _ random: inout SeededRandom) -> UInt64 {
        cursor += UInt64(random.int(0...60))
        defer { cursor += UInt64(count) }
        return cursor
    }

    /// How many pieces have a descriptor in the ring, the others being in a table.
    private func directCount(_ count: Int, _ random: inout SeededRandom) -> Int {
        guard allowsIndirect && random.chance(40) else { return count }
        if case .packed = queue { return 0 }
        return random.chance(70) ? 0 : random.int(0...count - 1)
    }

    private mutating func write(
        _ pieces: [(address: UInt64, count: Int)], _ direct: Int, _ random: inout SeededRandom
    ) -> PostedBuffer? {
        let rest = Array(pieces[direct...])
        let needed = direct + (rest.isEmpty ? 0 : 1)
        switch queue {
        case .split(var ring):
            guard free.count >= needed else { return nil }
            let descriptors = Array(free.suffix(needed))
            free.removeLast(needed)
            link(descriptors, holding: pieces, then: rest, in: ring, &random)
            ring.post(descriptors[0])
            queue = .split(ring)
            return PostedBuffer(id: descriptors[0], descriptors: descriptors, pieces: pieces)
        case .packed(var ring):
            guard room >= needed else { return nil }
            room -= needed
            let id = free.removeLast()
            let place = ring.posted
            if rest.isEmpty {
                ring.post(pieces.map { PostedPiece($0.address, $0.count) }, id: id)
            } else {
                ring.postTable(packedTable(rest, &random), 16 * rest.count, id: id)
            }
            queue = .packed(ring)
            return PostedBuffer(
                id: id, descriptors: Array(0..<needed), place: place, pieces: pieces)
        }
    }

    /// Describes the pieces by a chain, an indirect table, or a chain that ends in one.
    private mutating func link(
        _ descriptors: [Int], holding pieces: [(address: UInt64, count: Int)],
        then rest: [(address: UInt64, count: Int)], in ring: EvilRing, _ random: inout SeededRandom
    ) {
        let direct = pieces.count - rest.count
        for (position, index) in descriptors.enumerated() {
            let isLast = position == descriptors.count - 1
            if position < direct {
                ring.describe(
                    index, pieces[position].address, pieces[position].count,
                    flags: DescriptorFlags.write | (isLast ? 0 : DescriptorFlags.next),
                    next: isLast ? random.int(0...65535) : descriptors[position + 1])
            } else {
                let table = splitTable(rest, ring, &random)
                // WRITE on the reference is ignored (B14).
                let flags = random.chance(50) ? DescriptorFlags.write : 0
                ring.describe(
                    index, table, 16 * rest.count, flags: flags | DescriptorFlags.indirect)
            }
        }
    }

    /// A table at any address whose entries are linked in random order, the first one first.
    private mutating func splitTable(
        _ pieces: [(address: UInt64, count: Int)], _ ring: EvilRing,
        _ random: inout SeededRandom
    ) -> UInt64 {
        let table = allocate(16 * pieces.count, &random)
        let order = [0] + Array(1..<pieces.count).shuffled(using: &random)
        for (position, index) in order.enumerated() {
            let isLast = position == order.count - 1
            ring.describe(
                at: table + UInt64(16 * index), pieces[position].address, pieces[position].count,
                DescriptorFlags.write | (isLast ? 0 : DescriptorFlags.next),
                isLast ? 0 : order[position + 1])
        }
        return table
    }

    /// A table that is used from end to end, whatever its ids and flags but WRITE say.
    private mutating func packedTable(
        _ pieces: [(address: UInt64, count: Int)], _ random: inout SeededRandom
    ) -> UInt64 {
        let table = allocate(16 * pieces.count, &random)
        for (index, piece) in pieces.enumerated() {
            let place = table + UInt64(16 * index)
            guest.put(piece.address, at: place)
            guest.put(UInt32(piece.count), at: place + 8)
            guest.put(UInt16(random.int(0...65535)), at: place + 12)
            guest.put(
                UInt16(random.int(0...65535)) | DescriptorFlags.write, at: place + 14)
        }
        return table
    }

    /// The buffers that the device has used since the last call, each with the buffer posted
    /// longest ago; the bytes that the device may have written into the ring for it are accepted in
    /// `image`.
    mutating func takeUsed(
        since count: Int, _ image: EvilGuest.Image
    ) throws -> [(used: UsedReport, buffer: PostedBuffer)] {
        var found: [(used: UsedReport, buffer: PostedBuffer)] = []
        switch queue {
        case .split(let ring):
            let first = ring.firstIndex &+ UInt16(truncatingIfNeeded: count)
            let entries = ring.used(since: first)
            try check(entries.count <= outstanding.count, "\(entries.count) used entries")
            image.accept(ring.usedRing + 2, 2)
            for offset in entries.indices {
                let index = Int(first &+ UInt16(truncatingIfNeeded: offset)) % ring.size
                image.accept(ring.usedRing + 4 + UInt64(8 * index), 8)
            }
            while found.count < entries.count {
                let entry = entries[found.count]
                let report = UsedReport(
                    id: entry.head, length: entry.byteCount, slot: entry.slot)
                found += try takeBatch(report)
            }
            try check(found.count == entries.count, "a batch passes used.idx")
        case .packed(let ring):
            while let buffer = outstanding.first, let used = ring.used(buffer.place) {
                let batch = try takeBatch(
                    UsedReport(id: used.id, length: used.byteCount, slot: used.slot))
                // One WRITE flag for a batch says that some buffer of it was written, or that the
                // length names a slot: without the flag it would mean nothing.
                let isWritten = batch.contains { $0.used.length > 0 } || used.length > 0
                try check(
                    used.hasWrite ? isWritten : used.length == 0, "WRITE of \(used)")
                found += batch
            }
            for (_, buffer) in found {
                image.accept(ring.descriptorRing + UInt64(buffer.place % ring.size * 16), 16)
            }
            for buffer in outstanding {
                try check(ring.used(buffer.place) == nil, "used out of order: \(buffer)")
            }
        }
        return found
    }

    /// The buffers that one used entry reports: with IN_ORDER all up to the one it names, which are
    /// full but for that; otherwise one.
    private mutating func takeBatch(
        _ report: UsedReport
    ) throws -> [(used: UsedReport, buffer: PostedBuffer)] {
        let last = isInOrder ? outstanding.firstIndex { $0.id == report.id } ?? 0 : 0
        if last > 0 { batchedCount += last }
        return (0...last).map { number in
            let buffer = takeBack()
            return (
                UsedReport(
                    id: number == last ? report.id : buffer.id,
                    length: number == last ? report.length : buffer.capacity,
                    slot: number == 0 ? report.slot : nil), buffer
            )
        }
    }

    private mutating func takeBack() -> PostedBuffer {
        let buffer = outstanding.removeFirst()
        switch queue {
        case .split: free.append(contentsOf: buffer.descriptors)
        case .packed:
            free.append(buffer.id)
            room += buffer.descriptors.count
        }
        return buffer
    }
}
