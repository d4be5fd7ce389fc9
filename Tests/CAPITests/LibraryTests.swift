// The library as a user gets it: its dependencies, its symbols, and its header under several
// compilers. `make test` builds it before it runs the tests.
import Foundation
import Testing

@Suite("C library, built")
struct LibraryTests {
    static let root = (0..<3).reduce(URL(fileURLWithPath: #filePath)) { url, _ in
        url.deletingLastPathComponent()
    }
    static let library = root.appendingPathComponent(".build/lib/libcleave.so.0").path
    /// For processors with AVX2; on x86-64 alone.
    static let wide = ".build/lib/glibc-hwcaps/x86-64-v3/libcleave.so.0"
    static let hasWide = FileManager.default.fileExists(
        atPath: root.appendingPathComponent(wide).path)
    static let libraries = [library] + (hasWide ? [wide] : [])
    static let hasLibrary = FileManager.default.fileExists(atPath: library)

    struct Problem: Error, CustomStringConvertible {
        let description: String
    }

    /// Runs a command at the root of the package.
    /// - Returns: exit code, and what it printed on both streams.
    static func run(_ line: String) throws -> (code: Int32, output: String) {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/bin/bash")
        process.arguments = ["-c", line]
        process.currentDirectoryURL = root
        let pipe = Pipe()
        process.standardOutput = pipe
        process.standardError = pipe
        process.standardInput = FileHandle.nullDevice
        try process.run()
        let data = try pipe.fileHandleForReading.readToEnd() ?? Data()
        process.waitUntilExit()
        return (process.terminationStatus, String(decoding: data, as: UTF8.self))
    }

    static func has(_ tool: String) -> Bool {
        (try? run("command -v \(tool)").code == 0) ?? false
    }

    private static var exported: [String] {
        get throws {
            let map = try String(
                contentsOf: root.appendingPathComponent("Sources/CCleave/cleave.map"),
                encoding: .utf8)
            return map.matches(of: /(cleave_[a-z0-9_]+);/).map { String($0.1) }.sorted()
        }
    }

    /// The public header without its comments.
    static var header: String {
        get throws {
            try String(
                contentsOf: root.appendingPathComponent("Sources/CCleave/include/cleave.h"),
                encoding: .utf8
            ).replacing(/(?s)\/\*.*?\*\//, with: "")
        }
    }

    @Test("`make lib` has built it")
    func isBuilt() {
        #expect(Self.hasLibrary, "run `make lib` first")
    }

    @Test(
        "It needs the C and C++ runtimes and libnuma alone", .enabled(if: has("readelf")),
        arguments: libraries)
    func needed(library: String) throws {
        let (code, text) = try Self.run("readelf -dW \(library)")
        #expect(code == 0, "\(text)")
        let needed = Set(text.matches(of: /NEEDED.*\[(.*)\]/).map { String($0.1) })
        let allowed: Set = [
            "libc.so.6", "libm.so.6", "libstdc++.so.6", "libgcc_s.so.1", "libnuma.so.1",
            "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1",
        ]
        #expect(needed.isSubset(of: allowed), "\(needed.subtracting(allowed))")
        #expect(text.contains("[libcleave.so.0]"))
        #expect(text.contains("NODELETE"))
    }

    @Test("It shows exactly what the map lists, and so does the archive", .enabled(if: has("nm")))
    func exports() throws {
        let archive = [("-g", ".build/lib/libcleave.a")]
        for (flags, file) in Self.libraries.map({ ("-D", $0) }) + archive {
            let (code, text) = try Self.run("nm \(flags) --defined-only \(file)")
            #expect(code == 0, "\(text)")
            let names = text.matches(of: /(?m)^[0-9a-f]+ [TDBRVWi] ([^@\s]+)/).map { String($0.1) }
            #expect(names.sorted() == (try Self.exported))
        }
    }

    @Test("The map lists every function of the header")
    func mapIsComplete() throws {
        let declared = try Self.header
            .matches(of: /(?m)^(?:int|uint32_t|const char \*) ?\*?(cleave_\w+)\(/)
            .map { String($0.1) }
        #expect(declared.sorted() == (try Self.exported))
    }

    @Test("The loader takes the build for the processor", .enabled(if: hasWide))
    func wideIsLoaded() throws {
        let loader = "/lib64/ld-linux-x86-64.so.2"
        let supports = try Self.run("\(loader) --help").output.contains("x86-64-v3 (supported")
        let (code, text) = try Self.run(
            "LD_LIBRARY_PATH=.build/lib LD_PRELOAD=libcleave.so.0 \(loader) --list /bin/true")
        #expect(code == 0, "\(text)")
        let expected = supports ? Self.wide : ".build/lib/libcleave.so.0"
        #expect(text.contains(expected), "\(text)")
    }

    @Test("Stripped it is smaller than 8 MB", .enabled(if: has("strip")), arguments: libraries)
    func size(library: String) throws {
        let (code, text) = try Self.run(
            "f=$(mktemp) && strip --strip-unneeded -o $f \(library) && stat -c %s $f; rm -f $f"
        )
        #expect(code == 0, "\(text)")
        let byteCount = Int(text.trimmingCharacters(in: .whitespacesAndNewlines)) ?? .max
        #expect(byteCount < 8_000_000)
    }

    /// Compilers, and the dialects of the header that each takes.
    static let compilers = [
        ("gcc", "-x c -std=c99"), ("gcc", "-x c -std=c17"), ("clang", "-x c -std=c99"),
        ("g++", "-x c++ -std=c++11"), ("clang++", "-x c++ -std=c++20"),
    ].filter { has($0.0) }

    /// Compiles a program against the header with every warning an error, and runs it.
    func compileAndRun(
        _ compiler: String, _ dialect: String, _ source: String, archive: Bool = false
    ) throws -> String {
        let libraries =
            archive
            ? "-x none .build/lib/libcleave.a -lnuma -lstdc++ -lm -ldl -lpthread"
            : "-L.build/lib -lcleave"
        let (code, text) = try Self.run(
            """
            f=$(mktemp) && \(compiler) \(dialect) -Wall -Wextra -Wpedantic -Werror \
            -ISources/CCleave/include \(source) -o $f \(libraries) && \
            LD_LIBRARY_PATH=.build/lib $f; r=$?; rm -f $f; exit $r
            """)
        guard code == 0 else {
            throw Problem(description: "\(compiler) \(dialect) \(source): \(code)\n\(text)")
        }
        return text
    }

    @Test("A program that knows only the header uses all of it", arguments: compilers)
    func smoke(compiler: String, dialect: String) throws {
        let output = try compileAndRun(compiler, dialect, "Tests/CPrograms/smoke.c")
        // Nothing but what the program itself prints.
        #expect(output.hasPrefix("smoke: everything holds, libcleave 0."))
        #expect(output.filter(\.isNewline).count == 1)
    }

    @Test("It lives in processes that fork, run out of descriptors, and have small stacks")
    func process() throws {
        let output = try compileAndRun(
            "gcc", "-x c -std=c99 -pthread", "Tests/CPrograms/process.c")
        #expect(output.contains("process: everything holds"))
    }

    @Test("The archive serves a C program without Swift", .enabled(if: has("gcc")))
    func archive() throws {
        let output = try compileAndRun(
            "gcc", "-x c -std=c99", "Tests/CPrograms/smoke.c", archive: true)
        #expect(output.hasPrefix("smoke: everything holds"))
    }

    @Test("The smallest example works", arguments: compilers.filter { !$0.0.contains("++") })
    func minimal(compiler: String, dialect: String) throws {
        let output = try compileAndRun(compiler, dialect, "Sources/Examples/C/minimal.c")
        #expect(output.contains("1 packet, used index 1, 72 bytes: intact"))
    }

    @Test(
        "The example with a header queue works",
        arguments: compilers.filter { !$0.0.contains("++") })
    func headerQueue(compiler: String, dialect: String) throws {
        let output = try compileAndRun(compiler, dialect, "Sources/Examples/C/header_queue.c")
        let lines = output.split(separator: "\n")
        #expect(
            lines == [
                "split: slot 0 has 42 bytes of headers, the page begins with the payload: hello",
                "whole: 72 bytes in the page, 12 of them the net header",
                "free slots: 3 of 4, and 4 after the return of 1", "whole by notSplittable: 1",
            ])
    }

    @Test(
        "The example in Rust carries every byte",
        .enabled(if: has("rustc"), "there is no rustc: install it"))
    func rust() throws {
        let (code, output) = try Self.run(
            """
            set -e
            d=$(mktemp -d)
            trap 'rm -rf $d' EXIT
            rustc --edition 2021 -D warnings Sources/Examples/Rust/queue_pair.rs -o $d/p \
                -L native=.build/lib
            LD_LIBRARY_PATH=.build/lib $d/p 2>/dev/null
            """)
        #expect(code == 0, "\(output)")
        #expect(
            output.split(separator: "\n") == [
                "8 packets from ring to ring, 8 intact", "8 transmit buffers returned",
            ])
    }

    @Test("The C++ example works", arguments: compilers.filter { $0.0.contains("++") })
    func raii(compiler: String, dialect: String) throws {
        let output = try compileAndRun(compiler, "-std=c++17", "Sources/Examples/C/raii.cpp")
        #expect(output.contains("headers in slot 0, 100 bytes of payload"))
        #expect(output.contains("intact"))
        #expect(output.contains("refused: invalid argument: split ring size 3"))
    }

    @Test("What is installed is found by pkg-config", .enabled(if: has("pkg-config")))
    func install() throws {
        let (code, text) = try Self.run(
            """
            set -e
            d=$(mktemp -d)
            trap 'rm -rf $d' EXIT
            make --no-print-directory install-library PREFIX=/usr DESTDIR=$d >/dev/null
            cd $d
            find . -type f -o -type l | LC_ALL=C sort
            export PKG_CONFIG_SYSROOT_DIR=$d PKG_CONFIG_LIBDIR=$d/usr/lib/pkgconfig
            pkg-config --modversion cleave
            cc -std=c99 $OLDPWD/Sources/Examples/C/minimal.c -o m \
                $(pkg-config --cflags --libs cleave)
            LD_LIBRARY_PATH=$d/usr/lib ./m 2>/dev/null
            """)
        #expect(code == 0, "\(text)")
        let manual = try Set(Self.exported + ManualTests.pages.map(\.name)).sorted()
            .map { "./usr/share/man/man3/\($0).3" }.joined(separator: "\n")
        let wide = Self.hasWide ? "./usr/lib/glibc-hwcaps/x86-64-v3/libcleave.so.0\n" : ""
        let expected = """
            ./usr/include/cleave.h
            \(wide)./usr/lib/libcleave.a
            ./usr/lib/libcleave.so
            ./usr/lib/libcleave.so.0
            ./usr/lib/libcleave.so.0.2.0
            ./usr/lib/pkgconfig/cleave.pc
            \(manual)
            0.2.0
            """
        #expect(text.hasPrefix(expected), "\(text)")
        #expect(text.contains("intact"))
    }
}
