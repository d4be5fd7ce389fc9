// RQs that are paused, reset, added and removed while others run and share their header queue.
import CleaveEngine
import CleaveGuestDriver
import CleaveHost
import CleaveRings
import CleaveVirtioNet
import Testing

@Suite("RQs come and go while the engine runs")
struct EngineLifeTests {
    private func expectIntact(_ guest: EngineGuest, _ port: Port, _ drivers: [DriverThread]) {
        #expect(port.misplaced == 0 && port.dropped == 0)
        #expect(drivers.allSatisfy { $0.corrupt == 0 })
        #expect(guest.drivers.allSatisfy { $0.fault == .none })
        #expect(guest.headerQueue.doubleRetireCount == 0 && !guest.deviceQueue.isBroken)
        #expect(guest.engine.counters.fault == .none)
    }

    /// Every slot that was claimed was reported, retired, and is free again, but for those that
    /// wait for the rest of their group.
    /// - Parameter reset: slots claimed when the header queue was last reset.
    private func expectAllSlotsBack(_ guest: EngineGuest, since reset: UInt64 = 0) {
        #expect(guest.engine.unreportedSlots(of: guest.deviceQueue) == 0)
        #expect(guest.deviceQueue.duplicateCount == 0)
        let claimed = Int(guest.deviceQueue.claimedCount - reset)
        let waiting =
            guest.headerQueue.layout.slotReturn == .tail
            ? claimed % guest.headerQueue.groupSize : guest.headerQueue.waitingSlotCount
        #expect(guest.deviceQueue.freeCount == guest.headerQueue.layout.slotCount - waiting)
    }

    @Test(
        "A paused RQ takes nothing, the other goes on; resumed, it loses nothing",
        arguments: SlotReturn.allCases)
    func pause(_ slotReturn: SlotReturn) throws {
        let guest = try EngineGuest(
            rqs: 2, method: .headerQueue(.usedLength), slotReturn: slotReturn)
        let engine = guest.engine
        var port = Port(guest)
        let drivers = try (0..<2).map { try DriverThread(guest, rq: $0, until: 3_000) }
        try engine.start()
        for round in 1...5 {
            try engine.pause(1)
            #expect(engine.isPaused(1) && !engine.isPaused(0))
            let held = engine.counters(1)
            let goal = port.reaped[0] + 200
            var patience = Patience()
            while port.reaped[0] < goal {
                let progress = port.submit(0, upTo: goal) + port.submit(1, upTo: round * 100)
                if !patience.wait(after: progress + port.reap(0)) { break }
            }
            #expect(port.reaped[0] >= goal && engine.counters(1) == held)
            try engine.resume(1)
        }
        engine.pause()
        #expect(engine.unreportedSlots(of: guest.deviceQueue) == 0)
        engine.resume()
        let isCarried = port.carry(upTo: 3_000)
        #expect(isCarried)
        for driver in drivers { driver.finish() }
        engine.stop()
        expectIntact(guest, port, drivers)
        expectAllSlotsBack(guest)
    }

    @Test("Paused before the start, an RQ waits; stopped while paused, it ends")
    func pausedStart() throws {
        let guest = try EngineGuest(rqs: 1, method: .whole)
        var port = Port(guest)
        try guest.engine.pause(0)
        guest.drivers[0].refill()
        #expect(port.submit(0, upTo: 5) == 5)
        #expect(guest.engine.poll(0) == 0)
        try guest.engine.start()
        try guest.engine.pause(0)
        #expect(guest.engine.counters(0).packets == 0)
        guest.engine.stop()
        try guest.engine.resume(0)
        #expect(guest.engine.poll(0) == 5)
    }

