// Pass 2: buffers for every packet, checked and translated, before a byte is written; then the
// header slots, exactly as many as the packets with buffers need, in one claim.

extension BurstPlan {
    /// Reserves buffers for the packets from number `first` on, until packets or buffers run out,
    /// or a buffer is offered twice.
    ///
    /// `@_transparent`, since in spite of `@inline(__always)` the compiler leaves a call in some
    /// specialisations, and then copies the queue to memory and back for every burst.
    @_transparent
    mutating func reserve<Queue: Virtqueue>(
        from first: Int, _ refs: UnsafePointer<PacketRef>, _ queue: inout Queue
    ) {
        let firstSegment = segments.count
        let firstUsed = queue.usedCount
        // Locals whose address is never taken: their cursors stay in registers.
        var ring = queue
        var list = segments
        let run = popRun(from: first, &ring, &list)
        queue = ring
        segments = list
        plannedCount = first &+ run
        if run < packetCount || firstUsed != 0 || !isUniform {
            if form == .needs { onCopy(&self) { $0.list(refs) } }
            form = .full
            noteRun(first, run, firstSegment: firstSegment, firstUsed: firstUsed)
        }
        if plannedCount < packetCount { onCopy(&queue) { reserveRest(&$0) } }
        if !queue.headsAreInSequence(step: Method.Buffer.descriptorCount),
            let duplicate = queue.firstDuplicate()
        {
            onCopy(&queue) { endPlan(at: duplicate, refs, &$0) }
        }
        if undersizedStreak > 0 && (isUniform ? plannedCount > 0 : placesAny(from: first)) {
            undersizedStreak = 0
        }
    }

    /// Continues with the first packet that fits no run: one by one, with runs between.
    @inline(never)
    private mutating func reserveRest<Queue: Virtqueue>(
        _ queue: inout Queue
    ) {
        var index = plannedCount
        while index < packetCount {
            if !reserveOne(packets + index, totalNeed(index), &queue) { break }
            index &+= 1
            let firstSegment = segments.count
            let firstUsed = queue.usedCount
            var list = segments
            let run = popRun(from: index, &queue, &list)
            segments = list
            noteRun(index, run, firstSegment: firstSegment, firstUsed: firstUsed)
            index &+= run
        }
        plannedCount = index
    }

    /// Reserves buffers for the longest run of packets that each need only plain descriptors.
    /// - Returns: how many.
    @inline(__always)
    private mutating func popRun<Queue: Virtqueue>(
        from first: Int, _ queue: inout Queue, _ list: inout SegmentList
    ) -> Int {
        let segmentsOut = list.base + list.count
        let firstUsed = queue.usedCount
        let left = (packetCount &- first) &* Method.bufferCount
        var taken = queue.popRun(
            needs + first &* Method.partCount, count: left, into: &list, Method.Buffer.self)
        if Method.bufferCount == 2 && taken & 1 != 0 {
            // Half a packet: both halves are left to `reserveOne`.
            taken &-= 1
            queue.rewind(toUsed: firstUsed &+ taken)
            list.count &-= 1
        }
        let run = taken / Method.bufferCount
        if Method.skipsSmallBuffers { noteMisfits(segmentsOut, run) }
        return run
    }

    // MARK: Header slots

