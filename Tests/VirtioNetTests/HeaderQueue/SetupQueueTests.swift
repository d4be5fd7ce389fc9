// The chain by which a driver sets a header queue up: every field with wrong values, every framing,
// and what a device finds that takes over.
import CleaveHost
import CleaveTestSupport
@_spi(Measure) import CleaveVirtioNet
import Testing

/// A driver that posts requests, right or wrong, over either ring format, and a device with 2 RQs.
private final class SetupRig {
    let guest: EvilGuest
    private(set) var queue: SetupQueue
    private let isPacked: Bool
    private var split: EvilRing
    private var packed: PackedEvilRing
    private var usedIndex: UInt16 = 0
    private var next = 0
    /// Made by the last request that was accepted.
    private(set) var made: HeaderQueue?

    private let features: VirtioFeatures
    /// The index at which the device asks to be kicked, and the next one to be posted.
    var availEvent: UInt16 {
        guest.number(split.usedRing + 4 + UInt64(8 * Self.size), as: UInt16.self)
    }
    var posted: UInt16 { split.posted }
    static let fields: UInt64 = 0x2_0000
    static let control: UInt64 = 0x2_1000
    static let slots: UInt64 = 0x3_0000
    static let returnRing: UInt64 = 0x2_2000
    private static let size = 128

    init(
        _ format: RingFormat, _ guest: EvilGuest? = nil,
        features: VirtioFeatures = .indirectDescriptors
    ) throws {
        self.features = features
        self.guest = try guest ?? EvilGuest()
        isPacked = format == .packed
        split = EvilRing(self.guest, size: Self.size, at: 0x1_0000)
        packed = PackedEvilRing(self.guest, size: Self.size, at: 0x1_4000)
        queue = try Self.queue(
            isPacked ? packed.addresses : split.addresses, self.guest, features)
    }

    private static func queue(
        _ addresses: VirtqueueAddresses, _ guest: EvilGuest, _ features: VirtioFeatures
    ) throws -> SetupQueue {
        try SetupQueue(
            ControlQueueConfiguration(
                virtqueue: addresses, features: features, memory: guest.memory))
    }

    /// Another device takes the ring over.
    func takeOver() throws {
        var addresses = isPacked ? packed.addresses : split.addresses
        addresses.base = queue.base
        queue = try Self.queue(addresses, guest, features)
        made = nil
    }

    struct Piece {
        var address: UInt64
        var length: Int
        var isWritable = true
    }

    /// 32 bytes that ask for 16 slots of 128 bytes, with the tail, for RQ 0.
    static func bytes(_ change: (inout [UInt8]) -> Void = { _ in }) -> [UInt8] {
        var bytes: [UInt8] = [128, 0, 0, 0, 16, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0]
        bytes += [1] + [UInt8](repeating: 0, count: 15)
        change(&bytes)
        return bytes
    }

    /// The chain that goes with them.
    static func pieces(_ count: Int = 32) -> [Piece] {
        [
            Piece(address: fields, length: count, isWritable: false),
            Piece(address: control, length: 256), Piece(address: slots, length: 2048),
        ]
    }

    func post(_ bytes: [UInt8], _ pieces: [Piece], inTable: Bool = false) {
        guest.write(bytes, at: Self.fields)
        var pieces = pieces
        if inTable {
            for (index, piece) in pieces.enumerated() {
                let isLast = index + 1 == pieces.count
                let flags = direction(piece) | (isLast || isPacked ? 0 : DescriptorFlags.next)
                split.describe(
                    at: 0x2_8000 + UInt64(16 * index), piece.address, piece.length, flags,
                    isPacked ? 0 : index + 1)
                // There the flags are the last two bytes.
                if isPacked { guest.put(flags, at: 0x2_8000 + UInt64(16 * index) + 14) }
            }
            pieces = [Piece(address: 0x2_8000, length: 16 * pieces.count)]
        }
        func flags(of index: Int) -> UInt16 {
            let link = index + 1 < pieces.count ? DescriptorFlags.next : 0
            return (inTable ? DescriptorFlags.indirect : direction(pieces[index])) | link
        }
        if isPacked {
            packed.post(
                pieces.indices.map {
                    PostedPiece(
                        pieces[$0].address, pieces[$0].length,
                        flags: flags(of: $0) & ~DescriptorFlags.next)
                }, id: 5)
        } else {
            for (index, piece) in pieces.enumerated() {
                split.describe(
                    (next + index) % Self.size, piece.address, piece.length,
                    flags: flags(of: index),
                    next: (next + index + 1) % Self.size)
            }
            split.post(next % Self.size)
            next += pieces.count
        }
    }

