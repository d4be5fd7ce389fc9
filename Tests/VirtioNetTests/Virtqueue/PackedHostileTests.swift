// Packed rings that lie (catalogue B24, B27 to B30, B33).
import CleaveRings
import CleaveTestSupport
import CleaveVirtioNet
import Testing

private let write = DescriptorFlags.write
private let next = DescriptorFlags.next
private let packet = TestFrames.tcp4(TestFrames.payload(1000))

@Suite("Hostile packed ring")
struct PackedHostileTests {
    @Test("B27: flags of another lap are not available")
    func staleWrap() throws {
        for start in 0..<16 {
            let rig = try PackedRig(start: start)
            for owner in [UInt16(0), 0x80, 0x8000, 0x8080] where owner != rig.ring.available(start)
            {
                rig.ring.write(start, EvilRig.page(0), 4096, flags: owner | write, id: 0)
                #expect(rig.enqueue([packet]).result.consumed == 0)
            }
            #expect(rig.queue.counters.fault == .none)
            rig.post(0)
            #expect(rig.enqueue([packet]).fates == [true])
        }
    }

    @Test(
        "B22, B28, B33: descriptors that become available again and change all the time",
        arguments: [
            RxMethod.whole, .headerQueue(.netHeader), .headerQueue(.usedLength),
        ])
    func endless(method: RxMethod) throws {
        let size = 5
        let guest = try EvilGuest()
        let ring = PackedEvilRing(guest, size: size, at: EvilRig.ringAddress)
        let base = Int(bitPattern: guest.pointer(ring.descriptorRing))
        let flipper = Flipper { random in
            let bits = random.next()
            let index = bits % UInt64(size)
            let address = base + Int(index) * 16
            guard let place = UnsafeMutableRawPointer(bitPattern: address) else { return }
            SharedWord64(place).store(
                random.chance(3) ? UInt64.max - 60 : EvilRig.page(Int(bits >> 8 & 7)))
            let owner: UInt64 = bits >> 12 & 1 == 0 ? 0x80 : 0x8000
            let kind = UInt64(
                random.chance(80) ? write : random.pick([write | next, DescriptorFlags.indirect]))
            let length: UInt64 = random.chance(2) ? 0xffff_ffff : 704
            let id = random.chance(2) ? 9 : index
            SharedWord64(place + 8).store(length | id << 32 | (owner | kind) << 48)
        }
        defer { flipper.finish() }
        let packets = [20, 600, 1500, 100].map { TestFrames.tcp4(TestFrames.payload($0)) }
        let arenas = ArenaSupply()
        var faults: Set<QueueFault> = []
        var delivered: UInt64 = 0
        var queues = 0
        while queues < 100 || (faults.count < 3 && queues < 3000) {
            queues += 1
            let rig = try PackedRig(
                size: size, features: [.mergeableBuffers, .indirectDescriptors], method: method,
                slots: (128, 8), start: queues % (2 * size), guest: guest, arenas: arenas)
            for _ in 0..<20 {
                let before = rig.queue.counters.buffers
                rig.headers?.setTail(UInt32(rig.queue.counters.slots) &+ 8)
                rig.enqueue(packets + packets + packets)
                #expect(rig.queue.counters.buffers - before <= size)
            }
            faults.insert(rig.queue.counters.fault)
            delivered += rig.queue.counters.packets
        }
        #expect(guest.bandsAreIntact)
        #expect(delivered > 0 && faults.count > 2, "\(faults)")
    }

    @Test("B29: an id that is not below the size breaks the queue", arguments: [1, 3, 8, 300])
    func idOutOfRange(size: Int) throws {
        for id in [size, size + 1, 2 * size, 32768, 65535] {
            let rig = try PackedRig(size: size)
            rig.post(id)
            expectBroken(rig, .id, "size \(size), id \(id)")
            let chained = try PackedRig(size: max(2, size))
            guard id >= 2 else { continue }
            chained.ring.post([(EvilRig.page(0), 100), (EvilRig.page(1), 4096)], id: id)
            expectBroken(chained, .id, "list, size \(size), id \(id)")
            let table = try PackedRig(size: size, features: .indirectDescriptors)
            table.guest.write([UInt8](repeating: 0, count: 16), at: EvilRig.page(9))
            table.ring.postTable(EvilRig.page(9), 16, id: id)
            table.guest.put(UInt16(write), at: EvilRig.page(9) + 14)
            expectBroken(table, .id, "table, size \(size), id \(id)")
        }
    }

    @Test("B30: a list without its end waits, and breaks the queue in the end")
    func unfinishedList() throws {
        for completes in [true, false] {
            let rig = try PackedRig(size: 6, start: 5)
            rig.ring.describe(5, EvilRig.page(0), 500, flags: write | next)
            rig.ring.describe(6, EvilRig.page(1), 400, flags: write | next)
            let image = rig.guest.image()
            for _ in 0..<900 { #expect(rig.enqueue([packet]).result.consumed == 0) }
            #expect(image.isUnchanged && rig.queue.counters.fault == .none)
            if completes {
                rig.ring.describe(7, EvilRig.page(2), 400, id: 4)
                #expect(rig.enqueue([packet]).fates == [true])
                #expect(rig.ring.used(5) == .init(id: 4, length: 1066))
                #expect(rig.queue.base == rig.ring.base(8))
            } else {
                for _ in 0..<200 { rig.enqueue([packet]) }
                #expect(rig.queue.counters.fault == .unfinishedList)
                #expect(rig.guest.bandsAreIntact && rig.ring.used(5) == nil)
            }
        }
    }

    @Test("B30: NEXT in every descriptor of the ring", arguments: 1...9)
    func endlessList(size: Int) throws {
        let rig = try PackedRig(size: size)
        for place in 0..<size { rig.ring.describe(place, EvilRig.page(0), 1, flags: write | next) }
        for _ in 0..<1100 where rig.queue.counters.fault == .none { rig.enqueue([packet]) }
        #expect(rig.queue.counters.fault == .unfinishedList)
        #expect(rig.guest.bandsAreIntact)
    }

    @Test("B24: addresses, sizes and bases are checked at activation")
    func activation() throws {
        let guest = try EvilGuest()
        let arenas = ArenaSupply()
        func refusal(_ change: (inout VirtqueueAddresses) -> Void) -> String? {
            var addresses = PackedEvilRing(guest, size: 8, at: EvilRig.ringAddress).addresses
            change(&addresses)
            do {
                _ = try arenas.queue(
                    RxQueueConfiguration(
                        virtqueue: addresses, features: [], memory: guest.memory, method: .whole))
                return nil
            } catch { return "\(error)" }
        }
        for size in [0, -1, 32769, Int.min] {
            #expect(
                refusal { $0.size = size }
                    == "packed ring size \(size) is not between 1 and 32768")
        }
        for size in [1, 3, 7, 100, 255] {
            #expect(
                refusal {
                    $0.size = size
                    $0.base = 0x8000
                } == nil)
        }
        #expect(
            refusal { $0.base = 8 } == "packed ring base 0x8 is not inside a ring of 8 descriptors")
        #expect(refusal { $0.descriptorArea.rawValue += 8 }?.contains("16 bytes") == true)
        #expect(refusal { $0.driverArea.rawValue += 2 }?.contains("driver event") == true)
        #expect(refusal { $0.deviceArea.rawValue = 0 }?.contains("device event") == true)
    }
}
