import CleaveHost
import CleaveRings
import CleaveVirtioNet

/// The driver side of a split virtqueue: chains of a fixed length, chain c made of
/// the descriptors from c x chainLength on.
///
/// A used entry is named by its chain's head; header slots come in its length.
struct SplitDriverRing: DriverRing {
    static var keepsDescriptors: Bool { true }
    static var namesLength: Bool { true }

    private let size: Int
    let chainLength: Int
    let addresses: VirtqueueAddresses
    private let descriptors: UnsafeMutableRawPointer
    private let availRing: UnsafeMutableRawPointer
    private let usedRing: UnsafeMutableRawPointer
    private let mask: UInt16
    private let usesEventIndex: Bool
    /// `DriverRingGeometry.slotFlag`, where it is in an entry of {le32 id, le32 len}.
    private let slotFlag: UInt64
    let isInOrder: Bool
    var batch: UsedBatch
    private var availIndex: UInt16 = 0
    private var publishedAvail: UInt16 = 0
    private var lastUsed: UInt16 = 0
    /// Used entries known, from `lastUsed` on.
    private var pendingCount = 0

    init(_ geometry: DriverRingGeometry, in space: GuestSpace) throws(SetupError) {
        let size = geometry.size
        let table = try space.allocate(
            byteCount: SplitLayout.descriptorTableByteCount(size: size), alignment: 4096)
        let avail = try space.allocate(byteCount: SplitLayout.availRingByteCount(size: size))
        let used = try space.allocate(byteCount: SplitLayout.usedRingByteCount(size: size))
        self.size = size
        chainLength = geometry.chainLength
        descriptors = table.pointer
        availRing = avail.pointer
        usedRing = used.pointer
        mask = UInt16(truncatingIfNeeded: size - 1)
        usesEventIndex = geometry.features.contains(.eventIndex)
        slotFlag = UInt64(geometry.slotFlag) << 32
        isInOrder = geometry.features.contains(.inOrder)
        batch = UsedBatch(geometry)
        addresses = VirtqueueAddresses(
            format: .split, size: size, descriptorArea: table.address, driverArea: avail.address,
            deviceArea: used.address)
    }

    @inline(__always)
    func write(
        chain: Int, position: Int, address: GuestAddress, byteCount: Int, kind: UInt16
    ) {
        let index = chain &* chainLength &+ position
        let isLast = position &+ 1 == chainLength
        let flags = kind | (isLast ? 0 : DescriptorFlags.next)
        let next = isLast ? 0 : UInt64(truncatingIfNeeded: index &+ 1)
        let descriptor = descriptors + index &* SplitLayout.descriptorByteCount
        // Plain stores: the device reads them only after the index that covers them [V1].
        descriptor.storeBytes(of: address.rawValue, as: UInt64.self)
        descriptor.storeBytes(
            of: UInt64(UInt32(truncatingIfNeeded: byteCount)) | UInt64(flags) &<< 32 | next &<< 48,
            toByteOffset: 8, as: UInt64.self)
    }

    @inline(__always)
    mutating func post(chain: Int) {
        let entry = SplitLayout.entriesOffset &+ 2 &* Int(availIndex & mask)
        SharedWord16(availRing + entry).store(UInt16(truncatingIfNeeded: chain &* chainLength))
        availIndex = availIndex &+ 1
    }

    @inline(__always)
    mutating func publish() -> Bool {
        let count = Int(availIndex &- publishedAvail)
        if count == 0 { return false }
        publishedAvail = availIndex
        // [V1 release -> the device's acquire of avail.idx: descriptors and ring entries below it]
        let index = SharedWord16(availRing + SplitLayout.indexOffset)
        index.storeSequential(availIndex)
        if usesEventIndex {
            let offset = SplitLayout.availEventOffset(size: size)
            let event = SharedWord16(usedRing + offset).loadSequential()  // [V3]
            let flags = SharedWord16(usedRing + SplitLayout.flagsOffset).load()
            return flags & usedNoNotify == 0
                && SplitEvent.isCrossed(event, upTo: availIndex, count: count)
        }
        let flags = SharedWord16(usedRing + SplitLayout.flagsOffset).loadSequential()  // [V3]
        return flags & usedNoNotify == 0
    }

    @inline(__always)
    mutating func refresh() {
        // [V2 acquire <- the device's release of used.idx: entries, buffers, header slots]
        let index = SharedWord16(usedRing + SplitLayout.indexOffset).loadAcquire()
        pendingCount = Int(index &- lastUsed)
    }

    @inline(__always)
    func usedEntry(_ offset: Int) -> UsedBuffer? {
        if offset >= pendingCount { return nil }
        let index = Int((lastUsed &+ UInt16(truncatingIfNeeded: offset)) & mask)
        // {le32 id, le32 len} in one word.
        let entry =
            (usedRing + SplitLayout.entriesOffset + index &* SplitLayout.usedElementByteCount)
            .loadUnaligned(as: UInt64.self)
        let head = Int(UInt32(truncatingIfNeeded: entry))
        if entry & slotFlag != 0 {
            return UsedBuffer(head: head, naming: UInt32(truncatingIfNeeded: entry &>> 32))
        }
        return UsedBuffer(head: head, byteCount: Int(entry &>> 32), slot: -1)
    }

    @inline(__always)
    mutating func release(_ count: Int) {
        lastUsed = lastUsed &+ UInt16(truncatingIfNeeded: count)
    }

    func setInterrupts(_ enabled: Bool) {
        SharedWord16(availRing + SplitLayout.flagsOffset).store(enabled ? 0 : availNoInterrupt)
        let offset = SplitLayout.usedEventOffset(size: size)
        // With an event index: call at the next entry, or at the one farthest away.
        SharedWord16(availRing + offset).store(enabled ? lastUsed : lastUsed &- 1)
    }

    @inline(__always)
    func checkInvariants() {
        #if DEBUG
        let chains = Int(availIndex &- lastUsed)
        assert(chains * chainLength <= size, "chains are posted once until they are used")
        #endif
    }
}
