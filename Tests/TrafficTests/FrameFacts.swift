// An independent reader of frames: walks tags, checks lengths, and verifies checksums by the
// receiver's rule (the ones' complement sum over everything, the checksum included, is all ones).

/// What a TCP or UDP frame is, and what is wrong with it.
struct FrameFacts {
    var tags: [Int] = []
    var version = 0
    var transport = 0
    var headerByteCount = 0
    var sourcePort = 0
    var options: [UInt8] = []
    var payload: [UInt8] = []
    /// One word for each thing that is wrong.
    var faults: [String] = []

    /// Nil for a frame that is neither TCP nor UDP over IP, or is a fragment.
    init?(_ frame: [UInt8]) {
        func word(_ offset: Int) -> Int { Int(frame[offset]) * 256 + Int(frame[offset + 1]) }
        var offset = 12
        while [0x8100, 0x88a8].contains(word(offset)) {
            tags.append(word(offset))
            offset += 4
        }
        let network = offset + 2
        var pseudoHeader: [UInt8]
        let start: Int
        let end: Int
        switch word(offset) {
        case 0x0800:
            version = Int(frame[network] >> 4)
            start = network + Int(frame[network] & 15) * 4
            end = network + word(network + 2)
            transport = Int(frame[network + 9])
            if word(network + 6) & 0x3fff != 0 { return nil }
            if !Self.sumsToOnes(Array(frame[network..<start])) { faults.append("ipChecksum") }
            pseudoHeader = Array(frame[network + 12..<network + 20])
        case 0x86dd:
            version = Int(frame[network] >> 4)
            start = network + 40
            end = start + word(network + 4)
            transport = Int(frame[network + 6])
            pseudoHeader = Array(frame[network + 8..<network + 40])
        default: return nil
        }
        guard transport == 6 || transport == 17 else { return nil }
        guard end <= frame.count else {
            faults.append("ipLength")
            return
        }
        let length = UInt32(end - start)
        pseudoHeader += [24, 16, 8, 0].map { UInt8(truncatingIfNeeded: length >> $0) }
        pseudoHeader += [0, 0, 0, UInt8(transport)]
        if !Self.sumsToOnes(pseudoHeader + frame[start..<end]) { faults.append("checksum") }
        sourcePort = word(start)
        if transport == 6 {
            headerByteCount = start + Int(frame[start + 12] >> 4) * 4
            options = Array(frame[start + 20..<headerByteCount])
        } else {
            headerByteCount = start + 8
            if word(start + 4) != end - start { faults.append("udpLength") }
            if word(start + 6) == 0 { faults.append("udpNoChecksum") }
        }
        payload = Array(frame[headerByteCount..<end])
    }

    static func sumsToOnes(_ bytes: [UInt8]) -> Bool {
        var sum: UInt64 = 0
        for (index, byte) in bytes.enumerated() {
            sum += index % 2 == 0 ? UInt64(byte) << 8 : UInt64(byte)
        }
        // Ones' complement: 0xffff is zero, and no real frame sums to nothing.
        return sum > 0 && sum % 0xffff == 0
    }
}
