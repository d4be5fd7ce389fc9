// Everything the program runs with, from its command line and from a configuration (YAML):
//
//   ports: [ { type: vhost-user, path: FILE, name: TEXT, ... }, ... ]
//   wires: [ [NAME, NAME], ... ]     cpus: LIST      idle: busy | pause | park
//   hold, age, addresses: NUMBER      control: FILE | auto
//   metrics: ADDRESS      metrics-textfile: FILE      metrics-interval: SECONDS
//
// Paths are relative to the folder of the file that names them.

import CleaveControl
import CleaveHost
import CleavePorts
import CleaveProgramSupport
import CleaveSwitch

/// What the program runs with.
struct VhostConfiguration {
    var ports: [PortSetting] = []
    var settings = SwitchConfiguration()
    /// The control socket as it was written; nil for none.
    var control: String?
    /// Written on the command line: a path starts in the current directory.
    var isControlOfCommandLine = false
    var metrics = MetricsSettings()
    /// Where relative paths start.
    var directory = ""

    /// Keys beside those of the switch and of ports.
    static let ownKeys = [controlKey] + MetricsSetting.allCases.map(\.key)

    private static let controlKey = SettingKey(
        name: "control", kind: .text("FILE"),
        help: "A socket of mode 0660 for `cleave-vhost ctl`, or auto for its usual place.",
        example: "/run/cleave-vhost.sock")

    /// The control socket's path, or the word for its usual place.
    var controlPath: String? {
        guard let control, control != ControlPlace.usualWord, !control.hasPrefix("/"),
            !directory.isEmpty, !isControlOfCommandLine
        else { return control }
        return directory + "/" + control
    }

    /// Reads the file at `path`.
    static func read(path: String) throws(Failure) -> VhostConfiguration {
        try read(YAMLFile(path: path))
    }

    static func read(_ file: YAMLFile) throws(Failure) -> VhostConfiguration {
        guard let root = file.root else {
            throw .usage("\(file.name):1: the configuration is empty; it needs ports")
        }
        var configuration = VhostConfiguration()
        configuration.directory = file.directory
        for (key, node, place) in try file.pairs(root, what: "the configuration") {
            if let setting = SwitchSetting(rawValue: key) {
                let value = try file.scalar(node, place: place, key: key)
                do { try setting.set(value, in: &configuration.settings) } catch {
                    throw .usage("\(place): \(key): \(error.problem)")
                }
            } else if let setting = MetricsSetting(rawValue: key) {
                let value = try file.scalar(node, place: place, key: key)
                do {
                    try setting.set(value, in: &configuration.metrics, directory: file.directory)
                } catch { throw .usage("\(place): \(key): \(error.problem)") }
            } else if key == controlKey.name {
                let value = try file.scalar(node, place: place, key: key)
                guard !value.text.isEmpty else {
                    throw .usage("\(place): control: expected the path of a socket, or auto")
                }
                configuration.control = value.text
            } else if key == "ports" {
                guard let list = node.sequence, !list.isEmpty else {
                    throw .usage("\(place): ports: expected a list of ports")
                }
                for element in list {
                    var port = PortSetting(place: file.place(of: element))
                    for (key, node, place) in try file.pairs(element, what: "a port") {
                        try port.set(
                            key, try file.scalar(node, place: place, key: key), at: place)
                    }
                    configuration.ports.append(port)
                }
            } else if key == "wires" {
                guard let list = node.sequence else {
                    throw .usage("\(place): wires: expected a list of pairs")
                }
                for element in list {
                    let ends = element.sequence?.compactMap { $0.scalar?.string } ?? []
                    guard ends.count == 2 else {
                        throw .usage(
                            "\(file.place(of: element)): wires: expected two names of ports")
                    }
                    configuration.settings.wires.append((ends[0], ends[1]))
                }
            } else {
                throw file.unknown(
                    key, place: place,
                    known: SwitchSetting.allCases.map(\.rawValue)
                        + MetricsSetting.allCases.map(\.rawValue)
                        + ["control", "ports", "wires"])
            }
        }
        guard !configuration.ports.isEmpty else {
            throw .usage("\(file.name): no key \"ports\"; nothing to join")
        }
        return configuration
    }

    /// What may come in at ports, by their names.
    func rateLimits() throws(Failure) -> [String: RateLimit] {
        var limits: [String: RateLimit] = [:]
        for (number, port) in ports.enumerated() {
            limits[try port.name(number)] = try port.rateLimit()
        }
        return limits
    }

    /// Files that are the program's own, and whose they are.
    private func ownClaims() throws(Failure) -> [String: String] {
        var owners: [String: String] = [:]
        var files: [(key: String, path: String)] = []
        if let path = controlPath.map({ ControlPlace.path($0) }) {
            // sun_path, without the zero at its end.
            guard path.utf8.count <= 107 else {
                throw .usage("control: \(path): a socket's path has at most 107 bytes")
            }
            files.append(("control", path))
        }
        if case .unix(let path)? = metrics.address { files.append(("metrics", path)) }
        if let path = metrics.textfile { files.append(("metrics-textfile", path)) }
        for file in files {
            let claim = PortSetting.Claim(key: file.key, file: file.path)
            if let owner = owners.updateValue(file.key, forKey: claim.thing) {
                throw .usage("\(file.key): \(file.path) is \(owner)'s already")
            }
        }
        return owners
    }

    /// Makes the ports; nothing is opened.
    func makePorts() throws(Failure) -> [any Port] {
        var made: [any Port] = []
        var owners = try ownClaims()
        for (number, setting) in ports.enumerated() {
            let port = try setting.port(number: number, directory: directory)
            for claim in setting.claims(directory) {
                if let owner = owners.updateValue("port \(port.name)", forKey: claim.thing) {
                    throw .usage(
                        "\(setting.place): \(claim.key): \(claim.value) is \(owner)'s already")
                }
            }
            made.append(port)
        }
        return made
    }
}
