// Which port an Ethernet address was seen at last.
//
// Fixed memory: buckets of four entries, one cache line each. An address lives in the bucket that
// its hash names; a full bucket gives up the entry that was seen longest ago. A port holds a
// bounded number of entries, so that one guest cannot push the others' addresses out.
//
//   bucket, 64 bytes:
//   4 x key (address 48 bits | port + 1 16 bits)   4 x tick seen (le32)   lock (8 bytes)   unused
//
// All threads of the switch share it: what one has learned the others know. They read entries as
// single words without ordering: whatever mix of old and new a reader meets, the worst is a packet
// that floods once or goes where the address was a moment ago. An entry is replaced by one thread
// at a time; another one that would replace an entry of the same bucket leaves it to its next
// packet, so nobody waits, and an address is in the table once.

import CleaveRings

/// The addresses that a switch has learned.
struct MACTable: Sendable {
    // SAFETY: shared words over memory that `init` allocates and `free` gives back.
    private nonisolated(unsafe) let buckets: UnsafeMutableRawPointer
    private nonisolated(unsafe) let counts: UnsafeMutableRawPointer
    private let bucketMask: UInt64
    /// Most ports.
    let portLimit: Int
    /// Most addresses that one port may hold.
    let addressLimit: Int

    private static let wayCount = 4
    private static let lockOffset = 48
    private static let bucketByteCount = CacheLine.byteCount / 2

    /// - Parameters:
    ///   - bucketCount: a power of two; four times as many addresses fit.
    ///   - portLimit: most ports, below 65535.
    init(bucketCount: Int = 4096, portLimit: Int, addressLimit: Int = 1024) {
        assert(bucketCount & (bucketCount - 1) == 0 && portLimit < 0xffff)
        let byteCount = bucketCount * Self.bucketByteCount
        buckets = .allocate(byteCount: byteCount, alignment: CacheLine.byteCount)
        buckets.initializeMemory(as: UInt8.self, repeating: 0, count: byteCount)
        counts = .allocate(byteCount: portLimit * 8, alignment: 8)
        counts.initializeMemory(as: UInt8.self, repeating: 0, count: portLimit * 8)
        bucketMask = UInt64(bucketCount - 1)
        self.portLimit = portLimit
        self.addressLimit = addressLimit
    }

    func free() {
        buckets.deallocate()
        counts.deallocate()
    }

    @inline(__always)
    private func bucket(_ address: UInt64) -> UnsafeMutableRawPointer {
        // Multiplicative: vendors number their cards upwards, so the low bytes alone would do, but
        // a guest chooses its addresses as it likes.
        let hash = (address &* 0x9e37_79b9_7f4a_7c15) &>> 40
        return buckets + Int(truncatingIfNeeded: hash & bucketMask) &* Self.bucketByteCount
    }

    @inline(__always)
    private func key(_ bucket: UnsafeMutableRawPointer, _ way: Int) -> SharedWord64 {
        SharedWord64(bucket + way &* 8)
    }
    @inline(__always)
    private func tick(_ bucket: UnsafeMutableRawPointer, _ way: Int) -> SharedWord32 {
        SharedWord32(bucket + 32 + way &* 4)
    }
    private func count(_ port: Int) -> SharedWord64 { SharedWord64(counts + port * 8) }

    /// The port of an address (48 bits, first byte lowest), or -1.
    @inline(__always)
    func port(of address: UInt64) -> Int {
        let bucket = bucket(address)
        for way in 0..<Self.wayCount {
            let key = key(bucket, way).load()
            if key & EthernetAddress.mask == address && key != 0 {
                return Int(truncatingIfNeeded: key &>> 48) &- 1
            }
        }
        return -1
    }

    /// Notes that `address` was seen at `port`, unless another thread is inserting into the same
    /// bucket.
    /// - Returns: false if the port holds too many addresses.
    @inline(__always)
    func learn(_ address: UInt64, at port: Int, tick now: UInt32) -> Bool {
        let bucket = bucket(address)
        let entry = address | UInt64(truncatingIfNeeded: port &+ 1) &<< 48
        for way in 0..<Self.wayCount where key(bucket, way).load() == entry {
            let seen = tick(bucket, way)
            // A store only once a tick: the line stays shared among threads.
            if seen.load() != now { seen.store(now) }
            return true
        }
        return insert(entry, in: bucket, port, now)
    }

