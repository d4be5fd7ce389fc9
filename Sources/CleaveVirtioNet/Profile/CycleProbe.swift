// The probe of the few polls that are measured, and the test that picks them.
#if Profiling
import CCleaveHost
import CleaveHost
import CleaveRings

/// Measures a poll, into a block that others may read meanwhile.
///
/// Each mark takes the cycles since the last one, less what a mark costs by itself. One thread at a
/// time: the one that polls the RQ.
struct CycleProbe: StageProbe {
    /// State in private memory, in words: other processes may write a block.
    private enum Word {
        static let countdown = 0
        static let random = 1
        static let start = 2
        static let last = 3
        static let markCost = 4
        static let packets = 5
        static let bytes = 6
        static let readingCost = 7
        /// Polls left in the row that is being measured.
        static let row = 8
        /// Sixteenths of cycles per packet of the last measured polls.
        static let mean = 9
        static let references = 10
        static let buffers = 11
        static let splitPackets = 12
        static let headerBytes = 13
        static let isShort = 14
        /// By stage; then of one pass for all of place.
        static let spent = 15
    }

    static let byteCount = CacheLine.roundedUp((Word.spent + RxStage.count + 1) * 8)

    private let words: UnsafeMutablePointer<UInt64>
    private let block: ProfileBlock
    private let period: SharedWord32

    /// - Parameter memory: `byteCount` zeroed bytes of private memory.
    init(_ block: ProfileBlock, memory: UnsafeMutableRawPointer) {
        words = memory.assumingMemoryBound(to: UInt64.self)
        self.block = block
        period = block.period
        words[Word.random] = 0x9e37_79b9_7f4a_7c15
        words[Word.markCost] = leastMarkCost()
        words[Word.readingCost] = CycleClock.readingCost
    }

    /// Whether to measure the poll that begins: one test while profiling is off.
    @inline(__always)
    func isDue() -> Bool {
        let period = period.load()
        return period != 0 && isNext(UInt64(period))
    }

    /// Polls are measured in rows: one alone among others would find its code neither in caches nor
    /// predicted, and take a tenth longer.
    private static let rowLength: UInt64 = 32
    /// This many at a row's beginning are not recorded.
    private static let warmUp: UInt64 = 8

    /// Counts down over a row, then over a random number of polls, on average so many that one in
    /// `period` is measured: traffic that repeats itself must not meet the same polls each time.
    @inline(never)
    private func isNext(_ period: UInt64) -> Bool {
        if words[Word.row] > 0 {
            words[Word.row] &-= 1
            return true
        }
        let left = words[Word.countdown]
        let most = 2 &* Self.rowLength &* (period &- 1)
        if left > 0 && left <= most {
            words[Word.countdown] = left &- 1
            return false
        }
        var random = words[Word.random]
        random ^= random &<< 13
        random ^= random &>> 7
        random ^= random &<< 17
        words[Word.random] = random
        words[Word.countdown] = (random &>> 32) % (most &+ 1)
        words[Word.row] = Self.rowLength &- 1
        return true
    }

    @inline(__always)
    func begin() {
        words[Word.packets] = 0
        var stage = 0
        while stage <= RxStage.count {
            words[Word.spent &+ stage] = 0
            stage &+= 1
        }
        let now = cleave_cycles()
        words[Word.start] = now
        words[Word.last] = now
    }

    /// Whether the measured poll that begins is measured as a whole: every other one is, as a check
    /// on the sum of the stages.
    @inline(__always) func isWhole() -> Bool { words[Word.row] & 1 == 0 }

    @inline(__always) private var isWarm: Bool {
        words[Word.row] < Self.rowLength &- Self.warmUp
    }

    /// Records a poll that went through no marks since `begin`.
    @inline(__always)
    func endWhole(packets: UInt64) {
        let cycles = cleave_cycles() &- words[Word.start]
        if packets == 0 || !isWarm || isInterrupted(cycles, packets) { return }
        let cost = words[Word.readingCost]
        block.counter(.wholeTurns).addSingleWriter(1)
        block.counter(.wholePackets).addSingleWriter(packets)
        block.counter(.wholeCycles).addSingleWriter(cycles > cost ? cycles &- cost : 0)
    }

    /// Whether a poll took far too long for its packets.
    private func isInterrupted(_ cycles: UInt64, _ packets: UInt64) -> Bool {
        let mean = words[Word.mean]
        let perPacket = cycles &* 16 / packets
        if mean != 0 && perPacket > 8 &* mean {
            // Rises slowly, in case polls have become longer for good.
            words[Word.mean] = mean &+ mean / 8 &+ 1
            block.counter(.interrupted).addSingleWriter(1)
            return true
        }
        words[Word.mean] = mean == 0 ? perPacket : (7 &* mean &+ perPacket) / 8
        return false
    }

