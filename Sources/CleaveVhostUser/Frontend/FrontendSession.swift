// The front-end's end of a connection: what a driver in this process needs to have its rings served
// by a device in another one. It knows no driver: regions and rings are told as addresses.

import CCleaveHost
import CleaveHost
import CleaveVirtioNet

/// A piece of memory to share with a back-end.
public struct SharedRegion: Sendable {
    public var guestAddress: GuestAddress
    public var byteCount: Int
    /// The file that it is in; stays the caller's, who may close it once it was sent.
    public var fileDescriptor: Int32
    /// Where it begins in the file.
    public var fileOffset: Int
    /// The name of its first byte in the addresses in which rings are told: any number, as long as
    /// regions do not overlap in them.
    public var userAddress: UInt64

    /// - Parameter userAddress: nil for the guest address.
    public init(
        guestAddress: GuestAddress, byteCount: Int, fileDescriptor: Int32, fileOffset: Int = 0,
        userAddress: UInt64? = nil
    ) {
        self.guestAddress = guestAddress
        self.byteCount = byteCount
        self.fileDescriptor = fileDescriptor
        self.fileOffset = fileOffset
        self.userAddress = userAddress ?? guestAddress.rawValue
    }

    var description: RegionDescription {
        RegionDescription(
            guestAddress: guestAddress.rawValue, size: UInt64(max(0, byteCount)),
            userAddress: userAddress, fileOffset: UInt64(max(0, fileOffset)))
    }
}

/// A driver's connection to a back-end. One thread at a time. Each call waits until the back-end
/// has done what is asked, a bounded time.
///
/// A session whose call has thrown because the back-end did not answer is of no use any more.
public final class FrontendSession {
    /// Features that the back-end offers, without bits 26 and 30; known after `handshake`.
    public private(set) var offeredFeatures: UInt64 = 0
    /// Those that were agreed on, without bits 26 and 30.
    public private(set) var features: UInt64 = 0
    /// Protocol features that were agreed on.
    public private(set) var protocolFeatures: ProtocolFeatures = []
    /// Queue pairs that the back-end has; 1 if it does not say.
    public private(set) var queuePairLimit = 1

    private let connection: Connection
    private let timeout: UInt64
    private var regions: [SharedRegion] = []
    private var hasProtocolFeatures = false
    private var isLogging = false

    /// Protocol features that a session makes use of.
    public static let usedProtocolFeatures: ProtocolFeatures = [
        .queueCount, .logMemory, .acknowledgement, .mtu, .configuration, .inFlight, .deviceReset,
        .memorySlots, .status, .headerQueue,
    ]

    /// - Parameters:
    ///   - descriptor: a connected stream socket, which the session owns from now on.
    ///   - timeout: nanoseconds that the back-end may take for a request.
    public init(descriptor: Int32, timeout: UInt64 = 5_000_000_000) {
        connection = Connection(descriptor)
        self.timeout = timeout
    }

    /// For poll: it becomes readable when the back-end goes.
    public var fileDescriptor: Int32 { connection.fileDescriptor }

    // MARK: the device

    /// Begins: becomes the owner, and settles features and protocol features.
    /// - Parameters:
    ///   - wanted: features that the driver can use; those that are offered, too, are agreed on.
    ///   - protocolFeatures: as above.
    public func handshake(
        wanting wanted: UInt64,
        protocolFeatures wantedProtocol: ProtocolFeatures = usedProtocolFeatures
    ) throws(SetupError) {
        try request(.setOwner)
        let offered = try number(.getFeatures)
        hasProtocolFeatures = offered & FeatureBit.protocolFeatures != 0
        offeredFeatures = offered & ~FeatureBit.ofConnection
        if hasProtocolFeatures {
            let known = ProtocolFeatures(rawValue: try number(.getProtocolFeatures))
            let agreed = known.intersection(wantedProtocol)
            try request(.setProtocolFeatures, PayloadWriter.number(agreed.rawValue))
            protocolFeatures = agreed
        }
        if protocolFeatures.contains(.queueCount) {
            queuePairLimit = Int(truncatingIfNeeded: min(try number(.getQueueNum), 32768))
        }
        features = offeredFeatures & wanted
        try tellFeatures()
    }

    private func tellFeatures() throws(SetupError) {
        let told =
            features | (hasProtocolFeatures ? FeatureBit.protocolFeatures : 0)
            | (isLogging ? FeatureBit.logAll : 0)
        try request(.setFeatures, PayloadWriter.number(told))
    }

