import CleaveHost
import Glibc

/// How a receiver takes what came by TCP.
public enum ReceiveWay: String, Codable, Sendable, CaseIterable {
    /// `recv` copies it to a buffer.
    case copied
    /// `TCP_ZEROCOPY_RECEIVE` maps the pages that hold payload alone; `recv` copies the rest.
    case mapped
}

/// What a receiver does with bytes that came.
public enum ReceiveUse: String, Codable, Sendable, CaseIterable {
    case nothing
    /// Reads each of them, as an application would.
    case read
    /// Compares each of them with what the sender has sent.
    case compare
}

/// What came, and what it cost the receiver.
public struct StreamReceipt: Codable, Sendable, Equatable {
    public var bytes = 0
    public var mappedBytes = 0
    public var mappedPages = 0
    /// System calls that took bytes.
    public var calls = 0
    /// From the first byte to the last one.
    public var seconds = 0.0
    /// Of the receiver's thread meanwhile, in the kernel as well.
    public var cpuSeconds = 0.0
    /// Bytes that were not what the sender has sent; 0 if nothing was compared.
    public var wrongBytes = 0
    /// Of bytes that were read, so that the compiler has to read them; not in files.
    var sum: UInt64 = 0

    private enum CodingKeys: CodingKey {
        case bytes, mappedBytes, mappedPages, calls, seconds, cpuSeconds, wrongBytes
    }

    public init() {}

    public var gigabytesPerSecond: Double { Double(bytes) / 1e9 / seconds }
    public var cpuSecondsPerGigabyte: Double { cpuSeconds / (Double(bytes) / 1e9) }
    /// 0 to 1.
    public var mappedShare: Double { Double(mappedBytes) / Double(bytes) }
}

/// The end of a TCP connection that receives, by copy or by mapping.
public struct StreamReceiver {
    public var port: UInt16
    public var way = ReceiveWay.copied
    public var use = ReceiveUse.nothing
    /// Of the whole stream.
    public var byteCount: Int
    /// Of the buffer, or of the memory that pages are mapped to. The receiver is woken when so much
    /// has come, and takes it with one call.
    public var bufferByteCount: Int

    /// What pages are mapped by, whatever the size of a huge page.
    public static let pageByteCount = Int(sysconf(Int32(_SC_PAGESIZE)))

    public init(port: UInt16, byteCount: Int, bufferByteCount: Int) {
        (self.port, self.byteCount, self.bufferByteCount) = (port, byteCount, bufferByteCount)
    }

    /// Waits for a sender and takes all of its bytes.
    public func run() throws(HostError) -> StreamReceipt {
        let socket = try StreamSocket.accept(port: port)
        let buffer = UnsafeMutableRawBufferPointer.allocate(
            byteCount: bufferByteCount, alignment: Self.pageByteCount)
        defer { buffer.deallocate() }
        // Its pages are to be there before the time is taken.
        buffer.initializeMemory(as: UInt8.self, repeating: 0)
        let window = way == .mapped ? try map(socket) : nil
        defer { if let window { munmap(window, bufferByteCount) } }
        var receipt = StreamReceipt()
        // The clock begins with the first byte; from then on a call is worth a buffer.
        try socket.waitUntilReadable()
        let start = SystemClock.monotonic
        try socket.set(SO_RCVLOWAT, Int32(bufferByteCount))
        let busy = SystemClock.threadTime
        while receipt.bytes < byteCount {
            try socket.waitUntilReadable()
            var wanted = min(bufferByteCount, byteCount - receipt.bytes)
            if let window {
                let (mapped, skipped) = try take(socket, to: window)
                if mapped > 0 {
                    note(UnsafeRawBufferPointer(start: window, count: mapped), in: &receipt)
                    receipt.mappedBytes += mapped
                }
                // Bytes before the next whole page of payload are copied. Less than a page may
                // be all that is left.
                if skipped > 0 { wanted = min(wanted, skipped) } else if mapped > 0 { continue }
            }
            let count = try copy(socket, to: buffer.baseAddress!, wanted, after: receipt.bytes)
            note(UnsafeRawBufferPointer(rebasing: buffer[..<count]), in: &receipt)
        }
        receipt.cpuSeconds = Double(SystemClock.threadTime - busy) / 1e9
        receipt.seconds = Double(SystemClock.monotonic - start) / 1e9
        receipt.mappedPages = receipt.mappedBytes / Self.pageByteCount
        return receipt
    }

    /// Memory that pages of the connection can be mapped to.
    private func map(_ socket: borrowing StreamSocket) throws(HostError) -> UnsafeMutableRawPointer
    {
        let window = mmap(nil, bufferByteCount, PROT_READ, MAP_SHARED, socket.descriptor, 0)
        guard let window, window != MAP_FAILED else {
            throw HostError(
                "mmap", code: errno, "this kernel maps no TCP socket (CONFIG_MMU, Linux 4.18)")
        }
        return window
    }

    /// Maps what can be: bytes mapped, and bytes that have to be copied before more can be. The
    /// pages mapped before go back to the kernel.
    private func take(
        _ socket: borrowing StreamSocket, to window: UnsafeMutableRawPointer
    ) throws(HostError) -> (mapped: Int, skipped: Int) {
        var request = tcp_zerocopy_receive()
        request.address = UInt64(UInt(bitPattern: window))
        request.length = UInt32(bufferByteCount)
        var size = socklen_t(MemoryLayout<tcp_zerocopy_receive>.size)
        let result = getsockopt(
            socket.descriptor, Int32(IPPROTO_TCP), TCP_ZEROCOPY_RECEIVE, &request, &size)
        if result != 0 {
            throw HostError("getsockopt", code: errno, "TCP_ZEROCOPY_RECEIVE is refused")
        }
        return (Int(request.length), Int(request.recv_skip_hint))
    }

    private func copy(
        _ socket: borrowing StreamSocket, to buffer: UnsafeMutableRawPointer, _ wanted: Int,
        after place: Int
    ) throws(HostError) -> Int {
        while true {
            let count = recv(socket.descriptor, buffer, wanted, 0)
            if count > 0 { return count }
            if count == 0 {
                throw HostError("recv", "the stream ended after \(place) of \(byteCount) bytes")
            }
            if errno != EINTR {
                throw HostError("recv", code: errno, "after \(place) of \(byteCount) bytes")
            }
        }
    }

    private func note(_ bytes: UnsafeRawBufferPointer, in receipt: inout StreamReceipt) {
        switch use {
        case .nothing: break
        case .read:
            receipt.sum &+= PayloadReader.sum(bytes.baseAddress!, byteCount: bytes.count)
        case .compare:
            receipt.wrongBytes += StreamPattern.wrongCount(bytes, from: receipt.bytes)
        }
        receipt.bytes += bytes.count
        receipt.calls += 1
    }
}
