import CleaveVirtioNet

/// The mutable state of a driver and its per-packet loops, reached by pointer. The loops that touch
/// the ring are generic over it and reach it by pointer too: passing a copy of it to the rare cases
/// cost every packet 6 cycles.
struct RxDriverState {
    let chainLength: Int
    let chainCount: Int
    let packets: UnsafeMutablePointer<ReceivedPacket>
    let pieces: UnsafeMutablePointer<ReceivedSegment>
    var packetCount = 0
    var pieceCount = 0
    var harvestedCount: UInt64 = 0
    var emptyBufferCount: UInt64 = 0
    var postedDescriptorCount: UInt64 = 0
    var postedByteCount: UInt64 = 0
    var retiredSlotCount: UInt64 = 0
    var fault = DriverFault.none

    let burst: Int
    let pieceCapacity: Int
    let isMergeable: Bool
    let isInOrder: Bool
    let netHeaderByteCount: Int
    /// A `SplitReport` follows the virtio-net header in data buffers.
    let hasSplitReport: Bool
    /// What precedes a packet in its data buffers, if it has no slot of its own.
    let prefixByteCount: Int
    /// Descriptor of a chain where its data begins: 1 if the first is for the prefix alone, else 0.
    let firstDataPosition: Int
    /// Headers follow the prefix in the data buffer (methods A, B, C) and are not in a slot.
    let headersLead: Bool
    /// Headers have the chain's first descriptor to themselves (A), not the whole buffer.
    let payloadSharesChain: Bool
    let headerQueue: Unmanaged<DriverHeaderQueue>?
    let returnRing: Int
    let slotCount: Int
    let slotSize: Int

    let buffers: GuestBlock
    /// Header buffers begin here.
    let firstHeaderUnit: UInt32
    /// The buffer at each descriptor.
    let bufferAt: UnsafeMutablePointer<DriverBuffer>
    /// Chains that are not posted; a chain in use by the harvested burst is not among them.
    let freeChains: UnsafeMutablePointer<UInt16>
    var freeChainCount: Int
    /// 1 for each chain that the device has.
    let isPosted: UnsafeMutablePointer<UInt8>
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
        isInOrder = configuration.allFeatures.contains(.inOrder)
        isMergeable = configuration.allFeatures.contains(.mergeableBuffers)
        netHeaderByteCount =
            NetHeaderLayout(hashReport: configuration.allFeatures.contains(.hashReport)).byteCount
        let method = configuration.method
        hasSplitReport = method != .whole && method != .headerQueue(.usedLength)
        prefixByteCount =
            netHeaderByteCount + (hasSplitReport ? NetHeaderLayout.splitReportByteCount : 0)
        firstDataPosition = configuration.alignmentByteCount > 0 ? 1 : 0
        headersLead = hasSplitReport && !method.needsHeaderQueue
        payloadSharesChain = method == .headerDescriptor
        headerQueue = configuration.headerQueue.map { Unmanaged.passRetained($0) }
        returnRing = configuration.returnRing
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
    func slotPointer(_ slot: Int) -> UnsafeRawPointer {
        // SAFETY: `splits` implies a header queue (checked in RxDriver.init); kept until `free`.
        headerQueue.unsafelyUnwrapped._withUnsafeGuaranteedRef { $0.pointer(slot) }
    }

    @inline(__always)
    func pointer(_ buffer: DriverBuffer) -> UnsafeRawPointer {
        UnsafeRawPointer(buffers.pointer + buffer.offset)
    }

    /// Offset of `pointer` in its buffer, given the sizes of data and header buffers.
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
        // Chains without buffers stay in the list, in order.
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
                // The order of the chains is the order of the ring.
                while isInOrder && index < freeChainCount {
                    freeChains[kept] = freeChains[index]
                    kept &+= 1
                    index &+= 1
                }
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
                byteCount: Int(buffer.byteCount), kind: DescriptorFlags.write)
            byteCount &+= Int(buffer.byteCount)
            position &+= 1
        }
        return byteCount
    }
}
