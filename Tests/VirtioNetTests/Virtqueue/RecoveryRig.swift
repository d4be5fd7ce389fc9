// A driver whose device is killed, and what another device needs to go on.
import CleaveTestSupport
import CleaveVirtioNet
import Testing

/// A ring of 8 descriptors in a page of its own, and the part of an in-flight region in another.
///
/// Buffer number n, from 0 on, is a chain whose bytes are at `data(n)`.
final class RecoveryRig {
    static let size = 8
    let format: RingFormat
    let guest: EvilGuest
    let region: UnsafeMutableRawBufferPointer
    let arenas = ArenaSupply(chunk: 1 << 18)
    var driver: Driver

    /// - Parameter start: place of the first buffer: 0 to 15, or for a split ring any index.
    init(_ format: RingFormat, start: Int) throws {
        self.format = format
        guest = try EvilGuest()
        region = .allocate(byteCount: 4096, alignment: 4096)
        region.initializeMemory(as: UInt8.self, repeating: 0)
        driver = Driver(guest, format, start: start)
    }

    deinit { region.deallocate() }

    static let pieceByteCount = 300

    static func data(_ number: Int, piece: Int = 0) -> UInt64 {
        0x2_0000 + UInt64(4 * number + piece) * 512
    }

    /// A chain as the driver posted it.
    struct Chain: Equatable {
        let number: Int
        /// Head or buffer id.
        let name: Int
        let length: Int
        /// Free-running place of its head in the ring, or in the available ring.
        let place: Int
    }

    /// The driver's side, as a value: it goes on from any point again.
    struct Driver {
        private(set) var split: EvilRing
        private(set) var packed: PackedEvilRing
        private let isPacked: Bool
        private let guest: EvilGuest
        private let start: Int
        private(set) var chains: [Chain] = []
        /// Split: descriptors that are free, in order.
        private var free = Array(0..<RecoveryRig.size)

        init(_ guest: EvilGuest, _ format: RingFormat, start: Int) {
            self.guest = guest
            self.start = start
            isPacked = format == .packed
            split = EvilRing(
                guest, size: RecoveryRig.size, at: 0x1_0000,
                firstIndex: UInt16(truncatingIfNeeded: start))
            packed = PackedEvilRing(
                guest, size: RecoveryRig.size, at: 0x1_1000, start: isPacked ? start : 0)
        }

        var addresses: VirtqueueAddresses { isPacked ? packed.addresses : split.addresses }
        /// All that either side writes of the ring.
        var page: UInt64 { isPacked ? 0x1_1000 : 0x1_0000 }

        /// Posts a chain of `length` descriptors.
        mutating func post(_ length: Int, flags: UInt16) {
            let number = chains.count
            let place =
                isPacked ? packed.posted : chains.last.map { $0.place + 1 } ?? start
            var name = number % RecoveryRig.size
            if isPacked {
                let pieces = (0..<length).map {
                    PostedPiece(
                        RecoveryRig.data(number, piece: $0), RecoveryRig.pieceByteCount,
                        flags: flags)
                }
                packed.post(pieces, id: name)
            } else {
                let used = Array(free.prefix(length))
                free.removeFirst(length)
                name = used[0]
                for (index, descriptor) in used.enumerated() {
                    let isLast = index == length - 1
                    split.describe(
                        descriptor, RecoveryRig.data(number, piece: index),
                        RecoveryRig.pieceByteCount,
                        flags: flags | (isLast ? 0 : DescriptorFlags.next),
                        next: isLast ? 0 : used[index + 1])
                }
                split.post(name)
            }
            chains.append(Chain(number: number, name: name, length: length, place: place))
        }

        /// Chains that were used, as the driver sees it: in order, each under its name.
        func usedCount() throws -> Int {
            if !isPacked {
                let used = split.used(since: UInt16(truncatingIfNeeded: start))
                #expect(used.count <= chains.count)
                // The last lap alone still shows who used them.
                let last = min(used.count, RecoveryRig.size)
                let names = chains.prefix(used.count).suffix(last).map(\.name)
                #expect(used.suffix(last).map(\.head) == names)
                return used.count
            }
            var count = 0
            while count < chains.count, let used = packed.used(chains[count].place) {
                // Places of the last lap alone still show who used them.
                if chains[count].place >= packed.posted - RecoveryRig.size {
                    #expect(used.id == chains[count].name)
                }
                count += 1
            }
            return count
        }

        /// The same, where the first `count` are known to be used and were posted over.
        func usedCount(after count: Int) throws -> Int {
            if !isPacked { return try usedCount() }
            var count = count
            while count < chains.count, let used = packed.used(chains[count].place) {
                #expect(used.id == chains[count].name)
                count += 1
            }
            return count
        }

        /// Posts the first `count` chains, which came back, anew.
        mutating func postAgain(_ count: Int, flags: UInt16) {
            for chain in chains.prefix(count) {
                // Descriptors of a chain lie one after the other here.
                free += (0..<chain.length).map { (chain.name + $0) % RecoveryRig.size }
                post(chain.length, flags: flags)
            }
        }
    }

    // MARK: Devices

    var ringBytes: UnsafeMutableRawBufferPointer {
        UnsafeMutableRawBufferPointer(
            start: guest.pointer(driver.page), count: format == .split ? 256 : 192)
    }
    var regionBytes: UnsafeMutableRawBufferPointer {
        UnsafeMutableRawBufferPointer(
            rebasing: region[..<InFlightRecord.byteCount(size: Self.size, format)])
    }

    /// What a device that begins finds out. The base that it is told is that of the beginning.
    func record() throws -> (record: InFlightRecord, addresses: VirtqueueAddresses) {
        var addresses = driver.addresses
        let record = try InFlightRecord(
            region.baseAddress!, capacity: Self.size, resuming: &addresses, in: guest.memory)
        return (record, addresses)
    }

    func transmitQueue() throws -> TxQueue {
        let (record, addresses) = try record()
        var configuration = TxQueueConfiguration(
            virtqueue: addresses, features: [], memory: guest.memory)
        configuration.observation = QueueObservation(record: record)
        return try TxQueue(configuration, in: arenas.arena(configuration.arenaByteCount))
    }

    func receiveQueue() throws -> RxQueue {
        let (record, addresses) = try record()
        var configuration = RxQueueConfiguration(
            virtqueue: addresses, features: .mergeableBuffers, memory: guest.memory,
            method: .whole)
        configuration.observation = QueueObservation(record: record)
        return try arenas.queue(configuration)
    }
}