    @inline(never)
    private func insert(
        _ entry: UInt64, in bucket: UnsafeMutableRawPointer, _ port: Int, _ now: UInt32
    ) -> Bool {
        let lock = SharedWord64(bucket + Self.lockOffset)
        // [S1 both ways: the entries are as the last insertion left them]
        if lock.fetchOr(1) != 0 { return true }
        // [S1 release -> the next insertion]
        defer { lock.storeRelease(0) }
        var victim = 0
        for way in 0..<Self.wayCount {
            let present = key(bucket, way).load()
            if present == entry { return true }
            if present & EthernetAddress.mask == entry & EthernetAddress.mask && present != 0 {
                // It moved here from another port.
                if !reserve(port) { return false }
                replace(bucket, way, by: entry, now)
                return true
            }
            if present == 0 {
                victim = way
            } else if key(bucket, victim).load() != 0,
                Int32(bitPattern: tick(bucket, way).load() &- tick(bucket, victim).load()) < 0
            {
                victim = way
            }
        }
        if !reserve(port) { return false }
        replace(bucket, victim, by: entry, now)
        return true
    }

    /// Buckets share the count: it is taken first, and given back if it was too many.
    private func reserve(_ port: Int) -> Bool {
        let limit = UInt64(truncatingIfNeeded: addressLimit)
        // Far above the limit the count does not rise by threads that only ask.
        if count(port).load() >= limit { return false }
        // [S2 both ways: no two threads get the last place]
        if count(port).fetchAddOrdered(1) < limit { return true }
        count(port).fetchAdd(UInt64.max)
        return false
    }

    private func replace(
        _ bucket: UnsafeMutableRawPointer, _ way: Int, by entry: UInt64, _ now: UInt32
    ) {
        let old = key(bucket, way).load()
        tick(bucket, way).store(now)
        key(bucket, way).store(entry)
        if old != 0 { count(Int(old >> 48) - 1).fetchAdd(UInt64.max) }
    }

    /// Forgets addresses that were not seen for more than `age` ticks before `now`, and all of
    /// `port` if one is named. For the control thread, while no other uses the table.
    func sweep(now: UInt32, age: UInt32, port: Int? = nil) {
        for index in 0...Int(bucketMask) {
            let bucket = buckets + index * Self.bucketByteCount
            for way in 0..<Self.wayCount {
                let present = key(bucket, way).load()
                if present == 0 { continue }
                let isOld = now &- tick(bucket, way).load() > age
                if isOld || port == Int(present >> 48) - 1 {
                    count(Int(present >> 48) - 1).fetchAdd(UInt64.max)
                    key(bucket, way).store(0)
                }
            }
        }
    }

    /// Addresses learned at `port`.
    func addressCount(at port: Int) -> Int { Int(count(port).load()) }

    /// A snapshot: address and port, in no order.
    var entries: [(address: UInt64, port: Int)] {
        (0...Int(bucketMask)).flatMap { index in
            (0..<Self.wayCount).compactMap { way in
                let present = key(buckets + index * Self.bucketByteCount, way).load()
                return present == 0
                    ? nil : (present & EthernetAddress.mask, Int(present >> 48) - 1)
            }
        }
    }
}

/// Ethernet addresses as numbers of 48 bits: the first byte is the lowest, as a little-endian load
/// gives it.
enum EthernetAddress {
    @inline(__always) static var mask: UInt64 { 0xffff_ffff_ffff }

    /// A group address, broadcast among them.
    @inline(__always)
    static func isGroup(_ address: UInt64) -> Bool { address & 1 != 0 }

    /// 01:80:c2:00:00:00 to 0f, which no bridge forwards (IEEE 802.1Q, table 8-1).
    @inline(__always)
    static func isReserved(_ address: UInt64) -> Bool {
        address & 0xf0ff_ffff_ffff == 0x00_00_00c2_8001
    }

    /// `52:54:00:12:34:56`.
    static func text(_ address: UInt64) -> String {
        (0..<6).map { index in
            let byte = String(address >> (8 * UInt64(index)) & 0xff, radix: 16)
            return byte.count == 1 ? "0" + byte : byte
        }.joined(separator: ":")
    }
}
