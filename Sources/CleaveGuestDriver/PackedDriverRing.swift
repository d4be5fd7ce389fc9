import CleaveHost
import CleaveRings
import CleaveVirtioNet

/// The driver side of a packed virtqueue.
///
/// All chains have the same length, so used entry n lies n chain lengths after the first, whichever
/// chains the device used. Header slots come in the used descriptor's length.
struct PackedDriverRing: DriverRing {
    static var keepsDescriptors: Bool { false }
    static var namesLength: Bool { false }

    private let size: Int
    let chainLength: Int
    let addresses: VirtqueueAddresses
    private let ring: UnsafeMutableRawPointer
    private let driverArea: UnsafeMutableRawPointer
    private let deviceArea: UnsafeMutableRawPointer
    private let usesEventIndex: Bool
    private let slotFlag: UInt32
    let isInOrder: Bool
    var batch: UsedBatch
    /// Where the next chain is posted.
    private var nextAvail = PackedCursor.start
    /// Where the next used descriptor is expected.
    private var nextUsed = PackedCursor.start
    /// Second half of the head of the chain being written: it hands the chain over.
    private var head: UInt64 = 0
    /// Second half of the first head since the last publish: it hands all of them over.
    private var firstHead: UInt64 = 0
    /// Descriptors posted since the last publish.
    private var postedCount = 0

    init(_ geometry: DriverRingGeometry, in space: GuestSpace) throws(SetupError) {
        size = geometry.size
        chainLength = geometry.chainLength
        let block = try space.allocate(
            byteCount: PackedLayout.ringByteCount(size: size), alignment: 4096)
        let driver = try space.allocate(byteCount: PackedLayout.eventByteCount)
        let device = try space.allocate(byteCount: PackedLayout.eventByteCount)
        ring = block.pointer
        driverArea = driver.pointer
        deviceArea = device.pointer
        usesEventIndex = geometry.features.contains(.eventIndex)
        slotFlag = geometry.slotFlag
        isInOrder = geometry.features.contains(.inOrder)
        batch = UsedBatch(geometry)
        addresses = VirtqueueAddresses(
            format: .packed, size: size, descriptorArea: block.address,
            driverArea: driver.address, deviceArea: device.address)
    }

    @inline(__always)
    private func entry(_ place: PackedCursor) -> UnsafeMutableRawPointer {
        ring + place.offset &* PackedLayout.descriptorByteCount
    }

    @inline(__always)
    private func rest(_ place: PackedCursor) -> SharedWord64 {
        SharedWord64(entry(place) + PackedLayout.restOffset)
    }

    @inline(__always)
    mutating func write(
        chain: Int, position: Int, address: GuestAddress, byteCount: Int, kind: UInt16
    ) {
        var place = nextAvail
        place.advance(by: position, size: size)
        let isLast = position &+ 1 == chainLength
        let flags = place.availableFlags | kind | (isLast ? 0 : DescriptorFlags.next)
        let word =
            UInt64(UInt32(truncatingIfNeeded: byteCount))
            | UInt64(UInt16(truncatingIfNeeded: chain &* chainLength)) &<< 32
            | UInt64(flags) &<< 48
        SharedWord64(entry(place)).store(address.rawValue)
        // The device reads none of the others before the head.
        if position == 0 { head = word } else { rest(place).store(word) }
    }

    @inline(__always)
    mutating func post(chain: Int) {
        if postedCount == 0 { firstHead = head } else { rest(nextAvail).store(head) }
        nextAvail.advance(by: chainLength, size: size)
        postedCount &+= chainLength
    }

    @inline(__always)
    mutating func publish() -> Bool {
        if postedCount == 0 { return false }
        let count = postedCount
        let first = nextAvail.moved(back: count, size: size)
        postedCount = 0
        // [V4 release -> the device's acquire of the first head: all descriptors after it]
        // Sequential, so that the device's event is not read before this is visible [V3].
        rest(first).storeSequential(firstHead)
        return PackedEvent.isWanted(
            deviceArea, upTo: nextAvail, count: count, size: size, usesEventIndex: usesEventIndex)
    }

    /// There is no index to read: descriptors themselves say whether they are used.
    @inline(__always)
    mutating func refresh() {}

    @inline(__always)
    func usedEntry(_ offset: Int) -> UsedBuffer? {
        var place = nextUsed
        place.advance(by: offset &* chainLength, size: size)
        // [V5 acquire <- the device's release of a burst's first used descriptor: the others,
        // buffers, header slots]
        let word = rest(place).loadAcquire()
        if UInt16(truncatingIfNeeded: word &>> 48) & PackedLayout.ownerFlags != place.usedFlags {
            return nil
        }
        let head = Int(UInt16(truncatingIfNeeded: word &>> 32))
        let length = UInt32(truncatingIfNeeded: word)
        if length & slotFlag != 0 { return UsedBuffer(head: head, naming: length) }
        return UsedBuffer(head: head, byteCount: Int(length), slot: -1)
    }

    @inline(__always)
    mutating func release(_ count: Int) {
        nextUsed.advance(by: count &* chainLength, size: size)
    }

    /// With an event index: at the next used descriptor.
    func setInterrupts(_ enabled: Bool) {
        let asked = usesEventIndex ? PackedEvent.atDescriptor : PackedEvent.enable
        PackedEvent.request(
            driverArea, flags: enabled ? asked : PackedEvent.disable, at: nextUsed)
    }

    @inline(__always)
    func checkInvariants() {
        #if DEBUG
        func position(_ cursor: PackedCursor) -> Int { cursor.offset + (cursor.wrap ? 0 : size) }
        let lap = 2 * size
        let posted = (position(nextAvail) - position(nextUsed) + lap) % lap
        assert(posted <= size, "chains are posted once until they are used")
        assert(postedCount >= 0 && postedCount <= posted)
        #endif
    }
}
