// Pass 2: buffers for every packet, checked and translated, before a byte is written; then the
// header slots, exactly as many as the packets with buffers need, in one claim.

extension BurstPlan {
    /// Gives buffers to the packets from number `first` on, until they or the buffers run out.
    @inline(__always)
    mutating func reserve<Queue: Virtqueue, Method: PlacementMethod>(
        from first: Int, _ queue: inout Queue, _ method: Method.Type
    ) {
        var index = first
        while index < packetCount {
            let packet = packets + index
            if !packet.pointee.fate.isDropped {
                let need = dataByteCount(packet.pointee, method)
                let firstSegment = segments.count
                let fetch = queue.take(need, &segments)
                if fetch.isBuffer && fetch.byteCount >= need {
                    packet.pointee.firstUsed = UInt16(truncatingIfNeeded: queue.usedCount)
                    packet.pointee.firstSegment = UInt32(truncatingIfNeeded: firstSegment)
                    packet.pointee.bufferCount = 1
                    packet.pointee.isSimple =
                        packet.pointee.refCount == 1 && segments.count &- firstSegment <= 1
                    queue.use(need)
                } else if !reserveSeveral(packet, need, fetch, firstSegment, &queue, method) {
                    break
                }
            }
            index &+= 1
        }
        plannedCount = index
        if index > first { tinyStreak = 0 }
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
        while true {
            guard fetch.isBuffer else {
                return fallShort(packet, fetch, firstUsed, firstSegment, &queue)
            }
            let isFirst = queue.usedCount == firstUsed
            if fetch.byteCount >= left {
                queue.use(left)
                break
            }
            if isFirst && fetch.byteCount < least {
                if !giveBackTiny(&queue, firstSegment) { return false }
                firstUsed = queue.usedCount
            } else {
                // All but the last are filled to their full length.
                queue.use(fetch.byteCount)
                left &-= fetch.byteCount
                if !isMergeable {
                    return drop(.bufferTooSmall, packet, firstUsed, firstSegment, &queue)
                }
                if queue.usedCount &- firstUsed == queue.size {
                    return drop(.tooManyBuffers, packet, firstUsed, firstSegment, &queue)
                }
            }
            fetch = queue.take(left, &segments)
        }
        packet.pointee.firstUsed = UInt16(truncatingIfNeeded: firstUsed)
        packet.pointee.firstSegment = UInt32(truncatingIfNeeded: firstSegment)
        packet.pointee.bufferCount = UInt16(truncatingIfNeeded: queue.usedCount &- firstUsed)
        packet.pointee.isSimple = false
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
        packet.pointee.fate = PlannedPacket.Fate(reason)
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

    /// Claims a slot for each planned packet that splits, and names them in the used entries.
    /// Packets that got none are planned again, whole: they need more room in the data buffers.
    /// - Returns: the claim; the packets that still split take its slots in order.
    @inline(__always)
    mutating func claim<Queue: Virtqueue, Method: PlacementMethod>(
        _ claimer: HeaderClaimer, _ queue: inout Queue, _ method: Method.Type
    ) -> HeaderClaimer.Claim {
        var wanted = 0
        var index = 0
        while index < plannedCount {
            wanted &+= packets[index].takesSlot ? 1 : 0
            index &+= 1
        }
        let claim = claimer.claim(wanted)
        if claim.count < wanted { replan(whole: claim.count, claimer, &queue, method) }
        return claim
    }

    /// Plans again, whole, from the packet on that would take slot number `slotCount` of the burst.
    @inline(never)
    private mutating func replan<Queue: Virtqueue, Method: PlacementMethod>(
        whole slotCount: Int, _ claimer: HeaderClaimer, _ queue: inout Queue, _ method: Method.Type
    ) {
        var first = 0
        var slotsLeft = slotCount
        while !packets[first].takesSlot || slotsLeft > 0 {
            if packets[first].takesSlot { slotsLeft &-= 1 }
            first &+= 1
        }
        queue.rewind(toUsed: Int(packets[first].firstUsed))
        segments.count = Int(packets[first].firstSegment)
        let reason = claimer.isBroken ? FallbackReason.headerQueueBroken : FallbackReason.noSlot
        var index = first
        while index < packetCount {
            if packets[index].fate.dependsOnBuffers { packets[index].fate = .deliver }
            if packets[index].headerLength != 0 {
                packets[index].headerLength = 0
                packets[index].fate = PlannedPacket.Fate(reason)
            }
            index &+= 1
        }
        reserve(from: first, &queue, method)
    }
}
