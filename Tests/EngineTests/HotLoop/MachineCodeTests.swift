// The machine code of the hot loop, read from the program that users run.
import CleaveTestSupport
import Testing

#if arch(x86_64)
@Suite("Machine code of the hot loop")
struct MachineCodeTests {
    /// Functions that may be called: copies, the one notification per burst, and those that never
    /// return.
    static let allowed: Set<String> = [
        "memcpy", "memmove", "memset", "__errno_location", "__stack_chk_fail",
        // The notification: to an eventfd, a socket, or a pipe without SIGPIPE.
        "write", "send", "sigemptyset", "sigaddset", "sigismember", "sigpending", "sigtimedwait",
        "pthread_sigmask",
    ]

    /// Calls that a function must not contain, nor anything that it reaches.
    static func offences(_ reached: [String: [Branch]]) -> [String] {
        reached.flatMap { symbol, branches in
            branches.compactMap { branch -> String? in
                switch branch {
                case .function, .address: return nil
                // One body for several specialisations, which hand it the functions they
                // differ in: their addresses are followed.
                case .indirect where demangle(symbol).hasPrefix("merged "): return nil
                case .library(let name) where allowed.contains(name): return nil
                case .library(let name): return "\(demangle(symbol)): calls \(name)"
                case .indirect(let code): return "\(demangle(symbol)): \(code)"
                }
            }
        }
    }

    private let code: MachineCode

    init() throws { code = try MachineCode(ReleaseProgram("cleave-bench")) }

    private static let methods = [
        "WholePlacement", "HeaderDescriptorPlacement", "HeaderPagePlacement",
        "AlternatingPlacement", "NetHeaderReportPlacement", "UsedLengthReportPlacement",
        "OutOfOrder<CleaveVirtioNet.NetHeaderReportPlacement>",
        "OutOfOrder<CleaveVirtioNet.UsedLengthReportPlacement>",
    ]

    /// The local function `name` in `function`, specialised for `types`.
    private func local(
        _ name: String, in function: String, for types: String
    ) throws -> String {
        let found = code.functions(mangled: function).filter {
            $0.key.hasPrefix("generic specialization <\(types)> of \(name) #1 ")
        }
        try #require(found.count == 1, "\(function) specialised for \(types): \(found.count)")
        return found.first!.value
    }

    @Test(
        "A burst is specialised, and calls nothing but its own and copies",
        arguments: [
            "SplitVirtqueue", "PackedVirtqueue",
            "ObservedVirtqueue<CleaveVirtioNet.SplitVirtqueue>",
            "ObservedVirtqueue<CleaveVirtioNet.PackedVirtqueue>",
        ], methods)
    func bursts(_ ring: String, _ method: String) throws {
        let reached = try code.reachable(
            from: try local(
                "receive", in: "QueueBuilderV10operations",
                for: "CleaveVirtioNet.\(ring), CleaveVirtioNet.\(method)"
            ))
        #expect(reached.count > 3, "placement is reached")
        #expect(Self.offences(reached) == [])
    }

    @Test(
        "A driver's refill and harvest are specialised, and call nothing but their own",
        arguments: ["SplitDriverRing", "PackedDriverRing"], ["refillRing", "harvestRing"])
    func driverLoops(_ ring: String, _ loop: String) throws {
        let reached = try code.reachable(
            from: try local(loop, in: "OperationsV", for: "CleaveGuestDriver.\(ring)"))
        #expect(Self.offences(reached) == [])
    }

    @Test(
        "A measured burst is specialised as well",
        arguments: ["SplitVirtqueue", "PackedVirtqueue"], methods)
    func measuredBursts(_ ring: String, _ method: String) throws {
        let reached = try code.reachable(
            from: try local(
                "receiveMeasured", in: "QueueBuilderV10operations",
                for: "CleaveVirtioNet.\(ring), CleaveVirtioNet.\(method)"
            ))
        #expect(reached.count > 3, "placement is reached")
        #expect(Self.offences(reached) == [])
    }

    @Test("A worker's poll makes one indirect call, the burst, and else nothing but copies")
    func poll() throws {
        let found = code.functions(mangled: "WorkerC4poll")
        let symbol = try #require(found["CleaveVirtioNet.RxWorker.poll() -> Swift.Int"])
        let reached = try code.reachable(from: symbol)
        let offences = Self.offences(reached)
        // Measured polls have one for the plain burst and one for the measured one.
        let plain = offences.filter { $0.contains("RxWorker.poll() -> Swift.Int: call") }
        let measured = offences.filter { $0.contains("pollMeasured") && $0.contains(": call") }
        #expect(plain.count == 1 && measured.count == 2, "\(offences)")
        #expect(offences.count == 3, "\(offences)")
    }

    @Test("Canary: code that allocates is found out")
    func canary() throws {
        // Creating a worker allocates, as creating any class instance does.
        let found = code.functions(mangled: "8RxWorkerC")
        let symbol = try #require(
            found.first { $0.key.hasPrefix("CleaveVirtioNet.RxWorker.__allocating_init(") }?.value)
        let offences = Self.offences([symbol: try code.branches(of: symbol)])
        #expect(offences.contains { $0.contains("calls swift_") && $0.contains("lloc") })
        #expect(throws: ReleaseProgram.Problem.self) { try code.branches(of: "no such") }
    }

    @Test("Canary: every kind of branch is told from the others")
    func branches() {
        let lines = [
            "push   %rbp", "jle    12 <own+0x2>", "call   20 <other>", "jmp    24 <tail+0x4>",
            "call   30 <swift_retain@plt>", "jmp    34 <swift_release@plt>",
            "call   *0x70(%rcx)", "jmp    *%rax", "call   *%r8",
            "lea    0x7e20(%rip),%rcx        # 13d800 <given>", "lea    (%rax,%rcx,2),%rdx",
            "movslq (%r8,%rax,4),%r10", "add    %r8,%r10", "jmp    *%r10", "ret",
        ]
        let branches = MachineCode.branches(in: lines, of: "own")
        #expect(
            branches == [
                .function("other"), .function("tail"), .library("swift_retain"),
                .library("swift_release"), .indirect("call   *0x70(%rcx)"),
                .indirect("jmp    *%rax"), .indirect("call   *%r8"), .address("given"),
            ])
        #expect(Self.offences(["own": branches]).count == 5)
    }
}
#endif
