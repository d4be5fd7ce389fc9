// What each request does, once its form is checked. A request that throws has changed nothing.

import CleaveHost
import CleaveVirtioNet
import Glibc

/// The answer to a request that has one of its own.
struct Answer {
    var payload: [UInt8]
    var descriptors: [ReceivedDescriptor] = []
}

extension BackendSession {
    /// - Returns: nil if the request has no answer of its own.
    func perform(
        _ request: FrontendRequest, _ message: Message
    ) throws(RequestError) -> Answer? {
        if request == .getInFlightDescriptor { return try makeInFlightRegion(message) }
        return try payload(of: request, message).map { Answer(payload: $0) }
    }

    private func payload(
        of request: FrontendRequest, _ message: Message
    ) throws(RequestError) -> [UInt8]? {
        var reader = PayloadReader(message.payload)
        switch request {
        case .getFeatures: return PayloadWriter.number(allOfferedFeatures)
        case .setFeatures: try setFeatures(reader.next())
        case .getProtocolFeatures: return PayloadWriter.number(offeredProtocolFeatures.rawValue)
        case .setProtocolFeatures: try setProtocolFeatures(reader.next())
        case .setOwner: try setOwner()
        case .resetOwner: resetOwner()
        case .getQueueNum: return PayloadWriter.number(toldQueueCount)
        case .setMemoryTable: try setMemoryTable(message)
        case .getMaximumMemorySlots: return PayloadWriter.number(UInt64(MemoryTable.slotCount))
        case .addMemoryRegion: try addMemoryRegion(message)
        case .removeMemoryRegion: try removeMemoryRegion(message)
        case .setLogBase: return try setLog(message)
        case .setLogDescriptor: try setLogDescriptor(message)
        case .getInFlightDescriptor: break
        case .setInFlightDescriptor: try setInFlightRegion(message)
        case .setVringNum: try setVringNum(VringState(message.payload))
        case .setVringAddress: try setVringAddress(VringAddress(message.payload))
        case .setVringBase: try setVringBase(VringState(message.payload))
        case .getVringBase: return try getVringBase(VringState(message.payload))
        case .setVringKick: try setVringKick(message)
        case .setVringCall: try setVringCall(message)
        case .setVringError: try setVringError(message)
        case .setVringEnable: try setVringEnable(VringState(message.payload))
        case .sendRARP: device?.announce(mac: Array(message.payload.prefix(6)))
        case .setMTU: try setMTU(reader.next())
        case .setBackendRequestDescriptor:
            for descriptor in message.descriptors { try openBackendChannel(descriptor) }
        case .getConfiguration: return try getConfiguration(ConfigurationAccess(message.payload))
        case .setConfiguration: try setConfiguration(ConfigurationAccess(message.payload))
        case .resetDevice: resetDevice()
        case .setStatus: try setStatus(reader.next())
        case .getStatus: return PayloadWriter.number(UInt64(toldStatus))
        case .setHeaderQueue: return PayloadWriter.number(try setHeaderQueue(message.payload))
        case .resetHeaderQueue:
            if device?.resetHeaderQueue() != true { throw .refused(.headerQueue) }
        case .stopHeaderQueue:
            if device?.stopHeaderQueue() != true { throw .refused(.headerQueue) }
        }
        return nil
    }

    // MARK: features

    private var allOfferedFeatures: UInt64 {
        offeredFeatures | FeatureBit.ofConnection
    }

    private func setFeatures(_ value: UInt64) throws(RequestError) {
        if value & ~allOfferedFeatures != 0 { throw .refused(.features) }
        let wanted = value & ~FeatureBit.ofConnection
        let logs = value & FeatureBit.logAll != 0
        let hasBit = value & FeatureBit.protocolFeatures != 0
        let isSame = features == wanted && hasProtocolFeatures == hasBit
        if isAnyRunning && !isSame { throw .refused(.features) }
        let agree = {
            self.features = wanted
            self.hasProtocolFeatures = hasBit
            // Without the bit nothing enables a ring any more, so nothing said before disables it.
            if !hasBit && !isSame {
                for index in self.rings.indices { self.rings[index].enable = nil }
            }
            self.device?.negotiated(features: wanted)
            for index in self.rings.indices { self.startIfReady(index) }
        }
        if logs == logsAll { return agree() }
        // The one feature that may change at any time: a guest begins to move, or stays after all.
        changingLog {
            logsAll = logs
            agree()
        }
    }

    /// Queue pairs. With a set-up ring, which belongs to no pair, all rings: a front-end that knows
    /// nothing of networks counts those (QEMU's `vhost-user-test-device`).
    private var toldQueueCount: UInt64 {
        let hasSetupRing = offeredFeatures & FeatureBit.headerQueue != 0
        return UInt64(hasSetupRing ? rings.count : rings.count / 2)
    }

