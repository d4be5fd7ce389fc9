// What serves one vhost-user socket for a program in C: a listener or a connection, the session
// with the front end that is there, and the queues that the session has started.
//
// Everything happens inside `poll` and `close`, on their caller's thread. Queues are objects with
// handles of their own. Whoever uses one holds its cell; so it ends only when nobody is in a call
// on it, whatever the program does.

import CCleave
import CleaveHost
import CleaveRings
import CleaveVhostUser
import CleaveVirtioNet
import Glibc

/// A network device at a vhost-user socket.
final class VhostObject: HandleObject, @unchecked Sendable {
    // SAFETY: the call that holds the handle's cell uses it, callbacks that it makes included; the
    // wait descriptor is constant.

    private let context: ContextObject
    private let plan: VhostPlan
    /// How many lines its guests may cause, its queues' included.
    let logLimit: LogLimit
    private let endpoint: SocketEndpoint
    private let waitSet: WaitSet
    private var session: BackendSession?
    /// Ended for good.
    private var isClosed = false

    /// What the wait set watches, each while it is there.
    private var listenerWatch: WaitSet.Watch?
    private var sessionWatch: WaitSet.Watch?
    private var controlWatch: WaitSet.Watch?

    private var rings: [Int: Ring] = [:]
    /// Queues that could not be taken from the program yet.
    private var leftovers: [OpaquePointer: (Int, Ring)] = [:]
    private var control: ServedControlQueue?
    /// Its number while it is in use.
    private var controlRing: Int?
    private var activePairs: Int
    /// Pairs that the driver asked for last.
    private var pairsAskedFor: Int?
    /// The program was told to keep off the queues.
    private var toldHold = false
    /// A queue could not be taken from the program: the connection is of no use any more.
    private var mustDisconnect = false
    private var faultsReported: Set<Int> = []
    private var nextCheck: UInt64 = 0
    private var features: UInt64 = 0
    private var counters = cleave_vhost_status()
    /// Counts of sessions that are over, by name.
    private var earlier: [String: UInt64] = [:]
    private var refusedCommands: UInt64 = 0

    /// How often rings are checked for faults, in nanoseconds.
    private static let checkNanoseconds: UInt64 = 100_000_000
    /// Connections taken in one call; more are there the next time.
    private static let connectionsPerPoll = 16
    /// How long a queue is waited for that the program is in a call on, in nanoseconds.
    private static let queuePatience: UInt64 = 1_000_000_000

    /// A queue that was handed to the program.
    private struct Ring {
        let role: NetOffer.RingRole
        let handle: OpaquePointer
        let object: QueueObject
        /// Where it began.
        let base: UInt16
        let kick: Int32
        let features: UInt64
    }

    init(_ context: ContextObject, _ plan: VhostPlan) throws(Refusal) {
        self.context = context
        self.plan = plan
        logLimit = LogLimit(plan.name)
        activePairs = plan.offer.queuePairs
        do throws(HostError) { waitSet = try WaitSet() } catch { throw Refusal(error) }
        endpoint = try plan.open()
        super.init(parents: [context])
        try watchListener()
        waitSet.deadline = endpoint.deadline
        context.log(.info, "\(plan.name): created")
    }

    override class var type: HandleType? { .vhost }

    /// Readable when `poll` has something to do.
    var waitDescriptor: Int32 { waitSet.fileDescriptor }

    // MARK: Life

    /// - Returns: 1 while a front end is connected, else 0.
    func poll() throws(Refusal) -> Int32 {
        guard !isClosed else { throw Refusal(Refusal.stopped, "the device was ended") }
        endLeftovers()
        // The session first: who comes now may be its front end, back after it has gone.
        serveSession()
        for _ in 0..<Self.connectionsPerPoll {
            guard let socket = endpoint.accept(isBusy: session != nil) else { break }
            connect(socket)
        }
        release()
        waitSet.deadline = deadline
        if session == nil && endpoint.isEnded {
            throw Refusal(Refusal.stopped, "the connection of socket_fd is over")
        }
        try watchListener()
        return session == nil ? 0 : 1
    }

