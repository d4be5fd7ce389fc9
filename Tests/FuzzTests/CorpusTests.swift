// The inputs that a fuzzer has found worth keeping, once more: nothing crashes, nothing that always
// holds is violated, and all that they reached is still reached.
import CleaveFuzz
import Foundation
import Testing

@Suite("Corpora of the fuzzers")
struct CorpusTests {
    private static let folder = (0..<2).reduce(URL(fileURLWithPath: #filePath)) { url, _ in
        url.deletingLastPathComponent()
    }.appendingPathComponent("Corpora")

    private static func inputs(_ fuzzCase: FuzzCase) throws -> [(name: String, bytes: [UInt8])] {
        let place = folder.appendingPathComponent(fuzzCase.rawValue)
        return try FileManager.default.contentsOfDirectory(atPath: place.path).sorted().map {
            ($0, [UInt8](try Data(contentsOf: place.appendingPathComponent($0))))
        }
    }

    /// What a corpus must reach, or it is not worth its name.
    private static let wanted: [FuzzCase: Set<String>] = [
        .messages: ["negotiated", "messages", "unknown", "size", "flags", "fds", "closed"],
        .split: ["delivered", "dropped", "short"],
        .packed: ["delivered", "dropped", "short"],
        .headers: ["split", "whole", "dropped"],
        .control: [
            "request", "the line is not JSON", "the line is not a JSON object", "about command",
            "about arguments", "about id",
        ],
        .http: ["request", "last", "400", "413", "431", "505"],
    ]

    @Test("All of a corpus holds, and reaches what it reached", arguments: FuzzCase.allCases)
    func replay(fuzzCase: FuzzCase) throws {
        let inputs = try Self.inputs(fuzzCase)
        #expect(inputs.count >= 10)
        var seen: Set<String> = []
        for (name, bytes) in inputs {
            do { seen.formUnion(try fuzzCase.run(bytes)) } catch {
                Issue.record("\(fuzzCase.rawValue)/\(name): \(error)")
            }
        }
        let missing = Self.wanted[fuzzCase, default: []].subtracting(seen)
        #expect(missing == [], "reached: \(seen.sorted())")
        if fuzzCase == .split || fuzzCase == .packed {
            #expect(seen.count { $0.hasPrefix("fault ") } > 1, "reached: \(seen.sorted())")
        }
    }

    @Test("Inputs cut short, and no input at all, hold as well", arguments: FuzzCase.allCases)
    func prefixes(fuzzCase: FuzzCase) throws {
        _ = try fuzzCase.run([])
        for (_, bytes) in try Self.inputs(fuzzCase) {
            for count in [1, bytes.count / 2, bytes.count - 1] where count > 0 {
                _ = try fuzzCase.run(Array(bytes.prefix(count)))
            }
        }
    }
}
