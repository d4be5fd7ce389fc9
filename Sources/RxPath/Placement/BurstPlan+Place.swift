// Pass 3: the bytes. Everything was checked, so nothing here can fail.

/// What placing a burst amounted to, for the counters.
struct PlacedBurst: BitwiseCopyable {
    var packets = 0
    var bytes = 0
    var split = 0
    /// References of the burst that are done with: delivered or dropped.
    var refs = 0
}

extension BurstPlan {
    /// Writes every planned packet to where it belongs.
    @inline(__always)
    func place<Queue: Virtqueue, Method: PlacementMethod>(
        _ refs: UnsafeMutablePointer<PacketRef>, _ queue: Queue, _ claimer: HeaderClaimer,
        _ claim: HeaderClaimer.Claim, _ counters: RxCounterBlock, _ method: Method.Type
    ) -> PlacedBurst {
        var placed = PlacedBurst()
        var slot = claim.first
        var index = 0
        while index < plannedCount {
            let packet = packets + index
            index &+= 1
            placed.refs = Int(packet.pointee.firstRef) &+ Int(packet.pointee.refCount)
            if Method.splits && packet.pointee.takesSlot {
                let slotIndex = claimer.index(slot)
                slot = slot &+ 1
                placed.split &+= 1
                if Method.reportsInUsedElement {
                    queue.attach(slot: slotIndex, toUsed: Int(packet.pointee.firstUsed))
                }
                placeSplit(packet, refs, slotIndex, claimer.pointer(slotIndex), method)
            } else {
                if packet.pointee.fate != .deliver {
                    if countFate(packet, refs, counters) { continue }
                }
                placeWhole(packet, refs, method)
            }
            placed.packets &+= 1
            placed.bytes &+= Int(packet.pointee.byteCount)
        }
        return placed
    }

    @inline(__always)
    private func placeWhole<Method: PlacementMethod>(
        _ packet: UnsafePointer<PlannedPacket>, _ refs: UnsafePointer<PacketRef>,
        _ method: Method.Type
    ) {
        let prefix = Method.prefixByteCount(split: false, netHeader: netHeaderByteCount)
        let netHeader = NetHeader(numBuffers: packet.pointee.bufferCount)
        let segment = segments.base + Int(packet.pointee.firstSegment)
        if packet.pointee.isSimple {
            let target = segment.pointee.pointer
            netHeader.store(to: target, byteCount: netHeaderByteCount)
            if prefix != netHeaderByteCount {
                SplitTail.notSplit.store(to: target + netHeaderByteCount)
            }
            copyBytes(target + prefix, packet.pointee.source, Int(packet.pointee.byteCount))
        } else {
            let run = refs + Int(packet.pointee.firstRef)
            placeScattered(packet, run, prefix, netHeader, .notSplit, nil)
        }
    }

    @inline(__always)
    private func placeSplit<Method: PlacementMethod>(
        _ packet: UnsafePointer<PlannedPacket>, _ refs: UnsafePointer<PacketRef>, _ slot: UInt32,
        _ slotPointer: UnsafeMutableRawPointer, _ method: Method.Type
    ) {
        let prefix = Method.prefixByteCount(split: true, netHeader: netHeaderByteCount)
        let headerLength = packet.pointee.headerLength
        let netHeader = NetHeader(hdrLen: headerLength, numBuffers: packet.pointee.bufferCount)
        let tail = SplitTail(slot: slot, headerLength: headerLength)
        var headerTarget = slotPointer
        if Method.reportsInUsedElement {
            netHeader.store(to: slotPointer, byteCount: netHeaderByteCount)
            headerTarget = slotPointer + netHeaderByteCount
        }
        if packet.pointee.isSimple {
            let source = packet.pointee.source
            let segment = segments.base + Int(packet.pointee.firstSegment)
            copyBytes(headerTarget, source, Int(headerLength))
            let payload = Int(packet.pointee.byteCount) &- Int(headerLength)
            if !Method.reportsInUsedElement {
                netHeader.store(to: segment.pointee.pointer, byteCount: netHeaderByteCount)
                tail.store(to: segment.pointee.pointer + netHeaderByteCount)
            }
            if payload > 0 {
                copyBytes(segment.pointee.pointer + prefix, source + Int(headerLength), payload)
            }
        } else {
            let run = refs + Int(packet.pointee.firstRef)
            placeScattered(packet, run, prefix, netHeader, tail, headerTarget)
        }
    }

    /// Any number of source segments over any number of buffer segments; even the prefix may be
    /// spread over several.
    @inline(never)
    private func placeScattered(
        _ packet: UnsafePointer<PlannedPacket>, _ refs: UnsafePointer<PacketRef>, _ prefix: Int,
        _ netHeader: NetHeader, _ tail: SplitTail, _ headerTarget: UnsafeMutableRawPointer?
    ) {
        var source = SourceCursor(refs, count: Int(packet.pointee.refCount))
        var target = SegmentCursor(segments.base + Int(packet.pointee.firstSegment))
        if prefix > 0 {
            netHeader.store(to: scratch, byteCount: netHeaderByteCount)
            if prefix > netHeaderByteCount { tail.store(to: scratch + netHeaderByteCount) }
            target.write(scratch, prefix)
        }
        if let headerTarget {
            source.copy(to: headerTarget, Int(packet.pointee.headerLength))
        }
        let left = Int(packet.pointee.byteCount) &- Int(packet.pointee.headerLength)
        target.write(from: &source, left)
    }

    /// Counts a packet that is not split, or dropped.
    /// - Returns: whether it is dropped; its references then say so.
    @inline(never)
    private func countFate(
        _ packet: UnsafePointer<PlannedPacket>, _ refs: UnsafeMutablePointer<PacketRef>,
        _ counters: RxCounterBlock
    ) -> Bool {
        if let reason = packet.pointee.fate.fallbackIndex {
            counters.addFallback(reason)
            return false
        }
        counters.addDrop(packet.pointee.fate.dropIndex)
        for offset in 0..<Int(packet.pointee.refCount) {
            refs[Int(packet.pointee.firstRef) &+ offset].flags.insert(.dropped)
        }
        return true
    }
}
