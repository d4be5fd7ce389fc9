// control path
//
// A driver's request for a header queue, however it came: by the chain of a set-up virtqueue or by
// messages of a front-end that is the driver. Its numbers are kept as they came until they are
// checked here, and only here.
//
//   byte  0   le32 slot size        byte 10   le16 report
//         4   le32 slot count            12   le32 reserved, zero
//         8   le16 slot return           16   le64 mask of RQs, 0 to 63; le64, 64 to 127
//
// The word at 12 is the group size if slots come back in groups. Beside it three areas of the
// guest's memory: control words, slots, and a return ring, or one for each RQ of the mask, in the
// order of their numbers.

import CleaveHost
import CleaveRings

/// Why a header queue was not set up; the numbers are what the driver is told.
@frozen
public enum HeaderQueueRefusal: UInt32, Error, Sendable, CaseIterable {
    /// Slot size, slot count or group size is none that a header queue may have, or the word of the
    /// group size is not 0 although no groups come back.
    case geometry = 1
    /// Slots come back neither by a tail nor by return rings.
    case slotReturn = 2
    /// No report has this number.
    case report = 3
    /// No RQ is named, or one that the device does not have.
    case mask = 4
    /// The chain is not 32 bytes to read and then the areas to write, each of its size.
    case chain = 5
    /// An area is not inside one region of the guest's memory.
    case memory = 6
    /// The device has a header queue already.
    case inUse = 7
    /// An area does not begin on its boundary.
    case alignment = 8
    /// A device that was killed, or broken by its driver, has used these control words, and nobody
    /// knows which slots it had. The driver begins anew, with zeroes in them.
    case lost = 9

    /// The name in reports.
    public var name: String { String(describing: self) }
}

/// What a driver asks for when it sets a header queue up.
public struct HeaderQueueRequest: Sendable, Equatable {
    /// Bytes of the fields, without areas.
    public static let byteCount = 32
    /// Most RQs that the mask can name.
    public static let rqLimit = 128

    public var slotSize: UInt32
    public var slotCount: UInt32
    /// 0: slots come back by the tail; 1: by the return ring; 2: in groups, by a ring for each RQ.
    public var slotReturn: UInt16
    /// The number of a `HeaderReport` (`HeaderReport.setupNumber`).
    public var report: UInt16
    /// Slots in a group; 0 unless slots come back in groups.
    public var groupSize: UInt32
    /// Bit i: RQ i uses the header queue.
    public var rqMask: SIMD2<UInt64>
    public var control = GuestAddress(0)
    public var slots = GuestAddress(0)
    /// Of no meaning if slots come back by the tail.
    public var returnRing = GuestAddress(0)

    /// A request over a layout of the driver's.
    /// - Parameters:
    ///   - layout: its memory.
    ///   - report: how the driver learns the slot of a packet.
    ///   - rqs: numbers of the RQs, below `rqLimit`.
    public init(_ layout: HeaderQueueLayout, report: HeaderReport, rqs: some Sequence<Int>) {
        slotSize = UInt32(clamping: layout.slotSize)
        slotCount = UInt32(clamping: layout.slotCount)
        slotReturn = layout.slotReturn.setupNumber
        self.report = report.setupNumber
        groupSize = layout.slotReturn == .groups ? UInt32(clamping: layout.groupSize) : 0
        rqMask = .zero
        for rq in rqs where (0..<Self.rqLimit).contains(rq) {
            rqMask[rq / 64] |= 1 << UInt64(rq % 64)
        }
        control = layout.control
        slots = layout.base
        returnRing = layout.returnRing ?? GuestAddress(0)
    }

    /// - Parameter bytes: the fields, `byteCount` of them; nil is the result if there are not.
    public init?(fields bytes: [UInt8]) {
        guard bytes.count == Self.byteCount else { return nil }
        func number(_ offset: Int, _ byteCount: Int) -> UInt64 {
            bytes[offset..<offset + byteCount].reversed().reduce(0) { $0 << 8 | UInt64($1) }
        }
        slotSize = UInt32(number(0, 4))
        slotCount = UInt32(number(4, 4))
        slotReturn = UInt16(number(8, 2))
        report = UInt16(number(10, 2))
        groupSize = UInt32(number(12, 4))
        rqMask = [number(16, 8), number(24, 8)]
    }

    /// The fields as they travel.
    public var fields: [UInt8] {
        func bytes<Value: FixedWidthInteger>(_ value: Value) -> [UInt8] {
            withUnsafeBytes(of: value.littleEndian) { Array($0) }
        }
        return bytes(slotSize) + bytes(slotCount) + bytes(slotReturn) + bytes(report)
            + bytes(groupSize) + bytes(rqMask[0]) + bytes(rqMask[1])
    }

