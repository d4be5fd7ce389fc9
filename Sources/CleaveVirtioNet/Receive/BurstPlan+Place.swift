// Pass 3: the bytes. Everything was checked, so nothing here can fail.

import CCleaveHost

/// Totals of placing a burst, for the counters.
struct PlacedBurst: BitwiseCopyable {
    var packets = 0
    var bytes = 0
    /// References of the burst that are done with: delivered or dropped.
    var refs = 0
}

/// Values that the loops of `place` need on every packet, read once: through the plan's address
/// each would be loaded anew after every store.
private struct PlaceConstants<
    Report: UsedSlotReport, Method: PlacementMethod, Part: PlacePart
>: BitwiseCopyable {
    let segments: UnsafePointer<Segment>
    let netHeaderByteCount: Int
    let slots: UnsafeMutableRawPointer
    let slotMask: UInt32
    let slotSize: Int
    /// The claim's groups, if they are listed, and their size: a power of two.
    let groupList: UnsafePointer<UInt16>
    let groupShift: UInt32
    let report: Report

    /// The slot at number `number` of the claim, which counts from `Claim.first`.
    @inline(__always)
    func slot(_ number: UInt32) -> UInt32 {
        if !Method.listsGroups { return number & slotMask }
        let group = UInt32(groupList[Int(truncatingIfNeeded: number &>> groupShift)])
        return group &<< groupShift | number & groupMask
    }

    /// Spans are too short to load slots ahead within them.
    @inline(__always) private var hasShortSpans: Bool {
        Method.listsGroups && 1 &<< groupShift <= Self.slotsAhead
    }

    @inline(__always) private var groupMask: UInt32 { (1 &<< groupShift) &- 1 }

    /// How many slots ahead of the one being written are loaded.
    private static var slotsAhead: Int { 8 }

    /// Starts loading the first slots of a span from `start` to `last`, for writing.
    @inline(__always)
    func prefetchSlots(
        _ start: UnsafeMutableRawPointer, last: UnsafeMutableRawPointer
    ) {
        if !Method.claimsSlots || !Part.writesHeaders || hasShortSpans { return }
        var next = start
        let end = min(start + Self.slotsAhead &* slotSize, last)
        while next < end {
            prefetchSlot(next)
            next += slotSize
        }
    }

    /// Starts loading the slot some packets after the one at `slot`, of number `number` of a claim
    /// whose last is `lastNumber`. By the tail none after the last of its span: that may be another
    /// RQ's, which writes it just now; two RQs on two cores, 64 bytes: 98 to 70 cycles. The stores
    /// into slots miss the first-level cache on every packet and fill the store buffer: 45 to 40
    /// cycles at 64 bytes. Data buffers gain nothing by it: page-aligned ones push each other out
    /// of their cache set again.
    @inline(__always)
    func prefetchSlot(
        ahead slot: UnsafeMutableRawPointer, last: UnsafeMutableRawPointer, _ number: UInt32,
        _ lastNumber: UInt32
    ) {
        if !Method.claimsSlots || !Part.writesHeaders { return }
        if hasShortSpans {
            let ahead = min(number &+ UInt32(truncatingIfNeeded: Self.slotsAhead), lastNumber)
            prefetchSlot(slots + Int(self.slot(ahead)) &* slotSize)
        } else {
            prefetchSlot(min(slot + Self.slotsAhead &* slotSize, last))
        }
    }

    @inline(__always)
    private func prefetchSlot(_ slot: UnsafeMutableRawPointer) {
        cleave_prefetch_write(slot)
        cleave_prefetch_write(slot + 64)
    }

    /// Starts loading where the packet after number `index` is to go, if it is like this one: a
    /// store that misses the first-level cache holds up all after it, and the cache notices a run
    /// of stores only after its first misses.
    ///
    /// One packet ahead, and no more: further ahead lines push each other out again where all
    /// buffers share a set of the cache, as page-aligned ones do. 36 to 31 cycles at 64 bytes, 43
    /// to 40 with page-aligned buffers; 194 to 175 at 1500 bytes whose buffers come from the
    /// last-level cache, and none lost where they come from the second; loading the source as well
    /// was slower.
    /// A small packet that goes whole needs none: its net header is compared with what is there.
    @inline(__always)
    func prefetchBuffers(
        after index: Int, _ byteCount: UInt32, headerLength: UInt16
    ) {
        if byteCount < 256 && (!Method.splits || byteCount <= UInt32(headerLength)) { return }
        let next = segments + (index &+ 1) &* Method.partCount
        if Method.partCount == 2 { cleave_prefetch_write(next[0].pointer) }
        let target = next[Method.partCount &- 1].pointer
        if byteCount < 256 { return cleave_prefetch_write(target) }
        let limit = min(Int(byteCount), 1536)
        var offset = 0
        while offset < limit {
            cleave_prefetch_write(target + offset)
            offset &+= 64
        }
    }

    /// How many of the claim's slots from number `number` on are contiguous, at most `count`.
    @inline(__always)
    func span(
        _ number: UInt32, _ count: Int
    ) -> Int {
        if !Method.claimsSlots { return count }
        let mask = Method.listsGroups ? groupMask : slotMask
        return min(count, Int(mask &- number & mask) &+ 1)
    }
}

