import CleaveTestSupport
import CleaveVirtioNet
import Testing

@Suite("Transmit queue")
struct TxQueueTests {
    /// Cuts bytes into `count` pieces, some of them empty.
    private func cut(
        _ bytes: [UInt8], into count: Int, _ random: inout SeededRandom
    ) -> [[UInt8]] {
        var edges = (0..<count - 1).map { _ in random.int(0...bytes.count) }.sorted()
        edges = [0] + edges + [bytes.count]
        return (0..<count).map { Array(bytes[edges[$0]..<edges[$0 + 1]]) }
    }

    /// What the test expects of a chain that was sent.
    private struct Sent {
        let name: Int
        /// nil: it is dropped.
        let out: TxRig.Out?
    }

    /// Sends one packet of any shape, if there is room.
    private func sendAny(
        _ rig: TxRig, _ number: Int, _ random: inout SeededRandom
    ) -> Sent? {
        let isRunt = random.chance(10)
        let isBad = !isRunt && random.chance(10)
        let payload = TestFrames.payload(
            isRunt ? random.int(0...13) : random.int(14...900), seed: number)
        var header = NetHeader(hdrLen: UInt16(truncatingIfNeeded: random.next()), numBuffers: 9)
        var out = TxRig.Out(bytes: payload)
        if isBad {
            header.flags = 1
            header.csumStart = UInt16(payload.count)
        } else if !isRunt && random.chance(30) {
            header.flags = 1
            header.csumStart = UInt16(random.int(0...payload.count - 2))
            header.csumOffset = UInt16(payload.count) - 2 - header.csumStart
            header.gsoType = random.pick([0, 1, 4, 0x81])
            header.gsoSize = 100
            out.netFlags = 1
            out.csumStart = header.csumStart
            out.csumOffset = header.csumOffset
            out.gsoType = header.gsoType
            out.gsoSize = header.gsoType == 0 ? 0 : 100
        }
        let isTable = random.chance(25)
        let count = random.chance(50) ? 1 : random.int(1...6)
        if rig.freeCount < (isTable ? 1 : count) { return nil }
        let name = rig.name(number % rig.size)
        let pieces = cut(txHeader(header) + payload, into: count, &random)
        rig.send(pieces, id: number % rig.size, table: isTable)
        return Sent(name: name, out: isRunt || isBad ? nil : out)
    }