    /// Ends everything but the object.
    func close() {
        endLeftovers()
        if isClosed { return }
        isClosed = true
        disconnect(because: nil)
        release()
        listenerWatch = nil
        waitSet.deadline = nil
        endpoint.close()
        context.log(.info, "\(plan.name): ended")
    }

    private func log(_ level: ContextObject.Level, _ line: @autoclosure () -> String) {
        context.log(level, limit: logLimit, "\(plan.name): \(line())")
    }

    private func endLeftovers() {
        for (handle, (index, ring)) in leftovers where end(ring, index) != nil {
            leftovers[handle] = nil
        }
    }

    private var deadline: UInt64? {
        let own = endpoint.deadline
        guard let session else { return own }
        if control?.mayHaveMore ?? false { return 0 }
        // While rings are in use they are looked at now and then.
        let check = rings.isEmpty ? .max : nextCheck
        let next = min(own ?? .max, session.deadline ?? .max, check)
        return next == .max ? nil : next
    }

    /// A listener that has met a shortage of descriptors is left alone for a while.
    private func watchListener() throws(Refusal) {
        guard let descriptor = endpoint.descriptors.first else {
            listenerWatch = nil
            return
        }
        if listenerWatch == nil { listenerWatch = try watch(descriptor) }
    }

    private func watch(_ descriptor: Int32) throws(Refusal) -> WaitSet.Watch {
        do throws(HostError) { return try waitSet.watch(descriptor) } catch { throw Refusal(error) }
    }

    private func connect(_ socket: Int32) {
        guard session == nil else {
            Glibc.close(socket)
            counters.refused_connections += 1
            log(.warning, "refused a second front end while one is connected")
            return
        }
        let session = BackendSession(descriptor: socket, device: self)
        do throws(Refusal) { sessionWatch = try watch(socket) } catch {
            // Closes the socket: the front end comes again, or learns that nobody serves it.
            log(.error, "front end refused: \(error.text)")
            counters.refused_connections += 1
            return
        }
        self.session = session
        counters.connects += 1
        faultsReported = []
        nextCheck = 0
        log(.info, "front end connected")
        tell(CLEAVE_VHOST_CONNECTED)
        serveSession()
    }

    private func serveSession() {
        guard let session else { return }
        if case .closed(let reason) = session.service() { return disconnect(because: reason) }
        serveControl()
        checkRings()
        if mustDisconnect { disconnect(because: "a queue is still in use by the program") }
    }

    private func disconnect(because reason: String?) {
        guard let session else { return }
        // Stops the rings, which calls back.
        session.close()
        self.session = nil
        pairsAskedFor = nil
        sessionWatch = nil
        mustDisconnect = false
        features = 0
        for (name, count) in session.counters { earlier[name, default: 0] += count }
        counters.refused_messages += session.refusedCount
        counters.disconnects += 1
        if let reason { log(.info, "disconnected: \(reason)") }
        tell(CLEAVE_VHOST_DISCONNECTED)
        endpoint.disconnected()
    }

    /// Looks for rings that their driver broke, and for memory that is gone: `service` sees that.
    private func checkRings() {
        let now = SystemClock.monotonic
        if now < nextCheck { return }
        nextCheck = now + Self.checkNanoseconds
        for (index, ring) in rings { report(ring.object.fault, ofRing: index) }
        if let control, let controlRing { report(control.fault, ofRing: controlRing) }
    }

    private func report(_ fault: QueueFault, ofRing ring: Int) {
        guard fault != .none, faultsReported.insert(ring).inserted else { return }
        counters.broken_queues += 1
        session?.reportBroken(ring: ring)
    }

    // MARK: Events

    private func tell(
        _ kind: cleave_vhost_event_kind, _ change: (inout cleave_vhost_event) -> Void = { _ in }
    ) {
        var event = cleave_vhost_event()
        event.struct_size = UInt32(MemoryLayout<cleave_vhost_event>.size)
        event.kind = kind.rawValue
        event.kick_fd = -1
        event.features = features
        change(&event)
        plan.event(plan.user, &event)
    }

