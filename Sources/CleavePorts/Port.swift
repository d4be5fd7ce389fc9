// What every port of a switch is: the end of a wire to a guest, a kernel interface or a file.
//
// A switch and its ports meet once per burst. Packets that came in at a port stay where they lie,
// in the guest's or the port's own memory, until the switch has copied them to where they go: that
// is the one copy.

import CleaveHost
import CleaveVirtioNet

/// One queue of a port, as a thread of the switch uses it: one thread at a time. It never blocks,
/// allocates or throws.
public protocol PortQueue: AnyObject {
    /// Takes up to `count` packets that came in at the port, in order. They stay out, and their
    /// bytes readable, until they are completed. What they say of themselves is checked: offloads
    /// lie inside the packet.
    /// - Parameters:
    ///   - packets: room for `count`.
    ///   - count: most packets to describe.
    /// - Returns: how many.
    func receive(_ packets: UnsafeMutablePointer<TxPacket>, count: Int) -> Int

    /// Gives back the `count` packets that were received longest ago.
    func complete(_ count: Int)

    /// Sends whole packets out of the port, in order. Nothing of them is used once this returns.
    /// - Parameters:
    ///   - refs: the references of whole packets, those with offloads after a context
    ///     (`PacketRef.init(context:)`). Their offloads are among `offloads`.
    ///   - count: how many references.
    /// - Returns: references consumed: packets that were sent, or dropped and counted by the port.
    ///   Fewer than `count` if the far side has no room now; they can be tried again.
    func transmit(_ refs: UnsafeMutablePointer<PacketRef>, count: Int) -> Int

    /// What the far side takes unfinished: bits of `VirtioFeatures.receive` such as `guestTSO4`.
    /// Constant while the threads of the switch run.
    var offloads: VirtioFeatures { get }

    /// Bytes of the longest frame that the far side takes, unless it is to be segmented: its MTU
    /// and an Ethernet header, to which VLAN tags come. `Int.max` if it has agreed on no MTU.
    /// Constant while the threads of the switch run.
    var frameLimit: Int { get }

    /// Whether packets can be sent out of it. Constant while the threads of the switch run.
    var isOpen: Bool { get }

    /// Whether packets can come in at it. Constant while the threads of the switch run.
    var isReceiving: Bool { get }

    /// Readable when packets may have come in, once `setWakeups(enabled: true)` was called; -1 for
    /// a queue that must be polled.
    var wakeDescriptor: Int32 { get }

    /// Before and after a sleep of the thread. The next `receive` sees what came before.
    func setWakeups(enabled: Bool)

    /// Counts since the port was opened. For the control thread; the queue's may be counting.
    var counters: PortCounters { get }

    /// Asks the kernel where its memory lies; nil if it has none now. For the control thread.
    var residence: PageResidence? { get }
}

extension PortQueue {
    public var isReceiving: Bool { true }
    public var frameLimit: Int { .max }
    public var counters: PortCounters { PortCounters() }
    public var residence: PageResidence? { nil }
}

extension Port {
    public var isConnected: Bool { true }
    public var headerQueue: HeaderQueueState? { nil }
    public var negotiatedFeatures: UInt64? { nil }
    public var offeredFeatures: UInt64 { 0 }

    /// Counts since the port was opened, all its queues' together.
    public var counters: PortCounters {
        var sum = ownCounters
        for queue in queues { sum.add(queue.counters) }
        return sum
    }
}

/// What the threads of a switch are to a port: they can be kept away from its queues.
public protocol PortHost: AnyObject {
    /// Runs `body` while no thread uses any queue of any port, nor a packet that came in at `port`;
    /// `body` may open and close the queues of `port`. It must be short: traffic waits.
    /// - Returns: since when traffic waited, on the monotonic clock in nanoseconds.
    @discardableResult
    func whileHeld(by port: any Port, _ body: () -> Void) -> UInt64

    /// Says one line to the operator.
    func log(_ entry: LogEntry)

    /// What the requests of its ports have cost lately: the same object for all of them.
    var holdShares: HoldShares { get }
}

/// A port, as its switch's control thread uses it. Everything here is for that one thread.
public protocol Port: AnyObject {
    /// The name in commands and counters.
    var name: String { get }

    /// What its far side is.
    var type: PortType { get }

    /// One queue for each pair that may ever be used, the same objects for the port's life. Those
    /// that are not open receive nothing.
    var queues: [any PortQueue] { get }

    /// Whether somebody may be at the far side. When nobody is any more, what was learned of it is
    /// forgotten; queues that close for a moment are no reason for that.
    var isConnected: Bool { get }

    /// Opens the port; from now on it may use `host`.
    /// - Throws: what is wrong, naming the port.
    func open(for host: any PortHost) throws(SetupError)

    /// Descriptors that the control thread waits at, for reading.
    var controlDescriptors: [Int32] { get }

    /// When `service` has to be called at the latest, in nanoseconds of the monotonic clock; nil if
    /// only for a descriptor.
    var controlDeadline: UInt64? { get }

    /// Does what is to be done at the descriptors and in time; never blocks.
    func service()

    /// Ends the port: takes what waits in its queues no more, and lets go of everything.
    func close()

    /// Counts since the port was opened, of what is no queue's.
    var ownCounters: PortCounters { get }

    /// The header queue that its driver has set up; nil if there is none.
    var headerQueue: HeaderQueueState? { get }

    /// Feature bits that are offered to the far side's driver, and those it agreed to; nil while no
    /// driver has.
    var offeredFeatures: UInt64 { get }
    var negotiatedFeatures: UInt64? { get }
}

/// A port at whose far side nothing comes and goes: it has nothing to wait for.
public protocol UnattendedPort: Port {}

extension UnattendedPort {
    public var controlDescriptors: [Int32] { [] }
    public var controlDeadline: UInt64? { nil }
    public func service() {}
}
