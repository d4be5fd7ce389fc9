// One port as a user writes it: the same keys on a command line and in a configuration.

import CleaveHost
import CleavePorts
import CleaveProgramSupport
import CleaveVirtioNet

/// What a port's far side is.
enum PortType: String, CaseIterable {
    case vhostUser = "vhost-user"
    case tap
    case afPacket = "af-packet"
    case pcap
    case generator

    /// Keys beside `type` and `name`.
    var keys: [String] {
        switch self {
        case .vhostUser:
            [
                "path", "mode", "queues", "mtu", "mac", "features-off", "node", "header-queue",
            ]
        case .tap: ["interface", "queues"]
        case .afPacket: ["interface", "queues"]
        case .pcap: ["in", "out", "rate", "loop"]
        case .generator: ["traffic", "rate", "flows", "count", "queues", "from", "to", "node"]
        }
    }
}

/// Keys and values of one port, and where they were written.
struct PortSetting {
    /// A value, and its place for errors.
    struct Entry {
        var value: SettingValue
        var place: String
    }

    private(set) var entries: [String: Entry] = [:]
    /// Where the port was written.
    let place: String
    /// Written on the command line: paths start in the current directory.
    var isOfCommandLine = false

    init(place: String) { self.place = place }

    /// Reads `key=value,key=value`.
    init(parsing text: String) throws(Failure) {
        place = "--port \(text)"
        for part in text.split(separator: ",", omittingEmptySubsequences: false) {
            guard let equals = part.firstIndex(of: "="), equals != part.startIndex else {
                throw .usage("\(place): \"\(part)\" is not KEY=VALUE")
            }
            try set(
                String(part[..<equals]),
                SettingValue(text: String(part[part.index(after: equals)...])),
                at: place)
        }
    }

    mutating func set(
        _ key: String, _ value: SettingValue, at place: String
    ) throws(Failure) {
        guard entries.updateValue(Entry(value: value, place: place), forKey: key) == nil else {
            throw .usage("\(place): \(key) is given twice")
        }
    }

    // MARK: Making the port

    /// Checks the keys and makes the port.
    /// - Parameters:
    ///   - number: of the port among all, for those without a name.
    ///   - directory: where relative paths start; empty for the current directory.
    func port(number: Int, directory: String) throws(Failure) -> any Port {
        let kind = try type()
        let name = try name(number)
        do throws(SetupError) {
            switch kind {
            case .vhostUser:
                return try VhostUserPort(try vhostUser(name, directory))
            case .tap: return try TapPort(try tap(name))
            case .afPacket: return try AFPacketPort(try afPacket(name))
            case .pcap: return try PcapPort(try pcap(name, directory))
            case .generator: return try GeneratorPort(try generator(name))
            }
        } catch { throw Failure.usage("\(place): \(error)") }
    }

    func type() throws(Failure) -> PortType {
        guard let entry = entries["type"] else {
            throw .usage(
                "\(place): no type; it is one of "
                    + PortType.allCases.map(\.rawValue).joined(separator: ", "))
        }
        let kind: PortType = try read("type", entry) { (value) throws(SettingError) in
            try value.choice()
        }
        let known = ["type", "name"] + kind.keys
        for (key, entry) in entries.sorted(by: { $0.key < $1.key }) where !known.contains(key) {
            throw .usage(
                "\(entry.place): unknown key \"\(key)\"\(Nearest.hint(key, among: known)) "
                    + "(of a \(kind.rawValue) port: \(known.joined(separator: ", ")))")
        }
        return kind
    }

    /// The port's name: given, or `port0`.
    func name(_ number: Int) throws(Failure) -> String {
        guard let entry = entries["name"] else { return "port\(number)" }
        let name = entry.value.text
        guard !name.isEmpty, name.utf8.count <= 60,
            name.utf8.allSatisfy({ (0x21...0x7e).contains($0) && $0 != UInt8(ascii: ",") })
        else {
            throw .usage("\(entry.place): name: need 1 to 60 visible letters without commas")
        }
        return name
    }

    private func read<Value>(
        _ key: String, _ entry: Entry, _ body: (SettingValue) throws(SettingError) -> Value
    ) throws(Failure) -> Value {
        do throws(SettingError) { return try body(entry.value) } catch {
            throw .usage("\(entry.place): \(key): \(error.problem)")
        }
    }

    private func count(_ key: String) throws(SetupError) -> Int? {
        try value(key) { (value) throws(SettingError) in try value.count(kilo: 1000) }
    }

    /// The value of a key, if it is given.
    private func value<Value>(
        _ key: String, _ body: (SettingValue) throws(SettingError) -> Value
    ) throws(SetupError) -> Value? {
        guard let entry = entries[key] else { return nil }
        do throws(SettingError) { return try body(entry.value) } catch {
            throw SetupError("\(key): \(error.problem)")
        }
    }

    private func path(_ key: String, _ directory: String) -> String? {
        guard let text = entries[key]?.value.text else { return nil }
        return text.hasPrefix("/") || directory.isEmpty || isOfCommandLine
            ? text : "\(directory)/\(text)"
    }

    /// Something of the system's that one port alone can use.
    struct Claim: Hashable {
        let type: String
        let key: String
        let value: String
    }

