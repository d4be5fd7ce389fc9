// Both ends at once: a driver in guest memory that is shared by a file, a queue over the back-end's
// own mapping of it, and a socket between the two sessions.
import CCleaveHost
import CleaveGuestDriver
import CleaveHost
import CleaveTestSupport
import CleaveVirtioNet
import Glibc
import Testing

@testable import CleaveVhostUser

/// A device with receive queues alone, as a port would make them.
private final class ReceivingDevice: BackendDevice {
    let offeredFeatures: UInt64 = 1 << 32 | 1 << 34 | 1 << 15 | 1 << 29
    let queuePairLimit = 1
    let configuration = NetConfiguration(
        mac: [2, 1, 2, 3, 4, 5], linkUp: true, maxQueuePairs: 1, mtu: 9000)

    private let arenas = ArenaSupply()
    private let port = MockPort()
    private var running: (queue: RxQueue, mappings: MappedMemory)?
    private(set) var starts = 0
    private(set) var mtu = 0

    func start(ring: Int, _ setup: VringSetup) throws(SetupError) {
        // The transmit ring is taken and left alone.
        guard ring == 0 else { return }
        var configuration = RxQueueConfiguration(
            virtqueue: setup.virtqueue,
            features: VirtioFeatures(rawValue: setup.features).intersection(.receive),
            memory: setup.memory, method: .whole, callDescriptor: setup.callDescriptor,
            kickDescriptor: setup.kickDescriptor)
        configuration.observation = setup.observation
        do {
            running = (try arenas.queue(configuration), setup.mappings)
        } catch { throw SetupError("queue: ", error) }
        starts += 1
    }

    func stop(ring: Int) -> UInt16 {
        guard ring == 0, let queue = running?.queue else { return 0 }
        running = nil
        return queue.base
    }

    func negotiated(features: UInt64) {}
    func setMTU(_ mtu: Int) { self.mtu = mtu }
    func announce(mac: [UInt8]) {}
    func writeConfiguration(offset: Int, _ bytes: [UInt8]) -> Bool { false }

    /// - Returns: packets delivered; nil without a queue.
    func deliver(_ packets: [[UInt8]]) -> Int? {
        guard let queue = running?.queue else { return nil }
        return port.enqueue(packets, to: queue).result.delivered
    }
}

/// A back-end on a thread of its own. Its device is looked at between two calls of `service`.
private final class BackendThread: @unchecked Sendable {
    // SAFETY: the session and the device are used under `lock`; the rest is constant, or is written
    // before the thread starts.
    private let lock = Lock()
    private let device = ReceivingDevice()
    private var session: BackendSession?
    private var isStopping = false
    private var thread = pthread_t()

    init() {
        let body: @convention(c) (UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? = {
            if let argument = $0 {
                Unmanaged<BackendThread>.fromOpaque(argument).takeUnretainedValue().run()
            }
            return nil
        }
        pthread_create(&thread, nil, body, Unmanaged.passUnretained(self).toOpaque())
    }

    /// Ends the thread; nothing else ends it.
    func join() {
        lock.withLock { isStopping = true }
        pthread_join(thread, nil)
        lock.withLock { session?.close() }
    }

    private func run() {
        while true {
            let descriptor = lock.withLock { () -> Int32? in
                if isStopping { return nil }
                if session?.service() != .open { session = nil }
                return session?.fileDescriptor ?? -1
            }
            guard let descriptor else { return }
            if descriptor < 0 { usleep(100) } else { _ = cleave_socket_wait(descriptor, 0, 1) }
        }
    }

    /// A connection to it, once the one before is gone.
    func connect() -> FrontendSession {
        while lock.withLock({ session != nil }) { usleep(100) }
        var ends: [Int32] = [0, 0]
        socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &ends)
        lock.withLock { session = BackendSession(descriptor: ends[0], device: device) }
        return FrontendSession(descriptor: ends[1])
    }

    func waitForEnd() { while lock.withLock({ session != nil }) { usleep(100) } }

    func look<Value>(_ body: (ReceivingDevice) -> Value) -> Value {
        lock.withLock { body(device) }
    }
}

