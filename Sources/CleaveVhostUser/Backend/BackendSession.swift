// The back-end's end of a connection: it answers the front-end's requests and tells the device
// which rings it may use. Every change of what a running ring is made from stops the ring and
// starts it again where it was.

import CCleaveHost
import CleaveHost
import CleaveVirtioNet

/// One connection of a front-end. Everything here is for one thread, never waits, and does a
/// bounded amount of work per call.
///
/// Call `service` when `fileDescriptor` is readable and when `deadline` has passed. When it returns
/// `.closed`, rings are stopped and memory is given back; only the object is left.
public final class BackendSession {
    /// What is left of the connection.
    public enum Outcome: Equatable, Sendable {
        case open
        /// It has ended, for this reason: a clause for the log.
        case closed(reason: String)
    }

    /// Requests handled in one call of `service`; the socket stays readable if there are more.
    static let requestsPerService = 64
    /// Unknown requests in a row after which the two ends are taken for strangers.
    static let unknownLimit = 3
    /// Most rings that requests with descriptors can name.
    static let ringLimit = 256

    /// For poll; -1 once the session is closed.
    public var fileDescriptor: Int32 { connection?.fileDescriptor ?? -1 }
    /// When to call `service` even if nothing arrives, by CLOCK_MONOTONIC in nanoseconds; nil while
    /// nothing is awaited.
    public var deadline: UInt64? {
        guard let own = connection?.deadline else { return backendChannel?.deadline }
        return min(own, backendChannel?.deadline ?? own)
    }
    /// What happened, by name: `messages` that were complete, and refusals and closures by their
    /// reason.
    public private(set) var counters: [String: UInt64] = [:]
    /// All names that `counters` may have, in order. A refusal and a closure of the same name are
    /// of the same fault.
    package static let counterNames: [String] = Set(
        Event.allCases.map(\.rawValue) + Refusal.allCases.map(\.rawValue)
            + Closure.allCases.map(\.rawValue)
    ).sorted()

    /// What is counted beside refusals and closures.
    private enum Event: String, CaseIterable {
        /// Messages that were complete.
        case messages
        /// Rings that the device gave up, since their driver broke them.
        case broken
        /// Connections for requests of this end that were given up, since nobody read them.
        case channel
    }
    /// Requests that were refused, for whatever reason.
    package private(set) var refusedCount: UInt64 = 0

    /// Usually the session's owner, and so not kept alive by it.
    weak var device: (any BackendDevice)?
    /// What it offers, for the life of the connection.
    let offeredFeatures: UInt64
    var connection: Connection?
    /// The connection for requests of this end.
    var backendChannel: Connection?
    let clock: () -> UInt64
    private var closedFor: Closure?
    private var unknownInARow = 0

    var rings: [Vring]
    var table: MemoryTable?
    /// Whose memory it is, however often the table changes.
    let guest = Guest()
    /// Without bit 30; nil until SET_FEATURES.
    var features: UInt64?
    /// Bit 30 was negotiated: rings are disabled until they are enabled.
    var hasProtocolFeatures = false
    var protocolFeatures: ProtocolFeatures = []
    var hasOwner = false
    /// Pages that are written are logged, once there is a log.
    var logsAll = false
    var log: LogMemory?
    /// Notified when pages were logged.
    var logDescriptor: NotificationDescriptor?
    var inFlight: InFlightRegion?
    var status: UInt8 = 0

    /// - Parameters:
    ///   - descriptor: a connected stream socket, which the session owns from now on.
    ///   - device: what is served; not kept alive by the session, which has no rings to tell about
    ///     without it.
    public convenience init(descriptor: Int32, device: any BackendDevice) {
        self.init(descriptor: descriptor, device: device, clock: { SystemClock.monotonic })
    }

    init(descriptor: Int32, device: any BackendDevice, clock: @escaping () -> UInt64) {
        self.device = device
        self.clock = clock
        connection = Connection(descriptor, clock: clock)
        offeredFeatures = device.offeredFeatures
        var count = 2 * max(1, device.queuePairLimit)
        for bit in [FeatureBit.controlQueue, FeatureBit.headerQueue]
        where offeredFeatures & bit != 0 {
            count += 1
        }
        count = min(count, Self.ringLimit)
        rings = Array(repeating: Vring(), count: count)
    }

    deinit { close() }

    // MARK: the connection

    /// Reads and answers what is there, and looks at the clock.
    public func service() -> Outcome {
        for _ in 0..<Self.requestsPerService {
            guard let connection, device?.takesRequests ?? true else { break }
            switch connection.receive() {
            case .message(let message):
                count(Event.messages)
                handle(message)
                continue
            case .none: break
            case .closed(let closure): end(closure)
            }
            break
        }
        if let closure = connection?.flush() { end(closure) }
        if let closure = connection?.overdue { end(closure) }
        // A channel that is not read any more is given up, not the device.
        if backendChannel?.flush() != nil || backendChannel?.overdue != nil {
            count(Event.channel)
            backendChannel = nil
        }
        let isLost =
            table?.mappings.isLost == true || log?.mapping.isLost == true
            || inFlight?.mapping.isLost == true
        if isLost { end(.memoryFault) }
        return outcome
    }