    /// The first `byteCount` bytes of the device configuration space.
    public func configuration(byteCount: Int) throws(SetupError) -> [UInt8] {
        guard (1...ConfigurationAccess.maximumByteCount).contains(byteCount) else {
            throw SetupError("\(byteCount) bytes of configuration: need 1 to 256")
        }
        let zeros = [UInt8](repeating: 0, count: byteCount)
        let payload = ConfigurationAccess(offset: 0, bytes: zeros).payload
        let answer = try answer(.getConfiguration, payload)
        guard answer.count == payload.count else {
            throw SetupError("the back-end does not tell its configuration")
        }
        return ConfigurationAccess(answer).bytes
    }

    /// Writes to the device configuration space.
    public func setConfiguration(offset: Int, _ bytes: [UInt8]) throws(SetupError) {
        try request(
            .setConfiguration, ConfigurationAccess(offset: offset, bytes: bytes).payload)
    }

    public func setMTU(_ mtu: Int) throws(SetupError) {
        try request(.setMTU, PayloadWriter.number(UInt64(max(0, mtu))))
    }

    /// Tells the device status; 0 resets the device.
    public func setStatus(_ status: UInt8) throws(SetupError) {
        try request(.setStatus, PayloadWriter.number(UInt64(status)))
    }

    /// The device status as the back-end sees it.
    public func status() throws(SetupError) -> UInt8 {
        UInt8(truncatingIfNeeded: try number(.getStatus))
    }

    /// All rings stop, and nothing is agreed on any more but the protocol features.
    public func reset() throws(SetupError) { try request(.resetDevice) }

    // MARK: memory

    /// Shares memory in place of what was shared before: up to 8 regions.
    public func setMemory(_ regions: [SharedRegion]) throws(SetupError) {
        guard regions.count <= MemoryTable.messageRegionCount else {
            throw SetupError(
                "\(regions.count) memory regions: one message holds "
                    + "\(MemoryTable.messageRegionCount)")
        }
        var writer = PayloadWriter()
        writer.append(UInt32(regions.count))
        writer.append(UInt32(0))
        for region in regions { region.description.append(to: &writer) }
        try request(
            .setMemoryTable, writer.bytes, descriptors: regions.map(\.fileDescriptor))
        self.regions = regions
    }

    /// Shares one more region.
    public func addMemory(_ region: SharedRegion) throws(SetupError) {
        try request(
            .addMemoryRegion, Self.payload(region), descriptors: [region.fileDescriptor])
        regions.append(region)
    }

    /// Takes a region back that no ring in use lies in.
    public func removeMemory(_ region: SharedRegion) throws(SetupError) {
        try request(.removeMemoryRegion, Self.payload(region))
        regions.removeAll { $0.description == region.description }
    }

    private static func payload(_ region: SharedRegion) -> [UInt8] {
        var writer = PayloadWriter()
        writer.append(UInt64(0))
        region.description.append(to: &writer)
        return writer.bytes
    }

    private func userAddress(of address: GuestAddress) throws(SetupError) -> UInt64 {
        for region in regions {
            let offset = address.rawValue &- region.guestAddress.rawValue
            if offset < UInt64(region.byteCount) { return region.userAddress &+ offset }
        }
        throw SetupError(
            "guest address 0x\(String(address.rawValue, radix: 16)) is in no shared region")
    }

    // MARK: rings

    /// Tells everything of a ring and starts it. It is disabled then, unless protocol features are
    /// missing.
    /// - Parameters:
    ///   - index: queue pair times two; one more for the ring that the device takes packets from.
    ///   - kick: through which the device is kicked; -1 for none, it then polls.
    ///   - call: through which it calls; -1 for none.
    ///   - error: through which it says that the ring is broken; -1 for none.
    public func setRing(
        _ index: Int, _ ring: VirtqueueAddresses, kick: Int32, call: Int32, error: Int32 = -1
    ) throws(SetupError) {
        guard (0...255).contains(index) else { throw SetupError("there is no ring \(index)") }
        let number = UInt32(index)
        try request(
            .setVringNum, VringState(index: number, number: UInt32(clamping: ring.size)).bytes)
        let base = Vring.base(at: ring.base, ring.format)
        try request(.setVringBase, VringState(index: number, number: base).bytes)
        let address = VringAddress(
            index: number, descriptorArea: try userAddress(of: ring.descriptorArea),
            driverArea: try userAddress(of: ring.driverArea),
            deviceArea: try userAddress(of: ring.deviceArea))
        try request(.setVringAddress, address.bytes)
        if error >= 0 { try setDescriptor(.setVringError, index, error) }
        try setDescriptor(.setVringCall, index, call)
        try setDescriptor(.setVringKick, index, kick)
        try barrier()
    }

