// Pass 1: from references to packets, each with its split point. Touches the sources' headers and
// no guest memory.

import CCleaveHost

extension BurstPlan {
    /// Finds the packets of `count` references, at most `burst` of them.
    ///
    /// A run whose end has not been submitted yet ends the scan.
    /// - Parameter plainOnly: so does a reference that is not a packet in one piece.
    @inline(__always)
    mutating func scan(
        _ refs: UnsafePointer<PacketRef>, _ count: Int, plainOnly: Bool, slotSize: Int
    ) {
        packetCount = scanPlain(refs, into: needs, limit: min(count, burst), slotSize: slotSize)
        splitCount = Method.splits ? packetCount : 0
        if packetCount < min(count, burst) {
            onCopy(&self) {
                $0.scanRest(refs, count: count, plainOnly: plainOnly, slotSize: slotSize)
            }
        }
    }

    /// Continues with the first packet that is not plain: one by one, with runs between.
    @inline(never)
    private mutating func scanRest(
        _ refs: UnsafePointer<PacketRef>, count: Int, plainOnly: Bool, slotSize: Int
    ) {
        list(refs)
        var index = packetCount
        let count = plainOnly ? Self.plainCount(refs, count) : count
        while index < count && packetCount < burst {
            let length = scanOne(
                refs + index, count: count &- index, firstRef: index, slotSize: slotSize)
            if length == 0 { return }
            index &+= length
            let needsOut = needs + packetCount &* Method.partCount
            let limit = min(count &- index, burst &- packetCount)
            let found = scanPlain(refs + index, into: needsOut, limit: limit, slotSize: slotSize)
            list(packetCount, found, refs, from: index)
            packetCount &+= found
            if Method.splits { splitCount &+= found }
            index &+= found
        }
    }

    /// How many references in a row are packets in one piece.
    static func plainCount(_ refs: UnsafePointer<PacketRef>, _ count: Int) -> Int {
        (0..<count).first { !refs[$0].isPlain } ?? count
    }

    /// An Ethernet header: what is shorter is no packet.
    private static var leastByteCount: UInt64 { 14 }

    /// Fast path of scan: packets in a row that lie in one piece and, if the method splits, do so
    /// by the parser's fast path or go to their slot entirely. A loop of its own without a call in
    /// it, as `popRun`.
    ///
    /// Headers are loaded some packets ahead: 159 to 105 cycles at 64 bytes from sources that no
    /// cache holds, 208 to 195 at 1500 bytes.
    ///
    /// It writes their needs alone, from which `list` can recover the rest if asked: without a word
    /// of `packets` to write a packet took 8 instructions less.
    /// - Returns: how many references, and packets.
    @inline(__always)
    private func scanPlain(
        _ refs: UnsafePointer<PacketRef>, into needsOut: UnsafeMutablePointer<Int>, limit: Int,
        slotSize: Int
    ) -> Int {
        let least =
            Method.splits
            ? UInt64(max(UInt32(HeaderParser.fastByteCount), settings.closerLimit &+ 1))
            : Self.leastByteCount
        let end = UInt64(Method.splitPayloadLimit) &+ 1
        // The split threshold may be above a limit that the method sets: then none is plain.
        let span = end &- (Method.reportsInUsedLength ? min(least, end) : least)
        // No packet, if none is to go to a slot entirely.
        let tinyEnd = max(UInt64(settings.tinyLimit) &+ 1, Self.leastByteCount)
        let tinySpan = tinyEnd &- Self.leastByteCount
        let room = slotSize &- Method.slotByteCount(headerLength: 0, netHeader: netHeaderByteCount)
        let prefix = Method.prefixByteCount(split: Method.splits, netHeader: netHeaderByteCount)
        var found = 0
        while found < limit {
            // One comparison for the length and for flags, of which a plain packet has none.
            let extent = PacketRef.extent(of: refs + found)
            if !refs[found].hasAddress { break }
            let byteCount = Int(truncatingIfNeeded: extent)
            if Method.splits {
                cleave_prefetch_read(refs[min(found &+ 12, limit &- 1)].pointer)
            }
            var length = 0
            if extent &- least < span {
                if Method.splits {
                    length = HeaderParser.fastLength(refs[found].pointer, byteCount: byteCount)
                    if length == 0 || Method.claimsSlots && length > room { break }
                }
            } else if Method.claimsSlots && extent &- Self.leastByteCount < tinySpan {
                length = byteCount
            } else {
                break
            }
            let payload = byteCount &- length
            // Without payload a second buffer would be wasted.
            if Method.partsAreBuffers && payload == 0 { break }
            if Method.leadsWithHeaders {
                needsOut[2 &* found] = prefix &+ length
                needsOut[2 &* found &+ 1] = payload
            } else {
                needsOut[found] = prefix &+ payload
            }
            found &+= 1
        }
        return found
    }

