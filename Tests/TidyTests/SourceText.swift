// Source text, plain and with comments and string literals blanked out, line by line.
import Foundation

/// Where a rule was broken. Prints as `path:line: [rule] message`.
struct Finding: CustomStringConvertible, Equatable {
    let path: String
    let line: Int
    let rule: String
    let message: String

    var description: String { "\(path):\(line): [\(rule)] \(message)" }
}

/// One text file of the project.
struct SourceText {
    /// Relative to the top of the project, with forward slashes.
    let path: String
    /// The file as it is; line n is `lines[n - 1]`.
    let lines: [String]
    /// The same lines with comments and the contents of string literals replaced by spaces.
    let code: [String]
    /// Which of those lines have anything but spaces.
    private let isWritten: [Bool]

    init(path: String, text: String) {
        self.path = path
        lines = text.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
        code = SourceMask.mask(text).split(separator: "\n", omittingEmptySubsequences: false)
            .map(String.init)
        isWritten = code.map { $0.utf8.contains { $0 != 32 } }
    }

    var folders: [String] { path.split(separator: "/").dropLast().map(String.init) }
    /// Of the file, without folders and extension.
    var name: String { String(path.split(separator: "/").last?.split(separator: ".").first ?? "") }
    var isSwift: Bool { path.hasSuffix(".swift") }
    var isC: Bool {
        [".c", ".h", ".cpp", ".hpp"].contains { path.hasSuffix($0) }
    }

    /// The module a file below Sources belongs to.
    var module: String? { folders.count >= 2 && folders[0] == "Sources" ? folders[1] : nil }

    /// The comment lines before the first code.
    var header: [String] {
        Array(lines.prefix { $0.isEmpty || $0.trimmed.hasPrefix("//") })
    }

    func finding(_ index: Int, _ rule: String, _ message: String) -> Finding {
        Finding(path: path, line: index + 1, rule: rule, message: message)
    }

    /// Numbers (from 0) of the lines whose code matches `pattern`.
    func codeLines(matching pattern: Regex<Substring>) -> [Int] {
        code.indices.filter { isWritten[$0] && code[$0].contains(pattern) }
    }
}

extension String {
    /// Whether the text is somewhere in it, byte by byte. Builds for tests are not optimised, and
    /// a pattern costs hundreds of times what this does: it is asked for likely lines alone.
    /// Both end with a zero byte: a literal does, and a line has a copy that does.
    func holds(_ text: StaticString) -> Bool {
        withCString { line in
            text.withUTF8Buffer { word in
                word.withMemoryRebound(to: CChar.self) { strstr(line, $0.baseAddress!) != nil }
            }
        }
    }
}

extension StringProtocol {
    var trimmed: String { trimmingCharacters(in: .whitespaces) }
}

/// Blanks comments and string contents, keeping every line break and column.
///
/// It knows `//`, nested `/* */`, `"..."`, `"""..."""` and their raw forms with `#`. An
/// interpolation counts as part of its string.
enum SourceMask {
    static func mask(_ text: String) -> String {
        var scanner = Scanner(bytes: Array(text.utf8))
        return scanner.run()
    }

    private struct Scanner {
        let bytes: [UInt8]
        var position = 0
        var output: [UInt8] = []

        init(bytes: [UInt8]) {
            self.bytes = bytes
            output.reserveCapacity(bytes.count)
        }

        mutating func run() -> String {
            while position < bytes.count {
                if starts("//") {
                    while position < bytes.count, bytes[position] != UInt8(ascii: "\n") { blank() }
                } else if starts("/*") {
                    blockComment()
                } else if let hashes = stringStart() {
                    string(hashes: hashes)
                } else {
                    output.append(bytes[position])
                    position += 1
                }
            }
            return String(decoding: output, as: UTF8.self)
        }

        func starts(_ prefix: String) -> Bool {
            bytes[position...].starts(with: prefix.utf8)
        }

        mutating func blank(_ count: Int = 1) {
            for _ in 0..<count where position < bytes.count {
                let byte = bytes[position]
                output.append(byte == UInt8(ascii: "\n") ? byte : UInt8(ascii: " "))
                position += 1
            }
        }

        mutating func blockComment() {
            var depth = 0
            repeat {
                if starts("/*") {
                    depth += 1
                    blank(2)
                } else if starts("*/") {
                    depth -= 1
                    blank(2)
                } else {
                    blank()
                }
            } while depth > 0 && position < bytes.count
        }

        /// How many `#` come before the quote here, or nil if no string starts here.
        func stringStart() -> Int? {
            var end = position
            while end < bytes.count, bytes[end] == UInt8(ascii: "#") { end += 1 }
            return end < bytes.count && bytes[end] == UInt8(ascii: "\"") ? end - position : nil
        }

        mutating func string(hashes: Int) {
            let raw = String(repeating: "#", count: hashes)
            blank(hashes)
            let quotes = starts("\"\"\"") ? "\"\"\"" : "\""
            blank(quotes.utf8.count)
            while position < bytes.count {
                if starts(quotes + raw) {
                    blank(quotes.utf8.count + hashes)
                    return
                }
                if quotes == "\"", bytes[position] == UInt8(ascii: "\n") { return }
                if starts("\\" + raw) { blank(1 + hashes) }
                blank()
            }
        }
    }
}