    @Test(
        "Packets come out as they were sent, and go back in order",
        arguments: RingFormat.allCases, [(UInt16(0), 1), (13, 2), (65530, 1), (65530, 2)])
    func twin(format: RingFormat, start: (firstIndex: UInt16, regionCount: Int)) throws {
        var random = SeededRandom(seed: 31 + UInt64(start.firstIndex))
        let rig = try TxRig(
            format, features: [.indirectDescriptors, .checksum, .hostTSO4, .hostTSO6, .hostECN],
            firstIndex: start.firstIndex, regionCount: start.regionCount)
        /// Sent and not taken; taken or dropped and not returned.
        var waiting: [Sent] = []
        var out: [Sent] = []
        var held: [(TxPacket, TxRig.Out)] = []
        var number = 0
        var droppedCount = 0
        for _ in 0..<3000 {
            for _ in 0..<random.int(0...4) {
                guard let sent = sendAny(rig, number, &random) else { break }
                number += 1
                waiting.append(sent)
            }
            let wanted = random.int(0...5)
            let packets = rig.dequeue(wanted)
            for packet in packets {
                while waiting.first?.out == nil, !waiting.isEmpty {
                    out.append(waiting.removeFirst())
                    droppedCount += 1
                }
                let sent = try #require(waiting.first)
                waiting.removeFirst()
                out.append(sent)
                held.append((packet, try #require(sent.out)))
            }
            if packets.count < wanted {
                // The queue has read everything: what is left was dropped.
                #expect(waiting.allSatisfy { $0.out == nil })
                droppedCount += waiting.count
                out += waiting
                waiting = []
            }
            // Everything that is out reads as it was sent, however long it has been out.
            for (packet, expected) in held { #expect(rig.read(packet) == expected) }
            let done = random.int(0...held.count)
            #expect(rig.queue.complete(done) != nil)
            held.removeFirst(done)
            var back: [Int] = []
            var left = done
            while let first = out.first, first.out == nil || left > 0 {
                if first.out != nil { left -= 1 }
                back.append(first.name)
                out.removeFirst()
            }
            #expect(rig.takeUsed() == back)
            #expect(rig.queue.heldCount == held.count)
        }
        #expect(rig.queue.fault == .none)
        #expect(droppedCount > 100)
        #expect(rig.queue.counters.dropped.values.reduce(0, +) >= UInt64(droppedCount))
        #expect(rig.guest.bandsAreIntact)
    }

    /// Sends `count` packets, number `rare` of which asks for a checksum, and takes and completes
    /// them in two parts each.
    private func carry(_ rig: TxRig, _ count: Int, rare: Int, cut: Int) throws {
        var names: [Int] = []
        var expected: [TxRig.Out] = []
        for index in 0..<count {
            let payload = TestFrames.payload(20 + index, seed: 7 * count + index)
            var out = TxRig.Out(bytes: payload)
            if index == rare { (out.netFlags, out.csumStart, out.csumOffset) = (1, 14, 2) }
            names.append(rig.name(index))
            let header = NetHeader(
                flags: out.netFlags, csumStart: out.csumStart, csumOffset: out.csumOffset)
            rig.send([txHeader(header) + payload], id: index)
            expected.append(out)
        }
        let packets = rig.dequeue(cut) + rig.dequeue(count)
        #expect(packets.map(rig.read) == expected)
        #expect(rig.queue.complete(cut) != nil)
        #expect(rig.takeUsed() == Array(names.prefix(cut)))
        #expect(rig.queue.complete(count - cut) != nil)
        #expect(rig.takeUsed() == Array(names.dropFirst(cut)))
    }

    @Test(
        "Runs of plain packets, from and over every place", arguments: RingFormat.allCases, [1, 2])
    func runs(format: RingFormat, regionCount: Int) throws {
        let rig = try TxRig(
            format, features: [.checksum], firstIndex: 65530, regionCount: regionCount)
        var place = 65530
        for start in 0..<16 {
            for count in 1...16 {
                for rare in -1..<count {
                    while place % 16 != start {
                        try carry(rig, 1, rare: -1, cut: 0)
                        place += 1
                    }
                    try carry(rig, count, rare: rare, cut: (start + rare + 1) % (count + 1))
                    place += count
                }
            }
        }
        #expect(rig.queue.fault == .none && rig.queue.heldCount == 0)
    }

    @Test("More cannot be completed than is out", arguments: RingFormat.allCases)
    func overcompletion(format: RingFormat) throws {
        let rig = try TxRig(format)
        #expect(rig.queue.complete(1) == nil)
        #expect(rig.queue.complete(-1) == nil)
        rig.send([txHeader() + TestFrames.udp4([1])])
        #expect(rig.dequeue().count == 1)
        #expect(rig.queue.complete(2) == nil)
        #expect(rig.takeUsed() == [])
        #expect(rig.queue.complete(1) != nil)
        #expect(rig.queue.complete(1) == nil)
    }

    @Test("A ring can be out entirely, and no further", arguments: RingFormat.allCases)
    func full(format: RingFormat) throws {
        let rig = try TxRig(format, size: 8)
        for round in 0..<5 {
            for id in 0..<8 { rig.send([txHeader() + TestFrames.udp4([UInt8(id)])], id: id) }
            #expect(rig.dequeue().count == 8, "round \(round)")
            #expect(rig.dequeue().count == 0)
            #expect(rig.queue.complete(8) != nil)
            #expect(rig.takeUsed().count == 8)
        }
        #expect(rig.queue.fault == .none)
    }

    @Test("Segment storage runs out without a loss", arguments: RingFormat.allCases)
    func storage(format: RingFormat) throws {
        let rig = try TxRig(format, size: 64, features: .indirectDescriptors)
        let frame = TestFrames.payload(63)
        let pieces = [txHeader()] + frame.map { [$0] }
        var taken = 0
        for id in 0..<64 { rig.send(pieces, id: id, table: true) }
        for _ in 0..<200 where taken < 64 {
            let packets = rig.dequeue(64)
            for packet in packets { #expect(rig.read(packet).bytes == frame) }
            taken += packets.count
            #expect(packets.count < 64)
            #expect(rig.queue.complete(packets.count) != nil)
        }
        #expect(taken == 64)
        #expect(rig.takeUsed().count == 64)
    }

    @Test("The driver is called when it asked for it", arguments: RingFormat.allCases)
    func calls(format: RingFormat) throws {
        let rig = try TxRig(format)
        for wants in [true, false] {
            rig.setInterrupts(wants)
            rig.send([txHeader() + TestFrames.udp4([1])])
            #expect(rig.dequeue().count == 1)
            #expect(!rig.lastWantsCall)
            #expect(rig.queue.complete(1) == (wants ? .call : []))
            // A dropped chain goes back at once, and counts as well.
            rig.send([[1, 2, 3]])
            #expect(rig.dequeue().count == 0)
            #expect(rig.lastWantsCall == wants)
        }
        #expect(rig.queue.counters.calls == 2)
    }

    @Test(
        "After a start the first chain that goes back calls, wherever the driver sleeps",
        arguments: RingFormat.allCases,
        [0, 1, 0x7ff9, 0x7fff, 0x8000, 0xfff9, 0xfffa, 0xfffb, 0xffff])
    func firstCall(format: RingFormat, firstIndex: UInt16) throws {
        let rig = try TxRig(format, features: .eventIndex, firstIndex: firstIndex)
        func carry(_ count: Int) -> Bool? {
            for id in 0..<count { rig.send([txHeader() + TestFrames.udp4([1])], id: id) }
            #expect(rig.dequeue().count == count && !rig.lastWantsCall)
            return rig.queue.complete(count).map { $0.contains(.call) }
        }
        /// A chain that is dropped, and goes back at once.
        func drop() -> Bool {
            rig.send([[1, 2, 3]])
            #expect(rig.dequeue().isEmpty)
            return rig.lastWantsCall
        }
        #expect(carry(5) == true)
        // It took four, and slept before the fifth was back; the call for that got lost.
        rig.sleep(until: 4)
        for isDropped in [false, true, false] {
            try rig.restart()
            // Nothing goes back, so nothing is owed yet.
            #expect(carry(0) == false)
            #expect(isDropped ? drop() : carry(1) == true)
            #expect(carry(1) == false)
            #expect(!drop())
            #expect(rig.queue.counters.calls == 1)
            #expect(rig.takeUsed().count >= 3)
        }
        // Then the driver's word decides.
        rig.sleep(until: 14 + 2)
        let calls = (0..<4).map { _ in carry(1) }
        #expect(calls == [false, false, true, false])
    }
}
