// A guest's network card: the port that a VMM, or a driver in user space, connects to over a
// vhost-user socket.

import CleaveHost
import CleaveVhostUser
import CleaveVirtioNet
import Glibc

/// What a vhost-user port is made from.
public struct VhostUserPortConfiguration: Sendable, Equatable {
    /// Who listens.
    public enum Mode: String, Sendable, CaseIterable {
        /// The port does, and the guest's VMM connects.
        case server
        /// The VMM does, and the port connects, again and again until it is there.
        case client
    }

    public var name: String
    /// Path of the socket, at most 107 bytes.
    public var path: String
    public var mode = Mode.server
    /// Queue pairs offered, 1 to 128.
    public var queuePairs = 1
    /// The guest's address, where the driver does not get one from its VMM; nil: it picks one.
    public var mac: [UInt8]?
    /// Offered to the driver, 68 to 65535; nil: nothing is said.
    public var mtu: Int?
    /// Feature bits that are not offered.
    public var featuresOff: UInt64 = 0
    /// NUMA node of the queues' memory; nil for any.
    public var node: Int?
    /// Where headers go: `whole`, to where the payload goes, or `d`, to a header queue, which
    /// the driver has to ask for. The other methods change what precedes a packet in its buffer,
    /// and no feature says that a driver knows of that: a port cannot have them.
    public var splitMethod = RxMethod.Kind.whole
    /// Only packets of more bytes than this are split, up to
    /// `SplitPolicy.maximumThreshold`; 0: all. The meaning of
    /// `hds-thresh` in Linux's ethtool.
    public var splitThreshold = 0
    /// Most slots that a driver may ask for in its header queue, and the most bytes of each: powers
    /// of two. How many they are is the driver's choice, since they lie in its memory.
    public var slotCountLimit = HeaderQueueLayout.maximumSlotCount
    public var slotSizeLimit = HeaderQueueLayout.slotSizes.upperBound

    /// A driver that knows how may have its packets' headers apart: VIRTIO_NET_F_HEADER_QUEUE, an
    /// experimental feature (bit 58), and the control queue that belongs to it. Split method `d`.
    public var headerQueue: Bool {
        get { splitMethod == .d }
        set { splitMethod = newValue ? .d : .whole }
    }

    public init(name: String, path: String) {
        self.name = name
        self.path = path
    }

    func check() throws(SetupError) {
        guard !path.isEmpty, path.utf8.count <= 107 else {
            throw SetupError(
                "port \(name): socket path of \(path.utf8.count) bytes: need 1 to 107")
        }
        do throws(SetupError) { try offer.check() } catch {
            throw SetupError("port \(name): ", error)
        }
        do throws(SetupError) { try checkSplit() } catch {
            throw SetupError("port \(name): ", error)
        }
        if let node {
            do { try NUMATopology.current().validate(node: node) } catch {
                throw SetupError("port \(name): ", error)
            }
        }
    }

    private func checkSplit() throws(SetupError) {
        guard splitMethod == .whole || splitMethod == .d else {
            throw SetupError(
                "split method \(splitMethod.rawValue): no driver can ask for it; need whole or d")
        }
        guard (0...SplitPolicy.maximumThreshold).contains(splitThreshold) else {
            throw SetupError(
                "split threshold \(splitThreshold): need 0 to \(SplitPolicy.maximumThreshold)")
        }
        if splitThreshold > 0 && splitMethod == .whole {
            throw SetupError("split threshold \(splitThreshold): split method whole splits nothing")
        }
        let (counts, sizes) = (1...HeaderQueueLayout.maximumSlotCount, HeaderQueueLayout.slotSizes)
        guard counts.contains(slotCountLimit), slotCountLimit & (slotCountLimit - 1) == 0 else {
            throw SetupError(
                "at most \(slotCountLimit) slots: need a power of two, 1 to \(counts.upperBound)")
        }
        guard sizes.contains(slotSizeLimit), slotSizeLimit & (slotSizeLimit - 1) == 0 else {
            throw SetupError(
                "slots of at most \(slotSizeLimit) bytes: need a power of two, "
                    + "\(sizes.lowerBound) to \(sizes.upperBound)")
        }
        if splitMethod != .d
            && (slotCountLimit, slotSizeLimit) != (counts.upperBound, sizes.upperBound)
        {
            throw SetupError("only split method d has slots, and so limits for them")
        }
    }

