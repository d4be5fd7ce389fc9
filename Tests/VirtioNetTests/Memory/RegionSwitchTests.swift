// Buffers in several regions of guest memory, in every order: runs of buffers end where the region
// changes, and go on.
import CleaveTestSupport
import CleaveVirtioNet
import Testing

@Suite("Buffers in several regions")
struct RegionSwitchTests {
    private static let size = 8
    /// Where buffers of each region begin; the rings lie in the first.
    private static let bases: [UInt64] = [0x1_8000, 0x10_0000, 0x20_0000]

    /// Places eight packets in buffers of the regions named, and checks every byte.
    private func place(
        _ format: RingFormat, _ regions: [Int], _ arenas: ArenaSupply
    ) throws {
        let guest = try EvilGuest([(0x1_0000, 0x1_0000), (0x10_0000, 0x8000), (0x20_0000, 0x8000)])
        let addresses = regions.enumerated().map { index, region in
            Self.bases[region] + UInt64(index * 256)
        }
        var split = EvilRing(guest, size: Self.size, at: 0x1_0000)
        var packed = PackedEvilRing(guest, size: Self.size, at: 0x1_4000, start: 0)
        for (index, address) in addresses.enumerated() {
            switch format {
            case .split:
                split.describe(index, address, 128)
                split.post(index)
            case .packed: packed.post([PostedPiece(address, 128)], id: index)
            }
        }
        let queue = try arenas.queue(
            RxQueueConfiguration(
                virtqueue: format == .split ? split.addresses : packed.addresses,
                features: .mergeableBuffers, memory: guest.memory, method: .whole))
        let frames = (0..<Self.size).map { TestFrames.payload(60 + $0, seed: $0) }
        let outcome = MockPort().enqueue(frames, to: queue)
        #expect(outcome.result.delivered == Self.size, "\(format), \(regions)")
        for (address, frame) in zip(addresses, frames) {
            #expect(guest.read(address + 12, frame.count) == frame, "\(format), \(regions)")
        }
        #expect(queue.fault == .none && guest.bandsAreIntact)
    }

    @Test("Two regions, in every order", arguments: RingFormat.allCases)
    func two(format: RingFormat) throws {
        let arenas = ArenaSupply()
        for pattern in 0..<1 << Self.size {
            try place(format, (0..<Self.size).map { pattern >> $0 & 1 }, arenas)
        }
    }

    @Test("Three regions, in random orders", arguments: RingFormat.allCases)
    func three(format: RingFormat) throws {
        var random = SeededRandom(seed: 5)
        let arenas = ArenaSupply()
        for _ in 0..<300 {
            try place(format, (0..<Self.size).map { _ in random.int(0...2) }, arenas)
        }
    }
}
