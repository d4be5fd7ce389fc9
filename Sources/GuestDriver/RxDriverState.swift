import RxPath

/// The mutable state of a driver and its per-packet loops, reached by pointer. The loops that touch
/// the ring are generic over it and reach it by pointer too: a copy of it was handed to the rare
/// cases for every packet, 6 cycles.
struct RxDriverState {
    let chainLength: Int
    private let chainCount: Int
    let packets: UnsafeMutablePointer<ReceivedPacket>
    let pieces: UnsafeMutablePointer<ReceivedPiece>
    private(set) var packetCount = 0
    private(set) var pieceCount = 0
    private(set) var harvestedCount: UInt64 = 0
    private(set) var emptyBufferCount: UInt64 = 0
    private(set) var postedDescriptorCount: UInt64 = 0
    private(set) var postedByteCount: UInt64 = 0
    var retiredSlotCount: UInt64 = 0
    private(set) var fault = DriverFault.none

    private let burst: Int
    private let pieceCapacity: Int
    private let isMergeable: Bool
    private let splits: Bool
    private let reportsInUsedElement: Bool
    private let netHeaderByteCount: Int
    let headerQueue: Unmanaged<DriverHeaderQueue>?
    let slotCount: Int
    private let slotSize: Int

    private let data: GuestBlock
    private let bufferByteCount: Int
    /// Buffer number at each descriptor.
    let bufferAt: UnsafeMutablePointer<UInt32>
    /// Chains that are not posted; a chain in use by the harvested burst is not among them.
    let freeChains: UnsafeMutablePointer<UInt16>
    var freeChainCount: Int
    /// 1 for each chain that the device has.
    private let isPosted: UnsafeMutablePointer<UInt8>
    /// Chains of the harvested burst.
    let burstChains: UnsafeMutablePointer<UInt16>
    var burstChainCount = 0
    var spares: BufferFIFO
    var taken: BufferFIFO
    /// Slots of the harvested burst as ranges: usually one, since a device's burst is contiguous.
    let slotRanges: UnsafeMutablePointer<SlotRange>
    var slotRangeCount = 0

    init(
        _ configuration: RxDriverConfiguration, _ geometry: DriverRingGeometry, data: GuestBlock
    ) {
        chainLength = geometry.chainLength
        chainCount = geometry.chainCount
        self.data = data
        burst = configuration.burst
        pieceCapacity = max(geometry.size, configuration.burst)
        packets = .allocate(capacity: burst)
        pieces = .allocate(capacity: pieceCapacity)
        isMergeable = configuration.allFeatures.contains(.mergeableBuffers)
        netHeaderByteCount =
            NetHeaderLayout(hashReport: configuration.allFeatures.contains(.hashReport)).byteCount
        splits = configuration.method != .whole
        reportsInUsedElement = configuration.method == .headerQueue(.usedElement)
        headerQueue = configuration.headerQueue.map { Unmanaged.passRetained($0) }
        slotCount = configuration.headerQueue?.layout.slotCount ?? 0
        slotSize = configuration.headerQueue?.layout.slotSize ?? 0
        bufferByteCount = configuration.shape.bufferByteCount
        let buffers = data.byteCount / bufferByteCount
        bufferAt = .allocate(capacity: geometry.size)
        freeChains = .allocate(capacity: chainCount)
        isPosted = .allocate(capacity: chainCount)
        isPosted.initialize(repeating: 0, count: chainCount)
        burstChains = .allocate(capacity: chainCount)
        slotRanges = .allocate(capacity: burst)
        freeChainCount = chainCount
        spares = BufferFIFO(capacity: buffers)
        taken = BufferFIFO(capacity: buffers)
        for chain in 0..<chainCount { freeChains[chain] = UInt16(chain) }
        for index in 0..<geometry.size { bufferAt[index] = .max }
        for index in 0..<(chainCount * chainLength) { bufferAt[index] = UInt32(index) }
        for index in (chainCount * chainLength)..<buffers { spares.push(UInt32(index)) }
    }

    func free() {
        packets.deallocate()
        pieces.deallocate()
        bufferAt.deallocate()
        freeChains.deallocate()
        isPosted.deallocate()
        burstChains.deallocate()
        slotRanges.deallocate()
        spares.free()
        taken.free()
        headerQueue?.release()
    }

