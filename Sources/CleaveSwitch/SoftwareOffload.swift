// Checksums and segments in software, for a far side that takes packets finished only.
//
//   gather    the first bytes of the packet are copied, once; all decisions are made on the copy
//   cut       segment by segment: the headers from the copy, the payload from the source's memory
//   sum       over the finished copy, which nobody else writes
//
// The source's bytes are a guest's, who may change them meanwhile: it then sends other payload,
// under a checksum of just that.
//
// What the checksum field holds is taken as the pseudo-header's sum, as virtio demands of drivers;
// a segment's differs from it by its length. So a routing header, which changes the destination
// that counts, needs no care.
//
// Sources: virtio 1.4, "Packet Transmission"; RFC 9293 (TCP), 768 (UDP), 791 and 8200 (fragments),
// 3168 (CWR).

import CleaveVirtioNet

/// Finishes one packet after the other in memory of its own. One thread at a time.
final class SoftwareOffload {
    /// Why a packet cannot be finished.
    enum Refusal: UInt8, CaseIterable {
        /// Its offloads are contradictory, or name bytes that it does not have.
        case badOffload
        /// Its headers are not those that its offloads say, do not lie within its first
        /// `maximumHeaderByteCount` bytes, or are a fragment's.
        case badHeaders
        /// It is longer than `maximumByteCount`.
        case tooLong
        /// It makes more than `maximumSegmentCount` segments, or more references than are wanted.
        case noRoom

        /// The name in reports.
        var name: String { String(describing: self) }
    }

    /// What became of a packet.
    enum Outcome: Equatable {
        /// It was finished, into so many references.
        case finished(Int)
        case refused(Refusal)
    }

    /// The largest packet that virtio knows.
    static let maximumByteCount = 65589
    /// Most segments of one packet: full-sized packets of 256 bytes of payload each.
    static let maximumSegmentCount = 256
    /// Ethernet, IP and transport headers of one packet.
    static let maximumHeaderByteCount = 512

    private static let lineByteCount = 64
    /// Each segment begins a cache line, and may have a fragment header. Copies of a queue read up
    /// to a line past the end.
    private static let areaByteCount =
        maximumByteCount + maximumSegmentCount * (maximumHeaderByteCount + 8 + lineByteCount)
        + 2 * lineByteCount

    private let area: UnsafeMutableRawPointer
    /// The copy of the headers.
    private let head: UnsafeMutableRawPointer
    private var filled = 0
    /// Of the next fragmented IPv6 packet. It begins anywhere, so that threads do not meet.
    private var fragmentID = UInt32.random(in: 0...UInt32.max)

    init() {
        area = .allocate(byteCount: Self.areaByteCount, alignment: Self.lineByteCount)
        area.initializeMemory(as: UInt8.self, repeating: 0, count: Self.areaByteCount)
        head = .allocate(byteCount: Self.maximumHeaderByteCount, alignment: Self.lineByteCount)
        head.initializeMemory(as: UInt8.self, repeating: 0, count: Self.maximumHeaderByteCount)
    }

    deinit {
        area.deallocate()
        head.deallocate()
    }

    /// Finishes a packet.
    /// - Parameters:
    ///   - refs: one packet: its context, then its segments.
    ///   - count: how many references.
    ///   - offloads: what the far side takes. With GUEST_CSUM it gets TCP and UDP segments whose
    ///     checksum is left to it.
    ///   - out: room for `capacity` references. Those of each finished packet follow each other,
    ///     and refer to memory that is overwritten by the next call.
    func finish(
        _ refs: UnsafePointer<PacketRef>, count: Int, for offloads: VirtioFeatures,
        into out: UnsafeMutablePointer<PacketRef>, capacity: Int
    ) -> Outcome {
        guard count > 1, let context = refs[0].context else { return .refused(.badOffload) }
        var byteCount = 0
        for index in 1..<count {
            if refs[index].flags.contains(.context) { return .refused(.badOffload) }
            byteCount &+= Int(refs[index].byteCount)
            if byteCount > Self.maximumByteCount { return .refused(.tooLong) }
        }
        filled = 0
        var source = SourceCursor(refs + 1, count: count &- 1)
        if context.gsoType == SegmentationType.none {
            if capacity < 1 { return .refused(.noRoom) }
            return finishWhole(context, &source, byteCount, out)
        }
        if !context.needsChecksum || context.gsoSize == 0 || byteCount < 14 {
            return .refused(.badOffload)
        }
        var whole = source
        let limit = min(byteCount, Self.maximumHeaderByteCount)
        whole.copy(to: head, byteCount: limit)
        guard let headers = SegmentHeaders(head, limit: limit, byteCount: byteCount) else {
            return .refused(.badHeaders)
        }
        if let refusal = Self.refusal(context, headers) { return .refused(refusal) }
        if context.gsoType == SegmentationType.udpFragments {
            return fragment(context, headers, &source, out, capacity)
        }
        let leavesChecksum = offloads.contains(.guestChecksum)
        return segment(context, headers, &source, leavesChecksum, out, capacity)
    }

