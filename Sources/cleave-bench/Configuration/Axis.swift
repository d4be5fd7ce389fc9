import CleaveBench
import CleaveEngine
import CleaveVirtioNet

/// An axis of a benchmark case. The raw value is both the flag (`--ring-size`) and the key in a
/// configuration. Products are taken in the order given here, the first varying slowest.
enum Axis: String, CaseIterable {
    case packet, method, report, ring, buffers
    case ringSize = "ring-size"
    case burst, rqs
    case slotSize = "slot-size"
    case slots
    case bufferSize = "buffer-size"
    case headerBuffer = "header-buffer"
    case privateHeaderQueues = "private-header-queues"
    case inOrder = "in-order"
    case sharing, imbalance
    case slotReturn = "slot-return"
    case hashReport = "hash-report"
    case splitThreshold = "split-threshold"
    case tiny
    case zeroPad = "zero-pad"
    case alignPayload = "align-payload"
    case consumer, reads

    /// Puts a value on this axis of a case.
    /// - Throws: a sentence that starts with the value and says what was expected.
    func set(_ value: SettingValue, in one: inout BenchCase) throws(SettingError) {
        switch self {
        case .packet: one.packet = value.text
        case .method: one.method = try value.choice()
        case .report: one.report = try value.choice()
        case .ring: one.ring = try value.choice()
        case .buffers: one.buffers = try value.choice()
        case .ringSize: one.ringSize = try value.count(kilo: 1024)
        case .burst: one.burst = try value.count(kilo: 1024)
        case .rqs: one.rqs = try value.count(kilo: 1024)
        case .slotSize: one.slotSize = try value.count(kilo: 1024)
        case .slots: one.slots = try value.count(kilo: 1024)
        case .bufferSize: one.bufferByteCount = try value.count(kilo: 1024)
        case .headerBuffer: one.headerBufferByteCount = try value.count(kilo: 1024)
        case .privateHeaderQueues: one.sharedHeaderQueue = try !value.bool()
        case .inOrder: one.inOrder = try value.bool()
        case .sharing:
            do { one.sharing = try HeaderQueueSharing(parsing: value.text) } catch {
                throw SettingError(problem: error.description)
            }
        case .imbalance: one.imbalance = try value.count(kilo: 1000)
        case .slotReturn: one.slotReturn = try value.choice()
        case .hashReport: one.hashReport = try value.bool()
        case .splitThreshold: one.splitThreshold = try value.count(kilo: 1024)
        case .tiny: one.tiny = try value.bool()
        case .zeroPad: one.zeroPad = try value.bool()
        case .alignPayload: one.alignsPayload = try value.bool()
        case .consumer: one.consumer = try value.choice()
        case .reads: one.readsPayload = try value.bool()
        }
    }

    /// The key of its value in results. Results have none for `privateHeaderQueues`, which is
    /// another word for `sharing`.
    var key: String {
        switch self {
        case .packet: "packetBytes"
        case .bufferSize: "bufferBytes"
        case .headerBuffer: "headerBufferBytes"
        default: "\(self)"
        }
    }

    /// This axis's part of a name where cases differ in it; nil if the axis means nothing there.
    func label(of one: BenchCase) -> String? {
        switch self {
        case .packet, .method, .report, .buffers: nil
        case .ring: one.ring.rawValue
        case .ringSize: "ring \(one.ringSize)"
        case .burst: "burst \(one.burst)"
        case .rqs: one.rqs == 1 ? "1 RQ" : "\(one.rqs) RQs"
        case .slotSize: one.method == .d ? "slot \(one.slotSize)" : nil
        case .slots: one.method == .d ? "\(one.slots) slots" : nil
        case .bufferSize: one.buffers == .single ? nil : "buffer \(one.bufferByteCount)"
        case .headerBuffer:
            [.a, .c].contains(one.method) ? "header buffer \(one.headerBufferByteCount)" : nil
        case .privateHeaderQueues:
            switch one.sharing {
            case .all where one.method == .d: "shared"
            case .perRQ where one.method == .d: "private"
            default: nil
            }
        case .sharing:
            switch one.sharing {
            case .perNode where one.method == .d, .groups where one.method == .d:
                "groups \(one.sharing)"
            default: nil
            }
        case .slotReturn: one.method == .d ? "return \(one.slotReturn.rawValue)" : nil
        case .imbalance: one.rqs == 1 ? nil : "imbalance \(one.imbalance)"
        case .inOrder: one.inOrder ? "in order" : "any order"
        case .hashReport: one.hashReport ? "hash" : "no hash"
        case .splitThreshold: one.method != .whole ? "threshold \(one.splitThreshold)" : nil
        case .tiny: one.method == .d ? (one.tiny ? "tiny" : "no tiny") : nil
        case .zeroPad: one.method == .d ? (one.zeroPad ? "padded" : "unpadded") : nil
        case .alignPayload:
            one.effectiveReport == .netHeader
                ? (one.alignsPayload ? "aligned" : "unaligned") : nil
        case .consumer: one.consumer == .none ? "no consumer" : one.consumer.rawValue
        case .reads: one.readsPayload ? "read" : "not read"
        }
    }
}

