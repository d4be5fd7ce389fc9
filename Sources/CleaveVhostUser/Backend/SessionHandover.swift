// A session as another process takes it over: everything that the front-end has said, and the
// descriptors that it gave. The front-end notices nothing.
//
//   handover     while rings run; nothing is read from the connection from then on
//   suspend      the rings stop: where each of them goes on
//   start        in the other process; or `resume` here, if the other one cannot
//
// What comes is checked like a front-end's messages, field by field: the other process may be of
// another version, or broken.
//
// libcleave is built without it (CLEAVE_LIBRARY, see Makefile): no function of its own uses it.

#if !CLEAVE_LIBRARY
import CCleaveHost
import CleaveHost
import CleaveVirtioNet

/// One end of a connection, with what was read and not served, and what was not sent yet.
package struct ConnectionHandover: Codable, Equatable, Sendable {
    /// Bytes that wait for the peer, and the descriptors that go with the first of them.
    package struct Output: Codable, Equatable, Sendable {
        package var bytes: [UInt8]
        package var descriptors: [Int]
    }

    package var descriptor: Int
    /// Of a message that is not complete.
    package var header: [UInt8] = []
    package var payload: [UInt8] = []
    package var inputDescriptors: [Int] = []
    package var output: [Output] = []
}

/// A session without the positions of its rings, which change as long as packets flow.
package struct SessionHandover: Codable, Equatable, Sendable {
    /// A region of the guest's memory.
    package struct Region: Codable, Equatable, Sendable {
        package var guestAddress: UInt64
        package var size: UInt64
        package var userAddress: UInt64
        package var fileOffset: UInt64
        /// How often it was added and not removed.
        package var holders: Int
        package var descriptor: Int
    }

    /// The log of written pages.
    package struct Log: Codable, Equatable, Sendable {
        package var byteCount: UInt64
        package var fileOffset: UInt64
        package var descriptor: Int
    }

    /// The region of what is in flight.
    package struct InFlight: Codable, Equatable, Sendable {
        package var byteCount: UInt64
        package var fileOffset: UInt64
        package var ringCount: UInt16
        package var ringSize: UInt16
        package var descriptor: Int
    }

    /// Where a ring lies, in addresses of the front-end.
    package struct Address: Codable, Equatable, Sendable {
        package var flags: UInt32
        package var descriptorArea: UInt64
        package var driverArea: UInt64
        package var deviceArea: UInt64
        package var logAddress: UInt64
    }

    package struct Ring: Codable, Equatable, Sendable {
        package var size: Int
        package var address: Address?
        package var baseBeforeReset: UInt32?
        package var call: Int?
        package var kick: Int?
        package var error: Int?
        package var isStarted: Bool
        package var enable: Bool?
    }

    /// Where a ring stands that was stopped.
    package struct Position: Codable, Equatable, Sendable {
        package var base: UInt32?
        /// `base` is where the device stopped.
        package var isBaseOurs: Bool
        package var isBroken: Bool
        /// The device had it.
        package var isRunning: Bool
    }

    package var connection: ConnectionHandover
    /// The connection for requests of the back-end.
    package var channel: ConnectionHandover?
    package var offeredFeatures: UInt64
    package var features: UInt64?
    package var hasProtocolFeatures: Bool
    package var protocolFeatures: UInt64
    package var hasOwner: Bool
    package var logsAll: Bool
    package var status: UInt8
    package var regions: [Region]
    package var log: Log?
    package var logDescriptor: Int?
    package var inFlight: InFlight?
    package var rings: [Ring]
}

extension BackendSession {
    // MARK: The process that has it

