// Pass 2: buffers for every packet, checked and translated, before a byte is written; then the
// header slots, exactly as many as the packets with buffers need, in one claim.

extension BurstPlan {
    /// Gives buffers to the packets from number `first` on, until they or the buffers run out.
    @inline(__always)
    mutating func reserve<Queue: Virtqueue, Method: PlacementMethod>(
        from first: Int, _ queue: inout Queue, _ method: Method.Type
    ) {
        // Locals whose address is never taken: their cursors stay in registers.
        var ring = queue
        var list = segments
        var index = first
        isUniform = false
        while index < packetCount {
            let firstSegment = list.count
            let firstUsed = ring.usedCount
            let run = ring.takeRun(needs + index, packetCount &- index, &list)
            isUniform = run == packetCount && hasSingleRefs && firstUsed == 0
            if !isUniform { noteRun(index, run, firstSegment: firstSegment, firstUsed: firstUsed) }
            index &+= run
            if index == packetCount { break }
            var rare = ring
            segments = list
            let goesOn = reserveOne(packets + index, needs[index], &rare, method)
            ring = rare
            list = segments
            if !goesOn { break }
            index &+= 1
        }
        queue = ring
        segments = list
        plannedCount = index
        if tinyStreak > 0 && placesAny(from: first) { tinyStreak = 0 }
    }

    @inline(never)
    private func placesAny(from first: Int) -> Bool {
        for index in first..<plannedCount where !packets[index].fate.isDropped { return true }
        return false
    }

    /// Records where a run's packets go.
    @inline(__always)
    func noteRun(_ first: Int, _ count: Int, firstSegment: Int, firstUsed: Int) {
        var offset = 0
        while offset < count {
            let packet = packets + (first &+ offset)
            packet.pointee.reserve(
                firstSegment: firstSegment &+ offset, firstUsed: firstUsed &+ offset,
                bufferCount: 1, isSimple: packet.pointee.refCount == 1)
            offset &+= 1
        }
    }

    /// One packet in any number of buffers and pieces of buffers.
    /// - Returns: whether to go on with the next packet; if not, this one was left untouched.
    @inline(never)
    private mutating func reserveOne<Queue: Virtqueue, Method: PlacementMethod>(
        _ packet: UnsafeMutablePointer<PlannedPacket>, _ need: Int, _ queue: inout Queue,
        _ method: Method.Type
    ) -> Bool {
        if packet.pointee.fate.isDropped { return true }
        let split = packet.pointee.headerLength != 0
        // A buffer that holds less than this at the start of a packet is of no use at all.
        let least = max(1, Method.prefixByteCount(split: split, netHeader: netHeaderByteCount))
        let firstSegment = segments.count
        let isFresh = queue.isFresh
        var firstUsed = queue.usedCount
        var left = need
        var fetch = queue.take(left, &segments)
        while fetch.isBuffer && fetch.byteCount < left {
            if queue.usedCount == firstUsed && fetch.byteCount < least {
                if !giveBackTiny(&queue, firstSegment) { return false }
                firstUsed = queue.usedCount
            } else {
                // All but the last are filled to their full length.
                queue.use(fetch.byteCount)
                left &-= fetch.byteCount
                let count = queue.usedCount &- firstUsed
                if !isMergeable || count == queue.size {
                    let reason = isMergeable ? DropReason.tooManyBuffers : .bufferTooSmall
                    return drop(reason, packet, firstUsed, firstSegment, &queue)
                }
            }
            fetch = queue.take(left, &segments)
        }
        guard fetch.isBuffer else {
            return fallShort(packet, fetch, firstUsed, firstSegment, isFresh, &queue)
        }
        queue.use(left)
        packet.pointee.reserve(
            firstSegment: firstSegment, firstUsed: firstUsed,
            bufferCount: queue.usedCount &- firstUsed,
            isSimple: packet.pointee.refCount == 1 && segments.count &- firstSegment <= 1)
        return true
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
