import ArgumentParser
import CleavePorts
import CleaveProgramSupport

/// Checks a configuration without opening anything.
struct CheckConfigCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "check-config",
        abstract: "Checks a configuration and says what it means; opens nothing.",
        usage: "cleave-vhost check-config <file> | --schema")

    @Argument(help: "The YAML file.")
    var file: String?

    @Flag(
        help: ArgumentHelp(
            "Prints the JSON Schema of configurations instead, for editors.",
            discussion: "Example: cleave-vhost check-config --schema > cleave-vhost.schema.json"))
    var schema = false

    func run() throws {
        if schema { return try Stream.output.write(ConfigurationSchema.json) }
        guard let file else { throw Failure.usage("check-config: no file is given") }
        let configuration = try VhostConfiguration.read(path: file)
        let ports = try configuration.makePorts()
        _ = try configuration.rateLimits()
        do { try configuration.settings.validate(names: ports.map(\.name)) } catch {
            throw Failure.usage("\(file): \(error)")
        }
        for (port, setting) in zip(ports, configuration.ports) {
            let summary = (port as? GeneratorPort).map { ": " + $0.summary } ?? ""
            try Stream.output.write("\(port.name): \(try setting.type().rawValue)\(summary)\n")
        }
        let wires = configuration.settings.wires.map { "\($0.0) - \($0.1)" }
        try Stream.output.write(
            wires.isEmpty
                ? "joined by a learning switch\n"
                : "wired: \(wires.joined(separator: ", "))\n")
    }
}

/// What a peer's command line needs to connect to a port.
struct PrintQemuArgsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "print-qemu-args",
        abstract: "Prints the arguments with which QEMU's guest gets a port as its card.",
        usage: "cleave-vhost print-qemu-args <name> --port <key=value,...> [options]")

    @Argument(help: "Name of the port.")
    var name: String
    @OptionGroup var ports: PortOptions
    @Option(help: .example("Bytes of guest memory.", "--memory 1G", "size"))
    var memory = "512M"

    func run() throws {
        let port = try PeerArguments.port(name, ports)
        do {
            // QEMU takes no guest without memory, nor one of a few bytes.
            guard try SettingValue(text: memory).count(kilo: 1024) >= 1 << 20 else {
                throw SettingError(problem: "\(memory) is less than 1M")
            }
        } catch let error as SettingError { throw Failure.usage("--memory: \(error.problem)") }
        try Stream.output.write(PeerArguments.qemu(port, memory: memory) + "\n")
    }
}

/// The same for DPDK's testpmd.
struct PrintTestpmdArgsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "print-testpmd-args",
        abstract: "Prints the arguments with which DPDK's testpmd drives a port.",
        usage: "cleave-vhost print-testpmd-args <name> --port <key=value,...> [options]")

    @Argument(help: "Name of the port.")
    var name: String
    @OptionGroup var ports: PortOptions

    func run() throws {
        let port = try PeerArguments.port(name, ports)
        try Stream.output.write(PeerArguments.testpmd(port) + "\n")
    }
}

/// Command lines of peers.
enum PeerArguments {
    /// The vhost-user port of that name.
    static func port(
        _ name: String, _ options: PortOptions
    ) throws(Failure) -> VhostUserPortConfiguration {
        let configuration = try options.configuration()
        let ports = try configuration.makePorts()
        guard let port = ports.first(where: { $0.name == name }) else {
            throw .usage(
                "there is no port \"\(name)\" among "
                    + (ports.isEmpty
                        ? "none: give --port or --config"
                        : ports.map(\.name).joined(separator: ", ")))
        }
        guard let vhost = port as? VhostUserPort else {
            throw .usage("port \"\(name)\" is no vhost-user port")
        }
        return vhost.settings
    }

    static func qemu(_ port: VhostUserPortConfiguration, memory: String) -> String {
        let isServer = port.mode == .client
        let memoryArguments = [
            "-object memory-backend-memfd,id=mem0,size=\(memory),share=on",
            "-machine memory-backend=mem0 -m \(memory)",
            "-chardev socket,id=char0,path=\(port.path)"
                + (isServer ? ",server=on,wait=off" : ",reconnect=1"),
        ]
        if port.headerQueue {
            // `virtio-net-pci` passes on only features that it knows; this one, of QEMU 10.2, all.
            let rings = 2 * port.queuePairs + 2
            return
                (memoryArguments + [
                    "-device vhost-user-test-device-pci,chardev=char0,virtio-id=1"
                        + ",num_vqs=\(rings),vq_size=256,config_size=12"
                ]).joined(separator: " \\\n")
        }
        var device = "virtio-net-pci,netdev=net0"
        if let mac = port.mac { device += ",mac=" + text(mac) }
        if port.queuePairs > 1 { device += ",mq=on,vectors=\(2 * port.queuePairs + 2)" }
        if let mtu = port.mtu { device += ",host_mtu=\(mtu)" }
        return
            (memoryArguments + [
                "-netdev vhost-user,id=net0,chardev=char0"
                    + (port.queuePairs > 1 ? ",queues=\(port.queuePairs)" : ""),
                "-device \(device)",
            ]).joined(separator: " \\\n")
    }

    static func testpmd(_ port: VhostUserPortConfiguration) -> String {
        var device = "net_virtio_user0,path=\(port.path),queues=\(port.queuePairs)"
        if port.queuePairs > 1 { device += ",cq=1" }
        if port.mode == .client { device += ",server=1" }
        if let mac = port.mac { device += ",mac=" + text(mac) }
        return [
            "--no-pci --no-huge -m 384 --file-prefix=\(port.name)", "--vdev \(device)",
            "-- --rxq=\(port.queuePairs) --txq=\(port.queuePairs) --total-num-mbufs=8192",
        ].joined(separator: " \\\n")
    }

    private static func text(_ mac: [UInt8]) -> String {
        mac.map { byte in
            let digits = String(byte, radix: 16)
            return digits.count == 1 ? "0" + digits : digits
        }.joined(separator: ":")
    }
}