    /// Where the device writes its words: among the control words, and those of each ring of
    /// groups.
    package var deviceWords: [GuestAddress] {
        let words = [control.advanced(by: HeaderQueueLayout.headOffset)]
        guard let layout = try? checkedNumbers(), layout.slotReturn == .groups else { return words }
        return words
            + (0..<layout.groupRingCount).map {
                returnRing.advanced(by: $0 * layout.returnRingStride)
            }
    }

    /// Numbers of the RQs that it names.
    public var rqs: [Int] {
        (0..<Self.rqLimit).filter { rqMask[$0 / 64] >> UInt64($0 % 64) & 1 != 0 }
    }

    // MARK: Checks

    /// Bytes of each area, in their order, once slot size, slot count and slot return are known to
    /// be possible.
    public func areaByteCounts() throws(HeaderQueueRefusal) -> [Int] {
        let layout = try checkedNumbers()
        let sizes = [HeaderQueueLayout.controlByteCount, layout.byteCount]
        return layout.slotReturn == .tail ? sizes : sizes + [layout.returnByteCount]
    }

    /// The layout, its numbers checked and its addresses not.
    private func checkedNumbers() throws(HeaderQueueRefusal) -> HeaderQueueLayout {
        var layout = HeaderQueueLayout(
            base: slots, control: control, slotSize: Int(try checkedSlotSize()),
            slotCount: Int(try checkedSlotCount()))
        guard let found = SlotReturn.allCases.first(where: { $0.setupNumber == slotReturn }) else {
            throw .slotReturn
        }
        guard found == .groups else {
            guard groupSize == 0 else { throw .geometry }
            if found == .ring { layout.returnRing = returnRing }
            return layout
        }
        guard groupSize > 0, groupSize <= slotCount, groupSize & (groupSize - 1) == 0 else {
            throw .geometry
        }
        layout.groupSize = Int(groupSize)
        layout.returnRing = returnRing
        layout.groupRingCount = rqs.count
        guard layout.groupRingCount > 0 else { throw .mask }
        return layout
    }

    /// The return ring of RQ `number`, if each has one; 0 if not.
    public func returnRing(ofRQ number: Int) -> Int {
        slotReturn == SlotReturn.groups.setupNumber ? rqs.firstIndex(of: number) ?? 0 : 0
    }

    private func checkedSlotSize() throws(HeaderQueueRefusal) -> UInt32 {
        // Compared at full width before anything is multiplied.
        guard HeaderQueueLayout.slotSizes.contains(Int(slotSize)), slotSize & (slotSize - 1) == 0
        else { throw .geometry }
        return slotSize
    }

    private func checkedSlotCount() throws(HeaderQueueRefusal) -> UInt32 {
        guard slotCount > 0, slotCount <= UInt32(HeaderQueueLayout.maximumSlotCount),
            slotCount & (slotCount - 1) == 0
        else { throw .geometry }
        return slotCount
    }

    /// The report that it asks for.
    public func checkedReport() throws(HeaderQueueRefusal) -> HeaderReport {
        guard let found = HeaderReport.allCases.first(where: { $0.setupNumber == report }) else {
            throw .report
        }
        return found
    }

    /// Where it all lies, once every number of the request was checked.
    /// - Parameters:
    ///   - memory: of the driver's guest.
    ///   - rqLimit: RQs that the device has.
    public func layout(
        in memory: GuestMemory, rqLimit: Int
    ) throws(HeaderQueueRefusal) -> HeaderQueueLayout {
        let sizes = try areaByteCounts()
        _ = try checkedReport()
        guard let last = rqs.last, last < rqLimit else { throw .mask }
        let areas: [(GuestAddress, UInt64)] = [(control, 128), (slots, 64), (returnRing, 64)]
        for ((address, alignment), byteCount) in zip(areas, sizes) {
            if address.rawValue % alignment != 0 { throw .alignment }
            guard let pointer = memory.translate(address, byteCount: byteCount) else {
                throw .memory
            }
            // A region may be mapped at an odd offset of its file.
            if UInt(bitPattern: pointer) % 4 != 0 { throw .alignment }
        }
        return try checkedNumbers()
    }

