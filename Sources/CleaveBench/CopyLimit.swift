import CleaveHost
import CleaveVirtioNet

/// Cost of copying the same packets alone: from the same sources, to memory of the size and spacing
/// of the RQs' buffers, by the C library. A data path that copies cannot be faster.
public struct CopyLimit: Sendable, Equatable {
    /// Cycles per packet.
    public var cyclesPerPacket: Spread
    /// Bytes copied per cycle, by the median.
    public var bytesPerCycle: Double
}

/// Measures `CopyLimit` beside the passes of a case.
final class CopyLimitMeasure {
    private let refs: UnsafeMutableBufferPointer<PacketRef>
    private let arena: MemoryArena
    private let stride: Int
    private let bufferCount: Int
    private let packets: Int
    private let meanByteCount: Double
    private var samples: [Double] = []
    private var position = (packet: 0, buffer: 0)

    /// - Parameter packets: copied for each sample.
    init(_ testbed: Testbed, packets: Int) throws(SetupError) {
        let refs = testbed.sources.flatMap { $0 }
        guard !refs.isEmpty else { throw SetupError("copy limit: no packets") }
        bufferCount = testbed.benchCase.ringSize * testbed.benchCase.rqs
        stride = max(1, testbed.memory.dataBytes / bufferCount)
        // One buffer more than there are: the last packet of a lap may reach into it.
        let largest = refs.reduce(0) { max($0, Int($1.byteCount)) }
        do {
            arena = try MemoryArena(
                byteCount: stride * bufferCount + largest,
                node: testbed.queuePlan.places.first?.node)
        } catch { throw SetupError("copy limit: \(error)") }
        self.refs = .allocate(capacity: refs.count)
        _ = self.refs.initialize(from: refs)
        self.packets = packets
        meanByteCount =
            Double(refs.reduce(0) { $0 + Int($1.byteCount) }) / Double(refs.count)
    }

    deinit { refs.deallocate() }

    /// One sample.
    func measure() {
        copy(packets / 8 + 1)
        let start = CycleClock.now()
        copy(packets)
        samples.append(Double(CycleClock.now() &- start) / Double(packets))
    }

    @inline(never)
    private func copy(_ count: Int) {
        var (packet, buffer) = position
        for _ in 0..<count {
            let ref = refs[packet]
            let byteCount = Int(ref.byteCount)
            (arena.base + buffer * stride).copyMemory(from: ref.pointer, byteCount: byteCount)
            buffer += byteCount <= stride ? 1 : (byteCount + stride - 1) / stride
            if buffer >= bufferCount { buffer = 0 }
            packet = packet + 1 == refs.count ? 0 : packet + 1
        }
        position = (packet, buffer)
    }

    /// All samples' figures; nil for none.
    var result: CopyLimit? {
        Spread(samples).map {
            CopyLimit(
                cyclesPerPacket: $0, bytesPerCycle: meanByteCount / Swift.max(0.01, $0.median))
        }
    }
}