    /// Whether headers are what a type of segmentation says.
    private static func refusal(_ context: PacketOffloads, _ headers: SegmentHeaders) -> Refusal? {
        let hasECN = context.gsoType & SegmentationType.ecn != 0
        let fits: Bool
        switch context.gsoType & ~SegmentationType.ecn {
        case SegmentationType.tcp4: fits = headers.isTCP && !headers.isIPv6
        case SegmentationType.tcp6: fits = headers.isTCP && headers.isIPv6
        case SegmentationType.udpFragments, SegmentationType.udpDatagrams:
            if hasECN { return .badOffload }
            fits = !headers.isTCP
        default: return .badOffload
        }
        guard fits, Int(context.csumStart) == headers.transportStart,
            context.csumOffset == (headers.isTCP ? 16 : 6)
        else { return .badHeaders }
        return nil
    }

    // MARK: The checksum alone

    private func finishWhole(
        _ context: PacketOffloads, _ source: inout SourceCursor, _ byteCount: Int,
        _ out: UnsafeMutablePointer<PacketRef>
    ) -> Outcome {
        let packet = claim()
        if context.needsChecksum {
            let start = Int(context.csumStart)
            let field = start &+ Int(context.csumOffset)
            if start < 14 || field &+ 2 > byteCount { return .refused(.badOffload) }
            source.copy(to: packet, byteCount: byteCount)
            let sum = InternetChecksum.sum(packet + start, byteCount: byteCount &- start)
            packet.store(word: InternetChecksum.finished(sum), at: field)
        } else {
            source.copy(to: packet, byteCount: byteCount)
        }
        out[0] = PacketRef(packet, byteCount: byteCount)
        return .finished(1)
    }

    // MARK: TCP segments and UDP datagrams

    private func segment(
        _ context: PacketOffloads, _ headers: SegmentHeaders, _ source: inout SourceCursor,
        _ leavesChecksum: Bool, _ out: UnsafeMutablePointer<PacketRef>, _ capacity: Int
    ) -> Outcome {
        let size = Int(context.gsoSize)
        let payloadByteCount = headers.end &- headers.payloadStart
        let segmentCount = max(1, (payloadByteCount &+ size &- 1) / size)
        let refsEach = leavesChecksum ? 2 : 1
        if segmentCount > Self.maximumSegmentCount || segmentCount &* refsEach > capacity {
            return .refused(.noRoom)
        }
        source.skip(headers.payloadStart)
        let field = headers.transportStart &+ Int(context.csumOffset)
        // The pseudo-header's sum but for the length.
        let pseudo = InternetChecksum.add(
            UnsafeRawPointer(head).word(at: field),
            ~InternetChecksum.length(headers.end &- headers.transportStart))
        var refCount = 0
        for index in 0..<segmentCount {
            let packet = claim()
            let byteCount = min(size, payloadByteCount &- index &* size)
            packet.copyMemory(from: head, byteCount: headers.payloadStart)
            source.copy(to: packet + headers.payloadStart, byteCount: byteCount)
            let end = headers.payloadStart &+ byteCount
            setNetwork(packet, headers, end: end, id: index)
            let isLast = index &+ 1 == segmentCount
            setTransport(packet, headers, index &* size, end: end, isFirst: index == 0, isLast)
            let transportByteCount = end &- headers.transportStart
            packet.store(
                word: InternetChecksum.add(pseudo, InternetChecksum.length(transportByteCount)),
                at: field)
            if leavesChecksum {
                out[refCount] = PacketRef(
                    context: PacketOffloads(
                        flags: NetHeaderFlags.needsChecksum, csumStart: context.csumStart,
                        csumOffset: context.csumOffset))
                refCount &+= 1
            } else {
                let sum = InternetChecksum.sum(
                    packet + headers.transportStart, byteCount: transportByteCount)
                packet.store(word: InternetChecksum.finished(sum), at: field)
            }
            out[refCount] = PacketRef(packet, byteCount: end)
            refCount &+= 1
            filled &+= end
        }
        return .finished(refCount)
    }

