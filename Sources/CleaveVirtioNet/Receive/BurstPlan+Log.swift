// The pages that a placed burst wrote, for queues that log them. After the bytes, before the
// burst is published.

extension BurstPlan {
    /// Marks what the packets of a placed burst wrote: data buffers, header slots, and the words of
    /// the header queue.
    ///
    /// Not inlined, and the plan by value: no trace of it is left in bursts without a log.
    @inline(never)
    func markWrites<Log: WriteLog>(
        _ refs: UnsafePointer<PacketRef>, in log: Log, _ claimer: HeaderClaimer,
        _ claim: HeaderClaimer.Claim
    ) {
        var plan = self
        plan.list(refs)
        var number = claim.first
        for index in 0..<plannedCount {
            let packet = plan.planned(index)
            if packet.outcome.isDropped { continue }
            if Method.claimsSlots && packet.isSplit {
                markSlot(packet, number: number, in: log, claimer)
                number = number &+ 1
            }
            plan.markBuffers(packet, index, log)
        }
        // Entries of a return ring may have been taken although nothing was claimed.
        if Method.claimsSlots && (claim.count > 0 || Method.listsGroups || metBrokenHeaderQueue) {
            log.markHeaderWords()
        }
    }

    private func markSlot<Log: WriteLog>(
        _ packet: PlannedPacket, number: UInt32, in log: Log, _ claimer: HeaderClaimer
    ) {
        let slot =
            Method.listsGroups
            ? claimer.returns.slot(Int(number), groupList) : Int(number & (claimer.slotCount &- 1))
        let used = Method.slotByteCount(
            headerLength: Int(packet.headerLength), netHeader: netHeaderByteCount)
        let padding = (0 &- used) & settings.padMask
        log.markSlot(slot &* claimer.slotSize, used &+ padding)
    }

    private func markBuffers<Log: WriteLog>(
        _ packet: PlannedPacket, _ index: Int, _ log: Log
    ) {
        var segment = segments.base + packet.firstSegment
        // Of a run's packet in two parts the first does not fill its piece, and the second begins a
        // piece of its own; where a packet was reserved by itself, unused bytes were cut out.
        if Method.partCount == 2 && packet.isSimple && packet.isSplit {
            log.mark(segment[0].pointer, needs[2 &* index])
            log.mark(segment[1].pointer, needs[2 &* index &+ 1])
            return
        }
        var left = totalNeed(index)
        while left > 0 {
            let part = min(left, Int(segment.pointee.byteCount))
            if part > 0 { log.mark(segment.pointee.pointer, part) }
            left &-= part
            segment += 1
        }
    }
}