    private func setProtocolFeatures(_ value: UInt64) throws(RequestError) {
        let wanted = ProtocolFeatures(rawValue: value)
        let needed: ProtocolFeatures = [.backendRequests, .acknowledgement]
        if wanted.contains(.inbandNotifications) && !wanted.isSuperset(of: needed) {
            throw .closing(.inband)
        }
        if !offeredProtocolFeatures.isSuperset(of: wanted) { throw .refused(.features) }
        protocolFeatures = wanted
    }

    private func setOwner() throws(RequestError) {
        if hasOwner { throw .refused(.owner) }
        hasOwner = true
    }

    /// Deprecated: some front-ends send it where they mean that the rings rest.
    private func resetOwner() {
        hasOwner = false
        for index in rings.indices {
            stop(index)
            if hasProtocolFeatures {
                rings[index].enable = false
            } else {
                // Until the next kick descriptor: there is no request to enable it.
                rings[index].isStarted = false
            }
        }
    }

    // MARK: memory

    private func setMemoryTable(_ message: Message) throws(RequestError) {
        var reader = PayloadReader(message.payload)
        let count: UInt32 = reader.next()
        _ = reader.next(UInt32.self)
        if count > UInt32(MemoryTable.messageRegionCount) { throw .refused(.tooMany) }
        if message.payload.count < 8 + RegionDescription.byteCount * Int(count) {
            throw .refused(.size)
        }
        if message.descriptors.count != Int(count) { throw .refused(.fds) }
        if count == 0 {
            replaceMemory(nil)
            return
        }
        let descriptions = (0..<count).map { _ in RegionDescription(&reader) }
        replaceMemory(try MemoryTable.map(descriptions, message.descriptors, of: guest))
    }

    private func addMemoryRegion(_ message: Message) throws(RequestError) {
        guard let descriptor = message.descriptors.first else { throw .refused(.fds) }
        let larger = try MemoryTable.adding(
            Self.singleRegion(message), descriptor, to: table, of: guest)
        // A region that is there already changes nothing for the rings.
        let isSame = larger.descriptions.count == table?.descriptions.count
        if isSame { table = larger } else { replaceMemory(larger) }
    }

    private func removeMemoryRegion(_ message: Message) throws(RequestError) {
        guard let table, let index = table.index(of: Self.singleRegion(message)) else {
            throw .refused(.region)
        }
        if !table.isLastHold(of: index) {
            self.table = try table.removing(index)
            return
        }
        for ring in rings where ring.isRunning {
            guard let address = ring.address else { continue }
            let areas = [address.descriptorArea, address.driverArea, address.deviceArea]
            if areas.contains(where: {
                table.guestAddress(ofUser: $0).map { table.region(index, holds: $0) } ?? false
            }) {
                throw .refused(.busy)
            }
        }
        replaceMemory(try table.removing(index))
    }

    private static func singleRegion(_ message: Message) -> RegionDescription {
        var reader = PayloadReader(message.payload)
        _ = reader.next(UInt64.self)
        return RegionDescription(&reader)
    }

    // MARK: rings

    private func ring(_ index: UInt32) throws(RequestError) -> Int {
        if UInt64(index) >= UInt64(rings.count) { throw .refused(.index) }
        return Int(index)
    }

    private func setVringNum(_ state: VringState) throws(RequestError) {
        let index = try ring(state.index)
        let size = Int(state.number)
        do throws(SetupError) {
            // Any size that some ring may have, while it is not known which format it is of.
            try VirtqueueAddresses.check(size: size, features == nil ? .packed : format)
        } catch { throw .refused(.qsize) }
        if rings[index].isRunning {
            if size != rings[index].size { throw .refused(.busy) }
            return
        }
        change(index) { $0.size = size }
    }

    private func setVringAddress(_ address: VringAddress) throws(RequestError) {
        let index = try ring(address.index)
        if !address.isAligned(packed: features != nil && format == .packed) {
            throw .refused(.align)
        }
        if rings[index].isRunning && !address.isSamePlace(as: rings[index].address) {
            throw .refused(.busy)
        }
        if address == rings[index].address { return }
        var wanted = rings[index]
        wanted.address = address
        // The rest is checked when the ring starts.
        if let table, features != nil, wanted.size > 0 {
            let reachesLog: Bool
            do throws(SetupError) {
                let virtqueue = try wanted.virtqueue(format, base: nil, in: table)
                reachesLog = isInLog(wanted, virtqueue, table)
            } catch { throw .refused(.ringRange) }
            if !reachesLog { throw .refused(.log) }
        }
        change(index) { $0.address = address }
    }

