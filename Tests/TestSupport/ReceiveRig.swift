// Operations on an RQ and its evil ring that do not depend on the ring's format.
import CleaveVirtioNet

/// One piece of a buffer as it is posted; everything may be anything.
public struct PostedPiece: Sendable {
    public var address: UInt64
    public var length: Int
    /// Without NEXT, which posting adds.
    public var flags: UInt16

    public init(_ address: UInt64, _ length: Int, flags: UInt16 = DescriptorFlags.write) {
        self.address = address
        self.length = length
        self.flags = flags
    }
}

/// One used buffer as the device reported it.
public struct UsedReport: Equatable, Sendable {
    public var id: Int
    public var length: Int
    public var slot: Int?

    public init(id: Int, length: Int, slot: Int? = nil) {
        self.id = id
        self.length = length
        self.slot = slot
    }
}

/// One RQ over one evil ring, laid out as `EvilRig` says.
public protocol ReceiveRig: AnyObject {
    var guest: EvilGuest { get }
    var headers: EvilHeaderQueue? { get }
    var headerQueue: HeaderQueue? { get }
    var queue: RxQueue { get }
    var port: MockPort { get }

    /// Posts a buffer of several descriptors, named `id`; a split ring uses descriptors `id`,
    /// `id + 1`...
    func post(_ pieces: [PostedPiece], id: Int)

    /// Posts a buffer named `id` that is a reference to an indirect table.
    func postTable(_ table: UInt64, length: Int, flags: UInt16, id: Int)

    /// Writes entry `index` of an indirect table at `table`.
    func describeEntry(
        _ index: Int, of table: UInt64, _ address: UInt64, _ length: Int, flags: UInt16, next: Int)

    /// Guest address of descriptor number `index`: by which a split ring's heads and links name
    /// it, or where it lies in a packed ring.
    func descriptorAddress(_ index: Int) -> UInt64

    /// The used buffers, in order: those of at most one lap of the ring.
    var reports: [UsedReport] { get }
    /// Buffers that were ever used.
    var usedTotal: Int { get }
    /// The bytes of the ring that the device writes when it publishes `count` more used entries.
    func acceptUsed(_ count: Int, in image: EvilGuest.Image)
}

extension ReceiveRig {
    /// Posts buffer `id` as one descriptor in page `id` (modulo 32).
    public func post(_ id: Int, byteCount: Int = 4096) {
        post([PostedPiece(EvilRig.page(id % 32), byteCount)], id: id)
    }

    /// Writes a table whose entries are linked in order, from the first to the last.
    public func describeTable(_ table: UInt64, _ pieces: [PostedPiece]) {
        for (index, piece) in pieces.enumerated() {
            let isLast = index == pieces.count - 1
            describeEntry(
                index, of: table, piece.address, piece.length,
                flags: piece.flags | (isLast ? 0 : DescriptorFlags.next),
                next: isLast ? 0 : index + 1)
        }
    }

    public func postTable(_ table: UInt64, length: Int, id: Int = 0) {
        postTable(table, length: length, flags: DescriptorFlags.indirect, id: id)
    }

    /// Offers packets of one segment each.
    @discardableResult
    public func enqueue(_ packets: [[UInt8]]) -> MockPort.Outcome {
        port.enqueue(packets, to: queue)
    }
}

extension RingFormat {
    /// A rig over a ring of this format.
    /// - Parameters:
    ///   - start: where the ring begins: a split ring's index, a packed ring's place.
    ///   - slots: size and count of header slots; nil for no header queue.
    public func rig(
        size: Int = 8, features: VirtioFeatures = [.mergeableBuffers], method: RxMethod = .whole,
        slots: (size: Int, count: Int)? = nil, burst: Int = 32, shortage: BufferShortage = .wait,
        start: Int = 0, guest: EvilGuest? = nil, arenas: ArenaSupply? = nil
    ) throws -> any ReceiveRig {
        switch self {
        case .split:
            try EvilRig(
                size: size, features: features, method: method, slots: slots, burst: burst,
                shortage: shortage, firstIndex: UInt16(truncatingIfNeeded: start), guest: guest,
                arenas: arenas)
        case .packed:
            try PackedRig(
                size: size, features: features, method: method, slots: slots, burst: burst,
                shortage: shortage, start: start, guest: guest, arenas: arenas)
        }
    }
}

