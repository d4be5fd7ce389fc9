// Packets of every method and ring, on one thread, for an instruction counter:
// Tests/Baselines/count runs this under callgrind. Only the device's poll and the driver's part are
// counted, each by itself, once both are warm, so that the number of packets does not matter.
import CCleaveTestSupport
import CleaveEngine
import CleaveGuestDriver
import CleaveHost
import CleaveTraffic
import CleaveVirtioNet
import Foundation

/// The side whose instructions are counted.
enum CountedSide: String, CaseIterable { case device, driver }

/// Carries `packets` packets of `packet` for each method, ring and side, and dumps the counts after
/// each under the name "METHOD RING SIDE".
func count(packets: Int, of packet: String) throws {
    let methods: [(String, RxMethod, SlotReturn)] = [
        ("whole", .whole, .tail), ("a", .headerDescriptor, .tail), ("b", .headerPage, .tail),
        ("c", .alternating(headerBufferByteCount: 128), .tail),
        ("netHeader", .headerQueue(.netHeader), .tail),
        ("usedLength", .headerQueue(.usedLength), .tail),
        ("tiny", .headerQueue(.usedLength), .tail),
        ("ring", .headerQueue(.usedLength), .ring), ("groups", .headerQueue(.usedLength), .groups),
    ]
    let pool = try PacketPool.load(packet, count: 256, flows: 16)
    try countParts(packets: packets)
    try countRegions(pool, packets: packets)
    for (name, method, slotReturn) in methods {
        for ring in RingFormat.allCases {
            let probe = try Probe(
                method, pool: pool, ringSize: 256, ring: ring, slotReturn: slotReturn,
                placesTinyPackets: name == "tiny")
            _ = try probe.carryInTurns(4 * pool.count, counting: nil)
            for side in CountedSide.allCases {
                let carried = try probe.carryInTurns(packets, counting: side)
                cleave_count_dump("\(name) \(ring.rawValue) \(side.rawValue)")
                print("\(name) \(ring.rawValue) \(side.rawValue): \(carried) packets")
            }
            let counters = probe.engine.counters
            let (apart, none) =
                name == "tiny" ? (counters.tiny, counters.split) : (counters.split, counters.tiny)
            guard (apart == 0) == (method == .whole), none == 0 else {
                throw ProbeError(
                    description: "\(name) \(ring.rawValue): \(counters.split) were split, "
                        + "\(counters.tiny) lay in slots entirely")
            }
        }
    }
}

extension Probe {
    /// Carries packets in bursts of 32 on this thread.
    func carryInTurns(_ packets: Int, counting side: CountedSide?) throws -> Int {
        let refs = UnsafeMutablePointer<PacketRef>.allocate(capacity: 64)
        defer { refs.deallocate() }
        var harvested = 0
        var position = 0
        while harvested < packets {
            let run = min(32, pool.count - position, packets - harvested)
            let taken = engine.submit(0, pool.refs.baseAddress! + position, count: run)
            position = (position + taken) % pool.count
            if side == .device { cleave_count_toggle() }
            _ = engine.poll(0)
            if side == .device { cleave_count_toggle() }
            if side == .driver { cleave_count_toggle() }
            let found = driver.harvest()
            driver.finish()
            driver.refill()
            if side == .driver { cleave_count_toggle() }
            harvested += found
            let returned = engine.reap(0, into: refs, count: 64)
            guard taken == run, found == run, returned == run else {
                throw ProbeError(
                    description: "of \(run) packets \(taken) were taken, \(found) arrived and "
                        + "\(returned) came back")
            }
        }
        return harvested
    }
}

struct ProbeError: Error, CustomStringConvertible {
    let description: String
}
