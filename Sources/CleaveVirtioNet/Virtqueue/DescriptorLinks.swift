import CleaveRings

/// How a ring format links the descriptors of a list: only in this do walks differ.
protocol DescriptorLinks: BitwiseCopyable {
    /// Descriptors in the queue: the most that any list may visit, and that a table may hold.
    var count: Int { get }
    /// A list of plain descriptors may end in a reference to an indirect table.
    static var mixesIndirect: Bool { get }

    /// The descriptor that follows `descriptor`, which has NEXT.
    mutating func following(_ descriptor: Descriptor) -> LinkedDescriptor

    /// An entry of an indirect table from its two words, for a queue of that access.
    static func tableEntry(
        _ address: UInt64, _ rest: UInt64, _ access: BufferAccess
    ) -> Descriptor

    /// Number of the table entry after `descriptor`, number `index` of `entries`; nil at the end.
    static func entry(after descriptor: Descriptor, _ index: Int, of entries: Int) -> Int?
}

/// What follows a descriptor with NEXT.
enum LinkedDescriptor {
    case descriptor(Descriptor)
    /// The driver has not made it available.
    case missing
    /// There is no such descriptor.
    case outside
}

/// Split: `next` names the descriptor that follows, in the ring's table and in an indirect one.
struct SplitLinks: DescriptorLinks {
    let table: UnsafeMutableRawPointer
    let count: Int

    static var mixesIndirect: Bool { true }

    func following(_ descriptor: Descriptor) -> LinkedDescriptor {
        let index = Int(descriptor.tag)
        if index >= count { return .outside }
        return .descriptor(
            Descriptor(readingOnce: table + index &* SplitLayout.descriptorByteCount))
    }

    static func tableEntry(
        _ address: UInt64, _ rest: UInt64, _ access: BufferAccess
    ) -> Descriptor {
        Descriptor(address: address, splitRest: rest)
    }

    static func entry(after descriptor: Descriptor, _ index: Int, of entries: Int) -> Int? {
        descriptor.flags & DescriptorFlags.next == 0 ? nil : Int(descriptor.tag)
    }
}

/// Packed: a list lies in consecutive places of the ring, over its end if need be; a table is used
/// from end to end.
struct PackedLinks: DescriptorLinks {
    let ring: UnsafeMutableRawPointer
    let count: Int
    /// Place of the descriptor visited last.
    var cursor: PackedCursor
    /// Places that the device has not taken in this burst, that of the list's head included.
    var left: Int

    static var mixesIndirect: Bool { false }

    mutating func following(_ descriptor: Descriptor) -> LinkedDescriptor {
        left &-= 1
        if left <= 0 { return .missing }
        cursor.advance(by: 1, size: count)
        let place = ring + cursor.offset &* PackedLayout.descriptorByteCount
        // [V4 acquire <- the driver's release of the head] The head came last, so a correct
        // driver's list is complete here.
        let rest = SharedWord64(place + PackedLayout.restOffset).loadAcquire()
        let flags = UInt16(truncatingIfNeeded: rest &>> 48)
        if flags & PackedLayout.ownerFlags != cursor.availableFlags { return .missing }
        return .descriptor(Descriptor(address: SharedWord64(place).load(), packedRest: rest))
    }

    /// Inside a table only WRITE counts, and only where the device writes: DPDK's driver sets it in
    /// the tables of what it sends as well, and reading from there harms nobody.
    static func tableEntry(
        _ address: UInt64, _ rest: UInt64, _ access: BufferAccess
    ) -> Descriptor {
        Descriptor(address: address, packedRest: rest & ~(UInt64(~access.tableFlag) &<< 48))
    }

    static func entry(after descriptor: Descriptor, _ index: Int, of entries: Int) -> Int? {
        index &+ 1 == entries ? nil : index &+ 1
    }
}