    /// What the guest is offered: all that the queues can do, less what is switched off.
    var offer: NetOffer {
        var offer = NetOffer()
        offer.queuePairs = queuePairs
        offer.mac = mac
        offer.mtu = mtu
        offer.featuresOff = featuresOff
        offer.headerQueue = headerQueue
        return offer
    }
}

/// A port whose far side is a guest.
public final class VhostUserPort: Port {
    public let settings: VhostUserPortConfiguration
    public var name: String { settings.name }
    public var type: PortType { .vhostUser }
    public var queues: [any PortQueue] { pairs }

    let pairs: [VhostUserQueue]
    let endpoint: SocketEndpoint
    var session: BackendSession?
    private weak var host: (any PortHost)?
    private var events: [PortEvent: UInt64] = [:]
    private var refusals: [String: UInt64] = [:]
    /// The memory that the queues use; nil while none is started.
    var mappings: MappedMemory?
    private var faultsReported: Set<Int> = []
    var control: ServedControlQueue?
    /// Pairs that the driver asked for last.
    var pairsAskedFor: Int?
    let guestHeaderQueue: GuestHeaderQueue
    /// Another process may take the port over: nothing is read from its sockets until that is
    /// known.
    var isResting = false
    /// The file of the socket that another process listened at is not its own.
    var isOfAnother = false
    /// What was in use when the rings stopped for another process.
    var suspended = GuestHeaderQueue.Suspended()
    /// What the rings are that are in use.
    private var roles: [Int: NetOffer.RingRole] = [:]
    private var nextCheck: UInt64 = 0
    /// Holds that are not over, one inside the other.
    private var holdDepth = 0
    var holdBudget = HoldBudget()
    /// Where the ports of the host note what their requests have cost.
    private var holdShares = HoldShares()
    private let logLimit: LogLimit

    /// How often rings are checked for faults, in nanoseconds.
    private static let checkNanoseconds: UInt64 = 100_000_000

    public init(_ settings: VhostUserPortConfiguration) throws(SetupError) {
        try settings.check()
        self.settings = settings
        pairs = (0..<settings.queuePairs).map { _ in VhostUserQueue() }
        for pair in pairs {
            pair.mtu = settings.mtu
            pair.splitThreshold = settings.splitThreshold
        }
        logLimit = LogLimit("port \(settings.name)")
        endpoint = SocketEndpoint(
            path: settings.path, owner: "port \(settings.name)", listens: settings.mode == .server)
        guestHeaderQueue = GuestHeaderQueue(pairs, node: settings.node)
        guestHeaderQueue.slotCountLimit = settings.slotCountLimit
        guestHeaderQueue.slotSizeLimit = settings.slotSizeLimit
        connectHeaderQueue()
    }

    /// A port over a socket that is connected already; it ends with that.
    public init(connected descriptor: Int32, name: String) throws(SetupError) {
        settings = VhostUserPortConfiguration(name: name, path: "")
        pairs = [VhostUserQueue()]
        logLimit = LogLimit("port \(name)")
        endpoint = try SocketEndpoint(connected: descriptor)
        guestHeaderQueue = GuestHeaderQueue(pairs, node: nil)
        connectHeaderQueue()
    }

    private func connectHeaderQueue() {
        guestHeaderQueue.hold = { [unowned self] in hold($0) }
        guestHeaderQueue.log = { [unowned self] in log($0) }
        guestHeaderQueue.lost = { [unowned self] in breakRing(2 * $0) }
    }

