// control path
//
// Geometry of a header queue in guest memory:
//
//   base + 0 ... slotCount * slotSize - 1     header slots, equal in size, one contiguous area
//   control + 0      le32 tail   written by the driver, free-running
//   control + 4      le32 reset  written by the driver: 1 asks for a reset of a broken queue
//   control + 128    le32 head   written by the device, for reconnect and observation
//   control + 132    le32 status written by the device: 0, or 1 once the queue is broken
//                                (HeaderQueueStatus has those of queues set up by their driver)
//   control + 136    le32 reason written by the device: why it refused to set the queue up
//   control + 140    le32 taken  written by the device: 1 from the set-up on
//
// Free-running means modulo 2^32; the slot of a cursor is its low bits. `tail - head` slots are
// free for the device, never more than slotCount.
//
// With an out-of-order return, in place of the tail, one ring that all RQs share:
//
//   ring + 4 * n     le32 {le16 slot, le16 lap}   written by the driver; slotCount entries
//
// or a ring for each RQ, in which slots come back in groups of groupSize:
//
//   ring + 0         le32 taken, le16 group, le16 next   written by a device that stops
//   ring + 64 + 4*n  le32 {le16 group, le16 lap}         written by the driver; groupCount entries
//
// each ring 64 bytes and its entries long, in whole lines of 64 bytes.
//
// Entry number p (free-running) is there when its lap is p / entries, modulo 2^15, with bit 15
// set: zeroes are an entry in no lap.
//
// A device that takes over resumes where the one before it stopped, at a base (`HeaderQueue.base`):
//
//   by the tail   the head: `tail - base` slots are free, the others are the driver's
//   by the ring   entries that were taken; the driver goes on after its last one
//   by groups     1; each ring's own words say how many entries were taken, and which slot of which
//                 group is next, 0 for none: the RQ had begun it
//
// By the tail the head word is no base: it may lag, as claimers store it out of order.

import CleaveHost
import CleaveRings

/// Where a header queue lies and how it is cut; fixed when it is created.
public struct HeaderQueueLayout: Sendable, Equatable {
    public static let slotSizes = 64...1024
    public static let maximumSlotCount = 32768
    /// Bytes of the control area: two words on cache lines of their own.
    public static let controlByteCount = 256
    public static let tailOffset = 0
    public static let resetOffset = 4
    public static let headOffset = 128
    public static let statusOffset = 132
    public static let reasonOffset = 136
    public static let takenOffset = 140

    /// Guest address of slot 0; aligned to 64 bytes.
    public var base: GuestAddress
    /// Guest address of the control area; aligned to 128 bytes.
    public var control: GuestAddress
    /// Bytes in a slot: a power of two, 64 to 1024.
    public var slotSize: Int
    /// Slots: a power of two, 1 to 32768.
    public var slotCount: Int
    /// Guest address of the ring by which slots come back out of order, or of the first of them,
    /// aligned to 64 bytes; nil if they come back by the tail.
    public var returnRing: GuestAddress?
    /// Rings by which groups come back, one for each RQ, 0 to 128; 0 if RQs share one for slots.
    public var groupRingCount: Int
    /// Slots that come back together: a power of two, at most `slotCount`; 1 without group rings.
    public var groupSize: Int

    public init(
        base: GuestAddress, control: GuestAddress, slotSize: Int, slotCount: Int,
        returnRing: GuestAddress? = nil, groupRingCount: Int = 0, groupSize: Int = 1
    ) {
        self.returnRing = returnRing
        self.groupRingCount = groupRingCount
        self.groupSize = groupSize
        self.base = base
        self.control = control
        self.slotSize = slotSize
        self.slotCount = slotCount
    }

    /// Bytes of all slots.
    public var byteCount: Int { slotSize * slotCount }
    /// How slots come back.
    public var slotReturn: SlotReturn {
        returnRing == nil ? .tail : groupRingCount == 0 ? .ring : .groups
    }
    /// Bytes of a return ring's entry.
    public static let returnEntryByteCount = 4
    /// Most rings of groups: one for each RQ that a device may have.
    public static let maximumGroupRingCount = 128
    /// Groups of slots, and entries of each return ring.
    public var groupCount: Int { slotCount / groupSize }
    /// Return rings, if slots come back by any.
    public var returnRingCount: Int { max(1, groupRingCount) }
    /// Bytes of the device's words before the entries of a ring of groups.
    public static let groupRingWordsByteCount = 64
    /// Bytes from return ring to return ring.
    public var returnRingStride: Int {
        Self.groupRingWordsByteCount + (Self.returnEntryByteCount * groupCount + 63) / 64 * 64
    }
    /// Bytes of all return rings.
    public var returnByteCount: Int {
        groupRingCount == 0
            ? Self.returnEntryByteCount * slotCount : groupRingCount * returnRingStride
    }
    /// Where the first ring's entries are, from `returnRing` on.
    public var firstEntryOffset: Int { groupRingCount == 0 ? 0 : Self.groupRingWordsByteCount }

