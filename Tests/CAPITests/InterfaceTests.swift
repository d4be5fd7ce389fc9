// The recorded binary interface, which programs built earlier rely on. The record is made from the
// header, so that it has a new structure, member or constant by itself.
import Foundation
import Testing

/// The public header, parsed as far as its layout needs.
private struct Header {
    /// Structures and their members, in order.
    var structures: [(name: String, members: [String])] = []
    /// Constants of enumerations and numeric macros.
    var constants: [String] = []

    init(_ text: String) {
        let code = text.replacing(/(?s)\/\*.*?\*\//, with: "")
        for match in code.matches(of: /(?s)typedef struct (cleave_\w+) \{(.*?)\n\} \1;/) {
            let members = match.2.split(separator: ";").compactMap(Self.member)
            structures.append((String(match.1), members))
        }
        for match in code.matches(of: /(?s)enum cleave_\w+ \{(.*?)\}/) {
            constants += match.1.matches(of: /\b(CLEAVE_\w+)\s*=/).map { String($0.1) }
        }
        constants += code.matches(of: /(?m)^#define (CLEAVE_\w+) +[\d(]/).map { String($0.1) }
    }

    /// The name in a declaration of a function pointer, an array, or anything else.
    private static func member(_ declaration: Substring) -> String? {
        let name =
            declaration.firstMatch(of: /\(\*(\w+)\)/)?.1
            ?? declaration.firstMatch(of: /(\w+)(?:\[\w+\])?\s*$/)?.1
        return name.map(String.init)
    }

    /// A program in C and in C++ that prints all of it, a line each.
    var program: String {
        var lines = ["#include <stdio.h>", "#include \"cleave.h\"", "int main(void) {"]
        for name in constants {
            lines.append("printf(\"constant %s %lld\\n\", \"\(name)\", (long long)\(name));")
        }
        for (name, members) in structures {
            lines.append("printf(\"struct %s: %zu bytes\\n\", \"\(name)\", sizeof(\(name)));")
            for member in members {
                lines.append(
                    "printf(\"    %zu: %s, %zu bytes\\n\", offsetof(\(name), \(member)), "
                        + "\"\(member)\", sizeof(((\(name) *)0)->\(member)));")
            }
        }
        return (lines + ["return 0; }"]).joined(separator: "\n") + "\n"
    }
}

@Suite("C library, binary interface")
struct InterfaceTests {
    private static let record = "Sources/CCleave/cleave.abi"

    private static func read(_ path: String) throws -> String {
        try String(contentsOf: LibraryTests.root.appendingPathComponent(path), encoding: .utf8)
    }

    private static var header: Header {
        get throws { Header(try read("Sources/CCleave/include/cleave.h")) }
    }

    /// Constants and structures as the program prints them, and functions.
    private static var recorded: (layout: String, functions: [String]) {
        get throws {
            let lines = try read(record).split(separator: "\n").filter { !$0.hasPrefix("#") }
            let functions = lines.filter { $0.hasPrefix("function ") }
            let layout = lines.filter { !$0.hasPrefix("function ") }
            return (layout.joined(separator: "\n") + "\n", functions.map(String.init))
        }
    }

    private func layout(_ compiler: String, _ dialect: String) throws -> String {
        let folder = FileManager.default.temporaryDirectory
            .appendingPathComponent("cleave-abi-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let source = folder.appendingPathComponent("abi.c")
        try Self.header.program.write(to: source, atomically: true, encoding: .utf8)
        let (code, text) = try LibraryTests.run(
            "\(compiler) \(dialect) -Wall -Wextra -Werror -ISources/CCleave/include \(source.path) "
                + "-o \(folder.path)/abi && \(folder.path)/abi")
        guard code == 0 else {
            throw LibraryTests.Problem(description: "\(compiler) \(dialect): \(code)\n\(text)")
        }
        return text
    }

    @Test("The whole header is read")
    func completeness() throws {
        let header = try Self.header
        let text = try Self.read("Sources/CCleave/include/cleave.h")
        #expect(header.structures.count == text.matches(of: /(?m)^\} cleave_\w+;/).count)
        #expect(header.structures.count > 10 && header.constants.count > 20)
        for (name, members) in header.structures {
            #expect(!members.isEmpty && Set(members).count == members.count, "\(name)")
        }
        let packet = header.structures.first { $0.name == "cleave_packet" }
        #expect(packet?.members.count == 13 && packet?.members.last == "more")
        let context = header.structures.first { $0.name == "cleave_context_config" }
        #expect(context?.members.suffix(3) == ["log", "allocate", "release"])
    }

    @Test(
        "Sizes, offsets and values are those recorded, for every compiler",
        arguments: LibraryTests.compilers)
    func layout(compiler: String, dialect: String) throws {
        let found = try layout(compiler, dialect)
        let expected = try Self.recorded.layout
        if found == expected { return }
        let change = found.split(separator: "\n").difference(
            from: expected.split(separator: "\n"))
        let lines = change.map { step in
            switch step {
            case .insert(_, let line, _): "+ \(line)"
            case .remove(_, let line, _): "- \(line)"
            }
        }
        Issue.record(
            """
            the interface is not the one in \(Self.record), where programs built earlier expect it:
            \(lines.joined(separator: "\n"))
            If that is meant, write it there, and raise CLEAVE_ABI_MINOR (or MAJOR).
            """)
    }

    @Test("Exported functions are those recorded", .enabled(if: LibraryTests.has("nm")))
    func functions() throws {
        let (code, text) = try LibraryTests.run(
            "nm -D --defined-only .build/lib/libcleave.so.0")
        #expect(code == 0, "\(text)")
        let names = text.matches(of: /(?m)^[0-9a-f]+ [TDBRVWi] (\w+)/).map {
            "function \($0.1)"
        }
        let recorded = Set(try Self.recorded.functions)
        #expect(Set(names).symmetricDifference(recorded).sorted() == [])
    }

    @Test("Members and constants are found however they are declared")
    func parsing() {
        let header = Header(
            """
            typedef struct cleave_a {
                uint32_t struct_size; /* bytes; */
                void (*log)(void *user, int level);
                const cleave_b *list; uint64_t dropped[16];
            } cleave_a;
            enum cleave_kind { CLEAVE_ONE = 1 << 0, CLEAVE_TWO = 2 };
            #define CLEAVE_MOST 64
            #define CLEAVE_F_LAST (1ull << 63)
            #define CLEAVE_INIT(structure) {.struct_size = sizeof(structure)}
            """)
        #expect(header.structures.count == 1)
        #expect(header.structures.first?.members == ["struct_size", "log", "list", "dropped"])
        #expect(header.constants == ["CLEAVE_ONE", "CLEAVE_TWO", "CLEAVE_MOST", "CLEAVE_F_LAST"])
    }
}
