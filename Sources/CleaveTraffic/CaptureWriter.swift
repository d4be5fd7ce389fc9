import CleaveHost
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
            bytes = PcapngBlocks.section() + PcapngBlocks.interface()
            for packet in packets { Self.appendPcapng(packet, to: &bytes) }
        }
        return bytes
    }

    /// Writes `packets` to `path`, replacing what is there.
    public func write(_ packets: [CaptureFile.Packet], path: String) throws(CaptureError) {
        let bytes = encode(packets)
        let descriptor = PathText.withBytes(path) {
            open($0, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
        }
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
        let block = PcapngPacket(
            interface: 0, time: packet.timestampNanoseconds,
            capturedByteCount: packet.bytes.count, originalByteCount: packet.originalByteCount)
        bytes += [UInt8](unsafeUninitializedCapacity: block.blockByteCount) { buffer, count in
            // SAFETY: a block has bytes, so the buffer has a base address.
            let base = UnsafeMutableRawPointer(buffer.baseAddress!)
            block.store(to: base).copyMemory(from: packet.bytes, byteCount: packet.bytes.count)
            count = block.blockByteCount
        }
    }

    private static func append(_ words: UInt32..., to bytes: inout [UInt8]) {
        for word in words {
            withUnsafeBytes(of: word.littleEndian) { bytes.append(contentsOf: $0) }
        }
    }
}