    private func direction(_ piece: Piece) -> UInt16 {
        piece.isWritable ? DescriptorFlags.write : 0
    }

    /// Takes what is there: `made`, the name of the refusal, `nothing`, or how the ring is broken.
    func serve() -> String {
        guard let taken = queue.take() else {
            return queue.fault == .none ? "nothing" : "broken: \(queue.fault.name)"
        }
        do throws(HeaderQueueRefusal) {
            made = try taken.get().makeQueue(in: guest.memory, rqLimit: 2)
            return "made"
        } catch {
            _ = queue.refuse(error)
            return error.name
        }
    }

    /// Lengths of the chains that came back since the last call.
    func takeUsed() -> [Int] {
        if isPacked {
            defer { usedIndex = UInt16(packed.usedCount) }
            return (Int(usedIndex)..<packed.usedCount).map { index in
                packed.used(packed.lists[index])?.length ?? -1
            }
        }
        defer { usedIndex = split.usedIndex }
        return split.used(since: usedIndex).map { Int($0.length) }
    }

    func control(_ offset: Int) -> UInt32 {
        guest.number(Self.control + UInt64(offset), as: UInt32.self)
    }

    func clearControl() { guest.fill(Self.control, 256, with: 0) }
}

@Suite("Setting a header queue up by a virtqueue")
struct SetupQueueTests {
    /// Bytes at an offset of the fields, and what becomes of them.
    private static let wrongFields: [(String, Int, [UInt8], HeaderQueueRefusal)] = [
        ("slot size 0", 0, [0, 0, 0, 0], .geometry), ("1", 0, [1], .geometry),
        ("32", 0, [32], .geometry), ("63", 0, [63], .geometry), ("65", 0, [65], .geometry),
        ("96", 0, [96], .geometry), ("2048", 0, [0, 8], .geometry),
        ("2^31", 0, [0, 0, 0, 0x80], .geometry), ("all ones", 0, [255, 255, 255, 255], .geometry),
        ("slot count 0", 4, [0], .geometry), ("3", 4, [3], .geometry), ("24", 4, [24], .geometry),
        ("65536", 4, [0, 0, 1, 0], .geometry), ("2^31", 4, [0, 0, 0, 0x80], .geometry),
        ("all ones", 4, [255, 255, 255, 255], .geometry),
        ("slot return 3", 8, [3], .slotReturn), ("0x100", 8, [0, 1], .slotReturn),
        ("groups of 0", 8, [2], .geometry),
        ("groups of 3", 8, [2, 0, 1, 0, 3], .geometry),
        ("groups of more than all", 8, [2, 0, 1, 0, 0, 0, 1], .geometry),
        ("groups of 2^31", 8, [2, 0, 1, 0, 0, 0, 0, 0x80], .geometry),
        ("groups of no RQ", 8, [2, 0, 1, 0, 2, 0, 0, 0, 0], .mask),
        ("0xffff", 8, [255, 255], .slotReturn),
        ("report 0", 10, [0], .report), ("3", 10, [3], .report), ("0x101", 10, [1, 1], .report),
        ("0xffff", 10, [255, 255], .report),
        ("group size", 12, [1], .geometry), ("group size", 15, [0x80], .geometry),
        ("no RQ", 16, [0], .mask), ("RQ 2 of 2", 16, [4], .mask), ("RQ 0 and 2", 16, [5], .mask),
        ("RQ 63", 23, [0x80], .mask), ("RQ 64", 24, [1], .mask), ("RQ 127", 31, [0x80], .mask),
        ("all RQs", 16, [UInt8](repeating: 255, count: 16), .mask),
    ]

