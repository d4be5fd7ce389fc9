// swift-format-ignore-file: AlwaysUseLowerCamelCase
// Functions have the names that the C header gives them.

import CCleave
import CleaveVirtioNet
import Glibc

extension cleave_memory_config {
    /// Size before `same_guest_as` was added.
    static let firstByteCount = 16
}

/// A memory table of a guest.
final class MemoryObject: HandleObject, @unchecked Sendable {
    // SAFETY: constant.

    let context: ContextObject
    let memory: GuestMemory
    private let regions: [MemoryRegion]

    init(
        _ context: ContextObject, _ regions: [MemoryRegion], guest: Guest
    ) throws(Refusal) {
        self.context = context
        self.regions = regions
        do { memory = try GuestMemory(regions: regions, guest: guest) } catch {
            throw Refusal(error)
        }
        super.init(parents: [context])
    }

    override class var type: HandleType? { .memory }

    /// The guest address of a host pointer inside a region. Ring areas are given by such pointers.
    func guestAddress(_ pointer: UnsafeMutableRawPointer?, _ name: String) throws(Refusal)
        -> GuestAddress
    {
        guard let pointer else { throw .null(name) }
        for region in regions {
            let guest = UInt64(UInt(bitPattern: pointer)) &- region.hostDelta
            if guest >= region.guestBase, guest - region.guestBase < region.byteCount {
                return GuestAddress(guest)
            }
        }
        throw .invalid("\(name) is not inside a memory region")
    }
}

@c @implementation
public func cleave_memory_create(
    _ context: OpaquePointer!, _ config: UnsafePointer<cleave_memory_config>!,
    _ memory: UnsafeMutablePointer<OpaquePointer?>!
) -> Int32 {
    create(
        under: context, as: ContextObject.self, config, zero: cleave_memory_config(),
        minimum: cleave_memory_config.firstByteCount, to: memory, named: "memory"
    ) { parent, configuration throws(Refusal) in
        let count = Int(configuration.region_count)
        guard (1...GuestMemory.maximumRegionCount).contains(count) else {
            throw .invalid(
                "config->region_count is \(count), not 1 to \(GuestMemory.maximumRegionCount)")
        }
        guard let table = configuration.regions else { throw .null("config->regions") }
        var regions: [MemoryRegion] = []
        for index in 0..<count { regions.append(try region(table[index], index)) }
        let guest = try guest(configuration.same_guest_as)
        return try MemoryObject(parent, regions, guest: guest)
    }
}

/// Whose memory a table is: that of the guest of `other`, or of one that has no other table.
private func guest(_ other: OpaquePointer?) throws(Refusal) -> Guest {
    guard let other else { return Guest() }
    guard let table = MemoryObject.live(other) else {
        throw Refusal(Refusal.stale, "config->same_guest_as is not a live memory")
    }
    return table.memory.guest
}

private func region(_ region: cleave_region, _ index: Int) throws(Refusal) -> MemoryRegion {
    guard let host = region.host else { throw .null("regions[\(index)].host") }
    guard let byteCount = Int(exactly: region.size) else {
        throw .invalid("regions[\(index)].size is \(region.size), more than can be mapped")
    }
    guard region.reserved == 0 else { throw .invalid("regions[\(index)].reserved is not 0") }
    return MemoryRegion(
        guestBase: GuestAddress(region.guest_address), host: host, byteCount: byteCount)
}

@c @implementation
public func cleave_memory_destroy(_ memory: OpaquePointer!) -> Int32 {
    destroy(memory, as: MemoryObject.self)
}

@c @implementation
public func cleave_memory_translate(
    _ memory: OpaquePointer!, _ guest_address: UInt64, _ size: UInt64,
    _ host: UnsafeMutablePointer<UnsafeMutableRawPointer?>!
) -> Int32 {
    control(memory, as: MemoryObject.self) { object throws(Refusal) in
        guard let host else { throw .null("host") }
        guard let byteCount = Int(exactly: size),
            let pointer = object.memory.translate(
                GuestAddress(guest_address), byteCount: byteCount)
        else {
            throw .invalid(
                "\(size) bytes at 0x\(String(guest_address, radix: 16)) are not in one region")
        }
        host.pointee = pointer
        return 0
    }
}
