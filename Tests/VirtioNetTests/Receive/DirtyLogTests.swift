// The log of written pages: what a guest that moves to another machine would lack without it.
import CleaveHost
import CleaveTestSupport
import CleaveVirtioNet
import Testing

@Suite("Log of written pages")
struct DirtyLogTests {
    @Test(
        "D16 Every page that a burst writes is marked, and no other",
        arguments: PlacementTrial.Kind.all)
    func receive(kind: PlacementTrial.Kind) throws {
        let guest = try EvilGuest(PlacementTrial.regions)
        let arenas = ArenaSupply()
        var (marked, packets) = (0, 0)
        let pool = PacketPool(seed: 7, count: 300)
        try withEvery(Axis("seed", 0..<120)) { seed in
            let trial = try PlacementTrial(
                kind, seed: UInt64(seed), guest: guest, arenas: arenas, isLogged: true)
            try trial.run(rounds: 6, pool: pool)
            marked += trial.markedCount
            packets += Int(trial.expected.packets)
        }
        #expect(packets > 500 && marked > 1000)
    }

    @Test("D16 A return ring's slots and words are marked", arguments: RingFormat.allCases)
    func returnRing(format: RingFormat) throws {
        let parts = try ReceiveRigParts(format)
        let log = NaiveLog(covering: parts.guest, skew: 3)
        let layout = HeaderQueueLayout(
            base: GuestAddress(0x2_2000), control: GuestAddress(0x2_1000), slotSize: 1024,
            slotCount: 8, returnRing: GuestAddress(0x2_0000))
        for entry in 0..<8 {
            // Lap 0, in an order of their own.
            parts.guest.put(UInt32(7 - entry) | 0x8000_0000, at: 0x2_0000 + UInt64(4 * entry))
        }
        try parts.begin(
            QueueObservation(log: log.dirtyLog(ring: parts.addresses.deviceArea)),
            method: .headerQueue(.usedLength),
            headerQueue: HeaderQueue(layout, memory: parts.guest.memory))
        parts.post(2)
        _ = log.take()
        let image = parts.guest.image()
        let packet = TestFrames.tcp4(TestFrames.payload(500))
        #expect(parts.port.enqueue([packet, packet], to: parts.queue).result.delivered == 2)
        // Slots 7 and 6; the head word; two buffers; the ring.
        let expected: Set<UInt64> = [0x23, 0x21, 0x30, 0x31, 0x10]
        #expect(log.take() == expected)
        #expect(image.changedPages == expected)
    }

    @Test("What is logged of the ring, and what of the rest", arguments: RingFormat.allCases)
    func parts(format: RingFormat) throws {
        for (logsRing, logsBuffers) in [(true, false), (false, true), (true, true)] {
            let parts = try ReceiveRigParts(format)
            let log = NaiveLog(covering: parts.guest, skew: 0)
            var dirty = log.dirtyLog(ring: logsRing ? GuestAddress(0x4_8000) : nil)
            dirty.logsBuffers = logsBuffers
            try parts.begin(QueueObservation(log: dirty))
            // Where the front-end wants the device area: a page of its own.
            #expect(log.take() == (logsRing ? [0x48] : []))
            parts.queue.setKicks(enabled: true)
            #expect(log.take() == (logsRing ? [0x48] : []))
            parts.post(1)
            let packet = TestFrames.payload(80)
            #expect(parts.port.enqueue([packet], to: parts.queue).result.delivered == 1)
            let ring: Set<UInt64> = logsRing ? [format == .split ? 0x48 : 0x10] : []
            #expect(log.take() == ring.union(logsBuffers ? [0x30] : []))
            // Nothing happens: nothing is marked.
            #expect(parts.port.enqueue([packet], to: parts.queue).result.delivered == 0)
            #expect(log.take() == [])
        }
    }

