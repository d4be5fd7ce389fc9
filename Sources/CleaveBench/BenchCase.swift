import CleaveEngine
import CleaveGuestDriver
import CleaveHost
import CleaveTraffic
import CleaveVirtioNet

/// What buffers the driver posts.
public enum BufferKind: String, Sendable, CaseIterable, Codable {
    case mergeable, chained, single
}

/// What the application does with payload.
public enum PayloadConsumer: String, Sendable, CaseIterable, Codable {
    /// Nothing: buffers are posted again at once.
    case none
    /// Payload is copied out to an application buffer.
    case copy
    /// The application keeps the buffers for a while, fresh ones are posted.
    case take
}

/// One line of a benchmark: every axis has a value.
public struct BenchCase: Sendable, Equatable {
    /// A name of the user's own, or one made from the axes.
    public var name = ""
    public var method = RxMethod.Kind.d
    /// How slots are reported; used by method D only.
    public var report = HeaderReport.usedLength
    public var ring = RingFormat.split
    public var buffers = BufferKind.mergeable
    /// A traffic profile or the path of a capture.
    public var packet = "64"
    public var ringSize = 256
    public var burst = 32
    public var rqs = 1
    /// Bytes in a header slot.
    public var slotSize = 128
    /// Slots of each header queue.
    public var slots = 256
    /// How slots go back to the device. Unless it is chosen: in groups where RQs share a header
    /// queue, since by the tail one of them whose driver is preempted holds up all; by the tail
    /// where each has its own, since that is cheapest.
    public var slotReturn: SlotReturn {
        get { chosenSlotReturn ?? (rqs > 1 && sharing != .perRQ ? .groups : .tail) }
        set { chosenSlotReturn = newValue }
    }
    private var chosenSlotReturn: SlotReturn?
    /// Which RQs claim from one header queue.
    public var sharing = HeaderQueueSharing.all
    /// Percent of the other RQs' entries in the indirection table that name RQ 0 instead.
    public var imbalance = 0
    /// Bytes of a data buffer (not for `single`, which is as large as the packet asks for).
    public var bufferByteCount = 4096
    /// Bytes of the buffers meant for headers (methods A and C).
    public var headerBufferByteCount = 128
    /// IN_ORDER: buffers come back in the order in which the driver posted them.
    public var inOrder = false
    /// HASH_REPORT: a virtio-net header of 20 bytes in place of 12.
    public var hashReport = false
    /// Packets up to this many bytes are not split; 0 = all are.
    public var splitThreshold = 0
    /// Packets that fit a header slot go there entirely.
    public var tiny = false
    /// Slots are zeroed after the headers, to the end of a cache line.
    public var zeroPad = false
    /// Method D with report `netHeader`: the bytes before the payload get a descriptor of their
    /// own, so that payload begins where its buffer begins.
    public var alignsPayload = false
    public var consumer = PayloadConsumer.none
    /// The application reads every byte: of its copy, or where the device put it.
    public var readsPayload = false

    public init() {}

    /// The report, or nil where nothing is reported.
    public var effectiveReport: HeaderReport? { method == .d ? report : nil }

    /// All RQs claim from one header queue, or otherwise each from its own.
    public var sharedHeaderQueue: Bool {
        get { sharing == .all }
        set { sharing = newValue ? .all : .perRQ }
    }

    /// Bytes of memory for one packet's headers; 0 if they get none of their own.
    var headerPlaceByteCount: Int {
        switch method {
        case .whole: 0
        case .a, .c: headerBufferByteCount
        case .b: bufferByteCount
        case .d: slotSize
        }
    }

    /// The name in tables: the user's, or the axes that matter.
    public var displayName: String {
        if !name.isEmpty { return name }
        let how = effectiveReport.map { "\(method.rawValue)/\($0.rawValue)" } ?? method.rawValue
        let kind = ring == .split ? "" : " \(ring.rawValue)"
        return "\(packet) \(how) \(buffers.rawValue)\(kind)"
    }

    /// The last component of a capture's path, or the traffic profile.
    public var packetName: String {
        if (try? TrafficProfile.parse(packet)) != nil { return packet }
        return packet.split(separator: "/").last.map(String.init) ?? packet
    }

    /// The same without a file name's extension.
    public var trafficName: String {
        guard let dot = packetName.lastIndex(of: "."), dot != packetName.startIndex else {
            return packetName
        }
        return String(packetName[..<dot])
    }

    /// A sentence about two axes that rule each other out, whatever their sizes; nil if none do.
    public var contradiction: String? {
        guard buffers != .mergeable, method == .b || method == .c else { return nil }
        return "method \(method.rawValue) needs mergeable buffers, not \(buffers.rawValue)"
    }

    /// Checks every axis.
    /// - Throws: one sentence naming the first axis that is impossible, and why.
    public func validate() throws(SetupError) {
        do { try VirtqueueAddresses.check(size: ringSize, ring) } catch {
            throw SetupError(error.description)
        }
        guard (1...RxQueue.maximumBurst).contains(burst) else {
            throw SetupError(
                "burst \(burst) is not between 1 and \(RxQueue.maximumBurst)")
        }
        try QueuePlan.check(rqs: rqs)
        if case .groups = sharing {
            let places = Array(repeating: QueuePlan.Place(cpu: nil, node: nil), count: rqs)
            _ = try sharing.groupNumbers(of: places)
        }
        do { _ = try IndirectionTable(rqs: rqs, imbalance: imbalance) } catch {
            throw SetupError(error.description)
        }
        if buffers != .single {
            guard bufferByteCount >= 64, bufferByteCount <= 1 << 20, bufferByteCount % 64 == 0
            else {
                throw SetupError(
                    "buffer size \(bufferByteCount) is not a multiple of 64 from 64 to 1048576")
            }
        }
        if let contradiction { throw SetupError(contradiction) }
        guard headerBufferByteCount >= 64, headerBufferByteCount <= 1 << 20,
            headerBufferByteCount % 64 == 0
        else {
            throw SetupError(
                "header buffer size \(headerBufferByteCount) is not a multiple of 64 from 64 to "
                    + "1048576")
        }
        guard (0...SplitPolicy.maximumThreshold).contains(splitThreshold) else {
            throw SetupError(
                "split threshold \(splitThreshold) is not between 0 and "
                    + "\(SplitPolicy.maximumThreshold)")
        }
        do { try HeaderQueueLayout.check(slotSize: slotSize, slotCount: slots) } catch {
            throw SetupError(error.description)
        }
    }
}
