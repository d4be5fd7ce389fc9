import CDpdkBench
import CleaveGuestDriver
import CleaveHost
import CleaveVirtioNet
import Provenance

/// What a burst costs through the C functions, beside the same burst through the Swift class: equal
/// guests, 64-byte packets placed whole.
struct AbiOverhead: Encodable, CustomStringConvertible {
    let ring = "split"
    let packetBytes = 64
    /// Cycles per burst of 32.
    let swift: Figures
    let c: Figures
    /// C less Swift, cycles per burst: of the two runs of each round, which are too close in time
    /// for the machine to have changed between them. Which of them comes first takes turns.
    let differences: Figures

    var description: String {
        let parts = [("C", c), ("Swift", swift)].map { name, figures in
            "\(name) \(Report.figures(figures))"
        }
        return "A burst of 32 x 64 B, cycles: \(parts.joined(separator: ", ")); "
            + "the C call costs \(Report.number(differences.median)) more, round by round "
            + "(of the minima: \(Report.number(c.min - swift.min)))"
    }

    private enum CodingKeys: String, CodingKey {
        case ring, packetBytes, swift, c, difference, differences
    }

    func encode(to encoder: Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(ring, forKey: .ring)
        try container.encode(packetBytes, forKey: .packetBytes)
        try container.encode(swift, forKey: .swift)
        try container.encode(c, forKey: .c)
        try container.encode(differences.median, forKey: .difference)
        try container.encode(differences, forKey: .differences)
    }

    static func measure(repeats: Int) throws -> AbiOverhead {
        let shape = Shape(ring: .split, isMergeable: true, ringSize: 256)
        guard let sources = dpdk_sources_create(64, 1024) else { throw Failure.ofRival }
        defer { dpdk_sources_destroy(sources) }
        // Buffers do not start on one and the same line of every page.
        let rig = try GuestRig(shape, largestPacket: 64, splits: false, bufferByteCount: 2112)
        rig.detach()
        var swift: [Double] = []
        var c: [Double] = []
        let bursts = 4096
        // One ring for both, which each takes over from the other.
        func runC() throws -> Double {
            try rig.attach(shape)
            var tally = dpdk_tally()
            try check(rig.run(sources, bursts: UInt32(bursts), &tally))
            rig.detach()
            return Double(tally.cycles) / Double(bursts)
        }
        func runSwift() throws -> Double {
            let device = try SwiftDevice(rig, sources, count: 1024)
            defer { rig.base = device.base }
            return Double(device.run(bursts: bursts)) / Double(bursts)
        }
        for round in 0...repeats {
            let first = round % 2 == 0 ? try runC() : nil
            let swiftCycles = try runSwift()
            let cCycles = try first ?? runC()
            if round == 0 { continue }
            c.append(cCycles)
            swift.append(swiftCycles)
        }
        return AbiOverhead(
            swift: Figures(swift), c: Figures(c),
            differences: Figures(zip(c, swift).map { $0 - $1 }))
    }
}

/// The Swift class as device of a rig.
private final class SwiftDevice {
    private let rig: GuestRig
    private let queue: RxQueue
    private let arena: MemoryArena
    private let refs: UnsafeMutablePointer<PacketRef>
    private let count: Int

    init(_ rig: GuestRig, _ sources: OpaquePointer, count: Int) throws {
        self.rig = rig
        var virtqueue = rig.driver.virtqueue
        virtqueue.base = rig.base
        let configuration = RxQueueConfiguration(
            virtqueue: virtqueue, features: .mergeableBuffers, memory: rig.space.memory,
            method: .whole)
        arena = try MemoryArena(byteCount: configuration.arenaByteCount)
        queue = try RxQueue(configuration, in: arena)
        refs = .allocate(capacity: count)
        self.count = count
        for index in 0..<count {
            guard let packet = dpdk_sources_packet(sources, UInt32(index)) else { continue }
            (refs + index).initialize(to: PacketRef(packet, byteCount: 64))
        }
    }

    deinit { refs.deallocate() }

    var base: UInt16 { queue.base }

    /// - Returns: cycles of the device's side.
    func run(bursts: Int) -> UInt64 {
        var cycles: UInt64 = 0
        var next = 0
        for _ in 0..<bursts {
            let first = next
            next = next + 32 == count ? 0 : next + 32
            let start = CycleClock.now()
            let result = queue.enqueue(refs + first, count: 32)
            cycles &+= CycleClock.now() &- start
            rig.takeTurn(first, result.delivered)
        }
        return cycles
    }
}