    private var outcome: Outcome {
        guard connection == nil else { return .open }
        return .closed(reason: (closedFor ?? .ended).reason)
    }

    /// Stops all rings and frees everything; a second call does nothing. Not for use inside the
    /// functions of the device, which the session is then still in.
    public func close() {
        guard connection != nil else { return }
        for index in rings.indices { stop(index) }
        _ = device?.stopHeaderQueue()
        connection = nil
        backendChannel = nil
        table = nil
        (log, logDescriptor, inFlight) = (nil, nil, nil)
        for index in rings.indices { rings[index] = Vring() }
    }

    func end(_ closure: Closure) {
        guard connection != nil, closedFor == nil else { return }
        closedFor = closure
        count(closure)
        close()
    }

    func count<Name: RawRepresentable<String>>(_ name: Name) {
        counters[name.rawValue, default: 0] += 1
    }

    private func handle(_ message: Message) {
        let isUnknown: Bool
        do throws(RequestError) {
            try checkFlags(message)
            let answer = try answer(message)
            isUnknown = false
            reply(to: message, answer)
        } catch {
            switch error {
            case .closing(let closure):
                end(closure)
                return
            case .refused(let refusal):
                count(refusal)
                refusedCount += 1
                isUnknown = refusal == .unknown
                refuse(message, refusal)
            }
        }
        unknownInARow = isUnknown ? unknownInARow + 1 : 0
        if unknownInARow == Self.unknownLimit { end(.unknown) }
    }

    private func checkFlags(_ message: Message) throws(RequestError) {
        let known = MessageFlags.versionMask | MessageFlags.needReply
        guard message.flags & MessageFlags.versionMask == MessageFlags.version,
            message.flags & ~known == 0
        else { throw .refused(.flags) }
    }

    /// Checks the form of a request and carries it out.
    /// - Returns: nil if it has no answer of its own.
    private func answer(_ message: Message) throws(RequestError) -> Answer? {
        guard let request = request(message.request) else {
            let isKnown = (1...FrontendRequest.highestKnown).contains(message.request)
            throw .refused(isKnown ? .feature : .unknown)
        }
        let shape = request.shape
        if !protocolFeatures.isSuperset(of: shape.feature) { throw .refused(.feature) }
        if !shape.payload.contains(message.payload.count) { throw .refused(.size) }
        if !shape.descriptors.contains(message.descriptors.count) { throw .refused(.fds) }
        return try perform(request, message)
    }

    /// Requests of this project's own are known where they are offered, and nowhere else.
    private func request(_ number: UInt32) -> FrontendRequest? {
        guard let request = FrontendRequest(rawValue: number),
            number <= FrontendRequest.highestKnown
                || offeredProtocolFeatures.isSuperset(of: request.shape.feature)
        else { return nil }
        return request
    }

    private func reply(to message: Message, _ answer: Answer?) {
        if let answer {
            send(message.request, answer.payload, answer.descriptors)
        } else if message.needsReply && protocolFeatures.contains(.acknowledgement) {
            send(message.request, PayloadWriter.number(0))
        }
    }

    /// Tells the front-end that nothing was done. A request with an answer of its own gets an empty
    /// one, because a number would pass for a value, and nothing would be waited for.
    private func refuse(_ message: Message, _ refusal: Refusal) {
        let hasAnswer =
            request(message.request)?.shape.hasAnswer
            ?? FrontendRequest.unservedWithAnswer.contains(message.request)
        let isAcknowledged =
            message.needsReply && protocolFeatures.contains(.acknowledgement)
        if refusal.isFatal && !isAcknowledged {
            // The refusal itself is counted; the closure of the same name is not counted again.
            closedFor = refusal == .size ? .size : .flags
            close()
        } else if hasAnswer {
            send(message.request, [])
        } else if isAcknowledged {
            send(message.request, PayloadWriter.number(1))
        }
    }

    private func send(
        _ request: UInt32, _ payload: [UInt8], _ descriptors: [ReceivedDescriptor] = []
    ) {
        let flags = MessageFlags.version | MessageFlags.reply
        let message = Message(
            request: request, flags: flags, payload: payload, descriptors: descriptors)
        if let closure = connection?.send(message) { end(closure) }
    }

    // MARK: what the owner tells

    /// The ring's queue has met a lie and is not used any more: tells the front-end so, once. The
    /// device has it until it is stopped.
    public func reportBroken(ring: Int) {
        guard rings.indices.contains(ring), !rings[ring].isBroken else { return }
        rings[ring].isBroken = true
        count(Event.broken)
        _ = rings[ring].error?.sender.send()
    }

    /// Tells the driver to read the device configuration again, if it can be told.
    public func announceConfigurationChange() {
        guard let backendChannel, protocolFeatures.contains(.configuration) else { return }
        // One that waits says the same as two.
        if backendChannel.hasUnsent { return }
        if backendChannel.send(Message(request: BackendRequest.configurationChange)) != nil {
            self.backendChannel = nil
        }
    }

