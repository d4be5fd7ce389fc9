import CCleaveHost
import CleaveGuestDriver
import CleaveHost
import CleaveTestSupport
import CleaveVhostUser
import CleaveVirtioNet
import Glibc
import Testing

/// A guest in this process: drivers for one queue pair, connected to a port's real socket.
final class LocalGuest {
    let rx: RxDriver
    let tx: TxDriver
    private(set) var front: FrontendSession?
    private let space: GuestSpace
    private let kicks: [EventDescriptorBox]
    private let calls: [EventDescriptorBox]
    private let ring: RingFormat
    private let wanted: UInt64
    /// Where back-ends note what is in flight, from the first one on that was asked for it.
    private var inFlight: FrontendSession.InFlightMemory?

    /// A descriptor in an object, for arrays.
    final class EventDescriptorBox {
        let event: EventDescriptor
        init() throws { event = try EventDescriptor() }
    }

    /// - Parameters:
    ///   - wanted: features that no queue obeys, such as the MTU's.
    ///   - pieceCount: buffers that a packet to send is spread over.
    init(
        _ ring: RingFormat, features: VirtioFeatures = [], ringSize: Int = 64,
        shape: BufferShape = .mergeable(bufferByteCount: 2048), wanted: UInt64 = 0,
        pieceCount: Int = 1
    ) throws {
        self.ring = ring
        self.wanted = wanted
        space = try GuestSpace(
            byteCount: max(4 << 20, ringSize << 13), pages: .small, shared: true)
        rx = try RxDriver(
            RxDriverConfiguration(
                ringSize: ringSize, ring: ring, shape: shape,
                method: .whole, features: features), in: space)
        tx = try TxDriver(
            TxDriverConfiguration(
                ringSize: ringSize, ring: ring, features: features, pieceCount: pieceCount),
            in: space)
        kicks = [try EventDescriptorBox(), try EventDescriptorBox()]
        calls = [try EventDescriptorBox(), try EventDescriptorBox()]
    }

    /// Connects to the port that listens at `path`.
    /// - Parameters:
    ///   - bases: where receive and transmit ring go on; nil for fresh ones.
    ///   - keepsInFlight: the back-end finds out by itself, from what one before it has noted.
    func connect(
        _ path: String, bases: [UInt16]? = nil, keepsInFlight: Bool = false
    ) throws {
        let socket = cleave_unix_connect(path)
        try #require(socket >= 0, "\(path): \(socket)")
        try connect(over: socket, bases: bases, keepsInFlight: keepsInFlight)
    }

    /// The same over a connection that is there, which is the guest's from now on.
    func connect(
        over socket: Int32, bases: [UInt16]? = nil, keepsInFlight: Bool = false
    ) throws {
        let front = FrontendSession(descriptor: socket)
        self.front = front
        let features = rx.configuration.allFeatures.union(tx.configuration.allFeatures)
        try front.handshake(
            wanting: features.rawValue | wanted | 1 << 32 | (ring == .packed ? 1 << 34 : 0))
        if keepsInFlight {
            let memory =
                try inFlight
                ?? front.makeInFlightMemory(ringCount: 2, ringSize: rx.virtqueue.size)
            inFlight = memory
            try front.setInFlightMemory(memory)
        }
        try sendMemory()
        for (index, virtqueue) in [rx.virtqueue, tx.virtqueue].enumerated() {
            var virtqueue = virtqueue
            if let bases { virtqueue.base = bases[index] }
            try front.setRing(
                index, virtqueue, kick: kicks[index].event.fileDescriptor,
                call: calls[index].event.fileDescriptor)
            try front.setEnabled(index, true)
        }
        rx.refill()
    }

    /// Tells the back-end of the memory, at first or once more while the rings run.
    func sendMemory() throws {
        try #require(front).setMemory([
            SharedRegion(
                guestAddress: GuestSpace.guestBase, byteCount: space.arena.byteCount,
                fileDescriptor: try #require(space.arena.fileDescriptor))
        ])
    }

    /// Stops both rings, and leaves.
    /// - Returns: where they go on.
    func leave() throws -> [UInt16] {
        let front = try #require(self.front)
        let bases = [try front.stopRing(0, ring), try front.stopRing(1, ring)]
        self.front = nil
        return bases
    }

    /// How many descriptors and mappings of this process are of the guest's memory file.
    func memoryUse() -> [Int]? {
        guard let file = space.arena.fileDescriptor.flatMap({ FileIdentity($0) }) else {
            return nil
        }
        return [file.openCount, file.mappingCount]
    }

    /// Goes without a word.
    func vanish() { front = nil }

    func send(_ frames: [[UInt8]], offloads: NetHeader = NetHeader(numBuffers: 0)) -> Int {
        _ = tx.reap()
        var taken = 0
        var wantsKick = false
        for frame in frames {
            let result = frame.withUnsafeBytes { bytes -> (taken: Int, wantsKick: Bool) in
                guard let base = bytes.baseAddress else { return (0, false) }
                var one = OutgoingFrame(base, byteCount: bytes.count, offloads: offloads)
                return tx.send(&one, count: 1)
            }
            if result.taken == 0 { break }
            taken += 1
            wantsKick = wantsKick || result.wantsKick
        }
        if wantsKick { kicks[1].event.signal() }
        return taken
    }

    /// Sends a burst, and looks at nothing.
    /// - Returns: how many were taken.
    func send(_ frames: UnsafePointer<OutgoingFrame>, count: Int) -> Int {
        _ = tx.reap()
        let result = tx.send(frames, count: count)
        if result.wantsKick { kicks[1].event.signal() }
        return result.taken
    }

    /// Sends all of them, as its buffers come back.
    /// - Returns: how many were taken before a time is over that only a fault needs.
    func sendAll(_ frames: [[UInt8]]) -> Int {
        var rest = frames[...]
        let end = SystemClock.monotonic + 20_000_000_000
        while !rest.isEmpty && SystemClock.monotonic < end {
            let taken = send(Array(rest))
            rest = rest.dropFirst(taken)
            if taken == 0 { usleep(50) }
        }
        return frames.count - rest.count
    }

    /// What has arrived.
    func receive() -> [[UInt8]] {
        var packets: [[UInt8]] = []
        while rx.harvest() > 0 {
            for packet in rx.packets {
                let first = Int(packet.firstPiece)
                packets.append(
                    rx.pieces[first..<first + Int(packet.pieceCount)].flatMap {
                        Array(UnsafeRawBufferPointer(start: $0.pointer, count: Int($0.byteCount)))
                    })
            }
            rx.finish()
            rx.refill()
        }
        return packets
    }

    /// What arrives until there are `count` packets or a time is over that only a fault needs.
    func receive(atLeast count: Int) -> [[UInt8]] {
        var packets = receive()
        let end = SystemClock.monotonic + 20_000_000_000
        while packets.count < count && SystemClock.monotonic < end {
            usleep(200)
            packets += receive()
        }
        return packets
    }
}
