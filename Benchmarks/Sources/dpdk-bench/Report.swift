import Foundation
import Provenance

/// A ratio that is promised, and what it came to.
struct Bar: Encodable {
    let name: String
    let limit: Double
    /// Of warm sources and a ring of 256; nil if it was not measured.
    let ratio: Double?
    var holds: Bool? { ratio.map { $0 <= limit } }

    private struct Promise {
        let op: String
        let ring: String
        let method: String
        let limits: [Int: Double]
    }

    /// Mergeable buffers; device cycles per packet, Cleave / DPDK.
    private static let promises = [
        Promise(
            op: "enqueue", ring: "split", method: "whole",
            limits: [64: 0.65, 256: 0.75, 1500: 0.95, 9000: 0.95]),
        Promise(
            op: "enqueue", ring: "packed", method: "whole",
            limits: [64: 0.95, 256: 0.95, 1500: 0.95]),
        Promise(
            op: "enqueue", ring: "split", method: "d", limits: [64: 0.8, 1500: 1, 9000: 1]),
        Promise(
            op: "enqueue", ring: "packed", method: "d", limits: [64: 1.05, 1500: 1, 9000: 1]),
        Promise(op: "enqueue", ring: "packed", method: "d-tiny", limits: [64: 1]),
        Promise(op: "dequeue", ring: "split", method: "whole", limits: [64: 0.8]),
        Promise(op: "dequeue", ring: "packed", method: "whole", limits: [64: 0.95]),
    ]

    static func judge(_ results: [Result]) -> [Bar] {
        promises.flatMap { promise in
            promise.limits.sorted { $0.key < $1.key }.map { size, limit in
                let found = results.first {
                    $0.op == promise.op && $0.ring == promise.ring && $0.method == promise.method
                        && $0.packetBytes == size && $0.buffers == "mergeable"
                        && $0.ringSize == 256 && $0.warm && $0.packets == "plain"
                }
                return Bar(
                    name: "\(promise.op) \(promise.ring) \(promise.method) \(size) B",
                    limit: limit, ratio: found?.ratio)
            }
        }
    }
}

/// What a run prints and writes.
enum Report {
    struct Facts: Encodable {
        let versions: String
        let cpu: Int
        let repeats: Int
    }

    static func number(_ value: Double) -> String {
        String(format: value < 100 ? "%.1f" : "%.0f", value)
    }

    static func figures(_ figures: Figures) -> String {
        "\(number(figures.median)) (\(number(figures.min))-\(number(figures.max)))"
    }

    private static func padded(_ text: String, _ width: Int) -> String {
        text + String(repeating: " ", count: max(1, width - text.count))
    }

    static func printHeader(_ shape: Shape) {
        Swift.print(
            "\n\(shape.ring.rawValue) ring of \(shape.ringSize), \(shape.buffers) buffers")
        Swift.print(
            padded("op", 9) + padded("method", 8) + padded("packets", 10) + padded("bytes", 7)
                + padded("sources", 9)
                + padded("DPDK", 20) + padded("Cleave", 20) + padded("ratio", 8)
                + padded("from mbufs", 20) + "ratio")
    }

    static func print(_ results: [Result]) {
        for result in results {
            var line =
                padded(result.op, 9) + padded(result.method, 8) + padded(result.packets, 10)
                + padded("\(result.packetBytes)", 7)
                + padded(result.warm ? "warm" : "cold", 9) + padded(figures(result.dpdk), 20)
                + padded(figures(result.cleave), 20)
                + padded(String(format: "%.2f", result.ratio), 8)
            if let mbufs = result.cleaveFromMbufs, let ratio = result.ratioFromMbufs {
                line += padded(figures(mbufs), 20) + String(format: "%.2f", ratio)
            }
            Swift.print(line)
        }
    }

    static func print(_ bars: [Bar]) {
        Swift.print("\nBars: ring of 256, mergeable buffers, warm sources")
        for bar in bars {
            let ratio = bar.ratio.map { String(format: "%.2f", $0) } ?? "-"
            let verdict = bar.holds.map { $0 ? "holds" : "DOES NOT HOLD" } ?? "not measured"
            Swift.print(
                padded(bar.name, 32) + padded("at most \(String(format: "%.2f", bar.limit))", 16)
                    + padded(ratio, 8) + verdict)
        }
    }

    static func write(
        _ results: [Result], bars: [Bar], overhead: AbiOverhead?, threads: [ThreadsResult],
        to path: String, facts: Facts
    ) throws {
        struct Document: Encodable {
            let schema = "cleave-dpdk/1"
            let unit = "TSC cycles per packet on the device's side"
            let burst = 32
            let command = commandLine
            let machine = Machine.current()
            let facts: Facts
            let runs: [Result]
            let bars: [Bar]
            let abi: AbiOverhead?
            let threads: [ThreadsResult]
        }
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
        let document = Document(
            facts: facts, runs: results, bars: bars, abi: overhead, threads: threads)
        do {
            try encoder.encode(document).write(to: URL(fileURLWithPath: path))
        } catch {
            throw Failure("cannot write \(path): \(error.localizedDescription)")
        }
    }
}
