// Blocks of a pcapng file, as bytes: all that writes one writes it through this.
//
//   block:  type | total length | body ... | total length      (all multiples of 4 bytes)
//
// Little-endian, Ethernet, times in nanoseconds. PcapngReader.swift draws the bodies. Layout: IETF
// draft-ietf-opsawg-pcapng.

/// The blocks that are written once.
package enum PcapngBlocks {
    /// The longest text of an option, in bytes; a longer one is cut.
    static let maximumTextByteCount = 1024

    static let statisticsType: UInt32 = 5

    /// The beginning of a section, its length unknown.
    /// - Parameter program: that writes it.
    package static func section(program: String? = nil) -> [UInt8] {
        let options = program.map { text(4, $0) } ?? []
        return block(0x0a0d_0d0a, words(0x1a2b_3c4d, 1, .max, .max), options)
    }

    /// An interface; those of a section are numbered from 0 in the order of their blocks.
    /// - Parameter snapLength: bytes kept of each packet; 0: all.
    package static func interface(
        name: String? = nil, description: String? = nil, snapLength: Int = 0
    ) -> [UInt8] {
        let options =
            (name.map { text(2, $0) } ?? []) + (description.map { text(3, $0) } ?? [])
            // if_tsresol: 10^-9 s.
            + words(0x0001_0009, 9)
        return block(1, words(1, UInt32(truncatingIfNeeded: snapLength)), options)
    }

    /// What has become of an interface's packets.
    package struct Statistics {
        package var interface: Int
        /// In nanoseconds since 1970.
        package var start: UInt64
        package var end: UInt64
        /// Packets that the capture was to take, and those of them that it could not.
        package var received: UInt64
        package var dropped: UInt64
        /// Why the capture ended; nil if whoever asked for it ended it.
        package var comment: String?

        package init(
            interface: Int, start: UInt64, end: UInt64, received: UInt64, dropped: UInt64,
            comment: String?
        ) {
            self.interface = interface
            self.start = start
            self.end = end
            self.received = received
            self.dropped = dropped
            self.comment = comment
        }
    }

    package static func statistics(_ statistics: Statistics) -> [UInt8] {
        func time(_ code: UInt32, _ time: UInt64) -> [UInt8] {
            words(0x0008_0000 | code, high(time), low(time))
        }
        func count(_ code: UInt32, _ count: UInt64) -> [UInt8] {
            words(0x0008_0000 | code, low(count), high(count))
        }
        let (end, received) = (statistics.end, statistics.received)
        let options =
            (statistics.comment.map { text(1, $0) } ?? [])
            // isb_starttime, isb_endtime, isb_ifrecv, isb_ifdrop, isb_usrdeliv.
            + time(2, statistics.start) + time(3, end) + count(4, received)
            + count(5, statistics.dropped) + count(8, received &- statistics.dropped)
        let interface = UInt32(truncatingIfNeeded: statistics.interface)
        return block(statisticsType, words(interface, high(end), low(end)), options)
    }

    private static func block(_ type: UInt32, _ body: [UInt8], _ options: [UInt8]) -> [UInt8] {
        let end = options.isEmpty ? [] : words(0)
        let byteCount = UInt32(12 + body.count + options.count + end.count)
        return words(type, byteCount) + body + options + end + words(byteCount)
    }

    private static func text(_ code: UInt32, _ text: String) -> [UInt8] {
        let bytes = cut(text)
        let padding = [UInt8](repeating: 0, count: (4 - bytes.count % 4) % 4)
        return words(UInt32(bytes.count) << 16 | code) + bytes + padding
    }

    /// Whole characters, as many as an option may have.
    private static func cut(_ text: String) -> [UInt8] {
        var bytes: [UInt8] = []
        for character in text {
            if bytes.count + character.utf8.count > maximumTextByteCount { break }
            bytes += character.utf8
        }
        return bytes
    }

    private static func words(_ words: UInt32...) -> [UInt8] {
        words.flatMap { word in withUnsafeBytes(of: word.littleEndian) { [UInt8]($0) } }
    }

    fileprivate static func high(_ value: UInt64) -> UInt32 { UInt32(value >> 32) }
    fileprivate static func low(_ value: UInt64) -> UInt32 { UInt32(truncatingIfNeeded: value) }
}

