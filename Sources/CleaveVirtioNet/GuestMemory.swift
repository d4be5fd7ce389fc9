// control path, but for `RegionCache`
//
// Guest memory as the device sees it: a small table of regions, each contiguous in guest
// addresses and in this process. Everything a guest names is translated through it.

import CleaveHost

/// An address in the guest's physical address space. It is not a pointer and cannot be used as one.
@frozen
public struct GuestAddress: BitwiseCopyable, Hashable, Sendable {
    public var rawValue: UInt64
    @inlinable public init(_ rawValue: UInt64) { self.rawValue = rawValue }

    /// The address `byteCount` bytes further on, modulo 2^64.
    @inlinable
    public func advanced(by byteCount: Int) -> GuestAddress {
        GuestAddress(rawValue &+ UInt64(truncatingIfNeeded: byteCount))
    }
}

/// One contiguous piece of guest memory mapped into this process.
@frozen
public struct MemoryRegion: BitwiseCopyable, Sendable {
    /// First guest address.
    public let guestBase: UInt64
    /// Bytes; never 0 in a validated table.
    public let byteCount: UInt64
    /// What to add (modulo 2^64) to a guest address to get a host address.
    public let hostDelta: UInt64

    public init(guestBase: GuestAddress, host: UnsafeMutableRawPointer, byteCount: Int) {
        self.guestBase = guestBase.rawValue
        self.byteCount = UInt64(byteCount)
        hostDelta = UInt64(UInt(bitPattern: host)) &- guestBase.rawValue
    }

    /// The host pointer of `address` if `byteCount` bytes from there lie inside this region.
    @inline(__always)
    func translate(_ address: UInt64, _ byteCount: UInt64) -> UnsafeMutableRawPointer? {
        let offset = address &- guestBase
        // Two compares at full width: no sum that could wrap.
        if offset >= self.byteCount || byteCount > self.byteCount &- offset { return nil }
        // SAFETY: inside a region that its owner mapped and keeps mapped for the device's life.
        return UnsafeMutableRawPointer(bitPattern: UInt(address &+ hostDelta))
    }
}

/// Which guest memory belongs to, apart from where it is mapped: a token, the same as long as it is
/// the same object. Tables come and go while a guest runs, as when memory is plugged in; queues
/// made over two tables of one guest may share a header queue.
public final class Guest: Sendable {
    public init() {}
}

/// The memory table of one device, checked once and then immutable.
///
/// Thread-safe: nothing changes after `init`. The mappings belong to the caller and must outlive
/// every queue that was made over this table.
public final class GuestMemory: Sendable {
    /// Most regions that a table may hold (vhost-user allows 8 in one message, more by slots).
    public static let maximumRegionCount = 64

    /// SAFETY: written in `init` only, freed in `deinit` only.
    nonisolated(unsafe) let regions: UnsafeMutablePointer<MemoryRegion>
    /// Regions in the table.
    public let regionCount: Int

    /// Whose memory it is.
    public let guest: Guest

    /// Checks and copies a table.
    /// - Parameters:
    ///   - table: its regions, in any order.
    ///   - guest: whose memory it is; by default that of a guest with no other table.
    /// - Throws: `SetupError` naming the region that is empty, wraps or overlaps another.
    public init(
        regions table: [MemoryRegion], guest: Guest = Guest()
    ) throws(SetupError) {
        if table.isEmpty || table.count > Self.maximumRegionCount {
            throw SetupError(
                "guest memory needs 1 to \(Self.maximumRegionCount) regions, got \(table.count)")
        }
        for (index, region) in table.enumerated() {
            let end = region.guestBase.addingReportingOverflow(region.byteCount)
            let hostStart = region.guestBase &+ region.hostDelta
            if region.byteCount == 0 || end.overflow
                || hostStart.addingReportingOverflow(region.byteCount).overflow || hostStart == 0
            {
                throw SetupError("memory region \(index) is empty, unmapped or wraps around")
            }
            for (other, earlier) in table[..<index].enumerated()
            where region.guestBase < earlier.guestBase + earlier.byteCount
                && earlier.guestBase < end.partialValue
            {
                throw SetupError("memory regions \(other) and \(index) overlap")
            }
        }
        self.guest = guest
        regionCount = table.count
        regions = .allocate(capacity: table.count)
        regions.initialize(from: table, count: table.count)
    }

    deinit { regions.deallocate() }

    /// The host pointer of `byteCount` bytes at `address`, if one region holds them all.
    public func translate(_ address: GuestAddress, byteCount: Int) -> UnsafeMutableRawPointer? {
        guard byteCount >= 0 else { return nil }
        for index in 0..<regionCount {
            let found = regions[index].translate(address.rawValue, UInt64(byteCount))
            if let found { return found }
        }
        return nil
    }

    var cache: RegionCache { RegionCache(self) }
}

/// Translation with the last region kept in registers, and the one before it at hand: a guest's
/// memory lies below and above a hole under 4 GiB, and packets go to both. Unowned: the worker
/// holds the `GuestMemory`.
struct RegionCache: BitwiseCopyable {
    /// For loops without a call in them; at their end `switchRegion` may let them go on.
    private(set) var last: MemoryRegion
    private var other: MemoryRegion
    private let regions: UnsafeMutablePointer<MemoryRegion>
    private let regionCount: Int

    init(_ memory: GuestMemory) {
        regions = memory.regions
        regionCount = memory.regionCount
        last = regions[0]
        other = regions[regionCount - 1]
    }

    /// The host pointer of `byteCount` bytes at `address`, or nil if no single region holds them.
    @inline(__always)
    mutating func translate(_ address: UInt64, _ byteCount: UInt32) -> UnsafeMutableRawPointer? {
        if let hit = last.translate(address, UInt64(byteCount)) { return hit }
        if switchRegion(to: address) { return last.translate(address, UInt64(byteCount)) }
        // By value: a mutating call would pin the whole queue to memory in the caller's loop.
        (last, other) = (region(of: address), last)
        return last.translate(address, UInt64(byteCount))
    }

    /// Makes the region before the last one the last, if it alone of the two holds `address`.
    @inline(__always)
    mutating func switchRegion(to address: UInt64) -> Bool {
        if other.translate(address, 1) == nil || last.translate(address, 1) != nil { return false }
        (last, other) = (other, last)
        return true
    }

    /// The region that holds `address`, or the last one again.
    @inline(never)
    private func region(of address: UInt64) -> MemoryRegion {
        for index in 0..<regionCount where regions[index].translate(address, 1) != nil {
            return regions[index]
        }
        return last
    }

    /// How many bytes from `address` on, at most `byteCount`, lie in one region, and where; a
    /// buffer may run from one region into an adjacent one, and is then taken piece by piece.
    @inline(never)
    func prefix(
        _ address: UInt64, _ byteCount: UInt32
    ) -> (pointer: UnsafeMutableRawPointer, byteCount: UInt32)? {
        for index in 0..<regionCount {
            let region = regions[index]
            guard let pointer = region.translate(address, 1) else { continue }
            let left = region.byteCount &- (address &- region.guestBase)
            let within = left < UInt64(byteCount) ? UInt32(truncatingIfNeeded: left) : byteCount
            return (pointer, within)
        }
        return nil
    }
}