    /// Lengths, identification and header checksum of a segment's IP header.
    private func setNetwork(
        _ packet: UnsafeMutableRawPointer, _ headers: SegmentHeaders, end: Int, id: Int
    ) {
        let start = headers.networkStart
        if headers.isIPv6 {
            packet.store(networkWord: end &- start &- 40, at: start &+ 4)
            return
        }
        packet.store(networkWord: end &- start, at: start &+ 2)
        let first = Int(UnsafeRawPointer(head).word(at: start &+ 4).byteSwapped)
        packet.store(networkWord: first &+ id, at: start &+ 4)
        sumIPv4(packet, headers)
    }

    private func sumIPv4(_ packet: UnsafeMutableRawPointer, _ headers: SegmentHeaders) {
        let start = headers.networkStart
        packet.store(word: 0, at: start &+ 10)
        let sum = InternetChecksum.sum(packet + start, byteCount: headers.networkByteCount)
        packet.store(word: ~sum, at: start &+ 10)
    }

    /// Sequence number and flags of TCP, length of UDP.
    private func setTransport(
        _ packet: UnsafeMutableRawPointer, _ headers: SegmentHeaders, _ payloadOffset: Int,
        end: Int, isFirst: Bool, _ isLast: Bool
    ) {
        let start = headers.transportStart
        if !headers.isTCP {
            packet.store(networkWord: end &- start, at: start &+ 4)
            return
        }
        let sequence = UInt32(
            bigEndian: head.loadUnaligned(fromByteOffset: start &+ 4, as: UInt32.self))
        let next = sequence &+ UInt32(truncatingIfNeeded: payloadOffset)
        packet.storeBytes(of: next.bigEndian, toByteOffset: start &+ 4, as: UInt32.self)
        var flags = head.load(fromByteOffset: start &+ 13, as: UInt8.self)
        if !isLast { flags &= ~(TCPFlags.fin | TCPFlags.psh) }
        if !isFirst { flags &= ~TCPFlags.cwr }
        packet.storeBytes(of: flags, toByteOffset: start &+ 13, as: UInt8.self)
    }

    // MARK: IP fragments of one UDP datagram

    private func fragment(
        _ context: PacketOffloads, _ headers: SegmentHeaders, _ source: inout SourceCursor,
        _ out: UnsafeMutablePointer<PacketRef>, _ capacity: Int
    ) -> Outcome {
        // Offsets are in units of 8 bytes. The sum's field must be in the first fragment.
        let size = Int(context.gsoSize) & ~7
        let start = headers.fragmentStart
        if size < headers.payloadStart &- start { return .refused(.badOffload) }
        let dataByteCount = headers.end &- start
        let fragmentCount = (dataByteCount &+ size &- 1) / size
        if fragmentCount > Self.maximumSegmentCount || fragmentCount > capacity {
            return .refused(.noRoom)
        }
        // An offset of 13 bits and a reassembled packet of 16 bits of length.
        if dataByteCount > 65535 { return .refused(.tooLong) }
        let isWhole = fragmentCount == 1
        let headerByteCount = start &+ (headers.isIPv6 && !isWhole ? 8 : 0)
        source.skip(start)
        if headers.isIPv6 && !isWhole { fragmentID &+= 1 }
        var sum: UInt16 = 0
        for index in 0..<fragmentCount {
            let packet = claim()
            let offset = index &* size
            let byteCount = min(size, dataByteCount &- offset)
            packet.copyMemory(from: head, byteCount: start)
            let data = packet + headerByteCount
            if index == 0 {
                // The part that was judged is taken as it was judged.
                let judged = headers.payloadStart &- start
                source.skip(judged)
                data.copyMemory(from: head + start, byteCount: judged)
                source.copy(to: data + judged, byteCount: byteCount &- judged)
            } else {
                source.copy(to: data, byteCount: byteCount)
            }
            if isWhole {
                setNetwork(packet, headers, end: headers.end, id: 0)
            } else {
                let hasMore = index &+ 1 < fragmentCount
                setFragment(packet, headers, offset, byteCount, hasMore: hasMore)
            }
            // Data that is summed begins and ends at even offsets in all fragments but the last.
            let skipped = index == 0 ? headers.transportStart &- start : 0
            sum = InternetChecksum.add(
                sum,
                InternetChecksum.sum(data + skipped, byteCount: byteCount &- skipped))
            out[index] = PacketRef(packet, byteCount: headerByteCount &+ byteCount)
            filled &+= headerByteCount &+ byteCount
        }
        let field = headerByteCount &+ (headers.transportStart &- start) &+ Int(context.csumOffset)
        area.store(word: InternetChecksum.finished(sum), at: field)
        return .finished(fragmentCount)
    }

