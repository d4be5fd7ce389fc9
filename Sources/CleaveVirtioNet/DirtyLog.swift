// control path
//
// The log of pages that a device writes, for live migration (vhost-user, "Migration"): bit n of it,
// in bytes from the lowest bit on, is set when the page of 4096 bytes at guest address n * 4096 was
// written.

import CleaveHost

/// A log that a front-end shares, as one queue keeps it.
package struct DirtyLog: @unchecked Sendable {
    // SAFETY: constants; the bytes are reached by atomic operations.

    package static let pageByteCount = 4096

    /// `byteCount` bytes, from any address on; mapped, to the end of the page that they end in, as
    /// long as a queue uses them.
    private let bits: UnsafeMutableRawPointer
    private let byteCount: Int
    private let changed: NotificationSender
    /// Buffers, header slots and the device's words of a header queue are logged.
    package var logsBuffers = true
    /// The ring is logged, its device area as if it were here; nil: it is not logged.
    package var ringAddress: GuestAddress?

    /// - Parameter changed: notified after each burst that marked pages, or none.
    package init(
        bits: UnsafeMutableRawPointer, byteCount: Int, changed: NotificationSender = .none
    ) {
        self.bits = bits
        self.byteCount = byteCount
        self.changed = changed
    }

    /// Checks that the log has a bit for each page of `memory`.
    /// - Throws: naming the address that it lacks.
    package func check(covers memory: GuestMemory) throws(SetupError) {
        for index in 0..<memory.regionCount {
            let region = memory.regions[index]
            try check("guest memory", region.guestBase, region.byteCount)
        }
    }

    /// The same, and for what is logged of a ring.
    package func check(
        covers memory: GuestMemory, _ virtqueue: VirtqueueAddresses
    ) throws(SetupError) {
        try check(covers: memory)
        guard let ringAddress else { return }
        let ringByteCount =
            virtqueue.format == .split
            ? SplitLayout.usedRingByteCount(size: virtqueue.size) : PackedLayout.eventByteCount
        try check("the ring", ringAddress.rawValue, UInt64(ringByteCount))
    }

    private func check(
        _ what: String, _ address: UInt64, _ byteCount: UInt64
    ) throws(SetupError) {
        let (end, overflow) = address.addingReportingOverflow(byteCount &- 1)
        if overflow || end / UInt64(Self.pageByteCount) >= pageCount {
            throw SetupError(
                "the log of written pages, \(self.byteCount) bytes, does not reach the end of "
                    + "\(what), \(byteCount) bytes at 0x\(String(address, radix: 16))")
        }
    }

    private var pageCount: UInt64 { UInt64(byteCount) &* 8 }

    /// The device's words of a header queue, at `words`, were written; `memory` was checked against
    /// the log.
    package func markHeaderWords(at words: GuestAddress, in memory: GuestMemory) {
        var pages = PageLog(
            bits: bits, pageCount: pageCount, memory: memory, logsBuffers: logsBuffers,
            usedArea: nil, deviceArea: 0, changed: changed)
        pages.headerWords = words.rawValue
        pages.markHeaderWords()
    }

    func pages(_ virtqueue: VirtqueueAddresses, _ memory: GuestMemory) -> PageLog {
        let usedArea = virtqueue.format == .split ? ringAddress : virtqueue.descriptorArea
        return PageLog(
            bits: bits, pageCount: pageCount, memory: memory, logsBuffers: logsBuffers,
            usedArea: ringAddress == nil ? nil : usedArea?.rawValue,
            deviceArea: ringAddress?.rawValue ?? 0, changed: changed)
    }
}

/// What is kept of a queue's doings for whoever comes after it: in a build of the packet path of
/// its own, so that queues of which nothing is kept do not pay.
package struct QueueObservation: Sendable {
    /// Pages that the queue writes are marked here.
    package var log: DirtyLog?
    /// What the queue holds is kept here.
    package var record: InFlightRecord?

    /// nil if there is nothing to keep.
    package init?(log: DirtyLog? = nil, record: InFlightRecord? = nil) {
        // A split queue's record is kept by its ring.
        if log == nil && record?.writer == nil { return nil }
        self.log = log
        self.record = record
    }

    /// Checks the log against a queue.
    func pages(
        _ virtqueue: VirtqueueAddresses, _ memory: GuestMemory
    ) throws(SetupError) -> PageLog {
        guard let log else {
            return PageLog(
                bits: nil, pageCount: 0, memory: memory, logsBuffers: false, usedArea: nil,
                deviceArea: 0, changed: .none)
        }
        try log.check(covers: memory, virtqueue)
        return log.pages(virtqueue, memory)
    }
}
