// Cleave's SPSC ring beside those of others: 16-byte elements between two cores, in bursts.
// The producer fills a burst and enqueues it; the consumer dequeues a burst and sums it.
import ArgumentParser
import CRingBench
import Foundation
import Provenance

@main
struct RingBench: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ring-bench",
        abstract: "Compares single-producer single-consumer rings, 16-byte elements.")

    @Option(help: "Shared object with the rivals.")
    var rivals: String?
    @Option(help: "CPU of the producer (default: the first this process may use).")
    var producerCPU: Int32?
    @Option(help: "CPU of the consumer (default: the second).")
    var consumerCPU: Int32?
    @Option(help: "Slots of each ring, a power of two from 64 to 65536.")
    var capacity: UInt32 = 1024
    @Option(help: "Million elements per run; smaller bursts move proportionally fewer.")
    var millions: Int = 32
    @Option(help: "Timed runs of each ring at each burst size.")
    var repeats: Int = 9
    @Option(help: "Also write the results to this file.")
    var json: String?

    func validate() throws {
        guard capacity >= 64, capacity <= 65536, capacity & (capacity - 1) == 0 else {
            throw ValidationError("--capacity \(capacity): a power of two from 64 to 65536")
        }
        guard millions >= 1, millions <= 10_000 else {
            throw ValidationError("--millions \(millions): 1 to 10000")
        }
        guard repeats >= 1, repeats <= 1000 else {
            throw ValidationError("--repeats \(repeats): 1 to 1000")
        }
    }

    func run() throws {
        var contenders = ownContenders()
        if let rivals {
            let (found, absent) = try loadRivals(rivals, capacity: capacity)
            contenders += found
            print(absent, terminator: "")
        } else {
            print("No rivals: none were given with --rivals.")
        }
        let (first, second) = chosenCPUs()
        print(
            "Ring of \(capacity) slots, 16-byte elements, producer on CPU \(first), consumer on "
                + "CPU \(second), median of \(repeats) interleaved runs.")
        if first == second {
            print("Both ends share one CPU and take turns: the figures say nothing about cores.")
        } else if let siblings = siblings(of: first), siblings == self.siblings(of: second) {
            print("The CPUs are hardware threads of one core: data never leaves its caches.")
        }
        let bench = Bench(capacity: capacity, producerCPU: first, consumerCPU: second)
        var results: [Result] = []
        for burst in [1, 8, 32] {
            // Small bursts are slower: fewer elements keep the runs about as long.
            let count = UInt64(millions) * 1_000_000 * UInt64(burst + 8) / 40
            let round = UInt64(burst) * 64
            let rows = try bench.compare(
                contenders, burst: burst, count: (count / round + 1) * round, repeats: repeats)
            report(rows, burst: burst)
            results += rows
        }
        if let json { try write(results, to: json, cpus: (first, second)) }
    }

    private func chosenCPUs() -> (Int32, Int32) {
        var cpus: [Int32] = [0, 0]
        let count = ring_bench_cpus(&cpus, 2)
        let first = producerCPU ?? cpus[0]
        if let consumerCPU { return (first, consumerCPU) }
        if count < 2 { return (first, cpus[0]) }
        return (first, cpus[0] == first ? cpus[1] : cpus[0])
    }

    /// The hardware threads that share the core of `cpu`, as Linux lists them.
    private func siblings(of cpu: Int32) -> String? {
        try? String(
            contentsOfFile: "/sys/devices/system/cpu/cpu\(cpu)/topology/thread_siblings_list",
            encoding: .utf8)
    }

    private func report(_ rows: [Result], burst: Int) {
        print("\nburst \(burst)".padding(toLength: 33, withPad: " ", startingAt: 0), terminator: "")
        print("   M elements/s: median       min       max")
        for row in rows {
            let figures = [row.median, row.min, row.max].map { String(format: "%10.1f", $0) }
            let name = row.ring.padding(toLength: 32, withPad: " ", startingAt: 0)
            print("\(name)          \(figures.joined())")
        }
    }

    private func write(_ results: [Result], to path: String, cpus: (Int32, Int32)) throws {
        struct Document: Encodable {
            let schema = "cleave-ring-bench/1"
            let unit = "million elements per second"
            let elementBytes = 16
            let command = commandLine
            let machine = Machine.current()
            let capacity: UInt32
            let producerCPU: Int32
            let consumerCPU: Int32
            let repeats: Int
            let results: [Result]
        }
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
        let document = Document(
            capacity: capacity, producerCPU: cpus.0, consumerCPU: cpus.1, repeats: repeats,
            results: results)
        do {
            try encoder.encode(document).write(to: URL(fileURLWithPath: path))
        } catch {
            throw Failure("cannot write \(path): \(error.localizedDescription)")
        }
    }
}