/// Target of a packet of one source segment whose buffers are as in a run.
private struct PlainTarget: BitwiseCopyable {
    let headerLength: UInt16
    let bufferCount: UInt16
    let usedIndex: Int
    let segmentIndex: Int

    /// Packet `index` of a uniform burst.
    @inline(__always)
    init<Method: PlacementMethod>(
        headerLength: UInt16, uniform index: Int, _ method: Method.Type
    ) {
        self.headerLength = headerLength
        bufferCount = UInt16(truncatingIfNeeded: Method.bufferCount)
        usedIndex = index &* Method.bufferCount
        segmentIndex = index &* Method.partCount
    }

    @inline(__always)
    init(_ packet: PlannedPacket) {
        headerLength = packet.headerLength
        bufferCount = packet.bufferCount
        usedIndex = packet.firstUsed
        segmentIndex = packet.firstSegment
    }
}

extension BurstPlan {
    /// Writes every planned packet, or those parts of it that `Part` names. The packets that split
    /// take the claim's slots in order, all of them.
    @inline(__always)
    func place<Queue: Virtqueue, Part: PlacePart>(
        _ refs: UnsafeMutablePointer<PacketRef>, _ queue: Queue, claimer: HeaderClaimer,
        claim: HeaderClaimer.Claim, counters: RxCounterBlock, _ part: Part.Type
    ) -> PlacedBurst {
        let constants = PlaceConstants<Queue.SlotReport, Method, Part>(
            segments: segments.base, netHeaderByteCount: netHeaderByteCount, slots: claimer.slots,
            slotMask: claimer.slotCount &- 1, slotSize: claimer.slotSize,
            groupList: groupList, groupShift: claimer.returns.groupShift,
            report: queue.slotReport)
        if plannedCount == 0 { return PlacedBurst() }
        if isUniform && settings.padMask == 0 && (!Method.splits || splitCount == plannedCount) {
            return placeUniform(refs, claim.first, constants)
        }
        var listed = self
        listed.list(refs)
        return listed.placeMixed(refs, firstSlot: claim.first, constants, counters)
    }

