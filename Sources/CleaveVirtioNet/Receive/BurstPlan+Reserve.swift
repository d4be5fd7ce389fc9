// Pass 2: buffers for every packet, checked and translated, before a byte is written; then the
// header slots, exactly as many as the packets with buffers need, in one claim.

extension BurstPlan {
    /// Gives buffers to the packets from number `first` on, until they or the buffers run out, or
    /// one is offered twice.
    ///
    /// Transparent, since the compiler leaves some specialisations a call in spite of
    /// `@inline(__always)`, and then copies the queue to memory and back for every burst.
    @_transparent
    mutating func reserve<Queue: Virtqueue, Method: PlacementMethod>(
        from first: Int, _ refs: UnsafePointer<PacketRef>, _ queue: inout Queue,
        _ method: Method.Type
    ) {
        let firstSegment = segments.count
        let firstUsed = queue.usedCount
        // Locals whose address is never taken: their cursors stay in registers.
        var ring = queue
        var list = segments
        let run = takeRun(from: first, &ring, &list, method)
        queue = ring
        segments = list
        plannedCount = first &+ run
        isUniform = run == packetCount && hasSingleRefs && firstUsed == 0
        if !isUniform {
            if !isListed {
                var rare = self
                rare.list(refs, method)
                self = rare
            }
            noteRun(first, run, firstSegment: firstSegment, firstUsed: firstUsed, method)
        }
        if plannedCount < packetCount {
            var rare = queue
            reserveRest(&rare, method)
            queue = rare
        }
        if !queue.headsAreInSequence(step: Method.Buffer.descriptorCount),
            let duplicate = queue.firstDuplicate()
        {
            var rare = queue
            endPlan(at: duplicate, refs, &rare, method)
            queue = rare
        }
        if tinyStreak > 0 && (isUniform ? plannedCount > 0 : placesAny(from: first)) {
            tinyStreak = 0
        }
    }

    /// From the first packet on that fits no run: one by one, and in runs between.
    @inline(never)
    private mutating func reserveRest<Queue: Virtqueue, Method: PlacementMethod>(
        _ queue: inout Queue, _ method: Method.Type
    ) {
        var index = plannedCount
        while index < packetCount {
            if !reserveOne(packets + index, totalNeed(index, method), &queue, method) { break }
            index &+= 1
            let firstSegment = segments.count
            let firstUsed = queue.usedCount
            var list = segments
            let run = takeRun(from: index, &queue, &list, method)
            segments = list
            noteRun(index, run, firstSegment: firstSegment, firstUsed: firstUsed, method)
            index &+= run
        }
        plannedCount = index
    }

    /// Gives buffers to the packets in a row that take them as nearly all do.
    /// - Returns: how many.
    @inline(__always)
    private mutating func takeRun<Queue: Virtqueue, Method: PlacementMethod>(
        from first: Int, _ queue: inout Queue, _ list: inout SegmentList, _ method: Method.Type
    ) -> Int {
        let segmentsOut = list.base + list.count
        let firstUsed = queue.usedCount
        let left = (packetCount &- first) &* Method.bufferCount
        var taken = queue.takeRun(
            needs + first &* Method.partCount, left, &list, Method.Buffer.self)
        if Method.bufferCount == 2 && taken & 1 != 0 {
            // Half a packet: for `reserveOne` to judge, both of it.
            taken &-= 1
            queue.rewind(toUsed: firstUsed &+ taken)
            list.count &-= 1
        }
        let run = taken / Method.bufferCount
        if Method.skipsSmallBuffers { noteMisfits(segmentsOut, run) }
        return run
    }

