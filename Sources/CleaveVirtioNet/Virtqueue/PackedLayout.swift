// Where the parts of a packed virtqueue lie, and the arithmetic that device and driver share
// (virtio 1.4, "Packed Virtqueues").
//
//   descriptor ring            16 n bytes, align 16   {le64 addr, le32 len, le16 id, le16 flags}
//   driver event suppression   4 bytes, align 4       {le16 off:15 wrap:1, le16 flags:2}
//   device event suppression   4 bytes, align 4       the same
//
// A descriptor's second half is one aligned 64-bit word: each side stores it at once and loads it
// at once, so that length and id are those of the flags.

import CleaveRings

/// Offsets and sizes inside a packed virtqueue; used by the device and by the driver side.
public enum PackedLayout {
    public static let maximumSize = 32768
    @inlinable public static var descriptorByteCount: Int { 16 }
    /// Offset of `len`, `id` and `flags` in a descriptor: one 64-bit word.
    @inlinable public static var restOffset: Int { 8 }
    public static let eventByteCount = 4

    public static func ringByteCount(size: Int) -> Int { descriptorByteCount * size }

    /// AVAIL and USED: together they tell whose a descriptor is.
    @inlinable public static var ownerFlags: UInt16 { 0x8080 }
}

/// A place in a packed ring: an offset and the wrap counter, of either side.
@frozen
public struct PackedCursor: BitwiseCopyable, Sendable, Equatable {
    /// Number of the descriptor, below the ring's size.
    public var offset: Int
    /// AVAIL and USED of a descriptor that is available here in this lap: AVAIL alone while the
    /// wrap counter is 1, USED alone while it is 0.
    public var availableFlags: UInt16

    @inlinable
    init(offset: Int, availableFlags: UInt16) {
        self.offset = offset
        self.availableFlags = availableFlags
    }

    /// From 16 bits as queues are resumed with: offset in the lower 15, wrap counter above.
    public init(base: UInt16) {
        offset = Int(base & 0x7fff)
        availableFlags = base & 0x8000 != 0 ? DescriptorFlags.available : DescriptorFlags.used
    }

    /// Where both sides of a fresh ring begin: wrap counters start at 1.
    public static var start: PackedCursor { PackedCursor(base: 0x8000) }

    @inlinable public var wrap: Bool { availableFlags & 0x80 != 0 }
    /// AVAIL and USED of a descriptor that is used here in this lap: both equal the wrap counter.
    @inlinable public var usedFlags: UInt16 { wrap ? PackedLayout.ownerFlags : 0 }
    /// Offset in the lower 15 bits, wrap counter above.
    @inlinable public var base: UInt16 {
        UInt16(truncatingIfNeeded: offset) | (wrap ? 0x8000 : 0)
    }

    /// Goes on by `count` descriptors, at most one lap.
    @inlinable
    public mutating func advance(by count: Int, size: Int) {
        offset &+= count
        if offset >= size {
            offset &-= size
            availableFlags ^= PackedLayout.ownerFlags
        }
    }

    /// The place `count` descriptors back, at most one lap.
    @inlinable
    public func moved(back count: Int, size: Int) -> PackedCursor {
        let place = offset &- count
        if place >= 0 { return PackedCursor(offset: place, availableFlags: availableFlags) }
        return PackedCursor(
            offset: place &+ size, availableFlags: availableFlags ^ PackedLayout.ownerFlags)
    }
}

/// One side's event suppression structure: when it wants to be notified.
public enum PackedEvent {
    @inlinable public static var enable: UInt16 { 0 }
    @inlinable public static var disable: UInt16 { 1 }
    /// At the descriptor named in the first word; with EVENT_IDX only.
    @inlinable public static var atDescriptor: UInt16 { 2 }
    @inlinable static var flagsOffset: Int { 2 }

    /// Whether the other side wants to hear of the last `count` descriptors before `end`, which
    /// were handed over, at most one lap. Invalid values (flags 3, an offset outside the ring)
    /// count as enabled: a notification too many is harmless. So does a place in the ring without
    /// `usesEventIndex`.
    @inlinable
    public static func isWanted(
        _ area: UnsafeMutableRawPointer, upTo end: PackedCursor, count: Int, size: Int,
        usesEventIndex: Bool
    ) -> Bool {
        let flags = SharedWord16(area + flagsOffset).loadSequential() & 3  // [V3]
        if flags == disable { return false }
        if flags != atDescriptor || !usesEventIndex { return true }
        // Written before the flags, so not older than they are.
        let word = SharedWord16(area).load()
        let offset = Int(word & 0x7fff)
        if offset >= size { return true }
        // Places of two laps in a row: those with the wrap counter at 1, then those with it at 0.
        let event = offset &+ (word & 0x8000 != 0 ? 0 : size)
        let last = end.offset &+ (end.wrap ? 0 : size) &- 1
        let distance = last &- event
        return (distance < 0 ? distance &+ 2 &* size : distance) < count
    }

    /// States when to be notified: never, always, or (with EVENT_IDX) at `place`.
    public static func request(
        _ area: UnsafeMutableRawPointer, flags: UInt16, at place: PackedCursor
    ) {
        SharedWord16(area).store(place.base)
        // [V3] Before this side checks again for what the other has handed over.
        SharedWord16(area + flagsOffset).storeSequential(flags)
    }

    /// Asks the driver to kick when it makes descriptors available, or not to. What it made
    /// available before is seen by the next read of the descriptor at `cursor`.
    static func setKicks(
        enabled wanted: Bool, deviceArea: UnsafeMutableRawPointer, ring: UnsafeMutableRawPointer,
        at cursor: PackedCursor
    ) {
        request(deviceArea, flags: wanted ? enable : disable, at: cursor)
        let place = cursor.offset &* PackedLayout.descriptorByteCount
        _ = SharedWord64(ring + place + PackedLayout.restOffset).loadSequential()  // [V3]
    }
}
