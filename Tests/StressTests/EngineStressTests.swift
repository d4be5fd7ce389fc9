// The engine's threads, a port and drivers, each on a thread of its own.
import CleaveEngine
import CleaveGuestDriver
import CleaveHost
import CleaveProfiling
import CleaveRings
import CleaveVirtioNet
import Testing

/// A ring and a method.
private struct Setting: Sendable, CustomTestStringConvertible {
    var ring: RingFormat
    var method: RxMethod
    var slotReturn = SlotReturn.tail
    var testDescription: String { "\(ring) \(method) \(slotReturn)" }
}

private let settings: [Setting] = RingFormat.allCases.flatMap { ring in
    [.whole, .headerQueue(.netHeader), .headerQueue(.usedLength)].map {
        Setting(ring: ring, method: $0)
    }
        + HeaderReport.allCases.map {
            Setting(ring: ring, method: .headerQueue($0), slotReturn: .ring)
        }
}

@Suite("Engine threads end to end")
struct EngineStressTests {
    private func expectIntact(_ port: Port, _ drivers: [DriverThread], _ guest: EngineGuest) {
        #expect(port.misplaced == 0)
        #expect(port.dropped == 0)
        #expect(drivers.map(\.corrupt) == Array(repeating: 0, count: drivers.count))
        #expect(guest.drivers.allSatisfy { $0.fault == .none })
        #expect(guest.headerQueue.doubleRetireCount == 0)
        #expect(!guest.deviceQueue.isBroken && guest.deviceQueue.duplicateCount == 0)
        #expect(guest.engine.counters.fault == .none)
    }

    @Test("Measured while others read and switch, every byte arrives too", arguments: settings)
    private func measured(_ setting: Setting) throws {
        let total = 4_000
        let guest = try EngineGuest(
            rqs: 2, ring: setting.ring, method: setting.method, slotReturn: setting.slotReturn)
        let profiles = (0..<2).compactMap { guest.engine.profile($0) }
        try #require(profiles.count == 2)
        for profile in profiles { profile.period = 1 }
        let stop = SharedFlag()
        let observer = try PinnedThread(name: "observer", cpu: nil) {
            var round: UInt32 = 0
            while !stop.isSet {
                for profile in profiles {
                    let snapshot = ProfileSnapshot(profile.block)
                    let traces = profile.block.readTraces()
                    if snapshot.bursts > 0 || !traces.isEmpty { profile.period = 1 &+ round % 3 }
                }
                round &+= 1
                PinnedThread.yield()
            }
        }
        var port = Port(guest)
        let drivers = try (0..<2).map { try DriverThread(guest, rq: $0, until: total) }
        try guest.engine.start()
        let isCarried = port.carry(upTo: total)
        #expect(isCarried)
        for driver in drivers { driver.finish() }
        guest.engine.stop()
        stop.set()
        observer.join()
        expectIntact(port, drivers, guest)
        #expect(drivers.map(\.harvested) == [total, total])
        for profile in profiles {
            let snapshot = ProfileSnapshot(profile.block)
            #expect(snapshot.bursts + snapshot.count(.wholeTurns) > 0)
            #expect(profile.block.readTraces().allSatisfy { $0.packets > 0 })
        }
    }

    /// Tells a thread to end.
    private final class SharedFlag: @unchecked Sendable {
        // SAFETY: one shared word, freed with the last reference to it.
        private let word: SharedWord32

        init() {
            word = SharedWord32(.allocate(byteCount: 4, alignment: 4))
            word.store(0)
        }

        deinit { word.deallocate() }

        func set() { word.store(1) }
        var isSet: Bool { word.load() != 0 }
    }

    @Test("Every byte arrives, in order", arguments: [1, 2], settings)
    private func everyByte(_ rqs: Int, _ setting: Setting) throws {
        let total = 4_000
        let method = setting.method
        let guest = try EngineGuest(
            rqs: rqs, ring: setting.ring, method: method, slotReturn: setting.slotReturn)
        var port = Port(guest)
        let drivers = try (0..<rqs).map { try DriverThread(guest, rq: $0, until: total) }
        try guest.engine.start()
        let isCarried = port.carry(upTo: total)
        #expect(isCarried)
        for driver in drivers { driver.finish() }
        guest.engine.stop()
        expectIntact(port, drivers, guest)
        #expect(drivers.map(\.harvested) == Array(repeating: total, count: rqs))
        let counters = guest.engine.counters
        #expect(counters.packets == UInt64(total * rqs))
        #expect(counters.split == UInt64(drivers.reduce(0) { $0 + $1.split }))
        #expect(counters.split == counters.slots)
        #expect(counters.slots == (method == .whole ? 0 : guest.deviceQueue.claimedCount))
        let fallback = counters.fallback.values.reduce(0, +)
        #expect(method == .whole || counters.split + fallback == counters.packets)
    }

