import Rings
import RxPath

/// The driver side of a split virtqueue that receives: chains of a fixed length, chain c made of
/// the descriptors from c x chainLength on.
///
/// A value of pointers and cursors; one thread at a time.
struct SplitDriverRing {
    let size: Int
    let chainLength: Int
    let addresses: SplitVirtqueueAddresses
    private let descriptors: UnsafeMutableRawPointer
    private let availRing: UnsafeMutableRawPointer
    private let usedRing: UnsafeMutableRawPointer
    private let mask: UInt16
    private let usesEventIndex: Bool
    private var availIndex: UInt16 = 0
    private var publishedAvail: UInt16 = 0
    private var lastUsed: UInt16 = 0
    private var usedIndex: UInt16 = 0

    init(
        size: Int, chainLength: Int, features: VirtioFeatures, in space: GuestSpace
    ) throws(RxPathError) {
        guard size > 0, size <= SplitLayout.maximumSize, size & (size - 1) == 0 else {
            throw RxPathError("ring size \(size) is not a power of two between 1 and 32768")
        }
        guard chainLength > 0, chainLength <= size else {
            throw RxPathError(
                "a chain of \(chainLength) descriptors does not fit a ring of \(size)")
        }
        let table = try space.allocate(
            byteCount: SplitLayout.descriptorTableByteCount(size: size), alignment: 4096)
        let avail = try space.allocate(byteCount: SplitLayout.availRingByteCount(size: size))
        let used = try space.allocate(byteCount: SplitLayout.usedRingByteCount(size: size))
        self.size = size
        self.chainLength = chainLength
        descriptors = table.pointer
        availRing = avail.pointer
        usedRing = used.pointer
        mask = UInt16(truncatingIfNeeded: size - 1)
        usesEventIndex = features.contains(.eventIndex)
        addresses = SplitVirtqueueAddresses(
            size: size, descriptorTable: table.address, availRing: avail.address,
            usedRing: used.address)
    }

    /// Chains that can be posted at once.
    var chainCount: Int { size / chainLength }

    /// Writes descriptor `position` of chain `chain`: device-writable, linked to the next.
    @inline(__always)
    func write(chain: Int, position: Int, address: GuestAddress, byteCount: Int) {
        let index = chain &* chainLength &+ position
        let isLast = position &+ 1 == chainLength
        let flags = DescriptorFlags.write | (isLast ? 0 : DescriptorFlags.next)
        let next = isLast ? 0 : UInt64(truncatingIfNeeded: index &+ 1)
        let slot = descriptors + index &* SplitLayout.descriptorByteCount
        // Plain stores: the device reads them only after the index that covers them [V1].
        slot.storeBytes(of: address.rawValue, as: UInt64.self)
        slot.storeBytes(
            of: UInt64(UInt32(truncatingIfNeeded: byteCount)) | UInt64(flags) &<< 32 | next &<< 48,
            toByteOffset: 8, as: UInt64.self)
    }

    /// Puts a chain into the available ring; the device sees it after `publish`.
    @inline(__always)
    mutating func post(chain: Int) {
        let entry = SplitLayout.entriesOffset &+ 2 &* Int(availIndex & mask)
        SharedWord16(availRing + entry).store(UInt16(truncatingIfNeeded: chain &* chainLength))
        availIndex = availIndex &+ 1
    }

    /// Shows the device all posted chains.
    /// - Returns: whether the device wants to be kicked.
    @inline(__always)
    mutating func publish() -> Bool {
        if publishedAvail == availIndex { return false }
        let from = publishedAvail
        publishedAvail = availIndex
        // [V1 release -> the device's acquire of avail.idx: descriptors and ring entries below it]
        let index = SharedWord16(availRing + SplitLayout.indexOffset)
        index.storeSequential(availIndex)
        if usesEventIndex {
            let offset = SplitLayout.availEventOffset(size: size)
            let event = SharedWord16(usedRing + offset).loadSequential()  // [V3]
            let flags = SharedWord16(usedRing + SplitLayout.flagsOffset).load()
            return flags & usedNoNotify == 0 && (availIndex &- event &- 1) < (availIndex &- from)
        }
        let flags = SharedWord16(usedRing + SplitLayout.flagsOffset).loadSequential()  // [V3]
        return flags & usedNoNotify == 0
    }

    /// How many used entries wait to be harvested, looked up at most once per burst.
    @inline(__always)
    mutating func pendingUsed() -> Int {
        // [V2 acquire <- the device's release of used.idx: entries, buffers, header slots]
        usedIndex = SharedWord16(usedRing + SplitLayout.indexOffset).loadAcquire()
        return Int(usedIndex &- lastUsed)
    }

    /// Used entry `offset` of those pending: {le32 id, le32 len} in one word.
    @inline(__always)
    func used(_ offset: Int) -> UInt64 {
        let index = Int((lastUsed &+ UInt16(truncatingIfNeeded: offset)) & mask)
        return (usedRing + SplitLayout.entriesOffset + index &* SplitLayout.usedElementByteCount)
            .loadUnaligned(as: UInt64.self)
    }

    /// The first `count` pending entries are done with.
    @inline(__always)
    mutating func release(_ count: Int) {
        lastUsed = lastUsed &+ UInt16(truncatingIfNeeded: count)
    }

    /// Asks the device to call, or not to.
    func setInterrupts(_ enabled: Bool) {
        SharedWord16(availRing + SplitLayout.flagsOffset).store(enabled ? 0 : availNoInterrupt)
        let offset = SplitLayout.usedEventOffset(size: size)
        // With an event index: call at the next entry, or at the one farthest away.
        SharedWord16(availRing + offset).store(enabled ? lastUsed : lastUsed &- 1)
    }
}