    /// Checks everything and makes the device's half. Call it while none of the RQs that it names
    /// runs a burst, and link them before one does: the driver may take status 0 for a sign that
    /// they are linked.
    ///
    /// It goes on where the control words say that another queue over them stopped
    /// (`HeaderQueue.leave`), or begins if none has taken them. One that took them and did not stop
    /// was killed: what it had claimed is lost, and it is refused to go on.
    /// - Parameters:
    ///   - memory: of the driver's guest.
    ///   - rqLimit: RQs that the device has.
    ///   - node: NUMA node of the device's own words; nil for any.
    public func makeQueue(
        in memory: GuestMemory, rqLimit: Int, node: Int? = nil
    ) throws(HeaderQueueRefusal) -> HeaderQueue {
        let (layout, words, base) = try start(in: memory, rqLimit: rqLimit)
        do throws(SetupError) {
            let queue = try HeaderQueue(layout, memory: memory, base: base, node: node)
            SharedWord32(words + HeaderQueueLayout.takenOffset).store(1)
            return queue
        } catch { throw .memory }
    }

    /// Makes the device's half anew where one stopped whose end its driver must not notice: in
    /// other memory of the guest, or in another process. To be called as `makeQueue`.
    /// - Parameters:
    ///   - base: the `base` of the one that stopped.
    ///   - isBroken: its driver broke it; so is the new one, until the driver has it reset.
    ///   - memory: of the driver's guest.
    ///   - rqLimit: RQs that the device has.
    ///   - node: NUMA node of the device's own words; nil for any.
    package func makeQueue(
        at base: UInt32, isBroken: Bool, in memory: GuestMemory, rqLimit: Int, node: Int? = nil
    ) throws(HeaderQueueRefusal) -> HeaderQueue {
        let layout = try layout(in: memory, rqLimit: rqLimit)
        do throws(SetupError) {
            return try HeaderQueue(
                layout, memory: memory, base: base, node: node, isBroken: isBroken)
        } catch { throw .memory }
    }

    /// Everything that `makeQueue` checks, at any time and with no effect.
    public func check(in memory: GuestMemory, rqLimit: Int) throws(HeaderQueueRefusal) {
        _ = try start(in: memory, rqLimit: rqLimit)
    }

    /// Where it lies, its control words, and where it goes on; nil: it begins.
    private func start(
        in memory: GuestMemory, rqLimit: Int
    ) throws(HeaderQueueRefusal) -> (HeaderQueueLayout, UnsafeMutableRawPointer, UInt32?) {
        let layout = try layout(in: memory, rqLimit: rqLimit)
        guard
            let words = memory.translate(
                layout.control, byteCount: HeaderQueueLayout.controlByteCount)
        else { throw .memory }
        // [H8 acquire <- the device that used them before: its head]
        let status = SharedWord32(words + HeaderQueueLayout.statusOffset).loadAcquire()
        let head = SharedWord32(words + HeaderQueueLayout.headOffset).load()
        let isTaken = SharedWord32(words + HeaderQueueLayout.takenOffset).load() != 0
        if status == HeaderQueueStatus.stopped { return (layout, words, head) }
        if isTaken || head != 0 { throw .lost }
        return (layout, words, nil)
    }
}

extension SlotReturn {
    /// The number in a request.
    public var setupNumber: UInt16 {
        switch self {
        case .tail: 0
        case .ring: 1
        case .groups: 2
        }
    }
}

extension HeaderReport {
    /// The number in a request; 0 is none.
    public var setupNumber: UInt16 {
        switch self {
        case .netHeader: 1
        case .usedLength: 2
        }
    }
}

/// The status word of a header queue: what the driver reads there.
public enum HeaderQueueStatus {
    /// The device uses the queue. After a reset that the driver asked for: no slot is free.
    public static let working: UInt32 = 0
    /// Packets come whole until a reset; or, with the request given back, until it is set up anew.
    public static let broken: UInt32 = 1
    /// The queue was not set up; the word after it says why (`HeaderQueueRefusal`).
    public static let refused: UInt32 = 2
    /// The device stopped using the queue, and its head word is where it goes on.
    public static let stopped: UInt32 = 3
    /// Never written by the device: a driver that wants to see when its RQs are linked stores this
    /// before it asks.
    public static let pending: UInt32 = 4
}

extension HeaderQueue {
    /// Ends the device's use of the queue: the control words say where the next one goes on. Only
    /// while every RQ that was linked to the queue is at a poll boundary, and claims no more.
    public func leave() {
        if claimer.isBroken { return }
        storePositions()
        claimer.reportedHead.store(base)
        // [H8 release -> the next device: the head]
        claimer.reportedStatus.storeRelease(HeaderQueueStatus.stopped)
    }

    /// Whether the driver asks for a reset of its broken queue, by a word of its own.
    public var wantsReset: Bool {
        guard isBroken,
            let words = memory.translate(
                layout.control, byteCount: HeaderQueueLayout.controlByteCount)
        else { return false }
        // [H9 acquire <- the driver: it retires no more, and has zeroed its return ring]
        return SharedWord32(words + HeaderQueueLayout.resetOffset).loadAcquire() == 1
    }
}
