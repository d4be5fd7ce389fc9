import CleaveHost
import CleaveVhostUser
import CleaveVirtioNet

/// A header queue, and how packets that use it are reported.
struct LinkedHeaderQueue {
    let queue: HeaderQueue
    let report: HeaderReport
    /// The return ring of the RQ that is linked, if each has one.
    let returnRing: Int
}

/// One queue pair of a guest: packets come in from its transmit queue and go out to its receive
/// queue.
///
/// The control thread starts and stops its queues while the switch is held; a thread of the switch
/// uses it while it is not.
final class VhostUserQueue: PortQueue {
    private var rx: Running<RxQueue>?
    private var tx: Running<TxQueue>?
    /// The same queues, for the packet path: reached without counting references.
    private var rxQueue: Unmanaged<RxQueue>?
    private var txQueue: Unmanaged<TxQueue>?
    /// What its receive queue takes header slots from, running or not.
    private var headerQueue: LinkedHeaderQueue?
    /// Counts of queues that were stopped.
    private var earlier = PortCounters()
    private var features = VirtioFeatures()
    /// VIRTIO_NET_F_MTU was negotiated.
    private var hasMTU = false
    /// The MTU that was offered to the driver; nil if none was.
    var mtu: Int?
    /// Packets of no more bytes stay whole even if there is a header queue.
    var splitThreshold = 0
    /// The driver wants packets in this pair.
    var isWanted = true
    /// A frame that says where a guest is, sent before anything else.
    private var announcement: UnsafeMutableRawPointer?
    private var isAnnouncing = false
    private var announcesOut = 0
    /// Where a receive queue stood that was dropped.
    private var lostBase: UInt16 = 0

    /// A queue with what it needs to live.
    private struct Running<Queue> {
        let queue: Queue
        let arena: MemoryArena
        let mappings: MappedMemory
        let kick: NotificationDescriptor?
        /// Kept where the queue may have to be made anew while its ring runs.
        var call: NotificationDescriptor?
    }

    deinit { announcement?.deallocate() }

    // MARK: PortQueue

    func receive(_ packets: UnsafeMutablePointer<TxPacket>, count: Int) -> Int {
        guard let txQueue else { return 0 }
        // SAFETY: `tx` keeps it, and is replaced only while no thread is here.
        return txQueue._withUnsafeGuaranteedRef { queue in
            if isAnnouncing && count > 0 {
                // First of those that are out, so that `complete` knows it; what is out comes back
                // within a hold.
                return queue.heldCount == 0 ? announce(packets) : 0
            }
            return queue.dequeue(packets, count: count).count
        }
    }

    @inline(never)
    private func announce(_ packets: UnsafeMutablePointer<TxPacket>) -> Int {
        guard let announcement else { return 0 }
        isAnnouncing = false
        announcesOut = 1
        packets.initialize(to: TxPacket(announcement, byteCount: Self.announcementByteCount))
        return 1
    }

    func complete(_ count: Int) {
        var count = count
        if announcesOut > 0 && count > 0 {
            announcesOut = 0
            count &-= 1
            if count == 0 { return }
        }
        // SAFETY: as in `receive`.
        txQueue?._withUnsafeGuaranteedRef { _ = $0.complete(count) }
    }

    func transmit(_ refs: UnsafeMutablePointer<PacketRef>, count: Int) -> Int {
        // A switch sends to queues that are open.
        guard let rxQueue else { return 0 }
        // SAFETY: as in `receive`.
        return rxQueue._withUnsafeGuaranteedRef { queue in
            var done = 0
            while done < count {
                let result = queue.enqueue(refs + done, count: count &- done)
                if result.consumed == 0 { break }
                done &+= result.consumed
            }
            return done
        }
    }

    var offloads: VirtioFeatures { features }
    /// Virtio 1.4, "Device Initialization" of the network device: beyond that the device must not
    /// pass packets, once the driver has agreed.
    var frameLimit: Int {
        guard hasMTU, let mtu else { return .max }
        return mtu + Self.ethernetHeaderByteCount
    }
    var isOpen: Bool { rx != nil && isWanted }
    var isReceiving: Bool { tx != nil }
    var wakeDescriptor: Int32 { tx?.kick?.fileDescriptor ?? -1 }

