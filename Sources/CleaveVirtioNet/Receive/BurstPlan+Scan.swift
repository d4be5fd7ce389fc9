// Pass 1: from references to packets, each with its split point. Touches the sources' headers and
// no guest memory.

import CCleaveHost

extension BurstPlan {
    /// Finds the packets of `count` references, at most `burst` of them.
    ///
    /// A run whose end has not been submitted yet ends the scan.
    /// - Parameter plainOnly: so does a reference that is none of a packet in one piece.
    @inline(__always)
    mutating func scan<Method: PlacementMethod>(
        _ refs: UnsafePointer<PacketRef>, _ count: Int, plainOnly: Bool, slotSize: Int,
        _ method: Method.Type
    ) {
        hasSingleRefs = true
        hasTiny = false
        packetCount = scanPlain(refs, needs, min(count, burst), slotSize, method)
        splitCount = Method.splits ? packetCount : 0
        isListed = false
        if packetCount < min(count, burst) {
            var rare = self
            rare.scanRest(refs, count, plainOnly, slotSize, method)
            self = rare
        }
    }

    /// From the first packet on that is not plain: one by one, and in runs between.
    @inline(never)
    private mutating func scanRest<Method: PlacementMethod>(
        _ refs: UnsafePointer<PacketRef>, _ count: Int, _ plainOnly: Bool, _ slotSize: Int,
        _ method: Method.Type
    ) {
        list(refs, method)
        var index = packetCount
        let count = plainOnly ? Self.plainCount(refs, count) : count
        while index < count && packetCount < burst {
            let length = scanOne(refs + index, count &- index, index, slotSize, method)
            if length == 0 { return }
            index &+= length
            let needsOut = needs + packetCount &* Method.partCount
            let limit = min(count &- index, burst &- packetCount)
            let found = scanPlain(refs + index, needsOut, limit, slotSize, method)
            list(packetCount, found, refs, from: index, method)
            packetCount &+= found
            if Method.splits { splitCount &+= found }
            index &+= found
        }
    }

    /// How many references in a row are packets in one piece.
    static func plainCount(_ refs: UnsafePointer<PacketRef>, _ count: Int) -> Int {
        (0..<count).first { !refs[$0].isPlain } ?? count
    }

