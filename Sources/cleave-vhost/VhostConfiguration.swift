// Everything the program runs with, from its command line and from a configuration (YAML):
//
//   ports: [ { type: vhost-user, path: FILE, name: TEXT, ... }, ... ]
//   wires: [ [NAME, NAME], ... ]     cpus: LIST      idle: busy | pause | park
//   hold, age, addresses: NUMBER
//
// Paths are relative to the folder of the file that names them.

import CleaveHost
import CleavePorts
import CleaveProgramSupport
import CleaveSwitch

/// A setting of the whole switch. The raw value is both the flag and the key.
enum SwitchSetting: String, CaseIterable {
    case cpus, idle, hold, age, addresses

    func set(
        _ value: SettingValue, in configuration: inout SwitchConfiguration
    ) throws(SettingError) {
        switch self {
        case .cpus:
            do { configuration.threads = try CPUSet.numbers(parsing: value.text) } catch {
                throw SettingError(problem: error.description)
            }
            guard !configuration.threads.isEmpty else {
                throw SettingError(problem: "no CPU; the switch has one thread for each")
            }
        case .idle: configuration.idle.kind = try value.choice()
        case .hold: configuration.holdMicroseconds = try value.count(kilo: 1000)
        case .age: configuration.ageSeconds = try value.count(kilo: 1000)
        case .addresses: configuration.addressLimit = try value.count(kilo: 1024)
        }
    }
}

/// What the program runs with.
struct VhostConfiguration {
    var ports: [PortSetting] = []
    var settings = SwitchConfiguration()
    /// Where relative paths in `ports` start.
    var directory = ""

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
                    known: SwitchSetting.allCases.map(\.rawValue) + ["ports", "wires"])
            }
        }
        guard !configuration.ports.isEmpty else {
            throw .usage("\(file.name): no key \"ports\"; nothing to join")
        }
        return configuration
    }

    /// Makes the ports; nothing is opened.
    func makePorts() throws(Failure) -> [any Port] {
        var made: [any Port] = []
        var owners: [PortSetting.Claim: String] = [:]
        for (number, setting) in ports.enumerated() {
            let port = try setting.port(number: number, directory: directory)
            for claim in setting.claims(directory) {
                if let owner = owners.updateValue(port.name, forKey: claim) {
                    throw .usage(
                        "\(setting.place): \(claim.key): \(claim.value) is port \(owner)'s already")
                }
            }
            made.append(port)
        }
        return made
    }
}
