/// Counts the packets of a pcapng stream as it comes by, in pieces of any length.
///
/// For a stream that this project wrote: it is little-endian.
package struct PcapngTally {
    /// Packets whose blocks are whole.
    package private(set) var packetCount: UInt64 = 0
    /// Packets that were dropped, as the statistics at the end say.
    package private(set) var droppedCount: UInt64 = 0
    /// Whether there were statistics: the writer came to its end.
    package private(set) var isComplete = false
    /// What the writer says of the end.
    package private(set) var comment: String?
    /// Bytes of all blocks that are whole.
    package private(set) var wholeByteCount = 0
    /// What came is no stream of blocks.
    package private(set) var isBroken = false

    /// The block that comes by: its first bytes, all of it if it has statistics, and how many bytes
    /// of it are still to come.
    private var head: [UInt8] = []
    private var left = 0
    /// Blocks with statistics are short.
    private static let statisticsLimit = 4096

    package init() {}

    package mutating func take(_ bytes: UnsafeRawBufferPointer) {
        var rest = bytes[...]
        while !rest.isEmpty && !isBroken {
            if left == 0 {
                let count = min(8 - head.count, rest.count)
                head += rest.prefix(count)
                rest = rest.dropFirst(count)
                if head.count == 8 { begin() }
                continue
            }
            let count = min(left, rest.count)
            if type == PcapngBlocks.statisticsType { head += rest.prefix(count) }
            rest = rest.dropFirst(count)
            left -= count
            if left == 0 { end() }
        }
    }

    private var view: ByteView { ByteView(bytes: head, order: .little) }
    private var type: UInt32 { view.word32(0) }

    private mutating func begin() {
        let byteCount = Int(view.word32(4))
        let limit = type == PcapngBlocks.statisticsType ? Self.statisticsLimit : Int(Int32.max)
        guard byteCount >= 12, byteCount % 4 == 0, byteCount <= limit else {
            isBroken = true
            return
        }
        left = byteCount - 8
    }

    private mutating func end() {
        wholeByteCount += Int(view.word32(4))
        if type == PcapngReader.enhancedPacketType { packetCount += 1 }
        if type == PcapngBlocks.statisticsType {
            isComplete = true
            let view = view
            _ = PcapngOptions.read(view, min(20, head.count - 4)..<head.count - 4) { code, value in
                if code == 5 && value.count == 8 { droppedCount += view.word64(value.lowerBound) }
                if code == 1 { comment = String(decoding: view.bytes[value], as: UTF8.self) }
            }
        }
        head.removeAll(keepingCapacity: true)
    }
}