    /// Fast path: all packets of a uniform burst split, or none does. No rare case in the loop, as
    /// in `popRun`, and slot addresses advance by addition within a contiguous span.
    @inline(__always)
    private func placeUniform<Report: UsedSlotReport, Part: PlacePart>(
        _ refs: UnsafePointer<PacketRef>, _ firstSlot: UInt32,
        _ constants: PlaceConstants<Report, Method, Part>
    ) -> PlacedBurst {
        let count = plannedCount
        if Part.writesPayload { repeatLastSegments() }
        var placed = PlacedBurst()
        var index = 0
        while index < count {
            let number = firstSlot &+ UInt32(truncatingIfNeeded: index)
            let end = index &+ constants.span(number, count &- index)
            var slot = Method.claimsSlots ? constants.slot(number) : 0
            // Slot of packet `index`, less `index`: 2 instructions less than counting slots, too.
            let slotBase = slot &- UInt32(truncatingIfNeeded: index)
            var slotBytes = constants.slots + Int(slot) &* constants.slotSize
            let lastSlot = slotBytes + (end &- index &- 1) &* constants.slotSize
            constants.prefetchSlots(slotBytes, last: lastSlot)
            while index < end {
                let source = refs[index]
                constants.prefetchSlot(
                    ahead: slotBytes, last: lastSlot,
                    firstSlot &+ UInt32(truncatingIfNeeded: index),
                    firstSlot &+ UInt32(truncatingIfNeeded: count &- 1))
                let place = PlainTarget(
                    headerLength: plainHeaderLength(index, source.byteCount),
                    uniform: index, Method.self)
                if Part.writesPayload {
                    constants.prefetchBuffers(
                        after: index, source.byteCount, headerLength: place.headerLength)
                }
                if Method.reportsInUsedLength {
                    slot = slotBase &+ UInt32(truncatingIfNeeded: index)
                }
                if Method.splits {
                    placeSplitSimple(
                        place, from: source, slot: slot, slotBytes: slotBytes, constants)
                } else {
                    placeWholeSimple(place, source, constants)
                }
                placed.bytes &+= Int(source.byteCount)
                if Method.claimsSlots {
                    if !Method.reportsInUsedLength { slot = slot &+ 1 }
                    slotBytes += constants.slotSize
                }
                index &+= 1
            }
        }
        placed.packets = count
        placed.refs = count
        return placed
    }

    /// Writes the segments of a uniform burst's last packet once more after it, for who looks one
    /// packet ahead: what lies there is of some earlier burst, and the driver's by now. There is
    /// room for more packets than a burst has.
    @inline(__always)
    private func repeatLastSegments() {
        let last = segments.base + (plannedCount &- 1) &* Method.partCount
        assert(segments.count == plannedCount &* Method.partCount)
        assert(segments.count &+ Method.partCount <= segments.capacity)
        last[Method.partCount] = last[0]
        if Method.partCount == 2 { last[3] = last[1] }
    }

    /// Header length of plain packet `index` of `byteCount` bytes, recovered from what it needs:
    /// prefix + packet - need.
    @inline(__always)
    func plainHeaderLength(_ index: Int, _ byteCount: UInt32) -> UInt16 {
        if !Method.splits { return 0 }
        let prefix = Method.prefixByteCount(split: true, netHeader: netHeaderByteCount)
        return UInt16(
            truncatingIfNeeded: Method.leadsWithHeaders
                ? needs[2 &* index] &- prefix : Int(byteCount) &+ prefix &- needs[index])
    }

    /// Any burst. Not inlined: with it a burst's code outgrows what the compiler inlines, and other
    /// parts of it would become calls.
    @inline(never)
    private func placeMixed<Report: UsedSlotReport, Part: PlacePart>(
        _ refs: UnsafeMutablePointer<PacketRef>, firstSlot: UInt32,
        _ constants: PlaceConstants<Report, Method, Part>, _ counters: RxCounterBlock
    ) -> PlacedBurst {
        var placed = PlacedBurst()
        var slot = firstSlot
        var index = 0
        while index < plannedCount {
            let packet = planned(index)
            index &+= 1
            placed.refs = packet.firstRef &+ packet.refCount
            if Method.splits && packet.isSplit {
                placed.bytes &+= placeSplit(
                    packet, refs, slot: constants.slot(slot), constants)
                if Method.claimsSlots { slot = slot &+ 1 }
            } else {
                if Part.writesPayload {
                    if packet.outcome != .deliver && countOutcome(packet, refs, counters) {
                        continue
                    }
                } else if packet.outcome.isDropped {
                    continue
                }
                placed.bytes &+= placeWhole(packet, refs, constants)
            }
            placed.packets &+= 1
        }
        return placed
    }

