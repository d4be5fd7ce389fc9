// Pass 1: from references to packets, each with its split point. Touches the sources' headers and
// no guest memory.

extension BurstPlan {
    /// Finds the packets of `count` references, at most `burst` of them.
    ///
    /// A run whose end has not been submitted yet ends the scan.
    @inline(__always)
    mutating func scan<Method: PlacementMethod>(
        _ refs: UnsafePointer<PacketRef>, _ count: Int, slotSize: Int, _ method: Method.Type
    ) {
        packetCount = 0
        var index = 0
        while index < count && packetCount < burst {
            let ref = refs[index]
            if ref.flags.contains(.more) {
                let length = scanRun(refs + index, count &- index, index, slotSize, method)
                if length == 0 { return }
                index &+= length
                continue
            }
            var packet = PlannedPacket(
                source: ref.pointer, byteCount: ref.byteCount,
                firstRef: UInt16(truncatingIfNeeded: index), refCount: 1)
            if !Self.isDeliverable(ref.byteCount) {
                packet.fate = Self.undeliverable(ref.byteCount)
            } else if Method.splits {
                let split = HeaderParser.parse(ref.pointer, byteCount: Int(ref.byteCount))
                accept(split, &packet, slotSize, method)
            }
            (packets + packetCount).initialize(to: packet)
            packetCount &+= 1
            index &+= 1
        }
    }

    /// One packet of several references.
    /// - Returns: how many references it takes, or 0 if its end is not among `count`.
    @inline(never)
    private mutating func scanRun<Method: PlacementMethod>(
        _ refs: UnsafePointer<PacketRef>, _ count: Int, _ firstRef: Int, _ slotSize: Int,
        _ method: Method.Type
    ) -> Int {
        var byteCount = 0
        var length = 0
        var ended = false
        while !ended && length < Self.maximumRefsPerPacket {
            if length == count { return 0 }
            byteCount &+= Int(refs[length].byteCount)
            ended = !refs[length].flags.contains(.more)
            length &+= 1
        }
        let total = UInt32(clamping: byteCount)
        var packet = PlannedPacket(
            source: refs.pointee.pointer, byteCount: total,
            firstRef: UInt16(truncatingIfNeeded: firstRef),
            refCount: UInt16(truncatingIfNeeded: length))
        if !ended {
            // Its rest comes as a packet of its own and is judged by its length.
            packet.fate = PlannedPacket.Fate(DropReason.tooManySegments)
        } else if !Self.isDeliverable(total) {
            packet.fate = Self.undeliverable(total)
        } else if Method.splits {
            let split = HeaderParser.parse(
                segments: refs, segmentCount: length, scratch: scratch)
            accept(split, &packet, slotSize, method)
        }
        (packets + packetCount).initialize(to: packet)
        packetCount &+= 1
        return length
    }

    @inline(__always)
    private func accept<Method: PlacementMethod>(
        _ split: HeaderSplit, _ packet: inout PlannedPacket, _ slotSize: Int, _ method: Method.Type
    ) {
        let length = Int(split.byteCount)
        if length == 0 {
            packet.fate = PlannedPacket.Fate(FallbackReason.notSplittable)
        } else if Method.slotByteCount(headerLength: length, netHeader: netHeaderByteCount) > slotSize
        {
            packet.fate = PlannedPacket.Fate(FallbackReason.headerTooLong)
        } else {
            packet.headerLength = split.byteCount
        }
    }

    @inline(__always)
    private static func isDeliverable(_ byteCount: UInt32) -> Bool {
        byteCount &- 14 <= UInt32(maximumPacketByteCount &- 14)
    }

    private static func undeliverable(_ byteCount: UInt32) -> PlannedPacket.Fate {
        PlannedPacket.Fate(byteCount < 14 ? DropReason.runt : DropReason.tooLong)
    }
}
