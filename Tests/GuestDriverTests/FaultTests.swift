// A device that lies in its used ring, its net headers or its slots: the driver names what is
// wrong, stops there, and hands out nothing that lies outside the buffers it posted.
import CleaveGuestDriver
import CleaveHost
import CleaveTestSupport
import CleaveVirtioNet
import Testing

/// One lie: how the device uses the chains that were posted, and what must result.
struct Lie: CustomTestStringConvertible, Sendable {
    let testDescription: String
    var method = RxMethod.whole
    var shape = BufferShape.mergeable(bufferByteCount: 64)
    var features: VirtioFeatures = []
    /// Packets before the lie that are still harvested.
    var harvested = 0
    let fault: DriverFault
    let tell: @Sendable (Rig, [PostedChain]) -> Void
}

private let chained = BufferShape.chained(bufferByteCount: 64, packetByteCount: 100)
private let netHeader = RxMethod.headerQueue(.netHeader)
private let usedLength = RxMethod.headerQueue(.usedLength)

private let usedRingLies: [Lie] = [
    Lie(testDescription: "id beyond the ring", fault: .usedID) { rig, _ in
        rig.device.use(id: 4, byteCount: 12)
    },
    Lie(testDescription: "id of all ones", fault: .usedID) { rig, _ in
        rig.device.use(id: .max, byteCount: 12)
    },
    Lie(testDescription: "a slot where none is reported", fault: .usedLength) { rig, chains in
        chains[0].write(netHeaderBytes())
        rig.device.use(chains[0], byteCount: 12, slot: 0)
    },
    Lie(testDescription: "the same id twice", harvested: 1, fault: .usedID) { rig, chains in
        chains[0].write(netHeaderBytes())
        rig.device.use(chains[0], byteCount: 12)
        rig.device.use(chains[0], byteCount: 12)
    },
    Lie(testDescription: "the middle of a chain", shape: chained, fault: .usedID) { rig, _ in
        rig.device.use(id: 1, byteCount: 12)
    },
    Lie(testDescription: "a chain beyond the last", shape: chained, fault: .usedID) { rig, _ in
        rig.device.use(id: 4, byteCount: 12)
    },
    Lie(testDescription: "one byte more than the buffer", fault: .usedLength) { rig, chains in
        chains[0].write(netHeaderBytes())
        rig.device.use(chains[0], byteCount: 65)
    },
    Lie(testDescription: "a length of all ones", fault: .usedLength) { rig, chains in
        chains[0].write(netHeaderBytes())
        rig.device.use(id: UInt32(chains[0].head), byteCount: .max)
    },
    Lie(testDescription: "more than a chain", shape: chained, fault: .usedLength) { rig, chains in
        rig.device.use(chains[0], byteCount: 129)
    },
    Lie(testDescription: "less than a net header", fault: .usedLength) { rig, chains in
        rig.device.use(chains[0], byteCount: 11)
    },
    Lie(
        testDescription: "less than a long net header", features: .hashReport, fault: .usedLength
    ) { rig, chains in rig.device.use(chains[0], byteCount: 19) },
    Lie(
        testDescription: "less than a net header and its tail", method: netHeader,
        fault: .usedLength
    ) { rig, chains in rig.device.use(chains[0], byteCount: 19) },
    Lie(
        testDescription: "less than a net header, unsplit", method: usedLength,
        fault: .usedLength
    ) { rig, chains in rig.device.use(chains[0], byteCount: 11) },
    Lie(
        testDescription: "an id above the ring's", method: usedLength, fault: .usedID
    ) { rig, chains in
        rig.fillSlot(0, netHeaderBytes(hdrLen: 20))
        rig.device.use(id: UInt32(chains[0].head) | 1 << 16, byteCount: 1 << 31 | 10)
    },
    Lie(
        testDescription: "one byte more than the buffer beside a slot", method: usedLength,
        fault: .usedLength
    ) { rig, chains in
        rig.fillSlot(0, netHeaderBytes(hdrLen: 20))
        rig.device.use(chains[0], byteCount: 65, slot: 0)
    },
]

