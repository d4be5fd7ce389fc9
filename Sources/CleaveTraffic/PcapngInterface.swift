/// One interface of a pcapng section: what is needed to read its packets.
struct PcapngInterface {
    let linkType: UInt16
    /// Bytes kept of each packet; 0 means all.
    let snapLength: Int
    /// `if_tsresol`: bit 7 clear, units of 10^-n s; set, units of 2^-n s. Default 10^-6.
    var resolution: UInt8 = 6
    /// `if_tsoffset`: seconds to add to every timestamp.
    var offsetSeconds: Int64 = 0
    /// Bytes of the frame check sequence at the end of each packet.
    var checkByteCount = 0

    private static let resolutionOption: UInt16 = 9
    private static let checkOption: UInt16 = 13
    private static let offsetOption: UInt16 = 14

    init(linkType: UInt16, snapLength: Int) {
        self.linkType = linkType
        self.snapLength = snapLength
    }

    /// Reads the options that it knows; false if one runs past `range`. A known option of the wrong
    /// length is ignored.
    mutating func readOptions(_ view: ByteView, _ range: Range<Int>) -> Bool {
        PcapngOptions.read(view, range) { code, value in
            switch (code, value.count) {
            case (Self.resolutionOption, 1): resolution = view.bytes[value.lowerBound]
            case (Self.checkOption, 1):
                // The draft counts bits, and gives 4 as an example, which programs took for bytes:
                // fewer than 8 bits are bytes.
                let length = Int(view.bytes[value.lowerBound])
                checkByteCount = length < 8 ? length : length / 8
            case (Self.offsetOption, 8):
                offsetSeconds = Int64(bitPattern: view.word64(value.lowerBound))
            default: break
            }
        }
    }

    /// `ticks` of this interface as nanoseconds since 1970; a time that 64 bits cannot hold
    /// becomes the nearest one that they can.
    func nanoseconds(ticks: UInt64) -> UInt64 {
        UInt64(clamping: scaled(ticks) + Int128(offsetSeconds) * 1_000_000_000)
    }

    /// At most 2^94, so that the sum above cannot overflow.
    private func scaled(_ ticks: UInt64) -> Int128 {
        let exponent = Int(resolution & 0x7f)
        var scaled = Int128(ticks) * 1_000_000_000
        if resolution & 0x80 != 0 { return scaled >> Int128(exponent) }
        // 10^29 exceeds any product: more steps would change nothing.
        for _ in 0..<min(exponent, 29) { scaled /= 10 }
        return scaled
    }
}

/// The options at the end of a block.
enum PcapngOptions {
    private static let endOfOptions: UInt16 = 0

    /// Calls `body` for each option with the place of its value.
    /// - Returns: false if an option runs past `range`.
    static func read(
        _ view: ByteView, _ range: Range<Int>, _ body: (UInt16, Range<Int>) -> Void
    ) -> Bool {
        var offset = range.lowerBound
        while range.upperBound - offset >= 4 {
            let code = view.word16(offset)
            if code == endOfOptions { return true }
            let byteCount = Int(view.word16(offset + 2))
            let padded = (byteCount + 3) & ~3
            guard padded <= range.upperBound - offset - 4 else { return false }
            body(code, offset + 4..<offset + 4 + byteCount)
            offset += 4 + padded
        }
        return true
    }
}
