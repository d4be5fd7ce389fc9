// IN_ORDER: the meaning of one used entry for several buffers, byte by byte, and which methods may
// not use one.
import CleaveGuestDriver
import CleaveHost
import CleaveTestSupport
import CleaveVirtioNet
import Testing

@Suite("IN_ORDER")
struct InOrderTests {
    /// 3000 bytes whole over buffers of 1024: two full ones and a rest.
    private static let packet = SourcePacket(TestFrames.opaque(3000))

    private struct Rig {
        let space: GuestSpace
        let driver: RxDriver
        let queue: RxQueue
        let port = MockPort()
        let arenas = ArenaSupply()

        init(_ ring: RingFormat, inOrder: Bool, method: RxMethod = .whole) throws {
            space = try GuestSpace(byteCount: 1 << 20, pages: .small)
            let headerQueue =
                method.needsHeaderQueue
                ? try DriverHeaderQueue(slotSize: 128, slotCount: 8, in: space) : nil
            let configuration = RxDriverConfiguration(
                ringSize: 8, ring: ring, shape: .mergeable(bufferByteCount: 1024),
                method: method, headerQueue: headerQueue, features: inOrder ? .inOrder : [])
            let memory = space.memory
            driver = try RxDriver(configuration, in: space)
            queue = try arenas.queue(
                RxQueueConfiguration(
                    virtqueue: driver.virtqueue, features: configuration.allFeatures,
                    memory: memory, method: method,
                    headerQueue: try headerQueue.map {
                        try HeaderQueue($0.layout, memory: memory)
                    }))
            driver.refill()
        }

        /// Where used entry or descriptor `index` has length and id.
        private func entry(_ index: Int) -> UnsafeMutableRawPointer {
            let areas = driver.virtqueue
            let base = areas.format == .split ? areas.deviceArea : areas.descriptorArea
            let offset = areas.format == .split ? 4 + 8 * index : 16 * index + 8
            return space.memory.translate(base, byteCount: 8 * 16)! + offset
        }

        /// The device's report of a buffer.
        func used(_ index: Int) -> (id: Int, byteCount: Int) {
            let word = entry(index).loadUnaligned(as: UInt64.self)
            // Split: id, then length. Packed: length, then id and flags.
            return driver.virtqueue.format == .split
                ? (Int(word & 0xffff), Int(word >> 32))
                : (Int(word >> 32 & 0xffff), Int(word & 0xffff_ffff))
        }

        /// Makes entry `first` report the buffers up to `last`, as IN_ORDER allows: with that one's
        /// id and length.
        func join(_ first: Int, _ last: Int) {
            let count = driver.virtqueue.format == .split ? 8 : 6
            entry(first).copyMemory(from: entry(last), byteCount: count)
        }
    }

    @Test("A device here gives each buffer an entry of its own", arguments: RingFormat.allCases)
    func entries(ring: RingFormat) throws {
        let rig = try Rig(ring, inOrder: true)
        #expect(rig.port.enqueue([Self.packet], to: rig.queue).fates == [true])
        for (index, length) in [1024, 1024, 3012 - 2048].enumerated() {
            let (id, written) = rig.used(index)
            #expect(id == index && written == length)
        }
        #expect(rig.driver.harvest() == 1 && rig.driver.packets[0].byteCount == 3000)
    }

    @Test("The driver takes one that stands for a packet's buffers", arguments: RingFormat.allCases)
    func batch(ring: RingFormat) throws {
        for inOrder in [true, false] {
            let rig = try Rig(ring, inOrder: inOrder)
            #expect(rig.port.enqueue([Self.packet], to: rig.queue).fates == [true])
            rig.join(0, 2)
            if inOrder {
                #expect(rig.driver.harvest() == 1 && rig.driver.packets[0].byteCount == 3000)
                #expect(rig.driver.packets[0].bufferCount == 3 && rig.driver.fault == .none)
            } else {
                // Without IN_ORDER the entry does not mean that.
                #expect(rig.driver.harvest() == 0 || rig.driver.packets[0].byteCount != 3000)
            }
        }
    }

    @Test("Buffers that are not full have entries of their own", arguments: RingFormat.allCases)
    func notFull(ring: RingFormat) throws {
        // Method B leaves the rest of the first buffer unused, whatever follows.
        let rig = try Rig(ring, inOrder: true, method: .headerPage)
        let packets = [
            SourcePacket(TestFrames.tcp4(TestFrames.payload(2000))),
            SourcePacket(TestFrames.tcp4(TestFrames.payload(10))),
        ]
        #expect(rig.port.enqueue(packets, to: rig.queue).fates == [true, true])
        #expect(rig.driver.harvest() == 2)
        #expect(rig.driver.packets.map(\.byteCount) == packets.map(\.bytes.count))
        #expect(rig.driver.packets.map(\.bufferCount) == [3, 2])
        #expect(rig.driver.packets.allSatisfy(\.isSplit) && rig.driver.fault == .none)
    }

    @Test("The slot of a packet over several buffers stays with it", arguments: RingFormat.allCases)
    func slots(ring: RingFormat) throws {
        let rig = try Rig(ring, inOrder: true, method: .headerQueue(.usedLength))
        let packets = (0..<2).map {
            SourcePacket(TestFrames.tcp4(TestFrames.payload(2500, seed: $0)))
        }
        for _ in 0..<9 {
            #expect(rig.port.enqueue(packets, to: rig.queue).fates == [true, true])
            #expect(rig.driver.harvest() == 2)
            #expect(rig.driver.packets.allSatisfy { $0.isSplit && $0.bufferCount == 3 })
            rig.driver.finish()
            rig.driver.refill()
        }
        #expect(rig.driver.fault == .none)
    }

    @Test("A split ring that the chains do not fill is refused")
    func refused() throws {
        let space = try GuestSpace(byteCount: 1 << 20, pages: .small)
        let configuration = RxDriverConfiguration(
            ringSize: 8, shape: .chained(bufferByteCount: 512, packetByteCount: 1500),
            method: .whole, features: .inOrder)
        #expect(throws: SetupError.self) { try RxDriver(configuration, in: space) }
    }
}
