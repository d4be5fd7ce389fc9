// Carries packets through an RQ's thread and prints that thread's calls of the allocator and of
// reference counting meanwhile; then those of a thread that does call them, to show that the
// counters count. Built for release: a debug build retains where release code does not.
//
//   hot-loop-probe PACKETS     lines of words: "worker NAME KEY COUNT ...", "canary KEY COUNT ..."
//   hot-loop-probe count PACKETS PROFILE    for an instruction counter: Count.swift
import CCleaveTestSupport
import CleaveEngine
import CleaveGuestDriver
import CleaveHost
import CleaveTraffic
import CleaveVirtioNet
import Foundation

struct Counts {
    let read = cleave_runtime_counts_read()

    func words(since start: Counts) -> String {
        "allocations \(read.allocations - start.read.allocations)"
            + " frees \(read.frees - start.read.frees)"
            + " retains \(read.retains - start.read.retains)"
            + " releases \(read.releases - start.read.releases)"
    }
}

/// One RQ with its guest. The main thread is port and driver.
final class Probe {
    let pool: PacketPool
    let engine: RxEngine
    let driver: RxDriver

    init(
        _ method: RxMethod, pool: PacketPool, ringSize: Int, ring: RingFormat = .split,
        slotReturn: SlotReturn = .tail, placesTinyPackets: Bool = false
    ) throws {
        self.pool = pool
        let space = try GuestSpace(byteCount: ringSize * 4096 + (1 << 20))
        let slots =
            method.needsHeaderQueue
            ? try DriverHeaderQueue(
                slotSize: 128, slotCount: ringSize, slotReturn: slotReturn, in: space) : nil
        driver = try RxDriver(
            RxDriverConfiguration(
                ringSize: ringSize, ring: ring, shape: .mergeable(bufferByteCount: 4096),
                method: method,
                headerQueue: slots), in: space)
        var queue = RxQueueConfiguration(
            virtqueue: driver.virtqueue, features: driver.configuration.allFeatures,
            memory: space.memory, method: method,
            headerQueue: try slots.map { try HeaderQueue($0.layout, memory: space.memory) })
        queue.splitPolicy.placesTinyPackets = placesTinyPackets
        engine = try RxEngine(queues: [queue], plan: QueuePlan(unpinned: 1))
        driver.refill()
    }

    /// Submits `packets` and carries all of them to their end.
    func carry(_ packets: Int) -> Int {
        var submitted = 0
        var reaped = 0
        var harvested = 0
        var idleRounds = 0
        let refs = UnsafeMutablePointer<PacketRef>.allocate(capacity: 64)
        defer { refs.deallocate() }
        while reaped < packets || harvested < packets {
            let position = submitted % pool.count
            let run = min(pool.count - position, packets - submitted)
            let taken = engine.submit(0, pool.refs.baseAddress! + position, count: run)
            let returned = engine.reap(0, into: refs, count: 64)
            let found = driver.harvest()
            driver.finish()
            driver.refill()
            submitted += taken
            reaped += returned
            harvested += found
            idleRounds = taken + returned + found == 0 ? idleRounds + 1 : 0
            if idleRounds & 63 == 63 { PinnedThread.yield() }
            if idleRounds > 20_000_000 { break }
        }
        return harvested
    }
}

final class Canary: @unchecked Sendable {
    // SAFETY: the thread that appends is joined before the array is read.
    var kept: [Canary] = []
}

func probe(packets: Int) throws {
    cleave_runtime_counts_exempt(true)
    let pool = try PacketPool.load("mixed", count: 256, flows: 16)
    let methods: [(String, RxMethod)] = [
        ("whole", .whole), ("netHeader", .headerQueue(.netHeader)),
        ("usedLength", .headerQueue(.usedLength)),
        ("measured", .headerQueue(.usedLength)),
    ]
    for (name, method) in methods {
        let probe = try Probe(method, pool: pool, ringSize: 256)
        if name == "measured" { probe.engine.profile(0)?.period = 1 }
        try probe.engine.start()
        // The thread is in its loop once the first packets are through.
        _ = probe.carry(pool.count)
        let before = Counts()
        let carried = probe.carry(packets)
        let after = Counts()
        probe.engine.stop()
        let split = probe.engine.counters.split
        print("worker \(name) packets \(carried) split \(split) \(after.words(since: before))")
    }
    let canary = Canary()
    let before = Counts()
    let thread = try PinnedThread(name: "canary", cpu: nil) {
        for _ in 0..<1000 { canary.kept.append(Canary()) }
        let copies = canary.kept.map { $0 }
        canary.kept = copies.reversed()
    }
    thread.join()
    print("canary kept \(canary.kept.count) \(Counts().words(since: before))")
}

let arguments = Array(CommandLine.arguments.dropFirst())
do {
    if arguments.count == 3, arguments[0] == "count", let packets = Int(arguments[1]), packets > 0 {
        try count(packets: packets, of: arguments[2])
    } else if arguments.count == 1, let packets = Int(arguments[0]), packets > 0 {
        try probe(packets: packets)
    } else {
        let usage = "usage: hot-loop-probe PACKETS\n       hot-loop-probe count PACKETS PROFILE\n"
        FileHandle.standardError.write(Data(usage.utf8))
        exit(2)
    }
} catch {
    FileHandle.standardError.write(Data("hot-loop-probe: \(error)\n".utf8))
    exit(1)
}
