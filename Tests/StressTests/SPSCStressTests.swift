// The ring between two real threads: every element arrives once, in order, and unharmed.
import CleaveHost
import CleaveRings
import Testing

@Suite("SPSC ring between two threads")
struct SPSCStressTests {
    struct Element: BitwiseCopyable {
        var number: UInt64
        var check: UInt64
        init(_ number: UInt64) {
            self.number = number
            check = ~number &* 3
        }
        var isIntact: Bool { check == ~number &* 3 }
    }

    private struct Outcome {
        var received: UInt64 = 0
        var sum: UInt64 = 0
        var wrong = 0
    }

    @Test("Sum and order", arguments: [1, 2, 16, 256], [1, 5, 32])
    func sumAndOrder(_ capacity: Int, _ burst: Int) throws {
        let total: UInt64 = capacity < 16 ? 20_000 : 200_000
        let byteCount = SPSCRing<Element>.byteCount(capacity: capacity)
        let memory = UnsafeMutableRawPointer.allocate(
            byteCount: byteCount, alignment: CacheLine.byteCount)
        defer { memory.deallocate() }
        let ring = SPSCRing<Element>(memory: memory, capacity: capacity)
        // Near the wrap of the cursors, which is passed on the way.
        SharedWord32(memory).store(UInt32.max - 10_000)
        SharedWord32(memory + 128).store(UInt32.max - 10_000)
        let producer = Held(ring.makeProducer())
        let consumer = Held(ring.makeConsumer())
        let outcome = Held(Outcome())
        try inThreads([
            { Self.produce(&producer.pointer.pointee, total, burst) },
            { outcome.pointer.pointee = Self.consume(&consumer.pointer.pointee, total, burst) },
        ])
        let result = outcome.pointer.pointee
        #expect(result.received == total)
        #expect(result.sum == total * (total - 1) / 2)
        #expect(result.wrong == 0)
        #expect(ring.approximateCount == 0)
    }

    /// Whole bursts alternately with single reserve and commit.
    private static func produce(
        _ producer: inout SPSCProducer<Element>, _ total: UInt64, _ burst: Int
    ) {
        let buffer = UnsafeMutablePointer<Element>.allocate(capacity: burst)
        defer { buffer.deallocate() }
        var sent: UInt64 = 0
        var patience = Patience()
        while sent < total {
            let wanted = min(burst, Int(total - sent))
            let taken: Int
            if sent & 1 == 0 {
                for offset in 0..<wanted {
                    (buffer + offset).initialize(to: Element(sent + UInt64(offset)))
                }
                taken = producer.push(buffer, count: wanted)
            } else {
                taken = producer.reserve(wanted)
                for offset in 0..<taken { producer[offset] = Element(sent + UInt64(offset)) }
                if taken > 0 { producer.commit(taken) }
            }
            sent += UInt64(taken)
            if !patience.wait(after: taken) { return }
        }
    }

    private static func consume(
        _ consumer: inout SPSCConsumer<Element>, _ total: UInt64, _ burst: Int
    ) -> Outcome {
        let buffer = UnsafeMutablePointer<Element>.allocate(capacity: burst)
        defer { buffer.deallocate() }
        var outcome = Outcome()
        var patience = Patience()
        func accept(_ slot: Element) {
            if slot.number != outcome.received || !slot.isIntact { outcome.wrong += 1 }
            outcome.received += 1
            outcome.sum &+= slot.number
        }
        while outcome.received < total {
            let got: Int
            if outcome.received & 1 == 0 {
                got = consumer.pop(into: buffer, count: burst)
                for offset in 0..<got { accept(buffer[offset]) }
            } else {
                got = consumer.peek(burst)
                for offset in 0..<got { accept(consumer[offset]) }
                if got > 0 { consumer.release(got) }
            }
            if !patience.wait(after: got) { break }
        }
        return outcome
    }
}
