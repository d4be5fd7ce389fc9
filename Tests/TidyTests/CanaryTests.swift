// Each rule meets text that it must flag, at the right line, and text beside it that it must not.
import Testing

@Suite("Tidy canaries")
struct CanaryTests {
    private func file(_ path: String, _ text: String) -> SourceText {
        SourceText(path: path, text: text)
    }

    private func lines(_ findings: [Finding]) -> [Int] { findings.map(\.line).sorted() }

    @Test("A finding names file, line and rule")
    func findingText() {
        let finding = file("Sources/CleaveRings/A.swift", "x").finding(0, "rule", "why")
        #expect("\(finding)" == "Sources/CleaveRings/A.swift:1: [rule] why")
    }

    @Test("Comments and strings are not code; columns and lines stay")
    func mask() {
        let text = """
            a // try! b
            c /* d /* e */ f
            g */ h "i \\" j" k
            l #"m " n"# o
            p \"\"\"
            q " r
            \"\"\" s
            """
        let masked = SourceMask.mask(text)
        #expect(masked.count == text.count)
        #expect(masked.filter { !" \n".contains($0) } == "achklops")
        #expect(masked.filter { $0 == "\n" }.count == 6)
    }

    @Test("Long files and lines")
    func sizes() {
        let limit = String(repeating: "x\n", count: SizeRules.fileLines)
        #expect(SizeRules.longFiles(file("a.swift", limit)).isEmpty)
        #expect(
            lines(SizeRules.longFiles(file("a.swift", limit + "x\n"))) == [SizeRules.fileLines + 1])
        let wide = String(repeating: "x", count: 100)
        #expect(lines(SizeRules.longLines(file("a.swift", "\(wide)\n\(wide)x"))) == [2])
    }

    @Test("Lines of the log that a guest might repeat")
    func limitedLog() {
        let text = """
            func a() { host?.log("x") }
            // [limited]
            func b() {
                host?.log("x")
            }
            func c() { host.log("x") } // "host.log("
            // [once] When it opens.
            host.log(
            """
        let path = "Sources/CleavePorts/A.swift"
        #expect(lines(LogRules.unlimitedLines(file(path, text))) == [1, 6])
        #expect(LogRules.unlimitedLines(file("Sources/CleaveSwitch/A.swift", text)).isEmpty)
    }

    @Test("Long functions")
    func functions() {
        let path = "Sources/CleaveEngine/A.swift"
        let limit = SizeRules.functionLines
        func function(_ head: String, _ count: Int) -> String {
            head + " {\n" + String(repeating: "    x()\n", count: count - 2) + "}\n"
        }
        for head in ["func f()", "init?(a: Int = { 1 }())", "deinit", "public init<T>(_ t: T)"] {
            let text = "protocol P {\n    func g()\n    func h()\n}\n"
            let short = file(path, text + function(head, limit))
            #expect(SizeRules.longFunctions(short).isEmpty, "\(head)")
            let long = file(path, text + function(head, limit + 1))
            #expect(lines(SizeRules.longFunctions(long)) == [5], "\(head)")
        }
    }

    @Test("Functions with more than three parameters without a label")
    func unlabelled() {
        let text = """
            func three(_ a: Int, _ b: (Int, Int), _ c: [Int], d: Int) {}
            func four<T>(
                _ a: T, _ b: (_ x: Int, _ y: Int) -> Void,
                c: Int, _ d: [Int: Int], _ e: Int = f(1, 2)
            ) {}
            init(_ a: Int, _ b: Int, _ c: Int, _ d: Int) {}
            let a = A.init(_a, _b, _c, _d)
            public func cleave_f(_ a: Int, _ b: Int, _ c: Int, _ d: Int) {}
            """
        let source = file("Sources/A/B.swift", text)
        #expect(lines(SizeRules.unlabelledParameters(source)) == [2, 6])
    }

    @Test("Runs that stand twice, however they are spaced and commented")
    func repetition() {
        let run = (0..<10).map { "x(\($0), \"a\")" }
        let spaced = run.map { "\n  // why\n    \($0.replacing(", ", with: ",   "))  // so\n}" }
        let first = file("Sources/A.swift", "let a = 1\n" + run.joined(separator: "\n"))
        let second = file("Sources/B.swift", "import X\n" + spaced.joined(separator: "\n"))
        #expect(lines(RepetitionRules.runs([first, second])) == [4])
        #expect(
            lines(RepetitionRules.runs([file("A.swift", (run + run).joined(separator: "\n"))])) == [
                11
            ])
        // A run of 20 is one finding; nine lines, or a line that differs, are none.
        let long = run + run.map { "y\($0)" }
        let twice = file("Sources/A.swift", (long + ["let b = 2"] + long).joined(separator: "\n"))
        #expect(lines(RepetitionRules.runs([twice])) == [22])
        let short = file("Sources/C.swift", run.dropLast().joined(separator: "\n"))
        let other = run.map { $0.replacing("x(4", with: "x(44") }.joined(separator: "\n")
        #expect(RepetitionRules.runs([first, short, file("Sources/D.swift", other)]).isEmpty)
        let example = file("Sources/Examples/A/main.swift", run.joined(separator: "\n"))
        #expect(RepetitionRules.runs([first, example, example]).isEmpty)
    }

    @Test("Imports that point upward or sideways")
    func imports() {
        let text = """
            import CleaveRings
            import CleaveEngine
            // import CleaveEngine
            @testable import CleaveTraffic
            import Glibc
            """
        #expect(
            lines(DirectionRules.imports(file("Sources/CleaveVirtioNet/A.swift", text))) == [2, 4])
        #expect(
            lines(DirectionRules.imports(file("Sources/CleaveGuestDriver/A.swift", text))) == [
                2, 4,
            ])
        #expect(
            lines(DirectionRules.imports(file("Sources/CleaveRings/A.swift", text))) == [2, 4, 5])
        #expect(
            lines(DirectionRules.imports(file("Sources/CleaveHost/A.swift", text))) == [1, 2, 4])
        #expect(DirectionRules.imports(file("Tests/HostTests/A.swift", text)).isEmpty)
        #expect(DirectionRules.imports(file("Sources/Examples/A/main.swift", text)).isEmpty)
        #expect(lines(DirectionRules.imports(file("Sources/Attic/A.swift", text))).count == 4)
    }

    @Test("Manifest arrows that point upward or sideways")
    func manifest() {
        let text = """
            .target(name: "CleaveRings"),
            .target(name: "CleaveHost", dependencies: ["CCleaveHost", "CCleaveNuma"]),
            .target(
                name: "CleaveVirtioNet",
                dependencies: ["CleaveRings", "CleaveTraffic", .product(name: "CleaveEngine")]),
            .target(name: "CleaveTraffic", dependencies: ["CleaveGuestDriver", "CleaveVirtioNet"]),
            .target(name: "Attic", dependencies: ["CleaveRings"]),
            .executableTarget(
                name: "example-a", dependencies: ["CleaveBench", "example-b"], path: "Sources/E/A"),
            .executableTarget(name: "cleave-bench", dependencies: ["CleaveBench", "example-a"]),
            // .target(name: "CleaveRings", dependencies: ["CleaveEngine"]),
            .target(
                name: "CleaveTestSupport", dependencies: ["CleaveEngine"], path: "Tests/Support"),
            .testTarget(name: "HostTests", dependencies: ["CleaveHost", "CleaveEngine"]),
            """
        #expect(lines(DirectionRules.manifest(file("Package.swift", text))) == [3, 6, 7, 8, 10])
    }

    @Test("Folders of CleaveVirtioNet that name higher folders or siblings, and files without one")
    func folders() {
        let inside = "Sources/CleaveVirtioNet"
        let files = [
            file("\(inside)/GuestMemory.swift", "public struct Region { struct Queue {} }"),
            file("\(inside)/Virtqueue/V.swift", "struct Virtqueue {\n let r: Region\n}"),
            file(
                "\(inside)/Packet/P.swift",
                "struct Ref {\n let r: Region // Virtqueue\n let q: Virtqueue\n}"),
            file("\(inside)/Receive/W.swift", "final class Burst {\n let r: Ref\n}"),
            file("\(inside)/Profile/L.swift", "enum Probe {\n case a(Ref)\n case b(Burst)\n}"),
            file("\(inside)/RxQueue.swift", "struct RxQueue {}\nlet a: Burst\nlet b: Ref"),
            file("\(inside)/TxQueue.swift", "let a: Ref\nlet b: RxQueue"),
            file("\(inside)/Other.swift", "struct Other {}"),
            file("\(inside)/Attic/A.swift", "struct Old {}"),
        ]
        let found = DirectionRules.folders(files).map {
            "\($0.path.dropFirst(inside.count + 1)):\($0.line)"
        }
        #expect(
            found == [
                "Packet/P.swift:3", "Profile/L.swift:3", "TxQueue.swift:2", "Other.swift:1",
                "Attic/A.swift:1",
            ])
    }

    @Test("What the hot path bans everywhere", arguments: ["", "// control path\n"])
    func bannedAlways(marker: String) {
        for line in [
            "let a = try! b()", "let a = b as! C", "print(a)", "func a() async {}", "await b()",
            "import Foundation",
        ] {
            let found = HotPathRules.banned(
                file("Sources/CleaveVirtioNet/Receive/A.swift", marker + line))
            #expect(found.count == 1, "\(line)")
        }
        for line in ["try? b()", "x as? C", "a.print(b)", "// print(a)", "let asynchronous = 1"] {
            let found = HotPathRules.banned(
                file("Sources/CleaveVirtioNet/Receive/A.swift", marker + line))
            #expect(found.isEmpty, "\(line)")
        }
        let host = file("Sources/CleaveHost/A.swift", "import Foundation\nprint(a)")
        #expect(lines(HotPathRules.banned(host)) == [1])
        let tool = file("Sources/cleave-bench/A.swift", "import Foundation")
        #expect(HotPathRules.banned(tool).isEmpty)
    }

    @Test("What only the control path may do")
    func bannedUnlessControlPath() {
        for line in [
            "func a() throws(E) {", "let s: any Source", "var a: [UInt8] = b", "var a = [UInt8]()",
            "func a() -> [Int: Ref] {", "let a = Array(b)", "let a: Dictionary<A, B>",
            "let s: String",
        ] {
            let hot = file("Sources/CleaveVirtioNet/Receive/A.swift", "// why\n" + line)
            #expect(lines(HotPathRules.banned(hot)) == [2], "\(line)")
            let cold = file(
                "Sources/CleaveVirtioNet/Receive/A.swift", "// why\n// control path\n" + line)
            #expect(HotPathRules.banned(cold).isEmpty, "\(line)")
        }
        let parts = """
            import CleaveRings
            // control path
            init(
                _ a: [Int]
            ) throws(E) {
                let s: String
            }
            let t: String
            let u: String  // control path
            // control path
            // and why
            let v: any Source
            let w: any Source
            """
        #expect(
            lines(HotPathRules.banned(file("Sources/CleaveVirtioNet/Receive/A.swift", parts))) == [
                8, 13,
            ])
        for line in ["a[Index] = 3", "// many throws", "x.String", "flags: [.more, .dropped]"] {
            #expect(
                HotPathRules.banned(file("Sources/CleaveRings/A.swift", line)).isEmpty, "\(line)")
        }
    }

    @Test("Unsafe flags in a manifest")
    func flags() {
        let text = "a\n." + "unsafe" + "Flags([\"-g\"])\n\"-Oun" + "checked\""
        #expect(lines(HotPathRules.unsafeFlags(file("Package.swift", text))) == [2, 3])
    }

    @Test("Atomics outside the seam")
    func seam() {
        let text = "import CleaveRings\nimport Synchronization"
        #expect(
            lines(SharingRules.atomicsOutsideSeam(file("Sources/CleaveEngine/A.swift", text))) == [
                2
            ])
        #expect(SharingRules.atomicsOutsideSeam(file(SharingRules.seam, text)).isEmpty)
        #expect(SharingRules.atomicsOutsideSeam(file("Tests/ATests/A.swift", text)).isEmpty)
    }

    @Test("Ordered accesses without a label, labels without a partner or a row")
    func edges() {
        let text = """
            // [R1 release -> acquire in B]
            word.storeRelease(1)

            word.loadAcquire()
            fullFence()  // [V3 fence]
            // word.fetchOr(1)
            func storeRelease(
            """
        let (edges, findings) = SharingRules.edges(file("Sources/CleaveEngine/A.swift", text))
        #expect(lines(findings) == [])
        #expect(edges.map(\.label) == ["R1", "R1", "V3"])
        let stacked = file(
            "Sources/CleaveEngine/A.swift",
            "a.fetchOr(1)  // [H3 x]\n// [V2 y]\n// [V3 z]\nword.storeSequential(1)")
        #expect(SharingRules.edges(stacked).edges.map(\.label) == ["H3", "V3", "V2"])
        let both = "a.fetchOr(1)  // [H3 both ways: x]\ncount.fetchAdd(1)"
        #expect(
            SharingRules.edges(file("Sources/CleaveEngine/A.swift", both)).edges.map(\.label)
                == ["H3", "H3"])
        let bare = file("Sources/CleaveEngine/B.swift", "\n// [R1 far]\n\n\n\nword.fetchOr(1)")
        #expect(lines(SharingRules.edges(bare).findings) == [6])

        let table = file("T.md", "| R1 | a |\n| R2 | b |\n| H1 | c |\n| V3 | d |")
        #expect(
            SharingRules.pairing(edges, table: table).map(\.message) == [
                "V3 has only one end", "no access carries R2",
            ])
        let rowless = SharingRules.pairing(edges + edges, table: file("T.md", "| V3 | d |"))
        #expect(rowless.map(\.message) == ["R1 has no row in T.md"])
    }

    @Test("Promises without a reason")
    func promises() {
        let promise = "struct A: @unchecked Sendable {}\nnonisolated(unsafe) var b = 1\n"
        let path = "Sources/CleaveEngine/A.swift"
        #expect(lines(SharingRules.unexplainedPromises(file(path, promise))) == [1, 2])
        let code = "import CleaveRings\n"
        let near = file(path, code + "// SAFETY: one thread.\n" + promise)
        #expect(SharingRules.unexplainedPromises(near).isEmpty)
        let inside = file(path, code + "struct A: @unchecked Sendable {\n    // SAFETY: x\n}")
        #expect(SharingRules.unexplainedPromises(inside).isEmpty)
        let far = file(path, code + "// SAFETY: x\n\n\n\n\n\n" + promise)
        #expect(lines(SharingRules.unexplainedPromises(far)) == [8, 9])
        let header = file(path, "// SAFETY: x\n\n\n" + code + "\n\n\n\n\n\n" + promise)
        #expect(SharingRules.unexplainedPromises(header).isEmpty)
    }

    @Test("Builds that are not told what the machine has, headers that nobody is told of")
    func builds() {
        let makefile = """
            # $(SWIFT) build
            all:
                $(SWIFT) build -c release
                @X=1 ../.ci/with-headers $(SWIFT) build
                cd a && swift test; ${SWIFT:-swift} --version
                $(SWIFT) format lint
                .ci/with-headers swift test && "$SWIFT" package docs
            """
        #expect(lines(BuildRules.unaskedBuilds(file("A/Makefile", makefile))) == [3, 5, 7])
        let script = "#!/usr/bin/env bash\n" + makefile
        #expect(lines(BuildRules.unaskedBuilds(file("Tests/a", script))) == [4, 6, 8])
        #expect(BuildRules.unaskedBuilds(file("A.md", makefile)).isEmpty)

        let text = """
            #ifndef CLEAVE_HAS_A
            #if __has_include(<a.h>)
            #endif
            #ifndef CLEAVE_HAS_B
            #if __has_include(<b.h>)
            #if __has_include(<c.h>)
            // __has_include(<d.h>)
            """
        let told = file(BuildRules.script, "-DCLEAVE_HAS_A=1")
        func untold(_ path: String) -> [Int] {
            lines(BuildRules.untoldHeaders(file(path, text), told: told))
        }
        #expect(untold("Sources/CCleaveHost/a.h") == [5, 6])
        #expect(untold("Benchmarks/Rivals/a.cpp") == [])
    }

    @Test("Readers that leave a pipe early, in scripts that such a pipe ends")
    func pipes() {
        let text = """
            #!/usr/bin/env bash
            set -euo pipefail
            a | grep -q b
            a | head -n 1
            a | sed '/^$/q; p' | sort
            a |
                grep -m1 b
            a | sed -n '5q' | grep -E -q b
            # a | head -1
            a | head -c 3; sed '/^$/q' b; grep -q a b || head -n 1 c
            a | sed 's/q/p/; 1d' | grep -v q | grep -- b-q
            """
        #expect(lines(BuildRules.earlyReaders(file(".ci/a", text))) == [3, 4, 5, 7, 8])
        let without = text.replacingOccurrences(of: "pipefail", with: "")
        #expect(lines(BuildRules.earlyReaders(file(".ci/a", without))) == [])
    }

    @Test("Paths of one machine, hosts nobody else reaches, resolved versions")
    func hygiene() {
        let slash = "/"
        let paths =
            "a \(slash)home/me/x\nb: \(slash)work/y\nhttps://github.com\(slash)home/x\na/opt/b"
        #expect(lines(HygieneRules.machinePaths(file("a.md", paths))) == [1, 2])
        let hosts = "https:\(slash)/github.com/a/b\nhttp:\(slash)/registry.local:80/c\n// see d"
        #expect(lines(HygieneRules.foreignHosts(file("a.md", hosts))) == [2])
        let names = ["Package.swift", "Package.resolved", "Benchmarks/Package.resolved"]
        #expect(HygieneRules.resolvedVersions(names).count == 2)
    }

    @Test("Paths and tests that a page names, and that are not there")
    func paths() {
        let suite = "struct PlanTests {\n    func known() {}\n}"
        let rules = PathRules(
            ["README.md", "Sources/A/B.swift", "Tests/C/PlanTests.swift", "configs/d.yaml"],
            tests: [file("Tests/C/PlanTests.swift", suite)])
        let there = """
            `Sources/A/B.swift`, `A/B.swift`, `B.swift`, `A/B`, `Sources/A`, `PlanTests/known`
            [b](A/B.swift#c) [top](../README.md) https://github.com/x `a/b` `1/2` `Gbit/s` `/x.c`
            ```
            make A/B.swift; cat Sources/A/B.swift other/Sources/x.c
            ```
            """
        #expect(lines(rules.dead(file("Sources/page.md", there))) == [])
        let dead = """
            `Sources/A/C.swift`
            `C.swift` and `A/D`
            `PlanTests/gone`
            [b](Sources/A/B.swift)
            ```
            cp configs/e.yaml configs/d.yaml
            ```
            `Placement/NaivePlan`
            """
        #expect(lines(rules.dead(file("Sources/page.md", dead))) == [1, 2, 2, 3, 4, 6, 8])
        #expect(lines(rules.dead(file("CHANGELOG.md", dead))) == [])
    }

    @Test("Public declarations without bodies, values and what is not public")
    func publicSurface() {
        let text = """
            public enum A: Int {
                case a = 1
                case b
                var c: Int { switch self { case .a: 1; default: 2 } }
            }
            enum B { case hidden }
            public struct C {
                @inlinable public var d: Int { 1 }
                public let e: [Int]
                public static let f = 3
                let g = 2
                public init(
                    d: Int = 1, e: [Int]
                ) throws(E) {
                    self.e = e
                }
                public private(set) var h: [String: Int] = [:]
            }
            """
        #expect(
            PublicSurface.declarations(file("Sources/A.swift", text)) == [
                "public enum A: Int", "case a = 1", "case b", "public struct C",
                "@inlinable public var d: Int", "public let e: [Int]", "public static let f",
                "public init( d: Int = 1, e: [Int] ) throws(E)",
                "public private(set) var h: [String: Int]",
            ])
    }

    @Test("A case that no test names, or only for one ring")
    func hostileCases() {
        let catalogue: [HostileCase] = [
            .init("B01", .both, "a"), .init("B02", .both, "b"), .init("B03", .split, "c"),
            .init("E04", .none, "d"), .init("E05", .both, "e"), .init("C06", .packed, "f"),
        ]
        let both = "RingFormat.allCases"
        let files = [
            file("Tests/A.swift", "@Test(\"B01, B02: x\", arguments: \(both))\nfunc f() {}\n"),
            file("Tests/A.swift", "@Test(\"E03 to E05: x\")\nfunc f() { use(E06) }\n"),
            file("Tests/Packed.swift", "@Test(\"B03, C06: x\")\nfunc f() {}\n"),
        ]
        #expect(
            CoveredCases.missing(catalogue, in: files) == [
                "B03 (c): no test for split rings", "E05 (e): no test for packed rings",
            ])
        #expect(CoveredCases.missing(catalogue, in: []).count == catalogue.count)
    }
}
