// control path
//
// The part of a vhost-user in-flight region that belongs to one ring: finding out from it where the
// ring is resumed after the device that served it has died.
//
// Queues here use buffers in the order in which they were made available. So what is in flight lies
// between what was used and what was taken, and is taken again, in order, by a device that begins
// at the former: a list comes again exactly if it was not used. What that needs of the region:
//
//   split    nothing. The used index is in the ring, and nothing overwrites the available ring. The
//            region of a device that used buffers out of order is accepted if it agrees with that
//   packed   where the ring is used up to, and the descriptors of lists that a publish was
//            overwriting when the device died. They are put back where they were, and the ring is
//            as if the publish had not begun
//
//   split    0 features 8, version 2, entries 2, head of the last batch 2, used index 2
//            16 + 16 n   in flight 1, - 5, next of the batch 2, counter 8
//   packed   0 features 8, version 2, entries 2, free 2, old free 2, used 2, old used 2,
//            wrap counter 1, old wrap counter 1, - 10
//            32 + 32 n   in flight 1, - 1, next free 2, last 2, descriptors 2, counter 8, id 2,
//                        flags 2, length 4, address 8

import CleaveHost
import CleaveRings

/// What is in flight in one ring, kept in memory that outlives this process.
///
/// The memory is the front-end's: whatever it holds, it is checked, and the worst that it can bring
/// about is a ring that its own guest finds wrong.
package final class InFlightRecord: @unchecked Sendable {
    // SAFETY: constants; what they point to is used by the one thread that uses the queue.

    /// Alignment of each ring's part.
    private static let alignment = 64

    /// Bytes of the part of a ring of up to `size` descriptors.
    package static func byteCount(size: Int, _ format: RingFormat) -> Int {
        let bytes =
            format == .split
            ? SplitRegion.headerByteCount + SplitRegion.entryByteCount * size
            : InFlightWriter.headerByteCount + InFlightWriter.entryByteCount * size
        return (bytes + alignment - 1) / alignment * alignment
    }

    /// nil for a split ring.
    let writer: InFlightWriter?
    private let memory: UnsafeMutableRawPointer?

    /// Resumes a ring, or begins to keep what is in flight in it.
    /// - Parameters:
    ///   - region: the ring's part, `byteCount(size:_:)` bytes for `capacity` descriptors, at a
    ///     multiple of 8, mapped as long as the record lives.
    ///   - virtqueue: its base is what the front-end told; what the region says instead is put
    ///     there.
    /// - Throws: if the region is not one of this ring, or contradicts itself or the ring.
    package init(
        _ region: UnsafeMutableRawPointer, capacity: Int,
        resuming virtqueue: inout VirtqueueAddresses, in guest: GuestMemory
    ) throws(SetupError) {
        guard virtqueue.size <= capacity else {
            throw SetupError(
                "the in-flight region is for rings of up to \(capacity) descriptors, not "
                    + "\(virtqueue.size)")
        }
        let areas = try virtqueue.map(in: guest)
        // [F1 acquire <- the device before, wherever it was stopped]
        let header = SharedWord64(region + 8).loadAcquire()
        let version = UInt16(truncatingIfNeeded: header)
        let entryCount = Int(UInt16(truncatingIfNeeded: header >> 16))
        guard version <= 1 else {
            throw SetupError("the in-flight region is of version \(version), not 1")
        }
        if version == 1 && !(virtqueue.size...capacity).contains(entryCount) {
            throw SetupError(
                "the in-flight region has \(entryCount) entries for a ring of "
                    + "\(virtqueue.size) descriptors")
        }
        switch virtqueue.format {
        case .split:
            let split = SplitRegion(memory: region, entryCount: entryCount)
            if version == 1 { virtqueue.base = try split.resume(areas, size: virtqueue.size) }
            split.reset(size: virtqueue.size, used: virtqueue.base)
            (writer, memory) = (nil, nil)
        case .packed:
            var cursor = PackedCursor(base: virtqueue.base)
            var counter: UInt64 = 0
            if version == 1 {
                let packed = PackedRegion(memory: region, entryCount: entryCount)
                (cursor, counter) = try packed.resume(areas, size: virtqueue.size)
                virtqueue.base = cursor.base
            }
            let size = virtqueue.size
            let listByteCount = 2 * size
            let stateByteCount = MemoryLayout<InFlightWriter.State>.stride
            let memory = UnsafeMutableRawPointer.allocate(
                byteCount: stateByteCount + 3 * listByteCount, alignment: 16)
            self.memory = memory
            let state = memory.bindMemory(to: InFlightWriter.State.self, capacity: 1)
            state.initialize(to: InFlightWriter.State(used: cursor, counter: counter))
            let lists = (memory + stateByteCount).bindMemory(to: UInt16.self, capacity: 3 * size)
            lists.initialize(repeating: 0, count: 3 * size)
            let writer = InFlightWriter(
                region: region, size: size, state: state, next: lists, heads: lists + size,
                batch: lists + 2 * size)
            self.writer = writer
            writer.reset()
        }
    }

    deinit { memory?.deallocate() }

    /// The ring was stopped in an orderly way: the front-end knows where it is resumed, and its
    /// word counts from now on.
    package static func forget(_ region: UnsafeMutableRawPointer) {
        // [F1 release -> the device that resumes] Version 0: a region that nobody has used.
        SharedWord64(region + 8).storeRelease(0)
    }
}