    @Test(
        "A reset RQ goes on over another virtqueue; every slot it had comes back",
        arguments: SlotReturn.allCases)
    func reset(_ slotReturn: SlotReturn) throws {
        let rounds = 6
        let guest = try EngineGuest(
            rqs: 2, method: .headerQueue(.usedLength), slotReturn: slotReturn, spares: rounds)
        let engine = guest.engine
        var port = Port(guest)
        let other = try DriverThread(guest, rq: 0, until: .max)
        var threads = [other]
        try engine.start()
        var harvested = 0
        for round in 0..<rounds {
            let number = round == 0 ? 1 : 1 + round
            let driver = try DriverThread(guest, rq: number, first: harvested, until: .max)
            threads.append(driver)
            let goal = port.submitted[1] + 150
            var patience = Patience()
            while port.submitted[1] < goal {
                let progress = (0...1).reduce(0) {
                    $0 + port.submit($1, upTo: .max) + port.reap($1)
                }
                if !patience.wait(after: progress) { break }
            }
            try engine.reset(1)
            #expect(throws: SetupError.self) {
                try engine.enable(0, guest.configuration(driver: 0))
            }
            // The driver of the old virtqueue takes the packets that were reported before the
            // reset, no more.
            driver.finish(at: Int(engine.counters(1).packets))
            harvested = driver.harvested
            #expect(UInt64(harvested) == engine.counters(1).packets)
            try engine.enable(1, guest.configuration(driver: 2 + round))
        }
        let last = try DriverThread(guest, rq: 1 + rounds, first: harvested, until: .max)
        let limit = port.submitted.max()! + 200
        let isCarried = port.carry(upTo: limit)
        #expect(isCarried)
        for driver in [other, last] { driver.finish(at: limit) }
        engine.stop()
        expectIntact(guest, port, threads + [last])
        #expect(engine.counters.packets == UInt64(2 * limit))
        expectAllSlotsBack(guest)
    }

    @Test(
        "RQs are removed and added; what was not delivered comes back marked",
        arguments: SlotReturn.allCases)
    func removeAndAdd(_ slotReturn: SlotReturn) throws {
        let rounds = 6
        let guest = try EngineGuest(
            rqs: 2, method: .headerQueue(.netHeader), slotReturn: slotReturn, spares: rounds)
        let engine = guest.engine
        var port = Port(guest)
        let other = try DriverThread(guest, rq: 0, until: .max)
        try engine.start()
        var delivered: UInt64 = 0
        for round in 0..<rounds {
            let number = 1 + round
            let driver = try DriverThread(guest, rq: number, until: .max)
            var patience = Patience()
            while port.submitted[1] < 300 {
                let progress =
                    port.submit(0, upTo: .max) + port.reap(0) + port.submit(1, upTo: 300)
                    + port.reap(1)
                if !patience.wait(after: progress) { break }
            }
            let rest = try engine.remove(1)
            #expect(engine.rqs == [0])
            #expect(throws: SetupError.self) { try engine.pause(1) }
            let undelivered = rest.count { $0.flags.contains(.dropped) }
            // Each of them came back exactly once.
            #expect(port.reaped[1] + rest.count == 300)
            driver.finish(at: 300 - undelivered)
            #expect(driver.harvested == 300 - undelivered && driver.corrupt == 0)
            delivered += UInt64(300 - undelivered)
            port.forget(1)
            let added = try engine.add(
                guest.configuration(driver: 2 + round), at: .init(cpu: nil, node: nil))
            #expect(added == 1)
        }
        let limit = port.submitted[0] + 100
        let last = try DriverThread(guest, rq: 1 + rounds, until: limit)
        let isCarried = port.carry(upTo: limit)
        #expect(isCarried)
        for driver in [other, last] { driver.finish(at: limit) }
        engine.stop()
        expectIntact(guest, port, [other, last])
        #expect(engine.counters.packets == UInt64(2 * limit) + delivered)
        expectAllSlotsBack(guest)
    }

    @Test(
        "A header queue is reset while both its RQs run, broken by its driver or not",
        arguments: SlotReturn.allCases)
    func headerQueueReset(_ slotReturn: SlotReturn) throws {
        let guest = try EngineGuest(
            rqs: 2, method: .headerQueue(.usedLength), slotReturn: slotReturn)
        let engine = guest.engine
        var port = Port(guest)
        try engine.start()
        var harvested = [0, 0]
        var before: UInt64 = 0
        for round in 1...6 {
            let drivers = try (0..<2).map {
                try DriverThread(guest, rq: $0, first: harvested[$0], until: .max)
            }
            let goal = port.reaped.map { $0 + 300 }
            var patience = Patience()
            while (0..<2).contains(where: { port.reaped[$0] < goal[$0] }) {
                let progress = (0..<2).reduce(0) {
                    $0 + port.submit($1, upTo: .max) + port.reap($1)
                }
                if !patience.wait(after: progress) { break }
            }
            // Slots are claimed, reported, and half retired.
            for driver in drivers { driver.finish(at: 0) }
            guest.headerQueue.prepareReset()
            if round % 2 == 0 && slotReturn == .tail { try breakTail(guest) }
            engine.reset(guest.deviceQueue)
            #expect(!guest.deviceQueue.isBroken && guest.deviceQueue.freeCount == 0)
            before = guest.deviceQueue.claimedCount
            for rq in 0..<2 {
                #expect(drivers[rq].takeBack(upTo: Int(engine.counters(rq).packets)))
            }
            expectIntact(guest, port, drivers)
            harvested = drivers.map(\.harvested)
            #expect(guest.deviceQueue.claimedCount == before)
            guest.headerQueue.finishReset()
        }
        let limit = port.submitted.max()! + 200
        let drivers = try (0..<2).map {
            try DriverThread(guest, rq: $0, first: harvested[$0], until: limit)
        }
        let isCarried = port.carry(upTo: limit)
        #expect(isCarried)
        for driver in drivers { driver.finish() }
        engine.stop()
        expectIntact(guest, port, drivers)
        expectAllSlotsBack(guest, since: before)
        #expect(engine.counters.split > 1_000)
    }

    /// Moves the tail to an impossible value, by whole groups.
    private func breakTail(_ guest: EngineGuest) throws {
        let control = try #require(
            guest.memory.translate(guest.headerQueue.layout.control, byteCount: 4))
        SharedWord32(control).store(guest.headerQueue.currentTail &+ 0x100_0000)
    }

    @Test("Parked threads wake for packets and orders", arguments: [1, 2])
    func park(_ rqs: Int) throws {
        // So long a sleep ends by a wake-up alone; a missed one shows as a late packet.
        let idle = IdlePolicy(.park, pollsBeforePark: 3, wakeMicroseconds: 60_000_000)
        let guest = try EngineGuest(rqs: rqs, method: .headerQueue(.usedLength), idle: idle)
        let engine = guest.engine
        var port = Port(guest)
        for driver in guest.drivers { driver.refill() }
        try engine.start()
        for round in 1...40 {
            var patience = Patience()
            for rq in 0..<rqs {
                let before = engine.parks(rq).count
                // In every other round the packet comes while the thread sleeps for sure.
                while round % 2 == 0 && engine.parks(rq).count == before {
                    if !patience.wait(after: 0) { break }
                    if engine.parks(rq).count > 0 { break }
                }
                #expect(port.submit(rq, upTo: round) == 1)
            }
            while (0..<rqs).contains(where: { port.reaped[$0] < round }) {
                let progress = (0..<rqs).reduce(0) { $0 + port.reap($1) }
                if !patience.wait(after: progress) { break }
            }
            #expect(port.reaped == Array(repeating: round, count: rqs))
            try engine.pause(0)
            try engine.resume(0)
            for driver in guest.drivers {
                _ = driver.harvest()
                driver.finish()
                driver.refill()
            }
        }
        for rq in 0..<rqs { #expect(engine.parks(rq).count > 0 && engine.parks(rq).late == 0) }
        engine.stop()
        #expect(port.misplaced == 0)
    }

    @Test(
        "A thread that sleeps for want of buffers wakes by the kick that it asked for",
        arguments: RingFormat.allCases)
    func kick(_ ring: RingFormat) throws {
        let idle = IdlePolicy(.park, pollsBeforePark: 3, wakeMicroseconds: 60_000_000)
        let kick = try EventDescriptor()
        let guest = try EngineGuest(
            rqs: 1, ring: ring, method: .headerQueue(.usedLength), idle: idle,
            kick: kick.fileDescriptor)
        var port = Port(guest)
        let driver = guest.drivers[0]
        try guest.engine.start()
        // Twice what the ring holds, all of it waiting for buffers.
        #expect(port.submit(0, upTo: 15) == 15)
        var kicks = 0
        var harvested = 0
        var patience = Patience()
        for round in 0..<200 where harvested < 15 * 12 {
            // In every other round the thread has had the time to fall asleep.
            let parks = guest.engine.parks(0).count
            while round % 2 == 0 && guest.engine.parks(0).count == parks && parks == 0 {
                if !patience.wait(after: 0) { break }
            }
            let posted = driver.refill()
            if posted.wantsKick {
                kick.signal()
                kicks += 1
            }
            var rest = Patience()
            while harvested < port.submitted[0] {
                let count = driver.harvest()
                harvested += count
                driver.finish()
                let progress = count + port.reap(0)
                let refilled = driver.refill()
                if refilled.wantsKick {
                    kick.signal()
                    kicks += 1
                }
                if !rest.wait(after: progress) { break }
            }
            while port.reaped[0] < port.submitted[0] {
                if !rest.wait(after: port.reap(0)) { break }
            }
            _ = port.submit(0, upTo: port.submitted[0] + 15)
        }
        guest.engine.stop()
        #expect(harvested >= 15 * 12 && kicks > 0)
        #expect(guest.engine.parks(0).late == 0 && driver.fault == .none)
        withExtendedLifetime(kick) {}
    }
}
