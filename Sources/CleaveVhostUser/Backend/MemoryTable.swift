// Guest memory as a front-end shares it: files with descriptors, mapped here, and the three kinds
// of addresses that name their bytes.

import CCleaveHost
import CleaveHost
import CleaveVirtioNet
import Glibc

/// The mapping of one region, unmapped when nobody uses it any more.
final class RegionMapping: @unchecked Sendable {
    // SAFETY: all is constant from the end of `init` to `deinit`; the bytes belong to whoever
    // uses the guest's memory.

    /// The region's first byte.
    let host: UnsafeMutableRawPointer
    private let base: UnsafeMutableRawPointer
    private let mappedByteCount: Int
    private var memoryGuard: MemoryGuard?
    /// The file. It stays open for a process that takes the session over, and maps it anew.
    let descriptor: ReceivedDescriptor
    /// Device and number of the file.
    private let file: (UInt64, UInt64)

    /// Maps `description` of the file behind `descriptor`, which the mapping keeps open.
    init(
        _ description: RegionDescription, of descriptor: ReceivedDescriptor
    ) throws(RequestError) {
        self.descriptor = descriptor
        var mapping = cleave_file_mapping()
        let result = cleave_file_map(
            descriptor.fileDescriptor, description.fileOffset, description.size, &mapping)
        switch result {
        case 0: break
        case -EPROTOTYPE, -EACCES, -EBADF: throw .refused(.fdType)
        case -ERANGE: throw .refused(.pastEOF)
        case -EINVAL: throw .refused(.align)
        default: throw .refused(.nomem)
        }
        guard let base = mapping.base else { throw .refused(.nomem) }
        self.base = base
        file = (mapping.file_device, mapping.file_number)
        host = base + mapping.skipped_byte_count
        mappedByteCount = mapping.mapped_byte_count
        do {
            memoryGuard = try MemoryGuard(
                base: base, byteCount: mappedByteCount, pageByteCount: mapping.page_byte_count)
        } catch {
            // `deinit` unmaps.
            throw .refused(.nomem)
        }
    }

    deinit {
        // The guard first: what is mapped there next is somebody else's.
        memoryGuard = nil
        munmap(base, mappedByteCount)
    }

    /// Whether it is a mapping of the file behind `fileDescriptor`.
    func isOfFile(_ fileDescriptor: Int32) -> Bool {
        var status = stat()
        return fstat(fileDescriptor, &status) == 0
            && (UInt64(status.st_dev), UInt64(status.st_ino)) == file
    }

    /// Whether the file was cut short and the loss was met.
    var isLost: Bool { memoryGuard?.wasHit ?? false }
}

/// Keeps the mappings of a guest's memory: whoever uses the memory holds it, and the last one to
/// let go of it unmaps.
public final class MappedMemory: Sendable {
    let mappings: [RegionMapping]

    init(_ mappings: [RegionMapping]) { self.mappings = mappings }

    /// Whether the front-end took memory away that was then touched: what is read there is zeros,
    /// and what is written reaches nobody. The device is of no use any more. From any thread.
    public var isLost: Bool { mappings.contains { $0.isLost } }
}

/// The memory of one device, replaced as a whole when it changes.
struct MemoryTable {
    /// Most regions, those that are added one by one included.
    static let slotCount = GuestMemory.maximumRegionCount
    /// Most regions of one message.
    static let messageRegionCount = 8

    let descriptions: [RegionDescription]
    /// How often each region was added and not removed: QEMU 7.2 adds a region once for each queue
    /// pair, over one connection.
    let holders: [Int]
    let mappings: MappedMemory
    let memory: GuestMemory

    /// As a device keeps it.
    var shared: SharedGuestMemory { SharedGuestMemory(memory: memory, mappings: mappings) }

