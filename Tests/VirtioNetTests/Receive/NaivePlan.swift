// The result of each method's rules for a burst, worked out packet by packet on arrays: the used
// length of every buffer, and the outcome of every packet.
import CleaveVirtioNet

/// The queue's properties that the rules depend on.
struct NaiveRules {
    let method: RxMethod
    let netHeaderByteCount: Int
    let mergeable: Bool
    let ringSize: Int
    let slotSize: Int
    let policy: SplitPolicy
    let features: VirtioFeatures
    let dropsOnShortage: Bool

    /// Bytes of packet that a slot holds.
    private var slotRoom: Int {
        switch method {
        case .headerQueue(.netHeader): slotSize
        case .headerQueue: slotSize - netHeaderByteCount
        default: 0
        }
    }

    /// Bytes in a packet's first buffer before any of its own.
    func prefix(isSplit: Bool) -> Int {
        switch method {
        case .whole: netHeaderByteCount
        case _ where method.namesSlotsInUsedEntries: isSplit ? 0 : netHeaderByteCount
        default: netHeaderByteCount + 8
        }
    }

    /// The part of the outcome that the packet alone decides.
    func intent(_ packet: PacketPool.Packet) -> NaiveIntent {
        let count = packet.bytes.count
        if let offloads = packet.source.offloads,
            let reason = NaiveOffload.refusal(offloads, packet.bytes, features)
        {
            return .drop(reason)
        }
        if count < 14 { return .drop(.runt) }
        if count > 65589 { return .drop(.tooLong) }
        if method == .whole { return .whole(nil) }
        if policy.placesTinyPackets && count <= slotRoom { return .tiny }
        if count <= policy.threshold { return .whole(.belowThreshold) }
        if packet.headerLength == 0 { return .whole(.notSplittable) }
        if method.needsHeaderQueue && packet.headerLength > slotRoom {
            return .whole(.headerTooLong)
        }
        // Half of a length is left for bytes.
        if method == .headerQueue(.usedLength) && count - packet.headerLength > 0xffff {
            return .whole(.notSplittable)
        }
        return .split(packet.headerLength)
    }
}

enum NaiveIntent: Equatable {
    case drop(DropReason)
    case whole(FallbackReason?)
    case split(Int)
    case tiny
}

/// Outcome of one packet.
struct NaiveFate {
    var drop: DropReason?
    var fallback: FallbackReason?
    /// Headers that lie apart; all of it if tiny.
    var headerLength = 0
    var isTiny = false
    /// Used lengths of its own buffers.
    var lengths: [Int] = []
    var skipped = 0
    var isMisfit = false
    /// Buffers given back before it.
    var undersizedBuffers = 0
    var isSplit: Bool { headerLength > 0 }
}

struct NaivePlan {
    let rules: NaiveRules
    private(set) var fates: [NaiveFate] = []
    /// Buffers given back before a packet that found too few.
    private(set) var trailingUndersized = 0
    private var next = 0

    /// Plans a burst over `buffers`.
    /// - Parameter slots: header slots that are free.
    init(
        _ rules: NaiveRules, _ packets: [PacketPool.Packet], _ buffers: [PostedBuffer], slots: Int
    ) {
        self.rules = rules
        var starts: [Int] = []
        for packet in packets {
            starts.append(next)
            if !add(packet, buffers, takesSlot: true) { break }
        }
        if !rules.method.needsHeaderQueue { return }
        // Slots go to the first packets that are delivered split; from the next such one on, all
        // are whole.
        let split = fates.indices.filter { fates[$0].isSplit && fates[$0].drop == nil }
        guard split.count > slots else { return }
        let first = split[slots]
        next = starts[first]
        fates.removeSubrange(first...)
        trailingUndersized = 0
        for packet in packets[first...] where !add(packet, buffers, takesSlot: false) { break }
    }

    /// All used lengths, in order.
    var lengths: [Int] {
        fates.flatMap { Array(repeating: 0, count: $0.undersizedBuffers) + $0.lengths }
            + Array(repeating: 0, count: trailingUndersized)
    }

    /// - Returns: whether the next packet may be tried.
    private mutating func add(
        _ packet: PacketPool.Packet, _ buffers: [PostedBuffer], takesSlot: Bool
    ) -> Bool {
        var fate = NaiveFate()
        switch rules.intent(packet) {
        case .drop(let reason):
            fate.drop = reason
            fates.append(fate)
            return true
        case .whole(let reason): fate.fallback = reason
        case .split(let length): fate.headerLength = length
        case .tiny:
            fate.headerLength = packet.bytes.count
            fate.isTiny = true
        }
        if fate.isSplit && !takesSlot && rules.method.needsHeaderQueue {
            fate = NaiveFate(fallback: .noSlot)
        }
        let enough = place(packet.bytes.count, buffers[next...], &fate)
        next += fate.undersizedBuffers
        if !enough {
            if !rules.dropsOnShortage {
                trailingUndersized = fate.undersizedBuffers
                return false
            }
            fate.drop = .noBuffer
        }
        if fate.drop != nil { fate.lengths = [] }
        next += fate.lengths.count
        fates.append(fate)
        return true
    }

    /// - Returns: false if the buffers ran out.
    private func place(
        _ count: Int, _ buffers: ArraySlice<PostedBuffer>, _ fate: inout NaiveFate
    ) -> Bool {
        let inSlot = rules.method.needsHeaderQueue ? fate.headerLength : 0
        var left = rules.prefix(isSplit: fate.isSplit) + count - inSlot
        for buffer in buffers {
            let isFirst = fate.lengths.isEmpty
            let capacity = buffer.capacity
            let least = max(1, rules.prefix(isSplit: fate.isSplit))
            if isFirst && capacity < least && capacity < left {
                fate.undersizedBuffers += 1
                continue
            }
            let room = isFirst ? lead(buffer, left, &fate) : further(capacity, left, &fate)
            if room >= left {
                fate.lengths.append(left)
                return true
            }
            fate.lengths.append(room)
            left -= room
            if !rules.mergeable || fate.lengths.count == rules.ringSize {
                fate.drop = rules.mergeable ? .tooManyBuffers : .bufferTooSmall
                return true
            }
        }
        return false
    }

    /// Bytes that a packet's first buffer takes.
    private func lead(_ buffer: PostedBuffer, _ left: Int, _ fate: inout NaiveFate) -> Int {
        let capacity = buffer.capacity
        guard fate.isSplit, !rules.method.needsHeaderQueue else { return capacity }
        let lead = rules.prefix(isSplit: true) + fate.headerLength
        let isChain = rules.method == .headerDescriptor
        let border = isChain ? buffer.pieces.first { $0.count > 0 }?.count ?? 0 : capacity
        if border < lead {
            fate.headerLength = 0
            fate.fallback = .headerTooLong
            return capacity
        }
        if isChain && border == capacity && left > lead {
            fate.headerLength = 0
            fate.fallback = .noPayloadDescriptor
            return capacity
        }
        if case .alternating(let small) = rules.method { fate.isMisfit = capacity > small }
        return capacity - (border - lead)
    }

    private func further(_ capacity: Int, _ left: Int, _ fate: inout NaiveFate) -> Int {
        guard case .alternating(let small) = rules.method else { return capacity }
        // Empty buffers are skipped by whole packets too.
        let isSkipped = capacity == 0 || fate.isSplit && capacity <= small && capacity < left
        fate.skipped += isSkipped ? 1 : 0
        return isSkipped ? 0 : capacity
    }
}
