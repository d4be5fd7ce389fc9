// Between reserve and place: the header slots of a burst.

extension BurstPlan {
    /// Claims a slot for each planned packet that splits. Packets that got none are planned again,
    /// whole: they need more room in the data buffers.
    /// - Returns: the claim; the packets that still split take its slots in order.
    @inline(__always)
    mutating func claim<Queue: Virtqueue, Method: PlacementMethod>(
        _ claimer: HeaderClaimer, _ refs: UnsafePointer<PacketRef>, _ queue: inout Queue,
        _ method: Method.Type
    ) -> HeaderClaimer.Claim {
        let wanted = isUniform ? splitCount : countPlannedSplits()
        let claim =
            Method.listsSlots ? claimer.claim(wanted, into: slotList) : claimer.claim(wanted)
        if claim.count < wanted {
            var rare = queue
            replan(whole: claim.count, claimer, refs, &rare, method)
            queue = rare
        }
        return claim
    }

    func countPlannedSplits() -> Int {
        var count = 0
        var index = 0
        while index < plannedCount {
            count &+= packets[index].isSplit ? 1 : 0
            index &+= 1
        }
        return count
    }

    /// Plans again, whole, from the packet on that would take slot number `slotCount` of the burst.
    @inline(never)
    private mutating func replan<Queue: Virtqueue, Method: PlacementMethod>(
        whole slotCount: Int, _ claimer: HeaderClaimer, _ refs: UnsafePointer<PacketRef>,
        _ queue: inout Queue, _ method: Method.Type
    ) {
        list(refs, method)
        var first = 0
        var slotsLeft = slotCount
        while !packets[first].isSplit || slotsLeft > 0 {
            if packets[first].isSplit { slotsLeft &-= 1 }
            first &+= 1
        }
        // In a uniform burst the second words were not written.
        let place = isUniform ? packets[first].uniform(first, method) : packets[first]
        if isUniform { noteRun(0, first, firstSegment: 0, firstUsed: 0, method) }
        queue.rewind(toUsed: place.firstUsed)
        segments.count = place.firstSegment
        metBrokenHeaderQueue = claimer.isBroken
        let reason = metBrokenHeaderQueue ? FallbackReason.headerQueueBroken : FallbackReason.noSlot
        var index = first
        while index < packetCount {
            if packets[index].fate.dependsOnBuffers {
                packets[index].settle(packets[index].fate.undropped, keepsSplit: true)
            }
            if packets[index].isSplit {
                let run = refs + packets[index].firstRef
                let byteCount = Self.byteCount(run, packets[index].refCount)
                setNeed(index, need(byteCount, headerLength: 0, method), method)
                packets[index].settle(PlannedPacket.Fate(reason), keepsSplit: false)
            }
            index &+= 1
        }
        splitCount = slotCount
        reserve(from: first, refs, &queue, method)
    }
}
