// The parser against its slow twin: every sample cut at every length, every window, and mutations
// of forty seeds. Frames end at a page that must not be touched.
import CleaveVirtioNet
import Testing

@Suite struct HeaderParserTwinTests {
    private let memory = GuardedMemory(byteCount: 300_000)

    /// What is wrong with the parser's answer for these bytes, if anything.
    private func fault(
        _ frame: [UInt8], at start: UnsafeMutableRawPointer, window: Int, in byteCount: Int
    ) -> String? {
        let split = HeaderParser.parse(
            window: start, windowByteCount: window, frameByteCount: byteCount)
        let twin = NaiveParser.parse(frame, windowByteCount: window)
        if split != twin { return "\(split) instead of \(twin): \(frame)" }
        if Int(split.byteCount) > window { return "\(split) passes \(window) bytes: \(frame)" }
        if split.isSplittable != (split.reason == .none) { return "\(split) contradicts itself" }
        return nil
    }

    @Test("every sample truncated at every length", arguments: Sample.all)
    func truncated(_ sample: Sample) {
        // After the headers a cut changes nothing but the length.
        for byteCount in 0...min(sample.frame.count, 640) {
            let frame = Array(sample.frame.prefix(byteCount))
            let fault = fault(
                frame, at: memory.place(frame), window: byteCount, in: byteCount)
            #expect(fault == nil)
            let whole = HeaderParser.parse(memory.place(frame), byteCount: byteCount)
            #expect(whole == NaiveParser.parse(frame))
        }
    }

    @Test("every sample seen through every window", arguments: Sample.all)
    func windows(_ sample: Sample) {
        for window in 0...min(sample.frame.count, 160) {
            let start = memory.place(sample.frame.prefix(window))
            let fault = fault(sample.frame, at: start, window: window, in: sample.frame.count)
            #expect(fault == nil)
        }
        // A window that claims more than the frame holds.
        let start = memory.place(sample.frame + [0, 0, 0, 0, 0, 0, 0, 0])
        let split = HeaderParser.parse(
            window: start, windowByteCount: sample.frame.count + 8,
            frameByteCount: sample.frame.count)
        #expect(split == sample.expected)
    }

    /// Forty frames of every kind, none above 160 bytes.
    static let seeds: [Sample] = {
        let short = Sample.all.filter { (54...160).contains($0.frame.count) }
        return (0..<40).map { short[$0 * short.count / 40] }
    }()

    @Test("all single-byte mutations of a seed", arguments: seeds)
    func singleByte(_ seed: Sample) {
        var frame = seed.frame
        let start = memory.place(frame)
        let bytes = start.assumingMemoryBound(to: UInt8.self)
        for index in frame.indices.prefix(128) {
            let original = frame[index]
            for value in UInt8.min...UInt8.max {
                frame[index] = value
                bytes[index] = value
                if let fault = fault(frame, at: start, window: frame.count, in: frame.count) {
                    Issue.record("byte \(index): \(fault)")
                    return
                }
            }
            frame[index] = original
            bytes[index] = original
        }
    }

    @Test("two-byte mutations of a seed", arguments: seeds)
    func twoBytes(_ seed: Sample) {
        // Bytes that decide something in one of the layouts, each with values at an edge.
        let places = [12, 13, 14, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 46, 54, 55, 66]
        let values: [UInt8] = [
            0, 6, 8, 17, 20, 28, 40, 43, 44, 0x45, 0x4f, 0x50, 60, 0x60, 0x81, 0x86, 0xdd, 0xff,
        ]
        var frame = seed.frame
        let start = memory.place(frame)
        let bytes = start.assumingMemoryBound(to: UInt8.self)
        func set(_ index: Int, _ value: UInt8) {
            frame[index] = value
            bytes[index] = value
        }
        for (rank, first) in places.enumerated() where first < frame.count {
            for second in places[(rank + 1)...] where second < frame.count {
                let original = (frame[first], frame[second])
                for value in values {
                    set(first, value)
                    for other in values {
                        set(second, other)
                        if let fault = fault(
                            frame, at: start, window: frame.count, in: frame.count)
                        {
                            Issue.record("bytes \(first), \(second): \(fault)")
                            return
                        }
                    }
                }
                set(first, original.0)
                set(second, original.1)
            }
        }
    }

    @Test("every pair of ethertype bytes, and of version and IHL with total length")
    func allShortWords() {
        for frame in [Frames.tcpv4(Frames.payload(40)), Frames.udpv4(Frames.payload(40))] {
            for place in [12, 16, 20] {
                var frame = frame
                let start = memory.place(frame)
                let bytes = start.assumingMemoryBound(to: UInt8.self)
                for word in 0...65535 {
                    let halves = Frames.word(word)
                    for (offset, half) in halves.enumerated() {
                        frame[place + offset] = half
                        bytes[place + offset] = half
                    }
                    if let fault = fault(frame, at: start, window: frame.count, in: frame.count) {
                        Issue.record("word \(word) at \(place): \(fault)")
                        return
                    }
                }
            }
        }
    }
}
