import CleaveHost
import CleaveVirtioNet

/// The mutable state of a transmit driver and its per-packet loops, reached by pointer as those of
/// `RxDriverState` are.
///
/// Buffer n belongs to chain n for good. Chains that are free lie in a ring of their own, oldest
/// first: a device that uses in order so gets them in the order of the descriptors, which IN_ORDER
/// demands.
struct TxDriverState {
    let chainCount: Int
    private let chainLength: Int
    private let buffers: GuestBlock
    private let packetStride: Int
    private let pieceByteCount: Int
    private let pieceCount: Int
    private let frameLimit: Int
    private let netHeaderByteCount: Int
    private let separatesNetHeader: Bool
    private let tables: GuestBlock?
    private let tableByteCount: Int
    private let format: RingFormat

    /// Bytes of each buffer's frame; 0 = none was ever copied in.
    private let lengths: UnsafeMutablePointer<UInt32>
    /// 1 for each chain that the device has.
    private let posted: UnsafeMutablePointer<UInt8>
    private let freeChains: UnsafeMutablePointer<UInt16>
    /// Where the chain lies that was freed longest ago.
    private var freeHead = 0
    private(set) var freeCount: Int
    private(set) var counters = TxDriverCounters()
    private(set) var fault = DriverFault.none

    init(
        _ configuration: TxDriverConfiguration, _ geometry: DriverRingGeometry,
        _ buffers: GuestBlock, tables: GuestBlock?
    ) {
        chainCount = geometry.chainCount
        chainLength = geometry.chainLength
        self.buffers = buffers
        self.tables = tables
        packetStride = configuration.packetStride
        pieceByteCount = configuration.bufferByteCount
        pieceCount = configuration.pieceCount
        frameLimit = configuration.frameByteCount
        netHeaderByteCount =
            NetHeaderLayout(hashReport: configuration.allFeatures.contains(.hashReport)).byteCount
        separatesNetHeader = configuration.separatesNetHeader
        tableByteCount = configuration.tableByteCount
        format = configuration.ring
        lengths = .allocate(capacity: chainCount)
        lengths.initialize(repeating: 0, count: chainCount)
        posted = .allocate(capacity: chainCount)
        posted.initialize(repeating: 0, count: chainCount)
        freeChains = .allocate(capacity: chainCount)
        freeCount = chainCount
        for chain in 0..<chainCount { freeChains[chain] = UInt16(chain) }
    }

    func free() {
        lengths.deallocate()
        posted.deallocate()
        freeChains.deallocate()
    }

    func isPosted(_ chain: Int) -> Bool { posted[chain] != 0 }

    /// Why `frame` cannot be sent; nil if it can.
    @inline(__always)
    func dropReason(_ frame: OutgoingFrame) -> OutgoingDropReason? {
        if frame.byteCount < 14 { return .runt }
        return frame.byteCount > frameLimit ? .tooLong : nil
    }

    // MARK: Posting

    @inline(__always)
    mutating func send<Ring: DriverRing>(
        _ frames: UnsafePointer<OutgoingFrame>, _ count: Int, _ ring: UnsafeMutablePointer<Ring>
    ) -> (taken: Int, wantsKick: Bool) {
        var taken = 0
        while taken < count {
            if let reason = dropReason(frames[taken]) {
                drop(reason)
            } else {
                if freeCount == 0 { break }
                let chain = nextChain
                prepare(chain, frames[taken], ring)
                push(chain, ring)
            }
            taken &+= 1
        }
        return (taken, publish(ring))
    }

    @inline(never)
    private mutating func drop(_ reason: OutgoingDropReason) {
        switch reason {
        case .runt: counters.runts &+= 1
        case .tooLong: counters.tooLong &+= 1
        }
    }

    @inline(__always)
    mutating func post<Ring: DriverRing>(
        _ count: Int, _ ring: UnsafeMutablePointer<Ring>
    ) -> (posted: Int, wantsKick: Bool) {
        let limit = min(count, freeCount)
        var done = 0
        while done < limit {
            let chain = nextChain
            if lengths[chain] == 0 { break }
            // A split ring's descriptors are still those of the last time.
            if !Ring.keepsDescriptors { describe(chain, ring) }
            push(chain, ring)
            done &+= 1
        }
        return (done, publish(ring))
    }

    /// The chain that was freed longest ago; there must be one.
    @inline(__always) private var nextChain: Int { Int(freeChains[freeHead]) }

    @inline(__always)
    private mutating func push<Ring: DriverRing>(
        _ chain: Int, _ ring: UnsafeMutablePointer<Ring>
    ) {
        ring.pointee.post(chain: chain)
        posted[chain] = 1
        freeHead = freeHead &+ 1 == chainCount ? 0 : freeHead &+ 1
        freeCount &-= 1
        counters.packets &+= 1
        counters.bytes &+= UInt64(lengths[chain])
    }

    @inline(__always)
    private mutating func publish<Ring: DriverRing>(_ ring: UnsafeMutablePointer<Ring>) -> Bool {
        let wantsKick = ring.pointee.publish()
        counters.kicks &+= wantsKick ? 1 : 0
        return wantsKick
    }

