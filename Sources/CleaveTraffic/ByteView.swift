/// The byte order of a capture file, or of one section of a pcapng file.
enum ByteOrder: Sendable {
    case little, big
}

/// Multi-byte reads from a capture, in the byte order of its writer.
///
/// Readers check the extent of a record before they read its fields; the array's own bounds check
/// is the second guard.
struct ByteView {
    let bytes: [UInt8]
    var order: ByteOrder

    func word16(_ offset: Int) -> UInt16 {
        let first = UInt16(bytes[offset])
        let second = UInt16(bytes[offset + 1])
        return order == .little ? first | second << 8 : first << 8 | second
    }

    func word32(_ offset: Int) -> UInt32 {
        let first = UInt32(word16(offset))
        let second = UInt32(word16(offset + 2))
        return order == .little ? first | second << 16 : first << 16 | second
    }

    func word64(_ offset: Int) -> UInt64 {
        let first = UInt64(word32(offset))
        let second = UInt64(word32(offset + 4))
        return order == .little ? first | second << 32 : first << 32 | second
    }
}
