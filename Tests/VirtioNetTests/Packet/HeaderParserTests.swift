// Each case of the catalogue (group E), judged against the answer written beside it.
import CleaveVirtioNet
import Testing

@Suite struct HeaderParserTests {
    private let memory = GuardedMemory(byteCount: 300_000)

    private func check(_ sample: Sample) {
        let split = HeaderParser.parse(memory.place(sample.frame), byteCount: sample.frame.count)
        #expect(split == sample.expected)
        #expect(NaiveParser.parse(sample.frame) == sample.expected)
    }

    @Test("E00 ordinary traffic is split exactly behind L4", arguments: Sample.of("E00"))
    func ordinary(_ sample: Sample) { check(sample) }

    @Test("E01 runts stay whole", arguments: Sample.of("E01"))
    func runts(_ sample: Sample) { check(sample) }

    @Test("E02 IPv4 header and total length", arguments: Sample.of("E02"))
    func ipv4Lengths(_ sample: Sample) { check(sample) }

    @Test("E03 IPv4 fragments stay whole", arguments: Sample.of("E03"))
    func ipv4Fragments(_ sample: Sample) { check(sample) }

    @Test("E04 IPv6 extension headers are walked, bounded", arguments: Sample.of("E04"))
    func ipv6Extensions(_ sample: Sample) { check(sample) }

    @Test("E05 IPv6 fragments stay whole", arguments: Sample.of("E05"))
    func ipv6Fragments(_ sample: Sample) { check(sample) }

    @Test("E06 AH, ESP and no-next-header stay whole", arguments: Sample.of("E06"))
    func opaqueExtensions(_ sample: Sample) { check(sample) }

    @Test("E07 up to two tags; LLC stays whole", arguments: Sample.of("E07"))
    func tags(_ sample: Sample) { check(sample) }

    @Test("E08 TCP data offset and empty payloads", arguments: Sample.of("E08"))
    func transportHeaders(_ sample: Sample) { check(sample) }

    @Test("E09 other transports stay whole", arguments: Sample.of("E09"))
    func otherTransports(_ sample: Sample) { check(sample) }

    @Test("E10 tunnels: outer UDP only", arguments: Sample.of("E10"))
    func tunnels(_ sample: Sample) { check(sample) }

    @Test("E11 what is not IP stays whole", arguments: Sample.of("E11"))
    func notIP(_ sample: Sample) { check(sample) }

    @Test("E12 the largest frames", arguments: Sample.of("E12"))
    func largest(_ sample: Sample) { check(sample) }

    @Test("E13 segments of any size give the answer of the whole frame", arguments: Sample.all)
    func segments(_ sample: Sample) {
        let scratch = GuardedMemory(byteCount: 1)
        let start = memory.place(sample.frame)
        for pieceByteCount in [1, 7, 14, 54, 65, 513, 1 << 20] {
            // Empty segments without an address before, between and after the others.
            var segments = [PacketRef(address: 0, byteCount: 0, flags: .more)]
            var offset = 0
            while offset < sample.frame.count {
                let count = min(pieceByteCount, sample.frame.count - offset)
                segments.append(PacketRef(start + offset, byteCount: count, flags: .more))
                segments.append(PacketRef(address: 0, byteCount: 0, flags: .more))
                offset += count
            }
            for skipped in [0, 1] where segments.count > skipped {
                let split = segments.withUnsafeBufferPointer {
                    HeaderParser.parse(
                        segments: $0.baseAddress! + skipped, segmentCount: $0.count - skipped,
                        scratch: scratch.end - HeaderParser.scratchByteCount)
                }
                // The first segment alone if that is enough, otherwise 512 bytes gathered.
                var twin = NaiveParser.parse(
                    sample.frame, windowByteCount: Int(segments[skipped].byteCount))
                if twin.reason == .headersTooLong {
                    twin = NaiveParser.parse(sample.frame, windowByteCount: 512)
                }
                #expect(split == twin)
                if sample.expected.byteCount <= 512, twin.reason != .headersTooLong {
                    #expect(split == sample.expected)
                }
            }
        }
    }

    @Test func noSegments() {
        let scratch = GuardedMemory(byteCount: 1)
        var none = PacketRef(address: 0, byteCount: 0)
        for count in [0, 1] {
            let split = HeaderParser.parse(
                segments: &none, segmentCount: count, scratch: scratch.end - 512)
            #expect(split == HeaderSplit(notSplit: .truncated))
        }
    }

    @Test func negativeLengthIsTruncated() {
        #expect(
            HeaderParser.parse(memory.end, byteCount: -1) == HeaderSplit(notSplit: .truncated))
    }

    @Test func reasonsAreDenseAndNamed() {
        for (index, reason) in NoSplitReason.allCases.enumerated() {
            #expect(Int(reason.rawValue) == index)
            #expect(reason.name == "\(reason)")
        }
        #expect(Set(Sample.all.map(\.expected.reason)).count == NoSplitReason.allCases.count - 1)
    }
}
