// control path

import CleaveHost

/// The table that turns an RSS hash into an RQ: the low bits of the hash pick an entry, the entry
/// names the RQ (virtio 1.4, "Receive-side scaling"). A value; callable from any thread.
public struct IndirectionTable: Sendable, Equatable {
    public static let defaultSize = 128
    /// virtio's field for the mask has 16 bits; Linux drivers set up 128 entries.
    public static let maximumSize = 32768

    /// The RQ of each entry; a power of two of them.
    public let entries: [UInt16]
    /// RQs: every entry is below it.
    public let rqCount: Int

    /// Entries name all RQs, round-robin.
    public init(rqs: Int, size: Int = Self.defaultSize) throws(SetupError) {
        try self.init(rqs: rqs, size: size, imbalance: 0)
    }

    /// Entries name all RQs, round-robin, but for a share that goes to RQ 0 in their place.
    /// - Parameters:
    ///   - rqs: how many RQs there are, at least 1.
    ///   - size: a power of two, 1 to 32768.
    ///   - imbalance: percent of the other RQs' entries that RQ 0 gets as well: 0 is even, 100
    ///     steers everything to RQ 0.
    public init(
        rqs: Int, size: Int = Self.defaultSize, imbalance: Int
    ) throws(SetupError) {
        try Self.check(size: size)
        guard (0...100).contains(imbalance) else {
            throw SetupError("imbalance \(imbalance) is not between 0 and 100 percent")
        }
        guard rqs > 0 else { throw SetupError("an indirection table needs an RQ to name") }
        var entries: [UInt16] = []
        // Spread evenly over the table: a hundredth of the taken entries is due at each of them.
        var due = 0
        for index in 0..<size {
            let rq = index % rqs
            if rq == 0 {
                entries.append(0)
                continue
            }
            due += imbalance
            entries.append(due >= 100 ? 0 : UInt16(truncatingIfNeeded: rq))
            if due >= 100 { due -= 100 }
        }
        try self.init(entries: entries, rqs: rqs)
    }

    /// A table as a driver gives it.
    /// - Throws: an error that names a size that is invalid, or the first entry that names no RQ.
    public init(entries: [UInt16], rqs: Int) throws(SetupError) {
        try Self.check(size: entries.count)
        if let index = entries.firstIndex(where: { Int($0) >= rqs }) {
            throw SetupError(
                "indirection table entry \(index) names RQ \(entries[index]) of \(rqs)")
        }
        self.entries = entries
        rqCount = rqs
    }

    /// Checks a size alone: what a configuration file or a command line can get wrong.
    public static func check(size: Int) throws(SetupError) {
        guard (1...maximumSize).contains(size), size & (size - 1) == 0 else {
            throw SetupError(
                "indirection table size \(size) is not a power of two between 1 and "
                    + "\(maximumSize)")
        }
    }

    /// The RQ of packets with this hash. Packets without one count as hash 0.
    public func rq(ofHash hash: UInt32) -> Int {
        Int(entries[Int(hash) & (entries.count - 1)])
    }
}
