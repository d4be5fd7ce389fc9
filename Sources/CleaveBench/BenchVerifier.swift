import CleaveGuestDriver
import CleaveVirtioNet

/// Compares what one driver harvests with what was submitted, byte for byte.
///
/// An RQ keeps its packets in order, so the next packet harvested must be the oldest one that came
/// back undropped on the completion ring.
struct BenchVerifier {
    private var expected: [PacketRef] = []
    private var first = 0
    private(set) var result = Verification()
    private(set) var places = PayloadPlaces()
    /// Where headers that came apart from payload began.
    private(set) var headerStarts: Set<UnsafeRawPointer> = []
    private let splits: Bool
    private let placesTiny: Bool

    init(_ benchCase: BenchCase) {
        splits = benchCase.method != .whole
        placesTiny = benchCase.tiny
    }

    /// Delivered packets that have not been seen at the driver.
    var expectedCount: Int { expected.count - first }

    mutating func expect(_ completions: UnsafeBufferPointer<PacketRef>) {
        for ref in completions where !ref.flags.contains(.dropped) { expected.append(ref) }
    }

    /// Checks the harvested burst.
    mutating func check(_ driver: RxDriver) {
        for packet in driver.packets {
            result.packets += 1
            guard first < expected.count else {
                // Harvested, but never submitted.
                result.corrupt += 1
                continue
            }
            if isIntact(packet, driver.pieces, expected[first]) {
                locate(packet, driver, expected[first])
            } else {
                result.corrupt += 1
            }
            first += 1
        }
        if first > 4096 {
            expected.removeFirst(first)
            first = 0
        }
    }

    /// Everything has come back: what is still expected was lost.
    mutating func finish() -> Verification {
        result.lost = expectedCount
        return result
    }

    private func isIntact(
        _ packet: ReceivedPacket, _ pieces: UnsafeBufferPointer<ReceivedSegment>,
        _ source: PacketRef
    ) -> Bool {
        guard packet.byteCount == Int(source.byteCount) else { return false }
        var offset = 0
        if packet.isSplit {
            let split = HeaderParser.parse(source.pointer, byteCount: Int(source.byteCount))
            let isTiny = placesTiny && packet.byteCount == Int(packet.headerLength)
            guard splits, isTiny || packet.headerLength == split.byteCount else { return false }
            offset = Int(packet.headerLength)
            guard Self.equal(packet.headers, source.pointer, offset) else { return false }
        }
        for index in 0..<Int(packet.pieceCount) {
            let piece = pieces[Int(packet.firstPiece) + index]
            guard Self.equal(piece.pointer, source.pointer + offset, Int(piece.byteCount)) else {
                return false
            }
            offset += Int(piece.byteCount)
        }
        return offset == Int(source.byteCount)
    }

    /// Counts where an intact packet's payload lies.
    private mutating func locate(
        _ packet: ReceivedPacket, _ driver: RxDriver, _ source: PacketRef
    ) {
        if packet.isSplit { headerStarts.insert(packet.headers) }
        let split = HeaderParser.parse(source.pointer, byteCount: Int(source.byteCount))
        let headerLength = split.isSplittable ? Int(split.byteCount) : 0
        guard packet.byteCount > headerLength else { return }
        places.packets += 1
        let first = Int(packet.firstPiece)
        let pieces = driver.pieces[first..<(first + Int(packet.pieceCount))]
        // The first payload byte: so far into the headers' memory, or into the pieces.
        var offset = headerLength
        if packet.isSplit && packet.headerLength > headerLength {
            if Self.isPageAligned(packet.headers + offset) { places.pageAligned += 1 }
            return
        }
        offset -= Int(packet.headerLength)
        if packet.isSplit, pieces.allSatisfy({ driver.bufferOffset(of: $0) == 0 }) {
            places.alone += 1
        }
        for piece in pieces {
            if offset < Int(piece.byteCount) {
                if Self.isPageAligned(piece.pointer + offset) { places.pageAligned += 1 }
                return
            }
            offset -= Int(piece.byteCount)
        }
    }

    private static func isPageAligned(_ pointer: UnsafeRawPointer) -> Bool {
        UInt(bitPattern: pointer) & 4095 == 0
    }

    private static func equal(
        _ left: UnsafeRawPointer, _ right: UnsafeRawPointer, _ byteCount: Int
    ) -> Bool {
        UnsafeRawBufferPointer(start: left, count: byteCount)
            .elementsEqual(UnsafeRawBufferPointer(start: right, count: byteCount))
    }
}
