// Indirect tables (catalogue B07 to B12, B14).
import RxPath
import TestSupport
import Testing

@Suite("Hostile indirect tables")
struct HostileIndirectTests {
    private static let table = EvilRig.page(16)
    private static let last = DescriptorFlags.write
    private static let link = DescriptorFlags.write | DescriptorFlags.next

    private static func makeRig(
        features: VirtioFeatures = [.indirectDescriptors], guest: EvilGuest? = nil
    ) throws -> EvilRig {
        try EvilRig(features: features, guest: guest)
    }

    /// Posts descriptor 0 as a reference to a table of `length` bytes.
    private static func refer(
        _ rig: EvilRig, table: UInt64 = table, length: Int,
        flags: UInt16 = DescriptorFlags.indirect
    ) {
        rig.ring.describe(0, table, length, flags: flags, next: 1)
        rig.ring.describe(1, EvilRig.page(1), 4096)
        rig.ring.post(0)
    }

    @Test("B07: INDIRECT without the feature breaks the queue")
    func withoutFeature() throws {
        let rig = try Self.makeRig(features: [.mergeableBuffers])
        rig.ring.describe(at: Self.table, EvilRig.page(0), 4096, Self.last)
        Self.refer(rig, length: 16)
        expectBroken(rig, .indirect)
    }

    @Test("B07: INDIRECT together with NEXT breaks the queue")
    func withNext() throws {
        let rig = try Self.makeRig()
        rig.ring.describe(at: Self.table, EvilRig.page(0), 4096, Self.last)
        Self.refer(rig, length: 16, flags: DescriptorFlags.indirect | DescriptorFlags.next)
        expectBroken(rig, .indirect)
    }

    @Test("B08: INDIRECT inside a table breaks the queue")
    func nested() throws {
        for flags in [DescriptorFlags.indirect, DescriptorFlags.indirect | Self.link] {
            let rig = try Self.makeRig()
            rig.ring.describe(at: Self.table, EvilRig.page(0), 20, Self.link, 1)
            rig.ring.describe(at: Self.table + 16, Self.table, 16, flags)
            Self.refer(rig, length: 32)
            expectBroken(rig, .indirect)
        }
    }

    @Test("B09: a chain that ends in a table is fine")
    func chainThenTable() throws {
        let rig = try Self.makeRig()
        rig.ring.describe(0, EvilRig.page(0), 100, flags: Self.link, next: 5)
        rig.ring.describe(5, Self.table, 32, flags: DescriptorFlags.indirect)
        rig.ring.describe(at: Self.table, EvilRig.page(1), 500, Self.link, 1)
        rig.ring.describe(at: Self.table + 16, EvilRig.page(2), 4096, Self.last)
        rig.ring.post(0)
        expectDelivered(rig)
        let packet = TestFrames.tcp4(TestFrames.payload(1000))
        let found =
            rig.guest.read(EvilRig.page(0) + 12, 88) + rig.guest.read(EvilRig.page(1), 500)
            + rig.guest.read(EvilRig.page(2), 466)
        #expect(found == packet)
    }

    @Test("B10: a table of an impossible length breaks the queue")
    func lengths() throws {
        for length in [0, 1, 15, 17, 31, 16 * 8 + 1, 16 * 9, 0xffff_fff0, 0xffff_ffff] {
            let rig = try Self.makeRig()
            rig.ring.describe(at: Self.table, EvilRig.page(0), 4096, Self.last)
            Self.refer(rig, length: length)
            expectBroken(rig, .indirectLength, "\(length)")
        }
    }

    @Test("B10: a table of as many entries as the ring is fine, one that is only longer too")
    func longestTable() throws {
        for used in 1...8 {
            let rig = try Self.makeRig()
            for index in 0..<8 {
                let isLast = index == used - 1
                rig.ring.describe(
                    at: Self.table + UInt64(16 * index), EvilRig.page(index), isLast ? 2000 : 20,
                    isLast ? Self.last : Self.link, index + 1)
            }
            Self.refer(rig, length: 128)
            expectDelivered(rig)
        }
    }

    @Test("B11: a table at any address is fine", arguments: 0..<16)
    func oddAddress(offset: Int) throws {
        let rig = try Self.makeRig()
        let table = Self.table + UInt64(offset)
        rig.ring.describe(at: table, EvilRig.page(0), 66, Self.link, 2)
        rig.ring.describe(at: table + 32, EvilRig.page(1), 1000, Self.last)
        Self.refer(rig, table: table, length: 48)
        expectDelivered(rig)
    }

    @Test("B12: a table over two adjacent regions is read piece by piece", arguments: 1...31)
    func acrossRegions(before: Int) throws {
        let guest = try EvilGuest([(0x1_0000, 0x3_8000), (0x4_8000, 0x1_0000)])
        let rig = try Self.makeRig(guest: guest)
        let table = 0x4_8000 - UInt64(before)
        rig.ring.describe(at: table, EvilRig.page(0), 66, Self.link, 1)
        rig.ring.describe(at: table + 16, EvilRig.page(1), 1000, Self.last)
        Self.refer(rig, table: table, length: 32)
        expectDelivered(rig)
    }

    @Test("B12: a table that runs into a hole breaks the queue where it is read")
    func intoHole() throws {
        let rig = try Self.makeRig()
        let end = EvilRig.dataAddress + UInt64(EvilRig.dataByteCount)
        rig.ring.describe(at: end - 16, EvilRig.page(0), 20, Self.link, 1)
        Self.refer(rig, table: end - 16, length: 32)
        expectBroken(rig, .range)
    }

    @Test("B12: a table that is nowhere, or wraps, breaks the queue")
    func nowhere() throws {
        for table in [0, 0xf000, 0x5_0000, UInt64.max, UInt64.max - 15, UInt64.max - 31] {
            let rig = try Self.makeRig()
            Self.refer(rig, table: table, length: 32)
            expectBroken(rig, .range, "0x\(String(table, radix: 16))")
        }
    }

    @Test("B03, B04: links inside a table are bounded by the table")
    func linksInside() throws {
        for (next, fault) in [(0, QueueFault.loop), (1, .loop), (2, .next), (65535, .next)] {
            let rig = try Self.makeRig()
            rig.ring.describe(at: Self.table, EvilRig.page(0), 20, Self.link, 1)
            rig.ring.describe(at: Self.table + 16, EvilRig.page(1), 20, Self.link, next)
            Self.refer(rig, length: 32)
            expectBroken(rig, fault, "next \(next)")
        }
    }

    @Test("B13: a readable entry in a table breaks the queue")
    func readableEntry() throws {
        let rig = try Self.makeRig()
        rig.ring.describe(at: Self.table, EvilRig.page(0), 2000, Self.link, 1)
        rig.ring.describe(at: Self.table + 16, EvilRig.page(1), 100, 0)
        Self.refer(rig, length: 32)
        expectBroken(rig, .direction)
    }

    @Test("B14: WRITE on the reference is ignored")
    func writableReference() throws {
        let rig = try Self.makeRig()
        rig.ring.describe(at: Self.table, EvilRig.page(0), 4096, Self.last)
        Self.refer(
            rig, length: 16, flags: DescriptorFlags.indirect | DescriptorFlags.write)
        expectDelivered(rig)
    }
}
