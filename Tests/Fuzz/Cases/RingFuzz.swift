// A hostile driver as a script: it writes anything anywhere in 192 KiB of its memory, posts buffers
// that are in order, and lets the device work in between.
import CleaveHost
import CleaveTestSupport
import CleaveVirtioNet

enum RingFuzz {
    private static let size = 8
    /// Guest memory of the script: the ring at its start, a header queue behind it, then data.
    private static let base: UInt64 = 0x1_0000
    private static let byteCount = 3 << 16
    private static let headerAddress: UInt64 = 0x2_0000
    private static let dataAddress: UInt64 = 0x3_0000
    private static let operationLimit = 64

    /// The ring as the driver posts to it when it is honest.
    private enum Ring {
        case split(EvilRing)
        case packed(PackedEvilRing)

        var addresses: VirtqueueAddresses {
            switch self {
            case .split(let ring): ring.addresses
            case .packed(let ring): ring.addresses
            }
        }

        mutating func post(_ number: UInt8, isReadable: Bool) {
            let address = dataAddress + UInt64(number & 15) * 4096
            let length = 64 + Int(number >> 4) * 270
            let flags: UInt16 = isReadable ? 0 : DescriptorFlags.write
            switch self {
            case .split(var ring):
                ring.describe(Int(number) % size, address, length, flags: flags)
                ring.post(Int(number) % size)
                self = .split(ring)
            case .packed(var ring):
                ring.post([PostedPiece(address, length, flags: flags)], id: Int(number) % size)
                self = .packed(ring)
            }
        }
    }

    static func run(_ input: [UInt8], isPacked: Bool) throws -> Set<String> {
        var reader = InputReader(input)
        let guest = try EvilGuest([(base, byteCount)])
        var ring: Ring =
            isPacked
            ? .packed(PackedEvilRing(guest, size: size, at: base))
            : .split(EvilRing(guest, size: size, at: base))
        let device = try Device(guest, ring.addresses, reader.byte(), headerAddress)
        for _ in 0..<operationLimit {
            if reader.isAtEnd { break }
            let operation = reader.byte()
            switch operation & 3 {
            case 0:
                // Most of what matters is in the first 64 KiB.
                let offset = reader.number() * (operation & 4 == 0 ? 1 : 3)
                let bytes = reader.take(Int(operation >> 3) + 1)
                guest.write(
                    bytes.prefix(byteCount - offset), at: base + UInt64(offset))
            case 1: ring.post(reader.byte(), isReadable: device.isTransmit)
            default: try device.work(reader.byte())
            }
            try Violation.unless(guest.bandsAreIntact, "a byte beside guest memory was written")
        }
        return device.seen
    }

    /// The queue under test, and the accounts that it must agree with.
    private final class Device {
        let isTransmit: Bool
        private(set) var seen: Set<String> = []
        private var rx: RxQueue?
        private var tx: TxQueue?
        private let port = MockPort()
        private let supply = ArenaSupply(chunk: 1 << 18)
        private var heldCount = 0

        /// - Parameter choice: method and features.
        init(
            _ guest: EvilGuest, _ virtqueue: VirtqueueAddresses, _ choice: UInt8,
            _ headerAddress: UInt64
        ) throws {
            isTransmit = choice & 7 == 7
            var features: VirtioFeatures = []
            if choice & 8 != 0 { features.insert(.eventIndex) }
            if choice & 16 != 0 { features.insert(.indirectDescriptors) }
            if choice & 32 != 0 { features.insert(.inOrder) }
            if isTransmit {
                let configuration = TxQueueConfiguration(
                    virtqueue: virtqueue, features: features.union([.checksum, .hostTSO4]),
                    memory: guest.memory)
                tx = try TxQueue(
                    configuration, in: supply.arena(configuration.arenaByteCount))
                return
            }
            let method: RxMethod =
                switch choice & 7 {
                case 1: .headerDescriptor
                case 2: .headerPage
                case 3: .alternating(headerBufferByteCount: 128)
                case 4, 5: .headerQueue(.netHeader)
                default: .whole
                }
            if choice & 64 != 0 || [2, 3].contains(choice & 7) {
                features.insert(.mergeableBuffers)
            }
            var headerQueue: HeaderQueue?
            if method.needsHeaderQueue {
                let slots = EvilHeaderQueue(guest, slotSize: 128, slotCount: 8, at: headerAddress)
                headerQueue = try HeaderQueue(slots.layout, memory: guest.memory)
            }
            rx = try supply.queue(
                RxQueueConfiguration(
                    virtqueue: virtqueue, features: features, memory: guest.memory,
                    method: method, headerQueue: headerQueue,
                    shortage: choice & 128 != 0 ? .drop : .wait))
        }