private let mergeLies: [Lie] = [
    Lie(testDescription: "a packet of 0 buffers", fault: .numBuffers) { rig, chains in
        chains[0].write(netHeaderBytes(numBuffers: 0))
        rig.device.use(chains[0], byteCount: 20)
    },
    Lie(testDescription: "more buffers than are visible", fault: .numBuffers) { rig, chains in
        chains[0].write(netHeaderBytes(numBuffers: 3))
        rig.device.use(chains[0], byteCount: 64)
        rig.device.use(chains[1], byteCount: 64)
    },
    Lie(testDescription: "65535 buffers", fault: .numBuffers) { rig, chains in
        chains[0].write(netHeaderBytes(numBuffers: 65535))
        rig.device.use(chains[0], byteCount: 64)
    },
    Lie(testDescription: "a second buffer that is the first", fault: .usedID) { rig, chains in
        chains[0].write(netHeaderBytes(numBuffers: 2))
        rig.device.use(chains[0], byteCount: 64)
        rig.device.use(chains[0], byteCount: 64)
    },
    Lie(testDescription: "a second buffer too long", fault: .usedLength) { rig, chains in
        chains[0].write(netHeaderBytes(numBuffers: 2))
        rig.device.use(chains[0], byteCount: 64)
        rig.device.use(chains[1], byteCount: 65)
    },
    Lie(
        testDescription: "a slot in a second buffer", method: usedLength, fault: .usedLength
    ) { rig, chains in
        rig.fillSlot(0, netHeaderBytes(hdrLen: 20, numBuffers: 2))
        rig.device.use(chains[0], byteCount: 64, slot: 0)
        rig.device.use(chains[1], byteCount: 64, slot: 1)
    },
    Lie(
        testDescription: "0 buffers, said in a slot", method: usedLength, fault: .numBuffers
    ) { rig, chains in
        rig.fillSlot(3, netHeaderBytes(hdrLen: 20, numBuffers: 0))
        rig.device.use(chains[0], byteCount: 10, slot: 3)
    },
]

private let slotLies: [Lie] = [
    Lie(testDescription: "a slot beyond the last", method: usedLength, fault: .slot) {
        $0.device.use($1[0], byteCount: 10, slot: 8)
    },
    Lie(testDescription: "the highest slot there can be", method: usedLength, fault: .slot) {
        $0.device.use($1[0], byteCount: 10, slot: 32767)
    },
    Lie(testDescription: "no headers in the slot", method: usedLength, fault: .slot) {
        $0.fillSlot(2, netHeaderBytes(hdrLen: 0))
        $0.device.use($1[0], byteCount: 10, slot: 2)
    },
    Lie(testDescription: "headers beyond the slot", method: usedLength, fault: .slot) {
        $0.fillSlot(2, netHeaderBytes(hdrLen: 64 - 12 + 1))
        $0.device.use($1[0], byteCount: 10, slot: 2)
    },
    Lie(
        testDescription: "headers beyond the slot behind a long net header", method: usedLength,
        features: .hashReport, fault: .slot
    ) {
        $0.fillSlot(2, netHeaderBytes(hdrLen: 64 - 20 + 1, count: 20))
        $0.device.use($1[0], byteCount: 10, slot: 2)
    },
    Lie(testDescription: "headers of all ones", method: usedLength, fault: .slot) {
        $0.fillSlot(2, netHeaderBytes(hdrLen: 0xffff))
        $0.device.use($1[0], byteCount: 10, slot: 2)
    },
    Lie(
        testDescription: "a length of all ones: the highest slot, 65535 bytes", method: usedLength,
        fault: .slot
    ) {
        $0.device.use(id: UInt32($1[0].head), byteCount: .max)
    },
    Lie(testDescription: "tail: a slot beyond the last", method: netHeader, fault: .slot) {
        $1[0].write(netHeaderBytes() + splitReportBytes(slot: 8, headerLength: 20))
        $0.device.use($1[0], byteCount: 30)
    },
    Lie(testDescription: "tail: a slot of all ones", method: netHeader, fault: .slot) {
        $1[0].write(netHeaderBytes() + splitReportBytes(slot: .max, headerLength: 20))
        $0.device.use($1[0], byteCount: 30)
    },
    Lie(testDescription: "tail: no headers", method: netHeader, fault: .slot) {
        $1[0].write(netHeaderBytes() + splitReportBytes(slot: 1, headerLength: 0))
        $0.device.use($1[0], byteCount: 30)
    },
    Lie(testDescription: "tail: headers beyond the slot", method: netHeader, fault: .slot) {
        $1[0].write(netHeaderBytes() + splitReportBytes(slot: 1, headerLength: 65))
        $0.device.use($1[0], byteCount: 30)
    },
]

@Suite("A driver before a device that lies")
struct FaultTests {
    private func tell(_ lie: Lie) throws {
        let rig = try Rig(
            ringSize: 4, shape: lie.shape, method: lie.method, features: lie.features)
        rig.driver.refill()
        let chains = rig.device.takeAll()
        lie.tell(rig, chains)
        rig.device.publish()
        #expect(rig.driver.harvest() == lie.harvested)
        #expect(rig.driver.fault == lie.fault)
        // What was harvested lies inside what was posted.
        for packet in rig.driver.packets {
            for index in 0..<Int(packet.pieceCount) {
                let piece = rig.driver.pieces[Int(packet.firstPiece) + index]
                let isInside = chains.flatMap(\.pieces).contains {
                    piece.pointer >= UnsafeRawPointer($0.pointer)
                        && piece.pointer + Int(piece.byteCount) <= $0.pointer + $0.byteCount
                }
                #expect(isInside)
            }
        }
        // It stops there, and still releases what it holds.
        rig.driver.finish()
        #expect(rig.driver.harvest() == 0)
        #expect(rig.driver.fault == lie.fault)
        #expect(rig.driver.harvestedCount == UInt64(lie.harvested))
    }