/// What is wrong with a value, without where it was given.
struct SettingError: Error, Equatable {
    let problem: String
}

/// A value as it was written, on a command line or in a configuration.
struct SettingValue: Equatable {
    let text: String
    /// Written in quotes, so that it is text even if it looks like a number.
    var isQuoted = false

    /// One of the names of an enumeration.
    func choice<Choice>() throws(SettingError) -> Choice
    where Choice: RawRepresentable & CaseIterable, Choice.RawValue == String {
        if let choice = Choice(rawValue: text) { return choice }
        let known = Choice.allCases.map(\.rawValue)
        let hint = Nearest.hint(text, among: known)
        let list = known.joined(separator: ", ")
        throw SettingError(
            problem: known.count == 1
                ? "\"\(text)\" is not understood; the only value is \(list)"
                : "\"\(text)\" is not one of \(list)\(hint)")
    }

    /// A whole number from 0, with k, M or G for powers of `kilo`.
    func count(kilo: Int) throws(SettingError) -> Int {
        let expected = "is not a whole number"
        if isQuoted { throw SettingError(problem: "\"\(text)\" in quotes \(expected)") }
        if text.hasPrefix("-"), Int(text) != nil {
            throw SettingError(problem: "\(text) is negative")
        }
        var digits = text[...]
        var scale = 1
        if let suffix = digits.last, let power = ["k": 1, "M": 2, "G": 3][suffix] {
            digits.removeLast()
            for _ in 0..<power { scale *= kilo }
        }
        guard !digits.isEmpty, digits.utf8.allSatisfy({ (0x30...0x39).contains($0) }) else {
            throw SettingError(problem: "\"\(text)\" \(expected)")
        }
        guard let value = Int(digits),
            case (let product, let overflow) = value.multipliedReportingOverflow(by: scale),
            !overflow, product <= Self.maximumCount
        else { throw SettingError(problem: "\(text) is more than \(Self.maximumCount)") }
        return product
    }

    /// Larger numbers are typing errors, and would overflow where they are multiplied.
    static let maximumCount = 1 << 40

    func bool() throws(SettingError) -> Bool {
        switch isQuoted ? "" : text.lowercased() {
        case "true", "yes", "on": return true
        case "false", "no", "off": return false
        default: throw SettingError(problem: "\"\(text)\" is neither true nor false")
        }
    }
}

/// Suggestions for names that are not known.
enum Nearest {
    /// `; did you mean NAME?`, or nothing if no name is close.
    static func hint(_ text: String, among names: [String]) -> String {
        let word = text.lowercased().prefix(64)
        let close =
            names.map { (distance(Array(word), Array($0.lowercased())), $0) }
            .min { $0.0 < $1.0 }
        guard let (steps, name) = close, 2 * steps < name.count else { return "" }
        return "; did you mean \(name)?"
    }

    /// Letters to insert, delete or replace to make one word of the other (Levenshtein).
    private static func distance(_ one: [Character], _ other: [Character]) -> Int {
        var row = Array(0...other.count)
        for (index, letter) in one.enumerated() {
            var diagonal = row[0]
            row[0] = index + 1
            for column in other.indices {
                let replace = diagonal + (letter == other[column] ? 0 : 1)
                diagonal = row[column + 1]
                row[column + 1] = min(replace, min(row[column], diagonal) + 1)
            }
        }
        return row[other.count]
    }
}