    private func tell(_ kind: cleave_vhost_event_kind, _ ring: Ring) {
        hold()
        tell(kind) {
            $0.kick_fd = ring.kick
            $0.features = ring.features
            switch ring.role {
            case .receive(let pair): ($0.pair, $0.rq) = (UInt32(pair), ring.handle)
            case .transmit(let pair): ($0.pair, $0.txq) = (UInt32(pair), ring.handle)
            case .control, .headerQueue: break
            }
        }
    }

    /// Told at the first change of a call alone, since most requests change nothing.
    private func hold() {
        if toldHold { return }
        toldHold = true
        tell(CLEAVE_VHOST_HOLD)
    }

    private func release() {
        if !toldHold { return }
        toldHold = false
        tell(CLEAVE_VHOST_RELEASE)
    }

    private func use(pairs count: Int) {
        if count == activePairs { return }
        activePairs = count
        hold()
        tell(CLEAVE_VHOST_PAIRS) { $0.value = UInt32(count) }
    }

    // MARK: Control queue

    private func serveControl() {
        guard let control else { return }
        let refused = control.serve { count in
            pairsAskedFor = count
            use(pairs: count)
            return true
        }
        refusedCommands += UInt64(refused)
    }

    private func startControl(_ index: Int, _ setup: VringSetup) throws(Refusal) {
        let queue: ServedControlQueue
        do throws(SetupError) {
            queue = try ServedControlQueue(setup, queuePairs: plan.offer.queuePairs)
        } catch { throw Refusal(error) }
        if queue.kickDescriptor >= 0 { controlWatch = try watch(queue.kickDescriptor) }
        control = queue
        controlRing = index
        use(pairs: setup.startingPairs(pairsAskedFor))
    }

    private func stopControl() -> UInt16 {
        let base = control?.base ?? 0
        control = nil
        controlRing = nil
        controlWatch = nil
        use(pairs: plan.offer.queuePairs)
        return base
    }

    // MARK: What is told of it

    var status: cleave_vhost_status {
        var value = counters
        value.connected = session == nil ? 0 : 1
        value.features = features
        value.queues = UInt32(rings.count)
        value.pairs = UInt32(activePairs)
        value.messages = counts["messages", default: 0]
        value.refused_messages += session?.refusedCount ?? 0
        return value
    }

    /// By name: of all sessions.
    private var counts: [String: UInt64] {
        var sum = earlier
        if let session { sum.merge(session.counters, uniquingKeysWith: +) }
        return sum
    }

    var description: String {
        var counts = counts
        counts["connects"] = counters.connects
        counts["disconnects"] = counters.disconnects
        counts["refusedConnections"] = counters.refused_connections
        counts["refusedCommands"] = refusedCommands
        counts["brokenQueues"] = counters.broken_queues
        counts["logLinesLeftOut"] = logLimit.leftOut
        let list = counts.filter { $0.value > 0 }.sorted { $0.key < $1.key }
            .map { "\($0.key) \($0.value)" }.joined(separator: ", ")
        let state = session?.describedState ?? "no front end"
        return "\(state); counts: \(list.isEmpty ? "none" : list)"
    }
}

// MARK: The session's device

extension VhostObject: BackendDevice {
    var offeredFeatures: UInt64 { plan.offer.features }
    var queuePairLimit: Int { plan.offer.queuePairs }
    var configuration: NetConfiguration { plan.offer.configuration }

    func start(ring index: Int, _ setup: VringSetup) throws(SetupError) {
        faultsReported.remove(index)
        do throws(Refusal) {
            try FeatureWord.check(setup.features, high: 0, iovaIsGuestPhysical: false)
            let ring: Ring
            switch plan.offer.role(ofRing: index, features: setup.features) {
            case .receive(let pair): ring = try makeReceiveQueue(setup, pair)
            case .transmit(let pair): ring = try makeTransmitQueue(setup, pair)
            case .control: return try startControl(index, setup)
            case .headerQueue, nil: throw .invalid("no queue has that number")
            }
            rings[index] = ring
            nextCheck = 0
            tell(CLEAVE_VHOST_QUEUE_STARTED, ring)
        } catch {
            counters.broken_queues += 1
            log(.error, "ring \(index) cannot be started: \(error.text)")
            throw SetupError(error.text)
        }
    }

