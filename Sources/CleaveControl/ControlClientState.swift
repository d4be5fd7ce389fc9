import CCleaveHost
import CleaveHost
import Glibc

/// A client's connection, as the server thread keeps it.
final class ControlClientState {
    let fileDescriptor: Int32
    let peer: ControlPeer
    /// When it last asked something.
    var lastActive: UInt64
    /// What poll said of it.
    var ready: Int16 = 0
    /// Requests that it may make now.
    var tokens: Double
    private var lastRefill: UInt64
    /// Lines in a row that were no request.
    var badLines = 0
    /// It will send nothing more.
    private(set) var hasEnded = false
    private(set) var isOverrun = false
    /// It sent more descriptors than may wait, or than this process may have.
    private(set) var hasTooManyDescriptors = false
    private var input: [UInt8] = []
    /// Of `input`: where the next line starts, and up to where it has no end.
    private var lineStart = 0
    private var searched = 0
    private var lineEnd: Int?
    private var descriptors: [ControlDescriptor] = []
    private var output: [UInt8] = []
    private var written = 0
    private var unreadSince: UInt64?
    private var isAnswered = true

    /// Descriptors that wait for their request at most.
    static let maximumDescriptors = 8
    private static let readByteCount = 16 * 1024

    /// Takes ownership of a connected socket.
    init(_ fileDescriptor: Int32, _ now: UInt64, _ peer: ControlPeer, burst: Int) {
        self.fileDescriptor = fileDescriptor
        self.peer = peer
        lastActive = now
        lastRefill = now
        tokens = Double(burst)
    }

    func end() {
        close(fileDescriptor)
        peer.leave()
    }

    /// Nothing is under way, and everything was sent.
    var isIdle: Bool { isAnswered && output.isEmpty }
    /// A whole line waits.
    var hasLine: Bool { lineEnd != nil }
    var isLineTooLong: Bool {
        (lineEnd ?? input.count) - lineStart >= ControlProtocol.maximumLineByteCount
    }

    /// What to wait for.
    var interest: Int16 {
        if !output.isEmpty { return Int16(POLLOUT) }
        return isAnswered && !hasEnded && !hasLine ? Int16(POLLIN) : 0
    }

    /// When to look at it without its socket's being ready.
    func deadline(_ limits: ControlServer.Limits) -> UInt64? {
        if let unreadSince { return unreadSince + limits.patience }
        guard isIdle && hasLine else { return nil }
        let wait = max(0, 1 - tokens) / Double(limits.perSecond)
        return lastRefill + UInt64(wait * 1e9) + 1_000_000
    }

    func refill(_ now: UInt64, _ limits: ControlServer.Limits) {
        let seconds = Double(now - min(now, lastRefill)) / 1e9
        tokens = min(Double(limits.burst), tokens + seconds * Double(limits.perSecond))
        lastRefill = now
    }

    /// Whether it has left an answer unread for too long.
    func isOverdue(_ now: UInt64, _ limits: ControlServer.Limits) -> Bool {
        unreadSince.map { now >= $0 + limits.patience } ?? false
    }

    // MARK: Input

    /// Reads some of what is there.
    /// - Returns: false if the connection is of no use any more.
    func read() -> Bool {
        var received = cleave_received()
        var numbers = [Int32](repeating: -1, count: Int(CLEAVE_MAXIMUM_DESCRIPTORS))
        let count = withUnsafeTemporaryAllocation(
            byteCount: Self.readByteCount, alignment: 1
        ) { bytes -> Int in
            let count = Int(
                cleave_socket_receive(
                    fileDescriptor, bytes.baseAddress, bytes.count, &numbers, &received))
            if count > 0 { input += bytes.prefix(count) }
            return count
        }
        // Owned from here on, whatever becomes of the request.
        descriptors += numbers.prefix(Int(received.descriptor_count)).map(ControlDescriptor.init)
        if descriptors.count > Self.maximumDescriptors || received.is_truncated != 0 {
            hasTooManyDescriptors = true
            return true
        }
        if count == -Int(EAGAIN) || count == -Int(EWOULDBLOCK) { return true }
        if count == 0 { hasEnded = true }
        if count > 0 { findLine() }
        return count >= 0
    }

    private func findLine() {
        lineEnd = input[max(searched, lineStart)...].firstIndex(of: UInt8(ascii: "\n"))
        searched = lineEnd ?? input.count
    }

    /// The next whole line, without its end. Lines of blanks are passed over.
    func nextLine() -> [UInt8]? {
        while let end = lineEnd, !isLineTooLong {
            let line = Array(input[lineStart..<end])
            lineStart = end + 1
            searched = lineStart
            findLine()
            if lineEnd == nil {
                input.removeFirst(lineStart)
                (lineStart, searched) = (0, input.count)
            }
            if line.contains(where: { $0 != 0x20 && $0 != 0x0d && $0 != 0x09 }) { return line }
        }
        return nil
    }

    /// Descriptors that came since the last request was read.
    func takeDescriptors() -> [ControlDescriptor] {
        defer { descriptors = [] }
        return descriptors
    }

    // MARK: Output

    /// Has text of the server's own sent.
    func queue(_ bytes: [UInt8]) { output += bytes }

    /// Takes over what commands have said.
    func collect() {
        let taken = peer.take()
        isAnswered = taken.isAnswered
        isOverrun = taken.isOverrun
        output += taken.bytes
    }

    /// Sends what the client takes.
    /// - Returns: false if it has gone.
    func write(_ now: UInt64) -> Bool {
        while written < output.count {
            let count = output[written...].withUnsafeBytes {
                cleave_socket_send(fileDescriptor, $0.baseAddress, $0.count, nil, 0)
            }
            if count == -EAGAIN || count == -EWOULDBLOCK || count == -ENOBUFS {
                if unreadSince == nil { unreadSince = now }
                return true
            }
            if count < 0 { return false }
            written += Int(count)
            unreadSince = nil
            lastActive = now
        }
        (output, written, unreadSince) = ([], 0, nil)
        return true
    }
}
