// control path
//
// The device side of a control virtqueue: one chain at a time is taken, answered and given back.

import CleaveHost
import CleaveRings

/// A command's chain: bytes to read, then bytes to write.
struct ControlChain {
    /// Head, or buffer id.
    let tag: UInt16
    /// Descriptors in the ring itself.
    let listCount: Int
    let readableByteCount: Int
    let byteCount: Int
    /// There is a byte to write.
    var hasAnswer: Bool { byteCount > readableByteCount }
    /// In more pieces than there was room for: none is known.
    let isScattered: Bool

    init(_ walked: WalkedChain, tag: UInt16, isScattered: Bool) {
        self.tag = tag
        self.isScattered = isScattered
        listCount = walked.listCount
        byteCount = walked.fetch.byteCount
        readableByteCount = walked.readableByteCount
    }
}

protocol ControlRing {
    /// Keeps what the ring writes and holds from now on.
    mutating func observe(_ log: PageLog, _ writer: InFlightWriter?)
    var fault: QueueFault { get }
    var base: UInt16 { get }
    /// Takes the next chain; nil if there is none, or the driver broke the queue.
    mutating func pop(_ segments: inout SegmentList) -> ControlChain?
    /// Gives the chain taken last back, with `byteCount` bytes written, and shows it.
    /// - Returns: whether the driver asked to be called.
    mutating func use(_ chain: ControlChain, byteCount: Int) -> Bool
    /// Asks the driver to kick, or not to.
    func setKicks(enabled: Bool)
}

extension DescriptorChain {
    /// Walks a command. If it has more pieces than `segments` has room, the list stays empty.
    fileprivate static func walkCommand(
        _ links: Links, from first: Descriptor, into segments: inout SegmentList,
        allowsIndirect: Bool, regions: RegionCache
    ) -> (walked: WalkedChain, isScattered: Bool) {
        func walk(_ need: Int) -> WalkedChain {
            DescriptorChain.walk(
                links, from: first, need: need, into: segments, allowsIndirect: allowsIndirect,
                access: .command, regions: regions, walkedCount: 0)
        }
        let walked = walk(.max)
        if walked.fetch.isFull { return (walk(0), true) }
        if walked.fetch.isBuffer { segments.count = walked.segmentCount }
        return (walked, false)
    }
}

struct SplitControlRing: ControlRing {
    private let descriptors: UnsafeMutableRawPointer
    private let availRing: UnsafeMutableRawPointer
    private let usedRing: UnsafeMutableRawPointer
    private let size: Int
    private let allowsIndirect: Bool
    private var calls: CallRule
    private let regions: RegionCache
    /// Of both rings: no chain is out between two calls.
    private var next: UInt16
    private var log: PageLog?
    private(set) var fault = QueueFault.none

    init(
        _ addresses: VirtqueueAddresses, features: VirtioFeatures, memory: GuestMemory
    ) throws(SetupError) {
        let areas = try addresses.map(in: memory)
        descriptors = areas.descriptorArea
        availRing = areas.driverArea
        usedRing = areas.deviceArea
        size = addresses.size
        allowsIndirect = features.contains(.indirectDescriptors)
        calls = CallRule(features)
        regions = memory.cache
        next = addresses.base
    }

    mutating func observe(_ log: PageLog, _ writer: InFlightWriter?) {
        // The ring itself tells what is in flight.
        self.log = log
        log.markEvents(SplitLayout.eventSpans(size: size))
    }

    var base: UInt16 { next }
    private var place: Int { Int(next) & (size - 1) }

    mutating func pop(_ segments: inout SegmentList) -> ControlChain? {
        // [V1 acquire <- the driver's release of avail.idx: ring entries and descriptors below it]
        let index = SharedWord16(availRing + SplitLayout.indexOffset).loadAcquire()
        if Int(index &- next) > size { return broken(.availJump) }
        if index == next { return nil }
        let head = SharedWord16(availRing + SplitLayout.entriesOffset + 2 * place).load()
        if Int(head) >= size { return broken(.head) }
        let entry = descriptors + Int(head) * SplitLayout.descriptorByteCount
        let (walked, isScattered) = DescriptorChain.walkCommand(
            SplitLinks(table: descriptors, count: size), from: Descriptor(readingOnce: entry),
            into: &segments, allowsIndirect: allowsIndirect, regions: regions)
        if walked.fetch.isBroken { return broken(walked.fault) }
        if !walked.fetch.isBuffer { return nil }
        return ControlChain(walked, tag: head, isScattered: isScattered)
    }

    private mutating func broken(_ reason: QueueFault) -> ControlChain? {
        fault = reason
        return nil
    }

