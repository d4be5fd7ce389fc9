import CleaveBench
import CleaveHost
import CleaveProgramSupport
import Foundation

/// Where the two ends of a stream run.
struct ZeroCopyEnds {
    /// What a command has to begin with to run at that end.
    var receiver: [String]
    var sender: [String]
    /// Of the receiver, as the sender has to call it.
    var address: String
    var port: UInt16
    /// This program at both ends.
    var program: String

    /// Longer than any pass, in seconds: an end gives up by itself when nothing moves. A megabyte
    /// in a second is less than emulated guests reach.
    static func patience(byteCount: Int) -> Double { 900 + Double(byteCount) / 1e6 }

    /// Sends a stream from one end to the other.
    func transfer(
        _ way: ReceiveWay, use: ReceiveUse, byteCount: Int, bufferByteCount: Int
    ) throws(Failure) -> StreamReceipt {
        let size = ["--port=\(port)", "--bytes=\(byteCount)", "--use=\(use.rawValue)"]
        let end = [program, "zerocopy-end"]
        let receiving = try ChildProcess(
            receiver + end + ["--receive=\(way.rawValue)", "--buffer=\(bufferByteCount)"] + size,
            name: "the receiver (\(way.rawValue))")
        let sending = try ChildProcess(
            sender + end + ["--send=\(address)"] + size, name: "the sender")
        let patience = Self.patience(byteCount: byteCount)
        let text = try ChildProcess.finish([receiving, sending], within: patience)[0]
        return try ResultJSON.read(
            StreamReceipt.self, from: Data(text.utf8), path: receiving.name, what: "receipt")
    }
}

/// Compares what comes with what was sent, then measures pairs of streams.
struct ZeroCopyRun {
    let ends: ZeroCopyEnds
    let pairCount: Int
    let isQuiet: Bool

    /// Comparing costs more than receiving, and says no more with more bytes.
    private static let mostComparedBytes = 256 << 20

    /// - Throws: if not even one pair was measured.
    func measure(into report: inout ZeroCopyReport) throws(Failure) {
        let line = ProgressLine(isQuiet: isQuiet)
        defer { line.clear() }
        let ways = ReceiveWay.allCases
        let total = ways.count * (pairCount + 1)
        for (index, way) in ways.enumerated() {
            line.show(.init(phase: .verifying, done: index, total: total, name: way.rawValue))
            let byteCount = min(report.passByteCount, Self.mostComparedBytes)
            report.compared[way] = try ends.transfer(
                way, use: .compare, byteCount: byteCount, bufferByteCount: report.bufferByteCount)
        }
        for pair in 0..<pairCount {
            // Who begins changes, so that what wears off or warms up meets both.
            let order = pair % 2 == 0 ? ways : ways.reversed()
            var receipts: [ReceiveWay: StreamReceipt] = [:]
            do throws(Failure) {
                for way in order {
                    let done = ways.count * (pair + 1) + receipts.count
                    line.show(
                        .init(phase: .measuring, done: done, total: total, name: way.rawValue))
                    receipts[way] = try ends.transfer(
                        way, use: report.reads ? .read : .nothing,
                        byteCount: report.passByteCount, bufferByteCount: report.bufferByteCount)
                }
            } catch {
                // What was measured before a signal came, or a pass failed, is still a result.
                guard !report.pairs.isEmpty else { throw error }
                report.interruption = "\(error) after \(pair) of \(pairCount) pairs"
                return
            }
            report.pairs.append(
                ZeroCopyPair(copied: receipts[.copied]!, mapped: receipts[.mapped]!))
        }
    }
}
