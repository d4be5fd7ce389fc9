import CDpdkBench
import CleaveVirtioNet
import Provenance

/// Both contenders in one case.
struct Result: Encodable {
    let op: String
    let ring: String
    let buffers: String
    let method: String
    /// Plain, or packets that leave their checksum to the device.
    let packets: String
    let packetBytes: Int
    let ringSize: Int
    let warm: Bool
    let cleave: Figures
    let dpdk: Figures
    /// Of the medians.
    let ratio: Double
    /// As `cleave`, with what an embedder that has mbufs does before each call.
    let cleaveFromMbufs: Figures?
    let ratioFromMbufs: Double?
}

/// One way of carrying a burst, measured in turns with the others.
struct Contender {
    let name: String
    let run: (_ bursts: UInt32, _ tally: inout dpdk_tally) -> Int32
}

/// Goes through a plan.
struct Measurement {
    let plan: Plan

    func run() throws -> [Result] {
        var results: [Result] = []
        for shape in plan.shapes {
            if !plan.parts.isDisjoint(with: [.enqueue, .dequeue, .checksums]) {
                Report.printHeader(shape)
            }
            if !plan.parts.isDisjoint(with: [.enqueue, .dequeue]) {
                results += try measure(shape, plan.parts)
            }
            // Where checksums were negotiated the driver writes other net headers: a port apart.
            if plan.parts.contains(.checksums) {
                var shape = shape
                shape.sendsChecksums = true
                results += try measure(shape, [.dequeue])
            }
        }
        return results
    }

    private func measure(_ shape: Shape, _ parts: Set<Part>) throws -> [Result] {
        let buffer = shape.bufferByteCount(largestPacket: plan.largestPacket)
        var layout = dpdk_shape(
            packed: shape.ring == .packed, mergeable: shape.isMergeable,
            checksums: shape.sendsChecksums, ring_size: UInt32(shape.ringSize),
            buffer_bytes: UInt32(buffer),
            packet_bytes: UInt32(plan.largestPacket))
        guard let pair = dpdk_pair_create(&layout) else { throw Failure.ofRival }
        defer { dpdk_pair_destroy(pair) }
        let guest = try GuestRig(shape, largestPacket: plan.largestPacket, splits: true)
        let tinyGuest = try GuestRig(
            shape, largestPacket: plan.largestPacket, splits: true, placesTinyPackets: true)
        var results: [Result] = []
        for isWarm in plan.isWarm {
            for size in plan.sizes {
                var rows: [Result] = []
                if parts.contains(.enqueue) {
                    rows += try enqueue(
                        shape, pair, guest, size <= GuestRig.tinyByteCount ? tinyGuest : nil,
                        size: size, isWarm: isWarm)
                }
                if parts.contains(.dequeue) {
                    rows.append(try dequeue(shape, pair, size: size, isWarm: isWarm))
                }
                Report.print(rows)
                results += rows
            }
        }
        return results
    }

