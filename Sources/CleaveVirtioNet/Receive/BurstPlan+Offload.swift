// Packets that come with offloads: rare enough to be judged and placed outside the fast loops.
//
// Source: virtio 1.4, "Network Device" / "Processing of Incoming Packets".

extension BurstPlan {
    /// Why a run of references with a context among them cannot be delivered, or nil.
    /// - Parameters:
    ///   - refs: the run, `count` references: a context, then segments.
    ///   - byteCount: bytes of the packet.
    @inline(never)
    func refusal(
        _ refs: UnsafePointer<PacketRef>, _ count: Int, _ byteCount: UInt32
    ) -> DropReason? {
        guard let context = refs[0].context, count > 1 else { return .badOffload }
        for index in 1..<count where refs[index].flags.contains(.context) { return .badOffload }
        let known = NetHeaderFlags.needsChecksum | NetHeaderFlags.dataValid
        if context.flags & ~known != 0 { return .badOffload }
        if context.hashReport > PacketOffloads.maximumHashReport { return .badOffload }
        if context.needsChecksum {
            let end = UInt32(context.csumStart) &+ UInt32(context.csumOffset) &+ 2
            if context.csumStart < 14 || end > byteCount { return .badOffload }
        }
        if context.gsoType != SegmentationType.none {
            if !context.needsChecksum || context.gsoSize == 0 { return .badOffload }
            return segmentationRefusal(context, refs + 1, count: count &- 1, byteCount: byteCount)
        }
        let isAllowed = !context.needsChecksum || settings.features.contains(.guestChecksum)
        return isAllowed ? nil : .offloadNotNegotiated
    }

    /// The same for a packet that is to be segmented by its receiver: it must be what its type
    /// says, and that type negotiated.
    private func segmentationRefusal(
        _ context: PacketOffloads, _ segments: UnsafePointer<PacketRef>, count: Int,
        byteCount: UInt32
    ) -> DropReason? {
        let hasECN = context.gsoType & SegmentationType.ecn != 0
        let walk = HeaderParser.walk(segments: segments, segmentCount: count, scratch: scratch)
        let needed: VirtioFeatures
        let fits: Bool
        switch context.gsoType & ~SegmentationType.ecn {
        case SegmentationType.tcp4: (needed, fits) = (.guestTSO4, walk.isTCP && !walk.isIPv6)
        case SegmentationType.tcp6: (needed, fits) = (.guestTSO6, walk.isTCP && walk.isIPv6)
        case SegmentationType.udpFragments: (needed, fits) = (.guestUFO, !walk.isTCP && !hasECN)
        case SegmentationType.udpDatagrams:
            (needed, fits) = (walk.isIPv6 ? .guestUSO6 : .guestUSO4, !walk.isTCP && !hasECN)
        default: return .badOffload
        }
        if !fits || !walk.split.isSplittable { return .badOffload }
        // Every segment repeats the headers up to `csum_start`, so it must be where the transport
        // header begins.
        if Int(context.csumStart) != walk.transportStart { return .badOffload }
        let all: VirtioFeatures = hasECN ? [needed, .guestECN] : needed
        return settings.features.isSuperset(of: all.union(.guestChecksum))
            ? nil : .offloadNotNegotiated
    }

    /// The net header of a packet off the fast path: with what its context says, as far as the
    /// features let it reach the driver.
    /// - Parameter refs: those of the burst.
    @inline(never)
    func netHeader(_ packet: PlannedPacket, _ refs: UnsafePointer<PacketRef>) -> NetHeader {
        var header = NetHeader(hdrLen: packet.headerLength, numBuffers: packet.bufferCount)
        let run = refs + packet.firstRef
        guard let context = run[0].context else { return header }
        if settings.features.contains(.hashReport) && context.hashReport != 0 {
            header.hashValue = context.hashValue
            header.hashReport = context.hashReport
        }
        if !settings.features.contains(.guestChecksum) { return header }
        header.flags = context.flags
        if !context.needsChecksum { return header }
        header.csumStart = context.csumStart
        header.csumOffset = context.csumOffset
        if context.gsoType != SegmentationType.none {
            header.gsoType = context.gsoType
            header.gsoSize = context.gsoSize
        }
        if header.hdrLen == 0 {
            header.hdrLen =
                HeaderParser.parse(
                    segments: run + 1, segmentCount: packet.refCount &- 1, scratch: scratch
                ).byteCount
        }
        return header
    }
}
