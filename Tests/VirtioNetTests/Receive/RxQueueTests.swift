// Creation of an RQ, and its counters.
import CleaveHost
import CleaveTestSupport
import CleaveVirtioNet
import Testing

@Suite("RQ")
struct RxQueueTests {
    private static func configuration(
        _ guest: EvilGuest, size: Int = 8, burst: Int = 32
    ) -> RxQueueConfiguration {
        let ring = EvilRing(guest, size: 8, at: EvilRig.ringAddress)
        var addresses = ring.addresses
        addresses.size = size
        return RxQueueConfiguration(
            virtqueue: addresses, features: [], memory: guest.memory, method: .whole, burst: burst)
    }

    @Test("Bursts are 1 to 256", arguments: [-1, 0, 1, 256, 257, Int.max])
    func burst(burst: Int) throws {
        let guest = try EvilGuest()
        let arena = try MemoryArena(byteCount: 1 << 20, pages: .small)
        do throws(SetupError) {
            _ = try RxQueue(Self.configuration(guest, burst: burst), in: arena)
            #expect((1...256).contains(burst))
        } catch {
            #expect(error.description == "burst \(burst) is not between 1 and 256")
        }
    }

    /// What only some methods obey: how to set it, its name in the refusal, and which those are.
    private static let settings:
        [(
            set: @Sendable (inout RxQueueConfiguration, HeaderQueue) -> Void, name: String,
            users: Set<RxMethod.Kind>
        )] = [
            ({ $0.headerQueue = $1 }, "a header queue", [.d]),
            ({ queue, _ in queue.splitPolicy.placesTinyPackets = true }, "placesTinyPackets", [.d]),
            ({ queue, _ in queue.splitPolicy.zeroPads = true }, "zeroPads", [.d]),
            (
                { queue, _ in queue.splitPolicy.threshold = 1 }, "split threshold 1",
                [.a, .b, .c, .d]
            ),
        ]

    @Test(
        "What is set is obeyed or refused by its name, whatever the method",
        arguments: [
            .whole, .headerDescriptor, .headerPage, .alternating(headerBufferByteCount: 128),
            .headerQueue(.usedLength), .headerQueue(.netHeader),
        ] as [RxMethod])
    func nothingIsIgnored(method: RxMethod) throws {
        let guest = try EvilGuest()
        let slots = EvilHeaderQueue(guest, slotSize: 128, slotCount: 8, at: 0x1_2000)
        let headers = try HeaderQueue(slots.layout, memory: guest.memory)
        let arenas = ArenaSupply(chunk: 1 << 18)
        for (set, name, users) in Self.settings {
            var configuration = Self.configuration(guest)
            configuration.method = method
            configuration.features = .mergeableBuffers
            if method.needsHeaderQueue { configuration.headerQueue = headers }
            set(&configuration, headers)
            do {
                _ = try arenas.queue(configuration)
                #expect(users.contains(method.kind), "\(name)")
            } catch {
                #expect(!users.contains(method.kind), "\(error)")
                let text = "\(error)"
                #expect(text.hasPrefix(name) && text.contains("method \(method.kind.rawValue)"))
            }
        }
    }

    @Test("An impossible ring is refused before memory is taken", arguments: [0, 3, -8, 65536])
    func ring(size: Int) throws {
        let guest = try EvilGuest()
        let arena = try MemoryArena(byteCount: 4096, pages: .small)
        let refusal = #expect(throws: SetupError.self) {
            try RxQueue(Self.configuration(guest, size: size), in: arena)
        }
        #expect(refusal?.description.hasPrefix("split ring size \(size)") == true)
        #expect(arena.usedBytes == 0)
    }

    @Test("arenaByteCount is enough, and an arena that is too small is named")
    func arena() throws {
        let guest = try EvilGuest()
        try withEvery(Axis("size", [1, 2, 8, 256, 1024]), Axis("burst", [1, 32, 256])) {
            size, burst in
            let guest = try EvilGuest()
            let ring = EvilRing(guest, size: size, at: EvilRig.ringAddress)
            let configuration = RxQueueConfiguration(
                virtqueue: ring.addresses, features: [], memory: guest.memory, method: .whole,
                burst: burst)
            let arena = try MemoryArena(
                byteCount: configuration.arenaByteCount, pages: .small)
            _ = try RxQueue(configuration, in: arena)
        }
        let small = try MemoryArena(byteCount: 4096, pages: .small)
        let refusal = #expect(throws: SetupError.self) {
            try RxQueue(Self.configuration(guest), in: small)
        }
        #expect(refusal?.description.hasPrefix("queue memory: ") == true)
    }

    @Test("Counters of several RQs add up, reason by reason")
    func sum() {
        var left = RxCounters()
        left.packets = 3
        left.fallback = [.noSlot: 1, .headerTooLong: 2]
        left.dropped = [.runt: 5]
        var right = RxCounters()
        right.packets = 4
        right.fault = .loop
        right.fallback = [.noSlot: 7]
        right.dropped = [.noBuffer: 2, .runt: 1]
        let sum = left + right
        #expect(sum.packets == 7 && sum.fault == .loop)
        #expect(sum.fallback == [.noSlot: 8, .headerTooLong: 2] && sum.fallbackTotal == 10)
        #expect(sum.dropped == [.runt: 6, .noBuffer: 2] && sum.droppedTotal == 8)
    }

    @Test("A queue is resumed where another stopped")
    func resume() throws {
        let rig = try EvilRig()
        for head in 0..<8 { rig.post(head) }
        rig.enqueue([TestFrames.tcp4([1]), TestFrames.tcp4([2]), TestFrames.tcp4([3])])
        var addresses = rig.ring.addresses
        addresses.base = rig.queue.base
        let arenas = ArenaSupply(chunk: 1 << 18)
        let next = try arenas.queue(
            RxQueueConfiguration(
                virtqueue: addresses, features: .mergeableBuffers, memory: rig.guest.memory,
                method: .whole))
        #expect(rig.port.enqueue([TestFrames.tcp4([4])], to: next).fates == [true])
        #expect(rig.used.map(\.head) == [0, 1, 2, 3])
        #expect(next.base == 4)
    }
}
