// Indirect tables (catalogue B07 to B12, B14, B31).
import CleaveTestSupport
import CleaveVirtioNet
import Testing

@Suite("Hostile indirect tables")
struct HostileIndirectTests {
    private static let table = EvilRig.page(16)
    private static let last = DescriptorFlags.write
    private static let link = DescriptorFlags.write | DescriptorFlags.next
    private static let indirect = DescriptorFlags.indirect
    private static let end = EvilRig.dataAddress + UInt64(EvilRig.dataByteCount)

    private static func makeRig(
        _ format: RingFormat, features: VirtioFeatures = .indirectDescriptors,
        guest: EvilGuest? = nil
    ) throws -> any ReceiveRig {
        try format.rig(features: features, guest: guest)
    }

    private static func page(_ index: Int, _ length: Int) -> PostedPiece {
        PostedPiece(EvilRig.page(index), length)
    }

    @Test("B07: INDIRECT without the feature breaks the queue", arguments: RingFormat.allCases)
    func withoutFeature(format: RingFormat) throws {
        let rig = try Self.makeRig(format, features: .mergeableBuffers)
        rig.describeTable(Self.table, [Self.page(0, 4096)])
        rig.postTable(Self.table, length: 16)
        expectBroken(rig, .indirect)
    }

    @Test("B07: INDIRECT together with NEXT breaks the queue", arguments: RingFormat.allCases)
    func withNext(format: RingFormat) throws {
        let rig = try Self.makeRig(format)
        rig.describeTable(Self.table, [Self.page(0, 4096)])
        rig.postTable(
            Self.table, length: 16, flags: Self.indirect | DescriptorFlags.next, id: 0)
        rig.post(1)
        expectBroken(rig, .indirect)
    }

    @Test("B08: INDIRECT inside a table breaks the queue; in a packed ring's it means nothing")
    func nested() throws {
        for flags in [Self.indirect, Self.indirect | Self.link] {
            for format in RingFormat.allCases {
                let rig = try Self.makeRig(format)
                rig.describeEntry(
                    0, of: Self.table, EvilRig.page(0), 20, flags: Self.link, next: 1)
                rig.describeEntry(1, of: Self.table, Self.table, 16, flags: flags, next: 0)
                rig.postTable(Self.table, length: 32)
                // The rest of the flags is a readable descriptor, or a writable one of 16.
                switch (format, flags) {
                case (.split, _): expectBroken(rig, .indirect)
                case (.packed, Self.indirect): expectBroken(rig, .direction)
                case (.packed, _):
                    #expect(rig.enqueue([TestFrames.opaque(24)]).fates == [true])
                    #expect(rig.reports == [.init(id: 0, length: 36)])
                }
            }
        }
    }

    @Test("B09: a chain that ends in a table is fine in a split ring only")
    func chainThenTable() throws {
        for format in RingFormat.allCases {
            let rig = try Self.makeRig(format)
            rig.describeTable(Self.table, [Self.page(1, 500), Self.page(2, 4096)])
            rig.post(
                [Self.page(0, 100), PostedPiece(Self.table, 32, flags: Self.indirect)], id: 0)
            if format == .packed {
                expectBroken(rig, .indirect)
                continue
            }
            expectDelivered(rig)
            let found =
                rig.guest.read(EvilRig.page(0) + 12, 88) + rig.guest.read(EvilRig.page(1), 500)
                + rig.guest.read(EvilRig.page(2), 466)
            #expect(found == TestFrames.tcp4(TestFrames.payload(1000)))
        }
    }

    @Test(
        "B10, B31: a table of an impossible length breaks the queue",
        arguments: RingFormat.allCases)
    func lengths(format: RingFormat) throws {
        for length in [0, 1, 15, 17, 31, 16 * 8 + 1, 16 * 9, 0xffff_fff0, 0xffff_ffff] {
            let rig = try Self.makeRig(format)
            rig.describeTable(Self.table, [Self.page(0, 4096)])
            rig.postTable(Self.table, length: length)
            expectBroken(rig, .indirectLength, "\(length)")
        }
    }

    @Test("B10: a table of as many entries as the ring is fine", arguments: RingFormat.allCases)
    func longestTable(format: RingFormat) throws {
        for used in 1...8 {
            let rig = try Self.makeRig(format)
            rig.describeTable(
                Self.table, (0..<used).map { Self.page($0, $0 == used - 1 ? 2000 : 20) })
            // A split ring's chain may end before its table does.
            rig.postTable(Self.table, length: format == .split ? 128 : 16 * used)
            expectDelivered(rig)
        }
    }

