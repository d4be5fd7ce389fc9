// Ports at interfaces of the kernel, as another process takes them over: the kernel keeps all that
// there is, and its frames wait at the descriptors.

import CCleaveHost
import CleaveHost
import CleaveVhostUser
import CleaveVirtioNet
import Glibc

/// A TAP port or a packet socket as another process takes it over.
package struct KernelHandover: Codable, Equatable, Sendable {
    package var type: PortType
    package var interface: String
    /// One for each queue; none if the interface is gone, and the port begins anew.
    package var descriptors: [Int] = []
    /// What the kernel takes unfinished at each.
    package var offloads: [UInt64] = []

    /// What a port has open.
    init(
        _ type: PortType, at interface: String, _ queues: [KernelQueue],
        _ list: HandoverDescriptors
    ) throws(SetupError) {
        (self.type, self.interface) = (type, interface)
        for queue in queues where queue.isOpen {
            descriptors.append(try list.add(queue.wakeDescriptor))
            offloads.append(queue.offloads.rawValue)
        }
    }
}

/// The queues of a kernel interface that another process has opened.
struct TakenKernelQueues {
    /// They belong to the port that opens.
    var opened: [(descriptor: Int32, offloads: VirtioFeatures)] = []

    /// What may be open at a descriptor.
    private static let offloads: VirtioFeatures = [
        .guestChecksum, .guestTSO4, .guestTSO6, .guestECN, .guestUSO4, .guestUSO6,
    ]

    /// - Parameter accepts: whether a descriptor is of the port's kind and interface.
    init(
        _ state: KernelHandover, queueCount: Int, _ list: HandoverDescriptors,
        accepts: (Int32) -> Bool
    ) throws(SetupError) {
        guard state.offloads.count == state.descriptors.count else {
            throw SetupError(
                "offloads: \(state.offloads.count) of \(state.descriptors.count) descriptors")
        }
        if state.descriptors.isEmpty { return }
        guard state.descriptors.count == queueCount else {
            throw SetupError(
                "queues is \(state.descriptors.count) there, and \(queueCount) here")
        }
        do throws(SetupError) {
            for (index, place) in state.descriptors.enumerated() {
                let offloads = VirtioFeatures(rawValue: state.offloads[index])
                guard Self.offloads.isSuperset(of: offloads) else {
                    throw SetupError("offloads[\(index)]: bits that no kernel has")
                }
                let number: Int32
                do throws(SetupError) { number = try list.takeNumber(place) } catch {
                    throw SetupError("descriptors[\(index)]: ", error)
                }
                opened.append((number, offloads))
                guard accepts(number) else {
                    throw SetupError(
                        "descriptors[\(index)]: it is no queue of type "
                            + "\(state.type.rawValue) at \(state.interface)")
                }
            }
        } catch {
            close()
            throw error
        }
    }

    func close() { for queue in opened { Glibc.close(queue.descriptor) } }
}

/// A port that hands over descriptors of the kernel.
protocol KernelHandoverPort: HandoverPort, AnyObject {
    var interface: String { get }
    var kernelQueues: [KernelQueue] { get }
    var isResting: Bool { get set }
    var taken: TakenKernelQueues? { get set }

    /// Whether a descriptor is of the port's kind and interface.
    func accepts(_ descriptor: Int32) -> Bool
}

extension KernelHandoverPort {
    package func handover(
        _ descriptors: HandoverDescriptors
    ) throws(SetupError) -> PortHandover {
        do throws(SetupError) {
            let state = try KernelHandover(
                type, at: interface, kernelQueues, descriptors)
            isResting = true
            return .kernel(state)
        } catch { throw SetupError("port \(name): ", error) }
    }

    package func endRest() { isResting = false }
    package func suspend() -> PortPosition { .kernel }
    package func resume() { isResting = false }

    /// The descriptors that are closed are duplicates of those that the other process has.
    package func letGo() { close() }

    package func take(
        _ state: PortHandover, _ descriptors: HandoverDescriptors
    ) throws(SetupError) {
        guard case .kernel(let found) = state, found.type == type else { throw mismatch(state) }
        try check("interface", there: found.interface, here: interface)
        do throws(SetupError) {
            let queues = try TakenKernelQueues(
                found, queueCount: kernelQueues.count, descriptors, accepts: accepts)
            if !queues.opened.isEmpty { taken = queues }
        } catch { throw SetupError("port \(name): ", error) }
    }

    package func start(at position: PortPosition) throws(SetupError) {
        guard position == .kernel else {
            throw SetupError("port \(name): the position is one of another kind of port")
        }
    }

    package func keep() {}
    package func abandon() { close() }
}

extension TapPort: KernelHandoverPort {
    var interface: String { configuration.interface }

    func accepts(_ descriptor: Int32) -> Bool {
        cleave_tap_check(descriptor, configuration.interface) == 0
    }
}

extension AFPacketPort: KernelHandoverPort {
    var interface: String { configuration.interface }

    func accepts(_ descriptor: Int32) -> Bool {
        cleave_packet_check(descriptor, configuration.interface) == 0
    }
}
