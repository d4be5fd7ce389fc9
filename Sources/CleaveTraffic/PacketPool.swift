// The packets of a run, laid out once in memory of one node:
//
//   | packet 0 .. | packet 1 .. | ... | packet n-1 .. | 64 bytes | references | hashes |
//   64-byte aligned, each an odd number of lines long
//
// An odd number of lines makes successive packets start in different sets of a cache; a stride
// of 4096 bytes (frames of 4033 to 4096 bytes packed tightly) would put them all in the same.
import CleaveHost
import CleaveVirtioNet

/// Packets in memory, with a reference and a receive-side scaling hash for each.
///
/// Nothing changes after `init`; any thread may read. References and hashes are valid as long
/// as the pool lives.
public final class PacketPool: @unchecked Sendable {
    // SAFETY: all properties are constant, and the memory they refer to is written in `init` only.

    /// Bytes that may be read past the end of any packet: copies run in whole blocks.
    public static let readableTailByteCount = 64
    private static let lineByteCount = 64

    /// What the packets are: a profile's name or the path of a capture.
    public let name: String
    /// One reference for each packet, in order; the cookie is the index modulo 65536.
    public let refs: UnsafeBufferPointer<PacketRef>
    /// The Toeplitz hash of each packet under the default key, 0 for a packet that is not IP.
    public let hashes: UnsafeBufferPointer<UInt32>
    /// Bytes of all packets together, without the room between them.
    public let totalBytes: Int
    /// Packets that hold fewer bytes than they had on the wire.
    public let truncatedCount: Int
    /// Packets of no bytes, which were left out.
    public let emptyCount: Int
    /// Where the capture ends inside a packet, which is not here; nil if it does not.
    public let cut: CaptureError?
    /// The memory that holds all of it: which pages, which node, what it fell back to.
    public let arena: MemoryArena

    /// Packets in the pool, at least one.
    public var count: Int { refs.count }

    /// Copies `packets` into memory of `node`; those without bytes are counted and left out.
    /// - Parameters:
    ///   - name: names the packets in errors and reports.
    ///   - packets: bytes of each.
    ///   - truncatedCount: reported as given.
    ///   - cut: reported as given.
    ///   - node: NUMA node, nil for any.
    /// - Throws: when nothing is left, the node does not exist, or there is not that much memory.
    public init(
        name: String, packets: [[UInt8]], truncatedCount: Int = 0, cut: CaptureError? = nil,
        node: Int? = nil
    ) throws(PacketInputError) {
        let filled = packets.filter { !$0.isEmpty }
        guard !filled.isEmpty else { throw .request("\(name): there is no packet with bytes") }
        let layout = Self.layout(filled.map(\.count))
        self.name = name
        self.truncatedCount = truncatedCount
        self.cut = cut
        emptyCount = packets.count - filled.count
        totalBytes = filled.reduce(0) { $0 + $1.count }
        do throws(HostError) {
            let area = layout.byteCount + Self.readableTailByteCount
            // Room for both tables, and for aligning them.
            arena = try MemoryArena(
                byteCount: area + filled.count * 20 + 2 * Self.lineByteCount, node: node,
                name: "packets")
            let base = try arena.allocate(byteCount: area, alignment: Self.lineByteCount)
            refs = Self.place(
                filled, at: layout.offsets, from: base,
                table: try arena.allocate(
                    byteCount: filled.count * MemoryLayout<PacketRef>.stride,
                    alignment: Self.lineByteCount))
            hashes = Self.hash(
                refs,
                table: try arena.allocate(
                    byteCount: filled.count * MemoryLayout<UInt32>.stride,
                    alignment: Self.lineByteCount))
        } catch {
            throw .memory(error)
        }
    }

    /// The offset of each packet, and the end of the last one's lines.
    private static func layout(_ byteCounts: [Int]) -> (offsets: [Int], byteCount: Int) {
        var end = 0
        let offsets = byteCounts.map { byteCount in
            let offset = end
            let lineCount = (byteCount + lineByteCount - 1) / lineByteCount
            end += (lineCount | 1) * lineByteCount
            return offset
        }
        return (offsets, end)
    }

    private static func place(
        _ packets: [[UInt8]], at offsets: [Int], from base: UnsafeMutableRawPointer,
        table: UnsafeMutableRawPointer
    ) -> UnsafeBufferPointer<PacketRef> {
        let refs = table.bindMemory(to: PacketRef.self, capacity: packets.count)
        for (index, packet) in packets.enumerated() {
            let start = base + offsets[index]
            // SAFETY: `layout` gave each packet at least its own bytes.
            packet.withUnsafeBytes { bytes in
                UnsafeMutableRawBufferPointer(start: start, count: bytes.count)
                    .copyMemory(from: bytes)
            }
            (refs + index).initialize(
                to: PacketRef(
                    start, byteCount: packet.count, cookie: UInt16(truncatingIfNeeded: index)))
        }
        return UnsafeBufferPointer(start: refs, count: packets.count)
    }

    private static func hash(
        _ refs: UnsafeBufferPointer<PacketRef>, table: UnsafeMutableRawPointer
    ) -> UnsafeBufferPointer<UInt32> {
        let toeplitz = ToeplitzHash()
        let hashes = table.bindMemory(to: UInt32.self, capacity: refs.count)
        for (index, ref) in refs.enumerated() {
            let report = toeplitz.hash(frame: ref.pointer, byteCount: Int(ref.byteCount))
            (hashes + index).initialize(to: report?.value ?? 0)
        }
        return UnsafeBufferPointer(start: hashes, count: refs.count)
    }
}
