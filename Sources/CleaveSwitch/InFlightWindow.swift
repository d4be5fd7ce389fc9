// The packets of one queue that are out while several threads finish them in any order.
//
//        first                      next
//          v                          v
//   ...  | 0 | 2 | 1 | 0 | 0 | 1 | 1 |  ...      holders of each packet
//
// A packet is held by the burst that it came in with until that has done with it, and once for each
// copy that another thread makes of it: a flood is several. A queue takes packets back in the order
// in which it gave them (`PortQueue.complete`), so one that nobody holds waits for those before it.
//
// It is in the switch and not in the ports: whatever a port is, the order is lost here.

/// Restores the order in which packets came in. One thread at a time.
struct InFlightWindow {
    // SAFETY: memory that `init` allocates and `free` gives back; every index is masked.
    private let holders: UnsafeMutablePointer<UInt16>
    private let mask: UInt32
    /// Positions run freely, modulo 2^32.
    private(set) var first: UInt32
    private(set) var next: UInt32
    /// Of the burst that came in last.
    private(set) var burst: UInt32

    /// - Parameters:
    ///   - capacity: packets that may be out, a power of two.
    ///   - start: the first position.
    init(capacity: Int, start: UInt32 = 0) {
        assert(capacity > 0 && capacity & (capacity - 1) == 0)
        holders = .allocate(capacity: capacity)
        holders.initialize(repeating: 0, count: capacity)
        mask = UInt32(capacity - 1)
        (first, next, burst) = (start, start, start)
    }

    func free() { holders.deallocate() }

    private func holder(_ position: UInt32) -> UnsafeMutablePointer<UInt16> {
        holders + Int(position & mask)
    }

    /// Packets that are out.
    var count: Int { Int(next &- first) }
    /// Packets that may come in.
    var room: Int { Int(mask) &+ 1 &- count }

    /// Begins a burst of `count` packets, at most `room`, each held once.
    mutating func begin(_ count: Int) {
        assert(count <= room)
        burst = next
        for offset in 0..<UInt32(truncatingIfNeeded: count) {
            holder(burst &+ offset).pointee = 1
        }
        next = next &+ UInt32(truncatingIfNeeded: count)
    }

    /// Packet `index` of the burst is held once more.
    /// - Returns: its position, for `finish(position:)`.
    func hold(_ index: Int) -> UInt32 {
        let position = burst &+ UInt32(truncatingIfNeeded: index)
        assert(position &- first < next &- first && holder(position).pointee < .max)
        holder(position).pointee &+= 1
        return position
    }

    /// A holder has done with the packet at `position`.
    func finish(position: UInt32) {
        assert(position &- first < next &- first && holder(position).pointee > 0)
        holder(position).pointee &-= 1
    }

    /// The burst has done with the packets in `mask`.
    func finish(ofBurst mask: UInt32) {
        var rest = mask
        while rest != 0 {
            finish(position: burst &+ UInt32(truncatingIfNeeded: rest.trailingZeroBitCount))
            rest &= rest &- 1
        }
    }

    /// Takes out the oldest packets that nobody holds.
    /// - Returns: how many.
    mutating func take() -> Int {
        var end = first
        while end != next && holder(end).pointee == 0 { end = end &+ 1 }
        let taken = Int(end &- first)
        first = end
        return taken
    }
}
