import CleaveTraffic

/// Frames of several kinds, in turn.
struct Mix {
    let name: String
    let frames: [[UInt8]]

    /// Every mix that is compared, of `count` frames each.
    static func all(count: Int) throws -> [Mix] {
        let plain = ["tcp4", "udp4", "tcp6", "udp6"]
        let tagged = ["tcp4+vlan", "udp6+vlan", "udp4+qinq", "tcp6+qinq"]
        let timestamped = ["tcp4+ts", "tcp6+ts"]
        return [
            try Mix("plain", plain, count: count),
            try Mix("timestamps", ["tcp4+ts", "udp4", "tcp6+ts", "udp6"], count: count),
            try Mix("tags", plain + tagged, count: count),
            try Mix("options", plain + timestamped, optioned: 2, count: count),
            try Mix("all", plain + tagged + timestamped, optioned: 2, count: count),
        ]
    }

    /// - Parameters:
    ///   - kinds: header kinds of `TrafficProfile`.
    ///   - optioned: how many of the first kinds come once more with what no profile has: IPv4
    ///     options or an IPv6 extension header, at the end of a round.
    private init(
        _ name: String, _ kinds: [String], optioned: Int = 0, count: Int
    ) throws {
        self.name = name
        let rounds = try kinds.map {
            try TrafficProfile.parse("128/\($0)").packets(count: count, flows: 16, seed: 7)
        }
        let kindCount = kinds.count + 2 * optioned
        frames = (0..<count).map { index in
            let turn = index % kindCount
            if turn < kinds.count { return rounds[turn][index] }
            return Self.withOptions(rounds[(turn - kinds.count) % 4][index])
        }
    }

    /// The same packet with four bytes of IPv4 options, or eight of IPv6 hop-by-hop options.
    private static func withOptions(_ frame: [UInt8]) -> [UInt8] {
        var frame = frame
        if frame[14] >> 4 == 4 {
            frame[14] = 0x46
            frame.insert(contentsOf: [1, 1, 1, 1], at: 34)
            frame[17] += 4
        } else {
            // Next header, 0 further units of 8 bytes, and a PadN option over the rest.
            frame.insert(contentsOf: [frame[20], 0, 1, 4, 0, 0, 0, 0], at: 54)
            frame[20] = 0
            frame[19] += 8
        }
        return frame
    }
}