    /// Copies a frame and its net header into a chain's buffer. The descriptors of a packed ring
    /// are written where the chain is posted next, so the chain must be that one or be described
    /// again.
    @inline(__always)
    mutating func prepare<Ring: DriverRing>(
        _ chain: Int, _ frame: OutgoingFrame, _ ring: UnsafeMutablePointer<Ring>
    ) {
        let start = buffers.pointer + (chain &* packetStride &+ TxDriverConfiguration.headerRoom)
        var header = frame.offloads
        // virtio 1.4: the driver sets num_buffers to zero.
        header.numBuffers = 0
        header.store(to: start - netHeaderByteCount, byteCount: netHeaderByteCount)
        start.copyMemory(from: frame.pointer, byteCount: frame.byteCount)
        let isSame = lengths[chain] == UInt32(truncatingIfNeeded: frame.byteCount)
        lengths[chain] = UInt32(truncatingIfNeeded: frame.byteCount)
        if !isSame && tables != nil { writeTable(chain) }
        if !isSame || !Ring.keepsDescriptors { describe(chain, ring) }
    }

    /// Writes a chain's descriptors into the ring.
    @inline(__always)
    private func describe<Ring: DriverRing>(
        _ chain: Int, _ ring: UnsafeMutablePointer<Ring>
    ) {
        if let tables {
            return ring.pointee.write(
                chain: chain, position: 0,
                address: tables.address.advanced(by: chain &* tableByteCount),
                byteCount: tableByteCount, kind: DescriptorFlags.indirect)
        }
        forEachPart(chain) { position, address, byteCount in
            ring.pointee.write(
                chain: chain, position: position, address: address, byteCount: byteCount, kind: 0)
        }
    }

    /// Writes the chain's own table: linked by number if the ring is split, else from end to end.
    @inline(never)
    private func writeTable(_ chain: Int) {
        guard let tables else { return }
        let table = tables.pointer + chain &* tableByteCount
        let count = pieceCount &+ (separatesNetHeader ? 1 : 0)
        forEachPart(chain) { position, address, byteCount in
            let entry = table + position &* SplitLayout.descriptorByteCount
            let isLinked = format == .split && position &+ 1 < count
            let link =
                isLinked
                ? UInt64(DescriptorFlags.next) &<< 32
                    | UInt64(truncatingIfNeeded: position &+ 1) &<< 48 : 0
            // Plain stores: the device reads them only after the ring's release.
            entry.storeBytes(of: address.rawValue, as: UInt64.self)
            entry.storeBytes(
                of: UInt64(UInt32(truncatingIfNeeded: byteCount)) | link, toByteOffset: 8,
                as: UInt64.self)
        }
    }

    /// The descriptors of a packet. Each piece is as long as possible, but for a byte that is kept
    /// for each of those after it: none is empty.
    @inline(__always)
    private func forEachPart(_ chain: Int, _ body: (Int, GuestAddress, Int) -> Void) {
        let frame = chain &* packetStride &+ TxDriverConfiguration.headerRoom
        var left = Int(lengths[chain])
        var offset = frame &- netHeaderByteCount
        var extra = netHeaderByteCount
        var position = 0
        if separatesNetHeader {
            body(0, buffers.address.advanced(by: offset), netHeaderByteCount)
            offset = frame
            extra = 0
            position = 1
        }
        var piecesLeft = pieceCount
        while piecesLeft > 0 {
            piecesLeft &-= 1
            let here = min(left &- piecesLeft, pieceByteCount)
            body(position, buffers.address.advanced(by: offset), here &+ extra)
            offset &+= here &+ extra
            left &-= here
            extra = 0
            position &+= 1
        }
    }

    // MARK: Reaping

    @inline(__always)
    mutating func reap<Ring: DriverRing>(
        _ count: Int, _ ring: UnsafeMutablePointer<Ring>
    ) -> Int {
        if fault != .none { return 0 }
        ring.pointee.refresh()
        let limit = min(count, chainCount &- freeCount)
        var done = 0
        while done < limit, let used = ring.pointee.used(done) {
            if !takeBack(used, namesLength: Ring.namesLength) { break }
            done &+= 1
        }
        // All that were posted are back: whatever is used beyond them was made up.
        if done == limit && freeCount == chainCount && fault == .none,
            !ring.pointee.batch.isEmpty || ring.pointee.usedEntry(done) != nil
        {
            fault = .usedID
        }
        ring.pointee.release(done)
        counters.reaped &+= UInt64(done)
        return done
    }

    /// Takes a chain back, if the device had it and wrote nothing.
    @inline(__always)
    private mutating func takeBack(_ used: UsedBuffer, namesLength: Bool) -> Bool {
        let chain = used.head / chainLength
        guard chain < chainCount, chain &* chainLength == used.head, posted[chain] != 0 else {
            return failed(.usedID)
        }
        if namesLength && used.byteCount != 0 && !used.isFull { return failed(.usedLength) }
        posted[chain] = 0
        var place = freeHead &+ freeCount
        if place >= chainCount { place &-= chainCount }
        freeChains[place] = UInt16(truncatingIfNeeded: chain)
        freeCount &+= 1
        return true
    }

    @inline(never)
    private mutating func failed(_ reason: DriverFault) -> Bool {
        fault = reason
        return false
    }
}