    // MARK: Life

    /// The port will listen at a socket that somebody else has made and keeps, such as the service
    /// manager, rather than make one at its path. The descriptor is the port's from now on.
    /// Before `open`.
    /// - Throws: if it is no listening unix stream socket, or lies elsewhere than at the path.
    package func listen(at descriptor: Int32) throws(SetupError) {
        guard settings.mode == .server else {
            throw SetupError(
                "port \(name) does not listen (mode=client), and was given a socket to listen at")
        }
        do throws(SetupError) { try endpoint.listen(at: descriptor) } catch {
            throw SetupError("port \(name): ", error)
        }
    }

    public func open(for host: any PortHost) throws(SetupError) {
        self.host = host
        holdShares = host.holdShares
        do throws(SetupError) { try endpoint.open() } catch {
            throw SetupError("port \(name): ", error)
        }
    }

    public func close() {
        disconnect(because: nil)
        endpoint.close()
        host = nil
    }

    /// Says a line to the operator, unless the guest has caused too many. The port's name is added.
    private func log(_ entry: LogEntry) {
        guard let leftOut = logLimit.admit() else { return }
        if leftOut > 0 { logLeftOut(leftOut) }
        var entry = entry
        entry.port = name
        // [limited]
        host?.log(entry)
    }

    private func logLeftOut(_ count: UInt64) {
        // [limited] Itself one of the lines that may come.
        host?.log(LogEntry(LogLimit.phrase(count), level: .warning, port: name))
    }

    public var controlDescriptors: [Int32] {
        if isResting || isWaiting { return [] }
        var descriptors = endpoint.descriptors
        if let session { descriptors.append(session.fileDescriptor) }
        if let kick = control?.kickDescriptor, kick >= 0 { descriptors.append(kick) }
        if guestHeaderQueue.kickDescriptor >= 0 {
            descriptors.append(guestHeaderQueue.kickDescriptor)
        }
        return descriptors
    }

    public var controlDeadline: UInt64? {
        if isResting { return nil }
        if isWaiting { return ready }
        if control?.mayHaveMore ?? false { return 0 }
        var deadline = endpoint.deadline
        if let session {
            deadline = min(deadline ?? .max, session.deadline ?? .max, nextCheck)
        }
        return deadline
    }

    /// Whether requests have held traffic up for so long that further ones wait.
    private var isWaiting: Bool { SystemClock.monotonic < ready }

    /// When further requests may be served.
    private var ready: UInt64 {
        holdBudget.ready(sharers: holdShares.count(at: SystemClock.monotonic))
    }

    public func service() {
        if let count = logLimit.tell() { logLeftOut(count) }
        if isResting || isWaiting { return }
        // The session first: who comes now may be its front-end, back after it has gone.
        serveSession()
        while !isWaiting, let socket = endpoint.accept(isBusy: session != nil) {
            guard session == nil else {
                Glibc.close(socket)
                events[.refusedConnections, default: 0] += 1
                log(
                    LogEntry(
                        "refused a second front-end while one is connected", level: .warning))
                continue
            }
            events[.connects, default: 0] += 1
            faultsReported = []
            // What an earlier front-end said of its MTU was for its driver.
            if pairs.contains(where: { $0.mtu != settings.mtu }) {
                hold { for pair in pairs { pair.mtu = settings.mtu } }
            }
            session = BackendSession(descriptor: socket, device: self)
            log("front-end connected")
            serveSession()
        }
    }

    private func serveSession() {
        guard let session else { return }
        if case .closed(let reason) = session.service() { return disconnect(because: reason) }
        if isWaiting { return }
        serveControl()
        guestHeaderQueue.serve()
        let now = SystemClock.monotonic
        if now >= nextCheck {
            nextCheck = now + Self.checkNanoseconds
            checkRings()
        }
    }

    public var isConnected: Bool { session != nil }