extension InFlightWriter {
    /// Nothing is in flight.
    fileprivate func reset() {
        // Entries in flight are cleared from the last to the first by `resume`: none is left here,
        // and the links say nothing.
        for entry in 0..<size {
            next[entry] = UInt16(entry + 1)
            let words = region + Self.headerByteCount + entry * Self.entryByteCount
            SharedWord64(words).store(UInt64(entry + 1) << 16)
        }
        let used = state.pointee.used
        SharedWord64(region + 16).storeRelease(Self.usedWord(used, old: used))  // [F1]
        SharedWord64(region).store(0)
        // The version last: before it there is no region.
        SharedWord64(region + 8).storeRelease(Self.version | UInt64(size) << 16)  // [F1]
    }
}

/// An entry that says that it is in flight.
private struct InFlightEntry {
    let index: Int
    let counter: UInt64
}

extension [InFlightEntry] {
    /// In the order in which they were taken.
    fileprivate var inOrder: [InFlightEntry] {
        sorted { ($0.counter, $0.index) < ($1.counter, $1.index) }
    }
}

/// The part of a split ring.
private struct SplitRegion {
    static let headerByteCount = 16
    static let entryByteCount = 16

    let memory: UnsafeMutableRawPointer
    let entryCount: Int

    private func word(_ entry: Int, _ number: Int) -> SharedWord64 {
        SharedWord64(memory + Self.headerByteCount + entry * Self.entryByteCount + 8 * number)
    }

    /// - Returns: where the ring is resumed: at its used index.
    func resume(_ areas: VirtqueueAddresses.Mapped, size: Int) throws(SetupError) -> UInt16 {
        let used = SharedWord16(areas.deviceArea + SplitLayout.indexOffset).load()
        let header = SharedWord64(memory + 8).load()
        let words = (0..<entryCount).map { word($0, 0).load() }
        // The last batch was published, and not noted any more.
        var published: Set<Int> = []
        var entry = Int(UInt16(truncatingIfNeeded: header >> 32))
        for _ in 0..<min(Int(used &- UInt16(header >> 48)), entryCount) where entry < entryCount {
            published.insert(entry)
            entry = Int(UInt16(words[entry] >> 48))
        }
        let held = words.indices.filter { words[$0] & 0xff == 1 && !published.contains($0) }
            .map { InFlightEntry(index: $0, counter: word($0, 1).load()) }.inOrder
        for (offset, entry) in held.enumerated() {
            let place = Int(used &+ UInt16(truncatingIfNeeded: offset)) & (size - 1)
            let head = SharedWord16(
                areas.driverArea + SplitLayout.entriesOffset + 2 * place
            ).load()
            guard offset < size, entry.index == Int(head) else {
                throw SetupError(
                    "the in-flight region has descriptor \(entry.index) where the available ring "
                        + "has \(head): it is of a device that used them out of order")
            }
        }
        // From the last one on: a device that stops within leaves the first ones.
        for entry in held.reversed() { word(entry.index, 0).storeRelease(0) }  // [F1]
        return used
    }

    /// Nothing is in flight: it never is again, as far as this region says.
    func reset(size: Int, used: UInt16) {
        for entry in 0..<size { word(entry, 0).store(0) }
        SharedWord64(memory).store(0)
        // [F1 release -> the device that resumes]
        SharedWord64(memory + 8).storeRelease(1 | UInt64(size) << 16 | UInt64(used) << 48)
    }
}

/// The part of a packed ring, as a device left it.
private struct PackedRegion {
    let memory: UnsafeMutableRawPointer
    let entryCount: Int

    private func word(_ entry: Int, _ number: Int) -> SharedWord64 {
        SharedWord64(
            memory + InFlightWriter.headerByteCount + entry * InFlightWriter.entryByteCount
                + 8 * number)
    }

    /// A list that was in flight.
    private struct List {
        let head: Int
        /// Its entries, in order.
        let entries: [Int]
    }

