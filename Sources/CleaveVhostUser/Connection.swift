// A stream socket that carries messages. It never waits: a message is put together from whatever
// pieces it comes in, and what the peer does not take yet is kept, up to a limit.

import CCleaveHost
import CleaveHost
import Glibc

/// One end of a connection; owns the socket.
///
/// Bytes are read up to the end of a message and no further. So a message that is complete in the
/// socket keeps the socket readable, and descriptors never belong to two messages.
final class Connection {
    /// Bytes that wait for the peer at most.
    static let maximumUnsentByteCount = 64 * 1024
    /// How long a message may take to arrive, or an answer to be taken.
    static let patience: UInt64 = 5_000_000_000
    /// Between two attempts to send what the peer did not take.
    static let retryInterval: UInt64 = 10_000_000

    /// What a call of `receive` came to.
    enum Input {
        case message(Message)
        /// Nothing more is there now.
        case none
        case closed(Closure)
    }

    /// A chunk of output. Descriptors go with its first byte.
    private struct Output {
        var bytes: ArraySlice<UInt8>
        var descriptors: [Int32]
        /// Those among them that are closed once they are sent.
        var owned: [ReceivedDescriptor]
    }

    let fileDescriptor: Int32
    private let clock: () -> UInt64
    private var header: [UInt8] = []
    private var payload: [UInt8] = []
    /// Bytes of the payload that have arrived.
    private var payloadFilled = 0
    private var payloadByteCount = 0
    private var descriptors: [ReceivedDescriptor] = []
    private var messageStart: UInt64?
    private var unsent: [Output] = []
    private var unsentByteCount = 0
    private var unsentSince: UInt64?
    private var retryAt: UInt64?

    /// Takes ownership of a connected stream socket.
    init(_ fileDescriptor: Int32, clock: @escaping () -> UInt64 = { SystemClock.monotonic }) {
        self.fileDescriptor = fileDescriptor
        self.clock = clock
    }

    deinit { close(fileDescriptor) }

    /// When `overdue` should be asked, or output be tried again; nil while nothing waits.
    var deadline: UInt64? {
        let message = messageStart.map { $0 + Self.patience }
        guard let retryAt else { return message }
        return min(retryAt, message ?? retryAt)
    }

    var hasUnsent: Bool { !unsent.isEmpty }

    /// Whether the peer has kept this end waiting for too long.
    var overdue: Closure? {
        let now = clock()
        if let messageStart, now >= messageStart + Self.patience { return .timeout }
        if let unsentSince, now >= unsentSince + Self.patience { return .backpressure }
        return nil
    }

    /// Reads until a message is complete or nothing is left to read.
    func receive() -> Input {
        while header.count < Message.headerByteCount {
            if let stop = readHeader() { return stop }
        }
        while payloadFilled < payloadByteCount {
            if let stop = readPayload() { return stop }
        }
        return .message(takeMessage())
    }

    /// What `read` came to; `.count` is never 0.
    private enum Piece {
        case count(Int)
        case end(Input)
    }

    private func read(
        _ target: UnsafeMutableRawBufferPointer, atEnd: Closure
    ) -> Piece {
        var received = cleave_received()
        var numbers = [Int32](repeating: -1, count: Message.maximumDescriptorCount)
        let count = cleave_socket_receive(
            fileDescriptor, target.baseAddress, target.count, &numbers, &received)
        // Owned from here on, whatever becomes of the message.
        let fresh = numbers.prefix(Int(received.descriptor_count)).map(ReceivedDescriptor.init)
        if count == -EAGAIN || count == -EWOULDBLOCK { return .end(.none) }
        if count < 0 { return .end(.closed(.reset)) }
        if received.is_truncated != 0 { return .end(.closed(.ctrunc)) }
        if count == 0 { return .end(.closed(atEnd)) }
        if received.block_count > 0 {
            // Beside the header, and once.
            let isMisplaced = header.count == Message.headerByteCount || !descriptors.isEmpty
            if isMisplaced || received.block_count > 1 { return .end(.closed(.fds)) }
            descriptors = fresh
        }
        if messageStart == nil { messageStart = clock() }
        return .count(Int(count))
    }

    /// - Returns: nil if bytes came.
    private func readHeader() -> Input? {
        let left = Message.headerByteCount - header.count
        let atEnd: Closure = header.isEmpty ? .ended : .shortHeader
        var bytes = [UInt8](repeating: 0, count: left)
        switch bytes.withUnsafeMutableBytes({ read($0, atEnd: atEnd) }) {
        case .end(let input): return input
        case .count(let count): header += bytes[..<count]
        }
        if header.count == Message.headerByteCount {
            var reader = PayloadReader(header)
            (_, _) = (reader.next(UInt32.self), reader.next(UInt32.self))
            let size: UInt32 = reader.next()
            // Before anything is allocated.
            if size > UInt32(Message.maximumPayloadByteCount) { return .closed(.oversize) }
            payloadByteCount = Int(size)
            payload = [UInt8](repeating: 0, count: payloadByteCount)
        }
        return nil
    }

    /// - Returns: nil if bytes came.
    private func readPayload() -> Input? {
        let filled = payloadFilled
        let piece = payload.withUnsafeMutableBytes {
            read(UnsafeMutableRawBufferPointer(rebasing: $0[filled...]), atEnd: .shortPayload)
        }
        switch piece {
        case .end(let input): return input
        case .count(let count): payloadFilled += count
        }
        return nil
    }

