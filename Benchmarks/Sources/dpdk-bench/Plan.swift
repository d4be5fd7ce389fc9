import ArgumentParser
import CleaveVirtioNet

/// Conditions under which one pair of ports is made.
struct Shape: Hashable {
    var ring: RingFormat
    var isMergeable: Bool
    var ringSize: Int
    /// What the driver sends leaves its checksum to the device.
    var sendsChecksums = false

    var packets: String { sendsChecksums ? "checksum" : "plain" }
    var buffers: String { isMergeable ? "mergeable" : "single" }
    /// Bytes of a posted buffer: a page, or the largest packet with its net header; virtio-user
    /// takes none too small for a frame of 1500 bytes, a VLAN tag and a net header.
    func bufferByteCount(largestPacket: Int) -> Int {
        isMergeable ? 4096 : (max(largestPacket, 1530) + 12 + 63) & ~63
    }
}

/// What a run can measure.
enum Part: String {
    case enqueue, dequeue, checksums, call, threads
}

/// The cases of a run: every combination.
struct Plan {
    let shapes: [Shape]
    let rings: [RingFormat]
    let sizes: [Int]
    let isWarm: [Bool]
    let parts: Set<Part>
    let repeats: Int

    var largestPacket: Int { sizes.max() ?? 64 }

    init(
        rings: String, buffers: String, sizes: String, ringSizes: String, sources: String,
        parts: String, repeats: Int
    ) throws {
        self.sizes = try Self.list(sizes, "--sizes") {
            Int($0).flatMap { (64...9000).contains($0) ? $0 : nil }
        }
        isWarm = try Self.list(sources, "--sources") { ["warm": true, "cold": false][$0] }
        self.parts = Set(try Self.list(parts, "--parts") { Part(rawValue: $0) })
        let rings = try Self.list(rings, "--rings") { RingFormat(rawValue: $0) }
        let buffers = try Self.list(buffers, "--buffers") {
            ["mergeable": true, "single": false][$0]
        }
        let ringSizes = try Self.list(ringSizes, "--ring-sizes") {
            Int($0).flatMap { $0 >= 128 && $0 <= 4096 && $0 & ($0 - 1) == 0 ? $0 : nil }
        }
        self.rings = rings
        shapes = rings.flatMap { ring in
            buffers.flatMap { isMergeable in
                ringSizes.map { Shape(ring: ring, isMergeable: isMergeable, ringSize: $0) }
            }
        }
        self.repeats = repeats
    }

    private static func list<Value>(
        _ text: String, _ option: String, _ value: (String) -> Value?
    ) throws -> [Value] {
        try text.split(separator: ",").map {
            guard let value = value(String($0)) else {
                throw ValidationError("\(option): \($0) is none of its values")
            }
            return value
        }
    }

    /// Packets of a source set. Warm: they stay in the caches. Cold: three times what the
    /// last-level cache of a server core's neighbourhood holds, counting the lines touched.
    static func sourceCount(packetBytes: Int, isWarm: Bool) -> Int {
        if isWarm { return packetBytes > 2048 ? 256 : 1024 }
        let touched = (packetBytes + 63) & ~63 + 128
        return (96 << 20) / touched & ~31
    }

    /// Bursts of one run: some milliseconds.
    static func burstCount(packetBytes: Int) -> UInt32 {
        packetBytes <= 256 ? 2048 : packetBytes <= 1500 ? 1024 : 256
    }
}