    /// Puts the lists that were in flight back into the ring.
    /// - Returns: where the ring is resumed, and the number of the next list.
    func resume(
        _ areas: VirtqueueAddresses.Mapped, size: Int
    ) throws(SetupError) -> (PackedCursor, counter: UInt64) {
        let header = SharedWord64(memory + 8).load()
        let (used, free) = try position(areas, size, header)
        let words = (0..<entryCount).map { word($0, 0).load() }
        let freeEntries = walkFree(words, from: free)
        // What the last publish gave back is free, whatever its entry says.
        let held = words.indices.filter { words[$0] & 0xff == 1 && !freeEntries.contains($0) }
            .map { InFlightEntry(index: $0, counter: word($0, 1).load()) }.inOrder
        let lists = try self.lists(held, words, free: freeEntries, size: size)
        restore(lists, to: areas.descriptorArea, at: used, size: size)
        // The links stay: whoever stops here leaves a region as it was.
        for entry in words.indices where words[entry] & 0xff == 1 && freeEntries.contains(entry) {
            word(entry, 0).storeRelease(words[entry] & ~0xff)  // [F1]
        }
        let isUsed = InFlightWriter.usedWord(used, old: used)
        // [F1 release -> the device that resumes] Sequential, for what follows.
        SharedWord64(memory + 8).storeSequential(
            header & 0xffff_ffff | UInt64(free) << 32 | UInt64(free) << 48)
        SharedWord64(memory + 16).storeSequential(isUsed)  // [F1]
        // From the last one on: whoever stops within leaves the first ones, and those belong there.
        for list in lists.reversed() {
            word(list.head, 0).storeRelease(words[list.head] & ~0xff)  // [F1]
        }
        return (used, (held.last?.counter ?? 0) &+ 1)
    }

    /// Up to where the ring is used, and the first free entry: as the last publish left them if the
    /// driver can have seen it, else as before it.
    private func position(
        _ areas: VirtqueueAddresses.Mapped, _ size: Int, _ header: UInt64
    ) throws(SetupError) -> (PackedCursor, free: Int) {
        let word = SharedWord64(memory + 16).load()
        func cursor(_ offset: UInt64, _ wrap: UInt64) throws(SetupError) -> PackedCursor {
            guard offset & 0xffff < UInt64(size), wrap & 0xff < 2 else {
                throw SetupError(
                    "the in-flight region is used up to descriptor \(offset & 0xffff), wrap "
                        + "counter \(wrap & 0xff), of a ring of \(size)")
            }
            return PackedCursor(
                base: UInt16(offset & 0xffff) | (wrap & 0xff == 1 ? 0x8000 : 0))
        }
        let used = try cursor(word, word >> 32)
        let old = try cursor(word >> 16, word >> 40)
        let (free, oldFree) = (Int(header >> 32 & 0xffff), Int(header >> 48))
        if used == old { return (old, oldFree) }
        let place = areas.descriptorArea + old.offset * PackedLayout.descriptorByteCount
        let rest = SharedWord64(place + PackedLayout.restOffset).load()
        let isAvailable = UInt16(rest >> 48) & PackedLayout.ownerFlags == old.availableFlags
        return isAvailable ? (old, oldFree) : (used, free)
    }

    /// The entries that are free, at most all.
    private func walkFree(_ words: [UInt64], from first: Int) -> Set<Int> {
        var found: Set<Int> = []
        var entry = first
        while entry < entryCount, found.insert(entry).inserted {
            entry = Int(words[entry] >> 16 & 0xffff)
        }
        return found
    }

    private func lists(
        _ held: [InFlightEntry], _ words: [UInt64], free: Set<Int>, size: Int
    ) throws(SetupError) -> [List] {
        var seen = free
        var total = 0
        var lists: [List] = []
        for head in held {
            let count = Int(words[head.index] >> 48)
            total += count
            var entries: [Int] = []
            var entry = head.index
            while entries.count < count, entry < entryCount, seen.insert(entry).inserted {
                entries.append(entry)
                entry = Int(words[entry] >> 16 & 0xffff)
            }
            guard count > 0, total <= size, entries.count == count else {
                throw SetupError(
                    "the in-flight region has a list of \(count) descriptors at entry "
                        + "\(head.index) that cannot be in a ring of \(size)")
            }
            lists.append(List(head: head.index, entries: entries))
        }
        return lists
    }

    /// Writes the descriptors of lists to the ring, one after the other from `start` on.
    private func restore(
        _ lists: [List], to ring: UnsafeMutableRawPointer, at start: PackedCursor, size: Int
    ) {
        var place = start
        for entry in lists.flatMap(\.entries) {
            let (rest, address) = (word(entry, 2).load(), word(entry, 3).load())
            // Available in the lap of its place.
            let kind = UInt16(truncatingIfNeeded: rest >> 16) & ~PackedLayout.ownerFlags
            let flags = UInt64(kind | place.availableFlags)
            let idAndLength: UInt64 = rest >> 32 | (rest & 0xffff) << 32
            let slot = ring + place.offset * PackedLayout.descriptorByteCount
            SharedWord64(slot).store(address)
            SharedWord64(slot + PackedLayout.restOffset).store(idAndLength | flags << 48)
            place.advance(by: 1, size: size)
        }
    }
}
