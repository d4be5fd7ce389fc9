// From the caller's packets to references, and back.
//
//   cleave_packet   0 data   8 length  12 flags  14 cookie   16 offloads  24 hash 30 more_count
//                   32 more                                   (40 bytes, checked in slots.c)
//   PacketRef       0 address 8 byteCount 12 flags 14 cookie  (16 bytes)
//
// A packet in one piece, without offloads, is a reference already, but for its flags.

import CCleave
import CleaveVirtioNet

/// The references of a burst, and how packets become them. One thread at a time.
struct PacketBurst {
    let refs: UnsafeMutablePointer<PacketRef>
    /// Most packets in it.
    let packetCapacity: Int

    private static var packetByteCount: Int { 40 }
    /// Most segments of one packet.
    static let maximumSegments = RxQueue.maximumRefsPerPacket

    /// References that a burst of `packets` packets has room for: each in one piece, or fewer in
    /// more pieces.
    static func refCapacity(packets: Int) -> Int { packets + 4 * maximumSegments }

    /// Result of a conversion.
    struct Converted {
        var packetCount: Int
        var refCount: Int
        /// What is wrong with the packet after the last one.
        var problem: Refusal?
    }

    /// Converts up to `count` packets, as many as there is room for, up to the first that is
    /// malformed.
    @inline(__always)
    func convert(_ packets: UnsafeRawPointer, _ count: Int) -> Converted {
        let limit = min(count, packetCapacity)
        if copyPlain(packets, limit) {
            return Converted(packetCount: limit, refCount: limit, problem: nil)
        }
        return convertAny(packets, limit)
    }

    /// Copies the first words of packets, which are references.
    ///
    /// Two loads and a store for each, and one branch for all: a check of each packet on its own
    /// cost twice as much.
    /// - Returns: whether all were in one piece and plain; if not, the references mean nothing.
    @inline(__always)
    private func copyPlain(_ packets: UnsafeRawPointer, _ count: Int) -> Bool {
        typealias Words = SIMD2<UInt64>
        let target = UnsafeMutableRawPointer(refs)
        let withoutFlags = Words(.max, 0xffff_0000_ffff_ffff)
        // Offloads and further segments: must be 0.
        var extras = Words.zero
        // Its sign bit tells that some `data` was 0 (or no address of a user's).
        var belowData = Words.zero
        var index = 0
        while index < count {
            let packet = packets + index &* Self.packetByteCount
            let first = packet.loadUnaligned(as: Words.self)
            extras |= packet.loadUnaligned(fromByteOffset: 16, as: Words.self)
            belowData |= first &- Words(1, 0)
            (target + index &* 16).storeBytes(of: first & withoutFlags, as: Words.self)
            index &+= 1
        }
        return extras == .zero && belowData.x >> 63 == 0
    }

    @inline(never)
    private func convertAny(_ packets: UnsafeRawPointer, _ count: Int) -> Converted {
        var converted = Converted(packetCount: 0, refCount: 0, problem: nil)
        let capacity = Self.refCapacity(packets: packetCapacity)
        while converted.packetCount < count,
            converted.refCount <= capacity - Self.maximumSegments
        {
            let index = converted.packetCount
            let packet = (packets + index * Self.packetByteCount)
                .loadUnaligned(as: cleave_packet.self)
            do throws(Refusal) {
                converted.refCount += try append(packet, at: converted.refCount)
                converted.packetCount += 1
            } catch {
                converted.problem = Refusal(error.code, "packets[\(index)]\(error.text)")
                break
            }
        }
        return converted
    }

    /// Checks one packet and writes its references from number `start` on.
    /// - Returns: how many.
    private func append(_ packet: cleave_packet, at start: Int) throws(Refusal) -> Int {
        guard let data = packet.data else { throw .invalid(".data is NULL") }
        let offloads = PacketOffloads(
            flags: packet.net_flags, gsoType: packet.gso_type, gsoSize: packet.gso_size,
            csumStart: packet.csum_start, csumOffset: packet.csum_offset,
            hashValue: packet.hash_value, hashReport: packet.hash_report)
        let contextCount = offloads == PacketOffloads() ? 0 : 1
        let more = Int(packet.more_count)
        guard more + contextCount < Self.maximumSegments else {
            throw .invalid(
                ".more_count is \(more), more than "
                    + "\(Self.maximumSegments - 1 - contextCount)")
        }
        // A reference without bytes would be one segment more that says nothing.
        guard packet.length > 0 || more == 0 else {
            throw .invalid(" has segments after an empty first one")
        }
        if contextCount > 0 { (refs + start).initialize(to: PacketRef(context: offloads)) }
        var count = contextCount + 1
        (refs + start + contextCount).initialize(to: ref(data, packet.length, packet.cookie))
        guard more > 0 else { return count }
        guard let segments = packet.more else { throw .invalid(".more is NULL") }
        for index in 0..<more {
            let segment = (UnsafeRawPointer(segments) + 16 * index)
                .loadUnaligned(as: cleave_segment.self)
            if segment.length == 0 { continue }
            guard let data = segment.data else { throw .invalid(".more[\(index)].data is NULL") }
            refs[start + count - 1].flags.insert(.more)
            (refs + start + count).initialize(to: ref(data, segment.length, packet.cookie))
            count += 1
        }
        return count
    }

    private func ref(_ data: UnsafeRawPointer, _ length: UInt32, _ cookie: UInt16) -> PacketRef {
        PacketRef(
            address: UInt64(UInt(bitPattern: data)), byteCount: length, cookie: cookie)
    }

    /// How many packets the first `refCount` references make up, marking those that were dropped.
    @inline(never)
    func markDropped(
        _ packets: UnsafeMutablePointer<cleave_packet>, refCount: Int
    ) -> Int {
        var packet = 0
        for index in 0..<refCount where !refs[index].flags.contains(.more) {
            if refs[index].flags.contains(.dropped) {
                let place = UnsafeMutableRawPointer(packets) + packet * Self.packetByteCount
                place.storeBytes(
                    of: UInt16(CLEAVE_PACKET_DROPPED.rawValue), toByteOffset: 12, as: UInt16.self)
            }
            packet += 1
        }
        return packet
    }
}
