import Rings

/// A bounded walk over one receive chain: NEXT links in a table, and one level of INDIRECT.
///
/// Nothing is written while walking, so a chain that turns out to be a lie half way has had no
/// effect. Each descriptor is read once.
struct DescriptorChain {
    private let table: UnsafeMutableRawPointer
    /// Descriptors in the queue: the most that any chain may visit.
    private let count: Int
    private let allowsIndirect: Bool
    private var regions: RegionCache
    /// Descriptors visited, those of an indirect table included.
    private(set) var visited = 0
    /// Most descriptors this walk may visit.
    private let budget: Int
    private var byteCount = 0
    private(set) var fault = QueueFault.none

    init(
        table: UnsafeMutableRawPointer, count: Int, allowsIndirect: Bool, regions: RegionCache,
        budget: Int
    ) {
        self.table = table
        self.count = count
        self.allowsIndirect = allowsIndirect
        self.regions = regions
        self.budget = budget
    }

    /// Walks from `first`, a copy of the head's descriptor, to the end.
    mutating func walk(
        from first: Descriptor, need: Int, into segments: inout SegmentList
    ) -> BufferFetch {
        var descriptor = first
        while true {
            visited &+= 1
            if visited > count { return broken(.loop) }
            if visited > budget { return .full }
            if descriptor.flags & DescriptorFlags.indirect != 0 {
                if !allowsIndirect || descriptor.flags & DescriptorFlags.next != 0 {
                    return broken(.indirect)
                }
                return walkIndirect(descriptor, need, &segments)
            }
            let appended = append(descriptor, need, &segments)
            if !appended.isBuffer { return appended }
            if descriptor.flags & DescriptorFlags.next == 0 {
                return BufferFetch(byteCount: byteCount)
            }
            if Int(descriptor.next) >= count { return broken(.next) }
            descriptor = Descriptor(readingOnce: table + Int(descriptor.next) &* 16)
        }
    }

    /// The table may lie at any address and run over a border between regions, so each entry is
    /// copied out before it is read.
    private mutating func walkIndirect(
        _ reference: Descriptor, _ need: Int, _ segments: inout SegmentList
    ) -> BufferFetch {
        let entries = Int(reference.byteCount) / 16
        if reference.byteCount == 0 || reference.byteCount % 16 != 0 || entries > count {
            return broken(.indirectLength)
        }
        if UInt64.max &- reference.address < UInt64(reference.byteCount) { return broken(.range) }
        var index = 0
        let visitedBefore = visited
        while true {
            visited &+= 1
            if visited &- visitedBefore > entries { return broken(.loop) }
            if visited > budget { return .full }
            let address = reference.address &+ UInt64(index &* 16)
            guard let descriptor = copyEntry(address) else { return broken(.range) }
            if descriptor.flags & DescriptorFlags.indirect != 0 { return broken(.indirect) }
            let appended = append(descriptor, need, &segments)
            if !appended.isBuffer { return appended }
            if descriptor.flags & DescriptorFlags.next == 0 {
                return BufferFetch(byteCount: byteCount)
            }
            index = Int(descriptor.next)
            if index >= entries { return broken(.next) }
        }
    }

    private mutating func copyEntry(_ address: UInt64) -> Descriptor? {
        var copy: (UInt64, UInt64) = (0, 0)
        return withUnsafeMutableBytes(of: &copy) { bytes in
            var done = 0
            while done < 16 {
                let piece = regions.prefix(
                    address &+ UInt64(done), UInt32(truncatingIfNeeded: 16 &- done))
                guard let piece else { return nil }
                for offset in 0..<Int(piece.byteCount) {
                    bytes[done &+ offset] = piece.pointer.load(
                        fromByteOffset: offset, as: UInt8.self)
                }
                done &+= Int(piece.byteCount)
            }
            return Descriptor(copied: UnsafeRawPointer(bytes.baseAddress.unsafelyUnwrapped))
        }
    }

    /// Checks one data descriptor and appends its pieces as far as `need` reaches.
    private mutating func append(
        _ descriptor: Descriptor, _ need: Int, _ segments: inout SegmentList
    ) -> BufferFetch {
        if descriptor.flags & DescriptorFlags.write == 0 { return broken(.direction) }
        var left = descriptor.byteCount
        if UInt64.max &- descriptor.address < UInt64(left) { return broken(.range) }
        var address = descriptor.address
        // An empty descriptor is skipped untranslated: its address may be anything.
        while left > 0 {
            guard let piece = regions.prefix(address, left) else { return broken(.range) }
            if byteCount < need {
                if segments.isFull { return .full }
                segments.append(piece.pointer, piece.byteCount)
            }
            byteCount &+= Int(piece.byteCount)
            address &+= UInt64(piece.byteCount)
            left &-= piece.byteCount
        }
        return BufferFetch(byteCount: byteCount)
    }

    private mutating func broken(_ reason: QueueFault) -> BufferFetch {
        fault = reason
        return .broken
    }
}
