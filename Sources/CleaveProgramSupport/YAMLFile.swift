// A YAML file of settings, with the place of every mistake.

import Foundation
import Yams

/// A YAML file as it is read: nodes, and places in the file for errors.
package struct YAMLFile {
    /// Bytes of the largest file that is accepted as a configuration.
    package static let maximumByteCount = 1 << 20

    /// The file as errors name it.
    package let name: String
    /// Where paths in the file start; empty for the current directory.
    package let directory: String
    /// nil if there is nothing in it.
    package let root: Node?

    /// Reads the file at `path`.
    package init(path: String) throws(Failure) {
        let bytes = try InputFile.bytes(
            path, as: "configuration", limit: Self.maximumByteCount)
        let slash = path.lastIndex(of: "/")
        let directory = slash.map { $0 == path.startIndex ? "/" : String(path[..<$0]) } ?? ""
        try self.init(bytes, name: path, directory: directory)
    }

    /// Reads the bytes of a file.
    package init(_ bytes: [UInt8], name: String, directory: String) throws(Failure) {
        if bytes.starts(with: [0xef, 0xbb, 0xbf]) {
            throw .usage("\(name):1: starts with a byte order mark; save it without one")
        }
        guard let text = String(validating: bytes, as: UTF8.self) else {
            throw .usage("\(name):\(Self.invalidLine(bytes)): not UTF-8 text")
        }
        self.name = name
        self.directory = directory
        root = try Self.compose(text, name)
    }

    private static func invalidLine(_ bytes: [UInt8]) -> Int {
        // The longest valid beginning ends on the line at fault.
        let lines = bytes.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
        let index = lines.firstIndex { String(validating: $0, as: UTF8.self) == nil }
        return (index ?? 0) + 1
    }

    private static func compose(_ text: String, _ file: String) throws(Failure) -> Node? {
        do {
            return try Parser(yaml: text, encoding: .utf8).singleRoot()
        } catch let error as YamlError {
            throw failure(error, text, file)
        } catch {
            throw .usage("\(file): \(error)")
        }
    }

    private static func failure(
        _ error: YamlError, _ text: String, _ file: String
    ) -> Failure {
        switch error {
        case .scanner(let context, let problem, let mark, _),
            .parser(let context, let problem, let mark, _),
            .composer(let context, let problem, let mark, _):
            let detail = context.map { " \($0.text)" } ?? ""
            return .usage("\(file):\(mark.line):\(mark.column): YAML: \(problem)\(detail)")
        case .duplicatedKeysInMapping(let keys, let context):
            let names = keys.map { "\"\($0)\"" }.joined(separator: ", ")
            return .usage(
                "\(file):\(context.mark.line):\(context.mark.column): "
                    + "the same key again in one mapping: \(names) (the first is here)")
        case .reader(let problem, let offset, _, _):
            let line = text.prefix(offset ?? 0).count { $0.isNewline } + 1
            return .usage("\(file):\(line): YAML: \(problem)")
        default:
            return .usage("\(file): not readable as YAML")
        }
    }

    // MARK: Nodes

    /// The pairs of a mapping whose keys are text, each with the place of its value.
    package func pairs(
        _ node: Node, what: String
    ) throws(Failure) -> [(key: String, node: Node, place: String)] {
        guard let mapping = node.mapping else {
            throw .usage("\(place(of: node)): \(what): expected keys with values")
        }
        var pairs: [(key: String, node: Node, place: String)] = []
        for (key, value) in mapping {
            guard let word = key.scalar?.string else {
                throw .usage("\(place(of: key)): \(what): a key must be a word")
            }
            pairs.append((word, value, place(of: key)))
        }
        return pairs
    }

    /// One value, not a list and not nothing.
    package func scalar(
        _ node: Node, place: String, key: String
    ) throws(Failure) -> SettingValue {
        guard let scalar = node.scalar else {
            throw .usage("\(place): \(key): expected a single value")
        }
        let isQuoted = scalar.style == .singleQuoted || scalar.style == .doubleQuoted
        if !isQuoted && ["", "~", "null"].contains(scalar.string.lowercased()) {
            throw .usage("\(place): \(key): has no value")
        }
        return SettingValue(text: scalar.string, isQuoted: isQuoted)
    }

    /// What to say of a key that is not one of `known`.
    package func unknown(_ key: String, place: String, known: [String]) -> Failure {
        .usage(
            "\(place): unknown key \"\(key)\"\(Nearest.hint(key, among: known)) "
                + "(known here: \(known.joined(separator: ", ")))")
    }

    /// `FILE:LINE:COLUMN`.
    package func place(of node: Node) -> String {
        guard let mark = node.mark else { return name }
        return "\(name):\(mark.line):\(mark.column)"
    }
}
