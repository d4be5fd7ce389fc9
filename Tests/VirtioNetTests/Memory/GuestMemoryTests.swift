// Translation at every border, against a twin that compares whole ranges in plain words.
import CleaveHost
import CleaveTestSupport
import Testing

@testable import CleaveVirtioNet

@Suite("Guest memory")
struct GuestMemoryTests {
    /// Adjacent regions, a hole, a region of one byte, and one that ends with the last address
    /// but one.
    static let layout: [(base: UInt64, byteCount: Int)] = [
        (0x1000, 0x100), (0x1100, 0x40), (0x2000, 1), (0, 0x20), (UInt64.max - 0x80, 0x80),
    ]

    /// Where `count` bytes lie, found without sums that could wrap.
    private static func naive(
        _ guest: EvilGuest, _ address: UInt64, _ count: UInt64
    ) -> UnsafeMutableRawPointer? {
        for region in guest.regions where region.base <= address {
            let offset = address - region.base
            let size = UInt64(region.byteCount)
            if offset < size && count <= size - offset { return guest.pointer(address) }
        }
        return nil
    }

    @Test("translate finds exactly the ranges inside one region, at every border")
    func borders() throws {
        let guest = try EvilGuest(Self.layout)
        var cache = guest.memory.cache
        var addresses: [UInt64] = [UInt64.max, UInt64.max - 1, 0x8000_0000_0000_0000]
        for region in Self.layout {
            for border in [region.base, region.base &+ UInt64(region.byteCount)] {
                addresses += (0...4).flatMap { [border &+ $0, border &- $0] }
            }
        }
        var counts: [UInt64] = [0, 1, 2, 0x1f, 0x20, 0x3f, 0x40, 0x41, 0x7f, 0x80, 0x81]
        counts += [0xff, 0x100, 0x101, 0x140, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff]
        try withEvery(Axis("address", addresses), Axis("count", counts)) { address, count in
            let expected = Self.naive(guest, address, count)
            let found = guest.memory.translate(GuestAddress(address), byteCount: Int(count))
            try #require(found == expected)
            try #require(cache.translate(address, UInt32(count)) == expected)
        }
    }

    @Test("translate refuses counts that are negative or wrap")
    func wildCounts() throws {
        let guest = try EvilGuest(Self.layout)
        for count in [-1, Int.min, Int.max] {
            let found = guest.memory.translate(GuestAddress(0x1000), byteCount: count)
            #expect(found == nil, "\(count)")
        }
    }

    @Test("The cache answers alike whatever it found last")
    func cacheOrder() throws {
        let guest = try EvilGuest(Self.layout)
        var cache = guest.memory.cache
        var random = SeededRandom(seed: 7)
        for _ in 0..<20_000 {
            let region = random.pick(Self.layout)
            let address = region.base &+ UInt64(random.int(0...region.byteCount + 8)) &- 4
            let count = UInt64(random.int(0...region.byteCount + 8))
            try #require(
                cache.translate(address, UInt32(count)) == Self.naive(guest, address, count))
        }
    }

    @Test("prefix gives the bytes up to a region's end and no more")
    func prefixes() throws {
        let guest = try EvilGuest(Self.layout)
        let cache = guest.memory.cache
        let addresses = Self.layout.flatMap { region in
            (-2...2).flatMap { offset in
                [region.base, region.base &+ UInt64(region.byteCount)].map {
                    $0 &+ UInt64(bitPattern: Int64(offset))
                }
            }
        }
        try withEvery(Axis("address", addresses), Axis("count", [1, 2, 63, 64, 65, 300])) {
            address, count in
            let expected = (1...UInt64(count)).last { Self.naive(guest, address, $0) != nil }
            let found = cache.prefix(address, UInt32(count))
            try #require(found.map { UInt64($0.byteCount) } == expected)
            if let found { try #require(found.pointer == guest.pointer(address)) }
        }
    }

    @Test("A range over adjacent regions is in no region")
    func adjacentRegionsStayApart() throws {
        let guest = try EvilGuest(Self.layout)
        #expect(guest.memory.translate(GuestAddress(0x10ff), byteCount: 1) != nil)
        #expect(guest.memory.translate(GuestAddress(0x10ff), byteCount: 2) == nil)
        #expect(guest.memory.translate(GuestAddress(0x1100), byteCount: 0x40) != nil)
    }

    @Test(
        "A table that cannot be is refused with a sentence",
        arguments: [
            ([], "guest memory needs 1 to 64 regions, got 0"),
            ((0..<65).map { (UInt64($0) * 16, 16) }, "guest memory needs 1 to 64 regions, got 65"),
            ([(0x1000, 0)], "memory region 0 is empty, unmapped or wraps around"),
            ([(0, 16), (0x1000, 0)], "memory region 1 is empty, unmapped or wraps around"),
            ([(UInt64.max - 15, 16)], "memory region 0 is empty, unmapped or wraps around"),
            ([(UInt64.max, 2)], "memory region 0 is empty, unmapped or wraps around"),
            ([(0x1000, 16), (0x1000, 16)], "memory regions 0 and 1 overlap"),
            ([(0x1000, 16), (0x2000, 1), (0x100f, 16)], "memory regions 0 and 2 overlap"),
            ([(0x1000, 16), (0xff1, 16)], "memory regions 0 and 1 overlap"),
            ([(0x1000, 64), (0x1010, 4)], "memory regions 0 and 1 overlap"),
        ] as [([(UInt64, Int)], String)])
    func refusedTables(table: [(UInt64, Int)], sentence: String) throws {
        var bytes = [UInt8](repeating: 0, count: 64)
        let refusal = bytes.withUnsafeMutableBytes { host in
            #expect(throws: SetupError.self) {
                try GuestMemory(
                    regions: table.map {
                        MemoryRegion(
                            guestBase: GuestAddress($0.0),
                            host: host.baseAddress.unsafelyUnwrapped, byteCount: $0.1)
                    })
            }
        }
        #expect(refusal?.description == sentence)
    }

    @Test("64 regions are taken, and each is found")
    func manyRegions() throws {
        let guest = try EvilGuest((0..<64).map { (UInt64($0) << 20, 16) })
        for index in 0..<64 {
            let address = UInt64(index) << 20
            let found = guest.memory.translate(GuestAddress(address), byteCount: 16)
            #expect(found == guest.pointer(address))
        }
    }
}