    @Test("Used ring", arguments: usedRingLies) func usedRing(_ lie: Lie) throws { try tell(lie) }
    @Test("Buffers of a packet", arguments: mergeLies) func merge(_ lie: Lie) throws {
        try tell(lie)
    }
    @Test("Slots", arguments: slotLies) func slots(_ lie: Lie) throws { try tell(lie) }

    @Test("A used index that jumps gives what was posted, then a fault")
    func indexJump() throws {
        let rig = try Rig(ringSize: 4, shape: .mergeable(bufferByteCount: 64))
        rig.driver.refill()
        for chain in rig.device.takeAll() {
            chain.write(netHeaderBytes())
            rig.device.use(chain, byteCount: 12)
        }
        rig.device.publish(index: 40_000)
        #expect(rig.driver.harvest() == 4)
        #expect(rig.driver.fault == .usedID)
        #expect(rig.driver.packets.count == 4)
    }

    @Test("Limits that are no lies: the last slot, headers that fill it, a full buffer")
    func limits() throws {
        let rig = try Rig(
            ringSize: 2, shape: .mergeable(bufferByteCount: 64), method: usedLength)
        rig.driver.refill()
        let chains = rig.device.takeAll()
        rig.fillSlot(7, netHeaderBytes(hdrLen: 52))
        rig.device.use(chains[0], byteCount: 64, slot: 7)
        chains[1].write(netHeaderBytes())
        rig.device.use(chains[1], byteCount: 64)
        rig.device.publish()
        #expect(rig.driver.harvest() == 2)
        #expect(rig.driver.packets[0].byteCount == 52 + 64)
        #expect(rig.driver.packets[1].byteCount == 52)
        #expect(rig.driver.fault == .none)
    }

    @Test("A slot reported twice is noticed when it is retired")
    func slotTwice() throws {
        let rig = try Rig(
            ringSize: 2, shape: .mergeable(bufferByteCount: 64), method: usedLength)
        rig.driver.refill()
        rig.fillSlot(5, netHeaderBytes(hdrLen: 20))
        for chain in rig.device.takeAll() { rig.device.use(chain, byteCount: 1, slot: 5) }
        rig.device.publish()
        #expect(rig.driver.harvest() == 2)
        rig.driver.finish()
        #expect(rig.slots!.doubleRetireCount == 1)
    }
}

@Suite("Drivers that cannot be")
struct DriverErrorTests {
    @Test(
        "Geometry",
        arguments: [
            (0, BufferShape.mergeable(bufferByteCount: 64), "ring size 0"),
            (300, .mergeable(bufferByteCount: 64), "ring size 300"),
            (65536, .mergeable(bufferByteCount: 64), "ring size 65536"),
            (4, .mergeable(bufferByteCount: 100), "100 bytes"),
            (4, .mergeable(bufferByteCount: 0), "0 bytes"),
            (4, .chained(bufferByteCount: 64, packetByteCount: 4000), "does not fit a ring of 4"),
        ])
    func geometry(_ ringSize: Int, _ shape: BufferShape, _ words: String) throws {
        let space = try GuestSpace(byteCount: 1 << 20, pages: .small)
        let error = #expect(throws: SetupError.self) {
            try RxDriver(
                RxDriverConfiguration(ringSize: ringSize, shape: shape, method: .whole), in: space)
        }
        #expect(error?.description.contains(words) == true, "\(error?.description ?? "")")
    }

    @Test("Method D without a header queue, bursts of none, memory of too little")
    func others() throws {
        let space = try GuestSpace(byteCount: 1 << 16, pages: .small)
        let shape = BufferShape.mergeable(bufferByteCount: 4096)
        let impossible = [
            RxDriverConfiguration(ringSize: 4, shape: shape, method: usedLength),
            RxDriverConfiguration(ringSize: 4, shape: shape, method: .whole, burst: 0),
            RxDriverConfiguration(ringSize: 4, shape: shape, method: .whole, spareBuffers: -1),
            RxDriverConfiguration(ringSize: 1024, shape: shape, method: .whole),
        ]
        for configuration in impossible {
            #expect(throws: SetupError.self) { try RxDriver(configuration, in: space) }
        }
    }
}
