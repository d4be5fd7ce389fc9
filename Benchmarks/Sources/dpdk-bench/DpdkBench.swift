// DPDK's vhost library and libcleave as devices of equal virtqueues, in one process, with the same
// driver, the same packets, in turns. Cycles per packet are those of the device's call alone.
import ArgumentParser
import CDpdkBench
import CleaveHost
import Foundation

@main
struct DpdkBench: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "dpdk-bench",
        abstract: "Compares rte_vhost with libcleave on the same virtqueues.")

    @Option(help: "Ring formats: split, packed.")
    var rings = "split,packed"
    @Option(help: "Shapes of receive buffers: mergeable (4 KiB), single (a whole packet).")
    var buffers = "mergeable,single"
    @Option(help: "Bytes of a packet, each 64 to 9000.")
    var sizes = "64,256,1024,1500,4096,9000"
    @Option(help: "Entries of the virtqueue, powers of two.")
    var ringSizes = "256,1024"
    @Option(help: "Source packets: warm (1024 of them), cold (far more than the caches hold).")
    var sources = "warm,cold"
    @Option(
        help: """
            What to measure: enqueue, dequeue, checksums (dequeue of packets that ask for one), \
            call (C beside Swift), threads.
            """)
    var parts = "enqueue,dequeue,checksums,call,threads"
    @Option(help: "Interleaved runs of each contender.")
    var repeats = 15
    @Option(help: "CPU to measure on (default: the last this process may use).")
    var cpu: Int?
    @Option(help: "Also write the results to this file.")
    var json: String?

    func validate() throws {
        guard (1...1000).contains(repeats) else {
            throw ValidationError("--repeats \(repeats): 1 to 1000")
        }
        _ = try plan()
    }

    func plan() throws -> Plan {
        try Plan(
            rings: rings, buffers: buffers, sizes: sizes, ringSizes: ringSizes, sources: sources,
            parts: parts, repeats: repeats)
    }

    func run() throws {
        let cpu = self.cpu ?? CPUSet.allowed().cpus.last ?? 0
        let directory = FileManager.default.temporaryDirectory
            .appendingPathComponent("dpdk-bench-\(getpid())").path
        try FileManager.default.createDirectory(
            atPath: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: directory) }
        try check(dpdk_bench_start(Int32(cpu), 2048, directory))
        let plan = try plan()
        let versions = String(cString: dpdk_bench_versions())
        print("\(versions); CPU \(cpu); bursts of 32; TSC cycles per packet on the device's side,")
        print("median (min-max) of \(repeats) interleaved runs; 4 KiB pages.")
        print("Ratio: Cleave / DPDK. From mbufs: the packet descriptions made in the timed part.")
        let results = try Measurement(plan: plan).run()
        let overhead =
            plan.parts.contains(.call) ? try AbiOverhead.measure(repeats: max(repeats, 101)) : nil
        if let overhead { print("\n\(overhead.description)") }
        let threads =
            plan.parts.contains(.threads)
            ? try ThreadsResult.measure(rings: plan.rings, deviceCPU: cpu, repeats: repeats) : []
        let bars = Bar.judge(results)
        Report.print(bars)
        if let json {
            try Report.write(
                results, bars: bars, overhead: overhead, threads: threads, to: json,
                facts: Report.Facts(versions: versions, cpu: cpu, repeats: repeats))
        }
    }
}

/// What went wrong, in one line.
struct Failure: Error, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
    /// The sentence that the shared object left.
    static var ofRival: Failure { Failure(String(cString: dpdk_bench_error())) }
}

func check(_ result: Int32) throws(Failure) {
    if result != 0 { throw .ofRival }
}
