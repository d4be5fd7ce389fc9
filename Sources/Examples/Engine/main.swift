// Receive queues (RQs) on threads of Cleave's: an engine with two RQs, each on a pinned thread.
// Shows start, submit, reap, counters, pause and resume, stop. The main thread is the port, from
// which packets come, and plays the guest by CleaveGuestDriver.
//
//   swift run example-engine

import CleaveEngine
import CleaveGuestDriver
import CleaveHost
import CleaveVirtioNet

/// The main thread's part of one RQ: its port, and the guest's driver.
final class Peer {
    let rq: Int
    private let engine: RxEngine
    private let driver: RxDriver
    private let packets: [PacketRef]
    private(set) var submitted = 0
    private(set) var reaped = 0
    private(set) var received = 0
    private(set) var intact = 0

    init(rq: Int, _ engine: RxEngine, _ driver: RxDriver, _ packets: [PacketRef]) {
        self.rq = rq
        self.engine = engine
        self.driver = driver
        self.packets = packets
        driver.refill()
    }

    /// The port hands over every packet once. The bytes stay unchanged until `reap` returns them.
    func submit() {
        submitted += engine.submit(rq, packets, count: packets.count)
    }

    /// Reaps and receives until nothing is on its way. An RQ with a fault places no more packets.
    func finish() {
        while reaped < submitted || received < submitted, engine.fault(rq) == .none {
            reap()
            receive()
        }
    }

    /// The port takes references back: their memory is its own again.
    private func reap() {
        // Room for as many as are on their way at once.
        var finished = packets
        reaped += engine.reap(rq, into: &finished, count: finished.count)
    }

    /// The guest compares each packet with the one that was submitted, and posts buffers again.
    func receive() {
        _ = driver.harvest()
        for packet in driver.packets {
            let sent = packets[received % packets.count]
            let piece = driver.pieces[Int(packet.firstPiece)]
            let found = UnsafeRawBufferPointer(start: piece.pointer, count: Int(piece.byteCount))
            let expected = UnsafeRawBufferPointer(start: sent.pointer, count: Int(sent.byteCount))
            if found.elementsEqual(expected) { intact += 1 }
            received += 1
        }
        driver.finish()
        driver.refill()
    }
}

// 32 packets of 256 bytes, each filled with its number.
let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: 32 * 256, alignment: 64)
let packets = (0..<32).map { number in
    let bytes = UnsafeMutableRawBufferPointer(rebasing: memory[number * 256..<(number + 1) * 256])
    for index in bytes.indices { bytes[index] = UInt8(number) }
    return PacketRef(UnsafeRawPointer(bytes.baseAddress!), byteCount: bytes.count)
}

// A guest with a driver for each RQ.
let settings = RxDriverConfiguration(
    ringSize: 256, shape: .mergeable(bufferByteCount: 2048), method: .whole)
let guest = try GuestSpace(byteCount: 2 * settings.guestByteCount)
let drivers = [try RxDriver(settings, in: guest), try RxDriver(settings, in: guest)]

// A CPU for each RQ, and memory on that CPU's node. On a machine with one CPU the RQs share it.
let plan = try QueuePlan(rqs: 2, cpus: CPUSet.allowed().cpus, oversubscribe: true)
print(plan)
let queues = drivers.map { driver in
    RxQueueConfiguration(
        virtqueue: driver.virtqueue, features: settings.allFeatures, memory: guest.memory,
        method: .whole)
}
let engine = try RxEngine(queues: queues, plan: plan)
let peers = engine.rqs.map { Peer(rq: $0, engine, drivers[$0], packets) }

// From here on each RQ's thread polls its ring of submissions and places what it finds there.
try engine.start()
for _ in 0..<100 {
    for peer in peers { peer.submit() }
    for peer in peers { peer.finish() }
}
for peer in peers {
    let counters = engine.counters(peer.rq)
    print(
        "RQ \(peer.rq): \(peer.submitted) packets submitted, \(peer.reaped) reaped,",
        "\(peer.intact) intact; counters: \(counters.packets) packets, \(counters.bytes) bytes")
}

// `pause` returns at a poll boundary: no burst is half placed. Submitted packets wait.
try engine.pause(0)
peers[0].submit()
peers[0].receive()
let before = peers[0].received
print("RQ 0 paused: \(peers[0].submitted - before) packets wait")
try engine.resume(0)
peers[0].finish()
print("RQ 0 resumed: \(peers[0].received - before) packets received")

// The threads end after their current poll. Counters stay.
engine.stop()
let total = engine.counters
print("stopped: \(total.packets) packets, \(total.droppedTotal) dropped")
// The engine no longer reads the packets.
memory.deallocate()
