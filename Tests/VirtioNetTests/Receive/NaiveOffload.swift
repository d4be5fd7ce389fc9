// The rules for a packet's offloads in the simplest form, and offloads to draw from.
import CleaveTestSupport
import CleaveVirtioNet

enum NaiveOffload {
    /// Why a packet with these offloads is dropped, if it is.
    static func refusal(
        _ offloads: PacketOffloads, _ packet: [UInt8], _ features: VirtioFeatures
    ) -> DropReason? {
        guard let needed = needs(offloads, packet) else { return .badOffload }
        return features.isSuperset(of: needed) ? nil : .offloadNotNegotiated
    }

    /// The features without which the packet cannot be delivered; nil if it makes no sense.
    private static func needs(_ offloads: PacketOffloads, _ packet: [UInt8]) -> VirtioFeatures? {
        guard offloads.flags < 4, offloads.hashReport < 10 else { return nil }
        let needsChecksum = offloads.flags % 2 == 1
        if needsChecksum {
            let start = Int(offloads.csumStart)
            guard start >= 14, start + Int(offloads.csumOffset) + 2 <= packet.count else {
                return nil
            }
        }
        if offloads.gsoType == 0 { return needsChecksum ? .guestChecksum : [] }
        guard needsChecksum, offloads.gsoSize > 0,
            let walk = NaiveParser.walk(packet, windowByteCount: 512),
            walk.transportStart == Int(offloads.csumStart)
        else { return nil }
        let kind = (offloads.gsoType, walk.isTCP, walk.isIPv6)
        switch kind {
        case (1, true, false): return [.guestChecksum, .guestTSO4]
        case (0x81, true, false): return [.guestChecksum, .guestTSO4, .guestECN]
        case (4, true, true): return [.guestChecksum, .guestTSO6]
        case (0x84, true, true): return [.guestChecksum, .guestTSO6, .guestECN]
        case (3, false, _): return [.guestChecksum, .guestUFO]
        case (5, false, false): return [.guestChecksum, .guestUSO4]
        case (5, false, true): return [.guestChecksum, .guestUSO6]
        default: return nil
        }
    }

    /// The expected net header of a delivered packet, `num_buffers` apart.
    /// - Parameters:
    ///   - split: headers that lie apart; 0 = whole.
    ///   - headerLength: where the packet could be split; 0 = not at all.
    static func netHeader(
        _ offloads: PacketOffloads?, _ features: VirtioFeatures, split: Int, headerLength: Int
    ) -> NetHeader {
        var header = NetHeader(hdrLen: UInt16(split))
        guard let offloads else { return header }
        if features.contains(.hashReport), offloads.hashReport != 0 {
            (header.hashValue, header.hashReport) = (offloads.hashValue, offloads.hashReport)
        }
        guard features.contains(.guestChecksum) else { return header }
        header.flags = offloads.flags
        guard offloads.flags % 2 == 1 else { return header }
        (header.csumStart, header.csumOffset) = (offloads.csumStart, offloads.csumOffset)
        if split == 0 { header.hdrLen = UInt16(headerLength) }
        if offloads.gsoType == 0 { return header }
        (header.gsoType, header.gsoSize) = (offloads.gsoType, offloads.gsoSize)
        return header
    }

    /// Offloads that suit the packet, or nearly.
    static func draw(_ packet: [UInt8], _ random: inout SeededRandom) -> PacketOffloads {
        let walk = NaiveParser.walk(packet, windowByteCount: 512)
        var offloads = PacketOffloads(
            flags: UInt8(random.int(0...3)), gsoSize: UInt16(random.int(1...1460)),
            csumStart: UInt16(walk?.transportStart ?? 34),
            csumOffset: walk?.isTCP == true ? 16 : 6,
            hashValue: UInt32(truncatingIfNeeded: random.next()),
            hashReport: UInt16(random.int(0...9)))
        if let walk, random.chance(60) {
            offloads.flags |= 1
            offloads.gsoType =
                walk.isTCP
                ? (walk.isIPv6 ? 4 : 1) | random.pick([0, 0, 0x80]) : random.pick([3, 5])
        }
        if random.chance(80) { return offloads }
        switch random.int(0...6) {
        case 0: offloads.flags = UInt8(random.int(0...255))
        case 1: offloads.gsoType = UInt8(random.int(0...255))
        case 2: offloads.gsoSize = 0
        case 3: offloads.csumStart = UInt16(random.pick([0, 13, 14, 65535, packet.count & 0xffff]))
        case 4: offloads.csumOffset = UInt16(random.pick([0, 65535, packet.count & 0xffff]))
        case 5: offloads.hashReport = UInt16(random.pick([10, 65535]))
        default: offloads.gsoType = random.pick([1, 3, 4, 5, 0x81, 0x83, 0x85, 2, 0x80])
        }
        return offloads
    }

    /// A set of features whose members have what they need.
    static func features(_ random: inout SeededRandom) -> VirtioFeatures {
        if random.chance(40) { return [] }
        var features: VirtioFeatures = .guestChecksum
        if random.chance(50) {
            for one in [
                VirtioFeatures.guestTSO4, .guestTSO6, .guestUFO, .guestUSO4, .guestUSO6,
            ] where random.chance(60) {
                features.insert(one)
            }
            let hasTCP = !features.isDisjoint(with: [.guestTSO4, .guestTSO6])
            if hasTCP && random.chance(50) { features.insert(.guestECN) }
        }
        return features
    }
}
