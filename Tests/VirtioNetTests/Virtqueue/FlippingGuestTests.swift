// A second thread rewrites descriptors and ring entries while the device works on them (B22, B23).
// The result may be anything but an access outside guest memory.
import CleaveRings
import CleaveTestSupport
import CleaveVirtioNet
import Foundation
import Testing

/// A thread that keeps calling `body` with growing numbers until told to stop.
final class Flipper: @unchecked Sendable {
    // SAFETY: the stop word is atomic; the semaphore orders everything else.
    private let stop: SharedWord32
    private let word: UnsafeMutableRawPointer
    private let done = DispatchSemaphore(value: 0)

    init(_ body: @escaping @Sendable (inout SeededRandom) -> Void) {
        word = .allocate(byteCount: 4, alignment: 4)
        word.storeBytes(of: 0, as: UInt32.self)
        stop = SharedWord32(word)
        let stop = stop
        let done = done
        Thread.detachNewThread {
            var random = SeededRandom(seed: 22)
            while stop.loadAcquire() == 0 { body(&random) }
            done.signal()
        }
    }

    /// Returns once the thread has made its last call.
    func finish() {
        stop.storeRelease(1)
        done.wait()
        word.deallocate()
    }
}

@Suite("Guest that changes its mind")
struct FlippingGuestTests {
    private static let size = 8

    /// Words that are right, nearly right and wrong, for either half of a descriptor.
    private static let addresses: [UInt64] = [
        EvilRig.page(0), EvilRig.page(3), EvilRig.dataAddress + UInt64(EvilRig.dataByteCount) - 100,
        EvilRig.page(20) + 1, 0, UInt64.max - 50, EvilRig.page(30), EvilRig.page(31),
    ]
    private static let halves: [UInt64] = [
        half(4096, DescriptorFlags.write), half(100, DescriptorFlags.write),
        half(2000, DescriptorFlags.write | DescriptorFlags.next, 3),
        half(0, DescriptorFlags.write), half(0xffff_ffff, DescriptorFlags.write),
        half(32, DescriptorFlags.indirect), half(48, DescriptorFlags.indirect),
        half(1000, 0), half(500, DescriptorFlags.write | DescriptorFlags.next, 9),
        half(4096, DescriptorFlags.write),
    ]

    private static func half(_ length: UInt64, _ flags: UInt16, _ next: UInt64 = 0) -> UInt64 {
        length | UInt64(flags) << 32 | next << 48
    }

    private static func makeFlipper(_ guest: EvilGuest, _ ring: EvilRing) -> Flipper {
        let table = Int(bitPattern: guest.pointer(ring.descriptorTable))
        let avail = Int(bitPattern: guest.pointer(ring.availRing))
        return Flipper { random in
            let bits = random.next()
            let index = Int(bits & 7)
            let place = UnsafeMutableRawPointer(bitPattern: table + index * 16)
            guard let place, let entry = UnsafeMutableRawPointer(bitPattern: avail + 4 + index * 2)
            else { return }
            // Mostly values that work, or no queue would live long enough to be changed under.
            let isHarmless = !random.chance(8)
            switch bits >> 3 & 3 {
            case 0: SharedWord64(place).store(isHarmless ? addresses[0] : random.pick(addresses))
            case 1, 2: SharedWord64(place + 8).store(isHarmless ? halves[0] : random.pick(halves))
            default: SharedWord16(entry).store(UInt16(bits >> 8 & (isHarmless ? 7 : 15)))
            }
        }
    }

    @Test(
        "B22, B23: descriptors that change after the check do no harm outside",
        arguments: [
            RxMethod.whole, .headerQueue(.netHeader), .headerQueue(.usedLength),
        ])
    func flipping(method: RxMethod) throws {
        let guest = try EvilGuest()
        let arenas = ArenaSupply()
        // Indirect tables that never change, with good and bad entries.
        let ring = EvilRing(guest, size: Self.size, at: EvilRig.ringAddress)
        for (page, flags) in [(30, UInt16(3)), (31, 2)] {
            ring.describe(at: EvilRig.page(page), EvilRig.page(5), 700, flags, 1)
            ring.describe(at: EvilRig.page(page) + 16, EvilRig.page(6), 4096, 2)
        }
        for index in 0..<Self.size { ring.describe(index, EvilRig.page(index), 4096) }
        let flipper = Self.makeFlipper(guest, ring)
        defer { flipper.finish() }
        let packets = [20, 700, 1500, 5000].map { TestFrames.tcp4(TestFrames.payload($0)) }
        var faults: Set<QueueFault> = []
        var delivered: UInt64 = 0
        var queues = 0
        // Until the other thread has hit in several ways; it may get little time to run.
        while queues < 150 || (faults.count < 4 && queues < 5000) {
            queues += 1
            let rig = try EvilRig(
                features: [.mergeableBuffers, .indirectDescriptors], method: method,
                slots: (128, 8), guest: guest, arenas: arenas)
            for round in 1...8 {
                // The index only: entries are the other thread's.
                rig.ring.setAvailIndex(UInt16(truncatingIfNeeded: round * 4))
                _ = rig.enqueue(packets)
                if rig.queue.counters.fault != .none { break }
                rig.headers?.setTail(UInt32(rig.queue.counters.slots) &+ 8)
            }
            faults.insert(rig.queue.counters.fault)
            delivered += rig.queue.counters.packets
        }
        #expect(guest.bandsAreIntact)
        #expect(delivered > 0 && faults.count > 3, "\(faults)")
    }
}
