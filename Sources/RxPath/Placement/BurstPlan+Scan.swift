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
        var found = 0
        var splits = 0
        var index = 0
        hasSingleRefs = true
        hasTiny = false
        while index < count && found < burst {
            let ref = refs[index]
            if ref.flags.contains(.more) {
                let length = scanRun(refs + index, count &- index, index, found, slotSize, method)
                if length == 0 { break }
                splits &+= packets[found].takesSlot ? 1 : 0
                hasSingleRefs = false
                index &+= length
            } else {
                var verdict = Self.undeliverable(ref.byteCount)
                if Self.isDeliverable(ref.byteCount) {
                    verdict =
                        needsCloserLook(ref.byteCount, method)
                        ? judgeShort(ref.byteCount)
                        : judge(Self.parse(ref, method), slotSize, method)
                }
                plan(found, verdict, firstRef: index, refCount: 1, ref.byteCount, method)
                splits &+= verdict.headerLength != 0 ? 1 : 0
                index &+= 1
            }
            found &+= 1
        }
        packetCount = found
        splitCount = splits
    }

    /// What becomes of a packet as far as the packet alone decides.
    private struct Verdict: BitwiseCopyable {
        var headerLength: UInt16
        var fate: PlannedPacket.Fate
    }

    @inline(__always)
    private func plan<Method: PlacementMethod>(
        _ number: Int, _ verdict: Verdict, firstRef: Int, refCount: Int, _ byteCount: UInt32,
        _ method: Method.Type
    ) {
        (packets + number).initialize(
            to: PlannedPacket(
                headerLength: verdict.headerLength, fate: verdict.fate, firstRef: firstRef,
                refCount: refCount))
        needs[number] =
            verdict.fate.isDropped
            ? .max : need(Int(byteCount), headerLength: Int(verdict.headerLength), method)
    }

    /// Bytes that a packet puts into its data buffers.
    @inline(__always)
    func need<Method: PlacementMethod>(
        _ byteCount: Int, headerLength: Int, _ method: Method.Type
    ) -> Int {
        let isSplit = Method.splits && headerLength != 0
        let prefix = Method.prefixByteCount(split: isSplit, netHeader: netHeaderByteCount)
        return prefix &+ byteCount &- (Method.splits ? headerLength : 0)
    }

    @inline(__always)
    private static func parse<Method: PlacementMethod>(
        _ ref: PacketRef, _ method: Method.Type
    ) -> HeaderSplit {
        if !Method.splits { return HeaderSplit(byteCount: 0) }
        return HeaderParser.parse(ref.pointer, byteCount: Int(ref.byteCount))
    }

    @inline(__always)
    private func judge<Method: PlacementMethod>(
        _ split: HeaderSplit, _ slotSize: Int, _ method: Method.Type
    ) -> Verdict {
        if !Method.splits { return Verdict(headerLength: 0, fate: .deliver) }
        let length = Int(split.byteCount)
        if length == 0 {
            return Verdict(headerLength: 0, fate: PlannedPacket.Fate(FallbackReason.notSplittable))
        }
        if Method.slotByteCount(headerLength: length, netHeader: netHeaderByteCount) > slotSize {
            return Verdict(headerLength: 0, fate: PlannedPacket.Fate(FallbackReason.headerTooLong))
        }
        return Verdict(headerLength: split.byteCount, fate: .deliver)
    }

    @inline(__always)
    private func needsCloserLook<Method: PlacementMethod>(
        _ byteCount: UInt32, _ method: Method.Type
    ) -> Bool {
        Method.splits && byteCount <= closerLimit
    }

    /// A packet short enough for the split policy to have a say.
    @inline(never)
    private mutating func judgeShort(_ byteCount: UInt32) -> Verdict {
        if byteCount > tinyLimit {
            return Verdict(headerLength: 0, fate: PlannedPacket.Fate(FallbackReason.belowThreshold))
        }
        hasTiny = true
        return Verdict(headerLength: UInt16(truncatingIfNeeded: byteCount), fate: .tiny)
    }

    /// One packet of several references.
    /// - Returns: how many references it takes, or 0 if its end is not among `count`.
    @inline(never)
    private mutating func scanRun<Method: PlacementMethod>(
        _ refs: UnsafePointer<PacketRef>, _ count: Int, _ firstRef: Int, _ number: Int,
        _ slotSize: Int, _ method: Method.Type
    ) -> Int {
        var length = 0
        var ended = false
        while !ended && length < Self.maximumRefsPerPacket {
            if length == count { return 0 }
            ended = !refs[length].flags.contains(.more)
            length &+= 1
        }
        let byteCount = UInt32(clamping: Self.byteCount(refs, length))
        var verdict = Verdict(
            headerLength: 0, fate: PlannedPacket.Fate(DropReason.tooManySegments))
        // Without its end the rest comes as a packet of its own and is judged by its length.
        if ended && Self.isDeliverable(byteCount) && needsCloserLook(byteCount, method) {
            verdict = judgeShort(byteCount)
        } else if ended && Self.isDeliverable(byteCount) {
            let split =
                Method.splits
                ? HeaderParser.parse(segments: refs, segmentCount: length, scratch: scratch)
                : HeaderSplit(byteCount: 0)
            verdict = judge(split, slotSize, method)
        } else if ended {
            verdict = Self.undeliverable(byteCount)
        }
        plan(number, verdict, firstRef: firstRef, refCount: length, byteCount, method)
        return length
    }

    /// Bytes of `count` segments.
    static func byteCount(_ refs: UnsafePointer<PacketRef>, _ count: Int) -> Int {
        var sum = 0
        for index in 0..<count { sum &+= Int(refs[index].byteCount) }
        return sum
    }

    @inline(__always)
    private static func isDeliverable(_ byteCount: UInt32) -> Bool {
        byteCount &- 14 <= UInt32(maximumPacketByteCount &- 14)
    }

    private static func undeliverable(_ byteCount: UInt32) -> Verdict {
        let reason = byteCount < 14 ? DropReason.runt : DropReason.tooLong
        return Verdict(headerLength: 0, fate: PlannedPacket.Fate(reason))
    }
}