    /// What another process needs, without positions. From now on `service` must not be called,
    /// until it is known whether the other one has taken over.
    /// - Parameter descriptors: those that belong to it are added there.
    package func handover(
        _ descriptors: HandoverDescriptors
    ) throws(SetupError) -> SessionHandover {
        guard let connection else { throw SetupError("the session is closed") }
        func add(_ descriptor: NotificationDescriptor?) throws(SetupError) -> Int? {
            guard let descriptor else { return nil }
            return try descriptors.add(descriptor.fileDescriptor)
        }
        var state = SessionHandover(
            connection: try connection.handover(descriptors), offeredFeatures: offeredFeatures,
            features: features, hasProtocolFeatures: hasProtocolFeatures,
            protocolFeatures: protocolFeatures.rawValue, hasOwner: hasOwner, logsAll: logsAll,
            status: status, regions: [], rings: [])
        state.channel = try backendChannel?.handover(descriptors)
        if let table {
            for (index, region) in table.descriptions.enumerated() {
                let mapping = table.mappings.mappings[index]
                state.regions.append(
                    SessionHandover.Region(
                        guestAddress: region.guestAddress, size: region.size,
                        userAddress: region.userAddress, fileOffset: region.fileOffset,
                        holders: table.holders[index],
                        descriptor: try descriptors.add(mapping.descriptor.fileDescriptor)))
            }
        }
        if let log {
            state.log = SessionHandover.Log(
                byteCount: UInt64(log.byteCount), fileOffset: log.fileOffset,
                descriptor: try descriptors.add(log.mapping.descriptor.fileDescriptor))
        }
        state.logDescriptor = try add(logDescriptor)
        if let inFlight {
            let region = inFlight.description
            state.inFlight = SessionHandover.InFlight(
                byteCount: region.byteCount, fileOffset: region.fileOffset,
                ringCount: region.ringCount, ringSize: region.ringSize,
                descriptor: try descriptors.add(inFlight.mapping.descriptor.fileDescriptor))
        }
        for ring in rings {
            state.rings.append(
                SessionHandover.Ring(
                    size: ring.size, address: ring.address.map(SessionHandover.Address.init),
                    baseBeforeReset: ring.baseBeforeReset, call: try add(ring.call),
                    kick: try add(ring.kick), error: try add(ring.error),
                    isStarted: ring.isStarted, enable: ring.enable))
        }
        return state
    }

    /// Stops all rings, and says where each goes on. While no packet is on its way.
    package func suspend() -> [SessionHandover.Position] {
        rings.indices.map { index in
            let isRunning = rings[index].isRunning
            stop(index)
            let ring = rings[index]
            return SessionHandover.Position(
                base: ring.base, isBaseOurs: ring.isBaseOurs, isBroken: ring.isBroken,
                isRunning: isRunning)
        }
    }

    /// The guest's memory; nil while the front-end has told none.
    package var guestMemory: SharedGuestMemory? { table?.shared }

    /// Starts the rings again where `suspend` stopped them: nobody has taken over.
    package func resume() { for index in rings.indices { startIfReady(index) } }

    // MARK: The process that takes it over

    /// A session that another process has had. Its rings do not run yet.
    /// - Parameters:
    ///   - state: what the other process said of it.
    ///   - descriptors: those that `state` names are taken out.
    ///   - device: what is served from now on.
    /// - Throws: what of `state` cannot be, by the name of its field.
    package convenience init(
        taking state: SessionHandover, _ descriptors: HandoverDescriptors,
        device: any BackendDevice
    ) throws(SetupError) {
        self.init(
            descriptor: try state.connection.socket(descriptors, "connection"), device: device)
        try restore(state, descriptors)
    }

