// The in-flight region of a packed ring as another device reads it, written from vhost-user's text
// ("Inflight I/O tracking", "When reconnecting") and from nothing else.
import CleaveTestSupport
import CleaveVirtioNet

struct NaiveInFlight {
    /// Where the ring is used up to.
    let used: Int
    let wrap: Bool
    /// Addresses of the descriptors of each list in flight, in order.
    let lists: [[UInt64]]

    /// - Returns: nil if the region is uninitialised.
    init?(_ region: UnsafeMutableRawBufferPointer, _ guest: EvilGuest, ring: UInt64) {
        func number<Value: FixedWidthInteger>(_ offset: Int, _ type: Value.Type) -> Int {
            Int(truncatingIfNeeded: region.load(fromByteOffset: offset, as: Value.self))
        }
        if number(8, UInt16.self) == 0 { return nil }
        let count = number(10, UInt16.self)
        var (used, old) = (number(16, UInt16.self), number(18, UInt16.self))
        var (wrap, oldWrap) = (number(20, UInt8.self), number(21, UInt8.self))
        var (free, oldFree) = (number(12, UInt16.self), number(14, UInt16.self))
        // The text compares the indices alone, which are the same when a whole ring was used at
        // once.
        if used != old || wrap != oldWrap {
            let flags = guest.number(ring + UInt64(16 * old + 14), as: UInt16.self)
            let available: UInt16 = oldWrap == 1 ? 0x80 : 0x8000
            if flags & 0x8080 != available { (old, oldWrap, oldFree) = (used, wrap, free) }
        }
        (used, wrap, free) = (old, oldWrap, oldFree)
        self.used = used
        self.wrap = wrap == 1
        func entry(_ index: Int) -> Int { 32 + 32 * index }
        var isHeld = (0..<count).map { number(entry($0), UInt8.self) == 1 }
        var next = free
        for _ in 0..<count where next < count {
            isHeld[next] = false
            next = number(entry(next) + 2, UInt16.self)
        }
        let heads = (0..<count).filter { isHeld[$0] }
            .sorted { number(entry($0) + 8, UInt64.self) < number(entry($1) + 8, UInt64.self) }
        lists = heads.map { head in
            var (addresses, index): ([UInt64], Int) = ([], head)
            for _ in 0..<number(entry(head) + 6, UInt16.self) {
                addresses.append(
                    region.load(fromByteOffset: entry(index) + 24, as: UInt64.self))
                if addresses.count == number(entry(head) + 6, UInt16.self) {
                    precondition(index == number(entry(head) + 4, UInt16.self), "last")
                }
                index = number(entry(index) + 2, UInt16.self)
            }
            return addresses
        }
    }
}

extension RecoveryRig {
    // MARK: Regions that a test writes

    /// A packed region without lists.
    func writeRegion(header: [UInt16], used: Int, wrap: Bool) {
        region.initializeMemory(as: UInt8.self, repeating: 0)
        for (index, value) in header.enumerated() {
            region.storeBytes(of: value, toByteOffset: 8 + 2 * index, as: UInt16.self)
        }
        for offset in [16, 18] {
            region.storeBytes(of: UInt16(used), toByteOffset: offset, as: UInt16.self)
        }
        for offset in [20, 21] {
            region.storeBytes(of: wrap ? 1 : 0, toByteOffset: offset, as: UInt8.self)
        }
    }

    func writeLink(_ entry: Int, _ next: Int) {
        guard entry < Self.size else { return }
        region.storeBytes(of: UInt16(next), toByteOffset: 34 + 32 * entry, as: UInt16.self)
    }

    /// A list of chain `number` that is in flight.
    /// - Parameter count: what its head says.
    func writeList(_ entries: [Int], counter: UInt64, number: Int, count: Int? = nil) {
        for (index, entry) in entries.enumerated() where entry < Self.size {
            if index + 1 < entries.count { writeLink(entry, entries[index + 1]) }
            let isLast = index + 1 == entries.count
            let place = 32 + 32 * entry
            region.storeBytes(of: UInt16(number), toByteOffset: place + 16, as: UInt16.self)
            region.storeBytes(
                of: isLast ? 0 : DescriptorFlags.next, toByteOffset: place + 18, as: UInt16.self)
            region.storeBytes(
                of: UInt32(Self.pieceByteCount), toByteOffset: place + 20, as: UInt32.self)
            region.storeBytes(
                of: Self.data(number, piece: index), toByteOffset: place + 24, as: UInt64.self)
        }
        let head = 32 + 32 * entries[0]
        region.storeBytes(of: 1, toByteOffset: head, as: UInt8.self)
        region.storeBytes(
            of: UInt16(min(entries.last ?? 0, 7)), toByteOffset: head + 4, as: UInt16.self)
        region.storeBytes(
            of: UInt16(count ?? entries.count), toByteOffset: head + 6, as: UInt16.self)
        region.storeBytes(of: counter, toByteOffset: head + 8, as: UInt64.self)
    }

    /// An entry of a split region that is in flight.
    func writeSplit(_ entry: Int, counter: UInt64) {
        region.storeBytes(of: 1, toByteOffset: 16 + 16 * entry, as: UInt64.self)
        region.storeBytes(of: counter, toByteOffset: 24 + 16 * entry, as: UInt64.self)
    }

    /// Why no device can begin; nil if one can.
    func refusal() -> String? {
        do {
            _ = try record()
            return nil
        } catch { return "\(error)" }
    }
}
