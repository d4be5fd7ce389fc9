import CleaveEngine
import CleaveGuestDriver
import CleaveVirtioNet

/// Packets that stayed whole because no header slot was free, and what may change it in that case.
/// The advice is that of the page Tuning, for the facts of the case.
public struct SlotAdvice: Codable, Sendable, Equatable {
    /// Packets that found no slot free.
    public var packets: UInt64
    /// Of all packets of the case that were delivered.
    public var of: UInt64
    /// Settings to try, the likeliest first, each with the reason.
    public var tries: [String]

    /// Nil if every packet found a slot.
    init?(
        _ testbed: Testbed, fallback: [String: UInt64], packets: UInt64, isPreempted: Bool
    ) {
        let sizes = Set(testbed.pool.refs.map(\.byteCount))
        self.init(
            testbed.benchCase, places: testbed.queuePlan.places,
            leastPacketByteCount: sizes.count > 1 ? sizes.min().map { Int($0) } : nil,
            noSlot: fallback[FallbackReason.noSlot.name] ?? 0, packets: packets,
            isPreempted: isPreempted)
    }

    /// - Parameters:
    ///   - places: of the RQs, which say what RQs share a queue.
    ///   - leastPacketByteCount: of the smallest packet, if there are larger ones.
    ///   - isPreempted: busy threads ran beside the drivers.
    init?(
        _ one: BenchCase, places: [QueuePlan.Place], leastPacketByteCount: Int?, noSlot: UInt64,
        packets: UInt64, isPreempted: Bool
    ) {
        if noSlot == 0 { return nil }
        (self.packets, of) = (noSlot, packets)
        let groups = (try? one.sharing.groupNumbers(of: places)) ?? []
        let sharers = Dictionary(grouping: groups, by: { $0 }).values.map(\.count).max() ?? 1
        let enough = Self.enoughSlots(one, sharers: sharers)
        var tries: [String] = []
        if one.slotReturn != .groups && (sharers > 1 || isPreempted) {
            let who = isPreempted ? "a preempted driver then holds" : "a slow driver then holds"
            tries.append("--slot-return groups (\(who) up its own group alone)")
        }
        let limit = HeaderQueueLayout.maximumSlotCount
        if one.slots < enough {
            let rqs = sharers == 1 ? "an RQ's ring" : "the rings of \(sharers) RQs"
            let groups = one.slotReturn == .groups ? " and two groups for each" : ""
            tries.append("--slots \(enough) (as many as \(rqs) can hold\(groups))")
        } else if one.slots < limit {
            let more = min(limit, 2 * one.slots)
            tries.append("--slots \(more) (drivers hold slots that have not come back)")
        }
        if one.splitThreshold == 0, let least = leastPacketByteCount {
            tries.append(
                "--split-threshold \(least) (the smallest packets leave their slots to others)")
        }
        self.tries = tries
    }

    /// Slots with which no packet of a driver that keeps up finds none, a power of two.
    private static func enoughSlots(_ one: BenchCase, sharers: Int) -> Int {
        var count = sharers * one.ringSize
        if one.slotReturn == .groups {
            count += sharers * 2 * DriverHeaderQueue.maximumGroupSize
        }
        let power = 1 << (Int.bitWidth - max(0, count - 1).leadingZeroBitCount)
        return min(HeaderQueueLayout.maximumSlotCount, power)
    }

    /// One line for people, without the case's name.
    public var words: String {
        let advice = tries.isEmpty ? "" : "; try " + tries.joined(separator: ", or ")
        let share = of == 0 ? "" : " (\(Self.percent(Double(packets) / Double(of))))"
        return "\(packets) of \(of) packets\(share) found no header slot free and stayed whole"
            + advice
    }

    private static func percent(_ share: Double) -> String {
        let tenths = Int((share * 1000).rounded())
        return tenths == 0 ? "less than 0.1 %" : "\(tenths / 10).\(tenths % 10) %"
    }
}
