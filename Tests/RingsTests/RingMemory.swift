import CleaveRings

/// An SPSC ring over memory of its own, with both cursors anywhere.
final class RingMemory<Element: BitwiseCopyable> {
    let memory: UnsafeMutableRawPointer
    let ring: SPSCRing<Element>

    /// - Parameter start: initial value of both free-running cursors.
    init(capacity: Int, start: UInt32 = 0) {
        let byteCount = SPSCRing<Element>.byteCount(capacity: capacity)
        memory = .allocate(byteCount: byteCount, alignment: CacheLine.byteCount)
        // Earlier contents must not matter.
        memory.initializeMemory(as: UInt8.self, repeating: 0xaa, count: byteCount)
        ring = SPSCRing(memory: memory, capacity: capacity)
        tail.store(start)
        head.store(start)
    }

    deinit { memory.deallocate() }

    /// The published words, by the layout that the ring documents.
    var tail: SharedWord32 { SharedWord32(memory) }
    var head: SharedWord32 { SharedWord32(memory + 128) }
}

/// Starts at 0, in the middle, and so that the cursors pass 2^32 within a few steps.
let cursorStarts: [UInt32] =
    [0, 1, 7, 1 << 31] + (0...17).map { UInt32.max - UInt32($0) }
let smallCapacities = [1, 2, 4, 8, 16]
