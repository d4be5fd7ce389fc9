// The wire forms, byte by byte.
import Testing

@testable import CleaveVirtioNet

@Suite struct NetHeaderTests {
    private static let header = NetHeader(
        flags: 0x01, gsoType: 0x84, hdrLen: 0x0302, gsoSize: 0x0504, csumStart: 0x0706,
        csumOffset: 0x0908, numBuffers: 0x0b0a, hashValue: 0x0f0e_0d0c, hashReport: 0x1110)
    private static let wire: [UInt8] = [
        0x01, 0x84, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0a, 0x0b, 0x0c, 0x0d, 0x0e,
        0x0f, 0x10, 0x11, 0, 0,
    ]

    @Test(arguments: [12, 20], [0, 1])
    func storesExactlyItsBytes(byteCount: Int, misalignment: Int) {
        var bytes = [UInt8](repeating: 0xa5, count: 32)
        bytes.withUnsafeMutableBytes {
            Self.header.store(to: $0.baseAddress! + misalignment, byteCount: byteCount)
        }
        let expected =
            [UInt8](repeating: 0xa5, count: misalignment) + Self.wire.prefix(byteCount)
            + [UInt8](repeating: 0xa5, count: 32 - misalignment - byteCount)
        #expect(bytes == expected)
    }

    /// Whatever the earlier contents, at every place in a cache line: the same result as `store`.
    @Test(arguments: [12, 20])
    func storesUnlessThereAsStoreDoes(byteCount: Int) {
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: 192, alignment: 64)
        defer { memory.deallocate() }
        let start = memory.baseAddress!
        for offset in 0..<64 {
            for damaged in -1..<byteCount {
                memory.initializeMemory(as: UInt8.self, repeating: 0xa5)
                Self.header.store(to: start + offset, byteCount: byteCount)
                let expected = [UInt8](memory)
                if damaged >= 0 { memory[offset + damaged] ^= 0x10 }
                Self.header.store(unlessThere: start + offset, byteCount: byteCount)
                #expect([UInt8](memory) == expected, "offset \(offset), byte \(damaged)")
            }
        }
    }

    /// In memory that cannot be written, where a store would end the process.
    @Test func leavesALineOfItsOwnAlone() {
        let byteCount = 12
        let memory = GuardedMemory(byteCount: byteCount + 64)
        let start = memory.place(Self.wire.prefix(byteCount) + [UInt8](repeating: 0, count: 64))
        memory.isWritable = false
        defer { memory.isWritable = true }
        Self.header.store(unlessThere: start, byteCount: byteCount)
        #expect(NetHeader(load: start, byteCount: byteCount).numBuffers == Self.header.numBuffers)
    }

    @Test(arguments: [12, 20])
    func loadsWithinItsBytes(byteCount: Int) {
        let memory = GuardedMemory(byteCount: 32)
        let start = memory.place(Self.wire.prefix(byteCount))
        var expected = Self.header
        if byteCount == 12 { (expected.hashValue, expected.hashReport) = (0, 0) }
        #expect(NetHeader(load: start, byteCount: byteCount) == expected)
    }

    @Test func layoutFollowsFeatures() {
        #expect(NetHeaderLayout(hashReport: false).byteCount == 12)
        #expect(NetHeaderLayout(hashReport: true).byteCount == 20)
        #expect(NetHeaderLayout(hashReport: true).byteCountWithSplitReport == 28)
    }

    @Test func splitReport() {
        let tail = SplitReport(slot: 0x0403_0201, headerLength: 0x0605)
        #expect(tail.isSplit && !SplitReport.notSplit.isSplit)
        let memory = GuardedMemory(byteCount: 8)
        let start = memory.place([UInt8](repeating: 0xa5, count: 8))
        tail.store(to: start)
        #expect(
            [UInt8](UnsafeRawBufferPointer(start: start, count: 8)) == [1, 2, 3, 4, 5, 6, 1, 0])
        #expect(SplitReport(load: start) == tail)
        #expect(NetHeaderLayout.splitReportByteCount == MemoryLayout<SplitReport>.size)
    }
}