    mutating func use(_ chain: ControlChain, byteCount: Int) -> Bool {
        // {le32 id, le32 len}, on a 4-byte boundary.
        (usedRing + SplitLayout.entriesOffset + place * SplitLayout.usedElementByteCount)
            .storeBytes(of: UInt64(chain.tag) | UInt64(byteCount) << 32, as: UInt64.self)
        next = next &+ 1
        calls.publish()
        // [V2 release -> the driver's acquire of used.idx: the entry and the answer] Sequential:
        // the driver's word is not read before this is visible [V3].
        SharedWord16(usedRing + SplitLayout.indexOffset).storeSequential(next)
        log?.markUsed(
            SplitLayout.usedSpans(from: next &- 1, to: next, size: size),
            index: SplitLayout.usedIndexSpan)
        return SplitEvent.isWanted(availRing, upTo: next, count: 1, size: size, calls)
    }

    func setKicks(enabled: Bool) {
        SplitEvent.setKicks(
            enabled: enabled, usedRing: usedRing, availRing: availRing, at: next, size: size)
        log?.markEvents(SplitLayout.eventSpans(size: size))
    }
}

struct PackedControlRing: ControlRing {
    private let ring: UnsafeMutableRawPointer
    private let driverArea: UnsafeMutableRawPointer
    private let deviceArea: UnsafeMutableRawPointer
    private let size: Int
    private let allowsIndirect: Bool
    private var calls: CallRule
    private let regions: RegionCache
    /// Where the next list begins, and its used descriptor goes.
    private var cursor: PackedCursor
    private var unfinishedCount = 0
    private var log: PageLog?
    private var writer: InFlightWriter?
    private(set) var fault = QueueFault.none

    /// How often a list may be found unfinished: never, if the driver publishes the head last.
    private static let maximumUnfinished = 1024

    init(
        _ addresses: VirtqueueAddresses, features: VirtioFeatures, memory: GuestMemory
    ) throws(SetupError) {
        let areas = try addresses.map(in: memory)
        ring = areas.descriptorArea
        driverArea = areas.driverArea
        deviceArea = areas.deviceArea
        size = addresses.size
        allowsIndirect = features.contains(.indirectDescriptors)
        calls = CallRule(features)
        regions = memory.cache
        cursor = PackedCursor(base: addresses.base)
    }

    mutating func observe(_ log: PageLog, _ writer: InFlightWriter?) {
        self.log = log
        self.writer = writer
        log.markEvents(PackedLayout.eventSpans)
        // Descriptors may have been put back.
        log.markWholeRing(PackedLayout.ringByteCount(size: size))
    }

    var base: UInt16 { cursor.base }
    private var place: UnsafeMutableRawPointer {
        ring + cursor.offset * PackedLayout.descriptorByteCount
    }

    mutating func pop(_ segments: inout SegmentList) -> ControlChain? {
        // [V4 acquire <- the driver's release of the word: the address, and the rest of the list]
        let rest = SharedWord64(place + PackedLayout.restOffset).loadAcquire()
        let flags = UInt16(truncatingIfNeeded: rest >> 48)
        if flags & PackedLayout.ownerFlags != cursor.availableFlags { return nil }
        let (walked, isScattered) = DescriptorChain.walkCommand(
            PackedLinks(ring: ring, count: size, cursor: cursor, left: size),
            from: Descriptor(address: SharedWord64(place).load(), packedRest: rest),
            into: &segments, allowsIndirect: allowsIndirect, regions: regions)
        if walked.fetch.isBroken { return broken(walked.fault) }
        if walked.fetch.isEmpty {
            unfinishedCount += 1
            return unfinishedCount < Self.maximumUnfinished ? nil : broken(.unfinishedList)
        }
        if !walked.fetch.isBuffer { return nil }
        // The list's last descriptor carries the id.
        if Int(walked.last.tag) >= size { return broken(.id) }
        unfinishedCount = 0
        return ControlChain(walked, tag: walked.last.tag, isScattered: isScattered)
    }

    private mutating func broken(_ reason: QueueFault) -> ControlChain? {
        fault = reason
        return nil
    }

    mutating func use(_ chain: ControlChain, byteCount: Int) -> Bool {
        let flags = cursor.usedFlags | (byteCount > 0 ? DescriptorFlags.write : 0)
        calls.publish()
        var end = cursor
        end.advance(by: chain.listCount, size: size)
        if let writer {
            writer.take(ring, at: cursor.offset, chain.listCount)
            writer.use(cursor.offset, chain.listCount)
            writer.begin(end)
        }
        // [V5 release -> the driver's acquire of the used descriptor: the answer] Sequential: the
        // driver's event is not read before this is visible [V3].
        SharedWord64(place + PackedLayout.restOffset).storeSequential(
            UInt64(byteCount) | UInt64(chain.tag) << 32 | UInt64(flags) << 48)
        cursor = end
        writer?.commit()
        log?.markUsed(
            PackedLayout.spans(upTo: end, count: chain.listCount, size: size), index: .none)
        return PackedEvent.isWanted(
            driverArea, upTo: cursor, count: chain.listCount, size: size,
            usesEventIndex: calls.trustsEventIndex)
    }

    func setKicks(enabled: Bool) {
        PackedEvent.setKicks(
            enabled: enabled, deviceArea: deviceArea, ring: ring, at: cursor)
        log?.markEvents(PackedLayout.eventSpans)
    }
}