    private func setDescriptor(
        _ kind: FrontendRequest, _ index: Int, _ descriptor: Int32
    ) throws(SetupError) {
        let number = VringDescriptorNumber(index: index, hasDescriptor: descriptor >= 0)
        try request(
            kind, PayloadWriter.number(number.value),
            descriptors: descriptor >= 0 ? [descriptor] : [])
    }

    /// Lets the device use a ring, or keeps it from doing so: once this returns.
    public func setEnabled(_ index: Int, _ enabled: Bool) throws(SetupError) {
        if !hasProtocolFeatures { return }
        try request(
            .setVringEnable,
            VringState(index: UInt32(truncatingIfNeeded: index), number: enabled ? 1 : 0).bytes)
        try barrier()
    }

    /// Stops a ring: the device does not touch it any more.
    /// - Returns: where it is resumed, in the form of `VirtqueueAddresses.base`.
    public func stopRing(_ index: Int, _ format: RingFormat) throws(SetupError) -> UInt16 {
        let state = VringState(index: UInt32(truncatingIfNeeded: index), number: 0)
        let answer = try answer(.getVringBase, state.bytes)
        guard answer.count == state.bytes.count else {
            throw SetupError("the back-end does not stop ring \(index)")
        }
        var ring = Vring()
        ring.base = VringState(answer).number
        return ring.resumePosition(format) ?? 0
    }

    // MARK: what outlives the back-end, and the log of what it writes

    /// Memory in which a back-end notes what is in flight, for the one after it.
    package final class InFlightMemory {
        fileprivate let descriptor: ReceivedDescriptor
        fileprivate let description: InFlightDescription

        fileprivate init(_ descriptor: ReceivedDescriptor, _ description: InFlightDescription) {
            self.descriptor = descriptor
            self.description = description
        }

        package var fileDescriptor: Int32 { descriptor.fileDescriptor }
    }

    /// Asks the back-end for such memory, for `ringCount` rings of up to `ringSize` descriptors.
    package func makeInFlightMemory(
        ringCount: Int, ringSize: Int
    ) throws(SetupError) -> InFlightMemory {
        let wanted = InFlightDescription(ringCount: ringCount, ringSize: ringSize)
        try send(.getInFlightDescriptor, wanted.bytes(), [], needsReply: false)
        let message = try receiveMessage(.getInFlightDescriptor)
        guard message.payload.count == wanted.bytes().count,
            let descriptor = message.descriptors.first
        else { throw SetupError("the back-end gives no memory for what is in flight") }
        return InFlightMemory(descriptor, InFlightDescription(message.payload))
    }

    /// Gives the memory to a back-end, before its rings are started: the one that it is from, or
    /// one that comes after that.
    package func setInFlightMemory(_ memory: InFlightMemory) throws(SetupError) {
        try request(
            .setInFlightDescriptor, memory.description.bytes(),
            descriptors: [memory.fileDescriptor])
    }

    /// Shares the log of pages that the back-end writes: a bit for each, from guest address 0 on.
    package func setLog(
        fileDescriptor: Int32, byteCount: Int, fileOffset: Int = 0
    ) throws(SetupError) {
        var writer = PayloadWriter()
        writer.append(UInt64(byteCount))
        writer.append(UInt64(fileOffset))
        try send(.setLogBase, writer.bytes, [fileDescriptor], needsReply: false)
        _ = try receive(.setLogBase)
    }

    /// Whether what the back-end writes is logged, at any time; rings are told apart from that.
    package func setLogging(_ isOn: Bool) throws(SetupError) {
        isLogging = isOn
        try tellFeatures()
    }

    /// Whether what the back-end writes to a ring is logged.
    /// - Parameter address: where its device area is logged; nil: it is not.
    package func setRingLog(
        _ index: Int, _ ring: VirtqueueAddresses, at address: GuestAddress?
    ) throws(SetupError) {
        var told = VringAddress(
            index: UInt32(truncatingIfNeeded: index),
            descriptorArea: try userAddress(of: ring.descriptorArea),
            driverArea: try userAddress(of: ring.driverArea),
            deviceArea: try userAddress(of: ring.deviceArea))
        told.flags = address == nil ? 0 : VringAddress.logs
        told.logAddress = address?.rawValue ?? 0
        try request(.setVringAddress, told.bytes)
    }

    // MARK: the header queue