    private func restore(
        _ state: SessionHandover, _ descriptors: HandoverDescriptors
    ) throws(SetupError) {
        try connection?.restore(state.connection, descriptors, "connection")
        if let channel = state.channel {
            let restored = Connection(
                try channel.socket(descriptors, "channel"), clock: clock)
            backendChannel = restored
            try restored.restore(channel, descriptors, "channel")
        }
        guard state.offeredFeatures == offeredFeatures else {
            throw SetupError(
                "offeredFeatures: 0x\(String(state.offeredFeatures, radix: 16)), and here "
                    + "0x\(String(offeredFeatures, radix: 16)) are offered")
        }
        if let agreed = state.features, agreed & ~offeredFeatures != 0 {
            throw SetupError(
                "features: 0x\(String(agreed, radix: 16)) are not all offered")
        }
        let wanted = ProtocolFeatures(rawValue: state.protocolFeatures)
        guard offeredProtocolFeatures.isSuperset(of: wanted) else {
            throw SetupError(
                "protocolFeatures: 0x\(String(state.protocolFeatures, radix: 16)) are not all "
                    + "offered")
        }
        (features, hasProtocolFeatures) = (state.features, state.hasProtocolFeatures)
        (protocolFeatures, hasOwner) = (wanted, state.hasOwner)
        (logsAll, status) = (state.logsAll, state.status)
        try restoreMemory(state, descriptors)
        guard state.rings.count == rings.count else {
            throw SetupError("rings: \(state.rings.count), and here there are \(rings.count)")
        }
        for (index, ring) in state.rings.enumerated() {
            do throws(SetupError) { rings[index] = try self.ring(ring, index, descriptors) } catch {
                throw SetupError("rings[\(index)].", error)
            }
        }
    }

    private func restoreMemory(
        _ state: SessionHandover, _ descriptors: HandoverDescriptors
    ) throws(SetupError) {
        guard state.regions.count <= MemoryTable.slotCount else {
            throw SetupError(
                "regions: \(state.regions.count), more than \(MemoryTable.slotCount)")
        }
        var mapped: [ReceivedDescriptor] = []
        for (index, region) in state.regions.enumerated() {
            let name = "regions[\(index)]"
            mapped.append(try Self.take(region.descriptor, name, descriptors))
            guard region.holders >= 1 else {
                throw SetupError("\(name).holders: \(region.holders), less than 1")
            }
        }
        if !mapped.isEmpty {
            let descriptions = state.regions.map {
                RegionDescription(
                    guestAddress: $0.guestAddress, size: $0.size, userAddress: $0.userAddress,
                    fileOffset: $0.fileOffset)
            }
            table = try Self.checking("regions") { () throws(RequestError) in
                try MemoryTable.map(
                    descriptions, mapped, holders: state.regions.map(\.holders), of: guest)
            }
        }
        if let log = state.log {
            let descriptor = try Self.take(log.descriptor, "log", descriptors)
            let restored = try Self.checking("log") { () throws(RequestError) in
                try LogMemory(
                    byteCount: log.byteCount, fileOffset: log.fileOffset, of: descriptor)
            }
            guard table.map(restored.covers) ?? true else {
                throw SetupError("log.byteCount: \(log.byteCount) do not cover the memory")
            }
            self.log = restored
        }
        logDescriptor = try Self.notification(
            state.logDescriptor, "logDescriptor", for: .call, descriptors)
        if let region = state.inFlight {
            let descriptor = try Self.take(region.descriptor, "inFlight", descriptors)
            var description = InFlightDescription(
                ringCount: Int(region.ringCount), ringSize: Int(region.ringSize))
            (description.byteCount, description.fileOffset) = (region.byteCount, region.fileOffset)
            inFlight = try Self.checking("inFlight") { () throws(RequestError) in
                try InFlightRegion(description, of: descriptor, ringCount: rings.count)
            }
        }
    }

    private func ring(
        _ state: SessionHandover.Ring, _ index: Int, _ descriptors: HandoverDescriptors
    ) throws(SetupError) -> Vring {
        var ring = Vring()
        if state.size != 0 {
            do throws(SetupError) {
                try VirtqueueAddresses.check(
                    size: state.size, features == nil ? .packed : format)
            } catch { throw SetupError("size: ", error) }
        }
        ring.size = state.size
        if let address = state.address {
            let found = VringAddress(address, index: index)
            guard found.isAligned(packed: features != nil && format == .packed) else {
                throw SetupError("address: an area is not aligned")
            }
            ring.address = found
        }
        ring.baseBeforeReset = state.baseBeforeReset
        ring.call = try Self.notification(state.call, "call", for: .call, descriptors)
        ring.kick = try Self.notification(state.kick, "kick", for: .kick, descriptors)
        ring.error = try Self.notification(state.error, "error", for: .call, descriptors)
        ring.isStarted = state.isStarted
        ring.enable = state.enable
        return ring
    }