    /// The driver offered a buffer that is in use: used entry `duplicate` breaks the queue. Packets
    /// before it are delivered.
    @inline(never)
    private mutating func endPlan<Queue: Virtqueue, Method: PlacementMethod>(
        at duplicate: Int, _ refs: UnsafePointer<PacketRef>, _ queue: inout Queue,
        _ method: Method.Type
    ) {
        queue.fault = .duplicateHead
        list(refs, method)
        if isUniform { noteRun(0, plannedCount, firstSegment: 0, firstUsed: 0, method) }
        isUniform = false
        var kept = duplicate
        for index in 0..<plannedCount where !packets[index].fate.isDropped {
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
        for index in first..<plannedCount where !packets[index].fate.isDropped { return true }
        return false
    }

    /// Records where a run's packets go.
    @inline(__always)
    func noteRun<Method: PlacementMethod>(
        _ first: Int, _ count: Int, firstSegment: Int, firstUsed: Int, _ method: Method.Type
    ) {
        var offset = 0
        while offset < count {
            let packet = packets + (first &+ offset)
            packet.pointee.reserve(
                firstSegment: firstSegment &+ offset &* Method.partCount,
                firstUsed: firstUsed &+ offset &* Method.bufferCount,
                bufferCount: Method.bufferCount, isSimple: packet.pointee.refCount == 1)
            offset &+= 1
        }
    }

    /// Counts the large buffers that took headers in a run of method C.
    @inline(__always)
    private mutating func noteMisfits(_ segments: UnsafePointer<Segment>, _ count: Int) {
        var index = 0
        while index < count {
            misfitCount &+= Int(segments[2 &* index].byteCount) > smallLimit ? 1 : 0
            index &+= 1
        }
    }

    /// One packet in any number of buffers and pieces of buffers.
    /// - Returns: whether to go on with the next packet; if not, no buffer was taken for this one.
    @inline(never)
    private mutating func reserveOne<Queue: Virtqueue, Method: PlacementMethod>(
        _ packet: UnsafeMutablePointer<PlannedPacket>, _ need: Int, _ queue: inout Queue,
        _ method: Method.Type
    ) -> Bool {
        if packet.pointee.fate.isDropped { return true }
        let firstSegment = segments.count
        let isFresh = queue.isFresh
        let misfitsBefore = misfitCount
        var firstUsed = queue.usedCount
        var (skipped, left) = (0, need)
        while true {
            let isFirst = queue.usedCount == firstUsed
            let segmentsBefore = segments.count
            let part = takePart(packet, left, isFirst: isFirst, &queue, method)
            guard part.fetch.isBuffer else {
                misfitCount = misfitsBefore
                return fallShort(packet, part.fetch, firstUsed, firstSegment, isFresh, &queue)
            }
            if part.room >= left { break }
            if isFirst && isTiny(part.fetch, packet.pointee, method) {
                if !giveBackTiny(&queue, firstSegment) { return false }
                firstUsed = queue.usedCount
                continue
            }
            if part.room == 0 { (segments.count, skipped) = (segmentsBefore, skipped &+ 1) }
            // All but the last are filled to their full length, as far as the method allows.
            queue.use(part.room)
            left &-= part.room
            if !isMergeable || queue.usedCount &- firstUsed == queue.size {
                misfitCount = misfitsBefore
                let reason = isMergeable ? DropReason.tooManyBuffers : .bufferTooSmall
                return drop(reason, packet, firstUsed, firstSegment, &queue)
            }
        }
        queue.use(left)
        skippedCount &+= skipped
        note(packet, firstSegment, firstUsed: firstUsed, usedCount: queue.usedCount, method)
        return true
    }

    /// Records where one packet goes.
    private func note<Method: PlacementMethod>(
        _ packet: UnsafeMutablePointer<PlannedPacket>, _ firstSegment: Int, firstUsed: Int,
        usedCount: Int, _ method: Method.Type
    ) {
        let isSplitAsOne = Method.leadsWithHeaders && packet.pointee.isSplit
        packet.pointee.reserve(
            firstSegment: firstSegment, firstUsed: firstUsed,
            bufferCount: usedCount &- firstUsed,
            isSimple: packet.pointee.refCount == 1 && !isSplitAsOne
                && segments.count &- firstSegment <= 1)
    }

    /// A buffer that is of no use at the start of a packet, since what precedes it does not fit.
    private func isTiny<Method: PlacementMethod>(
        _ fetch: BufferFetch, _ packet: PlannedPacket, _ method: Method.Type
    ) -> Bool {
        let prefix = Method.prefixByteCount(
            split: packet.headerLength != 0, netHeader: netHeaderByteCount)
        return fetch.byteCount < max(1, prefix)
    }

    /// Takes the next buffer for a packet of which `left` bytes have no place yet.
    /// - Returns: the buffer, and how many bytes of the packet it takes; 0 to skip it.
    private mutating func takePart<Queue: Virtqueue, Method: PlacementMethod>(
        _ packet: UnsafeMutablePointer<PlannedPacket>, _ left: Int, isFirst: Bool,
        _ queue: inout Queue, _ method: Method.Type
    ) -> (fetch: BufferFetch, room: Int) {
        let isSplit = Method.leadsWithHeaders && packet.pointee.headerLength != 0
        if isSplit && isFirst { return takeLead(packet, left, &queue, method) }
        let fetch = queue.take(left, &segments)
        let skips =
            Method.skipsSmallBuffers && isSplit && fetch.isBuffer && fetch.byteCount < left
            && fetch.byteCount <= smallLimit
        return (fetch, skips ? 0 : fetch.byteCount)
    }

    /// Takes the first buffer of a packet whose headers go to its start, and cuts out what is to
    /// stay unused between headers and payload. The packet goes whole if they do not fit apart.
    private mutating func takeLead<Queue: Virtqueue, Method: PlacementMethod>(
        _ packet: UnsafeMutablePointer<PlannedPacket>, _ left: Int, _ queue: inout Queue,
        _ method: Method.Type
    ) -> (fetch: BufferFetch, room: Int) {
        let prefix = Method.prefixByteCount(split: true, netHeader: netHeaderByteCount)
        let lead = prefix &+ Int(packet.pointee.headerLength)
        let firstSegment = segments.count
        let fetch = queue.take(Method.partsAreBuffers ? lead : .max, &segments)
        if !fetch.isBuffer || fetch.byteCount < prefix { return (fetch, fetch.byteCount) }
        let border = Method.partsAreBuffers ? fetch.byteCount : queue.headByteCount
        if border < lead {
            packet.pointee.settle(PlannedPacket.Fate(.headerTooLong), keepsSplit: false)
            return (fetch, fetch.byteCount)
        }
        if !Method.partsAreBuffers && fetch.byteCount == border && left > lead {
            packet.pointee.settle(PlannedPacket.Fate(.noPayloadDescriptor), keepsSplit: false)
            return (fetch, fetch.byteCount)
        }
        if Method.skipsSmallBuffers && fetch.byteCount > smallLimit { misfitCount &+= 1 }
        let gap = border &- lead
        segments.cut(from: firstSegment, at: lead, gap: gap)
        return (fetch, fetch.byteCount &- gap)
    }

    /// The ring ran dry, lied, or offered more pieces than a burst has room for.
    private mutating func fallShort<Queue: Virtqueue>(
        _ packet: UnsafeMutablePointer<PlannedPacket>, _ fetch: BufferFetch, _ firstUsed: Int,
        _ firstSegment: Int, _ isFresh: Bool, _ queue: inout Queue
    ) -> Bool {
        if fetch.isEmpty && dropsOnShortage {
            return drop(.noBuffer, packet, firstUsed, firstSegment, &queue)
        }
        // With a burst's whole budget to itself it will not fit next time either.
        if fetch.isFull && isFresh && firstUsed == 0 {
            return drop(.tooManyBuffers, packet, firstUsed, firstSegment, &queue)
        }
        queue.rewind(toUsed: firstUsed)
        segments.count = firstSegment
        return false
    }

    /// The packet is dropped, the ring is as if it had never been.
    private mutating func drop<Queue: Virtqueue>(
        _ reason: DropReason, _ packet: UnsafeMutablePointer<PlannedPacket>, _ firstUsed: Int,
        _ firstSegment: Int, _ queue: inout Queue
    ) -> Bool {
        queue.rewind(toUsed: firstUsed)
        segments.count = firstSegment
        packet.pointee.settle(packet.pointee.fate.dropped(reason), keepsSplit: true)
        return true
    }

    /// Gives the buffer taken last back with length 0, since it cannot even hold a net header.
    private mutating func giveBackTiny<Queue: Virtqueue>(
        _ queue: inout Queue, _ firstSegment: Int
    ) -> Bool {
        queue.use(0)
        segments.count = firstSegment
        sawTiny = true
        tinyStreak &+= 1
        if tinyStreak < Self.maximumTinyStreak { return true }
        queue.fault = .tinyBuffers
        return false
    }

    /// Buffers among `usedCount` that were given back with length 0: those of no packet.
    @inline(never)
    func tinyBufferCount(usedCount: Int) -> Int {
        if isUniform { return 0 }
        var count = usedCount
        for index in 0..<plannedCount where !packets[index].fate.isDropped {
            count &-= Int(packets[index].bufferCount)
        }
        return count
    }
}
