// What perf, bpftrace and gdb need in the program that users run, and what the scripts for bpftrace
// say about it.
import CCleaveHost
import CleaveTestSupport
import CleaveVirtioNet
import Foundation
import Testing

#if arch(x86_64)
@Suite("Tracing of the release build")
struct TracingTests {
    /// Probes and how many arguments each has.
    private static let probes = [
        "burst": 4, "fallback": 2, "drop": 2, "queue_broken": 2, "claim": 4,
        "header_queue_empty": 2, "header_queue_broken": 2, "reset": 2,
    ]

    private let program: ReleaseProgram

    init() throws { program = try ReleaseProgram("cleave-bench") }

    /// Whether a function keeps a frame pointer that a stack walk can follow.
    private static func keepsFramePointer(_ instructions: [String]) -> Bool {
        guard let push = instructions.firstIndex(where: { $0.hasPrefix("push") }) else {
            return false
        }
        return instructions[push].hasSuffix("%rbp") && push + 1 < instructions.count
            && instructions[push + 1].filter { $0 != " " } == "mov%rsp,%rbp"
    }

    @Test("Every function of the hot loop has a name and a frame pointer")
    func framePointers() throws {
        let code = try MachineCode(program)
        for part in ["QueueBuilderV10operations", "OperationsV", "WorkerC4poll", "RxBurstO6record"]
        {
            let found = code.functions(mangled: part).filter {
                !$0.key.hasPrefix("partial apply") && !$0.key.contains("for closure")
            }
            try #require(!found.isEmpty, "\(part)")
            for (name, symbol) in found {
                let instructions = try code.instructions(of: symbol)
                // A jump to another function needs no frame of its own.
                if instructions.count < 8 { continue }
                #expect(Self.keepsFramePointer(instructions), "\(name)")
            }
        }
        #expect(!Self.keepsFramePointer(["push   %r15", "push   %rbx"]))
        #expect(!Self.keepsFramePointer(["push   %rbp", "mov    %rdi,%rbp"]))
        #expect(Self.keepsFramePointer(["push   %rbp", "mov    %rsp,%rbp", "push   %rbx"]))
    }

    /// Argument lists of the program's probes, by name.
    private func notes() throws -> [String: [[Substring]]] {
        var notes: [String: [[Substring]]] = [:]
        var name: String?
        for line in try ReleaseProgram.output("readelf", ["-n", program.path])
            .split(separator: "\n").map({ $0.trimmingCharacters(in: .whitespaces) })
        {
            if line.hasPrefix("Provider: ") { name = line == "Provider: cleave" ? "" : nil }
            if line.hasPrefix("Name: "), name != nil { name = String(line.dropFirst(6)) }
            if line.hasPrefix("Arguments: "), let name {
                notes[name, default: []].append(line.dropFirst(11).split(separator: " "))
            }
        }
        return notes
    }

    @Test("The program has probes if these tests have them")
    func sameHeaders() throws {
        func state(_ hasProbes: Bool) -> String {
            hasProbes ? "has probes" : "was built without sys/sdt.h"
        }
        let (own, other) = (cleave_has_probes() != 0, try program.hasProbes())
        #expect(
            own == other,
            "\(program.path) \(state(other)), this test \(state(own)): run `make build` first")
    }

    @Test(
        "Each probe is in the program, with its arguments in registers or constants",
        .enabled(
            if: cleave_has_probes() != 0,
            "the probes are compiled out: install Debian's systemtap-sdt-dev, then build again"))
    func probesInProgram() throws {
        let notes = try notes()
        #expect(Set(notes.keys) == Set(Self.probes.keys))
        // Without it gdb looks for no probes.
        let sections = try ReleaseProgram.output("readelf", ["-SW", program.path])
        #expect(sections.contains(".stapsdt.base"))
        for (name, places) in notes {
            for arguments in places {
                #expect(arguments.count == Self.probes[name], "\(name)")
                // "8@%rax" or "8@$32", but no "8@-16(%rbp)".
                #expect(
                    arguments.allSatisfy { $0.contains(/^-?8@(%[a-z0-9]+|\$-?\d+)$/) },
                    "\(name): \(arguments)")
            }
        }
    }

    private func script(_ name: String) throws -> String {
        let file = ReleaseProgram.root.appendingPathComponent("configs/bpftrace/\(name).bt")
        return try String(contentsOf: file, encoding: .utf8)
    }

    @Test("Scripts name probes that there are, and no argument that they lack")
    func scripts() throws {
        for name in ["bursts", "header-queue", "fallbacks"] {
            let parts = try script(name).split(separator: "usdt:*:cleave:").dropFirst()
            #expect(!parts.isEmpty, "\(name)")
            for part in parts {
                let probe = String(part.prefix { $0.isLetter || $0 == "_" })
                let count = try #require(Self.probes[probe], "\(name): \(probe)")
                for argument in part.matches(of: /\barg(\d)\b/) {
                    #expect(try #require(Int(argument.1)) < count, "\(name): \(probe)")
                }
            }
        }
    }

    @Test("Scripts call reasons by the names they have")
    func reasons() throws {
        let text = try script("fallbacks")
        func names(_ map: String) -> [Int: String] {
            var names: [Int: String] = [:]
            for line in text.split(separator: "\n") {
                let words = line.split { " [];=\"".contains($0) }
                guard words.count == 3, words[0] == "@\(map)", let number = Int(words[1]) else {
                    continue
                }
                names[number] = String(words[2])
            }
            return names
        }
        #expect(
            names("fallback")
                == Dictionary(
                    uniqueKeysWithValues: FallbackReason.allCases.map {
                        (Int($0.rawValue), $0.name)
                    }
                ))
        #expect(
            names("drop")
                == Dictionary(
                    uniqueKeysWithValues: DropReason.allCases.map { (Int($0.rawValue), $0.name) }))
    }
}
#endif
