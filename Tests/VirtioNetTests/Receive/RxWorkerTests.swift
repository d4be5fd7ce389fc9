// A worker between two rings: submitted packets come back, in order, once done with.
import CleaveHost
import CleaveRings
import CleaveTestSupport
import CleaveVirtioNet
import Testing

private final class WorkerRig {
    let rig: EvilRig
    let worker: RxWorker
    private let arena: MemoryArena
    private let memory: UnsafeMutableRawPointer
    var submissions: SPSCProducer<PacketRef>
    var completions: SPSCConsumer<PacketRef>

    init(capacity: Int = 128, completionCapacity: Int = 128, rig: EvilRig) throws {
        self.rig = rig
        let bytes = SPSCRing<PacketRef>.byteCount(capacity: max(capacity, completionCapacity))
        memory = .allocate(byteCount: 2 * bytes, alignment: 128)
        memory.initializeMemory(as: UInt8.self, repeating: 0, count: 2 * bytes)
        let down = SPSCRing<PacketRef>(memory: memory, capacity: capacity)
        let up = SPSCRing<PacketRef>(memory: memory + bytes, capacity: completionCapacity)
        arena = try MemoryArena(byteCount: RxWorker.arenaByteCount + 4096, pages: .small)
        submissions = down.makeProducer()
        completions = up.makeConsumer()
        worker = try RxWorker(
            queue: rig.queue, submissions: down.makeConsumer(), completions: up.makeProducer(),
            in: arena)
    }

    deinit { memory.deallocate() }

    func submit(_ refs: [PacketRef]) {
        #expect(submissions.push(refs, count: refs.count) == refs.count)
    }

    func completed() -> [PacketRef] {
        var refs = [PacketRef](repeating: PacketRef(address: 1, byteCount: 0), count: 256)
        let count = completions.pop(into: &refs, count: 256)
        return Array(refs.prefix(count))
    }
}

@Suite("Worker")
struct RxWorkerTests {
    @Test("References come back in submission order, dropped ones marked")
    func order() throws {
        let rig = try EvilRig(size: 64, burst: 5)
        let sut = try WorkerRig(rig: rig)
        for head in 0..<40 { rig.post(head) }
        let packets = (0..<20).map {
            SourcePacket($0 % 4 == 3 ? [1, 2, 3] : TestFrames.tcp4([UInt8($0)]))
        }
        sut.submit(rig.port.references(packets))
        var polls: [Int] = []
        repeat { polls.append(sut.worker.poll()) } while polls.last != 0
        #expect(polls == [5, 5, 5, 5, 0])
        let refs = sut.completed()
        #expect(refs.map(\.cookie) == Array(0..<20))
        #expect(refs.map { $0.flags.contains(.dropped) } == (0..<20).map { $0 % 4 == 3 })
        #expect(rig.queue.counters.packets == 15 && rig.queue.counters.dropped == [.runt: 5])
    }

    @Test("No completion is lost when the port does not take them")
    func fullCompletions() throws {
        let rig = try EvilRig(size: 64)
        let sut = try WorkerRig(completionCapacity: 8, rig: rig)
        for head in 0..<64 { rig.post(head) }
        let packets = (0..<20).map { SourcePacket(TestFrames.tcp4([UInt8($0)])) }
        sut.submit(rig.port.references(packets))
        var seen: [UInt16] = []
        #expect(sut.worker.poll() == 8 && sut.worker.poll() == 0)
        #expect(rig.ring.usedIndex == 8)
        while seen.count < 20 {
            let found = sut.completed().map(\.cookie)
            try #require(!found.isEmpty)
            seen += found
            _ = sut.worker.poll()
        }
        #expect(seen == Array(0..<20))
    }

    @Test("Packets without buffers wait in the ring")
    func waiting() throws {
        let rig = try EvilRig()
        let sut = try WorkerRig(rig: rig)
        sut.submit(rig.port.references((0..<3).map { SourcePacket(TestFrames.tcp4([$0])) }))
        #expect(sut.worker.poll() == 0)
        rig.post(0)
        #expect(sut.worker.poll() == 1 && sut.worker.poll() == 0)
        rig.post(1)
        rig.post(2)
        #expect(sut.worker.poll() == 2)
        #expect(sut.completed().map(\.cookie) == [0, 1, 2])
    }

    @Test("A run whose end was not submitted yet waits for it, at the burst's end too")
    func cutOffRun() throws {
        for single in 0...4 {
            let rig = try EvilRig(size: 64, burst: 4)
            let sut = try WorkerRig(rig: rig)
            for head in 0..<64 { rig.post(head) }
            let frame = TestFrames.tcp4(TestFrames.payload(300))
            let run = SourcePacket(
                segments: stride(from: 0, to: 354, by: 6).map {
                    Array(frame[$0..<$0 + 6])
                })
            var packets = (0..<single).map { SourcePacket(TestFrames.tcp4([UInt8($0)])) }
            packets.append(run)
            let refs = rig.port.references(packets)
            sut.submit(Array(refs.dropLast(7)))
            var done = 0
            for _ in 0..<4 { done += sut.worker.poll() }
            #expect(done == single && rig.ring.usedIndex == UInt16(single))
            sut.submit(Array(refs.suffix(7)))
            #expect(sut.worker.poll() == 59)
            let last = sut.completed()
            #expect(last.count == single + 59 && !last.contains { $0.flags.contains(.dropped) })
            #expect(rig.guest.read(EvilRig.page(single) + 12, 354) == frame)
        }
    }

    @Test("A broken queue gives everything back, marked")
    func broken() throws {
        let rig = try EvilRig()
        let sut = try WorkerRig(rig: rig)
        rig.ring.post(99)
        sut.submit(rig.port.references((0..<50).map { _ in SourcePacket(TestFrames.tcp4([])) }))
        var polls = 0
        while polls < 10 && rig.queue.counters.droppedTotal < 50 {
            _ = sut.worker.poll()
            polls += 1
        }
        let refs = sut.completed()
        #expect(refs.count == 50 && refs.allSatisfy { $0.flags.contains(.dropped) })
        #expect(rig.queue.counters.dropped == [.queueBroken: 50])
        #expect(rig.queue.counters.fault == .head)
    }
}
