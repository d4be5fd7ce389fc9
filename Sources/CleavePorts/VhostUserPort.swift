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
        guard (1...128).contains(queuePairs) else {
            throw SetupError("port \(name): \(queuePairs) queue pairs: need 1 to 128")
        }
        if headerQueue && queuePairs == 128 {
            throw SetupError(
                "port \(name): 128 queue pairs and a header queue: need 1 to 127, since messages "
                    + "name 256 rings")
        }
        if let mtu, !(68...65535).contains(mtu) {
            throw SetupError("port \(name): MTU \(mtu): need 68 to 65535")
        }
        if let node {
            do { try NUMATopology.current().validate(node: node) } catch {
                throw SetupError("port \(name): ", error)
            }
        }
        if let mac, mac.count != 6 || mac[0] & 1 != 0 || mac.allSatisfy({ $0 == 0 }) {
            throw SetupError("port \(name): the MAC is not the address of one station")
        }
    }

    /// What is offered: all that the queues can do, less what is switched off.
    var offeredFeatures: UInt64 {
        let queues: VirtioFeatures = VirtioFeatures.receive.union(.transmit)
            .subtracting(.hashReport)
        var bits = queues.rawValue
        bits |= 1 << 16  // STATUS
        bits |= 1 << 32  // VERSION_1
        bits |= 1 << 34  // RING_PACKED
        bits |= 1 << 40  // RING_RESET
        if mtu != nil { bits |= 1 << 3 }
        if mac != nil { bits |= 1 << 5 }
        // MQ, and the control queue by which a driver says how many pairs it uses. QEMU serves that
        // itself; User-Mode Linux leaves it to the back-end. Messages name 256 rings, so behind
        // 128 pairs there is no number left for it.
        if queuePairs > 1 { bits |= 1 << 22 }
        if (queuePairs > 1 || headerQueue) && queuePairs < 128 { bits |= 1 << 17 }
        bits &= ~featuresOff
        // With VERSION_1, MRG_RXBUF and the control queue, behind which its set-up ring is.
        let needed: UInt64 = 1 << 15 | 1 << 17 | 1 << 32
        if headerQueue && bits & needed == needed { bits |= 1 << 58 & ~featuresOff }
        return bits
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
    private var control: ControlEndpoint?
    private let headerQueue: GuestHeaderQueue
    /// What the rings are that are in use.
    private var roles: [Int: RingRole] = [:]
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
        if let kick = control?.kick { descriptors.append(kick.fileDescriptor) }
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
            case .control: report(control?.queue.fault ?? .none, ofRing: ring)
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

    // MARK: Rings

    /// What a ring is for.
    private enum RingRole: Equatable {
        case receive(pair: Int)
        case transmit(pair: Int)
        case control
        /// By which a driver sets its header queue up.
        case headerQueue
    }

    /// What a ring is for by its number; nil for one that is none.
    ///
    /// The control queue is after the pairs of which the driver knows, and those are one without
    /// MQ. A front-end may keep the control queue to itself, with its feature (DPDK's virtio-user
    /// does) and still tell of the ring after all pairs.
    private func role(of ring: Int, features: UInt64) -> RingRole? {
        let hasControl = features & 1 << 17 != 0
        let knowsPairs = features & 1 << 22 != 0 || !hasControl
        let first = 2 * (knowsPairs ? settings.queuePairs : 1)
        if ring == first { return .control }
        if ring == first + 1 {
            return features & 1 << 58 != 0 && hasControl ? .headerQueue : nil
        }
        if ring > first { return nil }
        return ring % 2 == 0 ? .receive(pair: ring / 2) : .transmit(pair: ring / 2)
    }

    // MARK: Control queue

    /// A control queue that a driver uses, and what it needs to live.
    private struct ControlEndpoint {
        let queue: ControlQueue
        let kick: NotificationDescriptor?
        let mappings: MappedMemory
    }

    private func startControl(_ setup: VringSetup) throws(SetupError) {
        var configuration = ControlQueueConfiguration(
            virtqueue: setup.virtqueue,
            features: VirtioFeatures(rawValue: setup.features).intersection(.ring),
            memory: setup.memory, callDescriptor: setup.callDescriptor)
        configuration.observation = setup.observation
        let queue = try ControlQueue(configuration)
        var kick: NotificationDescriptor?
        if setup.kickDescriptor >= 0 {
            do {
                kick = try NotificationDescriptor(duplicating: setup.kickDescriptor, for: .kick)
            } catch { throw SetupError("", error) }
        }
        control = ControlEndpoint(queue: queue, kick: kick, mappings: setup.mappings)
        // A driver has one pair until it asks for more (virtio 1.4, "Automatic receive steering in
        // multiqueue mode").
        use(pairs: 1)
    }

    private func stopControl() -> UInt16 {
        defer {
            control = nil
            use(pairs: settings.queuePairs)
        }
        return control?.queue.base ?? 0
    }

    /// Carries out what the driver has asked for.
    private func serveControl() {
        guard let control else { return }
        // virtio-user serves a control queue of its own, which it tells of and never kicks.
        guard control.kick?.drain() ?? true else { return }
        _ = control.queue.poll { kind, command, data in
            switch ControlCommand(class: kind, command: command, data: data) {
            case .setQueuePairs(let count) where count <= self.settings.queuePairs:
                self.use(pairs: count)
                self.events["queuePairCommands", default: 0] += 1
                return ControlAnswer.ok
            case .acknowledgeAnnouncement: return ControlAnswer.ok
            default:
                self.events["refusedCommands", default: 0] += 1
                return ControlAnswer.error
            }
        }
    }

    /// Packets go to the first `count` pairs only.
    private func use(pairs count: Int) {
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
    public var offeredFeatures: UInt64 { settings.offeredFeatures }
    public var queuePairLimit: Int { settings.queuePairs }

    public var configuration: NetConfiguration {
        NetConfiguration(
            mac: settings.mac ?? [0, 0, 0, 0, 0, 0], linkUp: true,
            maxQueuePairs: settings.queuePairs, mtu: settings.mtu)
    }

    public func change(_ body: () -> Void) { hold(body) }

    public func start(ring: Int, _ setup: VringSetup) throws(SetupError) {
        var failure: SetupError?
        faultsReported.remove(ring)
        hold {
            do throws(SetupError) {
                guard let role = role(of: ring, features: setup.features) else {
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

    private func start(_ role: RingRole, _ setup: VringSetup) throws(SetupError) {
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