/// A guest with one driver.
private final class Guest {
    let space: GuestSpace
    let driver: RxDriver
    let format: RingFormat
    let kick: EventDescriptor
    let call: EventDescriptor

    init(_ format: RingFormat) throws {
        space = try GuestSpace(byteCount: 2 << 20, pages: .small, shared: true)
        driver = try RxDriver(
            RxDriverConfiguration(
                ringSize: 64, ring: format, shape: .mergeable(bufferByteCount: 2048),
                method: .whole), in: space)
        self.format = format
        kick = try EventDescriptor()
        call = try EventDescriptor()
    }

    /// The whole arena, under a host pointer's name.
    func region(user: UInt64? = nil) throws -> SharedRegion {
        SharedRegion(
            guestAddress: GuestSpace.guestBase, byteCount: space.arena.byteCount,
            fileDescriptor: try #require(space.arena.fileDescriptor),
            userAddress: user ?? UInt64(UInt(bitPattern: space.arena.base)))
    }

    var features: UInt64 {
        driver.configuration.allFeatures.rawValue | 1 << 32 | (format == .packed ? 1 << 34 : 0)
    }

    func connect(_ front: FrontendSession, base: UInt16? = nil) throws {
        try front.handshake(wanting: features)
        try front.setMemory([region()])
        var ring = driver.virtqueue
        if let base { ring.base = base }
        try front.setRing(0, ring, kick: kick.fileDescriptor, call: call.fileDescriptor)
        try front.setEnabled(0, true)
    }

    /// What arrives.
    func receive() -> [[UInt8]] {
        let count = driver.harvest()
        var packets: [[UInt8]] = []
        for packet in driver.packets.prefix(count) {
            let first = Int(packet.firstPiece)
            packets.append(
                driver.pieces[first..<first + Int(packet.pieceCount)].flatMap {
                    Array(UnsafeRawBufferPointer(start: $0.pointer, count: Int($0.byteCount)))
                })
        }
        driver.finish()
        return packets
    }
}

@Suite("Both ends of a connection")
struct LifeTests {
    private static func packets(_ count: Int, _ first: Int) -> [[UInt8]] {
        (0..<count).map { number in
            (0..<60 + 13 * number).map { UInt8(truncatingIfNeeded: $0 + first + number) }
        }
    }

    /// Sends packets until each buffer of the ring was used more than once.
    private func exchange(_ backend: BackendThread, _ guest: Guest, rounds: Int = 20) {
        for round in 0..<rounds {
            guest.driver.refill()
            let sent = Self.packets(7, round)
            let delivered = backend.look { $0.deliver(sent) }
            #expect(delivered == 7)
            #expect(guest.receive() == sent)
            #expect(guest.driver.fault == .none)
        }
    }

