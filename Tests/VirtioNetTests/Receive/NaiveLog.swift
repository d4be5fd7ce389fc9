import CleaveHost
import CleaveTestSupport
import CleaveVirtioNet

/// A log of written pages as a front-end reads it.
final class NaiveLog {
    private let memory: UnsafeMutableRawBufferPointer
    private let skew: Int
    let byteCount: Int

    /// With a bit for each page up to the end of guest memory, from an address on that is any
    /// number of bytes after a multiple of 8.
    init(covering guest: EvilGuest, skew: Int) {
        let end = guest.regions.map { $0.base + UInt64($0.byteCount) }.max() ?? 0
        byteCount = Int((end + 32767) / 32768)
        self.skew = skew
        memory = .allocate(byteCount: skew + byteCount + 16, alignment: 8)
        memory.initializeMemory(as: UInt8.self, repeating: 0)
    }

    deinit { memory.deallocate() }

    /// The log as a queue is given it.
    /// - Parameter ring: where the ring's device area is logged; nil: the ring is not logged.
    func dirtyLog(
        ring: GuestAddress?, byteCount: Int? = nil, changed: NotificationSender = .none
    ) -> DirtyLog {
        var log = DirtyLog(
            bits: memory.baseAddress! + skew, byteCount: byteCount ?? self.byteCount,
            changed: changed)
        log.ringAddress = ring
        return log
    }

    /// Numbers of the marked pages, which are not marked any more then.
    func take() -> Set<UInt64> {
        var pages: Set<UInt64> = []
        for offset in memory.indices where memory[offset] != 0 {
            precondition(offset >= skew && offset < skew + byteCount, "a mark beside the log")
            for bit in 0..<8 where memory[offset] >> UInt8(bit) & 1 == 1 {
                pages.insert(UInt64((offset - skew) * 8 + bit))
            }
            memory[offset] = 0
        }
        return pages
    }
}
