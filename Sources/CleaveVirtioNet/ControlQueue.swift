// control path
//
// The control queue of a device: a driver's commands come out as bytes in host memory, and its
// answer goes back. Commands are rare, so arrays and closures are fine here.

import CleaveHost
import CleaveRings

/// Everything a control queue is made from.
public struct ControlQueueConfiguration: Sendable {
    public var virtqueue: VirtqueueAddresses
    /// As negotiated: those of the ring.
    public var features: VirtioFeatures
    public var memory: GuestMemory
    /// Calls the driver, as for `TxQueueConfiguration`; -1: the owner is only told.
    public var callDescriptor: Int32
    /// As for `TxQueueConfiguration`.
    package var observation: QueueObservation?

    public init(
        virtqueue: VirtqueueAddresses, features: VirtioFeatures, memory: GuestMemory,
        callDescriptor: Int32 = -1
    ) {
        self.virtqueue = virtqueue
        self.features = features
        self.memory = memory
        self.callDescriptor = callDescriptor
    }
}

extension ControlQueueConfiguration {
    /// The device's side of the ring, which asks to be kicked, and where it logs what it writes.
    func makeRing() throws(SetupError) -> (any ControlRing, PageLog?) {
        var ring: any ControlRing =
            switch virtqueue.format {
            case .split: try SplitControlRing(virtqueue, features: features, memory: memory)
            case .packed: try PackedControlRing(virtqueue, features: features, memory: memory)
            }
        let log = try observation?.pages(virtqueue, memory)
        if let log { ring.observe(log, observation?.record?.writer) }
        ring.setKicks(enabled: true)
        return (ring, log)
    }
}

/// The first byte of an answer.
public enum ControlAnswer {
    /// VIRTIO_NET_OK.
    public static let ok: UInt8 = 0
    /// VIRTIO_NET_ERR.
    public static let error: UInt8 = 1
}

/// What a control queue has done since it was made.
public struct ControlCounters: Sendable, Equatable {
    /// Commands that the handler answered.
    public var commands: UInt64 = 0
    /// Of those, commands it answered with an error.
    public var refused: UInt64 = 0
    /// Chains without class and command; answered with an error.
    public var runts: UInt64 = 0
    /// Commands longer than `ControlQueue.maximumByteCount`; answered with an error.
    public var tooLong: UInt64 = 0
    /// Chains with no byte for an answer; not carried out.
    public var unanswerable: UInt64 = 0
    /// Chains in more pieces than `ControlQueue.maximumSegments`; neither carried out nor answered.
    public var tooManySegments: UInt64 = 0
}

/// One control queue. One thread at a time.
public final class ControlQueue: @unchecked Sendable {
    // SAFETY: documented to be used from one thread at a time.

    /// Longest command, class and command included: a MAC table of 10,000 addresses fits.
    public static let maximumByteCount = 1 << 16
    /// Most pieces of a chain.
    public static let maximumSegments = 512

    public let configuration: ControlQueueConfiguration
    public private(set) var counters = ControlCounters()
    private var ring: any ControlRing
    private let log: PageLog?
    private let call: NotificationDescriptor?
    private let segments: UnsafeMutablePointer<Segment>
    private var wantsKicks = true

    /// Checks a configuration and makes the queue, which asks to be kicked.
    public init(_ configuration: ControlQueueConfiguration) throws(SetupError) {
        self.configuration = configuration
        call = try .given(configuration.callDescriptor, for: .call)
        (ring, log) = try configuration.makeRing()
        segments = .allocate(capacity: Self.maximumSegments)
    }

    deinit { segments.deallocate() }

    /// Takes the commands that the driver has posted, at most as many as the ring holds, and
    /// answers each before it takes the next.
    /// - Parameter handler: carries out a command and gives the answer's first byte
    ///   (`ControlAnswer`). The driver sees the answer after the handler has returned, so all that
    ///   the command is to change must have changed by then (virtio 1.4 asks it of pairs of queues:
    ///   none above the number is used once the answer is there). The data are a copy that the
    ///   driver cannot change.
    /// - Returns: chains given back, and events for the owner.
    public func poll(
        _ handler: (_ class: UInt8, _ command: UInt8, _ data: [UInt8]) -> UInt8
    ) -> (count: Int, events: QueueEvents) {
        poll(until: { false }, handler)
    }

    /// The same, until a command is the last one.
    /// - Parameter isLast: asked after each answer; no further command is taken if it is true.
    package func poll(
        until isLast: () -> Bool,
        _ handler: (_ class: UInt8, _ command: UInt8, _ data: [UInt8]) -> UInt8
    ) -> (count: Int, events: QueueEvents) {
        var count = 0
        var wantsCall = false
        var isArmed = false
        while count < configuration.virtqueue.size, ring.fault == .none {
            var list = SegmentList(base: segments, capacity: Self.maximumSegments)
            guard let chain = ring.pop(&list) else {
                // With an event index the driver kicks once for each index that it is shown: it is
                // shown the next one, and what was posted before it saw that is looked for once.
                if isArmed || !wantsKicks { break }
                ring.setKicks(enabled: true)
                isArmed = true
                continue
            }
            isArmed = false
            let written = serve(chain, list, handler)
            wantsCall = ring.use(chain, byteCount: written) || wantsCall
            count += 1
            if isLast() { break }
        }
        return (count, wantsCall ? callDriver() : [])
    }

    /// - Returns: bytes written: 1, or 0 if there was no place for an answer.
    private func serve(
        _ chain: ControlChain, _ list: SegmentList,
        _ handler: (UInt8, UInt8, [UInt8]) -> UInt8
    ) -> Int {
        if chain.isScattered {
            counters.tooManySegments += 1
            return 0
        }
        var readable: [UInt8] = []
        var index = 0
        var left = chain.readableByteCount
        let isTooLong = left > Self.maximumByteCount
        while left > 0 {
            let segment = list.base[index]
            if !isTooLong {
                readable += UnsafeRawBufferPointer(
                    start: segment.pointer, count: Int(segment.byteCount))
            }
            left -= Int(segment.byteCount)
            index += 1
        }
        // Segments are never empty: the first writable byte, if there is one, begins here.
        guard chain.hasAnswer else {
            counters.unanswerable += 1
            return 0
        }
        let answer = carryOut(readable, isTooLong, handler)
        list.base[index].pointer.storeBytes(of: answer, as: UInt8.self)
        log?.mark(list.base[index].pointer, 1)
        return 1
    }

    private func carryOut(
        _ bytes: [UInt8], _ isTooLong: Bool, _ handler: (UInt8, UInt8, [UInt8]) -> UInt8
    ) -> UInt8 {
        if isTooLong {
            counters.tooLong += 1
            return ControlAnswer.error
        }
        if bytes.count < 2 {
            counters.runts += 1
            return ControlAnswer.error
        }
        let answer = handler(bytes[0], bytes[1], Array(bytes.dropFirst(2)))
        counters.commands += 1
        counters.refused += answer == ControlAnswer.ok ? 0 : 1
        return answer
    }

    private func callDriver() -> QueueEvents {
        guard let call else { return .call }
        return call.sender.send() ? [] : .callLost
    }

    /// Asks the driver to kick when it posts commands, or not to.
    public func setKicks(enabled: Bool) {
        wantsKicks = enabled
        ring.setKicks(enabled: enabled)
    }
    /// Where the queue is resumed.
    public var base: UInt16 { ring.base }
    /// Why the driver's virtqueue is broken, or `.none`.
    public var fault: QueueFault { ring.fault }
}
