import CleaveHost
import Glibc

/// The end of a TCP connection that sends.
public struct StreamSender {
    public var address: String
    public var port: UInt16
    /// Of the whole stream.
    public var byteCount: Int
    /// Whether each byte follows from its place in the stream; otherwise the first mebibyte is sent
    /// again and again, so that making bytes costs nothing.
    public var isCompared: Bool

    private static let partByteCount = 1 << 20

    public init(address: String, port: UInt16, byteCount: Int, isCompared: Bool) {
        (self.address, self.port) = (address, port)
        (self.byteCount, self.isCompared) = (byteCount, isCompared)
    }

    /// Sends all bytes, and returns when the receiver has closed the connection.
    public func run() throws(HostError) {
        let part = UnsafeMutableRawBufferPointer.allocate(
            byteCount: Self.partByteCount, alignment: StreamReceiver.pageByteCount)
        defer { part.deallocate() }
        StreamPattern.fill(part, from: 0)
        let socket = try StreamSocket.connect(to: address, port: port)
        var sent = 0
        while sent < byteCount {
            if isCompared { StreamPattern.fill(part, from: sent) }
            let end = min(byteCount, sent + part.count)
            let start = sent
            while sent < end {
                let count = send(
                    socket.descriptor, part.baseAddress! + (sent - start), end - sent,
                    Int32(MSG_NOSIGNAL))
                if count < 0 && errno == EINTR { continue }
                if count < 0 {
                    throw HostError("send", code: errno, "after \(sent) of \(byteCount) bytes")
                }
                sent += count
            }
        }
        shutdown(socket.descriptor, Int32(SHUT_WR))
        var byte: UInt8 = 0
        if recv(socket.descriptor, &byte, 1, 0) != 0 {
            throw HostError("recv", code: errno, "the receiver did not close the connection")
        }
    }
}
