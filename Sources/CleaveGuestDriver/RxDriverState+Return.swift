// Giving back: slots to the device's header queue, chains and buffers to the next refill.

/// Header slots that lie one after the other (modulo slotCount).
struct SlotRange: BitwiseCopyable {
    var first: UInt32
    var count: UInt32
}

/// One buffer: where it begins, in units of 64 bytes from the driver's first, and its bytes.
struct DriverBuffer: BitwiseCopyable {
    var unit: UInt32
    var byteCount: UInt32

    /// No buffer: the application has it.
    static var none: DriverBuffer { DriverBuffer(unit: .max, byteCount: 0) }
    @inline(__always) var isNone: Bool { byteCount == 0 }
    @inline(__always) var offset: Int { Int(unit) &* 64 }
}

/// Data buffers, oldest first, in fixed memory.
struct BufferFIFO: BitwiseCopyable {
    private let storage: UnsafeMutablePointer<DriverBuffer>
    let capacity: Int
    private var head = 0
    private(set) var count = 0

    /// - Parameter capacity: as many as there are buffers, so that `push` always has room.
    init(capacity: Int) {
        storage = .allocate(capacity: max(1, capacity))
        self.capacity = max(1, capacity)
    }

    func free() { storage.deallocate() }

    @inline(__always)
    mutating func push(_ buffer: DriverBuffer) {
        var index = head &+ count
        if index >= capacity { index &-= capacity }
        storage[index] = buffer
        count &+= 1
    }

    @inline(__always)
    mutating func pop() -> DriverBuffer? {
        if count == 0 { return nil }
        let buffer = storage[head]
        head = head &+ 1 == capacity ? 0 : head &+ 1
        count &-= 1
        return buffer
    }
}

extension RxDriverState {
    /// Remembers a slot of the burst being harvested.
    @inline(__always)
    mutating func noteSlot(_ slot: Int) {
        if slotRangeCount > 0 {
            let last = slotRanges + (slotRangeCount &- 1)
            let expected = Int(last.pointee.first &+ last.pointee.count) & (slotCount &- 1)
            if expected == slot {
                last.pointee.count &+= 1
                return
            }
        }
        (slotRanges + slotRangeCount).initialize(
            to: SlotRange(first: UInt32(truncatingIfNeeded: slot), count: 1))
        slotRangeCount &+= 1
    }

    mutating func retire() {
        if slotRangeCount == 0 { return }
        // SAFETY: there are ranges only with a header queue, retained until `free`.
        headerQueue.unsafelyUnwrapped._withUnsafeGuaranteedRef {
            $0.retire(slotRanges, count: slotRangeCount, ring: returnRing)
        }
        for index in 0..<slotRangeCount {
            retiredSlotCount &+= UInt64(slotRanges[index].count)
        }
        slotRangeCount = 0
    }

    mutating func finish(taking: Bool) {
        retire()
        var index = 0
        while index < burstChainCount {
            let chain = burstChains[index]
            freeChains[freeChainCount] = chain
            freeChainCount &+= 1
            if taking { take(Int(chain)) }
            index &+= 1
        }
        burstChainCount = 0
    }

    /// The application keeps the data buffers of a chain; header buffers stay.
    @inline(__always)
    private mutating func take(_ chain: Int) {
        var position = 0
        while position < chainLength {
            let index = chain &* chainLength &+ position
            if bufferAt[index].unit < firstHeaderUnit {
                taken.push(bufferAt[index])
                bufferAt[index] = .none
            }
            position &+= 1
        }
    }

    var takenCount: Int { taken.count }

    mutating func giveBack(_ count: Int) {
        var left = count
        while left > 0, let buffer = taken.pop() {
            spares.push(buffer)
            left &-= 1
        }
    }

    func copyOut(to target: UnsafeMutableRawPointer, byteCount: Int) {
        var offset = 0
        var index = 0
        while index < pieceCount {
            let length = Int(pieces[index].byteCount)
            if offset &+ length > byteCount { offset = 0 }
            if length <= byteCount {
                (target + offset).copyMemory(from: pieces[index].pointer, byteCount: length)
                offset &+= length
            }
            index &+= 1
        }
    }
}
