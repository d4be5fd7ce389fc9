// How `make count` judges instruction counts; the counting itself needs valgrind.
import CleaveTestSupport
import Foundation
import Testing

@Suite("Comparison of instruction counts")
struct CountTests {
    /// - Returns: what the comparison prints, and its exit code.
    private func compare(_ measured: String, with baseline: String) throws -> (String, Int32) {
        let directory = FileManager.default.temporaryDirectory
            .appendingPathComponent("cleave-count-\(UUID().uuidString)")
        try FileManager.default.createDirectory(
            at: directory, withIntermediateDirectories: false)
        defer { try? FileManager.default.removeItem(at: directory) }
        let files = ["measured": measured, "baseline": baseline].mapValues { Data($0.utf8) }
        for (name, data) in files { try data.write(to: directory.appendingPathComponent(name)) }
        let process = Process()
        process.executableURL = ReleaseProgram.root
            .appendingPathComponent("Tests/Baselines/compare")
        process.arguments = ["measured", "baseline"].map {
            directory.appendingPathComponent($0).path
        }
        let pipe = Pipe()
        process.standardOutput = pipe
        try process.run()
        let output = try pipe.fileHandleForReading.readToEnd() ?? Data()
        process.waitUntilExit()
        return (String(decoding: output, as: UTF8.self), process.terminationStatus)
    }

    private func baseline(_ counts: [String]) -> String {
        "{\n  \"swift\": \"6.3\",\n  \"counts\": {\n    "
            + counts.joined(separator: ",\n    ") + "\n  }\n}\n"
    }

    @Test("A rise of over 2 % fails; up to 2 % passes; a drop of over 2 % is hinted at")
    func tolerance() throws {
        let recorded = baseline([
            "\"whole split device\": 100.00", "\"copy bytes64 part\": 10.00",
        ])
        func outcome(_ whole: String, _ copy: String) throws -> (String, Int32) {
            try compare(
                "copy bytes64 part \(copy)\nwhole split device \(whole)\n", with: recorded)
        }
        let same = try outcome("101.99", "10.00")
        #expect(same.1 == 0)
        #expect(!same.0.contains("count-update"))
        let more = try outcome("102.10", "10.00")
        #expect(more.1 == 1)
        #expect(more.0.contains("+2.1%  too many"))
        let fewer = try outcome("100.00", "9.70")
        #expect(fewer.1 == 0)
        #expect(fewer.0.contains("-3.0%  fewer") && fewer.0.contains("make count-update"))
    }

    @Test("A case that one side lacks fails")
    func cases() throws {
        let two = baseline(["\"a split device\": 5.00", "\"a packed device\": 5.00"])
        let missing = try compare("a split device 5.00\n", with: two)
        #expect(missing.1 == 1)
        #expect(missing.0.contains("not measured: a packed device"))
        let unknown = try compare(
            "a split device 5.00\na packed device 5.00\nb split device 1.00\n", with: two)
        #expect(unknown.1 == 1)
        // An empty record must not pass for agreement.
        #expect(try compare("a split device 5.00\n", with: "{}\n").1 == 1)
    }

    @Test("The recorded counts are of every method, ring and side, and say what they hold for")
    func recorded() throws {
        let file = ReleaseProgram.root
            .appendingPathComponent("Tests/Baselines/instructions.json")
        let document = try #require(
            try JSONSerialization.jsonObject(with: Data(contentsOf: file)) as? [String: Any])
        #expect(document["schema"] as? String == "cleave-instructions/1")
        for key in ["processor", "swift", "libc"] {
            #expect((document[key] as? String)?.isEmpty == false, "\(key)")
        }
        let counts = try #require(document["counts"] as? [String: Double])
        for method in ["whole", "a", "b", "c", "netHeader", "usedLength"] {
            for ring in ["split", "packed"] {
                for side in ["device", "driver"] {
                    #expect(counts["\(method) \(ring) \(side)", default: 0] > 0)
                }
            }
        }
    }
}
