// Packets whose headers are anything, in any pieces, with their headers split off: what the driver
// finds in slot and buffers is the packet.
import CleaveTestSupport
import CleaveVirtioNet

enum HeaderFuzz {
    /// Input: number of cuts, the cuts as 16-bit offsets, and the frame.
    static func run(_ input: [UInt8]) throws -> Set<String> {
        var reader = InputReader(input)
        let cutCount = Int(reader.byte() & 7)
        let cuts = (0..<cutCount).map { _ in reader.number() }
        let frame = reader.take(3000)
        if frame.isEmpty { return ["empty"] }
        var segments: [[UInt8]] = []
        var start = 0
        for cut in cuts.sorted() where cut > start && cut < frame.count {
            segments.append(Array(frame[start..<cut]))
            start = cut
        }
        segments.append(Array(frame[start...]))

        let rig = try EvilRig(
            features: [], method: .headerQueue(.netHeader), slots: (128, 8))
        rig.post(0)
        let outcome = rig.port.enqueue([SourcePacket(segments: segments)], to: rig.queue)
        try Violation.unless(rig.guest.bandsAreIntact, "a byte beside guest memory was written")
        try Violation.unless(outcome.result.consumed == segments.count, "the packet was not taken")
        if outcome.result.delivered == 0 { return ["dropped"] }
        guard let headers = rig.headers, let used = rig.used.first, rig.used.count == 1 else {
            throw Violation("\(rig.used.count) buffers for one packet")
        }
        // The net header, and in 8 bytes after it the report: slot, bytes of headers, 1 if split.
        let buffer = rig.guest.read(EvilRig.page(used.head), Int(used.length))
        try Violation.unless(buffer.count >= 20, "\(buffer.count) bytes used")
        let (slot, headerCount) = (Int(buffer[12]), Int(buffer[16]) | Int(buffer[17]) << 8)
        let isSplit = buffer[18] == 1
        try Violation.unless(
            isSplit ? slot < 8 && headerCount <= 128 : headerCount == 0,
            "slot \(slot) has \(headerCount) bytes of headers")
        let found = (isSplit ? headers.slot(slot, headerCount) : []) + buffer[20...]
        try Violation.unless(found == frame, "the packet arrived changed")
        return [isSplit ? "split" : "whole"]
    }
}