    private init(
        _ descriptions: [RegionDescription], _ mappings: [RegionMapping], holders: [Int],
        of guest: Guest
    ) throws(RequestError) {
        self.descriptions = descriptions
        self.holders = holders
        self.mappings = MappedMemory(mappings)
        do {
            memory = try GuestMemory(
                regions: zip(descriptions, mappings).map { description, mapping in
                    MemoryRegion(
                        guestBase: GuestAddress(description.guestAddress), host: mapping.host,
                        byteCount: Int(description.size))
                }, guest: guest)
        } catch { throw .refused(.region) }
    }

    /// Maps a table.
    /// - Parameters:
    ///   - descriptors: one for each region, in order.
    ///   - holders: how often each was added, at least once; nil for once.
    ///   - guest: whose memory it is.
    static func map(
        _ descriptions: [RegionDescription], _ descriptors: [ReceivedDescriptor],
        holders: [Int]? = nil, of guest: Guest
    ) throws(RequestError) -> MemoryTable {
        for (index, description) in descriptions.enumerated() {
            try check(description, beside: descriptions[..<index])
        }
        var mappings: [RegionMapping] = []
        for (description, descriptor) in zip(descriptions, descriptors) {
            mappings.append(try RegionMapping(description, of: descriptor))
        }
        return try MemoryTable(
            descriptions, mappings, holders: holders ?? descriptions.map { _ in 1 }, of: guest)
    }

    /// A table with one more region than `table`, which may be none.
    static func adding(
        _ description: RegionDescription, _ descriptor: ReceivedDescriptor, to table: MemoryTable?,
        of guest: Guest
    ) throws(RequestError) -> MemoryTable {
        let before = table?.descriptions ?? []
        if let table, let index = before.firstIndex(of: description),
            table.mappings.mappings[index].isOfFile(descriptor.fileDescriptor)
        {
            return try table.holding(index, by: 1)
        }
        if before.count >= slotCount { throw .refused(.tooMany) }
        try check(description, beside: before[...])
        let mapping = try RegionMapping(description, of: descriptor)
        return try MemoryTable(
            before + [description], (table?.mappings.mappings ?? []) + [mapping],
            holders: (table?.holders ?? []) + [1], of: guest)
    }

    /// The same memory, with a region held once more or less.
    private func holding(_ index: Int, by change: Int) throws(RequestError) -> MemoryTable {
        var holders = holders
        holders[index] += change
        return try MemoryTable(
            descriptions, mappings.mappings, holders: holders, of: memory.guest)
    }

    /// Whether removing the region at `index` takes it away.
    func isLastHold(of index: Int) -> Bool { holders[index] == 1 }

    /// Where in the table a region is; the offset in its file does not matter.
    func index(of description: RegionDescription) -> Int? {
        descriptions.firstIndex {
            $0.guestAddress == description.guestAddress && $0.size == description.size
                && $0.userAddress == description.userAddress
        }
    }

    /// A table without one region; nil if it was the last.
    func removing(_ index: Int) throws(RequestError) -> MemoryTable? {
        if holders[index] > 1 { return try holding(index, by: -1) }
        if descriptions.count == 1 { return nil }
        var (left, mapped, holders) = (descriptions, mappings.mappings, self.holders)
        left.remove(at: index)
        mapped.remove(at: index)
        holders.remove(at: index)
        return try MemoryTable(left, mapped, holders: holders, of: memory.guest)
    }

    private static func check(
        _ description: RegionDescription, beside others: ArraySlice<RegionDescription>
    ) throws(RequestError) {
        if !description.isValid { throw .refused(.region) }
        if others.contains(where: description.overlaps) { throw .refused(.overlap) }
    }

    /// The guest's name for a byte that the front-end names by its own address.
    func guestAddress(ofUser address: UInt64) -> GuestAddress? {
        for description in descriptions {
            let offset = address &- description.userAddress
            if offset < description.size {
                return GuestAddress(description.guestAddress + offset)
            }
        }
        return nil
    }

    /// Whether the region at `index` holds `address`.
    func region(_ index: Int, holds address: GuestAddress) -> Bool {
        address.rawValue &- descriptions[index].guestAddress < descriptions[index].size
    }
}