    /// Planned packets that lie in their slots entirely.
    @inline(never)
    func plannedTinyCount(_ refs: UnsafePointer<PacketRef>) -> Int {
        var count = 0
        for index in 0..<plannedCount {
            let isTiny =
                form == .needs
                ? refs[index].byteCount <= settings.tinyLimit : packets[index].outcome == .tiny
            count &+= isTiny ? 1 : 0
        }
        return count
    }

    /// - Returns: bytes of the packet.
    @inline(__always)
    private func placeWhole<Report: UsedSlotReport, Part: PlacePart>(
        _ packet: PlannedPacket, _ refs: UnsafePointer<PacketRef>,
        _ constants: PlaceConstants<Report, Method, Part>
    ) -> Int {
        if packet.isSimple {
            let source = refs[packet.firstRef]
            placeWholeSimple(PlainTarget(packet), source, constants)
            return Int(source.byteCount)
        }
        if !Part.writesPayload { return 0 }
        let prefix = Method.prefixByteCount(split: false, netHeader: netHeaderByteCount)
        return placeScattered(
            packet, refs, prefix: prefix, netHeader: netHeader(packet, refs), report: .notSplit,
            headersTo: nil)
    }

    /// One source segment, one buffer segment.
    @inline(__always)
    private func placeWholeSimple<Report: UsedSlotReport, Part: PlacePart>(
        _ place: PlainTarget, _ source: PacketRef, _ constants: PlaceConstants<Report, Method, Part>
    ) {
        let netHeaderByteCount = constants.netHeaderByteCount
        let prefix = Method.prefixByteCount(split: false, netHeader: netHeaderByteCount)
        let target = constants.segments[place.segmentIndex].pointer
        if Part.writesHeaders {
            NetHeader(numBuffers: place.bufferCount)
                .store(unlessThere: target, byteCount: netHeaderByteCount)
            if prefix != netHeaderByteCount {
                SplitReport.notSplit.store(to: target + netHeaderByteCount)
            }
        }
        if !Part.writesPayload { return }
        copyBytes(target + prefix, source.pointer, Int(source.byteCount))
    }

    /// - Returns: bytes of the packet.
    @inline(__always)
    private func placeSplit<Report: UsedSlotReport, Part: PlacePart>(
        _ packet: PlannedPacket, _ refs: UnsafePointer<PacketRef>, slot: UInt32,
        _ constants: PlaceConstants<Report, Method, Part>
    ) -> Int {
        let headerLength = packet.headerLength
        if Part.writesHeaders && Method.claimsSlots && settings.padMask != 0 {
            let used = Method.slotByteCount(
                headerLength: Int(headerLength), netHeader: netHeaderByteCount)
            (constants.slots + Int(slot) &* constants.slotSize + used)
                .initializeMemory(
                    as: UInt8.self, repeating: 0, count: (0 &- used) & settings.padMask)
        }
        if packet.isSimple {
            let source = refs[packet.firstRef]
            placeSplitSimple(
                PlainTarget(packet), from: source, slot: slot,
                slotBytes: constants.slots + Int(slot) &* constants.slotSize, constants)
            return Int(source.byteCount)
        }
        let prefix = Method.prefixByteCount(split: true, netHeader: netHeaderByteCount)
        let netHeader = netHeader(packet, refs)
        let tail = SplitReport(slot: slot, headerLength: headerLength)
        // Where headers lead, reserve has cut the gap after them out of the segments.
        let headers =
            Method.claimsSlots
            ? writeSlotPrefix(
                used: packet.firstUsed, slot: slot,
                at: constants.slots + Int(slot) &* constants.slotSize,
                netHeader, constants) : nil
        if !Part.writesPayload { return 0 }
        return placeScattered(
            packet, refs, prefix: prefix, netHeader: netHeader, report: tail, headersTo: headers)
    }

