// A guest's header queue, set up by its driver over a real socket, and fed by the switch.
import CleaveEngine
import CleaveGuestDriver
import CleaveHost
import CleavePorts
import CleaveTestSupport
import CleaveVhostUser
import CleaveVirtioNet
import Glibc
import Testing

@testable import CleaveSwitch

@Suite("Header queues of guests, over sockets")
struct GuestHeaderQueueTests {
    private func running(pairs: Int = 1) throws -> RunningSwitch {
        try RunningSwitch(["a", "b"], wires: [("a", "b")]) {
            guard $0.name == "b" else { return }
            $0.headerQueue = true
            $0.queuePairs = pairs
        }
    }

    /// Frames of several flows; every eighth cannot be split.
    private func frames(_ count: Int, first: Int = 0) -> [[UInt8]] {
        (first..<first + count).map { number in
            if number % 8 == 7 { return TestFrames.opaque(60 + number % 900, seed: number) }
            let payload = TestFrames.payload(number * 37 % 1400, seed: number)
            var frame =
                number % 2 == 0
                ? TestFrames.tcp4(payload, optionWords: number % 5) : TestFrames.udp6(payload)
            // Another source port, so that flows go to different queues.
            let port = number % 2 == 0 ? 34 : 54
            frame[port] = UInt8(truncatingIfNeeded: number * 7)
            return frame
        }
    }

    @Test(
        "Split packets arrive whole in every byte, by messages and by the guest's own chain",
        arguments: RingFormat.allCases, [SplitGuest.Way.messages, .chain])
    func bytes(_ ring: RingFormat, _ way: SplitGuest.Way) throws {
        for (slotReturn, report) in [
            (.tail, .usedLength), (.ring, .usedLength), (.tail, .netHeader), (.ring, .netHeader),
        ] as [(SlotReturn, HeaderReport)] {
            let running = try running()
            let sender = try LocalGuest(.split)
            var shape = SplitGuest.Shape(ring: ring, slotReturn: slotReturn)
            shape.report = report
            let guest = try SplitGuest(shape)
            try sender.connect(running.path("a"))
            try guest.connect(running.path("b"), way)
            // The slots come round several times.
            for round in 0..<30 {
                let sent = frames(40, first: 40 * round)
                #expect(sender.send(sent) == 40)
                #expect(guest.receive(atLeast: 40)[0] == sent)
            }
            #expect(guest.rx[0].fault == .none)
            if slotReturn == .ring { try guest.stopHeaderQueue(way) }
            #expect(guest.conservesSlots())
            #expect(guest.rx[0].retiredSlotCount == 30 * 35)
            guest.vanish()
            sender.vanish()
            let counters = try #require(running.end()["b"])
            #expect(counters.packetsOut == 1200)
            #expect(counters.splitOut == 30 * 35)
            #expect(counters.wholeOut == ["notSplittable": 30 * 5])
            #expect(counters.events[.headerQueues] == 1)
            #expect(counters.droppedOut.isEmpty)
        }
    }

    @Test(
        "Two receive queues share one header queue, with traffic on both",
        arguments: RingFormat.allCases, [SplitGuest.Way.messages, .chain])
    func shared(_ ring: RingFormat, _ way: SplitGuest.Way) throws {
        let running = try running(pairs: 2)
        let sender = try LocalGuest(.split)
        let guest = try SplitGuest(SplitGuest.Shape(ring: ring, pairs: 2))
        try sender.connect(running.path("a"))
        try guest.connect(running.path("b"), way)
        var received = [0, 0]
        for round in 0..<30 {
            let sent = frames(40, first: 40 * round)
            #expect(sender.send(sent) == 40)
            let arrived = guest.receive(atLeast: 40)
            // Order holds within a queue.
            for packets in arrived {
                let places = packets.compactMap { sent.firstIndex(of: $0) }
                #expect(places.count == packets.count && places == places.sorted())
            }
            #expect(Set(arrived.joined()) == Set(sent))
            for (rq, packets) in arrived.enumerated() { received[rq] += packets.count }
        }
        #expect(received.reduce(0, +) == 1200 && received.allSatisfy { $0 > 100 })
        #expect(guest.rx.allSatisfy { $0.fault == .none && $0.retiredSlotCount > 100 })
        #expect(guest.conservesSlots())
        guest.vanish()
        sender.vanish()
        #expect(running.end()["b"]?.splitOut == 30 * 35)
    }

