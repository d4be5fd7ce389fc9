// The scripts between make and its tools, run with stand-ins for what they call.
import Foundation
import Testing

@Suite("Scripts that builds need")
struct BuildScriptTests {
    /// Runs a command at the top of the project with `tools` (shell text by path below a folder of
    /// their own) before all others, and that folder in the variable `tools`.
    /// - Returns: exit code, and what it printed on both streams.
    private func run(
        _ command: String, _ arguments: [String], tools: [String: String] = [:],
        environment: [String: String] = [:]
    ) throws -> (code: Int32, output: String) {
        let files = FileManager.default
        let folder = files.temporaryDirectory.appendingPathComponent("cleave-\(UUID().uuidString)")
        defer { try? files.removeItem(at: folder) }
        for (name, text) in tools {
            let tool = folder.appendingPathComponent(name)
            try files.createDirectory(
                at: tool.deletingLastPathComponent(), withIntermediateDirectories: true)
            try Data("#!/bin/bash\n\(text)\n".utf8).write(to: tool)
            try files.setAttributes([.posixPermissions: 0o755], ofItemAtPath: tool.path)
        }
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments =
            [command] + arguments.map { $0.replacing("@TOOLS@", with: folder.path) }
        process.currentDirectoryURL = ProjectTree.top
        // Not with the flags of the make that may have started these tests.
        let inherited = ProcessInfo.processInfo.environment.filter {
            !["MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES"].contains($0.key)
        }
        process.environment = inherited.merging(environment) { $1 }.merging([
            "PATH": "\(folder.path):\(inherited["PATH", default: ""])", "tools": folder.path,
        ]) { $1 }
        let pipe = Pipe()
        process.standardOutput = pipe
        process.standardError = pipe
        try process.run()
        let data = try pipe.fileHandleForReading.readToEnd() ?? Data()
        process.waitUntilExit()
        return (process.terminationStatus, String(decoding: data, as: UTF8.self))
    }

    /// A toolchain whose clang finds the headers that `found` matches, and whose swift prints what
    /// it was asked.
    private func toolchain(_ found: String) -> [String: String] {
        [
            "usr/bin/swift": """
            [ "$1" = -print-target-info ] || exec echo "$@"
            mkdir -p "$tools/usr/lib/swift"
            printf '  "runtimeResourcePath": "%s"\\n' "$tools/usr/lib/swift"
            """,
            "usr/bin/clang": "if grep -q '\(found)'; then echo; echo 1; else echo 0; fi",
        ]
    }

