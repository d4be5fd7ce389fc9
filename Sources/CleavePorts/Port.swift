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
    /// - Parameter packets: room for `count`.
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
}

extension PortQueue {
    public var isReceiving: Bool { true }
    public var frameLimit: Int { .max }
}

extension Port {
    public var isConnected: Bool { true }
}

/// What the threads of a switch are to a port: they can be kept away from its queues.
public protocol PortHost: AnyObject {
    /// Runs `body` while no thread uses any queue of any port, nor a packet that came in at `port`;
    /// `body` may open and close the queues of `port`. It must be short: traffic waits.
    func whileHeld(by port: any Port, _ body: () -> Void)

    /// Says one line to the operator.
    func log(_ line: String)
}

/// A port, as its switch's control thread uses it. Everything here is for that one thread.
public protocol Port: AnyObject {
    /// The name in commands and counters.
    var name: String { get }

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

    /// Counts since the port was opened.
    var counters: PortCounters { get }
}

/// What a port has done: packets into the switch (`in`), and out of it (`out`).
public struct PortCounters: Sendable, Equatable {
    public var packetsIn: UInt64 = 0
    public var bytesIn: UInt64 = 0
    public var packetsOut: UInt64 = 0
    public var bytesOut: UInt64 = 0
    /// Packets that came in and were refused, by reason.
    public var droppedIn: [String: UInt64] = [:]
    /// Packets that should have gone out and did not, by reason.
    public var droppedOut: [String: UInt64] = [:]
    /// Of `packetsOut`, those whose headers went to a header queue.
    public var splitOut: UInt64 = 0
    /// Of `packetsOut`, those that went whole although there was a header queue, by reason.
    public var wholeOut: [String: UInt64] = [:]
    /// Other things that an operator wants to know of, by name: connects, refused messages.
    public var events: [String: UInt64] = [:]

    public init() {}

    /// Adds another port's, or another time's.
    public mutating func add(_ other: PortCounters) {
        packetsIn += other.packetsIn
        bytesIn += other.bytesIn
        packetsOut += other.packetsOut
        bytesOut += other.bytesOut
        droppedIn.merge(other.droppedIn, uniquingKeysWith: +)
        droppedOut.merge(other.droppedOut, uniquingKeysWith: +)
        splitOut += other.splitOut
        wholeOut.merge(other.wholeOut, uniquingKeysWith: +)
        events.merge(other.events, uniquingKeysWith: +)
    }
}
