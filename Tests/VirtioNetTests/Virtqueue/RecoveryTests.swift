// A device is killed between any two stores to the ring and to the region in which it notes what is
// in flight: the one that comes after it takes each buffer that was not used, in order, once.
import CleaveHost
import CleaveTestSupport
import CleaveVirtioNet
import Testing

@Suite("In-flight regions")
struct RecoveryTests {
    struct Begin: CustomStringConvertible, Sendable {
        let format: RingFormat
        let start: Int
        var description: String { "\(format) from \(start)" }

        /// Offsets in laps of either wrap counter; indices around 65536.
        static let all =
            [0, 3, 7, 8, 13, 15].map { Begin(format: .packed, start: $0) }
            + [0, 5, 65533].map { Begin(format: .split, start: $0) }
    }

    // MARK: Transmit

    /// All chains that the device can have, by number.
    private func take(_ queue: TxQueue, _ rig: RecoveryRig, _ most: Int = 64) -> [Int] {
        var packets = [TxPacket](
            repeating: TxPacket(rig.region.baseAddress!, byteCount: 1), count: 64)
        let count = queue.dequeue(&packets, count: most).count
        return packets[..<count].map { Int($0.pointer.load(as: UInt8.self)) }
    }

    private func writePackets(_ rig: RecoveryRig) {
        for number in 0..<30 {
            rig.guest.fill(RecoveryRig.data(number), 2048, with: UInt8(number))
            rig.guest.fill(RecoveryRig.data(number), 12, with: 0)
        }
    }

    /// A device comes after the one that left memory as it is.
    /// - Parameter again: chains that came back are posted anew before it comes.
    private func goOn(_ rig: RecoveryRig, postingAgain again: Bool) throws {
        let before = rig.driver
        defer { rig.driver = before }
        let seen = try rig.driver.usedCount()
        if again { rig.driver.postAgain(seen, flags: 0) }
        let queue = try rig.transmitQueue()
        #expect(take(queue, rig) == Array(seen..<rig.driver.chains.count))
        #expect(queue.complete(queue.heldCount) != nil)
        #expect(queue.fault == .none)
        #expect(try rig.driver.usedCount(after: seen) == rig.driver.chains.count)
    }

    @Test(
        "F04 A transmit queue killed at any moment: each chain is sent until it is used",
        arguments: Begin.all)
    func transmit(_ begin: Begin) throws {
        let rig = try RecoveryRig(begin.format, start: begin.start)
        writePackets(rig)
        for length in [1, 2, 1, 1, 3] { rig.driver.post(length, flags: 0) }
        var failure: (any Error)?
        let states = MemoryStates(of: rig.ringBytes, rig.regionBytes) {
            do {
                let queue = try rig.transmitQueue()
                #expect(take(queue, rig, 2) == [0, 1])
                #expect(queue.complete(1) != nil)
                #expect(take(queue, rig) == [2, 3, 4])
                #expect(queue.complete(3) != nil)
                #expect(queue.complete(1) != nil)
            } catch { failure = error }
        }
        if let failure { throw failure }
        guard let states else { return }
        var seen = 0
        var counts: Set<Int> = []
        for index in states.indices {
            states.restore(index)
            let now = try rig.driver.usedCount()
            #expect(now >= seen)
            seen = now
            counts.insert(now)
            try goOn(rig, postingAgain: false)
            states.restore(index)
            try goOn(rig, postingAgain: true)
            guard index % 3 == 0 else { continue }
            // The second device is killed while it finds out.
            states.restore(index)
            let recovery = MemoryStates(of: rig.ringBytes, rig.regionBytes) {
                _ = try? rig.record()
            }
            for moment in recovery?.indices ?? 0..<0 {
                recovery?.restore(moment)
                try goOn(rig, postingAgain: false)
            }
        }
        #expect(counts == [0, 1, 4, 5])
        #expect(states.indices.count > (begin.format == .packed ? 40 : 8))
        #expect(rig.guest.bandsAreIntact)
    }

    // MARK: Receive