    @Test(
        "Packets arrive, rings stop, resume at their base, move and reconnect",
        arguments: RingFormat.allCases, [true, false])
    func wholeLife(_ format: RingFormat, _ acknowledged: Bool) throws {
        let backend = BackendThread()
        defer { backend.join() }
        let guest = try Guest(format)
        var front: FrontendSession? = backend.connect()
        var session: FrontendSession { get throws { try #require(front) } }
        try guest.connect(session)
        #expect(try session.protocolFeatures.contains(.configuration))
        #expect(try session.configuration(byteCount: 8) == [2, 1, 2, 3, 4, 5, 1, 0])
        #expect(try session.queuePairLimit == 1)
        try session.setMTU(1400)
        #expect(backend.look { $0.mtu } == 1400)
        exchange(backend, guest)

        // Stopped: the device has no queue. Started again, it goes on where it was.
        let base = try session.stopRing(0, format)
        #expect(backend.look { $0.deliver([[1]]) } == nil)
        #expect(base != guest.driver.virtqueue.base)
        var ring = guest.driver.virtqueue
        ring.base = base
        try session.setRing(
            0, ring, kick: guest.kick.fileDescriptor, call: guest.call.fileDescriptor)
        exchange(backend, guest)

        // Disabled and enabled.
        try session.setEnabled(0, false)
        #expect(backend.look { $0.deliver([[1]]) } == nil)
        try session.setEnabled(0, true)
        exchange(backend, guest)

        // The same memory in a new table while the ring runs: stopped and started by itself.
        let before = backend.look { $0.starts }
        try session.setMemory([guest.region()])
        #expect(backend.look { $0.starts } == before + 1)
        exchange(backend, guest)

        // A new connection, which the driver tells where the ring has come to.
        let last = try session.stopRing(0, format)
        front = nil
        backend.waitForEnd()
        front = backend.connect()
        if acknowledged {
            try guest.connect(session, base: last)
        } else {
            try session.handshake(wanting: guest.features, protocolFeatures: [])
            try session.setMemory([guest.region(user: 0x1000)])
            ring.base = last
            try session.setRing(0, ring, kick: -1, call: guest.call.fileDescriptor)
            try session.setEnabled(0, true)
        }
        exchange(backend, guest)
        #expect(guest.driver.harvestedCount == 5 * 20 * 7)
        front = nil
        backend.waitForEnd()
    }

    @Test(
        "F04 A back-end that knows no base goes on by the in-flight region",
        arguments: RingFormat.allCases)
    func inFlight(_ format: RingFormat) throws {
        let backend = BackendThread()
        defer { backend.join() }
        let guest = try Guest(format)
        var memory: FrontendSession.InFlightMemory?
        // 64 descriptors: the ring's position is in the middle of a lap, of either wrap counter.
        for rounds in [3, 11, 9] {
            let session = backend.connect()
            try session.handshake(wanting: guest.features)
            let kept = try memory ?? session.makeInFlightMemory(ringCount: 2, ringSize: 64)
            memory = kept
            try session.setInFlightMemory(kept)
            try session.setMemory([guest.region()])
            // Always the base of the beginning, as from a front-end whose back-end has died.
            try session.setRing(
                0, guest.driver.virtqueue, kick: guest.kick.fileDescriptor,
                call: guest.call.fileDescriptor)
            try session.setEnabled(0, true)
            exchange(backend, guest, rounds: rounds)
        }
        #expect(guest.driver.harvestedCount == 23 * 7)
        backend.waitForEnd()
    }

    @Test(
        "What is written while a guest moves is in the log, and packets go on",
        arguments: RingFormat.allCases)
    func moving(_ format: RingFormat) throws {
        let backend = BackendThread()
        defer { backend.join() }
        let guest = try Guest(format)
        let session = backend.connect()
        try guest.connect(session)
        exchange(backend, guest)
        let end = GuestSpace.guestBase.rawValue + UInt64(guest.space.arena.byteCount)
        let byteCount = Int(end / 32768 + 1)
        let log = SharedMemory(byteCount: byteCount + 4096)
        let pages = try #require(
            mmap(nil, byteCount, PROT_READ | PROT_WRITE, MAP_SHARED, log.descriptor, 4096))
        defer { munmap(pages, byteCount) }
        /// Pages that are marked, which are not any more then.
        func take() -> Int {
            let bytes = UnsafeMutableRawBufferPointer(start: pages, count: byteCount)
            let count = bytes.reduce(0) { $0 + $1.nonzeroBitCount }
            bytes.initializeMemory(as: UInt8.self, repeating: 0)
            return count
        }
        try session.setLog(
            fileDescriptor: log.descriptor, byteCount: byteCount, fileOffset: 4096)
        try session.setLogging(true)
        let ring = guest.driver.virtqueue
        try session.setRingLog(0, ring, at: ring.deviceArea)
        _ = take()
        exchange(backend, guest, rounds: 1)
        // Seven packets, two to a page of buffers, and the ring.
        let marked = take()
        #expect((4...10).contains(marked), "\(marked)")
        exchange(backend, guest)
        #expect(take() > 16)
        // It stays after all.
        try session.setRingLog(0, ring, at: nil)
        try session.setLogging(false)
        _ = take()
        exchange(backend, guest)
        #expect(take() == 0)
        // Refused in words, where the answer could tell nothing.
        #expect(throws: SetupError.self) {
            try session.setLog(fileDescriptor: log.descriptor, byteCount: 16)
        }
        backend.waitForEnd()
    }