    /// Names the slot in the used entry and writes the net header into it, if the method does so.
    /// - Returns: where the packet headers go.
    @inline(__always)
    private func writeSlotPrefix<Report: UsedSlotReport, Part: PlacePart>(
        used usedIndex: Int, slot: UInt32, at start: UnsafeMutableRawPointer,
        _ netHeader: NetHeader, _ constants: PlaceConstants<Report, Method, Part>
    ) -> UnsafeMutableRawPointer {
        if !Method.reportsInUsedLength { return start }
        if Part.namesSlots { constants.report.attach(slot: slot, toUsed: usedIndex) }
        if Part.writesHeaders {
            netHeader.store(to: start, byteCount: constants.netHeaderByteCount)
        }
        return start + constants.netHeaderByteCount
    }

    /// One source segment, buffers as in a run.
    @inline(__always)
    private func placeSplitSimple<Report: UsedSlotReport, Part: PlacePart>(
        _ place: PlainTarget, from source: PacketRef, slot: UInt32,
        slotBytes: UnsafeMutableRawPointer,
        _ constants: PlaceConstants<Report, Method, Part>
    ) {
        let netHeaderByteCount = constants.netHeaderByteCount
        let headerLength = Int(place.headerLength)
        let prefix = Method.prefixByteCount(split: true, netHeader: netHeaderByteCount)
        let segments = constants.segments + place.segmentIndex
        let first = segments[0].pointer
        let netHeader = NetHeader(hdrLen: place.headerLength, numBuffers: place.bufferCount)
        let headers =
            Method.claimsSlots
            ? writeSlotPrefix(
                used: place.usedIndex, slot: slot, at: slotBytes, netHeader, constants)
            : first + prefix
        if Part.writesHeaders { copyBytes(headers, source.pointer, headerLength) }
        if Part.writesHeaders && !Method.reportsInUsedLength {
            netHeader.store(to: first, byteCount: netHeaderByteCount)
            SplitReport(slot: slot, headerLength: place.headerLength)
                .store(to: first + netHeaderByteCount)
        }
        if !Part.writesPayload { return }
        let payload = Int(source.byteCount) &- headerLength
        if payload > 0 {
            let target = Method.leadsWithHeaders ? segments[1].pointer : first + prefix
            copyBytes(target, source.pointer + headerLength, payload)
        }
    }

    /// Any number of source segments over any number of buffer segments; even the prefix may be
    /// spread over several.
    /// - Returns: bytes of the packet.
    @inline(never)
    private func placeScattered(
        _ packet: PlannedPacket, _ refs: UnsafePointer<PacketRef>, prefix: Int,
        netHeader: NetHeader, report tail: SplitReport,
        headersTo headerTarget: UnsafeMutableRawPointer?
    ) -> Int {
        let run = refs + packet.firstRef
        var source = SourceCursor(run, count: packet.refCount)
        var target = SegmentCursor(segments.base + packet.firstSegment)
        if prefix > 0 {
            netHeader.store(to: scratch, byteCount: netHeaderByteCount)
            if prefix > netHeaderByteCount { tail.store(to: scratch + netHeaderByteCount) }
            target.write(scratch, prefix)
        }
        let byteCount = Self.byteCount(run, packet.refCount)
        var left = byteCount
        if let headerTarget {
            source.copy(to: headerTarget, Int(packet.headerLength))
            left &-= Int(packet.headerLength)
        }
        target.write(from: &source, left)
        return byteCount
    }

    /// Counts a packet that is not split, or dropped.
    /// - Returns: whether it is dropped; its references then say so.
    @inline(never)
    private func countOutcome(
        _ packet: PlannedPacket, _ refs: UnsafeMutablePointer<PacketRef>,
        _ counters: RxCounterBlock
    ) -> Bool {
        if let reason = packet.outcome.fallbackIndex {
            counters.addFallback(reason)
            return false
        }
        counters.addDrop(packet.outcome.dropIndex)
        for offset in 0..<packet.refCount {
            refs[packet.firstRef &+ offset].flags.insert(.dropped)
        }
        return true
    }
}