    /// The packets in a row that lie in one piece and, if the method splits, do so by the parser's
    /// fast path: nearly all. A loop of its own without a call in it, as `takeRun`.
    ///
    /// Headers are loaded some packets ahead: 159 to 105 cycles at 64 bytes from sources that no
    /// cache holds, 208 to 195 at 1500 bytes.
    ///
    /// It notes their needs alone, from which `list` can tell the rest should it be asked for:
    /// without a word of `packets` to write a packet took 8 instructions less.
    /// - Returns: how many references, and packets.
    @inline(__always)
    private func scanPlain<Method: PlacementMethod>(
        _ refs: UnsafePointer<PacketRef>, _ needsOut: UnsafeMutablePointer<Int>, _ limit: Int,
        _ slotSize: Int, _ method: Method.Type
    ) -> Int {
        let least = UInt64(
            Method.splits ? max(UInt32(HeaderParser.fastByteCount), closerLimit &+ 1) : 14)
        let span = UInt64(Self.maximumPacketByteCount) &- least
        let room = slotSize &- Method.slotByteCount(headerLength: 0, netHeader: netHeaderByteCount)
        let prefix = Method.prefixByteCount(split: Method.splits, netHeader: netHeaderByteCount)
        var found = 0
        while found < limit {
            // One comparison for the length and for flags, none of which is plain.
            let extent = PacketRef.extent(of: refs + found)
            if extent &- least > span || !refs[found].hasAddress { break }
            let byteCount = Int(truncatingIfNeeded: extent)
            var length = 0
            if Method.splits {
                cleave_prefetch_read(refs[min(found &+ 12, limit &- 1)].pointer)
                length = HeaderParser.fastLength(refs[found].pointer, byteCount: byteCount)
                if length == 0 || Method.claimsSlots && length > room { break }
            }
            let payload = byteCount &- length
            // A second buffer for nothing.
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

    /// Headers that plain packet `index` of `byteCount` bytes puts into a place of their own, by
    /// what it needs.
    @inline(__always)
    func plainHeaderLength<Method: PlacementMethod>(
        _ index: Int, _ byteCount: UInt32, _ method: Method.Type
    ) -> UInt16 {
        if !Method.splits { return 0 }
        let prefix = Method.prefixByteCount(split: true, netHeader: netHeaderByteCount)
        return UInt16(
            truncatingIfNeeded: Method.leadsWithHeaders
                ? needs[2 &* index] &- prefix : Int(byteCount) &+ prefix &- needs[index])
    }

    /// Writes down what scan left unwritten of a burst of plain packets.
    @inline(never)
    mutating func list<Method: PlacementMethod>(
        _ refs: UnsafePointer<PacketRef>, _ method: Method.Type
    ) {
        if !isListed { list(0, packetCount, refs, from: 0, method) }
        isListed = true
    }

    private func list<Method: PlacementMethod>(
        _ first: Int, _ count: Int, _ refs: UnsafePointer<PacketRef>, from firstRef: Int,
        _ method: Method.Type
    ) {
        for offset in 0..<count {
            let byteCount = refs[firstRef &+ offset].byteCount
            (packets + first + offset).initialize(
                to: PlannedPacket(
                    headerLength: plainHeaderLength(first &+ offset, byteCount, method),
                    fate: .deliver, firstRef: firstRef &+ offset, refCount: 1))
        }
    }

    /// One packet of any kind.
    /// - Returns: how many references it takes, or 0 if its end is not among `count`.
    @inline(never)
    private mutating func scanOne<Method: PlacementMethod>(
        _ refs: UnsafePointer<PacketRef>, _ count: Int, _ firstRef: Int, _ slotSize: Int,
        _ method: Method.Type
    ) -> Int {
        var length = 0
        var ended = false
        var flags: PacketRef.Flags = []
        while !ended && length < Self.maximumRefsPerPacket {
            if length == count { return 0 }
            flags.formUnion(refs[length].flags)
            ended = !refs[length].flags.contains(.more)
            length &+= 1
        }
        if length > 1 { hasSingleRefs = false }
        let byteCount = UInt32(clamping: Self.byteCount(refs, length))
        // Without its end the rest comes as a packet of its own and is judged by its length.
        let verdict =
            ended
            ? judge(refs, length, byteCount, flags.contains(.context), slotSize, method)
            : Verdict(headerLength: 0, fate: PlannedPacket.Fate(DropReason.tooManySegments))
        let packet = PlannedPacket(
            headerLength: verdict.headerLength, fate: verdict.fate, firstRef: firstRef,
            refCount: length)
        (packets + packetCount).initialize(to: packet)
        let need =
            verdict.fate.isDropped
            ? .max : need(Int(byteCount), headerLength: Int(verdict.headerLength), method)
        setNeed(packetCount, need, method)
        packetCount &+= 1
        splitCount &+= packet.isSplit ? 1 : 0
        return length
    }

    /// What becomes of a packet as far as the packet alone decides.
    private struct Verdict: BitwiseCopyable {
        var headerLength: UInt16
        var fate: PlannedPacket.Fate
    }

    /// Bytes that a packet puts into its data buffers.
    @inline(__always)
    func need<Method: PlacementMethod>(
        _ byteCount: Int, headerLength: Int, _ method: Method.Type
    ) -> Int {
        let isSplit = Method.splits && headerLength != 0
        let prefix = Method.prefixByteCount(split: isSplit, netHeader: netHeaderByteCount)
        return prefix &+ byteCount &- (Method.claimsSlots ? headerLength : 0)
    }

    /// Notes the bytes of a packet that no run of two parts may take.
    @inline(__always)
    func setNeed<Method: PlacementMethod>(_ index: Int, _ need: Int, _ method: Method.Type) {
        if Method.partCount == 2 { needs[2 &* index] = .max }
        needs[Method.partCount &* (index &+ 1) &- 1] = need
    }

    /// Bytes that packet `index` puts into its data buffers, whatever their parts.
    @inline(__always)
    func totalNeed<Method: PlacementMethod>(_ index: Int, _ method: Method.Type) -> Int {
        let last = needs[Method.partCount &* (index &+ 1) &- 1]
        if Method.partCount == 1 || needs[2 &* index] == .max { return last }
        return needs[2 &* index] &+ last
    }

    private mutating func judge<Method: PlacementMethod>(
        _ refs: UnsafePointer<PacketRef>, _ count: Int, _ byteCount: UInt32, _ hasContext: Bool,
        _ slotSize: Int, _ method: Method.Type
    ) -> Verdict {
        if hasContext, let reason = refusal(refs, count, byteCount) { return Self.dropped(reason) }
        if byteCount < 14 { return Self.dropped(.runt) }
        if byteCount > UInt32(Self.maximumPacketByteCount) { return Self.dropped(.tooLong) }
        if !Method.splits { return Verdict(headerLength: 0, fate: .deliver) }
        if byteCount <= tinyLimit {
            hasTiny = true
            return Verdict(headerLength: UInt16(truncatingIfNeeded: byteCount), fate: .tiny)
        }
        if byteCount <= closerLimit { return Self.whole(.belowThreshold) }
        let skipped = hasContext ? 1 : 0
        let split = HeaderParser.parse(
            segments: refs + skipped, segmentCount: count &- skipped, scratch: scratch)
        let length = Int(split.byteCount)
        if length == 0 { return Self.whole(.notSplittable) }
        let slotBytes = Method.slotByteCount(headerLength: length, netHeader: netHeaderByteCount)
        if Method.claimsSlots && slotBytes > slotSize { return Self.whole(.headerTooLong) }
        return Verdict(headerLength: split.byteCount, fate: .deliver)
    }

    private static func dropped(_ reason: DropReason) -> Verdict {
        Verdict(headerLength: 0, fate: PlannedPacket.Fate(reason))
    }

    private static func whole(_ reason: FallbackReason) -> Verdict {
        Verdict(headerLength: 0, fate: PlannedPacket.Fate(reason))
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
