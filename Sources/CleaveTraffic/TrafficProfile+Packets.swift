extension TrafficProfile {
    /// `count` frames of `flows` flows (at least one), the same for the same arguments.
    ///
    /// Flows alternate. Each has its own ports, so that receive-side scaling spreads them, and its
    /// own TCP sequence numbers. Payloads are pseudo-random and differ from packet to packet.
    public func packets(count: Int, flows: Int, seed: UInt64) -> [[UInt8]] {
        guard count > 0 else { return [] }
        let flowCount = max(flows, 1)
        var random = SplitMix64(seed: seed)
        var sizes: [Int] = []
        var sequenceNumbers = [UInt32](repeating: 0, count: min(flowCount, count))
        var packets: [[UInt8]] = []
        packets.reserveCapacity(count)
        for index in 0..<count {
            if sizes.isEmpty { sizes = byteCounts.shuffled(using: &random) }
            let size = sizes.removeLast()
            let kind = kind(turn: index, size: size)
            let flow = index % flowCount
            var frame = FrameBuilder(kind: kind, byteCount: size)
            frame.fillPayload(&random)
            frame.writeHeaders(
                flow: flow, index: index, sequenceNumber: sequenceNumbers[flow])
            sequenceNumbers[flow] &+= UInt32(size - kind.byteCount)
            packets.append(frame.bytes)
        }
        return packets
    }

    /// Kind number `turn` modulo their count, or the next one that fits. Every size holds udp4,
    /// which is among the mixed kinds, and `parse` checks a single kind: there always is one.
    private func kind(turn: Int, size: Int) -> HeaderKind {
        let start = turn % kinds.count
        let ordered = kinds[start...] + kinds[..<start]
        return ordered.first { size >= $0.byteCount }
            ?? kinds[start]
    }
}

/// Steele, Lea and Flood's generator: a seed gives the same sequence on every machine.
package struct SplitMix64: RandomNumberGenerator {
    private var state: UInt64

    package init(seed: UInt64) {
        state = seed
    }

    package mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var mixed = state
        mixed = (mixed ^ mixed >> 30) &* 0xbf58_476d_1ce4_e5b9
        mixed = (mixed ^ mixed >> 27) &* 0x94d0_49bb_1331_11eb
        return mixed ^ mixed >> 31
    }
}
