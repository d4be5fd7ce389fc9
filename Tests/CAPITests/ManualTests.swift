// The man pages beside the header: every function has a page that agrees with the header, and the
// pages are in order.
import CCleave
import Foundation
import Testing

/// A man page, as far as the tests read it.
struct ManualPage {
    /// Of the file, without its section.
    let name: String
    let path: String
    /// Lines of each section, by its title.
    private(set) var sections: [String: [String]] = [:]

    init(_ path: String, _ text: String) {
        self.path = path
        name = String(path.split(separator: "/").last ?? "").replacing(".3", with: "")
        var title = ""
        for line in text.split(separator: "\n", omittingEmptySubsequences: false) {
            if line.hasPrefix(".SH ") {
                title = String(line.dropFirst(4))
            } else {
                sections[title, default: []].append(String(line))
            }
        }
    }

    /// Names in the section NAME, by which `apropos` finds the page.
    var listed: [String] {
        let line = sections["NAME", default: []].joined(separator: " ")
        return line.split(separator: " \\-")[0].split(separator: ",")
            .map { $0.trimmingCharacters(in: .whitespaces) }
    }

    /// Prototypes of the section SYNOPSIS.
    var prototypes: [String: String] {
        let lines = sections["SYNOPSIS", default: []].filter { $0.hasPrefix(".B") }
        return ManualPage.prototypes(in: lines.map(Self.spoken).joined(separator: "\n"))
    }

    /// The programs of the section EXAMPLES.
    var examples: String {
        var isExample = false
        let lines = sections["EXAMPLES", default: []].filter { line in
            if line == ".EX" || line == ".EE" { isExample = line == ".EX" }
            return isExample && line != ".EX"
        }
        return lines.map(Self.plain).joined(separator: "\n") + "\n"
    }

    /// All words, in any font.
    var words: Set<Substring> {
        Set(
            sections.values.joined().flatMap {
                $0.split { !($0.isLetter || $0.isNumber || $0 == "_") }
            })
    }

    /// Prototypes of a header's text, by name, in one spelling.
    static func prototypes(in code: String) -> [String: String] {
        let found = code.matches(
            of: /(?m)^(?:int|uint32_t|const char \*) ?\*?(cleave_\w+)\([^;]*\);/)
        return Dictionary(
            found.map { match in
                let text = match.0.split(whereSeparator: \.isWhitespace).joined(separator: " ")
                return (String(match.1), text.replacing("( ", with: "("))
            }, uniquingKeysWith: { $0 + " and " + $1 })
    }

    /// The words of a line that a font macro begins: those of `.BI` follow each other without a
    /// space.
    private static func spoken(_ line: String) -> String {
        let words = line.matches(of: /"([^"]*)"|(\S+)/).dropFirst()
        return words.map { String($0.1 ?? $0.2 ?? "") }
            .joined(separator: line.hasPrefix(".BI ") ? "" : " ")
    }

    /// A line of code without its escapes.
    private static func plain(_ line: String) -> String {
        line.replacing("\\&", with: "").replacing("\\-", with: "-").replacing("\\(aq", with: "'")
            .replacing("\\e", with: "\\")
    }
}

@Suite("C library, manual")
struct ManualTests {
    static let folder = "Sources/CCleave/man"

    static let pages: [ManualPage] = {
        let place = LibraryTests.root.appendingPathComponent(folder)
        let names = (try? FileManager.default.contentsOfDirectory(atPath: place.path)) ?? []
        return names.sorted().compactMap { name in
            let file = place.appendingPathComponent(name)
            guard let text = try? String(contentsOf: file, encoding: .utf8) else { return nil }
            return ManualPage("\(Self.folder)/\(name)", text)
        }
    }()

    @Test("Every function stands on one page, as the header declares it")
    func functions() throws {
        let declared = ManualPage.prototypes(in: try LibraryTests.header)
        #expect(declared.count > 40)
        #expect(Self.pages.flatMap(\.listed).sorted() == (declared.keys + ["libcleave"]).sorted())
        for page in Self.pages where page.name != "libcleave" {
            #expect(page.prototypes.keys.sorted() == page.listed.sorted(), "\(page.name)")
            for (name, prototype) in page.prototypes { #expect(prototype == declared[name]) }
        }
    }

    @Test("Every constant, structure and member of the header is on a page")
    func nothingIsLeftOut() throws {
        let header = try LibraryTests.header
        let words = Self.pages.reduce(into: Set<Substring>()) { $0.formUnion($1.words) }
        var wanted = Set(header.matches(of: /\bCLEAVE_[A-Z]\w*/).map(\.output))
        wanted.remove("CLEAVE_H")
        for match in header.matches(of: /(?s)typedef struct (cleave_\w+) \{(.*?)\n\} \1;/) {
            wanted.insert(match.1)
            wanted.formUnion(match.2.matches(of: /(\w+)(?:\[\w+\]|\)\([^;]*\))?;/).map(\.1))
        }
        #expect(wanted.count > 140)
        #expect(wanted.subtracting(words).sorted() == [])
    }

