// An RQ that resumes where another device, or the RQ itself, stopped: the driver may have missed a
// call.
import CleaveEngine
import CleaveGuestDriver
import CleaveHost
import CleaveTestSupport
import CleaveVirtioNet
import Testing

@Suite("The first call of an RQ that goes on")
struct FirstCallTests {
    private let port = MockPort()

    /// Delivers `count` packets on the calling thread.
    private func deliver(_ count: Int, _ engine: RxEngine) {
        let packets = (0..<count).map { SourcePacket(TestFrames.udp4([UInt8($0)])) }
        var refs = port.references(packets)
        #expect(engine.submit(0, &refs, count: count) == count)
        #expect(engine.poll(0) == count)
        #expect(engine.reap(0, into: &refs, count: count) == count)
    }

    @Test(
        "An RQ that is reset and enabled, or removed and added, calls once for what it may owe",
        arguments: RingFormat.allCases, [true, false])
    func resumed(format: RingFormat, isReset: Bool) throws {
        let space = try GuestSpace(byteCount: 1 << 20, pages: .small)
        let driver = try RxDriver(
            RxDriverConfiguration(
                ringSize: 32, ring: format, shape: .mergeable(bufferByteCount: 1024),
                method: .whole, features: .eventIndex, burst: 8), in: space)
        let event = try EventDescriptor()
        var queue = RxQueueConfiguration(
            virtqueue: driver.virtqueue, features: driver.configuration.allFeatures,
            memory: space.memory, method: .whole, burst: 8,
            callDescriptor: event.fileDescriptor)
        let engine = try RxEngine(
            queues: [queue], plan: QueuePlan(unpinned: 1), ringCapacity: 16)
        driver.refill()
        deliver(4, engine)
        #expect(driver.harvest() == 4)
        driver.finish()
        // It sleeps until entry 4, and the call for that gets lost.
        driver.setInterrupts(true)
        deliver(1, engine)
        let isLost = event.drain()
        #expect(isLost)
        for _ in 0..<3 {
            if isReset {
                queue.virtqueue.base = try engine.reset(0)
                try engine.enable(0, queue)
            } else {
                queue.virtqueue.base = engine.base(0)
                #expect(try engine.remove(0).isEmpty)
                #expect(try engine.add(queue, at: .init(cpu: nil, node: nil)) == 0)
            }
            #expect(engine.poll(0) == 0)
            let early = event.drain()
            deliver(1, engine)
            let first = event.drain()
            deliver(1, engine)
            let second = event.drain()
            #expect(!early && first && !second)
        }
        // A pause is no start: the RQ knows for which entry it called last.
        try engine.pause(0)
        try engine.resume(0)
        deliver(1, engine)
        let afterPause = event.drain()
        #expect(!afterPause)
    }
}
