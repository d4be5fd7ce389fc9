/// The bytes of a stream that is compared: each word of eight follows from its place, so no page is
/// like another one, and the receiver needs nothing but the place to know what it has to find.
enum StreamPattern {
    private static func word(_ index: Int) -> UInt64 {
        ((UInt64(index) &+ 1) &* 0x9E37_79B9_7F4A_7C15).littleEndian
    }

    /// Writes the stream's bytes from `place` on; place and count are multiples of eight.
    static func fill(_ bytes: UnsafeMutableRawBufferPointer, from place: Int) {
        precondition(place % 8 == 0 && bytes.count % 8 == 0, "whole words")
        for offset in stride(from: 0, to: bytes.count, by: 8) {
            bytes.storeBytes(of: word((place + offset) / 8), toByteOffset: offset, as: UInt64.self)
        }
    }

    /// How many bytes are not the stream's from `place` on.
    static func wrongCount(_ bytes: UnsafeRawBufferPointer, from place: Int) -> Int {
        var wrong = 0
        var offset = 0
        while offset < bytes.count {
            let expected = word((place + offset) / 8)
            let inWord = (place + offset) % 8
            if inWord == 0 && bytes.count - offset >= 8
                && bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self) == expected
            {
                offset += 8
                continue
            }
            let byte = UInt8(truncatingIfNeeded: expected.littleEndian >> UInt64(8 * inWord))
            if bytes[offset] != byte { wrong += 1 }
            offset += 1
        }
        return wrong
    }
}
