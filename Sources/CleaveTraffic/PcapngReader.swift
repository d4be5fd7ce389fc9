//   block:  type | total length | body ... | total length      (all multiples of 4 bytes)
//
//   section header  body = magic | major minor | section length (8) | options
//   interface       body = link type (2) 0 (2) | snap length | options
//   enhanced packet body = interface | time high | time low | captured | original | bytes
//   simple packet   body = original | bytes
//   obsolete packet body = interface (2) drops (2) | time high | ... as the enhanced one
//   options         code (2) length (2) | value, padded to 4 bytes | ...
//
// Layout: IETF draft-ietf-opsawg-pcapng. Byte order and interfaces are those of the section.

/// Reads the packets of a pcapng file.
struct PcapngReader {
    static let sectionHeaderType: UInt32 = 0x0a0d_0d0a
    private static let interfaceType: UInt32 = 1
    private static let obsoletePacketType: UInt32 = 2
    private static let simplePacketType: UInt32 = 3
    static let enhancedPacketType: UInt32 = 6
    private static let byteOrderMagic: UInt32 = 0x1a2b_3c4d
    /// `epb_flags`, and `pack_flags` of obsolete packets: the bits are the same.
    private static let flagsOption: UInt16 = 2
    /// Type and length in front of the body.
    private static let blockHeadByteCount = 8
    /// A block without a body: type and both lengths.
    private static let smallestBlockByteCount = 12

    private var view: ByteView
    private let name: String
    private var interfaces: [PcapngInterface] = []
    private(set) var found = CaptureFile.Found()
    /// Offset and number of the block being read, for errors.
    private var offset = 0
    private var blockNumber = 0

    init(bytes: [UInt8], name: String) {
        self.view = ByteView(bytes: bytes, order: .little)
        self.name = name
    }

    mutating func readPackets() throws(CaptureError) {
        while offset < view.bytes.count {
            do { offset += try readBlock() } catch {
                // A file that ends inside its first block has not begun.
                guard error.isCut, blockNumber > 0 else { throw error }
                found.cut = error
                return
            }
            blockNumber += 1
        }
    }

    /// Reads the block at `offset`; returns its total length.
    private mutating func readBlock() throws(CaptureError) -> Int {
        let remaining = view.bytes.count - offset
        guard remaining >= Self.smallestBlockByteCount else {
            throw error("the file ends inside the block's header", isCut: true)
        }
        // The type of a section header reads the same in both byte orders.
        let type = view.word32(offset)
        if type == Self.sectionHeaderType { try readByteOrder() }
        let byteCount = Int(view.word32(offset + 4))
        guard byteCount >= Self.smallestBlockByteCount, byteCount % 4 == 0 else {
            throw error("block length \(byteCount) is not a multiple of 4 of at least 12")
        }
        guard byteCount <= remaining else {
            throw error(
                "the file ends inside the block: \(remaining) of \(byteCount) bytes", isCut: true)
        }
        let trailing = Int(view.word32(offset + byteCount - 4))
        guard trailing == byteCount else {
            throw error("block length \(byteCount) is repeated as \(trailing) at the block's end")
        }
        let body = offset + Self.blockHeadByteCount..<offset + byteCount - 4
        switch type {
        case Self.sectionHeaderType: try readSectionHeader(body)
        case Self.interfaceType: try readInterface(body)
        case Self.enhancedPacketType: try readPacket(body, isEnhanced: true)
        case Self.obsoletePacketType: try readPacket(body, isEnhanced: false)
        case Self.simplePacketType: try readSimplePacket(body)
        default: break
        }
        return byteCount
    }

    /// Reads the byte order of a new section from its magic, before any length is trusted.
    private mutating func readByteOrder() throws(CaptureError) {
        view.order = .little
        let magic = view.word32(offset + Self.blockHeadByteCount)
        if magic == Self.byteOrderMagic { return }
        guard magic.byteSwapped == Self.byteOrderMagic else {
            throw error("byte-order magic is neither 1a2b3c4d nor 4d3c2b1a")
        }
        view.order = .big
    }

