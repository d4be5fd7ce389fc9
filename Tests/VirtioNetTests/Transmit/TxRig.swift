import CleaveTestSupport
import CleaveVirtioNet

/// A guest that sends, over either ring format, and the device's queue.
///
///     0x10000  ring      0x20000  indirect tables      0x30000 ... 0x4ffff  data
///
/// With two regions the second half of the data is one of its own, and packets alternate between
/// them.
final class TxRig {
    let guest: EvilGuest
    private(set) var queue: TxQueue
    let size: Int
    private let features: VirtioFeatures
    private let isPacked: Bool
    private var split: EvilRing
    private var packed: PackedEvilRing
    private let arenas = ArenaSupply(chunk: 1 << 18)
    private var nextDescriptor = 0
    /// Packed: where the next list goes, and where the next used descriptor is looked for.
    private var place: Int
    private var usedPlace: Int
    private var usedIndex: UInt16
    private let regionCount: Int
    private var storedCount = 0
    private var dataOffset = 0
    private var outLengths: [Int] = []

    static let maximumPackets = 64

    init(
        _ format: RingFormat, size: Int = 16, features: VirtioFeatures = [],
        firstIndex: UInt16 = 0, callDescriptor: Int32 = -1, regionCount: Int = 1,
        observing: (VirtqueueAddresses) -> QueueObservation? = { _ in nil }
    ) throws {
        let half = EvilRig.dataByteCount / 2
        let border = EvilRig.dataAddress + UInt64(half)
        let two = [(base: UInt64(0x1_0000), byteCount: Int(border) - 0x1_0000), (border, half)]
        guest = try regionCount == 1 ? EvilGuest() : EvilGuest(two)
        self.regionCount = regionCount
        self.size = size
        self.features = features
        isPacked = format == .packed
        split = EvilRing(guest, size: size, at: EvilRig.ringAddress, firstIndex: firstIndex)
        packed = PackedEvilRing(guest, size: size, at: 0x1_8000, start: Int(firstIndex) % size)
        place = packed.start
        usedPlace = packed.start
        usedIndex = firstIndex
        var configuration = TxQueueConfiguration(
            virtqueue: isPacked ? packed.addresses : split.addresses, features: features,
            memory: guest.memory, callDescriptor: callDescriptor)
        configuration.observation = observing(configuration.virtqueue)
        queue = try TxQueue(configuration, in: arenas.arena(configuration.arenaByteCount))
    }

    /// Writes bytes somewhere in data memory.
    func store(_ bytes: [UInt8]) -> UInt64 {
        let part = EvilRig.dataByteCount / regionCount
        if dataOffset + bytes.count > part { dataOffset = 0 }
        let address =
            EvilRig.dataAddress + UInt64(storedCount % regionCount * part + dataOffset)
        storedCount += 1
        guest.write(bytes, at: address)
        dataOffset += bytes.count
        return address
    }

    /// Sends one chain, each piece a descriptor.
    /// - Parameters:
    ///   - id: buffer id, if the ring is packed.
    ///   - table: the pieces lie in an indirect table.
    ///   - flags: of every descriptor, beside NEXT: 0 = readable.
    func send(_ pieces: [[UInt8]], id: Int = 0, table: Bool = false, flags: UInt16 = 0) {
        send(pieces.map { (store($0), $0.count) }, id: id, table: table, flags: flags)
    }

    func send(
        _ pieces: [(address: UInt64, length: Int)], id: Int = 0, table: Bool = false,
        flags: UInt16 = 0
    ) {
        guard table else { return post(pieces.map { ($0.address, $0.length, flags) }, id) }
        let start = 0x2_0000 + UInt64(place % size * 1024)
        for (index, piece) in pieces.enumerated() {
            let next = index + 1 < pieces.count
            split.describe(
                at: start + UInt64(16 * index), piece.address, piece.length,
                flags | (next && !isPacked ? DescriptorFlags.next : 0), index + 1)
        }
        // In a packed table the last two fields are the other way round, and only WRITE counts.
        if isPacked {
            for index in pieces.indices {
                guest.put(flags, at: start + UInt64(16 * index) + 14)
            }
        }
        post([(start, 16 * pieces.count, DescriptorFlags.indirect)], id)
    }

