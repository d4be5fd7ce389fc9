// The conversation by which one program takes over what another one has: a JSON object on each line
// over a stream socket, descriptors before the line that names them.
//
//   new   {"hello":{"format":1,"ports":["a","b"],"version":"0.2.0"}}
//   old   {"offer":{"descriptorCount":17,"state":{...}}}            its control sides rest now
//   new   {"prepared":{}}
//   old   {"position":{"_0":{...}}}                                 its traffic has stopped
//   new   {"serves":{"nanoseconds":4100000,"queues":2}}             traffic goes on, in the new one
//   old   {"main":{"address":"/run/systemd/notify"}}                it was a service's main process
//
// Either says {"failed":{"reason":"..."}} instead, or goes: then the old one goes on. Only what
// "serves" says cannot be taken back, and both agree on whether it was said: the new one begins
// when its socket has taken the line, and the old one gives up by closing its end for input, after
// which it looks for that line a last time.

import CCleaveHost
import CleaveHost
import CleaveSwitch
import CleaveVhostUser
import FoundationEssentials
import Glibc

/// What the two programs say to each other.
package enum HandoverMessage: Codable, Equatable, Sendable {
    case hello(format: Int, version: String, ports: [String])
    case offer(state: SwitchHandover, descriptorCount: Int)
    case prepared
    case position(SwitchPosition)
    /// Since when traffic had stopped, and for how many queues.
    case serves(nanoseconds: UInt64, queues: Int)
    /// The service manager knows the new program as the main process of the old one's service. It
    /// listens at `address`, and may want a sign of life in every so many microseconds.
    case main(address: String, watchdogMicroseconds: UInt64?)
    case failed(reason: String)

    /// Changes when a program that knows the one before would misread something.
    package static let format = 1

    /// The word by which it begins.
    var name: String {
        switch self {
        case .hello: "hello"
        case .offer: "offer"
        case .prepared: "prepared"
        case .position: "position"
        case .serves: "serves"
        case .main: "main"
        case .failed: "failed"
        }
    }
}