    /// Takes over the connection for requests of this end.
    func openBackendChannel(_ descriptor: ReceivedDescriptor) throws(RequestError) {
        if cleave_socket_check(descriptor.fileDescriptor) < 0 { throw .refused(.fdType) }
        let own = cleave_descriptor_duplicate(descriptor.fileDescriptor)
        if own < 0 { throw .refused(.nomem) }
        backendChannel = Connection(own, clock: clock)
    }

    // MARK: rings

    var format: RingFormat { (features ?? 0) & FeatureBit.packedRing == 0 ? .split : .packed }
    /// What may be agreed on beyond the device's features.
    var offeredProtocolFeatures: ProtocolFeatures {
        let hasHeaderQueue = offeredFeatures & FeatureBit.headerQueue != 0
        return hasHeaderQueue ? .offered.union(.headerQueue) : .offered
    }
    var isAnyRunning: Bool { rings.contains { $0.isRunning } }

    private func isEligible(_ index: Int) -> Bool {
        let ring = rings[index]
        guard features != nil, ring.isStarted, !ring.isBroken, ring.size > 0, ring.address != nil
        else { return false }
        return ring.enable ?? !hasProtocolFeatures
    }

    /// Takes a ring away from the device, and remembers where it is resumed.
    func stop(_ index: Int) {
        guard rings[index].isRunning else { return }
        rings[index].isRunning = false
        guard let position = device?.stop(ring: index) else { return }
        rings[index].base = Vring.base(at: position, format)
        rings[index].isBaseOurs = true
    }

    /// Gives the device a ring if everything is there that it needs.
    func startIfReady(_ index: Int) {
        do throws(StartFailure) { try start(index) } catch { noteFailure(index, error) }
    }

    /// Why a ring does not start.
    enum StartFailure: Error {
        /// What stands in the guest's memory contradicts itself.
        case guest(SetupError)
        case device(SetupError)
    }

    func noteFailure(_ index: Int, _ failure: StartFailure) {
        switch failure {
        case .guest(let error), .device(let error): lastRingError = "ring \(index): \(error)"
        }
        reportBroken(ring: index)
    }

    func start(_ index: Int) throws(StartFailure) {
        guard connection != nil, !rings[index].isRunning, isEligible(index) else { return }
        // Before there is any memory the ring waits for it.
        guard let table, let device else { return }
        let ring = rings[index]
        var virtqueue: VirtqueueAddresses
        let record: InFlightRecord?
        do throws(SetupError) {
            virtqueue = try ring.virtqueue(
                format, base: ring.resumePosition(format), in: table)
            record = try inFlight?.record(ofRing: index, &virtqueue, in: table.memory)
        } catch { throw .guest(error) }
        var setup = VringSetup(
            virtqueue: virtqueue, features: features ?? 0, memory: table.memory,
            mappings: mappings(of: table),
            callDescriptor: ring.call?.fileDescriptor ?? -1,
            kickDescriptor: ring.kick?.fileDescriptor ?? -1)
        setup.observation = QueueObservation(log: dirtyLog(of: ring), record: record)
        do throws(SetupError) { try device.start(ring: index, setup) } catch {
            throw .device(error)
        }
        rings[index].isRunning = true
    }

    /// Why a ring could not be started, last.
    public private(set) var lastRingError: String?

    /// Stops a ring, if it runs, while something of it changes.
    func change(_ index: Int, _ body: (inout Vring) -> Void) {
        if !rings[index].isRunning {
            body(&rings[index])
            return startIfReady(index)
        }
        changing {
            stop(index)
            body(&rings[index])
            startIfReady(index)
        }
    }

    /// Replaces the memory: all rings stop, and those start again that are whole.
    func replaceMemory(_ new: MemoryTable?) {
        changing {
            for index in rings.indices { stop(index) }
            table = new
            device?.memoryChanged(new?.shared)
            for index in rings.indices { startIfReady(index) }
        }
    }

    func changing(_ body: () -> Void) {
        if let device { device.change(body) } else { body() }
    }

    /// The device as it was when the connection began, but for what belongs to the connection.
    func resetDevice() {
        for index in rings.indices {
            stop(index)
            rings[index].reset()
            forgetInFlight(index)
        }
        // After its RQs, which would go on for some packets without its report.
        _ = device?.stopHeaderQueue()
        status = 0
        features = nil
        logsAll = false
        hasProtocolFeatures = false
        device?.negotiated(features: 0)
    }

    /// Feature bits that the driver agreed to, without bit 30; nil until it has.
    public var negotiatedFeatures: UInt64? { features }

    /// One line for logs.
    public var describedState: String {
        let running = rings.indices.filter { rings[$0].isRunning }
        let broken = rings.indices.filter { rings[$0].isBroken }
        func list(_ indices: [Int]) -> String {
            indices.isEmpty ? "none" : indices.map(String.init).joined(separator: " ")
        }
        let agreed = features.map { "0x" + String($0, radix: 16) } ?? "not agreed"
        return "features \(agreed), protocol features 0x"
            + String(protocolFeatures.rawValue, radix: 16)
            + ", memory regions \(table?.descriptions.count ?? 0), rings \(rings.count): running "
            + "\(list(running)), broken \(list(broken))"
    }
}
