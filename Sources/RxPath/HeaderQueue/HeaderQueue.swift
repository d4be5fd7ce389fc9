// control path

import Rings

/// The device's half of a header queue, shared by every RQ that is linked to it.
///
/// Any number of worker threads claim from it at the same time through `HeaderClaimer` values.
/// Bounds come from the private head and the geometry alone; of the guest's words only `tail` is
/// read, and judged by its distance from the head.
public final class HeaderQueue: @unchecked Sendable {
    // SAFETY: all stored properties are constants; what they point to is reached through shared
    // words with explicit ordering.

    public let layout: HeaderQueueLayout
    private let memory: GuestMemory
    private let privateWords: UnsafeMutableRawPointer
    let claimer: HeaderClaimer

    /// Checks the geometry against `memory` and starts at head 0.
    ///
    /// The driver gives slots by moving `tail`; all of them at first, by storing `slotCount`.
    public init(_ layout: HeaderQueueLayout, memory: GuestMemory) throws(RxPathError) {
        let parts = try layout.map(in: memory)
        self.layout = layout
        self.memory = memory
        privateWords = .allocate(byteCount: 2 * CacheLine.byteCount, alignment: CacheLine.byteCount)
        privateWords.initializeMemory(
            as: UInt8.self, repeating: 0, count: 2 * CacheLine.byteCount)
        claimer = HeaderClaimer(
            slots: parts.slots,
            tail: SharedWord32(parts.control + HeaderQueueLayout.tailOffset),
            publicHead: SharedWord32(parts.control + HeaderQueueLayout.headOffset),
            head: SharedWord64(privateWords),
            brokenWord: SharedWord32(privateWords + CacheLine.byteCount),
            slotShift: UInt32(layout.slotSize.trailingZeroBitCount),
            slotCount: UInt32(layout.slotCount))
        SharedWord32(parts.control + HeaderQueueLayout.headOffset).store(0)
    }

    deinit { privateWords.deallocate() }

    /// A queue belongs to one guest: its slots are written on behalf of nobody else.
    func check(belongsTo guest: GuestMemory) throws(RxPathError) {
        guard guest === memory else {
            throw RxPathError(
                "the header queue lies in another guest's memory than the virtqueue")
        }
    }

    /// Slots claimed since creation, by all RQs together.
    public var claimedCount: UInt64 { claimer.head.load() }
    /// Whether the driver moved the tail to where it cannot be; the queue's RQs go on unsplit.
    public var isBroken: Bool { claimer.isBroken }
    /// Slots the device may claim now: a snapshot that other threads may change at once.
    public var freeCount: Int {
        // [H1 acquire <- the driver's release of tail]
        let tail = claimer.tail.loadAcquire()
        let free = tail &- UInt32(truncatingIfNeeded: claimer.head.load())
        return free > claimer.slotCount ? 0 : Int(free)
    }
}