    @Test("D02 A field out of range is refused by its reason", arguments: RingFormat.allCases)
    func fields(_ format: RingFormat) throws {
        let rig = try SetupRig(format)
        for (name, offset, value, reason) in Self.wrongFields {
            rig.clearControl()
            let bytes = SetupRig.bytes {
                $0.replaceSubrange(offset..<offset + value.count, with: value)
            }
            rig.post(bytes, SetupRig.pieces())
            let image = rig.guest.image()
            #expect(rig.serve() == reason.name, "\(name)")
            #expect(rig.takeUsed() == [0], "\(name)")
            #expect(rig.control(HeaderQueueLayout.statusOffset) == 2, "\(name)")
            #expect(rig.control(HeaderQueueLayout.reasonOffset) == reason.rawValue, "\(name)")
            // Status and reason, and the rings.
            image.accept(SetupRig.control + 132, 8)
            image.accept(0x1_0000, 0x8000)
            #expect(image.isUnchanged, "\(name)")
            // The ring goes on.
            rig.clearControl()
            rig.post(SetupRig.bytes(), SetupRig.pieces())
            #expect(rig.serve() == "made")
            #expect(rig.serve() == "nothing" && rig.takeUsed() == [])
            #expect(rig.control(HeaderQueueLayout.statusOffset) == 0)
            // Another device: it takes the same chain, and gives it back by a refusal.
            rig.made?.leave()
            _ = rig.queue.refuse(.inUse)
            #expect(rig.takeUsed() == [0])
        }
    }

    @Test("A request may be for the largest and for the smallest queue, and for any RQ")
    func extremes() throws {
        let guest = try EvilGuest([(0x1_0000, 1 << 18), (1 << 32, 1 << 25)])
        for (sizeByte, count) in [(0, 32768), (64, 1), (4, 1)] as [(UInt8, Int)] {
            let rig = try SetupRig(.split, guest)
            rig.clearControl()
            let slotSize = sizeByte == 0 ? 256 : sizeByte == 4 ? 1024 : 64
            let bytes = SetupRig.bytes {
                $0.replaceSubrange(0..<2, with: [UInt8(slotSize & 255), UInt8(slotSize >> 8)])
                $0.replaceSubrange(4..<6, with: [UInt8(count & 255), UInt8(count >> 8)])
                $0[8] = 1
                $0[16] = 3
            }
            rig.post(
                bytes,
                [
                    .init(address: SetupRig.fields, length: 32, isWritable: false),
                    .init(address: SetupRig.control, length: 256),
                    .init(address: 1 << 32, length: slotSize * count),
                    .init(address: 1 << 32 + 1 << 24, length: 4 * count),
                ])
            #expect(rig.serve() == "made")
            #expect(rig.made?.layout.slotCount == count && rig.made?.layout.slotSize == slotSize)
            #expect(rig.made?.layout.slotReturn == .ring)
        }
    }

    @Test("Groups need as many rings as there are RQs, each of its size", arguments: [1, 4, 16])
    func groups(size: Int) throws {
        let stride = 64 + (4 * 16 / size + 63) / 64 * 64
        for (mask, rings) in [(UInt8(1), 1), (2, 1), (3, 2)] {
            for (byteCount, outcome) in [
                (rings * stride, "made"), (rings * stride - 4, "chain"),
                ((rings + 1) * stride, "chain"), (rings * stride + 64, "chain"),
            ] {
                let rig = try SetupRig(.split)
                let bytes = SetupRig.bytes {
                    $0[8] = 2
                    $0[12] = UInt8(size)
                    $0[16] = mask
                }
                let ring = SetupRig.Piece(address: SetupRig.slots + 2048, length: byteCount)
                rig.post(bytes, SetupRig.pieces() + [ring])
                #expect(rig.serve() == outcome, "\(mask) \(byteCount)")
                if outcome != "made" { continue }
                let made = try #require(rig.made)
                #expect(made.layout.slotReturn == .groups && made.layout.groupSize == size)
                #expect(made.layout.groupRingCount == rings)
                // RQ 1 alone has the first ring.
                let request = try #require(HeaderQueueRequest(fields: bytes))
                #expect(request.returnRing(ofRQ: 1) == (mask == 3 ? 1 : 0))
                made.leave()
                #expect(rig.control(HeaderQueueLayout.headOffset) == 1)
            }
        }
    }

