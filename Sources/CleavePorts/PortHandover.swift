// A port as another process takes it over, while its far side stays.
//
//   the process that has it                      the process that takes it over
//
//   handover    it rests; packets flow on
//                                                take      before the port is opened
//   suspend     its queues stop, while held
//                                                start     while held
//   letGo       the other one has it             keep      the first one has let go
//   resume      or the other one cannot          abandon

import CleaveHost
import CleaveVhostUser

/// What a port is, without what changes with each packet.
package enum PortHandover: Codable, Equatable, Sendable {
    case vhostUser(VhostUserHandover)
    case kernel(KernelHandover)

    /// What its far side is, for errors.
    var kind: String {
        switch self {
        case .vhostUser: PortType.vhostUser.rawValue
        case .kernel(let state): state.type.rawValue
        }
    }
}

/// Where the queues of a port stopped.
package enum PortPosition: Codable, Equatable, Sendable {
    case vhostUser(VhostUserPosition)
    /// The kernel keeps it.
    case kernel
}

/// A port that another process can take over.
package protocol HandoverPort: Port {
    /// The port as it is. From now on its control side rests.
    /// - Parameter descriptors: those that belong to it are added there.
    func handover(_ descriptors: HandoverDescriptors) throws(SetupError) -> PortHandover

    /// Nobody takes it over, and its queues were not stopped.
    func endRest()

    /// Stops its queues. While the switch is held, and nothing of them is out.
    func suspend() -> PortPosition

    /// Nobody has taken it over: its queues go on where they stopped. While the switch is held.
    func resume()

    /// Another process has it: lets go of everything, and its far side notices nothing.
    func letGo()

    /// Will be a port that another process has now. Before `open`.
    /// - Parameter descriptors: those that `state` names are taken out.
    /// - Throws: what of `state` cannot be, or is not this port.
    func take(_ state: PortHandover, _ descriptors: HandoverDescriptors) throws(SetupError)

    /// Its queues go on where another process stopped them. While the switch is held.
    func start(at position: PortPosition) throws(SetupError)

    /// The other process has let go.
    func keep()

    /// The other process goes on: closes what was taken, and writes nothing more to its far side.
    func abandon()
}

extension HandoverPort {
    /// For a state of another kind of port.
    func mismatch(_ state: PortHandover) -> SetupError {
        SetupError(
            "port \(name): it is a \(state.kind) port there, and a \(type.rawValue) port here")
    }

    /// Refuses a key that is another here.
    func check<Value: Equatable>(
        _ key: String, there: Value, here: Value
    ) throws(SetupError) {
        guard there == here else {
            throw SetupError("port \(name): \(key) is \(there) there, and \(here) here")
        }
    }
}
