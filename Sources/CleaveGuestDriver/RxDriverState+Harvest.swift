// Finding packets: what the device used, checked before it is trusted.

import CCleaveHost
import CleaveVirtioNet

extension RxDriverState {
    @inline(__always)
    mutating func harvest<Ring: DriverRing>(_ ring: UnsafeMutablePointer<Ring>) -> Int {
        packetCount = 0
        pieceCount = 0
        burstChainCount = 0
        if fault != .none { return 0 }
        ring.pointee.refresh()
        // An entry that completes several packets does not say where they are.
        if !isInOrder { prefetchHeaders(ring) }
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

    /// Prefetches the start of each packet's buffer or slot, which another core usually wrote last:
    /// over two cores, 64 bytes, 10 to 15 million packets per second.
    ///
    /// Not inlined: with it `harvest` outgrows what the compiler inlines.
    @inline(never)
    private func prefetchHeaders<Ring: DriverRing>(_ shared: UnsafeMutablePointer<Ring>) {
        let ring = shared.pointee
        let headCount = chainCount &* chainLength
        var entry = 0
        while entry < burst, let used = ring.usedEntry(entry) {
            if used.slot >= 0 {
                if used.slot < slotCount { cleave_prefetch_read(slotPointer(used.slot)) }
            } else if used.head < headCount {
                cleave_prefetch_read(pointer(bufferAt[used.head]))
            }
            entry &+= 1
        }
    }

    /// One packet, from used entry `entry` on.
    /// - Returns: entries it took; 0 after a fault.
    @inline(__always)
    private mutating func harvestPacket<Ring: DriverRing>(
        _ entry: Int, _ used: UsedBuffer, _ ring: UnsafeMutablePointer<Ring>
    ) -> Int {
        let slot = used.slot
        let chain = used.head
        guard accept(chain) else { return failed(.usedID) }
        let byteCount = used.isFull ? capacity(chain) : used.byteCount
        let first = pointer(bufferAt[chain])
        var packet = ReceivedPacket(
            netHeader: first, headers: first, headerLength: 0, bufferCount: 1,
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
            ? appendAfterHeaders(chain, byteCount, &packet)
            : appendPieces(
                head: chain, first: firstDataPosition, byteCount: byteCount &- lead,
                prefix: prefix &- lead, to: &packet)
        guard isPlaced else { return failed(.usedLength) }
        if bufferCount > 1 {
            let reason = harvestFurther(after: entry, count: bufferCount, ring, &packet)
            if reason != .none { return failed(reason) }
        }
        (packets + packetCount).initialize(to: packet)
        packetCount &+= 1
        return bufferCount
    }

    /// The second and later buffers of a packet.
    @inline(never)
    private mutating func harvestFurther<Ring: DriverRing>(
        after entry: Int, count: Int, _ ring: UnsafeMutablePointer<Ring>,
        _ packet: inout ReceivedPacket
    ) -> DriverFault {
        for offset in 1..<count {
            guard let used = ring.pointee.used(entry &+ offset) else { return .numBuffers }
            // A packet has one slot, and its first buffer names it.
            if used.slot >= 0 { return .usedLength }
            guard accept(used.head) else { return .usedID }
            let byteCount = used.isFull ? capacity(used.head) : used.byteCount
            // Method C gives small buffers back empty.
            if byteCount == 0 { continue }
            guard
                appendPieces(
                    head: used.head, first: 0, byteCount: byteCount, prefix: 0, to: &packet)
            else {
                return .usedLength
            }
        }
        return .none
    }

    /// Bytes of a whole chain.
    private func capacity(_ head: Int) -> Int {
        (head..<head + chainLength).reduce(0) { $0 + Int(bufferAt[$1].byteCount) }
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

    /// Net header and packet headers in a slot (`usedLength`).
    @inline(__always)
    private mutating func readSlotHeader(_ slot: Int, _ packet: inout ReceivedPacket) -> Bool {
        if slot >= slotCount { return false }
        let start = slotPointer(slot)
        let netHeader = NetHeader(load: start, byteCount: netHeaderByteCount)
        packet.netHeader = start
        packet.headers = start + netHeaderByteCount
        packet.headerLength = netHeader.hdrLen
        if isMergeable { packet.bufferCount = netHeader.numBuffers }
        if netHeader.hdrLen == 0 || Int(netHeader.hdrLen) &+ netHeaderByteCount > slotSize {
            return false
        }
        noteSlot(slot)
        return true
    }

    /// Net header, and the split report that names a slot (`netHeader`), at the start of a data
    /// buffer.
    @inline(__always)
    private mutating func readDataHeader(
        _ start: UnsafeRawPointer, _ packet: inout ReceivedPacket
    ) -> Bool {
        if isMergeable {
            packet.bufferCount = NetHeader(load: start, byteCount: netHeaderByteCount).numBuffers
        }
        if !hasSplitReport { return true }
        let tail = SplitReport(load: start + netHeaderByteCount)
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

    /// Adds the payload of a first buffer that begins with prefix and headers: the chain's further
    /// descriptors hold it, if payload shares the chain; otherwise there is none.
    @inline(__always)
    private mutating func appendAfterHeaders(
        _ head: Int, _ byteCount: Int, _ packet: inout ReceivedPacket
    ) -> Bool {
        let lead = prefixByteCount &+ Int(packet.headerLength)
        let payload = byteCount &- lead
        if payload < 0 || lead > Int(bufferAt[head].byteCount) { return false }
        if payload == 0 { return true }
        return payloadSharesChain
            && appendPieces(head: head, first: 1, byteCount: payload, prefix: 0, to: &packet)
    }

    /// Adds the pieces of a chain of which `byteCount` bytes were written from descriptor number
    /// `first` on.
    @inline(__always)
    private mutating func appendPieces(
        head: Int, first: Int, byteCount: Int, prefix: Int,
        to packet: inout ReceivedPacket
    ) -> Bool {
        var left = byteCount
        var skip = prefix
        var position = first
        repeat {
            if position == chainLength || pieceCount == pieceCapacity { return left == 0 }
            let buffer = bufferAt[head &+ position]
            let here = min(left, Int(buffer.byteCount))
            (pieces + pieceCount).initialize(
                to: ReceivedSegment(
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
