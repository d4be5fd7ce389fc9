// Grammar of a configuration (YAML):
//
//   mode: one-core | threads | cores
//   repeats, packets, source-packets, verify-packets, flows: NUMBER
//   cpus, rq-cpus: LIST            node: NUMBER
//   oversubscribe: true | false    idle: busy | pause | park
//   park-after, wake-latency, indirection-size: NUMBER
//   preempt: true | false
//   latency: { loads: [PERCENT, ...], arrivals: fixed | poisson, pass-time: MILLISECONDS,
//              tolerance: PERCENT }
//   defaults: { AXIS: VALUE | [VALUE, ...], ... }
//   cases: [ { name: TEXT, AXIS: VALUE | [VALUE, ...], ... }, ... ]
//
// Captures are named relative to the folder of the file that names them.

import CleaveBench
import CleaveProgramSupport
import CleaveTraffic
import Yams

/// Reads a configuration, with the place of every mistake.
struct ConfigurationReader {
    private let file: YAMLFile
    /// Values of `packet` that name a capture make no cases.
    private let leavesOutCaptures: Bool

    /// Reads the file at `path`.
    static func read(path: String) throws(Failure) -> BenchConfiguration {
        try read(YAMLFile(path: path))
    }

    /// Reads the bytes of a configuration.
    static func parse(
        _ bytes: [UInt8], file: String, directory: String, leavesOutCaptures: Bool = false
    ) throws(Failure) -> BenchConfiguration {
        try read(
            YAMLFile(bytes, name: file, directory: directory),
            leavesOutCaptures: leavesOutCaptures)
    }

    private static func read(
        _ file: YAMLFile, leavesOutCaptures: Bool = false
    ) throws(Failure) -> BenchConfiguration {
        guard let root = file.root else {
            throw .usage("\(file.name):1: the configuration is empty; it needs cases")
        }
        let reader = ConfigurationReader(file: file, leavesOutCaptures: leavesOutCaptures)
        return try reader.configuration(root)
    }

    private func configuration(_ root: Node) throws(Failure) -> BenchConfiguration {
        var configuration = BenchConfiguration()
        var defaults = CaseProduct()
        var cases: Node?
        for (key, node, place) in try file.pairs(root, what: "the configuration") {
            if let setting = Setting(rawValue: key) {
                let value = try file.scalar(node, place: place, key: key)
                do { try setting.set(value, in: &configuration.plan) } catch {
                    throw .usage("\(place): \(key): \(error.problem)")
                }
            } else if key == "latency" {
                try readLatency(node, into: &configuration.plan.latency)
            } else if key == "defaults" {
                for (key, node, place) in try file.pairs(node, what: "defaults") {
                    try read(key, node, place, into: &defaults, alsoKnown: [])
                }
            } else if key == "cases" {
                cases = node
            } else {
                let known = Setting.allCases.map(\.rawValue) + ["latency", "defaults", "cases"]
                throw file.unknown(key, place: place, known: known)
            }
        }
        guard let cases else { throw .usage("\(file.name): no key \"cases\"; nothing to run") }
        configuration.products = try products(cases, defaults: defaults)
        return configuration
    }

    private func readLatency(
        _ node: Node, into settings: inout LatencySettings
    ) throws(Failure) {
        for (key, node, place) in try file.pairs(node, what: "latency") {
            guard let setting = LatencySetting(rawValue: key) else {
                throw file.unknown(
                    key, place: place, known: LatencySetting.allCases.map(\.rawValue))
            }
            var values: [SettingValue] = []
            for node in node.sequence.map({ Array($0) }) ?? [node] {
                values.append(try file.scalar(node, place: place, key: key))
            }
            do { try setting.set(values, in: &settings) } catch {
                throw .usage("\(place): \(key): \(error.problem)")
            }
        }
    }

    private func products(
        _ node: Node, defaults: CaseProduct
    ) throws(Failure) -> [(name: String, product: CaseProduct)] {
        guard let list = node.sequence else {
            throw .usage("\(file.place(of: node)): cases: expected a list")
        }
        guard !list.isEmpty else {
            throw .usage("\(file.place(of: node)): cases: the list is empty")
        }
        var products: [(name: String, product: CaseProduct)] = []
        for element in list {
            var product = defaults
            var name = ""
            for (key, node, place) in try file.pairs(element, what: "a case") {
                if key == "name" {
                    name = try file.scalar(node, place: place, key: key).text
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
        let isPrivate = key == Axis.privateHeaderQueues
        guard let axis = isPrivate ? .sharing : Axis(rawValue: key) else {
            throw file.unknown(key, place: place, known: alsoKnown + Axis.allCases.map(\.rawValue))
        }
        let nodes = node.sequence.map { Array($0) } ?? [node]
        guard !nodes.isEmpty else { throw .usage("\(place): \(key): the list is empty") }
        var entries: [CaseProduct.Entry] = []
        for node in nodes {
            let place = file.place(of: node)
            var value = try file.scalar(node, place: place, key: key)
            if axis == .packet, leavesOutCaptures, (try? TrafficProfile.parse(value.text)) == nil {
                continue
            }
            do {
                if isPrivate { value = try Axis.sharing(ofPrivate: value) }
                if axis == .packet {
                    value = SettingValue(
                        text: try PacketSpec.resolve(value.text, directory: file.directory))
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
}