    /// The IP header of a fragment, and IPv6's fragment header after it.
    private func setFragment(
        _ packet: UnsafeMutableRawPointer, _ headers: SegmentHeaders, _ offset: Int,
        _ byteCount: Int, hasMore: Bool
    ) {
        let network = headers.networkStart
        let start = headers.fragmentStart
        if !headers.isIPv6 {
            packet.store(networkWord: start &- network &+ byteCount, at: network &+ 2)
            packet.store(networkWord: offset &>> 3 | (hasMore ? 0x2000 : 0), at: network &+ 6)
            sumIPv4(packet, headers)
            return
        }
        packet.store(networkWord: start &+ 8 &- network &- 40 &+ byteCount, at: network &+ 4)
        let next = packet.load(fromByteOffset: headers.nextHeaderOffset, as: UInt8.self)
        packet.storeBytes(of: 44, toByteOffset: headers.nextHeaderOffset, as: UInt8.self)
        packet.store(networkWord: Int(next) &<< 8, at: start)
        packet.store(networkWord: offset | (hasMore ? 1 : 0), at: start &+ 2)
        packet.storeBytes(of: fragmentID.bigEndian, toByteOffset: start &+ 4, as: UInt32.self)
    }

    /// The next free line of the area. The first packet of a call lies at its beginning.
    private func claim() -> UnsafeMutableRawPointer {
        filled = (filled &+ Self.lineByteCount &- 1) & ~(Self.lineByteCount &- 1)
        return area + filled
    }
}

/// Bits of TCP's flags.
private enum TCPFlags {
    static var fin: UInt8 { 0x01 }
    static var psh: UInt8 { 0x08 }
    static var cwr: UInt8 { 0x80 }
}

/// A place in the segments of one packet.
private struct SourceCursor {
    private let refs: UnsafePointer<PacketRef>
    private let count: Int
    private var index = 0
    private var offset = 0

    init(_ refs: UnsafePointer<PacketRef>, count: Int) {
        self.refs = refs
        self.count = count
    }

    /// Copies the next bytes; the packet has that many.
    mutating func copy(to target: UnsafeMutableRawPointer, byteCount: Int) {
        var done = 0
        while done < byteCount && index < count {
            let part = min(byteCount &- done, Int(refs[index].byteCount) &- offset)
            if part > 0 {
                (target + done).copyMemory(from: refs[index].pointer + offset, byteCount: part)
            }
            advance(part)
            done &+= part
        }
    }

    mutating func skip(_ byteCount: Int) {
        var done = 0
        while done < byteCount && index < count {
            let part = min(byteCount &- done, Int(refs[index].byteCount) &- offset)
            advance(part)
            done &+= part
        }
    }

    private mutating func advance(_ part: Int) {
        offset &+= part
        if offset == Int(refs[index].byteCount) { (index, offset) = (index &+ 1, 0) }
    }
}

extension UnsafeRawPointer {
    /// A word as it lies, at any alignment.
    fileprivate func word(at offset: Int) -> UInt16 {
        UInt16(littleEndian: loadUnaligned(fromByteOffset: offset, as: UInt16.self))
    }
}

extension UnsafeMutableRawPointer {
    /// Writes a word as it lies, at any alignment.
    fileprivate func store(word: UInt16, at offset: Int) {
        storeBytes(of: word.littleEndian, toByteOffset: offset, as: UInt16.self)
    }

    /// Writes the low 16 bits in network order.
    fileprivate func store(networkWord value: Int, at offset: Int) {
        storeBytes(
            of: UInt16(truncatingIfNeeded: value).bigEndian, toByteOffset: offset,
            as: UInt16.self)
    }
}
