import Rings

/// A private, unchanging copy of one descriptor.
///
/// Each half is read once, as one relaxed 64-bit load: a plain struct copy compiles to several
/// loads, between which a hostile guest can change what was checked.
struct Descriptor: BitwiseCopyable {
    let address: UInt64
    private let rest: UInt64

    @inline(__always)
    init(readingOnce pointer: UnsafeMutableRawPointer) {
        address = SharedWord64(pointer).load()
        rest = SharedWord64(pointer + 8).load()
    }

    /// For tables that have no alignment (an indirect table may lie at any address): the bytes
    /// are copied out first, and the copy is read.
    @inline(__always)
    init(copied pointer: UnsafeRawPointer) {
        address = pointer.loadUnaligned(as: UInt64.self)
        rest = (pointer + 8).loadUnaligned(as: UInt64.self)
    }

    @inline(__always) var byteCount: UInt32 { UInt32(truncatingIfNeeded: rest) }
    @inline(__always) var flags: UInt16 { UInt16(truncatingIfNeeded: rest &>> 32) }
    @inline(__always) var next: UInt16 { UInt16(truncatingIfNeeded: rest &>> 48) }

    /// Device-writable, neither chained nor indirect: the shape of nearly every receive buffer.
    @inline(__always) var isSingleWritable: Bool {
        flags & (DescriptorFlags.next | DescriptorFlags.write | DescriptorFlags.indirect)
            == DescriptorFlags.write
    }
}