    @Test(
        "Few slots shared by two RQs: unsplit packets are as intact as split ones",
        arguments: SlotReturn.allCases)
    func fewSlots(_ slotReturn: SlotReturn) throws {
        let total = 4_000
        let guest = try EngineGuest(
            rqs: 2, method: .headerQueue(.usedLength), slots: 4, slotReturn: slotReturn)
        var port = Port(guest)
        let drivers = try (0..<2).map { try DriverThread(guest, rq: $0, until: total) }
        try guest.engine.start()
        let isCarried = port.carry(upTo: total)
        #expect(isCarried)
        for driver in drivers { driver.finish() }
        guest.engine.stop()
        expectIntact(port, drivers, guest)
        let counters = guest.engine.counters
        #expect(counters.split + counters.fallback[.noSlot, default: 0] == counters.packets)
        #expect(counters.fallback[.noSlot, default: 0] > 0)
    }

    @Test("Start, drain, stop, and again", arguments: [1, 2])
    func lifeCycle(_ rqs: Int) throws {
        let guest = try EngineGuest(rqs: rqs, method: .headerQueue(.usedLength))
        var port = Port(guest)
        for round in 1...4 {
            let limit = round * 700
            let drivers = try (0..<rqs).map {
                try DriverThread(guest, rq: $0, first: (round - 1) * 700, until: limit)
            }
            try guest.engine.start()
            #expect(throws: SetupError.self) { try guest.engine.start() }
            var patience = Patience()
            while port.submitted.contains(where: { $0 < limit }) {
                var progress = 0
                for rq in 0..<rqs { progress += port.submit(rq, upTo: limit) + port.reap(rq) }
                guard patience.wait(after: progress) else { break }
            }
            // All packets that are left fit into the completion rings, so no reaping is needed
            // meanwhile.
            #expect(guest.engine.drain(seconds: 600))
            guest.engine.stop()
            guest.engine.stop()
            for driver in drivers { driver.finish() }
            port.reapAll()
            #expect(port.reaped == Array(repeating: limit, count: rqs))
            #expect(drivers.map(\.harvested) == Array(repeating: limit, count: rqs))
            expectIntact(port, drivers, guest)
        }
    }

    @Test("Stopped with packets in flight, nothing is lost", arguments: [1, 2])
    func stopInFlight(_ rqs: Int) throws {
        let guest = try EngineGuest(rqs: rqs, method: .headerQueue(.netHeader))
        var port = Port(guest)
        var harvested = Array(repeating: 0, count: rqs)
        for round in 1...12 {
            let drivers = try (0..<rqs).map {
                try DriverThread(guest, rq: $0, first: harvested[$0], until: .max)
            }
            try guest.engine.start()
            for _ in 0..<(round * 7) {
                for rq in 0..<rqs { _ = port.submit(rq, upTo: .max) + port.reap(rq) }
            }
            guest.engine.stop()
            // Delivered packets came back; the rest waits in the submission rings.
            port.reapAll()
            for rq in 0..<rqs {
                #expect(guest.engine.counters(rq).packets == UInt64(port.reaped[rq]))
                #expect(port.submitted[rq] - port.reaped[rq] <= 128)
                drivers[rq].finish(at: port.reaped[rq])
                harvested[rq] = drivers[rq].harvested
            }
            #expect(harvested == port.reaped)
            expectIntact(port, drivers, guest)
        }
        let limit = port.submitted.max()! + 100
        let drivers = try (0..<rqs).map {
            try DriverThread(guest, rq: $0, first: harvested[$0], until: limit)
        }
        try guest.engine.start()
        let isCarried = port.carry(upTo: limit)
        #expect(isCarried)
        for driver in drivers { driver.finish() }
        guest.engine.stop()
        #expect(drivers.map(\.harvested) == Array(repeating: limit, count: rqs))
        expectIntact(port, drivers, guest)
    }

    @Test("Without buffers packets stay where they are, and go on later")
    func noBuffers() throws {
        let guest = try EngineGuest(rqs: 1, method: .whole)
        var port = Port(guest)
        try guest.engine.start()
        let taken = port.submit(0, upTo: 10)
        #expect(taken == 10)
        #expect(!guest.engine.drain(seconds: 0))
        guest.engine.stop()
        port.reapAll()
        #expect(port.reaped == [0])
        let driver = try DriverThread(guest, rq: 0, until: 10)
        try guest.engine.start()
        let isCarried = port.carry(upTo: 10)
        #expect(isCarried)
        driver.finish()
        guest.engine.stop()
        expectIntact(port, [driver], guest)
    }
}
