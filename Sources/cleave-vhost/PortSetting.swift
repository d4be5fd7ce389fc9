// One port as a user writes it: the same keys on a command line and in a configuration.

import CleaveHost
import CleavePorts
import CleaveProgramSupport
import Glibc
import CleaveSwitch
import CleaveVirtioNet

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
    /// - Parameter place: where it was written; an option of the command line by default.
    init(parsing text: String, place: String? = nil) throws(Failure) {
        let place = place ?? "--port \(text)"
        self.place = place
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
        let keys = [PortKeys.type] + kind.keys
        for (name, entry) in entries.sorted(by: { $0.key < $1.key }) {
            guard let key = keys.first(where: { $0.name == name }) else {
                let known = keys.map(\.name)
                throw .usage(
                    "\(entry.place): unknown key \"\(name)\"\(Nearest.hint(name, among: known)) "
                        + "(of a \(kind.rawValue) port: \(known.joined(separator: ", ")))")
            }
            try read(name, entry) { (value) throws(SettingError) in try key.check(value) }
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
        guard !name.hasPrefix("-") else {
            throw .usage(
                "\(entry.place): name: \"\(name)\" begins with a dash, so that commands would take "
                    + "it for an option")
        }
        guard name != StatisticsText.removedName else {
            throw .usage("\(entry.place): name: \(name) stands for ports that are no more")
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

    private func bytes(_ key: String) throws(SetupError) -> Int? {
        try value(key) { (value) throws(SettingError) in try value.count(kilo: 1024) }
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

    /// What may come in at the port; nil if that is not limited.
    func rateLimit() throws(Failure) -> RateLimit? {
        do throws(SetupError) {
            let limit = RateLimit(
                bitsPerSecond: try count("rate-limit"),
                packetsPerSecond: try count("packet-limit"))
            return limit == RateLimit() ? nil : limit
        } catch { throw Failure.usage("\(place): \(error)") }
    }

    /// Whether it makes the same port as another one, wherever they are written.
    func isSame(as other: PortSetting, _ directory: String, _ otherDirectory: String) -> Bool {
        guard entries.mapValues(\.value.text) == other.entries.mapValues(\.value.text) else {
            return false
        }
        return ["path", "in", "out"].allSatisfy {
            path($0, directory) == other.path($0, otherDirectory)
        }
    }

    /// Something of the system's that one alone can use.
    struct Claim {
        let key: String
        let value: String
        /// The same for two claims of one thing, however it is written.
        let thing: String

        /// A file: two paths with other words may lead to it.
        init(key: String, file: String) {
            (self.key, value) = (key, file)
            let parts = file.split(separator: "/", omittingEmptySubsequences: false)
            let folder = file.contains("/") ? parts.dropLast().joined(separator: "/") + "/" : "."
            let found = PathText.withBytes(folder) { realpath($0, nil) }
            defer { free(found) }
            let place = found.map { String(cString: $0) } ?? folder
            thing = "file \(place)/\(parts.last ?? "")"
        }

        init(key: String, interface: String, of type: String) {
            (self.key, value, thing) = (key, interface, "\(type) \(interface)")
        }
    }

    /// What no other port may name.
    func claims(_ directory: String) -> [Claim] {
        let files = ["path", "out"].compactMap { key in
            path(key, directory).map { Claim(key: key, file: $0) }
        }
        let interface = entries["interface"].map {
            Claim(
                key: "interface", interface: $0.value.text, of: entries["type"]?.value.text ?? "")
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
        try split(&port)
        port.mac = try value("mac") { (value) throws(SettingError) in
            try SettingSyntax.mac(value.text)
        }
        port.featuresOff =
            try value("features-off") { (value) throws(SettingError) in
                try SettingSyntax.features(value.text)
            } ?? 0
        return port
    }

    private func split(_ port: inout VhostUserPortConfiguration) throws(SetupError) {
        let method: RxMethod.Kind? = try value("split-method") { (value) throws(SettingError) in
            try value.choice()
        }
        let hasHeaderQueue = try value("header-queue") { (value) throws(SettingError) in
            try SettingSyntax.isOn(value.text)
        }
        if let method, let hasHeaderQueue, hasHeaderQueue != (method == .d) {
            throw SetupError(
                "header-queue \(hasHeaderQueue ? "on" : "off") and split-method "
                    + "\(method.rawValue): a header queue is split method d")
        }
        port.splitMethod = method ?? (hasHeaderQueue ?? false ? .d : .whole)
        port.splitThreshold = try bytes("split-threshold") ?? 0
        if let limit = try bytes("slot-count") { port.slotCountLimit = limit }
        if let limit = try bytes("slot-size") { port.slotSizeLimit = limit }
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
            try SettingSyntax.mac(value.text)
        }
        port.destination = try value("to") { (value) throws(SettingError) in
            try SettingSyntax.mac(value.text)
        }
        port.node = try count("node")
        return port
    }
}
