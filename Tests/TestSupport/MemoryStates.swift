import CCleaveTestSupport

/// Every state that two areas of memory went through: what a process that was killed on the way
/// would have left, whatever the moment.
public struct MemoryStates {
    private let areas: [UnsafeMutableRawBufferPointer]
    private let states: [[UInt8]]

    /// Most states of one run.
    private static let capacity = 4096

    /// Runs `body` and watches.
    /// - Parameters:
    ///   - first: an area at the start of a page that holds nothing else, at most as large.
    ///   - second: another one.
    /// - Returns: nil, and `body` was not run, on processors on which nothing can be watched.
    public init?(
        of first: UnsafeMutableRawBufferPointer, _ second: UnsafeMutableRawBufferPointer,
        during body: () -> Void
    ) {
        let each = first.count + second.count
        let room = UnsafeMutableRawBufferPointer.allocate(
            byteCount: each * Self.capacity, alignment: 8)
        defer { room.deallocate() }
        let result = memory_states_begin(
            first.baseAddress, first.count, second.baseAddress, second.count, room.baseAddress,
            Self.capacity)
        if result != 0 { return nil }
        body()
        let count = memory_states_end()
        precondition(count > 0, "more than \(Self.capacity) states")
        areas = [first, second]
        states = (0..<count).map { Array(room[$0 * each..<($0 + 1) * each]) }
    }

    public var indices: Range<Int> { states.indices }

    /// Puts memory into a state again.
    public func restore(_ index: Int) {
        areas[0].copyBytes(from: states[index][..<areas[0].count])
        areas[1].copyBytes(from: states[index][areas[0].count...])
    }
}