    @Test(
        "F04 A receive queue killed at any moment: each buffer is used once, packets as a whole",
        arguments: Begin.all)
    func receive(_ begin: Begin) throws {
        let rig = try RecoveryRig(begin.format, start: begin.start)
        for length in [1, 1, 2, 1, 1, 1, 1] {
            rig.driver.post(length, flags: DescriptorFlags.write)
        }
        let port = MockPort()
        var failure: (any Error)?
        let states = MemoryStates(of: rig.ringBytes, rig.regionBytes) {
            do {
                let queue = try rig.receiveQueue()
                // Buffers 0; 1 and 2; 3. Then 4 and 5.
                let first = [100, 700, 50].map { TestFrames.payload($0) }
                #expect(port.enqueue(first, to: queue).result.delivered == 3)
                #expect(port.enqueue([TestFrames.payload(400)], to: queue).result.delivered == 1)
            } catch { failure = error }
        }
        if let failure { throw failure }
        guard let states else { return }
        var counts: Set<Int> = []
        for index in states.indices {
            states.restore(index)
            let seen = try rig.driver.usedCount()
            counts.insert(seen)
            for again in [false, true] {
                states.restore(index)
                let before = rig.driver
                defer { rig.driver = before }
                if again { rig.driver.postAgain(seen, flags: DescriptorFlags.write) }
                let queue = try rig.receiveQueue()
                let left = rig.driver.chains.count - seen
                let packets = (0..<left + 2).map { TestFrames.payload(20 + $0) }
                #expect(port.enqueue(packets, to: queue).result.delivered == left)
                #expect(queue.fault == .none)
                #expect(try rig.driver.usedCount(after: seen) == rig.driver.chains.count)
            }
        }
        #expect(counts == [0, 4, 6])
    }

    // MARK: Other devices

    @Test(
        "What a killed device leaves is what vhost-user says of it",
        arguments: Begin.all.filter { $0.format == .packed })
    func standardReader(_ begin: Begin) throws {
        let rig = try RecoveryRig(.packed, start: begin.start)
        writePackets(rig)
        for length in [2, 1, 3, 1, 1] { rig.driver.post(length, flags: 0) }
        let states = MemoryStates(of: rig.ringBytes, rig.regionBytes) {
            guard let queue = try? rig.transmitQueue() else { return }
            for count in [3, 1, 1] {
                _ = take(queue, rig, count)
                _ = queue.complete(count == 3 ? 2 : 1)
            }
            _ = queue.complete(1)
        }
        guard let states else { return }
        var most = 0
        for index in states.indices {
            states.restore(index)
            let seen = try rig.driver.usedCount()
            guard let reader = NaiveInFlight(rig.region, rig.guest, ring: 0x1_1000) else {
                #expect(seen == 0)
                continue
            }
            let chains = rig.driver.chains
            let place = chains.prefix(seen).last.map { $0.place + $0.length } ?? begin.start
            #expect(reader.used == place % 8 && reader.wrap == (place / 8 % 2 == 0))
            let expected = chains[seen...].prefix(reader.lists.count).map { chain in
                (0..<chain.length).map { RecoveryRig.data(chain.number, piece: $0) }
            }
            #expect(reader.lists == expected, "moment \(index)")
            most = max(most, reader.lists.count)
        }
        #expect(most == 3)
    }

    @Test("Lists that another device used out of order come again in the order they were taken")
    func outOfOrder() throws {
        for begin in Begin.all where begin.format == .packed {
            let rig = try RecoveryRig(.packed, start: begin.start)
            writePackets(rig)
            for length in [1, 2, 2, 1] { rig.driver.post(length, flags: 0) }
            // Entries 0; 1, 2; 3, 4; 5 of chains 0 to 3. Chains 0 and 2 were used: the used
            // descriptors are at places 0 and 1, the second of two descriptors' length.
            let start = begin.start
            rig.guest.fill(0x1_1000 + UInt64((start + 1) % 8 * 16), 16, with: 0xee)
            rig.writeRegion(
                header: [1, 8, 3, 3], used: (start + 3) % 8, wrap: (start + 3) / 8 % 2 == 0)
            for (number, entries) in [(1, [1, 2]), (3, [5])] {
                rig.writeList(entries, counter: UInt64(number), number: number)
            }
            rig.writeLink(3, 4)
            rig.writeLink(4, 0)
            rig.writeLink(0, 6)
            rig.writeLink(6, 7)
            rig.writeLink(7, 8)
            let queue = try rig.transmitQueue()
            #expect(take(queue, rig) == [1, 3])
            #expect(queue.complete(2) != nil)
        }
        // The available ring of a split queue is the driver's: nothing can be put there.
        let rig = try RecoveryRig(.split, start: 0)
        for _ in 0..<4 { rig.driver.post(1, flags: 0) }
        rig.guest.put(UInt16(1), at: rig.driver.split.usedRing + 2)
        rig.region.storeBytes(of: 1 | 8 << 16 | 1 << 48, toByteOffset: 8, as: UInt64.self)
        rig.writeSplit(0, counter: 0)
        rig.writeSplit(2, counter: 1)
        let words = try #require(rig.refusal())
        #expect(words.contains("out of order"))
        // In order it is taken.
        rig.region.initializeMemory(as: UInt8.self, repeating: 0)
        rig.region.storeBytes(of: 1 | 8 << 16 | 1 << 48, toByteOffset: 8, as: UInt64.self)
        rig.writeSplit(1, counter: 7)
        rig.writeSplit(2, counter: 9)
        #expect(try rig.record().addresses.base == 1)
        // Entry 1 was in the last batch, which the region had not noted yet.
        rig.region.storeBytes(of: 1 | 8 << 16 | 1 << 32 | 1 << 48, toByteOffset: 8, as: UInt64.self)
        rig.writeSplit(1, counter: 7)
        rig.writeSplit(2, counter: 9)
        rig.guest.put(UInt16(2), at: rig.driver.split.usedRing + 2)
        #expect(try rig.record().addresses.base == 2)
    }

