// Grammar of a configuration (YAML):
//
//   mode: turns | threads | cores  repeats, packets, source-packets, verify-packets, flows: NUMBER
//   cpus, rq-cpus: LIST            node: NUMBER
//   oversubscribe: true | false    idle: busy | pause | park
//   park-after, wake-latency, indirection-size: NUMBER
//   defaults: { AXIS: VALUE | [VALUE, ...], ... }
//   cases: [ { name: TEXT, AXIS: VALUE | [VALUE, ...], ... }, ... ]
//
// Captures are named relative to the folder of the file that names them.

import CleaveBench
import Foundation
import Yams

/// Reads a configuration, with the place of every mistake.
struct ConfigurationReader {
    /// Bytes of the largest file that is accepted as a configuration.
    static let maximumByteCount = 1 << 20

    /// The file as errors name it.
    private let file: String
    /// Where paths in the file start; empty for the current directory.
    private let directory: String

    /// Reads the file at `path`.
    static func read(path: String) throws(Failure) -> BenchConfiguration {
        var status = stat()
        guard stat(path, &status) == 0 else {
            throw .usage("\(path): cannot open: \(systemWords(errno))")
        }
        guard status.st_mode & S_IFMT == S_IFREG else {
            throw .usage("\(path): not a regular file")
        }
        guard status.st_size <= maximumByteCount else {
            throw .usage(
                "\(path): more than \(maximumByteCount) bytes, too large for a configuration")
        }
        guard let bytes = FileManager.default.contents(atPath: path) else {
            throw .usage("\(path): cannot read")
        }
        let slash = path.lastIndex(of: "/")
        let directory = slash.map { $0 == path.startIndex ? "/" : String(path[..<$0]) } ?? ""
        return try parse([UInt8](bytes), file: path, directory: directory)
    }

    /// Reads the bytes of a configuration.
    static func parse(
        _ bytes: [UInt8], file: String, directory: String
    ) throws(Failure) -> BenchConfiguration {
        if bytes.starts(with: [0xef, 0xbb, 0xbf]) {
            throw .usage("\(file):1: starts with a byte order mark; save it without one")
        }
        guard let text = String(validating: bytes, as: UTF8.self) else {
            throw .usage("\(file):\(invalidLine(bytes)): not UTF-8 text")
        }
        let reader = ConfigurationReader(file: file, directory: directory)
        guard let root = try reader.compose(text) else {
            throw .usage("\(file):1: the configuration is empty; it needs cases")
        }
        return try reader.configuration(root)
    }

    private static func invalidLine(_ bytes: [UInt8]) -> Int {
        // The longest valid beginning ends on the line at fault.
        let lines = bytes.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
        let index = lines.firstIndex { String(validating: $0, as: UTF8.self) == nil }
        return (index ?? 0) + 1
    }

    // MARK: Text to nodes

    private func compose(_ text: String) throws(Failure) -> Node? {
        do {
            return try Parser(yaml: text, encoding: .utf8).singleRoot()
        } catch let error as YamlError {
            throw failure(error, text: text)
        } catch {
            throw .usage("\(file): \(error)")
        }
    }

    private func failure(_ error: YamlError, text: String) -> Failure {
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

    // MARK: Nodes to configuration

    private func configuration(_ root: Node) throws(Failure) -> BenchConfiguration {
        var configuration = BenchConfiguration()
        var defaults = CaseProduct()
        var cases: Node?
        for (key, node, place) in try pairs(root, what: "the configuration") {
            if let setting = Setting(rawValue: key) {
                let value = try scalar(node, place: place, key: key)
                do { try setting.set(value, in: &configuration.plan) } catch {
                    throw .usage("\(place): \(key): \(error.problem)")
                }
            } else if key == "defaults" {
                for (key, node, place) in try pairs(node, what: "defaults") {
                    try read(key, node, place, into: &defaults, alsoKnown: [])
                }
            } else if key == "cases" {
                cases = node
            } else {
                let known = Setting.allCases.map(\.rawValue) + ["defaults", "cases"]
                throw unknown(key, place: place, known: known)
            }
        }
        guard let cases else { throw .usage("\(file): no key \"cases\"; nothing to run") }
        configuration.products = try products(cases, defaults: defaults)
        return configuration
    }

    private func products(
        _ node: Node, defaults: CaseProduct
    ) throws(Failure) -> [(name: String, product: CaseProduct)] {
        guard let list = node.sequence else {
            throw .usage("\(place(of: node)): cases: expected a list")
        }
        guard !list.isEmpty else { throw .usage("\(place(of: node)): cases: the list is empty") }
        var products: [(name: String, product: CaseProduct)] = []
        for element in list {
            var product = defaults
            var name = ""
            for (key, node, place) in try pairs(element, what: "a case") {
                if key == "name" {
                    name = try scalar(node, place: place, key: key).text
                    if let problem = Self.problem(withName: name) {
                        throw .usage("\(place): name: \(problem)")
                    }
                } else {
                    try read(key, node, place, into: &product, alsoKnown: ["name"])
                }
            }
            products.append((name, product))
        }
        return products
    }

    /// Names go into one line of a table.
    private static func problem(withName name: String) -> String? {
        if name.isEmpty { return "is empty" }
        if name.count > 60 { return "is longer than 60 characters" }
        if name.unicodeScalars.contains(where: { $0.properties.generalCategory == .control }) {
            return "contains a control character"
        }
        return nil
    }

    private func read(
        _ key: String, _ node: Node, _ place: String, into product: inout CaseProduct,
        alsoKnown: [String]
    ) throws(Failure) {
        guard let axis = Axis(rawValue: key) else {
            throw unknown(key, place: place, known: alsoKnown + Axis.allCases.map(\.rawValue))
        }
        let nodes = node.sequence.map { Array($0) } ?? [node]
        guard !nodes.isEmpty else { throw .usage("\(place): \(key): the list is empty") }
        var entries: [CaseProduct.Entry] = []
        for node in nodes {
            let place = self.place(of: node)
            var value = try scalar(node, place: place, key: key)
            do {
                if axis == .packet {
                    value = SettingValue(
                        text: try PacketSpec.resolve(value.text, directory: directory))
                }
                // Values are tried here, so that a mistake is found even if nothing uses it.
                var trial = BenchCase()
                try axis.set(value, in: &trial)
            } catch {
                throw .usage("\(place): \(key): \(error.problem)")
            }
            entries.append(.init(value: value, place: place))
        }
        product.entries[axis] = entries
    }

    /// The pairs of a mapping whose keys are text, each with the place of its value.
    private func pairs(
        _ node: Node, what: String
    ) throws(Failure) -> [(key: String, node: Node, place: String)] {
        guard let mapping = node.mapping else {
            throw .usage("\(place(of: node)): \(what): expected keys with values")
        }
        var pairs: [(key: String, node: Node, place: String)] = []
        for (key, value) in mapping {
            guard let name = key.scalar?.string else {
                throw .usage("\(place(of: key)): \(what): a key must be a word")
            }
            pairs.append((name, value, place(of: key)))
        }
        return pairs
    }

    private func scalar(
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

    private func unknown(_ key: String, place: String, known: [String]) -> Failure {
        .usage(
            "\(place): unknown key \"\(key)\"\(Nearest.hint(key, among: known)) "
                + "(known here: \(known.joined(separator: ", ")))")
    }

    private func place(of node: Node) -> String {
        guard let mark = node.mark else { return file }
        return "\(file):\(mark.line):\(mark.column)"
    }
}