/// One end of the conversation; owns the socket. One thread at a time.
package final class HandoverChannel: @unchecked Sendable {
    // SAFETY: one thread at a time, which passes it on.

    private let descriptor: Int32
    private var input: [UInt8] = []
    private var searched = 0
    private var descriptors: [Int32] = []

    /// Bytes of the longest line, and most descriptors before it.
    private static let maximumLineByteCount = 16 << 20
    private static let maximumDescriptorCount = 16384

    /// - Parameter descriptor: a connected stream socket, which belongs to the channel from now on.
    package init(_ descriptor: Int32) { self.descriptor = descriptor }

    deinit {
        for number in descriptors { close(number) }
        close(descriptor)
    }

    /// Refuses a peer of another user: descriptors of guests' memory are nobody else's.
    /// - Returns: its process; 0 if this one cannot name it.
    @discardableResult
    package func checkPeer() throws(ControlFailure) -> Int32 {
        try Self.checkPeer(of: descriptor)
    }

    /// The same for any unix socket.
    @discardableResult
    package static func checkPeer(of socket: Int32) throws(ControlFailure) -> Int32 {
        // struct ucred: process, user, group.
        var credentials: [Int32] = [0, -1, -1]
        var byteCount = socklen_t(12)
        guard getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &byteCount) == 0,
            byteCount == 12
        else { throw ControlFailure("no unix socket: \(HostError.words(of: errno))") }
        let user = UInt32(bitPattern: credentials[1])
        guard user == geteuid() else {
            throw ControlFailure(
                "the other program is user \(user)'s, and this one is \(geteuid())'s")
        }
        return credentials[0]
    }

    // MARK: Sending

    /// Sends a message.
    /// - Parameters:
    ///   - list: descriptors that go before it.
    ///   - milliseconds: how long the other side may take to read.
    /// - Throws: if it was not sent whole. The other side may have some of it.
    package func send(
        _ message: HandoverMessage, _ list: [Int32] = [], milliseconds: Int32
    ) throws(ControlFailure) {
        let end = SystemClock.monotonic + UInt64(milliseconds) * 1_000_000
        var first = 0
        while first < list.count {
            // Blanks before a line mean nothing in JSON: each carries as many as a call may.
            let piece = Array(list[first...].prefix(Int(CLEAVE_MAXIMUM_DESCRIPTORS)))
            try send([UInt8(ascii: " ")], piece, until: end)
            first += piece.count
        }
        let bytes: [UInt8]
        do { bytes = [UInt8](try JSONEncoder().encode(message)) + [UInt8(ascii: "\n")] } catch {
            throw ControlFailure("\(message.name) cannot be written: \(error)")
        }
        try send(bytes, [], until: end)
    }

    private func send(
        _ bytes: [UInt8], _ list: [Int32], until end: UInt64
    ) throws(ControlFailure) {
        var rest = bytes[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes {
                cleave_socket_send(
                    descriptor, $0.baseAddress, $0.count, list, Int32(list.count))
            }
            // ETOOMANYREFS: the other side is to read some of the descriptors first.
            if count == -EAGAIN || count == -EWOULDBLOCK || count == -ETOOMANYREFS {
                let now = SystemClock.monotonic
                guard now < end else { throw ControlFailure("the other program does not read") }
                if count == -ETOOMANYREFS {
                    usleep(1000)
                } else {
                    _ = cleave_socket_wait(
                        descriptor, 1, Int32((end - now + 999_999) / 1_000_000))
                }
                continue
            }
            if count < 0 {
                throw ControlFailure("the other program is gone: \(HostError.words(of: -count))")
            }
            rest = rest.dropFirst(Int(count))
        }
    }

    // MARK: Receiving

    /// The next message.
    /// - Parameter milliseconds: how long to wait for it.
    /// - Returns: nil if it did not come in time.
    /// - Throws: what the other side says went wrong, or what is wrong with what it sent.
    package func receive(milliseconds: Int32) throws(ControlFailure) -> HandoverMessage? {
        let end = SystemClock.monotonic + UInt64(milliseconds) * 1_000_000
        while true {
            if let stop = input[searched...].firstIndex(of: UInt8(ascii: "\n")) {
                let line = input[..<stop]
                defer {
                    input.removeFirst(stop + 1)
                    searched = 0
                }
                return try Self.message(line)
            }
            searched = input.count
            guard input.count < Self.maximumLineByteCount else {
                throw ControlFailure("a line has no end")
            }
            if try read() { continue }
            let now = SystemClock.monotonic
            guard now < end else { return nil }
            _ = cleave_socket_wait(descriptor, 0, Int32((end - now + 999_999) / 1_000_000))
        }
    }

    private static func message(
        _ line: ArraySlice<UInt8>
    ) throws(ControlFailure) -> HandoverMessage {
        let message: HandoverMessage
        do { message = try JSONDecoder().decode(HandoverMessage.self, from: Data(line)) } catch {
            throw ControlFailure("what the other program says cannot be read: \(error)")
        }
        if case .failed(let reason) = message { throw ControlFailure(reason) }
        return message
    }

    /// Reads some of what is there.
    /// - Returns: whether there was something.
    private func read() throws(ControlFailure) -> Bool {
        var received = cleave_received()
        var numbers = [Int32](repeating: -1, count: Int(CLEAVE_MAXIMUM_DESCRIPTORS))
        var bytes = [UInt8](repeating: 0, count: 64 * 1024)
        let count = cleave_socket_receive(
            descriptor, &bytes, bytes.count, &numbers, &received)
        descriptors += numbers.prefix(Int(received.descriptor_count))
        if count == -EAGAIN || count == -EWOULDBLOCK { return false }
        guard received.is_truncated == 0 else {
            throw ControlFailure("descriptors were lost: too many open files?")
        }
        guard descriptors.count <= Self.maximumDescriptorCount else {
            throw ControlFailure("more than \(Self.maximumDescriptorCount) descriptors came")
        }
        guard count > 0 else { throw ControlFailure("the other program has gone") }
        input += bytes[..<Int(count)]
        return true
    }

    /// Descriptors that came before the last message.
    package func takeDescriptors() -> HandoverDescriptors {
        defer { descriptors = [] }
        return HandoverDescriptors(received: descriptors)
    }

    // MARK: The end

    /// Takes nothing more: from the return of this the other side's `send` fails. What it has sent
    /// before can still be received.
    package func closeInput() { shutdown(descriptor, Int32(SHUT_RD)) }

    /// Waits until the other side has closed its end.
    /// - Parameters:
    ///   - heard: takes what it says before.
    ///   - waiting: called again and again, at most 100 ms apart.
    /// - Returns: whether it did.
    package func awaitEnd(
        milliseconds: Int32, heard: (HandoverMessage) -> Void = { _ in }, waiting: () -> Void = {}
    ) -> Bool {
        let end = SystemClock.monotonic + UInt64(milliseconds) * 1_000_000
        while SystemClock.monotonic < end {
            do throws(ControlFailure) {
                if let message = try receive(milliseconds: 100) { heard(message) }
            } catch { return true }
            waiting()
        }
        return false
    }
}