    /// Sends rounds of frames and expects them at the only receive queue.
    private func exchange(
        _ sender: LocalGuest, _ guest: SplitGuest, rounds: Int, between: (Int) throws -> Void
    ) throws {
        for round in 0..<rounds {
            let sent = frames(30, first: 30 * round)
            #expect(sender.send(sent) == 30)
            try between(round)
            #expect(guest.receive(atLeast: 30)[0] == sent, "round \(round)")
        }
    }

    @Test(
        "A new memory table, or a receive ring that stops and starts, loses no slot",
        arguments: RingFormat.allCases, [SplitGuest.Way.messages, .chain])
    func memoryChange(_ ring: RingFormat, _ way: SplitGuest.Way) throws {
        for slotReturn in SlotReturn.allCases {
            let running = try running()
            let sender = try LocalGuest(.split)
            var shape = SplitGuest.Shape(ring: ring)
            shape.slotReturn = slotReturn
            let guest = try SplitGuest(shape)
            try sender.connect(running.path("a"))
            try guest.connect(running.path("b"), way)
            try exchange(sender, guest, rounds: 40) { round in
                if round % 2 == 0 { try guest.sendMemory() }
            }
            // Nothing is under way: to a ring that is stopped nothing can be sent.
            for _ in 0..<5 {
                try guest.restart(receiver: 0)
                try exchange(sender, guest, rounds: 4) { _ in }
            }
            #expect(guest.rx[0].fault == .none && guest.headers.isWorking)
            if slotReturn == .ring { try guest.stopHeaderQueue(way) }
            #expect(guest.conservesSlots())
            guest.vanish()
            sender.vanish()
            let counters = try #require(running.end()["b"])
            #expect(counters.packetsOut == 1800 && counters.droppedOut.isEmpty)
            #expect(counters.wholeOut.keys.sorted() == ["notSplittable"])
            #expect(counters.splitOut + counters.wholeOut.values.reduce(0, +) == 1800)
        }
    }

    @Test(
        "Without its set-up ring packets come whole; with it again, they are split as before",
        arguments: RingFormat.allCases)
    func setupRingStops(_ ring: RingFormat) throws {
        for slotReturn in SlotReturn.allCases {
            let running = try running()
            let sender = try LocalGuest(.split)
            let guest = try SplitGuest(SplitGuest.Shape(ring: ring, slotReturn: slotReturn))
            try sender.connect(running.path("a"))
            try guest.connect(running.path("b"), .chain)
            for _ in 0..<5 {
                try exchange(sender, guest, rounds: 3) { _ in }
                let before = guest.rx[0].retiredSlotCount
                // With traffic under way.
                try exchange(sender, guest, rounds: 1) { _ in try guest.enableSetup(false) }
                let between = guest.rx[0].retiredSlotCount
                #expect(guest.headers.isStopped && between <= before + 27)
                try exchange(sender, guest, rounds: 3) { _ in }
                #expect(guest.rx[0].retiredSlotCount == between)
                try exchange(sender, guest, rounds: 1) { _ in try guest.enableSetup(true) }
                #expect(guest.headers.isWorking)
                let after = guest.rx[0].retiredSlotCount
                try exchange(sender, guest, rounds: 8) { _ in }
                #expect(guest.rx[0].retiredSlotCount == after + 8 * 30 * 7 / 8)
            }
            #expect(guest.rx[0].fault == .none)
            if slotReturn == .ring { try guest.stopHeaderQueue(.chain) }
            #expect(guest.conservesSlots())
            guest.vanish()
            sender.vanish()
            #expect(running.end()["b"]?.events[.headerQueues] == 6)
        }
    }

    @Test(
        "A guest that leaves in order finds its header queue where it stood",
        arguments: RingFormat.allCases, [SplitGuest.Way.messages, .chain])
    func reconnect(_ ring: RingFormat, _ way: SplitGuest.Way) throws {
        let running = try running()
        let sender = try LocalGuest(.split)
        let guest = try SplitGuest(SplitGuest.Shape(ring: ring))
        try sender.connect(running.path("a"))
        try guest.connect(running.path("b"), way)
        for round in 0..<6 {
            try exchange(sender, guest, rounds: 4) { _ in }
            #expect(guest.conservesSlots(), "round \(round)")
            let bases = try guest.leave(way)
            #expect(guest.waitUntil { guest.headers.isStopped })
            try connectAgain(guest, running.path("b"), way, bases)
        }
        #expect(guest.rx[0].fault == .none)
        guest.vanish()
        sender.vanish()
        let counters = try #require(running.end()["b"])
        #expect(counters.events[.headerQueues] == 7 && counters.splitOut == 6 * 4 * 30 * 7 / 8)
    }

