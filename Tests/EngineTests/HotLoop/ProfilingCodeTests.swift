// Traces of profiling in the hot loop: no more than one test in a build with it, nothing in a build
// without it. `make plain-probe` makes the other build; `make test` does so.
import CleaveTestSupport
import Testing

#if arch(x86_64)
@Suite("Machine code with and without profiling")
struct ProfilingCodeTests {
    private let code: MachineCode
    private let plain: MachineCode

    init() throws {
        let own = try ReleaseProgram("hot-loop-probe")
        let other = try ReleaseProgram("hot-loop-probe", build: ".build-plain")
        guard try own.hasProbes() == other.hasProbes() else {
            throw ReleaseProgram.Problem(
                description: "of \(own.path) and \(other.path) one has static probes, the other "
                    + "was built without sys/sdt.h: run `make probe plain-probe` first")
        }
        code = try MachineCode(own)
        plain = try MachineCode(other)
    }

    /// Instructions without the parts that depend on where code and data lie.
    private static func shape(_ instructions: [String]) -> [String] {
        instructions.map { instruction in
            // Calls by symbol, jumps inside a function by distance, data by register alone.
            var text = instruction.replacing(/\s*#.*/, with: "")
            text = text.replacing(/-?0x[0-9a-f]+\(%rip\)/, with: "(%rip)")
            text = text.replacing(/\b[0-9a-f]+ (<)/) { "\($0.output.1)" }
            // A function that serves several specialisations, being the same for all.
            text = text.replacing("Tm>", with: ">")
            return text.replacing(/\s+/, with: " ")
        }
    }

    private static func reads(_ instructions: [String]) -> Bool {
        instructions.contains { $0.hasPrefix("rdtsc") || $0.hasPrefix("mrs") }
    }

    /// `receive` of `RxQueueBuilder.operations`, the plain burst, by ring and method. Queues of
    /// which is kept what they write are not measured.
    private func bursts(_ code: MachineCode) -> [String: String] {
        code.functions(mangled: "QueueBuilderV10operations").filter {
            $0.key.hasPrefix("generic specialization <") && $0.key.contains("> of receive #1 ")
                && !$0.key.contains("ObservedVirtqueue")
        }
    }

    @Test("A plain burst is the same instruction by instruction, and reads no clock")
    func plainBursts() throws {
        let with = bursts(code)
        let without = bursts(plain)
        #expect(with.count == 16 && Set(with.keys) == Set(without.keys))
        for (name, symbol) in with {
            let own = try code.instructions(of: symbol)
            let other = try plain.instructions(of: try #require(without[name]))
            #expect(!Self.reads(own), "\(name)")
            #expect(own.count > 500, "\(name)")
            let different = zip(Self.shape(own), Self.shape(other)).filter { $0 != $1 }
            #expect(
                own.count == other.count && different.isEmpty,
                "\(name): \(different.first.debugDescription)")
        }
    }

    @Test("Without profiling nothing of it is there, and no poll reads the clock")
    func compiledOut() throws {
        for name in ["CycleProbe", "Measured", "PayloadBytes"] {
            #expect(plain.functions(mangled: name).isEmpty, "\(name)")
            #expect(!code.functions(mangled: name).isEmpty, "\(name): the canary")
        }
        let poll = try #require(
            plain.functions(mangled: "WorkerC4poll")["CleaveVirtioNet.RxWorker.poll() -> Swift.Int"]
        )
        for symbol in try plain.reachable(from: poll).keys {
            #expect(!Self.reads(try plain.instructions(of: symbol)), "\(demangle(symbol))")
        }
    }

    @Test("With profiling a poll has a few instructions more than without")
    func poll() throws {
        func poll(_ code: MachineCode) throws -> [String] {
            let found = code.functions(mangled: "WorkerC4poll")
            return try code.instructions(
                of: try #require(found["CleaveVirtioNet.RxWorker.poll() -> Swift.Int"]))
        }
        let own = try poll(code)
        let other = try poll(plain)
        #expect(!Self.reads(own))
        // The test, the call after it, and the reasons of empty polls.
        #expect(own.count - other.count <= 48, "\(own.count) and \(other.count)")
    }
}
#endif
