import CleaveRings

/// A private, unchanging copy of one descriptor, the same for both ring formats.
///
/// Each half is read once, as one 64-bit load: a plain struct copy compiles to several loads,
/// between which a hostile guest can change what was checked.
struct Descriptor: BitwiseCopyable {
    let address: UInt64
    /// As in a split ring: length 32 | flags 16 | next 16.
    private let rest: UInt64

    /// From the two words of a split descriptor.
    @inline(__always)
    init(address: UInt64, splitRest: UInt64) {
        self.address = address
        rest = splitRest
    }

    /// From the two words of a packed descriptor, which has its flags last.
    @inline(__always)
    init(address: UInt64, packedRest: UInt64) {
        self.address = address
        rest =
            packedRest & 0xffff_ffff | (packedRest &>> 48) &<< 32
            | (packedRest &>> 32 & 0xffff) &<< 48
    }

    /// Reads a split descriptor.
    @inline(__always)
    init(readingOnce pointer: UnsafeMutableRawPointer) {
        self.init(
            address: SharedWord64(pointer).load(), splitRest: SharedWord64(pointer + 8).load())
    }

    @inline(__always) var byteCount: UInt32 { UInt32(truncatingIfNeeded: rest) }
    @inline(__always) var flags: UInt16 { UInt16(truncatingIfNeeded: rest &>> 32) }
    /// Number of the next descriptor (split), or the buffer id (packed).
    @inline(__always) var tag: UInt16 { UInt16(truncatingIfNeeded: rest &>> 48) }

    /// Device-writable, neither chained nor indirect: the shape of nearly every receive buffer.
    @inline(__always) var isSingleWritable: Bool { kind == DescriptorFlags.write }
    /// Device-readable, neither chained nor indirect.
    @inline(__always) var isSingleReadable: Bool { kind == 0 }
    /// Device-writable, and another descriptor follows.
    @inline(__always) var isLinkedWritable: Bool {
        kind == DescriptorFlags.write | DescriptorFlags.next
    }

    @inline(__always) private var kind: UInt16 {
        flags & (DescriptorFlags.next | DescriptorFlags.write | DescriptorFlags.indirect)
    }
}