    /// A chain, and what becomes of it.
    private static let chains: [(String, [SetupRig.Piece], String)] = {
        typealias Piece = SetupRig.Piece
        let fields = Piece(address: SetupRig.fields, length: 32, isWritable: false)
        let control = Piece(address: SetupRig.control, length: 256)
        let slots = Piece(address: SetupRig.slots, length: 2048)
        func with(_ piece: Piece, _ change: (inout Piece) -> Void) -> Piece {
            var piece = piece
            change(&piece)
            return piece
        }
        return [
            ("31 bytes", [with(fields) { $0.length = 31 }, control, slots], "chain"),
            ("33 bytes", [with(fields) { $0.length = 33 }, control, slots], "chain"),
            ("nothing to read", [control, slots], "chain"),
            ("nothing to write", [fields], "chain"),
            ("no slots", [fields, control], "chain"),
            ("a ring that was not asked for", [fields, control, slots, control], "chain"),
            ("control of 255", [fields, with(control) { $0.length = 255 }, slots], "chain"),
            ("control of 257", [fields, with(control) { $0.length = 257 }, slots], "chain"),
            ("slots of 2047", [fields, control, with(slots) { $0.length = 2047 }], "chain"),
            ("slots of 4096", [fields, control, with(slots) { $0.length = 4096 }], "chain"),
            ("slots first", [fields, slots, control], "memory"),
            (
                "slots in two",
                [
                    fields, control, with(slots) { $0.length = 1024 },
                    with(slots) { ($0.address, $0.length) = ($0.address + 1024, 1024) },
                ], "memory"
            ),
            ("control at 64", [fields, with(control) { $0.address += 64 }, slots], "alignment"),
            ("control at 2", [fields, with(control) { $0.address += 2 }, slots], "alignment"),
            ("slots at 32", [fields, control, with(slots) { $0.address += 32 }], "alignment"),
            (
                "one piece for each byte, and many more",
                (0..<100).map { _ in with(fields) { $0.length = 1 } } + [control, slots], "chain"
            ),
            (
                "fields in 32 pieces",
                (0..<32).map { index in
                    with(fields) { ($0.address, $0.length) = ($0.address + UInt64(index), 1) }
                } + [control, slots], "made"
            ),
            (
                "empty pieces between",
                [with(fields) { $0.length = 0 }, fields, with(control) { $0.length = 0 }, control]
                    + [with(slots) { ($0.address, $0.length) = (0xdead_0000, 0) }, slots], "made"
            ),
            (
                "slots over the control words",
                [fields, control, with(control) { $0.length = 2048 }],
                "made"
            ),
            (
                "slots over the rings",
                [
                    fields, control,
                    with(slots) {
                        $0.address = 0x1_0000
                    },
                ], "made"
            ),
            (
                "slots outside", [fields, control, with(slots) { $0.address = 0x9_0000 }],
                "broken: range"
            ),
            (
                "slots past the end", [fields, control, with(slots) { $0.address = 0x4_fc00 }],
                "broken: range"
            ),
            (
                "slots around the end of all addresses",
                [fields, control, with(slots) { $0.address = 0xffff_ffff_ffff_ff00 }],
                "broken: range"
            ),
            (
                "control outside", [fields, with(control) { $0.address = 0x80 }, slots],
                "broken: range"
            ),
            ("to read after to write", [fields, control, fields, slots], "broken: direction"),
        ]
    }()