    func setWakeups(enabled: Bool) {
        guard let tx else { return }
        tx.queue.setKicks(enabled: enabled)
        if !enabled { tx.kick?.drain() }
    }

    // MARK: The control thread

    /// The guest's receive queue.
    /// - Parameter relinks: header queues may come and go while it runs.
    func startReceiving(
        _ setup: VringSetup, node: Int?, relinks: Bool = false
    ) throws(SetupError) {
        let features = VirtioFeatures(rawValue: setup.features)
        var configuration = RxQueueConfiguration(
            virtqueue: setup.virtqueue, features: features.intersection(.receive),
            memory: setup.memory, method: .whole, shortage: .wait,
            callDescriptor: setup.callDescriptor)
        configuration.observation = setup.observation
        var call: NotificationDescriptor?
        if relinks && setup.callDescriptor >= 0 {
            do {
                call = try NotificationDescriptor(duplicating: setup.callDescriptor, for: .call)
            } catch { throw SetupError("", error) }
        }
        try useReceiving(configuration, setup.mappings, call: call, node: node)
        self.features = features.intersection(.receive)
        hasMTU = features.contains(Self.mtuFeature)
    }

    /// Makes the receive queue, split or not, and puts it in the place of the one before.
    private func useReceiving(
        _ unlinked: RxQueueConfiguration, _ mappings: MappedMemory,
        call: NotificationDescriptor?, node: Int?
    ) throws(SetupError) {
        var configuration = unlinked
        configuration.method = headerQueue.map { .headerQueue($0.report) } ?? .whole
        configuration.splitPolicy = SplitPolicy(
            threshold: headerQueue == nil ? 0 : splitThreshold)
        configuration.headerQueue = headerQueue?.queue
        configuration.returnRing = headerQueue?.returnRing ?? 0
        let arena = try Self.arena(configuration.arenaByteCount, node)
        let queue = try RxQueue(configuration, in: arena)
        rx = Running(queue: queue, arena: arena, mappings: mappings, kick: nil, call: call)
        rxQueue = .passUnretained(queue)
    }

    /// Packets are split from now on, or not any more. A queue that runs goes on where it stood.
    /// - Throws: if the queue cannot be made anew; it is as it was, then.
    func link(_ new: LinkedHeaderQueue?, node: Int?) throws(SetupError) {
        let before = headerQueue
        headerQueue = new
        // A broken queue stays that: one made anew would not know. It claims no slots.
        guard let running = rx, running.queue.fault == .none, before != nil || new != nil else {
            return
        }
        var configuration = running.queue.configuration
        configuration.virtqueue.base = running.queue.base
        configuration.callDescriptor = running.call?.fileDescriptor ?? -1
        do throws(SetupError) {
            try useReceiving(configuration, running.mappings, call: running.call, node: node)
        } catch {
            headerQueue = before
            throw error
        }
        Self.add(running.queue.counters, to: &earlier)
    }

    /// Lets go of a queue that cannot go on.
    func dropReceiving() {
        headerQueue = nil
        lostBase = stopReceiving()
    }

    /// The guest's transmit queue.
    func startSending(_ setup: VringSetup, node: Int?) throws(SetupError) {
        let features = VirtioFeatures(rawValue: setup.features)
        var configuration = TxQueueConfiguration(
            virtqueue: setup.virtqueue, features: features.intersection(.transmit),
            memory: setup.memory, callDescriptor: setup.callDescriptor)
        configuration.observation = setup.observation
        let arena = try Self.arena(configuration.arenaByteCount, node)
        var kick: NotificationDescriptor?
        if setup.kickDescriptor >= 0 {
            do {
                kick = try NotificationDescriptor(duplicating: setup.kickDescriptor, for: .kick)
            } catch { throw SetupError("", error) }
        }
        let queue = try TxQueue(configuration, in: arena)
        tx = Running(queue: queue, arena: arena, mappings: setup.mappings, kick: kick)
        txQueue = .passUnretained(queue)
    }

