import CleaveTraffic
import Testing

@Suite("Counting a pcapng stream")
struct PcapngTallyTests {
    /// A stream with packets of all lengths of padding, and statistics if it came to its end.
    private func stream(packets: Int, comment: String?) -> [UInt8] {
        var bytes =
            PcapngBlocks.section(program: "test") + PcapngBlocks.interface(name: "port")
        for number in 0..<packets {
            let packet = PcapngPacket(
                interface: 0, time: 1, capturedByteCount: 14 + number, originalByteCount: 2000,
                flags: 1, queue: 7, dropCount: UInt64(number % 2))
            var block = [UInt8](repeating: 5, count: packet.blockByteCount)
            block.withUnsafeMutableBytes { target in
                guard let base = target.baseAddress else { return }
                packet.store(to: base).initializeMemory(
                    as: UInt8.self, repeating: 6, count: packet.capturedByteCount)
            }
            bytes += block
        }
        return bytes
            + PcapngBlocks.statistics(
                .init(
                    interface: 0, start: 1, end: 2, received: UInt64(packets) + 1000, dropped: 1000,
                    comment: comment))
    }

    @Test("Pieces of any length give the same counts", arguments: [nil, "the switch ended"])
    func pieces(comment: String?) {
        let bytes = stream(packets: 9, comment: comment)
        for length in 1...bytes.count {
            var tally = PcapngTally()
            for start in stride(from: 0, to: bytes.count, by: length) {
                bytes[start..<min(start + length, bytes.count)].withUnsafeBytes { tally.take($0) }
            }
            #expect(tally.packetCount == 9 && tally.droppedCount == 1000)
            #expect(tally.isComplete && !tally.isBroken && tally.comment == comment)
            #expect(tally.wholeByteCount == bytes.count)
        }
    }

    @Test("A stream that is cut counts whole blocks alone")
    func cuts() throws {
        let bytes = stream(packets: 3, comment: nil)
        var least = 0
        for count in bytes.indices {
            var tally = PcapngTally()
            bytes[..<count].withUnsafeBytes { tally.take($0) }
            #expect(!tally.isComplete && !tally.isBroken)
            #expect(tally.wholeByteCount <= count && tally.wholeByteCount >= least)
            #expect(tally.packetCount <= 3)
            least = tally.wholeByteCount
        }
        #expect(least > 0)
    }

    @Test("What is no stream of blocks is said to be none")
    func garbage() {
        for bytes: [UInt8] in [
            [UInt8](repeating: 0, count: 8), [6, 0, 0, 0, 13, 0, 0, 0],
            [5, 0, 0, 0, 0, 0, 1, 0], [6, 0, 0, 0, 0, 0, 0, 255],
        ] {
            var tally = PcapngTally()
            bytes.withUnsafeBytes { tally.take($0) }
            #expect(tally.isBroken)
        }
    }
}