        func work(_ choice: UInt8) throws {
            if let rx { try receive(rx, choice) }
            if let tx { try transmit(tx, choice) }
        }

        private func receive(_ queue: RxQueue, _ choice: UInt8) throws {
            let packets = (0..<Int(choice & 7) + 1).map { number in
                let payload = TestFrames.payload(Int(choice >> 3) * 97 + number, seed: number)
                return number % 2 == 0 ? TestFrames.tcp4(payload) : TestFrames.udp6(payload)
            }
            let before = queue.counters
            let wasBroken = queue.fault != .none
            let outcome = port.enqueue(packets, to: queue)
            let after = queue.counters
            let consumed = outcome.result.consumed
            try Violation.unless(
                consumed <= packets.count && outcome.result.delivered <= consumed,
                "\(consumed) consumed, \(outcome.result.delivered) delivered")
            let dropped = after.dropped.values.reduce(0, +) - before.dropped.values.reduce(0, +)
            try Violation.unless(
                after.packets - before.packets + dropped == UInt64(consumed),
                "counters do not agree with \(consumed) consumed packets")
            try Violation.unless(
                !wasBroken || consumed == packets.count && outcome.result.delivered == 0,
                "a broken queue keeps packets")
            if outcome.result.delivered > 0 { seen.insert("delivered") }
            if after.split > before.split { seen.insert("split") }
            if dropped > 0 { seen.insert("dropped") }
            if consumed < packets.count { seen.insert("short") }
            if queue.fault != .none { seen.insert("fault " + queue.fault.name) }
        }

        private func transmit(_ queue: TxQueue, _ choice: UInt8) throws {
            let capacity = Int(choice & 15) + 1
            let packets = UnsafeMutablePointer<TxPacket>.allocate(capacity: capacity)
            defer { packets.deallocate() }
            let count = queue.dequeue(packets, count: capacity).count
            heldCount += count
            try Violation.unless(count <= capacity, "\(count) packets for \(capacity)")
            // Every byte that is told can be read.
            for packet in UnsafeBufferPointer(start: packets, count: count) {
                var sum: UInt64 = 0
                for (start, byteCount) in packet.pieces {
                    sum &+= UnsafeRawBufferPointer(start: start, count: byteCount)
                        .reduce(0) { $0 &+ UInt64($1) }
                }
                seen.insert(sum == 0 ? "zeros" : "bytes")
            }
            let completed = min(heldCount, Int(choice >> 4))
            try Violation.unless(queue.complete(completed) != nil, "\(completed) were out")
            heldCount -= completed
            try Violation.unless(queue.heldCount == heldCount, "\(heldCount) are out")
            if queue.counters.dropped.values.contains(where: { $0 > 0 }) { seen.insert("dropped") }
            if queue.fault != .none { seen.insert("fault " + queue.fault.name) }
        }
    }
}

extension TxPacket {
    /// Where its bytes are.
    fileprivate var pieces: [(UnsafeRawPointer, Int)] {
        let found = (0..<Int(moreCount)).map { index in
            let segment = segment(index)
            return (segment.pointer, segment.byteCount)
        }
        return [(pointer, Int(byteCount))] + found
    }
}