    @Test("Every name that the library gives is explained")
    func names() throws {
        let page = try #require(Self.pages.first { $0.name == "cleave_names" })
        let functions: [(UInt32) -> UnsafePointer<CChar>?] = [
            { cleave_fallback_name($0) }, { cleave_drop_name($0) }, { cleave_fault_name($0) },
            { cleave_txq_drop_name($0) },
        ]
        for function in functions {
            let names = (UInt32(0)..<64).compactMap(function).map { String(cString: $0) }
            #expect(names.count > 3)
            for name in names { #expect(page.words.contains(Substring(name)), "\(name)") }
        }
    }

    @Test("Pages have the sections that users look for, and name only pages that are there")
    func sections() {
        let pages = Set(Self.pages.flatMap { $0.listed + [$0.name] })
        for page in Self.pages {
            for title in ["NAME", "SYNOPSIS", "DESCRIPTION", "RETURN VALUE", "ERRORS", "SEE ALSO"] {
                #expect(page.sections[title] != nil, "\(page.name) has no \(title)")
            }
            let named = page.sections.values.joined().flatMap {
                $0.matches(of: /\b(\w*cleave\w*) \(3\)/).map { String($0.1) }
            }
            #expect(Set(named).subtracting(pages).sorted() == [], "\(page.name)")
        }
    }

    @Test(
        "Pages render without a warning, in 80 columns", .enabled(if: LibraryTests.has("groff")),
        arguments: pages.map(\.path))
    func rendering(path: String) throws {
        let (code, warnings) = try LibraryTests.run("groff -man -ww -z \(path)")
        #expect(code == 0 && warnings == "", "\(warnings)")
        // The width that `man` uses for 80 columns.
        let (_, text) = try LibraryTests.run(
            "groff -man -Tascii -P-c -P-b -P-u -rLL=78n \(path)")
        let lines = text.split(separator: "\n")
        #expect(lines.count > 20)
        for line in lines where line.count > 80 { Issue.record("\(path): \(line)") }
    }

    @Test("Every function has a stub that names its page")
    func stubs() throws {
        let (code, text) = try LibraryTests.run(
            """
            set -e
            d=$(mktemp -d)
            trap 'rm -rf $d' EXIT
            .ci/man-stubs \(Self.folder) $d
            cd $d
            grep . -- *
            """)
        #expect(code == 0)
        let expected = Self.pages.flatMap { page in
            page.listed.filter { $0 != page.name }.map { "\($0).3:.so man3/\(page.name).3" }
        }
        #expect(text.split(separator: "\n").map(String.init).sorted() == expected.sorted())
    }

    /// Puts a page's examples into a file for as long as `body` runs.
    private func withExamples<Value>(
        of page: ManualPage, _ body: (String) throws -> Value
    ) throws -> Value {
        let file = FileManager.default.temporaryDirectory
            .appendingPathComponent("cleave-manual-\(UUID().uuidString).c")
        try page.examples.write(to: file, atomically: true, encoding: .utf8)
        defer { try? FileManager.default.removeItem(at: file) }
        return try body(file.path)
    }

    @Test(
        "Examples compile", .enabled(if: LibraryTests.has("gcc")),
        arguments: pages.map(\.name))
    func examples(name: String) throws {
        let page = try #require(Self.pages.first { $0.name == name })
        #expect(page.examples.contains("#include <cleave.h>"))
        let (code, text) = try withExamples(of: page) {
            try LibraryTests.run(
                """
                gcc -std=c99 -Wall -Wextra -Wpedantic -Werror -fsyntax-only \
                -ISources/CCleave/include \($0)
                """)
        }
        #expect(code == 0, "\(text)")
    }

    @Test(
        "The complete example works",
        arguments: LibraryTests.compilers.filter { !$0.0.contains("++") })
    func completeExample(compiler: String, dialect: String) throws {
        let page = try #require(Self.pages.first { $0.name == "libcleave" })
        let output = try withExamples(of: page) {
            try LibraryTests().compileAndRun(compiler, dialect, $0)
        }
        #expect(output == "1 packet, 72 bytes used\n")
    }
}
