import Glibc

/// Writes packets as a capture file, to export a generated mix or to build a test input.
///
/// Deliberately plain: little-endian, nanoseconds, one Ethernet interface, no options but the
/// resolution.
public struct CaptureWriter: Sendable {
    /// The formats that are written.
    public enum Format: Sendable, CaseIterable {
        case pcap, pcapng
    }

    /// The format of the bytes that `encode` returns.
    public let format: Format

    public init(format: Format) {
        self.format = format
    }

    /// The bytes of a capture file that holds `packets`; lengths and, in pcap, seconds are kept
    /// to 32 bits, as the formats store them.
    public func encode(_ packets: [CaptureFile.Packet]) -> [UInt8] {
        var bytes: [UInt8] = []
        switch format {
        case .pcap:
            Self.append(0xa1b2_3c4d, 0x0004_0002, 0, 0, to: &bytes)
            Self.append(UInt32(CaptureFile.maximumPacketByteCount), 1, to: &bytes)
            for packet in packets { Self.appendPcap(packet, to: &bytes) }
        case .pcapng:
            // Section header, its length unknown (-1).
            Self.append(0x0a0d_0d0a, 28, 0x1a2b_3c4d, 1, .max, .max, 28, to: &bytes)
            // Ethernet interface, no snap length, if_tsresol = 9, end of options.
            Self.append(1, 32, 1, 0, 0x0001_0009, 9, 0, 32, to: &bytes)
            for packet in packets { Self.appendPcapng(packet, to: &bytes) }
        }
        return bytes
    }

    /// Writes `packets` to `path`, replacing what is there.
    public func write(_ packets: [CaptureFile.Packet], path: String) throws(CaptureError) {
        let bytes = encode(packets)
        let descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
        guard descriptor >= 0 else { throw CaptureFile.systemError(path, "cannot write") }
        defer { close(descriptor) }
        var done = 0
        while done < bytes.count {
            let count = bytes.withUnsafeBytes { buffer in
                // SAFETY: `done` is less than the buffer's count, so it has a base address.
                Glibc.write(descriptor, buffer.baseAddress! + done, buffer.count - done)
            }
            if count < 0 && errno == EINTR { continue }
            guard count > 0 else { throw CaptureFile.systemError(path, "cannot write") }
            done += count
        }
    }

    private static func appendPcap(_ packet: CaptureFile.Packet, to bytes: inout [UInt8]) {
        let (seconds, fraction) = packet.timestampNanoseconds.quotientAndRemainder(
            dividingBy: 1_000_000_000)
        append(
            UInt32(truncatingIfNeeded: seconds), UInt32(fraction),
            UInt32(truncatingIfNeeded: packet.bytes.count),
            UInt32(truncatingIfNeeded: packet.originalByteCount), to: &bytes)
        bytes += packet.bytes
    }

    private static func appendPcapng(_ packet: CaptureFile.Packet, to bytes: inout [UInt8]) {
        let padding = (4 - packet.bytes.count % 4) % 4
        let blockByteCount = UInt32(truncatingIfNeeded: 32 + packet.bytes.count + padding)
        append(
            6, blockByteCount, 0, UInt32(packet.timestampNanoseconds >> 32),
            UInt32(truncatingIfNeeded: packet.timestampNanoseconds),
            UInt32(truncatingIfNeeded: packet.bytes.count),
            UInt32(truncatingIfNeeded: packet.originalByteCount), to: &bytes)
        bytes += packet.bytes
        bytes += [UInt8](repeating: 0, count: padding)
        append(blockByteCount, to: &bytes)
    }

    private static func append(_ words: UInt32..., to bytes: inout [UInt8]) {
        for word in words {
            withUnsafeBytes(of: word.littleEndian) { bytes.append(contentsOf: $0) }
        }
    }
}
