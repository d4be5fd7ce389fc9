import CCleaveTestSupport
import CleaveHost
import Glibc
import Testing

/// Hears what programs tell their service manager, and which process says it.
final class ServiceListener {
    struct Message: Equatable {
        var process: Int32
        var text: String
        /// When it was heard, by the monotonic clock.
        var time: UInt64

        var isSignOfLife: Bool { text.split(separator: "\n").contains("WATCHDOG=1") }
    }

    private let descriptor: Int32
    private(set) var heard: [Message] = []

    init(_ path: String) throws {
        descriptor = cleave_test_manager(path)
        try #require(descriptor >= 0)
    }

    deinit { close(descriptor) }

    var words: [String] { heard.map(\.text) }

    /// Takes what has come: the kernel keeps ten messages, and refuses more.
    func listen() {
        var bytes = [CChar](repeating: 0, count: 256)
        while true {
            var process: Int32 = 0
            let count = cleave_test_hear(descriptor, &bytes, Int32(bytes.count), &process)
            if count < 0 { return }
            let text = String(
                decoding: bytes[..<Int(count)].map { UInt8(bitPattern: $0) }, as: UTF8.self)
            heard.append(Message(process: process, text: text, time: SystemClock.monotonic))
        }
    }

    func forget() {
        listen()
        heard = []
    }

    func hears(_ word: String, from process: Int32? = nil) -> Bool {
        VhostProcess.waitUntil {
            listen()
            return heard.contains {
                $0.text == word && (process == nil || $0.process == process)
            }
        }
    }

    /// The longest time between two signs of life, in nanoseconds.
    var longestGap: UInt64 {
        let times = heard.filter(\.isSignOfLife).map(\.time)
        return zip(times, times.dropFirst()).map { $1 - $0 }.max() ?? 0
    }
}
