// The ring against a naive queue, over every small capacity and cursors at and around the wrap.
import CleaveRings
import CleaveTestSupport
import Testing

/// Three words: an element whose size is no power of two.
struct Slot24: BitwiseCopyable, Equatable {
    var a: UInt64
    var b: UInt64
    var c: UInt64
}

struct Slot16: BitwiseCopyable, Equatable {
    var a: UInt64
    var b: UInt64
}

/// An element made from a number, different in every word.
protocol NumberedSlot: BitwiseCopyable, Equatable {
    init(number: UInt64)
}
extension UInt64: NumberedSlot { init(number: UInt64) { self = number } }
extension Slot16: NumberedSlot {
    init(number: UInt64) { self.init(a: number, b: ~number) }
}
extension Slot24: NumberedSlot {
    init(number: UInt64) { self.init(a: number, b: ~number, c: number &* 0x9e37_79b9) }
}

/// A ring and its naive twin, moved together.
struct TwinRing<Element: NumberedSlot>: ~Copyable {
    let memory: RingMemory<Element>
    var producer: SPSCProducer<Element>
    var consumer: SPSCConsumer<Element>
    var naive: [Element] = []
    private var number: UInt64 = 1
    private let buffer: UnsafeMutablePointer<Element>

    init(capacity: Int, start: UInt32) {
        memory = RingMemory(capacity: capacity, start: start)
        producer = memory.ring.makeProducer()
        consumer = memory.ring.makeConsumer()
        buffer = .allocate(capacity: 64)
        buffer.initialize(repeating: Element(number: 0), count: 64)
    }

    deinit { buffer.deallocate() }

    var capacity: Int { memory.ring.capacity }
    var free: Int { capacity - naive.count }

    mutating func next() -> Element {
        number &+= 1
        return Element(number: number)
    }

    /// - Returns: whether ring and twin agree.
    mutating func push(_ count: Int) -> Bool {
        let elements = (0..<count).map { _ in next() }
        let taken = elements.withUnsafeBufferPointer {
            $0.isEmpty
                ? producer.push(buffer, count: 0) : producer.push($0.baseAddress!, count: count)
        }
        let expected = min(count, free)
        naive += elements.prefix(expected)
        return taken == expected
    }

    /// Reserves `count`, writes as many as fit, commits `committed` of them.
    mutating func reserve(_ count: Int, commit committed: Int) -> Bool {
        let reserved = producer.reserve(count)
        guard reserved == min(count, free) else { return false }
        let elements = (0..<reserved).map { _ in next() }
        for (offset, element) in elements.enumerated() { producer[offset] = element }
        for (offset, element) in elements.enumerated() where producer[offset] != element {
            return false
        }
        let kept = min(committed, reserved)
        if kept > 0 { producer.commit(kept) }
        naive += elements.prefix(kept)
        return true
    }

    mutating func pop(_ count: Int) -> Bool {
        let got = consumer.pop(into: buffer, count: count)
        let expected = Array(naive.prefix(count))
        naive.removeFirst(expected.count)
        return Array(UnsafeBufferPointer(start: buffer, count: got)) == expected
    }

    /// Copies `count`, which must change nothing, then releases `released` of them.
    mutating func copy(_ count: Int, release released: Int) -> Bool {
        let got = consumer.copy(into: buffer, count: count)
        guard Array(UnsafeBufferPointer(start: buffer, count: got)) == Array(naive.prefix(count))
        else { return false }
        guard consumer.peek(count) == got else { return false }
        let gone = min(released, got)
        if gone > 0 { consumer.release(gone) }
        naive.removeFirst(gone)
        return true
    }

    /// Checks the readable elements, one by one.
    mutating func peek(_ count: Int) -> Bool {
        let ready = consumer.peek(count)
        guard ready == min(count, naive.count) else { return false }
        for offset in 0..<ready where consumer[offset] != naive[offset] { return false }
        return true
    }
}

@Suite("SPSC ring against a naive queue")
struct SPSCRingTests {
    /// Every burst of pushes followed by every burst of pops, from every fill and start.
    private func bursts<Element: NumberedSlot>(_ type: Element.Type) {
        for capacity in smallCapacities {
            for start in cursorStarts {
                var twin = TwinRing<Element>(capacity: capacity, start: start)
                var agree = true
                for pushed in 0...(capacity + 1) {
                    for popped in 0...(capacity + 1) {
                        agree = agree && twin.push(pushed) && twin.peek(capacity + 1)
                        agree = agree && twin.pop(popped)
                    }
                }
                agree = agree && twin.pop(capacity) && twin.pop(1)
                #expect(agree, "capacity \(capacity), start \(start), \(type)")
                #expect(twin.naive.isEmpty)
            }
        }
    }

