import CleaveHost
import CleaveRings

/// The mutable state of a transmit queue, reached by pointer.
///
/// Chains that are out lie in a ring of their own between `doneIndex` and `takenIndex`, in the
/// order in which they were taken and will be completed. The segments after the first of each
/// packet lie in `segments`, used like a ring as well; those of one packet are contiguous.
struct TxQueueState<Ring: TxRing> {
    var ring: Ring
    let chains: UnsafeMutablePointer<TxChain>
    let chainMask: Int
    var takenIndex = 0
    var doneIndex = 0
    /// Packets that the caller holds.
    var heldCount = 0
    let segments: SegmentList
    var segmentStart = 0
    var storedCount = 0
    let netHeaderByteCount: Int
    let offloads: TxOffloads
    let counters: TxCounterBlock
    let call: NotificationSender

    /// Checks what holds after each burst, in debug builds.
    @inline(__always)
    func checkInvariants() {
        #if DEBUG
        ring.checkInvariants()
        assert(takenIndex - doneIndex <= chainMask + 1, "each chain that is out has a place")
        assert(heldCount >= 0 && heldCount <= takenIndex - doneIndex)
        assert(storedCount >= 0 && storedCount <= segments.capacity)
        #endif
    }
}

/// A burst's way through a transmit queue, specialised for the ring.
enum TxBurst<Ring: TxRing> {
    typealias State = TxQueueState<Ring>

    /// Most places in segment storage that one packet takes: its further segments, and as many
    /// pieces as its net header can be spread over.
    static var room: Int { TxQueue.maximumSegments &+ NetHeaderLayout.hashReportByteCount }

    /// Takes up to `count` packets. Chains dropped before the first packet that is out go back at
    /// once: nobody will complete them.
    @inline(__always)
    static func dequeue(
        _ packets: UnsafeMutablePointer<TxPacket>, _ count: Int,
        _ state: UnsafeMutablePointer<State>
    ) -> DequeueResult {
        if state.pointee.ring.fault != .none { return DequeueResult(count: 0, events: []) }
        let done = pop(packets, count, state)
        state.pointee.checkInvariants()
        let first = state.pointee.doneIndex
        let isDropped =
            first != state.pointee.takenIndex
            && state.pointee.chains[first & state.pointee.chainMask].isDropped
        return DequeueResult(count: done, events: isDropped ? complete(0, state) : [])
    }

    /// - Returns: how many were handed out.
    @inline(__always)
    private static func pop(
        _ packets: UnsafeMutablePointer<TxPacket>, _ count: Int,
        _ state: UnsafeMutablePointer<State>
    ) -> Int {
        var done = 0
        var bytes = 0
        state.pointee.ring.begin(count)
        while done < count {
            let before = done
            popRun(packets, count: count, done: &done, bytes: &bytes, state, PlainPackets.self)
            if done < count {
                popRun(
                    packets, count: count, done: &done, bytes: &bytes, state, OffloadPackets.self)
            }
            // A run also ends where the ring does.
            if done > before { continue }
            let length = popOne(packets + done, state)
            if length < 0 { break }
            done &+= length > 0 ? 1 : 0
            bytes &+= length
        }
        record(done, bytes, state)
        return done
    }

    /// A function of its own, so that its loop has the registers.
    @inline(never)
    private static func popRun<Kind: TxRunKind>(
        _ packets: UnsafeMutablePointer<TxPacket>, count: Int, done: inout Int,
        bytes: inout Int, _ state: UnsafeMutablePointer<State>, _ kind: Kind.Type
    ) {
        var run = TxRun(
            packets + done, state.pointee.chains, mask: state.pointee.chainMask,
            firstChain: state.pointee.takenIndex,
            netHeaderByteCount: state.pointee.netHeaderByteCount, offloads: state.pointee.offloads)
        state.pointee.ring.popRun(count &- done, &run, kind)
        state.pointee.takenIndex &+= run.count
        done &+= run.count
        bytes &+= run.byteCount
    }

    @inline(__always)
    private static func record(
        _ done: Int, _ bytes: Int, _ state: UnsafeMutablePointer<State>
    ) {
        let fault = state.pointee.ring.fault
        let counters = state.pointee.counters
        state.pointee.heldCount &+= done
        counters.add(.packets, done)
        counters.add(.bytes, bytes)
        counters.add(done > 0 ? .bursts : .emptyPolls, 1)
        if fault != .none { counters.set(.fault, Int(fault.rawValue)) }
    }

    /// The next chain, whatever it is made of and whatever is wrong with it.
    /// - Returns: bytes of the packet; 0 if it was dropped; -1 if there is none.
    @inline(never)
    private static func popOne(
        _ packet: UnsafeMutablePointer<TxPacket>, _ state: UnsafeMutablePointer<State>
    ) -> Int {
        guard let start = reserve(state) else { return -1 }
        let limit = TxPacket.maximumByteCount &+ NetHeaderLayout.hashReportByteCount &+ 1
        var list = SegmentList(base: state.pointee.segments.base + start, capacity: room)
        var fetch = state.pointee.ring.pop(limit, &list)
        if fetch.isFull {
            // Popped only to find its end. If full again, this burst has walked enough.
            list.count = 0
            fetch = state.pointee.ring.pop(0, &list)
            if !fetch.isBuffer { return -1 }
            return drop(.tooManySegments, state.pointee.ring.taken, state)
        }
        if !fetch.isBuffer { return -1 }
        return admit(
            state.pointee.ring.taken, list, byteCount: fetch.byteCount,
            skipped: skipped(start, state), to: packet, state)
    }