    /// A port over one connection whose connection is over.
    public var isEnded: Bool { session == nil && endpoint.isEnded }

    /// Ends the session, if there is one.
    private func disconnect(because reason: String?) {
        guard let session else { return }
        // Stops the rings, which calls back.
        hold {
            session.close()
            self.session = nil
        }
        for (name, count) in session.counters { refusals[name, default: 0] += count }
        mappings = nil
        pairsAskedFor = nil
        events[.disconnects, default: 0] += 1
        if let reason { log(LogEntry("disconnected", reason: reason)) }
        endpoint.disconnected()
    }

    /// Looks for rings that their driver broke, and for memory that is gone.
    private func checkRings() {
        if mappings?.isLost ?? false {
            events[.memoryLost, default: 0] += 1
            return disconnect(because: "its memory file was truncated")
        }
        reportFaults()
        guestHeaderQueue.check()
    }

    /// Tells the front-end of rings that their driver broke.
    func reportFaults() {
        for (pair, queue) in pairs.enumerated() {
            report(queue.rxFault, ofRing: 2 * pair)
            report(queue.txFault, ofRing: 2 * pair + 1)
        }
        for (ring, role) in roles {
            switch role {
            case .control: report(control?.fault ?? .none, ofRing: ring)
            case .headerQueue: report(guestHeaderQueue.fault, ofRing: ring)
            case .receive, .transmit: break
            }
        }
    }

    private func report(_ fault: QueueFault, ofRing ring: Int) {
        guard fault != .none, faultsReported.insert(ring).inserted else { return }
        log(
            LogEntry(
                "ring \(ring) is broken by its driver", level: .warning, reason: fault.name))
        breakRing(ring)
    }

    private func breakRing(_ ring: Int) {
        events[.brokenRings, default: 0] += 1
        session?.reportBroken(ring: ring)
    }

    // MARK: Control queue

    private func startControl(_ setup: VringSetup) throws(SetupError) {
        control = try ServedControlQueue(setup, queuePairs: settings.queuePairs)
        use(pairs: setup.startingPairs(pairsAskedFor))
    }

    private func stopControl() -> UInt16 {
        defer {
            control = nil
            use(pairs: settings.queuePairs)
        }
        return control?.base ?? 0
    }

    /// Carries out what the driver has asked for.
    private func serveControl() {
        guard let control else { return }
        let refused = control.serve { count in
            events[.queuePairCommands, default: 0] += 1
            pairsAskedFor = count
            // A driver may change its mind with each command of a full ring: what one change has
            // held up is settled before the next.
            return !use(pairs: count)
        }
        if refused > 0 { events[.refusedCommands, default: 0] += UInt64(refused) }
    }

    /// Packets go to the first `count` pairs only.
    /// - Returns: whether traffic was held up for it.
    @discardableResult
    func use(pairs count: Int) -> Bool {
        // A driver that asks for what it has, however often, stops no traffic.
        let wanted = pairs.indices.map { $0 < count }
        if pairs.map(\.isWanted) == wanted { return false }
        hold { for (index, pair) in pairs.enumerated() { pair.isWanted = index < count } }
        return true
    }

    func hold(_ body: () -> Void) {
        guard let host else { return body() }
        if holdDepth > 0 {
            host.whileHeld(by: self, body)
            return
        }
        holdDepth = 1
        let start = host.whileHeld(by: self, body)
        holdDepth = 0
        let end = SystemClock.monotonic
        let sharers = holdShares.count(at: end, with: self)
        holdBudget.spend(from: start, to: end, sharers: sharers)
        holdShares.note(self, until: holdBudget.settled(sharers: sharers))
        if isWaiting { events[.requestsHeldBack, default: 0] += 1 }
    }

    // MARK: Counters