    private mutating func readSectionHeader(_ body: Range<Int>) throws(CaptureError) {
        guard body.count >= 16 else { throw error("section header of \(body.count) bytes, not 16") }
        let major = view.word16(body.lowerBound + 4)
        guard major == 1 else { throw error("pcapng version \(major); only 1 is understood") }
        interfaces.removeAll()
    }

    private mutating func readInterface(_ body: Range<Int>) throws(CaptureError) {
        guard body.count >= 8 else { throw error("interface of \(body.count) bytes, not 8") }
        var interface = PcapngInterface(
            linkType: view.word16(body.lowerBound),
            snapLength: Int(view.word32(body.lowerBound + 4)))
        guard interface.readOptions(view, body.lowerBound + 8..<body.upperBound) else {
            throw error("an option of the interface runs past the block")
        }
        interfaces.append(interface)
    }

    private mutating func readPacket(_ body: Range<Int>, isEnhanced: Bool) throws(CaptureError) {
        guard body.count >= 20 else { throw error("packet block of \(body.count) bytes, not 20") }
        let start = body.lowerBound
        let index = isEnhanced ? Int(view.word32(start)) : Int(view.word16(start))
        let ticks = UInt64(view.word32(start + 4)) << 32 | UInt64(view.word32(start + 8))
        let interface = try ethernetInterface(index)
        let captured = Int(view.word32(start + 12))
        let room = start + 20..<body.upperBound
        try check(captured: captured, room: room)
        let optionStart = min(room.upperBound, room.lowerBound + (captured + 3) & ~3)
        var checkByteCount = interface.checkByteCount
        let isWhole = PcapngOptions.read(view, optionStart..<room.upperBound) { code, value in
            guard code == Self.flagsOption, value.count == 4 else { return }
            // In bytes; 0 says nothing of it.
            let declared = Int(view.word32(value.lowerBound) >> 5 & 0xf)
            if declared != 0 { checkByteCount = declared }
        }
        guard isWhole else { throw error("an option of the packet runs past the block") }
        found.append(
            view.bytes[room.lowerBound..<room.lowerBound + captured],
            originalByteCount: Int(view.word32(start + 16)), checkByteCount: checkByteCount,
            time: interface.nanoseconds(ticks: ticks))
    }

    /// A simple packet belongs to interface 0, whose snap length bounds it; it has no time.
    private mutating func readSimplePacket(_ body: Range<Int>) throws(CaptureError) {
        guard body.count >= 4 else { throw error("simple packet block without a length") }
        let original = Int(view.word32(body.lowerBound))
        let interface = try ethernetInterface(0)
        let captured =
            interface.snapLength == 0 ? original : min(interface.snapLength, original)
        let room = body.lowerBound + 4..<body.upperBound
        try check(captured: captured, room: room)
        found.append(
            view.bytes[room.lowerBound..<room.lowerBound + captured], originalByteCount: original,
            checkByteCount: interface.checkByteCount, time: 0)
    }

    private func check(captured: Int, room: Range<Int>) throws(CaptureError) {
        let limit = CaptureFile.maximumPacketByteCount
        guard captured <= limit else {
            throw error("captured length \(captured) is more than the limit of \(limit)")
        }
        guard captured <= room.count else {
            throw error("captured length \(captured) passes the block (\(room.count) bytes left)")
        }
        guard found.packets.count < CaptureFile.maximumPacketCount else {
            throw error("more packets than the limit of \(CaptureFile.maximumPacketCount)")
        }
    }

    private func ethernetInterface(_ index: Int) throws(CaptureError) -> PcapngInterface {
        guard index < interfaces.count else {
            throw error("interface \(index) is not described (\(interfaces.count) so far)")
        }
        let linkType = UInt32(interfaces[index].linkType)
        guard linkType == CaptureFile.ethernetLinkType else {
            throw error("interface \(index): link type \(linkType); only Ethernet (1) is replayed")
        }
        return interfaces[index]
    }

    private func error(_ problem: String, isCut: Bool = false) -> CaptureError {
        var error = CaptureError(
            file: name, place: "block \(blockNumber) at byte \(offset)", problem: problem)
        error.isCut = isCut
        return error
    }
}
