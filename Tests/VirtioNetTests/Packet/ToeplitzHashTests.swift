// Known answers of "Verifying the RSS Hash Calculation" (Microsoft), and frames built around them.
import CleaveVirtioNet
import Testing

@Suite struct ToeplitzHashTests {
    struct Answer: Sendable {
        let source: [UInt8]
        let destination: [UInt8]
        let ports: [UInt8]
        let addressHash: UInt32
        let portHash: UInt32

        init(
            _ source: [UInt8], _ sourcePort: Int, _ destination: [UInt8], _ destinationPort: Int,
            _ addressHash: UInt32, _ portHash: UInt32
        ) {
            (self.source, self.destination) = (source, destination)
            ports = Frames.word(sourcePort) + Frames.word(destinationPort)
            (self.addressHash, self.portHash) = (addressHash, portHash)
        }

        /// An Ethernet frame with this tuple.
        func frame(
            _ transport: UInt8, extensions: [(type: UInt8, units: Int)] = [], payload: Int = 9
        ) -> [UInt8] {
            var segment = transport == 6 ? Frames.tcp(Frames.payload(payload)) : Frames.udp([1])
            segment.replaceSubrange(0..<4, with: ports)
            guard source.count == 16 else {
                var packet = Frames.ipv4(transport, segment)
                packet.replaceSubrange(12..<20, with: source + destination)
                return Frames.ethernet(0x0800, packet)
            }
            var packet = Frames.ipv6(transport, extensions: extensions, segment)
            packet.replaceSubrange(8..<40, with: source + destination)
            return Frames.ethernet(0x86dd, tags: [0x8100], packet)
        }
    }

    static let ipv4: [Answer] = [
        Answer(
            [66, 9, 149, 187], 2794, [161, 142, 100, 80], 1766, 0x323e_8fc2, 0x51cc_c178),
        Answer(
            [199, 92, 111, 2], 14230, [65, 69, 140, 83], 4739, 0xd718_262a, 0xc626_b0ea),
        Answer(
            [24, 19, 198, 95], 12898, [12, 22, 207, 184], 38024, 0xd2d0_a5de, 0x5c2b_394a),
        Answer(
            [38, 27, 205, 30], 48228, [209, 142, 163, 6], 2217, 0x8298_9176, 0xafc7_327f),
        Answer(
            [153, 39, 163, 191], 44251, [202, 188, 127, 2], 1303, 0x5d18_09c5, 0x10e8_28a2),
    ]

    /// An IPv6 address of eight words.
    private static func address(_ words: Int...) -> [UInt8] { words.flatMap(Frames.word) }

    static let ipv6: [Answer] = [
        Answer(
            address(0x3ffe, 0x2501, 0x200, 0x1fff, 0, 0, 0, 7), 2794,
            address(0x3ffe, 0x2501, 0x200, 3, 0, 0, 0, 1), 1766, 0x2cc1_8cd5, 0x4020_7d3d),
        Answer(
            address(0x3ffe, 0x501, 8, 0, 0x260, 0x97ff, 0xfe40, 0xefab), 14230,
            address(0xff02, 0, 0, 0, 0, 0, 0, 1), 4739, 0x0f0c_461c, 0xdde5_1bbf),
        Answer(
            address(0x3ffe, 0x1900, 0x4545, 3, 0x200, 0xf8ff, 0xfe21, 0x67cf), 44251,
            address(0xfe80, 0, 0, 0, 0x200, 0xf8ff, 0xfe21, 0x67cf), 38024,
            0x4b61_e985, 0x02d1_feef),
    ]

    private func hash(_ frame: [UInt8]) -> ToeplitzHash.Report? {
        let memory = GuardedMemory(byteCount: frame.count)
        return ToeplitzHash().hash(frame: memory.place(frame), byteCount: frame.count)
    }

    @Test(arguments: ipv4 + ipv6)
    func knownAnswers(_ answer: Answer) {
        let toeplitz = ToeplitzHash()
        #expect(toeplitz.hash(tuple: answer.source + answer.destination) == answer.addressHash)
        #expect(
            toeplitz.hash(tuple: answer.source + answer.destination + answer.ports)
                == answer.portHash)
    }

    @Test(arguments: ipv4 + ipv6)
    func frames(_ answer: Answer) {
        let family: UInt8 = answer.source.count == 4 ? 1 : 4
        for (transport, report): (UInt8, UInt8) in [(6, family + 1), (17, family + 2)] {
            let found = hash(answer.frame(transport))
            #expect(found?.value == answer.portHash)
            #expect(found?.report == report)
        }
        let other = hash(answer.frame(132))
        #expect(other?.value == answer.addressHash)
        #expect(other?.report == family)
    }

    @Test(arguments: ipv6)
    func extensionsAreSkipped(_ answer: Answer) {
        let found = hash(answer.frame(17, extensions: [(0, 0), (43, 2)]))
        #expect(found?.value == answer.portHash)
        #expect(found?.report == 6)
    }

    @Test("The head of a long frame has the hash of the whole", arguments: ipv4 + ipv6)
    func heads(_ answer: Answer) {
        let frame = answer.frame(6, payload: 1400)
        for window in [128, 192, 1000, frame.count] {
            let memory = GuardedMemory(byteCount: window)
            let found = ToeplitzHash().hash(
                frame: memory.place(frame.prefix(window)), windowByteCount: window,
                byteCount: frame.count)
            #expect(found?.value == answer.portHash, "\(window) bytes")
        }
    }

    @Test(arguments: ipv4)
    func fragmentsOfADatagramMeet(_ answer: Answer) {
        for word: UInt8 in [0x20, 0x21, 0x01] {
            var frame = answer.frame(17)
            frame[20] = word
            #expect(hash(frame)?.value == answer.addressHash)
            #expect(hash(frame)?.report == 1)
        }
    }

    @Test("every sample cut at every length: hashed when IP, never read beyond")
    func truncated() {
        let memory = GuardedMemory(byteCount: 300_000)
        let toeplitz = ToeplitzHash()
        for sample in Sample.all {
            for byteCount in 0...min(sample.frame.count, 130) {
                let start = memory.place(sample.frame.prefix(byteCount))
                let found = toeplitz.hash(frame: start, byteCount: byteCount)
                let split = HeaderParser.parse(start, byteCount: byteCount)
                let hasPorts = [2, 3, 5, 6].contains(found?.report)
                #expect(split.isSplittable == hasPorts)
                if byteCount < 34 { #expect(found == nil) }
            }
        }
    }

    @Test func otherKeys() {
        // A key of one set bit picks out the input bits above it.
        var key = [UInt8](repeating: 0, count: 40)
        key[3] = 1
        #expect(ToeplitzHash(key: key).hash(tuple: [0x80]) == 1)
        #expect(ToeplitzHash(key: key).hash(tuple: [0, 0, 0, 1]) == 0x8000_0000)
        #expect(ToeplitzHash(key: []).hash(tuple: [1, 2, 3]) == 0)
        let long = ToeplitzHash(key: ToeplitzHash.defaultKey + [0xff, 0xff])
        let tuple = [UInt8](repeating: 0xff, count: 36)
        #expect(long.hash(tuple: tuple + [7]) == ToeplitzHash().hash(tuple: tuple))
    }
}
