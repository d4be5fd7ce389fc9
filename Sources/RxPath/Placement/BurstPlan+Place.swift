// Pass 3: the bytes. Everything was checked, so nothing here can fail.

/// What placing a burst amounted to, for the counters.
struct PlacedBurst: BitwiseCopyable {
    var packets = 0
    var bytes = 0
    /// References of the burst that are done with: delivered or dropped.
    var refs = 0
}

/// What the loop of `place` needs on every packet, read once: behind the plan's address each would
/// be loaded anew after every store.
private struct PlaceConstants: BitwiseCopyable {
    let segments: UnsafePointer<Segment>
    let netHeaderByteCount: Int
    let slots: UnsafeMutableRawPointer
    let slotMask: UInt32
    let slotShift: Int
    let padMask: Int
}

extension BurstPlan {
    /// Writes every planned packet to where it belongs. The packets that split take the claim's
    /// slots in order, all of them.
    @inline(__always)
    func place<Queue: Virtqueue, Method: PlacementMethod>(
        _ refs: UnsafeMutablePointer<PacketRef>, _ queue: Queue, _ claimer: HeaderClaimer,
        _ claim: HeaderClaimer.Claim, _ counters: RxCounterBlock, _ method: Method.Type
    ) -> PlacedBurst {
        let constants = PlaceConstants(
            segments: segments.base, netHeaderByteCount: netHeaderByteCount, slots: claimer.slots,
            slotMask: claimer.slotCount &- 1, slotShift: Int(claimer.slotShift),
            padMask: padMask)
        let report = queue.slotReport
        let packets = packets
        let plannedCount = plannedCount
        let isUniform = isUniform
        var placed = PlacedBurst()
        placed.packets = plannedCount
        var slot = claim.first
        var index = 0
        while index < plannedCount {
            let packet = isUniform ? packets[index].uniform(index) : packets[index]
            index &+= 1
            if Method.splits && packet.takesSlot {
                placed.bytes &+= placeSplit(packet, refs, slot, report, constants, method)
                slot = slot &+ 1
            } else if packet.fate != .deliver && countFate(packet, refs, counters) {
                placed.packets &-= 1
            } else {
                placed.bytes &+= placeWhole(packet, refs, constants, method)
            }
        }
        if plannedCount > 0 {
            let last = packets[plannedCount &- 1]
            placed.refs = last.firstRef &+ last.refCount
        }
        return placed
    }

    /// Planned packets that lie in their slots entirely.
    @inline(never)
    func plannedTinyCount() -> Int {
        var count = 0
        for index in 0..<plannedCount where packets[index].fate == .tiny { count &+= 1 }
        return count
    }

    /// - Returns: bytes of the packet.
    @inline(__always)
    private func placeWhole<Method: PlacementMethod>(
        _ packet: PlannedPacket, _ refs: UnsafePointer<PacketRef>, _ constants: PlaceConstants,
        _ method: Method.Type
    ) -> Int {
        let netHeaderByteCount = constants.netHeaderByteCount
        let prefix = Method.prefixByteCount(split: false, netHeader: netHeaderByteCount)
        let netHeader = NetHeader(numBuffers: packet.bufferCount)
        if !packet.isSimple {
            return placeScattered(packet, refs, prefix, netHeader, .notSplit, nil)
        }
        let source = refs[packet.firstRef]
        let target = constants.segments[packet.firstSegment].pointer
        netHeader.store(to: target, byteCount: netHeaderByteCount)
        if prefix != netHeaderByteCount {
            SplitTail.notSplit.store(to: target + netHeaderByteCount)
        }
        copyBytes(target + prefix, source.pointer, Int(source.byteCount))
        return Int(source.byteCount)
    }

    /// - Returns: bytes of the packet.
    @inline(__always)
    private func placeSplit<Report: UsedSlotReport, Method: PlacementMethod>(
        _ packet: PlannedPacket, _ refs: UnsafePointer<PacketRef>, _ slotNumber: UInt32,
        _ report: Report, _ constants: PlaceConstants, _ method: Method.Type
    ) -> Int {
        let slot = slotNumber & constants.slotMask
        let netHeaderByteCount = constants.netHeaderByteCount
        let prefix = Method.prefixByteCount(split: true, netHeader: netHeaderByteCount)
        let headerLength = packet.headerLength
        let netHeader = NetHeader(hdrLen: headerLength, numBuffers: packet.bufferCount)
        let tail = SplitTail(slot: slot, headerLength: headerLength)
        var headerTarget = constants.slots + Int(slot) &<< constants.slotShift
        if Method.reportsInUsedElement {
            report.attach(slot: slot, toUsed: packet.firstUsed)
            netHeader.store(to: headerTarget, byteCount: netHeaderByteCount)
            headerTarget += netHeaderByteCount
        }
        let headerEnd = headerTarget + Int(headerLength)
        let padding = (0 &- Int(bitPattern: headerEnd)) & constants.padMask
        if padding > 0 {
            headerEnd.initializeMemory(as: UInt8.self, repeating: 0, count: padding)
        }
        if !packet.isSimple {
            return placeScattered(packet, refs, prefix, netHeader, tail, headerTarget)
        }
        let source = refs[packet.firstRef]
        copyBytes(headerTarget, source.pointer, Int(headerLength))
        let target = constants.segments[packet.firstSegment].pointer
        if !Method.reportsInUsedElement {
            netHeader.store(to: target, byteCount: netHeaderByteCount)
            tail.store(to: target + netHeaderByteCount)
        }
        let payload = Int(source.byteCount) &- Int(headerLength)
        if payload > 0 {
            copyBytes(target + prefix, source.pointer + Int(headerLength), payload)
        }
        return Int(source.byteCount)
    }

    /// Any number of source segments over any number of buffer segments; even the prefix may be
    /// spread over several.
    /// - Returns: bytes of the packet.
    @inline(never)
    private func placeScattered(
        _ packet: PlannedPacket, _ refs: UnsafePointer<PacketRef>, _ prefix: Int,
        _ netHeader: NetHeader, _ tail: SplitTail, _ headerTarget: UnsafeMutableRawPointer?
    ) -> Int {
        let run = refs + packet.firstRef
        var source = SourceCursor(run, count: packet.refCount)
        var target = SegmentCursor(segments.base + packet.firstSegment)
        if prefix > 0 {
            netHeader.store(to: scratch, byteCount: netHeaderByteCount)
            if prefix > netHeaderByteCount { tail.store(to: scratch + netHeaderByteCount) }
            target.write(scratch, prefix)
        }
        if let headerTarget { source.copy(to: headerTarget, Int(packet.headerLength)) }
        let byteCount = Self.byteCount(run, packet.refCount)
        target.write(from: &source, byteCount &- Int(packet.headerLength))
        return byteCount
    }

    /// Counts a packet that is not split, or dropped.
    /// - Returns: whether it is dropped; its references then say so.
    @inline(never)
    private func countFate(
        _ packet: PlannedPacket, _ refs: UnsafeMutablePointer<PacketRef>,
        _ counters: RxCounterBlock
    ) -> Bool {
        if let reason = packet.fate.fallbackIndex {
            counters.addFallback(reason)
            return false
        }
        counters.addDrop(packet.fate.dropIndex)
        for offset in 0..<packet.refCount {
            refs[packet.firstRef &+ offset].flags.insert(.dropped)
        }
        return true
    }
}