    private func makeReceiveQueue(
        _ setup: VringSetup, _ pair: Int
    ) throws(Refusal) -> Ring {
        var configuration = RxQueueConfiguration(
            virtqueue: setup.virtqueue,
            features: VirtioFeatures(rawValue: setup.features).intersection(.receive),
            memory: setup.memory, method: .whole, burst: plan.burst, shortage: plan.shortage,
            callDescriptor: setup.callDescriptor)
        configuration.observation = setup.observation
        let object = try ReceiveQueueObject(
            context, ReceiveQueuePlan(configuration, node: plan.node), parents: [self],
            mappings: setup.mappings)
        return try handOut(object, setup, .receive(pair: pair), kick: -1)
    }

    private func makeTransmitQueue(
        _ setup: VringSetup, _ pair: Int
    ) throws(Refusal) -> Ring {
        var configuration = TxQueueConfiguration(
            virtqueue: setup.virtqueue,
            features: VirtioFeatures(rawValue: setup.features).intersection(.transmit),
            memory: setup.memory, callDescriptor: setup.callDescriptor)
        configuration.observation = setup.observation
        let kick: NotificationDescriptor?
        do throws(SetupError) { kick = try setup.kick() } catch { throw Refusal(error) }
        let object = try TransmitQueueObject(
            context, configuration, node: plan.node, parents: [self], mappings: setup.mappings,
            kick: kick)
        return try handOut(
            object, setup, .transmit(pair: pair), kick: kick?.fileDescriptor ?? -1)
    }

    private func handOut(
        _ object: QueueObject, _ setup: VringSetup, _ role: NetOffer.RingRole, kick: Int32
    ) throws(Refusal) -> Ring {
        Ring(
            role: role, handle: try HandleTable.insert(object), object: object,
            base: setup.virtqueue.base, kick: kick, features: setup.features)
    }

    func stop(ring index: Int) -> UInt16 {
        if index == controlRing { return stopControl() }
        guard let ring = rings.removeValue(forKey: index) else { return 0 }
        tell(CLEAVE_VHOST_QUEUE_STOPPING, ring)
        var deadline = Deadline(nanoseconds: Self.queuePatience)
        repeat {
            if let base = end(ring, index) { return base }
        } while deadline.wait()
        log(.error, "ring \(index) is stopped while the program is in a call on its queue")
        // Nobody knows where the ring is, so the front end is not told anything any more.
        mustDisconnect = true
        leftovers[ring.handle] = (index, ring)
        return ring.base
    }

    /// Ends a queue: nobody is in a call on it any more, and later calls are refused.
    /// - Returns: where it is resumed; nil if the program does not leave it.
    private func end(_ ring: Ring, _ index: Int) -> UInt16? {
        ring.object is ReceiveQueueObject
            ? end(ring, as: ReceiveQueueObject.self, index)
            : end(ring, as: TransmitQueueObject.self, index)
    }

    private func end<Queue: QueueObject>(
        _ ring: Ring, as _: Queue.Type, _ index: Int
    ) -> UInt16? {
        var base: UInt16 = 0
        var result = destroy(
            ring.handle, as: Queue.self,
            check: { object throws(Refusal) in try object.checkNothingIsOut() },
            finally: { base = $0.position })
        if result == 0 { return base }
        result = exclusive(ring.handle, as: Queue.self) { object throws(Refusal) in
            base = object.abandon()
            return 0
        }
        if result < 0 { return nil }
        log(
            .error,
            "packets of ring \(index) were out when it stopped: they were given "
                + "back, and the queue is left until it is destroyed")
        return base
    }

    func negotiated(features: UInt64) {
        self.features = features
        log(.info, "features 0x\(String(features, radix: 16))")
    }

    func setMTU(_ mtu: Int) { tell(CLEAVE_VHOST_MTU) { $0.value = UInt32(mtu) } }

    func announce(mac: [UInt8]) {
        tell(CLEAVE_VHOST_ANNOUNCE) { event in
            withUnsafeMutableBytes(of: &event.mac) { $0.copyBytes(from: mac.prefix(6)) }
        }
    }

    func writeConfiguration(offset: Int, _ bytes: [UInt8]) -> Bool { false }
}