    /// One packet of any kind.
    /// - Returns: how many references it takes, or 0 if its end is not among `count`.
    @inline(never)
    private mutating func scanOne(
        _ refs: UnsafePointer<PacketRef>, count: Int, firstRef: Int, slotSize: Int
    ) -> Int {
        var length = 0
        var ended = false
        var flags: PacketRef.Flags = []
        while !ended && length < BurstLimit.refsPerPacket {
            if length == count { return 0 }
            flags.formUnion(refs[length].flags)
            ended = !refs[length].flags.contains(.more)
            length &+= 1
        }
        if length > 1 { form = .mixed }
        let byteCount = UInt32(clamping: Self.byteCount(refs, length))
        // Without its end the rest comes as a packet of its own and is judged by its length.
        let (headerLength, outcome) =
            ended
            ? judge(
                refs, count: length, byteCount: byteCount, hasContext: flags.contains(.context),
                slotSize: slotSize)
            : Self.dropped(.tooManySegments)
        let packet = PlannedPacket(
            headerLength: headerLength, outcome: outcome, firstRef: firstRef, refCount: length)
        (packets + packetCount).initialize(to: packet)
        let need =
            outcome.isDropped ? .max : need(Int(byteCount), headerLength: Int(headerLength))
        setNeed(packetCount, need)
        packetCount &+= 1
        splitCount &+= packet.isSplit ? 1 : 0
        return length
    }

    private typealias Verdict = (headerLength: UInt16, outcome: PlannedPacket.Outcome)

    /// Bytes that a packet puts into its data buffers.
    @inline(__always)
    func need(
        _ byteCount: Int, headerLength: Int
    ) -> Int {
        let isSplit = Method.splits && headerLength != 0
        let prefix = Method.prefixByteCount(split: isSplit, netHeader: netHeaderByteCount)
        return prefix &+ byteCount &- (Method.claimsSlots ? headerLength : 0)
    }

    /// Records the bytes of a packet that no run of two parts may take.
    @inline(__always)
    func setNeed(_ index: Int, _ need: Int) {
        if Method.partCount == 2 { needs[2 &* index] = .max }
        needs[Method.partCount &* (index &+ 1) &- 1] = need
    }

    /// Bytes that packet `index` puts into its data buffers, whatever their parts.
    @inline(__always)
    func totalNeed(_ index: Int) -> Int {
        let last = needs[Method.partCount &* (index &+ 1) &- 1]
        if Method.partCount == 1 || needs[2 &* index] == .max { return last }
        return needs[2 &* index] &+ last
    }

    /// Outcome of a packet, as far as the packet alone decides.
    private func judge(
        _ refs: UnsafePointer<PacketRef>, count: Int, byteCount: UInt32, hasContext: Bool,
        slotSize: Int
    ) -> Verdict {
        if hasContext, let reason = refusal(refs, count, byteCount) { return Self.dropped(reason) }
        if UInt64(byteCount) < Self.leastByteCount { return Self.dropped(.runt) }
        if byteCount > UInt32(BurstLimit.packetByteCount) { return Self.dropped(.tooLong) }
        if !Method.splits { return (0, .deliver) }
        if byteCount <= settings.tinyLimit {
            return (UInt16(truncatingIfNeeded: byteCount), .tiny)
        }
        if byteCount <= settings.closerLimit { return Self.whole(.belowThreshold) }
        let skipped = hasContext ? 1 : 0
        let split = HeaderParser.parse(
            segments: refs + skipped, segmentCount: count &- skipped, scratch: scratch)
        let length = Int(split.byteCount)
        if length == 0 { return Self.whole(.notSplittable) }
        let slotBytes = Method.slotByteCount(headerLength: length, netHeader: netHeaderByteCount)
        if Method.claimsSlots && slotBytes > slotSize { return Self.whole(.headerTooLong) }
        if Int(byteCount) &- length > Method.splitPayloadLimit {
            return Self.whole(.notSplittable)
        }
        return (split.byteCount, .deliver)
    }

    private static func dropped(_ reason: DropReason) -> Verdict {
        (0, PlannedPacket.Outcome(reason))
    }

    private static func whole(_ reason: FallbackReason) -> Verdict {
        (0, PlannedPacket.Outcome(reason))
    }

    /// Bytes of the segments among `count` references.
    static func byteCount(_ refs: UnsafePointer<PacketRef>, _ count: Int) -> Int {
        var sum = 0
        for index in 0..<count where !refs[index].flags.contains(.context) {
            sum &+= Int(refs[index].byteCount)
        }
        return sum
    }
}
