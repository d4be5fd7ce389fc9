// The facts that Primitives.swift and SPSCRing.swift build on.
@testable import CleaveRings
import Synchronization
import Testing

@Suite("Layout of shared words and rings")
struct LayoutTests {
    private func sameLayout<Value, Cell: ~Copyable>(_ value: Value.Type, _ cell: Cell.Type) -> Bool
    {
        MemoryLayout<Value>.size == MemoryLayout<Cell>.size
            && MemoryLayout<Value>.stride == MemoryLayout<Cell>.stride
            && MemoryLayout<Value>.alignment == MemoryLayout<Cell>.alignment
    }

    @Test("An atomic has the layout of its integer")
    func atomics() {
        #expect(sameLayout(UInt16.self, Atomic<UInt16>.self))
        #expect(sameLayout(UInt32.self, Atomic<UInt32>.self))
        #expect(sameLayout(UInt64.self, Atomic<UInt64>.self))
        #expect(MemoryLayout<Atomic<UInt16>>.size == 2)
        #expect(MemoryLayout<Atomic<UInt32>>.size == 4)
        #expect(MemoryLayout<Atomic<UInt64>>.size == 8)
    }

    @Test("A shared word reads and writes exactly the bytes at its address")
    func bytes() {
        let memory = UnsafeMutableRawPointer.allocate(byteCount: 24, alignment: 8)
        defer { memory.deallocate() }
        memory.initializeMemory(as: UInt8.self, repeating: 0xee, count: 24)
        SharedWord16(memory + 2).store(0x0102)
        SharedWord32(memory + 4).storeRelease(0x0304_0506)
        SharedWord64(memory + 8).store(0x0708_090a_0b0c_0d0e)
        #expect(memory.loadUnaligned(as: UInt16.self) == 0xeeee)
        #expect(memory.loadUnaligned(fromByteOffset: 2, as: UInt16.self) == 0x0102)
        #expect(memory.loadUnaligned(fromByteOffset: 4, as: UInt32.self) == 0x0304_0506)
        #expect(memory.loadUnaligned(fromByteOffset: 8, as: UInt64.self) == 0x0708_090a_0b0c_0d0e)
        #expect(memory.loadUnaligned(fromByteOffset: 16, as: UInt64.self) == 0xeeee_eeee_eeee_eeee)
        memory.storeBytes(of: 0x1122, toByteOffset: 2, as: UInt16.self)
        #expect(SharedWord16(memory + 2).load() == 0x1122)
        #expect(SharedWord16(memory + 2).loadAcquire() == 0x1122)
        #expect(SharedWord16(memory + 2).loadSequential() == 0x1122)
    }

    @Test("Read-modify-writes return what was there")
    func readModifyWrite() {
        let word = SharedWord64(.allocate(byteCount: 8, alignment: 8))
        defer { word.cell.deallocate() }
        word.store(5)
        let lost = word.compareExchange(expected: 4, desired: 9)
        #expect(!lost.exchanged && lost.original == 5 && word.load() == 5)
        let won = word.compareExchange(expected: 5, desired: 9)
        #expect(won.exchanged && won.original == 5 && word.load() == 9)
        #expect(word.fetchOr(0b0110) == 9)
        #expect(word.load() == 0b1111)
        word.fetchAdd(1)
        word.addSingleWriter(2)
        #expect(word.loadAcquire() == 18)
    }

    @Test("Published indices lie 128 bytes apart, slots behind them on a line of their own")
    func ringLayout() {
        let memory = RingMemory<UInt64>(capacity: 4)
        var producer = memory.ring.makeProducer()
        var consumer = memory.ring.makeConsumer()
        let value: UInt64 = 0x0123_4567_89ab_cdef
        #expect(withUnsafePointer(to: value) { producer.push($0, count: 1) } == 1)
        #expect(memory.memory.load(as: UInt32.self) == 1)
        #expect(memory.memory.load(fromByteOffset: 128, as: UInt32.self) == 0)
        #expect(memory.memory.load(fromByteOffset: 256, as: UInt64.self) == value)
        consumer.release(consumer.peek(1))
        #expect(memory.memory.load(fromByteOffset: 128, as: UInt32.self) == 1)
        #expect(SPSCRing<UInt64>.byteCount(capacity: 1) == 256 + 128)
        #expect(SPSCRing<UInt64>.byteCount(capacity: 16) == 256 + 128)
        #expect(SPSCRing<Slot24>.byteCount(capacity: 16) == 256 + 384)
    }

    @Test("Sizes round up to whole lines", arguments: [(0, 0), (1, 128), (128, 128), (129, 256)])
    func roundedUp(_ byteCount: Int, _ rounded: Int) {
        #expect(CacheLine.roundedUp(byteCount) == rounded)
    }

    @Test("Alignment to a line is seen for every offset")
    func aligned() {
        let memory = UnsafeMutableRawPointer.allocate(byteCount: 384, alignment: 128)
        defer { memory.deallocate() }
        for offset in 0..<384 {
            #expect(CacheLine.isAligned(memory + offset) == (offset % 128 == 0))
        }
    }
}