    /// Claims a slot for each planned packet that splits. Packets that got none are planned again,
    /// whole: they need more room in the data buffers.
    /// - Returns: the claim; the packets that still split take its slots in order.
    @inline(__always)
    mutating func claim<Queue: Virtqueue>(
        _ claimer: HeaderClaimer, _ refs: UnsafePointer<PacketRef>, _ queue: inout Queue
    ) -> HeaderClaimer.Claim {
        let wanted = isUniform ? splitCount : countPlannedSplits()
        let claim =
            Method.listsGroups ? claimer.claim(wanted, into: groupList) : claimer.claim(wanted)
        if claim.count < wanted {
            onCopy(&queue) { replan(whole: claim.count, claimer, refs, &$0) }
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

    /// Plans again, whole, the packets from the one on that would take slot number `slotCount`.
    @inline(never)
    private mutating func replan<Queue: Virtqueue>(
        whole slotCount: Int, _ claimer: HeaderClaimer, _ refs: UnsafePointer<PacketRef>,
        _ queue: inout Queue
    ) {
        list(refs)
        var first = 0
        var slotsLeft = slotCount
        while !packets[first].isSplit || slotsLeft > 0 {
            if packets[first].isSplit { slotsLeft &-= 1 }
            first &+= 1
        }
        let place = planned(first)
        if isUniform && first > 0 { writeOut(refs, count: first) }
        queue.rewind(toUsed: place.firstUsed)
        segments.count = place.firstSegment
        metBrokenHeaderQueue = claimer.isBroken
        let reason = metBrokenHeaderQueue ? FallbackReason.headerQueueBroken : FallbackReason.noSlot
        var index = first
        while index < packetCount {
            if packets[index].outcome.dependsOnBuffers {
                packets[index].settle(packets[index].outcome.undropped, keepsSplit: true)
            }
            if packets[index].isSplit {
                let run = refs + packets[index].firstRef
                let byteCount = Self.byteCount(run, packets[index].refCount)
                setNeed(index, need(byteCount, headerLength: 0))
                packets[index].settle(PlannedPacket.Outcome(reason), keepsSplit: false)
            }
            index &+= 1
        }
        splitCount = slotCount
        reserve(from: first, refs, &queue)
    }

    // MARK: Rare cases

    /// The driver offered a buffer that is in use: used entry `duplicate` breaks the queue. Packets
    /// before it are delivered.
    @inline(never)
    private mutating func endPlan<Queue: Virtqueue>(
        at duplicate: Int, _ refs: UnsafePointer<PacketRef>, _ queue: inout Queue
    ) {
        queue.fault = .duplicateHead
        writeOut(refs, count: plannedCount)
        var kept = duplicate
        for index in 0..<plannedCount where !packets[index].outcome.isDropped {
            let firstUsed = packets[index].firstUsed
            if firstUsed &+ Int(packets[index].bufferCount) > duplicate {
                kept = min(kept, firstUsed)
                plannedCount = index
                break
            }
        }
        queue.rewind(toUsed: kept)
    }

    @inline(never)
    private func placesAny(from first: Int) -> Bool {
        for index in first..<plannedCount where !packets[index].outcome.isDropped { return true }
        return false
    }

    /// Counts the large buffers that took headers in a run of method C.
    @inline(__always)
    private mutating func noteMisfits(_ segments: UnsafePointer<Segment>, _ count: Int) {
        var index = 0
        while index < count {
            misfitCount &+= Int(segments[2 &* index].byteCount) > settings.smallLimit ? 1 : 0
            index &+= 1
        }
    }

    /// One packet in any number of buffers and pieces of buffers.
    /// - Returns: whether to go on with the next packet; if not, no buffer was taken for this one.
    @inline(never)
    private mutating func reserveOne<Queue: Virtqueue>(
        _ packet: UnsafeMutablePointer<PlannedPacket>, _ need: Int, _ queue: inout Queue
    ) -> Bool {
        if packet.pointee.outcome.isDropped { return true }
        let firstSegment = segments.count
        let isFresh = queue.isFresh
        let misfitsBefore = misfitCount
        var firstUsed = queue.usedCount
        var (skipped, left) = (0, need)
        while true {
            let isFirst = queue.usedCount == firstUsed
            let segmentsBefore = segments.count
            let part = popPart(packet, left, isFirst: isFirst, &queue)
            guard part.fetch.isBuffer else {
                misfitCount = misfitsBefore
                return fallShort(
                    packet, part.fetch, firstUsed: firstUsed, firstSegment: firstSegment,
                    isFresh: isFresh, &queue)
            }
            if part.room >= left { break }
            if isFirst && isUndersized(part.fetch, packet.pointee) {
                if !giveBackUndersized(&queue, firstSegment) { return false }
                firstUsed = queue.usedCount
                continue
            }
            if part.room == 0 { (segments.count, skipped) = (segmentsBefore, skipped &+ 1) }
            // All but the last are filled to their full length, as far as the method allows.
            queue.addUsed(part.room)
            left &-= part.room
            if !settings.isMergeable || queue.usedCount &- firstUsed == queue.size {
                misfitCount = misfitsBefore
                let reason = settings.isMergeable ? DropReason.tooManyBuffers : .bufferTooSmall
                return drop(
                    reason, packet, firstUsed: firstUsed, firstSegment: firstSegment, &queue)
            }
        }
        queue.addUsed(left)
        if Method.reportsInUsedLength && left == 0 { queue.keepEmptyLength() }
        skippedCount &+= skipped
        note(packet, firstSegment, firstUsed: firstUsed, usedCount: queue.usedCount)
        return true
    }

    /// Records where one packet goes.
    private func note(
        _ packet: UnsafeMutablePointer<PlannedPacket>, _ firstSegment: Int, firstUsed: Int,
        usedCount: Int
    ) {
        let isSplitAsOne = Method.leadsWithHeaders && packet.pointee.isSplit
        packet.pointee.reserve(
            firstSegment: firstSegment, firstUsed: firstUsed,
            bufferCount: usedCount &- firstUsed,
            isSimple: packet.pointee.refCount == 1 && !isSplitAsOne
                && segments.count &- firstSegment <= 1)
    }

    /// Whether a buffer is too small to start a packet: the prefix does not fit.
    private func isUndersized(
        _ fetch: BufferFetch, _ packet: PlannedPacket
    ) -> Bool {
        let prefix = Method.prefixByteCount(
            split: packet.headerLength != 0, netHeader: netHeaderByteCount)
        return fetch.byteCount < max(1, prefix)
    }

    /// Pops the next buffer for a packet of which `left` bytes have no place yet.
    /// - Returns: the buffer, and how many bytes of the packet it takes; 0 to skip it.
    private mutating func popPart<Queue: Virtqueue>(
        _ packet: UnsafeMutablePointer<PlannedPacket>, _ left: Int, isFirst: Bool,
        _ queue: inout Queue
    ) -> (fetch: BufferFetch, room: Int) {
        let isSplit = Method.leadsWithHeaders && packet.pointee.headerLength != 0
        if isSplit && isFirst { return popLead(packet, left, &queue) }
        let fetch = queue.pop(left, &segments)
        let skips =
            Method.skipsSmallBuffers && isSplit && fetch.isBuffer && fetch.byteCount < left
            && fetch.byteCount <= settings.smallLimit
        return (fetch, skips ? 0 : fetch.byteCount)
    }

    /// Pops the first buffer of a packet whose headers go to its start, and cuts out what is to
    /// stay unused between headers and payload. The packet goes whole if they do not fit apart.
    private mutating func popLead<Queue: Virtqueue>(
        _ packet: UnsafeMutablePointer<PlannedPacket>, _ left: Int, _ queue: inout Queue
    ) -> (fetch: BufferFetch, room: Int) {
        let prefix = Method.prefixByteCount(split: true, netHeader: netHeaderByteCount)
        let lead = prefix &+ Int(packet.pointee.headerLength)
        let firstSegment = segments.count
        let fetch = queue.pop(Method.partsAreBuffers ? lead : .max, &segments)
        if !fetch.isBuffer || fetch.byteCount < prefix { return (fetch, fetch.byteCount) }
        let border = Method.partsAreBuffers ? fetch.byteCount : queue.firstDescriptorByteCount
        if border < lead {
            packet.pointee.settle(PlannedPacket.Outcome(.headerTooLong), keepsSplit: false)
            return (fetch, fetch.byteCount)
        }
        if !Method.partsAreBuffers && fetch.byteCount == border && left > lead {
            packet.pointee.settle(PlannedPacket.Outcome(.noPayloadDescriptor), keepsSplit: false)
            return (fetch, fetch.byteCount)
        }
        if Method.skipsSmallBuffers && fetch.byteCount > settings.smallLimit { misfitCount &+= 1 }
        let gap = border &- lead
        segments.cut(from: firstSegment, at: lead, gap: gap)
        return (fetch, fetch.byteCount &- gap)
    }

    /// The ring ran dry, broke, or offered more pieces than a burst has room for.
    private mutating func fallShort<Queue: Virtqueue>(
        _ packet: UnsafeMutablePointer<PlannedPacket>, _ fetch: BufferFetch, firstUsed: Int,
        firstSegment: Int, isFresh: Bool, _ queue: inout Queue
    ) -> Bool {
        if fetch.isEmpty && settings.dropsOnShortage {
            return drop(.noBuffer, packet, firstUsed: firstUsed, firstSegment: firstSegment, &queue)
        }
        // It had a burst's whole budget to itself, so it will not fit next time either.
        if fetch.isFull && isFresh && firstUsed == 0 {
            return drop(
                .tooManyBuffers, packet, firstUsed: firstUsed, firstSegment: firstSegment, &queue)
        }
        queue.rewind(toUsed: firstUsed)
        segments.count = firstSegment
        return false
    }

    /// Drops the packet, and restores the ring to what it was before it.
    private mutating func drop<Queue: Virtqueue>(
        _ reason: DropReason, _ packet: UnsafeMutablePointer<PlannedPacket>, firstUsed: Int,
        firstSegment: Int, _ queue: inout Queue
    ) -> Bool {
        queue.rewind(toUsed: firstUsed)
        segments.count = firstSegment
        packet.pointee.settle(packet.pointee.outcome.dropped(reason), keepsSplit: true)
        return true
    }

    /// Gives the buffer taken last back with length 0, since it cannot even hold a net header.
    private mutating func giveBackUndersized<Queue: Virtqueue>(
        _ queue: inout Queue, _ firstSegment: Int
    ) -> Bool {
        queue.addUsed(0)
        segments.count = firstSegment
        sawUndersized = true
        undersizedStreak &+= 1
        if undersizedStreak < BurstLimit.undersizedStreak { return true }
        queue.fault = .undersizedBuffers
        return false
    }

    /// Buffers among `usedCount` that were given back with length 0: those of no packet.
    @inline(never)
    func undersizedBufferCount(usedCount: Int) -> Int {
        if isUniform { return 0 }
        var count = usedCount
        for index in 0..<plannedCount where !packets[index].outcome.isDropped {
            count &-= Int(packets[index].bufferCount)
        }
        return count
    }
}
