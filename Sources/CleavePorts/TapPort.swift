// A TAP device: the port by which the host's own network stack is on the switch.

import CCleaveHost
import CleaveHost
import CleaveVirtioNet
import Glibc

/// What a TAP port is made from.
public struct TapPortConfiguration: Sendable, Equatable {
    /// The port's name in commands and counters.
    public var name: String
    /// The device, at most 15 bytes; it is created if there is none, and then goes with the port.
    public var interface: String
    /// Queues, 1 to 256, of 4.25 MiB each.
    public var queues = 1
    /// Largest IP packet, 68 to 65535; nil: as the device has it.
    public var mtu: Int?
    /// NUMA node of the queues' memory; nil for any.
    public var node: Int?

    public init(name: String, interface: String) {
        self.name = name
        self.interface = interface
    }

    func check() throws(SetupError) {
        try InterfaceName.check(interface, port: name)
        guard (1...256).contains(queues) else {
            throw SetupError("port \(name): \(queues) queues: need 1 to 256")
        }
        if let mtu, !(68...65535).contains(mtu) {
            throw SetupError("port \(name): MTU \(mtu): need 68 to 65535")
        }
    }
}

/// A port whose far side is a TAP device of the kernel.
///
/// Checksums and segments are left unfinished both ways, as far as the kernel knows them: TCP, and
/// UDP datagrams since Linux 6.2.
public final class TapPort: Port {
    public let configuration: TapPortConfiguration
    public var name: String { configuration.name }
    public var type: PortType { .tap }
    public var queues: [any PortQueue] { kernelQueues }

    let kernelQueues: [KernelQueue]
    /// What another process has opened, until the port is.
    var taken: TakenKernelQueues?
    /// Another process may take the port over.
    var isResting = false
    private weak var host: (any PortHost)?
    private var nextCheck: UInt64 = 0
    private var lossCount: UInt64 = 0

    /// How often it is checked that the device still exists, in nanoseconds.
    private static let checkNanoseconds: UInt64 = 200_000_000

    public init(_ configuration: TapPortConfiguration) throws(SetupError) {
        try configuration.check()
        self.configuration = configuration
        kernelQueues = (0..<configuration.queues).map { _ in KernelQueue(.tap) }
    }

    /// Creates the device, or joins it. It is not brought up and gets no address: that is its
    /// operator's.
    public func open(for host: any PortHost) throws(SetupError) {
        for queue in kernelQueues {
            do throws(SetupError) { try queue.allocate(node: configuration.node) } catch {
                throw SetupError("port \(name): ", error)
            }
        }
        var opened: [(descriptor: Int32, offloads: VirtioFeatures)] = taken?.opened ?? []
        taken = nil
        do throws(SetupError) {
            if opened.isEmpty { for _ in kernelQueues { opened.append(try openQueue()) } }
            try setMTU()
        } catch {
            for queue in opened { Glibc.close(queue.descriptor) }
            throw error
        }
        self.host = host
        nextCheck = SystemClock.monotonic + Self.checkNanoseconds
        host.whileHeld(by: self) {
            for (queue, found) in zip(kernelQueues, opened) {
                queue.attach(found.descriptor, offloads: found.offloads)
            }
        }
    }

    private func openQueue() throws(SetupError) -> (descriptor: Int32, offloads: VirtioFeatures) {
        var granted: Int32 = 0
        let interface = configuration.interface
        let isMulti = configuration.queues > 1
        var result = cleave_tap_open(interface, isMulti ? 1 : 0, &granted)
        // One queue may be had of a device that was made for many.
        if result == -EINVAL && !isMulti { result = cleave_tap_open(interface, 1, &granted) }
        guard result >= 0 else { throw refusal(-result) }
        var offloads: VirtioFeatures = []
        if granted & Int32(CLEAVE_TAP_CHECKSUM) != 0 { offloads.insert(.guestChecksum) }
        if granted & Int32(CLEAVE_TAP_TSO) != 0 {
            offloads.insert([.guestTSO4, .guestTSO6, .guestECN])
        }
        if granted & Int32(CLEAVE_TAP_USO) != 0 { offloads.insert([.guestUSO4, .guestUSO6]) }
        return (result, offloads)
    }

    private func refusal(_ code: Int32) -> SetupError {
        let interface = configuration.interface
        let why: String
        switch code {
        case EPERM, EACCES:
            why =
                "not permitted: it takes CAP_NET_ADMIN, or a persistent device that belongs to "
                + "this user, and write access to /dev/net/tun"
        case ENOENT, ENODEV: why = "there is no /dev/net/tun: load the kernel module tun"
        case EBUSY: why = "another process uses it, or it has no further queue"
        case EINVAL:
            why =
                configuration.queues > 1
                ? "it is no TAP device, or was made without multi_queue"
                : "it is no TAP device"
        case E2BIG: why = "it has no room for \(configuration.queues) queues"
        default: why = HostError("TAP", code: code, "cannot open").description
        }
        return SetupError("port \(name): TAP device \(interface): \(why)", code: code)
    }

    private func setMTU() throws(SetupError) {
        guard let mtu = configuration.mtu else { return }
        let result = cleave_interface_set_mtu(configuration.interface, Int32(mtu))
        if result < 0 {
            throw SetupError(
                "port \(name): ",
                HostError(
                    "MTU of \(configuration.interface)", code: -result, "cannot set \(mtu)"))
        }
    }

    public var controlDescriptors: [Int32] { [] }
    public var controlDeadline: UInt64? { host == nil ? nil : nextCheck }

    /// Lets go of a device that somebody has deleted: its descriptors would wake threads for ever.
    public func service() {
        nextCheck = SystemClock.monotonic + Self.checkNanoseconds
        guard let host, !isResting, kernelQueues.contains(where: \.isGone) else { return }
        lossCount += 1
        // [once] The interface is not there any more.
        host.log(
            LogEntry(
                "the interface \(configuration.interface) was deleted", level: .warning, port: name)
        )
        close()
    }

    public func close() {
        host?.whileHeld(by: self) { for queue in kernelQueues { queue.detach() } }
        host = nil
    }

    public var ownCounters: PortCounters {
        var sum = PortCounters()
        if lossCount > 0 { sum.events[.interfaceDeleted] = lossCount }
        return sum
    }
}

/// Names of kernel interfaces.
enum InterfaceName {
    static func check(_ interface: String, port: String) throws(SetupError) {
        let bytes = Array(interface.utf8)
        // What the kernel forbids; a % would be taken for a pattern.
        let isAllowed =
            (1...15).contains(bytes.count) && interface != "." && interface != ".."
            && bytes.allSatisfy { $0 > 32 && $0 != 47 && $0 != 58 && $0 != 37 }
        guard isAllowed else {
            throw SetupError(
                "port \(port): \"\(interface)\" is no name of an interface: need 1 to 15 bytes "
                    + "without blanks, '/', ':' and '%'")
        }
    }
}
