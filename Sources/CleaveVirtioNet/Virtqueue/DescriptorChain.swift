/// Result of walking one chain.
struct WalkedChain: BitwiseCopyable {
    /// The buffer, or why there is none; `.empty` if the driver has not posted all of it.
    var fetch = BufferFetch.empty
    var fault = QueueFault.none
    /// Segments in the list, the chain's included.
    var segmentCount = 0
    /// Descriptors visited, those of an indirect table included.
    var visited = 0
    /// Descriptors in the ring itself.
    var listCount = 0
    /// Bytes of the first descriptor that is not empty.
    var firstDescriptorByteCount = 0
    /// Empty descriptors of a buffer that is not empty altogether.
    var emptyCount = 0
    /// Bytes before the first descriptor that the device may write; of commands only.
    var readableByteCount = 0
    /// The last descriptor in the ring itself.
    var last: Descriptor

    init(last: Descriptor) { self.last = last }
}

/// What a device does with the buffers of a queue.
enum BufferAccess: BitwiseCopyable {
    /// Receive queues: the device writes.
    case writable
    /// Transmit queues: the device reads.
    case readable
    /// Control queues: the device reads a command, then writes the answer after it.
    case command

    /// WRITE, as it must be in every descriptor; of a command, in those before the answer.
    @inline(__always) var flag: UInt16 { self == .writable ? DescriptorFlags.write : 0 }
    /// WRITE, if it counts in an indirect table of a packed ring.
    @inline(__always) var tableFlag: UInt16 { self == .readable ? 0 : DescriptorFlags.write }
}

/// A bounded walk over one chain: NEXT links in a ring, and one level of INDIRECT.
///
/// Nothing is written while walking, so a chain that proves invalid half way has had no effect.
/// Each descriptor is read once.
struct DescriptorChain<Links: DescriptorLinks> {
    private var links: Links
    private let allowsIndirect: Bool
    private var access: BufferAccess
    private var regions: RegionCache
    /// Descriptors visited, those of an indirect table included.
    private var visited = 0
    /// Most descriptors this walk may visit.
    private let budget: Int
    private var byteCount = 0
    private var firstDescriptorByteCount = 0
    private var emptyCount = 0
    private var readableByteCount = 0
    private var fault = QueueFault.none

    private init(
        _ links: Links, allowsIndirect: Bool, access: BufferAccess, regions: RegionCache,
        budget: Int
    ) {
        self.links = links
        self.allowsIndirect = allowsIndirect
        self.access = access
        self.regions = regions
        self.budget = budget
    }

    /// Walks from `first`, a copy of the head's descriptor, to the end.
    ///
    /// Everything goes in and comes out by value: a mutating call would pin the caller's cursors to
    /// memory.
    /// - Parameters:
    ///   - segments: its pieces are appended to a copy, as far as the first `need` bytes reach.
    ///   - access: what every descriptor must allow.
    ///   - walkedCount: descriptors walked before in this burst.
    @inline(never)
    static func walk(
        _ links: Links, from first: Descriptor, need: Int, into segments: SegmentList,
        allowsIndirect: Bool, access: BufferAccess = .writable, regions: RegionCache,
        walkedCount: Int
    ) -> WalkedChain {
        // Tables of empty descriptors could otherwise make one poll cost the square of the size.
        var chain = DescriptorChain(
            links, allowsIndirect: allowsIndirect, access: access, regions: regions,
            budget: 1024 &+ 4 &* links.count &- walkedCount)
        var list = segments
        var walked = WalkedChain(last: first)
        walked.fetch = chain.walk(&walked, need, &list)
        walked.fault = chain.fault
        walked.segmentCount = list.count
        walked.visited = chain.visited
        walked.readableByteCount =
            chain.access == .command ? chain.byteCount : chain.readableByteCount
        walked.firstDescriptorByteCount = chain.firstDescriptorByteCount
        if walked.fetch.isBuffer && walked.fetch.byteCount > 0 {
            walked.emptyCount = chain.emptyCount
        }
        return walked
    }

    private mutating func walk(
        _ walked: inout WalkedChain, _ need: Int, _ segments: inout SegmentList
    ) -> BufferFetch {
        while true {
            let descriptor = walked.last
            visited &+= 1
            if visited > links.count { return broken(.loop) }
            if visited > budget { return .full }
            walked.listCount = visited
            if descriptor.flags & DescriptorFlags.indirect != 0 {
                let isMixed = visited > 1 && !Links.mixesIndirect
                if !allowsIndirect || descriptor.flags & DescriptorFlags.next != 0 || isMixed {
                    return broken(.indirect)
                }
                return walkIndirect(descriptor, need, &segments)
            }
            let appended = append(descriptor, need, &segments)
            if !appended.isBuffer { return appended }
            if descriptor.flags & DescriptorFlags.next == 0 {
                return BufferFetch(byteCount: byteCount)
            }
            switch links.following(descriptor) {
            case .descriptor(let next): walked.last = next
            case .missing: return .empty
            case .outside: return broken(.next)
            }
        }
    }

    /// The table may lie at any address and run over a border between regions, so each entry is
    /// copied out before it is read.
    private mutating func walkIndirect(
        _ reference: Descriptor, _ need: Int, _ segments: inout SegmentList
    ) -> BufferFetch {
        let entries = Int(reference.byteCount) / 16
        if reference.byteCount == 0 || reference.byteCount % 16 != 0 || entries > links.count {
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
            guard let next = Links.entry(after: descriptor, index, of: entries) else {
                return BufferFetch(byteCount: byteCount)
            }
            if next >= entries { return broken(.next) }
            index = next
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
            return Links.tableEntry(
                bytes.load(as: UInt64.self), bytes.load(fromByteOffset: 8, as: UInt64.self),
                access)
        }
    }

    /// Checks one data descriptor and appends its pieces as far as `need` reaches.
    private mutating func append(
        _ descriptor: Descriptor, _ need: Int, _ segments: inout SegmentList
    ) -> BufferFetch {
        if descriptor.flags & DescriptorFlags.write != access.flag && !turns() {
            return broken(.direction)
        }
        var left = descriptor.byteCount
        if UInt64.max &- descriptor.address < UInt64(left) { return broken(.range) }
        var address = descriptor.address
        // Virtio's limit for a chain.
        if byteCount &+ Int(left) > 1 &<< 32 { return broken(.overflow) }
        if byteCount == 0 { firstDescriptorByteCount = Int(left) }
        if left == 0 { emptyCount &+= 1 }
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

    /// Whether a command ends here and its answer begins.
    @inline(never)
    private mutating func turns() -> Bool {
        if access != .command { return false }
        access = .writable
        readableByteCount = byteCount
        return true
    }

    private mutating func broken(_ reason: QueueFault) -> BufferFetch {
        fault = reason
        return .broken
    }
}