extension EvilRig: ReceiveRig {
    public func post(_ pieces: [PostedPiece], id: Int) {
        for (index, piece) in pieces.enumerated() {
            let isLast = index == pieces.count - 1
            ring.describe(
                id + index, piece.address, piece.length,
                flags: piece.flags | (isLast ? 0 : DescriptorFlags.next), next: id + index + 1)
        }
        ring.post(id)
    }

    public func postTable(_ table: UInt64, length: Int, flags: UInt16, id: Int) {
        ring.describe(id, table, length, flags: flags, next: id + 1)
        ring.post(id)
    }

    public func describeEntry(
        _ index: Int, of table: UInt64, _ address: UInt64, _ length: Int, flags: UInt16, next: Int
    ) {
        ring.describe(at: table + UInt64(16 * index), address, length, flags, next)
    }

    public func descriptorAddress(_ index: Int) -> UInt64 {
        ring.descriptorTable + UInt64(16 * index)
    }

    public var usedTotal: Int { Int(ring.usedIndex &- ring.firstIndex) }

    public var reports: [UsedReport] {
        ring.used(since: ring.usedIndex &- UInt16(min(usedTotal, ring.size))).map {
            UsedReport(id: $0.head, length: $0.byteCount, slot: $0.slot)
        }
    }

    public func acceptUsed(_ count: Int, in image: EvilGuest.Image) {
        image.accept(ring.usedRing + 2, 2)
        for offset in 0..<count {
            let entry = (Int(ring.firstIndex) + usedTotal - 1 - offset) & (ring.size - 1)
            image.accept(ring.usedRing + 4 + UInt64(8 * entry), 8)
        }
    }
}

extension PackedRig: ReceiveRig {
    public func post(_ pieces: [PostedPiece], id: Int) {
        ring.post(pieces, id: id)
    }

    public func postTable(_ table: UInt64, length: Int, flags: UInt16, id: Int) {
        ring.postTable(table, length, flags: flags, id: id)
    }

    /// NEXT and the link mean nothing in a packed ring's table.
    public func describeEntry(
        _ index: Int, of table: UInt64, _ address: UInt64, _ length: Int, flags: UInt16, next: Int
    ) {
        let place = table + UInt64(16 * index)
        guest.put(address, at: place)
        guest.put(UInt32(truncatingIfNeeded: length), at: place + 8)
        guest.put(UInt16(truncatingIfNeeded: next), at: place + 12)
        guest.put(flags, at: place + 14)
    }

    public func descriptorAddress(_ index: Int) -> UInt64 {
        ring.descriptorRing + UInt64(16 * index)
    }

    public var usedTotal: Int { ring.usedCount }

    public var reports: [UsedReport] {
        let oldest = ring.posted - ring.size
        return ring.lists.prefix(ring.usedCount).filter { $0 >= oldest }.compactMap { place in
            ring.used(place).map {
                UsedReport(id: $0.id, length: $0.byteCount, slot: $0.slot)
            }
        }
    }

    public func acceptUsed(_ count: Int, in image: EvilGuest.Image) {
        for place in ring.lists.prefix(ring.usedCount).suffix(count) {
            image.accept(descriptorAddress(place % ring.size), 16)
        }
    }
}

extension RxMethod {
    /// Used entries name header slots, and the virtio-net header lies in the slot.
    public var namesSlotsInUsedEntries: Bool {
        if case .headerQueue(let report) = self { return report != .netHeader }
        return false
    }
}