    @Test("B11: a table at any address is fine", arguments: RingFormat.allCases)
    func oddAddress(format: RingFormat) throws {
        for offset: UInt64 in 0..<16 {
            let rig = try Self.makeRig(format)
            rig.describeTable(Self.table + offset, [Self.page(0, 66), Self.page(1, 1000)])
            rig.postTable(Self.table + offset, length: 32)
            expectDelivered(rig, [1066], "offset \(offset)")
        }
    }

    @Test("B11: a split ring's table may leave entries out")
    func gaps() throws {
        let rig = try Self.makeRig(.split)
        rig.describeEntry(0, of: Self.table, EvilRig.page(0), 66, flags: Self.link, next: 2)
        rig.describeEntry(2, of: Self.table, EvilRig.page(1), 1000, flags: Self.last, next: 0)
        rig.postTable(Self.table, length: 48)
        expectDelivered(rig)
    }

    @Test(
        "B12: a table over two adjacent regions is read piece by piece",
        arguments: RingFormat.allCases)
    func acrossRegions(format: RingFormat) throws {
        for before: UInt64 in 1...31 {
            let guest = try EvilGuest([(0x1_0000, 0x3_8000), (0x4_8000, 0x1_0000)])
            let rig = try Self.makeRig(format, guest: guest)
            let table = 0x4_8000 - before
            rig.describeTable(table, [Self.page(0, 66), Self.page(1, 1000)])
            rig.postTable(table, length: 32)
            expectDelivered(rig, [1066], "\(before) bytes before the border")
        }
    }

    @Test(
        "B12: a table that runs into a hole breaks the queue where it is read",
        arguments: RingFormat.allCases)
    func intoHole(format: RingFormat) throws {
        let rig = try Self.makeRig(format)
        rig.describeEntry(0, of: Self.end - 16, EvilRig.page(0), 20, flags: Self.link, next: 1)
        rig.postTable(Self.end - 16, length: 32)
        expectBroken(rig, .range)
    }

    @Test(
        "B12: a table that is nowhere, or wraps, breaks the queue", arguments: RingFormat.allCases)
    func nowhere(format: RingFormat) throws {
        for table in [0, 0xf000, 0x5_0000, UInt64.max, UInt64.max - 15, UInt64.max - 31] {
            let rig = try Self.makeRig(format)
            rig.postTable(table, length: 32)
            expectBroken(rig, .range, "0x\(String(table, radix: 16))")
        }
    }

    @Test("B03, B04: links inside a table are bounded by the table")
    func linksInside() throws {
        for (next, fault) in [(0, QueueFault.loop), (1, .loop), (2, .next), (65535, .next)] {
            let rig = try Self.makeRig(.split)
            rig.describeEntry(0, of: Self.table, EvilRig.page(0), 20, flags: Self.link, next: 1)
            rig.describeEntry(
                1, of: Self.table, EvilRig.page(1), 20, flags: Self.link, next: next)
            rig.postTable(Self.table, length: 32)
            expectBroken(rig, fault, "next \(next)")
        }
    }

    @Test("B13: a readable entry in a table breaks the queue", arguments: RingFormat.allCases)
    func readableEntry(format: RingFormat) throws {
        let rig = try Self.makeRig(format)
        rig.describeTable(
            Self.table, [Self.page(0, 2000), PostedPiece(EvilRig.page(1), 100, flags: 0)])
        rig.postTable(Self.table, length: 32)
        expectBroken(rig, .direction)
    }

    @Test("B14: WRITE on the reference is ignored", arguments: RingFormat.allCases)
    func writableReference(format: RingFormat) throws {
        let rig = try Self.makeRig(format)
        rig.describeTable(Self.table, [Self.page(0, 4096)])
        rig.postTable(
            Self.table, length: 16, flags: Self.indirect | DescriptorFlags.write, id: 0)
        expectDelivered(rig)
    }

    @Test("B31: inside a packed ring's table only WRITE counts, and ids do not")
    func oddFlags() throws {
        let rig = try RingFormat.packed.rig(size: 3, features: .indirectDescriptors)
        for (index, flags) in [0xffff, Self.last, Self.last | Self.indirect].enumerated() {
            rig.describeEntry(
                index, of: Self.table, EvilRig.page(index), 500, flags: flags, next: 0xffff)
        }
        rig.postTable(Self.table, length: 48, id: 2)
        rig.post(1)
        let packet = TestFrames.tcp4(TestFrames.payload(1000))
        #expect(rig.enqueue([packet, packet]).fates == [true, true])
        #expect(rig.reports == [.init(id: 2, length: 1066), .init(id: 1, length: 1066)])
        #expect(rig.guest.read(EvilRig.page(2), 66) == [UInt8](packet.suffix(66)))
    }
}