    /// The port listens again as soon as it has seen that its front-end is gone.
    private func connectAgain(
        _ guest: SplitGuest, _ path: String, _ way: SplitGuest.Way, _ bases: [UInt16]?
    ) throws {
        for _ in 0..<200 {
            do { return try guest.connect(path, way, bases: bases) } catch is SetupError {
                guest.vanish()
                usleep(10_000)
            }
        }
        try guest.connect(path, way, bases: bases)
    }

    @Test(
        "A driver that goes without a reset and comes again starts with a fresh queue",
        arguments: RingFormat.allCases)
    func probeAgain(_ ring: RingFormat) throws {
        let running = try running()
        let sender = try LocalGuest(.split)
        let guest = try SplitGuest(SplitGuest.Shape(ring: ring))
        try sender.connect(running.path("a"))
        try guest.connect(running.path("b"), .chain)
        for round in 0..<5 {
            try exchange(sender, guest, rounds: 10) { _ in }
            #expect(guest.conservesSlots(), "round \(round)")
            let before = guest.headers
            try guest.probeAgain()
            #expect(before.isStopped)
        }
        // Gone without a word, and another guest at the same socket.
        guest.vanish()
        let other = try SplitGuest(SplitGuest.Shape(ring: ring))
        try connectAgain(other, running.path("b"), .chain, nil)
        try exchange(sender, other, rounds: 10) { _ in }
        #expect(other.conservesSlots())
        other.vanish()
        sender.vanish()
        #expect(running.end()["b"]?.events[.headerQueues] == 7)
    }

    @Test("Queue pairs in use change, and the header queue stays", arguments: RingFormat.allCases)
    func pairs(_ ring: RingFormat) throws {
        let running = try running(pairs: 2)
        let sender = try LocalGuest(.split)
        let guest = try SplitGuest(SplitGuest.Shape(ring: ring, pairs: 2))
        try sender.connect(running.path("a"))
        try guest.connect(running.path("b"), .chain)
        let control = try guest.startControl()
        for round in 0..<12 {
            let count = round % 2 + 1
            #expect(try guest.use(pairs: count, control))
            let sent = frames(40, first: 40 * round)
            #expect(sender.send(sent) == 40)
            let arrived = guest.receive(atLeast: 40)
            #expect(Set(arrived.joined()) == Set(sent))
            #expect(arrived[1].isEmpty == (count == 1), "round \(round)")
        }
        #expect(try !guest.use(pairs: 3, control))
        // All rings stop and go on, the control queue among them; the driver asks no second time.
        try guest.sendMemory()
        let more = frames(40, first: 4000)
        #expect(sender.send(more) == 40)
        let spread = guest.receive(atLeast: 40)
        #expect(Set(spread.joined()) == Set(more) && !spread[1].isEmpty)
        #expect(guest.conservesSlots())
        guest.vanish()
        sender.vanish()
        #expect(running.end()["b"]?.events[.queuePairCommands] == 12)
    }

