// Pass 2: buffers for every packet, checked and translated, before a byte is written; then the
// header slots, exactly as many as the packets with buffers need, in one claim.

extension BurstPlan {
    /// Gives buffers to the packets from number `first` on, until they or the buffers run out.
    ///
    /// The queue is worked on in a local whose address is never taken here, so its cursors stay in
    /// registers; the rare cases get a copy.
    @inline(__always)
    mutating func reserve<Queue: Virtqueue, Method: PlacementMethod>(
        from first: Int, _ refs: UnsafePointer<PacketRef>, _ queue: inout Queue,
        _ method: Method.Type
    ) {
        var ring = queue
        var list = segments
        var index = first
        while index < packetCount {
            let packet = packets[index]
            if !packet.fate.isDropped {
                let need = dataByteCount(packet, refs, method)
                let firstSegment = list.count
                let fetch = ring.take(need, &list)
                if fetch.isBuffer && fetch.byteCount >= need {
                    packets[index].reserve(
                        firstSegment: firstSegment, firstUsed: ring.usedCount, bufferCount: 1,
                        isSimple: packet.refCount == 1 && list.count &- firstSegment <= 1)
                    ring.use(need)
                } else {
                    var rare = ring
                    segments = list
                    let goesOn = reserveSeveral(
                        packets + index, need, fetch, firstSegment, &rare, method)
                    ring = rare
                    list = segments
                    if !goesOn { break }
                }
            }
            index &+= 1
        }
        queue = ring
        segments = list
        plannedCount = index
        if index > first { tinyStreak = 0 }
    }

    /// Bytes that a packet puts into its data buffers.
    @inline(__always)
    private func dataByteCount<Method: PlacementMethod>(
        _ packet: PlannedPacket, _ refs: UnsafePointer<PacketRef>, _ method: Method.Type
    ) -> Int {
        let run = refs + packet.firstRef
        let byteCount =
            packet.refCount == 1
            ? Int(run.pointee.byteCount) : Self.byteCount(run, packet.refCount)
        let isSplit = Method.splits && packet.headerLength != 0
        let prefix = Method.prefixByteCount(split: isSplit, netHeader: netHeaderByteCount)
        return prefix &+ byteCount &- (Method.splits ? Int(packet.headerLength) : 0)
    }

    /// Everything but a packet that fits the next buffer.
    /// - Returns: whether to go on with the next packet; if not, this one was left untouched.
    @inline(never)
    private mutating func reserveSeveral<Queue: Virtqueue, Method: PlacementMethod>(
        _ packet: UnsafeMutablePointer<PlannedPacket>, _ need: Int, _ firstFetch: BufferFetch,
        _ firstSegment: Int, _ queue: inout Queue, _ method: Method.Type
    ) -> Bool {
        let split = packet.pointee.headerLength != 0
        // A buffer that holds less than this at the start of a packet is of no use at all.
        let least = max(1, Method.prefixByteCount(split: split, netHeader: netHeaderByteCount))
        var fetch = firstFetch
        var firstUsed = queue.usedCount
        var left = need
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
            return fallShort(packet, fetch, firstUsed, firstSegment, &queue)
        }
        queue.use(left)
        packet.pointee.reserve(
            firstSegment: firstSegment, firstUsed: firstUsed,
            bufferCount: queue.usedCount &- firstUsed, isSimple: false)
        return true
    }

    /// The ring ran dry, lied, or offered more pieces than a burst has room for.
    private mutating func fallShort<Queue: Virtqueue>(
        _ packet: UnsafeMutablePointer<PlannedPacket>, _ fetch: BufferFetch, _ firstUsed: Int,
        _ firstSegment: Int, _ queue: inout Queue
    ) -> Bool {
        if fetch.isEmpty && dropsOnShortage {
            return drop(.noBuffer, packet, firstUsed, firstSegment, &queue)
        }
        // With the whole list to itself it will not fit next time either.
        if fetch.isFull && firstSegment == 0 {
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
        packet.pointee.settle(PlannedPacket.Fate(reason), keepsSplit: true)
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
        var count = usedCount
        for index in 0..<plannedCount where !packets[index].fate.isDropped {
            count &-= Int(packets[index].bufferCount)
        }
        return count
    }
}