    private static func arena(_ byteCount: Int, _ node: Int?) throws(SetupError) -> MemoryArena {
        do { return try MemoryArena(byteCount: byteCount, node: node, pages: .small) } catch {
            throw SetupError("queue memory: ", error)
        }
    }

    /// - Returns: where the queue is resumed; 0 if it is not started.
    func stopReceiving() -> UInt16 {
        guard let running = rx else { return lostBase }
        lostBase = 0
        Self.add(running.queue.counters, to: &earlier)
        // Its arena goes with it: the base is read before.
        let base = running.queue.base
        rxQueue = nil
        rx = nil
        return base
    }

    /// As `stopReceiving`. Nothing of the queue is out.
    func stopSending() -> UInt16 {
        guard let running = tx else { return 0 }
        assert(running.queue.heldCount == 0, "what is out goes back before the switch is held")
        Self.add(running.queue.counters, to: &earlier)
        let base = running.queue.base
        txQueue = nil
        tx = nil
        announcesOut = 0
        return base
    }

    var rxFault: QueueFault { rx?.queue.fault ?? .none }
    var txFault: QueueFault { tx?.queue.fault ?? .none }

    private static let mtuFeature = VirtioFeatures(rawValue: 1 << 3)
    private static let ethernetHeaderByteCount = 14

    /// RARP request from and for `mac`: what switches learn a guest's new place by.
    private static let announcementByteCount = 60

    func announce(mac: [UInt8]) {
        guard mac.count == 6 else { return }
        let frame: UnsafeMutableRawPointer
        if let announcement {
            frame = announcement
        } else {
            frame = .allocate(byteCount: Self.announcementByteCount, alignment: 8)
            announcement = frame
        }
        var bytes = [UInt8](repeating: 0xff, count: 6) + mac
        // Ethertype RARP; Ethernet, IPv4, address lengths 6 and 4, operation 3 (RFC 903).
        bytes += [0x80, 0x35, 0, 1, 8, 0, 6, 4, 0, 3]
        bytes += mac + [0, 0, 0, 0] + mac + [0, 0, 0, 0]
        bytes += [UInt8](repeating: 0, count: Self.announcementByteCount - bytes.count)
        frame.copyMemory(from: bytes, byteCount: Self.announcementByteCount)
        isAnnouncing = true
    }

    /// The address of a guest whose announcement is not sent yet.
    var announcedMAC: [UInt8]? {
        guard isAnnouncing, let announcement else { return nil }
        return (6..<12).map { announcement.load(fromByteOffset: $0, as: UInt8.self) }
    }

    // MARK: Counters

    /// Of the receive queue's memory, or else of the transmit queue's.
    var residence: PageResidence? {
        (rx?.arena ?? tx?.arena).map { $0.residence("queue", node: $0.node) }
    }

    var counters: PortCounters {
        var sum = earlier
        if let queue = rx?.queue { Self.add(queue.counters, to: &sum) }
        if let queue = tx?.queue { Self.add(queue.counters, to: &sum) }
        return sum
    }

    private static func add(_ counters: RxCounters, to sum: inout PortCounters) {
        var out = QueueCounters()
        out.packets = counters.packets
        out.bytes = counters.bytes
        out.bursts = counters.bursts
        out.emptyPolls = counters.emptyPolls
        out.calls = counters.calls
        out.lostCalls = counters.lostCalls
        for (reason, count) in counters.dropped { out.dropped[reason.name] = count }
        out.split = counters.split
        out.tiny = counters.tiny
        for (reason, count) in counters.fallback { out.whole[reason.name] = count }
        out.buffers = counters.buffers
        out.slots = counters.slots
        out.claimRetries = counters.claimRetries
        out.undersizedBuffers = counters.undersizedBuffers
        out.emptyDescriptors = counters.emptyDescriptors
        sum.outgoing.add(out)
    }

    private static func add(_ counters: TxCounters, to sum: inout PortCounters) {
        var into = QueueCounters()
        into.packets = counters.packets
        into.bytes = counters.bytes
        into.bursts = counters.bursts
        into.emptyPolls = counters.emptyPolls
        into.calls = counters.calls
        into.lostCalls = counters.lostCalls
        for (reason, count) in counters.dropped { into.dropped[reason.name] = count }
        sum.incoming.add(into)
    }
}