    @Test(
        "A chain of another form is refused, or breaks the ring as any chain does",
        arguments: RingFormat.allCases)
    func chains(_ format: RingFormat) throws {
        for (name, pieces, outcome) in Self.chains {
            for inTable in [false, true] {
                let rig = try SetupRig(format)
                rig.post(SetupRig.bytes(), pieces, inTable: inTable)
                #expect(rig.serve() == outcome, "\(name), table: \(inTable)")
                let isBack = !outcome.hasPrefix("broken") && outcome != "made"
                #expect(rig.takeUsed() == (isBack ? [0] : []), "\(name)")
                #expect(rig.guest.bandsAreIntact)
                if outcome == "alignment" {
                    let control = pieces[1].address
                    let status = rig.guest.number(control + 132, as: UInt32.self)
                    #expect(status == (control % 4 == 0 ? 2 : 0), "\(name)")
                }
                if outcome.hasPrefix("broken") { #expect(rig.serve() == outcome) }
            }
        }
    }

    @Test("D02 An area over two regions is refused, wherever the border is")
    func regions() throws {
        // Adjacent for the guest, far apart here.
        let border: UInt64 = 0x3_0400
        let guest = try EvilGuest([
            (0x1_0000, Int(border - 0x1_0000)), (border, 0x1_0000),
        ])
        for format in RingFormat.allCases {
            let rig = try SetupRig(format, guest)
            rig.clearControl()
            rig.post(SetupRig.bytes(), SetupRig.pieces())
            #expect(rig.serve() == "memory")
            #expect(rig.control(HeaderQueueLayout.reasonOffset) == 6)
            #expect(guest.bandsAreIntact)
            // By a message the addresses say it all.
            var request = try #require(HeaderQueueRequest(fields: SetupRig.bytes()))
            request.control = GuestAddress(SetupRig.control)
            for (slots, expected) in [
                (border - 2048, nil), (border - 1984, .memory), (border, nil),
                (border - 64, .memory),
                (0x5_0000, .memory), (UInt64.max - 63, .memory), (border - 2047, .alignment),
            ] as [(UInt64, HeaderQueueRefusal?)] {
                request.slots = GuestAddress(slots)
                var found: HeaderQueueRefusal?
                do throws(HeaderQueueRefusal) {
                    _ = try request.layout(in: guest.memory, rqLimit: 1)
                } catch { found = error }
                #expect(found == expected, "slots at \(slots)")
            }
        }
    }

    @Test("Loops and false heads break the ring")
    func loop() throws {
        let guest = try EvilGuest()
        var ring = EvilRing(guest, size: 8, at: 0x1_0000)
        let queue = try SetupQueue(
            ControlQueueConfiguration(
                virtqueue: ring.addresses, features: [], memory: guest.memory))
        ring.describe(0, SetupRig.fields, 32, flags: DescriptorFlags.next, next: 1)
        ring.describe(
            1, SetupRig.control, 256, flags: DescriptorFlags.next | DescriptorFlags.write, next: 1)
        ring.post(0)
        #expect(queue.take() == nil && queue.fault == .loop)
        #expect(queue.refuse(.chain) == [] && ring.usedIndex == 0)
    }

    @Test("With an event index the driver kicks for each chain that it offers")
    func kicks() throws {
        let rig = try SetupRig(.split, features: [.indirectDescriptors, .eventIndex])
        for number in 0..<5 {
            #expect(rig.availEvent == rig.posted, "chain \(number)")
            rig.post(SetupRig.bytes { $0[12] = 1 }, SetupRig.pieces())
            #expect(rig.serve() != "made" && rig.takeUsed() == [0])
        }
        #expect(rig.availEvent == rig.posted)
        rig.clearControl()
        rig.post(SetupRig.bytes(), SetupRig.pieces())
        #expect(rig.serve() == "made")
        _ = rig.queue.refuse(.lost)
        #expect(rig.availEvent == rig.posted)
    }

    @Test("A second chain waits until the first has come back", arguments: RingFormat.allCases)
    func second(_ format: RingFormat) throws {
        let rig = try SetupRig(format)
        rig.post(SetupRig.bytes(), SetupRig.pieces())
        #expect(rig.serve() == "made")
        rig.post(SetupRig.bytes(), SetupRig.pieces())
        for _ in 0..<3 { #expect(rig.serve() == "nothing") }
        #expect(rig.takeUsed() == [])
        _ = rig.queue.refuse(.inUse)
        #expect(rig.takeUsed() == [0])
        rig.clearControl()
        #expect(rig.serve() == "made")
    }

    @Test(
        "A device that takes over goes on where the last one stopped",
        arguments: RingFormat.allCases)
    func takeOver(_ format: RingFormat) throws {
        let rig = try SetupRig(format)
        rig.guest.put(16 as UInt32, at: SetupRig.control)
        rig.post(SetupRig.bytes(), SetupRig.pieces())
        #expect(rig.serve() == "made")
        #expect(rig.control(HeaderQueueLayout.takenOffset) == 1)
        var base: UInt32 = 0
        for round in 1...50 as ClosedRange<UInt32> {
            let queue = try #require(rig.made)
            // Of 16 free slots, 5 are reported, and the driver gives them back.
            #expect(queue.freeCount == 16)
            #expect(queue.claim(5).count == 5)
            base &+= 5
            rig.guest.put(16 + base, at: SetupRig.control)
            queue.leave()
            #expect(rig.control(HeaderQueueLayout.statusOffset) == HeaderQueueStatus.stopped)
            #expect(rig.control(HeaderQueueLayout.headOffset) == base)
            // The same chain is still there.
            try rig.takeOver()
            #expect(rig.serve() == "made", "round \(round)")
            #expect(rig.control(HeaderQueueLayout.statusOffset) == HeaderQueueStatus.working)
            #expect(rig.made?.base == base)
        }
        // One that is killed does not stop: what it had claimed is lost.
        try rig.takeOver()
        #expect(rig.serve() == "lost")
        #expect(rig.takeUsed() == [0])
        #expect(rig.control(HeaderQueueLayout.statusOffset) == HeaderQueueStatus.broken)
        #expect(rig.control(HeaderQueueLayout.reasonOffset) == 9)
        // The driver begins anew.
        rig.clearControl()
        rig.guest.put(16 as UInt32, at: SetupRig.control)
        rig.post(SetupRig.bytes(), SetupRig.pieces())
        #expect(rig.serve() == "made" && rig.made?.freeCount == 16)
    }

    @Test("D01 A stopped queue with a head that lies is broken at the first claim")
    func lyingHead() throws {
        let rig = try SetupRig(.split)
        for head in [17, 0x8000_0000, 0xffff_ffef] as [UInt32] {
            rig.clearControl()
            rig.guest.put(head, at: SetupRig.control + 128)
            rig.guest.put(HeaderQueueStatus.stopped, at: SetupRig.control + 132)
            rig.guest.put(head &- 1, at: SetupRig.control)
            rig.post(SetupRig.bytes(), SetupRig.pieces())
            #expect(rig.serve() == "made")
            let queue = try #require(rig.made)
            #expect(queue.claim(1).count == 0 && queue.isBroken)
            #expect(!queue.wantsReset)
            rig.guest.put(1 as UInt32, at: SetupRig.control + 4)
            #expect(queue.wantsReset)
            queue.reset()
            #expect(!queue.isBroken && queue.freeCount == 0 && !queue.wantsReset)
            rig.guest.put(head &- 1 &+ 16, at: SetupRig.control)
            #expect(queue.claim(20).count == 16)
            queue.leave()
            _ = rig.queue.refuse(.inUse)
        }
    }

    @Test("A request's bytes are what is read from them")
    func roundTrip() throws {
        let layout = HeaderQueueLayout(
            base: GuestAddress(0x1000), control: GuestAddress(0x2000), slotSize: 256,
            slotCount: 4096, returnRing: GuestAddress(0x3000))
        let request = HeaderQueueRequest(layout, report: .netHeader, rqs: [0, 5, 64, 127])
        #expect(request.fields.count == HeaderQueueRequest.byteCount)
        var read = try #require(HeaderQueueRequest(fields: request.fields))
        (read.control, read.slots, read.returnRing) = (
            layout.control, layout.base, GuestAddress(0x3000)
        )
        #expect(read == request && read.rqs == [0, 5, 64, 127])
        #expect(HeaderQueueRequest(fields: Array(request.fields.dropLast())) == nil)
    }
}
