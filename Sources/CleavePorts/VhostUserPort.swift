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
    /// A driver that knows how may have its packets' headers apart: VIRTIO_NET_F_HEADER_QUEUE, an
    /// experimental feature (bit 58), and the control queue that belongs to it.
    public var headerQueue = false

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
        if let node {
            do { try NUMATopology.current().validate(node: node) } catch {
                throw SetupError("port \(name): ", error)
            }
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
    public var queues: [any PortQueue] { pairs }

    private let pairs: [VhostUserQueue]
    private let endpoint: SocketEndpoint
    private var session: BackendSession?
    private weak var host: (any PortHost)?
    private var events: [String: UInt64] = [:]
    private var refusals: [String: UInt64] = [:]
    /// The memory that the queues use; nil while none is started.
    private var mappings: MappedMemory?
    private var faultsReported: Set<Int> = []
    private var control: ServedControlQueue?
    /// Pairs that the driver asked for last.
    private var pairsAskedFor: Int?
    private let headerQueue: GuestHeaderQueue
    /// What the rings are that are in use.
    private var roles: [Int: NetOffer.RingRole] = [:]
    private var nextCheck: UInt64 = 0

    /// How often rings are checked for faults, in nanoseconds.
    private static let checkNanoseconds: UInt64 = 100_000_000

    public init(_ settings: VhostUserPortConfiguration) throws(SetupError) {
        try settings.check()
        self.settings = settings
        pairs = (0..<settings.queuePairs).map { _ in VhostUserQueue() }
        for pair in pairs { pair.mtu = settings.mtu }
        endpoint = SocketEndpoint(path: settings.path, listens: settings.mode == .server)
        headerQueue = GuestHeaderQueue(pairs, node: settings.node)
        connectHeaderQueue()
    }

    /// A port over a socket that is connected already; it ends with that.
    public init(connected descriptor: Int32, name: String) throws(SetupError) {
        settings = VhostUserPortConfiguration(name: name, path: "")
        pairs = [VhostUserQueue()]
        endpoint = try SocketEndpoint(connected: descriptor)
        headerQueue = GuestHeaderQueue(pairs, node: nil)
        connectHeaderQueue()
    }

    private func connectHeaderQueue() {
        headerQueue.hold = { [unowned self] in hold($0) }
        headerQueue.log = { [unowned self] in host?.log("port \(name): \($0)") }
        headerQueue.lost = { [unowned self] in breakRing(2 * $0) }
    }

    // MARK: Life

    public func open(for host: any PortHost) throws(SetupError) {
        self.host = host
        do throws(SetupError) { try endpoint.open() } catch {
            throw SetupError("port \(name): ", error)
        }
    }

    public func close() {
        disconnect(because: nil)
        endpoint.close()
        host = nil
    }

    public var controlDescriptors: [Int32] {
        var descriptors = endpoint.descriptors
        if let session { descriptors.append(session.fileDescriptor) }
        if let kick = control?.kickDescriptor, kick >= 0 { descriptors.append(kick) }
        if headerQueue.kickDescriptor >= 0 { descriptors.append(headerQueue.kickDescriptor) }
        return descriptors
    }

    public var controlDeadline: UInt64? {
        var deadline = endpoint.deadline
        if let session {
            deadline = min(deadline ?? .max, session.deadline ?? .max, nextCheck)
        }
        return deadline
    }

    public func service() {
        // The session first: who comes now may be its front-end, back after it has gone.
        serveSession()
        while let socket = endpoint.accept(isBusy: session != nil) {
            guard session == nil else {
                Glibc.close(socket)
                events["refusedConnections", default: 0] += 1
                host?.log("port \(name): refused a second front-end while one is connected")
                continue
            }
            events["connects", default: 0] += 1
            faultsReported = []
            // What an earlier front-end said of its MTU was for its driver.
            for pair in pairs where pair.mtu != settings.mtu {
                hold { pair.mtu = settings.mtu }
            }
            session = BackendSession(descriptor: socket, device: self)
            host?.log("port \(name): front-end connected")
            serveSession()
        }
    }

    private func serveSession() {
        guard let session else { return }
        if case .closed(let reason) = session.service() { return disconnect(because: reason) }
        serveControl()
        headerQueue.serve()
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
        events["disconnects", default: 0] += 1
        if let reason { host?.log("port \(name): disconnected: \(reason)") }
        endpoint.disconnected()
    }

    /// Looks for rings that their driver broke, and for memory that is gone.
    private func checkRings() {
        if mappings?.isLost ?? false {
            events["memoryLost", default: 0] += 1
            return disconnect(because: "its memory file was truncated")
        }
        for (pair, queue) in pairs.enumerated() {
            report(queue.rxFault, ofRing: 2 * pair)
            report(queue.txFault, ofRing: 2 * pair + 1)
        }
        for (ring, role) in roles {
            switch role {
            case .control: report(control?.fault ?? .none, ofRing: ring)
            case .headerQueue: report(headerQueue.fault, ofRing: ring)
            case .receive, .transmit: break
            }
        }
        headerQueue.check()
    }

    private func report(_ fault: QueueFault, ofRing ring: Int) {
        guard fault != .none, faultsReported.insert(ring).inserted else { return }
        host?.log("port \(name): ring \(ring) is broken by its driver: \(fault.name)")
        breakRing(ring)
    }

    private func breakRing(_ ring: Int) {
        events["brokenRings", default: 0] += 1
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
        guard let served = control?.serve() else { return }
        if served.refused > 0 { events["refusedCommands", default: 0] += UInt64(served.refused) }
        guard let count = served.queuePairs else { return }
        events["queuePairCommands", default: 0] += 1
        pairsAskedFor = count
        use(pairs: count)
    }

    /// Packets go to the first `count` pairs only.
    private func use(pairs count: Int) {
        // A driver that asks for what it has, however often, stops no traffic.
        let wanted = pairs.indices.map { $0 < count }
        if pairs.map(\.isWanted) == wanted { return }
        hold { for (index, pair) in pairs.enumerated() { pair.isWanted = index < count } }
    }

    private func hold(_ body: () -> Void) {
        guard let host else { return body() }
        host.whileHeld(by: self, body)
    }

    // MARK: Counters

    public var counters: PortCounters {
        var sum = PortCounters()
        for queue in pairs { queue.add(to: &sum) }
        sum.events.merge(events, uniquingKeysWith: +)
        sum.events.merge(headerQueue.events, uniquingKeysWith: +)
        if headerQueue.duplicateCount > 0 {
            sum.events["duplicateSlots"] = headerQueue.duplicateCount
        }
        var refused = refusals
        if let session { refused.merge(session.counters, uniquingKeysWith: +) }
        for (name, count) in refused where count > 0 { sum.events["vhostUser." + name] = count }
        return sum
    }

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
            host?.log("port \(name): ring \(ring) cannot be started: \(failure)")
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
        case .headerQueue: try headerQueue.start(setup)
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
            case .headerQueue: base = headerQueue.stop()
            }
        }
        return base
    }

    public func memoryChanged(_ memory: SharedGuestMemory?) { headerQueue.memoryChanged(memory) }

    public func setHeaderQueue(
        _ request: HeaderQueueRequest, _ memory: SharedGuestMemory
    ) throws(HeaderQueueRefusal) {
        try headerQueue.setUp(request, memory, from: .message)
    }

    public func resetHeaderQueue() -> Bool { headerQueue.reset() }
    public func stopHeaderQueue() -> Bool { headerQueue.end(.message) }

    public func negotiated(features: UInt64) {
        host?.log("port \(name): features 0x\(String(features, radix: 16))")
    }

    /// The front-end gives its driver another MTU than the one that was offered.
    public func setMTU(_ mtu: Int) {
        events["mtuMessages", default: 0] += 1
        hold { for pair in pairs { pair.mtu = mtu } }
    }

    public func announce(mac: [UInt8]) {
        events["announces", default: 0] += 1
        hold { pairs[0].announce(mac: mac) }
    }

    public func writeConfiguration(offset: Int, _ bytes: [UInt8]) -> Bool { false }
}
