import CleaveBench
import CleaveEngine
import CleaveProgramSupport
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
    case inOrder = "in-order"
    case sharing, imbalance
    case slotReturn = "slot-return"
    case hashReport = "hash-report"
    case splitThreshold = "split-threshold"
    case tiny
    case zeroPad = "zero-pad"
    case alignPayload = "align-payload"
    case consumer, reads

    /// The name that `sharing` had while its values were yes (one queue for each RQ) and no.
    static let privateHeaderQueues = "private-header-queues"

    /// The value of `sharing` that is meant by one of `private-header-queues`.
    static func sharing(ofPrivate value: SettingValue) throws(SettingError) -> SettingValue {
        SettingValue(text: (try value.bool() ? HeaderQueueSharing.perRQ : .all).description)
    }

    /// Puts a value on this axis of a case.
    /// - Throws: a sentence that starts with the value and says what was expected.
    func set(_ value: SettingValue, in one: inout BenchCase) throws(SettingError) {
        switch self {
        case .packet: one.packet = value.text
        case .method: one.method = try value.choice()
        case .report:
            if value.text == "usedElement" {
                throw SettingError(
                    problem: "\"usedElement\" is gone: usedLength takes its place, with the slot "
                        + "in the length of the used entry")
            }
            one.report = try value.choice()
        case .ring: one.ring = try value.choice()
        case .buffers: one.buffers = try value.choice()
        case .ringSize: one.ringSize = try value.count(kilo: 1024)
        case .burst: one.burst = try value.count(kilo: 1024)
        case .rqs: one.rqs = try value.count(kilo: 1024)
        case .slotSize: one.slotSize = try value.count(kilo: 1024)
        case .slots: one.slots = try value.count(kilo: 1024)
        case .bufferSize: one.bufferByteCount = try value.count(kilo: 1024)
        case .headerBuffer: one.headerBufferByteCount = try value.count(kilo: 1024)
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

    /// Puts another case's value on this axis of a case.
    func copy(from other: BenchCase, to one: inout BenchCase) {
        switch self {
        case .packet: one.packet = other.packet
        case .method: one.method = other.method
        case .report: one.report = other.report
        case .ring: one.ring = other.ring
        case .buffers: one.buffers = other.buffers
        case .ringSize: one.ringSize = other.ringSize
        case .burst: one.burst = other.burst
        case .rqs: one.rqs = other.rqs
        case .slotSize: one.slotSize = other.slotSize
        case .slots: one.slots = other.slots
        case .bufferSize: one.bufferByteCount = other.bufferByteCount
        case .headerBuffer: one.headerBufferByteCount = other.headerBufferByteCount
        case .inOrder: one.inOrder = other.inOrder
        case .sharing: one.sharing = other.sharing
        case .imbalance: one.imbalance = other.imbalance
        case .slotReturn: one.slotReturn = other.slotReturn
        case .hashReport: one.hashReport = other.hashReport
        case .splitThreshold: one.splitThreshold = other.splitThreshold
        case .tiny: one.tiny = other.tiny
        case .zeroPad: one.zeroPad = other.zeroPad
        case .alignPayload: one.alignsPayload = other.alignsPayload
        case .consumer: one.consumer = other.consumer
        case .reads: one.readsPayload = other.readsPayload
        }
    }

    /// What a case has to be for this axis to change anything; nil if it is that.
    func missingCondition(in one: BenchCase) -> String? {
        let need: (Bool, String)
        switch self {
        case .report, .slotSize, .slots, .slotReturn, .tiny, .zeroPad:
            need = (one.method == .d, "method d")
        case .sharing: need = (one.method == .d && one.rqs > 1, "method d with several RQs")
        case .imbalance: need = (one.rqs > 1, "several RQs")
        case .bufferSize: need = (one.buffers != .single, "mergeable or chained buffers")
        case .headerBuffer: need = ([.a, .c].contains(one.method), "method a or c")
        case .splitThreshold: need = (one.method != .whole, "a method that splits")
        case .alignPayload:
            need = (one.effectiveReport == .netHeader, "method d with report netHeader")
        case .packet, .method, .ring, .buffers, .ringSize, .burst, .rqs, .inOrder, .hashReport,
            .consumer, .reads:
            return nil
        }
        return need.0 ? nil : need.1
    }

    /// The key of its value in results.
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
        case .sharing:
            switch one.sharing {
            case _ where one.method != .d: nil
            case .all: "shared"
            case .perRQ: "private"
            case .perNode, .groups: "groups \(one.sharing)"
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