    @Test("A log that does not reach all memory is refused", arguments: RingFormat.allCases)
    func short(format: RingFormat) throws {
        let parts = try ReceiveRigParts(format)
        let log = NaiveLog(covering: parts.guest, skew: 0)
        func refusal(_ log: DirtyLog) -> String {
            do {
                try parts.begin(QueueObservation(log: log))
                return "accepted"
            } catch { return "\(error)" }
        }
        let area = parts.addresses.deviceArea
        #expect(refusal(log.dirtyLog(ring: area)) == "accepted")
        // 0x50 pages: ten bytes.
        #expect(log.byteCount == 10)
        #expect(refusal(log.dirtyLog(ring: area, byteCount: 9)).contains("guest memory"))
        #expect(refusal(log.dirtyLog(ring: area, byteCount: 0)).contains("guest memory"))
        let bytes = format == .split ? 6 + 8 * 8 : 4
        let last = UInt64(0x5_0000 - bytes)
        #expect(refusal(log.dirtyLog(ring: GuestAddress(last))) == "accepted")
        #expect(refusal(log.dirtyLog(ring: GuestAddress(last + 1))).contains("the ring"))
        #expect(refusal(log.dirtyLog(ring: GuestAddress(.max))).contains("the ring"))
        var configuration = TxQueueConfiguration(
            virtqueue: parts.addresses, features: [], memory: parts.guest.memory)
        configuration.observation = QueueObservation(
            log: log.dirtyLog(ring: area, byteCount: 9))
        let arena = try parts.arenas.arena(configuration.arenaByteCount)
        #expect(throws: SetupError.self) { try TxQueue(configuration, in: arena) }
    }

    @Test("The front-end is told of marks, if it wants to be")
    func notified() throws {
        let parts = try ReceiveRigParts(.split)
        let log = NaiveLog(covering: parts.guest, skew: 0)
        let event = try EventDescriptor()
        let changed = try NotificationDescriptor(
            duplicating: event.fileDescriptor, for: .call)
        try parts.begin(
            QueueObservation(
                log: log.dirtyLog(
                    ring: parts.addresses.deviceArea, changed: changed.sender)))
        #expect(parts.port.enqueue([TestFrames.payload(60)], to: parts.queue).fates.isEmpty)
        let end = try NotificationDescriptor(duplicating: event.fileDescriptor, for: .kick)
        #expect(!end.drain())
        parts.post(1)
        #expect(parts.port.enqueue([TestFrames.payload(60)], to: parts.queue).fates == [true])
        #expect(end.drain())
    }

    // MARK: Transmit and control

    @Test(
        "Completed chains mark the ring alone", arguments: RingFormat.allCases,
        [UInt16(0), 13, 65530])
    func transmit(format: RingFormat, firstIndex: UInt16) throws {
        let guest = try EvilGuest()
        let log = NaiveLog(covering: guest, skew: 1)
        let rig = try TxRig(
            format, firstIndex: firstIndex,
            observing: { addresses in
                QueueObservation(log: log.dirtyLog(ring: addresses.deviceArea))
            })
        #expect(!log.take().isEmpty)
        for round in 0..<40 {
            for id in 0..<4 {
                rig.send([txHeader(), TestFrames.payload(60)], id: 4 * (round % 2) + id)
            }
            let image = rig.guest.image()
            #expect(rig.dequeue().count == 4)
            #expect(log.take() == [])
            #expect(rig.queue.complete(4) != nil)
            let marked = log.take()
            #expect(image.changedPages.isSubset(of: marked) && marked.count == 1)
            #expect(rig.takeUsed().count == 4)
        }
    }
}

/// An RQ over buffers of one page each, which is made when a test says how.
private final class ReceiveRigParts {
    let guest: EvilGuest
    let port = MockPort()
    let arenas = ArenaSupply()
    private(set) var queue: RxQueue!
    private var split: EvilRing
    private var packed: PackedEvilRing
    private let isPacked: Bool
    private var postedCount = 0

    init(_ format: RingFormat) throws {
        guest = try EvilGuest()
        isPacked = format == .packed
        split = EvilRing(guest, size: 8, at: 0x1_0000)
        packed = PackedEvilRing(guest, size: 8, at: 0x1_0000)
    }

    var addresses: VirtqueueAddresses { isPacked ? packed.addresses : split.addresses }

    func begin(
        _ observation: QueueObservation?, method: RxMethod = .whole,
        headerQueue: HeaderQueue? = nil
    ) throws {
        var configuration = RxQueueConfiguration(
            virtqueue: addresses, features: .mergeableBuffers, memory: guest.memory,
            method: method, headerQueue: headerQueue)
        configuration.observation = observation
        queue = try arenas.queue(configuration)
    }

    func post(_ count: Int) {
        for _ in 0..<count {
            let page = EvilRig.page(postedCount)
            if isPacked {
                packed.post([PostedPiece(page, 4096)], id: postedCount)
            } else {
                split.describe(postedCount, page, 4096)
                split.post(postedCount)
            }
            postedCount += 1
        }
    }
}
