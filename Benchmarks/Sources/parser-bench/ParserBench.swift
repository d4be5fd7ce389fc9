// Cleave's header parser beside DPDK's on the same frames, in one process, in turns.
import ArgumentParser
import CleaveHost
import Foundation
import Provenance

@main
struct ParserBench: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "parser-bench",
        abstract: "Compares header parsers: cycles per packet, in order and in random order.")

    @Option(help: "Shared object with DPDK's parser.")
    var rivals: String?
    @Option(help: "Frames of a mix, 32 to 65536.")
    var frames = 1024
    @Option(help: "Timed passes of each parser over each mix.")
    var passes = 2001
    @Option(help: "CPU to measure on (default: the last this process may use).")
    var cpu: Int?
    @Option(help: "Also write the results to this file.")
    var json: String?

    func validate() throws {
        guard (32...65536).contains(frames) else {
            throw ValidationError("--frames \(frames): 32 to 65536")
        }
        guard (1...1_000_000).contains(passes) else {
            throw ValidationError("--passes \(passes): 1 to 1000000")
        }
    }

    func run() throws {
        let cpu = self.cpu ?? CPUSet.allowed().cpus.last ?? 0
        try PinnedThread.pinCurrent(to: cpu)
        let rival = try rivals.map { path throws(Failure) in try Rival(path) }
        let name = rival?.version ?? "No rival, since none was given with --rivals"
        print("\(name); CPU \(cpu); \(frames) frames; TSC cycles per packet, median (min-max)")
        print("of \(passes) interleaved passes, in bursts of 32.\n")
        print("mix          order           Cleave               rte_net_get_ptype    ratio")
        var results: [Result] = []
        for mix in try Mix.all(count: frames) {
            let measurement = try Measurement(mix, rival: rival)
            for order in Order.allCases {
                let result = try measurement.run(order, passes: passes)
                print(Self.row(result))
                results.append(result)
            }
        }
        Bar.print(results)
        if let json { try write(results, dpdk: rival?.version, cpu: cpu, to: json) }
    }

    private static func row(_ result: Result) -> String {
        func text(_ figures: Figures?) -> String {
            guard let figures else { return "-" }
            return String(
                format: "%5.1f (%.1f-%.1f)", figures.median, figures.min, figures.max)
        }
        func padded(_ text: String, _ width: Int) -> String {
            text.padding(toLength: width, withPad: " ", startingAt: 0)
        }
        let ratio = result.ratio.map { String(format: "%.2f", $0) } ?? "-"
        return padded(result.mix, 13) + padded(result.order.rawValue, 10)
            + padded(text(result.cleave), 23) + padded(text(result.dpdk), 23) + ratio
    }

    private func write(_ results: [Result], dpdk: String?, cpu: Int, to path: String) throws {
        struct Document: Encodable {
            let schema = "cleave-parser-bench/1"
            let unit = "TSC cycles per packet"
            let command = commandLine
            let machine = Machine.current()
            let dpdk: String?
            let cpu: Int
            let frames: Int
            let passes: Int
            let results: [Result]
        }
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
        let document = Document(
            dpdk: dpdk, cpu: cpu, frames: frames, passes: passes, results: results)
        do {
            try encoder.encode(document).write(to: URL(fileURLWithPath: path))
        } catch {
            throw Failure("cannot write \(path): \(error.localizedDescription)")
        }
    }
}

/// What the project holds the parser to. Told, never a failure: cycles are the machine's too.
enum Bar {
    static let ratio = 0.7

    static func cycles(_ order: Order) -> Double { order == .inOrder ? 12 : 25 }

    static func print(_ results: [Result]) {
        func judged(_ result: Result, _ isMet: Bool) -> String {
            isMet ? "" : " \(result.mix) \(result.order.rawValue)"
        }
        let slow = results.map { judged($0, $0.cleave.median <= cycles($0.order)) }.joined()
        let behind = results.map { judged($0, ($0.ratio ?? 0) <= ratio) }.joined()
        Swift.print(
            "\nAt most 12 cycles in order, 25 in random order: "
                + (slow.isEmpty ? "yes" : "not" + slow))
        if results.contains(where: { $0.ratio != nil }) {
            Swift.print(
                "At most \(ratio) of DPDK's: " + (behind.isEmpty ? "yes" : "not" + behind))
        }
    }
}
