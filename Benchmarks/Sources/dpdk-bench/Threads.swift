import CDpdkBench
import CleaveHost
import CleaveVirtioNet
import Provenance

/// Throughput of one ring with device and driver on a core each, both contenders in turns.
struct ThreadsResult: Encodable {
    let ring: String
    let packetBytes: Int
    let ringSize: Int
    /// Million packets per second.
    let cleave: Figures
    let dpdk: Figures
    /// Cleave / DPDK, of the medians.
    let ratio: Double

    /// Packets of one run: some tens of milliseconds.
    private static let packets: UInt64 = 1_000_000

    /// 64-byte packets, placed whole, mergeable buffers, ring of 256.
    /// - Parameter deviceCPU: the CPU that the calling thread is on.
    /// - Returns: nothing where there is one CPU only.
    static func measure(
        rings: [RingFormat], deviceCPU: Int, repeats: Int
    ) throws -> [ThreadsResult] {
        guard let driverCPU = CPUSet.allowed().cpus.first(where: { $0 != deviceCPU }) else {
            print("\nTwo cores: not measured, this process may use one CPU only.")
            return []
        }
        print(
            "\nTwo cores, device on CPU \(deviceCPU), driver on CPU \(driverCPU): "
                + "64 B whole, mergeable, ring of 256; Mpps")
        return try rings.map { ring in
            let result = try measure(ring, driverCPU: driverCPU, repeats: repeats)
            print(
                "\(ring.rawValue): DPDK \(Report.figures(result.dpdk)), "
                    + "Cleave \(Report.figures(result.cleave)), "
                    + "ratio \(Report.number(result.ratio))")
            return result
        }
    }

    private static func measure(
        _ ring: RingFormat, driverCPU: Int, repeats: Int
    ) throws -> ThreadsResult {
        var shape = dpdk_shape(
            packed: ring == .packed, mergeable: true, checksums: false, ring_size: 256,
            buffer_bytes: 2048,
            packet_bytes: 64)
        guard let pair = dpdk_pair_create(&shape), let sources = dpdk_sources_create(64, 1024)
        else { throw Failure.ofRival }
        defer {
            dpdk_sources_destroy(sources)
            dpdk_pair_destroy(pair)
        }
        var samples: [[Double]] = [[], []]
        for round in 0...repeats {
            for (index, usesCleave) in [false, true].enumerated() {
                var rate = 0.0
                try check(
                    dpdk_run_threads(
                        pair, sources, usesCleave, Int32(driverCPU), packets, &rate))
                if round > 0 { samples[index].append(rate / 1e6) }
            }
        }
        let (dpdk, cleave) = (Figures(samples[0]), Figures(samples[1]))
        return ThreadsResult(
            ring: ring.rawValue, packetBytes: 64, ringSize: 256, cleave: cleave, dpdk: dpdk,
            ratio: cleave.median / dpdk.median)
    }
}
