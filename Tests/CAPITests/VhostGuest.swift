// What the tests of `cleave_vhost_*` share: a program that notes its events, and a guest that comes
// over a socket.
import CCleave
import CCleaveHost
import CleaveGuestDriver
import CleaveHost
import CleaveTestSupport
import CleaveVhostUser
import CleaveVirtioNet
import Glibc
import Synchronization
import Testing

/// Both ends of a connection.
final class ConnectedPair: Sendable {
    /// The device's, which takes it.
    let near: Int32
    let far: Int32

    init() {
        var ends: [Int32] = [-1, -1]
        socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &ends)
        (near, far) = (ends[0], ends[1])
    }

    deinit { close(far) }
}

/// A program on the library's control plane: keeps what it is told.
final class VhostRecorder: @unchecked Sendable {
    // SAFETY: events come one after the other, from the thread that polls; what tests read beside
    // it is read when that thread has ended, or has a lock.

    struct Pair {
        var rq: Handle?
        var txq: Handle?
        var kick: Int32 = -1
    }

    private(set) var events: [cleave_vhost_event] = []
    private(set) var pairs: [Int: Pair] = [:]
    /// Queue events that came while nobody was told to hold.
    private(set) var unheld = 0
    private var isHeld = false
    /// Runs inside the callback, before the event is kept.
    var during: (cleave_vhost_event) -> Void = { _ in }

    var kinds: [UInt32] { events.map(\.kind) }
    func forget() { events = [] }

    private static func name(_ kind: UInt32) -> String {
        switch kind {
        case CLEAVE_VHOST_CONNECTED.rawValue: "connected"
        case CLEAVE_VHOST_DISCONNECTED.rawValue: "disconnected"
        case CLEAVE_VHOST_HOLD.rawValue: "hold"
        case CLEAVE_VHOST_RELEASE.rawValue: "release"
        case CLEAVE_VHOST_QUEUE_STARTED.rawValue: "started"
        case CLEAVE_VHOST_QUEUE_STOPPING.rawValue: "stopping"
        case CLEAVE_VHOST_PAIRS.rawValue: "pairs"
        case CLEAVE_VHOST_MTU.rawValue: "mtu"
        case CLEAVE_VHOST_ANNOUNCE.rawValue: "announce"
        default: "\(kind)"
        }
    }

    /// The events, in words: `started rq 0`.
    var story: [String] {
        events.map { event in
            let name = Self.name(event.kind)
            if event.rq != nil { return "\(name) rq \(event.pair)" }
            if event.txq != nil { return "\(name) txq \(event.pair)" }
            return event.value == 0 ? name : "\(name) \(event.value)"
        }
    }

    /// The same without holds.
    var plainStory: [String] { story.filter { $0 != "hold" && $0 != "release" } }

    func take(_ event: cleave_vhost_event) {
        during(event)
        events.append(event)
        let pair = Int(event.pair)
        switch event.kind {
        case CLEAVE_VHOST_HOLD.rawValue: isHeld = true
        case CLEAVE_VHOST_RELEASE.rawValue: isHeld = false
        case CLEAVE_VHOST_QUEUE_STARTED.rawValue:
            if !isHeld { unheld += 1 }
            if let rq = event.rq { pairs[pair, default: Pair()].rq = rq }
            if let txq = event.txq {
                pairs[pair, default: Pair()].txq = txq
                pairs[pair, default: Pair()].kick = event.kick_fd
            }
        case CLEAVE_VHOST_QUEUE_STOPPING.rawValue:
            if !isHeld { unheld += 1 }
            if event.rq != nil { pairs[pair]?.rq = nil }
            if event.txq != nil { pairs[pair]?.txq = nil }
        default: break
        }
    }

    /// A configuration that tells a recorder, or nobody.
    static func config(
        socket: Int32 = -1, _ recorder: VhostRecorder? = nil
    ) -> cleave_vhost_config {
        var config = cleave_vhost_config()
        config.struct_size = UInt32(MemoryLayout<cleave_vhost_config>.size)
        if socket >= 0 {
            config.flags = CLEAVE_VHOST_SOCKET_FD.rawValue
            config.socket_fd = socket
        }
        config.user = recorder.map { Unmanaged.passUnretained($0).toOpaque() }
        config.event = { user, event in
            guard let user, let event else { return }
            // SAFETY: the recorder outlives its device in every test.
            Unmanaged<VhostRecorder>.fromOpaque(user).takeUnretainedValue().take(event.pointee)
        }
        return config
    }