/// The block of one packet, without its bytes: those are put where `store` says.
package struct PcapngPacket: BitwiseCopyable {
    /// Bits of `flags`, as `epb_flags` has them.
    package enum Flag {
        /// The interface has received, or sent, the packet.
        package static let inbound: UInt32 = 1
        package static let outbound: UInt32 = 2
        /// Its checksum is still to be made; was found to be right; it is to be segmented.
        package static let checksumNotReady: UInt32 = 1 << 9
        package static let checksumValid: UInt32 = 1 << 10
        package static let tcpSegmentation: UInt32 = 1 << 11
    }

    package var interface: UInt32
    /// Nanoseconds since 1970.
    package var time: UInt64
    /// Bytes in the block, and those that the packet had.
    package var capturedByteCount: Int
    package var originalByteCount: Int
    /// 0: nothing is known.
    package var flags: UInt32 = 0
    /// Of its interface.
    package var queue: UInt32?
    /// Packets of the interface that were lost since the one before.
    package var dropCount: UInt64 = 0

    package init(
        interface: UInt32, time: UInt64, capturedByteCount: Int, originalByteCount: Int,
        flags: UInt32 = 0, queue: UInt32? = nil, dropCount: UInt64 = 0
    ) {
        self.interface = interface
        self.time = time
        self.capturedByteCount = capturedByteCount
        self.originalByteCount = originalByteCount
        self.flags = flags
        self.queue = queue
        self.dropCount = dropCount
    }

    /// Bytes of a block beside the packet's and their padding, at most.
    package static let maximumOverheadByteCount = 32 + 8 + 8 + 12 + 4

    private var paddedByteCount: Int { (capturedByteCount &+ 3) & ~3 }
    private var optionByteCount: Int {
        let byteCount = (flags != 0 ? 8 : 0) &+ (queue != nil ? 8 : 0) &+ (dropCount != 0 ? 12 : 0)
        return byteCount == 0 ? 0 : byteCount &+ 4
    }

    /// Bytes of the whole block.
    package var blockByteCount: Int { 32 &+ paddedByteCount &+ optionByteCount }

    /// Writes the block but for the packet's bytes.
    /// - Parameter target: `blockByteCount` bytes.
    /// - Returns: where the `capturedByteCount` bytes of the packet go.
    package func store(to target: UnsafeMutableRawPointer) -> UnsafeMutableRawPointer {
        var cursor = target
        func put(_ word: UInt32) {
            cursor.storeBytes(of: word.littleEndian, as: UInt32.self)
            cursor += 4
        }
        let byteCount = UInt32(truncatingIfNeeded: blockByteCount)
        put(6)
        put(byteCount)
        put(interface)
        put(PcapngBlocks.high(time))
        put(PcapngBlocks.low(time))
        put(UInt32(truncatingIfNeeded: capturedByteCount))
        put(UInt32(truncatingIfNeeded: originalByteCount))
        let bytes = cursor
        cursor += paddedByteCount
        (bytes + capturedByteCount).initializeMemory(
            as: UInt8.self, repeating: 0, count: paddedByteCount &- capturedByteCount)
        if flags != 0 {
            put(0x0004_0002)
            put(flags)
        }
        if dropCount != 0 {
            put(0x0008_0004)
            put(PcapngBlocks.low(dropCount))
            put(PcapngBlocks.high(dropCount))
        }
        if let queue {
            put(0x0004_0006)
            put(queue)
        }
        if optionByteCount != 0 { put(0) }
        put(byteCount)
        return bytes
    }
}