    @Test("Bursts of 8-byte elements") func bursts8() { bursts(UInt64.self) }
    @Test("Bursts of 16-byte elements") func bursts16() { bursts(Slot16.self) }
    @Test("Bursts of 24-byte elements") func bursts24() { bursts(Slot24.self) }

    @Test("Reserving without committing changes nothing; committing less keeps the first")
    func cancel() {
        for capacity in smallCapacities {
            for start in cursorStarts {
                var twin = TwinRing<Slot24>(capacity: capacity, start: start)
                var agree = true
                for reserved in 0...(capacity + 1) {
                    for committed in 0...reserved {
                        agree = agree && twin.reserve(reserved, commit: 0)
                        agree = agree && twin.peek(capacity + 1)
                        agree = agree && twin.reserve(reserved, commit: committed)
                        agree = agree && twin.peek(capacity + 1)
                        agree = agree && twin.pop(committed / 2 + 1)
                    }
                }
                #expect(agree, "capacity \(capacity), start \(start)")
            }
        }
    }

    @Test("Copying leaves elements in the ring; a part may be released")
    func copyAndRelease() {
        for capacity in smallCapacities {
            for start in cursorStarts {
                var twin = TwinRing<Slot16>(capacity: capacity, start: start)
                var agree = true
                for copied in 0...(capacity + 1) {
                    for released in 0...copied {
                        agree = agree && twin.push(capacity)
                        agree = agree && twin.copy(copied, release: 0)
                        agree = agree && twin.copy(copied, release: released)
                    }
                }
                #expect(agree, "capacity \(capacity), start \(start)")
            }
        }
    }

    @Test("Random operations, long enough to go round many times")
    func random() {
        for capacity in smallCapacities {
            var random = SeededRandom(seed: UInt64(capacity))
            var twin = TwinRing<Slot16>(capacity: capacity, start: UInt32.max - 1000)
            var agree = true
            for _ in 0..<4000 {
                let (count, part) = (random.int(0...capacity + 2), random.int(0...capacity + 2))
                switch random.int(0...4) {
                case 0: agree = agree && twin.push(count)
                case 1: agree = agree && twin.reserve(count, commit: part)
                case 2: agree = agree && twin.pop(count)
                case 3: agree = agree && twin.copy(count, release: part)
                default: agree = agree && twin.peek(count)
                }
            }
            #expect(agree, "capacity \(capacity)")
            #expect(twin.memory.ring.approximateCount == twin.naive.count)
        }
    }

    @Test("Ends made anew go on where the old ones stopped")
    func newEnds() {
        for start in cursorStarts {
            let memory = RingMemory<UInt64>(capacity: 4, start: start)
            let values: [UInt64] = [11, 12, 13]
            do {
                var producer = memory.ring.makeProducer()
                #expect(producer.push(values, count: 3) == 3)
                var consumer = memory.ring.makeConsumer()
                #expect(consumer.peek(1) == 1)
                consumer.release(1)
            }
            var producer = memory.ring.makeProducer()
            var consumer = memory.ring.makeConsumer()
            #expect(memory.ring.approximateCount == 2)
            #expect(producer.reserve(4) == 2)
            #expect(consumer.peek(4) == 2 && consumer[0] == 12 && consumer[1] == 13)
        }
    }

    @Test("A record of any length is written and read in pieces, wherever the ring ends")
    func pieces() {
        for start in cursorStarts {
            for count in 1...8 {
                for cut in 0...count {
                    let memory = RingMemory<UInt64>(capacity: 8, start: start)
                    var producer = memory.ring.makeProducer()
                    var consumer = memory.ring.makeConsumer()
                    let values = (0..<UInt64(count)).map { $0 + 100 }
                    #expect(producer.reserve(count) == count)
                    producer.write(Array(values[cut...]), count: count - cut, at: cut)
                    producer.write(values, count: cut, at: 0)
                    #expect(consumer.peek(1) == 0, "nothing is handed over yet")
                    producer.commit(count)
                    #expect(consumer.peek(count) == count)
                    var read = [UInt64](repeating: 0, count: count)
                    consumer.read(into: &read, count: cut, at: 0)
                    read.withUnsafeMutableBufferPointer {
                        consumer.read(
                            into: $0.baseAddress! + cut, count: count - cut, at: cut)
                    }
                    #expect(read == values)
                    #expect(consumer.peek(count) == count, "reading takes nothing")
                }
            }
        }
    }
}