    @Test(
        "A device that takes the set-up ring of one that was killed gives the chain back",
        arguments: RingFormat.allCases)
    func killed(_ ring: RingFormat) throws {
        let running = try running()
        let sender = try LocalGuest(.split)
        let guest = try SplitGuest(SplitGuest.Shape(ring: ring))
        try sender.connect(running.path("a"))
        // As another device left it that was killed: slots taken, and not stopped.
        guest.setControl(HeaderQueueLayout.takenOffset, 1)
        #expect(throws: (any Error).self) {
            try guest.connect(running.path("b"), .chain, patience: 100_000_000)
        }
        #expect(guest.waitUntil { guest.setup.isReturned })
        #expect(guest.headers.isBroken)
        #expect(guest.control(HeaderQueueLayout.reasonOffset) == HeaderQueueRefusal.lost.rawValue)
        // The driver sets it up anew.
        for offset in stride(from: 4, to: 256, by: 4) { guest.setControl(offset, 0) }
        guest.headers.expectSetUp()
        guest.postRequest()
        #expect(guest.waitUntil { guest.headers.isWorking })
        for driver in guest.rx { driver.refill() }
        try exchange(sender, guest, rounds: 10) { _ in }
        #expect(guest.conservesSlots())
        guest.vanish()
        sender.vanish()
        let counters = try #require(running.end()["b"])
        #expect(counters.headerQueueRefusals["lost"] == 1)
        #expect(counters.events[.headerQueues] == 1)
    }

    @Test(
        "D01 A tail that lies breaks the queue: packets come whole until the driver resets it",
        arguments: RingFormat.allCases, [SplitGuest.Way.messages, .chain])
    func broken(_ ring: RingFormat, _ way: SplitGuest.Way) throws {
        let running = try running()
        let sender = try LocalGuest(.split)
        let guest = try SplitGuest(SplitGuest.Shape(ring: ring))
        try sender.connect(running.path("a"))
        try guest.connect(running.path("b"), way)
        for lie in [1, 0x4000_0000, 0xffff_fd00] as [UInt32] {
            try exchange(sender, guest, rounds: 3) { _ in }
            let tail = guest.headers.currentTail
            guest.setControl(HeaderQueueLayout.tailOffset, tail &+ 256 &+ lie)
            // What was there before the lie, if anything, may still be split.
            try exchange(sender, guest, rounds: 3) { _ in }
            #expect(guest.headers.isBroken && guest.rx[0].fault == .none)
            // A tail that is right again repairs nothing.
            guest.setControl(HeaderQueueLayout.tailOffset, tail)
            try exchange(sender, guest, rounds: 1) { _ in }
            #expect(guest.headers.isBroken)
            guest.headers.prepareReset()
            if way == .chain {
                guest.headers.requestReset()
            } else {
                try guest.front?.resetHeaderQueue()
            }
            #expect(guest.waitUntil { guest.headers.isWorking })
            guest.headers.finishReset()
        }
        let before = guest.rx[0].retiredSlotCount
        try exchange(sender, guest, rounds: 8) { _ in }
        #expect(guest.rx[0].retiredSlotCount == before + 8 * 30 * 7 / 8)
        guest.vanish()
        sender.vanish()
        let counters = try #require(running.end()["b"])
        #expect(counters.events[.headerQueueResets] == 3)
        #expect(counters.wholeOut["headerQueueBroken"] ?? 0 >= 3 * 26)
        #expect(counters.events[.brokenHeaderQueues] ?? 0 <= 3)
    }

    @Test(
        "A broken queue that a message set up is still broken in new memory, and can be reset",
        arguments: RingFormat.allCases, [false, true])
    func brokenMemoryChange(_ ring: RingFormat, byWord: Bool) throws {
        let running = try running()
        let sender = try LocalGuest(.split)
        let guest = try SplitGuest(SplitGuest.Shape(ring: ring))
        try sender.connect(running.path("a"))
        try guest.connect(running.path("b"), .messages)
        try exchange(sender, guest, rounds: 3) { _ in }
        let tail = guest.headers.currentTail
        guest.setControl(HeaderQueueLayout.tailOffset, tail &+ 257)
        try exchange(sender, guest, rounds: 3) { _ in }
        guest.setControl(HeaderQueueLayout.tailOffset, tail)
        for _ in 0..<3 { try guest.sendMemory() }
        try exchange(sender, guest, rounds: 1) { _ in }
        #expect(guest.headers.isBroken && guest.rx[0].fault == .none)
        guest.headers.prepareReset()
        if byWord {
            guest.headers.requestReset()
        } else {
            try guest.front?.resetHeaderQueue()
        }
        #expect(guest.waitUntil { guest.headers.isWorking })
        guest.headers.finishReset()
        let before = guest.rx[0].retiredSlotCount
        try exchange(sender, guest, rounds: 8) { _ in }
        #expect(guest.rx[0].retiredSlotCount == before + 8 * 30 * 7 / 8)
        guest.vanish()
        sender.vanish()
        let counters = try #require(running.end()["b"])
        #expect(counters.events[.headerQueueResets] == 1)
        #expect(counters.headerQueueRefusals["lost"] == nil)
        #expect(counters.events[.brokenHeaderQueues] ?? 0 <= 1)
    }

    @Test(
        "Requests behind the bound of one look at the set-up ring are served without a kick",
        arguments: RingFormat.allCases)
    func manyRequests(_ ring: RingFormat) throws {
        let running = try running()
        var shape = SplitGuest.Shape(ring: ring)
        shape.setupRingSize = 64
        let guest = try SplitGuest(shape)
        guest.headers.expectSetUp()
        // The start of the ring is one look, and the only kick is another: 16 requests each.
        for _ in 0..<40 { guest.setup.post([UInt8](repeating: 0, count: 20), []) }
        guest.postRequest()
        let fresh = VirtqueueAddresses.freshBase(ring)
        try guest.connect(running.path("b"), .chain, bases: [fresh, fresh, fresh])
        guest.vanish()
        let counters = try #require(running.end()["b"])
        #expect(counters.headerQueueRefusals["chain"] == 40)
        #expect(counters.events[.headerQueues] == 1)
    }

    @Test("A segmentation frame of 64 KiB is split once, and its payload fills pages")
    func segmentation() throws {
        let running = try running()
        var shape = SplitGuest.Shape()
        shape.sendByteCount = 66_560
        shape.sendFeatures = [.checksum, .hostTSO4]
        let sender = try SplitGuest(shape)
        shape = SplitGuest.Shape()
        shape.features = [.guestChecksum, .guestTSO4]
        shape.bufferByteCount = 4096
        let guest = try SplitGuest(shape)
        try sender.connect(running.path("a"), .none)
        try guest.connect(running.path("b"), .chain)
        for round in 0..<20 {
            let byteCount = round == 0 ? 65_482 : 20_000 + 2_000 * round
            var frame = TestFrames.tcp4(
                TestFrames.payload(byteCount, seed: round), optionWords: 3)
            // Its IP header says how long it is.
            let length = frame.count - 14
            (frame[16], frame[17]) = (UInt8(length >> 8), UInt8(length & 255))
            let header = NetHeader(
                flags: 1, gsoType: 1, hdrLen: 66, gsoSize: 1448, csumStart: 34, csumOffset: 16,
                numBuffers: 0)
            #expect(sender.send(frame, offloads: header))
            var seen: (header: Int, exact: UInt16, pieces: [Int])?
            let arrived = guest.receive(atLeast: 1) { driver, packet in
                let first = Int(packet.firstPiece)
                seen = (
                    Int(packet.headerLength), driver.netHeader(of: packet).hdrLen,
                    driver.pieces[first..<first + Int(packet.pieceCount)].map {
                        Int($0.byteCount)
                    }
                )
            }
            #expect(arrived[0] == [frame])
            #expect(seen?.header == 66 && seen?.exact == 66)
            #expect(seen?.pieces.dropLast().allSatisfy { $0 == 4096 } == true)
        }
        #expect(guest.conservesSlots())
        guest.vanish()
        sender.vanish()
        let counters = try #require(running.end()["b"])
        #expect(counters.splitOut == 20 && counters.wholeOut.isEmpty)
    }

    @Test("A second request, or one that cannot be, is refused, and traffic goes on")
    func refusals() throws {
        let running = try running()
        let sender = try LocalGuest(.split)
        let guest = try SplitGuest(SplitGuest.Shape())
        try sender.connect(running.path("a"))
        try guest.connect(running.path("b"), .chain)
        let good = guest.request
        func refusal(_ change: (inout HeaderQueueRequest) -> Void) -> String {
            var request = good
            change(&request)
            do {
                try guest.front?.setHeaderQueue(request)
                return ""
            } catch { return String("\(error)".split(separator: " ").last ?? "") }
        }
        try exchange(sender, guest, rounds: 5) { _ in #expect(refusal { _ in } == "inUse") }
        // The message does not end what the chain began.
        #expect(throws: SetupError.self) { try guest.front?.stopHeaderQueue() }
        let bases = try guest.leave(.chain)
        try connectAgain(guest, running.path("b"), .none, nil)
        #expect(refusal { $0.rqMask = .zero } == "mask")
        #expect(refusal { $0.rqMask = [2, 0] } == "mask")
        #expect(refusal { $0.rqMask = [1, 1] } == "mask")
        #expect(refusal { $0.slotSize = 100 } == "geometry")
        #expect(refusal { $0.report = 9 } == "report")
        #expect(refusal { $0.slotReturn = 3 } == "slotReturn")
        #expect(refusal { $0.slotReturn = 2 } == "geometry")
        #expect(refusal { $0.slots = GuestAddress(64) } == "memory")
        #expect(refusal { $0.control = GuestAddress(0xffff_ffff_ffff_ff80) } == "memory")
        #expect(refusal { $0.control = $0.control.advanced(by: 64) } == "alignment")
        #expect(throws: SetupError.self) { try guest.front?.resetHeaderQueue() }
        #expect(throws: SetupError.self) { try guest.front?.stopHeaderQueue() }
        guest.vanish()
        try connectAgain(guest, running.path("b"), .chain, bases)
        try exchange(sender, guest, rounds: 5) { _ in }
        #expect(guest.conservesSlots())
        guest.vanish()
        sender.vanish()
        let counters = try #require(running.end()["b"])
        #expect(counters.headerQueueRefusals["inUse"] == 5)
        #expect(counters.headerQueueRefusals["mask"] == 3)
    }

    @Test("Slots over the guest's own rings harm that guest alone")
    func overlap() throws {
        let running = try running()
        let sender = try LocalGuest(.split)
        let guest = try SplitGuest(SplitGuest.Shape())
        try sender.connect(running.path("a"))
        try connectAgain(guest, running.path("b"), .none, nil)
        var request = guest.request
        // The receive ring, and all that lies behind it.
        request.slots = GuestAddress(guest.rx[0].virtqueue.descriptorArea.rawValue & ~63)
        try guest.front?.setHeaderQueue(request)
        guest.rx[0].refill()
        for round in 0..<30 { _ = sender.send(frames(30, first: 30 * round)) }
        usleep(50_000)
        // Another guest at the same port is served as ever.
        guest.vanish()
        let other = try SplitGuest(SplitGuest.Shape())
        try connectAgain(other, running.path("b"), .chain, nil)
        _ = other.receive()
        for round in 0..<3 {
            // What was still under way to the first may come before.
            let sent = frames(30, first: 30 * round)
            #expect(sender.send(sent) == 30)
            let arrived = other.receive(atLeast: 30)[0]
            #expect(arrived.suffix(30) == sent[...])
        }
        #expect(other.rx[0].fault == .none)
        other.vanish()
        sender.vanish()
        _ = running.end()
    }

    @Test("Without MQ the rings behind the first pair are control queue and set-up ring")
    func ringNumbers() throws {
        let running = try running(pairs: 4)
        let sender = try LocalGuest(.split)
        let guest = try SplitGuest(SplitGuest.Shape())
        #expect(guest.setupRing == 3)
        try sender.connect(running.path("a"))
        try guest.connect(running.path("b"), .chain)
        #expect((guest.front?.offeredFeatures ?? 0) & 1 << 22 != 0)
        // All rings: four pairs, control, set-up.
        #expect(guest.front?.queuePairLimit == 10)
        try exchange(sender, guest, rounds: 10) { _ in }
        #expect(guest.conservesSlots())
        // A ring that has no meaning is broken when it starts, and nothing else.
        let stray = try SetupRing(.split, in: guest.space)
        try guest.front?.setRing(7, stray.addresses, kick: -1, call: -1)
        try guest.front?.setEnabled(7, true)
        try exchange(sender, guest, rounds: 5) { _ in }
        #expect(try (guest.front?.status() ?? 0) & 64 != 0)
        guest.vanish()
        sender.vanish()
        _ = running.end()
    }

    @Test("A guest that does not know the feature gets its packets whole")
    func stranger() throws {
        let running = try running()
        let guests = [try LocalGuest(.split), try LocalGuest(.packed)]
        try guests[0].connect(running.path("a"))
        try guests[1].connect(running.path("b"))
        #expect((guests[1].front?.offeredFeatures ?? 0) & 1 << 58 != 0)
        #expect((guests[0].front?.offeredFeatures ?? 0) & 1 << 58 == 0)
        #expect(guests[0].front?.protocolFeatures.contains(.headerQueue) == false)
        for round in 0..<10 {
            let sent = frames(30, first: 30 * round)
            #expect(guests[0].send(sent) == 30)
            #expect(guests[1].receive(atLeast: 30) == sent)
        }
        for guest in guests { guest.vanish() }
        let counters = try #require(running.end()["b"])
        #expect(counters.splitOut == 0 && counters.wholeOut.isEmpty)
    }
}