    /// Checks the numbers alone: what a configuration file or a command line can get wrong.
    public static func check(slotSize: Int, slotCount: Int) throws(SetupError) {
        guard slotSizes.contains(slotSize), slotSize & (slotSize - 1) == 0 else {
            throw SetupError(
                "header slot size \(slotSize) is not a power of two between "
                    + "\(slotSizes.lowerBound) and \(slotSizes.upperBound)")
        }
        guard slotCount > 0, slotCount <= maximumSlotCount, slotCount & (slotCount - 1) == 0 else {
            throw SetupError(
                "header slot count \(slotCount) is not a power of two between 1 and "
                    + "\(maximumSlotCount)")
        }
    }

    /// Checks numbers, alignment and range; gives the host pointers of slots and control words.
    func map(
        in memory: GuestMemory
    ) throws(SetupError) -> (slots: UnsafeMutableRawPointer, control: UnsafeMutableRawPointer) {
        try Self.check(slotSize: slotSize, slotCount: slotCount)
        guard base.rawValue % 64 == 0 else {
            throw SetupError("header slots do not start on a 64-byte boundary")
        }
        guard control.rawValue % 128 == 0 else {
            throw SetupError("header queue control words do not start on a 128-byte boundary")
        }
        guard let slots = memory.translate(base, byteCount: byteCount) else {
            throw SetupError("header slots, \(byteCount) bytes, are not in one memory region")
        }
        guard let words = memory.translate(control, byteCount: Self.controlByteCount) else {
            throw SetupError("header queue control words are not in one memory region")
        }
        guard UInt(bitPattern: words) % 4 == 0 else {
            throw SetupError("header queue control words are mapped at a misaligned host address")
        }
        return (slots, words)
    }

    package func checkGroups() throws(SetupError) {
        guard (1...slotCount).contains(groupSize), groupSize & (groupSize - 1) == 0 else {
            throw SetupError(
                "header slot group of \(groupSize) slots is not a power of two between 1 and the "
                    + "queue's \(slotCount) slots")
        }
        guard groupRingCount > 0 || groupSize == 1 else {
            throw SetupError("header slots come back in groups only by a return ring for each RQ")
        }
        guard (0...Self.maximumGroupRingCount).contains(groupRingCount) else {
            throw SetupError(
                "\(groupRingCount) header return rings are not 0 to "
                    + "\(Self.maximumGroupRingCount)")
        }
    }

    /// Checks alignment and range of the return rings; gives the host pointer of the first, nil if
    /// there is none.
    func mapReturnRing(in memory: GuestMemory) throws(SetupError) -> UnsafeMutableRawPointer? {
        guard let returnRing else { return nil }
        guard returnRing.rawValue % 64 == 0 else {
            throw SetupError("header return ring does not start on a 64-byte boundary")
        }
        try checkGroups()
        let byteCount = returnByteCount
        guard let ring = memory.translate(returnRing, byteCount: byteCount) else {
            throw SetupError(
                "header return ring, \(byteCount) bytes, is not in one memory region")
        }
        guard UInt(bitPattern: ring) % 4 == 0 else {
            throw SetupError("header return ring is mapped at a misaligned host address")
        }
        return ring
    }
}

/// How slots come back to the device.
public enum SlotReturn: String, Sendable, CaseIterable, Codable {
    /// By a tail index: all below it are back. The default.
    case tail
    /// One by one, by index, through a ring that all RQs share: in any order.
    case ring
    /// In groups, through a ring of each RQ: groups in any order, each when all its slots are back.
    case groups
}

/// How the device tells the driver which slot holds a packet's headers.
@frozen
public enum HeaderReport: String, Sendable, CaseIterable, Codable {
    /// The virtio-net header in the data buffer carries an 8-byte tail naming the slot.
    case netHeader
    /// The length of the used entry names the slot (`UsedLength`), in either ring format;
    /// virtio-net header and packet headers lie in it. The default of programs.
    case usedLength
}
