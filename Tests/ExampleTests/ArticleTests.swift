// Excerpts of the examples in the documentation, against their sources.
import CleaveTestSupport
import Foundation
import Testing

/// A fenced block of Swift, or of C with a source, in a page.
private struct Excerpt {
    let page: String
    /// The file that the line before the block names; nil if it names none.
    let source: String?
    /// Without indentation and empty lines.
    let lines: [String]

    /// All blocks of a page.
    static func all(in page: String) throws -> [Excerpt] {
        var found: [Excerpt] = []
        var lastText = ""
        var block: [String]?
        for line in try ArticleTests.lines(of: page) {
            if let lines = block {
                if line.hasPrefix("```") {
                    let source = lastText.firstMatch(of: /^From `(Sources\/Examples\/[^`]+)`:$/)
                    found.append(
                        Excerpt(page: page, source: source.map { String($0.1) }, lines: lines))
                    block = nil
                } else if !line.isEmpty {
                    block?.append(line)
                }
            } else if line == "```swift" || line == "```c" && lastText.hasPrefix("From `") {
                block = []
            } else if !line.isEmpty {
                lastText = line
            }
        }
        return found
    }
}

@Suite("Examples, in the documentation")
struct ArticleTests {
    private static let catalogue = "Sources/CleaveEngine/Cleave.docc"
    private static let examples = "Sources/Examples"

    /// The lines of a file without white space around them.
    fileprivate static func lines(of path: String) throws -> [String] {
        let file = ReleaseProgram.root.appendingPathComponent(path)
        return try String(contentsOf: file, encoding: .utf8)
            .split(separator: "\n", omittingEmptySubsequences: false)
            .map { $0.trimmingCharacters(in: .whitespaces) }
    }

    private static func names(in folder: String) throws -> [String] {
        let place = ReleaseProgram.root.appendingPathComponent(folder)
        return try FileManager.default.contentsOfDirectory(atPath: place.path).sorted()
    }

    private static func excerpts() throws -> [Excerpt] {
        let pages = try names(in: catalogue).filter { $0.hasSuffix(".md") }
        return try (pages.map { "\(catalogue)/\($0)" } + ["README.md"]).flatMap(Excerpt.all)
    }

    @Test("Each line of an excerpt is a line of the source, in its order")
    func excerpts() throws {
        let excerpts = try Self.excerpts().filter { $0.source != nil }
        #expect(excerpts.count >= 3)
        for excerpt in excerpts {
            var rest = try Self.lines(of: excerpt.source!)[...]
            #expect(!excerpt.lines.isEmpty)
            for line in excerpt.lines {
                guard let place = rest.firstIndex(of: line) else {
                    Issue.record("\(excerpt.page): \(excerpt.source!) has no line `\(line)` there")
                    break
                }
                rest = rest[(place + 1)...]
            }
        }
    }

    @Test("Each Swift example is in an article, in Package.swift and on the list of examples")
    func nothingIsLeftOut() throws {
        let named = Set(try Self.excerpts().compactMap(\.source))
        let manifest = try Self.lines(of: "Package.swift").joined(separator: "\n")
        let list = try Self.lines(of: "\(Self.examples)/README.md").joined(separator: "\n")
        let foreign = ["C", "Rust"]
        let folders = try Self.names(in: Self.examples).filter {
            $0 != "README.md" && !foreign.contains($0)
        }
        #expect(folders.count >= 3)
        for folder in folders {
            #expect(named.contains("\(Self.examples)/\(folder)/main.swift"), "\(folder)")
            #expect(manifest.contains("path: \"\(Self.examples)/\(folder)\""), "\(folder)")
            #expect(list.contains("`\(folder)/main.swift`"), "\(folder)")
        }
        let pages = try Self.names(in: Self.catalogue).filter { $0.hasSuffix(".md") }
        let articles = try pages.flatMap { try Self.lines(of: "\(Self.catalogue)/\($0)") }
            .joined(separator: "\n")
        for folder in foreign {
            for name in try Self.names(in: "\(Self.examples)/\(folder)") {
                #expect(list.contains("`\(folder)/\(name)`"), "\(name)")
                #expect(articles.contains("`\(Self.examples)/\(folder)/\(name)`"), "\(name)")
            }
        }
    }

    @Test("A manifest that the documentation prints names products that there are")
    func manifests() throws {
        let own = try Self.lines(of: "Package.swift").joined(separator: "\n")
        let products = Set(own.matches(of: /\.library\(\s*name: "(\w+)"/).map(\.1))
        let manifests = try Self.excerpts().filter { $0.source == nil }
        #expect(manifests.count == 2)
        for manifest in manifests {
            let text = manifest.lines.joined(separator: "\n")
            let used = text.matches(of: /\.product\(name: "(\w+)", package: "cleave"\)/).map(\.1)
            #expect(used.count == 2 && products.isSuperset(of: used), "\(manifest.page): \(used)")
        }
    }
}
