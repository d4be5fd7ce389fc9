import CleaveHost
import CleaveVhostUser
import CleaveVirtioNet
import Glibc

/// A vhost-user port as another process takes it over.
package struct VhostUserHandover: Codable, Equatable, Sendable {
    // Keys that the front-end or its driver was told, or that say which port it is.
    package var path: String
    /// What tells the file at the path; nil if there is none.
    package var place: [UInt64]?
    package var mode: String
    package var queuePairs: Int
    package var mac: [UInt8]?
    package var mtu: Int?
    package var offeredFeatures: UInt64

    /// The socket that it listens at.
    package var listener: Int?
    /// The file of that socket is somebody else's.
    package var isOfAnother = false
    package var session: SessionHandover?
    /// What a front-end has set.
    package var driverMTU: Int?
    /// Pairs that the driver asked for last.
    package var pairsAskedFor: Int?
}

/// Where the queues of a vhost-user port stopped.
package struct VhostUserPosition: Codable, Equatable, Sendable {
    package var rings: [SessionHandover.Position] = []
    package var headerQueue: HeaderQueueHandover?
    /// The address of a guest that has moved here and is not announced yet.
    package var announces: [UInt8]?
}

/// A header queue that a front-end set up by a message, and where it goes on.
package struct HeaderQueueHandover: Codable, Equatable, Sendable {
    package var fields: [UInt8]
    package var control: UInt64
    package var slots: UInt64
    package var returnRing: UInt64
    package var base: UInt32
    package var isBroken: Bool
}

extension VhostUserPort: HandoverPort {
    // MARK: The process that has it

    package func handover(_ descriptors: HandoverDescriptors) throws(SetupError) -> PortHandover {
        do throws(SetupError) {
            guard !settings.path.isEmpty else {
                throw SetupError("it is over one connection, and has no path")
            }
            var state = VhostUserHandover(
                path: settings.path, place: endpoint.place, mode: settings.mode.rawValue,
                queuePairs: settings.queuePairs, mac: settings.mac, mtu: settings.mtu,
                offeredFeatures: offeredFeatures)
            if let listener = endpoint.listening {
                state.listener = try descriptors.add(listener)
                state.isOfAnother = endpoint.isOfAnother
            }
            state.session = try session?.handover(descriptors)
            state.driverMTU = pairs[0].mtu
            state.pairsAskedFor = pairsAskedFor
            isResting = true
            return .vhostUser(state)
        } catch { throw SetupError("port \(name): ", error) }
    }

    package func endRest() { isResting = false }

    package func suspend() -> PortPosition {
        var position = VhostUserPosition()
        guard let session else { return .vhostUser(position) }
        reportFaults()
        position.announces = pairs[0].announcedMAC
        hold {
            suspended = guestHeaderQueue.inUse
            position.rings = session.suspend()
            position.headerQueue = guestHeaderQueue.suspend(suspended)
        }
        return .vhostUser(position)
    }

    package func resume() {
        hold {
            guestHeaderQueue.resume(suspended)
            session?.resume()
            goOn(pairsAskedFor)
        }
        suspended = GuestHeaderQueue.Suspended()
        isResting = false
    }

    package func letGo() {
        suspended = GuestHeaderQueue.Suspended()
        // Its rings are stopped: what is left is to close descriptors, of which there are others.
        session?.close()
        session = nil
        mappings = nil
        endpoint.letGo()
    }

    // MARK: The process that takes it over

    package func take(
        _ state: PortHandover, _ descriptors: HandoverDescriptors
    ) throws(SetupError) {
        guard case .vhostUser(let state) = state else { throw mismatch(state) }
        try checkKeys(state)
        do throws(SetupError) {
            guard (state.listener != nil) == (settings.mode == .server) else {
                throw SetupError(
                    "listener: mode \(settings.mode.rawValue) has "
                        + (settings.mode == .server ? "one" : "none"))
            }
            if let place = state.listener {
                do throws(SetupError) {
                    try endpoint.listen(at: try descriptors.takeNumber(place))
                } catch { throw SetupError("listener: ", error) }
            }
            isOfAnother = state.isOfAnother
            if let mtu = state.driverMTU, !(68...65535).contains(mtu) {
                throw SetupError("driverMTU: \(mtu): need 68 to 65535")
            }
            for pair in pairs { pair.mtu = state.driverMTU }
            if let count = state.pairsAskedFor, !(1...settings.queuePairs).contains(count) {
                throw SetupError("pairsAskedFor: \(count): need 1 to \(settings.queuePairs)")
            }
            pairsAskedFor = state.pairsAskedFor
            guard let found = state.session else { return }
            session = try BackendSession(taking: found, descriptors, device: self)
            endpoint.takeConnection()
        } catch { throw SetupError("port \(name): ", error) }
    }

    private func checkKeys(_ state: VhostUserHandover) throws(SetupError) {
        try check("mode", there: state.mode, here: settings.mode.rawValue)
        // The two programs may name one file in two ways, by the folders that they started in.
        let here = endpoint.place
        if state.place == nil || here == nil || state.place != here {
            try check("path", there: state.path, here: settings.path)
        }
        try check("queues", there: state.queuePairs, here: settings.queuePairs)
        try check("mac", there: text(state.mac), here: text(settings.mac))
        try check(
            "mtu", there: state.mtu.map(String.init) ?? "none",
            here: settings.mtu.map(String.init) ?? "none")
        func hexadecimal(_ bits: UInt64) -> String { "0x" + String(bits, radix: 16) }
        try check(
            "what it offers (features-off, header-queue, split-method)",
            there: hexadecimal(state.offeredFeatures), here: hexadecimal(offeredFeatures))
    }

    private func text(_ mac: [UInt8]?) -> String {
        mac.map { $0.map { String($0, radix: 16) }.joined(separator: ":") } ?? "none"
    }

    package func start(at position: PortPosition) throws(SetupError) {
        guard case .vhostUser(let position) = position else {
            throw SetupError("port \(name): the position is one of another kind of port")
        }
        guard let session else {
            guard position.rings.isEmpty else {
                throw SetupError("port \(name): rings without a connection")
            }
            return
        }
        var failure: SetupError?
        hold {
            do throws(SetupError) {
                if let state = position.headerQueue {
                    guard let memory = session.guestMemory else {
                        throw SetupError("headerQueue: there is no guest memory")
                    }
                    try guestHeaderQueue.start(state, in: memory)
                }
                try session.start(at: position.rings)
                if let mac = position.announces {
                    guard mac.count == 6 else {
                        throw SetupError("announces: \(mac.count) bytes, not 6")
                    }
                    pairs[0].announce(mac: mac)
                }
                goOn(pairsAskedFor)
            } catch { failure = SetupError("port \(name): ", error) }
        }
        if let failure { throw failure }
    }

    package func abandon() {
        // Its control words are the other process's to write.
        guestHeaderQueue.abandon()
        close()
    }

    package func keep() { if settings.mode == .server && !isOfAnother { endpoint.keepFile() } }

    /// The control queue goes on, if there is one: its driver does not ask for its pairs again.
    private func goOn(_ pairs: Int?) {
        guard let control else { return }
        if let pairs { use(pairs: pairs) }
        control.lookAgain()
    }
}