    @Test("A driver that is told of its packets hears of them through its own descriptor")
    func call() throws {
        let backend = BackendThread()
        defer { backend.join() }
        let guest = try Guest(.split)
        let front = backend.connect()
        try guest.connect(front)
        guest.driver.refill()
        guest.driver.setInterrupts(true)
        guest.call.drain()
        #expect(backend.look { $0.deliver(Self.packets(1, 0)) } == 1)
        let isCalled = guest.call.drain()
        #expect(isCalled)
        #expect(guest.receive().count == 1)
    }

    @Test("What the back-end refuses is an error that names the request")
    func refusals() throws {
        let backend = BackendThread()
        defer { backend.join() }
        let guest = try Guest(.split)
        let front = backend.connect()
        try guest.connect(front)
        let ring = guest.driver.virtqueue
        #expect(
            message { try front.setRing(5, ring, kick: -1, call: -1) }
                == "the back-end refuses setVringNum")
        #expect(
            message { _ = try front.stopRing(9, .split) }
                == "the back-end does not stop ring 9")
        #expect(
            message { try front.setConfiguration(offset: 0, [1]) }
                == "the back-end refuses setConfiguration")
        var wrong = ring
        wrong.descriptorArea = GuestAddress(16)
        #expect(
            message { try front.setRing(1, wrong, kick: -1, call: -1) }
                == "guest address 0x10 is in no shared region")
        #expect(
            message { _ = try front.configuration(byteCount: 0) }
                == "0 bytes of configuration: need 1 to 256")
        let region = try guest.region()
        #expect(
            message { try front.setMemory(Array(repeating: region, count: 9)) }
                == "9 memory regions: one message holds 8")
        var overlapping = region
        overlapping.userAddress += 4096
        #expect(
            message { try front.addMemory(overlapping) } == "the back-end refuses addMemoryRegion")
        // It is still of use.
        exchange(backend, guest, rounds: 1)
    }

    @Test("A back-end that is silent, ends or answers wrongly is an error, in a bounded time")
    func deadBackend() throws {
        let peers = PeerDescriptors()
        let silent = peers.sockets()
        let front = FrontendSession(descriptor: dup(silent.near), timeout: 20_000_000)
        #expect(
            message { try front.handshake(wanting: 0) }
                == "the back-end does not answer getFeatures")

        let gone = peers.sockets()
        let alone = FrontendSession(descriptor: dup(gone.near))
        peers.end(gone.far)
        #expect(
            message { try alone.handshake(wanting: 0) }.hasPrefix(
                "the back-end closed the connection at"))

        let liar = peers.sockets()
        let misled = FrontendSession(descriptor: dup(liar.near))
        let answer = Message(request: 2, flags: 5, payload: PayloadWriter.number(0)).bytes
        #expect(write(liar.far, answer, answer.count) == answer.count)
        #expect(
            message { try misled.handshake(wanting: 0) }
                == "the back-end answers getFeatures with another message")
    }

    @Test("A49 10 000 reconnects leave descriptors and mappings where they were")
    func reconnects() throws {
        let backend = BackendThread()
        defer { backend.join() }
        let guest = try Guest(.split)
        let file = try #require(guest.space.arena.fileDescriptor.flatMap { FileIdentity($0) })
        let peers = PeerDescriptors()
        let pipe = peers.pipe()
        let call = try #require(FileIdentity(pipe.writer))
        let mappings = file.mappingCount
        #expect(mappings >= 1)
        for number in 0..<10_000 {
            let front = backend.connect()
            try guest.connect(front)
            try front.setRing(
                1, guest.driver.virtqueue, kick: -1, call: pipe.writer, error: pipe.writer)
            if number == 0 {
                #expect(file.mappingCount == mappings + 1)
                #expect(call.openCount == 4)
            }
        }
        backend.waitForEnd()
        #expect(backend.look { $0.starts } == 10_000)
        #expect(file.mappingCount == mappings)
        #expect(file.openCount == 1)
        #expect(call.openCount == 2)
    }
}
