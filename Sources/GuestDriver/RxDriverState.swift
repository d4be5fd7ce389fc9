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
    private let netHeaderByteCount: Int
    /// A `SplitTail` follows the virtio-net header in data buffers.
    private let hasSplitTail: Bool
    /// What precedes a packet in its data buffers, if it has no slot of its own.
    private let prefixByteCount: Int
    /// The chain's descriptor where its data begins: 1 if one leads for the prefix alone, else 0.
    private let firstDataPosition: Int
    /// Headers lie behind the prefix (methods A, B, C), not in a slot.
    private let headersLead: Bool
    /// They have the chain's first descriptor to themselves (A), not the whole buffer.
    private let payloadSharesChain: Bool
    let headerQueue: Unmanaged<DriverHeaderQueue>?
    let slotCount: Int
    private let slotSize: Int

    private let buffers: GuestBlock
    /// Header buffers begin here.
    let firstHeaderUnit: UInt32
    /// The buffer at each descriptor.
    let bufferAt: UnsafeMutablePointer<DriverBuffer>
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
        _ configuration: RxDriverConfiguration, _ geometry: DriverRingGeometry,
        _ buffers: GuestBlock
    ) {
        chainLength = geometry.chainLength
        chainCount = geometry.chainCount
        self.buffers = buffers
        burst = configuration.burst
        pieceCapacity = max(geometry.size, configuration.burst)
        packets = .allocate(capacity: burst)
        pieces = .allocate(capacity: pieceCapacity)
        isMergeable = configuration.allFeatures.contains(.mergeableBuffers)
        netHeaderByteCount =
            NetHeaderLayout(hashReport: configuration.allFeatures.contains(.hashReport)).byteCount
        let method = configuration.method
        hasSplitTail = method != .whole && method != .headerQueue(.usedElement)
        prefixByteCount =
            netHeaderByteCount + (hasSplitTail ? NetHeaderLayout.splitTailByteCount : 0)
        firstDataPosition = configuration.alignmentByteCount > 0 ? 1 : 0
        headersLead = hasSplitTail && !method.needsHeaderQueue
        payloadSharesChain = method == .headerDescriptor
        headerQueue = configuration.headerQueue.map { Unmanaged.passRetained($0) }
        slotCount = configuration.headerQueue?.layout.slotCount ?? 0
        slotSize = configuration.headerQueue?.layout.slotSize ?? 0
        bufferAt = .allocate(capacity: geometry.size)
        freeChains = .allocate(capacity: chainCount)
        isPosted = .allocate(capacity: chainCount)
        isPosted.initialize(repeating: 0, count: chainCount)
        burstChains = .allocate(capacity: chainCount)
        slotRanges = .allocate(capacity: burst)
        freeChainCount = chainCount
        firstHeaderUnit = UInt32(configuration.dataByteCount / 64)
        let dataBufferCount = configuration.dataByteCount / configuration.shape.bufferByteCount
        spares = BufferFIFO(capacity: dataBufferCount)
        taken = BufferFIFO(capacity: dataBufferCount)
        for chain in 0..<chainCount { freeChains[chain] = UInt16(chain) }
        layBuffers(configuration, geometry)
    }

    /// Gives every descriptor its first buffer; data buffers beyond those are spares.
    private mutating func layBuffers(
        _ configuration: RxDriverConfiguration, _ geometry: DriverRingGeometry
    ) {
        let data = UInt32(configuration.shape.bufferByteCount)
        let header = UInt32(
            configuration.alignmentByteCount > 0
                ? configuration.alignmentByteCount : configuration.headerBufferByteCount)
        let headerStride = UInt32(configuration.headerBufferStride)
        var nextData: UInt32 = 0
        var nextHeader = firstHeaderUnit
        for index in 0..<geometry.size {
            var buffer = DriverBuffer.none
            if index < geometry.descriptorCount {
                if geometry.isHeader(index) {
                    buffer = DriverBuffer(unit: nextHeader, byteCount: header)
                    nextHeader += headerStride / 64
                } else {
                    buffer = DriverBuffer(unit: nextData, byteCount: data)
                    nextData += data / 64
                }
            }
            (bufferAt + index).initialize(to: buffer)
        }
        while nextData < firstHeaderUnit {
            spares.push(DriverBuffer(unit: nextData, byteCount: data))
            nextData += data / 64
        }
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
    private func pointer(_ buffer: DriverBuffer) -> UnsafeRawPointer {
        UnsafeRawPointer(buffers.pointer + buffer.offset)
    }

    /// Bytes from the start of the buffer in which `pointer` lies, of data and header buffers that
    /// large.
    func bufferOffset(
        of pointer: UnsafeRawPointer, dataBuffer: Int, headerBuffer: Int
    ) -> Int {
        let offset = UnsafeRawPointer(buffers.pointer).distance(to: pointer)
        let headers = Int(firstHeaderUnit) * 64
        return offset < headers ? offset % dataBuffer : (offset - headers) % headerBuffer
    }

    // MARK: Refill

    @inline(__always)
    mutating func refill<Ring: DriverRing>(
        _ ring: UnsafeMutablePointer<Ring>
    ) -> (posted: Int, wantsKick: Bool) {
        var posted = 0
        var byteCount = 0
        // Chains without buffers stay, in order.
        var kept = 0
        var index = 0
        while index < freeChainCount {
            let chain = freeChains[index]
            index &+= 1
            let filled = fill(Int(chain), ring)
            if filled > 0 {
                ring.pointee.post(chain: Int(chain))
                isPosted[Int(chain)] = 1
                posted &+= 1
                byteCount &+= filled
            } else {
                freeChains[kept] = chain
                kept &+= 1
            }
        }
        freeChainCount = kept
        postedDescriptorCount &+= UInt64(truncatingIfNeeded: posted &* chainLength)
        postedByteCount &+= UInt64(truncatingIfNeeded: byteCount)
        return (posted, ring.pointee.publish())
    }

    /// Writes a chain's descriptors, with spare buffers in the place of taken ones.
    /// - Returns: bytes of the chain; 0 if there are too few buffers.
    @inline(__always)
    private mutating func fill<Ring: DriverRing>(
        _ chain: Int, _ ring: UnsafeMutablePointer<Ring>
    ) -> Int {
        var position = 0
        var byteCount = 0
        while position < chainLength {
            let index = chain &* chainLength &+ position
            if bufferAt[index].isNone {
                guard let spare = spares.pop() else { return 0 }
                bufferAt[index] = spare
            }
            let buffer = bufferAt[index]
            ring.pointee.write(
                chain: chain, position: position,
                address: buffers.address.advanced(by: buffer.offset),
                byteCount: Int(buffer.byteCount))
            byteCount &+= Int(buffer.byteCount)
            position &+= 1
        }
        return byteCount
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
        let first = pointer(bufferAt[chain])
        var packet = ReceivedPacket(
            headers: first, headerLength: 0, bufferCount: 1,
            firstPiece: UInt16(truncatingIfNeeded: pieceCount), pieceCount: 0, dataByteCount: 0)
        var prefix = 0
        if slot >= 0 {
            guard readSlotHeader(slot, &packet) else { return failed(.slot) }
        } else {
            if byteCount == 0 {
                emptyBufferCount &+= 1
                return 1
            }
            prefix = prefixByteCount
            if byteCount < prefix { return failed(.usedLength) }
            guard readDataHeader(first, &packet) else { return failed(.slot) }
        }
        let bufferCount = Int(packet.bufferCount)
        if bufferCount == 0 { return failed(.numBuffers) }
        let lead = prefix &* firstDataPosition
        let isPlaced =
            headersLead && packet.isSplit
            ? appendBehindHeaders(chain, byteCount, &packet)
            : appendPieces(
                chain, firstDataPosition, byteCount &- lead, prefix &- lead, &packet)
        guard isPlaced else { return failed(.usedLength) }
        if bufferCount > 1 {
            let reason = harvestFurther(entry, bufferCount, ring, &packet)
            if reason != .none { return failed(reason) }
        }
        (packets + packetCount).initialize(to: packet)
        packetCount &+= 1
        return bufferCount
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
            // Method C gives small buffers back empty.
            if used.byteCount == 0 { continue }
            guard appendPieces(used.head, 0, used.byteCount, 0, &packet) else {
                return .usedLength
            }
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
        _ start: UnsafeRawPointer, _ packet: inout ReceivedPacket
    ) -> Bool {
        if isMergeable {
            packet.bufferCount = NetHeader(load: start, byteCount: netHeaderByteCount).numBuffers
        }
        if !hasSplitTail { return true }
        let tail = SplitTail(load: start + netHeaderByteCount)
        if !tail.isSplit { return true }
        packet.headerLength = tail.headerLength
        if headersLead {
            packet.headers = start + prefixByteCount
            return tail.headerLength != 0 && tail.slot == 0
        }
        if Int(tail.slot) >= slotCount || tail.headerLength == 0
            || Int(tail.headerLength) > slotSize
        {
            return false
        }
        packet.headers = slotPointer(Int(tail.slot))
        noteSlot(Int(tail.slot))
        return true
    }

    /// Adds the payload of a first buffer that begins with prefix and headers: what lies in the
    /// chain's further descriptors, if payload shares it; otherwise there is none.
    @inline(__always)
    private mutating func appendBehindHeaders(
        _ head: Int, _ byteCount: Int, _ packet: inout ReceivedPacket
    ) -> Bool {
        let lead = prefixByteCount &+ Int(packet.headerLength)
        let payload = byteCount &- lead
        if payload < 0 || lead > Int(bufferAt[head].byteCount) { return false }
        if payload == 0 { return true }
        return payloadSharesChain && appendPieces(head, 1, payload, 0, &packet)
    }

    /// Adds the pieces of a chain of which `byteCount` bytes were written from descriptor number
    /// `first` on.
    @inline(__always)
    private mutating func appendPieces(
        _ head: Int, _ first: Int, _ byteCount: Int, _ prefix: Int,
        _ packet: inout ReceivedPacket
    ) -> Bool {
        var left = byteCount
        var skip = prefix
        var position = first
        repeat {
            if position == chainLength || pieceCount == pieceCapacity { return left == 0 }
            let buffer = bufferAt[head &+ position]
            let here = min(left, Int(buffer.byteCount))
            (pieces + pieceCount).initialize(
                to: ReceivedPiece(
                    pointer: pointer(buffer) + skip,
                    byteCount: UInt32(truncatingIfNeeded: here &- skip)))
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