    @inline(__always) static var isOn: Bool { true }

    @inline(__always)
    func mark(_ stage: RxStage) { mark(row: stage.rawValue) }

    /// Every other poll by stages: passes cost some overlap, which the table subtracts again.
    @inline(__always) var isApart: Bool { words[Word.row] & 2 == 0 }

    @inline(__always)
    func markPlace() {
        if !isApart { mark(row: RxStage.count) }
    }

    @inline(__always)
    private func mark(row: Int) {
        let now = cleave_cycles()
        let cycles = now &- words[Word.last]
        let cost = words[Word.markCost]
        words[Word.spent &+ row] &+= cycles > cost ? cycles &- cost : 0
        words[Word.last] = now
    }

    @inline(never)
    func note(_ burst: MeasuredBurst) {
        words[Word.packets] = UInt64(truncatingIfNeeded: burst.packets)
        words[Word.bytes] = UInt64(truncatingIfNeeded: burst.bytes)
        words[Word.references] = UInt64(truncatingIfNeeded: burst.references)
        words[Word.buffers] = UInt64(truncatingIfNeeded: burst.buffers)
        words[Word.splitPackets] = UInt64(truncatingIfNeeded: burst.splitPackets)
        words[Word.headerBytes] = UInt64(truncatingIfNeeded: burst.headerBytes)
        words[Word.isShort] = burst.isShortOfSlots ? 1 : 0
        words[Word.last] = cleave_cycles()
    }

    @inline(__always)
    private func noteBurst() {
        block.counter(.references).addSingleWriter(words[Word.references])
        block.counter(.buffers).addSingleWriter(words[Word.buffers])
        block.counter(.splitPackets).addSingleWriter(words[Word.splitPackets])
        block.counter(.headerBytes).addSingleWriter(words[Word.headerBytes])
        block.counter(.shortOfSlots).addSingleWriter(words[Word.isShort])
    }

    /// Records a poll that delivered packets.
    @inline(never)
    func end() {
        let packets = words[Word.packets]
        let cycles = words[Word.last] &- words[Word.start]
        if packets == 0 || !isWarm || isInterrupted(cycles, packets) { return }
        noteBurst()
        block.counter(.bursts).addSingleWriter(1)
        block.counter(.packets).addSingleWriter(packets)
        block.counter(.bytes).addSingleWriter(words[Word.bytes])
        let onePass = words[Word.spent &+ RxStage.count]
        var poll = onePass
        var stage = 0
        while stage < RxStage.count {
            poll &+= words[Word.spent &+ stage]
            if isApart || !RxStage.isPlacing(stage) {
                record(stage, words[Word.spent &+ stage], packets)
            }
            stage &+= 1
        }
        if isApart { return trace(packets) }
        record(ProfileBlock.pollRow, poll, packets)
        block.counter(.onePassPackets).addSingleWriter(packets)
        block.counter(.onePassCycles).addSingleWriter(onePass)
    }

    @inline(__always)
    private func record(_ row: Int, _ cycles: UInt64, _ packets: UInt64) {
        block.cycles(row).addSingleWriter(cycles)
        let perPacket = UInt32(clamping: cycles &* 16 / packets)
        count(block.bucket(row, perBurst: false, ProfileBuckets.index(perPacket)))
        count(block.bucket(row, perBurst: true, ProfileBuckets.index(UInt32(clamping: cycles))))
    }

    @inline(__always) private func count(_ bucket: SharedWord32) {
        bucket.store(bucket.load() &+ 1)
    }

    private func trace(_ packets: UInt64) {
        let written = block.tracesWritten.load()
        let entry = block.trace(written)
        SharedWord64(entry).store(words[Word.start])
        SharedWord64(entry + 8).store(packets | words[Word.bytes] &<< 32)
        var stage = 0
        while stage < RxStage.count {
            SharedWord32(entry + 16 + 4 &* stage)
                .store(UInt32(clamping: words[Word.spent &+ stage]))
            stage &+= 1
        }
        // [P2 release -> an observer]
        block.tracesWritten.storeRelease(written &+ 1)
    }

    /// Adds cycles that the worker waited, while profiling is on.
    @inline(__always)
    func addWait(_ wait: Int, _ cycles: UInt64) {
        if period.load() == 0 { return }
        block.counter(.waits, wait).addSingleWriter(1)
        block.counter(.waitCycles, wait).addSingleWriter(cycles)
    }

    /// The least cycles between two marks in a row.
    private func leastMarkCost() -> UInt64 {
        var least = UInt64.max
        var round = 0
        while round < 256 {
            begin()
            mark(.pull)
            mark(.parse)
            least = min(least, words[Word.spent &+ RxStage.parse.rawValue])
            round &+= 1
        }
        return least
    }
}
#endif