    private func enqueue(
        _ shape: Shape, _ pair: OpaquePointer, _ guest: GuestRig, _ tinyGuest: GuestRig?,
        size: Int, isWarm: Bool
    ) throws -> [Result] {
        let count = Plan.sourceCount(packetBytes: size, isWarm: isWarm)
        guard let sources = dpdk_sources_create(UInt32(size), UInt32(count)) else {
            throw Failure.ofRival
        }
        defer { dpdk_sources_destroy(sources) }
        try verify(pair, guest, sources)
        try tinyGuest?.verify(sources, bursts: 32)
        let tiny = tinyGuest.map { guest in
            Contender(name: "d-tiny") { guest.run(sources, bursts: $0, &$1) }
        }
        let samples = try interleave(
            [
                Contender(name: "dpdk") { dpdk_run_enqueue(pair, sources, $0, false, &$1) },
                Contender(name: "whole") {
                    dpdk_run_cleave_enqueue(pair, sources, $0, false, false, &$1)
                },
                Contender(name: "mbufs") {
                    dpdk_run_cleave_enqueue(pair, sources, $0, true, false, &$1)
                },
                Contender(name: "d") { guest.run(sources, bursts: $0, &$1) },
            ] + [tiny].compactMap { $0 }, bursts: Plan.burstCount(packetBytes: size))
        let dpdk = Figures(samples[0])
        func result(_ method: String, _ cleave: Figures, _ mbufs: Figures?) -> Result {
            Result(
                op: "enqueue", ring: shape.ring.rawValue, buffers: shape.buffers, method: method,
                packets: shape.packets, packetBytes: size, ringSize: shape.ringSize, warm: isWarm,
                cleave: cleave,
                dpdk: dpdk, ratio: cleave.median / dpdk.median, cleaveFromMbufs: mbufs,
                ratioFromMbufs: mbufs.map { $0.median / dpdk.median })
        }
        return [
            result("whole", Figures(samples[1]), Figures(samples[2])),
            result("d", Figures(samples[3]), nil),
        ] + samples.dropFirst(4).map { result("d-tiny", Figures($0), nil) }
    }

    private func dequeue(
        _ shape: Shape, _ pair: OpaquePointer, size: Int, isWarm: Bool
    ) throws -> Result {
        // Rings hold on to some of the packets.
        let count = Plan.sourceCount(packetBytes: size, isWarm: isWarm) + 4 * shape.ringSize
        guard let sources = dpdk_sources_create(UInt32(size), UInt32(count)) else {
            throw Failure.ofRival
        }
        defer { dpdk_sources_destroy(sources) }
        dpdk_sources_release(sources)
        var tally = dpdk_tally()
        try check(dpdk_run_dequeue(pair, sources, 32, true, &tally))
        try check(dpdk_run_cleave_dequeue(pair, sources, 32, true, &tally))
        guard tally.damaged == 0 else { throw Failure("\(tally.damaged) packets were damaged") }
        let samples = try interleave(
            [
                Contender(name: "dpdk") { dpdk_run_dequeue(pair, sources, $0, false, &$1) },
                Contender(name: "whole") {
                    dpdk_run_cleave_dequeue(pair, sources, $0, false, &$1)
                },
            ], bursts: Plan.burstCount(packetBytes: size))
        try check(dpdk_sources_reclaim(sources, pair))
        let dpdk = Figures(samples[0])
        let cleave = Figures(samples[1])
        return Result(
            op: "dequeue", ring: shape.ring.rawValue, buffers: shape.buffers, method: "whole",
            packets: shape.packets, packetBytes: size, ringSize: shape.ringSize, warm: isWarm,
            cleave: cleave, dpdk: dpdk,
            ratio: cleave.median / dpdk.median, cleaveFromMbufs: nil, ratioFromMbufs: nil)
    }

    /// Every byte of some packets, before anything is timed.
    private func verify(
        _ pair: OpaquePointer, _ guest: GuestRig, _ sources: OpaquePointer
    ) throws {
        var tally = dpdk_tally()
        try check(dpdk_run_enqueue(pair, sources, 32, true, &tally))
        try check(dpdk_run_cleave_enqueue(pair, sources, 32, false, true, &tally))
        try check(dpdk_run_cleave_enqueue(pair, sources, 32, true, true, &tally))
        guard tally.damaged == 0 else { throw Failure("\(tally.damaged) packets were damaged") }
        try guest.verify(sources, bursts: 32)
    }

    /// Cycles per packet of each contender, `repeats` runs each, in turns; one round of warm-up.
    private func interleave(_ contenders: [Contender], bursts: UInt32) throws -> [[Double]] {
        var samples = [[Double]](repeating: [], count: contenders.count)
        for round in 0...plan.repeats {
            for (index, contender) in contenders.enumerated() {
                var tally = dpdk_tally()
                try check(contender.run(bursts, &tally))
                if round > 0 { samples[index].append(Double(tally.cycles) / Double(tally.packets)) }
            }
        }
        return samples
    }
}