    private func takeMessage() -> Message {
        var reader = PayloadReader(header)
        let request: UInt32 = reader.next()
        let message = Message(
            request: request, flags: reader.next(), payload: payload, descriptors: descriptors)
        header = []
        payload = []
        (payloadFilled, payloadByteCount) = (0, 0)
        descriptors = []
        messageStart = nil
        return message
    }

    #if !CLEAVE_LIBRARY
    // MARK: Going to another process

    /// What another process needs to go on with it.
    /// - Parameter list: the descriptors are added there.
    func handover(_ list: HandoverDescriptors) throws(SetupError) -> ConnectionHandover {
        var state = ConnectionHandover(descriptor: try list.add(fileDescriptor))
        state.header = header
        state.payload = Array(payload.prefix(payloadFilled))
        for descriptor in descriptors {
            state.inputDescriptors.append(try list.add(descriptor.fileDescriptor))
        }
        for output in unsent {
            var kept = ConnectionHandover.Output(bytes: Array(output.bytes), descriptors: [])
            for descriptor in output.descriptors {
                kept.descriptors.append(try list.add(descriptor))
            }
            state.output.append(kept)
        }
        return state
    }

    /// Goes on where another process stopped.
    /// - Parameter name: of the connection, for errors.
    func restore(
        _ state: ConnectionHandover, _ list: HandoverDescriptors, _ name: String
    ) throws(SetupError) {
        do throws(SetupError) {
            try restoreInput(state)
            guard state.inputDescriptors.count <= Message.maximumDescriptorCount else {
                throw SetupError("inputDescriptors: more than a message may have")
            }
            for place in state.inputDescriptors { descriptors.append(try list.take(place)) }
            for output in state.output {
                guard !output.bytes.isEmpty,
                    output.descriptors.count <= Message.maximumDescriptorCount
                else { throw SetupError("output: no bytes, or too many descriptors") }
                unsentByteCount += output.bytes.count
                guard unsentByteCount <= Self.maximumUnsentByteCount else {
                    throw SetupError(
                        "output: more than \(Self.maximumUnsentByteCount) bytes")
                }
                var owned: [ReceivedDescriptor] = []
                for place in output.descriptors { owned.append(try list.take(place)) }
                unsent.append(
                    Output(
                        bytes: output.bytes[...], descriptors: owned.map(\.fileDescriptor),
                        owned: owned))
            }
        } catch { throw SetupError("\(name).", error) }
        let now = clock()
        if !header.isEmpty { messageStart = now }
        if hasUnsent { (unsentSince, retryAt) = (now, now) }
    }

    private func restoreInput(_ state: ConnectionHandover) throws(SetupError) {
        guard state.header.count <= Message.headerByteCount else {
            throw SetupError("header: \(state.header.count) bytes")
        }
        guard state.header.count == Message.headerByteCount else {
            guard state.payload.isEmpty else { throw SetupError("payload: before its header") }
            header = state.header
            return
        }
        var reader = PayloadReader(state.header)
        (_, _) = (reader.next(UInt32.self), reader.next(UInt32.self))
        let size: UInt32 = reader.next()
        guard size <= UInt32(Message.maximumPayloadByteCount) else {
            throw SetupError("header: a payload of \(size) bytes")
        }
        guard state.payload.count <= Int(size) else {
            throw SetupError("payload: \(state.payload.count) bytes of \(size)")
        }
        header = state.header
        payloadByteCount = Int(size)
        payloadFilled = state.payload.count
        payload = state.payload + [UInt8](repeating: 0, count: payloadByteCount - payloadFilled)
    }
    #endif

    /// Sends a message, or keeps what the peer does not take now.
    /// - Parameter descriptors: go with it, at most 8 with those of the message; they stay the
    ///   caller's, who leaves them open while `hasUnsent`.
    /// - Returns: why the connection is of no use any more; nil if it is.
    func send(_ message: Message, descriptors: [Int32] = []) -> Closure? {
        let bytes = message.bytes
        if unsentByteCount + bytes.count > Self.maximumUnsentByteCount { return .backpressure }
        let all = descriptors + message.descriptors.map(\.fileDescriptor)
        unsent.append(Output(bytes: bytes[...], descriptors: all, owned: message.descriptors))
        unsentByteCount += bytes.count
        return flush()
    }

    /// Sends what waits, as far as the peer takes it.
    /// - Returns: why the connection is of no use any more; nil if it is.
    func flush() -> Closure? {
        while let first = unsent.first {
            let count = first.bytes.withUnsafeBytes {
                cleave_socket_send(
                    fileDescriptor, $0.baseAddress, $0.count, first.descriptors,
                    Int32(first.descriptors.count))
            }
            if count == -EAGAIN || count == -EWOULDBLOCK || count == -ENOBUFS {
                let now = clock()
                if unsentSince == nil { unsentSince = now }
                retryAt = now + Self.retryInterval
                return nil
            }
            // The peer has gone: what it sent before that is still to be read.
            if count < 0 { return .reset }
            unsentByteCount -= Int(count)
            unsentSince = nil
            (unsent[0].descriptors, unsent[0].owned) = ([], [])
            unsent[0].bytes = first.bytes.dropFirst(Int(count))
            if unsent[0].bytes.isEmpty { unsent.removeFirst() }
        }
        (unsentSince, retryAt) = (nil, nil)
        return nil
    }
}
