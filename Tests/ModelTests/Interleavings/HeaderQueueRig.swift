import CleaveRings

@testable import CleaveGuestDriver
@testable import CleaveVirtioNet

/// A header queue, both halves, made anew for every run; and who owns which slot, as a naive table
/// that only one thread at a time reads.
final class HeaderQueueRig {
    enum Owner: Equatable { case device, claimed(String), reported, retired }

    let driver: DriverHeaderQueue
    let device: HeaderQueue
    let slotCount: Int
    private let run: ModelRun
    private(set) var owners: [Owner]
    /// Slots that the tail has been moved past, since the beginning.
    private var passed = 0

    /// Guest memory is cut from front to back and lasts for many runs.
    nonisolated(unsafe) private static var space: GuestSpace?

    // SAFETY: `space` is touched while a run is set up, by the one suite that runs at a time.
    private static func makeDriver(slotCount: Int) throws -> DriverHeaderQueue {
        if let space,
            let made = try? DriverHeaderQueue(
                slotSize: 64, slotCount: slotCount, in: space)
        {
            return made
        }
        let fresh = try GuestSpace(byteCount: 1 << 22)
        space = fresh
        return try DriverHeaderQueue(slotSize: 64, slotCount: slotCount, in: fresh)
    }

    init(_ run: ModelRun, slotCount: Int) throws {
        self.run = run
        self.slotCount = slotCount
        driver = try Self.makeDriver(slotCount: slotCount)
        device = try HeaderQueue(driver.layout, memory: Self.space!.memory)
        owners = Array(repeating: .device, count: slotCount)
        run.word("head", device.claimer.claimedHead.cellAddress)
        run.quiet(device.claimer.reportedHead.cellAddress)
        // Never stored to while the driver is honest, which `claim` checks.
        run.quiet(device.claimer.brokenWord.cellAddress)
        run.word("tail", device.claimer.driverTail.cellAddress) { [unowned self] old, new in
            movesTail(from: UInt32(old), to: UInt32(new))
        }
        for group in 0..<slotCount / driver.groupSize {
            let word = driver.wordAddress(group)
            run.word("word \(group)", word) { [unowned self] old, new in
                mark(group, UInt32(truncatingIfNeeded: new & ~old))
            }
            // Resetting it belongs to one lap, marking it to the next.
            run.requireOrdered(word)
        }
    }

    /// A worker's steps between claiming and reporting.
    func claim(_ wanted: Int, as name: String) -> HeaderClaimer.Claim {
        let claim = device.claimer.claim(wanted)
        for slot in slots(claim) {
            run.check(
                owners[slot] == .device, "slot \(slot), claimed by \(name), is \(owners[slot])")
            owners[slot] = .claimed(name)
            run.writes("slot", slot)
        }
        run.check(!device.isBrokenAtRest, "an honest driver's queue is broken")
        return claim
    }

    func slots(_ claim: HeaderClaimer.Claim) -> [Int] {
        (0..<claim.count).map { Int(claim.first &+ UInt32($0)) & (slotCount - 1) }
    }

    func report(_ slots: [Int]) {
        for slot in slots { owners[slot] = .reported }
    }

    /// A consumer's steps with slots that it harvested.
    func consume(first: Int, count: Int) {
        for offset in 0..<count {
            let slot = (first + offset) & (slotCount - 1)
            run.check(owners[slot] == .reported, "slot \(slot) is harvested as \(owners[slot])")
            run.reads("slot", slot)
        }
        driver.retire(first: first, count: count)
    }

    private func mark(_ group: Int, _ bits: UInt32) {
        for offset in 0..<driver.groupSize where bits >> UInt32(offset) & 1 == 1 {
            owners[group * driver.groupSize + offset] = .retired
        }
    }

    private func movesTail(from old: UInt32, to new: UInt32) {
        let expected = UInt32(slotCount + passed)
        run.check(
            old == expected && Int(new &- old) == driver.groupSize,
            "the tail moves from \(old) to \(new)")
        for offset in 0..<Int(min(new &- old, UInt32(slotCount))) {
            let slot = Int(old &+ UInt32(offset)) & (slotCount - 1)
            run.check(owners[slot] == .retired, "the tail passes slot \(slot): \(owners[slot])")
            owners[slot] = .device
        }
        passed += Int(new &- old)
    }

    /// After all threads: every slot is accounted for, and nothing waits without need.
    func checkAccounts() {
        let free = owners.count { $0 == .device }
        run.check(device.freeCount == free, "\(device.freeCount) slots free, \(free) not owned")
        run.check(driver.doubleRetireCount == 0, "slots were retired twice")
        let oldest = passed % slotCount
        run.check(
            owners[oldest..<oldest + driver.groupSize].contains { $0 != .retired },
            "the tail rests before a complete group")
    }
}

extension HeaderQueue {
    /// As it is in memory, without asking the scheduler.
    fileprivate var isBrokenAtRest: Bool {
        claimer.brokenWord.cellAddress.load(as: UInt32.self) != 0
    }
}
