import CleaveHost
import CleaveTestSupport
import Testing

@Suite("Paths as text")
struct PathTextTests {
    @Test("UTF-8 stays as it is, other bytes are kept, and people see which")
    func samples() {
        let samples: [([UInt8], String)] = [
            ([], ""), (Array("/tmp/caf\u{e9}.pcap".utf8), "/tmp/caf\u{e9}.pcap"),
            (Array("b-caf".utf8) + [0xe9] + Array(".pcap".utf8), "b-caf\\xe9.pcap"),
            // A surrogate, a character cut short, one that takes too many bytes.
            ([0xed, 0xa0, 0x80], "\\xed\\xa0\\x80"), ([0xf0, 0x9f, 0x98], "\\xf0\\x9f\\x98"),
            ([0xc0, 0xaf], "\\xc0\\xaf"), ([0x61, 0xc3, 0xc3, 0xa9], "a\\xc3\u{e9}"),
            (Array("\u{1f600}".utf8), "\u{1f600}"),
            // The character that stands for byte e9, in a path.
            (Array("\u{10fee9}".utf8), "\\xf4\\x8f\\xbb\\xa9"),
            ([0x1b, 0x5b, 0x0a, 0x7f], "\\x1b[\\x0a\\x7f"),
        ]
        for (bytes, printed) in samples {
            let text = PathText.text(bytes)
            #expect(PathText.bytes(text) == bytes)
            #expect(PathText.printable(text) == printed)
            #expect(
                PathText.withBytes(text) { pointer in
                    (0...bytes.count).map { UInt8(bitPattern: pointer[$0]) }
                } == bytes + [0])
        }
    }

    @Test("Each path has one text, and each text one path")
    func anyBytes() {
        var random = SeededRandom(seed: 17)
        let likely: [UInt8] = [0xf4, 0x8f, 0xbb, 0x80, 0xe9, 0x41, 0xc3, 0xa9, 0xed, 0xa0, 0xff]
        var texts: [String: [UInt8]] = [:]
        for _ in 0..<20_000 {
            let bytes = (0..<random.pick(Array(0...10))).map { _ in random.pick(likely) }
            let text = PathText.text(bytes)
            #expect(PathText.bytes(text) == bytes)
            #expect(texts.updateValue(bytes, forKey: text).map { $0 == bytes } ?? true)
        }
    }
}