    /// Returns what guests have sent on every pair, on the same pair.
    /// - Returns: how many packets there were.
    @discardableResult
    func echo() -> Int {
        var total = 0
        for pair in pairs.values {
            guard let txq = pair.txq else { continue }
            var packets = [cleave_packet](repeating: cleave_packet(), count: 32)
            let count = cleave_txq_dequeue_burst(txq, &packets, 32, nil)
            guard count > 0 else { continue }
            total += Int(count)
            if let rq = pair.rq {
                // In place: they are out until they are placed.
                cleave_rq_enqueue_burst(rq, &packets, UInt32(count), nil)
            }
            cleave_txq_complete(txq, UInt32(count), nil)
        }
        return total
    }
}

/// A device with its recorder, at a socket in a folder of its own.
final class VhostRig: @unchecked Sendable {
    // SAFETY: `poll` is called by one thread at a time; everything else is constant.

    let recorder = VhostRecorder()
    let log = CallbackLog()
    let context: Handle
    let vhost: Handle
    let folder: String
    var path: String { "\(folder)/socket" }
    private let stopped = Atomic<Bool>(false)

    init(
        at socket: Int32 = -1, _ change: (inout cleave_vhost_config) -> Void = { _ in }
    ) throws {
        var template = Array("/tmp/cleave-capi.XXXXXX".utf8CString)
        let folder = String(cString: try #require(mkdtemp(&template)))
        self.folder = folder
        let callbacks = log.callbacks(level: CLEAVE_LOG_WARNING)
        let context = try made { handle in
            var callbacks = callbacks
            return cleave_context_create(&callbacks, handle)
        }
        self.context = context
        var config = VhostRecorder.config(socket: socket, recorder)
        vhost = try made { handle in
            "\(folder)/socket".withCString { path in
                if socket < 0 { config.path = path }
                change(&config)
                return cleave_vhost_create(context, &config, handle)
            }
        }
    }

    deinit {
        end()
        rmdir(folder)
    }

    /// Ends it; a second time does nothing.
    @discardableResult
    func end() -> Int32 {
        let result = cleave_vhost_destroy(vhost)
        cleave_context_destroy(context)
        return result
    }

    var status: cleave_vhost_status {
        var status = cleave_vhost_status()
        status.struct_size = UInt32(MemoryLayout<cleave_vhost_status>.size)
        // Refused while the other thread is in a poll.
        while cleave_vhost_get_status(vhost, &status) == -EBUSY { usleep(50) }
        return status
    }

    var described: String {
        var text = [CChar](repeating: 0, count: 1024)
        while cleave_vhost_describe(vhost, &text, text.count) == -EBUSY { usleep(50) }
        return String(
            decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    /// Whether the descriptor to wait at becomes readable.
    func isReady(milliseconds: Int32 = 0) -> Bool {
        var wait = pollfd(fd: cleave_vhost_get_fd(vhost), events: Int16(POLLIN), revents: 0)
        return Glibc.poll(&wait, 1, milliseconds) > 0
    }

    /// Polls, and runs `work` after each, on a thread of its own while `body` runs.
    func served(
        _ work: @escaping @Sendable (VhostRecorder) -> Void = { $0.echo() },
        _ body: () throws -> Void
    ) throws {
        let thread = try PinnedThread(name: "vhost", cpu: nil) { [self] in
            while !stopped.load(ordering: .acquiring) {
                let result = cleave_vhost_poll(vhost)
                if result < 0 && result != -ESHUTDOWN && result != -EBUSY {
                    Issue.record("poll: \(result)")
                }
                work(recorder)
                usleep(100)
            }
        }
        defer {
            stopped.store(true, ordering: .releasing)
            thread.join()
            stopped.store(false, ordering: .relaxed)
        }
        try body()
    }
}

/// A guest in this process that comes over a socket, with drivers for some queue pairs.
final class VhostGuest {
    let receivers: [RxDriver]
    let senders: [TxDriver]
    private(set) var front: FrontendSession?
    let space: GuestSpace
    private let ring: RingFormat
    /// For kicks and calls of each ring; errors of all.
    private let kicks: [Event]
    private let calls: [Event]
    let error: Event
    /// Feature bits that it wants beside those of its queues.
    var otherFeatures: UInt64 = 0

    /// A descriptor in an object, for arrays.
    final class Event {
        let event: EventDescriptor
        init() throws { event = try EventDescriptor() }
        var fileDescriptor: Int32 { event.fileDescriptor }
    }

    init(_ ring: RingFormat = .split, pairs: Int = 1, features: VirtioFeatures = []) throws {
        self.ring = ring
        space = try GuestSpace(byteCount: pairs * (2 << 20), pages: .small, shared: true)
        receivers = try (0..<pairs).map { [space] _ in
            try RxDriver(
                RxDriverConfiguration(
                    ringSize: 64, ring: ring, shape: .mergeable(bufferByteCount: 2048),
                    method: .whole, features: features), in: space)
        }
        senders = try (0..<pairs).map { [space] _ in
            try TxDriver(
                TxDriverConfiguration(ringSize: 64, ring: ring, features: features), in: space)
        }
        kicks = try (0..<2 * pairs).map { _ in try Event() }
        calls = try (0..<2 * pairs).map { _ in try Event() }
        error = try Event()
    }

    /// Connects to whoever listens at `path`.
    func connect(_ path: String, bases: [UInt16]? = nil) throws {
        let end = SystemClock.monotonic + 20_000_000_000
        var socket = cleave_unix_connect(path)
        while socket < 0 && SystemClock.monotonic < end {
            usleep(2000)
            socket = cleave_unix_connect(path)
        }
        try #require(socket >= 0, "\(path): \(socket)")
        try connect(socket: socket, bases: bases)
    }

    /// Begins a session over a connection.
    /// - Parameter bases: where rings go on; nil for fresh ones.
    func connect(socket: Int32, bases: [UInt16]? = nil) throws {
        let front = FrontendSession(descriptor: socket)
        self.front = front
        let features = receivers[0].configuration.allFeatures
            .union(senders[0].configuration.allFeatures)
        try front.handshake(
            wanting: features.rawValue | otherFeatures | 1 << 32 | (ring == .packed ? 1 << 34 : 0))
        try sendMemory()
        for index in 0..<2 * receivers.count {
            try start(index, base: bases?[index])
        }
        for driver in receivers { driver.refill() }
    }

    /// Tells the back end of the memory, at first or once more while the rings run.
    func sendMemory() throws {
        try #require(front).setMemory([
            SharedRegion(
                guestAddress: GuestSpace.guestBase, byteCount: space.arena.byteCount,
                fileDescriptor: try #require(space.arena.fileDescriptor))
        ])
    }

    func start(_ index: Int, base: UInt16? = nil) throws {
        var virtqueue =
            index % 2 == 0 ? receivers[index / 2].virtqueue : senders[index / 2].virtqueue
        if let base { virtqueue.base = base }
        let front = try #require(front)
        try front.setRing(
            index, virtqueue, kick: kicks[index].fileDescriptor,
            call: calls[index].fileDescriptor, error: error.fileDescriptor)
        try front.setEnabled(index, true)
    }

    func stop(_ index: Int) throws -> UInt16 { try #require(front).stopRing(index, ring) }

    /// Stops all rings, and leaves.
    /// - Returns: where they go on.
    func leave() throws -> [UInt16] {
        let bases = try (0..<2 * receivers.count).map(stop)
        front = nil
        return bases
    }

    /// Goes without a word.
    func vanish() { front = nil }

    @discardableResult
    func send(_ frames: [[UInt8]], on pair: Int = 0) -> Int {
        _ = senders[pair].reap()
        var taken = 0
        for frame in frames {
            let result = frame.withUnsafeBytes { bytes -> (taken: Int, wantsKick: Bool) in
                guard let base = bytes.baseAddress else { return (0, false) }
                var one = OutgoingFrame(
                    base, byteCount: bytes.count, offloads: NetHeader(numBuffers: 0))
                return senders[pair].send(&one, count: 1)
            }
            if result.taken == 0 { break }
            taken += 1
            if result.wantsKick { kicks[2 * pair + 1].event.signal() }
        }
        return taken
    }

    /// What has arrived on a pair.
    func receive(on pair: Int = 0) -> [[UInt8]] {
        var packets: [[UInt8]] = []
        let driver = receivers[pair]
        while driver.harvest() > 0 {
            for packet in driver.packets {
                let first = Int(packet.firstPiece)
                packets.append(
                    driver.pieces[first..<first + Int(packet.pieceCount)].flatMap {
                        Array(UnsafeRawBufferPointer(start: $0.pointer, count: Int($0.byteCount)))
                    })
            }
            driver.finish()
            driver.refill()
        }
        return packets
    }

    /// What arrives until there are `count` packets or a time is over that only a fault needs.
    func receive(atLeast count: Int, on pair: Int = 0) -> [[UInt8]] {
        var packets = receive(on: pair)
        let end = SystemClock.monotonic + 20_000_000_000
        while packets.count < count && SystemClock.monotonic < end {
            usleep(200)
            packets += receive(on: pair)
        }
        return packets
    }

    /// How many mappings and descriptors of this process are of the guest's memory file, its own
    /// left out.
    var foreignUse: Int {
        guard let own = space.arena.fileDescriptor, let file = FileIdentity(own) else { return -1 }
        return file.openCount + file.mappingCount - 2
    }
}
