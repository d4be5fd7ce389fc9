// The same files, read by Wireshark.
import CleaveTestSupport
import Foundation
import Testing

@testable import CleaveTraffic

private enum Wireshark {
    static let isThere = ["/usr/bin", "/usr/local/bin"].contains {
        FileManager.default.isExecutableFile(atPath: "\($0)/tshark")
    }
}

@Suite(.enabled(if: Wireshark.isThere, "there is no tshark"))
struct OracleTests {
    private func compare(
        _ bytes: [UInt8], checkByteCount: Int = 0, hasTime: Bool = true,
        sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        let path = NSTemporaryDirectory() + "cleave-\(UUID().uuidString)"
        defer { try? FileManager.default.removeItem(atPath: path) }
        try Data(bytes).write(to: URL(fileURLWithPath: path))
        let fields = ["frame.cap_len", "frame.len", "frame.time_epoch", "eth.src", "eth.dst"]
        let output = try ReleaseProgram.output(
            "tshark", ["-n", "-r", path, "-T", "fields"] + fields.flatMap { ["-e", $0] })
        let theirs = output.split(separator: "\n").map {
            $0.split(separator: "\t", omittingEmptySubsequences: false).map(String.init)
        }
        let ours = try CaptureFile.read(path: path).packets.map { packet in
            let check = checkByteCount
            let (seconds, nanoseconds) = packet.timestampNanoseconds.quotientAndRemainder(
                dividingBy: 1_000_000_000)
            let fraction = "\(nanoseconds + 1_000_000_000)".dropFirst()
            func address(_ range: Range<Int>) -> String {
                packet.bytes[range].map { String(Int($0) + 256, radix: 16).suffix(2) }
                    .joined(separator: ":")
            }
            return [
                "\(packet.bytes.count + check)", "\(packet.originalByteCount + check)",
                "\(seconds).\(fraction)", address(6..<12), address(0..<6),
            ]
        }
        let wanted = hasTime ? [0, 1, 2, 3, 4] : [0, 1, 3, 4]
        #expect(
            ours.map { line in wanted.map { line[$0] } }
                == theirs.map { line in wanted.map { line[$0] } },
            sourceLocation: sourceLocation)
    }

    @Test(arguments: CaptureFormatTests.orders, CaptureVariantTests.variants)
    func variant(_ order: ByteOrder, _ variant: CaptureVariantTests.Variant) throws {
        // Only the Nokia variant's four bytes are a word that its order turns round.
        if variant.name == "Nokia" && order == .little { return }
        // Wireshark 4.0 takes fractions of Ixia's hardware for microseconds; later ones do not.
        try compare(variant.bytes(order), hasTime: variant.name != "Ixia hardware")
    }

    @Test func checkSequences() throws {
        let checked = CaptureVariantTests.checked
        var builder = CaptureBuilder(order: .big)
        builder.pcapHeader(magic: 0xa1b2_c3d4, linkType: 0x2400_0001)
        builder.pcapRecord(checked, seconds: 1, fraction: 2, original: 104)
        try compare(builder.bytes, checkByteCount: 4)
        builder = CaptureBuilder(order: .little)
        builder.section()
        builder.interface(checkLength: 32)
        builder.enhanced(checked, ticks: 3)
        builder.enhanced(checked, ticks: 3, flags: 4 << 5)
        try compare(builder.bytes, checkByteCount: 4)
    }
}