    /// Has the device split packets of the RQs that `request` names, whether they run or not.
    /// - Throws: the name of the reason if it refuses (`HeaderQueueRefusal`).
    public func setHeaderQueue(_ request: HeaderQueueRequest) throws(SetupError) {
        guard protocolFeatures.contains(.headerQueue) else {
            throw SetupError("the back-end has no header queue that messages set up")
        }
        let answer = try answer(.setHeaderQueue, HeaderQueueMessage.payload(request))
        var reader = PayloadReader(answer)
        let reason = reader.next(UInt64.self)
        guard answer.count == 8, reason != 0 else {
            if answer.count == 8 { return }
            throw SetupError("the back-end refuses \(FrontendRequest.setHeaderQueue)")
        }
        let known = UInt32(exactly: reason).flatMap(HeaderQueueRefusal.init)
        throw SetupError(
            "the back-end does not set the header queue up: \(known?.name ?? "reason \(reason)")")
    }

    /// Has the device begin with the header queue anew; its driver stopped retiring before.
    public func resetHeaderQueue() throws(SetupError) {
        try request(.resetHeaderQueue)
        try barrier()
    }

    /// Ends the device's use of the header queue: packets come whole. Its control words say where
    /// it goes on when it is set up again.
    public func stopHeaderQueue() throws(SetupError) {
        try request(.stopHeaderQueue)
        try barrier()
    }

    // MARK: messages

    /// Requests without an acknowledgement are done once a later one is answered.
    private func barrier() throws(SetupError) {
        if !protocolFeatures.contains(.acknowledgement) { _ = try number(.getFeatures) }
    }

    /// A request without an answer of its own.
    private func request(
        _ kind: FrontendRequest, _ payload: [UInt8] = [], descriptors: [Int32] = []
    ) throws(SetupError) {
        let isAcknowledged = protocolFeatures.contains(.acknowledgement)
        try send(kind, payload, descriptors, needsReply: isAcknowledged)
        if !isAcknowledged { return }
        let answer = try receive(kind)
        var reader = PayloadReader(answer)
        guard answer.count == 8, reader.next(UInt64.self) == 0 else {
            throw SetupError("the back-end refuses \(kind)")
        }
    }

    private func number(_ kind: FrontendRequest) throws(SetupError) -> UInt64 {
        let answer = try answer(kind)
        guard answer.count == 8 else { throw SetupError("the back-end refuses \(kind)") }
        var reader = PayloadReader(answer)
        return reader.next()
    }

    private func answer(
        _ kind: FrontendRequest, _ payload: [UInt8] = []
    ) throws(SetupError) -> [UInt8] {
        try send(kind, payload, [], needsReply: false)
        return try receive(kind)
    }

    private func send(
        _ kind: FrontendRequest, _ payload: [UInt8], _ descriptors: [Int32], needsReply: Bool
    ) throws(SetupError) {
        let flags = MessageFlags.version | (needsReply ? MessageFlags.needReply : 0)
        let message = Message(request: kind.rawValue, flags: flags, payload: payload)
        let end = SystemClock.monotonic + timeout
        var closure = connection.send(message, descriptors: descriptors)
        while closure == nil && connection.hasUnsent {
            try wait(until: end, kind, writes: true)
            closure = connection.flush()
        }
        if closure != nil { throw SetupError("the back-end closed the connection at \(kind)") }
    }

    private func receive(_ kind: FrontendRequest) throws(SetupError) -> [UInt8] {
        try receiveMessage(kind).payload
    }

    private func receiveMessage(_ kind: FrontendRequest) throws(SetupError) -> Message {
        let end = SystemClock.monotonic + timeout
        while true {
            switch connection.receive() {
            case .message(let message):
                guard message.flags & MessageFlags.versionMask == MessageFlags.version,
                    message.flags & MessageFlags.reply != 0, message.request == kind.rawValue
                else { throw SetupError("the back-end answers \(kind) with another message") }
                return message
            case .none: try wait(until: end, kind, writes: false)
            case .closed:
                throw SetupError("the back-end closed the connection at \(kind)")
            }
        }
    }

    private func wait(
        until end: UInt64, _ kind: FrontendRequest, writes: Bool
    ) throws(SetupError) {
        let now = SystemClock.monotonic
        if now >= end { throw SetupError("the back-end does not answer \(kind)") }
        let milliseconds = min((end - now + 999_999) / 1_000_000, 60_000)
        _ = cleave_socket_wait(fileDescriptor, writes ? 1 : 0, Int32(milliseconds))
    }
}