    @inline(__always)
    private func slotPointer(_ slot: Int) -> UnsafeRawPointer {
        // SAFETY: `splits` implies a header queue (checked in RxDriver.init); kept until `free`.
        headerQueue.unsafelyUnwrapped._withUnsafeGuaranteedRef { $0.pointer(slot) }
    }

    @inline(__always)
    private func pointer(buffer: UInt32) -> UnsafeMutableRawPointer {
        data.pointer + Int(buffer) &* bufferByteCount
    }

    /// Bytes from the start of the data buffer in which `pointer` lies.
    func bufferOffset(of pointer: UnsafeRawPointer) -> Int {
        UnsafeRawPointer(data.pointer).distance(to: pointer) % bufferByteCount
    }

    // MARK: Refill

    @inline(__always)
    mutating func refill<Ring: DriverRing>(
        _ ring: UnsafeMutablePointer<Ring>
    ) -> (posted: Int, wantsKick: Bool) {
        var posted = 0
        // Chains without buffers stay, in order.
        var kept = 0
        var index = 0
        while index < freeChainCount {
            let chain = freeChains[index]
            index &+= 1
            if fill(Int(chain), ring) {
                ring.pointee.post(chain: Int(chain))
                isPosted[Int(chain)] = 1
                posted &+= 1
            } else {
                freeChains[kept] = chain
                kept &+= 1
            }
        }
        freeChainCount = kept
        let descriptors = posted &* chainLength
        postedDescriptorCount &+= UInt64(truncatingIfNeeded: descriptors)
        postedByteCount &+= UInt64(truncatingIfNeeded: descriptors &* bufferByteCount)
        return (posted, ring.pointee.publish())
    }

    /// Writes a chain's descriptors, with spare buffers in the place of taken ones.
    @inline(__always)
    private mutating func fill<Ring: DriverRing>(
        _ chain: Int, _ ring: UnsafeMutablePointer<Ring>
    ) -> Bool {
        var position = 0
        while position < chainLength {
            let index = chain &* chainLength &+ position
            if bufferAt[index] == .max {
                guard let spare = spares.pop() else { return false }
                bufferAt[index] = spare
            }
            ring.pointee.write(
                chain: chain, position: position,
                address: data.address.advanced(by: Int(bufferAt[index]) &* bufferByteCount),
                byteCount: bufferByteCount)
            position &+= 1
        }
        return true
    }

    // MARK: Harvest

    @inline(__always)
    mutating func harvest<Ring: DriverRing>(_ ring: UnsafeMutablePointer<Ring>) -> Int {
        packetCount = 0
        pieceCount = 0
        burstChainCount = 0
        if fault != .none { return 0 }
        ring.pointee.refresh()
        var entry = 0
        while packetCount < burst, let used = ring.pointee.used(entry) {
            let count = harvestPacket(entry, used, ring)
            if count == 0 { break }
            entry &+= count
        }
        ring.pointee.release(entry)
        harvestedCount &+= UInt64(packetCount)
        return packetCount
    }

    /// One packet, from used entry `entry` on.
    /// - Returns: entries it took; 0 after a fault.
    @inline(__always)
    private mutating func harvestPacket<Ring: DriverRing>(
        _ entry: Int, _ used: UsedBuffer, _ ring: UnsafeMutablePointer<Ring>
    ) -> Int {
        let byteCount = used.byteCount
        let slot = used.slot
        let chain = used.head
        guard accept(chain) else { return failed(.usedID) }
        let first = pointer(buffer: bufferAt[chain])
        var packet = ReceivedPacket(
            headers: UnsafeRawPointer(first), headerLength: 0, bufferCount: 1,
            firstPiece: UInt16(truncatingIfNeeded: pieceCount), pieceCount: 0, dataByteCount: 0)
        let prefix: Int
        if slot >= 0 {
            guard readSlotHeader(slot, &packet) else { return failed(.slot) }
            prefix = 0
        } else {
            if byteCount == 0 {
                emptyBufferCount &+= 1
                return 1
            }
            prefix = splits && !reportsInUsedElement ? netHeaderByteCount &+ 8 : netHeaderByteCount
            if byteCount < prefix { return failed(.usedLength) }
            guard readDataHeader(first, &packet) else { return failed(.slot) }
        }
        let buffers = Int(packet.bufferCount)
        if buffers == 0 { return failed(.numBuffers) }
        guard appendPieces(chain, byteCount, prefix, &packet) else { return failed(.usedLength) }
        if buffers > 1 {
            let reason = harvestFurther(entry, buffers, ring, &packet)
            if reason != .none { return failed(reason) }
        }
        (packets + packetCount).initialize(to: packet)
        packetCount &+= 1
        return buffers
    }