    private func setVringBase(_ state: VringState) throws(RequestError) {
        let index = try ring(state.index)
        if rings[index].isRunning {
            if state.number != rings[index].base { throw .refused(.busy) }
            return
        }
        change(index) {
            $0.base = state.number
            $0.isBaseOurs = false
        }
    }

    private func getVringBase(_ state: VringState) throws(RequestError) -> [UInt8] {
        let index = try ring(state.index)
        stop(index)
        rings[index].isStarted = false
        rings[index].isBroken = false
        rings[index].kick = nil
        // From here on the front-end knows where the ring is resumed.
        forgetInFlight(index)
        let base = rings[index].base ?? rings[index].baseBeforeReset ?? 0
        return VringState(index: state.index, number: base).bytes
    }

    private func setVringKick(_ message: Message) throws(RequestError) {
        let (index, descriptor) = try ringDescriptor(message, .kick)
        change(index) {
            $0.kick = descriptor
            $0.isStarted = true
        }
    }

    private func setVringCall(_ message: Message) throws(RequestError) {
        let (index, descriptor) = try ringDescriptor(message, .call)
        change(index) { $0.call = descriptor }
    }

    private func setVringError(_ message: Message) throws(RequestError) {
        let (index, descriptor) = try ringDescriptor(message, .call)
        rings[index].error = descriptor
    }

    private func ringDescriptor(
        _ message: Message, _ direction: NotificationDescriptor.Direction
    ) throws(RequestError) -> (Int, NotificationDescriptor?) {
        let number = VringDescriptorNumber(message.payload)
        if number.index >= UInt64(rings.count) { throw .refused(.index) }
        if number.hasDescriptor == message.descriptors.isEmpty { throw .refused(.fds) }
        guard let received = message.descriptors.first else { return (Int(number.index), nil) }
        do throws(HostError) {
            let own = try NotificationDescriptor(
                duplicating: received.fileDescriptor, for: direction)
            return (Int(number.index), own)
        } catch {
            let isShortage = error.code == EMFILE || error.code == ENFILE
            throw .refused(isShortage ? .nomem : .fdType)
        }
    }

    private func setVringEnable(_ state: VringState) throws(RequestError) {
        let index = try ring(state.index)
        if state.number > 1 { throw .refused(.value) }
        if state.number == 0 { stop(index) }
        rings[index].enable = state.number == 1
        startIfReady(index)
    }

    // MARK: the device

    /// - Returns: 0, or why the header queue is not set up (`HeaderQueueRefusal`).
    private func setHeaderQueue(_ payload: [UInt8]) throws(RequestError) -> UInt64 {
        guard let request = HeaderQueueMessage.request(payload) else { throw .refused(.size) }
        do throws(HeaderQueueRefusal) {
            guard let device, let table else { throw HeaderQueueRefusal.memory }
            try device.setHeaderQueue(request, table.shared)
            return 0
        } catch {
            count(Refusal.headerQueue)
            return UInt64(error.rawValue)
        }
    }

    private func setMTU(_ value: UInt64) throws(RequestError) {
        guard (68...65535).contains(value) else { throw .refused(.value) }
        device?.setMTU(Int(value))
    }

    private func getConfiguration(
        _ access: ConfigurationAccess
    ) throws(RequestError) -> [UInt8] {
        if !access.isValid { throw .refused(.config) }
        let bytes = device?.configuration.bytes ?? []
        let (offset, size) = (Int(access.offset), Int(access.size))
        var answer = access
        // Fields without a value are zero; a front-end wants as many bytes as it asked for.
        answer.bytes = (offset..<offset + size).map { $0 < bytes.count ? bytes[$0] : 0 }
        return answer.payload
    }

    private func setConfiguration(_ access: ConfigurationAccess) throws(RequestError) {
        if access.bytes.count != Int(access.size) { throw .refused(.size) }
        if !access.isValid { throw .refused(.config) }
        if device?.writeConfiguration(offset: Int(access.offset), access.bytes) != true {
            throw .refused(.config)
        }
    }

    private func setStatus(_ value: UInt64) throws(RequestError) {
        guard let new = UInt8(exactly: value) else { throw .refused(.status) }
        if new == 0 { resetDevice() }
        status = new
    }

    /// With DEVICE_NEEDS_RESET if a ring is broken.
    private var toldStatus: UInt8 {
        let needsReset: UInt8 = 64
        return rings.contains { $0.isBroken } ? status | needsReset : status
    }
}
