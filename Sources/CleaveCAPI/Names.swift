import CCleave
import CleaveVirtioNet
import Glibc

/// Constant strings for C: made at first use, never freed.
enum Names {
    typealias Word = UnsafePointer<CChar>

    // SAFETY: written once, under the runtime's guard of lazy globals, and then only read.
    nonisolated(unsafe) static let version = copy("0.2.0")
    nonisolated(unsafe) static let drops = DropReason.allCases.map { copy($0.name) }
    nonisolated(unsafe) static let transmitDrops = TxDropReason.allCases.map { copy($0.name) }
    nonisolated(unsafe) static let fallbacks = FallbackReason.allCases.map { copy($0.name) }
    nonisolated(unsafe) static let faults = QueueFault.allCases.map { copy($0.name) }

    // SAFETY: as above.
    nonisolated(unsafe) private static let results: [Int32: Word?] = [
        0: copy("success"),
        -EINVAL: copy("invalid argument"),
        -EBADF: copy("stale or foreign handle"),
        -E2BIG: copy("structure of a newer version"),
        -ENOTSUP: copy("not supported by this version"),
        -EBUSY: copy("in use"),
        -ESHUTDOWN: copy("stopped"),
        -ENOMEM: copy("out of memory"),
        -EMFILE: copy("too many open files"),
        -ENFILE: copy("too many open files in the system"),
        -EAGAIN: copy("no thread could be started"),
        -ENOSPC: copy("too many handles"),
        -ETIMEDOUT: copy("timed out"),
    ]
    // SAFETY: as above.
    nonisolated(unsafe) private static let unknown = copy("unknown result")

    static func result(_ code: Int32) -> Word? {
        cleave_call_begin()
        defer { cleave_call_end() }
        if code > 0 { return results[0] ?? unknown }
        return results[code] ?? unknown
    }

    static func pick(_ words: @autoclosure () -> [Word?], _ index: UInt32) -> Word? {
        cleave_call_begin()
        defer { cleave_call_end() }
        let words = words()
        return Int(index) < words.count ? words[Int(index)] : nil
    }

    private static func copy(_ text: String) -> Word? { strdup(text).map { Word($0) } }
}