    /// The second and later buffers of a packet.
    @inline(never)
    private mutating func harvestFurther<Ring: DriverRing>(
        _ entry: Int, _ count: Int, _ ring: UnsafeMutablePointer<Ring>,
        _ packet: inout ReceivedPacket
    ) -> DriverFault {
        for offset in 1..<count {
            guard let used = ring.pointee.used(entry &+ offset) else { return .numBuffers }
            guard used.slot < 0, accept(used.head) else { return .usedID }
            guard appendPieces(used.head, used.byteCount, 0, &packet) else { return .usedLength }
        }
        return .none
    }

    /// Checks that a used id is a posted chain and takes it over.
    @inline(__always)
    private mutating func accept(_ head: Int) -> Bool {
        let chain = chainLength == 1 ? head : head / chainLength
        if chain >= chainCount || isPosted[chain] == 0 { return false }
        if chainLength != 1 && chain &* chainLength != head { return false }
        isPosted[chain] = 0
        burstChains[burstChainCount] = UInt16(truncatingIfNeeded: chain)
        burstChainCount &+= 1
        return true
    }

    /// Net header and packet headers in a slot (`usedElement`).
    @inline(__always)
    private mutating func readSlotHeader(_ slot: Int, _ packet: inout ReceivedPacket) -> Bool {
        if slot >= slotCount { return false }
        let start = slotPointer(slot)
        let netHeader = NetHeader(load: start, byteCount: netHeaderByteCount)
        packet.headers = start + netHeaderByteCount
        packet.headerLength = netHeader.hdrLen
        if isMergeable { packet.bufferCount = netHeader.numBuffers }
        if netHeader.hdrLen == 0 || Int(netHeader.hdrLen) &+ netHeaderByteCount > slotSize {
            return false
        }
        noteSlot(slot)
        return true
    }

    /// Net header, and the tail that names a slot (`netHeader`), at the start of a data buffer.
    @inline(__always)
    private mutating func readDataHeader(
        _ start: UnsafeMutableRawPointer, _ packet: inout ReceivedPacket
    ) -> Bool {
        if isMergeable {
            packet.bufferCount = NetHeader(load: start, byteCount: netHeaderByteCount).numBuffers
        }
        if !splits || reportsInUsedElement { return true }
        let tail = SplitTail(load: start + netHeaderByteCount)
        if !tail.isSplit { return true }
        if Int(tail.slot) >= slotCount || tail.headerLength == 0
            || Int(tail.headerLength) > slotSize
        {
            return false
        }
        packet.headers = slotPointer(Int(tail.slot))
        packet.headerLength = tail.headerLength
        noteSlot(Int(tail.slot))
        return true
    }

    /// Adds the pieces of a chain of which `byteCount` bytes were written.
    @inline(__always)
    private mutating func appendPieces(
        _ head: Int, _ byteCount: Int, _ prefix: Int, _ packet: inout ReceivedPacket
    ) -> Bool {
        var left = byteCount
        var skip = prefix
        var position = 0
        repeat {
            if position == chainLength || pieceCount == pieceCapacity { return left == 0 }
            let here = left < bufferByteCount ? left : bufferByteCount
            let start = UnsafeRawPointer(pointer(buffer: bufferAt[head &+ position]))
            (pieces + pieceCount).initialize(
                to: ReceivedPiece(
                    pointer: start + skip, byteCount: UInt32(truncatingIfNeeded: here &- skip)))
            pieceCount &+= 1
            packet.pieceCount &+= 1
            packet.dataByteCount &+= UInt32(truncatingIfNeeded: here &- skip)
            left &-= here
            skip = 0
            position &+= 1
        } while left > 0
        return true
    }

    @inline(never)
    private mutating func failed(_ reason: DriverFault) -> Int {
        fault = reason
        return 0
    }
}
