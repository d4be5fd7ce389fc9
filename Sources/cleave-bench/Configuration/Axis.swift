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