    /// Judges a packet, and hands it out or drops it.
    /// - Parameter skipped: places of segment storage left free before the list.
    /// - Returns: its bytes; 0 if it was dropped.
    private static func admit(
        _ chain: TxChain, _ list: SegmentList, byteCount: Int, skipped: Int,
        to packet: UnsafeMutablePointer<TxPacket>, _ state: UnsafeMutablePointer<State>
    ) -> Int {
        let length = byteCount &- state.pointee.netHeaderByteCount
        if length < 14 { return drop(.runt, chain, state) }
        if length > TxPacket.maximumByteCount { return drop(.tooLong, chain, state) }
        let (header, first) = stripHeader(list, state.pointee.netHeaderByteCount)
        let moreCount = list.count &- first &- 1
        if moreCount >= TxQueue.maximumSegments { return drop(.tooManySegments, chain, state) }
        guard let request = state.pointee.offloads.check(header, packetByteCount: length) else {
            return drop(.badOffload, chain, state)
        }
        var result = TxPacket(list.base[first], offload: request)
        var stored = 0
        if moreCount > 0 {
            result.moreCount = UInt16(truncatingIfNeeded: moreCount)
            result.more = UInt64(UInt(bitPattern: list.base + first + 1))
            stored = skipped &+ list.count
            let end = list.base + list.count - state.pointee.segments.base
            state.pointee.segmentStart = end
            state.pointee.storedCount &+= stored
        }
        packet.initialize(to: result)
        put(chain.storing(stored), state)
        return length
    }

    /// Reads the net header byte by byte, spread over pieces as it may be, and takes it off.
    /// - Returns: the header, and the number of the first piece with bytes of the packet.
    private static func stripHeader(
        _ list: SegmentList, _ netHeaderByteCount: Int
    ) -> (NetHeader, first: Int) {
        var copy: (UInt64, UInt64, UInt64) = (0, 0, 0)
        var index = 0
        let header = withUnsafeMutableBytes(of: &copy) { bytes in
            for offset in 0..<netHeaderByteCount {
                while list.base[index].byteCount == 0 { index &+= 1 }
                bytes[offset] = list.base[index].pointer.load(as: UInt8.self)
                list.base[index].pointer += 1
                list.base[index].byteCount &-= 1
            }
            while list.base[index].byteCount == 0 { index &+= 1 }
            // SAFETY: 24 bytes of storage have an address.
            return NetHeader(
                load: bytes.baseAddress.unsafelyUnwrapped, byteCount: netHeaderByteCount)
        }
        return (header, index)
    }

    @inline(never)
    private static func drop(
        _ reason: TxDropReason, _ chain: TxChain, _ state: UnsafeMutablePointer<State>
    ) -> Int {
        state.pointee.counters.addDrop(Int(reason.rawValue))
        put(chain.dropped, state)
        return 0
    }

    private static func put(_ chain: TxChain, _ state: UnsafeMutablePointer<State>) {
        state.pointee.chains[state.pointee.takenIndex & state.pointee.chainMask] = chain
        state.pointee.takenIndex &+= 1
    }

    // MARK: Segment storage

    /// Where `room` contiguous places are free, or nil until packets are completed.
    private static func reserve(_ state: UnsafeMutablePointer<State>) -> Int? {
        if state.pointee.storedCount == 0 { state.pointee.segmentStart = 0 }
        let capacity = state.pointee.segments.capacity
        let start = state.pointee.segmentStart
        let free = capacity &- state.pointee.storedCount
        if capacity &- start >= room { return free >= room ? start : nil }
        return free &- (capacity &- start) >= room ? 0 : nil
    }

    /// Places skipped at the end of storage by continuing at its start.
    private static func skipped(_ start: Int, _ state: UnsafeMutablePointer<State>) -> Int {
        let end = state.pointee.segmentStart
        return start == end ? 0 : state.pointee.segments.capacity &- end
    }

    // MARK: Completing

    /// Gives the first `count` packets that are out back to the driver, and dropped ones between
    /// and after them. The caller has checked `count`.
    /// - Returns: what the owner has to know of calling the driver.
    @inline(__always)
    static func complete(_ count: Int, _ state: UnsafeMutablePointer<State>) -> QueueEvents {
        var ring = state.pointee.ring
        let chains = state.pointee.chains
        let mask = state.pointee.chainMask
        let end = state.pointee.takenIndex
        var index = state.pointee.doneIndex
        var left = count
        var stored = 0
        while index != end {
            let plain = ring.addUsedRun(chains, mask: mask, first: index, left)
            index &+= plain
            left &-= plain
            if index == end { break }
            let chain = chains[index & mask]
            if !chain.isDropped {
                if left == 0 { break }
                left &-= 1
                stored &+= chain.storedCount
            }
            ring.addUsed(chain)
            index &+= 1
        }
        ring.publish()
        state.pointee.ring = ring
        state.pointee.doneIndex = index
        state.pointee.heldCount &-= count
        state.pointee.storedCount &-= stored
        state.pointee.checkInvariants()
        return ring.wantsCall() ? call(state) : []
    }

    /// Calls the driver, which asked for it.
    private static func call(_ state: UnsafeMutablePointer<State>) -> QueueEvents {
        state.pointee.counters.add(.calls, 1)
        if state.pointee.call.isNone { return .call }
        if state.pointee.call.send() { return [] }
        state.pointee.counters.add(.lostCalls, 1)
        return .callLost
    }
}