    /// What no other port may name.
    func claims(_ directory: String) -> [Claim] {
        let type = entries["type"]?.value.text ?? ""
        let files = ["path", "out"].compactMap { key in
            path(key, directory).map { Claim(type: type, key: key, value: $0) }
        }
        let interface = entries["interface"].map {
            Claim(type: type, key: "interface", value: $0.value.text)
        }
        return files + [interface].compactMap { $0 }
    }

    // MARK: Kinds

    private func vhostUser(
        _ name: String, _ directory: String
    ) throws(SetupError) -> VhostUserPortConfiguration {
        guard let path = path("path", directory) else {
            throw SetupError("no path; where is the socket? (path=FILE)")
        }
        var port = VhostUserPortConfiguration(name: name, path: path)
        port.mode =
            try value("mode") { (value) throws(SettingError) in try value.choice() } ?? .server
        port.queuePairs = try count("queues") ?? 1
        port.mtu = try count("mtu")
        port.node = try count("node")
        port.headerQueue =
            try value("header-queue") { (value) throws(SettingError) in try Self.isOn(value.text) }
            ?? false
        port.mac = try value("mac") { (value) throws(SettingError) in try Self.mac(value.text) }
        port.featuresOff =
            try value("features-off") { (value) throws(SettingError) in
                try Self.features(value.text)
            } ?? 0
        return port
    }

    private func tap(_ name: String) throws(SetupError) -> TapPortConfiguration {
        guard let interface = entries["interface"]?.value.text else {
            throw SetupError("no interface (interface=NAME, made if it does not exist)")
        }
        var port = TapPortConfiguration(name: name, interface: interface)
        port.queues = try count("queues") ?? 1
        return port
    }

    private func afPacket(_ name: String) throws(SetupError) -> AFPacketPortConfiguration {
        guard let interface = entries["interface"]?.value.text else {
            throw SetupError("no interface (interface=NAME)")
        }
        var port = AFPacketPortConfiguration(name: name, interface: interface)
        port.queues = try count("queues") ?? 1
        return port
    }

    private func pcap(
        _ name: String, _ directory: String
    ) throws(SetupError) -> PcapPortConfiguration {
        var port = PcapPortConfiguration(name: name)
        port.input = path("in", directory)
        port.output = path("out", directory)
        guard port.input != nil || port.output != nil else {
            throw SetupError("no file (in=FILE to play, out=FILE to write)")
        }
        port.loops = try count("loop") ?? 1
        port.packetsPerSecond = try count("rate")
        return port
    }

    private func generator(_ name: String) throws(SetupError) -> GeneratorPortConfiguration {
        var port = GeneratorPortConfiguration(name: name)
        if let traffic = entries["traffic"]?.value.text { port.traffic = traffic }
        port.packetsPerSecond = try count("rate")
        port.flows = try count("flows") ?? 1
        port.count = try count("count")
        port.queues = try count("queues") ?? 1
        port.source = try value("from") { (value) throws(SettingError) in
            try Self.mac(value.text)
        }
        port.destination = try value("to") { (value) throws(SettingError) in
            try Self.mac(value.text)
        }
        port.node = try count("node")
        return port
    }

    static func isOn(_ text: String) throws(SettingError) -> Bool {
        // YAML reads on and off as words, or as truth values.
        switch text {
        case "on", "true", "yes": return true
        case "off", "false", "no": return false
        default: throw SettingError(problem: "\"\(text)\" is not one of on, off")
        }
    }

    static func mac(_ text: String) throws(SettingError) -> [UInt8] {
        let bytes = text.split(separator: ":", omittingEmptySubsequences: false).map {
            $0.count == 2 ? UInt8($0, radix: 16) : nil
        }
        guard bytes.count == 6, !bytes.contains(nil) else {
            throw SettingError(problem: "\"\(text)\" is not an address such as 52:54:00:12:34:56")
        }
        return bytes.compactMap { $0 }
    }

    /// Names of features that can be switched off, joined by `+`, or the bits in hexadecimal.
    static func features(_ text: String) throws(SettingError) -> UInt64 {
        if text.hasPrefix("0x"), let bits = UInt64(text.dropFirst(2), radix: 16) { return bits }
        var bits: UInt64 = 0
        for word in text.split(separator: "+", omittingEmptySubsequences: false) {
            guard let bit = FeatureNames.bits[String(word)] else {
                let known = FeatureNames.bits.keys.sorted()
                throw SettingError(
                    problem:
                        "unknown feature \"\(word)\"\(Nearest.hint(String(word), among: known)) "
                        + "(known: \(known.joined(separator: " ")); or bits such as 0x400000000)")
            }
            bits |= 1 << bit
        }
        return bits
    }
}

/// Features by the names that QEMU's properties have.
enum FeatureNames {
    static let bits: [String: UInt64] = [
        "csum": 0, "guest_csum": 1, "host_mtu": 3, "mac": 5, "guest_tso4": 7, "guest_tso6": 8,
        "guest_ecn": 9, "guest_ufo": 10, "host_tso4": 11, "host_tso6": 12, "host_ecn": 13,
        "host_ufo": 14, "mrg_rxbuf": 15, "status": 16, "mq": 22, "indirect_desc": 28,
        "event_idx": 29, "packed": 34, "in_order": 35, "queue_reset": 40, "guest_uso4": 54,
        "guest_uso6": 55, "host_uso": 56,
    ]
}