    private func post(_ list: [(address: UInt64, length: Int, flags: UInt16)], _ id: Int) {
        outLengths.append(list.count)
        let first = nextDescriptor
        // The packed ring's head goes last, as a driver has to do it.
        for index in list.indices.reversed() {
            let (address, length, flags) = list[index]
            let next = index + 1 < list.count ? DescriptorFlags.next : 0
            if isPacked {
                packed.describe(place + index, address, length, flags: flags | next, id: id)
            } else {
                split.describe(
                    (first + index) % size, address, length, flags: flags | next,
                    next: (first + index + 1) % size)
            }
        }
        nextDescriptor = (first + list.count) % size
        place += list.count
        if !isPacked { split.post(first) }
    }

    /// The chains that came back since the last call: ids (packed) or heads (split).
    func takeUsed() -> [Int] {
        var ids: [Int] = []
        while !outLengths.isEmpty {
            if isPacked {
                guard let used = packed.used(usedPlace) else { break }
                precondition(used.length == 0 && !used.hasWrite)
                ids.append(used.id)
                usedPlace += outLengths.removeFirst()
            } else {
                guard split.usedIndex != usedIndex else { break }
                let used = split.used(usedIndex)
                precondition(used.length == 0)
                ids.append(used.head)
                usedIndex &+= 1
                outLengths.removeFirst()
            }
        }
        return ids
    }

    /// Descriptors that the driver may still post.
    var freeCount: Int { size - outLengths.reduce(0, +) }
    /// The name that `send` will give the next chain.
    func name(_ id: Int) -> Int { isPacked ? id : nextDescriptor }

    /// The driver's request: call, or do not.
    func setInterrupts(_ enabled: Bool) {
        split.setAvailFlags(enabled ? 0 : 1)
        packed.setDriverEvent(0, flags: enabled ? 0 : 1)
    }

    /// The driver sleeps until entry (packed: descriptor) `number` since the start, with EVENT_IDX.
    func sleep(until number: Int) {
        split.setUsedEvent(split.firstIndex &+ UInt16(number))
        packed.setDriverEvent(packed.base(packed.start + number), flags: 2)
    }

    /// Another device resumes where this one stopped; nothing is out.
    func restart() throws {
        var addresses = isPacked ? packed.addresses : split.addresses
        addresses.base = queue.base
        let configuration = TxQueueConfiguration(
            virtqueue: addresses, features: features, memory: guest.memory)
        queue = try TxQueue(configuration, in: arenas.arena(configuration.arenaByteCount))
    }

    func setAvailIndex(_ index: UInt16) { split.setAvailIndex(index) }

    /// One packet as it came out.
    struct Out: Equatable {
        var bytes: [UInt8]
        var netFlags: UInt8 = 0
        var gsoType: UInt8 = 0
        var gsoSize: UInt16 = 0
        var csumStart: UInt16 = 0
        var csumOffset: UInt16 = 0
    }

    private let packets = UnsafeMutablePointer<TxPacket>.allocate(capacity: maximumPackets)
    private(set) var lastWantsCall = false

    deinit { packets.deallocate() }

    func dequeue(_ count: Int = TxRig.maximumPackets) -> [TxPacket] {
        let result = queue.dequeue(packets, count: count)
        lastWantsCall = result.wantsCall
        return Array(UnsafeBufferPointer(start: packets, count: result.count))
    }

    /// Reads a packet in place.
    func read(_ packet: TxPacket) -> Out {
        var bytes = [UInt8](
            UnsafeRawBufferPointer(start: packet.pointer, count: Int(packet.byteCount)))
        for index in 0..<Int(packet.moreCount) {
            let (pointer, byteCount) = packet.segment(index)
            bytes += UnsafeRawBufferPointer(start: pointer, count: byteCount)
        }
        return Out(
            bytes: bytes, netFlags: packet.netFlags, gsoType: packet.gsoType,
            gsoSize: packet.gsoSize, csumStart: packet.csumStart, csumOffset: packet.csumOffset)
    }
}

/// A virtio-net header as bytes.
func txHeader(_ header: NetHeader = NetHeader(numBuffers: 0), byteCount: Int = 12) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: byteCount)
    bytes.withUnsafeMutableBytes { header.store(to: $0.baseAddress!, byteCount: byteCount) }
    return bytes
}