    /// Starts the rings where another process stopped them. While no packet is on its way.
    /// - Throws: why a ring that ran does not run here. The session is of no use then.
    package func start(at positions: [SessionHandover.Position]) throws(SetupError) {
        guard positions.count == rings.count else {
            throw SetupError("rings: \(positions.count), and here there are \(rings.count)")
        }
        for (index, position) in positions.enumerated() {
            rings[index].base = position.base
            rings[index].isBaseOurs = position.isBaseOurs
            rings[index].isBroken = position.isBroken
        }
        for (index, position) in positions.enumerated()
        where position.isRunning && !position.isBroken {
            do throws(StartFailure) { try start(index) } catch {
                guard case .device(let reason) = error else {
                    // The guest's own lie: the ring is broken, there as here.
                    noteFailure(index, error)
                    continue
                }
                throw SetupError("rings[\(index)]: ", reason)
            }
            guard rings[index].isRunning else {
                throw SetupError("rings[\(index)]: it ran, and is not complete")
            }
            // The other process may have used buffers after its last call: one more is allowed.
            _ = rings[index].call?.sender.send()
        }
    }

    // MARK: Fields

    private static func take(
        _ place: Int, _ name: String, _ descriptors: HandoverDescriptors
    ) throws(SetupError) -> ReceivedDescriptor {
        do throws(SetupError) { return try descriptors.take(place) } catch {
            throw SetupError("\(name): ", error)
        }
    }

    private static func notification(
        _ place: Int?, _ name: String, for direction: NotificationDescriptor.Direction,
        _ descriptors: HandoverDescriptors
    ) throws(SetupError) -> NotificationDescriptor? {
        guard let place else { return nil }
        let descriptor = try take(place, name, descriptors)
        do throws(HostError) {
            return try NotificationDescriptor(
                duplicating: descriptor.fileDescriptor, for: direction)
        } catch { throw SetupError("\(name): ", error) }
    }

    private static func checking<Value>(
        _ name: String, _ body: () throws(RequestError) -> Value
    ) throws(SetupError) -> Value {
        do throws(RequestError) { return try body() } catch {
            switch error {
            case .refused(let refusal): throw SetupError("\(name): \(refusal.rawValue)")
            case .closing(let closure): throw SetupError("\(name): \(closure.rawValue)")
            }
        }
    }
}

extension ConnectionHandover {
    /// The socket, which is the caller's to close.
    fileprivate func socket(
        _ descriptors: HandoverDescriptors, _ name: String
    ) throws(SetupError) -> Int32 {
        do throws(SetupError) {
            let number = try descriptors.takeNumber(descriptor)
            guard cleave_socket_check(number) == 0 else {
                _ = ReceivedDescriptor(number)
                throw SetupError("descriptor \(descriptor) is no connected stream socket")
            }
            return number
        } catch { throw SetupError("\(name).", error) }
    }
}

extension SessionHandover.Address {
    fileprivate init(_ address: VringAddress) {
        self.init(
            flags: address.flags, descriptorArea: address.descriptorArea,
            driverArea: address.driverArea, deviceArea: address.deviceArea,
            logAddress: address.logAddress)
    }
}

extension VringAddress {
    fileprivate init(_ address: SessionHandover.Address, index: Int) {
        self.init(
            index: UInt32(index), descriptorArea: address.descriptorArea,
            driverArea: address.driverArea, deviceArea: address.deviceArea)
        (flags, logAddress) = (address.flags, address.logAddress)
    }
}
#endif