    public var ownCounters: PortCounters {
        var sum = PortCounters()
        sum.events = events.merging(guestHeaderQueue.events, uniquingKeysWith: +)
        if logLimit.leftOut > 0 { sum.events[.logLinesLeftOut] = logLimit.leftOut }
        let duplicates = guestHeaderQueue.duplicateCount
        if duplicates > 0 { sum.events[.duplicateSlots] = duplicates }
        sum.headerQueueRefusals = guestHeaderQueue.refusals
        sum.claimedSlots = guestHeaderQueue.claimedCount
        sum.vhostUser = refusals
        if let session { sum.vhostUser.merge(session.counters, uniquingKeysWith: +) }
        return sum
    }

    public var headerQueue: HeaderQueueState? { guestHeaderQueue.state }
    public var negotiatedFeatures: UInt64? { session?.negotiatedFeatures }

    /// What a driver that is connected has negotiated, for logs; nil if none is.
    public var describedState: String? { session?.describedState }
}

extension VhostUserPort: BackendDevice {
    public var offeredFeatures: UInt64 { settings.offer.features }
    public var queuePairLimit: Int { settings.queuePairs }

    public var configuration: NetConfiguration {
        settings.offer.configuration
    }

    public func change(_ body: () -> Void) { hold(body) }
    public var takesRequests: Bool { !isWaiting }

    public func start(ring: Int, _ setup: VringSetup) throws(SetupError) {
        var failure: SetupError?
        faultsReported.remove(ring)
        hold {
            do throws(SetupError) {
                guard let role = settings.offer.role(ofRing: ring, features: setup.features) else {
                    throw SetupError("no queue has that number")
                }
                try start(role, setup)
                roles[ring] = role
                mappings = setup.mappings
            } catch { failure = error }
        }
        if let failure {
            log(
                LogEntry(
                    "ring \(ring) cannot be started", level: .warning, reason: "\(failure)"))
            throw failure
        }
    }

    private func start(_ role: NetOffer.RingRole, _ setup: VringSetup) throws(SetupError) {
        switch role {
        case .receive(let pair):
            try pairs[pair].startReceiving(
                setup, node: settings.node, relinks: settings.headerQueue)
        case .transmit(let pair): try pairs[pair].startSending(setup, node: settings.node)
        case .control: try startControl(setup)
        case .headerQueue: try guestHeaderQueue.start(setup)
        }
    }

    public func stop(ring: Int) -> UInt16 {
        guard let role = roles.removeValue(forKey: ring) else { return 0 }
        var base: UInt16 = 0
        hold {
            switch role {
            case .receive(let pair): base = pairs[pair].stopReceiving()
            case .transmit(let pair): base = pairs[pair].stopSending()
            case .control: base = stopControl()
            case .headerQueue: base = guestHeaderQueue.stop()
            }
        }
        return base
    }

    public func memoryChanged(_ memory: SharedGuestMemory?) {
        guestHeaderQueue.memoryChanged(memory)
    }

    public func setHeaderQueue(
        _ request: HeaderQueueRequest, _ memory: SharedGuestMemory
    ) throws(HeaderQueueRefusal) {
        try guestHeaderQueue.setUp(request, memory, from: .message)
    }

    public func resetHeaderQueue() -> Bool { guestHeaderQueue.reset() }
    public func stopHeaderQueue() -> Bool { guestHeaderQueue.end(.message) }

    public func negotiated(features: UInt64) {
        log("features 0x\(String(features, radix: 16))")
    }

    /// The front-end gives its driver another MTU than the one that was offered.
    public func setMTU(_ mtu: Int) {
        events[.mtuMessages, default: 0] += 1
        if pairs.allSatisfy({ $0.mtu == mtu }) { return }
        hold { for pair in pairs { pair.mtu = mtu } }
    }

    public func announce(mac: [UInt8]) {
        events[.announces, default: 0] += 1
        hold { pairs[0].announce(mac: mac) }
    }

    public func writeConfiguration(offset: Int, _ bytes: [UInt8]) -> Bool { false }
}
