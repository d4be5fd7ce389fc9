// Claims on cursors near every wrap, tails that lie, and threads that claim at the same time
// (catalogue D01, D11, D12).
import CleaveRings
import CleaveTestSupport
import Foundation
import Testing

@testable import CleaveVirtioNet

@Suite("Header slot claims")
struct HeaderClaimerTests {
    private struct Fixture {
        let guest: EvilGuest
        let slots: EvilHeaderQueue
        let queue: HeaderQueue

        /// A queue whose device has claimed `head` slots so far.
        init(slotCount: Int, head: UInt64 = 0, free: Int? = nil) throws {
            guest = try EvilGuest()
            slots = EvilHeaderQueue(
                guest, slotSize: 64, slotCount: slotCount, at: EvilRig.headerAddress)
            queue = try HeaderQueue(slots.layout, memory: guest.memory)
            queue.claimer.claimedHead.store(head)
            slots.setTail(UInt32(truncatingIfNeeded: head) &+ UInt32(free ?? slotCount))
        }
    }

    /// Around 0, 2^16, 2^32 and a later lap of the 32-bit tail.
    private static let heads: [UInt64] = [
        0, 1, 65535, 65536, 0x7fff_ffff, 0xffff_fff9, 0xffff_fffe, 0xffff_ffff, 0x1_0000_0000,
        0x5_ffff_fffd,
    ]

    @Test("D12: claims are exact and contiguous across every wrap")
    func claims() throws {
        try withEvery(
            Axis("slotCount", [1, 2, 4, 8, 64]), Axis("head", Self.heads),
            Axis("wanted", [0, 1, 2, 3, 5, 64, 100])
        ) { slotCount, head, wanted in
            for free in Set([0, 1, slotCount / 2, slotCount]) {
                let fixture = try Fixture(slotCount: slotCount, head: head, free: free)
                let claim = fixture.queue.claimer.claim(wanted)
                let expected = min(wanted, free)
                try #require(claim.count == expected && claim.retries == 0)
                try #require(fixture.queue.claimedCount == head + UInt64(expected))
                try #require(fixture.queue.freeCount == free - expected)
                try #require(!fixture.queue.isBroken)
                if expected > 0 {
                    let end = UInt32(truncatingIfNeeded: head + UInt64(expected))
                    try #require(claim.first == UInt32(truncatingIfNeeded: head))
                    try #require(fixture.slots.head == end)
                }
            }
        }
    }

    @Test("D01: a tail ahead by more than the slots, or behind, breaks the queue for good")
    func tailJumps() throws {
        try withEvery(Axis("slotCount", [1, 2, 4, 256]), Axis("head", Self.heads)) {
            slotCount, head in
            let jumps: [UInt32] = [
                UInt32(slotCount) + 1, UInt32(slotCount) + 2, 0x8000_0000, 0xffff_fffe, 0xffff_ffff,
            ]
            for jump in jumps {
                let fixture = try Fixture(slotCount: slotCount, head: head)
                fixture.slots.setTail(UInt32(truncatingIfNeeded: head) &+ jump)
                try #require(fixture.queue.freeCount == 0)
                try #require(fixture.queue.claimer.claim(1).count == 0)
                try #require(fixture.queue.isBroken && fixture.queue.claimedCount == head)
                // Correcting the tail changes nothing.
                fixture.slots.setTail(UInt32(truncatingIfNeeded: head) &+ 1)
                try #require(fixture.queue.claimer.claim(1).count == 0)
                try #require(fixture.queue.isBroken)
            }
        }
    }

    @Test("Nothing wanted, nothing judged")
    func nothingWanted() throws {
        let fixture = try Fixture(slotCount: 4)
        fixture.slots.setTail(99)
        #expect(fixture.queue.claimer.claim(0).count == 0)
        #expect(!fixture.queue.isBroken)
    }

    @Test("D11: threads claim disjoint ranges in bounded tries while the tail moves at full speed")
    func concurrentClaims() throws {
        let total = 40_000
        let fixture = try Fixture(slotCount: 16, head: 0xffff_f000)
        let queue = fixture.queue
        let first = UInt32(0xffff_f000)
        let owners = UnsafeMutablePointer<UInt8>.allocate(capacity: total + 64)
        owners.initialize(repeating: 0, count: total + 64)
        let shared = UnsafeMutableRawPointer.allocate(byteCount: 128, alignment: 128)
        shared.initializeMemory(as: UInt8.self, repeating: 0, count: 128)
        defer {
            owners.deallocate()
            shared.deallocate()
        }
        let excess = SharedWord64(shared)
        let table = Int(bitPattern: owners)
        let claimers = (1...2).map { owner in
            Flipper { random in
                let wanted = random.int(1...7)
                let claim = queue.claimer.claim(wanted)
                if claim.retries > HeaderClaimer.maximumTries || claim.count > wanted {
                    excess.fetchAdd(1)
                }
                for offset in 0..<claim.count {
                    let number = Int(claim.first &+ UInt32(offset) &- first)
                    guard number < total + 64,
                        let place = UnsafeMutablePointer<UInt8>(bitPattern: table + number)
                    else {
                        excess.fetchAdd(1)
                        continue
                    }
                    // Two owners would leave a sum that is neither 1 nor 2.
                    place.pointee += UInt8(owner)
                }
                if claim.count == 0 { sched_yield() }
            }
        }
        // The driver: everything claimed comes back at once.
        var tail = first &+ 16
        while tail &- first < UInt32(total) {
            let reached = UInt32(truncatingIfNeeded: fixture.queue.claimedCount) &+ 16
            if reached == tail {
                sched_yield()
                continue
            }
            tail = reached
            SharedWord32(fixture.guest.pointer(EvilRig.headerAddress)).storeRelease(tail)
        }
        for claimer in claimers { claimer.finish() }
        #expect(excess.load() == 0 && !fixture.queue.isBroken)
        let claimed = Int(fixture.queue.claimedCount - UInt64(first))
        #expect(claimed >= total - 16)
        #expect((0..<claimed).allSatisfy { owners[$0] == 1 || owners[$0] == 2 })
        #expect((claimed..<total + 64).allSatisfy { owners[$0] == 0 })
    }
}
