// Guest memory that a hostile guest writes at will. Access is byte by byte and translated here, by
// code that shares nothing with the device's.

import CleaveHost
import CleaveVirtioNet
import Glibc

/// Plain memory of one or several guest regions, each between two bands of canary bytes in host
/// memory: regions that are adjacent for the guest never are in this process.
///
/// Not synchronised: threads that write at the same time use the atomic words of `CleaveRings`.
public final class EvilGuest: @unchecked Sendable {
    // SAFETY: constants; the bytes they point to are a guest's, which anybody may write.

    public struct Region: Sendable {
        public let base: UInt64
        public let byteCount: Int
        let offset: Int
    }

    /// Canary bytes before, between and after the regions.
    public static let bandByteCount = 4096
    private static let band: UInt8 = 0xC7

    public let regions: [Region]
    /// The table that a device translates with.
    public let memory: GuestMemory
    private let block: UnsafeMutableRawPointer
    private let blockByteCount: Int

    /// - Parameters:
    ///   - layout: first guest address and bytes of each region; what lies between is a hole.
    ///   - fill: the initial byte of the regions.
    public init(
        _ layout: [(base: UInt64, byteCount: Int)] = [(0x1_0000, 1 << 18)], fill: UInt8 = 0
    ) throws(SetupError) {
        var offset = Self.bandByteCount
        var regions: [Region] = []
        for part in layout {
            regions.append(Region(base: part.base, byteCount: part.byteCount, offset: offset))
            offset += (part.byteCount + 4095) / 4096 * 4096 + Self.bandByteCount
        }
        let block = UnsafeMutableRawPointer.allocate(byteCount: offset, alignment: 4096)
        memset(block, Int32(Self.band), offset)
        for region in regions { memset(block + region.offset, Int32(fill), region.byteCount) }
        self.block = block
        self.regions = regions
        blockByteCount = offset
        do {
            memory = try GuestMemory(
                regions: regions.map {
                    MemoryRegion(
                        guestBase: GuestAddress($0.base), host: block + $0.offset,
                        byteCount: $0.byteCount)
                })
        } catch {
            block.deallocate()
            throw error
        }
    }

    deinit { block.deallocate() }

    /// The host address of a guest address that is in a region.
    public func pointer(_ address: UInt64) -> UnsafeMutableRawPointer { piece(address).pointer }

    /// The same, and how many bytes the region still has from there.
    private func piece(_ address: UInt64) -> (pointer: UnsafeMutableRawPointer, left: Int) {
        for region in regions
        where address >= region.base && address - region.base < UInt64(region.byteCount) {
            let offset = Int(address - region.base)
            return (block + region.offset + offset, region.byteCount - offset)
        }
        preconditionFailure("guest address 0x\(String(address, radix: 16)) is in no region")
    }

    /// Whether nothing outside the regions was written.
    public var bandsAreIntact: Bool {
        var start = 0
        for region in regions {
            if !isBand(start..<region.offset) { return false }
            start = region.offset + region.byteCount
        }
        return isBand(start..<blockByteCount)
    }

    private func isBand(_ range: Range<Int>) -> Bool {
        guard !range.isEmpty else { return true }
        let start = block + range.lowerBound
        // Every byte equals its neighbour, and the first is right.
        return start.load(as: UInt8.self) == Self.band
            && memcmp(start, start + 1, range.count - 1) == 0
    }

    // MARK: Bytes

    /// Reads bytes, over borders between regions too.
    public func read(_ address: UInt64, _ count: Int) -> [UInt8] {
        var bytes: [UInt8] = []
        while bytes.count < count {
            let (start, left) = piece(address + UInt64(bytes.count))
            bytes += UnsafeRawBufferPointer(
                start: start, count: min(left, count - bytes.count))
        }
        return bytes
    }

    /// Writes bytes, over borders between regions too.
    public func write(_ bytes: some Sequence<UInt8>, at address: UInt64) {
        for (offset, byte) in bytes.enumerated() {
            pointer(address + UInt64(offset)).storeBytes(of: byte, as: UInt8.self)
        }
    }

    /// Reads a little-endian number of any alignment.
    public func number<Value: FixedWidthInteger>(_ address: UInt64, as: Value.Type) -> Value {
        read(address, MemoryLayout<Value>.size).reversed().reduce(0) { $0 << 8 | Value($1) }
    }

    /// Writes a little-endian number at any alignment.
    public func put<Value: FixedWidthInteger>(_ value: Value, at address: UInt64) {
        write(
            (0..<MemoryLayout<Value>.size).map { UInt8(truncatingIfNeeded: value >> ($0 * 8)) },
            at: address)
    }

    /// Sets `count` bytes of one region.
    public func fill(_ address: UInt64, _ count: Int, with byte: UInt8) {
        memset(pointer(address), Int32(byte), count)
    }

    // MARK: What changed

    /// A copy of all regions, to find later what changed since.
    public final class Image {
        private let guest: EvilGuest
        private let copy: UnsafeMutableRawPointer
        /// Numbers of the guest's pages with bytes that were accepted since the last capture.
        public private(set) var acceptedPages: Set<UInt64> = []

        init(_ guest: EvilGuest) {
            self.guest = guest
            copy = .allocate(byteCount: guest.blockByteCount, alignment: 16)
            capture()
        }

        deinit { copy.deallocate() }

        /// Takes everything as it is now.
        public func capture() {
            memcpy(copy, guest.block, guest.blockByteCount)
            acceptedPages = []
        }

        /// Takes `count` bytes at `address` as they are now: they were allowed to change.
        public func accept(_ address: UInt64, _ count: Int) {
            if count > 0 {
                acceptedPages.formUnion(address / 4096...(address + UInt64(count) - 1) / 4096)
            }
            var done = 0
            while done < count {
                let (pointer, left) = guest.piece(address + UInt64(done))
                let part = min(left, count - done)
                memcpy(copy + guest.block.distance(to: pointer), pointer, part)
                done += part
            }
        }

        /// Numbers of the guest's pages that are not as they were taken.
        public var changedPages: Set<UInt64> {
            var found: Set<UInt64> = []
            for region in guest.regions {
                var address = region.base
                let end = region.base + UInt64(region.byteCount)
                while address < end {
                    let next = min(address / 4096 * 4096 + 4096, end)
                    let pointer = guest.pointer(address)
                    let before = copy + guest.block.distance(to: pointer)
                    if memcmp(pointer, before, Int(next - address)) != 0 {
                        found.insert(address / 4096)
                    }
                    address = next
                }
            }
            return found
        }

        /// Whether nothing else changed, canary bands included.
        public var isUnchanged: Bool { memcmp(copy, guest.block, guest.blockByteCount) == 0 }
    }

    public func image() -> Image { Image(self) }
}
