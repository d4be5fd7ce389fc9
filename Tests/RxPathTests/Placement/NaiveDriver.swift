// The driver's side of a receive queue in the plainest terms: arrays, bytes, no shared code.
import RxPath
import TestSupport

/// One posted buffer: its head, its descriptors in the ring's table, its writable pieces in order.
struct PostedBuffer {
    var head: Int
    var descriptors: [Int]
    var pieces: [(address: UInt64, count: Int)]
    var capacity: Int { pieces.reduce(0) { $0 + $1.count } }
}

/// Posts buffers of random layout, at random places that do not overlap, and remembers them.
struct NaiveDriver {
    var ring: EvilRing
    let allowsIndirect: Bool
    let mergeable: Bool
    /// Where buffers and indirect tables are cut from; adjacent regions may meet inside it.
    let data: Range<UInt64>

    private(set) var outstanding: [PostedBuffer] = []
    private var freeDescriptors: [Int]
    private var cursor: UInt64

    init(_ ring: EvilRing, allowsIndirect: Bool, mergeable: Bool, data: Range<UInt64>) {
        self.ring = ring
        self.allowsIndirect = allowsIndirect
        self.mergeable = mergeable
        self.data = data
        freeDescriptors = Array(0..<ring.size)
        cursor = data.lowerBound
    }

    /// Posts up to `count` buffers while descriptors and memory last.
    mutating func post(_ count: Int, _ random: inout SeededRandom) {
        if outstanding.isEmpty {
            cursor = data.lowerBound
            freeDescriptors.shuffle(using: &random)
        }
        for _ in 0..<count {
            let lengths = pieceLengths(&random)
            let room = lengths.reduce(0, +) + 64 * (lengths.count + 2) + 16 * lengths.count
            if cursor + UInt64(room) > data.upperBound || freeDescriptors.isEmpty { return }
            let pieces = lengths.map { length in
                (address: allocate(length, &random), count: length)
            }
            guard let buffer = write(pieces, &random) else { return }
            outstanding.append(buffer)
            ring.post(buffer.head)
        }
    }

    private mutating func allocate(_ count: Int, _ random: inout SeededRandom) -> UInt64 {
        cursor += UInt64(random.int(0...60))
        defer { cursor += UInt64(count) }
        return cursor
    }

    private func pieceLengths(_ random: inout SeededRandom) -> [Int] {
        let count = random.chance(50) ? 1 : random.int(1...5)
        return (0..<count).map { _ in
            switch random.int(0...19) {
            case 0: 0
            case 1: random.int(1...40)
            case 2...8: random.int(12...300)
            case 9...16: random.int(300...2200)
            default: mergeable ? random.int(2000...4096) : 9200
            }
        }
    }

    /// Describes the pieces by a chain, an indirect table, or a chain that ends in one.
    private mutating func write(
        _ pieces: [(address: UInt64, count: Int)], _ random: inout SeededRandom
    ) -> PostedBuffer? {
        var direct = pieces.count
        if allowsIndirect && random.chance(40) {
            direct = random.chance(70) ? 0 : random.int(0...pieces.count - 1)
        }
        let rest = pieces.dropFirst(direct)
        let needed = direct + (rest.isEmpty ? 0 : 1)
        // A table never has more entries than the ring.
        guard freeDescriptors.count >= needed, rest.count <= ring.size else { return nil }
        let descriptors = Array(freeDescriptors.suffix(needed))
        freeDescriptors.removeLast(needed)
        for (position, index) in descriptors.enumerated() {
            let isLast = position == needed - 1
            if position < direct {
                ring.describe(
                    index, pieces[position].address, pieces[position].count,
                    flags: DescriptorFlags.write | (isLast ? 0 : DescriptorFlags.next),
                    next: isLast ? random.int(0...65535) : descriptors[position + 1])
            } else {
                let table = writeTable(Array(rest), &random)
                // WRITE on the reference is ignored (B14).
                let flags = random.chance(50) ? DescriptorFlags.write : 0
                ring.describe(
                    index, table, 16 * rest.count, flags: flags | DescriptorFlags.indirect)
            }
        }
        return PostedBuffer(head: descriptors[0], descriptors: descriptors, pieces: pieces)
    }

    /// A table at any address whose entries are linked in random order, the first one first.
    private mutating func writeTable(
        _ pieces: [(address: UInt64, count: Int)], _ random: inout SeededRandom
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

    /// Takes back the buffer posted longest ago.
    mutating func takeBack() -> PostedBuffer {
        let buffer = outstanding.removeFirst()
        freeDescriptors.append(contentsOf: buffer.descriptors)
        return buffer
    }
}