    // MARK: Hostile regions

    @Test("A46 A region that contradicts itself or the ring is refused, in words")
    func refused() throws {
        let rig = try RecoveryRig(.packed, start: 0)
        rig.writeRegion(header: [1, 8, 0, 0], used: 0, wrap: true)
        #expect(rig.refusal() == nil)
        for (word, value) in [
            (0, 2), (0, 0xffff), (1, 7), (1, 9), (1, 0), (1, 0xffff),
        ] as [(Int, UInt16)] {
            rig.writeRegion(header: [1, 8, 0, 0], used: 0, wrap: true)
            rig.region.storeBytes(of: value, toByteOffset: 8 + 2 * word, as: UInt16.self)
            #expect(rig.refusal()?.contains("in-flight region") == true, "\(word) \(value)")
        }
        for offset in [16, 18] {
            rig.writeRegion(header: [1, 8, 0, 0], used: 0, wrap: true)
            rig.region.storeBytes(of: 8, toByteOffset: offset, as: UInt16.self)
            #expect(rig.refusal()?.contains("descriptor 8") == true)
            rig.writeRegion(header: [1, 8, 0, 0], used: 0, wrap: true)
            rig.region.storeBytes(of: 2, toByteOffset: 20 + offset % 16 / 2, as: UInt8.self)
            #expect(rig.refusal()?.contains("counter 2") == true)
        }
        // Lists of no descriptors, of too many, in a loop, and two of the same.
        let lists: [[(entries: [Int], count: Int)]] = [
            [([0], 0)], [([0, 1, 2, 3, 4, 5, 6, 7], 9)], [([0, 1, 0], 3)],
            [([0, 1], 2), ([2, 1], 2)], [([0, 9], 2)],
            [([0, 1, 2, 3], 4), ([4, 5, 6, 7, 8], 5)],
        ]
        for held in lists {
            // No entry is free.
            rig.writeRegion(header: [1, 8, 8, 8], used: 0, wrap: true)
            for (number, list) in held.enumerated() {
                rig.writeList(
                    list.entries, counter: UInt64(number), number: number, count: list.count)
            }
            #expect(rig.refusal()?.contains("cannot be in a ring of 8") == true, "\(held)")
        }
        // For a smaller ring than this one.
        rig.region.initializeMemory(as: UInt8.self, repeating: 0)
        var addresses = rig.driver.addresses
        #expect(throws: SetupError.self) {
            try InFlightRecord(
                rig.region.baseAddress!, capacity: 7, resuming: &addresses, in: rig.guest.memory)
        }
    }

    @Test("A46 Whatever a region holds, the ring is refused, or begins within its bounds")
    func anything() throws {
        for format in RingFormat.allCases {
            var accepted = 0
            for seed in 0..<3000 {
                var random = SeededRandom(seed: UInt64(seed))
                let rig = try RecoveryRig(format, start: random.int(0...15))
                writePackets(rig)
                for _ in 0..<4 { rig.driver.post(1, flags: 0) }
                // Small numbers: whole garbage would be refused at once.
                for offset in 0..<rig.regionBytes.count / 2 {
                    let value = UInt16(random.int(0...(random.chance(5) ? 65535 : 9)))
                    rig.region.storeBytes(of: value, toByteOffset: 2 * offset, as: UInt16.self)
                }
                rig.region.storeBytes(of: 1, toByteOffset: 8, as: UInt16.self)
                rig.region.storeBytes(of: 8, toByteOffset: 10, as: UInt16.self)
                if format == .packed {
                    for offset in 20...21 {
                        rig.region.storeBytes(
                            of: UInt8(random.int(0...1)), toByteOffset: offset, as: UInt8.self)
                    }
                }
                guard let queue = try? rig.transmitQueue() else { continue }
                accepted += 1
                let image = rig.guest.image()
                _ = take(queue, rig)
                _ = queue.complete(queue.heldCount)
                image.accept(rig.driver.page, 4096)
                #expect(image.isUnchanged)
            }
            #expect(accepted > 100)
        }
    }
}