    @Test(
        "Each build is told of each header, after its command and before its own flags",
        arguments: [
            ("sys/sdt.h", 1, 0), ("valgrind/callgrind.h", 0, 1), ("<", 1, 1), ("^$", 0, 0),
        ])
    func headers(found: String, sdt: Int, callgrind: Int) throws {
        let (code, output) = try run(
            BuildRules.script, ["@TOOLS@/usr/bin/swift", "build", "-c", "release"],
            tools: toolchain(found))
        #expect(code == 0)
        #expect(
            output == "build -Xcc -DCLEAVE_HAS_SDT=\(sdt) -Xcc -DCLEAVE_HAS_CALLGRIND=\(callgrind)"
                + " -c release\n")
    }

    @Test("A compiler that cannot be asked is no compiler without headers")
    func noAnswer() throws {
        var tools = toolchain("<")
        tools["usr/bin/clang"] = "echo broken >&2; exit 1"
        let (code, output) = try run(
            BuildRules.script, ["@TOOLS@/usr/bin/swift", "build"], tools: tools)
        #expect(code != 0)
        #expect(output == "broken\n")
    }

    @Test("`make test` asks for no package after it has begun to build")
    func packagesFirst() throws {
        let (code, output) = try run("make", ["-n", "test"])
        try #require(code == 0, "\(output)")
        let lines = output.split(separator: "\n")
        let start = try #require(lines.firstIndex { $0.contains(BuildRules.script) })
        func packages(_ part: ArraySlice<Substring>) -> Set<Substring> {
            Set(
                part.filter { $0.hasPrefix(".ci/require ") }.flatMap { $0.split(separator: " ") }
            ).subtracting(["--check", "--optional"])
        }
        let late = packages(lines[start...])
        #expect(late.isSuperset(of: ["valgrind", "spin", "qemu-system-x86"]))
        #expect(late.subtracting(packages(lines[..<start])).isEmpty)
    }

    @Test("Builds say what is missing and how to install it; two commands install it themselves")
    func check() throws {
        let tools = ["dpkg-query": "exit 1", "apt-get": "echo installed >&2; exit 1"]
        let (code, output) = try run(".ci/require", ["--check", "a", "b"], tools: tools)
        #expect(code == 1)
        let lines = output.split(separator: "\n")
        #expect(lines.count == 2 && lines[0] == "missing Debian packages: a b", "\(output)")
        #expect(lines.last?.hasPrefix("install them by: make deps, or ") == true)
        #expect(lines.last?.hasSuffix("apt-get install a b") == true)
        let present = try run(
            ".ci/require", ["--check", "a"], tools: ["dpkg-query": "echo installed"])
        #expect(present.code == 0 && present.output == "")
        let looks = try #require(
            try run("make", ["-n", "needed"]).output.split(separator: "\n").first)
        #expect(looks.hasPrefix(".ci/require --check ") && looks.contains("libnuma-dev"))
        for target in ["build", "lib", "install", "deb", "docs", "profile"] {
            let plan = try run("make", ["-n", target])
            try #require(plan.code == 0, "\(plan.output)")
            #expect(plan.output.contains(looks), "make \(target)")
            let asks = plan.output.split(separator: "\n").filter {
                $0.hasPrefix(".ci/require") && !$0.hasPrefix(".ci/require --check")
            }
            #expect(asks.isEmpty, "make \(target): \(asks)")
        }
        for target in ["deps", "bench", "test"] {
            let plan = try run("make", ["-n", target]).output
            let first = plan.split(separator: "\n").first { $0.hasPrefix(".ci/") }
            #expect(first?.contains("libnuma-dev") == true, "make \(target)")
            #expect(first?.contains("--check") == false, "make \(target)")
        }
        let lost = try run(
            "make", ["needed", "SWIFT=no-such-swift"], tools: ["dpkg-query": "echo installed"])
        #expect(lost.code != 0)
        #expect(lost.output.contains("there is no no-such-swift: install Swift 6.3"))
    }

    @Test("An installation has programs, what belongs to them, and the library")
    func installation() throws {
        let (code, output) = try run(
            "make", ["-n", "install-files", "DESTDIR=/d", "PREFIX=/p", "LIBDIR=/l"])
        try #require(code == 0, "\(output)")
        for part in [
            "cleave-bench cleave-vhost", "/d/p/bin", "/d/p/share/cleave/$file",
            "configs/bench/default.yaml", "configs/captures/linux-mtu1500.pcap",
            "/d/p/lib/systemd/system/cleave-vhost.service", "/d/p/share/qemu/vhost-user/",
            "/d/p/include", "/d/l/pkgconfig", "/d/p/share/man/man3",
        ] {
            #expect(output.contains(part), "\(part)")
        }
        #expect(try run("make", ["-n", "programs"]).output.contains("--static-swift-stdlib"))
    }

    @Test("A program's page has every command's help, and roff takes no word of it for its own")
    func programFiles() throws {
        let program = """
            case "$*" in
                help) printf 'OVERVIEW: Does\\nthings.\\n\\nSUBCOMMANDS:\\n'
                    printf '  run (default)  Runs.\\n\\n'
                    # More than a pipe holds: whoever leaves the help early ends its writer.
                    for _ in $(seq 3000); do echo 'NOTE: this is one line of a long help.'; done ;;
                'help run') printf '.dot\\n  --flag  it\\\\\\n%s\\n' "'quote" ;;
                --generate*) echo "$2" ;;
            esac
            """
        let (code, output) = try run(
            "sh",
            [
                "-c",
                """
                .ci/program-files "$tools/tool" 1.2 "$tools/out" &&
                cat "$tools/out/share/man/man1/tool.1" && cd "$tools/out" &&
                find . -type f | sort && cat share/zsh/site-functions/_tool
                """,
            ], tools: ["tool": program])
        try #require(code == 0, "\(output)")
        #expect(output.hasPrefix(".TH TOOL 1 \"\" \"cleave 1.2\" \"User Commands\"\n"))
        #expect(output.contains("\ntool \\- Does things\n"))
        #expect(output.contains("\n.SS run\n.nf\n\\&.dot\n  \\-\\-flag  it\\e\n\\&'quote\n"))
        #expect(
            output.hasSuffix(
                """
                ./bin/tool
                ./share/bash-completion/completions/tool
                ./share/fish/vendor_completions.d/tool.fish
                ./share/man/man1/tool.1
                ./share/zsh/site-functions/_tool
                zsh

                """), "\(output)")
    }

    /// An apt-get whose lock is held by another for the first `failures` calls, or that fails.
    private func packages(failures: Int, error: String) -> [String: String] {
        [
            "dpkg-query": "exit 1",
            "sudo": "exec \"$@\"",
            "apt-get": """
            echo "$*" >> "$tools/calls"
            if [ "$(wc -l < "$tools/calls")" -le \(failures) ]; then
                echo 'E: \(error)' >&2
                exit 100
            fi
            echo "apt-get $*" >&2
            """,
        ]
    }

    private static let lock = "Could not get lock (lists). It is held by process 1 (apt-get)"

    @Test("Two at once: the second waits, says so once, and installs")
    func waits() throws {
        let (code, output) = try run(
            ".ci/require", ["a", "b"], tools: packages(failures: 2, error: Self.lock))
        #expect(code == 0)
        let lines = output.split(separator: "\n")
        try #require(lines.count == 4, "\(output)")
        #expect(lines[0] == "installing: a b")
        #expect(lines[1].hasPrefix("another apt is at work"))
        #expect(lines[2].hasPrefix("apt-get") && lines[2].hasSuffix("update"))
        #expect(lines[3].hasSuffix("install a b"))
    }

    @Test("It waits for so long, for a lock alone, and then fails unless packages are optional")
    func givesUp() throws {
        for error in [Self.lock, "no network"] {
            for flags in [[], ["--optional"]] {
                let (code, output) = try run(
                    ".ci/require", flags + ["a"], tools: packages(failures: 9, error: error),
                    environment: ["APT_PATIENCE": error == Self.lock ? "1" : "600"])
                #expect(code == (flags.isEmpty ? 1 : 0))
                #expect(output.contains("E: \(error)"))
                #expect(output.contains("another apt is at work") == (error == Self.lock))
                #expect(output.contains("missing Debian packages: a: apt-get update failed"))
            }
        }
    }
}
